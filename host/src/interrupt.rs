// SPDX-License-Identifier: MIT OR Apache-2.0

//! SIGINT, SIGTERM and SIGHUP: they end the session in order, so that nothing is left running or on disk.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use skerry_host::client_vm::Stopper;

/// A signal ended the session.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("ended by signal {0}")]
pub struct Interrupted(pub i32);

/// Whether a signal has come, and whom to tell.
#[derive(Debug, Clone, Default)]
pub struct Interrupts(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    received: Condvar,
}

#[derive(Debug, Default)]
struct State {
    received: Option<i32>,
    stopper: Option<Stopper>,
}

impl Interrupts {
    /// Catches the signals from now on. A second one ends the process at once.
    pub fn catch() -> Result<Self> {
        let interrupts = Self::default();
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot catch signals")?;
        let shared = interrupts.clone();
        let (started, runs) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            // Nobody waits for it if the thread that spawns this one is gone.
            let _ = started.send(());
            for signal in signals.forever() {
                let mut state = shared.lock();
                if state.received.replace(signal).is_some() {
                    std::process::exit(128 + signal);
                }
                shared.0.received.notify_all();
                if let Some(stopper) = &state.stopper {
                    stopper.stop(Interrupted(signal).into());
                }
            }
        });
        // It has made the system calls of a thread's start: a sandbox need not allow them any more.
        let _ = runs.recv();
        Ok(interrupts)
    }

    /// Fails if a signal has come.
    pub fn check(&self) -> Result<(), Interrupted> {
        self.lock().received.map_or(Ok(()), |signal| Err(Interrupted(signal)))
    }

    /// Has a client VM stopped by the next signal, or now if one has come.
    pub fn stop_with(&self, stopper: Stopper) -> Result<(), Interrupted> {
        self.lock().stopper = Some(stopper);
        self.check()
    }

    /// Waits for a signal.
    pub fn wait(&self) -> Interrupted {
        let mut state = self.lock();
        loop {
            if let Some(signal) = state.received {
                return Interrupted(signal);
            }
            state = self.0.received.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
