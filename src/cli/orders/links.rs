//! What the links do about an order: where it stands on each, and under which codes its tests go out there.

use crate::clinical::WorkOrder;
use crate::config::Config;
use crate::driver::Registry;
use crate::journal::{JournalError, LinkState, Reader, WorkOrderId};
use crate::link;
use serde::Serialize;

/// One link that is told of an order.
#[derive(Serialize)]
pub(super) struct OnLink {
    link: String,
    state: LinkState,
    /// The link's instruments whose drivers the site names; none when headers decide.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    instruments: Vec<OnInstrument>,
}

#[derive(Serialize)]
struct OnInstrument {
    name: String,
    driver: String,
    tests: Vec<Told>,
}

/// One ordered test in the instrument's words, or why it is not told.
#[derive(Serialize)]
struct Told {
    ordered: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    codes: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'static str>,
}

/// Where an order stands on every link it is for. Codes are only known with the configuration and its drivers.
pub(super) fn of(
    reader: &Reader,
    id: WorkOrderId,
    order: &WorkOrder,
    site: Option<(&Config, &Registry)>,
) -> Result<Vec<OnLink>, JournalError> {
    let states = reader.work_order_links(id)?;
    let on = |(name, state): (String, LinkState)| {
        let known = site.and_then(|(config, registry)| Some((config.links.iter().find(|l| l.name == name)?, registry)));
        let instruments = known.map(|(link, registry)| instruments(link, registry, order)).unwrap_or_default();
        OnLink { link: name, state, instruments }
    };
    Ok(states.into_iter().map(on).collect())
}

/// For people, a line each.
pub(super) fn lines(links: &[OnLink]) -> Vec<String> {
    let mut lines = Vec::new();
    for on in links {
        lines.push(format!("link {}: {}", on.link, on.state.words()));
        for instrument in &on.instruments {
            for Told { ordered, codes, why } in &instrument.tests {
                let told = why.map_or_else(|| format!("as {}", codes.join(", ")), str::to_string);
                lines.push(format!("  {ordered} to {} ({}): {told}", instrument.name, instrument.driver));
            }
        }
    }
    lines
}

fn instruments(link: &link::Config, registry: &Registry, order: &WorkOrder) -> Vec<OnInstrument> {
    let listed = link.instrument.iter().map(|i| (i.name.as_str(), i.driver.as_deref().or(link.driver.as_deref())));
    let alone = link.instrument.is_empty().then_some((link.name.as_str(), link.driver.as_deref()));
    let named = alone.into_iter().chain(listed).filter_map(|(name, driver)| Some((name, registry.get(driver?)?)));
    let codes = link.site_codes();
    named
        .map(|(name, driver)| OnInstrument {
            name: name.to_string(),
            driver: driver.id.clone(),
            tests: order
                .tests
                .iter()
                .map(|test| {
                    let ordered = test.universal_service_id.code.clone();
                    match driver.codes_to_order(&codes, test) {
                        Ok(codes) => Told { ordered, codes: codes.into_iter().map(|c| c.code).collect(), why: None },
                        Err(why) => Told { ordered, codes: Vec::new(), why: Some(why) },
                    }
                })
                .collect(),
        })
        .collect()
}
