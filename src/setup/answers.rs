//! A file of answers: a TOML file with a table for each step, for scripts and for the same box again.
//!
//! ```toml
//! [gateway]
//! name = "bench-1"
//! [ehr]
//! address = "ehr.example:2575"        # or kind = "fhir" and url = "https://ehr.example/fhir"
//! tls = true
//! ca = "/etc/afferent/hospital-ca.pem"
//! unreachable = "keep"                # go on without it; else a setup ends when the EHR does not answer
//! [link]
//! listen = "0.0.0.0:4001"
//! driver = "roche-cobas-c311"
//! [test]
//! send = "queue"                      # or "send": the EHR gets a test result
//! ```

use super::steps::KEYS;
use crate::config::diagnose::nearest;
use std::collections::BTreeMap;
use std::path::Path;

/// Answers by the key of their question.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answers(BTreeMap<String, String>);

/// Why a file holds no answers.
#[derive(Debug, thiserror::Error)]
pub enum AnswersError {
    /// It cannot be read.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is not TOML, or not of answers.
    #[error("{path}: {why}")]
    Wrong {
        /// The file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
}

impl Answers {
    /// Reads a file.
    ///
    /// # Errors
    /// [`AnswersError`], also when it answers what is never asked.
    pub fn read(path: &Path) -> Result<Answers, AnswersError> {
        let name = path.display().to_string();
        let text =
            std::fs::read_to_string(path).map_err(|source| AnswersError::Unreadable { path: name.clone(), source })?;
        Answers::parse(&text).map_err(|why| AnswersError::Wrong { path: name, why })
    }

    /// Reads a text.
    ///
    /// # Errors
    /// In words, what is wrong with it.
    pub fn parse(text: &str) -> Result<Answers, String> {
        let tables: toml::Table = toml::from_str(text).map_err(|error| error.to_string().trim().to_string())?;
        let mut answers = BTreeMap::new();
        for (step, table) in tables {
            let toml::Value::Table(table) = table else { return Err(format!("`{step}` is not a table of answers")) };
            for (name, value) in table {
                let key = format!("{step}.{name}");
                if !KEYS.contains(&key.as_str()) {
                    let hint = nearest(&key, KEYS).map(|known| format!("; is it `{known}`?")).unwrap_or_default();
                    return Err(format!("nobody asks for `{key}`{hint}"));
                }
                let answer = match value {
                    toml::Value::String(text) => text,
                    toml::Value::Boolean(true) => "yes".to_string(),
                    toml::Value::Boolean(false) => "no".to_string(),
                    toml::Value::Integer(number) => number.to_string(),
                    _ => return Err(format!("`{key}` is neither text nor true, false or a number")),
                };
                answers.insert(key, answer);
            }
        }
        Ok(Answers(answers))
    }

    /// Takes an answer out: each is given once.
    pub fn take(&mut self, key: &str) -> Option<String> {
        self.0.remove(key)
    }

    /// The keys that are left.
    pub fn left(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}
