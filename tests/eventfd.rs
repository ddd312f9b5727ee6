//! Event counters between processes, also unrelated ones, and when one of them is killed.

mod support;

use std::os::fd::AsFd;

use nix::errno::Errno;
use proptest::prelude::*;
use support::{Child, GENEROUS, SHORT, eventually, fork, is_asleep};
use wigwag::{EVENTFD_MAX, EventFd, EventFdOptions, Scheme, Socket, Timeout};

fn semaphore() -> EventFd {
    EventFd::open(EventFdOptions { semaphore: true, ..Default::default() }).unwrap()
}

fn kill(child: Child) {
    child.kill(libc::SIGKILL);
    assert_eq!(child.wait(), libc::SIGKILL);
}

#[test]
fn to_a_child_and_back() {
    let (there, back) = (EventFd::new().unwrap(), EventFd::new().unwrap());
    let child = fork(|| {
        for _ in 0..100 {
            let events = there.take(GENEROUS).unwrap();
            back.add(events, GENEROUS).unwrap();
        }
    });
    for events in 1..=100 {
        there.add(events, GENEROUS).unwrap();
        assert_eq!(back.take(GENEROUS).unwrap(), events);
    }
    child.join();
}

#[test]
fn to_a_process_that_got_the_descriptor() {
    let (here, there) = Socket::pair(Scheme::Unix).unwrap();
    let child = fork(|| {
        let mut received = there.recv_fds(&mut [0; 1], 1, GENEROUS).unwrap();
        EventFd::from_fd(received.descriptors.remove(0)).add(7, GENEROUS).unwrap();
    });
    let events = EventFd::new().unwrap(); // made after the fork: not inherited
    here.send_fds(b"x", &[events.as_fd()], GENEROUS).unwrap();
    assert_eq!(events.take(GENEROUS).unwrap(), 7);
    child.join();
}

#[test]
fn every_event_is_taken_by_one() {
    let (events, taken) = (semaphore(), EventFd::new().unwrap());
    let children: Vec<_> = (0..3)
        .map(|_| {
            fork(|| {
                let mut count = 0;
                while events.take(Timeout::After(std::time::Duration::from_millis(200))).is_ok() {
                    count += 1;
                }
                taken.add(count, GENEROUS).unwrap();
            })
        })
        .collect();
    for _ in 0..300 {
        events.add(1, GENEROUS).unwrap();
    }
    children.into_iter().for_each(Child::join);
    let left = if events.take(Timeout::Now).is_ok() { 1 } else { 0 };
    assert_eq!((taken.take(Timeout::Now).unwrap(), left), (300, 0));
}

#[test]
fn a_killed_taker_takes_nothing() {
    let events = EventFd::new().unwrap();
    let child = fork(|| drop(events.take(Timeout::Forever)));
    eventually("the child waits", || is_asleep(child.pid()));
    kill(child);
    events.add(3, Timeout::Now).unwrap();
    assert_eq!(events.take(Timeout::Now).unwrap(), 3);
}

#[test]
fn what_a_killed_process_added_stays() {
    let (events, never) = (EventFd::new().unwrap(), EventFd::new().unwrap());
    let child = fork(|| {
        events.add(5, GENEROUS).unwrap();
        let _ = never.take(Timeout::Forever);
    });
    eventually("the child waits", || is_asleep(child.pid()));
    kill(child);
    assert_eq!(events.take(Timeout::Now).unwrap(), 5);
    assert!(events.take(SHORT).unwrap_err().is(Errno::ETIMEDOUT), "the death itself is no event");
}

#[test]
fn a_full_counter_wakes_who_waits_to_add() {
    let events = EventFd::open(EventFdOptions { initial: EVENTFD_MAX, ..Default::default() }).unwrap();
    let child = fork(|| events.add(9, GENEROUS).unwrap());
    eventually("the child waits", || is_asleep(child.pid()));
    assert_eq!(events.take(GENEROUS).unwrap(), EVENTFD_MAX);
    child.join();
    assert_eq!(events.take(GENEROUS).unwrap(), 9);
}

proptest! {
    #[test]
    fn counts_as_a_number_does(
        semaphore in any::<bool>(),
        initial in prop_oneof![0..5_u64, EVENTFD_MAX - 5..=EVENTFD_MAX],
        steps in proptest::collection::vec(proptest::option::of(prop_oneof![0..4_u64, any::<u64>()]), 0..40),
    ) {
        let events = EventFd::open(EventFdOptions { initial, semaphore }).unwrap();
        let mut model = initial;
        for step in steps {
            match step {
                Some(u64::MAX) => prop_assert!(events.add(u64::MAX, Timeout::Now).unwrap_err().is(Errno::EINVAL)),
                Some(value) if value <= EVENTFD_MAX - model => {
                    events.add(value, Timeout::Now).unwrap();
                    model += value;
                }
                Some(value) => prop_assert!(events.add(value, Timeout::Now).unwrap_err().is(Errno::EAGAIN)),
                None if model == 0 => prop_assert!(events.take(Timeout::Now).unwrap_err().is(Errno::EAGAIN)),
                None => {
                    let taken = if semaphore { 1 } else { model };
                    prop_assert_eq!(events.take(Timeout::Now).unwrap(), taken);
                    model -= taken;
                }
            }
        }
    }
}
