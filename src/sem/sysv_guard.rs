//! A permit of a System V semaphore, held for a scope.

use std::mem::ManuallyDrop;

use super::sysv::SysvSem;
use crate::error::Result;
use crate::sys::fork;

/// A permit of one semaphore of a [`SysvSem`], given back when dropped – and by the kernel if the process dies.
///
/// The permit stays with the process that acquired it: in a child made by fork, dropping the copy of the guard gives
/// nothing back.
#[must_use = "dropping the guard gives the permit back at once"]
pub struct SysvSemGuard<'a> {
    set: &'a SysvSem,
    number: u16,
    generation: u32,
}

impl<'a> SysvSemGuard<'a> {
    pub(super) fn new(set: &'a SysvSem, number: u16) -> SysvSemGuard<'a> {
        SysvSemGuard { set, number, generation: fork::generation() }
    }

    /// Gives the permit back, telling whether that went well; dropping does the same without telling. Errors: as
    /// [`SysvSem::release`].
    pub fn release(self) -> Result<()> {
        let guard = ManuallyDrop::new(self);
        guard.set.release(guard.number)
    }

    /// Keeps the permit taken when the guard goes, until [`SysvSem::release`] or the end of the process.
    pub fn keep(self) {
        let _ = ManuallyDrop::new(self);
    }
}

impl Drop for SysvSemGuard<'_> {
    fn drop(&mut self) {
        if self.generation == fork::generation() {
            // Fails only on a set that was removed meanwhile, or filled to the brim by others: nobody waits for it then.
            let _ = self.set.release(self.number);
        }
    }
}

impl std::fmt::Debug for SysvSemGuard<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SysvSemGuard").field("set", &self.set.address()).field("number", &self.number).finish()
    }
}
