//! Queries: what an instrument asks for, read out of a complete entry (LIS02-A2 clause 10).
//!
//! Positive ids only. An id that the driver takes for a barcode that could not be read, a blank one, and whatever stands
//! in a damaged message is kept as a question without an id: it is answered, and never with somebody's order.

use super::identify::wildcard;
use super::path::Place;
use super::{Context, Driver};
use crate::clinical::Phi;
use crate::message::astm::{self, Kind, Record};
use crate::message::charset::Charset;

/// Most specimens one query may name; the rest is not answered.
pub const SPECIMENS_MAX: usize = 100;
/// The word for everything (LIS02-A2 clause 10.1.3).
const ALL: &str = "ALL";

/// What an instrument asks.
pub struct Query {
    /// The specimens, in the order asked; empty when everything is asked for.
    pub specimens: Vec<Asked>,
    /// Orders for every specimen.
    pub all: bool,
    /// The last question is taken back: nothing is to be answered.
    pub cancels: bool,
    /// Instrument codes that are asked for; empty means all.
    pub tests: Vec<String>,
    header: Option<Record>,
}

/// One specimen that is asked for.
pub struct Asked {
    /// Its id; `None` when it could not be read.
    pub specimen_id: Option<Phi>,
    record: Record,
    repeat: usize,
}

/// Reads the query in a complete entry; `None` when it holds none or when the driver does not say how to read one.
pub fn query(driver: &Driver, raw: &[u8], context: &Context) -> Option<Query> {
    let layout = driver.schema.query.as_ref()?;
    let charset = context.charset.as_deref().or(driver.wire().charset.as_deref()).and_then(Charset::named);
    let reading = astm::read(raw, charset);
    let mut query = Query { specimens: Vec::new(), all: false, cancels: false, tests: Vec::new(), header: None };
    let mut found = false;
    for mut message in reading.messages {
        let sound = context.complete && message.ended && !message.damaged && reading.clean && !reading.cut_off;
        for record in message.records.drain(..) {
            match record.kind {
                Kind::Header => query.header = Some(record),
                Kind::Query => {
                    found = true;
                    query.take(driver, layout, record, sound);
                }
                _ => {}
            }
        }
    }
    found.then_some(query)
}

impl Query {
    fn take(&mut self, driver: &Driver, layout: &super::dialogue::QueryLayout, record: Record, sound: bool) {
        let fields = &driver.schema.fields;
        self.cancels = layout.cancel_status.iter().any(|status| *status == record.component(13, 1).trim());
        let texts = |place: &Place| record.repeats(place.field, place.component.unwrap_or(1));
        let tests = layout.tests.places().map(texts).find(|tests| tests.iter().any(|test| !test.trim().is_empty()));
        let tests = tests.unwrap_or_default().into_iter().map(|test| test.trim().to_string());
        self.tests.extend(tests.filter(|test| !test.is_empty() && test != ALL));
        let ids = layout.specimen_id.places().map(texts).find(|ids| ids.iter().any(|id| !id.trim().is_empty()));
        let ids = ids.unwrap_or_else(|| vec![String::new()]);
        // Some write the word into the field's first component, whatever stands in it otherwise. A range of
        // specimens (Q.4) is no list of ids, so nothing in it is answered.
        let everything = record.component(3, 1).trim() == ALL || ids.first().is_some_and(|id| id.trim() == ALL);
        if everything && sound {
            self.all = true;
            return;
        }
        let range = !record.whole(4).trim().is_empty() && record.whole(4).trim() != ALL;
        for (repeat, id) in ids.into_iter().enumerate() {
            if self.specimens.len() >= SPECIMENS_MAX {
                return;
            }
            let id = if fields.specimen_trim { id.trim().to_string() } else { id };
            let misread = fields.specimen_misread.iter().any(|marker| wildcard(marker, id.trim()));
            let readable = sound && !range && !everything && !misread && !id.trim().is_empty();
            let specimen_id = readable.then(|| Phi::new(id));
            self.specimens.push(Asked { specimen_id, record: record.clone(), repeat });
        }
    }

    /// What stands at a place of the question, for its echo in the answer.
    pub(super) fn echo(&self, asked: Option<&Asked>, place: &Place) -> String {
        match (place.record.as_str(), asked) {
            ("H", _) => self.header.as_ref().map(|header| text(header, place, 0)).unwrap_or_default(),
            ("Q", Some(asked)) => text(&asked.record, place, asked.repeat),
            _ => String::new(),
        }
    }
}

fn text(record: &Record, place: &Place, repeat: usize) -> String {
    match place.component {
        Some(component) => record.repeats(place.field, component).into_iter().nth(repeat).unwrap_or_default(),
        None => record.whole(place.field),
    }
}
