//! The algorithms on shared memory under a model checker: every way in which a few threads can meet, and one of them die.
//! And the checker is checked: with an ordering relaxed, or a fence left out, it must find what goes wrong.
//!
//! `make loom`; with fewer interruptions of each execution, a part of `make test`.
#![cfg(loom)]

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use wigwag::modelled::{Model, Outcome, explore, spawn, victim};
use wigwag::{
    Cell, CellOptions, CellReserved, Event, EventOptions, Mutex, MutexOptions, Ring, RingOptions, RingProducer,
    Timeout, WaitMode,
};

/// What is shared without a lock of its own: loom finds accesses that nothing orders.
struct Shared(loom::cell::UnsafeCell<u64>);

// SAFETY: loom stops an execution in which two threads reach it at once.
unsafe impl Sync for Shared {}
// SAFETY: as above.
unsafe impl Send for Shared {}

impl Shared {
    fn new() -> Arc<Shared> {
        Arc::new(Shared(loom::cell::UnsafeCell::new(0)))
    }

    fn get(&self) -> u64 {
        // SAFETY: see above.
        self.0.with(|value| unsafe { *value })
    }

    fn add(&self, more: u64) {
        // SAFETY: see above.
        self.0.with_mut(|value| unsafe { *value += more });
    }
}

/// How often a thread is interrupted that could go on.
fn preemptions() -> usize {
    std::env::var("WIGWAG_PREEMPTIONS").map_or(1, |text| text.parse().unwrap())
}

/// The line of a file of src that has this text in it: the only one, or the first behind what stands before an ellipsis.
fn line(file: &'static str, text: &str) -> (&'static str, u32) {
    let source = std::fs::read_to_string(format!("{}/../src/{file}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let (before, text) = text.split_once(" … ").unwrap_or(("", text));
    let mut lines = (1u32..).zip(source.lines()).skip_while(|(_, line)| !line.contains(before));
    let found = lines.find(|(_, line)| line.contains(text));
    let (number, _) = found.unwrap_or_else(|| panic!("{file} has no {text:?} any more: say what stands for it"));
    assert!(!before.is_empty() || !lines.any(|(_, line)| line.contains(text)), "{file} has {text:?} more than once");
    (file, number)
}

/// Nothing goes wrong, and something does with each of these, one line or more, weakened.
fn holds(name: &str, scenario: fn(), seeds: &[&[(&'static str, &str)]]) {
    let began = Instant::now();
    let model = Model { preemptions: preemptions(), seed: &[], death: None };
    let outcome = explore(model, scenario);
    let Outcome::Passed(executions) = outcome else { panic!("{name}: {outcome:?}") };
    assert!(executions > 10, "{name}: nothing was tried");
    println!("{name}: {executions} executions, {:.1?}", began.elapsed());
    for seed in seeds {
        let began = Instant::now();
        let lines: Vec<_> = seed.iter().map(|(file, text)| line(file, text)).collect();
        let outcome = explore(Model { seed: lines.leak(), ..model }, scenario);
        let Outcome::Failed(why) = &outcome else { panic!("{name}, without {seed:?}: {outcome:?}") };
        let why = why.lines().find(|line| !line.is_empty() && !line.starts_with("panicked")).unwrap_or_default();
        println!("{name}, without {seed:?}: {why}, {:.1?}", began.elapsed());
    }
}

/// The same for one in which a thread dies, at each access in turn.
fn holds_at_every_death(name: &str, scenario: fn()) {
    let (began, mut all) = (Instant::now(), 0);
    for point in 0.. {
        let model = Model { preemptions: 1, seed: &[], death: Some(point) };
        match explore(model, scenario) {
            Outcome::Passed(executions) => all += executions,
            Outcome::NoSuchPoint => {
                println!("{name}: death at {point} points, {all} executions, {:.1?}", began.elapsed());
                assert!(point > 3, "{name}: nobody died");
                return;
            }
            Outcome::Failed(why) => panic!("{name}, death at access {point}: {why}"),
        }
    }
}

fn again(segment: &impl AsFd) -> OwnedFd {
    segment.as_fd().try_clone_to_owned().unwrap()
}

// --- mutex ---

fn mutexes() -> [Mutex; 2] {
    let options = || MutexOptions { participants: 4, wait: WaitMode::Block, ..Default::default() };
    let mutex = Mutex::anonymous(options()).unwrap();
    let other = Mutex::from_fd(again(&mutex), options()).unwrap();
    [mutex, other]
}

#[test]
fn a_mutex_excludes_and_is_handed_over() {
    let scenario = || {
        let inside = Shared::new();
        let threads = mutexes().map(|mutex| {
            let inside = Arc::clone(&inside);
            spawn(move || {
                let guard = mutex.lock(Timeout::Forever).unwrap();
                inside.add(1);
                drop(guard);
                mutex
            })
        });
        threads.into_iter().for_each(|thread| drop(thread.join()));
        assert_eq!(inside.get(), 2);
    };
    holds(
        "mutex",
        scenario,
        &[
            &[("sync/owner.rs", "self.word.compare_exchange(found.0, next.0, Ordering::SeqCst")],
            &[
                ("segment/bell.rs", "self.word.fetch_or(SLEEPING, Ordering::SeqCst)"),
                ("segment/bell.rs", "fence(Ordering::SeqCst);"),
            ],
        ],
    );
}

#[test]
fn a_mutex_is_inherited_from_the_dead() {
    holds_at_every_death("mutex", || {
        let [mortal, survivor] = mutexes();
        let inside = Shared::new();
        let seen = Arc::clone(&inside);
        let dying = victim(move || {
            let guard = mortal.lock(Timeout::Forever).unwrap();
            inside.add(1);
            assert!(guard.is_inherited() || !guard.is_inherited()); // a point at which it is half done
            inside.add(1);
            drop(guard);
            mortal
        });
        let living = spawn(move || {
            let locked = survivor.lock(Timeout::Forever).unwrap();
            let half_done = seen.get() % 2 == 1;
            assert!(locked.is_inherited() || !half_done, "it was left half done, and nobody is told");
            drop(locked);
            survivor
        });
        dying.join();
        living.join();
    });
}

// --- event ---

#[test]
fn an_event_tells_what_was_done_before() {
    let scenario = || {
        let options = || EventOptions { participants: 4, wait: WaitMode::Block, ..Default::default() };
        let event = Event::anonymous(options()).unwrap();
        let waiters = Event::from_fd(again(&event), options()).unwrap();
        let (made, seen) = (Shared::new(), Shared::new());
        let there = Arc::clone(&made);
        let setter = spawn(move || {
            made.add(7);
            event.set().unwrap();
            event
        });
        let waiter = spawn(move || {
            waiters.wait(Timeout::Forever).unwrap();
            seen.add(there.get());
            assert_eq!(seen.get(), 7);
            waiters
        });
        setter.join();
        waiter.join();
    };
    holds(
        "event",
        scenario,
        &[&[("sync/event.rs", "self.core.control.word.fetch_update(Ordering::SeqCst, Ordering::SeqCst, to)")]],
    );
}

// --- cell ---

/// A value whose words agree, so that a torn one shows.
fn value(number: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&number.to_ne_bytes());
    bytes[8..].copy_from_slice(&number.to_ne_bytes());
    bytes
}

fn number(bytes: &[u8; 16]) -> u64 {
    let word = |at: usize| u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap());
    assert_eq!(word(0), word(8), "torn");
    word(0)
}

/// A cell of which all buffers but a few are in other hands, so that the next write but so many overwrites what is read.
fn cells(free: u64) -> (Vec<CellReserved<'static>>, [Cell; 2]) {
    let options = || CellOptions { largest: 16, participants: 3, wait: WaitMode::Block, ..Default::default() };
    let cell = Arc::new(Cell::anonymous(options()).unwrap());
    cell.write(&value(1)).unwrap();
    let buffers = cell.statistics().unwrap().buffers;
    let held = (free..buffers).map(|_| cell.reserve_owned(16).unwrap()).collect();
    (held, [(); 2].map(|()| Cell::from_fd(again(&*cell), options()).unwrap()))
}

fn written_and_read(free: u64, reads: u64, read: fn(&Cell, &mut [u8; 16]) -> u64) {
    let (_held, [writers, readers]) = cells(free);
    let writer = spawn(move || {
        (2..=3).for_each(|number| assert_eq!(writers.write(&value(number)).unwrap(), number));
        writers
    });
    let reader = spawn(move || {
        let (mut bytes, mut last) = ([0; 16], 0);
        for _ in 0..reads {
            let sequence = read(&readers, &mut bytes);
            assert_eq!(number(&bytes), sequence);
            assert!(sequence >= last, "back from {last} to {sequence}");
            last = sequence;
        }
        readers
    });
    writer.join();
    reader.join();
}

#[test]
fn a_cell_gives_whole_values() {
    let scenario = || written_and_read(2, 1, |cell, bytes| cell.read(bytes).unwrap().sequence);
    holds(
        "cell",
        scenario,
        &[
            &[("cell/buffers.rs", "fn read(&self … fence(Ordering::Acquire);")],
            &[
                ("cell/buffers.rs", "compare_exchange(from.0, to.0, Ordering::SeqCst, Ordering::Relaxed)"),
                ("cell/buffers.rs", "fence(Ordering::Release);"),
            ],
            &[
                ("cell/buffers.rs", "compare_exchange(from.0, to.0, Ordering::SeqCst, Ordering::Relaxed)"),
                ("cell/buffers.rs", "control.latest.0.compare_exchange(latest.0, next.0, Ordering::SeqCst"),
            ],
        ],
    );
}

#[test]
fn a_cell_gives_whole_values_to_who_was_overrun() {
    let scenario = || written_and_read(4, 2, |cell, bytes| cell.read_as_if_overrun(bytes).unwrap().sequence);
    holds("cell, overrun", scenario, &[]);
}

// --- rings ---

fn message(number: u64) -> [u8; 8] {
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
fn rings() -> [Ring; 2] {
    let ring = Ring::anonymous(ring_options()).unwrap();
    let producer = Ring::from_fd(again(&ring), ring_options()).unwrap();
    drop(producer.reserve(8, Timeout::Now).unwrap());
    assert!(ring.recv(&mut [0; 8], Timeout::Now).is_err());
    [ring, producer]
}

fn receive(ring: &Ring, timeout: Timeout) -> u64 {
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
        ("segment/bell.rs", "self.word.fetch_or(SLEEPING, Ordering::SeqCst)"),
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
