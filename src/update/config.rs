//! `[update]`: where releases lie, and how patient an update is.

use crate::tls::ClientTls;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;
use std::path::PathBuf;

const RELEASES_DEFAULT: &str = "/var/lib/afferent-releases";
const ROOT_DEFAULT: &str = "/etc/afferent/update-root.json";
/// Seconds a release may have until it is confirmed.
pub const TRIAL_S: RangeInclusive<u64> = 10..=3600;
const TRIAL_DEFAULT_S: u64 = 300;
/// Seconds of quiet that make a bench idle; every protocol gives up a transmission sooner than the default.
pub const QUIET_S: RangeInclusive<u64> = 1..=3600;
const QUIET_DEFAULT_S: u64 = 60;
/// Minutes an update waits for an idle bench.
pub const WAIT_MAX_MIN: RangeInclusive<u64> = 1..=10_080;
const WAIT_DEFAULT_MIN: u64 = 720;
const REBOOT_DEFAULT: [&str; 2] = ["systemctl", "reboot"];
const BANDWIDTH_DEFAULT_KB_S: u64 = 500;

/// How the box gets new releases. Only a program that `afferent-launcher` started updates itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Folder of the releases, which the launcher is given too. It needs room for two releases and a copy of the
    /// journal.
    pub releases: PathBuf,
    /// File with the first root: whose signatures releases need, as `afferent desk update root` writes it. Later ones
    /// come with the releases.
    pub root: PathBuf,
    /// Most that a download takes, in kB a second; 0 is no limit.
    pub bandwidth_kb_s: u64,
    /// Seconds a new release has at each of its three starts until it has shown that results flow.
    pub trial_s: u64,
    /// Seconds without a message and without a change of the queues after which the bench counts as idle.
    pub quiet_s: u64,
    /// Minutes after which a release is installed although the bench was never idle: senders that are cut off send
    /// again.
    pub wait_max_min: u64,
    /// The command that restarts the box, for an operating system that comes with a release: the program and its
    /// arguments, no shell. It runs only when the bench is idle, and the user of this program must be allowed it.
    pub reboot: Vec<String>,
    /// Who may have signed the certificate of the server with the releases; left out, those the system trusts.
    pub tls: Option<ClientTls>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            releases: PathBuf::from(RELEASES_DEFAULT),
            root: PathBuf::from(ROOT_DEFAULT),
            bandwidth_kb_s: BANDWIDTH_DEFAULT_KB_S,
            trial_s: TRIAL_DEFAULT_S,
            quiet_s: QUIET_DEFAULT_S,
            wait_max_min: WAIT_DEFAULT_MIN,
            reboot: REBOOT_DEFAULT.map(str::to_string).to_vec(),
            tls: None,
        }
    }
}
