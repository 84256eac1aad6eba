//! A link's desk with a journal of its own, for the promises of this folder.

use super::{Host, OrderDesk};
use crate::clinical::{Coding, OrderNumber, OrderStatus, OrderedTest, Phi, WorkOrder};
use crate::driver::Registry;
use crate::journal::{self, Journal, OrderChange, WorkOrderId};
use crate::link::{Config, LinkCounters};
use crate::wire::{Persist, Protocol, Token};
use jiff::tz::TimeZone;
use std::sync::Arc;

pub struct Bench {
    pub desk: Arc<OrderDesk>,
    pub journal: Journal,
    _data: tempfile::TempDir,
}

impl Bench {
    pub fn new(push_orders: bool) -> Bench {
        let data = tempfile::tempdir().unwrap();
        let settings = journal::Config { free_min_mb: 0, ..journal::Config::default() };
        let journal = Journal::open(data.path(), &settings).unwrap();
        let mut config = Config {
            name: "chemistry".into(),
            protocol: Protocol::Hl7,
            driver: Some("generic-hl7".into()),
            push_orders,
            ..Config::default()
        };
        // Nobody else is expected to come back.
        config.timers.reconnect_max_ms = 0;
        let host = Arc::new(Host::new("GW", &TimeZone::UTC, Registry::builtin(), &journal));
        let counters = Arc::new(LinkCounters::new(&config.name, config.protocol));
        Bench { desk: OrderDesk::new(&host, &config, &counters), journal, _data: data }
    }

    /// The EHR orders glucose on a tube.
    pub async fn order(&self, number: &str) -> WorkOrderId {
        let mut order = WorkOrder {
            placer_order_number: OrderNumber::new(number),
            tests: vec![OrderedTest { universal_service_id: Coding::local("GLU", ""), alternate: None }],
            ..WorkOrder::default()
        };
        order.specimen.id = Phi::new("TUBE1");
        self.change(&format!("new {number}"), OrderChange::New(Box::new(order))).await;
        self.journal.reader().unwrap().work_orders_numbered(&Phi::new(number)).unwrap()[0].id
    }

    pub async fn take_back(&self, number: &str) {
        let becomes = OrderStatus::Cancelled;
        let change = OrderChange::TakeBack { number: OrderNumber::new(number), specimen: Phi::default(), becomes };
        self.change(&format!("cancel {number}"), change).await;
    }

    async fn change(&self, identity: &str, change: OrderChange) {
        let identity = Some(identity.as_bytes().to_vec());
        let part = Persist { token: Token(1), session: 1, bytes: b"MSH".to_vec(), completes: true, identity };
        let links = Arc::from([self.desk.config.name.clone()]);
        self.journal.persist_orders("ehr", 1, part, vec![change], None, links).await.unwrap();
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.journal.clone().close();
    }
}
