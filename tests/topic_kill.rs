//! A process is killed, or stopped for ever, at every point of every operation on a topic that differs from the one
//! before; the others go on, find every message whole, once and in order, and nothing is left over.
#![cfg(target_arch = "x86_64")]

mod stepping;
mod support;

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use stepping::{End, Point, Victim, View, everywhere};
use support::GENEROUS;
use wigwag::{
    Result, SubscribeOptions, Subscription, Timeout, Topic, TopicBorrowed, TopicOptions, TopicReceived, TopicReserved,
};

const VICTIMS: u64 = 1 << 32;
/// Several times through the blocks.
const ROUNDS: u64 = 40;
const BLOCKS: usize = 16;
/// How long a stopped victim holds up the others.
const STUCK: Duration = Duration::from_millis(5);

fn options() -> TopicOptions {
    TopicOptions { capacity: 128 * BLOCKS as u64, largest: 300, participants: 6, ..Default::default() }
}

fn again(topic: &Topic) -> Topic {
    Topic::from_fd(topic.as_fd().try_clone_to_owned().unwrap(), options()).unwrap()
}

/// Of one to three blocks; made in few instructions, as victims are stepped through them.
fn message(id: u64) -> Vec<u8> {
    let mut bytes = vec![id as u8; 8 + (id as usize * 37) % 290];
    bytes[..8].copy_from_slice(&id.to_le_bytes());
    bytes
}

fn id_of(bytes: &[u8]) -> u64 {
    let id = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    assert_eq!(bytes, message(id), "torn");
    id
}

/// A lossless subscriber in the test, which has seen every message from the first on.
struct Witness {
    subscription: Subscription,
    seen: Vec<u64>,
}

impl Witness {
    fn look(&mut self) {
        let mut buffer = [0; 300];
        loop {
            match self.subscription.recv(&mut buffer, Timeout::Now) {
                Ok(received) => {
                    self.seen.push(id_of(&buffer[..received.length]));
                    assert_eq!((received.sequence, received.missed), (self.seen.len() as u64, 0));
                }
                Err(error) => return assert!(error.is(Errno::EAGAIN), "{error}"),
            }
        }
    }

    fn publish(&mut self, topic: &Topic, id: u64) {
        topic.publish(&message(id), GENEROUS).unwrap();
        self.look();
        assert!(self.seen.contains(&id));
    }
}

/// What a victim has with it when its operation begins.
enum Hand<'a> {
    Topic(&'a Topic),
    Own(#[allow(dead_code)] Box<Topic>),
    Reserved(TopicReserved<'a>),
    Subscription(Arc<Subscription>),
    Borrowed(TopicBorrowed<'static>),
}

impl<'a> Hand<'a> {
    fn topic(self) -> &'a Topic {
        match self {
            Hand::Topic(topic) => topic,
            _ => unreachable!(),
        }
    }

    fn subscription(self) -> Arc<Subscription> {
        match self {
            Hand::Subscription(subscription) => subscription,
            _ => unreachable!(),
        }
    }
}

#[derive(Clone, Copy)]
struct Operation {
    name: &'static str,
    /// A process has died that held two messages and a place.
    after_a_death: bool,
    /// So many messages come after the preparation.
    after: u64,
    /// Messages that the victim has published if it came to its end.
    publishes: u64,
    prepare: for<'a> fn(&'a Topic) -> Hand<'a>,
    body: fn(Hand<'_>),
}

/// Joins, which happens on first use.
fn joined(topic: &Topic) -> Hand<'_> {
    topic.statistics().unwrap();
    Hand::Topic(topic)
}

fn reserved(topic: &Topic) -> Hand<'_> {
    let bytes = message(VICTIMS);
    let mut reserved = topic.reserve(bytes.len(), Timeout::Now).unwrap();
    reserved.write(0, &bytes);
    Hand::Reserved(reserved)
}

fn subscribe(topic: &Topic, lossy: bool, history: u64) -> Arc<Subscription> {
    let stuck = Some(STUCK);
    Arc::new(topic.subscribe(SubscribeOptions { lossy, stuck, history }).unwrap())
}

fn lossless(topic: &Topic) -> Hand<'_> {
    Hand::Subscription(subscribe(topic, false, 0))
}

fn lossy(topic: &Topic) -> Hand<'_> {
    Hand::Subscription(subscribe(topic, true, 0))
}

fn borrowed(topic: &Topic) -> Hand<'_> {
    Hand::Borrowed(subscribe(topic, false, 1).borrow_owned(Timeout::Now).unwrap())
}

/// Stopped for long enough, a victim is cut off, and told.
fn or_cut_off<T>(result: Result<T>) -> Option<T> {
    result.map_err(|error| assert!(error.is(Errno::ECONNABORTED), "{error}")).ok()
}

fn publish(hand: Hand<'_>) {
    hand.topic().publish(&message(VICTIMS), GENEROUS).unwrap();
}

fn recv(hand: Hand<'_>) {
    let (subscription, mut buffer) = (hand.subscription(), [0; 300]);
    if let Some(received) = or_cut_off(subscription.recv(&mut buffer, Timeout::Now)) {
        id_of(&buffer[..received.length]);
    }
    std::mem::forget(subscription); // leaving is an operation of its own
}

const fn operation(
    name: &'static str,
    publishes: u64,
    prepare: for<'a> fn(&'a Topic) -> Hand<'a>,
    body: fn(Hand<'_>),
) -> Operation {
    Operation { name, after_a_death: false, after: 0, publishes, prepare, body }
}

const OPERATIONS: &[Operation] = &[
    operation("publish", 1, joined, publish),
    operation("publish, first of a child", 1, |topic| Hand::Topic(topic), publish),
    operation("publish, batch", 2, joined, |hand| {
        let (first, second) = (message(VICTIMS), message(VICTIMS + 1));
        assert_eq!(hand.topic().publish_batch(&[&first, &second], GENEROUS).unwrap(), 2);
    }),
    operation("publish, cutting off one that is stuck", 1, stuck, publish),
    operation("reserve", 0, joined, |hand| std::mem::forget(hand.topic().reserve(300, GENEROUS).unwrap())),
    operation("publish what was reserved", 1, reserved, |hand| match hand {
        Hand::Reserved(reserved) => assert!(reserved.publish().unwrap() > 0),
        _ => unreachable!(),
    }),
    operation("abort", 0, reserved, |hand| drop(hand)),
    Operation { after: 3, ..operation("receive", 0, lossless, recv) },
    Operation { after: 3, ..operation("receive, lossy", 0, lossy, recv) },
    Operation { after: 50, ..operation("receive, lossy and overrun", 0, lossy, recv) },
    Operation {
        after: 3,
        ..operation("receive, batch", 0, lossless, |hand| {
            let (subscription, mut buffer) = (hand.subscription(), [0; 900]);
            let mut received = [TopicReceived { length: 0, sequence: 0, missed: 0 }; 3];
            or_cut_off(subscription.recv_batch(&mut buffer, &mut received, Timeout::Now));
            std::mem::forget(subscription);
        })
    },
    operation("receive in vain", 0, lossy, |hand| {
        let subscription = hand.subscription();
        let received = subscription.recv(&mut [0; 300], Timeout::After(Duration::from_millis(1)));
        assert!(received.is_ok() || received.is_err_and(|error| error.is(Errno::ETIMEDOUT)));
        std::mem::forget(subscription);
    }),
    Operation {
        after: 1,
        ..operation("borrow", 0, lossless, |hand| {
            let subscription = hand.subscription();
            std::mem::forget(or_cut_off(subscription.borrow(Timeout::Now)));
            std::mem::forget(subscription);
        })
    },
    operation("release", 0, borrowed, |hand| match hand {
        Hand::Borrowed(borrowed) => drop(or_cut_off(borrowed.release())),
        _ => unreachable!(),
    }),
    operation("subscribe", 0, joined, |hand| std::mem::forget(subscribe(hand.topic(), false, 3))),
    operation("subscribe, lossy", 0, joined, |hand| std::mem::forget(subscribe(hand.topic(), true, 3))),
    operation("unsubscribe", 0, lossless, |hand| drop(hand)),
    Operation {
        after_a_death: true,
        ..operation(
            "open, taking over from the dead",
            0,
            |topic| Hand::Topic(topic),
            |hand| std::mem::forget(again(hand.topic())),
        )
    },
    operation("leave", 0, |topic| Hand::Own(Box::new(again(topic))), |hand| drop(hand)),
];

/// Makes a subscriber that is in the way, and has been for long enough.
fn stuck(topic: &Topic) -> Hand<'_> {
    std::mem::forget(subscribe(topic, false, u64::MAX));
    assert!(topic.reserve(300, Timeout::Now).is_err_and(|error| error.is(Errno::EAGAIN)));
    std::thread::sleep(STUCK * 4);
    Hand::Topic(topic)
}

/// A topic as the operation wants to find it, with the victim's handle.
fn set_up(operation: &Operation) -> (Topic, Witness, Topic) {
    let topic = Topic::anonymous(options()).unwrap();
    let mut witness = Witness { subscription: topic.subscribe(SubscribeOptions::default()).unwrap(), seen: Vec::new() };
    // Not the first in any block, where zeros could pass for something, and with something to retire.
    (1..=50).for_each(|id| witness.publish(&topic, id));
    let victims = again(&topic);
    if operation.after_a_death {
        support::fork(|| {
            std::mem::forget(subscribe(&topic, false, 1));
            std::mem::forget((topic.reserve(10, Timeout::Now).unwrap(), topic.reserve(300, Timeout::Now).unwrap()));
            // SAFETY: ends this process without any clean-up.
            unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
        })
        .wait();
    }
    (topic, witness, victims)
}

fn start(operation: &Operation, topic: &Topic, witness: &mut Witness, victims: &Topic) -> Victim {
    let victim = Victim::start(|| (operation.prepare)(victims), |hand| (operation.body)(hand));
    (0..operation.after).for_each(|id| witness.publish(topic, 100 + id));
    victim
}

/// One run: the victim comes to this point and gets no further; how long the others took, `None` if it did not.
fn run(operation: &Operation, point: Point, end: End) -> Option<Duration> {
    let kill = end == End::Killed;
    let (topic, mut witness, victims) = set_up(operation);
    let mut view = View::new(&topic);
    let mut victim = start(operation, &topic, &mut witness, &victims);
    if !victim.go_to(point, &mut view) {
        return None;
    }

    let begun = Instant::now();
    let mut victim = Some(victim);
    if kill {
        victim = None;
    }
    let survivor = again(&topic);
    (0..ROUNDS).for_each(|round| witness.publish(&survivor, 1000 + round));
    let held_up = begun.elapsed();
    if let Some(mut victim) = victim {
        victim.go_on();
    }
    drop(victims);
    let fresh = again(&topic);
    witness.look();
    let statistics = fresh.statistics().unwrap();
    assert_eq!((statistics.reserved, statistics.sent), (0, witness.seen.len() as u64), "{statistics:?}");
    assert!(statistics.participants.iter().all(|peer| peer.pid == Some(std::process::id())), "{statistics:?}");
    assert_eq!(statistics.subscribers.len(), 1, "{statistics:?}");

    let own: Vec<_> = witness.seen.iter().filter(|id| **id >= VICTIMS).map(|id| id - VICTIMS).collect();
    assert!(own.iter().copied().eq(0..own.len() as u64), "each once and in order: {own:?}");
    let own = own.len() as u64;
    assert!(if kill { own <= operation.publishes } else { own == operation.publishes });
    let others = 50 + operation.after + ROUNDS;
    assert_eq!(witness.seen.len() as u64, others + own);
    let making = if operation.after_a_death { 2 } else { operation.publishes.max(1) };
    assert!(statistics.skipped <= making - own, "{statistics:?}");
    assert!(!operation.after_a_death || statistics.skipped == 2, "{statistics:?}");
    // All blocks are there to be used.
    let held: Vec<_> = (0..BLOCKS).map(|_| fresh.reserve(1, Timeout::Now).unwrap()).collect();
    assert!(fresh.reserve(1, Timeout::Now).is_err_and(|error| error.is(Errno::EAGAIN)));
    drop(held);
    Some(held_up)
}

#[test]
fn killed_and_stopped_everywhere() {
    let points = |operation: &Operation| {
        let (topic, mut witness, victims) = set_up(operation);
        start(operation, &topic, &mut witness, &victims).all_points(&mut View::new(&topic))
    };
    everywhere(OPERATIONS, |operation| operation.name.into(), points, run);
}
