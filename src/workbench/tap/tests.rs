use super::*;
use crate::wire::astm::encode_frame;

const RECORDS: &[u8] = b"H|\\^&|||ACME^1|||||||P\rP|1|MRN77|||DOE^JANE||19700101|F\rO|1|SPEC55^A|7^2|^^^GLU\rR|1|^^^GLU|5.0|mmol/L\rC|1|I|call Dr Roe\rL|1|N\r";

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// The text of all runs together, however the bytes were split.
fn text(protocol: Protocol, bytes: &[u8], split: usize, reveal: bool) -> String {
    let mut view = View::new(protocol, reveal);
    bytes.chunks(split).map(|run| view.show(Side::Instrument, run, ms(0)).text).collect()
}

#[test]
fn i8_patient_fields_are_masked_in_every_split_and_over_frame_ends() {
    let (first, second) = RECORDS.split_at(45);
    for frames in [
        vec![encode_frame(1, RECORDS, true)],
        // The cut is inside the patient record: what follows belongs to it.
        vec![encode_frame(1, first, false), encode_frame(2, second, true)],
    ] {
        let bytes = [vec![ENQ], frames.concat(), vec![EOT]].concat();
        let whole = text(Protocol::Astm, &bytes, usize::MAX, false);
        for secret in ["MRN77", "DOE", "JANE", "1970", "SPEC55", "Roe", "77", "55"] {
            assert!(!whole.contains(secret), "{secret} in {whole}");
        }
        for shown in ["ACME^1", "^^^GLU|5.0|mmol/L", "L|1|N", "<ENQ>", "<EOT>", "O|1|******^*|*^*|"] {
            assert!(whole.contains(shown), "no {shown} in {whole}");
        }
        for split in 1..9 {
            assert_eq!(text(Protocol::Astm, &bytes, split, false), whole, "split {split}");
        }
        assert_eq!(text(Protocol::Astm, &bytes, 3, true), spell(&bytes));
    }
}

#[test]
fn i8_a_bad_line_shows_no_patient() {
    let resend = b"E^JANE||19700101\rR|1|^^^GLU|5";
    let first = encode_frame(1, b"H|\\^&\rP|1||MRN77||DO", false);
    let second = encode_frame(2, resend, false);
    for (what, line) in [
        ("a frame that lost its STX", b"\x05\x021H|\\^&\r\x0300\r\n2P|1||MRN77||DOE^JANE\rO|1|SPEC55\r\x03".to_vec()),
        ("records without frames", b"\x05P|1||MRN77||DOE^JANE\rO|1|SPEC55\r".to_vec()),
        ("a frame that comes again", [&b"\x05"[..], &first, &second, &second].concat()),
        ("a view that begins between two frames", second.clone()),
        ("a delimiter nobody announced", b"\x05\x021O!1!SPEC55!7^2!^^^GLU\rP!1!!MRN77\r\x03".to_vec()),
        ("a line that looks like a header", b"\x05\x021Hello\rP|1||MRN77\r\x03".to_vec()),
        ("free text with a bar in it", b"\x05\x021H|\\^&\rC|1|I|call|re JANE DOE\r\x03".to_vec()),
        ("a record nobody knows", b"\x05\x021H|\\^&\rZ|1|DOE\rS|JANE\rp|1||MRN77\r\x03".to_vec()),
        ("a last frame without its CR", b"\x05\x021R|1|^^^GLU|5\x0300\r\n\x022P|1||MRN77\r\x03".to_vec()),
        ("a line feed in a field", b"\x05\x021H|\\^&\rR|1|^^^GLU|5\nDoe JANE 19700101\r\x03".to_vec()),
    ] {
        for split in [usize::MAX, 1, 3] {
            let shown = text(Protocol::Astm, &line, split, false);
            for secret in ["MRN", "DOE", "oe", "JANE", "1970", "SPEC", "55"] {
                assert!(!shown.contains(secret), "{what}: {secret} in {shown}");
            }
        }
    }
}

#[test]
fn i8_hl7_that_nobody_knows_shows_no_patient() {
    let message = b"\x0bMSH|^~\\&|ACME\rMRG|MRN77^^^H\rGT1|1||DOE^JOHN\rZPI|1|DOE^JANE\rPD1|||X|DOE\r\
        OBX|1|TX|GLU^Glucose^L||seen by DOE\x04|\rPID|1||MRN77||DOE^JANE\rMSA|AA|17|not for DOE\r\x1c\r";
    for split in [usize::MAX, 1, 5] {
        let shown = text(Protocol::Hl7, message, split, false);
        for secret in ["MRN77", "DOE", "JANE", "JOHN", "seen"] {
            assert!(!shown.contains(secret), "{secret} in {shown}");
        }
        assert!(shown.contains("OBX|1|TX|GLU^Glucose^L||") && shown.contains("MSA|AA|17|"), "{shown}");
    }
}

#[test]
fn i8_poct1a_shows_names_and_no_values() {
    let message = b"<OBS.R01><HDR><HDR.control_id V=\"17\"/></HDR><PT><PT.patient_id V=\"MRN77\"/>\
        <PT.name V='DOE'><FAM V=\"O'DOE\"/></PT.name>DOE</PT></OBS.R01>";
    for split in [usize::MAX, 1, 4] {
        for begun in [0, 75] {
            let shown = text(Protocol::Poct1a, &message[begun..], split, false);
            for secret in ["MRN77", "DOE", "17"] {
                assert!(!shown.contains(secret), "{secret} in {shown}");
            }
            assert!(shown.contains("<LT>FAM V=\"") && shown.contains("<LT>/PT.name>"), "{shown}");
        }
    }
}

#[test]
fn i8_hl7_segments_are_masked_by_their_own_count_of_fields() {
    let message = b"\x0bMSH|^~\\&|ACME|LAB||H|20260301||ORU^R01|17|P|2.5.1\rPID|1||MRN77^^^H||DOE^JANE\rOBR|1|ORD9|FIL9|GLU^Glucose^L\rOBX|1|NM|GLU^Glucose^L||5.0|mmol/L\rNTE|1||see Dr Roe\r\x1c\r";
    let shown = text(Protocol::Hl7, message, 4, false);
    for secret in ["MRN77", "DOE", "ORD9", "FIL9", "Roe"] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
    for open in ["ORU^R01|17|P|2.5.1", "GLU^Glucose^L||5.0|mmol/L", "OBR|1|****|****|GLU"] {
        assert!(shown.contains(open), "no {open} in {shown}");
    }
}

#[test]
fn i8_a_view_that_begins_in_the_middle_shows_nothing_until_a_record_begins() {
    let shown = text(Protocol::Astm, b"77|DOE^JANE|1970\rR|1|^^^GLU|5.0\r", 2, false);
    assert_eq!(shown, "**|***^****|****<CR>R|1|^^^GLU|5.0<CR>");
}

#[test]
fn a_verdict_says_what_was_wrong_and_what_we_answered() {
    let mut view = View::new(Protocol::Astm, false);
    let mut bad = encode_frame(3, b"R|1|^^^GLU|5.0\r", true);
    let sum = bad.len() - 4;
    let right = String::from_utf8(bad[sum..sum + 2].to_vec()).unwrap();
    bad[sum..sum + 2].copy_from_slice(b"00");
    let heard = view.show(Side::Instrument, &bad, ms(10));
    assert_eq!((heard.sums, heard.remarks.len()), (vec![false], 0));
    let answered = view.show(Side::Gateway, &[NAK], ms(12));
    assert_eq!(answered.remarks, [format!("frame 3: checksum 00, expected {right}, NAK sent after 2.0 ms")]);

    let heard = view.show(Side::Instrument, &encode_frame(3, b"R|1|^^^GLU|5.0\r", true), ms(20));
    assert_eq!(heard.sums, [true]);
    let answered = view.show(Side::Gateway, &[ACK], ms(21));
    assert_eq!(answered.remarks, [format!("frame 3: checksum {right} is right, ACK sent after 1.0 ms")]);
}

#[test]
fn a_verdict_names_the_wrong_way_to_sum_that_was_used() {
    let mut view = View::new(Protocol::Astm, false);
    view.show(Side::Instrument, "\u{2}1C|1|\u{b5}\r\u{3}62\r\n".as_bytes(), ms(0));
    let answered = view.show(Side::Gateway, &[NAK], ms(1));
    let told =
        "frame 1: checksum 62, expected 24 (checksum fits a sum over characters, not bytes), NAK sent after 1.0 ms";
    assert_eq!(answered.remarks, [told]);
}

/// What a tap hears of these frames, each answered, in reads of this length.
fn tapped(frames: &[(Vec<u8>, u8)], split: usize) -> Vec<Tapped> {
    let mut view = View::new(Protocol::Astm, false);
    let mut passed = Vec::new();
    let mut at_ms = 0;
    let mut run = |view: &mut View, side, bytes: &[u8]| {
        at_ms += 10;
        let shown = view.show(side, bytes, ms(at_ms));
        passed.push(Tapped { link: "a".into(), connection: 1, at_ms: at_ms as i64, side, shown, missed: 0 });
    };
    run(&mut view, Side::Instrument, &[ENQ]);
    run(&mut view, Side::Gateway, &[ACK]);
    for (frame, answer) in frames {
        frame.chunks(split).for_each(|bytes| run(&mut view, Side::Instrument, bytes));
        run(&mut view, Side::Gateway, &[*answer]);
    }
    run(&mut view, Side::Instrument, &[EOT]);
    passed
}

#[test]
fn a_capture_replays_in_every_split_of_the_tap() {
    let mut bad = encode_frame(1, RECORDS, true);
    let sum = bad.len() - 4;
    bad[sum..sum + 2].copy_from_slice(b"0z");
    let good = encode_frame(1, RECORDS, true);
    for split in (1..12).chain([usize::MAX]) {
        let text = capture(&tapped(&[(bad.clone(), NAK), (good.clone(), ACK)], split));
        assert!(!text.contains("MRN77") && text.matches("<CS>").count() == 1, "split {split}: {text}");
        let replayed = crate::sim::replay::replay(&parse(&text).unwrap(), Protocol::Astm, usize::MAX);
        assert!(replayed.mismatches.is_empty(), "split {split}: {:?}\n{text}", replayed.mismatches);
        assert_eq!(replayed.entries().len(), 1);
    }
}

#[test]
fn an_hl7_answer_is_told_by_its_code() {
    let mut view = View::new(Protocol::Hl7, false);
    view.show(Side::Instrument, b"\x0bMSH|^~\\&|A\r\x1c\r", ms(0));
    let answered = view.show(Side::Gateway, b"\x0bMSH|^~\\&|GW\rMSA|AE|17\r\x1c\r", ms(3));
    assert_eq!(answered.remarks, ["message answered AE after 3.0 ms"]);
}

#[test]
fn garbage_of_any_kind_is_only_shown() {
    let mut view = View::new(Protocol::Astm, false);
    let bytes: Vec<u8> = (0..=255).cycle().take(70_000).collect();
    for run in bytes.chunks(977) {
        view.show(Side::Instrument, run, ms(0));
        view.show(Side::Gateway, run, ms(0));
    }
    assert!(view.frame.body.len() <= FRAME_MAX + 1);
}
