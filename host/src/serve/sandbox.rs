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
    call: c_long,
    when: When,
    /// What it is for, in a word or two.
    #[cfg_attr(not(test), allow(dead_code, reason = "the table is the documentation; a test holds it to docs/threat-model.md"))]
    purpose: &'static str,
}

const fn allowed(call: c_long, purpose: &'static str) -> Allowed {
    Allowed { call, when: When::Always, purpose }
}

const fn allowed_when(call: c_long, when: When, purpose: &'static str) -> Allowed {
    Allowed { call, when, purpose }
}

/// Commands of `fcntl`: duplicating a descriptor, its flags, and the seals of a client's memory.
const DESCRIPTOR_COMMANDS: &[c_int] =
    &[libc::F_DUPFD_CLOEXEC, libc::F_GETFD, libc::F_GETFL, libc::F_SETFL, libc::F_GET_SEALS];

/// All that is allowed.
const TABLE: &[Allowed] = &[
    // Serving a ring.
    allowed(libc::SYS_read, "eventfds"),
    allowed(libc::SYS_write, "eventfds, the log"),
    allowed(libc::SYS_epoll_wait, "sleeping until a kick"),
    allowed(libc::SYS_epoll_pwait, "sleeping until a kick"),
    allowed(libc::SYS_epoll_ctl, "a client's kick eventfd comes and goes"),
    allowed(libc::SYS_fdatasync, "flushing the volume"),
    // The sockets, which were bound before.
    allowed(libc::SYS_accept4, "the next client of a socket"),
    allowed(libc::SYS_recvmsg, "vhost-user requests, with descriptors"),
    allowed(libc::SYS_sendmsg, "vhost-user replies"),
    allowed(libc::SYS_recvfrom, "a signal's wake-up"),
    allowed(libc::SYS_sendto, "a signal's wake-up"),
    allowed(libc::SYS_shutdown, "turning a client away"),
    allowed(libc::SYS_poll, "whether a client has hung up"),
    allowed(libc::SYS_ppoll, "whether a client has hung up"),
    allowed(libc::SYS_close, "what a client handed over"),
    allowed(libc::SYS_fstat, "the size of a client's memory"),
    allowed_when(libc::SYS_fcntl, When::Commands(DESCRIPTOR_COMMANDS), "copies of descriptors; seals of a client's memory"),
    // Memory: clients' and the heap.
    allowed_when(libc::SYS_mmap, When::NotExecutable, "a client's memory; the heap"),
    allowed_when(libc::SYS_mprotect, When::NotExecutable, "the heap"),
    allowed(libc::SYS_munmap, "a client's memory; the heap; a thread's stack"),
    allowed(libc::SYS_mremap, "the heap"),
    allowed(libc::SYS_madvise, "the heap; a thread's stack"),
    allowed(libc::SYS_brk, "the heap"),
    // Threads and time.
    allowed(libc::SYS_futex, "locks"),
    allowed(libc::SYS_sched_yield, "locks"),
    allowed(libc::SYS_clock_gettime, "the time, where the kernel's page does not tell it"),
    allowed(libc::SYS_clock_nanosleep, "waiting for a former client's end"),
    allowed(libc::SYS_nanosleep, "waiting for a former client's end"),
    allowed(libc::SYS_restart_syscall, "going on after SIGSTOP"),
    allowed(libc::SYS_getrandom, "keys of hash tables"),
    // Signals and the end.
    allowed(libc::SYS_rt_sigprocmask, "a thread's end, abort"),
    allowed(libc::SYS_rt_sigaction, "abort"),
    allowed(libc::SYS_rt_sigreturn, "a signal's end"),
    allowed(libc::SYS_sigaltstack, "a thread's end"),
    allowed(libc::SYS_getpid, "abort"),
    allowed(libc::SYS_gettid, "abort"),
    allowed(libc::SYS_tgkill, "abort"),
    allowed(libc::SYS_exit, "a thread's end"),
    allowed(libc::SYS_exit_group, "the end"),
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
