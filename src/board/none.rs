//! In the place of `front.rs` in a program that was built without the hardware of a box: nothing is shown or asked.

use super::{Config, Sources};
use crate::journal::Journal;
use crate::service::Lease;

/// No board.
#[derive(Default)]
pub struct Front;

impl Front {
    /// There is none.
    pub fn start(_: Option<&Config>, _: &str) -> Front {
        Front
    }

    /// Nobody hears of a supply.
    pub fn guards(&self, _: &Journal) {}

    /// There is no watchdog to be fed.
    pub fn lease(&self) -> Option<Lease> {
        None
    }

    /// The gateway runs.
    pub fn runs(&self, _: impl FnOnce() -> Sources) {}

    /// It stops in order.
    pub fn stopping(&self) {}

    /// It has stopped.
    pub fn stopped(&self) {}

    /// Never.
    pub fn supply_lost(&self) -> impl Future<Output = ()> + use<> {
        std::future::pending()
    }

    /// Never.
    pub fn supply_back(&self) -> impl Future<Output = ()> + use<> {
        std::future::pending()
    }

    /// Never.
    pub async fn reset_asked(&mut self) {
        std::future::pending().await
    }

    /// Nothing is lit.
    pub async fn end(self) {}
}
