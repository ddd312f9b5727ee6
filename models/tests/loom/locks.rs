//! Locks and the like.

use std::sync::Arc;

use wigwag::modelled::{spawn, victim};
use wigwag::{
    Barrier, BarrierOptions, Condition, ConditionOptions, Event, EventOptions, Mutex, MutexOptions, Permits,
    PermitsOptions, RwLock, RwLockOptions, Timeout, WaitMode,
};

use crate::checking::{Shared, again, holds, holds_at_every_death};

// --- mutex ---

fn mutexes() -> [Mutex; 2] {
    let options = || MutexOptions { participants: 4, wait: WaitMode::Block, ..Default::default() };
    let mutex = Mutex::anonymous(options()).unwrap();
    let other = Mutex::from_fd(again(&mutex), options()).unwrap();
    [mutex, other]
}

#[test]
fn a_mutex_excludes_and_is_handed_over() {
    let scenario = || {
        let inside = Shared::new();
        let threads = mutexes().map(|mutex| {
            let inside = Arc::clone(&inside);
            spawn(move || {
                let guard = mutex.lock(Timeout::Forever).unwrap();
                inside.add(1);
                drop(guard);
                mutex
            })
        });
        threads.into_iter().for_each(|thread| drop(thread.join()));
        assert_eq!(inside.get(), 2);
    };
    holds(
        "mutex",
        scenario,
        &[
            &[("sync/owner.rs", "self.word.compare_exchange(found.0, next.0, Ordering::SeqCst")],
            &[
                ("segment/bell.rs", "self.word.fetch_or(SLEEPING, Ordering::SeqCst)"),
                ("segment/bell.rs", "fence(Ordering::SeqCst);"),
            ],
        ],
    );
}

#[test]
fn a_mutex_is_inherited_from_the_dead() {
    holds_at_every_death("mutex", || {
        let [mortal, survivor] = mutexes();
        let inside = Shared::new();
        let seen = Arc::clone(&inside);
        let dying = victim(move || {
            let guard = mortal.lock(Timeout::Forever).unwrap();
            inside.add(1);
            assert!(guard.is_inherited() || !guard.is_inherited()); // a point at which it is half done
            inside.add(1);
            drop(guard);
            mortal
        });
        let living = spawn(move || {
            let locked = survivor.lock(Timeout::Forever).unwrap();
            let half_done = seen.get() % 2 == 1;
            assert!(locked.is_inherited() || !half_done, "it was left half done, and nobody is told");
            drop(locked);
            survivor
        });
        dying.join();
        living.join();
    });
}

// --- permits ---

/// One permit, and two who are known to the pool.
fn permits() -> [Permits; 2] {
    let options = || PermitsOptions { count: 1, participants: 4, wait: WaitMode::Block, ..Default::default() };
    let permits = Permits::anonymous(options()).unwrap();
    let other = Permits::from_fd(again(&permits), options()).unwrap();
    let both = [permits, other];
    both.iter().for_each(|permits| drop(permits.acquire(1, Timeout::Now).unwrap()));
    both
}

#[test]
fn a_permit_is_one_holders_at_a_time() {
    let scenario = || {
        let inside = Shared::new();
        let threads = permits().map(|permits| {
            let inside = Arc::clone(&inside);
            spawn(move || {
                let permit = permits.acquire(1, Timeout::Forever).unwrap();
                inside.add(1);
                drop(permit);
                permits
            })
        });
        // Until both have had it, nobody leaves, which would wake a sleeper, too.
        let both = threads.map(|thread| thread.join());
        assert_eq!(inside.get(), 2);
        drop(both);
    };
    holds(
        "permits",
        scenario,
        &[
            &[("sync/permits/pool.rs", "self.control.pool.word.compare_exchange(found.0, next.0, Ordering::SeqCst")],
            &[
                ("segment/bell.rs", "self.word.fetch_or(SLEEPING, Ordering::SeqCst)"),
                ("segment/bell.rs", "fence(Ordering::SeqCst);"),
            ],
        ],
    );
}

#[test]
fn a_permit_comes_back_from_the_dead() {
    holds_at_every_death("permits", || {
        let [mortal, survivor] = permits();
        let dying = victim(move || {
            drop(mortal.acquire(1, Timeout::Forever).unwrap());
            mortal
        });
        let living = spawn(move || {
            drop(survivor.acquire(1, Timeout::Forever).unwrap());
            survivor
        });
        dying.join();
        let survivor = living.join().unwrap();
        drop(survivor.acquire(1, Timeout::Forever).unwrap());
    });
}

// --- read-write lock ---

fn rwlocks() -> [RwLock; 2] {
    let options = || RwLockOptions { participants: 4, wait: WaitMode::Block, ..Default::default() };
    let lock = RwLock::anonymous(options()).unwrap();
    let other = RwLock::from_fd(again(&lock), options()).unwrap();
    [lock, other]
}

#[test]
fn a_read_write_lock_keeps_readers_and_a_writer_apart() {
    let scenario = || {
        let ([readers, writers], inside) = (rwlocks(), Shared::new());
        let seen = Arc::clone(&inside);
        let writer = spawn(move || {
            let guard = writers.write(Timeout::Forever).unwrap();
            inside.add(1);
            drop(guard);
            writers
        });
        let reader = spawn(move || {
            let guard = readers.read(Timeout::Forever).unwrap();
            assert!(seen.get() <= 1);
            drop(guard);
            readers
        });
        // Until both have been inside, nobody leaves, which would wake a sleeper, too.
        let writers = writer.join();
        reader.join();
        drop(writers);
    };
    holds(
        "read-write lock",
        scenario,
        &[
            &[("sync/rwlock/readers.rs", "if place.compare_exchange(found, next, Ordering::SeqCst")],
            &[("sync/owner.rs", "self.word.compare_exchange(found.0, next.0, Ordering::SeqCst")],
        ],
    );
}

// --- barrier ---

#[test]
fn who_passes_a_barrier_sees_what_the_others_did_before() {
    let scenario = || {
        let options = || BarrierOptions { parties: 2, participants: 4, wait: WaitMode::Block, ..Default::default() };
        let barrier = Barrier::anonymous(options()).unwrap();
        let other = Barrier::from_fd(again(&barrier), options()).unwrap();
        // From here on both are known to take part.
        assert!([&barrier, &other].iter().all(|barrier| barrier.wait(Timeout::Now).is_err()));
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

// --- condition ---

#[test]
fn a_condition_wakes_who_waits_for_a_change() {
    let scenario = || {
        let options = || ConditionOptions { participants: 4, wait: WaitMode::Block, ..Default::default() };
        let condition = Condition::anonymous(options()).unwrap();
        let waiters = Condition::from_fd(again(&condition), options()).unwrap();
        let ([mutex, waiters_mutex], ready) = (mutexes(), Shared::new());
        let seen = Arc::clone(&ready);
        let notifier = spawn(move || {
            let guard = mutex.lock(Timeout::Forever).unwrap();
            ready.add(1);
            drop(guard);
            condition.notify_one().unwrap();
            (condition, mutex)
        });
        let waiter = spawn(move || {
            let mut guard = waiters_mutex.lock(Timeout::Forever).unwrap().into_guard();
            while seen.get() == 0 {
                guard = waiters.wait(guard, Timeout::Forever).unwrap().locked.into_guard();
            }
            drop(guard);
            (waiters, waiters_mutex)
        });
        // Until it has been woken, nobody leaves, which would wake it, too.
        let notifiers = notifier.join();
        waiter.join();
        drop(notifiers);
    };
    let seed = &[
        ("segment/bell.rs", "self.word.fetch_or(SLEEPING, Ordering::SeqCst)"),
        ("segment/bell.rs", "fence(Ordering::SeqCst);"),
    ];
    holds("condition", scenario, &[seed]);
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
