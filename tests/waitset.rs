//! Wait sets between processes: what others do and how they end, and what a fork means for a set.

mod support;

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use support::GENEROUS;
use wigwag::{Cancel, EventFd, Interest, Readiness, Timeout, WaitSet, WaitSetEvent};

fn wait(set: &WaitSet) -> WaitSetEvent {
    let mut events = [WaitSetEvent::default()];
    assert_eq!(set.wait(&mut events, GENEROUS).unwrap(), 1);
    events[0]
}

#[test]
fn events_of_another_process_then_its_end() {
    let (set, events) = (WaitSet::new().unwrap(), EventFd::new().unwrap());
    let child = support::fork(|| {
        for _ in 0..100 {
            events.add(1, GENEROUS).unwrap();
        }
    });
    set.add(&events, Interest::READABLE, 1).unwrap();
    set.add_child(child.pid(), 2).unwrap();
    let (mut taken, mut ended) = (0, false);
    while taken < 100 || !ended {
        match wait(&set) {
            event if event.token == 1 => taken += events.take(Timeout::Now).unwrap(),
            event => {
                assert_eq!((event.token, event.readiness), (2, Readiness::ENDED));
                assert_eq!(event.status.unwrap().code(), Some(0));
                ended = true;
                set.remove(2).unwrap();
            }
        }
    }
    child.join();
}

#[test]
fn killed_peer_is_hang_up_and_end() {
    let set = WaitSet::new().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    let child = support::fork(|| {
        loop {
            std::thread::sleep(Duration::from_secs(1));
        }
    });
    drop(writer);
    set.add(&reader, Interest::READABLE, 1).unwrap();
    set.add_child(child.pid(), 2).unwrap();
    child.kill(libc::SIGKILL);
    let (mut hung_up, mut ended) = (false, false);
    while !(hung_up && ended) {
        let event = wait(&set);
        match event.token {
            1 => {
                assert!(event.readiness.contains(Readiness::HANGUP));
                hung_up = true;
            }
            _ => {
                assert_eq!(event.status.unwrap().signal(), Some(libc::SIGKILL));
                ended = true;
            }
        }
        set.remove(event.token).unwrap();
    }
    child.wait();
}

#[test]
fn a_set_belongs_to_the_process_that_made_it() {
    let (set, events) = (WaitSet::new().unwrap(), EventFd::new().unwrap());
    set.add(&events, Interest::READABLE, 1).unwrap();
    set.add_timer(Duration::from_secs(3600), None, 2).unwrap();
    support::fork(|| {
        for error in [
            set.wait(&mut [WaitSetEvent::default()], GENEROUS).unwrap_err(),
            set.add(&events, Interest::WRITABLE, 3).unwrap_err(),
            set.remove(1).unwrap_err(),
            set.change(1, Interest::WRITABLE).unwrap_err(),
        ] {
            assert_eq!(error.errno(), libc::ENOTSUP);
            assert!(error.reason().contains("made before a fork"), "{error}");
        }
        let own = WaitSet::new().unwrap();
        own.add(&events, Interest::WRITABLE, 1).unwrap();
        assert_eq!(wait(&own).token, 1);
        drop(set);
    })
    .join();
    // The parent's set is as it was, although the child dropped its copy.
    let set = WaitSet::new().unwrap();
    set.add(&events, Interest::READABLE, 1).unwrap();
    events.add(1, Timeout::Now).unwrap();
    assert_eq!(wait(&set).token, 1);
}

/// Ends of children where the kernel or a sandbox has no pidfd: by ENOSYS and by EPERM.
#[test]
fn children_without_pidfd() {
    for errno in [libc::ENOSYS, libc::EPERM] {
        support::fork_without(&[libc::SYS_pidfd_open], errno, || {
            let set = WaitSet::new().unwrap();
            let grandchild = support::fork(|| {
                loop {
                    std::thread::sleep(Duration::from_secs(1));
                }
            });
            set.add_child(grandchild.pid(), 1).unwrap();
            assert!(wigwag::paths().contains(&("end of a child", "waitid in a helper thread")));
            let late = set.wait(&mut [WaitSetEvent::default()], support::SHORT).unwrap_err();
            assert_eq!(late.errno(), libc::ETIMEDOUT);
            grandchild.kill(libc::SIGKILL);
            let event = wait(&set);
            assert_eq!((event.token, event.status.unwrap().signal()), (1, Some(libc::SIGKILL)));
            grandchild.wait();
            set.remove(1).unwrap();
            let error = set.add_child(1, 1).unwrap_err();
            assert_eq!(error.errno(), libc::ECHILD);
            assert!(error.reason().contains("process 1 is not a child of this one"), "{error}");
        })
        .join();
    }
}

#[test]
fn a_waiter_in_another_process_is_cancelled_by_its_own_signal_only() {
    let (ready, waiting) = (EventFd::new().unwrap(), EventFd::new().unwrap());
    let child = support::fork(|| {
        let (set, cancel) = (WaitSet::new().unwrap(), Cancel::new());
        set.add(&ready, Interest::READABLE, 1).unwrap();
        let _scope = cancel.enter();
        waiting.add(1, GENEROUS).unwrap();
        assert_eq!(wait(&set).token, 1);
        cancel.fire();
        ready.take(Timeout::Now).unwrap();
        let error = set.wait(&mut [WaitSetEvent::default()], Timeout::Forever).unwrap_err();
        assert_eq!(error.errno(), libc::ECANCELED);
    });
    waiting.take(GENEROUS).unwrap();
    support::eventually("the child sleeps", || support::is_asleep(child.pid()));
    ready.add(1, GENEROUS).unwrap();
    child.join();
}

#[test]
fn no_descriptor_left() {
    support::fork(|| {
        let limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: the kernel reads a live local.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
        let error = WaitSet::new().unwrap_err();
        assert_eq!(error.errno(), libc::EMFILE);
        assert!(error.reason().contains("ulimit -n"), "{error}");
    })
    .join();
    let set = WaitSet::new().unwrap();
    support::fork(move || {
        let set = WaitSet::new().unwrap_or(set);
        let limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: as above.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
        let error = set.add_timer(Duration::from_secs(1), None, 1).unwrap_err();
        assert_eq!(error.errno(), libc::EMFILE);
        assert!(error.reason().contains("ulimit -n"), "{error}");
        let error = set.add_child(std::process::id().cast_signed(), 1).unwrap_err();
        assert!([libc::EMFILE, libc::ECHILD].contains(&error.errno()), "{error}");
        assert!(set.is_empty());
    })
    .join();
}
