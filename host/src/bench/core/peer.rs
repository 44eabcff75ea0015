// SPDX-License-Identifier: MIT OR Apache-2.0

//! What is measured: a 9P server that takes messages and answers them.

use anyhow::{Result, bail};
use skerry::wire::{Fid, MessageType, Names, Rmessage, Rversion, Tattach, Tversion, Twalk, VERSION, parse_r};

use super::message::{MSIZE, Message};

/// Most messages in flight.
pub const SLOTS: usize = 32;

/// A server, and a client that has attached to it.
pub trait Peer {
    /// What it is called.
    fn name(&self) -> &'static str;

    /// Whether it runs in the thread that calls it, and never sleeps.
    fn is_in_process(&self) -> bool {
        true
    }

    /// The longest message, in bytes: what Tversion agreed on.
    fn msize(&self) -> u32;

    /// Takes these steps to be sent later. The messages of one step are in flight at the same time: at most [`SLOTS`], each
    /// with its place in the step for a tag.
    ///
    /// # Errors
    /// If it has no room for them.
    fn load(&mut self, steps: &[Vec<Message>]) -> Result<()>;

    /// Sends the messages of a step and waits for all replies.
    ///
    /// # Errors
    /// If a reply has not the type that its message says.
    fn exchange(&mut self, step: usize) -> Result<()>;

    /// The last reply to the message at `slot` of a step.
    fn reply(&self, slot: usize) -> Vec<u8>;
}

/// The error for a reply of the wrong type.
///
/// # Errors
/// Always.
pub fn refused(name: &str, message: &Message, reply: &[u8]) -> Result<()> {
    let request = MessageType::from(message.head.get(4).copied().unwrap_or_default());
    match *reply {
        [_, _, _, _, 7, _, _, a, b, c, d] => {
            let error = std::io::Error::from_raw_os_error(i32::from_le_bytes([a, b, c, d]));
            bail!("{name} answers {request}: {error}")
        }
        _ => bail!("{name} answers {request} with {} bytes that are no {}", reply.len(), message.answer),
    }
}

/// The fid of the tree's root.
pub const ROOT: Fid = Fid(0);
/// The fid of the directory with small files.
pub const FILES: Fid = Fid(1);
/// The fid of the directory for what is made.
pub const NEW: Fid = Fid(2);

/// Sends one step.
///
/// # Errors
/// As [`Peer::exchange`].
pub fn send(peer: &mut dyn Peer, messages: &[Message]) -> Result<()> {
    for message in messages {
        let mut message = message.clone();
        // Alone in its step.
        message.head[5..7].copy_from_slice(&0_u16.to_le_bytes());
        peer.load(&[vec![message]])?;
        peer.exchange(0)?;
    }
    Ok(())
}

/// Begins the session: version, attach to `aname`, and the fids above. Returns the msize that was agreed on.
///
/// # Errors
/// As [`Peer::exchange`].
pub fn begin(peer: &mut dyn Peer, aname: &[u8]) -> Result<u32> {
    let mut untagged = Message::new(0, Tversion { msize: MSIZE, version: VERSION }, 0);
    untagged.head[5..7].copy_from_slice(&u16::MAX.to_le_bytes());
    peer.load(&[vec![untagged]])?;
    peer.exchange(0)?;
    let reply = peer.reply(0);
    let (_, Rmessage::Rversion(Rversion { msize, version: VERSION })) =
        parse_r(&reply, u32::try_from(reply.len())?)?
    else {
        bail!("{} does not speak 9P2000.L", peer.name())
    };
    let walk = |newfid, name: &'static [u8]| {
        let names = [name];
        Message::new(0, Twalk { fid: ROOT, newfid, wnames: Names::new(&names).expect("one name") }, 0)
    };
    let attach = Tattach { fid: ROOT, afid: Fid::NOFID, uname: b"root", aname, n_uname: 0 };
    send(peer, &[Message::new(0, attach, 0), walk(FILES, b"files"), walk(NEW, b"new")])?;
    Ok(msize)
}
