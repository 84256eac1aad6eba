//! Orders the simulated EHR is asked for: ServiceRequests and Patients in a folder.
//!
//! Of a search only `_id`, `_lastUpdated=ge`, `_sort=_lastUpdated`, `_count`, `_include`, `_elements` and our own `_offset` are
//! heeded: like many a small server it knows no other parameter, and refuses a strict search that has one.

use hyper::Uri;
use hyper::header::{HOST, HeaderMap};
use serde_json::{Value, json};
use std::path::Path;

/// Most requests in a page, whatever is asked for.
const PAGE_MAX: usize = 20;

/// What it knows of a search.
const PARAMETERS: [&str; 7] = ["_id", "_lastUpdated", "_sort", "_count", "_include", "_elements", "_offset"];

/// Status and body of the answer to a GET.
pub(super) fn answer(folder: &Path, uri: &Uri, headers: &HeaderMap, is_tls: bool) -> (u16, Value) {
    let resources = resources(folder);
    let mut parts = uri.path().rsplit('/');
    let (last, before) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    if last == "ServiceRequest" {
        let is_strict = headers.get("prefer").is_some_and(|prefer| prefer == "handling=strict");
        let names = uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split('=').next());
        if is_strict && names.into_iter().any(|name| !PARAMETERS.contains(&name)) {
            return (400, outcome("not-supported"));
        }
        let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let scheme = if is_tls { "https" } else { "http" };
        return (200, search(&resources, uri, &format!("{scheme}://{host}{}", uri.path())));
    }
    match resources.into_iter().find(|resource| resource["resourceType"] == before && resource["id"] == last) {
        Some(resource) => (200, resource),
        None => (404, outcome("not-found")),
    }
}

fn outcome(code: &str) -> Value {
    json!({ "resourceType": "OperationOutcome", "issue": [{ "severity": "error", "code": code }] })
}

fn search(resources: &[Value], uri: &Uri, own: &str) -> Value {
    let asked: Vec<(&str, &str)> =
        uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('=')).collect();
    let value = |key: &str| asked.iter().find(|(name, _)| *name == key).map_or("", |(_, value)| *value);
    let since = value("_lastUpdated").trim_start_matches("ge");
    let count = value("_count").parse().unwrap_or(PAGE_MAX).clamp(1, PAGE_MAX);
    let offset: usize = value("_offset").parse().unwrap_or_default();
    let updated = |resource: &Value| resource["meta"]["lastUpdated"].as_str().unwrap_or_default().parse().ok();
    let mut found: Vec<(Option<jiff::Timestamp>, &Value)> = resources
        .iter()
        .filter(|resource| resource["resourceType"] == "ServiceRequest")
        .filter(|resource| ["", resource["id"].as_str().unwrap_or_default()].contains(&value("_id")))
        .map(|resource| (updated(resource), resource))
        .filter(|(at, _)| since.parse::<jiff::Timestamp>().map_or(true, |since| at.is_some_and(|at| at >= since)))
        .collect();
    found.sort_by_key(|(at, _)| *at);
    let page: Vec<&Value> = found.iter().skip(offset).take(count).map(|(_, resource)| *resource).collect();
    let shown = |resource: &Value| match value("_elements") {
        "" => resource.clone(),
        _ => json!({ "resourceType": "ServiceRequest", "id": resource["id"], "meta": resource["meta"] }),
    };
    let mut entries: Vec<Value> =
        page.iter().map(|resource| json!({ "resource": shown(resource), "search": { "mode": "match" } })).collect();
    if value("_include") == "ServiceRequest:subject" {
        let named = |patient: &Value| format!("Patient/{}", patient["id"].as_str().unwrap_or_default());
        let patients = resources.iter().filter(|resource| resource["resourceType"] == "Patient");
        let meant =
            patients.filter(|patient| page.iter().any(|p| p["subject"]["reference"] == named(patient).as_str()));
        entries.extend(meant.map(|patient| json!({ "resource": patient, "search": { "mode": "include" } })));
    }
    let mut links = Vec::new();
    if offset + count < found.len() {
        let kept: Vec<String> = asked
            .iter()
            .filter(|(name, _)| *name != "_offset")
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        links
            .push(json!({ "relation": "next", "url": format!("{own}?{}&_offset={}", kept.join("&"), offset + count) }));
    }
    json!({ "resourceType": "Bundle", "type": "searchset", "total": found.len(), "link": links, "entry": entries })
}

fn resources(folder: &Path) -> Vec<Value> {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<_> =
        files.map(|file| file.path()).filter(|file| file.extension().is_some_and(|e| e == "json")).collect();
    files.sort();
    let read = |file| serde_json::from_slice(&std::fs::read(file).ok()?).ok();
    files.into_iter().filter_map(read).collect()
}
