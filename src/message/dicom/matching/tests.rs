//! What a key matches, by PS3.4 C.2.2.2.

use super::*;
use proptest::prelude::*;

fn entry() -> DataSet {
    let mut step = DataSet { charset: CharacterSets::utf8(), ..DataSet::default() };
    step.put_text(tags::MODALITY, VR::CS, "US");
    step.put_text(tags::SCHEDULED_STATION_AE_TITLE, VR::AE, "VIVID\\VIVID2");
    let mut entry = DataSet::new(CharacterSets::utf8());
    entry.put_text(tags::PATIENT_NAME, VR::PN, "Yamada^Tarou=山田^太郎=やまだ^たろう");
    entry.put_text(tags::PATIENT_ID, VR::LO, "AV35674");
    entry.put_text(tags::ALLERGIES, VR::LO, "");
    entry.put_items(tags::SCHEDULED_PROCEDURE_STEP_SEQUENCE, vec![step]);
    entry
}

fn keys(of: &[(Tag, VR, &str)]) -> DataSet {
    let mut keys = DataSet::new(CharacterSets::utf8());
    for (tag, vr, text) in of {
        keys.put_text(*tag, *vr, text);
    }
    keys
}

fn step_keys(of: &[(Tag, VR, &str)]) -> DataSet {
    let mut outer = DataSet::default();
    outer.put_items(tags::SCHEDULED_PROCEDURE_STEP_SEQUENCE, vec![keys(of)]);
    outer
}

#[test]
fn text_is_matched_whole_or_by_wildcards() {
    for (vr, wanted, value, expected) in [
        (VR::LO, "AV35674", "AV35674", true),
        (VR::LO, "av35674", "AV35674", false),
        (VR::LO, "AV3567?", "AV35674", true),
        (VR::LO, "AV?", "AV35674", false),
        (VR::LO, "*56*4", "AV35674", true),
        (VR::LO, "*", "", true),
        (VR::LO, "?", "", false),
        (VR::PN, "vivaldi*", "VIVALDI^ANTONIO", true),
        (VR::PN, "VIVALDI", "VIVALDI^ANTONIO", false),
        (VR::PN, "VIVALDI^^", "Vivaldi", true),
        (VR::PN, "山田*", "Yamada^Tarou=山田^太郎", true),
        (VR::PN, "=山田^太郎", "Yamada^Tarou=山田^太郎", true),
        (VR::PN, "Suzuki*=山田^太郎", "Yamada^Tarou=山田^太郎", false),
        (VR::UI, "1.2\\1.3", "1.3", true),
        (VR::UI, "1.2*", "1.23", false),
        (VR::AE, "AA33", "AA32\\AA33", true),
        (VR::CS, "CT\\MR", "MR", true),
        (VR::LT, "a\\b", "a\\b", true),
    ] {
        assert_eq!(fits(wanted, vr, value), expected, "{wanted} on {value}");
    }
}

#[test]
fn dates_and_times_are_matched_by_ranges_that_include_both_ends() {
    for (vr, wanted, value, expected) in [
        (VR::DA, "19951015", "19951015", true),
        (VR::DA, "1995.10.15", "19951015", true),
        (VR::DA, "19950101-19951231", "19951231", true),
        (VR::DA, "19960101-", "19951231", false),
        (VR::DA, "-19951231", "19951231", true),
        (VR::DA, "19951015", "", false),
        (VR::DA, "nonsense", "19951015", false),
        (VR::TM, "0800-1200", "085607", true),
        (VR::TM, "0800-1200", "120059.5", true),
        (VR::TM, "0800-1200", "120100", false),
        (VR::TM, "08:00:00-09:00:00", "085607", true),
        (VR::TM, "0856", "085607", true),
        (VR::TM, "120000-", "115959.999999", false),
        (VR::TM, "-12", "1259", true),
    ] {
        assert_eq!(fits(wanted, vr, value), expected, "{wanted} on {value}");
    }
}

#[test]
fn every_key_of_an_item_must_fit_the_same_item() {
    let (modality, station) = (tags::MODALITY, tags::SCHEDULED_STATION_AE_TITLE);
    for (wanted, expected) in [
        (step_keys(&[(modality, VR::CS, "US"), (station, VR::AE, "VIVID2")]), true),
        (step_keys(&[(modality, VR::CS, "CT"), (station, VR::AE, "VIVID2")]), false),
        (step_keys(&[(modality, VR::CS, ""), (station, VR::AE, "*")]), true),
        (step_keys(&[]), true),
    ] {
        assert_eq!(matches(&wanted, &entry()), expected, "{wanted:?}");
    }
}

#[test]
fn every_attribute_asked_for_is_answered_and_no_other() {
    let mut wanted = keys(&[
        (tags::PATIENT_ID, VR::LO, "AV*"),
        (tags::ALLERGIES, VR::LO, ""),
        (tags::PATIENT_STATE, VR::LO, "never heard of"),
    ]);
    wanted.put_items(tags::SCHEDULED_PROCEDURE_STEP_SEQUENCE, vec![keys(&[(tags::MODALITY, VR::CS, "")])]);
    assert!(matches(&wanted, &entry()), "a key that is not known matches everything");
    assert!(lacks(&wanted, &entry()), "and that is said");
    let answer = answer(&wanted, &entry(), &[CharacterSets::default()]);
    let texts = [tags::PATIENT_ID, tags::ALLERGIES, tags::PATIENT_STATE].map(|tag| answer.text(tag));
    assert_eq!(texts, ["AV35674", "", ""]);
    assert_eq!(answer.elements().len(), 4, "{answer:?}");
    assert_eq!(answer.item(tags::SCHEDULED_PROCEDURE_STEP_SEQUENCE).unwrap().text(tags::MODALITY), "US");
}

#[test]
fn an_item_without_attributes_asks_for_all_of_them() {
    let answer = answer(&step_keys(&[]), &entry(), &[CharacterSets::default()]);
    let step = answer.item(tags::SCHEDULED_PROCEDURE_STEP_SEQUENCE).unwrap();
    assert_eq!(step.texts(tags::SCHEDULED_STATION_AE_TITLE), ["VIVID", "VIVID2"]);
}

#[test]
fn an_answer_is_written_in_the_first_character_set_that_has_all_its_characters() {
    let wanted = keys(&[(tags::PATIENT_NAME, VR::PN, "")]);
    let latin = CharacterSets::declared("ISO_IR 100").unwrap();
    let japanese = CharacterSets::declared("\\ISO 2022 IR 87").unwrap();
    let told = |charsets: &[CharacterSets]| answer(&wanted, &entry(), charsets).text(tags::SPECIFIC_CHARACTER_SET);
    assert_eq!(told(&[latin.clone(), japanese]), "\\ISO 2022 IR 87");
    assert_eq!(told(&[latin]), "ISO_IR 192", "nothing is lost when none fits");
    let plain = keys(&[(tags::PATIENT_ID, VR::LO, "")]);
    assert_eq!(answer(&plain, &entry(), &[CharacterSets::default()]).text(tags::SPECIFIC_CHARACTER_SET), "");
}

proptest! {
    /// The wildcard walk agrees with the definition: `*` is any rest, `?` any character.
    #[test]
    fn wildcards_match_what_their_definition_says(wanted in "[ab?*]{0,8}", value in "[ab]{0,8}") {
        fn defined(wanted: &[u8], value: &[u8]) -> bool {
            match (wanted.split_first(), value.split_first()) {
                (None, None) => true,
                (Some((b'*', rest)), _) if defined(rest, value) => true,
                (Some((b'*', _)), Some((_, later))) => defined(wanted, later),
                (Some((b'?', rest)), Some((_, later))) => defined(rest, later),
                (Some((w, rest)), Some((v, later))) => w == v && defined(rest, later),
                _ => false,
            }
        }
        prop_assert_eq!(wildcard_fits(&wanted, &value), defined(wanted.as_bytes(), value.as_bytes()));
    }

    #[test]
    fn nothing_a_query_holds_panics(wanted in ".{0,24}", value in ".{0,24}") {
        for vr in [VR::DA, VR::TM, VR::DT, VR::PN, VR::LO, VR::UI, VR::UN, VR::LT] {
            fits(&wanted, vr, &value);
        }
    }
}
