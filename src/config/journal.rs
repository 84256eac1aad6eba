//! `[journal]`, until the journal declares it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// How the journal keeps what was received.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// File with the key that wraps the data keys; left out, one is made beside the journal.
    pub key_file: Option<PathBuf>,
    /// Most megabytes the journal may take; beyond that nothing more is accepted.
    pub quota_mb: u64,
    /// Megabytes of the disk that always stay free.
    pub free_min_mb: u64,
    /// Days for which delivered results are kept.
    pub retention_days: u32,
}

impl Default for Config {
    fn default() -> Self {
        Config { key_file: None, quota_mb: 20_000, free_min_mb: 200, retention_days: 7 }
    }
}
