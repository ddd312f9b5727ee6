//! What becomes of answers when the connection that they came over is given up.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;

use nix::errno::Errno;
use wigwag::{Address, Channel, Timeout};

use crate::support::{GENEROUS, SHORT};

fn fresh(scheme: &str) -> (tempfile::TempDir, Address) {
    let directory = tempfile::tempdir().unwrap();
    let address = format!("{scheme}:{}", directory.path().join("socket").display()).parse().unwrap();
    (directory, address)
}

/// One question, received and answered.
fn answer(receiver: &Channel, question: &[u8], answer: &[u8]) {
    let message = receiver.recv_message(GENEROUS).unwrap();
    assert_eq!(message.data, question);
    receiver.reply(&message.received.peer.unwrap(), answer, GENEROUS).unwrap();
}

#[test]
fn after_an_answer_that_is_too_large_comes_another_connection() {
    let (_directory, address) = fresh("unix");
    let receiver = Channel::open_receiver(&address, Timeout::Now).unwrap();
    let sender = Channel::open_sender(&format!("{address}?largest=100").parse().unwrap(), GENEROUS).unwrap();
    sender.send(b"one", GENEROUS).unwrap();
    answer(&receiver, b"one", &[1; 200]);
    assert_eq!(sender.recv_message(GENEROUS).unwrap_err().errno(), libc::EBADMSG);
    assert_eq!(sender.recv_message(GENEROUS).unwrap_err().errno(), libc::EPIPE);
    for question in [b"two", b"six"] {
        sender.send(question, GENEROUS).unwrap();
        answer(&receiver, question, b"ok");
        assert_eq!(sender.recv_message(GENEROUS).unwrap().data, b"ok");
    }
    let seen = sender.statistics();
    assert_eq!((seen.cut_off, seen.reconnects, seen.unconfirmed, seen.torn), (1, 1, 0, 0));
}

#[test]
fn answers_of_a_receiver_that_has_gone_are_received_first() {
    for scheme in ["unix", "unix-seqpacket"] {
        let (_directory, address) = fresh(scheme);
        let receiver = Channel::open_receiver(&address, Timeout::Now).unwrap();
        let sender = Channel::open_sender(&address, GENEROUS).unwrap();
        sender.send(b"one", GENEROUS).unwrap();
        answer(&receiver, b"one", b"first");
        drop(receiver);
        let receiver = Channel::open_receiver(&address, Timeout::Now).unwrap();
        sender.send(b"two", GENEROUS).unwrap();
        answer(&receiver, b"two", b"second");
        assert_eq!(sender.recv_message(GENEROUS).unwrap().data, b"first", "{scheme}");
        assert_eq!(sender.recv_message(GENEROUS).unwrap().data, b"second", "{scheme}");
        assert_eq!(sender.recv_message(SHORT).unwrap_err().errno(), libc::ETIMEDOUT, "{scheme}");
        assert_eq!((sender.statistics().reconnects, sender.statistics().torn), (1, 0), "{scheme}");
    }
}

#[test]
fn answers_that_nobody_receives_are_given_up_and_counted() {
    let (_directory, address) = fresh("unix");
    let mut receiver = Channel::open_receiver(&address, Timeout::Now).unwrap();
    let sender = Channel::open_sender(&address, GENEROUS).unwrap();
    for given_up in [0, 0, 1, 2] {
        sender.send(b"question", GENEROUS).unwrap();
        assert_eq!(sender.statistics().torn, given_up);
        answer(&receiver, b"question", b"answer");
        drop(receiver);
        receiver = Channel::open_receiver(&address, Timeout::Now).unwrap();
    }
    for _ in 0..2 {
        assert_eq!(sender.recv_message(GENEROUS).unwrap().data, b"answer");
    }
    assert_eq!(sender.recv_message(GENEROUS).unwrap_err().errno(), libc::EPIPE);
}

#[test]
fn half_an_answer_of_the_dead_does_not_hide_the_next_receivers() {
    let (directory, address) = fresh("unix");
    let listener = UnixListener::bind(address.path()).unwrap();
    let sender = Channel::open_sender(&address, GENEROUS).unwrap();
    let (mut other, _) = listener.accept().unwrap();
    other.write_all(&[0, 0, 0, 9, b'h', b'a', b'l', b'f']).unwrap();
    sender.send(b"one", GENEROUS).unwrap();
    other.read_exact(&mut [0; 7]).unwrap();
    assert!(sender.recv_message(SHORT).unwrap_err().is(Errno::ETIMEDOUT));
    drop((other, listener));
    let receiver = Channel::open_receiver(&address, Timeout::Now).unwrap();
    sender.send(b"two", GENEROUS).unwrap();
    answer(&receiver, b"two", b"whole");
    assert_eq!(sender.recv_message(GENEROUS).unwrap().data, b"whole");
    assert_eq!((sender.statistics().reconnects, sender.statistics().torn), (1, 1));
    drop(directory);
}

/// A receiver and a sender whose first question has its answer under way, and whose second nobody has read.
fn in_the_middle(scheme: &str) -> (tempfile::TempDir, Channel, Channel) {
    let (directory, address) = fresh(scheme);
    let receiver = Channel::open_receiver(&address, Timeout::Now).unwrap();
    let sender = Channel::open_sender(&address, GENEROUS).unwrap();
    sender.send(b"one", GENEROUS).unwrap();
    answer(&receiver, b"one", b"first");
    sender.send(b"two", GENEROUS).unwrap();
    (directory, receiver, sender)
}

#[test]
fn an_answer_of_a_receiver_that_went_without_reading_all_is_received() {
    for scheme in ["unix", "unix-seqpacket"] {
        let (_directory, receiver, sender) = in_the_middle(scheme);
        drop(receiver);
        assert_eq!(sender.recv_message(GENEROUS).unwrap().data, b"first", "{scheme}");
        let error = sender.recv_message(GENEROUS).unwrap_err();
        assert!(error.is(Errno::EPIPE) || error.is(Errno::ECONNRESET), "{scheme}: {error}");
    }
}

#[test]
fn messages_of_a_sender_that_went_without_reading_its_answers_are_received() {
    for scheme in ["unix", "unix-seqpacket"] {
        let (_directory, receiver, sender) = in_the_middle(scheme);
        drop(sender);
        assert_eq!(receiver.recv_message(GENEROUS).unwrap().data, b"two", "{scheme}");
    }
}

#[test]
fn a_flush_never_takes_a_receiver_that_left_messages_unread_for_one_that_read_them() {
    for scheme in ["unix", "unix-seqpacket"] {
        for round in 0..50 {
            let (_directory, address) = fresh(scheme);
            let receiver = Channel::open_receiver(&address, Timeout::Now).unwrap();
            let sender = Channel::open_sender(&address, GENEROUS).unwrap();
            sender.send(b"one", GENEROUS).unwrap();
            receiver.recv_message(GENEROUS).unwrap();
            sender.send(b"two", GENEROUS).unwrap();
            std::thread::scope(|scope| {
                scope.spawn(|| drop(receiver));
                let flushed = loop {
                    match sender.flush(Timeout::Now) {
                        Err(error) if error.is(Errno::EAGAIN) => {}
                        flushed => break flushed,
                    }
                };
                let error = flushed.err().unwrap_or_else(|| panic!("{scheme}: lost in silence in round {round}"));
                assert!(error.is(Errno::ECONNRESET), "{scheme}: {error}");
            });
            assert_eq!(sender.statistics().unconfirmed, 1);
        }
    }
}

#[test]
fn a_message_that_the_receiver_never_takes_is_refused_after_some_connections() {
    for scheme in ["unix", "tcp"] {
        let (_directory, mut address) = fresh("unix");
        if scheme == "tcp" {
            address = "tcp://127.0.0.1:0".parse().unwrap();
        }
        let receiver = Channel::open_receiver(&address, Timeout::Now).unwrap();
        let reached = receiver.local_address().unwrap();
        std::thread::scope(|scope| {
            let receiving = scope.spawn(|| {
                let mut refused = 0;
                loop {
                    match receiver.recv_message(GENEROUS) {
                        Err(error) if error.is(Errno::EBADMSG) => refused += 1,
                        other => break (refused, other.unwrap().data),
                    }
                }
            });
            let sender =
                Channel::open_sender(&format!("{reached}?largest=32000000").parse().unwrap(), GENEROUS).unwrap();
            let error = sender.send(&vec![7; 30_000_000], Timeout::Forever).unwrap_err();
            assert!(error.is(Errno::ECONNRESET) && error.to_string().contains("largest="), "{error}");
            sender.send(b"small", GENEROUS).unwrap();
            let (refused, message) = receiving.join().unwrap();
            assert!((1..=3).contains(&refused), "{refused}");
            assert_eq!(message, b"small");
            assert_eq!((sender.statistics().sent, sender.statistics().unconfirmed), (1, 0));
        });
    }
}
