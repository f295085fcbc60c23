//! Asks the linker to strip the program, which cargo's `strip` was seen not to do when its profile has an override for this package;
//! to keep only one of functions that came out equal, as generic code for types of equal shape does; and to write the addresses that
//! are set at the start as one bit each instead of 24 bytes, which takes 2.5 MB less, if this machine's C library can read that
//! (glibc 2.36; a program that is linked here runs with no older one by its functions' versions, too). Rust's own linker can; where
//! another one is used, the program is larger and as good.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=CARGO_ENCODED_RUSTFLAGS");
    if std::env::var("PROFILE").is_ok_and(|profile| profile == "release") {
        println!("cargo:rustc-link-arg-bins=-Wl,--strip-all");
        if rust_lld_links() {
            println!("cargo:rustc-link-arg-bins=-Wl,--icf=all");
            if glibc().is_some_and(|version| version >= (2, 36)) {
                println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
            }
        }
    }
}

/// Version of this machine's C library; none if it is not glibc, or the program is for another machine.
fn glibc() -> Option<(u32, u32)> {
    if std::env::var("HOST") != std::env::var("TARGET") {
        return None;
    }
    let output = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    let said = String::from_utf8(output.stdout).ok()?;
    let (major, minor) = said.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Whether it is the linker: it is by default on this target, if the toolchain has it and no flag says otherwise.
fn rust_lld_links() -> bool {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let target = variable("TARGET");
    let sysroot = Command::new(variable("RUSTC")).args(["--print", "sysroot"]).output();
    let sysroot = sysroot.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    target == "x86_64-unknown-linux-gnu"
        && !variable("CARGO_ENCODED_RUSTFLAGS").contains("link")
        && variable("RUSTC_LINKER").is_empty()
        && sysroot.is_ok_and(|root| {
            Path::new(&root)
                .join("lib/rustlib")
                .join(target)
                .join("bin/gcc-ld/ld.lld")
                .exists()
        })
}
