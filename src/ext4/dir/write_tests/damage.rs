// SPDX-License-Identifier: MIT OR Apache-2.0

//! Changing damaged directories.

use super::*;

#[test]
fn no_byte_of_a_directory_can_make_a_change_panic() {
    let options = ["-b", "1024", "-O", "^metadata_csum,^uninit_bg"];
    for (names, seed) in [(3, 1), (200, 2)] {
        let mut numbers = Numbers(seed);
        let mut subject = Subject::new("4M", &options);
        churn(&mut subject, &mut numbers, names, names);
        // What is changed below is what is read then.
        subject.volume.flush_volume().unwrap();
        let places: Vec<usize> = {
            let directory = subject.volume.directory_of(subject.directory).unwrap();
            (0..directory.layout().unwrap().index.blocks.min(4))
                .map(|block| usize::try_from(directory.physical(block).unwrap()).unwrap() * 1024)
                .collect()
        };
        let (directory, inode) = (subject.directory, subject.files[0]);
        for _ in 0..4000 {
            let area = [64, 1024][numbers.below(2)];
            let place = places[numbers.below(places.len())] + numbers.below(area);
            let before = subject.volume.region[place];
            subject.volume.region[place] = [0, 1, 0x7f, 0xff, numbers.byte()][numbers.below(5)];
            let new = name(&mut numbers, 255);
            let known = subject.some_name(&mut numbers).unwrap();
            // None of them is committed.
            let failed: Result<(), Error> = subject.volume.atomically(|volume| {
                for _ in 0..4 {
                    let _ = volume.insert_name(directory, &new, inode, FileKind::Regular, Caller::ROOT);
                }
                let _ = volume.replace_name(directory, &known, inode, FileKind::Fifo);
                let _ = volume.remove_name(directory, &known);
                let _ = volume.set_parent(directory, 2);
                let _ = volume.is_empty_directory(directory);
                let listed = volume.directory_of(directory)?.read(0, &mut |_| ControlFlow::Continue(()));
                Err(listed.err().unwrap_or(Errno::EIO.into()))
            });
            assert!(failed.is_err());
            subject.volume.region[place] = before;
        }
        subject.check();
    }
}

#[test]
fn a_damaged_index_is_not_changed() {
    let mut subject = Subject::new("4M", &["-b", "1024", "-O", "^metadata_csum,^uninit_bg"]);
    churn(&mut subject, &mut Numbers(0xbad), 300, 300);
    subject.volume.flush_volume().unwrap();
    let (directory, file) = (subject.directory, subject.files[0]);
    let (first, leaf) = {
        let directory = subject.volume.directory_of(directory).unwrap();
        assert!(directory.is_indexed());
        [0, 1].map(|block| usize::try_from(directory.physical(block).unwrap()).unwrap() * 1024).into()
    };
    // limit, count, reserved_zero, hash_version; `..`; each record's length in one leaf.
    for (place, byte) in
        [(first + 32, 1), (first + 34, 0), (first + 24, 1), (first + 28, 9), (first + 16, 12), (leaf + 4, 3)]
    {
        let before = core::mem::replace(&mut subject.volume.region[place], byte);
        if place == first + 34 {
            subject.volume.region[place + 1] = 0;
        }
        let mut damaged = 0;
        for number in 0..1000 {
            let result = subject.volume.atomically(|volume| {
                let name = format!("new-{number}");
                volume.insert_name(directory, name.as_bytes(), file, FileKind::Regular, Caller::ROOT)?;
                Err::<(), Error>(Errno::EIO.into())
            });
            match result {
                Err(Error::Corrupt(Damage::Directory { inode, .. })) if inode == directory => damaged += 1,
                Err(Error::Reply(Errno::EIO)) => {}
                other => panic!("{other:?}"),
            }
        }
        assert!(damaged == 1000 || (place > leaf && damaged > 0), "{damaged} at {}", place - first);
        subject.volume.region[place] = before;
    }
    subject.check();
}
