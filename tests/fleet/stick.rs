//! A configuration on a memory stick, for a box that its broker does not reach.

use crate::broker::{Broker, until};
use crate::commands::key;
use crate::config::{BOX, Site, listens, sealed};
use crate::ports::free_port;
use std::process::Command;

/// What the doctor says of a box.
fn doctor(site: &Site) -> String {
    let mut doctor = Command::new(env!("CARGO_BIN_EXE_afferent"));
    let output = doctor.args(["doctor", "--config"]).arg(site.file()).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_signed_and_somebody_carried_runs_without_a_broker() {
    let Some(broker) = Broker::start() else { return println!("left out: a stick (no mosquitto here)") };
    let mut site = Site::new(&broker, 4).await;
    let stick = site.dir.path().join("stick");
    std::fs::create_dir(&stick).unwrap();
    let line = site.own.lines().find(|line| line.starts_with("broker")).unwrap().to_string();
    let nobody = format!("broker = \"localhost:{}\"\nstick = {stick:?}", free_port());
    site.own = site.own.replace(&line, &nobody);
    std::fs::write(site.file(), format!("{}{}", site.own, site.text(&[]))).unwrap();
    site.run(None);
    until("the box is there", || listens(site.astm));

    let port = free_port();
    let text = site.text(&[("more", port)]);
    let file = stick.join(afferent::fleet::stick::file_name(BOX));
    std::fs::write(&file, sealed(&site.desired(1, &text), &key("eve"))).unwrap();
    until("a stranger's is named", || {
        doctor(&site).contains("stick is not taken: no operator of this box who may has signed it")
    });
    std::fs::write(&file, sealed(&site.desired(1, "[[link]]"), &key("ann"))).unwrap();
    until("one that is wrong is named", || doctor(&site).contains("revision 1 is refused: the check finds faults"));
    assert!(!listens(port));

    let written = site.dir.path().join("bench-1.toml");
    std::fs::write(&written, &text).unwrap();
    let (from, to) = (written.to_str().unwrap(), stick.to_str().unwrap());
    let arguments = ["stick", BOX, from, "--sign", "ann.key", "--out", to, "--rev", "2"];
    let output = site.desk(&broker, &arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    until("it is confirmed", || doctor(&site).contains("revision 2 runs; revision 2 is committed"));
    assert!(listens(port));

    // The stick stays where it is, and an older one is put in after that: nothing happens any more.
    site.kill();
    site.run(None);
    until("the box is there again", || listens(port));
    std::fs::write(&file, sealed(&site.desired(1, "[[link]]"), &key("ann"))).unwrap();
    until("an older one is named", || doctor(&site).contains("stick is not taken: a later revision was seen"));
    std::fs::remove_file(&file).unwrap();
    until("it was pulled out", || doctor(&site).contains("revision 2 runs; revision 2 is committed"));
    let told = |state: &str| {
        let sql = "SELECT count(*) FROM desired WHERE phase = ?1";
        site.store().query_row(sql, [state], |row| row.get::<_, i64>(0)).unwrap()
    };
    assert_eq!((told("committed"), told("refused")), (1, 1));
}
