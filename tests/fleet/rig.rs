//! A box on the bus: the real gateway, with links and a destination, behind a line that can break.

use crate::broker::Broker;
use crate::line::Line;
use crate::ports::free_port;
use afferent::config::{self, Config};
use afferent::fleet::Fleet;
use afferent::gateway::Gateway;
use afferent::sim::ehr::{Ehr, EhrOptions};
use std::path::{Path, PathBuf};

pub const TENANT: &str = "acme";
pub const DESK: &str = "desk-acme";
/// Everything the boxes of the tenant say.
pub const ALL_UP: &str = "afferent/v1/acme/+/up/#";

pub struct Rig {
    pub line: Line,
    pub ehr: Ehr,
    pub astm: u16,
    pub hl7: u16,
    config: Config,
    gateway: Option<Gateway>,
    dir: tempfile::TempDir,
}

impl Rig {
    /// A box with this name in its certificate, started.
    pub async fn start(broker: &Broker, name: &str) -> Rig {
        Rig::start_with(broker, name, "").await
    }

    /// The same, with more of `[fleet.tls]`.
    pub async fn start_with(broker: &Broker, name: &str, more: &str) -> Rig {
        let dir = tempfile::tempdir().unwrap();
        let line = Line::to(broker.port);
        let options = EhrOptions { mllp: Some("127.0.0.1:0".to_string()), keep_bodies: true, ..EhrOptions::default() };
        let ehr = Ehr::start(options).await.unwrap();
        let (astm, hl7, port) = (free_port(), free_port(), line.port);
        let tls = toml::to_string(&broker.client(name)).unwrap();
        let text = format!(
            "[gateway]\nname = \"bench\"\ndata = {data:?}\ntime_zone = \"UTC\"\nclock_trusted = true\n[journal]\nfree_min_mb = 0\n\
             [[link]]\nname = \"chemistry\"\nprotocol = \"astm\"\nlisten = \"127.0.0.1:{astm}\"\n\
             [[link]]\nname = \"point-of-care\"\nprotocol = \"hl7\"\nlisten = \"127.0.0.1:{hl7}\"\n\
             [[destination]]\nname = \"ehr\"\naddress = \"{ehr}\"\nretry_min_ms = 50\nretry_max_ms = 500\n\
             [fleet]\nbroker = \"localhost:{port}\"\ntenant = \"{TENANT}\"\nmetrics_s = 5\n[fleet.tls]\n{tls}{more}",
            data = dir.path().join("data"),
            ehr = ehr.mllp().unwrap(),
        );
        std::fs::write(dir.path().join("gateway.toml"), &text).unwrap();
        let config = config::parse("gateway.toml", &text).unwrap_or_else(|faults| panic!("{faults}")).config;
        let mut rig = Rig { line, ehr, astm, hl7, config, gateway: None, dir };
        rig.restart().await;
        rig
    }

    pub async fn restart(&mut self) {
        self.gateway = Some(Gateway::start(&self.config).await.unwrap());
    }

    pub async fn stop(&mut self) {
        if let Some(gateway) = self.gateway.take() {
            gateway.stop().await;
        }
    }

    pub fn fleet(&self) -> &Fleet {
        self.gateway.as_ref().and_then(Gateway::fleet).unwrap()
    }

    /// The file with its settings.
    pub fn config(&self) -> PathBuf {
        self.dir.path().join("gateway.toml")
    }

    pub fn data(&self) -> &Path {
        &self.config.gateway.data
    }
}
