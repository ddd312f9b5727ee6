//! Waits of one thread, across fork and from inside a signal hook.

mod support;

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::mpsc;

use nix::errno::Errno;
use nix::sys::signal::SigSet;
use support::{GENEROUS, eventually, fork, fork_without};
use wigwag::{
    Barrier, BarrierOptions, Cancel, Condition, ConditionOptions, EventFd, Mutex, MutexOptions, Permits,
    PermitsOptions, Ring, RingOptions, Signal, Signals, SocketAddress, Timeout, WaitMode, set_interrupt_hook,
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

/// Has `hook` called in waits that SIGUSR1 interrupts. In a process of its own.
fn interrupt_with(hook: fn() -> bool) {
    extern "C" fn nothing(_: libc::c_int) {}
    // SAFETY: a handler that does nothing, in a child that has no other.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as *const () as usize;
        libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut());
    }
    set_interrupt_hook(hook);
}

static EVENTS: LazyLock<EventFd> = LazyLock::new(|| EventFd::new().unwrap());
static RAN: AtomicBool = AtomicBool::new(false);

#[test]
fn a_signal_hook_may_end_the_very_wait_that_it_interrupts() {
    fn hook() -> bool {
        if !RAN.swap(true, Ordering::SeqCst) {
            EVENTS.end_waits(); // as a handler does that closes the object
        }
        false
    }
    fork(|| {
        interrupt_with(hook);
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
fn a_hook_is_asked_though_no_signal_interrupts_a_wait() {
    for wait in [WaitMode::Adaptive, WaitMode::Block, WaitMode::Poll] {
        fork(|| {
            set_interrupt_hook(|| true);
            let ring = Ring::anonymous(RingOptions { wait, ..Default::default() }).unwrap();
            // As if the signal had come just before the wait.
            assert!(ring.recv(&mut [0; 16], GENEROUS).unwrap_err().is(Errno::EINTR), "{wait:?}");
        })
        .join();
    }
}

static TAKES_AGAIN: AtomicBool = AtomicBool::new(false);

#[test]
fn a_hook_that_ends_a_wait_on_a_condition_leaves_the_mutex_held() {
    fn hook() -> bool {
        TAKES_AGAIN.load(Ordering::SeqCst) && !RAN.swap(true, Ordering::SeqCst)
    }
    fork(|| {
        set_interrupt_hook(hook);
        let mutex = Mutex::anonymous(MutexOptions::default()).unwrap();
        let condition = Condition::anonymous(ConditionOptions::default()).unwrap();
        mutex.take(GENEROUS).unwrap();
        std::thread::scope(|threads| {
            threads.spawn(|| {
                let guard = mutex.lock(GENEROUS).unwrap();
                condition.notify_one().unwrap();
                TAKES_AGAIN.store(true, Ordering::SeqCst);
                eventually("the hook has run", || RAN.load(Ordering::SeqCst));
                drop(guard);
            });
            let (ended, _) = condition.wait_taken(&mutex, GENEROUS).unwrap();
            assert!(ended.unwrap_err().is(Errno::EINTR));
        });
        mutex.release().unwrap();
    })
    .join();
}

static CHILD: AtomicI32 = AtomicI32::new(0);

/// Has a signal handler fork in the middle of `wait`, looks after the child's end whether the parent still waits, and lets
/// it `go` on.
fn fork_in(wait: impl FnOnce() -> wigwag::Result<()>, waits: impl Fn() -> bool + Sync, go: impl FnOnce() + Send) {
    fn hook() -> bool {
        if CHILD.load(Ordering::SeqCst) == 0 {
            // SAFETY: the child unwinds to where it leaves, below.
            CHILD.store(unsafe { libc::fork() }, Ordering::SeqCst);
        }
        false
    }
    fork(|| {
        interrupt_with(hook);
        let (pid, thread) = (nix::unistd::getpid().as_raw(), Signal::this_thread());
        std::thread::scope(|threads| {
            threads.spawn(|| {
                eventually("it waits", &waits);
                while CHILD.load(Ordering::SeqCst) == 0 {
                    let _ = Signal::USR1.send_to_thread(pid, thread);
                    std::thread::sleep(std::time::Duration::from_millis(5));
                }
                let mut status = 0;
                // SAFETY: a child of this process; status is a live local.
                unsafe { libc::waitpid(CHILD.load(Ordering::SeqCst), &raw mut status, 0) };
                assert_eq!(status, 0, "the child's wait ends with EINTR");
                assert!(waits());
                go();
            });
            let waited = wait();
            if nix::unistd::getpid().as_raw() != pid {
                let ended = waited.is_err_and(|error| error.is(Errno::EINTR) && error.reason().contains("forked"));
                // SAFETY: the child has nothing to tidy up.
                unsafe { libc::_exit(i32::from(!ended)) };
            }
            waited.unwrap();
        });
    })
    .join();
}

#[test]
fn a_child_made_in_the_middle_of_a_wait_leaves_the_wait_to_its_parent() {
    let seen = |participants: &[wigwag::SyncParticipant]| participants.iter().any(|found| found.waiting == 1);

    let permits = Permits::anonymous(PermitsOptions { count: 1, fair: true, ..Default::default() }).unwrap();
    fork_in(
        || {
            std::mem::forget(permits.acquire(1, GENEROUS)?);
            permits.acquire(1, GENEROUS).map(drop)
        },
        || seen(&permits.statistics().unwrap().participants),
        || permits.release(1).unwrap(),
    );

    let barrier = Barrier::anonymous(BarrierOptions { parties: 2, ..Default::default() }).unwrap();
    fork_in(
        || barrier.wait(GENEROUS).map(drop),
        || barrier.statistics().is_ok_and(|found| found.arrived == 1 && seen(&found.participants)),
        || barrier.wait(GENEROUS).map(drop).unwrap(),
    );

    let ring = Ring::anonymous(RingOptions { capacity: 1 << 10, largest: 400, ..Default::default() }).unwrap();
    let fill = || while ring.send(&[1; 300], Timeout::Now).is_ok() {};
    fork_in(
        || {
            fill();
            ring.send(&[2; 300], GENEROUS)
        },
        || ring.statistics().unwrap().participants.iter().any(|found| found.waiting == 1),
        || assert_eq!(ring.recv(&mut [0; 400], GENEROUS).unwrap().length, 300),
    );
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
