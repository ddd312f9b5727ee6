//! Who sleeps in a receiver hears every source: the one that is aside, those behind the gate, and what moves between.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::poll::{PollFd, PollFlags, poll};
use wigwag::{Address, Channel, Timeout};

use crate::support::GENEROUS;

fn named(scheme: &str) -> (tempfile::TempDir, Address) {
    let directory = tempfile::tempdir().unwrap();
    let address = format!("{scheme}:{}", directory.path().join("end").display()).parse().unwrap();
    (directory, address)
}

fn is_ready(receiver: &Channel, timeout: u16) -> bool {
    let (fd, _) = receiver.descriptor().unwrap();
    poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], timeout).unwrap() == 1
}

#[test]
fn a_descriptor_shows_a_sender_that_was_there_before_it() {
    for scheme in ["unix", "unix-seqpacket"] {
        let (_directory, address) = named(scheme);
        let receiver = Channel::open_receiver(&address, Timeout::Now).unwrap();
        let first = Channel::open_sender(&address, GENEROUS).unwrap();
        first.send(b"before", GENEROUS).unwrap();
        assert_eq!(receiver.recv_message(GENEROUS).unwrap().data, b"before");
        assert!(!is_ready(&receiver, 0u16), "{scheme}");
        first.send(b"after", GENEROUS).unwrap();
        assert!(is_ready(&receiver, 30_000u16), "{scheme}");
        assert_eq!(receiver.recv_message(Timeout::Now).unwrap().data, b"after");
        let second = Channel::open_sender(&address, GENEROUS).unwrap();
        second.send(b"second", GENEROUS).unwrap();
        assert!(is_ready(&receiver, 30_000u16), "{scheme}");
        assert_eq!(receiver.recv_message(GENEROUS).unwrap().data, b"second");
    }
}

#[test]
fn a_descriptor_shows_what_comes_through_a_pipe_that_was_read_before() {
    let (receiver, sender) = Channel::pair(&"pipe:".parse().unwrap()).unwrap();
    sender.send(b"before", GENEROUS).unwrap();
    assert_eq!(receiver.recv_message(GENEROUS).unwrap().data, b"before");
    assert!(!is_ready(&receiver, 0u16));
    sender.send(b"after", GENEROUS).unwrap();
    assert!(is_ready(&receiver, 30_000u16));
    assert_eq!(receiver.recv_message(Timeout::Now).unwrap().data, b"after");
}

#[test]
fn a_pipe_goes_behind_the_gate_while_somebody_sleeps_on_it() {
    let (receiver, sender) = Channel::pair(&"pipe:".parse().unwrap()).unwrap();
    std::thread::scope(|scope| {
        let sleeper = scope.spawn(|| receiver.recv_message(GENEROUS).unwrap().data);
        receiver.descriptor().unwrap();
        sender.send(b"heard", GENEROUS).unwrap();
        assert_eq!(sleeper.join().unwrap(), b"heard");
    });
}

/// Senders come and go, one at a time and two at a time, while several threads sleep in the receiver and one looks
/// without sleeping: the connection that they sleep on changes under them.
#[test]
fn sleepers_hear_senders_that_come_while_others_go() {
    const SLEEPERS: u32 = 3;
    const ROUNDS: u32 = 40;
    for scheme in ["unix", "unix-seqpacket"] {
        let (_directory, address) = named(scheme);
        let receiver = Channel::open_receiver(&address, Timeout::Now).unwrap();
        let received = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..SLEEPERS {
                scope.spawn(|| {
                    while receiver.recv_message(GENEROUS).unwrap().data != b"end" {
                        received.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
            for round in 0..ROUNDS {
                let sender = Channel::open_sender(&address, GENEROUS).unwrap();
                let other = (round % 3 == 0).then(|| Channel::open_sender(&address, GENEROUS).unwrap());
                for sender in std::iter::once(&sender).chain(&other) {
                    sender.send(b"a message", GENEROUS).unwrap();
                    if let Ok(message) = receiver.recv_message(Timeout::Now) {
                        assert_eq!(message.data, b"a message");
                        received.fetch_add(1, Ordering::SeqCst);
                    }
                }
                sender.flush(GENEROUS).unwrap();
            }
            let last = Channel::open_sender(&address, GENEROUS).unwrap();
            for _ in 0..SLEEPERS {
                last.send(b"end", GENEROUS).unwrap();
            }
            last.flush(GENEROUS).unwrap();
        });
        assert_eq!(received.load(Ordering::SeqCst), ROUNDS + ROUNDS.div_ceil(3), "{scheme}");
    }
}
