//! A server with releases: HTTP with ranges, one file a connection.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};

/// Serves a folder until the test ends; its address.
pub fn serve(folder: &Path) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let folder = folder.to_path_buf();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let folder = folder.clone();
            // Who hangs up in the middle is the test's doing.
            std::thread::spawn(move || drop(answer(&stream, &folder)));
        }
    });
    url
}

fn answer(mut stream: &TcpStream, folder: &Path) -> std::io::Result<()> {
    let (mut file, mut from) = (PathBuf::new(), None);
    for line in BufReader::new(stream).lines() {
        let line = line?;
        if let Some(path) = line.strip_prefix("GET /") {
            file = folder.join(path.split(' ').next().unwrap_or_default());
        }
        if let Some(range) = line.to_ascii_lowercase().strip_prefix("range: bytes=") {
            from = range.trim_end_matches('-').parse::<usize>().ok();
        }
        if line.is_empty() {
            break;
        }
    }
    let body = std::fs::read(file)?;
    let start = from.unwrap_or(0).min(body.len());
    let status = match from {
        Some(_) => format!("206 Partial Content\r\ncontent-range: bytes {start}-{}/{}", body.len() - 1, body.len()),
        None => "200 OK".to_string(),
    };
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len() - start);
    stream.write_all(head.as_bytes())?;
    stream.write_all(&body[start..])
}
