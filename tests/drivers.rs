//! Every driver's cases: our side of the line byte for byte in several read splits, then the reports.
//!
//! `UPDATE_GOLDEN=1 cargo test --test drivers` rewrites the expected files; the diff is the review.

use afferent::cli::driver::case;
use afferent::driver::{Registry, builtin};
use std::path::{Path, PathBuf};

fn drivers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("drivers")
}

#[test]
fn every_case_of_every_driver_comes_out_as_expected() {
    let registry = Registry::builtin();
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut wrong = String::new();
    let mut cases = 0;
    for driver in registry.iter().filter(|d| drivers().join(&d.id).join("cases").is_dir()) {
        for folder in case::folders(&drivers().join(&driver.id)).unwrap() {
            cases += 1;
            let name = format!("{}/{}", driver.id, folder.file_name().unwrap().to_string_lossy());
            match case::check(driver, &folder, update) {
                Ok(differences) => {
                    for difference in differences {
                        wrong.push_str(&format!("\n{name}: {}\n{}\n", difference.at, difference.lines.join("\n")));
                    }
                }
                Err(error) => wrong.push_str(&format!("\n{name}: {error}\n")),
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}\nUPDATE_GOLDEN=1 rewrites the expected files");
    assert!(cases >= 24, "only {cases} cases were found");
}

#[test]
fn every_driver_folder_is_compiled_in_and_complete() {
    for entry in std::fs::read_dir(drivers()).unwrap().map(Result::unwrap).filter(|e| e.path().is_dir()) {
        let id = entry.file_name().to_string_lossy().into_owned();
        assert!(builtin::DRIVERS.iter().any(|(name, _)| *name == id), "{id} is not in src/driver/builtin.rs");
        if id.starts_with("generic-") {
            continue;
        }
        let driver = Registry::builtin().get(&id).unwrap().clone();
        assert!(!driver.schema.identity.evidence.is_empty(), "{id} names no evidence");
        let identity = &driver.schema.identity;
        let known = !identity.header.is_empty() || !identity.conditions.is_empty();
        assert!(known, "{id} has no header to be recognised by");
        assert!(entry.path().join("README.md").is_file(), "{id} has no README.md");
        let stories: Vec<String> = case::folders(&entry.path())
            .unwrap()
            .iter()
            .map(|f| f.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        for kind in ["normal-", "qc-", "damaged-"] {
            assert!(stories.iter().any(|s| s.starts_with(kind)), "{id} has no {kind} case");
        }
    }
}

#[test]
fn the_header_in_every_case_finds_its_driver() {
    let registry = Registry::builtin();
    for driver in registry.iter().filter(|d| drivers().join(&d.id).join("cases").is_dir()) {
        for folder in case::folders(&drivers().join(&driver.id)).unwrap() {
            let steps = case::session(&folder).unwrap();
            let replayed = case::play(driver, &steps, usize::MAX, None);
            for (raw, _) in replayed.entries() {
                let found = registry.identify(driver.protocol(), &raw);
                assert_eq!(found.id, driver.id, "{}", folder.display());
            }
        }
    }
}
