//! Values of one type over rings, topics and cells.

mod support;

use bytemuck::{Pod, Zeroable};
use nix::errno::Errno;
use support::{GENEROUS, fork};
use wigwag::{
    Cell, CellOptions, Ring, RingConsumer, RingOptions, RingProducer, SubscribeOptions, Timeout, Topic, TopicOptions,
};

#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
#[repr(C)]
struct Tick {
    instrument: u64,
    price: f64,
    flags: [u32; 4],
}

fn tick(instrument: u64) -> Tick {
    Tick { instrument, price: instrument as f64 / 4.0, flags: [1, 2, 3, instrument as u32] }
}

fn options() -> RingOptions {
    RingOptions { largest: 64, ..Default::default() }
}

#[track_caller]
fn refused<T>(result: wigwag::Result<T>, errno: Errno, text: &str) {
    let error = result.err().expect("it was not refused");
    assert!(error.is(errno) && error.to_string().contains(text), "{error}");
}

#[test]
fn a_ring_between_processes() {
    let ring = Ring::anonymous(options()).unwrap().typed::<Tick>().unwrap();
    let child = fork(|| {
        for number in 0..100 {
            ring.send(&tick(number), GENEROUS).unwrap();
        }
        let mut room = ring.reserve(GENEROUS).unwrap();
        room.set(&tick(100));
        room.commit().unwrap();
        let room = ring.reserve(GENEROUS).unwrap();
        // SAFETY: aligned, and this process's until it is committed.
        unsafe { room.as_ptr().unwrap().write(tick(101)) };
        room.commit().unwrap();
    });
    for number in 0..=100 {
        assert_eq!(ring.recv(GENEROUS).unwrap(), tick(number));
    }
    let borrowed = ring.borrow(GENEROUS).unwrap();
    // SAFETY: aligned, and stays until it is released, as the other side keeps the rules.
    assert_eq!(unsafe { *borrowed.as_ptr().unwrap() }, tick(101));
    assert_eq!((borrowed.get(), borrowed.bytes().deliveries()), (tick(101), 1));
    borrowed.release().unwrap();
    child.join();
    let statistics = ring.bytes().statistics().unwrap();
    assert_eq!((statistics.sent, statistics.released), (102, 102));
}

#[test]
fn a_ring_keeps_what_is_of_another_type() {
    let ring = Ring::anonymous(options()).unwrap().typed::<Tick>().unwrap();
    for length in [0, 31, 33] {
        ring.bytes().send(&[7; 64][..length], GENEROUS).unwrap();
        refused(
            ring.recv(Timeout::Now),
            Errno::EBADMSG,
            &format!("a message of {length} bytes is no typed::Tick, which has 32"),
        );
        refused(ring.borrow(Timeout::Now), Errno::EBADMSG, "receive it as bytes");
        let received = ring.bytes().recv(&mut [0; 64], Timeout::Now).unwrap();
        assert!(received.length == length && received.deliveries == 3);
    }
    refused(ring.recv(Timeout::Now), Errno::EAGAIN, "");
    refused(
        ring.into_bytes().typed::<[u64; 9]>(),
        Errno::EMSGSIZE,
        "[u64; 9] has 72 bytes, and its largest message 64",
    );
}

#[test]
fn a_one_to_one_ring() {
    let (producer, consumer) = RingProducer::anonymous(options()).unwrap();
    let (mut producer, mut consumer) = (producer.typed::<Tick>().unwrap(), consumer.typed::<Tick>().unwrap());
    producer.send(&tick(1), GENEROUS).unwrap();
    let mut room = producer.reserve(GENEROUS).unwrap();
    room.set(&tick(2));
    room.commit().unwrap();
    assert_eq!(consumer.recv(GENEROUS).unwrap(), tick(1));
    let borrowed = consumer.borrow(GENEROUS).unwrap();
    assert_eq!(borrowed.get(), tick(2));
    borrowed.release().unwrap();
    producer.bytes_mut().send(b"short", GENEROUS).unwrap();
    refused(consumer.recv(Timeout::Now), Errno::EBADMSG, "stays in the ring");
    refused(consumer.borrow(Timeout::Now), Errno::EBADMSG, "stays in the ring");
    assert_eq!(consumer.bytes_mut().recv(&mut [0; 64], Timeout::Now).unwrap().length, 5);
    refused(consumer.recv(Timeout::Now), Errno::EAGAIN, "");
    let consumer: RingConsumer = consumer.into_bytes();
    refused(consumer.typed::<[u64; 9]>(), Errno::EMSGSIZE, "largest");
    refused(producer.into_bytes().typed::<[u64; 9]>(), Errno::EMSGSIZE, "largest");
}

#[test]
fn a_topic() {
    let topic = Topic::anonymous(TopicOptions { largest: 64, ..Default::default() }).unwrap();
    for lossy in [false, true] {
        let subscription = topic.subscribe(SubscribeOptions { lossy, ..Default::default() }).unwrap();
        let subscription = subscription.typed::<Tick>().unwrap();
        for length in [0, 31, 33, 64] {
            topic.publish(&[9; 64][..length], GENEROUS).unwrap();
            let sequence = topic.publish(bytemuck::bytes_of(&tick(5)), GENEROUS).unwrap();
            refused(subscription.recv(Timeout::Now), Errno::EBADMSG, "passed over");
            let (value, received) = subscription.recv(Timeout::Now).unwrap();
            assert_eq!((value, received.sequence), (tick(5), sequence));
        }
    }
    let subscription = topic.subscribe(SubscribeOptions::default()).unwrap().typed::<Tick>().unwrap();
    let topic = topic.typed::<Tick>().unwrap();
    topic.publish(&tick(6), GENEROUS).unwrap();
    let mut room = topic.reserve(GENEROUS).unwrap();
    room.set(&tick(7));
    room.publish().unwrap();
    assert_eq!(subscription.recv(Timeout::Now).unwrap().0, tick(6));
    let borrowed = subscription.borrow(Timeout::Now).unwrap();
    assert_eq!(borrowed.get(), tick(7));
    borrowed.release().unwrap();
    topic.bytes().publish(b"short", GENEROUS).unwrap();
    refused(subscription.borrow(Timeout::Now), Errno::EBADMSG, "passed over");
    refused(subscription.recv(Timeout::Now), Errno::EAGAIN, "");
}

#[test]
fn a_cell() {
    let cell = Cell::anonymous(CellOptions { largest: 64, ..Default::default() }).unwrap().typed::<Tick>().unwrap();
    refused(cell.read(), Errno::ENODATA, "");
    let first = cell.write(&tick(1)).unwrap();
    assert_eq!(cell.read().unwrap(), (tick(1), first));
    let child = fork(|| {
        let mut room = cell.reserve().unwrap();
        room.set(&tick(2));
        room.publish().unwrap();
    });
    assert_eq!(cell.wait_read(first, GENEROUS).unwrap(), (tick(2), first + 1));
    child.join();
    for length in [0, 31, 33, 64] {
        cell.bytes().write(&[1; 64][..length]).unwrap();
        refused(cell.read(), Errno::EBADMSG, &format!("a message of {length} bytes"));
    }
    cell.write(&tick(3)).unwrap();
    assert_eq!(cell.read().unwrap().0, tick(3));
}

#[test]
fn what_needs_more_alignment_is_copied() {
    #[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
    #[repr(C, align(256))]
    struct Wide([u8; 256]);
    let ring = Ring::anonymous(RingOptions { largest: 256, ..Default::default() }).unwrap().typed::<Wide>().unwrap();
    for _ in 0..8 {
        let mut room = ring.reserve(GENEROUS).unwrap();
        assert!(room.as_ptr().is_none_or(|at| at.is_aligned()));
        room.set(&Wide([3; 256]));
        room.commit().unwrap();
        assert_eq!(ring.recv(GENEROUS).unwrap(), Wide([3; 256]));
    }
}
