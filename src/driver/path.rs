//! Where something stands in a message: `R.3.4`, `OBX.3.1`, `SPM.2.1.1`, and in POCT1-A, whose fields have names,
//! `OBS.value`, `OBS.value@U`, `PT.name/FAM`. `R.7.*` is each component of R.7 by itself. In a table a place is a
//! column or key: `[Sample ID]`, `[#3]`, `[@]`.

use serde::Deserialize;

/// Most places one path may join and most paths one list may hold.
const PLACES_MAX: usize = 64;
/// Longest name of a field, an element inside it or an attribute, in characters.
const NAME_MAX: usize = 64;
/// Longest name of a column, in bytes.
const COLUMN_NAME_MAX: usize = 256;
/// `Place::record` of a column or key of a table.
pub(super) const COLUMN: &str = "COLUMN";
/// Highest field, component or subcomponent number; the standards stay far below.
const NUMBER_MAX: u16 = 999;

/// One place: record letter or segment name, field, component, subcomponent, all from 1 as the standards count
/// (field 1 of an ASTM record is its type letter; MSH-1 is the field separator).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// `R`, `OBX`, ...
    pub record: String,
    /// Field number.
    pub field: u16,
    /// Component number. Without one: component 1, but for values and comments the whole field.
    pub component: Option<u16>,
    /// Subcomponent number, HL7 only.
    pub subcomponent: Option<u16>,
    /// `*` stands where the component would: each of them is a flag, or a value, of its own.
    pub each: bool,
    /// The named field of POCT1-A, or the column of a table; the numbers then say nothing.
    pub item: Option<Item>,
}

/// A named field: `value@U` is attribute `U` of `OBS.value`, `name/FAM` is attribute `V` of the `FAM` inside `PT.name`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Name without its object's.
    pub name: String,
    /// Element inside the field.
    pub inside: Option<String>,
    /// Attribute; without one, `V`.
    pub attribute: Option<String>,
}

/// A place, or several joined with `+`: `R.3.2+R.3.4` reads both and puts `/` between them (empty ones at the end are
/// left out). Columns are joined with a blank: `[Date]+[Time]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Path {
    /// The places, in order.
    pub places: Vec<Place>,
}

/// A list of paths; the first one that is not empty is taken. Written as one string or a list of strings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "OneOrMany")]
pub struct Paths(Vec<Path>);

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl Paths {
    /// From constants. What is no path is left out; the tests of [`super::standard`] see that there is none.
    pub(super) fn of(paths: &[&str]) -> Paths {
        Paths(paths.iter().filter_map(|p| Path::try_from(p.to_string()).ok()).collect())
    }

    /// A list of one.
    pub fn one(path: &Path) -> Paths {
        Paths(vec![path.clone()])
    }

    /// The paths, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Path> {
        self.0.iter()
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Every place named.
    pub fn places(&self) -> impl Iterator<Item = &Place> {
        self.0.iter().flat_map(|p| &p.places)
    }
}

impl TryFrom<OneOrMany> for Paths {
    type Error = String;
    fn try_from(text: OneOrMany) -> Result<Self, String> {
        let many = match text {
            OneOrMany::One(one) => vec![one],
            OneOrMany::Many(many) => many,
        };
        if many.len() > PLACES_MAX {
            return Err(format!("more than {PLACES_MAX} paths in one list"));
        }
        many.into_iter().map(Path::try_from).collect::<Result<_, _>>().map(Paths)
    }
}

impl TryFrom<String> for Path {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let places = match columns(&text) {
            Some(columns) => Some(columns),
            None => text.split('+').map(|p| place(p.trim())).collect::<Option<Vec<_>>>(),
        };
        match places {
            Some(places) if places.len() <= PLACES_MAX => Ok(Path { places }),
            Some(_) => Err(format!("path joins more than {PLACES_MAX} places")),
            None => Err(format!(
                "`{text}` is not a path; write RECORD.FIELD or RECORD.FIELD.COMPONENT, such as R.3.4, or a column of a table as [Sample ID]"
            )),
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(item) = self.item.as_ref().filter(|_| self.record == COLUMN) {
            return write!(f, "[{}]", item.name);
        }
        if let Some(item) = &self.item {
            write!(f, "{}.{}", self.record, item.name)?;
            item.inside.iter().try_for_each(|name| write!(f, "/{name}"))?;
            return item.attribute.iter().try_for_each(|name| write!(f, "@{name}"));
        }
        write!(f, "{}.{}", self.record, self.field)?;
        if self.each {
            return write!(f, ".*");
        }
        for number in [self.component, self.subcomponent].into_iter().flatten() {
            write!(f, ".{number}")?;
        }
        Ok(())
    }
}

impl std::fmt::Display for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, place) in self.places.iter().enumerate() {
            write!(f, "{}{place}", if i > 0 { "+" } else { "" })?;
        }
        Ok(())
    }
}

/// Columns: in square brackets, joined with `+`. A name may hold brackets and pluses of its own.
fn columns(text: &str) -> Option<Vec<Place>> {
    let inside = text.trim().strip_prefix('[')?.strip_suffix(']')?;
    let column = |name: &str| {
        let item = Item { name: name.trim().to_string(), inside: None, attribute: None };
        let fits = !item.name.is_empty() && item.name.len() <= COLUMN_NAME_MAX;
        let place = Place {
            record: COLUMN.to_string(),
            field: 1,
            component: None,
            subcomponent: None,
            each: false,
            item: Some(item),
        };
        fits.then_some(place)
    };
    inside.split("]+[").map(column).collect()
}

fn place(text: &str) -> Option<Place> {
    if let Some((object, item)) =
        text.split_once('.').filter(|(_, rest)| rest.starts_with(|c: char| c.is_ascii_lowercase()))
    {
        return named_place(object, item);
    }
    let (text, each) = text.strip_suffix(".*").map_or((text, false), |field| (field, true));
    let mut parts = text.split(['.', '-']);
    let record = parts
        .next()
        .filter(|r| (1..=3).contains(&r.len()) && r.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit()))?;
    let mut numbers = Vec::new();
    for part in parts {
        numbers.push(part.parse::<u16>().ok().filter(|n| (1..=NUMBER_MAX).contains(n))?);
    }
    let most = if each { 1 } else { 3 };
    (1..=most).contains(&numbers.len()).then(|| Place {
        record: record.to_string(),
        field: numbers.first().copied().unwrap_or(1),
        component: numbers.get(1).copied(),
        subcomponent: numbers.get(2).copied(),
        each,
        item: None,
    })
}

/// `OBS` and `value@U`.
fn named_place(object: &str, item: &str) -> Option<Place> {
    let is_name =
        |name: &str, allowed: fn(char) -> bool| (1..=NAME_MAX).contains(&name.len()) && name.chars().all(allowed);
    let upper = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit();
    let lower = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-');
    let (rest, attribute) = item.split_once('@').map_or((item, None), |(rest, name)| (rest, Some(name)));
    let (name, inside) = rest.split_once('/').map_or((rest, None), |(name, inside)| (name, Some(inside)));
    let sound = (2..=3).contains(&object.len())
        && is_name(object, upper)
        && is_name(name, lower)
        && [inside, attribute].into_iter().flatten().all(|name| is_name(name, upper));
    sound.then(|| Place {
        record: object.to_string(),
        field: 0,
        component: None,
        subcomponent: None,
        each: false,
        item: Some(Item {
            name: name.to_string(),
            inside: inside.map(ToString::to_string),
            attribute: attribute.map(ToString::to_string),
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_read_and_written_alike() {
        let named = ["OBS.value", "OBS.value@U", "PT.name/FAM", "PT.name/FAM@SN", "OBS.normal_lo-hi_limit"];
        for text in ["R.3.4", "O.16", "SPM.2.1.1", "R.3.2+R.3.4", "R.7.*"].into_iter().chain(named) {
            assert_eq!(Path::try_from(text.to_string()).unwrap().to_string(), text);
        }
        assert_eq!(Path::try_from("OBX-3.1".to_string()).unwrap().to_string(), "OBX.3.1");
    }

    #[test]
    fn what_is_no_path_is_refused_with_a_hint() {
        for text in [
            "",
            "R",
            "R.",
            "R.0",
            "r.3",
            "R.3.4.5.6",
            "R.x",
            "LONG.1",
            "R.70000",
            "R.3+",
            "R.*",
            "R.3.4.*",
            "OBS.value@",
            "OBS.value@u",
            "OBS.Value",
            "PT.name/",
        ] {
            assert!(Path::try_from(text.to_string()).unwrap_err().contains("R.3.4"), "{text}");
        }
    }
}
