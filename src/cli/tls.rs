//! The TLS options of commands that call a peer, and of those that play one.

use std::path::PathBuf;

use clap::Args;

use crate::tls::{ClientTls, ServerTls};

/// How a peer is called.
#[derive(Debug, Clone, Args)]
pub(super) struct TlsCalling {
    /// Speak TLS and trust the authorities in this PEM file
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// Name the peer's certificate must carry; left out, the host called
    #[arg(long, value_name = "NAME", requires = "tls_ca")]
    tls_name: Option<String>,
    /// Our certificate, for peers that ask for one
    #[arg(long, value_name = "FILE", requires_all = ["tls_ca", "tls_key"])]
    tls_cert: Option<PathBuf>,
    /// Its key
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
}

/// How callers are served.
#[derive(Debug, Clone, Args)]
pub(super) struct TlsServing {
    /// Speak TLS with this certificate
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its key
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Demand client certificates of these authorities
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_client_ca: Option<PathBuf>,
}

impl TlsCalling {
    /// The settings; `None` without TLS.
    pub(super) fn client(&self) -> Option<ClientTls> {
        let ca = Some(self.tls_ca.clone()?);
        let (server_name, cert, key) = (self.tls_name.clone(), self.tls_cert.clone(), self.tls_key.clone());
        Some(ClientTls { ca, server_name, cert, key, ..ClientTls::default() })
    }
}

impl TlsServing {
    /// The settings; `None` without TLS.
    pub(super) fn server(self) -> Option<ServerTls> {
        let (cert, key) = self.tls_cert.zip(self.tls_key)?;
        Some(ServerTls { cert, key, client_ca: self.tls_client_ca })
    }
}
