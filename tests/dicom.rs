//! Promises of the imaging side, by part: what modalities, archives and their tools say on the wire and what becomes of
//! it.

#[path = "dicom/commands.rs"]
mod commands;
#[path = "support/corpus.rs"]
mod corpus;
