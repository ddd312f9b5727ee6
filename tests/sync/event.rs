//! Events between threads and processes.

use std::os::fd::AsFd;

use nix::errno::Errno;
use wigwag::{Event, EventOptions, Interest, Timeout, WaitSet, WaitSetEvent};

use crate::shared_counter;
use crate::support::{GENEROUS, SHORT, eventually, fork, fresh};
use std::sync::atomic::Ordering;

fn event(auto_reset: bool) -> Event {
    Event::anonymous(EventOptions { auto_reset, ..Default::default() }).unwrap()
}

fn waiting(event: &Event, count: u32) -> impl FnMut() -> bool {
    move || {
        let participants = event.statistics().unwrap().participants;
        participants.iter().map(|participant| participant.waiting).sum::<u32>() == count
    }
}

#[test]
fn it_stays_until_it_is_taken_back() {
    let event = event(false);
    assert!(event.wait(Timeout::Now).unwrap_err().is(Errno::EAGAIN));
    assert!(event.wait(SHORT).unwrap_err().is(Errno::ETIMEDOUT));
    assert!(event.set().unwrap() && !event.set().unwrap());
    event.wait(Timeout::Now).unwrap();
    event.wait(Timeout::Now).unwrap();
    assert!(event.clear().unwrap() && !event.clear().unwrap() && !event.is_set());
    event.set().unwrap();
    let statistics = event.statistics().unwrap();
    assert_eq!((statistics.is_set, statistics.times, statistics.auto_reset), (true, 2, false));
}

#[test]
fn all_who_wait_go_on_even_if_it_is_taken_back_at_once() {
    let event = event(false);
    let children = [(); 3].map(|()| fork(|| event.wait(GENEROUS).unwrap()));
    eventually("all wait", waiting(&event, 3));
    event.set().unwrap();
    event.clear().unwrap();
    for child in children {
        child.join();
    }
    assert!(event.wait(Timeout::Now).is_err());
}

#[test]
fn each_time_lets_one_through() {
    let (event, through) = (event(true), shared_counter());
    let children = [(); 3].map(|()| {
        fork(|| {
            event.wait(GENEROUS).unwrap();
            through.fetch_add(1, Ordering::SeqCst);
        })
    });
    for count in 0..3 {
        eventually("the others wait", waiting(&event, 3 - count));
        assert!(event.set().unwrap());
        eventually("one is through", || through.load(Ordering::SeqCst) == u64::from(count) + 1);
        assert!(!event.is_set());
    }
    for child in children {
        child.join();
    }
}

#[test]
fn its_descriptor_is_readable_while_it_is_set() {
    let event = event(false);
    let other = Event::from_fd(event.as_fd().try_clone_to_owned().unwrap(), EventOptions::default()).unwrap();
    let set = WaitSet::new().unwrap();
    set.add(&other.doorbell().unwrap(), Interest::READABLE, 1).unwrap();
    let mut events = [WaitSetEvent::default()];
    assert!(set.wait(&mut events, SHORT).is_err());
    event.set().unwrap();
    set.wait(&mut events, GENEROUS).unwrap();
    event.clear().unwrap();
    assert!(other.wait(Timeout::Now).is_err());
    assert!(set.wait(&mut events, SHORT).is_err());
    event.end_waits();
    assert!(event.wait(GENEROUS).unwrap_err().is(Errno::ECANCELED));
}

#[test]
fn what_it_is_is_decided_by_who_makes_it() {
    let address: wigwag::Address = format!("event:{}?auto-reset=1", fresh("event")).parse().unwrap();
    let first = Event::open(&address, EventOptions::default()).unwrap();
    let second = Event::open(&address.without_options(), EventOptions::default()).unwrap();
    first.set().unwrap();
    second.wait(Timeout::Now).unwrap();
    assert!(!first.is_set() && second.statistics().unwrap().auto_reset);
    Event::remove(&address).unwrap();
    assert!(first.check().unwrap_err().is(Errno::ESTALE));
}
