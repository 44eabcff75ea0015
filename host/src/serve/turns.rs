// SPDX-License-Identifier: MIT OR Apache-2.0

//! A lock that is given in the order in which it was asked for.
//!
//! `std`'s mutex may be given to whoever comes first when it is free: a thread that serves one busy client could have it again and
//! again while others wait. Here each waits for those that asked before, and for nobody else.

use std::ops::{Deref, DerefMut};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Threads that may ask at the same time.
pub const ASKING: usize = 64;

/// A value that one thread has at a time. At most [`ASKING`] threads may use it.
#[derive(Debug)]
pub struct Turns<T> {
    tickets: Mutex<Tickets>,
    /// Where the thread with a ticket waits: at the ticket's remainder.
    waiting: [Condvar; ASKING],
    /// Taken only by the thread whose turn it is, so that nobody waits for it.
    value: Mutex<T>,
}

#[derive(Debug, Default)]
struct Tickets {
    /// The next that is given out.
    next: usize,
    /// The one whose turn it is.
    turn: usize,
}

/// A thread's turn. The next one's begins when it is dropped.
#[derive(Debug)]
pub struct Turn<'a, T> {
    turns: &'a Turns<T>,
    /// `None` only while it is dropped.
    value: Option<MutexGuard<'a, T>>,
}

impl<T> Turns<T> {
    /// Nobody has it.
    pub fn new(value: T) -> Self {
        let waiting = [const { Condvar::new() }; ASKING];
        Self { tickets: Mutex::default(), waiting, value: Mutex::new(value) }
    }

    /// Waits until all that asked before have had it.
    pub fn take(&self) -> Turn<'_, T> {
        let mut tickets = self.tickets.lock().unwrap_or_else(PoisonError::into_inner);
        let ticket = tickets.next;
        tickets.next = ticket.wrapping_add(1);
        let place = &self.waiting[ticket % ASKING];
        while tickets.turn != ticket {
            tickets = place.wait(tickets).unwrap_or_else(PoisonError::into_inner);
        }
        drop(tickets);
        let value = self.value.lock().unwrap_or_else(PoisonError::into_inner);
        Turn { turns: self, value: Some(value) }
    }
}

impl<T> Deref for Turn<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_ref().expect("a turn has its value until it is dropped")
    }
}

impl<T> DerefMut for Turn<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().expect("a turn has its value until it is dropped")
    }
}

impl<T> Drop for Turn<'_, T> {
    fn drop(&mut self) {
        self.value = None;
        let mut tickets = self.turns.tickets.lock().unwrap_or_else(PoisonError::into_inner);
        tickets.turn = tickets.turn.wrapping_add(1);
        let somebody_waits = tickets.turn != tickets.next;
        let place = &self.turns.waiting[tickets.turn % ASKING];
        drop(tickets);
        if somebody_waits {
            // All: a remainder may be shared if tickets have wrapped around.
            place.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn each_thread_gets_its_turn_although_another_wants_it_all_the_time() {
        const TURNS: u32 = 200;
        let turns = Turns::new(Vec::new());
        std::thread::scope(|scope| {
            for thread in 0..3 {
                let turns = &turns;
                scope.spawn(move || {
                    for _ in 0..TURNS {
                        let mut turn = turns.take();
                        // As long as a drain: the others ask meanwhile.
                        std::thread::sleep(Duration::from_micros(100));
                        turn.push(thread);
                    }
                });
            }
        });
        let order = turns.take();
        assert_eq!(order.len(), 3 * TURNS as usize);
        // While all three want it, none has it twice within three turns; they begin and end at different times.
        let longest = order.chunk_by(|one, next| one == next).take(100).map(<[_]>::len).max();
        let middle = &order[100..400];
        let again = middle.windows(2).filter(|pair| pair[0] == pair[1]).count();
        assert!(again <= middle.len() / 10, "{again} times twice in a row, {longest:?} at the longest");
    }
}
