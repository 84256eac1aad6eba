use super::*;

const RELS: &str = "<Relationships><Relationship Id=\"r1\" Target=\"worksheets/sheet1.xml\"/></Relationships>";
const BOOK: &str = "<workbook><sheets><sheet name=\"Results\" sheetId=\"1\" r:id=\"r1\"/></sheets></workbook>";

fn workbook(sheet: &str, styles: &str, strings: &str) -> Vec<u8> {
    archive(&[
        ("xl/workbook.xml", BOOK),
        ("xl/_rels/workbook.xml.rels", RELS),
        ("xl/styles.xml", styles),
        ("xl/sharedStrings.xml", strings),
        ("xl/worksheets/sheet1.xml", sheet),
    ])
}

/// A workbook of these parts, as the smallest writers make them.
fn archive(parts: &[(&str, &str)]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (at, (name, text)) in parts.iter().enumerate() {
        // Half of them packed, as a spreadsheet does.
        let (method, packed) = match at % 2 {
            0 => (8u16, miniz_oxide::deflate::compress_to_vec(text.as_bytes(), 6)),
            _ => (0u16, text.as_bytes().to_vec()),
        };
        let crc = crc_32(text.as_bytes()).to_le_bytes();
        let sizes = [(packed.len() as u32).to_le_bytes(), (text.len() as u32).to_le_bytes()].concat();
        let offset = (file.len() as u32).to_le_bytes();
        let common =
            [&method.to_le_bytes()[..], &[0; 4], &crc, &sizes, &(name.len() as u16).to_le_bytes(), &[0, 0]].concat();
        file.extend([b"PK\x03\x04\x14\0\0\0".as_slice(), &common, name.as_bytes(), &packed].concat());
        directory
            .extend([b"PK\x01\x02\x14\0\x14\0\0\0".as_slice(), &common, &[0; 10], &offset, name.as_bytes()].concat());
    }
    let (count, size, at) = (parts.len() as u16, directory.len() as u32, file.len() as u32);
    file.extend(directory);
    file.extend(
        [b"PK\x05\x06\0\0\0\0".as_slice(), &count.to_le_bytes(), &count.to_le_bytes(), &size.to_le_bytes()].concat(),
    );
    file.extend([&at.to_le_bytes()[..], &[0, 0]].concat());
    file
}

const STYLES: &str = "<styleSheet><numFmts><numFmt numFmtId=\"164\" formatCode=\"yyyy\\-mm\\-dd\\ hh:mm\"/>\
    <numFmt numFmtId=\"165\" formatCode=\"&quot;S-&quot;@\"/></numFmts>\
    <cellStyleXfs><xf numFmtId=\"9\"/></cellStyleXfs>\
    <cellXfs><xf numFmtId=\"0\"/><xf numFmtId=\"2\"/><xf numFmtId=\"164\"/><xf numFmtId=\"165\"/></cellXfs></styleSheet>";
const STRINGS: &str =
    "<sst><si><t>Sample ID</t></si><si><r><t>Re</t></r><r><t>sult &amp; so</t></r></si><si><t>S1</t></si></sst>";
const SHEET: &str = "<worksheet><sheetData><row r=\"1\"><c r=\"A1\" t=\"s\"><v>0</v></c><c r=\"B1\" t=\"s\"><v>1</v></c>\
    <c r=\"D1\" t=\"inlineStr\"><is><t>Date</t></is></c></row><row r=\"3\"><c r=\"A3\" t=\"s\"><v>2</v></c>\
    <c r=\"B3\" s=\"1\"><v>5.0999999999999996</v></c><c r=\"C3\"><v>1.2E-2</v></c><c r=\"D3\" s=\"2\"><v>46329.5</v></c></row>\
    </sheetData></worksheet>";

#[test]
fn a_workbook_is_read_as_people_see_it() {
    let raw = workbook(SHEET, STYLES, STRINGS);
    assert!(looks_like(&raw));
    let (rows, cut_off) = rows(&raw).unwrap();
    let rows: Vec<_> = rows.iter().map(|row| (row.number, row.cells.join("|"), row.damaged)).collect();
    let expected = [(1, "Sample ID|Result & so||Date"), (2, ""), (3, "S1|5.10|0.012|2026-11-03 12:00:00")];
    assert_eq!((rows, cut_off), (expected.map(|(at, text)| (at, text.to_string(), false)).to_vec(), false));
    let reading = super::super::read(&raw, None, None);
    assert_eq!(reading.rows[2].cells[1], "5.10");
}

#[test]
fn i11_numbers_keep_the_digits_a_spreadsheet_shows() {
    for (held, seen) in [
        ("5.1", "5.1"),
        ("8", "8"),
        ("5.0999999999999996", "5.1"),
        ("0.30000000000000004", "0.3"),
        ("99.999999999999999", "100"),
        ("1E+3", "1000"),
        ("-1.25E-7", "-0.000000125"),
        ("123456789012345678", "123456789012345678"),
        ("1.2345678901234599E+17", "123456789012346000"),
    ] {
        assert_eq!(shown(held).as_deref(), Some(seen), "{held}");
    }
    assert_eq!(shown("n/a"), None);
}

#[test]
fn dates_are_days_and_times_parts_of_them() {
    for (number, since_1904, text) in [
        ("46329", false, "2026-11-03"),
        ("46329.7118055556", false, "2026-11-03 17:05:00"),
        ("0.5", false, "12:00:00"),
        ("46328.9999999999", false, "2026-11-03"),
        ("44867", true, "2026-11-03"),
    ] {
        let read = date(number, since_1904).unwrap();
        assert_eq!(read.trim_end_matches(" 00:00:00"), text, "{number}");
    }
    for (number, since_1904) in [("60", false), ("-1", false), ("0.9999999999", false), ("2958466", true)] {
        assert_eq!(date(number, since_1904), None, "{number}");
    }
}

#[test]
fn i11_a_number_is_read_as_its_format_shows_it_or_not_at_all() {
    for (code, held, seen) in [
        ("General", "5.1", Some("5.1")),
        ("@", "12345", Some("12345")),
        ("0", "5", Some("5")),
        ("0.00", "5.1", Some("5.10")),
        ("0.00_ ", "5.1", Some("5.10")),
        ("0.00;@", "-5.123", Some("-5.123")),
        ("0.0#", "5", Some("5.0")),
        ("#,##0.0", "12345", Some("12345.0")),
        ("???0", "5", Some("5")),
        ("00000000", "12345", Some("00012345")),
        ("00000000", "123456789", Some("123456789")),
        ("00000000", "12345.5", None),
        ("0%", "0.07", Some("7%")),
        ("0.0%", "6.5000000000000002E-2", Some("6.5%")),
        ("0.00%", "-1.5", Some("-150.00%")),
        ("0.0%", "0.0651", None),
        ("0.0%", "0", Some("0.0%")),
        ("\"<\"0.0", "0.5", None),
        ("[<1]\"<1\";0.0", "0.5", None),
        ("[>=1]\"POS\";\"NEG\"", "1", None),
        ("0.0;-0.0", "0.5", None),
        ("[Red]0.0\" s\"", "0.5", None),
        ("0.0,", "5000", None),
        ("0,000", "5", None),
        ("# ?/?", "0.5", None),
        ("0.00E+00", "5", None),
        ("000-000", "5", None),
        ("[h]:mm:ss", "1.5", None),
        ("mm:ss", "0.5", None),
        ("[$€-407]0.00", "5", None),
        ("", "5", None),
        ("yyyy\\-mm\\-dd\\ hh:mm", "46329.5", Some("2026-11-03 12:00:00")),
        ("[$-409]d\\-mmm\\-yy;@", "46329", Some("2026-11-03")),
        ("h:mm:ss.000 AM/PM", "0.5", Some("12:00:00")),
        ("General", "n/a", None),
    ] {
        assert_eq!(number(held, of_code(code), false).as_deref(), seen, "{held} under {code}");
    }
    assert_eq!(of_code(&"0".repeat(PLACES_MAX + 1)), Format::Other);
    let styles: String = (0..60).map(|id| format!("<xf numFmtId=\"{id}\"/>")).collect();
    let formats = formats(&format!("<styleSheet><cellXfs>{styles}</cellXfs></styleSheet>")).unwrap();
    let read = |id: usize| number("0.5", formats[id], false).unwrap_or_default();
    assert_eq!(
        [0, 1, 2, 4, 9, 10, 20, 49].map(read),
        ["0.5", "0.5", "0.50", "0.50", "50%", "50.00%", "12:00:00", "0.5"]
    );
    assert_eq!([5, 8, 11, 12, 13, 23, 37, 40, 41, 44, 45, 46, 47, 48, 59].map(read), [""; 15]);
}

fn read_cells(cells: &str) -> Vec<(String, bool)> {
    let sheet = format!("<worksheet><sheetData>{cells}</sheetData></worksheet>");
    let (rows, _) = rows(&workbook(&sheet, STYLES, STRINGS)).unwrap();
    rows.into_iter().map(|row| (row.cells.join("|"), row.damaged)).collect()
}

#[test]
fn i7_a_cell_that_cannot_be_read_damages_its_row() {
    for (cell, text, damaged) in [
        ("<c t=\"b\"><v>1</v></c>", "TRUE", false),
        ("<c t=\"b\"><v>0</v></c>", "FALSE", false),
        ("<c t=\"e\"><v>#N/A</v></c>", "#N/A", true),
        ("<c t=\"new\"><v>5</v></c>", "5", true),
        ("<c><v>five</v></c>", "five", true),
        ("<c><f>A1</f><v>5</v></c>", "5", false),
        ("<c><f>A1</f><v/></c>", "=", true),
        ("<c t=\"str\"><f>A1</f><v></v></c>", "", false),
        ("<c s=\"99\"><v>5</v></c>", "5", true),
        ("<c s=\"3\"><v>5</v></c>", "5", true),
        ("<c s=\"3\" t=\"s\"><v>2</v></c>", "S1", true),
        ("<c r=\"A1\"><v>5</v></c><c r=\"A1\"><v>6</v></c>", "6", true),
    ] {
        let read = read_cells(&format!("<row r=\"1\">{cell}</row><row r=\"2\"><c><v>7</v></c></row>"));
        assert_eq!(read, [(text.to_string(), damaged), ("7".to_string(), false)], "{cell}");
    }
}

#[test]
fn i7_rows_stay_together_behind_a_gap() {
    let row = |number: u32| format!("<row r=\"{number}\"><c><v>{number}</v></c></row>");
    let sheet: String = [1, 10, 11, 12].map(row).concat();
    let sheet = format!("<worksheet><sheetData>{sheet}<row><c><v>13</v></c></row></sheetData></worksheet>");
    let (read, cut_off) = rows(&workbook(&sheet, STYLES, STRINGS)).unwrap();
    let read: Vec<_> = read.iter().map(|row| (row.number, row.cells.concat())).collect();
    let expected = [(1, "1"), (2, ""), (10, "10"), (11, "11"), (12, "12"), (13, "13")];
    assert_eq!((read, cut_off), (expected.map(|(at, text)| (at, text.to_string())).to_vec(), false));
}

#[test]
fn several_sheets_stand_under_their_names() {
    let two = BOOK.replace("</sheets>", "<sheet name=\"More\" sheetId=\"2\" r:id=\"r1\"/></sheets>");
    let sheet = "<worksheet><sheetData><row r=\"2\"><c><v>5</v></c></row></sheetData></worksheet>";
    let parts = [("xl/workbook.xml", &*two), ("xl/_rels/workbook.xml.rels", RELS), ("xl/worksheets/sheet1.xml", sheet)];
    let (read, _) = rows(&archive(&parts)).unwrap();
    let read: Vec<_> = read.iter().map(|row| (row.number, row.cells.concat())).collect();
    let expected = [(1, ""), (2, "[Results]"), (3, ""), (4, "5"), (5, ""), (6, "[More]"), (7, ""), (8, "5")];
    assert_eq!(read, expected.map(|(at, text)| (at, text.to_string())));
}

#[test]
fn i10_a_small_file_never_becomes_a_large_table() {
    let read = |rows_: &str, strings: &str| {
        let sheet = format!("<worksheet><sheetData>{rows_}</sheetData></worksheet>");
        rows(&workbook(&sheet, STYLES, strings))
    };
    let wide = "<row><c r=\"NTM1\"><v>5</v></c></row>".repeat(150);
    let (all, cut_off) = read(&wide, STRINGS).unwrap();
    assert!(cut_off && all.iter().map(|row| row.cells.len()).sum::<usize>() <= CELLS_MAX);
    let (all, cut_off) = read(&"<row/>".repeat(ROWS_MAX + 9), STRINGS).unwrap();
    assert!(cut_off && all.len() == ROWS_MAX);
    let (all, cut_off) =
        read("<row r=\"4294967295\"><c><v>5</v></c></row><row><c><v>6</v></c></row>", STRINGS).unwrap();
    assert_eq!((cut_off, all.len(), all[0].cells.concat()), (true, 1, "6".to_string()));
    let long = format!("<sst><si><t>{}</t></si></sst>", "x".repeat(1024 * 1024));
    let (all, cut_off) = read(&"<row><c t=\"s\"><v>0</v></c></row>".repeat(70), &long).unwrap();
    assert!(cut_off && all.iter().flat_map(|row| &row.cells).map(String::len).sum::<usize>() <= UNPACKED_MAX);
    assert_eq!(read("", &format!("<sst>{}</sst>", "<si/>".repeat(CELLS_MAX + 1))), Err(NOT_ONE));
}

#[test]
fn i7_a_workbook_that_lacks_a_part_is_not_read_in_part() {
    let whole = [
        ("xl/workbook.xml", BOOK),
        ("xl/_rels/workbook.xml.rels", RELS),
        ("xl/sharedStrings.xml", STRINGS),
        ("xl/worksheets/sheet1.xml", SHEET),
    ];
    assert!(rows(&archive(&whole)).is_ok());
    for lacking in 0..whole.len() {
        let parts: Vec<_> = whole.iter().enumerate().filter(|(at, _)| *at != lacking).map(|(_, part)| *part).collect();
        assert_eq!(rows(&archive(&parts)), Err(NOT_ONE), "without {}", whole[lacking].0);
    }
    for (at, text) in [
        (0, "<workbook><sheets></sheets></workbook>"),
        (1, "<Relationships></Relationships>"),
        (2, "<sst><si><t>only one</t></si></sst>"),
        (3, "<worksheet><sheetData><row r=\"1\"><c><v>5</v></c></row>"),
        (3, "<worksheet><c><v>5</v></c></worksheet>"),
        (3, "<worksheet><row><c t=\"str\"><v>&unknown;</v></c></row></worksheet>"),
    ] {
        let mut parts = whole;
        parts[at].1 = text;
        let read = rows(&archive(&parts));
        assert!(read.is_err(), "{text}: {read:?}");
    }
}

#[test]
fn i10_what_is_no_workbook_or_a_broken_one_is_survived() {
    let whole = workbook(SHEET, STYLES, STRINGS);
    let read = rows(&whole);
    for cut in 0..whole.len() {
        let _ = rows(&whole[..cut]);
        let mut spoilt = whole.clone();
        spoilt[cut] ^= 0xFF;
        // What is spoilt is refused or held; or nothing that is read was hit.
        let spoilt = rows(&spoilt);
        let is_held = spoilt.as_ref().is_ok_and(|(rows, _)| rows.iter().any(|row| row.damaged));
        assert!(spoilt.is_err() || spoilt == read || is_held, "byte {cut}");
    }
    assert_eq!(crc_32(b"123456789"), 0xCBF4_3926);
    let cut = &whole[..whole.len() / 2];
    assert!(looks_like(cut) && super::super::read(cut, None, None).cut_off, "a workbook that was cut off is refused");
    assert!(!looks_like(b"PK\x03\x04 a zip of something else"));
}
