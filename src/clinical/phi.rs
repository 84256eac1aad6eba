//! Protected health information, by type.

use serde::{Deserialize, Serialize};

/// Text that identifies or describes a patient. `Debug` and `Display` print it redacted, so it cannot reach a log, a
/// metric or a panic by accident (invariant I8). Serialising keeps the text: that path leads to the sealed journal,
/// to the EHR, or to a person who asked to see it.
#[derive(Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Phi(String);

impl Phi {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Phi(text.into())
    }

    /// The text itself, for mapping and look-up only.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// True when there is no text.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl std::fmt::Debug for Phi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_empty() { "-" } else { "[redacted]" })
    }
}

impl std::fmt::Display for Phi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::Phi;

    #[test]
    fn i8_phi_never_prints_its_text() {
        let name = Phi::new("DOE");
        assert!(!format!("{name} {name:?} {:#?}", Some(&name)).contains("DOE"));
        assert_eq!(name.expose(), "DOE");
    }
}
