//! Result status: HL7 table 0085 (OBX-11) and its FHIR reading, and what a report is when its results are.
//!
//! The official OBX-to-Observation map leaves B, I, N, O, R, S, U and V empty. What is chosen here for them is said in
//! one table, [`published`], from which both mappings work.

use super::Hl7Version;

/// One line of the status table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    /// OBX-11 in the canonical report.
    pub obx11: &'static str,
    /// Earliest version whose table 0085 has the code.
    pub since: Hl7Version,
    /// What older versions get; the same meaning with less detail.
    pub before: &'static str,
    /// Observation.status.
    pub fhir: &'static str,
    /// Observation.dataAbsentReason when there is no value.
    pub absent: &'static str,
    /// What the code says.
    pub meaning: &'static str,
}

/// The status table.
pub fn published() -> &'static [Line] {
    &TABLE
}

const fn line(obx11: &'static str, fhir: &'static str, absent: &'static str, meaning: &'static str) -> Line {
    Line { obx11, since: Hl7Version::V231, before: obx11, fhir, absent, meaning }
}

const fn newer(obx11: &'static str, before: &'static str, fhir: &'static str, meaning: &'static str) -> Line {
    Line { obx11, since: Hl7Version::V28, before, fhir, absent: "unknown", meaning }
}

static TABLE: [Line; 14] = [
    line("F", "final", "unknown", "final"),
    line("C", "corrected", "unknown", "corrects an earlier final result"),
    line("P", "preliminary", "unknown", "preliminary"),
    line("R", "preliminary", "unknown", "entered, not verified"),
    line("S", "preliminary", "unknown", "partial"),
    line("I", "registered", "temp-unknown", "specimen in lab, results pending"),
    line("X", "cancelled", "error", "no result can be obtained"),
    line("D", "entered-in-error", "unknown", "deletes the result"),
    line("W", "entered-in-error", "unknown", "wrong, for instance the wrong patient's"),
    line("U", "final", "unknown", "status changed to final, value as before"),
    line("N", "final", "not-asked", "not asked"),
    newer("A", "C", "amended", "amended"),
    newer("B", "C", "amended", "appended"),
    newer("V", "F", "final", "verified"),
];

/// "Order detail description only, no result": not something a chart may get as a result.
const ORDER_ONLY: &str = "O";
/// What a status outside the table becomes: entered, not verified.
const UNVERIFIED: &str = "R";

fn find(status: &str) -> Option<&'static Line> {
    TABLE.iter().find(|l| l.obx11 == status)
}

/// True when the result may not be sent at all.
pub(super) fn is_order_only(status: &str) -> bool {
    status == ORDER_ONLY
}

/// OBX-11. A status outside table 0085 only gets here when the site lets it pass; it goes as "not verified".
pub(super) fn hl7(status: &str, version: Hl7Version) -> &'static str {
    match find(status) {
        Some(line) if version >= line.since => line.obx11,
        Some(line) => line.before,
        None => UNVERIFIED,
    }
}

/// Observation.status.
pub(super) fn fhir(status: &str) -> &'static str {
    find(status).map_or("unknown", |l| l.fhir)
}

/// Observation.dataAbsentReason for a result without a value.
pub(super) fn absent(status: &str) -> &'static str {
    find(status).map_or("unknown", |l| l.absent)
}

/// The status of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OfReport {
    /// OBR-25 (table 0123).
    pub hl7: &'static str,
    /// DiagnosticReport.status.
    pub fhir: &'static str,
}

/// A report is what its results are: corrected when any of them corrects, final when all are. D and W delete single
/// results and are no values of OBR-25; a report of nothing else is a correction.
pub(super) fn of_report<'s>(results: impl Iterator<Item = &'s str>) -> OfReport {
    let fhir: Vec<&str> = results.map(fhir).collect();
    let any = |wanted: &str| fhir.contains(&wanted);
    let all = |wanted: &str| fhir.iter().all(|f| *f == wanted);
    let (hl7, fhir) = match () {
        () if all("entered-in-error") => ("C", "entered-in-error"),
        () if any("corrected") || any("entered-in-error") => ("C", "corrected"),
        () if any("amended") => ("C", "amended"),
        () if all("cancelled") => ("X", "cancelled"),
        () if all("registered") => ("I", "registered"),
        () if any("unknown") => ("R", "unknown"),
        () if any("preliminary") => ("P", "preliminary"),
        () if any("registered") => ("A", "partial"),
        () => ("F", "final"),
    };
    OfReport { hl7, fhir }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_choices_hold_in_every_version() {
        let row = |s| (hl7(s, Hl7Version::V231), hl7(s, Hl7Version::V251), hl7(s, Hl7Version::V28), fhir(s), absent(s));
        for (status, expected) in [
            ("F", ("F", "F", "F", "final", "unknown")),
            ("C", ("C", "C", "C", "corrected", "unknown")),
            ("P", ("P", "P", "P", "preliminary", "unknown")),
            ("R", ("R", "R", "R", "preliminary", "unknown")),
            ("S", ("S", "S", "S", "preliminary", "unknown")),
            ("I", ("I", "I", "I", "registered", "temp-unknown")),
            ("X", ("X", "X", "X", "cancelled", "error")),
            ("D", ("D", "D", "D", "entered-in-error", "unknown")),
            ("W", ("W", "W", "W", "entered-in-error", "unknown")),
            ("U", ("U", "U", "U", "final", "unknown")),
            ("N", ("N", "N", "N", "final", "not-asked")),
            ("A", ("C", "C", "A", "amended", "unknown")),
            ("B", ("C", "C", "B", "amended", "unknown")),
            ("V", ("F", "F", "V", "final", "unknown")),
            ("", ("R", "R", "R", "unknown", "unknown")),
            ("?", ("R", "R", "R", "unknown", "unknown")),
        ] {
            assert_eq!(row(status), expected, "{status:?}");
        }
        assert!(is_order_only("O") && find("O").is_none());
    }

    #[test]
    fn a_report_is_what_its_results_are() {
        let of = |statuses: &[&'static str]| {
            let status = of_report(statuses.iter().copied());
            (status.hl7, status.fhir)
        };
        for (statuses, expected) in [
            (&["F", "F"][..], ("F", "final")),
            (&["F", "C"], ("C", "corrected")),
            (&["F", "A"], ("C", "amended")),
            (&["F", "P"], ("P", "preliminary")),
            (&["F", "X"], ("F", "final")),
            (&["X", "X"], ("X", "cancelled")),
            (&["I"], ("I", "registered")),
            (&["F", "I"], ("A", "partial")),
            (&["D"], ("C", "entered-in-error")),
            (&["D", "F"], ("C", "corrected")),
            (&["F", "?"], ("R", "unknown")),
        ] {
            assert_eq!(of(statuses), expected, "{statuses:?}");
        }
    }
}
