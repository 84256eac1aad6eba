//! Who is let in: modalities by their AE title and address, strangers with a warning or not at all, and nobody while
//! there is no room.
//!
//! What passes by itself is refused as transient (PS3.8 9.3.4, result 2): a modality keeps its images and comes back.
//! A permanent refusal makes some give up for good, so it is kept for callers that the site does not want.

use super::config::{Config, Modality};
use super::{LINK, LinkCounters};
use crate::link::peers::Peers;
use crate::tls::Fingerprint;
use crate::wire::Event;
use crate::wire::dimse::{Caller, Rejection};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Callers that were warned of are remembered up to this many; after that nobody new is warned of.
const WARNED_MAX: usize = 1000;
/// When there is no place left, an association that has been silent for this long makes one.
const SILENT_FOR: Duration = Duration::from_secs(30);

/// The modalities there are, and the associations that are open.
pub struct Callers {
    ae_title: String,
    only_known: bool,
    modalities: Vec<Known>,
    /// AE titles of archives that report what they commit to.
    archives: Vec<String>,
    strangers: Arc<LinkCounters>,
    warned: Mutex<BTreeSet<String>>,
    places: Places,
}

struct Known {
    link: Arc<str>,
    ae_title: String,
    peers: Vec<Peers>,
    /// Its title is for those alone who show one of its certificates.
    is_bound: bool,
    certificates: Vec<Fingerprint>,
    counters: Arc<LinkCounters>,
}

/// How a caller reached the box.
#[derive(Debug, Clone, Copy)]
pub struct Way {
    /// From where.
    pub from: IpAddr,
    /// Over TLS.
    pub is_secured: bool,
    /// With this certificate.
    pub certificate: Option<Fingerprint>,
}

/// A caller that was let in. Its place is free again when this is dropped.
pub struct Admitted {
    /// Name of the link.
    pub link: Arc<str>,
    /// True for an archive that no [`Modality`] names, where only those are let in: it may report, and nothing else.
    pub only_reports: bool,
    /// Its counters.
    pub counters: Arc<LinkCounters>,
    /// Its place.
    pub place: Place,
}

impl Callers {
    /// The modalities of these settings, and the AE titles of archives that call to report what they commit to.
    /// `descriptors` is how many associations there may be at most, whatever the settings say.
    pub fn new(config: &Config, modalities: &[Modality], archives: Vec<String>, descriptors: usize) -> Callers {
        let associations_max = usize::from(config.associations_max).min(descriptors).max(1);
        let known = |modality: &Modality| Known {
            link: modality.name.as_str().into(),
            ae_title: modality.ae_title.trim().to_string(),
            // An address that is none fits nobody; `afferent check` refuses it.
            peers: modality.peers.iter().filter_map(|text| text.parse().ok()).collect(),
            // A fingerprint that cannot be read is nobody's, and binds the title all the same.
            is_bound: !modality.certificates.is_empty(),
            certificates: modality.certificates.iter().filter_map(|text| text.parse().ok()).collect(),
            counters: Arc::new(LinkCounters::of_images(&modality.name)),
        };
        Callers {
            ae_title: config.ae_title.trim().to_string(),
            only_known: config.only_known,
            modalities: modalities.iter().map(known).collect(),
            archives,
            strangers: Arc::new(LinkCounters::of_images(LINK)),
            warned: Mutex::default(),
            places: Places::new(associations_max),
        }
    }

    /// Counters of everybody who is not known, or not yet.
    pub fn strangers(&self) -> &Arc<LinkCounters> {
        &self.strangers
    }

    /// Most associations open at once.
    pub fn places(&self) -> usize {
        self.places.max
    }

    /// All counters: of strangers, then of each modality.
    pub fn counters(&self) -> Vec<Arc<LinkCounters>> {
        let modalities = self.modalities.iter().map(|known| known.counters.clone());
        std::iter::once(self.strangers.clone()).chain(modalities).collect()
    }

    /// Lets a caller in, or says how it is refused. `has_room` tells whether an instance could be kept now.
    ///
    /// # Errors
    /// The rejection; it is counted.
    pub fn admit(
        &self,
        caller: &Caller,
        way: Way,
        now: Instant,
        has_room: impl FnOnce() -> bool,
    ) -> Result<Admitted, Rejection> {
        let from = way.from;
        let known = self.known(&caller.calling_ae_title, from);
        let (link, counters) = match known {
            Some(known) => (known.link.clone(), known.counters.clone()),
            None => (LINK.into(), self.strangers.clone()),
        };
        let refuse = |why, rejection| {
            counters.event(&Event::Refused(why));
            Err(rejection)
        };
        // An archive is let in to report, and to store like everybody else.
        let reports = !caller.wants_to_store && self.archives.contains(&caller.calling_ae_title);
        if known.is_none() && self.only_known && !reports {
            self.warn(&caller.calling_ae_title, from, "refused: add a [[modality]] with this ae_title to let it in");
            counters.stranger("a caller that no [[modality]] names");
            return Err(Rejection::CALLING_AE_TITLE);
        }
        if let Some(bound) = self.bound_to_others(known, &caller.calling_ae_title, way.certificate) {
            self.warn_of_certificate(bound, way);
            counters.turned_away("a caller without the certificate of the modality whose AE title it gives");
            return Err(Rejection::CALLING_AE_TITLE);
        }
        if caller.called_ae_title != self.ae_title {
            if self.only_known {
                let why = "a caller that calls another AE title: correct the one of this box there";
                return refuse(why, Rejection::CALLED_AE_TITLE);
            }
            counters.event(&Event::Odd("the AE title of this box is wrong at a modality: it is let in all the same"));
        }
        if caller.wants_to_store && !has_room() {
            return refuse("no room for images: told to come back later", Rejection::LOCAL_LIMIT);
        }
        let Some(place) = self.places.take(now) else {
            return refuse("too many associations: told to come back later", Rejection::CONGESTION);
        };
        if known.is_none() && !reports {
            self.warn(&caller.calling_ae_title, from, "let in: add a [[modality]] for it, or set only_known");
        }
        let only_reports = known.is_none() && self.only_known;
        Ok(Admitted { link, only_reports, counters, place })
    }

    /// The modality of this title whose addresses fit best; one that names none takes whoever none of the others names.
    fn known(&self, ae_title: &str, from: IpAddr) -> Option<&Known> {
        let fit = |known: &Known| match known.peers.is_empty() {
            true => Some(-1),
            false => known.peers.iter().filter_map(|peers| peers.fit(from)).max().map(i16::from),
        };
        let titled = self.modalities.iter().filter(|known| known.ae_title == ae_title);
        titled.filter_map(|known| Some((fit(known)?, known))).max_by_key(|(bits, _)| *bits).map(|(_, known)| known)
    }

    /// The modality that keeps this title for its own certificates, of which the caller shows none. Calling from
    /// elsewhere, or in clear, is no way round it.
    fn bound_to_others(&self, known: Option<&Known>, title: &str, shown: Option<Fingerprint>) -> Option<&Known> {
        let is_same = |modality: &Known| known.is_some_and(|known| known.link == modality.link);
        let bound = || self.modalities.iter().filter(|modality| modality.is_bound && modality.ae_title == title);
        bound().find(|modality| is_same(modality) && !modality.may_show(shown)).or_else(|| {
            let shows_none = !bound().any(|modality| modality.may_show(shown));
            bound().next().filter(|_| shows_none)
        })
    }

    /// Warns once of each caller.
    fn warn(&self, ae_title: &str, from: IpAddr, what: &'static str) {
        if self.is_first(format!("{from} {ae_title}")) {
            tracing::warn!(link = LINK, calling_ae_title = ?ae_title, %from, "an unknown modality is {what}");
        }
    }

    /// Warns once of each certificate, which a person may have to add.
    fn warn_of_certificate(&self, known: &Known, way: Way) {
        let shown = way.certificate.map_or("none".to_string(), |certificate| certificate.to_string());
        if self.is_first(format!("{} {} {shown}", way.from, known.link)) {
            let (link, from) = (&*known.link, way.from);
            tracing::warn!(link, %from, shown, "refused: the certificate is not among `certificates` of this modality");
        }
    }

    fn is_first(&self, caller: String) -> bool {
        let mut warned = lock(&self.warned);
        warned.len() < WARNED_MAX && warned.insert(caller)
    }
}

impl Known {
    /// True when somebody with this certificate may call by its title.
    fn may_show(&self, certificate: Option<Fingerprint>) -> bool {
        !self.is_bound || certificate.is_some_and(|shown| self.certificates.contains(&shown))
    }
}

/// The places of associations.
struct Places {
    max: usize,
    began: Instant,
    taken: Arc<Mutex<Vec<Arc<Sitter>>>>,
}

/// One open association, as the others see it.
struct Sitter {
    /// When it was last heard, in milliseconds since the listener began.
    heard_ms: AtomicU64,
    has_to_go: Notify,
}

/// The place of one association.
pub struct Place {
    began: Instant,
    sitter: Arc<Sitter>,
    taken: Arc<Mutex<Vec<Arc<Sitter>>>>,
}

impl Places {
    fn new(max: usize) -> Places {
        Places { max, began: Instant::now(), taken: Arc::default() }
    }

    /// A place; when none is free, that of whoever has been silent longest, if for long enough: a peer that lost power
    /// keeps nobody out.
    fn take(&self, now: Instant) -> Option<Place> {
        let mut taken = lock(&self.taken);
        if taken.len() >= self.max {
            let silent = |sitter: &Sitter| sitter.heard_ms.load(Ordering::Relaxed);
            let (at, longest) = taken.iter().enumerate().min_by_key(|(_, sitter)| silent(sitter))?;
            let heard = self.began + Duration::from_millis(silent(longest));
            if now.saturating_duration_since(heard) < SILENT_FOR {
                return None;
            }
            taken.remove(at).has_to_go.notify_one();
        }
        let sitter = Arc::new(Sitter { heard_ms: AtomicU64::new(0), has_to_go: Notify::new() });
        taken.push(sitter.clone());
        let place = Place { began: self.began, sitter, taken: self.taken.clone() };
        place.heard(now);
        Some(place)
    }
}

impl Place {
    /// The association was heard.
    pub fn heard(&self, now: Instant) {
        let ms = now.saturating_duration_since(self.began).as_millis();
        self.sitter.heard_ms.store(ms.try_into().unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Resolves when the place is needed by somebody else.
    pub async fn is_needed(&self) {
        self.sitter.has_to_go.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.taken).retain(|sitter| !Arc::ptr_eq(sitter, &self.sitter));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 7));

    fn caller(calling: &str) -> Caller {
        Caller {
            calling_ae_title: calling.to_string(),
            called_ae_title: "AFFERENT".to_string(),
            wants_to_store: true,
            names_user: false,
        }
    }

    fn modality(name: &str, peers: &[&str]) -> Modality {
        let peers = peers.iter().map(|peers| peers.to_string()).collect();
        Modality { name: name.to_string(), ae_title: "VIVID".to_string(), peers, ..Modality::default() }
    }

    fn way(from: IpAddr) -> Way {
        Way { from, is_secured: false, certificate: None }
    }

    fn callers(only_known: bool, modalities: &[Modality]) -> Callers {
        Callers::new(&Config { only_known, ..Config::default() }, modalities, vec!["PACS".to_string()], 2)
    }

    #[test]
    fn a_modality_is_known_by_title_and_address() {
        let all = [modality("any", &[]), modality("net", &["10.0.0.0/24"]), modality("one", &["10.0.0.7"])];
        let link = |modalities: &[Modality], from: IpAddr| {
            let admitted = callers(false, modalities).admit(&caller("VIVID"), way(from), Instant::now(), || true);
            admitted.unwrap().link.to_string()
        };
        assert_eq!(link(&all, HERE), "one");
        assert_eq!(link(&all, "10.0.0.9".parse().unwrap()), "net");
        assert_eq!(link(&all, "10.9.9.9".parse().unwrap()), "any");
        assert_eq!(link(&all[2..], "10.9.9.9".parse().unwrap()), LINK);
    }

    #[test]
    fn a_title_is_bound_to_the_certificates_that_are_named_for_it() {
        let of = |byte: u8| Fingerprint::of(&rustls_pki_types::CertificateDer::from(vec![byte]));
        let mut bound = modality("echo-1", &[]);
        bound.certificates = vec![of(1).to_string(), of(2).to_string()];
        let callers = callers(false, &[bound]);
        let admit = |title: &str, certificate| {
            let way = Way { from: HERE, is_secured: true, certificate };
            callers.admit(&caller(title), way, Instant::now(), || true).map(|admitted| admitted.link.to_string())
        };
        for certificate in [of(1), of(2)] {
            assert_eq!(admit("VIVID", Some(certificate)), Ok("echo-1".to_string()));
        }
        for certificate in [None, Some(of(3))] {
            assert_eq!(admit("VIVID", certificate), Err(Rejection::CALLING_AE_TITLE));
        }
        assert_eq!(admit("CT", Some(of(3))), Ok(LINK.to_string()), "other titles are open as before");
    }

    #[test]
    fn a_bound_title_is_bound_wherever_the_call_comes_from() {
        let of = |byte: u8| Fingerprint::of(&rustls_pki_types::CertificateDer::from(vec![byte]));
        let mut bound = modality("echo-1", &["10.0.0.7"]);
        bound.certificates = vec![of(1).to_string()];
        let mut unreadable = bound.clone();
        unreadable.certificates = vec!["no fingerprint".to_string()];
        let without = modality("echo-2", &[]);
        let away = "192.0.2.1".parse().unwrap();
        let admit = |modalities: &[Modality], from, certificate: Option<Fingerprint>| {
            let way = Way { from, is_secured: certificate.is_some(), certificate };
            let admitted = callers(false, modalities).admit(&caller("VIVID"), way, Instant::now(), || true);
            admitted.map(|admitted| admitted.link.to_string())
        };
        let refused = Err(Rejection::CALLING_AE_TITLE);
        for from in [HERE, away] {
            for certificate in [None, Some(of(2))] {
                assert_eq!(admit(&[bound.clone()], from, certificate), refused);
                assert_eq!(admit(&[bound.clone(), without.clone()], from, certificate), refused);
                assert_eq!(admit(&[unreadable.clone()], from, certificate), refused);
            }
        }
        assert_eq!(admit(&[bound.clone()], HERE, Some(of(1))), Ok("echo-1".to_string()));
        assert_eq!(admit(&[bound], away, Some(of(1))), Ok(LINK.to_string()), "it is the one, elsewhere");
    }

    #[test]
    fn strangers_are_let_in_unless_only_known_ones_are() {
        let now = Instant::now();
        let refused = |callers: &Callers, caller: &Caller| callers.admit(caller, way(HERE), now, || true).err();
        let mut of_another = caller("VIVID");
        of_another.called_ae_title = "PACS".to_string();
        for modalities in [&[][..], &[modality("echo-1", &[])]] {
            let open = callers(false, modalities);
            assert_eq!(refused(&open, &caller("")), None, "ultrasound carts call with a blank title");
            assert_eq!(refused(&open, &of_another), None);
        }
        let closed = callers(true, &[modality("echo-1", &[])]);
        assert_eq!(refused(&closed, &caller("VIVID")), None);
        assert_eq!(refused(&closed, &caller("OTHER")), Some(Rejection::CALLING_AE_TITLE));
        assert_eq!(refused(&closed, &of_another), Some(Rejection::CALLED_AE_TITLE));
        let archive = Caller { wants_to_store: false, ..caller("PACS") };
        assert_eq!(refused(&closed, &archive), None, "it reports what it commits to");
        let only_reports =
            |caller: &Caller| closed.admit(caller, way(HERE), now, || true).map(|admitted| admitted.only_reports);
        assert!(matches!((only_reports(&archive), only_reports(&caller("VIVID"))), (Ok(true), Ok(false))));
        assert_eq!(refused(&closed, &caller("PACS")), Some(Rejection::CALLING_AE_TITLE), "it is no modality");
    }

    #[test]
    fn without_room_only_those_who_would_store_come_back_later() {
        let callers = callers(false, &[]);
        let now = Instant::now();
        assert_eq!(callers.admit(&caller("CT"), way(HERE), now, || false).err(), Some(Rejection::LOCAL_LIMIT));
        let asks = Caller { wants_to_store: false, ..caller("CT") };
        assert!(callers.admit(&asks, way(HERE), now, || false).is_ok(), "a worklist needs no room");
    }

    #[test]
    fn i10_places_are_few_and_a_silent_association_keeps_nobody_out() {
        let callers = callers(false, &[]);
        let now = Instant::now();
        let admit = |now| callers.admit(&caller("CT"), way(HERE), now, || true);
        let (first, second) = (admit(now).unwrap(), admit(now).unwrap());
        assert_eq!(admit(now).err(), Some(Rejection::CONGESTION));
        let later = now + SILENT_FOR;
        second.place.heard(later);
        let third = admit(later).unwrap();
        assert!(futures_ready(first.place.is_needed()), "the one that was silent makes room");
        assert!(!futures_ready(second.place.is_needed()));
        assert_eq!(admit(later).err(), Some(Rejection::CONGESTION));
        drop((first, third));
        assert!(admit(later).is_ok());
    }

    /// True when a future is ready at once.
    fn futures_ready(future: impl Future<Output = ()>) -> bool {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        std::pin::pin!(future).poll(&mut context).is_ready()
    }
}
