use super::*;
use crate::tls::throwaway::Authority;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// How the server treats one request.
#[derive(Clone, Copy)]
enum Manner {
    /// As it should.
    Right,
    /// It hangs up after so many bytes of the body.
    Cut(usize),
    /// It knows no ranges.
    Whole,
    /// It sends the start and says that it is the rest.
    OtherPart,
    /// It answers the range that was asked for, and its file is longer.
    Longer,
    /// Without saying how much comes, it sends more.
    TooMuch,
    /// It has no such file.
    Missing,
}

/// A real HTTP or HTTPS server; a manner for each connection, the last for all that follow.
struct Server {
    url: String,
    asked: Arc<Mutex<Vec<Option<usize>>>>,
}

impl Server {
    fn start(body: &[u8], manners: &[Manner]) -> Server {
        Server::start_with(body, manners, None)
    }

    fn start_with(body: &[u8], manners: &[Manner], tls: Option<Arc<rustls::ServerConfig>>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (scheme, port) = (if tls.is_some() { "https" } else { "http" }, listener.local_addr().unwrap().port());
        let url = format!("{scheme}://localhost:{port}/afferent");
        let asked: Arc<Mutex<Vec<Option<usize>>>> = Arc::default();
        let (body, manners, noted) = (body.to_vec(), manners.to_vec(), asked.clone());
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let manner = manners[number.min(manners.len() - 1)];
                let mut stream = stream.unwrap();
                let _ = match &tls {
                    None => serve(&mut stream, &body, manner, &noted),
                    Some(tls) => {
                        let connection = rustls::ServerConnection::new(tls.clone()).unwrap();
                        serve(&mut rustls::StreamOwned::new(connection, stream), &body, manner, &noted)
                    }
                };
            }
        });
        Server { url, asked }
    }

    fn asked(&self) -> Vec<Option<usize>> {
        self.asked.lock().unwrap().clone()
    }
}

fn serve(
    stream: &mut (impl Read + Write),
    body: &[u8],
    manner: Manner,
    asked: &Mutex<Vec<Option<usize>>>,
) -> std::io::Result<()> {
    let mut from = None;
    for line in BufReader::new(&mut *stream).lines() {
        let line = line?.to_ascii_lowercase();
        if let Some(range) = line.strip_prefix("range: bytes=") {
            from = Some(range.trim_end_matches('-').parse::<usize>().unwrap());
        }
        if line.is_empty() {
            break;
        }
    }
    asked.lock().unwrap().push(from);
    let length = body.len();
    let head = |status: &str, more: String, sent: usize| {
        format!("HTTP/1.1 {status}\r\ncontent-length: {sent}\r\nconnection: close\r\n{more}\r\n")
    };
    let (from, is_part) = match (manner, from) {
        (Manner::Whole, _) | (_, None) => (0, false),
        (_, Some(from)) => (from, true),
    };
    let rest = &body[from.min(length)..];
    let range = format!("content-range: bytes {from}-{}/{length}\r\n", length - 1);
    let right = match is_part {
        true => head("206 Partial Content", range, rest.len()),
        false => head("200 OK", String::new(), rest.len()),
    };
    match manner {
        Manner::Right | Manner::Whole => {
            stream.write_all(right.as_bytes())?;
            stream.write_all(rest)
        }
        Manner::Cut(after) => {
            stream.write_all(right.as_bytes())?;
            stream.write_all(&rest[..after.min(rest.len())])
        }
        Manner::OtherPart => {
            let range = format!("content-range: bytes 0-{}/{length}\r\n", length - 1);
            stream.write_all(head("206 Partial Content", range, length).as_bytes())?;
            stream.write_all(body)
        }
        Manner::Longer => {
            let range = format!("content-range: bytes {from}-{}/{}\r\n", length, length + 1);
            stream.write_all(head("206 Partial Content", range, rest.len() + 1).as_bytes())?;
            stream.write_all(&[rest, b"x"].concat())
        }
        Manner::TooMuch => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n")?;
            stream.write_all(&[body, b"and more"].concat())
        }
        Manner::Missing => stream.write_all(head("404 Not Found", String::new(), 0).as_bytes()),
    }
}

struct Fetching {
    dir: tempfile::TempDir,
    body: Vec<u8>,
}

impl Fetching {
    fn new() -> Fetching {
        let body = (0..300_000_u32).map(|n| (n * 7 + n / 251) as u8).collect();
        Fetching { dir: tempfile::tempdir().unwrap(), body }
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("download")
    }

    async fn fetch(&self, server: &Server) -> Result<(), FetchError> {
        self.fetch_within(server, u64::MAX).await
    }

    async fn fetch_within(&self, server: &Server, room: u64) -> Result<(), FetchError> {
        let limits = Limits { bytes_s: 0, room: &|| room };
        let wanted = Wanted { url: &server.url, length: self.body.len() as u64 };
        fetch(wanted, &self.file(), &limits, None).await
    }

    fn length(&self) -> u64 {
        std::fs::metadata(self.file()).unwrap().len()
    }

    fn is_whole(&self) -> bool {
        std::fs::read(self.file()).unwrap() == self.body
    }
}

#[tokio::test]
async fn a_fetch_that_is_cut_goes_on_where_it_was_left() {
    crate::tls::provider();
    let fetching = Fetching::new();
    let server =
        Server::start(&fetching.body, &[Manner::Cut(100_000), Manner::Cut(0), Manner::Cut(50_000), Manner::Right]);
    for _ in 0..3 {
        assert!(matches!(fetching.fetch(&server).await, Err(FetchError::Later(_))));
    }
    fetching.fetch(&server).await.unwrap();
    assert!(fetching.is_whole());
    assert_eq!(server.asked(), [None, Some(100_000), Some(100_000), Some(150_000)]);
    fetching.fetch(&server).await.unwrap();
    assert_eq!(server.asked().len(), 4, "what is here is not fetched again");
    let found = digest(&fetching.file()).unwrap();
    assert_eq!(found, (hex::digits(ring::digest::digest(&ring::digest::SHA256, &fetching.body).as_ref()), 300_000));
}

#[tokio::test]
async fn a_release_comes_over_https_from_whom_the_box_trusts_and_from_nobody_else() {
    crate::tls::provider();
    let fetching = Fetching::new();
    let (own, other) = (Authority::new().unwrap(), Authority::new().unwrap());
    let write = |name: &str, text: &str| {
        let path = fetching.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let trusts = ClientTls { ca: Some(write("ca.pem", own.ca_pem())), ..ClientTls::default() };
    let server = |authority: &Authority, name: &str, manners: &[Manner]| {
        let (cert, key) = authority.server(&[name]).unwrap().write(fetching.dir.path(), name).unwrap();
        let tls = crate::tls::server(&crate::tls::ServerTls { cert, key, client_ca: None }).unwrap();
        Server::start_with(&fetching.body, manners, Some(tls))
    };
    let fetch_from = async |server: &Server, settings: Option<&ClientTls>| {
        let limits = Limits { bytes_s: 0, room: &|| u64::MAX };
        fetch(Wanted { url: &server.url, length: 300_000 }, &fetching.file(), &limits, settings).await
    };
    let right = server(&own, "localhost", &[Manner::Cut(100_000), Manner::Right]);
    let refused = [
        ("of another authority", server(&other, "localhost", &[Manner::Right]), Some(&trusts)),
        ("of another name", server(&own, "releases.example", &[Manner::Right]), Some(&trusts)),
        ("whom the system does not know", server(&own, "localhost", &[Manner::Right]), None),
    ];
    for (what, server, settings) in &refused {
        let found = fetch_from(server, *settings).await;
        assert!(matches!(found, Err(FetchError::Later(_))), "{what}: {found:?}");
        assert!(server.asked().is_empty() && fetching.length() == 0, "one {what} was asked for it");
    }
    assert!(matches!(fetch_from(&right, Some(&trusts)).await, Err(FetchError::Later(_))));
    fetch_from(&right, Some(&trusts)).await.unwrap();
    assert!(fetching.is_whole());
    assert_eq!(right.asked(), [None, Some(100_000)], "it goes on where it was left");
}

#[tokio::test]
async fn a_server_that_lies_about_ranges_costs_a_fetch_from_the_start() {
    crate::tls::provider();
    for lie in [Manner::OtherPart, Manner::Longer] {
        let fetching = Fetching::new();
        let server = Server::start(&fetching.body, &[Manner::Cut(1000), lie, Manner::Right]);
        assert!(matches!(fetching.fetch(&server).await, Err(FetchError::Later(_))));
        assert!(matches!(fetching.fetch(&server).await, Err(FetchError::Wrong(_))));
        assert_eq!(fetching.length(), 0);
        fetching.fetch(&server).await.unwrap();
        assert!(fetching.is_whole());
        assert_eq!(server.asked(), [None, Some(1000), None]);
    }
    let fetching = Fetching::new();
    let server = Server::start(&fetching.body, &[Manner::Cut(1000), Manner::Whole]);
    assert!(matches!(fetching.fetch(&server).await, Err(FetchError::Later(_))));
    fetching.fetch(&server).await.unwrap();
    assert!(fetching.is_whole(), "one that knows no ranges sends the whole");
}

#[tokio::test]
async fn no_more_is_written_than_the_manifest_says() {
    crate::tls::provider();
    let fetching = Fetching::new();
    let server = Server::start(&fetching.body, &[Manner::TooMuch, Manner::Missing, Manner::Right]);
    assert!(matches!(fetching.fetch(&server).await, Err(FetchError::Wrong(_))));
    assert_eq!(fetching.length(), 0);
    assert!(matches!(fetching.fetch(&server).await, Err(FetchError::Later(_))));
    std::fs::write(fetching.file(), vec![1; 300_001]).unwrap();
    fetching.fetch(&server).await.unwrap();
    assert!(fetching.is_whole(), "what is longer than it can be is nothing");
}

#[tokio::test]
async fn i12_what_the_journal_keeps_free_is_not_written_to() {
    crate::tls::provider();
    let fetching = Fetching::new();
    let server = Server::start(&fetching.body, &[Manner::Right]);
    assert!(matches!(fetching.fetch_within(&server, 299_999).await, Err(FetchError::NoRoom)));
    assert!(server.asked().is_empty(), "it does not even begin");
    fetching.fetch_within(&server, 300_000).await.unwrap();
    assert!(fetching.is_whole());
}

#[tokio::test]
async fn a_limit_of_bandwidth_is_kept() {
    crate::tls::provider();
    let fetching = Fetching::new();
    let server = Server::start(&fetching.body, &[Manner::Right]);
    let began = Instant::now();
    let limits = Limits { bytes_s: 1_000_000, room: &|| u64::MAX };
    let wanted = Wanted { url: &server.url, length: 300_000 };
    fetch(wanted, &fetching.file(), &limits, None).await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(299), "300 kB at 1000 kB a second");
}
