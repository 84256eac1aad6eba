//! What the EHR is told.

use super::super::read::read;
use super::super::read::tests::{context, message};
use super::*;
use crate::journal::EntryId;
use crate::wire::mllp::msh;

fn answered(raw: &[u8], outcomes: &[OrderOutcome]) -> (Verdict, String) {
    answered_at(1_772_366_400_000, raw, outcomes)
}

fn answered_at(received_ms: i64, raw: &[u8], outcomes: &[OrderOutcome]) -> (Verdict, String) {
    let asked = read(raw, &context());
    let stored = StoredOrders { outcomes: outcomes.to_vec(), entry: EntryId(7), received_ms, is_new: true };
    let reply = answer(raw, &msh(raw).unwrap(), &asked, &stored);
    (reply.verdict, String::from_utf8(reply.message).unwrap().replace('\r', "\n"))
}

#[test]
fn every_order_is_answered_by_its_own_code() {
    let raw = message(
        "OML^O21^OML_O21",
        &[
            "ORC|NW|A-1^EHR|F-1",
            "OBR|1|A-1^EHR||GLU",
            "ORC|CA|A-2",
            "ORC|CA|A-3",
            "ORC|NW",
            "OBR|2|||K",
            "ORC|XO|A-4",
            "OBR|3|A-4||NA",
        ],
    );
    let outcomes = [OrderOutcome::Accepted, OrderOutcome::Accepted, OrderOutcome::Unknown, OrderOutcome::TooLate];
    let (verdict, text) = answered(&raw, &outcomes);
    assert_eq!(verdict, Verdict::Failed);
    let orcs: Vec<&str> = text.lines().filter(|line| line.starts_with("ORC")).collect();
    assert_eq!(orcs, ["ORC|OK|A-1^EHR|F-1", "ORC|CR|A-2", "ORC|UC|A-3", "ORC|UA", "ORC|UX|A-4"]);
    let errors: Vec<&str> = text.lines().filter(|line| line.starts_with("ERR")).collect();
    assert_eq!(errors.len(), 3);
    assert!(errors[0].starts_with("ERR||ORC^3^2|204^Unknown key identifier^HL70357|E|"), "{}", errors[0]);
    assert!(errors[1].starts_with("ERR||ORC^4^2|101^"), "{}", errors[1]);
    let obrs: Vec<&str> = text.lines().filter(|line| line.starts_with("OBR")).collect();
    assert_eq!(obrs, ["OBR|1|A-1^EHR||GLU", "OBR|2|||K", "OBR|3|A-4||NA"]);
    assert_eq!(answered(&raw, &outcomes).1, text, "the same again");
    assert!(text.contains("\nMSA|AE|M-1\n"), "{text}");
}

#[test]
fn i5_an_answer_has_another_name_though_entries_are_counted_anew_in_a_new_journal() {
    let name = |received_ms: i64, order: &str| {
        let raw = message("ORM^O01^ORM_O01", &[&format!("ORC|NW|{order}"), &format!("OBR|1|{order}||GLU")]);
        let (_, text) = answered_at(received_ms, &raw, &[OrderOutcome::Accepted]);
        text.split('|').nth(9).unwrap().to_string()
    };
    let (first, later) = (1_772_366_400_000, 1_772_452_800_000);
    let names = [name(first, "A-1"), name(first, "A-2"), name(later, "A-1")];
    assert!(names.iter().all(|name| name.len() == 20), "{names:?}");
    assert!(names[0] != names[1] && names[0] != names[2] && names[1] != names[2], "{names:?}");
    assert_eq!(name(first, "A-1"), names[0], "the same again for the same message");
}

#[test]
fn each_message_has_its_own_kind_of_answer() {
    let order = ["ORC|NW|A-1", "OBR|1|A-1||GLU"];
    let kind = |kind: &str, segments: &[&str]| {
        let (verdict, text) = answered(&message(kind, segments), &[OrderOutcome::Accepted]);
        assert_eq!(verdict, Verdict::Accepted, "{kind}");
        text.split('|').nth(8).unwrap().to_string()
    };
    assert_eq!(kind("OML^O21^OML_O21", &order), "ORL^O22^ORL_O22");
    assert_eq!(kind("OML^O33^OML_O33", &["SPM|1|S-1||SER", order[0], order[1]]), "ORL^O34^ORL_O34");
    assert_eq!(kind("ORM^O01^ORM_O01", &order), "ORR^O02^ORR_O02");
    assert_eq!(kind("ADT^A08^ADT_A01", &[]), "ACK^A08^ACK");
    assert_eq!(kind("ADT^A40^ADT_A39", &["MRG|OLD"]), "ACK^A40^ACK");
}

#[test]
fn a_message_that_is_not_for_the_box_is_rejected_with_the_place() {
    let (verdict, text) = answered(&message("ADT^A99", &[]), &[]);
    assert_eq!(verdict, Verdict::Rejected);
    assert!(text.contains("MSA|AR|M-1") && text.contains("ERR||MSH^1^9|201^"), "{text}");
    assert!(!text.contains("SYNTHETIC"), "nothing of the patient: {text}");
}

#[test]
fn an_old_version_gets_one_error_in_its_old_form() {
    let raw = String::from_utf8(message("ORM^O01", &["ORC|CA|A-1", "ORC|CA|A-2"])).unwrap();
    let raw = raw.replace("|P|2.5.1", "|P|2.3");
    let (_, text) = answered(raw.as_bytes(), &[OrderOutcome::Unknown; 2]);
    let errors: Vec<&str> = text.lines().filter(|line| line.starts_with("ERR")).collect();
    assert_eq!(errors, ["ERR|ORC^1^2^204&Unknown key identifier&HL70357"]);
    assert!(text.contains("MSA|AE|M-1|there is no order under this number"), "{text}");
    assert!(text.contains("|ORR^O02|"), "{text}");
}
