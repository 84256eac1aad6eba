//! The gateway, the real program, with its DICOM listener on a port of its own.

use crate::peers::free_port;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A gateway that has not started within this time never will.
const START_TIMEOUT: Duration = Duration::from_secs(60);

pub struct Rig {
    pub dir: tempfile::TempDir,
    pub port: u16,
    pub tls_port: u16,
    data: PathBuf,
    environment: Vec<(&'static str, PathBuf)>,
    gateway: Option<Child>,
}

/// Where nobody answers.
const NO_PACS: &str = "address = \"127.0.0.1:9\"\ncalled_ae_title = \"PACS\"\n";

impl Rig {
    /// A gateway whose PACS is away, with these settings of [journal] and of [dicom], behind which more tables may
    /// stand. `{tls_port}` and `{dir}` are filled in.
    pub fn start(journal: &str, dicom: &str) -> Rig {
        Rig::before(NO_PACS, journal, dicom)
    }

    /// A gateway before a PACS with these settings.
    pub fn before(pacs: &str, journal: &str, dicom: &str) -> Rig {
        let dir = tempfile::Builder::new().prefix("afferent-dicom-").tempdir().unwrap();
        let (port, tls_port) = (free_port(), free_port());
        let text = format!(
            "[gateway]\nname = \"bench\"\ndata = \"{{dir}}/data\"\ntime_zone = \"UTC\"\n\
             [[destination]]\nname = \"pacs\"\nprotocol = \"dicom\"\n{pacs}\
             [journal]\nfree_min_mb = 0\n{journal}\
             [dicom]\nlisten = \"127.0.0.1:{port}\"\n{dicom}"
        );
        let text = text.replace("{dir}", dir.path().to_str().unwrap()).replace("{tls_port}", &tls_port.to_string());
        std::fs::write(dir.path().join("gateway.toml"), text).unwrap();
        let data = dir.path().join("data");
        let mut rig = Rig { dir, port, tls_port, data, environment: Vec::new(), gateway: None };
        rig.restart();
        rig
    }

    /// Starts the gateway, again after it ended.
    pub fn restart(&mut self) {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log()).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_afferent"))
            .args(["run", "--config"])
            .arg(self.dir.path().join("gateway.toml"))
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.gateway = Some(child);
        let deadline = Instant::now() + START_TIMEOUT;
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let ended = self.gateway.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < deadline, "{}", std::fs::read_to_string(self.log()).unwrap());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Kills the gateway without warning.
    pub fn kill(&mut self) {
        if let Some(mut gateway) = self.gateway.take() {
            gateway.kill().unwrap();
            gateway.wait().unwrap();
        }
    }

    /// Stops the gateway as its service manager would.
    pub fn stop(&mut self) {
        let mut gateway = self.gateway.take().unwrap();
        // SAFETY: the call only sends a signal to a child of ours that was not waited for.
        assert_eq!(unsafe { libc::kill(gateway.id() as i32, libc::SIGTERM) }, 0);
        assert!(gateway.wait().unwrap().success());
    }

    /// Starts it again under the power-cut layer, which writes down every change of its data (`PC_LOG`) or makes calls fail
    /// (`PC_FLAGS`).
    pub fn preload(&mut self, shim: &Path, root: &Path, how: &'static str, path: &Path) {
        let environment = [("LD_PRELOAD", shim), ("PC_ROOT", root), (how, path)];
        self.environment = environment.map(|(name, path)| (name, path.to_path_buf())).to_vec();
        self.restart();
    }

    /// From the next start on there is no layer.
    pub fn preload_nothing(&mut self) {
        self.environment.clear();
    }

    /// From the next start on its data is here.
    pub fn use_data(&mut self, data: &Path) {
        let config = self.dir.path().join("gateway.toml");
        let text = std::fs::read_to_string(&config).unwrap();
        let quoted = |path: &Path| format!("{:?}", path.to_str().unwrap());
        std::fs::write(&config, text.replace(&quoted(&self.data), &quoted(data))).unwrap();
        self.data = data.to_path_buf();
    }

    pub fn data(&self) -> &Path {
        &self.data
    }

    pub fn spool(&self) -> PathBuf {
        self.data.join("spool")
    }

    /// Resident memory of the running gateway.
    pub fn resident_kb(&self) -> u64 {
        let pid = self.gateway.as_ref().unwrap().id();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    pub fn log(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    /// Names of the files in the spool.
    pub fn spooled(&self) -> Vec<String> {
        let files = std::fs::read_dir(self.spool()).unwrap();
        files.map(|file| file.unwrap().file_name().to_string_lossy().into_owned()).collect()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The DICOM tools beside the repository; `None` on a machine that has none, or no Python to run them.
pub fn tools() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = Command::new("python3").arg("--version").stdout(Stdio::null()).status();
    python.ok().filter(|status| status.success())?;
    let places = ["../shared/tools/dicom", "../../shared/tools/dicom"].map(|place| root.join(place));
    places.into_iter().find(|place| place.is_dir())
}
