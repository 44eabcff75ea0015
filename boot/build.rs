// SPDX-License-Identifier: MIT OR Apache-2.0

//! Links the image: a static executable without a C library, laid out by `linker.ld`.

fn main() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../linker.ld");
    println!("cargo::rerun-if-changed={script}");
    for argument in [
        &format!("-T{script}"),
        "-nostartfiles",
        "-nostdlib",
        "-static",
        "-no-pie",
        // No build id: the image is a function of its sources, and the note section is PVH's.
        "-Wl,--build-id=none",
        "-Wl,-z,max-page-size=4096",
        // Stacks are mapped by the image itself; the linker's own opinion of them does not matter.
        "-Wl,-z,noexecstack",
    ] {
        println!("cargo::rustc-link-arg-bins={argument}");
    }
}
