//! Alerts at a log server of another maker: rsyslog, over each way there is, by its own reading of RFC 5424.

use crate::rig::{Rig, free_port, link, listen, until};
use afferent::clock::Clock;
use afferent::tls::ClientTls;
use afferent::tls::throwaway::Authority;
use afferent::watch::syslog::{Config, Syslog};
use afferent::watch::{Alert, Trouble};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// rsyslogd with all its inputs, and what it wrote of each message as it understood it.
struct Server {
    child: Child,
    dir: tempfile::TempDir,
    udp: u16,
    tcp: u16,
    tls: u16,
    authority: Authority,
}

impl Server {
    /// `None`, with a word, on a machine without rsyslog.
    fn start() -> Option<Server> {
        let program = Path::new("/usr/sbin/rsyslogd");
        if !program.exists() {
            println!("left out: alerts at a log server (no rsyslog here)");
            return None;
        }
        let dir = tempfile::Builder::new().prefix("afferent-syslog-").tempdir().unwrap();
        let here = dir.path().display().to_string();
        let authority = Authority::new().unwrap();
        authority.server(&["localhost"]).unwrap().write(dir.path(), "server").unwrap();
        std::fs::write(dir.path().join("ca.pem"), authority.ca_pem()).unwrap();
        let (tcp, tls) = (free_port(), free_port());
        // A free port is kept free by a socket of UDP.
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let fields = [
            "pri",
            "timereported:::date-rfc3339",
            "hostname",
            "app-name",
            "procid",
            "msgid",
            "structured-data",
            "msg",
            "protocol-version",
        ]
        .map(|field| {
            let (name, options) = field.split_once(":::").unwrap_or((field, ""));
            let options =
                options.strip_prefix("date-").map(|date| format!(" dateFormat=\"{date}\"")).unwrap_or_default();
            format!("property(outname=\"{name}\" name=\"{name}\"{options} format=\"jsonf\")")
        });
        let text = format!(
            "global(workDirectory=\"{here}\" defaultNetstreamDriverCAFile=\"{here}/ca.pem\" \
             defaultNetstreamDriverCertFile=\"{here}/server.pem\" defaultNetstreamDriverKeyFile=\"{here}/server.key\")\n\
             module(load=\"imudp\")\nmodule(load=\"imtcp\")\nmodule(load=\"imuxsock\" sysSock.use=\"off\")\n\
             template(name=\"all\" type=\"list\") {{ constant(value=\"{{\") {fields} constant(value=\"}}\") constant(value=\"\\n\") }}\n\
             ruleset(name=\"all\") {{ action(type=\"omfile\" file=\"{here}/out\" template=\"all\") }}\n\
             input(type=\"imudp\" address=\"127.0.0.1\" port=\"{udp}\" ruleset=\"all\")\n\
             input(type=\"imtcp\" address=\"127.0.0.1\" port=\"{tcp}\" ruleset=\"all\")\n\
             input(type=\"imtcp\" address=\"127.0.0.1\" port=\"{tls}\" ruleset=\"all\" streamDriver.name=\"gtls\" \
             streamDriver.mode=\"1\" streamDriver.authMode=\"x509/certvalid\")\n\
             input(type=\"imuxsock\" socket=\"{here}/log\" ruleset=\"all\")\n",
            fields = fields.join(" constant(value=\",\") "),
        );
        std::fs::write(dir.path().join("conf"), text).unwrap();
        let mut server = Server { child: Server::run(program, dir.path()), dir, udp, tcp, tls, authority };
        // Each input has a thread; one that is spoken to before may never begin.
        let threads = format!("/proc/{}/task", server.child.id());
        let names = || {
            let all = std::fs::read_dir(&threads).into_iter().flatten().flatten();
            all.filter_map(|thread| std::fs::read_to_string(thread.path().join("comm")).ok()).collect::<String>()
        };
        let began = std::time::Instant::now();
        while !["imudp", "in:imtcp", "in:imuxsock"].iter().all(|input| names().contains(input)) {
            assert!(server.child.try_wait().unwrap().is_none() && began.elapsed() < crate::rig::PATIENCE, "rsyslogd");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        Some(server)
    }

    fn run(program: &Path, dir: &Path) -> Child {
        let mut command = Command::new(program);
        command.arg("-n").arg("-f").arg(dir.join("conf")).arg("-i").arg(dir.join("pid"));
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn client(&self) -> ClientTls {
        let (cert, key) = self.authority.client("bench-1").unwrap().write(self.dir.path(), "bench-1").unwrap();
        ClientTls { ca: Some(self.path("ca.pem")), cert: Some(cert), key: Some(key), ..ClientTls::default() }
    }

    fn messages(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.path("out")).unwrap_or_default();
        // The last may not be whole yet.
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn alert(began: bool) -> Alert {
    Alert { began, trouble: Trouble::Silence, of: "urine \"2\"]".to_owned(), figure: 3600, limit: 1800 }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_server_is_told_once_when_a_trouble_begins_and_once_when_it_ends() {
    let Some(server) = Server::start() else { return };
    let clock = Clock::open(server.dir.path(), true);
    let ways = [
        (format!("udp://127.0.0.1:{}", server.udp), None),
        (format!("tcp://localhost:{}", server.tcp), None),
        (format!("tls://localhost:{}", server.tls), Some(server.client())),
        (format!("unix://{}", server.path("log").display()), None),
    ];
    for (n, (to, tls)) in ways.into_iter().enumerate() {
        let config = Config { to: to.clone(), tls, facility: "local3".to_owned() };
        let mut syslog = Syslog::start(&config, &clock, &tokio::runtime::Handle::current()).unwrap();
        syslog.tell(&alert(true));
        syslog.tell(&alert(false));
        until(&format!("two came over {to}"), || server.messages().len() >= 2 * (n + 1)).await;
        let all = server.messages();
        let both = &all[2 * n..];
        assert_eq!(both.len(), 2, "{to}: {both:?}");
        let id = std::process::id().to_string();
        for (said, (priority, event)) in both.iter().zip([("156", "began"), ("157", "ended")]) {
            assert_eq!((said["pri"].as_str(), said["app-name"].as_str()), (Some(priority), Some("afferent")), "{said}");
            assert_eq!(said["procid"], *id, "{said}");
            let data = format!("[afferent@32473 event=\"{event}\" of=\"urine \\\"2\\\"\\]\"");
            if to.starts_with("unix") {
                let text = said["msg"].as_str().unwrap();
                assert!(text.starts_with(&format!(" silence {data}")), "{said}");
                continue;
            }
            assert_eq!((said["msgid"].as_str(), said["protocol-version"].as_str()), (Some("silence"), Some("1")));
            let found = said["structured-data"].as_str().unwrap();
            assert!(found.starts_with(&data) && found.contains("[timeQuality tzKnown=\"1\" isSynced=\"1\"]"), "{said}");
            assert!(said["msg"].as_str().unwrap().contains("silence of urine"), "{said}");
            assert!(said["timereported"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok(), "{said}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_tells_a_log_server_of_a_stranger() {
    let Some(server) = Server::start() else { return };
    let (rig, port) = (Rig::new().await, free_port());
    let settings = format!(
        "{}[watch]\nlook_s = 1\n[watch.syslog]\nto = \"tcp://localhost:{}\"\n",
        link("chemistry", "astm", &format!("{}\npeers = [\"10.9.9.9\"]", listen(port))),
        server.tcp
    );
    let gateway = rig.gateway(&settings).await;
    let told = || server.messages().into_iter().find(|said| said["msgid"] == "strangers");
    until("the log server hears of it", || {
        drop(std::net::TcpStream::connect(("127.0.0.1", port)));
        told().is_some()
    })
    .await;
    let said = told().unwrap();
    assert_eq!(said["pri"], "132", "{said}");
    assert!(said["structured-data"].as_str().unwrap().contains("event=\"began\" of=\"chemistry\""), "{said}");
    gateway.stop().await;
}
