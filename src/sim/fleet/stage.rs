//! Everything a simulated fleet needs, in one folder: an authority that is forgotten, certificates of the broker, the
//! desks and the boxes, the shipped configuration and rules of mosquitto, `desk.toml`, a key to sign with, and the
//! inventory.

use crate::desk::registry::{Entry, Registry};
use crate::desk::{MOSQUITTO_ACL, MOSQUITTO_CONF, keys};
use crate::tls::throwaway::{Authority, Identity};
use crate::tls::{ClientTls, TlsError};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Whose fleet it is.
pub const TENANT: &str = "acme";
/// The key that all boxes obey.
pub const KEY: &str = "ops-1.key";
/// The desk's settings.
pub const DESK: &str = "desk.toml";
/// Certificates of the desk, as the shipped rules name them.
const DESKS: [&str; 4] = ["desk-acme", "desk-acme-2", "desk-acme-3", "desk-acme-events"];
/// Where Debian and others put mosquitto.
const PLACES: [&str; 3] = ["/usr/sbin/mosquitto", "/usr/bin/mosquitto", "/usr/local/sbin/mosquitto"];
/// Certificates beyond those of the simulated boxes, for real ones that join them.
pub const SPARE: usize = 2;
/// A broker that does not listen by then does not start.
const PATIENCE: Duration = Duration::from_secs(60);

/// The name of a box, by its number from 1 on.
pub fn name(number: usize) -> String {
    format!("box-{number:05}")
}

/// The certificate of a box, or of a desk.
pub fn client(folder: &Path, name: &str) -> ClientTls {
    let place = if name.starts_with("box-") { folder.join("boxes") } else { folder.to_path_buf() };
    ClientTls {
        ca: Some(folder.join("ca.pem")),
        cert: Some(place.join(format!("{name}.pem"))),
        key: Some(place.join(format!("{name}.key"))),
        ..ClientTls::default()
    }
}

/// Puts everything for so many boxes into a folder, with the broker at this port of loopback.
///
/// # Errors
/// A sentence.
pub fn make(folder: &Path, boxes: usize, port: u16) -> Result<(), String> {
    let put = |file: &str, text: &str| {
        std::fs::write(folder.join(file), text).map_err(|error| format!("{}: {error}", folder.join(file).display()))
    };
    let told = |error: TlsError| error.to_string();
    for place in [folder.to_path_buf(), folder.join("boxes"), folder.join("db")] {
        std::fs::create_dir_all(&place).map_err(|error| format!("{}: {error}", place.display()))?;
        // mosquitto started by root becomes another user.
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&place, open).map_err(|error| format!("{}: {error}", place.display()))?;
    }
    let authority = Authority::new().map_err(told)?;
    put("ca.pem", authority.ca_pem())?;
    let write = |identity: Result<Identity, TlsError>, place: &Path, name: &str| {
        identity.and_then(|identity| identity.write(place, name)).map(drop).map_err(told)
    };
    write(authority.server(&["localhost", "127.0.0.1"]), folder, "broker")?;
    for desk in DESKS {
        write(authority.client(desk), folder, desk)?;
    }
    for number in 1..=boxes + SPARE {
        let name = name(number);
        write(authority.client(&name), &folder.join("boxes"), &name)?;
    }
    put("acl", MOSQUITTO_ACL)?;
    let here = std::path::absolute(folder).map_err(|error| error.to_string())?;
    let here = here.to_str().ok_or("the folder's name is no UTF-8")?;
    let mut conf = MOSQUITTO_CONF
        .replace("listener 8883", &format!("listener {port} 127.0.0.1"))
        .replace("/etc/mosquitto/fleet", here)
        .replace("/var/lib/mosquitto", &format!("{here}/db"));
    if crate::disk::is_root() {
        conf.push_str("user root\n");
    }
    put("mosquitto.conf", &conf)?;
    put(
        DESK,
        &format!(
            "broker = \"localhost:{port}\"\ntenant = \"{TENANT}\"\nseats = [\"{}\", \"{}\"]\nevents = \"{}\"\n\
             tls = {{ ca = \"ca.pem\", cert = \"{}.pem\", key = \"{}.key\" }}\n",
            DESKS[1], DESKS[2], DESKS[3], DESKS[0], DESKS[0]
        ),
    )?;
    if !folder.join(KEY).exists() {
        keys::make(&folder.join(KEY)).map_err(|error| error.to_string())?;
    }
    let sites = ["north", "south", "harbour", "hill"];
    let inventory = (1..=boxes).map(|number| Entry {
        name: name(number),
        site: sites[number % sites.len()].to_string(),
        // One in a hundred first, then one in ten, then the rest.
        ring: if number % 100 == 1 { 0 } else { 1 + u32::from(number % 10 != 2) },
        ..Entry::default()
    });
    let all_fit = Registry::change(folder, |registry| {
        let mut has_room = true;
        inventory.for_each(|entry| has_room &= registry.put(entry));
        has_room
    });
    match all_fit {
        Ok(true) => Ok(()),
        Ok(false) => Err("a desk has no room for so many boxes".to_string()),
        Err(error) => Err(error.to_string()),
    }
}

/// The broker of a staged fleet; it ends with this.
pub struct Mosquitto {
    child: Child,
}

impl Mosquitto {
    /// The program, where there is one.
    pub fn program() -> Option<PathBuf> {
        PLACES.iter().map(PathBuf::from).find(|path| path.exists())
    }

    /// Starts it, and returns when it listens. What it says goes to `log` in the folder.
    ///
    /// # Errors
    /// A sentence.
    pub fn start(folder: &Path, port: u16) -> Result<Mosquitto, String> {
        let program = Mosquitto::program().ok_or("there is no mosquitto here: apt-get install mosquitto")?;
        // Whoever listens there would be taken for it, and knows none of the certificates.
        TcpListener::bind(("127.0.0.1", port))
            .map_err(|error| format!("mosquitto cannot listen on port {port}: {error}; choose another with --port"))?;
        let log = std::fs::OpenOptions::new().create(true).append(true).open(folder.join("log"));
        let mut command = Command::new(program);
        command.arg("-c").arg(folder.join("mosquitto.conf")).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(log.map_err(|error| error.to_string())?);
        // SAFETY: one call that takes numbers, between fork and exec; the broker ends with whoever started it, also when
        // that is killed.
        unsafe {
            command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            });
        }
        let child = command.spawn().map_err(|error| format!("mosquitto cannot be started: {error}"))?;
        let mut mosquitto = Mosquitto { child };
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let has_ended = mosquitto.child.try_wait().is_ok_and(|status| status.is_some());
            if has_ended || began.elapsed() > PATIENCE {
                return Err(format!("mosquitto does not listen: see {}", folder.join("log").display()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(mosquitto)
    }

    /// Sends it a signal: SIGHUP has it read its rules again, SIGSTOP stalls it and SIGCONT lets it go on.
    pub fn signal(&self, signal: i32) {
        // SAFETY: a signal to a child that has not been waited for; its number cannot be anybody else's.
        unsafe { libc::kill(self.child.id() as libc::pid_t, signal) };
    }

    /// Processor time it took so far, milliseconds, where the kernel tells (proc(5), fields 14 and 15 of `stat`, in
    /// hundredths of a second).
    pub fn cpu_ms(&self) -> Option<u64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).ok()?;
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = |at: usize| fields.get(at)?.parse::<u64>().ok();
        Some((ticks(11)? + ticks(12)?) * 10)
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
