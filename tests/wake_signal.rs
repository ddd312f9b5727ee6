//! The signal that the library takes for itself: one that the program has not claimed. Alone in its process, which takes
//! a signal only once.

use std::time::Duration;

use nix::errno::Errno;
use wigwag::{EventFd, Signal, SignalMask, Timeout, wait_signal};

#[test]
fn a_signal_that_the_program_has_blocked_is_left_to_it() {
    let first_choice: Signal = "RTMAX-2".parse().unwrap();
    let _blocked = SignalMask::block(&[first_choice]).unwrap();
    let never = EventFd::new().unwrap();
    assert!(never.take(Timeout::After(Duration::from_millis(5))).unwrap_err().is(Errno::ETIMEDOUT));

    first_choice.send_to_thread(std::process::id().cast_signed(), Signal::this_thread()).unwrap();
    assert!(never.take(Timeout::After(Duration::from_millis(5))).unwrap_err().is(Errno::ETIMEDOUT));
    assert_eq!(wait_signal(&[first_choice], Timeout::Now).unwrap().signal, first_choice);
}
