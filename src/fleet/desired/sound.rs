//! Whether a desired configuration is sound: its text, beside the file whose place it would take, and what is written of it
//! as it is read back.

use super::{Desired, Why, tree};
use crate::config::diagnose::{Fault, Faults};
use crate::config::{LoadError, Loaded, Origin, load};
use crate::fleet::telemetry::{Digest, Name, SettingFault};
use std::path::Path;

/// Faults told of a text.
const FAULTS_MAX: usize = 32;

/// A sound text and the digest of the box's own file whose place it takes, or what is wrong.
pub(super) type Checked = Result<(Box<Loaded>, Digest), (Why, Vec<SettingFault>)>;

/// Digest of the box's own file, as it is on disk now; none when that cannot be read.
pub(super) fn local_digest(origin: &Origin) -> Option<Digest> {
    load::source_digest(&origin.file).ok().map(Digest::stored)
}

/// The check of a text, beside the file whose place it would take.
pub(super) fn check(desired: &Desired, data: &Path, origin: &Origin, known: Option<String>) -> Checked {
    let local = local_digest(origin).ok_or((Why::Disk, Vec::new()))?;
    let known = desired.replaces.clone().or(known);
    if known != Some(local.to_string()) {
        return Err((Why::Drift, Vec::new()));
    }
    let disk = |error: tree::TreeError| {
        tracing::error!(event = "config-trouble", "fleet: {error}");
        (Why::Disk, Vec::new())
    };
    let folder = tree::Aside::new(data, desired).map_err(disk)?;
    match tree::check(desired, folder.path(), &origin.own) {
        Ok(loaded) if loaded.missing.list().iter().all(Fault::is_warning) => Ok((Box::new(loaded), local)),
        Ok(loaded) => Err(faults(&loaded.missing, desired)),
        Err(LoadError::Faults(wrong)) => Err(faults(&wrong, desired)),
        Err(error) => {
            tracing::error!(event = "config-trouble", "fleet: {error}");
            Err((Why::Disk, Vec::new()))
        }
    }
}

/// What is wrong, by the path of the setting, without its value.
fn faults(wrong: &Faults, desired: &Desired) -> (Why, Vec<SettingFault>) {
    tracing::warn!("fleet: the configuration is wrong:\n{}", wrong.render(false));
    let places = load::places(&desired.config);
    let faults = wrong.list().iter().take(FAULTS_MAX).map(|fault| {
        let (line, column) = wrong.line_and_column(fault.at.start);
        SettingFault { path: Name::of_setting(&places, fault.at.start), line, column, kind: fault.kind }
    });
    (Why::Faults, faults.collect())
}

/// Writes a revision, and reads back what will run.
pub(super) fn write(
    desired: &Desired,
    document: &[u8],
    data: &Path,
    origin: &Origin,
    base: Option<Digest>,
) -> Result<Box<Loaded>, Why> {
    let base = base.ok_or(Why::Drift)?;
    let written = tree::write(data, desired, document, base).and_then(|()| tree::read(data, desired.rev, &origin.own));
    let revision = written.map_err(|error| {
        tracing::error!(event = "config-trouble", "fleet: {error}");
        Why::Disk
    })?;
    let origin = Origin { digest: *base.bytes(), ..origin.clone() };
    Ok(Box::new(tree::adopted(revision.loaded, &origin, desired.rev, revision.digest)))
}
