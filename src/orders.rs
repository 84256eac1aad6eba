//! Orders from the EHR: how they come in, which results answer them, and what modalities are told of them.
//!
//! ```text
//! OML, ORM, ADT -> read -> COMMIT (message, orders, patients, outcomes), then ORL, ORR or ACK
//! ServiceRequest of a FHIR server that is asked -> read -> COMMIT
//! C-FIND of a modality -> worklist -> the scheduled steps that fit
//! result on a specimen -> matching -> placer number and patient of its order, or held
//! ```
//!
//! Where the EHR cannot dial the box, the box asks it ([`feed`]): imaging orders only.
//!
//! The line is a listening link like an instrument's ([`crate::link`]); only who takes custody differs ([`desk`]). What
//! is [`read`], how it is answered ([`answer`]) and which order a result answers ([`matching`]) is pure. Where orders
//! are kept and how they change: [`crate::journal`].
//!
//! ## Answers
//!
//! MSA-1 is AA when everything was done, AE when an order was refused (its ORC says so, an ERR says where and why) or
//! the message lacks something, AR when it is not for this box. With MSH-15 and MSH-16 the commit is answered first
//! (CA). The same message again, by MSH-3, MSH-4, MSH-10 and bytes, is answered byte for byte the same and changes
//! nothing; the same MSH-10 with other bytes is kept, counted as a conflict and carried out: an order is known by its
//! own number.

pub mod answer;
pub mod config;
pub mod desk;
pub mod fault;
pub mod feed;
pub mod matching;
pub mod read;
pub mod worklist;

pub use config::Config;
pub use desk::{Desk, Taken};
pub use feed::Feed;
pub use worklist::Worklist;
