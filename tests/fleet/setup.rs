//! A setup joins the box to a fleet: it shows the box's code, somebody at a real desk accepts that, and the report says so.

use crate::identity::Site;
use crate::ports::free_port;
use crate::rig::TENANT;
use serde_json::Value;
use std::os::unix::fs::{MetadataExt, chown};
use std::process::Stdio;

/// Whom the data directory belongs to, where the service has a user of its own.
const SERVICE: u32 = 4711;

fn answers(site: &Site, waits: &str) -> String {
    format!(
        "[gateway]\nname = \"bench-1\"\ndata = {data:?}\n[ehr]\naddress = \"127.0.0.1:9\"\ntls = false\n\
         unreachable = \"keep\"\n[link]\nlisten = \"127.0.0.1:{port}\"\nlisten_s = 0\ndriver = \"roche-cobas-c311\"\n\
         [fleet]\njoin = true\nbroker = \"localhost:8883\"\ntenant = \"{TENANT}\"\ndesk = \"{desk}\"\nca = {ca:?}\n{waits}\
         [test]\nsend = \"queue\"\n",
        data = site.path("data"),
        port = free_port(),
        desk = site.address(),
        ca = site.path("trust.pem"),
    )
}

const SET_UP: [&str; 6] = ["setup", "--config", "box.toml", "--answers", "answers.toml", "--json"];

#[test]
fn a_setup_ends_with_a_certificate_once_the_desk_has_accepted_the_code_it_shows() {
    let mut site = Site::new();
    site.serve("90d");
    std::fs::create_dir(site.path("data")).unwrap();
    let is_given = chown(site.path("data"), Some(SERVICE), Some(SERVICE)).is_ok();
    std::fs::write(site.path("answers.toml"), answers(&site, "wait_s = 120\n")).unwrap();
    let mut command = site.command(&SET_UP);
    let setting_up = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let code = site.code();
    site.says(&["desk", "enrol", "accept", &code, "--name", "bench-1"]);
    let done = setting_up.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{told}");
    assert!(told.contains(&format!("to let it in, as {code}")) && told.contains("let in as bench-1"), "{told}");
    let report: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(report["enrolled"]["worked"], true, "{report}");
    assert!(!report["open"].to_string().contains("the desk has to let the box in"), "{report}");
    assert!(site.serial().is_some(), "it has its certificate");
    let identity = std::fs::read_dir(site.path("data/identity")).unwrap().map(|file| file.unwrap().path());
    for file in identity.filter(|_| is_given) {
        assert_eq!(std::fs::metadata(&file).unwrap().uid(), SERVICE, "the service can read {}", file.display());
    }
}

#[test]
fn where_nobody_is_at_the_desk_the_report_has_the_code() {
    let mut site = Site::new();
    site.serve("90d");
    std::fs::write(site.path("answers.toml"), answers(&site, "wait_s = 1\nwaits = \"keep\"\n")).unwrap();
    let report: Value = serde_json::from_str(&site.says(&SET_UP)).unwrap();
    assert_eq!(report["enrolled"]["worked"], false, "{report}");
    let code = site.code();
    let accept = format!("afferent desk enrol accept {code} --name NAME");
    assert!(report["open"].to_string().contains(&accept), "{report}");
    let page = std::fs::read_to_string(site.path("box.handover.txt")).unwrap();
    assert!(page.contains("NOT YET") && page.contains(&code), "{page}");
}
