//! A simulated modality: makes examinations and sends them as an echo machine or a CT would, with worklist, procedure
//! step and storage commitment where asked, and misbehaves on request.
//!
//! An object counts as stored when the gateway answered its C-STORE with 0000 or a warning; until then it is sent again.
//! The ledger is the judge's side: what is in it must reach the PACS.

pub mod data_set;
pub mod exam;
pub mod fault;

use std::collections::BTreeMap;
use std::time::Duration;

use dicom_object::InMemDicomObject;
use serde::Serialize;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use self::data_set::DataSet;
use self::exam::{Exam, Kind, Object};
use self::fault::{Fault, Faults};
use super::random::Random;
use crate::delivery::dicom::association::{Association, Failure, Message, Peer, Proposed, p_data};
use crate::wire::dimse::command::{Command, field, status};
use crate::wire::dimse::uid;

/// Pause after a failed association or a refused object.
const RETRY_PAUSE: Duration = Duration::from_millis(300);
/// How long the halves of a PDU are apart.
const HALF_PAUSE: Duration = Duration::from_millis(5);
/// Its text is UTF-8.
const CHARACTER_SET: &str = "ISO_IR 192";
/// Bytes of an object in one PDU, as many old machines have it.
const FRAGMENT: usize = 16 * 1024;

/// What a simulated modality is and does.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The gateway.
    pub peer: Peer,
    /// What kind of machine it is.
    pub kind: Kind,
    /// How many examinations.
    pub exams: u64,
    /// Objects in each.
    pub objects: usize,
    /// Rows and columns of its images.
    pub edge: u16,
    /// Same seed, same examinations and faults.
    pub seed: u64,
    /// Examinations sent side by side, each over an association of its own.
    pub associations: usize,
    /// Asks for the worklist first and takes patient, accession number and study from its first entry.
    pub worklist: bool,
    /// Says when an examination begins and ends (MPPS).
    pub mpps: bool,
    /// Asks for storage commitment at the end and waits this long for the report on the same association.
    pub commitment: Option<Duration>,
    /// What goes wrong.
    pub faults: Faults,
}

/// One line of the ledger: an object the gateway took.
#[derive(Debug, Clone, Serialize)]
pub struct Stored {
    /// SOP Instance UID.
    pub sop_instance_uid: String,
    /// Study Instance UID.
    pub study_instance_uid: String,
    /// Bytes of the data set.
    pub bytes: usize,
}

/// What came of a run.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Summary {
    /// Examinations that were sent whole.
    pub exams: u64,
    /// Objects the gateway took.
    pub stored: u64,
    /// Bytes of their data sets.
    pub bytes: u64,
    /// Associations that were opened.
    pub associations: u64,
    /// Associations that were refused or lost, without those that a fault ended.
    pub failures: u64,
    /// Other answers than "stored", by status.
    pub refusals: BTreeMap<String, u64>,
    /// Faults that were committed.
    pub faults: BTreeMap<Fault, u64>,
    /// Answers "stored" to what was not whole.
    pub violations: u64,
    /// Worklist entries that were taken.
    pub scheduled: u64,
    /// Procedure steps that were completed.
    pub steps: u64,
    /// Objects the gateway committed to.
    pub committed: u64,
    /// Objects asked about that were not committed, or not in time.
    pub uncommitted: u64,
    /// Milliseconds from the last byte of an object to its answer: the median and the longest.
    pub answer_ms_p50: u64,
    /// The longest.
    pub answer_ms_max: u64,
}

/// One lane of examinations.
struct Machine {
    settings: Settings,
    random: Random,
    summary: Summary,
    answers_ms: Vec<u64>,
    ledger: Option<mpsc::Sender<Stored>>,
    stopped: watch::Receiver<bool>,
}

/// The run was told to stop.
struct Stopped;

/// Runs until everything is stored or `stopped` says so.
pub async fn run(settings: Settings, ledger: Option<mpsc::Sender<Stored>>, stopped: watch::Receiver<bool>) -> Summary {
    let lanes = settings.associations.max(1) as u64;
    let mut machines = JoinSet::new();
    for lane in 0..lanes {
        let mut machine = Machine {
            random: Random::new(settings.seed ^ lane.wrapping_mul(0xD6E8_FEB8_6659_FD93)),
            settings: settings.clone(),
            summary: Summary::default(),
            answers_ms: Vec::new(),
            ledger: ledger.clone(),
            stopped: stopped.clone(),
        };
        machines.spawn(async move {
            for number in (lane..machine.settings.exams).step_by(lanes as usize) {
                if machine.exam(number).await.is_err() {
                    break;
                }
            }
            (machine.summary, machine.answers_ms)
        });
    }
    let (mut whole, mut answers_ms) = (Summary::default(), Vec::new());
    while let Some(Ok((summary, answers))) = machines.join_next().await {
        whole.add(summary);
        answers_ms.extend(answers);
    }
    answers_ms.sort_unstable();
    whole.answer_ms_p50 = answers_ms.get(answers_ms.len() / 2).copied().unwrap_or_default();
    whole.answer_ms_max = answers_ms.last().copied().unwrap_or_default();
    whole
}

impl Machine {
    /// One examination, until the gateway has all of it.
    async fn exam(&mut self, number: u64) -> Result<(), Stopped> {
        let settings = &self.settings;
        let mut exam = Exam::new(settings.kind, settings.seed, number, settings.objects);
        exam.edge = settings.edge;
        if self.settings.worklist {
            self.ask_for_work(&mut exam).await?;
        }
        let step = format!("{}.9", exam.study_instance_uid);
        if self.settings.mpps {
            while self.begin_step(&exam, &step).await.is_err() {
                self.summary.failures += 1;
                self.rest().await?;
            }
        }
        let mut at = 0;
        while at < exam.objects {
            self.go_on()?;
            let Some(mut association) = self.associate(&storage(&exam)).await else {
                self.rest().await?;
                continue;
            };
            let ended = loop {
                if at == exam.objects || *self.stopped.borrow() {
                    break Ok(());
                }
                match self.store(&mut association, &exam, &exam.object(at)).await {
                    Ok(true) => at += 1,
                    Ok(false) => sleep(RETRY_PAUSE).await,
                    Err(ended) => break Err(ended),
                }
            };
            match ended {
                Ok(()) if at == exam.objects => {
                    if let Some(patience) = self.settings.commitment {
                        self.commit(&mut association, &exam, patience).await;
                    }
                    association.release().await;
                }
                Ok(()) | Err(Ended::Fault) => association.abort().await,
                Err(Ended::Failure(_)) => {
                    self.summary.failures += 1;
                    association.abort().await;
                    self.rest().await?;
                }
            }
        }
        if self.settings.mpps {
            while self.end_step(&exam, &step).await.is_err() {
                self.summary.failures += 1;
                self.rest().await?;
            }
            self.summary.steps += 1;
        }
        self.summary.exams += 1;
        Ok(())
    }

    /// Sends one object, with whatever goes wrong. True when it is stored, false when it was refused.
    async fn store(&mut self, to: &mut Association, exam: &Exam, object: &Object) -> Result<bool, Ended> {
        let context = to.context(&object.sop_class_uid, &object.transfer_syntax_uid);
        let Some(context) = context else {
            *self.summary.refusals.entry("no context".to_owned()).or_default() += 1;
            return Err(Ended::Failure(Failure::Protocol("no context")));
        };
        let fault = self.settings.faults.draw(&mut self.random);
        if let Some(fault) = fault {
            *self.summary.faults.entry(fault).or_default() += 1;
        }
        let request = Command::store_request(to.next_message_id(), &object.sop_class_uid, &object.sop_instance_uid);
        let half = object.data_set.len() / 2;
        match fault {
            Some(Fault::Abort) => {
                write(to, context, &request, &object.data_set[..half], false, false).await?;
                return Err(Ended::Fault);
            }
            Some(Fault::Cut) => {
                let pdu = p_data(context, &object.data_set[..half], false, true);
                to.send_raw(&p_data(context, &request.write(), true, true)).await?;
                to.send_raw(&pdu[..pdu.len() / 2]).await?;
                return Err(Ended::Fault);
            }
            Some(Fault::WrongLength) => {
                let mut pdu = p_data(context, &object.data_set[..half], false, true);
                // The length of the value, behind that of the PDU.
                pdu[6..10].copy_from_slice(&u32::try_from(half + 1000).unwrap_or(u32::MAX).to_be_bytes());
                to.send_raw(&p_data(context, &request.write(), true, true)).await?;
                to.send_raw(&pdu).await?;
                let answer = to.answer_to(&request).await;
                self.summary.violations += u64::from(answer.is_ok_and(|answer| is_stored(&answer)));
                return Err(Ended::Fault);
            }
            Some(Fault::HalfPdu | Fault::Again) | None => {}
        }
        write(to, context, &request, &object.data_set, true, fault == Some(Fault::HalfPdu)).await?;
        let sent = Instant::now();
        let answer = to.answer_to(&request).await?;
        self.answers_ms.push(u64::try_from(sent.elapsed().as_millis()).unwrap_or(u64::MAX));
        if !is_stored(&answer) {
            let told = format!("{:04X}", answer.command.status().unwrap_or_default());
            *self.summary.refusals.entry(told).or_default() += 1;
            return Ok(false);
        }
        self.summary.stored += 1;
        self.summary.bytes += object.data_set.len() as u64;
        if let Some(ledger) = &self.ledger {
            let line = Stored {
                sop_instance_uid: object.sop_instance_uid.clone(),
                study_instance_uid: exam.study_instance_uid.clone(),
                bytes: object.data_set.len(),
            };
            // A ledger that is not read any more is no reason to stop.
            let _ = ledger.send(line).await;
        }
        if fault == Some(Fault::Again) {
            let request = Command::store_request(to.next_message_id(), &object.sop_class_uid, &object.sop_instance_uid);
            write(to, context, &request, &object.data_set, true, false).await?;
            let answer = to.answer_to(&request).await?;
            self.summary.violations += u64::from(!is_stored(&answer));
        }
        Ok(true)
    }

    /// Asks for today's work and takes the first entry, if there is one.
    async fn ask_for_work(&mut self, exam: &mut Exam) -> Result<(), Stopped> {
        self.go_on()?;
        let proposed = [one(uid::MODALITY_WORKLIST, uid::EXPLICIT_VR_LITTLE_ENDIAN)];
        let Some(mut association) = self.associate(&proposed).await else { return Ok(()) };
        let mut step = DataSet::default();
        step.text(0x0008_0060, "CS", exam.modality());
        step.text(0x0040_0001, "AE", &self.settings.peer.calling_ae_title);
        step.text(0x0040_0002, "DA", "");
        step.text(0x0040_0003, "TM", "");
        step.text(0x0040_0009, "SH", "");
        let mut query = DataSet::default();
        query.text(0x0008_0005, "CS", CHARACTER_SET);
        query.text(0x0008_0050, "SH", "");
        query.text(0x0010_0010, "PN", "");
        query.text(0x0010_0020, "LO", "");
        query.text(0x0020_000D, "UI", "");
        query.items(0x0040_0100, &[step]);
        query.text(0x0040_1001, "SH", "");
        match first_answer(&mut association, &query.into_bytes()).await {
            Ok(Some(entry)) => {
                self.summary.scheduled += 1;
                let step =
                    entry.element_by_name("ScheduledProcedureStepSequence").ok().and_then(|e| e.items()?.first());
                for (to, from, name) in [
                    (&mut exam.accession_number, Some(&entry), "AccessionNumber"),
                    (&mut exam.patient_name, Some(&entry), "PatientName"),
                    (&mut exam.patient_id, Some(&entry), "PatientID"),
                    (&mut exam.study_instance_uid, Some(&entry), "StudyInstanceUID"),
                    (&mut exam.requested_procedure_id, Some(&entry), "RequestedProcedureID"),
                    (&mut exam.scheduled_step_id, step, "ScheduledProcedureStepID"),
                ] {
                    if let Some(value) = from.and_then(|from| text(from, name)).filter(|value| !value.is_empty()) {
                        *to = value;
                    }
                }
                association.release().await;
            }
            Ok(None) => association.release().await,
            Err(_) => {
                self.summary.failures += 1;
                association.abort().await;
            }
        }
        Ok(())
    }

    async fn begin_step(&mut self, exam: &Exam, step: &str) -> Result<(), Failure> {
        let mut scheduled = DataSet::default();
        scheduled.text(0x0008_0050, "SH", &exam.accession_number);
        scheduled.text(0x0020_000D, "UI", &exam.study_instance_uid);
        scheduled.text(0x0040_0009, "SH", &exam.scheduled_step_id);
        scheduled.text(0x0040_1001, "SH", &exam.requested_procedure_id);
        let mut set = DataSet::default();
        set.text(0x0008_0005, "CS", CHARACTER_SET);
        set.text(0x0008_0060, "CS", exam.modality());
        set.text(0x0010_0010, "PN", &exam.patient_name);
        set.text(0x0010_0020, "LO", &exam.patient_id);
        set.text(0x0040_0241, "AE", &self.settings.peer.calling_ae_title);
        set.text(0x0040_0244, "DA", "20260302");
        set.text(0x0040_0245, "TM", "101500");
        set.text(0x0040_0252, "CS", "IN PROGRESS");
        set.text(0x0040_0253, "SH", "PPS1");
        set.items(0x0040_0270, &[scheduled]);
        let request = |id| Command::create_request(id, uid::PERFORMED_PROCEDURE_STEP, Some(step));
        self.tell(uid::PERFORMED_PROCEDURE_STEP, request, &set.into_bytes()).await
    }

    async fn end_step(&mut self, exam: &Exam, step: &str) -> Result<(), Failure> {
        let made = |wanted: bool| {
            let all = (0..exam.objects).filter(move |number| exam.is_report(*number) == wanted);
            all.map(|number| exam.reference(number)).collect::<Vec<_>>()
        };
        let mut series = DataSet::default();
        series.text(0x0008_0054, "AE", "");
        series.items(0x0008_1140, &made(false));
        series.text(0x0018_1030, "LO", "protocol");
        series.text(0x0020_000E, "UI", &exam.series_instance_uid);
        series.items(0x0040_0220, &made(true));
        let mut set = DataSet::default();
        set.text(0x0040_0250, "DA", "20260302");
        set.text(0x0040_0251, "TM", "103000");
        set.text(0x0040_0252, "CS", "COMPLETED");
        set.items(0x0040_0340, &[series]);
        let request = |id| Command::set_request(id, uid::PERFORMED_PROCEDURE_STEP, step);
        self.tell(uid::PERFORMED_PROCEDURE_STEP, request, &set.into_bytes()).await
    }

    /// One request on an association of its own, which must succeed. That it was told before is success too.
    async fn tell(&mut self, class: &str, request: impl Fn(u16) -> Command, data: &[u8]) -> Result<(), Failure> {
        let proposed = [one(class, uid::EXPLICIT_VR_LITTLE_ENDIAN)];
        let mut association = Association::open(&self.settings.peer, &proposed).await?;
        self.summary.associations += 1;
        let (context, _) = association.context_of(class).ok_or(Failure::Protocol("no context"))?;
        let request = request(association.next_message_id());
        association.send(context, &request, Some(data)).await?;
        let answer = association.answer_to(&request).await?;
        association.release().await;
        match answer.command.status() {
            Some(status::SUCCESS | status::DUPLICATE_INSTANCE) => Ok(()),
            other => {
                let told = format!("{:04X}", other.unwrap_or_default());
                *self.summary.refusals.entry(told).or_default() += 1;
                Err(Failure::Protocol("refused"))
            }
        }
    }

    /// Asks whether the gateway commits to keep the examination, and waits for the report.
    async fn commit(&mut self, to: &mut Association, exam: &Exam, patience: Duration) {
        let objects = exam.objects as u64;
        let committed = match timeout(patience, ask_for_commitment(to, exam)).await {
            Ok(Ok(committed)) => committed.min(objects),
            _ => 0,
        };
        self.summary.committed += committed;
        self.summary.uncommitted += objects - committed;
    }

    async fn associate(&mut self, proposed: &[Proposed]) -> Option<Association> {
        match Association::open(&self.settings.peer, proposed).await {
            Ok(association) => {
                self.summary.associations += 1;
                Some(association)
            }
            Err(_) => {
                self.summary.failures += 1;
                None
            }
        }
    }

    fn go_on(&self) -> Result<(), Stopped> {
        if *self.stopped.borrow() { Err(Stopped) } else { Ok(()) }
    }

    async fn rest(&mut self) -> Result<(), Stopped> {
        tokio::select! {
            () = sleep(RETRY_PAUSE) => Ok(()),
            _ = self.stopped.wait_for(|stop| *stop) => Err(Stopped),
        }
    }
}

/// Why nothing more goes on an association.
enum Ended {
    /// A fault ended it.
    Fault,
    Failure(#[allow(dead_code, reason = "for whoever debugs a run")] Failure),
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Self {
        Ended::Failure(failure)
    }
}

impl Summary {
    fn add(&mut self, other: Summary) {
        self.exams += other.exams;
        self.stored += other.stored;
        self.bytes += other.bytes;
        self.associations += other.associations;
        self.failures += other.failures;
        self.violations += other.violations;
        self.scheduled += other.scheduled;
        self.steps += other.steps;
        self.committed += other.committed;
        self.uncommitted += other.uncommitted;
        for (told, count) in other.refusals {
            *self.refusals.entry(told).or_default() += count;
        }
        for (fault, count) in other.faults {
            *self.faults.entry(fault).or_default() += count;
        }
    }
}

/// Command and data set, in fragments of the size old machines use.
async fn write(
    to: &mut Association,
    context: u8,
    request: &Command,
    data: &[u8],
    is_whole: bool,
    in_halves: bool,
) -> Result<(), Failure> {
    to.send_raw(&p_data(context, &request.write(), true, true)).await?;
    let size = to.piece_max().min(FRAGMENT);
    let count = data.len().div_ceil(size);
    for (at, fragment) in data.chunks(size).enumerate() {
        let pdu = p_data(context, fragment, false, is_whole && at + 1 == count);
        if in_halves {
            let (first, rest) = pdu.split_at(pdu.len() / 2);
            to.send_raw(first).await?;
            sleep(HALF_PAUSE).await;
            to.send_raw(rest).await?;
        } else {
            to.send_raw(&pdu).await?;
        }
    }
    Ok(())
}

/// The contexts for everything in an examination, and for storage commitment.
fn storage(exam: &Exam) -> Vec<Proposed> {
    let mut proposed: Vec<Proposed> = Vec::new();
    for number in 0..exam.objects {
        let object = exam.object(number);
        let pair = one(&object.sop_class_uid, &object.transfer_syntax_uid);
        if !proposed.contains(&pair) {
            proposed.push(pair);
        }
    }
    proposed.push(one(uid::STORAGE_COMMITMENT, uid::EXPLICIT_VR_LITTLE_ENDIAN));
    proposed
}

fn one(class: &str, syntax: &str) -> Proposed {
    Proposed { abstract_syntax: class.to_owned(), transfer_syntaxes: vec![syntax.to_owned()], as_scp: false }
}

fn is_stored(answer: &Message) -> bool {
    answer.command.status().is_some_and(|status| status == 0 || status & 0xF000 == 0xB000)
}

/// A data set that came, by another reader than the gateway's.
fn read(data_set: &[u8]) -> Option<InMemDicomObject> {
    let syntax = &dicom_transfer_syntax_registry::entries::EXPLICIT_VR_LITTLE_ENDIAN.erased();
    InMemDicomObject::read_dataset_with_ts(data_set, syntax).ok()
}

fn text(of: &InMemDicomObject, name: &str) -> Option<String> {
    let value = of.element_by_name(name).ok()?.to_str().ok()?;
    Some(value.trim_end_matches(['\0', ' ']).to_owned())
}

/// The first entry of a worklist.
async fn first_answer(to: &mut Association, query: &[u8]) -> Result<Option<InMemDicomObject>, Failure> {
    let (context, _) = to.context_of(uid::MODALITY_WORKLIST).ok_or(Failure::Protocol("no context"))?;
    let request = Command::find_request(to.next_message_id(), uid::MODALITY_WORKLIST);
    to.send(context, &request, Some(query)).await?;
    let mut first = None;
    loop {
        let answer = to.answer_to(&request).await?;
        if !answer.command.status().is_some_and(status::is_pending) {
            return Ok(first);
        }
        first = first.or(read(&answer.data_set));
    }
}

/// How many objects the gateway commits to by its N-EVENT-REPORT; none when it refuses the request.
async fn ask_for_commitment(to: &mut Association, exam: &Exam) -> Result<u64, Failure> {
    let (context, _) = to.context_of(uid::STORAGE_COMMITMENT).ok_or(Failure::Protocol("no context"))?;
    let referenced = |number| {
        let object = exam.object(number);
        let mut item = DataSet::default();
        item.text(0x0008_1150, "UI", &object.sop_class_uid);
        item.text(0x0008_1155, "UI", &object.sop_instance_uid);
        item
    };
    let transaction_uid = format!("{}.8", exam.series_instance_uid);
    let mut set = DataSet::default();
    set.text(0x0008_1195, "UI", &transaction_uid);
    set.items(0x0008_1199, &(0..exam.objects).map(referenced).collect::<Vec<_>>());
    let id = to.next_message_id();
    let request = Command::action_request(id, uid::STORAGE_COMMITMENT, uid::STORAGE_COMMITMENT_INSTANCE, 1);
    to.send(context, &request, Some(&set.into_bytes())).await?;
    if to.answer_to(&request).await?.command.status() != Some(status::SUCCESS) {
        return Ok(0);
    }
    loop {
        let report = to.message().await?;
        let is_report = report.command.field() == field::N_EVENT_REPORT_RQ;
        let answered = if is_report { status::SUCCESS } else { status::UNRECOGNISED_OPERATION };
        to.send(report.context, &Command::response(&report.command, answered), None).await?;
        let Some(said) = read(&report.data_set).filter(|_| is_report) else { continue };
        // One that is reported once more, for an earlier request, is not what is waited for.
        if text(&said, "TransactionUID").is_some_and(|uid| uid == transaction_uid) {
            let committed = said.element_by_name("ReferencedSOPSequence").ok().and_then(|e| Some(e.items()?.len()));
            return Ok(committed.unwrap_or_default() as u64);
        }
    }
}
