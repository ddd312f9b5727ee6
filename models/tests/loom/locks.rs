//! Locks.

use std::sync::Arc;

use wigwag::modelled::{spawn, victim};
use wigwag::{Mutex, MutexOptions, RwLock, RwLockOptions, Timeout, WaitMode};

use crate::checking::{Shared, again, holds, holds_at_every_death, holds_at_every_stop};

// --- mutex ---

pub fn mutexes() -> [Mutex; 2] {
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
                ("segment/bell.rs", "self.word.fetch_update(Ordering::SeqCst, Ordering::SeqCst, announced)"),
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

#[test]
fn nobody_hangs_in_a_look_at_a_mutex_whose_holder_stopped() {
    holds_at_every_stop("mutex", || {
        let [stops, goes_on] = mutexes();
        let inside = Shared::new();
        let seen = Arc::clone(&inside);
        let ended = victim(move || {
            let guard = stops.lock(Timeout::Forever).unwrap();
            inside.add(1);
            drop(guard);
            stops
        });
        let living = spawn(move || {
            if let Ok(locked) = goes_on.lock(Timeout::Now) {
                assert!(!locked.is_inherited(), "taken from the living");
                seen.add(1);
            }
            goes_on
        });
        let living = living.join();
        ended.join();
        drop(living);
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

#[test]
fn a_read_write_lock_is_recovered_from_a_dead_writer() {
    holds_at_every_death("read-write lock, writer", || {
        let ([mortal, survivor], inside) = (rwlocks(), Shared::new());
        let seen = Arc::clone(&inside);
        let ended = victim(move || {
            let guard = mortal.write(Timeout::Forever).unwrap().into_guard();
            inside.add(1);
            assert!(guard.is_inherited() || !guard.is_inherited()); // a point at which it is half done
            inside.add(1);
            drop(guard);
            mortal
        });
        let living = spawn(move || {
            let locked = survivor.read(Timeout::Forever).unwrap();
            let half_done = seen.get() % 2 == 1;
            assert!(locked.is_inherited() || !half_done, "it was left half done, and nobody is told");
            drop(locked);
            drop(survivor.write(Timeout::Forever).unwrap());
            survivor
        });
        let living = living.join();
        ended.join();
        drop(living);
    });
}

fn reader_and_writer() {
    let ([mortal, survivor], inside) = (rwlocks(), Shared::new());
    let seen = Arc::clone(&inside);
    let ended = victim(move || {
        let guard = mortal.read(Timeout::Forever).unwrap();
        seen.get();
        drop(guard);
        mortal
    });
    let living = spawn(move || {
        drop(survivor.read(Timeout::Forever).unwrap());
        // The living are in nobody's way when they read, and in a writer's.
        if let Ok(guard) = survivor.write(Timeout::Now) {
            inside.add(1);
            drop(guard);
        }
        survivor
    });
    let living = living.join();
    let stopped = ended.join().is_none();
    if let Some(survivor) = living.filter(|_| stopped) {
        drop(survivor.write(Timeout::Forever).unwrap());
    }
}

#[test]
fn a_read_write_lock_goes_on_without_a_reader() {
    holds_at_every_death("read-write lock, reader", reader_and_writer);
    holds_at_every_stop("read-write lock, reader", reader_and_writer);
}
