//! `[fleet]`: what the settings mean, and the files they name.

use super::{Checks, NAME_MAX_CHARS, is_host_and_port, name_is_usable};
use crate::config::{Config, Fault};
use crate::fleet::config::{CONFIG_SIGNATURES, CONFIRM_S, METRICS_S};
use crate::fleet::envelope::Purpose;
use crate::fleet::identity::est::Enrol;
use crate::link::dicom::LINK;
use crate::tls;
use crate::watch::LOOK_S;

impl Checks<'_> {
    pub(super) fn fleet(&mut self, config: &Config) {
        let Some(fleet) = &config.fleet else { return };
        let spoilt = self.scene.places.is_spoilt("fleet");
        let hint = "write host and port, such as \"broker.example:8883\"";
        if fleet.broker.is_empty() && !spoilt {
            self.say("fleet", "this table does not say where the `broker` is", hint);
        } else if !fleet.broker.is_empty() && !is_host_and_port(&fleet.broker) {
            self.say("fleet.broker", format!("`{}` is no address to dial", fleet.broker), hint);
        }
        let hint = format!("use up to {NAME_MAX_CHARS} letters, digits, `-`, `_` and `.`: it stands in topics");
        if fleet.tenant.is_empty() && !spoilt {
            self.say("fleet", "this table has no `tenant`", "it is the fleet's owner, and stands in topics");
        } else if !fleet.tenant.is_empty() && !name_is_usable(&fleet.tenant) {
            self.say("fleet.tenant", "this tenant cannot stand in topics", &hint);
        }
        if fleet.name.as_ref().is_some_and(|name| !name_is_usable(name)) {
            self.say("fleet.name", "this name cannot stand in topics", &hint);
        }
        if !CONFIRM_S.contains(&fleet.confirm_s) {
            let message = format!("`confirm_s` must be from {} to {}", CONFIRM_S.start(), CONFIRM_S.end());
            self.say("fleet.confirm_s", message, "leave it out for the default");
        }
        if !CONFIG_SIGNATURES.contains(&fleet.config_signatures) {
            let (least, most) = (CONFIG_SIGNATURES.start(), CONFIG_SIGNATURES.end());
            let message = format!("`config_signatures` must be from {least} to {most}");
            self.say("fleet.config_signatures", message, "leave it out for the default");
        }
        let signers = fleet.operators.iter().filter(|operator| operator.may.contains(&Purpose::Config)).count();
        if signers > 0 && signers < fleet.config_signatures && !self.scene.places.is_spoilt("fleet.operator") {
            let hint = "add an operator who may, or take it out";
            self.say("fleet.config_signatures", format!("{signers} operators may sign a configuration"), hint);
        }
        if !METRICS_S.contains(&fleet.metrics_s) {
            let message = format!("`metrics_s` must be from {} to {}", METRICS_S.start(), METRICS_S.end());
            self.say("fleet.metrics_s", message, "leave it out for the default");
        }
        if fleet.stick.as_ref().is_some_and(|folder| !folder.is_absolute()) {
            self.say("fleet.stick", "a stick is mounted at an absolute path", "write one such as \"/media/afferent\"");
        }
        self.operators(fleet);
        self.bus_tls(fleet);
        self.sparkplug(fleet);
    }

    /// One who cannot sign would be obeyed by nobody, and nobody would know.
    fn operators(&mut self, fleet: &crate::fleet::Config) {
        for (index, operator) in fleet.operators.iter().enumerate() {
            let path = format!("fleet.operator[{index}]");
            if !operator.kid.is_empty() && !name_is_usable(&operator.kid) {
                self.say(&format!("{path}.kid"), "this name cannot stand in commands", "use letters, digits and `-`");
            }
            if operator.public_key().is_none() && !(operator.key.is_empty() && self.scene.places.is_spoilt(&path)) {
                let hint = "it is 32 bytes in base64, as `afferent desk key` prints it";
                self.say(&format!("{path}.key"), "this is no Ed25519 public key", hint);
            }
        }
        let kids = fleet.operators.iter().map(|operator| operator.kid.as_str());
        self.unique("fleet.operator", "kid", kids, "a signature is looked up by it");
        let keys = fleet.operators.iter().map(|operator| operator.key.trim());
        self.unique("fleet.operator", "key", keys, "two signatures are those of two operators");
    }

    /// Limits of links that there are, and a look that is neither idle nor busy.
    pub(super) fn watch(&mut self, config: &Config) {
        if !LOOK_S.contains(&config.watch.look_s) {
            let message = format!("`look_s` must be from {} to {}", LOOK_S.start(), LOOK_S.end());
            self.say("watch.look_s", message, "leave it out for the default");
        }
        if let Some(syslog) = config.watch.syslog.as_ref().filter(|_| !self.scene.places.is_spoilt("watch.syslog")) {
            if syslog.way().is_none() {
                let hint = "write udp://, tcp:// or tls:// with host and port, or unix:///dev/log";
                self.say("watch.syslog", format!("`{}` is no way to a log server", syslog.to), hint);
            }
            if syslog.facility().is_none() {
                let hint = "it can be daemon, and local0 to local7";
                self.say("watch.syslog.facility", format!("there is no facility `{}`", syslog.facility), hint);
            }
            self.server(Vec::new(), syslog.tls.as_ref(), None, "watch.syslog");
        }
        let modalities = config.modalities.iter().map(|modality| modality.name.as_str());
        let orders = config.orders.iter().map(|orders| orders.name.as_str());
        let feeds = config.order_feeds.iter().map(|feed| feed.name.as_str());
        let links = config.links.iter().map(|link| link.name.as_str());
        let names: Vec<&str> = links.chain(modalities).chain(orders).chain(feeds).chain([LINK]).collect();
        for (index, limits) in config.watch.links.iter().enumerate() {
            let here = format!("watch.link[{index}].name");
            if !names.contains(&limits.name.as_str()) && !self.scene.places.is_spoilt("link") {
                self.say(
                    &here,
                    format!("there is no link `{}`", limits.name),
                    format!("it can be {}", names.join(", ")),
                );
            }
        }
    }

    /// A broker knows an edge node by its certificate, and ends one connection when another comes under the same name.
    fn sparkplug(&mut self, fleet: &crate::fleet::Config) {
        let Some(view) = &fleet.sparkplug else { return };
        if self.scene.places.is_spoilt("fleet.sparkplug") {
            return;
        }
        let hint = "names have letters, digits, - _ and . only";
        if !name_is_usable(&view.group) {
            self.say("fleet.sparkplug", format!("`{}` is no `group` that can stand in topics", view.group), hint);
        }
        if view.node.as_ref().is_some_and(|name| !name_is_usable(name)) {
            self.say("fleet.sparkplug.node", "this name cannot stand in topics", hint);
        }
        if view.primary_host.as_ref().is_some_and(|host| !name_is_usable(host)) {
            let hint = "the host's id: letters, digits, `-`, `_` and `.`";
            self.say("fleet.sparkplug.primary_host", "this id cannot stand in topics", hint);
        }
        if let Some(broker) = view.broker.as_ref().filter(|broker| !is_host_and_port(broker)) {
            let hint = "write the host, a colon and the port";
            self.say("fleet.sparkplug.broker", format!("`{broker}` is no address to dial"), hint);
        }
        let tls = &view.tls;
        if tls.cert.is_none() || tls.key.is_none() {
            let hint = "give `cert` and `key` in [fleet.sparkplug.tls], of another name than [fleet.tls] has";
            return self.say("fleet.sparkplug", "the edge node has no certificate to show the broker", hint);
        }
        if tls.cert == fleet.tls.cert && view.broker.is_none() {
            let hint = "have another made: the broker would end one connection for the other, again and again";
            self.say("fleet.sparkplug.tls.cert", "the box shows this certificate as well", hint);
        }
        self.server(Vec::new(), Some(tls), None, "fleet.sparkplug");
    }

    /// A box that asks for its certificate trusts somebody before, and is given none.
    fn enrol(&mut self, enrol: &Enrol, tls: &tls::ClientTls) {
        if enrol.base().is_none() && !(enrol.url.is_empty() && self.scene.places.is_spoilt("fleet.enrol")) {
            let hint = "it is such as \"https://desk.example:8443\"";
            self.say("fleet.enrol", format!("`{}` is no https address to enrol at", enrol.url), hint);
        }
        if enrol.user.is_some() != enrol.password_file.is_some() {
            self.say("fleet.enrol", "`user` and `password_file` belong together", "a desk needs neither");
        }
        self.file(enrol.password_file.as_deref(), "fleet.enrol.password_file");
        match (&tls.ca, tls.cert.is_some() || tls.key.is_some()) {
            (_, true) => {
                let hint = "leave `cert` and `key` out of [fleet.tls], or [fleet.enrol]";
                self.say("fleet.tls", "the box asks for its certificate, and is given one as well", hint);
            }
            (None, false) if !self.scene.places.is_spoilt("fleet.tls") => {
                let hint = "give `ca` in [fleet.tls]: a desk's is its ca/root.pem";
                self.say("fleet", "a box that enrols must know whom to trust", hint);
            }
            _ => self.server(Vec::new(), Some(tls), None, "fleet"),
        }
    }

    /// The broker knows a box by its certificate, so there is no going without.
    fn bus_tls(&mut self, fleet: &crate::fleet::Config) {
        let tls = &fleet.tls;
        if let Some(enrol) = &fleet.enrol {
            return self.enrol(enrol, tls);
        }
        if tls.cert.is_none() && tls.key.is_none() {
            if !self.scene.places.is_spoilt("fleet") && !self.scene.places.is_spoilt("fleet.tls") {
                let hint = "give `cert` and `key` in [fleet.tls], or the desk's address in [fleet.enrol]";
                self.say("fleet", "the box has no certificate to show the broker", hint);
            }
            return;
        }
        let before = self.faults.len();
        self.server(Vec::new(), Some(tls), None, "fleet");
        let Some(cert) = tls.cert.as_deref().filter(|_| self.faults.len() == before) else { return };
        let place = self.value("fleet.tls.cert");
        let shown = cert.display();
        let fault = match (tls::common_name(cert), &fleet.name) {
            (Ok(Some(found)), Some(name)) if found != *name && name_is_usable(name) => {
                let message = format!("the certificate in {shown} is `{found}`'s, and `name` is `{name}`");
                Fault::unusable(place, message).hint("leave `name` out, or have a certificate made for this name")
            }
            (Ok(Some(found)), None) if !name_is_usable(&found) => {
                let message = format!("the certificate in {shown} is `{found}`'s, which cannot stand in topics");
                Fault::unusable(place, message).hint("have one made whose common name is the box's name")
            }
            (Ok(None), _) => {
                let message = format!("the certificate in {shown} has no common name");
                Fault::unusable(place, message).hint("have one made whose common name is the box's name")
            }
            _ => return,
        };
        self.faults.push(fault);
    }
}
