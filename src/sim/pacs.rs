//! A simulated PACS: takes images by C-STORE, answers echoes and storage commitment, and misbehaves on request.
//!
//! It is the counterpart of [`crate::delivery::dicom`] and reads and writes PDUs with dicom-ul, so that a fault in the
//! gateway's own machines is not matched by the same fault in its judge. It remembers what it took, how often, and
//! whether an object that came twice was the same.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dicom_ul::pdu::{
    AbortRQSource, AssociationAC, AssociationRJ, AssociationRJResult, AssociationRJServiceProviderPresentationReason,
    AssociationRJServiceUserReason, AssociationRJSource, AssociationRQ, PDataValue, PDataValueType, Pdu,
    PresentationContextProposed, PresentationContextResult, PresentationContextResultReason, UserVariableItem,
    read_pdu, write_pdu,
};
use ring::digest;
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;

use super::modality::data_set::DataSet;
use super::modality::exam::Object;
use super::random::Random;
use crate::tls::{self, ServerTls, TlsError};
use crate::wire::dimse::command::{Command, field, status};
use crate::wire::dimse::uid;

/// The longest PDU it takes, whatever it says.
const PDU_MAX: u32 = 4 * 1024 * 1024;
/// Probability of an act that names none.
const PROBABILITY_DEFAULT: f64 = 0.05;
/// How long a slow answer takes unless told otherwise.
pub const SLOW_DEFAULT: Duration = Duration::from_secs(2);

/// What it does with an object, once its first bytes came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Takes it and answers with this status.
    Answer(u16),
    /// Takes it and answers after a while.
    Slow,
    /// A-ABORT.
    Abort,
    /// Closes the connection without a word.
    Close,
    /// Takes it and never answers.
    Hang,
}

/// Acts with a probability each, such as `a700:0.1,abort`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Mix(Vec<(Act, f64)>);

/// How it does not let somebody in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// Called AE title not recognised (1,1,7).
    CalledAeTitle,
    /// Calling AE title not recognised (1,1,3).
    CallingAeTitle,
    /// Temporary congestion (2,3,1).
    Congestion,
    /// For good, without a reason (1,1,1).
    NoReason,
    /// A-ABORT.
    Abort,
    /// Closes the connection without a word.
    Close,
}

/// What it answers when it is asked to commit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Commitment {
    /// It commits to what it has and says of the rest that there is no such instance.
    #[default]
    Honest,
    /// The same, before it answers the request.
    Early,
    /// It has nothing, it says.
    Fails,
    /// It takes the request and never reports.
    Silent,
}

/// What it should be and do.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Where it listens; port 0 takes a free one.
    pub listen: String,
    /// TLS. With a `client_ca` a client certificate is demanded.
    pub tls: Option<ServerTls>,
    /// Directory that gets a file for each object; without one they are counted and discarded.
    pub store: Option<PathBuf>,
    /// How it treats the first associations.
    pub rejects: Vec<Rejection>,
    /// SOP classes and transfer syntaxes it does not take.
    pub refuses: Vec<String>,
    /// SOP classes and transfer syntaxes whose mere proposal it answers with A-ABORT.
    pub aborts_on: Vec<String>,
    /// Rejects an association of which it takes no context, for good and without a reason, as DCMTK's DcmSCP does.
    pub rejects_what_it_refuses: bool,
    /// Longest PDU it says it takes; 0 is any.
    pub pdu_max: u32,
    /// What it does with the first objects.
    pub acts: Vec<Act>,
    /// What it does with the others, at random.
    pub mix: Mix,
    /// Seed of that.
    pub seed: u64,
    /// How long [`Act::Slow`] takes.
    pub slow: Option<Duration>,
    /// How it commits.
    pub commitment: Commitment,
    /// Keep the objects themselves, for tests that look inside.
    pub keep_objects: bool,
}

/// An object it answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// SOP Instance UID.
    pub sop_instance_uid: String,
    /// What it answered.
    pub status: u16,
    /// Bytes of the data set.
    pub bytes: usize,
    /// The data set, when objects are kept.
    pub data_set: Vec<u8>,
}

/// What it heard.
#[derive(Debug, Clone, Default)]
pub struct Heard {
    /// The contexts of each association.
    pub proposed: Vec<Vec<PresentationContextProposed>>,
    /// Each object it answered, in order.
    pub objects: Vec<Arrival>,
    /// Longest P-DATA PDU, without its header.
    pub longest_pdu: usize,
    /// Associations that were released.
    pub released: usize,
    /// Associations that the peer aborted.
    pub aborted: usize,
}

/// What it holds at the end, counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Account {
    /// Associations that were asked for.
    pub associations: u64,
    /// Objects it answered.
    pub arrived: u64,
    /// Different objects it said it stored.
    pub stored: u64,
    /// Objects that came again, the same.
    pub repeated: u64,
    /// Objects that came again with other bytes.
    pub conflicting: u64,
    /// Objects it was asked to commit to, as often as it was asked.
    pub asked: u64,
    /// The same to which it committed.
    pub committed: u64,
}

/// Why it could not start.
#[derive(Debug, thiserror::Error)]
pub enum PacsError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address as it was given.
        address: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// A running simulated PACS. Dropping it stops it.
pub struct Pacs {
    address: SocketAddr,
    state: Arc<State>,
    _tasks: JoinSet<()>,
}

struct State {
    options: Options,
    books: Mutex<Books>,
}

struct Books {
    heard: Heard,
    account: Account,
    /// SHA-256 of what is stored under each SOP Instance UID.
    digests: BTreeMap<String, Vec<u8>>,
    rejects: Vec<Rejection>,
    acts: Vec<Act>,
    random: Random,
}

impl Act {
    /// Every act by the name it has on the command line.
    pub const NAMES: [(&str, Act); 6] = [
        ("a700", Act::Answer(status::OUT_OF_RESOURCES)),
        ("c000", Act::Answer(status::CANNOT_UNDERSTAND)),
        ("slow", Act::Slow),
        ("abort", Act::Abort),
        ("close", Act::Close),
        ("hang", Act::Hang),
    ];
}

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Mix, String> {
        let one = |part: &str| {
            let (name, chance) = match part.split_once(':') {
                Some((name, chance)) => (name, chance.parse().ok()),
                None => (part, Some(PROBABILITY_DEFAULT)),
            };
            let act = Act::NAMES.iter().find(|(known, _)| *known == name.trim()).map(|(_, act)| *act);
            let known = Act::NAMES.map(|(name, _)| name).join(", ");
            act.zip(chance.filter(|chance| (0.0..=1.0).contains(chance)))
                .ok_or(format!("`{part}` is none of {known} with a probability from 0 to 1"))
        };
        text.split(',').filter(|part| !part.trim().is_empty()).map(one).collect::<Result<_, _>>().map(Mix)
    }
}

impl Pacs {
    /// Starts listening; returns when the port is open.
    ///
    /// # Errors
    /// [`PacsError`].
    pub async fn start(options: Options) -> Result<Pacs, PacsError> {
        let acceptor = match &options.tls {
            Some(config) => Some(TlsAcceptor::from(tls::server(config)?)),
            None => None,
        };
        let refused = |source| PacsError::Listen { address: options.listen.clone(), source };
        let listener = TcpListener::bind(&options.listen).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let books = Books {
            heard: Heard::default(),
            account: Account::default(),
            digests: BTreeMap::new(),
            rejects: options.rejects.clone(),
            acts: options.acts.clone(),
            random: Random::new(options.seed),
        };
        let state = Arc::new(State { options, books: Mutex::new(books) });
        let mut tasks = JoinSet::new();
        tasks.spawn(listen(listener, acceptor, Arc::clone(&state)));
        Ok(Pacs { address, state, _tasks: tasks })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it heard so far.
    pub fn heard(&self) -> Heard {
        self.state.books().heard.clone()
    }

    /// What it holds so far.
    pub fn account(&self) -> Account {
        self.state.books().account.clone()
    }
}

impl State {
    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    /// What is done with the object that just began.
    fn next_act(&mut self, mix: &Mix) -> Act {
        if !self.acts.is_empty() {
            return self.acts.remove(0);
        }
        let Books { random, .. } = self;
        let drawn = mix.0.iter().find(|(_, chance)| random.chance(*chance));
        drawn.map_or(Act::Answer(status::SUCCESS), |(act, _)| *act)
    }

    fn note_pdu(&mut self, length: usize) {
        self.heard.longest_pdu = self.heard.longest_pdu.max(length);
    }

    fn note(&mut self, arrival: Arrival, digest: Vec<u8>) {
        self.account.arrived += 1;
        if status::is_done(arrival.status) {
            match self.digests.get(&arrival.sop_instance_uid) {
                None => self.account.stored += 1,
                Some(known) if *known == digest => self.account.repeated += 1,
                Some(_) => self.account.conflicting += 1,
            }
            self.digests.insert(arrival.sop_instance_uid.clone(), digest);
        }
        self.heard.objects.push(arrival);
    }
}

async fn listen(listener: TcpListener, acceptor: Option<TlsAcceptor>, state: Arc<State>) {
    let mut peers = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => if let Ok((tcp, _)) = accepted {
                let _ = tcp.set_nodelay(true);
                let (acceptor, state) = (acceptor.clone(), Arc::clone(&state));
                peers.spawn(async move {
                    match acceptor {
                        None => Line::new(tcp).serve(&state).await,
                        Some(acceptor) => if let Ok(stream) = acceptor.accept(tcp).await {
                            Line::new(stream).serve(&state).await;
                        },
                    }
                });
            },
            Some(_) = peers.join_next() => {}
        }
    }
}

/// One connection. `None` from its methods says that it ended.
struct Line<S> {
    stream: S,
    unread: Vec<u8>,
    message_id: u16,
}

/// A message as it comes in.
#[derive(Default)]
struct Incoming {
    command: Vec<u8>,
    data: Vec<u8>,
    bytes: usize,
    digest: Option<digest::Context>,
    act: Option<Act>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Line<S> {
    fn new(stream: S) -> Self {
        Line { stream, unread: Vec::new(), message_id: 0 }
    }

    /// Serves until the connection ends, however it does.
    async fn serve(self, state: &State) {
        let _ = self.converse(state).await;
    }

    async fn converse(mut self, state: &State) -> Option<()> {
        let (_, Pdu::AssociationRQ(request)) = self.next().await? else { return None };
        let rejection = {
            let mut books = state.books();
            books.account.associations += 1;
            books.heard.proposed.push(request.presentation_contexts.clone());
            (!books.rejects.is_empty()).then(|| books.rejects.remove(0))
        };
        if let Some(rejection) = rejection {
            return self.send(&rejected(rejection)?).await;
        }
        let aborts_on = |uid: &String| state.options.aborts_on.contains(uid);
        if request
            .presentation_contexts
            .iter()
            .any(|c| aborts_on(&c.abstract_syntax) || c.transfer_syntaxes.iter().any(aborts_on))
        {
            return self.send(&Pdu::AbortRQ { source: AbortRQSource::ServiceUser }).await;
        }
        let accepted = accept(&request, &state.options);
        let takes = |c: &PresentationContextResult| c.reason == PresentationContextResultReason::Acceptance;
        if state.options.rejects_what_it_refuses && !accepted.presentation_contexts.iter().any(takes) {
            return self.send(&rejected(Rejection::NoReason)?).await;
        }
        let syntaxes: BTreeMap<u8, String> =
            accepted.presentation_contexts.iter().map(|c| (c.id, c.transfer_syntax.clone())).collect();
        self.send(&Pdu::AssociationAC(accepted)).await?;
        while let Some((command, context, incoming)) = self.message(state).await {
            match command.field() {
                field::C_STORE_RQ => self.store(state, &command, context, incoming, syntaxes.get(&context)?).await?,
                field::N_ACTION_RQ => self.commit(state, &command, context, &incoming.data).await?,
                field::C_ECHO_RQ => self.answer(context, &Command::response(&command, status::SUCCESS), None).await?,
                _ if command.is_response() => {}
                _ => {
                    let told = Command::response(&command, status::UNRECOGNISED_OPERATION);
                    self.answer(context, &told, None).await?;
                }
            }
        }
        None
    }

    /// The next whole message.
    async fn message(&mut self, state: &State) -> Option<(Command, u8, Incoming)> {
        let mut incoming = Incoming::default();
        let mut command: Option<Command> = None;
        loop {
            let (length, pdu) = self.next().await?;
            let values = match pdu {
                Pdu::PData { data } => data,
                Pdu::ReleaseRQ => {
                    state.books().heard.released += 1;
                    self.send(&Pdu::ReleaseRP).await?;
                    return None;
                }
                Pdu::AbortRQ { .. } => {
                    state.books().heard.aborted += 1;
                    return None;
                }
                _ => return None,
            };
            state.books().note_pdu(length);
            for PDataValue { presentation_context_id: context, value_type, is_last, data } in values {
                match value_type {
                    PDataValueType::Command => {
                        incoming.command.extend(data);
                        if is_last {
                            let read = Command::read(&incoming.command).ok()?;
                            if !read.has_data_set() {
                                return Some((read, context, incoming));
                            }
                            command = Some(read);
                        }
                    }
                    PDataValueType::Data => {
                        let command = command.as_ref()?;
                        if command.field() == field::C_STORE_RQ {
                            let act = *incoming.act.get_or_insert_with(|| state.books().next_act(&state.options.mix));
                            match act {
                                Act::Abort => {
                                    self.send(&Pdu::AbortRQ { source: AbortRQSource::ServiceUser }).await?;
                                    return None;
                                }
                                Act::Close => return None,
                                Act::Answer(_) | Act::Slow | Act::Hang => {}
                            }
                        }
                        incoming.take(&data, command, &state.options);
                        if is_last {
                            return Some((command.clone(), context, incoming));
                        }
                    }
                }
            }
        }
    }

    async fn store(
        &mut self,
        state: &State,
        command: &Command,
        context: u8,
        incoming: Incoming,
        syntax: &str,
    ) -> Option<()> {
        let status = match incoming.act {
            Some(Act::Answer(status)) => status,
            Some(Act::Slow) => {
                sleep(state.options.slow.unwrap_or(SLOW_DEFAULT)).await;
                status::SUCCESS
            }
            Some(Act::Hang) => return Some(()),
            _ => status::SUCCESS,
        };
        let object = Object {
            sop_class_uid: command.sop_class_uid()?,
            sop_instance_uid: command.sop_instance_uid().filter(|text| uid::is_uid(text))?,
            transfer_syntax_uid: syntax.to_owned(),
            data_set: incoming.data,
        };
        let is_stored = status::is_done(status);
        let written = state.options.store.as_deref().filter(|_| is_stored).map_or(Ok(()), |to| object.keep(to));
        let status = if written.is_err() { status::OUT_OF_RESOURCES } else { status };
        let digest = incoming.digest.map(|d| d.finish().as_ref().to_vec()).unwrap_or_default();
        state.books().note(
            Arrival {
                sop_instance_uid: object.sop_instance_uid,
                status,
                bytes: incoming.bytes,
                data_set: object.data_set,
            },
            digest,
        );
        self.answer(context, &Command::response(command, status), None).await
    }

    /// Takes the request and reports on the same association (PS3.4 J.3).
    async fn commit(&mut self, state: &State, command: &Command, context: u8, data: &[u8]) -> Option<()> {
        let response = Command::response(command, status::SUCCESS);
        if state.options.commitment == Commitment::Early {
            self.report(state, context, data).await?;
            return self.answer(context, &response, None).await;
        }
        self.answer(context, &response, None).await?;
        self.report(state, context, data).await
    }

    async fn report(&mut self, state: &State, context: u8, data: &[u8]) -> Option<()> {
        let (transaction, asked) = read_request(data)?;
        let has = |instance: &str| match state.options.commitment {
            Commitment::Honest | Commitment::Early => state.books().digests.contains_key(instance),
            Commitment::Fails | Commitment::Silent => false,
        };
        let (held, failed): (Vec<_>, Vec<_>) = asked.into_iter().partition(|(_, instance)| has(instance));
        {
            let account = &mut state.books().account;
            account.asked += (held.len() + failed.len()) as u64;
            account.committed += held.len() as u64;
        }
        if state.options.commitment == Commitment::Silent {
            return Some(());
        }
        let item = |(class, instance): &(String, String)| {
            let mut item = DataSet::default();
            item.text(0x0008_1150, "UI", class);
            item.text(0x0008_1155, "UI", instance);
            item
        };
        let mut set = DataSet::default();
        set.text(0x0008_1195, "UI", &transaction);
        if !failed.is_empty() {
            let failed = failed.iter().map(|pair| {
                let mut item = item(pair);
                item.number(0x0008_1197, status::NO_SUCH_INSTANCE);
                item
            });
            set.items(0x0008_1198, &failed.collect::<Vec<_>>());
        }
        set.items(0x0008_1199, &held.iter().map(item).collect::<Vec<_>>());
        self.message_id = self.message_id.wrapping_add(1);
        let kind = if failed.is_empty() { 1 } else { 2 };
        let (class, instance) = (uid::STORAGE_COMMITMENT, uid::STORAGE_COMMITMENT_INSTANCE);
        let report = Command::event_report_request(self.message_id, class, instance, kind).with_data_set();
        self.answer(context, &report, Some(set.into_bytes())).await
    }

    async fn answer(&mut self, context: u8, command: &Command, data: Option<Vec<u8>>) -> Option<()> {
        let value = |value_type, data| PDataValue { presentation_context_id: context, value_type, is_last: true, data };
        let mut values = vec![value(PDataValueType::Command, command.write())];
        values.extend(data.map(|data| value(PDataValueType::Data, data)));
        self.send(&Pdu::PData { data: values }).await
    }

    /// The next PDU and its length.
    async fn next(&mut self) -> Option<(usize, Pdu)> {
        loop {
            if let Some((header, _)) = self.unread.split_first_chunk::<6>() {
                let length = u32::from_be_bytes([header[2], header[3], header[4], header[5]]);
                if length > PDU_MAX {
                    return None;
                }
                let end = 6 + length as usize;
                if let Some(bytes) = self.unread.get(..end) {
                    let pdu = read_pdu(bytes, PDU_MAX, true).ok()??;
                    self.unread.drain(..end);
                    return Some((end - 6, pdu));
                }
            }
            let mut bytes = [0; 64 * 1024];
            match self.stream.read(&mut bytes).await {
                Ok(n) if n > 0 => self.unread.extend_from_slice(bytes.get(..n)?),
                _ => return None,
            }
        }
    }

    async fn send(&mut self, pdu: &Pdu) -> Option<()> {
        let mut bytes = Vec::new();
        write_pdu(&mut bytes, pdu).ok()?;
        self.stream.write_all(&bytes).await.ok()?;
        self.stream.flush().await.ok()
    }
}

impl Incoming {
    /// What need not be kept is only measured, so that a large object costs nothing.
    fn take(&mut self, data: &[u8], command: &Command, options: &Options) {
        self.bytes += data.len();
        self.digest.get_or_insert_with(|| digest::Context::new(&digest::SHA256)).update(data);
        if command.field() != field::C_STORE_RQ || options.keep_objects || options.store.is_some() {
            self.data.extend_from_slice(data);
        }
    }
}

impl Object {
    /// Writes it to a file of its own, named by its SOP Instance UID, which was checked.
    fn keep(&self, to: &Path) -> std::io::Result<()> {
        std::fs::write(to.join(format!("{}.dcm", self.sop_instance_uid)), self.file())
    }
}

fn accept(request: &AssociationRQ, options: &Options) -> AssociationAC {
    let refuses = |uid: &String| options.refuses.contains(uid);
    let answer = |proposed: &PresentationContextProposed| {
        // Requests for commitment are read in one transfer syntax only.
        let is_read = |syntax: &&String| {
            proposed.abstract_syntax != uid::STORAGE_COMMITMENT || *syntax == uid::EXPLICIT_VR_LITTLE_ENDIAN
        };
        let taken = proposed.transfer_syntaxes.iter().filter(is_read).find(|syntax| !refuses(syntax));
        let reason = if refuses(&proposed.abstract_syntax) {
            PresentationContextResultReason::AbstractSyntaxNotSupported
        } else if taken.is_none() {
            PresentationContextResultReason::TransferSyntaxesNotSupported
        } else {
            PresentationContextResultReason::Acceptance
        };
        let transfer_syntax = taken.or(proposed.transfer_syntaxes.first()).cloned().unwrap_or_default();
        PresentationContextResult { id: proposed.id, reason, transfer_syntax }
    };
    AssociationAC {
        protocol_version: 1,
        calling_ae_title: request.calling_ae_title.clone(),
        called_ae_title: request.called_ae_title.clone(),
        application_context_name: request.application_context_name.clone(),
        presentation_contexts: request.presentation_contexts.iter().map(answer).collect(),
        user_variables: vec![UserVariableItem::MaxLength(options.pdu_max)],
    }
}

/// What it says; nothing when it closes the connection.
fn rejected(rejection: Rejection) -> Option<Pdu> {
    use AssociationRJServiceUserReason::{CalledAETitleNotRecognized, CallingAETitleNotRecognized, NoReasonGiven};
    let (result, source) = match rejection {
        Rejection::CalledAeTitle => {
            (AssociationRJResult::Permanent, AssociationRJSource::ServiceUser(CalledAETitleNotRecognized))
        }
        Rejection::CallingAeTitle => {
            (AssociationRJResult::Permanent, AssociationRJSource::ServiceUser(CallingAETitleNotRecognized))
        }
        Rejection::Congestion => {
            let reason = AssociationRJServiceProviderPresentationReason::TemporaryCongestion;
            (AssociationRJResult::Transient, AssociationRJSource::ServiceProviderPresentation(reason))
        }
        Rejection::NoReason => (AssociationRJResult::Permanent, AssociationRJSource::ServiceUser(NoReasonGiven)),
        Rejection::Abort => return Some(Pdu::AbortRQ { source: AbortRQSource::ServiceUser }),
        Rejection::Close => return None,
    };
    Some(Pdu::AssociationRJ(AssociationRJ { result, source }))
}

/// Transaction UID, and SOP class and instance of each object that is asked about.
fn read_request(data: &[u8]) -> Option<(String, Vec<(String, String)>)> {
    let syntax = &dicom_transfer_syntax_registry::entries::EXPLICIT_VR_LITTLE_ENDIAN.erased();
    let object = dicom_object::InMemDicomObject::read_dataset_with_ts(data, syntax).ok()?;
    let text = |object: &dicom_object::InMemDicomObject, name: &str| {
        let value = object.element_by_name(name).ok()?.to_str().ok()?;
        Some(value.trim_end_matches(['\0', ' ']).to_owned())
    };
    let items = object.element_by_name("ReferencedSOPSequence").ok()?.items()?;
    let pair = |item| Some((text(item, "ReferencedSOPClassUID")?, text(item, "ReferencedSOPInstanceUID")?));
    Some((text(&object, "TransactionUID")?, items.iter().map(pair).collect::<Option<_>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acts_are_read_with_their_probabilities() {
        let mix: Mix = "a700:0.5,hang".parse().unwrap();
        assert_eq!(mix.0, [(Act::Answer(0xA700), 0.5), (Act::Hang, PROBABILITY_DEFAULT)]);
        assert!("a700:2".parse::<Mix>().is_err() && "explode".parse::<Mix>().is_err());
    }

    #[test]
    fn an_object_that_comes_again_is_told_from_one_that_differs() {
        let mut books = Books {
            heard: Heard::default(),
            account: Account::default(),
            digests: BTreeMap::new(),
            rejects: Vec::new(),
            acts: Vec::new(),
            random: Random::new(1),
        };
        for (status, digest) in [(0xA700, 1), (0, 1), (0, 1), (0, 2)] {
            let uid = "1.2.3".to_owned();
            books.note(Arrival { sop_instance_uid: uid, status, bytes: 1, data_set: Vec::new() }, vec![digest]);
        }
        let expected = Account { arrived: 4, stored: 1, repeated: 1, conflicting: 1, ..Account::default() };
        assert_eq!(books.account, expected);
    }
}
