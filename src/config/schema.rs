//! The JSON Schema of the configuration, and the structural check made from it.
//!
//! serde stops at the first error; a person wants all of them. So the text is first compared with the schema, which is
//! made from the very structs serde fills. What does not fit becomes a fault and is left out of the table that serde
//! is given, and the checks behind it can still speak about the rest.

use super::diagnose::Fault;
use super::load::Places;
use serde_json::Value;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// JSON Schema (2020-12) of the configuration file.
pub fn schema() -> Value {
    schemars::schema_for!(super::Config).to_value()
}

/// What the structural check found.
pub struct Structure {
    /// What fits, for serde.
    pub table: toml::Table,
    /// What does not.
    pub faults: Vec<Fault>,
    /// Where every setting stands.
    pub places: Places,
}

/// Compares a document with the schema.
pub fn compare(document: &DeTable<'_>) -> Structure {
    compare_with(&schema(), document)
}

/// Compares a document with another schema.
pub fn compare_with(root: &Value, document: &DeTable<'_>) -> Structure {
    let mut walk = Walk { root, faults: Vec::new(), places: Places::default() };
    let table = walk.table(root, document, "", &(0..0));
    Structure { table, faults: walk.faults, places: walk.places }
}

/// Follows `$ref`, and steps through the `anyOf` that an `Option` makes.
pub fn resolve<'s>(root: &'s Value, mut schema: &'s Value) -> &'s Value {
    // Each step goes down or to a definition; definitions do not refer to themselves in a circle here.
    for _ in 0..16 {
        if let Some(name) = schema["$ref"].as_str().and_then(|r| r.strip_prefix("#/$defs/")) {
            schema = &root["$defs"][name];
        } else if let Some(some) = schema["anyOf"].as_array().and_then(|any| any.iter().find(|s| s["type"] != "null")) {
            schema = some;
        } else {
            break;
        }
    }
    schema
}

struct Walk<'s> {
    root: &'s Value,
    faults: Vec<Fault>,
    places: Places,
}

impl<'s> Walk<'s> {
    fn table(&mut self, schema: &'s Value, table: &DeTable<'_>, path: &str, header: &Range<usize>) -> toml::Table {
        let known = schema["properties"].as_object();
        let mut fitting = toml::Table::new();
        for (key, value) in table.iter() {
            let name = key.get_ref().as_ref();
            let here = join(path, name);
            let Some(wanted) = known.and_then(|k| k.get(name)) else {
                let place = if path.is_empty() { "at the top of the file".to_owned() } else { format!("in `{path}`") };
                let names = known.into_iter().flatten().map(|(name, _)| name.as_str());
                let fault = Fault::setting(key.span(), format!("unknown setting `{name}` {place}"));
                self.faults.push(fault.suggest(name, names));
                self.places.spoil(path);
                continue;
            };
            self.places.note(&here, key.span(), value.span());
            match self.value(resolve(self.root, wanted), value, &here) {
                Some(fits) => drop(fitting.insert(name.to_owned(), fits)),
                None => self.places.spoil(path),
            }
        }
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !table.iter().any(|(key, _)| key.get_ref() == name) {
                self.faults.push(Fault::setting(header.clone(), format!("`{path}` needs `{name}`")));
                self.places.spoil(path);
            }
        }
        fitting
    }

    /// The value as serde will be given it, or `None` when it does not fit.
    fn value(&mut self, schema: &'s Value, value: &Spanned<DeValue<'_>>, path: &str) -> Option<toml::Value> {
        let choices = choices(schema);
        match value.get_ref() {
            DeValue::Table(table) if is(schema, "object") => {
                let faults = self.faults.len();
                let fits = self.table(schema, table, path, &value.span());
                let required = schema["required"].as_array().is_some_and(|r| !r.is_empty());
                // A table that lacks what it must have cannot be given to serde at all.
                (self.faults.len() == faults || !required).then_some(toml::Value::Table(fits))
            }
            DeValue::Array(array) if is(schema, "array") => {
                let items = resolve(self.root, &schema["items"]);
                let fits = array.iter().enumerate().filter_map(|(index, item)| {
                    let here = format!("{path}[{index}]");
                    self.places.note(&here, item.span(), item.span());
                    self.value(items, item, &here)
                });
                let fits: Vec<toml::Value> = fits.collect();
                (fits.len() == array.len() || is(items, "object")).then_some(toml::Value::Array(fits))
            }
            DeValue::String(text) if !choices.is_empty() => {
                if choices.contains(&text.as_ref()) {
                    return Some(toml::Value::String(text.to_string()));
                }
                let fault = Fault::setting(value.span(), format!("`{text}` is no value of `{path}`"));
                let listed = choices.iter().map(|c| format!("\"{c}\"")).collect::<Vec<_>>().join(", ");
                let hint = match super::diagnose::nearest(text, choices.iter().copied()) {
                    Some(near) => format!("did you mean \"{near}\"? It can be {listed}"),
                    None => format!("it can be {listed}"),
                };
                self.faults.push(fault.hint(hint));
                None
            }
            DeValue::String(text) if is(schema, "string") => Some(toml::Value::String(text.to_string())),
            DeValue::Boolean(yes) if is(schema, "boolean") => Some(toml::Value::Boolean(*yes)),
            DeValue::Integer(digits) if is(schema, "integer") => {
                let number = i64::from_str_radix(digits.as_str(), digits.radix()).ok();
                let (least, most) = bounds(schema);
                match number.filter(|n| (least..=most).contains(n)) {
                    Some(number) => Some(toml::Value::Integer(number)),
                    None => {
                        let message = format!("`{path}` must be a whole number from {least} to {most}");
                        self.faults.push(Fault::setting(value.span(), message));
                        None
                    }
                }
            }
            other => {
                let items = resolve(self.root, &schema["items"]);
                let (wanted, example) = expected(schema, items, &choices);
                let message = format!("`{path}` must be {wanted}, not {}", article(other.type_str()));
                let mut fault = Fault::setting(value.span(), message);
                if let Some(example) = example {
                    fault = fault.hint(example);
                }
                self.faults.push(fault);
                None
            }
        }
    }
}

/// `a.b`, or `b` at the top.
fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// True when the schema allows this JSON type.
fn is(schema: &Value, kind: &str) -> bool {
    match &schema["type"] {
        Value::String(one) => one == kind,
        Value::Array(several) => several.iter().any(|t| t == kind),
        _ => false,
    }
}

/// The words an enum allows.
pub fn choices(schema: &Value) -> Vec<&str> {
    let listed = schema["enum"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let described = schema["oneOf"].as_array().into_iter().flatten().flat_map(|one| {
        let several = one["enum"].as_array().into_iter().flatten().filter_map(Value::as_str);
        one["const"].as_str().into_iter().chain(several)
    });
    listed.chain(described).collect()
}

/// Least and most of an integer; schemars tells the width of the larger ones only as a format.
fn bounds(schema: &Value) -> (i64, i64) {
    let (least, most) = match schema["format"].as_str() {
        Some("uint8") => (0, u8::MAX.into()),
        Some("uint16") => (0, u16::MAX.into()),
        Some("uint32") => (0, u32::MAX.into()),
        Some("uint64" | "uint") => (0, i64::MAX),
        Some("int32") => (i32::MIN.into(), i32::MAX.into()),
        _ => (i64::MIN, i64::MAX),
    };
    (schema["minimum"].as_i64().unwrap_or(least), schema["maximum"].as_i64().unwrap_or(most))
}

/// What a value of this schema is called, and what to do about a wrong one.
fn expected(schema: &Value, items: &Value, choices: &[&str]) -> (&'static str, Option<String>) {
    if !choices.is_empty() {
        let listed = choices.iter().map(|c| format!("\"{c}\"")).collect::<Vec<_>>().join(", ");
        return ("a word in quotes", Some(format!("it can be {listed}")));
    }
    if is(schema, "string") {
        ("text", Some("put it in quotes".to_owned()))
    } else if is(schema, "boolean") {
        ("true or false", Some("without quotes".to_owned()))
    } else if is(schema, "integer") {
        ("a whole number", Some("write it without quotes and without a decimal point".to_owned()))
    } else if is(schema, "array") && !is(items, "object") {
        ("a list", Some("put it in square brackets".to_owned()))
    } else if is(schema, "array") {
        ("a list", Some("write one [[table]] in double brackets for each".to_owned()))
    } else {
        ("a table", Some("write a [table] header above its settings".to_owned()))
    }
}

fn article(kind: &str) -> String {
    let an = kind.starts_with(['a', 'e', 'i', 'o', 'u']);
    format!("{} {kind}", if an { "an" } else { "a" })
}
