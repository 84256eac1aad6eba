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

#[test]
fn i8_a_line_that_no_driver_reads_is_no_code_to_list() {
    let mut site = Site::new();
    site.stop_gateway();
    let port = crate::site::free_port();
    let config = std::fs::read_to_string(site.config()).unwrap();
    let link = format!(
        "[[link]]\nname = \"printer\"\nprotocol = \"lines\"\nlisten = \"127.0.0.1:{port}\"\n\
         [link.framing]\nidle_ms = 50\n[[destination]]"
    );
    std::fs::write(site.config(), config.replacen("[[destination]]", &link, 1)).unwrap();
    site.start_gateway();
    let mut line = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    std::io::Write::write_all(&mut line, b"CANARY JANE 47 mmol/L\r\nGLU 5.6 mmol/L\r\n").unwrap();
    site.until("both lines are held", |stats| stats["account"]["held"] == 2);
    let config = site.config().display().to_string();
    let told = afferent(&["map", "--config", &config]);
    assert!(out(&told).starts_with("lines no driver knows: 2 held, unmapped-code; link printer\n"), "{}", out(&told));
    assert!(out(&told).contains("afferent driver new") && !out(&told).contains("CANARY"), "{}", out(&told));
    assert!(!map(&site, &[]).to_string().contains("CANARY"));
    let accept = ["accept", "--driver", "generic-lines", "--code", "GLU", "--loinc", "14749-6"];
    let refused = afferent(&[&["map", "--config", &config], &accept[..]].concat());
    assert_eq!(refused.status.code(), Some(1), "{}", out(&refused));
}

#[test]
fn i13_a_mapping_is_a_revision_that_can_be_taken_back() {
    let mut site = Site::new();
    site.stop_gateway();
    std::fs::create_dir(site.path("drivers/acme-one")).unwrap();
    std::fs::write(site.path("drivers/acme-one/driver.toml"), DRIVER).unwrap();
    let config = site.config().display().to_string();
    let told = |arguments: &[&str]| {
        let told = afferent(&[&["map", "--config", &config], arguments].concat());
        (told.status.code(), out(&told), err(&told))
    };
    assert_eq!(told(&["history"]), (Some(0), "nothing was mapped yet\n".to_string(), String::new()));
    site.start_gateway();
    let play = |site: &Site, specimen: &str| {
        let session = site.path("acme.txt");
        std::fs::write(&session, SESSION.replace("ACME-0001", specimen)).unwrap();
        let session = session.display().to_string();
        let played = afferent(&["sim", "instrument", "--connect", &site.chemistry(), "--session", &session]);
        assert_eq!(played.status.code(), Some(0), "{}", err(&played));
    };
    for specimen in ["ACME-0001", "ACME-0002", "ACME-0003"] {
        play(&site, specimen);
    }
    site.until("all are held", |stats| stats["account"]["held"] == 6);
    let rows = map(&site, &[])["codes"].as_array().unwrap().clone();
    let glucose = rows.iter().find(|row| row["code"] == "Glucose").unwrap();
    assert_eq!((&glucose["held"], glucose["entries"].as_array().unwrap().len()), (&3.into(), 3));
    let units: Vec<&Value> = glucose["suggestions"].as_array().unwrap().iter().map(|s| &s["ucum"]).collect();
    assert!(!units.is_empty() && units.iter().all(|ucum| *ucum == "mmol/L"), "no mass for an amount: {glucose}");

    let accept =
        ["accept", "--driver", "acme-one", "--code", "Glucose", "--loinc", "14749-6", "--unit", "mmol/l=mmol/L"];
    let accepted = map(&site, &accept);
    assert_eq!(accepted["revision"], 2, "what was found is the first: {accepted}");
    let entries: Vec<String> = accepted["entries"].as_array().unwrap().iter().map(Value::to_string).collect();
    site.stop_gateway();
    site.start_gateway();
    let replay = [&["replay"], &entries.iter().map(String::as_str).collect::<Vec<_>>()[..]].concat();
    site.told(&replay);
    site.until("the glucose goes out", |stats| {
        stats["account"]["delivered"] == 3 && stats["account"]["held"] == 3 && stats["missing"] == 0
    });
    let order: Vec<String> = site.chart("ehr.jsonl").iter().map(|arrival| arrival["specimens"].to_string()).collect();
    assert!(
        order.iter().zip(["ACME-0001", "ACME-0002", "ACME-0003"]).all(|(said, specimen)| said.contains(specimen)),
        "in the order in which they came: {order:?}"
    );
    let version = |number: usize| {
        let history: Value = map(&site, &["history", "--driver", "acme-one"]);
        history["revisions"][number - 1]["revision"]["version"].as_str().unwrap().to_string()
    };
    // Each filed entry tells the revision it was read by.
    let filed = site.json(&["show", &entries[0]]).to_string();
    assert!(filed.contains(&format!("acme-one@{}", version(2))), "{filed}");

    let (code, said, _) = told(&["revert", "--driver", "acme-one", "--to", "1"]);
    assert!(code == Some(0) && said.contains("is as in revision 1 again: revision 3"), "{said}");
    assert_eq!(std::fs::read_to_string(site.path("drivers/acme-one/driver.toml")).unwrap(), DRIVER);
    assert_eq!(version(3), version(1));
    let (_, said, _) = told(&["history"]);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 3, "{said}");
    assert!(lines[1].contains("Glucose is 14749-6 in mmol/l=mmol/L"), "{said}");
    assert!(lines[2].contains("revision 3, ") && lines[2].contains(": back to revision 1 (acme-one@"), "{said}");
    let (code, _, why) = told(&["revert", "--driver", "acme-one", "--to", "9"]);
    assert!(code == Some(1) && why.contains("there is no revision 9"), "{why}");
    let (code, _, why) = told(&["revert", "--driver", "acme-two", "--to", "1"]);
    assert!(code == Some(1) && why.contains("there is no revision 1"), "{why}");

    // From the next start the code is nobody's again; what went out stays out.
    site.stop_gateway();
    site.start_gateway();
    play(&site, "ACME-0004");
    site.until("its two are held", |stats| stats["account"]["held"] == 5 && stats["account"]["delivered"] == 3);
    assert_eq!(site.chart("ehr.jsonl").len(), 3);
}
