//! The file of operators a link sends to its POCT1-A devices, read anew for each connection.

use crate::wire::poct1a::{Operator, operators};
use std::path::Path;

/// Longest file, in bytes.
const FILE_MAX: u64 = 16 << 20;

/// Reads the file.
///
/// # Errors
/// Why it cannot be used, with the line.
pub fn read(path: &Path) -> Result<Vec<Operator>, String> {
    let shown = path.display();
    let length = std::fs::metadata(path).map_err(|error| format!("cannot read {shown}: {error}"))?.len();
    if length > FILE_MAX {
        return Err(format!("{shown} is larger than 16 MiB"));
    }
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {shown}: {error}"))?;
    operators::parse(&text).map_err(|(line, wrong)| format!("{shown}, line {line}: {wrong}"))
}
