//! What the EHR asked imaging to do: requested procedures and their scheduled steps (PS3.4 K.6.1.2.2, IHE RAD TF-1 4).
//!
//! One order (imaging service request, one accession number) has one or more requested procedures, each of them one
//! study; a procedure has one or more scheduled steps, each of them one entry of a modality's worklist.

use super::{Coding, Phi, Timestamp};
use serde::{Deserialize, Serialize};

/// Most characters an SH value holds (PS3.5 6.2): accession number, procedure and step ids.
pub const SHORT_STRING_MAX: usize = 16;

/// The imaging part of a [`super::WorkOrder`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ImagingOrder {
    /// The number that ties images to the order (0008,0050): IPC-1, else OBR-18, else the filler's order number.
    #[serde(skip_serializing_if = "Phi::is_empty")]
    pub accession_number: Phi,
    /// The patient's whole name as DICOM writes it (0010,0010), as the message had it: with middle name, prefix, suffix
    /// and its other scripts. Valid while the EHR calls the patient what it did then.
    #[serde(skip_serializing_if = "Phi::is_empty")]
    pub patient_name: Phi,
    /// Who asks for it (0032,1032), `family^given^middle^prefix^suffix` as DICOM writes names: OBR-16.
    #[serde(skip_serializing_if = "Phi::is_empty")]
    pub requesting_physician: Phi,
    /// Who sent the patient (0008,0090): PV1-8.
    #[serde(skip_serializing_if = "Phi::is_empty")]
    pub referring_physician: Phi,
    /// Why (0040,1002): OBR-31.
    #[serde(skip_serializing_if = "Phi::is_empty")]
    pub reason: Phi,
    /// What the room must know of the patient (0010,2000): OBR-13.
    #[serde(skip_serializing_if = "Phi::is_empty")]
    pub medical_alerts: Phi,
    /// Contrast and other allergies (0010,2110): AL1-3, several separated by `, `.
    #[serde(skip_serializing_if = "Phi::is_empty")]
    pub allergies: Phi,
    /// Weight in kg as sent (0010,1030): an OBX of body weight.
    #[serde(skip_serializing_if = "Phi::is_empty")]
    pub weight_kg: Phi,
    /// Height in m as sent (0010,1020).
    #[serde(skip_serializing_if = "Phi::is_empty")]
    pub height_m: Phi,
    /// What is to be done, in the order's own sequence. Never empty in an order the box accepted.
    pub procedures: Vec<RequestedProcedure>,
}

/// One requested procedure: one study.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RequestedProcedure {
    /// (0040,1001): IPC-2 or OBR-19; one of our own when the EHR gives none.
    pub id: String,
    /// (0020,000D): IPC-3 or ZDS-1; made once and kept with the order when the EHR gives none.
    pub study_instance_uid: String,
    /// (0032,1064): OBR-44, else OBR-4.
    pub code: Coding,
    /// Its steps. Never empty.
    pub steps: Vec<ScheduledStep>,
}

/// One scheduled procedure step: one entry of a worklist.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScheduledStep {
    /// (0040,0009): IPC-4 or OBR-20; one of our own when the EHR gives none.
    pub id: String,
    /// (0008,0060): IPC-5 or OBR-24.
    pub modality: String,
    /// (0040,0001): IPC-9, or what the site says of its location. Several stations may do it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub station_ae_titles: Vec<String>,
    /// (0040,0010): IPC-7.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub station_name: String,
    /// (0040,0011): IPC-8.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub location: String,
    /// (0040,0002) and (0040,0003): TQ1-7, else OBR-27.4, ORC-7.4 or OBR-36.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<Timestamp>,
    /// (0040,0006): OBR-34.
    #[serde(skip_serializing_if = "Phi::is_empty")]
    pub performing_physician: Phi,
    /// (0040,0008): IPC-6, else OBR-4.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub protocols: Vec<Coding>,
    /// (0040,0400): comments on this step.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub comments: Vec<String>,
}

impl ImagingOrder {
    /// Every step with its procedure.
    pub fn steps(&self) -> impl Iterator<Item = (&RequestedProcedure, &ScheduledStep)> {
        self.procedures.iter().flat_map(|procedure| procedure.steps.iter().map(move |step| (procedure, step)))
    }

    /// Takes in what a further group of segments says about the same order: procedures are known by their id, steps by
    /// theirs; a step that comes again adds its protocols.
    pub fn join(&mut self, other: ImagingOrder) {
        for procedure in other.procedures {
            let known = self.procedures.iter_mut().find(|known| known.is_same(&procedure));
            match known {
                Some(known) => known.join(procedure),
                None => self.procedures.push(procedure),
            }
        }
    }

    /// Gives what the EHR left out: study instance UIDs by `make_uid`, and ids of our own made from `row`, which no other
    /// order of this journal has, and `mark`, the letters of the journal: the one before it began at the same row. `before`
    /// is the order this one changes: what it had been given stays (a modality may have it already).
    pub fn complete(
        &mut self,
        before: Option<&ImagingOrder>,
        (row, mark): (i64, &str),
        mut make_uid: impl FnMut() -> String,
    ) {
        let name = format!("{}{mark}", base_36(row));
        let lone = self.procedures.len() == 1;
        if let (true, Some(before)) = (self.accession_number.is_empty(), before) {
            self.accession_number = before.accession_number.clone();
        }
        for (at, procedure) in self.procedures.iter_mut().enumerate() {
            let earlier = before.and_then(|before| {
                let same = before.procedures.iter().find(|p| !procedure.id.is_empty() && p.id == procedure.id);
                same.or_else(|| before.procedures.get(at).filter(|_| lone || procedure.id.is_empty()))
            });
            if procedure.id.is_empty() {
                procedure.id = earlier.map_or_else(|| numbered("RP", &name, at), |p| p.id.clone());
            }
            if procedure.study_instance_uid.is_empty() {
                procedure.study_instance_uid = earlier.map_or_else(&mut make_uid, |p| p.study_instance_uid.clone());
            }
            for (place, step) in procedure.steps.iter_mut().enumerate().filter(|(_, step)| step.id.is_empty()) {
                let known = earlier.and_then(|p| p.steps.get(place)).map(|step| step.id.clone());
                step.id = known.unwrap_or_else(|| numbered("SP", &name, at * STEPS_PER_PROCEDURE + place));
            }
        }
    }
}

impl RequestedProcedure {
    /// Without an id, what is asked for tells procedures apart.
    fn is_same(&self, other: &RequestedProcedure) -> bool {
        let same_study = self.study_instance_uid == other.study_instance_uid;
        let unsaid = self.study_instance_uid.is_empty() || other.study_instance_uid.is_empty();
        let same = self.id == other.id && (!self.id.is_empty() || self.code == other.code);
        same && (same_study || unsaid)
    }

    fn join(&mut self, other: RequestedProcedure) {
        if self.study_instance_uid.is_empty() {
            self.study_instance_uid = other.study_instance_uid;
        }
        for step in other.steps {
            match self.steps.iter_mut().find(|known| !step.id.is_empty() && known.id == step.id) {
                Some(known) => {
                    let new: Vec<Coding> =
                        step.protocols.into_iter().filter(|p| !known.protocols.contains(p)).collect();
                    known.protocols.extend(new);
                }
                None => self.steps.push(step),
            }
        }
    }
}

/// Numbers of steps of one procedure do not run into those of the next.
const STEPS_PER_PROCEDURE: usize = 100;

/// An id of our own that fits SH (16 characters): `RPHKQXB`, `RPHKQXB.1`.
fn numbered(kind: &str, name: &str, at: usize) -> String {
    if at == 0 { format!("{kind}{name}") } else { format!("{kind}{name}.{at}") }
}

/// Five characters for the sixty million orders of a busy life.
fn base_36(row: i64) -> String {
    let mut rest = row.unsigned_abs();
    let mut digits = Vec::new();
    loop {
        digits.push(char::from_digit((rest % 36) as u32, 36).unwrap_or_default().to_ascii_uppercase());
        rest /= 36;
        if rest == 0 {
            return digits.iter().rev().collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(procedure: &str, step: &str) -> ImagingOrder {
        let step = ScheduledStep { id: step.to_string(), ..ScheduledStep::default() };
        let procedure = RequestedProcedure { id: procedure.to_string(), steps: vec![step], ..Default::default() };
        ImagingOrder { procedures: vec![procedure], ..ImagingOrder::default() }
    }

    #[test]
    fn what_the_ehr_leaves_out_is_made_once_and_stays_through_a_change() {
        let mut made = 0;
        let mut uid = || {
            made += 1;
            format!("2.25.{made}")
        };
        let mut first = order("", "");
        first.complete(None, (17, "KQXB"), &mut uid);
        let procedure = &first.procedures[0];
        let given = (procedure.id.as_str(), procedure.study_instance_uid.as_str(), procedure.steps[0].id.as_str());
        assert_eq!(given, ("RPHKQXB", "2.25.1", "SPHKQXB"));
        let mut changed = order("", "");
        changed.complete(Some(&first), (18, "KQXB"), &mut uid);
        assert_eq!(changed.procedures, first.procedures);
        let mut other = order("RP-OTHER", "S");
        other.procedures.push(RequestedProcedure { id: "RP-2".into(), ..Default::default() });
        other.complete(Some(&first), (19, "KQXB"), &mut uid);
        assert_eq!(other.procedures[0].study_instance_uid, "2.25.2", "another procedure is another study");
    }

    #[test]
    fn an_id_fits_its_place_however_many_orders_there_were() {
        let mut last = order("", "");
        last.procedures = vec![last.procedures[0].clone(); 20];
        last.complete(None, (36_i64.pow(5) - 1, "KQXB"), || "2.25.1".to_string());
        let procedure = &last.procedures[19];
        assert_eq!((procedure.id.as_str(), procedure.steps[0].id.as_str()), ("RPZZZZZKQXB.19", "SPZZZZZKQXB.1900"));
        assert!(procedure.steps[0].id.len() <= 16, "SH");
    }

    #[test]
    fn groups_of_one_order_join_by_procedure_and_step() {
        let mut all = order("P1", "S1");
        for (procedure, step) in [("P1", "S2"), ("P2", "S3"), ("P1", "S1")] {
            all.join(order(procedure, step));
        }
        let steps: Vec<(&str, &str)> = all.steps().map(|(p, s)| (p.id.as_str(), s.id.as_str())).collect();
        assert_eq!(steps, [("P1", "S1"), ("P1", "S2"), ("P2", "S3")]);
    }

    #[test]
    fn procedures_without_ids_join_only_when_the_same_is_asked_for() {
        let coded = |code: &str| {
            let mut order = order("", "");
            order.procedures[0].code = Coding::local(code, code);
            order
        };
        let mut all = coded("ECHO");
        all.join(coded("CT"));
        all.join(coded("ECHO"));
        let steps: Vec<usize> = all.procedures.iter().map(|procedure| procedure.steps.len()).collect();
        assert_eq!(steps, [2, 1], "two steps of the echo, one of the CT");
    }
}
