//! What a pool says on a standard error that nobody reads, that has no room, or whose reader has gone.

use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use wigwag::{Pool, TaskOptions, Verdict};

use super::support::{GENEROUS, eventually, fork};
use super::{done, options, pool, run, submit};

/// Both ends of a terminal, which has room for a few kilobytes, and takes what there is room for.
fn terminal() -> (OwnedFd, OwnedFd) {
    let (mut master, mut slave) = (-1, -1);
    let none = std::ptr::null_mut();
    // SAFETY: both numbers are live locals; nothing else is asked for.
    let opened = unsafe { libc::openpty(&raw mut master, &raw mut slave, none, none.cast(), none.cast()) };
    assert_eq!(opened, 0);
    // SAFETY: just opened, and nobody else's.
    unsafe { (OwnedFd::from_raw_fd(master), OwnedFd::from_raw_fd(slave)) }
}

fn is_full(fd: &OwnedFd) -> bool {
    poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLOUT)], PollTimeout::ZERO) == Ok(0)
}

#[test]
fn a_standard_error_that_nobody_reads_holds_up_nobody() {
    for (unread, full) in [nix::unistd::pipe().unwrap(), terminal()] {
        let child = fork(|| {
            nix::unistd::dup2_stderr(&full).unwrap();
            let own = TaskOptions { timeout: Some(Duration::from_millis(30)), ..Default::default() };
            let pool = pool(options());
            let chatter = submit(&pool, "chatter", "");
            // More than it has room for has been said by the time that these come back.
            eventually("it is full", || is_full(&full));
            assert_eq!(done(run(&pool, "upper", "a")), b"A");
            assert!(matches!(run(&pool, "kill", ""), Verdict::Lost(_)));
            let late = pool.submit("sleep", b"60000", own, GENEROUS).unwrap();
            assert!(matches!(late.wait(GENEROUS).unwrap(), Verdict::Lost(_)));
            eventually("what is left out is counted", || pool.statistics().unsaid > 0);
            assert!(chatter.cancel(true));
            pool.shutdown(false, GENEROUS).unwrap();
        });
        child.join();
        drop(unread);
    }
}

#[test]
fn what_the_pool_itself_has_to_say_holds_up_nobody() {
    for has_reader in [false, true] {
        let (read, write) = nix::unistd::pipe().unwrap();
        let kept = has_reader.then_some(read);
        let child = fork(|| {
            nix::unistd::dup2_stderr(&write).unwrap();
            if has_reader {
                nix::fcntl::fcntl(&write, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK)).unwrap();
                while nix::unistd::write(&write, &[b'.'; 4096]).is_ok() {}
                nix::fcntl::fcntl(&write, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::empty())).unwrap();
            }
            let pool = Pool::start_program(options(), &["/nonexistent/program"]).unwrap();
            let task = pool.submit_to(0, b"", TaskOptions::default(), GENEROUS).unwrap();
            assert!(matches!(task.wait(GENEROUS).unwrap(), Verdict::Failed(_)));
            assert_eq!(pool.statistics().unsaid > 0, has_reader);
            pool.shutdown(false, GENEROUS).unwrap();
        });
        child.join();
        drop(kept);
    }
}
