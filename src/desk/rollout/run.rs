//! Carries a roll-out out: writes down, then does, then hears what became of it.

use super::log::Log;
use super::{Before, Change, Now, Rollout, Stage, Standing, Step, What};
use crate::desk::events::Record;
use crate::desk::order::{self, Order};
use crate::desk::roster::Roster;
use crate::desk::{Config, DeskError, Interest, Kept, Line, News, Said, audit};
use crate::fleet::command::Operation;
use crate::fleet::envelope::SigningKey;
use crate::fleet::session::RECONNECT_MAX;
use crate::fleet::topic::{Down, Place, Up};
use crate::update::manifest::Manifest;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// What others write down is looked at this often.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// What the broker did not take is told again after this.
const REFUSED_PAUSE: Duration = Duration::from_secs(60);
/// A broker that was gone and is there again has heard of the boxes that come back after this.
const COME_BACK: Duration = RECONNECT_MAX.saturating_add(Duration::from_secs(30));
/// What is told in one go, so that answers are read in between.
const TOLD_MAX: usize = 256;
/// What a box answers to the offer of what it runs already.
const HAS_IT: &str = "failed: same";

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
    let line = Line::connect(config, Interest::Changes).await?;
    let record = Record::open(&config.folder)?;
    let (roster, accepted, moved) = (Roster::default(), HashSet::new(), HashSet::new());
    let (sent, taken_back, came, back, again) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new(), None, None);
    let mut run = Run { config, log, keys, line, record, roster, accepted, moved, taken_back, sent, came, back, again };
    run.listen().await?;
    // Broker and boxes may have ended together with the desk that began it.
    run.back = run.log.has_begun().then(Instant::now);
    loop {
        run.log.catch_up()?;
        // While the broker is gone nobody knows how the boxes are.
        let is_up = run.line.is_up();
        if is_up {
            run.roster.look(Instant::now().into_std());
        }
        if is_up && run.log.rollout().over().is_none() {
            let rollout = run.log.rollout();
            let may_come = run.back.is_some_and(|back| back.elapsed() < COME_BACK);
            let mut steps = rollout.steps(Timestamp::now(), |name| now(&run.roster, rollout, name, may_come));
            steps.truncate(TOLD_MAX);
            if !steps.is_empty() && run.take(steps).await? {
                shown(run.log.rollout());
                continue;
            }
        }
        // Nobody is told while it pauses, or once it is over: what is due then is told when it goes on.
        let may_tell = is_up && run.log.rollout().stage() == Stage::Running;
        if may_tell && run.again.is_some_and(|again| again <= Instant::now()) {
            run.again = None;
            run.tell_again(|_| true).await?;
        }
        if may_tell && !run.came.is_empty() {
            let came = std::mem::take(&mut run.came);
            run.tell_again(|name| came.contains(name)).await?;
        }
        let rollout = run.log.rollout();
        match rollout.stage() {
            Stage::Running => {}
            Stage::Paused => {
                // What was told is still waited for.
                if rollout.told().next().is_none() {
                    return Ok(Stage::Paused);
                }
            }
            over => {
                if is_up && run.take_all_back().await? {
                    return Ok(over);
                }
            }
        }
        // What comes is taken first, as far as it is here: each look is at the whole fleet.
        let look_at = Instant::now() + LOOK_EVERY;
        let mut until = look_at;
        while let Ok(news) = timeout_at(until, run.line.follow()).await {
            match news {
                News::Said(said) => {
                    if run.heard(vec![said])? {
                        shown(run.log.rollout());
                    }
                }
                News::Lost(why) => tracing::warn!("{why}"),
                News::Back => {
                    run.back = Some(Instant::now());
                    match run.listen().await {
                        Err(error @ DeskError::Broker { .. }) => tracing::warn!("{error}"),
                        listened => listened?,
                    }
                }
            }
            until = Instant::now();
            if until >= look_at {
                break;
            }
        }
    }
}

/// [`REFUSED_PAUSE`]. A debug build can be told another, so that a test need not wait for it.
fn refused_pause() -> Duration {
    #[cfg(debug_assertions)]
    if let Some(Ok(ms)) = std::env::var("AFFERENT_REFUSED_PAUSE_MS").ok().map(|ms| ms.parse()) {
        return Duration::from_millis(ms);
    }
    REFUSED_PAUSE
}

/// How a box is now, as it is heard; `may_come` says that one that is not there may still come back to the broker.
pub(super) fn now(roster: &Roster, rollout: &Rollout, name: &str, may_come: bool) -> Now {
    let away = if may_come { Now::Coming } else { Now::Away };
    let Some(row) = roster.rows().get(name).filter(|row| row.online) else { return away };
    // One that has just connected has not said all of it yet: what was unusual before would be of the change.
    let has_said_revision = row.seen.is_some() || !matches!(rollout.plan().change, Change::Config { .. });
    if !row.has_said_alerts || !has_said_revision {
        return if row.is_beginning() { Now::Coming } else { away };
    }
    // One that had it already was not changed.
    let before = rollout.before(name);
    let is_new = |alert: &&String| before.is_some_and(|before| !before.alerts.contains(alert));
    match row.alerts.keys().find(is_new) {
        Some(alert) => Now::Unusual(alert.clone()),
        None if !row.has_spoken => Now::Unheard,
        None => Now::Well,
    }
}

struct Run<'r> {
    config: &'r Config,
    log: &'r mut Log,
    keys: &'r [SigningKey],
    line: Line,
    record: Record,
    roster: Roster,
    /// Commands that boxes have said they obey, by id; what they lead to comes later.
    accepted: HashSet<String>,
    /// Boxes of which the record says that what they were sent is taken back.
    taken_back: BTreeSet<String>,
    /// Revisions that boxes were sent by this desk before.
    sent: BTreeMap<String, u64>,
    /// Boxes whose update stands elsewhere than when they were told.
    moved: HashSet<String>,
    /// Boxes that have come back to the broker since they were told: one that has lost its session was not told there.
    came: BTreeSet<String>,
    /// When the broker was there again, after it was gone or another desk was.
    back: Option<Instant>,
    /// When what the broker did not take is told again.
    again: Option<Instant>,
}

impl Run<'_> {
    /// Hears what the broker keeps of all boxes, and tells again what may not have been told.
    async fn listen(&mut self) -> Result<(), DeskError> {
        self.roster = Roster::default();
        let mut kept = Kept::default();
        while let Ok(said) = timeout_at(kept.until(), self.line.hear()).await {
            let said = said?;
            kept.heard(&said);
            self.heard(vec![said])?;
        }
        self.log.attend();
        self.came.clear();
        self.log.catch_up()?;
        if self.log.rollout().stage() == Stage::Running {
            return self.tell_again(|_| true).await;
        }
        self.again = Some(Instant::now());
        Ok(())
    }

    /// It is over: what boxes were sent and have not taken is not kept for them. False when the broker is not there.
    async fn take_all_back(&mut self) -> Result<bool, DeskError> {
        if !self.is_config() {
            return Ok(true);
        }
        self.read_sent()?;
        let why =
            "it had not answered when the roll-out was stopped: what it was sent is taken back, unless it had begun";
        let told: Vec<String> = self.log.rollout().told().map(|(name, ..)| name.to_string()).collect();
        for gateway in told {
            let what = What::Ended { gateway, failure: Some(why.to_string()) };
            if !self.take_back(&what).await? {
                return Ok(false);
            }
            if self.is_told(&what) {
                self.log.note([what])?;
            }
        }
        Ok(true)
    }

    /// True when this is of a box that has not answered.
    fn is_told(&self, what: &What) -> bool {
        let What::Ended { gateway, .. } = what else { return false };
        matches!(self.log.rollout().standing(gateway), Some(Standing::Told { .. }))
    }

    /// The last revisions that boxes were sent by this desk, by whatever command. Only configurations have revisions.
    fn read_sent(&mut self) -> Result<(), DeskError> {
        if self.is_config() {
            self.sent = audit::last_revs(&self.config.folder).map_err(|error| self.unwritten(&error))?;
        }
        Ok(())
    }

    fn unwritten(&self, error: &std::io::Error) -> DeskError {
        DeskError::File { file: self.config.folder.join(audit::FILE), why: error.to_string() }
    }

    fn is_config(&self) -> bool {
        matches!(self.log.rollout().plan().change, Change::Config { .. })
    }

    /// Writes down and does. False when the broker is not there for what has to be taken back first.
    async fn take(&mut self, steps: Vec<Step>) -> Result<bool, DeskError> {
        let (mut notes, mut orders) = (Vec::new(), Vec::new());
        self.read_sent()?;
        for step in steps {
            match step {
                Step::Note(what) => {
                    let was_told = self.is_told(&what);
                    if !self.take_back(&what).await? {
                        return Ok(false);
                    }
                    // Its answer may have come meanwhile.
                    if !was_told || self.is_told(&what) {
                        notes.push(what);
                    }
                }
                Step::Tell(gateway) => match self.order(&gateway) {
                    Ok(order) => {
                        let document = String::from_utf8_lossy(&order.bytes).into_owned();
                        let before = self.before(&gateway);
                        notes.push(What::Told { gateway, id: order.id.clone(), document, before });
                        orders.push(order);
                    }
                    Err(ended) => notes.push(What::Ended { gateway, failure: ended.err() }),
                },
            }
        }
        let asked: Vec<Value> = orders.iter().map(|order| order.asked.clone()).collect();
        if !asked.is_empty() {
            audit::note_all(&self.config.folder, &asked).map_err(|error| self.unwritten(&error))?;
        }
        self.log.note(notes)?;
        if !orders.is_empty() && self.log.rollout().stage() != Stage::Running {
            // Somebody paused or stopped it at this very moment.
            self.again = Some(Instant::now());
            return Ok(true);
        }
        for order in orders {
            self.tell(order.topic(), order.bytes).await?;
        }
        Ok(true)
    }

    /// A box that comes back later must not do what counts as failed. A command is over by then, though not an update that
    /// a box has already begun; a configuration is kept by the broker until it is taken back. One that was sent by another
    /// command since is left there.
    async fn take_back(&mut self, what: &What) -> Result<bool, DeskError> {
        let rollout = self.log.rollout();
        let (What::Ended { gateway, failure: Some(_) }, Change::Config { .. }) = (what, &rollout.plan().change) else {
            return Ok(true);
        };
        let Some(Standing::Told { document, id, .. }) = rollout.standing(gateway) else { return Ok(true) };
        if self.is_superseded(gateway, document) {
            return Ok(true);
        }
        let Some(place) = Place::new(&self.config.tenant, gateway) else { return Ok(true) };
        // Once, however often the broker has to be asked.
        if self.taken_back.insert(gateway.clone()) {
            let rev = order::rev_of(document.as_bytes());
            let asked = json!({ "at": Timestamp::now().to_string(), "rollout": rollout.plan().name, "does": "take-back",
                                "gateway": gateway, "rev": rev, "sha256": id });
            audit::note(&self.config.folder, &asked).map_err(|error| self.unwritten(&error))?;
        }
        let mut heard = Vec::new();
        let taken = self.line.keep(place.down(&Down::Desired), Vec::new(), &mut heard).await;
        self.heard(heard)?;
        if let Err(why) = &taken {
            tracing::warn!("{why}");
        }
        Ok(taken.is_ok())
    }

    /// True when this desk has sent the box a later revision.
    fn is_superseded(&self, gateway: &str, document: &str) -> bool {
        let rev = order::rev_of(document.as_bytes());
        rev.is_some_and(|rev| self.sent.get(gateway).is_some_and(|sent| *sent > rev))
    }

    /// What a box is told now; or how it has ended without.
    fn order(&self, gateway: &str) -> Result<Order, Result<(), String>> {
        let (rollout, now) = (self.log.rollout(), Timestamp::now());
        let plan = rollout.plan();
        let failed = |why: &str| Err(why.to_string());
        let place = Place::new(&self.config.tenant, gateway).ok_or(failed("it cannot be a box's name"))?;
        let row = self.roster.rows().get(gateway);
        let operation = match &plan.change {
            Change::Command { operation } => operation.clone(),
            Change::Config { content, replace } => {
                let content = content.of(gateway).ok_or(failed("there is no configuration for it"))?.clone();
                let seen = row.and_then(|row| row.seen).ok_or(failed("it has said nothing of its configuration"))?;
                let needed = row.map_or(1, |row| row.signatures);
                if order::signers(self.keys) < needed {
                    return Err(Err(format!("it takes configurations with {needed} signatures")));
                }
                let local = row.and_then(|row| row.local.clone());
                if *replace && local.is_none() {
                    return Err(Err("it has not said what its own file is, so it cannot be replaced".to_string()));
                }
                let (rev, replaces) = (order::next_rev(Some(seen), self.sent.get(gateway).copied()), local);
                let replaces = replaces.filter(|_| *replace);
                return Order::config(&place, content, rev, replaces, self.keys, now).map_err(Err);
            }
            Change::Update { version, with_system, .. }
                if row.is_some_and(|row| row.update.runs(version, with_system.as_deref())) =>
            {
                return Err(Ok(()));
            }
            Change::Update { version, manifest, .. } if rollout.has_fetched(gateway) => {
                let system = row.map(|row| row.update.system.clone()).filter(|system| !system.is_empty());
                // A box is not trusted: what is signed is what the manifest names.
                let is_named =
                    |sha256: &String| Manifest::unproven(manifest.as_bytes()).is_some_and(|m| m.names_system(sha256));
                if !system.as_ref().is_none_or(is_named) {
                    return Err(failed("another operating system lies ready there than the manifest names"));
                }
                Operation::UpdateInstall { version: version.clone(), system }
            }
            Change::Update { manifest, roots, .. } => {
                Operation::UpdateOffer { manifest: manifest.clone(), roots: roots.clone() }
            }
        };
        // A box that comes back later must not do what counts as failed.
        let valid = SignedDuration::from_secs(plan.silent_s.into());
        Order::command(&place, operation, self.keys, now, valid).map_err(Err)
    }

    /// How a box is before it is told.
    fn before(&self, gateway: &str) -> Before {
        let Some(row) = self.roster.rows().get(gateway) else { return Before::default() };
        Before { alerts: row.alerts.keys().cloned().collect(), update: row.update.text() }
    }

    /// What stands in the log as told may not have been, or its answer was not heard, for these boxes.
    async fn tell_again(&mut self, is_of: impl Fn(&str) -> bool) -> Result<(), DeskError> {
        self.read_sent()?;
        let (rollout, now) = (self.log.rollout(), Timestamp::now());
        let is_config = self.is_config();
        let told = rollout.told().filter(|(name, ..)| is_of(name)).filter(|(name, _, document)| {
            let is_past = rollout.is_overdue(name, now) || is_config && self.is_superseded(name, document);
            !is_past
        });
        let again: Vec<(String, Vec<u8>)> = told
            .filter_map(|(name, id, document)| {
                let place = Place::new(&self.config.tenant, name)?;
                let down = match rollout.plan().change {
                    Change::Config { .. } => Down::Desired,
                    Change::Command { .. } | Change::Update { .. } => Down::Command(id.to_string()),
                };
                Some((place.down(&down), document.as_bytes().to_vec()))
            })
            .collect();
        for (topic, bytes) in again {
            self.tell(topic, bytes).await?;
        }
        Ok(())
    }

    async fn tell(&mut self, topic: String, bytes: Vec<u8>) -> Result<(), DeskError> {
        let mut heard = Vec::new();
        let told = match self.log.rollout().plan().change {
            Change::Config { .. } => self.line.keep(topic, bytes, &mut heard).await,
            // One that the broker does not know is told again when it comes.
            Change::Command { .. } | Change::Update { .. } => self.line.tell(topic, bytes, &mut heard).await.map(drop),
        };
        if let Err(why) = told {
            // It is told again when the broker is back, or after a while.
            tracing::warn!("{why}");
            self.again.get_or_insert(Instant::now() + refused_pause());
        }
        self.heard(heard).map(drop)
    }

    /// True when what a box is told reaches it, as it says itself.
    fn hears_us(&self, gateway: &str) -> bool {
        self.roster.rows().get(gateway).is_some_and(|row| row.online && row.downlink)
    }

    /// True when something has become of a box.
    fn heard(&mut self, all: Vec<Said>) -> Result<bool, DeskError> {
        let events: Vec<Said> = all.iter().filter(|said| said.what == Up::Event).cloned().collect();
        for said in &all {
            self.line.answer(said);
            let heard_us = self.hears_us(said.place.gateway());
            self.roster.heard(said, Instant::now().into_std());
            if !heard_us && self.hears_us(said.place.gateway()) {
                self.came.insert(said.place.gateway().to_string());
            }
        }
        if !events.is_empty() {
            self.record.note(&events)?;
        }
        let became: Vec<What> = all.iter().filter_map(|said| self.became(said)).collect();
        let any = !became.is_empty();
        self.log.note(became)?;
        events.iter().for_each(|said| self.line.noted(said));
        Ok(any)
    }

    /// What this says of what became of a box that was told.
    fn became(&mut self, said: &Said) -> Option<What> {
        let (rollout, gateway) = (self.log.rollout(), said.place.gateway());
        let Some(Standing::Told { id, .. }) = rollout.standing(gateway) else { return None };
        let json: Value = match said.what {
            Up::Event | Up::Reported | Up::Update => serde_json::from_slice(&said.payload).ok()?,
            _ => return None,
        };
        let ended = |outcome: Result<(), String>| What::Ended { gateway: gateway.to_string(), failure: outcome.err() };
        match &rollout.plan().change {
            Change::Command { .. } => order::outcome(&json, id).map(ended),
            Change::Config { .. } => order::settled(&json, id).map(ended),
            Change::Update { version, with_system, .. } => {
                let with_system = with_system.as_deref();
                match order::outcome(&json, id) {
                    Some(Ok(())) => drop(self.accepted.insert(id.clone())),
                    // Release and operating system came to it in another way.
                    Some(Err(why)) if with_system.is_some() && why == HAS_IT => return Some(ended(Ok(()))),
                    Some(failed) => return Some(ended(failed)),
                    None => {}
                }
                // What it said before it took the command is about another update.
                let row = self.roster.rows().get(gateway).filter(|_| self.accepted.contains(id))?;
                let update = &row.update;
                let is_other = rollout.before(gateway).is_none_or(|before| before.update != update.text());
                if is_other {
                    self.moved.insert(gateway.to_string());
                }
                // That an earlier attempt ended so is no news.
                let is_news = rollout.has_fetched(gateway) || self.moved.contains(gateway);
                match update.phase_of(version, with_system)? {
                    _ if update.runs(version, with_system) => Some(ended(Ok(()))),
                    "staged" if !rollout.has_fetched(gateway) => Some(What::Ready { gateway: gateway.to_string() }),
                    "rolled-back" if is_news => Some(ended(Err(format!("rolled back: {}", update.reason)))),
                    _ => None,
                }
            }
        }
    }
}
