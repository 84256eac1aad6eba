use super::*;

const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
const BIG: &str = uid::EXPLICIT_VR_BIG_ENDIAN;
const IMPLICIT: &str = uid::IMPLICIT_VR_LITTLE_ENDIAN;
const JPEG: &str = "1.2.840.10008.1.2.4.50";

fn request(contexts: &[(&str, &[&str])]) -> AssociateRq {
    let context = |(at, (class, syntaxes)): (usize, &(&str, &[&str]))| ProposedContext {
        id: (2 * at + 1) as u8,
        abstract_syntax: class.to_string(),
        transfer_syntaxes: syntaxes.iter().map(|syntax| syntax.to_string()).collect(),
    };
    AssociateRq {
        version: 1,
        called_ae_title: "AFFERENT".to_string(),
        calling_ae_title: "CT-1".to_string(),
        application_context: Some(uid::APPLICATION_CONTEXT.to_string()),
        contexts: contexts.iter().enumerate().map(context).collect(),
        user: UserInformation::ours(16384),
    }
}

fn body(pdu: &[u8]) -> &[u8] {
    &pdu[6..]
}

#[test]
fn a_request_and_its_answer_come_out_as_they_went_in() {
    let mut request = request(&[(CT, &[JPEG, IMPLICIT]), (uid::VERIFICATION, &[IMPLICIT])]);
    request.user.roles = vec![
        Role { sop_class_uid: CT.to_string(), scu: true, scp: true },
        Role { sop_class_uid: uid::STORAGE_COMMITMENT.to_string(), scu: false, scp: true },
    ];
    request.user.identity =
        Some(Identity { kind: 2, wants_answer: true, primary: b"name".to_vec(), secondary: b"word".to_vec() });
    assert_eq!(AssociateRq::read(body(&request.write())).unwrap(), request);
    let (answer, agreed) = request.answer(4096);
    let read = AssociateAc::read(body(&answer.write(&request))).unwrap();
    assert_eq!(read, answer);
    assert_eq!(read.agreed(&request), agreed);
    assert_eq!(read.user.identity_answer, Some(Vec::new()), "59H answers an identity that wants it");
    let roles: Vec<_> = read.user.roles.iter().map(|role| (role.scu, role.scp)).collect();
    assert_eq!(roles, [(true, false), (false, true)]);
    assert!(!format!("{request:?}").contains("word"));
}

#[test]
fn of_transfer_syntaxes_the_first_living_one_is_taken() {
    let choices: [(&str, &[&str], Option<&str>); 11] = [
        (CT, &[JPEG, IMPLICIT], Some(JPEG)),
        (CT, &[BIG, JPEG], Some(JPEG)),
        (CT, &[BIG], Some(BIG)),
        (CT, &["1.2.840.113619.5.2"], Some("1.2.840.113619.5.2")),
        ("1.2.840.113619.4.27", &[IMPLICIT], Some(IMPLICIT)),
        (CT, &[], None),
        (uid::VERIFICATION, &[IMPLICIT], Some(IMPLICIT)),
        (uid::MODALITY_WORKLIST, &[BIG, JPEG, IMPLICIT], Some(IMPLICIT)),
        (uid::MODALITY_WORKLIST, &[BIG], None),
        (uid::PERFORMED_PROCEDURE_STEP, &[uid::EXPLICIT_VR_LITTLE_ENDIAN], Some(uid::EXPLICIT_VR_LITTLE_ENDIAN)),
        // Query and retrieve of patients.
        ("1.2.840.10008.5.1.4.1.2.1.1", &[IMPLICIT], None),
    ];
    for (class, syntaxes, wanted) in choices {
        let (_, agreed) = request(&[(class, syntaxes)]).answer(0);
        assert_eq!(agreed.first().map(|context| context.transfer_syntax.as_str()), wanted, "{class} in {syntaxes:?}");
    }
}

#[test]
fn every_context_is_answered_once() {
    let all = vec![(CT, &[IMPLICIT][..]); 128];
    let mut request = request(&all);
    assert_eq!(request.answer(0).1.len(), 128);
    request.contexts.iter_mut().for_each(|context| context.id = 1);
    let (answer, agreed) = request.answer(0);
    assert_eq!((answer.contexts.len(), agreed.len()), (1, 1));
}

#[test]
fn what_nobody_knows_is_skipped_and_what_overruns_is_not() {
    let plain = request(&[(CT, &[IMPLICIT])]);
    let mut odd = plain.write();
    odd.extend_from_slice(&[0x70, 0, 0, 2, 1, 2]);
    assert_eq!(AssociateRq::read(body(&odd)).unwrap(), plain);
    odd.extend_from_slice(&[0x20, 0, 0xFF, 0xFF, 1]);
    assert_eq!(AssociateRq::read(body(&odd)), Err(OVERRUN));
    for cut in [0, 1, 67, 70] {
        assert_eq!(AssociateRq::read(&body(&odd)[..cut]), Err(CUT));
    }
}

#[test]
fn only_bit_0_of_the_version_counts() {
    let mut request = request(&[(CT, &[IMPLICIT])]);
    let wrong = Some(Rejection::PROTOCOL_VERSION);
    for (version, wanted) in [(1, None), (3, None), (0, wrong), (2, wrong)] {
        request.version = version;
        assert_eq!(request.rejection().map(|(rejection, _)| rejection), wanted, "version {version}");
    }
    request.version = 1;
    for context in [None, Some("1.2.840.10008.3.1.1.9".to_string())] {
        request.application_context = context;
        assert_eq!(request.rejection().unwrap().0, Rejection::APPLICATION_CONTEXT);
    }
}

#[test]
fn an_answer_gives_nothing_that_was_not_asked_for() {
    let request = request(&[(CT, &[IMPLICIT])]);
    let (mut answer, _) = request.answer(0);
    answer.contexts[0].transfer_syntax = JPEG.to_string();
    let context = AnsweredContext { id: 99, result: 0, transfer_syntax: IMPLICIT.to_string() };
    answer.contexts.push(context);
    assert_eq!(answer.agreed(&request), []);
}
