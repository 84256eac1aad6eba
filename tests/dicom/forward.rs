//! Images on their way to a PACS: bytes as they came, whatever the PACS does meanwhile.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use afferent::delivery::config::{Config, Protocol};
use afferent::delivery::dicom::Dicom;
use afferent::delivery::instance::{Images, Reference};
use afferent::delivery::stow::Stow;
use afferent::delivery::window::Pace;
use afferent::delivery::{Destination, Outcome, Scope};
use afferent::message::dicom::rewrite::{Changes, Profile, Rule};
use afferent::message::dicom::{Tag, read_head};
use afferent::sim::modality::exam::{Exam, Kind, Object};
use afferent::sim::pacs::{Act, Options, Pacs, Rejection};
use afferent::wire::dimse::uid;

use crate::peers::{DcmRecv, Orthanc, StoreScp, until};

/// A spool, and what the outbox says of its files.
pub(crate) struct Spool(tempfile::TempDir);

impl Spool {
    pub(crate) fn new() -> Spool {
        Spool(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes the object to a file of its own; the outbox body.
    pub(crate) fn keep(&self, object: &Object) -> Vec<u8> {
        let (name, file) = (format!("{}.dcm", object.sop_instance_uid), object.file());
        std::fs::write(self.path().join(&name), &file).unwrap();
        let reference = Reference {
            spool: name,
            sop_class_uid: object.sop_class_uid.clone(),
            sop_instance_uid: object.sop_instance_uid.clone(),
            transfer_syntax_uid: object.transfer_syntax_uid.clone(),
            bytes: file.len() as u64,
            conflict: false,
        };
        reference.body()
    }
}

pub(crate) fn config(port: u16, called_ae_title: &str) -> Config {
    Config {
        address: Some(format!("127.0.0.1:{port}")),
        called_ae_title: Some(called_ae_title.to_owned()),
        ..Config::new("pacs", Protocol::Dicom)
    }
}

/// A simulated PACS that keeps what it gets.
async fn pacs(options: Options) -> Pacs {
    let options = Options { listen: "127.0.0.1:0".into(), keep_objects: true, ..options };
    Pacs::start(options).await.unwrap()
}

fn dicom(spool: &Spool, config: Config) -> Dicom {
    assert_eq!(config.problems(), []);
    Dicom::new(Arc::new(config), Images::unchanged(spool.path().to_owned()), Pace::new(0))
}

pub(crate) async fn send(to: &mut impl Destination, spool: &Spool, object: &Object) -> Outcome {
    let body = spool.keep(object);
    to.deliver(&object.sop_instance_uid, &body).await
}

#[track_caller]
pub(crate) fn assert_delivered(outcome: &Outcome) {
    assert!(matches!(outcome, Outcome::Delivered { .. }), "{outcome:?}");
}

/// An echo examination and a CT series: uncompressed, compressed and structured objects.
pub(crate) fn objects() -> Vec<Object> {
    let exams = [Exam::new(Kind::Echo, 1, 0, 5), Exam::new(Kind::Ct, 1, 1, 3)];
    exams.iter().flat_map(|exam| (0..exam.objects).map(|number| exam.object(number))).collect()
}

/// A CT slice of this many rows and columns.
fn slice(edge: u16) -> Object {
    let mut exam = Exam::new(Kind::Ct, 1, 0, 1);
    exam.edge = edge;
    exam.object(0)
}

/// A data set as a file holds it, behind the file's own header.
fn data_set(file: &[u8]) -> &[u8] {
    let length = u32::from_le_bytes(file[140..144].try_into().unwrap()) as usize;
    &file[144 + length..]
}

#[tokio::test(flavor = "multi_thread")]
async fn i5_storescp_gets_every_object_bit_for_bit_in_its_own_transfer_syntax() {
    let Some(scp) = StoreScp::start(&[], "forwarding to storescp") else { return };
    let spool = Spool::new();
    let mut pacs = dicom(&spool, config(scp.port, StoreScp::AE_TITLE));
    let objects = objects();
    for object in &objects {
        assert_delivered(&send(&mut pacs, &spool, object).await);
    }
    let files = scp.files();
    assert_eq!(files.len(), objects.len());
    for file in files {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let object = objects.iter().find(|o| name.ends_with(&o.sop_instance_uid)).expect("an object that was sent");
        let bytes = std::fs::read(file).unwrap();
        assert!(data_set(&bytes) == object.data_set, "{name} was changed on the way");
        let syntax = object.transfer_syntax_uid.as_bytes();
        assert!(bytes[..400].windows(syntax.len()).any(|w| w == syntax), "{name} is in another transfer syntax");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i5_orthanc_holds_every_object_once_with_its_pixels_however_often_it_is_sent() {
    let Some(orthanc) = Orthanc::start("forwarding to Orthanc").await else { return };
    let spool = Spool::new();
    let mut pacs = dicom(&spool, config(orthanc.dicom, Orthanc::AE_TITLE));
    let objects = objects();
    for object in objects.iter().chain(&objects[..2]) {
        assert_delivered(&send(&mut pacs, &spool, object).await);
    }
    let held = orthanc.held().await;
    let mut sent: Vec<&str> = objects.iter().map(|o| o.sop_instance_uid.as_str()).collect();
    sent.sort_unstable();
    assert_eq!(held.iter().map(|h| h.sop_instance_uid.as_str()).collect::<Vec<_>>(), sent);
    for held in held {
        let object = objects.iter().find(|o| o.sop_instance_uid == held.sop_instance_uid).unwrap();
        let stored = orthanc.file(&held).await;
        // The pixels are the last element of an image.
        let tail = &object.data_set[object.data_set.len() - 4000.min(object.data_set.len() / 2)..];
        assert!(stored.ends_with(tail), "{} was changed on the way", held.sop_instance_uid);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i5_a_dicomweb_server_gets_every_object_once_as_it_is() {
    let Some(orthanc) = Orthanc::start("STOW-RS to Orthanc").await else { return };
    let Some(url) = orthanc.dicom_web("STOW-RS to Orthanc").await else { return };
    let spool = Spool::new();
    let config = Config { url: Some(url), ..Config::new("web", Protocol::Stow) };
    assert_eq!(config.problems(), []);
    let mut web = Stow::new(Arc::new(config), Images::unchanged(spool.path().to_owned()), Pace::new(0));
    let objects = objects();
    for object in objects.iter().chain(&objects[..2]) {
        assert_delivered(&send(&mut web, &spool, object).await);
    }
    let held = orthanc.held().await;
    assert_eq!(held.len(), objects.len());
    for held in held {
        let object = objects.iter().find(|o| o.sop_instance_uid == held.sop_instance_uid).unwrap();
        assert!(orthanc.file(&held).await == object.file(), "{} was changed on the way", held.sop_instance_uid);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_association_carries_everything_and_a_new_pair_joins_the_known_ones() {
    let pacs = pacs(Options::default()).await;
    let spool = Spool::new();
    let mut to = dicom(&spool, config(pacs.address().port(), "PACS"));
    let objects = objects();
    for object in objects.iter().chain(&objects) {
        assert_delivered(&send(&mut to, &spool, object).await);
    }
    to.close().await;
    let heard = pacs.heard();
    let wanted: Vec<&[u8]> = objects.iter().chain(&objects).map(|o| o.data_set.as_slice()).collect();
    assert!(heard.objects.iter().map(|o| o.data_set.as_slice()).eq(wanted), "in order and whole");
    // US uncompressed, US RLE, SR, CT: each new pair one association more, the last of which serves the second round.
    assert_eq!(heard.proposed.iter().map(Vec::len).collect::<Vec<_>>(), [1, 2, 3, 4]);
    let contexts = heard.proposed.last().unwrap();
    assert!(contexts.iter().all(|c| c.transfer_syntaxes.len() == 1), "no context leaves the peer a choice");
    assert_eq!((heard.released, heard.aborted), (4, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_beforehand_is_negotiated_once() {
    let pacs = pacs(Options::default()).await;
    let spool = Spool::new();
    let mut to = dicom(&spool, config(pacs.address().port(), "PACS"));
    let objects = objects();
    to.expect(objects.iter().map(|o| (o.sop_class_uid.clone(), o.transfer_syntax_uid.clone())));
    for object in &objects {
        assert_delivered(&send(&mut to, &spool, object).await);
    }
    assert_eq!(pacs.heard().proposed.iter().map(Vec::len).collect::<Vec<_>>(), [4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn fragments_are_as_long_as_the_peer_takes_and_even() {
    for (pdu_max, longest) in [(0, 128 * 1024), (16_384, 16_384), (16_383, 16_382), (4_000_000, 128 * 1024), (100, 100)]
    {
        let pacs = pacs(Options { pdu_max, ..Options::default() }).await;
        let spool = Spool::new();
        let object = slice(300);
        assert_delivered(&send(&mut dicom(&spool, config(pacs.address().port(), "PACS")), &spool, &object).await);
        let heard = pacs.heard();
        assert!(heard.objects[0].data_set == object.data_set, "{pdu_max}");
        assert_eq!(heard.longest_pdu, longest, "{pdu_max}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_says_who_waits_and_the_association_stays_open() {
    let acts = [0xA700, 0x0124, 0x0110, 0xC000, 0xA900, 0x0122, 0xB007, 0x0111].map(Act::Answer).to_vec();
    let pacs = pacs(Options { acts, ..Options::default() }).await;
    let spool = Spool::new();
    let mut to = dicom(&spool, config(pacs.address().port(), "PACS"));
    let object = &objects()[0];
    for _ in 0..2 {
        let outcome = send(&mut to, &spool, object).await;
        assert!(matches!(outcome, Outcome::Retry { scope: Scope::Unclear, .. }), "{outcome:?}");
    }
    let outcome = send(&mut to, &spool, object).await;
    assert!(matches!(outcome, Outcome::Retry { scope: Scope::Lane, .. }), "{outcome:?}");
    for _ in 0..3 {
        let outcome = send(&mut to, &spool, object).await;
        assert!(matches!(outcome, Outcome::Doubted { .. }), "{outcome:?}");
    }
    for _ in 0..3 {
        assert_delivered(&send(&mut to, &spool, object).await);
    }
    assert_eq!(pacs.heard().proposed.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_an_abort_a_lost_line_or_silence_in_the_middle_nothing_goes_on_the_same_association() {
    let acts = vec![Act::Abort, Act::Close, Act::Hang, Act::Answer(0), Act::Close];
    let pacs = pacs(Options { acts, ..Options::default() }).await;
    let spool = Spool::new();
    let mut to = dicom(&spool, Config { ack_timeout_ms: 3000, ..config(pacs.address().port(), "PACS") });
    let object = slice(600);
    for _ in 0..3 {
        let outcome = send(&mut to, &spool, &object).await;
        assert!(matches!(outcome, Outcome::Retry { scope: Scope::Unclear, .. }), "{outcome:?}");
    }
    assert_delivered(&send(&mut to, &spool, &object).await);
    // An association that was good before is given one more chance, anew: the peer may have timed it out.
    assert_delivered(&send(&mut to, &spool, &object).await);
    until("silence was ended with an A-ABORT", || pacs.heard().aborted == 1);
    let heard = pacs.heard();
    assert_eq!(heard.proposed.len(), 5);
    assert!(heard.objects.iter().all(|o| o.data_set == object.data_set), "nothing cut was ever answered");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_association_is_an_outage_and_says_which_setting_to_change() {
    let rejects = vec![Rejection::CalledAeTitle, Rejection::CallingAeTitle, Rejection::Congestion];
    let pacs = pacs(Options { rejects, ..Options::default() }).await;
    let spool = Spool::new();
    let mut to = dicom(&spool, config(pacs.address().port(), "PACS"));
    let object = &objects()[0];
    for part in ["is not called PACS", "does not know AFFERENT", "busy"] {
        match send(&mut to, &spool, object).await {
            Outcome::Retry { reason, scope: Scope::Destination, .. } => assert!(reason.contains(part), "{reason}"),
            other => panic!("{other:?}"),
        }
    }
    assert_delivered(&send(&mut to, &spool, object).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_syntax_the_pacs_does_not_take_concerns_its_objects_only() {
    let objects = objects();
    let rle = objects.iter().find(|o| o.transfer_syntax_uid.ends_with(".2.5")).unwrap();
    let pacs = pacs(Options { refuses: vec![rle.transfer_syntax_uid.clone()], ..Options::default() }).await;
    let spool = Spool::new();
    let mut to = dicom(&spool, config(pacs.address().port(), "PACS"));
    for object in &objects {
        let outcome = send(&mut to, &spool, object).await;
        match outcome {
            Outcome::Doubted { reason } if object.transfer_syntax_uid == rle.transfer_syntax_uid => {
                assert!(reason.contains(&rle.transfer_syntax_uid) && reason.contains("enabled"), "{reason}");
            }
            other => assert_delivered(&other),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_class_at_which_the_pacs_aborts_stops_no_other_and_is_for_a_person() {
    let objects = objects();
    let rle = objects.iter().find(|o| o.transfer_syntax_uid.ends_with(".2.5")).unwrap();
    let known = objects.iter().find(|o| o.transfer_syntax_uid != rle.transfer_syntax_uid).unwrap();
    let pacs = pacs(Options { aborts_on: vec![rle.transfer_syntax_uid.clone()], ..Options::default() }).await;
    let spool = Spool::new();
    let mut to = dicom(&spool, config(pacs.address().port(), "PACS"));
    // Nobody can tell whose fault the very first abort is.
    let outcome = send(&mut to, &spool, rle).await;
    assert!(matches!(outcome, Outcome::Retry { scope: Scope::Unclear, .. }), "{outcome:?}");
    for object in [known, rle, known, rle] {
        match send(&mut to, &spool, object).await {
            Outcome::Doubted { reason } if object.sop_instance_uid == rle.sop_instance_uid => {
                assert!(reason.contains(&rle.transfer_syntax_uid) && reason.contains("enabled"), "{reason}");
            }
            other => assert_delivered(&other),
        }
    }
    // What was expected beforehand and cannot be had does not spoil the rest for good either.
    let mut to = dicom(&spool, config(pacs.address().port(), "PACS"));
    to.expect([rle, known].map(|o| (o.sop_class_uid.clone(), o.transfer_syntax_uid.clone())));
    let outcome = send(&mut to, &spool, known).await;
    assert!(matches!(outcome, Outcome::Retry { scope: Scope::Unclear, .. }), "{outcome:?}");
    assert_delivered(&send(&mut to, &spool, known).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn i6_a_class_for_which_the_pacs_rejects_associations_stops_no_other_and_is_for_a_person() {
    let objects = objects();
    let rle = objects.iter().find(|o| o.transfer_syntax_uid.ends_with(".2.5")).unwrap();
    let known = objects.iter().find(|o| o.transfer_syntax_uid == uid::EXPLICIT_VR_LITTLE_ENDIAN).unwrap();
    let refuses = vec![rle.transfer_syntax_uid.clone()];
    let simulated = pacs(Options { refuses, rejects_what_it_refuses: true, ..Options::default() }).await;
    let real = DcmRecv::start(&known.sop_class_uid, &known.transfer_syntax_uid, "how DCMTK's DcmSCP rejects");
    for port in [Some(simulated.address().port()), real.as_ref().map(|real| real.port)].into_iter().flatten() {
        let spool = Spool::new();
        let mut to = dicom(&spool, config(port, "PACS"));
        // Whether it rejects this class or this gateway, nobody can tell from the very first answer.
        let outcome = send(&mut to, &spool, rle).await;
        assert!(matches!(outcome, Outcome::Retry { scope: Scope::Unclear, .. }), "{outcome:?}");
        assert_delivered(&send(&mut to, &spool, known).await);
        match send(&mut to, &spool, rle).await {
            Outcome::Doubted { reason } => assert!(reason.contains(&rle.transfer_syntax_uid), "{reason}"),
            other => panic!("{other:?}"),
        }
        assert_delivered(&send(&mut to, &spool, known).await);
    }
    // A gateway that is not known there has nothing parked, however many classes it proposes.
    let pacs = pacs(Options { rejects: vec![Rejection::NoReason; 4], ..Options::default() }).await;
    let spool = Spool::new();
    let mut to = dicom(&spool, config(pacs.address().port(), "PACS"));
    to.expect([rle, known].map(|o| (o.sop_class_uid.clone(), o.transfer_syntax_uid.clone())));
    for object in [known, rle, known] {
        let outcome = send(&mut to, &spool, object).await;
        assert!(matches!(outcome, Outcome::Retry { scope: Scope::Unclear, .. }), "{outcome:?}");
    }
    assert_delivered(&send(&mut to, &spool, known).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_lost_or_one_abort_while_a_new_class_is_proposed_is_not_its_fault() {
    let objects = objects();
    let rle = objects.iter().find(|o| o.transfer_syntax_uid.ends_with(".2.5")).unwrap();
    let known = objects.iter().find(|o| o.transfer_syntax_uid != rle.transfer_syntax_uid).unwrap();
    for (how, tries) in [(Rejection::Close, 2), (Rejection::Abort, 1)] {
        let pacs = pacs(Options { rejects: vec![how], ..Options::default() }).await;
        let spool = Spool::new();
        let mut to = dicom(&spool, config(pacs.address().port(), "PACS"));
        to.expect([(known.sop_class_uid.clone(), known.transfer_syntax_uid.clone())]);
        for _ in 1..tries {
            let outcome = send(&mut to, &spool, rle).await;
            assert!(matches!(outcome, Outcome::Retry { scope: Scope::Unclear, .. }), "{how:?}: {outcome:?}");
        }
        assert_delivered(&send(&mut to, &spool, rle).await);
        assert_delivered(&send(&mut to, &spool, known).await);
    }
    // Who always hangs up on one class gets the others all the same.
    let pacs = pacs(Options { rejects: vec![Rejection::Close; 2], ..Options::default() }).await;
    let spool = Spool::new();
    let mut to = dicom(&spool, config(pacs.address().port(), "PACS"));
    to.expect([rle, known].map(|o| (o.sop_class_uid.clone(), o.transfer_syntax_uid.clone())));
    for _ in 0..2 {
        let outcome = send(&mut to, &spool, rle).await;
        assert!(matches!(outcome, Outcome::Retry { scope: Scope::Unclear, .. }), "{outcome:?}");
    }
    assert_delivered(&send(&mut to, &spool, known).await);
    let proposed: Vec<usize> = pacs.heard().proposed.iter().map(Vec::len).collect();
    assert_eq!(proposed, [2, 1, 1], "the class is not proposed with the others any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn i4_already_there_is_delivered_unless_another_image_of_that_uid_came_here() {
    let acts = [0x0111, 0x0111, 0x0000].map(Act::Answer).to_vec();
    let pacs = pacs(Options { acts, ..Options::default() }).await;
    let spool = Spool::new();
    let mut to = dicom(&spool, config(pacs.address().port(), "PACS"));
    let object = &objects()[0];
    let first = spool.keep(object);
    let reference: Reference = serde_json::from_slice(&first).unwrap();
    let second = Reference { conflict: true, ..reference }.body();
    assert_delivered(&to.deliver("1", &first).await);
    let outcome = to.deliver("1", &second).await;
    assert!(matches!(outcome, Outcome::Refused { .. }), "{outcome:?}");
    assert_delivered(&to.deliver("1", &second).await);
}

/// Changes that take the patient out.
fn basic() -> Changes {
    Changes { deidentify: Some(Profile::Basic), coerce: Vec::new() }
}

/// A CT series, whose data sets name this patient.
fn series() -> (Vec<Object>, Vec<u8>) {
    let exam = Exam::new(Kind::Ct, 7, 0, 3);
    let objects: Vec<Object> = (0..3).map(|number| exam.object(number)).collect();
    let head = read_head(&objects[0].data_set[..], &objects[0].transfer_syntax_uid);
    let id = head.patient.id.expose().as_bytes().to_vec();
    assert!(id.len() > 3 && holds(&objects[0].data_set, &id));
    (objects, id)
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[tokio::test(flavor = "multi_thread")]
async fn i5_real_peers_get_a_study_without_its_patient_under_uids_that_stay_together() {
    let what = "de-identified images in Orthanc";
    let Some(orthanc) = Orthanc::start(what).await else { return };
    let spool = Spool::new();
    let (objects, patient_id) = series();
    let images = |key: u8| Images::changed(spool.path().to_owned(), basic(), [key; 32]);
    let mut pacs = Dicom::new(Arc::new(config(orthanc.dicom, Orthanc::AE_TITLE)), images(1), Pace::new(0));
    // Sent twice, they are there once: a retry makes the same object.
    for object in objects.iter().chain(&objects) {
        assert_delivered(&send(&mut pacs, &spool, object).await);
    }
    if let Some(url) = orthanc.dicom_web(what).await {
        let web = Config { url: Some(url), ..Config::new("web", Protocol::Stow) };
        let mut web = Stow::new(Arc::new(web), images(1), Pace::new(0));
        for object in &objects {
            assert_delivered(&send(&mut web, &spool, object).await);
        }
    }
    let held = orthanc.held().await;
    assert_eq!(held.len(), objects.len());
    let mut studies = BTreeSet::new();
    for held in held {
        assert!(!objects.iter().any(|o| o.sop_instance_uid == held.sop_instance_uid));
        let stored = orthanc.file(&held).await;
        assert!(!holds(&stored, &patient_id), "the patient is still named");
        let head = read_head(&stored[..], "");
        assert_eq!(head.instance.sop_instance_uid, held.sop_instance_uid);
        studies.insert(head.study.instance_uid);
        let pixels = |object: &&Object| stored.ends_with(&object.data_set[object.data_set.len() - 4000..]);
        assert!(objects.iter().any(|object| pixels(&object)), "the pixels are as they came");
    }
    assert_eq!(studies.len(), 1, "the study stays together");
    // Another destination's key makes other names.
    let mut other = Dicom::new(Arc::new(config(orthanc.dicom, Orthanc::AE_TITLE)), images(2), Pace::new(0));
    assert_delivered(&send(&mut other, &spool, &objects[0]).await);
    assert_eq!(orthanc.held().await.len(), objects.len() + 1);
    for object in &objects {
        let kept = std::fs::read(spool.path().join(format!("{}.dcm", object.sop_instance_uid))).unwrap();
        assert!(kept == object.file(), "the original was touched");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn storescp_gets_the_sites_own_values_and_the_pixels_as_they_came() {
    let Some(scp) = StoreScp::start(&[], "coerced images in storescp") else { return };
    let spool = Spool::new();
    let rule = Rule { tag: "0008,0080".into(), set: Some("NORTH WING".into()), ..Rule::default() };
    let changes = Changes { deidentify: None, coerce: vec![rule] };
    let images = Images::changed(spool.path().to_owned(), changes, [1; 32]);
    let mut pacs = Dicom::new(Arc::new(config(scp.port, StoreScp::AE_TITLE)), images, Pace::new(0));
    let objects = objects();
    for object in &objects {
        assert_delivered(&send(&mut pacs, &spool, object).await);
    }
    for file in scp.files() {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let object = objects.iter().find(|o| name.ends_with(&o.sop_instance_uid)).expect("an object that was sent");
        let (got, sent) = (std::fs::read(file).unwrap(), read_head(&object.data_set[..], &object.transfer_syntax_uid));
        let got_head = read_head(&got[..], "");
        assert_eq!(got_head.data_set.text(Tag(0x0008, 0x0080)), "NORTH WING");
        assert_eq!(got_head.patient.id, sent.patient.id);
        assert!(got[got_head.ended_at..] == object.data_set[sent.ended_at..], "{name}: pixels were changed");
        assert_eq!(got_head.transfer_syntax_uid, object.transfer_syntax_uid);
    }
    assert_eq!(scp.files().len(), objects.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_freed_of_its_patient_is_parked_and_never_sent_as_it_is() {
    let pacs = pacs(Options::default()).await;
    let spool = Spool::new();
    let images = Images::changed(spool.path().to_owned(), basic(), [1; 32]);
    let mut to = Dicom::new(Arc::new(config(pacs.address().port(), "PACS")), images, Pace::new(0));
    let ct = slice(16);
    let echo = Exam::new(Kind::Echo, 1, 0, 1).object(0);
    let deflated = Object { transfer_syntax_uid: "1.2.840.10008.1.2.1.99".into(), ..slice(16) };
    let cut = Object { data_set: ct.data_set[..ct.data_set.len() - 10].to_vec(), ..slice(16) };
    for (object, why) in
        [(&echo, "rewrite-perhaps-burned-in"), (&deflated, "rewrite-deflated"), (&cut, "rewrite-unreadable")]
    {
        match send(&mut to, &spool, object).await {
            Outcome::Refused { reason } => assert!(reason.starts_with(why), "{reason}"),
            other => panic!("{why}: {other:?}"),
        }
    }
    assert_delivered(&send(&mut to, &spool, &ct).await);
    assert_eq!(pacs.heard().objects.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_outbox_says_wrongly_is_for_a_person_and_leaves_the_spool_alone() {
    let spool = Spool::new();
    let mut to = dicom(&spool, config(1, "PACS"));
    let body = spool.keep(&objects()[0]);
    let told = |spool: &str| String::from_utf8(body.clone()).unwrap().replacen(r#""spool":""#, spool, 1).into_bytes();
    let wrong =
        [b"{}".to_vec(), b"MSH|".to_vec(), told(r#""spool":"../"#), told(r#""spool":"/etc/"#), told(r#""spool":"x"#)];
    for body in wrong {
        let outcome = to.deliver("1", &body).await;
        assert!(matches!(outcome, Outcome::Refused { .. }), "{outcome:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i10_an_object_of_any_size_passes_in_constant_memory() {
    const MEBIBYTES: usize = 200;
    let pacs = Pacs::start(Options { listen: "127.0.0.1:0".into(), ..Options::default() }).await.unwrap();
    let spool = Spool::new();
    let object = Exam::new(Kind::Ct, 1, 0, 1).object(0);
    let mut reference: Reference = serde_json::from_slice(&spool.keep(&object)).unwrap();
    reference.bytes = (MEBIBYTES << 20) as u64;
    let body = reference.body();
    let path = spool.path().join(format!("{}.dcm", object.sop_instance_uid));
    let file = std::fs::File::options().write(true).open(path).unwrap();
    // Cut short or longer than it came, it is not sent.
    let outcome = dicom(&spool, config(pacs.address().port(), "PACS")).deliver(&object.sop_instance_uid, &body).await;
    assert!(matches!(outcome, Outcome::Refused { .. }), "{outcome:?}");
    // A file with a hole: as long as it says, without the disk for it.
    file.set_len(reference.bytes).unwrap();
    let mut to = dicom(&spool, config(pacs.address().port(), "PACS"));
    let before = peak_kb();
    assert_delivered(&to.deliver(&object.sop_instance_uid, &body).await);
    let grown = peak_kb() - before;
    assert!(grown < 20_000, "{grown} kB more for an object of {MEBIBYTES} MiB");
}

/// The most memory this process ever had.
fn peak_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
