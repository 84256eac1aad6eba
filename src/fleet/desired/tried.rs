//! A configuration as it runs in its trial: so that the one before can take up whatever came meanwhile.
//!
//! | the revision | in its trial |
//! |---|---|
//! | says anything else of destinations than where they stand and how patient to be with them, or of the box's name or time zone | results wait ([`Trial::results_wait`]): they are taken, and go out by the configuration that runs when the trial is over |
//! | says anything else of a destination than how patient to be with it | what is queued for it waits ([`Trial::waiting`]) |
//! | changes anything else | as it says |
//!
//! So nothing is queued under a name that only the trial had, nothing is missed by a destination that the trial took away,
//! and nobody keeps for the right EHR what only the trial sent there. Nothing of this has to be remembered or undone: it
//! is the same after a crash. What waits proves nothing: destinations are asked whether they are there, and at the end a
//! single message is tried (three where they are turned down), which the trial does not take for delivered before it is
//! over ([`crate::delivery::tryout`]).
//!
//! The settings that make nothing wait are listed here. One that is not known here makes things wait.

use crate::config::{Config, Trial};
use crate::delivery::{self, Tryout};
use std::collections::BTreeSet;
use std::sync::Arc;

/// `wanted` as it runs until it is confirmed, in the place of `previous`.
pub(super) fn in_trial(previous: &Config, wanted: &Arc<Config>) -> Config {
    let before: Vec<delivery::Config> = previous.destinations_called().iter().map(sent).collect();
    let after = wanted.destinations_called();
    let waiting = after.iter().filter(|to| !before.contains(&sent(to))).map(|to| to.name.clone());
    let trial = Trial {
        wanted: wanted.clone(),
        results_wait: sends_otherwise(previous, wanted),
        waiting: waiting.collect(),
        tryout: Tryout::default(),
    };
    let mut tried = (**wanted).clone();
    tried.trial = Some(Arc::new(trial));
    tried
}

/// True when something that came over a line of `previous` would go elsewhere, or as something else. The line may be gone:
/// a person can let go of what it brought, and what was not read yet is read.
pub(super) fn sends_otherwise(previous: &Config, wanted: &Config) -> bool {
    let lines = lines(previous);
    let sorted = |config: &Config| {
        let mut destinations = config.destinations.clone();
        destinations.sort_by(|a, b| a.name.cmp(&b.name));
        destinations
    };
    let (before, after) = (sorted(previous), sorted(wanted));
    let goes_as_before = |(before, after): (&delivery::Config, &delivery::Config)| {
        queued(before) == queued(after) && lines.iter().all(|line| before.names(line) == after.names(line))
    };
    // The box's name and zone stand in every message.
    let of_box = |config: &Config| (config.gateway.name(), config.gateway.time_zone());
    of_box(previous) != of_box(wanted) || before.len() != after.len() || !before.iter().zip(&after).all(goes_as_before)
}

/// A destination without what says nothing of the messages that are queued for it; over which lines they come is looked
/// at line by line.
fn queued(to: &delivery::Config) -> delivery::Config {
    let none = delivery::Config::default();
    delivery::Config {
        address: none.address,
        url: none.url,
        plain: none.plain,
        tls: none.tls,
        oauth: none.oauth,
        called_ae_title: none.called_ae_title,
        calling_ae_title: none.calling_ae_title,
        deidentify: none.deidentify,
        coerce: none.coerce,
        commitment: none.commitment,
        ..sent(to)
    }
}

/// A destination without what says nothing of where a queued message goes and what the receiver then has.
fn sent(to: &delivery::Config) -> delivery::Config {
    let none = delivery::Config::default();
    delivery::Config {
        links: none.links,
        order: none.order,
        bandwidth_kb_s: none.bandwidth_kb_s,
        windows: none.windows,
        commitment_wait_s: none.commitment_wait_s,
        commitment_days: none.commitment_days,
        connections: none.connections,
        on_reject: none.on_reject,
        attempts_max: none.attempts_max,
        retry_min_ms: none.retry_min_ms,
        retry_max_ms: none.retry_max_ms,
        connect_timeout_ms: none.connect_timeout_ms,
        ack_timeout_ms: none.ack_timeout_ms,
        idle_close_ms: none.idle_close_ms,
        ..to.clone()
    }
}

/// The names under which results and images come in.
pub(super) fn lines(config: &Config) -> BTreeSet<&str> {
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

    fn tried(old: &str, new: &str) -> Arc<Trial> {
        let config = |text: &str| parse("test.toml", text).unwrap().config;
        in_trial(&config(old), &Arc::new(config(new))).trial.unwrap()
    }

    #[test]
    fn i7_results_wait_when_they_would_go_elsewhere_and_only_then() {
        let old = format!("{LINKS}{MORE}{}", to("ehr", 2001, ""));
        let waits = |links: &str, destinations: &str| tried(&old, &format!("{links}{destinations}")).results_wait;
        let both = format!("{LINKS}{MORE}");
        assert!(!waits(&both, &to("ehr", 2009, "")), "it is the same message, wherever it goes");
        assert!(waits(&both, &to("ehr", 2001, "version = \"2.4\"\n")), "what is mapped stays as it is");
        assert!(waits(&both, &to("ehr", 2001, "patient_authority = \"H\"\n")));
        assert!(!waits(LINKS, &to("ehr", 2001, "")), "what does not come goes nowhere");
        assert!(!waits(&both, &to("ehr", 2001, "links = [\"a\", \"b\"]\n")), "all of them, said otherwise");
        assert!(waits(&both, &to("ehr", 2001, "links = [\"a\"]\n")));
        assert!(waits(&both, &to("lis", 2001, "")));
        assert!(waits(&both, &format!("{}{}", to("ehr", 2001, ""), to("lis", 2002, ""))));
        assert!(waits(&both, &to("ehr", 2001, "protocol = \"dicom\"\ncalled_ae_title = \"P\"\n")));
        let of_box = |set: &str| tried(&old, &format!("{old}[gateway]\n{set}\n")).results_wait;
        assert!(of_box("name = \"GW-2\"") && of_box("time_zone = \"Asia/Kathmandu\""), "it stands in each message");
        let of_both = format!("{both}{}", to("ehr", 2001, "links = [\"a\", \"b\"]\n"));
        let of_one = format!("{LINKS}{}", to("ehr", 2001, "links = [\"a\"]\n"));
        assert!(tried(&of_both, &of_one).results_wait, "what a line brought that is gone may still be read or let go");
        let named = format!("{LINKS}{}", to("ehr", 2001, "links = [\"a\"]\n"));
        let with_new = format!("{LINKS}{MORE}{}", to("ehr", 2001, "links = [\"a\", \"b\"]\n"));
        assert!(!tried(&named, &with_new).results_wait, "a line that is new has no other way");
    }

    #[test]
    fn i7_what_is_queued_waits_for_a_destination_that_stands_elsewhere_and_only_for_that() {
        let old = format!("{LINKS}{}{}", to("ehr", 2001, ""), to("lis", 2002, ""));
        let waiting = |ehr: &str, lis: &str| -> Vec<String> {
            let trial = tried(&old, &format!("{LINKS}{ehr}{lis}"));
            trial.waiting.iter().cloned().collect()
        };
        let (ehr, lis) = (to("ehr", 2001, ""), to("lis", 2002, ""));
        assert!(waiting(&ehr, &lis).is_empty());
        assert_eq!(waiting(&ehr, &to("lis", 2003, "")), ["lis"]);
        assert_eq!(waiting(&to("his", 2001, ""), &lis), ["his"]);
        assert_eq!(waiting(&to("ehr", 2001, "[destination.tls]\nserver_name = \"ehr\"\n"), &lis), ["ehr"]);
        let patient = "connections = 4\nretry_max_ms = 90000\non_reject = \"hold-lane\"\nlinks = [\"a\"]\n";
        assert!(waiting(&to("ehr", 2001, patient), &lis).is_empty());
        let pacs = |title: &str| to("lis", 2002, &format!("protocol = \"dicom\"\ncalled_ae_title = \"{title}\"\n"));
        let old = format!("{LINKS}{ehr}{}", pacs("P"));
        assert_eq!(tried(&old, &format!("{LINKS}{ehr}{}", pacs("Q"))).waiting.len(), 1);
        let named = format!("{LINKS}{ehr}{}[dicom]\nlisten = \"127.0.0.1:1104\"\nae_title = \"BOX\"\n", pacs("P"));
        assert_eq!(tried(&old, &named).waiting.len(), 1, "the PACS is called by another title");
    }
}
