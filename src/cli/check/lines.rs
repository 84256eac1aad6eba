//! Who talks to the box and to whom it talks, a line each, as `afferent check` tells them.

use crate::config::Config;
use crate::delivery::{self, Protocol};
use serde::Serialize;

/// One line of the box.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Line {
    /// What it is: `dicom`, `modality`, `orders`, `order feed` or `destination`.
    pub kind: &'static str,
    /// Its name; the AE title of the box for `dicom`.
    pub name: String,
    /// Where it is, and what it is for.
    pub says: String,
}

/// All of them but the links.
pub(super) fn lines(config: &Config) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut add = |kind, name: &str, says: String| lines.push(Line { kind, name: name.to_owned(), says });
    if let Some(dicom) = &config.dicom {
        let ways = [("plain", &dicom.listen), ("TLS", &dicom.listen_tls)];
        let mut says: Vec<String> =
            ways.iter().filter_map(|(how, listen)| Some(format!("{how} on {}", listen.as_deref()?))).collect();
        let certified = dicom.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
        says.extend((dicom.listen_tls.is_some() && certified).then(|| "with client certificates".to_owned()));
        says.push(if dicom.only_known { "only modalities named here" } else { "whoever calls" }.to_owned());
        if !config.destinations.iter().any(delivery::Config::is_archive) {
            says.push(
                "images that are safe as a modality was told are never removed, for no archive takes any".to_owned(),
            );
        }
        add("dicom", &dicom.ae_title, says.join(", "));
    }
    for modality in &config.modalities {
        let from = if modality.peers.is_empty() { "anywhere".to_owned() } else { modality.peers.join(", ") };
        let told = modality.address.as_ref().map(|at| format!(", told of commitments at {at}")).unwrap_or_default();
        add("modality", &modality.name, format!("{} from {from}{told}", modality.ae_title));
    }
    for orders in &config.orders {
        add(
            "orders",
            &orders.name,
            format!("MLLP{} on {}", if orders.tls.is_some() { " over TLS" } else { "" }, orders.listen),
        );
    }
    for feed in &config.order_feeds {
        add("order feed", &feed.name, format!("ServiceRequests of {} every {} s", feed.url, feed.poll_s));
    }
    for destination in &config.destinations {
        add("destination", &destination.name, destination_says(destination));
    }
    lines
}

fn destination_says(destination: &delivery::Config) -> String {
    let place = destination.address.as_deref().or(destination.url.as_deref()).unwrap_or_default();
    let mut says = match destination.protocol {
        Protocol::Mllp => format!("results over MLLP to {place}"),
        Protocol::Fhir => format!("results over FHIR to {place}"),
        Protocol::Dicom => format!("images by C-STORE to {} at {place}", destination.called_ae_title()),
        Protocol::Stow => format!("images by STOW-RS to {place}"),
    };
    if destination.mpps {
        says += ", performed steps as well";
    }
    if destination.deidentify.is_some() {
        says += ", without their patient";
    }
    if !destination.coerce.is_empty() {
        says += &format!(", {} attributes coerced", destination.coerce.len());
    }
    let only = [
        ("from", &destination.links),
        ("from", &destination.calling_ae_titles),
        ("of modality", &destination.modalities),
        ("of", &destination.body_parts),
        ("described as", &destination.study_descriptions),
    ];
    for (how, list) in only.iter().filter(|(_, list)| !list.is_empty()) {
        says += &format!(", only {how} {}", list.join(" or "));
    }
    if !destination.windows.is_empty() {
        says += &format!(", {}", destination.windows.join(" and "));
    }
    says
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_says_where_it_is_and_what_it_is_for() {
        let config = crate::config::parse(
            "test.toml",
            "[dicom]\nae_title = \"BOX\"\nlisten = \"0.0.0.0:11112\"\n\
             [[modality]]\nname = \"echo-1\"\nae_title = \"VIVID\"\naddress = \"10.0.0.7:104\"\n\
             [[orders]]\nname = \"ris\"\nlisten = \"0.0.0.0:4100\"\n\
             [[order_feed]]\nname = \"ehr-orders\"\nurl = \"https://ehr.example/fhir\"\n\
             [[destination]]\nname = \"pacs\"\nprotocol = \"dicom\"\naddress = \"127.0.0.1:104\"\n\
             called_ae_title = \"PACS\"\nmpps = true\nmodalities = [\"US\", \"CT\"]\nwindows = [\"18:00-06:00\"]\n\
             [[destination]]\nname = \"research\"\nprotocol = \"stow\"\nurl = \"https://archive.example/dicom-web\"\n\
             deidentify = \"basic\"\n",
        );
        let told: Vec<String> =
            lines(&config.unwrap().config).into_iter().map(|l| format!("{} {}: {}", l.kind, l.name, l.says)).collect();
        assert_eq!(
            told,
            [
                "dicom BOX: plain on 0.0.0.0:11112, whoever calls",
                "modality echo-1: VIVID from anywhere, told of commitments at 10.0.0.7:104",
                "orders ris: MLLP on 0.0.0.0:4100",
                "order feed ehr-orders: ServiceRequests of https://ehr.example/fhir every 30 s",
                "destination pacs: images by C-STORE to PACS at 127.0.0.1:104, performed steps as well, only of modality \
                 US or CT, 18:00-06:00",
                "destination research: images by STOW-RS to https://archive.example/dicom-web, without their patient",
            ]
        );
    }
}
