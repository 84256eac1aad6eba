//! The threads of the board, and what they are told and tell: one turns what is shown and pressed, and waits for no bus;
//! the other guards what must not wait for that either.

mod guard;

use super::{Config, Sources};
use crate::journal::{Condition, Journal};
use crate::service::Lease;
use crate::watch::{Alert, Trouble};
use afferent_board::button;
use afferent_board::folder::Folder;
use afferent_board::guard::Guard;
use afferent_board::led::{BoxState, Heard};
use afferent_board::linux::Linux;
use afferent_board::panel::Event;
use afferent_board::parts::{Board, Hardware, Parts, Turn};
use afferent_board::seen::{self, Seen, Stick};
use guard::{Guarded, Power, Watchman};
use std::io::Write;
use std::net::UdpSocket;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};

/// The gateway is looked at this often.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// The box's address is asked for this often.
const ADDRESS_EVERY: Duration = Duration::from_secs(10);
/// What was asked at the box and nobody has heard yet; more is dropped, for whoever asks sees that nothing comes of it.
const ASKED_ROOM: usize = 4;
/// What the thread was told and has not heard yet.
const TOLD_ROOM: usize = 16;
/// The thread has this long to darken everything.
const END_WITHIN: Duration = Duration::from_secs(2);
/// The display has this long of it.
const DARK_WITHIN: Duration = Duration::from_secs(1);
/// With a folder in place of hardware, what is shown is noted there; the file is begun anew when it is longer than this.
const NOTED_MAX_BYTES: u64 = 64 * 1024;
const NOTED: &str = "shown";

enum Told {
    /// The gateway is there, and can be looked at.
    Runs(Box<Sources>),
    /// It is in this state, whatever is to be seen of it.
    Is(BoxState),
    /// What is guarded is like this.
    Guarded(Guarded),
}

/// The board, for the gateway. Without `[board]` there is none, and nothing is ever asked.
#[derive(Default)]
pub struct Front {
    running: Option<Running>,
}

struct Running {
    tell: SyncSender<Told>,
    /// The way to the guard.
    guard: SyncSender<Journal>,
    lease: Lease,
    supply: watch::Receiver<Power>,
    resets: mpsc::Receiver<()>,
    thread: std::thread::JoinHandle<()>,
}

impl Front {
    /// Finds the board's parts and shows that the box starts. What is in the way is logged: results go on without.
    pub fn start(config: Option<&Config>, name: &str) -> Front {
        let Some(config) = config else { return Front::default() };
        let (tell, told) = sync_channel(TOLD_ROOM);
        let (ask, resets) = mpsc::channel(ASKED_ROOM);
        let (guard, journal) = sync_channel(1);
        let (power, supply) = watch::channel(Power::Good);
        let (lease, began) = (Lease::default(), Instant::now());
        let watchman = Watchman { journal, lease: lease.clone(), supply: power, tell: tell.clone(), began };
        let mut stage = Stage { config: config.clone(), name: name.to_string(), told, ask, began };
        let thread = std::thread::Builder::new().name("board".to_string()).spawn(move || stage.run(watchman));
        match thread {
            Ok(thread) => Front { running: Some(Running { tell, guard, lease, supply, resets, thread }) },
            Err(error) => {
                tracing::error!(event = "board-trouble", "the board cannot be shown anything: {error}");
                Front::default()
            }
        }
    }

    /// The journal is open, and nothing can be acknowledged yet: whenever the supply goes, it hears of that first.
    pub fn guards(&self, journal: &Journal) {
        let Some(running) = &self.running else { return };
        if *running.supply.borrow() != Power::Good {
            drop(journal.end_custody());
        }
        // A board that is not there guards nothing.
        let _ = running.guard.try_send(journal.clone());
    }

    /// As long as this holds a hardware watchdog is fed; none without a board.
    pub fn lease(&self) -> Option<Lease> {
        self.running.as_ref().map(|running| running.lease.clone())
    }

    /// The gateway runs.
    pub fn runs(&self, sources: impl FnOnce() -> Sources) {
        if self.running.is_some() {
            self.tell(Told::Runs(Box::new(sources())));
        }
    }

    /// It stops in order.
    pub fn stopping(&self) {
        self.tell(Told::Is(BoxState::Stopping));
    }

    /// It has stopped.
    pub fn stopped(&self) {
        self.tell(Told::Is(BoxState::Off));
    }

    /// Waits until the supply was lost, even if it is back by now; for ever without a board.
    pub fn supply_lost(&self) -> impl Future<Output = ()> + use<> {
        self.supply(|power| power != Power::Good)
    }

    /// Waits until a supply that was lost is back; for ever without a board.
    pub fn supply_back(&self) -> impl Future<Output = ()> + use<> {
        self.supply(|power| power == Power::Back)
    }

    fn supply(&self, is_so: fn(Power) -> bool) -> impl Future<Output = ()> + use<> {
        let supply = self.running.as_ref().map(|running| running.supply.clone());
        async move {
            if let Some(mut supply) = supply
                && supply.wait_for(|power| is_so(*power)).await.is_ok()
            {
                return;
            }
            std::future::pending().await
        }
    }

    /// Waits until somebody in front of the box wants it to be as new; for ever without a board.
    pub async fn reset_asked(&mut self) {
        if let Some(running) = &mut self.running
            && running.resets.recv().await.is_some()
        {
            return;
        }
        std::future::pending().await
    }

    fn tell(&self, told: Told) {
        if let Some(running) = &self.running {
            // A thread that is held up hears nothing more.
            let _ = running.tell.try_send(told);
        }
    }

    /// Darkens everything. A thread that is held up is left behind: nobody waits for it.
    pub async fn end(self) {
        let Some(Running { tell, guard, thread, .. }) = self.running else { return };
        drop((tell, guard));
        let until = Instant::now() + END_WITHIN;
        while !thread.is_finished() && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// What the thread has.
struct Stage {
    config: Config,
    name: String,
    told: Receiver<Told>,
    ask: mpsc::Sender<()>,
    began: Instant,
}

impl Stage {
    fn run(&mut self, watchman: Watchman) {
        let mut scene = Scene { state: Some(BoxState::Starting), ..Scene::default() };
        let Some(mut board) = self.board(watchman, &mut scene) else {
            // Whoever waits for what is asked here waits for ever.
            while self.told.recv().is_ok() {}
            return;
        };
        let mut seen = scene.look(&self.config, &self.name, self.began);
        let mut looked = Instant::now();
        loop {
            let turn = board.turn(&seen, self.began.elapsed());
            self.tell(&turn);
            let now = self.began.elapsed();
            match self.told.recv_timeout(board.next(now).saturating_sub(now)) {
                Ok(Told::Runs(sources)) => (scene.sources, scene.state) = (Some(*sources), None),
                Ok(Told::Is(state)) => scene.state = Some(state),
                Ok(Told::Guarded(guarded)) => scene.guarded = guarded,
                Err(RecvTimeoutError::Timeout) if looked.elapsed() < LOOK_EVERY => continue,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            seen = scene.look(&self.config, &self.name, self.began);
            looked = Instant::now();
            if scene.is_asked_for() {
                board.identify(self.began.elapsed());
            }
        }
        scene.state = Some(BoxState::Off);
        seen = scene.look(&self.config, &self.name, self.began);
        self.tell(&board.turn(&seen, self.began.elapsed()));
        board.settle(DARK_WITHIN);
    }

    /// Finds the board, what is guarded before all that may keep one waiting.
    fn board(&self, watchman: Watchman, scene: &mut Scene) -> Option<Board> {
        let trouble = |why: &str| tracing::error!(event = "board-trouble", "[board]: {why}");
        let definition = match self.config.read() {
            Ok(definition) => definition,
            Err(faults) => {
                faults.iter().for_each(|fault| trouble(fault));
                return None;
            }
        };
        let mut hardware: Box<dyn Hardware> = match &self.config.folder {
            Some(folder) => match Folder::open(folder) {
                Ok(folder) => Box::new(folder),
                Err(error) => {
                    trouble(&format!("{}: {error}", folder.display()));
                    return None;
                }
            },
            None => match Linux::open(&definition) {
                Ok(linux) => Box::new(linux),
                Err(told) => {
                    trouble(&told.to_string());
                    return None;
                }
            },
        };
        tracing::info!("the board is {}", definition.title());
        let (guard, troubles) = Guard::find(&definition, hardware.as_mut());
        log_troubles(&troubles);
        scene.guarded = Guarded::of(&guard);
        if !guard.is_idle() {
            let thread = std::thread::Builder::new().name("guard".to_string());
            if let Err(error) = thread.spawn(move || watchman.run(guard)) {
                trouble(&format!("neither the supply is watched nor a watchdog fed: {error}"));
            }
        }
        let parts = Parts::find(&definition, &self.config.modes(), hardware.as_mut());
        Some(Board::new(&definition, parts))
    }

    fn tell(&self, turn: &Turn) {
        log_troubles(&turn.troubles);
        log_mended(turn.mended.iter());
        if let Some(folder) = self.config.folder.as_deref().filter(|_| !turn.changes.is_empty()) {
            note(&folder.join(NOTED), &turn.changes);
        }
        for event in &turn.events {
            tracing::warn!(event = "board-asked", "at the box: {}", words(*event));
            if *event == Event::Button(button::Event::FactoryReset) {
                let _ = self.ask.try_send(());
            }
        }
    }
}

fn log_troubles(troubles: &[seen::Trouble]) {
    for trouble in troubles {
        tracing::warn!(event = "board-trouble", "board: {trouble}");
    }
}

fn log_mended(parts: impl Iterator<Item = impl std::fmt::Display>) {
    for part in parts {
        tracing::info!(event = "board-mended", "board: {part}: it works again");
    }
}

fn words(event: Event) -> String {
    match event {
        Event::Button(button::Event::Identify) => "somebody asks which box this is".to_string(),
        Event::Button(button::Event::SetUp) => "somebody asks how it is set up".to_string(),
        Event::Button(button::Event::ResetArmed) => "the button was held for a factory reset".to_string(),
        Event::Button(button::Event::ResetCancelled) => "there is no factory reset after all".to_string(),
        Event::Button(button::Event::FactoryReset) => "somebody wants a factory reset".to_string(),
        Event::Button(button::Event::Stuck) => "the button is down for too long; does something lie on it?".to_string(),
        Event::TooWarm(now) => format!("it is too warm, {} degrees Celsius: give it air", now.degrees()),
        Event::CooledDown(now) => format!("it is not too warm any more, {} degrees Celsius", now.degrees()),
    }
}

fn note(file: &Path, lines: &[String]) {
    let is_long = std::fs::metadata(file).is_ok_and(|about| about.len() > NOTED_MAX_BYTES);
    let mut how = std::fs::OpenOptions::new();
    how.create(true).append(!is_long).write(true).truncate(is_long);
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    if let Err(error) = how.open(file).and_then(|mut open| open.write_all(text.as_bytes())) {
        tracing::debug!("what the board shows is not noted: {error}");
    }
}

/// What is to be seen of the gateway.
#[derive(Default)]
struct Scene {
    sources: Option<Sources>,
    /// The state that was told; none while it is to be seen.
    state: Option<BoxState>,
    guarded: Guarded,
    address: Option<String>,
    address_at: Option<Duration>,
    /// See [`crate::fleet::Status::identified`]: as it is, and as it was when the box showed that last.
    identified: (u64, u64),
}

impl Scene {
    fn look(&mut self, config: &Config, name: &str, began: Instant) -> Seen {
        let now = began.elapsed();
        if self.address_at.is_none_or(|at| now >= at + ADDRESS_EVERY) {
            (self.address, self.address_at) = (own_address(), Some(now));
        }
        let mut seen = Seen {
            // The current that is left is not for LEDs.
            box_state: if self.guarded.is_safe { BoxState::Off } else { self.state.unwrap_or(BoxState::Starting) },
            supply_is_lost: self.guarded.supply_is_lost,
            alerts: self.guarded.alerts.clone(),
            name: name.to_string(),
            address: self.address.clone(),
            page_url: config.page.clone(),
            ..Seen::default()
        };
        let Some(sources) = &self.sources else { return seen };
        let alerts = sources.alerts.list();
        if self.state.is_none() && !self.guarded.is_safe {
            seen.box_state = match sources.journal.condition() {
                Condition::Full | Condition::Failed => BoxState::Fault,
                Condition::FullOfImages { .. } => BoxState::Attention,
                Condition::Good | Condition::Tight => BoxState::Well,
            };
        }
        let is_silent = |link: &str| {
            let of = |alert: &Alert| alert.trouble == Trouble::Silence && alert.of == link;
            alerts.iter().any(|standing| of(&standing.alert))
        };
        let links = sources.links.borrow().clone();
        seen.analyzer = heard(links.iter().map(|link| {
            let counts = link.counts();
            (counts.up && !is_silent(link.name()), counts.heard_ms.is_some())
        }));
        let destinations = sources.destinations.borrow().clone();
        seen.hospital = heard(destinations.iter().map(|to| {
            let health = to.health();
            (health.up && !health.failing, health.answered_ms.is_some())
        }));
        seen.alerts.extend(alerts.iter().map(|standing| short(&standing.alert)));
        if let Some(status) = sources.fleet.as_ref().map(|fleet| fleet.status()) {
            seen.stick = status.config.carried().map(|became| match became {
                Ok(rev) => Stick::Runs(rev),
                Err(why) => Stick::NotTaken(why.to_string()),
            });
            seen.enrolment_code = status.code;
            self.identified.0 = status.identified;
        }
        seen
    }
}

impl Scene {
    /// True once after a desk wanted to know which box this is.
    fn is_asked_for(&mut self) -> bool {
        let (now, before) = self.identified;
        self.identified.1 = now;
        now != before
    }
}

/// What a layer is, of those in it: whether each is well, and whether it was heard since the start.
fn heard(all: impl Iterator<Item = (bool, bool)>) -> Heard {
    let all: Vec<(bool, bool)> = all.collect();
    if all.is_empty() {
        Heard::None
    } else if all.iter().any(|(is_well, _)| !is_well) {
        Heard::Lost
    } else if all.iter().any(|(_, was_heard)| *was_heard) {
        Heard::Heard
    } else {
        Heard::Waiting
    }
}

/// An alert as a display has room for it.
fn short(alert: &Alert) -> String {
    let word = alert.trouble.word();
    if alert.of.is_empty() { word.to_string() } else { format!("{word}: {}", alert.of) }
}

/// The address from which this machine would go out; none without a route. Nothing is sent: 192.0.2.0/24 and 2001:db8::/32
/// are nobody's (RFC 5737, RFC 3849).
fn own_address() -> Option<String> {
    let ways = [("0.0.0.0:0", "192.0.2.1:9"), ("[::]:0", "[2001:db8::1]:9")];
    ways.into_iter().find_map(|(from, to)| {
        let socket = UdpSocket::bind(from).ok()?;
        socket.connect(to).ok()?;
        Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_unspecified()).map(|ip| ip.to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_is_as_well_as_the_worst_in_it() {
        let of = |all: &[(bool, bool)]| heard(all.iter().copied());
        assert_eq!(of(&[]), Heard::None);
        assert_eq!(of(&[(true, false), (true, false)]), Heard::Waiting);
        assert_eq!(of(&[(true, true), (true, false)]), Heard::Heard);
        assert_eq!(of(&[(true, true), (false, true)]), Heard::Lost);
    }

    #[test]
    fn what_was_shown_is_noted_within_bounds() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(NOTED);
        for _ in 0..2000 {
            note(&file, &["box well".to_string(), "analyzer heard and a long way off, too".to_string()]);
        }
        let length = std::fs::metadata(&file).unwrap().len();
        assert!(length <= NOTED_MAX_BYTES + 100 && length > 0, "{length}");
    }
}
