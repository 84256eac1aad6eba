//! What a page of search results lists, read piece by piece: of each ServiceRequest only its id, its version and when it
//! was changed. Pure.
//!
//! Servers may ignore `_elements`, and then a page of requests that hold reports or pictures is as long as they are. This
//! keeps nothing of them, so a page may have any length. Whether it is sound JSON is seen where the requests are read.

use super::page::{Asked, Page};

/// Containers that are looked into, from the Bundle to the `meta` of a resource in it.
const LEVELS_MAX: usize = 5;
/// A longer text is no name, id or address.
const TEXT_MAX: usize = 16 * 1024;
/// Most ServiceRequests of one page; a server that pages has a hundred.
const HEADS_MAX: usize = 100_000;
/// Most bytes of what is kept of all of them. An id, as a version is too, has 64 at most (FHIR R4 2.24.0.1), and a time
/// fewer; servers whose ids are longer are served as far as this goes.
const KEPT_MAX: usize = HEADS_MAX * 3 * 64;

/// A page that is being read.
#[derive(Default)]
pub struct Heads {
    /// The containers around what comes next, as far as they are looked into.
    levels: Vec<Level>,
    /// How many containers are open inside those.
    deeper: u64,
    /// The text that is being read, between its quotes.
    text: Option<Text>,
    is_bundle: bool,
    is_whole: bool,
    is_too_long: bool,
    link: Link,
    next: Option<String>,
    head: Head,
    heads: Vec<Head>,
    /// Bytes kept of those.
    kept: usize,
}

struct Level {
    is_object: bool,
    /// The name of the member that comes, or is open.
    name: String,
    awaits_name: bool,
}

#[derive(Default)]
struct Text {
    raw: Vec<u8>,
    is_escaped: bool,
}

#[derive(Default)]
struct Link {
    relation: String,
    url: String,
}

#[derive(Default)]
struct Head {
    resource_type: String,
    id: String,
    version: String,
    last_updated: String,
}

impl Heads {
    /// Reads on.
    pub fn push(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if let Some(text) = &mut self.text {
                if text.push(*byte) {
                    let text = std::mem::take(&mut self.text).unwrap_or_default();
                    self.read(text);
                }
                continue;
            }
            match byte {
                b'"' => self.text = Some(Text::default()),
                b'{' | b'[' => self.open(*byte == b'{'),
                b'}' | b']' => self.close(),
                b':' | b',' if self.deeper == 0 => {
                    if let Some(level) = self.levels.last_mut() {
                        level.awaits_name = level.is_object && *byte == b',';
                    }
                }
                _ => {}
            }
        }
    }

    /// The page; its requests have no more than an id, a version and a time. `None` when it was no Bundle, was broken off,
    /// lists more than a hundred thousand, or such whose ids, versions and times are longer than 19 MB in all.
    pub fn finish(self) -> Option<Page> {
        let requests = self.heads.into_iter().map(|head| Asked::listed(head.id, &head.version, &head.last_updated));
        let is_page = self.is_bundle && self.is_whole && !self.is_too_long;
        is_page.then(|| Page { requests: requests.collect(), next: self.next })
    }

    fn open(&mut self, is_object: bool) {
        match self.levels.len() < LEVELS_MAX && self.deeper == 0 && !self.is_whole {
            true => self.levels.push(Level { is_object, name: String::new(), awaits_name: is_object }),
            false => self.deeper += 1,
        }
    }

    fn close(&mut self) {
        if self.deeper > 0 {
            self.deeper -= 1;
            return;
        }
        self.levels.pop();
        self.is_whole |= self.levels.is_empty();
        match self.place().as_slice() {
            ["entry", ""] => {
                let head = std::mem::take(&mut self.head);
                if head.resource_type == "ServiceRequest" {
                    self.kept += head.id.len() + head.version.len() + head.last_updated.len();
                    self.is_too_long |= self.heads.len() == HEADS_MAX || self.kept > KEPT_MAX;
                    if !self.is_too_long {
                        self.heads.push(head);
                    }
                }
            }
            ["link", ""] => {
                let link = std::mem::take(&mut self.link);
                if link.relation == "next" && !link.url.is_empty() {
                    self.next.get_or_insert(link.url);
                }
            }
            _ => {}
        }
    }

    fn read(&mut self, text: Text) {
        if self.deeper > 0 {
            return;
        }
        let text = text.value();
        if let Some(level) = self.levels.last_mut().filter(|level| level.awaits_name) {
            level.name = text;
            return;
        }
        match self.place().as_slice() {
            ["resourceType"] => self.is_bundle = text == "Bundle",
            ["link", "", "relation"] => self.link.relation = text,
            ["link", "", "url"] => self.link.url = text,
            ["entry", "", "resource", "resourceType"] => self.head.resource_type = text,
            ["entry", "", "resource", "id"] => self.head.id = text,
            ["entry", "", "resource", "meta", "versionId"] => self.head.version = text,
            ["entry", "", "resource", "meta", "lastUpdated"] => self.head.last_updated = text,
            _ => {}
        }
    }

    /// The names on the way to here; those of arrays are empty.
    fn place(&self) -> Vec<&str> {
        self.levels.iter().map(|level| level.name.as_str()).collect()
    }
}

impl Text {
    /// Takes a byte; true when it ends the text.
    fn push(&mut self, byte: u8) -> bool {
        let ends = byte == b'"' && !self.is_escaped;
        self.is_escaped = byte == b'\\' && !self.is_escaped;
        if self.raw.len() <= TEXT_MAX && !ends {
            self.raw.push(byte);
        }
        ends
    }

    /// Empty when it is too long, or no text.
    fn value(self) -> String {
        let quoted = [b"\"", self.raw.as_slice(), b"\""].concat();
        if self.raw.len() > TEXT_MAX { String::new() } else { serde_json::from_slice(&quoted).unwrap_or_default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PAGE: &str = r#" {"resourceType":"Bundle","link":[{"relation":"self","url":"x"},
      {"url":"https://e/fhir?a=\u0031&b=\"{","relation":"next"}],"total":2,
      "entry":[{"resource":{"contained":[{"resourceType":"Patient","id":"inner"}],"note":[{"text":"\\"},"}],\"id\":\"no\""],
        "id":"1","meta":{"tag":[{"code":"x"}],"lastUpdated":"2026-03-01T08:00:00.5+01:00"},"resourceType":"ServiceRequest",
        "subject":{"id":"subject","reference":"Patient/7"}},"search":{"mode":"match"}},
      {"resource":{"resourceType":"Patient","id":"7"}}, {"fullUrl":"https://e/fhir/ServiceRequest/2"},
      {"resource":{"resourceType":"ServiceRequest","id":"2"}}]} "#;

    fn read(page: &str, cut: usize) -> Option<Page> {
        let mut heads = Heads::default();
        let (before, after) = page.as_bytes().split_at(cut);
        heads.push(before);
        heads.push(after);
        heads.finish()
    }

    #[test]
    fn a_page_in_any_pieces_lists_its_requests_and_nothing_that_is_in_them() {
        for cut in 0..=PAGE.len() {
            let page = read(PAGE, cut).unwrap();
            let ids: Vec<&str> = page.requests.iter().map(|asked| asked.id.as_str()).collect();
            assert_eq!((ids, page.next.as_deref()), (vec!["1", "2"], Some("https://e/fhir?a=1&b=\"{")), "{cut}");
            assert_eq!(page.requests[0].last_updated, "2026-03-01T07:00:00.5Z".parse().ok());
        }
        let end = PAGE.trim_end().len();
        assert!((0..end).all(|cut| read(&PAGE[..cut], 0).is_none()), "what is broken off is no page");
        assert!(read("{\"resourceType\":\"OperationOutcome\"}", 0).is_none() && read("<html>", 0).is_none());
    }

    #[test]
    fn it_keeps_nothing_of_what_is_long() {
        let mut heads = Heads::default();
        heads.push(
            b"{\"resourceType\":\"Bundle\",\"entry\":[{\"resource\":{\"resourceType\":\"ServiceRequest\",\"note\":\"",
        );
        for _ in 0..100 {
            heads.push(&[b'x'; 100_000]);
        }
        assert!(heads.text.as_ref().unwrap().raw.capacity() <= 2 * TEXT_MAX);
        heads.push(b"\",\"deep\":");
        heads.push(&[b'['; 100_000]);
        assert_eq!(heads.levels.len(), LEVELS_MAX);
        heads.push(&[b']'; 100_000]);
        heads.push(b",\"id\":\"1\"}}]}");
        assert_eq!(heads.finish().unwrap().requests[0].id, "1");
        let mut heads = Heads::default();
        heads.push(b"{\"resourceType\":\"Bundle\",\"entry\":[");
        for _ in 0..=HEADS_MAX {
            heads.push(b"{\"resource\":{\"resourceType\":\"ServiceRequest\",\"id\":\"1\"}},");
        }
        heads.push(b"{}]}");
        assert!(heads.heads.len() == HEADS_MAX && heads.finish().is_none(), "a list that was cut would lose orders");
    }

    #[test]
    fn a_request_with_a_long_id_is_listed_and_all_that_is_kept_is_bounded() {
        for key in ["\"id\":", "\"meta\":{\"versionId\":", "\"meta\":{\"lastUpdated\":"] {
            let end = if key.contains("meta") { "}" } else { "" };
            let (text, mut heads) = ("x".repeat(TEXT_MAX), Heads::default());
            let of = |kind: &str| format!("{{\"resource\":{{\"resourceType\":\"{kind}\",{key}\"{text}\"{end}}}}}");
            let (patient, request) = (of("Patient"), of("ServiceRequest"));
            heads.push(format!("{{\"resourceType\":\"Bundle\",\"entry\":[{patient}").as_bytes());
            let most = KEPT_MAX / TEXT_MAX;
            for count in 1..=most + 2 {
                heads.push(format!(",{request}").as_bytes());
                assert_eq!(heads.heads.len(), count.min(most), "{key}");
            }
            heads.push(b"]}");
            assert!(heads.finish().is_none(), "a list that was cut would lose orders");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(proptest::sample::select(b"{}[]\",:\\ax\xff".to_vec()), 0..400)) {
            let mut heads = Heads::default();
            heads.push(&bytes);
            let _ = heads.finish();
        }
    }
}
