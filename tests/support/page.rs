//! A page that the program serves, asked as a browser would, and a browser.

use crate::patience::{PATIENCE, until};
use afferent::tls::{self, ClientTls};
use rustls::{ClientConnection, StreamOwned};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// A page with its certificate and its token.
pub struct Page {
    pub port: u16,
    pub token: String,
    tls: ClientTls,
}

impl Page {
    /// The page on this port, once it is served and its token lies in the folder.
    pub fn of(folder: &Path, port: u16) -> Page {
        let token = folder.join("page.token");
        until("the page is served", || token.exists() && TcpStream::connect(("127.0.0.1", port)).is_ok());
        let token = std::fs::read_to_string(token).unwrap();
        let tls = ClientTls { ca: Some(folder.join("page.pem")), ..ClientTls::default() };
        Page { port, token, tls }
    }

    fn ask(&self, method: &str, path: &str, token: &str) -> BufReader<impl Read + use<>> {
        tls::provider();
        let connection =
            ClientConnection::new(tls::client(&self.tls).unwrap(), "localhost".try_into().unwrap()).unwrap();
        let tcp = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut stream = StreamOwned::new(connection, tcp);
        let head = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        BufReader::new(stream)
    }

    /// The head of an answer.
    pub fn head(&self, method: &str, path: &str, token: &str) -> String {
        let lines = self.ask(method, path, token).lines().map_while(Result::ok);
        lines.take_while(|line| !line.is_empty()).map(|line| line + "\n").collect()
    }

    /// What the page is told on its stream, an event each.
    pub fn told(&self, path: &str) -> impl Iterator<Item = Value> + use<> {
        let lines = self.ask("GET", path, &self.token).lines().map_while(Result::ok);
        lines.filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok())
    }

    /// What each of these requests (method, path, token, status) is answered with, and how the page itself is kept.
    pub fn answers_only(&self, requests: &[(&str, &str, &str, &str)]) {
        let front = self.head("GET", "/", "");
        assert!(front.starts_with("HTTP/1.1 200"), "{front}");
        let policy = front.lines().find(|line| line.starts_with("content-security-policy:")).unwrap();
        assert!(policy.contains("default-src 'none'") && policy.contains("script-src 'sha256-"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        for (method, path, token, status) in requests {
            let head = self.head(method, path, token);
            assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{method} {path}: {head}");
        }
    }

    /// The document as a browser has it once it shows this; `None`, with a word, on a machine without one.
    pub fn in_a_browser(&self, shows: &str) -> Option<String> {
        let browser = browser()?;
        let url = format!("https://127.0.0.1:{}/#{}", self.port, self.token);
        let began = Instant::now();
        loop {
            let profile = tempfile::tempdir().unwrap();
            let mut command = Command::new(&browser);
            command.args(["--headless=new", "--no-sandbox", "--disable-gpu", "--ignore-certificate-errors"]);
            command.arg(format!("--user-data-dir={}", profile.path().display()));
            // A browser that is slow to start has not run the script by then.
            let output = command.args(["--timeout=4000", "--dump-dom"]).arg(&url).output().unwrap();
            let dom = String::from_utf8_lossy(&output.stdout).into_owned();
            if dom.contains(shows) {
                return Some(dom);
            }
            assert!(began.elapsed() < PATIENCE, "the browser does not show {shows}: {dom}");
        }
    }
}

fn browser() -> Option<PathBuf> {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let found = names.iter().map(|name| Path::new("/usr/bin").join(name)).find(|path| path.exists());
    if found.is_none() {
        println!("left out: the page in a browser (no chromium here)");
    }
    found
}
