//! Topics.

use std::sync::Arc;

use wigwag::modelled::{spawn, victim};
use wigwag::{SubscribeOptions, Subscription, Timeout, Topic, TopicOptions, TopicReceived, WaitMode};

use crate::checking::{again, holds, holds_at_every_death, holds_at_every_stop, holds_uninterrupted};
use crate::rings::message;

fn topic_options() -> TopicOptions {
    TopicOptions { capacity: 256, largest: 8, participants: 4, wait: WaitMode::Block, ..Default::default() }
}

/// A topic with two publishers, and a lossless subscription.
pub fn topics() -> ([Topic; 2], Subscription) {
    let topic = Topic::anonymous(topic_options()).unwrap();
    let other = Topic::from_fd(again(&topic), topic_options()).unwrap();
    let subscription = topic.subscribe(SubscribeOptions::default()).unwrap();
    ([topic, other], subscription)
}

/// The next message, and which one it is.
pub fn received(subscription: &Subscription) -> (u64, u64) {
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
                ("segment/bell.rs", "self.word.fetch_update(Ordering::SeqCst, Ordering::SeqCst, announced)"),
                ("segment/bell.rs", "fence(Ordering::SeqCst);"),
            ],
        ],
    );
}

#[test]
fn all_who_wait_for_a_message_hear_it_although_one_is_called() {
    let scenario = || {
        let topic = Topic::anonymous(topic_options()).unwrap();
        let threads = [(); 2].map(|()| {
            let subscription = topic.subscribe(SubscribeOptions::default()).unwrap();
            spawn(move || {
                assert_eq!(received(&subscription), (1, 7));
                subscription
            })
        });
        let publisher = spawn(move || {
            assert_eq!(topic.publish(&message(7), Timeout::Now).unwrap(), 1);
            topic
        });
        // Until both have it, nobody leaves, which would wake a sleeper, too.
        let subscriptions = threads.map(|thread| thread.join());
        drop((publisher.join(), subscriptions));
    };
    let seed = &[
        ("segment/bell.rs", "self.word.fetch_update(Ordering::SeqCst, Ordering::SeqCst, announced)"),
        ("segment/bell.rs", "fence(Ordering::SeqCst);"),
    ];
    holds_uninterrupted("topic, two subscribers", scenario, &[seed]);
}

/// One that is called may find that another thread of its subscription has what there was. The last to hear of the first
/// message sends the second.
#[test]
fn who_is_called_in_vain_tells_the_others() {
    let scenario = || {
        let topic = Arc::new(Topic::anonymous(topic_options()).unwrap());
        let [shared, own] = [(); 2].map(|()| Arc::new(topic.subscribe(SubscribeOptions::default()).unwrap()));
        let threads = [(); 2].map(|()| {
            let shared = Arc::clone(&shared);
            spawn(move || received(&shared).0)
        });
        let answering = {
            let (topic, own) = (Arc::clone(&topic), Arc::clone(&own));
            spawn(move || {
                assert_eq!(received(&own), (1, 7));
                assert_eq!(topic.publish(&message(8), Timeout::Now).unwrap(), 2);
            })
        };
        loom::thread::yield_now(); // so that they sleep
        assert_eq!(topic.publish(&message(7), Timeout::Now).unwrap(), 1);
        assert_eq!(threads.map(|thread| thread.join().unwrap()).iter().sum::<u64>(), 3);
        answering.join();
        drop((topic, shared, own));
    };
    holds_uninterrupted("topic, called in vain", scenario, &[]);
}

#[test]
fn a_topic_goes_on_without_a_publisher() {
    let scenario = || {
        let ([mortal, survivor], subscription) = topics();
        let ended = victim(move || {
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
        let living = living.join();
        ended.join();
        drop(living);
    };
    holds_at_every_death("topic, publisher", scenario);
    holds_at_every_stop("topic, publisher", scenario);
}

/// A topic with room for few messages, and a subscription that slows nobody.
fn lossy_topic() -> (Topic, Subscription) {
    let topic = Topic::anonymous(TopicOptions { depth: 2, ..topic_options() }).unwrap();
    let subscription = topic.subscribe(SubscribeOptions { lossy: true, ..Default::default() }).unwrap();
    (topic, subscription)
}

fn publish(topic: &Topic, count: u64) {
    (1..=count).for_each(|number| assert_eq!(topic.publish(&message(number), Timeout::Now).unwrap(), number));
}

/// The next message if there is one, which must be what its sequence says.
fn received_lossily(subscription: &Subscription) -> Option<TopicReceived> {
    let mut bytes = [0; 8];
    let received = subscription.recv(&mut bytes, Timeout::Now).ok()?;
    assert_eq!((received.length, received.sequence), (8, u64::from_ne_bytes(bytes)));
    Some(received)
}

#[test]
fn who_is_overrun_is_told_how_many_it_missed() {
    const COUNT: u64 = 4;
    let scenario = || {
        let (topic, subscription) = lossy_topic();
        let publisher = spawn(move || {
            publish(&topic, COUNT);
            topic
        });
        let subscriber = spawn(move || (received_lossily(&subscription), subscription));
        let topic = publisher.join();
        let (first, subscription) = subscriber.join().unwrap();
        let mut seen = 0;
        for received in first.into_iter().chain(std::iter::from_fn(|| received_lossily(&subscription))) {
            assert_eq!(received.sequence, seen + received.missed + 1, "a loss without a count");
            seen = received.sequence;
        }
        assert_eq!(seen, COUNT, "the last was lost");
        drop(topic);
    };
    holds("topic, overrun", scenario, &[]);
}

#[test]
fn a_lossy_subscriber_never_slows_a_publisher() {
    let scenario = || {
        let (topic, subscription) = lossy_topic();
        let ended = victim(move || (received_lossily(&subscription), subscription));
        let living = spawn(move || {
            publish(&topic, 4);
            topic
        });
        let living = living.join();
        ended.join();
        drop(living);
    };
    holds_at_every_death("topic, lossy subscriber", scenario);
    holds_at_every_stop("topic, lossy subscriber", scenario);
}

#[test]
fn a_lossless_subscriber_that_stops_makes_publishers_wait_and_no_more() {
    holds_at_every_stop("topic, lossless subscriber", || {
        let ([topic, other], subscription) = topics();
        topic.publish(&message(1), Timeout::Now).unwrap();
        let ended = victim(move || (received(&subscription), subscription));
        let living = spawn(move || {
            let fails = |_: &u64| other.publish(&message(2), Timeout::Now).is_err();
            assert!((1..20).find(fails).is_some(), "it took more than it has room for");
            other
        });
        let living = living.join();
        ended.join();
        drop((living, topic));
    });
}
