//! What the service manager is told (`sd_notify(3)`), where there is one: READY once the journal is open and every
//! listener is bound, WATCHDOG as long as everything that results need goes round, STOPPING. `systemd/` has the units.

use sd_notify::NotifyState;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::FromRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A loop that has not gone round for this long is stuck; each looks for work more often by itself, and a slow disk
/// takes less.
pub const FRESH: Duration = Duration::from_secs(120);
/// The same of the interpreter: what a person releases may be a study of many large documents. Ended too early it would
/// begin with that again.
pub const INTERPRETED: Duration = Duration::from_secs(600);
/// The same of a start, between two signs of progress: it takes as long as the journal is large, but the log of the last
/// run is read, or a file removed, in less.
pub const STARTED: Duration = Duration::from_secs(600);
/// A loop that has nothing to do goes round this often all the same.
pub const BEAT_EVERY: Duration = Duration::from_secs(10);
/// The service manager waits this many times as long as there is between two words to it.
const WORDS: u32 = 4;

/// A service manager that wants no word while the service runs is told this often all the same that a start goes on.
const EXTENDED_EVERY: Duration = Duration::from_secs(20);
/// It waits this long from then on, as `TimeoutStartSec=` of the unit has it.
const EXTENDED_FOR: Duration = Duration::from_secs(90);
/// A lease is renewed this often, by a thread that does nothing else, and holds until two renewals were missed.
const LEASED_EVERY: Duration = Duration::from_secs(5);
const LEASED_FOR: Duration = Duration::from_secs(15);
/// A stop in order takes no longer, as `TimeoutStopSec=` of the unit has it.
const STOPPED_WITHIN: Duration = Duration::from_secs(15 * 60);

/// Moments are kept as milliseconds since this.
static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// When a loop went round last.
#[derive(Debug, Clone)]
pub struct Pulse(Arc<AtomicU64>);

impl Default for Pulse {
    fn default() -> Pulse {
        let pulse = Pulse(Arc::default());
        pulse.beat();
        pulse
    }
}

impl Pulse {
    /// The loop goes round.
    pub fn beat(&self) {
        self.0.store(ms(BEGAN.elapsed()), Ordering::Relaxed);
    }

    /// True when it has not for longer than `fresh`.
    pub fn is_stuck(&self, fresh: Duration) -> bool {
        self.is_stuck_at(fresh, BEGAN.elapsed())
    }

    /// The moment of the last beat.
    #[cfg(test)]
    pub(crate) fn beaten_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn is_stuck_at(&self, fresh: Duration, now: Duration) -> bool {
        ms(now).saturating_sub(self.0.load(Ordering::Relaxed)) > ms(patience(fresh))
    }
}

/// How long a loop may take to go round: in tests no longer than `AFFERENT_PATIENCE_S`, for they have no minutes.
#[cfg(debug_assertions)]
fn patience(fresh: Duration) -> Duration {
    static MOST: LazyLock<Option<Duration>> =
        LazyLock::new(|| Some(Duration::from_secs(std::env::var("AFFERENT_PATIENCE_S").ok()?.parse().ok()?)));
    MOST.map_or(fresh, |most| most.min(fresh))
}

#[cfg(not(debug_assertions))]
fn patience(fresh: Duration) -> Duration {
    fresh
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Sockets that the service manager listens on for us (`sd_listen_fds(3)`), from descriptor 3 on. They are kept as long as
/// the process lives: a link that is stopped and started takes its own again.
static SOCKETS: LazyLock<Vec<Handed>> = LazyLock::new(|| {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
    // Behind the launcher it is that one's process which the manager named.
    let is_ours = number("LISTEN_PID").is_some_and(|pid| pid == std::process::id() || pid == parent());
    let count = number("LISTEN_FDS").filter(|_| is_ours).unwrap_or(0).min(SOCKETS_MAX);
    (3..3 + count as i32).filter_map(socket).collect()
});
/// Nobody has so many links.
const SOCKETS_MAX: u32 = 256;

fn parent() -> u32 {
    // SAFETY: it takes and changes nothing.
    unsafe { libc::getppid() }.unsigned_abs()
}

/// A socket of the service manager's.
struct Handed {
    socket: TcpListener,
    at: Place,
    /// A listener of ours has taken it, at least once.
    is_taken: AtomicBool,
}

/// Where a socket listens.
#[derive(Debug, Clone, Copy)]
struct Place {
    address: SocketAddr,
    /// It hears callers of IPv6 alone (`BindIPv6Only=`).
    only_v6: bool,
}

impl Place {
    /// The place of those that a listener at this address takes: the very same, else one that hears every address of both
    /// families, as `ListenStream=104` does.
    fn choose(places: impl Iterator<Item = Place> + Clone, wanted: SocketAddr) -> Option<usize> {
        let is_both = |at: &Place| at.address.is_ipv6() && at.address.ip().is_unspecified() && !at.only_v6;
        let stands_for = |at: Place| is_both(&at) && wanted.ip().is_unspecified() && at.address.port() == wanted.port();
        places.clone().position(|at| at.address == wanted).or_else(|| places.clone().position(stands_for))
    }

    /// True when nobody else can listen at this address: one of the two has the other among all that it hears.
    fn keeps_from(&self, wanted: SocketAddr) -> bool {
        let has = |all: SocketAddr, only_v6: bool, one: SocketAddr| {
            all.ip().is_unspecified() && (all.is_ipv4() == one.is_ipv4() || (all.is_ipv6() && !only_v6))
        };
        let (held, is_same) = (self.address, self.address.ip() == wanted.ip());
        held.port() == wanted.port() && (is_same || has(held, self.only_v6, wanted) || has(wanted, false, held))
    }
}

fn socket(descriptor: i32) -> Option<Handed> {
    // SAFETY: asks about, and marks, a descriptor that may not even be open; then it is passed over.
    let is_open = unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) } == 0;
    // SAFETY: the service manager opened it for this process alone, and this is the only place that takes it.
    let listener = is_open.then(|| unsafe { TcpListener::from_raw_fd(descriptor) })?;
    let is_listener = socket2::SockRef::from(&listener).is_listener();
    match (listener.local_addr(), is_listener) {
        (Ok(address), Ok(true)) => {
            let only_v6 = address.is_ipv6() && socket2::SockRef::from(&listener).only_v6().unwrap_or_default();
            Some(Handed { socket: listener, at: Place { address, only_v6 }, is_taken: AtomicBool::new(false) })
        }
        _ => {
            tracing::warn!(
                "descriptor {descriptor} of the service manager is no TCP socket that listens, and is not used"
            );
            None
        }
    }
}

/// Takes what the service manager holds for us, before any other program is started, which would have it too.
pub fn take_sockets() {
    LazyLock::force(&SOCKETS);
}

/// The socket that the service manager listens on at this address, if it does. Callers that come while nobody accepts wait
/// there.
///
/// # Errors
/// The system has no descriptor left.
pub fn listener(address: SocketAddr) -> std::io::Result<Option<TcpListener>> {
    let places = SOCKETS.iter().map(|handed| handed.at);
    let Some(handed) = Place::choose(places, address).map(|at| &SOCKETS[at]) else { return Ok(None) };
    let socket = handed.socket.try_clone()?;
    socket.set_nonblocking(true)?;
    handed.is_taken.store(true, Ordering::Relaxed);
    Ok(Some(socket))
}

/// Why an address that is in use cannot be listened on, where that is because the service manager has its port at another.
pub fn held_elsewhere(address: SocketAddr) -> Option<String> {
    let held = SOCKETS.iter().map(|handed| handed.at).find(|held| held.keeps_from(address))?.address;
    Some(format!(
        "the service manager listens on {held} (afferent.socket), which is not {address}; \
         give `ListenStream=` the address that `listen` has"
    ))
}

/// Where the service manager listens and no listener of ours does: whoever calls there waits for ever.
pub fn unused() -> Vec<SocketAddr> {
    let unused = SOCKETS.iter().filter(|handed| !handed.is_taken.load(Ordering::Relaxed));
    unused.map(|handed| handed.at.address).collect()
}

/// Until when a word that everything goes on is good: as long as it holds, a hardware watchdog is fed. It begins with the
/// start, and is renewed by whoever judges how things go ([`Manager`]).
#[derive(Debug, Clone)]
pub struct Lease(Arc<AtomicU64>);

impl Default for Lease {
    fn default() -> Lease {
        let lease = Lease(Arc::default());
        lease.renew(LEASED_FOR);
        lease
    }
}

impl Lease {
    /// It is good for so long from now on.
    pub fn renew(&self, time: Duration) {
        self.0.store(ms(BEGAN.elapsed() + time), Ordering::Relaxed);
    }

    /// True until then.
    pub fn holds(&self) -> bool {
        ms(BEGAN.elapsed()) < self.0.load(Ordering::Relaxed)
    }
}

/// Whoever starts this process, or the box, anew when results cannot come any more: the service manager, if one started
/// it, and a hardware watchdog, if there is one. Both hear the same, from a thread of its own: the gateway's task may wait
/// for a slow disk for as long as any other loop ([`FRESH`]).
///
/// A start may take as long as it makes progress ([`STARTED`]), however long all of it takes: ended in the middle, a large
/// journal would be recovered from the beginning, again and again. So the service manager is asked for more time
/// (`EXTEND_TIMEOUT_USEC=`) meanwhile, and a hardware watchdog is fed.
#[derive(Debug)]
pub struct Manager {
    course: Course,
    /// How often the thread tells that everything goes on, and wants to be told; none where nobody waits for it.
    every: Option<Duration>,
    /// When the thread wants to be told next.
    next: Instant,
    /// Dropped, it ends the thread.
    _running: Sender<()>,
}

impl Manager {
    /// Whoever the environment names (`NOTIFY_SOCKET`, `WATCHDOG_USEC`), and whoever goes by the lease. Everything starts.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn of_environment(lease: Option<Lease>) -> std::io::Result<Manager> {
        let manager = std::env::var_os("NOTIFY_SOCKET").map(|_| EXTENDED_EVERY);
        let every = sd_notify::watchdog_enabled().map(|limit| limit / WORDS).or(manager);
        let every = every.into_iter().chain(lease.as_ref().map(|_| LEASED_EVERY)).min();
        let course = Course::new(lease);
        let (running, ended) = channel();
        if let Some(every) = every {
            let course = course.clone();
            std::thread::Builder::new().name("alive".to_string()).spawn(move || course.tell(every, &ended))?;
        }
        Ok(Manager { course, every, next: Instant::now(), _running: running })
    }

    /// Beaten whenever the start makes progress.
    pub fn started(&self) -> Pulse {
        self.course.pulse.clone()
    }

    /// Everything runs, in a sentence.
    pub fn ready(&self, status: &str) {
        say(&[NotifyState::Ready, NotifyState::Status(status)]);
        self.course.goes(Phase::Runs, Vec::new());
    }

    /// Waits until the next [`Manager::alive`] is due; for ever where nobody waits for one.
    pub async fn due(&self) {
        match self.every {
            Some(_) => tokio::time::sleep_until(self.next.into()).await,
            None => std::future::pending().await,
        }
    }

    /// The gateway's task goes round, and everything goes on but what is stuck: as long as anything is, the service manager
    /// hears nothing, ends this process after a while, and starts it again, or the hardware watchdog does so with the box.
    /// Restart is the recovery plan.
    pub fn alive(&mut self, stuck: Vec<String>) {
        self.next = Instant::now() + self.every.unwrap_or_default();
        self.course.goes(Phase::Runs, stuck);
    }

    /// It stops in order.
    pub fn stopping(&self) {
        self.course.goes(Phase::Stops, Vec::new());
        say(&[NotifyState::Stopping]);
    }
}

/// How things go, as far as is known.
#[derive(Debug, Clone)]
struct Course {
    /// Of the start, and then of the gateway's task.
    pulse: Pulse,
    lease: Option<Lease>,
    found: Arc<Mutex<Found>>,
}

/// What was found when somebody looked last.
#[derive(Debug)]
struct Found {
    phase: Phase,
    stuck: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Starts,
    Runs,
    Stops,
}

impl Course {
    fn new(lease: Option<Lease>) -> Course {
        let found = Found { phase: Phase::Starts, stuck: Vec::new() };
        Course { pulse: Pulse::default(), lease, found: Arc::new(Mutex::new(found)) }
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn goes(&self, phase: Phase, stuck: Vec<String>) {
        let mut found = self.found();
        self.pulse.beat();
        *found = Found { phase, stuck };
        if phase == Phase::Stops {
            self.renew(STOPPED_WITHIN);
        }
    }

    fn renew(&self, time: Duration) {
        self.lease.iter().for_each(|lease| lease.renew(time));
    }

    /// Judges, and renews the lease or ends it. What is stuck; none once it stops.
    fn judge(&self, now: Duration) -> Option<(Phase, Vec<String>)> {
        let found = self.found();
        let (fresh, whose) = match found.phase {
            Phase::Starts => (STARTED, "start"),
            Phase::Runs => (FRESH, "gateway"),
            Phase::Stops => return None,
        };
        let late = self.pulse.is_stuck_at(fresh, now).then(|| whose.to_string());
        let stuck: Vec<String> = late.into_iter().chain(found.stuck.clone()).collect();
        self.renew(if stuck.is_empty() { LEASED_FOR } else { Duration::ZERO });
        Some((found.phase, stuck))
    }

    /// Judges again and again until it stops, and tells.
    fn tell(&self, every: Duration, ended: &Receiver<()>) {
        let mut before = Vec::new();
        while let Some((phase, stuck)) = self.judge(BEGAN.elapsed()) {
            if stuck.is_empty() {
                match phase {
                    Phase::Runs => say(&[NotifyState::Watchdog]),
                    _ => extend(EXTENDED_FOR),
                }
            }
            if !stuck.is_empty() && stuck != before {
                let all = stuck.join(", ");
                tracing::error!(event = "stuck", "does not go on, and is to be started again: {all}");
                say(&[NotifyState::Status(&format!("stuck: {all}"))]);
            }
            before = stuck;
            if ended.recv_timeout(every) == Err(RecvTimeoutError::Disconnected) {
                return;
            }
        }
    }
}

/// Asks the service manager to wait this long from now on, if that is longer than it would have, until what it has started
/// is ready or at its end.
pub fn extend(time: Duration) {
    say(&[NotifyState::ExtendTimeoutUsec(u32::try_from(time.as_micros()).unwrap_or(u32::MAX))]);
}

/// True under systemd, which says so to what it runs.
pub fn is_supervised() -> bool {
    ["INVOCATION_ID", "NOTIFY_SOCKET"].iter().any(|name| std::env::var_os(name).is_some())
}

fn say(state: &[NotifyState]) {
    // Nobody there is no trouble; somebody who cannot be told ends this process and starts it again.
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!("the service manager is not told: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_does_not_go_round_is_stuck() {
        let pulse = Pulse::default();
        assert!(!pulse.is_stuck(FRESH));
        std::thread::sleep(Duration::from_millis(5));
        assert!(pulse.is_stuck(Duration::from_millis(1)));
        pulse.clone().beat();
        assert!(!pulse.is_stuck(FRESH));
    }

    #[test]
    fn a_socket_is_in_the_way_of_a_listener_where_one_has_the_others_address() {
        for (held, only_v6, wanted, is_in_the_way) in [
            ("[::]:104", false, "0.0.0.0:104", true),
            ("[::]:104", false, "10.0.0.5:104", true),
            ("[::]:104", true, "10.0.0.5:104", false),
            ("0.0.0.0:104", false, "10.0.0.5:104", true),
            ("10.0.0.5:104", false, "0.0.0.0:104", true),
            ("10.0.0.5:104", false, "[::]:104", true),
            ("[::1]:104", false, "10.0.0.5:104", false),
            ("10.0.0.6:104", false, "10.0.0.5:104", false),
            ("0.0.0.0:105", false, "0.0.0.0:104", false),
        ] {
            let place = Place { address: held.parse().unwrap(), only_v6 };
            assert_eq!(place.keeps_from(wanted.parse().unwrap()), is_in_the_way, "{held} {only_v6} {wanted}");
        }
    }

    #[test]
    fn a_listener_takes_the_socket_of_its_address_else_one_of_every_address() {
        let place = |(address, only_v6): &(&str, bool)| Place { address: address.parse().unwrap(), only_v6: *only_v6 };
        let both = [("[::]:104", true), ("0.0.0.0:104", false), ("[::1]:105", false), ("10.0.0.5:106", false)];
        let every = [("0.0.0.0:105", false), ("[::]:104", false)];
        let chosen = |places: &[(&str, bool)], wanted: &str| {
            Place::choose(places.iter().map(place), wanted.parse().unwrap()).map(|at| places[at].0.to_string())
        };
        for (places, wanted, taken) in [
            (&both[..], "0.0.0.0:104", Some("0.0.0.0:104")),
            (&both, "[::]:104", Some("[::]:104")),
            (&both[..1], "0.0.0.0:104", None),
            (&both, "10.0.0.5:104", None),
            (&both, "10.0.0.5:106", Some("10.0.0.5:106")),
            (&both, "0.0.0.0:106", None),
            (&every, "0.0.0.0:104", Some("[::]:104")),
            (&every, "[::]:104", Some("[::]:104")),
            (&every, "[::]:105", None),
            (&every, "127.0.0.1:104", None),
        ] {
            assert_eq!(chosen(places, wanted).as_deref(), taken, "{wanted} of {places:?}");
        }
    }

    #[test]
    fn a_lease_holds_while_nothing_is_stuck_and_through_a_start_and_a_stop() {
        let lease = Lease::default();
        assert!(lease.holds(), "somebody is about to judge");
        let course = Course::new(Some(lease.clone()));
        let judged = |phase, stuck: &[&str]| {
            lease.renew(Duration::ZERO);
            let of = |stuck: &[&str]| stuck.iter().map(ToString::to_string).collect::<Vec<_>>();
            assert_eq!(course.judge(BEGAN.elapsed()), Some((phase, of(stuck))));
            lease.holds()
        };
        assert!(judged(Phase::Starts, &[]));
        course.goes(Phase::Runs, Vec::new());
        assert!(judged(Phase::Runs, &[]));
        course.goes(Phase::Runs, vec!["journal".to_string()]);
        assert!(!judged(Phase::Runs, &["journal"]), "what is stuck is not fed");
        course.goes(Phase::Runs, Vec::new());
        assert!(judged(Phase::Runs, &[]));
        course.goes(Phase::Runs, vec!["interpreter".to_string()]);
        course.goes(Phase::Stops, Vec::new());
        assert!(lease.holds() && course.judge(BEGAN.elapsed()).is_none(), "a stop takes as long as it takes");
    }

    #[test]
    fn a_start_without_progress_and_a_task_that_does_not_go_round_are_stuck() {
        let lease = Lease::default();
        let course = Course::new(Some(lease.clone()));
        let after = |time: Duration| {
            lease.renew(Duration::ZERO);
            let (_, stuck) = course.judge(BEGAN.elapsed() + time).unwrap();
            assert_eq!(lease.holds(), stuck.is_empty());
            stuck
        };
        let second = Duration::from_secs(1);
        assert!(after(STARTED - second).is_empty(), "a file may be removed for minutes");
        assert_eq!(after(STARTED + second), ["start"]);
        course.goes(Phase::Runs, Vec::new());
        assert!(after(FRESH - second).is_empty(), "a card may be slow");
        assert_eq!(after(FRESH + second), ["gateway"]);
        course.goes(Phase::Runs, vec!["journal".to_string()]);
        assert_eq!(after(FRESH + second), ["gateway", "journal"]);
    }
}
