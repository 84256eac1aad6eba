//! `afferent driver list|test|new`.

pub mod case;
mod scaffold;

use super::EXIT_WRONG;
use crate::driver::{Driver, Protocol, Registry, builtin};
use anstyle::{AnsiColor, Style};
use anyhow::Context as _;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Longest `driver.toml` read from a folder, in bytes; one more than the loader accepts, so that it says so.
const TOML_MAX: u64 = crate::driver::DRIVER_TEXT_MAX as u64 + 1;

/// See the drivers, test one, or begin a new one from a capture.
#[derive(Debug, clap::Args)]
pub struct DriverCommand {
    /// What to do
    #[command(subcommand)]
    pub action: Action,
}

/// What can be done with drivers.
#[derive(Debug, clap::Subcommand)]
pub enum Action {
    /// List the drivers
    #[command(
        after_help = "Examples:\n  afferent driver list\n  afferent driver list --drivers /etc/afferent/drivers --json"
    )]
    List {
        /// More drivers: a folder of folders with a driver.toml each
        #[arg(long, value_name = "DIR")]
        drivers: Option<PathBuf>,
        /// Print one JSON array
        #[arg(long)]
        json: bool,
    },
    /// Check a driver's folder and run its cases
    #[command(
        after_help = "Examples:\n  afferent driver test drivers/sysmex-xn\n  afferent driver test --update ./acme-one"
    )]
    Test {
        /// The driver's folder, with driver.toml and cases/
        folder: PathBuf,
        /// Write the expected files instead of comparing
        #[arg(long)]
        update: bool,
        /// Print one JSON object: driver, cases, differences
        #[arg(long)]
        json: bool,
    },
    /// Begin a driver from a capture: its header, the codes seen, and what is still to be mapped
    #[command(after_help = "\
Examples:
  afferent driver new acme-one --from capture.bin
  afferent driver new acme-csv --from export.csv
  afferent driver new acme-lines --from serial.txt --protocol lines")]
    New {
        /// Folder to make; its name is the driver's id
        folder: PathBuf,
        /// A capture of the instrument
        #[arg(long, value_name = "FILE")]
        from: PathBuf,
        /// What it speaks; left out, the capture tells. Separated lines on a port are lines, in a file they are a table
        #[arg(long, value_name = "PROTOCOL", value_parser = protocol)]
        protocol: Option<Protocol>,
    },
}

impl DriverCommand {
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        match self.action {
            Action::List { drivers, json } => list(drivers.as_deref(), json),
            Action::Test { folder, update, json } => test(&folder, update, json),
            Action::New { folder, from, protocol } => {
                let raw = super::preview::instrument_bytes(super::preview::read(&from)?);
                let protocol = scaffold::scaffold(&folder, &raw, protocol)?;
                println!("{} begun; map the codes, write README.md and cases, then:", folder.display());
                if protocol == Protocol::Table {
                    println!("  (it looks like a file of rows; if these come on a line: --protocol lines)");
                }
                println!("  afferent preview --drivers {} {}", parent(&folder).display(), from.display());
                println!("  afferent driver test {}", folder.display());
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

/// Adds every driver in a folder of folders; one of the same name takes the place of the one built in.
///
/// # Errors
/// The folder cannot be listed, or a driver in it is wrong.
pub fn overlay(registry: &mut Registry, folder: &Path) -> anyhow::Result<()> {
    let list = std::fs::read_dir(folder).with_context(|| format!("{}", folder.display()))?;
    let mut folders: Vec<PathBuf> = list.filter_map(Result::ok).map(|e| e.path()).collect();
    folders.sort();
    for folder in folders.iter().filter(|f| f.join("driver.toml").is_file()) {
        let (name, text) = text_of(folder)?;
        registry.add(&name, &text)?;
    }
    Ok(())
}

fn list(drivers: Option<&Path>, as_json: bool) -> anyhow::Result<ExitCode> {
    let mut registry = Registry::builtin();
    if let Some(folder) = drivers {
        overlay(&mut registry, folder)?;
    }
    if as_json {
        let all: Vec<_> = registry.iter().map(described).collect();
        println!("{}", serde_json::Value::Array(all));
        return Ok(ExitCode::SUCCESS);
    }
    let bold = if super::colour(&std::io::stdout()) { Style::new().bold() } else { Style::new() };
    println!("{bold}{:22} {:5} {:8} {:28} HEADER{bold:#}", "DRIVER", "WIRE", "ANALYTES", "INSTRUMENT");
    for driver in registry.iter() {
        let identity = &driver.schema.identity;
        let instrument = format!("{} {}", identity.vendor, identity.model);
        let wire = driver.protocol().name();
        let (analytes, header) = (driver.schema.analyte.len(), identity.header.join(", "));
        println!("{:22} {wire:5} {analytes:8} {instrument:28} {header}", driver.id);
    }
    Ok(ExitCode::SUCCESS)
}

fn test(folder: &Path, update: bool, as_json: bool) -> anyhow::Result<ExitCode> {
    let (name, text) = text_of(folder)?;
    let driver = match Driver::parse(&name, &text) {
        Ok(driver) => driver,
        Err(error) => {
            eprintln!("error: {error}");
            return Ok(ExitCode::from(EXIT_WRONG));
        }
    };
    let mut cases = Vec::new();
    for case in case::folders(folder)? {
        let story = case.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        cases.push((story, case::check(&driver, &case, update)?));
    }
    let sound = cases.iter().all(|(_, differences)| differences.is_empty());
    if as_json {
        let each = |(story, differences): &(String, Vec<case::Difference>)| {
            let shown = differences.iter().map(|d| json!({ "at": d.at, "lines": d.lines })).collect::<Vec<_>>();
            json!({ "case": story, "differences": shown })
        };
        let cases = cases.iter().map(each).collect::<Vec<_>>();
        println!("{}", json!({ "driver": driver.id_and_version(), "ok": sound, "cases": cases }));
    } else {
        print_cases(&cases);
        println!(
            "{}: {} cases, {}",
            driver.id_and_version(),
            cases.len(),
            if sound { "all as expected" } else { "not as expected" }
        );
    }
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print_cases(cases: &[(String, Vec<case::Difference>)]) {
    let colour = super::colour(&std::io::stdout());
    let paint = |c: AnsiColor| if colour { c.on_default() } else { Style::new() };
    let (good, bad) = (paint(AnsiColor::Green), paint(AnsiColor::Red));
    for (story, differences) in cases {
        if differences.is_empty() {
            println!("{good}ok{good:#}     {story}");
            continue;
        }
        println!("{bad}differs{bad:#} {story}");
        for difference in differences {
            println!("  {}", difference.at);
            for line in &difference.lines {
                let style = match line.chars().next() {
                    Some('+') => good,
                    Some('-') => bad,
                    _ => Style::new(),
                };
                println!("    {style}{line}{style:#}");
            }
        }
    }
}

fn described(driver: &Driver) -> serde_json::Value {
    let identity = &driver.schema.identity;
    json!({
        "id": driver.id,
        "version": driver.version,
        "vendor": identity.vendor,
        "model": identity.model,
        "protocol": driver.protocol(),
        "header": identity.header,
        "analytes": driver.schema.analyte.len(),
        "evidence": identity.evidence,
        "built_in": builtin::DRIVERS.iter().any(|(id, _)| *id == driver.id),
    })
}

/// Name of a driver's folder and the text of its `driver.toml`.
fn text_of(folder: &Path) -> anyhow::Result<(String, String)> {
    use std::io::Read;
    let path = folder.join("driver.toml");
    let whole = folder.canonicalize().with_context(|| format!("{}", folder.display()))?;
    let name = whole.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let mut text = String::new();
    let open = std::fs::File::open(&path).with_context(|| format!("{}", path.display()))?;
    open.take(TOML_MAX).read_to_string(&mut text).with_context(|| format!("{}", path.display()))?;
    Ok((name, text))
}

fn protocol(text: &str) -> Result<Protocol, String> {
    serde_json::from_value(json!(text)).map_err(|_| "it is astm, hl7, poct1a, table or lines".to_string())
}

fn parent(folder: &Path) -> &Path {
    folder.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
