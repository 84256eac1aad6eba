//! mosquitto with the configuration and the rules that are shipped; only ports and paths are filled in.

pub use crate::patience::{PATIENCE, until};
use crate::ports::free_port;
use afferent::tls::ClientTls;
use afferent::tls::throwaway::Authority;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const CONFIGURATION: &str = include_str!("../../src/desk/mosquitto.conf");
const RULES: &str = include_str!("../../src/desk/acl");

pub struct Broker {
    pub port: u16,
    dir: tempfile::TempDir,
    authority: Authority,
    program: PathBuf,
    running: Option<Child>,
    clock: Vec<(String, String)>,
}

impl Broker {
    /// `None`, with a word, on a machine without mosquitto.
    pub fn start() -> Option<Broker> {
        let places = ["/usr/sbin/mosquitto", "/usr/bin/mosquitto", "/usr/local/sbin/mosquitto"];
        let Some(program) = places.iter().map(PathBuf::from).find(|path| path.exists()) else {
            println!("left out: the fleet on a broker (no mosquitto here)");
            return None;
        };
        let dir = tempfile::Builder::new().prefix("afferent-fleet-").tempdir().unwrap();
        // mosquitto started by root becomes another user.
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let authority = Authority::new().unwrap();
        let port = free_port();
        let mut broker = Broker { port, dir, authority, program, running: None, clock: Vec::new() };
        broker.authority.server(&["localhost", "127.0.0.1"]).unwrap().write(broker.path(), "broker").unwrap();
        std::fs::write(broker.path().join("ca.pem"), broker.authority.ca_pem()).unwrap();
        // Two tenants, so that a box may say that it is of either.
        let of_boxes = RULES.lines().filter(|line| line.starts_with("pattern"));
        let other: Vec<String> = of_boxes.map(|line| line.replace("/acme/", "/globex/")).collect();
        std::fs::write(broker.path().join("acl"), format!("{RULES}\n{}\n", other.join("\n"))).unwrap();
        std::fs::create_dir(broker.path().join("db")).unwrap();
        let here = broker.path().to_str().unwrap();
        let mut text = CONFIGURATION
            .replace("listener 8883", &format!("listener {port} 127.0.0.1"))
            .replace("/etc/mosquitto/fleet", here)
            .replace("/var/lib/mosquitto", &format!("{here}/db"));
        if is_root() {
            text.push_str("user root\n");
        }
        std::fs::write(broker.path().join("mosquitto.conf"), text).unwrap();
        broker.restart();
        Some(broker)
    }

    /// A certificate for this common name, as settings of a client.
    pub fn client(&self, name: &str) -> ClientTls {
        self.client_in(self.path(), name)
    }

    /// The same, in files of another folder.
    pub fn client_in(&self, folder: &Path, name: &str) -> ClientTls {
        let (cert, key) = self.authority.client(name).unwrap().write(folder, name).unwrap();
        ClientTls { ca: Some(self.path().join("ca.pem")), cert: Some(cert), key: Some(key), ..ClientTls::default() }
    }

    /// Starts it, again after it ended.
    pub fn restart(&mut self) {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.path().join("log")).unwrap();
        let child = Command::new(&self.program)
            .arg("-c")
            .arg(self.path().join("mosquitto.conf"))
            .envs(self.clock.iter().map(|(name, value)| (name, value)))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.running = Some(child);
        until("the broker listens", || TcpStream::connect(("127.0.0.1", self.port)).is_ok());
    }

    /// From now on it lets in whom this authority signed for as well. Whom it is signed by, and that authority, are whom
    /// its clients must trust: that is written to `trust`.
    pub fn trusts(&mut self, authority: &Path, trust: &Path) {
        let both = [self.authority.ca_pem().as_bytes(), &std::fs::read(authority).unwrap()].concat();
        std::fs::write(self.path().join("ca.pem"), &both).unwrap();
        std::fs::write(trust, both).unwrap();
        self.kill();
        self.restart();
    }

    /// From now on its wall clock is another; these are the variables that make it so.
    pub fn days_later(&mut self, clock: &[(String, String)]) {
        self.clock = clock.to_vec();
        self.kill();
        self.restart();
    }

    /// Has it read its rules again.
    pub fn reads_its_rules_again(&mut self) {
        let id = self.running.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args(["-HUP", &id]).status().unwrap().success());
    }

    /// Kills it without warning.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.running.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Kills it, and what it had written down is gone.
    pub fn kill_and_forget(&mut self) {
        self.kill();
        std::fs::remove_dir_all(self.path().join("db")).unwrap();
        std::fs::create_dir(self.path().join("db")).unwrap();
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
    }
}

fn is_root() -> bool {
    // SAFETY: the call reads a number and nothing else.
    unsafe { libc::geteuid() == 0 }
}
