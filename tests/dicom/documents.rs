//! Structured reports as carts write them, made here: synthetic, a tree each.

use afferent::message::dicom::{CharacterSets, DataSet, VR, tags};

type Name = (&'static str, &'static str, &'static str);

const FINDING_SITE: Name = ("G-C0E3", "SRT", "Finding Site");
const LATERALITY: Name = ("G-C171", "SRT", "Laterality");
const FINDINGS: Name = ("121070", "DCM", "Findings");
const GROUP: Name = ("125007", "DCM", "Measurement Group");
const DERIVATION: Name = ("121401", "DCM", "Derivation");
const MODE: Name = ("G-0373", "SRT", "Image Mode");
const UCUM_CM: Name = ("cm", "UCUM", "centimeter");

/// A report about the synthetic patient of these tests.
fn report(sop: &str, template: &str, title: Name, verified: bool, content: Vec<DataSet>) -> DataSet {
    let mut set = DataSet::new(CharacterSets::utf8());
    for (tag, vr, text) in [
        (tags::SOP_CLASS_UID, VR::UI, "1.2.840.10008.5.1.4.1.1.88.33"),
        (tags::SOP_INSTANCE_UID, VR::UI, sop),
        (tags::STUDY_INSTANCE_UID, VR::UI, "1.2.826.0.1.3680043.10.1000.7"),
        (tags::SERIES_INSTANCE_UID, VR::UI, "1.2.826.0.1.3680043.10.1000.7.9"),
        (tags::MODALITY, VR::CS, "SR"),
        (tags::CONTENT_DATE, VR::DA, "20261103"),
        (tags::CONTENT_TIME, VR::TM, "091500"),
        (tags::COMPLETION_FLAG, VR::CS, "COMPLETE"),
        (tags::VERIFICATION_FLAG, VR::CS, if verified { "VERIFIED" } else { "UNVERIFIED" }),
        (tags::VALUE_TYPE, VR::CS, "CONTAINER"),
    ] {
        set.put_text(tag, vr, text);
    }
    set.put_items(tags::CONCEPT_NAME_CODE_SEQUENCE, vec![code(title)]);
    let mut identification = DataSet::default();
    identification.put_text(tags::MAPPING_RESOURCE, VR::CS, "DCMR");
    identification.put_text(tags::TEMPLATE_IDENTIFIER, VR::CS, template);
    set.put_items(tags::CONTENT_TEMPLATE_SEQUENCE, vec![identification]);
    let mut all = vec![coded("HAS CONCEPT MOD", ("121049", "DCM", "Language"), ("en", "RFC5646", "English"))];
    all.extend(content);
    set.put_items(tags::CONTENT_SEQUENCE, all);
    set
}

/// An item of a code sequence.
pub fn code((value, scheme, meaning): Name) -> DataSet {
    let mut item = DataSet::inside(&CharacterSets::utf8());
    item.put_text(tags::CODE_VALUE, VR::SH, value);
    item.put_text(tags::CODING_SCHEME_DESIGNATOR, VR::SH, scheme);
    item.put_text(tags::CODE_MEANING, VR::LO, meaning);
    item
}

fn item(relationship: &str, kind: &str, name: Name, children: Vec<DataSet>) -> DataSet {
    let mut item = DataSet::inside(&CharacterSets::utf8());
    item.put_text(tags::RELATIONSHIP_TYPE, VR::CS, relationship);
    item.put_text(tags::VALUE_TYPE, VR::CS, kind);
    item.put_items(tags::CONCEPT_NAME_CODE_SEQUENCE, vec![code(name)]);
    if !children.is_empty() {
        item.put_items(tags::CONTENT_SEQUENCE, children);
    }
    item
}

fn container(name: Name, children: Vec<DataSet>) -> DataSet {
    item("CONTAINS", "CONTAINER", name, children)
}

fn coded(relationship: &str, name: Name, value: Name) -> DataSet {
    let mut item = item(relationship, "CODE", name, Vec::new());
    item.put_items(tags::CONCEPT_CODE_SEQUENCE, vec![code(value)]);
    item
}

fn modifier(name: Name, value: Name) -> DataSet {
    coded("HAS CONCEPT MOD", name, value)
}

fn text(relationship: &str, name: Name, value: &str) -> DataSet {
    let mut item = item(relationship, "TEXT", name, Vec::new());
    item.put_text(tags::TEXT_VALUE, VR::UT, value);
    item
}

fn number(name: Name, value: &str, unit: Name, children: Vec<DataSet>) -> DataSet {
    let mut item = item("CONTAINS", "NUM", name, children);
    let mut measured = DataSet::default();
    measured.put_text(tags::NUMERIC_VALUE, VR::DS, value);
    measured.put_items(tags::MEASUREMENT_UNITS_CODE_SEQUENCE, vec![code(unit)]);
    item.put_items(tags::MEASURED_VALUE_SEQUENCE, vec![measured]);
    item
}

/// A number that could not be measured.
fn no_number(name: Name, why: Name) -> DataSet {
    let mut item = item("CONTAINS", "NUM", name, Vec::new());
    item.put_items(tags::MEASURED_VALUE_SEQUENCE, Vec::new());
    item.put_items(tags::NUMERIC_VALUE_QUALIFIER_CODE_SEQUENCE, vec![code(why)]);
    item
}

/// TID 5200: chosen values written twice, three raw ones with their mean, one that failed, an image behind one.
pub fn echo() -> DataSet {
    let chosen =
        || coded("HAS PROPERTIES", ("121404", "DCM", "Selection Status"), ("121412", "DCM", "Mean value chosen"));
    let diameter = ("29436-3", "LN", "Left Ventricle Internal End Diastolic Dimension");
    let volume = ("18026-5", "LN", "Left Ventricular End Diastolic Volume");
    let ml = ("ml", "UCUM", "milliliter");
    let mut image = item("SELECTED FROM", "IMAGE", ("121112", "DCM", "Source of Measurement"), Vec::new());
    let mut reference = DataSet::default();
    reference.put_text(tags::REFERENCED_SOP_CLASS_UID, VR::UI, "1.2.840.10008.5.1.4.1.1.6.1");
    reference.put_text(tags::REFERENCED_SOP_INSTANCE_UID, VR::UI, "1.2.826.0.1.3680043.10.1000.7.1.1");
    image.put_items(tags::REFERENCED_SOP_SEQUENCE, vec![reference]);
    let group = container(
        GROUP,
        vec![
            modifier(MODE, ("G-03A2", "SRT", "2D mode")),
            number(diameter, "4.2141821355915", UCUM_CM, vec![chosen(), image]),
            number(diameter, "4.2141821355915", UCUM_CM, Vec::new()),
            number(volume, "61", ml, Vec::new()),
            number(volume, "64", ml, Vec::new()),
            number(volume, "59", ml, Vec::new()),
            number(volume, "61.33", ml, vec![modifier(DERIVATION, ("R-00317", "SRT", "Mean"))]),
            number(
                ("18043-0", "LN", "Left Ventricular Ejection Fraction"),
                "58.30",
                ("%", "UCUM", "percent"),
                vec![modifier(("G-C036", "SRT", "Measurement Method"), ("125207", "DCM", "Method of Disks, Biplane"))],
            ),
            no_number(("18087-7", "LN", "Left Ventricular Mass"), ("114006", "DCM", "Measurement failure")),
        ],
    );
    let flow = container(
        GROUP,
        vec![
            modifier(MODE, ("R-409E4", "SRT", "Doppler Continuous Wave")),
            number(
                ("11726-7", "LN", "Peak Velocity"),
                "-1.382e2",
                ("cm/s", "UCUM", "centimeter/second"),
                vec![modifier(("G-C048", "SRT", "Direction of Flow"), ("R-42047", "SRT", "Antegrade Flow"))],
            ),
            number(("99-7", "99CART", "Cart's own index"), "7", ("bips", "99CART", "bips"), Vec::new()),
        ],
    );
    let ventricle = modifier(FINDING_SITE, ("T-32600", "SRT", "Left Ventricle"));
    let valve = modifier(FINDING_SITE, ("T-35400", "SRT", "Aortic Valve"));
    report(
        "1.2.826.0.1.3680043.10.1000.7.9.1",
        "5200",
        ("125200", "DCM", "Adult Echocardiography Procedure Report"),
        true,
        vec![container(FINDINGS, vec![ventricle, group]), container(FINDINGS, vec![valve, flow])],
    )
}

/// TID 5100: the same three codes in each of two vessels on both sides.
pub fn vascular() -> DataSet {
    let vessel = |name: Name, values: [&str; 3]| {
        let unit = ("cm/s", "UCUM", "centimeter/second");
        container(
            name,
            vec![
                number(("11726-7", "LN", "Peak Systolic Velocity"), values[0], unit, Vec::new()),
                number(("11653-1", "LN", "End Diastolic Velocity"), values[1], unit, Vec::new()),
                number(("12023-8", "LN", "Resistivity Index"), values[2], ("1", "UCUM", "no units"), Vec::new()),
            ],
        )
    };
    let side = |side: Name, more: &'static str| {
        container(
            FINDINGS,
            vec![
                modifier(FINDING_SITE, ("T-45005", "SRT", "Artery of neck")),
                modifier(LATERALITY, side),
                vessel(("T-45100", "SRT", "Common Carotid Artery"), ["88.1", "21.0", more]),
                vessel(("T-45300", "SRT", "Internal Carotid Artery"), ["142.7", "40.2", "0.72"]),
            ],
        )
    };
    report(
        "1.2.826.0.1.3680043.10.1000.7.9.2",
        "5100",
        ("125100", "DCM", "Vascular Ultrasound Procedure Report"),
        false,
        vec![side(("G-A101", "SRT", "Left"), "0.76"), side(("G-A100", "SRT", "Right"), "0.70")],
    )
}

/// TID 5000: two fetuses with the same measurements, gestational ages by two equations, both ovaries.
pub fn obstetric() -> DataSet {
    let fetus = |name: &str, biparietal: &str, femur: &str| {
        let week = ("d", "UCUM", "day");
        let table = ("121420", "DCM", "Equation");
        let size = |name: Name, value: &str, age: &str, author: Name| {
            container(
                ("125005", "DCM", "Biometry Group"),
                vec![
                    number(name, value, UCUM_CM, Vec::new()),
                    number(
                        ("18185-9", "LN", "Gestational Age"),
                        age,
                        week,
                        vec![coded("INFERRED FROM", table, author)],
                    ),
                ],
            )
        };
        container(
            ("125002", "DCM", "Fetal Biometry"),
            vec![
                coded("HAS OBS CONTEXT", ("121024", "DCM", "Subject Class"), ("121026", "DCM", "Fetus")),
                text("HAS OBS CONTEXT", ("11951-1", "LN", "Fetus ID"), name),
                size(
                    ("11820-8", "LN", "Biparietal Diameter"),
                    biparietal,
                    "142",
                    ("33079-5", "LN", "BPD, Hadlock 1984"),
                ),
                size(("11963-6", "LN", "Femur Length"), femur, "140", ("11920-6", "LN", "FL, Hadlock 1984")),
            ],
        )
    };
    let ovary = |side: Name, value: &str| {
        number(
            ("11829-9", "LN", "Ovary Volume"),
            value,
            ("cm3", "UCUM", "cubic centimeter"),
            vec![modifier(LATERALITY, side)],
        )
    };
    let ovaries = container(
        FINDINGS,
        vec![
            modifier(FINDING_SITE, ("T-87000", "SRT", "Ovary")),
            ovary(("G-A101", "SRT", "Left"), "6.1"),
            ovary(("G-A100", "SRT", "Right"), "7.4"),
        ],
    );
    report(
        "1.2.826.0.1.3680043.10.1000.7.9.3",
        "5000",
        ("125000", "DCM", "OB-GYN Ultrasound Procedure Report"),
        false,
        vec![fetus("A", "4.82", "3.21"), fetus("B", "4.79", "3.18"), ovaries],
    )
}

/// TID 1500: a lesion that is tracked, with a limit of the normal range beside its length.
pub fn lesion() -> DataSet {
    let mut limit = number(("R-10041", "SRT", "Normal Range Upper Limit"), "10", ("mm", "UCUM", "mm"), Vec::new());
    limit.put_text(tags::RELATIONSHIP_TYPE, VR::CS, "HAS PROPERTIES");
    let mut uid = item("HAS OBS CONTEXT", "UIDREF", ("112040", "DCM", "Tracking Unique Identifier"), Vec::new());
    uid.put_text(tags::UID, VR::UI, "1.2.826.0.1.3680043.10.1000.8.1");
    let group = container(
        GROUP,
        vec![
            text("HAS OBS CONTEXT", ("112039", "DCM", "Tracking Identifier"), "Läsion 1"),
            uid,
            modifier(("363698007", "SCT", "Finding Site"), ("10200004", "SCT", "Liver")),
            number(("410668003", "SCT", "Length"), "23.40", ("mm", "UCUM", "millimeter"), vec![limit]),
        ],
    );
    report(
        "1.2.826.0.1.3680043.10.1000.7.9.4",
        "1500",
        ("126000", "DCM", "Imaging Measurement Report"),
        true,
        vec![container(("126010", "DCM", "Imaging Measurements"), vec![group])],
    )
}
