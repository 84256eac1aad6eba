//! What a destination with nothing set but its protocol would be sent for a report: what `preview` shows and what the
//! drivers' cases keep.

use crate::clinical::Report;
use crate::delivery::config::{Config, Protocol};
use crate::mapping::{MapError, Origin, map_part};

/// How a message is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum As {
    /// HL7 v2.5.1 ORU^R01
    #[default]
    Hl7,
    /// A FHIR R4 transaction Bundle
    Fhir,
}

/// The message that carries these results of a report, for a person to read: HL7 with a line for each segment, FHIR
/// indented. Nothing else differs from what is sent; numbers keep their digits.
///
/// # Errors
/// The results cannot be said in this format.
pub fn message(report: &Report, part: &[usize], form: As, origin: &Origin) -> Result<String, MapError> {
    let protocol = match form {
        As::Hl7 => Protocol::Mllp,
        As::Fhir => Protocol::Fhir,
    };
    let destination = Config { protocol, ..Config::default() };
    let sent = map_part(report, part, &destination.target(&origin.gateway), origin)?;
    match form {
        As::Hl7 => Ok(String::from_utf8_lossy(&sent).replace('\r', "\n")),
        As::Fhir => {
            let bundle: serde_json::Value = serde_json::from_slice(&sent).map_err(|_| MapError::Json)?;
            Ok(format!("{bundle:#}\n"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clinical::{Decimal, Observation, Value};

    #[test]
    fn i11_shown_numbers_keep_their_digits() {
        let value = Value::Number(Decimal::parse("5.100").unwrap());
        let observation =
            Observation { instrument_code: "GLU".into(), value, status: "F".into(), ..Observation::default() };
        let report = Report { observations: vec![observation], ..Report::default() };
        let origin = Origin {
            message_id: "1".into(),
            gateway: "bench-1".into(),
            link: "chemistry".into(),
            made: jiff::Timestamp::UNIX_EPOCH.to_zoned(jiff::tz::TimeZone::UTC),
        };
        let hl7 = message(&report, &[0], As::Hl7, &origin).unwrap();
        assert!(hl7.starts_with("MSH|") && hl7.ends_with('\n') && hl7.contains("|NM|GLU^^L|1|5.100|"), "{hl7}");
        let fhir = message(&report, &[0], As::Fhir, &origin).unwrap();
        assert!(fhir.contains("\"value\": 5.100"), "{fhir}");
    }
}
