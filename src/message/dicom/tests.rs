use super::*;
use crate::clinical::Phi;
use proptest::prelude::*;

fn sample() -> DataSet {
    let mut set = DataSet::new(CharacterSets::declared("ISO_IR 100").unwrap());
    set.put_text(tags::SOP_CLASS_UID, VR::UI, "1.2.840.10008.5.1.4.1.1.6.1");
    set.put_text(tags::SOP_INSTANCE_UID, VR::UI, "1.2.3.4");
    set.put_text(tags::STUDY_INSTANCE_UID, VR::UI, "1.2.3");
    set.put_text(tags::SERIES_INSTANCE_UID, VR::UI, "1.2.3.1");
    set.put_text(tags::PATIENT_NAME, VR::PN, "Müller^Änne^^Dr.");
    set.put_text(tags::PATIENT_ID, VR::LO, "P-1");
    set.put_text(tags::STUDY_DATE, VR::DA, "20260115");
    set.put_text(tags::STUDY_TIME, VR::TM, "083000");
    set.put_text(tags::ACCESSION_NUMBER, VR::SH, "A1");
    set.put_u16(tags::ROWS, 512);
    let mut request = DataSet::inside(&set.charset);
    request.put_text(tags::PLACER_ORDER_NUMBER_IMAGING_SERVICE_REQUEST, VR::LO, "ORD-1");
    let mut code = DataSet::inside(&set.charset);
    code.put_text(tags::CODE_VALUE, VR::SH, "US-HEART");
    code.put_text(tags::CODING_SCHEME_DESIGNATOR, VR::SH, "99SITE");
    code.put_text(tags::CODE_MEANING, VR::LO, "Ultraschall Herz über alles");
    request.put_items(tags::REQUESTED_PROCEDURE_CODE_SEQUENCE, vec![code]);
    set.put_items(tags::REQUEST_ATTRIBUTES_SEQUENCE, vec![request]);
    set
}

const SYNTAXES: [(&str, Layout); 3] = [
    ("1.2.840.10008.1.2", Layout::ImplicitLittle),
    ("1.2.840.10008.1.2.1", Layout::ExplicitLittle),
    ("1.2.840.10008.1.2.2", Layout::ExplicitBig),
];

fn with_pixels(set: &DataSet, layout: Layout) -> Vec<u8> {
    let mut bytes = set.write(layout);
    write::element(&mut bytes, layout, Tag(0x7fe0, 0x0010), VR::OW, &[0xab; 4000]);
    bytes
}

#[test]
fn a_head_is_the_same_in_every_layout() {
    for (syntax, layout) in SYNTAXES {
        let bytes = with_pixels(&sample(), layout);
        let meta = FileMeta {
            sop_class_uid: "1.2",
            sop_instance_uid: "1.2.3.4",
            transfer_syntax_uid: syntax,
            source_ae_title: "VIVID",
        };
        let file = [meta.write(), bytes.clone()].concat();
        for (bytes, declared) in [(&bytes, syntax), (&file, "")] {
            let head = read_head(&bytes[..], declared);
            assert_eq!((head.end, head.oddities), (End::PixelData, vec![]), "{layout:?}");
            assert_eq!(head.patient.family, Phi::new("Müller"));
            assert_eq!(head.patient.given, Phi::new("Änne"));
            assert_eq!(head.study.instance_uid, "1.2.3");
            assert_eq!(head.data_set.number(tags::ROWS), Some(512));
            assert_eq!(head.requests[0].placer_order_number, Phi::new("ORD-1"));
            let procedure = head.requests[0].procedure.as_ref().unwrap();
            assert_eq!(procedure.text, "Ultraschall Herz über alles");
            assert_eq!(&bytes[head.ended_at..head.ended_at + 2], &Layout::pixel_group(layout));
        }
        let written = sample().write(layout);
        assert_eq!(read_data_set(&written, syntax).data_set.write(layout), written);
    }
}

impl Layout {
    fn pixel_group(self) -> [u8; 2] {
        if self.is_big() { 0x7fe0u16.to_be_bytes() } else { 0x7fe0u16.to_le_bytes() }
    }
}

#[test]
fn a_data_set_proves_its_own_layout() {
    for (_, layout) in SYNTAXES {
        for (declared, _) in SYNTAXES {
            if (layout, declared) == (Layout::ImplicitLittle, SYNTAXES[2].0) {
                continue; // Implicit VR Big Endian does not exist, so nothing proves the byte order.
            }
            let head = read_head(&with_pixels(&sample(), layout)[..], declared);
            assert_eq!((head.layout, head.study.instance_uid.as_str()), (layout, "1.2.3"), "sent as {declared}");
            assert_eq!(head.oddities.is_empty(), Layout::of(declared) == layout);
        }
    }
}

#[test]
fn a_deflated_data_set_is_inflated_and_a_bomb_is_not() {
    let deflated = miniz_oxide::deflate::compress_to_vec(&with_pixels(&sample(), Layout::ExplicitLittle), 6);
    let syntax = "1.2.840.10008.1.2.1.99";
    let head = read_head(&deflated[..], syntax);
    assert_eq!((head.study.instance_uid.as_str(), head.end), ("1.2.3", End::PixelData));
    let plain = read_head(&with_pixels(&sample(), Layout::ExplicitLittle)[..], syntax);
    assert_eq!((plain.study.instance_uid.as_str(), plain.oddities.len()), ("1.2.3", 1));
    let mut bomb = sample().write(Layout::ExplicitLittle);
    write::element(&mut bomb, Layout::ExplicitLittle, Tag(0x0040, 0xa160), VR::UT, &vec![b'a'; 60 << 20]);
    let bomb = miniz_oxide::deflate::compress_to_vec(&bomb, 6);
    assert!(bomb.len() < 100_000);
    let head = read_head(&bomb[..], syntax);
    assert_eq!((head.study.instance_uid.as_str(), head.end), ("1.2.3", End::Limit));
}

#[test]
fn nesting_without_end_ends() {
    let mut bytes = sample().write(Layout::ExplicitLittle);
    let nested =
        [0x40, 0, 0x30, 0xa7, b'S', b'Q', 0, 0, 0xff, 0xff, 0xff, 0xff, 0xfe, 0xff, 0, 0xe0, 0xff, 0xff, 0xff, 0xff];
    bytes.extend(nested.repeat(40_000));
    let head = read_head(&bytes[..], "1.2.840.10008.1.2.1");
    assert_eq!((head.study.instance_uid.as_str(), head.end), ("1.2.3", End::Depth));
}

#[test]
fn a_wrong_length_harms_no_more_than_its_item() {
    let mut item = DataSet::default();
    item.put_text(tags::CODE_VALUE, VR::SH, "ABCD");
    let mut set = DataSet::default();
    set.put_items(tags::PROCEDURE_CODE_SEQUENCE, vec![item]);
    set.put_text(tags::PATIENT_ID, VR::LO, "P-1");
    let mut bytes = set.write(Layout::ExplicitLittle);
    let at = bytes.windows(4).position(|w| w == b"SH\x04\0").unwrap() + 2;
    bytes[at] = 200;
    let head = read_head(&bytes[..], "1.2.840.10008.1.2.1");
    assert_eq!(head.patient.id, Phi::new("P-1"));
    assert_eq!(head.oddities[0].what, "a value is longer than what holds it");
    assert_eq!(head.oddities[0].record, 0x0008_0100);
}

#[test]
fn sequences_nobody_declared_are_opened() {
    // (4453,100C) UN of undefined length, Implicit VR inside (PS3.5 6.2.2).
    let mut inner = DataSet::default();
    inner.put_text(tags::STUDY_INSTANCE_UID, VR::UI, "1.2.30");
    let content = inner.write(Layout::ImplicitLittle);
    let mut bytes = vec![0x53, 0x44, 0x0c, 0x10, b'U', b'N', 0, 0, 0xff, 0xff, 0xff, 0xff];
    bytes.extend([0xfe, 0xff, 0, 0xe0, 0xff, 0xff, 0xff, 0xff]);
    bytes.extend(&content);
    bytes.extend([0xfe, 0xff, 0x0d, 0xe0, 0, 0, 0, 0, 0xfe, 0xff, 0xdd, 0xe0, 0, 0, 0, 0]);
    let head = read_head(&bytes[..], "1.2.840.10008.1.2.1");
    assert_eq!(head.data_set.item(Tag(0x4453, 0x100c)).unwrap().uid(tags::STUDY_INSTANCE_UID), "1.2.30");
    assert_eq!((head.end, head.oddities), (End::Whole, vec![]));
}

#[test]
fn a_cut_value_is_none() {
    let whole = sample().write(Layout::ExplicitLittle);
    for cut in 1..whole.len() {
        let head = read_head(&whole[..cut], "1.2.840.10008.1.2.1");
        for id in [head.patient.id.expose(), head.study.instance_uid.as_str(), head.study.accession_number.expose()] {
            assert!(["", "P-1", "1.2.3", "A1"].contains(&id), "{cut}: a part of a value");
        }
    }
}

#[test]
fn i8_debug_shows_no_value() {
    assert!(
        !format!("{:?} {:#?}", sample(), read_head(&sample().write(Layout::ExplicitLittle)[..], "")).contains("P-1")
    );
}

proptest! {
    #[test]
    fn i10_no_bytes_break_the_walk(
        seed in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
        at in 0usize..3,
        cut in any::<prop::sample::Index>(),
    ) {
        let (syntax, layout) = SYNTAXES[at];
        let mut bytes = with_pixels(&sample(), layout);
        for (at, byte) in seed {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(cut.index(bytes.len()) + 1);
        let head = read_head(&bytes[..], syntax);
        prop_assert!(head.oddities.len() <= crate::message::ODDITIES_MAX);
    }
}

#[test]
fn i10_elements_out_of_order_are_read_up_to_a_limit() {
    let element = |number: u16| [&[0x09, 0x00][..], &number.to_le_bytes(), b"LO", &[0, 0]].concat();
    let backwards: Vec<u8> = (0..5000).rev().flat_map(element).collect();
    let head = read_head(backwards.as_slice(), "1.2.840.10008.1.2.1");
    assert_eq!(head.end, End::Disorder);
    assert!((2..1000).contains(&head.data_set.elements().len()), "{}", head.data_set.elements().len());
}
