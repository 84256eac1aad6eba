//! OTLP over HTTP with JSON: an `ExportMetricsServiceRequest` (OpenTelemetry protocol 1.x). Pure.

use super::family::{BOUNDS_MS, Family, Kind, Point, Times, Value};
use super::prometheus::seconds;
use jiff::Timestamp;
use serde_json::{Number, Value as Json, json};
use std::str::FromStr;

/// `AGGREGATION_TEMPORALITY_CUMULATIVE`.
const CUMULATIVE: u8 = 2;

/// All figures of the box of this name, which started at `started`, as they are `now`.
pub fn request(name: &str, started: Timestamp, now: Timestamp, families: &[Family]) -> Vec<u8> {
    let moments = Moments { started: nanoseconds(started), now: nanoseconds(now) };
    let metrics: Vec<Json> =
        families.iter().filter(|family| !family.points.is_empty()).map(|family| metric(family, &moments)).collect();
    let version = env!("CARGO_PKG_VERSION");
    let resource =
        [("service.name", "afferent"), ("service.instance.id", name), ("service.version", version)].map(attribute);
    let request = json!({ "resourceMetrics": [{
        "resource": { "attributes": resource },
        "scopeMetrics": [{ "scope": { "name": "afferent", "version": version }, "metrics": metrics }],
    }] });
    request.to_string().into_bytes()
}

/// Unix nanoseconds, as 64-bit numbers are written in JSON: as text.
struct Moments {
    started: String,
    now: String,
}

fn nanoseconds(at: Timestamp) -> String {
    at.as_nanosecond().to_string()
}

fn metric(family: &Family, moments: &Moments) -> Json {
    let points: Vec<Json> = family.points.iter().map(|point| data_point(point, moments)).collect();
    let unit = if family.unit.is_empty() { "1" } else { family.unit };
    let mut metric = json!({ "name": family.name, "description": family.help, "unit": unit });
    let (key, data) = match family.kind {
        Kind::Gauge => ("gauge", json!({ "dataPoints": points })),
        Kind::Counter => {
            ("sum", json!({ "dataPoints": points, "aggregationTemporality": CUMULATIVE, "isMonotonic": true }))
        }
        Kind::Histogram => ("histogram", json!({ "dataPoints": points, "aggregationTemporality": CUMULATIVE })),
    };
    metric[key] = data;
    metric
}

fn data_point(point: &Point, moments: &Moments) -> Json {
    let attributes: Vec<Json> = point.labels.iter().map(|(label, text)| attribute((label, text.as_str()))).collect();
    let mut data = json!({
        "attributes": attributes, "startTimeUnixNano": moments.started, "timeUnixNano": moments.now,
    });
    match &point.value {
        Value::Number(figure) => data["asInt"] = Json::String(figure.to_string()),
        Value::Times(Times { counts, sum_ms }) => {
            data["count"] = Json::String(counts.iter().sum::<u64>().to_string());
            data["sum"] = decimal(*sum_ms);
            data["bucketCounts"] = counts.iter().map(|count| Json::String(count.to_string())).collect();
            data["explicitBounds"] = BOUNDS_MS.iter().map(|ms| decimal(*ms)).collect();
        }
    }
    data
}

fn attribute((key, text): (&str, &str)) -> Json {
    json!({ "key": key, "value": { "stringValue": text } })
}

fn decimal(ms: u64) -> Json {
    Number::from_str(&seconds(ms)).map_or(Json::Null, Json::Number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::Latency;

    #[test]
    fn figures_are_written_as_a_collector_reads_them() {
        let latency = Latency::default();
        [3, 20].into_iter().for_each(|ms| latency.add(ms));
        let families = [
            Family::new("afferent.link.messages", "", Kind::Counter, "Messages.")
                .with(vec![Point::number([("link", "bench-1")], 7)]),
            Family::new("afferent.lab_to_chart", "s", Kind::Histogram, "Times.").with(vec![Point::times([], &latency)]),
            Family::new("afferent.disk.free", "By", Kind::Gauge, "Bytes.").with(vec![Point::number([], 5)]),
        ];
        let at = |second| Timestamp::from_second(second).unwrap();
        let request: Json =
            serde_json::from_slice(&request("bench", at(1_790_000_000), at(1_790_000_060), &families)).unwrap();
        let metrics = &request["resourceMetrics"][0]["scopeMetrics"][0]["metrics"];
        assert_eq!(
            metrics[0],
            json!({ "name": "afferent.link.messages", "description": "Messages.", "unit": "1", "sum": {
                "dataPoints": [{
                    "attributes": [{ "key": "link", "value": { "stringValue": "bench-1" } }],
                    "startTimeUnixNano": "1790000000000000000", "timeUnixNano": "1790000060000000000", "asInt": "7",
                }],
                "aggregationTemporality": 2, "isMonotonic": true,
            } })
        );
        let times = &metrics[1]["histogram"]["dataPoints"][0];
        assert_eq!((&times["count"], times["sum"].to_string()), (&json!("2"), "0.023".to_owned()));
        assert_eq!(times["bucketCounts"].as_array().map(Vec::len), Some(BOUNDS_MS.len() + 1));
        assert_eq!(times["explicitBounds"][0].to_string(), "0.007");
        assert_eq!(metrics[2]["gauge"]["dataPoints"][0]["asInt"], "5");
    }
}
