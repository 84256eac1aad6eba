//! Where a simulated instrument is plugged in.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_serial::{SerialPort, SerialPortBuilderExt, SerialStream};

/// Pause between attempts to connect.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// A pseudo terminal that stays silent this long has somebody at its far end.
const OPEN_PROBE: Duration = Duration::from_millis(5);

/// One end of a line.
#[derive(Clone)]
pub enum Line {
    /// The gateway listens there.
    Connect(String),
    /// The same, over TLS.
    ConnectTls {
        /// Host and port.
        address: String,
        /// What to trust and what to show.
        tls: Arc<ClientConfig>,
        /// The name the gateway's certificate must carry.
        name: ServerName<'static>,
    },
    /// The gateway dials there.
    Listen(String),
    /// A serial device.
    Device {
        /// Its path.
        path: PathBuf,
        /// Its speed.
        baud: u32,
    },
    /// A new pseudo terminal; the gateway opens this path, which is made a link to it.
    Pty(PathBuf),
}

/// A byte stream in both directions.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A line that is plugged in, with what must stay open for it.
pub struct Plug {
    line: Line,
    listener: Option<TcpListener>,
    /// Our end of the pseudo terminal. The far end is left to the gateway: were it held open here, the exclusive mode
    /// that a killed gateway leaves on it would lock out the next one.
    pty: Option<(SerialStream, LinkFile)>,
}

impl Plug {
    /// Opens what waits for the gateway: the listener or the pseudo terminal.
    ///
    /// # Errors
    /// The address is taken, or the terminal or its link cannot be made.
    pub async fn new(line: Line) -> io::Result<Self> {
        let mut plug = Plug { line, listener: None, pty: None };
        match &plug.line {
            Line::Listen(address) => plug.listener = Some(TcpListener::bind(address).await?),
            Line::Pty(link) => {
                let (near, far) = SerialStream::pair()?;
                let name = far.name().ok_or_else(|| io::Error::other("the pseudo terminal has no name"))?;
                plug.pty = Some((near, LinkFile::new(link, Path::new(&name))?));
            }
            _ => {}
        }
        Ok(plug)
    }

    /// The address a [`Line::Listen`] got, for port 0.
    pub fn local_address(&self) -> Option<std::net::SocketAddr> {
        self.listener.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// True when the line can be cut; a serial line only goes quiet.
    pub fn can_be_cut(&self) -> bool {
        !matches!(self.line, Line::Device { .. } | Line::Pty(_))
    }

    /// A fresh connection, as soon as there is one. Never gives up: the caller has the clock.
    pub async fn connect(&mut self) -> Box<dyn Stream + '_> {
        while self.pty.is_none() {
            if let Ok(stream) = self.try_connect().await {
                return stream;
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
        match &mut self.pty {
            Some((near, _)) => {
                until_opened(near).await;
                Box::new(near)
            }
            None => std::future::pending().await,
        }
    }

    async fn try_connect(&self) -> io::Result<Box<dyn Stream>> {
        match (&self.line, &self.listener) {
            (Line::Connect(address), _) => Ok(Box::new(dial(address).await?)),
            (Line::ConnectTls { address, tls, name }, _) => {
                let stream = dial(address).await?;
                let connector = tokio_rustls::TlsConnector::from(Arc::clone(tls));
                Ok(Box::new(connector.connect(name.clone(), stream).await?))
            }
            (Line::Listen(_), Some(listener)) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Box::new(stream))
            }
            (Line::Device { path, baud }, _) => {
                Ok(Box::new(tokio_serial::new(path.to_string_lossy(), *baud).open_native_async()?))
            }
            (Line::Listen(_) | Line::Pty(_), _) => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

/// Waits until somebody has opened the far end of a pseudo terminal: until then, reading fails.
async fn until_opened(near: &mut SerialStream) {
    let mut left_over = [0; 256];
    while let Ok(Err(_) | Ok(0)) = tokio::time::timeout(OPEN_PROBE, near.read(&mut left_over)).await {
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

async fn dial(address: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A symbolic link that goes when its owner goes.
struct LinkFile(PathBuf);

impl LinkFile {
    /// Makes the link, in place of a link that an earlier run left. Any other file is left alone.
    fn new(path: &Path, target: &Path) -> io::Result<Self> {
        if path.symlink_metadata().is_ok_and(|meta| meta.is_symlink()) {
            std::fs::remove_file(path)?;
        }
        std::os::unix::fs::symlink(target, path)?;
        Ok(LinkFile(path.to_owned()))
    }
}

impl Drop for LinkFile {
    fn drop(&mut self) {
        // When it is gone already, so much the better.
        let _ = std::fs::remove_file(&self.0);
    }
}
