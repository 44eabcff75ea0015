// SPDX-License-Identifier: MIT OR Apache-2.0

//! What a session has done, in numbers.

/// Counters of one session. They start at 0 and only grow (and wrap at 2^64); a reset of the session does not touch them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statistics {
    requests: [u64; Statistics::CODES],
    /// Requests that were answered with Rlerror.
    pub errors: u64,
    /// Bytes of payload that were answered: the data of Rread and Rreaddir.
    pub bytes_served: u64,
    /// Bytes of payload that were written into the client's memory on the way to those answers. `bytes_copied /
    /// bytes_served` is 1.00 where each byte moved once; an answer that failed half-way through raises it.
    pub bytes_copied: u64,
    /// Bytes of Twrite payload that a backend took.
    pub bytes_written: u64,
}

impl Statistics {
    /// One counter for each value of a message's type byte.
    const CODES: usize = 256;

    /// All zero.
    #[must_use]
    pub const fn new() -> Self {
        Self { requests: [0; Self::CODES], errors: 0, bytes_served: 0, bytes_copied: 0, bytes_written: 0 }
    }

    /// Requests whose type byte was `code`, answered or not.
    #[must_use]
    pub fn requests(&self, code: u8) -> u64 {
        self.requests.get(usize::from(code)).copied().unwrap_or(0)
    }

    /// The type bytes that were seen at all, in ascending order, each with its number of requests.
    pub fn by_code(&self) -> impl Iterator<Item = (u8, u64)> + '_ {
        (0..=u8::MAX).zip(self.requests.iter().copied()).filter(|(_, count)| *count > 0)
    }

    /// All requests.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.requests.iter().sum()
    }

    pub(super) fn count_request(&mut self, code: u8) {
        if let Some(count) = self.requests.get_mut(usize::from(code)) {
            *count = count.wrapping_add(1);
        }
    }
}

impl Default for Statistics {
    fn default() -> Self {
        Self::new()
    }
}
