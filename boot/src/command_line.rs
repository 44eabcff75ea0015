// SPDX-License-Identifier: MIT OR Apache-2.0

//! The kernel command line: `readonly`, and words `key=value`, nothing unknown, all but `export` at most once.
//!
//! | word       | values                                    | meaning                                            |
//! |------------|-------------------------------------------|----------------------------------------------------|
//! | `log=`     | `error warn info debug trace`             | which records are logged; `info` if not given      |
//! | `readonly` |                                           | the volume is only read                            |
//! | `export=`  | `PATH:options`, as [`skerry::server::export_options`] has it | a directory that is exported; the whole volume if none is given |
//! | `provoke=` | the names of [`Provocation`]              | break on purpose once the memory is mapped, instead of serving: a test of the protections |

use core::fmt;

use log::LevelFilter;
use skerry::server::ExportList;
use skerry::server::export_options::ExportError;

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandLine {
    /// `log=`: records of this level and above are logged.
    pub log: LevelFilter,
    /// `readonly`: nothing is written to the volume.
    pub readonly: bool,
    /// `export=`: what clients may attach to.
    pub exports: ExportList,
    /// `provoke=`: an exception to raise, to see that it is caught and reported.
    pub provoke: Option<Provocation>,
}

/// A way to break: each shows that one protection of the image holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provocation {
    /// `panic`: a Rust panic.
    Panic,
    /// `undefined-instruction`: executes UD2.
    UndefinedInstruction,
    /// `null`: reads through a null pointer.
    Null,
    /// `write-code`: writes to the text.
    WriteCode,
    /// `write-constant`: writes to the read-only data.
    WriteConstant,
    /// `execute-data`: jumps into the stack.
    ExecuteData,
    /// `stack-overflow`: recurses until the guard page.
    StackOverflow,
}

const PROVOCATIONS: [(&str, Provocation); 7] = [
    ("panic", Provocation::Panic),
    ("undefined-instruction", Provocation::UndefinedInstruction),
    ("null", Provocation::Null),
    ("write-code", Provocation::WriteCode),
    ("write-constant", Provocation::WriteConstant),
    ("execute-data", Provocation::ExecuteData),
    ("stack-overflow", Provocation::StackOverflow),
];

/// Why a command line was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandLineError<'a> {
    /// Not UTF-8.
    Encoding,
    /// A word without `=`.
    NoValue(&'a str),
    /// A key that means nothing.
    UnknownKey(&'a str),
    /// A value that its key does not take.
    UnknownValue(&'a str, &'a str),
    /// A key that was given before.
    Repeated(&'a str),
    /// An export that cannot be.
    Export(ExportError<'a>),
}

impl fmt::Display for CommandLineError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Encoding => write!(f, "the kernel command line is not UTF-8"),
            Self::NoValue(word) => {
                write!(f, "the kernel command line's word \"{word}\" is not of the form key=value")
            }
            Self::UnknownKey(key) => {
                write!(f, "the kernel command line's key \"{key}\" is unknown: log, export, provoke")
            }
            Self::UnknownValue("provoke", value) => {
                write!(f, "the kernel command line has provoke={value}; known are")?;
                PROVOCATIONS.iter().try_for_each(|(name, _)| write!(f, " {name}"))
            }
            Self::UnknownValue(key, value) => {
                write!(f, "the kernel command line has {key}={value}; known are error warn info debug trace")
            }
            Self::Export(error) => write!(f, "the kernel command line has a wrong export: {error}"),
            Self::Repeated(key) => write!(f, "the kernel command line gives \"{key}\" more than once"),
        }
    }
}

impl CommandLine {
    /// Parses the whole line.
    ///
    /// # Errors
    /// [`CommandLineError`], for the first word that is refused.
    pub fn parse(line: &[u8]) -> Result<Self, CommandLineError<'_>> {
        let line = core::str::from_utf8(line).map_err(|_| CommandLineError::Encoding)?;
        let (mut log, mut readonly, mut provoke) = (None, None, None);
        let mut exports: Option<ExportList> = None;
        for word in line.split_ascii_whitespace() {
            if word == "readonly" {
                set(&mut readonly, word, true)?;
                continue;
            }
            let (key, value) = word.split_once('=').ok_or(CommandLineError::NoValue(word))?;
            let unknown_value = CommandLineError::UnknownValue(key, value);
            match key {
                "log" => set(&mut log, key, level(value).ok_or(unknown_value)?)?,
                "export" => {
                    let exports = exports.get_or_insert_with(ExportList::new);
                    exports.add(value).map_err(CommandLineError::Export)?;
                }
                "provoke" => {
                    let named = PROVOCATIONS.iter().find(|(name, _)| *name == value);
                    set(&mut provoke, key, named.ok_or(unknown_value)?.1)?;
                }
                _ => return Err(CommandLineError::UnknownKey(key)),
            }
        }
        Ok(Self {
            log: log.unwrap_or(LevelFilter::Info),
            readonly: readonly.unwrap_or(false),
            exports: exports.unwrap_or_default(),
            provoke,
        })
    }
}

fn set<'a, T>(place: &mut Option<T>, key: &'a str, value: T) -> Result<(), CommandLineError<'a>> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(CommandLineError::Repeated(key)),
    }
}

/// The level of that name, in lower case only. There is no "off": why the service VM ended is always told.
fn level(name: &str) -> Option<LevelFilter> {
    Some(match name {
        "error" => LevelFilter::Error,
        "warn" => LevelFilter::Warn,
        "info" => LevelFilter::Info,
        "debug" => LevelFilter::Debug,
        "trace" => LevelFilter::Trace,
        _ => return None,
    })
}
