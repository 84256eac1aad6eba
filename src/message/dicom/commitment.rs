//! Storage commitment (PS3.4 annex J): what a modality asks to be answered for, and the answer. Pure.

use super::{DataSet, VR, is_uid, tags};
use serde::{Deserialize, Serialize};

/// Most instances one request may name; a long CT has some thousands.
pub const INSTANCES_MAX: usize = 100_000;
/// Request Storage Commitment (J.3.2.1).
pub const ACTION_TYPE: u16 = 1;
/// Storage commitment of everything.
const ALL_COMMITTED: u16 = 1;
/// Some instances failed.
const FAILURES_EXIST: u16 = 2;

/// What a modality asks for.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// (0008,1195).
    pub transaction_uid: String,
    /// (0008,1199), as they came.
    pub instances: Vec<Reference>,
}

impl std::fmt::Debug for Request {
    /// Never prints UIDs (invariant I8).
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Request({} instances)", self.instances.len())
    }
}

/// One instance.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// (0008,1150).
    pub sop_class_uid: String,
    /// (0008,1155).
    pub sop_instance_uid: String,
}

/// Why an instance is not committed (0008,1197).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Failure {
    /// Something went wrong here.
    Processing,
    /// It never came.
    NoSuchInstance,
    /// There is no room for it.
    ResourceLimitation,
    /// The archive does not take its class.
    ClassNotSupported,
    /// It has another class than the request says.
    ClassConflict,
    /// The transaction UID stands for another request.
    DuplicateTransaction,
}

impl Failure {
    /// The value of (0008,1197) (PS3.3 C.14.1.1).
    pub fn reason(self) -> u16 {
        match self {
            Failure::Processing => 0x0110,
            Failure::NoSuchInstance => 0x0112,
            Failure::ResourceLimitation => 0x0213,
            Failure::ClassNotSupported => 0x0122,
            Failure::ClassConflict => 0x0119,
            Failure::DuplicateTransaction => 0x0131,
        }
    }

    /// True when asking again later, or sending again, may help: it went wrong, or there was no room, at that time.
    pub fn is_passing(self) -> bool {
        matches!(self, Failure::Processing | Failure::ResourceLimitation | Failure::DuplicateTransaction)
    }

    /// From what an archive says; what is not in the table is something that went wrong.
    pub fn from_reason(reason: u16) -> Failure {
        use Failure::*;
        let all =
            [Processing, NoSuchInstance, ResourceLimitation, ClassNotSupported, ClassConflict, DuplicateTransaction];
        all.into_iter().find(|failure| failure.reason() == reason).unwrap_or(Processing)
    }
}

/// Why a request is refused at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestFault {
    /// The transaction UID is missing or no UID.
    NoTransaction,
    /// No instance is named, or one without its UIDs.
    NoInstances,
    /// More instances than one request may name.
    TooMany,
}

impl RequestFault {
    /// The DIMSE status (PS3.7 annex C).
    pub fn status(self) -> u16 {
        match self {
            RequestFault::NoTransaction | RequestFault::NoInstances => 0x0115,
            RequestFault::TooMany => 0x0213,
        }
    }

    /// What the person at the modality reads.
    pub fn comment(self) -> &'static str {
        match self {
            RequestFault::NoTransaction => "Transaction UID is missing",
            RequestFault::NoInstances => "Referenced SOP Sequence is missing or incomplete",
            RequestFault::TooMany => "too many instances in one request",
        }
    }
}

/// Reads the information of an N-ACTION.
pub fn request(said: &DataSet) -> Result<Request, RequestFault> {
    let transaction_uid = said.uid(tags::TRANSACTION_UID);
    if transaction_uid.is_empty() {
        return Err(RequestFault::NoTransaction);
    }
    let items = said.items(tags::REFERENCED_SOP_SEQUENCE);
    if items.len() > INSTANCES_MAX {
        return Err(RequestFault::TooMany);
    }
    let instances: Vec<Reference> = items
        .iter()
        .map(|item| Reference {
            sop_class_uid: item.uid(tags::REFERENCED_SOP_CLASS_UID),
            sop_instance_uid: item.uid(tags::REFERENCED_SOP_INSTANCE_UID),
        })
        .collect();
    let is_complete = |i: &Reference| is_uid(&i.sop_class_uid) && is_uid(&i.sop_instance_uid);
    match !instances.is_empty() && instances.iter().all(is_complete) {
        true => Ok(Request { transaction_uid, instances }),
        false => Err(RequestFault::NoInstances),
    }
}

/// The event type and information of an N-EVENT-REPORT: everything is committed, or what is not and why. `outcomes`
/// stand in the order of the request's instances.
pub fn report(request: &Request, outcomes: &[Option<Failure>], retrieve_ae_title: &str) -> (u16, DataSet) {
    let of = |(instance, outcome): (&Reference, &Option<Failure>)| {
        let mut item = DataSet::default();
        item.put_text(tags::REFERENCED_SOP_CLASS_UID, VR::UI, &instance.sop_class_uid);
        item.put_text(tags::REFERENCED_SOP_INSTANCE_UID, VR::UI, &instance.sop_instance_uid);
        if let Some(failure) = outcome {
            item.put_u16(tags::FAILURE_REASON, failure.reason());
        }
        (item, outcome.is_some())
    };
    // An instance nobody decided about is not committed.
    let undecided = std::iter::repeat(&Some(Failure::Processing));
    let all = request.instances.iter().zip(outcomes.iter().chain(undecided)).map(of);
    let (failed, committed): (Vec<_>, Vec<_>) = all.partition(|(_, failed)| *failed);
    let items = |part: Vec<(DataSet, bool)>| part.into_iter().map(|(item, _)| item).collect::<Vec<_>>();
    let mut said = DataSet::default();
    said.put_text(tags::TRANSACTION_UID, VR::UI, &request.transaction_uid);
    if !retrieve_ae_title.is_empty() {
        said.put_text(tags::RETRIEVE_AE_TITLE, VR::AE, retrieve_ae_title);
    }
    let event = if failed.is_empty() { ALL_COMMITTED } else { FAILURES_EXIST };
    // A sequence that says nothing is left out: type 1C.
    for (tag, part) in [(tags::REFERENCED_SOP_SEQUENCE, committed), (tags::FAILED_SOP_SEQUENCE, failed)] {
        if !part.is_empty() {
            said.put_items(tag, items(part));
        }
    }
    (event, said)
}

/// The information of an N-ACTION.
pub fn action(request: &Request) -> DataSet {
    let item = |instance: &Reference| {
        let mut item = DataSet::default();
        item.put_text(tags::REFERENCED_SOP_CLASS_UID, VR::UI, &instance.sop_class_uid);
        item.put_text(tags::REFERENCED_SOP_INSTANCE_UID, VR::UI, &instance.sop_instance_uid);
        item
    };
    let mut said = DataSet::default();
    said.put_text(tags::TRANSACTION_UID, VR::UI, &request.transaction_uid);
    said.put_items(tags::REFERENCED_SOP_SEQUENCE, request.instances.iter().map(item).collect());
    said
}

/// What an archive reports.
#[derive(Clone, PartialEq, Eq)]
pub struct Report {
    /// (0008,1195).
    pub transaction_uid: String,
    /// By SOP Instance UID, the reason (0008,1197) where it does not commit.
    pub outcomes: Vec<(String, Option<u16>)>,
}

impl std::fmt::Debug for Report {
    /// Never prints UIDs (invariant I8).
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Report({} instances)", self.outcomes.len())
    }
}

/// Why a report is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportFault {
    /// The event type is none of storage commitment's.
    NoSuchEvent,
    /// The transaction UID is missing or no UID.
    NoTransaction,
}

impl ReportFault {
    /// The DIMSE status (PS3.7 annex C).
    pub fn status(self) -> u16 {
        match self {
            ReportFault::NoSuchEvent => 0x0113,
            ReportFault::NoTransaction => 0x0115,
        }
    }

    /// What the person at the archive reads.
    pub fn comment(self) -> &'static str {
        match self {
            ReportFault::NoSuchEvent => "Event Type ID is neither 1 nor 2",
            ReportFault::NoTransaction => "Transaction UID is missing",
        }
    }
}

/// Reads the information of an N-EVENT-REPORT. Only what it names is said to be committed, whatever the event's type; an
/// instance it names on both sides is not.
pub fn read_report(event_type_id: u16, said: &DataSet) -> Result<Report, ReportFault> {
    if ![ALL_COMMITTED, FAILURES_EXIST].contains(&event_type_id) {
        return Err(ReportFault::NoSuchEvent);
    }
    let transaction_uid = said.uid(tags::TRANSACTION_UID);
    if transaction_uid.is_empty() {
        return Err(ReportFault::NoTransaction);
    }
    let reason = |item: &DataSet| item.number(tags::FAILURE_REASON).and_then(|reason| u16::try_from(reason).ok());
    let failed = said.items(tags::FAILED_SOP_SEQUENCE).iter().map(|item| {
        let reason = reason(item).unwrap_or(Failure::Processing.reason());
        (item.uid(tags::REFERENCED_SOP_INSTANCE_UID), Some(reason))
    });
    let committed = said.items(tags::REFERENCED_SOP_SEQUENCE).iter();
    let committed = committed.map(|item| (item.uid(tags::REFERENCED_SOP_INSTANCE_UID), None));
    // The failed come first: who is noted as such is not committed afterwards.
    let outcomes = failed.chain(committed).filter(|(uid, _)| !uid.is_empty()).take(INSTANCES_MAX).collect();
    Ok(Report { transaction_uid, outcomes })
}

#[cfg(test)]
mod tests {
    use super::action as action_of;
    use super::*;
    use proptest::prelude::*;

    fn named(uids: &[&str]) -> Request {
        let reference = |uid: &&str| Reference { sop_class_uid: "1.2".into(), sop_instance_uid: uid.to_string() };
        Request { transaction_uid: "1.9".into(), instances: uids.iter().map(reference).collect() }
    }

    fn action(transaction: &str, uids: &[&str]) -> DataSet {
        let item = |uid: &&str| {
            let mut item = DataSet::default();
            item.put_text(tags::REFERENCED_SOP_CLASS_UID, VR::UI, "1.2");
            item.put_text(tags::REFERENCED_SOP_INSTANCE_UID, VR::UI, uid);
            item
        };
        let mut said = DataSet::default();
        said.put_text(tags::TRANSACTION_UID, VR::UI, transaction);
        said.put_items(tags::REFERENCED_SOP_SEQUENCE, uids.iter().map(item).collect());
        said
    }

    #[test]
    fn a_request_is_read_or_refused_with_its_reason() {
        assert_eq!(request(&action("1.9", &["1.3", "1.4"])).unwrap(), named(&["1.3", "1.4"]));
        for (said, fault) in [
            (action("", &["1.3"]), RequestFault::NoTransaction),
            (action("1.9", &[]), RequestFault::NoInstances),
            (action("1.9", &["../x"]), RequestFault::NoInstances),
        ] {
            assert_eq!(request(&said).unwrap_err(), fault);
            assert!(fault.comment().len() <= 64);
        }
    }

    #[test]
    fn what_failed_is_named_with_its_reason_and_the_rest_as_committed() {
        let (event, said) = report(&named(&["1.3", "1.4"]), &[None, Some(Failure::NoSuchInstance)], "AFFERENT");
        assert_eq!(event, FAILURES_EXIST);
        assert_eq!(said.items(tags::REFERENCED_SOP_SEQUENCE).len(), 1);
        let failed = said.item(tags::FAILED_SOP_SEQUENCE).unwrap();
        assert_eq!(
            (failed.uid(tags::REFERENCED_SOP_INSTANCE_UID).as_str(), failed.number(tags::FAILURE_REASON)),
            ("1.4", Some(0x0112))
        );
        let (event, said) = report(&named(&["1.3"]), &[None], "");
        assert_eq!(event, ALL_COMMITTED);
        assert!(said.get(tags::FAILED_SOP_SEQUENCE).is_none());
    }

    #[test]
    fn a_report_that_is_written_is_read_as_it_was_meant() {
        let asked = named(&["1.3", "1.4"]);
        assert_eq!(request(&action_of(&asked)).unwrap(), asked);
        let (event, said) = report(&asked, &[None, Some(Failure::NoSuchInstance)], "");
        let read = read_report(event, &said).unwrap();
        let expected = [("1.4".to_string(), Some(0x0112)), ("1.3".to_string(), None)];
        assert_eq!((read.transaction_uid.as_str(), read.outcomes.as_slice()), ("1.9", &expected[..]));
        assert_eq!(read_report(3, &said), Err(ReportFault::NoSuchEvent));
        assert_eq!(read_report(1, &DataSet::default()), Err(ReportFault::NoTransaction));
    }

    proptest! {
        /// Nothing is reported as committed that was not decided so.
        #[test]
        fn success_is_said_of_decided_instances_only(decided in prop::collection::vec(any::<bool>(), 0..8), named_count in 1..8_usize) {
            let uids: Vec<String> = (0..named_count).map(|n| format!("1.{n}")).collect();
            let request = named(&uids.iter().map(String::as_str).collect::<Vec<_>>());
            let outcomes: Vec<Option<Failure>> = decided.iter().map(|ok| (!ok).then_some(Failure::Processing)).collect();
            let (event, said) = report(&request, &outcomes, "");
            let good = decided.iter().take(named_count).filter(|ok| **ok).count();
            prop_assert_eq!(said.items(tags::REFERENCED_SOP_SEQUENCE).len(), good);
            prop_assert_eq!(said.items(tags::FAILED_SOP_SEQUENCE).len(), named_count - good);
            prop_assert_eq!(event == ALL_COMMITTED, good == named_count);
        }
    }
}
