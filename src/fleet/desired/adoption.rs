//! Does what the machine of a desired configuration says, and keeps what must not be forgotten of it. Beside the fleet's
//! loop: what takes time (checks, dialling, the gateway that changes) runs elsewhere and comes back as [`Ended`].

use super::ledger::{self, Before, Entry};
use super::machine::{self, Act, Look, Phase, Trial, Tries};
use super::sound::{self, Checked};
use super::{Desired, Known, Verdict, Why, health, probe, tree, tried};
use crate::config::{Config, Loaded, Origin};
use crate::delivery::DeliveryCounters;
use crate::fleet::admission::Admission;
use crate::fleet::command::Me;
use crate::fleet::envelope::Purpose;
use crate::fleet::outlives::Outlives;
use crate::fleet::snapshot::Sources;
use crate::fleet::store::{self, Store, StoreError};
use crate::fleet::telemetry::{At, Digest, Event, Id, Reported, SettingFault, Stamp, What, Word};
use crate::fleet::topic::Place;
use crate::fleet::{self, Carried, Change, ConfigStatus};
use crate::journal::crash;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};

/// The box's own file is looked at this often.
const LOCAL_EVERY: Duration = Duration::from_secs(5);
/// Destinations are dialled so often in a trial.
const DIALS: u32 = 20;
const DIAL_EVERY_MIN: Duration = Duration::from_millis(250);

/// How the bus is, when a trial is looked at.
#[derive(Debug, Clone, Copy)]
pub struct BusFacts {
    /// The broker is there.
    pub connected: bool,
    /// What the box is told reaches it.
    pub downlink: bool,
    /// Echoes that were answered.
    pub answered: u64,
}

/// Something that was begun has ended.
pub enum Ended {
    /// The text was checked.
    Checked(Checked),
    /// What it names was tried.
    Probed(Result<(), Why>),
    /// It was written, and this was read back.
    Written(Result<Box<Loaded>, Why>),
    /// This is how the box is, but for the bus.
    LookedAround(Before),
    /// The gateway runs with it, or with some parts of it not.
    Applied(Result<(), Why>),
}

/// See the module docs.
pub struct Adoption {
    place: Place,
    admission: Admission,
    /// Operators who must have signed a revision.
    signatures: usize,
    sources: Sources,
    /// Where the configuration that the program began with came from; none in a program that was given it otherwise.
    origin: Option<Arc<Origin>>,
    /// Digest of the box's own file as the desk knows it; none where that cannot be told.
    base: Option<String>,
    window: Duration,
    network: Handle,
    changes: mpsc::Sender<Change>,
    ended_to: mpsc::Sender<Ended>,
    ended: mpsc::Receiver<Ended>,
    in_hand: Option<InHand>,
    /// What has ended and could not be committed yet.
    uncommitted: Option<Result<(), Why>>,
    /// What is to run once a trial is over, and does not yet.
    to_run: Option<Arc<Config>>,
    newest: Option<Entry>,
    /// See [`Known::before_reset`].
    before_reset: Option<(u64, Digest)>,
    errors: Vec<SettingFault>,
    local: Option<Digest>,
    local_at: Option<Instant>,
    told: Option<Reported>,
    /// What was told of already: the broker says it again with each connection.
    refused: Option<Digest>,
    /// See [`ConfigStatus::stick`].
    stick: Carried,
    wants_echo: bool,
    is_changing: bool,
    /// There may be a revision to take in hand.
    is_due: bool,
    began: Instant,
}

/// The revision in hand.
struct InHand {
    rev: u64,
    digest: Digest,
    phase: Phase,
    desired: Desired,
    document: Vec<u8>,
    /// Once it was checked.
    wanted: Option<Arc<Config>>,
    /// Digest of the box's own file that it replaces, once it was checked.
    base: Option<Digest>,
    /// What ran before it.
    previous: Option<Arc<Config>>,
    before: Before,
    /// What destinations had delivered when it was applied.
    delivered: Vec<(Arc<DeliveryCounters>, u64)>,
    trial: Option<Watched>,
    /// Its trial is over: what is to run after that runs, or is about to.
    is_over: bool,
}

/// A trial that is watched.
struct Watched {
    trial: Trial,
    /// Echoes that had been answered when it began.
    answered: u64,
    /// Links that had a connection in it.
    connected: BTreeSet<String>,
    /// Destinations that ran before and do not any more.
    taken_away: BTreeSet<String>,
    /// Destinations that answered when they were looked at last.
    reached: watch::Receiver<BTreeSet<String>>,
}

impl Adoption {
    /// Takes up what an earlier run of the program left.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn new(
        place: &Place,
        config: &fleet::Config,
        sources: &Sources,
        network: Handle,
        changes: mpsc::Sender<Change>,
        store: &mut Store,
    ) -> Result<Adoption, StoreError> {
        let (ended_to, ended) = mpsc::channel(1);
        tree::clear(sources.data());
        let origin = sources.config().origin.clone();
        let running = origin.as_ref().and_then(|origin| origin.adopted).map(|(rev, _)| rev);
        let good = tree::last_good_document(sources.data());
        let stamp = sources.stamp();
        // Only a revision that this run began with goes on; what had not begun begins anew, and what cannot go on ends.
        let events_max = store.events_max();
        let newest = store.change(|tx| {
            good.map_or(Ok(()), |good| ledger::remember(tx, good, stamp))?;
            for entry in ledger::open(tx)? {
                let (phase, why) = match entry.phase {
                    Phase::Trial if tree::last_good(sources.data()) == Some(entry.rev) => (Phase::Committed, None),
                    Phase::Trial if running == Some(entry.rev) => continue,
                    Phase::Trial => (Phase::Reverted, Some(left(sources.data(), origin.as_deref(), &entry))),
                    _ => (Phase::Offered, None),
                };
                ledger::set(tx, entry.rev, phase, why)?;
                if phase.is_final() {
                    ledger::stamp(tx, entry.rev, stamp)?;
                    store::put(tx, &event(entry.rev, entry.digest, Word::new(phase.word()), why, stamp), events_max)?;
                }
            }
            ledger::newest(tx)
        })?;
        Ok(Adoption {
            place: place.clone(),
            admission: Admission::new(&config.operators, Purpose::Config, |count| What::UnsignedConfigs { count }),
            signatures: config.config_signatures,
            sources: sources.clone(),
            base: origin.as_ref().and_then(|origin| tree::base(sources.data(), origin)),
            local: origin.as_deref().and_then(sound::local_digest),
            origin,
            window: Duration::from_secs(config.confirm_s),
            network,
            changes,
            ended_to,
            ended,
            in_hand: None,
            uncommitted: None,
            to_run: None,
            newest,
            before_reset: Outlives::read(sources.data()).seen(),
            errors: Vec::new(),
            local_at: None,
            told: None,
            refused: None,
            stick: Carried::None,
            wants_echo: false,
            is_changing: false,
            is_due: true,
            began: Instant::now(),
        })
    }

    /// What has ended.
    pub async fn ended(&mut self) -> Option<Ended> {
        self.ended.recv().await
    }

    /// True once after something that only an echo can prove.
    pub fn wants_echo(&mut self) -> bool {
        std::mem::take(&mut self.wants_echo)
    }

    /// Something came as a configuration. When this returns, it may be acknowledged to the broker: it is kept, or it is
    /// told why not, or nobody who may had signed it.
    ///
    /// # Errors
    /// [`StoreError`]: it is not kept and must come again.
    pub fn take(&mut self, store: &mut Store, payload: &[u8], stamp: Stamp) -> Result<(), StoreError> {
        self.take_up(store, payload, false, stamp).map(drop)
    }

    /// As [`Adoption::take`], of what lies on a stick, or why that cannot be read; nothing when it was pulled out.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn carried(
        &mut self,
        store: &mut Store,
        found: Result<Vec<u8>, String>,
        stamp: Stamp,
    ) -> Result<(), StoreError> {
        self.stick = Carried::None;
        if found.as_ref().is_ok_and(|document| !document.is_empty()) {
            tracing::info!(event = "stick", "fleet: a stick with a configuration is here");
        }
        let taken = match found {
            Ok(document) if document.is_empty() => return Ok(()),
            Ok(document) => self.take_up(store, &document, true, stamp)?,
            Err(why) => Err(why),
        };
        self.stick = match taken {
            Ok(rev) => rev.map_or(Carried::None, Carried::Taken),
            Err(why) => {
                tracing::warn!(event = "stick", "fleet: the configuration on the stick is not taken: {why}");
                Carried::NotTaken(why)
            }
        };
        Ok(())
    }

    /// What came is kept, as which revision, or why not, for a person.
    fn take_up(
        &mut self,
        store: &mut Store,
        payload: &[u8],
        by_hand: bool,
        stamp: Stamp,
    ) -> Result<Result<Option<u64>, String>, StoreError> {
        // What is retained is taken back with nothing.
        if payload.is_empty() {
            return Ok(Ok(None));
        }
        let Some(signed) = self.admission.open(store, payload, stamp)? else {
            return Ok(Err("no operator of this box who may has signed it".to_string()));
        };
        let digest = Digest::of(&signed.document);
        let me = Me { tenant: self.place.tenant(), gateway: self.place.gateway() };
        let known = Known { before_reset: self.before_reset, ..store.change(ledger::known)? };
        let (rev, judged) = match super::read(&signed) {
            Ok(desired) => {
                let has_enough = signed.signers.len() >= self.signatures;
                (desired.rev, super::judge(&desired, digest, me, known, has_enough))
            }
            Err(why) => (0, Err(why)),
        };
        match judged {
            Ok(Verdict::Same) => return Ok(Ok(Some(rev))),
            Ok(Verdict::Accept) => {}
            // Whoever left the stick where it is has done nothing wrong.
            Err(why @ Why::Older) if by_hand => return Ok(Err(why.to_string())),
            Err(why) if self.refused == Some(digest) => return Ok(Err(why.to_string())),
            Err(why) => {
                tracing::warn!(rev, "fleet: a configuration is not taken: {why}");
                store.put(&event(rev, digest, Word::new("refused"), Some(why), stamp))?;
                self.refused = Some(digest);
                return Ok(Err(why.to_string()));
            }
        }
        store.change(|tx| {
            ledger::offer(tx, rev, digest, &signed.document, stamp)?;
            let before = Before { by_hand, ..Before::default() };
            if by_hand { ledger::note_before(tx, rev, &before) } else { Ok(()) }
        })?;
        crash::point("fleet-config-offered");
        tracing::info!(rev, "fleet: a configuration came");
        self.errors.clear();
        self.newest = store.change(ledger::newest)?;
        self.is_due = true;
        self.pick_up(store, stamp).map(|()| Ok(Some(rev)))
    }

    /// Takes the latest revision in hand when there is none; earlier ones that have not begun never will.
    fn pick_up(&mut self, store: &mut Store, stamp: Stamp) -> Result<(), StoreError> {
        // Where going back has failed, another revision may be what helps.
        if !self.is_due || self.in_hand.is_some() || self.is_changing {
            return Ok(());
        }
        let open = store.change(ledger::open)?;
        let in_trial = open.iter().find(|entry| entry.phase == Phase::Trial);
        let Some(chosen) = in_trial.or(open.last()).cloned() else {
            self.is_due = false;
            return Ok(());
        };
        for entry in open.iter().filter(|entry| entry.rev < chosen.rev) {
            self.commit(store, (entry.rev, entry.digest), Phase::Refused, Some(Why::Superseded), stamp)?;
        }
        let id = (chosen.rev, chosen.digest);
        if chosen.phase == Phase::Trial && self.running().map(|(rev, _)| rev) != Some(chosen.rev) {
            return self.commit(store, id, Phase::Reverted, Some(Why::NeverConfirmed), stamp);
        }
        let Ok(desired) = super::read_bytes(&chosen.document) else {
            return self.commit(store, id, chosen.phase.after(Err(Why::Unknown)), Some(Why::Unknown), stamp);
        };
        if chosen.phase != Phase::Trial {
            // Counted before it is looked at: what ends the program then must not end it for ever.
            match machine::look_at(chosen.boots) {
                Some(boots) => store.change(|tx| ledger::count_boot(tx, chosen.rev, boots))?,
                None => return self.commit(store, id, Phase::Refused, Some(Why::NeverTried), stamp),
            }
        }
        self.is_due = false;
        self.in_hand = Some(InHand {
            rev: chosen.rev,
            digest: chosen.digest,
            phase: chosen.phase,
            desired,
            document: chosen.document,
            wanted: None,
            base: None,
            previous: None,
            before: chosen.before.unwrap_or_default(),
            delivered: Vec::new(),
            trial: None,
            is_over: false,
        });
        self.begin(chosen.phase.act(true));
        Ok(())
    }

    /// Something that was begun has ended: the next phase is committed, and what belongs to it begun.
    ///
    /// # Errors
    /// [`StoreError`]: it is tried again with the next look.
    pub fn go_on(&mut self, store: &mut Store, ended: Ended, bus: BusFacts, stamp: Stamp) -> Result<(), StoreError> {
        let ended = match (ended, &mut self.in_hand) {
            (Ended::Applied(ended), _) if self.to_run.is_some() => {
                self.is_changing = false;
                if ended.is_ok() {
                    self.to_run = None;
                }
                return self.pick_up(store, stamp);
            }
            (_, None) => return Ok(()),
            (Ended::Checked(Ok((loaded, base))), Some(in_hand)) => {
                (in_hand.wanted, in_hand.base) = (Some(Arc::new(loaded.config)), Some(base));
                Ok(())
            }
            (Ended::Checked(Err((why, errors))), _) => {
                self.errors = errors;
                Err(why)
            }
            (Ended::Probed(ended), _) => ended,
            (Ended::Written(Ok(loaded)), Some(in_hand)) => {
                in_hand.wanted = Some(Arc::new(loaded.config));
                Ok(())
            }
            (Ended::Written(Err(why)), _) => Err(why),
            (Ended::LookedAround(before), Some(in_hand)) => {
                let by_hand = in_hand.before.by_hand;
                in_hand.before = Before { by_hand, downlink: bus.downlink, ..before };
                Ok(())
            }
            (Ended::Applied(ended), Some(_)) => {
                self.is_changing = false;
                match ended {
                    Ok(()) => {
                        crash::point("fleet-config-applied");
                        self.watch(bus.answered);
                        return Ok(());
                    }
                    Err(why) => Err(why),
                }
            }
        };
        self.step(store, ended, stamp)
    }

    /// Looks at the trial, and at what could not be done before.
    ///
    /// # Errors
    /// [`StoreError`]: as [`Adoption::go_on`].
    pub fn look(&mut self, store: &mut Store, bus: BusFacts, now: Instant, stamp: Stamp) -> Result<(), StoreError> {
        if self.local_at.is_none_or(|at| now.saturating_duration_since(at) >= LOCAL_EVERY) {
            self.local_at = Some(now);
            self.local = self.origin.as_ref().and_then(|origin| sound::local_digest(origin));
        }
        self.end_what_nobody_watches(now);
        // While another revision is in hand, it is that which will run.
        let is_free = !self.is_changing && self.in_hand.as_ref().is_none_or(|in_hand| in_hand.is_over);
        if let Some(config) = self.to_run.clone().filter(|_| is_free) {
            self.change(config);
        }
        if let Some(ended) = self.uncommitted.take() {
            return self.step(store, ended, stamp);
        }
        let (links, destinations) = (self.sources.links(), self.sources.destinations());
        let Some(in_hand) = &mut self.in_hand else { return self.pick_up(store, stamp) };
        let Some(watched) = &mut in_hand.trial else { return Ok(()) };
        // Whoever ended it meanwhile because nobody watched: what runs is not what would be confirmed.
        let Some(trial) = self.sources.config().trial.clone() else {
            return self.step(store, Err(Why::NeverConfirmed), stamp);
        };
        for (name, counters) in &links {
            if counters.counts().open_connections > 0 {
                watched.connected.insert(name.as_str().to_string());
            }
        }
        let before = &in_hand.before;
        let needs_none = before.by_hand && !before.downlink;
        let has_bus =
            needs_none || bus.connected && (!before.downlink || bus.downlink && bus.answered > watched.answered);
        let reached = watched.reached.borrow().clone();
        let delivered = &in_hand.delivered;
        let destination_is_lost = before.destinations.iter().any(|name| {
            let found = destinations.iter().find(|(other, _)| other.as_str() == name);
            !found.is_some_and(|(_, to)| {
                let had = delivered.iter().find(|(other, _)| Arc::ptr_eq(other, to)).map_or(0, |(_, had)| *had);
                health::is_well(to, had, &reached)
            })
        });
        let link_is_lost = before.links.iter().any(|name| {
            let is_connected = !before.connected.contains(name) || watched.connected.contains(name);
            let is_up = links.iter().any(|(other, link)| other.as_str() == name && link.counts().up);
            !(is_up && is_connected)
        });
        // What was on its way to it when the new configuration came waits for nobody. Where that cannot be read now, it can
        // a moment later, and until then it is not well.
        let undelivered = || !matches!(health::waiting(self.sources.journal(), &watched.taken_away), Ok(None));
        let lost = match (has_bus, destination_is_lost, link_is_lost) {
            (false, ..) => Some(Why::BusLost),
            (_, true, _) => Some(Why::DestinationLost),
            (.., true) => Some(Why::LinkLost),
            _ => undelivered().then_some(Why::Undelivered),
        };
        let tries = match (trial.tryout.tried() < trial.waiting.len(), trial.tryout.has_begun()) {
            (true, true) => Tries::UnderWay,
            (true, false) => Tries::Due,
            (false, _) => Tries::Done,
        };
        match watched.trial.look(lost, tries, now) {
            Look::GoesOn => Ok(()),
            Look::TryOne => {
                trial.tryout.begin();
                Ok(())
            }
            Look::Ended(ended) => self.step(store, ended, stamp),
        }
    }

    /// A trial that nobody watches, because what is known of it cannot be read, ends with what was good before: results may
    /// wait for its end.
    fn end_what_nobody_watches(&mut self, now: Instant) {
        let is_late = now.saturating_duration_since(self.began) >= self.window;
        let nobody_will = self.in_hand.is_none() && (!self.is_due || is_late);
        if nobody_will && !self.is_changing && self.to_run.is_none() {
            self.to_run = before(&self.sources);
        }
    }

    /// What is reported, when it is not what was reported before.
    pub fn report(&mut self, stamp: Stamp) -> Option<Reported> {
        let newest = self.newest.as_ref();
        let was_applied = |entry: &&Entry| matches!(entry.phase, Phase::Trial | Phase::Committed | Phase::Reverted);
        let reported = Reported {
            stamp: self.told.as_ref().map_or(stamp, |told| told.stamp),
            running: self.running().map(|(rev, _)| rev),
            // The desk numbers the next one behind it.
            rev: newest.map(|entry| entry.rev).or(self.before_reset.map(|(rev, _)| rev)),
            hash: newest.map(|entry| entry.digest),
            state: newest.map(|entry| Word::new(entry.phase.word())),
            applied_at: newest.filter(was_applied).map(|entry| At::of_ms(entry.changed_ms)),
            why: newest.and_then(|entry| entry.why),
            errors: self.errors.clone(),
            local: self.local,
            drift: self.has_drifted(),
            signatures: self.signatures,
        };
        if self.told.as_ref() == Some(&reported) {
            return None;
        }
        self.told = Some(Reported { stamp, ..reported });
        self.told.clone()
    }

    /// How it is, for the doctor.
    pub fn status(&self) -> ConfigStatus {
        let newest = self.newest.as_ref();
        ConfigStatus {
            running: self.running().map(|(rev, _)| rev),
            rev: newest.map(|entry| entry.rev),
            state: newest.map(|entry| entry.phase.word().to_string()).unwrap_or_default(),
            why: newest.and_then(|entry| entry.why).map(|why| why.to_string()).unwrap_or_default(),
            drift: self.has_drifted(),
            local: self.local.map(|local| local.to_string()).unwrap_or_default(),
            stick: self.stick.clone(),
        }
    }

    fn running(&self) -> Option<(u64, [u8; 32])> {
        self.sources.config().origin.as_ref().and_then(|origin| origin.adopted)
    }

    fn has_drifted(&self) -> bool {
        self.local.is_some() && self.local.map(|local| local.to_string()) != self.base
    }

    fn step(&mut self, store: &mut Store, ended: Result<(), Why>, stamp: Stamp) -> Result<(), StoreError> {
        let Some(in_hand) = &mut self.in_hand else { return Ok(()) };
        let (id, phase) = ((in_hand.rev, in_hand.digest), in_hand.phase.after(ended));
        if phase == Phase::Committed {
            if let Err(error) = tree::confirm(self.sources.data(), id.0) {
                tracing::error!(event = "config-trouble", "fleet: {error}");
                return self.step(store, Err(Why::Disk), stamp);
            }
            crash::point("fleet-config-good");
        }
        // A disk that does not take the note of it must not keep the right one from running: results may wait for that.
        let was_in_trial = in_hand.phase == Phase::Trial;
        if was_in_trial && phase.is_final() && !std::mem::replace(&mut in_hand.is_over, true) {
            match phase {
                Phase::Committed => self.end_trial(),
                _ => self.begin(Act::GoBack),
            }
        }
        if let Err(error) = self.commit(store, id, phase, ended.err(), stamp) {
            self.uncommitted = Some(ended);
            return Err(error);
        }
        crash::point(phase.crash_point());
        if let Some(in_hand) = &mut self.in_hand {
            in_hand.phase = phase;
        }
        if phase == Phase::Committed {
            self.base = self.origin.as_ref().and_then(|origin| tree::base(self.sources.data(), origin));
            let all = store.change(ledger::all)?;
            let good = all.iter().filter(|entry| entry.phase == Phase::Committed).map(|entry| entry.rev);
            tree::forget(self.sources.data(), id.0, &good.collect());
        }
        if !phase.is_final() {
            self.begin(phase.act(false));
            return Ok(());
        }
        self.in_hand = None;
        self.is_due = true;
        self.pick_up(store, stamp)
    }

    /// Commits the phase of a revision and the event that tells of it.
    fn commit(
        &mut self,
        store: &mut Store,
        (rev, digest): (u64, Digest),
        phase: Phase,
        why: Option<Why>,
        stamp: Stamp,
    ) -> Result<(), StoreError> {
        let events_max = store.events_max();
        let told = event(rev, digest, Word::new(phase.word()), why, stamp);
        let before = self.in_hand.as_ref().filter(|in_hand| in_hand.rev == rev && phase == Phase::Trial);
        self.newest = store.change(|tx| {
            before.map_or(Ok(()), |in_hand| ledger::note_before(tx, rev, &in_hand.before))?;
            ledger::set(tx, rev, phase, why)?;
            ledger::stamp(tx, rev, stamp)?;
            if phase.is_final() || phase == Phase::Trial {
                store::put(tx, &told, events_max)?;
            }
            ledger::newest(tx)
        })?;
        match why {
            Some(why) => {
                tracing::warn!(event = "config-phase", rev, "fleet: the configuration is {}: {why}", phase.word())
            }
            None => tracing::info!(event = "config-phase", rev, "fleet: the configuration is {}", phase.word()),
        }
        Ok(())
    }

    /// Begins what belongs to a phase.
    fn begin(&mut self, act: Act) {
        let Some(in_hand) = &mut self.in_hand else { return };
        let (data, to) = (self.sources.data().to_path_buf(), self.ended_to.clone());
        let desired = in_hand.desired.clone();
        let running = self.sources.config();
        match (act, self.origin.clone(), in_hand.wanted.clone()) {
            (Act::Check, Some(origin), _) => {
                let known = self.base.clone();
                self.network.spawn_blocking(move || {
                    let _ = to.try_send(Ended::Checked(sound::check(&desired, &data, &origin, known)));
                });
            }
            (Act::Probe, _, Some(wanted)) => {
                let (sources, theirs) = (self.sources.clone(), wanted.clone());
                self.network.spawn(async move {
                    let may_leave = tokio::task::spawn_blocking(move || health::may_leave(&sources, &theirs)).await;
                    let probed = match may_leave.unwrap_or(Err(Why::Disk)) {
                        Ok(()) => probe::probe(&running, &wanted).await,
                        Err(why) => Err(why),
                    };
                    let _ = to.try_send(Ended::Probed(probed));
                });
            }
            (Act::Write, Some(origin), _) => {
                let (document, base) = (in_hand.document.clone(), in_hand.base);
                self.network.spawn_blocking(move || {
                    let _ = to.try_send(Ended::Written(sound::write(&desired, &document, &data, &origin, base)));
                });
            }
            (Act::LookAround, _, Some(wanted)) => {
                let sources = self.sources.clone();
                self.network.spawn(async move {
                    let _ = to.try_send(Ended::LookedAround(health::before(&sources, &wanted).await));
                });
            }
            (Act::Apply, _, Some(wanted)) => {
                // What it goes back to is what should have run, also where that did not start again.
                in_hand.previous = Some(self.to_run.take().unwrap_or(running));
                let destinations = self.sources.destinations().into_iter();
                in_hand.delivered = destinations.map(|(_, to)| (to.clone(), to.health().delivered)).collect();
                let tried = tried::in_trial(in_hand.previous.as_deref().unwrap_or(&wanted), &wanted);
                if tried.results_wait() {
                    tracing::warn!("fleet: results wait for the end of the trial: it says otherwise what goes where");
                }
                let waiting = tried.trial.as_ref().map(|trial| &trial.waiting).filter(|waiting| !waiting.is_empty());
                if let Some(waiting) = waiting {
                    tracing::warn!(?waiting, "fleet: what is queued for these waits for the end of the trial");
                }
                self.change(Arc::new(tried));
            }
            (Act::Watch, Some(origin), _) => {
                in_hand.previous = Some(good(&data, &origin));
                // As it was read at the start: the disk may not give it again.
                in_hand.wanted = running.trial.as_ref().map(|trial| trial.wanted.clone());
                self.watch(0);
            }
            (Act::GoBack, ..) => {
                self.to_run = in_hand.previous.clone();
                if let Some(previous) = self.to_run.clone() {
                    self.change(previous);
                }
            }
            (Act::Rest, ..) => {}
            // A program that was not given a file has nothing in whose place a revision could run.
            (Act::Check | Act::Write | Act::Watch, None, _) | (Act::Probe | Act::LookAround | Act::Apply, _, None) => {
                let _ = to.try_send(Ended::Checked(Err((Why::NotStarted, Vec::new()))));
            }
        }
    }

    /// The revision in hand is confirmed, and runs as it says.
    fn end_trial(&mut self) {
        if let Some(trial) = &self.sources.config().trial {
            trial.tryout.keep();
        }
        // Also where the trial was just ended by another hand: what is confirmed runs.
        if let Some(wanted) = self.in_hand.as_ref().and_then(|in_hand| in_hand.wanted.clone()) {
            self.to_run = Some(wanted.clone());
            self.change(wanted);
        }
    }

    /// Asks the gateway to run with this configuration.
    fn change(&mut self, config: Arc<Config>) {
        self.is_changing = true;
        let (done, answer) = oneshot::channel();
        let (changes, to) = (self.changes.clone(), self.ended_to.clone());
        self.network.spawn(async move {
            let asked = changes.send(Change { config, done }).await.is_ok();
            let changed = match asked {
                true => answer.await.unwrap_or_else(|_| Err("the gateway stops".to_string())),
                false => Err("nobody changes this gateway".to_string()),
            };
            let _ = to.try_send(Ended::Applied(changed.map_err(|why| {
                tracing::error!(event = "config-trouble", "fleet: the configuration is not applied: {why}");
                Why::NotStarted
            })));
        });
    }

    /// The trial begins; so many echoes were answered before.
    fn watch(&mut self, answered: u64) {
        let Some(in_hand) = &mut self.in_hand else { return };
        self.wants_echo = true;
        let (tell, reached) = watch::channel(BTreeSet::new());
        let (sources, every) = (self.sources.clone(), (self.window / DIALS).max(DIAL_EVERY_MIN));
        self.network.spawn(async move {
            while !tell.is_closed() {
                tell.send_replace(health::reached(&sources).await);
                tokio::select! {
                    () = tell.closed() => {}
                    () = tokio::time::sleep(every) => {}
                }
            }
        });
        let running = self.sources.config();
        let taken_away = in_hand.previous.as_ref().map(|previous| health::taken_away(previous, &running));
        let trial = Trial::new(Instant::now(), self.window);
        let (connected, taken_away) = (BTreeSet::new(), taken_away.unwrap_or_default());
        in_hand.trial = Some(Watched { trial, answered, connected, taken_away, reached });
    }
}

/// What ran before the configuration that runs in its trial; none when none does.
pub fn before(sources: &Sources) -> Option<Arc<Config>> {
    let config = sources.config();
    config.trial.as_ref()?;
    Some(good(sources.data(), config.origin.as_ref()?))
}

/// What was good last, or the box's own file where nothing was.
fn good(data: &Path, origin: &Arc<Origin>) -> Arc<Config> {
    Arc::new(tree::good(data, origin).map_or_else(|| own(origin), |loaded| loaded.config))
}

/// Why a revision that was in its trial does not run.
fn left(data: &Path, origin: Option<&Origin>, entry: &Entry) -> Why {
    origin.and_then(|origin| tree::may_run(data, origin, entry).err()).unwrap_or(Why::NeverConfirmed)
}

fn event(rev: u64, document: Digest, state: Word, why: Option<Why>, stamp: Stamp) -> Event {
    Event { id: Id::make(), stamp, what: What::Config { rev, document, state, why } }
}

fn own(origin: &Arc<Origin>) -> Config {
    let mut own = origin.own.clone();
    own.origin = Some(Arc::new(Origin { adopted: None, ..(**origin).clone() }));
    own
}

#[cfg(test)]
mod tests;
