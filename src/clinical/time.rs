//! Times as instruments send them.

use serde::{Deserialize, Serialize};

/// A time exactly as sent (`YYYY[MM[DD[HH[MM[SS[.f]]]]]][+/-ZZZZ]`), with the offset it stands for.
///
/// Instruments mostly send local time without a zone. The offset is then the one of the link's time zone at that
/// instant, added once, when the message is read; an offset the sender wrote is kept as it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timestamp {
    /// Digits as sent, without offset.
    pub local: String,
    /// Offset from UTC, `+HHMM` or `-HHMM`; empty when the precision is a day or coarser, or nothing is known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub offset: String,
}

impl Timestamp {
    /// Reads an HL7 DTM/TS or a LIS02 time. `zone` supplies the offset when the text carries none.
    /// `None` when the text is not a time, or is a marker such as 18991230 that means none.
    pub fn parse(text: &str, zone: &jiff::tz::TimeZone) -> Option<Self> {
        let (local, offset) = match text.find(['+', '-']) {
            Some(at) => (&text[..at], &text[at..]),
            None => (text, ""),
        };
        let civil = civil(local)?;
        if civil.year() < 1900 {
            return None;
        }
        let offset = if !offset.is_empty() {
            let digits = &offset[1..];
            if digits.len() != 4 || !digits.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            offset.to_string()
        } else if local.len() >= 10 {
            let seconds = zone.to_ambiguous_timestamp(civil).compatible().ok().map(|t| zone.to_offset(t).seconds())?;
            let sign = if seconds < 0 { '-' } else { '+' };
            let minutes = seconds.abs() / 60;
            format!("{sign}{:02}{:02}", minutes / 60, minutes % 60)
        } else {
            String::new()
        };
        Some(Timestamp { local: local.to_string(), offset })
    }

    /// The instant, when the precision is at least an hour and an offset is known.
    pub fn instant(&self) -> Option<jiff::Timestamp> {
        if self.local.len() < 10 || self.offset.len() != 5 {
            return None;
        }
        let hours: i32 = self.offset[1..3].parse().ok()?;
        let minutes: i32 = self.offset[3..5].parse().ok()?;
        let seconds = (hours * 60 + minutes) * 60 * if self.offset.starts_with('-') { -1 } else { 1 };
        let offset = jiff::tz::Offset::from_seconds(seconds).ok()?;
        offset.to_timestamp(civil(&self.local)?).ok()
    }

    /// The same instant on the clock of `zone`, for those who read no offset: a worklist's start. As it is when no
    /// instant is known or the clock there shows the same.
    pub fn on_clock_of(self, zone: &jiff::tz::TimeZone) -> Self {
        let Some(there) = self.instant().map(|instant| instant.to_zoned(zone.clone())) else { return self };
        let offset = there.strftime("%z").to_string();
        if offset == self.offset {
            return self;
        }
        Timestamp { local: there.strftime("%Y%m%d%H%M%S").to_string(), offset }
    }

    /// HL7 DTM with the offset.
    pub fn hl7(&self) -> String {
        format!("{}{}", self.local, self.offset)
    }

    /// FHIR dateTime with the same precision; with hours it needs minutes and a zone, which are completed with zeros
    /// of the same hour or minute only.
    pub fn fhir(&self) -> String {
        let l = &self.local;
        let (digits, fraction) = l.split_once('.').map_or((l.as_str(), ""), |(d, f)| (d, f));
        let at = |from: usize, to: usize| digits.get(from..to).unwrap_or("00");
        match digits.len() {
            0..=4 => digits.to_string(),
            6 => format!("{}-{}", at(0, 4), at(4, 6)),
            8 => format!("{}-{}-{}", at(0, 4), at(4, 6), at(6, 8)),
            _ => {
                let zone = match self.offset.as_str() {
                    "" => "Z".to_string(),
                    o => format!("{}:{}", &o[..3], &o[3..]),
                };
                let fraction = if fraction.is_empty() { String::new() } else { format!(".{fraction}") };
                format!(
                    "{}-{}-{}T{}:{}:{}{fraction}{zone}",
                    at(0, 4),
                    at(4, 6),
                    at(6, 8),
                    at(8, 10),
                    at(10, 12),
                    at(12, 14)
                )
            }
        }
    }
}

fn civil(local: &str) -> Option<jiff::civil::DateTime> {
    let (digits, fraction) = local.split_once('.').unwrap_or((local, ""));
    let all_digits = digits.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit());
    if !all_digits || !matches!(digits.len(), 4 | 6 | 8 | 10 | 12 | 14) || (!fraction.is_empty() && digits.len() != 14)
    {
        return None;
    }
    let part = |from: usize, to: usize, default: i16| match digits.get(from..to) {
        Some(d) => d.parse::<i16>().ok(),
        None => Some(default),
    };
    jiff::civil::DateTime::new(
        part(0, 4, 0)?,
        part(4, 6, 1)? as i8,
        part(6, 8, 1)? as i8,
        part(8, 10, 0)? as i8,
        part(10, 12, 0)? as i8,
        part(12, 14, 0)? as i8,
        0,
    )
    .ok()
}

#[cfg(test)]
mod tests {
    use super::Timestamp;
    use jiff::tz::TimeZone;

    #[test]
    fn a_local_time_takes_the_offset_of_its_own_instant() {
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        let winter = Timestamp::parse("20260115083000", &berlin).unwrap();
        let summer = Timestamp::parse("20260715083000", &berlin).unwrap();
        assert_eq!((winter.hl7(), summer.hl7()), ("20260115083000+0100".into(), "20260715083000+0200".into()));
        assert_eq!(winter.fhir(), "2026-01-15T08:30:00+01:00");
        assert_eq!(winter.instant().unwrap().to_string(), "2026-01-15T07:30:00Z");
    }

    #[test]
    fn a_sent_offset_is_kept_and_coarse_times_have_none() {
        let utc = TimeZone::UTC;
        assert_eq!(Timestamp::parse("20260115083000-0500", &utc).unwrap().fhir(), "2026-01-15T08:30:00-05:00");
        assert_eq!(Timestamp::parse("20260115", &utc).unwrap().fhir(), "2026-01-15");
        for bad in [
            "",
            "18991230",
            "18991230000000",
            "00000000",
            "00000000000000",
            "0",
            "2026-01-15",
            "20261315",
            "2026011",
            "today",
            "20260115083000+05",
        ] {
            assert!(Timestamp::parse(bad, &utc).is_none(), "{bad}");
        }
    }
}
