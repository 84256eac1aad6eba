use super::*;
use crate::config::parse;
use crate::journal::Journal;
use crate::watch::station::Standing;

const ALL_IS_WELL: BusFacts = BusFacts { connected: true, downlink: true, answered: 1 };

#[tokio::test]
async fn a_trial_that_was_ended_meanwhile_is_not_taken_for_confirmed() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path();
    std::fs::create_dir_all(data.join("config/7.check")).unwrap();
    let text = "[[link]]\nname = \"a\"\nlisten = \"127.0.0.1:1\"\n\
                [[destination]]\nname = \"ehr\"\naddress = \"127.0.0.1:2\"\n";
    let file = data.join("box.toml");
    std::fs::write(&file, text).unwrap();
    let own = parse("box.toml", &format!("{text}[gateway]\ndata = {data:?}\n")).unwrap().config;
    let desired = Desired {
        v: 1,
        tenant: "acme".to_string(),
        gateway: "bench-1".to_string(),
        rev: 1,
        config: text.to_string(),
        files: std::collections::BTreeMap::new(),
        replaces: None,
    };
    let document = crate::fleet::desired::write(&desired);
    let digest = Digest::of(&document);
    let origin = Origin { file, digest: [0; 32], own: own.clone(), adopted: Some((1, *digest.bytes())) };
    let mut wanted = own.clone();
    wanted.origin = Some(Arc::new(origin));
    let wanted = Arc::new(wanted);

    let journal = Journal::open(data, &own.journal).unwrap();
    let running = watch::Sender::new(Arc::new(tried::in_trial(&own, &wanted)));
    let (links, destinations) = (watch::Sender::new(Vec::new()), watch::Sender::new(Vec::new()));
    let clock = crate::clock::Clock::open(data, true);
    let alerts = Standing::default();
    let sources =
        Sources::new(&journal, running.subscribe(), links.subscribe(), destinations.subscribe(), &clock, &alerts);
    let mut store = Store::open(data).unwrap();
    let stamp = sources.stamp();
    let begun = |tx: &rusqlite::Transaction<'_>| {
        ledger::offer(tx, 1, digest, &document, stamp)?;
        ledger::set(tx, 1, Phase::Trial, None)
    };
    store.change(begun).unwrap();
    let place = Place::new("acme", "bench-1").unwrap();
    let (changes, _asked) = mpsc::channel(8);
    let fleet = fleet::Config::default();
    let mut adoption = Adoption::new(&place, &fleet, &sources, Handle::current(), changes, &mut store).unwrap();
    assert!(!data.join("config/7.check").exists(), "a crash left it");
    let now = Instant::now();
    for _ in 0..2 {
        adoption.look(&mut store, ALL_IS_WELL, now, stamp).unwrap();
    }
    assert_eq!(store.change(ledger::newest).unwrap().unwrap().phase, Phase::Trial);
    running.send_replace(Arc::new(own));
    adoption.look(&mut store, ALL_IS_WELL, now + Duration::from_secs(fleet.confirm_s), stamp).unwrap();
    let newest = store.change(ledger::newest).unwrap().unwrap();
    assert_eq!((newest.phase, newest.why), (Phase::Reverted, Some(Why::NeverConfirmed)));
    journal.close();
}
