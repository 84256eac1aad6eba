//! Properties: any split, any framing, any bytes, and a journal that refuses at times.

use proptest::prelude::*;

use super::*;

/// Framings of each kind.
fn framings() -> Vec<Framing> {
    let stx = || framed("<STX>", &["<ETX>"]);
    let bcc = |form, place| Framing { check: Some(Check { form, place, ..Check::default() }), ..stx() };
    let lines = |first: Option<&str>, last: Option<&str>| Framing {
        first_line: first.map(Into::into),
        last_line: last.map(Into::into),
        idle_ms: Some(700),
        ..Framing::default()
    };
    let length = |at| Framing {
        length: Some(Length { bytes: 4, at, digits: 1, form: NumberForm::Ascii }),
        ..Framing::default()
    };
    vec![
        stx(),
        answered(stx()),
        answered(bcc(CheckForm::Byte, CheckPlace::AfterEnd)),
        bcc(CheckForm::Hex, CheckPlace::BeforeEnd),
        answered(bcc(CheckForm::Hex, CheckPlace::AfterEnd)),
        framed("", &["<CR>", "<LF>"]),
        framed("AB", &["<CR><LF>"]),
        Framing::by_silence(500),
        lines(Some("^A"), Some("^B")),
        lines(Some("^A"), None),
        lines(None, Some("\\f$")),
        length(None),
        length(Some(2)),
        answered(Framing { handshake: true, gather: true, ..stx() }),
        Framing { reply_after_ms: 300, ..answered(Framing { handshake: true, ..stx() }) },
    ]
}

/// Bytes that frame, bytes that do not, and a few messages.
fn traffic() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => prop::collection::vec(prop::sample::select(b"\x02\x03\x04\x05\r\n\x0cAB0123 ".to_vec()), 0..12),
        2 => Just(b"\x02AB\x03".to_vec()),
        1 => Just(b"\x02AB\x0303".to_vec()),
        1 => Just(b"A\r\n1\r\nB\r\n".to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..8),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

fn story(framing: &Framing, bytes: &[u8], cuts: &[usize]) -> Bench {
    let mut bench = Bench::new(framing.clone());
    let mut rest = bytes;
    for cut in cuts.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (part, after) = rest.split_at((*cut).min(rest.len()));
        bench.feed(part);
        rest = after;
    }
    bench.wait(Duration::from_secs(86_400));
    bench
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_split_of_anything_tells_the_same_story(
        framing in prop::sample::select(framings()),
        bytes in traffic(),
        cuts in prop::collection::vec(1usize..20, 1..20),
    ) {
        let (whole, split) = (story(&framing, &bytes, &[usize::MAX]), story(&framing, &bytes, &cuts));
        prop_assert_eq!(&whole.said, &split.said);
        prop_assert_eq!(&whole.kept, &split.kept);
        prop_assert_eq!(&whole.abandoned, &split.abandoned);
        prop_assert_eq!(&whole.events, &split.events);
    }

    #[test]
    fn i2_what_is_kept_is_what_came_in_order_and_nothing_readable_is_missing(
        framing in prop::sample::select(framings()),
        bytes in traffic(),
    ) {
        let bench = story(&framing, &bytes, &[7]);
        let kept: Vec<u8> = bench.kept.iter().flat_map(|(_, bytes, _)| bytes.clone()).collect();
        let mut rest = bytes.iter();
        prop_assert!(kept.iter().all(|byte| rest.any(|b| b == byte)), "kept bytes are a selection of those that came");
        // Where nothing is asked to be sent again, only what says nothing is left out.
        let left_out = bytes.iter().filter(|b| b.is_ascii_alphanumeric()).count()
            - kept.iter().filter(|b| b.is_ascii_alphanumeric()).count();
        let noise = bench.events.iter().filter(|e| matches!(e, Event::Odd(_))).count();
        if framing.reply == Reply::None {
            prop_assert!(left_out <= 2 * noise, "{left_out} letters in {noise} disturbances");
        }
    }

    #[test]
    fn i10_any_bytes_are_survived_and_the_line_is_free_in_the_end(
        framing in prop::sample::select(framings()),
        bytes in traffic(),
        size in 1usize..50,
    ) {
        let config = ReceiverConfig { framing, message_max: 24, ..ReceiverConfig::default() };
        let mut bench = Bench::with(config);
        for part in bytes.chunks(size) {
            bench.feed(part);
            prop_assert!(bench.receiver.bytes_held() <= bytes.len());
            prop_assert!(bench.kept.iter().all(|(_, bytes, _)| bytes.len() <= 24));
        }
        bench.wait(Duration::from_secs(86_400));
        prop_assert_eq!(bench.receiver.poll_timeout(), None);
        prop_assert_eq!(bench.receiver.bytes_held(), 0);
        bench.leave();
        let open: Vec<u64> = bench.kept.iter().filter(|(_, _, completes)| !completes).map(|(s, _, _)| *s).collect();
        let closed: Vec<u64> = bench.kept.iter().filter(|(_, _, completes)| *completes).map(|(s, _, _)| *s).collect();
        prop_assert!(open.iter().all(|s| closed.contains(s) || bench.abandoned.contains(s)), "no entry is left open");
    }

    #[test]
    fn i1_there_is_an_ack_for_each_message_in_custody_and_for_nothing_else(
        refused in prop::collection::vec(any::<bool>(), 1..20),
        size in 1usize..40,
    ) {
        let mut bench = Bench::new(answered(framed("<STX>", &["<ETX>"])));
        let mut expected = Vec::new();
        for no in &refused {
            bench.refusal = no.then_some(Refusal::Storage);
            for part in b"\x02GLU 5.1\x03".chunks(size) {
                bench.feed(part);
            }
            expected.push(if *no { 0x15 } else { 0x06 });
        }
        prop_assert_eq!(&bench.said, &expected);
        prop_assert_eq!(bench.complete().len(), refused.iter().filter(|no| !**no).count());
    }
}
