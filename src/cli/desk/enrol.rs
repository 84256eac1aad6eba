//! `afferent desk enrol`: letting boxes in.

use super::ca::life;
use super::{SETTINGS, folder_of};
use crate::audit::operator;
use crate::desk::authority::FOLDER;
use crate::desk::enrol::serve::{EST, Endpoint};
use crate::desk::enrol::{Registry, moment};
use crate::tls::{self, Code};
use anyhow::Context;
use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const LIFE: &str = "90d";

/// Let boxes in: serve the endpoint they ask, and say who each of them is.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  afferent desk enrol serve --listen 0.0.0.0:8443 --name desk.example
  afferent desk enrol list                             who waits, and the boxes there are
  afferent desk enrol accept 7H2K-9QWD-0M3X-VT5A --name bench-1

A box shows its code (`afferent fleet identity`, its log, `afferent doctor`). Compare it: who has it on the screen in
front of them has the box.")]
pub(super) struct Enrol {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Serve(Serve),
    List(List),
    Accept(Accept),
    Bar(Bar),
}

/// Serve the endpoint at which boxes enrol and renew (EST, RFC 7030).
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  afferent desk enrol serve --listen 0.0.0.0:8443 --name desk.example
  curl --cacert ca/root.pem https://desk.example:8443/.well-known/est/cacerts")]
struct Serve {
    /// Address and port
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8443")]
    listen: String,
    /// A host name or address by which boxes reach it; may be given several times
    #[arg(long, value_name = "NAME", default_value = "localhost")]
    name: Vec<String>,
    /// How long a box's certificate is good for; the box renews it when two thirds are over
    #[arg(long, value_name = "TIME", default_value = LIFE, value_parser = life)]
    life: i64,
    /// The desk's settings; ca/ and enrol.db lie beside them
    #[arg(long, value_name = "FILE", default_value = SETTINGS)]
    desk: PathBuf,
}

/// Show who waits to be let in, and the boxes there are.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  afferent desk enrol list
  afferent desk enrol list --json | jq '.boxes[] | select(.barred)'")]
struct List {
    /// Print one JSON object: `waiting` and `boxes`
    #[arg(long)]
    json: bool,
    /// The desk's settings; enrol.db lies beside them
    #[arg(long, value_name = "FILE", default_value = SETTINGS)]
    desk: PathBuf,
}

/// Say who the box with this code is; it gets its certificate when it asks again.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  afferent desk enrol accept 7H2K-9QWD-0M3X-VT5A --name bench-1
  afferent desk enrol accept 7H2K-9QWD-0M3X-VT5A               one that was here and slept too long
  afferent desk enrol accept 7H2K-9QWD-0M3X-VT5A --name bench-1 --replace     another box in its place")]
struct Accept {
    /// What the box shows
    code: Code,
    /// The name it shall have; left out for a box whose key is known
    #[arg(long)]
    name: Option<String>,
    /// Take the place of the box that has this name; what that one has renews no more. Also for a key that was barred
    #[arg(long)]
    replace: bool,
    /// The desk's settings; enrol.db lies beside them
    #[arg(long, value_name = "FILE", default_value = SETTINGS)]
    desk: PathBuf,
}

/// A box that was lost or stolen renews no more; its certificate ends by itself.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  afferent desk enrol bar bench-1

Until then the broker lets it in: what this prints, at the end of the broker's acl, keeps it out once mosquitto has read
that again (SIGHUP).")]
struct Bar {
    /// The box
    name: String,
    /// The desk's settings; enrol.db lies beside them
    #[arg(long, value_name = "FILE", default_value = SETTINGS)]
    desk: PathBuf,
}

impl Enrol {
    pub(super) async fn execute(self) -> anyhow::Result<ExitCode> {
        let now_s = Timestamp::now().as_second();
        match self.verb {
            Verb::Serve(serve) => return serve.execute().await,
            Verb::List(list) => list.execute(now_s)?,
            Verb::Accept(accept) => {
                let mut registry = open(&accept.desk)?;
                let name = registry.accept(accept.code, accept.name.as_deref(), accept.replace, &operator(), now_s)?;
                println!("{name}: it gets its certificate when it asks again, within seven days");
            }
            Verb::Bar(bar) => {
                open(&bar.desk)?.bar(&bar.name, &operator(), now_s)?;
                println!(
                    "{}: it renews no more, and its certificate ends by itself. For the end of the broker's acl,",
                    bar.name
                );
                println!("which mosquitto reads again when it gets SIGHUP, so that it is kept out at once:\n");
                println!("{}", barring(&bar.name));
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn open(desk: &Path) -> anyhow::Result<Registry> {
    // Nothing is signed here.
    Ok(Registry::open(&folder_of(desk), 0)?)
}

/// What mosquitto's rules need to keep out a box whose certificate is still good.
fn barring(name: &str) -> String {
    format!("user {name}\ntopic deny #")
}

impl Serve {
    async fn execute(self) -> anyhow::Result<ExitCode> {
        tls::provider();
        let folder = folder_of(&self.desk);
        let registry = Registry::open(&folder, self.life)?;
        let endpoint = Endpoint::bind(&self.listen, self.name, folder.join(FOLDER), registry).await;
        let endpoint = endpoint.map_err(anyhow::Error::msg)?;
        println!("boxes enrol on {}{EST}", endpoint.address().context("no address")?);
        endpoint.serve().await;
        Ok(ExitCode::SUCCESS)
    }
}

impl List {
    fn execute(&self, now_s: i64) -> anyhow::Result<()> {
        let registry = open(&self.desk)?;
        let (waiting, boxes) = (registry.waiting(now_s)?, registry.enrolled()?);
        if self.json {
            println!("{}", json!({ "waiting": waiting, "boxes": boxes }));
            return Ok(());
        }
        println!("waiting: {}", waiting.len());
        for one in &waiting {
            let more = match (&one.accepted, &one.was) {
                (Some(name), _) => format!("accepted as {name}"),
                (None, Some(was)) if one.barred => {
                    format!("was {was}, which was barred or replaced; let in by --replace")
                }
                (None, Some(was)) => format!("was {was}, whose certificate has ended"),
                (None, None) => "not seen before".to_owned(),
            };
            println!("  {}  asked last {}  {more}", one.code, moment(one.last_s));
        }
        println!("boxes: {}", boxes.len());
        for one in &boxes {
            let state = match (one.barred, one.ends_s <= now_s) {
                (true, _) => "barred, until",
                (false, true) => "ended",
                (false, false) => "until",
            };
            println!("  {:20} {:9} {state} {}  serial {}", one.name, one.how, moment(one.ends_s), one.serial);
        }
        Ok(())
    }
}
