// SPDX-License-Identifier: MIT OR Apache-2.0

//! Lets two programs that share memory meet in every order that a processor allows.
//!
//! A program is real code, run on one thread with an [`Observer`] between it and its memory. What it does depends on the values
//! that it loads and on nothing else. So it is run anew with each sequence of loaded values that can come about, up to its next load, and
//! there it is left; what it did since the last load is kept as its [`Step`]s. From then on the explorer works with steps only:
//! it goes through all states that the two can reach, each once.
//!
//! A side's stores go into a buffer of its own, from which it loads first, and leave it for memory at any time. A fence waits until
//! the buffer is empty, and a notification goes through it: it is seen after the stores before it, as a write to a doorbell is.
//!
//! * [`Processor::Tso`]: stores leave in the order in which they came in. This is x86 (x86-TSO, Sewell and others, 2010), for which
//!   a compiler makes plain loads and stores of all but those that are `SeqCst`.
//! * [`Processor::Reordering`]: a store may overtake others, unless it releases, or they are to some of the same bytes. That allows all that the
//!   other does, and what a compiler may do to relaxed stores.
//!
//! Loads are not moved, in neither.

use core::any::Any;
use core::cell::{Cell, RefCell};
use core::fmt::Write;
use core::hash::{BuildHasherDefault, Hasher};
use std::boxed::Box;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::string::{String, ToString};
use std::vec::Vec;

use crate::mem::access::observed::{Observer, observe};

/// What store buffers do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Processor {
    /// First in, first out.
    Tso,
    /// In any order, but for stores that release.
    Reordering,
}

/// The parts of what the two do that a [`Flaw`] can be in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The device shows its answers, and looks whether the driver wants to be told.
    Publish,
    /// The device asks for kicks, and looks once more.
    Arm,
    /// The driver shows a request, and looks whether the device wants to be kicked.
    Kick,
    /// The driver asks to be notified, and looks once more.
    Want,
    /// Anything else.
    Other,
}

/// What is taken away from the two, to see whether it is missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// Nothing.
    None,
    /// The fence of a part.
    NoFence(Part),
    /// The second look of [`Part::Arm`] or [`Part::Want`]: what it finds does not count. (The programs see to this one.)
    NoSecondLook(Part),
    /// The order of a part: its stores come after its loads.
    StoresLate(Part),
    /// The order of a part's stores: none of them releases.
    NoRelease(Part),
}

/// What a program does, as the other side may notice it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Step {
    /// It reads these bytes.
    Load(Bytes),
    /// It writes these bytes.
    Store { bytes: Bytes, value: u64, release: bool },
    /// Its stores become visible.
    Fence,
    /// It wakes the other side.
    Notify,
    /// It waits until it is woken.
    Sleep,
    /// It has done all that it had to.
    End,
    /// It found something wrong.
    Failed(String),
}

/// Some bytes of the shared memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Bytes {
    at: u16,
    size: u16,
}

impl Bytes {
    fn range(self) -> core::ops::Range<usize> {
        self.at.into()..(self.at + self.size).into()
    }

    fn overlap(self, other: Self) -> bool {
        self.at < other.at + other.size && other.at < self.at + self.size
    }
}

/// What a program that is run has done since its last load that had an answer.
pub struct Tape {
    flaw: Flaw,
    /// Where the shared memory is in this run.
    base: Cell<usize>,
    /// The values to be loaded, and how many have been.
    answers: Vec<u64>,
    loaded: Cell<usize>,
    steps: RefCell<Vec<Step>>,
    part: Cell<Part>,
    /// Stores that a flaw holds back until the end of the part.
    late: RefCell<Vec<Step>>,
}

/// The payload of the unwinding that leaves a program at a load without an answer.
struct NoAnswer;

impl Tape {
    /// From here on the memory at `base` is shared, and all accesses are seen.
    pub fn share(self: &Rc<Self>, base: usize) {
        self.base.set(base);
        observe(Some(self.clone()));
    }

    /// What `run` does is this part of the program.
    pub fn part<T>(&self, part: Part, run: impl FnOnce() -> T) -> T {
        self.part.set(part);
        let result = run();
        self.part.set(Part::Other);
        self.steps.borrow_mut().append(&mut self.late.borrow_mut());
        result
    }

    /// Wakes the other side.
    pub fn notify(&self) {
        self.steps.borrow_mut().push(Step::Notify);
    }

    /// Waits to be woken.
    pub fn sleep(&self) {
        self.steps.borrow_mut().push(Step::Sleep);
    }

    /// Something is wrong; this is the end.
    pub fn fail(&self, message: String) -> ! {
        // Without the report of a panic: controls come here.
        resume_unwind(Box::new(message))
    }

    fn bytes(&self, address: usize, size: usize) -> Bytes {
        let at = u16::try_from(address - self.base.get()).expect("an address in the ring");
        Bytes { at, size: u16::try_from(size).expect("a size") }
    }
}

impl Observer for Tape {
    fn load(&self, address: usize, size: usize) -> u64 {
        let loaded = self.loaded.get();
        match self.answers.get(loaded) {
            Some(&answer) => {
                self.loaded.set(loaded + 1);
                self.steps.borrow_mut().clear();
                answer
            }
            None => {
                self.steps.borrow_mut().push(Step::Load(self.bytes(address, size)));
                resume_unwind(Box::new(NoAnswer))
            }
        }
    }

    fn store(&self, address: usize, size: usize, value: u64, release: bool) {
        let release = release && self.flaw != Flaw::NoRelease(self.part.get());
        let step = Step::Store { bytes: self.bytes(address, size), value, release };
        let late = self.flaw == Flaw::StoresLate(self.part.get());
        if late { &self.late } else { &self.steps }.borrow_mut().push(step);
    }

    fn fence(&self) {
        if self.flaw != Flaw::NoFence(self.part.get()) {
            self.steps.borrow_mut().push(Step::Fence);
        }
    }
}

/// What one side runs.
pub type Program<'a> = &'a dyn Fn(&Rc<Tape>);

/// A program as far as it was run: what it does after each sequence of loads.
struct Behaviour<'a> {
    program: Program<'a>,
    flaw: Flaw,
    points: Vec<Point>,
}

/// After a sequence of loads.
struct Point {
    answers: Vec<u64>,
    /// Up to the next load, or to the end.
    steps: Vec<Step>,
    /// The point after the next load, by its value.
    next: HashMap<u64, u32>,
}

impl Behaviour<'_> {
    fn run(&mut self, answers: Vec<u64>) -> u32 {
        let tape = Rc::new(Tape {
            flaw: self.flaw,
            base: Cell::new(0),
            answers,
            loaded: Cell::new(0),
            steps: RefCell::default(),
            part: Cell::new(Part::Other),
            late: RefCell::default(),
        });
        let outcome = catch_unwind(AssertUnwindSafe(|| (self.program)(&tape)));
        observe(None);
        let mut steps = tape.steps.take();
        match outcome {
            Ok(()) => steps.push(Step::End),
            Err(payload) if payload.is::<NoAnswer>() => {}
            Err(payload) => steps.push(Step::Failed(message(&*payload))),
        }
        let answers = tape.answers.clone();
        self.points.push(Point { answers, steps, next: HashMap::new() });
        u32::try_from(self.points.len() - 1).expect("fewer than 2^32 points")
    }

    /// The point that the load at the end of `point` leads to when it gives `value`.
    fn after(&mut self, point: u32, value: u64) -> u32 {
        let point = point as usize;
        if let Some(&next) = self.points[point].next.get(&value) {
            return next;
        }
        let mut answers = self.points[point].answers.clone();
        answers.push(value);
        let next = self.run(answers);
        self.points[point].next.insert(value, next);
        next
    }
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default()
}

/// The memory that the two share.
pub type Memory = [u8; 72];

/// What waits in a side's buffer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Pending {
    Store { bytes: Bytes, value: u64, release: bool },
    Notify,
}

/// Where a side stands.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
struct Side {
    /// The point, and how many of its steps were taken.
    point: u32,
    step: u32,
    buffer: Vec<Pending>,
    /// It was notified, and has not slept since.
    notified: bool,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct State {
    memory: Memory,
    sides: [Side; 2],
}

/// A hash of words that is fast; what it is of comes from nobody hostile.
#[derive(Default)]
struct Mixed(u64);

impl Hasher for Mixed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        let mixed = (self.0.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ mixed >> 32;
    }
}

/// One thing that may happen next.
enum Move {
    /// What is at this place of a side's buffer becomes visible.
    Drain(usize, usize),
    /// A side takes its next step.
    Step(usize),
}

/// What was found when no order was bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Orders of what one side does and the other may notice.
    pub interleavings: u128,
    /// States that the two can be in.
    pub states: usize,
}

/// A bad order: what happened, a line each, and in the end what was wrong.
#[derive(Debug)]
pub struct Bad(pub Vec<String>);

impl core::fmt::Display for Bad {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.iter().try_for_each(|line| writeln!(f, "  {line}"))
    }
}

/// Goes through all that two programs can do.
pub struct Explorer<'a> {
    processor: Processor,
    names: [&'static str; 2],
    behaviours: [Behaviour<'a>; 2],
    /// The interleavings from each state that has been gone through.
    seen: HashMap<State, u128, BuildHasherDefault<Mixed>>,
}

impl<'a> Explorer<'a> {
    pub fn new(processor: Processor, flaw: Flaw, sides: [(&'static str, Program<'a>); 2]) -> Self {
        let behaviours = sides.map(|(_, program)| Behaviour { program, flaw, points: Vec::new() });
        Self { processor, names: sides.map(|(name, _)| name), behaviours, seen: HashMap::default() }
    }

    /// Goes through all orders from `memory` on, until one is bad: both sides sleep, or one of them has found something wrong. The
    /// first side is to come to its end in each; the other may sleep then.
    pub fn explore(mut self, memory: Memory) -> Result<Found, Bad> {
        self.behaviours.iter_mut().for_each(|behaviour| {
            behaviour.run(Vec::new());
        });
        let interleavings = self.from(State { memory, sides: Default::default() })?;
        Ok(Found { interleavings, states: self.seen.len() })
    }

    /// The interleavings from `state` on.
    fn from(&mut self, mut state: State) -> Result<u128, Bad> {
        (0..2).for_each(|side| self.advance(&mut state, side));
        if let Some(&known) = self.seen.get(&state) {
            return Ok(known);
        }
        let mut interleavings = 0_u128;
        let moves = self.moves(&state);
        for next in &moves {
            let after = self.after(&state, next);
            match self.from(after) {
                Ok(count) => interleavings = interleavings.checked_add(count).expect("fewer than 2^128"),
                Err(Bad(mut lines)) => {
                    lines.insert(0, self.describe(&state, next));
                    return Err(Bad(lines));
                }
            }
        }
        if moves.is_empty() {
            self.judge(&state)?;
            interleavings = 1;
        }
        self.seen.insert(state, interleavings);
        Ok(interleavings)
    }

    fn step(&self, state: &State, side: usize) -> &Step {
        let Side { point, step, .. } = state.sides[side];
        &self.behaviours[side].points[point as usize].steps[step as usize]
    }

    /// Takes the steps that the other side cannot notice, and that do not depend on when they are taken.
    fn advance(&self, state: &mut State, side: usize) {
        loop {
            let pending = match *self.step(state, side) {
                Step::Store { bytes, value, release } => Some(Pending::Store { bytes, value, release }),
                Step::Notify => Some(Pending::Notify),
                Step::Fence if state.sides[side].buffer.is_empty() => None,
                _ => return,
            };
            state.sides[side].buffer.extend(pending);
            state.sides[side].step += 1;
        }
    }

    fn moves(&self, state: &State) -> Vec<Move> {
        let mut moves = Vec::new();
        for side in 0..2 {
            let Side { buffer, notified, .. } = &state.sides[side];
            let drained = (0..buffer.len()).filter(|&place| self.may_drain(buffer, place));
            moves.extend(drained.map(|place| Move::Drain(side, place)));
            match self.step(state, side) {
                Step::Load(_) => moves.push(Move::Step(side)),
                Step::Sleep if *notified => moves.push(Move::Step(side)),
                Step::Failed(_) => return Vec::new(),
                _ => {}
            }
        }
        moves
    }

    fn may_drain(&self, buffer: &[Pending], place: usize) -> bool {
        if place == 0 || self.processor == Processor::Tso {
            return place == 0;
        }
        let Pending::Store { bytes, release: false, .. } = buffer[place] else { return false };
        buffer[..place].iter().all(|earlier| match *earlier {
            Pending::Store { bytes: other, .. } => !bytes.overlap(other),
            Pending::Notify => true,
        })
    }

    fn after(&mut self, state: &State, next: &Move) -> State {
        let mut state = state.clone();
        match *next {
            Move::Drain(side, place) => match state.sides[side].buffer.remove(place) {
                Pending::Store { bytes, value, .. } => write(&mut state.memory, bytes, value),
                Pending::Notify => state.sides[1 - side].notified = true,
            },
            Move::Step(side) => match *self.step(&state, side) {
                Step::Load(bytes) => {
                    let value = load(&state, side, bytes);
                    let at = &mut state.sides[side];
                    (at.point, at.step) = (self.behaviours[side].after(at.point, value), 0);
                }
                _ => {
                    state.sides[side].notified = false;
                    state.sides[side].step += 1;
                }
            },
        }
        state
    }

    /// Whether it is well that nothing can happen any more.
    fn judge(&self, state: &State) -> Result<(), Bad> {
        for side in 0..2 {
            if let Step::Failed(message) = self.step(state, side) {
                return Err(Bad(std::vec![std::format!("{}: {message}", self.names[side])]));
            }
        }
        match self.step(state, 0) {
            Step::End => Ok(()),
            step => Err(Bad(std::vec![std::format!("lost: the {} is left at {step:?}", self.names[0])])),
        }
    }

    fn describe(&self, state: &State, next: &Move) -> String {
        let mut line = String::new();
        let written = match *next {
            Move::Drain(side, place) => {
                let pending = &state.sides[side].buffer[place];
                write!(line, "{}: {pending:x?} becomes visible", self.names[side])
            }
            Move::Step(side) => match *self.step(state, side) {
                Step::Load(bytes) => {
                    let value = load(state, side, bytes);
                    write!(line, "{}: {bytes:x?} are {value:#x}", self.names[side])
                }
                _ => write!(line, "{}: wakes up", self.names[side]),
            },
        };
        written.expect("a string takes everything");
        line
    }
}

fn write(memory: &mut [u8], bytes: Bytes, value: u64) {
    memory[bytes.range()].copy_from_slice(&value.to_le_bytes()[..bytes.size.into()]);
}

/// What a side finds when it loads `bytes`: its own stores first.
fn load(state: &State, side: usize, bytes: Bytes) -> u64 {
    let mut memory = state.memory;
    for pending in &state.sides[side].buffer {
        if let Pending::Store { bytes, value, .. } = *pending {
            write(&mut memory, bytes, value);
        }
    }
    let mut value = [0; 8];
    value[..bytes.size.into()].copy_from_slice(&memory[bytes.range()]);
    u64::from_le_bytes(value)
}
