//! Times as people and spreadsheets write them (`2015/06/01 14:59:02`, `12/10/2014 4:42 p.m.`), in the digits all
//! reports have. What can be read in two ways is not read at all (I13): the driver says how, in `table.time_formats`.

use jiff::civil::Date;
use jiff::fmt::strtime::{self, BrokenDownTime};

/// Dates that can be read in one way only; a date with dots has its day first.
const DATES: [&str; 9] =
    ["%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%Y%m%d", "%d.%m.%Y", "%d-%b-%Y", "%d %b %Y", "%d/%b/%Y", "%b %d %Y"];
/// Zones that have a name and an offset of their own (RFC 5322, 4.3).
const ZONES: [(&str, &str); 11] = [
    ("Z", "+0000"),
    ("UTC", "+0000"),
    ("GMT", "+0000"),
    ("EST", "-0500"),
    ("EDT", "-0400"),
    ("CST", "-0600"),
    ("CDT", "-0500"),
    ("MST", "-0700"),
    ("MDT", "-0600"),
    ("PST", "-0800"),
    ("PDT", "-0700"),
];
/// Months in English, French, German, Spanish, Italian and Portuguese by their beginnings.
#[rustfmt::skip]
const MONTHS: [(&str, &str); 37] = [
    ("jan", "Jan"), ("jän", "Jan"), ("ene", "Jan"), ("gen", "Jan"), ("feb", "Feb"), ("fév", "Feb"), ("fev", "Feb"),
    ("mar", "Mar"), ("mär", "Mar"), ("mrz", "Mar"), ("apr", "Apr"), ("avr", "Apr"), ("abr", "Apr"), ("mai", "May"),
    ("may", "May"), ("mag", "May"), ("jun", "Jun"), ("juin", "Jun"), ("giu", "Jun"), ("jul", "Jul"), ("juil", "Jul"),
    ("lug", "Jul"), ("aug", "Aug"), ("aoû", "Aug"), ("aou", "Aug"), ("ago", "Aug"), ("sep", "Sep"), ("set", "Sep"),
    ("oct", "Oct"), ("okt", "Oct"), ("ott", "Oct"), ("out", "Oct"), ("nov", "Nov"), ("dec", "Dec"), ("déc", "Dec"),
    ("dez", "Dec"), ("dic", "Dec"),
];
/// Longest text that is tried, in bytes.
const TEXT_MAX: usize = 64;

/// `YYYYMMDD[HHMM[SS[.f]]][+ZZZZ]`; `None` when the text is no time, or several. `formats` are strptime's and go first.
pub(super) fn digits(text: &str, formats: &[String]) -> Option<String> {
    let text = text.trim();
    if text.len() > TEXT_MAX || !text.contains(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let text = plain(text);
    formats.iter().find_map(|format| by_format(&text, format)).or_else(|| by_itself(&text))
}

/// What is wrong with a format, if anything.
pub(super) fn fault(format: &str) -> Option<String> {
    let sample = jiff::Zoned::new(jiff::Timestamp::UNIX_EPOCH, jiff::tz::TimeZone::UTC);
    let written = match strtime::format(format, &sample) {
        Ok(written) => written,
        Err(error) => return Some(error.to_string()),
    };
    let whole = by_format(&plain(&written), format).is_some();
    (!whole).then(|| "it must say year, month and day, such as \"%d/%m/%Y %H:%M\"".to_string())
}

/// One blank between words, months in English, `p.m.` as PM, and no `T` between date and time.
fn plain(text: &str) -> String {
    let text = in_english(text);
    let mut words: Vec<String> = text.split_whitespace().map(str::to_string).collect();
    for word in &mut words {
        match word.to_ascii_lowercase().trim_matches(',').replace('.', "").as_str() {
            "am" => *word = "AM".to_string(),
            "pm" => *word = "PM".to_string(),
            _ => {}
        }
    }
    let text = words.join(" ");
    match text.split_once('T') {
        Some((date, time)) if date.ends_with(digit) && time.starts_with(digit) => format!("{date} {time}"),
        _ => text,
    }
}

/// The names of months in one of the languages above as three English letters.
fn in_english(text: &str) -> String {
    let is_word = |c: char| c.is_alphabetic();
    let Some(start) = text.find(is_word) else { return text.to_string() };
    let (mut from, mut done) = (start, String::from(text.get(..start).unwrap_or("")));
    while let Some(rest) = text.get(from..).filter(|rest| !rest.is_empty()) {
        let length = if rest.starts_with(is_word) { rest.find(|c| !is_word(c)) } else { rest.find(is_word) };
        let piece = rest.get(..length.unwrap_or(rest.len())).unwrap_or(rest);
        let lower = piece.to_lowercase();
        let month = MONTHS.iter().find(|(beginning, _)| lower.starts_with(beginning));
        done.push_str(month.map_or(piece, |(_, english)| english));
        from += piece.len();
    }
    done
}

/// A plain text by a format; months have three letters by now, whatever the format calls them.
fn by_format(text: &str, format: &str) -> Option<String> {
    let read = strtime::parse(format.replace("%B", "%b"), text).ok()?;
    let date = read.to_date().ok()?;
    let mut digits = day(date);
    if read.hour().is_some() {
        digits.push_str(&clock(&read)?);
        if let Some(offset) = read.offset() {
            let seconds = offset.seconds();
            let (sign, minutes) = (if seconds < 0 { '-' } else { '+' }, seconds.abs() / 60);
            digits.push_str(&format!("{sign}{:02}{:02}", minutes / 60, minutes % 60));
        }
    }
    Some(digits)
}

fn clock(read: &BrokenDownTime) -> Option<String> {
    let time = read.to_time().ok()?;
    let seconds = if read.second().is_some() { format!("{:02}", time.second()) } else { String::new() };
    Some(format!("{:02}{:02}{seconds}", time.hour(), time.minute()))
}

fn by_itself(text: &str) -> Option<String> {
    let at_time = text.find(':').map(|colon| text.get(..colon).unwrap_or("").rfind(' ').map_or(0, |at| at + 1));
    let (date, time) = text.split_at(at_time.unwrap_or(text.len()));
    let date = date.trim().trim_end_matches(',');
    let date = DATES
        .iter()
        .find_map(|format| strtime::parse(format, date).and_then(|read| read.to_date()).ok())
        .filter(|date| date.year() >= 1000)
        .or_else(|| by_slashes(date))?;
    if time.is_empty() { Some(day(date)) } else { Some(day(date) + &time_of_day(time)?) }
}

/// `25/12/2014` has one reading, `12/25/2014` too, `12/10/2014` two.
fn by_slashes(date: &str) -> Option<Date> {
    let parts: Vec<&str> = date.split(['/', '-']).collect();
    let [first, second, year] = parts.as_slice() else { return None };
    if year.len() != 4 || [first, second].iter().any(|part| part.len() > 2) {
        return None;
    }
    let (first, second, year): (i8, i8, i16) = (first.parse().ok()?, second.parse().ok()?, year.parse().ok()?);
    let (month, day) = match (first, second) {
        (same, other) if same == other => (same, other),
        (13.., 1..=12) => (second, first),
        (1..=12, 13..) => (first, second),
        _ => return None,
    };
    Date::new(year, month, day).ok()
}

/// `09:51:46 AM PDT` as `095146-0700`.
fn time_of_day(text: &str) -> Option<String> {
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == ':' || c == '.')).unwrap_or(text.len());
    let (clock, rest) = text.split_at(end);
    let mut words: Vec<&str> = rest.split_whitespace().collect();
    let half = words.first().copied().filter(|word| matches!(*word, "AM" | "PM"));
    words.drain(..usize::from(half.is_some()));
    let mut parts = clock.split(':');
    let (hour, minute, second) = (parts.next()?, parts.next()?, parts.next());
    let two = |text: &str| (1..=2).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    let whole = second.map(|s| s.split('.').next().unwrap_or(s));
    if parts.next().is_some() || !two(hour) || minute.len() != 2 || !two(minute) || whole.is_some_and(|s| s.len() != 2)
    {
        return None;
    }
    let hour: u8 = hour.parse().ok()?;
    let hour = match half {
        None => hour,
        Some(_) if !(1..=12).contains(&hour) => return None,
        Some("AM") => hour % 12,
        Some(_) => hour % 12 + 12,
    };
    let offset = match words.as_slice() {
        [] => String::new(),
        [zone] => match ZONES.iter().find(|(name, _)| name == zone) {
            Some((_, offset)) => offset.to_string(),
            None if zone.starts_with(['+', '-']) => zone.replace(':', ""),
            None => return None,
        },
        _ => return None,
    };
    Some(format!("{hour:02}{minute}{}{offset}", second.unwrap_or("")))
}

fn day(date: Date) -> String {
    format!("{:04}{:02}{:02}", date.year(), date.month(), date.day())
}

fn digit(c: char) -> bool {
    c.is_ascii_digit()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_month_is_read_in_six_languages() {
        let languages = [
            "January February March April May June July August September October November December",
            "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
            "Januar Februar März April Mai Juni Juli August September Oktober November Dezember",
            "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
            "gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre dicembre",
            "janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro dezembro",
        ];
        for months in languages {
            for (number, month) in (1..).zip(months.split(' ')) {
                let read = format!("2015{number:02}06");
                assert_eq!(digits(&format!("6 {month} 2015"), &[]).as_deref(), Some(read.as_str()), "{month}");
                for format in ["%d-%b-%y", "%d-%B-%y"] {
                    let dashes = digits(&format!("06-{month}-15"), &[format.to_string()]);
                    assert_eq!(dashes.as_deref(), Some(read.as_str()), "{month} by {format}");
                }
            }
        }
        assert_eq!(fault("%d %B %Y"), None);
    }

    #[test]
    fn what_has_one_reading_is_read() {
        for (text, read) in [
            ("2015/06/01 14:59:02", "20150601145902"),
            ("2020-05-18 09:51:46 AM PDT", "20200518095146-0700"),
            ("2021-02-09 12:18:31 PM", "20210209121831"),
            ("2026-11-03T10:15:00Z", "20261103101500+0000"),
            ("2026-11-03T10:15:00.25+01:00", "20261103101500.25+0100"),
            ("20160410 17:41", "201604101741"),
            ("20160410", "20160410"),
            ("03.11.2026 8:05", "202611030805"),
            ("25/12/2014 4:42 p.m.", "201412251642"),
            ("12/25/2014 12:42 a.m.", "201412250042"),
            ("11/11/2026", "20261111"),
            ("03-Nov-2026", "20261103"),
            ("3 November 2026", "20261103"),
            ("3 novembre 2026 12:26", "202611031226"),
            ("7 Mai 2026", "20260507"),
            ("Nov 3, 2026", ""),
            ("12/10/2014 4:42 p.m.", ""),
            ("09/01/15 05:20:37", ""),
            ("17:41", ""),
            ("2026-11-03 10:15 CET", ""),
            ("2026-02-30", ""),
            ("Reagent", ""),
            ("5.0", ""),
        ] {
            assert_eq!(digits(text, &[]).unwrap_or_default(), read, "{text}");
        }
    }

    #[test]
    fn i13_the_driver_says_which_of_two_readings_is_meant() {
        let with = |format: &str, text: &str| digits(text, &[format.to_string()]).unwrap_or_default();
        assert_eq!(with("%d/%m/%Y %I:%M %p", "12/10/2014 4:42 p.m."), "201410121642");
        assert_eq!(with("%m/%d/%Y %I:%M %p", "12/10/2014 4:42 p.m."), "201412101642");
        assert_eq!(with("%m/%d/%y %H:%M:%S", "09/01/15 05:20:37"), "20150901052037");
        assert_eq!(with("%d/%m/%Y", "2026-11-03 10:15"), "202611031015", "what has one reading is still read");
    }

    #[test]
    fn a_format_that_says_no_day_is_refused() {
        assert_eq!(fault("%d/%m/%Y %H:%M"), None);
        assert!(fault("%H:%M").is_some() && fault("%Q1").is_some());
    }
}
