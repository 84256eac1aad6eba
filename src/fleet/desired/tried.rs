//! A configuration as it runs in its trial: so that the one before can take up whatever came meanwhile.
//!
//! | the revision | in its trial |
//! |---|---|
//! | names other destinations, or sends to one what it did not get, or not what it got, or in another shape | results wait ([`Config::results_wait`]): they are taken, and go out by the configuration that runs when the trial is over |
//! | changes a destination otherwise, such as where it stands | what waits goes there, and what that refuses is kept at the head of its lane, not parked |
//! | changes anything else | as it says |
//!
//! So nothing is queued under a name that only the trial had, nothing is missed by a destination that the trial took away,
//! and what was refused goes out again by itself. Nothing of this has to be remembered or undone: it is the same after a
//! crash.

use crate::config::Config;
use crate::delivery::{self, config::OnReject};
use std::collections::BTreeSet;

/// `wanted` as it runs until it is confirmed, in the place of `previous`.
pub(super) fn in_trial(previous: &Config, wanted: &Config) -> Config {
    let mut tried = wanted.clone();
    tried.results_wait = sends_otherwise(previous, wanted);
    for to in &mut tried.destinations {
        if !previous.destinations.contains(to) {
            to.on_reject = OnReject::HoldLane;
        }
    }
    tried
}

/// True when `running` is as it is only in a trial of `wanted`.
pub(super) fn is_for_a_trial(running: &Config, wanted: &Config) -> bool {
    running.results_wait || running.destinations != wanted.destinations
}

/// True when something that came over a line of `previous` would go elsewhere. The line may be gone: a person can let go
/// of what it brought, and what was not read yet is read.
fn sends_otherwise(previous: &Config, wanted: &Config) -> bool {
    let lines = lines(previous);
    let sorted = |config: &Config| {
        let mut destinations = config.destinations.clone();
        destinations.sort_by(|a, b| a.name.cmp(&b.name));
        destinations
    };
    let (before, after) = (sorted(previous), sorted(wanted));
    let goes_as_before = |(before, after): (&delivery::Config, &delivery::Config)| {
        chosen(before) == chosen(after) && lines.iter().all(|line| before.names(line) == after.names(line))
    };
    before.len() != after.len() || !before.iter().zip(&after).all(goes_as_before)
}

/// What a destination is called, what it is to get, but for the lines that this comes over, and the shape it gets it in.
fn chosen(to: &delivery::Config) -> impl PartialEq + '_ {
    let images = (&to.calling_ae_titles, &to.modalities, &to.body_parts, &to.study_descriptions);
    let names = (&to.sending_application, &to.sending_facility, &to.receiving_application, &to.receiving_facility);
    let shape = (&to.protocol, &to.version, &to.charset, &to.write, names, &to.patient_authority, &to.fhir, &to.lane);
    (&to.name, images, to.mpps, &to.order_status, &to.imaging, shape)
}

/// The names under which results and images come in.
fn lines(config: &Config) -> BTreeSet<&str> {
    let modalities = config.modalities.iter().map(|modality| modality.name.as_str());
    config.links.iter().map(|link| link.name.as_str()).chain(modalities).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    const LINKS: &str = "[[link]]\nname = \"a\"\nlisten = \"127.0.0.1:1001\"\n";
    const MORE: &str = "[[link]]\nname = \"b\"\nlisten = \"127.0.0.1:1002\"\n";

    fn to(name: &str, port: u16, more: &str) -> String {
        format!("[[destination]]\nname = \"{name}\"\naddress = \"127.0.0.1:{port}\"\n{more}")
    }

    fn tried(old: &str, new: &str) -> Config {
        let config = |text: &str| parse("test.toml", text).unwrap().config;
        in_trial(&config(old), &config(new))
    }

    #[test]
    fn i7_results_wait_when_they_would_go_elsewhere_and_only_then() {
        let old = format!("{LINKS}{MORE}{}", to("ehr", 2001, ""));
        let waits = |links: &str, destinations: &str| tried(&old, &format!("{links}{destinations}")).results_wait;
        let both = format!("{LINKS}{MORE}");
        assert!(!waits(&both, &to("ehr", 2009, "")), "where it stands is for its lane to try");
        assert!(waits(&both, &to("ehr", 2001, "version = \"2.4\"\n")), "what is mapped stays as it is");
        assert!(waits(&both, &to("ehr", 2001, "patient_authority = \"H\"\n")));
        assert!(!waits(LINKS, &to("ehr", 2001, "")), "what does not come goes nowhere");
        assert!(!waits(&both, &to("ehr", 2001, "links = [\"a\", \"b\"]\n")), "all of them, said otherwise");
        assert!(waits(&both, &to("ehr", 2001, "links = [\"a\"]\n")));
        assert!(waits(&both, &to("lis", 2001, "")));
        assert!(waits(&both, &format!("{}{}", to("ehr", 2001, ""), to("lis", 2002, ""))));
        assert!(waits(&both, &to("ehr", 2001, "protocol = \"dicom\"\ncalled_ae_title = \"P\"\n")));
        let of_both = format!("{both}{}", to("ehr", 2001, "links = [\"a\", \"b\"]\n"));
        let of_one = format!("{LINKS}{}", to("ehr", 2001, "links = [\"a\"]\n"));
        assert!(tried(&of_both, &of_one).results_wait, "what a line brought that is gone may still be read or let go");
        let named = format!("{LINKS}{}", to("ehr", 2001, "links = [\"a\"]\n"));
        let with_new = format!("{LINKS}{MORE}{}", to("ehr", 2001, "links = [\"a\", \"b\"]\n"));
        assert!(!tried(&named, &with_new).results_wait, "a line that is new has no other way");
    }

    #[test]
    fn i7_what_another_destination_refuses_is_not_parked_in_a_trial() {
        let old = format!("{LINKS}{}{}", to("ehr", 2001, ""), to("lis", 2002, ""));
        let new = format!("{LINKS}{}{}", to("ehr", 2001, ""), to("lis", 2003, ""));
        let tried = tried(&old, &new);
        let how: Vec<OnReject> = tried.destinations.iter().map(|to| to.on_reject).collect();
        assert_eq!(how, [OnReject::Park, OnReject::HoldLane]);
        let wanted = parse("test.toml", &new).unwrap().config;
        assert!(is_for_a_trial(&tried, &wanted) && !is_for_a_trial(&wanted, &wanted));
    }
}
