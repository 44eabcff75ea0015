// SPDX-License-Identifier: MIT OR Apache-2.0

//! How a client mounts the share: the options of `mount -t 9p`.

use std::fmt;

/// The largest msize that Linux uses over virtio: 128 descriptors less 3, of a page each.
pub const LARGEST_MSIZE: u32 = 512_000;

/// What the client's kernel keeps of the share, `cache=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cache {
    /// Nothing: every change of other clients shows at once, and every write is the server's when it returns.
    #[default]
    None,
    /// Pages that are mapped into memory.
    Mmap,
    /// Everything, for a client that has the share to itself.
    Loose,
}

/// The options of a mount. [`Display`](fmt::Display) gives what `mount -o` takes.
///
/// `access=client` lets the client's kernel check permissions with each user's own fids, and is what `posixacl` needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The largest message, in bytes: 4096 to [`LARGEST_MSIZE`].
    pub msize: u32,
    /// The client's kernel refuses what writes.
    pub readonly: bool,
    /// What the client keeps.
    pub cache: Cache,
    /// The directory of the volume that is mounted, if not all of it.
    pub aname: Option<String>,
}

impl Default for Mount {
    fn default() -> Self {
        Self { msize: LARGEST_MSIZE, readonly: false, cache: Cache::None, aname: None }
    }
}

impl fmt::Display for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { msize, readonly, cache, aname } = self;
        let access = if *readonly { "ro" } else { "rw" };
        let cache = match cache {
            Cache::None => "none",
            Cache::Mmap => "mmap",
            Cache::Loose => "loose",
        };
        write!(
            f,
            "{access},trans=virtio,version=9p2000.L,msize={msize},access=client,posixacl,cache={cache}"
        )?;
        aname.as_ref().map_or(Ok(()), |aname| write!(f, ",aname={aname}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_written_as_its_options() {
        let all = "rw,trans=virtio,version=9p2000.L,msize=512000,access=client,posixacl,cache=none";
        assert_eq!(Mount::default().to_string(), all);
        let some = Mount { msize: 8192, readonly: true, cache: Cache::Mmap, aname: Some("/a".to_owned()) };
        let expected =
            "ro,trans=virtio,version=9p2000.L,msize=8192,access=client,posixacl,cache=mmap,aname=/a";
        assert_eq!(some.to_string(), expected);
    }
}
