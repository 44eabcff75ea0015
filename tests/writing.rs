// SPDX-License-Identifier: MIT OR Apache-2.0

//! Writing, over the preallocated ring: what was answered is there, read back at once, after an orderly end, and after the
//! service VM was killed. The judges of the volume are e2fsck, debugfs and dumpe2fs; and, of what each test leaves, those of
//! `tests/kernel.rs`.

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::process::{Pid, Signal, kill_process};
use skerry::wire::{
    Fid, GetattrMask, LockFlags, LockStatus, LockType, OpenFlags, SetattrMask, Tgetlock, Time, Tlock,
    Tsetattr, UnlinkFlags, XattrFlags,
};
use skerry_host::client::{Client, ClientError, RingTransport};
use skerry_host::front_end::Options;
use support::{Volume, is_clean, is_recoverable, judge, pattern};

const ENOENT: u32 = 2;
const EEXIST: u32 = 17;
const EROFS: u32 = 30;

type Session = Client<RingTransport>;

/// Brings the volume to rest, as the bridge does.
fn rest(client: &mut Session) {
    let (ctl, _) = client.attach(b"ctl").unwrap();
    let file = client.walk_path(ctl, b"volume").unwrap();
    client.open(file, OpenFlags::WRONLY).unwrap();
    client.write(file, 0, b"rest\n").unwrap();
    let state = String::from_utf8(client.read_file(ctl, b"volume").unwrap()).unwrap();
    assert!(state.contains("last_rest done\n"), "{state}");
    client.clunk(file).unwrap();
    client.clunk(ctl).unwrap();
}

/// A request that changes only what `valid` says.
fn change(fid: Fid, valid: SetattrMask) -> Tsetattr {
    let never = Time { sec: 0, nsec: 0 };
    Tsetattr { fid, valid, mode: 0, uid: 0, gid: 0, size: 0, atime: never, mtime: never }
}

/// Looks at all that [`change_everything`] did.
fn has_everything(client: &mut Session) {
    let (root, _) = client.attach(b"").unwrap();
    let content = pattern(1 << 20);
    assert!(client.read_file(root, b"made/large").unwrap() == content, "large differs");
    assert_eq!(client.read_file(root, b"made/moved").unwrap(), b"first\n");
    assert_eq!(client.read_file(root, b"made/second name").unwrap(), b"first\n");
    assert_eq!(client.read_file(root, b"big").unwrap(), pattern(support::BIG)[..100]);
    assert_eq!(client.walk_path(root, b"hello").unwrap_err().errno(), Some(ENOENT));
    assert_eq!(client.walk_path(root, b"gone").unwrap_err().errno(), Some(ENOENT));
    let link = client.walk_path(root, b"made/link").unwrap();
    assert_eq!(client.readlink(link).unwrap(), b"../dir/inner/leaf");
    let moved = client.walk_path(root, b"made/moved").unwrap();
    let attributes = client.getattr(moved, GetattrMask::ALL).unwrap();
    assert_eq!((attributes.mode & 0o7777, attributes.uid, attributes.gid), (0o640, 7, 8));
    assert_eq!((attributes.nlink, attributes.mtime), (2, Time { sec: 1_000_000_000, nsec: 5 }));
    assert_eq!(client.xattr(moved, b"user.colour").unwrap(), b"blue");
    let pipe = client.walk_path(root, b"made/pipe").unwrap();
    assert_eq!(client.getattr(pipe, GetattrMask::BASIC).unwrap().mode, 0o010_600);
    client.clunk(root).unwrap();
}

/// One of each request that changes something.
fn change_everything(client: &mut Session) {
    let (root, _) = client.attach(b"").unwrap();
    client.mkdir(root, b"made", 0o755, 0).unwrap();
    let made = client.walk_path(root, b"made").unwrap();
    client.create_file(made, b"large", &pattern(1 << 20)).unwrap();
    client.create_file(root, b"first", b"first\n").unwrap();
    assert_eq!(client.create(root, b"first").unwrap_err().errno(), Some(EEXIST));
    let first = client.walk_path(root, b"first").unwrap();
    client.link(made, first, b"second name").unwrap();
    client.renameat((root, b"first"), (made, b"moved")).unwrap();
    client.symlink(made, b"link", b"../dir/inner/leaf", 0).unwrap();
    client.mknod(made, b"pipe", 0o010_600, (0, 0), 0).unwrap();
    let valid = SetattrMask::MODE | SetattrMask::UID | SetattrMask::GID;
    client.setattr(Tsetattr { mode: 0o640, uid: 7, gid: 8, ..change(first, valid) }).unwrap();
    let mtime = Time { sec: 1_000_000_000, nsec: 5 };
    client.setattr(Tsetattr { mtime, ..change(first, SetattrMask::MTIME | SetattrMask::MTIME_SET) }).unwrap();
    client.set_xattr(first, b"user.colour", b"red", XattrFlags::CREATE).unwrap();
    client.set_xattr(first, b"user.colour", b"blue", XattrFlags::REPLACE).unwrap();
    let big = client.walk_path(root, b"big").unwrap();
    client.setattr(Tsetattr { size: 100, ..change(big, SetattrMask::SIZE) }).unwrap();
    client.unlinkat(root, b"hello", UnlinkFlags::empty()).unwrap();
    client.mkdir(root, b"gone", 0o700, 0).unwrap();
    client.unlinkat(root, b"gone", UnlinkFlags::REMOVEDIR).unwrap();
    client.create_file(root, b"removed", b"").unwrap();
    let removed = client.walk_path(root, b"removed").unwrap();
    client.remove(removed).unwrap();
    for fid in [made, first, big, root] {
        client.clunk(fid).unwrap();
    }
}

#[test]
fn what_is_changed_is_seen_at_once_and_by_others_after_an_orderly_end() {
    let volume = Volume::new();
    let (mut vm, mut client) = volume.serve();
    change_everything(&mut client);
    has_everything(&mut client);
    rest(&mut client);
    let (root, _) = client.attach(b"").unwrap();
    assert_eq!(client.create(root, b"too late").unwrap_err().errno(), Some(EROFS));
    vm.kill();
    drop(vm);
    is_clean(&volume.path());
    let listed = judge("debugfs", &["-R", "ls -p /made"], &volume.path());
    for name in ["large", "moved", "second name", "link", "pipe"] {
        assert!(listed.contains(&format!("/{name}/")), "{listed}");
    }
    volume.keep("orderly-end");
    let (_vm, mut client) = volume.serve_readonly();
    has_everything(&mut client);
}

#[test]
fn what_is_changed_is_there_after_the_service_vm_was_killed_without_notice() {
    let volume = Volume::new();
    let (mut vm, mut client) = volume.serve();
    change_everything(&mut client);
    vm.kill();
    drop(vm);
    is_recoverable(&volume.path());
    volume.keep("killed-without-notice");
    let (mut vm, mut client) = volume.serve();
    has_everything(&mut client);
    rest(&mut client);
    vm.kill();
    drop(vm);
    is_clean(&volume.path());
    volume.keep("recovered");
}

#[test]
fn a_volume_that_nobody_changed_is_recoverable_after_a_kill_and_clean_after_an_orderly_end() {
    let volume = Volume::new();
    for _ in 0..2 {
        let (mut vm, mut client) = volume.serve();
        client.attach(b"").unwrap();
        vm.kill();
        drop(vm);
        is_recoverable(&volume.path());
        volume.keep("unchanged-killed");
    }
    let (mut vm, mut client) = volume.serve();
    rest(&mut client);
    let (root, _) = client.attach(b"").unwrap();
    assert_eq!(client.read_file(root, b"hello").unwrap(), b"Hello, skerry!\n");
    vm.kill();
    drop(vm);
    is_clean(&volume.path());
    volume.keep("unchanged");
}

#[test]
fn a_new_file_has_the_hosts_time() {
    let volume = Volume::new();
    let (vm, mut client) = volume.serve();
    let (root, _) = client.attach(b"").unwrap();
    let seconds = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().cast_signed();
    let before = seconds();
    let file = client.create(root, b"new").unwrap();
    let Time { sec, nsec } = client.getattr(file, GetattrMask::ALL).unwrap().mtime;
    assert!((before - 2..=seconds() + 2).contains(&sec), "{sec} when it is {before}");
    assert!(nsec < 1_000_000_000);
    client.write(file, 0, b"x").unwrap();
    let later = client.getattr(file, GetattrMask::ALL).unwrap().mtime;
    assert!((later.sec, later.nsec) >= (sec, nsec), "{later:?}");
    drop(vm);
    volume.keep("new-file");
}

#[test]
fn a_file_that_was_removed_while_open_is_reclaimed_after_a_kill() {
    let volume = Volume::new();
    let (mut vm, mut client) = volume.serve();
    let (root, _) = client.attach(b"").unwrap();
    let free = client.statfs(root).unwrap().bfree;
    let file = client.create(root, b"doomed").unwrap();
    client.write_all(file, 0, &pattern(1 << 20)).unwrap();
    client.unlinkat(root, b"doomed", UnlinkFlags::empty()).unwrap();
    assert!(client.read(file, 0, 100).unwrap() == pattern(100));
    vm.kill();
    drop(vm);
    volume.keep("removed-while-open");
    let (mut vm, mut client) = volume.serve();
    let (root, _) = client.attach(b"").unwrap();
    assert_eq!(client.statfs(root).unwrap().bfree, free);
    rest(&mut client);
    vm.kill();
    drop(vm);
    is_clean(&volume.path());
    volume.keep("reclaimed");
}

#[test]
fn a_lock_is_refused_to_another_process_and_told_to_it() {
    let volume = Volume::new();
    let (vm, mut client) = volume.serve();
    let (root, _) = client.attach(b"").unwrap();
    let file = client.create(root, b"locked").unwrap();
    let lock = |proc_id, kind| Tlock {
        fid: file,
        kind,
        flags: LockFlags::empty(),
        start: 10,
        length: 20,
        proc_id,
        client_id: b"client",
    };
    assert_eq!(client.lock(lock(1, LockType::Write)).unwrap(), LockStatus::Success);
    assert_eq!(client.lock(lock(2, LockType::Read)).unwrap(), LockStatus::Blocked);
    let Tlock { fid, kind, start, length, client_id, .. } = lock(2, LockType::Read);
    let question = Tgetlock { fid, kind, start, length, proc_id: 2, client_id };
    let held = client.getlock(question).unwrap().unwrap();
    assert_eq!((held.kind, held.start, held.length, held.proc_id), (LockType::Write, 10, 20, 1));
    assert_eq!(client.lock(lock(1, LockType::Unlock)).unwrap(), LockStatus::Success);
    assert_eq!(client.getlock(question).unwrap(), None);
    drop(vm);
    volume.keep("locked");
}

/// What must be there: each answered request has been put in.
#[derive(Default)]
struct Model {
    files: BTreeMap<String, Vec<u8>>,
    doubtful: Option<Change>,
}

/// A change that may not have been answered: what the file was, and what it would have become. `None` is no file.
struct Change {
    name: String,
    before: Option<Vec<u8>>,
    after: Option<Vec<u8>>,
}

impl Model {
    /// Makes, writes and removes files one after the other until the server is gone.
    fn work(&mut self, client: &mut Session, round: u32) -> ClientError {
        let (root, _) = match client.attach(b"") {
            Ok(attached) => attached,
            Err(error) => return error,
        };
        for number in 0.. {
            let name = format!("round-{round}-{number}");
            let content = pattern(1 + number * 7919 % 50_000);
            if let Err(error) = self.one(client, root, &name, &content) {
                return error;
            }
            if number % 3 == 2 {
                let name = format!("round-{round}-{}", number - 1);
                let before = self.files.get(&name).cloned();
                self.doubtful = Some(Change { name: name.clone(), before, after: None });
                if let Err(error) = client.unlinkat(root, name.as_bytes(), UnlinkFlags::empty()) {
                    return error;
                }
                self.files.remove(&name);
            }
        }
        unreachable!("it ends with the server")
    }

    fn one(
        &mut self,
        client: &mut Session,
        root: Fid,
        name: &str,
        content: &[u8],
    ) -> Result<(), ClientError> {
        let made = Change { name: name.to_owned(), before: None, after: Some(Vec::new()) };
        self.doubtful = Some(made);
        let file = client.walk_path(root, b"")?;
        client.lcreate(file, name.as_bytes(), OpenFlags::RDWR | OpenFlags::CREATE, 0o600, 0)?;
        self.files.insert(name.to_owned(), Vec::new());
        let after = Some(content.to_owned());
        self.doubtful = Some(Change { name: name.to_owned(), before: Some(Vec::new()), after });
        let written = client.write(file, 0, content)?;
        assert_eq!(written as usize, content.len());
        self.files.insert(name.to_owned(), content.to_owned());
        client.clunk(file)
    }

    /// Compares, and takes over what the doubtful request came to.
    fn compare(&mut self, client: &mut Session) {
        let (root, _) = client.attach(b"").unwrap();
        let found = |client: &mut Session, name: &str| match client.read_file(root, name.as_bytes()) {
            Ok(content) => Some(content),
            Err(error) if error.errno() == Some(ENOENT) => None,
            Err(error) => panic!("{name}: {error}"),
        };
        if let Some(Change { name, before, after }) = self.doubtful.take() {
            let content = found(client, &name);
            assert!(content == before || content == after, "{name} is half there");
            match content {
                Some(content) => self.files.insert(name, content),
                None => self.files.remove(&name),
            };
        }
        for (name, content) in &self.files {
            assert!(found(client, name).as_ref() == Some(content), "{name} is not what was answered");
        }
        let directory = client.walk_path(root, b"").unwrap();
        client.open(directory, OpenFlags::RDONLY).unwrap();
        let listed = client.list(directory).unwrap();
        let listed: Vec<_> = listed.iter().filter(|entry| entry.name.starts_with(b"round-")).collect();
        assert_eq!(listed.len(), self.files.len(), "names that nobody made, or that were removed");
    }
}

#[test]
fn nothing_that_was_answered_is_lost_when_the_service_vm_is_killed_at_work() {
    const ROUNDS: u32 = 5;
    let volume = Volume::new();
    let mut model = Model::default();
    for round in 0..ROUNDS {
        let (vm, mut client) = volume.serve();
        model.compare(&mut client);
        let process = Pid::from_raw(vm.process_id().cast_signed()).unwrap();
        // Another moment each time.
        let moment = Duration::from_micros(50_000 + u64::from(round) * 131_071 % 300_000);
        let killer = std::thread::spawn(move || {
            std::thread::sleep(moment);
            kill_process(process, Signal::KILL).unwrap();
        });
        let error = model.work(&mut client, round);
        assert!(error.to_string().contains("the service VM has ended"), "{error}");
        killer.join().unwrap();
        drop(vm);
        is_recoverable(&volume.path());
        volume.keep(&format!("killed-at-work-{round}"));
        println!("round {round}: {} files, killed after {moment:?}", model.files.len());
    }
    let (mut vm, mut client) = volume.serve();
    model.compare(&mut client);
    rest(&mut client);
    vm.kill();
    drop(vm);
    is_clean(&volume.path());
    volume.keep("after-work");
    assert!(model.files.len() > 10, "{} files are no load", model.files.len());
}

#[test]
fn a_client_of_the_bridge_writes_and_the_bridge_leaves_a_clean_volume() {
    let volume = Volume::new();
    let bridge = volume.bridge(1);
    let (front_end, mut client) =
        support::session(&volume.socket(0), Options::default(), Duration::from_secs(20));
    change_everything(&mut client);
    has_everything(&mut client);
    drop((client, front_end));
    bridge.shut_down().unwrap();
    is_clean(&volume.path());
    exports_apply(&volume.path());
    is_clean(&volume.path());
    volume.keep("exports");
}

/// An export's options hold for those who attach to it.
fn exports_apply(volume: &Path) {
    use skerry_host::service_vm::{Options, ServiceVm};
    let exports = vec!["/made:readonly".to_owned(), "/dir".to_owned()];
    let options = Options { exports, ..Options::new(volume).unwrap() };
    let (mut vm, connections) = ServiceVm::start(&options).unwrap();
    let mut client = vm.connect(connections.requests).unwrap();
    assert_eq!(client.attach(b"").unwrap_err().errno(), Some(ENOENT));
    let (made, _) = client.attach(b"/made").unwrap();
    assert_eq!(client.create(made, b"new").unwrap_err().errno(), Some(EROFS));
    let (inner, _) = client.attach(b"/dir/inner").unwrap();
    client.create_file(inner, b"new", b"new\n").unwrap();
    rest(&mut client);
    vm.kill();
}
