// SPDX-License-Identifier: MIT OR Apache-2.0

//! The root of a client VM: what is in its initramfs.

use anyhow::{Context, Result, bail};

use super::{Options, Server, Session};
use crate::initramfs::Initramfs;
use crate::kernel_modules::KernelModules;
use crate::workspace;

/// The first process of the client.
const INIT: &str = include_str!("init.sh");

/// What `init.sh` and users of a client find their commands in. Debian's `busybox-static`.
const BUSYBOX: &str = "/usr/bin/busybox";

/// The shells: Debian's `/bin/sh`, and one to type in. Not busybox's: that runs its own commands in place of those
/// that `--files` brings.
const SHELLS: [&str; 2] = ["dash", "bash"];

/// Builds the archive for `options`.
pub(super) fn build(options: &Options, end_mark: &str) -> Result<Vec<u8>> {
    let mut root = Initramfs::new();
    root.character_device("dev/console", 0o600, 5, 1);
    root.character_device("dev/null", 0o666, 1, 3);
    root.file("init", 0o755, INIT.as_bytes())?;
    root.host_file("bin/busybox", BUSYBOX.as_ref())?;

    for shell in SHELLS {
        root.host_program(shell)?;
    }
    root.symlink("bin/sh", "/usr/bin/dash");

    let modules = KernelModules::open(&workspace::client_modules()?)?;
    let order = modules.load_order(&wanted_modules(options, &modules))?;
    for path in &order {
        root.host_file(format!("lib/modules/{path}"), &modules.directory().join(path))?;
    }
    root.file("etc/skerry/modules", 0o644, lines(&order).as_bytes())?;
    root.file("etc/skerry/session", 0o644, session(options, end_mark).as_bytes())?;
    if let Session::Run(command) = &options.session {
        root.file("etc/skerry/command", 0o644, command.as_bytes())?;
    }
    root.file("etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/bash\n")?;
    root.file("etc/group", 0o644, b"root:x:0:\n")?;

    for program in &options.programs {
        root.host_program(program)?;
    }
    if let Some(files) = &options.files {
        if !files.is_dir() {
            bail!("{} is no directory: the files for the client's root must be in one", files.display());
        }
        root.tree(files).context("adding files to the client's root")?;
    }
    Ok(root.finish())
}

/// The modules by name; which others they need is for `modules.dep` to say.
fn wanted_modules<'a>(options: &Options, modules: &KernelModules) -> Vec<&'a str> {
    let mut wanted = vec!["virtio_pci", "virtio_console"];
    wanted.extend(options.server.iter().chain(&options.further_servers).flat_map(Server::modules));
    if !options.disks.is_empty() {
        // ext4 asks for this one by an alias, which only modprobe could follow; newer kernels have none.
        wanted.extend(["crc32c_generic"].into_iter().filter(|name| modules.has(name)));
        wanted.push("ext4");
        wanted.extend(options.disks.iter().flat_map(|disk| disk.device.modules()));
    }
    wanted
}

/// The assignments that `init.sh` reads.
fn session(options: &Options, end_mark: &str) -> String {
    let tag = options.server.as_ref().map_or("", Server::tag);
    let mut lines = vec![
        format!("tag={}", quoted(tag)),
        format!("mount_options={}", quoted(&options.mount.to_string())),
        format!("end_mark={end_mark}"),
    ];
    match &options.session {
        Session::Run(_) => lines.push("kind=run".to_owned()),
        Session::Shell { rows, columns, terminal } => {
            lines.push("kind=shell".to_owned());
            lines.push(format!("rows={rows} columns={columns} TERM={}", quoted(terminal)));
        }
    }
    self::lines(&lines)
}

/// A word that a shell takes as it is.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

fn lines(lines: &[String]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_word_reaches_the_shell_unchanged() {
        for word in ["plain", "two words", "it's $HOME `x` \\ \"q\" \n", ""] {
            let script = format!("printf %s {}", quoted(word));
            let printed = std::process::Command::new("busybox").args(["sh", "-c", &script]).output().unwrap();
            assert_eq!(printed.stdout, word.as_bytes());
        }
    }

    #[test]
    fn the_script_of_the_first_process_is_one_that_busybox_can_read() {
        let checked = std::process::Command::new("busybox").args(["sh", "-n", "-c", INIT]).output().unwrap();
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    }
}
