//! A process is killed, or stopped for ever, at every point of every operation on a pool of leases that differs from the one
//! before; the others wait no longer than they said, get all slots once it is dead, with whole information, and are told of
//! each that it died with.
#![cfg(target_arch = "x86_64")]

mod stepping;
mod support;

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use stepping::{End, Point, Victim, View, everywhere};
use support::GENEROUS;
use wigwag::{LEASE_INFORMATION_MAX, Lease, LeaseGroup, LeaseOptions, LeasePool, LeaseRequest, Timeout};

const BRIEF: Timeout = Timeout::After(Duration::from_millis(3));
const SLOTS: u32 = 3;
const REQUEST: LeaseRequest<'_> = LeaseRequest { group: "web", note: "a victim's" };

/// What a slot's information may be: nothing, or this byte as often as there is room, all the same.
fn is_whole(information: &[u8]) -> bool {
    information.is_empty()
        || information.len() == LEASE_INFORMATION_MAX && information.iter().all(|byte| *byte == information[0])
}

fn again(pool: &LeasePool) -> LeasePool {
    LeasePool::from_fd(pool.as_fd().try_clone_to_owned().unwrap(), LeaseOptions::default()).unwrap()
}

fn make(fair: bool, expires: Duration) -> LeasePool {
    let groups = vec![LeaseGroup { name: "web".into(), minimum: 1 }];
    let options = LeaseOptions { slots: SLOTS, room: 4, fair, expires, groups, participants: 6, ..Default::default() };
    let pool = LeasePool::anonymous(options).unwrap();
    let mut leases: Vec<_> = (0..SLOTS).map(|_| pool.acquire_for(&REQUEST, Timeout::Now).unwrap()).collect();
    for lease in &mut leases {
        lease.set_information(&[lease.slot() as u8; LEASE_INFORMATION_MAX]).unwrap();
    }
    drop(leases);
    pool
}

/// What the victim holds before its steps are looked at.
type Held<'a> = Option<Lease<'a>>;

struct Operation {
    name: &'static str,
    fair: bool,
    expires: Duration,
    prepare: for<'a> fn(&'a LeasePool) -> Held<'a>,
    body: for<'a> fn(&'a LeasePool, Held<'a>),
}

const fn operation(
    name: &'static str,
    prepare: for<'a> fn(&'a LeasePool) -> Held<'a>,
    body: for<'a> fn(&'a LeasePool, Held<'a>),
) -> Operation {
    Operation { name, fair: false, expires: Duration::ZERO, prepare, body }
}

fn joined(pool: &LeasePool) -> Held<'_> {
    drop(pool.acquire(Timeout::Now).unwrap());
    None
}

fn holding(pool: &LeasePool) -> Held<'_> {
    Some(pool.acquire_for(&REQUEST, Timeout::Now).unwrap())
}

/// Another handle of the same process holds all of it.
fn blocked(pool: &LeasePool) -> Held<'_> {
    let other = again(pool);
    while let Ok(lease) = other.acquire_for(&REQUEST, Timeout::Now) {
        std::mem::forget(lease);
    }
    std::mem::forget(other);
    in_time(pool.acquire(BRIEF)); // what the first wait of a process does besides
    None
}

fn acquire<'a>(pool: &'a LeasePool, _: Held<'a>) {
    std::mem::forget(pool.acquire_for(&REQUEST, Timeout::Now));
}

fn acquire_in_vain<'a>(pool: &'a LeasePool, _: Held<'a>) {
    let _ = pool.acquire_for(&REQUEST, BRIEF);
}

const OPERATIONS: &[Operation] = &[
    operation("acquire", joined, acquire),
    operation("acquire, first of a child", |_| None, acquire),
    Operation { expires: Duration::from_secs(60), ..operation("acquire, for a time", joined, acquire) },
    operation("acquire in vain", blocked, acquire_in_vain),
    Operation { fair: true, ..operation("acquire in vain, fair", blocked, acquire_in_vain) },
    operation("release", holding, |_, lease| lease.unwrap().release().unwrap()),
    operation("abandon", holding, |_, lease| lease.unwrap().abandon().unwrap()),
    operation("set_information", holding, |_, lease| {
        let mut lease = lease.unwrap();
        lease.set_information(&[9; LEASE_INFORMATION_MAX]).unwrap();
        std::mem::forget(lease);
    }),
    Operation {
        expires: Duration::from_secs(60),
        ..operation("renew and note", holding, |_, lease| {
            let mut lease = lease.unwrap();
            lease.renew().unwrap();
            lease.set_note("another").unwrap();
            std::mem::forget(lease);
        })
    },
    operation("resize", joined, |pool, _| {
        pool.resize(4).unwrap();
        pool.resize(SLOTS).unwrap();
    }),
    operation("open and leave", |_| None, |pool, _| drop(again(pool))),
];

fn start(operation: &Operation, pool: &LeasePool) -> Victim {
    Victim::start(|| (operation.prepare)(pool), |held| (operation.body)(pool, held))
}

fn in_time<T>(result: wigwag::Result<T>) {
    if let Err(error) = result {
        assert!(error.is(Errno::ETIMEDOUT), "{error}");
    }
}

/// Takes all slots, now that the other side is dead; how many of them are dirty.
fn use_all(pool: &LeasePool) -> usize {
    let mut leases: Vec<_> = (0..SLOTS).map(|_| pool.acquire_for(&REQUEST, GENEROUS).unwrap()).collect();
    for lease in &mut leases {
        let information = lease.information().unwrap();
        assert!(is_whole(&information), "{information:?}");
    }
    let mut slots: Vec<_> = leases.iter().map(Lease::slot).collect();
    slots.sort_unstable();
    slots.dedup();
    assert_eq!(slots.len(), leases.len());
    let dirty = leases.iter().filter(|lease| lease.is_dirty()).count();
    leases.iter_mut().for_each(|lease| lease.make_clean().unwrap());
    leases.into_iter().for_each(|lease| lease.release().unwrap());
    dirty
}

/// One run: the victim comes to this point and gets no further; how long the others took, `None` if it did not.
fn run(operation: &Operation, point: Point, end: End) -> Option<Duration> {
    let pool = make(operation.fair, operation.expires);
    let mut view = View::new(&pool);
    let mut victim = start(operation, &pool);
    if !victim.go_to(point, &mut view) {
        return None;
    }

    let survivor = again(&pool);
    if end == End::Stopped {
        in_time(survivor.acquire(BRIEF));
        in_time(survivor.acquire_for(&REQUEST, BRIEF));
        victim.go_on();
    }
    let held = survivor.statistics().unwrap().held;
    drop(victim); // which kills it
    let begun = Instant::now();
    // A fresh handle asks at once who is alive; others do every two seconds.
    let fresh = again(&pool);
    let dirty = use_all(&fresh);
    let held_up = begun.elapsed();
    // One for each that it died with, and one more for each that it has said to be dirty.
    assert!(dirty >= held as usize && dirty <= SLOTS as usize, "{dirty} dirty of {held} held");
    assert_eq!(use_all(&survivor), 0);
    drop(pool);
    drop(again(&survivor)); // looks for the dead
    let statistics = fresh.statistics().unwrap();
    assert_eq!((statistics.held, statistics.waiting, fresh.available()), (0, 0, fresh.slots()));
    let participants = statistics.participants;
    assert!(participants.iter().all(|other| other.pid == Some(std::process::id())), "{participants:?}");
    Some(held_up)
}

#[test]
fn killed_and_stopped_everywhere() {
    let points = |operation: &Operation| {
        let pool = make(operation.fair, operation.expires);
        start(operation, &pool).all_points(&mut View::new(&pool))
    };
    everywhere(OPERATIONS, |operation| operation.name.into(), points, run);
}
