//! In the place of `front.rs` in a program that was built without the hardware of a box: nothing is shown or asked.

use super::{Asked, Config, Sources};

/// No board.
#[derive(Default)]
pub struct Front;

impl Front {
    /// There is none.
    pub fn start(_: Option<&Config>, _: &str) -> Front {
        Front
    }

    /// The gateway runs.
    pub fn runs(&self, _: impl FnOnce() -> Sources) {}

    /// It stops in order.
    pub fn stopping(&self) {}

    /// It has stopped.
    pub fn stopped(&self) {}

    /// Never.
    pub fn due(&self) -> impl Future<Output = ()> + use<> {
        std::future::pending()
    }

    /// Nobody waits for it.
    pub fn alive(&mut self, _: &[String]) {}

    /// Nothing ever is.
    pub async fn asked(&mut self) -> Asked {
        std::future::pending().await
    }

    /// Nothing is lit.
    pub async fn end(self) {}
}
