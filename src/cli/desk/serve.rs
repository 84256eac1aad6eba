//! `afferent desk serve`.

use super::SETTINGS;
use crate::desk::page::{DOCUMENT, Fleet};
use crate::desk::registry::{self, Registry};
use crate::desk::{Config, Interest, Line, News};
use crate::page::document::{self, Page};
use crate::page::{self, Limits, Server};
use anyhow::{Context, bail};
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::time::Instant;

/// The registry is looked at this often.
const REGISTRY_EVERY: Duration = Duration::from_secs(2);
/// Certificates are looked at this often: a day.
const ENDS_EVERY: Duration = Duration::from_secs(24 * 3600);
/// A desk has the memory that a box has not, and many who look at it may come through one proxy.
const LIMITS: Limits = Limits { connections: 256, machine: 192, loopback: 192 };

/// Serve a page of the whole fleet, live, and answer boxes that ask whether they are heard.
///
/// It prints the address with a token in it; whoever has that sees the fleet. The token is kept in `page.token`;
/// without that file a new one is made. Over TLS with the certificate that `page` in the settings names (with
/// `client_ca` browsers need one as well), else, on loopback only, with one that the desk makes for itself.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  afferent desk serve
  afferent desk serve --listen 127.0.0.1:9444 --seconds 3600")]
pub(super) struct Serve {
    /// Where it listens
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9443")]
    listen: String,
    /// The desk's settings
    #[arg(long, value_name = "FILE", default_value = SETTINGS)]
    desk: PathBuf,
    /// Stop after so many seconds
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
}

impl Serve {
    pub async fn execute(self) -> anyhow::Result<ExitCode> {
        let config = Config::read(&self.desk)?;
        let listener = TcpListener::bind(&self.listen).await;
        let listener = listener.with_context(|| format!("cannot listen on {}", self.listen))?;
        let address = listener.local_addr()?;
        let tls = match &config.page {
            Some(tls) => tls.clone(),
            None if address.ip().is_loopback() => {
                page::own_certificate(&config.folder, &[], &[]).context("a certificate cannot be made")?
            }
            None => bail!(
                "{address} is open to the network: name a certificate, page = {{ cert = \"page.pem\", key = \"page.key\" }}"
            ),
        };
        let token = document::token(&config.folder).context("there is no token for the page")?;
        let fleet = Fleet::new(Registry::read(&config.folder)?);
        let server = Server::new(Page::new(fleet.clone(), &DOCUMENT, &token), &tls, LIMITS)?;
        super::tell_of_own_ends(&config);
        let mut line = Line::connect(&config, Interest::State).await?;
        super::tell_of_broker_end(&config, &line);
        println!("https://{address}/#{token}");
        tokio::spawn(server.serve(listener));
        let ticking = fleet.clone();
        tokio::spawn(async move { ticking.tick().await });
        tokio::spawn(follow_registry(fleet.clone(), config.folder.clone()));
        let over = crate::cli::sim::over(self.seconds);
        tokio::pin!(over);
        let mut looking = tokio::time::interval_at(Instant::now() + ENDS_EVERY, ENDS_EVERY);
        loop {
            let news = tokio::select! {
                () = &mut over => return Ok(ExitCode::SUCCESS),
                _ = looking.tick() => {
                    super::tell_of_own_ends(&config);
                    super::tell_of_broker_end(&config, &line);
                    continue;
                }
                news = line.follow() => news,
            };
            match news {
                News::Said(said) => {
                    line.answer(&said);
                    fleet.heard(&said);
                }
                News::Back => fleet.trouble(String::new()),
                News::Lost(why) => {
                    tracing::warn!("{why}");
                    fleet.trouble(why);
                }
            }
        }
    }
}

async fn follow_registry(fleet: Arc<Fleet>, folder: PathBuf) {
    let modified = || std::fs::metadata(folder.join(registry::FILE)).and_then(|meta| meta.modified()).ok();
    let mut before = modified();
    loop {
        tokio::time::sleep(REGISTRY_EVERY).await;
        let now = modified();
        if now == before {
            continue;
        }
        before = now;
        match Registry::read(&folder) {
            Ok(registry) => fleet.knows(registry),
            Err(error) => tracing::warn!("{error}; the page shows what was there before"),
        }
    }
}
