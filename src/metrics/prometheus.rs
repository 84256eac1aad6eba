//! Prometheus's text exposition format, version 0.0.4. Pure.

use super::family::{BOUNDS_MS, Family, Kind, Times, Value};
use hyper::header::HeaderValue;
use std::fmt::Write;

/// Media type of [`text`].
pub const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// All figures. Names are those of OpenTelemetry as its rules for Prometheus spell them: with underscores, the unit
/// written out, and `_total` behind what only counts up.
pub fn text(families: &[Family]) -> String {
    let mut out = String::new();
    for family in families.iter().filter(|family| !family.points.is_empty()) {
        let name = name(family);
        let kind = match family.kind {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
            Kind::Histogram => "histogram",
        };
        let _ = writeln!(out, "# HELP {name} {}\n# TYPE {name} {kind}", family.help);
        for point in &family.points {
            let labels: Vec<String> =
                point.labels.iter().map(|(label, text)| format!("{label}=\"{}\"", escaped(text))).collect();
            let _ = match &point.value {
                Value::Number(figure) => writeln!(out, "{name}{} {figure}", braced(&labels)),
                Value::Times(times) => histogram(&mut out, &name, &labels, times),
            };
        }
    }
    out
}

fn name(family: &Family) -> String {
    let unit = match family.unit {
        "s" => "_seconds",
        "By" => "_bytes",
        _ => "",
    };
    let total = if family.kind == Kind::Counter { "_total" } else { "" };
    format!("{}{unit}{total}", family.name.replace('.', "_"))
}

fn histogram(out: &mut String, name: &str, labels: &[String], times: &Times) -> std::fmt::Result {
    let mut count = 0;
    let bounds = BOUNDS_MS.iter().map(|ms| seconds(*ms)).chain(["+Inf".to_owned()]);
    for (bound, more) in bounds.zip(times.counts) {
        count += more;
        let labels: Vec<String> = labels.iter().cloned().chain([format!("le=\"{bound}\"")]).collect();
        writeln!(out, "{name}_bucket{} {count}", braced(&labels))?;
    }
    let labels = braced(labels);
    writeln!(out, "{name}_sum{labels} {}\n{name}_count{labels} {count}", seconds(times.sum_ms))
}

fn braced(labels: &[String]) -> String {
    if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) }
}

/// Milliseconds as seconds, every digit of them.
pub(super) fn seconds(ms: u64) -> String {
    format!("{}.{:03}", ms / 1000, ms % 1000)
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::super::family::Point;
    use super::*;
    use crate::delivery::Latency;

    #[test]
    fn figures_are_written_as_prometheus_reads_them() {
        let latency = Latency::default();
        [3, 3, 20, 200_000_000].into_iter().for_each(|ms| latency.add(ms));
        let families = [
            Family::new("afferent.link.messages", "", Kind::Counter, "Messages.")
                .with(vec![Point::number([("link", "bench \"1\"\\\n")], 7), Point::number([], 8)]),
            Family::new("afferent.nothing", "", Kind::Gauge, "Nobody has one."),
            Family::new("afferent.lab_to_chart", "s", Kind::Histogram, "Times.")
                .with(vec![Point::times([("destination", "ehr")], &latency)]),
            Family::new("afferent.disk.free", "By", Kind::Gauge, "Bytes.").with(vec![Point::number([], 5)]),
        ];
        let text = text(&families);
        let start = "# HELP afferent_link_messages_total Messages.\n# TYPE afferent_link_messages_total counter\n\
             afferent_link_messages_total{link=\"bench \\\"1\\\"\\\\\\n\"} 7\nafferent_link_messages_total 8\n\
             # HELP afferent_lab_to_chart_seconds Times.\n# TYPE afferent_lab_to_chart_seconds histogram\n\
             afferent_lab_to_chart_seconds_bucket{destination=\"ehr\",le=\"0.007\"} 2\n\
             afferent_lab_to_chart_seconds_bucket{destination=\"ehr\",le=\"0.015\"} 2\n\
             afferent_lab_to_chart_seconds_bucket{destination=\"ehr\",le=\"0.031\"} 3\n";
        assert!(text.starts_with(start), "{text}");
        let end = "afferent_lab_to_chart_seconds_bucket{destination=\"ehr\",le=\"134217.727\"} 3\n\
             afferent_lab_to_chart_seconds_bucket{destination=\"ehr\",le=\"+Inf\"} 4\n\
             afferent_lab_to_chart_seconds_sum{destination=\"ehr\"} 200000.026\n\
             afferent_lab_to_chart_seconds_count{destination=\"ehr\"} 4\n\
             # HELP afferent_disk_free_bytes Bytes.\n# TYPE afferent_disk_free_bytes gauge\n\
             afferent_disk_free_bytes 5\n";
        assert!(text.ends_with(end), "{text}");
        assert!(!text.contains("nothing"));
    }
}
