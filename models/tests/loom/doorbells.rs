//! Doorbells.

use std::sync::Arc;

use wigwag::modelled::{Doorbell, spawn};
use wigwag::{SubscribeOptions, Subscription, Timeout};

use crate::checking::{holds, holds_uninterrupted};
use crate::rings::{message, producer_of, receive, rings};
use crate::topics::{received, topics};

/// A sleeper's announcement: the other side may not see it, nor the sleeper what it has made.
const UNANNOUNCED: &[(&str, &str)] = &[
    ("segment/bell.rs", "self.word.fetch_update(Ordering::SeqCst, Ordering::SeqCst, announced)"),
    ("segment/bell.rs", "fence(Ordering::SeqCst);"),
];

/// Waits for the doorbell before it looks, until so much was done.
fn do_by(doorbell: &Doorbell, count: usize, does: impl Fn() -> bool) {
    let mut done = 0;
    while done < count {
        doorbell.poll();
        while done < count && does() {
            done += 1;
        }
        doorbell.quiet();
    }
}

#[test]
fn a_doorbell_is_never_quiet_while_there_is_something() {
    let scenario = || {
        let [ring, producer] = rings();
        let (doorbell, helper) = Doorbell::of_messages(&ring);
        let doorbell = Arc::new(doorbell);
        let helper = spawn(move || helper.run());
        let polled = Arc::clone(&doorbell);
        let consumer = spawn(move || {
            do_by(&polled, 2, || ring.recv(&mut [0; 8], Timeout::Now).is_ok());
            ring
        });
        (1..=2).for_each(|number| producer.send(&message(number), Timeout::Now).unwrap());
        let ring = consumer.join();
        doorbell.end();
        producer.send(&message(3), Timeout::Now).unwrap();
        helper.join();
        drop((ring, producer));
    };
    holds("doorbell", scenario, &[UNANNOUNCED]);
}

/// Whether there was a message, which says which one it is.
fn is_received(subscription: &Subscription) -> bool {
    let mut bytes = [0; 8];
    let received = subscription.recv(&mut bytes, Timeout::Now);
    received.is_ok_and(|received| {
        assert_eq!(received.sequence, u64::from_ne_bytes(bytes));
        true
    })
}

#[test]
fn a_topics_doorbell_is_never_quiet_while_there_is_something() {
    let scenario = || {
        let ([topic, other], subscription) = topics();
        let (doorbell, helper) = Doorbell::of_subscription(&subscription);
        let doorbell = Arc::new(doorbell);
        let helper = spawn(move || helper.run());
        let polled = Arc::clone(&doorbell);
        let subscriber = spawn(move || {
            do_by(&polled, 2, || is_received(&subscription));
            subscription
        });
        (1..=2).for_each(|number| assert_eq!(topic.publish(&message(number), Timeout::Now).unwrap(), number));
        let subscription = subscriber.join();
        doorbell.end();
        topic.publish(&message(3), Timeout::Now).unwrap();
        helper.join();
        drop((subscription, topic, other));
    };
    holds("topic, doorbell", scenario, &[UNANNOUNCED]);
}

/// The publisher calls one of the two, perhaps when both are asleep; it tells the other.
fn a_helper_and_a_subscriber(asleep: bool) {
    let ([topic, other], polling) = topics();
    let subscription = other.subscribe(SubscribeOptions::default()).unwrap();
    let (doorbell, helper) = Doorbell::of_subscription(&polling);
    let helper = spawn(move || helper.run());
    let sleeping = spawn(move || {
        assert_eq!(received(&subscription), (1, 1));
        subscription
    });
    if asleep {
        loom::thread::yield_now();
    }
    topic.publish(&message(1), Timeout::Now).unwrap();
    doorbell.poll();
    // Until both have heard, nobody leaves, which would wake a sleeper, too.
    let subscription = sleeping.join();
    doorbell.end();
    helper.join();
    drop((subscription, polling, topic, other));
}

#[test]
fn a_helper_and_a_subscriber_both_hear_of_a_message() {
    holds("topic, doorbell and a subscriber", || a_helper_and_a_subscriber(false), &[UNANNOUNCED]);
    holds("topic, doorbell and a subscriber, asleep", || a_helper_and_a_subscriber(true), &[]);
}

/// Two slots are freed, one after the other or, when both are asleep, in a row: then the first of them is called, and tells
/// the other. The producer takes one.
fn a_helper_and_a_producer(helper_first: bool, asleep: bool) {
    let [ring, polling] = rings();
    let producer = producer_of(&ring);
    while producer.send(&message(0), Timeout::Now).is_ok() {}
    let (doorbell, helper) = Doorbell::of_room(&polling);
    let helper = || spawn(move || helper.run());
    let sleeping = || {
        spawn(move || {
            producer.send(&message(1), Timeout::Forever).unwrap();
            producer
        })
    };
    let (helper, sleeping) = if helper_first {
        (helper(), sleeping())
    } else {
        let sleeping = sleeping();
        (helper(), sleeping)
    };
    // Until both have heard, nobody leaves, which would wake a sleeper, too.
    let producer = if asleep {
        loom::thread::yield_now();
        (0..2).for_each(|_| assert_eq!(receive(&ring, Timeout::Now), 0));
        sleeping.join()
    } else {
        receive(&ring, Timeout::Now);
        let producer = sleeping.join();
        receive(&ring, Timeout::Now);
        producer
    };
    doorbell.poll();
    doorbell.end();
    helper.join();
    drop((producer, polling, ring));
}

#[test]
fn a_helper_and_a_producer_both_hear_of_room() {
    holds_uninterrupted("ring, doorbell and a producer", || a_helper_and_a_producer(true, false), &[UNANNOUNCED]);
    holds_uninterrupted("ring, doorbell and a producer, asleep", || a_helper_and_a_producer(true, true), &[]);
    holds_uninterrupted("ring, a producer and a doorbell, asleep", || a_helper_and_a_producer(false, true), &[]);
}
