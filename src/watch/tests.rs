use super::*;
use proptest::prelude::*;

const LOOK: Duration = Duration::from_secs(30);

/// A box with one link, watched in virtual time.
struct Bench {
    watch: Watch,
    now: Duration,
    sample: Sample,
}

impl Bench {
    fn new(config: Config) -> Bench {
        let sample = Sample { links: vec![("chemistry".to_owned(), Counts::default())], ..Sample::default() };
        Bench { watch: Watch::new(config, BTreeMap::new()), now: Duration::ZERO, sample }
    }

    fn counts(&mut self) -> &mut Counts {
        &mut self.sample.links[0].1
    }

    /// Looks once, half a minute later, after `change`.
    fn look(&mut self, change: impl FnOnce(&mut Bench)) -> Vec<String> {
        self.now += LOOK;
        change(self);
        self.sample.hour = Some((self.now.as_secs() / 3600) as usize % learnt::HOURS);
        let now = self.now;
        let alerts = self.watch.observe(now, &self.sample);
        alerts.iter().map(|a| format!("{} {}", if a.began { "began" } else { "ended" }, a.trouble.word())).collect()
    }

    fn pass(&mut self, time: Duration, mut change: impl FnMut(&mut Bench)) -> Vec<String> {
        let looks = time.as_secs() / LOOK.as_secs();
        (0..looks).flat_map(|_| self.look(&mut change)).collect()
    }
}

fn hours(hours: u64) -> Duration {
    Duration::from_secs(hours * 3600)
}

#[test]
fn a_link_that_falls_silent_when_it_used_to_speak_is_told_once_and_once_more_when_it_speaks() {
    let mut bench = Bench::new(Config::default());
    let busy = |bench: &mut Bench| {
        let hour = bench.now.as_secs() / 3600 % 24;
        bench.counts().messages += u64::from((8..18).contains(&hour));
    };
    assert_eq!(bench.pass(hours(168), busy), [""; 0], "the first week only teaches, quiet nights included");
    assert_eq!(bench.pass(hours(11), busy), [""; 0]);
    let told = bench.pass(hours(3), |_| {});
    assert_eq!(told, ["began silence"]);
    assert_eq!(bench.look(|bench| bench.counts().messages += 1), ["ended silence"]);
    assert_eq!(bench.pass(hours(2), busy), [""; 0]);
}

#[test]
fn results_that_are_held_for_want_of_their_link_are_told_of_until_a_person_has_decided() {
    let mut bench = Bench::new(Config::default());
    let held = |n| vec![("second".to_owned(), n)];
    assert_eq!(bench.look(|bench| bench.sample.without_link = held(3)), ["began no-link"]);
    assert_eq!(bench.look(|bench| bench.sample.without_link = held(1)), [""; 0]);
    assert_eq!(bench.look(|bench| bench.sample.without_link.clear()), ["ended no-link"]);
}

#[test]
fn an_operating_system_that_went_away_is_told_until_it_is_back() {
    let mut bench = Bench::new(Config::default());
    assert_eq!(bench.look(|_| {}), [""; 0]);
    assert_eq!(bench.look(|bench| bench.sample.system_is_away = true), ["began system"]);
    assert_eq!(bench.look(|_| {}), [""; 0]);
    assert_eq!(bench.look(|bench| bench.sample.system_is_away = false), ["ended system"]);
}

#[test]
fn what_stands_is_not_told_again_under_other_limits_and_its_end_is() {
    let mut bench = Bench::new(Config::default());
    assert_eq!(bench.look(|bench| bench.sample.system_is_away = true), ["began system"]);
    bench.watch.set(Config { certificate_days: 3, ..Config::default() });
    assert_eq!(bench.look(|_| {}), [""; 0]);
    assert_eq!(bench.look(|bench| bench.sample.system_is_away = false), ["ended system"]);
}

#[test]
fn a_destination_that_refuses_all_it_gets_is_told_until_it_takes_some() {
    let mut bench = Bench::new(Config::default());
    bench.sample.destinations = vec![("ehr".to_owned(), Sent::default())];
    let to = |bench: &mut Bench, delivered, refused| {
        let sent = &mut bench.sample.destinations[0].1;
        (sent.delivered, sent.refused) = (sent.delivered + delivered, sent.refused + refused);
    };
    assert_eq!(bench.pass(hours(1), |bench| to(bench, 1, 1)), [""; 0], "it takes some");
    assert_eq!(bench.look(|bench| to(bench, 0, 2)), [""; 0], "two may be wrong");
    assert_eq!(bench.look(|bench| to(bench, 0, 1)), ["began refusing"]);
    assert_eq!(bench.look(|_| {}), [""; 0]);
    assert_eq!(bench.look(|bench| to(bench, 1, 0)), ["ended refusing"]);
    // Set up anew, it counts anew, and what is seen first may have refused before.
    bench.sample.destinations[0].1 = Sent::default();
    assert_eq!(bench.look(|bench| to(bench, 0, 2)), [""; 0]);
    bench.sample.destinations.push(("lis".to_owned(), Sent { delivered: 0, refused: 3 }));
    assert_eq!(bench.look(|_| {}), ["began refusing"]);
}

#[test]
fn a_limit_in_the_configuration_goes_before_what_was_learnt() {
    let limits = |silence_s, messages| LinkLimits { name: "chemistry".to_owned(), silence_s, messages };
    let mut bench = Bench::new(Config { links: vec![limits(Some(600), Some(10))], ..Config::default() });
    assert_eq!(bench.pass(Duration::from_secs(570), |_| {}), [""; 0]);
    assert_eq!(bench.pass(Duration::from_secs(120), |_| {}), ["began silence"]);
    assert_eq!(bench.look(|bench| bench.counts().messages += 10), ["ended silence", "began rate"]);
    let mut never = Bench::new(Config { links: vec![limits(Some(0), Some(0))], ..Config::default() });
    assert_eq!(never.pass(hours(200), |bench| bench.counts().messages += u64::from(bench.now < hours(180))), [""; 0]);
}

#[test]
fn refusals_strangers_failed_authentication_and_repeats_have_limits() {
    type Count = fn(&mut Counts) -> &mut u64;
    let cases: [(Count, u64, &str); 4] = [
        (|c| &mut c.refusals, 20, "refusals"),
        (|c| &mut c.strangers, 1, "strangers"),
        (|c| &mut c.authentication, 5, "authentication"),
        (|c| &mut c.repeats, 10, "repeats"),
    ];
    for (count, limit, word) in cases {
        let mut bench = Bench::new(Config::default());
        assert_eq!(bench.look(|_| {}), [""; 0]);
        assert_eq!(bench.look(|bench| *count(bench.counts()) += limit - 1), [""; 0], "{word}");
        assert_eq!(bench.look(|bench| *count(bench.counts()) += 1), [format!("began {word}")]);
        assert_eq!(bench.pass(Duration::from_secs(300), |_| {}), [""; 0], "{word}: it is told once");
        assert_eq!(bench.pass(Duration::from_secs(600), |_| {}), [format!("ended {word}")]);
        assert_eq!(bench.pass(hours(2), |_| {}), [""; 0]);
    }
}

#[test]
fn one_that_hovers_about_its_limit_is_told_once() {
    let mut bench = Bench::new(Config::default());
    bench.look(|_| {});
    let mut at = 0;
    let told = bench.pass(hours(5), |bench| {
        at += 1;
        bench.counts().refusals += if at % 20 < 10 { 3 } else { 1 };
    });
    assert_eq!(told, ["began refusals"]);
}

#[test]
fn a_spike_is_measured_against_the_same_hour_of_other_weeks() {
    let mut bench = Bench::new(Config::default());
    assert_eq!(bench.pass(hours(170), |bench| bench.counts().messages += 2), [""; 0]);
    assert_eq!(bench.pass(hours(1), |bench| bench.counts().messages += 8), [""; 0], "four times as many is a busy day");
    assert_eq!(bench.pass(hours(1), |bench| bench.counts().messages += 40), ["began rate"]);
}

#[test]
fn a_clock_that_is_set_a_certificate_that_ends_and_a_disk_that_fills_are_told() {
    let mut bench = Bench::new(Config::default());
    bench.look(|_| {});
    bench.pass(hours(1), |bench| bench.sample.wall_less_monotonic_ms += 20);
    assert_eq!(bench.look(|bench| bench.sample.wall_less_monotonic_ms -= 3_600_000), ["began clock"]);
    assert_eq!(bench.pass(hours(2), |_| {}), ["ended clock"]);

    bench.sample.certificates = vec![("fleet.tls.cert".to_owned(), 22)];
    assert_eq!(bench.look(|_| {}), [""; 0]);
    assert_eq!(bench.look(|bench| bench.sample.certificates[0].1 = 20), ["began certificate"]);
    assert_eq!(bench.look(|bench| bench.sample.certificates[0].1 = 90), ["ended certificate"]);

    bench.sample.disk_free = Some(100_000_000_000);
    assert_eq!(bench.pass(hours(30), |_| {}), [""; 0], "a disk that does not fill");
    let told = bench.pass(hours(30), |bench| {
        let free = bench.sample.disk_free.unwrap();
        bench.sample.disk_free = Some(free.saturating_sub(20_000_000));
    });
    assert_eq!(told, ["began disk"]);
}

#[test]
fn nothing_is_learnt_while_the_clock_is_not_trusted() {
    let mut watch = Watch::new(Config::default(), BTreeMap::new());
    let mut sample = Sample { links: vec![("a".to_owned(), Counts::default())], ..Sample::default() };
    for look in 0..120 * 170 {
        sample.links[0].1.messages += 1;
        assert!(watch.observe(LOOK * look, &sample).is_empty());
    }
    assert_eq!(watch.learnt()["a"], &Learnt::default());
}

proptest! {
    /// Whatever is counted, alerts of one trouble of one link alternate between begun and ended.
    #[test]
    fn every_alert_begins_before_it_ends(counts in proptest::collection::vec((0_u64..60, 0_u64..60, 0_u64..9), 1..400)) {
        let mut bench = Bench::new(Config::default());
        let mut standing = std::collections::BTreeSet::new();
        for (messages, refusals, strangers) in counts {
            for told in bench.look(|bench| {
                let counts = bench.counts();
                counts.messages += messages;
                counts.refusals += refusals;
                counts.strangers += strangers;
            }) {
                let (what, word) = told.split_once(' ').unwrap();
                let changed = if what == "began" { standing.insert(word.to_owned()) } else { standing.remove(word) };
                prop_assert!(changed, "{told} after {standing:?}");
            }
        }
    }
}
