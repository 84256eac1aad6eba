//! Leaves out of a release what only unwinding reads, since a release aborts on a panic: a tenth of its size would be
//! tables for backtraces without names. Writes the addresses that a start has to move as a bit map in place of a table,
//! which would be another tenth (RELR; glibc 2.36, musl 1.2.4). And lets functions that came out alike be one, where the
//! compiler brings the linker that can.

use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=.cargo/no-unwind-tables.ld");
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|found| found == value);
    if is("PROFILE", "release") && is("CARGO_CFG_TARGET_OS", "linux") {
        let linker = Linker::found();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/.cargo/no-unwind-tables.ld");
        linker.pass(&["-T", script]);
        if linker != Linker::Zig {
            linker.pass(&["-z", "pack-relative-relocs"]);
        }
        if let Linker::Driven(Some(folder)) = &linker {
            println!("cargo:rustc-link-arg-bins=-B{}", folder.display());
            println!("cargo:rustc-link-arg-bins=-fuse-ld=lld");
        }
        if !matches!(linker, Linker::Zig | Linker::Driven(None)) {
            linker.pass(&["--icf=all"]);
        }
    }
}

/// What links.
#[derive(PartialEq)]
enum Linker {
    /// A C compiler, and where the compiler of Rust has LLD for it. Those of distributions leave it out and use the
    /// system's linker, which refuses what it does not know.
    Driven(Option<PathBuf>),
    /// LLD of the compiler of Rust.
    Lld,
    /// `zig cc`, which refuses what it does not know.
    Zig,
}

impl Linker {
    fn found() -> Linker {
        let named = std::env::var("RUSTC_LINKER").unwrap_or_default();
        match Path::new(&named).file_name().and_then(|name| name.to_str()).unwrap_or_default() {
            "rust-lld" => Linker::Lld,
            name if name.starts_with("zigcc") => Linker::Zig,
            _ => Linker::Driven(brought()),
        }
    }

    /// Words for the linker itself.
    fn pass(&self, words: &[&str]) {
        match self {
            Linker::Lld => words.iter().for_each(|word| println!("cargo:rustc-link-arg-bins={word}")),
            Linker::Driven(_) | Linker::Zig => println!("cargo:rustc-link-arg-bins=-Wl,{}", words.join(",")),
        }
    }
}

/// The folder with what a C compiler calls as `ld.lld`.
fn brought() -> Option<PathBuf> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let asked = Command::new(rustc).args(["--print", "sysroot"]).output().ok()?;
    let host = std::env::var("HOST").ok()?;
    let sysroot = String::from_utf8_lossy(&asked.stdout).trim().to_string();
    let folder = Path::new(&sysroot).join("lib/rustlib").join(host).join("bin/gcc-ld");
    folder.join("ld.lld").exists().then_some(folder)
}
