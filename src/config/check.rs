//! What the settings mean together: what serde cannot see, because each value alone is well-formed.

mod board;
mod dicom;
mod feed;
mod fleet;
mod folders;
mod metrics;
mod update;
pub mod serial;

use super::diagnose::{Fault, nearest};
use super::{Config, load::Places};
use crate::credential;
use crate::delivery::oauth::SigningKey;
use crate::driver::schema::TIMER_MAX_MS;
use crate::driver::{Driver, Registry};
use crate::message::charset::Charset;
use crate::rules::Rule;
use crate::rules::rule::RULES_MAX;
use crate::tls::{self, TlsError};
use crate::wire::Protocol;
use crate::{delivery, link, orders};
use jiff::tz::TimeZone;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::Path;

/// Longest name of a gateway, link or destination, in characters. MSH-3 carries the gateway's.
const NAME_MAX_CHARS: usize = 64;
/// Serial speeds that exist; another one is taken for a slip.
const BAUD_MAX: u32 = 4_000_000;

/// What the checks look at besides the configuration.
pub struct Scene<'a> {
    /// Where the settings stand.
    pub places: &'a Places,
    /// The drivers there are.
    pub registry: &'a Registry,
    /// False when some of the site's drivers did not load, so that an unknown id means nothing.
    pub drivers_complete: bool,
}

/// True for names that can stand in HL7 fields, file names, metrics and commands alike.
pub fn name_is_usable(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !name.is_empty() && name.len() <= NAME_MAX_CHARS && name.chars().all(allowed)
}

/// Everything that is wrong with the values.
pub fn check(config: &Config, scene: &Scene<'_>) -> Vec<Fault> {
    let mut checks = Checks { scene, faults: Vec::new() };
    checks.gateway(config);
    checks.journal(config);
    let has_source = !config.links.is_empty() || config.dicom.is_some();
    if !has_source && !scene.places.has("link") && !scene.places.has("dicom") && !scene.places.is_spoilt("") {
        let hint = "add a [[link]] for each instrument, or [dicom] for modalities";
        checks.say("", "there is no [[link]]: nothing can come in", hint);
    }
    if config.destinations.is_empty() && !scene.places.has("destination") && !scene.places.is_spoilt("") {
        checks.say("", "there is no [[destination]]: results could go nowhere", "add a [[destination]], the EHR");
    }
    for (index, link) in config.links.iter().enumerate() {
        checks.link(link, &format!("link[{index}]"));
    }
    checks.unique_names("link", config.links.iter().map(|l| l.name.as_str()));
    checks.unique_names("orders", config.orders.iter().map(|o| o.name.as_str()));
    checks.unique_names("destination", config.destinations.iter().map(|d| d.name.as_str()));
    checks.serial_ports(&config.links);
    for (index, orders) in config.orders.iter().enumerate() {
        checks.orders_in(orders, &config.links, &format!("orders[{index}]"));
    }
    for (index, feed) in config.order_feeds.iter().enumerate() {
        checks.order_feed(feed, config, &format!("order_feed[{index}]"));
    }
    checks.worklist(&config.worklist);
    let links = config.links.iter().enumerate().map(|(index, link)| (format!("link[{index}]"), link.clone()));
    let orders = config.orders.iter().enumerate().map(|(index, orders)| (format!("orders[{index}]"), orders.line()));
    checks.clashes(&links.chain(orders).collect::<Vec<_>>());
    for (index, destination) in config.destinations.iter().enumerate() {
        checks.destination(destination, &format!("destination[{index}]"));
        checks.destination_links(destination, config, &format!("destination[{index}]"));
        checks.order_status(destination, config, &format!("destination[{index}]"));
    }
    checks.dicom(config);
    checks.fleet(config);
    checks.metrics(config);
    checks.folders(config);
    checks.update(config);
    checks.board(config);
    checks.watch(config);
    checks.rules(config);
    checks.faults
}

/// Everything that is wrong with rules, each alone and in their names. `places` are those of the text they stand in.
pub fn check_rules(rules: &[Rule], places: &Places) -> Vec<Fault> {
    let mut faults = Vec::new();
    if rules.len() > RULES_MAX {
        faults.push(Fault::setting(places.header("rule"), format!("there are more than {RULES_MAX} rules")));
    }
    let mut names = HashMap::new();
    for (index, rule) in rules.iter().enumerate() {
        let table = format!("rule[{index}]");
        for problem in rule.problems() {
            let here = format!("{table}.{}", problem.key);
            // What seems to be missing may only be misspelt.
            if places.is_spoilt(&table) && !places.has(&here) {
                continue;
            }
            let (message, hint) = match problem.text.split_once("; ") {
                Some((message, hint)) => (message, Some(hint)),
                None => (problem.text.as_str(), None),
            };
            let fault = Fault::setting(places.value(&here), format!("rule `{}`: {message}", rule.name));
            faults.push(match hint {
                Some(hint) => fault.hint(hint),
                None => fault,
            });
        }
        if let Some(first) = names.insert(rule.name.as_str(), index).filter(|_| !rule.name.is_empty()) {
            let message = format!("the name `{}` is taken by rule[{first}]", rule.name);
            let fault = Fault::setting(places.value(&format!("{table}.name")), message);
            faults.push(fault.hint("decisions are recorded under names"));
        }
    }
    faults
}

struct Checks<'a> {
    scene: &'a Scene<'a>,
    faults: Vec<Fault>,
}

impl Checks<'_> {
    fn gateway(&mut self, config: &Config) {
        let gateway = &config.gateway;
        if let Some(name) = &gateway.name
            && !name_is_usable(name)
        {
            self.bad_name("gateway.name");
        }
        if gateway.data.exists() && !gateway.data.is_dir() {
            self.say("gateway.data", "`data` is not a directory", "name a directory; it is made when it is not there");
        }
        self.time_zone(gateway.time_zone.as_deref(), "gateway.time_zone");
    }

    fn journal(&mut self, config: &Config) {
        let hint = "the gateway does not start without it; `openssl rand -hex 32` makes one, for its user's eyes only";
        self.file_or(config.journal.key_file.as_deref(), "journal.key_file", hint);
        if config.journal.key_rotation_days == 0 {
            let message = "`key_rotation_days` must be at least 1";
            self.say("journal.key_rotation_days", message, "leave it out for the default");
        }
    }

    fn link(&mut self, link: &link::Config, path: &str) {
        self.name(&link.name, path);
        self.where_from(link, path);
        let at = |key: &str| format!("{path}.{key}");
        if link.serial.is_none() {
            for (key, given) in [
                ("baud", link.baud.is_some()),
                ("data_bits", link.data_bits.is_some()),
                ("parity", link.parity.is_some()),
                ("stop_bits", link.stop_bits.is_some()),
                ("flow_control", link.flow_control.is_some()),
            ] {
                if given && !self.scene.places.is_spoilt(path) {
                    let message = format!("`{key}` belongs to a serial link, and this one is on the network");
                    self.say(&at(key), message, "remove it, or give `serial` in place of `listen` or `dial`");
                }
            }
        }
        if link.baud.is_some_and(|b| !(50..=BAUD_MAX).contains(&b)) {
            self.say(&at("baud"), "no serial port has this speed", "usual are 9600, 19200, 38400 and 115200");
        }
        if link.data_bits.is_some_and(|b| !matches!(b, 7 | 8)) {
            self.say(&at("data_bits"), "`data_bits` must be 7 or 8", "the instrument's host interface menu tells");
        }
        if link.stop_bits.is_some_and(|b| !matches!(b, 1 | 2)) {
            self.say(&at("stop_bits"), "`stop_bits` must be 1 or 2", "the instrument's host interface menu tells");
        }
        if link.connections_max == 0 {
            self.say(&at("connections_max"), "`connections_max` must be at least 1", "leave it out for the default");
        }
        self.charset(link.charset.as_deref(), &at("charset"));
        self.device_messages(link, path);
        self.orders(link, path);
        self.framing(link, path);
        self.time_zone(link.time_zone.as_deref(), &at("time_zone"));
        self.driver(link.driver.as_deref(), link.protocol, &at("driver"));
        self.instruments(link, &at("instrument"));
        self.timers(&link.timers, &at("timers"));
        self.link_tls(link, &at("tls"));
    }

    /// Exactly one of `serial`, `listen`, `dial` and `directory`, and each well-formed.
    fn where_from(&mut self, link: &link::Config, path: &str) {
        let given = [
            ("serial", link.serial.is_some()),
            ("listen", link.listen.is_some()),
            ("dial", link.dial.is_some()),
            ("directory", link.directory.is_some()),
        ];
        let given: Vec<&str> = given.into_iter().filter(|(_, there)| *there).map(|(key, _)| key).collect();
        match given.as_slice() {
            [] if !self.scene.places.is_spoilt(path) => self.say(
                path,
                "this link does not say where its instrument is",
                "give one of `serial = \"/dev/ttyUSB0\"`, `listen = \"0.0.0.0:4001\"`, `dial = \"10.0.0.5:4001\"`,
                 `directory = \"/srv/pcr\"`",
            ),
            [first, second, ..] => {
                let message = format!("`{second}` and `{first}` exclude each other: a link is one line");
                self.say(&format!("{path}.{second}"), message, "keep one and write another [[link]] for the other");
            }
            _ => {}
        }
        if let Some(listen) = &link.listen
            && !listen.parse::<SocketAddr>().is_ok_and(|a| a.port() != 0)
        {
            let hint = "write an address of this box and a port, such as \"0.0.0.0:4001\" for every network card";
            self.say(&format!("{path}.listen"), format!("`{listen}` is no address to listen on"), hint);
        }
        if link.listen.is_none() && !link.peers.is_empty() && !self.scene.places.is_spoilt(path) {
            let message = "`peers` belongs to a link that listens";
            self.say(&format!("{path}.peers"), message, "remove it: who is dialled is known");
        }
        for (index, peers) in link.peers.iter().enumerate() {
            if let Err(why) = peers.parse::<link::peers::Peers>() {
                let hint = "write an address or a network, such as \"10.0.0.5\" or \"10.0.1.0/24\"";
                self.say(&format!("{path}.peers[{index}]"), why, hint);
            }
        }
        if let Some(dial) = &link.dial
            && !is_host_and_port(dial)
        {
            let hint = "write host and port, such as \"10.0.0.5:4001\"";
            self.say(&format!("{path}.dial"), format!("`{dial}` is no address to dial"), hint);
        }
        self.folder(link, path);
    }

    /// Each serial port is there, and is one link's.
    fn serial_ports(&mut self, links: &[link::Config]) {
        for trouble in serial::troubles(Path::new("/"), links) {
            let place = self.value(&format!("link[{}].serial", trouble.link));
            let fault = match trouble.is_setting {
                true => Fault::setting(place, trouble.message),
                false => Fault::environment(place, trouble.message),
            };
            self.faults.push(fault.hint(trouble.hint));
        }
    }

    /// Tables come in files, and files are taken by rules that can be kept.
    fn folder(&mut self, link: &link::Config, path: &str) {
        let at = |key: &str| format!("{path}.{key}");
        let Some(directory) = &link.directory else {
            if link.protocol == Protocol::Table && !self.scene.places.is_spoilt(path) {
                let message = "tables come in files, and this link has no `directory`";
                self.say(&at("protocol"), message, "give `directory`, the folder in which the instrument leaves them");
            }
            if self.scene.places.has(&at("files")) {
                self.say(&at("files"), "`files` belongs to a link with a `directory`", "remove [link.files]");
            }
            return;
        };
        if !directory.is_dir() {
            let fault =
                Fault::environment(self.value(&at("directory")), format!("{} is no folder now", directory.display()));
            self.faults.push(fault.hint("is the share mounted? findmnt shows what is"));
        }
        if link.tls.is_some() {
            self.say(&at("tls"), "a folder has no TLS", "remove [link.tls]");
        }
        let files = &link.files;
        for (key, value) in [("stable_ms", files.stable_ms), ("poll_ms", files.poll_ms)] {
            if !(1..=TIMER_MAX_MS).contains(&value) {
                let message = format!("`{key}` must be from 1 to {TIMER_MAX_MS} ms");
                self.say(&at(&format!("files.{key}")), message, "leave it out for the default");
            }
        }
        if !(1..=link::directory::SIZE_MAX_KB).contains(&files.size_max_kb) {
            let message = format!("`size_max_kb` must be from 1 to {}", link::directory::SIZE_MAX_KB);
            self.say(&at("files.size_max_kb"), message, "leave it out for the default");
        }
        for (key, folder) in [("archive", &files.archive), ("refused", &files.refused)] {
            if directory.join(folder) == *directory {
                let message = format!("`{key}` is the folder the files are taken from");
                self.say(&at(&format!("files.{key}")), message, "name another folder on the same share");
            }
        }
        if files.trigger.as_deref() == Some("") {
            self.say(
                &at("files.trigger"),
                "an empty `trigger` would be every file",
                "write its ending, such as \".ok\"",
            );
        }
    }

    /// POCT1-A: the device opens the conversation, over TCP, and only such a device can be told the time.
    fn device_messages(&mut self, link: &link::Config, path: &str) {
        if link.protocol != Protocol::Poct1a {
            if link.set_time && !self.scene.places.is_spoilt(path) {
                let message = "`set_time` belongs to a POCT1-A link, and this one speaks another protocol";
                self.say(&format!("{path}.set_time"), message, "remove it, and set the clock at the instrument");
            }
            if link.operators.is_some() && !self.scene.places.is_spoilt(path) {
                let message = "`operators` belongs to a POCT1-A link, and this one speaks another protocol";
                self.say(&format!("{path}.operators"), message, "remove it");
            }
            return;
        }
        if let Some(Err(why)) = link.operators.as_deref().map(link::operators::read) {
            let fault = Fault::environment(self.value(&format!("{path}.operators")), why);
            self.faults.push(fault.hint("one operator a line: id;name;permission level"));
        }
        let others =
            [("serial", link.serial.is_some()), ("dial", link.dial.is_some()), ("directory", link.directory.is_some())];
        for (key, given) in others {
            if given {
                let message = format!("a POCT1-A device dials the box, so this link cannot have `{key}`");
                self.say(&format!("{path}.{key}"), message, "give `listen`, such as \"0.0.0.0:4001\"");
            }
        }
    }

    /// Orders go by a driver's codes, to one instrument.
    fn orders(&mut self, link: &link::Config, path: &str) {
        if link.push_orders && !self.scene.places.is_spoilt(path) {
            self.push_orders(link, path);
        }
        let Some(address) = &link.orders_dial else { return };
        let path = format!("{path}.orders_dial");
        if link.protocol != Protocol::Hl7 {
            self.say(
                &path,
                "`orders_dial` belongs to an HL7 link",
                "remove it: this instrument takes its orders elsewhere",
            );
        } else if !is_host_and_port(address) {
            self.say(
                &path,
                format!("`{address}` is no address to dial"),
                "write host and port, such as \"10.0.0.5:4002\"",
            );
        }
    }

    /// What nobody asks for cannot say whom it is for, nor by which codes.
    fn push_orders(&mut self, link: &link::Config, path: &str) {
        let path = format!("{path}.push_orders");
        let own = match link.instrument.as_slice() {
            [] => None,
            [only] => only.driver.as_deref(),
            [..] => {
                let message = "this link lists several instruments: nobody can tell which of them an order is for";
                return self.say(
                    &path,
                    message,
                    "give each instrument that takes orders unasked a [[link]] of its own",
                );
            }
        };
        let Some(id) = own.or(link.driver.as_deref()) else {
            let message = "orders go out by a driver's codes, and this link names no `driver`";
            return self.say(&path, message, "name it; \"generic-hl7\" sends the codes of the EHR as they are");
        };
        let takes = |driver: &Driver| match driver.protocol() {
            Protocol::Astm => driver.order_layout().push_action.is_some(),
            Protocol::Hl7 => true,
            Protocol::Poct1a | Protocol::Table | Protocol::Lines => false,
        };
        if self.scene.registry.get(id).is_some_and(|driver| !takes(driver)) {
            let message = format!("driver `{id}` does not say how its instrument takes orders nobody asked for");
            self.say(&path, message, "remove it: the instrument is answered when it asks");
        }
    }

    /// Only lines that follow no standard have a framing to declare.
    fn framing(&mut self, link: &link::Config, path: &str) {
        let Some(framing) = &link.framing else { return };
        let at = format!("{path}.framing");
        if link.protocol != Protocol::Lines {
            if !self.scene.places.is_spoilt(path) {
                self.say(
                    &at,
                    "`framing` belongs to a link that speaks lines",
                    "write protocol = \"lines\", or remove it",
                );
            }
        } else if let Err(message) = framing.check() {
            self.say(&at, message, "`afferent config sample` shows every key");
        }
    }

    /// The instruments behind a link.
    fn instruments(&mut self, link: &link::Config, path: &str) {
        for (index, instrument) in link.instrument.iter().enumerate() {
            let here = format!("{path}[{index}]");
            let at = |key: &str| format!("{here}.{key}");
            self.name(&instrument.name, &here);
            let example = "write what its header says, such as `where = [{ field = \"H.5.2\", is = [\"394412\"] }]`";
            if instrument.conditions.is_empty() {
                self.say(&at("where"), "nothing tells this instrument from the others", example);
            }
            for says in &instrument.conditions {
                if let Err(why) = says.condition() {
                    self.say(&at("where"), why, example);
                }
            }
            self.time_zone(instrument.time_zone.as_deref(), &at("time_zone"));
            self.driver(instrument.driver.as_deref(), link.protocol, &at("driver"));
        }
        self.unique_names(path, link.instrument.iter().map(|i| i.name.as_str()));
    }

    fn driver(&mut self, id: Option<&str>, protocol: Protocol, path: &str) {
        let Some(id) = id else { return };
        let registry = self.scene.registry;
        let Some(driver) = registry.get(id) else {
            if self.scene.drivers_complete {
                let known: Vec<String> = registry.iter().map(|d| d.id.clone()).collect();
                let fault = Fault::setting(self.value(path), format!("unknown driver `{id}`"));
                self.faults.push(fault.suggest(id, known.iter().map(String::as_str)));
            }
            return;
        };
        if driver.protocol() != protocol {
            let (reads, speaks) = (driver.protocol().name(), protocol.name());
            let message = format!("driver `{id}` reads {reads}, and this link speaks {speaks}");
            self.say(path, message, "change `protocol`, or leave `driver` out: each message's header then decides");
        }
    }

    fn timers(&mut self, timers: &link::config::Timers, path: &str) {
        for (key, value) in [
            ("frame_timeout_ms", timers.frame_timeout_ms),
            ("reply_timeout_ms", timers.reply_timeout_ms),
            ("message_timeout_ms", timers.message_timeout_ms),
            ("reconnect_min_ms", Some(timers.reconnect_min_ms)),
            ("reconnect_max_ms", Some(timers.reconnect_max_ms)),
        ] {
            let Some(value) = value else { continue };
            if !(1..=TIMER_MAX_MS).contains(&value) {
                let message = format!("`{key}` must be from 1 to {TIMER_MAX_MS} ms");
                self.say(&format!("{path}.{key}"), message, "leave it out for the default");
            }
        }
        if timers.reconnect_max_ms < timers.reconnect_min_ms {
            let message = format!("`reconnect_max_ms` is less than `reconnect_min_ms` ({})", timers.reconnect_min_ms);
            self.say(&format!("{path}.reconnect_max_ms"), message, "the pause grows from the one to the other");
        }
    }

    fn link_tls(&mut self, link: &link::Config, path: &str) {
        let Some(tls) = &link.tls else { return };
        let at = |key: &str| format!("{path}.{key}");
        if link.serial.is_some() {
            self.say(path, "a serial link has no TLS", "remove [link.tls]");
            return;
        }
        if link.directory.is_some() {
            return;
        }
        let (listening, wrong_side): (bool, &[(&str, bool)]) = match link.listen {
            Some(_) => (true, &[("ca", tls.ca.is_some()), ("server_name", tls.server_name.is_some())]),
            None => (false, &[("client_ca", tls.client_ca.is_some())]),
        };
        for (key, given) in wrong_side {
            if *given {
                let (belongs, hint) = if listening {
                    ("belongs to a link that dials", "a listener checks its peers against `client_ca`")
                } else {
                    ("belongs to a link that listens", "a dialler checks its peer against `ca`")
                };
                self.say(&at(key), format!("`{key}` {belongs}"), hint);
            }
        }
        let before = self.faults.len();
        for (key, file) in [("cert", &tls.cert), ("key", &tls.key), ("client_ca", &tls.client_ca), ("ca", &tls.ca)] {
            self.file(file.as_deref(), &at(key));
        }
        if self.scene.places.is_spoilt(path) || self.faults.len() > before {
            return;
        }
        let built = match (&tls.cert, &tls.key, listening) {
            (Some(cert), Some(key), true) => {
                let server = tls::ServerTls { cert: cert.clone(), key: key.clone(), client_ca: tls.client_ca.clone() };
                tls::server(&server).map(drop)
            }
            (_, _, true) => {
                self.say(path, "a listener with TLS needs `cert` and `key`", "both are PEM files");
                return;
            }
            (cert, key, false) => tls::client(&tls::ClientTls {
                ca: tls.ca.clone(),
                server_name: tls.server_name.clone(),
                cert: cert.clone(),
                key: key.clone(),
                ..tls::ClientTls::default()
            })
            .map(drop),
        };
        self.tls_works(built, path);
    }

    fn destination(&mut self, destination: &delivery::Config, path: &str) {
        let spoilt = self.scene.places.is_spoilt(path);
        if !destination.name.is_empty() || !spoilt {
            self.name(&destination.name, path);
        }
        self.server(destination.problems(), destination.tls.as_ref(), destination.oauth.as_ref(), path);
    }

    /// What is wrong with the settings of a peer that is dialled, and with the files they name.
    fn server(
        &mut self,
        problems: Vec<delivery::config::Problem>,
        tls: Option<&tls::ClientTls>,
        oauth: Option<&delivery::config::OAuth>,
        path: &str,
    ) {
        let spoilt = self.scene.places.is_spoilt(path);
        for problem in problems {
            let here = format!("{path}.{}", problem.key);
            // What seems to be missing may only be misspelt, and an empty name has been told.
            if problem.key == "name" || (spoilt && !self.scene.places.has(&here)) {
                continue;
            }
            match problem.text.split_once("; ") {
                Some((message, hint)) => self.say(&here, format!("`{}`: {message}", problem.key), hint),
                None => {
                    self.faults.push(Fault::setting(self.value(&here), format!("`{}`: {}", problem.key, problem.text)))
                }
            }
        }
        if let Some(tls) = tls {
            let before = self.faults.len();
            let password = ("proxy_password_file", &tls.proxy_password_file);
            for (key, file) in [("ca", &tls.ca), ("cert", &tls.cert), ("key", &tls.key), password] {
                self.file(file.as_deref(), &format!("{path}.tls.{key}"));
            }
            if self.faults.len() == before && tls.cert.is_some() == tls.key.is_some() {
                self.tls_works(tls::client(tls).map(drop), &format!("{path}.tls"));
            }
        }
        if let Some(oauth) = oauth {
            self.signing_key(oauth, &format!("{path}.oauth.key_file"));
        }
    }

    fn signing_key(&mut self, oauth: &delivery::config::OAuth, path: &str) {
        let before = self.faults.len();
        self.file(Some(&oauth.key_file), path);
        if self.faults.len() == before
            && let Err(error) = SigningKey::load(oauth)
        {
            let told = error.to_string();
            let (message, hint) = told.split_once("; ").unwrap_or((&told, "it must be a PKCS#8 key in a PEM file"));
            self.faults.push(Fault::unusable(self.value(path), message).hint(hint));
        }
    }

    /// A name in `links` that is no link's: the results meant to go here would go nowhere.
    fn destination_links(&mut self, destination: &delivery::Config, config: &Config, path: &str) {
        // The name of a link that did not fit may be the one.
        let spoilt = |index: usize| self.scene.places.is_spoilt(&format!("link[{index}]"));
        let links = || config.links.iter().enumerate();
        let names = link_names(config);
        if names.is_empty() || links().any(|(index, link)| link.name.is_empty() && spoilt(index)) {
            return;
        }
        for (index, named) in destination.links.iter().enumerate() {
            if !names.contains(&named.as_str()) {
                let place = self.value(&format!("{path}.links[{index}]"));
                let fault = Fault::setting(place, format!("`links` names `{named}`, and there is no such link"));
                self.faults.push(fault.suggest(named, names.iter().copied()));
            }
        }
    }

    /// A connection of the EHR. Its name is a link's for counters and commands, so no link may have it.
    fn orders_in(&mut self, orders: &orders::Config, links: &[link::Config], path: &str) {
        self.name(&orders.name, path);
        let at = |key: &str| format!("{path}.{key}");
        if !orders.name.is_empty() && links.iter().any(|link| link.name == orders.name) {
            let message = format!("the name `{}` is taken by a link", orders.name);
            self.say(&at("name"), message, "counters and commands speak of both by name");
        }
        if !orders.listen.parse::<SocketAddr>().is_ok_and(|a| a.port() != 0) && !self.scene.places.is_spoilt(path) {
            let hint = "write an address of this box and a port, such as \"0.0.0.0:4100\" for every network card";
            match orders.listen.is_empty() {
                true => self.say(path, "this table does not say where the EHR reaches the box", hint),
                false => self.say(&at("listen"), format!("`{}` is no address to listen on", orders.listen), hint),
            }
        }
        if orders.connections_max == 0 {
            self.say(&at("connections_max"), "`connections_max` must be at least 1", "leave it out for the default");
        }
        if let Some(place) = &orders.specimen_field
            && orders::read::Place::parse(place).is_none()
        {
            let message = format!("`{place}` is no field of ORC or OBR");
            self.say(&at("specimen_field"), message, "write segment, field and component, such as \"OBR-3.1\"");
        }
        self.charset(orders.charset.as_deref(), &at("charset"));
        self.time_zone(orders.time_zone.as_deref(), &at("time_zone"));
        for (index, named) in orders.links.iter().enumerate() {
            if links.iter().all(|link| link.name != *named) {
                let place = self.value(&format!("{path}.links[{index}]"));
                let fault = Fault::setting(place, format!("`links` names `{named}`, and there is no such link"));
                self.faults.push(fault.suggest(named, links.iter().map(|link| link.name.as_str())));
            }
        }
        self.link_tls(&orders.line(), &at("tls"));
    }

    fn charset(&mut self, charset: Option<&str>, path: &str) {
        if let Some(charset) = charset
            && Charset::named(charset).is_none()
        {
            let known = ["utf-8", "latin-1", "windows-1252", "ascii", "gb18030", "shift_jis", "euc-kr", "big5"];
            let fault = Fault::setting(self.value(path), format!("unknown character set `{charset}`"));
            self.faults.push(fault.suggest(charset, known));
        }
    }

    /// No two links on one port, where the second would never hear anything, unless who dials tells whose it is.
    fn clashes(&mut self, lines: &[(String, link::Config)]) {
        for (later, (path, line)) in lines.iter().enumerate() {
            for (taken, other) in lines.iter().take(later) {
                let (Some(a), Some(b)) = (address(line), address(other)) else { continue };
                let apart = a.ip() != b.ip() && !a.ip().is_unspecified() && !b.ip().is_unspecified();
                if a.port() != b.port() || apart {
                    continue;
                }
                // The EHR's lines name no peers, and share no port.
                let shared = line.listen == other.listen && !(line.peers.is_empty() && other.peers.is_empty());
                if !shared || [path, taken].iter().any(|path| !path.starts_with("link[")) {
                    let message = format!("port {} is taken by {taken} `{}`", a.port(), other.name);
                    let hint = "give each listening link a port of its own, or the same `listen` and its own `peers`";
                    self.say(&format!("{path}.listen"), message, hint);
                } else if line.tls != other.tls {
                    let message = format!("{taken} `{}` has the same port and another [link.tls]", other.name);
                    self.say(&format!("{path}.tls"), message, "a port has one certificate: write the same in both");
                } else if let Some(both) = line.peers.iter().find(|peers| {
                    let parse = |text: &String| text.parse::<link::peers::Peers>().ok();
                    parse(peers).is_some_and(|own| other.peers.iter().filter_map(parse).any(|theirs| theirs == own))
                }) {
                    let message = format!("`{both}` is among the `peers` of {taken} `{}`", other.name);
                    self.say(&format!("{path}.peers"), message, "an address dials for one link");
                }
            }
        }
    }

    /// The rules of this file and, behind them, those of the file it names, which have been checked by themselves.
    fn rules(&mut self, config: &Config) {
        let own = (0..config.rules.len()).take_while(|index| self.scene.places.has(&format!("rule[{index}]"))).count();
        self.faults.extend(check_rules(config.rules.get(..own).unwrap_or_default(), self.scene.places));
        for (index, rule) in config.rules.iter().enumerate() {
            let places = self.scene.places;
            let place = |key: &str| match index < own {
                true => places.value(&format!("rule[{index}].{key}")),
                false => places.value("gateway.rules"),
            };
            if index >= own && config.rules.iter().take(own).any(|earlier| earlier.name == rule.name) {
                let message = format!("the name `{}` is taken by a rule of this file", rule.name);
                self.faults.push(Fault::setting(place("name"), message).hint("decisions are recorded under names"));
            }
            let names = link_names(config);
            for named in rule.links.iter().filter(|named| !names.contains(&named.as_str())) {
                let message = format!("rule `{}` is for the link `{named}`, and there is no such link", rule.name);
                let fault = Fault::setting(place("links"), message);
                self.faults.push(fault.suggest(named, names.iter().copied()));
            }
            let kept_days = config.journal.retention_days;
            if rule.within_days.is_some_and(|days| days > kept_days) {
                let message = format!(
                    "rule `{}` looks further back than the journal keeps anything ({kept_days} days)",
                    rule.name
                );
                let fault = Fault::setting(place("within_days"), message);
                self.faults.push(fault.hint("raise `retention_days` in [journal], or look back less far"));
            }
        }
    }

    fn unique_names<'n>(&mut self, table: &str, names: impl Iterator<Item = &'n str>) {
        self.unique(table, "name", names, "results wait and are counted under names");
    }

    fn unique<'n>(&mut self, table: &str, key: &str, names: impl Iterator<Item = &'n str>, why: &str) {
        let mut seen = HashMap::new();
        for (index, name) in names.enumerate().filter(|(_, name)| !name.is_empty()) {
            if let Some(first) = seen.insert(name, index) {
                let message = format!("the {key} `{name}` is taken by {table}[{first}]");
                self.say(&format!("{table}[{index}].{key}"), message, why);
                seen.insert(name, first);
            }
        }
    }

    fn name(&mut self, name: &str, path: &str) {
        if name.is_empty() && !self.scene.places.has(&format!("{path}.name")) {
            if !self.scene.places.is_spoilt(path) {
                self.say(path, "this table has no `name`", "logs, counters and commands speak of it by name");
            }
        } else if !name_is_usable(name) {
            self.bad_name(&format!("{path}.name"));
        }
    }

    fn bad_name(&mut self, path: &str) {
        let hint = format!("use up to {NAME_MAX_CHARS} letters, digits, `-`, `_` and `.`");
        self.say(path, "this name cannot be used in messages, logs and commands", hint);
    }

    fn time_zone(&mut self, zone: Option<&str>, path: &str) {
        let Some(zone) = zone else { return };
        if TimeZone::get(zone).is_err() {
            let known: Vec<String> = jiff::tz::db().available().map(|z| z.as_str().to_owned()).collect();
            let hint = match nearest(zone, known.iter().map(String::as_str)) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => "use a name of the IANA database, such as \"Europe/Berlin\"".to_owned(),
            };
            self.say(path, format!("unknown time zone `{zone}`"), hint);
        }
    }

    /// A file that has to be there and readable by whoever runs this.
    fn file(&mut self, file: Option<&Path>, path: &str) {
        self.file_or(file, path, "give its path, and let the service's user read it");
    }

    fn file_or(&mut self, file: Option<&Path>, path: &str, hint: &str) {
        let Some(file) = file else { return };
        if let Err(error) = credential::open(file) {
            let fault = Fault::environment(self.value(path), format!("cannot read {}: {error}", file.display()));
            self.faults.push(fault.hint(hint));
        }
    }

    fn tls_works(&mut self, built: Result<(), TlsError>, path: &str) {
        if let Err(error) = built {
            let told = error.to_string();
            let (message, hint) = told.split_once("; ").unwrap_or((&told, "see the README of the EHR's TLS set-up"));
            let here = self.scene.places.header(path);
            let fault = match error {
                TlsError::HalfPair => Fault::setting(here, message),
                TlsError::Unreadable { .. } | TlsError::NoSystemBundle => Fault::environment(here, message),
                _ => Fault::unusable(here, message),
            };
            self.faults.push(fault.hint(hint));
        }
    }

    fn say(&mut self, path: &str, message: impl Into<String>, hint: impl Into<String>) {
        self.faults.push(Fault::setting(self.value(path), message).hint(hint));
    }

    fn value(&self, path: &str) -> Range<usize> {
        self.scene.places.value(path)
    }
}

/// Every name under which results come in.
fn link_names(config: &Config) -> Vec<&str> {
    let images = config.dicom.iter().map(|_| link::dicom::LINK);
    let modalities = config.modalities.iter().map(|modality| modality.name.as_str());
    config.links.iter().map(|link| link.name.as_str()).chain(modalities).chain(images).collect()
}

/// Where a link listens.
fn address(link: &link::Config) -> Option<SocketAddr> {
    link.listen.as_deref()?.parse().ok()
}

fn is_host_and_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let host_is_sound =
        text.parse::<SocketAddr>().is_ok() || (!host.is_empty() && !host.contains([':', '/', ' ', '@']));
    host_is_sound && port.parse::<u16>().is_ok_and(|p| p != 0)
}
