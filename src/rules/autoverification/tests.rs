use super::*;
use crate::clinical::{Phi, Specimen};
use proptest::prelude::*;

const NOW_MS: i64 = 1_772_366_400_000; // 2026-03-01T12:00:00Z
const HOURS: i64 = HOUR_MS;

fn decimal(text: &str) -> Decimal {
    Decimal::parse(text).unwrap()
}

fn number(text: &str) -> Value {
    Value::Number(decimal(text))
}

fn potassium(value: Value) -> Observation {
    Observation {
        instrument_code: "K".into(),
        code: Some(Coding::loinc("2823-3", "Potassium")),
        value,
        unit: "mmol/l".into(),
        ucum: "mmol/L".into(),
        ..Observation::default()
    }
}

fn report(observation: Observation) -> Report {
    Report {
        patient: Patient { id: Phi::new("P1"), ..Patient::default() },
        specimen: Specimen { id: Phi::new("S1"), ..Specimen::default() },
        observations: vec![observation],
        ..Report::default()
    }
}

/// Rules as the site writes them.
fn book(text: &str) -> Rulebook {
    #[derive(Deserialize)]
    struct File {
        rule: Vec<Rule>,
    }
    let file: File = toml::from_str(text).unwrap();
    Rulebook::new(&file.rule).unwrap_or_else(|(at, problem)| panic!("rule {at}: {problem:?}"))
}

fn judge(rules: &str, observation: Observation, facts: &Facts) -> Vec<(Outcome, String)> {
    let decisions = book(rules).judge("chemistry", &report(observation), NOW_MS, facts);
    decisions.into_iter().map(|d| (d.outcome, d.why)).collect()
}

fn outcome(rules: &str, value: Value) -> Outcome {
    judge(rules, potassium(value), &Facts::default())[0].0
}

const RANGE: &str = "[[rule]]\nname = 'range'\nanalytes = ['2823-3']\nunit = 'mmol/L'\nlow = '2.5'\nhigh = '6.5'\n";

#[test]
fn i13_a_range_holds_what_is_or_may_be_outside_of_it() {
    let compared = |comparator: &str, n: &str| Value::Compared { comparator: comparator.into(), number: decimal(n) };
    for (value, expected) in [
        (number("2.5"), Outcome::Passed),
        (number("6.50"), Outcome::Passed),
        (number("2.49"), Outcome::Held),
        (number("6.51"), Outcome::Held),
        (compared("<", "2.5"), Outcome::Held),
        (compared("<", "3.0"), Outcome::Held),
        (compared(">", "6.5"), Outcome::Held),
        (Value::Range { low: decimal("3"), high: decimal("4") }, Outcome::Passed),
        (Value::Range { low: decimal("3"), high: decimal("7") }, Outcome::Held),
        (number(&"9".repeat(40)), Outcome::Held),
    ] {
        assert_eq!(outcome(RANGE, value.clone()), expected, "{value:?}");
    }
    let word = judge(RANGE, potassium(Value::Text("clotted".into())), &Facts::default());
    let why = "it is no number (verification limits in mmol/L)";
    assert_eq!(word, [(Outcome::Held, why.to_string())], "what cannot be judged does not go unseen");
    let mut other = potassium(number("5.0"));
    other.code = Some(Coding::loinc("2951-2", "Sodium"));
    assert!(judge(RANGE, other, &Facts::default()).is_empty(), "another test");
}

#[test]
fn i11_limits_hold_in_every_unit_they_can_be_said_in() {
    let mut micro = potassium(number("2499"));
    micro.ucum = "umol/L".into();
    assert_eq!(judge(RANGE, micro.clone(), &Facts::default())[0].0, Outcome::Held);
    micro.value = number("2500");
    assert_eq!(judge(RANGE, micro.clone(), &Facts::default())[0].0, Outcome::Passed);
    for incomparable in ["mg/dL", "meq/L", "", "nonsense"] {
        micro.ucum = incomparable.into();
        let told = judge(RANGE, micro.clone(), &Facts::default());
        assert_eq!(told[0].0, Outcome::Held, "{incomparable}");
        assert!(told[0].1.contains("cannot be compared"), "{told:?}");
    }
}

#[test]
fn a_critical_value_is_held_or_flagged_as_the_site_says() {
    let critical = |action: &str| {
        format!(
            "[[rule]]\nname = 'c'\nkind = 'critical'\naction = '{action}'\nanalytes = ['K']\nunit = 'mmol/L'\nlow = '2.8'\nhigh = '6.2'\n"
        )
    };
    let told = judge(&critical("hold"), potassium(number("6.3")), &Facts::default());
    assert_eq!(told, [(Outcome::Held, "above the critical limit of 6.2 mmol/L".to_string())]);
    for (value, flag) in [("6.3", "HH"), ("2.7", "LL")] {
        let report = report(potassium(number(value)));
        let decisions = book(&critical("send-with-flag")).judge("chemistry", &report, NOW_MS, &Facts::default());
        assert_eq!(decisions[0].outcome, Outcome::Flagged);
        let sent = changed(&report, &decisions);
        assert_eq!(
            (&sent.observations[0].flags[..], &sent.observations[0].value),
            (&[flag.to_string()][..], &number(value))
        );
        assert!(held(&decisions, 0).is_none());
    }
}

#[test]
fn i13_who_is_not_known_must_pass_the_rules_for_everybody() {
    let rules = "[[rule]]\nname = 'women'\nanalytes = ['K']\nunit = 'mmol/L'\nhigh = '5.0'\nsex = 'F'\n\
        [[rule]]\nname = 'newborn'\nanalytes = ['K']\nunit = 'mmol/L'\nhigh = '4.0'\nage_max_days = 28\n";
    let who = |sex: &str, born: &str| {
        let mut report = report(potassium(number("4.5")));
        report.patient.sex = sex.into();
        report.patient.birth_date = Phi::new(born);
        let decisions = book(rules).judge("chemistry", &report, NOW_MS, &Facts::default());
        decisions.into_iter().map(|d| (d.rule, d.outcome)).collect::<Vec<_>>()
    };
    let of = |rule: &str, outcome| (rule.to_string(), outcome);
    assert_eq!(who("F", "19800101"), [of("women", Outcome::Passed)]);
    assert_eq!(who("M", "19800101"), []);
    assert_eq!(who("M", "20260210"), [of("newborn", Outcome::Held)], "19 days old");
    assert_eq!(who("M", "20260201"), [], "28 days old");
    assert_eq!(who("", ""), [of("women", Outcome::Passed), of("newborn", Outcome::Held)]);
    assert_eq!(who("U", "1980"), [of("women", Outcome::Passed), of("newborn", Outcome::Held)]);
}

#[test]
fn a_delta_looks_at_the_previous_value_only_as_far_back_as_it_says() {
    let rule = "[[rule]]\nname = 'd'\nkind = 'delta'\nanalytes = ['2823-3']\nunit = 'mmol/L'\nabsolute = '1.0'\npercent = '20'\nwithin_days = 3\n";
    let previous = |value: &str, ucum: &str, hours: i64| Facts {
        previous: [(
            "2823-3".to_string(),
            Previous { value: number(value), ucum: ucum.into(), received_ms: NOW_MS - hours * HOURS },
        )]
        .into(),
        ..Facts::default()
    };
    for (before, ucum, hours, expected) in [
        ("4.0", "mmol/L", 10, Outcome::Passed),
        ("4.2", "mmol/L", 10, Outcome::Passed),
        ("6.1", "mmol/L", 10, Outcome::Held),
        ("3.9", "mmol/L", 10, Outcome::Held),
        ("6100", "umol/L", 10, Outcome::Held),
        ("4500", "umol/L", 10, Outcome::Passed),
        ("9.9", "mmol/L", 73, Outcome::Passed),
        ("4.5", "mg/dL", 10, Outcome::Held),
        ("0", "mmol/L", 10, Outcome::Held),
    ] {
        let told = judge(rule, potassium(number("4.8")), &previous(before, ucum, hours));
        assert_eq!(told[0].0, expected, "{before} {ucum} {hours} h ago: {told:?}");
        assert!(!told[0].1.contains("4.8"), "I8: a reason has no value in it");
    }
    let told = judge(rule, potassium(number("4.8")), &Facts::default());
    assert_eq!(told, [(Outcome::Passed, "no previous value".to_string())]);
}

#[test]
fn flags_hold_or_are_accepted() {
    let hold = "[[rule]]\nname = 'f'\nkind = 'flag'\nflags = ['A', '!']\n";
    let accept = "[[rule]]\nname = 'f'\nkind = 'flag'\nflags = ['A', '!']\naction = 'release'\n";
    let mut flagged = potassium(number("4.0"));
    flagged.flags = vec!["!".into()];
    assert_eq!(judge(hold, flagged.clone(), &Facts::default())[0].0, Outcome::Held);
    flagged.doubts = vec![Doubt::Questionable];
    assert_eq!(judge(accept, flagged.clone(), &Facts::default())[0].0, Outcome::Released);
    let decide = |observation: &Observation| {
        let report = report(observation.clone());
        let decisions = book(accept).judge("chemistry", &report, NOW_MS, &Facts::default());
        let now = jiff::Timestamp::from_millisecond(NOW_MS).unwrap();
        crate::rules::decide_with(&report, &crate::rules::Policy::default(), now, &decisions).remove(0)
    };
    assert_eq!(decide(&flagged), crate::rules::Verdict::Release);
    flagged.flags.push("other".into());
    assert_eq!(decide(&flagged), crate::rules::Verdict::Hold(Doubt::Questionable), "another flag nobody accepted");
    flagged.flags.pop();
    flagged.doubts.push(Doubt::FailedRun);
    assert_eq!(decide(&flagged), crate::rules::Verdict::Hold(Doubt::FailedRun), "a failed run is never accepted");
}

const QC: &str = "[[rule]]\nname = 'qc'\nkind = 'qc'\nanalytes = ['2823-3']\nunit = 'mmol/L'\nmax_age_hours = 24\n\
    controls = [{ name = 'ONE', level = '1', low = '3.8', high = '4.2' }, { name = 'TWO', low = '6.0', high = '6.6' }]\n";

fn run(name: &str, level: &str, value: &str, hours: i64) -> ControlRun {
    ControlRun {
        control: Control { name: name.into(), level: level.into(), ..Control::default() },
        value: number(value),
        ucum: "mmol/L".into(),
        failed: false,
        received_ms: NOW_MS - hours * HOURS,
    }
}

#[test]
fn i13_nothing_goes_out_while_a_control_is_out_missing_or_too_old() {
    let with = |runs: Vec<ControlRun>| {
        let facts = Facts { controls: [("2823-3".to_string(), runs)].into(), ..Facts::default() };
        judge(QC, potassium(number("4.0")), &facts).remove(0)
    };
    let two = run("TWO", "2", "6.2", 2);
    assert_eq!(with(vec![run("ONE", "1", "4.0", 1), two.clone()]).0, Outcome::Passed);
    let failed = ControlRun { failed: true, ..run("ONE", "1", "4.0", 1) };
    let unknown = ControlRun { ucum: "mg/dL".into(), ..run("ONE", "1", "4.0", 1) };
    for (runs, words) in [
        (vec![two.clone()], "the control ONE level 1 has not run"),
        (vec![run("ONE", "2", "4.0", 1), two.clone()], "has not run"),
        (vec![run("ONE", "1", "4.3", 1), two.clone()], "is out of its range"),
        (vec![run("ONE", "1", "4.0", 25), two.clone()], "is older than 24 h"),
        (vec![run("ONE", "1", "4.3", 1), run("ONE", "1", "4.0", 2), two.clone()], "is out of its range"),
        (vec![failed, two.clone()], "failed"),
        (vec![unknown, two.clone()], "cannot be judged"),
        (vec![run("ONE", "1", "4.0", 1)], "the control TWO has not run"),
    ] {
        let (outcome, why) = with(runs);
        assert_eq!(outcome, Outcome::Held);
        assert!(why.contains(words), "{why}");
    }
    let afterwards = vec![run("ONE", "1", "4.0", -1), run("ONE", "1", "4.3", 1), two];
    assert_eq!(with(afterwards).0, Outcome::Passed, "a good control afterwards unlocks");
}

#[test]
fn a_lock_is_the_reason_only_when_nothing_else_holds() {
    let both = format!("{QC}{RANGE}");
    let decisions = book(&both).judge("chemistry", &report(potassium(number("9.0"))), NOW_MS, &Facts::default());
    assert_eq!(held(&decisions, 0).map(|d| d.kind), Some(Kind::Range));
    let decisions = book(&both).judge("chemistry", &report(potassium(number("4.0"))), NOW_MS, &Facts::default());
    assert_eq!(held(&decisions, 0).map(|d| d.kind), Some(Kind::Qc));
}

#[test]
fn i11_a_dilution_multiplies_before_the_limits_look() {
    let rules = format!("[[rule]]\nname = 'dil'\nkind = 'dilution'\nprefix = 'DIL:'\n{RANGE}");
    let mut diluted = potassium(number("1.30"));
    diluted.comments = vec!["DIL: 4".into()];
    let report_of = report(diluted.clone());
    let decisions = book(&rules).judge("chemistry", &report_of, NOW_MS, &Facts::default());
    assert_eq!(decisions.iter().map(|d| d.outcome).collect::<Vec<_>>(), [Outcome::Changed, Outcome::Passed]);
    assert_eq!(changed(&report_of, &decisions).observations[0].value, number("5.20"));
    let read = "[[rule]]\nname = 'dil'\nkind = 'dilution'\n";
    let by_driver = Observation { dilution: "10".into(), ..potassium(number("0.41")) };
    let report_of = report(by_driver);
    let decisions = book(read).judge("chemistry", &report_of, NOW_MS, &Facts::default());
    assert_eq!(changed(&report_of, &decisions).observations[0].value, number("4.1"));
    assert!(judge(read, potassium(number("4.1")), &Facts::default()).is_empty(), "no dilution, nothing to do");
    diluted.comments = vec!["DIL:one in four".into()];
    assert_eq!(judge(&rules, diluted, &Facts::default())[0].0, Outcome::Held, "a factor nobody can read is not one");
}

#[test]
fn i11_a_conversion_is_exact_and_names_the_other_quantity() {
    let mut glucose = Observation {
        instrument_code: "GLU".into(),
        code: Some(Coding::loinc("2345-7", "Glucose [Mass/volume]")),
        value: number("97"),
        unit: "mg/dl".into(),
        ucum: "mg/dL".into(),
        reference_range: "70-105".into(),
        ..Observation::default()
    };
    let by_ucum = "[[rule]]\nname = 'g'\nkind = 'convert'\nanalytes = ['GLU']\nunit = 'g/L'\n";
    let molar = "[[rule]]\nname = 'g'\nkind = 'convert'\nanalytes = ['GLU']\nfrom = 'mg/dL'\nunit = 'mmol/L'\nfactor = '0.05551'\nloinc = '14749-6'\n";
    let converted = |rule: &str, observation: &Observation| {
        let report = report(observation.clone());
        let decisions = book(rule).judge("chemistry", &report, NOW_MS, &Facts::default());
        (decisions[0].outcome, changed(&report, &decisions).into_owned().observations.remove(0))
    };
    let (outcome, sent) = converted(by_ucum, &glucose);
    assert_eq!((outcome, sent.value, sent.ucum.as_str()), (Outcome::Changed, number("0.97"), "g/L"));
    assert_eq!(sent.code, glucose.code, "the same quantity has the same LOINC");
    assert!(sent.reference_range.is_empty(), "the range as sent is in the other unit");
    let (outcome, sent) = converted(molar, &glucose);
    assert_eq!((outcome, sent.value), (Outcome::Changed, number("5.38")));
    assert_eq!(sent.code.map(|c| c.code).as_deref(), Some("14749-6"));
    glucose.value = number("0.97");
    glucose.ucum = "g/L".into();
    assert_eq!(converted(molar, &glucose).1.value, number("5.38"), "by UCUM to the unit the factor is for");
    glucose.ucum = "[IU]/L".into();
    assert_eq!(converted(molar, &glucose).0, Outcome::Held);
}

#[test]
fn a_rule_that_cannot_be_right_is_told() {
    for (rule, key, words) in [
        ("name = ''\nanalytes = ['K']\nunit = '1'\nlow = '1'", "name", "needs a name"),
        ("name = 'x'\nanalytes = ['K']\nunit = 'mmol/L'", "low", "no limit"),
        ("name = 'x'\nanalytes = ['K']\nlow = '1'", "unit", "needs its unit"),
        ("name = 'x'\nunit = '1'\nlow = '1'", "analytes", "one test"),
        ("name = 'x'\nanalytes = ['K']\nunit = 'mmHg'\nlow = '1'", "unit", "mm[Hg]"),
        ("name = 'x'\nanalytes = ['K']\nunit = '1'\nlow = '1,5'", "low", "no decimal"),
        ("name = 'x'\nanalytes = ['K']\nunit = '1'\nlow = '2'\nhigh = '1.5'", "high", "below"),
        ("name = 'x'\nanalytes = ['K']\nunit = '1'\nlow = '2'\nflags = ['A']", "flags", "does not belong"),
        ("name = 'x'\nanalytes = ['K']\nunit = '1'\nlow = '2'\naction = 'release'", "action", "cannot do that"),
        ("name = 'x'\nkind = 'delta'\nanalytes = ['K']\npercent = '20'", "within_days", "how old"),
        ("name = 'x'\nkind = 'convert'\nanalytes = ['K']\nfrom = 'mg/dL'\nunit = 'mmol/L'", "from", "no exact factor"),
        (
            "name = 'x'\nkind = 'convert'\nanalytes = ['K']\nfrom = 'mg/dL'\nunit = 'g/L'\nfactor = '0.02'\nloinc = '2345-7'",
            "factor",
            "UCUM knows",
        ),
        (
            "name = 'x'\nkind = 'repeat'\nreasons = ['unmapped-code']\nmax_age_hours = 2",
            "reasons",
            "nothing a repeat covers",
        ),
        (
            "name = 'x'\nkind = 'qc'\nanalytes = ['K']\nunit = 'mmol/L'\nmax_age_hours = 2\ncontrols = [{ low = '1', high = 'x' }]",
            "controls[0].high",
            "no decimal",
        ),
    ] {
        let rule: Rule = toml::from_str(rule).unwrap();
        let problems = rule.problems();
        assert!(problems.iter().any(|p| p.key == key && p.text.contains(words)), "{rule:?}: {problems:?}");
    }
}

#[test]
fn a_version_changes_whenever_the_rule_does() {
    let version = |text: &str| book(text).rules().next().map(|(_, version)| version.to_string()).unwrap();
    assert_eq!(version(RANGE), version(RANGE));
    assert_ne!(version(RANGE), version(&RANGE.replace("6.5", "6.50")));
    assert_eq!(version(RANGE).len(), VERSION_DIGITS);
}

proptest! {
    #[test]
    fn judging_is_total_and_says_the_same_twice(
        text in "[<>=]{0,2}[-+0-9.]{0,45}",
        ucum in prop::sample::select(vec!["mmol/L", "umol/L", "mg/dL", "", "1", "[pH]", "K/uL"]),
        flags in prop::collection::vec("[A-Z!*]{0,2}", 0..3),
        comments in prop::collection::vec("(DIL:)?[0-9a-z.]{0,40}", 0..3),
        born in "[0-9]{0,9}",
        sex in "[MFU]?",
        before in "[-+0-9.]{1,40}",
        hours in -1000_i64..1000,
    ) {
        let digits = text.trim_start_matches(['<', '>', '=']);
        let value = match (Decimal::parse(digits), &text[..text.len() - digits.len()]) {
            (Some(number), "") => Value::Number(number),
            (Some(number), comparator) => Value::Compared { comparator: comparator.to_string(), number },
            (None, _) => Value::Text(text.clone()),
        };
        let mut report = report(Observation { ucum: ucum.to_string(), flags, comments, ..potassium(value) });
        report.patient.birth_date = Phi::new(born);
        report.patient.sex = sex;
        let before = Decimal::parse(&before).map_or(Value::Absent, Value::Number);
        let previous = Previous { value: before, ucum: "mmol/L".into(), received_ms: NOW_MS - hours * HOURS };
        let facts = Facts {
            previous: [("2823-3".to_string(), previous)].into(),
            controls: [("2823-3".to_string(), vec![run("ONE", "1", "4.0", hours)])].into(),
        };
        let rules = format!(
            "{RANGE}{QC}[[rule]]\nname = 'dil'\nkind = 'dilution'\nprefix = 'DIL:'\n\
             [[rule]]\nname = 'd'\nkind = 'delta'\nanalytes = ['2823-3']\nunit = 'mmol/L'\nabsolute = '1'\npercent = '5'\nwithin_days = 9\n\
             [[rule]]\nname = 'c'\nkind = 'convert'\nanalytes = ['2823-3']\nunit = 'umol/L'\n"
        );
        let book = book(&rules);
        let once = book.judge("chemistry", &report, NOW_MS, &facts);
        prop_assert_eq!(&once, &book.judge("chemistry", &report, NOW_MS, &facts));
        let stored = serde_json::to_string(&once).map_err(|e| TestCaseError::fail(e.to_string()))?;
        let read: Vec<Decision> = serde_json::from_str(&stored).map_err(|e| TestCaseError::fail(e.to_string()))?;
        prop_assert_eq!(&read, &once);
        let _ = changed(&report, &once);
    }
}
