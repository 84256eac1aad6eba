//! `afferent restore FILE`.

use super::{CONFIG_DEFAULT, backup};
use crate::backup::restore::{self, Fate, Plan, Wish};
use crate::fleet::desired::tree;
use crate::service;
use anyhow::{Context, bail};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

/// Make this box the one that a backup was made of.
///
/// The gateway must not run. Nothing is done while results are on this box that went nowhere yet. What is here otherwise is
/// erased as by a factory reset, and the files of the backup are put where they were; serial ports are found by the
/// socket they were plugged into. The box is then as it was, but for its journal, which is new, and its key for the fleet:
/// it asks the desk to be let in, unless the old one is said to be dead, that is, never runs again. What a crash
/// interrupts is ended by this command without FILE, and no gateway starts before. --look tells all that and does nothing.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sudo afferent restore /media/stick/bench-1.backup --look
  sudo afferent restore /media/stick/bench-1.backup
  sudo afferent restore bench-1.backup --ports chemistry=/dev/serial/by-path/platform-usb-0:1.4
  sudo afferent restore                               goes on with one that was interrupted

Exit codes: 0 done (or, with --look, it can be done), 1 nothing was changed, unless it says so.")]
pub struct Restore {
    /// The backup
    file: Option<PathBuf>,
    /// Where the configuration file goes
    #[arg(long, value_name = "FILE", default_value = CONFIG_DEFAULT)]
    config: PathBuf,
    /// File with the passphrase or recovery key, in its first line
    #[arg(long, value_name = "FILE", requires = "file")]
    passphrase_file: Option<PathBuf>,
    /// Tell what is in it and what would be done, and change nothing
    #[arg(long, requires = "file")]
    look: bool,
    /// The serial port of a link, where it is not found by its socket
    #[arg(long, value_name = "LINK=PORT", value_parser = port, requires = "file")]
    ports: Vec<(String, PathBuf)>,
    /// The old box never runs again: this one is known to the fleet by its key and certificate
    #[arg(long, requires = "file")]
    old_box_is_dead: bool,
    /// Leave the desk's revision out: the box's own file runs until the desk sends another
    #[arg(long, requires = "file")]
    without_revision: bool,
    /// By the old box's clock the backup was made later than now, and that clock was wrong
    #[arg(long, requires = "file")]
    its_clock_was_wrong: bool,
    /// Print one JSON object: restored, gateway, made, revision, files (path, fate), ports (link, serial, to, missing),
    /// notes, open, refused, code
    #[arg(long)]
    json: bool,
}

fn port(text: &str) -> Result<(String, PathBuf), String> {
    let (link, port) = text.split_once('=').ok_or("write it as LINK=PORT")?;
    Ok((link.to_string(), PathBuf::from(port)))
}

impl Restore {
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        let Some(file) = &self.file else {
            // The service waits for it (ExecStartPre= of its unit), and every file of the data directory gets its owner.
            service::extend(service::STARTED);
            if !restore::finish(&self.config)? {
                bail!("no restore of {} was interrupted: give the file of a backup", self.config.display());
            }
            if self.json {
                println!("{}", json!({ "restored": true }));
            } else {
                println!("the restore that was interrupted is done");
            }
            return Ok(ExitCode::SUCCESS);
        };
        // What was begun is ended first: it knows more than this box does now.
        restore::is_whole(&self.config)?;
        let contents = backup::open(file, self.passphrase_file.as_deref())?;
        let ports: BTreeMap<String, PathBuf> = self.ports.iter().cloned().collect();
        let wish = Wish {
            config: self.config.clone(),
            ports,
            is_old_dead: self.old_box_is_dead,
            without_revision: self.without_revision,
            was_clock_wrong: self.its_clock_was_wrong,
        };
        let plan = restore::plan(contents, wish)?;
        if self.look {
            let can_be = plan.refused.is_none();
            let about = About::of(&plan);
            self.tell(about, plan.refused.map(|why| why.to_string()), None, false);
            return Ok(ExitCode::from(u8::from(!can_be)));
        }
        let mut about = About::of(&plan);
        let code = plan.begin().context("nothing was changed")?.end()?.map(|code| code.to_string());
        let loaded = tree::load(&self.config)?;
        about.open.extend(loaded.missing.list().iter().map(|fault| fault.message.clone()));
        self.tell(about, None, code, true);
        Ok(ExitCode::SUCCESS)
    }

    fn tell(&self, about: About, refused: Option<String>, code: Option<String>, restored: bool) {
        if self.json {
            let About { mut told, open } = about;
            told["restored"] = json!(restored);
            told["open"] = json!(open);
            told["refused"] = json!(refused);
            told["code"] = json!(code);
            println!("{told}");
            return;
        }
        let About { told, open } = about;
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_string();
        let list = |key: &str| told[key].as_array().cloned().unwrap_or_default();
        println!("{} as of {}, of release {}", text(&told["gateway"]), text(&told["made"]), text(&told["version"]));
        for file in list("files") {
            println!("  {:10} {}", text(&file["fate"]), text(&file["path"]));
        }
        if let Some(revision) = told["revision"].as_u64() {
            println!("  revision {revision} of the desk");
        }
        for port in list("ports").iter().filter(|port| port["missing"].is_null()) {
            let to = port["to"].as_str().map_or("the same port".to_string(), |to| format!("now {to}"));
            println!("  link {}: {} -> {to}", text(&port["link"]), text(&port["serial"]));
        }
        list("notes").iter().for_each(|note| println!("note: {}", text(note)));
        open.iter().for_each(|open| println!("open: {open}"));
        if let Some(code) = code {
            println!("its code is {code}");
        }
        match refused {
            Some(why) => println!("it would be refused: {why}"),
            None if restored => println!("restored; start it (systemctl start afferent), then: afferent doctor"),
            None => println!("nothing was changed; without --look it would be done"),
        }
    }
}

/// What is told of a restore.
struct About {
    told: serde_json::Value,
    open: Vec<String>,
}

impl About {
    fn of(plan: &Plan) -> About {
        let file = |(path, fate): &(PathBuf, Fate)| json!({ "path": path, "fate": fate });
        let files: Vec<_> = plan.fates.iter().map(file).collect();
        let manifest = plan.manifest();
        let made = jiff::Timestamp::from_millisecond(manifest.made_ms).unwrap_or_default();
        let told = json!({
            "gateway": manifest.gateway, "made": made.to_string(), "version": manifest.version, "arch": manifest.arch,
            "revision": manifest.revision, "files": files, "ports": plan.placed, "notes": plan.notes,
        });
        About { told, open: plan.open.clone() }
    }
}
