//! What a message says and no field of the driver takes: listed beside what was read, so that whoever looks at a
//! message of an unknown instrument sees all of it and where it stands.

use super::path::{Path, Place};
use super::read::Trace;
use crate::message::{astm, hl7, poct1a};
use std::collections::HashMap;

/// Name of what no field takes.
pub const UNREAD: &str = "unread";
/// Attributes of a POCT1-A field that say something: value, unit, name to show. The others name coding systems.
const SPEAKING: [&str; 3] = ["V", "U", "DN"];

/// Adds what is left of LIS02-A2 messages, field 3 and on (2 is a sequence number); of OBR and OBX, field 2 and on.
pub(super) fn astm(trace: &mut Trace, messages: &[astm::Message]) {
    let read = Read::of(trace);
    for record in messages.iter().flat_map(|m| &m.records) {
        let name = record.kind.name();
        let first = match record.kind {
            astm::Kind::Unknown => 1,
            astm::Kind::Request | astm::Kind::Observation => 2,
            _ => 3,
        };
        for (n, whole, parts) in record.filled().skip_while(|(n, ..)| *n < first) {
            read.rest(trace, record.number, name, n, &whole, parts);
        }
    }
}

/// Adds what is left of HL7 messages, field 2 and on (1 is a set id), MSH from 3.
pub(super) fn hl7(trace: &mut Trace, messages: &[hl7::Message]) {
    let read = Read::of(trace);
    for segment in messages.iter().flat_map(|m| &m.segments) {
        let first = match segment.name.as_str() {
            "" => 0,
            "MSH" => 3,
            _ => 2,
        };
        let name = if segment.name.is_empty() { "?" } else { &segment.name };
        for (n, whole, parts) in segment.filled().skip_while(|(n, ..)| *n < first) {
            // What subcomponents are left is told with their field.
            let parts = parts.filter(|_| !read.in_subcomponents(segment.number, n));
            read.rest(trace, segment.number, name, n, &whole, parts);
        }
    }
}

/// Adds what is left of POCT1-A documents.
pub(super) fn poct1a(trace: &mut Trace, documents: &[poct1a::Document]) {
    let read = Read::of(trace);
    for document in documents {
        object(trace, &read, document, &document.root);
    }
}

fn object(trace: &mut Trace, read: &Read, document: &poct1a::Document, element: &poct1a::Element) {
    for child in &element.children {
        // A field of a vendor's own bears another name than what it stands in, and its value alike.
        let is_field = child.name.starts_with(&format!("{}.", element.name)) || !child.attribute("V").is_empty();
        if !is_field {
            object(trace, read, document, child);
            continue;
        }
        let record = document.number(element);
        let mut tell = |path: String, text: &str| {
            if !text.trim().is_empty() && !read.paths(record).any(|p| *p == path) {
                trace.add(UNREAD, path, record, text);
            }
        };
        for (holder, path) in std::iter::once((child, child.name.clone()))
            .chain(child.children.iter().map(|inside| (inside, format!("{}/{}", child.name, inside.name))))
        {
            for name in SPEAKING {
                let path = if name == "V" { path.clone() } else { format!("{path}@{name}") };
                tell(path, holder.attribute(name));
            }
        }
    }
}

/// What was read of each record.
struct Read(HashMap<u32, Vec<(String, Vec<Place>, String)>>);

impl Read {
    fn of(trace: &Trace) -> Read {
        let mut read: HashMap<u32, Vec<_>> = HashMap::new();
        for origin in &trace.origins {
            let places = Path::try_from(origin.path.clone()).map(|path| path.places).unwrap_or_default();
            let text = origin.text.expose().to_string();
            read.entry(origin.record).or_default().push((origin.path.clone(), places, text));
        }
        Read(read)
    }

    fn paths(&self, record: u32) -> impl Iterator<Item = &String> {
        self.0.get(&record).into_iter().flatten().map(|(path, _, _)| path)
    }

    /// The places read of one field, each with the text of its origin.
    fn places(&self, record: u32, field: u16) -> impl Iterator<Item = (&Place, &str)> {
        let all = self.0.get(&record).into_iter().flatten();
        all.flat_map(move |(_, places, text)| {
            places.iter().filter(move |p| p.field == field).map(move |p| (p, text.as_str()))
        })
    }

    fn in_subcomponents(&self, record: u32, field: u16) -> bool {
        self.places(record, field).any(|(p, _)| p.subcomponent.is_some())
    }

    /// Tells of one field what is left: its other components, or, where nothing of it or not all of its repeats were
    /// read, the field.
    fn rest(&self, trace: &mut Trace, record: u32, name: &str, n: u16, whole: &str, parts: Option<Vec<String>>) {
        if whole.trim().is_empty() || self.places(record, n).any(|(p, text)| p.each || text.trim() == whole.trim()) {
            return;
        }
        let components: Vec<u16> = self.places(record, n).map(|(p, _)| p.component.unwrap_or(1)).collect();
        match parts {
            Some(parts) if !components.is_empty() => {
                for (component, text) in (1..).zip(&parts) {
                    if !text.trim().is_empty() && !components.contains(&component) {
                        trace.add(UNREAD, format!("{name}.{n}.{component}"), record, text);
                    }
                }
            }
            _ => trace.add(UNREAD, format!("{name}.{n}"), record, whole),
        }
    }
}
