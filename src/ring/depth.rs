//! The most messages that there were at once.
//!
//! The producers know where the tail is, and the head is in the consumers' caches: to look at it costs both sides a line. So a
//! handle looks only when there are more messages than ever, by the head that it saw last, and by so many that the look is
//! spread over as many messages. The mark may be short by that, and is exact where the ring was full.

use super::lane::Lane;
use crate::sync_atomics::{AtomicU64, Ordering};

/// The mark may be short by this, or by an eighth of the slots if that is less.
const SLACK: u64 = 16;

/// What a handle knows. Relaxed throughout: advisory.
#[derive(Debug)]
pub(super) struct Depth {
    slack: u64,
    head: AtomicU64,
    mark: AtomicU64,
}

impl Depth {
    pub(super) fn of(slots: u64) -> Depth {
        Depth { slack: SLACK.min(slots / 8), head: AtomicU64::new(0), mark: AtomicU64::new(0) }
    }
}

impl Lane {
    /// Looks how many messages there are up to this position, if they may be more than ever.
    #[inline(always)]
    pub(super) fn note_depth(&self, position: u64) {
        let deep = position.wrapping_sub(self.depth.head.load(Ordering::Relaxed));
        if deep >= self.depth.mark.load(Ordering::Relaxed) + self.depth.slack {
            self.note_depth_now(position);
        }
    }

    #[cold]
    #[inline(never)]
    pub(super) fn note_depth_now(&self, position: u64) {
        let head = self.ends.head.0.load(Ordering::Relaxed);
        self.depth.head.store(head, Ordering::Relaxed);
        self.raise_high_water(position.wrapping_add(1).wrapping_sub(head));
    }

    /// The mark of this lane, raised to this first if it was lower.
    pub(super) fn raise_high_water(&self, deep: u64) -> u64 {
        let shared = &self.ends.high_water.0;
        let (deep, known) = (deep.min(self.slots.count()), shared.load(Ordering::Relaxed));
        let raised = if known < deep { shared.fetch_max(deep, Ordering::Relaxed).max(deep) } else { known };
        let raised = raised.min(self.slots.count()); // a peer may have written anything
        self.depth.mark.store(raised, Ordering::Relaxed);
        raised
    }
}
