//! Topics.

use wigwag::modelled::{spawn, victim};
use wigwag::{SubscribeOptions, Subscription, Timeout, Topic, TopicOptions, WaitMode};

use crate::checking::{again, holds, holds_at_every_death};
use crate::rings::message;

fn topic_options() -> TopicOptions {
    TopicOptions { capacity: 256, largest: 8, participants: 4, wait: WaitMode::Block, ..Default::default() }
}

/// A topic with two publishers, and a lossless subscription.
fn topics() -> ([Topic; 2], Subscription) {
    let topic = Topic::anonymous(topic_options()).unwrap();
    let other = Topic::from_fd(again(&topic), topic_options()).unwrap();
    let subscription = topic.subscribe(SubscribeOptions::default()).unwrap();
    ([topic, other], subscription)
}

/// The next message, and which one it is.
fn received(subscription: &Subscription) -> (u64, u64) {
    let mut bytes = [0; 8];
    let received = subscription.recv(&mut bytes, Timeout::Forever).unwrap();
    assert_eq!((received.length, received.missed), (8, 0));
    (received.sequence, u64::from_ne_bytes(bytes))
}

#[test]
fn a_topic_passes_messages_on_in_order() {
    let scenario = || {
        let ([topic, other], subscription) = topics();
        let publisher = spawn(move || {
            assert_eq!(topic.publish(&message(7), Timeout::Now).unwrap(), 1);
            topic
        });
        let subscriber = spawn(move || {
            assert_eq!(received(&subscription), (1, 7));
            subscription
        });
        let topic = publisher.join();
        subscriber.join();
        drop((topic, other));
    };
    holds(
        "topic",
        scenario,
        &[
            &[("topic/log.rs", "word.compare_exchange(entry.0, full.0, Ordering::SeqCst")],
            &[
                ("segment/bell.rs", "self.word.fetch_or(SLEEPING, Ordering::SeqCst)"),
                ("segment/bell.rs", "fence(Ordering::SeqCst);"),
            ],
        ],
    );
}

#[test]
fn a_topic_goes_on_without_a_dead_publisher() {
    holds_at_every_death("topic", || {
        let ([mortal, survivor], subscription) = topics();
        let dying = victim(move || {
            mortal.publish(&message(1), Timeout::Now).unwrap();
            mortal
        });
        let living = spawn(move || {
            let sequence = survivor.publish(&message(2), Timeout::Now).unwrap();
            assert!(sequence <= 2);
            let first = received(&subscription);
            if sequence == 2 {
                assert_eq!((first, received(&subscription)), ((1, 1), (2, 2)));
            } else {
                assert_eq!(first, (1, 2));
            }
            (survivor, subscription)
        });
        dying.join();
        living.join();
    });
}
