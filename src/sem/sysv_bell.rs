//! A descriptor for a System V semaphore: how a helper thread waits for permits without taking them.

use std::os::fd::BorrowedFd;

use nix::errno::Errno;

use super::sysv::SysvSem;
use super::sysv_text;
use crate::doorbell::Listen;
use crate::error::Result;
use crate::sys::SysResult;
use crate::sys::sysv_sem::{self as kernel, Op};

impl SysvSem {
    /// A descriptor that is readable when `change` may be possible for semaphore `number`: -1 for a permit, less for
    /// several at once, 0 for the value being zero. For poll, a [`WaitSet`](crate::WaitSet), an event loop. It hears
    /// processes that know nothing of this library. Never blocks.
    ///
    /// It stays readable until an operation of this object with the *same* number and change finds that it would have to
    /// wait (`EAGAIN`); it may be readable for nothing when another process was faster. Operations on several semaphores
    /// at once have no descriptor. It belongs to this object, which closes it. In a child made by fork ask again: the
    /// child gets a descriptor of its own.
    ///
    /// The cost, from the first call on: a helper thread that sleeps in the kernel, a descriptor, and each time that the
    /// helper is woken two switches of context and a few system calls. The helper takes and gives back in one operation,
    /// so the value never moves, but it shows: it counts in [`waiting`](SysvSem::waiting), in
    /// [`last_pid`](SysvSem::last_pid) and in the time of the last operation.
    ///
    /// # Errors
    /// `EINVAL` the change is above 0, for which nobody waits; `EFBIG` there is no semaphore of that number; `EIDRM`,
    /// `EACCES` as [`SysvSem::acquire`]; `ENOMEM` no helper thread can be had; `EMFILE`, `ENFILE` no descriptor is left.
    ///
    /// System calls: semop, eventfd2, clone; in the helper semop.
    pub fn doorbell(&self, number: u16, change: i16) -> Result<BorrowedFd<'_>> {
        self.bells.get((number, change), &self.object, || {
            // Put back in the same operation: -32768 cannot be, and is more than there ever is.
            let Some(back) = change.checked_neg().filter(|back| *back >= 0) else {
                return Err(self
                    .object
                    .error(Errno::EINVAL, "doorbell")
                    .because("nobody waits for a change above 0; -1 is for a permit, 0 for zero"));
            };
            let listener = Listener { id: self.id, number, change, back };
            match listener.look() {
                Ok(()) | Err(Errno::EAGAIN) => Ok(Box::new(listener)),
                Err(errno) => Err(sysv_text::explained(self.object.error(errno, "doorbell"), self.count, 1)),
            }
        })
    }

    /// The descriptors that were asked for in this process, for those who have to forget them before they go. Never
    /// blocks.
    pub fn doorbells(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.bells.descriptors()
    }
}

struct Listener {
    id: i32,
    number: u16,
    change: i16,
    back: i16,
}

impl Listener {
    /// Takes and puts back; or looks for zero, with nothing to put back.
    fn ops(&self) -> impl ExactSizeIterator<Item = Op> {
        let op = |change| Op { number: self.number, change, undo: false };
        [op(self.change), op(self.back)].into_iter().take(if self.change == 0 { 1 } else { 2 })
    }
}

impl Listen for Listener {
    fn look(&self) -> SysResult<()> {
        kernel::try_operate(self.id, self.ops())
    }

    fn wait(&self) -> SysResult<()> {
        kernel::operate(self.id, self.ops())
    }
}
