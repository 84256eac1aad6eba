//! A simulated fleet: any number of boxes on a real broker, each with a certificate, a connection and the very session
//! machine of a real box ([`crate::fleet::session`]), and without a gateway behind it.
//!
//! They are born with jitter, tell how they are, send counters, obey signed commands or fail at them, flap and die.
//! [`stage`] makes the certificates, the desk and mosquitto for a fleet that exists for one test.

mod member;
pub mod stage;

use crate::desk::keys;
use crate::fleet::envelope::Operator;
use crate::sim::random::Random;
use member::Member;
use serde::Serialize;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// What the fleet is and does.
#[derive(Debug, Clone)]
pub struct Options {
    /// How many boxes.
    pub boxes: usize,
    /// The broker's host and port.
    pub broker: (String, u16),
    /// Where [`stage::make`] has put everything.
    pub folder: PathBuf,
    /// The boxes come within this time, each at a moment of its own.
    pub births: Duration,
    /// Between two reports of a box.
    pub report_every: Duration,
    /// Share of the commands that fail.
    pub failing: f64,
    /// Share of the boxes that never answer commands.
    pub silent: f64,
    /// Share of the boxes that lose their connection between two reports, and come back.
    pub flapping: f64,
    /// Share of the boxes that are gone for good after each report.
    pub dying: f64,
    /// Share of the boxes that begin or end an alert between two reports.
    pub alarming: f64,
    /// Of all that is random.
    pub seed: u64,
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Account {
    /// Boxes.
    pub boxes: usize,
    /// Boxes whose birth and state the broker has acknowledged.
    pub born: u64,
    /// Milliseconds until the last of them was.
    pub born_ms: u64,
    /// Boxes that are connected now.
    pub connected: u64,
    /// Boxes that are gone for good.
    pub died: u64,
    /// Connections that were lost or not made.
    pub lost: u64,
    /// Documents published.
    pub published: u64,
    /// Echoes that were answered.
    pub echoed: u64,
    /// Signed commands that came, each time they did.
    pub told: u64,
    /// Commands that were run.
    pub run: u64,
    /// Commands that were run more than once; there must be none.
    pub run_twice: u64,
    /// Documents that no operator had signed, or that were not for this box.
    pub refused: u64,
}

/// What all boxes share.
struct Shared {
    options: Options,
    operators: Vec<Operator>,
    began: Instant,
    counts: Counts,
    run: Mutex<HashMap<String, u64>>,
}

#[derive(Default)]
struct Counts {
    born: AtomicU64,
    born_ms: AtomicU64,
    connected: AtomicU64,
    died: AtomicU64,
    lost: AtomicU64,
    published: AtomicU64,
    echoed: AtomicU64,
    told: AtomicU64,
    refused: AtomicU64,
}

/// A fleet that runs.
pub struct Fleet {
    shared: Arc<Shared>,
    _members: JoinSet<()>,
}

impl Fleet {
    /// Starts it; it ends when this is dropped.
    ///
    /// # Errors
    /// A sentence: the folder is not what [`stage::make`] leaves.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(options: Options) -> Result<Fleet, String> {
        crate::tls::provider();
        let key = keys::read(&options.folder.join(stage::KEY)).map_err(|error| error.to_string())?;
        let operator = Operator { kid: key.kid().to_string(), key: key.public_key(), may: Operator::everything() };
        let shared = Arc::new(Shared {
            operators: vec![operator],
            began: Instant::now(),
            counts: Counts::default(),
            run: Mutex::default(),
            options,
        });
        let mut members = JoinSet::new();
        let mut random = Random::new(shared.options.seed);
        for number in 1..=shared.options.boxes {
            let member = Member::new(shared.clone(), number, Random::new(random.bits()))?;
            members.spawn(member.run());
        }
        Ok(Fleet { shared, _members: members })
    }

    /// How it is now.
    pub fn account(&self) -> Account {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let counts = &self.shared.counts;
        let run = self.shared.run.lock().unwrap_or_else(PoisonError::into_inner);
        Account {
            boxes: self.shared.options.boxes,
            born: of(&counts.born),
            born_ms: of(&counts.born_ms),
            connected: of(&counts.connected),
            died: of(&counts.died),
            lost: of(&counts.lost),
            published: of(&counts.published),
            echoed: of(&counts.echoed),
            told: of(&counts.told),
            run: run.values().sum(),
            run_twice: run.values().filter(|times| **times > 1).count() as u64,
            refused: of(&counts.refused),
        }
    }
}

impl Shared {
    fn count(&self, which: impl Fn(&Counts) -> &AtomicU64) {
        which(&self.counts).fetch_add(1, Ordering::Relaxed);
    }

    fn born(&self) {
        self.count(|counts| &counts.born);
        let ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.counts.born_ms.fetch_max(ms, Ordering::Relaxed);
    }

    /// A command is run, under its id.
    fn runs(&self, id: &str) {
        *self.run.lock().unwrap_or_else(PoisonError::into_inner).entry(id.to_string()).or_default() += 1;
    }
}
