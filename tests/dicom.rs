//! Promises of the imaging side, by part: what modalities, archives and their tools say on the wire and what becomes of
//! it.

#[path = "support/patience.rs"]
mod patience;
#[path = "support/ports.rs"]
mod ports;
#[path = "dicom/by_hand.rs"]
mod by_hand;
#[path = "dicom/caller.rs"]
mod caller;
#[path = "dicom/commands.rs"]
mod commands;
#[path = "dicom/commitment.rs"]
mod commitment;
#[path = "support/corpus.rs"]
mod corpus;
#[path = "dicom/end_to_end.rs"]
mod end_to_end;
#[path = "dicom/feed.rs"]
mod feed;
#[path = "dicom/forward.rs"]
mod forward;
#[path = "dicom/forwarding.rs"]
mod forwarding;
#[path = "dicom/listing.rs"]
mod listing;
#[path = "dicom/orders.rs"]
mod orders;
#[path = "dicom/pdus.rs"]
mod pdus;
#[path = "dicom/peers.rs"]
mod peers;
#[path = "dicom/questions.rs"]
mod questions;
#[path = "dicom/mutated_pdus.rs"]
mod mutated_pdus;
#[path = "dicom/power_cut.rs"]
mod power_cut;
#[path = "support/receiver.rs"]
mod receiver;
#[path = "dicom/rig.rs"]
mod rig;
#[path = "dicom/rotation.rs"]
mod rotation;
#[path = "dicom/simulators.rs"]
mod simulators;
#[path = "dicom/site.rs"]
mod site;
#[path = "dicom/steps.rs"]
mod steps;
#[path = "dicom/storage.rs"]
mod storage;
#[path = "dicom/documents.rs"]
mod documents;
#[path = "support/golden.rs"]
mod golden;
#[path = "dicom/mapping.rs"]
mod mapping;
#[path = "dicom/meaning.rs"]
mod meaning;
#[path = "dicom/mutated.rs"]
mod mutated;
#[path = "dicom/to_ehr.rs"]
mod to_ehr;
#[path = "dicom/web.rs"]
mod web;
#[path = "dicom/worklist.rs"]
mod worklist;
