//! Somebody in front of a browser, and their telephone.

use crate::patience::{PATIENCE, until};
use afferent::tls::{self, ClientTls};
use base32::Alphabet;
use ring::hmac::{self, HMAC_SHA1_FOR_LEGACY_USE_ONLY};
use rustls::{ClientConnection, StreamOwned};
use serde_json::Value;
use socket2::{Domain, Socket, Type};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

pub const PASSWORD: &str = "correct horse battery";

/// What came back.
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(of, _)| of == name).map_or("", |(_, value)| value)
    }

    /// What stands between these two on the page.
    pub fn between(&self, before: &str, behind: &str) -> Option<&str> {
        let rest = &self.body[self.body.find(before)? + before.len()..];
        rest.split(behind).next()
    }
}

/// A browser: it keeps its cookie, and fills in the forms that it was shown.
pub struct Visitor {
    pub cookie: String,
    /// What its name is, and the sign behind it.
    named: String,
    port: u16,
    ca: PathBuf,
    form: String,
}

impl Visitor {
    /// In front of the console on this port, once that is served, with the certificate that lies in the folder.
    pub fn at(folder: &Path, port: u16) -> Visitor {
        let (ca, name) = (folder.join("page.pem"), folder.join("console.cookie"));
        let is_served = || ca.exists() && name.exists() && TcpStream::connect(("127.0.0.1", port)).is_ok();
        until("the console is served", is_served);
        let named = format!("__Host-session-{}=", std::fs::read_to_string(name).unwrap());
        Visitor { cookie: String::new(), named, port, ca, form: String::new() }
    }

    /// Another browser on the same machine.
    pub fn another(&self) -> Visitor {
        Visitor { cookie: String::new(), form: String::new(), named: self.named.clone(), ca: self.ca.clone(), ..*self }
    }

    /// The cookie, as a browser says it.
    pub fn kept(&self) -> String {
        format!("{}{}", self.named, self.cookie)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn connect(&self) -> StreamOwned<ClientConnection, TcpStream> {
        self.over(self.dial(None))
    }

    /// TLS over this connection.
    pub fn over(&self, tcp: TcpStream) -> StreamOwned<ClientConnection, TcpStream> {
        tls::provider();
        let config = tls::client(&ClientTls { ca: Some(self.ca.clone()), ..ClientTls::default() }).unwrap();
        let connection = ClientConnection::new(config, "localhost".try_into().unwrap()).unwrap();
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        StreamOwned::new(connection, tcp)
    }

    /// A connection; `takes`: so many bytes before they read any.
    pub fn dial(&self, takes: Option<usize>) -> TcpStream {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        takes.map_or(Ok(()), |takes| socket.set_recv_buffer_size(takes)).unwrap();
        socket.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, self.port)).into()).unwrap();
        socket.into()
    }

    /// Exactly this, and nothing that a browser would do by itself.
    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n");
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        if !body.is_empty() {
            head += &format!("content-length: {}\r\n", body.len());
        }
        let mut stream = self.connect();
        // What is too large may be answered before all of it is taken.
        let _ = stream.write_all(format!("{head}\r\n{body}").as_bytes());
        read(stream)
    }

    /// Whether the log-in is shown; not where they are hung up on.
    pub fn is_let_in(&self) -> bool {
        let mut stream = self.connect();
        let _ = stream.write_all(b"GET /login HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        bytes.starts_with(b"HTTP/1.1 200")
    }

    pub fn get(&mut self, path: &str) -> Answer {
        let cookie = self.kept();
        let answer = self.ask("GET", path, &[("cookie", &cookie)], "");
        self.seen(answer)
    }

    /// Sends a form, as a browser sends that of the page that it was shown last.
    pub fn send(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let cookie = self.kept();
        let headers = [("cookie", cookie.as_str()), ("origin", "null"), ("sec-fetch-site", "same-origin")];
        let mut form = form_urlencoded::Serializer::new(format!("form={}", self.form));
        let body = form.extend_pairs(fields).finish();
        let answer = self.ask("POST", path, &headers, &body);
        self.seen(answer)
    }

    fn seen(&mut self, answer: Answer) -> Answer {
        if let Some(set) = answer.header("set-cookie").strip_prefix(&*self.named) {
            self.cookie = set.split(';').next().unwrap().to_string();
        }
        self.form = answer.between("name=\"form\" value=\"", "\"").unwrap_or_default().to_string();
        answer
    }

    /// Comes with the code of an invitation, and is in. Their telephone and recovery codes.
    pub fn accept(&mut self, code: &str) -> (Telephone, Vec<String>) {
        self.get("/invitation");
        assert_eq!(self.send("/invitation", &[("code", code)]).header("location"), "/invitation");
        self.get("/invitation");
        let chosen = self.send("/invitation", &[("password", PASSWORD), ("again", PASSWORD)]);
        assert_eq!(chosen.header("location"), "/invitation", "{}", chosen.body);
        let page = self.get("/invitation");
        assert!(page.body.contains("<svg"), "a telephone reads it with its camera");
        let mut telephone = Telephone::new(page.between("class=\"secret\">", "<").unwrap());
        let done = self.send("/invitation", &[("code", &telephone.shows())]);
        assert_eq!(done.status, 200, "{}", done.body);
        let codes = done.body.split("<li class=\"secret\">").skip(1);
        (telephone, codes.map(|rest| rest.split('<').next().unwrap().to_string()).collect())
    }

    /// Says name and password, and then shows a code.
    pub fn log_in(&mut self, name: &str, code: &str) -> Answer {
        self.get("/login");
        let first = self.send("/login", &[("name", name), ("password", PASSWORD)]);
        assert_eq!(first.header("location"), "/second-factor", "{}", first.body);
        self.get("/second-factor");
        self.send("/second-factor", &[("code", code)])
    }

    /// What the page is told on its stream, an event each, until that ends.
    pub fn told(&self) -> impl Iterator<Item = Value> + use<> {
        let mut stream = self.connect();
        let head = format!("GET /box HTTP/1.1\r\nhost: localhost\r\ncookie: {}\r\n\r\n", self.kept());
        stream.write_all(head.as_bytes()).unwrap();
        let lines = BufReader::new(stream).lines().map_while(Result::ok).take_while(|line| line != "0");
        lines.filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok())
    }
}

/// An answer, until the connection ends.
pub fn read(mut stream: impl Read) -> Answer {
    let mut bytes = Vec::new();
    // An end without goodbye is one.
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_string())).collect();
    Answer { status, headers, body: body.to_string() }
}

/// A telephone that knows a secret.
pub struct Telephone {
    secret: Vec<u8>,
    last: u64,
}

impl Telephone {
    fn new(secret: &str) -> Telephone {
        Telephone { secret: base32::decode(Alphabet::Rfc4648 { padding: false }, secret).unwrap(), last: 0 }
    }

    /// A code that it has not shown yet and that counts: of now, or of the step behind the last one.
    pub fn shows(&mut self) -> String {
        let now = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() / 30;
        // The box takes one of the next step already, and none of a later one.
        while self.last > now() {
            std::thread::sleep(Duration::from_millis(200));
        }
        self.last = now().max(self.last + 1);
        let key = hmac::Key::new(HMAC_SHA1_FOR_LEGACY_USE_ONLY, &self.secret);
        let tag = hmac::sign(&key, &self.last.to_be_bytes());
        let at = usize::from(tag.as_ref()[19] & 15);
        let four = u32::from_be_bytes(tag.as_ref()[at..at + 4].try_into().unwrap()) & 0x7fff_ffff;
        format!("{:06}", four % 1_000_000)
    }
}
