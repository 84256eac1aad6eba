//! Where a simulated instrument is plugged in.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use serialport::TTYPort;
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
    pty: Option<(TTYPort, LinkFile)>,
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
                let (near, far) = TTYPort::pair()?;
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
    pub async fn connect(&self) -> Box<dyn Stream> {
        loop {
            if let Ok(stream) = self.try_connect().await {
                return stream;
            }
            tokio::time::sleep(RETRY_PAUSE).await;
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
            (Line::Pty(_), _) if let Some((near, _)) = &self.pty => Ok(Box::new(opened(near).await?)),
            (Line::Listen(_) | Line::Pty(_), _) => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

/// Our end of a pseudo terminal, if somebody has opened the far one: until then, reading fails. It is registered anew each
/// time: what was hung up once counts as readable for good, and a read that finds nothing would be tried without end.
async fn opened(near: &TTYPort) -> io::Result<SerialStream> {
    let mut stream = SerialStream::try_from(near.try_clone_native()?)?;
    let mut left_over = [0; 256];
    match tokio::time::timeout(OPEN_PROBE, stream.read(&mut left_over)).await {
        Ok(Ok(0)) => Err(io::ErrorKind::NotConnected.into()),
        Ok(Err(error)) => Err(error),
        Ok(Ok(_)) | Err(_) => Ok(stream),
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::Pin;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Poll, Wake};
    use tokio::io::ReadBuf;

    /// How often somebody was told to try again.
    #[derive(Default)]
    struct Told(AtomicUsize);

    impl Wake for Told {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn a_pseudo_terminal_whose_far_end_comes_and_goes_is_waited_for_and_not_asked_on_and_on() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("tty");
        let plug = Plug::new(Line::Pty(link.clone())).await.unwrap();
        for _ in 0..3 {
            let early = tokio::time::timeout(RETRY_PAUSE * 2, plug.connect()).await;
            assert!(early.is_err(), "nobody has opened the far end");
            let far = tokio_serial::new(link.to_string_lossy(), 9600).open_native().unwrap();
            let mut near = plug.connect().await;
            let (told, mut buffer) = (Arc::new(Told::default()), [0; 8]);
            let read = Pin::new(&mut near)
                .poll_read(&mut Context::from_waker(&Arc::clone(&told).into()), &mut ReadBuf::new(&mut buffer));
            assert!(matches!(read, Poll::Pending), "{read:?}");
            tokio::time::sleep(OPEN_PROBE).await;
            assert_eq!(told.0.load(Ordering::Relaxed), 0, "nothing came");
            drop(far);
            assert!(near.read(&mut buffer).await.is_err(), "it is hung up");
        }
    }
}
