//! Bad input: the protocol's own refusal, a counter and a log line with link and reason, and never a word of the input
//! in the log.

use afferent::wire::astm::{ACK, CR, ENQ, EOT, ETX, LF, NAK, STX, encode_frame};
use afferent::wire::mllp::{self, FS, VT};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::rig::{Rig, Served, code, free_port, link, listen, local, oru, read_message, until};

/// What no log may hold: it is in everything these tests send, good or bad.
const CANARIES: [&str; 6] = ["CANARY-7", "PT-CANARY", "DOE", "JANE", "19700101", "77.3125"];
const RECORD: &[u8] = b"P|1||PT-CANARY||DOE^JANE||19700101|F\rO|1|CANARY-7||||||||N\rR|1|2345-7|77.3125|mg/dL\r";

/// One conversation of an ASTM sender that goes wrong: what it sends after `ENQ`, what it must be answered, and why.
struct Wrong {
    sends: Vec<u8>,
    answer: Option<u8>,
    reason: &'static str,
}

fn wrong(sends: Vec<u8>, answer: Option<u8>, reason: &'static str) -> Wrong {
    Wrong { sends, answer, reason }
}

fn astm_mistakes() -> Vec<Wrong> {
    let good = encode_frame(1, RECORD, true);
    let mut bad_sum = good.clone();
    bad_sum[10] ^= 1;
    let unnumbered = {
        let body = [b"x", RECORD, &[ETX]].concat();
        let sum = body.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        [&[STX], body.as_slice(), format!("{sum:02X}").as_bytes(), &[CR, LF]].concat()
    };
    let enq_inside = [&good[..20], &[ENQ], &good[20..]].concat();
    vec![
        wrong(bad_sum, Some(NAK), "bad checksum"),
        wrong(encode_frame(4, RECORD, true), Some(NAK), "frame number out of order"),
        wrong(unnumbered, Some(NAK), "no frame number"),
        wrong(enq_inside, Some(NAK), "control character inside a frame"),
        wrong(encode_frame(1, &RECORD.repeat(1000), true), Some(NAK), "frame over the limit"),
        wrong(RECORD.to_vec(), None, "noise between frames"),
        wrong(good[..40].to_vec(), None, "the line went away inside a frame"),
        wrong([&[EOT], good.as_slice()].concat(), None, "frame outside a session"),
    ]
}

/// One HL7 message that goes wrong: the bytes, MSA-1 of the answer, and why.
fn hl7_mistakes() -> Vec<(Vec<u8>, Option<&'static str>, &'static str)> {
    let message = oru("CANARY-7", "CANARY-7", "77.3125");
    let headless = message[message.iter().position(|byte| *byte == CR).unwrap() + 1..].to_vec();
    let anonymous = oru("", "CANARY-7", "77.3125");
    let endless_header =
        [b"MSH|^~\\&|".as_slice(), &b"CANARY-7".repeat(1000), b"|LAB|||||ORU^R01|1|P|2.5.1\r"].concat();
    let begun_twice = [&[VT], &message[..60], &mllp::frame(&message)].concat();
    vec![
        (mllp::frame(&headless), Some("AR"), "no MSH"),
        (mllp::frame(&anonymous), Some("AE"), "no MSH-10"),
        (mllp::frame(&endless_header), Some("AR"), "MSH too long"),
        (begun_twice, Some("AA"), "a message began before the last one ended"),
        ([b"CANARY-7 DOE".as_slice(), &mllp::frame(&message)].concat(), Some("AA"), "bytes between messages"),
        (vec![VT, FS, CR], None, "empty message"),
        ([&[VT], &message[..100]].concat(), None, "the line went away inside a message"),
    ]
}

async fn counted(served: &Served, link: &str, reason: &str) {
    until(&format!("{link} counts: {reason}"), || served.counted(link, reason) >= 1).await;
    let log = served.log();
    let told = |line: &str| line.contains(reason) && line.contains(link);
    assert!(log.lines().any(told), "a log line names {link} and: {reason}\n{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_refused_counted_and_logged_without_a_word_of_it() {
    let rig = Rig::new().await;
    let (astm, hl7) = (free_port(), free_port());
    let served = rig.child(&[link("bench", "astm", &listen(astm)), link("ward", "hl7", &listen(hl7))].concat()).await;

    for mistake in astm_mistakes() {
        let mut line = TcpStream::connect(local(astm)).await.unwrap();
        line.write_all(&[ENQ]).await.unwrap();
        assert_eq!(line.read_u8().await.unwrap(), ACK);
        line.write_all(&mistake.sends).await.unwrap();
        if let Some(answer) = mistake.answer {
            assert_eq!(line.read_u8().await.unwrap(), answer, "{}", mistake.reason);
            // The line is usable at once: the same session, a good frame.
            line.write_all(&encode_frame(1, b"H|\\^&\r", true)).await.unwrap();
            assert_eq!(line.read_u8().await.unwrap(), ACK, "{}", mistake.reason);
        }
        drop(line);
        counted(&served, "bench", mistake.reason).await;
    }
    for (bytes, answer, reason) in hl7_mistakes() {
        let mut line = TcpStream::connect(local(hl7)).await.unwrap();
        // The gateway may close before it has read everything.
        let _ = line.write_all(&bytes).await;
        if let Some(wanted) = answer {
            let answer = read_message(&mut line).await.expect("an answer");
            assert_eq!(code(&answer), wanted, "{reason}");
            let explained = String::from_utf8_lossy(&answer).contains("\rERR|");
            assert_eq!(explained, wanted != "AA", "{reason}: a refusal says why in ERR");
            line.write_all(&mllp::frame(&oru("CANARY-7", "CANARY-7", "77.3125"))).await.unwrap();
            assert_eq!(code(&read_message(&mut line).await.unwrap()), "AA", "{reason}: the line is usable at once");
        }
        drop(line);
        counted(&served, "ward", reason).await;
    }

    // What was good among it reaches the chart; what the log says about all of it names nobody.
    until("the good message is in the chart", || !rig.chart().is_empty()).await;
    let log = served.log();
    assert!(log.lines().count() > 10, "the log says something");
    for canary in CANARIES {
        assert!(!log.contains(canary), "{canary} is in the log");
    }
}
