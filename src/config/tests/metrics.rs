//! Wrong settings of metrics: each is refused at its line, with what to do.

use super::*;

#[test]
fn what_keeps_metrics_from_being_told_is_told() {
    for (table, expected) in [
        ("", Some("this table serves nobody")),
        ("listen = \"127.0.0.1:9464\"", None),
        ("listen = \"9464\"", Some("`9464` is no address to listen on")),
        ("otlp = \"https://collector.example:4318/v1/metrics\"", None),
        ("otlp = \"collector.example:4318\"", Some("no address of a collector")),
        ("listen = \"127.0.0.1:9464\"\nevery_s = 0", Some("`every_s` must be from 1 to 3600")),
        ("listne = \"127.0.0.1:9464\"", Some("unknown setting `listne`")),
        ("otlp = \"https://c.example/v1\"\n[metrics.tls]\nca = \"absent.pem\"", Some("cannot read")),
    ] {
        let found = faults(&format!("{SOUND}[metrics]\n{table}\n"));
        match expected {
            None => assert_eq!(found, [], "{table}"),
            Some(expected) => {
                assert!(matches!(found.as_slice(), [(_, told)] if told.contains(expected)), "{table}: {found:?}");
            }
        }
    }
}
