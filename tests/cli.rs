//! The binary from outside: what a person types, what is printed where, and which code it exits with.

#[path = "support/patience.rs"]
mod patience;
#[path = "support/ports.rs"]
mod ports;
#[path = "cli/clock.rs"]
mod clock;
#[path = "cli/asking.rs"]
mod asking;
#[path = "cli/audit.rs"]
mod audit;
#[path = "cli/backup.rs"]
mod backup;
#[path = "cli/bench.rs"]
mod bench;
#[path = "cli/board.rs"]
mod board;
#[path = "cli/console.rs"]
mod console;
#[path = "cli/doctor.rs"]
mod doctor;
#[path = "cli/journal.rs"]
mod journal;
#[path = "cli/journald.rs"]
mod journald;
#[path = "cli/jwks.rs"]
mod jwks;
#[path = "cli/map.rs"]
mod map;
#[path = "cli/metrics.rs"]
mod metrics;
#[path = "cli/probe.rs"]
mod probe;
#[path = "cli/recipe.rs"]
mod recipe;
#[path = "cli/reset.rs"]
mod reset;
#[path = "cli/resources.rs"]
mod resources;
#[path = "cli/restore.rs"]
mod restore;
#[path = "cli/rules.rs"]
mod rules;
#[path = "cli/service.rs"]
mod service;
#[path = "cli/setup.rs"]
mod setup;
#[path = "cli/sim.rs"]
mod sim;
#[path = "cli/site.rs"]
mod site;
#[path = "cli/tap.rs"]
mod tap;

use site::Running;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const SOUND: &str = "\
[[link]]
name = \"chemistry\"
listen = \"127.0.0.1:4001\"
[[destination]]
name = \"ehr\"
address = \"127.0.0.1:2575\"
";

fn afferent(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_afferent"));
    command.args(arguments).env_remove("AFFERENT_LOG").env_remove("RUST_LOG").env_remove("JOURNAL_STREAM");
    command.output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The text in a file of its own.
fn file(text: &str) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("afferent.toml");
    std::fs::write(&path, text).unwrap();
    let path = path.display().to_string();
    (dir, path)
}

/// The subcommands of a command, by its own help.
fn subcommands(of: &[&str]) -> Vec<String> {
    let mut arguments = of.to_vec();
    arguments.push("--help");
    let help = afferent(&arguments);
    assert!(help.status.success(), "{of:?} has no help");
    let text = out(&help);
    let Some((_, listed)) = text.split_once("Commands:\n") else { return Vec::new() };
    let listed = listed.split("\n\n").next().unwrap().lines();
    // Wrapped descriptions are indented further than names.
    let names =
        listed.filter(|l| l.starts_with("  ") && !l.starts_with("   ")).filter_map(|l| l.split_whitespace().next());
    names.filter(|n| *n != "help").map(ToOwned::to_owned).collect()
}

#[test]
fn a_sound_configuration_passes() {
    let (_dir, path) = file(SOUND);
    let checked = afferent(&["check", &path]);
    assert_eq!(checked.status.code(), Some(0), "{}", err(&checked));
    assert!(out(&checked).contains("is sound"));
    assert!(out(&checked).contains("chemistry"));
}

#[test]
fn every_fault_is_shown_at_its_line_and_the_exit_code_is_2() {
    let (_dir, path) = file(&SOUND.replace("listen", "lisen").replace("127.0.0.1:2575", "ehr.example:2575"));
    let checked = afferent(&["check", &path]);
    assert_eq!(checked.status.code(), Some(2));
    assert_eq!(out(&checked), "");
    let told = err(&checked);
    for part in [":3:1", "did you mean `listen`", ":6:11", "plain = true", "NOT sound: 2 errors"] {
        assert!(told.contains(part), "{part} is not in\n{told}");
    }
    assert!(!told.contains('\u{1b}'), "colour belongs on terminals only");
}

#[test]
fn check_speaks_json() {
    let (_dir, path) = file(&SOUND.replace("listen", "lisen"));
    let checked = afferent(&["check", "--json", &path]);
    assert_eq!(checked.status.code(), Some(2));
    let told: serde_json::Value = serde_json::from_slice(&checked.stdout).unwrap();
    assert_eq!(told["ok"], false);
    assert_eq!(told["faults"][0]["line"], 3);
    assert_eq!(told["faults"][0]["column"], 1);
    let (_dir, path) = file(SOUND);
    let sound: serde_json::Value = serde_json::from_slice(&afferent(&["check", "--json", &path]).stdout).unwrap();
    assert_eq!(sound["ok"], true);
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let checked = afferent(&["check", "no-such-file.toml"]);
    assert_eq!(checked.status.code(), Some(2));
    assert!(err(&checked).contains("cannot read no-such-file.toml"));
    let (_dir, path) = file("");
    std::fs::write(&path, [0xFF, 0xFE, 0x00]).unwrap();
    assert!(err(&afferent(&["check", &path])).contains("not UTF-8"));
}

#[test]
fn the_sample_passes_its_own_check() {
    let sample = afferent(&["config", "sample"]);
    assert!(sample.status.success());
    let (_dir, path) = file(&out(&sample));
    // It names the EHR over TLS with the system's authorities; a bare machine lacks them and is warned.
    let checked = afferent(&["check", &path]);
    assert_eq!(checked.status.code(), Some(0), "{}", err(&checked));
}

#[test]
fn what_this_machine_lacks_is_a_warning_unless_strict() {
    let lacking = "[destination.tls]\nca = \"no-such-ca.pem\"\n";
    let (_dir, path) =
        file(&format!("{}{lacking}", SOUND.replace("listen = \"127.0.0.1:4001\"", "serial = \"no-tty\"")));
    let told = |options: &[&str]| afferent(&[&["check"], options, &[path.as_str()]].concat());
    let on_a_laptop = told(&[]);
    assert_eq!(on_a_laptop.status.code(), Some(0));
    assert!(out(&on_a_laptop).contains("is sound, with 2 warnings about this machine"), "{}", out(&on_a_laptop));
    let shown = err(&on_a_laptop);
    for part in ["warning: no-tty is not there now", ":3:10", "warning: cannot read no-such-ca.pem", ":8:6"] {
        assert!(shown.contains(part), "{part} is not in\n{shown}");
    }
    assert!(!shown.contains("error:"), "{shown}");
    let on_the_box = told(&["--strict"]);
    assert_eq!(on_the_box.status.code(), Some(2));
    assert_eq!(out(&on_the_box), "");
    let shown = err(&on_the_box);
    assert!(shown.contains("is NOT sound: 2 errors"), "{shown}");
    assert!(shown.contains("error: no-tty is not there now") && !shown.contains("warning:"), "{shown}");
    for (options, ok, code) in [(&["--json"][..], true, 0), (&["--json", "--strict"], false, 2)] {
        let level = if ok { "warning" } else { "error" };
        let json = told(options);
        assert_eq!(json.status.code(), Some(code));
        let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
        assert_eq!(json["ok"], ok);
        assert_eq!((&json["faults"][0]["level"], &json["faults"][0]["kind"]), (&level.into(), &"environment".into()));
        assert_eq!((&json["faults"][1]["line"], json["faults"].as_array().unwrap().len()), (&8.into(), 2));
    }
    let help = out(&afferent(&["check", "--help"]));
    assert!(help.contains("Exit codes: 0 sound (there may be warnings), 2 errors"), "{help}");
}

#[test]
fn check_tells_what_a_link_runs_with_and_who_said_so() {
    let own = "driver = \"acme-slow\"\n[link.timers]\nframe_timeout_ms = 7000";
    let sound = SOUND.replace("listen = \"127.0.0.1:4001\"", &format!("listen = \"127.0.0.1:4001\"\n{own}"));
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("drivers/acme-slow")).unwrap();
    let driver = "[identity]\nvendor = \"ACME\"\nmodel = \"Slow\"\nprotocol = \"astm\"\n[wire]\n\
                  frame_timeout_ms = 60000\nreply_timeout_ms = 2000\n";
    let driver_file = dir.path().join("drivers/acme-slow/driver.toml");
    std::fs::write(&driver_file, driver).unwrap();
    let path = dir.path().join("afferent.toml");
    std::fs::write(&path, format!("[gateway]\ndrivers = {:?}\n{sound}", dir.path().join("drivers"))).unwrap();
    let path = path.display().to_string();
    let checked = afferent(&["check", &path]);
    assert_eq!(checked.status.code(), Some(0), "{}", err(&checked));
    let told = out(&checked);
    assert!(told.contains("    reply_timeout_ms 2000 (driver), frame_timeout_ms 7000 (link)\n"), "{told}");
    let json: serde_json::Value = serde_json::from_slice(&afferent(&["check", "--json", &path]).stdout).unwrap();
    let settings = &json["links"][0]["settings"];
    let expected = serde_json::json!({ "name": "reply_timeout_ms", "value": "2000", "from": "driver" });
    assert_eq!(settings[0], expected, "{json}");
    std::fs::write(&driver_file, driver.replace("2000", "0")).unwrap();
    let refused = err(&afferent(&["check", &path]));
    assert!(refused.contains("`reply_timeout_ms` must be from 1 to 86400000 ms"), "{refused}");
}

#[test]
fn errors_and_warnings_are_told_apart_and_together() {
    let text = SOUND.replace("listen = ", "lisen = ") + "[destination.tls]\nca = \"no-such-ca.pem\"\n";
    let (_dir, path) = file(&text);
    let checked = afferent(&["check", &path]);
    assert_eq!(checked.status.code(), Some(2));
    let told = err(&checked);
    for part in ["error: unknown setting `lisen`", "warning: cannot read", "NOT sound: 1 error and 1 warning"] {
        assert!(told.contains(part), "{part} is not in\n{told}");
    }
}

#[test]
fn every_command_tells_a_wrong_configuration_like_check_does() {
    let (_dir, path) = file(&SOUND.replace("listen", "lisen"));
    for command in [&["run"][..], &["journal", "stats"], &["journal", "release", "1"]] {
        let refused = afferent(&[command, &["--config", path.as_str()]].concat());
        assert_eq!(refused.status.code(), Some(2), "{command:?}");
        let told = err(&refused);
        assert!(told.starts_with("error: unknown setting `lisen`"), "{command:?}: {told}");
        assert!(told.contains(":3:1") && told.contains("did you mean `listen`"), "{command:?}: {told}");
        let gone = afferent(&[command, &["--config", "no-such-file.toml"]].concat());
        assert_eq!(gone.status.code(), Some(2), "{command:?}");
        assert!(err(&gone).starts_with("error: cannot read no-such-file.toml"), "{command:?}: {}", err(&gone));
    }
}

#[test]
fn the_configuration_of_the_fault_harness_passes_once_its_certificates_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dir = tempfile::tempdir().unwrap();
    let certs = dir.path().join("certs");
    let mut text = std::fs::read_to_string(root.join("tests/faults.toml.in")).unwrap();
    for (place, value) in [
        ("@data@", dir.path().join("data").display().to_string()),
        ("@certs@", certs.display().to_string()),
        ("@tty@", "/dev/null".to_owned()),
        ("@astm_port@", "4001".to_owned()),
        ("@mllp_port@", "4002".to_owned()),
        ("@ehr_port@", "4003".to_owned()),
        ("@fhir_port@", "4004".to_owned()),
        ("@dicom_port@", "4005".to_owned()),
    ] {
        text = text.replace(place, &value);
    }
    let rest = text.lines().filter(|l| !l.starts_with('#')).find(|l| l.contains('@'));
    assert_eq!(rest, None, "a placeholder is left");
    let path = dir.path().join("faults.toml");
    std::fs::write(&path, text).unwrap();
    let path = path.display().to_string();
    let bare = afferent(&["check", "--strict", &path]);
    assert_eq!(bare.status.code(), Some(2), "{}", out(&bare));
    assert!(err(&bare).contains("client.key"), "{}", err(&bare));
    std::fs::create_dir(&certs).unwrap();
    let authority = afferent::tls::throwaway::Authority::new().unwrap();
    let client = authority.client("faults").unwrap();
    for (name, pem) in
        [("ca.pem", authority.ca_pem()), ("client.pem", &client.cert_pem), ("client.key", &client.key_pem)]
    {
        std::fs::write(certs.join(name), pem).unwrap();
    }
    let checked = afferent(&["check", "--strict", &path]);
    assert_eq!(checked.status.code(), Some(0), "{}", err(&checked));
}

#[test]
fn the_schema_is_json_schema_and_knows_every_table() {
    let printed = afferent(&["config", "schema"]);
    let schema: serde_json::Value = serde_json::from_slice(&printed.stdout).unwrap();
    assert!(schema["$schema"].as_str().unwrap().contains("json-schema.org"));
    for table in ["gateway", "journal", "link", "destination"] {
        assert!(schema["properties"][table].is_object(), "{table}");
    }
    assert_eq!(schema["additionalProperties"], false);
}

#[test]
fn every_command_explains_itself_with_an_example() {
    let mut open: Vec<Vec<String>> = vec![Vec::new()];
    let mut seen = 0;
    while let Some(command) = open.pop() {
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        let help = out(&afferent(&[&words[..], &["--help"]].concat()));
        let inner = subcommands(&words);
        assert!(help.contains("Example") || !inner.is_empty(), "{words:?} shows no example");
        for name in inner {
            open.push([command.clone(), vec![name]].concat());
        }
        seen += 1;
    }
    assert!(seen > 5, "only {seen} commands were looked at");
}

/// A session of the drivers' cases.
fn case(path: &str) -> String {
    format!("{}/drivers/{path}/session.txt", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn preview_shows_driver_fields_verdicts_and_the_message() {
    let file = case("sysmex-xn/cases/normal-cbc-diff");
    let shown = afferent(&["preview", "--reveal", "--time-zone", "Europe/Berlin", &file]);
    assert_eq!(shown.status.code(), Some(0), "{}", err(&shown));
    let text = out(&shown);
    for part in [
        "sysmex-xn@",
        "by its header, H.5 is",
        "specimen_id",
        "would be sent",
        "message 1 of 1",
        "\n  MSH|^~\\&|",
        "|ORU^R01^ORU_R01|",
        "\n  PID|1||700411^^^^MR||DOE^JANE||19800214|F",
        "|NM|789-8^Erythrocytes [#/volume] in Blood by Automated count^LN^RBC^^L|1|4.52|10*6/uL^10*6/uL^UCUM|",
        "|20261103091522+0100",
        "\n  SPM|1|26110307|",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}

#[test]
fn i8_preview_masks_the_patient_in_every_form() {
    let file = case("sysmex-xn/cases/normal-cbc-diff");
    for options in [&[][..], &["--json"], &["--as", "fhir"], &["--as", "fhir", "--json"]] {
        let shown = afferent(&[&["preview"], options, &[file.as_str()]].concat());
        let text = out(&shown);
        for secret in ["DOE", "JANE", "700411", "26110307", "19800214"] {
            assert!(!text.contains(secret), "{secret} with {options:?} in\n{text}");
        }
        assert!(text.contains("6.40"), "{options:?} shows no result:\n{text}");
    }
}

#[test]
fn i13_preview_holds_what_the_rules_hold_and_says_why() {
    let file = case("roche-cobas-c311/cases/normal-serum-seven-tests");
    let told = |options: &[&str]| -> serde_json::Value {
        let shown = afferent(&[&["preview", "--json"], options, &[file.as_str()]].concat());
        serde_json::from_slice(&shown.stdout).unwrap()
    };
    let held = told(&[]);
    assert_eq!((&held["sent"], &held["held"], &held["refused"]), (&6.into(), &1.into(), &0.into()));
    let results = held["results"].as_array().unwrap();
    let local = results.iter().find(|r| r["verdict"] == "held").unwrap();
    assert_eq!((&local["code"], &local["held_for"]), (&"735".into(), &serde_json::json!(["unmapped-code"])));
    assert!(!held["messages"][0].as_str().unwrap().contains("735^"), "what is held is in no message");
    let sent = told(&["--unmapped", "send-local", "--as", "fhir"]);
    assert_eq!((&sent["sent"], &sent["held"]), (&7.into(), &0.into()));
    assert_eq!(sent["messages"][0]["resourceType"], "Bundle");
    let observations = sent["messages"][0]["entry"].as_array().unwrap().iter();
    assert_eq!(observations.filter(|e| e["resource"]["resourceType"] == "Observation").count(), 7);
}

#[test]
fn preview_of_nothing_is_an_error_with_a_reason() {
    let missing = afferent(&["preview", "no-such-capture.bin"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(err(&missing).contains("no-such-capture.bin"));
    let driver = afferent(&["preview", "--driver", "acme", &case("sysmex-xn/cases/normal-cbc-diff")]);
    assert!(err(&driver).contains("no driver acme"), "{}", err(&driver));
    let (_dir, empty) = file("");
    assert_eq!(afferent(&["preview", &empty]).status.code(), Some(2), "no result in it");
}

#[test]
fn completions_are_made_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = afferent(&["completions", shell]);
        assert!(script.status.success() && out(&script).contains("afferent"), "{shell}");
    }
}

#[test]
fn every_command_has_a_man_page() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("man1");
    assert!(afferent(&["man", target.to_str().unwrap()]).status.success());
    for name in subcommands(&[]) {
        let page = target.join(format!("afferent-{name}.1"));
        assert!(page.is_file(), "{} is missing", page.display());
    }
    assert!(std::fs::read_to_string(target.join("afferent.1")).unwrap().contains(".TH afferent"));
}

#[test]
fn a_wrong_command_line_exits_with_2_and_a_suggestion() {
    let wrong = afferent(&["chekc"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(err(&wrong).contains("check"));
    let filter = afferent(&["config", "schema", "--log", "afferent=loud"]);
    assert_eq!(filter.status.code(), Some(1));
    assert!(err(&filter).contains("is no log filter"));
}

#[test]
fn every_command_of_the_readme_runs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let port = site::free_port();
    let authority = afferent::tls::throwaway::Authority::new().unwrap();
    std::fs::write(dir.path().join("ca.pem"), authority.ca_pem()).unwrap();
    std::fs::copy(dir.path().join("ca.pem"), dir.path().join("fleet-ca.pem")).unwrap();
    authority.client("bench-1").unwrap().write(dir.path(), "box").unwrap();
    let configurations = code_blocks(&readme, "toml");
    assert_eq!(configurations.len(), 2, "the README shows a configuration, and what makes it one of a fleet");
    // What this machine lacks is replaced: files of certificates, the port that may be taken, the data directory.
    let own = configurations
        .concat()
        .replace("hospital-ca.pem", "ca.pem")
        .replace("/etc/afferent", &dir.path().display().to_string())
        .replace("0.0.0.0:4001", &format!("127.0.0.1:{port}"));
    let data = dir.path().join("data");
    let text = format!("[gateway]\ndata = \"{}\"\n{own}", data.display());
    std::fs::write(dir.path().join("afferent.toml"), text).unwrap();
    std::fs::copy(case("roche-cobas-c311/cases/normal-serum-seven-tests"), dir.path().join("capture.txt")).unwrap();
    let answers = format!(
        "[gateway]\ndata = {data:?}\n[ehr]\naddress = \"127.0.0.1:9\"\ntls = false\nunreachable = \"keep\"\n\
         [link]\nlisten_s = 0\ndriver = \"roche-cobas-c311\"\n[test]\nsend = \"queue\"\n"
    );
    std::fs::write(dir.path().join("answers.toml"), answers).unwrap();
    let mut running = None;
    let mut shown = 0;
    for line in code_blocks(&readme, "sh").iter().flat_map(|block| block.lines()).filter(|l| !l.trim().is_empty()) {
        let line = line.split(" #").next().unwrap().trim();
        shown += 1;
        let own = line.strip_prefix("afferent ").or_else(|| line.strip_prefix("cargo run --release -- "));
        let Some(own) = own else {
            assert!(root.join(line).is_file(), "README shows `{line}`, which is not here");
            continue;
        };
        let mut command = Command::new(env!("CARGO_BIN_EXE_afferent"));
        command.args(own.split_whitespace()).current_dir(dir.path()).env_remove("AFFERENT_LOG");
        if own.starts_with("run ") {
            command.stdout(Stdio::null()).stderr(Stdio::null());
            running = Some(Running(command.spawn().unwrap()));
            site::until("the gateway listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
            continue;
        }
        if own == "demo" {
            command.args(["--seconds", "8"]);
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "`{line}` failed:\n{}{}", out(&output), err(&output));
        assert!(!output.stdout.is_empty(), "`{line}` says nothing");
    }
    assert!(shown >= 7, "README shows only {shown} commands");
    running.expect("README shows how to run it").stop();
}

#[test]
fn the_readme_names_exactly_the_commands_that_exist() {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let commands: BTreeSet<String> = subcommands(&[]).into_iter().collect();
    let mut named = BTreeSet::new();
    for shown in readme.lines().chain(readme.split('`')).filter_map(|text| text.strip_prefix("afferent ")) {
        let command = shown.split_whitespace().next().unwrap();
        assert!(commands.contains(command), "README names `afferent {command}`, which is no command");
        named.insert(command.to_owned());
    }
    let absent: Vec<&String> = commands.difference(&named).collect();
    assert!(absent.is_empty(), "README says nothing of {absent:?}");
}

#[test]
fn the_readme_points_at_files_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let mut pointed = 0;
    for path in readme.split('`').skip(1).step_by(2) {
        let is_path = ["src/", "tests/", "drivers/", ".ci/"].iter().any(|p| path.starts_with(p));
        if is_path && !path.contains(['<', '*', ' ']) {
            assert!(root.join(path).exists(), "README points at {path}, which is not here");
            pointed += 1;
        }
    }
    assert!(pointed >= 10, "README points at only {pointed} files");
}

fn code_blocks(markdown: &str, language: &str) -> Vec<String> {
    let opening = format!("```{language}\n");
    markdown.split(&opening).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}
