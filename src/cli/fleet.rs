//! `afferent fleet`: the box's own side of the fleet.

use super::{CONFIG_DEFAULT, ThisBox};
use crate::config;
use crate::desk::enrol::moment;
use crate::disk;
use crate::fleet::identity::folder::Folder;
use crate::fleet::identity::keeper;
use crate::fleet::{self, identity::est::Enrol};
use crate::tls;
use anyhow::Context;
use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// See who this box is to its fleet, and let it ask to be let in.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  afferent fleet identity                 its code while it waits, then its certificate
  afferent fleet enrol                    ask to be let in, without starting the gateway

A gateway that runs with [fleet.enrol] asks, and renews, by itself.")]
pub struct Fleet {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Identity(Identity),
    Enrol(EnrolNow),
}

/// Show the code by which the desk lets this box in, or its certificate and when that is renewed.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  afferent fleet identity
  afferent fleet identity --json | jq .code

Exit codes: 0 it has a certificate that is good, 1 it has none, or it has ended.")]
struct Identity {
    #[command(flatten)]
    this: ThisBox,
}

/// Make a key, show its code, and ask until somebody at the desk has let this box in.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  afferent fleet enrol --config afferent.toml
  afferent fleet enrol --wait-s 600

Exit codes: 0 it has a certificate, 1 nobody let it in in time.")]
struct EnrolNow {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = CONFIG_DEFAULT)]
    config: PathBuf,
    /// Seconds to wait; the box's key, and so its code, stays the same when it asks again
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    wait_s: u64,
}

impl Fleet {
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        match self.verb {
            Verb::Identity(identity) => identity.execute(),
            Verb::Enrol(enrol) => enrol.execute(),
        }
    }
}

/// The settings of a box that enrols, and its data directory.
fn settings(file: &Path) -> anyhow::Result<(fleet::Config, Enrol, PathBuf)> {
    let config = config::load(file)?.config;
    let fleet = config.fleet.context("this box is on its own: there is no [fleet]")?;
    let enrol = fleet.enrol.clone().context("this box is given its certificate: there is no [fleet.enrol]")?;
    Ok((fleet, enrol, config.gateway.data))
}

impl Identity {
    fn execute(self) -> anyhow::Result<ExitCode> {
        let (_, _, data) = settings(&self.this.config)?;
        let found = disk::as_owner_of(&data, || {
            let folder = Folder::open(&data)?;
            Ok((folder.current(), folder.next(), folder.asking_key()))
        });
        let (current, next, key) = found.flatten().with_context(|| format!("{}", data.display()))?;
        let now_s = Timestamp::now().as_second();
        let is_good = current.as_ref().is_some_and(|current| current.life.ends_s > now_s);
        // The key it asks for, or asks with again once its certificate has ended.
        let asking = key.as_ref().and_then(|key| key.code()).filter(|_| current.is_none());
        let code = asking.or(current.as_ref().filter(|_| !is_good).and_then(|current| current.code));
        if self.this.json {
            let shown = |held: &crate::fleet::identity::folder::Held| {
                json!({
                    "name": held.common_name, "serial": held.serial,
                    "begins": moment(held.life.begins_s), "ends": moment(held.life.ends_s),
                })
            };
            let code = code.map(|code| code.to_string());
            let current = current.as_ref().map(shown);
            println!("{}", json!({ "code": code, "certificate": current, "next": next.as_ref().map(shown) }));
            return Ok(ExitCode::from(u8::from(!is_good)));
        }
        match (&current, &code) {
            (Some(current), _) if is_good => {
                let name = current.common_name.as_deref().unwrap_or("?");
                println!("{name}, serial {}, until {}", current.serial, moment(current.life.ends_s));
                println!("renewed from {} on", moment(current.life.renewed_at_s(0)));
            }
            (Some(current), Some(code)) => {
                println!("its certificate ended {}", moment(current.life.ends_s));
                println!("at the desk: afferent desk enrol accept {code}");
            }
            (_, Some(code)) => println!("it waits; at the desk: afferent desk enrol accept {code} --name NAME"),
            _ if next.is_some() => println!("it was let in, and takes up its certificate when it runs"),
            _ => println!("it has no key yet: start the gateway, or `afferent fleet enrol`"),
        }
        if next.is_some() && current.is_some() {
            println!("the next certificate is there and waits for its proof");
        }
        Ok(ExitCode::from(u8::from(!is_good)))
    }
}

impl EnrolNow {
    fn execute(self) -> anyhow::Result<ExitCode> {
        tls::provider();
        let (fleet, enrol, data) = settings(&self.config)?;
        let wait = Duration::from_secs(self.wait_s);
        let current = keeper::let_in(&fleet, &enrol, &data, wait, |says| eprintln!("{says}"));
        let current = current.map_err(anyhow::Error::msg)?;
        println!("{} until {}", current.common_name.unwrap_or_default(), moment(current.life.ends_s));
        Ok(ExitCode::SUCCESS)
    }
}
