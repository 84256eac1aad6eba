//! The file of operators a link sends to its POCT1-A devices, read anew for each connection.

use crate::disk;
use crate::wire::poct1a::{Operator, operators};
use std::io::Read;
use std::path::Path;

/// Longest file, in bytes.
const FILE_MAX: u64 = 16 << 20;

/// Reads the file.
///
/// # Errors
/// Why it cannot be used, with the line.
pub fn read(path: &Path) -> Result<Vec<Operator>, String> {
    let shown = path.display();
    let mut text = String::new();
    let read = disk::open_regular(path).and_then(|open| open.take(FILE_MAX + 1).read_to_string(&mut text));
    if read.map_err(|error| format!("cannot read {shown}: {error}"))? as u64 > FILE_MAX {
        return Err(format!("{shown} is larger than 16 MiB"));
    }
    operators::parse(&text).map_err(|(line, wrong)| format!("{shown}, line {line}: {wrong}"))
}
