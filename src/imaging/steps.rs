//! Whom a performed procedure step concerns besides the box: the EHR that ordered it and the PACS.
//!
//! | | EHR (`order_status`) | PACS (`mpps = true`) |
//! |---|---|---|
//! | N-CREATE IN PROGRESS | order IP | N-CREATE, as it came |
//! | N-SET COMPLETED | order CM once all its steps are done, IP before | N-SET, as it came |
//! | N-SET DISCONTINUED | order DC when nothing of it is done and no other step of the study runs, else IP | N-SET, as it came |
//! | any other N-SET | nothing | N-SET, as it came |
//!
//! Once an order is complete nothing takes that back: more may be done for its study. Both go through the outbox. What is
//! told of one order is a lane, whichever modalities do it, and so is a step (invariant I6): no N-SET overtakes its
//! N-CREATE. The EHR is not told twice in a row where an order stands. In FHIR it owns its ServiceRequest and is told
//! nothing.

use crate::clinical::imaging::{DicomTime, ImagingRequest, Series, Study};
use crate::clinical::performed_step::AnsweredStep;
use crate::clinical::{OrderStatus, PerformedStatus, PerformedStep, Phi};
use crate::delivery;
use crate::delivery::config::{Lane, Routed};
use crate::journal::{Entry, FiledReport, Filing, JournalError, Lookup, NewOutbound, Reader, StoredOrder, WorkOrderId};
use crate::mapping::imaging::{ImagingOrderStatus, StudyFacts, order_status};
use crate::mapping::{MapError, Origin, message_id};
use crate::message::dicom::performed_step::request::{self, Kept};
use crate::message::dicom::tags;
use serde_json::json;

/// A destination that cannot be told, and why.
type Uncarried = (String, MapError);

/// Where requests about performed steps are made ready for the destinations.
pub struct Desk {
    gateway: String,
    zone: jiff::tz::TimeZone,
    destinations: Vec<delivery::Config>,
}

impl Desk {
    /// A desk for these destinations. `zone` is the modalities' clock.
    pub fn new(gateway: &str, zone: &jiff::tz::TimeZone, destinations: &[delivery::Config]) -> Self {
        Desk { gateway: gateway.to_string(), zone: zone.clone(), destinations: destinations.to_vec() }
    }

    /// The request about a performed step that an entry holds; `None` when it holds none.
    pub fn request(&self, entry: &Entry) -> Option<Kept> {
        request::read(&entry.raw)
    }

    /// The outcome of an entry that holds a request about a performed step.
    ///
    /// # Errors
    /// Those of the reader.
    pub fn file(&self, reader: &Reader, entry: &Entry, request: &Kept) -> Result<Filing, JournalError> {
        let (mut reports, mut refused) = (Vec::new(), Vec::new());
        // One that is not there any more went with its orders.
        match reader.performed_step(&request.sop_instance_uid) {
            Ok(None) => {}
            Ok(Some(step)) => {
                reports.push(self.forward(entry, request, &step));
                let mut told: Vec<WorkOrderId> = Vec::new();
                for (order, answered) in orders_of(reader, &step)? {
                    let Some(status) = status(reader, entry, request, &step, &order)? else { break };
                    if !told.contains(&order.id) {
                        told.push(order.id);
                        let (report, uncarried) = self.tell(reader, entry, &step, &order, answered, status)?;
                        reports.push(report);
                        for (destination, error) in uncarried {
                            tracing::error!(
                                event = "not-carried",
                                entry = entry.id.0,
                                destination,
                                "cannot be told where an order stands: {error}"
                            );
                            refused.push((1, format!("{destination} cannot be told where its order stands: {error}")));
                        }
                    }
                }
            }
            // What else waits goes on.
            Err(JournalError::Damaged) => {
                tracing::error!(
                    event = "stored-damaged",
                    entry = entry.id.0,
                    "nobody is told of a performed step: what is kept of it is damaged"
                );
                refused.push((1, "what is kept of the performed step is damaged".to_string()));
            }
            Err(error) => return Err(error),
        }
        Ok(Filing {
            entry: entry.id,
            driver: request::READER.to_string(),
            inbound_results: refused.len() as u32,
            refused,
            reports,
            covers: Vec::new(),
            placement: None,
        })
    }

    /// The request on its way to every PACS that wants it, byte for byte (invariant I5).
    fn forward(&self, entry: &Entry, request: &Kept, step: &PerformedStep) -> FiledReport {
        let of = Routed {
            link: &entry.link,
            calling_ae_title: &request.source_ae_title,
            modality: &step.modality,
            ..Routed::default()
        };
        let outbound = |destination: &delivery::Config| NewOutbound {
            destination: destination.name.clone(),
            lane: step.sop_instance_uid.clone(),
            message_id: step.sop_instance_uid.clone(),
            body: entry.raw.clone(),
            results: 0,
            charted: Vec::new(),
        };
        let outbox =
            self.destinations.iter().filter(|destination| destination.takes_steps(&of)).map(outbound).collect();
        let mut lookups = vec![(Lookup::Instance, step.sop_instance_uid.clone())];
        for answered in &step.scheduled {
            lookups.push((Lookup::Study, answered.study_instance_uid.clone()));
            lookups.push((Lookup::Accession, answered.accession_number.expose().to_string()));
        }
        lookups.push((Lookup::Patient, step.patient_id.expose().to_string()));
        lookups.retain(|(_, id)| !id.is_empty());
        lookups.dedup();
        // Each request is one of its own: nothing that is sent later takes its place.
        let subject = [step.sop_instance_uid.as_bytes(), &entry.id.0.to_be_bytes()].concat();
        let kept = json!({ "step": step.sop_instance_uid, "status": step.status.dicom(), "modality": step.modality });
        report(entry, subject, entry.raw.clone(), kept.to_string(), lookups, outbox)
    }

    /// Tells the EHRs where an order stands; and which of them cannot be told, and why.
    fn tell(
        &self,
        reader: &Reader,
        entry: &Entry,
        step: &PerformedStep,
        order: &StoredOrder,
        answered: &AnsweredStep,
        status: ImagingOrderStatus,
    ) -> Result<(FiledReport, Vec<Uncarried>), JournalError> {
        let number = order.order.number();
        let named = [&order.source, number.id.expose(), &number.namespace].join("\u{1f}");
        let subject = [FiledReport::OF_EVERY_LINK, b"order status\x1f", named.as_bytes()].concat();
        let content = content_of(status);
        let is_complete = order.status == OrderStatus::Done;
        let latest = reader.latest_of(&entry.link, &subject)?.filter(|latest| !latest.is_of(entry.id));
        let repeat_of = latest.filter(|latest| {
            let is_told = |status| latest.same_content(&content_of(status));
            is_told(status) || is_complete && is_told(ImagingOrderStatus::Completed)
        });
        let (outbox, uncarried) = match &repeat_of {
            Some(_) => (Vec::new(), Vec::new()),
            None => self.messages(entry, step, order, answered, status, &named),
        };
        let kept = json!({ "step": step.sop_instance_uid, "study": answered.study_instance_uid, "order": status });
        let mut filed = report(entry, subject, content, kept.to_string(), Vec::new(), outbox);
        filed.repeat_of = repeat_of.map(|latest| latest.report);
        Ok((filed, uncarried))
    }

    fn messages(
        &self,
        entry: &Entry,
        step: &PerformedStep,
        order: &StoredOrder,
        answered: &AnsweredStep,
        status: ImagingOrderStatus,
        named: &str,
    ) -> (Vec<NewOutbound>, Vec<Uncarried>) {
        let mut request = ImagingRequest::of(&order.order, &answered.study_instance_uid);
        if let Some(request) = request.as_mut().filter(|_| !answered.step_id.is_empty()) {
            request.scheduled_procedure_step_id = Phi::new(answered.step_id.as_str());
        }
        let study = Study {
            instance_uid: answered.study_instance_uid.clone(),
            started: DicomTime::from_date_time(&step.start),
            ..Study::default()
        };
        let series =
            Series { modality: step.modality.clone(), station: step.station_ae_title.clone(), ..Series::default() };
        let patient = &order.order.patient.patient;
        let facts = StudyFacts {
            patient,
            study: &study,
            request: request.as_ref(),
            series: vec![(&series, Vec::new())],
            zone: &self.zone,
            is_correction: false,
            told_under: None,
        };
        let made = jiff::Timestamp::from_millisecond(entry.received_at_ms).unwrap_or_default();
        let (mut rows, mut uncarried) = (Vec::new(), Vec::new());
        for destination in self.destinations.iter().filter(|d| d.takes_order_status(&entry.link, &order.source)) {
            let message_id = message_id(&[
                self.gateway.as_bytes(),
                destination.name.as_bytes(),
                entry.link.as_bytes(),
                &entry.received_at_ms.to_be_bytes(),
                step.sop_instance_uid.as_bytes(),
                named.as_bytes(),
                format!("{status:?}").as_bytes(),
            ]);
            let origin = Origin {
                message_id: message_id.clone(),
                gateway: self.gateway.clone(),
                link: entry.link.clone(),
                made: made.to_zoned(jiff::tz::TimeZone::UTC),
            };
            let body = match order_status(&facts, status, &destination.target(&self.gateway), &origin) {
                Ok(Some(body)) => body,
                Ok(None) => continue,
                Err(error) => {
                    uncarried.push((destination.name.clone(), error));
                    continue;
                }
            };
            let lane = match destination.lane {
                Lane::Specimen => named,
                Lane::Patient => patient.id.expose(),
                Lane::Link => &entry.link,
            };
            let (destination, lane) = (destination.name.clone(), lane.to_string());
            rows.push(NewOutbound { destination, lane, message_id, body, results: 0, charted: Vec::new() });
        }
        (rows, uncarried)
    }
}

/// The orders a step answers, each with the scheduled step it was found by. Those that were taken back are told as well
/// when no other asks for the study: it was done all the same.
fn orders_of<'s>(
    reader: &Reader,
    step: &'s PerformedStep,
) -> Result<Vec<(StoredOrder, &'s AnsweredStep)>, JournalError> {
    let mut orders = Vec::new();
    for answered in step.scheduled.iter().filter(|answered| !answered.study_instance_uid.is_empty()) {
        let mut of_study = reader.imaging_orders_of(&answered.study_instance_uid)?;
        if of_study.iter().any(|order| order.status.is_valid()) {
            of_study.retain(|order| order.status.is_valid());
        } else {
            of_study.drain(..of_study.len().saturating_sub(1));
        }
        orders.extend(of_study.into_iter().map(|order| (order, answered)));
    }
    Ok(orders)
}

/// Where an order stands after a request; `None` when the request says nothing about it. Who has an entry interpreted
/// again wants what is true now.
fn status(
    reader: &Reader,
    entry: &Entry,
    request: &Kept,
    step: &PerformedStep,
    order: &StoredOrder,
) -> Result<Option<ImagingOrderStatus>, JournalError> {
    let said = || PerformedStatus::from_dicom(&request.data_set.first(tags::PERFORMED_PROCEDURE_STEP_STATUS));
    let said = if entry.replays > 0 { Some(step.status) } else { said() };
    let Some(said) = said else { return Ok(None) };
    Ok(Some(match said {
        PerformedStatus::Completed if !order.status.is_open() => ImagingOrderStatus::Completed,
        PerformedStatus::Discontinued if order.status == OrderStatus::Done => ImagingOrderStatus::Completed,
        PerformedStatus::InProgress | PerformedStatus::Completed => ImagingOrderStatus::InProgress,
        PerformedStatus::Discontinued => {
            let goes_on = !reader.steps_done(order.id)?.is_empty() || reader.other_step_runs(step, entry.id)?;
            if goes_on { ImagingOrderStatus::InProgress } else { ImagingOrderStatus::Discontinued }
        }
    }))
}

fn content_of(status: ImagingOrderStatus) -> Vec<u8> {
    format!("{status:?}").into_bytes()
}

/// What is filed of a request. It carries no result, so the loss account does not know it.
fn report(
    entry: &Entry,
    subject_key: Vec<u8>,
    content_key: Vec<u8>,
    json: String,
    lookups: Vec<(Lookup, String)>,
    outbox: Vec<NewOutbound>,
) -> FiledReport {
    FiledReport {
        subject_key,
        content_key,
        completed_at_s: Some(entry.received_at_ms / 1000),
        repeat_of: None,
        lookups,
        json: json.into_bytes(),
        results: 0,
        decisions: String::new(),
        holds: Vec::new(),
        outbox,
        answered: Vec::new(),
        orders_as_of: i64::MAX,
    }
}

#[cfg(test)]
mod tests;
