//! Wrong settings of the fleet: each is refused at its line, with what to do.

use super::*;
use crate::tls::throwaway::Authority;
use std::path::Path;

/// A site on a bus, with a certificate of this name.
fn site(dir: &Path, common_name: &str, more: &str) -> String {
    let authority = Authority::new().unwrap();
    let (cert, key) = authority.client(common_name).unwrap().write(dir, "box").unwrap();
    let ca = dir.join("ca.pem");
    std::fs::write(&ca, authority.ca_pem()).unwrap();
    format!(
        "{SOUND}[fleet]\nbroker = \"broker.example:8883\"\ntenant = \"acme\"\n{more}\
         [fleet.tls]\nca = {ca:?}\ncert = {cert:?}\nkey = {key:?}\n"
    )
}

#[test]
fn a_site_on_a_bus_is_who_its_certificate_says() {
    let dir = tempfile::tempdir().unwrap();
    let text = site(dir.path(), "bench-1", "");
    let fleet = parse("test.toml", &text).unwrap().config.fleet.unwrap();
    let place = fleet.place(dir.path()).unwrap();
    assert_eq!((place.tenant(), place.gateway(), fleet.metrics_s), ("acme", "bench-1", 60));
    assert_eq!(fleet.host_and_port(), Some(("broker.example".to_string(), 8883)));
    assert_eq!(faults(&site(dir.path(), "bench-1", "name = \"bench-1\"\n")), []);
    assert!(parse("test.toml", SOUND).unwrap().config.fleet.is_none());
}

#[test]
fn what_keeps_a_box_from_the_bus_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let sound = site(dir.path(), "bench-1", "");
    for (old, new, expected) in [
        ("broker = \"broker.example:8883\"\n", "", "this table does not say where the `broker` is"),
        ("broker.example:8883", "broker.example", "`broker.example` is no address to dial"),
        ("tenant = \"acme\"\n", "", "this table has no `tenant`"),
        ("\"acme\"", "\"acme/labs\"", "this tenant cannot stand in topics"),
        ("\"acme\"\n", "\"acme\"\nname = \"#\"\n", "this name cannot stand in topics"),
        ("\"acme\"\n", "\"acme\"\nmetrics_s = 0\n", "`metrics_s` must be from 5 to 3600"),
        ("\"acme\"\n", "\"acme\"\nname = \"bench-2\"\n", "is `bench-1`'s, and `name` is `bench-2`"),
        ("box.pem", "absent.pem", "cannot read"),
        ("tenant", "tennant", "unknown setting `tennant`"),
    ] {
        assert!(sound.contains(old));
        let found = faults(&sound.replace(old, new));
        assert!(matches!(found.as_slice(), [(_, told)] if told.contains(expected)), "{expected}: {found:?}");
    }
    let bare = format!("{SOUND}[fleet]\nbroker = \"broker.example:8883\"\ntenant = \"acme\"\n");
    let enrolling = format!("{sound}[fleet.enrol]\nurl = \"https://desk.example:8443\"\n");
    let found = faults(&enrolling);
    assert!(matches!(found.as_slice(), [(_, told)] if told.contains("and is given one as well")), "{found:?}");
    let own = |line: &str| line.starts_with("cert =") || line.starts_with("key =");
    let enrolling: String = enrolling.lines().filter(|line| !own(line)).map(|line| format!("{line}\n")).collect();
    assert_eq!(faults(&enrolling), []);
    for (old, new, expected) in [
        ("https://desk.example:8443", "http://desk.example", "is no https address"),
        ("url =", "user = \"bench\"\nurl =", "`user` and `password_file` belong together"),
    ] {
        let found = faults(&enrolling.replace(old, new));
        assert!(matches!(found.as_slice(), [(_, told)] if told.contains(expected)), "{expected}: {found:?}");
    }
    let trusting: String =
        enrolling.lines().filter(|line| !line.starts_with("ca =")).map(|l| format!("{l}\n")).collect();
    let found = faults(&trusting);
    assert!(matches!(found.as_slice(), [(_, told)] if told.contains("whom to trust")), "{found:?}");
    let found = faults(&bare);
    assert!(matches!(found.as_slice(), [(_, told)] if told.contains("no certificate to show")), "{found:?}");
    let found = faults(&site(dir.path(), "bench 1", ""));
    assert!(matches!(found.as_slice(), [(_, told)] if told.contains("`bench 1`'s, which cannot stand")), "{found:?}");
}

#[test]
fn an_update_that_would_never_end_or_never_begin_is_refused() {
    let sound = format!("{SOUND}[update]\nreleases = \"/var/lib/releases\"\n");
    assert_eq!(faults(&sound), []);
    for (more, expected) in [
        ("trial_s = 5\n", "`trial_s` must be from 10 to 3600"),
        ("quiet_s = 0\n", "`quiet_s` must be from 1 to 3600"),
        ("wait_max_min = 0\n", "`wait_max_min` must be from 1 to 10080"),
    ] {
        let found = faults(&format!("{sound}{more}"));
        assert!(matches!(found.as_slice(), [(_, told)] if told.contains(expected)), "{expected}: {found:?}");
    }
    assert_eq!(faults(&sound.replace("/var/lib/releases", "releases")).len(), 1);
}
