// SPDX-License-Identifier: MIT OR Apache-2.0

//! A driver of a packed virtqueue, as section 2.8.21 and 2.8.22 describe it. It counts places and laps in a way of its own: one number
//! that never wraps.

use core::sync::atomic::Ordering;
use std::collections::BTreeMap;

use super::{Driver, NEXT, RAM, RingDriver};
use crate::mem::access::fence;
use crate::virtq::RingFeatures;

/// Marks in the flags of a descriptor.
const AVAILABLE: u16 = 1 << 7;
const USED: u16 = 1 << 15;

/// A driver, its guest's RAM, and the packed ring in it.
pub struct PackedDriver {
    /// The RAM, with areas for the two event suppression structures where a split queue has its rings.
    pub ram: Driver,
    /// Places that were ever made available, and those that came back.
    pub available: u64,
    pub used: u64,
    /// Places of each chain that the device has, by its id.
    places: BTreeMap<u16, u16>,
    /// The first flags of what is staged: place and flags, in order.
    staged: std::vec::Vec<(u64, u16)>,
}

impl PackedDriver {
    /// A driver with an empty queue of `size`, which has gone round `laps` times and stands at place `index`.
    pub fn at(size: u16, features: RingFeatures, laps: u16, index: u16) -> Self {
        let mut ram = Driver::at(size, features | RingFeatures::RING_PACKED, 0, 1 << 16);
        let place = u64::from(laps) * u64::from(size) + u64::from(index);
        ram.configuration.next = index | if laps.is_multiple_of(2) { 1 << 15 } else { 0 };
        let driver =
            Self { ram, available: place, used: place, places: BTreeMap::new(), staged: std::vec![] };
        // What the laps before have left behind: descriptors that were used, with the marks of their lap.
        for earlier in place.saturating_sub(u64::from(size))..place {
            driver.set_flags(earlier, if driver.wrap(earlier) { AVAILABLE | USED } else { 0 });
        }
        driver.want(true);
        driver
    }

    pub fn new(size: u16, features: RingFeatures) -> Self {
        Self::at(size, features, 0, 0)
    }

    fn size(&self) -> u64 {
        u64::from(self.ram.configuration.size)
    }

    /// The wrap counter at a place: 1 in the first lap.
    fn wrap(&self, place: u64) -> bool {
        (place / self.size()).is_multiple_of(2)
    }

    /// Where the descriptor at a place is.
    pub fn descriptor(&self, place: u64) -> u64 {
        RAM + 16 * (place % self.size())
    }

    fn set_flags(&self, place: u64, flags: u16) {
        self.ram.u16(self.descriptor(place) + 14).store(flags.to_le(), Ordering::Release);
    }

    pub fn flags(&self, place: u64) -> u16 {
        u16::from_le(self.ram.u16(self.descriptor(place) + 14).load(Ordering::Acquire))
    }

    /// A place as `off_wrap` has it.
    pub fn off_wrap(&self, place: u64) -> u16 {
        u16::try_from(place % self.size()).unwrap() | if self.wrap(place) { 1 << 15 } else { 0 }
    }

    /// Writes a chain of `(buffer, flags)` with this id at the next places; the device does not see it before [`show`](Self::show).
    pub fn stage(&mut self, id: u16, buffers: &[((u64, u32), u16)]) {
        for (number, &((address, length), flags)) in buffers.iter().enumerate() {
            let place = self.available + number as u64;
            let goes_on = if number + 1 < buffers.len() { NEXT } else { 0 };
            let marks = if self.wrap(place) { AVAILABLE } else { USED };
            let descriptor = self.descriptor(place);
            self.ram.write(descriptor, &address.to_le_bytes());
            self.ram.write(descriptor + 8, &length.to_le_bytes());
            self.ram.write(descriptor + 12, &id.to_le_bytes());
            if number == 0 {
                self.staged.push((place, flags | goes_on | marks));
            } else {
                self.set_flags(place, flags | goes_on | marks);
            }
        }
        self.places.insert(id, u16::try_from(buffers.len()).unwrap());
        self.available += buffers.len() as u64;
    }

    /// Shows the device what was staged.
    pub fn show(&mut self) {
        for (place, flags) in core::mem::take(&mut self.staged) {
            self.set_flags(place, flags);
        }
    }

    /// Makes a chain available.
    pub fn offer(&mut self, id: u16, buffers: &[((u64, u32), u16)]) {
        self.stage(id, buffers);
        self.show();
    }

    /// The device's event suppression structure: `off_wrap`, `flags`.
    pub fn device_event(&self) -> (u16, u16) {
        let word = u32::from_le(self.ram.u32(self.ram.configuration.used.0).load(Ordering::Relaxed));
        let [o0, o1, f0, f1] = word.to_le_bytes();
        (u16::from_le_bytes([o0, o1]), u16::from_le_bytes([f0, f1]))
    }

    /// Writes the driver's event suppression structure.
    pub fn set_driver_event(&self, off_wrap: u16, flags: u16) {
        let word = u32::from(off_wrap) | u32::from(flags) << 16;
        self.ram.u32(self.ram.configuration.available.0).store(word.to_le(), Ordering::Relaxed);
    }

    fn is_used(&self, place: u64) -> bool {
        let expected = if self.wrap(place) { AVAILABLE | USED } else { 0 };
        self.flags(place) & (AVAILABLE | USED) == expected
    }
}

impl RingDriver for PackedDriver {
    fn ram(&mut self) -> &mut Driver {
        &mut self.ram
    }

    fn stage_chain(&mut self, id: u16, buffers: &[((u64, u32), u16)]) {
        self.stage(id, buffers);
    }

    fn show_staged(&mut self) {
        self.show();
    }

    fn shown(&self) -> u64 {
        self.available
    }

    /// Whether the device wants a kick for the places from `old` on that were just shown.
    fn kick_wanted_since(&self, old: u64) -> bool {
        fence(Ordering::SeqCst);
        match self.device_event() {
            (_, 1) => false,
            (off_wrap, 2) => (old..self.available).any(|place| self.off_wrap(place) == off_wrap),
            _ => true,
        }
    }

    fn take(&mut self) -> Option<(u32, u32)> {
        if !self.is_used(self.used) {
            return None;
        }
        let descriptor = self.descriptor(self.used);
        let length = u32::from_le(self.ram.u32(descriptor + 8).load(Ordering::Relaxed));
        let id = u16::from_le(self.ram.u16(descriptor + 12).load(Ordering::Relaxed));
        let places = self.places.remove(&id).expect("a chain that the device had");
        self.used += u64::from(places);
        Some((u32::from(id), length))
    }

    fn want(&self, wanted: bool) -> bool {
        if !wanted {
            self.set_driver_event(0, 1);
        } else if self.ram.configuration.features.contains(RingFeatures::EVENT_IDX) {
            self.set_driver_event(self.off_wrap(self.used), 2);
        } else {
            self.set_driver_event(0, 0);
        }
        fence(Ordering::SeqCst);
        self.is_used(self.used)
    }
    fn start_anew(&mut self) {
        self.ram.start_anew();
        (self.available, self.used) = (0, 0);
        self.places.clear();
        self.staged.clear();
        self.want(true);
    }
}
