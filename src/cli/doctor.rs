//! `afferent doctor`: what is wrong, layer by layer, and what to do next.

use crate::clock;
use crate::control::{self, Request, Response};
use crate::delivery::{self, reach};
use crate::fleet::desired::tree;
use crate::interpreter::register::{self, Seen};
use crate::journal::{self, OpenError, Reader};
use crate::link::LinkHealth;
use crate::link::directory::look;
use crate::link::serial::ports;
use crate::workbench::clock::judge;
use crate::workbench::doctor::{Facts, Finding, Reached, State, diagnose};
use anstyle::{AnsiColor, Style};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Held results and parked messages that are counted by reason.
const COUNTED_MAX: usize = 10_000;
/// A destination is dialled no longer than this.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);

/// Tell what is wrong between the instruments and the EHR, and what to do next.
///
/// One sentence for each layer: disk, clock, gateway, fleet; for each link its line, acknowledgements, records, its
/// instruments' clocks and mapping; for
/// each destination its queue, whether it can be reached (it is dialled, with TLS, and nothing is sent) and what it
/// refused. Works beside a running gateway and without one. No patient data is shown.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  afferent doctor
  afferent doctor --config afferent.toml --json | jq '.findings[] | select(.state != \"good\")'

Exit codes: 0 results get through (there may be something to look at), 1 something keeps them from it, 2 the
configuration is wrong.")]
pub struct Doctor {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = super::CONFIG_DEFAULT)]
    config: PathBuf,
    /// Print one JSON object: ok, findings (layer, subject, state, says, next), instruments (counts, clock)
    #[arg(long)]
    json: bool,
}

impl Doctor {
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        let config = tree::load(&self.config)?.config;
        let data = &config.gateway.data;
        let health = match control::request(data, &Request::Health) {
            Ok(Response::Health(health)) => serde_json::from_value::<Vec<LinkHealth>>(health).unwrap_or_default(),
            _ => Vec::new(),
        };
        let condition = match control::request(data, &Request::Condition) {
            Ok(Response::Condition(condition)) => Some(condition),
            _ => None,
        };
        let fleet = match control::request(data, &Request::Fleet) {
            Ok(Response::Fleet(fleet)) => fleet,
            _ => None,
        };
        let alerts = match control::request(data, &Request::Alerts) {
            Ok(Response::Alerts(alerts)) => alerts,
            _ => Vec::new(),
        };
        let reader = match Reader::open(data, &config.journal) {
            Ok(reader) => Some(reader),
            // Before the first start there is none.
            Err(OpenError::Missing(_)) => None,
            Err(error) => return Err(error.into()),
        };
        let mut held = BTreeMap::new();
        let (mut stats, mut parked) = (None, Vec::new());
        if let Some(reader) = &reader {
            stats = Some(reader.stats(jiff::Timestamp::now().as_millisecond())?);
            parked = reader.parked(COUNTED_MAX)?;
            for hold in reader.holds(COUNTED_MAX)? {
                *held.entry((hold.link, hold.reason)).or_default() += 1;
            }
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let reached: Vec<Reached> = config.destinations.iter().map(|d| runtime.block_on(dial(d))).collect();
        let of_link = |name: &str| health.iter().find(|h| h.link == name).cloned();
        let facts = Facts {
            links: config.links.iter().map(|link| (link, of_link(&link.name))).collect(),
            orders: config.orders.iter().map(|orders| (orders, of_link(&orders.name))).collect(),
            order_feeds: config.order_feeds.iter().map(|feed| (feed, of_link(&feed.name))).collect(),
            destinations: config.destinations.iter().zip(reached).collect(),
            condition,
            free_bytes: journal::free_bytes(data),
            alerts,
            clock_synchronised: clock::is_synchronised(),
            stats,
            ports: ports::list(Path::new("/")),
            held,
            instruments: register::read(data),
            fleet,
            parked,
            folders: config
                .links
                .iter()
                .filter_map(|l| Some((l.name.clone(), look(l.directory.as_deref()?, &l.files))))
                .collect(),
        };
        let findings = diagnose(&facts);
        let ok = findings.iter().all(|finding| finding.state != State::Bad);
        if self.json {
            let instruments =
                facts.instruments.iter().flat_map(|(link, seen)| seen.iter().map(move |s| instrument(link, s)));
            let instruments: Vec<_> = instruments.collect();
            println!("{}", json!({ "ok": ok, "findings": findings, "instruments": instruments }));
        } else {
            print(&findings);
        }
        Ok(ExitCode::from(u8::from(!ok)))
    }
}

/// What was heard of one instrument, and what its clock is worth.
fn instrument(link: &str, (name, seen): (&String, &Seen)) -> serde_json::Value {
    let drifts: Vec<i64> = seen.drifts_s.iter().copied().collect();
    json!({
        "link": link,
        "instrument": name,
        "driver": seen.driver,
        "messages": seen.messages,
        "results": seen.results,
        "held": seen.held,
        "last_heard_ms": seen.last_ms,
        "clock": judge(&drifts),
    })
}

fn print(findings: &[Finding]) {
    let colour = super::colour(&std::io::stdout());
    let paint = |style: Style, text: &str| match colour {
        true => format!("{style}{text}{style:#}"),
        false => text.to_string(),
    };
    let mut subject = None;
    for finding in findings {
        if subject != Some(&finding.subject) {
            let title = if finding.subject.is_empty() { "the box" } else { &finding.subject };
            println!("{}", paint(Style::new().bold(), title));
            subject = Some(&finding.subject);
        }
        let (mark, style) = match finding.state {
            State::Good => ("ok   ", AnsiColor::Green.on_default()),
            State::Look => ("look ", AnsiColor::Yellow.on_default()),
            State::Bad => ("WRONG", AnsiColor::Red.on_default().bold()),
        };
        println!("  {} {:9} {}", paint(style, mark), finding.layer, finding.says);
        if !finding.next.is_empty() {
            println!("        {:9} -> {}", "", finding.next);
        }
    }
}

/// Connects, sets TLS up where it is configured, and hangs up.
async fn dial(destination: &delivery::Config) -> Reached {
    let began = Instant::now();
    match tokio::time::timeout(DIAL_TIMEOUT, reach::connect(destination)).await {
        Ok(Ok(tls)) => Reached::Yes { tls, took: began.elapsed() },
        Ok(Err(why)) => Reached::No(why),
        Err(_) => Reached::No(format!("no answer within {} s", DIAL_TIMEOUT.as_secs())),
    }
}
