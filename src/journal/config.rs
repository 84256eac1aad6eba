//! `[journal]` in the configuration file.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Where results are kept and for how long. Every setting has a default that suits a box of its own.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// File with the 32-byte key that protects patient data at rest, as 64 hexadecimal digits. The systemd credential
    /// `afferent-journal-key` wins over it. Without either a key is made at first start and kept beside the data.
    pub key_file: Option<PathBuf>,
    /// Most disk space the journal may use, in megabytes. A warning comes at 80 %; at 90 % modalities are told to keep
    /// their images, and at 95 % instruments to keep their results. 0 means no limit.
    pub quota_mb: u64,
    /// Space always left free on the disk, in megabytes; counted as a twentieth of the disk where that is less.
    /// 0 means none.
    pub free_min_mb: u64,
    /// Days for which delivered results and their raw messages stay searchable, or fewer when space is short. What waits
    /// for a destination or a person is never removed. Images that no destination takes are kept all these days, and those
    /// of which their modality was told that they are safe until an archive took them.
    pub retention_days: u32,
    /// Days for which an order, and what the EHR said of its patient, is kept after its last change: so long results
    /// find it. Shorter than the time after which the laboratory uses a specimen number again. An open order for imaging
    /// is kept as long after its appointment.
    pub orders_days: u32,
    /// Days after which a new data key is used for new rows.
    pub key_rotation_days: u32,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            key_file: None,
            quota_mb: 20_000,
            free_min_mb: 200,
            retention_days: 7,
            orders_days: 30,
            key_rotation_days: 7,
        }
    }
}
