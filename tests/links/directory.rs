//! Folders in which instruments leave files.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::rig::{Rig, health, until};

/// The link, and what may be said more about its files.
fn folder(path: &Path, protocol: &str, more: &str) -> String {
    std::fs::create_dir_all(path).unwrap();
    let driver = if protocol == "table" { "driver = \"generic-table\"\n" } else { "" };
    format!(
        "[[link]]\nname = \"folder\"\nprotocol = \"{protocol}\"\ndirectory = {path:?}\n{driver}clock_limit_s = 0\n\
         unmapped = \"send-local\"\n[link.timers]\nreconnect_min_ms = 20\nreconnect_max_ms = 100\n\
         [link.files]\npoll_ms = 20\nstable_ms = 100\n{more}"
    )
}

fn table(specimen: &str, value: &str) -> String {
    format!("Sample ID;Test;Result;Unit;Date\n{specimen};GLU;{value};mmol/L;2026-11-03 08:00\n")
}

fn names(folder: &Path) -> Vec<String> {
    let list = std::fs::read_dir(folder).into_iter().flatten().map(Result::unwrap);
    let mut names: Vec<String> = list
        .filter(|entry| entry.path().is_file())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// How often the chart has a message about this specimen.
fn arrived(rig: &Rig, specimen: &str) -> usize {
    rig.chart().iter().filter(|arrival| arrival.specimens.iter().any(|s| s == specimen)).count()
}

#[tokio::test]
async fn i4_a_file_is_taken_once_archived_and_the_same_one_again_is_a_repeat() {
    let rig = Rig::new().await;
    let drop = rig.path("drop");
    let gateway = rig.gateway(&folder(&drop, "table", "")).await;
    let odd = drop.join(OsStr::from_bytes(b"r\xe9sultat 1.csv"));
    std::fs::write(&odd, table("F-1", "5.1")).unwrap();
    std::fs::write(drop.join("writing.csv.tmp"), table("F-9", "9.9")).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", drop.join("link.csv")).unwrap();
    until("the file is archived", || !odd.exists()).await;
    until("its result arrives", || arrived(&rig, "F-1") == 1).await;

    std::fs::write(&odd, table("F-1", "5.1")).unwrap();
    until("the repeat is archived too", || names(&drop.join("archive")).len() == 2).await;
    std::fs::write(&odd, table("F-1", "5.2")).unwrap();
    until("another content under the name is news", || arrived(&rig, "F-1") == 2).await;
    std::fs::rename(drop.join("writing.csv.tmp"), drop.join("written.csv")).unwrap();
    until("a file counts once it has its name", || arrived(&rig, "F-9") == 1).await;
    until("everything is archived", || names(&drop.join("archive")).len() == 4).await;
    assert_eq!(arrived(&rig, "F-1"), 2);
    assert_eq!(names(&drop), ["link.csv"], "what is no regular file stays");
    gateway.stop().await;
}

#[tokio::test]
async fn a_file_that_is_written_slowly_is_taken_whole() {
    let rig = Rig::new().await;
    let drop = rig.path("drop");
    let gateway = rig.gateway(&folder(&drop, "table", "")).await;
    let path = drop.join("slow.csv");
    let writer = std::thread::spawn({
        let path = path.clone();
        move || {
            use std::io::Write;
            let mut file = std::fs::File::create(path).unwrap();
            for line in ["Sample ID;Test;Result\n", "F-1;GLU;5.1\n", "F-1;K;4.", "0\n"] {
                for half in line.as_bytes().chunks(3) {
                    file.write_all(half).unwrap();
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
        }
    });
    tokio::task::spawn_blocking(|| writer.join().unwrap()).await.unwrap();
    until("the results arrive", || arrived(&rig, "F-1") == 1).await;
    assert_eq!(rig.chart()[0].results, 2);
    assert_eq!(health(&gateway, "folder").messages, 1);
    gateway.stop().await;
}

#[tokio::test]
async fn a_file_its_writer_goes_on_with_after_it_was_archived_is_taken_again() {
    let rig = Rig::new().await;
    let drop = rig.path("drop");
    let gateway = rig.gateway(&folder(&drop, "table", "")).await;
    use std::io::Write;
    let mut open = std::fs::File::create(drop.join("open.csv")).unwrap();
    open.write_all(table("F-1", "5.1").as_bytes()).unwrap();
    until("it is archived", || names(&drop.join("archive")) == ["open.csv"]).await;
    open.write_all(b"F-2;GLU;6.0;mmol/L;2026-11-03 08:10\n").unwrap();
    until("what was added arrives", || arrived(&rig, "F-2") == 1).await;
    until("it is archived again", || names(&drop).is_empty()).await;
    assert_eq!(arrived(&rig, "F-1"), 1, "what was there before is a repeat");
    let reasons = health(&gateway, "folder").reasons;
    assert!(reasons.keys().any(|reason| reason.contains("changed after it was archived")), "{reasons:?}");
    gateway.stop().await;
}

#[tokio::test]
async fn i7_a_file_that_is_too_large_is_refused_with_its_reason() {
    let rig = Rig::new().await;
    let drop = rig.path("drop");
    let gateway = rig.gateway(&folder(&drop, "table", "size_max_kb = 1\ntrigger = \".ok\"\n")).await;
    std::fs::write(drop.join("large.csv"), vec![b'x'; 2000]).unwrap();
    std::fs::write(drop.join("small.csv"), table("F-1", "5.1")).unwrap();
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(names(&drop), ["large.csv", "small.csv"], "nothing is taken before its trigger is there");
    std::fs::write(drop.join("large.ok"), "").unwrap();
    std::fs::write(drop.join("small.csv.ok"), "").unwrap();
    until("both are gone", || names(&drop).is_empty()).await;
    until("the small one arrives", || arrived(&rig, "F-1") == 1).await;
    assert_eq!(names(&drop.join("refused")), ["large.csv", "large.csv.reason.txt"]);
    let reason = std::fs::read_to_string(drop.join("refused/large.csv.reason.txt")).unwrap();
    assert!(reason.contains("size_max_kb"), "{reason}");
    gateway.stop().await;
}

#[tokio::test]
async fn a_share_may_go_away_and_come_back_and_a_file_that_cannot_be_moved_is_taken_once() {
    let rig = Rig::new().await;
    let drop = rig.path("drop");
    let gateway = rig.gateway(&folder(&drop, "table", "take = [\"*.CSV\"]\n")).await;
    until("the folder is there", || health(&gateway, "folder").up).await;
    let away = rig.path("away");
    std::fs::rename(&drop, &away).unwrap();
    until("its absence is noticed", || !health(&gateway, "folder").up).await;
    std::fs::write(away.join("archive"), "in the way").unwrap();
    std::fs::write(away.join("one.csv"), table("F-1", "5.1")).unwrap();
    std::fs::rename(&away, &drop).unwrap();
    until("the file is taken", || arrived(&rig, "F-1") == 1).await;
    let stuck = || health(&gateway, "folder").reasons.iter().any(|(why, n)| why.contains("cannot be moved") && *n > 3);
    until("the trouble is told", stuck).await;
    std::fs::remove_file(drop.join("archive")).unwrap();
    until("it is archived in the end", || names(&drop).is_empty()).await;
    assert_eq!((arrived(&rig, "F-1"), health(&gateway, "folder").messages), (1, 1));
    gateway.stop().await;
}

#[tokio::test]
async fn files_that_are_left_are_remembered_over_a_restart_and_a_change_alerts() {
    let rig = Rig::new().await;
    let drop = rig.path("drop");
    let links = folder(&drop, "table", "then = \"leave\"\n");
    let path = drop.join("kept.csv");
    std::fs::write(&path, table("F-1", "5.1")).unwrap();
    let gateway = rig.gateway(&links).await;
    until("it is taken", || arrived(&rig, "F-1") == 1).await;
    gateway.stop().await;
    let gateway = rig.gateway(&links).await;
    until("the folder is there", || health(&gateway, "folder").up).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(health(&gateway, "folder").messages, 0, "it is known, however long the journal keeps its entry");
    std::fs::write(&path, table("F-1", "5.1") + "F-2;GLU;7.0;mmol/L;2026-11-03 09:00\n").unwrap();
    until("what changed is news", || arrived(&rig, "F-2") == 1).await;
    assert_eq!(arrived(&rig, "F-1"), 1, "the journal knew the rest");
    let reasons = health(&gateway, "folder").reasons;
    assert!(reasons.keys().any(|reason| reason.contains("changed after it was taken")), "{reasons:?}");
    assert_eq!(names(&drop), ["kept.csv"]);
    gateway.stop().await;
}

#[tokio::test]
async fn files_hold_records_and_batches_too() {
    let rig = Rig::new().await;
    let (records, batches) = (rig.path("records"), rig.path("batches"));
    let astm = folder(&records, "astm", "");
    let hl7 = folder(&batches, "hl7", "").replace("\"folder\"", "\"batch\"");
    let gateway = rig.gateway(&(astm + &hl7)).await;
    let text = "\u{feff}H|\\^&|||Acme|||||||P|1\rP|1\rO|1|F-1||^^^GLU\rR|1|^^^GLU|5.1|mmol/L||N||F\rL|1|N\r";
    let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    std::fs::write(records.join("records.txt"), utf16).unwrap();
    let message = |id: &str| {
        format!(
            "MSH|^~\\&|ACME|LAB|||20261103080000||ORU^R01|{id}|P|2.5.1\rPID|1\rOBR|1||{id}|GLU\rSPM|1|{id}\r\
             OBX|1|NM|GLU^Glucose||5.1|mmol/L|||||F\r"
        )
    };
    let batch = format!("FHS|^~\\&|ACME\rBHS|^~\\&|ACME\r{}{}BTS|2\rFTS|1\r", message("F-2"), message("F-3"));
    std::fs::write(batches.join("batch.hl7"), batch.replace('\r', "\r\n")).unwrap();
    for specimen in ["F-1", "F-2", "F-3"] {
        until("the results arrive", || arrived(&rig, specimen) == 1).await;
    }
    gateway.stop().await;
}

#[tokio::test]
async fn i1_a_gateway_that_is_killed_again_and_again_neither_loses_nor_doubles_a_file() {
    const FILES: usize = 60;
    let rig = Rig::new().await;
    let drop = rig.path("drop");
    let links = folder(&drop, "table", "");
    let write = |number: usize| {
        let path: PathBuf = drop.join(format!("{number}.csv"));
        std::fs::write(path, table(&format!("F-{number}"), "5.1")).unwrap();
    };
    for round in 0..6 {
        (round * FILES / 6..(round + 1) * FILES / 6).for_each(write);
        let served = rig.child(&links).await;
        // The later the round, the longer it lives: killed before, while and after it takes the files.
        tokio::time::sleep(Duration::from_millis(40 * round as u64)).await;
        std::mem::drop(served);
    }
    let _served = rig.child(&links).await;
    until("every file is archived", || names(&drop).is_empty()).await;
    assert_eq!(names(&drop.join("archive")).len(), FILES);
    until("every result is in the chart", || (0..FILES).all(|n| arrived(&rig, &format!("F-{n}")) >= 1)).await;
    // A message whose answer died with the gateway comes again under its own id (invariant I5): that is no second one.
    let ids = |specimen: String| {
        let of_it = rig.chart().into_iter().filter(move |arrival| arrival.specimens.contains(&specimen));
        of_it.map(|arrival| (arrival.message_id, arrival.digest)).collect::<std::collections::BTreeSet<_>>()
    };
    let doubled: Vec<usize> = (0..FILES).filter(|n| ids(format!("F-{n}")).len() > 1).collect();
    assert_eq!(doubled, Vec::<usize>::new());
}

#[tokio::test]
async fn i4_a_gateway_that_dies_between_custody_and_archive_takes_no_file_twice() {
    let rig = Rig::new().await;
    let drop = rig.path("drop");
    let links = folder(&drop, "table", "");
    for number in 1..=3 {
        std::fs::write(drop.join(format!("{number}.csv")), table(&format!("F-{number}"), "5.1")).unwrap();
    }
    for death in 1..=3 {
        rig.child_dies(&links, "file-taken:1").await;
        assert!(names(&drop.join("archive")).len() < death, "it died before the file was archived");
    }
    let served = rig.child(&links).await;
    until("every file is archived", || names(&drop).is_empty()).await;
    until("every result is in the chart", || (1..=3).all(|n| arrived(&rig, &format!("F-{n}")) >= 1)).await;
    assert_eq!(entries(&rig).await, 3, "the journal has each file once");
    std::mem::drop(served);
}

/// Messages that are in the chart, each counted once however often it was sent.
async fn entries(rig: &Rig) -> usize {
    let ids = |rig: &Rig| {
        rig.chart().into_iter().map(|arrival| arrival.message_id).collect::<std::collections::BTreeSet<_>>()
    };
    let mut before = ids(rig);
    loop {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let now = ids(rig);
        if now == before {
            return now.len();
        }
        before = now;
    }
}

const HEADING: &str = "Sample ID;Test;Result;Unit;Date\n";

fn row(number: usize) -> String {
    format!("G-{number};GLU;5.{number};mmol/L;2026-11-03 08:{:02}\n", number % 60)
}

#[tokio::test]
async fn a_file_that_grows_is_read_on_where_it_was_left_and_anew_when_it_is_another() {
    use std::io::Write;
    let rig = Rig::new().await;
    let drop = rig.path("drop");
    let links = folder(&drop, "table", "grows = true\n");
    let log = drop.join("log.csv");
    let append = |text: &str| {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&log).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    };
    append(HEADING);
    let gateway = rig.gateway(&links).await;
    append(&row(1));
    until("the first row arrives", || arrived(&rig, "G-1") == 1).await;
    // Half a line is none.
    append("G-2;GL");
    tokio::time::sleep(Duration::from_millis(200)).await;
    append("U;5.2;mmol/L;2026-11-03 08:02\n");
    until("the second one arrives whole", || arrived(&rig, "G-2") == 1).await;
    gateway.stop().await;
    append(&row(3));
    let gateway = rig.gateway(&links).await;
    until("what was written meanwhile arrives", || arrived(&rig, "G-3") == 1).await;
    assert_eq!((arrived(&rig, "G-1"), arrived(&rig, "G-2"), health(&gateway, "folder").messages), (1, 1, 1));
    // Another file under the name, as after midnight.
    std::fs::write(&log, format!("# day two\n{HEADING}")).unwrap();
    append(&row(4));
    until("it is read from its beginning", || arrived(&rig, "G-4") == 1).await;
    let reasons = health(&gateway, "folder").reasons;
    assert!(reasons.keys().any(|reason| reason.contains("begun anew")), "{reasons:?}");
    assert_eq!(names(&drop), ["log.csv"], "it stays where it is");
    gateway.stop().await;
}

fn rows(numbers: std::ops::RangeInclusive<usize>) -> String {
    HEADING.to_string() + &numbers.map(row).collect::<String>()
}

#[tokio::test]
async fn another_growing_file_with_the_same_heading_is_read_from_its_beginning() {
    let rig = Rig::new().await;
    let drop = rig.path("drop");
    let links = folder(&drop, "table", "grows = true\n");
    std::fs::write(drop.join("log.csv"), rows(1..=2)).unwrap();
    let gateway = rig.gateway(&links).await;
    until("the first day arrives", || arrived(&rig, "G-2") == 1).await;
    gateway.stop().await;
    // Longer than what was read, and none of its rows ends where those did.
    let second = rows(11..=15);
    std::fs::write(drop.join("log.csv"), &second).unwrap();
    let gateway = rig.gateway(&links).await;
    until("every row of the second day arrives", || (11..=15).all(|n| arrived(&rig, &format!("G-{n}")) == 1)).await;
    assert_eq!(rig.chart().iter().map(|arrival| arrival.results).sum::<usize>(), 7, "and no piece of a row");
    gateway.stop().await;
}

#[tokio::test]
async fn i4_growing_files_that_are_renamed_are_not_taken_again() {
    let rig = Rig::new().await;
    let drop = rig.path("drop");
    let links = folder(&drop, "table", "grows = true\n");
    let file = |name: &str| drop.join(name);
    std::fs::write(file("log.csv"), rows(1..=2)).unwrap();
    let gateway = rig.gateway(&links).await;
    until("the first rows arrive", || arrived(&rig, "G-2") == 1).await;
    // The new file is empty at first.
    std::fs::rename(file("log.csv"), file("log.1.csv")).unwrap();
    std::fs::write(file("log.csv"), "").unwrap();
    tokio::time::sleep(Duration::from_millis(400)).await;
    std::fs::write(file("log.csv"), rows(3..=4)).unwrap();
    until("the new file arrives", || arrived(&rig, "G-4") == 1).await;
    gateway.stop().await;
    // Once more while nobody looks, with a last row.
    std::fs::rename(file("log.1.csv"), file("log.2.csv")).unwrap();
    std::fs::write(file("log.1.csv"), rows(3..=5)).unwrap();
    std::fs::write(file("log.csv"), rows(6..=6)).unwrap();
    let gateway = rig.gateway(&links).await;
    until("what is new arrives", || arrived(&rig, "G-5") == 1 && arrived(&rig, "G-6") == 1).await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!((1..=6).map(|n| arrived(&rig, &format!("G-{n}"))).collect::<Vec<_>>(), [1; 6]);
    gateway.stop().await;
}

#[tokio::test]
async fn i4_a_growing_file_that_is_seen_half_written_over_is_not_taken_again() {
    let rig = Rig::new().await;
    let drop = rig.path("drop");
    let links = folder(&drop, "table", "grows = true\n").replace("stable_ms = 100", "stable_ms = 2000");
    let log = drop.join("log.csv");
    std::fs::write(&log, rows(1..=3)).unwrap();
    let gateway = rig.gateway(&links).await;
    until("the rows arrive", || arrived(&rig, "G-3") == 1).await;
    std::fs::write(&log, rows(1..=1)).unwrap();
    let seen = || health(&gateway, "folder").reasons.keys().any(|reason| reason.contains("begun anew"));
    until("the half of it is seen", seen).await;
    std::fs::write(&log, rows(1..=4)).unwrap();
    until("the new row arrives", || arrived(&rig, "G-4") == 1).await;
    assert_eq!((1..=4).map(|n| arrived(&rig, &format!("G-{n}"))).collect::<Vec<_>>(), [1; 4]);
    assert_eq!(health(&gateway, "folder").messages, 2);
    gateway.stop().await;
}

#[tokio::test]
async fn i4_an_empty_mount_point_and_a_broken_memory_take_nothing_twice() {
    let rig = Rig::new().await;
    let drop = rig.path("drop");
    let links = folder(&drop, "table", "grows = true\n");
    std::fs::write(drop.join("log.csv"), rows(1..=1)).unwrap();
    let gateway = rig.gateway(&links).await;
    until("the row arrives", || arrived(&rig, "G-1") == 1).await;
    let away = rig.path("away");
    std::fs::rename(&drop, &away).unwrap();
    std::fs::create_dir(&drop).unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    std::fs::remove_dir(&drop).unwrap();
    std::fs::rename(&away, &drop).unwrap();
    std::fs::write(drop.join("log.csv"), rows(1..=2)).unwrap();
    until("the next row arrives", || arrived(&rig, "G-2") == 1).await;
    assert_eq!((arrived(&rig, "G-1"), health(&gateway, "folder").messages), (1, 2));
    gateway.stop().await;

    let memory = rig.path("data/folders/folder.json");
    let good = std::fs::read(&memory).unwrap();
    std::fs::write(&memory, "{").unwrap();
    let gateway = rig.gateway(&links).await;
    let told = || health(&gateway, "folder").reasons.keys().any(|reason| reason.contains("restore the file"));
    until("it is told", told).await;
    assert!(!health(&gateway, "folder").up);
    std::fs::write(&memory, good).unwrap();
    until("the link goes on", || health(&gateway, "folder").up).await;
    assert_eq!(health(&gateway, "folder").messages, 0);
    gateway.stop().await;
}

#[tokio::test]
async fn a_growing_file_without_line_ends_is_told() {
    let rig = Rig::new().await;
    let drop = rig.path("drop");
    let gateway = rig.gateway(&folder(&drop, "table", "grows = true\n")).await;
    std::fs::write(drop.join("log.csv"), rows(1..=2000).replace('\n', "\r")).unwrap();
    let told = || health(&gateway, "folder").reasons.keys().any(|reason| reason.contains("carriage return alone"));
    until("it is told", told).await;
    gateway.stop().await;
}

#[tokio::test]
async fn i4_a_gateway_that_dies_with_lines_of_a_growing_file_takes_none_twice() {
    use std::io::Write;
    let rig = Rig::new().await;
    let drop = rig.path("drop");
    let links = folder(&drop, "table", "grows = true\n");
    let log = drop.join("log.csv");
    std::fs::write(&log, HEADING).unwrap();
    for number in 1..=3 {
        let mut file = std::fs::OpenOptions::new().append(true).open(&log).unwrap();
        file.write_all(row(number).as_bytes()).unwrap();
        rig.child_dies(&links, "file-taken:1").await;
    }
    let served = rig.child(&links).await;
    until("every row is in the chart", || (1..=3).all(|n| arrived(&rig, &format!("G-{n}")) >= 1)).await;
    assert_eq!(entries(&rig).await, 3, "each row once, though it was offered twice");
    std::mem::drop(served);
}

#[tokio::test]
async fn i7_with_a_full_disk_files_wait_and_are_taken_once_there_is_room() {
    let rig = Rig::new().await;
    let drop = rig.path("drop");
    let links = folder(&drop, "table", "");
    let full = rig.text(&links).replace("[journal]\n", "[journal]\nquota_mb = 1\n");
    let config = afferent::config::parse("full.toml", &full).unwrap_or_else(|error| panic!("{error}")).config;
    let gateway = afferent::gateway::Gateway::start(&config).await.unwrap();
    // The first file is all that the journal may hold.
    std::fs::write(drop.join("big.csv"), table("F-0", "5.0") + &"x".repeat(1_200_000) + "\n").unwrap();
    until("the big one is archived", || names(&drop).is_empty()).await;
    std::fs::write(drop.join("one.csv"), table("F-1", "5.1")).unwrap();
    let told = || health(&gateway, "folder").reasons.keys().any(|reason| reason.contains("the journal is full"));
    until("the full disk is told", told).await;
    assert_eq!(
        (names(&drop), arrived(&rig, "F-1")),
        (vec!["one.csv".to_string()], 0),
        "nothing is taken, nothing is lost"
    );
    gateway.stop().await;
    let gateway = rig.gateway(&links).await;
    until("it is taken", || arrived(&rig, "F-1") == 1 && names(&drop).is_empty()).await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_share_that_can_only_be_read_is_left_as_it_is() {
    use std::os::unix::fs::PermissionsExt;
    let rig = Rig::new().await;
    let drop = rig.path("drop");
    let links = folder(&drop, "table", "then = \"leave\"\n");
    std::fs::write(drop.join("one.csv"), table("F-1", "5.1")).unwrap();
    let mode = |bits| std::fs::set_permissions(&drop, std::fs::Permissions::from_mode(bits)).unwrap();
    mode(0o555);
    for start in 0..2 {
        let gateway = rig.gateway(&links).await;
        until("the file is known", || arrived(&rig, "F-1") == 1 && health(&gateway, "folder").up).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(health(&gateway, "folder").messages, 1 - start, "after a restart it is not even offered again");
        gateway.stop().await;
    }
    mode(0o755);
    let everything = std::fs::read_dir(&drop).unwrap().count();
    assert_eq!((everything, arrived(&rig, "F-1")), (1, 1), "nothing was made beside it");
}

#[tokio::test]
async fn the_doctor_sees_what_waits_in_a_folder() {
    use afferent::link::directory::{Files, look};
    let dir = tempfile::tempdir().unwrap();
    let files = Files { take: vec!["*.csv".into()], ..Files::default() };
    assert!(look(&dir.path().join("gone"), &files).unreachable.is_some());
    std::fs::create_dir(dir.path().join("refused")).unwrap();
    for (name, text) in [("one.csv", "1"), ("two.txt", "2"), ("refused/big.csv.reason.txt", "too large")] {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    let seen = look(dir.path(), &files);
    assert_eq!((seen.unreachable, seen.writable, seen.waiting, seen.refused), (None, true, 1, 1));
    assert!(seen.oldest.is_some());
    let grows = Files { grows: true, ..files };
    assert_eq!(look(dir.path(), &grows).waiting, 0, "a file that grows stays");
}

#[tokio::test]
async fn an_instrument_that_leaves_files_in_every_manner_loses_and_doubles_none() {
    use afferent::sim::files::{Settings, run};
    let rig = Rig::new().await;
    let drop = rig.path("drop");
    let gateway = rig.gateway(&folder(&drop, "table", "").replace("stable_ms = 100", "stable_ms = 1500")).await;
    let files = (0..8).map(|n| (format!("{n}.csv"), table(&format!("F-{n}"), "5.1").into_bytes())).collect();
    let settings =
        Settings { folder: drop.clone(), files, count: 8, manners: "all".parse().unwrap(), seed: 3, time_scale: 0.05 };
    let left = tokio::task::spawn_blocking(move || run(&settings)).await.unwrap().unwrap();
    assert!(left.manners.len() > 2, "{left:?}");
    until("every file is archived", || names(&drop).is_empty()).await;
    until("every result is in the chart", || (0..8).all(|n| arrived(&rig, &format!("F-{n}")) >= 1)).await;
    assert_eq!(entries(&rig).await, 8);
    gateway.stop().await;
}
