//! What a broker may send, in whole and in pieces.

use super::*;
use proptest::prelude::*;

fn connack() -> Vec<u8> {
    // CONNACK, session present, success, receive maximum 5 (MQTT 5, 3.2).
    vec![0x20, 6, 1, 0, 3, 0x21, 0, 5]
}

#[test]
fn numbers_of_packets_are_not_used_twice_at_once() {
    let mut said = Said { last_packet: u16::MAX - 1, ..Said::default() };
    let numbers: Vec<u16> = (0..3)
        .map(|_| {
            let number = said.next();
            said.publishes.insert(number, (PublishId::FIRST, Quality::AtLeastOnce));
            number
        })
        .collect();
    assert_eq!(numbers, [u16::MAX, 1, 2]);
    said.last_packet = 0;
    assert_eq!(said.next(), 3);
}

proptest! {
    /// A panic here would stop results: the process ends with it (invariant I12).
    #[test]
    fn i12_no_bytes_of_a_broker_make_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), kind in any::<u8>()) {
        for bytes in [bytes.clone(), [vec![kind, bytes.len() as u8], bytes.clone()].concat()] {
            let mut unread = BytesMut::from(&bytes[..]);
            while let Ok(packet) = Packet::read(&mut unread, Some(PACKET_MAX)) {
                drop(packet);
            }
        }
    }

    #[test]
    fn i12_no_changed_packet_makes_a_panic(at in 0..40_usize, value in any::<u8>(), which in 0..4_usize) {
        let document = Document::stored(b"{}".to_vec());
        let mut bytes = BytesMut::new();
        let packet = match which {
            0 => connect_packet("bench-1", Some(("afferent/v1/acme/bench-1/up/state".to_string(), &document)), true),
            1 => {
                let properties = PublishProperties { message_expiry_interval: Some(5), ..PublishProperties::default() };
                let mut publish = Publish::new("a/b", QoS::AtLeastOnce, vec![1, 2, 3], Some(properties));
                publish.pkid = 4;
                Packet::Publish(publish)
            }
            2 => Packet::PubAck(PubAck { pkid: 3, reason: PubAckReason::NotAuthorized, properties: None }),
            _ => Packet::PingReq,
        };
        packet.write(&mut bytes, None).unwrap();
        if which == 2 {
            bytes.extend_from_slice(&connack());
        }
        let at = at % bytes.len();
        bytes[at] = value;
        while let Ok(packet) = Packet::read(&mut bytes, Some(PACKET_MAX)) {
            drop(packet);
        }
    }
}
