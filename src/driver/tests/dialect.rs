//! What a driver says about its instrument's own ways: rules on any field, split fields, inherited times, words.

use super::*;

fn rule(field: &str, then: &str) -> String {
    format!("[[when]]\nfield = \"{field}\"\nis = [\"QC\", \"2*\"]\nthen = \"{then}\"\n")
}

fn doubts_of(toml: &str, raw: &str, at: usize) -> Vec<Doubt> {
    let mut doubts = observations(&with(toml, raw))[at].doubts.clone();
    doubts.retain(|d| !matches!(d, Doubt::UnmappedCode | Doubt::UnknownUnit));
    doubts
}

#[test]
fn i13_a_rule_on_any_field_decides_what_a_result_is() {
    let in_order = ASTM.replacen("|S-100||", "|S-100|^^^^QC|", 1);
    assert_eq!(doubts_of(&rule("O.4.5", "control"), &in_order, 0), [Doubt::Control]);
    assert_eq!(doubts_of(&rule("O.4.5", "control"), ASTM, 0), []);
    let version = ASTM.replacen("|Unit^1|||", "|Unit^1|QC||", 1);
    for (then, doubt) in [
        ("failed", Doubt::FailedRun),
        ("questionable", Doubt::Questionable),
        ("not-production", Doubt::NotProduction),
        ("no-specimen", Doubt::NoSpecimen),
    ] {
        assert_eq!(doubts_of(&rule("H.6", then), &version, 0), [doubt], "{then}");
    }
    let hl7 = ORU.replacen("|M1|P|2.5.1|||||||", "|M1|P|2.5.1||||2|||", 1);
    assert_eq!(doubts_of(&rule("MSH.16", "control"), &hl7, 0), [Doubt::Control]);
    assert_eq!(doubts_of(&rule("OBR.4", "control"), &ORU.replace("PAN^Panel^L", "QC"), 0), [Doubt::Control]);
    let several =
        "[[when]]\nfield = \"R.9\"\nis = [\"F\"]\nand = [{ field = \"R.7\", not = [\"\"] }]\nthen = \"questionable\"";
    assert_eq!((doubts_of(several, ASTM, 0), doubts_of(several, ASTM, 1)), (vec![Doubt::Questionable], vec![]));
}

#[test]
fn i13_one_control_result_makes_its_whole_report_a_control_run() {
    let toml = rule("R.9", "control").replace("QC", "C") + "[qc]\ncontrol_name = \"O.3\"\n";
    let read = with(&toml, ASTM);
    assert!(read.reports[0].observations.iter().all(|o| o.doubts.contains(&Doubt::Control)));
    assert_eq!(read.reports[0].control.as_ref().unwrap().name, "S-100");
}

#[test]
fn i7_technical_results_are_refused_and_technical_comments_left_out() {
    let whole = with(&rule("H.6", "technical"), &ASTM.replacen("|Unit^1|||", "|Unit^1|QC||", 1));
    assert!(whole.reports.is_empty() && balances(&whole));
    assert_eq!(whole.refused.iter().filter(|r| r.reason == "technical value").count(), 3);
    let told = |comment: &str, then: &str| {
        let raw = ASTM.replace("|checked|", &format!("|{comment}|"));
        with(&rule("C.4", then), &raw).reports[0].observations[0].clone()
    };
    assert_eq!((told("2 probes", "technical").comments.len(), told("probes", "technical").comments.len()), (0, 1));
    let questioned = told("2 probes", "questionable");
    assert!(questioned.doubts.contains(&Doubt::Questionable) && questioned.comments.len() == 1);
    let of_order = ASTM.replacen("haemolytic", "2 hours old", 1);
    assert_eq!(doubts_of(&rule("C.4", "questionable"), &of_order, 0), [Doubt::Questionable]);
    let of_hl7 = ORU.replacen("haemolytic", "2 hours old", 1);
    assert_eq!(doubts_of(&rule("NTE.3", "questionable"), &of_hl7, 0), [Doubt::Questionable]);
}

#[test]
fn flags_may_be_components() {
    let toml = "[fields]\nflag = \"R.7.*\"\n[failure]\nquestionable_flags = [\"CNTL\"]\n[flags]\nHIGH = \"H\"\n";
    let read = with(toml, &ASTM.replace("|H\\A|", "|HIGH^CNTL|"));
    assert_eq!(observations(&read)[0].flags, ["H", "CNTL"]);
    assert!(observations(&read)[0].doubts.contains(&Doubt::Questionable));
    let hl7 = with("[fields]\nflag = \"OBX.8.*\"\n", &ORU.replace("|H~A|", "|H^A~X|"));
    assert_eq!(observations(&hl7)[0].flags, ["H", "A", "X"]);
}

#[test]
fn i7_one_field_may_hold_several_results() {
    let toml = "[fields]\nvalue = \"R.4.*\"\n[[analyte]]\ncode = \"K/3\"\nloinc = \"10331-7\"\nvalue_words = [\"POS\", \"NEG\"]\n";
    let read = with(toml, &ASTM.replace("|<0.127|mmol/L|", "|B^^POS^CcDee|^|"));
    let found: Vec<(&str, u32)> =
        read.reports[0].observations.iter().map(|o| (o.instrument_code.as_str(), o.record)).collect();
    assert_eq!(found, [("GLU/1", 6), ("K/1", 8), ("K/3", 8), ("K/4", 8)]);
    assert_eq!(read.reports[0].observations[2].code.as_ref().unwrap().code, "10331-7");
    assert_eq!(read.reports[0].observations[2].value, Value::Text("POS".into()));
    assert!(balances(&read));
}

#[test]
fn a_time_may_hold_for_the_results_after_it() {
    let toml = "[fields]\ncompleted_carries = true\n";
    let completed = |toml: &str, at: usize| observations(&with(toml, ASTM))[at].completed.clone();
    assert_eq!(completed(toml, 1), completed(toml, 0));
    assert_eq!((completed("", 1), completed(toml, 2)), (None, None), "never into the next order");
    let in_oru = with(toml, ORU);
    assert_eq!(observations(&in_oru)[1].completed, observations(&in_oru)[0].completed);
}

#[test]
fn i13_a_coded_value_is_one_of_the_analytes_words_or_held() {
    let toml = "[[analyte]]\ncode = \"X1\"\nloinc = \"5778-6\"\nvalue_words = [\"Yellow\", \"AMB\"]\n";
    for (kind, sent, held) in [
        ("CE", "YEL^Yellow", false),
        ("CE", "AMB^Bernstein", false),
        ("CE", "GRN^Green", true),
        ("IS", "AMB", false),
        ("IS", "T", true),
        ("ST", "yellow", false),
    ] {
        let raw = ORU.replace("|ST|X1||word|", &format!("|{kind}|X1||{sent}|"));
        assert_eq!(doubts_of(toml, &raw, 3).contains(&Doubt::UnreadableValue), held, "{kind} {sent}");
    }
}

#[test]
fn each_result_names_what_made_it_and_its_dilution() {
    let raw = ASTM.replace("|op||20260715082900", "|op||20260715082900|c501-2").replace("^^GLU|", "^^GLU^1:4|");
    let read = with("[fields]\ndilution = \"R.3.5\"\ntest_code = \"R.3.4\"\n", &raw);
    assert_eq!(
        (observations(&read)[0].equipment.as_str(), observations(&read)[0].dilution.as_str()),
        ("c501-2", "1:4")
    );
    let hl7 = with("", &ORU.replace("|||20260715082900", "|||||||SN7|20260715082900"));
    assert_eq!(observations(&hl7)[0].equipment, "SN7");
    // The lowest level comes first, but last in LAW.
    let several = ORU.replace("|||20260715082900", "|||||||MODULE-3~CLUSTER-1|20260715082900");
    assert_eq!(observations(&with("", &several))[0].equipment, "MODULE-3");
    let law = several.replacen("|P|2.5.1|||||||", "|P|2.5.1|||||||||LAB-29^IHE|", 1);
    assert_ne!(law, several);
    assert_eq!(observations(&with("", &law))[0].equipment, "CLUSTER-1");
}

#[test]
fn a_unit_sent_as_a_number_is_the_drivers_to_name() {
    let toml = "[units]\n\"1\" = \"10*9/L\"\n";
    let read = with(toml, &ASTM.replace("|5.10|mmol/L|", "|5.10|1|"));
    assert_eq!((observations(&read)[0].unit.as_str(), observations(&read)[0].ucum.as_str()), ("1", "10*9/L"));
}

fn registry_of(identity: &str) -> Registry {
    let mut registry = Registry::builtin();
    let head = "[identity]\nvendor = \"V\"\nmodel = \"M\"\nprotocol = \"astm\"\n";
    registry.add("mine", &format!("{head}{identity}\n")).unwrap();
    registry
}

#[test]
fn an_instrument_is_known_by_any_field_of_its_header() {
    let found = |identity: &str, raw: &str| registry_of(identity).identify(Protocol::Astm, raw.as_bytes()).id.clone();
    let unit = "where = [{ field = \"H.5\", is = [\"Unit^1\"] }]";
    assert_eq!(found(unit, ASTM), "mine");
    assert_eq!(found(unit, &ASTM.replace("Unit^1", "Unit^12")), "generic-astm", "exactly this name");
    let product = "where = [{ field = \"H.6\", is = [\"IH v*\"] }]";
    assert_eq!(found(product, &ASTM.replacen("|Unit^1|||", "||IH v5||", 1)), "mine");
    assert_eq!(found(product, ASTM), "generic-astm");
    let nameless = "where = [{ field = \"H.5\", is = [\"\"] }, { field = \"R.3.4\", is = [\"GLU\"] }]";
    assert_eq!(found(nameless, &ASTM.replacen("Unit^1", "", 1)), "mine", "by what it sends");
    let both = "header = [\"Unit\"]\nwhere = [{ field = \"H.14\", is = [\"1999*\"] }]";
    assert_eq!(found(both, ASTM), "generic-astm", "all of it has to hold");
    let hl7 = "[identity]\nvendor = \"V\"\nmodel = \"M\"\nprotocol = \"hl7\"\nwhere = [{ field = \"MSH.4\", is = [\"Lab\"] }]";
    let mut registry = Registry::builtin();
    registry.add("lab", hl7).unwrap();
    assert_eq!(registry.identify(Protocol::Hl7, ORU.as_bytes()).id, "lab");
}

#[test]
fn what_can_never_be_right_is_refused_with_its_line() {
    let head = "[identity]\nvendor = \"A\"\nmodel = \"B\"\nprotocol = \"astm\"\n";
    for (more, line, words) in [
        ("[[when]]\nfield = \"O.4\"\nthen = \"control\"\n", 6, "`is` or `not`"),
        ("[[when]]\nfield = \"O.4\"\nis = [\"*\"]\nthen = \"control\"\n", 6, "always true"),
        ("[[when]]\nfield = \"PID.3\"\nis = [\"Q\"]\nthen = \"control\"\n", 6, "PID.3"),
        ("where = [{ field = \"H.5\" }]\n", 5, "`is` or `not`"),
        ("[fields]\nunit = \"R.5.*\"\n", 6, "R.5.*"),
    ] {
        let error = Driver::parse("x", &format!("{head}{more}")).unwrap_err().to_string();
        assert!(error.contains(&format!("line {line}")) && error.contains(words), "{error}");
    }
}
