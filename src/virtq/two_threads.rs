// SPDX-License-Identifier: MIT OR Apache-2.0

//! A driver and a device on two threads. First both sleep whenever the ring's protocol lets them: a wrong
//! suppression leaves one of them asleep with work to do, a lost wake-up. Then they meet again and again at the two
//! points where one looks while the other goes to sleep: a missing barrier lets both miss each other.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::driver_model::{Driver, EVENT_IDX, PLAIN, WRITE};
use super::{Chain, Notify, Queue, RingFeatures};
use crate::mem::guest::GuestMemory;
use crate::mem::scatter::ScatterList;
use crate::mem::{Sink, Source};

/// An eventfd.
#[derive(Default)]
struct Event {
    raised: Mutex<bool>,
    changed: Condvar,
}

impl Event {
    fn raise(&self) {
        *self.raised.lock().unwrap() = true;
        self.changed.notify_one();
    }

    /// Sleeps until it is raised, or for far longer than that may take.
    fn wait(&self, who: &str) {
        let raised = self.raised.lock().unwrap();
        let wait = self.changed.wait_timeout_while(raised, Duration::from_secs(10), |raised| !*raised);
        let (mut raised, outcome) = wait.unwrap();
        assert!(!outcome.timed_out(), "the {who} was never woken");
        *raised = false;
    }
}

struct Interrupt<'a>(&'a Event);

impl Notify for Interrupt<'_> {
    fn call(&mut self) {
        self.0.raise();
    }
}

/// The request that ends a run.
const STOP: u64 = u64::MAX;

/// Answers each number with its complement, until it is told to stop.
fn device(memory: &GuestMemory, mut queue: Queue, kick: &Event, mut call: Interrupt<'_>) {
    let mut list = ScatterList::new();
    let mut stopping = false;
    loop {
        queue.disarm(memory).unwrap();
        while let Some(chain) = queue.pop(memory, &mut list).unwrap() {
            let Chain { token, readable: mut request, writable: mut reply } = chain;
            let mut bytes = [0; 8];
            request.take(&mut bytes).unwrap();
            let number = u64::from_le_bytes(bytes);
            stopping |= number == STOP;
            reply.put(&(!number).to_le_bytes()).unwrap();
            queue.push(memory, token, reply.written()).unwrap();
        }
        if queue.publish(memory).unwrap() {
            call.call();
        }
        if stopping {
            return;
        }
        if !queue.arm(memory).unwrap() {
            kick.wait("device");
        }
    }
}

/// Keeps the ring more or less full for `duration`, in bursts; returns how many requests were answered.
fn drive(driver: &mut Driver, kick: &Event, call: &Event, duration: Duration) -> u64 {
    let slots = driver.configuration.size / 2;
    let buffers: std::vec::Vec<u64> = (0..slots).map(|_| driver.buffer(16)).collect();
    for (slot, &buffer) in (0..slots).zip(&buffers) {
        driver.chain(super::driver_model::RAM, 2 * slot, &[((buffer, 8), 0), ((buffer + 8, 8), WRITE)]);
    }
    let mut free: std::vec::Vec<u16> = (0..slots).collect();
    let mut expected = std::vec![0; usize::from(slots)];
    let (mut sent, mut answered, mut burst) = (0, 0, 0x9e37_79b9_u32);
    let end = Instant::now() + duration;
    let mut stopped = false;
    loop {
        burst = burst.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let old = driver.available;
        for _ in 0..=(burst >> 24) % u32::from(slots) {
            let Some(slot) = free.pop().filter(|_| !stopped) else { break };
            stopped = Instant::now() >= end;
            let number = if stopped { STOP } else { sent };
            sent += 1;
            expected[usize::from(slot)] = !number;
            driver.write(buffers[usize::from(slot)], &number.to_le_bytes());
            driver.stage(2 * slot);
        }
        if driver.available != old {
            driver.show();
            if driver.kick_wanted(old) {
                kick.raise();
            }
        }
        driver.want_interrupts(false);
        let mut progress = false;
        while let Some((id, length)) = driver.take_used() {
            let slot = id as usize / 2;
            let reply = driver.read(buffers[slot] + 8, 8);
            assert_eq!((&reply[..], length), (&u64::to_le_bytes(expected[slot])[..], 8));
            free.push(u16::try_from(slot).unwrap());
            answered += 1;
            progress = true;
        }
        if answered == sent && stopped {
            return answered;
        }
        if !progress && !driver.want_interrupts(true) {
            call.wait("driver");
        }
    }
}

fn run(features: RingFeatures, size: u16) {
    // The index wraps soon after the beginning.
    let mut driver = Driver::at(size, features, 65000, 1 << 16);
    let memory = driver.memory();
    let queue = Queue::new(&memory, &driver.configuration).unwrap();
    let (kick, call) = (Event::default(), Event::default());
    let answered = thread::scope(|scope| {
        let (kick, interrupt) = (&kick, Interrupt(&call));
        scope.spawn(move || device(&memory, queue, kick, interrupt));
        drive(&mut driver, kick, &call, Duration::from_millis(250))
    });
    assert!(answered > 1000, "only {answered} requests were answered");
}

#[test]
fn no_wake_up_is_lost_with_event_indices() {
    run(EVENT_IDX, 2);
    run(EVENT_IDX, 16);
}

#[test]
fn no_wake_up_is_lost_with_flags() {
    run(PLAIN, 2);
    run(PLAIN, 16);
}

/// Lets two threads begin each round at the same time, as nearly as can be.
#[derive(Default)]
struct StartingLine {
    ready: [AtomicU32; 2],
    /// Set by one side before the last meeting of the last round.
    over: AtomicBool,
}

impl StartingLine {
    /// Says that `side` is ready for `round`, and waits for the other one.
    fn meet(&self, side: usize, round: u32) {
        self.ready[side].store(round, Ordering::SeqCst);
        let mut spins = 0;
        while self.ready[1 - side].load(Ordering::SeqCst) < round {
            spins += 1;
            if spins % 1000 == 0 {
                thread::yield_now();
            }
            core::hint::spin_loop();
        }
    }
}

/// Wastes some nanoseconds, as many as differ from round to round, so that the two sides meet in every order.
fn stagger(round: u32) {
    for step in 0..round.wrapping_mul(0x9e37_79b9) >> 27 {
        core::hint::black_box(step);
    }
}

/// How long each pair of threads meets. The two sides miss each other within some tens of nanoseconds, so only an
/// optimized build shows a missing barrier (about one round in a thousand then fails). The other tests the logic.
const MEETINGS: Duration = Duration::from_millis(200);

/// In each round the device publishes an answer, while the driver asks to be notified and looks once more.
fn publish_against_the_driver_that_goes_to_sleep(features: RingFeatures) {
    let mut driver = Driver::at(2, features, 65000, 64);
    let memory = driver.memory();
    let mut queue = Queue::new(&memory, &driver.configuration).unwrap();
    queue.publish(&memory).unwrap();
    let (line, told) = (StartingLine::default(), AtomicU32::new(0));
    // Counted, because a panic in the middle would leave the other thread waiting.
    let mut missed = 0;
    thread::scope(|scope| {
        let (line, told) = (&line, &told);
        scope.spawn(move || {
            let mut list = ScatterList::new();
            for round in (1..).step_by(3) {
                line.meet(0, round);
                let chain = queue.pop(&memory, &mut list).unwrap().unwrap();
                queue.push(&memory, chain.token, 0).unwrap();
                line.meet(0, round + 1);
                stagger(round);
                let wanted = queue.publish(&memory).unwrap();
                told.store(u32::from(wanted), Ordering::Relaxed);
                line.meet(0, round + 2);
                if line.over.load(Ordering::Relaxed) {
                    return;
                }
            }
        });
        let end = Instant::now() + MEETINGS;
        for round in (1..).step_by(3) {
            driver.want_interrupts(false);
            driver.offer(0);
            line.meet(1, round);
            line.meet(1, round + 1);
            stagger(round / 32);
            let seen = driver.want_interrupts(true);
            line.over.store(Instant::now() >= end, Ordering::Relaxed);
            line.meet(1, round + 2);
            missed += u32::from(!seen && told.load(Ordering::Relaxed) == 0);
            missed += u32::from(driver.take_used() != Some((0, 0)));
            if line.over.load(Ordering::Relaxed) {
                break;
            }
        }
    });
    assert_eq!(missed, 0, "times they missed each other");
}

/// In each round the driver makes a chain available, while the device asks to be kicked and looks once more.
fn arm_against_the_driver_that_makes_a_chain_available(features: RingFeatures) {
    let mut driver = Driver::at(2, features, 65000, 64);
    let memory = driver.memory();
    let mut queue = Queue::new(&memory, &driver.configuration).unwrap();
    let (line, found) = (StartingLine::default(), AtomicU32::new(0));
    // Counted, because a panic in the middle would leave the other thread waiting.
    let mut missed = 0;
    thread::scope(|scope| {
        let (line, found) = (&line, &found);
        scope.spawn(move || {
            let mut list = ScatterList::new();
            for round in (1..).step_by(3) {
                queue.disarm(&memory).unwrap();
                line.meet(0, round);
                stagger(round);
                let came = queue.arm(&memory).unwrap();
                found.store(u32::from(came), Ordering::Relaxed);
                line.meet(0, round + 1);
                let chain = queue.pop(&memory, &mut list).unwrap().unwrap();
                queue.push(&memory, chain.token, 0).unwrap();
                queue.publish(&memory).unwrap();
                line.meet(0, round + 2);
                if line.over.load(Ordering::Relaxed) {
                    return;
                }
            }
        });
        let end = Instant::now() + MEETINGS;
        for round in (1..).step_by(3) {
            line.meet(1, round);
            stagger(round / 32);
            let old = driver.available;
            driver.offer(0);
            let kicked = driver.kick_wanted(old);
            line.meet(1, round + 1);
            missed += u32::from(!kicked && found.load(Ordering::Relaxed) == 0);
            line.over.store(Instant::now() >= end, Ordering::Relaxed);
            line.meet(1, round + 2);
            missed += u32::from(driver.take_used() != Some((0, 0)));
            if line.over.load(Ordering::Relaxed) {
                break;
            }
        }
    });
    assert_eq!(missed, 0, "times they missed each other");
}

#[test]
fn an_answer_and_the_wish_to_be_notified_never_miss_each_other() {
    publish_against_the_driver_that_goes_to_sleep(EVENT_IDX);
    publish_against_the_driver_that_goes_to_sleep(PLAIN);
}

#[test]
fn a_request_and_the_wish_to_be_kicked_never_miss_each_other() {
    arm_against_the_driver_that_makes_a_chain_available(EVENT_IDX);
    arm_against_the_driver_that_makes_a_chain_available(PLAIN);
}
