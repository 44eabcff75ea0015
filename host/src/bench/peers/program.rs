// SPDX-License-Identifier: MIT OR Apache-2.0

//! Programs that are compiled here and measure in the client.

use std::process::Command;

use anyhow::{Context, Result, bail};

/// Compiles a C program; static, so that it needs nothing of the root that it runs in.
///
/// # Errors
/// What the compiler says.
pub(in crate::bench) fn compiled(source: &str) -> Result<Vec<u8>> {
    let directory = tempfile::tempdir()?;
    let (code, program) = (directory.path().join("program.c"), directory.path().join("program"));
    std::fs::write(&code, source)?;
    let output = Command::new("gcc")
        .args(["-static", "-O1", "-Wall", "-Wextra", "-Werror", "-o"])
        .args([&program, &code])
        .output()
        .context("cannot run gcc; run host/provision.sh")?;
    if !output.status.success() {
        bail!("gcc: {}", String::from_utf8_lossy(&output.stderr));
    }
    std::fs::read(&program).context("what gcc made")
}
