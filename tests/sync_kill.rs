//! A process is killed, or stopped for ever, at every point of every operation on a lock or the like that differs from the
//! one before; the others wait no longer than they said, have it all once it is dead, and nothing is left over.
#![cfg(target_arch = "x86_64")]

mod stepping;
mod support;

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use stepping::{End, Point, Victim, View, everywhere};
use support::GENEROUS;
use wigwag::{
    Barrier, BarrierOptions, Condition, ConditionOptions, Event, EventOptions, Mutex, MutexOptions, Permits,
    PermitsOptions, RwLock, RwLockOptions, SyncParticipant, Timeout,
};

const BRIEF: Timeout = Timeout::After(Duration::from_millis(3));

/// One handle, with what its kind of object can do.
enum Thing {
    Mutex(Mutex),
    Permits(Permits),
    RwLock(RwLock),
    Event(Event),
    Barrier(Barrier),
    /// And the mutex of its own that it is used with.
    Condition(Condition, Mutex),
}

use Thing::{Barrier as Meeting, Condition as Changed, Event as Flag, Mutex as Lock, Permits as Pool, RwLock as Table};

fn again(thing: &Thing) -> Thing {
    let fd = thing.fd().try_clone_to_owned().unwrap();
    match thing {
        Lock(_) => Lock(Mutex::from_fd(fd, MutexOptions::default()).unwrap()),
        Pool(_) => Pool(Permits::from_fd(fd, PermitsOptions::default()).unwrap()),
        Table(_) => Table(RwLock::from_fd(fd, RwLockOptions::default()).unwrap()),
        Flag(_) => Flag(Event::from_fd(fd, EventOptions::default()).unwrap()),
        Meeting(_) => Meeting(Barrier::from_fd(fd, BarrierOptions::default()).unwrap()),
        Changed(_, mutex) => {
            let mutex = Mutex::from_fd(mutex.as_fd().try_clone_to_owned().unwrap(), MutexOptions::default());
            Changed(Condition::from_fd(fd, ConditionOptions::default()).unwrap(), mutex.unwrap())
        }
    }
}

impl Thing {
    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Lock(lock) => lock.as_fd(),
            Pool(pool) => pool.as_fd(),
            Table(table) => table.as_fd(),
            Flag(flag) => flag.as_fd(),
            Meeting(meeting) => meeting.as_fd(),
            Changed(changed, _) => changed.as_fd(),
        }
    }

    fn participants(&self) -> Vec<SyncParticipant> {
        match self {
            Lock(lock) => lock.statistics().unwrap().participants,
            Pool(pool) => pool.statistics().unwrap().participants,
            Table(table) => table.statistics().unwrap().participants,
            Flag(flag) => flag.statistics().unwrap().participants,
            Meeting(meeting) => meeting.statistics().unwrap().participants,
            Changed(changed, _) => changed.statistics().unwrap().participants,
        }
    }

    /// Uses it while the other side may be stopped anywhere: it works, or the time passes.
    fn try_out(&self) {
        let in_time = |result: wigwag::Result<()>| {
            if let Err(error) = result {
                assert!(error.is(Errno::ETIMEDOUT), "{error}");
            }
        };
        match self {
            Lock(lock) => in_time(lock.lock(BRIEF).map(drop)),
            Pool(pool) => in_time(pool.acquire(2, BRIEF).map(drop)),
            Table(table) => {
                in_time(table.read(BRIEF).map(drop));
                in_time(table.write(BRIEF).map(drop));
            }
            Flag(flag) => in_time(flag.wait(BRIEF)),
            Meeting(meeting) => in_time(meeting.wait(BRIEF).map(drop)),
            Changed(changed, mutex) => {
                changed.notify_one().unwrap();
                in_time(mutex.lock(BRIEF).map(drop));
            }
        }
    }

    /// Uses all of it, now that the other side is dead.
    fn use_all(&self, may_inherit: bool) {
        match self {
            Lock(lock) => {
                let guard = lock.lock(GENEROUS).unwrap().into_guard();
                assert!(may_inherit || !guard.is_inherited());
                if guard.is_inherited() {
                    guard.consistent().unwrap();
                }
                drop(guard);
                assert!(!lock.lock(GENEROUS).unwrap().is_inherited());
            }
            Pool(pool) => {
                pool.acquire(pool.total(), GENEROUS).unwrap().release().unwrap();
                assert_eq!(pool.available(), pool.total());
            }
            Table(table) => {
                let guard = table.write(GENEROUS).unwrap().into_guard();
                assert!(may_inherit || !guard.is_inherited());
                if guard.is_inherited() {
                    guard.consistent().unwrap();
                }
                drop(guard);
                assert!(!table.read(GENEROUS).unwrap().is_inherited());
            }
            Flag(flag) => {
                flag.set().unwrap();
                flag.wait(GENEROUS).unwrap();
                assert!(!flag.clear().unwrap(), "one set lets one through");
            }
            Meeting(meeting) => {
                // The death breaks it if the dead had it open, which somebody who waits finds out.
                if meeting.wait(BRIEF).unwrap_err().is(Errno::EOWNERDEAD) {
                    meeting.reset().unwrap();
                }
                std::thread::scope(|scope| {
                    let other = scope.spawn(|| meeting.wait(GENEROUS).unwrap());
                    assert!(meeting.wait(GENEROUS).unwrap() != other.join().unwrap());
                });
            }
            Changed(changed, mutex) => std::thread::scope(|scope| {
                let waiter = scope.spawn(|| {
                    let guard = mutex.lock(GENEROUS).unwrap().into_guard();
                    changed.wait(guard, GENEROUS).unwrap().notified
                });
                while !waiter.is_finished() {
                    changed.notify_one().unwrap();
                    std::thread::yield_now();
                }
                assert!(waiter.join().unwrap());
            }),
        }
    }
}

struct Operation {
    name: &'static str,
    make: fn() -> Thing,
    /// In the victim, before its steps are looked at.
    prepare: fn(&Thing),
    body: fn(&Thing),
    /// Whether the victim could hold something when it dies, of which the next is told.
    may_inherit: bool,
}

const fn operation(name: &'static str, make: fn() -> Thing, prepare: fn(&Thing), body: fn(&Thing)) -> Operation {
    Operation { name, make, prepare, body, may_inherit: true }
}

fn mutex() -> Thing {
    Lock(Mutex::anonymous(MutexOptions { participants: 6, ..Default::default() }).unwrap())
}

fn pool(fair: bool) -> Thing {
    let pool = Permits::anonymous(PermitsOptions { count: 3, fair, participants: 6, ..Default::default() }).unwrap();
    pool.acquire(1, Timeout::Now).unwrap(); // somebody else is its last author
    Pool(pool)
}

fn table() -> Thing {
    Table(RwLock::anonymous(RwLockOptions { participants: 6, ..Default::default() }).unwrap())
}

fn flag() -> Thing {
    Flag(Event::anonymous(EventOptions { auto_reset: true, participants: 6, ..Default::default() }).unwrap())
}

fn meeting() -> Thing {
    Meeting(Barrier::anonymous(BarrierOptions { parties: 2, participants: 6, ..Default::default() }).unwrap())
}

fn changed() -> Thing {
    let options = ConditionOptions { participants: 6, ..Default::default() };
    let mutex = Mutex::anonymous(MutexOptions { participants: 6, ..Default::default() }).unwrap();
    Changed(Condition::anonymous(options).unwrap(), mutex)
}

/// Joins, which happens on first use.
fn joined(thing: &Thing) {
    match thing {
        Lock(lock) => drop(lock.lock(Timeout::Now).unwrap()),
        Pool(pool) => drop(pool.acquire(1, Timeout::Now).unwrap()),
        Table(table) => drop(table.read(Timeout::Now).unwrap()),
        Flag(flag) => drop(flag.clear().unwrap()),
        Meeting(meeting) => assert!(meeting.wait(Timeout::Now).is_err()),
        Changed(changed, mutex) => {
            changed.notify_one().unwrap();
            drop(mutex.lock(Timeout::Now).unwrap());
        }
    }
}

fn held(thing: &Thing) {
    match thing {
        Lock(lock) => drop(lock.take(Timeout::Now).unwrap()),
        Pool(pool) => pool.take(2, Timeout::Now).unwrap(),
        Table(table) => drop(table.take_write(Timeout::Now).unwrap()),
        _ => unreachable!(),
    }
}

/// Another handle of the same process holds it.
fn blocked(thing: &Thing) {
    let other = again(thing);
    held(&other);
    std::mem::forget(other);
    if let Lock(_) | Pool(_) | Table(_) = thing {
        thing.try_out()
    }
}

fn lock(thing: &Thing) {
    let Lock(lock) = thing else { unreachable!() };
    assert!(!lock.take(Timeout::Now).unwrap());
}

fn unlock(thing: &Thing) {
    let Lock(lock) = thing else { unreachable!() };
    lock.release().unwrap();
}

fn take(thing: &Thing) {
    let Pool(pool) = thing else { unreachable!() };
    pool.take(2, Timeout::Now).unwrap();
}

fn give_back(thing: &Thing) {
    let Pool(pool) = thing else { unreachable!() };
    pool.release(2).unwrap();
}

fn read(thing: &Thing) {
    let Table(table) = thing else { unreachable!() };
    table.take_read(Timeout::Now).unwrap();
    table.release_read().unwrap();
}

fn write(thing: &Thing) {
    let Table(table) = thing else { unreachable!() };
    table.take_write(Timeout::Now).unwrap();
    table.release_write().unwrap();
}

fn set_and_wait(thing: &Thing) {
    let Flag(flag) = thing else { unreachable!() };
    flag.set().unwrap();
    let _ = flag.wait(Timeout::Now); // a survivor may have been faster
}

fn wait_on_condition(thing: &Thing) {
    let Changed(changed, mutex) = thing else { unreachable!() };
    let guard = mutex.lock(Timeout::Now).unwrap().into_guard();
    drop(changed.wait(guard, BRIEF).unwrap());
    changed.notify_all().unwrap();
}

fn open_and_leave(thing: &Thing) {
    drop(again(thing));
}

const OPERATIONS: &[Operation] = &[
    operation("mutex, lock", mutex, joined, lock),
    operation("mutex, lock, first of a child", mutex, |_| {}, lock),
    operation("mutex, unlock", mutex, held, unlock),
    operation("mutex, lock in vain", mutex, blocked, Thing::try_out),
    operation("mutex, open and leave", mutex, |_| {}, open_and_leave),
    operation("permits, take", || pool(false), joined, take),
    operation("permits, take, first of a child", || pool(false), |_| {}, take),
    operation("permits, release", || pool(false), held, give_back),
    operation("permits, take in vain", || pool(false), blocked, Thing::try_out),
    operation("permits, fair, take", || pool(true), joined, take),
    operation("permits, fair, take in vain", || pool(true), blocked, Thing::try_out),
    operation("permits, open and leave", || pool(false), |_| {}, open_and_leave),
    Operation { may_inherit: false, ..operation("rwlock, read", table, joined, read) },
    operation("rwlock, write", table, joined, write),
    operation("rwlock, in vain", table, blocked, Thing::try_out),
    operation("event, set and wait", flag, joined, set_and_wait),
    operation("barrier, arrive in vain", meeting, joined, |thing| {
        let Meeting(meeting) = thing else { unreachable!() };
        let _ = meeting.wait(BRIEF); // a survivor may arrive, or have died
    }),
    operation("barrier, open and leave", meeting, |_| {}, open_and_leave),
    operation("condition, wait and notify", changed, joined, wait_on_condition),
];

fn start(operation: &Operation, thing: &Thing) -> Victim {
    Victim::start(|| (operation.prepare)(thing), |()| (operation.body)(thing))
}

/// One run: the victim comes to this point and gets no further; how long the others took, `None` if it did not.
fn run(operation: &Operation, point: Point, end: End) -> Option<Duration> {
    let thing = (operation.make)();
    let mut view = View::new(thing.fd());
    let mut victim = start(operation, &thing);
    if !victim.go_to(point, &mut view) {
        return None;
    }

    let survivor = again(&thing);
    if end == End::Stopped {
        survivor.try_out();
        victim.go_on();
    }
    drop(victim); // which kills it
    let begun = Instant::now();
    // A fresh handle asks at once who is alive; others do every two seconds.
    let fresh = again(&thing);
    fresh.use_all(operation.may_inherit);
    let held_up = begun.elapsed();
    survivor.use_all(false);
    drop(thing);
    drop(again(&survivor)); // looks for the dead
    let participants = fresh.participants();
    assert!(participants.iter().all(|other| other.holding == 0 && other.waiting == 0), "{participants:?}");
    assert!(participants.iter().all(|other| other.pid == Some(std::process::id())), "{participants:?}");
    Some(held_up)
}

#[test]
fn killed_and_stopped_everywhere() {
    let points = |operation: &Operation| {
        let thing = (operation.make)();
        start(operation, &thing).all_points(&mut View::new(thing.fd()))
    };
    everywhere(OPERATIONS, |operation| operation.name.into(), points, run);
}
