//! What a pool can be asked to be.

use std::time::Duration;

use super::word::LEASE_INFORMATION_MAX;
use crate::address::{Address, Scheme};
use crate::error::Result;
use crate::sync::opening::options;

/// Groups that one pool can have, and bytes of a group's name.
pub(super) const GROUPS_MAX: usize = 8;
pub(super) const GROUP_NAME_MAX: usize = 32;
pub(super) const SLOTS_MAX: u32 = 4096;
const SLOTS_DEFAULT: u32 = 8;
const ROOM_DEFAULT: u32 = 64;

options! {
    /// How to open or make a pool of leases.
    ///
    /// What differs from the pool that there is already is refused; what is left at its default is taken as it is.
    LeaseOptions {
        /// How many slots there are, at most 4096; 0 for 8.
        slots: u32,
        /// How many slots it can be resized to, at most 4096; 0 for twice as many, and 64 at least. Each takes 2176 bytes,
        /// of as many as the next power of two.
        room: u32,
        /// First come, first served. By default whoever comes may be faster than those who wait, until one of these has
        /// waited for 0.4 ms.
        fair: bool,
        /// How long a lease lasts unless it is renewed, in whole milliseconds; zero for as long as its holder lives.
        expires: Duration,
        /// Slots that are kept for somebody; the rest is for all.
        groups: Vec<LeaseGroup>,
    }
}

/// A group of holders, and the slots that it can have whatever the others do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaseGroup {
    /// Its name, of at most 32 bytes.
    pub name: String,
    /// How many slots are kept for it; it may take others as well.
    pub minimum: u32,
}

impl LeaseGroup {
    /// From text such as `web:6,cron:2`, as in an address; empty for none. Never blocks.
    ///
    /// # Errors
    /// `EINVAL` it is not of this form.
    pub fn parse_list(text: &str) -> Result<Vec<LeaseGroup>> {
        if text.is_empty() {
            return Ok(Vec::new());
        }
        // An address says what is wrong, and where.
        let address = Address::from_parts(Scheme::Lease, "groups", None, [("groups", text)])?;
        let mut options = LeaseOptions::default();
        options.with(&address);
        Ok(options.groups)
    }
}

impl LeaseOptions {
    pub(super) fn with(&mut self, address: &Address) {
        self.with_common(address);
        let number = |key| u32::try_from(address.number(key).unwrap_or(0)).unwrap_or(u32::MAX);
        if self.slots == 0 {
            self.slots = number("slots");
        }
        if self.room == 0 {
            self.room = number("room");
        }
        self.fair |= address.flag("fair").unwrap_or(false);
        if self.expires.is_zero() {
            self.expires = Duration::from_secs(address.number("expires").unwrap_or(0));
        }
        if self.groups.is_empty() {
            let text = address.option("groups").map(String::from_utf8_lossy).unwrap_or_default();
            self.groups = crate::address::shares(&text)
                .map(|(name, minimum)| LeaseGroup { name: name.into(), minimum })
                .collect();
        }
    }

    pub(super) fn slots(&self) -> u32 {
        if self.slots == 0 { SLOTS_DEFAULT.max(self.reserved()) } else { self.slots }
    }

    pub(super) fn room(&self) -> u32 {
        if self.room == 0 { (2 * self.slots()).clamp(ROOM_DEFAULT, SLOTS_MAX) } else { self.room }
    }

    pub(super) fn expires_ms(&self) -> u64 {
        u64::try_from(self.expires.as_millis()).unwrap_or(u64::MAX)
    }

    fn reserved(&self) -> u32 {
        self.groups.iter().fold(0u32, |sum, group| sum.saturating_add(group.minimum))
    }

    pub(super) fn check(&self) -> std::result::Result<(), &'static str> {
        const _: () = assert!(LEASE_INFORMATION_MAX == 1024);
        let named = |group: &LeaseGroup| {
            !group.name.is_empty() && group.name.len() <= GROUP_NAME_MAX && !group.name.contains(['\0', ':', ','])
        };
        let twice = |group: &LeaseGroup| self.groups.iter().filter(|other| other.name == group.name).count() > 1;
        if self.slots() > SLOTS_MAX || self.room() > SLOTS_MAX {
            return Err("there can be at most 4096 slots");
        }
        if self.room() < self.slots() {
            return Err("there must be room for its slots");
        }
        if self.groups.len() > GROUPS_MAX {
            return Err("there can be at most 8 groups");
        }
        if !self.groups.iter().all(named) || self.groups.iter().any(twice) {
            return Err("each group has a name of its own, of 1 to 32 bytes without a colon or a comma");
        }
        if self.reserved() > self.slots() {
            return Err("the groups' minimum shares are more than there are slots");
        }
        if !self.expires.is_zero() && !(1..1 << 39).contains(&self.expires_ms()) {
            return Err("a lease lasts a millisecond at least, and seventeen years at most");
        }
        Ok(())
    }

    /// Says what of these options another pool does not have; both values.
    pub(super) fn differences(&self, made: &LeaseOptions) -> Option<String> {
        let mut found = Vec::new();
        let mut number = |name: &str, asked: u64, made: u64| {
            if asked != 0 && asked != made {
                found.push(format!("{name}={made}, and not {name}={asked}"));
            }
        };
        number("slots", self.slots.into(), made.slots.into());
        number("room", self.room.into(), made.room.into());
        number("fair", self.fair.into(), made.fair.into());
        if !self.expires.is_zero() && self.expires_ms() != made.expires_ms() {
            found.push(format!("leases of {:?}, and not of {:?}", made.expires, self.expires));
        }
        if !self.groups.is_empty() && self.groups != made.groups {
            found.push(format!("groups={}, and not groups={}", shares(&made.groups), shares(&self.groups)));
        }
        (!found.is_empty()).then(|| found.join("; "))
    }
}

fn shares(groups: &[LeaseGroup]) -> String {
    let shares: Vec<_> = groups.iter().map(|group| format!("{}:{}", group.name, group.minimum)).collect();
    if shares.is_empty() { "none".into() } else { shares.join(",") }
}
