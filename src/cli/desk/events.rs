//! `afferent desk events`.

use super::SETTINGS;
use crate::desk::events::{self, Record};
use crate::desk::order::plain_json;
use crate::desk::{Config, Interest, Line, News, Said};
use crate::fleet::topic::Up;
use clap::Args;
use futures_util::FutureExt;
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;

/// Events that share a sync of the disk, at most; no more than the broker sends before it wants an answer.
const TOGETHER_MAX: usize = 16;

/// Note what boxes tell of: starts, alerts, what became of commands.
///
/// Run it on as many desks as there are to be, each with a folder and a certificate of its own (`events` in the
/// settings): the broker gives each event to one of them. An event is on this desk's disk, in `events.jsonl`, before
/// the broker may forget it, and the broker keeps what comes while a desk is away.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  afferent desk events
  afferent desk events --seconds 60 | jq 'select(.event.event == \"alert\")'
  afferent desk events --count                          # of what is noted already: which box told how much of what

Exit codes: 0 it was told to end, 1 the disk or the broker refuses.")]
pub(super) struct Events {
    /// The desk's settings; the record lies beside them
    #[arg(long, value_name = "FILE", default_value = SETTINGS)]
    desk: PathBuf,
    /// Stop after so many seconds
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// Show how many events of each kind each box told, of those that are noted, as JSON, and note none
    #[arg(long, conflicts_with = "seconds")]
    count: bool,
}

impl Events {
    pub async fn execute(self) -> anyhow::Result<ExitCode> {
        let config = Config::read(&self.desk)?;
        if self.count {
            println!("{}", json!(events::counts(&config.folder)?));
            return Ok(ExitCode::SUCCESS);
        }
        let mut record = Record::open(&config.folder)?;
        let mut line = Line::connect(&config, Interest::SharedEvents).await?;
        let over = crate::cli::sim::over(self.seconds);
        tokio::pin!(over);
        loop {
            let mut heard: Vec<Said> = Vec::new();
            tokio::select! {
                () = &mut over => return Ok(ExitCode::SUCCESS),
                news = line.follow() => heard.extend(said(news)),
            }
            while heard.len() < TOGETHER_MAX
                && let Some(news) = line.follow().now_or_never()
            {
                heard.extend(said(news));
            }
            for event in record.note(&heard)? {
                println!("{}", plain_json(&event));
            }
            heard.iter().for_each(|said| line.noted(said));
        }
    }
}

fn said(news: News) -> Option<Said> {
    match news {
        News::Said(said) => Some(said).filter(|said| said.what == Up::Event),
        News::Lost(why) => {
            tracing::warn!("{why}");
            None
        }
        News::Back => None,
    }
}
