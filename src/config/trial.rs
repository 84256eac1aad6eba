//! A configuration in its trial, in which another one may take up whatever came meanwhile.

use super::Config;
use crate::delivery::Tryout;
use std::collections::BTreeSet;
use std::sync::Arc;

/// How a configuration runs until it is confirmed.
#[derive(Debug)]
pub struct Trial {
    /// What runs once it is.
    pub wanted: Arc<Config>,
    /// Results are taken and wait to be interpreted: it says otherwise what goes where, and as what.
    pub results_wait: bool,
    /// Names of the destinations to which it would send otherwise than before: what is queued for them waits.
    pub waiting: BTreeSet<String>,
    /// What these destinations and whoever watches the trial say to each other.
    pub tryout: Tryout,
}

impl Config {
    /// True when results wait to be interpreted.
    pub fn results_wait(&self) -> bool {
        self.trial.as_ref().is_some_and(|trial| trial.results_wait)
    }

    /// The trial that a destination of this name is in.
    pub fn tryout_of(&self, destination: &str) -> Option<&Tryout> {
        self.trial.as_ref().filter(|trial| trial.waiting.contains(destination)).map(|trial| &trial.tryout)
    }
}
