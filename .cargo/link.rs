//! Leaves out of a release what only unwinding reads, since a release aborts on a panic: a tenth of its size would be
//! tables for backtraces without names. And writes the addresses that a start has to move as a bit map in place of a
//! table, which would be another tenth (RELR; glibc 2.36, musl 1.2.4).

fn main() {
    println!("cargo:rerun-if-changed=.cargo/no-unwind-tables.ld");
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|found| found == value);
    if is("PROFILE", "release") && is("CARGO_CFG_TARGET_OS", "linux") {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/.cargo/no-unwind-tables.ld");
        println!("cargo:rustc-link-arg-bins=-Wl,-T,{script}");
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}
