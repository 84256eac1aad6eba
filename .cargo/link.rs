//! Leaves out of a release what only unwinding reads, since a release aborts on a panic: a tenth of its size would be
//! tables for backtraces without names. Writes the addresses that a start has to move as a bit map in place of a table,
//! which would be another tenth (RELR; glibc 2.36, musl 1.2.4). And lets functions that came out alike be one, where the
//! compiler brings the linker that can.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=.cargo/no-unwind-tables.ld");
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|found| found == value);
    if is("PROFILE", "release") && is("CARGO_CFG_TARGET_OS", "linux") {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/.cargo/no-unwind-tables.ld");
        println!("cargo:rustc-link-arg-bins=-Wl,-T,{script}");
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
        if is("TARGET", LINKED_BY_LLD) && brings_lld() {
            println!("cargo:rustc-link-arg-bins=-Wl,--icf=all");
        }
    }
}

/// The target that rustc links with its own LLD by itself, since 1.90.
const LINKED_BY_LLD: &str = "x86_64-unknown-linux-gnu";

/// Compilers of distributions leave it out and use the system's linker, which refuses what it does not know.
fn brings_lld() -> bool {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let asked = Command::new(rustc).args(["--print", "sysroot"]).output();
    let sysroot = asked.map(|answer| String::from_utf8_lossy(&answer.stdout).trim().to_string()).unwrap_or_default();
    Path::new(&sysroot).join("lib/rustlib").join(LINKED_BY_LLD).join("bin/gcc-ld/ld.lld").exists()
}
