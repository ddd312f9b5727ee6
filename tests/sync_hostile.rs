//! A peer that keeps no rules writes over a lock or the like, between the operations of others and during them: they get
//! errors, or go on; they do not crash, read outside of it, or wait past their timeouts.

mod support;

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use support::fork;
use support::spoiling::{Numbers, spoil, spoiling};
use wigwag::{
    Barrier, BarrierOptions, Condition, ConditionOptions, Event, EventOptions, Mutex, MutexOptions, Permits,
    PermitsOptions, RwLock, RwLockOptions, Timeout,
};

const BRIEF: Timeout = Timeout::After(Duration::from_micros(200));
/// An operation that takes longer has got stuck.
const LONG: Duration = Duration::from_secs(20);
const ROUNDS: u64 = 200;

/// Has `work` use objects that are spoilt: in between, and by a process that never stops.
fn spoilt<T: AsFd>(make: impl Fn() -> T, work: impl Fn(&T)) {
    fork(|| {
        let mut numbers = Numbers(1);
        for round in 0..ROUNDS {
            let object = make();
            work(&object);
            let file = File::from(again(&object));
            let size = file.metadata().unwrap().len();
            let begun = Instant::now();
            for _ in 0..4 {
                (0..1 + numbers.next() % 6).for_each(|_| spoil(&file, size, &mut numbers));
                work(&object);
            }
            assert!(begun.elapsed() < LONG, "round {round} took {:?}", begun.elapsed());
        }
        for round in 0..10 {
            let object = make();
            let peer = spoiling(&object, round);
            let begun = Instant::now();
            (0..50).for_each(|_| work(&object));
            assert!(begun.elapsed() < LONG, "round {round} under fire took {:?}", begun.elapsed());
            peer.kill(libc::SIGKILL);
        }
    })
    .join();
}

fn again(object: &impl AsFd) -> OwnedFd {
    object.as_fd().try_clone_to_owned().unwrap()
}

#[test]
fn a_mutex() {
    spoilt(
        || Mutex::anonymous(MutexOptions { participants: 4, ..Default::default() }).unwrap(),
        |mutex| {
            if let Ok(locked) = mutex.lock(BRIEF) {
                let _ = locked.is_inherited().then(|| locked.into_guard().consistent());
            }
            let _ = (mutex.take(BRIEF), mutex.take(Timeout::Now), mutex.release(), mutex.statistics(), mutex.state());
            let _ = Mutex::from_fd(again(mutex), MutexOptions::default()).map(|other| other.lock(BRIEF).is_ok());
        },
    );
}

#[test]
fn permits() {
    for fair in [false, true] {
        spoilt(
            || Permits::anonymous(PermitsOptions { count: 3, fair, participants: 4, ..Default::default() }).unwrap(),
            |permits| {
                let _ = permits.acquire(2, BRIEF).map(drop);
                let _ = (permits.take(3, BRIEF), permits.release(1), permits.release(2), permits.statistics());
                let other = Permits::from_fd(again(permits), PermitsOptions::default());
                let _ = other.map(|other| other.acquire(1, BRIEF).is_ok());
            },
        );
    }
}

#[test]
fn a_read_write_lock() {
    spoilt(
        || RwLock::anonymous(RwLockOptions { participants: 4, ..Default::default() }).unwrap(),
        |lock| {
            let (_, _) = (lock.read(BRIEF).map(drop), lock.write(BRIEF).map(drop));
            let _ = (lock.take_read(BRIEF), lock.take_write(BRIEF), lock.release_read(), lock.release_write());
            let _ = lock.statistics();
            let _ = RwLock::from_fd(again(lock), RwLockOptions::default()).map(|other| other.write(BRIEF).is_ok());
        },
    );
}

#[test]
fn an_event() {
    for auto_reset in [false, true] {
        spoilt(
            || Event::anonymous(EventOptions { auto_reset, participants: 4, ..Default::default() }).unwrap(),
            |event| {
                let _ = (event.set(), event.wait(BRIEF), event.clear(), event.wait(BRIEF), event.statistics());
                let _ = Event::from_fd(again(event), EventOptions::default()).map(|other| other.set());
            },
        );
    }
}

#[test]
fn a_barrier() {
    spoilt(
        || Barrier::anonymous(BarrierOptions { parties: 2, participants: 4, ..Default::default() }).unwrap(),
        |barrier| {
            let _ = (barrier.wait(BRIEF), barrier.reset(), barrier.wait(Timeout::Now), barrier.statistics());
            let _ = Barrier::from_fd(again(barrier), BarrierOptions::default()).map(|other| other.wait(BRIEF));
        },
    );
}

#[test]
fn a_condition() {
    let mutex = Mutex::anonymous(MutexOptions { participants: 4, ..Default::default() }).unwrap();
    spoilt(
        || Condition::anonymous(ConditionOptions { participants: 4, ..Default::default() }).unwrap(),
        |condition| {
            let guard = mutex.lock(Timeout::Forever).unwrap().into_guard();
            let _ = condition.wait(guard, BRIEF);
            let _ = (condition.notify_one(), condition.notify_all(), condition.statistics());
            let _ = Condition::from_fd(again(condition), ConditionOptions::default()).map(|other| other.notify_one());
        },
    );
}
