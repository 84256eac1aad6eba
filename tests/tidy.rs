//! House law as a test: what a reviewer would have to look for is looked for here.

use afferent::driver::builtin::DRIVERS;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Lines of a source file without its tests.
const LINES_MAX: usize = 800;
/// Columns of a line of prose; rustfmt keeps the code to the same.
const COLUMNS_MAX: usize = 120;
/// Where Rust is: the gateway, its tests, the board's crate.
const SOURCES: [&str; 3] = ["src", "tests", "board"];
/// Crates that are shipped: where each manifest is, and what is made of it.
const CRATES: [(&str, &str); 2] = [("Cargo.toml", "src"), ("board/Cargo.toml", "board/src")];
/// Where the pure core lives (invariant I9).
const CORE: [&str; 6] = ["wire", "message", "clinical", "driver", "rules", "mapping"];
/// What the core must not touch: sockets, files, clocks, threads, the environment, the runtime, logs.
const IMPURE: [&str; 11] = [
    "std::net",
    "std::fs",
    "std::env",
    "std::thread",
    "std::process",
    "tokio",
    "tracing",
    "Instant::now",
    "SystemTime",
    "Timestamp::now",
    "Zoned::now",
];
/// Where a binary float would cost digits (invariant I11).
const DECIMAL: [&str; 4] = ["clinical", "message", "driver", "mapping"];
/// Names that say nothing.
const EMPTY_NAMES: [&str; 8] = ["util", "utils", "common", "helper", "helpers", "manager", "misc", "process"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below these folders and files of the repository, sorted.
fn files(under: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = under.iter().map(|u| root().join(u)).filter(|p| p.exists()).collect();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            let skipped = ["target", ".git", "node_modules", "__pycache__"];
            if !path.file_name().is_some_and(|n| skipped.iter().any(|s| n == *s)) {
                open.extend(std::fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
            }
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn rust_files(under: &[&str]) -> Vec<PathBuf> {
    files(under).into_iter().filter(|p| p.extension().is_some_and(|e| e == "rs")).collect()
}

fn text(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned()
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().display().to_string()
}

/// A source file without its unit tests, which stand at its end.
fn without_tests(source: &str) -> &str {
    source.split("\n#[cfg(test)]").next().unwrap()
}

/// True for files that hold nothing but unit tests.
fn is_tests(path: &Path) -> bool {
    let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
    stem == "tests" || path.components().any(|c| c.as_os_str() == "tests")
}

/// The code of a file, without comments.
fn code_lines(source: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = source.lines().enumerate().map(|(at, line)| (at + 1, line));
    lines.filter(|(_, line)| !line.trim_start().starts_with("//")).map(|(at, line)| {
        let comment = line.find(" // ").unwrap_or(line.len());
        (at, &line[..comment])
    })
}

/// The files of these modules of the library, unit tests left out.
fn module_files(modules: &[&str]) -> Vec<PathBuf> {
    let wanted: Vec<String> = modules.iter().flat_map(|m| [format!("src/{m}.rs"), format!("src/{m}")]).collect();
    let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
    let found: Vec<PathBuf> = rust_files(&wanted).into_iter().filter(|p| !is_tests(p)).collect();
    assert!(found.len() >= modules.len(), "a module of {modules:?} is gone");
    found
}

#[track_caller]
fn nothing(found: Vec<String>, law: &str) {
    assert!(found.is_empty(), "{law}:\n  {}", found.join("\n  "));
}

/// Occurrences of any of `words` in the code of `paths`.
fn occurrences(paths: &[PathBuf], words: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for path in paths {
        let source = text(path);
        for (at, line) in code_lines(without_tests(&source)) {
            for word in words.iter().filter(|w| line.contains(*w)) {
                found.push(format!("{}:{at}: {word}", shown(path)));
            }
        }
    }
    found
}

#[test]
fn i9_the_core_is_pure() {
    nothing(occurrences(&module_files(&CORE), &IMPURE), "the core has no sockets, files, clock, runtime or logs");
}

#[test]
fn i11_no_binary_float_comes_near_a_value() {
    nothing(occurrences(&module_files(&DECIMAL), &["f64", "f32"]), "values are decimal text end to end");
}

#[test]
fn the_core_does_not_know_the_shell() {
    let shell = ["tls", "link", "journal", "interpreter", "delivery", "gateway", "control", "config", "sim", "cli"];
    let words: Vec<String> = shell.iter().map(|s| format!("crate::{s}::")).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    nothing(occurrences(&module_files(&CORE), &words), "dependencies point from the shell to the core");
}

#[test]
fn i8_what_the_fleet_says_has_no_room_for_text_of_a_message() {
    let source = ["telemetry.rs", "telemetry/outcome.rs", "telemetry/bundle.rs"]
        .map(|name| text(&root().join("src/fleet").join(name)));
    let source = source.iter().map(|text| without_tests(text)).collect::<Vec<_>>().concat();
    let fields = code_lines(without_tests(&source)).filter(|(_, line)| {
        let line = line.trim_start().trim_start_matches("pub ");
        line.split_once(": ").is_some_and(|(name, _)| name.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
    });
    let loose = ["String", "str>", "Vec<u8>", "Value", "&str", "Cow", "Box<"];
    let found = fields.filter(|(_, line)| line.trim_end().ends_with(',') && loose.iter().any(|l| line.contains(l)));
    let found: Vec<String> = found.map(|(at, line)| format!("src/fleet/telemetry: {at}: {}", line.trim())).collect();
    nothing(found, "counts, moments, closed enums, constants and names of the configuration only");
    assert!(
        source.contains("struct Text(Arc<str>);") && !source.contains("pub struct Text"),
        "names are made here alone"
    );
}

#[test]
fn files_can_be_read_in_one_sitting() {
    let long = rust_files(&SOURCES).into_iter().filter_map(|path| {
        let lines = without_tests(&text(&path)).lines().count();
        (lines > LINES_MAX).then(|| format!("{}: {lines} lines", shown(&path)))
    });
    nothing(long.collect(), "at most 800 lines a file without its tests");
}

#[test]
fn the_readme_can_be_read_in_a_terminal() {
    let readme = text(&root().join("README.md"));
    let lines = readme.lines().enumerate().filter(|(_, line)| !line.starts_with('|'));
    let long = lines.filter(|(_, line)| line.chars().count() > COLUMNS_MAX);
    nothing(long.map(|(at, _)| format!("README.md:{}", at + 1)).collect(), "at most 120 columns, besides tables");
}

#[test]
fn files_have_names_that_say_something() {
    let found = rust_files(&SOURCES).into_iter().filter(|path| {
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        stem == "mod" || EMPTY_NAMES.contains(&stem.as_str())
    });
    nothing(found.map(|p| shown(&p)).collect(), "x.rs beside x/, never mod.rs, and no room without a name");
}

#[test]
fn every_module_opens_with_what_it_is() {
    let unit_tests = |path: &PathBuf| path.file_stem().is_some_and(|s| s == "tests");
    let rooms = rust_files(&SOURCES).into_iter().filter(|path| !unit_tests(path));
    let mute = rooms.filter(|path| !text(path).starts_with("//!"));
    nothing(mute.map(|p| shown(&p)).collect(), "every file begins with //! docs");
}

#[test]
fn nothing_is_left_for_later() {
    // Put together here, so that this file does not find itself.
    let words = ["todo", "unimplemented", "dbg"].map(|w| format!("{w}!("));
    let words: Vec<String> = words.into_iter().chain([["FIX", "ME"].concat(), ["#[ign", "ore"].concat()]).collect();
    let found = rust_files(&SOURCES).into_iter().flat_map(|path| {
        let source = text(&path);
        let hits = words.iter().filter(|w| source.contains(w.as_str()));
        hits.map(|w| format!("{}: {w}", shown(&path))).collect::<Vec<_>>()
    });
    nothing(found.collect(), "no stubs and no tests that are switched off");
}

#[test]
fn no_path_of_anybodys_machine_is_written_down() {
    let words = ["work", "root", "home"].map(|w| format!("/{w}/"));
    let all = files(&["src", "tests", "board", "drivers", ".ci", "README.md", "Cargo.toml", "deny.toml"]);
    let found = all.into_iter().flat_map(|path| {
        let content = text(&path);
        let hit = |line: &str| words.iter().any(|w| line.contains(w.as_str()));
        let hits = content.lines().enumerate().filter(|(_, line)| hit(line));
        hits.map(|(at, _)| format!("{}:{}", shown(&path), at + 1)).collect::<Vec<_>>()
    });
    nothing(found.collect(), "paths are relative or those of an installed system");
}

#[test]
fn every_driver_is_complete() {
    let mut wrong = Vec::new();
    let listed: BTreeSet<&str> = DRIVERS.iter().map(|(id, _)| *id).collect();
    let folders = std::fs::read_dir(root().join("drivers")).unwrap().map(|e| e.unwrap().path());
    let folders: Vec<PathBuf> = folders.filter(|p| p.is_dir()).collect();
    assert!(folders.len() >= 8, "drivers have gone missing");
    for folder in &folders {
        let id = folder.file_name().unwrap().to_string_lossy().into_owned();
        let mut law = |holds: bool, what: &str| {
            if !holds {
                wrong.push(format!("{id}: {what}"));
            }
        };
        law(listed.contains(id.as_str()), "is not listed in src/driver/builtin.rs");
        law(folder.join("README.md").is_file(), "has no README.md");
        let driver: toml::Table = text(&folder.join("driver.toml")).parse().unwrap();
        let evidence = driver["identity"].get("evidence").and_then(|e| e.as_array());
        law(evidence.is_some_and(|e| !e.is_empty()), "names no evidence");
        let cases: Vec<PathBuf> = match std::fs::read_dir(folder.join("cases")) {
            Ok(cases) => cases.map(|e| e.unwrap().path()).collect(),
            Err(_) => Vec::new(),
        };
        for story in ["normal", "qc", "damaged"] {
            let told = |case: &PathBuf| case.file_name().unwrap().to_string_lossy().starts_with(&format!("{story}-"));
            law(cases.iter().any(told), &format!("has no {story}- case"));
        }
        for case in &cases {
            let name = case.file_name().unwrap().to_string_lossy().into_owned();
            let session = |e: &std::fs::DirEntry| e.path().file_stem().is_some_and(|stem| stem == "session");
            let told = std::fs::read_dir(case).unwrap().any(|e| session(&e.unwrap()));
            law(told, &format!("case {name} has no session"));
        }
    }
    let known: BTreeSet<String> =
        folders.iter().map(|f| f.file_name().unwrap().to_string_lossy().into_owned()).collect();
    let gone = listed.iter().filter(|id| !known.contains(**id));
    wrong.extend(gone.map(|id| format!("{id} is listed and has no folder")));
    nothing(wrong, "a driver is README, evidence, a normal, a QC and a damaged session");
}

#[test]
fn every_loinc_code_has_its_check_digit() {
    let mut seen = 0;
    let mut wrong = Vec::new();
    for (id, source) in DRIVERS {
        let driver: toml::Table = source.parse().unwrap();
        for analyte in driver.get("analyte").and_then(|a| a.as_array()).into_iter().flatten() {
            let loinc = analyte["loinc"].as_str().unwrap();
            seen += 1;
            if !check_digit_is_right(loinc) {
                wrong.push(format!("{id}: {loinc}"));
            }
        }
    }
    assert!(seen >= 50, "only {seen} codes were looked at");
    nothing(wrong, "a LOINC code ends in its mod-10 check digit");
    assert!(check_digit_is_right("1920-8") && !check_digit_is_right("1920-9") && !check_digit_is_right("1902-8"));
}

/// LOINC's check digit is the Luhn digit of the part before the hyphen.
fn check_digit_is_right(loinc: &str) -> bool {
    let Some((number, check)) = loinc.split_once('-') else { return false };
    if number.is_empty() || check.len() != 1 || !(number.to_owned() + check).bytes().all(|b| b.is_ascii_digit()) {
        return false;
    }
    let sum: u32 = number.bytes().rev().enumerate().fold(0, |sum, (at, digit)| {
        let value = u32::from(digit - b'0') * if at % 2 == 0 { 2 } else { 1 };
        sum + value / 10 + value % 10
    });
    (10 - sum % 10) % 10 == u32::from(check.as_bytes()[0] - b'0')
}

#[test]
fn there_is_one_tls_and_it_is_rustls_on_ring() {
    let lock: toml::Table = text(&root().join("Cargo.lock")).parse().unwrap();
    let names: Vec<&str> = lock["package"].as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap()).collect();
    assert_eq!(names.iter().filter(|n| **n == "rustls").count(), 1);
    // openssl-probe is neither: it only knows where systems keep their certificates.
    let banned = |name: &&&str| name.starts_with("aws-lc") || ["openssl", "openssl-sys", "native-tls"].contains(*name);
    nothing(names.iter().filter(banned).map(ToString::to_string).collect(), "one TLS library, one provider");
}

#[test]
fn default_features_are_off_or_explained() {
    let mut unexplained = Vec::new();
    for (manifest, _) in CRATES {
        let manifest_text = text(&root().join(manifest));
        let explained: BTreeSet<&str> = manifest_text
            .lines()
            .filter_map(|line| line.strip_prefix("# defaults: "))
            .flat_map(|line| line.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_')))
            .collect();
        let tables: toml::Table = manifest_text.parse().unwrap();
        for table in ["dependencies", "dev-dependencies"] {
            let listed = tables[table].as_table().unwrap().iter();
            let on = |spec: &toml::Value| spec.get("default-features").and_then(toml::Value::as_bool) != Some(false);
            let unsaid = listed.filter(|(name, spec)| on(spec) && !explained.contains(name.as_str()));
            unexplained.extend(unsaid.map(|(name, _)| format!("{manifest}: {name}")));
        }
    }
    nothing(unexplained, "say in a `# defaults:` line why default features are on");
}

#[test]
fn every_dependency_is_used() {
    let mut unused = Vec::new();
    for (manifest, under) in CRATES {
        let tables: toml::Table = text(&root().join(manifest)).parse().unwrap();
        let sources: Vec<String> = rust_files(&[under]).iter().map(|p| text(p)).collect();
        unused.extend(tables["dependencies"].as_table().unwrap().keys().filter_map(|name| {
            let path = name.replace('-', "_");
            let used = [format!("{path}::"), format!("use {path}")];
            let is_used = sources.iter().any(|source| used.iter().any(|u| source.contains(u)));
            (!is_used).then(|| format!("{manifest}: {name}"))
        }));
    }
    nothing(unused, "a dependency nobody uses is weight and risk");
}

#[test]
fn anyhow_stays_at_the_top() {
    let below = rust_files(&["src"]).into_iter().filter(|path| {
        let name = shown(path);
        let commands = ["src/main.rs", "src/cli", "src/demo", "src/bench"];
        !commands.iter().any(|top| name.starts_with(top))
    });
    let below: Vec<PathBuf> = below.collect();
    nothing(occurrences(&below, &["anyhow"]), "modules have errors of their own; anyhow is for commands");
}
