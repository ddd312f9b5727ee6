//! One-to-one rings at their edges.

mod support;

use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use support::{GENEROUS, SHORT, fork};
use wigwag::{
    Address, Cancel, Interest, Ring, RingConsumer, RingFull, RingOptions, RingProducer, RingReceived, Timeout, WaitSet,
    WaitSetEvent,
};

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
    assert_eq!(sent, 1024 / 16 - 1);
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

#[test]
fn in_place_both_ways() {
    let (mut producer, mut consumer) = pair();
    for n in 0..500 {
        let mut reserved = producer.reserve(message(n).len(), Timeout::Now).unwrap();
        assert_eq!(reserved.length(), message(n).len());
        if n % 2 == 0 {
            assert_eq!(reserved.write(0, &message(n)), message(n).len());
            assert_eq!(reserved.write(message(n).len(), b"beyond"), 0);
        } else {
            // SAFETY: the guard's bytes, which nobody else touches before the commit.
            unsafe { reserved.as_ptr().copy_from(message(n).as_ptr(), reserved.length()) };
        }
        reserved.commit().unwrap();
        let borrowed = consumer.borrow(Timeout::Now).unwrap();
        // SAFETY: the guard's bytes, which stay as they are until it is released.
        let bytes = unsafe { std::slice::from_raw_parts(borrowed.as_ptr(), borrowed.length()) };
        assert_eq!((bytes, borrowed.is_redelivered()), (&message(n)[..], false));
        let mut tail = [0; 4];
        assert_eq!(borrowed.read(borrowed.length(), &mut tail), 0);
        borrowed.release().unwrap();
    }
    assert!(producer.reserve(201, Timeout::Now).unwrap_err().is(Errno::EMSGSIZE));
    assert!(consumer.borrow(Timeout::Now).unwrap_err().is(Errno::EAGAIN));
}

#[test]
fn an_aborted_reservation_was_never_there() {
    let (mut producer, mut consumer) = pair();
    for n in 0..200 {
        producer.reserve(100, Timeout::Now).unwrap().write(0, &[255; 100]);
        producer.reserve(7, Timeout::Now).unwrap().abort();
        assert!(consumer.recv(&mut [0; 200], Timeout::Now).unwrap_err().is(Errno::EAGAIN));
        producer.send(&message(n), Timeout::Now).unwrap();
        assert_eq!(receive(&mut consumer), message(n));
    }
    let books = producer.statistics().unwrap();
    assert_eq!((books.sent, books.released, books.queued, books.borrowed), (200, 200, 0, 0));
}

#[test]
fn given_back_it_comes_again_marked_and_counted() {
    let (mut producer, mut consumer) = pair();
    (0..3).for_each(|n| producer.send(&message(n), Timeout::Now).unwrap());
    for times in 1..4 {
        let borrowed = consumer.borrow(Timeout::Now).unwrap();
        assert_eq!((borrowed.to_vec(), borrowed.deliveries()), (message(0), times));
    }
    let borrowed = consumer.borrow(Timeout::Now).unwrap();
    assert_eq!(producer.statistics().unwrap().borrowed, 1);
    drop(borrowed);
    let books = consumer.statistics().unwrap();
    assert_eq!((books.borrowed, books.queued, books.redelivered), (0, 3, 3));
    drop(consumer);
    let mut consumer = consumer_of(&producer).unwrap();
    let mut buffer = [0; 200];
    assert_eq!(consumer.recv(&mut buffer, Timeout::Now).unwrap().deliveries, 5);
    assert_eq!((receive(&mut consumer), receive(&mut consumer)), (message(1), message(2)));
}

#[test]
fn each_that_is_given_back_is_marked_whatever_came_before() {
    // So large that what is free is not handed over in between.
    let options = RingOptions { capacity: 1 << 16, ..options() };
    let (mut producer, mut consumer) = RingProducer::anonymous(options).unwrap();
    (1..6).for_each(|n| producer.send(&message(n), Timeout::Now).unwrap());
    for n in 1..6 {
        // Every other one is given back first.
        if n % 2 == 1 {
            drop(consumer.borrow(Timeout::Now).unwrap());
        }
        let borrowed = consumer.borrow(Timeout::Now).unwrap();
        assert_eq!((borrowed.to_vec(), borrowed.is_redelivered()), (message(n), n % 2 == 1), "{n}");
        borrowed.release().unwrap();
    }
}

#[test]
fn lent_to_the_dead_it_comes_again() {
    let (mut producer, consumer) = pair();
    drop(consumer);
    (0..2).for_each(|n| producer.send(&message(n), Timeout::Now).unwrap());
    fork(|| {
        let mut consumer = consumer_of(&producer).unwrap();
        std::mem::forget(consumer.borrow(Timeout::Now).unwrap());
        // SAFETY: ends this process without any clean-up.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    })
    .wait();
    let mut consumer = consumer_of(&producer).unwrap();
    let borrowed = consumer.borrow(Timeout::Now).unwrap();
    assert_eq!((borrowed.to_vec(), borrowed.deliveries()), (message(0), 2));
    borrowed.release().unwrap();
    assert_eq!(receive(&mut consumer), message(1));
}

#[test]
fn batches_around_and_around() {
    let (mut producer, mut consumer) = pair();
    let messages: Vec<Vec<u8>> = (0..600).map(message).collect();
    let (mut sent, mut received) = (0, 0);
    while received < messages.len() {
        let slices: Vec<&[u8]> = messages[sent..].iter().take(1 + sent % 20).map(|message| &message[..]).collect();
        if let Ok(count) = producer.send_batch(&slices, Timeout::Now) {
            assert!(count > 0 || slices.is_empty());
            sent += count;
        }
        let books = producer.statistics().unwrap();
        assert_eq!((books.sent, books.queued), (sent as u64, (sent - received) as u64));
        let (mut buffer, mut got) = ([0; 500], [RingReceived::default(); 7]);
        let count = consumer.recv_batch(&mut buffer, &mut got, Timeout::Now).unwrap();
        let mut at = 0;
        for (got, expected) in got[..count].iter().zip(&messages[received..]) {
            assert_eq!((&buffer[at..at + got.length], got.deliveries), (&expected[..], 1));
            at += got.length;
        }
        received += count;
    }
    assert_eq!(sent, received);
}

#[test]
fn batches_at_their_edges() {
    let (mut producer, mut consumer) = pair();
    assert_eq!(producer.send_batch(&[], Timeout::Now).unwrap(), 0);
    let large = [0; 201];
    assert_eq!(producer.send_batch(&[b"a", b"b", &large, b"c"], Timeout::Now).unwrap(), 2);
    assert!(producer.send_batch(&[&large], Timeout::Now).unwrap_err().is(Errno::EMSGSIZE));
    let mut got = [RingReceived::default(); 4];
    assert!(consumer.recv_batch(&mut [0; 9], &mut [], Timeout::Now).unwrap_err().is(Errno::EINVAL));
    assert_eq!(consumer.recv_batch(&mut [0; 1], &mut got, Timeout::Now).unwrap(), 1, "as many as fit");
    let error = consumer.recv_batch(&mut [], &mut got, Timeout::Now).unwrap_err();
    assert_eq!((error.errno(), error.true_size()), (libc::EMSGSIZE, 1));
    assert_eq!(receive(&mut consumer), b"b");
    assert!(consumer.recv_batch(&mut [0; 9], &mut got, SHORT).unwrap_err().is(Errno::ETIMEDOUT));
    drop(producer);
    let options = RingOptions { full: RingFull::DropNewest, ..options() };
    let mut producer = RingProducer::from_fd(consumer.as_fd().try_clone_to_owned().unwrap(), options).unwrap();
    let message: &[u8] = &[0; 200];
    assert_eq!(producer.send_batch(&[message; 10], Timeout::Now).unwrap(), 10);
    assert_eq!(producer.send_batch(&[message; 3], Timeout::Now).unwrap(), 3);
    let books = producer.statistics().unwrap();
    assert_eq!((books.sent, books.queued, books.dropped), (15, 4, 9));
}

#[test]
fn doorbells_ring_for_messages_and_for_room() {
    let (mut producer, mut consumer) = pair();
    let set = WaitSet::new().unwrap();
    let mut events = [WaitSetEvent::default()];
    set.add(&consumer.doorbell().unwrap(), Interest::READABLE, 1).unwrap();
    let nothing = set.wait(&mut events, SHORT).unwrap_err();
    assert!(nothing.is(Errno::ETIMEDOUT));
    for n in 0..50 {
        producer.send(&message(n), Timeout::Now).unwrap();
        set.wait(&mut events, GENEROUS).unwrap();
        assert_eq!(receive(&mut consumer), message(n));
        assert!(consumer.recv(&mut [0; 200], Timeout::Now).unwrap_err().is(Errno::EAGAIN));
    }
    set.remove(1).unwrap();
    set.add(&producer.doorbell().unwrap(), Interest::READABLE, 2).unwrap();
    set.wait(&mut events, GENEROUS).unwrap();
    for _ in 0..20 {
        while producer.send(&[1; 200], Timeout::Now).is_ok() {}
        let nothing = set.wait(&mut events, SHORT).unwrap_err();
        assert!(nothing.is(Errno::ETIMEDOUT));
        while consumer.recv(&mut [0; 200], Timeout::Now).is_ok() {}
        set.wait(&mut events, GENEROUS).unwrap();
    }
}

#[test]
fn a_doorbell_rings_for_room_behind_what_was_sent_since_a_refusal() {
    let (mut producer, mut consumer) = pair();
    while producer.send(&[1; 200], Timeout::Now).is_ok() {}
    // Past the place where there was no room.
    receive(&mut consumer);
    producer.send(&[2; 9], Timeout::Now).unwrap();
    while consumer.recv(&mut [0; 200], Timeout::Now).is_ok() {}
    let set = WaitSet::new().unwrap();
    set.add(&producer.doorbell().unwrap(), Interest::READABLE, 1).unwrap();
    set.wait(&mut [WaitSetEvent::default()], GENEROUS).unwrap();
}

#[test]
fn one_that_fails_when_full_is_told_that_the_other_end_has_gone() {
    let options = RingOptions { persistent: false, full: RingFull::Fail, ..options() };
    let (mut producer, consumer) = RingProducer::anonymous(options).unwrap();
    while producer.send(&[0; 200], GENEROUS).is_ok() {}
    assert!(producer.send(&[0; 200], GENEROUS).unwrap_err().is(Errno::EAGAIN));
    drop(consumer);
    assert!(producer.send(&[0; 200], GENEROUS).unwrap_err().is(Errno::EPIPE));
}

#[test]
fn what_is_refused_for_its_options_makes_nothing() {
    let address: Address = format!("ring:{}", support::fresh("one")).parse().unwrap();
    for wrong in [
        RingOptions { full: RingFull::DropOldest, ..options() },
        RingOptions { redeliveries: 1, ..options() },
        RingOptions { lanes: 2, ..options() },
        RingOptions { depth: 4, ..options() },
    ] {
        assert!(RingProducer::open(&address, wrong).unwrap_err().is(Errno::EINVAL));
        assert!(Ring::remove(&address).unwrap_err().is(Errno::ENOENT));
    }
    let error = Ring::open(&address, RingOptions { lane: 3, ..options() }).unwrap_err();
    assert!(error.is(Errno::EINVAL) && error.reason().contains("no such lane"), "{error}");
    let ring = Ring::open(&address, RingOptions { lanes: 4, lane: 3, capacity: 8192, ..options() }).unwrap();
    assert_eq!(Ring::open(&address, RingOptions { lane: 3, ..options() }).unwrap().lane(), 3);
    drop(ring);
    Ring::remove(&address).unwrap();
}

#[test]
fn a_forgotten_loan_comes_again_marked() {
    let (mut producer, mut consumer) = pair();
    producer.send(b"one", Timeout::Now).unwrap();
    producer.send(b"two", Timeout::Now).unwrap();
    std::mem::forget(consumer.borrow(Timeout::Now).unwrap());
    let mut buffer = [0; 9];
    let first = consumer.recv(&mut buffer, Timeout::Now).unwrap();
    let second = consumer.recv(&mut buffer, Timeout::Now).unwrap();
    assert_eq!((first.deliveries, second.deliveries), (2, 1));
}

#[test]
fn a_doorbell_rings_when_the_other_end_has_gone() {
    let options = RingOptions { persistent: false, ..options() };
    let (producer, mut consumer) = RingProducer::anonymous(options).unwrap();
    let set = WaitSet::new().unwrap();
    let mut events = [WaitSetEvent::default()];
    set.add(&consumer.doorbell().unwrap(), Interest::READABLE, 1).unwrap();
    assert!(set.wait(&mut events, SHORT).is_err());
    drop(producer);
    set.wait(&mut events, GENEROUS).unwrap();
    assert!(consumer.recv(&mut [0; 9], Timeout::Now).unwrap_err().is(Errno::EPIPE));
}

#[test]
fn guards_can_keep_their_end() {
    let (producer, consumer) = RingProducer::anonymous(options()).unwrap();
    let (mut producer, mut consumer) = (Box::new(producer), Box::new(consumer));
    for n in 0..100 {
        let bytes = message(n);
        let mut reserved = producer.reserve_owned(bytes.len(), Timeout::Now).unwrap();
        assert_eq!(reserved.write(0, &bytes), bytes.len());
        assert_eq!(reserved.producer().statistics().unwrap().queued, 0);
        producer = reserved.commit().unwrap();
        let borrowed = consumer.borrow_owned(Timeout::Now).unwrap();
        assert_eq!((borrowed.to_vec(), borrowed.deliveries()), (bytes.clone(), 1));
        consumer = borrowed.give_back().unwrap();
        let borrowed = consumer.borrow_owned(Timeout::Now).unwrap();
        assert_eq!((borrowed.to_vec(), borrowed.deliveries()), (bytes, 2));
        assert_eq!(borrowed.consumer().unwrap().statistics().unwrap().borrowed, 1);
        consumer = borrowed.release().unwrap();
    }
    let error;
    (consumer, error) = consumer.borrow_owned(Timeout::Now).unwrap_err();
    assert!(error.is(Errno::EAGAIN));
    producer = producer.reserve_owned(1, Timeout::Now).unwrap().abort();
    let error;
    (producer, error) = producer.reserve_owned(usize::MAX, Timeout::Now).unwrap_err();
    assert!(error.is(Errno::EMSGSIZE));
    assert_eq!(producer.statistics().unwrap().released, 100);

    // A guard that is dropped takes its end with it: what was borrowed comes again to the next.
    producer.send(b"again", Timeout::Now).unwrap();
    let fd = consumer.as_fd().try_clone_to_owned().unwrap();
    drop(consumer.borrow_owned(Timeout::Now).unwrap());
    let mut consumer = RingConsumer::from_fd(fd, options()).unwrap();
    assert_eq!(consumer.borrow(Timeout::Now).unwrap().deliveries(), 2);
}

#[test]
fn waits_are_ended_from_another_thread() {
    let (mut producer, mut consumer) = RingProducer::anonymous(options()).unwrap();
    let (waits, full) = (consumer.waits(), producer.waits());
    std::thread::scope(|threads| {
        let waiting = threads.spawn(|| consumer.recv(&mut [0; 100], GENEROUS).unwrap_err());
        waits.end();
        assert!(waiting.join().unwrap().is(Errno::ECANCELED));
        let waiting = threads.spawn(|| while producer.send(&[0; 50], GENEROUS).is_ok() {});
        full.end();
        waiting.join().unwrap();
    });
    producer.end_waits();
    assert!(consumer.recv(&mut [0; 100], Timeout::Now).is_ok(), "only waits end");
}

#[test]
fn size_and_name_can_be_asked_for() {
    let name = format!("ring:{}", support::fresh("asked")).parse().unwrap();
    let producer = RingProducer::open(&name, options()).unwrap();
    assert_eq!(producer.statistics().unwrap().bytes, RingProducer::size_for(&options()).unwrap());
    assert!(RingConsumer::size_for(&RingOptions { capacity: 1, ..options() }).unwrap_err().is(Errno::EINVAL));
    producer.check().unwrap();
    wigwag::Ring::remove(&name).unwrap();
    assert!(producer.check().unwrap_err().is(Errno::ESTALE));
}
