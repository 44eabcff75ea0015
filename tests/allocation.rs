// SPDX-License-Identifier: MIT OR Apache-2.0

//! No request makes the server allocate, and no change a volume: all memory is there before the first one.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ops::ControlFlow;
use std::ptr::NonNull;

use skerry::fs::{
    AttributeChanges, AttributeExistence, Attributes, Caller, DirectoryEntry, Errno, FileKind, FileSystem,
    FileSystemStatus, NewFile, NewKind, Node, Position, Removal, Timestamp,
};
use skerry::mem::guest::{GuestAddress, GuestMemory};
use skerry::mem::scatter::ScatterList;
use skerry::mem::{Sink, Source};
use skerry::server::{ExportList, Exports, LockTable, Scratch, Session, SessionLimits};
use skerry::wire::{
    Fid, GetattrMask, LockFlags, LockType, MessageType, Names, OpenFlags, SetattrMask, Tag, Tattach, Tclunk,
    Tflush, Tfsync, Tgetattr, Tgetlock, Time, Tlcreate, Tlink, Tlock, Tlopen, Tmessage, Tmkdir, Tmknod,
    Tread, Treaddir, Treadlink, Tremove, Trename, Trenameat, Tsetattr, Tstatfs, Tsymlink, Tunlinkat,
    Tversion, Twalk, Twrite, Txattrcreate, Txattrwalk, UnlinkFlags, VERSION, XattrFlags,
};

/// The system's allocator, with a count for each thread.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call is passed on to `System` with the caller's own arguments, whose contract is the same.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get().wrapping_add(1)));
        // SAFETY: see above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: see above.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A directory (node 1) with a file (2) and a symbolic link (3).
struct Small;

const ENTRIES: [(&[u8], Node, FileKind); 4] = [
    (b".", Node(1), FileKind::Directory),
    (b"..", Node(1), FileKind::Directory),
    (b"file", Node(2), FileKind::Regular),
    (b"link", Node(3), FileKind::Symlink),
];

impl FileSystem for Small {
    fn root(&self) -> Node {
        Node(1)
    }

    fn lookup(&self, _directory: Node, name: &[u8]) -> Result<Node, Errno> {
        ENTRIES.iter().find(|entry| entry.0 == name).map(|entry| entry.1).ok_or(Errno::ENOENT)
    }

    fn parent(&self, directory: Node) -> Result<Node, Errno> {
        Ok(directory)
    }

    fn attributes(&self, node: Node) -> Result<Attributes, Errno> {
        let kind = ENTRIES.iter().find(|entry| entry.1 == node).ok_or(Errno::ENOENT)?.2;
        let now = Timestamp::default();
        Ok(Attributes {
            kind,
            mode: (kind as u32) << 12,
            uid: 0,
            gid: 0,
            links: 1,
            device: 0,
            size: 1000,
            block_size: 4096,
            blocks: 2,
            accessed: now,
            modified: now,
            changed: now,
            created: None,
            generation: None,
            data_version: None,
        })
    }

    fn read(&self, _node: Node, _offset: u64, count: u32, sink: &mut dyn Sink) -> Result<u32, Errno> {
        sink.put_zeros(count as usize).map_err(|_| Errno::EIO)?;
        Ok(count)
    }

    fn read_directory(
        &self,
        _directory: Node,
        offset: u64,
        visit: &mut dyn FnMut(&DirectoryEntry<'_>) -> ControlFlow<()>,
    ) -> Result<(), Errno> {
        for ((name, node, kind), next) in
            ENTRIES.into_iter().zip(1..).skip(usize::try_from(offset).unwrap_or(usize::MAX))
        {
            if visit(&DirectoryEntry { number: node.0, kind, next, name }).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn read_link(&self, _node: Node, sink: &mut dyn Sink) -> Result<(), Errno> {
        sink.put(b"file").map_err(|_| Errno::EIO)
    }

    fn list_attributes(&self, _node: Node, sink: &mut dyn Sink) -> Result<(), Errno> {
        sink.put(b"user.name\0").map_err(|_| Errno::EIO)
    }

    fn read_attribute(&self, _node: Node, _name: &[u8], sink: &mut dyn Sink) -> Result<(), Errno> {
        sink.put(b"value").map_err(|_| Errno::EIO)
    }

    fn status(&self) -> Result<FileSystemStatus, Errno> {
        Err(Errno::EUCLEAN)
    }

    fn check_writable(&self, _node: Node) -> Result<(), Errno> {
        Ok(())
    }

    fn write(
        &mut self,
        _caller: Caller,
        _node: Node,
        _position: Position,
        source: &mut dyn Source,
    ) -> Result<u32, Errno> {
        let mut bytes = [0; 64];
        let count = source.remaining().min(bytes.len());
        source.take(bytes.get_mut(..count).ok_or(Errno::EIO)?).map_err(|_| Errno::EIO)?;
        u32::try_from(count).map_err(|_| Errno::EIO)
    }

    fn create(
        &mut self,
        _caller: Caller,
        _directory: Node,
        _name: &[u8],
        _new: &NewFile<'_>,
    ) -> Result<Node, Errno> {
        Ok(Node(2))
    }

    fn link(&mut self, _caller: Caller, _node: Node, _directory: Node, _name: &[u8]) -> Result<(), Errno> {
        Ok(())
    }

    fn remove(&mut self, _directory: Node, _name: &[u8], _removal: Removal) -> Result<(), Errno> {
        Ok(())
    }

    fn rename(&mut self, _caller: Caller, _from: (Node, &[u8]), _to: (Node, &[u8])) -> Result<(), Errno> {
        Ok(())
    }

    fn set_attributes(
        &mut self,
        _caller: Caller,
        _node: Node,
        _changes: &AttributeChanges,
    ) -> Result<(), Errno> {
        Ok(())
    }

    fn set_attribute(
        &mut self,
        _caller: Caller,
        _node: Node,
        _name: &[u8],
        _value: &[u8],
        _existence: AttributeExistence,
    ) -> Result<(), Errno> {
        Ok(())
    }
}

/// What is changed, in a session that reads already. `here` and `file` are walks, to the root and to the file. The requests with
/// data carry [`DATA`].
fn changes<'a>(here: Names<'a>, file: Names<'a>) -> Vec<Tmessage<'a>> {
    let (root, made, value, removed) = (Fid(0), Fid(7), Fid(8), Fid(9));
    let (name, mode, gid, count) = (&b"new"[..], 0o644, 100, DATA_LENGTH);
    let walk = |newfid, wnames| Tmessage::from(Twalk { fid: root, newfid, wnames });
    let (time, valid, size) = (Time::default(), SetattrMask::all(), 10);
    let flags = OpenFlags::RDWR | OpenFlags::DSYNC;
    vec![
        Tflush { oldtag: Tag(7) }.into(),
        walk(made, here),
        Tlcreate { fid: made, name, flags, mode, gid }.into(),
        Twrite { fid: made, offset: 0, count }.into(),
        Tfsync { fid: made, datasync: 0 }.into(),
        Tsetattr { fid: made, valid, mode, uid: 1, gid, size, atime: time, mtime: time }.into(),
        Tsymlink { fid: root, name, symtgt: b"target", gid }.into(),
        Tmknod { dfid: root, name, mode, major: 0, minor: 0, gid }.into(),
        Tmkdir { dfid: root, name, mode, gid }.into(),
        Tlink { dfid: root, fid: Fid(1), name }.into(),
        Trename { fid: Fid(1), dfid: root, name }.into(),
        Trenameat { olddirfid: root, oldname: b"file", newdirfid: root, newname: name }.into(),
        Tunlinkat { dirfd: root, name: b"file", flags: UnlinkFlags::empty() }.into(),
        walk(value, file),
        Txattrcreate { fid: value, name: b"user.new", attr_size: count.into(), flags: XattrFlags::CREATE }
            .into(),
        Twrite { fid: value, offset: 0, count }.into(),
        Tclunk { fid: value }.into(),
        walk(removed, file),
        Tremove { fid: removed }.into(),
    ]
}

/// The data of each Twrite.
const DATA: [u8; 16] = [7; 16];
const DATA_LENGTH: u32 = 16;

#[test]
fn no_request_makes_the_server_allocate() {
    let request_mask = GetattrMask::ALL;
    let (fid, offset, count) = (Fid(1), 0, 4096);
    let (kind, start, length, proc_id, client_id) = (LockType::Write, 0, 0, 1, &b"host"[..]);
    let names: [&[&[u8]]; 4] = [&[b"file"], &[b"link"], &[], &[b"nothing"]];
    let walk = |newfid, names| Twalk { fid: Fid(0), newfid: Fid(newfid), wnames: Names::new(names).unwrap() };
    let attach = Tattach { fid: Fid(0), afid: Fid::NOFID, uname: b"", aname: b"/", n_uname: 0 };
    let reading: [Tmessage<'_>; 20] = [
        Tversion { msize: 8192, version: VERSION }.into(),
        attach.into(),
        walk(1, names[0]).into(),
        walk(2, names[1]).into(),
        walk(3, names[2]).into(),
        walk(4, names[3]).into(),
        Tlopen { fid, flags: OpenFlags::RDONLY }.into(),
        Tlopen { fid: Fid(3), flags: OpenFlags::RDONLY }.into(),
        Tread { fid, offset, count }.into(),
        Treaddir { fid: Fid(3), offset, count }.into(),
        Tlock { fid, kind, flags: LockFlags::BLOCK, start, length, proc_id, client_id }.into(),
        Tgetlock { fid, kind, start, length, proc_id: 2, client_id }.into(),
        Treadlink { fid: Fid(2) }.into(),
        Tgetattr { fid, request_mask }.into(),
        Tstatfs { fid }.into(),
        Txattrwalk { fid, newfid: Fid(5), name: b"user.name" }.into(),
        Txattrwalk { fid, newfid: Fid(6), name: b"" }.into(),
        Tread { fid: Fid(5), offset, count }.into(),
        Tclunk { fid: Fid(5) }.into(),
        Tclunk { fid: Fid(6) }.into(),
    ];
    let (here, file) = (Names::new(names[2]).unwrap(), Names::new(names[0]).unwrap());
    let requests = [&reading[..], &changes(here, file)].concat();

    let ram = Box::into_raw(vec![0_u8; 65_536].into_boxed_slice());
    let mut memory = GuestMemory::new();
    // SAFETY: the allocation was just given up by its owner and is never freed, so it stays mapped, and nobody holds
    // a reference to it.
    unsafe { memory.add_region(GuestAddress(0), 65_536, NonNull::new(ram.cast()).unwrap()) }.unwrap();
    let mut session = Session::new(SessionLimits { max_fids: 16, max_msize: 8192 });
    let (list, mut locks) = (ExportList::default(), LockTable::default());
    let (mut scratch, mut small) = (Box::new(Scratch::new()), Small);
    let (mut readable, mut writable) = (Box::new(ScatterList::new()), Box::new(ScatterList::new()));

    let before = ALLOCATIONS.with(Cell::get);
    for request in requests.iter().cycle().take(10 * requests.len()) {
        let mut bytes = [0; 256];
        let tag = if request.kind() == MessageType::Tversion { Tag::NOTAG } else { Tag(1) };
        let mut length = request.emit(tag, &mut bytes).unwrap();
        if request.data_length() > 0 {
            bytes[length..length + DATA.len()].copy_from_slice(&DATA);
            length += DATA.len();
        }
        let mut loader = readable.load(&memory);
        loader.push(GuestAddress(0), u32::try_from(length).unwrap()).unwrap();
        loader.into_writer().put(&bytes[..length]).unwrap();

        let mut request_room = readable.load(&memory);
        request_room.push(GuestAddress(0), u32::try_from(length).unwrap()).unwrap();
        let mut reply_room = writable.load(&memory);
        reply_room.push(GuestAddress(0x8000), 8192).unwrap();
        let mut exports = Exports::new(&mut small, &list, &mut locks);
        let (readable, writable) = (request_room.into_reader(), reply_room.into_writer());
        session.handle(&mut exports, readable, writable, &mut scratch).unwrap();
        exports.commit().unwrap();
    }
    session.reset();
    session.settle(&mut Exports::new(&mut small, &list, &mut locks));
    assert_eq!(ALLOCATIONS.with(Cell::get), before);
    assert!(before > 0, "the count would have noticed");

    // Of each round, only the walk to nothing and Tstatfs fail; so the others did what they are here for.
    assert_eq!(session.statistics().errors, 20);
}

/// A volume of 64 MiB with blocks of 1 KiB, as `mkfs.ext4` makes it.
#[expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot have its volume fails")]
fn volume() -> skerry::ext4::Volume<Vec<u8>> {
    let path = std::env::temp_dir().join(format!("skerry-allocation-{}", std::process::id()));
    let made = std::process::Command::new("mkfs.ext4")
        .args(["-q", "-F", "-b", "1024"])
        .arg(&path)
        .arg("64M")
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .output()
        .unwrap_or_else(|error| panic!("mkfs.ext4: {error} (the tests need the package e2fsprogs)"));
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let bytes = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let clock = || Timestamp { seconds: 1_800_000_000, nanoseconds: 0 };
    skerry::ext4::Volume::mount_writable(bytes, clock).unwrap()
}

#[test]
fn no_change_of_a_volume_allocates() {
    const FILES: usize = 2500;
    let names: Vec<String> = (0..FILES).map(|number| format!("a name that fills leaves {number}")).collect();
    let mut volume = volume();
    let (root, user) = (volume.root(), Caller { uid: 1000 });
    let new = |kind| NewFile { kind, mode: 0o755, uid: 1000, gid: 1000 };
    let data = vec![7; 100_000];
    let before = ALLOCATIONS.with(Cell::get);

    let directory = volume.create(user, root, b"directory", &new(NewKind::Directory)).unwrap();
    let scattered = volume.create(user, root, b"scattered", &new(NewKind::Regular)).unwrap();
    volume.retain(scattered).unwrap();
    for (place, name) in (0..).zip(&names) {
        let file = volume.create(user, directory, name.as_bytes(), &new(NewKind::Regular)).unwrap();
        volume.write(user, file, Position::End, &mut &data[..1500]).unwrap();
        volume.write(user, scattered, Position::At(place * 3000), &mut &data[..1000]).unwrap();
        volume.set_attribute(user, file, b"user.name", &data[..300], AttributeExistence::Any).unwrap();
        if place % 7 == 0 {
            volume.commit().unwrap();
        }
        if place % 500 == 0 {
            volume.synchronize().unwrap();
        }
    }
    volume.remove(root, b"scattered", Removal::File).unwrap();
    volume.write(user, scattered, Position::At(0), &mut &data[..]).unwrap();
    volume.release(scattered);
    let other = volume.create(user, root, b"other", &new(NewKind::Directory)).unwrap();
    for (place, name) in names.iter().enumerate() {
        let from = (directory, name.as_bytes());
        match place % 3 {
            0 => volume.rename(user, from, (other, name.as_bytes())).unwrap(),
            1 => volume.remove(directory, name.as_bytes(), Removal::File).unwrap(),
            _ => {
                let file = volume.lookup(directory, name.as_bytes()).unwrap();
                let size = AttributeChanges { size: Some(700), ..AttributeChanges::default() };
                volume.set_attributes(user, file, &size).unwrap();
                volume.link(user, file, other, name.as_bytes()).unwrap();
            }
        }
        if place % 8 == 0 {
            volume.commit().unwrap();
        }
    }
    volume.synchronize().unwrap();
    assert_eq!(ALLOCATIONS.with(Cell::get) - before, 0);
}
