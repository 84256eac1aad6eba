//! `afferent desk inventory`.

use super::{SETTINGS, note};
use crate::desk::Config;
use crate::desk::registry::{Entry, Group, Registry};
use anyhow::bail;
use clap::{Args, Subcommand};
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;

/// The boxes that belong to the fleet: where each stands, and in which ring changes reach it.
///
/// They are kept in `boxes.toml` beside the settings, for people and version control. A box that is not in it is shown
/// as a stranger once there are others.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  afferent desk inventory
  afferent desk inventory --group ring=0
  afferent desk inventory put bench-1 --site north --ring 0 --tag haematology
  afferent desk inventory remove bench-1

A group: `all`, or ring=1, site=north, tag=haematology, name=bench-* with commas between them, each of which holds;
!= is for what does not.")]
pub(super) struct Inventory {
    #[command(subcommand)]
    change: Option<Change>,
    /// Only these
    #[arg(long, value_name = "GROUP", default_value = "all")]
    group: Group,
    /// The desk's settings; the boxes lie beside them
    #[arg(long, value_name = "FILE", default_value = SETTINGS, global = true)]
    desk: PathBuf,
    /// Print one JSON array
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Change {
    /// Put a box in, or say something else of it; what is left out stays as it is
    #[command(after_help = "Example:\n  afferent desk inventory put bench-1 --site north --ring 1 --tag night")]
    Put(Put),
    /// Take a box out
    #[command(after_help = "Example:\n  afferent desk inventory remove bench-1")]
    Remove {
        /// Its name
        name: String,
    },
}

#[derive(Debug, Args)]
struct Put {
    /// The common name of its certificate
    name: String,
    /// Where it stands
    #[arg(long)]
    site: Option<String>,
    /// Changes come to lower rings first
    #[arg(long, value_name = "N")]
    ring: Option<u32>,
    /// Word to choose it by (may be given several times; they take the place of those that are there)
    #[arg(long, value_name = "WORD")]
    tag: Vec<String>,
    /// For people
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
}

impl Inventory {
    pub fn execute(self) -> anyhow::Result<ExitCode> {
        let folder = Config::read(&self.desk)?.folder;
        match self.change {
            None => {
                let registry = Registry::read(&folder)?;
                let boxes: Vec<&Entry> = registry.of(&self.group).collect();
                if self.json {
                    println!("{}", serde_json::to_string(&boxes)?);
                    return Ok(ExitCode::SUCCESS);
                }
                println!("{:20} {:14} {:>4}  {:24} note", "box", "site", "ring", "tags");
                for Entry { name, site, ring, tags, note } in boxes {
                    let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
                    println!("{name:20} {site:14} {ring:>4}  {:24} {note}", tags.join(", "));
                }
            }
            Some(Change::Put(put)) => {
                let name = put.name.clone();
                note(&folder, json!({ "inventory": "put", "box": name, "ring": put.ring }))?;
                if !Registry::change(&folder, |registry| registry.put(put.onto(registry)))? {
                    bail!("`{name}` cannot be a box's name, or there are too many");
                }
            }
            Some(Change::Remove { name }) => {
                note(&folder, json!({ "inventory": "remove", "box": name }))?;
                if !Registry::change(&folder, |registry| registry.remove(&name))? {
                    bail!("there is no `{name}` in the inventory");
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Put {
    fn onto(self, registry: &Registry) -> Entry {
        let is = registry.get(&self.name).cloned().unwrap_or_default();
        Entry {
            name: self.name,
            site: self.site.unwrap_or(is.site),
            ring: self.ring.unwrap_or(is.ring),
            tags: if self.tag.is_empty() { is.tags } else { self.tag.into_iter().collect() },
            note: self.note.unwrap_or(is.note),
        }
    }
}
