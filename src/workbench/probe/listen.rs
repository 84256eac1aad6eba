//! Opens what is probed and runs the probe on it.

use super::findings::{Findings, Place};
use super::reading::Character;
use super::{Action, Manner, Probe};
use crate::control;
use crate::driver::Registry;
use crate::link::marks::{Heard, Marks};
use crate::link::serial::port::{LineErrors, ModemLines};
use crate::link::{self, serial};
use crate::sim::transcript::{Step, parse};
use crate::workbench::tap::Side;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_serial::SerialPort;

/// Bytes taken at once.
const READ_BYTES: usize = 4096;
/// The port's counters are looked at so often.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A dialled instrument has so long to answer.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);

/// What is listened to.
pub enum Target {
    /// A serial port: its device, and the name a link should have for it.
    Serial {
        /// What is opened.
        path: PathBuf,
        /// What is shown.
        shown: PathBuf,
    },
    /// An address of this box.
    Listen(String),
    /// The instrument's address.
    Dial(String),
    /// A link of the running gateway.
    Running {
        /// Its data directory.
        data: PathBuf,
        /// The link, with its driver's settings.
        link: Box<link::Config>,
        /// What the gateway knows of its port.
        port: (Option<LineErrors>, Option<ModemLines>),
    },
}

/// How it is listened.
#[derive(Clone)]
pub struct Listening {
    /// What may be said.
    pub manner: Manner,
    /// Speed of a serial port at first.
    pub baud: u32,
    /// It is not tried out.
    pub fixed: bool,
    /// When it ends at the latest.
    pub until: Instant,
    /// Who is told what goes on.
    pub show: Show,
}

/// Takes a line that says what goes on now, in the place of the one before.
pub type Show = Arc<dyn Fn(String) + Send + Sync>;

/// Why one place cannot be listened to, in words.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unheard(String);

impl From<std::io::Error> for Unheard {
    fn from(error: std::io::Error) -> Unheard {
        Unheard(error.to_string())
    }
}

impl From<tokio_serial::Error> for Unheard {
    fn from(error: tokio_serial::Error) -> Unheard {
        Unheard(error.to_string())
    }
}

/// What was found in each place, in their order, and where it could not be listened.
pub type Everywhere = Vec<(Place, Result<Findings, Unheard>)>;

impl Target {
    fn place(&self) -> Place {
        match self {
            Target::Serial { shown, .. } => Place::Serial(shown.display().to_string()),
            Target::Listen(address) => Place::Listen(address.clone()),
            Target::Dial(address) => Place::Dial(address.clone()),
            Target::Running { link, .. } => Place::Link(link.name.clone()),
        }
    }
}

impl Listening {
    /// Listens to all of them until one is recognised or the time is over, and tells what was found in each.
    ///
    /// # Errors
    /// The system gives no means to listen.
    pub fn run(&self, targets: Vec<Target>, registry: &Registry) -> std::io::Result<Everywhere> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = watch::channel(false);
        let mut found = runtime.block_on(async {
            let mut tasks = JoinSet::new();
            for (at, target) in targets.into_iter().enumerate() {
                let (own, stopped) = (self.clone(), stopped.clone());
                tasks.spawn(async move {
                    let place = target.place();
                    (at, place, own.listen(target, stopped).await)
                });
            }
            let mut found = Vec::new();
            while let Some(ended) = tasks.join_next().await {
                let (at, place, probe) = ended?;
                if probe.as_ref().is_ok_and(Probe::is_decided) {
                    stop.send_replace(true);
                }
                found.push((at, place, probe));
            }
            std::io::Result::Ok(found)
        })?;
        // A tap that nobody talks to waits in its thread for ever.
        runtime.shutdown_background();
        found.sort_by_key(|(at, ..)| *at);
        let told = found.into_iter().map(|(_, place, probe)| {
            let findings = probe.map(|probe| probe.findings(place.clone(), registry));
            (place, findings)
        });
        Ok(told.collect())
    }

    async fn listen(&self, target: Target, mut stopped: watch::Receiver<bool>) -> Result<Probe, Unheard> {
        let now = Instant::now();
        match target {
            Target::Serial { path, .. } => {
                let mut probe = Probe::serial(now, self.baud, self.fixed, self.manner);
                self.serial(&path, &mut probe, &mut stopped).await?;
                Ok(probe)
            }
            Target::Listen(address) => {
                let mut probe = Probe::network(now, self.manner);
                let listener = TcpListener::bind(&address).await.map_err(|error| {
                    Unheard(format!("cannot listen on {address}: {error}; if the gateway does, name its link"))
                })?;
                while !self.is_over(&probe, &stopped) {
                    self.show(&format!("waiting for a call on {address}"));
                    let accepted = tokio::time::timeout_at(self.until.into(), listener.accept()).await;
                    let Ok(Ok((mut stream, _))) = accepted else { break };
                    self.network(&mut stream, &mut probe, &mut stopped).await;
                }
                Ok(probe)
            }
            Target::Dial(address) => {
                let mut probe = Probe::network(now, self.manner);
                let dialled = tokio::time::timeout(DIAL_TIMEOUT, TcpStream::connect(&address)).await;
                let mut stream = dialled
                    .map_err(|_| format!("no answer within {} s", DIAL_TIMEOUT.as_secs()))
                    .and_then(|connected| connected.map_err(|error| error.to_string()))
                    .map_err(|why| Unheard(format!("{address} cannot be reached: {why}")))?;
                self.network(&mut stream, &mut probe, &mut stopped).await;
                Ok(probe)
            }
            Target::Running { data, link, port } => self.overhear(data, *link, port).await,
        }
    }

    async fn serial(&self, path: &Path, probe: &mut Probe, stopped: &mut watch::Receiver<bool>) -> Result<(), Unheard> {
        let settings = link::Config { baud: Some(self.baud), ..link::Config::default() };
        let mut port = serial::open(&settings, path).map_err(|error| {
            Unheard(format!("cannot open {}: {error}; has another program got it?", path.display()))
        })?;
        // Without marks a character without its stop bit is just not there.
        let mut marks = serial::mark_damage(&port).is_ok().then(Marks::default);
        let before = LineErrors::read(&port);
        let mut baud = self.baud;
        let mut buffer = [0; READ_BYTES];
        while !self.is_over(probe, stopped) {
            let counted = LineErrors::read(&port).zip(before).map(|(now, before)| now.since(before));
            probe.see_port(counted, ModemLines::read(&port));
            while let Some(action) = probe.poll_action() {
                match action {
                    Action::Send(bytes) => port.write_all(&bytes).await?,
                    Action::Speed(speed) => {
                        baud = speed;
                        port.set_baud_rate(speed)?;
                        // What the driver still holds was heard at the old speed.
                        port.clear(tokio_serial::ClearBuffer::Input)?;
                        marks = serial::mark_damage(&port).is_ok().then(Marks::default);
                    }
                }
            }
            self.show(&format!("listening on {} at {baud} baud", path.display()));
            let read = tokio::select! {
                read = port.read(&mut buffer) => match read? {
                    0 => return Err(Unheard(format!("{} went away", path.display()))),
                    read => read,
                },
                () = tokio::time::sleep_until(self.wake(probe).into()) => 0,
                _ = stopped.changed() => 0,
            };
            let now = Instant::now();
            let heard = buffer.get(..read).unwrap_or_default();
            match &mut marks {
                Some(marks) => {
                    let mut characters = Vec::new();
                    marks.decode(heard, |heard| match heard {
                        Heard::Good(bytes) => {
                            characters.extend(bytes.iter().map(|&byte| Character { byte, damaged: false }));
                        }
                        Heard::Damaged(_, byte) => characters.push(Character { byte, damaged: true }),
                    });
                    probe.hear(now, &characters);
                }
                None => probe.hear_bytes(now, heard),
            }
        }
        // Whoever said the last frame is not left without an answer.
        say(&mut port, probe).await?;
        Ok(port.flush().await?)
    }

    /// Until the instrument hangs up, or the probe is over.
    async fn network(
        &self,
        stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
        probe: &mut Probe,
        stopped: &mut watch::Receiver<bool>,
    ) {
        let mut buffer = [0; READ_BYTES];
        self.show("connected");
        while !self.is_over(probe, stopped) {
            if say(stream, probe).await.is_err() {
                return;
            }
            let read = tokio::select! {
                read = stream.read(&mut buffer) => read,
                () = tokio::time::sleep_until(self.wake(probe).into()) => {
                    probe.handle_timeout(Instant::now());
                    continue;
                }
                _ = stopped.changed() => return,
            };
            match read {
                Ok(1..) => probe.hear_bytes(Instant::now(), buffer.get(..read.unwrap_or(0)).unwrap_or_default()),
                _ => return probe.end_breath(Instant::now()),
            }
        }
        // Whoever said the last frame is not left without an answer; one who has hung up wants none.
        let _ = say(stream, probe).await;
    }

    /// Through the gateway, which answers and keeps what comes.
    async fn overhear(
        &self,
        data: PathBuf,
        link: link::Config,
        port: (Option<LineErrors>, Option<ModemLines>),
    ) -> Result<Probe, Unheard> {
        let now = Instant::now();
        let mut probe = match &link.serial {
            Some(_) => Probe::serial(now, link.baud.unwrap_or(self.baud), true, Manner::Overhear),
            None => Probe::network(now, Manner::Overhear),
        };
        probe.see_port(port.0, port.1);
        let (to, passed) = mpsc::channel();
        let name = link.name.clone();
        std::thread::spawn(move || {
            let ended = control::tap(&data, Some(&name), true, |tapped| to.send(Ok(tapped)).is_ok());
            let why = match ended {
                Ok(why) => why.unwrap_or_else(|| "the gateway ended".to_string()),
                Err(error) => error.to_string(),
            };
            let _ = to.send(Err(why));
        });
        self.show(&format!("listening to link {}, which the gateway has", link.name));
        while !(probe.is_decided() || Instant::now() >= self.until) {
            match passed.recv_timeout(LOOK_EVERY) {
                Ok(Ok(tapped)) if tapped.side == Side::Instrument => {
                    let steps = parse(&format!("> {}", tapped.shown.text)).unwrap_or_default();
                    for step in steps {
                        if let Step::Instrument(bytes) = step {
                            probe.hear_bytes(Instant::now(), &bytes);
                        }
                    }
                }
                Ok(Ok(_)) => {}
                Ok(Err(why)) => return Err(Unheard(why)),
                Err(_) => probe.handle_timeout(Instant::now()),
            }
        }
        Ok(probe)
    }

    fn is_over(&self, probe: &Probe, stopped: &watch::Receiver<bool>) -> bool {
        probe.is_decided() || *stopped.borrow() || Instant::now() >= self.until
    }

    fn wake(&self, probe: &Probe) -> Instant {
        let look = (Instant::now() + LOOK_EVERY).min(self.until);
        probe.poll_timeout().map_or(look, |at| at.min(look))
    }

    fn show(&self, what: &str) {
        let left = self.until.saturating_duration_since(Instant::now()).as_secs();
        (self.show)(format!("{what}; {left} s left; Ctrl-C ends"));
    }
}

/// Says what the probe has to say, on a line that has one speed.
async fn say(line: &mut (impl AsyncWrite + Unpin), probe: &mut Probe) -> std::io::Result<()> {
    while let Some(action) = probe.poll_action() {
        if let Action::Send(bytes) = action {
            line.write_all(&bytes).await?;
        }
    }
    Ok(())
}
