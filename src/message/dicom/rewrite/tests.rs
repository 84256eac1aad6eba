#![expect(deprecated)]

use super::*;
use crate::message::dicom::{Layout, read_head};

fn original(layout: Layout) -> Vec<u8> {
    let mut set = DataSet::new(CharacterSets::declared("ISO_IR 100").unwrap());
    for (tag, vr, text) in [
        (tags::SOP_CLASS_UID, VR::UI, "1.2.840.10008.5.1.4.1.1.6.1"),
        (tags::SOP_INSTANCE_UID, VR::UI, "1.2.3.4"),
        (tags::STUDY_INSTANCE_UID, VR::UI, "1.2.3"),
        (tags::PATIENT_NAME, VR::PN, "Müller^Änne"),
        (tags::PATIENT_ID, VR::LO, "P-1"),
        (tags::OTHER_PATIENT_I_DS, VR::LO, "P-2"),
        (tags::INSTITUTION_NAME, VR::LO, "Haus 1"),
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
    let rewritten = rewrite(&bytes[..], syntax, changes, b"secret").unwrap();
    let out = [rewritten.head, bytes[rewritten.resume_at as usize..].to_vec()].concat();
    let head = read_head(&out[..], syntax);
    assert_eq!((head.end, &head.oddities[..]), (End::PixelData, &[][..]));
    assert_eq!(out[head.ended_at..], bytes[rewritten.resume_at as usize..], "the pixel data is as it was");
    assert_eq!(rewritten.sop_instance_uid, head.instance.sop_instance_uid);
    (head.data_set, out)
}

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
        for said in ["M\u{fc}ller", "P-1", "P-2", "Haus 1", "Doctor", "MAKER", "1.2.3"] {
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

#[test]
fn nothing_goes_out_half_changed() {
    let basic = Changes { deidentify: Some(Profile::Basic), coerce: Vec::new() };
    let explicit = "1.2.840.10008.1.2.1";
    let refused = |bytes: &[u8], syntax: &str, changes: &Changes| rewrite(bytes, syntax, changes, b"").unwrap_err();
    let whole = original(Layout::ExplicitLittle);
    assert_eq!(refused(&whole, "1.2.840.10008.1.2.1.99", &basic), NotRewritable::Deflated);
    assert_eq!(refused(&whole[..200], explicit, &basic), NotRewritable::Unreadable);
    let with = |tag: Tag, vr: VR, text: &str| {
        let mut set = DataSet::default();
        set.put_text(tag, vr, text);
        set.write(Layout::ExplicitLittle)
    };
    assert_eq!(refused(&with(tags::BURNED_IN_ANNOTATION, VR::CS, "YES"), explicit, &basic), NotRewritable::BurnedIn);
    assert_eq!(refused(&with(tags::ENCAPSULATED_DOCUMENT, VR::OB, "%PDF"), explicit, &basic), NotRewritable::Document);
    let kanji = Rule { tag: "0008,0080".into(), set: Some("山田".into()), ..Rule::default() };
    let changes = Changes { deidentify: None, coerce: vec![kanji] };
    assert_eq!(refused(&whole, explicit, &changes), NotRewritable::Charset);
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
