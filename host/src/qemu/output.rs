// SPDX-License-Identifier: MIT OR Apache-2.0

//! What a VM writes: each line goes to the log under the VM's name, and the latest ones are kept.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How many lines are kept.
const KEPT: usize = 1000;

/// The latest lines of a VM's console and of QEMU's own messages.
#[derive(Debug, Clone, Default)]
pub struct Transcript {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    lines: Mutex<Lines>,
    grown: Condvar,
}

#[derive(Debug, Default)]
struct Lines {
    kept: VecDeque<String>,
    /// Lines that were before those.
    forgotten: usize,
    /// Streams that have not ended.
    streams: usize,
}

impl Transcript {
    /// Reads `stream` to its end in a thread of its own.
    pub(super) fn follow(&self, name: &str, stream: impl Read + Send + 'static) {
        let transcript = self.clone();
        let name = name.to_owned();
        self.lines().streams += 1;
        std::thread::spawn(move || {
            let mut reader = BufReader::new(stream);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
                let text = printable(&line);
                line.clear();
                if !text.is_empty() {
                    log::log!(target: "vm", level(&text), "{name}: {text}");
                    transcript.append(text);
                }
            }
            transcript.lines().streams -= 1;
            transcript.shared.grown.notify_all();
        });
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.shared.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits, for at most `limit`, until every stream was read to its end: the last words of a VM that has ended.
    pub(super) fn wait_for_end(&self, limit: Duration) {
        let lines = self.lines();
        let reading = |lines: &mut Lines| lines.streams > 0;
        drop(
            self.shared
                .grown
                .wait_timeout_while(lines, limit, reading)
                .unwrap_or_else(PoisonError::into_inner),
        );
    }

    fn append(&self, line: String) {
        let mut lines = self.lines();
        if lines.kept.len() == KEPT {
            lines.kept.pop_front();
            lines.forgotten += 1;
        }
        lines.kept.push_back(line);
        drop(lines);
        self.shared.grown.notify_all();
    }

    /// The first kept line that contains `pattern`; waits for it for at most `limit`.
    #[must_use]
    pub fn wait_for(&self, pattern: &str, limit: Duration) -> Option<String> {
        self.wait_for_after(0, pattern, limit)
    }

    /// How many lines there were so far.
    #[must_use]
    pub fn count(&self) -> usize {
        let lines = self.lines();
        lines.forgotten + lines.kept.len()
    }

    /// The same as [`Transcript::wait_for`], but not of the first `count` lines that ever were.
    #[must_use]
    pub fn wait_for_after(&self, count: usize, pattern: &str, limit: Duration) -> Option<String> {
        let end = Instant::now() + limit;
        let mut lines = self.lines();
        loop {
            let old = count.saturating_sub(lines.forgotten);
            if let Some(line) = lines.kept.iter().skip(old).find(|line| line.contains(pattern)) {
                return Some(line.clone());
            }
            let left = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
            lines = self.shared.grown.wait_timeout(lines, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The last `count` lines, oldest first.
    #[must_use]
    pub fn last(&self, count: usize) -> Vec<String> {
        let kept = &self.lines().kept;
        kept.iter().skip(kept.len().saturating_sub(count)).cloned().collect()
    }
}

/// What a console line is worth in the host's log: a warning or error of the image as much as there, all else `info`. That
/// the image could not start is told by whoever wanted it to. The same goes for the lines of a server in host mode.
fn level(line: &str) -> log::Level {
    if let Some(record) = line.strip_prefix("skerry: ") {
        return match record.split_once(": ") {
            Some(("error", what)) if !what.starts_with("not started") => log::Level::Error,
            Some(("warn", _)) => log::Level::Warn,
            _ => log::Level::Info,
        };
    }
    let record = line.strip_prefix('[').and_then(|line| line.split_once("] "));
    match record {
        Some((_, record)) if record.starts_with("ERROR start failed") => log::Level::Info,
        Some((_, record)) if record.starts_with("ERROR ") => log::Level::Error,
        Some((_, record)) if record.starts_with("WARN ") => log::Level::Warn,
        _ => log::Level::Info,
    }
}

/// A console line as text: without its end, without terminal control sequences.
fn printable(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character == '\u{1b}' {
            // A control sequence: ESC [ parameters, up to a letter; or ESC and one character.
            if characters.next() == Some('[') {
                let _ = characters.find(|c| ('@'..='~').contains(c));
            }
        } else if !character.is_control() || character == '\t' {
            plain.push(character);
        }
    }
    plain.truncate(plain.trim_end().len());
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_and_errors_of_the_image_keep_their_level() {
        assert_eq!(
            level("[  1.000002] ERROR client 0: stopped: ring: chain 3: 4 GiB or more"),
            log::Level::Error
        );
        assert_eq!(level("[  1.000002] WARN  the volume is marked"), log::Level::Warn);
        assert_eq!(level("[  1.000002] INFO  ready"), log::Level::Info);
        assert_eq!(level("[  0.000002] ERROR start failed: no volume"), log::Level::Info);
        assert_eq!(level("ERROR without a time"), log::Level::Info);
    }

    #[test]
    fn warnings_and_errors_of_a_server_in_host_mode_keep_their_level() {
        assert_eq!(level("skerry: error: client 0: stopped: ring"), log::Level::Error);
        assert_eq!(level("skerry: warn: ext4: the volume is only read"), log::Level::Warn);
        assert_eq!(level("skerry: error: not started: volume x"), log::Level::Info);
        assert_eq!(level("skerry: ready: serving x"), log::Level::Info);
    }

    #[test]
    fn control_sequences_do_not_reach_the_log() {
        assert_eq!(printable(b"\x1bc\x1b[?7l\x1b[2JSeaBIOS (version 1)\r\n"), "SeaBIOS (version 1)");
        assert_eq!(printable(b"a\tb \x07\xff\n"), "a\tb \u{fffd}");
        assert_eq!(printable(b"\r\n"), "");
    }

    #[test]
    fn only_the_latest_lines_are_kept() {
        let transcript = Transcript::default();
        for number in 0..=KEPT {
            transcript.append(format!("line {number}."));
        }
        assert!(transcript.wait_for("line 0.", Duration::ZERO).is_none());
        assert!(transcript.wait_for("line 1.", Duration::ZERO).is_some());
        assert_eq!(transcript.last(1), [format!("line {KEPT}.")]);
    }
}
