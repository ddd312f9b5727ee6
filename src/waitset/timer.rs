//! A timer as an entry of a wait set.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::unistd::read;

use crate::sys::SysResult;
use crate::timeout::timespec;

pub(super) struct Timer(TimerFd);

impl Timer {
    pub(super) fn new(first: Duration, period: Option<Duration>) -> SysResult<Timer> {
        let timer = Timer(TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK)?);
        timer.set(first, period)?;
        Ok(timer)
    }

    /// Starts it anew, and forgets expirations that nobody has taken.
    pub(super) fn set(&self, first: Duration, period: Option<Duration>) -> SysResult<()> {
        // Zero would mean "never" to the kernel; what callers mean is "at once".
        let spec = |duration: Duration| TimeSpec::from(timespec(duration.max(Duration::from_nanos(1))));
        let expiration = match period {
            Some(period) => Expiration::IntervalDelayed(spec(first), spec(period)),
            None => Expiration::OneShot(spec(first)),
        };
        self.0.set(expiration, TimerSetTimeFlags::empty())
    }

    /// How often it has expired since the last time this was asked; EAGAIN for not at all.
    pub(super) fn take(&self) -> SysResult<u64> {
        let mut count = [0; 8];
        read(&self.0, &mut count)?;
        Ok(u64::from_ne_bytes(count))
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
