//! `[dicom]` and `[[modality]]`: what the settings mean together.

use super::{Checks, address, is_host_and_port};
use crate::config::{Config, Fault};
use crate::link::dicom::LINK;
use crate::link::dicom::config::{AE_TITLE_MAX, Safe, is_ae_title};
use crate::link::peers::Peers;
use crate::{link, orders, tls};
use std::net::SocketAddr;

/// Longest an association may be silent, in seconds: a day.
const IDLE_MAX_S: u32 = 24 * 60 * 60;
/// Longest that images may be waited for before a modality is told that they never came, in seconds: a day.
const COMMITMENT_WAIT_MAX_S: u32 = 24 * 60 * 60;

impl Checks<'_> {
    pub(super) fn worklist(&mut self, worklist: &orders::worklist::Config) {
        if worklist.answers_max == 0 {
            self.say("worklist.answers_max", "`answers_max` must be at least 1", "leave it out for the default");
        }
        if worklist.character_set.is_some() && worklist.charset().is_none() {
            let hint = "write values of (0008,0005), such as \"ISO_IR 100\" or \"ISO_IR 192\"";
            self.say("worklist.character_set", "`character_set` is no character set of DICOM", hint);
        }
        for (index, room) in worklist.rooms.iter().enumerate() {
            if room.location.is_empty() || room.ae_title.trim().is_empty() || room.ae_title.len() > 16 {
                let message = "a room needs its `location` and an `ae_title` of at most 16 characters";
                self.say(
                    &format!("worklist.rooms[{index}]"),
                    message,
                    "orders name the location, the modality its title",
                );
            }
        }
    }

    pub(super) fn dicom(&mut self, config: &Config) {
        self.modalities(config);
        for (key, problem) in config.imaging.problems() {
            self.say(&format!("imaging.{key}"), format!("`{key}` {problem}"), "leave it out for the default");
        }
        let Some(dicom) = &config.dicom else { return };
        self.ae_title(&dicom.ae_title, "dicom.ae_title");
        if dicom.listen.is_none() && dicom.listen_tls.is_none() && !self.scene.places.is_spoilt("dicom") {
            let hint = "give `listen`, such as \"0.0.0.0:11112\", or `listen_tls` with [dicom.tls]";
            self.say("dicom", "this table does not say where modalities reach the box", hint);
        }
        for (key, listen) in [("listen", &dicom.listen), ("listen_tls", &dicom.listen_tls)] {
            let Some(listen) = listen else { continue };
            let path = format!("dicom.{key}");
            let Some(own) = listen.parse::<SocketAddr>().ok().filter(|own| own.port() != 0) else {
                let hint = "write an address of this box and a port, such as \"0.0.0.0:11112\" for every network card";
                self.say(&path, format!("`{listen}` is no address to listen on"), hint);
                continue;
            };
            let taken = |line: &link::Config| {
                address(line).is_some_and(|other| {
                    let apart = own.ip() != other.ip() && !own.ip().is_unspecified() && !other.ip().is_unspecified();
                    own.port() == other.port() && !apart
                })
            };
            let orders = config.orders.iter().map(|orders| orders.line());
            if let Some(line) = config.links.iter().cloned().chain(orders).find(taken) {
                let message = format!("port {} is taken by `{}`", own.port(), line.name);
                self.say(&path, message, "give modalities a port of their own: 11112, or 2762 with TLS");
            }
        }
        if dicom.listen.is_some() && dicom.listen == dicom.listen_tls {
            self.say(
                "dicom.listen_tls",
                "`listen` has the same port",
                "a port is plain or TLS, not both: 2762 is usual",
            );
        }
        if dicom.associations_max == 0 {
            let message = "`associations_max` must be at least 1";
            self.say("dicom.associations_max", message, "leave it out for the default");
        }
        if !(1..=IDLE_MAX_S).contains(&dicom.idle_timeout_s) {
            let message = format!("`idle_timeout_s` must be from 1 to {IDLE_MAX_S}");
            self.say("dicom.idle_timeout_s", message, "leave it out for the default");
        }
        match (&dicom.tls, &dicom.listen_tls) {
            (None, Some(_)) if !self.scene.places.is_spoilt("dicom") => {
                let hint = "add [dicom.tls] with `cert` and `key`, both PEM files";
                self.say("dicom.listen_tls", "a TLS port needs certificates", hint);
            }
            (Some(_), None) if !self.scene.places.is_spoilt("dicom") => {
                self.say(
                    "dicom.tls",
                    "[dicom.tls] belongs to `listen_tls`",
                    "give `listen_tls`, such as \"0.0.0.0:2762\"",
                );
            }
            (Some(settings), _) => {
                let before = self.faults.len();
                let files = [("cert", Some(&settings.cert)), ("key", Some(&settings.key))];
                for (key, file) in files.into_iter().chain([("client_ca", settings.client_ca.as_ref())]) {
                    self.file(file.map(|file| file.as_path()), &format!("dicom.tls.{key}"));
                }
                if self.faults.len() == before {
                    self.tls_works(tls::server(settings).map(drop), "dicom.tls");
                }
            }
            _ => {}
        }
    }

    fn modalities(&mut self, config: &Config) {
        if config.dicom.is_none() && !config.modalities.is_empty() && !self.scene.places.has("dicom") {
            let hint = "add [dicom] with `listen`, such as \"0.0.0.0:11112\"";
            self.say("modality[0]", "there is no [dicom]: no modality can reach the box", hint);
        }
        self.unique_names("modality", config.modalities.iter().map(|modality| modality.name.as_str()));
        for (index, modality) in config.modalities.iter().enumerate() {
            let path = format!("modality[{index}]");
            let at = |key: &str| format!("{path}.{key}");
            self.name(&modality.name, &path);
            let links = config.links.iter().map(|link| &link.name).chain(config.orders.iter().map(|o| &o.name));
            if modality.name == LINK || links.into_iter().any(|name| *name == modality.name && !name.is_empty()) {
                let message = format!("the name `{}` is taken by a link", modality.name);
                self.say(&at("name"), message, "counters and commands speak of both by name");
            }
            if config.order_feeds.iter().any(|feed| feed.name == modality.name && !feed.name.is_empty()) {
                let message = format!("the name `{}` is taken by an [[order_feed]]", modality.name);
                self.say(&at("name"), message, "counters and commands speak of both by name");
            }
            if !modality.ae_title.is_empty() || !self.scene.places.is_spoilt(&path) {
                self.ae_title(&modality.ae_title, &at("ae_title"));
            }
            for (place, peers) in modality.peers.iter().enumerate() {
                if let Err(why) = peers.parse::<Peers>() {
                    let hint = "write an address or a network, such as \"10.0.0.7\" or \"10.0.1.0/24\"";
                    self.say(&format!("{path}.peers[{place}]"), why, hint);
                }
            }
            let shows_certificates = config.dicom.as_ref().and_then(|dicom| dicom.tls.as_ref()?.client_ca.as_ref());
            if !modality.certificates.is_empty()
                && shows_certificates.is_none()
                && !self.scene.places.is_spoilt("dicom")
            {
                let hint = "give `listen_tls` and [dicom.tls] with `client_ca`";
                self.say(&at("certificates"), "no modality is asked for its certificate", hint);
            }
            for (place, certificate) in modality.certificates.iter().enumerate() {
                if let Err(why) = certificate.parse::<tls::Fingerprint>() {
                    let hint = "write what `openssl x509 -noout -fingerprint -sha256 -in FILE` prints behind `=`";
                    self.say(&format!("{path}.certificates[{place}]"), why, hint);
                }
            }
            if let Some(address) = modality.address.as_ref().filter(|address| !is_host_and_port(address)) {
                let hint = "write host and port, such as \"10.0.0.7:104\"";
                self.say(&at("address"), format!("`{address}` is no address to dial"), hint);
            }
            let archives = || config.destinations.iter().filter(|to| to.is_archive());
            if modality.commitment != Safe::Custody && archives().next().is_none() {
                let hint =
                    "add a [[destination]] with protocol = \"dicom\" or \"stow\", or leave it out for \"custody\"";
                self.say(&at("commitment"), "no archive takes images: nothing would ever be safe", hint);
            }
            if modality.commitment == Safe::Committed
                && archives().next().is_some()
                && !archives().any(|to| to.commitment)
            {
                let hint = "set commitment = true in the [[destination]] that keeps images, or use \"delivered\"";
                self.say(&at("commitment"), "no archive is asked to commit: nothing would ever be safe", hint);
            }
            if modality.commitment_wait_s > COMMITMENT_WAIT_MAX_S {
                let message = format!("`commitment_wait_s` must be at most {COMMITMENT_WAIT_MAX_S}");
                self.say(&at("commitment_wait_s"), message, "leave it out for the default");
            }
            let twin = config.modalities.iter().take(index).find(|other| {
                let parsed =
                    |peers: &[String]| peers.iter().filter_map(|text| text.parse().ok()).collect::<Vec<Peers>>();
                let (own, others) = (parsed(&modality.peers), parsed(&other.peers));
                let same_peers =
                    own.iter().any(|peers| others.contains(peers)) || (own.is_empty() && others.is_empty());
                other.ae_title == modality.ae_title && same_peers
            });
            if let Some(twin) = twin.filter(|_| !modality.ae_title.is_empty()) {
                let message = format!("`{}` has the same AE title and the same `peers`", twin.name);
                self.say(
                    &at("ae_title"),
                    message,
                    "give each modality a title of its own, or tell them apart by `peers`",
                );
            }
        }
    }

    fn ae_title(&mut self, title: &str, path: &str) {
        if !is_ae_title(title) {
            let message = format!("`{title}` is no AE title");
            let hint = format!("use 1 to {AE_TITLE_MAX} printable ASCII characters, such as \"VIVID\"");
            self.faults.push(Fault::setting(self.value(path), message).hint(hint));
        }
    }
}
