//! The log bundle: what somebody who helps from afar wants to see of a box, in one piece. It is made of what is told
//! anyway, so nothing of a patient is in it (invariant I8): of the doctor's findings how each layer is, without the
//! sentence, which has words of others in it.

use super::packed::Settings;
use super::{Alerts, Birth, DestinationReport, Digest, Document, Id, LinkReport, LogFacts, Name, Stamp, Text, Word};
use crate::workbench::doctor::{Finding, State};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Serialize;
use serde_json::Value;

/// Longest bundle on its way, bytes: what is longer has fewer lines of the log.
pub const BUNDLE_MAX: usize = 1 << 20;
/// Longest JSON that is taken out of one.
const UNPACKED_MAX: usize = 32 << 20;
/// Bytes of a part.
const PART_BYTES: usize = 48 * 1024;
/// How hard it is compressed, of 10.
const LEVEL: u8 = 9;

/// What is in a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Bundle {
    /// When this was so.
    #[serde(flatten)]
    pub stamp: Stamp,
    /// The box, with its versions.
    pub birth: Birth,
    /// The configuration that runs, without secrets.
    pub settings: Option<Settings>,
    /// How each layer is; none where the box cannot be looked at.
    pub doctor: Option<Vec<FindingFacts>>,
    /// What is unusual now.
    pub alerts: Alerts,
    /// What was counted of links.
    pub links: Vec<LinkReport>,
    /// What was counted of destinations.
    pub destinations: Vec<DestinationReport>,
    /// The last lines of the log.
    pub log: Vec<LogFacts>,
}

/// How a layer is, as the doctor finds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FindingFacts {
    /// Which: a word of [`Finding::layer`].
    layer: Word,
    /// Of which link or destination; none for the box, and for what has another name.
    of: Option<Name>,
    /// How it is.
    state: State,
}

impl FindingFacts {
    /// What may be told of a finding, where the configuration has these names.
    pub fn of(finding: &Finding, known: &[Name]) -> FindingFacts {
        let of = known.iter().find(|name| name.as_str() == finding.subject).cloned();
        FindingFacts { layer: Word(finding.layer), of, state: finding.state }
    }
}

/// What says of a bundle that it is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct BundleFacts {
    /// Its length, packed.
    pub bytes: usize,
    /// In how many parts it was told.
    pub parts: usize,
    /// SHA-256 of it.
    pub sha256: Digest,
}

/// A part of a bundle. It may come twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BundlePart {
    /// Which bundle: the id of the command that asked for it.
    bundle: Id,
    /// Which part, from 0.
    part: usize,
    /// Its bytes, base64.
    data: Text,
}

impl Bundle {
    /// Packs it (JSON, zlib, RFC 1950) and cuts it into parts. None when it is too long even without a log.
    pub fn parts(mut self, bundle: Id) -> Option<(Vec<Document>, BundleFacts)> {
        let packed = loop {
            let json = serde_json::to_vec(&self).ok()?;
            let packed = miniz_oxide::deflate::compress_to_vec_zlib(&json, LEVEL);
            if packed.len() <= BUNDLE_MAX {
                break packed;
            }
            if self.log.is_empty() {
                return None;
            }
            self.log.drain(..self.log.len().div_ceil(2));
        };
        let part = |(part, bytes): (usize, &[u8])| {
            Document::of(&BundlePart { bundle, part, data: Text(BASE64_STANDARD.encode(bytes).into()) })
        };
        let parts: Vec<Document> = packed.chunks(PART_BYTES).enumerate().map(part).collect();
        let facts = BundleFacts { bytes: packed.len(), parts: parts.len(), sha256: Digest::of(&packed) };
        Some((parts, facts))
    }

    /// What a box packed, from its parts in order, when it has this digest.
    pub fn unpack<'p>(parts: impl Iterator<Item = &'p str>, sha256: &str) -> Option<Value> {
        let mut packed = Vec::new();
        for part in parts {
            packed.extend(BASE64_STANDARD.decode(part).ok()?);
            if packed.len() > BUNDLE_MAX {
                return None;
            }
        }
        if Digest::of(&packed).to_string() != sha256 {
            return None;
        }
        let json = miniz_oxide::inflate::decompress_to_vec_zlib_with_limit(&packed, UNPACKED_MAX).ok()?;
        serde_json::from_slice(&json).ok()
    }
}
