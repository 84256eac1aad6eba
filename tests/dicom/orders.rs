//! The EHR as a test plays it: orders over MLLP.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// An answer that takes longer than this never comes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection over which the EHR sends orders.
pub struct Line {
    stream: TcpStream,
    sent: u32,
}

impl Line {
    pub fn dial(port: u16) -> Line {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Line { stream, sent: 0 }
    }

    /// Sends the segments of an OMI^O23 and insists that everything in it is accepted.
    pub fn send(&mut self, segments: &[String]) {
        self.sent += 1;
        let number = self.sent;
        let header = format!("MSH|^~\\&|RIS|H|BOX|L|20260301||OMI^O23^OMI_O23|M-{number}|P|2.5.1|||||||UNICODE UTF-8");
        let message = format!("\x0b{header}\r{}\r\x1c\r", segments.join("\r"));
        self.stream.write_all(message.as_bytes()).unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\x1c\r") {
            let mut piece = [0; 4096];
            let count = self.stream.read(&mut piece).unwrap();
            assert!(count > 0, "the connection ended");
            answer.extend_from_slice(&piece[..count]);
        }
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.contains("\rMSA|AA|"), "{answer}");
    }
}

/// An order for an echocardiogram of one step in study `study`, to begin at `start`.
pub fn order(number: &str, study: &str, start: &str) -> Vec<String> {
    vec![
        "PID|1||4711^^^HOSP^MR||SYNTHETIC^PAT||19700102|F".to_owned(),
        format!("ORC|NW|{number}"),
        format!("TQ1|1||||||{start}||R"),
        format!("OBR|1|{number}||ECHO^Echocardiogram^L"),
        format!("IPC|ACC-{number}|RP-{number}|{study}|SP-{number}|US|||ROOM 3|VIVID"),
    ]
}
