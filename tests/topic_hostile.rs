//! A peer that keeps no rules writes over a topic: the others get errors, or go on; they do not crash, read outside of it,
//! or wait past their timeouts.

mod support;

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use support::fork;
use support::spoiling::{Numbers, spoil};
use wigwag::{SubscribeOptions, Subscription, Timeout, Topic, TopicOptions};

const BRIEF: Timeout = Timeout::After(Duration::from_micros(200));
/// An operation that takes longer has got stuck.
const LONG: Duration = Duration::from_secs(20);
const ROUNDS: u64 = 400;

fn options() -> TopicOptions {
    TopicOptions { capacity: 2048, largest: 300, participants: 4, ..Default::default() }
}

fn work(topic: &Topic, subscriptions: &[Subscription], round: u64) {
    let mut buffer = [0; 300];
    let message = vec![round as u8; round as usize % 301];
    for _ in 0..3 {
        let _ = topic.publish(&message, BRIEF);
    }
    for subscription in subscriptions {
        for _ in 0..4 {
            if let Ok(received) = subscription.recv(&mut buffer, BRIEF) {
                assert!(received.length <= 300);
            }
            let _ = subscription.borrow(Timeout::Now).map(|borrowed| assert!(borrowed.to_vec().len() <= 300));
        }
    }
    let _ = topic.reserve(200, BRIEF).map(|mut reserved| {
        reserved.write(0, &[1; 300]);
        reserved.publish()
    });
    let _ = topic.subscribe(SubscribeOptions { history: round, lossy: round.is_multiple_of(2), ..Default::default() });
    let _ = topic.statistics();
    let _ = topic.as_fd().try_clone_to_owned().map(|fd| Topic::from_fd(fd, options()));
}

#[test]
fn a_peer_that_keeps_no_rules() {
    fork(|| {
        let mut numbers = Numbers(1);
        for round in 0..ROUNDS {
            let topic = Topic::anonymous(options()).unwrap();
            let stuck = round.is_multiple_of(3).then_some(Duration::from_millis(1));
            let subscriptions: Vec<_> = [false, true]
                .map(|lossy| topic.subscribe(SubscribeOptions { lossy, stuck, ..Default::default() }).unwrap())
                .into();
            work(&topic, &subscriptions, round);
            let file = std::fs::File::from(topic.as_fd().try_clone_to_owned().unwrap());
            let size = file.metadata().unwrap().len();
            let begun = Instant::now();
            for _ in 0..4 {
                (0..1 + numbers.next() % 6).for_each(|_| spoil(&file, size, &mut numbers));
                work(&topic, &subscriptions, round);
            }
            assert!(begun.elapsed() < LONG, "round {round} took {:?}", begun.elapsed());
        }
    })
    .join();
}
