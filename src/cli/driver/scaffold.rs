//! Beginning a driver from a capture. Nothing is guessed: every code seen is listed, commented out, for a person to map.

use crate::clinical::Observation;
use crate::driver::identify::sender;
use crate::driver::unread::UNREAD;
use crate::driver::{Context, Driver, Interpretation, Origin, Protocol, Registry, explain, guess_protocol, skeleton};
use crate::sim::transcript::spell;
use crate::workbench::codes::suggest;
use anyhow::Context as _;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Most places listed that no field takes.
const UNREAD_MAX: usize = 20;
/// Most codes listed.
const CODES_MAX: usize = 2000;

/// Makes the folder with a `driver.toml`.
///
/// # Errors
/// The folder is there already or cannot be written.
pub(super) fn scaffold(folder: &Path, raw: &[u8], protocol: Option<Protocol>) -> anyhow::Result<Protocol> {
    anyhow::ensure!(!folder.exists(), "{} is there already", folder.display());
    let protocol = protocol.unwrap_or_else(|| guess_protocol(raw));
    let sender = sender(protocol, raw).unwrap_or_default();
    let text = toml_for(protocol, sender.trim(), raw);
    Driver::parse("driver.toml", &text)?;
    std::fs::create_dir_all(folder.join("cases")).with_context(|| format!("{}", folder.display()))?;
    std::fs::write(folder.join("driver.toml"), text).with_context(|| format!("{}", folder.display()))?;
    Ok(protocol)
}

fn toml_for(protocol: Protocol, sender: &str, raw: &[u8]) -> String {
    let registry = Registry::builtin();
    let context = Context { zone: jiff::tz::TimeZone::UTC, charset: None, framing: None, complete: true };
    let lines = if protocol == Protocol::Lines { skeleton::suggest(raw) } else { String::new() };
    let (interpretation, origins) = match reader(&lines, raw, &context) {
        Some(read) => read,
        None => explain(registry.generic(protocol), raw, &context),
    };
    let (name, wire, first) = match protocol {
        Protocol::Astm => ("astm", "[wire]\nbaud = 9600\n\n", "specimen_id = [\"O.3.1\"]\n# test_code = [\"R.3.4\"]\n"),
        Protocol::Hl7 => ("hl7", "", "specimen_id = [\"SPM.2.1.1\", \"SAC.3.1\"]\n# test_code = [\"OBX.3.1\"]\n"),
        Protocol::Poct1a => ("poct1a", "", "specimen_optional = true\n# test_code = [\"OBS.observation_id\"]\n"),
        Protocol::Table => ("table", "", ""),
        Protocol::Lines => ("lines", "", "# Of these names: `preview` shows which one a record read.\n"),
    };
    let first = if protocol == Protocol::Table { table_fields(&interpretation, &origins) } else { first.to_string() };
    // The name and the model stay the same between two instruments; versions and serial numbers do not.
    let header: String = match protocol {
        // A device's name begins with its maker's, which other models share.
        Protocol::Poct1a => sender.splitn(3, '^').take(2).collect::<Vec<_>>().join("^"),
        // The longest line a table says about itself: the names of its columns.
        Protocol::Table => sender.lines().max_by_key(|line| line.len()).unwrap_or(sender).to_string(),
        Protocol::Lines => skeleton::heading(sender).unwrap_or_default().to_string(),
        _ => sender.split(['^', '&']).next().unwrap_or(sender).trim().to_string(),
    };
    let header = if header.is_empty() && protocol != Protocol::Lines { sender.to_string() } else { header };
    // A line may name a patient behind what it begins with.
    let whole = if protocol == Protocol::Lines { header.clone() } else { spell(sender.as_bytes()) };
    let known_by = match header.is_empty() {
        // A link can name the driver; or `where` says what else tells this instrument.
        true => "## It names no sender (H.5, MSH-3, a hello or column headers): name this driver in the link.\n\
                 # where = [{ field = \"R.14\", is = [\"?\"] }]"
            .to_string(),
        false => format!("# The whole field was: {whole}\nheader = [{}]", quoted(&header)),
    };
    // By code, the units it came in and the name it came with.
    let mut codes: BTreeMap<&str, (BTreeSet<&str>, &str)> = BTreeMap::new();
    for observation in observed(&interpretation) {
        if codes.len() < CODES_MAX || codes.contains_key(observation.instrument_code.as_str()) {
            let seen = codes.entry(&observation.instrument_code).or_default();
            seen.0.insert(&observation.unit);
            seen.1 = &observation.instrument_name;
        }
    }
    let lines = if lines.is_empty() { lines } else { format!("\n{lines}") };
    let mut text = format!(
        "# Begun from a capture. See src/driver/schema.rs for every key.\n\n[identity]\nvendor = \"?\"\nmodel = \"?\"\n\
         protocol = \"{name}\"\n{known_by}\nevidence = [\"a capture\"]\n\n{wire}[fields]\n{first}{}{lines}{}",
        unread(&origins),
        remarks(protocol, &origins)
    );
    for (code, (units, called)) in codes {
        let suggestions: Vec<String> = units
            .iter()
            .flat_map(|unit| suggest(&registry, code, called, unit))
            .map(|suggestion| format!("\n## perhaps {suggestion}"))
            .collect();
        let units: Vec<String> = units.iter().map(|u| format!("{} = \"?\"", quoted(u))).collect();
        text.push_str(&suggestions.concat());
        text.push_str(&format!(
            "\n# [[analyte]]\n# code = {}\n# loinc = \"?\"\n# name = \"?\"\n# units = {{ {} }}\n",
            quoted(code),
            units.join(", ")
        ));
    }
    text
}

/// The capture as the records that were suggested read it; `None` when there are none, or they read less than nothing.
fn reader(lines: &str, raw: &[u8], context: &Context) -> Option<(Interpretation, Vec<Origin>)> {
    let identity = "[identity]\nvendor = \"?\"\nmodel = \"?\"\nprotocol = \"lines\"\n";
    let driver = Driver::parse("driver.toml", &format!("{identity}{lines}")).ok().filter(|_| !lines.is_empty())?;
    let read = explain(&driver, raw, context);
    let reads_something = observed(&read.0).any(|o| !o.instrument_code.is_empty());
    reads_something.then_some(read)
}

/// `[fields]` as the generic driver read them, and `[table]` with what it could not know.
fn table_fields(interpretation: &Interpretation, origins: &[Origin]) -> String {
    let (mut fields, mut others): (BTreeMap<&str, BTreeSet<&str>>, BTreeSet<&str>) = Default::default();
    for origin in origins {
        match origin.field {
            UNREAD => drop(others.insert(&origin.path)),
            field => drop(fields.entry(field).or_default().insert(&origin.path)),
        }
    }
    let mut text = String::new();
    for (field, paths) in &fields {
        let paths: Vec<String> = paths.iter().map(|path| quoted(path)).collect();
        text.push_str(&format!("{field} = [{}]\n", paths.join(", ")));
    }
    text.push_str("# What no field above reads (see the paths of tables in src/driver/schema.rs):\n");
    for path in others.iter().take(CODES_MAX) {
        text.push_str(&format!("#   {}\n", path.replace(|c: char| c.is_control(), " ")));
    }
    let wide = fields.get("value").is_some_and(|paths| paths.contains("[@]"));
    text.push_str("\n[table]\n");
    if wide {
        let codes: BTreeSet<&str> = observed(interpretation).map(|o| o.instrument_code.as_str()).collect();
        let codes: Vec<String> = codes.into_iter().take(CODES_MAX).map(|code| quoted(&format!("{code}*"))).collect();
        text.push_str(&format!("test_columns = [{}]\n", codes.join(", ")));
    }
    if interpretation.notes.iter().any(|note| note.what.contains("time_formats")) {
        text.push_str(
            "# The times can be read in several ways; say which is meant:\n# time_formats = [\"%d/%m/%Y %H:%M\"]\n",
        );
    }
    text
}

fn observed(interpretation: &Interpretation) -> impl Iterator<Item = &Observation> {
    interpretation.reports.iter().flat_map(|report| &report.observations)
}

/// Places of result records that no field takes, each with the first text seen there.
fn unread(origins: &[Origin]) -> String {
    let mut seen = BTreeSet::new();
    let of_results =
        |o: &&Origin| o.field == UNREAD && ["R.", "OBX.", "OBS."].iter().any(|record| o.path.starts_with(record));
    let fresh = origins.iter().filter(of_results).filter(|o| seen.insert(o.path.as_str())).take(UNREAD_MAX);
    let lines: String =
        fresh.map(|o| format!("## not read: {} = {}\n", o.path, spell(o.text.expose().as_bytes()))).collect();
    if lines.is_empty() { lines } else { format!("## Does one of these belong to a field? See preview.\n{lines}") }
}

/// The flags seen, and how control runs and failures are said, all commented out.
fn remarks(protocol: Protocol, origins: &[Origin]) -> String {
    let flags: BTreeSet<&str> = origins.iter().filter(|o| o.field == "flag").map(|o| o.text.expose().trim()).collect();
    let flags: String = flags.iter().map(|flag| format!("# {} = {}\n", quoted(flag), quoted(flag))).collect();
    let (result, order) = match protocol {
        Protocol::Astm => ("R.4", "O.3"),
        Protocol::Hl7 => ("OBX.5", "MSH.16"),
        Protocol::Poct1a => ("OBS.value", "SVC.role_cd"),
        Protocol::Lines => ("LN.value", "LN.specimen_id"),
        // Their own part of drivers/README.md says it.
        Protocol::Table => return String::new(),
    };
    format!(
        "\n## Flag as sent = HL7 table 0078 code.\n# [flags]\n{flags}\n\
         ## What tells a control run, and a result that is none; \"then\" can also be questionable, technical,\n\
         ## not-production or no-specimen.\n# [[when]]\n# field = \"{order}\"\n# is = [\"QC*\"]\n# then = \"control\"\n\n\
         # [[when]]\n# field = \"{result}\"\n# is = [\"ERROR\"]\n# then = \"failed\"\n"
    )
}

/// A TOML basic string.
fn quoted(text: &str) -> String {
    toml::Value::String(text.replace(|c: char| c.is_control(), " ")).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capture_makes_a_driver_that_recognises_it() {
        let raw = b"H|\\^&|||Acme^\"One\"^1\rO|1|S1\rR|1|^^^Glucose|5.1|mmol/L\rR|2|^^^\"K'|4|\rL|1\r";
        let folder = tempfile::tempdir().unwrap();
        let made = folder.path().join("acme-one");
        scaffold(&made, raw, None).unwrap();
        let text = std::fs::read_to_string(made.join("driver.toml")).unwrap();
        assert!(text.contains("# code = \"Glucose\"") && text.contains("\"mmol/L\" = \"?\""), "{text}");
        assert!(text.contains("## perhaps 14749-6 Glucose [Moles/volume]"), "what others take it for: {text}");
        let mut registry = Registry::builtin();
        super::super::overlay(&mut registry, folder.path()).unwrap();
        assert_eq!(registry.identify(Protocol::Astm, raw).id, "acme-one");
        assert!(scaffold(&made, raw, None).is_err(), "nothing is overwritten");
    }

    #[test]
    fn a_capture_without_a_sender_makes_one_too_and_shows_what_is_not_read() {
        let raw = b"H|\\^&\rO|1|S1\rR|1|^^^WBC|5.8|10^3/uL||H||F|20250128080100\rL|1\r";
        let text = toml_for(Protocol::Astm, "", raw);
        let driver = Driver::parse("x", &text).unwrap();
        assert!(driver.schema.identity.header.is_empty(), "{text}");
        assert!(text.contains("## not read: R.10 = 20250128080100") && text.contains("# \"H\" = \"H\""), "{text}");
        let on = text.replace("# [[when]]\n# field", "[[when]]\nfield").replace("\n# is = ", "\nis = ");
        let on = on.replace("\n# then = ", "\nthen = ");
        assert_eq!(Driver::parse("x", &on).unwrap().schema.when.len(), 2, "{on}");
    }

    #[test]
    fn uncommented_codes_are_valid_toml() {
        let raw = b"H|\\^&|||Acme\rR|1|^^^A\"b|5.1|10^3\rL|1\r";
        let text = toml_for(Protocol::Astm, "Acme", raw).replace("# [[", "[[").replace("\n# ", "\n");
        let text =
            text.replace("The whole field was", "# The whole field was").replace("loinc = \"?\"", "loinc = \"718-7\"");
        let text = text.replace("= \"?\" }", "= \"10*3\" }");
        let text = text.replace("test_code", "# test_code");
        assert!(Driver::parse("x", &text).is_ok(), "{text}");
    }

    #[test]
    fn a_poct1a_capture_begins_a_driver_for_one_model() {
        let raw = b"<HEL.R01><DEV><DEV.device_id V=\"ACME^Meter^M1\"/></DEV></HEL.R01><OBS.R01><SVC><PT><OBS>\
            <OBS.observation_id V=\"GLU\"/><OBS.value V=\"5\" U=\"mmol/L\"/></OBS></PT></SVC></OBS.R01>";
        let text = toml_for(Protocol::Poct1a, &sender(Protocol::Poct1a, raw).unwrap(), raw);
        let driver = Driver::parse("acme-meter", &text).unwrap();
        assert_eq!(driver.schema.identity.header, ["ACME^Meter"]);
        assert!(text.contains("# code = \"GLU\"") && text.contains("\"mmol/L\" = \"?\""), "{text}");
    }

    #[test]
    fn a_table_begins_a_driver_with_the_columns_that_were_found() {
        for (raw, wanted) in [
            (
                &b"Probe;Analyt;Wert;Lampe\nS1;GLU;5,1;800\n"[..],
                ["specimen_id = [\"[Probe]\"]", "header = [\"Probe|Analyt|Wert|Lampe\"]", "#   [Lampe]"],
            ),
            (
                &b"Barcode,Date,GLU(mmol/L),K\nS1,03/04/2026,5.1,4\n"[..],
                ["test_columns = [\"GLU*\", \"K*\"]", "# time_formats", "\"mmol/L\" = \"?\""],
            ),
        ] {
            let folder = tempfile::tempdir().unwrap();
            scaffold(&folder.path().join("acme-table"), raw, None).unwrap();
            let text = std::fs::read_to_string(folder.path().join("acme-table/driver.toml")).unwrap();
            for part in wanted {
                assert!(text.contains(part), "no {part} in\n{text}");
            }
            let mut registry = Registry::builtin();
            super::super::overlay(&mut registry, folder.path()).unwrap();
            let driver = registry.identify(Protocol::Table, raw);
            assert_eq!(driver.id, "acme-table", "{text}");
            let context = Context { zone: jiff::tz::TimeZone::UTC, charset: None, framing: None, complete: true };
            let (read, generic) =
                (explain(driver, raw, &context).0, explain(registry.generic(Protocol::Table), raw, &context).0);
            let results = |read: &Interpretation| {
                observed(read).map(|o| (o.instrument_code.clone(), o.value.clone())).collect::<Vec<_>>()
            };
            assert_eq!(results(&read), results(&generic), "{text}");
        }
    }

    /// What a driver begun from this capture reads in it: specimen, code, value, unit, flags.
    fn begun(raw: &[u8]) -> (String, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        scaffold(&folder.path().join("acme-lines"), raw, Some(Protocol::Lines)).unwrap();
        let text = std::fs::read_to_string(folder.path().join("acme-lines/driver.toml")).unwrap();
        let driver = Driver::parse("acme-lines", &text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let context = Context { zone: jiff::tz::TimeZone::UTC, charset: None, framing: None, complete: true };
        let (read, _) = explain(&driver, raw, &context);
        let shown = |report: &crate::clinical::Report| {
            let results = report.observations.iter().filter(|o| !o.instrument_code.is_empty());
            let id = report.specimen.id.expose().to_string();
            let each = results
                .map(move |o| format!("{id} {} {:?} {} {}", o.instrument_code, o.value, o.unit, o.flags.join(",")));
            each.collect::<Vec<_>>()
        };
        (text, read.reports.iter().flat_map(shown).collect())
    }

    #[test]
    fn a_printed_report_makes_a_driver_that_reads_it() {
        let raw =
            b"ACME URINE READER 3\r\nSample ID: U-17   Date: 27/11/2026 17:05\r\nGLU   5.6 mmol/L  H  (0-1.7)\r\n\
            PRO   neg\r\nSG    1.015\r\nchecked by nights\r\n\x0c";
        let (text, read) = begun(raw);
        assert_eq!(
            read,
            [
                "U-17 GLU Number(Decimal(\"5.6\")) mmol/L H",
                "U-17 PRO Text(\"neg\")  ",
                "U-17 SG Number(Decimal(\"1.015\"))  "
            ],
            "{text}"
        );
        for part in
            ["date_order = \"dmy\"", "last_line = '\\f$'", "header = [\"ACME URINE READER\"]", "# code = \"GLU\""]
        {
            assert!(text.contains(part), "no {part} in\n{text}");
        }
        assert!(!text.contains("nights"), "a line that may name somebody is not copied: {text}");
    }

    #[test]
    fn separated_lines_make_a_driver_whose_columns_a_person_names() {
        let (text, read) = begun(b"12345;GLU;5.1;mmol/L;K;4.1;mmol/L;\r\n12346;GLU;6.1;mmol/L;K;4.0;mmol/L;\r\n");
        assert_eq!(read.len(), 4, "{text}");
        assert!(text.contains("fields = [\"\"]\nrepeat = { from = 2, width = 3"), "{text}");
        let named = text.replacen("fields = [\"\"]", "fields = [\"specimen_id\"]", 1);
        assert!(Driver::parse("x", &named).is_ok(), "{named}");
    }

    #[test]
    fn frames_are_told_with_their_check_characters() {
        let frame = |text: &str| {
            let sum = text.bytes().chain([3]).fold(0u8, |sum, byte| sum ^ byte);
            [b"\x02", text.as_bytes(), &[3, sum]].concat()
        };
        let raw = [frame("D 0001 S-1  GLU    5.10"), frame("D 0002 S-2  GLU    6.25")].concat();
        let (text, _) = begun(&raw);
        for part in ["start = \"<STX>\"\nend = [\"<ETX>\"]", "rule = \"xor\"\nform = \"byte\"", "with_end = true"] {
            assert!(text.contains(part), "no {part} in\n{text}");
        }
    }
}
