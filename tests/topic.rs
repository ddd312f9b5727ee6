//! Topics between threads and processes, at their edges.

mod support;

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use support::{GENEROUS, SHORT, eventually, fork, fresh, is_asleep};
use wigwag::{
    Address, Cancel, Interest, SubscribeOptions, Subscription, Timeout, Topic, TopicOptions, TopicReceived, WaitMode,
    WaitSet, WaitSetEvent,
};

/// Room for eight of the smallest messages, or for two of the largest.
fn small() -> TopicOptions {
    TopicOptions { capacity: 1024, largest: 500, participants: 8, ..Default::default() }
}

fn topic() -> Topic {
    Topic::anonymous(small()).unwrap()
}

fn again(topic: &Topic) -> Topic {
    Topic::from_fd(topic.as_fd().try_clone_to_owned().unwrap(), small()).unwrap()
}

fn lossless(topic: &Topic) -> Subscription {
    topic.subscribe(SubscribeOptions::default()).unwrap()
}

fn lossy(topic: &Topic) -> Subscription {
    topic.subscribe(SubscribeOptions { lossy: true, ..Default::default() }).unwrap()
}

fn with_history(topic: &Topic, history: u64) -> Subscription {
    topic.subscribe(SubscribeOptions { history, ..Default::default() }).unwrap()
}

/// A message that can be checked, of a length that varies.
fn message(number: u64) -> Vec<u8> {
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.resize(8 + (number * 37 % 93) as usize, number as u8);
    bytes
}

fn number_of(bytes: &[u8]) -> u64 {
    let number = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    assert_eq!(bytes, message(number), "torn");
    number
}

fn publish(topic: &Topic, number: u64) -> u64 {
    topic.publish(&message(number), GENEROUS).unwrap()
}

/// Number, sequence and missed.
fn recv(subscription: &Subscription, timeout: Timeout) -> (u64, u64, u64) {
    let mut buffer = [0; 500];
    let received = subscription.recv(&mut buffer, timeout).unwrap();
    (number_of(&buffer[..received.length]), received.sequence, received.missed)
}

fn nothing(subscription: &Subscription) {
    assert!(subscription.recv(&mut [0; 500], Timeout::Now).unwrap_err().is(Errno::EAGAIN));
}

#[test]
fn each_message_to_every_subscriber() {
    let topic = topic();
    let subscriptions = [lossless(&topic), lossy(&topic), lossless(&again(&topic))];
    for number in 1..200 {
        assert_eq!(publish(&topic, number), number);
        for subscription in &subscriptions {
            assert_eq!(recv(subscription, Timeout::Now), (number, number, 0));
            nothing(subscription);
        }
    }
    let statistics = topic.statistics().unwrap();
    assert_eq!((statistics.sent, statistics.skipped, statistics.reserved), (199, 0, 0));
    assert_eq!((statistics.capacity, statistics.largest, statistics.depth, statistics.stored), (1024, 500, 8, 8));
    assert_eq!((statistics.participants.len(), statistics.subscribers.len()), (2, 3));
    assert!(statistics.subscribers.iter().all(|who| who.lag == 0 && who.missed == 0 && !who.cut_off));
    drop(subscriptions);
    assert_eq!(topic.statistics().unwrap().subscribers, []);
    assert_eq!(topic.statistics().unwrap().participants.len(), 1);
}

#[test]
fn sizes_at_the_edge() {
    let topic = topic();
    let subscription = lossless(&topic);
    let mut buffer = [0; 500];
    for length in [0, 1, 127, 128, 129, 256, 499, 500] {
        topic.publish(&vec![7; length], Timeout::Now).unwrap();
        if length > 0 {
            let refused = subscription.recv(&mut buffer[..length - 1], Timeout::Now).unwrap_err();
            assert!(refused.is(Errno::EMSGSIZE));
            assert_eq!(refused.true_size(), length);
        }
        assert_eq!(subscription.recv(&mut buffer[..length], Timeout::Now).unwrap().length, length);
        assert!(buffer[..length].iter().all(|byte| *byte == 7));
    }
    let refused = topic.publish(&[0; 501], Timeout::Now).unwrap_err();
    assert!(refused.is(Errno::EMSGSIZE));
    assert_eq!(refused.true_size(), 500);
    for (options, reason) in [
        (TopicOptions { capacity: 1023, largest: 500, ..Default::default() }, "two messages"),
        (TopicOptions { largest: 1 << 31, ..Default::default() }, "1 GiB"),
        (TopicOptions { capacity: 1 << 40, ..Default::default() }, "2^24 blocks"),
        (TopicOptions { participants: 257, ..Default::default() }, "256"),
        (TopicOptions { subscribers: 1025, ..Default::default() }, "1024"),
    ] {
        let refused = Topic::anonymous(options).unwrap_err();
        assert!(refused.is(Errno::EINVAL) && refused.to_string().contains(reason), "{refused}");
    }
    let (size, open) = (Topic::size_for(&small()).unwrap(), topic.statistics().unwrap().bytes);
    assert_eq!(size, open);
}

#[test]
fn a_small_message_uses_only_what_it_needs() {
    let topic = topic();
    let _holds_up = lossless(&topic);
    (0..8).for_each(|_| _ = topic.publish(&[1; 128], Timeout::Now).unwrap());
    assert!(topic.publish(&[], Timeout::Now).unwrap_err().is(Errno::EAGAIN));
    let topic = self::topic();
    let _holds_up = lossless(&topic);
    (0..2).for_each(|_| _ = topic.publish(&[1; 500], Timeout::Now).unwrap());
    assert!(topic.publish(&[], Timeout::Now).unwrap_err().is(Errno::EAGAIN));
}

#[test]
fn a_publisher_waits_for_the_lossless_and_not_for_the_lossy() {
    for mode in [WaitMode::Adaptive, WaitMode::Block, WaitMode::Poll] {
        let topic = Topic::anonymous(TopicOptions { wait: mode, ..small() }).unwrap();
        let (slow, fast, lossy) = (lossless(&topic), lossless(&topic), lossy(&topic));
        (1..=8).for_each(|number| _ = publish(&topic, number));
        (1..=8).for_each(|number| assert_eq!(recv(&fast, Timeout::Now).0, number));
        assert!(topic.publish(b"", Timeout::Now).unwrap_err().is(Errno::EAGAIN));
        assert!(topic.publish(b"", SHORT).unwrap_err().is(Errno::ETIMEDOUT));
        drop(fast);
        std::thread::scope(|scope| {
            let publisher = scope.spawn(|| (9..=100).for_each(|number| _ = publish(&topic, number)));
            (1..=100).for_each(|number| assert_eq!(recv(&slow, GENEROUS), (number, number, 0)));
            publisher.join().unwrap();
        });
        drop(slow);
        // What it has missed, exactly, and then all that is stored.
        let (number, sequence, missed) = recv(&lossy, Timeout::Now);
        assert_eq!((number, sequence), (93, 93));
        assert_eq!((missed, lossy.missed()), (92, 92));
        (94..=100).for_each(|number| assert_eq!(recv(&lossy, Timeout::Now), (number, number, 0)));
        nothing(&lossy);
    }
}

#[test]
fn joining_late_with_history() {
    let topic = topic();
    assert_eq!(
        recv(
            &{
                publish(&topic, 1);
                with_history(&topic, 5)
            },
            Timeout::Now
        )
        .0,
        1
    );
    (2..=20).for_each(|number| _ = publish(&topic, number));
    let subscriptions = [with_history(&topic, 0), with_history(&topic, 3), with_history(&topic, u64::MAX)];
    assert!(topic.publish(b"", Timeout::Now).unwrap_err().is(Errno::EAGAIN), "the last one wants all of it");
    assert_eq!(recv(&subscriptions[2], Timeout::Now).0, 13);
    publish(&topic, 21);
    assert_eq!(recv(&subscriptions[0], Timeout::Now), (21, 21, 0));
    (18..=21).for_each(|number| assert_eq!(recv(&subscriptions[1], Timeout::Now), (number, number, 0)));
    (14..=21).for_each(|number| assert_eq!(recv(&subscriptions[2], Timeout::Now), (number, number, 0)));
    // A depth below what the capacity holds bounds the history too.
    let topic = Topic::anonymous(TopicOptions { depth: 2, ..small() }).unwrap();
    (1..=20).for_each(|number| _ = publish(&topic, number));
    assert_eq!(recv(&with_history(&topic, 9), Timeout::Now).0, 19);
    let _holds_up = with_history(&topic, 9);
    assert!(topic.publish(b"", Timeout::Now).unwrap_err().is(Errno::EAGAIN));
}

#[test]
fn joining_while_others_publish() {
    let topic = topic();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for who in 0..2 {
            let (topic, done) = (again(&topic), &done);
            scope.spawn(move || {
                for number in 0.. {
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                    publish(&topic, number * 2 + who);
                }
            });
        }
        for round in 0..300 {
            let subscription = topic
                .subscribe(SubscribeOptions { history: round % 7, lossy: round % 3 == 0, ..Default::default() })
                .unwrap();
            let mut before: Option<(u64, u64, u64)> = None;
            for _ in 0..20 {
                let now = recv(&subscription, GENEROUS);
                if let Some(before) = before {
                    assert_eq!(now.1, before.1 + 1 + now.2, "neither lost nor twice");
                    assert!(round % 3 == 0 || now.2 == 0);
                } else {
                    assert!(round % 3 == 0 || now.2 == 0);
                }
                before = Some(now);
            }
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn one_order_for_all_and_each_publishers_own() {
    const EACH: u64 = 2000;
    let topic = topic();
    let subscriptions: Vec<_> = (0..3).map(|_| lossless(&topic)).collect();
    let orders: Vec<Vec<u64>> = std::thread::scope(|scope| {
        for who in 0..3 {
            let topic = again(&topic);
            scope.spawn(move || (0..EACH).for_each(|number| _ = publish(&topic, number * 3 + who)));
        }
        let receivers: Vec<_> = subscriptions
            .iter()
            .map(|subscription| {
                scope.spawn(move || (0..3 * EACH).map(|_| recv(subscription, GENEROUS).0).collect::<Vec<_>>())
            })
            .collect();
        receivers.into_iter().map(|receiver| receiver.join().unwrap()).collect()
    });
    assert!(orders.iter().all(|order| *order == orders[0]));
    for who in 0..3 {
        let own = orders[0].iter().filter(|number| *number % 3 == who).map(|number| number / 3);
        assert!(own.eq(0..EACH));
    }
}

#[test]
fn lossy_and_never_torn() {
    const ALL: u64 = 30_000;
    let topic = topic();
    let subscriptions: Vec<_> = (0..2).map(|_| lossy(&topic)).collect();
    std::thread::scope(|scope| {
        for subscription in &subscriptions {
            scope.spawn(move || {
                let (mut sequence, mut missed) = (0, 0);
                while sequence < ALL {
                    let now = recv(subscription, GENEROUS);
                    assert_eq!((now.0, now.1), (now.1, sequence + 1 + now.2), "exactly as many as it was told");
                    (sequence, missed) = (now.1, missed + now.2);
                }
                assert_eq!(missed, subscription.missed());
            });
        }
        (1..=ALL).for_each(|number| _ = publish(&topic, number));
    });
    let subscribers = topic.statistics().unwrap().subscribers;
    assert!(subscribers.iter().all(|who| !who.lossless && who.lag == 0));
}

#[test]
fn threads_share_a_subscription() {
    let topic = topic();
    let subscription = lossless(&topic);
    let mut all: Vec<u64> = std::thread::scope(|scope| {
        let receivers: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| (0..500).map(|_| recv(&subscription, GENEROUS).0).collect::<Vec<_>>()))
            .collect();
        (0..1500).for_each(|number| _ = publish(&topic, number));
        receivers.into_iter().flat_map(|receiver| receiver.join().unwrap()).collect()
    });
    all.sort_unstable();
    assert!(all.into_iter().eq(0..1500), "each to one of them");
}

#[test]
fn written_in_place_and_read_in_place() {
    let topic = topic();
    let subscription = lossless(&topic);
    let mut first = topic.reserve(10, Timeout::Now).unwrap();
    let second = topic.reserve(20, Timeout::Now).unwrap();
    assert_eq!((first.write(8, b"abc"), first.write(11, b"x"), second.length()), (2, 0, 20));
    // SAFETY: ten bytes from there are this test's until it publishes them.
    unsafe { std::ptr::copy_nonoverlapping(b"in place".as_ptr(), first.as_ptr(), 8) };
    assert_eq!(topic.statistics().unwrap().reserved, 2);
    nothing(&subscription);
    assert_eq!(publish(&topic, 1), 1, "nobody waits for one that is not published");
    assert_eq!((first.publish().unwrap(), topic.statistics().unwrap().reserved), (2, 1));
    second.abort().unwrap();
    let borrowed: Vec<_> = (0..2).map(|_| subscription.borrow(Timeout::Now).unwrap()).collect();
    assert!(subscription.borrow(Timeout::Now).unwrap_err().is(Errno::EAGAIN));
    assert_eq!((borrowed[0].to_vec(), borrowed[1].to_vec()), (message(1), b"in placeab".to_vec()));
    assert_eq!((borrowed[1].length(), borrowed[1].sequence()), (10, 2));
    let mut part = [0; 5];
    assert_eq!((borrowed[1].read(3, &mut part), &part), (5, b"place"));
    assert_eq!((borrowed[1].read(9, &mut part), borrowed[1].read(10, &mut part)), (1, 0));
    // SAFETY: ten bytes from there stay as they are until they are released.
    assert_eq!(unsafe { std::slice::from_raw_parts(borrowed[1].as_ptr(), 10) }, b"in placeab");
    let lossy = self::lossy(&topic);
    assert!(lossy.borrow(Timeout::Now).unwrap_err().is(Errno::ENOTSUP));
    assert_eq!(topic.statistics().unwrap().reserved, 0);
}

#[test]
fn borrowed_messages_are_released_in_any_order() {
    let topic = topic();
    let subscription = lossless(&topic);
    (1..=8).for_each(|number| _ = publish(&topic, number));
    let mut borrowed: Vec<_> = (0..8).map(|_| subscription.borrow(Timeout::Now).unwrap()).collect();
    let full = || topic.publish(b"", Timeout::Now).unwrap_err().is(Errno::EAGAIN);
    drop(borrowed.pop());
    borrowed.remove(3).release().unwrap();
    assert!(full(), "the first is in use");
    assert_eq!(topic.statistics().unwrap().subscribers[0].lag, 8);
    drop(borrowed.remove(0));
    assert_eq!(publish(&topic, 9), 9);
    assert!(full());
    assert_eq!(borrowed.iter().map(|message| number_of(&message.to_vec())).collect::<Vec<_>>(), [2, 3, 5, 6, 7]);
    drop(borrowed);
    assert_eq!(recv(&subscription, Timeout::Now), (9, 9, 0));
    assert_eq!(topic.statistics().unwrap().subscribers[0].lag, 0);
}

#[test]
fn batches() {
    let topic = topic();
    let subscription = lossless(&topic);
    let messages: Vec<_> = (0..10).map(message).collect();
    let slices: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
    assert_eq!(topic.publish_batch(&slices, SHORT).unwrap(), 8);
    assert!(topic.publish_batch(&slices, Timeout::Now).unwrap_err().is(Errno::EAGAIN));
    assert_eq!(topic.publish_batch(&[], Timeout::Now).unwrap(), 0);
    let none = TopicReceived { length: 0, sequence: 0, missed: 0 };
    let (mut buffer, mut received) = ([0; 500], [none; 5]);
    assert_eq!(subscription.recv_batch(&mut buffer, &mut received, Timeout::Now).unwrap(), 5);
    let mut at = 0;
    for (number, received) in received.iter().enumerate() {
        assert_eq!(
            (number_of(&buffer[at..at + received.length]), received.sequence),
            (number as u64, number as u64 + 1)
        );
        at += received.length;
    }
    let room = messages[5].len() + messages[6].len() + messages[7].len() - 1;
    assert_eq!(subscription.recv_batch(&mut buffer[..room], &mut received, Timeout::Now).unwrap(), 2);
    assert_eq!(subscription.recv_batch(&mut buffer, &mut received, Timeout::Now).unwrap(), 1);
    assert!(subscription.recv_batch(&mut buffer, &mut received, Timeout::Now).unwrap_err().is(Errno::EAGAIN));
    assert_eq!(subscription.recv_batch(&mut buffer, &mut [], Timeout::Now).unwrap(), 0);
}

#[test]
fn a_stuck_subscriber_is_cut_off_and_told() {
    let topic = topic();
    let stuck = Some(Duration::from_millis(30));
    let subscription = topic.subscribe(SubscribeOptions { stuck, ..Default::default() }).unwrap();
    let other = lossless(&topic);
    let borrowed = {
        publish(&topic, 1);
        subscription.borrow(Timeout::Now).unwrap()
    };
    (2..=8).for_each(|number| _ = publish(&topic, number));
    std::thread::scope(|scope| {
        // While nobody waits, it may take its time.
        scope.spawn(|| (9..=100).for_each(|number| _ = publish(&topic, number)));
        (1..=100).for_each(|number| assert_eq!(recv(&other, GENEROUS), (number, number, 0)));
    });
    let subscribers = topic.statistics().unwrap().subscribers;
    assert_eq!(subscribers.iter().map(|who| who.cut_off).collect::<Vec<_>>(), [true, false]);
    for _ in 0..2 {
        let told = subscription.recv(&mut [0; 500], GENEROUS).unwrap_err();
        assert!(told.is(Errno::ECONNABORTED) && told.to_string().contains("subscribe anew"), "{told}");
    }
    assert!(borrowed.release().unwrap_err().is(Errno::ECONNABORTED));
    drop(subscription);
    assert_eq!(topic.statistics().unwrap().subscribers.len(), 1);
}

#[test]
fn places_run_out_and_come_back() {
    let topic = Topic::anonymous(TopicOptions { subscribers: 2, ..small() }).unwrap();
    let first = lossless(&topic);
    let _second = lossy(&topic);
    let refused = topic.subscribe(SubscribeOptions::default()).unwrap_err();
    assert!(refused.is(Errno::EUSERS), "{refused}");
    drop(first);
    fork(|| {
        std::mem::forget(lossless(&topic));
        // SAFETY: ends this process without any clean-up.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    })
    .wait();
    // By a handle that has asked for the dead a moment ago.
    let third = lossless(&topic);
    assert_eq!((topic.statistics().unwrap().subscribers.len(), third.missed()), (2, 0));
}

#[test]
fn a_dead_subscriber_holds_up_nobody() {
    let topic = topic();
    let child = fork(|| {
        let subscription = lossless(&topic);
        let _borrowed = subscription.borrow(GENEROUS);
        loop {
            std::thread::sleep(Duration::from_secs(1));
        }
    });
    eventually("it has subscribed", || topic.statistics().unwrap().subscribers.len() == 1);
    (1..=8).for_each(|number| _ = publish(&topic, number));
    assert!(topic.publish(b"", SHORT).unwrap_err().is(Errno::ETIMEDOUT));
    std::thread::scope(|scope| {
        let publisher = scope.spawn(|| publish(&topic, 9));
        child.kill(libc::SIGKILL);
        child.wait();
        assert_eq!(publisher.join().unwrap(), 9);
    });
    assert_eq!(topic.statistics().unwrap().subscribers, []);
}

#[test]
fn what_a_dead_publisher_was_making_is_skipped_and_counted() {
    let topic = topic();
    let subscription = lossless(&topic);
    for round in 1..=20 {
        fork(|| {
            std::mem::forget((topic.reserve(100, Timeout::Now).unwrap(), topic.reserve(300, Timeout::Now).unwrap()));
            publish(&topic, round);
            // SAFETY: ends this process without any clean-up.
            unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
        })
        .wait();
        assert_eq!(recv(&subscription, Timeout::Now), (round, round, 0));
        let statistics = again(&topic).statistics().unwrap();
        assert_eq!((statistics.sent, statistics.skipped, statistics.reserved), (round, 2 * round, 0));
    }
}

#[test]
fn a_stopped_publisher_and_a_stopped_lossy_subscriber_are_in_nobodys_way() {
    let topic = topic();
    let child = fork(|| {
        let _lossy = lossy(&topic);
        let reserved = topic.reserve(100, Timeout::Now).unwrap();
        // SAFETY: stops this process.
        unsafe { libc::kill(libc::getpid(), libc::SIGSTOP) };
        reserved.publish().unwrap();
    });
    eventually("it has reserved", || topic.statistics().unwrap().reserved == 1);
    let subscription = lossless(&topic);
    for number in 1..=100 {
        publish(&topic, number);
        assert_eq!(recv(&subscription, Timeout::Now), (number, number, 0));
    }
    child.kill(libc::SIGCONT);
    child.join();
    assert_eq!(subscription.recv(&mut [0; 500], GENEROUS).unwrap().sequence, 101);
}

#[test]
fn a_child_takes_part_as_itself_and_what_the_parent_holds_stays_the_parents() {
    let topic = topic();
    let subscription = lossless(&topic);
    let mut reserved = Some(topic.reserve(5, Timeout::Now).unwrap());
    publish(&topic, 1);
    let borrowed = subscription.borrow(Timeout::Now).unwrap();
    fork(|| {
        let own = with_history(&topic, 1);
        assert_eq!(recv(&own, Timeout::Now).0, 1);
        assert_eq!(publish(&topic, 2), 2);
        assert_eq!(recv(&own, Timeout::Now).0, 2);
        assert!(subscription.borrow(Timeout::Now).unwrap_err().is(Errno::EPERM));
        assert!(reserved.take().unwrap().publish().unwrap_err().is(Errno::EPERM));
    })
    .join();
    borrowed.release().unwrap();
    assert_eq!(recv(&subscription, Timeout::Now), (2, 2, 0));
    assert_eq!(reserved.unwrap().publish().unwrap(), 3);
    assert_eq!(topic.statistics().unwrap().subscribers.len(), 1);
}

#[test]
fn across_processes_by_name_asleep() {
    let name: Address = format!("topic:{}?capacity=1024&largest=500", fresh("topic")).parse().unwrap();
    let topic = Topic::open(&name, TopicOptions::default()).unwrap();
    let back = topic.subscribe(SubscribeOptions::default()).unwrap();
    let children: Vec<_> = (1..=2)
        .map(|who| {
            fork(|| {
                let topic = Topic::open(&name, TopicOptions { wait: WaitMode::Block, ..Default::default() }).unwrap();
                let subscription = topic.subscribe(SubscribeOptions::default()).unwrap();
                loop {
                    let (number, ..) = recv(&subscription, GENEROUS);
                    if number == 7 {
                        publish(&topic, 10 * who);
                        break;
                    }
                }
            })
        })
        .collect();
    eventually("they sleep", || {
        topic.statistics().unwrap().subscribers.len() == 3 && children.iter().all(|child| is_asleep(child.pid()))
    });
    publish(&topic, 7);
    assert_eq!(recv(&back, GENEROUS).0, 7);
    let mut answers = [recv(&back, GENEROUS).0, recv(&back, GENEROUS).0];
    answers.sort_unstable();
    assert_eq!(answers, [10, 20]);
    children.into_iter().for_each(support::Child::join);
    assert_eq!(topic.statistics().unwrap().capacity, 1024);
    topic.check().unwrap();
    Topic::remove(&name).unwrap();
    assert!(topic.check().unwrap_err().is(Errno::ESTALE));
    assert!(Topic::remove(&name).unwrap_err().is(Errno::ENOENT));
}

#[test]
fn waits_are_ended() {
    let topic = Arc::new(topic());
    let subscription = Arc::new(lossless(&topic));
    assert!(subscription.recv(&mut [0; 9], SHORT).unwrap_err().is(Errno::ETIMEDOUT));
    (1..=8).for_each(|number| _ = publish(&topic, number));
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| topic.publish(b"", Timeout::Forever).unwrap_err().is(Errno::ECANCELED));
        topic.end_waits();
        assert!(waiter.join().unwrap());
    });
    let cancel = Cancel::new();
    cancel.fire();
    let cancelled = {
        let _scope = cancel.enter();
        topic.reserve(0, GENEROUS).unwrap_err()
    };
    assert!(cancelled.is(Errno::ECANCELED));
    subscription.end_waits();
    (1..=8).for_each(|number| assert_eq!(recv(&subscription, Timeout::Now).0, number));
    assert!(subscription.recv(&mut [0; 9], Timeout::Forever).unwrap_err().is(Errno::ECANCELED));
}

#[test]
fn the_doorbell_rings_for_messages_and_for_being_cut_off() {
    let topic = topic();
    let stuck = Some(Duration::from_millis(1));
    let subscription = topic.subscribe(SubscribeOptions { stuck, ..Default::default() }).unwrap();
    let set = WaitSet::new().unwrap();
    set.add(&subscription.doorbell().unwrap(), Interest::READABLE, 5).unwrap();
    let mut events = [WaitSetEvent::default(); 4];
    let mut rings = |timeout| set.wait(&mut events, timeout).is_ok();
    nothing(&subscription);
    assert!(!rings(SHORT));
    for number in 1..=3 {
        publish(&topic, number);
        assert!(rings(GENEROUS));
        assert_eq!(recv(&subscription, Timeout::Now).0, number);
        // It may ring once more for what was received before the helper looked; then it is quiet.
        nothing(&subscription);
        while rings(SHORT) {
            nothing(&subscription);
        }
    }
    (4..=12).for_each(|number| _ = publish(&topic, number));
    assert!(rings(GENEROUS));
    assert!(subscription.recv(&mut [0; 500], Timeout::Now).unwrap_err().is(Errno::ECONNABORTED));
}

#[test]
fn owned_guards_outlive_the_handles_that_made_them() {
    let topic = Arc::new(topic());
    let subscription = Arc::new(lossless(&topic));
    let mut reserved = topic.reserve_owned(8, Timeout::Now).unwrap();
    reserved.write(0, &message(0)[..8]);
    drop(topic);
    assert_eq!(reserved.publish().unwrap(), 1);
    let borrowed = subscription.borrow_owned(Timeout::Now).unwrap();
    drop(subscription);
    assert_eq!(borrowed.to_vec(), 0u64.to_le_bytes());
    borrowed.release().unwrap();
}
