//! Who sleeps in a receiver hears every source: the one that is aside, those behind the gate, and what moves between.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, poll};
use wigwag::{Address, Channel, Timeout};

use super::open;
use crate::support::{GENEROUS, fork};

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

#[test]
fn a_message_that_lies_beside_its_queue_is_shown_and_counted() {
    let ends = open("mq?depth=4&size=512");
    let receiver = &ends.receiver;
    let waiting = || receiver.statistics().waiting.unwrap();
    for asked_before in [false, true] {
        assert!(!asked_before || !is_ready(receiver, 0u16));
        ends.sender.send(&[1; 100], GENEROUS).unwrap();
        ends.sender.send(&[2; 5], GENEROUS).unwrap();
        for _ in 0..2 {
            assert_eq!(receiver.recv(&mut [0; 10], Timeout::Now).unwrap_err().true_size(), 100);
            assert_eq!(waiting(), 2);
        }
        fork(|| assert!(is_ready(receiver, 0u16) && waiting() == 1, "the one beside it is the parent's")).join();
        assert_eq!(receiver.recv(&mut [0; 100], Timeout::Now).unwrap().length, 100);
        assert_eq!(waiting(), 1);
        assert_eq!(receiver.recv(&mut [0; 10], Timeout::Now).unwrap().length, 5);
        assert_eq!(waiting(), 0);
        ends.sender.send(&[3; 100], GENEROUS).unwrap();
        assert_eq!(receiver.recv(&mut [0; 10], Timeout::Now).unwrap_err().errno(), libc::EMSGSIZE);
        assert!(is_ready(receiver, 0u16), "the queue is empty, and the message in memory");
        fork(|| assert!(!is_ready(receiver, 0u16))).join();
        assert_eq!(receiver.recv_message(Timeout::Now).unwrap().data, [3; 100]);
        assert!(!is_ready(receiver, 0u16));
    }
}

#[test]
fn who_asks_for_the_descriptor_waits_for_nobody_who_receives() {
    let ends = open("mq?depth=4&size=512");
    std::thread::scope(|scope| {
        let small = scope.spawn(|| ends.receiver.recv(&mut [0; 10], GENEROUS).unwrap().length);
        assert!(!is_ready(&ends.receiver, 10u16));
        assert_eq!(ends.receiver.statistics().waiting, Some(0));
        ends.sender.send(b"for it", GENEROUS).unwrap();
        assert_eq!(small.join().unwrap(), 6);
    });
}

#[test]
fn a_killed_child_leaves_no_bell_rung() {
    let (receiver, sender) = Channel::pair(&"pipe:".parse().unwrap()).unwrap();
    sender.send(b"one", GENEROUS).unwrap();
    sender.send(b"two", GENEROUS).unwrap();
    assert!(is_ready(&receiver, 30_000u16), "what the child asks for is its own all the same");
    let child = fork(|| {
        assert!(is_ready(&receiver, 30_000u16));
        assert_eq!(receiver.recv_message(GENEROUS).unwrap().data, b"one");
        assert!(is_ready(&receiver, 0u16), "the other is in its memory");
        // SAFETY: a plain system call.
        unsafe { libc::raise(libc::SIGKILL) };
    });
    assert!(libc::WIFSIGNALED(child.wait()));
    assert!(!is_ready(&receiver, 0u16));
    sender.send(b"three", GENEROUS).unwrap();
    assert!(is_ready(&receiver, 30_000u16));
    assert_eq!(receiver.recv_message(Timeout::Now).unwrap().data, b"three");
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

#[test]
fn a_sender_that_is_cut_off_hears_of_it_although_others_sleep_on_its_connection() {
    let (_directory, address) = named("unix");
    let receiver = Channel::open_receiver(&address, Timeout::Now).unwrap();
    let mut stranger = UnixStream::connect(address.path()).unwrap();
    stranger.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stranger.write_all(b"\0\0\0\x05hello").unwrap();
    assert_eq!(receiver.recv_message(GENEROUS).unwrap().data, b"hello");
    std::thread::scope(|scope| {
        let sleepers = [(); 2].map(|()| scope.spawn(|| receiver.recv_message(GENEROUS).map(|message| message.data)));
        stranger.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        let end = stranger.read(&mut [0; 8]).map_err(|error| error.kind());
        assert!(matches!(end, Ok(0) | Err(ErrorKind::ConnectionReset)), "{end:?}");
        let sender = Channel::open_sender(&address, GENEROUS).unwrap();
        sender.send(b"for the other", GENEROUS).unwrap();
        let heard = sleepers.map(|sleeper| sleeper.join().unwrap());
        let errors: Vec<_> = heard.iter().filter_map(|heard| heard.as_ref().err()).collect();
        assert!(errors.len() == 1 && errors[0].errno() == libc::EBADMSG, "{heard:?}");
        assert!(heard.iter().flatten().all(|data| data == b"for the other"), "{heard:?}");
    });
    assert_eq!(receiver.statistics().cut_off, 1);
}
