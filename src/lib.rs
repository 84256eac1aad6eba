//! # afferent
//!
//! A small Linux box on the lab bench that carries what analyzers and modalities found to the hospital EHR and its
//! archive. This page is the map.
//!
//! ## How a result flows
//!
//! ```text
//! bytes -> frame -> COMMIT, then ack -> complete entry -> message -> canonical report -> rules
//!       -> OUTBOX COMMIT (mapped bytes) -> delivery -> EHR ack -> done
//! ```
//!
//! Orders come down a link of their own: message of the EHR -> read -> COMMIT, then answer ([`orders`]); where the EHR
//! cannot dial the box, the box asks it. The interpreter matches results with them; imaging orders are the worklist of the
//! modalities, and what these say of their steps goes back to the EHR and on to the PACS ([`imaging::steps`]).
//!
//! An image is an entry as well, whose bytes are a file instead of rows ([`imaging`]):
//!
//! ```text
//! C-STORE -> file, fsynced, renamed -> COMMIT, then C-STORE-RSP -> its head is read -> OUTBOX COMMIT (where the file
//!         is) -> C-STORE or STOW-RS -> the archive's answer -> done
//! study that is stable -> whose it is, its reports -> mapped as results are, or held -> OUTBOX COMMIT -> EHR -> done
//! ```
//!
//! Three loops, ingest ([`link`]), interpret ([`interpreter`]) and deliver ([`delivery`]), share no memory, only the
//! [`journal`]. Wake-up signals between them are hints: losing one costs latency, never data. Restart is the recovery
//! plan, so it is the most tested path.
//!
//! **From here to the fsync:** [`link`] runs a machine of [`wire`]; the machine asks for custody
//! ([`wire::Output::Persist`]); the pump hands that to `journal::Journal::persist`; the writer thread in
//! `journal/writer.rs` commits it (SQLite, WAL, `synchronous=FULL`: the commit is the fsync) and only then makes the
//! `Receipt` without which no machine acknowledges anything. An image's file is synced before that, in
//! `journal/spool.rs`.
//!
//! **The same for an image:** [`link::dicom`] runs [`wire::dimse::Association`] and writes what a modality stores to a
//! file of the spool as it comes in; when it is whole the file is made durable (fdatasync, rename, fsync of the folder),
//! its row is committed, and only then the C-STORE is answered 0x0000. Nothing of it is read before that. A request for
//! storage commitment is a row before it is answered, and until its report was taken ([`imaging::commitment`]); so is
//! what an archive is asked to commit to ([`delivery::commitment`]).
//!
//! **Beside all of it**, and never before any of it, [`fleet`] tells a broker how the box is: it reads counters, has a
//! thread and a file of its own, and what it says cannot hold a patient's data by type ([`fleet::telemetry`]).
//! What the desk wants a box to run is tried beside what runs, applied as a difference ([`gateway`]) and taken back when
//! something that was well is lost ([`fleet::desired`]).
//! A new release comes that way too, and is put back by itself when results would not flow ([`update`]).
//! The page of a box is another process ([`console`]), for whoever has an account ([`access`]).
//!
//! ## Invariants
//!
//! Cited by number in code and in test names.
//!
//! - **I1 Custody before ack.** Nothing is acknowledged to a sender before its bytes are fsynced.
//! - **I2 Raw is the truth.** Bytes are kept verbatim until retention ends; a report is a pure function of
//!   (raw bytes, driver version).
//! - **I3 One writer.** One OS thread owns the only write connection; commits are grouped across links; a lone link
//!   never waits for a group.
//! - **I4 Retransmission is harmless.** The same frame, message or result again gets the same reply and no second row.
//! - **I5 Stable identity out.** A retry carries the same MSH-10 or Bundle, byte for byte; changed content a new one.
//! - **I6 Order per lane.** A lane is destination x ordering key. A stuck lane never stops another; a correction never
//!   overtakes what it corrects.
//! - **I7 Nothing vanishes.** Every inbound result ends as delivered, held or refused, with a reason and a counter.
//!   A full disk stops acknowledging; it never drops.
//! - **I8 No patient data off the data path.** [`clinical::Phi`] prints as redacted.
//! - **I9 The core is pure.** No sockets, files, clock or tokio in `wire`, `message`, `clinical`, `driver`, `mapping`,
//!   `rules`. `tests/tidy.rs` enforces it.
//! - **I10 Everything is bounded.** Limits are named constants at the top of each module.
//! - **I11 Values keep their digits.** Decimal text end to end, never a binary float.
//! - **I12 The fleet cannot stall or bend the data path.**
//! - **I13 Never guess in the patient's chart.** What is doubtful is held with a reason.

// Pure core, in the order data flows.
pub mod wire;
pub mod message;
pub mod clinical;
pub mod driver;
pub mod rules;
pub mod mapping;
// Shell.
pub mod backoff;
pub mod clock;
pub mod disk;
pub mod audit;
pub mod credential;
pub mod tls;
pub mod link;
pub mod journal;
pub mod interpreter;
pub mod imaging;
pub mod orders;
pub mod delivery;
pub mod watch;
pub mod metrics;
pub mod fleet;
pub mod update;
pub mod access;
pub mod page;
pub mod desk;
pub mod console;
pub mod service;
pub mod board;
pub mod gateway;
pub mod control;
pub mod reset;
pub mod backup;
pub mod workbench;
pub mod setup;
pub mod demo;
pub mod bench;
pub mod config;
pub mod sim;
pub mod cli;
