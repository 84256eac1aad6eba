//! `afferent map`: the codes and units nobody has mapped yet, and what a person decides about them.

mod revisions;

use crate::clinical::{Doubt, Report};
use crate::config::{self, Config};
use crate::disk;
use crate::driver::{Driver, builtin};
use crate::journal::{OpenError, Reader};
use crate::workbench::codes::{Decision, Suggestion, Unmapped, suggest, with_decision};
use anyhow::Context as _;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Held results that are looked at; the oldest first.
const HOLDS_MAX: usize = 20_000;
/// Drivers that read every instrument nobody wrote one for: what one of them means by a code, another may not.
const GENERIC: [&str; 5] = [
    builtin::GENERIC_ASTM,
    builtin::GENERIC_HL7,
    builtin::GENERIC_POCT1A,
    builtin::GENERIC_TABLE,
    builtin::GENERIC_LINES,
];
/// Name of a driver's file.
const FILE: &str = "driver.toml";

/// Show the codes and units nobody has mapped yet, and map them.
///
/// Without a verb it lists what is held for want of a LOINC or a UCUM unit, with what other drivers take the same code
/// or name in the same unit for. A suggestion is only that: it is used when a person accepts it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  afferent map
  afferent map accept --driver acme-one --code GLU --loinc 14749-6 --unit mmol/l=mmol/L
  afferent map history
  afferent map revert --driver acme-one --to 3
  afferent map --json | jq '.codes[] | select(.suggestions == [])'")]
pub struct Map {
    /// The configuration file
    #[arg(long, global = true, value_name = "FILE", default_value = super::CONFIG_DEFAULT)]
    config: PathBuf,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
    /// What to do
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Write a decision into the site's own copy of a driver.
    Accept(Accept),
    /// List the revisions of the site's drivers: every decision, when it was made, and the version it made
    ///
    /// The version stands behind the @ on each filed entry (`afferent journal show`).
    #[command(after_help = "Example:\n  afferent map history --driver acme-one")]
    History {
        /// Only this driver
        #[arg(long, value_name = "ID")]
        driver: Option<String>,
    },
    /// Make an earlier revision of a driver the driver again, as a new revision
    #[command(after_help = "Example:\n  afferent map revert --driver acme-one --to 3")]
    Revert {
        /// The driver
        #[arg(long, value_name = "ID")]
        driver: String,
        /// Number of the revision, from `afferent map history`
        #[arg(long, value_name = "N")]
        to: u32,
    },
}

/// Write a decision into the site's own copy of a driver.
///
/// The copy lies in the folder named by gateway.drivers and is made from the built-in driver when there is none yet. It
/// is checked before it is written. Held results are sent once their entries are replayed.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  afferent map accept --driver acme-one --code GLU --loinc 14749-6 --unit mmol/l=mmol/L"
)]
struct Accept {
    /// The driver that reads the instrument, as `afferent map` shows it
    #[arg(long, value_name = "ID")]
    driver: String,
    /// The instrument's code
    #[arg(long)]
    code: String,
    /// What it stands for
    #[arg(long)]
    loinc: String,
    /// The LOINC's long common name
    #[arg(long, default_value = "")]
    name: String,
    /// A unit as sent and in UCUM, SENT=UCUM; may be given several times
    #[arg(long = "unit", value_name = "SENT=UCUM", value_parser = unit)]
    units: Vec<(String, String)>,
}

/// A code that is held, how often, in which entries, and what it may be.
struct Row {
    unmapped: Unmapped,
    held: usize,
    entries: BTreeSet<i64>,
    suggestions: Vec<Suggestion>,
}

impl Map {
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        let config = config::load(&self.config)?.config;
        match &self.verb {
            None => self.list(&rows(&config)?),
            Some(Verb::Accept(accept)) => accept.carry_out(&config, &rows(&config)?, self.json)?,
            Some(Verb::History { driver }) => history(&config, driver.as_deref(), self.json)?,
            Some(Verb::Revert { driver, to }) => revert(&config, driver, *to, self.json)?,
        }
        Ok(ExitCode::SUCCESS)
    }

    fn list(&self, rows: &[Row]) {
        if self.json {
            let codes: Vec<_> = rows.iter().map(Row::json).collect();
            println!("{}", json!({ "codes": codes }));
            return;
        }
        if rows.is_empty() {
            println!("every code and unit that came is mapped");
        }
        for Row { unmapped, held, suggestions, .. } in rows {
            let Unmapped { link, driver, code, name, unit, reason } = unmapped;
            let called = if name.is_empty() { String::new() } else { format!(" ({})", name.escape_debug()) };
            match driver.as_str() {
                builtin::GENERIC_LINES => println!("lines no driver knows: {held} held, {reason}; link {link}"),
                _ => println!(
                    "{}{called} in {unit:?}: {held} held, {reason}; link {link}, driver {driver}",
                    code.escape_debug()
                ),
            }
            let is_generic = GENERIC.contains(&driver.as_str());
            if is_generic {
                println!("    read by {driver}: begin a driver for this instrument with afferent driver new");
            }
            for suggestion in suggestions {
                let Suggestion { loinc, ucum, .. } = suggestion;
                println!("    {suggestion}");
                if is_generic {
                    continue;
                }
                println!(
                    "    afferent map accept --driver {driver} --code {} --loinc {loinc} --unit {}",
                    shell(code),
                    shell(&format!("{unit}={ucum}"))
                );
            }
        }
    }
}

impl Row {
    fn json(&self) -> serde_json::Value {
        let mut value = serde_json::to_value(&self.unmapped).unwrap_or_default();
        if let Some(object) = value.as_object_mut() {
            object.insert("held".to_string(), json!(self.held));
            object.insert("entries".to_string(), json!(self.entries));
            object.insert("suggestions".to_string(), json!(self.suggestions));
        }
        value
    }
}

impl Accept {
    fn carry_out(&self, config: &Config, rows: &[Row], as_json: bool) -> anyhow::Result<()> {
        anyhow::ensure!(
            !GENERIC.contains(&self.driver.as_str()),
            "{} reads every instrument nobody wrote a driver for, and the next one may mean something else by {}: begin a \
             driver for this one, afferent driver new",
            self.driver,
            self.code
        );
        let folder = drivers(config)?.join(&self.driver);
        let file = folder.join(FILE);
        let before = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => builtin::DRIVERS
                .iter()
                .find(|(id, _)| *id == self.driver)
                .map(|(_, text)| text.to_string())
                .with_context(|| format!("no driver {}; afferent driver list shows them", self.driver))?,
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
        };
        let decision = Decision {
            code: self.code.clone(),
            loinc: self.loinc.clone(),
            name: self.name.clone(),
            units: self.units.clone(),
        };
        let text = with_decision(&before, &decision);
        Driver::parse(&self.driver, &text)?;
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let revision = revisions::note(&folder, &self.driver, &before, &text, &self.said())?;
        write(&file, &text)?;
        let entries: BTreeSet<i64> = rows
            .iter()
            .filter(|row| row.unmapped.driver == self.driver && row.unmapped.code == self.code)
            .flat_map(|row| row.entries.iter().copied())
            .collect();
        if as_json {
            println!("{}", json!({ "file": file, "revision": revision, "entries": entries }));
            return Ok(());
        }
        println!("{} says now what {} stands for: revision {revision}", file.display(), self.code);
        println!("it counts from the next start of the gateway: systemctl restart afferent");
        if !entries.is_empty() {
            let numbers: Vec<String> = entries.iter().map(i64::to_string).collect();
            println!("then send what is held: afferent journal replay {}", numbers.join(" "));
        }
        Ok(())
    }
}

impl Accept {
    /// The decision in a line.
    fn said(&self) -> String {
        let units: Vec<String> = self.units.iter().map(|(sent, ucum)| format!("{sent}={ucum}")).collect();
        let units = if units.is_empty() { String::new() } else { format!(" in {}", units.join(", ")) };
        format!("{} is {}{units}", self.code, self.loinc)
    }
}

/// The folder of the site's own drivers.
fn drivers(config: &Config) -> anyhow::Result<&Path> {
    config.gateway.drivers.as_deref().context(
        "the site has no drivers of its own yet: set gateway.drivers to a folder, such as /etc/afferent/drivers",
    )
}

fn history(config: &Config, only: Option<&str>, as_json: bool) -> anyhow::Result<()> {
    let folder = drivers(config)?;
    let listed = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut ids: Vec<String> =
        listed.filter_map(Result::ok).map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    ids.retain(|id| only.is_none_or(|only| only == id));
    ids.sort();
    let mut all = Vec::new();
    for id in ids {
        all.extend(revisions::list(&folder.join(&id))?.into_iter().map(|revision| (id.clone(), revision)));
    }
    if as_json {
        let told = |(id, revision): &(String, revisions::Revision)| json!({ "driver": id, "revision": revision });
        println!("{}", json!({ "revisions": all.iter().map(told).collect::<Vec<_>>() }));
        return Ok(());
    }
    if all.is_empty() {
        println!("nothing was mapped yet");
    }
    for (id, revision) in all {
        let from = revision.from.map(|from| format!(", from {from}")).unwrap_or_default();
        println!(
            "{id} revision {}, {}: {} ({id}@{}{from})",
            revision.number, revision.made, revision.what, revision.version
        );
    }
    Ok(())
}

fn revert(config: &Config, id: &str, number: u32, as_json: bool) -> anyhow::Result<()> {
    let folder = drivers(config)?.join(id);
    let file = folder.join(FILE);
    let text = revisions::text_of(&folder, number)?;
    Driver::parse(id, &text)?;
    let before = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let revision = revisions::note(&folder, id, &before, &text, &format!("back to revision {number}"))?;
    write(&file, &text)?;
    if as_json {
        println!("{}", json!({ "file": file, "revision": revision }));
        return Ok(());
    }
    println!("{} is as in revision {number} again: revision {revision}", file.display());
    println!("it counts from the next start of the gateway: systemctl restart afferent");
    Ok(())
}

/// What is held for want of a mapping, by code and unit.
fn rows(config: &Config) -> anyhow::Result<Vec<Row>> {
    let reader = match Reader::open(&config.gateway.data, &config.journal) {
        Ok(reader) => reader,
        Err(OpenError::Missing(_)) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let registry = config.registry()?;
    let mut found: BTreeMap<Unmapped, (usize, BTreeSet<i64>)> = BTreeMap::new();
    let mut last: Option<(crate::journal::ReportId, Report)> = None;
    for hold in reader.holds(HOLDS_MAX)? {
        if last.as_ref().is_none_or(|(id, _)| *id != hold.report) {
            // A damaged one is told by `afferent journal verify`; the others can still be mapped. The codes of a
            // structured report are no driver's, and no mapping of a driver makes them known.
            let Ok(json) = reader.report(hold.report) else { continue };
            let Ok(report) = serde_json::from_slice(&json) else { continue };
            last = Some((hold.report, report));
        }
        let observation = last.as_ref().and_then(|(_, report)| report.observations.get(hold.observation as usize));
        let Some(observation) = observation else { continue };
        // The reason of a hold is the first of its doubts; a code that is unknown as well still has to be mapped.
        let wanted = |doubt: &&Doubt| matches!(doubt, Doubt::UnmappedCode | Doubt::UnknownUnit);
        let Some(doubt) = observation.doubts.iter().find(wanted) else { continue };
        let driver = hold.driver.split('@').next().unwrap_or_default().to_string();
        let told = |text: &String| if builtin::guesses_codes(&driver) { String::new() } else { text.clone() };
        let unmapped = Unmapped {
            link: hold.link,
            code: told(&observation.instrument_code),
            name: told(&observation.instrument_name),
            unit: told(&observation.unit),
            driver,
            reason: doubt.name().to_string(),
        };
        let (held, entries) = found.entry(unmapped).or_default();
        *held += 1;
        entries.insert(hold.entry.0);
    }
    let row = |(unmapped, (held, entries)): (Unmapped, (usize, BTreeSet<i64>))| Row {
        suggestions: suggest(&registry, &unmapped.code, &unmapped.name, &unmapped.unit),
        unmapped,
        held,
        entries,
    };
    Ok(found.into_iter().map(row).collect())
}

/// Replaces a file in one step, so that a gateway that starts meanwhile reads the old or the new one.
fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    let folder = file.parent().unwrap_or(Path::new("."));
    let failed = || format!("cannot write {}", file.display());
    std::fs::create_dir_all(folder).with_context(failed)?;
    disk::replace(file, text.as_bytes()).with_context(failed)
}

fn unit(text: &str) -> Result<(String, String), String> {
    let (sent, ucum) = text.split_once('=').ok_or("write it as SENT=UCUM, such as mmol/l=mmol/L")?;
    Ok((sent.to_string(), ucum.to_string()))
}

/// The text as one word of a shell.
fn shell(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:+%".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => text.to_string(),
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}
