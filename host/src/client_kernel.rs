// SPDX-License-Identifier: MIT OR Apache-2.0

//! The client's kernel without its compression: it boots twice as fast under TCG, where unpacking takes seconds.
//!
//! A bzImage carries a compressed ELF file; its header says where (the kernel's Documentation/arch/x86/boot.rst,
//! `payload_offset` and `payload_length`). QEMU boots that ELF file by its PVH note. Unpacked once, with `xz`, and
//! kept beside the packed one. A kernel that is packed in another way is used as it is.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// What a stream of xz starts with.
const XZ_MAGIC: &[u8] = b"\xfd7zXZ\0";

/// The kernel to boot in place of the bzImage `packed`: `vmlinux` beside it, made now if it is not there.
///
/// # Errors
/// If `packed` cannot be read, or unpacking it fails.
pub fn unpacked(packed: &Path) -> Result<PathBuf> {
    let kernel = packed.with_file_name("vmlinux");
    if is_newer(&kernel, packed) {
        return Ok(kernel);
    }
    let image = fs::read(packed).with_context(|| format!("cannot read {}", packed.display()))?;
    let Some(payload) = payload(&image).filter(|payload| payload.starts_with(XZ_MAGIC)) else {
        return Ok(packed.to_path_buf());
    };
    log::info!("unpacking the client's kernel (once)");
    let directory = packed.parent().unwrap_or(Path::new("."));
    // Under a name of its own until it is whole: another process may want it at the same time.
    let unpacked = tempfile::NamedTempFile::new_in(directory)
        .with_context(|| format!("cannot write to {}", directory.display()))?;
    unpack(payload, unpacked.as_file()).with_context(|| format!("cannot unpack {}", packed.display()))?;
    unpacked.persist(&kernel).with_context(|| format!("cannot write {}", kernel.display()))?;
    Ok(kernel)
}

fn is_newer(file: &Path, than: &Path) -> bool {
    let modified = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified());
    matches!((modified(file), modified(than)), (Ok(file), Ok(than)) if file >= than)
}

/// The compressed kernel inside a bzImage.
fn payload(image: &[u8]) -> Option<&[u8]> {
    let setup_sects = usize::from(*image.get(0x1f1)?);
    if image.get(0x202..0x206)? != b"HdrS" {
        return None;
    }
    let field = |offset: usize| -> Option<usize> {
        let bytes = image.get(offset..offset.checked_add(4)?)?;
        usize::try_from(u32::from_le_bytes(bytes.try_into().ok()?)).ok()
    };
    let (payload_offset, payload_length) = (field(0x248)?, field(0x24c)?);
    let start = (setup_sects + 1) * 512 + payload_offset;
    image.get(start..start.checked_add(payload_length)?)
}

fn unpack(payload: &[u8], output: &File) -> Result<()> {
    // The unpacked size follows the stream, and is no part of it.
    let mut xz = Command::new("xz")
        .args(["--decompress", "--stdout", "--single-stream"])
        .stdin(Stdio::piped())
        .stdout(output.try_clone()?)
        .spawn()
        .context("cannot run xz")?;
    let written = xz.stdin.take().context("xz has no input")?.write_all(payload);
    let status = xz.wait()?;
    if !status.success() {
        bail!("xz ended with {status}");
    }
    // xz may stop reading at the end of its stream.
    match written {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bzImage of one setup sector, whose payload is `payload`.
    fn image(payload: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 1024 + 16];
        image[0x1f1] = 1;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x248..0x24c].copy_from_slice(&16u32.to_le_bytes());
        image[0x24c..0x250].copy_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes());
        image.extend_from_slice(payload);
        image
    }

    #[test]
    fn a_kernel_is_unpacked_once_and_kept() {
        let directory = tempfile::tempdir().unwrap();
        let packed = directory.path().join("vmlinuz");
        let stream =
            Command::new("sh").args(["-c", "printf kernel | xz --check=crc32"]).output().unwrap().stdout;
        fs::write(&packed, image(&[&stream[..], b"\x06\0\0\0"].concat())).unwrap();
        let kernel = unpacked(&packed).unwrap();
        assert_eq!(fs::read(&kernel).unwrap(), b"kernel");
        fs::write(&kernel, "kept").unwrap();
        assert_eq!(fs::read(unpacked(&packed).unwrap()).unwrap(), b"kept");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_kernel_in_another_packing_is_used_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let packed = directory.path().join("vmlinuz");
        for bytes in [&image(b"\x28\xb5\x2f\xfd")[..], b"short", b""] {
            fs::write(&packed, bytes).unwrap();
            assert_eq!(unpacked(&packed).unwrap(), packed);
        }
    }
}
