//! MQTT 5 over TLS, by the packets of rumqttc.
//!
//! rumqttc writes and reads the packets; its event loop is not used. That keeps what is in flight in memory and drops it
//! when the broker has lost the session, and reconnects by itself; here each publish is acknowledged or lost by name,
//! and [`super::super::session`] decides when to dial. It also keeps some thousand lines out of a process in which a
//! panic would stop results.
//!
//! One task for each connection owns the socket and waits for nothing else: not for the disk, not for who listens. What
//! is heard goes into a bounded channel, and nothing is read from the broker while that is half full. `RECEIVE_MAX`
//! alone does not bound it: mosquitto 2.0.11 sends as many again for each acknowledgement while it has more.

use super::{Bus, Heard, PublishId, Quality, Receipt};
use crate::delivery::dial::{Stream, dial};
use crate::fleet::telemetry::Document;
use crate::tls::ClientTls;
use bytes::{Bytes, BytesMut};
use rumqttc::{
    Connect, ConnectAuth, ConnectProperties, ConnectReturnCode, Disconnect, DisconnectReasonCode, Error as PacketError,
    LastWill, LastWillProperties, Packet, PubAck, PubAckReason, Publish, PublishProperties, QoS, Subscribe,
    SubscribeFilter, SubscribeReasonCode,
};
use std::collections::HashMap;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::time::{Instant, sleep_until, timeout};

/// The broker keeps the session, and what it has for us, for this long: 7 days.
const SESSION_EXPIRY_S: u32 = 7 * 24 * 3600;
/// The broker waits this long with the will: a box that is back by then was not gone.
const WILL_DELAY_S: u32 = 15;
/// The broker takes us for gone after one and a half times this without a word.
const KEEP_ALIVE_S: u16 = 30;
/// What is published at most once is of no use after this.
const ONCE_EXPIRY_S: u32 = 120;
/// Largest packet in either direction, bytes.
const PACKET_MAX: u32 = 262_144;
/// Packets that want our acknowledgement and have none yet, at most.
const RECEIVE_MAX: u16 = 16;
/// TCP, TLS and the broker's answer take no longer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// A broker that takes nothing for this long is gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);
/// Room for what is heard: more than can be open in either direction.
const ROOM: usize = 128;
/// What is heard is answered with two packets at most: an acknowledgement, and what it asks for.
const ASKED_ROOM: usize = 4 * ROOM;
/// While no more than this is free for what is heard, nothing is read.
const ROOM_MIN: usize = ROOM / 2;
/// What is told when the broker ends a connection. It does when another client comes under the name (MQTT 5, 3.1.4), and
/// not every broker says that it was that.
const HUNG_UP: &str = "the broker hung up; when it does again and again, another box is on the bus under this one's name, \
                       as an old one is that was started again behind a restore: stop one of the two";
/// Reason code of what is larger than the broker takes (MQTT 5, 2.4).
const PACKET_TOO_LARGE: u8 = 0x95;
/// Bytes read at once.
const READ_BYTES: usize = 16 << 10;

/// Whom to dial, and as whom.
#[derive(Debug, Clone)]
pub struct Broker {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// TLS with our certificate; the files are read anew for each connection.
    pub tls: ClientTls,
    /// Client id and user name: the common name of our certificate.
    pub client_id: String,
}

/// See the module docs.
pub struct Mqtt {
    broker: Broker,
    runtime: tokio::runtime::Handle,
    asked: Option<Sender<Asked>>,
    heard: Receiver<(u64, Heard)>,
    tell: Sender<(u64, Heard)>,
    connection: u64,
    /// The connection that shall take the place of that one, and the way to it.
    rival: Option<(u64, Sender<Asked>)>,
    /// Connections dialled so far.
    dialled: u64,
}

enum Asked {
    Subscribe(String),
    Publish { id: PublishId, topic: String, payload: Bytes, quality: Quality, is_json: bool },
    Acknowledge(u16),
    Disconnect { has_said_so: bool },
}

impl Mqtt {
    /// A bus that is not connected yet. Its tasks run on `runtime`.
    pub fn new(broker: Broker, runtime: tokio::runtime::Handle) -> Mqtt {
        let (tell, heard) = mpsc::channel(ROOM);
        Mqtt { broker, runtime, asked: None, heard, tell, connection: 0, rival: None, dialled: 0 }
    }

    /// Dials for the desk, which leaves no will behind, and a session only where it `stays`.
    pub(crate) fn connect_desk(&mut self, stays: bool) {
        self.call(connect_packet(&self.broker.client_id, None, stays));
    }

    /// Publishes bytes as they are. A box says nothing but documents: this is for the desk.
    pub(crate) fn say(&mut self, id: PublishId, topic: String, payload: Bytes, quality: Quality) {
        self.ask(Asked::Publish { id, topic, payload, quality, is_json: true });
    }

    /// Dials for an edge node (Sparkplug 3.0.0, 5.4), which leaves no session behind, and its death as its will: at least
    /// once, at once, not retained.
    pub(crate) fn connect_edge(&mut self, topic: String, death: Vec<u8>) {
        let will = LastWill {
            topic: Bytes::from(topic),
            message: Bytes::from(death),
            qos: QoS::AtLeastOnce,
            retain: false,
            properties: None,
        };
        self.call(packet_with(&self.broker.client_id, Some(will), false));
    }

    /// Publishes what is no JSON, and of use however late it comes.
    pub(crate) fn say_binary(&mut self, id: PublishId, topic: String, payload: Bytes, quality: Quality) {
        self.ask(Asked::Publish { id, topic, payload, quality, is_json: false });
    }

    fn call(&mut self, connect: Packet) {
        let (connection, ask) = self.dial(self.broker.clone(), connect);
        (self.connection, self.asked, self.rival) = (connection, Some(ask), None);
    }

    fn dial(&mut self, broker: Broker, connect: Packet) -> (u64, Sender<Asked>) {
        self.dialled += 1;
        let (ask, asked) = mpsc::channel(ASKED_ROOM);
        let ear = Ear { connection: self.dialled, tell: self.tell.clone() };
        self.runtime.spawn(async move {
            let why = match converse(&broker, connect, asked, &ear).await {
                Ok(()) => String::new(),
                Err(why) => why,
            };
            let _ = ear.tell.send((ear.connection, Heard::Lost(why))).await;
        });
        (self.dialled, ask)
    }

    /// What is heard of the rival: until it is let in, that it is or is not.
    fn of_rival(&mut self, connection: u64, heard: Heard) -> Option<Heard> {
        let (_, ask) = self.rival.take_if(|(rival, _)| *rival == connection)?;
        match heard {
            Heard::Connected { session_present, in_flight_max, .. } => {
                (self.connection, self.asked) = (connection, Some(ask));
                Some(Heard::Switched { session_present, in_flight_max })
            }
            Heard::Lost(why) => Some(Heard::NotSwitched(why)),
            // Nothing is heard before one of them.
            _ => None,
        }
    }

    /// A full channel means that the broker takes nothing. The connection ends then: an acknowledgement that is left out
    /// would keep the broker from ever sending what waits behind it.
    fn ask(&mut self, asked: Asked) {
        if self.asked.as_ref().is_some_and(|to| to.try_send(asked).is_err()) {
            self.asked = None;
        }
    }
}

impl Bus for Mqtt {
    fn connect(&mut self, will_topic: String, will: Document) {
        self.call(connect_packet(&self.broker.client_id, Some((will_topic, &will)), true));
    }

    fn switch(&mut self, tls: ClientTls, will_topic: String, will: Document) {
        let broker = Broker { tls, ..self.broker.clone() };
        let connect = connect_packet(&broker.client_id, Some((will_topic, &will)), true);
        self.rival = Some(self.dial(broker, connect));
    }

    fn subscribe(&mut self, filter: String) {
        self.ask(Asked::Subscribe(filter));
    }

    fn publish(&mut self, id: PublishId, topic: String, document: Document, quality: Quality) {
        self.say(id, topic, Bytes::copy_from_slice(document.bytes()), quality);
    }

    fn acknowledge(&mut self, receipt: Receipt) {
        if receipt.connection == self.connection && receipt.packet != 0 {
            self.ask(Asked::Acknowledge(receipt.packet));
        }
    }

    fn disconnect(&mut self, has_said_so: bool) {
        self.ask(Asked::Disconnect { has_said_so });
    }

    async fn heard(&mut self) -> Heard {
        loop {
            match self.heard.recv().await {
                Some((connection, heard)) if connection == self.connection => return heard,
                Some((connection, heard)) => {
                    if let Some(heard) = self.of_rival(connection, heard) {
                        return heard;
                    }
                }
                // We hold a sender ourselves: this cannot come.
                None => std::future::pending::<()>().await,
            }
        }
    }
}

/// Who listens to a connection.
struct Ear {
    connection: u64,
    tell: Sender<(u64, Heard)>,
}

impl Ear {
    fn has_room(&self) -> bool {
        self.tell.capacity() > ROOM_MIN
    }

    /// Waits until who listens has made room.
    async fn room(&self) {
        let _ = self.tell.reserve_many(ROOM_MIN + 1).await;
    }

    fn tell(&self, heard: Heard) -> Result<(), String> {
        let told = self.tell.try_send((self.connection, heard));
        told.map_err(|_| "the fleet is too slow for what the broker says".to_string())
    }
}

/// One connection, from dialling to its end. An error is why it ended.
async fn converse(broker: &Broker, connect: Packet, mut asked: Receiver<Asked>, ear: &Ear) -> Result<(), String> {
    let mut line =
        timeout(CONNECT_TIMEOUT, open(broker, &connect)).await.map_err(|_| "the broker does not answer")??;
    let (session_present, in_flight_max, ends_s) = (line.session_present, line.in_flight_max, line.ends_s);
    ear.tell(Heard::Connected { session_present, in_flight_max, ends_s })?;
    let mut said = Said::default();
    loop {
        // False only when packets may be left that were read already.
        let has_room = loop {
            match ear.has_room() {
                false => break false,
                true => match line.next_packet()? {
                    Some(packet) => line.heard(packet, &mut said, ear).await?,
                    None => break true,
                },
            }
        };
        let deadline = line.deadline();
        tokio::select! {
            () = ear.room(), if !has_room => continue,
            read = line.stream.read_buf(&mut line.unread), if has_room => match read {
                Ok(0) => return Err(HUNG_UP.to_string()),
                Ok(_) => line.last_heard = Instant::now(),
                Err(error) => return Err(format!("the connection broke: {}", error.kind())),
            },
            next = asked.recv() => match next {
                Some(Asked::Disconnect { has_said_so }) => return line.hang_up(has_said_so).await,
                Some(asked) => line.ask(asked, &mut said, ear).await?,
                // The bus was dropped: the process ends.
                None => return Ok(()),
            },
            () = sleep_until(deadline) => line.keep_alive().await?,
        }
        line.unread.reserve(READ_BYTES);
    }
}

/// Dials and is let in.
async fn open(broker: &Broker, connect: &Packet) -> Result<Line, String> {
    let dialled = dial(&broker.host, broker.port, Some(&broker.tls)).await?;
    let now = Instant::now();
    let mut line = Line {
        stream: dialled.stream,
        ends_s: dialled.peer_ends_s,
        unread: BytesMut::with_capacity(READ_BYTES),
        session_present: false,
        in_flight_max: usize::from(u16::MAX),
        packet_max: PACKET_MAX,
        keep_alive: Duration::from_secs(KEEP_ALIVE_S.into()),
        last_heard: now,
        last_said: now,
    };
    line.write(connect).await?;
    loop {
        if let Some(packet) = line.next_packet()? {
            let Packet::ConnAck(answer) = packet else {
                return Err("the broker does not speak MQTT 5".to_string());
            };
            if answer.code != ConnectReturnCode::Success {
                return Err(format!("the broker refuses us: {:?}", answer.code));
            }
            line.session_present = answer.session_present;
            if let Some(properties) = answer.properties {
                line.in_flight_max = properties.receive_max.map_or(line.in_flight_max, usize::from);
                line.packet_max = properties.max_packet_size.unwrap_or(PACKET_MAX).min(PACKET_MAX);
                if let Some(seconds) = properties.server_keep_alive.filter(|seconds| *seconds > 0) {
                    line.keep_alive = Duration::from_secs(seconds.into());
                }
            }
            return Ok(line);
        }
        match line.stream.read_buf(&mut line.unread).await {
            Ok(0) => return Err("the broker hangs up; does it take our certificate?".to_string()),
            Ok(_) => {}
            Err(error) => return Err(crate::tls::failure(&error).to_string()),
        }
    }
}

/// An open connection.
struct Line {
    stream: Box<dyn Stream>,
    ends_s: Option<i64>,
    unread: BytesMut,
    session_present: bool,
    in_flight_max: usize,
    packet_max: u32,
    keep_alive: Duration,
    last_heard: Instant,
    last_said: Instant,
}

/// What was said and is not acknowledged.
#[derive(Default)]
struct Said {
    last_packet: u16,
    publishes: HashMap<u16, (PublishId, Quality)>,
    /// What was subscribed to.
    filters: HashMap<u16, String>,
}

impl Said {
    /// A packet number that is not in use; the session keeps fewer open than there are.
    fn next(&mut self) -> u16 {
        loop {
            self.last_packet = self.last_packet.checked_add(1).unwrap_or(1);
            if !self.publishes.contains_key(&self.last_packet) && !self.filters.contains_key(&self.last_packet) {
                return self.last_packet;
            }
        }
    }
}

impl Line {
    /// The next whole packet of what was read.
    fn next_packet(&mut self) -> Result<Option<Packet>, String> {
        match Packet::read(&mut self.unread, Some(PACKET_MAX)) {
            Ok(packet) => Ok(Some(packet)),
            Err(PacketError::InsufficientBytes(_)) => Ok(None),
            Err(error) => Err(format!("the broker sends what is no MQTT 5: {error}")),
        }
    }

    async fn heard(&mut self, packet: Packet, said: &mut Said, ear: &Ear) -> Result<(), String> {
        match packet {
            Packet::PubAck(ack) => {
                let Some((id, quality)) = said.publishes.remove(&ack.pkid) else { return Ok(()) };
                match ack.reason {
                    PubAckReason::Success => ear.tell(Heard::Acknowledged(id)),
                    PubAckReason::NoMatchingSubscribers if quality != Quality::UntilHeard => {
                        ear.tell(Heard::Acknowledged(id))
                    }
                    reason => ear.tell(Heard::Refused(id, reason as u8)),
                }
            }
            Packet::Publish(publish) => {
                let receipt = Receipt::new(ear.connection, publish.pkid);
                let receipt = if publish.retain { receipt.kept() } else { receipt };
                let topic = String::from_utf8_lossy(&publish.topic).into_owned();
                let heard = Heard::Received { topic, payload: publish.payload.to_vec(), receipt };
                match publish.qos {
                    // It was sent on the understanding that it may be lost.
                    QoS::AtMostOnce => ear.tell(heard).or(Ok(())),
                    QoS::AtLeastOnce => ear.tell(heard),
                    QoS::ExactlyOnce => Err("the broker sends what nobody subscribed to".to_string()),
                }
            }
            Packet::SubAck(ack) => {
                let is_granted = |code: &SubscribeReasonCode| matches!(code, SubscribeReasonCode::Success(_));
                let filter = said.filters.remove(&ack.pkid).unwrap_or_default();
                if ack.return_codes.iter().all(is_granted) { Ok(()) } else { ear.tell(Heard::Unheard(filter)) }
            }
            Packet::PingResp => Ok(()),
            Packet::Disconnect(Disconnect { reason_code: DisconnectReasonCode::SessionTakenOver, .. }) => {
                Err(HUNG_UP.to_string())
            }
            Packet::Disconnect(disconnect) => Err(format!("the broker ends it: {:?}", disconnect.reason_code)),
            _ => Err("the broker sends what a client does not take".to_string()),
        }
    }

    async fn ask(&mut self, asked: Asked, said: &mut Said, ear: &Ear) -> Result<(), String> {
        match asked {
            Asked::Subscribe(path) => {
                let pkid = said.next();
                said.filters.insert(pkid, path.clone());
                let filter = SubscribeFilter { path, qos: QoS::AtLeastOnce, ..SubscribeFilter::default() };
                let subscribe = Subscribe { pkid, filters: vec![filter], properties: None };
                self.write(&Packet::Subscribe(subscribe)).await
            }
            Asked::Publish { id, topic, payload, quality, is_json } => {
                let is_once = quality == Quality::AtMostOnce;
                let pkid = if is_once { 0 } else { said.next() };
                let publish = Publish {
                    dup: false,
                    qos: if is_once { QoS::AtMostOnce } else { QoS::AtLeastOnce },
                    retain: quality == Quality::Retained,
                    topic: Bytes::from(topic),
                    pkid,
                    payload,
                    properties: Some(PublishProperties {
                        message_expiry_interval: (is_once && is_json).then_some(ONCE_EXPIRY_S),
                        content_type: is_json.then(|| "application/json".to_string()),
                        ..PublishProperties::default()
                    }),
                };
                let packet = Packet::Publish(publish);
                if packet.size() > self.packet_max as usize {
                    // Sent nevertheless it would end the connection, and the next.
                    return if is_once { Ok(()) } else { ear.tell(Heard::Refused(id, PACKET_TOO_LARGE)) };
                }
                if !is_once {
                    said.publishes.insert(pkid, (id, quality));
                }
                self.write(&packet).await
            }
            Asked::Acknowledge(pkid) => {
                let ack = PubAck { pkid, reason: PubAckReason::Success, properties: None };
                self.write(&Packet::PubAck(ack)).await
            }
            Asked::Disconnect { has_said_so } => self.hang_up(has_said_so).await,
        }
    }

    async fn hang_up(&mut self, has_said_so: bool) -> Result<(), String> {
        let reason_code = match has_said_so {
            true => DisconnectReasonCode::NormalDisconnection,
            false => DisconnectReasonCode::DisconnectWithWillMessage,
        };
        self.write(&Packet::Disconnect(Disconnect { reason_code, properties: None })).await?;
        let _ = timeout(WRITE_TIMEOUT, self.stream.shutdown()).await;
        Ok(())
    }

    /// When something has to be said, or the broker is taken for gone.
    fn deadline(&self) -> Instant {
        let ping = self.last_said.min(self.last_heard) + self.keep_alive * 2 / 3;
        // A ping that was said just now is given time to be answered.
        ping.max(self.last_said + self.keep_alive / 3).min(self.last_heard + self.keep_alive * 3 / 2)
    }

    async fn keep_alive(&mut self) -> Result<(), String> {
        if self.last_heard.elapsed() >= self.keep_alive * 3 / 2 {
            return Err("the broker does not answer any more".to_string());
        }
        self.write(&Packet::PingReq).await
    }

    async fn write(&mut self, packet: &Packet) -> Result<(), String> {
        let mut bytes = BytesMut::new();
        packet
            .write(&mut bytes, Some(self.packet_max))
            .map_err(|error| format!("cannot be said in MQTT 5: {error}"))?;
        let write = async {
            self.stream.write_all(&bytes).await?;
            self.stream.flush().await
        };
        let written = timeout(WRITE_TIMEOUT, write).await.map_err(|_| "the broker takes nothing".to_string())?;
        self.last_said = Instant::now();
        written.map_err(|error| format!("the connection broke: {}", error.kind()))
    }
}

/// The session of a box, and of a desk that notes events, waits for it (`stays`); another desk asks for all it needs when
/// it comes. A box leaves a will.
fn connect_packet(client_id: &str, will: Option<(String, &Document)>, stays: bool) -> Packet {
    let will = will.map(|(topic, will)| LastWill {
        topic: Bytes::from(topic),
        message: Bytes::copy_from_slice(will.bytes()),
        qos: QoS::AtLeastOnce,
        retain: true,
        properties: Some(LastWillProperties {
            delay_interval: Some(WILL_DELAY_S),
            payload_format_indicator: None,
            message_expiry_interval: None,
            content_type: Some("application/json".to_string()),
            response_topic: None,
            correlation_data: None,
            user_properties: Vec::new(),
        }),
    });
    packet_with(client_id, will, stays)
}

fn packet_with(client_id: &str, will: Option<LastWill>, stays: bool) -> Packet {
    let connect = Connect {
        keep_alive: KEEP_ALIVE_S,
        client_id: client_id.to_string(),
        clean_start: !stays,
        properties: Some(ConnectProperties {
            session_expiry_interval: Some(if stays { SESSION_EXPIRY_S } else { 0 }),
            receive_maximum: Some(RECEIVE_MAX),
            max_packet_size: Some(PACKET_MAX),
            ..ConnectProperties::new()
        }),
    };
    Packet::Connect(connect, will, ConnectAuth::Username { username: client_id.to_string() })
}

#[cfg(test)]
mod tests;
