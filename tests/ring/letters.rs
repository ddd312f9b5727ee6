//! Dead letters.

use std::os::fd::AsFd;

use nix::errno::Errno;
use wigwag::{Address, Ring, RingOptions, RingReceived, Timeout};

use crate::support::{GENEROUS, SHORT, fork};
use crate::{Name, balanced, receive, small};

/// A ring whose messages become dead letters when they come back for the second time, and a handle on these.
fn with_letters() -> (Ring, Ring) {
    let options = RingOptions { redeliveries: 1, ..small() };
    let ring = Ring::anonymous(options.clone()).unwrap();
    let fd = ring.as_fd().try_clone_to_owned().unwrap();
    (ring, Ring::from_fd(fd, RingOptions { dead_letters: true, ..options }).unwrap())
}

fn fail(ring: &Ring, times: u32) {
    (0..times).for_each(|_| drop(ring.borrow(Timeout::Now).unwrap()));
}

#[test]
fn a_message_that_comes_back_too_often_is_a_dead_letter() {
    let (ring, letters) = with_letters();
    ring.send(b"poison", Timeout::Now).unwrap();
    ring.send(b"fine", Timeout::Now).unwrap();
    assert!(letters.borrow(Timeout::Now).unwrap_err().is(Errno::EAGAIN));
    fail(&ring, 2);
    let books = balanced(&ring);
    assert_eq!((books.queued, books.dead_lettered, books.redelivered), (1, 1, 1));
    assert_eq!(receive(&ring), (b"fine".to_vec(), false));
    assert!(ring.borrow(Timeout::Now).unwrap_err().is(Errno::EAGAIN), "not there any more");

    let borrowed = letters.borrow(Timeout::Now).unwrap();
    assert_eq!((borrowed.to_vec(), borrowed.deliveries()), (b"poison".to_vec(), 3));
    let books = balanced(&ring);
    assert_eq!((books.borrowed, books.dead_lettered), (1, 0));
    assert!(books.participants.iter().all(|peer| !peer.is_self || peer.consumer));
    drop(borrowed);
    assert_eq!(balanced(&ring).dead_lettered, 1, "not released, it stays one");
    assert!(letters.recv(&mut [0; 2], Timeout::Now).unwrap_err().is(Errno::EMSGSIZE));
    assert_eq!(receive(&letters), (b"poison".to_vec(), true));
    let books = balanced(&letters);
    assert_eq!((books.released, books.dead_lettered), (2, 0));
    assert!(books.participants.iter().all(|peer| !peer.is_self || !peer.consumer), "it is no consumer");
}

#[test]
fn dead_letters_leave_room_for_others() {
    let (ring, letters) = with_letters();
    for id in 0..3u8 {
        ring.send(&[id], Timeout::Now).unwrap();
        fail(&ring, 2);
    }
    let books = balanced(&ring);
    assert_eq!((books.slots, books.dead_lettered, books.dropped), (4, 2, 1), "half of the slots at most");
    for id in 0..40u8 {
        ring.send(&[id], Timeout::Now).unwrap();
        assert_eq!(receive(&ring), (vec![id], false));
    }
    let sent = (0u8..).take_while(|id| ring.send(&[*id], Timeout::Now).is_ok()).count();
    assert!((1..=2).contains(&sent), "{sent}");
    let (mut buffer, mut received) = ([0; 9], [RingReceived::default(); 9]);
    assert_eq!(letters.recv_batch(&mut buffer, &mut received, Timeout::Now).unwrap(), 2);
    buffer[..2].sort_unstable();
    assert_eq!(buffer[..2], [0, 1]);
    assert!(received[..2].iter().all(|received| received.deliveries == 3));
    assert_eq!(balanced(&ring).queued, sent as u64);
}

#[test]
fn those_who_wait_for_dead_letters_are_woken() {
    let (ring, letters) = with_letters();
    std::thread::scope(|threads| {
        let waiting = threads.spawn(|| receive(&letters));
        ring.send(b"poison", Timeout::Now).unwrap();
        fail(&ring, 2);
        assert_eq!(waiting.join().unwrap(), (b"poison".to_vec(), true));
    });
    assert!(letters.recv(&mut [0; 9], SHORT).unwrap_err().is(Errno::ETIMEDOUT));
}

#[test]
fn nobody_is_left_to_make_dead_letters() {
    let options = RingOptions { persistent: false, redeliveries: 1, ..small() };
    let ring = Ring::anonymous(options.clone()).unwrap();
    let fd = ring.as_fd().try_clone_to_owned().unwrap();
    let letters = Ring::from_fd(fd, RingOptions { dead_letters: true, ..options }).unwrap();
    ring.send(b"poison", Timeout::Now).unwrap();
    fail(&ring, 2);
    drop(ring);
    assert_eq!(receive(&letters).0, b"poison");
    let error = letters.recv(&mut [0; 9], GENEROUS).unwrap_err();
    assert!(error.is(Errno::EPIPE) && error.to_string().contains("no dead letter"), "{error}");
}

#[test]
fn what_kills_its_consumers_becomes_a_dead_letter() {
    let (ring, letters) = with_letters();
    ring.send(b"poison", Timeout::Now).unwrap();
    for _ in 0..2 {
        fork(|| {
            std::mem::forget(ring.borrow(GENEROUS).unwrap());
            // SAFETY: ends this process without any clean-up.
            unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
        })
        .wait();
    }
    assert_eq!(receive(&letters), (b"poison".to_vec(), true));
    assert_eq!(balanced(&ring).released, 1);
}

#[test]
fn dead_letters_by_address() {
    let name = Name::new("letters");
    let with = |options: &str| format!("{}?{options}", name.0).parse::<Address>().unwrap();
    let ring = Ring::open(&with("redeliveries=1"), small()).unwrap();
    let letters = Ring::open(&with("dead-letters=1"), small()).unwrap();
    ring.send(b"poison", Timeout::Now).unwrap();
    fail(&ring, 2);
    assert_eq!(receive(&letters).0, b"poison");
    for options in [RingOptions { dead_letters: true, ..small() }, RingOptions { redeliveries: 1, ..small() }] {
        let error = wigwag::RingProducer::anonymous(options).map(drop).unwrap_err();
        assert!(error.is(Errno::EINVAL) && error.to_string().contains("dead letters"), "{error}");
    }
}
