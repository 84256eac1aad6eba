//! The gateway between a modality and real archives: what a kill, a large image, a restricted archive, a window or an
//! order of sending makes of it.

use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::sync::Arc;

use afferent::delivery::config::Config;
use afferent::delivery::dicom::Dicom;
use afferent::delivery::instance::Images;
use afferent::delivery::window::Pace;
use afferent::delivery::{Outcome, Scope};
use afferent::message::dicom::read_head;
use afferent::sim::modality::exam::{Exam, Kind, Object};
use afferent::tls::ClientTls;
use afferent::tls::throwaway::Authority;
use jiff::ToSpan as _;

use crate::forward::{Spool, assert_delivered, config, objects, send};
use crate::peers::{Orthanc, StoreScp, afferent, until, until_async};
use crate::site::{AE_TITLE, Site};

const MEBIBYTE: u64 = 1 << 20;

fn to_storescp(name: &str, scp: &StoreScp, more: &str) -> String {
    format!(
        "[[destination]]\nname = \"{name}\"\nprotocol = \"dicom\"\naddress = \"{}\"\ncalled_ae_title = \"{}\"\n\
         retry_min_ms = 50\nretry_max_ms = 500\n{more}",
        scp.address(),
        StoreScp::AE_TITLE
    )
}

/// Sends what is below `path` to the gateway.
fn store(site: &Site, path: &Path) {
    let sent = afferent(&["dicom", "send", &site.address(), "--called", AE_TITLE, path.to_str().unwrap()]);
    assert!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stderr));
}

/// Writes a CT slice whose pixels are so many bytes, almost all of them a hole in the file.
fn write_large(path: &Path, pixel_bytes: u64) -> Object {
    let small = Exam::new(Kind::Ct, 3, 0, 1).object(0);
    let pixels_at = read_head(&small.data_set[..], &small.transfer_syntax_uid).ended_at;
    let header_bytes = small.file().len() - small.data_set.len();
    let mut file = std::fs::File::create(path).unwrap();
    file.write_all(&small.file()[..header_bytes + pixels_at]).unwrap();
    file.write_all(b"\xe0\x7f\x10\x00OW\0\0").unwrap();
    file.write_all(&u32::try_from(pixel_bytes).unwrap().to_le_bytes()).unwrap();
    file.seek(SeekFrom::Current(pixel_bytes as i64 - 4)).unwrap();
    file.write_all(b"last").unwrap();
    small
}

fn length(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |file| file.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn i10_two_hundred_mebibytes_pass_in_constant_memory_with_and_without_their_patient() {
    let what = "a large image through the gateway";
    let (Some(whole), Some(freed)) = (StoreScp::start(&[], what), StoreScp::start(&[], what)) else { return };
    let destinations =
        [to_storescp("whole", &whole, ""), to_storescp("freed", &freed, "deidentify = \"basic\"\n")].concat();
    let mut site = Site::new(&destinations);
    site.start();
    // Once with a small one, so that everything a transfer needs is in memory already.
    let small = site.path("small.dcm");
    std::fs::write(&small, Exam::new(Kind::Ct, 4, 0, 1).object(0).file()).unwrap();
    store(&site, &small);
    until("the small image arrives", || whole.files().len() == 1 && freed.files().len() == 1);
    let before = site.peak_kb();
    let large = site.path("large.dcm");
    let bytes = 200 * MEBIBYTE;
    write_large(&large, bytes);
    store(&site, &large);
    let largest = |scp: &StoreScp| scp.files().into_iter().max_by_key(|file| length(file)).unwrap();
    until("the large image arrives", || length(&largest(&whole)) > bytes && length(&largest(&freed)) > bytes);
    site.everything_is_delivered();
    let grown = site.peak_kb() - before;
    println!("{before} kB before, {grown} kB more for {} MiB to two archives", bytes / MEBIBYTE);
    assert!(grown < 24_000, "{grown} kB more for an image of {} MiB", bytes / MEBIBYTE);
    for scp in [&whole, &freed] {
        let file = std::fs::read(largest(scp)).unwrap();
        let head = read_head(&file[..], "");
        assert_eq!(file.len() as u64, head.ended_at as u64 + 12 + bytes);
        assert!(file.ends_with(b"last"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i1_kill_in_the_middle_of_an_image_costs_a_repetition_and_nothing_else() {
    let Some(scp) = StoreScp::start(&[], "a kill while an image is sent") else { return };
    let mut site = Site::new(&to_storescp("pacs", &scp, "bandwidth_kb_s = 6000\n"));
    site.start();
    let (large, bytes) = (site.path("large.dcm"), 24 * MEBIBYTE);
    let object = write_large(&large, bytes);
    store(&site, &large);
    for _ in 0..2 {
        // storescp writes as it reads.
        until("some of it has arrived", || scp.files().iter().any(|file| length(file) > MEBIBYTE));
        site.kill();
        assert!(scp.files().iter().all(|file| length(file) < bytes), "the kill came too late to show anything");
        scp.forget();
        site.start();
    }
    until("all of it has arrived", || scp.files().iter().any(|file| length(file) > bytes));
    site.everything_is_delivered();
    let files = scp.files();
    assert_eq!(files.len(), 1, "{files:?}");
    assert!(files[0].to_string_lossy().ends_with(&object.sop_instance_uid));
    let (got, sent) = (std::fs::read(&files[0]).unwrap(), std::fs::read(&large).unwrap());
    let data_set = |file: &[u8]| read_head(file, "").begins_at;
    assert!(got[data_set(&got)..] == sent[data_set(&sent)..], "not what was sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn storescp_with_tls_lets_in_who_has_a_certificate_and_keeps_every_object() {
    let dir = tempfile::tempdir().unwrap();
    let files = Authority::new().unwrap().write(dir.path()).unwrap();
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let options = ["+tls".into(), text(&files.server.key), text(&files.server.cert), "+cf".into(), text(&files.ca)];
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let Some(scp) = StoreScp::start(&options, "storescp with TLS") else { return };
    let spool = Spool::new();
    let to = |tls: Option<ClientTls>| {
        let config =
            Config { tls, ack_timeout_ms: 3000, connect_timeout_ms: 3000, ..config(scp.port, StoreScp::AE_TITLE) };
        assert_eq!(config.problems(), []);
        Dicom::new(Arc::new(config), Images::unchanged(spool.path().to_owned()), Pace::new(0))
    };
    let anonymous = ClientTls { cert: None, key: None, ..files.client.clone() };
    for tls in [None, Some(anonymous)] {
        let outcome = send(&mut to(tls), &spool, &objects()[0]).await;
        assert!(matches!(outcome, Outcome::Retry { scope: Scope::Destination | Scope::Unclear, .. }), "{outcome:?}");
    }
    assert_eq!(scp.files(), Vec::<std::path::PathBuf>::new());
    let mut pacs = to(Some(files.client));
    let objects = objects();
    for object in &objects {
        assert_delivered(&send(&mut pacs, &spool, object).await);
    }
    assert_eq!(scp.files().len(), objects.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_archive_does_not_take_is_parked_as_it_is_and_the_rest_arrives() {
    // Without --accept-all storescp takes no compressed image.
    let Some(scp) = StoreScp::start(&["--prefer-uncompr"], "storescp without compressed images") else { return };
    let mut site = Site::new(&to_storescp("pacs", &scp, "attempts_max = 2\n"));
    site.start();
    let exam = Exam::new(Kind::Echo, 5, 0, 5);
    let dir = tempfile::tempdir().unwrap();
    let objects: Vec<Object> = (0..exam.objects).map(|number| exam.object(number)).collect();
    for (number, object) in objects.iter().enumerate() {
        std::fs::write(dir.path().join(format!("{number}.dcm")), object.file()).unwrap();
    }
    let compressed = |object: &&Object| object.transfer_syntax_uid.ends_with(".2.5");
    let refused = objects.iter().filter(compressed).count();
    assert!(refused > 0 && refused < objects.len());
    store(&site, dir.path());
    until("the rest is delivered and the compressed parked", || {
        let account = site.account();
        (account["delivered"].as_u64(), account["parked"].as_u64())
            == (Some((objects.len() - refused) as u64), Some(refused as u64))
    });
    let names: Vec<String> = scp.files().iter().map(|file| file.to_string_lossy().into_owned()).collect();
    for object in &objects {
        let is_there = names.iter().any(|name| name.ends_with(&object.sop_instance_uid));
        assert_eq!(is_there, !compressed(&object), "{}", object.transfer_syntax_uid);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_outside_its_window_gets_nothing_while_another_gets_everything() {
    let what = "windows";
    let (Some(open), Some(closed)) = (StoreScp::start(&[], what), StoreScp::start(&[], what)) else { return };
    // From half a day from now, for an hour, by the gateway's clock, which is UTC.
    let opens = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).checked_add(12.hours()).unwrap();
    let closes = opens.checked_add(1.hour()).unwrap();
    let window = format!("windows = [\"{}-{}\"]\n", opens.strftime("%H:%M"), closes.strftime("%H:%M"));
    let tables = |window: &str| [to_storescp("open", &open, ""), to_storescp("closed", &closed, window)].concat();
    let mut site = Site::new(&tables(&window));
    site.start();
    let file = site.path("slice.dcm");
    for number in 0..3 {
        std::fs::write(&file, Exam::new(Kind::Ct, 6, number, 1).object(0).file()).unwrap();
        store(&site, &file);
    }
    until("the open one has them all", || open.files().len() == 3);
    assert_eq!(closed.files().len(), 0);
    site.kill();
    site.reconfigure(&tables(""));
    site.start();
    site.everything_is_delivered();
    assert_eq!((open.files().len(), closed.files().len()), (3, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn i6_side_by_side_over_four_associations_each_study_keeps_its_order() {
    let Some(orthanc) = Orthanc::start("the order within studies").await else { return };
    let destination = format!(
        "[[destination]]\nname = \"pacs\"\nprotocol = \"dicom\"\naddress = \"{}\"\ncalled_ae_title = \"{}\"\n\
         order = \"study\"\nconnections = 4\nretry_min_ms = 50\nretry_max_ms = 500\n",
        orthanc.address(),
        Orthanc::AE_TITLE
    );
    let mut site = Site::new(&destination);
    site.start();
    let exams: Vec<Exam> = (0..4).map(|number| Exam::new(Kind::Ct, 8, number, 8)).collect();
    let dir = tempfile::tempdir().unwrap();
    // Mixed, so that all studies are under way at once.
    for (place, exam) in exams.iter().enumerate() {
        for number in 0..exam.objects {
            std::fs::write(dir.path().join(format!("{number:02}-{place}.dcm")), exam.object(number).file()).unwrap();
        }
    }
    store(&site, dir.path());
    until_async("everything is there", || async { orthanc.count().await == 32 }).await;
    let arrived = orthanc.in_order_of_arrival().await;
    for exam in &exams {
        let sent: Vec<String> = (0..exam.objects).map(|number| exam.object(number).sop_instance_uid).collect();
        let got: Vec<&String> = arrived.iter().filter(|uid| sent.contains(uid)).collect();
        assert_eq!(got, sent.iter().collect::<Vec<_>>());
    }
}
