//! Waits of one thread, across fork and from inside a signal hook.

mod support;

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use nix::errno::Errno;
use nix::sys::signal::SigSet;
use support::{GENEROUS, eventually, fork, fork_without};
use wigwag::{
    Cancel, EventFd, Ring, RingOptions, Signal, Signals, SocketAddress, Timeout, WaitMode, set_interrupt_hook,
};

#[test]
fn a_scope_entered_before_a_fork_goes_on_in_the_child() {
    let cancel = Cancel::new();
    let _scope = cancel.enter();
    fork(|| {
        let (first, second) = (EventFd::new().unwrap(), EventFd::new().unwrap());
        let main = nix::unistd::getpid().as_raw();
        std::thread::scope(|threads| {
            // Another thread is in the scope before this one, which was in it all the time, waits for the first time.
            let (entered, until_entered) = mpsc::channel();
            let (cancel, first) = (&cancel, &first);
            let other = threads.spawn(move || {
                let _scope = cancel.enter();
                entered.send(()).unwrap();
                first.take(GENEROUS).unwrap_err()
            });
            until_entered.recv().unwrap();
            threads.spawn(move || {
                eventually("both wait", || support::is_asleep(main));
                std::thread::sleep(std::time::Duration::from_millis(20));
                cancel.fire();
            });
            assert!(second.take(Timeout::Forever).unwrap_err().is(Errno::ECANCELED));
            assert!(other.join().unwrap().is(Errno::ECANCELED));
        });
    })
    .join();
}

#[test]
fn a_long_wait_after_brief_ones_ends_although_all_signals_are_blocked() {
    let ring = Ring::anonymous(RingOptions { wait: WaitMode::Block, ..Default::default() }).unwrap();
    std::thread::scope(|threads| {
        let (said, until_said) = mpsc::channel();
        let ring = &ring;
        let receiver = threads.spawn(move || {
            SigSet::all().thread_block().unwrap();
            said.send(nix::unistd::gettid().as_raw()).unwrap();
            for _ in 0..6 {
                ring.recv(&mut [0; 8], GENEROUS).unwrap();
            }
            ring.recv(&mut [0; 8], GENEROUS).unwrap_err()
        });
        let receiver_id = until_said.recv().unwrap();
        for _ in 0..6 {
            eventually("the receiver waits", || support::is_asleep(receiver_id));
            ring.send(b"message", GENEROUS).unwrap();
        }
        eventually("the receiver waits", || support::is_asleep(receiver_id));
        ring.end_waits();
        assert!(receiver.join().unwrap().is(Errno::ECANCELED));
    });
}

static EVENTS: LazyLock<EventFd> = LazyLock::new(|| EventFd::new().unwrap());
static RAN: AtomicBool = AtomicBool::new(false);

#[test]
fn a_signal_hook_may_end_the_very_wait_that_it_interrupts() {
    extern "C" fn nothing(_: libc::c_int) {}
    fn hook() -> bool {
        if !RAN.swap(true, Ordering::SeqCst) {
            EVENTS.end_waits(); // as a handler does that closes the object
        }
        false
    }
    fork(|| {
        // SAFETY: a handler that does nothing, in a child that has no other.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = nothing as *const () as usize;
            libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut());
        }
        set_interrupt_hook(hook);
        let (pid, thread) = (nix::unistd::getpid().as_raw(), Signal::this_thread());
        std::thread::scope(|threads| {
            threads.spawn(|| {
                while !RAN.load(Ordering::SeqCst) {
                    let _ = Signal::USR1.send_to_thread(pid, thread);
                    std::thread::sleep(std::time::Duration::from_millis(5));
                }
            });
            assert!(EVENTS.take(GENEROUS).unwrap_err().is(Errno::ECANCELED));
        });
    })
    .join();
}

#[test]
fn where_no_thread_can_be_had_the_error_does_not_say_try_again() {
    fork_without(&[libc::SYS_clone3, libc::SYS_clone], libc::EAGAIN, || {
        let address = "tcp://localhost:80".parse().unwrap();
        let error = SocketAddress::resolve(&address, GENEROUS).unwrap_err();
        assert!(error.is(Errno::ENOMEM) && error.reason().contains("numeric"), "{error}");
        let signals = Signals::open(&[Signal::USR2]).unwrap();
        let error = signals.start().unwrap_err();
        assert!(error.is(Errno::ENOMEM) && error.reason().contains("ulimit -u"), "{error}");
    })
    .join();
}
