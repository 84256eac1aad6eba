//! The watch on the interfaces: what is unusual, told once when it begins and once when it ends. This file is pure:
//! [`Watch::observe`] is given counters and the time, and gives [`Alert`]s; [`station`] is the shell around it.
//!
//! | what | begins when |
//! |---|---|
//! | silence | a link that used to bring messages at this hour of the week has brought none while ten were due |
//! | refusals | many frames or messages were refused (NAK, AE, AR) within five minutes |
//! | strangers | somebody no link names has dialled in |
//! | authentication | somebody was turned away: no certificate, a wrong one, a wrong password |
//! | rate | many times as many messages as usual within five minutes |
//! | repeats | the same specimen again and again |
//! | certificate | a certificate of ours ends soon |
//! | clock | the box's clock was set forward or back |
//! | stranded | messages wait for a destination that the configuration does not name |
//! | no-link | results are held whose link the configuration did not name any more, such as one that was only tried |
//! | refusing | a destination refused several messages for good, one after the other, and has taken none since |
//! | system | an operating system that an update brought and that was confirmed does not run any more |
//! | disk | at the rate of the last day the disk is full within three days |
//!
//! What is usual is learnt ([`learnt`]); a limit in the configuration goes before what was learnt. An alert ends when
//! the figure has been well below its limit for a while, so that one that hovers is told once.

pub mod learnt;
pub mod repeats;
pub mod station;
pub mod syslog;

use learnt::Learnt;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;
use std::time::Duration;

/// Between two looks.
pub const LOOK_S: RangeInclusive<u64> = 1..=120;
const LOOK_DEFAULT_S: u64 = 30;
/// Counts are looked at over this time.
const WINDOW: Duration = Duration::from_secs(300);
/// So many missing messages are a silence: by chance alone it happens once in twenty thousand times.
const MISSED_MESSAGES: f64 = 10.0;
/// No silence is shorter than this.
const SILENCE_MIN: Duration = Duration::from_secs(30 * 60);
/// A spike is so many times the most that is usual.
const SPIKE_TIMES: f32 = 8.0;
/// Fewer messages than this within the window are no spike.
const SPIKE_MIN: u64 = 100;
/// So many refused messages in a row, and a destination takes none.
const REFUSED_IN_A_ROW: i64 = 3;
/// A clock that moves by more than this against the monotonic one was set.
const CLOCK_JUMP_MIN: Duration = Duration::from_secs(30);
/// How long a clock that was set is an alert.
const CLOCK_JUMP_TOLD: Duration = Duration::from_secs(3600);
/// The disk is looked at this often, and over a day.
const DISK_EVERY: Duration = Duration::from_secs(3600);
const DISK_POINTS: usize = 25;
/// A trend needs as many points.
const DISK_POINTS_MIN: usize = 6;
/// A disk that is full within this time is an alert.
const DISK_FULL_WITHIN_H: u64 = 72;
/// An alert ends when its figure was at most half the limit for this long.
const CALM: Duration = Duration::from_secs(300);
/// Links watched at most; a configuration with more is watched in part, and says so.
const LINKS_MAX: usize = 4096;

/// Limits of the watch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Seconds between two looks.
    pub look_s: u64,
    /// Refused frames and messages of one link within five minutes that are an alert.
    pub refusals: u32,
    /// Messages of the same specimen on one link within five minutes that are an alert.
    pub repeats: u32,
    /// Connections of strangers within five minutes that are an alert.
    pub strangers: u32,
    /// Failed authentications within five minutes that are an alert.
    pub authentication: u32,
    /// Days before its end from which a certificate is an alert.
    pub certificate_days: u32,
    /// The site's log server; left out, none is told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub syslog: Option<syslog::Config>,
    /// Limits of single links, one table each.
    #[serde(rename = "link")]
    pub links: Vec<LinkLimits>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            look_s: LOOK_DEFAULT_S,
            refusals: 20,
            repeats: 10,
            strangers: 1,
            authentication: 5,
            certificate_days: 21,
            syslog: None,
            links: Vec::new(),
        }
    }
}

/// Limits of one link.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LinkLimits {
    /// Name of the link.
    pub name: String,
    /// Silence that is an alert whatever is usual, in seconds; 0 never.
    pub silence_s: Option<u32>,
    /// Messages within five minutes that are an alert whatever is usual; 0 never.
    pub messages: Option<u32>,
}

/// What of a link is counted, since the start of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Messages taken into custody.
    pub messages: u64,
    /// Frames and messages refused.
    pub refusals: u64,
    /// Connections of those no link names.
    pub strangers: u64,
    /// Failed authentications.
    pub authentication: u64,
    /// Messages of a specimen that had come within the last minutes.
    pub repeats: u64,
}

/// What became of messages for a destination, since it was set up as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sent {
    /// Messages it took.
    pub delivered: u64,
    /// Messages it refused for good.
    pub refused: u64,
}

/// How the box is at one moment.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sample {
    /// Its links.
    pub links: Vec<(String, Counts)>,
    /// Its own certificates, by what names them in the configuration, and the days they have left.
    pub certificates: Vec<(String, i64)>,
    /// Its destinations.
    pub destinations: Vec<(String, Sent)>,
    /// Destinations that the configuration does not name, and the messages that wait for each.
    pub stranded: Vec<(String, i64)>,
    /// Links that the configuration did not name when their results were read, and the results that are held for it.
    pub without_link: Vec<(String, i64)>,
    /// The operating system that was confirmed last does not run.
    pub system_is_away: bool,
    /// Bytes free on the journal's disk above what must stay free; none when unknown.
    pub disk_free: Option<u64>,
    /// What the wall clock shows less what the monotonic one does, in milliseconds.
    pub wall_less_monotonic_ms: i64,
    /// Hour of the week by the gateway's zone, 0 to 167 from Monday 00:00; none while the clock is not trusted, and
    /// nothing is learnt then.
    pub hour: Option<usize>,
}

/// What is unusual.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trouble {
    /// No messages where there used to be.
    Silence,
    /// Many refused frames or messages.
    Refusals,
    /// Somebody no link names.
    Strangers,
    /// Somebody who was turned away.
    Authentication,
    /// Many more messages than usual.
    Rate,
    /// The same specimen again and again.
    Repeats,
    /// A certificate that ends soon.
    Certificate,
    /// The clock was set.
    Clock,
    /// The disk fills up.
    Disk,
    /// Messages wait for a destination that nobody delivers to.
    Stranded,
    /// A destination takes no message.
    Refusing,
    /// The operating system that was confirmed does not run.
    System,
    /// Results are held for want of their link.
    NoLink,
}

/// One trouble, told when it begins and when it ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// True when it begins, false when it ends.
    pub began: bool,
    /// What is unusual.
    pub trouble: Trouble,
    /// Of what: a link, a destination, or what names the certificate; empty for the box.
    pub of: String,
    /// The figure: seconds of silence, counts within five minutes, days of a certificate, seconds the clock moved,
    /// hours until the disk is full, messages that wait, results that are held, messages refused in a row; 1 for an operating system.
    pub figure: i64,
    /// What it is compared with, in the same unit.
    pub limit: i64,
}

impl Alert {
    /// One sentence for a person.
    pub fn sentence(&self) -> String {
        let Alert { figure, limit, of, .. } = self;
        if !self.began {
            return format!("{}: over", self.trouble.title(of));
        }
        let what = match self.trouble {
            Trouble::Silence => format!("nothing came for {figure} s, where messages used to come"),
            Trouble::Refusals => format!("{figure} frames or messages refused within five minutes (limit {limit})"),
            Trouble::Strangers => format!("{figure} connections of somebody no link names within five minutes"),
            Trouble::Authentication => format!("{figure} failed authentications within five minutes (limit {limit})"),
            Trouble::Rate => format!("{figure} messages within five minutes, where {limit} are already unusual"),
            Trouble::Repeats => format!("{figure} messages of the same specimen within five minutes (limit {limit})"),
            Trouble::Certificate if *figure < 0 => "the certificate has ended: renew it".to_owned(),
            Trouble::Certificate => format!("the certificate ends in {figure} days: renew it"),
            Trouble::Clock => format!("the clock was set by {figure} s"),
            Trouble::Disk => format!("at the rate of the last day the disk is full in {figure} hours"),
            Trouble::Refusing => {
                format!("it refused {figure} messages in a row and took none: see afferent journal hold")
            }
            Trouble::NoLink => format!(
                "{figure} results are held, as the configuration did not name it any more: see afferent journal hold"
            ),
            Trouble::System => "the box runs the operating system before the one that was confirmed".to_owned(),
            Trouble::Stranded => {
                format!("{figure} messages wait for it, and the configuration does not name it: nobody delivers them")
            }
        };
        format!("{}: {what}", self.trouble.title(of))
    }
}

impl Trouble {
    /// Every trouble.
    pub const ALL: [Trouble; 13] = [
        Trouble::Silence,
        Trouble::Refusals,
        Trouble::Strangers,
        Trouble::Authentication,
        Trouble::Rate,
        Trouble::Repeats,
        Trouble::Certificate,
        Trouble::Clock,
        Trouble::Disk,
        Trouble::Stranded,
        Trouble::Refusing,
        Trouble::System,
        Trouble::NoLink,
    ];

    /// Its word, which logs and the bus carry; it never changes its meaning.
    pub fn word(self) -> &'static str {
        match self {
            Trouble::Silence => "silence",
            Trouble::Refusals => "refusals",
            Trouble::Strangers => "strangers",
            Trouble::Authentication => "authentication",
            Trouble::Rate => "rate",
            Trouble::Repeats => "repeats",
            Trouble::Certificate => "certificate",
            Trouble::Clock => "clock",
            Trouble::Disk => "disk",
            Trouble::Stranded => "stranded",
            Trouble::Refusing => "refusing",
            Trouble::System => "system",
            Trouble::NoLink => "no-link",
        }
    }

    fn title(self, of: &str) -> String {
        if of.is_empty() { self.word().to_owned() } else { format!("{} of {of}", self.word()) }
    }
}

/// See the module docs.
#[derive(Debug, Default)]
pub struct Watch {
    config: Config,
    links: BTreeMap<String, Watched>,
    /// How destinations stood when they last took a message, or were first seen.
    sent: BTreeMap<String, Sent>,
    standing: BTreeMap<(Trouble, String), Standing>,
    wall_less_monotonic_ms: Option<i64>,
    clock_set: Option<(Duration, i64)>,
    disk: VecDeque<(Duration, u64)>,
}

#[derive(Debug, Default)]
struct Watched {
    learnt: Learnt,
    /// Counts at the ends of the last looks, the oldest just before the window.
    window: VecDeque<(Duration, Counts)>,
    /// When a message last came, as far as this watch saw.
    heard: Option<Duration>,
    /// Messages that were due since.
    missed: f64,
}

#[derive(Debug, Clone, Copy)]
struct Standing {
    /// When the figure was last above half its limit.
    high: Duration,
}

impl Watch {
    /// A watch that has learnt `learnt` before, by link.
    pub fn new(config: Config, learnt: BTreeMap<String, Learnt>) -> Watch {
        let known = |(link, learnt)| (link, Watched { learnt, ..Watched::default() });
        Watch { config, links: learnt.into_iter().take(LINKS_MAX).map(known).collect(), ..Watch::default() }
    }

    /// Other limits; what stands goes on.
    pub fn set(&mut self, config: Config) {
        self.config = config;
    }

    /// What was learnt, by link, to be kept.
    pub fn learnt(&self) -> BTreeMap<&str, &Learnt> {
        self.links.iter().map(|(link, watched)| (link.as_str(), &watched.learnt)).collect()
    }

    /// Looks. `now` is monotonic. Called every half minute or so; what it misses in between it sees in the counts.
    pub fn observe(&mut self, now: Duration, sample: &Sample) -> Vec<Alert> {
        let mut seen = Vec::new();
        self.links.retain(|link, _| sample.links.iter().any(|(name, _)| name == link));
        for (link, counts) in &sample.links {
            if self.links.len() >= LINKS_MAX && !self.links.contains_key(link) {
                continue;
            }
            let watched = self.links.entry(link.clone()).or_default();
            watched.look(now, *counts, sample.hour);
            let limits = self.config.links.iter().find(|limits| limits.name == *link);
            watched.judge(now, sample.hour, &self.config, limits, |trouble, figure, limit| {
                seen.push(Figure { trouble, of: link.clone(), figure, limit });
            });
        }
        for (of, days) in &sample.certificates {
            let limit = i64::from(self.config.certificate_days);
            seen.push(Figure { trouble: Trouble::Certificate, of: of.clone(), figure: *days, limit });
        }
        for (of, waiting) in &sample.stranded {
            seen.push(Figure { trouble: Trouble::Stranded, of: of.clone(), figure: *waiting, limit: 1 });
        }
        for (of, held) in &sample.without_link {
            seen.push(Figure { trouble: Trouble::NoLink, of: of.clone(), figure: *held, limit: 1 });
        }
        if sample.system_is_away {
            seen.push(Figure { trouble: Trouble::System, of: String::new(), figure: 1, limit: 1 });
        }
        self.look_at_destinations(&sample.destinations, &mut seen);
        self.look_at_clock(now, sample.wall_less_monotonic_ms, &mut seen);
        self.look_at_disk(now, sample.disk_free, &mut seen);
        self.tell(now, seen)
    }

    fn look_at_destinations(&mut self, destinations: &[(String, Sent)], seen: &mut Vec<Figure>) {
        self.sent.retain(|of, _| destinations.iter().any(|(name, _)| name == of));
        for (of, now) in destinations {
            // One that was set up anew counts anew.
            let before = self.sent.get(of).copied().filter(|before| before.refused <= now.refused).unwrap_or_default();
            let since = if now.delivered == before.delivered { before } else { *now };
            self.sent.insert(of.clone(), since);
            let figure = i64::try_from(now.refused - since.refused).unwrap_or(i64::MAX);
            seen.push(Figure { trouble: Trouble::Refusing, of: of.clone(), figure, limit: REFUSED_IN_A_ROW });
        }
    }

    fn look_at_clock(&mut self, now: Duration, offset_ms: i64, seen: &mut Vec<Figure>) {
        let moved_ms = self.wall_less_monotonic_ms.replace(offset_ms).map_or(0, |before| offset_ms - before);
        if Duration::from_millis(moved_ms.unsigned_abs()) >= CLOCK_JUMP_MIN {
            self.clock_set = Some((now, moved_ms / 1000));
        }
        if let Some((_, moved_s)) = self.clock_set.filter(|(at, _)| now.saturating_sub(*at) < CLOCK_JUMP_TOLD) {
            let limit = CLOCK_JUMP_MIN.as_secs() as i64;
            seen.push(Figure { trouble: Trouble::Clock, of: String::new(), figure: moved_s, limit });
        }
    }

    fn look_at_disk(&mut self, now: Duration, free: Option<u64>, seen: &mut Vec<Figure>) {
        let Some(free) = free else { return };
        if self.disk.back().is_none_or(|(at, _)| now.saturating_sub(*at) >= DISK_EVERY) {
            self.disk.push_back((now, free));
            while self.disk.len() > DISK_POINTS {
                self.disk.pop_front();
            }
        }
        if self.disk.len() < DISK_POINTS_MIN {
            return;
        }
        let Some(&(since, before)) = self.disk.front() else { return };
        let used = before.saturating_sub(free);
        let hours_left = if free == 0 {
            0
        } else if used == 0 {
            i64::MAX
        } else {
            let watched_s = now.saturating_sub(since).as_secs().max(1);
            i64::try_from(u128::from(free) * u128::from(watched_s) / u128::from(used) / 3600).unwrap_or(i64::MAX)
        };
        let limit = DISK_FULL_WITHIN_H as i64;
        seen.push(Figure { trouble: Trouble::Disk, of: String::new(), figure: hours_left, limit });
    }

    /// Compares figures with limits and with what was told before.
    fn tell(&mut self, now: Duration, seen: Vec<Figure>) -> Vec<Alert> {
        let mut alerts = Vec::new();
        let mut named = Vec::new();
        for figure in seen {
            let key = (figure.trouble, figure.of.clone());
            let standing = self.standing.get_mut(&key);
            match standing {
                Some(standing) if figure.is_near() => standing.high = now,
                Some(standing) if now.saturating_sub(standing.high) >= figure.calm() => {
                    self.standing.remove(&key);
                    alerts.push(figure.alert(false));
                }
                Some(_) => {}
                None if figure.is_over() => {
                    self.standing.insert(key.clone(), Standing { high: now });
                    alerts.push(figure.alert(true));
                }
                None => {}
            }
            named.push(key);
        }
        // What is no longer looked at (a link that was taken out, a clock set an hour ago) is over.
        let gone: Vec<_> = self.standing.keys().filter(|key| !named.contains(key)).cloned().collect();
        for (trouble, of) in gone {
            self.standing.remove(&(trouble, of.clone()));
            alerts.push(Alert { began: false, trouble, of, figure: 0, limit: 0 });
        }
        alerts
    }
}

/// One figure beside its limit.
struct Figure {
    trouble: Trouble,
    of: String,
    figure: i64,
    limit: i64,
}

impl Figure {
    /// Days and hours that are left are worse the fewer they are.
    fn counts_down(&self) -> bool {
        matches!(self.trouble, Trouble::Certificate | Trouble::Disk)
    }

    fn is_over(&self) -> bool {
        if self.counts_down() { self.figure < self.limit } else { self.figure.abs() >= self.limit }
    }

    /// Not yet well below the limit.
    fn is_near(&self) -> bool {
        match self.trouble {
            // A message ends a silence at once, and shows a destination that takes some again.
            Trouble::Silence | Trouble::Certificate | Trouble::Clock | Trouble::Refusing => self.is_over(),
            Trouble::Disk => self.figure < self.limit.saturating_mul(2),
            _ => self.figure.saturating_mul(2) > self.limit,
        }
    }

    fn calm(&self) -> Duration {
        match self.trouble {
            Trouble::Silence | Trouble::Certificate | Trouble::Clock | Trouble::Refusing => Duration::ZERO,
            _ => CALM,
        }
    }

    fn alert(self, began: bool) -> Alert {
        Alert { began, trouble: self.trouble, of: self.of, figure: self.figure, limit: self.limit }
    }
}

impl Watched {
    fn look(&mut self, now: Duration, counts: Counts, hour: Option<usize>) {
        let before = self.window.back().copied();
        let came = before.map_or(0, |(_, before)| counts.messages.saturating_sub(before.messages));
        let elapsed = before.map_or(Duration::ZERO, |(at, _)| now.saturating_sub(at));
        if came > 0 || self.heard.is_none() {
            self.heard = Some(now);
            self.missed = 0.0;
        } else if let Some((least, _)) = hour.and_then(|hour| self.learnt.usual(hour)) {
            self.missed += f64::from(least) * elapsed.as_secs_f64() / 3600.0;
        }
        if let Some(hour) = hour {
            self.learnt.note(hour, elapsed.as_secs(), came);
        }
        self.window.push_back((now, counts));
        // One look from before the window is kept to subtract from.
        while self.window.get(1).is_some_and(|(at, _)| now.saturating_sub(*at) >= WINDOW) {
            self.window.pop_front();
        }
    }

    fn judge(
        &self,
        now: Duration,
        hour: Option<usize>,
        config: &Config,
        limits: Option<&LinkLimits>,
        mut seen: impl FnMut(Trouble, i64, i64),
    ) {
        let (Some((_, from)), Some((_, to))) = (self.window.front(), self.window.back()) else { return };
        let since = |count: fn(&Counts) -> u64| count(to).saturating_sub(count(from)) as i64;
        seen(Trouble::Refusals, since(|c| c.refusals), i64::from(config.refusals.max(1)));
        seen(Trouble::Strangers, since(|c| c.strangers), i64::from(config.strangers.max(1)));
        seen(Trouble::Authentication, since(|c| c.authentication), i64::from(config.authentication.max(1)));
        seen(Trouble::Repeats, since(|c| c.repeats), i64::from(config.repeats.max(1)));

        let silent_s = now.saturating_sub(self.heard.unwrap_or(now)).as_secs() as i64;
        match limits.and_then(|limits| limits.silence_s) {
            Some(0) => {}
            Some(limit) => seen(Trouble::Silence, silent_s, i64::from(limit)),
            None => {
                let unusual = self.missed >= MISSED_MESSAGES;
                let limit = if unusual { SILENCE_MIN.as_secs() as i64 } else { i64::MAX };
                seen(Trouble::Silence, silent_s, limit);
            }
        }
        let messages = since(|c| c.messages);
        match limits.and_then(|limits| limits.messages) {
            Some(0) => {}
            Some(limit) => seen(Trouble::Rate, messages, i64::from(limit)),
            None => {
                let usual = hour.and_then(|hour| self.learnt.usual(hour));
                let spike = |(_, most): (f32, f32)| (most * SPIKE_TIMES * WINDOW.as_secs_f32() / 3600.0) as u64;
                let limit = usual.map_or(i64::MAX, |usual| spike(usual).max(SPIKE_MIN) as i64);
                seen(Trouble::Rate, messages, limit);
            }
        }
    }
}

#[cfg(test)]
mod tests;
