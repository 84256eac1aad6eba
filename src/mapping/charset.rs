//! Character sets of HL7 v2 messages (MSH-18, table 0211): what does not fit is refused, never replaced.

use super::MapError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Character set an EHR's interface reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Charset {
    /// UTF-8.
    #[default]
    #[serde(rename = "utf-8")]
    Utf8,
    /// ISO 8859-1.
    #[serde(rename = "latin-1")]
    Latin1,
    /// Seven-bit ASCII.
    Ascii,
}

impl Charset {
    /// MSH-18.
    pub fn hl7(self) -> &'static str {
        match self {
            Charset::Utf8 => "UNICODE UTF-8",
            Charset::Latin1 => "8859/1",
            Charset::Ascii => "ASCII",
        }
    }

    /// Appends `text` in this character set; `place` is named when a character does not fit.
    pub(super) fn append(self, out: &mut Vec<u8>, text: &str, place: impl FnOnce() -> String) -> Result<(), MapError> {
        let fits = |c: char| match self {
            Charset::Utf8 => true,
            // 0x80 to 0x9F are controls in ISO 8859-1, and something else in what is often meant by it.
            Charset::Latin1 => c.is_ascii() || ('\u{A0}'..='\u{FF}').contains(&c),
            Charset::Ascii => c.is_ascii(),
        };
        if !text.chars().all(fits) {
            return Err(MapError::Charset { place: place(), charset: self.hl7() });
        }
        match self {
            Charset::Latin1 => out.extend(text.chars().filter_map(|c| u8::try_from(c).ok())),
            Charset::Utf8 | Charset::Ascii => out.extend_from_slice(text.as_bytes()),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(charset: Charset, text: &str) -> Result<Vec<u8>, MapError> {
        let mut out = Vec::new();
        charset.append(&mut out, text, || "PID-5".to_string()).map(|()| out)
    }

    #[test]
    fn what_fits_is_written_and_what_does_not_is_refused() {
        assert_eq!(write(Charset::Utf8, "Müller µ μ").unwrap(), "Müller µ μ".as_bytes());
        assert_eq!(write(Charset::Latin1, "Mü µ").unwrap(), b"M\xfc \xb5");
        assert_eq!(write(Charset::Ascii, "plain").unwrap(), b"plain");
        for (charset, text) in
            [(Charset::Latin1, "μ"), (Charset::Latin1, "€"), (Charset::Latin1, "\u{85}"), (Charset::Ascii, "ü")]
        {
            let error = write(charset, text).unwrap_err();
            assert_eq!(error, MapError::Charset { place: "PID-5".to_string(), charset: charset.hl7() });
            assert!(!error.to_string().contains(text), "no content in errors");
        }
    }
}
