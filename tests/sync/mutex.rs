//! Mutexes between threads and processes.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use nix::errno::Errno;
use wigwag::{Cancel, Interest, Locked, Mutex, MutexOptions, MutexState, Timeout, WaitMode, WaitSet};

use crate::shared_counter;
use crate::support::{GENEROUS, SHORT, eventually, fork, fresh, is_asleep};

fn mutex() -> Mutex {
    Mutex::anonymous(MutexOptions::default()).unwrap()
}

fn again(mutex: &Mutex) -> Mutex {
    Mutex::from_fd(mutex.as_fd().try_clone_to_owned().unwrap(), MutexOptions::default()).unwrap()
}

#[test]
fn it_excludes_and_says_who_holds_it() {
    let mutex = mutex();
    let other = again(&mutex);
    let guard = mutex.lock(GENEROUS).unwrap();
    assert!(!guard.is_inherited());
    assert!(other.lock(Timeout::Now).unwrap_err().is(Errno::EAGAIN));
    eventually("somebody who waits notes since when the other holds", || {
        assert!(other.lock(SHORT).unwrap_err().is(Errno::ETIMEDOUT));
        other.statistics().unwrap().participants.iter().any(|participant| participant.holding_since.is_some())
    });
    let statistics = other.statistics().unwrap();
    assert_eq!(statistics.state, MutexState::Held);
    assert_eq!(statistics.thread, Some(nix::unistd::gettid().as_raw().cast_unsigned()));
    let holder = statistics.participants.iter().find(|participant| participant.holding == 1).unwrap();
    assert!(!holder.is_self && holder.pid == Some(std::process::id()));
    assert!(holder.holding_since.unwrap() >= holder.since, "noted by the one that waited");
    guard.into_guard().unlock().unwrap();
    assert_eq!(other.statistics().unwrap().state, MutexState::Free);
    drop(other.lock(Timeout::Now).unwrap());
}

#[test]
fn a_holder_that_takes_it_again_is_told() {
    let mutex = mutex();
    let _guard = mutex.lock(GENEROUS).unwrap();
    let error = mutex.lock(GENEROUS).unwrap_err();
    assert!(error.is(Errno::EDEADLK) && error.to_string().contains("recursive"), "{error}");
    let recursive = Mutex::anonymous(MutexOptions { recursive: true, ..Default::default() }).unwrap();
    let other = again(&recursive);
    let (first, second) = (recursive.lock(GENEROUS).unwrap(), recursive.lock(GENEROUS).unwrap());
    drop(first);
    assert!(other.lock(Timeout::Now).is_err());
    drop(second);
    drop(other.lock(Timeout::Now).unwrap());
    assert!(recursive.release().unwrap_err().is(Errno::EPERM));
    assert!(!recursive.is_mine() && recursive.take(GENEROUS).is_ok() && recursive.is_mine() && !other.is_mine());
    std::thread::scope(|scope| assert!(!scope.spawn(|| recursive.is_mine()).join().unwrap(), "another thread's"));
    recursive.release().unwrap();
}

#[test]
fn only_the_thread_that_holds_it_releases_it() {
    let mutex = mutex();
    assert!(!mutex.take(GENEROUS).unwrap());
    std::thread::scope(|scope| {
        let refused = scope.spawn(|| mutex.release().unwrap_err().is(Errno::EPERM));
        assert!(refused.join().unwrap());
    });
    mutex.release().unwrap();
    assert!(mutex.release().unwrap_err().is(Errno::EPERM));
    assert!(mutex.give_up().unwrap_err().is(Errno::EPERM));
}

#[test]
fn many_take_it_in_turns() {
    const EACH: u64 = 3000;
    let counter = shared_counter();
    for wait in [WaitMode::Adaptive, WaitMode::Block] {
        counter.store(0, Ordering::Relaxed);
        let mutex = Mutex::anonymous(MutexOptions { wait, ..Default::default() }).unwrap();
        let work = |mutex: &Mutex| {
            for _ in 0..EACH {
                let _guard = mutex.lock(GENEROUS).unwrap();
                // Not one step: what the mutex is for.
                counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
            }
        };
        let child = fork(|| work(&mutex));
        let other = again(&mutex);
        std::thread::scope(|scope| {
            scope.spawn(|| work(&mutex));
            scope.spawn(|| work(&mutex));
            scope.spawn(|| work(&other));
        });
        child.join();
        assert_eq!(counter.load(Ordering::Relaxed), 4 * EACH);
    }
}

#[test]
fn who_takes_it_over_from_the_dead_is_told() {
    let mutex = mutex();
    let child = fork(|| {
        std::mem::forget(mutex.lock(GENEROUS).unwrap());
        std::thread::sleep(std::time::Duration::from_secs(60));
    });
    eventually("the child has it", || mutex.statistics().unwrap().state == MutexState::Held);
    assert!(mutex.lock(SHORT).unwrap_err().is(Errno::ETIMEDOUT), "its holder lives");
    child.kill(libc::SIGSTOP);
    assert!(mutex.lock(SHORT).unwrap_err().is(Errno::ETIMEDOUT), "a stopped one too");
    child.kill(libc::SIGKILL);
    child.wait();
    let Locked::Inherited(guard) = mutex.lock(GENEROUS).unwrap() else { panic!("not told") };
    assert!(guard.is_inherited() && mutex.statistics().unwrap().state == MutexState::Inherited);
    drop(guard);
    // Nobody has said that all is well.
    let Locked::Inherited(guard) = mutex.lock(GENEROUS).unwrap() else { panic!("not told again") };
    guard.consistent().unwrap();
    assert!(guard.consistent().unwrap_err().is(Errno::EINVAL));
    drop(guard);
    assert!(!mutex.lock(GENEROUS).unwrap().is_inherited());
}

#[test]
fn given_up_is_given_up_for_all() {
    let mutex = mutex();
    let guard = mutex.lock(GENEROUS).unwrap().into_guard();
    let child = fork(|| {
        let error = mutex.lock(GENEROUS).unwrap_err();
        assert!(error.is(Errno::ENOTRECOVERABLE) && error.to_string().contains("make it anew"), "{error}");
    });
    let waits = || is_asleep(child.pid());
    eventually("the child waits or has failed", waits);
    guard.give_up().unwrap();
    child.join();
    assert!(mutex.lock(GENEROUS).unwrap_err().is(Errno::ENOTRECOVERABLE));
    assert_eq!(mutex.statistics().unwrap().state, MutexState::GivenUp);
}

#[test]
fn a_thread_that_ends_leaves_its_locks_to_others() {
    let mutex = Arc::new(mutex());
    let of_thread = mutex.clone();
    std::thread::spawn(move || assert!(!of_thread.take(GENEROUS).unwrap())).join().unwrap();
    assert!(mutex.take(GENEROUS).unwrap(), "inherited");
    mutex.consistent().unwrap();
    mutex.release().unwrap();
    // The same thread's other handle is closed with the lock in its hands.
    let other = again(&mutex);
    assert!(!other.take(GENEROUS).unwrap());
    drop(other);
    assert!(mutex.lock(Timeout::Now).unwrap().is_inherited());
}

#[test]
fn a_child_has_neither_the_lock_nor_the_guard_of_its_parent() {
    let mutex = mutex();
    let guard = mutex.lock(GENEROUS).unwrap();
    let guard = std::cell::Cell::new(Some(guard.into_guard()));
    fork(|| {
        assert!(guard.take().unwrap().unlock().unwrap_err().is(Errno::EPERM));
        assert!(mutex.release().unwrap_err().is(Errno::EPERM));
        assert!(mutex.lock(Timeout::Now).unwrap_err().is(Errno::EAGAIN), "not its own, and not free");
    })
    .join();
}

#[test]
fn waits_end_and_bells_ring() {
    let mutex = mutex();
    let other = again(&mutex);
    let guard = mutex.lock(GENEROUS).unwrap();
    let cancel = Cancel::new();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let _scope = cancel.enter();
            other.lock(GENEROUS).unwrap_err().is(Errno::ECANCELED)
        });
        let seen = || mutex.statistics().unwrap().participants.iter().any(|participant| participant.waiting == 1);
        eventually("it is seen to wait", seen);
        cancel.fire();
        assert!(waiting.join().unwrap());
    });
    let set = WaitSet::new().unwrap();
    set.add(&other.doorbell().unwrap(), Interest::READABLE, 1).unwrap();
    let mut events = [wigwag::WaitSetEvent::default(); 2];
    assert!(other.lock(Timeout::Now).is_err());
    assert!(set.wait(&mut events, SHORT).is_err());
    drop(guard);
    set.wait(&mut events, GENEROUS).unwrap();
    drop(other.lock(Timeout::Now).unwrap());
    other.end_waits();
    let _guard = mutex.lock(GENEROUS).unwrap();
    assert!(other.lock(GENEROUS).unwrap_err().is(Errno::ECANCELED));
}

#[test]
fn names_stand_for_one_until_they_are_removed() {
    let address = format!("mutex:{}", fresh("mutex")).parse().unwrap();
    let first = Mutex::open(&address, MutexOptions::default()).unwrap();
    let second = Mutex::open(&address, MutexOptions::default()).unwrap();
    let _guard = first.lock(GENEROUS).unwrap();
    assert!(second.lock(Timeout::Now).is_err());
    assert_eq!(first.statistics().unwrap().bytes, Mutex::size_for(&MutexOptions::default()).unwrap());
    let wrong: wigwag::Address = address.to_string().replace("mutex:", "cell:").parse().unwrap();
    assert!(Mutex::open(&wrong, MutexOptions::default()).unwrap_err().to_string().contains("mutex"));
    Mutex::remove(&address).unwrap();
    assert!(first.check().unwrap_err().is(Errno::ESTALE));
    assert!(Mutex::remove(&address).unwrap_err().is(Errno::ENOENT));
    let full = Mutex::anonymous(MutexOptions { participants: 1, ..Default::default() }).unwrap();
    let fd = full.as_fd().try_clone_to_owned().unwrap();
    assert!(Mutex::from_fd(fd, MutexOptions::default()).unwrap_err().is(Errno::EUSERS));
    let many = MutexOptions { participants: 257, ..Default::default() };
    assert!(Mutex::anonymous(many).unwrap_err().is(Errno::EINVAL));
}
