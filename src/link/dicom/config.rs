//! `[dicom]` and `[[modality]]`: where modalities reach the box, and who they are.

use crate::tls::ServerTls;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The AE title of the box unless the site gives it another.
pub const AE_TITLE_DEFAULT: &str = "AFFERENT";
/// Longest AE title, in characters (PS3.5 table 6.2-1, AE).
pub const AE_TITLE_MAX: usize = 16;

/// Where modalities store images, find their worklist and report their steps. Either `listen` or `listen_tls` must be
/// given, or both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// AE title of the box, at most 16 characters.
    pub ae_title: String,
    /// Address to listen on without TLS, for example "0.0.0.0:11112"; left out, nobody is let in without TLS.
    pub listen: Option<String>,
    /// Address to listen on with TLS, for example "0.0.0.0:2762"; needs [dicom.tls].
    pub listen_tls: Option<String>,
    /// Take associations only from callers that a `[[modality]]` names, and only for `ae_title`. Otherwise everybody is
    /// let in, and each caller that is not known is warned of once.
    pub only_known: bool,
    /// Most associations open at once; a caller beyond them is told to come back later.
    pub associations_max: u16,
    /// Seconds without a word after which an association ends. Ultrasound carts keep one open for a whole examination.
    pub idle_timeout_s: u32,
    /// Certificates of the TLS port. With `client_ca` every modality must show a certificate (mutual TLS).
    pub tls: Option<ServerTls>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            ae_title: AE_TITLE_DEFAULT.to_string(),
            listen: None,
            listen_tls: None,
            only_known: false,
            associations_max: 64,
            idle_timeout_s: 600,
            tls: None,
        }
    }
}

/// A modality that stores images here. Unlisted ones are let in too, unless `only_known` is set, under the name "dicom".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Modality {
    /// Name of the modality, unique on the box; it appears in logs, counters and commands.
    pub name: String,
    /// AE title it calls itself by.
    pub ae_title: String,
    /// Addresses it dials from, for example ["10.0.0.7", "10.0.1.0/24"], where the title alone is not enough; left out,
    /// all.
    pub peers: Vec<String>,
    /// SHA-256 fingerprints of its certificates, as `openssl x509 -noout -fingerprint -sha256` prints them: nobody else
    /// may call by its title, and not without TLS. Give the next one too before a certificate is renewed. Left out,
    /// every certificate that `client_ca` vouches for will do.
    pub certificates: Vec<String>,
    /// Its own host and port, for example "10.0.0.7:104", where it is told of commitments once the association on which
    /// it asked is over.
    pub address: Option<String>,
    /// When it is told that an image is safe (storage commitment): in "custody", when it is whole on this box's disk, which
    /// then keeps it until an archive took it, however old it is; "delivered", when every archive it goes to took it; "committed", when those that are asked to commit to it
    /// (`commitment` of their `[[destination]]`) did so too. Modalities delete what is safe.
    pub commitment: Safe,
    /// Seconds for which images that it asks to have committed and that have not come yet are waited for.
    pub commitment_wait_s: u32,
}

/// When an image is safe, as far as its modality is told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Safe {
    /// Every byte is on this box's disk.
    #[default]
    Custody,
    /// Every archive it goes to took it.
    Delivered,
    /// Every archive that is asked for commitment gave it, and the others took it.
    Committed,
}

impl Default for Modality {
    fn default() -> Self {
        Modality {
            name: String::new(),
            ae_title: String::new(),
            peers: Vec::new(),
            certificates: Vec::new(),
            address: None,
            commitment: Safe::default(),
            commitment_wait_s: 60,
        }
    }
}

/// True for text that may stand as an AE title: printable ASCII without a backslash, not only blanks.
pub fn is_ae_title(text: &str) -> bool {
    let allowed = |c: char| matches!(c, ' '..='~') && c != '\\';
    text.len() <= AE_TITLE_MAX && text.chars().all(allowed) && !text.trim().is_empty()
}
