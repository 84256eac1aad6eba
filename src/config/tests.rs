//! What a person is told about a configuration.

mod fleet;
mod metrics;
mod imaging;

use super::*;
use std::path::Path;

const SOUND: &str = r#"
[gateway]
data = "/tmp/afferent-test"
[[link]]
name = "chemistry"
listen = "0.0.0.0:4001"
[[destination]]
name = "ehr"
address = "127.0.0.1:2575"
"#;

/// Line and message of every fault.
fn faults(text: &str) -> Vec<(usize, String)> {
    match parse("test.toml", text) {
        Ok(loaded) => told(&loaded.missing),
        Err(LoadError::Faults(faults)) => told(&faults),
        Err(other) => panic!("{other}"),
    }
}

fn told(faults: &Faults) -> Vec<(usize, String)> {
    let line = |fault: &Fault| faults.line_and_column(fault.at.start).0;
    let hint = |fault: &Fault| fault.hint.clone().map(|h| format!(" / {h}")).unwrap_or_default();
    faults.list().iter().map(|f| (line(f), format!("{}{}", f.message, hint(f)))).collect()
}

/// The sound configuration with `change` made to it; the text must be there.
fn but(old: &str, new: &str) -> Vec<(usize, String)> {
    assert!(SOUND.contains(old));
    faults(&SOUND.replace(old, new))
}

#[track_caller]
fn one(found: Vec<(usize, String)>, line: usize, parts: &[&str]) {
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(found[0].0, line, "{found:#?}");
    for part in parts {
        assert!(found[0].1.contains(part), "{part} is not in {found:#?}");
    }
}

#[test]
fn nine_lines_are_a_configuration() {
    assert_eq!(faults(SOUND), []);
    assert_eq!(parse("test.toml", SOUND).unwrap().config.links[0].name, "chemistry");
}

#[test]
fn a_poct1a_device_dials_in_and_only_it_is_told_the_time() {
    let poct1a = "listen = \"0.0.0.0:4001\"\nprotocol = \"poct1a\"\nset_time = true\ndriver = \"generic-poct1a\"";
    assert_eq!(but("listen = \"0.0.0.0:4001\"", poct1a), []);
    let listen = "listen = \"0.0.0.0:4001\"";
    one(but(listen, "protocol = \"poct1a\"\ndial = \"10.0.0.5:4001\""), 7, &["dials the box", "give `listen`"]);
    one(but(listen, &format!("{listen}\nset_time = true")), 7, &["belongs to a POCT1-A link"]);
    let other = format!("{listen}\nprotocol = \"poct1a\"\ndriver = \"siemens-dca-vantage\"");
    one(but(listen, &other), 8, &["reads astm, and this link speaks poct1a"]);
}

#[test]
fn a_misspelt_setting_names_its_nearest_and_nothing_that_follows_from_it() {
    one(but("listen", "lisen"), 6, &["unknown setting `lisen` in `link[0]`", "did you mean `listen`?"]);
    one(but("address", "adress"), 9, &["did you mean `address`?"]);
    one(but("[[link]]", "[[lnik]]"), 4, &["unknown setting `lnik` at the top of the file", "`link`"]);
    one(but("[gateway]", "[gateway]\nquota = 1"), 3, &["unknown setting `quota` in `gateway`"]);
}

#[test]
fn every_fault_is_told_at_once_in_the_order_of_the_text() {
    let text = r#"
[gateway]
time_zone = "Europe/Berln"
data = 7
[[link]]
name = "a b"
protocol = "astmm"
listen = "4001"
parity = "evne"
[[link]]
name = "two"
dial = "10.0.0.5:99999"
driver = "generic-asmt"
[[destination]]
name = "ehr"
address = "ehr.example:2575"
ack_timeout_ms = "30 s"
colour = "blue"
"#;
    let found = faults(text);
    let lines: Vec<usize> = found.iter().map(|(line, _)| *line).collect();
    assert_eq!(lines, [3, 4, 6, 7, 8, 9, 12, 13, 16, 17, 18], "{found:#?}");
    for (fault, part) in found.iter().zip([
        "did you mean \"Europe/Berlin\"",
        "must be text, not an integer",
        "this name cannot be used",
        "did you mean \"astm\"",
        "no address to listen on",
        "did you mean \"even\"",
        "no address to dial",
        "did you mean `generic-astm`",
        "in the clear",
        "must be a whole number",
        "unknown setting `colour`",
    ]) {
        assert!(fault.1.contains(part), "{part} is not in {fault:?}");
    }
}

#[test]
fn a_link_is_one_line_exactly() {
    one(but("listen = \"0.0.0.0:4001\"\n", ""), 4, &["where its instrument is", "serial", "listen", "dial"]);
    one(but("listen = ", "dial = \"10.0.0.5:4001\"\nlisten = "), 6, &["exclude each other"]);
    one(but("listen = ", "baud = 9600\nlisten = "), 6, &["`baud` belongs to a serial link"]);
}

#[test]
fn two_of_a_kind_clash() {
    let again = |more: &str| faults(&format!("{SOUND}\n{more}"));
    one(again("[[link]]\nname = \"chemistry\"\nlisten = \"0.0.0.0:4002\""), 12, &["`chemistry` is taken by link[0]"]);
    one(again("[[link]]\nname = \"two\"\nlisten = \"127.0.0.1:4001\""), 13, &["port 4001 is taken by link[0]"]);
    one(again("[[destination]]\nname = \"ehr\"\naddress = \"[::1]:25\""), 12, &["taken by destination[0]"]);
    let apart = "[gateway]\n[[link]]\nname = \"a\"\nlisten = \"127.0.0.1:4001\"\n[[link]]\nname = \"b\"\n\
                 listen = \"127.0.0.2:4001\"\n[[destination]]\nname = \"ehr\"\naddress = \"[::1]:25\"";
    assert_eq!(faults(apart), []);
}

#[test]
fn links_share_a_port_when_who_dials_tells_whose_it_is() {
    let second = |more: &str| {
        let first = SOUND.replace("listen = ", "peers = [\"10.0.0.5\"]\nlisten = ");
        faults(&format!("{first}[[link]]\nname = \"two\"\nlisten = \"0.0.0.0:4001\"\n{more}"))
    };
    assert_eq!(second(""), [], "whoever the first does not name");
    assert_eq!(second("peers = [\"10.0.0.6\", \"10.0.1.0/24\"]"), []);
    one(second("peers = [\"10.0.0.6\", \"10.0.0.5\"]"), 14, &["`10.0.0.5` is among the `peers` of link[0]"]);
    one(second("peers = [\"10.0.0.5/32\"]"), 14, &["`10.0.0.5/32` is among the `peers` of link[0]"]);
    one(second("peers = [\"lab-1\"]"), 14, &["`lab-1` is no address", "10.0.1.0/24"]);
    one(but("listen = \"0.0.0.0:4001\"", "dial = \"10.0.0.5:1\"\npeers = [\"10.0.0.5\"]"), 7, &["that listens"]);
}

#[test]
fn a_destination_that_names_an_unknown_link_is_told_at_the_name() {
    let named = |links: &str| but("name = \"ehr\"", &format!("name = \"ehr\"\nlinks = {links}"));
    assert_eq!(named("[]"), []);
    assert_eq!(named("[\"chemistry\"]"), []);
    one(named("[\"chemistry\", \"chemsitry\"]"), 9, &["names `chemsitry`", "did you mean `chemistry`?"]);
    one(named("[\"chemistry\",\n  \"X\"]"), 10, &["names `X`", "known are chemistry"]);
    assert_eq!(named("[\"a\", \"b\"]").len(), 2, "each is told");
    // What a misspelt name would have been is not known: only the slip is told.
    let text = SOUND.replace("name = \"chemistry\"", "nmae = \"chemistry\"");
    one(faults(&text.replace("name = \"ehr\"", "name = \"ehr\"\nlinks = [\"chemistry\"]")), 5, &["`nmae`"]);
}

#[test]
fn i8_nothing_leaves_the_box_in_the_clear_by_accident() {
    one(but("127.0.0.1:2575", "10.0.0.9:2575"), 9, &["in the clear", "plain = true"]);
    assert_eq!(but("address = \"127.0.0.1", "plain = true\naddress = \"10.0.0.9"), []);
}

#[test]
fn a_driver_of_the_other_protocol_is_refused() {
    one(but("listen = ", "driver = \"generic-hl7\"\nlisten = "), 6, &["reads hl7, and this link speaks astm"]);
}

#[test]
fn i13_orders_nobody_asks_for_need_a_driver_and_one_instrument() {
    let pushing = |more: &str| but("listen = ", &format!("push_orders = true\n{more}listen = "));
    one(pushing(""), 6, &["names no `driver`", "generic-hl7"]);
    one(pushing("driver = \"abbott-architect\"\n"), 6, &["does not say how", "when it asks"]);
    assert_eq!(pushing("driver = \"roche-cobas-psm\"\n"), []);
    assert_eq!(pushing("protocol = \"hl7\"\ndriver = \"generic-hl7\"\n"), []);
    let listing = |names: &[&str]| {
        let table = |name: &&str| {
            format!(
                "[[link.instrument]]\nname = \"{name}\"\ndriver = \"generic-hl7\"\n\
                 where = [{{ field = \"MSH.4\", is = [\"{name}\"] }}]\n"
            )
        };
        let tables: String = names.iter().map(table).collect();
        let line = "listen = \"0.0.0.0:4001\"\n";
        but(line, &format!("push_orders = true\nprotocol = \"hl7\"\n{line}{tables}"))
    };
    assert_eq!(listing(&["A"]), [], "it can only be this one");
    one(listing(&["A", "B"]), 6, &["several instruments", "[[link]] of its own"]);
}

#[test]
fn what_is_missing_on_the_machine_does_not_keep_a_gateway_from_starting() {
    let serial = SOUND.replace("listen = \"0.0.0.0:4001\"", "serial = \"/dev/there-is-no-such-port\"");
    let loaded = parse("test.toml", &serial).unwrap();
    one(told(&loaded.missing), 6, &["is not there now", "/dev/serial/by-id"]);
    let with_tls = format!("{SOUND}[destination.tls]\nca = \"/nowhere/ca.pem\"\n");
    let loaded = parse("test.toml", &with_tls).unwrap();
    one(told(&loaded.missing), 11, &["cannot read /nowhere/ca.pem"]);
}

#[test]
fn what_is_there_and_cannot_work_is_an_error_and_what_is_missing_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    let files = crate::tls::throwaway::Authority::new().unwrap().write(dir.path()).unwrap();
    let level = |tls: &str| {
        let loaded = parse("test.toml", &format!("{SOUND}[destination.tls]\n{tls}")).unwrap();
        let json = loaded.missing.to_json();
        let levels: Vec<String> = json.as_array().unwrap().iter().map(|f| f["level"].to_string()).collect();
        (levels.join(","), loaded.missing.list().iter().map(|f| f.message.clone()).collect::<String>())
    };
    let (ca, cert, key) = (&files.ca, files.client.cert.unwrap(), files.server.key);
    assert_eq!(level(&format!("ca = {ca:?}\n")), (String::new(), String::new()));
    let (levels, told) = level(&format!("ca = {ca:?}\ncert = {cert:?}\nkey = {key:?}\n"));
    assert_eq!(levels, "\"error\"");
    assert!(told.contains("cannot be used together"), "{told}");
    let (levels, told) = level(&format!("ca = {key:?}\n"));
    assert_eq!(levels, "\"error\"");
    assert!(told.contains("holds no certificate"), "{told}");
    assert_eq!(level("ca = \"/nowhere/ca.pem\"\n").0, "\"warning\"");
}

#[test]
fn half_a_pair_for_a_dialling_link_is_a_wrong_setting() {
    let dial = SOUND.replace("listen = \"0.0.0.0:4001\"", "dial = \"10.0.0.5:4001\"\n[link.tls]\ncert = \"FILE\"");
    let dir = tempfile::tempdir().unwrap();
    let files = crate::tls::throwaway::Authority::new().unwrap().write(dir.path()).unwrap();
    let cert = files.client.cert.unwrap().display().to_string();
    let ca = format!("{cert}\"\nca = \"{}", files.ca.display());
    assert!(matches!(parse("test.toml", &dial.replace("FILE", &ca)), Err(LoadError::Faults(_))));
    one(faults(&dial.replace("FILE", &ca)), 7, &["`cert` and `key` belong together"]);
}

#[test]
fn a_table_that_lacks_what_it_needs_says_so_at_its_header() {
    let oauth = "protocol = \"fhir\"\nurl = \"https://ehr.example/fhir\"\n[destination.oauth]\nclient_id = \"x\"\n";
    let text = SOUND.replace("address = \"127.0.0.1:2575\"\n", oauth);
    let found = faults(&text);
    assert!(found.iter().all(|(line, _)| *line == 11), "{found:#?}");
    assert!(found.iter().any(|(_, m)| m.contains("needs `kid`")), "{found:#?}");
}

#[test]
fn text_that_is_not_toml_points_at_the_place() {
    one(but("name = \"chemistry\"", "name = chemistry"), 5, &["this is not TOML"]);
    one(but("[gateway]", "[gateway"), 2, &["this is not TOML"]);
}

#[test]
fn an_empty_file_tells_what_is_needed() {
    let found = faults("");
    assert!(found.iter().any(|(_, m)| m.contains("no [[link]]")), "{found:#?}");
    assert!(found.iter().any(|(_, m)| m.contains("no [[destination]]")), "{found:#?}");
}

#[test]
fn faults_are_shown_with_their_line_and_hint() {
    let Err(LoadError::Faults(faults)) = parse("test.toml", &SOUND.replace("listen", "lisen")) else { panic!() };
    let shown = faults.render(false);
    for part in ["error: unknown setting `lisen`", "test.toml:6:1", "lisen = \"0.0.0.0:4001\"", "^^^^^", "did you mean"]
    {
        assert!(shown.contains(part), "{part} is not in\n{shown}");
    }
    assert!(faults.render(true).contains('\u{1b}'));
    assert_eq!(faults.to_json()[0]["line"], 6);
}

#[test]
fn the_sites_own_drivers_are_read_and_can_be_named() {
    let site = tempfile::tempdir().unwrap();
    let folder = site.path().join("acme-one");
    std::fs::create_dir(&folder).unwrap();
    let driver = "[identity]\nvendor = \"Acme\"\nmodel = \"One\"\nprotocol = \"astm\"\nheader = [\"ACME\"]\n";
    std::fs::write(folder.join("driver.toml"), driver).unwrap();
    let text = SOUND
        .replace("[gateway]", &format!("[gateway]\ndrivers = \"{}\"", site.path().display()))
        .replace("listen = ", "driver = \"acme-one\"\nlisten = ");
    let config = parse("test.toml", &text).unwrap().config;
    assert!(config.registry().unwrap().get("acme-one").is_some());
    std::fs::write(folder.join("driver.toml"), "[identity]\nvendor = 7\n").unwrap();
    one(faults(&text), 3, &["acme-one"]);
}

#[test]
fn what_is_wrong_with_rules_is_told_at_its_line_in_the_file_they_stand_in() {
    let dir = tempfile::tempdir().unwrap();
    let rules = dir.path().join("rules.toml");
    let base = "[[link]]\nname = \"a\"\nlisten = \"127.0.0.1:4001\"\n[[destination]]\nname = \"ehr\"\naddress = \"127.0.0.1:2575\"\n";
    let told = |more: &str| match parse("afferent.toml", &format!("[gateway]\n{more}")) {
        Err(LoadError::Faults(faults)) => faults.render(false),
        other => panic!("{other:?}"),
    };
    let own =
        format!("{base}[[rule]]\nname = \"K\"\nanalytes = [\"2823-3\"]\nunit = \"mmHg\"\nlow = 2.5\nlinks = [\"b\"]\n");
    let shown = told(&own);
    for part in ["afferent.toml:11", "mm[Hg]", "afferent.toml:12", "must be text", "no such link"] {
        assert!(shown.contains(part), "{part} is not in\n{shown}");
    }
    std::fs::write(
        &rules,
        "[[rule]]\nname = \"d\"\nkind = \"delta\"\nanalytes = [\"K\"]\npercent = \"2o\"\nwithin_days = 3\n",
    )
    .unwrap();
    let shown = told(&format!("rules = {rules:?}\n{base}"));
    assert!(shown.contains("rules.toml:5:") && shown.contains("no decimal number"), "{shown}");
    std::fs::write(
        &rules,
        "[[rule]]\nname = \"d\"\nkind = \"delta\"\nanalytes = [\"K\"]\npercent = \"20\"\nwithin_days = 30\n",
    )
    .unwrap();
    let shown = told(&format!("rules = {rules:?}\n{base}"));
    assert!(shown.contains("retention_days"), "{shown}");
    let text = format!("[gateway]\nrules = {rules:?}\n[journal]\nretention_days = 40\n{base}");
    assert_eq!(parse("afferent.toml", &text).unwrap().config.rulebook().rules().count(), 1);
}

const IMAGES: &str = r#"
[dicom]
ae_title = "AFFERENT"
listen = "0.0.0.0:11112"
[[modality]]
name = "echo-1"
ae_title = "VIVID"
[[destination]]
name = "ehr"
address = "127.0.0.1:2575"
links = ["echo-1", "dicom"]
"#;

#[test]
fn modalities_need_no_link_and_are_links_by_name() {
    assert_eq!(faults(IMAGES), []);
    let config = parse("test.toml", IMAGES).unwrap().config;
    assert_eq!(config.dicom.unwrap().associations_max, 64);
    assert_eq!(config.modalities[0].name, "echo-1");
    one(faults(&IMAGES.replace("\"dicom\"]", "\"echo-2\"]")), 11, &["no such link", "echo-1"]);
    let told = format!("{IMAGES}order_status = [\"ris\"]\n");
    one(faults(&told), 12, &["no orders come from there"]);
    assert_eq!(faults(&format!("{told}[[orders]]\nname = \"ris\"\nlisten = \"127.0.0.1:4100\"\n")), []);
}

#[test]
fn everything_that_is_wrong_with_modalities_is_told_at_once() {
    let text = r#"
[dicom]
ae_title = "MORE-THAN-SIXTEEN-CHARACTERS"
listen = "11112"
listen_tls = "0.0.0.0:4001"
associations_max = 0
idle_timeout_s = 0
[[modality]]
name = "chemistry"
ae_title = ""
peers = ["10.0.0.x"]
address = "10.0.0.7"
[[modality]]
name = "dicom"
ae_title = "CT"
[[modality]]
name = "ct-2"
ae_title = "CT"
[[link]]
name = "chemistry"
listen = "0.0.0.0:4001"
[[destination]]
name = "ehr"
address = "127.0.0.1:2575"
"#;
    let found = faults(text);
    let wanted = [
        (3, "is no AE title"),
        (4, "no address to listen on"),
        (5, "port 4001 is taken by `chemistry`"),
        (5, "needs certificates"),
        (6, "must be at least 1"),
        (7, "from 1 to"),
        (9, "is taken by a link"),
        (10, "is no AE title"),
        (11, "is no address"),
        (12, "no address to dial"),
        (14, "is taken by a link"),
        (18, "the same AE title"),
    ];
    assert_eq!(found.iter().map(|(line, _)| *line).collect::<Vec<_>>(), wanted.map(|(line, _)| line), "{found:#?}");
    for ((_, told), (_, part)) in found.iter().zip(wanted) {
        assert!(told.contains(part), "{part} is not in {told}");
    }
}

#[test]
fn modalities_without_a_port_are_told_so() {
    one(faults(&IMAGES.replace("listen = \"0.0.0.0:11112\"\n", "")), 2, &["where modalities reach the box"]);
    let plain_and_tls = IMAGES.replace("listen =", "listen_tls =");
    one(faults(&plain_and_tls), 4, &["needs certificates", "[dicom.tls]"]);
    let without = IMAGES.replace("[dicom]\nae_title = \"AFFERENT\"\nlisten = \"0.0.0.0:11112\"\n", "");
    let found = faults(&without.replace(", \"dicom\"", ""));
    assert!(found.iter().any(|(_, told)| told.contains("there is no [dicom]")), "{found:#?}");
}

#[test]
fn a_modality_that_waits_for_an_archive_needs_one_that_answers() {
    let committed = |destination: &str| {
        faults(&format!(
            "[dicom]\nlisten = \"0.0.0.0:11112\"\n[[modality]]\nname = \"echo-1\"\nae_title = \"VIVID\"\n\
             commitment = \"committed\"\n[[destination]]\nname = \"to\"\naddress = \"127.0.0.1:104\"\n{destination}"
        ))
    };
    let pacs = "protocol = \"dicom\"\ncalled_ae_title = \"PACS\"\n";
    one(committed(""), 6, &["no archive takes images"]);
    one(committed(pacs), 6, &["no archive is asked to commit", "commitment = true"]);
    assert_eq!(committed(&format!("{pacs}commitment = true\n")), []);
}

#[test]
fn i7_no_files_are_taken_from_where_the_journal_lies() {
    let dir = tempfile::tempdir().unwrap();
    let (data, share) = (dir.path().join("data"), dir.path().join("share"));
    std::fs::create_dir_all(data.join("spool")).unwrap();
    std::fs::create_dir(&share).unwrap();
    let from = |folder: &Path, archive: &str| {
        let link = format!("[[link]]\nname = \"reader\"\nprotocol = \"hl7\"\ndirectory = {folder:?}\n");
        let sound = SOUND.replace("\"/tmp/afferent-test\"", &format!("{data:?}"));
        let text = format!("{sound}{link}[link.files]\narchive = {archive:?}\n");
        faults(&text).into_iter().filter(|(_, told)| told.contains("keeps its own")).count()
    };
    assert_eq!(from(&share, "archive"), 0);
    for (folder, archive) in [
        (data.clone(), "archive".to_owned()),
        (data.join("spool"), "archive".to_owned()),
        (share.join("../data"), "archive".to_owned()),
        (dir.path().to_owned(), "archive".to_owned()),
        (share.clone(), "../data".to_owned()),
    ] {
        assert_eq!(from(&folder, &archive), 1, "{} to {archive}", folder.display());
    }
}

#[test]
fn a_configuration_from_afar_names_no_file_that_did_not_come_along() {
    let dir = tempfile::tempdir().unwrap();
    let own = parse("own.toml", SOUND).unwrap().config;
    for (named, is_refused) in [("rules.toml", false), ("../rules.toml", true), ("/dev/zero", true)] {
        std::fs::write(dir.path().join("rules.toml"), "").unwrap();
        let text = SOUND.replace("data = \"/tmp/afferent-test\"", &format!("rules = {named:?}"));
        let found = load::parse_for("afar.toml", &text, dir.path(), &own).err().map(|error| error.to_string());
        let refused = found.as_ref().is_some_and(|told| told.contains("not among the files that came along"));
        assert_eq!(refused, is_refused, "{named}: {found:?}");
    }
}

#[test]
fn i10_only_regular_files_of_bounded_size_are_read_because_a_configuration_names_them() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    let name = std::ffi::CString::new(fifo.as_os_str().as_encoded_bytes()).unwrap();
    // SAFETY: the path is a string that ends with zero.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    for (named, told) in [(fifo.as_path(), "not a regular file"), (Path::new("/dev/zero"), "not a regular file")] {
        let text = SOUND.replace("[gateway]\n", &format!("[gateway]\nrules = {named:?}\n"));
        let error = parse("afferent.toml", &text).map(drop).unwrap_err().to_string();
        assert!(error.contains(told), "{error}");
        let file = dir.path().join("afferent.toml");
        std::fs::write(&file, text).unwrap();
        load::source_digest(&file).unwrap();
    }
    assert!(load(Path::new("/dev/zero")).map(drop).unwrap_err().to_string().contains("larger than 1 MiB"));
}

#[test]
fn the_digest_of_a_file_is_that_of_the_drivers_it_names_now() {
    let dir = tempfile::tempdir().unwrap();
    let (file, drivers) = (dir.path().join("afferent.toml"), dir.path().join("drivers"));
    std::fs::create_dir_all(drivers.join("acme-one")).unwrap();
    std::fs::write(drivers.join("acme-one/driver.toml"), "[identity]").unwrap();
    std::fs::write(&file, format!("[gateway]\ndrivers = {drivers:?}\n[[link]]\nlisen = \"wrong\"\n")).unwrap();
    let before = load::source_digest(&file).unwrap();
    assert_eq!(load::source_digest(&file).unwrap(), before);
    std::fs::write(drivers.join("acme-one/driver.toml"), "[identity]\n").unwrap();
    assert_ne!(load::source_digest(&file).unwrap(), before, "a driver changed");
}
