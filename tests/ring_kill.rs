//! A process is killed, or stopped for ever, at every point of every operation that differs from the one before; the
//! others go on, and the books balance.
#![cfg(target_arch = "x86_64")]

mod stepping;
mod support;

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use stepping::{End, Point, Victim, View, everywhere};
use support::GENEROUS;
use wigwag::{Ring, RingBorrowed, RingFull, RingOptions, RingReceived, RingReserved, Timeout};

/// The ids of the messages that a victim sends begin here.
const VICTIMS: u64 = 1 << 32;
/// Messages in a victim's batch.
const BATCH: u64 = 2;
const ROUNDS: u64 = 12;

fn options() -> RingOptions {
    RingOptions { capacity: 512, largest: 100, participants: 8, persistent: true, ..Default::default() }
}

fn again(ring: &Ring, options: RingOptions) -> Ring {
    Ring::from_fd(ring.as_fd().try_clone_to_owned().unwrap(), options).unwrap()
}

/// How long messages are.
#[derive(Clone, Copy, PartialEq)]
#[repr(u8)]
enum Lengths {
    /// They fit into slots.
    Short,
    /// They take two or more parts of a chunk, or all of it.
    Long,
    /// They take two parts of a chunk.
    Halves,
    /// They take a chunk each, but the first ones, which have split some.
    Whole,
    /// The victim's take a chunk each, all others two parts of one.
    VictimsWhole,
}

/// Those of the operation that is on. Every process has its own.
static LENGTHS: AtomicU8 = AtomicU8::new(0);
/// The largest of those that are not short, and how much memory it takes, in four parts.
const LARGEST: usize = 200;
const CHUNK: u64 = 256;

fn length_of(id: u64) -> usize {
    let lengths = LENGTHS.load(Relaxed);
    let various = (id as usize * 37) % 93;
    let is = |kind| lengths == kind as u8;
    if is(Lengths::Short) {
        8 + various
    } else if is(Lengths::Long) {
        108 + various
    } else if is(Lengths::Whole) && id > 0 || is(Lengths::VictimsWhole) && id >= VICTIMS {
        LARGEST
    } else {
        108
    }
}

/// A message says who it is, and every byte of it can be checked.
fn message(id: u64) -> Vec<u8> {
    let mut bytes = id.to_le_bytes().to_vec();
    let length = length_of(id);
    bytes.extend((bytes.len()..length).map(|at| (id as usize).wrapping_mul(31).wrapping_add(at * 7) as u8));
    bytes
}

fn id_of(bytes: &[u8]) -> u64 {
    let id = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    assert_eq!(bytes, message(id), "torn");
    id
}

/// What messages came out, how often, and how often with the mark.
#[derive(Default)]
struct Seen(BTreeMap<u64, (u32, u32)>);

impl Seen {
    fn note(&mut self, id: u64, marked: bool) {
        let entry = self.0.entry(id).or_default();
        entry.0 += 1;
        entry.1 += u32::from(marked);
    }

    /// Takes one message, or none within the time.
    fn take(&mut self, ring: &Ring, timeout: Timeout) -> bool {
        let mut buffer = [0; LARGEST];
        match ring.recv(&mut buffer, timeout) {
            Ok(received) => {
                self.note(id_of(&buffer[..received.length]), received.is_redelivered());
                true
            }
            Err(error) if error.is(Errno::ETIMEDOUT) || error.is(Errno::EAGAIN) => false,
            Err(error) => panic!("{error}"),
        }
    }
}

/// What a victim has with it when its operation begins.
enum Hand<'a> {
    Ring(&'a Ring),
    Own(#[allow(dead_code)] Box<Ring>),
    Reserved(RingReserved<'a>),
    Borrowed(RingBorrowed<'a>),
}

struct Operation {
    name: &'static str,
    /// Messages in the ring when the operation begins.
    queued: u64,
    /// A process has died that held a message and a place.
    after_a_death: bool,
    full: RingFull,
    /// How often the queued messages have come back before, and after how many times they are dead letters.
    came_back: u32,
    redeliveries: u32,
    /// The victim receives dead letters.
    dead_letters: bool,
    /// Messages that have gone through the ring since.
    since: u64,
    /// Besides the one that the others use, the ring has a higher lane, which the victim sends by, and every other of the
    /// queued messages came by.
    lanes: bool,
    lengths: Lengths,
    /// Where they are not short.
    chunks: u64,
    /// What the victim does before; then what it is stopped in. The ids of the messages it took, as bits.
    prepare: for<'a> fn(&'a Ring) -> Hand<'a>,
    body: fn(Hand<'_>) -> u64,
}

impl Operation {
    const fn new(
        name: &'static str,
        queued: u64,
        prepare: for<'a> fn(&'a Ring) -> Hand<'a>,
        body: fn(Hand<'_>) -> u64,
    ) -> Operation {
        let (full, came_back, redeliveries) = (RingFull::Wait, 0, 0);
        let (after_a_death, dead_letters, since, lanes) = (false, false, 0, false);
        let (lengths, chunks) = (Lengths::Short, 3);
        Operation {
            name,
            queued,
            after_a_death,
            full,
            came_back,
            redeliveries,
            dead_letters,
            since,
            lanes,
            lengths,
            chunks,
            prepare,
            body,
        }
    }

    /// The same with one message that has come back so often; the second time makes it a dead letter.
    const fn of_letters(self, came_back: u32) -> Operation {
        Operation { queued: 1, redeliveries: 1, came_back, ..self }
    }

    /// The same with messages for which slots are too short.
    const fn of_long(self, lengths: Lengths) -> Operation {
        Operation { lengths, ..self }
    }

    fn options(&self) -> RingOptions {
        let (full, redeliveries) = (self.full, self.redeliveries);
        let (lanes, capacity) = if self.lanes { (2, 1024) } else { (1, 512) };
        if self.lengths != Lengths::Short {
            let capacity = 512 + self.chunks * CHUNK;
            return RingOptions { full, redeliveries, capacity, largest: LARGEST as u64, depth: 4, ..options() };
        }
        RingOptions { full, redeliveries, lanes, capacity, ..options() }
    }

    fn victims(&self, ring: &Ring) -> Ring {
        let (dead_letters, lane) = (self.dead_letters, self.lanes.into());
        again(ring, RingOptions { dead_letters, lane, ..self.options() })
    }
}

/// Joins, which happens on first use.
fn joined(ring: &Ring) -> Hand<'_> {
    ring.statistics().unwrap();
    Hand::Ring(ring)
}

/// Takes whatever roles there are, too, so that only the operation is left.
fn worn_in(ring: &Ring) -> Hand<'_> {
    drop(ring.reserve(1, Timeout::Now).unwrap());
    let _ = ring.recv(&mut [0; 1], Timeout::Now).map(drop);
    Hand::Ring(ring)
}

fn receive(hand: Hand<'_>, timeout: Timeout) -> u64 {
    let Hand::Ring(ring) = hand else { unreachable!() };
    let mut buffer = [0; LARGEST];
    ring.recv(&mut buffer, timeout).map_or(0, |received| 1 << id_of(&buffer[..received.length]))
}

fn receive_batch(hand: Hand<'_>) -> u64 {
    let Hand::Ring(ring) = hand else { unreachable!() };
    let (mut buffer, mut received) = ([0; 2 * LARGEST], [RingReceived::default(); 4]);
    let count = ring.recv_batch(&mut buffer, &mut received, Timeout::Now).unwrap();
    let (mut ids, mut rest) = (0, &buffer[..]);
    for received in &received[..count] {
        ids |= 1 << id_of(&rest[..received.length]);
        rest = &rest[received.length..];
    }
    ids
}

fn send_batch(hand: Hand<'_>) -> u64 {
    let Hand::Ring(ring) = hand else { unreachable!() };
    let messages: Vec<_> = (VICTIMS..VICTIMS + BATCH).map(message).collect();
    let messages: Vec<_> = messages.iter().map(|message| &message[..]).collect();
    // One that was stopped half-way may find its own first message, moved on to a later place, in the way of the next.
    assert!(ring.send_batch(&messages, Timeout::Now).unwrap() >= 1);
    0
}

fn send(hand: Hand<'_>) -> u64 {
    let Hand::Ring(ring) = hand else { unreachable!() };
    ring.send(&message(VICTIMS), Timeout::Now).unwrap();
    0
}

fn send_in_vain(hand: Hand<'_>) -> u64 {
    let Hand::Ring(ring) = hand else { unreachable!() };
    // One that was stopped until the others had gone on finds room.
    let _ = ring.send(&message(VICTIMS), Timeout::After(Duration::from_millis(1)));
    0
}

fn reserved(ring: &Ring) -> Hand<'_> {
    let bytes = message(VICTIMS);
    let mut reserved = ring.reserve(bytes.len(), Timeout::Now).unwrap();
    reserved.write(0, &bytes);
    Hand::Reserved(reserved)
}

fn borrowed(ring: &Ring) -> Hand<'_> {
    Hand::Borrowed(ring.borrow(Timeout::Now).unwrap())
}

fn borrow(hand: Hand<'_>) -> u64 {
    let Hand::Ring(ring) = hand else { unreachable!() };
    std::mem::forget(ring.borrow(Timeout::Now).unwrap());
    0
}

fn release(hand: Hand<'_>) -> u64 {
    let Hand::Borrowed(borrowed) = hand else { unreachable!() };
    let id = id_of(&borrowed.to_vec());
    borrowed.release().unwrap();
    1 << id
}

fn let_go(hand: Hand<'_>) -> u64 {
    drop(hand);
    0
}

const OPERATIONS: &[Operation] = &[
    Operation::new("send", 2, worn_in, send),
    Operation::new("send, first of a producer", 2, joined, send),
    Operation { full: RingFull::DropOldest, ..Operation::new("send, dropping the oldest", 4, joined, send) },
    Operation { full: RingFull::DropNewest, ..Operation::new("send, dropping the newest", 4, joined, send) },
    Operation::new("recv", 2, worn_in, |hand| receive(hand, Timeout::Now)),
    Operation::new("recv in vain", 0, worn_in, |hand| receive(hand, Timeout::After(Duration::from_millis(1)))),
    Operation {
        after_a_death: true,
        ..Operation::new("recv, taking over from the dead", 0, joined, |hand| {
            receive(hand, Timeout::After(Duration::from_millis(100)))
        })
    },
    Operation::new("send_batch", 1, worn_in, send_batch),
    Operation {
        full: RingFull::DropOldest,
        ..Operation::new("send_batch, dropping the oldest", 3, worn_in, send_batch)
    },
    Operation {
        full: RingFull::DropNewest,
        ..Operation::new("send_batch, dropping the newest", 3, worn_in, send_batch)
    },
    Operation::new("recv_batch", 2, worn_in, receive_batch),
    Operation { lanes: true, ..Operation::new("send by a higher lane", 2, worn_in, send) },
    Operation { lanes: true, ..Operation::new("recv_batch from two lanes", 2, worn_in, receive_batch) },
    Operation::new("reserve", 1, worn_in, |hand| {
        let Hand::Ring(ring) = hand else { unreachable!() };
        std::mem::forget(ring.reserve(100, Timeout::Now).unwrap());
        0
    }),
    Operation::new("commit", 1, reserved, |hand| {
        let Hand::Reserved(reserved) = hand else { unreachable!() };
        reserved.commit().unwrap();
        0
    }),
    Operation::new("abort", 1, reserved, let_go),
    Operation::new("borrow", 2, worn_in, borrow),
    Operation::new("release", 2, borrowed, release),
    Operation::new("give back", 2, borrowed, let_go),
    Operation::new("give back, once too often", 1, borrowed, let_go).of_letters(1),
    Operation { since: 2, ..Operation::new("send, around a dead letter", 1, worn_in, send).of_letters(2) },
    Operation {
        dead_letters: true,
        ..Operation::new("recv of a dead letter", 1, worn_in, |hand| receive(hand, Timeout::Now)).of_letters(2)
    },
    Operation { dead_letters: true, ..Operation::new("borrow of a dead letter", 1, worn_in, borrow).of_letters(2) },
    Operation { dead_letters: true, ..Operation::new("release of a dead letter", 1, borrowed, release).of_letters(2) },
    Operation { dead_letters: true, ..Operation::new("give back of a dead letter", 1, borrowed, let_go).of_letters(2) },
    Operation::new(
        "join",
        2,
        |ring| Hand::Ring(ring),
        |hand| {
            joined(match hand {
                Hand::Ring(ring) => ring,
                _ => unreachable!(),
            });
            0
        },
    ),
    Operation::new("send, long", 2, worn_in, send).of_long(Lengths::Long),
    Operation::new("send, long, into what is split", 2, worn_in, send).of_long(Lengths::Halves),
    Operation::new("send, long, making a chunk whole", 2, worn_in, send).of_long(Lengths::Whole),
    Operation { full: RingFull::DropOldest, ..Operation::new("send, long, dropping the oldest", 3, joined, send) }
        .of_long(Lengths::Whole),
    Operation { full: RingFull::DropNewest, ..Operation::new("send, long, dropping the newest", 3, joined, send) }
        .of_long(Lengths::Whole),
    Operation::new("send, long, in vain", 3, joined, send_in_vain).of_long(Lengths::Whole),
    Operation {
        chunks: 2,
        ..Operation::new("send, long, in vain, having others leave", 3, joined, send_in_vain)
            .of_long(Lengths::VictimsWhole)
    },
    Operation::new("recv, long", 2, worn_in, |hand| receive(hand, Timeout::Now)).of_long(Lengths::Long),
    Operation {
        after_a_death: true,
        ..Operation::new("recv, long, taking over from the dead", 0, joined, |hand| {
            receive(hand, Timeout::After(Duration::from_millis(100)))
        })
    }
    .of_long(Lengths::Long),
    Operation::new("send_batch, long", 1, worn_in, send_batch).of_long(Lengths::Long),
    Operation::new("recv_batch, long", 2, worn_in, receive_batch).of_long(Lengths::Long),
    Operation::new("reserve, long", 1, worn_in, |hand| {
        let Hand::Ring(ring) = hand else { unreachable!() };
        std::mem::forget(ring.reserve(150, Timeout::Now).unwrap());
        0
    })
    .of_long(Lengths::Halves),
    Operation::new("commit, long", 1, reserved, |hand| {
        let Hand::Reserved(reserved) = hand else { unreachable!() };
        reserved.commit().unwrap();
        0
    })
    .of_long(Lengths::Long),
    Operation::new("abort, long", 1, reserved, let_go).of_long(Lengths::Long),
    Operation::new("borrow, long", 2, worn_in, borrow).of_long(Lengths::Long),
    Operation::new("release, long", 2, borrowed, release).of_long(Lengths::Long),
    Operation::new("give back, long", 2, borrowed, let_go).of_long(Lengths::Long),
    Operation::new("give back, long, once too often", 1, borrowed, let_go).of_letters(1).of_long(Lengths::Long),
    Operation::new("leave", 2, |ring| Hand::Own(Box::new(again(ring, options()))), let_go),
];

/// One page that the victim and its tracer share, for the victim's result.
struct Result {
    taken: &'static std::sync::atomic::AtomicU64,
}

impl Result {
    fn new() -> Result {
        let size = 4096.try_into().unwrap();
        let (protection, flags) = (
            nix::sys::mman::ProtFlags::PROT_READ | nix::sys::mman::ProtFlags::PROT_WRITE,
            nix::sys::mman::MapFlags::MAP_SHARED,
        );
        // SAFETY: a new mapping of zeros, never unmapped, reached through an atomic only.
        let taken = unsafe { nix::sys::mman::mmap_anonymous(None, size, protection, flags).unwrap().cast().as_ref() };
        Result { taken }
    }
}

/// A ring as the operation wants to find it, with ids from 1 on in it; how many were sent. All others were released.
fn set_up(operation: &Operation) -> (Ring, u64) {
    LENGTHS.store(operation.lengths as u8, Relaxed);
    let ring = Ring::anonymous(operation.options()).unwrap();
    // Not in the first lap, where zeros could pass for something.
    for _ in 0..5 {
        ring.send(&message(0), Timeout::Now).unwrap();
        ring.recv(&mut [0; LARGEST], Timeout::Now).unwrap();
    }
    let mut sent = 5;
    if operation.after_a_death {
        ring.send(&message(1), Timeout::Now).unwrap();
        sent += 1;
        support::fork(|| {
            std::mem::forget(ring.borrow(Timeout::Now).unwrap());
            std::mem::forget(ring.reserve(10, Timeout::Now).unwrap());
            // SAFETY: ends this process without any clean-up.
            unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
        })
        .wait();
    }
    for id in 0..operation.queued {
        let lane = if operation.lanes { id as u32 % 2 } else { 0 };
        ring.send_in_lane(lane, &message(2 + id), Timeout::Now).unwrap();
        (0..operation.came_back).for_each(|_| drop(ring.borrow(Timeout::Now).unwrap()));
    }
    for _ in 0..operation.since {
        ring.send(&message(0), Timeout::Now).unwrap();
        ring.recv(&mut [0; LARGEST], Timeout::Now).unwrap();
    }
    (ring, sent + operation.queued + operation.since)
}

/// What the survivors do, while the victim is dead or does nothing: send and receive for several laps.
fn go_on(ring: &Ring, sent: &mut u64, seen: &mut Seen) {
    for round in 0..ROUNDS {
        // Up to two messages wait, and one or two places may be in the victim's hands: one more has room.
        while seen.take(ring, Timeout::Now) {}
        ring.send(&message(100 + round), GENEROUS).unwrap();
        *sent += 1;
        assert!(seen.take(ring, GENEROUS), "what was just sent is there");
    }
}

/// One run: the victim comes to this point and gets no further; how long the others took, `None` if it did not.
fn run(operation: &Operation, point: Point, end: End) -> Option<Duration> {
    let (ring, mut sent) = set_up(operation);
    let victims = operation.victims(&ring);
    let (mut view, result) = (View::new(&ring), Result::new());
    let mut victim = start(operation, &victims, &result);
    if !victim.go_to(point, &mut view) {
        return None;
    }

    let survivor = again(&ring, options());
    let was_held = ring.statistics().unwrap().borrowed;
    let mut seen = Seen::default();
    let start = Instant::now();
    let mut held_up = Duration::ZERO;
    match end {
        End::Killed => {
            drop(victim);
            drop(victims);
            go_on(&survivor, &mut sent, &mut seen);
        }
        End::Stopped => {
            go_on(&survivor, &mut sent, &mut seen);
            held_up = start.elapsed();
            victim.go_on();
            drop(victim);
        }
    }
    // Whatever is still in the victim's name comes back now.
    let fresh = again(&ring, options());
    while seen.take(&fresh, Timeout::After(Duration::from_millis(1))) {}
    let letters = again(&ring, RingOptions { dead_letters: true, ..options() });
    let dead_lettered = letters.statistics().unwrap().dead_lettered;
    for _ in 0..dead_lettered {
        assert!(seen.take(&letters, Timeout::Now));
    }
    if end == End::Killed {
        held_up = start.elapsed();
    }
    assert!(start.elapsed() < Duration::from_secs(30), "the survivors were held up");
    check(&fresh, operation, end, sent, &seen, was_held, &result);
    Some(held_up)
}

fn start(operation: &Operation, ring: &Ring, result: &Result) -> Victim {
    Victim::start(
        || (operation.prepare)(ring),
        |hand| {
            let taken = (operation.body)(hand);
            result.taken.store(taken, std::sync::atomic::Ordering::SeqCst);
        },
    )
}

/// The books balance, and agree with what was sent and what came out.
fn check(ring: &Ring, operation: &Operation, end: End, sent: u64, seen: &Seen, was_held: u64, result: &Result) {
    let books = ring.statistics().unwrap();
    assert_eq!(books.sent, books.released + books.borrowed + books.queued + books.dropped, "{books:?}");
    assert_eq!(
        (books.borrowed, books.queued, books.writing, books.dead_lettered),
        (0, 0, 0, 0),
        "left over: {books:?}"
    );
    assert!(books.participants.iter().all(|peer| peer.pid == Some(std::process::id())), "{books:?}");
    assert!((sent..=sent + BATCH).contains(&books.sent), "{sent} and perhaps the victim's: {books:?}");

    // Those that came out, once each (more often only with the mark), and the victim's own taking.
    let mut outcomes: BTreeMap<u64, u32> = BTreeMap::new();
    for (id, (times, marked)) in &seen.0 {
        assert!(times - marked <= 1, "message {id} came {times} times, marked {marked} times");
        outcomes.insert(*id, 1);
        if end == End::Stopped {
            assert_eq!(*times, 1, "message {id}");
        }
    }
    let taken = result.taken.load(std::sync::atomic::Ordering::SeqCst);
    for id in (0..64).filter(|id| taken & 1 << id != 0 && end == End::Stopped) {
        assert!(outcomes.insert(id, 1).is_none(), "message {id} went to both");
    }
    // A consumer that was killed may have been done with its messages; the books know.
    let came_out = outcomes.len() as u64;
    let released_by_victim = books.released - 5 - operation.since - came_out;
    assert!(released_by_victim <= BATCH, "{came_out} came out: {books:?}");
    if released_by_victim != 0 {
        assert!(end == End::Killed && operation.queued + u64::from(operation.after_a_death) > 0, "lost");
    }
    let victims_came = outcomes.range(VICTIMS..).count() as u64;
    let victims_sent = books.sent - sent;
    match operation.full {
        RingFull::DropNewest => assert_eq!(victims_sent, victims_came + books.dropped, "{books:?}"),
        // Its own first message may be the oldest by the time it goes on.
        RingFull::DropOldest => {
            assert!((victims_came..=victims_came + books.dropped).contains(&victims_sent), "{books:?}");
        }
        _ => assert_eq!(victims_sent, victims_came, "{books:?}"),
    }
    if was_held > 0 && end == End::Killed && released_by_victim == 0 {
        assert!(seen.0.values().any(|(_, marked)| *marked > 0), "taken by the dead, and not marked");
    }
    if operation.lengths != Lengths::Short {
        let all: Vec<_> = (0..operation.chunks).map(|_| ring.reserve(LARGEST, Timeout::Now)).collect();
        assert!(all.iter().all(|reserved| reserved.is_ok()), "room was lost: {all:?}");
        assert!(ring.reserve(100, Timeout::Now).is_err(), "there is more room than there was");
    }
}

#[test]
fn killed_and_stopped_everywhere() {
    let points = |operation: &Operation| {
        let (ring, _) = set_up(operation);
        let victims = operation.victims(&ring);
        start(operation, &victims, &Result::new()).all_points(&mut View::new(&ring))
    };
    everywhere(OPERATIONS, |operation| operation.name.into(), points, run);
}
