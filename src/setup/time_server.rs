//! Which server the clock was set by, and whether that is the one that the site's DHCP server names.

use serde::{Deserialize, Serialize};
use std::path::Path;
use std::process::Command;

/// What systemd-networkd was told by DHCP servers, a file for each interface.
const LEASES: &str = "run/systemd/netif/leases";
/// Where distributions have chrony's settings.
const CHRONY: [&str; 2] = ["etc/chrony/chrony.conf", "etc/chrony.conf"];

/// Who the clock goes by.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeServer {
    /// The server that it was set by; none where nobody says so.
    pub server: Option<String>,
    /// Who asks it: `systemd-timesyncd` or `chrony`.
    pub by: Option<String>,
    /// Servers that DHCP names.
    pub given: Vec<String>,
    /// The folder from which chrony takes servers of the site; none where its settings name none.
    pub sources: Option<String>,
}

impl TimeServer {
    /// Asks this machine, whose `/` is at `root`.
    pub fn look(root: &Path) -> TimeServer {
        let said = |program: &str, arguments: &[&str]| {
            let output = Command::new(program).args(arguments).output().ok().filter(|output| output.status.success());
            output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
        };
        let timesyncd = of_timesyncd(&said("timedatectl", &["show-timesync"]));
        let found = timesyncd.map(|server| (server, "systemd-timesyncd"));
        let found = found.or_else(|| Some((of_chrony(&said("chronyc", &["-c", "-n", "tracking"]))?, "chrony")));
        let leases = std::fs::read_dir(root.join(LEASES)).into_iter().flatten().filter_map(Result::ok);
        let leases = leases.filter_map(|lease| std::fs::read_to_string(lease.path()).ok());
        let (server, by) = found.unzip();
        TimeServer {
            server,
            by: by.map(str::to_string),
            given: leases.flat_map(|lease| of_lease(&lease)).collect(),
            sources: sources(root),
        }
    }

    /// In words; empty where nothing is known.
    pub fn words(&self) -> String {
        let is_given = |server: &String| self.given.iter().any(|given| server.contains(given.as_str()));
        match (&self.server, &self.by) {
            (Some(server), Some(by)) if is_given(server) => format!("set by {server}, which DHCP names ({by})"),
            (Some(server), Some(by)) => format!("set by {server} ({by})"),
            _ => String::new(),
        }
    }

    /// What is to be done, where DHCP names servers and nobody asks them.
    pub fn advice(&self) -> Option<String> {
        let given = self.given.first()?;
        let is_asked =
            self.server.as_ref().is_some_and(|server| self.given.iter().any(|given| server.contains(given.as_str())));
        match self.by.as_deref() {
            _ if is_asked => None,
            Some("chrony") => {
                let what = format!("chrony does not ask {given}, the time server that DHCP names: write");
                Some(match &self.sources {
                    Some(folder) => {
                        format!(
                            "{what} `server {given} iburst` to {folder}/site.sources, then `chronyc reload sources`"
                        )
                    }
                    None => format!("{what} `server {given} iburst` to its chrony.conf, then restart it"),
                })
            }
            _ => Some(format!(
                "the time server that DHCP names, {given}, has not set the clock: may it be reached (UDP 123)?"
            )),
        }
    }
}

/// `ServerName=` and `ServerAddress=`, as timedatectl shows them, once that server has answered: they stand there as soon as
/// it is asked.
fn of_timesyncd(said: &str) -> Option<String> {
    said.lines().find(|line| line.starts_with("NTPMessage={"))?;
    let value = |key: &str| said.lines().find_map(|line| line.strip_prefix(key)).filter(|value| !value.is_empty());
    let (name, address) = (value("ServerName="), value("ServerAddress="));
    match (name, address) {
        (Some(name), Some(address)) if name != address => Some(format!("{name} [{address}]")),
        (name, address) => address.or(name).map(str::to_string),
    }
}

/// The reference of chrony's tracking, as numbers between commas: its name or address is the second.
fn of_chrony(said: &str) -> Option<String> {
    let server = said.lines().next()?.split(',').nth(1)?.trim();
    // Its own clock, or none yet.
    (!server.is_empty() && !server.starts_with("127.127.")).then(|| server.to_string())
}

/// The first `sourcedir` of chrony.conf (chrony.conf(5)) that outlives a restart of the machine: what DHCP clients write is
/// below /run.
fn sources(root: &Path) -> Option<String> {
    let text = CHRONY.iter().find_map(|file| std::fs::read_to_string(root.join(file)).ok())?;
    let folders = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        words.next().filter(|word| word.eq_ignore_ascii_case("sourcedir")).and_then(|_| words.next())
    });
    folders.map(|folder| folder.trim_end_matches('/')).find(|folder| !folder.starts_with("/run/")).map(str::to_string)
}

/// `NTP=` of a lease.
fn of_lease(lease: &str) -> Vec<String> {
    let servers = lease.lines().find_map(|line| line.strip_prefix("NTP=")).unwrap_or_default();
    servers.split_whitespace().map(str::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_that_set_the_clock_is_named_and_who_named_it() {
        assert_eq!(of_timesyncd("ServerName=\nServerAddress=\n"), None);
        let asked = "LinkNTPServers=10.0.0.5\nServerName=10.0.0.5\nServerAddress=10.0.0.5\nFrequency=0\n";
        assert_eq!(of_timesyncd(asked), None, "it is asked, and has not answered");
        let answered = "NTPMessage={ Leap=0, Version=4, Mode=4, Stratum=1, Ignored=no, PacketCount=1, Jitter=0 }\n";
        assert_eq!(of_timesyncd(&format!("{asked}{answered}")).as_deref(), Some("10.0.0.5"));
        let named = of_timesyncd(&format!("ServerName=ntp.example\nServerAddress=10.0.0.5\n{answered}"));
        assert_eq!(named.as_deref(), Some("ntp.example [10.0.0.5]"));
        let tracking = "C0000205,192.0.2.5,3,1764296000.1,0.00001,0.0,0.0,1.0,0.0,0.1,0.01,0.001,64.0,Normal\n";
        assert_eq!(of_chrony(tracking).as_deref(), Some("192.0.2.5"));
        assert_eq!((of_chrony(""), of_chrony("7F7F0101,127.127.1.1,10")), (None, None));
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join(LEASES)).unwrap();
        std::fs::write(dir.path().join(LEASES).join("2"), "ADDRESS=10.0.0.7\nNTP=10.0.0.5 10.0.0.6\n").unwrap();
        assert_eq!(TimeServer::look(dir.path()).given, ["10.0.0.5", "10.0.0.6"]);
        let by = |server: Option<&str>, by: &str| TimeServer {
            server: server.map(str::to_string),
            by: Some(by.to_string()),
            given: vec!["10.0.0.5".to_string()],
            sources: None,
        };
        let right = by(Some("10.0.0.5"), "systemd-timesyncd");
        assert_eq!(
            (right.words().as_str(), right.advice()),
            ("set by 10.0.0.5, which DHCP names (systemd-timesyncd)", None)
        );
        let other = by(Some("192.0.2.5"), "chrony");
        assert!(
            other.advice().unwrap().contains("server 10.0.0.5 iburst` to its chrony.conf"),
            "nobody looks elsewhere"
        );
        assert!(!other.words().contains("DHCP"));
        std::fs::create_dir_all(dir.path().join("etc/chrony")).unwrap();
        // As Debian has it.
        let text = "# a\nconfdir /etc/chrony/conf.d\nsourcedir /run/chrony-dhcp\nsourcedir /etc/chrony/sources.d\n";
        std::fs::write(dir.path().join(CHRONY[0]), text).unwrap();
        let found = TimeServer { sources: TimeServer::look(dir.path()).sources, ..other };
        assert!(found.advice().unwrap().contains("iburst` to /etc/chrony/sources.d/site.sources, then"));
        assert!(by(None, "").advice().unwrap().contains("has not set the clock"));
        assert_eq!(TimeServer::default().advice(), None);
    }
}
