// SPDX-License-Identifier: MIT OR Apache-2.0

//! A server of either mode: the bridge with its service VM, or a process of the host.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use crate::bridge::{self, Bridge};
use crate::qemu::Transcript;
use crate::serve;
use crate::serve::process::ServeProcess;

/// What to start.
#[derive(Debug, Clone)]
pub enum Options {
    /// The bridge and a service VM.
    Vm(bridge::Options),
    /// `skerry serve`.
    Host {
        /// The `skerry` to run.
        program: PathBuf,
        /// What it serves, and where.
        serve: serve::Options,
        /// What it logs: `error`, `warn`, `info`, `debug` or `trace`.
        log_level: String,
    },
}

/// A running server. Dropping it kills it; [`RunningServer::shut_down`] is the orderly end.
#[derive(Debug)]
pub enum RunningServer {
    /// The bridge and a service VM.
    Vm(Bridge),
    /// `skerry serve`.
    Host(ServeProcess),
}

impl RunningServer {
    /// Starts it. When it returns, clients may connect.
    ///
    /// Call it from a thread that lives as long as the server, which is killed when that thread ends.
    ///
    /// # Errors
    /// One clear message; nothing is left running then.
    pub fn start(options: &Options) -> Result<Self> {
        Ok(match options {
            Options::Vm(options) => Self::Vm(Bridge::start(options)?),
            Options::Host { program, serve, log_level } => {
                Self::Host(ServeProcess::start(program, serve, log_level)?)
            }
        })
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Vm(_) => "the service VM",
            Self::Host(_) => "the server",
        }
    }

    /// Whether the volume is only read.
    #[must_use]
    pub fn is_readonly(&self) -> bool {
        match self {
            Self::Vm(bridge) => bridge.is_readonly(),
            Self::Host(process) => process.is_readonly(),
        }
    }

    /// The process id of the service VM's QEMU, or of the server.
    #[must_use]
    pub fn process_id(&self) -> u32 {
        match self {
            Self::Vm(bridge) => bridge.service_process(),
            Self::Host(process) => process.process_id(),
        }
    }

    /// What it has said on its console.
    #[must_use]
    pub fn transcript(&self) -> &Transcript {
        match self {
            Self::Vm(bridge) => bridge.transcript(),
            Self::Host(process) => process.transcript(),
        }
    }

    /// How it ended, in words, if it has ended within `limit`. It should not end by itself.
    ///
    /// # Errors
    /// If the system does not tell.
    pub fn wait_for(&mut self, limit: Duration) -> Result<Option<String>> {
        match self {
            Self::Vm(bridge) => Ok(bridge.wait_for(limit)?.map(|exit| exit.to_string())),
            Self::Host(process) => process.wait_for(limit),
        }
    }

    /// The orderly end: lets go of all clients and brings the volume to rest.
    ///
    /// # Errors
    /// If it has ended, or does not manage to within a minute or so.
    pub fn shut_down(self) -> Result<()> {
        match self {
            Self::Vm(bridge) => bridge.shut_down(),
            Self::Host(process) => process.shut_down(),
        }
    }
}
