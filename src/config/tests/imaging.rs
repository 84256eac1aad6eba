//! Wrong settings of imaging: each is refused at its line, by its name, with what is allowed and what to do.

use super::*;

/// A site with every table of imaging.
const SITE: &str = r#"
[gateway]
data = "/tmp/afferent-test"
[dicom]
ae_title = "AFFERENT"
listen = "0.0.0.0:11112"
only_known = true
associations_max = 8
idle_timeout_s = 600
[[modality]]
name = "echo-1"
ae_title = "VIVID"
peers = ["10.0.0.7"]
certificates = []
address = "10.0.0.7:104"
commitment = "committed"
commitment_wait_s = 60
[[destination]]
name = "pacs"
protocol = "dicom"
address = "127.0.0.1:104"
called_ae_title = "PACS"
calling_ae_title = "AFFERENT"
commitment = true
commitment_wait_s = 600
order = "study"
bandwidth_kb_s = 100
windows = ["18:00-06:00"]
modalities = ["US"]
connections = 4
[[destination]]
name = "ehr"
address = "127.0.0.1:2575"
links = ["echo-1", "dicom"]
order_status = ["ehr-orders"]
[destination.imaging]
wado_rs = "https://pacs.example/dicom-web"
accession_system = "https://ris.example/accessions"
[[order_feed]]
name = "ehr-orders"
url = "https://ehr.example/fhir"
query = "category=imaging"
poll_s = 30
first_days = 30
[worklist]
answers_max = 100
character_set = "ISO_IR 100"
rooms = [{ location = "ROOM 3", ae_title = "VIVID" }]
[imaging]
study_idle_s = 60
hold = ["no-accession"]
document_mb_max = 10
"#;

/// What is wrong with the site when one line of it is another. Each wrong line: the setting's own line, what it says
/// instead, and what a person is told of it.
const WRONG: &[(&str, &str, &[&str])] = &[
    // [dicom]
    ("ae_title = \"AFFERENT\"", "ae_title = \"\"", &["AE title", "1 to 16"]),
    ("ae_title = \"AFFERENT\"", "ae_title = \"SEVENTEEN-LETTERS\"", &["SEVENTEEN-LETTERS", "1 to 16", "VIVID"]),
    ("ae_title = \"AFFERENT\"", "ae_title = \"BACK\\\\SLASH\"", &["AE title", "printable ASCII"]),
    ("ae_title = \"AFFERENT\"", "ae_title = 7", &["dicom.ae_title", "must be text", "in quotes"]),
    ("listen = \"0.0.0.0:11112\"", "listen = \"11112\"", &["no address to listen on", "0.0.0.0:11112"]),
    ("listen = \"0.0.0.0:11112\"", "listen = \"0.0.0.0:0\"", &["no address to listen on", "0.0.0.0:11112"]),
    ("listen = \"0.0.0.0:11112\"", "listen = \"localhost:11112\"", &["no address to listen on", "0.0.0.0:11112"]),
    ("listen = \"0.0.0.0:11112\"", "listen_tls = \"0.0.0.0:2762\"", &["certificates", "[dicom.tls]"]),
    ("only_known = true", "only_known = \"yes\"", &["only_known", "true or false"]),
    ("only_known = true", "only_knwon = true", &["only_known"]),
    ("associations_max = 8", "associations_max = 0", &["associations_max", "at least 1"]),
    ("associations_max = 8", "associations_max = 65536", &["associations_max", "from 0 to 65535"]),
    ("associations_max = 8", "associations_max = -1", &["associations_max", "from 0 to 65535"]),
    ("idle_timeout_s = 600", "idle_timeout_s = 0", &["idle_timeout_s", "from 1 to 86400"]),
    ("idle_timeout_s = 600", "idle_timeout_s = 86401", &["idle_timeout_s", "from 1 to 86400"]),
    // [[modality]]
    ("name = \"echo-1\"", "name = \"dicom\"", &["taken", "by name"]),
    ("name = \"echo-1\"", "name = \"pacs 1\"", &["name", "letters, digits"]),
    ("name = \"echo-1\"", "name = \"ehr-orders\"", &["taken", "[[order_feed]]"]),
    ("ae_title = \"VIVID\"", "ae_title = \"  \"", &["AE title", "1 to 16"]),
    ("peers = [\"10.0.0.7\"]", "peers = [\"10.0.0.0/33\"]", &["10.0.0.0/33", "10.0.1.0/24"]),
    ("peers = [\"10.0.0.7\"]", "peers = \"10.0.0.7\"", &["peers", "a list", "square brackets"]),
    ("certificates = []", "certificates = [\"AB:CD\"]", &["certificate"]),
    ("address = \"10.0.0.7:104\"", "address = \"10.0.0.7\"", &["no address to dial", "10.0.0.7:104"]),
    ("address = \"10.0.0.7:104\"", "address = \"10.0.0.7:65536\"", &["no address to dial", "10.0.0.7:104"]),
    ("commitment = \"committed\"", "commitment = \"commited\"", &["commited", "committed"]),
    ("commitment_wait_s = 60\n", "commitment_wait_s = 86401\n", &["commitment_wait_s", "at most 86400"]),
    // [[destination]] for images
    ("protocol = \"dicom\"", "protocol = \"dicm\"", &["dicm", "dicom"]),
    ("address = \"127.0.0.1:104\"", "address = \"127.0.0.1\"", &["address", "host and port", "pacs.example:11112"]),
    ("address = \"127.0.0.1:104\"", "address = \"pacs.example:104\"", &["address", "[destination.tls]", "plain"]),
    ("called_ae_title = \"PACS\"", "", &["called_ae_title", "administrator"]),
    ("called_ae_title = \"PACS\"", "called_ae_title = \"A TITLE THAT IS TOO LONG\"", &["called_ae_title", "1 to 16"]),
    ("calling_ae_title = \"AFFERENT\"", "calling_ae_title = \"\"", &["calling_ae_title", "1 to 16"]),
    ("commitment_wait_s = 600", "commitment_wait_s = 0", &["commitment_wait_s", "between 1 and"]),
    ("order = \"study\"", "order = \"series\"", &["series", "study"]),
    ("bandwidth_kb_s = 100", "bandwidth_kb_s = -1", &["bandwidth_kb_s", "whole number from 0"]),
    ("windows = [\"18:00-06:00\"]", "windows = [\"18-06\"]", &["windows", "18-06", "18:00-06:00"]),
    ("windows = [\"18:00-06:00\"]", "windows = [\"18:00-25:00\"]", &["windows", "18:00-06:00"]),
    ("modalities = [\"US\"]", "url = \"https://pacs.example\"", &["url", "protocol = \"fhir\" or \"stow\"", "address"]),
    ("modalities = [\"US\"]", "deidentify = \"full\"", &["full", "basic"]),
    ("connections = 4", "connections = 0", &["connections", "between 1 and"]),
    // [[destination]] for results
    ("links = [\"echo-1\", \"dicom\"]", "links = [\"echo-2\"]", &["echo-2", "no such link", "echo-1"]),
    ("links = [\"echo-1\", \"dicom\"]", "mpps = true", &["mpps", "protocol = \"dicom\""]),
    (
        "links = [\"echo-1\", \"dicom\"]",
        "body_parts = [\"HEART\"]",
        &["body_parts", "protocol = \"dicom\" or \"stow\""],
    ),
    ("order_status = [\"ehr-orders\"]", "order_status = [\"ris\"]", &["order_status", "ris", "no orders come"]),
    // [destination.imaging]
    (
        "wado_rs = \"https://pacs.example/dicom-web\"",
        "wado_rs = \"pacs\"",
        &["imaging.wado_rs", "https://pacs.example"],
    ),
    ("wado_rs = \"https://pacs.example/dicom-web\"", "wado_rs = \"ftp://pacs\"", &["imaging.wado_rs", "https://"]),
    ("wado_rs = \"https://pacs.example/dicom-web\"", "wado = \"x\"", &["wado_rs"]),
    (
        "accession_system = \"https://ris.example/accessions\"",
        "accession_system = \"ris\"",
        &["accession_system", "URI"],
    ),
    // [[order_feed]]
    ("name = \"ehr-orders\"", "name = \"\"", &["name"]),
    ("name = \"ehr-orders\"", "name = \"ehr orders\"", &["name", "letters, digits"]),
    ("url = \"https://ehr.example/fhir\"", "url = \"ehr.example\"", &["url", "https://ehr.example/fhir"]),
    ("url = \"https://ehr.example/fhir\"", "url = \"http://ehr.example/fhir\"", &["url", "https", "plain"]),
    ("url = \"https://ehr.example/fhir\"", "url = \"https://a:b@ehr.example\"", &["url", "password", "oauth"]),
    ("url = \"https://ehr.example/fhir\"", "url = \"https://ehr.example?x=1\"", &["url", "without `?`"]),
    ("url = \"https://ehr.example/fhir\"", "", &["url", "https://ehr.example/fhir"]),
    ("query = \"category=imaging\"", "query = \"a b\"", &["query", "category=imaging"]),
    ("query = \"category=imaging\"", "query = \"category\"", &["query", "category=imaging"]),
    ("query = \"category=imaging\"", "query = \"?category=imaging\"", &["query", "category=imaging"]),
    ("query = \"category=imaging\"", "query = \"status=active\"", &["query", "leave the status out"]),
    ("query = \"category=imaging\"", "query = \"status:not=revoked\"", &["query", "leave the status out"]),
    ("query = \"category=imaging\"", "query = \"_lastUpdated=ge2026\"", &["query", "_lastUpdated"]),
    ("query = \"category=imaging\"", "query = \"_count=5\"", &["query", "_count"]),
    ("query = \"category=imaging\"", "query = \"code=x&_elements=id\"", &["query", "_elements"]),
    ("query = \"category=imaging\"", "query = \"_summary=true\"", &["query", "_summary"]),
    ("poll_s = 30", "poll_s = 0", &["poll_s", "between 1 and 86400"]),
    ("poll_s = 30", "poll_s = 86401", &["poll_s", "between 1 and 86400"]),
    ("poll_s = 30", "poll_s = \"30\"", &["poll_s", "whole number", "without quotes"]),
    ("first_days = 30", "first_days = 36526", &["first_days", "at most 36525"]),
    ("first_days = 30", "poll = 30", &["poll_s"]),
    // [worklist]
    ("answers_max = 100", "answers_max = 0", &["answers_max", "at least 1", "default"]),
    ("character_set = \"ISO_IR 100\"", "character_set = \"latin-1\"", &["character_set", "ISO_IR 100"]),
    ("ae_title = \"VIVID\" }]", "ae_title = \"\" }]", &["location", "at most 16"]),
    // [imaging]
    ("study_idle_s = 60", "study_idle_s = 0", &["study_idle_s", "between 1 and 86400"]),
    ("study_idle_s = 60", "study_idle_s = 86401", &["study_idle_s", "between 1 and 86400"]),
    ("hold = [\"no-accession\"]", "hold = [\"no-acession\"]", &["no-acession", "no-accession"]),
    ("hold = [\"no-accession\"]", "hold = \"no-accession\"", &["hold", "a list", "square brackets"]),
    ("document_mb_max = 10", "document_mb_max = 0", &["document_mb_max", "between 1 and 32"]),
    ("document_mb_max = 10", "document_mb_max = 33", &["document_mb_max", "between 1 and 32"]),
];

#[test]
fn a_site_with_every_table_of_imaging_is_sound() {
    assert_eq!(faults(SITE), []);
}

#[test]
fn every_wrong_setting_of_imaging_is_refused_where_it_stands_with_what_is_allowed() {
    let mut wrong = Vec::new();
    for (sound, instead, parts) in WRONG {
        let at = SITE.find(sound).unwrap_or_else(|| panic!("{sound} is not in the site"));
        let text = SITE.replacen(sound, instead, 1);
        let found = match parse("site.toml", &text) {
            Ok(loaded) => Err(format!("is taken: {:?}", told(&loaded.missing))),
            Err(LoadError::Faults(faults)) => Ok((told(&faults), faults.render(false))),
            Err(other) => Err(other.to_string()),
        };
        let (found, shown) = match found {
            Ok(found) => found,
            Err(why) => {
                wrong.push(format!("{instead}: {why}"));
                continue;
            }
        };
        let own_line = text[..at].matches('\n').count() + 1;
        // What is missing is told at its table.
        let header = text[..at].lines().enumerate().filter(|(_, line)| line.starts_with('[')).last().unwrap().0 + 1;
        let line = if instead.is_empty() { header } else { own_line };
        let named = found.iter().any(|(at, told)| *at == line && parts.iter().all(|part| told.contains(part)));
        if !named || !shown.contains(&format!("site.toml:{line}:")) {
            wrong.push(format!("{instead}: line {line} and {parts:?} are not in {found:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
