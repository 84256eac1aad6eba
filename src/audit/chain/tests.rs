use super::*;
use crate::sim::random::Random;

fn of(dir: &tempfile::TempDir) -> Chain {
    Chain::new(dir.path(), "audit", None)
}

fn text(chain: &Chain) -> String {
    String::from_utf8_lossy(&std::fs::read(chain.file()).unwrap()).into_owned()
}

/// Line and flaw of each.
fn flaws(chain: &Chain) -> Vec<(usize, Flaw)> {
    chain.check(|_| {}).unwrap().flaws.into_iter().map(|(_, line, flaw)| (line, flaw)).collect()
}

fn said(chain: &Chain) -> Vec<Value> {
    let mut said = Vec::new();
    chain.check(|line| said.push(line["what"]["n"].clone())).unwrap();
    said
}

#[test]
fn a_line_that_is_changed_or_taken_out_shows() {
    let dir = tempfile::tempdir().unwrap();
    let chain = of(&dir);
    assert_eq!(flaws(&chain), [], "nothing was noted, and nothing is missing");
    chain.note(&[json!({ "n": 1 }), json!({ "n": 2 })]).unwrap();
    for n in 3..=5 {
        chain.note(&[json!({ "n": n })]).unwrap();
    }
    assert_eq!((said(&chain), flaws(&chain)), ((1..=5).map(Value::from).collect(), vec![]));
    let whole = text(&chain);
    let changed = whole.replace("\"n\":2", "\"n\":9");
    std::fs::write(chain.file(), &changed).unwrap();
    assert_eq!(flaws(&chain), [(3, Flaw::DoesNotFollow)]);
    let without: Vec<&str> = changed.lines().filter(|line| !line.contains("\"n\":4")).collect();
    std::fs::write(chain.file(), without.join("\n")).unwrap();
    assert_eq!(flaws(&chain), [(3, Flaw::DoesNotFollow), (4, Flaw::DoesNotFollow)]);
    // The last lines, and all of them.
    let first: Vec<&str> = whole.lines().take(3).collect();
    std::fs::write(chain.file(), first.join("\n") + "\n").unwrap();
    assert_eq!(flaws(&chain), [(4, Flaw::Missing)]);
    std::fs::remove_file(chain.file()).unwrap();
    assert_eq!(flaws(&chain), [(1, Flaw::Missing)]);
}

#[test]
fn ten_thousand_changes_all_show() {
    let dir = tempfile::tempdir().unwrap();
    let chain = of(&dir);
    let all: Vec<Value> = (0..40).map(|n| json!({ "n": n, "by": "ann", "act": "released" })).collect();
    chain.note(&all).unwrap();
    let whole = std::fs::read(chain.file()).unwrap();
    let mut random = Random::new(7);
    for turn in 0..10_000 {
        let mut changed = whole.clone();
        let at = random.below(whole.len());
        let what = match turn % 4 {
            0 => {
                // The end of the file is no part of what was noted.
                let at = random.below(whole.len() - 1);
                changed[at] = changed[at].wrapping_add(1 + random.below(255) as u8);
                format!("byte {at} is another")
            }
            1 => {
                let last = random.below(whole.len() - 1);
                changed.truncate(last);
                format!("cut at {last}")
            }
            2 => {
                let lines: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
                let (one, other) = (random.below(lines.len()), random.below(lines.len()));
                if one == other {
                    continue;
                }
                let mut lines = lines;
                lines.swap(one, other);
                changed = lines.concat();
                format!("lines {one} and {other} changed places")
            }
            _ => {
                let lines: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
                let (one, to) = (random.below(lines.len()), random.below(lines.len()));
                let mut lines = lines;
                match at % 2 {
                    0 => drop(lines.remove(one)),
                    _ => lines.insert(to, lines[one]),
                }
                changed = lines.concat();
                format!("line {one} taken out, or put in before {to}")
            }
        };
        std::fs::write(chain.file(), &changed).unwrap();
        assert!(!chain.check(|_| {}).unwrap().is_whole(), "change {turn}: {what}");
    }
}

#[test]
fn what_a_power_cut_left_of_a_line_is_torn_and_hides_nothing_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    let chain = of(&dir);
    chain.note(&[json!({ "n": 1 })]).unwrap();
    // In the middle of a letter.
    OpenOptions::new().append(true).open(chain.file()).unwrap().write_all(b"{\"after\":\"\xc3").unwrap();
    assert!(chain.check(|_| {}).unwrap().is_whole());
    chain.note(&[json!({ "n": 2 }), json!({ "n": 3 })]).unwrap();
    assert_eq!(flaws(&chain), [(2, Flaw::Torn)]);
    std::fs::write(chain.file(), text(&chain).replace("\"n\":2", "\"n\":9")).unwrap();
    assert_eq!(flaws(&chain), [(2, Flaw::Torn), (4, Flaw::DoesNotFollow)]);
}

#[test]
fn a_power_cut_behind_a_line_and_before_its_digest_is_no_flaw() {
    let dir = tempfile::tempdir().unwrap();
    let chain = of(&dir);
    chain.note(&[json!({ "n": 1 })]).unwrap();
    let head = std::fs::read(chain.head()).unwrap();
    chain.note(&[json!({ "n": 2 })]).unwrap();
    std::fs::write(chain.head(), head).unwrap();
    assert_eq!(flaws(&chain), []);
    // A record of a desk from before there were digests of ends.
    std::fs::remove_file(chain.head()).unwrap();
    assert_eq!(flaws(&chain), []);
    chain.note(&[json!({ "n": 3 })]).unwrap();
    assert_eq!((said(&chain).len(), flaws(&chain)), (3, vec![]));
}

#[test]
fn i10_a_bounded_chain_puts_the_oldest_away_and_goes_on_over_its_files() {
    let dir = tempfile::tempdir().unwrap();
    let bounds = Bounds { bytes: 1_000, files: 3 };
    let chain = Chain::new(dir.path(), "audit", Some(bounds));
    for n in 1..=100 {
        chain.note(&[json!({ "n": n })]).unwrap();
        let checked = chain.check(|_| {}).unwrap();
        assert!(checked.is_whole(), "after {n}: {checked:?}");
        let files = std::fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().metadata().unwrap().len());
        let (files, bytes) = files.fold((0, 0), |(files, bytes), length| (files + 1, bytes + length));
        assert!(files <= 5 && bytes <= 4 * (bounds.bytes + 200) + 64, "{files} files, {bytes} bytes");
    }
    let numbers = said(&chain);
    assert!(numbers.last() == Some(&json!(100)) && numbers.len() <= 40, "{numbers:?}");
    // A power cut between the rename and the new file.
    let kept = chain.numbers().unwrap();
    let (first, last) = (kept[0], kept[2]);
    std::fs::rename(chain.file(), chain.full(last + 1)).unwrap();
    assert_eq!(flaws(&chain), []);
    chain.note(&[json!({ "n": 101 })]).unwrap();
    assert_eq!(flaws(&chain), []);
    // Each of the full ones is missed, and a line of one of them as well.
    for number in [first, first + 1, last, last + 1] {
        let file = chain.full(number);
        let there = std::fs::read(&file).unwrap();
        std::fs::remove_file(&file).unwrap();
        let is_whole = chain.check(|_| {}).unwrap().is_whole();
        // One more than are kept is there, so the oldest may go.
        assert_eq!(is_whole, number == first, "without {number}");
        std::fs::write(&file, String::from_utf8_lossy(&there).replace("\"uid\"", "\"Uid\"")).unwrap();
        assert!(!chain.check(|_| {}).unwrap().is_whole(), "{number} is another");
        std::fs::write(&file, there).unwrap();
    }
}

#[test]
fn a_chain_that_has_bounds_always_has_its_digest() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::new(dir.path(), "audit", Some(Bounds { bytes: 1_000, files: 3 }));
    chain.note(&[json!({ "n": 1 })]).unwrap();
    std::fs::remove_file(chain.head()).unwrap();
    assert_eq!(flaws(&chain), [], "a power cut behind the very first line");
    chain.note(&[json!({ "n": 2 })]).unwrap();
    std::fs::remove_file(chain.head()).unwrap();
    assert_eq!(flaws(&chain), [(3, Flaw::Missing)]);
}

#[test]
fn two_who_write_at_once_make_one_chain_over_all_its_files_and_whoever_reads_keeps_nobody_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::new(dir.path(), "audit", Some(Bounds { bytes: 700, files: 100 }));
    std::thread::scope(|scope| {
        for writer in 0..2 {
            let chain = chain.clone();
            scope.spawn(move || (0..100).for_each(|n| chain.note(&[json!({ "n": writer * 1000 + n })]).unwrap()));
        }
        for _ in 0..20 {
            assert!(chain.check(|_| {}).unwrap().is_whole());
        }
    });
    let mut written = 0;
    let checked = chain.check(|_| {
        written += 1;
        // In the middle of reading.
        if written == 50 {
            chain.note(&[json!({ "n": "read" })]).unwrap();
        }
    });
    assert!(checked.unwrap().is_whole() && written == 200, "{written}");
    assert_eq!(said(&chain).len(), 201);
}

#[test]
fn a_note_that_fails_leaves_no_line_and_what_is_no_file_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::new(dir.path(), "audit", Some(Bounds { bytes: 1_000, files: 3 }));
    chain.note(&[json!({ "n": 1 })]).unwrap();
    let head = std::fs::read(chain.head()).unwrap();
    std::fs::remove_file(chain.head()).unwrap();
    std::fs::create_dir(chain.head()).unwrap();
    assert!(chain.note(&[json!({ "n": 2 })]).is_err());
    std::fs::remove_dir(chain.head()).unwrap();
    std::fs::write(chain.head(), head).unwrap();
    assert_eq!((said(&chain), flaws(&chain)), (vec![json!(1)], vec![]));
    let pipe = |file: &Path| assert!(std::process::Command::new("mkfifo").arg(file).status().unwrap().success());
    for (name, is_whole) in [("audit-0.jsonl", true), ("audit-007.jsonl", true), ("audit-1.jsonl", false)] {
        pipe(&dir.path().join(name));
        assert_eq!(chain.check(|_| {}).is_ok(), is_whole, "{name}");
    }
    std::fs::remove_file(dir.path().join("audit-1.jsonl")).unwrap();
    std::fs::remove_file(chain.file()).unwrap();
    pipe(&chain.file());
    assert!(chain.note(&[json!({ "n": 2 })]).is_err() && chain.check(|_| {}).is_err());
}

#[test]
fn what_is_long_is_noted_by_its_digest_with_who_and_whom() {
    let dir = tempfile::tempdir().unwrap();
    let chain = of(&dir);
    let (manifest, root) = ("m".repeat(100_000), "r".repeat(3_000));
    let command = json!({ "id": "c-1", "op": "update-offer", "gateway": "bench-1", "manifest": manifest,
                          "roots": vec![&root; 30] });
    let offer = json!({ "at": "2026-01-01T00:00:00Z", "signed_by": ["ops-1"], "command": command });
    let shapeless = json!((0..20_000).collect::<Vec<_>>());
    let many: Value = (0..20_000).map(|n| (n.to_string(), n.into())).collect::<serde_json::Map<_, _>>().into();
    chain.note(&[json!({ "n": 1 }), offer, shapeless, many.clone(), json!({ "n": 2 })]).unwrap();
    let text = text(&chain);
    assert!(flaws(&chain).is_empty() && text.lines().all(|line| line.len() <= LINE_MAX));
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (offer, noted) = (&lines[1]["what"], &lines[1]["what"]["command"]);
    assert_eq!(
        (&offer["signed_by"][0], &noted["op"], &noted["gateway"]),
        (&json!("ops-1"), &json!("update-offer"), &json!("bench-1"))
    );
    // As `sha256sum` says of the file.
    let sha256 = hex::digits(digest(&SHA256, manifest.as_bytes()).as_ref());
    assert_eq!(noted["manifest"], json!({ "bytes": 100_000, "sha256": sha256 }));
    assert_eq!(noted["roots"]["bytes"], json!(vec![root; 30]).to_string().len());
    assert_eq!((lines[2]["what"]["bytes"].is_u64(), &lines[3]["what"]), (true, &digest_of(&many)));
}

#[test]
fn a_line_that_an_older_desk_wrote_whole_does_not_break_the_chain() {
    let dir = tempfile::tempdir().unwrap();
    let chain = of(&dir);
    let line = json!({ "after": link_of(""), "what": { "why": "x".repeat(140_000) } }).to_string();
    std::fs::write(chain.file(), line + "\n").unwrap();
    chain.note(&[json!({ "n": 1 }), json!({ "n": 2 })]).unwrap();
    assert_eq!(flaws(&chain), []);
}
