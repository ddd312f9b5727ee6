//! Where threads wait for each other: barriers, conditions, events.

use std::sync::Arc;

use wigwag::modelled::{spawn, victim};
use wigwag::{Barrier, BarrierOptions, Condition, ConditionOptions, Event, EventOptions, Mutex, Timeout, WaitMode};

use crate::checking::{Shared, again, holds, holds_at_every_death, holds_at_every_stop};
use crate::locks::mutexes;

// --- barrier ---

fn barriers() -> [Barrier; 2] {
    let options = || BarrierOptions { parties: 2, participants: 4, wait: WaitMode::Block, ..Default::default() };
    let barrier = Barrier::anonymous(options()).unwrap();
    let other = Barrier::from_fd(again(&barrier), options()).unwrap();
    let both = [barrier, other];
    // From here on both are known to take part.
    assert!(both.iter().all(|barrier| barrier.wait(Timeout::Now).is_err()));
    both
}

#[test]
fn who_passes_a_barrier_sees_what_the_others_did_before() {
    let scenario = || {
        let [barrier, other] = barriers();
        let (one, two) = (Shared::new(), Shared::new());
        let threads = [(barrier, [&one, &two]), (other, [&two, &one])].map(|(barrier, [own, others])| {
            let (own, others) = (Arc::clone(own), Arc::clone(others));
            spawn(move || {
                own.add(7);
                barrier.wait(Timeout::Forever).unwrap();
                assert_eq!(others.get(), 7);
                barrier
            })
        });
        // Until both have passed, nobody leaves, which would break it.
        let both = threads.map(|thread| thread.join());
        drop(both);
    };
    holds(
        "barrier",
        scenario,
        &[&[("sync/barrier.rs", "self.control.word.fetch_update(Ordering::SeqCst, Ordering::SeqCst")]],
    );
}

#[test]
fn a_dead_party_breaks_a_barrier() {
    holds_at_every_death("barrier", || {
        let [mortal, survivor] = barriers();
        let ended = victim(move || (mortal.wait(Timeout::Forever).is_ok(), mortal));
        let living = spawn(move || {
            let passed = survivor.wait(Timeout::Forever);
            assert!(passed.as_ref().err().is_none_or(|error| error.errno() == libc::EOWNERDEAD), "{passed:?}");
            survivor
        });
        let survivor = living.join().unwrap();
        if ended.join().is_none() {
            assert_eq!(survivor.wait(Timeout::Forever).unwrap_err().errno(), libc::EOWNERDEAD);
        }
    });
}

// --- condition ---

fn conditions() -> [Condition; 3] {
    let options = || ConditionOptions { participants: 4, wait: WaitMode::Block, ..Default::default() };
    let condition = Condition::anonymous(options()).unwrap();
    let others = [(); 2].map(|()| Condition::from_fd(again(&condition), options()).unwrap());
    let [one, other] = others;
    [condition, one, other]
}

fn wait_until_ready(condition: &Condition, mutex: &Mutex, ready: &Shared) {
    let mut guard = mutex.lock(Timeout::Forever).unwrap().into_guard();
    while ready.get() == 0 {
        guard = condition.wait(guard, Timeout::Forever).unwrap().locked.into_guard();
    }
    drop(guard);
}

fn make_ready(mutex: &Mutex, ready: &Shared) {
    let guard = mutex.lock(Timeout::Forever).unwrap();
    ready.add(1);
    drop(guard);
}

#[test]
fn a_condition_wakes_who_waits_for_a_change() {
    let scenario = || {
        let [condition, waiters, _] = conditions();
        let ([mutex, waiters_mutex], ready) = (mutexes(), Shared::new());
        let seen = Arc::clone(&ready);
        let notifier = spawn(move || {
            make_ready(&mutex, &ready);
            condition.notify_one().unwrap();
            (condition, mutex)
        });
        let waiter = spawn(move || {
            wait_until_ready(&waiters, &waiters_mutex, &seen);
            (waiters, waiters_mutex)
        });
        // Until it has been woken, nobody leaves, which would wake it, too.
        let notifiers = notifier.join();
        waiter.join();
        drop(notifiers);
    };
    let seed = &[
        ("segment/bell.rs", "self.word.fetch_update(Ordering::SeqCst, Ordering::SeqCst, announced)"),
        ("segment/bell.rs", "fence(Ordering::SeqCst);"),
    ];
    holds("condition", scenario, &[seed]);
}

#[test]
fn a_condition_goes_on_without_a_notifier() {
    let scenario = || {
        let [condition, mortal, waiters] = conditions();
        let ([mutex, waiters_mutex], ready) = (mutexes(), Shared::new());
        let seen = Arc::clone(&ready);
        let ended = victim(move || {
            mortal.notify_one().unwrap();
            mortal
        });
        let waiter = spawn(move || {
            wait_until_ready(&waiters, &waiters_mutex, &seen);
            (waiters, waiters_mutex)
        });
        make_ready(&mutex, &ready);
        condition.notify_one().unwrap();
        let waited = waiter.join();
        ended.join();
        drop(waited);
    };
    holds_at_every_death("condition, notifier", scenario);
    holds_at_every_stop("condition, notifier", scenario);
}

#[test]
fn a_condition_goes_on_without_a_waiter() {
    holds_at_every_death("condition, waiter", || {
        let [condition, mortal, _] = conditions();
        let ([mutex, mortal_mutex], ready) = (mutexes(), Shared::new());
        let seen = Arc::clone(&ready);
        let ended = victim(move || {
            wait_until_ready(&mortal, &mortal_mutex, &seen);
            (mortal, mortal_mutex)
        });
        make_ready(&mutex, &ready);
        condition.notify_all().unwrap();
        ended.join();
        drop(mutex.lock(Timeout::Forever).unwrap());
    });
}

// --- event ---

#[test]
fn an_event_tells_what_was_done_before() {
    let scenario = || {
        let options = || EventOptions { participants: 4, wait: WaitMode::Block, ..Default::default() };
        let event = Event::anonymous(options()).unwrap();
        let waiters = Event::from_fd(again(&event), options()).unwrap();
        let (made, seen) = (Shared::new(), Shared::new());
        let there = Arc::clone(&made);
        let setter = spawn(move || {
            made.add(7);
            event.set().unwrap();
            event
        });
        let waiter = spawn(move || {
            waiters.wait(Timeout::Forever).unwrap();
            seen.add(there.get());
            assert_eq!(seen.get(), 7);
            waiters
        });
        setter.join();
        waiter.join();
    };
    holds(
        "event",
        scenario,
        &[&[("sync/event.rs", "self.core.control.word.fetch_update(Ordering::SeqCst, Ordering::SeqCst, to)")]],
    );
}

#[test]
fn an_event_goes_on_without_who_sets_it() {
    let scenario = || {
        let options = || EventOptions { participants: 4, wait: WaitMode::Block, ..Default::default() };
        let event = Event::anonymous(options()).unwrap();
        let other = Event::from_fd(again(&event), options()).unwrap();
        let waiters = Event::from_fd(again(&event), options()).unwrap();
        let ended = victim(move || {
            other.set().unwrap();
            other
        });
        let waiter = spawn(move || {
            waiters.wait(Timeout::Forever).unwrap();
            waiters
        });
        event.set().unwrap();
        let waited = waiter.join();
        ended.join();
        drop(waited);
    };
    holds_at_every_death("event", scenario);
    holds_at_every_stop("event", scenario);
}
