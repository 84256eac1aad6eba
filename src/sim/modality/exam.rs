//! Examinations that never were: an echocardiogram with clips and a report, or a CT series. Everything in them follows
//! from a seed, so that a run can be repeated and its instances told apart from those of another.

use super::data_set::{DataSet, EXPLICIT_VR_LITTLE_ENDIAN, RLE_LOSSLESS};
use crate::sim::random::Random;

/// Rows and columns of an image unless asked for otherwise.
pub const EDGE_DEFAULT: u16 = 64;

const US_IMAGE: &str = "1.2.840.10008.5.1.4.1.1.6.1";
const CT_IMAGE: &str = "1.2.840.10008.5.1.4.1.1.2";
const COMPREHENSIVE_SR: &str = "1.2.840.10008.5.1.4.1.1.88.33";

/// What kind of machine makes the examination.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Kind {
    /// An ultrasound machine: images, every third RLE compressed, and as the last object a report with measurements
    /// (TID 5200).
    #[default]
    Echo,
    /// A CT: slices of 16 bits.
    Ct,
}

/// One examination of one patient.
#[derive(Debug, Clone)]
pub struct Exam {
    /// What made it.
    pub kind: Kind,
    /// Study Instance UID (0020,000D).
    pub study_instance_uid: String,
    /// Series Instance UID (0020,000E).
    pub series_instance_uid: String,
    /// Accession Number (0008,0050).
    pub accession_number: String,
    /// Requested Procedure ID (0040,1001), when it was on the worklist.
    pub requested_procedure_id: String,
    /// Scheduled Procedure Step ID (0040,0009), likewise.
    pub scheduled_step_id: String,
    /// Patient ID (0010,0020).
    pub patient_id: String,
    /// Patient's Name (0010,0010).
    pub patient_name: String,
    /// Rows and columns of its images.
    pub edge: u16,
    /// How many objects it has.
    pub objects: usize,
    root: u64,
}

/// One object of an examination.
#[derive(Clone)]
pub struct Object {
    /// SOP Class UID (0008,0016).
    pub sop_class_uid: String,
    /// SOP Instance UID (0008,0018).
    pub sop_instance_uid: String,
    /// Transfer syntax of `data_set`.
    pub transfer_syntax_uid: String,
    /// The data set, encoded.
    pub data_set: Vec<u8>,
}

impl Exam {
    /// The `number`-th examination of a run.
    pub fn new(kind: Kind, seed: u64, number: u64, objects: usize) -> Exam {
        let mut random = Random::new(seed ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let root = random.bits();
        Exam {
            kind,
            // Below 2.25 any number is a valid UID (PS3.5 B.2).
            study_instance_uid: format!("2.25.{root}.1"),
            series_instance_uid: format!("2.25.{root}.1.1"),
            accession_number: format!("A{:09}", random.below(1_000_000_000)),
            requested_procedure_id: String::new(),
            scheduled_step_id: String::new(),
            patient_id: format!("SIM{:06}", random.below(1_000_000)),
            patient_name: format!("SIM^PATIENT {}", number + 1),
            edge: EDGE_DEFAULT,
            objects,
            root,
        }
    }

    /// Modality (0008,0060) of its images.
    pub fn modality(&self) -> &'static str {
        match self.kind {
            Kind::Echo => "US",
            Kind::Ct => "CT",
        }
    }

    /// True when the `number`-th object is the report.
    pub(super) fn is_report(&self, number: usize) -> bool {
        self.kind == Kind::Echo && number + 1 == self.objects && self.objects > 1
    }

    /// The `number`-th object as a performed step lists it.
    pub(super) fn reference(&self, number: usize) -> DataSet {
        let class = match (self.kind, self.is_report(number)) {
            (Kind::Echo, true) => COMPREHENSIVE_SR,
            (Kind::Echo, false) => US_IMAGE,
            (Kind::Ct, _) => CT_IMAGE,
        };
        let mut item = DataSet::default();
        item.text(0x0008_1150, "UI", class);
        item.text(0x0008_1155, "UI", &self.sop_instance_uid(number));
        item
    }

    /// The `number`-th object, counted from 0.
    pub fn object(&self, number: usize) -> Object {
        match (self.kind, self.is_report(number)) {
            (Kind::Echo, true) => self.report(number),
            (Kind::Echo, false) => self.image(number, US_IMAGE, 8, number % 3 == 2),
            (Kind::Ct, _) => self.image(number, CT_IMAGE, 16, false),
        }
    }

    fn sop_instance_uid(&self, number: usize) -> String {
        format!("2.25.{}.1.1.{}", self.root, number + 1)
    }

    /// What stands in front of every object.
    fn begin(&self, number: usize, sop_class_uid: &str, modality: &str) -> DataSet {
        let (description, part) = match self.kind {
            Kind::Echo => ("Echo, transthoracic", "HEART"),
            Kind::Ct => ("CT chest", "CHEST"),
        };
        let mut set = DataSet::default();
        set.text(0x0008_0005, "CS", "ISO_IR 192");
        set.text(0x0008_0016, "UI", sop_class_uid);
        set.text(0x0008_0018, "UI", &self.sop_instance_uid(number));
        set.text(0x0008_0020, "DA", "20260302");
        set.text(0x0008_0023, "DA", "20260302");
        set.text(0x0008_0030, "TM", "101500");
        set.text(0x0008_0033, "TM", &format!("1015{:02}", number % 60));
        set.text(0x0008_0050, "SH", &self.accession_number);
        set.text(0x0008_0060, "CS", modality);
        set.text(0x0008_0070, "LO", "afferent simulator");
        set.text(0x0008_0090, "PN", "");
        set.text(0x0008_1030, "LO", description);
        set.text(0x0010_0010, "PN", &self.patient_name);
        set.text(0x0010_0020, "LO", &self.patient_id);
        set.text(0x0010_0030, "DA", "19700101");
        set.text(0x0010_0040, "CS", "O");
        if sop_class_uid != COMPREHENSIVE_SR {
            set.text(0x0018_0015, "CS", part);
        }
        set.text(0x0020_000D, "UI", &self.study_instance_uid);
        let series = if sop_class_uid == COMPREHENSIVE_SR { ".2" } else { "" };
        set.text(0x0020_000E, "UI", &format!("{}{series}", self.series_instance_uid));
        set.text(0x0020_0010, "SH", "1");
        set.text(0x0020_0011, "IS", if series.is_empty() { "1" } else { "2" });
        set.text(0x0020_0013, "IS", &(number + 1).to_string());
        set
    }

    fn image(&self, number: usize, sop_class_uid: &str, bits: u16, is_compressed: bool) -> Object {
        let mut set = self.begin(number, sop_class_uid, self.modality());
        set.number(0x0028_0002, 1);
        set.text(0x0028_0004, "CS", "MONOCHROME2");
        set.number(0x0028_0010, self.edge);
        set.number(0x0028_0011, self.edge);
        set.number(0x0028_0100, bits);
        set.number(0x0028_0101, bits);
        set.number(0x0028_0102, bits - 1);
        set.number(0x0028_0103, 0);
        // Every row has a shade of its own: simple to pack, and no two images are the same.
        let shade = |row: u16| (self.root as u16).wrapping_add(row).wrapping_mul(7).wrapping_add(number as u16);
        let transfer_syntax_uid = match is_compressed {
            true => {
                let rows: Vec<u8> = (0..self.edge).map(|row| shade(row) as u8).collect();
                set.run_length_pixels(&rows, usize::from(self.edge));
                RLE_LOSSLESS
            }
            false => {
                let sample = |row: u16| shade(row).to_le_bytes().into_iter().take(usize::from(bits / 8));
                let pixels = (0..self.edge).flat_map(|row| (0..self.edge).flat_map(move |_| sample(row)));
                set.bytes(0x7FE0_0010, if bits == 8 { "OB" } else { "OW" }, &pixels.collect::<Vec<u8>>());
                EXPLICIT_VR_LITTLE_ENDIAN
            }
        };
        Object {
            sop_class_uid: sop_class_uid.to_owned(),
            sop_instance_uid: self.sop_instance_uid(number),
            transfer_syntax_uid: transfer_syntax_uid.to_owned(),
            data_set: set.into_bytes(),
        }
    }

    /// An adult echocardiography report (PS3.16 TID 5200) with three measurements of the left ventricle.
    fn report(&self, number: usize) -> Object {
        let mut set = self.begin(number, COMPREHENSIVE_SR, "SR");
        let measured = [
            ("29436-3", "Left Ventricle Internal End Diastolic Dimension", "4.70", "cm"),
            ("29438-9", "Left Ventricle Internal Systolic Dimension", "3.10", "cm"),
            ("18043-0", "Left Ventricular Ejection Fraction", "61.0", "%"),
        ];
        let values = measured.map(|(code, name, value, unit)| {
            let mut measurement = DataSet::default();
            measurement.items(0x0040_08EA, &[coded(unit, "UCUM", unit)]);
            measurement.text(0x0040_A30A, "DS", value);
            let mut item = content("CONTAINS", "NUM", coded(code, "LN", name));
            item.items(0x0040_A300, &[measurement]);
            item
        });
        let mut site = content("HAS CONCEPT MOD", "CODE", coded("G-C0E3", "SRT", "Finding Site"));
        site.items(0x0040_A168, &[coded("T-32600", "SRT", "Left Ventricle")]);
        let mut group = content("CONTAINS", "CONTAINER", coded("125007", "DCM", "Measurement Group"));
        group.text(0x0040_A050, "CS", "SEPARATE");
        group.items(0x0040_A730, &values);
        let mut findings = content("CONTAINS", "CONTAINER", coded("121070", "DCM", "Findings"));
        findings.text(0x0040_A050, "CS", "SEPARATE");
        findings.items(0x0040_A730, &[site, group]);
        set.text(0x0040_A040, "CS", "CONTAINER");
        set.items(0x0040_A043, &[coded("125200", "DCM", "Adult Echocardiography Procedure Report")]);
        set.text(0x0040_A050, "CS", "SEPARATE");
        set.text(0x0040_A491, "CS", "COMPLETE");
        set.text(0x0040_A493, "CS", "VERIFIED");
        set.items(0x0040_A730, &[findings]);
        Object {
            sop_class_uid: COMPREHENSIVE_SR.to_owned(),
            sop_instance_uid: self.sop_instance_uid(number),
            transfer_syntax_uid: EXPLICIT_VR_LITTLE_ENDIAN.to_owned(),
            data_set: set.into_bytes(),
        }
    }
}

impl Object {
    /// The object as a Part 10 file (PS3.10 7.1).
    pub fn file(&self) -> Vec<u8> {
        let mut meta = DataSet::default();
        meta.bytes(0x0002_0001, "OB", &[0, 1]);
        meta.text(0x0002_0002, "UI", &self.sop_class_uid);
        meta.text(0x0002_0003, "UI", &self.sop_instance_uid);
        meta.text(0x0002_0010, "UI", &self.transfer_syntax_uid);
        meta.text(0x0002_0012, "UI", "2.25.1");
        let meta = meta.into_bytes();
        let mut file = vec![0; 128];
        file.extend_from_slice(b"DICM\x02\0\0\0UL\x04\0");
        file.extend_from_slice(&u32::try_from(meta.len()).unwrap_or_default().to_le_bytes());
        file.extend_from_slice(&meta);
        file.extend_from_slice(&self.data_set);
        file
    }
}

fn coded(value: &str, scheme: &str, meaning: &str) -> DataSet {
    let mut item = DataSet::default();
    item.text(0x0008_0100, "SH", value);
    item.text(0x0008_0102, "SH", scheme);
    item.text(0x0008_0104, "LO", meaning);
    item
}

/// The beginning of a content item (PS3.3 C.17.3).
fn content(relationship: &str, value_type: &str, name: DataSet) -> DataSet {
    let mut item = DataSet::default();
    item.text(0x0040_A010, "CS", relationship);
    item.text(0x0040_A040, "CS", value_type);
    item.items(0x0040_A043, &[name]);
    item
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_seed_names_its_examinations() {
        let exam = |seed, number| Exam::new(Kind::Echo, seed, number, 4);
        assert_eq!(exam(1, 0).object(0).data_set, exam(1, 0).object(0).data_set);
        let uids: BTreeSet<String> = [(1, 0), (1, 1), (2, 0)]
            .into_iter()
            .flat_map(|(seed, number)| (0..4).map(move |at| exam(seed, number).object(at).sop_instance_uid))
            .collect();
        assert_eq!(uids.len(), 12);
        assert!(uids.iter().all(|uid| crate::wire::dimse::uid::is_uid(uid)));
    }

    #[test]
    fn dicom_object_reads_what_is_made() {
        for kind in [Kind::Echo, Kind::Ct] {
            let exam = Exam::new(kind, 7, 0, 4);
            for number in 0..4 {
                let object = exam.object(number);
                let read = dicom_object::from_reader(object.file().as_slice()).unwrap();
                let text = |name: &str| read.element_by_name(name).unwrap().to_str().unwrap().into_owned();
                assert_eq!(text("SOPInstanceUID"), object.sop_instance_uid);
                assert_eq!(text("StudyInstanceUID"), exam.study_instance_uid);
                assert_eq!(text("PatientID"), exam.patient_id);
                assert_eq!(read.meta().transfer_syntax().trim_end_matches('\0'), object.transfer_syntax_uid);
            }
        }
    }
}
