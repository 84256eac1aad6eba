//! `afferent console`.

use crate::console::{self, DOCUMENT};
use crate::disk;
use crate::fleet::desired::tree;
use crate::page::{self, Server};
use anyhow::{Context, bail};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tokio::net::TcpListener;

/// Serve a page on this box: how each link and destination is, live, and what is unusual now.
///
/// On a terminal it prints the address with a token in it; whoever has that sees the page. The token is kept in
/// `page.token` in the data directory, for the owner of that only (`sudo cat /var/lib/afferent/page.token`). On loopback, over TLS with a certificate that the box makes for itself:
/// from elsewhere through `ssh -L 9440:localhost:9440`. It runs beside the gateway, and results do not depend on it.
/// Nothing of a patient is on the page.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  afferent console
  afferent console --config afferent.toml --listen 127.0.0.1:9441 --seconds 3600")]
pub struct Console {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = super::CONFIG_DEFAULT)]
    config: PathBuf,
    /// Where it listens; only this machine is let in
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9440")]
    listen: String,
    /// Stop after so many seconds
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
}

impl Console {
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        let data = tree::load(&self.config)?.config.gateway.data;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let served = runtime.block_on(self.serve(&data));
        // A gateway that does not answer keeps nobody from leaving.
        runtime.shutdown_background();
        served
    }

    async fn serve(self, data: &Path) -> anyhow::Result<ExitCode> {
        // The port first: of two consoles the second makes no token and no certificate.
        let listener = TcpListener::bind(&self.listen).await;
        let listener = listener.with_context(|| format!("cannot listen on {}", self.listen))?;
        let address = listener.local_addr()?;
        if !address.ip().is_loopback() {
            bail!(
                "{address} is open to the network; the page is for this machine: --listen 127.0.0.1:{}",
                address.port()
            );
        }
        let tls = disk::as_owner_of(data, || page::own_certificate(data))
            .flatten()
            .with_context(|| format!("no certificate in {}", data.display()))?;
        let token = disk::as_owner_of(data, || page::token(data))
            .flatten()
            .with_context(|| format!("no token in {}", data.display()))?;
        let file = data.join(page::TOKEN);
        let console = console::Console::new(self.config, &file);
        let server = Server::new(console.clone(), &DOCUMENT, &tls, &token)?;
        // A log that others read is no place for the token.
        if std::io::stdout().is_terminal() {
            println!("https://{address}/#{token}");
        } else {
            println!("https://{address}/# with the token in {}", file.display());
        }
        tokio::spawn(server.serve(listener));
        tokio::select! {
            () = console.watch(&file) => bail!("the token or the release is another now: start the console anew"),
            () = crate::cli::sim::over(self.seconds) => Ok(ExitCode::SUCCESS),
        }
    }
}
