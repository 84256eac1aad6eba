//! What the EHR asked the laboratory to measure, free of any wire format.
//!
//! One [`WorkOrder`] is one placer order number: an ORC with its OBR (HL7 v2 chapter 4). A tube that several orders ask
//! for has several of them. The numbers of an order are echoed with its results exactly as they came.

use super::{Coding, ImagingOrder, Patient, Phi, Specimen, Timestamp, is_same_authority};
use serde::{Deserialize, Serialize};

/// One order on one specimen.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WorkOrder {
    /// The EHR's number (ORC-2, OBR-2). Empty only in imaging orders that are known by their filler's number.
    pub placer_order_number: OrderNumber,
    /// The laboratory's number, when the EHR knows it already (ORC-3, OBR-3).
    #[serde(skip_serializing_if = "OrderNumber::is_empty")]
    pub filler_order_number: OrderNumber,
    /// The EHR's number for all orders that belong together (ORC-4).
    #[serde(skip_serializing_if = "OrderNumber::is_empty")]
    pub placer_group_number: OrderNumber,
    /// Whose order it is.
    pub patient: OrderedPatient,
    /// What is to be measured. The id is empty when the message names none (usual in ORM^O01); results then find the
    /// order by its number only.
    pub specimen: Specimen,
    /// Other names the same specimen goes by: the filler's (SPM-2.2), the container's (SAC-3). Its label may show any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub other_specimen_ids: Vec<Phi>,
    /// What is ordered, in the order's own sequence. Never empty in an order the box accepted.
    pub tests: Vec<OrderedTest>,
    /// Priority as sent, HL7 table 0027 or 0485 (S, A, R, ...).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub priority: String,
    /// When it was ordered (ORC-9).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ordered: Option<Timestamp>,
    /// Comments of the orderer (NTE-3), in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub comments: Vec<String>,
    /// Present when it is for imaging: modalities are asked for it instead of instruments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub imaging: Option<ImagingOrder>,
}

impl WorkOrder {
    /// The number it is known by: the placer's, else the filler's.
    pub fn number(&self) -> &OrderNumber {
        match self.placer_order_number.is_empty() {
            true => &self.filler_order_number,
            false => &self.placer_order_number,
        }
    }

    /// True when the placer's or the filler's number may be this one.
    pub fn goes_by(&self, number: &OrderNumber) -> bool {
        self.placer_order_number.may_be(number) || self.filler_order_number.may_be(number)
    }

    /// Every name of its specimen; none when the message named no specimen.
    pub fn specimen_ids(&self) -> impl Iterator<Item = &Phi> {
        std::iter::once(&self.specimen.id).chain(&self.other_specimen_ids).filter(|id| !id.is_empty())
    }
}

/// An order number with who gave it (EI).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OrderNumber {
    /// EI.1.
    pub id: Phi,
    /// EI.2 to EI.4 as sent, separated by `^`; empty when there are none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
}

impl OrderNumber {
    /// A number without a name space.
    pub fn new(id: impl Into<String>) -> Self {
        OrderNumber { id: Phi::new(id), namespace: String::new() }
    }

    /// True for the same number, where both say who gave it of the same one.
    pub fn may_be(&self, other: &OrderNumber) -> bool {
        let is_said = !self.namespace.is_empty() && !other.namespace.is_empty();
        self.id == other.id && (!is_said || is_same_authority(&self.namespace, &other.namespace))
    }

    /// True when there is no number.
    pub fn is_empty(&self) -> bool {
        self.id.is_empty()
    }
}

/// The patient of an order, or of an ADT message.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OrderedPatient {
    /// What goes out with the results.
    pub patient: Patient,
    /// Every other number the same person goes by here: further PID-3, PID-2, PID-18 (account), PV1-19 (visit). An
    /// instrument may know the patient by any of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub other_ids: Vec<Phi>,
}

impl OrderedPatient {
    /// True when the patient goes by this number.
    pub fn goes_by(&self, id: &Phi) -> bool {
        self.patient.id == *id || self.other_ids.contains(id)
    }
}

/// One test or panel that is ordered (OBR-4).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OrderedTest {
    /// The EHR's code.
    pub universal_service_id: Coding,
    /// The same in another code system, when sent (OBR-4.4 to 4.6).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alternate: Option<Coding>,
}

impl OrderedTest {
    /// Every code it goes by.
    pub fn codings(&self) -> impl Iterator<Item = &Coding> {
        std::iter::once(&self.universal_service_id).chain(&self.alternate).filter(|coding| !coding.code.is_empty())
    }
}

/// Where an order stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OrderStatus {
    /// Accepted, nothing measured yet.
    Requested,
    /// An instrument has it, or sent preliminary results.
    InProgress,
    /// Its results went out. A correction still finds it.
    Done,
    /// The EHR or a person cancelled it.
    Cancelled,
    /// Another order took its place.
    Replaced,
}

impl OrderStatus {
    /// All of them; the place in this list is the number under which one is stored.
    pub const ALL: [OrderStatus; 5] = [
        OrderStatus::Requested,
        OrderStatus::InProgress,
        OrderStatus::Done,
        OrderStatus::Cancelled,
        OrderStatus::Replaced,
    ];

    /// True while results are expected.
    pub fn is_open(self) -> bool {
        matches!(self, OrderStatus::Requested | OrderStatus::InProgress)
    }

    /// True when results may be filed under it: it was not taken back.
    pub fn is_valid(self) -> bool {
        !matches!(self, OrderStatus::Cancelled | OrderStatus::Replaced)
    }

    /// The kebab-case name used in commands and JSON.
    pub fn name(self) -> &'static str {
        match self {
            OrderStatus::Requested => "requested",
            OrderStatus::InProgress => "in-progress",
            OrderStatus::Done => "done",
            OrderStatus::Cancelled => "cancelled",
            OrderStatus::Replaced => "replaced",
        }
    }
}
