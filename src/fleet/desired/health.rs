//! How a box is around a trial: what is well, under which name another configuration has it, and what that takes away.

use super::ledger::Before;
use super::{Why, probe, tried};
use crate::config::Config;
use crate::delivery::DeliveryCounters;
use crate::fleet::snapshot::{QUEUE_COUNTED_MAX, Sources};
use crate::journal::{Journal, JournalError};
use crate::link;
use crate::link::dicom::LINK;
use crate::link::directory::look;
use std::collections::{BTreeMap, BTreeSet};

/// A serial port does not say whether an instrument is at its other end; one that was heard within this time is.
const SERIAL_QUIET_MS: i64 = 600_000;

/// What becomes of names in another configuration.
#[derive(Debug, Default, PartialEq, Eq)]
struct Names {
    /// By the old name, the new one of what stands in the same place.
    renamed: BTreeMap<String, String>,
    /// Names that are no more, those that are others now among them.
    gone: BTreeSet<String>,
    /// Names that stand where nothing did.
    new: BTreeSet<String>,
}

impl Names {
    /// Both lists have names, and where what they name stands.
    fn between(old: &[(String, String)], new: &[(String, String)]) -> Names {
        let is_in = |list: &[(String, String)], name: &String| list.iter().any(|(other, _)| other == name);
        let mut fresh: Vec<_> = new.iter().filter(|(name, _)| !is_in(old, name)).collect();
        let mut names = Names::default();
        for (name, place) in old.iter().filter(|(name, _)| !is_in(new, name)) {
            names.gone.insert(name.clone());
            if let Some(at) = fresh.iter().position(|(_, other)| other == place) {
                names.renamed.insert(name.clone(), fresh.remove(at).0.clone());
            }
        }
        names.new = fresh.into_iter().map(|(name, _)| name.clone()).collect();
        names
    }

    /// Names as the other configuration has them, without those for which it has nothing.
    fn translate(&self, names: BTreeSet<String>) -> BTreeSet<String> {
        let there = |name: String| match self.renamed.get(&name) {
            Some(other) => Some(other.clone()),
            None => (!self.gone.contains(&name)).then_some(name),
        };
        names.into_iter().filter_map(there).collect()
    }
}

/// Everything that is counted as a link, and where it stands.
fn links(config: &Config) -> Vec<(String, String)> {
    let links = config.links.iter().map(|link| {
        let place = (&link.listen, &link.dial, &link.serial, &link.directory);
        (link.name.clone(), format!("{place:?}"))
    });
    let orders = config.orders.iter().map(|orders| (orders.name.clone(), format!("orders {}", orders.listen)));
    let feeds = config.order_feeds.iter().map(|feed| (feed.name.clone(), format!("feed {}", feed.url)));
    let modalities =
        config.modalities.iter().map(|modality| (modality.name.clone(), format!("modality {}", modality.ae_title)));
    let dicom = config.dicom.iter().map(|_| (LINK.to_string(), LINK.to_string()));
    links.chain(orders).chain(feeds).chain(modalities).chain(dicom).collect()
}

fn destinations_of(config: &Config) -> Vec<(String, String)> {
    config.destinations.iter().map(|to| (to.name.clone(), place(to))).collect()
}

/// Where a destination stands and who is called there, whatever its name is.
pub(super) fn place(to: &crate::delivery::Config) -> String {
    let titles = (&to.called_ae_title, &to.calling_ae_title);
    format!("{:?}", (to.protocol, &to.address, &to.url, &to.tls, titles, &to.oauth))
}

/// How the box is before `wanted` runs: what is well, by the names under which it has that, and destinations that are new
/// or stand elsewhere, which were tried. What the bus is, is not known here.
pub(super) async fn before(sources: &Sources, wanted: &Config) -> Before {
    let running = sources.config();
    let of_links = Names::between(&links(&running), &links(wanted));
    let of_destinations = Names::between(&destinations_of(&running), &destinations_of(wanted));
    let counts = sources.links();
    let which = |is: &dyn Fn(&crate::link::LinkCounts) -> bool| -> BTreeSet<String> {
        let these = counts.iter().filter(|(_, link)| is(&link.counts()));
        of_links.translate(these.map(|(name, _)| name.as_str().to_string()).collect())
    };
    let (links, connected) = (which(&|link| link.up), which(&|link| link.open_connections > 0));
    let reached = reached(sources).await;
    let well = sources.destinations().into_iter().filter(|(_, to)| is_well(to, u64::MAX, &reached));
    let mut destinations = of_destinations.translate(well.map(|(name, _)| name.as_str().to_string()).collect());
    destinations.extend(of_destinations.new);
    // One that stands elsewhere now was tried too.
    let (ran, wants) = (destinations_of(&running), destinations_of(wanted));
    let was_there = |place: &String| ran.iter().any(|(_, ran)| ran == place);
    destinations.extend(wants.into_iter().filter(|(_, place)| !was_there(place)).map(|(name, _)| name));
    Before { links, connected, destinations, ..Before::default() }
}

/// Destinations that answer. A lane that has had an answer knows it by itself, and is not dialled beside: there are EHRs
/// that take one connection.
pub(super) async fn reached(sources: &Sources) -> BTreeSet<String> {
    let answered = |to: &DeliveryCounters| to.health().answered_ms.is_some();
    let counters = sources.destinations().into_iter();
    let mut reached: BTreeSet<String> =
        counters.filter(|(_, to)| answered(to)).map(|(name, _)| name.as_str().to_string()).collect();
    let config = sources.config();
    let others: Vec<_> = config.destinations.iter().filter(|to| !reached.contains(&to.name)).collect();
    reached.extend(probe::reached(&others).await);
    reached
}

/// True for a destination that takes messages: what was tried last got through, or something has since this many had been
/// delivered; where nothing was tried it can be reached. One that refuses all it gets is there, and is not well.
pub(super) fn is_well(to: &DeliveryCounters, delivered_before: u64, reached: &BTreeSet<String>) -> bool {
    let health = to.health();
    let gets_through = !health.failing || health.delivered > delivered_before;
    health.up && gets_through && (health.answered_ms.is_some() || reached.contains(to.name()))
}

/// Whether the running configuration may be left for `wanted`: what that takes away is not needed any more. Blocks on the
/// journal.
///
/// # Errors
/// [`Why::LinkInUse`], [`Why::LinkRenamed`], [`Why::Undelivered`], or [`Why::Disk`] when that cannot be told.
pub(super) fn may_leave(sources: &Sources, wanted: &Config) -> Result<(), Why> {
    let running = sources.config();
    let names = Names::between(&links(&running), &links(wanted));
    let counters = sources.links();
    for (name, counters) in &counters {
        let name = name.as_str();
        let link = running.links.iter().find(|link| link.name == name);
        // A serial port is open whether an instrument is at its other end or not.
        let has_peer = link.is_none_or(|link| link.listen.is_some() || link.dial.is_some());
        let is_taken_away = names.gone.contains(name) && !names.renamed.contains_key(name);
        if is_taken_away && has_peer && counters.counts().open_connections > 0 {
            tracing::warn!("the configuration does not run: it takes link {name} away, to which somebody is connected");
            return Err(Why::LinkInUse);
        }
    }
    for link in &running.links {
        let counters = counters.iter().find(|(name, _)| name.as_str() == link.name);
        if let Some(what) = leaves_unread(link, wanted, counters.and_then(|(_, link)| link.counts().heard_ms)) {
            tracing::warn!("the configuration does not run: it takes link {} away, {what}", link.name);
            return Err(Why::LinkInUse);
        }
    }
    if let Some(name) = renamed_while_results_wait(&running, wanted, &names) {
        tracing::warn!("the configuration does not run: it names link {name} anew, and results wait in its trial");
        return Err(Why::LinkRenamed);
    }
    match waiting(sources.journal(), &taken_away(&running, wanted)) {
        Ok(None) => Ok(()),
        Ok(Some(name)) => {
            tracing::warn!("the configuration does not run: it takes destination {name} away, for which messages wait");
            Err(Why::Undelivered)
        }
        Err(error) => {
            tracing::error!(event = "config-trouble", "fleet: what waits for destinations cannot be read: {error}");
            Err(Why::Disk)
        }
    }
}

/// A link that stays where it is under another name, where what it brings waits for the end of the trial: the old
/// configuration would have no link by whose settings that could be read.
fn renamed_while_results_wait<'n>(running: &Config, wanted: &Config, names: &'n Names) -> Option<&'n str> {
    let lines = tried::lines(running);
    let renamed = names.renamed.keys().map(String::as_str).find(|name| lines.contains(name))?;
    tried::sends_otherwise(running, wanted).then_some(renamed)
}

/// What nobody would read any more without this link, if anything; it was heard last at this moment, Unix milliseconds.
fn leaves_unread(link: &link::Config, wanted: &Config, heard_ms: Option<i64>) -> Option<&'static str> {
    if let Some(folder) = &link.directory
        && wanted.links.iter().all(|other| other.directory.as_ref() != Some(folder))
    {
        return (look(folder, &link.files).waiting > 0).then_some("in whose folder files wait");
    }
    let port = link.serial.as_ref()?;
    if wanted.links.iter().any(|other| other.serial.as_ref() == Some(port)) {
        return None;
    }
    let now_ms = jiff::Timestamp::now().as_millisecond();
    let is_quiet = heard_ms.is_none_or(|at| now_ms.saturating_sub(at) >= SERIAL_QUIET_MS);
    (!is_quiet).then_some("over which an instrument was heard a moment ago")
}

/// Destinations of one configuration that another one does not name.
pub(super) fn taken_away(running: &Config, wanted: &Config) -> BTreeSet<String> {
    Names::between(&destinations_of(running), &destinations_of(wanted)).gone
}

/// The first of these destinations for which messages wait, to be sent or for a person. Blocks on the journal.
///
/// # Errors
/// The journal cannot be read.
pub(super) fn waiting(journal: &Journal, destinations: &BTreeSet<String>) -> Result<Option<String>, JournalError> {
    if destinations.is_empty() {
        return Ok(None);
    }
    let reader = journal.reader()?;
    for name in destinations {
        let queue = reader.destination_queue(name, QUEUE_COUNTED_MAX, 0)?;
        if queue.queued + queue.parked > 0 {
            return Ok(Some(name.clone()));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    fn config(links: &[(&str, u16)], destinations: &[(&str, u16)]) -> Config {
        let link = |(name, port): &(&str, u16)| format!("[[link]]\nname = \"{name}\"\nlisten = \"127.0.0.1:{port}\"\n");
        let to = |(name, port): &(&str, u16)| {
            format!("[[destination]]\nname = \"{name}\"\naddress = \"127.0.0.1:{port}\"\n")
        };
        let text: String = links.iter().map(link).chain(destinations.iter().map(to)).collect();
        parse("test.toml", &text).unwrap().config
    }

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_string()).collect()
    }

    #[test]
    fn what_has_another_name_is_asked_for_by_that_and_what_is_gone_is_not() {
        let old = config(&[("a", 1001), ("b", 1002), ("c", 1003)], &[("ehr", 2001), ("pacs", 2002)]);
        let new = config(&[("a", 1009), ("bb", 1002), ("d", 1004)], &[("ehr-2", 2001), ("lis", 2003)]);
        let names = Names::between(&links(&old), &links(&new));
        assert_eq!((&names.gone, &names.new), (&set(&["b", "c"]), &set(&["d"])));
        assert_eq!(names.translate(set(&["a", "b", "c"])), set(&["a", "bb"]));
        let names = Names::between(&destinations_of(&old), &destinations_of(&new));
        assert_eq!(names.translate(set(&["ehr", "pacs"])), set(&["ehr-2"]));
        assert_eq!(names.new, set(&["lis"]));
        assert_eq!(taken_away(&old, &new), set(&["ehr", "pacs"]), "messages wait for a name");
        assert_eq!(Names::between(&links(&old), &links(&old)), Names::default());
    }

    #[test]
    fn i7_a_link_is_not_named_anew_while_what_it_brings_waits() {
        let old = config(&[("a", 1001), ("b", 1002)], &[("ehr", 2001)]);
        let refused = |new: &Config| {
            let names = Names::between(&links(&old), &links(new));
            renamed_while_results_wait(&old, new, &names).map(str::to_string)
        };
        let named = [("a", 1001), ("bb", 1002)];
        assert_eq!(refused(&config(&named, &[("ehr", 2001)])), None, "it is read as it comes");
        assert_eq!(refused(&config(&named, &[("ehr", 2001), ("lis", 2002)])), Some("b".to_string()));
        assert_eq!(refused(&config(&[("a", 1001), ("b", 1002)], &[("lis", 2002)])), None);
    }

    #[test]
    fn a_folder_with_files_and_a_port_that_was_heard_are_not_taken_away() {
        let folder = tempfile::tempdir().unwrap();
        let at = |line: &str| {
            let text = format!(
                "[[link]]\nname = \"pcr\"\n{line}\n[[destination]]\nname = \"ehr\"\naddress = \"127.0.0.1:9\"\n"
            );
            parse("test.toml", &text).unwrap().config
        };
        let directory = at(&format!("protocol = \"hl7\"\ndirectory = {:?}", folder.path()));
        let (serial, other) = (at("serial = \"/dev/ttyUSB7\""), at("listen = \"127.0.0.1:1001\""));
        assert_eq!(leaves_unread(&directory.links[0], &other, None), None);
        std::fs::write(folder.path().join("run-1.hl7"), "x").unwrap();
        assert!(leaves_unread(&directory.links[0], &other, None).is_some());
        assert_eq!(leaves_unread(&directory.links[0], &directory, None), None);
        let now_ms = jiff::Timestamp::now().as_millisecond();
        assert!(leaves_unread(&serial.links[0], &other, Some(now_ms)).is_some());
        assert_eq!(leaves_unread(&serial.links[0], &serial, Some(now_ms)), None);
        assert_eq!(leaves_unread(&serial.links[0], &other, Some(now_ms - SERIAL_QUIET_MS)), None);
        assert_eq!(leaves_unread(&serial.links[0], &other, None), None);
    }

    #[test]
    fn a_destination_that_refuses_everything_is_not_well() {
        let to = DeliveryCounters::new("ehr");
        let (nobody, reached) = (set(&[]), set(&["ehr"]));
        assert!(!is_well(&to, 0, &nobody) && is_well(&to, 0, &reached), "nothing was tried yet");
        to.refused();
        to.answered(1);
        assert!(!is_well(&to, 0, &reached), "it answers, and takes nothing");
        to.delivered(1, 2);
        assert!(is_well(&to, 0, &nobody), "it takes what it gets");
        to.refused();
        assert!(is_well(&to, 0, &nobody), "one message may be wrong");
        assert!(!is_well(&to, 1, &nobody), "nothing got through since");
        to.away();
        assert!(!is_well(&to, 0, &reached));
    }
}
