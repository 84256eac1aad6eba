//! The binary from outside: what a person types, what is printed where, and which code it exits with.

use std::process::{Command, Output};

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
    for part in [":3:1", "did you mean `listen`", ":6:11", "plain = true", "2 faults"] {
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
    let checked = afferent(&["check", &path]);
    // The sample names the EHR over TLS with the system's authorities, which a bare machine may lack.
    let (code, told) = (checked.status.code(), err(&checked));
    assert!(code == Some(0) || told.contains("no bundle of trusted authorities"), "{told}");
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
