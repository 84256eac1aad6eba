//! What modalities ask, by real ones: DCMTK's findscu with its worklist server as the oracle, and pynetdicom.

use crate::peers::{Running, afferent, free_port, needed, pynetdicom, until};
use crate::site::{AE_TITLE, Site};
use afferent::message::dicom::{DataSet, Limits, tags, walk};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Synthetic patients: name, id, accession number, study, modality, AE titles, date, time, performing physician.
const ENTRIES: [[&str; 9]; 6] = [
    ["VIVALDI^ANTONIO", "AV35674", "A-1", "1.2.840.99.1", "MR", "AA32\\AA33", "19951015", "085607", "JOHNSON"],
    ["VIVALDI^ANTONIO", "AV35674", "A-2", "1.2.840.99.2", "CT", "AB45", "19960406", "160700", "ROSS"],
    ["HAYDN^FRANZ^JOSEPH", "HF4711", "A-3", "1.2.840.99.3", "US", "AA32", "19960103", "165709", "MEYER"],
    ["BEETHOVEN^LUDWIG^VAN", "BL0815", "A-4", "1.2.840.99.4", "NM", "AZ01", "19960502", "140956", "JOHNSON"],
    ["MOZART^WOLFGANG^AMADEUS", "MW1756", "A-5", "1.2.840.99.5", "CT", "AA67", "19931204", "075644", "JOHNSON"],
    ["MÜLLER^JÜRGEN", "MJ2000", "A-6", "1.2.840.99.6", "MR", "TT67", "19960805", "175609", "BROWN"],
];
/// Keys of findscu, beside those that are always asked for.
const QUERIES: [&[&str]; 14] = [
    &[],
    &["PatientName=V*"],
    &["PatientName=*ERT*"],
    &["PatientName=M?ZART*"],
    &["SpecificCharacterSet=ISO_IR 192", "PatientName=MÜLLER*"],
    &["PatientID=AV35674"],
    &["PatientID=NOPE"],
    &["AccessionNumber=A-3"],
    &["ScheduledProcedureStepSequence[0].Modality=MR"],
    &["ScheduledProcedureStepSequence[0].ScheduledStationAETitle=AA33"],
    &["ScheduledProcedureStepSequence[0].ScheduledProcedureStepStartDate=19960101-19961231"],
    &["ScheduledProcedureStepSequence[0].ScheduledProcedureStepStartDate=-19951231"],
    &["ScheduledProcedureStepSequence[0].ScheduledProcedureStepStartTime=120000-"],
    &[
        "ScheduledProcedureStepSequence[0].ScheduledStationAETitle=AA32",
        "ScheduledProcedureStepSequence[0].Modality=US",
    ],
];

/// A gateway whose RIS sends to this port.
fn site(ris: u16) -> Site {
    let mut site = Site::new(&format!(
        "[[orders]]\nname = \"ris\"\nlisten = \"127.0.0.1:{ris}\"\n\
         [[modality]]\nname = \"echo-1\"\nae_title = \"VIVID\"\n\
         [[destination]]\nname = \"ehr\"\naddress = \"127.0.0.1:{}\"\n",
        free_port()
    ));
    site.start();
    site
}

/// Sends a message as a RIS does and tells MSA-1.
pub fn send(ris: u16, message: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", ris)).unwrap();
    stream.write_all(&[b"\x0b", message.as_bytes(), b"\x1c\r"].concat()).unwrap();
    let (mut answer, mut byte) = (Vec::new(), [0]);
    while byte != [0x1c] {
        stream.read_exact(&mut byte).unwrap();
        answer.extend(byte);
    }
    let answer = String::from_utf8_lossy(&answer).into_owned();
    answer.split("MSA|").nth(1).unwrap_or_default().chars().take(2).collect()
}

pub fn order(
    number: usize,
    [name, id, accession, study, modality, stations, date, time, physician]: [&str; 9],
) -> String {
    let (stations, number) = (stations.replace('\\', "~"), number + 1);
    [
        format!("MSH|^~\\&|RIS|H|BOX|L|20260301||OMI^O23^OMI_O23|M-{number}|P|2.5.1|||||||UNICODE UTF-8"),
        format!("PID|1||{id}^^^HOSP^MR||{name}||19000101|O"),
        format!("ORC|NW|P-{number}"),
        format!("TQ1|1||||||{date}{time}||R"),
        format!("OBR|1|P-{number}||EXAM^Examination^L||||||||||||||||||||||||||||||^{physician}"),
        format!("IPC|{accession}|RP-{number}|{study}|SP-{number}|{modality}||STN||{stations}"),
    ]
    .join("\r")
}

/// The same entry as `dump2dcm` reads it.
fn dump([name, id, accession, study, modality, stations, date, time, physician]: [&str; 9]) -> String {
    format!(
        "(0008,0005) CS [ISO_IR 192]\n(0008,0050) SH [{accession}]\n(0010,0010) PN [{name}]\n(0010,0020) LO [{id}]\n\
         (0010,0030) DA [19000101]\n(0010,0040) CS [O]\n(0020,000d) UI [{study}]\n(0032,1060) LO [Examination]\n\
         (0040,0100) SQ\n(fffe,e000) -\n(0008,0060) CS [{modality}]\n(0040,0001) AE [{stations}]\n(0040,0002) DA [{date}]\n\
         (0040,0003) TM [{time}]\n(0040,0006) PN [{physician}]\n(0040,0007) LO [Examination]\n(0040,0009) SH [SP]\n\
         (0040,0010) SH [STN]\n(fffe,e00d) -\n(fffe,e0dd) -\n(0040,1001) SH [RP]\n(0040,1003) SH [ROUTINE]\n"
    )
}

/// What findscu is answered at this port.
fn ask(findscu: &Path, port: u16, keys: &[&str], into: &Path) -> Vec<DataSet> {
    std::fs::create_dir_all(into).unwrap();
    let mut command = Command::new(findscu);
    command.args(["-q", "-W", "-aet", "VIVID", "-aec", AE_TITLE, "-X", "-od"]).arg(into);
    let always = ["PatientName", "PatientID", "StudyInstanceUID", "ScheduledProcedureStepSequence[0].Modality"];
    for key in always.iter().chain(keys) {
        command.args(["-k", key]);
    }
    let done = command.args(["127.0.0.1", &port.to_string()]).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let mut files: Vec<PathBuf> = std::fs::read_dir(into).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    let read = |file: &PathBuf| {
        let raw = std::fs::read(file).unwrap();
        walk(&raw[..], "", Limits { bytes: raw.len(), value_bytes: raw.len() }).data_set
    };
    files.iter().map(read).collect()
}

/// What tells entries apart, as text: the character sets may differ.
fn entries(found: &[DataSet]) -> BTreeSet<[String; 4]> {
    let entry = |entry: &DataSet| {
        let step = entry.item(tags::SCHEDULED_PROCEDURE_STEP_SEQUENCE).cloned().unwrap_or_default();
        let of_patient = [tags::STUDY_INSTANCE_UID, tags::PATIENT_NAME, tags::PATIENT_ID].map(|tag| entry.text(tag));
        let [study, name, id] = of_patient;
        [study, name, id, step.text(tags::MODALITY)]
    };
    found.iter().map(entry).collect()
}

#[test]
fn a_real_modality_finds_in_orders_what_a_real_worklist_server_finds_in_files() {
    let what = "findscu and wlmscpfs on one worklist";
    let tools = [needed("findscu", what), needed("wlmscpfs", what), needed("dump2dcm", what)];
    let [Some(findscu), Some(wlmscpfs), Some(dump2dcm)] = tools else { return };
    let (ris, oracle) = (free_port(), free_port());
    let site = site(ris);
    until("the gateway takes orders", || TcpStream::connect(("127.0.0.1", ris)).is_ok());

    let lists = site.path("lists");
    let list = lists.join(AE_TITLE);
    std::fs::create_dir_all(&list).unwrap();
    std::fs::write(list.join("lockfile"), "").unwrap();
    for (number, entry) in ENTRIES.into_iter().enumerate() {
        assert_eq!(send(ris, &order(number, entry)), "AA");
        let text = list.join(format!("{number}.dump"));
        std::fs::write(&text, dump(entry)).unwrap();
        let made =
            Command::new(&dump2dcm).arg("-g").arg(&text).arg(list.join(format!("{number}.wl"))).status().unwrap();
        assert!(made.success());
    }
    let mut server = Command::new(wlmscpfs);
    server.arg("-dfp").arg(&lists).arg(oracle.to_string()).stdout(Stdio::null()).stderr(Stdio::null());
    let _server = Running::start(&mut server);
    until("the oracle listens", || TcpStream::connect(("127.0.0.1", oracle)).is_ok());

    for (number, keys) in QUERIES.into_iter().enumerate() {
        let ours = ask(&findscu, site.port, keys, &site.path(&format!("ours-{number}")));
        let theirs = ask(&findscu, oracle, keys, &site.path(&format!("theirs-{number}")));
        assert_eq!(entries(&ours), entries(&theirs), "{keys:?}");
    }
    // The oracle does not look at this key.
    let found = ask(&findscu, site.port, &["StudyInstanceUID=1.2.840.99.5"], &site.path("study"));
    assert_eq!(found.len(), 1);
    // The cases of names do not matter here, and text comes in a character set the modality understands.
    let found = ask(&findscu, site.port, &["PatientName=vivaldi*"], &site.path("case"));
    assert_eq!(found.len(), 2);
    let found = ask(&findscu, site.port, &["PatientID=MJ2000"], &site.path("latin"));
    assert_eq!(found[0].text(tags::PATIENT_NAME), "MÜLLER^JÜRGEN");
    assert_eq!(found[0].text(tags::SPECIFIC_CHARACTER_SET), "ISO_IR 100");
    let cancelled = order(0, ENTRIES[0]).replace("ORC|NW", "ORC|CA").replace("M-1|", "M-9|");
    assert_eq!(send(ris, &cancelled), "AA");
    assert_eq!(ask(&findscu, site.port, &["AccessionNumber=A-1"], &site.path("cancelled")).len(), 0);
}

#[test]
fn a_performed_step_is_answered_by_the_standard_and_ends_its_worklist_entry() {
    let (ris, what) = (free_port(), "performed procedure steps of pynetdicom");
    let site = site(ris);
    until("the gateway takes orders", || TcpStream::connect(("127.0.0.1", ris)).is_ok());
    assert_eq!(send(ris, &order(0, ENTRIES[0])), "AA");
    let arguments = ["mpps", &site.port.to_string(), ENTRIES[0][3], "SP-1"];
    let Some(mut modality) = pynetdicom("modality_peer.py", &arguments, what) else { return };
    let done = modality.output().unwrap();
    let said: Value = serde_json::from_slice(&done.stdout).unwrap_or_else(|_| panic!("{done:?}"));
    let expected = json!({
        "create without a status": ["0120", ""],
        "create completed": ["0106", ""],
        "set before create": ["0112", ""],
        "create": ["0000", ""],
        "create again": ["0000", ""],
        "create another": ["0111", ""],
        "set": ["0000", ""],
        "set again": ["0000", ""],
        "set another end": ["0110", "A710"],
    });
    assert_eq!(said, expected);
    if let Some(findscu) = needed("findscu", what) {
        assert_eq!(ask(&findscu, site.port, &[], &site.path("after")).len(), 0, "it is done");
    }
    let data = site.data().display().to_string();
    let orders = afferent(&["orders", "list", "--all", "--json", "--data", &data]);
    let orders: Value = serde_json::from_slice(&orders.stdout).unwrap();
    assert_eq!(orders[0]["status"], "done");
}
