//! A peer that keeps no rules writes over a ring: the others get errors, or go on; they do not crash, read outside of it, or
//! wait past their timeouts.

mod support;

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use support::fork;
use support::spoiling::{Numbers, spoil};
use wigwag::{Ring, RingConsumer, RingFull, RingOptions, RingProducer, RingReceived, Timeout};

const BRIEF: Timeout = Timeout::After(Duration::from_micros(200));
/// An operation that takes longer has got stuck.
const LONG: Duration = Duration::from_secs(20);
const ROUNDS: u64 = 400;

/// Each of so many children has its own numbers; `make torture` sets the variable.
fn seeds() -> std::ops::Range<u64> {
    if std::env::var_os("WIGWAG_TORTURE").is_some() { 0..20 } else { 0..1 }
}

fn options() -> RingOptions {
    RingOptions { capacity: 4096, largest: 300, participants: 4, ..Default::default() }
}

/// Has one handle after the other work on a ring that is spoilt in between.
fn spoilt<H>(round: u64, numbers: &mut Numbers, mut handles: H, fd: &impl AsFd, mut work: impl FnMut(&mut H)) {
    work(&mut handles);
    let file = std::fs::File::from(fd.as_fd().try_clone_to_owned().unwrap());
    let size = file.metadata().unwrap().len();
    let begun = Instant::now();
    for _ in 0..4 {
        (0..1 + numbers.next() % 6).for_each(|_| spoil(&file, size, numbers));
        work(&mut handles);
    }
    assert!(begun.elapsed() < LONG, "round {round} took {:?}", begun.elapsed());
}

fn checked(received: Result<RingReceived, wigwag::Error>) {
    if let Ok(received) = received {
        assert!(received.length <= 300);
    }
}

fn use_ring(ring: &Ring, round: u64) {
    let (mut buffer, mut received) = ([0; 900], [RingReceived::default(); 4]);
    let message = vec![round as u8; round as usize % 301];
    let _ = ring.send(&message, BRIEF);
    let _ = ring.send_batch(&[&message, &message], BRIEF);
    checked(ring.recv(&mut buffer, BRIEF));
    let _ = ring.borrow(Timeout::Now).map(|borrowed| assert!(borrowed.to_vec().len() <= 300));
    if let Ok(count) = ring.recv_batch(&mut buffer, &mut received, BRIEF) {
        assert!(received[..count].iter().map(|received| received.length).sum::<usize>() <= buffer.len());
    }
    if let Ok(mut reserved) = ring.reserve(200, BRIEF) {
        reserved.write(0, &[1; 300]);
        let _ = if round.is_multiple_of(2) { reserved.commit() } else { reserved.abort() };
    }
    let _ = ring.statistics();
    let _ = ring.as_fd().try_clone_to_owned().map(|fd| Ring::from_fd(fd, options()));
}

#[test]
fn a_peer_that_keeps_no_rules() {
    seeds().for_each(|seed| fork(|| ring_of(seed)).join());
}

fn ring_of(seed: u64) {
    let mut numbers = Numbers(seed);
    for round in 0..ROUNDS {
        let full = if round.is_multiple_of(3) { RingFull::DropOldest } else { RingFull::Wait };
        let options =
            RingOptions { full, redeliveries: (round % 3) as u32, lanes: 1 + (round % 2) as u32, ..options() };
        let ring = Ring::anonymous(options.clone()).unwrap();
        let fd = ring.as_fd().try_clone_to_owned().unwrap();
        let letters = Ring::from_fd(fd, RingOptions { dead_letters: true, ..options }).unwrap();
        let fd = ring.as_fd().try_clone_to_owned().unwrap();
        spoilt(round, &mut numbers, [ring, letters], &fd, |handles| {
            handles.iter().for_each(|handle| use_ring(handle, round));
        });
    }
}

fn use_ends((producer, consumer): &mut (RingProducer, RingConsumer), round: u64) {
    let (mut buffer, mut received) = ([0; 900], [RingReceived::default(); 4]);
    let message = vec![round as u8; round as usize % 301];
    let _ = producer.send(&message, BRIEF);
    let _ = producer.send_batch(&[&message, &message], BRIEF);
    if let Ok(mut reserved) = producer.reserve(200, BRIEF) {
        reserved.write(0, &[1; 300]);
        let _ = reserved.commit();
    }
    let _ = (producer.statistics(), consumer.statistics());
    checked(consumer.recv(&mut buffer, BRIEF));
    let _ = consumer.borrow(Timeout::Now).map(|borrowed| assert!(borrowed.to_vec().len() <= 300));
    if let Ok(count) = consumer.recv_batch(&mut buffer, &mut received, BRIEF) {
        assert!(received[..count].iter().map(|received| received.length).sum::<usize>() <= buffer.len());
    }
    let _ = producer.as_fd().try_clone_to_owned().map(|fd| RingConsumer::from_fd(fd, options()));
}

#[test]
fn a_peer_that_keeps_no_rules_at_a_one_to_one_ring() {
    seeds().for_each(|seed| fork(|| ends_of(seed)).join());
}

fn ends_of(seed: u64) {
    let mut numbers = Numbers(seed);
    for round in 0..ROUNDS {
        let ends = RingProducer::anonymous(options()).unwrap();
        let fd = ends.0.as_fd().try_clone_to_owned().unwrap();
        spoilt(round, &mut numbers, ends, &fd, |ends| use_ends(ends, round));
        // Whoever comes next begins where the spoilt words say.
        let producer = fd.try_clone().map(|fd| RingProducer::from_fd(fd, options()));
        let consumer = fd.try_clone().map(|fd| RingConsumer::from_fd(fd, options()));
        if let (Ok(Ok(producer)), Ok(Ok(consumer))) = (producer, consumer) {
            use_ends(&mut (producer, consumer), round);
        }
    }
}
