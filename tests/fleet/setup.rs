//! A setup joins the box to a fleet: it shows the box's code, somebody at a real desk accepts that, and the report says so.

use crate::identity::Site;
use crate::ports::free_port;
use crate::rig::TENANT;
use serde_json::Value;
use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
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

/// Gives the data directory to the service, and has it read its configuration; says whether this may do that.
fn give_to_service(site: &Site) -> bool {
    std::fs::create_dir(site.path("data")).unwrap();
    let is_given = chown(site.path("data"), Some(SERVICE), Some(SERVICE)).is_ok();
    if is_given {
        chown(site.path("."), None, Some(SERVICE)).unwrap();
        std::fs::set_permissions(site.path("."), Permissions::from_mode(0o750)).unwrap();
    } else {
        println!("left out: a service that is not whoever sets it up (this is not root)");
    }
    is_given
}

/// All in the data directory is the service's.
fn is_all_the_services(site: &Site) {
    let mut folders = vec![site.path("data")];
    while let Some(folder) = folders.pop() {
        for file in std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()) {
            let about = std::fs::symlink_metadata(&file).unwrap();
            assert_eq!((about.uid(), about.gid()), (SERVICE, SERVICE), "{}", file.display());
            folders.extend(about.is_dir().then_some(file));
        }
    }
}

/// A box whose setup waits for the desk, and whether its data directory is the service's.
fn waits_for_desk() -> (Site, bool) {
    let mut site = Site::new();
    site.serve("90d");
    let is_given = give_to_service(&site);
    std::fs::write(site.path("answers.toml"), answers(&site, "wait_s = 120\n")).unwrap();
    (site, is_given)
}

const SET_UP: [&str; 6] = ["setup", "--config", "box.toml", "--answers", "answers.toml", "--json"];

#[test]
fn a_setup_ends_with_a_certificate_once_the_desk_has_accepted_the_code_it_shows() {
    let (site, is_given) = waits_for_desk();
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
    if is_given {
        is_all_the_services(&site);
    }
}

#[test]
fn a_setup_that_is_killed_while_it_waits_for_the_desk_leaves_what_the_service_and_the_next_setup_go_on_with() {
    let (site, is_given) = waits_for_desk();
    let set_up = || site.command(&SET_UP).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut killed = set_up();
    let code = site.code();
    killed.kill().unwrap();
    killed.wait().unwrap();
    let service = |words: &[&str]| {
        let mut command = site.command(words);
        if is_given {
            is_all_the_services(&site);
            command.uid(SERVICE).gid(SERVICE);
        }
        let output = command.output().unwrap();
        (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (_, told) = service(&["fleet", "enrol", "--config", "box.toml", "--wait-s", "0"]);
    assert!(told.contains("nobody let this box in") && told.contains(&code), "{told}");
    let setting_up = set_up();
    site.says(&["desk", "enrol", "accept", &code, "--name", "bench-1"]);
    let done = setting_up.wait_with_output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let (shown, told) = service(&["fleet", "enrol", "--config", "box.toml", "--wait-s", "0"]);
    assert!(shown.starts_with("bench-1 until "), "{shown} {told}");
}

#[test]
fn what_a_service_plants_in_its_folder_leads_a_setup_by_root_nowhere() {
    let site = Site::new();
    if !give_to_service(&site) {
        return;
    }
    let roots = site.path("roots");
    std::fs::create_dir(&roots).unwrap();
    std::fs::set_permissions(&roots, Permissions::from_mode(0o700)).unwrap();
    std::fs::write(roots.join("next.key"), "root's").unwrap();
    symlink(&roots, site.path("data/identity")).unwrap();
    std::fs::write(site.path("answers.toml"), answers(&site, "wait_s = 0\n")).unwrap();
    let output = site.command(&SET_UP).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && told.contains("Permission denied"), "{told}");
    let about = std::fs::metadata(roots.join("next.key")).unwrap();
    assert_eq!((about.uid(), std::fs::read_dir(&roots).unwrap().count()), (0, 1));
    assert_eq!(std::fs::read(roots.join("next.key")).unwrap(), b"root's");
}

#[test]
fn what_keeps_the_box_from_its_identity_is_told_by_its_name() {
    let site = Site::new();
    if !give_to_service(&site) {
        return;
    }
    site.configure(free_port());
    std::fs::set_permissions(site.path("box.toml"), Permissions::from_mode(0o644)).unwrap();
    std::fs::create_dir(site.path("data/identity")).unwrap();
    chown(site.path("data/identity"), Some(SERVICE), Some(SERVICE)).unwrap();
    let lock = site.path("data/identity/lock");
    let held = std::fs::File::create(&lock).unwrap();
    std::fs::set_permissions(&lock, Permissions::from_mode(0o600)).unwrap();
    let asks = || {
        let mut command = site.command(&["fleet", "enrol", "--config", "box.toml", "--wait-s", "0"]);
        String::from_utf8(command.uid(SERVICE).gid(SERVICE).output().unwrap().stderr).unwrap()
    };
    let told = asks();
    assert!(told.contains("Permission denied") && told.contains(&format!("chown -hR {SERVICE} ")), "{told}");
    assert!(!told.contains("another process"), "{told}");
    chown(&lock, Some(SERVICE), Some(SERVICE)).unwrap();
    held.lock().unwrap();
    let told = asks();
    assert!(told.contains("another process keeps this box's identity"), "{told}");
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
