//! `afferent dicom echo|send|find` and the simulators, as a person uses them, against real peers.

use serde_json::Value;

use afferent::sim::modality::exam::{Exam, Kind};

use crate::peers::{Orthanc, Running, StoreScp, afferent, free_port, needed, until};

fn json(output: &std::process::Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
}

/// The files of an examination, in a directory of their own, with something that is no image among them.
fn files(exam: &Exam) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("series")).unwrap();
    for number in 0..exam.objects {
        std::fs::write(dir.path().join(format!("series/{number}.dcm")), exam.object(number).file()).unwrap();
    }
    dir
}

#[tokio::test(flavor = "multi_thread")]
async fn echo_says_whether_the_peer_lets_us_in_and_which_setting_to_change() {
    let Some(orthanc) = Orthanc::start("dicom echo to Orthanc").await else { return };
    let address = orthanc.address();
    let echoed = afferent(&["dicom", "echo", &address, "--called", "ORTHANC"]);
    assert!(echoed.status.success(), "{echoed:?}");
    let refused = afferent(&["dicom", "echo", &address, "--called", "ELSEWHERE", "--json"]);
    assert_eq!(refused.status.code(), Some(1));
    let told = json(&refused);
    assert_eq!(told["answered"], false);
    assert!(told["why"].as_str().unwrap().contains("not called ELSEWHERE"), "{told}");
    let nobody = afferent(&["dicom", "echo", &format!("127.0.0.1:{}", free_port())]);
    assert_eq!(nobody.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("cannot connect"), "{nobody:?}");
    let unknown = afferent(&["dicom", "echo", "pacs", "--config", "/dev/null"]);
    assert_eq!(unknown.status.code(), Some(2), "{unknown:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn send_stores_whole_folders_and_names_what_it_could_not() {
    let Some(orthanc) = Orthanc::start("dicom send to Orthanc").await else { return };
    let exam = Exam::new(Kind::Echo, 3, 0, 7);
    let dir = files(&exam);
    let path = dir.path().display().to_string();
    let address = orthanc.address();
    let sent = afferent(&["dicom", "send", &address, "--called", "ORTHANC", &path, "--json"]);
    assert_eq!(sent.status.code(), Some(0), "{sent:?}");
    assert_eq!((json(&sent)["stored"].as_u64(), orthanc.count().await), (Some(7), 7));
    std::fs::write(dir.path().join("notes.txt"), "no image").unwrap();
    let sent = afferent(&["dicom", "send", &address, "--called", "ORTHANC", &path]);
    assert_eq!(sent.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&sent.stdout).contains("7 of 8 files"), "{sent:?}");
    assert!(String::from_utf8_lossy(&sent.stderr).contains("notes.txt: the file has no DICOM header"), "{sent:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn find_lists_the_studies_of_a_pacs() {
    let Some(orthanc) = Orthanc::start("dicom find at Orthanc").await else { return };
    let exam = Exam::new(Kind::Ct, 4, 0, 2);
    let dir = files(&exam);
    let (address, path) = (orthanc.address(), dir.path().display().to_string());
    assert!(afferent(&["dicom", "send", &address, "--called", "ORTHANC", &path]).status.success());
    let find = |keys: &[&str]| {
        let begin = ["dicom", "find", &address, "--called", "ORTHANC", "--json"];
        json(&afferent(&[&begin[..], keys].concat()))
    };
    let found = find(&["-k", &format!("AccessionNumber={}", exam.accession_number)]);
    assert_eq!(found["status"], "0000");
    assert_eq!(found["answers"].as_array().unwrap().len(), 1, "{found}");
    assert_eq!(found["answers"][0]["StudyInstanceUID"], exam.study_instance_uid.as_str());
    assert_eq!(find(&["-k", "PatientID=NOBODY"])["answers"], Value::Array(Vec::new()));
}

#[test]
fn find_reads_the_worklist_of_wlmscpfs() {
    let Some(wlmscpfs) = needed("wlmscpfs", "dicom find at wlmscpfs") else { return };
    let Some(dump2dcm) = needed("dump2dcm", "dicom find at wlmscpfs") else { return };
    let dir = tempfile::tempdir().unwrap();
    let list = dir.path().join("RIS");
    std::fs::create_dir(&list).unwrap();
    std::fs::write(list.join("lockfile"), "").unwrap();
    for (number, modality) in ["US", "US", "CT"].iter().enumerate() {
        let dump = format!(
            "(0008,0005) CS [ISO_IR 100]\n(0008,0050) SH [ACC{number}]\n(0010,0010) PN [Müller^Anna]\n\
             (0010,0020) LO [P{number}]\n(0020,000d) UI [2.25.{number}1]\n(0040,1001) SH [RP{number}]\n\
             (0040,0100) SQ\n(fffe,e000) -\n(0008,0060) CS [{modality}]\n(0040,0001) AE [VIVID]\n\
             (0040,0002) DA [20260302]\n(0040,0003) TM [1015]\n(0040,0009) SH [SPS{number}]\n(fffe,e00d) -\n(fffe,e0dd) -\n"
        );
        let text = dir.path().join(format!("{number}.dump"));
        // The dump is in the character set it names.
        std::fs::write(&text, dump.chars().map(|c| c as u8).collect::<Vec<u8>>()).unwrap();
        let made =
            std::process::Command::new(&dump2dcm).arg("-g").arg(&text).arg(list.join(format!("{number}.wl"))).status();
        assert!(made.unwrap().success());
    }
    let port = free_port();
    let mut command = std::process::Command::new(wlmscpfs);
    command.args(["--keep-char-set", "--disable-file-reject", "-dfp"]).arg(dir.path()).arg(port.to_string());
    let _running = Running::start(&mut command);
    let address = format!("127.0.0.1:{port}");
    until("wlmscpfs answers", || afferent(&["dicom", "echo", &address, "--called", "RIS"]).status.success());
    let begin = ["dicom", "find", &address, "--called", "RIS", "--worklist"];
    let found = json(&afferent(&[&begin[..], &["-k", "Modality=US", "--json"]].concat()));
    let mut accessions: Vec<&str> =
        found["answers"].as_array().unwrap().iter().map(|a| a["AccessionNumber"].as_str().unwrap()).collect();
    accessions.sort_unstable();
    assert_eq!(accessions, ["ACC0", "ACC1"], "{found}");
    assert!(found["answers"].as_array().unwrap().iter().all(|a| a["PatientName"] == "Müller^Anna"), "{found}");
    let listed = afferent(&[&begin[..], &["-k", "ScheduledStationAETitle=OTHER"]].concat());
    assert_eq!(String::from_utf8_lossy(&listed.stdout), "0 answers\n");
}

#[test]
fn the_simulated_modality_satisfies_storescp_and_the_simulated_pacs_satisfies_storescu() {
    let Some(scp) = StoreScp::start(&[], "the simulated modality against storescp") else { return };
    let address = scp.address();
    let sim = ["sim", "modality", &address, "--called", "STORESCP", "-n", "3", "--objects", "4", "--json"];
    let sent = afferent(&[&sim[..], &["--faults", "again:0.2,half-pdu:0.2"]].concat());
    assert_eq!(sent.status.code(), Some(0), "{sent:?}");
    let told = json(&sent);
    assert_eq!((told["stored"].as_u64(), told["violations"].as_u64()), (Some(12), Some(0)), "{told}");
    assert_eq!(scp.files().len(), 12);

    let Some(storescu) = needed("storescu", "the simulated PACS against storescu") else { return };
    let port = free_port();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_afferent"));
    let (address, store) = (format!("127.0.0.1:{port}"), tempfile::tempdir().unwrap());
    command.args(["sim", "pacs", &address, "--store"]).arg(store.path());
    let _pacs = Running::start(&mut command);
    until("the simulated PACS answers", || afferent(&["dicom", "echo", &address]).status.success());
    let dir = files(&Exam::new(Kind::Ct, 5, 0, 3));
    let stored = std::process::Command::new(storescu)
        .args(["-aec", "PACS", "+sd", "+r", "127.0.0.1", &port.to_string()])
        .arg(dir.path())
        .output()
        .unwrap();
    assert!(stored.status.success(), "{stored:?}");
    assert_eq!(std::fs::read_dir(store.path()).unwrap().count(), 3);
}
