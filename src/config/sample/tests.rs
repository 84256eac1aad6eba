//! Writes the sample from the structs it describes, and proves that the one compiled in is the same.

use super::SAMPLE;
use crate::config::{Config, Gateway, load, schema};
use crate::fleet::envelope::Operator;
use crate::rules::Rule;
use crate::wire::line::framing::{Check, Framing, Length};
use crate::{board, delivery, fleet, imaging, journal, link, mapping, metrics, orders, tls, update, watch};
use serde::de::{DeserializeOwned, Deserializer, Visitor};
use serde_json::Value;

/// Columns of a comment line.
const WIDTH: usize = 110;

/// Lists of tables that are shown as tables.
const SHOWN_APART: [&str; 3] = ["fleet.operator", "watch.link", "board.port"];

/// Examples of settings that are the same in every table that has them.
const EVERYWHERE: [(&str, &str); 3] = [
    (".tls.proxy", r#""http://proxy.example:3128""#),
    (".tls.proxy_user", r#""afferent""#),
    (".tls.proxy_password_file", r#""/etc/afferent/proxy.password""#),
];

/// What a setting without a default is shown with. A path is looked up whole, then by its last part.
const EXAMPLES: &[(&str, &str)] = &[
    ("gateway.name", r#""bench-1""#),
    ("gateway.time_zone", r#""Europe/Berlin""#),
    ("gateway.drivers", r#""/etc/afferent/drivers""#),
    ("journal.key_file", r#""/etc/afferent/journal.key""#),
    ("link.serial", r#""/dev/serial/by-id/usb-FTDI_FT232R-if00-port0""#),
    ("link.dial", r#""10.0.0.5:4001""#),
    ("link.orders_dial", r#""10.0.0.5:4002""#),
    ("link.directory", r#""/srv/pcr""#),
    ("link.files.trigger", r#"".ok""#),
    ("link.baud", "9600"),
    ("link.data_bits", "8"),
    ("link.parity", r#""none""#),
    ("link.stop_bits", "1"),
    ("link.flow_control", r#""none""#),
    ("link.operators", r#""/etc/afferent/operators.csv""#),
    ("link.driver", r#""roche-cobas-c311""#),
    ("link.time_zone", r#""Europe/Berlin""#),
    ("link.charset", r#""latin-1""#),
    ("link.framing.start", r#""<STX>""#),
    ("link.framing.between", r#""<ETX>""#),
    ("link.framing.idle_ms", "2000"),
    ("link.framing.first_line", r#""^REPORT""#),
    ("link.framing.last_line", r#""^END""#),
    ("link.framing.ack", r#""<ACK>""#),
    ("link.framing.ack_echo", "1"),
    ("link.framing.nak", r#""<NAK>""#),
    ("link.framing.reply_within_ms", "2500"),
    ("link.framing.length.at", "1"),
    ("link.timers.frame_timeout_ms", "30000"),
    ("link.timers.reply_timeout_ms", "9000"),
    ("link.timers.message_timeout_ms", "30000"),
    ("link.tls.cert", r#""/etc/afferent/link.pem""#),
    ("link.tls.key", r#""/etc/afferent/link.key""#),
    ("link.tls.client_ca", r#""/etc/afferent/instruments.pem""#),
    ("dicom.listen", r#""0.0.0.0:11112""#),
    ("dicom.listen_tls", r#""0.0.0.0:2762""#),
    ("dicom.tls.cert", r#""/etc/afferent/link.pem""#),
    ("dicom.tls.key", r#""/etc/afferent/link.key""#),
    ("dicom.tls.client_ca", r#""/etc/afferent/modalities.pem""#),
    ("modality.name", r#""echo-1""#),
    ("modality.ae_title", r#""VIVID""#),
    ("modality.address", r#""10.0.0.7:104""#),
    ("orders.name", r#""hospital""#),
    ("orders.listen", r#""0.0.0.0:4100""#),
    ("orders.specimen_field", r#""OBR-3.1""#),
    ("orders.time_zone", r#""Europe/Berlin""#),
    ("orders.charset", r#""latin-1""#),
    ("orders.tls.cert", r#""/etc/afferent/link.pem""#),
    ("orders.tls.key", r#""/etc/afferent/link.key""#),
    ("orders.tls.client_ca", r#""/etc/afferent/ehr.pem""#),
    ("order_feed.name", r#""ehr-orders""#),
    ("order_feed.url", r#""https://ehr.example/fhir""#),
    ("order_feed.tls.cert", r#""/etc/afferent/gateway.pem""#),
    ("order_feed.tls.key", r#""/etc/afferent/gateway.key""#),
    ("order_feed.oauth.token_url", r#""https://ehr.example/token""#),
    ("order_feed.oauth.client_id", r#""bench-1""#),
    ("order_feed.oauth.key_file", r#""/etc/afferent/oauth.key""#),
    ("order_feed.oauth.kid", r#""2026-01""#),
    ("order_feed.oauth.scope", r#""system/ServiceRequest.rs system/Patient.rs""#),
    ("worklist.character_set", r#""ISO_IR 100""#),
    ("destination.url", r#""https://ehr.example/fhir""#),
    ("destination.sending_application", r#""AFFERENT""#),
    ("destination.sending_facility", r#""LAB""#),
    ("destination.receiving_application", r#""EHR""#),
    ("destination.receiving_facility", r#""HOSPITAL""#),
    ("destination.patient_authority", r#""HOSPITAL""#),
    ("destination.called_ae_title", r#""PACS""#),
    ("destination.calling_ae_title", r#""AFFERENT""#),
    ("destination.deidentify", r#""basic""#),
    ("destination.coerce", r#"[{ tag = "0008,0080", set = "HOSPITAL" }, { tag = "0010,1040", remove = true }]"#),
    ("destination.fhir.patient_system", r#""urn:oid:2.16.840.1.113883.19.5""#),
    ("destination.fhir.specimen_system", r#""urn:oid:2.16.840.1.113883.19.6""#),
    ("destination.fhir.order_system", r#""https://ehr.example/orders""#),
    ("destination.fhir.gateway_system", r#""https://hospital.example/afferent""#),
    ("destination.imaging.wado_rs", r#""https://pacs.example/dicom-web""#),
    ("destination.imaging.accession_system", r#""https://ris.example/accessions""#),
    ("destination.tls.cert", r#""/etc/afferent/gateway.pem""#),
    ("destination.tls.key", r#""/etc/afferent/gateway.key""#),
    ("destination.oauth.token_url", r#""https://ehr.example/token""#),
    ("destination.oauth.client_id", r#""bench-1""#),
    ("destination.oauth.key_file", r#""/etc/afferent/oauth.key""#),
    ("destination.oauth.kid", r#""2026-01""#),
    ("destination.oauth.scope", r#""system/*.cud""#),
    ("board.definition", r#""cm4-carrier-1""#),
    ("board.page", r#""https://10.0.0.5:8443/""#),
    ("board.folder", r#""/tmp/board""#),
    ("board.port.name", r#""serial-1""#),
    ("board.port.mode", r#""rs485""#),
    ("fleet.broker", r#""broker.example:8883""#),
    ("fleet.tenant", r#""acme""#),
    ("fleet.name", r#""bench-1""#),
    ("fleet.stick", r#""/media/afferent""#),
    ("fleet.enrol.url", r#""https://desk.example:8443""#),
    ("fleet.enrol.user", r#""bench-1""#),
    ("fleet.enrol.password_file", r#""/etc/afferent/enrol-password""#),
    ("fleet.sparkplug.group", r#""acme""#),
    ("fleet.sparkplug.node", r#""bench-1""#),
    ("fleet.sparkplug.primary_host", r#""scada""#),
    ("fleet.sparkplug.broker", r#""scada.example:8883""#),
    ("fleet.sparkplug.tls.server_name", r#""scada.example""#),
    ("fleet.sparkplug.tls.cert", r#""/etc/afferent/sparkplug.pem""#),
    ("fleet.sparkplug.tls.key", r#""/etc/afferent/sparkplug.key""#),
    ("fleet.tls.server_name", r#""broker.example""#),
    ("fleet.tls.cert", r#""/etc/afferent/box.pem""#),
    ("fleet.tls.key", r#""/etc/afferent/box.key""#),
    ("metrics.listen", r#""127.0.0.1:9464""#),
    ("metrics.otlp", r#""https://collector.example:4318/v1/metrics""#),
    ("metrics.tls.cert", r#""/etc/afferent/box.pem""#),
    ("metrics.tls.key", r#""/etc/afferent/box.key""#),
    ("metrics.tls.server_name", r#""collector.example""#),
    ("update.tls.server_name", r#""releases.example""#),
    ("update.tls.cert", r#""/etc/afferent/box.pem""#),
    ("update.tls.key", r#""/etc/afferent/box.key""#),
    ("fleet.operator.kid", r#""ops-1""#),
    ("fleet.operator.key", r#""JrQLj5P/89iXES9+vFgrIy29clF9CC/oPPsw3c5D0bs=""#),
    ("watch.syslog.to", r#""tls://log.example:6514""#),
    ("watch.syslog.tls.server_name", r#""log.example""#),
    ("watch.syslog.tls.cert", r#""/etc/afferent/box.pem""#),
    ("watch.syslog.tls.key", r#""/etc/afferent/box.key""#),
    ("watch.link.name", r#""chemistry""#),
    ("watch.link.silence_s", "3600"),
    ("watch.link.messages", "200"),
    ("gateway.rules", r#""/etc/afferent/rules.toml""#),
    ("rule.name", r#""potassium, critical""#),
    ("rule.kind", r#""critical""#),
    ("rule.analytes", r#"["2823-3", "K"]"#),
    ("rule.links", r#"["chemistry"]"#),
    ("rule.action", r#""hold""#),
    ("rule.unit", r#""mmol/L""#),
    ("rule.low", r#""2.8""#),
    ("rule.high", r#""6.2""#),
    ("rule.sex", r#""F""#),
    ("rule.age_min_days", "28"),
    ("rule.age_max_days", "6570"),
    ("rule.absolute", r#""1.0""#),
    ("rule.percent", r#""20""#),
    ("rule.within_days", "7"),
    ("rule.flags", r#"["A", "!"]"#),
    ("rule.controls", r#"[{ name = "CONTROL", lot = "4711", level = "1", low = "3.8", high = "4.4" }]"#),
    ("rule.max_age_hours", "24"),
    ("rule.reasons", r#"["failed-run"]"#),
    ("rule.prefix", r#""DIL:""#),
    ("rule.from", r#""mg/dL""#),
    ("rule.factor", r#""0.05551""#),
    ("rule.loinc", r#""14749-6""#),
    ("ca", r#""/etc/afferent/ca.pem""#),
    ("server_name", r#""ehr.example""#),
];

/// What makes the sample a configuration that works: the instrument and the EHR.
const ESSENTIALS: &[(&str, &str)] = &[
    ("link.name", r#""chemistry""#),
    ("link.listen", r#""0.0.0.0:4001""#),
    ("destination.name", r#""ehr""#),
    ("destination.address", r#""ehr.example:2575""#),
];

const HEAD: &str = "\
# Configuration of afferent: every setting with its default. Settings without a default are commented out.
# `afferent check FILE` tells what is wrong with a file; `afferent run --config FILE` uses it.
";

#[test]
fn the_sample_shows_every_setting_with_its_sentence_and_default() {
    let written = write_sample();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/sample.toml");
        std::fs::write(path, &written).unwrap();
    } else {
        let same = SAMPLE == written;
        assert!(same, "a setting changed: UPDATE_GOLDEN=1 cargo test --lib config::sample");
    }
}

#[test]
fn the_sample_is_sound_and_says_what_the_defaults_are() {
    let loaded = load::parse("sample.toml", SAMPLE).unwrap();
    let mut config = loaded.config;
    let (link, destination) = (&mut config.links[0], &mut config.destinations[0]);
    assert_eq!(link.name, "chemistry");
    *link = link::Config { name: String::new(), listen: None, ..link.clone() };
    *destination = delivery::Config { name: String::new(), address: None, tls: None, ..destination.clone() };
    let expected = Config {
        links: vec![link::Config::default()],
        destinations: vec![delivery::Config::default()],
        ..Config::default()
    };
    assert_eq!(serde_json::to_value(&config).unwrap(), serde_json::to_value(&expected).unwrap());
}

#[test]
fn what_the_sample_has_commented_out_is_well_formed_too() {
    let uncommented = |line: &str| match line.strip_prefix('#') {
        Some(setting) if setting.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') => setting.to_owned(),
        _ => line.to_owned(),
    };
    let text: Vec<String> = SAMPLE.lines().map(uncommented).collect();
    let text = text.join("\n");
    let document = toml::de::DeTable::parse(&text).unwrap();
    let found: Vec<String> = schema::compare(document.get_ref()).faults.into_iter().map(|f| f.message).collect();
    assert_eq!(found, Vec::<String>::new());
}

fn write_sample() -> String {
    let root = schema::schema();
    let defaults = serde_json::to_value(Config {
        links: vec![link::Config::default()],
        destinations: vec![delivery::Config::default()],
        ..Config::default()
    })
    .unwrap();
    let mut page = Page { root: &root, text: HEAD.to_owned(), announced: Vec::new() };
    page.table::<Gateway>("gateway", "[gateway]", &defaults["gateway"]);
    page.table::<journal::Config>("journal", "[journal]", &defaults["journal"]);
    page.table::<link::Config>("link", "[[link]]", &defaults["link"][0]);
    page.table::<link::config::Timers>("link.timers", "[link.timers]", &defaults["link"][0]["timers"]);
    page.table::<link::directory::Files>("link.files", "#[link.files]", &defaults["link"][0]["files"]);
    let framing = serde_json::to_value(Framing::default()).unwrap();
    page.table::<Framing>("link.framing", "#[link.framing]", &framing);
    let length = serde_json::to_value(Length::default()).unwrap();
    page.table::<Length>("link.framing.length", "#[link.framing.length]", &length);
    let check = serde_json::to_value(Check::default()).unwrap();
    page.table::<Check>("link.framing.check", "#[link.framing.check]", &check);
    page.table::<link::config::Tls>("link.tls", "#[link.tls]", &Value::Null);
    let dicom = serde_json::to_value(link::dicom::Config::default()).unwrap();
    page.table::<link::dicom::Config>("dicom", "#[dicom]", &dicom);
    page.table::<tls::ServerTls>("dicom.tls", "#[dicom.tls]", &Value::Null);
    let modality = serde_json::to_value(link::dicom::Modality::default()).unwrap();
    page.table::<link::dicom::Modality>("modality", "#[[modality]]", &modality);
    let orders = serde_json::to_value(orders::Config::default()).unwrap();
    page.table::<orders::Config>("orders", "#[[orders]]", &orders);
    page.table::<link::config::Tls>("orders.tls", "#[orders.tls]", &Value::Null);
    let feed = serde_json::to_value(orders::feed::Config::default()).unwrap();
    page.table::<orders::feed::Config>("order_feed", "#[[order_feed]]", &feed);
    page.table::<tls::ClientTls>("order_feed.tls", "#[order_feed.tls]", &Value::Null);
    let oauth = serde_json::to_value(delivery::config::OAuth::default()).unwrap();
    page.table::<delivery::config::OAuth>("order_feed.oauth", "#[order_feed.oauth]", &oauth);
    page.table::<orders::worklist::Config>("worklist", "[worklist]", &defaults["worklist"]);
    page.table::<imaging::Config>("imaging", "[imaging]", &defaults["imaging"]);
    page.table::<delivery::Config>("destination", "[[destination]]", &defaults["destination"][0]);
    page.table::<tls::ClientTls>("destination.tls", "[destination.tls]", &Value::Null);
    let fhir = &defaults["destination"][0]["fhir"];
    page.table::<mapping::FhirProfile>("destination.fhir", "[destination.fhir]", fhir);
    let of_imaging = &defaults["destination"][0]["imaging"];
    page.table::<mapping::imaging::ImagingProfile>("destination.imaging", "[destination.imaging]", of_imaging);
    page.table::<delivery::config::OAuth>("destination.oauth", "#[destination.oauth]", &oauth);
    let on_the_bus = serde_json::to_value(fleet::Config::default()).unwrap();
    page.table::<fleet::Config>("fleet", "#[fleet]", &on_the_bus);
    let operator = Operator { kid: String::new(), key: String::new(), may: Operator::everything() };
    let operator = serde_json::to_value(operator).unwrap();
    page.table::<Operator>("fleet.operator", "#[[fleet.operator]]", &operator);
    let enrol = serde_json::to_value(fleet::identity::est::Enrol::default()).unwrap();
    page.table::<fleet::identity::est::Enrol>("fleet.enrol", "#[fleet.enrol]", &enrol);
    let view = serde_json::to_value(fleet::sparkplug::Config::default()).unwrap();
    page.table::<fleet::sparkplug::Config>("fleet.sparkplug", "#[fleet.sparkplug]", &view);
    page.table::<tls::ClientTls>("fleet.sparkplug.tls", "#[fleet.sparkplug.tls]", &Value::Null);
    page.table::<tls::ClientTls>("fleet.tls", "#[fleet.tls]", &Value::Null);
    let metered = serde_json::to_value(metrics::Config::default()).unwrap();
    page.table::<metrics::Config>("metrics", "#[metrics]", &metered);
    page.table::<tls::ClientTls>("metrics.tls", "#[metrics.tls]", &Value::Null);
    let update = serde_json::to_value(update::Config::default()).unwrap();
    page.table::<update::Config>("update", "#[update]", &update);
    page.table::<tls::ClientTls>("update.tls", "#[update.tls]", &Value::Null);
    let hardware = serde_json::to_value(board::Config::default()).unwrap();
    page.table::<board::Config>("board", "#[board]", &hardware);
    let port = serde_json::to_value(board::Port::default()).unwrap();
    page.table::<board::Port>("board.port", "#[[board.port]]", &port);
    page.table::<watch::Config>("watch", "[watch]", &defaults["watch"]);
    let syslog = serde_json::to_value(watch::syslog::Config::default()).unwrap();
    page.table::<watch::syslog::Config>("watch.syslog", "#[watch.syslog]", &syslog);
    page.table::<tls::ClientTls>("watch.syslog.tls", "#[watch.syslog.tls]", &Value::Null);
    let limits = serde_json::to_value(watch::LinkLimits::default()).unwrap();
    page.table::<watch::LinkLimits>("watch.link", "#[[watch.link]]", &limits);
    page.table::<Rule>("rule", "#[[rule]]", &Value::Null);
    assert_eq!(page.announced, Vec::<String>::new(), "tables that have no page.table line above");
    page.text
}

struct Page<'s> {
    root: &'s Value,
    text: String,
    /// Tables inside tables that are still to come.
    announced: Vec<String>,
}

impl Page<'_> {
    fn table<T: DeserializeOwned>(&mut self, path: &str, header: &str, defaults: &Value) {
        self.announced.retain(|announced| announced != path);
        let mut described = self.root;
        for part in path.split('.') {
            described = &schema::resolve(self.root, described)["properties"][part];
            if described["type"] == "array" {
                described = &described["items"];
            }
        }
        let table = schema::resolve(self.root, described);
        self.text.push('\n');
        self.sentence(table["description"].as_str().unwrap());
        self.text.push_str(header);
        self.text.push('\n');
        let names = fields::<T>();
        let listed = table["properties"].as_object().unwrap();
        assert_eq!(names.len(), listed.len(), "the schema of {path} and its struct differ");
        for name in names {
            let property = schema::resolve(self.root, &listed[name]);
            if property["type"] == "object" || SHOWN_APART.contains(&format!("{path}.{name}").as_str()) {
                self.announced.push(format!("{path}.{name}"));
                continue;
            }
            let sentence = listed[name]["description"].as_str();
            self.sentence(sentence.unwrap_or_else(|| panic!("{path}.{name} has no sentence")));
            let whole = format!("{path}.{name}");
            let found = |list: &[(&str, &'static str)]| {
                list.iter().find(|(key, _)| *key == whole || *key == name).map(|(_, value)| *value)
            };
            let commented = header.starts_with('#');
            let (mark, value) = match (found(ESSENTIALS), &defaults[name]) {
                (Some(essential), _) => ("", essential.to_owned()),
                (None, Value::Null) => ("#", example(found(EXAMPLES), &whole)),
                (None, Value::String(text)) if text.is_empty() => ("#", example(found(EXAMPLES), &whole)),
                (None, default) => (if commented { "#" } else { "" }, literal(default)),
            };
            self.text.push_str(&format!("{mark}{name} = {value}\n"));
        }
    }

    fn sentence(&mut self, text: &str) {
        let mut line = String::from("#");
        for word in text.split_whitespace() {
            if line.len() + 1 + word.len() > WIDTH {
                self.text.push_str(&line);
                self.text.push('\n');
                line = String::from("#");
            }
            line.push(' ');
            line.push_str(word);
        }
        self.text.push_str(&line);
        self.text.push('\n');
    }
}

fn example(found: Option<&str>, path: &str) -> String {
    let everywhere = || EVERYWHERE.iter().find(|(end, _)| path.ends_with(end)).map(|(_, example)| *example);
    found.or_else(everywhere).unwrap_or_else(|| panic!("{path} has no default: give an example in EXAMPLES")).to_owned()
}

/// A default as TOML writes it; JSON writes text, numbers, booleans and lists the same way.
fn literal(default: &Value) -> String {
    assert!(!default.is_object(), "a table where a value belongs");
    default.to_string()
}

/// The fields of a struct in the order they are declared, as its `Deserialize` tells them.
fn fields<T: DeserializeOwned>() -> Vec<&'static str> {
    struct Listen<'a>(&'a mut Vec<&'static str>);
    impl<'de> Deserializer<'de> for Listen<'_> {
        type Error = serde::de::value::Error;
        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _name: &'static str,
            fields: &'static [&'static str],
            _visitor: V,
        ) -> Result<V::Value, Self::Error> {
            self.0.extend(fields);
            Err(serde::de::Error::custom("heard enough"))
        }
        fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Self::Error> {
            Err(serde::de::Error::custom("not a struct"))
        }
        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct
            newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }
    let mut heard = Vec::new();
    let _ = T::deserialize(Listen(&mut heard));
    heard
}
