//! The names of topics, made and read in one place. Pure.
//!
//! ```text
//! afferent/v1/{tenant}/{box}/up/birth         retained  what the box is
//! afferent/v1/{tenant}/{box}/up/state         retained  whether it is there; its will says that it is not
//! afferent/v1/{tenant}/{box}/up/reported      retained  the configuration it runs
//! afferent/v1/{tenant}/{box}/up/if/{link}     retained  how a link is
//! afferent/v1/{tenant}/{box}/up/to/{dest}     retained  how a destination is
//! afferent/v1/{tenant}/{box}/up/alerts        retained  what is unusual now
//! afferent/v1/{tenant}/{box}/up/update        retained  where its last update stands
//! afferent/v1/{tenant}/{box}/up/metrics                 counters, at most once
//! afferent/v1/{tenant}/{box}/up/event                   what happened, at least once
//! afferent/v1/{tenant}/{box}/up/echo                    asks for an answer on dn/echo
//! afferent/v1/{tenant}/{box}/up/log/{session}           log lines, while somebody wants them, at least once
//! afferent/v1/{tenant}/{box}/dn/desired       retained  the configuration it shall run, signed
//! afferent/v1/{tenant}/{box}/dn/cmd/{id}                a command, signed
//! afferent/v1/{tenant}/{box}/dn/echo                    the answer to up/echo, its very bytes; none: ask again
//! ```
//!
//! Each part is a name as links have one ([`name_is_usable`]): no topic has a wildcard, a blank or an empty level.

use crate::config::check::name_is_usable;
use std::fmt;

/// How every topic begins. Another shape of what is said takes another number.
const ROOT: &str = "afferent/v1";

/// Where a box stands on the bus.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    tenant: String,
    gateway: String,
}

/// What a box says.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Up {
    /// What it is.
    Birth,
    /// Whether it is there.
    State,
    /// The configuration it runs.
    Reported,
    /// How a link is.
    Link(String),
    /// How a destination is.
    Destination(String),
    /// What is unusual now.
    Alerts,
    /// Where its last update stands.
    Update,
    /// Counters.
    Metrics,
    /// What happened.
    Event,
    /// Asks for an answer.
    Echo,
    /// Log lines of one session.
    Log(String),
}

/// What a box is told.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Down {
    /// The configuration it shall run.
    Desired,
    /// A command, by its id.
    Command(String),
    /// The answer to [`Up::Echo`].
    Echo,
}

impl Place {
    /// A place; `None` for names that cannot stand in a topic.
    pub fn new(tenant: &str, gateway: &str) -> Option<Place> {
        let usable = name_is_usable(tenant) && name_is_usable(gateway);
        usable.then(|| Place { tenant: tenant.to_string(), gateway: gateway.to_string() })
    }

    /// Who owns the box.
    pub fn tenant(&self) -> &str {
        &self.tenant
    }

    /// The box: the common name of its certificate.
    pub fn gateway(&self) -> &str {
        &self.gateway
    }

    /// The topic of what the box says.
    pub fn up(&self, what: &Up) -> String {
        format!("{ROOT}/{}/{}/up/{what}", self.tenant, self.gateway)
    }

    /// The topic of what the box is told.
    pub fn down(&self, what: &Down) -> String {
        format!("{ROOT}/{}/{}/dn/{what}", self.tenant, self.gateway)
    }

    /// The filter for everything the box is told.
    pub fn down_filter(&self) -> String {
        format!("{ROOT}/{}/{}/dn/#", self.tenant, self.gateway)
    }

    /// What of this box a topic is; `None` when it is none of those it is told on.
    pub fn is_told(&self, topic: &str) -> Option<Down> {
        let (place, down) = parse_down(topic)?;
        (place == *self).then_some(down)
    }
}

/// The filter for everything the boxes of a tenant say; of all tenants for `None`.
pub fn up_filter(tenant: Option<&str>) -> String {
    format!("{ROOT}/{}/+/up/#", tenant.unwrap_or("+"))
}

/// The filter for one kind of what the boxes of a tenant say; all links, destinations, log sessions with one of them.
pub fn filter(tenant: &str, what: &Up) -> String {
    let any = || "+".to_string();
    let kind = match what {
        Up::Link(_) => Up::Link(any()),
        Up::Destination(_) => Up::Destination(any()),
        Up::Log(_) => Up::Log(any()),
        one => one.clone(),
    };
    format!("{ROOT}/{tenant}/+/up/{kind}")
}

/// The filters for how the boxes of a tenant are: all they say but events, which whoever hears them has to keep.
pub fn state_filters(tenant: &str) -> Vec<String> {
    let (link, destination) = (Up::Link(String::new()), Up::Destination(String::new()));
    let kinds = [Up::Birth, Up::State, Up::Reported, Up::Alerts, Up::Update, link, destination, Up::Metrics, Up::Echo];
    kinds.iter().map(|kind| filter(tenant, kind)).collect()
}

/// Who says what on this topic.
pub fn parse_up(topic: &str) -> Option<(Place, Up)> {
    let (place, what) = split(topic, "up")?;
    let up = match what.split_once('/') {
        None => match what {
            "birth" => Up::Birth,
            "state" => Up::State,
            "reported" => Up::Reported,
            "metrics" => Up::Metrics,
            "alerts" => Up::Alerts,
            "update" => Up::Update,
            "event" => Up::Event,
            "echo" => Up::Echo,
            _ => return None,
        },
        Some((_, name)) if !name_is_usable(name) => return None,
        Some(("if", name)) => Up::Link(name.to_string()),
        Some(("to", name)) => Up::Destination(name.to_string()),
        Some(("log", name)) => Up::Log(name.to_string()),
        Some(_) => return None,
    };
    Some((place, up))
}

/// Who is told what on this topic.
pub fn parse_down(topic: &str) -> Option<(Place, Down)> {
    let (place, what) = split(topic, "dn")?;
    let down = match what.split_once('/') {
        None => match what {
            "desired" => Down::Desired,
            "echo" => Down::Echo,
            _ => return None,
        },
        Some(("cmd", id)) if name_is_usable(id) => Down::Command(id.to_string()),
        Some(_) => return None,
    };
    Some((place, down))
}

fn split<'t>(topic: &'t str, direction: &str) -> Option<(Place, &'t str)> {
    let rest = topic.strip_prefix(ROOT)?.strip_prefix('/')?;
    let (tenant, rest) = rest.split_once('/')?;
    let (gateway, rest) = rest.split_once('/')?;
    let what = rest.strip_prefix(direction)?.strip_prefix('/')?;
    Some((Place::new(tenant, gateway)?, what))
}

impl Up {
    /// True for what the broker keeps and gives to whoever asks later.
    pub fn is_retained(&self) -> bool {
        matches!(
            self,
            Up::Birth | Up::State | Up::Reported | Up::Alerts | Up::Update | Up::Link(_) | Up::Destination(_)
        )
    }
}

impl fmt::Display for Up {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Up::Birth => f.write_str("birth"),
            Up::State => f.write_str("state"),
            Up::Reported => f.write_str("reported"),
            Up::Link(name) => write!(f, "if/{name}"),
            Up::Destination(name) => write!(f, "to/{name}"),
            Up::Alerts => f.write_str("alerts"),
            Up::Update => f.write_str("update"),
            Up::Metrics => f.write_str("metrics"),
            Up::Event => f.write_str("event"),
            Up::Echo => f.write_str("echo"),
            Up::Log(session) => write!(f, "log/{session}"),
        }
    }
}

impl fmt::Display for Down {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Down::Desired => f.write_str("desired"),
            Down::Command(id) => write!(f, "cmd/{id}"),
            Down::Echo => f.write_str("echo"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_read_as_they_are_made() {
        let place = Place::new("acme", "bench-1").unwrap();
        let ups = [Up::Birth, Up::State, Up::Reported, Up::Alerts, Up::Update, Up::Metrics, Up::Event, Up::Echo];
        let named = ["chemistry", "a.b_c"].map(str::to_string);
        let named = named.into_iter().flat_map(|n| [Up::Link(n.clone()), Up::Destination(n.clone()), Up::Log(n)]);
        for up in ups.into_iter().chain(named) {
            assert_eq!(parse_up(&place.up(&up)), Some((place.clone(), up.clone())));
            assert_eq!(parse_down(&place.up(&up)), None);
        }
        for down in [Down::Desired, Down::Echo, Down::Command("0198c0de".to_string())] {
            assert_eq!(place.is_told(&place.down(&down)), Some(down.clone()));
            assert_eq!(Place::new("acme", "bench-2").unwrap().is_told(&place.down(&down)), None);
        }
        assert_eq!(place.up(&Up::Link("chemistry".into())), "afferent/v1/acme/bench-1/up/if/chemistry");
    }

    /// One of each kind. One that is added does not compile before it is here.
    fn kinds() -> Vec<Up> {
        let any = || "+".to_string();
        let next = |up: &Up| match up {
            Up::Birth => Some(Up::State),
            Up::State => Some(Up::Reported),
            Up::Reported => Some(Up::Link(any())),
            Up::Link(_) => Some(Up::Destination(any())),
            Up::Destination(_) => Some(Up::Alerts),
            Up::Alerts => Some(Up::Update),
            Up::Update => Some(Up::Metrics),
            Up::Metrics => Some(Up::Event),
            Up::Event => Some(Up::Echo),
            Up::Echo => Some(Up::Log(any())),
            Up::Log(_) => None,
        };
        std::iter::successors(Some(Up::Birth), next).collect()
    }

    #[test]
    fn the_shipped_rules_let_boxes_say_each_of_these_and_nothing_else() {
        let rules = crate::desk::MOSQUITTO_ACL.lines().filter_map(|line| line.strip_prefix("pattern write afferent"));
        let rules: std::collections::BTreeSet<&str> = rules.collect();
        let said = kinds().iter().map(|up| format!("/v1/acme/%u/up/{up}")).collect::<Vec<_>>();
        assert_eq!(rules, said.iter().map(String::as_str).collect());
    }

    #[test]
    fn what_is_no_topic_of_ours_is_none() {
        for topic in [
            "",
            "afferent/v1",
            "afferent/v2/acme/bench-1/up/state",
            "afferent/v1/acme/bench-1/up",
            "afferent/v1/acme/bench-1/up/",
            "afferent/v1/acme/bench-1/up/if/",
            "afferent/v1/acme/bench-1/up/if/a/b",
            "afferent/v1/acme/bench-1/up/other",
            "afferent/v1/acme//up/state",
            "afferent/v1/+/bench-1/up/state",
            "afferent/v1/acme/bench-1/dn/cmd/#",
        ] {
            assert_eq!((parse_up(topic), parse_down(topic)), (None, None), "{topic}");
        }
        for (tenant, gateway) in [("", "a"), ("a", ""), ("a/b", "c"), ("+", "a"), ("a", "#"), ("a b", "c")] {
            assert_eq!(Place::new(tenant, gateway), None);
        }
    }
}
