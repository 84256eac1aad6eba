use super::*;
use crate::clinical::{Decimal, Doubt, Observation, Value};
use proptest::prelude::*;

mod dialect;

const ASTM: &str = "H|\\^&|||Unit^1|||||||P|1|20260715083000\r\
P|1||H7|L7|DOE^JANE||19700101|F\r\
C|1|L|ward asks twice|G\r\
O|1|S-100||^^^GLU\\^^^K|R||20260715080000||||N||||SER||||||||||F\r\
C|1|L|haemolytic|G\r\
R|1|2345-7^Glucose^^GLU|5.10|mmol/L|3.9-6.1|H\\A||F||op||20260715082900\r\
C|1|I|checked|I\r\
R|2|^^^K|<0.127|mmol/L||||C\r\
R|3|||\r\
O|2|S-101||^^^NA|R||||||||||||||||||||X\r\
O|3|S-102||^^^CL|R||||||||||||||||||||O\r\
L|1|N\r";

const ORU: &str = "MSH|^~\\&|Unit|Lab|||20260715083000||ORU^R01^ORU_R01|M1|P|2.5.1|||||||UNICODE UTF-8\r\
PID|1||P7^^^HOSP^MR||DOE^JANE||19700101|F\r\
ORC|RE|PL1|FI1\r\
OBR|1|PL1|FI1|PAN^Panel^L|||20260715080000||||||||||||||||||F\r\
NTE|1|L|haemolytic\r\
OBX|1|NM|2345-7^Glucose^LN||5.10|mmol/L^^UCUM|3.9-6.1|H~A|||F|||20260715082900\r\
NTE|1|I|checked\r\
OBX|2|SN|K^Kalium^L||<^0.127|mmol/L|||||F\r\
OBX|3|NM|NA^Natrium^L||1,5|mmol/L|||||F\r\
SPM|1|S-100^F-100||SER^Serum^HL70487\r\
OBR|2|PL2|FI2|PAN2\r\
OBX|1|ST|X1||word||||||F\r\
SPM|1|S-200||BLD\r";

fn context() -> Context {
    Context { zone: jiff::tz::TimeZone::get("Europe/Berlin").unwrap(), charset: None, framing: None, complete: true }
}

fn read(protocol: Protocol, raw: &[u8]) -> Interpretation {
    interpret(Registry::builtin().generic(protocol), raw, &context())
}

fn with(toml: &str, raw: &str) -> Interpretation {
    let protocol = if raw.starts_with("MSH") { "hl7" } else { "astm" };
    let text = format!("{toml}\n[identity]\nvendor = \"V\"\nmodel = \"M\"\nprotocol = \"{protocol}\"\n");
    interpret(&Driver::parse("test", &text).unwrap(), raw.as_bytes(), &context())
}

fn observations(interpretation: &Interpretation) -> Vec<&Observation> {
    interpretation.reports.iter().flat_map(|r| &r.observations).collect()
}

fn balances(interpretation: &Interpretation) -> bool {
    observations(interpretation).len() + interpretation.refused.len() == interpretation.inbound_results as usize
}

fn number(text: &str) -> Value {
    Value::Number(Decimal::parse(text).unwrap())
}

#[test]
fn an_astm_message_is_read_field_by_field() {
    let read = read(Protocol::Astm, ASTM.as_bytes());
    assert_eq!((read.reports.len(), read.inbound_results), (2, 4));
    let report = &read.reports[0];
    assert_eq!((report.specimen.id.expose(), report.patient.id.expose()), ("S-100", "H7"));
    assert_eq!((report.patient.family.expose(), report.patient.birth_date.expose()), ("DOE", "19700101"));
    assert_eq!(report.comments, ["ward asks twice", "haemolytic"]);
    assert_eq!(report.message_time.as_ref().unwrap().hl7(), "20260715083000+0200");
    let glucose = &report.observations[0];
    assert_eq!((glucose.instrument_code.as_str(), &glucose.value), ("GLU", &number("5.10")));
    assert_eq!(glucose.code.as_ref().unwrap().code, "2345-7");
    assert_eq!(
        (glucose.flags.as_slice(), glucose.comments.as_slice()),
        (&["H".into(), "A".into()][..], &["checked".into()][..])
    );
    assert_eq!(glucose.completed.as_ref().unwrap().hl7(), "20260715082900+0200");
    assert_eq!((glucose.status.as_str(), glucose.doubts.as_slice()), ("F", &[][..]));
    assert_eq!(report.observations[1].doubts, [Doubt::UnmappedCode]);
    assert_eq!(read.refused, [RefusedRecord { record: 9, kind: "R".into(), reason: "no result in record" }]);
}

#[test]
fn i13_a_failed_order_without_results_says_so() {
    let read = read(Protocol::Astm, ASTM.as_bytes());
    let failed = &read.reports[1];
    assert_eq!(failed.specimen.id.expose(), "S-101");
    let only = &failed.observations[0];
    assert_eq!((only.instrument_code.as_str(), only.status.as_str(), &only.value), ("NA", "X", &Value::Absent));
    assert_eq!(only.doubts, [Doubt::UnmappedCode, Doubt::FailedRun]);
    assert!(read.notes.iter().any(|n| n.what == "an order without results" && n.record == 11));
}

#[test]
fn an_oru_with_the_specimen_after_its_results_is_read() {
    let read = read(Protocol::Hl7, ORU.as_bytes());
    assert_eq!((read.reports.len(), read.inbound_results), (2, 4));
    let (one, two) = (&read.reports[0], &read.reports[1]);
    assert_eq!((one.specimen.id.expose(), two.specimen.id.expose()), ("S-100", "S-200"));
    assert_eq!((one.order.placer_order_number.expose(), two.order.placer_order_number.expose()), ("PL1", "PL2"));
    assert_eq!((one.patient.id.expose(), one.patient.id_authority.as_str()), ("P7", "HOSP"));
    assert_eq!(one.comments, ["haemolytic"]);
    let glucose = &one.observations[0];
    assert_eq!((&glucose.value, glucose.ucum.as_str(), glucose.doubts.len()), (&number("5.10"), "mmol/L", 0));
    assert_eq!((glucose.flags.len(), glucose.comments.as_slice()), (2, &["checked".to_string()][..]));
    assert_eq!(
        one.observations[1].value,
        Value::Compared { comparator: "<".into(), number: Decimal::parse("0.127").unwrap() }
    );
    assert_eq!(one.observations[2].value, Value::Text("1,5".into()));
    assert_eq!(one.observations[2].doubts, [Doubt::UnmappedCode, Doubt::UnreadableValue]);
}

#[test]
fn an_oru_with_the_specimen_first_is_read() {
    let lines: Vec<&str> = ORU.split_inclusive('\r').collect();
    let order = [0, 1, 9, 2, 3, 4, 5, 6, 7, 8, 12, 10, 11];
    let first: String = order.iter().map(|i| lines[*i]).collect();
    let read = read(Protocol::Hl7, first.as_bytes());
    let ids: Vec<&str> = read.reports.iter().map(|r| r.specimen.id.expose()).collect();
    assert_eq!((ids, read.inbound_results), (vec!["S-100", "S-200"], 4));
    assert_eq!(read.reports[0].order.placer_order_number.expose(), "PL1");
}

#[test]
fn an_oul_has_its_specimen_as_parent_and_its_orc_after_obr() {
    let raw = "MSH|^~\\&#|LAW||||20260715083000||OUL^R22^OUL_R22|1|P|2.7\r\
SPM|1|S1&LIS^F1||SER|||||||P\rSAC|||C1\rINV|x\r\
OBR|1|A1||GLU^^99X\rORC|OK|A1|||CM\rOBX|1|NM|GLU^^99X|1|5.0|mmol/L^^UCUM||N|||F|||||||D^V|20260715082900\r\
OBR|2|A2||K^^99X\rORC|OK|A2|||CM\rOBX|1|NM|K^^99X|1|4.0|mmol/L^^UCUM||N|||R|||||||D^V|20260715082900\r\
SPM|2|QC1||SER|||||||Q\rOBR|1|||K\rOBX|1|NM|K||4.1|mmol/L|||||F\r";
    let read = read(Protocol::Hl7, raw.as_bytes());
    let shape: Vec<_> = read
        .reports
        .iter()
        .map(|r| (r.specimen.id.expose(), r.order.placer_order_number.expose(), r.control.is_some()))
        .collect();
    assert_eq!(shape, [("S1", "A1", false), ("S1", "A2", false), ("QC1", "", true)]);
    assert!(read.reports[0].patient.is_empty() && balances(&read));
    assert_eq!(observations(&read)[2].doubts, [Doubt::UnmappedCode, Doubt::Control]);
    assert_eq!(observations(&read)[0].completed.as_ref().unwrap().hl7(), "20260715082900+0200");
}

#[test]
fn typed_values_are_what_obx_2_says_or_text_with_a_doubt() {
    let value = |kind: &str, sent: &str| {
        let raw = format!("MSH|^~\\&|A||||||ORU^R01|1|P|2.4\rOBR|1||S1\rOBX|1|{kind}|X||{sent}||||||F\r");
        let read = read(Protocol::Hl7, raw.as_bytes());
        let mut doubts = observations(&read)[0].doubts.clone();
        doubts.retain(|d| *d != Doubt::UnmappedCode);
        (observations(&read)[0].value.clone(), doubts)
    };
    let d = |s: &str| Decimal::parse(s).unwrap();
    let coded = |code: &str, text: &str| Value::Coded(crate::clinical::Coding::local(code, text));
    for (kind, sent, expected) in [
        ("NM", "8.0", number("8.0")),
        ("SN", ">^100", Value::Compared { comparator: ">".into(), number: d("100") }),
        ("SN", "^1^:^64", Value::Ratio { numerator: d("1"), separator: ":".into(), denominator: d("64") }),
        ("SN", "^0^-^2", Value::Range { low: d("0"), high: d("2") }),
        ("NR", "1^2", Value::Range { low: d("1"), high: d("2") }),
        ("ST", "<=1.005", Value::Compared { comparator: "<=".into(), number: d("1.005") }),
        ("ST", "Negative", Value::Text("Negative".into())),
        ("CWE", "POS^Positive^L", coded("POS", "Positive")),
        ("CE", "^Positive", Value::Text("Positive".into())),
        ("TX", "one~two\\.br\\three", Value::Text("one\ntwo\nthree".into())),
        (
            "ED",
            "^application^pdf^Base64^SGk=",
            Value::Data { media_type: "application/pdf".into(), base64: "SGk=".into() },
        ),
        ("", "7.10", number("7.10")),
    ] {
        assert_eq!(value(kind, sent), (expected, vec![]), "{kind} {sent}");
    }
    for (kind, sent) in
        [("NM", ">100"), ("NM", "1~2"), ("NM", "1^2"), ("SN", "?^1"), ("SN", "<^x"), ("ED", "^a^b^Hex^FF"), ("QQ", "1")]
    {
        assert_eq!(value(kind, sent), (Value::Text(sent.into()), vec![Doubt::UnreadableValue]), "{kind} {sent}");
    }
    assert_eq!(value("NM", ""), (Value::Absent, vec![Doubt::UnreadableValue]));
    assert_eq!(value("CWE", "ERROR^Error"), (Value::Text("ERROR".into()), vec![Doubt::FailedRun]));
}

#[test]
fn i13_units_codes_and_flags_go_by_the_list() {
    let toml = "[flags]\nH = \"HH\"\nA = \"\"\n[failure]\nquestionable_flags = [\"A\"]\n\
[[analyte]]\ncode = \"GLU\"\nloinc = \"2345-7\"\nunits = { \"mmol/L\" = \"mmol/L\" }\n\
[[analyte]]\ncode = \"K\"\nloinc = \"2823-3\"\nunits = { \"mEq/L\" = \"meq/L\" }\n";
    let read = with(toml, ASTM);
    let all = observations(&read);
    assert_eq!(
        (all[0].flags.as_slice(), all[0].doubts.as_slice()),
        (&["HH".to_string()][..], &[Doubt::Questionable][..])
    );
    assert_eq!((all[0].ucum.as_str(), all[1].doubts.as_slice()), ("mmol/L", &[Doubt::UnknownUnit][..]));
    assert_eq!(all[1].code.as_ref().unwrap().code, "2823-3");
}

#[test]
fn i13_a_code_with_several_meanings_goes_by_specimen_and_unit() {
    let entry = |loinc: &str, more: &str| format!("[[analyte]]\ncode = \"GLU\"\nloinc = \"{loinc}\"\n{more}\n");
    let meant = |toml: &str| observations(&with(toml, ASTM))[0].code.as_ref().map(|c| c.code.clone()).unwrap();
    let units =
        entry("2345-7", "units = { \"mg/dL\" = \"mg/dL\" }") + &entry("14749-6", "units = { \"mmol/L\" = \"mmol/L\" }");
    assert_eq!(meant(&units), "14749-6");
    let specimens = entry("2350-7", "specimen = [\"UR\"]") + &entry("14749-6", "specimen = [\"SER\"]");
    assert_eq!(meant(&specimens), "14749-6");
    // The instrument's own LOINC in R.3.1 stands in where no entry fits.
    assert_eq!(meant(&format!("[fields]\nanalyte_specimen = [\"UR\"]\n{}", entry("14749-6", ""))), "2345-7");
}

#[test]
fn a_value_in_two_components_loses_neither() {
    let raw = ASTM.replace("|5.10|", "|-1^0.282|").replace("|<0.127|", "|1|");
    let toml = "[fields]\nvalue = [\"R.4.2\", \"R.4.1\"]\n";
    let both =
        with(&format!("{toml}qualitative = \"R.4.1\"\n[qualitative]\n\"-1\" = \"NEG\"\n\"1\" = \"POS\"\n"), &raw);
    assert_eq!(
        (&observations(&both)[0].value, observations(&both)[0].flags.last().unwrap().as_str()),
        (&number("0.282"), "NEG")
    );
    assert_eq!((&observations(&both)[1].value, observations(&both)[1].flags.len()), (&number("1"), 0));
    let one = with(toml, &raw);
    assert!(observations(&one)[0].doubts.contains(&Doubt::UnreadableValue));
    assert!(!observations(&one)[1].doubts.contains(&Doubt::UnreadableValue));
}

#[test]
fn a_data_alarm_in_a_comment_is_a_doubt_where_the_driver_says_so() {
    let raw = |alarm: &str| ASTM.replace("|checked|", &format!("|{alarm}|"));
    let toml = "quirks = [\"comment-is-data-alarm\"]\n[failure]\nharmless_alarms = [\">RR\"]\n";
    for (alarm, doubt) in [("0", false), ("", false), (">RR", false), ("43", true)] {
        let read = with(toml, &raw(alarm));
        assert_eq!(observations(&read)[0].doubts.contains(&Doubt::Questionable), doubt, "{alarm}");
    }
    assert!(!observations(&with("", &raw("43")))[0].doubts.contains(&Doubt::Questionable));
}

#[test]
fn codes_are_cut_trimmed_and_joined_and_technical_values_refused() {
    let raw = ASTM.replace("^^^K|", "^^^8/1/not|").replace("2345-7^Glucose^^GLU", "^Pan^^685/");
    let codes = |toml: &str| {
        with(toml, &raw).reports[0].observations.iter().map(|o| o.instrument_code.clone()).collect::<Vec<_>>()
    };
    assert_eq!(codes("[fields]\ntest_code_until = \"/\"\n"), ["685", "8"]);
    assert_eq!(codes("[fields]\ntest_code_trim = \"/\"\n"), ["685", "8/1/not"]);
    assert_eq!(codes("[fields]\ntest_code = \"R.3.2+R.3.4\"\ntest_code_trim = \"/\""), ["Pan/685", "/8/1/not"]);
    let technical = with("[technical]\ncodes = [\"8*\"]\n[fields]\ntest_code_trim = \"/\"\n", &raw);
    assert_eq!(technical.refused[0].reason, "technical value");
    let unnamed = with("[[when]]\nfield = \"R.3.2\"\nis = [\"\"]\nthen = \"technical\"\n", &raw);
    assert_eq!((unnamed.refused[0].record, unnamed.inbound_results), (8, 4));
}

#[test]
fn at_the_point_of_care_the_patient_is_enough() {
    let raw = ASTM.replacen("|S-100|", "||", 1);
    let toml = "[fields]\nspecimen_optional = true\n";
    let in_doubt = |raw: &str| observations(&with(toml, raw))[0].doubts.contains(&Doubt::NoSpecimen);
    assert!(!in_doubt(&raw));
    assert!(in_doubt(&raw.replacen("||H7|L7|", "||||", 1)));
}

#[test]
fn an_empty_result_is_held_or_where_the_driver_says_so_not_measured() {
    let raw = ASTM.replacen("|<0.127|", "|^|", 1);
    assert_eq!(observations(&with("", &raw))[1].doubts, [Doubt::UnmappedCode, Doubt::UnreadableValue]);
    let quirk = with("quirks = [\"empty-is-not-measured\"]\n", &raw);
    assert_eq!((quirk.refused[0].record, quirk.refused[0].reason), (8, "not measured"));
}

#[test]
fn statuses_mean_what_their_standard_says() {
    for (status, meant, doubt) in [
        ("F", "F", None),
        ("V", "F", None),
        ("P", "P", None),
        ("W", "R", Some(Doubt::Questionable)),
        ("X", "X", Some(Doubt::FailedRun)),
        ("M", "R", Some(Doubt::UnknownStatus)),
        ("S", "S", Some(Doubt::UnknownStatus)),
        ("", "F", None),
    ] {
        let read = read(Protocol::Astm, ASTM.replace("||C\r", &format!("||{status}\r")).as_bytes());
        let only = observations(&read)[1];
        let doubts: Vec<Doubt> = only.doubts.iter().copied().filter(|d| *d != Doubt::UnmappedCode).collect();
        assert_eq!((only.status.as_str(), doubts), (meant, doubt.into_iter().collect()), "{status}");
    }
    let mapped = with("[status]\nS = \"P\"\n", &ASTM.replace("||C\r", "||S\r"));
    assert_eq!(observations(&mapped)[1].status, "P");
}

#[test]
fn i13_control_training_and_unknown_specimens_are_doubts() {
    let doubts = |from: &str, to: &str, toml: &str| {
        let raw = ASTM.replacen(from, to, 1);
        assert_ne!(raw, ASTM);
        observations(&with(toml, &raw))[0].doubts.clone()
    };
    assert!(doubts("|||P|1|", "|||Q|1|", "").contains(&Doubt::Control));
    assert!(doubts("|||P|1|", "|||T|1|", "").contains(&Doubt::NotProduction));
    assert!(doubts("||||N|", "||||Q|", "").contains(&Doubt::Control));
    assert!(
        doubts("|S-100|", "|QC-1|", "[[when]]\nfield = \"O.3\"\nis = [\"QC-*\"]\nthen = \"control\"\n")
            .contains(&Doubt::Control)
    );
    assert!(
        doubts("|SER|", "|CTRL^^LOW|", "[[when]]\nfield = \"O.16\"\nis = [\"CTRL*\"]\nthen = \"control\"\n")
            .contains(&Doubt::Control)
    );
    assert!(doubts("|S-100|", "||", "").contains(&Doubt::NoSpecimen));
    assert!(doubts("|S-100|", "|@17|", "[fields]\nspecimen_misread = [\"@*\"]\n").contains(&Doubt::NoSpecimen));
    assert!(doubts("L|1|N\r", "", "").contains(&Doubt::Incomplete));
    assert!(doubts("H|\\^&|", "H||", "").contains(&Doubt::Unreadable));
}

#[test]
fn a_cut_session_and_bad_bytes_put_everything_in_doubt() {
    let driver = Registry::builtin();
    let cut = Context { complete: false, ..context() };
    let read = interpret(driver.generic(Protocol::Astm), ASTM.as_bytes(), &cut);
    assert!(observations(&read).iter().all(|o| o.doubts.contains(&Doubt::Incomplete)));
    let utf8 = Context { charset: Some("utf-8".into()), ..context() };
    let raw = [ASTM.as_bytes(), b"C|1|L|\xb5\r"].concat();
    let read = interpret(driver.generic(Protocol::Astm), &raw, &utf8);
    assert!(observations(&read).iter().all(|o| o.doubts.contains(&Doubt::Charset)));
}

#[test]
fn a_misnamed_segment_keeps_every_result_and_doubts_them_all() {
    let raw = ORU.replacen("NTE|1|I|checked\r", "ZZZZ|1\r", 1);
    let read = read(Protocol::Hl7, raw.as_bytes());
    assert_eq!(read.inbound_results, 4);
    assert!(observations(&read).iter().all(|o| o.doubts.contains(&Doubt::Unreadable)));
}

#[test]
fn an_unknown_instrument_gets_the_generic_driver() {
    let mut registry = Registry::builtin();
    let toml =
        |header: &str| format!("[identity]\nvendor=\"V\"\nmodel=\"M\"\nprotocol=\"astm\"\nheader=[\"{header}\"]\n");
    registry.add("unit", &toml("Unit")).unwrap();
    registry.add("unit-one", &toml("Unit^1")).unwrap();
    registry.add("never", &toml("*^2")).unwrap();
    assert_eq!(registry.identify(Protocol::Astm, ASTM.as_bytes()).id, "unit-one");
    assert_eq!(registry.identify(Protocol::Astm, ASTM.replace("Unit^1", "unit").as_bytes()).id, "generic-astm");
    assert_eq!(registry.identify(Protocol::Hl7, ORU.as_bytes()).id, "generic-hl7");
    assert_eq!((guess_protocol(ASTM.as_bytes()), guess_protocol(ORU.as_bytes())), (Protocol::Astm, Protocol::Hl7));
}

#[test]
fn i8_errors_notes_and_reports_print_no_patient_data() {
    let read = read(Protocol::Astm, ASTM.as_bytes());
    let printed = format!("{:?} {:?} {:?}", read.notes, read.refused, read.reports[0].patient);
    assert!(!printed.contains("DOE") && !printed.contains("S-100") && !printed.contains("H7"));
}

#[test]
fn i10_results_are_bounded_and_the_account_still_balances() {
    let mut raw = "H|\\^&\rO|1|S1\r".to_string();
    raw.extend((0..RESULTS_MAX + 5).map(|_| "R|1|^^^A|1\r"));
    let read = read(Protocol::Astm, raw.as_bytes());
    assert_eq!((observations(&read).len(), read.refused.len()), (RESULTS_MAX, 5));
    assert!(balances(&read));
}

fn mutate(text: &str, cuts: &[(usize, u8, u8)]) -> Vec<u8> {
    let mut raw = text.as_bytes().to_vec();
    for (at, how, byte) in cuts {
        let at = at % raw.len().max(1);
        match how % 4 {
            0 if !raw.is_empty() => raw[at] = *byte,
            1 => raw.insert(at, *byte),
            2 => raw.truncate(at.max(20)),
            _ => {
                let copy = raw[at..raw.len().min(at + 40)].to_vec();
                raw.splice(at..at, copy);
            }
        }
    }
    raw
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    /// Every R and OBX of a mangled message is an observation or a refusal, and nothing panics.
    #[test]
    fn i7_the_account_balances_for_any_input(
        hl7 in any::<bool>(),
        cuts in proptest::collection::vec((0usize..2000, any::<u8>(), any::<u8>()), 0..8),
    ) {
        let (protocol, text) = if hl7 { (Protocol::Hl7, ORU) } else { (Protocol::Astm, ASTM) };
        let raw = mutate(text, &cuts);
        let read = read(protocol, &raw);
        prop_assert!(balances(&read));
        let kinds: usize = if hl7 {
            let all = crate::message::hl7::read(&raw, None);
            all.messages.iter().flat_map(|m| &m.segments).filter(|s| s.name == "OBX").count()
        } else {
            let all = crate::message::astm::read(&raw, None);
            let result = |k| matches!(k, crate::message::astm::Kind::Result | crate::message::astm::Kind::Observation);
            all.messages.iter().flat_map(|m| &m.records).filter(|r| result(r.kind)).count()
        };
        let of_results = read.refused.iter().filter(|r| r.kind == "R" || r.kind == "OBX").count()
            + observations(&read).iter().filter(|o| !(o.value == Value::Absent && o.status == "X")).count();
        let absent = observations(&read).len() + read.refused.len() - of_results;
        prop_assert!(of_results <= kinds && kinds <= of_results + absent, "{kinds} results, {of_results} accounted");
    }

    #[test]
    fn interpretation_is_the_same_for_any_line_end(which in 0usize..4, hl7 in any::<bool>()) {
        let (protocol, text) = if hl7 { (Protocol::Hl7, ORU) } else { (Protocol::Astm, ASTM) };
        let end = ["\r", "\n", "\r\n", "\r\n\r\n"][which];
        let other = format!("\u{feff}{}", text.replace('\r', end));
        let (one, two) = (read(protocol, text.as_bytes()), read(protocol, other.as_bytes()));
        prop_assert_eq!(one, two);
    }

    #[test]
    fn any_driver_text_is_taken_or_refused(text in "[a-z\\[\\]=\" \\n.#]{0,200}") {
        let _ = Driver::parse("x", &text);
    }
}

#[test]
fn alarm_zero_is_neither_doubt_nor_comment() {
    let raw = ASTM.replacen("C|1|I|checked|I", "C|1|I|0|I", 1);
    let toml = "quirks = [\"comment-is-data-alarm\"]\n[[analyte]]\ncode = \"GLU\"\nloinc = \"2345-7\"\n[units]\n\"mmol/L\" = \"mmol/L\"\n";
    let alarmless = with(toml, &raw);
    assert_eq!((&observations(&alarmless)[0].comments, &observations(&alarmless)[0].doubts), (&vec![], &vec![]));
    let alarmed = with(toml, &raw.replacen("|I|0|I", "|I|43|I", 1));
    assert_eq!(observations(&alarmed)[0].doubts, [Doubt::Questionable]);
    assert_eq!(observations(&with("", &raw))[0].comments, ["0"], "elsewhere 0 is a comment like any other");
}

#[test]
fn i13_words_have_no_unit_unless_one_was_sent() {
    let toml = "[[analyte]]\ncode = \"GLU\"\nloinc = \"25428-4\"\nunits = { \"\" = \"1\", \"mg/dL\" = \"mg/dL\" }\nvalue_kind = \"any\"\n";
    let read = |value: &str, unit: &str| {
        let raw = ASTM.replacen("|5.10|mmol/L|", &format!("|{value}|{unit}|"), 1);
        let observation = observations(&with(toml, &raw))[0].clone();
        (observation.ucum, observation.doubts)
    };
    assert_eq!(read("Negative", ""), (String::new(), vec![]));
    assert_eq!(read("ca 125", "Leu/uL"), (String::new(), vec![Doubt::UnknownUnit]));
    assert_eq!(read("Trace", "mg/dL"), ("mg/dL".into(), vec![]));
    assert_eq!(read("6.5", ""), ("1".into(), vec![]));
}

#[test]
fn an_order_of_several_tests_names_none_of_them() {
    let several = with("", ASTM);
    assert_eq!(several.reports[0].order.universal_service_id, None);
    let one = with("", &ASTM.replacen("^^^GLU\\^^^K", "^^^GLU", 1));
    assert_eq!(one.reports[0].order.universal_service_id.as_ref().map(|s| s.code.as_str()), Some("GLU"));
}

#[test]
fn a_score_is_technical_until_the_instrument_flags_it() {
    let toml = "[technical]\ncodes_without_flag = [\"GL*\"]\n";
    assert_eq!(observations(&with(toml, ASTM))[0].instrument_code, "GLU", "it has flags");
    let unflagged = with(toml, &ASTM.replacen("|H\\A|", "||", 1));
    assert_eq!((unflagged.refused[0].record, unflagged.refused[0].reason), (6, "technical value"));
}

#[test]
fn i13_a_word_the_driver_does_not_know_is_held() {
    let toml = "[fields]\nvalue_words = [\"NOT DETECTED\", \"MTB DETECTED*\"]\n[[analyte]]\ncode = \"GLU\"\nloinc = \"25428-4\"\n";
    let doubts = |word: &str| {
        observations(&with(toml, &ASTM.replacen("|5.10|mmol/L|", &format!("|{word}||"), 1)))[0].doubts.clone()
    };
    for known in ["NOT DETECTED", "Not Detected", "MTB DETECTED LOW", "5.1"] {
        assert!(!doubts(known).contains(&Doubt::UnreadableValue), "{known}");
    }
    assert_eq!(doubts("ERREUR"), [Doubt::UnreadableValue]);
}

#[test]
fn h2_what_a_damaged_row_says_of_other_rows_of_a_table_holds_them() {
    let driver = "[identity]\nvendor = \"V\"\nmodel = \"M\"\nprotocol = \"table\"\n[table]\nfill_down = [\"Sample ID\"]\n\
        [fields]\nspecimen_id = \"[Sample ID]\"\ntest_code = \"[Test]\"\nvalue = \"[Value]\"\n";
    let driver = Driver::parse("test", driver).unwrap();
    for (raw, held) in [
        ("Sample ID,\"S1\"\n\nTest,Value,Unit\nGLU,5.0,mmol/L\nK,4.1,mmol/L\n", [false, false]),
        ("Sample ID,\"S1\"x\n\nTest,Value,Unit\nGLU,5.0,mmol/L\nK,4.1,mmol/L\n", [true, true]),
        ("Sample ID,Test,Value\n\"S1\"x,GLU,5.0\n,K,4.1\n", [true, true]),
        ("Sample ID,Test,Value\nS1,\"GLU\"x,5.0\nS2,K,4.1\n", [true, false]),
        ("Sample ID,Test,Value\nS1,GLU,5.0\nS2,\"K\"x,4.1\n", [false, true]),
    ] {
        let read = interpret(&driver, raw.as_bytes(), &context());
        let doubtful: Vec<bool> = observations(&read).iter().map(|o| o.doubts.contains(&Doubt::Unreadable)).collect();
        assert_eq!(doubtful, held, "{raw}");
    }
}
