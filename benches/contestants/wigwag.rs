//! wigwag in the harness that measures inter-process communication side by side: rings, topics, leases.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use wigwag::{
    Ring, RingConsumer, RingOptions, RingProducer, SubscribeOptions, Timeout, Topic, TopicOptions, WaitMode,
};

use crate::harness::*;

fn options(cfg: Cfg) -> RingOptions {
    let wait = match cfg.mode {
        Mode::Spin => WaitMode::Poll,
        Mode::Block => WaitMode::Block,
        Mode::SpinPark => WaitMode::Adaptive,
    };
    // As much memory as the bare ring takes.
    let message = cfg.size as u64 + 64;
    let capacity = (16 * message).min(2 << 20).max(4 * message).max(256 << 10);
    RingOptions { capacity, largest: cfg.size.max(64) as u64, wait, persistent: true, ..Default::default() }
}

/// Two declared one-to-one rings, one for each way.
pub struct OneToOne([OwnedFd; 2], Cfg);

pub struct OneToOneEnd {
    out: RingProducer,
    inn: RingConsumer,
}

impl Transport for OneToOne {
    type Ch = OneToOneEnd;

    fn prepare(cfg: Cfg) -> Self {
        let made = || {
            let options = options(cfg);
            let capacity = options.capacity.next_power_of_two();
            let (producer, _) = RingProducer::anonymous(RingOptions { capacity, ..options }).unwrap();
            producer.as_fd().try_clone_to_owned().unwrap()
        };
        OneToOne([made(), made()], cfg)
    }

    fn open(self, side: Side) -> OneToOneEnd {
        let [mut there, mut back] = self.0;
        if side == Side::B {
            std::mem::swap(&mut there, &mut back);
        }
        let mut out = RingProducer::from_fd(there, options(self.1)).unwrap();
        let mut inn = RingConsumer::from_fd(back, options(self.1)).unwrap();
        // What is done once in a process is done before anything is measured.
        drop(out.reserve(8, Timeout::Now).unwrap());
        drop(inn.borrow(Timeout::After(std::time::Duration::from_millis(1))));
        OneToOneEnd { out, inn }
    }
}

impl Chan for OneToOneEnd {
    #[inline(always)]
    fn send(&mut self, m: &[u8]) {
        self.out.send(m, Timeout::Forever).unwrap();
    }

    #[inline(always)]
    fn recv(&mut self, buf: &mut [u8]) {
        self.inn.recv(buf, Timeout::Forever).unwrap();
    }

    fn send_in_place(&mut self, n: usize, fill: impl FnOnce(&mut [u8])) {
        let message = self.out.reserve(n, Timeout::Forever).unwrap();
        // SAFETY: n bytes of the ring that are this producer's until they are committed.
        fill(unsafe { std::slice::from_raw_parts_mut(message.as_ptr(), n) });
        message.commit().unwrap();
    }

    fn recv_in_place<R>(&mut self, read: impl FnOnce(&[u8]) -> R) -> R {
        let message = self.inn.borrow(Timeout::Forever).unwrap();
        // SAFETY: the message's bytes, which nobody writes before it is released: both sides are this program.
        let result = read(unsafe { std::slice::from_raw_parts(message.as_ptr(), message.length()) });
        message.release().unwrap();
        result
    }
}

/// Two rings for any number of users, used by one and one.
pub struct Many([Arc<Ring>; 2]);

pub struct ManyEnd {
    out: Arc<Ring>,
    inn: Arc<Ring>,
}

impl Transport for Many {
    type Ch = ManyEnd;

    fn prepare(cfg: Cfg) -> Self {
        let made = || Arc::new(Ring::anonymous(options(cfg)).unwrap());
        Many([made(), made()])
    }

    fn open(self, side: Side) -> ManyEnd {
        let [mut there, mut back] = self.0;
        if side == Side::B {
            std::mem::swap(&mut there, &mut back);
        }
        drop(there.reserve(8, Timeout::Now).unwrap());
        drop(back.borrow(Timeout::After(std::time::Duration::from_millis(1))));
        ManyEnd { out: there, inn: back }
    }
}

impl Chan for ManyEnd {
    #[inline(always)]
    fn send(&mut self, m: &[u8]) {
        self.out.send(m, Timeout::Forever).unwrap();
    }

    #[inline(always)]
    fn recv(&mut self, buf: &mut [u8]) {
        self.inn.recv(buf, Timeout::Forever).unwrap();
    }
}

type Sends = Box<dyn FnMut(&[u8; 64])>;
type Receives = Box<dyn FnMut(&mut [u8; 64])>;

/// Many producers, one consumer, asleep when there is nothing to do.
pub fn many_to_one() -> (impl Fn(usize) -> Sends, impl Fn(usize) -> Receives) {
    let ring = Arc::new(Ring::anonymous(options(Cfg { mode: Mode::Block, size: 64, tag: 0 })).unwrap());
    let consumer = Arc::clone(&ring);
    (
        move |_| {
            let ring = Arc::clone(&ring);
            Box::new(move |m: &[u8; 64]| ring.send(m, Timeout::Forever).unwrap()) as Sends
        },
        move |_| {
            let ring = Arc::clone(&consumer);
            Box::new(move |m: &mut [u8; 64]| {
                ring.recv(m, Timeout::Forever).unwrap();
            }) as Receives
        },
    )
}

/// One publisher, lossless subscribers.
pub fn fan_out() -> (impl Fn(usize) -> Sends, impl Fn(usize) -> Receives) {
    let options = TopicOptions { wait: WaitMode::Block, ..Default::default() };
    let topic = Arc::new(Topic::anonymous(options).unwrap());
    let subscribed = Arc::clone(&topic);
    (
        move |_| {
            let topic = Arc::clone(&topic);
            Box::new(move |m: &[u8; 64]| topic.publish(m, Timeout::Forever).map(drop).unwrap()) as Sends
        },
        move |_| {
            let subscription = subscribed.subscribe(SubscribeOptions::default()).unwrap();
            Box::new(move |m: &mut [u8; 64]| {
                subscription.recv(m, Timeout::Forever).unwrap();
            }) as Receives
        },
    )
}
