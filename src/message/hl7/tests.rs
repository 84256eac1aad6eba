use super::*;
use proptest::prelude::*;

const GOOD: &str =
    "MSH|^~\\&|LAB|X|||20260101||ORU^R01|1|P|2.5.1\rPID|1||7^^^H^MR\rOBR|1\rOBX|1|NM|718-7^Hgb^LN||8.0|g/dL\r";

fn one(raw: &[u8]) -> Message {
    let mut messages = read(raw, None).messages;
    assert_eq!(messages.len(), 1);
    messages.remove(0)
}

fn shape(message: &Message) -> Vec<(String, String, String)> {
    message.segments.iter().map(|s| (s.name.clone(), s.whole(1), s.whole(5))).collect()
}

#[test]
fn line_ends_marks_blanks_and_framing_change_nothing() {
    let expected = shape(&one(GOOD.as_bytes()));
    assert_eq!(expected[3], ("OBX".into(), "1".into(), "8.0".into()));
    let lf = GOOD.replace('\r', "\n");
    for other in [
        lf.clone(),
        GOOD.replace('\r', "\r\n"),
        GOOD.replace('\r', "\r\r\n\n"),
        GOOD.replace('\r', "\r  "),
        format!("\u{feff}{GOOD}"),
        format!("\n\n{lf}"),
        format!("\u{b}{GOOD}\u{1c}\r"),
        GOOD.trim_end().to_string(),
    ] {
        let message = one(other.as_bytes());
        assert!(!message.unreadable, "{other:?}");
        assert_eq!(shape(&message), expected, "{other:?}");
    }
}

#[test]
fn a_segment_the_parser_would_stop_at_loses_nothing() {
    for (odd, unreadable) in
        [("NTE\r", false), ("nte|1\r", false), ("ZZ|1\r", true), ("OBXX|1\r", true), ("free text\r", true)]
    {
        let raw = GOOD.replacen("OBR", &format!("{odd}OBR"), 1);
        let message = one(raw.as_bytes());
        assert_eq!(message.unreadable, unreadable, "{odd:?}");
        assert_eq!(message.segments.iter().filter(|s| s.name == "OBX").count(), 1, "{odd:?}");
        assert_eq!(message.segments.last().unwrap().whole(5), "8.0", "{odd:?}");
    }
}

#[test]
fn five_characters_in_msh_2_shift_nothing() {
    let message = one(GOOD.replacen("^~\\&|", "^~\\&#|", 1).as_bytes());
    assert!(!message.unreadable);
    let msh = message.msh().unwrap();
    assert_eq!((msh.whole(3), msh.component(9, 2, None)), ("LAB".into(), "R01".into()));
}

#[test]
fn unusable_separators_are_said() {
    for msh2 in ["", "^~", "^^^^", "^~\\&#x"] {
        assert!(one(GOOD.replacen("^~\\&", msh2, 1).as_bytes()).unreadable, "{msh2}");
    }
}

#[test]
fn escapes_lose_no_text() {
    let decode = |text: &str| escape::decode(text, Separators::default(), None);
    for (sent, meant) in [
        ("a\\F\\b\\S\\c\\T\\d\\R\\e\\E\\f", "a|b^c&d~e\\f"),
        ("\\X41\\\\X4a\\", "AJ"),
        ("\\XC2B5\\g", "µg"),
        ("a\\.br\\b\\.sp2\\c\\H\\d\\N\\e", "a\nb\ncde"),
        ("C:\\path", "C:\\path"),
        ("\\Zabc\\ \\X4\\ \\Xzz\\", "\\Zabc\\ \\X4\\ \\Xzz\\"),
        ("1\\", "1\\"),
        ("\\.inside", "\\.inside"),
        ("a\\\\b", "a\\\\b"),
    ] {
        assert_eq!(decode(sent), meant, "{sent}");
    }
}

#[test]
fn msh_18_goes_before_the_link_and_unknown_sets_are_said() {
    let message = |set: &str| format!("MSH|^~\\&|A||||||ORU^R01|1|P|2.5.1||||||{set}\rOBX|1|ST|X||\u{1}").into_bytes();
    let with = |set: &str, bytes: &[u8]| {
        let mut raw = message(set);
        raw.pop();
        raw.extend_from_slice(bytes);
        raw
    };
    let read_one = |raw: Vec<u8>, link| read(&raw, link).messages.remove(0);
    let latin = read_one(with("8859/1", b"\xb5g"), Charset::named("utf-8"));
    assert!(latin.clean && latin.segments[1].whole(5) == "µg");
    let linked = read_one(with("", b"\xb5g"), Charset::named("latin-1"));
    assert!(linked.clean && linked.segments[1].whole(5) == "µg");
    assert!(!read_one(with("", b"\xb5g"), None).clean);
    assert!(!read_one(with("KLINGON", b"x"), None).clean);
}

#[test]
fn a_huge_run_of_separators_is_read_without_a_tree() {
    let raw = format!("{}OBX|1|NM|x||5{}\r", GOOD, "|".repeat(TREE_DELIMITERS_MAX + 1));
    let message = one(raw.as_bytes());
    assert!(message.unreadable);
    assert_eq!(message.segments.last().unwrap().whole(5), "5");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    /// However a message is mangled, every line of it comes back as a segment or the message is not one at all.
    #[test]
    fn i7_no_line_is_lost(cuts in proptest::collection::vec((0usize..140, any::<u8>()), 0..6)) {
        let mut raw = GOOD.as_bytes().to_vec();
        for (at, byte) in cuts {
            let at = at % raw.len();
            raw[at] = byte;
        }
        let reading = read(&raw, Charset::named("latin-1"));
        let lines = reading.messages.iter().map(|m| m.segments.len()).sum::<usize>();
        let text = String::from_utf8_lossy(&raw).replace(['\u{b}', '\u{1c}', '\n'], "\r");
        let all = text.split('\r').filter(|l| l.chars().any(|c| !c.is_whitespace() && !c.is_control())).count();
        prop_assert!(lines + reading.oddities.len() >= all, "{lines} of {all}");
    }
}
