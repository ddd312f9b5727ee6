//! Lanes: messages of a higher one are received first.

use std::os::fd::AsFd;

use nix::errno::Errno;
use wigwag::{Address, Interest, Ring, RingFull, RingOptions, RingReceived, Timeout, WaitSet, WaitSetEvent};

use crate::support::{GENEROUS, SHORT, fork};
use crate::{Name, balanced, receive, small};

/// Two lanes of four slots.
fn options() -> RingOptions {
    RingOptions { capacity: 1024, lanes: 2, ..small() }
}

fn again(ring: &Ring, options: RingOptions) -> Ring {
    Ring::from_fd(ring.as_fd().try_clone_to_owned().unwrap(), options).unwrap()
}

#[test]
fn a_higher_lane_goes_first_and_each_in_its_order() {
    let ring = Ring::anonymous(RingOptions { lanes: 8, capacity: 1 << 14, ..small() }).unwrap();
    assert_eq!((balanced(&ring).lanes, balanced(&ring).slots), (8, 128));
    for lap in 0..20 {
        for id in 0..24u8 {
            ring.send_in_lane(u32::from(id) * 5 % 8, &[id, lap], Timeout::Now).unwrap();
        }
        let mut buffer = [0; 9];
        let received: Vec<(u32, u8)> = (0..24)
            .map(|_| {
                let received = ring.recv(&mut buffer, Timeout::Now).unwrap();
                assert_eq!(buffer[1], lap);
                (received.lane, buffer[0])
            })
            .collect();
        let mut sorted = received.clone();
        sorted.sort_by_key(|(lane, id)| (std::cmp::Reverse(*lane), *id));
        assert_eq!(received, sorted);
    }
    balanced(&ring);
}

#[test]
fn a_lane_is_full_by_itself() {
    let ring = Ring::anonymous(options()).unwrap();
    for id in 0..4 {
        ring.send(&[id], Timeout::Now).unwrap();
    }
    assert!(ring.send(b"x", Timeout::Now).unwrap_err().is(Errno::EAGAIN));
    assert!(ring.send(b"x", SHORT).unwrap_err().is(Errno::ETIMEDOUT));
    let batch: [&[u8]; 6] = [b"a", b"b", b"c", b"d", b"e", b"f"];
    assert_eq!(ring.send_batch_in_lane(1, &batch, Timeout::Now).unwrap(), 4);
    let (mut buffer, mut received) = ([0; 99], [RingReceived::default(); 9]);
    assert_eq!(ring.recv_batch(&mut buffer, &mut received, Timeout::Now).unwrap(), 8);
    assert_eq!(buffer[..8], *b"abcd\0\x01\x02\x03");
    assert_eq!(received[..8].iter().map(|received| received.lane).collect::<Vec<_>>(), [1, 1, 1, 1, 0, 0, 0, 0]);
    assert!(ring.send_in_lane(2, b"x", Timeout::Now).unwrap_err().is(Errno::EINVAL));
    assert!(ring.reserve_in_lane(2, 1, Timeout::Now).unwrap_err().is(Errno::EINVAL));
    assert!(ring.send_batch_in_lane(9, &batch, Timeout::Now).unwrap_err().is(Errno::EINVAL));
    let mut reserved = ring.reserve_in_lane(1, 1, Timeout::Now).unwrap();
    reserved.write(0, b"r");
    ring.send(b"s", Timeout::Now).unwrap();
    reserved.commit().unwrap();
    let borrowed = ring.borrow(Timeout::Now).unwrap();
    assert_eq!((borrowed.lane(), borrowed.to_vec()), (1, b"r".to_vec()));
    assert_eq!(balanced(&ring).borrowed, 1);
}

#[test]
fn the_oldest_of_the_lane_is_dropped() {
    let ring = Ring::anonymous(RingOptions { full: RingFull::DropOldest, ..options() }).unwrap();
    ring.send(b"low", Timeout::Now).unwrap();
    for id in 0..9 {
        ring.send_in_lane(1, &[id], Timeout::Now).unwrap();
    }
    for id in 5..9 {
        assert_eq!(receive(&ring).0, [id]);
    }
    assert_eq!(receive(&ring).0, b"low");
    assert_eq!(balanced(&ring).dropped, 5);
}

#[test]
fn who_waits_for_room_is_woken_by_its_own_lane() {
    let ring = Ring::anonymous(options()).unwrap();
    for lane in [0, 1] {
        (0..4).for_each(|_| ring.send_in_lane(lane, &[lane as u8], Timeout::Now).unwrap());
    }
    std::thread::scope(|threads| {
        let waiting = [0, 1].map(|lane| {
            let ring = &ring;
            threads.spawn(move || ring.send_in_lane(lane, b"more", GENEROUS).unwrap())
        });
        for _ in 0..10 {
            receive(&ring);
        }
        waiting.into_iter().for_each(|thread| thread.join().unwrap());
    });
    assert_eq!(balanced(&ring).released, 10);
}

#[test]
fn a_doorbell_for_each_lane() {
    let ring = Ring::anonymous(options()).unwrap();
    while ring.send_in_lane(1, b"x", Timeout::Now).is_ok() {}
    assert!(ring.room_doorbell(2).unwrap_err().is(Errno::EINVAL));
    let (set, mut events) = (WaitSet::new().unwrap(), [WaitSetEvent::default()]);
    set.add(&ring.room_doorbell(1).unwrap(), Interest::READABLE, 1).unwrap();
    assert!(set.wait(&mut events, SHORT).unwrap_err().is(Errno::ETIMEDOUT));
    receive(&ring);
    set.wait(&mut events, GENEROUS).unwrap();
    let messages = WaitSet::new().unwrap();
    messages.add(&ring.doorbell().unwrap(), Interest::READABLE, 1).unwrap();
    messages.wait(&mut events, GENEROUS).unwrap();
    while ring.recv(&mut [0; 9], Timeout::Now).is_ok() {}
    assert!(messages.wait(&mut events, SHORT).unwrap_err().is(Errno::ETIMEDOUT));
    ring.send_in_lane(1, b"x", Timeout::Now).unwrap();
    messages.wait(&mut events, GENEROUS).unwrap();
}

#[test]
fn what_comes_back_keeps_its_lane() {
    let ring = Ring::anonymous(RingOptions { redeliveries: 1, ..options() }).unwrap();
    ring.send_in_lane(1, b"high", Timeout::Now).unwrap();
    fork(|| {
        std::mem::forget(ring.borrow(GENEROUS).unwrap());
        // SAFETY: ends this process without any clean-up.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    })
    .wait();
    ring.send(b"low", Timeout::Now).unwrap();
    let survivor = again(&ring, options());
    // One that is taken over from the dead goes first again, as soon as somebody has looked.
    let borrowed = survivor.borrow(GENEROUS).unwrap();
    let (lane, bytes) = (borrowed.lane(), borrowed.to_vec());
    borrowed.release().unwrap();
    let other = survivor.recv(&mut [0; 9], GENEROUS).unwrap();
    assert!(matches!((lane, &bytes[..], other.lane), (1, b"high", 0) | (0, b"low", 1)));
    ring.send_in_lane(1, b"poison", Timeout::Now).unwrap();
    (0..2).for_each(|_| drop(ring.borrow(Timeout::Now).unwrap()));
    let letters = again(&ring, RingOptions { dead_letters: true, ..options() });
    assert_eq!(letters.recv(&mut [0; 9], Timeout::Now).unwrap().lane, 1);
    balanced(&ring);
}

#[test]
fn lanes_by_address() {
    let name = Name::new("lanes");
    let with = |options: &str| format!("{}?{options}", name.0).parse::<Address>().unwrap();
    let low = Ring::open(&with("lanes=2"), RingOptions { capacity: 1024, ..small() }).unwrap();
    let high = Ring::open(&with("lane=1"), small()).unwrap();
    low.send(b"low", Timeout::Now).unwrap();
    high.send(b"high", Timeout::Now).unwrap();
    assert_eq!(receive(&low).0, b"high");
    assert_eq!(receive(&low).0, b"low");
    let error = Ring::open(&with("lane=2"), small()).map(drop).unwrap_err();
    assert!(error.is(Errno::EINVAL) && error.to_string().contains("no such lane"), "{error}");
    assert_eq!(balanced(&low).bytes, Ring::size_for(&options()).unwrap());
    for options in [RingOptions { lanes: 9, ..options() }, RingOptions { lanes: 8, ..small() }] {
        assert!(Ring::anonymous(options.clone()).map(drop).unwrap_err().is(Errno::EINVAL));
        assert!(wigwag::RingProducer::anonymous(options).map(drop).unwrap_err().is(Errno::EINVAL));
    }
}
