//! Living together: with handlers of others, with children, with subscriptions that come and go.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use wigwag::{EventFd, Shutdown, ShutdownOptions, Signal, SignalAction, Signals, SignalsOptions, Timeout};

use crate::support::{GENEROUS, fork};
use crate::{alone, own_pid, raise, rt};

static SEEN: AtomicU32 = AtomicU32::new(0);

extern "C" fn plain(_: libc::c_int) {
    SEEN.fetch_add(1, Ordering::SeqCst);
}

extern "C" fn informed(signal: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel's siginfo, handed on.
    assert_eq!(unsafe { (*info).si_signo }, signal);
    SEEN.fetch_add(100, Ordering::SeqCst);
}

fn install(signal: Signal, handler: usize, flags: libc::c_int) -> libc::sigaction {
    // SAFETY: zeros are a valid sigaction; the handlers above only touch an atomic.
    unsafe {
        let (mut new, mut old): (libc::sigaction, libc::sigaction) = (std::mem::zeroed(), std::mem::zeroed());
        new.sa_sigaction = handler;
        new.sa_flags = flags;
        assert_eq!(libc::sigaction(signal.number(), &raw const new, &raw mut old), 0);
        old
    }
}

fn current(signal: Signal) -> libc::sigaction {
    // SAFETY: as above.
    unsafe {
        let mut old: libc::sigaction = std::mem::zeroed();
        assert_eq!(libc::sigaction(signal.number(), std::ptr::null(), &raw mut old), 0);
        old
    }
}

#[test]
fn earlier_handlers_are_called_and_come_back() {
    alone(|| {
        let handlers = [(plain as *const () as usize, 0, 1), (informed as *const () as usize, libc::SA_SIGINFO, 100)];
        for (handler, flags, step) in handlers {
            SEEN.store(0, Ordering::SeqCst);
            install(Signal::USR1, handler, flags);
            let (first, second) = (Signals::open(&[Signal::USR1]).unwrap(), Signals::open(&[Signal::USR1]).unwrap());
            assert_eq!(current(Signal::USR1).sa_flags & libc::SA_RESTART, 0, "as the earlier one");
            raise(Signal::USR1);
            assert_eq!(SEEN.load(Ordering::SeqCst), step);
            assert!(first.take(Timeout::Now).is_ok() && second.take(Timeout::Now).is_ok());
            drop(first);
            raise(Signal::USR1);
            assert_eq!(SEEN.load(Ordering::SeqCst), 2 * step);
            drop(second);
            assert_eq!(current(Signal::USR1).sa_sigaction, handler);
            raise(Signal::USR1);
            assert_eq!(SEEN.load(Ordering::SeqCst), 3 * step);
        }
    });
}

#[test]
fn earlier_handlers_are_left_out_on_request() {
    alone(|| {
        SEEN.store(0, Ordering::SeqCst);
        install(Signal::USR1, plain as *const () as usize, 0);
        install(Signal::USR2, plain as *const () as usize, 0);
        let options = SignalsOptions { unchained: vec![Signal::USR1], ..Default::default() };
        let signals = Signals::open_with(&[Signal::USR1, Signal::USR2], options).unwrap();
        raise(Signal::USR1);
        assert_eq!(SEEN.load(Ordering::SeqCst), 0);
        raise(Signal::USR2);
        assert_eq!(SEEN.load(Ordering::SeqCst), 1);
        fork(|| {
            raise(Signal::USR1);
            assert_eq!(SEEN.load(Ordering::SeqCst), 2, "a child fares as if nobody had subscribed");
        })
        .join();
        signals.end();
        signals.end();
        assert_eq!(signals.take(Timeout::Now).unwrap().signal, Signal::USR1);
        assert_eq!(signals.take(Timeout::Now).unwrap().signal, Signal::USR2);
        assert!(signals.take(GENEROUS).unwrap_err().is(Errno::ECANCELED));
        raise(Signal::USR1);
        assert_eq!(SEEN.load(Ordering::SeqCst), 2);
    });
}

#[test]
fn a_handler_installed_over_ours_is_left_alone() {
    alone(|| {
        let signals = Signals::open(&[Signal::USR1]).unwrap();
        install(Signal::USR1, plain as *const () as usize, 0);
        drop(signals);
        assert_eq!(current(Signal::USR1).sa_sigaction, plain as *const () as usize);
    });
}

static CHAINED: AtomicU32 = AtomicU32::new(0);
static OURS: std::sync::Mutex<Option<libc::sigaction>> = std::sync::Mutex::new(None);

extern "C" fn chaining(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    CHAINED.fetch_add(1, Ordering::SeqCst);
    let ours = OURS.lock().unwrap().unwrap().sa_sigaction;
    // SAFETY: a handler that was installed with SA_SIGINFO, called as the kernel called this one.
    unsafe {
        std::mem::transmute::<usize, extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void)>(ours)(
            signal, info, context,
        );
    }
}

#[test]
fn a_circle_of_handlers_ends() {
    alone(|| {
        let first = Signals::open(&[Signal::USR1]).unwrap();
        // Somebody installs over us and chains to us; then we install over them and chain to them.
        *OURS.lock().unwrap() = Some(install(Signal::USR1, chaining as *const () as usize, libc::SA_SIGINFO));
        let second = Signals::open(&[Signal::USR1]).unwrap();
        raise(Signal::USR1);
        assert_eq!(CHAINED.load(Ordering::SeqCst), 1);
        for signals in [&first, &second] {
            assert!(signals.take(Timeout::Now).is_ok());
            assert!(signals.take(Timeout::Now).is_err(), "once each");
        }
    });
}

#[test]
fn the_first_handler_stays_in_the_chain_when_ours_is_installed_again() {
    alone(|| {
        SEEN.store(0, Ordering::SeqCst);
        CHAINED.store(0, Ordering::SeqCst);
        install(Signal::USR1, plain as *const () as usize, 0);
        let first = Signals::open(&[Signal::USR1]).unwrap();
        *OURS.lock().unwrap() = Some(install(Signal::USR1, chaining as *const () as usize, libc::SA_SIGINFO));
        let second = Signals::open(&[Signal::USR1]).unwrap();
        raise(Signal::USR1);
        assert_eq!((CHAINED.load(Ordering::SeqCst), SEEN.load(Ordering::SeqCst)), (1, 1));
        for signals in [&first, &second] {
            assert!(signals.take(Timeout::Now).is_ok());
            assert!(signals.take(Timeout::Now).is_err(), "once each");
        }
        drop((first, second));
        assert_eq!(current(Signal::USR1).sa_sigaction, chaining as *const () as usize);
        raise(Signal::USR1);
        assert_eq!((CHAINED.load(Ordering::SeqCst), SEEN.load(Ordering::SeqCst)), (2, 2), "by way of ours");
        // The same once more: nobody is called twice.
        let third = Signals::open(&[Signal::USR1]).unwrap();
        raise(Signal::USR1);
        assert_eq!((CHAINED.load(Ordering::SeqCst), SEEN.load(Ordering::SeqCst)), (3, 3));
        assert!(third.take(Timeout::Now).is_ok() && third.take(Timeout::Now).is_err());
    });
}

#[test]
fn a_signal_named_twice_counts_once() {
    alone(|| {
        let signals = vec![Signal::USR1, Signal::USR1];
        let shutdown = Shutdown::open(ShutdownOptions { signals, ..Default::default() }).unwrap();
        assert_eq!(shutdown.address(), "signal:USR1");
        raise(Signal::USR1);
        assert_eq!(shutdown.count(), 1);
    });
}

#[test]
fn calls_of_others_are_not_interrupted() {
    alone(|| {
        let _signals = Signals::open(&[Signal::USR1]).unwrap();
        let (reader, writer) = nix::unistd::pipe().unwrap();
        let main = Signal::this_thread();
        std::thread::scope(|threads| {
            threads.spawn(move || {
                std::thread::sleep(Duration::from_millis(10));
                Signal::USR1.send_to_thread(own_pid(), main).unwrap();
                std::thread::sleep(Duration::from_millis(10));
                nix::unistd::write(&writer, b"x").unwrap();
            });
            assert_eq!(nix::unistd::read(&reader, &mut [0; 8]), Ok(1));
        });
    });
}

#[test]
fn a_child_without_subscriptions_of_its_own_dies_as_it_should() {
    alone(|| {
        let signals = Signals::open(&[Signal::TERM, Signal::CHLD]).unwrap();
        let _shutdown = Shutdown::install().unwrap();
        let child = fork(|| {
            raise(Signal::CHLD); // ignored, as by default
            raise(Signal::TERM);
            unreachable!();
        });
        assert_eq!(child.wait() & 0x7f, libc::SIGTERM);
        let info = signals.take(GENEROUS).unwrap();
        assert_eq!((info.signal, info.status), (Signal::CHLD, libc::SIGTERM), "and the parent hears of it only");
        assert!(signals.take(Timeout::Now).is_err());
    });
}

#[test]
fn a_child_that_uses_it_has_its_own() {
    alone(|| {
        let signals = Signals::open(&[Signal::USR1, rt(0)]).unwrap();
        let shutdown = Shutdown::install().unwrap();
        signals.on(rt(0), |_| {}).unwrap();
        signals.start().unwrap();
        signals.stop();
        rt(0).send_value(own_pid(), 1).unwrap();
        raise(Signal::TERM);
        let (to_child, to_parent) = (EventFd::new().unwrap(), EventFd::new().unwrap());
        let child = fork(|| {
            assert!(signals.take(Timeout::Now).is_err(), "the parent's is the parent's");
            assert_eq!(shutdown.requested(), None);
            assert!(shutdown.wait(Timeout::Now).is_err());
            raise(Signal::INT);
            assert_eq!(shutdown.wait(Timeout::Now).unwrap(), Signal::INT);
            signals.start().unwrap();
            signals.stop();
            rt(0).send_value(own_pid(), 2).unwrap();
            to_parent.add(1, Timeout::Now).unwrap();
            to_child.take(GENEROUS).unwrap();
            assert_eq!(signals.take(GENEROUS).unwrap().value, 2);
            assert!(signals.take(Timeout::Now).is_err());
        });
        to_parent.take(GENEROUS).unwrap();
        rt(0).send_value(own_pid(), 3).unwrap();
        to_child.add(1, Timeout::Now).unwrap();
        child.join();
        assert_eq!((shutdown.requested(), shutdown.count()), (Some(Signal::TERM), 1));
        assert_eq!(signals.take(Timeout::Now).unwrap().value, 1);
        assert_eq!(signals.take(Timeout::Now).unwrap().value, 3);
        assert!(signals.take(Timeout::Now).is_err());
    });
}

#[test]
fn a_child_that_lets_go_leaves_the_parents_alone() {
    alone(|| {
        let mut signals = Some(Signals::open(&[Signal::USR1]).unwrap());
        signals.as_ref().unwrap().start().unwrap();
        fork(|| {
            drop(signals.take());
            assert_eq!(current(Signal::USR1).sa_sigaction, libc::SIG_DFL);
            drop(Signals::open(&[Signal::USR1]).unwrap());
        })
        .join();
        let signals = signals.unwrap();
        signals.stop();
        raise(Signal::USR1);
        signals.take(Timeout::Now).unwrap();
    });
}

#[test]
fn subscriptions_come_and_go_under_fire() {
    alone(|| {
        let _ignored = SignalAction::ignore(rt(5)).unwrap();
        let at_work = AtomicU32::new(2);
        std::thread::scope(|threads| {
            for _ in 0..2 {
                threads.spawn(|| {
                    while at_work.load(Ordering::Relaxed) > 0 {
                        raise(rt(5));
                    }
                });
            }
            for _ in 0..2 {
                threads.spawn(|| {
                    for _ in 0..300 {
                        let signals = Signals::open(&[rt(5)]).unwrap();
                        signals.take(GENEROUS).unwrap();
                    }
                    at_work.fetch_sub(1, Ordering::Relaxed);
                });
            }
        });
        assert_eq!(current(rt(5)).sa_sigaction, libc::SIG_IGN);
    });
}

#[test]
fn a_fork_in_the_middle_of_everything() {
    alone(|| {
        let _ignored = SignalAction::ignore(rt(6)).unwrap();
        let stop = AtomicBool::new(false);
        std::thread::scope(|threads| {
            for _ in 0..2 {
                threads.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        let signals = Signals::open(&[rt(6)]).unwrap();
                        raise(rt(6));
                        signals.take(GENEROUS).unwrap();
                    }
                });
            }
            for _ in 0..40 {
                fork(|| {
                    let signals = Signals::open(&[rt(6)]).unwrap();
                    raise(rt(6));
                    signals.take(GENEROUS).unwrap();
                })
                .join();
            }
            stop.store(true, Ordering::Relaxed);
        });
    });
}
