//! `afferent orders VERB`: what the EHR ordered and where it stands.
//!
//! Patient data and order numbers are shown only when asked for (`--reveal`), as in `afferent journal`.

mod imaging;
mod links;

use super::journal::{Place, carry_out, now_ms, print_table, shown_age, shown_time};
use crate::audit::Act;
use crate::clinical::{OrderStatus, Phi};
use crate::config::Config;
use crate::journal::{OperatorAction, StoredOrder, WorkOrderId};
use clap::Subcommand;
use serde_json::{Value, json};
use std::process::ExitCode;

/// Orders listed unless told otherwise.
const LIMIT_DEFAULT: usize = 50;

/// See what the EHR ordered and where it stands.
///
/// Works beside a running gateway. Patient data is not shown unless asked for.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  afferent orders list                           what waits for results
  afferent orders list --specimen 4711 --all     every order on a specimen
  afferent orders show 17 --reveal               one order with its patient
  afferent orders cancel 17                      take it back")]
pub struct Orders {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List orders, the newest first; only open ones unless told otherwise.
    List(List),
    /// Show one order.
    Show(Show),
    /// Take orders back: instruments that have them are told, and results find them no more.
    Cancel(Cancel),
}

/// List orders, the newest first; only open ones unless told otherwise.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  afferent orders list\n  afferent orders list --all --json | jq '.[].status'")]
struct List {
    /// Those that are done or taken back as well
    #[arg(long)]
    all: bool,
    /// Only those on this specimen, exactly as it is named
    #[arg(long, value_name = "ID", conflicts_with = "number")]
    specimen: Option<String>,
    /// Only those under this placer or filler order number
    #[arg(long, value_name = "NUMBER")]
    number: Option<String>,
    /// Most orders to list
    #[arg(long, value_name = "N", default_value_t = LIMIT_DEFAULT)]
    limit: usize,
    /// Show numbers, specimens and patients
    #[arg(long)]
    reveal: bool,
}

/// Show one order.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  afferent orders show 17\n  afferent orders show 17 --reveal --json")]
struct Show {
    /// Its number in `afferent orders list`
    #[arg(value_name = "ORDER")]
    order: i64,
    /// Show numbers, specimen and patient
    #[arg(long)]
    reveal: bool,
}

/// Take orders back: instruments that have them are told, and results find them no more.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  afferent orders cancel 17\n  afferent orders cancel 17 18")]
struct Cancel {
    /// Their numbers in `afferent orders list`
    #[arg(value_name = "ORDER", required = true)]
    orders: Vec<i64>,
}

impl Orders {
    /// Does it.
    pub fn execute(self) -> anyhow::Result<ExitCode> {
        let place = self.place;
        match self.verb {
            Verb::List(list) => list.execute(&place),
            Verb::Show(show) => show.execute(&place),
            Verb::Cancel(cancel) => {
                let orders = cancel.orders.into_iter().map(WorkOrderId).collect();
                carry_out(&place, OperatorAction::CancelOrders { orders }, "cancelled")
            }
        }
    }
}

impl List {
    fn execute(self, place: &Place) -> anyhow::Result<ExitCode> {
        let reader = place.reader()?;
        let mut found = match (self.specimen.map(Phi::new), self.number.map(Phi::new)) {
            (Some(specimen), _) => reader.work_orders_on(&specimen)?,
            (None, Some(number)) => reader.work_orders_numbered(&number)?,
            (None, None) => reader.work_orders(!self.all, self.limit)?,
        };
        found.retain(|order| self.all || order.status.is_open());
        found.sort_by_key(|order| std::cmp::Reverse(order.id));
        found.truncate(self.limit);
        if self.reveal {
            place.note(Act::Listed { what: "orders" })?;
        }
        if place.json {
            let list: Vec<Value> = found.iter().map(|order| shown(order, self.reveal)).collect();
            println!("{}", Value::from(list));
            return Ok(ExitCode::SUCCESS);
        }
        let now = now_ms();
        let row = |stored: &StoredOrder| {
            let age = shown_age((now - stored.placed_ms).max(0));
            let tests: Vec<&str> = stored.order.tests.iter().map(|t| t.universal_service_id.code.as_str()).collect();
            let mut row = vec![stored.id.to_string(), standing(stored).into(), stored.source.clone(), age];
            row.push(tests.join(" "));
            if self.reveal {
                let order = &stored.order;
                let ids = [&order.placer_order_number.id, &order.specimen.id, &order.patient.patient.id];
                row.extend(ids.map(|id| id.expose().to_string()));
            }
            row
        };
        let head = ["order", "status", "from", "age", "tests", "number", "specimen", "patient"];
        let columns = if self.reveal { head.len() } else { head.len() - 3 };
        print_table(head.get(..columns).unwrap_or(&head), &found.iter().map(row).collect::<Vec<_>>());
        let counts = reader.work_order_counts()?;
        let counted = OrderStatus::ALL.iter().zip(counts).filter(|(_, n)| *n > 0);
        let counted: Vec<String> = counted.map(|(status, n)| format!("{n} {}", status.name())).collect();
        match counted.is_empty() {
            true => println!("no order came yet; [[orders]] in the configuration says where the EHR sends them"),
            false => println!("\n{}", counted.join(", ")),
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Show {
    fn execute(self, place: &Place) -> anyhow::Result<ExitCode> {
        let reader = place.reader()?;
        let stored = reader.work_order(WorkOrderId(self.order))?;
        if self.reveal {
            place.note(Act::Shown { what: "order", number: self.order })?;
        }
        let config = place.configuration()?;
        let registry = config.as_ref().map(Config::registry).transpose()?;
        let links = links::of(&reader, stored.id, &stored.order, config.as_ref().zip(registry.as_ref()))?;
        if place.json {
            let mut value = shown(&stored, self.reveal);
            if let Some(object) = value.as_object_mut() {
                object.insert("links".to_string(), serde_json::to_value(&links)?);
                if let Some(steps) = imaging::shown(&reader, &stored)? {
                    object.insert("steps".to_string(), steps);
                }
            }
            println!("{value}");
            return Ok(ExitCode::SUCCESS);
        }
        println!("order {} from {}: {}", stored.id, stored.source, standing(&stored));
        println!("came {}, changed {}", shown_time(stored.placed_ms), shown_time(stored.changed_ms));
        for test in &stored.order.tests {
            let coding = &test.universal_service_id;
            println!("  {} {} ({})", coding.code, coding.text, coding.system.hl7());
        }
        for line in imaging::lines(&reader, &stored)? {
            println!("{line}");
        }
        links::lines(&links).iter().for_each(|line| println!("{line}"));
        match self.reveal {
            true => println!("{}", serde_json::to_string_pretty(&stored.order)?),
            false => println!("numbers, specimen and patient: with --reveal"),
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Where an order stands, for people.
fn standing(stored: &StoredOrder) -> &'static str {
    match stored.on_hold && stored.status.is_open() {
        true => "on-hold",
        false => stored.status.name(),
    }
}

/// An order as JSON. Without `reveal` it holds no patient data and no number that leads to a patient.
fn shown(stored: &StoredOrder, reveal: bool) -> Value {
    let order = &stored.order;
    let mut value = json!({
        "order": stored.id,
        "source": stored.source,
        "status": stored.status,
        "on_hold": stored.on_hold,
        "placed_ms": stored.placed_ms,
        "changed_ms": stored.changed_ms,
        "priority": order.priority,
        "tests": order.tests,
        "has_specimen": !order.specimen.id.is_empty(),
    });
    if let Some(object) = value.as_object_mut().filter(|_| reveal) {
        object.insert("details".to_string(), serde_json::to_value(order).unwrap_or_default());
    }
    value
}
