//! Behaviour that data cannot say. A closed list: each variant names the driver that needed it.

use serde::Deserialize;

/// What an instrument does that no key of `driver.toml` describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Quirk {
    /// The instrument's comment on a result (C.3 = I) is the number of a data alarm; `0` means none. Any other number
    /// that `failure.harmless_alarms` does not list puts the result in doubt. Needed by roche-cobas-c311 and
    /// roche-cobas-e411.
    CommentIsDataAlarm,
    /// A result without a value was not measured, because another one made it pointless (no resistance where there is
    /// no germ). It is refused as such and not held. Needed by cepheid-genexpert.
    EmptyIsNotMeasured,
}
