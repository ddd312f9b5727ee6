//! Where a topic's publishers find room: old messages stay, and nobody is cut off, for as long as there is some.

mod support;

use std::os::fd::AsFd;
use std::time::Duration;

use support::GENEROUS;
use wigwag::{SubscribeOptions, Timeout, Topic, TopicOptions};

fn options() -> TopicOptions {
    TopicOptions { capacity: 64 << 10, largest: 500, depth: 100, participants: 8, ..Default::default() }
}

/// Publishes by a handle that has not published before.
fn publish_by_another(topic: &Topic, message: &[u8]) {
    let other = Topic::from_fd(topic.as_fd().try_clone_to_owned().unwrap(), options()).unwrap();
    other.publish(message, GENEROUS).unwrap();
}

#[test]
fn publishers_that_come_and_go_leave_the_history_whole() {
    let topic = Topic::anonymous(options()).unwrap();
    (0..60u8).for_each(|number| publish_by_another(&topic, &[number; 300]));
    assert_eq!(topic.statistics().unwrap().stored, 60);
    let late = topic.subscribe(SubscribeOptions { history: 60, ..Default::default() }).unwrap();
    for number in 0..60u8 {
        let mut buffer = [0; 500];
        let received = late.recv(&mut buffer, Timeout::Now).unwrap();
        assert_eq!((received.length, buffer[0], received.missed), (300, number, 0));
    }
}

#[test]
fn publishers_in_turn_leave_the_history_whole() {
    let first = Topic::anonymous(options()).unwrap();
    let second = Topic::from_fd(first.as_fd().try_clone_to_owned().unwrap(), options()).unwrap();
    (0..10u8).for_each(|number| _ = first.publish(&[number; 9], GENEROUS).unwrap());
    (10..50u8).for_each(|number| _ = second.publish(&[number; 9], GENEROUS).unwrap());
    (50..60u8).for_each(|number| _ = first.publish(&[number; 9], GENEROUS).unwrap());
    assert_eq!(first.statistics().unwrap().stored, 60);
}

#[test]
fn what_is_reserved_ahead_leaves_the_history_whole() {
    let first = Topic::anonymous(options()).unwrap();
    let second = Topic::from_fd(first.as_fd().try_clone_to_owned().unwrap(), options()).unwrap();
    (0..10u8).for_each(|number| _ = first.publish(&[number; 9], GENEROUS).unwrap());
    let reserved = first.reserve(500, GENEROUS).unwrap();
    (10..60u8).for_each(|number| _ = second.publish(&[number; 9], GENEROUS).unwrap());
    assert_eq!(first.statistics().unwrap().stored, 60);
    reserved.publish().unwrap();
    assert_eq!(first.statistics().unwrap().stored, 61);
}

#[test]
fn who_holds_up_nobody_is_not_cut_off() {
    let topic = Topic::anonymous(options()).unwrap();
    let stuck = Some(Duration::from_millis(1));
    let slow = topic.subscribe(SubscribeOptions { stuck, ..Default::default() }).unwrap();
    for number in 0..60u8 {
        publish_by_another(&topic, &[number]);
        if number % 10 == 9 {
            std::thread::sleep(Duration::from_millis(12)); // longer than its limit, by any clock
        }
    }
    for number in 0..60u8 {
        let mut buffer = [0; 500];
        slow.recv(&mut buffer, Timeout::Now).unwrap();
        assert_eq!(buffer[0], number);
    }
}
