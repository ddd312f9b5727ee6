//! Descriptors to poll, and what the statistics tell besides the books.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use wigwag::{Interest, Ring, RingOptions, RingRole, Timeout, WaitSet, WaitSetEvent};

use crate::support::{GENEROUS, SHORT, eventually};
use crate::{balanced, receive, ring, small};

fn again(ring: &Ring, options: RingOptions) -> Ring {
    Ring::from_fd(ring.as_fd().try_clone_to_owned().unwrap(), options).unwrap()
}

fn set_of(bell: &impl AsFd) -> WaitSet {
    let set = WaitSet::new().unwrap();
    set.add(bell, Interest::READABLE, 1).unwrap();
    set
}

fn rings(set: &WaitSet) -> bool {
    match set.wait(&mut [WaitSetEvent::default()], GENEROUS) {
        Ok(_) => true,
        Err(error) => panic!("{error}"),
    }
}

fn is_quiet(set: &WaitSet) -> bool {
    set.wait(&mut [WaitSetEvent::default()], SHORT).is_err_and(|error| error.is(Errno::ETIMEDOUT))
}

/// Whether it falls silent for who goes on looking: a ring for what has been taken since may come late.
fn falls_silent(set: &WaitSet, mut finds_something: impl FnMut() -> bool) {
    eventually("silence", || {
        while finds_something() {}
        is_quiet(set)
    });
}

/// Looks, and has to find nothing.
fn finds_any(ring: &Ring) -> bool {
    match ring.borrow(Timeout::Now) {
        Ok(borrowed) => panic!("there is {:?}", borrowed.to_vec()),
        Err(error) => assert!(error.is(Errno::EAGAIN), "{error}"),
    }
    false
}

#[test]
fn doorbells_ring_for_messages_and_for_room() {
    let ring = ring();
    let (messages, room) = (set_of(&ring.doorbell().unwrap()), set_of(&ring.room_doorbell(0).unwrap()));
    assert!(is_quiet(&messages));
    assert!(rings(&room));
    for id in 0..20u8 {
        ring.send(&[id], Timeout::Now).unwrap();
        assert!(rings(&messages));
        assert_eq!(receive(&ring).0, [id]);
        finds_any(&ring);
    }
    falls_silent(&messages, || finds_any(&ring));
    for _ in 0..5 {
        falls_silent(&room, || ring.send(b"x", Timeout::Now).is_ok());
        receive(&ring);
        assert!(rings(&room));
        while ring.borrow(Timeout::Now).and_then(|borrowed| borrowed.release()).is_ok() {}
    }
}

#[test]
fn a_doorbell_rings_for_what_comes_back() {
    let options = RingOptions { redeliveries: 1, ..small() };
    let ring = Ring::anonymous(options.clone()).unwrap();
    let other = again(&ring, options.clone());
    let letters = again(&ring, RingOptions { dead_letters: true, ..options });
    let (messages, dead) = (set_of(&other.doorbell().unwrap()), set_of(&letters.doorbell().unwrap()));
    ring.send(b"poison", Timeout::Now).unwrap();
    let borrowed = ring.borrow(Timeout::Now).unwrap();
    falls_silent(&messages, || finds_any(&other));
    drop(borrowed);
    assert!(rings(&messages));
    falls_silent(&dead, || finds_any(&letters));
    drop(other.borrow(Timeout::Now).unwrap());
    assert!(rings(&dead));
    assert_eq!(receive(&letters).0, b"poison");
    falls_silent(&dead, || finds_any(&letters));
}

#[test]
fn a_doorbell_rings_when_the_last_producer_has_gone() {
    let options = RingOptions { persistent: false, ..small() };
    let ring = Ring::anonymous(RingOptions { role: RingRole::Consumer, ..options.clone() }).unwrap();
    let producer = again(&ring, RingOptions { role: RingRole::Producer, ..options });
    let messages = set_of(&ring.doorbell().unwrap());
    assert!(is_quiet(&messages));
    drop(producer);
    assert!(rings(&messages));
    assert!(ring.borrow(Timeout::Now).unwrap_err().is(Errno::EPIPE));
}

/// A helper that is woken instead of a consumer takes nothing, and has to pass the wake-up on.
#[test]
fn helpers_keep_no_wake_up_for_themselves() {
    let ring = ring();
    let watcher = again(&ring, small());
    let messages = set_of(&watcher.doorbell().unwrap());
    let begun = Instant::now();
    std::thread::scope(|threads| {
        let consumer = threads.spawn(|| (0..40).for_each(|_| drop(receive(&ring))));
        for round in 0..40 {
            while balanced(&watcher).participants.iter().all(|peer| peer.waiting == 0) && !consumer.is_finished() {
                std::thread::yield_now();
            }
            watcher.send(b"x", Timeout::Now).unwrap();
            while balanced(&watcher).released <= round {
                std::thread::yield_now();
            }
            let _ = watcher.borrow(Timeout::Now).unwrap_err(); // has the helper wait again
        }
        consumer.join().unwrap();
    });
    // Each wake-up that is lost takes two seconds.
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    drop(messages);
}

#[test]
fn waiting_can_be_seen() {
    let ring = ring();
    let watcher = again(&ring, small());
    std::thread::scope(|threads| {
        let consumer = threads.spawn(|| receive(&ring));
        let waits = || balanced(&watcher).participants.into_iter().find(|peer| peer.waiting > 0);
        let waiting = loop {
            match waits() {
                Some(waiting) => break waiting,
                None => std::thread::yield_now(),
            }
        };
        assert_eq!((waiting.waiting, waiting.is_self, waiting.waiting_since.is_some()), (1, false, true));
        watcher.send(b"x", Timeout::Now).unwrap();
        consumer.join().unwrap();
    });
}

#[test]
fn high_water() {
    let ring = Ring::anonymous(RingOptions { capacity: 1 << 14, ..small() }).unwrap();
    let slots = balanced(&ring).slots;
    assert_eq!((slots, balanced(&ring).high_water), (128, 0));
    let fill = |count| (0..count).for_each(|_| ring.send(b"x", Timeout::Now).unwrap());
    let drain = || while ring.borrow(Timeout::Now).and_then(|borrowed| borrowed.release()).is_ok() {};
    fill(3);
    assert_eq!(balanced(&ring).high_water, 3, "who asks looks");
    for _ in 0..1000 {
        fill(2);
        drain();
    }
    assert!((3..=5).contains(&balanced(&ring).high_water));
    fill(50);
    drain();
    assert!((50 - 16..=50).contains(&balanced(&ring).high_water));
    while ring.send(b"x", Timeout::Now).is_ok() {}
    drain();
    assert_eq!(balanced(&ring).high_water, slots, "full, it is exact");
    assert_eq!(balanced(&again(&ring, small())).high_water, slots);
}
