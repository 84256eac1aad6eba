//! Expected files: compared, and rewritten with `UPDATE_GOLDEN=1`.

use std::path::Path;

/// What is wrong with `file` when `made` is what came out; empty when it is as expected.
pub fn difference(file: &Path, made: &str) -> String {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(file, made).unwrap();
    }
    let expected = std::fs::read_to_string(file).unwrap_or_default();
    if made == expected { String::new() } else { format!("\n{}\nexpected\n{expected}\nmade\n{made}", file.display()) }
}
