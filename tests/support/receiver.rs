//! An EHR as the mapping sees it, the same in every golden.

use afferent::mapping::{AuthoritySystem, Charset, FhirProfile, Format, Hl7Version, Origin, Target};

pub const VERSIONS: [Hl7Version; 4] = [Hl7Version::V231, Hl7Version::V24, Hl7Version::V251, Hl7Version::V28];

/// Every format with the end of its golden's name.
pub fn formats() -> Vec<(String, Format)> {
    let hl7 = VERSIONS.into_iter().map(|v| (format!("{}.hl7", v.name()), Format::Hl7V2(v)));
    let fhir = [("fhir.json", Format::FhirTransaction), ("writes.json", Format::FhirWrites)];
    hl7.chain(fhir.map(|(name, format)| (name.to_string(), format))).collect()
}

/// What the EHR wants of a department; `fhir` is how it names things besides patients.
pub fn target(format: Format, department: &str, fhir: FhirProfile) -> Target {
    let hospital = AuthoritySystem { authority: "HOSP".into(), system: "urn:oid:2.16.840.1.113883.19.5".into() };
    Target {
        format,
        sending_application: "AFFERENT".into(),
        sending_facility: format!("{department}^2.16.840.1.113883.19.4^ISO"),
        receiving_application: "EHR".into(),
        receiving_facility: "HOSP".into(),
        patient_authority: "CLINIC".into(),
        charset: Charset::Utf8,
        fhir: FhirProfile { systems: vec![hospital], ..fhir },
        tests_only: false,
    }
}

pub fn origin(link: &str) -> Origin {
    Origin {
        message_id: "A0000000000000000001".into(),
        gateway: "bench-1".into(),
        link: link.into(),
        made: "2026-11-03T09:20:00+01:00[Europe/Berlin]".parse().unwrap(),
    }
}
