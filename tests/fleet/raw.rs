//! A client of the bus that says what it likes: packets over TLS, and the broker's own answers.

use afferent::tls::{self, ClientTls};
use bytes::{Bytes, BytesMut};
use rumqttc::{
    Connect, ConnectAuth, ConnectProperties, LastWill, Packet, PubAck, PubAckReason, Publish, QoS, Subscribe,
    SubscribeFilter,
};
use rustls::{ClientConnection, StreamOwned};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

pub struct Client {
    stream: StreamOwned<ClientConnection, TcpStream>,
    unread: BytesMut,
    packet: u16,
    /// What came while something else was waited for.
    pub came: Vec<(String, Vec<u8>)>,
}

impl Client {
    /// Connects with this certificate and as whoever it says. An error is how the broker or TLS refuses it.
    pub fn connect(port: u16, tls: &ClientTls, says: &str, will: Option<(&str, &[u8])>) -> Result<Client, String> {
        tls::provider();
        let config = tls::client(tls).map_err(|error| error.to_string())?;
        let tcp = TcpStream::connect(("127.0.0.1", port)).map_err(|error| error.to_string())?;
        tcp.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let connection = ClientConnection::new(config, "localhost".try_into().unwrap()).unwrap();
        let stream = StreamOwned::new(connection, tcp);
        let mut client = Client { stream, unread: BytesMut::new(), packet: 0, came: Vec::new() };
        let connect = Connect {
            keep_alive: 60,
            client_id: says.to_string(),
            clean_start: true,
            properties: Some(ConnectProperties { session_expiry_interval: Some(0), ..ConnectProperties::new() }),
        };
        let will = will.map(|(topic, payload)| LastWill {
            topic: Bytes::copy_from_slice(topic.as_bytes()),
            message: Bytes::copy_from_slice(payload),
            qos: QoS::AtLeastOnce,
            retain: true,
            properties: None,
        });
        client.write(&Packet::Connect(connect, will, ConnectAuth::Username { username: says.to_string() }))?;
        match client.read()? {
            Packet::ConnAck(ack) if ack.code == rumqttc::ConnectReturnCode::Success => Ok(client),
            other => Err(format!("{other:?}")),
        }
    }

    /// Publishes, retained unless it is an event, and says what the broker makes of it.
    pub fn say(&mut self, topic: &str, payload: &[u8]) -> PubAckReason {
        self.tries_to_say(topic, payload).unwrap()
    }

    /// The same to a broker that may hang up.
    pub fn tries_to_say(&mut self, topic: &str, payload: &[u8]) -> Result<PubAckReason, String> {
        self.packet += 1;
        let publish = Publish {
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: !topic.ends_with("/event"),
            topic: Bytes::copy_from_slice(topic.as_bytes()),
            pkid: self.packet,
            payload: Bytes::copy_from_slice(payload),
            properties: None,
        };
        self.write(&Packet::Publish(publish))?;
        loop {
            match self.read()? {
                Packet::PubAck(ack) => return Ok(ack.reason),
                Packet::Disconnect(end) => return Err(format!("{:?}", end.reason_code)),
                other => self.take(other),
            }
        }
    }

    pub fn subscribe(&mut self, filter: &str) {
        self.packet += 1;
        let filter = SubscribeFilter { path: filter.to_string(), qos: QoS::AtLeastOnce, ..SubscribeFilter::default() };
        self.write(&Packet::Subscribe(Subscribe { pkid: self.packet, filters: vec![filter], properties: None }))
            .unwrap();
        loop {
            match self.read().unwrap() {
                Packet::SubAck(_) => return,
                other => self.take(other),
            }
        }
    }

    /// Waits until something has come on this topic.
    pub fn hear(&mut self, topic: &str) {
        while !self.came.iter().any(|(on, _)| on == topic) {
            let packet = self.read().unwrap();
            self.take(packet);
        }
    }

    /// Whether the broker still speaks with it.
    pub fn is_alive(&mut self) -> bool {
        let asked = self.write(&Packet::PingReq);
        asked.is_ok()
            && loop {
                match self.read() {
                    Ok(Packet::PingResp) => break true,
                    Ok(Packet::Disconnect(_)) | Err(_) => break false,
                    Ok(other) => self.take(other),
                }
            }
    }

    /// Is gone without a word.
    pub fn vanish(self) {
        let _ = self.stream.sock.shutdown(std::net::Shutdown::Both);
    }

    fn take(&mut self, packet: Packet) {
        let Packet::Publish(publish) = packet else { return };
        let topic = String::from_utf8_lossy(&publish.topic).into_owned();
        self.came.push((topic, publish.payload.to_vec()));
        if publish.qos == QoS::AtLeastOnce {
            let ack = PubAck { pkid: publish.pkid, reason: PubAckReason::Success, properties: None };
            // Where the broker has hung up, the next read says so.
            let _ = self.write(&Packet::PubAck(ack));
        }
    }

    fn write(&mut self, packet: &Packet) -> Result<(), String> {
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes, None).unwrap();
        self.stream.write_all(&bytes).and_then(|()| self.stream.flush()).map_err(|error| error.to_string())
    }

    fn read(&mut self) -> Result<Packet, String> {
        loop {
            match Packet::read(&mut self.unread, Some(1 << 20)) {
                Ok(packet) => return Ok(packet),
                Err(rumqttc::Error::InsufficientBytes(_)) => {}
                Err(error) => return Err(error.to_string()),
            }
            let mut some = [0; 4096];
            match self.stream.read(&mut some) {
                Ok(0) => return Err("the broker hung up".to_string()),
                Ok(length) => self.unread.extend_from_slice(&some[..length]),
                Err(error) => return Err(error.to_string()),
            }
        }
    }
}
