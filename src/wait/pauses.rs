//! Pauses that grow, between looks at something that cannot be waited for.

use std::time::Duration;

use super::Operation;
use crate::error::Result;
use crate::sync_atomics::AtomicU32;

/// In milliseconds, doubling from the first to the last.
const PAUSES: std::ops::RangeInclusive<u64> = 1..=50;

/// How long the next pause is.
pub(crate) struct Pauses(u64);

impl Default for Pauses {
    fn default() -> Pauses {
        Pauses(*PAUSES.start())
    }
}

impl Pauses {
    /// Sleeps a little; fails when the operation is over.
    pub(crate) fn sleep(&mut self, operation: &mut Operation<'_>) -> Result<()> {
        let nobody = AtomicU32::new(0);
        let slept = operation.wait().futex(&nobody, 0, Some(Duration::from_millis(self.0)));
        self.0 = (self.0 * 2).min(*PAUSES.end());
        slept.map(drop).map_err(|errno| operation.error(errno))
    }
}
