//! The journal: what goes to the file next, in shared memory, so that whoever takes over from a dead writer can finish what it
//! had begun.
//!
//! There are two, used in turn. A writer fills the one that is not in force, and one store of its number puts it in force.
//! From then on its records are as good as written: they are released from the ring, and whoever finds them there nevertheless,
//! because the writer died in between, knows them by their identities. The bytes go to the place in the file that the journal
//! names, so that writing them again changes nothing.

use super::Base;
use super::layout::{BYTES_AT, Heading};
use crate::sync_atomics::{AtomicU64, Ordering};

/// Which file, and where in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Spot {
    pub device: u64,
    pub inode: u64,
    pub offset: u64,
}

/// Sums over all that was logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub records: u64,
    pub bytes: u64,
    pub told: u64,
}

// Relaxed throughout but for the two numbers: the writer alone changes these, and whoever becomes the writer does so by taking
// the lock of the log, which orders all that the writers before it have done.
fn get(word: &AtomicU64) -> u64 {
    word.load(Ordering::Relaxed)
}

fn put(word: &AtomicU64, value: u64) {
    word.store(value, Ordering::Relaxed);
}

impl Heading {
    pub fn spot(&self) -> Spot {
        Spot { device: get(&self.device), inode: get(&self.inode), offset: get(&self.offset) }
    }

    pub fn sums(&self) -> Sums {
        Sums { records: get(&self.records), bytes: get(&self.bytes), told: get(&self.told) }
    }

    /// Says where the bytes go instead, as the place is gone. A death in between leaves a place that is neither: what lies
    /// there is compared before anything is written.
    pub fn move_to(&self, spot: Spot) {
        put(&self.offset, spot.offset);
        put(&self.device, spot.device);
        put(&self.inode, spot.inode);
    }
}

impl Base {
    /// The journal in force, and whether its bytes may not all be in the file yet.
    pub(super) fn in_force(&self) -> (u64, bool) {
        // Acquire pairs with the Release in `commit` and `finished`, for those who only look.
        let progress = &self.core.control.progress;
        let committed = progress.committed.load(Ordering::Acquire);
        (committed, progress.done.load(Ordering::Acquire) != committed)
    }

    pub(super) fn sums(&self) -> Sums {
        self.core.control.heading(self.in_force().0).sums()
    }

    /// Puts a new journal in force.
    pub(super) fn commit(&self, spot: Spot, sums: Sums, identities: &[u64], bytes: &[u8]) {
        let number = self.in_force().0.wrapping_add(1);
        let heading = self.core.control.heading(number);
        heading.move_to(spot);
        put(&heading.length, bytes.len() as u64);
        put(&heading.identities, identities.len() as u64);
        put(&heading.records, sums.records);
        put(&heading.bytes, sums.bytes);
        put(&heading.told, sums.told);
        for (n, identity) in identities.iter().enumerate() {
            self.journals.put(number, n * size_of::<u64>(), &identity.to_ne_bytes());
        }
        self.journals.put(number, BYTES_AT, bytes);
        // Release: all of it before the number that puts it in force.
        self.core.control.progress.committed.store(number, Ordering::Release);
    }

    pub(super) fn finished(&self, number: u64) {
        self.core.control.progress.done.store(number, Ordering::Release);
    }

    /// The identities of the records of the journal in force.
    pub(super) fn identities(&self) -> Vec<u64> {
        let number = self.in_force().0;
        let count = get(&self.core.control.heading(number).identities).min((BYTES_AT / size_of::<u64>()) as u64);
        let mut bytes = [0; 8];
        let identity = |n| {
            self.journals.get(number, n as usize * size_of::<u64>(), &mut bytes);
            u64::from_ne_bytes(bytes)
        };
        (0..count).map(identity).collect()
    }

    /// The bytes of the journal in force.
    pub(super) fn pending(&self) -> Vec<u8> {
        let number = self.in_force().0;
        let length = get(&self.core.control.heading(number).length);
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX).min(self.room)];
        self.journals.get(number, BYTES_AT, &mut bytes);
        bytes
    }
}
