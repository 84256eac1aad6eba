//! Sparkplug B: how the box is, for a host that a site's engineers have already (Sparkplug 3.0.0). A view and no more:
//! the box is an edge node, each link and destination a device, and all a host can ask for is to be told anew
//! (`Node Control/Rebirth`). Commands, configurations and events stay where they are signed and acknowledged: Sparkplug's
//! are at most once, and forgotten by a broker for a box that is away.
//!
//! ```text
//! spBv1.0/{group}/NBIRTH/{node}, NDATA, NDEATH (the will)    the box
//! spBv1.0/{group}/DBIRTH/{node}/if:{link}, DDATA, DDEATH     a link
//! spBv1.0/{group}/DBIRTH/{node}/to:{destination}, ...        a destination
//! spBv1.0/{group}/NCMD/{node}                                "Node Control/Rebirth" alone is heeded
//! spBv1.0/STATE/{host}                                       whether the primary host is there, where one is named
//! ```
//!
//! The death of an edge node is the will of its MQTT session, and a session has one will: so this is a connection of its
//! own, with a certificate of its own, which may lead to another broker. What can be said is numbers, moments, names of
//! the configuration and constants ([`payload::Value`]), never anything of a patient (invariant I8); nothing waits for it
//! (I12).
//!
//! Rooms: [`node`] decides what is said when, a pure machine; [`payload`] writes it down.

pub mod node;
pub mod payload;

use super::bus::mqtt::{Broker, Mqtt};
use super::bus::{Bus, Heard, PublishId, Quality};
use super::now;
use super::snapshot::{Own, Snapshot, Sources};
use super::telemetry::{DestinationFacts, Downlink, LinkFacts, Metrics, Name, Word};
use crate::config::check::name_is_usable;
use crate::tls::{self, ClientTls};
use bytes::Bytes;
use node::{HostIs, Node, Output, Reading};
use payload::{Figure, Value};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// What changed is told of no more often.
pub const LOOK_EVERY: Duration = Duration::from_secs(5);
/// A certificate that cannot be read is looked at again after this.
const START_PAUSE: Duration = Duration::from_secs(60);
/// A stop waits no longer for the broker.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// The telemetry as a Sparkplug B edge node, for a host that a site has already; left out, there is none. It takes a
/// certificate of its own, for Sparkplug's will takes a connection of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Sparkplug's group id: the second part of each topic.
    pub group: String,
    /// Name of the edge node; left out, the common name of the certificate.
    pub node: Option<String>,
    /// Id of the host that is waited for: births only while it says that it is online. Left out, none is.
    pub primary_host: Option<String>,
    /// MQTT 5 broker, host and port; left out, the fleet's.
    pub broker: Option<String>,
    /// The edge node's certificate, and who may have signed the broker's.
    pub tls: ClientTls,
}

impl Config {
    /// The name of the edge node. The certificate is read when there is no `node`.
    ///
    /// # Errors
    /// In words, what is missing.
    pub fn node(&self) -> Result<String, String> {
        let name = match (&self.node, &self.tls.cert) {
            (Some(name), _) => name.clone(),
            (None, Some(cert)) => {
                let found = tls::common_name(cert).map_err(|error| error.to_string())?;
                found.ok_or_else(|| format!("the certificate in {} has no common name", cert.display()))?
            }
            (None, None) => return Err("[fleet.sparkplug.tls] names no certificate".to_string()),
        };
        if name_is_usable(&name) { Ok(name) } else { Err(format!("`{name}` cannot stand in topics")) }
    }
}

/// Tells the host until `stopped` becomes true.
pub(super) async fn run(
    fleet: &super::Config,
    config: &Config,
    sources: Sources,
    epoch: u64,
    network: tokio::runtime::Handle,
    mut stopped: watch::Receiver<bool>,
) {
    let name = loop {
        match config.node() {
            Ok(name) => break name,
            Err(why) => {
                tracing::error!(event = "fleet-trouble", "the Sparkplug view does not start, and results go on: {why}")
            }
        }
        tokio::select! {
            () = tokio::time::sleep(START_PAUSE) => {}
            _ = stopped.wait_for(|stop| *stop) => return,
        }
    };
    let (host, port) = config.broker.as_deref().and_then(super::config::host_and_port).unwrap_or_else(|| {
        // It was checked when the configuration was.
        fleet.host_and_port().unwrap_or_default()
    });
    let broker = Broker { host, port, tls: config.tls.clone(), client_id: name.clone() };
    let every = Duration::from_secs(fleet.metrics_s);
    let mut view = View {
        bus: Mqtt::new(broker, network),
        node: Node::new(&config.group, &name, epoch, every, now()).waits_for(config.primary_host.as_deref()),
        snapshot: Snapshot::new(sources, every),
        epoch,
        look_at: now(),
        trouble: String::new(),
        host: config.primary_host.clone().unwrap_or_default(),
    };
    view.run(stopped).await;
}

struct View {
    bus: Mqtt,
    node: Node,
    snapshot: Snapshot,
    epoch: u64,
    look_at: Instant,
    trouble: String,
    /// Id of the primary host; empty when there is none.
    host: String,
}

impl View {
    async fn run(&mut self, mut stopped: watch::Receiver<bool>) {
        loop {
            let now = now();
            if self.look_at <= now || self.node.wants_reading(now) {
                self.look_at = now + LOOK_EVERY;
                let reading = self.read(now);
                self.node.look(reading, now);
            }
            while let Some(output) = self.node.poll_output() {
                self.perform(output);
            }
            let wake = self.node.poll_timeout().into_iter().chain([self.look_at]).min().unwrap_or(self.look_at);
            tokio::select! {
                heard = self.bus.heard() => self.hear(heard),
                () = tokio::time::sleep_until(wake.into()) => {
                    let at = self.snapshot.sources().stamp().at;
                    self.node.timeout(super::now(), at);
                }
                _ = stopped.wait_for(|stop| *stop) => break,
            }
        }
        // With its will, which is its death.
        self.bus.disconnect(false);
        let gone = async { while !matches!(self.bus.heard().await, Heard::Lost(_)) {} };
        let _ = tokio::time::timeout(STOP_GRACE, gone).await;
    }

    fn hear(&mut self, heard: Heard) {
        match heard {
            Heard::Connected { .. } => {
                tracing::info!("the Sparkplug host's broker is there");
                self.trouble.clear();
                self.node.connected(now());
            }
            Heard::Received { topic, payload, receipt } => {
                self.node.received(&topic, &payload);
                self.bus.acknowledge(receipt);
            }
            Heard::Lost(why) => {
                if self.trouble != why && !why.is_empty() {
                    tracing::warn!("Sparkplug: {why}");
                    self.trouble = why;
                }
                self.node.lost(now());
            }
            Heard::Unheard(filter) => {
                tracing::warn!("Sparkplug: the broker does not let this box hear {filter}: see its acl");
            }
            // Nothing of it is acknowledged, and there is one certificate.
            Heard::Acknowledged(_) | Heard::Refused(..) | Heard::Switched { .. } | Heard::NotSwitched(_) => {}
        }
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::Connect { topic, will } => self.bus.connect_edge(topic, will),
            Output::Subscribe(filter) => self.bus.subscribe(filter),
            // With its will, which is its death.
            Output::Disconnect => self.bus.disconnect(false),
            Output::Host(is) => self.tell_of_host(is),
            Output::Publish { topic, payload } => {
                let payload = Bytes::from(payload);
                self.bus.say_binary(PublishId::FIRST, topic, payload, Quality::AtMostOnce);
            }
        }
    }

    fn tell_of_host(&self, is: HostIs) {
        let host = &self.host;
        match is {
            HostIs::Awaited => tracing::warn!(
                "Sparkplug: nothing is told before the primary host {host} says that it is online, for which this box \
                 waits since {} s: is its id `{host}`, and may it write spBv1.0/STATE/{host}?",
                node::HOST_LATE.as_secs()
            ),
            HostIs::Here => tracing::info!("Sparkplug: the primary host {host} is online"),
            HostIs::Gone => tracing::warn!("Sparkplug: the primary host {host} is offline, and is waited for"),
        }
    }

    fn read(&mut self, now: Instant) -> Reading {
        self.snapshot.look(now);
        let own = Own { epoch: self.epoch, events_waiting: 0, events_lost: 0, downlink: Downlink::Unproven };
        let metrics = self.snapshot.metrics(&own);
        let links = self.snapshot.links().map(|(name, facts)| (device("if", name), of_link(facts)));
        let destinations =
            self.snapshot.destinations().map(|(name, facts)| (device("to", name), of_destination(facts)));
        Reading { at: metrics.stamp.at, node: of_box(&metrics), devices: links.chain(destinations).collect() }
    }
}

/// The name of a device: what it is before its own.
fn device(kind: &str, name: &Name) -> String {
    format!("{kind}:{}", name.as_str())
}

fn of_box(metrics: &Metrics) -> Vec<Figure> {
    vec![
        Figure::new("version", Value::Word(Word::new(env!("CARGO_PKG_VERSION")))),
        Figure::new("journal", Value::Word(metrics.journal)),
        Figure::new("uptime_s", Value::Count(metrics.uptime_s)),
        Figure::new("disk_free_bytes", Value::Count(metrics.disk_free_bytes)),
        Figure::new("memory_kb", Value::Count(metrics.memory_kb)),
        Figure::new("links_up", Value::Count(metrics.links_up)),
        Figure::new("messages", Value::Count(metrics.messages)),
        Figure::new("delivered", Value::Count(metrics.delivered)),
        Figure::new("queued", Value::Count(metrics.queued)),
    ]
}

fn of_link(facts: &LinkFacts) -> Vec<Figure> {
    vec![
        Figure::new("up", Value::Flag(facts.up)),
        Figure::new("open", Value::Count(facts.open)),
        Figure::new("connections", Value::Count(facts.connections)),
        Figure::new("parts", Value::Count(facts.parts)),
        Figure::new("messages", Value::Count(facts.messages)),
        Figure::new("naks", Value::Count(facts.naks)),
        Figure::new("last_heard", Value::Moment(facts.last_heard)),
    ]
}

fn of_destination(facts: &DestinationFacts) -> Vec<Figure> {
    vec![
        Figure::new("up", Value::Flag(facts.up)),
        Figure::new("queued", Value::Count(facts.queued)),
        Figure::new("parked", Value::Count(facts.parked)),
        Figure::new("delivered", Value::Count(facts.delivered)),
        Figure::new("refused", Value::Count(facts.refused)),
        Figure::new("failed", Value::Count(facts.failed)),
        Figure::new("last_answer", Value::Moment(facts.last_answer)),
        Figure::new("lab_to_chart_p50_ms", Value::Time(facts.lab_to_chart_p50_ms)),
        Figure::new("lab_to_chart_p99_ms", Value::Time(facts.lab_to_chart_p99_ms)),
    ]
}
