//! Channels over connections at their edges: garbage, half messages, receivers that come and go.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::errno::Errno;
use wigwag::{Address, Cancel, Channel, Timeout};

use crate::support::{GENEROUS, SHORT, eventually, fork};

fn unix(options: &str) -> (tempfile::TempDir, Address) {
    let directory = tempfile::tempdir().unwrap();
    let address = format!("unix:{}{options}", directory.path().join("socket").display()).parse().unwrap();
    (directory, address)
}

/// A connection by somebody who knows nothing of channels.
fn stranger(address: &Address) -> UnixStream {
    let stream = UnixStream::connect(address.path()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

#[test]
fn lines_of_other_programs_are_messages() {
    let (_directory, address) = unix("?framing=line");
    let receiver = Channel::open_receiver(&address, Timeout::Now).unwrap();
    let mut other = stranger(&address);
    other.write_all(b"first line\nsecond\n\nno end").unwrap();
    let first = receiver.recv_message(GENEROUS).unwrap();
    assert_eq!(first.data, b"first line");
    receiver.reply(&first.received.peer.unwrap(), b"answer", GENEROUS).unwrap();
    let mut answer = [0; 7];
    other.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"answer\n");
    assert_eq!(receiver.recv_message(GENEROUS).unwrap().data, b"second");
    assert_eq!(receiver.recv_message(GENEROUS).unwrap().data, b"");
    drop(other);
    assert_eq!(receiver.recv_message(GENEROUS).unwrap().data, b"no end");
    assert_eq!(receiver.recv_message(SHORT).unwrap_err().errno(), libc::ETIMEDOUT);
    assert_eq!(receiver.statistics().torn, 0);
}

#[test]
fn bytes_without_framing_come_as_they_come() {
    let (_directory, address) = unix("?framing=none");
    let receiver = Channel::open_receiver(&address, Timeout::Now).unwrap();
    let mut other = stranger(&address);
    other.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    assert_eq!(receiver.recv_message(GENEROUS).unwrap().data, b"GET / HTTP/1.0\r\n\r\n");
    let sender = Channel::open_sender(&address, GENEROUS).unwrap();
    assert_eq!(sender.send(b"", GENEROUS).unwrap_err().errno(), libc::EINVAL);
}

#[test]
fn a_sender_of_garbage_is_cut_off_and_others_do_not_notice() {
    let (_directory, address) = unix("?largest=1000");
    let receiver = Channel::open_receiver(&address, Timeout::Now).unwrap();
    let sender = Channel::open_sender(&address, GENEROUS).unwrap();
    sender.send(b"one", GENEROUS).unwrap();
    let mut other = stranger(&address);
    other.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let (mut good, mut bad) = (0, None);
    while good < 1 || bad.is_none() {
        match receiver.recv_message(GENEROUS) {
            Ok(message) => good += usize::from(message.data == b"one"),
            Err(error) => bad = Some(error),
        }
    }
    let error = bad.unwrap();
    assert!(error.is(Errno::EBADMSG) && error.to_string().contains("connection 2"), "{error}");
    assert_eq!(other.read(&mut [0; 10]).map_err(|e| e.kind()).unwrap_or(0), 0); // closed
    sender.send(b"two", GENEROUS).unwrap();
    assert_eq!(receiver.recv_message(GENEROUS).unwrap().data, b"two");
    assert_eq!((receiver.statistics().cut_off, receiver.statistics().peers), (1, 1));
}

#[test]
fn half_a_message_is_dropped_and_counted() {
    let (_directory, address) = unix("");
    let receiver = Channel::open_receiver(&address, Timeout::Now).unwrap();
    let mut other = stranger(&address);
    other.write_all(&[0, 0, 0, 5, b'h', b'e', b'l', b'l', b'o', 0, 0, 1, 0, b'x']).unwrap();
    drop(other);
    assert_eq!(receiver.recv_message(GENEROUS).unwrap().data, b"hello");
    assert_eq!(receiver.recv_message(SHORT).unwrap_err().errno(), libc::ETIMEDOUT);
    assert_eq!((receiver.statistics().torn, receiver.statistics().peers), (1, 0));
}

#[test]
fn a_message_in_single_bytes_holds_nobody_up() {
    let (_directory, address) = unix("");
    let receiver = Channel::open_receiver(&address, Timeout::Now).unwrap();
    let mut slow = stranger(&address);
    let sender = Channel::open_sender(&address, GENEROUS).unwrap();
    for (number, byte) in [0, 0, 0, 2, b'o', b'k'].into_iter().enumerate() {
        slow.write_all(&[byte]).unwrap();
        if number < 5 {
            sender.send(&[number as u8], GENEROUS).unwrap();
            assert_eq!(receiver.recv_message(GENEROUS).unwrap().data, [number as u8]);
        }
    }
    assert_eq!(receiver.recv_message(GENEROUS).unwrap().data, b"ok");
}

#[test]
fn one_busy_sender_does_not_starve_another() {
    let (_directory, address) = unix("");
    let receiver = Channel::open_receiver(&address, Timeout::Now).unwrap();
    let busy = Channel::open_sender(&address, GENEROUS).unwrap();
    let other = Channel::open_sender(&address, GENEROUS).unwrap();
    for _ in 0..200 {
        busy.send(b"busy", GENEROUS).unwrap();
    }
    other.send(b"other", GENEROUS).unwrap();
    let place = (0..201).position(|_| receiver.recv_message(GENEROUS).unwrap().data == b"other");
    assert!(place.unwrap() < 100, "{place:?}");
}

#[test]
fn a_sender_connects_to_the_next_receiver() {
    let (_directory, address) = unix("");
    let receiver = Channel::open_receiver(&address, Timeout::Now).unwrap();
    let sender = Channel::open_sender(&address, GENEROUS).unwrap();
    sender.send(b"one", GENEROUS).unwrap();
    assert_eq!(receiver.recv_message(GENEROUS).unwrap().data, b"one");
    sender.flush(GENEROUS).unwrap();
    drop(receiver);
    assert_eq!(sender.send(b"two", Timeout::Now).unwrap_err().errno(), libc::ENOENT);
    std::thread::scope(|scope| {
        scope.spawn(|| sender.send(b"two", GENEROUS).unwrap());
        let next = Channel::open_receiver(&address, Timeout::Now).unwrap();
        assert_eq!(next.recv_message(GENEROUS).unwrap().data, b"two");
    });
    assert_eq!((sender.statistics().reconnects, sender.statistics().unconfirmed), (1, 0));
}

#[test]
fn what_may_be_lost_with_a_connection_is_said_once() {
    for tcp in [false, true] {
        let (_directory, address) = unix("");
        let address = if tcp { "tcp://127.0.0.1:0".parse().unwrap() } else { address };
        let receiver = Channel::open_receiver(&address, Timeout::Now).unwrap();
        let address = receiver.local_address().unwrap().clone();
        let sender = Channel::open_sender(&address, GENEROUS).unwrap();
        sender.send(b"read", GENEROUS).unwrap();
        assert_eq!(receiver.recv_message(GENEROUS).unwrap().data, b"read");
        sender.send(b"never read", GENEROUS).unwrap();
        drop(receiver); // with a message unread
        let next = Channel::open_receiver(&address, GENEROUS).unwrap();
        // TCP notices when the other side's answer has come.
        let mut lost = None;
        eventually("the loss is reported", || {
            lost = sender.send(b"after", GENEROUS).err();
            lost.is_some()
        });
        let error = lost.unwrap();
        assert!(error.is(Errno::ECONNRESET) && error.to_string().contains("may be lost"), "{error}");
        sender.send(b"again", GENEROUS).unwrap();
        assert_eq!(next.recv_message(GENEROUS).unwrap().data, b"again");
        assert_eq!(sender.statistics().unconfirmed, 1);
    }
}

#[test]
fn flush_tells_what_is_not_read() {
    let (_directory, address) = unix("");
    let receiver = Channel::open_receiver(&address, Timeout::Now).unwrap();
    let sender = Channel::open_sender(&address, GENEROUS).unwrap();
    sender.send(b"one", GENEROUS).unwrap();
    assert_eq!(sender.flush(SHORT).unwrap_err().errno(), libc::ETIMEDOUT);
    receiver.recv_message(GENEROUS).unwrap();
    sender.flush(GENEROUS).unwrap();
    sender.send(b"two", GENEROUS).unwrap();
    drop(receiver);
    assert_eq!(sender.flush(GENEROUS).unwrap_err().errno(), libc::ECONNRESET);
}

#[test]
fn a_message_larger_than_the_kernels_buffers_arrives() {
    let (_directory, address) = unix("?largest=8000000");
    let receiver = Channel::open_receiver(&address, Timeout::Now).unwrap();
    let message: Vec<u8> = (0..8_000_000_u32).map(|n| (n % 251) as u8).collect();
    let sender = Channel::open_sender(&address, GENEROUS).unwrap();
    // Part of it fits, so it counts as sent; the rest goes out with what comes next.
    sender.send(&message, SHORT).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| sender.send(b"next", GENEROUS).unwrap());
        assert!(receiver.recv_message(GENEROUS).unwrap().data == message);
        assert_eq!(receiver.recv_message(GENEROUS).unwrap().data, b"next");
    });
}

#[test]
fn who_waits_for_an_answer_sends_the_rest_of_the_question() {
    let (_directory, address) = unix("?largest=8000000");
    let receiver = Channel::open_receiver(&address, Timeout::Now).unwrap();
    let sender = Channel::open_sender(&address, GENEROUS).unwrap();
    sender.send(&vec![7; 8_000_000], SHORT).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let question = receiver.recv_message(GENEROUS).unwrap();
            assert_eq!(question.data.len(), 8_000_000);
            receiver.reply(&question.received.peer.unwrap(), b"answer", GENEROUS).unwrap();
        });
        assert_eq!(sender.recv_message(GENEROUS).unwrap().data, b"answer");
    });
    assert!(sender.recv_message(SHORT).unwrap_err().is(Errno::ETIMEDOUT));
}

#[test]
fn a_sender_that_finds_no_room_has_sent_nothing() {
    let (_directory, address) = unix("");
    let receiver = Channel::open_receiver(&address, Timeout::Now).unwrap();
    let sender = Channel::open_sender(&address, GENEROUS).unwrap();
    let mut sent = 0_u64;
    let error = loop {
        match sender.send(&[7; 1000], Timeout::Now) {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.errno(), libc::EAGAIN);
    assert_eq!(sender.send(&[7; 1000], SHORT).unwrap_err().errno(), libc::ETIMEDOUT);
    for _ in 0..sent {
        assert_eq!(receiver.recv_message(GENEROUS).unwrap().data.len(), 1000);
    }
    assert_eq!(receiver.recv_message(SHORT).unwrap_err().errno(), libc::ETIMEDOUT);
}

#[test]
fn a_childs_sender_has_a_connection_of_its_own() {
    let (_directory, address) = unix("");
    let receiver = Channel::open_receiver(&address, Timeout::Now).unwrap();
    let sender = Channel::open_sender(&address, GENEROUS).unwrap();
    fork(|| sender.send(b"child", GENEROUS).unwrap()).join();
    sender.send(b"parent", GENEROUS).unwrap();
    let mut found = [receiver.recv_message(GENEROUS).unwrap(), receiver.recv_message(GENEROUS).unwrap()];
    found.sort_by(|one, other| one.data.cmp(&other.data));
    assert_eq!((&found[0].data[..], &found[1].data[..]), (&b"child"[..], &b"parent"[..]));
    assert_ne!(found[0].received.peer, found[1].received.peer);
}

#[test]
fn a_childs_receiver_shares_the_address_and_not_the_connections() {
    let (_directory, address) = unix("");
    let receiver = Channel::open_receiver(&address, Timeout::Now).unwrap();
    let sender = Channel::open_sender(&address, GENEROUS).unwrap();
    sender.send(b"one", GENEROUS).unwrap();
    assert_eq!(receiver.recv_message(GENEROUS).unwrap().data, b"one");
    sender.send(b"two", GENEROUS).unwrap();
    let child = fork(|| {
        assert_eq!(receiver.recv_message(SHORT).unwrap_err().errno(), libc::ETIMEDOUT);
        let own = Channel::open_sender(&address, GENEROUS).unwrap();
        own.send(b"to the child", GENEROUS).unwrap();
        assert_eq!(receiver.recv_message(GENEROUS).unwrap().data, b"to the child");
    });
    child.join();
    assert_eq!(receiver.recv_message(GENEROUS).unwrap().data, b"two");
}

#[test]
fn who_does_not_read_its_answers_is_cut_off() {
    let (_directory, address) = unix("");
    let receiver = Channel::open_receiver(&address, Timeout::Now).unwrap();
    let sender = Channel::open_sender(&address, GENEROUS).unwrap();
    sender.send(b"question", GENEROUS).unwrap();
    let peer = receiver.recv_message(GENEROUS).unwrap().received.peer.unwrap();
    let error = receiver.reply(&peer, &vec![1; 1 << 20], SHORT).unwrap_err();
    assert!(error.is(Errno::ETIMEDOUT) && error.to_string().contains("cut off"), "{error}");
    assert_eq!(receiver.statistics().cut_off, 1);
    drop(sender);
    eventually("it is gone", || {
        let _ = receiver.recv_message(Timeout::Now);
        receiver.statistics().peers == 0
    });
    assert_eq!(receiver.reply(&peer, b"late", SHORT).unwrap_err().errno(), libc::EPIPE);
}

#[test]
fn an_answer_that_is_cancelled_half_way_says_so() {
    let (_directory, address) = unix("");
    let receiver = Channel::open_receiver(&address, Timeout::Now).unwrap();
    let sender = Channel::open_sender(&address, GENEROUS).unwrap();
    sender.send(b"question", GENEROUS).unwrap();
    let peer = receiver.recv_message(GENEROUS).unwrap().received.peer.unwrap();
    let cancel = Cancel::new();
    cancel.fire();
    let _scope = cancel.enter();
    let error = receiver.reply(&peer, &vec![1; 1 << 20], GENEROUS).unwrap_err();
    assert!(error.is(Errno::ECANCELED) && error.to_string().contains("cut off"), "{error}");
    assert_eq!(receiver.statistics().cut_off, 1);
}

#[test]
fn a_sender_opens_before_its_receiver() {
    let (_directory, address) = unix("");
    assert_eq!(Channel::open_sender(&address, Timeout::Now).err().unwrap().errno(), libc::ENOENT);
    let error = Channel::open_sender(&address, SHORT).err().unwrap();
    assert!(error.is(Errno::ETIMEDOUT) && error.to_string().contains("no receiver"), "{error}");
}

#[test]
fn tcp_garbage_is_cut_off_too() {
    let receiver = Channel::open_receiver(&"tcp://127.0.0.1:0".parse().unwrap(), Timeout::Now).unwrap();
    let (host, port) = receiver.local_address().unwrap().host_and_port().unwrap();
    let mut other = TcpStream::connect((host.as_str(), port)).unwrap();
    other.write_all(&[0xff; 64]).unwrap();
    assert_eq!(receiver.recv_message(GENEROUS).unwrap_err().errno(), libc::EBADMSG);
}

#[test]
fn mechanisms_do_not_take_a_channels_options() {
    let (_directory, address) = unix("?framing=line");
    let error = wigwag::Listener::open(&address, &wigwag::SocketOptions::default(), Timeout::Now).err().unwrap();
    assert!(error.is(Errno::EINVAL) && error.to_string().contains("framing="), "{error}");
    let error = "unix:/x?framing=word".parse::<Address>().unwrap_err();
    assert!(error.to_string().contains("length, line, none"), "{error}");
}

#[test]
fn what_carries_no_messages_is_refused() {
    for text in ["eventfd:", "shm:/x", "sem:/x", "cell:x", "signal:USR1"] {
        let address = text.parse().unwrap();
        for error in [
            Channel::capabilities(&address).err(),
            Channel::open_sender(&address, Timeout::Now).err(),
            Channel::open_receiver(&address, Timeout::Now).err(),
        ] {
            let error = error.unwrap();
            assert!(error.is(Errno::EINVAL) && error.to_string().contains("mq:"), "{error}");
        }
    }
    let error = Channel::open_sender(&"pipe:".parse().unwrap(), Timeout::Now).err().unwrap();
    assert!(error.to_string().contains("fifo:"), "{error}");
}
