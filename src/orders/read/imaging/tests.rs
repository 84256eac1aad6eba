//! Imaging orders as IHE RAD and HL7 write them.

use super::super::tests::{context, message};
use super::super::{Asked, read};
use crate::clinical::{ImagingOrder, OrderStatus, WorkOrder};
use crate::journal::OrderChange;

fn asked(kind: &str, segments: &[&str]) -> Asked {
    read(&message(kind, segments), &context()).unwrap()
}

fn orders(asked: &Asked) -> Vec<WorkOrder> {
    let changes = asked.requests.iter().filter_map(|r| r.changes.as_ref().ok()).flatten();
    let order = |change: &OrderChange| match change {
        OrderChange::New(order) | OrderChange::Change(order) => Some((**order).clone()),
        _ => None,
    };
    changes.filter_map(order).collect()
}

fn imaging(kind: &str, segments: &[&str]) -> ImagingOrder {
    let [order] = orders(&asked(kind, segments)).try_into().unwrap();
    order.imaging.expect("an order for imaging")
}

/// An OBR with these fields.
fn obr(fields: &[(usize, &str)]) -> String {
    let last = fields.iter().map(|(field, _)| *field).max().unwrap_or_default();
    let value = |at: usize| fields.iter().find(|(field, _)| *field == at).map_or("", |(_, text)| text);
    (1..=last).fold("OBR".to_string(), |line, at| line + "|" + value(at))
}

const UID: &str = "1.2.840.99.7";

#[test]
fn an_omi_o23_gives_every_attribute_of_a_worklist_entry() {
    let [order] = orders(&asked(
        "OMI^O23^OMI_O23",
        &[
            "AL1|1|DA|^Iodine",
            "ORC|NW|P-1^EHR|F-1^RIS",
            "TQ1|1||||||20260302143000||S^Stat",
            &obr(&[
                (2, "P-1^EHR"),
                (4, "ECHO^Echocardiogram^L"),
                (16, "D7^REQUESTER^RITA^R^JR^DR"),
                (34, "T3^PERFORMER^PAUL"),
            ]),
            "OBX|1|NM|29463-7^Body weight^LN||72.50|kg",
            "OBX|2|NM|8302-2^Body height^LN||181|cm",
            "IPC|ACC-9|RP-1|1.2.840.99.7|SPS-1|US^Ultrasound^DCM|TTE^Transthoracic^L|VIVID-STN|ROOM 3|VIVID~VIVID2",
        ],
    ))
    .try_into()
    .unwrap();
    assert_eq!(order.number().id.expose(), "P-1");
    let imaging = order.imaging.unwrap();
    let phi = |phi: &crate::clinical::Phi| phi.expose().to_string();
    assert_eq!(phi(&imaging.accession_number), "ACC-9");
    assert_eq!(phi(&imaging.patient_name), "SYNTHETIC^PAT^A");
    assert_eq!(phi(&imaging.requesting_physician), "REQUESTER^RITA^R^DR^JR", "DICOM has prefix before suffix");
    assert_eq!((phi(&imaging.weight_kg), phi(&imaging.height_m)), ("72.50".into(), "1.81".into()));
    assert_eq!(phi(&imaging.allergies), "Iodine");
    let [(procedure, step)] = imaging.steps().collect::<Vec<_>>().try_into().unwrap();
    assert_eq!((procedure.id.as_str(), procedure.study_instance_uid.as_str()), ("RP-1", UID));
    assert_eq!(procedure.code.code, "ECHO");
    assert_eq!((step.id.as_str(), step.modality.as_str()), ("SPS-1", "US"));
    assert_eq!(step.station_ae_titles, ["VIVID", "VIVID2"]);
    assert_eq!((step.station_name.as_str(), step.location.as_str()), ("VIVID-STN", "ROOM 3"));
    assert_eq!(step.start.as_ref().unwrap().local, "20260302143000");
    assert_eq!(phi(&step.performing_physician), "PERFORMER^PAUL");
    assert_eq!(step.protocols[0].code, "TTE");
}

#[test]
fn a_new_step_begins_where_the_step_id_changes() {
    let imaging = imaging(
        "OMI^O23",
        &[
            "ORC|NW|P-1",
            "OBR|1|P-1||XX^Both^L",
            "IPC|A|RP-1|1.2.840.99.7|S-1|CT|P1^One^L",
            "IPC|A|RP-1|1.2.840.99.7|S-1|CT|P2^Two^L",
            "IPC|A|RP-1|1.2.840.99.7|S-2|CT|P1^One^L",
            "IPC|A|RP-2|1.2.840.99.8|S-3|MR",
        ],
    );
    let steps: Vec<(&str, &str, usize)> =
        imaging.steps().map(|(p, s)| (p.id.as_str(), s.id.as_str(), s.protocols.len())).collect();
    assert_eq!(steps, [("RP-1", "S-1", 2), ("RP-1", "S-2", 1), ("RP-2", "S-3", 1)]);
    assert_eq!(imaging.procedures[1].study_instance_uid, "1.2.840.99.8");
}

#[test]
fn an_orm_o01_of_ihe_rad_4_joins_its_groups_and_takes_the_study_of_zds() {
    let group = |step: &str| {
        obr(&[
            (2, "P-1^EHR"),
            (3, "F-1^RIS"),
            (4, "CHEST^Chest^L^PA^PA view^L"),
            (13, "hip implant"),
            (18, "ACC-2"),
            (19, "RP-7"),
            (20, step),
            (24, "CR"),
            (27, "^^^20260302090000"),
        ])
    };
    let imaging = imaging(
        "ORM^O01",
        &[
            "ORC|NW|P-1^EHR|F-1^RIS",
            &group("S-1"),
            "ORC|NW|P-1^EHR|F-1^RIS",
            &group("S-2"),
            "ZDS|1.2.840.99.7^RIS^Application^DICOM",
        ],
    );
    assert_eq!((imaging.accession_number.expose(), imaging.medical_alerts.expose()), ("ACC-2", "hip implant"));
    let [procedure] = imaging.procedures.as_slice() else { panic!("one procedure") };
    assert_eq!((procedure.study_instance_uid.as_str(), procedure.code.code.as_str()), (UID, "CHEST"));
    let steps: Vec<&str> = procedure.steps.iter().map(|s| s.id.as_str()).collect();
    assert_eq!(steps, ["S-1", "S-2"]);
    assert_eq!(procedure.steps[0].protocols[0].code, "PA");
    assert_eq!(procedure.steps[0].start.as_ref().unwrap().hl7(), "20260302090000+0000");
}

#[test]
fn an_oml_o21_with_a_modality_is_for_imaging_and_the_laboratory_s_is_not() {
    let obr = |section: &str| obr(&[(2, "P-1"), (3, "F-1"), (4, "X^X^L"), (24, section)]);
    for (section, modality) in [("US", "US"), ("NMR", "MR"), ("CUS", "US"), ("RAD", "")] {
        let imaging = imaging("OML^O21", &["ORC|NW|P-1", &obr(section)]);
        assert_eq!(imaging.procedures[0].steps[0].modality, modality, "{section}");
        assert_eq!(imaging.accession_number.expose(), "F-1", "the filler's number, where no other is sent");
    }
    for section in ["", "CH", "HM", "MB"] {
        assert!(orders(&asked("OML^O21", &["ORC|NW|P-1", &obr(section)]))[0].imaging.is_none(), "{section}");
    }
}

#[test]
fn what_is_no_uid_and_no_time_is_left_out_and_the_order_kept() {
    let imaging =
        imaging("OMI^O23", &["ORC|NW|P-1||||||^^^soon", "OBR|1|P-1||X", "IPC|A|R|../../etc/passwd|S|CT|||ROOM"]);
    let (procedure, step) = imaging.steps().next().unwrap();
    assert_eq!((procedure.study_instance_uid.as_str(), &step.start), ("", &None));
}

#[test]
fn order_control_changes_cancels_and_tells_the_status() {
    let obr = &obr(&[(2, "P-1"), (3, "F-1"), (4, "X"), (24, "CT")]);
    let change = |control: &str| {
        let requests = asked("ORM^O01", &[&format!("ORC|{control}|P-1|F-1||CM"), obr]).requests;
        requests[0].changes.clone().unwrap().remove(0)
    };
    assert!(matches!(change("NW"), OrderChange::New(_)));
    assert!(matches!(change("XO"), OrderChange::Change(_)));
    for control in ["CA", "OC", "DC"] {
        assert!(matches!(change(control), OrderChange::TakeBack { becomes: OrderStatus::Cancelled, .. }), "{control}");
    }
    assert!(matches!(change("SC"), OrderChange::Status { becomes: OrderStatus::Done, .. }));
}

#[test]
fn a_radiology_system_may_know_its_order_by_its_own_number_alone() {
    let obr = obr(&[(3, "F-1"), (4, "X"), (24, "CT")]);
    let [order] = orders(&asked("ORM^O01", &["ORC|NW||F-1", &obr])).try_into().unwrap();
    assert_eq!(order.number().id.expose(), "F-1");
    let laboratory = read(&message("ORM^O01", &["ORC|NW||F-1", "OBR|1||F-1|X"]), &context()).unwrap();
    assert!(laboratory.requests[0].changes.is_err());
}

#[test]
fn every_script_of_a_name_is_kept() {
    let raw = "MSH|^~\\&|R|H|L|L|20260301||OMI^O23|M|P|2.5.1|||||||UNICODE UTF-8\rPID|1||7||Yamada^Tarou^^^^^^A~山田^太郎^^^^^^I~やまだ^たろう^^^^^^P\rORC|NW|P-1\rOBR|1|P-1||X\rIPC|A|R|1.2|S|US";
    let asked = read(raw.as_bytes(), &context()).unwrap();
    let name = orders(&asked)[0].imaging.as_ref().unwrap().patient_name.expose().to_string();
    assert_eq!(name, "Yamada^Tarou=山田^太郎=やまだ^たろう");
}

#[test]
fn each_order_has_the_zds_that_stands_behind_it() {
    let one = |id: &str, uid: &str| {
        let orc = format!("ORC|NW|{id}^EHR|F-{id}^RIS");
        let obr = obr(&[(2, &format!("{id}^EHR")), (4, "CHEST^Chest^L"), (18, id), (24, "CR")]);
        [orc, obr, format!("ZDS|{uid}^RIS^Application^DICOM")]
    };
    let segments: Vec<String> = [one("P-1", "1.2.1"), one("P-2", "1.2.2")].concat();
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let studies: Vec<String> = orders(&asked("ORM^O01", &segments))
        .iter()
        .map(|order| order.imaging.as_ref().unwrap().procedures[0].study_instance_uid.clone())
        .collect();
    assert_eq!(studies, ["1.2.1", "1.2.2"]);
}

#[test]
fn a_laboratory_section_that_is_called_like_a_modality_is_no_imaging() {
    let obr = obr(&[(2, "P-1^EHR"), (4, "2345-7^Glucose^LN"), (24, "BI")]);
    let segments = ["ORC|NW|P-1^EHR", obr.as_str(), "SPM|1|S-1^EHR||SER"];
    for kind in ["OML^O21", "ORM^O01"] {
        let [order] = orders(&asked(kind, &segments)).try_into().unwrap();
        assert!(order.imaging.is_none(), "{kind}");
    }
}
