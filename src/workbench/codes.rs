//! Codes and units that nobody has mapped yet: what was seen, and what other drivers take the same thing for. Pure.
//!
//! A suggestion is never applied by itself (invariant I13). It is made only where code or name agree **and** the unit
//! does, or is one the driver's unit can be said in: the same number of a mass and of an amount of substance are two
//! different results, and g/L and mg/dL are not.

use crate::clinical::Unit;
use crate::driver::Registry;
use crate::driver::schema::Analyte;
use serde::Serialize;
use std::collections::BTreeMap;

/// Most suggestions for one code.
const SUGGESTIONS_MAX: usize = 5;

/// A code, or a code in a unit, that is held because no driver says what it stands for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Unmapped {
    /// The link it came over.
    pub link: String,
    /// The driver that read it.
    pub driver: String,
    /// The instrument's code.
    pub code: String,
    /// The instrument's name for it, when it sends one.
    pub name: String,
    /// The unit as sent.
    pub unit: String,
    /// Why it is held: `unmapped-code` or `unknown-unit`.
    pub reason: String,
}

/// What another driver takes the same code or name in the same unit for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Suggestion {
    /// LOINC.
    pub loinc: String,
    /// Its long common name.
    pub name: String,
    /// The unit in UCUM.
    pub ucum: String,
    /// The drivers that say so.
    pub drivers: Vec<String>,
    /// `code` or `name`: what agrees besides the unit.
    pub agrees: &'static str,
    /// `same` or `commensurable`: how the unit agrees.
    pub unit: &'static str,
}

impl std::fmt::Display for Suggestion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Suggestion { loinc, name, ucum, drivers, agrees, unit } = self;
        let unit = if *unit == "same" { "unit" } else { "kind of unit" };
        write!(f, "{loinc} {name}, {ucum} (same {agrees} and {unit} in {})", drivers.join(", "))
    }
}

/// What a person decided about a code.
#[derive(Debug, Clone, Default)]
pub struct Decision {
    /// The instrument's code.
    pub code: String,
    /// LOINC.
    pub loinc: String,
    /// Its long common name.
    pub name: String,
    /// Unit as sent, and in UCUM.
    pub units: Vec<(String, String)>,
}

/// Suggestions for a code, those in the same unit and those most drivers agree on first.
pub fn suggest(registry: &Registry, code: &str, name: &str, unit: &str) -> Vec<Suggestion> {
    let mut found: BTreeMap<(&'static str, &'static str, String, String), Suggestion> = BTreeMap::new();
    let sent = in_ucum(registry, unit);
    for driver in registry.iter() {
        for analyte in &driver.schema.analyte {
            let said = || sent.clone().filter(|sent| is_sayable(analyte, &driver.schema.units, sent));
            let as_sent = ucum(analyte, &driver.schema.units, unit).map(|ucum| ("same", ucum));
            let Some((unit, ucum)) = as_sent.or_else(|| Some(("commensurable", said()?))) else { continue };
            let agrees = if same(&analyte.code, code) {
                "code"
            } else if is_called(analyte, code) || is_called(analyte, name) {
                "name"
            } else {
                continue;
            };
            let suggestion =
                found.entry((agrees, unit, analyte.loinc.clone(), ucum.clone())).or_insert_with(|| Suggestion {
                    loinc: analyte.loinc.clone(),
                    name: analyte.name.clone(),
                    ucum,
                    drivers: Vec::new(),
                    agrees,
                    unit,
                });
            if !suggestion.drivers.contains(&driver.id) {
                suggestion.drivers.push(driver.id.clone());
            }
        }
    }
    let mut found: Vec<Suggestion> = found.into_values().collect();
    found.sort_by_key(|s| (s.unit != "same", std::cmp::Reverse(s.drivers.len()), s.agrees, s.loinc.clone()));
    found.truncate(SUGGESTIONS_MAX);
    found
}

/// The text of a driver with this decision added at its end.
pub fn with_decision(text: &str, decision: &Decision) -> String {
    let quoted = |text: &str| toml::Value::String(text.to_string()).to_string();
    let units: Vec<String> =
        decision.units.iter().map(|(sent, ucum)| format!("{} = {}", quoted(sent), quoted(ucum))).collect();
    let mut text = format!(
        "{}\n\n[[analyte]]\ncode = {}\nloinc = {}\n",
        text.trim_end(),
        quoted(&decision.code),
        quoted(&decision.loinc)
    );
    if !decision.name.is_empty() {
        text.push_str(&format!("name = {}\n", quoted(&decision.name)));
    }
    if !units.is_empty() {
        text.push_str(&format!("units = {{ {} }}\n", units.join(", ")));
    }
    text
}

/// The UCUM unit an analyte has for this unit as sent.
fn ucum(analyte: &Analyte, of_driver: &BTreeMap<String, String>, unit: &str) -> Option<String> {
    if analyte.units.is_empty() {
        return of_driver.get(unit).cloned();
    }
    let as_ucum = || analyte.units.values().find(|ucum| ucum.as_str() == unit).cloned();
    analyte.units.get(unit).cloned().or_else(as_ucum)
}

/// The unit in UCUM, when it is a UCUM code itself or every driver that lists it agrees what it is.
fn in_ucum(registry: &Registry, unit: &str) -> Option<String> {
    let listed = |driver: &crate::driver::Driver| {
        let analytes = driver.schema.analyte.iter().map(|analyte| &analyte.units);
        analytes.chain([&driver.schema.units]).filter_map(|units| units.get(unit)).cloned().collect::<Vec<_>>()
    };
    let mut listed: Vec<String> = registry.iter().flat_map(listed).collect();
    listed.dedup();
    match listed.as_slice() {
        [] => Unit::parse(unit).ok().map(|_| unit.to_string()),
        [first, rest @ ..] => rest.iter().all(|other| other == first).then(|| first.clone()),
    }
}

/// True when a number in this unit can be said in one the analyte comes in.
fn is_sayable(analyte: &Analyte, of_driver: &BTreeMap<String, String>, ucum: &str) -> bool {
    let Ok(unit) = Unit::parse(ucum) else { return false };
    let units = if analyte.units.is_empty() { of_driver } else { &analyte.units };
    units.values().filter_map(|known| Unit::parse(known).ok()).any(|known| known.is_commensurable(&unit))
}

/// The same code, whatever its case and punctuation.
fn same(one: &str, other: &str) -> bool {
    let plain =
        |text: &str| text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect::<String>();
    let (one, other) = (plain(one), plain(other));
    // Numbers mean something else on each instrument.
    !one.is_empty() && one == other && !one.chars().all(|c| c.is_ascii_digit())
}

/// True when this is the component of the LOINC long common name: what stands before its property.
fn is_called(analyte: &Analyte, name: &str) -> bool {
    let component = analyte.name.split('[').next().unwrap_or("").trim();
    !component.is_empty() && same(component, name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::Driver;

    const ONE: &str = "[identity]\nvendor = \"V\"\nmodel = \"M\"\nprotocol = \"astm\"\nheader = [\"One\"]\n\
        [[analyte]]\ncode = \"GLU\"\nloinc = \"14749-6\"\nname = \"Glucose [Moles/volume] in Serum or Plasma\"\n\
        units = { \"mmol/l\" = \"mmol/L\" }\n\
        [[analyte]]\ncode = \"GLU\"\nloinc = \"2345-7\"\nname = \"Glucose [Mass/volume] in Serum or Plasma\"\n\
        units = { \"mg/dl\" = \"mg/dL\" }\n\
        [[analyte]]\ncode = \"12\"\nloinc = \"2951-2\"\nname = \"Sodium [Moles/volume] in Serum or Plasma\"\n\
        units = { \"mmol/l\" = \"mmol/L\" }\n";

    fn registry() -> Registry {
        let mut registry = Registry::builtin();
        registry.add("one", ONE).unwrap();
        registry
    }

    fn loincs(code: &str, name: &str, unit: &str) -> Vec<String> {
        suggest(&registry(), code, name, unit).into_iter().map(|s| s.loinc).collect()
    }

    #[test]
    fn i13_a_suggestion_needs_the_unit() {
        let found = loincs("glu", "", "mmol/l");
        assert_eq!(found.first().map(String::as_str), Some("14749-6"), "{found:?}");
        assert!(!found.contains(&"2345-7".to_string()), "a mass is not an amount: {found:?}");
        let found = loincs("glu", "", "mg/dl");
        assert!(found.contains(&"2345-7".to_string()) && !found.contains(&"14749-6".to_string()), "{found:?}");
        assert!(loincs("glu", "", "furlong").is_empty());
        let found = suggest(&registry(), "glu", "", "g/L");
        assert!(found.iter().any(|s| s.loinc == "2345-7" && s.ucum == "g/L"), "g/L is a mass as mg/dL is: {found:?}");
        assert!(!found.iter().any(|s| s.loinc == "14749-6"), "{found:?}");
    }

    #[test]
    fn i13_numbers_are_no_names_and_names_are_compared_whole() {
        assert!(loincs("12", "", "mmol/l").is_empty(), "12 is something else on each instrument");
        assert_eq!(loincs("77", "sodium", "mmol/l").first().map(String::as_str), Some("2951-2"));
        assert!(loincs("77", "sodi", "mmol/l").is_empty());
    }

    #[test]
    fn a_decision_becomes_part_of_the_driver() {
        let decision = Decision {
            code: "K\"1".to_string(),
            loinc: "2823-3".to_string(),
            name: "Potassium [Moles/volume] in Serum or Plasma".to_string(),
            units: vec![("mmol/l".to_string(), "mmol/L".to_string())],
        };
        let driver = Driver::parse("one", &with_decision(ONE, &decision)).unwrap();
        assert_eq!(driver.analyte("K\"1", "", "mmol/l").map(|a| a.loinc.as_str()), Some("2823-3"));
        assert_eq!(driver.schema.analyte.len(), 4);
    }
}
