//! A simulated ASTM analyzer that works by orders: it asks for them, or waits for a worklist, and sends results for what
//! was ordered, under the specimen and the patient it was told.
//!
//! It runs [`astm::Receiver`] and [`astm::Sender`] from the instrument's end of the line, and judges what the host says:
//! orders for a tube that was not asked for, another patient the second time, a damaged frame, an answer to a question
//! that was taken back.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::Instant;

use super::asking::Told;
use super::conversation::{Attempt, Letter, Mischief, attempt, hush};
use super::faults::{Fault, Faults};
use super::line::{Line, Plug, Stream};
use super::results::{self, Shape};
use crate::message::astm::{self as records, Delimiters, Kind, Record};
use crate::sim::random::Random;
use crate::wire::astm::{self, ACK, NAK};
use crate::wire::{Custody, Event, Output, Protocol, Time, Token};

/// How long an answer may take, scaled. Longer than a gateway keeps to itself on a line it knows nothing of.
const ANSWER_MAX: Duration = Duration::from_secs(45);
/// The silence that outlasts a sender's 15 s timer, scaled.
const STALL: Duration = Duration::from_secs(17);
/// How long it listens for an answer to a question that was taken back, scaled.
const SILENCE: Duration = Duration::from_secs(25);
/// Pause before the line is opened again, scaled.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// Tries of an analyzer that nobody gives another number.
pub const TRIES: u32 = 10;
/// The word for everything (LIS02-A2 clause 10.1.3).
const ALL: &str = "ALL";

/// What an analyzer that works by orders is and does.
#[derive(Clone)]
pub struct Working {
    /// Where it is plugged in.
    pub line: Line,
    /// How its messages look.
    pub shape: Shape,
    /// What it does.
    pub work: Work,
    /// What goes wrong: with the question, or with the host's answer.
    pub faults: Faults,
    /// Same seed, same results and faults.
    pub seed: u64,
    /// Shrinks every timer.
    pub time_scale: f64,
    /// How often a question is asked, and how many waits for a worklist may pass in silence or end with the line, one
    /// after the other.
    pub tries: u32,
    /// Is told how many frames of the host were heard.
    pub frames: Option<watch::Sender<u64>>,
}

/// How an analyzer comes by its orders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// It asks for these tubes, one question each; `ALL` asks for everything.
    Ask(Vec<String>),
    /// It asks for all of these tubes in one question.
    AskTogether(Vec<String>),
    /// It asks for each of these tubes and takes the question back in the same breath.
    TakeBack(Vec<String>),
    /// It waits until so many tubes came that it did not ask for.
    Wait(usize),
}

/// Does its work; what it was told of each tube.
///
/// # Errors
/// The line cannot be set up, or nothing is heard on it.
pub async fn run(working: &Working) -> io::Result<Vec<Told>> {
    let plug = Plug::new(working.line.clone()).await?;
    let (questions, wait) = match &working.work {
        Work::Ask(tubes) => (tubes.iter().map(|tube| vec![tube.clone()]).collect(), 0),
        Work::AskTogether(tubes) => (VecDeque::from([tubes.clone()]), 0),
        Work::TakeBack(tubes) => (tubes.iter().map(|tube| vec![tube.clone()]).collect(), 0),
        Work::Wait(tubes) => (VecDeque::new(), *tubes),
    };
    let mut analyzer = Analyzer {
        working,
        shape: working.shape.clone().by_its_own_codes(),
        can_cut: plug.can_be_cut(),
        random: Random::new(working.seed),
        questions,
        wait,
        tries: 0,
        faults: Vec::new(),
        violations: 0,
        results: VecDeque::new(),
        patients: BTreeMap::new(),
        all: Vec::new(),
        rest: Vec::new(),
    };
    loop {
        let mut io = plug.connect().await;
        analyzer.rest.clear();
        match analyzer.work(&mut *io).await {
            Ok(()) => return Ok(analyzer.all),
            Err(error) if analyzer.tries >= working.tries => return Err(error),
            Err(_) => {}
        }
        drop(io);
        tokio::time::sleep(RETRY_PAUSE.mul_f64(working.time_scale)).await;
    }
}

struct Analyzer<'w> {
    working: &'w Working,
    shape: Shape,
    can_cut: bool,
    random: Random,
    /// What is still to be asked, by the question.
    questions: VecDeque<Vec<String>>,
    /// How many tubes are waited for.
    wait: usize,
    /// Of the question at hand, or silent waits.
    tries: u32,
    /// Faults committed and violations seen since the last tube was noted.
    faults: Vec<&'static str>,
    violations: u64,
    /// Results that are not acknowledged yet: the place of their tube in `all`, and the records.
    results: VecDeque<(usize, u64, Vec<Vec<u8>>)>,
    /// The patient each tube came with.
    patients: BTreeMap<String, String>,
    all: Vec<Told>,
    /// Read, and not heard yet.
    rest: Vec<u8>,
}

/// What the host said of one tube.
struct Tube {
    id: String,
    codes: Vec<String>,
    patient: String,
    is_cancelled: bool,
}

impl Analyzer<'_> {
    async fn work(&mut self, io: &mut dyn Stream) -> io::Result<()> {
        loop {
            while let Some((at, count, records)) = self.results.front().cloned() {
                self.say(io, records, None).await?;
                self.results.pop_front();
                if let Some(told) = self.all.get_mut(at) {
                    told.results_acknowledged += count;
                }
            }
            if let Some(question) = self.questions.front().cloned() {
                self.ask(io, &question).await?;
            } else if self.all.len() < self.wait {
                self.take(io).await?;
            } else {
                return Ok(());
            }
        }
    }

    /// One question and its answer. Asked again where nothing is heard.
    async fn ask(&mut self, io: &mut dyn Stream, question: &[String]) -> io::Result<()> {
        self.tries += 1;
        if self.tries > self.working.tries {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let (in_answer, in_question) = self.mischief();
        self.say(io, self.question(question, "O"), in_question).await?;
        if matches!(self.working.work, Work::TakeBack(_)) {
            self.say(io, self.question(question, &self.shape.cancel_status), None).await?;
            self.silence(io).await?;
            self.answered(question, "", &[]);
        } else if let Some(message) = self.hear(io, in_answer).await? {
            let (reply, tubes) = self.read(&message);
            self.answered(question, &reply, &tubes);
        }
        Ok(())
    }

    /// One message nobody asked for.
    async fn take(&mut self, io: &mut dyn Stream) -> io::Result<()> {
        self.tries += 1;
        if self.tries > self.working.tries {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let (fault, _) = self.mischief();
        let Some(message) = self.hear(io, fault).await? else { return Ok(()) };
        self.tries = 0;
        let (reply, tubes) = self.read(&message);
        for tube in &tubes {
            self.note(tube, &reply);
        }
        // The host does not know that it was heard, and tells again as soon as there is a line.
        match fault {
            Some(Fault::AnswerUnheard) if self.can_cut => Err(closed()),
            _ => Ok(()),
        }
    }

    /// Only first tries go wrong, so that everything gets through in the end.
    fn mischief(&mut self) -> (Option<Fault>, Option<Fault>) {
        if self.tries != 1 {
            return (None, None);
        }
        let faults = &self.working.faults;
        let in_answer = faults.pick_for_answer(&mut self.random);
        let in_question = match in_answer {
            None if self.wait == 0 => faults.pick(&mut self.random, Protocol::Astm),
            _ => None,
        };
        self.faults.extend(in_answer.or(in_question).map(Fault::name));
        (in_answer, in_question)
    }

    fn question(&self, tubes: &[String], status: &str) -> Vec<Vec<u8>> {
        let shape = &self.shape;
        let place = "^".repeat(shape.query_component.saturating_sub(1));
        let ids: Vec<String> = match tubes {
            [all] if all == ALL => vec![ALL.to_string()],
            tubes => tubes.iter().map(|tube| format!("{place}{tube}")).collect(),
        };
        let header = format!("H|\\^&|||{}|||||||P|LIS2-A2|{}", shape.sender, now_written());
        let query = format!("Q|1|{}||ALL||||||||{status}", ids.join("\\"));
        [header, query, "L|1|N".to_string()].map(String::into_bytes).to_vec()
    }

    /// Sends a message until it is acknowledged.
    async fn say(&mut self, io: &mut dyn Stream, records: Vec<Vec<u8>>, fault: Option<Fault>) -> io::Result<()> {
        let scale = self.working.time_scale;
        let at = 1 + self.random.below(records.len());
        let at = if fault == Some(Fault::EnqInSession) { at.max(2) } else { at };
        let mut mischief = Mischief { fault, at, can_cut: self.can_cut };
        loop {
            let standard = astm::SenderConfig::default();
            let config = astm::SenderConfig {
                reply_timeout: standard.reply_timeout.mul_f64(scale),
                busy_wait: standard.busy_wait.mul_f64(scale),
                contention_wait: Some(Duration::from_secs(1).mul_f64(scale)),
                ..standard
            };
            let letter = Letter::Astm(astm::Sender::new(config), records.clone());
            let (outcome, seen) = attempt(io, letter, mischief, &mut self.random, scale).await;
            self.violations += seen.violations;
            mischief.fault = None;
            match outcome? {
                Attempt::Acknowledged => {
                    self.rest = seen.rest;
                    return Ok(());
                }
                Attempt::Failed => tokio::time::sleep(RETRY_PAUSE.mul_f64(scale)).await,
                Attempt::Unanswered => hush(io, scale).await?,
            }
        }
    }

    /// The host's next message as it came; `None` when there is none in time, or when the script says so.
    async fn hear(&mut self, io: &mut dyn Stream, fault: Option<Fault>) -> io::Result<Option<Vec<u8>>> {
        let scale = self.working.time_scale;
        let deadline = Instant::now() + ANSWER_MAX.mul_f64(scale);
        let mut hearing = Hearing::new(scale, fault);
        loop {
            let bytes = std::mem::take(&mut self.rest);
            hearing.receiver.handle_bytes(now(), &bytes);
            while let Some(output) = hearing.receiver.poll_output() {
                match output {
                    Output::Persist(part) => {
                        hearing.take(&part.bytes, part.completes);
                        if let Some(frames) = &self.working.frames {
                            frames.send_modify(|heard| *heard += 1);
                        }
                        hearing.receiver.handle_custody(now(), Ok(&Noted(part.token)));
                    }
                    Output::Send(bytes) => match hearing.mischief(&bytes) {
                        Some(Fault::AnswerContention) => {
                            self.talk_first(io).await?;
                            hearing = Hearing::new(scale, None);
                        }
                        Some(Fault::AnswerCut) if self.can_cut => return Err(closed()),
                        Some(Fault::AnswerCut | Fault::AnswerStall) => {
                            self.stall(io).await?;
                            return Ok(None);
                        }
                        Some(Fault::AnswerUnheard) => {
                            self.stall(io).await?;
                            return Ok(Some(hearing.message));
                        }
                        Some(_) => write(io, &[NAK]).await?,
                        None => write(io, &bytes).await?,
                    },
                    Output::Abandon { .. } => hearing = Hearing::new(scale, None),
                    Output::Event(Event::Refused(_)) => self.violations += 1,
                    _ => {}
                }
            }
            // The host's `EOT` ends the message for good; until it has come, a question of ours would break in.
            if hearing.is_complete && hearing.receiver.is_neutral() {
                return Ok(Some(hearing.message));
            }
            let until = hearing.receiver.poll_timeout().map_or(deadline, |at| Instant::from_std(at).min(deadline));
            match read(io, until).await? {
                Some(bytes) => self.rest = bytes,
                None if Instant::now() >= deadline => return Ok(None),
                None => hearing.receiver.handle_timeout(now()),
            }
        }
    }

    /// Asks for the line at the same moment as the host, gets it (LIS01-A2 clause 6.2.7), and has little to say.
    async fn talk_first(&mut self, io: &mut dyn Stream) -> io::Result<()> {
        let header = format!("H|\\^&|||{}|||||||P|LIS2-A2|{}", self.shape.sender, now_written());
        let records = [header, "L|1|N".to_string()].map(String::into_bytes).to_vec();
        self.say(io, records, Some(Fault::Contention)).await
    }

    /// Says nothing until the host has given up, and hears nothing.
    async fn stall(&mut self, io: &mut dyn Stream) -> io::Result<()> {
        let until = Instant::now() + STALL.mul_f64(self.working.time_scale);
        while read(io, until).await?.is_some() {}
        Ok(())
    }

    /// Nothing may come now.
    async fn silence(&mut self, io: &mut dyn Stream) -> io::Result<()> {
        let until = Instant::now() + SILENCE.mul_f64(self.working.time_scale);
        if !std::mem::take(&mut self.rest).is_empty() || read(io, until).await?.is_some() {
            self.violations += 1;
        }
        Ok(())
    }

    /// The code of the terminator and the tubes of a message.
    fn read(&self, message: &[u8]) -> (String, Vec<Tube>) {
        let (mut reply, mut tubes, mut patient) = (String::new(), Vec::new(), String::new());
        for message in records::read(message, None).messages {
            for record in &message.records {
                match record.kind {
                    Kind::Patient => patient = patient_fields(record, message.delimiters),
                    Kind::Order => tubes.push(Tube {
                        id: filled(record, 3),
                        codes: codes(record),
                        patient: patient.clone(),
                        is_cancelled: record.component(12, 1) == "C",
                    }),
                    Kind::Terminator => reply = record.component(3, 1),
                    _ => {}
                }
            }
        }
        (reply, tubes)
    }

    /// The answer to a question: something is known of each tube, also that there is nothing.
    fn answered(&mut self, question: &[String], reply: &str, tubes: &[Tube]) {
        self.questions.pop_front();
        self.tries = 0;
        let everything = question.iter().any(|tube| tube == ALL);
        for tube in question.iter().filter(|tube| *tube != ALL) {
            let told = Told { tube: tube.clone(), reply: reply.to_string(), ..Told::default() };
            self.all.push(told);
        }
        for tube in tubes {
            if !everything && !question.contains(&tube.id) {
                self.violations += 1;
            } else {
                self.note(tube, reply);
            }
        }
        if let Some(told) = self.all.last_mut() {
            told.faults.append(&mut self.faults);
            told.violations += std::mem::take(&mut self.violations);
        }
    }

    /// What was ordered for a tube is measured, once.
    fn note(&mut self, tube: &Tube, reply: &str) {
        let at = match self.all.iter().rposition(|told| told.tube == tube.id) {
            Some(at) => at,
            None => {
                self.all.push(Told { tube: tube.id.clone(), reply: reply.to_string(), ..Told::default() });
                self.all.len() - 1
            }
        };
        let known = self.patients.entry(tube.id.clone()).or_insert_with(|| tube.patient.clone());
        let is_other = *known != tube.patient;
        let Some(told) = self.all.get_mut(at) else { return };
        told.faults.append(&mut self.faults);
        told.violations += std::mem::take(&mut self.violations) + u64::from(is_other);
        let fresh: Vec<String> = tube.codes.iter().filter(|code| !told.orders.contains(code)).cloned().collect();
        if tube.is_cancelled {
            told.cancelled.extend(tube.codes.iter().cloned());
        } else if fresh.is_empty() {
            told.repeats += u64::from(!tube.codes.is_empty());
        } else {
            told.orders.extend(fresh.iter().cloned());
            let shape = &self.shape;
            let specimen = results::measured(shape, &tube.id, self.working.seed ^ at as u64, &fresh);
            let mut records = results::records(shape, &specimen, &now_written());
            if let Some(patient) = records.get_mut(1) {
                *patient = format!("P|1|{}", tube.patient).trim_end_matches('|').as_bytes().to_vec();
            }
            self.results.push_back((at, fresh.len() as u64, records));
        }
    }
}

/// A message of the host on its way in.
struct Hearing {
    receiver: astm::Receiver,
    message: Vec<u8>,
    frames: usize,
    is_complete: bool,
    /// The fault, until it has been committed.
    fault: Option<Fault>,
}

impl Hearing {
    fn new(scale: f64, fault: Option<Fault>) -> Self {
        let standard = astm::ReceiverConfig::default();
        let config = astm::ReceiverConfig {
            frame_timeout: standard.frame_timeout.mul_f64(scale),
            reply_timeout: standard.reply_timeout.mul_f64(scale),
            ..standard
        };
        let receiver = astm::Receiver::new(config, 1);
        Hearing { receiver, message: Vec::new(), frames: 0, is_complete: false, fault }
    }

    fn take(&mut self, frame: &[u8], completes: bool) {
        self.frames += 1;
        self.message.extend_from_slice(frame);
        self.is_complete |= completes;
    }

    /// What is to be done in place of this answer of ours.
    fn mischief(&mut self, answer: &[u8]) -> Option<Fault> {
        let due = match self.fault? {
            Fault::AnswerContention => self.frames == 0,
            // In the middle, where there is one.
            Fault::AnswerCut | Fault::AnswerStall => self.frames >= 2 || self.is_complete,
            _ => self.is_complete,
        };
        self.fault.take_if(|_| due && answer == [ACK])
    }
}

/// The simulator's disk: there is none, and what it forgets it asks for again.
struct Noted(Token);

impl Custody for Noted {
    fn token(&self) -> Token {
        self.0
    }
}

/// The instrument codes of O.5, one for each repeat, in whichever component they stand.
fn codes(record: &Record) -> Vec<String> {
    let repeats = record.raw_field(5).split('\\').count();
    let of_repeat = |at: usize| {
        let component = |n| record.repeats(5, n).into_iter().nth(at).filter(|text| !text.trim().is_empty());
        (1..=6).find_map(component)
    };
    (0..repeats).filter_map(of_repeat).collect()
}

/// The only component of a field that is filled.
fn filled(record: &Record, field: u16) -> String {
    (1..=6).map(|n| record.component(field, n)).find(|text| !text.trim().is_empty()).unwrap_or_default()
}

/// P.3 to P.9 as they came, to be sent back; nothing where the host writes with other delimiters.
fn patient_fields(record: &Record, delimiters: Delimiters) -> String {
    if delimiters != Delimiters::default() {
        return String::new();
    }
    let fields: Vec<&str> = (3..=9).map(|n| record.raw_field(n)).collect();
    fields.join("|").trim_end_matches('|').to_string()
}

async fn write(io: &mut dyn Stream, bytes: &[u8]) -> io::Result<()> {
    io.write_all(bytes).await?;
    io.flush().await
}

/// Bytes from the host; `None` at the deadline.
async fn read(io: &mut dyn Stream, deadline: Instant) -> io::Result<Option<Vec<u8>>> {
    let mut buffer = [0; 4096];
    match tokio::time::timeout_at(deadline, io.read(&mut buffer)).await {
        Err(_) => Ok(None),
        Ok(Ok(0)) => Err(closed()),
        Ok(count) => Ok(Some(buffer.get(..count?).unwrap_or_default().to_vec())),
    }
}

fn now() -> Time {
    Instant::now().into_std()
}

fn now_written() -> String {
    jiff::Zoned::now().strftime("%Y%m%d%H%M%S").to_string()
}

fn closed() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

#[cfg(test)]
mod tests;
