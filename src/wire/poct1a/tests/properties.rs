//! Properties: any split, any damage, and a journal that refuses at times.

use proptest::prelude::*;

use super::*;

/// Pieces of traffic in any order.
fn traffic() -> impl Strategy<Value = Vec<u8>> {
    let id = || (1u8..30).prop_map(|n| n.to_string());
    let piece = prop_oneof![
        2 => Just(hello(&["START_CONTINUOUS", "SET_TIME"], "60").into_bytes()),
        2 => "[012x]?".prop_map(|qty| status(&qty).into_bytes()),
        5 => id().prop_map(|id| observation(&id).into_bytes()),
        2 => id().prop_map(|id| end_of_topic(&id).into_bytes()),
        2 => (id(), "A[AE]", "(300)?").prop_map(|(id, code, error)| answer(&id, &code, &error).into_bytes()),
        1 => id().prop_map(|id| message("KPA.R01", &id, "").into_bytes()),
        1 => id().prop_map(|id| message("ACME.X", &id, "<!-- </ACME.X> --><![CDATA[</ACME.X>]]>").into_bytes()),
        1 => (id(), 0usize..300).prop_map(|(id, at)| observation(&id).into_bytes()[..at].to_vec()),
        1 => (id(), 0usize..300, any::<u8>()).prop_map(|(id, at, byte)| {
            let mut bytes = observation(&id).into_bytes();
            bytes[at] = byte;
            bytes
        }),
        1 => "[<>/?!a\"= -]{0,12}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..20),
    ];
    prop::collection::vec(piece, 0..16).prop_map(|pieces| pieces.concat())
}

fn story(bytes: &[u8], cuts: &[usize]) -> Bench {
    let mut bench = Bench::new();
    let mut rest = bytes;
    for cut in cuts.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (part, after) = rest.split_at((*cut).min(rest.len()));
        bench.feed_bytes(part);
        rest = after;
    }
    bench
}

/// Every document kept is a run of the bytes that came.
fn verbatim(bench: &Bench, bytes: &[u8]) -> bool {
    bench.kept.iter().all(|(_, kept, _)| bytes.windows(kept.len()).any(|window| window == kept))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_split_of_anything_tells_the_same_story(
        bytes in traffic(),
        cuts in prop::collection::vec(1usize..40, 1..20),
    ) {
        let (whole, split) = (story(&bytes, &[usize::MAX]), story(&bytes, &cuts));
        prop_assert_eq!(&whole.said, &split.said);
        prop_assert_eq!(&whole.kept, &split.kept);
        prop_assert_eq!(&whole.events, &split.events);
        prop_assert_eq!(&whole.closed, &split.closed);
        prop_assert!(verbatim(&whole, &bytes));
    }

    #[test]
    fn i10_any_bytes_are_survived_and_the_line_is_free_in_the_end(bytes in traffic(), size in 1usize..50) {
        let mut bench = Bench::with(ReceiverConfig { document_max: 2048, ..ReceiverConfig::default() });
        for part in bytes.chunks(size) {
            bench.feed_bytes(part);
            prop_assert!(bench.receiver.bytes_held() <= 3 * 2048);
        }
        bench.wait(Duration::from_secs(86_400));
        prop_assert_eq!(bench.receiver.poll_timeout(), None);
        prop_assert_eq!(bench.receiver.bytes_held(), 0);
        bench.receiver.handle_disconnect(bench.now);
        bench.settle();
    }

    #[test]
    fn i1_an_observation_is_accepted_only_after_custody(
        ids in prop::collection::vec(1u8..200, 1..20),
        refused in prop::collection::vec(any::<bool>(), 20),
        size in 1usize..700,
    ) {
        let mut bench = Bench::continuous();
        let text: String = ids.iter().map(|id| observation(&id.to_string())).collect();
        bench.held = true;
        let mut answers = refused.iter().cycle();
        for part in text.as_bytes().chunks(size) {
            bench.feed_bytes(part);
            while let Some(token) = bench.open.pop() {
                let before = bench.said.len();
                bench.refusal = answers.next().unwrap().then_some(Refusal::Full);
                let expected = if bench.refusal.is_some() { " AE " } else { " AA " };
                bench.answer_custody(token);
                bench.settle();
                prop_assert_eq!(bench.said.len(), before + 1);
                prop_assert!(bench.said[before].contains(expected));
            }
        }
        let accepted = bench.said[3..].iter().filter(|line| line.contains(" AA ")).count();
        prop_assert_eq!(accepted, bench.taken);
        prop_assert_eq!(bench.kept.len(), ids.len());
    }
}
