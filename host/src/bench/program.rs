// SPDX-License-Identifier: MIT OR Apache-2.0

//! C programs that are compiled here: what runs in a client, or in QEMU.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Options for a program that needs nothing of the root that it runs in.
pub const STATIC: [&str; 4] = ["-static", "-O1", "-Wall", "-Werror"];

/// Compiles the C source `source` to the file `program`, with these options of gcc.
///
/// # Errors
/// What the compiler says.
pub fn compile(source: &str, options: &[&str], program: &Path) -> Result<()> {
    let code = tempfile::Builder::new().suffix(".c").tempfile()?;
    std::fs::write(code.path(), source)?;
    let output = Command::new("gcc")
        .args(options)
        .arg("-o")
        .args([program, code.path()])
        .output()
        .context("cannot run gcc; run host/provision.sh")?;
    ensure!(output.status.success(), "gcc: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

/// The bytes of a static program, made from the C source `source`.
///
/// # Errors
/// As [`compile`].
pub(super) fn compiled(source: &str) -> Result<Vec<u8>> {
    let directory = tempfile::tempdir()?;
    let program = directory.path().join("program");
    compile(source, &[&STATIC[..], &["-Wextra"]].concat(), &program)?;
    std::fs::read(&program).context("what gcc made")
}
