//! One call on one object: names it in errors, and waits within one deadline if it has to.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{Ending, Wait, scope};
use crate::descriptor::Descriptor;
use crate::error::{Error, Result};
use crate::sys::SysResult;
use crate::timeout::{Deadline, Timeout};

/// What every object of the library has: its address, and the waits on it.
pub(crate) struct Object {
    address: Arc<str>,
    ending: Ending,
}

impl Object {
    pub(crate) fn new(address: impl Into<Arc<str>>) -> Object {
        Object { address: address.into(), ending: Ending::default() }
    }

    pub(crate) fn address(&self) -> &Arc<str> {
        &self.address
    }

    pub(crate) fn error(&self, errno: Errno, operation: &'static str) -> Error {
        Error::new(errno, operation).on(&self.address)
    }

    /// Starts a call that may wait.
    #[inline]
    pub(crate) fn operation(&self, name: &'static str, timeout: Timeout) -> Operation<'_> {
        Operation { object: self, name, timeout, wait: None }
    }

    /// Whether a call that goes on as long as there is something to do shall end, although it need not wait: the waits on
    /// this object have been ended, or a cancel has fired in whose scope this thread is.
    pub(crate) fn is_ended(&self) -> bool {
        self.ending.is_raised() || scope::any_raised()
    }

    /// Ends the waits of all threads on this object with ECANCELED, now and later, and returns when they have left.
    pub(crate) fn end_waits(&self) {
        self.ending.raise_and_drain();
    }
}

/// A call in progress. Keep it to the end of the function that made it: whoever closes the object while this call waits
/// frees the object when the operation is dropped, so nothing of the object may be touched after that.
pub(crate) struct Operation<'a> {
    object: &'a Object,
    name: &'static str,
    timeout: Timeout,
    /// Begun when the call first has to wait, and kept: a call has one deadline, however often it waits.
    wait: Option<Wait<'a>>,
}

impl<'a> Operation<'a> {
    #[cold]
    pub(crate) fn error(&self, errno: Errno) -> Error {
        self.object.error(errno, self.name)
    }

    pub(crate) fn timeout(&self) -> Timeout {
        self.timeout
    }

    /// What is left of the timeout, for a call that is part of this one.
    pub(crate) fn left(&mut self) -> Timeout {
        match self.timeout {
            Timeout::After(_) => self.wait().deadline.left(),
            simple => simple,
        }
    }

    /// As much of what is left as each of so many parts may have, and no more than `most`.
    pub(crate) fn share(&mut self, parts: usize, most: Duration) -> Timeout {
        let parts = u32::try_from(parts.max(1)).unwrap_or(u32::MAX);
        match self.timeout {
            Timeout::Now => Timeout::Now,
            Timeout::Forever => Timeout::After(most),
            Timeout::After(_) => {
                Timeout::After(self.wait().deadline.remaining().map_or(most, |left| most.min(left / parts)))
            }
        }
    }

    /// A call that is part of this one: it waits on the same object, with a timeout of its own.
    pub(crate) fn part(&self, name: &'static str, timeout: Timeout) -> Operation<'a> {
        self.object.operation(name, timeout)
    }

    /// Goes on after something of no use, unless the call is over by now: more of it may come without end. Every call goes
    /// on a few times, as what it wants may be there; one that does not wait, so often. `tried` counts.
    pub(crate) fn go_on(&mut self, tried: &mut u32) -> Result<()> {
        const ANYWAY: u32 = 8;
        const TRIES: u32 = 256;
        *tried += 1;
        let checked = match self.timeout {
            _ if *tried < ANYWAY => Ok(()),
            Timeout::Now if *tried < TRIES => Ok(()),
            Timeout::Now => Err(Errno::EAGAIN),
            _ => self.wait().check(),
        };
        checked.map_err(|errno| self.error(errno))
    }

    pub(crate) fn wait(&mut self) -> &Wait<'a> {
        self.wait.get_or_insert_with(|| Wait::begin(&self.object.ending, self.timeout))
    }

    /// Repeats `attempt`, which never blocks, until it gives something else than EAGAIN, sleeping on `fd` in between.
    #[inline]
    pub(crate) fn until_ready<T>(
        &mut self,
        fd: BorrowedFd<'_>,
        events: PollFlags,
        mut attempt: impl FnMut() -> SysResult<T>,
    ) -> Result<T> {
        match attempt() {
            Ok(value) => Ok(value),
            Err(errno) => self.until_ready_after(errno, fd, events, attempt),
        }
    }

    /// The rest of `until_ready` when the first attempt failed, out of the way of those that succeed.
    #[cold]
    #[inline(never)]
    pub(crate) fn until_ready_after<T>(
        &mut self,
        mut errno: Errno,
        fd: BorrowedFd<'_>,
        events: PollFlags,
        mut attempt: impl FnMut() -> SysResult<T>,
    ) -> Result<T> {
        loop {
            match errno {
                Errno::EINTR => {}
                Errno::EAGAIN if self.timeout != Timeout::Now => self.sleep(fd, events)?,
                // Not our deadline, which never shows up in an attempt.
                Errno::ETIMEDOUT => {
                    return Err(self
                        .error(errno)
                        .because("the other side does not answer (any more): the kernel gave up"));
                }
                errno => return Err(self.error(errno)),
            }
            match attempt() {
                Ok(value) => return Ok(value),
                Err(again) => errno = again,
            }
        }
    }

    #[cold]
    fn sleep(&mut self, fd: BorrowedFd<'_>, events: PollFlags) -> Result<()> {
        self.wait().poll(&mut [PollFd::new(fd, events)]).map_err(|errno| self.error(errno))
    }

    /// As `until_ready` for a descriptor whose description may be in blocking mode, because somebody else opened it:
    /// `attempt` then runs only when poll says that it is ready, and is interrupted at the deadline in case another
    /// process was faster.
    #[inline]
    pub(crate) fn transfer<T>(
        &mut self,
        descriptor: &Descriptor,
        events: PollFlags,
        attempt: impl FnMut() -> SysResult<T>,
    ) -> Result<T> {
        if descriptor.never_blocks() {
            self.until_ready(descriptor.as_fd(), events, attempt)
        } else {
            self.transfer_blocking(descriptor.as_fd(), events, attempt)
        }
    }

    #[cold]
    fn transfer_blocking<T>(
        &mut self,
        fd: BorrowedFd<'_>,
        events: PollFlags,
        mut attempt: impl FnMut() -> SysResult<T>,
    ) -> Result<T> {
        loop {
            match poll(&mut [PollFd::new(fd, events)], PollTimeout::ZERO) {
                Ok(0) if self.timeout == Timeout::Now => return Err(self.error(Errno::EAGAIN)),
                Ok(0) => self.sleep(fd, events)?,
                Ok(_) => {}
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(self.error(errno)),
            }
            match self.interruptible(&mut attempt) {
                Err(Errno::EAGAIN) if self.timeout != Timeout::Now => {} // in non-blocking mode after all
                result => return result.map_err(|errno| self.error(errno)),
            }
        }
    }

    /// Runs `attempt`, which may block in the kernel although it should not have to, and ends it at the deadline.
    ///
    /// Even where there is no time to wait it gets a moment: without any, the timer would end it before it began.
    #[cold]
    pub(crate) fn interruptible<T>(&mut self, mut attempt: impl FnMut() -> SysResult<T>) -> SysResult<T> {
        const MOMENT: Timeout = Timeout::After(Duration::from_millis(1));
        if self.timeout != Timeout::Now {
            return self.wait().call(|_| attempt());
        }
        // Kept like any other wait: until it is dropped with the operation, nobody frees the object.
        match &mut self.wait {
            Some(wait) => wait.restart(MOMENT),
            none => *none = Some(Wait::begin(&self.object.ending, MOMENT)),
        }
        match self.wait().call(|_| attempt()) {
            Err(Errno::ETIMEDOUT) => Err(Errno::EAGAIN),
            result => result,
        }
    }

    /// Runs `attempt`, which never blocks, and if it gives EAGAIN, `call`, which blocks in the kernel without knowing
    /// our reasons to end the wait, and is interrupted when one comes up.
    #[inline]
    pub(crate) fn in_call<T>(
        &mut self,
        mut attempt: impl FnMut() -> SysResult<T>,
        call: impl FnMut(Deadline) -> SysResult<T>,
    ) -> Result<T> {
        loop {
            match attempt() {
                Ok(value) => return Ok(value),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) if self.timeout != Timeout::Now => break,
                Err(errno) => return Err(self.error(errno)),
            }
        }
        self.wait().call(call).map_err(|errno| self.error(errno))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_share_what_is_left() {
        let (object, most) = (Object::new("x"), Duration::from_secs(4));
        let share = |timeout, parts| object.operation("try", timeout).share(parts, most);
        assert_eq!(share(Timeout::Now, 2), Timeout::Now);
        assert_eq!(share(Timeout::Forever, 2), Timeout::After(most));
        assert_eq!(share(Timeout::After(Duration::from_secs(100)), 2), Timeout::After(most));
        let Timeout::After(half) = share(Timeout::After(Duration::from_secs(6)), 2) else { panic!("it waits") };
        assert!(half <= Duration::from_secs(3), "{half:?}");
        // What is over stays over: it does not become a try.
        assert_eq!(share(Timeout::After(Duration::from_nanos(1)), 2), Timeout::After(Duration::ZERO));
    }
}
