//! paho-mqtt beside the test: what it heard, and what it shall say.

use crate::broker::{Broker, until};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};

/// Something that was published.
#[derive(Debug, Clone)]
pub struct Message {
    pub topic: String,
    pub payload: Vec<u8>,
    pub retain: bool,
    pub qos: u64,
    pub expiry: Option<u64>,
}

impl Message {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.payload).unwrap_or(Value::Null)
    }
}

pub struct Witness {
    child: Child,
    stdin: ChildStdin,
    heard: Arc<Mutex<Heard>>,
}

#[derive(Default)]
struct Heard {
    ups: usize,
    said: usize,
    messages: Vec<Message>,
}

impl Witness {
    /// Listens as this certificate's owner. `None`, with a word, on a machine without paho-mqtt.
    pub fn start(broker: &Broker, name: &str, filter: &str) -> Option<Witness> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let peers = std::env::var_os("AFFERENT_PEERS").map_or_else(|| root.join("target/peers"), PathBuf::from);
        let python = peers.join("venv/bin/python");
        let there = Command::new(&python).args(["-c", "import paho.mqtt"]).output();
        if !there.is_ok_and(|output| output.status.success()) {
            println!("left out: the witness of the fleet (no paho-mqtt here)");
            return None;
        }
        let tls = broker.client(name);
        let mut child = Command::new(python)
            .arg(root.join("tests/fleet/witness.py"))
            .args(["localhost", &broker.port.to_string()])
            .args([tls.ca.unwrap(), tls.cert.unwrap(), tls.key.unwrap()])
            .args([name, filter])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let heard: Arc<Mutex<Heard>> = Arc::default();
        let (lines, into) = (BufReader::new(child.stdout.take().unwrap()), heard.clone());
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                let told: Value = serde_json::from_str(&line).unwrap();
                let mut heard = into.lock().unwrap();
                if told["up"] == true {
                    heard.ups += 1;
                } else if told["said"].is_string() {
                    heard.said += 1;
                } else {
                    heard.messages.push(Message {
                        topic: told["topic"].as_str().unwrap().to_string(),
                        payload: BASE64_STANDARD.decode(told["payload"].as_str().unwrap()).unwrap(),
                        retain: told["retain"] == true,
                        qos: told["qos"].as_u64().unwrap(),
                        expiry: told["expiry"].as_u64(),
                    });
                }
            }
        });
        let witness = Witness { stdin: child.stdin.take().unwrap(), child, heard };
        until("the witness listens", || witness.ups() > 0);
        Some(witness)
    }

    /// How often it was subscribed.
    pub fn ups(&self) -> usize {
        self.heard.lock().unwrap().ups
    }

    /// Everything heard so far.
    pub fn messages(&self) -> Vec<Message> {
        self.heard.lock().unwrap().messages.clone()
    }

    /// What was heard on topics with this end, in order.
    pub fn heard(&self, end: &str) -> Vec<Message> {
        self.messages().into_iter().filter(|message| message.topic.ends_with(end)).collect()
    }

    /// The last state of the box.
    pub fn last(&self, end: &str) -> Option<Value> {
        self.heard(end).last().map(Message::json)
    }

    /// Publishes, and waits until the broker has it.
    pub fn say(&mut self, topic: &str, payload: &[u8], retain: bool) {
        let before = self.heard.lock().unwrap().said;
        let line = json!({ "topic": topic, "payload": BASE64_STANDARD.encode(payload), "retain": retain });
        writeln!(self.stdin, "{line}").unwrap();
        let heard = self.heard.clone();
        until("the witness said it", || heard.lock().unwrap().said > before);
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
