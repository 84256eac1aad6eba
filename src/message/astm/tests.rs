use super::*;
use proptest::prelude::*;

const RECORDS_TEXT: &str = "H|\\^&|||Unit^1\rP|1\rO|1|S1\rR|1|^^^GLU|5.10|mmol/L\rL|1|N\r";

fn frame(number: u8, text: &str, end: u8) -> Vec<u8> {
    let mut body = vec![b'0' + number];
    body.extend_from_slice(text.as_bytes());
    body.push(end);
    let sum = body.iter().fold(0u8, |sum, b| sum.wrapping_add(*b));
    let mut frame = vec![0x02];
    frame.extend_from_slice(&body);
    frame.extend_from_slice(format!("{sum:02X}\r\n").as_bytes());
    frame
}

fn shape(raw: &[u8]) -> Vec<(Kind, String, String)> {
    let reading = read(raw, None);
    reading.messages.iter().flat_map(|m| &m.records).map(|r| (r.kind, r.whole(3), r.whole(4))).collect()
}

#[test]
fn frames_bare_records_and_captures_read_alike() {
    let expected = shape(RECORDS_TEXT.as_bytes());
    assert_eq!(expected[3], (Kind::Result, "^^^GLU".into(), "5.10".into()));
    let mut one_each = vec![0x05];
    for (i, record) in RECORDS_TEXT.split_inclusive('\r').enumerate() {
        one_each.extend(frame(u8::try_from(i + 1).unwrap(), record, 0x03));
        one_each.push(0x06);
    }
    one_each.push(0x04);
    let (left, right) = RECORDS_TEXT.split_at(RECORDS_TEXT.find("GLU").unwrap() + 1);
    let cut_mid_word = [frame(1, left, 0x17), frame(2, right, 0x03)].concat();
    for other in [
        one_each,
        cut_mid_word,
        frame(1, RECORDS_TEXT, 0x03),
        RECORDS_TEXT.replace('\r', "\n").into_bytes(),
        RECORDS_TEXT.replace('\r', "\r\n").into_bytes(),
        format!("\u{feff}{RECORDS_TEXT}").into_bytes(),
        format!("\u{5}{RECORDS_TEXT}\u{4}").into_bytes(),
        RECORDS_TEXT
            .split_inclusive('\r')
            .enumerate()
            .map(|(i, r)| format!("{}{r}", i + 1))
            .collect::<String>()
            .into_bytes(),
        RECORDS_TEXT.replace("\rR|", "\rr|").replace("\rL|", "\rl|").into_bytes(),
    ] {
        assert_eq!(shape(&other), expected);
    }
}

#[test]
fn the_header_names_the_delimiters() {
    for (header, field, repeat, component, escape, sound) in [
        ("H|\\^&|", '|', '\\', '^', '&', true),
        ("H|@^\\|", '|', '@', '^', '\\', true),
        ("H!~$%!", '!', '~', '$', '%', true),
        ("H|^~\\&|", '|', '~', '^', '\\', true),
        ("H|\\\\^&|", '|', '\\', '^', '&', true),
        ("H|||", '|', '\\', '^', '&', false),
        ("H|\\^|", '|', '\\', '^', '&', false),
        ("H;;;;", ';', '\\', '^', '&', false),
        ("H|ab&|", '|', '\\', '^', '&', false),
    ] {
        assert_eq!(
            Delimiters::from_header(header),
            (Delimiters { field, repeat, component, escape }, sound),
            "{header}"
        );
    }
}

#[test]
fn escapes_are_decoded_last() {
    let raw = "H|\\^&\rR|1|^^^A&S&B|1&F&2&R&3&E&4&X41B5&5&H&6&Z9& R&D\rL|1\r";
    let reading = read(raw.as_bytes(), None);
    let result = &reading.messages[0].records[1];
    assert_eq!(result.component(3, 4), "A^B");
    assert_eq!(result.whole(4), "1|2\\3&4Aµ56&Z9& R&D");
}

#[test]
fn what_is_no_record_is_said_and_damages_the_message() {
    let reading = read(b"# note\rH|\\^&\rX|1|what\rR|1|^^^A|1\rL|1\r", None);
    assert!(reading.messages[0].damaged && reading.messages[0].ended);
    assert_eq!(reading.oddities.len(), 2);
    let headless = read(b"R|1|^^^A|1\r", None);
    assert!(headless.messages[0].damaged && !headless.messages[0].ended);
}

#[test]
fn a_frame_sent_again_counts_once_and_a_cut_one_is_said() {
    let again = [frame(1, "H|\\^&\r", 0x03), frame(2, "R|1|^^^A|1\r", 0x03), frame(2, "R|1|^^^A|1\r", 0x03)].concat();
    assert_eq!(shape(&again).len(), 2);
    let mut cut = frame(1, "H|\\^&\r", 0x03);
    cut.extend_from_slice(b"\x022R|1|^^");
    assert!(read(&cut, None).messages[0].damaged);
    cut.extend(frame(2, "R|1|^^^A|1\r", 0x03));
    let mended = read(&cut, None);
    assert!(!mended.messages[0].damaged && mended.messages[0].records.len() == 2);
}

#[test]
fn i10_records_are_bounded() {
    let raw = "R|1\r".repeat(RECORDS_MAX + 1);
    let reading = read(raw.as_bytes(), None);
    assert!(reading.cut_off && reading.messages[0].records.len() == RECORDS_MAX);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn reading_never_panics(raw in proptest::collection::vec(any::<u8>(), 0..400)) {
        let reading = read(&raw, None);
        for record in reading.messages.iter().flat_map(|m| &m.records) {
            let _ = (record.component(3, 4), record.whole(2), record.repeats(5, 1));
        }
    }
}
