//! Real peers: Orthanc as a PACS whose REST API is the witness, and DCMTK's tools. A test whose peer is not installed says
//! `left out:` and passes.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

pub use crate::patience::{PATIENCE, until};
pub use crate::ports::free_port;

const ORTHANC_DICOMWEB: [&str; 2] =
    ["/usr/share/orthanc/plugins/libOrthancDicomWeb.so", "/usr/lib/orthanc/libOrthancDicomWeb.so"];

/// The program of the system; what a Python environment calls by the same name is another one.
pub fn program(name: &str) -> Option<PathBuf> {
    ["/usr/bin", "/usr/sbin", "/usr/local/bin"].iter().map(|dir| Path::new(dir).join(name)).find(|path| path.exists())
}

/// As [`program`]; says what is left out when it is not there.
pub fn needed(name: &str, what: &str) -> Option<PathBuf> {
    let found = program(name);
    if found.is_none() {
        println!("left out: {what} (no {name} here)");
    }
    found
}

/// A script of this folder that speaks pynetdicom, ready to be run; says what is left out when that is not installed.
pub fn pynetdicom(script: &str, arguments: &[&str], what: &str) -> Option<Command> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let peers = std::env::var_os("AFFERENT_PEERS").map_or_else(|| root.join("target/peers"), PathBuf::from);
    let python = peers.join("venv/bin/python");
    let there = Command::new(&python).args(["-c", "import pynetdicom"]).output();
    if !there.is_ok_and(|output| output.status.success()) {
        println!("left out: {what} (no pynetdicom here)");
        return None;
    }
    let mut command = Command::new(python);
    command.arg(root.join("tests/dicom").join(script)).args(arguments).stdin(Stdio::null());
    Some(command)
}

/// Runs the binary to its end.
pub fn afferent(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_afferent"));
    command.args(arguments).env_remove("AFFERENT_LOG").env_remove("RUST_LOG").env_remove("JOURNAL_STREAM");
    command.stdin(Stdio::null()).output().unwrap()
}

/// As [`until`], while others of this thread go on.
pub async fn until_async<F: Future<Output = bool>>(what: &str, mut done: impl FnMut() -> F) {
    let began = Instant::now();
    while !done().await {
        assert!(began.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A child process that ends with the test.
pub struct Running(Child);

impl Running {
    pub fn start(command: &mut Command) -> Running {
        Running(command.stdin(Stdio::null()).spawn().unwrap())
    }

    /// The most memory it ever had, in kB.
    pub fn peak_kb(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Asks it to end, as a person at the keyboard does.
    pub fn interrupt(&self) {
        // SAFETY: the call only sends a signal to a child of ours that was not waited for.
        assert_eq!(unsafe { libc::kill(self.0.id() as i32, libc::SIGINT) }, 0);
    }

    /// True when it ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Orthanc with a storage of its own, which outlives a stop.
pub struct Orthanc {
    dir: tempfile::TempDir,
    http: u16,
    pub dicom: u16,
    /// Where it looks for the gateway, which has to listen there to hear of commitments.
    pub gateway: u16,
    running: Option<Running>,
    client: reqwest::Client,
}

/// One instance as Orthanc lists it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Held {
    pub sop_instance_uid: String,
    pub id: String,
}

impl Orthanc {
    /// Its AE title.
    pub const AE_TITLE: &str = "ORTHANC";

    /// Starts one, unless it is not installed: then `what` is left out.
    pub async fn start(what: &str) -> Option<Orthanc> {
        needed("Orthanc", what)?;
        let tls = afferent::tls::trusting_nobody().unwrap();
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(rustls::ClientConfig::clone(&tls))
            .no_proxy()
            .build()
            .unwrap();
        let dir = tempfile::tempdir().unwrap();
        let (http, dicom, gateway) = (free_port(), free_port(), free_port());
        let mut orthanc = Orthanc { dir, http, dicom, gateway, running: None, client };
        // A port that was free a moment ago may be another test's by now.
        while !orthanc.begin().await {
            (orthanc.http, orthanc.dicom) = (free_port(), free_port());
        }
        Some(orthanc)
    }

    /// Ends it as a power cut would.
    pub fn stop(&mut self) {
        self.running = None;
    }

    /// Starts it, with what it stored before and at the same ports.
    pub async fn go_on(&mut self) {
        until_async("the ports are free again", || async {
            TcpListener::bind((Ipv4Addr::LOCALHOST, self.dicom)).is_ok()
        })
        .await;
        assert!(self.begin().await, "Orthanc does not start again");
    }

    /// False when it ended at once.
    async fn begin(&mut self) -> bool {
        let storage = self.dir.path().join("storage");
        let plugins: Vec<&str> = ORTHANC_DICOMWEB.into_iter().filter(|p| Path::new(p).exists()).take(1).collect();
        let config = serde_json::json!({
            "Name": "witness",
            "StorageDirectory": storage,
            "IndexDirectory": storage,
            "HttpPort": self.http,
            "RemoteAccessAllowed": false,
            "AuthenticationEnabled": false,
            "DicomAet": Orthanc::AE_TITLE,
            "DicomCheckCalledAet": true,
            "DicomPort": self.dicom,
            "DicomAlwaysAllowFind": true,
            "DicomAlwaysAllowStore": true,
            "UnknownSopClassAccepted": true,
            "DicomModalities": { "gateway": { "AET": "AFFERENT", "Host": "127.0.0.1", "Port": self.gateway } },
            "Plugins": plugins,
            "DicomWeb": { "Enable": true, "Root": "/dicom-web/" },
        });
        let file = self.dir.path().join("orthanc.json");
        std::fs::write(&file, config.to_string()).unwrap();
        let log = std::fs::File::options().create(true).append(true).open(self.dir.path().join("log")).unwrap();
        let mut command = Command::new(program("Orthanc").unwrap());
        // Its answers would wait for the sender's delayed acknowledgements otherwise.
        command.arg(file).env("TCP_NODELAY", "1").stdout(log.try_clone().unwrap()).stderr(log);
        let mut running = Running::start(&mut command);
        let began = Instant::now();
        while self.get("system").await.is_none() || TcpStream::connect((Ipv4Addr::LOCALHOST, self.dicom)).is_err() {
            if running.has_ended() {
                return false;
            }
            assert!(began.elapsed() < PATIENCE, "Orthanc does not answer within {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.running = Some(running);
        true
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.dicom)
    }

    /// Its DICOMweb service; `None`, said, when the plugin is not installed.
    pub async fn dicom_web(&self, what: &str) -> Option<String> {
        let found = self.get("dicom-web/studies").await.is_some();
        if !found {
            println!("left out: {what} (no orthanc-dicomweb here)");
        }
        found.then(|| self.url("dicom-web"))
    }

    /// Every instance it holds.
    pub async fn held(&self) -> Vec<Held> {
        let listed = self.get("instances?expand").await.unwrap_or(Value::Null);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let instance = |listed: &Value| Held {
            sop_instance_uid: text(&listed["MainDicomTags"]["SOPInstanceUID"]),
            id: text(&listed["ID"]),
        };
        let mut held: Vec<Held> = listed.as_array().into_iter().flatten().map(instance).collect();
        held.sort();
        held
    }

    /// How many instances it holds.
    pub async fn count(&self) -> u64 {
        self.get("statistics").await.and_then(|s| s["CountInstances"].as_u64()).unwrap_or_default()
    }

    /// The file of an instance, as it stored it.
    pub async fn file(&self, held: &Held) -> Vec<u8> {
        self.read(&format!("instances/{}/file", held.id)).await.unwrap()
    }

    /// SOP Instance UIDs in the order in which it took them.
    pub async fn in_order_of_arrival(&self) -> Vec<String> {
        let changes = self.get("changes?limit=1000").await.unwrap();
        let held = self.held().await;
        let new = changes["Changes"].as_array().unwrap().iter().filter(|c| c["ChangeType"] == "NewInstance");
        let uid = |id: &Value| held.iter().find(|h| id == h.id.as_str()).unwrap().sop_instance_uid.clone();
        new.map(|change| uid(&change["ID"])).collect()
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.http)
    }

    async fn get(&self, path: &str) -> Option<Value> {
        serde_json::from_slice(&self.read(path).await?).ok()
    }

    async fn read(&self, path: &str) -> Option<Vec<u8>> {
        let answer = self.client.get(self.url(path)).send().await.ok()?;
        if !answer.status().is_success() {
            return None;
        }
        Some(answer.bytes().await.ok()?.to_vec())
    }
}

/// DCMTK's storescp, which keeps what it gets bit for bit.
pub struct StoreScp {
    dir: tempfile::TempDir,
    pub port: u16,
    _running: Running,
}

/// DCMTK's `dcmrecv`, which unlike `storescp` is made with its DcmSCP.
pub struct DcmRecv {
    pub port: u16,
    _dir: tempfile::TempDir,
    _running: Running,
}

impl DcmRecv {
    /// Starts one that takes this class in this transfer syntax and nothing else, unless it is not installed: then `what`
    /// is left out.
    pub fn start(sop_class_uid: &str, transfer_syntax_uid: &str, what: &str) -> Option<DcmRecv> {
        let dcmrecv = needed("dcmrecv", what)?;
        let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
        let taken = format!(
            "[[TransferSyntaxes]]\n[Taken]\nTransferSyntax1 = {transfer_syntax_uid}\n\
             [[PresentationContexts]]\n[Taken]\nPresentationContext1 = {sop_class_uid}\\Taken\n\
             [[Profiles]]\n[Taken]\nPresentationContexts = Taken\n"
        );
        let file = dir.path().join("taken.cfg");
        std::fs::write(&file, taken).unwrap();
        let mut command = Command::new(dcmrecv);
        command.arg("-xf").arg(file).arg("Taken").arg("-od").arg(dir.path()).arg(port.to_string());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let running = Running::start(&mut command);
        until("dcmrecv listens", || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok());
        Some(DcmRecv { port, _dir: dir, _running: running })
    }
}

impl StoreScp {
    /// Its AE title.
    pub const AE_TITLE: &str = "STORESCP";

    /// Starts one with these further options, unless it is not installed: then `what` is left out. It takes everything,
    /// unless an option says what it prefers.
    pub fn start(options: &[&str], what: &str) -> Option<StoreScp> {
        let storescp = needed("storescp", what)?;
        let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
        let mut command = Command::new(storescp);
        if !options.iter().any(|option| option.starts_with("--prefer")) {
            command.arg("--accept-all");
        }
        command.args(["--fork", "--bit-preserving", "-aet", StoreScp::AE_TITLE, "-od"]);
        command.arg(dir.path()).args(options).arg(port.to_string());
        command.env("TCP_NODELAY", "1").stdout(Stdio::null()).stderr(Stdio::null());
        let running = Running::start(&mut command);
        until("storescp listens", || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok());
        Some(StoreScp { dir, port, _running: running })
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Removes what it wrote. What a transfer left unfinished it may remove itself meanwhile.
    pub fn forget(&self) {
        for file in self.files() {
            let removed = std::fs::remove_file(&file);
            assert!(removed.is_ok() || !file.exists(), "{removed:?}");
        }
    }

    /// The files it wrote.
    pub fn files(&self) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(self.dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }
}
