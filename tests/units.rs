//! Units: every one a driver names is UCUM, and a stranger (npm `@lhncbc/ucum-lhc`) says the same of thousands of codes.
//! It is looked for below `AFFERENT_PEERS`, else where `tests/all` puts it.

use afferent::clinical::{Decimal, Exact, Unit};
use afferent::driver::Registry;
use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What laboratories measure, in the numerator.
const OVER: [&str; 26] = [
    "g", "mg", "ug", "ng", "pg", "fg", "mol", "mmol", "umol", "nmol", "pmol", "U", "kU", "mU", "[IU]", "k[IU]",
    "m[IU]", "u[IU]", "eq", "meq", "mosm", "10*3", "10*6", "10*9", "10*12", "{copies}",
];
/// By what they divide it.
const UNDER: [&str; 12] = ["L", "dL", "mL", "uL", "l", "dl", "kg", "g", "mg", "mol", "mmol", "h"];
/// Codes of every shape the grammar has, valid and not.
const SHAPES: [&str; 60] = [
    "",
    "1",
    "%",
    "[pH]",
    "Cel",
    "K",
    "mm[Hg]",
    "kPa",
    "fL",
    "pg",
    "s",
    "min",
    "h",
    "d",
    "wk",
    "mo",
    "a",
    "/min",
    "/uL",
    "mL/min",
    "mL/min/{1.73_m2}",
    "mL/min/1.73.m2",
    "kg/m2",
    "10*-3",
    "10*3",
    "10^3",
    "[arb'U]",
    "[arb'U]/mL",
    "[CFU]/mL",
    "g%",
    "mg%",
    "[ppm]",
    "[ppb]",
    "[degF]",
    "[in_i]",
    "[lb_av]",
    "(g/L)/h",
    "g/(L.h)",
    "g.L-1",
    "mmol.L-1",
    "m2.s-2",
    "{ratio}",
    "{ratio",
    "mg//dL",
    "mg/",
    "/",
    "mgs/dL",
    "IU/L",
    "10^9/L",
    "x10*9/L",
    "mmHg",
    "units",
    "mg dL",
    "..",
    "(mg",
    "mg)",
    "kk",
    "[IU",
    "mg2dL",
    "µg/L",
];
/// Where the two read the standard differently and this is right: none is a code an instrument sends.
const READ_OTHERWISE: [&str; 0] = [];

#[test]
fn every_unit_of_every_driver_is_ucum() {
    let registry = Registry::builtin();
    let units = units_of(&registry);
    assert!(units.len() >= 30, "only {} units were looked at", units.len());
    for unit in units {
        assert!(Unit::parse(&unit).is_ok(), "{unit}");
    }
}

#[test]
fn a_stranger_says_the_same_about_codes_and_factors() {
    let Some(peers) = peers() else {
        return println!("left out: npm ucum-lhc (it is not installed; tests/all does that)");
    };
    let mut codes: BTreeSet<String> = units_of(&Registry::builtin());
    codes.extend(SHAPES.map(str::to_owned));
    codes.extend(OVER.iter().flat_map(|over| UNDER.map(|under| format!("{over}/{under}"))));
    let codes: Vec<String> = codes.into_iter().collect();
    // Each unit is read once: the pairs are many.
    let known: Vec<(&str, Unit)> =
        codes.iter().filter_map(|code| Some((code.as_str(), Unit::parse(code).ok()?))).collect();
    let pairs: Vec<_> = known.iter().flat_map(|from| known.iter().map(move |to| (from, to))).step_by(7).collect();
    let named: Vec<(&str, &str)> = pairs.iter().map(|(from, to)| (from.0, to.0)).collect();
    let judged = ask(&peers, &serde_json::json!({ "codes": codes, "pairs": named }));

    let valid = judged["valid"].as_array().unwrap();
    let differ =
        codes.iter().zip(valid).filter(|(code, theirs)| Unit::parse(code).is_ok() != theirs.as_bool().unwrap());
    let differ: Vec<_> = differ.filter(|(code, _)| !READ_OTHERWISE.contains(&code.as_str())).collect();
    assert!(differ.is_empty(), "valid to one of the two only: {differ:?}");

    let mut compared = 0;
    for (((from, one), (to, other)), theirs) in pairs.iter().zip(judged["factors"].as_array().unwrap()) {
        let Some(ours) = one.factor_to(other) else { continue };
        // It converts no arbitrary unit, not even with another prefix.
        if theirs.is_null() && from.contains('[') {
            continue;
        }
        let ours: f64 = decimal(ours).parse().unwrap();
        let theirs = theirs.as_f64().unwrap_or_else(|| panic!("{from} to {to}: {ours}, and they convert nothing"));
        assert!((ours / theirs - 1.0).abs() < 1e-9, "{from} to {to}: {ours}, they say {theirs}");
        compared += 1;
    }
    assert!(compared > 500, "only {compared} factors were compared");
    println!("{} codes and {compared} factors as ucum-lhc has them", codes.len());
}

fn units_of(registry: &Registry) -> BTreeSet<String> {
    let schemas = registry.iter().map(|driver| &driver.schema);
    schemas.flat_map(|s| s.analyte.iter().flat_map(|a| a.units.values()).chain(s.units.values())).cloned().collect()
}

/// A factor with enough digits to be compared.
fn decimal(factor: Exact) -> String {
    factor.rounded(24).or_else(|| factor.rounded(0)).map(|d: Decimal| d.to_string()).unwrap()
}

fn peers() -> Option<PathBuf> {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers");
    let peers = std::env::var_os("AFFERENT_PEERS").map_or(built, PathBuf::from).join("node");
    peers.join("node_modules/@lhncbc/ucum-lhc").is_dir().then_some(peers)
}

fn ask(peers: &Path, question: &serde_json::Value) -> serde_json::Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/ucum_lhc.cjs");
    let mut node = Command::new("node")
        .arg(script)
        .arg(peers.canonicalize().unwrap())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    node.stdin.take().unwrap().write_all(question.to_string().as_bytes()).unwrap();
    let said = node.wait_with_output().unwrap();
    assert!(said.status.success());
    serde_json::from_slice(&said.stdout).unwrap()
}
