// SPDX-License-Identifier: MIT OR Apache-2.0

//! Tlock and Tgetlock: POSIX record locks, as `fcntl(2)` has them.

use super::Fid;
use super::codec::{byte_names, flags, message};

byte_names! {
    /// What a lock is.
    pub enum LockType {
        /// P9_LOCK_TYPE_RDLCK: shared.
        Read = 0,
        /// P9_LOCK_TYPE_WRLCK: exclusive.
        Write = 1,
        /// P9_LOCK_TYPE_UNLCK: no lock.
        Unlock = 2,
    }
}

flags! {
    /// Flags of a Tlock.
    pub struct LockFlags: u32 {
        /// P9_LOCK_FLAGS_BLOCK: the caller waits (`F_SETLKW`): a client that gets "blocked" will ask again.
        const BLOCK = 1;
        /// P9_LOCK_FLAGS_RECLAIM: reserved.
        const RECLAIM = 2;
    }
}

byte_names! {
    /// What became of a Tlock.
    pub enum LockStatus {
        /// P9_LOCK_SUCCESS: the lock is held.
        Success = 0,
        /// P9_LOCK_BLOCKED: somebody else holds one.
        Blocked = 1,
        /// P9_LOCK_ERROR.
        Error = 2,
        /// P9_LOCK_GRACE: the server is in its grace period.
        Grace = 3,
    }
}

message! {
    /// `size[4] Tlock tag[2] fid[4] type[1] flags[4] start[8] length[8] proc_id[4] client_id[s]`
    pub struct Tlock<'a> {
        /// An open file.
        pub fid: Fid,
        /// `type`: lock or unlock.
        pub kind: LockType,
        /// Whether the caller waits.
        pub flags: LockFlags,
        /// The first byte.
        pub start: u64,
        /// How many bytes; 0: to the end, however far the file grows.
        pub length: u64,
        /// The process that will own the lock, in the client.
        pub proc_id: u32,
        /// The client; owners are equal when `proc_id` and `client_id` are.
        pub client_id: &'a [u8],
    }
}

message! {
    /// `size[4] Rlock tag[2] status[1]`
    pub struct Rlock {
        /// What became of it.
        pub status: LockStatus,
    }
}

message! {
    /// `size[4] Tgetlock tag[2] fid[4] type[1] start[8] length[8] proc_id[4] client_id[s]`: which lock would
    /// be in the way?
    pub struct Tgetlock<'a> {
        /// An open file.
        pub fid: Fid,
        /// `type` of the lock in question.
        pub kind: LockType,
        /// As in [`Tlock`].
        pub start: u64,
        /// As in [`Tlock`].
        pub length: u64,
        /// As in [`Tlock`].
        pub proc_id: u32,
        /// As in [`Tlock`].
        pub client_id: &'a [u8],
    }
}

message! {
    /// `size[4] Rgetlock tag[2] type[1] start[8] length[8] proc_id[4] client_id[s]`
    pub struct Rgetlock<'a> {
        /// `type` of the lock in the way, or [`LockType::Unlock`] if there is none; the rest is as in the
        /// request then.
        pub kind: LockType,
        /// Its first byte.
        pub start: u64,
        /// Its length.
        pub length: u64,
        /// The process that owns it.
        pub proc_id: u32,
        /// The client that owns it.
        pub client_id: &'a [u8],
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Tag, golden};
    use super::*;

    const FID: Fid = Fid(0x0304_0506);
    const TAG: Tag = Tag(0x0102);

    #[test]
    fn tlock_is_its_golden_bytes() {
        golden::request(
            "2b000000 34 0201 06050403 01 01000000 18171615 14131211 28272625 24232221 d2040000 0500 'node1'",
            TAG,
            Tlock {
                fid: FID,
                kind: LockType::Write,
                flags: LockFlags::BLOCK,
                start: 0x1112_1314_1516_1718,
                length: 0x2122_2324_2526_2728,
                proc_id: 1234,
                client_id: b"node1",
            },
        );
    }

    #[test]
    fn rlock_is_its_golden_bytes() {
        for (golden, status) in [
            ("08000000 35 0201 00", LockStatus::Success),
            ("08000000 35 0201 01", LockStatus::Blocked),
            ("08000000 35 0201 02", LockStatus::Error),
            ("08000000 35 0201 03", LockStatus::Grace),
            ("08000000 35 0201 04", LockStatus::Unknown(4)),
        ] {
            golden::reply(golden, TAG, Rlock { status });
        }
    }

    #[test]
    fn tgetlock_is_its_golden_bytes() {
        golden::request(
            "27000000 36 0201 06050403 00 18171615 14131211 28272625 24232221 d2040000 0500 'node1'",
            TAG,
            Tgetlock {
                fid: FID,
                kind: LockType::Read,
                start: 0x1112_1314_1516_1718,
                length: 0x2122_2324_2526_2728,
                proc_id: 1234,
                client_id: b"node1",
            },
        );
    }

    #[test]
    fn rgetlock_is_its_golden_bytes() {
        golden::reply(
            "23000000 37 0201 02 18171615 14131211 28272625 24232221 d2040000 0500 'node1'",
            TAG,
            Rgetlock {
                kind: LockType::Unlock,
                start: 0x1112_1314_1516_1718,
                length: 0x2122_2324_2526_2728,
                proc_id: 1234,
                client_id: b"node1",
            },
        );
    }
}
