//! Read-write locks between threads and processes.

use std::os::fd::AsFd;
use std::sync::atomic::Ordering;

use nix::errno::Errno;
use wigwag::{Interest, Locked, MutexState, RwLock, RwLockOptions, Timeout, WaitSet, WaitSetEvent};

use crate::shared_counter;
use crate::support::{GENEROUS, SHORT, eventually, fork, fresh};

fn lock() -> RwLock {
    RwLock::anonymous(RwLockOptions::default()).unwrap()
}

fn again(lock: &RwLock) -> RwLock {
    RwLock::from_fd(lock.as_fd().try_clone_to_owned().unwrap(), RwLockOptions::default()).unwrap()
}

#[test]
fn many_read_or_one_writes() {
    let lock = lock();
    let other = again(&lock);
    let (one, two) = (lock.read(Timeout::Now).unwrap(), other.read(Timeout::Now).unwrap());
    assert_eq!(lock.statistics().unwrap().readers, 2);
    assert!(lock.write(Timeout::Now).unwrap_err().is(Errno::EAGAIN));
    assert!(lock.write(SHORT).unwrap_err().is(Errno::ETIMEDOUT));
    // Neither has kept its claim.
    drop(lock.read(Timeout::Now).unwrap());
    one.into_guard().unlock().unwrap();
    drop(two);
    let writer = other.write(Timeout::Now).unwrap();
    assert!(lock.read(Timeout::Now).unwrap_err().is(Errno::EAGAIN));
    assert!(lock.read(SHORT).unwrap_err().is(Errno::ETIMEDOUT));
    eventually("somebody who waits notes since when the other holds", || {
        assert!(lock.write(SHORT).unwrap_err().is(Errno::ETIMEDOUT));
        let participants = lock.statistics().unwrap().participants;
        participants.iter().any(|other| other.holding == 1 && other.holding_since.is_some())
    });
    assert!(other.read(GENEROUS).unwrap_err().is(Errno::EDEADLK));
    assert!(other.write(GENEROUS).unwrap_err().is(Errno::EDEADLK));
    let statistics = lock.statistics().unwrap();
    assert_eq!((statistics.writer, statistics.readers), (MutexState::Held, 0));
    writer.into_guard().unlock().unwrap();
    assert!(lock.release_read().unwrap_err().is(Errno::EPERM));
    assert!(lock.release_write().unwrap_err().is(Errno::EPERM));
}

#[test]
fn a_writer_that_waits_comes_before_new_readers() {
    let lock = lock();
    let reader = lock.read(GENEROUS).unwrap();
    let writer = fork(|| drop(lock.write(GENEROUS).unwrap()));
    eventually("the writer has its claim", || lock.statistics().unwrap().writer == MutexState::Held);
    assert!(lock.read(Timeout::Now).unwrap_err().is(Errno::EAGAIN));
    drop(reader);
    writer.join();
    drop(lock.read(GENEROUS).unwrap());
}

#[test]
fn the_dead_are_in_nobodys_way() {
    let lock = lock();
    let sleep = || std::thread::sleep(std::time::Duration::from_secs(60));
    let reader = fork(|| {
        lock.take_read(GENEROUS).unwrap();
        sleep();
    });
    eventually("the child reads", || lock.statistics().unwrap().readers == 1);
    assert!(lock.write(SHORT).unwrap_err().is(Errno::ETIMEDOUT), "it lives");
    reader.kill(libc::SIGKILL);
    reader.wait();
    assert!(!lock.write(GENEROUS).unwrap().is_inherited(), "readers change nothing");
    // One that only waited to write has changed nothing either.
    let own = lock.read(GENEROUS).unwrap();
    let waiting = fork(|| drop(lock.write(GENEROUS)));
    eventually("it has its claim", || lock.statistics().unwrap().writer == MutexState::Held);
    waiting.kill(libc::SIGKILL);
    waiting.wait();
    assert!(!lock.read(GENEROUS).unwrap().is_inherited());
    drop(own);
    let writer = fork(|| {
        lock.take_write(GENEROUS).unwrap();
        sleep();
    });
    eventually("the child writes", || lock.statistics().unwrap().writer == MutexState::Held);
    writer.kill(libc::SIGKILL);
    writer.wait();
    assert!(lock.read(GENEROUS).unwrap().is_inherited());
    let Locked::Inherited(guard) = lock.write(GENEROUS).unwrap() else { panic!("not told") };
    drop(guard);
    assert!(lock.read(GENEROUS).unwrap().is_inherited(), "nobody has made good");
    let guard = lock.write(GENEROUS).unwrap().into_guard();
    guard.consistent().unwrap();
    drop(guard);
    assert!(!lock.read(GENEROUS).unwrap().is_inherited());
    lock.write(GENEROUS).unwrap().into_guard().give_up().unwrap();
    assert!(lock.read(GENEROUS).unwrap_err().is(Errno::ENOTRECOVERABLE));
    assert!(lock.write(GENEROUS).unwrap_err().is(Errno::ENOTRECOVERABLE));
}

#[test]
fn threads_and_handles_that_end_leave_it_to_others() {
    let lock = lock();
    std::thread::scope(|scope| {
        scope.spawn(|| lock.take_write(GENEROUS).unwrap()).join().unwrap();
    });
    assert!(lock.write(Timeout::Now).unwrap().is_inherited());
    let lock = self::lock();
    let other = again(&lock);
    other.take_read(GENEROUS).unwrap();
    assert!(lock.write(Timeout::Now).is_err());
    drop(other);
    assert!(!lock.write(Timeout::Now).unwrap().is_inherited());
}

#[test]
fn writers_exclude_each_other_and_readers_see_whole_changes() {
    const EACH: u64 = 2000;
    let (lock, left, right) = (lock(), shared_counter(), shared_counter());
    let write = |lock: &RwLock| {
        for _ in 0..EACH {
            let _guard = lock.write(GENEROUS).unwrap();
            left.store(left.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
            right.store(right.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        }
    };
    let read = |lock: &RwLock| {
        for _ in 0..EACH {
            let _guard = lock.read(GENEROUS).unwrap();
            assert_eq!(left.load(Ordering::Relaxed), right.load(Ordering::Relaxed));
        }
    };
    let children = [fork(|| write(&lock)), fork(|| read(&lock))];
    let other = again(&lock);
    std::thread::scope(|scope| {
        scope.spawn(|| write(&lock));
        scope.spawn(|| read(&lock));
        scope.spawn(|| read(&other));
        scope.spawn(|| read(&other));
    });
    for child in children {
        child.join();
    }
    assert_eq!((left.load(Ordering::Relaxed), lock.statistics().unwrap().readers), (2 * EACH, 0));
}

#[test]
fn a_child_has_nothing_of_its_parents() {
    let lock = lock();
    let guard = std::cell::Cell::new(Some(lock.read(GENEROUS).unwrap().into_guard()));
    fork(|| {
        assert!(guard.take().unwrap().unlock().unwrap_err().is(Errno::EPERM));
        assert!(lock.release_read().unwrap_err().is(Errno::EPERM));
        assert!(lock.write(Timeout::Now).is_err());
    })
    .join();
    guard.take().unwrap().unlock().unwrap();
    drop(lock.write(GENEROUS).unwrap());
}

#[test]
fn bells_ring_and_names_are_removed() {
    let address: wigwag::Address = format!("rwlock:{}", fresh("rwlock")).parse().unwrap();
    let lock = RwLock::open(&address, RwLockOptions::default()).unwrap();
    let other = RwLock::open(&address, RwLockOptions::default()).unwrap();
    let writer = lock.write(Timeout::Now).unwrap();
    let set = WaitSet::new().unwrap();
    set.add(&other.doorbell().unwrap(), Interest::READABLE, 1).unwrap();
    let mut events = [WaitSetEvent::default()];
    assert!(other.read(Timeout::Now).is_err());
    assert!(set.wait(&mut events, SHORT).is_err());
    drop(writer);
    set.wait(&mut events, GENEROUS).unwrap();
    assert_eq!(lock.statistics().unwrap().bytes, RwLock::size_for(&RwLockOptions::default()).unwrap());
    RwLock::remove(&address).unwrap();
    assert!(lock.check().unwrap_err().is(Errno::ESTALE));
}
