// SPDX-License-Identifier: MIT OR Apache-2.0

//! No wake-up is lost, whatever the order: the device's side of a queue and a driver, the code itself and not a model of it, in
//! every order of their accesses to the ring that [`explorer`] knows of.
//!
//! A few requests are sent and answered, while each side sleeps whenever the protocol lets it. An order is bad if it ends with
//! the driver asleep: a kick is missing then, or a notification. It is bad, too, if an answer is not the one that is due.
//!
//! Controls show that a bad order would be found: one barrier, one second look, or the order of some stores is taken away at a time,
//! in each of the four places where one side looks while the other one goes to sleep.
//!
//! Not covered: orders of loads, which x86 does not change, but other processors do; queues of more than two descriptors; the
//! bytes of requests, which are not shared here; the platforms' loops, whose order of calls is repeated here in [`device`].

mod explorer;

use std::rc::Rc;
use std::string::String;

use explorer::{Bad, Explorer, Flaw, Found, Memory, Part, Processor, Tape};

use super::driver_model::packed::PackedDriver;
use super::driver_model::{Driver, EVENT_IDX, PLAIN, RAM, RingDriver, WRITE};
use super::{Queue, Ring, RingFeatures};
use crate::mem::scatter::ScatterList;

/// A kind of ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Split,
    Packed,
}

/// How a device goes over its ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Serving {
    /// As the image (`boot/src/service_loop.rs`): a pass in any case; after one that found nothing it arms.
    PassFirst,
    /// As host mode (`host/src/serve/ring.rs`): a pass if there is something; else it arms. Here each pass ends with its first request, as
    /// when its turn is over.
    LookFirst,
}

/// How a driver takes its answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taking {
    /// It wants no notification while it looks, and looks once more before it sleeps.
    Suppressing,
    /// As Linux does for 9P: it always wants to be notified, and says with each answer that it takes of which one next.
    AlwaysAsking,
}

/// What is gone through at once.
#[derive(Debug, Clone, Copy)]
struct Scenario {
    kind: Kind,
    features: RingFeatures,
    serving: Serving,
    taking: Taking,
    /// Requests in all, and at a time.
    requests: u64,
    at_a_time: u64,
    processor: Processor,
    flaw: Flaw,
}

/// How many bytes the device says that it wrote.
const WRITTEN: u32 = 5;

/// Runs with a driver that wants to be notified, and whose index, or lap, ends within the first requests.
fn with_driver<T>(scenario: &Scenario, run: impl FnOnce(&mut dyn RingDriver) -> T) -> T {
    match scenario.kind {
        Kind::Packed => run(&mut PackedDriver::at(2, scenario.features, 1, 1)),
        Kind::Split => {
            let mut driver = Driver::at(2, scenario.features, 65534, 64);
            driver.want(true);
            run(&mut driver)
        }
    }
}

/// The memory that the two share: all of the ring.
fn ring(driver: &mut dyn RingDriver) -> Memory {
    let ring = driver.ram().read(RAM, size_of::<Memory>());
    ring.try_into().expect("as many bytes as were asked for")
}

fn share(driver: &mut dyn RingDriver, tape: &Rc<Tape>) {
    tape.share(driver.ram().host(RAM, size_of::<Memory>()).addr().get());
}

/// Serves for ever.
fn device(scenario: &Scenario, tape: &Rc<Tape>) {
    with_driver(scenario, |driver| {
        let memory = driver.ram().memory();
        let mut queue = Queue::new(&memory, &driver.ram().configuration).unwrap();
        // The first publication notifies in any case. That is over.
        queue.publish(&memory).unwrap();
        share(driver, tape);
        let mut list = ScatterList::new();
        loop {
            let mut served = false;
            if scenario.serving == Serving::PassFirst || queue.has_available(&memory).unwrap() {
                queue.disarm(&memory).unwrap();
                while queue.has_available(&memory).unwrap()
                    && !(served && scenario.serving == Serving::LookFirst)
                {
                    let chain = queue.pop(&memory, &mut list).unwrap().unwrap();
                    queue.push(&memory, chain.token, WRITTEN).unwrap();
                    served = true;
                }
                if tape.part(Part::Publish, || queue.publish(&memory).unwrap()) {
                    tape.notify();
                }
            }
            if !served {
                let came = tape.part(Part::Arm, || queue.arm(&memory).unwrap());
                if !came || scenario.flaw == Flaw::NoSecondLook(Part::Arm) {
                    tape.sleep();
                }
            }
        }
    });
}

/// Sends all requests, and returns when all are answered.
fn driver(scenario: &Scenario, tape: &Rc<Tape>) {
    with_driver(scenario, |driver| {
        share(driver, tape);
        let names_the_next = scenario.features.contains(RingFeatures::EVENT_IDX);
        let (mut sent, mut answered) = (0, 0);
        loop {
            let old = driver.shown();
            while sent < scenario.requests && sent - answered < scenario.at_a_time {
                // A chain of one descriptor, whose buffer nobody looks at.
                driver.stage_chain(u16::try_from(sent % 2).unwrap(), &[((RAM, 8), WRITE)]);
                sent += 1;
            }
            if driver.shown() != old {
                let wanted = tape.part(Part::Kick, || {
                    driver.show_staged();
                    driver.kick_wanted_since(old)
                });
                if wanted {
                    tape.notify();
                }
            }
            match scenario.taking {
                Taking::Suppressing => _ = driver.want(false),
                Taking::AlwaysAsking => tape.sleep(),
            }
            let mut progress = false;
            while let Some((id, length)) = driver.take() {
                if (u64::from(id), length) != (answered % 2, WRITTEN) {
                    tape.fail(std::format!("answer {answered} is of {id}, with {length} bytes"));
                }
                answered += 1;
                progress = true;
                if scenario.taking == Taking::AlwaysAsking && names_the_next {
                    tape.part(Part::Want, || driver.want(true));
                }
            }
            if answered == scenario.requests {
                return;
            }
            if scenario.taking == Taking::Suppressing && !progress {
                let came = tape.part(Part::Want, || driver.want(true));
                if !came || scenario.flaw == Flaw::NoSecondLook(Part::Want) {
                    tape.sleep();
                }
            }
        }
    });
}

/// All that is gone through for a ring: a driver that sends one request at a time, and one that has two on their way; both kinds of
/// each side. In a split ring the latter sends a third one, too; in a packed ring, where more is loaded for each, that takes minutes.
fn scenarios(
    (kind, features): (Kind, RingFeatures),
    processor: Processor,
    flaw: Flaw,
) -> impl Iterator<Item = Scenario> {
    let burst = if kind == Kind::Split { 3 } else { 2 };
    [(2, 1), (burst, 2)].into_iter().flat_map(move |(requests, at_a_time)| {
        [Serving::PassFirst, Serving::LookFirst].into_iter().flat_map(move |serving| {
            [Taking::Suppressing, Taking::AlwaysAsking].into_iter().map(move |taking| Scenario {
                kind,
                features,
                serving,
                taking,
                requests,
                at_a_time,
                processor,
                flaw,
            })
        })
    })
}

impl Scenario {
    fn explore(&self) -> Result<Found, Bad> {
        let memory = with_driver(self, ring);
        let driver = |tape: &Rc<Tape>| driver(self, tape);
        let device = |tape: &Rc<Tape>| device(self, tape);
        Explorer::new(self.processor, self.flaw, [("driver", &driver), ("device", &device)]).explore(memory)
    }
}

fn name((kind, features): (Kind, RingFeatures)) -> &'static str {
    match (kind, features.contains(RingFeatures::EVENT_IDX)) {
        (Kind::Split, true) => "split, EVENT_IDX",
        (Kind::Split, false) => "split, flags",
        (Kind::Packed, true) => "packed, EVENT_IDX",
        (Kind::Packed, false) => "packed, flags",
    }
}

fn no_wake_up_is_lost(ring: (Kind, RingFeatures)) {
    let mut all = Found { interleavings: 0, states: 0 };
    for scenario in scenarios(ring, Processor::Reordering, Flaw::None) {
        let found = scenario.explore().unwrap_or_else(|bad| panic!("{scenario:?}:\n{bad}"));
        all.interleavings = all.interleavings.checked_add(found.interleavings).expect("fewer than 2^128");
        all.states += found.states;
    }
    let Found { interleavings, states } = all;
    std::println!(
        "shown: wake-ups: {}: {interleavings} interleavings ({states} states), none lost",
        name(ring)
    );
}

#[test]
fn no_wake_up_is_lost_in_any_order_of_a_split_ring_with_event_indices() {
    no_wake_up_is_lost((Kind::Split, EVENT_IDX));
}

#[test]
fn no_wake_up_is_lost_in_any_order_of_a_split_ring_with_flags() {
    no_wake_up_is_lost((Kind::Split, PLAIN));
}

#[test]
fn no_wake_up_is_lost_in_any_order_of_a_packed_ring_with_event_indices() {
    no_wake_up_is_lost((Kind::Packed, EVENT_IDX));
}

#[test]
fn no_wake_up_is_lost_in_any_order_of_a_packed_ring_with_flags() {
    no_wake_up_is_lost((Kind::Packed, PLAIN));
}

const RINGS: [(Kind, RingFeatures); 4] =
    [(Kind::Split, EVENT_IDX), (Kind::Split, PLAIN), (Kind::Packed, EVENT_IDX), (Kind::Packed, PLAIN)];

/// What is wrong in the end in a bad order that is found with this flaw, if one is.
fn end_of_a_bad_order(ring: (Kind, RingFeatures), processor: Processor, flaw: Flaw) -> Option<String> {
    scenarios(ring, processor, flaw).find_map(|scenario| scenario.explore().err()?.0.pop())
}

#[test]
fn each_barrier_each_second_look_and_each_order_of_wish_and_look_is_missed_on_x86_when_it_is_taken_away() {
    for ring in RINGS {
        let mut controls = std::vec![Flaw::NoSecondLook(Part::Arm), Flaw::NoSecondLook(Part::Want)];
        for part in [Part::Publish, Part::Arm, Part::Kick, Part::Want] {
            controls.extend([Flaw::NoFence(part), Flaw::StoresLate(part)]);
        }
        for &flaw in &controls {
            let end = end_of_a_bad_order(ring, Processor::Tso, flaw);
            let lost = end.as_ref().is_some_and(|end| end.starts_with("lost: "));
            assert!(lost, "{}: {flaw:?} was found to do no harm: {end:?}", name(ring));
        }
        std::println!("shown: wake-ups: {}: lost in each of {} controls", name(ring), controls.len());
    }
}

#[test]
fn each_release_is_missed_when_it_is_taken_away_and_stores_are_reordered() {
    for ring in RINGS {
        for part in [Part::Publish, Part::Kick] {
            let end = end_of_a_bad_order(ring, Processor::Reordering, Flaw::NoRelease(part));
            let wrong = end.as_ref().is_some_and(|end| end.starts_with("driver: "));
            assert!(
                wrong,
                "{}: no wrong answer came about without the release of {part:?}: {end:?}",
                name(ring)
            );
        }
    }
}
