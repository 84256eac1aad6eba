//! A code nobody knows, from the instrument to the EHR: held, suggested, accepted by a person, replayed, delivered.

use crate::site::Site;
use crate::{afferent, err, out};
use serde_json::Value;

/// An instrument no driver knows, in the words of the standard.
const SESSION: &str = "> <ENQ>\n< <ACK>\n\
    > <STX>1H|\\^&|||ACME One^2.1|||||||P|LIS2-A2|20261103090000<CR>\n\
    > P|1||MRN-4711<CR>\n> O|1|ACME-0001||^^^Glucose\\^^^QQQ|R<CR>\n\
    > R|1|^^^Glucose|5.40|mmol/l|3.9 to 6.1|N||F||op1||20261103085800<CR>\n\
    > R|2|^^^QQQ|17|furlong|||||F||||20261103085800<CR>\n\
    > L|1|N<CR><ETX><CS><CR><LF>\n< <ACK>\n> <EOT>\n";

/// What was begun for it: it is recognised, and nothing is mapped yet.
const DRIVER: &str = "[identity]\nvendor = \"ACME\"\nmodel = \"One\"\nprotocol = \"astm\"\nheader = [\"ACME One\"]\n";

fn map(site: &Site, arguments: &[&str]) -> Value {
    let config = site.config().display().to_string();
    let told = afferent(&[&["map", "--json", "--config", &config], arguments].concat());
    assert_eq!(told.status.code(), Some(0), "{}{}", out(&told), err(&told));
    serde_json::from_slice(&told.stdout).unwrap()
}

#[test]
fn i13_a_held_code_goes_out_once_a_person_has_said_what_it_is() {
    let mut site = Site::new();
    site.stop_gateway();
    std::fs::create_dir(site.path("drivers/acme-one")).unwrap();
    std::fs::write(site.path("drivers/acme-one/driver.toml"), DRIVER).unwrap();
    site.start_gateway();
    let session = site.path("acme.txt");
    std::fs::write(&session, SESSION).unwrap();
    let played =
        afferent(&["sim", "instrument", "--connect", &site.chemistry(), "--session", &session.display().to_string()]);
    assert_eq!(played.status.code(), Some(0), "{}", err(&played));
    site.until("both results are held", |stats| stats["account"]["held"] == 2);

    let codes = map(&site, &[])["codes"].as_array().unwrap().clone();
    let of = |code: &str| codes.iter().find(|row| row["code"] == code).unwrap_or_else(|| panic!("{codes:?}")).clone();
    assert_eq!((of("Glucose")["driver"].as_str(), of("Glucose")["held"].as_u64()), (Some("acme-one"), Some(1)));
    let suggested = &of("Glucose")["suggestions"][0];
    assert_eq!((&suggested["loinc"], &suggested["ucum"]), (&"14749-6".into(), &"mmol/L".into()), "{suggested}");
    assert_eq!(of("QQQ")["suggestions"], Value::Array(Vec::new()), "nobody knows it, so nothing is suggested");
    let shown = afferent(&["map", "--config", &site.config().display().to_string()]);
    assert!(
        out(&shown).contains("afferent map accept --driver acme-one --code Glucose --loinc 14749-6"),
        "{}",
        out(&shown)
    );
    assert!(!out(&shown).contains("ACME-0001") && !out(&shown).contains("MRN-4711"), "no patient is shown");

    let config = site.config().display().to_string();
    let everybody = ["accept", "--driver", "generic-astm", "--code", "Glucose", "--loinc", "14749-6"];
    let refused = afferent(&[&["map", "--config", &config], &everybody[..]].concat());
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        err(&refused).contains("driver new"),
        "one driver for all unknown instruments maps nothing: {}",
        err(&refused)
    );
    let wrong =
        ["accept", "--driver", "acme-one", "--code", "Glucose", "--loinc", "14749-7", "--unit", "mmol/l=mmol/L"];
    let refused = afferent(&[&["map", "--config", &config], &wrong[..]].concat());
    assert_eq!(refused.status.code(), Some(1), "a LOINC whose check digit is wrong: {}", err(&refused));
    let accept =
        ["accept", "--driver", "acme-one", "--code", "Glucose", "--loinc", "14749-6", "--unit", "mmol/l=mmol/L"];
    let entries = map(&site, &accept)["entries"].clone();
    site.stop_gateway();
    site.start_gateway();
    let entry = entries[0].as_i64().unwrap().to_string();
    let replayed = afferent(&["journal", "--config", &config, "replay", &entry]);
    assert_eq!(replayed.status.code(), Some(0), "{}", err(&replayed));
    site.until("one is delivered and one is held", |stats| {
        stats["account"]["delivered"] == 1 && stats["account"]["held"] == 1 && stats["missing"] == 0
    });
    assert_eq!(site.stored("ehr.jsonl", "ACME-0001"), [1]);
}
