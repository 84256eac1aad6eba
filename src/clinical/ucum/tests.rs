use super::*;
use crate::clinical::Decimal;
use proptest::prelude::*;

fn unit(code: &str) -> Unit {
    Unit::parse(code).unwrap_or_else(|e| panic!("{e}"))
}

fn factor(from: &str, to: &str) -> Option<String> {
    let one = Exact::of(&Decimal::parse("1.000000")?)?;
    unit(from).factor_to(&unit(to)).and_then(|factor| one.scaled(factor)).map(|d| d.to_string())
}

#[test]
fn the_whole_grammar_is_read() {
    for code in [
        "mg/dL",
        "mg/dl",
        "10*9/L",
        "10*-3",
        "[IU]/L",
        "m[IU]/L",
        "mm[Hg]",
        "[pH]",
        "Cel",
        "%",
        "1",
        "{copies}/mL",
        "/min",
        "kg.m/s2",
        "mL/min/{1.73_m2}",
        "mL/min/1.73.m2",
        "(mg/dL)/h",
        "u[IU]/mL",
        "[arb'U]/mL",
        "mosm/kg",
        "g%",
        "10^",
        "[in_i'H2O]",
        "{ratio}",
        "mmol/mol",
        "[CFU]/mL",
    ] {
        assert!(Unit::parse(code).is_ok(), "{code}");
    }
    for code in [
        "", " ", "mg/dL ", "mgs", "IU/L", "mmHg", "x10*9/L", "mg//dL", "mg/", "(mg", "{open", "µg/L", "units", "K/μL",
        "mEq/L", "sec",
    ] {
        assert!(Unit::parse(code).is_err(), "{code}");
    }
}

#[test]
fn a_wrong_code_is_told_with_the_one_that_was_meant() {
    for (code, meant) in [
        ("IU/L", "[IU]/L"),
        ("mIU/L", "m[IU]/L"),
        ("µg/L", "ug/L"),
        ("mmHg", "mm[Hg]"),
        ("x10^9/L", "10*9/L"),
        ("MG/DL", "mg/dL"),
        ("mEq/L", "meq/L"),
        ("copies/mL", "{copies}/mL"),
        ("mg / dL", "mg/dL"),
        ("RBC/uL", "{RBC}/uL"),
    ] {
        let told = Unit::parse(code).unwrap_err();
        assert_eq!(told.suggestion.as_deref(), Some(meant), "{code}");
        assert!(told.to_string().contains("did you mean"));
    }
    assert_eq!(Unit::parse(&"x".repeat(200)).unwrap_err().suggestion, None);
}

#[test]
fn i11_factors_are_exact() {
    for (from, to, expected) in [
        ("mmol/L", "umol/L", "1000.000"),
        ("mg/dL", "g/L", "0.01000000"),
        ("g/dL", "g/L", "10.00000"),
        ("10*3/uL", "10*9/L", "1.000000"),
        ("10*6/uL", "10*12/L", "1.000000"),
        ("[IU]/mL", "k[IU]/L", "1.000000"),
        ("kU/L", "U/L", "1000.000"),
        ("L/L", "%", "100.0000"),
        ("mg/g", "ug/mg", "1.000000"),
        ("Cel", "Cel", "1.000000"),
    ] {
        assert_eq!(factor(from, to).as_deref(), Some(expected), "{from} to {to}");
    }
    assert_eq!(factor("mm/h", "mm/min"), None, "a sixtieth is no exact decimal");
}

#[test]
fn i13_quantities_that_only_look_alike_are_not_converted() {
    for (one, other) in [
        ("mmol/L", "mg/dL"),
        ("mmol/L", "10*9/L"),
        ("mmol/L", "meq/L"),
        ("mmol/kg", "mosm/kg"),
        ("mmol/mol", "%"),
        ("[IU]/L", "U/L"),
        ("[IU]/mL", "[arb'U]/mL"),
        ("Cel", "K"),
        ("[pH]", "mol/L"),
    ] {
        assert!(!unit(one).is_commensurable(&unit(other)), "{one} and {other}");
    }
    assert!(unit("U/L").is_commensurable(&unit("ukat/L")), "an enzyme unit is moles a minute");
    assert!(unit("{copies}/mL").is_commensurable(&unit("/mL")), "an annotation means nothing to UCUM");
}

proptest! {
    #[test]
    fn reading_is_total(text in "\\PC{0,40}") {
        let _ = Unit::parse(&text);
    }

    #[test]
    fn a_code_made_by_the_grammar_is_read_and_is_commensurable_with_itself(
        prefix in prop::sample::select(vec!["", "k", "d", "c", "m", "u", "n", "p", "f"]),
        over in prop::sample::select(vec!["g", "mol", "L", "[IU]", "U", "eq", "m"]),
        under in prop::sample::select(vec!["L", "dL", "mL", "kg", "h", "min"]),
        power in -3_i32..4,
        note in prop::sample::select(vec!["", "{creat}"]),
    ) {
        let power = if power == 0 || power == 1 { String::new() } else { power.to_string() };
        let code = format!("{prefix}{over}{power}{note}/{under}");
        let unit = Unit::parse(&code).map_err(|e| TestCaseError::fail(e.to_string()))?;
        prop_assert!(unit.is_commensurable(&unit));
        prop_assert_eq!(unit.factor_to(&unit).and_then(|f| f.compare(Exact::ONE)), Some(std::cmp::Ordering::Equal));
    }
}
