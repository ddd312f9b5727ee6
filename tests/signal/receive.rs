//! Taking, dispatching, waiting, masking, ending.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::AsFd;
use wigwag::{
    Cancel, EventFd, RawSubscription, Shutdown, ShutdownOptions, Signal, SignalAction, SignalInfo, SignalMask, Signals,
    SignalsOptions, Timeout, wait_signal,
};

use crate::support::{GENEROUS, SHORT, eventually, fork};
use crate::{alone, own_pid, raise, rt};

#[test]
fn values_arrive_in_order_from_another_process() {
    let ready = EventFd::new().unwrap();
    let parent = own_pid();
    let child = fork(|| {
        let signals = Signals::open(&[rt(0)]).unwrap();
        ready.add(1, Timeout::Now).unwrap();
        for expected in 0..200 {
            let info = signals.take(GENEROUS).unwrap();
            assert_eq!((info.signal, info.value, info.pid), (rt(0), expected - 100, parent));
            assert_eq!((info.uid, info.code), (nix::unistd::getuid().as_raw(), libc::SI_QUEUE));
        }
        assert_eq!(signals.lost(), 0);
    });
    ready.take(GENEROUS).unwrap();
    for value in 0..200 {
        rt(0).send_value(child.pid(), value - 100).unwrap();
    }
    child.join();
}

#[test]
fn a_sender_killed_on_the_way_and_a_receiver_killed() {
    // One signal at a time on its way: how many may be pending is a limit of the user's, shared with other tests.
    let (taken, heard) = (EventFd::new().unwrap(), EventFd::new().unwrap());
    let receiver = fork(|| {
        let signals = Signals::open(&[rt(1)]).unwrap();
        heard.add(1, Timeout::Now).unwrap();
        loop {
            assert_eq!(signals.take(GENEROUS).unwrap().value, 5, "whole or not at all");
            taken.add(1, Timeout::Now).unwrap();
            heard.add(1, Timeout::Now).unwrap();
        }
    });
    heard.take(GENEROUS).unwrap();
    let sender = fork(|| {
        loop {
            rt(1).send_value(receiver.pid(), 5).unwrap();
            taken.take(GENEROUS).unwrap();
        }
    });
    for _ in 0..3 {
        heard.take(GENEROUS).unwrap();
    }
    sender.kill(libc::SIGKILL);
    sender.wait();
    while heard.take(SHORT).is_ok() {}
    rt(1).send_value(receiver.pid(), 5).unwrap();
    heard.take(GENEROUS).unwrap();

    let pid = receiver.pid();
    receiver.kill(libc::SIGKILL);
    receiver.wait();
    assert!(rt(1).send_value(pid, 5).unwrap_err().is(Errno::ESRCH));
}

#[test]
fn several_objects_get_the_same_signal() {
    alone(|| {
        let first = Signals::open(&[Signal::USR1]).unwrap();
        let second = Signals::open(&[Signal::USR1, Signal::USR2]).unwrap();
        raise(Signal::USR1);
        assert_eq!(first.take(Timeout::Now).unwrap().signal, Signal::USR1);
        assert_eq!(second.take(Timeout::Now).unwrap().signal, Signal::USR1);
        drop(first);
        raise(Signal::USR1);
        assert_eq!(second.take(Timeout::Now).unwrap().signal, Signal::USR1);
        assert_eq!(
            second.take(Timeout::Now).unwrap_err().to_string(),
            "take signal:USR1,USR2: EAGAIN: it would have to wait, and the timeout is zero"
        );
        assert!(second.take(SHORT).unwrap_err().is(Errno::ETIMEDOUT));
    });
}

#[test]
fn descriptor_is_readable_while_something_is_queued() {
    alone(|| {
        let signals = Signals::at(&"signal:USR1?capacity=10".parse().unwrap(), SignalsOptions::default()).unwrap();
        let readable = || poll(&mut [PollFd::new(signals.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO).unwrap() == 1;
        assert!(!readable());
        raise(Signal::USR1);
        assert!(readable() && readable());
        signals.take(Timeout::Now).unwrap();
        assert!(!readable());
    });
}

#[test]
fn what_does_not_fit_is_counted_and_errno_is_kept() {
    alone(|| {
        let signals = Signals::open_with(&[rt(0)], SignalsOptions { capacity: 1, ..Default::default() }).unwrap();
        for value in 0..300 {
            rt(0).send_value(own_pid(), value).unwrap();
        }
        // The handler meets a full queue: its failing write must not show.
        Errno::set_raw(77);
        // SAFETY: sends a signal to this process.
        unsafe { libc::kill(libc::getpid(), rt(0).number()) };
        assert_eq!(Errno::last_raw(), 77);
        let mut taken = 0;
        while let Ok(info) = signals.take(Timeout::Now) {
            assert_eq!(info.value, taken, "the oldest are kept");
            taken += 1;
        }
        assert!(taken >= 1 && signals.lost() > 0);
        assert_eq!(taken as u64 + signals.lost(), 301);
    });
}

#[test]
fn functions_run_when_dispatched() {
    alone(|| {
        let signals = Signals::open(&[Signal::USR1, Signal::USR2]).unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let note = |name: &'static str| {
            let seen = Arc::clone(&seen);
            move |info: &SignalInfo| seen.lock().unwrap().push((name, info.signal))
        };
        let first = signals.on(Signal::USR1, note("first")).unwrap();
        signals.on(Signal::USR1, note("second")).unwrap();
        assert!(signals.dispatch(Timeout::Now).unwrap_err().is(Errno::EAGAIN));
        raise(Signal::USR1);
        raise(Signal::USR2);
        assert_eq!(signals.dispatch(GENEROUS).unwrap(), 2);
        assert_eq!(*seen.lock().unwrap(), [("first", Signal::USR1), ("second", Signal::USR1)]);
        signals.off(first).unwrap();
        assert_eq!(
            signals.off(first).unwrap_err().to_string(),
            "off signal:USR1,USR2: ENOENT: no function has this number, or not any more"
        );
        raise(Signal::USR1);
        assert_eq!(signals.dispatch(SHORT).unwrap(), 1);
        assert_eq!(seen.lock().unwrap().last(), Some(&("second", Signal::USR1)));
        let error = signals.on(Signal::HUP, |_| {}).unwrap_err();
        assert!(error.is(Errno::EINVAL) && error.reason().starts_with("SIGHUP is not among"), "{error}");
    });
}

#[test]
fn dispatcher_thread_outlives_a_panic_and_stops() {
    alone(|| {
        let signals = Signals::open(&[rt(0)]).unwrap();
        let count = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&count);
        signals
            .on(rt(0), |info| {
                if info.value == 0 {
                    std::panic::resume_unwind(Box::new("on purpose")); // without a message
                }
            })
            .unwrap();
        signals
            .on(rt(0), move |_| {
                counted.fetch_add(1, Ordering::SeqCst);
            })
            .unwrap();
        signals.start().unwrap();
        assert!(signals.start().unwrap_err().is(Errno::EALREADY));
        for value in 0..3 {
            rt(0).send_value(own_pid(), value).unwrap();
        }
        eventually("all three have run", || count.load(Ordering::SeqCst) == 3);
        signals.stop();
        signals.stop();
        raise(rt(0));
        assert_eq!(signals.take(Timeout::Now).unwrap().signal, rt(0), "nobody dispatches any more");
        signals.start().unwrap();
    });
}

#[test]
fn a_function_may_end_its_object_and_must_not_dispatch() {
    alone(|| {
        let shared: Arc<Mutex<Option<Signals>>> = Arc::default();
        let done = Arc::new(EventFd::new().unwrap());
        let (inside, told) = (Arc::clone(&shared), Arc::clone(&done));
        let signals = Signals::open(&[Signal::USR1]).unwrap();
        signals
            .on(Signal::USR1, move |_| {
                let signals = inside.lock().unwrap().take();
                let error = signals.as_ref().unwrap().dispatch(Timeout::Now).unwrap_err();
                assert!(error.is(Errno::EDEADLK), "{error}");
                drop(signals);
                told.add(1, Timeout::Now).unwrap();
            })
            .unwrap();
        signals.start().unwrap();
        *shared.lock().unwrap() = Some(signals);
        raise(Signal::USR1);
        done.take(GENEROUS).unwrap();
    });
}

#[test]
fn removing_a_function_waits_for_it() {
    alone(|| {
        let signals = Arc::new(Signals::open(&[Signal::USR1]).unwrap());
        let (began, finished) = (Arc::new(EventFd::new().unwrap()), Arc::new(AtomicU32::new(0)));
        let (begin, finish) = (Arc::clone(&began), Arc::clone(&finished));
        let id = signals
            .on(Signal::USR1, move |_| {
                begin.add(1, Timeout::Now).unwrap();
                std::thread::sleep(Duration::from_millis(30));
                finish.store(1, Ordering::SeqCst);
            })
            .unwrap();
        signals.start().unwrap();
        raise(Signal::USR1);
        began.take(GENEROUS).unwrap();
        assert!(signals.dispatch(Timeout::Now).unwrap_err().is(Errno::EAGAIN));
        signals.off(id).unwrap();
        assert_eq!(finished.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn waits_end_early() {
    alone(|| {
        let signals = Arc::new(Signals::open(&[Signal::USR1]).unwrap());
        let cancel = Cancel::new();
        std::thread::scope(|threads| {
            threads.spawn(|| {
                std::thread::sleep(Duration::from_millis(10));
                cancel.fire();
            });
            let _scope = cancel.enter();
            assert!(signals.take(GENEROUS).unwrap_err().is(Errno::ECANCELED));
            assert!(signals.dispatch(GENEROUS).unwrap_err().is(Errno::ECANCELED));
            assert!(wait_signal(&[Signal::USR2], GENEROUS).unwrap_err().is(Errno::ECANCELED));
        });
        let waiters: Vec<_> = (0..4)
            .map(|n| {
                let signals = Arc::clone(&signals);
                std::thread::spawn(move || match n % 2 {
                    0 => signals.take(GENEROUS).unwrap_err().errno(),
                    _ => signals.dispatch(GENEROUS).unwrap_err().errno(),
                })
            })
            .collect();
        std::thread::sleep(Duration::from_millis(10));
        signals.end_waits();
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), libc::ECANCELED);
        }
    });
}

#[test]
fn what_is_refused() {
    alone(|| {
        let text = |result: Result<Signals, wigwag::Error>| result.unwrap_err().to_string();
        let kill = text(Signals::open(&[Signal::TERM, Signal::KILL]));
        assert!(kill.starts_with("subscribe signal:KILL: EINVAL: SIGKILL cannot be handled"), "{kill}");
        assert!(kill.ends_with("SIGTERM leaves the choice to the program"), "{kill}");
        assert!(text(Signals::open(&[Signal::STOP])).contains("EINVAL: SIGSTOP cannot be handled"));
        assert!(text(Signals::open(&[Signal::SEGV])).contains("faulty instruction"));
        assert!(text(Signals::open(&[])).contains("EINVAL: no signal is named"));
        assert!(text(Signals::open(&[Signal::from_number(32).unwrap()])).contains("belongs to the C library"));
        let address = "signal:USR1@12".parse().unwrap();
        assert!(text(Signals::at(&address, SignalsOptions::default())).contains("is for sending"));
        let address = "signal:NONSENSE".parse().unwrap();
        assert!(text(Signals::at(&address, SignalsOptions::default())).contains("\"NONSENSE\" is no signal"));
        let huge = Signals::open_with(&[Signal::USR1], SignalsOptions { capacity: usize::MAX, ..Default::default() });
        assert!(text(huge).contains("fs.pipe-max-size="));
        assert!(SignalMask::block(&[Signal::KILL]).unwrap_err().is(Errno::EINVAL));
        assert!(SignalAction::ignore(Signal::STOP).unwrap_err().is(Errno::EINVAL));
        assert!(wait_signal(&[Signal::KILL], Timeout::Now).unwrap_err().is(Errno::EINVAL));
        assert!(wait_signal(&[], Timeout::Now).unwrap_err().is(Errno::EINVAL));
        let none = Shutdown::open(ShutdownOptions { signals: vec![Signal::KILL], ..Default::default() });
        assert!(none.unwrap_err().is(Errno::EINVAL));
        // SAFETY: never called, as it is refused.
        let raw = unsafe { RawSubscription::new(Signal::KILL, count, std::ptr::null_mut()) };
        assert!(raw.unwrap_err().is(Errno::EINVAL));

        // Once something has waited, the library has a signal of its own.
        EventFd::new().unwrap().take(SHORT).unwrap_err();
        let busy: Vec<_> = Signal::all().filter_map(|signal| Signals::open(&[signal]).err()).collect();
        let busy: Vec<_> = busy.iter().filter(|error| error.is(Errno::EBUSY)).collect();
        assert_eq!(busy.len(), 1);
        assert!(busy[0].reason().starts_with("this library has taken SIGRTM"), "{}", busy[0]);
    });
}

#[test]
fn waiting_for_one_of_a_set() {
    let ready = EventFd::new().unwrap();
    let parent = own_pid();
    let child = fork(|| {
        let set = [Signal::USR1, rt(2)];
        let _blocked = SignalMask::block(&set).unwrap();
        ready.add(1, Timeout::Now).unwrap();
        let info = wait_signal(&set, GENEROUS).unwrap();
        assert_eq!((info.signal, info.value, info.pid), (rt(2), i32::MIN, parent));
        assert_eq!(info.uid, nix::unistd::getuid().as_raw());
        raise(Signal::USR1);
        raise(rt(2));
        assert_eq!(wait_signal(&set, Timeout::Now).unwrap().signal, Signal::USR1, "the lowest first");
        assert_eq!(wait_signal(&set, GENEROUS).unwrap().signal, rt(2));
        assert!(wait_signal(&set, Timeout::Now).unwrap_err().is(Errno::EAGAIN));
        let start = Instant::now();
        let error = wait_signal(&set, SHORT).unwrap_err();
        assert_eq!(error.to_string(), "wait signal:USR1,RTMIN+2: ETIMEDOUT: the deadline passed");
        assert!(start.elapsed() >= Duration::from_millis(20));
    });
    ready.take(GENEROUS).unwrap();
    rt(2).send_value(child.pid(), i32::MIN).unwrap();
    child.join();
}

#[test]
fn masks_undo_what_they_changed_only() {
    alone(|| {
        let outer = SignalMask::block(&[Signal::USR1]).unwrap();
        let inner = SignalMask::block(&[Signal::USR1, Signal::USR2]).unwrap();
        assert_eq!(inner.changed(), [Signal::USR2.number()]);
        drop(inner);
        raise(Signal::USR1); // pending, as it is blocked still
        assert_eq!(wait_signal(&[Signal::USR1], Timeout::Now).unwrap().signal, Signal::USR1);
        let signals = Signals::open(&[Signal::USR1]).unwrap();
        raise(Signal::USR1);
        assert!(signals.take(Timeout::Now).is_err());
        let through = SignalMask::unblock(&[Signal::USR1]).unwrap();
        assert_eq!(signals.take(Timeout::Now).unwrap().signal, Signal::USR1);
        drop(through);
        raise(Signal::USR1);
        assert!(signals.take(Timeout::Now).is_err());
        drop(outer);
        assert_eq!(signals.take(Timeout::Now).unwrap().signal, Signal::USR1);
    });
}

#[test]
fn ignoring_for_a_while() {
    alone(|| {
        let ignored = SignalAction::ignore(Signal::TERM).unwrap();
        raise(Signal::TERM);
        let signals = Signals::open(&[Signal::TERM]).unwrap();
        let error = SignalAction::ignore(Signal::TERM).unwrap_err();
        assert_eq!(
            error.to_string(),
            "ignore signal:TERM: EBUSY: this process has subscriptions to the signal; end them first"
        );
        raise(Signal::TERM);
        assert_eq!(signals.take(Timeout::Now).unwrap().signal, Signal::TERM);
        drop(ignored); // from under the subscription
        drop(signals);
        let ignored = SignalAction::ignore(Signal::TERM).unwrap();
        let defaults = SignalAction::default_for(Signal::TERM).unwrap();
        drop(defaults);
        raise(Signal::TERM);
        drop(ignored);
    });
    let ended = fork(|| {
        let ignored = SignalAction::ignore(Signal::TERM).unwrap();
        let signals = Signals::open(&[Signal::TERM]).unwrap();
        drop(ignored);
        drop(signals);
        raise(Signal::TERM);
    });
    assert_eq!(ended.wait() & 0x7f, libc::SIGTERM, "default again in the end");
}

unsafe extern "C" fn count(info: *const SignalInfo, user: *mut libc::c_void) {
    // SAFETY: as RawSubscription says, and the pointer is to an AtomicU32.
    unsafe { (*user.cast::<AtomicU32>()).fetch_add((*info).value as u32, Ordering::SeqCst) };
}

#[test]
fn raw_handlers_run_at_once_beside_queues() {
    alone(|| {
        let sum = AtomicU32::new(0);
        let user = (&raw const sum).cast_mut().cast();
        let signals = Signals::open(&[rt(0)]).unwrap();
        // SAFETY: `count` is async-signal-safe, `sum` outlives the subscriptions.
        let (first, second) = unsafe {
            (RawSubscription::new(rt(0), count, user).unwrap(), RawSubscription::new(rt(0), count, user).unwrap())
        };
        rt(0).send_value(own_pid(), 5).unwrap();
        assert_eq!(sum.load(Ordering::SeqCst), 10);
        drop(first);
        rt(0).send_value(own_pid(), 1).unwrap();
        assert_eq!(sum.load(Ordering::SeqCst), 11);
        drop(second);
        rt(0).send_value(own_pid(), 1).unwrap();
        assert_eq!(sum.load(Ordering::SeqCst), 11);
        assert_eq!(std::iter::from_fn(|| signals.take(Timeout::Now).ok()).count(), 3);
    });
}

#[test]
fn orderly_end() {
    alone(|| {
        let cancel = Cancel::new();
        let shutdown = Shutdown::open(ShutdownOptions { cancel: Some(cancel.clone()), ..Default::default() }).unwrap();
        assert_eq!((shutdown.requested(), shutdown.count()), (None, 0));
        assert!(shutdown.wait(Timeout::Now).unwrap_err().is(Errno::EAGAIN));
        assert!(shutdown.wait(SHORT).unwrap_err().is(Errno::ETIMEDOUT));
        let never = EventFd::new().unwrap();
        let main = Signal::this_thread();
        let scope = cancel.enter();
        std::thread::scope(|threads| {
            threads.spawn(|| {
                std::thread::sleep(Duration::from_millis(10));
                Signal::TERM.send_to_thread(own_pid(), main).unwrap();
            });
            assert!(never.take(GENEROUS).unwrap_err().is(Errno::ECANCELED));
        });
        drop(scope);
        raise(Signal::INT);
        assert_eq!((shutdown.requested(), shutdown.count()), (Some(Signal::TERM), 2));
        assert_eq!(shutdown.wait(Timeout::Now).unwrap(), Signal::TERM);
        assert_eq!(shutdown.wait(GENEROUS).unwrap(), Signal::TERM, "again and again");
    });
    let impatient = fork(|| {
        let shutdown = Shutdown::open(ShutdownOptions { second_ends: true, ..Default::default() }).unwrap();
        raise(Signal::INT);
        assert_eq!(shutdown.requested(), Some(Signal::INT));
        raise(Signal::INT);
        unreachable!("the second one ends it");
    });
    assert_eq!(impatient.wait() & 0x7f, libc::SIGINT);
}
