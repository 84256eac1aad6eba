//! Tries what a configuration names that the running one does not: its addresses are bound, its serial ports opened, its
//! destinations asked whether they let this box in. The running one goes on meanwhile.

use super::Why;
use super::health::place;
use crate::config::Config;
use crate::delivery::{self, reach};
use crate::link;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

/// A destination has to answer within this time.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Tries what is new or changed in `wanted`. What does not work is in the log.
///
/// # Errors
/// [`Why::PortTaken`] or [`Why::Unreachable`].
pub async fn probe(running: &Config, wanted: &Config) -> Result<(), Why> {
    let ours: BTreeSet<u16> = listens(running).iter().filter_map(|address| port(address)).collect();
    for address in listens(wanted) {
        // What the running one listens on is free once it stops.
        if port(&address).is_some_and(|port| ours.contains(&port)) {
            continue;
        }
        if let Err(error) = std::net::TcpListener::bind(&address) {
            tracing::warn!("the configuration does not run: {address} cannot be listened on: {error}");
            return Err(Why::PortTaken);
        }
    }
    for link in &wanted.links {
        let Some(port) = &link.serial else { continue };
        if running.links.iter().any(|other| other.serial.as_ref() == Some(port)) {
            continue;
        }
        if let Err(why) = link::serial::try_open(link, port) {
            tracing::warn!("the configuration does not run: {}: {why}", port.display());
            return Err(Why::PortTaken);
        }
    }
    for to in &wanted.destinations {
        // Whether one that stands where it did is well, its lane knows.
        if running.destinations.iter().any(|other| place(other) == place(to)) {
            continue;
        }
        if let Err(why) = reach(to).await {
            tracing::warn!("the configuration does not run: destination {}: {why}", to.name);
            return Err(Why::Unreachable);
        }
    }
    Ok(())
}

/// The destinations that can be reached now.
pub async fn reached(destinations: &[&delivery::Config]) -> BTreeSet<String> {
    let each = destinations.iter().map(|to| async move { reach(to).await.ok().map(|()| to.name.clone()) });
    futures_util::future::join_all(each).await.into_iter().flatten().collect()
}

/// Asks a destination what can be asked without a result.
async fn reach(to: &delivery::Config) -> Result<(), String> {
    match tokio::time::timeout(ANSWER_MAX, reach::greet(to)).await {
        Ok(answered) => answered.map(drop),
        Err(_) => Err(format!("no answer within {} s", ANSWER_MAX.as_secs())),
    }
}

fn listens(config: &Config) -> Vec<String> {
    let links = config.links.iter().filter_map(|link| link.listen.clone());
    let orders = config.orders.iter().map(|orders| orders.listen.clone());
    let dicom = config.dicom.iter().flat_map(|dicom| [dicom.listen.clone(), dicom.listen_tls.clone()]).flatten();
    let all: BTreeSet<String> = links.chain(orders).chain(dicom).collect();
    all.into_iter().collect()
}

fn port(address: &str) -> Option<u16> {
    address.parse::<SocketAddr>().ok().map(|address| address.port())
}
