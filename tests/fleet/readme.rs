//! What the README shows of a fleet, word for word.

use crate::broker::until;
use crate::desk::Beside;
use crate::ports::free_port;
use afferent::sim::fleet::stage::Mosquitto;
use std::process::Command;

#[test]
fn the_fleet_of_the_readme_runs() {
    let readme = include_str!("../../README.md");
    let mut blocks = readme.split("```console\n").skip(1).filter_map(|rest| rest.split("```").next());
    let block = blocks.find(|block| block.contains(" sim fleet ")).unwrap();
    let lines: Vec<&str> = block.lines().map(|line| line.split(" #").next().unwrap().trim()).collect();
    assert!(lines.len() >= 6, "{lines:?}");
    if Mosquitto::program().is_none() {
        return println!("left out: the fleet of the README (no mosquitto here)");
    }
    let dir = tempfile::tempdir().unwrap();
    let mut folder = dir.path().to_path_buf();
    let mut beside = Vec::new();
    for line in lines {
        let line = line.strip_prefix("$ ").unwrap();
        if let Some(into) = line.strip_prefix("cd ") {
            folder = folder.join(into);
            continue;
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_afferent"));
        command.args(line.strip_prefix("afferent ").unwrap().split_whitespace()).current_dir(&folder);
        if line.contains(" sim fleet ") {
            // The shipped port may be taken.
            command.args(["--port", &free_port().to_string(), "--births-s", "0"]);
            beside.push(Beside::start(command));
            until("both boxes are there", || {
                let mut look = Command::new(env!("CARGO_BIN_EXE_afferent"));
                look.args(["desk", "fleet", "--desk", "fleet/desk.toml"]).current_dir(&folder);
                let seen = String::from_utf8(look.output().unwrap().stdout).unwrap();
                seen.contains("2 boxes: 0 away")
            });
        } else if line.contains(" serve") {
            command.args(["--listen", "127.0.0.1:0"]);
            beside.push(Beside::start(command));
            until("the page is served", || folder.join("page.token").exists());
        } else {
            let output = command.output().unwrap();
            assert!(
                output.status.success() && (line.contains(" put ") || !output.stdout.is_empty()),
                "{line}: {output:?}"
            );
        }
    }
    assert_eq!(beside.len(), 2, "the README shows a fleet and its page");
}
