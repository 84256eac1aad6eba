//! The verbs that change something.

use super::Place;
use crate::audit::Act;
use crate::cli::audit;
use crate::control::{self, ControlError, Request, Response};
use crate::journal::{EntryId, HoldId, ITEMS_MAX, Journal, Operated, OperatorAction, OutboxId, StudyId};
use std::process::ExitCode;

/// Send held results on.
///
/// They go to every destination of their link, after what their lanes already carry.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  afferent journal release 17 18 --note 'checked with the ward'")]
pub(super) struct Release {
    /// Numbers of the holds, from `afferent journal hold`
    #[arg(required = true)]
    holds: Vec<i64>,
    /// Why, for the record; no patient data
    #[arg(long, default_value = "")]
    note: String,
}

/// Send parked messages again, byte for byte.
///
/// Refused for a message whose results were corrected since: it would arrive after what corrects it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  afferent journal requeue 23")]
pub(super) struct Requeue {
    /// Numbers of the parked messages, from `afferent journal hold`
    #[arg(required = true)]
    messages: Vec<i64>,
}

/// Interpret entries again, with the drivers and rules of now.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  afferent journal replay 4711")]
pub(super) struct Replay {
    /// Numbers of the entries
    #[arg(required = true)]
    entries: Vec<i64>,
}

/// Give held results, parked messages or images that are safe here alone up, with a reason.
///
/// Results and messages stay in the journal until retention and count as refused. An image of which its modality was told
/// that it is safe, and that no archive took, is kept however old it is: given up, it goes like any other that was kept
/// long enough.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  afferent journal discard --hold 17 --reason 'control run without its mark'
  afferent journal discard --image 4711 --reason 'copied to the archive by hand'
  afferent journal discard --study 12 --reason 'copied to the archive by hand'")]
pub(super) struct Discard {
    /// Number of a held result
    #[arg(long = "hold", value_name = "HOLD", required_unless_present_any = ["messages", "images", "study"])]
    holds: Vec<i64>,
    /// Number of a parked message
    #[arg(long = "parked", value_name = "MESSAGE")]
    messages: Vec<i64>,
    /// Number of the entry of an image that is safe here alone, from `afferent journal hold --images`
    #[arg(long = "image", value_name = "ENTRY")]
    images: Vec<i64>,
    /// Number of a study: all its images that are safe here alone
    #[arg(long, value_name = "STUDY")]
    study: Option<i64>,
    /// Why, for the record; no patient data
    #[arg(long)]
    reason: String,
}

impl Release {
    pub(super) fn execute(self, place: &Place) -> anyhow::Result<ExitCode> {
        let holds = self.holds.into_iter().map(HoldId).collect();
        carry_out(place, OperatorAction::Release { holds, note: self.note }, "released")
    }
}

impl Requeue {
    pub(super) fn execute(self, place: &Place) -> anyhow::Result<ExitCode> {
        let outbox = self.messages.into_iter().map(OutboxId).collect();
        carry_out(place, OperatorAction::Requeue { outbox }, "queued again")
    }
}

impl Replay {
    pub(super) fn execute(self, place: &Place) -> anyhow::Result<ExitCode> {
        let entries = self.entries.into_iter().map(EntryId).collect();
        carry_out(place, OperatorAction::Replay { entries }, "interpreted again")
    }
}

impl Discard {
    pub(super) fn execute(self, place: &Place) -> anyhow::Result<ExitCode> {
        let holds = self.holds.into_iter().map(HoldId).collect();
        let outbox = self.messages.into_iter().map(OutboxId).collect();
        let mut images: Vec<EntryId> = self.images.into_iter().map(EntryId).collect();
        if let Some(study) = self.study {
            let of_study = place.reader()?.only_here(Some(StudyId(study)), ITEMS_MAX)?;
            anyhow::ensure!(!of_study.is_empty(), "no image of study {study} is safe here alone");
            images.extend(of_study.into_iter().map(|image| image.entry));
        }
        carry_out(place, OperatorAction::Discard { holds, outbox, images, reason: self.reason }, "discarded")
    }
}

/// Has the running gateway do it, or does it here when none runs.
pub(in crate::cli) fn carry_out(place: &Place, action: OperatorAction, done: &str) -> anyhow::Result<ExitCode> {
    let (data, settings) = place.find()?;
    audit::note(&data, Act::Operated { action: action.clone() })?;
    let operated = match control::request(&data, &Request::Operate(action.clone())) {
        Ok(Response::Operated(operated)) => operated,
        Ok(Response::Refused(why)) => anyhow::bail!("the gateway refused: {why}"),
        Ok(_) => anyhow::bail!("the gateway answered something else"),
        Err(ControlError::NotRunning(_)) => {
            // Root's hands are led by nothing that lies there, and what is written is the service's.
            crate::disk::as_owner_of(&data, || {
                let journal = Journal::open(&data, &settings)?;
                let operated = journal.operate(action);
                journal.close();
                anyhow::Ok(operated?)
            })??
        }
        Err(error) => return Err(error.into()),
    };
    report(place, &operated, done)
}

fn report(place: &Place, operated: &Operated, done: &str) -> anyhow::Result<ExitCode> {
    if place.json {
        println!("{}", serde_json::to_string(operated)?);
    } else {
        println!("{} {done}", operated.done);
        for (id, why) in &operated.skipped {
            eprintln!("{id}: {why}");
        }
    }
    Ok(ExitCode::from(u8::from(!operated.skipped.is_empty())))
}
