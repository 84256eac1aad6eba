//! Promises of the imaging side, by part: what modalities, archives and their tools say on the wire and what becomes of
//! it.

#[path = "dicom/commands.rs"]
mod commands;
#[path = "dicom/pdus.rs"]
mod pdus;
#[path = "support/corpus.rs"]
mod corpus;
