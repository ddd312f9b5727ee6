//! Rings of both sorts.

use wigwag::modelled::{spawn, victim};
use wigwag::{Ring, RingOptions, RingProducer, Timeout, WaitMode};

use crate::checking::{again, holds, holds_at_every_death, holds_at_every_stop, holds_uninterrupted};

/// One word.
pub fn message(number: u64) -> [u8; 8] {
    number.to_ne_bytes()
}

fn ring_options() -> RingOptions {
    RingOptions {
        capacity: 256,
        largest: 8,
        participants: 4,
        persistent: true,
        wait: WaitMode::Block,
        ..Default::default()
    }
}

/// A ring with its two sides, whose roles are taken.
pub fn rings() -> [Ring; 2] {
    let ring = Ring::anonymous(ring_options()).unwrap();
    let producer = Ring::from_fd(again(&ring), ring_options()).unwrap();
    drop(producer.reserve(8, Timeout::Now).unwrap());
    assert!(ring.recv(&mut [0; 8], Timeout::Now).is_err());
    [ring, producer]
}

pub fn receive(ring: &Ring, timeout: Timeout) -> u64 {
    let mut bytes = [0; 8];
    assert_eq!(ring.recv(&mut bytes, timeout).unwrap().length, 8);
    u64::from_ne_bytes(bytes)
}

#[test]
fn a_ring_takes_what_two_send() {
    let scenario = || {
        let [ring, producer] = rings();
        let other = Ring::from_fd(again(&ring), ring_options()).unwrap();
        drop(other.reserve(8, Timeout::Now).unwrap());
        let threads = [(1, producer), (2, other)].map(|(number, ring)| {
            spawn(move || {
                ring.send(&message(number), Timeout::Now).unwrap();
                ring
            })
        });
        let producers = threads.map(|thread| thread.join());
        let all = [receive(&ring, Timeout::Now), receive(&ring, Timeout::Now)];
        assert!(all == [1, 2] || all == [2, 1], "{all:?}");
        drop(producers);
    };
    holds("ring, two producers", scenario, &[]);
}

#[test]
fn a_ring_wakes_who_waits_for_a_message() {
    let scenario = || {
        let [ring, producer] = rings();
        let sender = spawn(move || {
            producer.send(&message(7), Timeout::Now).unwrap();
            producer
        });
        let receiver = spawn(move || {
            assert_eq!(receive(&ring, Timeout::Forever), 7);
            ring
        });
        // Until all has come, nobody leaves, which would wake a sleeper, too.
        let producer = sender.join();
        receiver.join();
        drop(producer);
    };
    holds("ring", scenario, &[&[("ring/lane.rs", "self.word(slot).compare_exchange(from.0, to.0, Ordering::SeqCst")]]);
}

#[test]
fn a_ring_wakes_all_who_wait_for_a_slot() {
    let scenario = || {
        let [ring, producer] = rings();
        let other = producer_of(&ring);
        let full = (0..).find(|_| producer.send(&message(0), Timeout::Now).is_err()).unwrap();
        let threads = [producer, other].map(|producer| {
            spawn(move || {
                producer.send(&message(0), Timeout::Forever).unwrap();
                producer
            })
        });
        let receiver = spawn(move || {
            (0..2).for_each(|_| assert_eq!(receive(&ring, Timeout::Now), 0));
            ring
        });
        // Until both have sent, nobody leaves, which would wake a sleeper, too.
        let producers = threads.map(|thread| thread.join());
        let ring = receiver.join().unwrap();
        (0..full).for_each(|_| assert_eq!(receive(&ring, Timeout::Now), 0));
        drop(producers);
    };
    let seed = &[
        ("segment/bell.rs", "self.word.fetch_update(Ordering::SeqCst, Ordering::SeqCst, announced)"),
        ("segment/bell.rs", "fence(Ordering::SeqCst);"),
    ];
    holds_uninterrupted("ring, slots", scenario, &[seed]);
}

#[test]
fn all_who_wait_for_a_slot_hear_that_the_consumer_has_gone() {
    let scenario = || {
        let options = || RingOptions { persistent: false, ..ring_options() };
        let ring = Ring::anonymous(options()).unwrap();
        let producers = [(); 2].map(|()| Ring::from_fd(again(&ring), options()).unwrap());
        producers.iter().for_each(|producer| drop(producer.reserve(8, Timeout::Now).unwrap()));
        assert!(ring.recv(&mut [0; 8], Timeout::Now).is_err());
        while producers[0].send(&message(0), Timeout::Now).is_ok() {}
        let threads = producers.map(|producer| {
            spawn(move || {
                let sent = producer.send(&message(0), Timeout::Forever);
                assert!(sent.as_ref().err().is_none_or(|error| error.errno() == libc::EPIPE), "{sent:?}");
                producer
            })
        });
        let consumer = spawn(move || {
            assert_eq!(receive(&ring, Timeout::Now), 0);
            drop(ring);
        });
        // Until both know, neither leaves, which would wake the other.
        let producers = threads.map(|thread| thread.join());
        consumer.join();
        drop(producers);
    };
    holds_uninterrupted("ring, hang-up", scenario, &[]);
}

/// Two chunks of three cells each, for messages that are longer than a slot.
fn room_options() -> RingOptions {
    RingOptions { capacity: 4 * 128 + 2 * 192, largest: 192, depth: 4, ..ring_options() }
}

/// Longer than a slot: one that takes a chunk, and one that takes two cells of one.
const CHUNK: usize = 130;
const CELLS: usize = 100;

fn send_long(ring: &Ring, number: u64, length: usize, timeout: Timeout) -> bool {
    let Ok(mut reserved) = ring.reserve(length, timeout) else { return false };
    reserved.write(0, &message(number));
    reserved.commit().unwrap();
    true
}

fn receive_long(ring: &Ring) -> u64 {
    let borrowed = ring.borrow(Timeout::Forever).unwrap();
    let mut bytes = [0; 8];
    borrowed.read(0, &mut bytes);
    borrowed.release().unwrap();
    u64::from_ne_bytes(bytes)
}

/// A ring with its two sides, whose roles are taken: one chunk is a message's, the other has two cells of one.
fn rings_with_room() -> [Ring; 2] {
    let ring = Ring::anonymous(room_options()).unwrap();
    let producer = Ring::from_fd(again(&ring), room_options()).unwrap();
    assert!(send_long(&producer, 1, CELLS, Timeout::Now) && send_long(&producer, 2, CHUNK, Timeout::Now));
    [ring, producer]
}

#[test]
fn a_ring_wakes_who_waits_for_room() {
    let scenario = || {
        let [ring, producer] = rings_with_room();
        let sender = spawn(move || {
            assert!(send_long(&producer, 3, CHUNK, Timeout::Forever));
            producer
        });
        let receiver = spawn(move || {
            assert_eq!([1, 2, 3].map(|_| receive_long(&ring)), [1, 2, 3]);
            ring
        });
        let producer = sender.join();
        receiver.join();
        drop(producer);
    };
    let seed = &[
        ("segment/bell.rs", "self.word.fetch_update(Ordering::SeqCst, Ordering::SeqCst, announced)"),
        ("segment/bell.rs", "fence(Ordering::SeqCst);"),
    ];
    holds("ring, room", scenario, &[seed]);
}

#[test]
fn a_chunk_is_not_split_and_whole_at_once() {
    let scenario = || {
        let [ring, whole] = rings_with_room();
        assert_eq!(receive_long(&ring), 1);
        let split = Ring::from_fd(again(&ring), room_options()).unwrap();
        drop(split.reserve(8, Timeout::Now).unwrap());
        let threads = [(whole, CHUNK), (split, CELLS)].map(|(producer, length)| {
            spawn(move || {
                let found = producer.reserve(length, Timeout::Now).is_ok_and(|reserved| reserved.commit().is_ok());
                (found, producer)
            })
        });
        let [(whole, one), (split, other)] = threads.map(|thread| thread.join().unwrap());
        assert!(!(whole && split), "they lie in the same place");
        drop((ring, one, other));
    };
    let (taker, maker) = ("fn take_within … fence(Ordering::SeqCst);", "fn clear(&mut self … fence(Ordering::SeqCst);");
    holds("ring, room for two", scenario, &[&[("ring/room.rs", taker)], &[("ring/room.rs", maker)]]);
}

#[test]
fn a_one_to_one_ring_passes_messages_on_in_order() {
    let scenario = || {
        let (mut producer, mut consumer) = RingProducer::anonymous(ring_options()).unwrap();
        let sender = spawn(move || {
            (1..=2).for_each(|number| producer.send(&message(number), Timeout::Forever).unwrap());
            producer
        });
        let receiver = spawn(move || {
            for number in 1..=2 {
                let mut bytes = [0; 8];
                assert_eq!(consumer.recv(&mut bytes, Timeout::Forever).unwrap().length, 8);
                assert_eq!(u64::from_ne_bytes(bytes), number);
            }
            consumer
        });
        // Until all has come, nobody leaves, which would wake a sleeper, too.
        let producer = sender.join();
        receiver.join();
        drop(producer);
    };
    holds(
        "one-to-one ring",
        scenario,
        &[
            &[("ring/one_send.rs", "log.head(self.tail).store(first.0, Ordering::Release);")],
            // The consumer's own barrier, and what it asks of the producer: there is one or the other.
            &[
                ("ring/one_send.rs", "compiler_fence(Ordering::SeqCst)"),
                ("ring/one_send.rs", "if self.fences … fence(Ordering::SeqCst)"),
            ],
        ],
    );
}

/// One more who sends.
pub fn producer_of(ring: &Ring) -> Ring {
    let producer = Ring::from_fd(again(ring), ring_options()).unwrap();
    drop(producer.reserve(8, Timeout::Now).unwrap());
    producer
}

#[test]
fn a_ring_goes_on_without_a_producer() {
    let scenario = || {
        let [ring, mortal] = rings();
        let survivor = producer_of(&ring);
        let ended = victim(move || {
            mortal.send(&message(1), Timeout::Now).unwrap();
            mortal
        });
        let living = spawn(move || {
            survivor.send(&message(2), Timeout::Now).unwrap();
            let first = receive(&ring, Timeout::Now);
            assert!(first == 2 || first == 1 && receive(&ring, Timeout::Now) == 2);
            (ring, survivor)
        });
        let living = living.join();
        ended.join();
        drop(living);
    };
    holds_at_every_death("ring, producer", scenario);
    holds_at_every_stop("ring, producer", scenario);
}

/// A ring with two messages in it, and two who receive.
fn consumers_of_two() -> [Ring; 2] {
    let [ring, producer] = rings();
    let other = Ring::from_fd(again(&ring), ring_options()).unwrap();
    assert!(other.recv(&mut [0; 8], Timeout::Now).is_err());
    (1..=2).for_each(|number| producer.send(&message(number), Timeout::Now).unwrap());
    [ring, other]
}

#[test]
fn a_ring_gives_what_a_dead_consumer_held() {
    holds_at_every_death("ring, consumer", || {
        let [mortal, survivor] = consumers_of_two();
        let ended = victim(move || (receive(&mortal, Timeout::Now), mortal));
        let living = spawn(move || (receive(&survivor, Timeout::Forever), survivor));
        let (first, survivor) = living.join().unwrap();
        let received = ended.join().map(|(received, _)| received);
        assert_ne!(received, Some(first));
        // What the dead one has received is gone; what it was about to receive comes here.
        let sums =
            || survivor.statistics().map(|sums| (sums.sent, sums.released, sums.queued + sums.borrowed)).unwrap();
        if sums() != (2, 2, 0) {
            assert_eq!((received, receive(&survivor, Timeout::Forever)), (None, 3 - first));
        }
        assert_eq!(sums(), (2, 2, 0));
    });
}

#[test]
fn a_ring_goes_on_without_a_stopped_consumer() {
    holds_at_every_stop("ring, consumer", || {
        let [stops, goes_on] = consumers_of_two();
        let ended = victim(move || (receive(&stops, Timeout::Now), stops));
        let living = spawn(move || (receive(&goes_on, Timeout::Now), goes_on));
        let (first, goes_on) = living.join().unwrap();
        assert_ne!(ended.join().map(|(received, _)| received), Some(first));
        drop(goes_on);
    });
}

#[test]
fn a_one_to_one_ring_goes_on_without_its_consumer() {
    let scenario = || {
        let (mut producer, mut consumer) = RingProducer::anonymous(ring_options()).unwrap();
        producer.send(&message(1), Timeout::Now).unwrap();
        let ended = victim(move || {
            assert_eq!(consumer.recv(&mut [0; 8], Timeout::Now).unwrap().length, 8);
            consumer
        });
        let living = spawn(move || {
            producer.send(&message(2), Timeout::Now).unwrap();
            producer
        });
        let living = living.join();
        ended.join();
        drop(living);
    };
    holds_at_every_death("one-to-one ring, consumer", scenario);
    holds_at_every_stop("one-to-one ring, consumer", scenario);
}

#[test]
fn a_one_to_one_ring_goes_on_without_its_producer() {
    let scenario = || {
        let (mut producer, mut consumer) = RingProducer::anonymous(ring_options()).unwrap();
        producer.send(&message(1), Timeout::Now).unwrap();
        let ended = victim(move || {
            producer.send(&message(2), Timeout::Now).unwrap();
            producer
        });
        let living = spawn(move || {
            let mut bytes = [0; 8];
            assert_eq!(consumer.recv(&mut bytes, Timeout::Now).unwrap().length, 8);
            assert_eq!(u64::from_ne_bytes(bytes), 1);
            // The second is there or not, and whole.
            assert!(consumer.recv(&mut bytes, Timeout::Now).is_err() || u64::from_ne_bytes(bytes) == 2);
            consumer
        });
        let living = living.join();
        ended.join();
        drop(living);
    };
    holds_at_every_death("one-to-one ring, producer", scenario);
    holds_at_every_stop("one-to-one ring, producer", scenario);
}
