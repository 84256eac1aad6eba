//! The order desk of a link: every instrument is told in its own driver's codes, also where several share a line, and
//! what is taken back reaches whoever has it.

use afferent::clinical::{OrderStatus, Phi};
use afferent::journal::OrderChange;

use crate::law::{Analyzer, LINK, cancellation, dial_in, field, order, place, placed_before, status};
use crate::rig::{Rig, code, free_port, health, link, listen, until};
use crate::worklists::{self, orders};

/// A driver whose instrument calls glucose so.
fn driver(rig: &Rig, id: &str, protocol: &str, glucose: &str, more: &str) {
    let folder = rig.path(&format!("drivers/{id}"));
    std::fs::create_dir_all(&folder).unwrap();
    let text = format!(
        "[identity]\nvendor = \"V\"\nmodel = \"M\"\nprotocol = \"{protocol}\"\n{more}\
         [orders.codes]\nGLU = [\"{glucose}\"]\n"
    );
    std::fs::write(folder.join("driver.toml"), text).unwrap();
}

/// The tables of two instruments that say who they are in this field.
fn listed(field: &str) -> String {
    let table = |name: &str| {
        format!(
            "[[link.instrument]]\nname = \"{name}\"\nwhere = [{{ field = \"{field}\", is = [\"{name}\"] }}]\n\
             driver = \"{name}\"\n"
        )
    };
    table("one") + &table("two")
}

#[tokio::test(flavor = "multi_thread")]
async fn i13_instruments_that_share_an_hl7_link_are_told_in_their_own_codes_and_a_stranger_nothing() {
    let (rig, port) = (Rig::new().await, free_port());
    driver(&rig, "one", "hl7", "G-1", "");
    driver(&rig, "two", "hl7", "G-2", "");
    let gateway = rig.gateway_with_drivers(&(link(LINK, "hl7", &listen(port)) + &listed("MSH.4"))).await;
    place(gateway.journal(), "E1", vec![order("A1", "TUBE1")]).await;
    let mut analyzer = dial_in(port).await;
    for (name, code) in [("one", "G-1"), ("two", "G-2")] {
        let query = crate::law::query(&format!("Q-{name}"), "TUBE1").replace("|AN|LAB|", &format!("|AN|{name}|"));
        analyzer.say(&query).await;
        assert_eq!(field(&analyzer.hear().await, "QAK", 2), "OK", "{name}");
        let orders = analyzer.hear().await;
        assert!(field(&orders, "OBR", 4).starts_with(&format!("{code}^")), "{name}: {orders}");
        analyzer.answer(&orders, "OK").await;
    }
    analyzer.say(&crate::law::query("Q-3", "TUBE1")).await;
    let answer = analyzer.hear().await;
    assert_eq!((code(answer.as_bytes()).as_str(), field(&answer, "QAK", 2)), ("AE", "AE"), "{answer}");
    let reasons = health(&gateway, LINK).reasons;
    assert_eq!(reasons["an instrument asked for orders that is none of those the link lists"], 1);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i13_instruments_that_share_an_astm_link_are_told_in_their_own_codes_and_a_stranger_nothing() {
    let (rig, port) = (Rig::new().await, free_port());
    driver(&rig, "one", "astm", "G-1", "[query]\n");
    driver(&rig, "two", "astm", "G-2", "[query]\n");
    let link = link(LINK, "astm", &format!("{}\ndriver = \"one\"", listen(port))) + &listed("H.5.1");
    let gateway = rig.gateway_with_drivers(&link).await;
    place(gateway.journal(), "E1", vec![order("A1", "TUBE1")]).await;
    tokio::task::spawn_blocking(move || {
        let mut analyzer = worklists::Analyzer::dial(port);
        for (name, told) in
            [("one", &["O|1|TUBE1||^^^G-1|R||||||A"][..]), ("two", &["O|1|TUBE1||^^^G-2|R||||||A"]), ("three", &[])]
        {
            let before = analyzer.messages.len();
            analyzer.say(&[&format!("H|\\^&|||{name}"), "Q|1|^TUBE1||ALL||||||||O", "L|1|N"]);
            analyzer.until("the query is answered", |analyzer| analyzer.messages.len() > before);
            assert_eq!(orders(&analyzer.messages[before]), told, "{name}");
        }
    })
    .await
    .unwrap();
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_astm_analyzer_that_asked_for_an_order_is_told_that_it_is_taken_back() {
    let (rig, port) = (Rig::new().await, free_port());
    driver(&rig, "one", "astm", "G-1", "[query]\n[orders]\ncancel_action = \"C\"\n");
    let gateway = rig.gateway_with_drivers(&link(LINK, "astm", &format!("{}\ndriver = \"one\"", listen(port)))).await;
    let journal = gateway.journal().clone();
    place(&journal, "E1", vec![order("A1", "TUBE1")]).await;
    let asking = tokio::task::spawn_blocking(move || {
        // Another connection of the same link asked nothing and has nothing.
        let idle = worklists::Analyzer::dial(port);
        let mut analyzer = worklists::Analyzer::dial(port);
        analyzer.say(&["H|\\^&|||one", "Q|1|^TUBE1||ALL||||||||O", "L|1|N"]);
        analyzer.until("the query is answered", |analyzer| analyzer.messages.len() == 1);
        (idle, analyzer)
    });
    let (_idle, mut analyzer) = asking.await.unwrap();
    until("the order is in progress", || status(&journal, "A1") == OrderStatus::InProgress).await;
    place(&journal, "E2", vec![cancellation("A1")]).await;
    let told = tokio::task::spawn_blocking(move || {
        analyzer.until("the cancellation comes", |analyzer| analyzer.messages.len() == 2);
        analyzer.messages.remove(1)
    });
    assert_eq!(orders(&told.await.unwrap()), ["O|1|TUBE1||^^^G-1|R||||||C"]);
    let tasks = || journal.reader().unwrap().link_tasks(LINK, 0, 10).unwrap().len();
    until("it is noted", || tasks() == 0).await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i13_of_two_analyzers_on_a_link_a_cancellation_goes_to_the_one_that_was_told_in_its_own_codes() {
    let (rig, port) = (Rig::new().await, free_port());
    for (id, glucose) in [("one", "G-1"), ("two", "G-2")] {
        let header = format!("header = [\"{id}\"]\nevidence = [\"made up\"]\n");
        driver(&rig, id, "astm", glucose, &format!("{header}[query]\n[orders]\ncancel_action = \"C\"\n"));
    }
    let gateway = rig.gateway_with_drivers(&link(LINK, "astm", &listen(port))).await;
    let journal = gateway.journal().clone();
    place(&journal, "E1", vec![order("A1", "TUBE1"), order("A2", "TUBE2")]).await;
    let asking = tokio::task::spawn_blocking(move || {
        [("one", "TUBE1"), ("two", "TUBE2")].map(|(name, tube)| {
            let mut analyzer = worklists::Analyzer::dial(port);
            analyzer.say(&[&format!("H|\\^&|||{name}"), &format!("Q|1|^{tube}||ALL||||||||O"), "L|1|N"]);
            analyzer.until("the query is answered", |analyzer| analyzer.messages.len() == 1);
            analyzer
        })
    });
    let [mut one, mut two] = asking.await.unwrap();
    until("both are in progress", || ["A1", "A2"].iter().all(|a| status(&journal, a) == OrderStatus::InProgress)).await;
    // The one that asked last first: the other would get it if the first to ask spoke for the link.
    for (analyzer, number, told) in
        [(&mut two, "A2", "O|1|TUBE2||^^^G-2|R||||||C"), (&mut one, "A1", "O|1|TUBE1||^^^G-1|R||||||C")]
    {
        place(&journal, &format!("E{number}"), vec![cancellation(number)]).await;
        tokio::task::block_in_place(|| {
            analyzer.until("the cancellation comes", |analyzer| analyzer.messages.len() == 2);
        });
        assert_eq!(orders(&analyzer.messages[1]), [told]);
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_taken_back_waits_on_a_line_for_orders_until_somebody_has_asked() {
    let (rig, port) = (Rig::new().await, free_port());
    let apart = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let line = format!("{}\norders_dial = \"{}\"", listen(port), apart.local_addr().unwrap());
    let gateway = rig.gateway(&link(LINK, "hl7", &line)).await;
    place(gateway.journal(), "E1", vec![order("A1", "TUBE1")]).await;
    let mut told = Analyzer::new(apart.accept().await.unwrap().0);
    let mut asking = dial_in(port).await;
    asking.say(&crate::law::query("Q1", "TUBE1")).await;
    let orders = told.hear().await;
    told.answer(&orders, "OK").await;
    let journal = gateway.journal().clone();
    until("it is in progress", || status(&journal, "A1") == OrderStatus::InProgress).await;
    gateway.stop().await;
    drop((told, asking, journal));

    placed_before(&rig.data(), "E2", vec![cancellation("A1")]).await;
    let gateway = rig.gateway(&link(LINK, "hl7", &line)).await;
    let mut told = Analyzer::new(apart.accept().await.unwrap().0);
    let mut asking = dial_in(port).await;
    asking.say(&crate::law::query("Q2", "TUBE9")).await;
    let mut messages = vec![told.hear().await];
    told.answer(&messages[0], "OK").await;
    messages.push(told.hear().await);
    let cancelled = messages.iter().filter(|message| field(message, "ORC", 1) == "CA");
    assert_eq!(cancelled.map(|message| field(message, "OBR", 2)).collect::<Vec<_>>(), ["A1"], "{messages:?}");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_comes_back_is_told_without_having_to_ask() {
    let (rig, port) = (Rig::new().await, free_port());
    let line = format!("{}\npush_orders = true\ndriver = \"generic-hl7\"", listen(port));
    let gateway = rig.gateway(&link(LINK, "hl7", &line)).await;
    let journal = gateway.journal().clone();
    let mut first = dial_in(port).await;
    place(&journal, "E1", vec![order("A1", "TUBE1")]).await;
    first.hear().await;
    // The instrument dials again while its old connection still seems to be there.
    let mut second = dial_in(port).await;
    until("both are open", || health(&gateway, LINK).open_connections == 2).await;
    drop(first);
    let told = second.hear().await;
    assert_eq!(field(&told, "ORC", 2), "A1", "what was not answered on the old one is told on the new one");
    second.answer(&told, "OK").await;
    until("the order is in progress", || status(&journal, "A1") == OrderStatus::InProgress).await;
    gateway.stop().await;
}

/// An order of another patient for a test no instrument here knows.
fn another_patients(number: &str, tube: &str) -> OrderChange {
    let OrderChange::New(mut change) = order(number, tube) else { unreachable!("it is a new one") };
    change.patient.patient.id = Phi::new("PAT8");
    change.tests[0].universal_service_id.code = "ELSEWHERE".into();
    OrderChange::New(change)
}

#[tokio::test(flavor = "multi_thread")]
async fn i13_a_tube_of_two_patients_is_not_told_and_does_not_stop_the_others() {
    let (rig, port) = (Rig::new().await, free_port());
    driver(&rig, "one", "hl7", "G-1", "");
    let line = format!("{}\npush_orders = true\ndriver = \"one\"", listen(port));
    let gateway = rig.gateway_with_drivers(&link(LINK, "hl7", &line)).await;
    let journal = gateway.journal().clone();
    let both = |n: usize| {
        let tube = format!("TUBE{n}");
        [order(&format!("A{n}"), &tube), another_patients(&format!("B{n}"), &tube)]
    };
    let mut changes: Vec<OrderChange> = (0..70).flat_map(both).collect();
    changes.push(order("A99", "TUBE99"));
    place(&journal, "E1", changes).await;
    let mut analyzer = dial_in(port).await;
    let told = analyzer.hear().await;
    assert_eq!(field(&told, "ORC", 2), "A99", "the only tube of one patient");
    analyzer.answer(&told, "OK").await;
    until("it is in progress", || status(&journal, "A99") == OrderStatus::InProgress).await;
    // The EHR takes the other patient's order back: now it is certain whose tube it is.
    place(&journal, "E2", vec![cancellation("B7")]).await;
    let told = analyzer.hear().await;
    assert_eq!(field(&told, "ORC", 2), "A7");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panel_of_the_ehr_is_told_as_the_tests_the_instrument_knows() {
    let (rig, port) = (Rig::new().await, free_port());
    let line = format!("{}\norder_codes = [\"GLU = GLUC, HBA1C\"]", listen(port));
    let gateway = rig.gateway(&link(LINK, "hl7", &line)).await;
    place(gateway.journal(), "E1", vec![order("A1", "TUBE1")]).await;
    let [_, orders] = dial_in(port).await.ask("Q1", "TUBE1").await;
    let tests: Vec<&str> = orders.split('\r').filter(|segment| segment.starts_with("OBR|")).collect();
    assert_eq!(tests.len(), 2, "{orders}");
    assert!(tests[0].contains("|A1||GLUC^") && tests[1].contains("|A1-2||HBA1C^"), "{orders}");
    gateway.stop().await;
}
