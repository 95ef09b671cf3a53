//! Links the kernel by its port's linker script: `kernel/arch/<architecture>/link.ld`.

use std::env;
use std::path::Path;

fn main() {
    let target = |key: &str| env::var(key).unwrap_or_default();
    if target("CARGO_CFG_TARGET_OS") != "none" {
        return;
    }
    let script =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../arch").join(target("CARGO_CFG_TARGET_ARCH")).join("link.ld");
    println!("cargo:rerun-if-changed={}", script.display());
    println!("cargo:rustc-link-arg-bins=-T{}", script.display());
}
