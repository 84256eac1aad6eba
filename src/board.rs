//! `[board]`: the box's own hardware, where it has any ([`afferent_board`]): LEDs, button, display, sensors, supply.
//!
//! A thread of its own shows what the gateway knows and hears what is asked at the box, and another watches the supply and
//! feeds a hardware watchdog; neither waits for a display or a sensor whose bus hangs, and nothing of the data path for any
//! of them. A board with half its parts missing is a few lines of the log.
//!
//! | asked at the box | what becomes of it |
//! |---|---|
//! | identify, set-up | shown on LEDs and display; a line of the log; a desk may ask for the first as well |
//! | factory reset | refused while anything is here that went nowhere yet; else the gateway stops, and the box is reset ([`crate::reset`]) |
//! | the supply goes | whatever the gateway is busy with, nothing is acknowledged any more, the journal's log is written into the journal, the LEDs go dark; then it stops in order, and ends when the supply is back, to be started anew |

#[cfg_attr(not(feature = "board"), path = "board/none.rs")]
pub mod front;

use crate::delivery::DeliveryCounters;
use crate::fleet::Fleet;
use crate::journal::Journal;
use crate::link::LinkCounters;
use crate::watch::station::Standing;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::watch;

/// The box's own hardware: LEDs, button, display, sensors, supply.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Which board it is: "cm4-carrier-1", "beaglebone-1", "x86-1", or the path of a file that says what another one has.
    pub definition: String,
    /// Where the box's page is, for whoever stands in front of it: shown with a code for a telephone; left out, the
    /// display shows no address of a page.
    pub page: Option<String>,
    /// A folder in place of the hardware, a file for each part, to try a definition on another machine.
    pub folder: Option<PathBuf>,
    /// Serial ports that the board switches, and that are to be other than its definition says, one table each.
    #[serde(rename = "port")]
    pub ports: Vec<Port>,
}

/// The mode of a serial port that the board switches.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Port {
    /// Name of the port, as it stands on the box.
    pub name: String,
    /// What it is: "rs232", "rs485", "rs485-terminated" or "rs422".
    pub mode: String,
}

/// Where it is read how the box is.
pub struct Sources {
    /// The journal.
    pub journal: Journal,
    /// What is counted of links.
    pub links: watch::Receiver<Vec<Arc<LinkCounters>>>,
    /// What is counted of destinations.
    pub destinations: watch::Receiver<Vec<Arc<DeliveryCounters>>>,
    /// What is unusual now.
    pub alerts: Standing,
    /// The fleet; none where the box is on its own.
    pub fleet: Option<Fleet>,
}

#[cfg(feature = "board")]
mod definition {
    use super::Config;
    use afferent_board::definition::{Definition, Mode, TEXT_MAX_BYTES, builtin};
    use std::collections::BTreeMap;
    use std::io::Read;

    impl Config {
        /// What the board has.
        ///
        /// # Errors
        /// What is wrong with the definition, a sentence each.
        pub fn read(&self) -> Result<Definition, Vec<String>> {
            let name = self.definition.as_str();
            let text = match builtin(name) {
                Some(text) => text.to_string(),
                None => read_bounded(name).map_err(|error| vec![format!("{name}: {error}")])?,
            };
            Definition::parse(name, &text).map_err(|faults| faults.iter().map(ToString::to_string).collect())
        }

        /// The modes that are other than the definition says; those of no such name are not among them.
        pub fn modes(&self) -> BTreeMap<String, Mode> {
            let mode = |port: &super::Port| Some((port.name.clone(), Mode::of(&port.mode)?));
            self.ports.iter().filter_map(mode).collect()
        }
    }

    fn read_bounded(path: &str) -> std::io::Result<String> {
        let mut text = String::new();
        let open = crate::disk::open_regular(std::path::Path::new(path))?;
        open.take(TEXT_MAX_BYTES as u64 + 1).read_to_string(&mut text)?;
        Ok(text)
    }
}
