//! The seven steps of drivers/README.md, followed to the letter.

use std::path::Path;
use std::process::Command;

/// What a tap would have saved of an instrument nobody wrote a driver for.
const CAPTURE: &str = "> <ENQ>\n< <ACK>\n\
    > <STX>1H|\\^&|||ACME One^2.1|||||||P|LIS2-A2|20261103090000<CR>\n\
    > P|1||***<CR>\n> O|1|****||^^^Glucose|R<CR>\n\
    > R|1|^^^Glucose|5.40|mmol/l|3.9 to 6.1|N||F||op1||20261103085800<CR>\n\
    > L|1|N<CR><ETX><CS><CR><LF>\n< <ACK>\n> <EOT>\n";

#[test]
fn a_newcomer_who_follows_the_seven_steps_has_a_driver_that_sends() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let recipe = std::fs::read_to_string(root.join("drivers/README.md")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("run.txt"), CAPTURE).unwrap();
    let bin = dir.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_afferent"), bin.join("afferent")).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let run = |line: &str| {
        let output = Command::new("sh").args(["-c", line]).current_dir(dir.path()).env("PATH", &path).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "`{line}` failed:\n{said}{}", String::from_utf8_lossy(&output.stderr));
        said
    };
    let toml = dir.path().join("acme-one/driver.toml");
    for line in crate::code_blocks(&recipe, "sh").iter().flat_map(|block| block.lines()) {
        let said = run(line);
        if line.contains("driver new") {
            // Steps 3 and 5: the names, and the suggestion taken over by a person.
            let text = std::fs::read_to_string(&toml).unwrap();
            assert!(text.contains("## perhaps 14749-6"), "{text}");
            let begun = text.find("# [[analyte]]").unwrap();
            let text = format!(
                "{}[[analyte]]\ncode = \"Glucose\"\nloinc = \"14749-6\"\nunits = {{ \"mmol/l\" = \"mmol/L\" }}\n",
                text[..begun].replacen("\"?\"", "\"ACME\"", 1).replacen("\"?\"", "\"One\"", 1)
            );
            std::fs::write(&toml, text).unwrap();
        }
        if line.contains("--drivers") {
            assert!(said.contains("1 = 1 sent + 0 held"), "the driver that was begun is used: {said}");
        }
    }
    let sent = std::fs::read_to_string(dir.path().join("acme-one/cases/normal-run/ehr.hl7")).unwrap();
    assert!(sent.contains("14749-6") && sent.contains("|5.40|"), "{sent}");
}
