//! What answers can be.

use super::Setup;
use super::ehr::SYSTEM;
use super::network;
use super::question::{Kind, Question};
use super::service_user;
use super::steps::{BY_HEADER, NONE};
use crate::config::check::name_is_usable;
use crate::config::diagnose::nearest;
use crate::credential;
use crate::delivery;
use crate::delivery::config::Algorithm;
use crate::fleet::config::host_and_port;
use crate::link::serial::ports;
use crate::tls::{self, ClientTls};
use jiff::tz::TimeZone;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::Path;

/// Nobody is waited for longer than this, in seconds.
const WAIT_MAX_S: u64 = 3600;

impl Setup {
    /// The answer as it is kept.
    ///
    /// # Errors
    /// In words, why it cannot be right.
    pub(super) fn checked(&self, question: &Question, answer: &str) -> Result<String, String> {
        if let Kind::Choice(choices) | Kind::Pick(choices) = &question.kind {
            // A number of the list is as good as what stands there.
            let number = answer.parse::<usize>().ok().filter(|_| question.is_numbered());
            if let Some(choice) = number.and_then(|n| choices.get(n.checked_sub(1)?)) {
                return Ok(choice.value.clone());
            }
            let known = || choices.iter().map(|choice| choice.value.as_str());
            let is_open = question.key == "link.serial";
            if !is_open && !known().any(|known| known == answer) {
                let meant = nearest(answer, known()).map(|known| format!("; is it `{known}`?")).unwrap_or_default();
                return Err(match choices.len() {
                    0..=8 => format!("answer one of: {}", known().collect::<Vec<_>>().join(", ")),
                    _ => format!("`{answer}` is none of them{meant}"),
                });
            }
        }
        if matches!(question.kind, Kind::YesNo) {
            return match answer.to_ascii_lowercase().as_str() {
                "yes" | "y" | "true" => Ok("yes".to_string()),
                "no" | "n" | "false" => Ok("no".to_string()),
                _ => Err("answer yes or no".to_string()),
            };
        }
        self.check(question.key, answer).map(|()| answer.to_string())
    }

    fn check(&self, key: &str, answer: &str) -> Result<(), String> {
        let reachable = |example: &str| match host_and_port(answer) {
            Some((host, port)) if !host.is_empty() && port > 0 && !host.contains([' ', '/']) => is_of_a_site(&host),
            _ => Err(format!("give host and port, such as {example}")),
        };
        let base = || self.base().into_iter();
        let serves = |()| service_user::can_read(&self.file, Path::new(answer));
        match key {
            "gateway.name" | "ehr.name" | "link.name" if !name_is_usable(answer) => {
                Err("a name has letters, digits, `-`, `_` and `.`, at most 64".to_string())
            }
            "ehr.name" if base().flat_map(|base| &base.destinations).any(|to| to.name == answer) => {
                Err(format!("there is a destination `{answer}` already"))
            }
            "link.name" if base().flat_map(|base| &base.links).any(|link| link.name == answer) => {
                Err(format!("there is a link `{answer}` already"))
            }
            "gateway.data" => match Path::new(answer) {
                path if !path.is_absolute() => Err("give it from the root on, such as /var/lib/afferent".to_string()),
                path if path.exists() && !path.is_dir() => Err(format!("{answer} is no directory")),
                _ => Ok(()),
            },
            "network.address" => network::addresses(answer).map(drop),
            "network.gateway" => {
                let own = network::addresses(self.said("network.address")).unwrap_or_default();
                network::gateways(answer, &own, self.said("network.interface")).map(drop)
            }
            "network.dns" => network::plain(answer, self.said("network.interface")).map(drop),
            "network.name" if answer.is_empty() || answer.contains([' ', '/', ':']) => {
                Err("give the name of a host, such as ehr.example".to_string())
            }
            "network.proxy" if answer.contains('@') => {
                Err("no password in it: name and password are asked for next, the password as a file".to_string())
            }
            "network.proxy" if answer != NONE => match answer.strip_prefix("http://").and_then(host_and_port) {
                Some((host, port)) if !host.is_empty() && port > 0 => Ok(()),
                _ => Err("give its URL with the port, such as http://proxy.example:3128".to_string()),
            },
            "network.proxy_user" if answer.is_empty() || answer.contains(':') => {
                Err("a name for a proxy is not empty and has no `:`".to_string())
            }
            "network.proxy_password" if answer == NONE => Ok(()),
            "network.proxy_password" if !is_file_or_credential(answer) => {
                Err("give the file from the root on, such as /etc/afferent/proxy-password; no password itself"
                    .to_string())
            }
            "network.proxy_password" => {
                let with = ClientTls { proxy_password_file: Some(answer.into()), ..self.over_proxy() };
                let with = ClientTls { proxy_user: Some(self.said("network.proxy_user").to_string()), ..with };
                with.proxy().map(drop).map_err(|error| error.to_string()).and_then(serves)
            }
            "time.zone" => match TimeZone::get(answer) {
                Ok(_) => Ok(()),
                Err(_) => Err(format!("there is no time zone `{answer}`; one is called like Europe/Berlin")),
            },
            "ehr.address" => reachable("ehr.example:2575"),
            "ehr.url" => is_of_a_site(bracketed(answer)).and_then(|()| fhir_server(answer)),
            "ehr.cert" | "ehr.key" | "ehr.login_key" if answer == NONE => Ok(()),
            "ehr.ca" if answer == SYSTEM => Ok(()),
            "ehr.ca" | "ehr.cert" | "ehr.key" | "ehr.login_key" | "fleet.ca" if !is_file_or_credential(answer) => Err(
                "give it from the root on, such as /etc/afferent/hospital-ca.pem, or credential:NAME of what systemd \
                     hands over"
                    .to_string(),
            ),
            "ehr.ca" | "fleet.ca" => {
                let trusting = ClientTls { ca: Some(answer.into()), ..ClientTls::default() };
                tls::client(&trusting).map(drop).map_err(|error| error.to_string()).and_then(serves)
            }
            "ehr.cert" => {
                tls::certificates(Path::new(answer)).map(drop).map_err(|error| error.to_string()).and_then(serves)
            }
            "ehr.key" => {
                let settings = self.destination().and_then(|to| to.tls).unwrap_or_default();
                let with = ClientTls { key: Some(answer.into()), ..settings };
                tls::client(&with).map(drop).map_err(|error| error.to_string()).and_then(serves)
            }
            "ehr.login_key" => match (credential::open(Path::new(answer)), Algorithm::of(Path::new(answer))) {
                (Err(error), _) => Err(format!("cannot read {answer}: {error}")),
                (Ok(_), None) => Err(format!(
                    "{answer} holds no key to log in with: P-384 or RSA, unencrypted PKCS#8 (-----BEGIN PRIVATE KEY-----)"
                )),
                (Ok(_), Some(_)) => serves(()),
            },
            "ehr.server_name" if answer != NONE => {
                let named = ClientTls { server_name: Some(answer.to_string()), ..ClientTls::default() };
                named.name_for(answer).map(drop).map_err(|error| error.to_string())
            }
            "ehr.client_id" | "ehr.kid" if answer.is_empty() => Err("it cannot be empty".to_string()),
            "ehr.patients" if answer != NONE && (!answer.contains(':') || answer.contains(' ')) => {
                Err("a system is a URI, such as urn:oid:2.16.840.1.113883.19.5 or https://hospital.example/mrn"
                    .to_string())
            }
            "link.listen" => match answer.parse::<SocketAddr>() {
                Ok(address) if address.port() > 0 => is_of_a_site(&address.ip().to_string()),
                _ => Err("give an address of this box and a port, such as 0.0.0.0:4001 or [::]:4001".to_string()),
            },
            "link.dial" => reachable("10.0.0.5:4001"),
            "link.serial" => {
                ports::resolve(Path::new("/"), Path::new(answer)).map(drop).map_err(|error| error.to_string())
            }
            "link.listen_s" | "fleet.wait_s" => match answer.parse::<u64>() {
                Ok(seconds) if seconds <= WAIT_MAX_S => Ok(()),
                _ => Err(format!("give seconds, 0 to {WAIT_MAX_S}")),
            },
            "link.driver" if answer != BY_HEADER && self.registry.get(answer).is_none() => {
                Err(format!("there is no driver `{answer}`"))
            }
            "fleet.broker" => reachable("broker.example:8883"),
            "fleet.tenant" if answer.is_empty() || answer.contains(['/', '+', '#', ' ']) => {
                Err("a tenant is a word without blanks, `/`, `+` and `#`".to_string())
            }
            "fleet.desk" if !answer.starts_with("https://") => {
                Err("give its URL, such as https://desk.example:8443".to_string())
            }
            _ => Ok(()),
        }
    }
}

/// Refuses an address that only whoever is on the same cable understands: the scope behind its `%` (RFC 4007) is the name
/// that this machine has for that cable, which certificates, URLs and other machines know nothing of.
fn is_of_a_site(host: &str) -> Result<(), String> {
    let (address, scope) = host.split_once('%').map_or((host, None), |(address, scope)| (address, Some(scope)));
    let is_link_local = address.parse::<Ipv6Addr>().is_ok_and(|address| address.is_unicast_link_local());
    match scope.is_some() || is_link_local {
        true => {
            Err(format!("{host} is good on one cable alone (link-local): give the name, or an address of the site"))
        }
        false => Ok(()),
    }
}

/// The address of IPv6 in a URL; empty where there is none.
fn bracketed(url: &str) -> &str {
    url.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map(|(address, _)| address).unwrap_or_default()
}

fn is_file_or_credential(answer: &str) -> bool {
    let named = Path::new(answer);
    named.is_absolute() || credential::name(named).is_some()
}

/// A base URL, as the configuration's own check wants it; whether it may be spoken to in the clear is asked next.
fn fhir_server(url: &str) -> Result<(), String> {
    let to = delivery::Config {
        url: Some(url.to_string()),
        plain: true,
        ..delivery::Config::new("ehr", delivery::Protocol::Fhir)
    };
    to.problems().into_iter().next().map_or(Ok(()), |problem| Err(problem.text))
}
