//! One-to-one rings at their edges.

mod support;

use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use support::{GENEROUS, SHORT, fork};
use wigwag::{Address, Cancel, Ring, RingConsumer, RingFull, RingOptions, RingProducer, Timeout};

fn options() -> RingOptions {
    RingOptions { capacity: 1024, largest: 200, participants: 8, persistent: true, ..Default::default() }
}

fn pair() -> (RingProducer, RingConsumer) {
    RingProducer::anonymous(options()).unwrap()
}

fn consumer_of(ring: &impl AsFd) -> wigwag::Result<RingConsumer> {
    RingConsumer::from_fd(ring.as_fd().try_clone_to_owned().unwrap(), options())
}

fn producer_of(ring: &impl AsFd) -> wigwag::Result<RingProducer> {
    RingProducer::from_fd(ring.as_fd().try_clone_to_owned().unwrap(), options())
}

fn message(n: usize) -> Vec<u8> {
    (0..n * 37 % 201).map(|at| (n * 31 + at * 7) as u8).collect()
}

fn receive(consumer: &mut RingConsumer) -> Vec<u8> {
    let mut buffer = [0; 200];
    let received = consumer.recv(&mut buffer, GENEROUS).unwrap();
    assert!(!received.is_redelivered());
    buffer[..received.length].to_vec()
}

#[test]
fn all_lengths_around_and_around() {
    let (mut producer, mut consumer) = pair();
    let (mut sent, mut received) = (0, 0);
    while received < 3000 {
        while producer.send(&message(sent), Timeout::Now).is_ok() {
            sent += 1;
        }
        assert!(sent > received, "there is room for the largest when it is empty");
        for _ in 0..(sent - received).min(1 + received % 5) {
            assert_eq!(receive(&mut consumer), message(received));
            received += 1;
        }
        let books = consumer.statistics().unwrap();
        assert_eq!((books.sent, books.released, books.borrowed), (sent as u64, received as u64, 0));
        assert_eq!(books.queued, (sent - received) as u64);
    }
    assert!(producer.send(&[0; 201], Timeout::Now).unwrap_err().is(Errno::EMSGSIZE));
}

#[test]
fn small_messages_use_little() {
    let (mut producer, _consumer) = pair();
    let sent = (0..).take_while(|_| producer.send(&[1; 8], Timeout::Now).is_ok()).count();
    assert_eq!(sent, 1024 / 16);
}

#[test]
fn too_small_a_buffer_leaves_the_message() {
    let (mut producer, mut consumer) = pair();
    producer.send(&message(5), Timeout::Now).unwrap();
    let error = consumer.recv(&mut [0; 10], Timeout::Now).unwrap_err();
    assert_eq!((error.errno(), error.true_size()), (libc::EMSGSIZE, message(5).len()));
    assert_eq!(receive(&mut consumer), message(5));
}

#[test]
fn a_second_one_is_refused_until_the_first_has_gone() {
    let (producer, consumer) = pair();
    let error = consumer_of(&producer).unwrap_err();
    assert!(error.is(Errno::EBUSY) && error.reason().contains("has its consumer"));
    let error = producer_of(&producer).unwrap_err();
    assert!(error.is(Errno::EBUSY) && error.reason().contains("has its producer"));
    drop(consumer);
    let consumer = consumer_of(&producer).unwrap();
    drop(producer);
    let _producer = producer_of(&consumer).unwrap();
}

#[test]
fn between_processes_both_asleep_now_and_then() {
    let (mut producer, consumer) = pair();
    drop(consumer);
    let child = fork(|| {
        let mut consumer = consumer_of(&producer).unwrap();
        for n in 0..20_000 {
            assert_eq!(receive(&mut consumer), message(n));
            if n % 1000 == 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    });
    for n in 0..20_000 {
        producer.send(&message(n), GENEROUS).unwrap();
        if n % 700 == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    child.join();
}

#[test]
fn inherited_ends_stay_the_parents() {
    let (mut producer, mut consumer) = pair();
    producer.send(b"x", Timeout::Now).unwrap();
    fork(|| {
        let error = producer.send(b"y", Timeout::Now).unwrap_err();
        assert!(error.is(Errno::EPERM) && error.reason().contains("forked"), "{error}");
        assert!(consumer.recv(&mut [0; 9], Timeout::Now).unwrap_err().is(Errno::EPERM));
    })
    .join();
    producer.send(b"z", Timeout::Now).unwrap();
    assert_eq!((receive(&mut consumer), receive(&mut consumer)), (b"x".to_vec(), b"z".to_vec()));
}

#[test]
fn killed_ends_are_taken_over() {
    let (mut producer, consumer) = pair();
    drop(consumer);
    (0..3).for_each(|n| producer.send(&message(n), Timeout::Now).unwrap());
    fork(|| {
        let mut consumer = consumer_of(&producer).unwrap();
        assert_eq!(receive(&mut consumer), message(0));
        // SAFETY: ends this process without any clean-up.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    })
    .wait();
    let mut consumer = consumer_of(&producer).unwrap();
    assert_eq!(receive(&mut consumer), message(1), "it was done with the first");
    drop(producer);
    fork(|| {
        let mut producer = producer_of(&consumer).unwrap();
        producer.send(&message(3), Timeout::Now).unwrap();
        // SAFETY: as above.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    })
    .wait();
    let mut producer = producer_of(&consumer).unwrap();
    producer.send(&message(4), Timeout::Now).unwrap();
    (2..5).for_each(|n| assert_eq!(receive(&mut consumer), message(n)));
}

#[test]
fn hang_up_both_ways() {
    let options = RingOptions { persistent: false, ..options() };
    let (mut producer, mut consumer) = RingProducer::anonymous(options.clone()).unwrap();
    producer.send(b"last", Timeout::Now).unwrap();
    drop(producer);
    assert_eq!(receive(&mut consumer), b"last");
    assert!(consumer.recv(&mut [0; 9], GENEROUS).unwrap_err().is(Errno::EPIPE));
    let (mut producer, consumer) = RingProducer::anonymous(options).unwrap();
    drop(consumer);
    let error = loop {
        match producer.send(&[0; 200], GENEROUS) {
            Ok(()) => {}
            Err(error) => break error,
        }
    };
    assert!(error.is(Errno::EPIPE), "{error}");
}

#[test]
fn full_and_cancelled() {
    let (mut producer, mut consumer) =
        RingProducer::anonymous(RingOptions { full: RingFull::DropNewest, ..options() }).unwrap();
    (0..10).for_each(|_| producer.send(&[0; 200], GENEROUS).unwrap());
    let books = producer.statistics().unwrap();
    assert_eq!((books.sent, books.queued, books.dropped), (10, 4, 6));
    (0..4).for_each(|_| drop(receive(&mut consumer)));
    assert!(consumer.recv(&mut [0; 9], SHORT).unwrap_err().is(Errno::ETIMEDOUT));
    let cancel = Cancel::new();
    std::thread::scope(|threads| {
        threads.spawn(|| {
            std::thread::sleep(Duration::from_millis(10));
            cancel.fire();
        });
        let _scope = cancel.enter();
        assert!(consumer.recv(&mut [0; 9], Timeout::Forever).unwrap_err().is(Errno::ECANCELED));
    });
    let error = RingProducer::anonymous(RingOptions { full: RingFull::DropOldest, ..options() }).unwrap_err();
    assert!(error.is(Errno::EINVAL) && error.reason().contains("oldest"));
    assert!(RingProducer::anonymous(RingOptions { largest: 300, ..options() }).unwrap_err().is(Errno::EINVAL));
}

#[test]
fn one_kind_is_not_the_other() {
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let address: Address = format!("ring:{}/r", directory.path().display()).parse().unwrap();
    let _producer = RingProducer::open(&address, options()).unwrap();
    let _consumer = RingConsumer::open(&address, options()).unwrap();
    let error = Ring::open(&address, options()).unwrap_err();
    assert!(error.is(Errno::EBADMSG) && error.reason().contains("kind 2"), "{error}");
}
