// SPDX-License-Identifier: MIT OR Apache-2.0

//! A driver and a device on two threads, both of which sleep whenever the ring's protocol lets them. A missing
//! barrier or a wrong suppression leaves one of them asleep with work to do: a lost wake-up, which fails the test.

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
    let (mut readable, mut writable) = (ScatterList::new(), ScatterList::new());
    let mut stopping = false;
    loop {
        queue.disarm(memory).unwrap();
        while let Some(chain) = queue.pop(memory, &mut readable, &mut writable).unwrap() {
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
