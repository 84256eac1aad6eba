//! A feed over a journal, and a FHIR server that does what it is told.

use super::*;
use crate::clinical::OrderStatus;
use crate::journal::{Query, StoredOrder};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// What the server has, by address below its base, and the addresses that it answers with something else.
#[derive(Default)]
struct Shelf {
    resources: BTreeMap<String, Value>,
    trouble: BTreeMap<String, u16>,
    /// What it answers to everything but a search for all.
    all: Option<u16>,
    /// Requests it was asked for by their address.
    reads: usize,
}

impl Shelf {
    fn answer(&mut self, target: &str) -> (u16, Value) {
        let target = target.trim_start_matches("/fhir/");
        let is_search = target.starts_with("ServiceRequest?");
        let of_one = target.strip_prefix("ServiceRequest?_id=");
        if let Some(status) = self.all.filter(|_| !is_search || of_one.is_some()) {
            return (status, Value::Null);
        }
        if is_search {
            let requests = self.resources.iter().filter(|(address, _)| address.starts_with("ServiceRequest/"));
            let found = requests.filter(|(address, _)| of_one.is_none_or(|id| address.ends_with(&format!("/{id}"))));
            let entries: Vec<Value> = found.map(|(_, resource)| json!({ "resource": resource })).collect();
            return (200, json!({ "resourceType": "Bundle", "type": "searchset", "entry": entries }));
        }
        self.reads += 1;
        match (self.trouble.get(target), self.resources.get(target)) {
            (Some(status), _) => (*status, Value::Null),
            (None, Some(resource)) => (200, resource.clone()),
            (None, None) => (404, Value::Null),
        }
    }
}

struct Bench {
    data: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
    journal: Journal,
    shelf: Arc<Mutex<Shelf>>,
    config: Config,
    feed: Feed,
}

impl Bench {
    fn new() -> Bench {
        let data = tempfile::tempdir().unwrap();
        let journal = Journal::open(data.path(), &crate::journal::Config::default()).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let shelf = Arc::new(Mutex::new(Shelf::default()));
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}/fhir", listener.local_addr().unwrap());
        runtime.spawn(serve(listener, shelf.clone()));
        let config = Config { name: "ehr".into(), url, query: String::new(), plain: true, ..Config::default() };
        let feed = Feed::new(&config, &journal, &TimeZone::UTC, data.path());
        let bench = Bench { data, runtime, journal, shelf, config, feed };
        for patient in ["p1", "p2"] {
            let identifier = json!([{ "value": format!("MR-{patient}") }]);
            bench.put(json!({ "resourceType": "Patient", "id": patient, "identifier": identifier }));
        }
        bench
    }

    fn put(&self, resource: Value) {
        let text = |key: &str| resource[key].as_str().unwrap().to_owned();
        let address = format!("{}/{}", text("resourceType"), text("id"));
        self.shelf.lock().unwrap().resources.insert(address, resource);
    }

    /// A request for an echocardiogram under this number.
    fn request(&self, id: &str, patient: &str, number: &str) {
        self.put(json!({ "resourceType": "ServiceRequest", "id": id, "status": "active", "intent": "order",
                         "identifier": [{ "value": number }], "code": { "text": "Echo" },
                         "subject": { "reference": format!("Patient/{patient}") } }));
    }

    fn edit(&self, id: &str, key: &str, value: Value) {
        let mut shelf = self.shelf.lock().unwrap();
        shelf.resources.get_mut(&format!("ServiceRequest/{id}")).unwrap()[key] = value;
    }

    /// The server answers so for this address; with 0 as it should.
    fn trouble(&self, address: &str, status: u16) {
        let mut shelf = self.shelf.lock().unwrap();
        match status {
            0 => drop(shelf.trouble.remove(address)),
            status => drop(shelf.trouble.insert(address.to_owned(), status)),
        }
    }

    fn take_away(&self, id: &str) -> Value {
        self.shelf.lock().unwrap().resources.remove(&format!("ServiceRequest/{id}")).unwrap()
    }

    /// So many rounds, each of which looks at open orders.
    fn rounds(&mut self, many: usize) {
        for _ in 0..many {
            self.feed.laps.began = None;
            self.runtime.block_on(self.feed.round()).unwrap();
        }
    }

    /// A round at a time when everything that was set aside is due.
    fn when_due(&mut self) {
        self.feed.aside = Aside::of(&self.feed.aside.ids(), Instant::now());
        self.rounds(1);
    }

    /// The gateway stops, and starts with these settings.
    fn restart(&mut self, query: &str) {
        self.config.query = query.to_owned();
        self.feed = Feed::new(&self.config, &self.journal, &TimeZone::UTC, self.data.path());
    }

    fn orders(&self) -> Vec<StoredOrder> {
        let mut orders = self.journal.reader().unwrap().work_orders(false, 999).unwrap();
        orders.reverse();
        orders
    }

    /// Numbers and patients of the open orders.
    fn open(&self) -> Vec<(String, String)> {
        let open = self.orders().into_iter().filter(|stored| stored.status.is_open());
        let text = |phi: &crate::clinical::Phi| phi.expose().to_owned();
        open.map(|stored| (text(&stored.order.number().id), text(&stored.order.patient.patient.id))).collect()
    }

    fn numbers(&self) -> Vec<String> {
        self.open().into_iter().map(|(number, _)| number).collect()
    }

    fn entries(&self) -> usize {
        self.journal.reader().unwrap().search(&Query { limit: 999, ..Query::default() }).unwrap().len()
    }

    fn counted(&self, reason: &str) -> u64 {
        self.feed.counters.health().reasons.get(reason).copied().unwrap_or_default()
    }
}

async fn serve(listener: TcpListener, shelf: Arc<Mutex<Shelf>>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let shelf = shelf.clone();
        tokio::spawn(async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                match stream.read_u8().await {
                    Ok(byte) => head.push(byte),
                    Err(_) => return,
                }
            }
            let head = String::from_utf8_lossy(&head).into_owned();
            let (status, body) = shelf.lock().unwrap().answer(head.split(' ').nth(1).unwrap());
            let body = body.to_string();
            let answer = format!(
                "HTTP/1.1 {status} X\r\ncontent-type: application/fhir+json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
            let _ = stream.write_all(answer.as_bytes()).await;
        });
    }
}

fn study(stored: &StoredOrder) -> &str {
    &stored.order.imaging.as_ref().unwrap().procedures[0].study_instance_uid
}

#[test]
fn i13_of_two_requests_under_one_number_the_second_waits_and_takes_nothing_from_the_first() {
    let mut bench = Bench::new();
    bench.request("1", "p1", "ACC");
    bench.request("2", "p2", "ACC");
    bench.rounds(3);
    let first = bench.orders().remove(0);
    assert_eq!(bench.open(), [("ACC".into(), "MR-p1".into())]);
    assert_eq!(bench.counted("a ServiceRequest has the number of another one that is open"), 1);
    // Neither does the second take the first back.
    bench.edit("2", "status", "revoked".into());
    bench.when_due();
    assert_eq!(bench.open(), [("ACC".into(), "MR-p1".into())]);
    bench.edit("2", "status", "active".into());
    bench.edit("1", "status", "revoked".into());
    bench.rounds(1);
    bench.when_due();
    assert_eq!(bench.open(), [("ACC".into(), "MR-p2".into())]);
    assert_ne!(study(bench.orders().last().unwrap()), study(&first));
}

#[test]
fn i13_a_request_that_turns_out_to_be_for_another_patient_is_another_study() {
    let mut bench = Bench::new();
    bench.request("1", "p1", "A");
    bench.rounds(1);
    bench.edit("1", "priority", "stat".into());
    bench.rounds(1);
    bench.edit("1", "subject", json!({ "reference": "Patient/p2" }));
    bench.rounds(2);
    let orders = bench.orders();
    let kept: Vec<(OrderStatus, &str)> = orders.iter().map(|stored| (stored.status, study(stored))).collect();
    assert_eq!(kept.len(), 3);
    assert_eq!(kept[0].1, kept[1].1, "a change keeps the study");
    assert_eq!((kept[1].0, kept[2].0), (OrderStatus::Cancelled, OrderStatus::Requested));
    assert_ne!(kept[2].1, kept[1].1);
    assert_eq!(bench.open(), [("A".into(), "MR-p2".into())]);
}

#[test]
fn what_counts_is_what_a_request_says_and_where_its_order_stands() {
    let mut bench = Bench::new();
    bench.request("1", "p1", "A");
    for second in 10..20 {
        bench.edit("1", "meta", json!({ "lastUpdated": format!("2026-03-01T08:00:{second}Z") }));
        bench.rounds(1);
    }
    assert_eq!((bench.orders().len(), bench.entries()), (1, 1), "a server may stamp what nobody changed");
    // To and fro with the very same bytes.
    for _ in 0..2 {
        for (status, on_hold) in [("on-hold", true), ("active", false)] {
            bench.edit("1", "status", status.into());
            bench.rounds(1);
            assert_eq!(bench.orders().last().unwrap().on_hold, on_hold, "{status}");
        }
    }
    assert_eq!(bench.open().len(), 1);
    // What a person took back stays so, while the EHR says nothing new.
    let id = bench.orders().last().unwrap().id;
    let cancel = crate::journal::OperatorAction::CancelOrders { orders: vec![id] };
    assert_eq!(bench.journal.operate(cancel).unwrap().done, 1);
    bench.restart("");
    bench.rounds(2);
    assert!(bench.open().is_empty());
    // What the EHR took back, and gives again with the very same bytes, is ordered again.
    bench.request("2", "p1", "B");
    for (status, open) in [("active", 1), ("revoked", 0), ("active", 1), ("revoked", 0), ("active", 1)] {
        bench.edit("2", "status", status.into());
        bench.rounds(2);
        assert_eq!(bench.open().len(), open, "{status}");
    }
}

#[test]
fn a_number_that_the_filler_adds_changes_the_order_and_another_number_replaces_it_in_one() {
    let mut bench = Bench::new();
    bench.request("1", "p1", "U-1");
    bench.rounds(1);
    let filler = json!({ "type": { "coding": [{ "code": "FILL" }] }, "value": "F-1" });
    bench.edit("1", "identifier", json!([{ "value": "U-1" }, filler]));
    bench.rounds(2);
    assert_eq!((bench.numbers(), bench.entries()), (vec!["U-1".to_owned()], 2));
    bench.shelf.lock().unwrap().trouble.clear();
    // The search does not show it: only a look at the order does.
    let entries = bench.entries();
    bench.feed.seen.clear();
    bench.edit("1", "identifier", json!([{ "value": "U-2" }]));
    let (known, asked) = {
        let reader = bench.journal.reader().unwrap();
        let known = known::Known::read(&reader, bench.orders().last().unwrap().id).unwrap().unwrap();
        (known, bench.shelf.lock().unwrap().resources["ServiceRequest/1"].to_string().into_bytes())
    };
    let Some(known::Shown::Changed(changed)) = known.shown(asked, &bench.feed.wanted) else { panic!("it changed") };
    assert!(bench.runtime.block_on(bench.feed.look_again(changed)).is_ok_and(|is_new| is_new));
    assert_eq!((bench.numbers(), bench.entries()), (vec!["U-2".to_owned()], entries + 1), "one commit");
}

#[test]
fn an_order_goes_only_when_the_server_surely_has_its_request_no_more() {
    let mut bench = Bench::new();
    for id in ["1", "2", "3", "4"] {
        bench.request(id, "p1", id);
    }
    bench.rounds(1);
    // A route, or a tenant, that is not the one.
    for status in [404, 410] {
        bench.shelf.lock().unwrap().all = Some(status);
        bench.rounds(4);
        assert_eq!(bench.numbers(), ["1", "2", "3", "4"], "{status} of everything");
    }
    assert!(bench.counted(NONE_SHOWN) > 0);
    bench.shelf.lock().unwrap().all = None;
    // One that is not shown by its address, and is found by its id.
    bench.trouble("ServiceRequest/2", 404);
    bench.rounds(4);
    assert_eq!(bench.numbers(), ["1", "2", "3", "4"]);
    bench.trouble("ServiceRequest/2", 0);

    let gone = bench.take_away("3");
    bench.rounds(1);
    assert_eq!(bench.numbers(), ["1", "2", "3", "4"], "once is not enough");
    bench.rounds(1);
    assert_eq!(bench.numbers(), ["1", "2", "4"]);
    bench.take_away("4");
    bench.trouble("ServiceRequest/4", 410);
    bench.rounds(1);
    assert_eq!(bench.numbers(), ["1", "2"], "the server says so itself");
    // The very same bytes.
    bench.put(gone);
    bench.rounds(3);
    assert_eq!(bench.numbers(), ["1", "2", "3"], "what is shown again is ordered again, once");
}

#[test]
fn the_only_order_goes_when_the_server_still_has_its_patient() {
    let mut bench = Bench::new();
    bench.request("1", "p1", "1");
    bench.rounds(1);
    bench.take_away("1");
    bench.trouble("Patient/p1", 404);
    bench.feed.laps.witness = None;
    bench.rounds(3);
    assert_eq!(bench.numbers(), ["1"], "an empty server");
    bench.trouble("Patient/p1", 0);
    bench.rounds(3);
    assert!(bench.numbers().is_empty());
}

#[test]
fn all_orders_go_when_the_server_still_has_a_patient_of_theirs() {
    for status in [404, 410] {
        let mut bench = Bench::new();
        for (id, patient) in [("1", "p1"), ("2", "p1"), ("3", "p2")] {
            bench.request(id, patient, id);
        }
        bench.rounds(1);
        for id in ["1", "2", "3"] {
            bench.take_away(id);
            bench.trouble(&format!("ServiceRequest/{id}"), status);
        }
        // The patient of two of them went too.
        bench.trouble("Patient/p1", status);
        // A server with other people under the same ids.
        let own = bench.shelf.lock().unwrap().resources["Patient/p2"].clone();
        bench.put(json!({ "resourceType": "Patient", "id": "p2", "identifier": [{ "value": "MR-other" }] }));
        bench.rounds(4);
        assert_eq!(bench.numbers(), ["1", "2", "3"], "{status}");
        assert!(bench.counted(NONE_SHOWN) > 0);
        bench.put(own);
        bench.rounds(4);
        assert!(bench.numbers().is_empty(), "{status}: {:?}", bench.numbers());
    }
}

#[test]
fn the_only_order_goes_when_the_server_says_twice_that_it_is_gone_and_nobody_can_be_asked() {
    for is_contained in [true, false] {
        let mut bench = Bench::new();
        let within = |id: &str| {
            bench.request(id, "p1", id);
            if is_contained {
                let patient = json!({ "resourceType": "Patient", "id": "p", "identifier": [{ "value": "MR-p1" }] });
                bench.edit(id, "contained", json!([patient]));
                bench.edit(id, "subject", json!({ "reference": "#p" }));
            }
        };
        within("1");
        within("2");
        bench.rounds(1);
        // Of one of two this server never heard.
        for (address, status) in [("ServiceRequest/1", 410), ("ServiceRequest/2", 404), ("Patient/p1", 410)] {
            bench.trouble(address, status);
        }
        let (request, mut revoked) = (bench.take_away("1"), bench.take_away("2"));
        bench.rounds(4);
        assert_eq!(bench.numbers(), ["1", "2"], "{is_contained}");
        revoked["status"] = "revoked".into();
        bench.put(revoked);
        for (address, status) in [("ServiceRequest/1", 503), ("ServiceRequest/2", 0), ("Patient/p1", 0)] {
            bench.trouble(address, status);
        }
        bench.rounds(2);
        assert_eq!(bench.numbers(), ["1"], "{is_contained}");
        bench.take_away("2");
        for address in ["ServiceRequest/1", "ServiceRequest/2", "Patient/p1"] {
            bench.trouble(address, 410);
        }
        // A search finds it, or is not answered.
        bench.put(request);
        bench.rounds(4);
        bench.take_away("1");
        bench.shelf.lock().unwrap().all = Some(410);
        bench.rounds(4);
        assert_eq!(bench.numbers(), ["1"], "{is_contained}");
        bench.shelf.lock().unwrap().all = None;
        bench.restart("");
        bench.rounds(1);
        assert_eq!(bench.numbers(), ["1"], "{is_contained}: once is not enough");
        bench.rounds(1);
        assert!(bench.numbers().is_empty(), "{is_contained}");
    }
}

#[test]
fn orders_go_together_when_the_server_says_twice_of_each_that_it_is_gone_and_nobody_can_be_asked() {
    let mut bench = Bench::new();
    for id in ["1", "2", "3"] {
        bench.request(id, "p1", id);
    }
    bench.rounds(1);
    for address in ["ServiceRequest/1", "ServiceRequest/2", "ServiceRequest/3", "Patient/p1"] {
        bench.trouble(address, 410);
    }
    let all = ["1", "2", "3"].map(|id| bench.take_away(id));
    // Somebody who should be there is not, or is not shown.
    for status in [404, 403] {
        bench.trouble("Patient/p1", status);
        bench.rounds(4);
        assert_eq!(bench.numbers(), ["1", "2", "3"], "{status}");
    }
    bench.trouble("Patient/p1", 410);
    // One is found by its id, and stays by itself.
    bench.put(all[1].clone());
    bench.restart("");
    bench.rounds(1);
    assert_eq!(bench.numbers(), ["1", "2", "3"], "once is not enough");
    bench.rounds(1);
    assert_eq!(bench.numbers(), ["2"]);
    bench.take_away("2");
    bench.rounds(2);
    assert!(bench.numbers().is_empty());
}

#[test]
fn a_page_that_stands_for_every_request_is_none_of_them() {
    let mut bench = Bench::new();
    bench.request("1", "p1", "1");
    bench.request("2", "p1", "2");
    bench.rounds(1);
    bench.take_away("1");
    let other = json!({ "resourceType": "ServiceRequest", "id": "log-in", "status": "revoked" });
    bench.shelf.lock().unwrap().resources.insert("ServiceRequest/2".to_owned(), other);
    bench.trouble("Patient/p1", 404);
    bench.rounds(4);
    assert_eq!(bench.numbers(), ["1", "2"]);
}

#[test]
fn one_request_larger_than_what_is_read_stops_no_other_whatever_the_server_knows_of_a_search() {
    let mut bench = Bench::new();
    for id in ["1", "2", "3"] {
        bench.request(id, "p1", id);
    }
    bench.edit("2", "note", json!([{ "text": "x".repeat(9_000_000) }]));
    bench.edit("2", "meta", json!({ "versionId": "1" }));
    bench.rounds(2);
    assert_eq!(bench.numbers(), ["1", "3"]);
    assert_eq!(bench.counted(TOO_LARGE), 1, "once, not in each round");
    assert_eq!(bench.counted(LONG_PAGE), 2);
    // Two that are too long together come both.
    for id in ["2", "3"] {
        bench.edit(id, "note", json!([{ "text": "x".repeat(5_000_000) }]));
        bench.edit(id, "meta", json!({ "lastUpdated": "2026-03-01T08:00:00Z" }));
    }
    bench.rounds(1);
    let mut numbers = bench.numbers();
    numbers.sort();
    assert_eq!(numbers, ["1", "2", "3"]);
}

#[test]
fn on_a_long_page_what_may_have_changed_is_read_again_and_nothing_else() {
    let mut bench = Bench::new();
    let second = json!({ "lastUpdated": "2026-03-01T08:00:00Z" });
    let version = |id: &str| json!({ "versionId": id, "lastUpdated": "2026-03-01T08:00:00Z" });
    let metas = [("no", json!({})), ("second", second), ("version", version("1"))];
    for (id, meta) in metas {
        bench.request(id, "p1", id);
        bench.edit(id, "status", "draft".into());
        bench.edit(id, "meta", meta);
    }
    bench.request("long", "p1", "long");
    bench.edit("long", "note", json!([{ "text": "x".repeat(9_000_000) }]));
    bench.edit("long", "meta", json!({ "lastUpdated": "2026-03-01T08:00:00.5Z" }));
    bench.rounds(1);
    let reads = bench.shelf.lock().unwrap().reads;
    bench.rounds(1);
    let again = bench.shelf.lock().unwrap().reads - reads;
    // Each of the two with its patient.
    assert_eq!((bench.numbers().len(), again), (0, 4));
    for id in ["no", "second", "version"] {
        bench.edit(id, "status", "active".into());
    }
    bench.edit("version", "meta", version("2"));
    bench.rounds(1);
    assert_eq!((bench.numbers(), bench.counted(TOO_LARGE)), (vec!["no".into(), "second".into(), "version".into()], 1));
    let (orders, entries) = (bench.orders().len(), bench.entries());
    bench.rounds(2);
    assert_eq!((bench.orders().len(), bench.entries()), (orders, entries), "what is read again changes nothing");
}

#[test]
fn a_wrong_query_takes_nothing_back_that_the_right_one_does_not_bring_back() {
    let mut bench = Bench::new();
    bench.request("1", "p1", "1");
    bench.request("2", "p1", "2");
    bench.rounds(1);
    bench.restart("code=wrong");
    bench.rounds(3);
    assert_eq!(bench.numbers(), ["1", "2"]);
    assert!(bench.counted(NONE_SHOWN) > 0);
    bench.restart("");
    bench.edit("2", "status", "completed".into());
    bench.rounds(2);
    assert_eq!(bench.numbers(), ["1"]);
    bench.restart("code=wrong");
    bench.rounds(3);
    assert!(bench.numbers().is_empty(), "of one nobody can tell");
    bench.restart("");
    bench.rounds(3);
    assert_eq!(bench.numbers(), ["1"]);
}

#[test]
fn a_request_whose_patient_is_not_shown_waits_through_a_restart() {
    let mut bench = Bench::new();
    bench.request("1", "p1", "1");
    bench.request("2", "p2", "2");
    bench.trouble("Patient/p1", 404);
    bench.rounds(2);
    assert_eq!(bench.numbers(), ["2"]);
    let request = bench.take_away("1");
    bench.restart("");
    // Not in what the search gives now.
    bench.feed.seen.insert(page::digest_of(request.to_string().as_bytes()));
    bench.put(request);
    bench.trouble("Patient/p1", 0);
    bench.rounds(1);
    assert_eq!(bench.numbers(), ["2", "1"]);
    assert!(bench.feed.aside.ids().is_empty());
}

#[test]
fn what_always_fails_is_set_aside_and_those_behind_it_go_on() {
    let mut bench = Bench::new();
    bench.request("1", "p1", "1");
    bench.request("2", "p2", "2");
    bench.trouble("Patient/p1", 500);
    bench.rounds(3);
    assert_eq!(bench.numbers(), ["2"]);
    assert_eq!(bench.counted(SET_ASIDE), 1);
    let reads = bench.shelf.lock().unwrap().reads;
    bench.trouble("Patient/p1", 0);
    bench.when_due();
    assert_eq!(bench.numbers(), ["2", "1"]);
    assert!(bench.shelf.lock().unwrap().reads > reads);
    // An open order whose patient fails stops no look at the others.
    bench.edit("1", "priority", "stat".into());
    bench.edit("2", "status", "revoked".into());
    bench.feed.seen.clear();
    bench.trouble("Patient/p1", 500);
    bench.rounds(2);
    assert_eq!(bench.numbers(), ["1"]);
}

#[test]
fn a_server_that_fails_altogether_is_asked_again_from_where_it_failed() {
    let mut bench = Bench::new();
    for id in 1..=5 {
        bench.request(&id.to_string(), "p1", &id.to_string());
    }
    bench.trouble("Patient/p1", 503);
    assert!(bench.runtime.block_on(bench.feed.round()).is_err());
    assert_eq!(bench.feed.aside.ids().len(), FAILED_MAX);
    bench.trouble("Patient/p1", 0);
    bench.rounds(1);
    assert_eq!(bench.numbers().len(), 5);
}
