//! `afferent desk update`: roots and manifests of releases, and how boxes get them.

use super::Signed;
use super::command::Manner;
use super::key::signing_keys;
use crate::desk::Config;
use crate::disk;
use crate::fleet::command::Operation;
use crate::fleet::envelope::{self, Purpose};
use crate::fleet::topic::Place;
use crate::update::about::About;
use crate::update::download;
use crate::update::manifest::{Key, Manifest, Root, System, Target};
use crate::update::record::Version;
use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Minutes for which an offer is valid.
const VALID_MIN: u32 = 60;

/// Make and sign releases, and offer them to boxes.
///
/// A root says whose signatures releases need, and how many; boxes are given the first with their configuration. A
/// manifest describes a release. Both are signed by one after another, each with a key of their own.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  afferent desk update root root.json --trust rel-1=BASE64 --trust rel-2=BASE64 --threshold 2 --sign rel-1.key
  afferent desk update sign root.json --sign rel-2.key
  afferent desk update manifest 1.2.0.json --program x86_64=afferent \\
      --url https://releases.example/1.2.0 --sign rel-1.key
  afferent desk update sign 1.2.0.json --sign rel-2.key
  afferent desk update push bench-1 1.2.0.json --sign ops-1.key
  afferent desk command bench-1 update-install 1.2.0 --sign ops-1.key --sign ops-2.key    (--system SHA256 with a bundle)
  afferent desk rollout update 1.2.0.json --sign ops-1.key --sign ops-2.key          the same for many, ring by ring")]
pub(super) struct Update {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Root(RootFile),
    Manifest(ManifestFile),
    Sign(Sign),
    Push(Push),
}

/// Write a root: whose signatures releases need.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  afferent desk update root root.json --trust rel-1=BASE64 --trust rel-2=BASE64 --threshold 2 --sign rel-1.key
  afferent desk update root root-2.json --number 2 --trust rel-3=BASE64 --threshold 1 --sign rel-1.key --sign rel-3.key

A later root has the next number, and is signed by as many keys as the old one says and as many as it says itself.")]
struct RootFile {
    /// The file, which must not be there yet
    file: PathBuf,
    /// A key: its name and its public half, as `afferent desk key` prints it
    #[arg(long, value_name = "NAME=BASE64", required = true)]
    trust: Vec<String>,
    /// So many keys must sign
    #[arg(long)]
    threshold: usize,
    /// Its number
    #[arg(long, default_value_t = 1)]
    number: u64,
    /// Days for which it is valid
    #[arg(long, default_value_t = 730)]
    days: u32,
    /// Key to sign with; more can sign later
    #[arg(long, value_name = "FILE", required = true)]
    sign: Vec<PathBuf>,
}

/// Write the manifest of a release.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  afferent desk update manifest 1.2.0.json --program x86_64=afferent \\
      --url https://releases.example/1.2.0 --sign rel-1.key
  afferent desk update manifest os-7.json --release 1.2.0 --system acme-box=7.0=os-7.raucb \\
      --url https://releases.example/os --sign rel-1.key

Programs and bundles are fetched from URL/NAME, NAME being the file's name. Of each bundle the SHA-256 is printed, by
which `update-install --system` names it. The release and the shape of its databases are read in the programs, which have
to agree: a box refuses one that is not what its manifest says. A release takes its version from `version` in Cargo.toml
as it is built, so that rises with each. A bundle without a program is for boxes that run the release already.")]
struct ManifestFile {
    /// The file, which must not be there yet
    file: PathBuf,
    /// The release, three numbers; left out, what its programs say, and never another
    #[arg(long, required_unless_present = "program")]
    release: Option<String>,
    /// A program: the kind of machine and the file
    #[arg(long, value_name = "ARCH=FILE", required_unless_present = "system")]
    program: Vec<String>,
    /// An operating system: what RAUC calls `compatible`, the bundle's version and the bundle
    #[arg(long, value_name = "COMPATIBLE=VERSION=FILE")]
    system: Vec<String>,
    /// Folder from which boxes fetch the programs
    #[arg(long)]
    url: String,
    /// The oldest release that can be replaced by it
    #[arg(long, default_value = "0.0.0")]
    min_release: String,
    /// Once it is confirmed, no release below this one is installed
    #[arg(long, default_value = "0.0.0")]
    floor: String,
    /// Days for which it is valid
    #[arg(long, default_value_t = 90)]
    days: u32,
    /// Key to sign with; more can sign later
    #[arg(long, value_name = "FILE", required = true)]
    sign: Vec<PathBuf>,
}

/// Sign a root or a manifest that is there.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  afferent desk update sign 1.2.0.json --sign rel-2.key")]
struct Sign {
    /// The root or the manifest
    file: PathBuf,
    /// Key to sign with
    #[arg(long, value_name = "FILE", required = true)]
    sign: Vec<PathBuf>,
}

/// Offer a release to a box, which fetches it and keeps it ready.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  afferent desk update push bench-1 1.2.0.json --sign ops-1.key
  afferent desk update push bench-1 1.2.0.json --root root-2.json --sign ops-1.key

It is installed by `afferent desk command BOX update-install RELEASE`, which takes two signatures, and with an operating
system `--system SHA256`.

Exit codes: 0 taken, 1 refused, or no answer in time.")]
struct Push {
    /// The box
    gateway: String,
    /// The manifest
    manifest: PathBuf,
    /// Roots behind the first, in order
    #[arg(long, value_name = "FILE")]
    root: Vec<PathBuf>,
    #[command(flatten)]
    signed: Signed,
    /// Seconds to wait for the box's answer
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    wait_s: u64,
}

impl Update {
    pub async fn execute(self) -> anyhow::Result<ExitCode> {
        match self.verb {
            Verb::Root(root) => root.execute(),
            Verb::Manifest(manifest) => manifest.execute(),
            Verb::Sign(sign) => sign.execute(),
            Verb::Push(push) => push.execute().await,
        }
    }
}

impl RootFile {
    fn execute(self) -> anyhow::Result<ExitCode> {
        let key = |text: &String| {
            let (kid, key) = text.split_once('=').with_context(|| format!("`{text}` is no NAME=BASE64"))?;
            Ok(Key { kid: kid.to_string(), key: key.to_string() })
        };
        let root = Root {
            v: 1,
            version: self.number,
            threshold: self.threshold,
            expires: in_days(self.days),
            keys: self.trust.iter().map(key).collect::<anyhow::Result<_>>()?,
        };
        write_signed(&self.file, &root, Purpose::Root, &self.sign)
    }
}

impl ManifestFile {
    fn execute(self) -> anyhow::Result<ExitCode> {
        let version = |text: &str| -> anyhow::Result<Version> {
            text.parse().map_err(|_| anyhow::anyhow!("`{text}` is no version: three numbers, such as 1.2.0"))
        };
        let target = |text: &String| -> anyhow::Result<Target> {
            let (arch, file) = program(text)?;
            let (url, sha256, length) = self.file(file)?;
            Ok(Target { arch: arch.to_string(), length, sha256, url })
        };
        let system = |text: &String| -> anyhow::Result<System> {
            let mut parts = text.splitn(3, '=');
            let (Some(compatible), Some(version), Some(file)) = (parts.next(), parts.next(), parts.next()) else {
                bail!("`{text}` is no COMPATIBLE=VERSION=FILE")
            };
            let (url, sha256, length) = self.file(file)?;
            Ok(System { compatible: compatible.to_string(), version: version.to_string(), length, sha256, url })
        };
        let about = self.about()?;
        let manifest = Manifest {
            v: 1,
            version: version(&about.version)?,
            min_version: version(&self.min_release)?,
            floor: version(&self.floor)?,
            expires: in_days(self.days),
            journal_schema: about.journal_schema,
            fleet_schema: about.fleet_schema,
            targets: self.program.iter().map(target).collect::<anyhow::Result<_>>()?,
            systems: self.system.iter().map(system).collect::<anyhow::Result<_>>()?,
        };
        let done = write_signed(&self.file, &manifest, Purpose::Update, &self.sign)?;
        show_systems(&manifest);
        Ok(done)
    }

    /// What its programs say that they are, all the same; without one, what was said with it.
    fn about(&self) -> anyhow::Result<About> {
        let mut about: Option<About> = None;
        for text in &self.program {
            let (arch, file) = program(text)?;
            let found = About::in_file(Path::new(file)).with_context(|| file.to_string())?;
            let found = found.with_context(|| format!("{file} does not say which release of afferent it is"))?;
            if found.arch != arch {
                bail!("{file} is a program for {}: say --program {}={file}", found.arch, found.arch);
            }
            let shape = |about: &About| (about.version.clone(), about.journal_schema, about.fleet_schema);
            if about.as_ref().is_some_and(|first| shape(first) != shape(&found)) {
                bail!("{file} is release {}, and not the same as the programs before it", found.version);
            }
            if let Some(release) = self.release.as_ref().filter(|release| **release != found.version) {
                bail!(
                    "{file} is release {}, and every box would refuse it as {release}: leave out --release, or set \
                     `version` in Cargo.toml and build it anew",
                    found.version
                );
            }
            about = Some(found);
        }
        let release = self.release.clone().unwrap_or_default();
        Ok(about.unwrap_or(About { version: release, ..About::this() }))
    }

    /// Where boxes fetch a file, its hash and its length.
    fn file(&self, file: &str) -> anyhow::Result<(String, String, u64)> {
        let (sha256, length) = download::digest(Path::new(file)).with_context(|| file.to_string())?;
        let name = Path::new(file).file_name().and_then(|name| name.to_str()).context("the file has no name")?;
        Ok((format!("{}/{name}", self.url.trim_end_matches('/')), sha256, length))
    }
}

impl Sign {
    fn execute(self) -> anyhow::Result<ExitCode> {
        let shown = self.file.display();
        let mut bytes = std::fs::read(&self.file).with_context(|| format!("{shown}"))?;
        let document = envelope::unproven(&bytes).with_context(|| format!("{shown}"))?;
        let manifest = Manifest::unproven(&bytes);
        let purpose = match (serde_json::from_slice::<Root>(&document), &manifest) {
            (Ok(_), _) => Purpose::Root,
            (_, Some(_)) => Purpose::Update,
            _ => bail!("{shown} is neither a root nor a manifest"),
        };
        for key in signing_keys(&self.sign)? {
            bytes = envelope::countersign(&bytes, purpose, &key)?;
        }
        replace(&self.file, &bytes)?;
        manifest.iter().for_each(show_systems);
        Ok(ExitCode::SUCCESS)
    }
}

/// A kind of machine, and the file with the program for it.
fn program(text: &str) -> anyhow::Result<(&str, &str)> {
    text.split_once('=').with_context(|| format!("`{text}` is no ARCH=FILE"))
}

/// What `update-install` has to name.
fn show_systems(manifest: &Manifest) {
    for system in &manifest.systems {
        println!("{} {}: --system {}", system.compatible, system.version, system.sha256);
    }
}

impl Push {
    async fn execute(self) -> anyhow::Result<ExitCode> {
        let roots = self.root.iter().map(|root| text(root)).collect::<anyhow::Result<_>>()?;
        let operation = Operation::UpdateOffer { manifest: text(&self.manifest)?, roots };
        let Signed { sign, desk, json } = self.signed;
        let config = Config::read(&desk)?;
        let place = Place::new(&config.tenant, &self.gateway);
        let place = place.with_context(|| format!("`{}` cannot be a box's name", self.gateway))?;
        let manner = Manner { sign, valid_min: VALID_MIN, wait_s: self.wait_s, json, is_group: false };
        manner.tell(&config, &[place], &operation).await
    }
}

/// A signed document as it is sent.
pub(super) fn text(file: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("{}", file.display()))
}

fn in_days(days: u32) -> Timestamp {
    Timestamp::now() + SignedDuration::from_hours(24 * i64::from(days))
}

fn write_signed(
    file: &Path,
    document: &impl Serialize,
    purpose: Purpose,
    sign: &[PathBuf],
) -> anyhow::Result<ExitCode> {
    if file.exists() {
        bail!("{} is there already", file.display());
    }
    let keys = signing_keys(sign)?;
    let mut bytes = envelope::seal(&serde_json::to_vec(document)?, purpose, &keys[0]);
    for key in &keys[1..] {
        bytes = envelope::countersign(&bytes, purpose, key)?;
    }
    replace(file, &bytes)?;
    Ok(ExitCode::SUCCESS)
}

fn replace(file: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    disk::replace(file, bytes).with_context(|| format!("{}", file.display()))
}
