//! Permits between threads and processes.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use nix::errno::Errno;
use wigwag::{Cancel, Interest, Permits, PermitsOptions, Timeout, WaitSet, WaitSetEvent};

use crate::shared_counter;
use crate::support::{GENEROUS, SHORT, eventually, fork, fresh};

fn permits(count: u32) -> Permits {
    Permits::anonymous(PermitsOptions { count, ..Default::default() }).unwrap()
}

fn again(permits: &Permits) -> Permits {
    Permits::from_fd(permits.as_fd().try_clone_to_owned().unwrap(), PermitsOptions::default()).unwrap()
}

/// What each handle holds, the asked one first, and that no permit is missing.
fn holdings(permits: &Permits) -> (u64, Vec<u64>) {
    let statistics = permits.statistics().unwrap();
    let held: u64 = statistics.participants.iter().map(|participant| participant.holding).sum();
    assert_eq!(held + u64::from(statistics.available), u64::from(statistics.total), "{statistics:?}");
    let own = statistics.participants.iter().find(|participant| participant.is_self).unwrap().holding;
    (
        own,
        statistics.participants.iter().filter(|participant| !participant.is_self).map(|other| other.holding).collect(),
    )
}

#[test]
fn each_is_in_one_place() {
    let permits = permits(5);
    let other = again(&permits);
    permits.take(2, Timeout::Now).unwrap();
    let guard = other.acquire(2, Timeout::Now).unwrap();
    assert_eq!((holdings(&permits), permits.available(), guard.count()), ((2, vec![2]), 1, 2));
    assert!(permits.acquire(2, Timeout::Now).unwrap_err().is(Errno::EAGAIN));
    eventually("somebody who waits notes since when the others hold", || {
        assert!(permits.acquire(2, SHORT).unwrap_err().is(Errno::ETIMEDOUT));
        other.statistics().unwrap().participants.iter().all(|participant| participant.holding_since.is_some())
    });
    permits.release(1).unwrap();
    let error = permits.release(2).unwrap_err();
    assert!(error.is(Errno::EPERM) && error.to_string().contains("handle"), "{error}");
    guard.release().unwrap();
    assert_eq!(holdings(&other), (0, vec![1]));
    let guard = other.acquire(4, Timeout::Now).unwrap();
    guard.keep();
    assert_eq!(holdings(&other), (4, vec![1]));
    other.release(4).unwrap();
    permits.release(1).unwrap();
    assert_eq!(holdings(&other), (0, vec![0]));
    assert!(permits.release(1).unwrap_err().is(Errno::EPERM));
    for absurd in [0, 6, u32::MAX] {
        assert!(permits.acquire(absurd, GENEROUS).unwrap_err().is(Errno::EINVAL));
    }
}

#[test]
fn those_of_the_dead_and_of_the_closed_come_back() {
    let permits = permits(3);
    let child = fork(|| {
        permits.take(2, GENEROUS).unwrap();
        std::thread::sleep(std::time::Duration::from_secs(60));
    });
    eventually("the child has two", || permits.available() == 1);
    assert!(permits.acquire(2, SHORT).unwrap_err().is(Errno::ETIMEDOUT), "it lives");
    child.kill(libc::SIGKILL);
    child.wait();
    permits.acquire(3, GENEROUS).unwrap().keep();
    permits.release(3).unwrap();
    let other = again(&permits);
    std::mem::forget(other.acquire(3, Timeout::Now).unwrap());
    drop(other);
    assert_eq!(holdings(&permits), (0, vec![]));
}

#[test]
fn a_child_holds_nothing_of_its_parents() {
    let permits = Arc::new(permits(3));
    let guard = std::cell::Cell::new(Some(permits.acquire_owned(1, Timeout::Now).unwrap()));
    permits.take(1, Timeout::Now).unwrap();
    fork(|| {
        assert!(guard.take().unwrap().release().unwrap_err().is(Errno::EPERM));
        assert!(permits.release(1).unwrap_err().is(Errno::EPERM));
        permits.take(1, Timeout::Now).unwrap();
        assert_eq!(holdings(&permits), (1, vec![2]));
    })
    .join();
    permits.release(1).unwrap();
    guard.take().unwrap().release().unwrap();
    permits.acquire(3, GENEROUS).unwrap();
}

#[test]
fn never_more_are_out_than_there_are() {
    const EACH: u32 = 3000;
    for fair in [false, true] {
        let permits = Permits::anonymous(PermitsOptions { count: 3, fair, ..Default::default() }).unwrap();
        let (out, rounds) = (shared_counter(), shared_counter());
        let work = |permits: &Permits| {
            for round in 0..EACH {
                let count = 1 + round % 2;
                let guard = permits.acquire(count, GENEROUS).unwrap();
                assert!(out.fetch_add(u64::from(count), Ordering::Relaxed) + u64::from(count) <= 3);
                out.fetch_sub(u64::from(count), Ordering::Relaxed);
                drop(guard);
                rounds.fetch_add(1, Ordering::Relaxed);
            }
        };
        let children = [fork(|| work(&permits)), fork(|| work(&permits))];
        let other = again(&permits);
        std::thread::scope(|scope| {
            scope.spawn(|| work(&permits));
            scope.spawn(|| work(&permits));
            scope.spawn(|| work(&other));
        });
        for child in children {
            child.join();
        }
        assert_eq!(rounds.load(Ordering::Relaxed), 5 * u64::from(EACH));
        assert_eq!((holdings(&permits).0, permits.available()), (0, 3));
    }
}

#[test]
fn first_come_is_first_served() {
    let permits = Permits::anonymous(PermitsOptions { count: 2, fair: true, ..Default::default() }).unwrap();
    let waiting = |count| {
        let waiting: u32 =
            permits.statistics().unwrap().participants.iter().map(|participant| participant.waiting).sum();
        waiting == count
    };
    let order = shared_counter();
    let guard = permits.acquire(1, GENEROUS).unwrap();
    std::thread::scope(|scope| {
        // The first wants both, the second one, which there is; it has to wait all the same.
        let first = scope.spawn(|| {
            let _guard = permits.acquire(2, GENEROUS).unwrap();
            order.fetch_add(1, Ordering::SeqCst)
        });
        eventually("the first waits", || waiting(1));
        assert!(permits.acquire(1, Timeout::Now).unwrap_err().is(Errno::EAGAIN), "no pushing in");
        let second = scope.spawn(|| {
            let _guard = permits.acquire(1, GENEROUS).unwrap();
            order.fetch_add(1, Ordering::SeqCst)
        });
        eventually("the second waits", || waiting(2));
        drop(guard);
        assert_eq!((first.join().unwrap(), second.join().unwrap()), (0, 1));
    });
    // Who gives up waiting, or dies at it, is in nobody's way.
    let guard = permits.acquire(1, GENEROUS).unwrap();
    assert!(permits.acquire(2, SHORT).unwrap_err().is(Errno::ETIMEDOUT));
    drop(permits.acquire(1, Timeout::Now).unwrap());
    let child = fork(|| drop(permits.acquire(2, GENEROUS)));
    eventually("the child waits", || waiting(1));
    child.kill(libc::SIGKILL);
    child.wait();
    drop(permits.acquire(1, GENEROUS).unwrap());
    drop(guard);
}

#[test]
fn waits_end_and_bells_ring() {
    let permits = permits(1);
    let other = again(&permits);
    let guard = permits.acquire(1, GENEROUS).unwrap();
    let cancel = Cancel::new();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let _scope = cancel.enter();
            other.take(1, GENEROUS).unwrap_err().is(Errno::ECANCELED)
        });
        let seen = || permits.statistics().unwrap().participants.iter().any(|participant| participant.waiting == 1);
        eventually("it is seen to wait", seen);
        cancel.fire();
        assert!(waiting.join().unwrap());
    });
    let set = WaitSet::new().unwrap();
    set.add(&other.doorbell().unwrap(), Interest::READABLE, 1).unwrap();
    let mut events = [WaitSetEvent::default()];
    assert!(other.take(1, Timeout::Now).is_err());
    drop(guard);
    set.wait(&mut events, GENEROUS).unwrap();
    other.take(1, Timeout::Now).unwrap();
    permits.end_waits();
    assert!(permits.take(1, GENEROUS).unwrap_err().is(Errno::ECANCELED));
}

#[test]
fn what_they_are_is_decided_by_who_makes_them() {
    let address: wigwag::Address = format!("permits:{}?count=7&fair=1", fresh("permits")).parse().unwrap();
    let first = Permits::open(&address, PermitsOptions::default()).unwrap();
    let second = Permits::open(&address, PermitsOptions { count: 3, ..Default::default() }).unwrap();
    let statistics = second.statistics().unwrap();
    assert_eq!((first.total(), second.total(), statistics.fair), (7, 7, true));
    assert_eq!(statistics.bytes, Permits::size_for(&PermitsOptions::default()).unwrap());
    Permits::remove(&address).unwrap();
    assert!(second.check().unwrap_err().is(Errno::ESTALE));
    let many = PermitsOptions { count: 16384, ..Default::default() };
    assert!(Permits::anonymous(many).unwrap_err().is(Errno::EINVAL));
}
