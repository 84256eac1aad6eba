//! Promises of reading foreign lines.

use crate::clinical::{Doubt, Observation, Value};
use crate::driver::{Context, Driver, Interpretation, Protocol, Registry, explain, guess_protocol, interpret};
use crate::wire::line::Framing;
use crate::wire::line::framing::Mark;

const HEAD: &str = "[identity]\nvendor = \"Acme\"\nmodel = \"One\"\nprotocol = \"lines\"\n";

fn context() -> Context {
    Context { zone: jiff::tz::TimeZone::UTC, charset: None, framing: None, complete: true }
}

fn driver(toml: &str) -> Driver {
    Driver::parse("acme-one", &format!("{HEAD}{toml}")).unwrap_or_else(|error| panic!("{error}"))
}

fn read(toml: &str, raw: &[u8]) -> Interpretation {
    let interpretation = interpret(&driver(toml), raw, &context());
    let seen = interpretation.reports.iter().map(|r| r.observations.len()).sum::<usize>();
    assert_eq!(seen + interpretation.refused.len(), interpretation.inbound_results as usize, "the account (I7)");
    interpretation
}

fn generic(raw: &str) -> Interpretation {
    assert!(matches!(guess_protocol(raw.as_bytes()), Protocol::Lines | Protocol::Table), "{raw}");
    let registry = Registry::builtin();
    interpret(registry.identify(Protocol::Lines, raw.as_bytes()), raw.as_bytes(), &context())
}

fn shown(o: &Observation) -> String {
    let value = match &o.value {
        Value::Number(n) => n.to_string(),
        Value::Compared { comparator, number } => format!("{comparator}{number}"),
        Value::Text(text) => format!("\"{text}\""),
        other => format!("{other:?}"),
    };
    let flags = o.flags.join(",");
    format!("{}|{value}|{}|{flags}|{}", o.instrument_code, o.unit, o.reference_range)
}

fn all(interpretation: &Interpretation) -> Vec<String> {
    interpretation.reports.iter().flat_map(|r| &r.observations).map(shown).collect()
}

const REPORT: &str = "[lines]\ndate_order = \"dmy\"\nignore = ['^ACME', '^-+$']\n\
    [[lines.record]]\npattern = '^ID: *(?<specimen_id>\\S+)'\n\
    [[lines.record]]\npattern = '^Date: *(?<completed_date>\\S+) +(?<completed_time>\\S+)'\n\
    [[lines.record]]\npattern = '^(?<test_code>[A-Z]+) +(?<value>[<>.0-9]+) +(?<unit>\\S+)(?: +(?<flag>[HL]))?$'\n\
    [[analyte]]\ncode = \"GLU\"\nloinc = \"14749-6\"\nunits = { \"mmol/L\" = \"mmol/L\" }\n";

#[test]
fn a_report_is_read_by_patterns_and_mapped() {
    let raw = b"ACME 2000\r\n-----\r\nID: S-1\r\nGLU 5.10 mmol/L H\r\nDate: 03.11.2026 17:05\r\n";
    let interpretation = read(REPORT, raw);
    let report = &interpretation.reports[0];
    assert_eq!(report.specimen.id.expose(), "S-1");
    assert_eq!(all(&interpretation), ["GLU|5.10|mmol/L|H|"]);
    assert_eq!(report.observations[0].doubts, []);
    let time = report.observations[0].completed.as_ref().unwrap();
    assert_eq!(time.hl7(), "20261103170500+0000".replace("0500+", "05+"), "a time below the results is theirs");
}

#[test]
fn i7_a_line_that_fits_nothing_is_held_and_one_beside_a_match_is_a_comment() {
    let interpretation = read(REPORT, b"ID: S-1 left hand\nGLU 5.1 mmol/L\nK 4,1 mmol/L\n");
    assert_eq!(all(&interpretation), ["GLU|5.1|mmol/L||", "|\"K 4,1 mmol/L\"|||"]);
    let report = &interpretation.reports[0];
    assert_eq!(report.observations[1].doubts, [Doubt::UnmappedCode, Doubt::UnreadableValue]);
    assert_eq!(report.comments, ["left hand"]);
}

#[test]
fn i13_results_without_a_specimen_or_of_two_are_never_mixed() {
    let interpretation = read(REPORT, b"GLU 5.1 mmol/L\n");
    assert_eq!(interpretation.reports[0].observations[0].doubts, [Doubt::NoSpecimen]);
    let interpretation = read(REPORT, b"ID: A\nGLU 5.1 mmol/L\nID: B\nGLU 6.1 mmol/L\nGLU 6.2 mmol/L\n");
    let ids: Vec<_> = interpretation.reports.iter().map(|r| (r.specimen.id.expose(), r.observations.len())).collect();
    assert_eq!(ids, [("A", 1), ("B", 2)]);
}

#[test]
fn i13_a_line_without_its_id_never_gets_the_id_before() {
    let fields = "[[lines.record]]\nseparator = \";\"\nfields = [\"specimen_id\", \"test_code\", \"value\"]\n";
    let label = "[[lines.record]]\npattern = '^ID:(?<specimen_id>.*)$'\n\
        [[lines.record]]\npattern = '^(?<test_code>[A-Z]+) (?<value>\\S+)$'\n";
    for (toml, raw) in [(fields, "A;GLU;5.1\n;GLU;6.1\n"), (label, "ID: A\nGLU 5.1\nID:\nGLU 6.1\n")] {
        let interpretation = read(toml, raw.as_bytes());
        let ids: Vec<_> = interpretation.reports.iter().map(|r| r.specimen.id.expose()).collect();
        assert_eq!(ids, ["A", ""], "{raw}");
        assert!(interpretation.reports[1].observations[0].doubts.contains(&Doubt::NoSpecimen));
    }
    for raw in
        ["Sample ID: A\nGLU 5.1 mmol/L\nSample ID:\nGLU 6.1 mmol/L\n", "Sample;Test;Result\nA;GLU;5.1\n;GLU;6.1\n"]
    {
        let ids: Vec<_> = generic(raw).reports.iter().map(|r| r.specimen.id.expose().to_string()).collect();
        assert_eq!(ids, ["A", ""], "{raw}");
    }
}

#[test]
fn columns_fields_and_tags_are_read() {
    let columns = "[[lines.record]]\nwhen = '^D '\ncolumns = { position = \"3-6\", specimen_id = \"8-12\" }\n\
        repeat = { from = 14, width = 9, columns = { test_code = \"1-2\", value = \"3-8\", flag = \"9\" } }\n";
    let interpretation = read(columns, b"D 0101 S123  01 12.50 02  3.40H\n");
    assert_eq!(all(&interpretation), ["01|12.50|||", "02|3.40||H|"]);
    assert_eq!(interpretation.reports[0].specimen.id.expose(), "S123");

    let fields =
        "[[lines.record]]\nseparator = \";\"\nfields = [\"specimen_id\", \"\", \"test_code\", \"value\", \"unit\"]\n";
    let interpretation = read(fields, b"S1;x;\"A;B\";1.0;g/L;new\n");
    assert_eq!(all(&interpretation), ["A;B|1.0|g/L||"]);
    assert_eq!(interpretation.reports[0].comments, ["new"], "a field that has no name is not lost");

    let tags =
        "[[lines.record]]\nseparator = \"<RS>\"\ntags = { ci = \"specimen_id\", rt = \"test_code\", qn = \"value\" }\n";
    let interpretation = read(tags, b"mtx\x1eciS9\x1ertHBCT\x1eqn0.05\x1e");
    assert_eq!(all(&interpretation), ["HBCT|0.05|||"]);
    assert_eq!(interpretation.reports[0].comments, ["mtx"]);
}

#[test]
fn what_repeats_behind_a_pattern_is_a_result_each_time() {
    let toml = "[[lines.record]]\npattern = '^ID# *(?<specimen_id>\\S+) +\\[(?<specimen_type>[^]]*)\\]'\n\
        repeat = { pattern = '(?<test_code>Na|K) +(?<value>[\\d.]+) +(?<unit>mmol/L)' }\n";
    let interpretation = read(toml, b"ID# S1 [Plasma] Na 138 mmol/L late K  4.10 mmol/L\n");
    assert_eq!(all(&interpretation), ["Na|138|mmol/L||", "K|4.10|mmol/L||"]);
    let report = &interpretation.reports[0];
    assert_eq!((report.specimen.id.expose(), report.comments.as_slice()), ("S1", ["late".to_string()].as_slice()));
}

#[test]
fn a_link_may_frame_in_another_way_than_its_driver() {
    let framing = "[wire.framing]\nstart = \"<STX>\"\nend = [\"<ETX>\"]\ncheck = { rule = \"xor\", form = \"byte\" }\n";
    let driver = driver(&format!("{framing}{REPORT}"));
    let raw = b"\x02ID: A\rGLU 5.1 mmol/L\x03";
    let by_driver = interpret(&driver, raw, &context());
    assert!(
        by_driver.reports[0].observations[0].doubts.contains(&Doubt::Incomplete),
        "its check characters are missing"
    );
    let without_check = Framing { end: vec![Mark(vec![3])], start: Mark(vec![2]), ..Framing::default() };
    let context = Context { framing: Some(without_check), ..context() };
    let by_link = interpret(&driver, raw, &context);
    assert_eq!(by_link.reports[0].observations[0].doubts, []);
}

#[test]
fn blocks_of_bytes_are_read_with_their_digits() {
    let toml = "[lines]\nblock_bytes = 8\nblock_start = \"<NUL>R\"\nignore = ['^head']\n\
        [[lines.record]]\nset = { test_code = \"ESR\" }\n\
        bytes = { specimen_id = { at = 2, bytes = 3 }, value = { at = 5, bytes = 2, form = \"bcd\" } }\n";
    let interpretation = read(toml, b"head\x00RS01\x00\x15.\x00RS02\x1A\x00.tail");
    assert_eq!(all(&interpretation), ["ESR|0015|||", "ESR|\"<SUB><NUL>\"|||", "|\"tail\"|||"]);
}

#[test]
fn a_frame_whose_check_does_not_fit_is_refused_and_never_read() {
    let framing = "[wire.framing]\nstart = \"<STX>\"\nend = [\"<ETX>\"]\ncheck = { rule = \"xor\", form = \"byte\" }\n";
    let toml = format!("{framing}{REPORT}");
    let good = b"\x02ID: A\rGLU 5.1 mmol/L\x03";
    let sum = good[1..good.len() - 1].iter().fold(0, |sum, byte| sum ^ byte);
    let mut raw = [good.as_slice(), &[sum], good.as_slice(), &[sum ^ 1]].concat();
    let interpretation = read(&toml, &raw);
    assert_eq!(all(&interpretation), ["GLU|5.1|mmol/L||"]);
    assert_eq!(interpretation.refused[0].reason, "the check characters do not fit");
    raw.truncate(12);
    let interpretation = read(&toml, &raw);
    assert!(interpretation.reports[0].observations[0].doubts.contains(&Doubt::Incomplete), "a frame without its end");
}

#[test]
fn the_generic_driver_shows_every_line_and_holds_all() {
    let raw = "ACME ANALYZER\n\nSample ID: 12345   Date: 03/11/2026\nGLU   5.10 mmol/L  H  3.5 - 5.0\n\
        WBC 6.1 10^9/L RBC 4.5 10^12/L\nColor = Yellow\nPRO: 2+ *\nALT <3.0 U/L (0-40)\nNIT  NEG\nnothing to see\n";
    let interpretation = generic(raw);
    assert_eq!(
        all(&interpretation),
        [
            "|\"ACME ANALYZER\"|||",
            "GLU|5.10|mmol/L|H|3.5 - 5.0",
            "WBC|6.1|10^9/L||",
            "RBC|4.5|10^12/L||",
            "Color|\"Yellow\"|||",
            "PRO|\"2+\"||*|",
            "ALT|<3.0|U/L||(0-40)",
            "NIT|\"NEG\"|||",
            "|\"nothing to see\"|||",
        ]
    );
    let report = &interpretation.reports[0];
    assert_eq!(report.specimen.id.expose(), "12345");
    for observation in &report.observations {
        assert!(observation.doubts.contains(&Doubt::UnmappedCode), "{}", shown(observation));
        assert!(observation.doubts.contains(&Doubt::Unreadable), "what is only obvious is always held");
    }
}

#[test]
fn the_generic_driver_reads_tables_and_loose_fields() {
    let table = "Sample;Test;Result;Unit;Flag\nS1;GLU;5,10;mmol/L;N\nS2;K;4,1;mmol/L;\n";
    let interpretation = generic(table);
    assert_eq!(all(&interpretation), ["GLU|\"5,10\"|mmol/L|N|", "K|\"4,1\"|mmol/L||"]);
    let ids: Vec<_> = interpretation.reports.iter().map(|r| r.specimen.id.expose()).collect();
    assert_eq!(ids, ["S1", "S2"]);

    let wide = "Patient no.\tDate\tALB\t\tAST\n2\t2026-01-02\t3.40\tg/dL\t415\n";
    assert_eq!(all(&generic(wide)), ["ALB|3.40|g/dL||", "AST|415|||"]);

    let loose = "12345,GLU,5.1,mmol/L,H,20260102\n";
    let interpretation = generic(loose);
    assert_eq!(all(&interpretation), ["GLU|5.1|mmol/L|H|"]);
    assert_eq!(interpretation.reports[0].comments, ["12345; 20260102"]);
}

#[test]
fn preview_names_the_place_of_each_field() {
    let (_, origins) = explain(&driver(REPORT), b"ID: S-1\nGLU 5.10 mmol/L\n", &context());
    let said: Vec<_> = origins.iter().map(|o| (o.field, o.path.as_str(), o.record, o.text.expose())).collect();
    assert!(said.contains(&("specimen_id", "LN.specimen_id", 1, "S-1")), "{said:?}");
    assert!(said.contains(&("value", "LN.value", 2, "5.10")), "{said:?}");
}

#[test]
fn what_cannot_work_is_an_error_with_its_line() {
    for (toml, message) in [
        ("[[lines.record]]\npattern = '('\n", "no regular expression"),
        ("[[lines.record]]\npattern = '(?<valeu>x)'\n", "`valeu` is no field"),
        ("[[lines.record]]\nwhen = 'x'\n", "a record has one of"),
        ("[[lines.record]]\ncolumns = { value = \"9-3\" }\n", "no range of columns"),
        ("[[lines.record]]\nbytes = { value = { at = 0, bytes = 2 } }\n", "inside a block"),
        ("[wire.framing]\nstart = \"<STX>\"\n", "nothing says where a message ends"),
        ("[wire.framing]\nend = [\"<STOP>\"]\n", "no control character"),
    ] {
        let error = Driver::parse("x", &format!("{HEAD}{toml}")).unwrap_err().to_string();
        assert!(error.contains(message), "{toml}: {error}");
    }
}
