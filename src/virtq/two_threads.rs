// SPDX-License-Identifier: MIT OR Apache-2.0

//! A driver and a device on two threads. First both sleep whenever the ring's protocol lets them: a wrong
//! suppression leaves one of them asleep with work to do, a lost wake-up. Then they meet again and again at the two
//! points where one looks while the other goes to sleep: a missing barrier lets both miss each other.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::driver_model::packed::PackedDriver;
use super::driver_model::{Driver, EVENT_IDX, PLAIN, RingDriver, WRITE};
use super::{Chain, Notify, Queue, Ring, RingFeatures};
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
            let Chain { token, buffers } = chain;
            let (mut request, mut reply) = buffers.into_streams();
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
fn drive(driver: &mut impl RingDriver, kick: &Event, call: &Event, duration: Duration) -> u64 {
    let slots = driver.ram().configuration.size / 2;
    let buffers: std::vec::Vec<u64> = (0..slots).map(|_| driver.ram().buffer(16)).collect();
    let mut free: std::vec::Vec<u16> = (0..slots).collect();
    let mut expected = std::vec![0; usize::from(slots)];
    let (mut sent, mut answered, mut burst) = (0, 0, 0x9e37_79b9_u32);
    let end = Instant::now() + duration;
    let mut stopped = false;
    loop {
        burst = burst.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let old = driver.shown();
        for _ in 0..=(burst >> 24) % u32::from(slots) {
            let Some(slot) = free.pop().filter(|_| !stopped) else { break };
            stopped = Instant::now() >= end;
            let number = if stopped { STOP } else { sent };
            sent += 1;
            expected[usize::from(slot)] = !number;
            let buffer = buffers[usize::from(slot)];
            driver.ram().write(buffer, &number.to_le_bytes());
            driver.stage_chain(2 * slot, &[((buffer, 8), 0), ((buffer + 8, 8), WRITE)]);
        }
        if driver.shown() != old {
            driver.show_staged();
            if driver.kick_wanted_since(old) {
                kick.raise();
            }
        }
        driver.want(false);
        let mut progress = false;
        while let Some((id, length)) = driver.take() {
            let slot = id as usize / 2;
            let reply = driver.ram().read(buffers[slot] + 8, 8);
            assert_eq!((&reply[..], length), (&u64::to_le_bytes(expected[slot])[..], 8));
            free.push(u16::try_from(slot).unwrap());
            answered += 1;
            progress = true;
        }
        if answered == sent && stopped {
            return answered;
        }
        if !progress && !driver.want(true) {
            call.wait("driver");
        }
    }
}

/// A split queue whose index wraps soon after the beginning.
fn split(size: u16, features: RingFeatures) -> Driver {
    Driver::at(size, features, 65000, 1 << 16)
}

/// A packed queue in the middle of its second lap.
fn packed(size: u16, features: RingFeatures) -> PackedDriver {
    PackedDriver::at(size, features, 1, size / 2)
}

fn run(mut driver: impl RingDriver + Send) {
    let memory = driver.ram().memory();
    let queue = Queue::new(&memory, &driver.ram().configuration).unwrap();
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
    run(split(2, EVENT_IDX));
    run(split(16, EVENT_IDX));
    run(packed(2, EVENT_IDX));
    run(packed(13, EVENT_IDX));
}

#[test]
fn no_wake_up_is_lost_with_flags() {
    run(split(2, PLAIN));
    run(split(16, PLAIN));
    run(packed(2, PLAIN));
    run(packed(13, PLAIN));
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

/// A chain without a byte.
const NOTHING: [((u64, u32), u16); 1] = [((0, 0), 0)];

/// How long each pair of threads meets. The two sides miss each other within some tens of nanoseconds, so only an
/// optimized build shows a missing barrier (about one round in a thousand then fails). The other tests the logic.
const MEETINGS: Duration = Duration::from_millis(200);

/// In each round the device publishes an answer, while the driver asks to be notified and looks once more.
fn publish_against_the_driver_that_goes_to_sleep(mut driver: impl RingDriver) {
    let memory = driver.ram().memory();
    let mut queue = Queue::new(&memory, &driver.ram().configuration).unwrap();
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
            driver.want(false);
            driver.stage_chain(0, &NOTHING);
            driver.show_staged();
            line.meet(1, round);
            line.meet(1, round + 1);
            stagger(round / 32);
            let seen = driver.want(true);
            line.over.store(Instant::now() >= end, Ordering::Relaxed);
            line.meet(1, round + 2);
            missed += u32::from(!seen && told.load(Ordering::Relaxed) == 0);
            missed += u32::from(driver.take() != Some((0, 0)));
            if line.over.load(Ordering::Relaxed) {
                break;
            }
        }
    });
    assert_eq!(missed, 0, "times they missed each other");
}

/// In each round the driver makes a chain available, while the device asks to be kicked and looks once more.
fn arm_against_the_driver_that_makes_a_chain_available(mut driver: impl RingDriver) {
    let memory = driver.ram().memory();
    let mut queue = Queue::new(&memory, &driver.ram().configuration).unwrap();
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
            let old = driver.shown();
            driver.stage_chain(0, &NOTHING);
            driver.show_staged();
            let kicked = driver.kick_wanted_since(old);
            line.meet(1, round + 1);
            missed += u32::from(!kicked && found.load(Ordering::Relaxed) == 0);
            line.over.store(Instant::now() >= end, Ordering::Relaxed);
            line.meet(1, round + 2);
            missed += u32::from(driver.take() != Some((0, 0)));
            if line.over.load(Ordering::Relaxed) {
                break;
            }
        }
    });
    assert_eq!(missed, 0, "times they missed each other");
}

#[test]
fn an_answer_and_the_wish_to_be_notified_never_miss_each_other() {
    for features in [EVENT_IDX, PLAIN] {
        publish_against_the_driver_that_goes_to_sleep(split(2, features));
        publish_against_the_driver_that_goes_to_sleep(packed(2, features));
    }
}

#[test]
fn a_request_and_the_wish_to_be_kicked_never_miss_each_other() {
    for features in [EVENT_IDX, PLAIN] {
        arm_against_the_driver_that_makes_a_chain_available(split(2, features));
        arm_against_the_driver_that_makes_a_chain_available(packed(2, features));
    }
}
