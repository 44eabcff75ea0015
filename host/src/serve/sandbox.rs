// SPDX-License-Identifier: MIT OR Apache-2.0

//! What a server in host mode can still ask of the kernel once it serves: the system calls of one table, and no new privileges.
//!
//! A call that is not in the table ends the process (SIGSYS). There is none that opens a file, makes a socket, starts a program
//! or a thread, or makes memory executable: the descriptors that there will be are those that the process has when it enters the
//! sandbox, and those that clients send.

use std::collections::BTreeMap;
use std::ffi::{c_int, c_long};

use anyhow::{Context, Result, bail};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter_all_threads,
};

/// With which arguments a call is allowed.
#[derive(Debug, Clone, Copy)]
enum When {
    Always,
    /// If the protection, argument 2, does not make memory executable.
    NotExecutable,
    /// If the command, argument 1, is one of these.
    Commands(&'static [c_int]),
}

/// A system call that is allowed.
#[derive(Debug, Clone, Copy)]
struct Allowed {
    name: &'static str,
    call: c_long,
    when: When,
}

const fn allowed(name: &'static str, call: c_long) -> Allowed {
    Allowed { name, call, when: When::Always }
}

/// Commands of `fcntl`: duplicating a descriptor, its flags, and the seals of a client's memory.
const DESCRIPTOR_COMMANDS: &[c_int] =
    &[libc::F_DUPFD_CLOEXEC, libc::F_GETFD, libc::F_GETFL, libc::F_SETFL, libc::F_GET_SEALS];

/// All that is allowed, each with what it is for. docs/threat-model.md has the same list.
const TABLE: &[Allowed] = &[
    // Serving a ring.
    // Eventfds.
    allowed("read", libc::SYS_read),
    // Eventfds; the log.
    allowed("write", libc::SYS_write),
    // Sleeping until a kick.
    allowed("epoll_wait", libc::SYS_epoll_wait),
    // The same, as some C libraries call it.
    allowed("epoll_pwait", libc::SYS_epoll_pwait),
    // A client's kick eventfd comes and goes.
    allowed("epoll_ctl", libc::SYS_epoll_ctl),
    // Flushing the volume.
    allowed("fdatasync", libc::SYS_fdatasync),
    // The sockets, which were bound before.
    // The next client of a socket.
    allowed("accept4", libc::SYS_accept4),
    // Vhost-user requests, with descriptors.
    allowed("recvmsg", libc::SYS_recvmsg),
    // Vhost-user replies.
    allowed("sendmsg", libc::SYS_sendmsg),
    // A signal's wake-up.
    allowed("recvfrom", libc::SYS_recvfrom),
    // A signal's wake-up.
    allowed("sendto", libc::SYS_sendto),
    // Turning a client away.
    allowed("shutdown", libc::SYS_shutdown),
    // Whether a client has hung up.
    allowed("poll", libc::SYS_poll),
    // The same, as some C libraries call it.
    allowed("ppoll", libc::SYS_ppoll),
    // What a client handed over.
    allowed("close", libc::SYS_close),
    // The size of a client's memory.
    allowed("fstat", libc::SYS_fstat),
    // Copies of descriptors; the seals of a client's memory.
    Allowed { name: "fcntl", call: libc::SYS_fcntl, when: When::Commands(DESCRIPTOR_COMMANDS) },
    // Memory: clients' and the heap.
    // A client's memory; the heap.
    Allowed { name: "mmap", call: libc::SYS_mmap, when: When::NotExecutable },
    // The heap.
    Allowed { name: "mprotect", call: libc::SYS_mprotect, when: When::NotExecutable },
    // A client's memory; the heap; a thread's stack.
    allowed("munmap", libc::SYS_munmap),
    // The heap.
    allowed("mremap", libc::SYS_mremap),
    // The heap; a thread's stack.
    allowed("madvise", libc::SYS_madvise),
    // The heap.
    allowed("brk", libc::SYS_brk),
    // Threads and time.
    // Locks.
    allowed("futex", libc::SYS_futex),
    // Locks.
    allowed("sched_yield", libc::SYS_sched_yield),
    // The time, where the kernel's page does not tell it.
    allowed("clock_gettime", libc::SYS_clock_gettime),
    // Waiting for a former client's end.
    allowed("clock_nanosleep", libc::SYS_clock_nanosleep),
    // The same, as some C libraries call it.
    allowed("nanosleep", libc::SYS_nanosleep),
    // Going on after SIGSTOP.
    allowed("restart_syscall", libc::SYS_restart_syscall),
    // Keys of hash tables.
    allowed("getrandom", libc::SYS_getrandom),
    // Signals and the end.
    // A thread's end; abort.
    allowed("rt_sigprocmask", libc::SYS_rt_sigprocmask),
    // Abort.
    allowed("rt_sigaction", libc::SYS_rt_sigaction),
    // A signal handler's end.
    allowed("rt_sigreturn", libc::SYS_rt_sigreturn),
    // A thread's end.
    allowed("sigaltstack", libc::SYS_sigaltstack),
    // Abort.
    allowed("getpid", libc::SYS_getpid),
    // Abort.
    allowed("gettid", libc::SYS_gettid),
    // Abort.
    allowed("tgkill", libc::SYS_tgkill),
    // A thread's end.
    allowed("exit", libc::SYS_exit),
    // The end.
    allowed("exit_group", libc::SYS_exit_group),
];

/// The first descriptor behind standard input, output and error.
const FIRST_OTHER: u32 = 3;

/// Readies the process for the sandbox: closes what it has inherited but the three standard streams.
///
/// # Errors
/// If the system or the C library refuses.
///
/// # Safety
/// To be called before there is a second thread, and while nothing in this process has a descriptor of its own.
pub unsafe fn prepare() -> Result<()> {
    // SAFETY: no descriptor from the first one on belongs to anything here (the caller's word); the call takes numbers only.
    if unsafe { libc::close_range(FIRST_OTHER, u32::MAX, 0) } != 0 {
        return Err(std::io::Error::last_os_error()).context("cannot close what was inherited");
    }
    // One heap for all threads: before it makes another, the C library asks how many processors there are, for which it opens a
    // file. While serving nothing is allocated.
    // SAFETY: `mallopt` takes two numbers and has no precondition; there is no other thread (the caller's word), as the manual
    // wants.
    if unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) } != 1 {
        bail!("the C library does not take M_ARENA_MAX");
    }
    Ok(())
}

/// Lets all threads of the process in, for good.
///
/// # Errors
/// If the kernel has no seccomp.
pub fn enter() -> Result<()> {
    let program = program(SeccompAction::KillProcess)?;
    log::debug!(
        "the sandbox allows{}",
        TABLE.iter().map(|allowed| format!(" {}", allowed.name)).collect::<String>()
    );
    apply_filter_all_threads(&program).context("cannot enter the sandbox (seccomp)")
}

/// The filter; a call that is not allowed is answered with `otherwise`.
fn program(otherwise: SeccompAction) -> Result<BpfProgram> {
    let mut rules = BTreeMap::new();
    for allowed in TABLE {
        rules.insert(allowed.call, conditions(allowed.when)?);
    }
    let architecture = std::env::consts::ARCH.try_into()?;
    let filter = SeccompFilter::new(rules, otherwise, SeccompAction::Allow, architecture)?;
    Ok(filter.try_into()?)
}

/// Any of these must hold; none: the call is allowed as it is.
fn conditions(when: When) -> Result<Vec<SeccompRule>> {
    let rule = |index, operator, value| -> Result<SeccompRule> {
        let condition = SeccompCondition::new(index, SeccompCmpArgLen::Dword, operator, value)?;
        Ok(SeccompRule::new(vec![condition])?)
    };
    match when {
        When::Always => Ok(Vec::new()),
        When::NotExecutable => {
            let executable = u64::from(libc::PROT_EXEC.cast_unsigned());
            Ok(vec![rule(2, SeccompCmpOp::MaskedEq(executable), 0)?])
        }
        When::Commands(commands) => commands
            .iter()
            .map(|command| rule(1, SeccompCmpOp::Eq, u64::from(command.cast_unsigned())))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::ErrorKind::PermissionDenied;
    use std::os::unix::net::UnixStream;

    /// What `work` finds in a thread where a forbidden call is an error, instead of the end.
    fn inside<T: Send>(work: impl FnOnce() -> T + Send) -> T {
        let program = program(SeccompAction::Errno(libc::EPERM.cast_unsigned())).unwrap();
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                seccompiler::apply_filter(&program).unwrap();
                work()
            });
            thread.join().unwrap()
        })
    }

    #[test]
    fn no_file_socket_program_or_executable_memory_can_be_made() {
        let refused = inside(|| {
            [
                File::open("/dev/null").map(drop),
                UnixStream::pair().map(drop),
                std::process::Command::new("/bin/true").status().map(drop),
                std::fs::remove_file("/nonexistent"),
                memmap2::MmapMut::map_anon(4096).and_then(memmap2::MmapMut::make_exec).map(drop),
                memmap2::MmapOptions::new().len(4096).map_anon().map(drop),
            ]
            .map(|outcome| outcome.map_err(|error| error.kind()))
        });
        let [refused @ .., plain_memory] = refused;
        assert_eq!(refused, [Err(PermissionDenied); 5]);
        assert_eq!(plain_memory, Ok(()));
    }

    #[test]
    fn descriptors_are_copied_and_their_other_properties_left_alone() {
        let file = tempfile::tempfile().unwrap();
        let (copied, inheritable) = inside(|| {
            let copied = file.try_clone().map(drop);
            let inheritable = rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty());
            (copied.map_err(|error| error.kind()), inheritable)
        });
        assert_eq!((copied, inheritable), (Ok(()), Err(rustix::io::Errno::PERM)));
    }

    #[test]
    fn the_document_lists_every_call_that_is_allowed_and_no_other() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/threat-model.md");
        let text = std::fs::read_to_string(path).unwrap();
        let (_, table) = text.split_once("| system call | for |\n").unwrap();
        let listed: Vec<&str> = table
            .lines()
            .take_while(|line| line.starts_with('|'))
            .filter_map(|line| line.strip_prefix("| `")?.split_once("` |"))
            .map(|(name, _)| name)
            .collect();
        let allowed: Vec<&str> = TABLE.iter().map(|allowed| allowed.name).collect();
        assert_eq!(listed, allowed);
    }
}
