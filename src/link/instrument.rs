//! `[[link.instrument]]`: the instruments behind one link, where a terminal server or a data manager carries several on
//! one connection. Those that dial the same port from addresses of their own are links of their own (`peers`).

use crate::driver::condition::Condition;
use crate::driver::path::Paths;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One of several instruments on a link, known by what its messages say of themselves.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Instrument {
    /// Name of the instrument, unique on the link; its results carry it.
    pub name: String,
    /// What its messages say, all of it: `{ field = "H.5.2", is = ["394412"] }`, `{ field = "MSH.4", is = ["LAB-2"] }`.
    #[serde(rename = "where")]
    pub conditions: Vec<Says>,
    /// Driver that reads it; left out, the link's, else the one its header names.
    #[serde(default)]
    pub driver: Option<String>,
    /// Time zone of its clock; left out, the link's.
    #[serde(default)]
    pub time_zone: Option<String>,
    /// Character set when its messages do not say it; left out, the link's.
    #[serde(default)]
    pub charset: Option<String>,
}

/// What stands at a place of the message's first record of that name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Says {
    /// The place, such as `H.5.2` or `MSH.4`; a field without a component is taken whole.
    pub field: String,
    /// What it has to be, one of these; `*` stands for anything.
    pub is: Vec<String>,
}

impl Says {
    /// The condition it is, or why it is none.
    ///
    /// # Errors
    /// `field` is no path, or `is` says nothing.
    pub fn condition(&self) -> Result<Condition, String> {
        let path = crate::driver::path::Path::try_from(self.field.clone())?;
        let condition = Condition { field: Paths::one(&path), is: self.is.clone(), not: Vec::new() };
        condition.fault().map_or(Ok(condition), |fault| Err(fault.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_message_has_to_say_is_a_path_and_patterns() {
        let says = |field: &str, is: &[&str]| {
            Says { field: field.into(), is: is.iter().map(ToString::to_string).collect() }.condition()
        };
        assert!(says("H.5.2", &["394412"]).is_ok());
        for (field, is) in [("H", &["x"][..]), ("H.5", &[]), ("H.5", &["*"])] {
            assert!(says(field, is).is_err(), "{field}");
        }
    }
}
