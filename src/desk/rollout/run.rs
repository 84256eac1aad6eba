//! Carries a roll-out out: writes down, then does, then hears what became of it.

use super::log::Log;
use super::{Change, Rollout, Stage, Step, What};
use crate::desk::events::Record;
use crate::desk::order::{self, Order};
use crate::desk::roster::Roster;
use crate::desk::{Config, DeskError, Interest, Line, News, Said, audit};
use crate::fleet::envelope::SigningKey;
use crate::fleet::topic::{Place, Up};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use std::time::Duration;
use tokio::time::timeout;

/// What others write down is looked at this often.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A broker that has said nothing for this long has said which boxes are there.
const QUIET: Duration = Duration::from_secs(2);
/// What is told in one go, so that answers are read in between.
const TOLD_MAX: usize = 256;

/// Goes on with a roll-out until it is over or paused by a person; `shown` is called when something has changed.
///
/// # Errors
/// [`DeskError`]: it can be resumed, and nothing is done twice.
pub async fn carry_out(
    config: &Config,
    log: &mut Log,
    keys: &[SigningKey],
    mut shown: impl FnMut(&Rollout),
) -> Result<Stage, DeskError> {
    let line = Line::connect(config, Interest::Answers).await?;
    let record = Record::open(&config.folder)?;
    let mut run = Run { config, log, keys, line, record, roster: Roster::default() };
    while let Ok(said) = timeout(QUIET, run.line.hear()).await {
        run.heard(vec![said?])?;
    }
    run.tell_again().await?;
    loop {
        run.log.catch_up()?;
        let rollout = run.log.rollout();
        let is_away = |name: &str| run.roster.rows().get(name).is_none_or(|row| !row.online);
        let mut steps = rollout.steps(Timestamp::now(), is_away);
        if !steps.is_empty() {
            steps.truncate(TOLD_MAX);
            run.take(steps).await?;
            shown(run.log.rollout());
            continue;
        }
        match rollout.stage() {
            Stage::Running => {}
            // What was told is still waited for.
            Stage::Paused if rollout.told().next().is_some() => {}
            stage => return Ok(stage),
        }
        let Ok(news) = timeout(LOOK_EVERY, run.line.follow()).await else { continue };
        match news {
            News::Said(said) => {
                if run.heard(vec![said])? {
                    shown(run.log.rollout());
                }
            }
            News::Lost(why) => tracing::warn!("{why}"),
            News::Back => run.tell_again().await?,
        }
    }
}

struct Run<'r> {
    config: &'r Config,
    log: &'r mut Log,
    keys: &'r [SigningKey],
    line: Line,
    record: Record,
    roster: Roster,
}

impl Run<'_> {
    async fn take(&mut self, steps: Vec<Step>) -> Result<(), DeskError> {
        let (mut notes, mut orders) = (Vec::new(), Vec::new());
        for step in steps {
            match step {
                Step::Note(what) => notes.push(what),
                Step::Tell(gateway) => match self.order(&gateway) {
                    Ok(order) => {
                        let document = String::from_utf8_lossy(&order.bytes).into_owned();
                        notes.push(What::Told { gateway, id: order.id.clone(), document });
                        orders.push(order);
                    }
                    Err(why) => notes.push(What::Ended { gateway, failure: Some(why) }),
                },
            }
        }
        let asked: Vec<Value> = orders.iter().map(|order| order.asked.clone()).collect();
        if !asked.is_empty() {
            let file = self.config.folder.join(audit::FILE);
            audit::note_all(&self.config.folder, &asked)
                .map_err(|error| DeskError::File { file, why: error.to_string() })?;
        }
        self.log.note(notes)?;
        for order in orders {
            self.tell(order.topic(), order.bytes).await?;
        }
        Ok(())
    }

    fn order(&self, gateway: &str) -> Result<Order, String> {
        let plan = self.log.rollout().plan();
        let place = Place::new(&self.config.tenant, gateway).ok_or("it cannot be a box's name")?;
        // A box that comes back later must not do what counts as failed.
        let valid = SignedDuration::from_secs(plan.silent_s.into());
        match &plan.change {
            Change::Command { operation } => {
                Order::command(&place, operation.clone(), self.keys, Timestamp::now(), valid)
            }
        }
    }

    /// What stands in the log as told may not have been, or its answer was not heard.
    async fn tell_again(&mut self) -> Result<(), DeskError> {
        let told = self.log.rollout().told();
        let again: Vec<(String, Vec<u8>)> = told
            .filter_map(|(name, id, document)| {
                let place = Place::new(&self.config.tenant, name)?;
                Some((order::topic(&place, id), document.as_bytes().to_vec()))
            })
            .collect();
        for (topic, bytes) in again {
            self.tell(topic, bytes).await?;
        }
        Ok(())
    }

    async fn tell(&mut self, topic: String, bytes: Vec<u8>) -> Result<(), DeskError> {
        let mut heard = Vec::new();
        if let Err(why) = self.line.tell(topic, bytes, &mut heard).await {
            // It is told again when the broker is back.
            tracing::warn!("{why}");
        }
        self.heard(heard).map(drop)
    }

    /// True when a box has ended.
    fn heard(&mut self, all: Vec<Said>) -> Result<bool, DeskError> {
        let (events, states): (Vec<Said>, Vec<Said>) = all.into_iter().partition(|said| said.what == Up::Event);
        for said in &states {
            self.roster.heard(said);
        }
        if events.is_empty() {
            return Ok(false);
        }
        self.record.note(&events)?;
        let mut ended = Vec::new();
        for said in &events {
            let event: Value = serde_json::from_slice(&said.payload).unwrap_or_default();
            let gateway = said.place.gateway();
            let told = self.log.rollout().told().find(|(name, ..)| *name == gateway);
            if let Some(outcome) = told.and_then(|(_, id, _)| order::outcome(&event, id)) {
                ended.push(What::Ended { gateway: gateway.to_string(), failure: outcome.err() });
            }
        }
        let any = !ended.is_empty();
        self.log.note(ended)?;
        events.iter().for_each(|said| self.line.noted(said));
        Ok(any)
    }
}
