// SPDX-License-Identifier: MIT OR Apache-2.0

//! Who answers a client VM's file requests, and the devices through which it asks.

use std::path::{Path, PathBuf};

use super::escaped;
use crate::vhost_user::Socket;

/// A server of files, with a device of its own in the client VM.
#[derive(Debug, Clone)]
pub enum Server {
    /// A vhost-user backend for 9P that listens on a socket: the bridge, or host mode.
    VhostUser(Socket),
    /// QEMU's own 9P server, VirtFS, which serves a directory of the host: the one to compare with. It refuses what writes if the
    /// mount is read-only.
    VirtFs {
        /// The directory.
        directory: PathBuf,
        /// The mount tag.
        tag: String,
    },
    /// A vhost-user backend for virtio-fs that listens on a socket: virtiofsd. Mounted with `-t virtiofs`.
    VirtioFs(Socket),
}

impl Server {
    /// The mount tag.
    #[must_use]
    pub fn tag(&self) -> &str {
        match self {
            Self::VhostUser(socket) | Self::VirtioFs(socket) => &socket.tag,
            Self::VirtFs { tag, .. } => tag,
        }
    }

    /// QEMU's options for its device. What belongs to it there is called `id`.
    pub(super) fn arguments(&self, id: &str, readonly: bool) -> Vec<String> {
        match self {
            Self::VhostUser(socket) => vhost_user_arguments(socket, id),
            Self::VirtFs { directory, tag } => vec![
                "-fsdev".to_owned(),
                virtfs(directory, id, readonly),
                "-device".to_owned(),
                format!("virtio-9p-pci,fsdev={id},mount_tag={tag}"),
            ],
            Self::VirtioFs(socket) => vec![
                "-chardev".to_owned(),
                format!("socket,id={id},path={}", escaped(&socket.path)),
                "-device".to_owned(),
                format!("vhost-user-fs-pci,queue-size=1024,chardev={id},tag={}", socket.tag),
            ],
        }
    }

    /// The modules that a client's kernel needs for it.
    pub(super) fn modules(&self) -> &'static [&'static str] {
        match self {
            Self::VhostUser(_) | Self::VirtFs { .. } => &["9pnet_virtio", "9p"],
            Self::VirtioFs(_) => &["virtiofs"],
        }
    }
}

/// QEMU's options for the 9P device behind `socket`.
#[must_use]
pub fn share_arguments(socket: &Socket) -> Vec<String> {
    vhost_user_arguments(socket, "share")
}

fn vhost_user_arguments(socket: &Socket, id: &str) -> Vec<String> {
    // The configuration space is the tag's length in two bytes, then the tag (virtio 1.3, 5.15.4).
    let config_size = 2 + socket.tag.len();
    vec![
        "-chardev".to_owned(),
        format!("socket,id={id},path={}", escaped(&socket.path)),
        "-device".to_owned(),
        format!(
            "vhost-user-test-device-pci,virtio-id=9,num_vqs=1,vq_size=128,config_size={config_size},chardev={id}"
        ),
    ]
}

fn virtfs(directory: &Path, id: &str, readonly: bool) -> String {
    let readonly = if readonly { "on" } else { "off" };
    format!(
        "local,id={id},path={},security_model=none,multidevs=remap,readonly={readonly}",
        escaped(directory)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_server_has_a_device_with_its_tag() {
        let socket = Socket { path: "/run/a,b".into(), tag: "data".to_owned() };
        let servers = [
            (Server::VhostUser(socket.clone()), "config_size=6,chardev=first"),
            (Server::VirtFs { directory: "/srv".into(), tag: "data".to_owned() }, "mount_tag=data"),
            (Server::VirtioFs(socket), "chardev=first,tag=data"),
        ];
        for (server, expected) in servers {
            let arguments = server.arguments("first", false);
            assert!(arguments[3].contains(expected), "{arguments:?}");
            assert!(arguments[1].contains("id=first"), "{arguments:?}");
            assert_eq!(server.tag(), "data");
        }
        assert!(
            share_arguments(&Socket { path: "/run/a,b".into(), tag: "t".to_owned() })[1].contains("a,,b")
        );
    }
}
