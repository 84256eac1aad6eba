//! `afferent doctor`: what is wrong, layer by layer, and what to do next.

use crate::backup::restore;
use crate::fleet::desired::tree;
use crate::interpreter::register::Seen;
use crate::workbench::clock::judge;
use crate::workbench::doctor::{Finding, State};
use crate::workbench::examination::{Examination, examine};
use anstyle::{AnsiColor, Style};
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;

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
        restore::is_whole(&self.config)?;
        let config = tree::load(&self.config)?.config;
        let Examination { findings, instruments, .. } = examine(&config)?;
        let ok = findings.iter().all(|finding| finding.state != State::Bad);
        if self.json {
            let instruments = instruments.iter().flat_map(|(link, seen)| seen.iter().map(move |s| instrument(link, s)));
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
