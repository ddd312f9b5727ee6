//! Conditions between threads and processes.

use std::sync::atomic::Ordering;

use nix::errno::Errno;
use wigwag::{Cancel, Condition, ConditionOptions, Mutex, MutexOptions, Timeout};

use crate::shared_counter;
use crate::support::{GENEROUS, SHORT, eventually, fork};

fn pair(recursive: bool) -> (Mutex, Condition) {
    let mutex = Mutex::anonymous(MutexOptions { recursive, ..Default::default() }).unwrap();
    (mutex, Condition::anonymous(ConditionOptions::default()).unwrap())
}

fn waiting(condition: &Condition, count: u32) -> impl FnMut() -> bool {
    move || {
        let participants = condition.statistics().unwrap().participants;
        participants.iter().map(|participant| participant.waiting).sum::<u32>() == count
    }
}

#[test]
fn things_are_handed_over() {
    const COUNT: u64 = 2000;
    let ((mutex, condition), there, taken) = (pair(false), shared_counter(), shared_counter());
    let take = || {
        loop {
            let guard = mutex.lock(GENEROUS).unwrap().into_guard();
            let nothing = |_: &_| there.load(Ordering::Relaxed) == 0 && taken.load(Ordering::Relaxed) < COUNT;
            let waited = condition.wait_while(guard, GENEROUS, nothing).unwrap();
            assert!(waited.notified);
            if taken.load(Ordering::Relaxed) == COUNT {
                return;
            }
            there.store(there.load(Ordering::Relaxed) - 1, Ordering::Relaxed);
            if taken.fetch_add(1, Ordering::Relaxed) == COUNT - 1 {
                condition.notify_all().unwrap();
            }
        }
    };
    let children = [fork(take), fork(take)];
    std::thread::scope(|scope| {
        scope.spawn(take);
        for _ in 0..COUNT {
            let _guard = mutex.lock(GENEROUS).unwrap();
            there.store(there.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
            condition.notify_one().unwrap();
        }
    });
    for child in children {
        child.join();
    }
    assert_eq!((taken.load(Ordering::Relaxed), there.load(Ordering::Relaxed)), (COUNT, 0));
    assert_eq!(condition.statistics().unwrap().notified, COUNT + 1);
}

#[test]
fn one_is_woken_or_all_are() {
    let ((mutex, condition), through) = (pair(false), shared_counter());
    let children = [(); 3].map(|()| {
        fork(|| {
            let guard = mutex.lock(GENEROUS).unwrap().into_guard();
            assert!(condition.wait(guard, GENEROUS).unwrap().notified);
            through.fetch_add(1, Ordering::SeqCst);
        })
    });
    eventually("all wait", waiting(&condition, 3));
    condition.notify_one().unwrap();
    eventually("one is through", || through.load(Ordering::SeqCst) == 1);
    eventually("two still wait", waiting(&condition, 2));
    condition.notify_all().unwrap();
    for child in children {
        child.join();
    }
}

#[test]
fn the_mutex_is_held_again_when_the_time_has_passed() {
    let (mutex, condition) = pair(true);
    let (first, second) = (mutex.lock(GENEROUS).unwrap(), mutex.lock(GENEROUS).unwrap());
    for timeout in [SHORT, Timeout::Now] {
        let third = mutex.lock(GENEROUS).unwrap().into_guard();
        let waited = condition.wait(third, timeout).unwrap();
        assert!(!waited.notified && !waited.locked.is_inherited());
    }
    let free =
        |mutex: &Mutex| std::thread::scope(|scope| scope.spawn(|| mutex.lock(Timeout::Now).is_ok()).join().unwrap());
    assert!(!free(&mutex));
    drop(second);
    assert!(!free(&mutex), "taken as often as before");
    drop(first);
    assert!(free(&mutex));
    // Tickets that were given back take no notification.
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let guard = mutex.lock(GENEROUS).unwrap().into_guard();
            condition.wait(guard, GENEROUS).unwrap().notified
        });
        eventually("it waits", waiting(&condition, 1));
        condition.notify_one().unwrap();
        assert!(waiter.join().unwrap());
    });
}

#[test]
fn who_dies_waiting_takes_no_notification_with_it() {
    let (mutex, condition) = pair(false);
    let wait = || {
        let guard = mutex.lock(GENEROUS).unwrap().into_guard();
        assert!(condition.wait(guard, GENEROUS).unwrap().notified);
    };
    let dead = fork(wait);
    eventually("the first waits", waiting(&condition, 1));
    let alive = fork(wait);
    eventually("both wait", waiting(&condition, 2));
    dead.kill(libc::SIGKILL);
    dead.wait();
    condition.notify_one().unwrap(); // calls the ticket of the dead
    alive.join();
    drop(mutex.lock(GENEROUS).unwrap());
}

#[test]
fn a_wait_that_is_ended_ends_without_the_mutex() {
    let (mutex, condition) = pair(false);
    let cancel = Cancel::new();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let _scope = cancel.enter();
            let guard = mutex.lock(GENEROUS).unwrap().into_guard();
            condition.wait(guard, GENEROUS).unwrap_err().is(Errno::ECANCELED)
        });
        eventually("it waits", waiting(&condition, 1));
        cancel.fire();
        assert!(waiter.join().unwrap());
    });
    let guard = std::cell::Cell::new(Some(mutex.lock(Timeout::Now).unwrap().into_guard()));
    fork(|| assert!(condition.wait(guard.take().unwrap(), GENEROUS).unwrap_err().is(Errno::EPERM))).join();
}
