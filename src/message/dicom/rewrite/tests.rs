#![expect(deprecated)]

use super::*;
use crate::message::dicom::{Layout, read_head, walk};
use std::io::Cursor;

/// As [`super::rewrite`], however much there is.
fn rewrite(
    original: impl Read + Seek,
    sop_class_uid: &str,
    transfer_syntax_uid: &str,
    changes: &Changes,
    secret: &[u8],
) -> Result<Rewritten, NotRewritable> {
    super::rewrite(original, sop_class_uid, transfer_syntax_uid, changes, secret, Extent::LARGEST)
}

fn original(layout: Layout) -> Vec<u8> {
    let mut set = DataSet::new(CharacterSets::declared("ISO_IR 100").unwrap());
    for (tag, vr, text) in [
        (tags::SOP_CLASS_UID, VR::UI, US),
        (tags::BURNED_IN_ANNOTATION, VR::CS, "NO"),
        (tags::SOP_INSTANCE_UID, VR::UI, "1.2.3.4"),
        (tags::STUDY_INSTANCE_UID, VR::UI, "1.2.3"),
        (tags::PATIENT_NAME, VR::PN, "Müller^Änne"),
        (tags::PATIENT_ID, VR::LO, "P-1"),
        (tags::OTHER_PATIENT_I_DS, VR::LO, "P-2"),
        (tags::INSTITUTION_NAME, VR::LO, "Haus 1"),
        (tags::STUDY_DATE, VR::DA, "20260301"),
        (Tag(0x0018, 0x9999), VR::UN, "P-1 by a later standard"),
        (tags::MODALITY, VR::CS, "US"),
        (Tag(0x0009, 0x0010), VR::LO, "MAKER"),
        (Tag(0x0009, 0x1001), VR::LO, "Müller was here"),
        (Tag(0x0008, 0x1060), VR::PN, "Doctor^A"),
    ] {
        set.put_text(tag, vr, text);
    }
    let mut image = DataSet::inside(&set.charset);
    image.put_text(tags::REFERENCED_SOP_CLASS_UID, VR::UI, "1.2.840.10008.5.1.4.1.1.6.1");
    image.put_text(tags::REFERENCED_SOP_INSTANCE_UID, VR::UI, "1.2.3.4");
    image.put_text(tags::PATIENT_NAME, VR::PN, "Müller^Änne");
    set.put_items(tags::REFERENCED_IMAGE_SEQUENCE, vec![image]);
    let mut bytes = set.write(layout);
    super::super::write::element(&mut bytes, layout, Tag(0x7fe0, 0x0010), VR::OW, &[7; 100]);
    bytes
}

fn changed(changes: &Changes, layout: Layout, syntax: &str) -> (DataSet, Vec<u8>) {
    let bytes = original(layout);
    let rewritten = rewrite(Cursor::new(&bytes), US, syntax, changes, b"secret").unwrap();
    assert_eq!(rewritten.end_at, bytes.len() as u64);
    let out = out(&rewritten, &bytes);
    let head = read_head(&out[..], syntax);
    assert_eq!((head.end, &head.oddities[..]), (End::PixelData, &[][..]));
    assert_eq!(out[head.ended_at..], bytes[rewritten.resume_at as usize..], "the pixel data is as it was");
    assert_eq!(rewritten.sop_instance_uid, head.instance.sop_instance_uid);
    (head.data_set, out)
}

fn out(rewritten: &Rewritten, original: &[u8]) -> Vec<u8> {
    [&rewritten.head, &original[rewritten.resume_at as usize..rewritten.end_at as usize]].concat()
}

fn holds(bytes: &[u8], said: &str) -> bool {
    bytes.windows(said.len()).any(|window| window == said.as_bytes())
}

const US: &str = "1.2.840.10008.5.1.4.1.1.6.1";
const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
const SYNTAXES: [(&str, Layout); 3] = [
    ("1.2.840.10008.1.2", Layout::ImplicitLittle),
    ("1.2.840.10008.1.2.1", Layout::ExplicitLittle),
    ("1.2.840.10008.1.2.2", Layout::ExplicitBig),
];

#[test]
fn the_basic_profile_leaves_nobody_in_the_head() {
    let basic = Changes { deidentify: Some(Profile::Basic), coerce: Vec::new() };
    for (syntax, layout) in SYNTAXES {
        let (set, out) = changed(&basic, layout, syntax);
        for said in ["M\u{fc}ller", "P-1", "P-2", "Haus 1", "Doctor", "MAKER", "1.2.3", "20260301"] {
            let latin: Vec<u8> = said.chars().map(|c| c as u8).collect();
            assert!(!out.windows(latin.len()).any(|w| w == latin), "{said} is left in {layout:?}");
        }
        let pseudonyms = Pseudonyms::new(b"secret");
        assert_eq!(set.uid(tags::SOP_INSTANCE_UID), pseudonyms.uid("1.2.3.4"));
        let image = set.item(tags::REFERENCED_IMAGE_SEQUENCE).unwrap();
        assert_eq!(image.uid(tags::REFERENCED_SOP_INSTANCE_UID), set.uid(tags::SOP_INSTANCE_UID));
        assert_eq!(image.uid(tags::REFERENCED_SOP_CLASS_UID), "1.2.840.10008.5.1.4.1.1.6.1");
        assert_eq!(image.text(tags::PATIENT_NAME), set.text(tags::PATIENT_NAME));
        assert!(set.text(tags::PATIENT_ID).starts_with("ANON"));
        assert_eq!((set.text(tags::MODALITY), set.text(tags::PATIENT_IDENTITY_REMOVED)), ("US".into(), "YES".into()));
    }
}

#[test]
fn the_sites_rules_set_remove_and_replace() {
    let rule = |tag: &str| Rule { tag: tag.into(), ..Rule::default() };
    let coerce = vec![
        Rule { set: Some("Größe".into()), ..rule("0008,0080") },
        Rule { remove: true, ..rule("(0009,1001)") },
        Rule { replace: Some("US".into()), with: Some("OT".into()), ..rule("0008,0060") },
        Rule { replace: Some("P-9".into()), with: Some("P-0".into()), ..rule("0010,0020") },
        Rule { set: Some("A-77".into()), ..rule("0008,0050") },
    ];
    let changes = Changes { deidentify: None, coerce };
    assert_eq!(changes.fault(), None);
    for (syntax, layout) in SYNTAXES {
        let (set, _) = changed(&changes, layout, syntax);
        assert_eq!(set.text(tags::INSTITUTION_NAME), "Größe");
        assert_eq!(set.text(tags::MODALITY), "OT");
        assert_eq!(set.text(tags::PATIENT_ID), "P-1");
        assert_eq!(set.text(tags::ACCESSION_NUMBER), "A-77");
        assert!(set.get(Tag(0x0009, 0x1001)).is_none() && set.get(Tag(0x0009, 0x0010)).is_some());
    }
}

/// One element in Explicit VR Little Endian, its value as it is.
fn element(tag: Tag, vr: VR, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    super::super::write::element(&mut bytes, Layout::ExplicitLittle, tag, vr, value);
    bytes
}

#[test]
fn what_is_odd_goes_byte_for_byte_beside_what_is_coerced() {
    let explicit = "1.2.840.10008.1.2.1";
    let item = |content: &[u8]| [&[0xfe, 0xff, 0, 0xe0][..], &(content.len() as u32).to_le_bytes(), content].concat();
    let inside = element(tags::PATIENT_ID, VR::LO, b"P-1 ");
    let no_item = element(Tag(0x0008, 0x0104), VR::LO, b"no item");
    let undelimited = [
        &[0x08, 0, 0x40, 0x11, b'S', b'Q', 0, 0, 255, 255, 255, 255, 0xfe, 0xff, 0, 0xe0, 255, 255, 255, 255][..],
        &inside,
        &[0xfe, 0xff, 0xdd, 0xe0, 0, 0, 0, 0],
    ];
    let odd = [
        element(tags::REFERENCED_IMAGE_SEQUENCE, VR::SQ, &[item(&inside), no_item].concat()),
        element(tags::REFERENCED_IMAGE_SEQUENCE, VR::SQ, &[&item(&inside)[..], b"rest"].concat()),
        element(tags::REFERENCED_IMAGE_SEQUENCE, VR::SQ, &[&item(&inside)[..inside.len() + 2], b"ab"].concat()),
        undelimited.concat(),
        [element(tags::STATION_NAME, VR::SH, b"A "), element(tags::STATION_NAME, VR::SH, b"B ")].concat(),
        [vec![0xfe, 0xff, 0x0d, 0xe0, 0, 0, 0, 0], element(tags::STATION_NAME, VR::SH, b"A ")].concat(),
        [&[0x08, 0, 0x10, 0x10, b'Q', b'Q', 2, 0][..], b"A "].concat(),
        [element(tags::STATION_NAME, VR::SH, b"A "), element(tags::STUDY_DATE, VR::DA, b"20260301")].concat(),
        element(Tag(0x0008, 0x1115), VR::UN, &item(&[0x08, 0, 0x50, 0, 2, 0, 0, 0, b'A', b' '])),
    ];
    let length = element(Tag(0x0010, 0), VR::UL, &[99, 0, 0, 0]);
    let other_length = element(Tag(0x0018, 0), VR::UL, &[8, 0, 0, 0]);
    let head =
        [element(tags::SOP_CLASS_UID, VR::UI, CT.as_bytes()), element(tags::SOP_INSTANCE_UID, VR::UI, b"1.2.3.4")]
            .concat();
    let pixels = element(Tag(0x7fe0, 0x0010), VR::OW, &[7; 10]);
    for (case, odd) in odd.iter().enumerate() {
        let before = [&head[..], odd].concat();
        let behind = [&other_length[..], &element(tags::KVP, VR::DS, b"120"), &pixels].concat();
        let (id, other_id) = (element(tags::PATIENT_ID, VR::LO, b"P-1"), element(tags::PATIENT_ID, VR::LO, b"P-2"));
        let sex = element(tags::PATIENT_SEX, VR::CS, b"O");
        let bytes = [&before[..], &length, &id, &id, &sex, &behind].concat();
        let walked = walk(&bytes[..], explicit, Limits { bytes: bytes.len(), value_bytes: bytes.len() });
        assert!(walked.elements_at.is_empty(), "nobody asked for them");
        assert!(case == 8 || !walked.oddities.is_empty(), "{case} is not odd");
        let sent = |rule: Rule| {
            let changes = Changes { deidentify: None, coerce: vec![Rule { tag: "0010,0020".into(), ..rule }] };
            let rewritten = rewrite(Cursor::new(&bytes), CT, explicit, &changes, b"").unwrap();
            out(&rewritten, &bytes)
        };
        let removed = sent(Rule { remove: true, ..Rule::default() });
        assert!(removed == [&before[..], &sex, &behind].concat(), "{case} removed");
        let set = sent(Rule { set: Some("P-2".into()), ..Rule::default() });
        assert!(set == [&before[..], &other_id, &sex, &behind].concat(), "{case} set");
        let replace = |old: &str| Rule { replace: Some(old.into()), with: Some("P-2".into()), ..Rule::default() };
        assert!(sent(replace("P-1")) == set, "{case} replaced");
        assert!(sent(replace("P-9")) == bytes, "{case} not changed at all");
    }
}

#[test]
fn a_new_attribute_stands_where_its_tag_belongs() {
    let explicit = "1.2.840.10008.1.2.1";
    let (first, middle, last) = (tags::MANUFACTURER, tags::PATIENT_ID, Tag(0x4008, 0x0300));
    let uid = element(tags::SOP_INSTANCE_UID, VR::UI, b"1.2.3.4");
    for tail in [element(Tag(0x7fe0, 0x0010), VR::OW, &[7; 10]), vec![]] {
        for new in [first, middle, last] {
            let there = [first, middle, last].into_iter().filter(|tag| *tag != new);
            let bytes =
                [uid.clone(), there.flat_map(|tag| element(tag, VR::LO, b"A")).collect(), tail.clone()].concat();
            let tag = format!("{:04X},{:04X}", new.0, new.1);
            let coerce = vec![Rule { tag, set: Some("A".into()), ..Rule::default() }];
            let rewritten = rewrite(Cursor::new(&bytes), CT, explicit, &Changes { deidentify: None, coerce }, b"");
            let head = read_head(&out(&rewritten.unwrap(), &bytes)[..], explicit);
            let got: Vec<Tag> = head.data_set.elements().iter().map(|e| e.tag).collect();
            assert_eq!(got, [tags::SOP_INSTANCE_UID, first, middle, last]);
            assert_eq!(head.data_set.text(new), "A");
        }
    }
}

#[test]
fn what_is_replaced_is_found_whether_its_representation_is_spelled_or_not() {
    let rule = |tag: &str, old: &str, new: &str| Rule {
        tag: tag.into(),
        replace: Some(old.into()),
        with: Some(new.into()),
        ..Rule::default()
    };
    let changes = |rules: Vec<Rule>| Changes { deidentify: None, coerce: rules };
    // No table of what is read knows this one.
    let agent = tags::CONTRAST_BOLUS_AGENT;
    let object = |tag: Tag, vr: VR, value: &[u8], layout: Layout| {
        let mut set = DataSet::new(CharacterSets::declared("ISO_IR 100").unwrap());
        set.put_text(tags::SOP_INSTANCE_UID, VR::UI, "1.2.3.4");
        set.put(Element { tag, vr, value: Value::Bytes(value.to_vec()) });
        set.write(layout)
    };
    for (syntax, layout) in SYNTAXES {
        let said = |tag, vr, value: &[u8], rule: Rule| {
            let changes = changes(vec![rule]);
            assert_eq!(changes.fault(), None);
            let bytes = object(tag, vr, value, layout);
            let rewritten = rewrite(Cursor::new(&bytes), "", syntax, &changes, b"")?;
            Ok::<DataSet, NotRewritable>(read_head(&rewritten.head[..], syntax).data_set)
        };
        for vr in [VR::LO, VR::UN, VR::OB] {
            let set = said(agent, vr, b"M\xfcller", rule("0018,0010", "Müller", "Größe")).unwrap();
            assert_eq!(set.text(agent), "Größe", "{vr:?} in {layout:?}");
            assert_eq!(set.get(agent).unwrap().vr == VR::LO, layout.is_explicit());
            let set = said(agent, vr, b"Meier ", rule("0018,0010", "Müller", "Größe")).unwrap();
            assert_eq!(set.text(agent), "Meier", "{vr:?} in {layout:?}");
        }
        // What nobody says to be text is not guessed at, and not passed over either.
        let private = Tag(0x0009, 0x1001);
        let unknown = said(private, VR::UN, b"M\xfcller", rule("0009,1001", "Müller", "X"));
        assert_eq!(unknown, Err(NotRewritable::Representation), "{layout:?}");
        assert!(said(agent, VR::LO, b"A ", rule("0009,1001", "Müller", "X")).is_ok(), "it is not there");
        let spelled = said(private, VR::LO, b"X1", rule("0009,1001", "X1", "X2"));
        match layout.is_explicit() {
            true => assert_eq!(spelled.unwrap().text(private), "X2"),
            false => assert_eq!(spelled, Err(NotRewritable::Representation)),
        }
    }
    for tag in ["0028,0010", "0008,1140", "0042,0011"] {
        assert!(changes(vec![rule(tag, "1", "2")]).fault().is_some(), "{tag} is no text");
        let set = Rule { tag: tag.into(), set: Some("1".into()), ..Rule::default() };
        assert!(changes(vec![set]).fault().is_some(), "{tag} is no text");
    }
}

#[test]
fn nothing_goes_out_half_changed() {
    let basic = Changes { deidentify: Some(Profile::Basic), coerce: Vec::new() };
    let explicit = "1.2.840.10008.1.2.1";
    let refused = |bytes: &[u8], syntax: &str, changes: &Changes| {
        rewrite(Cursor::new(bytes), US, syntax, changes, b"").unwrap_err()
    };
    let whole = original(Layout::ExplicitLittle);
    assert_eq!(refused(&whole, "1.2.840.10008.1.2.1.99", &basic), NotRewritable::Deflated);
    assert_eq!(refused(&whole[..200], explicit, &basic), NotRewritable::Unreadable);
    let with = |tag: Tag, vr: VR, text: &str| {
        let mut set = DataSet::default();
        set.put_text(tags::SOP_CLASS_UID, VR::UI, US);
        set.put_text(tags::SOP_INSTANCE_UID, VR::UI, "1.2.3.4");
        set.put_text(tag, vr, text);
        set.write(Layout::ExplicitLittle)
    };
    // What cannot be read is one thing, more than is read another.
    let backwards = (0..600).rev().flat_map(|n| element(Tag(0x0009, n), VR::LO, b"")).collect();
    let fragments = [0x88, 0, 0, 2, b'O', b'B', 0, 0, 255, 255, 255, 255, 0xfe, 0xff, 0, 0xe0, 100, 0, 0, 0];
    let overrun =
        element(tags::ICON_IMAGE_SEQUENCE, VR::SQ, &[&[0xfe, 0xff, 0, 0xe0, 20, 0, 0, 0], &fragments[..]].concat());
    for odd in [backwards, [overrun, vec![0; 400]].concat()] {
        let bytes = [with(tags::MODALITY, VR::CS, "US"), odd].concat();
        assert_eq!(refused(&bytes, explicit, &basic), NotRewritable::Unreadable);
    }
    let private = [9, 11, 13, 15].into_iter().flat_map(|group| (1..u16::MAX).map(move |n| Tag(group, n)));
    let more: Vec<u8> = private.take(ELEMENTS_MAX + 1).flat_map(|tag| element(tag, VR::LO, b"")).collect();
    assert_eq!(refused(&more, explicit, &basic), NotRewritable::TooLong);
    let pixels_cut = &whole[..whole.len() - 1];
    assert_eq!(refused(pixels_cut, explicit, &basic), NotRewritable::Unreadable);
    assert_eq!(refused(&with(tags::BURNED_IN_ANNOTATION, VR::CS, "YES"), explicit, &basic), NotRewritable::BurnedIn);
    assert_eq!(refused(&with(tags::ENCAPSULATED_DOCUMENT, VR::OB, "%PDF"), explicit, &basic), NotRewritable::Document);
    let kanji = Rule { tag: "0008,0080".into(), set: Some("山田".into()), ..Rule::default() };
    let changes = Changes { deidentify: None, coerce: vec![kanji] };
    assert_eq!(refused(&whole, explicit, &changes), NotRewritable::Charset);
}

/// A file of which the disk gives only so many bytes.
struct Failing(Cursor<Vec<u8>>, u64);

impl Read for Failing {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let rest = self.1.saturating_sub(self.0.position());
        match self.0.by_ref().take(rest).read(to)? {
            0 if !to.is_empty() && self.0.position() < self.0.get_ref().len() as u64 => {
                Err(io::ErrorKind::Other.into())
            }
            read => Ok(read),
        }
    }
}

impl Seek for Failing {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}

#[test]
fn what_the_disk_does_not_give_is_not_taken_for_cut() {
    let basic = Changes { deidentify: Some(Profile::Basic), coerce: Vec::new() };
    let rule = Rule { tag: "0008,0080".into(), remove: true, ..Rule::default() };
    let coerce = Changes { deidentify: None, coerce: vec![rule] };
    let explicit = "1.2.840.10008.1.2.1";
    let bytes = original(Layout::ExplicitLittle);
    for changes in [basic, coerce] {
        let given = |all: u64| rewrite(Failing(Cursor::new(bytes.clone()), all), US, explicit, &changes, b"").map(drop);
        // The head of the pixel data is the last that is looked at.
        let looked_at = bytes.len() as u64 - 100;
        for all in 0..looked_at {
            assert_eq!(given(all), Err(NotRewritable::Unread(io::ErrorKind::Other)), "{all} bytes");
        }
        assert_eq!(given(looked_at), Ok(()));
        for all in 0..bytes.len() - 100 {
            let cut = rewrite(Cursor::new(&bytes[..all]), US, explicit, &changes, b"").map(drop);
            assert!(!matches!(cut, Err(NotRewritable::Unread(_))), "{all} bytes");
        }
    }
}

/// A file that gets shorter once its last byte was looked for.
struct Shrinking(Cursor<Vec<u8>>, usize);

impl Read for Shrinking {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        self.0.read(to)
    }
}

impl Seek for Shrinking {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = self.0.seek(to)?;
        if to == SeekFrom::End(0) {
            self.1 = self.1.saturating_sub(1);
            if self.1 == 0 {
                self.0.get_mut().truncate(100);
            }
        }
        Ok(at)
    }
}

#[test]
fn what_is_read_a_second_time_must_be_there_as_it_was_at_first() {
    let rule = Rule { tag: "0008,0080".into(), remove: true, ..Rule::default() };
    let coerce = Changes { deidentify: None, coerce: vec![rule] };
    let bytes = original(Layout::ExplicitLittle);
    // The end is looked for behind the pixels, for what stands there, and for what goes as it is.
    for (looks, said) in [(1, false), (2, false), (3, false), (4, true)] {
        let file = Shrinking(Cursor::new(bytes.clone()), looks);
        let rewritten = rewrite(file, US, "1.2.840.10008.1.2.1", &coerce, b"").map(drop);
        assert_eq!(rewritten, if said { Ok(()) } else { Err(NotRewritable::Unreadable) }, "{looks}");
    }
}

#[test]
fn i10_the_room_asked_for_counts_small_elements_and_no_more_of_them_are_read() {
    let usual = Extent::USUAL;
    let of_elements = |count: usize| {
        let private = (1..=u16::MAX).map(|n| element(Tag(0x0009, n), VR::LO, b""));
        let bytes = [with_uid(), private.take(count - 2).flatten().collect()].concat();
        let changes = Changes { deidentify: Some(Profile::Basic), coerce: Vec::new() };
        super::rewrite(Cursor::new(&bytes), CT, "1.2.840.10008.1.2.1", &changes, b"", usual).map(drop)
    };
    assert_eq!(of_elements(usual.elements), Ok(()));
    assert_eq!(of_elements(usual.elements + 1), Err(NotRewritable::TooLong));
    // Nothing but empty elements: what is understood of them is far more than their bytes.
    assert!(usual.room(8_000) >= 3 * 8_000 + 1_000 * 2 * size_of::<Element>());
    assert_eq!(usual.room(1 << 40), usual.room(usual.bytes as u64));
    assert!(Extent::LARGEST.room(1 << 40) > 3 * Extent::LARGEST.bytes + ELEMENTS_MAX * 2 * size_of::<Element>());
}

fn with_uid() -> Vec<u8> {
    [element(tags::SOP_CLASS_UID, VR::UI, CT.as_bytes()), element(tags::SOP_INSTANCE_UID, VR::UI, b"1.2.3.4")].concat()
}

#[test]
fn rules_that_cannot_be_meant_are_said_before_they_run() {
    let fault = |rule: Rule| Changes { deidentify: None, coerce: vec![rule] }.fault();
    let rule = |tag: &str| Rule { tag: tag.into(), remove: true, ..Rule::default() };
    assert_eq!(fault(rule("0008,1030")), None);
    for bad in ["PatientName", "0008,0018", "0008,0005", "0002,0010", "7FE0,0010", "8,80", "0008,0000"] {
        assert!(fault(rule(bad)).is_some(), "{bad}");
    }
    assert!(fault(Rule { set: Some("x".into()), ..rule("0008,1030") }).is_some());
    assert!(fault(Rule { remove: false, replace: Some("x".into()), ..rule("0008,1030") }).is_some());
    assert!(fault(Rule { remove: false, set: Some("x".into()), ..rule("0099,1030") }).is_some());
}

#[test]
fn pixels_that_may_show_the_patient_stay_here() {
    let basic = Changes { deidentify: Some(Profile::Basic), coerce: Vec::new() };
    let said = |class: &str, more: &[(Tag, &str)]| {
        let mut set = DataSet::default();
        set.put_text(tags::SOP_CLASS_UID, VR::UI, class);
        set.put_text(tags::SOP_INSTANCE_UID, VR::UI, "1.2.3.4");
        assert!(more.iter().all(|(tag, text)| set.put_text(*tag, VR::CS, text)));
        let bytes = set.write(Layout::ExplicitLittle);
        rewrite(Cursor::new(&bytes), class, "1.2.840.10008.1.2.1", &basic, b"secret").map(drop)
    };
    let (ct, perhaps) = ("1.2.840.10008.5.1.4.1.1.2", Err(NotRewritable::PerhapsBurnedIn));
    let kinds = ["3", "3.1", "6", "6.1", "6.2", "7", "7.1", "7.4", "77.1.1", "77.1.5.1"];
    for class in kinds.map(|kind| format!("1.2.840.10008.5.1.4.1.1.{kind}")) {
        assert_eq!(said(&class, &[]), perhaps, "{class}");
        assert_eq!(said(&class, &[(tags::BURNED_IN_ANNOTATION, "UNKNOWN")]), perhaps, "{class}");
        assert_eq!(said(&class, &[(tags::BURNED_IN_ANNOTATION, "NO")]), Ok(()), "{class}");
        assert_eq!(said(&class, &[(tags::BURNED_IN_ANNOTATION, "YES")]), Err(NotRewritable::BurnedIn), "{class}");
    }
    for class in [ct, "1.2.840.10008.5.1.4.1.1.66", "1.2.840.10008.5.1.4.1.1.88.33", "1.2.840.10008.5.1.4.1.1.30"] {
        assert_eq!(said(class, &[]), Ok(()), "{class}");
    }
    assert_eq!(said(ct, &[(tags::IMAGE_TYPE, "DERIVED\\SECONDARY\\SCREEN SAVE")]), perhaps);
    assert_eq!(said(ct, &[(tags::IMAGE_TYPE, "derived\\secondary\\screen save")]), perhaps);
    assert_eq!(said(ct, &[(tags::CONVERSION_TYPE, "DF")]), perhaps);
    assert_eq!(said(ct, &[(tags::BURNED_IN_ANNOTATION, "yes")]), Err(NotRewritable::BurnedIn));
    for makers_own in ["1.2.840.113619.4.27", "1.2.840.100080.1", "1.3.12.2.1107.5.9.1"] {
        assert_eq!(said(makers_own, &[]), perhaps, "{makers_own}");
        assert_eq!(said(makers_own, &[(tags::BURNED_IN_ANNOTATION, "no")]), Ok(()), "{makers_own}");
    }
    assert_eq!(said(ct, &[(tags::BURNED_IN_ANNOTATION, "YES")]), Err(NotRewritable::BurnedIn));
}

#[test]
fn a_name_drawn_in_the_free_bits_of_the_pixels_stays_here() {
    let basic = Changes { deidentify: Some(Profile::Basic), coerce: Vec::new() };
    let said = |layout: Layout, syntax: &str, bits: [u16; 2], overlay: &[(u16, VR, &[u8])]| {
        let mut set = DataSet::default();
        set.put_text(tags::SOP_CLASS_UID, VR::UI, CT);
        set.put_text(tags::SOP_INSTANCE_UID, VR::UI, "1.2.3.4");
        set.put_text(tags::BURNED_IN_ANNOTATION, VR::CS, "NO");
        set.put_u16(tags::BITS_ALLOCATED, bits[0]);
        set.put_u16(tags::BITS_STORED, bits[1]);
        for (element, vr, value) in overlay {
            set.put(Element { tag: Tag(0x6002, *element), vr: *vr, value: Value::Bytes(value.to_vec()) });
        }
        let head = set.write(layout);
        let mut image = head.clone();
        super::super::write::element(&mut image, layout, Tag(0x7fe0, 0x0010), VR::OW, &[0xf7; 100]);
        let rewritten = |bytes: &[u8]| rewrite(Cursor::new(bytes), CT, syntax, &basic, b"secret").map(drop);
        assert_eq!(rewritten(&head), Ok(()), "without pixels");
        rewritten(&image)
    };
    let rows = (0x0010, VR::US, &[0, 1][..]);
    let bit = |bit: &'static [u8]| (0x0102, VR::US, bit);
    let data = |data: &'static [u8]| (0x3000, VR::OW, data);
    let drawn = Err(NotRewritable::OverlayInPixels);
    for (syntax, layout) in SYNTAXES {
        let said = |bits, overlay: &[_]| said(layout, syntax, bits, overlay);
        assert_eq!(said([16, 12], &[rows, bit(&[12, 0])]), drawn, "above the image in {layout:?}");
        assert_eq!(said([16, 12], &[rows, bit(&[0, 0])]), drawn, "below it");
        assert_eq!(said([16, 12], &[rows]), drawn, "nobody knows where");
        assert_eq!(said([16, 12], &[rows, bit(&[0, 0]), data(&[])]), drawn, "the data is empty");
        assert_eq!(said([16, 12], &[rows, bit(&[12, 0]), data(&[1, 2])]), drawn, "both are said");
        assert_eq!(said([16, 12], &[rows, bit(&[0, 0]), data(&[1, 2])]), Ok(()), "in data of its own, which goes");
        assert_eq!(said([16, 16], &[rows, bit(&[12, 0])]), Ok(()), "the image leaves no bit free");
        assert_eq!(said([16, 12], &[]), Ok(()), "no overlay");
    }
}

#[test]
fn what_stands_behind_the_pixel_data_leaves_only_where_the_patient_may() {
    let explicit = "1.2.840.10008.1.2.1";
    let basic = Changes { deidentify: Some(Profile::Basic), coerce: Vec::new() };
    let rule = Rule { tag: "0008,0080".into(), remove: true, ..Rule::default() };
    let coerce = Changes { deidentify: None, coerce: vec![rule] };
    let mut fragments = vec![0xe0, 0x7f, 0x10, 0, b'O', b'B', 0, 0, 255, 255, 255, 255];
    fragments.extend([0xfe, 0xff, 0x00, 0xe0, 0, 0, 0, 0, 0xfe, 0xff, 0x00, 0xe0, 4, 0, 0, 0, 1, 2, 3, 4]);
    fragments.extend([0xfe, 0xff, 0xdd, 0xe0, 0, 0, 0, 0]);
    let head = {
        let whole = original(Layout::ExplicitLittle);
        whole[..whole.len() - 112].to_vec()
    };
    let pixels = [element(Tag(0x7fe0, 0x0010), VR::OW, &[7; 100]), fragments.clone()];
    let undefined = |vr: &[u8; 2], items: &[&[u8]]| {
        [&[0xe1, 0x7f, 0x01, 0x10][..], vr, &[0, 0, 255, 255, 255, 255], &items.concat()].concat()
    };
    let (item, any_item) = (&[0xfe, 0xff, 0, 0xe0][..], &[0xfe, 0xff, 0, 0xe0, 255, 255, 255, 255][..]);
    let (item_end, end) = (&[0xfe, 0xff, 0x0d, 0xe0, 0, 0, 0, 0][..], &[0xfe, 0xff, 0xdd, 0xe0, 0, 0, 0, 0][..]);
    let inside = element(tags::PATIENT_ID, VR::LO, b"P-1 ");
    let nested = undefined(b"SQ", &[any_item, &inside, item_end, end]);
    // The length reads as a value representation: it is `OB`.
    let long = [item, &0x424f_u32.to_le_bytes(), &[0; 0x424f]].concat();
    let tails = [
        undefined(b"SQ", &[any_item, &inside, &nested, &inside, item_end, &long, end]),
        undefined(b"UN", &[any_item, &[0x10, 0, 0x20, 0, 4, 0, 0, 0], b"P-1 ", item_end, end]),
        undefined(b"OB", &[item, &[0; 4], item, &[2, 0, 0, 0, 1, 2], end]),
        element(Tag(0x7fe1, 0x0010), VR::LO, b"Patient^Private "),
        element(Tag(0xfffa, 0xfffa), VR::SQ, b""),
        element(Tag(0xfffc, 0xfffc), VR::OB, &[0; 20]),
    ];
    for pixels in pixels {
        let image = [&head[..], &pixels].concat();
        for tail in &tails {
            let bytes = [&image[..], tail].concat();
            let treated = rewrite(Cursor::new(&bytes), US, explicit, &basic, b"secret").unwrap();
            assert_eq!((treated.end_at, treated.resume_at), (image.len() as u64, head.len() as u64));
            let coerced = rewrite(Cursor::new(&bytes), US, explicit, &coerce, b"secret").unwrap();
            assert_eq!(coerced.end_at, bytes.len() as u64);
            assert!(out(&coerced, &bytes).ends_with(&[&pixels[..], tail].concat()));
        }
        // What belongs before the pixel data decides what may leave, and is not looked for behind it.
        let overlay = element(Tag(0x6000, 0x0010), VR::US, &[0, 1]);
        let burned_in = element(tags::BURNED_IN_ANNOTATION, VR::CS, b"YES ");
        let misplaced = [element(tags::INSTITUTION_NAME, VR::LO, b"Haus 2"), overlay, burned_in, pixels.clone()];
        for (tail, misplaced) in tails.iter().flat_map(|tail| misplaced.iter().map(move |one| (tail, one))) {
            let bytes = [&image[..], tail, misplaced, tail].concat();
            for changes in [&coerce, &basic] {
                assert_eq!(rewrite(Cursor::new(&bytes), US, explicit, changes, b""), Err(NotRewritable::Unreadable));
            }
        }
        for tail in tails.iter().filter(|tail| tail.len() > 12) {
            for cut in 1..tail.len().min(200) {
                let bytes = [&image[..], &tail[..cut]].concat();
                for changes in [&coerce, &basic] {
                    let refused = rewrite(Cursor::new(&bytes), US, explicit, changes, b"");
                    assert_eq!(refused, Err(NotRewritable::Unreadable), "{cut}");
                }
            }
        }
    }
    for cut in 1..fragments.len() {
        let bytes = [&head[..], &fragments[..cut]].concat();
        assert_eq!(rewrite(Cursor::new(&bytes), US, explicit, &basic, b""), Err(NotRewritable::Unreadable), "{cut}");
    }
}

#[test]
fn what_stands_twice_is_not_taken_for_the_first_of_them() {
    let explicit = "1.2.840.10008.1.2.1";
    let basic = Changes { deidentify: Some(Profile::Basic), coerce: Vec::new() };
    let head = |more: &[Vec<u8>]| {
        let head =
            [element(tags::SOP_CLASS_UID, VR::UI, CT.as_bytes()), element(tags::SOP_INSTANCE_UID, VR::UI, b"1.2.3")];
        [head.concat(), more.concat(), element(Tag(0x7fe0, 0x0010), VR::OW, &[7; 10])].concat()
    };
    let treat = |bytes: &[u8], changes: &Changes| rewrite(Cursor::new(bytes), CT, explicit, changes, b"");
    let burned = |said: &[u8]| element(tags::BURNED_IN_ANNOTATION, VR::CS, said);
    assert!(treat(&head(&[burned(b"NO")]), &basic).is_ok());
    assert_eq!(treat(&head(&[burned(b"NO"), burned(b"YES ")]), &basic), Err(NotRewritable::Twice));
    let name = element(tags::PATIENT_NAME, VR::PN, b"A^B ");
    let item = [&[0xfe, 0xff, 0, 0xe0][..], &(2 * name.len() as u32).to_le_bytes(), &name, &name].concat();
    let nested = head(&[element(tags::REFERENCED_IMAGE_SEQUENCE, VR::SQ, &item)]);
    assert_eq!(treat(&nested, &basic), Err(NotRewritable::Twice));
    // A rule does to both what it does to one, unless only one has what it asks for.
    let (id, other) = (element(tags::PATIENT_ID, VR::LO, b"P-1 "), element(tags::PATIENT_ID, VR::LO, b"P-2 "));
    let rule = |rule: Rule| Changes { deidentify: None, coerce: vec![Rule { tag: "0010,0020".into(), ..rule }] };
    let replace = rule(Rule { replace: Some("P-1".into()), with: Some("P-3".into()), ..Rule::default() });
    let remove = rule(Rule { remove: true, ..Rule::default() });
    let set = rule(Rule { set: Some("P-3".into()), ..Rule::default() });
    for two in [[id.clone(), other.clone()], [other, id]] {
        assert_eq!(treat(&head(&two), &replace), Err(NotRewritable::Twice));
        for changes in [&remove, &set] {
            let out = out(&treat(&head(&two), changes).unwrap(), &head(&two));
            assert!(!holds(&out, "P-1") && !holds(&out, "P-2"));
        }
    }
    let charset = |said: &[u8]| element(tags::SPECIFIC_CHARACTER_SET, VR::CS, said);
    let two = head(&[charset(b"ISO_IR 100"), charset(b"ISO_IR 192")]);
    assert_eq!(treat(&two, &set), Err(NotRewritable::Twice), "nobody knows in which it is to be written");
    assert!(treat(&two, &remove).is_ok());
}

#[test]
fn only_pixels_go_as_pixels_under_a_profile() {
    let explicit = "1.2.840.10008.1.2.1";
    let basic = Changes { deidentify: Some(Profile::Basic), coerce: Vec::new() };
    let remove = Rule { tag: "0010,0020".into(), remove: true, ..Rule::default() };
    let coerce = Changes { deidentify: None, coerce: vec![remove] };
    let head = [element(tags::SOP_CLASS_UID, VR::UI, CT.as_bytes()), element(tags::SOP_INSTANCE_UID, VR::UI, b"1.2.3")];
    let pixels = element(Tag(0x7fe0, 0x0010), VR::OW, &[7; 10]);
    let offsets = element(Tag(0x7fe0, 0x0001), VR::OV, &[0; 8]);
    let said = |number: u16| element(Tag(0x7fe0, number), VR::LO, b"Patient^Name");
    let cases = [
        (vec![pixels.clone()], true),
        (vec![element(Tag(0x7fe0, 0), VR::UL, &[22, 0, 0, 0]), offsets, pixels.clone()], true),
        (vec![said(0x0005), pixels.clone()], false),
        (vec![pixels.clone(), said(0x0011)], false),
        (vec![pixels.clone(), pixels.clone()], false),
        (vec![said(0x1001)], false),
    ];
    for (case, (group, is_sent)) in cases.iter().enumerate() {
        let bytes = [head.concat(), group.concat()].concat();
        let treated = rewrite(Cursor::new(&bytes), CT, explicit, &basic, b"");
        match is_sent {
            true => assert!(out(&treated.unwrap(), &bytes).ends_with(&group.concat()), "{case}"),
            false => assert_eq!(treated, Err(NotRewritable::AmongPixels), "{case}"),
        }
        let coerced = rewrite(Cursor::new(&bytes), CT, explicit, &coerce, b"").unwrap();
        assert!(out(&coerced, &bytes) == bytes, "{case}: what has nothing to be changed goes as it is");
    }
}

#[test]
fn a_makers_own_class_stays_what_it_is_and_its_objects_get_new_names() {
    let mut set = DataSet::default();
    let class = "1.2.840.113619.4.27";
    set.put_text(tags::SOP_CLASS_UID, VR::UI, class);
    set.put_text(tags::SOP_INSTANCE_UID, VR::UI, "1.2.3.4");
    set.put_text(tags::BURNED_IN_ANNOTATION, VR::CS, "NO");
    let bytes = set.write(Layout::ExplicitLittle);
    let basic = Changes { deidentify: Some(Profile::Basic), coerce: Vec::new() };
    let rewritten = rewrite(Cursor::new(&bytes), class, "1.2.840.10008.1.2.1", &basic, b"secret").unwrap();
    let set = read_head(&rewritten.head[..], "1.2.840.10008.1.2.1").data_set;
    assert_eq!(set.uid(tags::SOP_CLASS_UID), "1.2.840.113619.4.27");
    assert_eq!(set.uid(tags::SOP_INSTANCE_UID), Pseudonyms::new(b"secret").uid("1.2.3.4"));
}

/// What an image is made of, of CT and what other kinds have in these groups, with the representation of the Standard.
const IMAGE: [(Tag, VR, &[u8]); 57] = [
    (tags::IMAGE_TYPE, VR::CS, b"ORIGINAL\\PRIMARY\\AXIAL"),
    (tags::BODY_PART_EXAMINED, VR::CS, b"HEAD"),
    (tags::SCAN_OPTIONS, VR::CS, b"HELICAL MODE"),
    (tags::SLICE_THICKNESS, VR::DS, b"1.25"),
    (tags::KVP, VR::DS, b"120 "),
    (tags::SPACING_BETWEEN_SLICES, VR::DS, b"1.25"),
    (tags::DATA_COLLECTION_DIAMETER, VR::DS, b"500 "),
    (tags::RECONSTRUCTION_DIAMETER, VR::DS, b"250 "),
    (tags::DISTANCE_SOURCE_TO_DETECTOR, VR::DS, b"1093"),
    (tags::DISTANCE_SOURCE_TO_PATIENT, VR::DS, b"630 "),
    (tags::GANTRY_DETECTOR_TILT, VR::DS, b"0 "),
    (tags::TABLE_HEIGHT, VR::DS, b"150 "),
    (tags::ROTATION_DIRECTION, VR::CS, b"CW"),
    (tags::EXPOSURE_TIME, VR::IS, b"1000"),
    (tags::X_RAY_TUBE_CURRENT, VR::IS, b"200 "),
    (tags::EXPOSURE, VR::IS, b"200 "),
    (tags::FILTER_TYPE, VR::SH, b"BODY"),
    (tags::GENERATOR_POWER, VR::IS, b"24"),
    (tags::FOCAL_SPOTS, VR::DS, b"0.7 "),
    (tags::CONVOLUTION_KERNEL, VR::SH, b"STANDARD"),
    (tags::PATIENT_POSITION, VR::CS, b"HFS "),
    (tags::REVOLUTION_TIME, VR::FD, &[0, 0, 0, 0, 0, 0, 0xe0, 0x3f]),
    (tags::SINGLE_COLLIMATION_WIDTH, VR::FD, &[0, 0, 0, 0, 0, 0, 0xe4, 0x3f]),
    (tags::SPIRAL_PITCH_FACTOR, VR::FD, &[0, 0, 0, 0, 0, 0, 0xf0, 0x3f]),
    (tags::CTD_IVOL, VR::FD, &[0, 0, 0, 0, 0, 0, 0x24, 0x40]),
    (tags::SERIES_NUMBER, VR::IS, b"2 "),
    (tags::ACQUISITION_NUMBER, VR::IS, b"1 "),
    (tags::INSTANCE_NUMBER, VR::IS, b"7 "),
    (tags::IMAGE_POSITION_PATIENT, VR::DS, b"-125\\-125\\20"),
    (tags::IMAGE_ORIENTATION_PATIENT, VR::DS, b"1\\0\\0\\0\\1\\0 "),
    (tags::LATERALITY, VR::CS, b"L "),
    (tags::POSITION_REFERENCE_INDICATOR, VR::LO, b"SN"),
    (tags::SLICE_LOCATION, VR::DS, b"20"),
    (tags::SAMPLES_PER_PIXEL, VR::US, &[1, 0]),
    (tags::PHOTOMETRIC_INTERPRETATION, VR::CS, b"MONOCHROME2 "),
    (tags::PLANAR_CONFIGURATION, VR::US, &[0, 0]),
    (tags::NUMBER_OF_FRAMES, VR::IS, b"1 "),
    (tags::ROWS, VR::US, &[0, 2]),
    (tags::COLUMNS, VR::US, &[0, 2]),
    (tags::PIXEL_SPACING, VR::DS, b"0.48\\0.48 "),
    (tags::PIXEL_ASPECT_RATIO, VR::IS, b"1\\1 "),
    (tags::BITS_ALLOCATED, VR::US, &[16, 0]),
    (tags::BITS_STORED, VR::US, &[12, 0]),
    (tags::HIGH_BIT, VR::US, &[11, 0]),
    (tags::PIXEL_REPRESENTATION, VR::US, &[1, 0]),
    (tags::SMALLEST_IMAGE_PIXEL_VALUE, VR::SS, &[0, 0xf8]),
    (tags::LARGEST_IMAGE_PIXEL_VALUE, VR::SS, &[0xff, 0x07]),
    (tags::PIXEL_PADDING_VALUE, VR::SS, &[0x30, 0xf8]),
    (tags::WINDOW_CENTER, VR::DS, b"40"),
    (tags::WINDOW_WIDTH, VR::DS, b"400 "),
    (tags::RESCALE_INTERCEPT, VR::DS, b"-1024 "),
    (tags::RESCALE_SLOPE, VR::DS, b"1 "),
    (tags::RESCALE_TYPE, VR::LO, b"HU"),
    (tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR, VR::US, &[0, 1, 0, 0, 16, 0]),
    (tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DATA, VR::OW, &[1, 2, 3, 4]),
    (tags::LOSSY_IMAGE_COMPRESSION, VR::CS, b"00"),
    (tags::VOILUT_FUNCTION, VR::CS, b"LINEAR"),
];

#[test]
fn an_image_stays_an_image_whether_its_representations_are_spelled_or_not() {
    let basic = Changes { deidentify: Some(Profile::Basic), coerce: Vec::new() };
    for (syntax, layout) in SYNTAXES {
        let mut set = DataSet::default();
        set.put_text(tags::SOP_CLASS_UID, VR::UI, CT);
        set.put_text(tags::SOP_INSTANCE_UID, VR::UI, "1.2.3.4");
        set.put_text(tags::FRAME_OF_REFERENCE_UID, VR::UI, "1.2.3.5");
        // Of these the small table of what is read knows none.
        set.put_text(tags::IRRADIATION_EVENT_UID, VR::UI, "1.2.3.6");
        set.put_text(tags::CONSULTING_PHYSICIAN_NAME, VR::PN, "Doe");
        set.put(Element {
            tag: tags::DEIDENTIFICATION_ACTION_SEQUENCE,
            vr: VR::UN,
            value: Value::Bytes(b"Doe ".into()),
        });
        // Nor does it help to spell one wrongly, or one that nobody knows.
        set.put_text(tags::CLINICAL_TRIAL_SUBJECT_ID, VR::CS, "DOE");
        set.put_text(Tag(0x0018, 0x9ffe), VR::DS, "DOE");
        set.put_text(Tag(0x6002, 0x0022), VR::LO, "Doe");
        set.put(Element { tag: Tag(0x6002, 0x3000), vr: VR::OW, value: Value::Bytes(vec![1, 2]) });
        for (tag, vr, value) in IMAGE {
            assert_eq!(standard_value_representation(tag).unwrap(), if vr == VR::SS { VR::US } else { vr }, "{tag}");
            set.put(Element { tag, vr, value: Value::Bytes(value.to_vec()) });
        }
        let mut bytes = set.write(layout);
        super::super::write::element(&mut bytes, layout, Tag(0x7fe0, 0x0010), VR::OW, &[7; 100]);
        let out = out(&rewrite(Cursor::new(&bytes), CT, syntax, &basic, b"secret").unwrap(), &bytes);
        assert!(!holds(&out, "Doe") && !holds(&out, "DOE") && !holds(&out, "1.2.3."), "{layout:?}");
        let set = read_head(&out[..], syntax).data_set;
        for (tag, vr, value) in IMAGE {
            let kept = set.get(tag).unwrap_or_else(|| panic!("{tag} is gone in {layout:?}"));
            assert_eq!(kept.bytes(), value, "{tag} in {layout:?}");
            assert!(kept.vr == vr || !layout.is_explicit(), "{tag} in {layout:?}");
        }
        assert_eq!(set.uid(tags::FRAME_OF_REFERENCE_UID), Pseudonyms::new(b"secret").uid("1.2.3.5"));
        assert_eq!(set.text(tags::IRRADIATION_EVENT_UID), Pseudonyms::new(b"secret").uid("1.2.3.6"));
    }
}

#[test]
fn what_the_data_set_says_it_is_and_what_it_is_sent_as_must_be_one() {
    let basic = Changes { deidentify: Some(Profile::Basic), coerce: Vec::new() };
    let rule = Rule { tag: "0008,0080".into(), remove: true, ..Rule::default() };
    let coerce = Changes { deidentify: None, coerce: vec![rule] };
    for (inside, sent, is_one) in [(CT, CT, true), (CT, US, false), (US, CT, false), ("", CT, false), ("", "", false)] {
        let mut set = DataSet::default();
        if !inside.is_empty() {
            set.put_text(tags::SOP_CLASS_UID, VR::UI, inside);
        }
        set.put_text(tags::SOP_INSTANCE_UID, VR::UI, "1.2.3.4");
        set.put_text(tags::BURNED_IN_ANNOTATION, VR::CS, "NO");
        let bytes = set.write(Layout::ExplicitLittle);
        let said = |changes| rewrite(Cursor::new(&bytes), sent, "1.2.840.10008.1.2.1", changes, b"").map(drop);
        assert_eq!(said(&basic), if is_one { Ok(()) } else { Err(NotRewritable::Class) }, "{inside} as {sent}");
        assert_eq!(said(&coerce), Ok(()), "{inside} as {sent}");
    }
}

#[test]
fn the_same_number_of_two_hospitals_stays_two_patients() {
    let basic = Changes { deidentify: Some(Profile::Basic), coerce: Vec::new() };
    let said = |issuer: &str| {
        let mut set = DataSet::default();
        set.put_text(tags::SOP_CLASS_UID, VR::UI, CT);
        set.put_text(tags::SOP_INSTANCE_UID, VR::UI, "1.2.3.4");
        set.put_text(tags::PATIENT_ID, VR::LO, "P-1");
        set.put_text(tags::ISSUER_OF_PATIENT_ID, VR::LO, issuer);
        let mut inside = DataSet::inside(&set.charset);
        inside.put_text(tags::PATIENT_ID, VR::LO, "P-1");
        set.put_items(tags::REFERENCED_IMAGE_SEQUENCE, vec![inside]);
        let bytes = set.write(Layout::ExplicitLittle);
        let rewritten = rewrite(Cursor::new(&bytes), CT, "1.2.840.10008.1.2.1", &basic, b"secret").unwrap();
        let set = read_head(&rewritten.head[..], "1.2.840.10008.1.2.1").data_set;
        assert!(set.get(tags::ISSUER_OF_PATIENT_ID).is_none());
        let inside = set.item(tags::REFERENCED_IMAGE_SEQUENCE).unwrap().text(tags::PATIENT_ID);
        assert_eq!(inside, set.text(tags::PATIENT_ID), "the same patient");
        inside
    };
    assert_eq!(said("NORTH"), said("NORTH"));
    assert_ne!(said("NORTH"), said("SOUTH"));
    assert_ne!(said("NORTH"), said(""));
}
