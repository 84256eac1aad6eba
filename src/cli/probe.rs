//! `afferent probe [PORT]`: what is at the other end of a line.

use crate::config::{self, Config, addition};
use crate::control::{self, Request, Response};
use crate::disk;
use crate::driver::Registry;
use crate::link::LinkHealth;
use crate::link::serial::ports::{self, Port};
use crate::workbench::probe::findings::{Findings, First};
use crate::workbench::probe::listen::{Listening, Show, Target};
use crate::workbench::probe::{Manner, SPEEDS};
use anstyle::{AnsiColor, Style};
use anyhow::Context as _;
use indicatif::ProgressBar;
use serde_json::json;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Find out what is at the other end of a line: speed, parity, protocol and instrument, and who talks first.
///
/// It listens while the instrument sends; each burst tells whether speed and parity are right. Without PORT it listens
/// on every serial port that is free. Nothing is ever acknowledged: an instrument that asks for the line is told that
/// we are busy, so it keeps its results and asks again. A port or link that the running gateway has is listened to
/// through it. At the end stands the `[[link]]` to paste.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  afferent probe                                the serial ports there are, and whoever sends on one
  afferent probe /dev/ttyUSB0 --seconds 120
  afferent probe --listen 0.0.0.0:4001          an instrument that dials the box
  afferent probe chemistry                      a link of the running gateway
  afferent probe /dev/ttyUSB0 --provoke --write --config afferent.toml

Exit codes: 0 something was recognised, 1 nothing was.")]
pub struct Probe {
    /// A serial port, or the name of a link of the running gateway
    port: Option<PathBuf>,
    /// Wait for the instrument at HOST:PORT
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["port", "dial"])]
    listen: Option<String>,
    /// Dial the instrument at HOST:PORT
    #[arg(long, value_name = "ADDRESS", conflicts_with = "port")]
    dial: Option<String>,
    /// Listen at this speed only
    #[arg(long, value_name = "BAUD")]
    baud: Option<u32>,
    /// Speak: send ENQ into silence, and let an instrument that asks say its name; its frames are refused
    #[arg(long)]
    provoke: bool,
    /// Listen for so many seconds at most
    #[arg(long, value_name = "N", default_value_t = 90)]
    seconds: u64,
    /// Add the link to the configuration file
    #[arg(long)]
    write: bool,
    /// The configuration file: its links, the data directory of its gateway, and where to write
    #[arg(long, value_name = "FILE", default_value = super::CONFIG_DEFAULT)]
    config: PathBuf,
    /// Print one JSON object: ports (device, by_id, by_path, usb, twin, link), findings
    #[arg(long)]
    json: bool,
}

/// What is known of this box before anything is opened.
struct Scene {
    config: Option<Config>,
    /// The running gateway's links.
    running: Option<Vec<LinkHealth>>,
    registry: Registry,
    ports: Vec<(Port, Option<String>)>,
}

impl Probe {
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        let scene = Scene::look(&self.config)?;
        let targets = self.targets(&scene)?;
        if !self.json && self.port.is_none() && self.listen.is_none() && self.dial.is_none() {
            scene.print_ports();
        }
        let bar = match self.json || !std::io::stderr().is_terminal() {
            true => ProgressBar::hidden(),
            false => ProgressBar::new_spinner(),
        };
        let listening = Listening {
            manner: if self.provoke { Manner::Provoke } else { Manner::Listen },
            baud: self.baud.unwrap_or(SPEEDS[0]),
            fixed: self.baud.is_some(),
            until: Instant::now() + Duration::from_secs(self.seconds),
            show: shown_on(&bar),
        };
        bar.enable_steady_tick(Duration::from_millis(200));
        let heard = listening.run(targets, &scene.registry);
        bar.finish_and_clear();
        let (mut findings, mut heard) = (Vec::new(), heard?);
        if heard.len() == 1 {
            findings.push(heard.remove(0).1?);
        }
        for (place, found) in heard {
            match found {
                Ok(found) => findings.push(found),
                Err(error) => eprintln!("{place}: {error}"),
            }
        }
        if self.json {
            let ports: Vec<_> = scene.ports.iter().map(|(port, link)| json!({ "port": port, "link": link })).collect();
            println!("{}", json!({ "ports": ports, "findings": findings }));
        } else {
            findings.iter().for_each(print);
        }
        let usable: Vec<&Findings> = findings.iter().filter(|found| found.link.is_some()).collect();
        if self.write {
            match usable.as_slice() {
                [found] => self.write_down(found)?,
                [] => anyhow::bail!("nothing to write: no link was found"),
                _ => anyhow::bail!("more than one link was found: name one PORT to write it down"),
            }
        }
        Ok(ExitCode::from(u8::from(findings.iter().all(|found| found.spoken.is_none()))))
    }

    fn targets(&self, scene: &Scene) -> anyhow::Result<Vec<Target>> {
        if let Some(address) = &self.listen {
            return Ok(vec![Target::Listen(address.clone())]);
        }
        if let Some(address) = &self.dial {
            return Ok(vec![Target::Dial(address.clone())]);
        }
        let serial = |path: &Path, shown: &Path| Target::Serial { path: path.into(), shown: shown.into() };
        let Some(port) = &self.port else {
            let free = scene.ports.iter().filter(|(_, link)| link.is_none());
            let targets: Vec<Target> = free.map(|(port, _)| serial(&port.device, port.stable_name())).collect();
            if targets.is_empty() {
                anyhow::bail!("there is no free serial port; name one, a link, or give --listen or --dial");
            }
            return Ok(targets);
        };
        if let Some(target) = scene.running_link(port) {
            return Ok(vec![target]);
        }
        let device = ports::resolve(Path::new("/"), port)?;
        let known = scene.ports.iter().map(|(port, _)| port).find(|port| port.device == device);
        // A name that was given as a stable one stays; a bare device gets its stable name.
        let shown = match known.filter(|known| *port == known.device) {
            Some(known) => known.stable_name().to_path_buf(),
            None => port.clone(),
        };
        Ok(vec![serial(&device, &shown)])
    }

    /// Adds the link to the configuration, under a name that is free, when the whole is sound.
    fn write_down(&self, found: &Findings) -> anyhow::Result<()> {
        let file = &self.config;
        let table = found.link.clone().unwrap_or_default();
        let config = config::load(file)?.config;
        let name = found.driver.clone().unwrap_or_else(|| "instrument".to_string());
        let taken: Vec<&str> = config.links.iter().map(|link| link.name.as_str()).collect();
        let free = addition::free_name(&name, &taken);
        let table = table.replacen(&format!("name = \"{name}\""), &format!("name = \"{free}\""), 1);
        let before = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let after = addition::added(&before, &table);
        config::parse(&file.display().to_string(), &after)?;
        disk::replace_settings(file, after.as_bytes()).with_context(|| format!("cannot write {}", file.display()))?;
        eprintln!("link {free} is in {}; restart the gateway to use it", file.display());
        Ok(())
    }
}

/// Shows what goes on beside a bar.
pub(super) fn shown_on(bar: &ProgressBar) -> Show {
    let bar = bar.clone();
    Arc::new(move |says| bar.set_message(says))
}

impl Scene {
    fn look(file: &Path) -> anyhow::Result<Scene> {
        // A bench without a configuration is the usual case here; a wrong one is told.
        let config = match file.exists() {
            true => Some(config::load(file)?.config),
            false => None,
        };
        let running =
            config.as_ref().and_then(|config| match control::request(&config.gateway.data, &Request::Health) {
                Ok(Response::Health(health)) => serde_json::from_value(health).ok(),
                _ => None,
            });
        let registry = config.as_ref().map_or_else(|| Ok(Registry::builtin()), Config::registry)?;
        let mut scene = Scene { config, running, registry, ports: Vec::new() };
        let all = ports::list(Path::new("/"));
        scene.ports = all.into_iter().map(|port| (port.clone(), scene.owner(&port.device))).collect();
        Ok(scene)
    }

    /// The link of the running gateway that has this port.
    fn owner(&self, device: &Path) -> Option<String> {
        self.running.as_ref()?;
        let links = self.config.iter().flat_map(|config| &config.links);
        let device = std::fs::canonicalize(device).ok()?;
        let mut owners = links.filter(|link| {
            link.serial.as_ref().is_some_and(|name| ports::resolve(Path::new("/"), name).as_ref() == Ok(&device))
        });
        owners.next().map(|link| link.name.clone())
    }

    /// The link of the running gateway that is called so, or has this port.
    fn running_link(&self, port: &Path) -> Option<Target> {
        let (config, running) = (self.config.as_ref()?, self.running.as_ref()?);
        let name = config.links.iter().map(|link| link.name.clone()).find(|name| Path::new(name) == port);
        let device = || ports::resolve(Path::new("/"), port).ok();
        let name = name.or_else(|| self.owner(&device()?))?;
        let link = config.links.iter().find(|link| link.name == name)?.clone();
        let driver = link.driver.as_deref().and_then(|id| self.registry.get(id));
        let link = driver.map_or(link.clone(), |driver| link.with_driver(driver.wire()));
        let health = running.iter().find(|health| health.link == name);
        let port = health.map_or((None, None), |health| (health.line_errors, health.modem_lines));
        Some(Target::Running { data: config.gateway.data.clone(), link: Box::new(link), port })
    }

    fn print_ports(&self) {
        for (port, link) in &self.ports {
            let owner = link.as_ref().map_or("free".to_string(), |link| format!("link {link} has it"));
            println!("{}  {owner}", port.device.display());
            for name in [&port.by_id, &port.by_path].into_iter().flatten() {
                println!("  {}", name.display());
            }
            if port.twin {
                println!("  another adapter is just like it: only its name by-path is its own");
            }
        }
    }
}

fn print(found: &Findings) {
    let colour = super::colour(&std::io::stdout());
    let paint = |style: Style, text: &str| match colour {
        true => format!("{style}{text}{style:#}"),
        false => text.to_string(),
    };
    println!("{}", paint(Style::new().bold(), &found.place.to_string()));
    let told = match found.spoken {
        Some(spoken) => paint(AnsiColor::Green.on_default(), &format!("{} ({})", spoken.name(), found.score)),
        None if found.first == First::Nobody => paint(AnsiColor::Yellow.on_default(), "silence"),
        None => paint(AnsiColor::Yellow.on_default(), "nothing that makes sense yet"),
    };
    println!("  speaks      {told}");
    if let Some(setting) = found.setting {
        println!("  line        {setting}");
    }
    let driver = found.driver.as_ref().map_or("no driver knows it".to_string(), |id| format!("driver {id}"));
    match &found.sender {
        Some(sender) => println!("  instrument  {sender}, {driver}"),
        None if found.driver.is_some() => println!("  instrument  {driver}"),
        None => {}
    }
    for evidence in &found.evidence {
        println!("  {}  {}", paint(Style::new().dimmed(), &format!("{:10}", evidence.score)), evidence.says);
    }
    for next in &found.next {
        println!("  {:>10}  {next}", "->");
    }
    if let Some(link) = &found.link {
        println!("\n{link}");
    }
}
