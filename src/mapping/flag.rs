//! Abnormal flags: HL7 table 0078 (OBX-8) and FHIR's ObservationInterpretation, which took over its codes.

/// System of the FHIR codes.
pub(super) const FHIR_SYSTEM: &str = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation";

/// Codes of both tables with their display. AC, HM, OBX, QCF and TOX of table 0078 are retired in FHIR and not here.
const CODES: [(&str, &str); 30] = [
    ("<", "Off scale low"),
    (">", "Off scale high"),
    ("A", "Abnormal"),
    ("AA", "Critical abnormal"),
    ("B", "Better"),
    ("D", "Significant change down"),
    ("DET", "Detected"),
    ("E", "Equivocal"),
    ("EX", "outside threshold"),
    ("H", "High"),
    ("HH", "Critical high"),
    ("HU", "Significantly high"),
    ("HX", "above high threshold"),
    ("I", "Intermediate"),
    ("IND", "Indeterminate"),
    ("L", "Low"),
    ("LL", "Critical low"),
    ("LU", "Significantly low"),
    ("LX", "below low threshold"),
    ("MS", "moderately susceptible"),
    ("N", "Normal"),
    ("ND", "Not detected"),
    ("NEG", "Negative"),
    ("POS", "Positive"),
    ("R", "Resistant"),
    ("RR", "Reactive"),
    ("S", "Susceptible"),
    ("U", "Significant change up"),
    ("VS", "very susceptible"),
    ("W", "Worse"),
];

/// The display of a code, when both tables have it. Anything else is the instrument's own and is sent as it is.
pub(super) fn display(flag: &str) -> Option<&'static str> {
    CODES.iter().find(|(code, _)| *code == flag).map(|(_, display)| *display)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_codes_have_a_display_and_retired_or_local_ones_none() {
        assert_eq!(display("HH"), Some("Critical high"));
        for own in ["AC", "HM", "OBX", "QCF", "TOX", "h", "", "Blast?"] {
            assert_eq!(display(own), None, "{own}");
        }
        assert!(CODES.is_sorted(), "the list is kept in order");
    }
}
