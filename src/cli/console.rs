//! `afferent console`.

mod user;

use crate::access::AccountsFile;
use crate::console::{self, ConsoleSite};
use crate::disk;
use crate::fleet::desired::tree;
use crate::page::{self, Limits, Server};
use crate::setup::network;
use crate::tls::ServerTls;
use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use rustls_pki_types::ServerName;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tokio::net::TcpListener;

/// Where it listens unless told otherwise.
const LISTEN_DEFAULT: &str = "127.0.0.1:9440";
/// A box has little memory, and few look at it.
const LIMITS: Limits = Limits { connections: 64, machine: 16, loopback: 48 };

/// Serve a page on this box: how each link and destination is, live, and what is unusual now.
///
/// Whoever has an account gets in, with a password and a second factor: `afferent console user add` makes one. On
/// loopback, over TLS with a certificate that the box makes for itself: from elsewhere through
/// `ssh -L 9440:localhost:9440`. With `--listen` on another address it is open to that network; name the site's
/// certificate then, or the box makes one for its name and that address, which browsers warn of. It runs beside the
/// gateway, and results do not depend on it. Nothing of a patient is on the page. Browsers need to be of these versions or
/// later: Chrome and Edge 86, Firefox 105, Safari 16.4.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "\
Examples:
  sudo afferent console user add anna.maier --role admin
  afferent console
  afferent console --config afferent.toml --listen 127.0.0.1:9441 --seconds 3600
  afferent console --listen 192.0.2.7:9440 --cert console.pem --key console.key")]
pub struct Console {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    serve: Serve,
}

#[derive(Debug, Subcommand)]
enum Verb {
    User(user::User),
}

/// How it is served.
#[derive(Debug, Args)]
struct Serve {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = super::CONFIG_DEFAULT)]
    config: PathBuf,
    /// Where it listens
    #[arg(long, value_name = "HOST:PORT", default_value = LISTEN_DEFAULT)]
    listen: String,
    /// The certificate and its chain, as PEM; left out, the box makes one
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// The key of the certificate, as PEM
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// Stop after so many seconds
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
}

impl Console {
    /// Whether it may stay beside others.
    pub(super) fn goes_on(&self) -> bool {
        self.verb.is_none()
    }

    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        match self.verb {
            Some(Verb::User(user)) => user.execute(),
            None => self.serve.execute(),
        }
    }
}

impl Serve {
    fn execute(self) -> anyhow::Result<ExitCode> {
        let gateway = tree::load(&self.config)?.config.gateway;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let served = runtime.block_on(self.serve(gateway.name(), &gateway.data));
        // A gateway that does not answer keeps nobody from leaving.
        runtime.shutdown_background();
        served
    }

    async fn serve(self, place: String, data: &Path) -> anyhow::Result<ExitCode> {
        // The port first: of two consoles the second makes no certificate.
        let listener = TcpListener::bind(&self.listen).await;
        let listener = listener.with_context(|| format!("cannot listen on {}", self.listen))?;
        let address = listener.local_addr()?;
        let (tls, own) = self.tls(address, data)?;
        let console = console::Console::new(self.config);
        let site = ConsoleSite::new(console.clone(), place, data, own.is_none())
            .with_context(|| format!("no cookie in {}", data.display()))?;
        let server = Server::new(site, &tls, LIMITS)?;
        // For whoever is invited; without it they are told the default. One that is served for a while is not there
        // then.
        if self.seconds.is_none()
            && let Err(error) = console::note_address(data, &found_at(address))
        {
            tracing::warn!("where the console is served cannot be noted in {}: {error}", data.display());
        }
        println!("https://{address}/");
        if AccountsFile::of(data).now().is_ok_and(|accounts| accounts.is_empty()) {
            tracing::warn!(
                "nobody has an account yet: `sudo afferent console user add NAME --role admin` makes the first"
            );
        }
        tokio::spawn(server.serve(listener));
        tokio::select! {
            () = console.watch(own.as_deref()) => {
                bail!("the box was reset, or another release is to run: start the console anew")
            }
            () = crate::cli::sim::over(self.seconds) => Ok(ExitCode::SUCCESS),
        }
    }

    /// The certificate; and where it is, when the box made it for itself.
    fn tls(&self, address: SocketAddr, data: &Path) -> anyhow::Result<(ServerTls, Option<PathBuf>)> {
        if let Some((cert, key)) = self.cert.clone().zip(self.key.clone()) {
            return Ok((ServerTls { cert, key, client_ca: None }, None));
        }
        let (names, others) = if address.ip().is_loopback() { Default::default() } else { names(address) };
        let own = disk::as_owner_of(data, || page::own_certificate(data, &names, &others))
            .flatten()
            .with_context(|| format!("no certificate in {}", data.display()))?;
        let file = own.cert.clone();
        Ok((own, Some(file)))
    }
}

/// What a browser may call a box that listens here; and, where it listens everywhere, the addresses that it has now.
fn names(address: SocketAddr) -> (Vec<String>, Vec<String>) {
    if !address.ip().is_unspecified() {
        return (host().into_iter().chain([address.ip().to_string()]).collect(), Vec::new());
    }
    let interfaces = network::Network::look().interfaces;
    let addresses = interfaces.iter().flat_map(|interface| &interface.addresses);
    (host().into_iter().collect(), addresses.map(|own| own.address.to_string()).collect())
}

/// Where a browser finds what listens here: by the name of the box, but on loopback.
fn found_at(address: SocketAddr) -> String {
    let host = host().filter(|_| !address.ip().is_loopback());
    host.map_or(address.to_string(), |host| format!("{host}:{}", address.port()))
}

/// The name of the machine; none where it is called what no certificate can say.
fn host() -> Option<String> {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_string();
    Some(host).filter(|host| ServerName::try_from(host.as_str()).is_ok())
}
