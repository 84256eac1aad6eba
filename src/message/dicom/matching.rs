//! Which entries a query finds and what it is answered (PS3.4 C.2.2.2, K.6). Pure.
//!
//! | key | matches |
//! |---|---|
//! | empty, `*` | everything; the attribute is returned |
//! | text with `*` and `?` | any characters, one character, in representations that allow it |
//! | `a-b`, `-b`, `a-` | dates and times between, both ends included |
//! | several values | any of them |
//! | sequence | entries with an item that matches every key of the item asked for |
//! | an attribute the entry does not know | everything, and the answer says so ([`lacks`]) |
//!
//! Names are compared without regard to case, in any of their scripts. Of several values of an entry one is enough.

use super::{CharacterSets, DataSet, Element, Tag, VR, Value, tags};
use std::borrow::Cow;

/// Attributes of a query that are no keys: they say how it is written, or at which level.
const NO_KEYS: [Tag; 3] = [tags::SPECIFIC_CHARACTER_SET, tags::TIMEZONE_OFFSET_FROM_UTC, tags::QUERY_RETRIEVE_LEVEL];

/// True when an entry fits every key.
pub fn matches(keys: &DataSet, entry: &DataSet) -> bool {
    keys.elements().iter().filter(|key| is_key(key.tag)).all(|key| match &key.value {
        Value::Items(wanted) => match (wanted.first(), entry.get(key.tag)) {
            (Some(wanted), Some(_)) if !is_universal(wanted) => {
                entry.items(key.tag).iter().any(|item| matches(wanted, item))
            }
            _ => true,
        },
        _ => {
            let Some(own) = entry.get(key.tag) else { return true };
            let wanted = keys.text(key.tag);
            wanted.is_empty() || fits(&wanted, vr_of(key, own), &entry.text(key.tag))
        }
    })
}

/// True when a query has a key that entries like this one do not know: matches are then sent as FF01.
pub fn lacks(keys: &DataSet, entry: &DataSet) -> bool {
    keys.elements().iter().filter(|key| is_key(key.tag)).any(|key| match (&key.value, entry.get(key.tag)) {
        (_, None) => true,
        (Value::Items(wanted), Some(_)) => {
            wanted.first().zip(entry.items(key.tag).first()).is_some_and(|(wanted, item)| lacks(wanted, item))
        }
        _ => false,
    })
}

/// What the query is answered for an entry: every attribute it asks for, of zero length where nothing is known. Text is
/// written in the first of `charsets` that has all its characters, UTF-8 behind them.
pub fn answer(keys: &DataSet, entry: &DataSet, charsets: &[CharacterSets]) -> DataSet {
    let utf8 = CharacterSets::utf8();
    let fitting = charsets.iter().find_map(|charset| {
        let (answer, clean) = answered(keys, entry, charset, true);
        clean.then_some(answer)
    });
    fitting.unwrap_or_else(|| answered(keys, entry, &utf8, true).0)
}

/// True when a text of this value representation fits one that is asked for. Neither is padded.
pub fn fits(wanted: &str, vr: VR, value: &str) -> bool {
    if wanted == "*" {
        return true;
    }
    let several = !matches!(vr, VR::LT | VR::ST | VR::UT | VR::UR);
    let values = || value.split(move |c| several && c == '\\').map(str::trim);
    wanted.split(move |c| several && c == '\\').map(str::trim).any(|wanted| {
        values().any(|value| match vr {
            VR::DA => between(wanted, value, date),
            VR::TM => between(wanted, value, time),
            VR::PN => name_fits(wanted, value),
            VR::AE | VR::CS | VR::LO | VR::LT | VR::SH | VR::ST | VR::UC | VR::UR | VR::UT | VR::UN => {
                wildcard_fits(wanted, value)
            }
            _ => wanted == value,
        })
    })
}

fn is_key(tag: Tag) -> bool {
    tag.1 != 0 && !NO_KEYS.contains(&tag)
}

/// An item that asks for nothing in particular.
fn is_universal(item: &DataSet) -> bool {
    item.elements().iter().filter(|key| is_key(key.tag)).all(|key| match &key.value {
        Value::Items(items) => items.first().is_none_or(is_universal),
        _ => matches!(item.text(key.tag).as_str(), "" | "*"),
    })
}

/// The entry knows its own attribute best; a query without VRs may not.
fn vr_of(key: &Element, own: &Element) -> VR {
    if own.vr == VR::UN { key.vr } else { own.vr }
}

fn answered(keys: &DataSet, entry: &DataSet, charset: &CharacterSets, is_outermost: bool) -> (DataSet, bool) {
    let mut answer = match is_outermost {
        true => DataSet::new(charset.clone()),
        false => DataSet { charset: charset.clone(), ..DataSet::default() },
    };
    let mut clean = true;
    // An item that names no attribute asks for all of them (K.2.2.1.2).
    let whole = !is_outermost && !keys.elements().iter().any(|key| is_key(key.tag));
    let asked = if whole { entry.elements() } else { keys.elements() };
    for key in asked.iter().filter(|key| is_key(key.tag)) {
        let empty = DataSet::default();
        match (&key.value, entry.get(key.tag)) {
            (Value::Items(wanted), own) => {
                let wanted = if whole { &empty } else { wanted.first().unwrap_or(&empty) };
                let mut items = Vec::new();
                for item in entry.items(key.tag).iter().filter(|item| own.is_some() && matches(wanted, item)) {
                    let (item, fits) = answered(wanted, item, charset, false);
                    items.push(item);
                    clean &= fits;
                }
                answer.put_items(key.tag, items);
            }
            (_, Some(own)) if !matches!(own.vr, VR::US | VR::UL | VR::SS | VR::SL | VR::SQ) => {
                clean &= answer.put_text(key.tag, own.vr, &entry.text(key.tag));
            }
            (_, Some(own)) => answer.put(own.clone()),
            (_, None) => answer.put(Element { tag: key.tag, vr: key.vr, value: Value::Bytes(Vec::new()) }),
        }
    }
    (answer, clean)
}

/// Any script of the name, without regard to case and to components left empty at the end.
fn name_fits(wanted: &str, value: &str) -> bool {
    let plain = |name: &str| name.trim_end_matches(['^', ' ']).to_lowercase();
    let groups = || value.split('=').map(plain);
    match wanted.contains('=') {
        true => wanted
            .split('=')
            .map(plain)
            .zip(groups().chain(std::iter::repeat(String::new())))
            .all(|(wanted, group)| wanted.is_empty() || wildcard_fits(&wanted, &group)),
        false => groups().any(|group| wildcard_fits(&plain(wanted), &group)),
    }
}

/// `*` is any characters, `?` one. Takes no more than the product of both lengths.
fn wildcard_fits(wanted: &str, value: &str) -> bool {
    if !wanted.contains(['*', '?']) {
        return wanted == value;
    }
    let (wanted, value): (Vec<char>, Vec<char>) = (wanted.chars().collect(), value.chars().collect());
    let (mut w, mut v) = (0, 0);
    // Where to go on when what follows the last `*` did not fit.
    let mut retry: Option<(usize, usize)> = None;
    while v < value.len() {
        match wanted.get(w) {
            Some('*') => {
                retry = Some((w + 1, v));
                w += 1;
            }
            Some(c) if *c == '?' || value.get(v) == Some(c) => (w, v) = (w + 1, v + 1),
            _ => match retry {
                Some((after, from)) => {
                    retry = Some((after, from + 1));
                    (w, v) = (after, from + 1);
                }
                None => return false,
            },
        }
    }
    wanted.get(w..).is_some_and(|rest| rest.iter().all(|c| *c == '*'))
}

/// A date or time, or a range of them. `span` gives the first and last moment a text stands for.
fn between(wanted: &str, value: &str, span: fn(&str) -> Option<(String, String)>) -> bool {
    let Some((at, _)) = span(value) else { return false };
    let (from, to) = match wanted.split_once('-') {
        Some((from, to)) => (from.trim(), to.trim()),
        None => (wanted, wanted),
    };
    let first = if from.is_empty() { Some(String::new()) } else { span(from).map(|(first, _)| first) };
    let last = if to.is_empty() { Some("~".to_string()) } else { span(to).map(|(_, last)| last) };
    first.zip(last).is_some_and(|(first, last)| first <= at && at <= last)
}

/// `YYYYMMDD`, or `YYYY.MM.DD` as ACR-NEMA wrote it.
fn date(text: &str) -> Option<(String, String)> {
    let digits: String = text.chars().filter(|c| *c != '.').collect();
    let is_date = digits.len() == 8 && digits.bytes().all(|b| b.is_ascii_digit());
    is_date.then(|| (digits.clone(), digits))
}

/// `HH[MM[SS[.FFFFFF]]]`, or with colons as ACR-NEMA wrote it: what is left out spans all of it.
fn time(text: &str) -> Option<(String, String)> {
    let plain: Cow<'_, str> = if text.contains(':') { text.replace(':', "").into() } else { text.into() };
    let (whole, fraction) = plain.split_once('.').unwrap_or((&plain, ""));
    let is_time = matches!(whole.len(), 2 | 4 | 6)
        && fraction.len() <= 6
        && whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit());
    let filled = |with: &str| {
        let whole: String = whole.chars().chain(with.chars().skip(whole.len())).collect();
        let end = with.chars().last().unwrap_or('0');
        format!("{whole}.{}", fraction.chars().chain(std::iter::repeat(end)).take(6).collect::<String>())
    };
    is_time.then(|| (filled("000000"), filled("235959")))
}

#[cfg(test)]
mod tests;
