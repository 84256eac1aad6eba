//! What a site's monitoring reads: prometheus_client asks, and the messages that OpenTelemetry publishes read what a
//! collector is told. Python's packages are looked for below `AFFERENT_PEERS`, else where `tests/all` puts them.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use afferent::config;
use afferent::gateway::Gateway;
use serde_json::Value;

use crate::SOUND;
use crate::site::{SERUM_SPECIMEN, Site, WARD_SPECIMENS, free_port};

fn python() -> Option<PathBuf> {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers");
    let python = std::env::var_os("AFFERENT_PEERS").map_or(built, PathBuf::from).join("venv/bin/python");
    let imports = ["-c", "import prometheus_client, opentelemetry.proto.metrics.v1.metrics_pb2"];
    let has_them = Command::new(&python).args(imports).stderr(Stdio::null()).status();
    has_them.is_ok_and(|status| status.success()).then_some(python)
}

/// The figure of a sample with this label.
fn sample(read: &Value, family: &str, name: &str, label: (&str, &str)) -> f64 {
    let samples = read["prometheus"][family]["samples"].as_array().unwrap_or_else(|| panic!("no {family}: {read}"));
    let mut found = samples.iter().filter(|sample| sample[0] == name && sample[1][label.0] == label.1);
    found.next().unwrap_or_else(|| panic!("no {name} of {label:?}")).get(2).and_then(Value::as_f64).unwrap()
}

/// The first data point of a metric with this attribute.
fn data_point<'r>(read: &'r Value, name: &str, text: &str) -> &'r Value {
    let metrics = read["otlp"]["resourceMetrics"][0]["scopeMetrics"][0]["metrics"].as_array().unwrap();
    let metric = metrics.iter().find(|metric| metric["name"] == name).unwrap_or_else(|| panic!("no {name}: {read}"));
    let data = ["gauge", "sum", "histogram"].iter().find_map(|kind| metric[*kind]["dataPoints"].as_array()).unwrap();
    let of = |point: &&Value| text.is_empty() || point["attributes"][0]["value"]["stringValue"] == text;
    data.iter().find(of).unwrap()
}

#[test]
fn i8_prometheus_and_opentelemetry_read_what_the_box_counts_and_no_patient() {
    let Some(python) = python() else {
        return println!("left out: prometheus_client and opentelemetry-proto (not installed; tests/all does that)");
    };
    let site = Site::filled();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/metrics_reader.py");
    let ports = site.metrics.map(|port| port.to_string());
    let output = Command::new(python).arg(script).args(&ports).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let read: Value = serde_json::from_str(&text).unwrap();

    let on_ward = ("link", "ward");
    let ehr = ("destination", "ehr");
    let (ward, serum) = (WARD_SPECIMENS as f64, 6.0);
    let messages = sample(&read, "afferent_link_messages", "afferent_link_messages_total", on_ward);
    assert_eq!(messages, ward);
    let delivered = sample(&read, "afferent_destination_delivered", "afferent_destination_delivered_total", ehr);
    assert!(delivered > ward, "the ward's and the {serum} of the serum, {delivered} messages");
    let (times, kind) = ("afferent_lab_to_chart_seconds", &read["prometheus"]["afferent_lab_to_chart_seconds"]["type"]);
    assert_eq!(kind, "histogram");
    assert_eq!(sample(&read, times, "afferent_lab_to_chart_seconds_count", ehr), delivered);
    assert_eq!(sample(&read, times, "afferent_lab_to_chart_seconds_bucket", ("le", "+Inf")), delivered);
    let parked = "afferent_destination_parked";
    assert_eq!(sample(&read, parked, parked, ("destination", "registry")), ward);
    assert_eq!(read["prometheus"]["afferent_results_held"]["samples"][0][2], 1.0);

    assert_eq!(data_point(&read, "afferent.link.messages", "ward")["asInt"], (ward as u64).to_string());
    let point = data_point(&read, "afferent.lab_to_chart", "ehr");
    assert_eq!(point["count"], (delivered as u64).to_string());
    assert_eq!(point["bucketCounts"].as_array().unwrap().len(), point["explicitBounds"].as_array().unwrap().len() + 1);
    assert_eq!(data_point(&read, "afferent.results.held", "")["asInt"], "1");
    assert!(!text.contains(SERUM_SPECIMEN) && !text.contains("WARD"), "a specimen is in the metrics");
}

fn ask(port: u16, request: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.write_all(format!("{request} HTTP/1.1\r\nHost: box\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_come_and_go_with_the_configuration_and_are_only_read() {
    let dir = tempfile::tempdir().unwrap();
    let [link, first, second] = [(); 3].map(|()| free_port());
    let config = |listen: Option<u16>| {
        let metrics = listen.map_or(String::new(), |port| format!("[metrics]\nlisten = \"127.0.0.1:{port}\"\n"));
        let data = format!("[gateway]\ndata = {:?}\n[journal]\nfree_min_mb = 0\n", dir.path().join("data"));
        config::parse("gateway.toml", &format!("{data}{}{metrics}", SOUND.replace("4001", &link.to_string())))
            .unwrap_or_else(|faults| panic!("{faults}"))
            .config
    };

    // Nothing waits for the address.
    let asked = async |port: u16| {
        let patience = std::time::Instant::now();
        loop {
            match ask(port, "GET /metrics") {
                Ok(answer) => break answer,
                Err(error) => assert!(patience.elapsed() < std::time::Duration::from_secs(60), "{port}: {error}"),
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    let mut gateway = Gateway::start(&config(Some(first))).await.unwrap();
    assert!(asked(first).await.contains("\nafferent_build_info{version="));
    assert!(ask(first, "GET /").unwrap().starts_with("HTTP/1.1 404"));
    assert!(ask(first, "POST /metrics").unwrap().starts_with("HTTP/1.1 405"));
    gateway.apply(&config(Some(second))).await.unwrap();
    assert!(ask(first, "GET /metrics").is_err(), "nobody listens there any more");
    assert!(asked(second).await.starts_with("HTTP/1.1 200"));
    gateway.apply(&config(None)).await.unwrap();
    assert!(ask(second, "GET /metrics").is_err());
    let taken = std::net::TcpListener::bind(("127.0.0.1", first)).unwrap();
    gateway.apply(&config(Some(first))).await.unwrap();
    drop(taken);
    // It is taken once it is free again.
    asked(first).await;
    gateway.stop().await;
}
