//! What a FHIR server says it can do.

use serde_json::Value;

/// As much is shown of what a server calls itself.
const SAID_MAX: usize = 60;

/// A CapabilityStatement. What is odd in it is passed over: a server that answers is there.
pub(super) struct Statement(Value);

impl Statement {
    /// None where it is none.
    pub fn read(body: &[u8]) -> Option<Statement> {
        let said: Value = serde_json::from_slice(body).ok()?;
        (said["resourceType"] == "CapabilityStatement").then_some(Statement(said))
    }

    fn version(&self) -> &str {
        self.0["fhirVersion"].as_str().unwrap_or_default()
    }

    pub fn is_r4(&self) -> bool {
        self.version().starts_with("4.0")
    }

    pub fn has_transactions(&self) -> bool {
        let each = |of: &Value| of.as_array().cloned().unwrap_or_default();
        each(&self.0["rest"]).iter().flat_map(|rest| each(&rest["interaction"])).any(|one| one["code"] == "transaction")
    }
}

/// For a person: who it is, and what of it does not go with what is sent.
impl std::fmt::Display for Statement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The server chose these words, and they are shown on a terminal.
        let shown = |text: &str| -> String {
            text.chars().filter(|c| !c.is_control()).take(SAID_MAX).collect::<String>().trim().to_string()
        };
        let software = |key: &str| shown(self.0["software"][key].as_str().unwrap_or_default());
        let who = format!("{} {}", software("name"), software("version"));
        let who = if who.trim().is_empty() { String::new() } else { format!("{}, ", who.trim()) };
        let version = shown(self.version());
        write!(f, "{who}FHIR {}", if version.is_empty() { "of a version it does not say" } else { &version })?;
        if !self.is_r4() {
            f.write_str(", AND WHAT IS SENT IS R4 (4.0)")?;
        }
        if !self.has_transactions() {
            f.write_str("; it does not offer transactions: if it refuses Bundles, write = \"single\"")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_go_with_what_is_sent_is_said() {
        let said = |rest: &str| {
            let text = format!("{{\"resourceType\": \"CapabilityStatement\"{rest}}}");
            Statement::read(text.as_bytes()).unwrap().to_string()
        };
        let whole = r#", "fhirVersion": "4.0.1", "software": {"name": "HAPI\u001b[2J FHIR", "version": "7.4"},
                      "rest": [{"interaction": [{"code": "transaction"}]}]"#;
        assert_eq!(said(whole), "HAPI[2J FHIR 7.4, FHIR 4.0.1");
        let old = said(r#", "fhirVersion": "3.0.2""#);
        assert!(old.contains("AND WHAT IS SENT IS R4") && old.contains("write = \"single\""), "{old}");
        assert!(said("").contains("a version it does not say"));
        let odd = said(r#", "fhirVersion": "4.0.1", "software": null, "rest": [{"interaction": "all"}, 7]"#);
        assert!(odd.starts_with("FHIR 4.0.1; it does not offer transactions"), "{odd}");
        assert!(Statement::read(b"<html>Please log in</html>").is_none());
        assert!(Statement::read(b"{\"resourceType\": \"OperationOutcome\"}").is_none());
    }
}
