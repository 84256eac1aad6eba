//! `afferent desk ca`: the fleet's certificate authority.

use super::{SETTINGS, folder_of, note};
use crate::desk::authority::{self, Authority, FOLDER, ROOT, Use};
use crate::desk::enrol::moment;
use crate::disk;
use crate::tls::{Facts, Fingerprint};
use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use jiff::{Span, SpanRelativeTo, Timestamp, Unit};
use serde_json::json;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::PathBuf;
use std::process::ExitCode;

/// Seconds a certificate may live: an hour is for tests, and what lives for years is no short-lived certificate.
const LIFE_MAX_S: i64 = 3 * 366 * 24 * 3600;

/// Make the fleet's certificate authority, and certificates for the broker and the desk.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  afferent desk ca init acme                                  root and issuing key, in ca/
  afferent desk ca issue broker --server broker.example       broker.pem and broker.key
  afferent desk ca issue desk-acme --client desk-acme         desk-acme.pem and desk-acme.key

Boxes do not get theirs this way: they enrol (`afferent desk enrol`).")]
pub(super) struct Ca {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Init(Init),
    Issue(Issue),
    Issuing(Issuing),
}

/// Make root and issuing key. It is done once.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  afferent desk ca init acme

ca/root.pem is what boxes, broker and desk trust. ca/root.key is needed again only when the issuing certificate ends, in
ten years: keep it where the desk is not.")]
struct Init {
    /// Whose fleet it is; it stands in the certificates
    whose: String,
    /// The desk's settings; the folder ca/ lies beside them
    #[arg(long, value_name = "FILE", default_value = SETTINGS)]
    desk: PathBuf,
}

/// Make a key and a certificate for the broker or a desk.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  afferent desk ca issue /etc/mosquitto/fleet/broker --server broker.example --server 192.0.2.7
  afferent desk ca issue desk-acme --client desk-acme
  afferent desk ca issue desk-acme --client desk-acme --replace      before the one that is there ends")]
struct Issue {
    /// The files' name, without the ending
    files: PathBuf,
    /// A host name or address by which the server is reached; may be given several times
    #[arg(long, value_name = "NAME", required_unless_present = "client")]
    server: Vec<String>,
    /// The common name by which a client is known
    #[arg(long, value_name = "NAME", conflicts_with = "server")]
    client: Option<String>,
    /// How long it is good for
    #[arg(long, value_name = "TIME", default_value = "365d", value_parser = life)]
    life: i64,
    /// Put them in the place of those that are there, which stay good until they end
    #[arg(long)]
    replace: bool,
    /// The desk's settings; the folder ca/ lies beside them
    #[arg(long, value_name = "FILE", default_value = SETTINGS)]
    desk: PathBuf,
}

/// Make another issuing key, signed by the root; what the one before signed stays good.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  afferent desk ca issuing            needs ca/root.key")]
struct Issuing {
    /// The desk's settings; the folder ca/ lies beside them
    #[arg(long, value_name = "FILE", default_value = SETTINGS)]
    desk: PathBuf,
}

/// A length of time as people write it, such as `90d`; in seconds.
pub(super) fn life(text: &str) -> Result<i64, String> {
    let wrong = || format!("`{text}` is no length of time; write it as 90d or 36h");
    let span: Span = text.parse().map_err(|_| wrong())?;
    let days = SpanRelativeTo::days_are_24_hours();
    let seconds = span.total((Unit::Second, days)).map_err(|_| wrong())? as i64;
    match (1..=LIFE_MAX_S).contains(&seconds) {
        true => Ok(seconds),
        false => Err(format!("`{text}` must be up to {} days", LIFE_MAX_S / 86_400)),
    }
}

impl Ca {
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        let now_s = Timestamp::now().as_second();
        match self.verb {
            Verb::Init(init) => init.execute(now_s),
            Verb::Issue(issue) => issue.execute(now_s),
            Verb::Issuing(issuing) => {
                note(&folder_of(&issuing.desk), json!({ "ca": "issuing" }))?;
                authority::issuing(&folder_of(&issuing.desk).join(FOLDER), now_s)?;
                println!("what is signed from now on is signed by the new issuing certificate");
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

impl Init {
    fn execute(self, now_s: i64) -> anyhow::Result<ExitCode> {
        if !crate::config::check::name_is_usable(&self.whose) {
            bail!("`{}` cannot stand in certificates: letters, digits, `-`, `_` and `.`", self.whose);
        }
        let folder = folder_of(&self.desk).join(FOLDER);
        authority::init(&folder, &self.whose, now_s)?;
        note(&folder_of(&self.desk), json!({ "ca": "init", "whose": self.whose }))?;
        let authority = Authority::open(&folder)?;
        let root = authority.roots().first().context("there is no root")?;
        println!("{}", folder.join(ROOT).display());
        println!("SHA-256 {}", Fingerprint::of(root));
        Ok(ExitCode::SUCCESS)
    }
}

impl Issue {
    fn execute(self, now_s: i64) -> anyhow::Result<ExitCode> {
        let named = |ending: &str| PathBuf::from(format!("{}.{ending}", self.files.display()));
        let (key_file, file) = (named("key"), named("pem"));
        if let Some(there) = [&key_file, &file].into_iter().find(|file| file.exists() && !self.replace) {
            bail!("{} is there already: --replace makes a new key and certificate in its place", there.display());
        }
        let whom = json!({ "client": self.client, "server": self.server });
        let use_ = match self.client {
            Some(name) => Use::Client(name),
            None => Use::Server(self.server),
        };
        let authority = Authority::open(&folder_of(&self.desk).join(FOLDER))?;
        let ends_s = now_s + self.life;
        let (signed, key) = authority.make(&use_, now_s, ends_s)?;
        let serial = Facts::of(signed.certificate()).map(|facts| facts.serial);
        note(&folder_of(&self.desk), json!({ "ca": "issue", "for": whom, "serial": serial, "ends": moment(ends_s) }))?;
        // Who owned the key that was there, such as the broker, may read the next.
        let owner = std::fs::metadata(&key_file).ok().map(|meta| (meta.uid(), meta.gid()));
        disk::replace_secret(&key_file, key.as_bytes()).with_context(|| format!("{}", key_file.display()))?;
        if let Some((user, group)) = owner {
            chown(&key_file, Some(user), Some(group)).with_context(|| format!("{}", key_file.display()))?;
        }
        disk::replace(&file, signed.pem().as_bytes()).with_context(|| format!("{}", file.display()))?;
        println!("{} until {}", file.display(), moment(ends_s));
        Ok(ExitCode::SUCCESS)
    }
}
