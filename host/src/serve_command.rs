// SPDX-License-Identifier: MIT OR Apache-2.0

//! `skerry serve`: host mode, until a signal ends it.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use skerry_host::serve::process::{READ_ONLY, READY};
use skerry_host::serve::{Options, Server, sandbox};
use skerry_host::vhost_user::Socket;

use crate::cli::Serve;
use crate::interrupt::Interrupts;
use crate::say;

/// The tag of a socket for which none is given.
const TAG: &str = "skerry";

/// Runs the command; it ends by a signal, or an error.
pub fn run(serve: &Serve) -> Result<u8> {
    let (server, interrupts) = start(serve).context("not started")?;
    let access = if server.is_readonly() { READ_ONLY } else { "" };
    say!("{READY} {}{access}", serve.volume.display());
    let interrupted = interrupts.wait();
    say!("ending; a second signal ends at once");
    server.shut_down()?;
    Err(interrupted.into())
}

/// Starts to serve, and enters the sandbox.
fn start(serve: &Serve) -> Result<(Server, Interrupts)> {
    // SAFETY: the command has done nothing yet but read its command line.
    unsafe { sandbox::prepare() }?;
    let interrupts = Interrupts::catch()?;
    let server = Server::start(&options(serve)?)?;
    match interrupts.check().map_err(Into::into).and_then(|()| sandbox::enter()) {
        Ok(()) => Ok((server, interrupts)),
        Err(error) => {
            server.shut_down()?;
            Err(error)
        }
    }
}

fn options(serve: &Serve) -> Result<Options> {
    if serve.tags.len() > serve.sockets.len() {
        bail!("{} tags for {} sockets", serve.tags.len(), serve.sockets.len());
    }
    let tags = serve.tags.iter().map(String::as_str).chain(std::iter::repeat(TAG));
    let socket =
        |(path, tag): (&std::path::PathBuf, &str)| Socket { path: path.clone(), tag: tag.to_owned() };
    Ok(Options {
        volume: serve.volume.clone(),
        sockets: serve.sockets.iter().zip(tags).map(socket).collect(),
        control: serve.control.clone(),
        exports: serve.exports.clone(),
        readonly: serve.readonly,
        poll: Duration::from_micros(serve.poll_us),
    })
}
