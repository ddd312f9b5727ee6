//! Workers that are programs: how they are started, and how such a program finds its seat.
//!
//! System calls: fork, prctl(PR_SET_PDEATHSIG), execve.

use std::ffi::OsString;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;

use super::launch::PoolLauncher;
use super::seat::WorkerSeat;
use crate::address::Address;
use crate::error::{Error, Result};
use crate::sys::child;

/// Where a worker finds its seat: its number, its descriptors, the pool's address.
const VARIABLE: &str = "WIGWAG_WORKER";

/// Workers that are a program with its arguments, which calls [`WorkerSeat::from_environment`].
pub(super) struct Program(pub Vec<OsString>);

impl PoolLauncher for Program {
    fn launch(&mut self, seat: WorkerSeat, error: OwnedFd) -> Result<i32> {
        let failed = |errno: Errno, reason: String| Error::new(errno, "start worker").because_found(reason);
        let Some((program, arguments)) = self.0.split_first() else {
            return Err(failed(Errno::EINVAL, "no program is named".into()));
        };
        let descriptors = seat
            .descriptors()
            .map(|all| all.map(|fd| fd.as_raw_fd()))
            .ok_or_else(|| failed(Errno::ENOTSUP, "only pools over pipe: hand their seats over to programs".into()))?;
        let [orders, reports, claims] = descriptors;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env(VARIABLE, format!("{} {orders} {reports} {claims} {}", seat.number(), seat.address()))
            .stdin(Stdio::null())
            .stderr(error);
        child::end_with_parent(&mut command, descriptors);
        let started = command.spawn().map_err(|error| {
            let errno = Errno::from_raw(error.raw_os_error().unwrap_or(libc::ECHILD));
            failed(errno, format!("{} cannot be run: {error}", program.display()))
        })?;
        Ok(started.id().cast_signed())
    }
}

impl WorkerSeat {
    /// The seat of a program that a pool started ([`Pool::start_program`]); once in a process. Unless the program has a
    /// handler for SIGINT, it gets one that does nothing: Ctrl-C is for the pool's process. Never blocks.
    ///
    /// # Errors
    /// `ENOENT` no pool started this program; `EBUSY` the seat was taken before; `EINVAL`, `EBADF` the environment was
    /// changed on the way.
    ///
    /// [`Pool::start_program`]: super::Pool::start_program
    pub fn from_environment() -> Result<WorkerSeat> {
        static TAKEN: AtomicBool = AtomicBool::new(false);
        let failed = |errno, reason| Err(Error::new(errno, "take a worker's seat").because(reason));
        let Ok(text) = std::env::var(VARIABLE) else {
            return failed(Errno::ENOENT, "WIGWAG_WORKER is not set: a pool starts this program, nobody else");
        };
        let Some((number, descriptors, address)) = parse(&text) else {
            return failed(Errno::EINVAL, "WIGWAG_WORKER is not as the pool has set it");
        };
        let address: Address = address.parse()?;
        if TAKEN.swap(true, Ordering::Relaxed) {
            return failed(Errno::EBUSY, "a process has one seat, which has been taken");
        }
        let mut owned = Vec::with_capacity(descriptors.len());
        for fd in descriptors {
            let fd = match child::inherited(fd) {
                Ok(fd) => fd,
                Err(errno) => return failed(errno, "the descriptors of WIGWAG_WORKER are not open here"),
            };
            owned.push(fd);
        }
        let Ok(descriptors) = <[OwnedFd; 3]>::try_from(owned) else {
            return failed(Errno::EINVAL, "WIGWAG_WORKER is not as the pool has set it");
        };
        child::outlive_interrupts(true);
        WorkerSeat::from_descriptors(number, &address, descriptors)
    }
}

fn parse(text: &str) -> Option<(u32, [RawFd; 3], &str)> {
    let mut words = text.splitn(5, ' ');
    let number = words.next()?.parse().ok()?;
    let mut descriptor = || words.next()?.parse::<RawFd>().ok().filter(|fd| *fd > 2);
    let descriptors = [descriptor()?, descriptor()?, descriptor()?];
    Some((number, descriptors, words.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_environment_says_is_checked() {
        assert_eq!(parse("3 7 8 9 pipe:?capacity=4096"), Some((3, [7, 8, 9], "pipe:?capacity=4096")));
        for wrong in ["", "3 7 8 9", "3 7 8 pipe:", "x 7 8 9 pipe:", "3 0 8 9 pipe:", "3 -1 8 9 pipe:"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
