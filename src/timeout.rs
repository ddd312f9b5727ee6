//! How long a call may wait: durations on the monotonic clock, turned into one deadline per call.

use std::time::Duration;

use nix::errno::Errno;
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime};

use crate::error::{Error, Result};

/// The longest a call may wait, measured on the monotonic clock from the moment it would block.
///
/// A call always tries first; with [`Timeout::Now`] it does nothing else and fails with `EAGAIN`, with
/// [`Timeout::After`] it fails with `ETIMEDOUT`, never early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timeout {
    /// Wait for ever (a cancel, a close or a signal hook can still end the wait).
    Forever,
    /// Do not wait at all.
    Now,
    /// Wait this long; a duration beyond the clock's range counts as for ever.
    After(Duration),
}

impl Timeout {
    /// From nanoseconds as C gives them: -1 is for ever, 0 is now.
    ///
    /// # Errors
    /// `EINVAL` for any other negative number.
    pub fn from_nanos(nanos: i64) -> Result<Timeout> {
        match nanos {
            -1 => Ok(Timeout::Forever),
            0 => Ok(Timeout::Now),
            1.. => Ok(Timeout::After(Duration::from_nanos(nanos.unsigned_abs()))),
            _ => Err(Error::new(Errno::EINVAL, "timeout")
                .because("a timeout is nanoseconds from 0, or -1 (WW_FOREVER) to wait for ever")),
        }
    }
}

impl From<Duration> for Timeout {
    /// A zero duration is [`Timeout::Now`].
    fn from(duration: Duration) -> Timeout {
        if duration.is_zero() { Timeout::Now } else { Timeout::After(duration) }
    }
}

impl From<Option<Duration>> for Timeout {
    /// `None` is [`Timeout::Forever`], as in the standard library.
    fn from(duration: Option<Duration>) -> Timeout {
        duration.map_or(Timeout::Forever, Timeout::from)
    }
}

/// A point on the monotonic clock, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deadline {
    Never,
    At(Duration),
}

impl Deadline {
    pub(crate) fn after(timeout: Timeout) -> Deadline {
        match timeout {
            Timeout::Forever => Deadline::Never,
            Timeout::Now => Deadline::At(now()),
            // A sum past what a timespec holds lies centuries ahead.
            Timeout::After(duration) => match now().checked_add(duration) {
                Some(at) if at.as_secs() < i64::MAX as u64 => Deadline::At(at),
                _ => Deadline::Never,
            },
        }
    }

    /// The time left: `None` without end, zero once passed.
    pub(crate) fn remaining(self) -> Option<Duration> {
        match self {
            Deadline::Never => None,
            Deadline::At(at) => Some(at.saturating_sub(now())),
        }
    }

    /// The time left as the timeout of a call that is part of this one.
    pub(crate) fn left(self) -> Timeout {
        Timeout::from(self.remaining())
    }

    /// What is left of this timeout, for a call that is part of the one that was given it: a wait that is over stays one that has
    /// timed out.
    pub(crate) fn left_of(self, timeout: Timeout) -> Timeout {
        match timeout {
            Timeout::After(_) => self.remaining().map_or(Timeout::Forever, Timeout::After),
            simple => simple,
        }
    }

    pub(crate) fn has_passed(self) -> bool {
        self.remaining().is_some_and(|left| left.is_zero())
    }

    /// The deadline as an absolute time of CLOCK_MONOTONIC; never is the far end of the clock.
    pub(crate) fn as_timespec(self) -> libc::timespec {
        match self {
            Deadline::Never => libc::timespec { tv_sec: i64::MAX as libc::time_t, tv_nsec: 0 },
            Deadline::At(at) => timespec(at),
        }
    }
}

/// A duration as the kernel wants it; whole nanoseconds, so nothing is rounded.
pub(crate) fn timespec(duration: Duration) -> libc::timespec {
    libc::timespec {
        tv_sec: libc::time_t::try_from(duration.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}

/// The monotonic clock.
pub(crate) fn now() -> Duration {
    // With this clock, which every Linux has, and memory of our own the call has no way to fail.
    clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap_or(TimeSpec::new(0, 0)).into()
}

#[cfg(loom)]
pub(crate) use crate::modelled::about_now;

/// As [`now`], behind by a few milliseconds at most, and several times as fast.
#[cfg(not(loom))]
pub(crate) fn about_now() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).unwrap_or(TimeSpec::new(0, 0)).into()
}

/// Milliseconds since 1970, behind by a few at most.
pub(crate) fn about_wall_clock() -> u64 {
    let (seconds, nanos) = since_1970(ClockId::CLOCK_REALTIME_COARSE);
    seconds.saturating_mul(1000).saturating_add(nanos / 1_000_000)
}

/// Nanoseconds since 1970.
pub(crate) fn wall_clock() -> u64 {
    let (seconds, nanos) = since_1970(ClockId::CLOCK_REALTIME);
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}

/// Seconds and nanoseconds by one of the wall clocks, which cannot fail; a time before 1970 is as good as none. Not a Duration, as
/// this is read on fast paths, and that counts in 128 bits.
fn since_1970(clock: ClockId) -> (u64, u64) {
    let time = clock_gettime(clock).unwrap_or(TimeSpec::new(0, 0));
    (u64::try_from(time.tv_sec()).unwrap_or(0), u64::try_from(time.tv_nsec()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nanoseconds_from_c() {
        assert_eq!(Timeout::from_nanos(-1).unwrap(), Timeout::Forever);
        assert_eq!(Timeout::from_nanos(0).unwrap(), Timeout::Now);
        assert_eq!(Timeout::from_nanos(5).unwrap(), Timeout::After(Duration::from_nanos(5)));
        assert_eq!(Timeout::from_nanos(-2).unwrap_err().errno(), libc::EINVAL);
        assert_eq!(Timeout::from_nanos(i64::MIN).unwrap_err().errno(), libc::EINVAL);
    }

    #[test]
    fn durations() {
        assert_eq!(Timeout::from(Duration::ZERO), Timeout::Now);
        assert_eq!(Timeout::from(None), Timeout::Forever);
    }

    #[test]
    fn absurdly_long_is_for_ever() {
        assert_eq!(Deadline::after(Timeout::After(Duration::MAX)), Deadline::Never);
        assert!(Deadline::after(Timeout::After(Duration::from_secs(u64::MAX / 2))).remaining().is_none());
    }

    #[test]
    fn deadline_never_passes_early() {
        let wait = Duration::from_millis(20);
        let (start, deadline) = (now(), Deadline::after(Timeout::After(wait)));
        while !deadline.has_passed() {
            std::hint::spin_loop();
        }
        assert!(now() - start >= wait);
    }
}
