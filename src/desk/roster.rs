//! The fleet as it is heard: one row for each box, from what the broker keeps and what comes. Pure.

use super::Said;
use crate::fleet::topic::Up;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Boxes, links and destinations kept at most; a fleet that is larger takes several tenants.
const BOXES_MAX: usize = 20_000;
const PARTS_MAX: usize = 256;

/// One box.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Row {
    /// It is connected.
    pub online: bool,
    /// How often its program has been started.
    pub epoch: u64,
    /// Version of its program.
    pub version: String,
    /// What it is told reaches it.
    pub downlink: bool,
    /// Its links: whether each is up, and what came over it since its program started.
    pub links: BTreeMap<String, Link>,
    /// Its destinations: what waits for each.
    pub destinations: BTreeMap<String, Destination>,
    /// What is unusual there now, and since when.
    pub alerts: BTreeMap<String, String>,
}

/// A link of a box.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Link {
    /// Its line is open.
    pub up: bool,
    /// Messages taken into custody.
    pub messages: u64,
    /// Refusals.
    pub naks: u64,
}

/// A destination of a box.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Destination {
    /// It takes messages.
    pub up: bool,
    /// Messages on the way.
    pub queued: u64,
    /// Messages that wait for a person.
    pub parked: u64,
    /// Age of the oldest on the way, seconds.
    pub oldest_s: Option<u64>,
}

/// All boxes by name.
#[derive(Debug, Default)]
pub struct Roster {
    boxes: BTreeMap<String, Row>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Birth {
    epoch: u64,
    version: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct State {
    online: bool,
    epoch: u64,
    downlink: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Alerts {
    alerts: Vec<Alert>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Alert {
    trouble: String,
    of: Option<String>,
    since: String,
}

impl Roster {
    /// A box said something. What cannot be read changes nothing.
    pub fn heard(&mut self, said: &Said) {
        let name = said.place.gateway();
        if self.boxes.len() >= BOXES_MAX && !self.boxes.contains_key(name) {
            return;
        }
        let row = self.boxes.entry(name.to_string()).or_default();
        match &said.what {
            Up::Birth => {
                let Ok(birth) = serde_json::from_slice::<Birth>(&said.payload) else { return };
                (row.epoch, row.version) = (row.epoch.max(birth.epoch), birth.version);
            }
            Up::State => {
                let Ok(state) = serde_json::from_slice::<State>(&said.payload) else { return };
                // A will of an earlier run that comes late says nothing of this one.
                if state.epoch >= row.epoch {
                    (row.online, row.epoch, row.downlink) = (state.online, state.epoch, state.downlink == "proven");
                }
            }
            Up::Link(link) => put(&mut row.links, link, &said.payload),
            Up::Destination(destination) => put(&mut row.destinations, destination, &said.payload),
            Up::Alerts => {
                let Ok(told) = serde_json::from_slice::<Alerts>(&said.payload) else { return };
                let alerts = told.alerts.into_iter().take(PARTS_MAX);
                let named = |alert: Alert| match alert.of {
                    Some(of) => (format!("{} of {of}", alert.trouble), alert.since),
                    None => (alert.trouble, alert.since),
                };
                row.alerts = alerts.map(named).collect();
            }
            Up::Reported | Up::Metrics | Up::Event | Up::Echo | Up::Log(_) => {}
        }
    }

    /// All boxes, in order of name.
    pub fn rows(&self) -> &BTreeMap<String, Row> {
        &self.boxes
    }
}

fn put<T: for<'de> Deserialize<'de>>(parts: &mut BTreeMap<String, T>, name: &str, payload: &[u8]) {
    if let Ok(part) = serde_json::from_slice(payload)
        && (parts.len() < PARTS_MAX || parts.contains_key(name))
    {
        parts.insert(name.to_string(), part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::topic::Place;

    fn hear(roster: &mut Roster, what: Up, payload: &str) {
        let place = Place::new("acme", "bench-1").unwrap();
        roster.heard(&Said { place, what, payload: payload.as_bytes().to_vec() });
    }

    #[test]
    fn a_row_is_what_the_box_said_last() {
        let mut roster = Roster::default();
        hear(&mut roster, Up::Birth, r#"{"v":1,"epoch":3,"version":"0.1.0","ports":[]}"#);
        hear(&mut roster, Up::State, r#"{"v":1,"online":true,"epoch":3,"downlink":"proven"}"#);
        hear(&mut roster, Up::Link("chemistry".into()), r#"{"up":true,"messages":7,"naks":1,"reasons":{}}"#);
        hear(&mut roster, Up::Destination("ehr".into()), r#"{"up":false,"queued":4,"parked":1,"oldest_s":60}"#);
        let alert = r#"{"trouble":"silence","of":"chemistry","since":"2026-09-21T14:13:20Z","figure":9,"limit":1}"#;
        hear(&mut roster, Up::Alerts, &format!("{{\"v\":1,\"alerts\":[{alert}]}}"));
        hear(&mut roster, Up::State, r#"{"v":1,"online":false,"epoch":2}"#);
        hear(&mut roster, Up::Link("chemistry".into()), "no json");
        let row = &roster.rows()["bench-1"];
        assert!(row.online && row.downlink, "an old will says nothing of this run");
        assert_eq!((row.links["chemistry"].messages, row.destinations["ehr"].queued), (7, 4));
        assert_eq!(row.alerts["silence of chemistry"], "2026-09-21T14:13:20Z");
        hear(&mut roster, Up::Alerts, r#"{"v":1,"alerts":[]}"#);
        hear(&mut roster, Up::State, r#"{"v":1,"online":false,"epoch":3}"#);
        let row = &roster.rows()["bench-1"];
        assert!(!row.online && row.alerts.is_empty());
    }
}
