//! Channels over datagrams at their edges: answers that find no room, and receivers that are not there.

use nix::errno::Errno;
use wigwag::{Address, Cancel, Channel, Timeout};

use crate::support::{GENEROUS, SHORT, eventually, fork, is_asleep};

#[test]
fn an_answer_waits_for_room() {
    let directory = tempfile::tempdir().unwrap();
    let address: Address = format!("unix-dgram:{}", directory.path().join("socket").display()).parse().unwrap();
    let receiver = Channel::open_receiver(&address, Timeout::Now).unwrap();
    let sender = Channel::open_sender(&address, GENEROUS).unwrap();
    sender.send(b"question", GENEROUS).unwrap();
    let peer = receiver.recv_message(GENEROUS).unwrap().received.peer.unwrap();
    let mut there = 0;
    let full = loop {
        match receiver.reply(&peer, b"answer", Timeout::Now) {
            Ok(()) => there += 1,
            Err(error) => break error,
        }
    };
    assert!(full.is(Errno::EAGAIN), "{full}");
    let error = receiver.reply(&peer, b"answer", SHORT).unwrap_err();
    assert!(error.is(Errno::ETIMEDOUT), "{error}");
    let cancel = Cancel::new();
    cancel.fire();
    let scope = cancel.enter();
    let error = receiver.reply(&peer, b"answer", GENEROUS).unwrap_err();
    assert!(error.is(Errno::ECANCELED), "{error}");
    drop(scope);
    let replying = fork(|| receiver.reply(&peer, b"the last", GENEROUS).unwrap());
    eventually("it waits", || is_asleep(replying.pid()));
    for _ in 0..there {
        assert_eq!(sender.recv_message(GENEROUS).unwrap().data, b"answer");
    }
    assert_eq!(sender.recv_message(GENEROUS).unwrap().data, b"the last");
    replying.join();
    while receiver.reply(&peer, b"answer", Timeout::Now).is_ok() {}
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| receiver.reply(&peer, b"answer", GENEROUS).unwrap_err());
        receiver.end_waits();
        assert_eq!(waiting.join().unwrap().errno(), libc::ECANCELED);
    });
}

#[test]
fn a_refusal_that_is_received_is_counted_as_one_that_is_sent_into() {
    let receiver = Channel::open_receiver(&"udp://127.0.0.1:0".parse().unwrap(), GENEROUS).unwrap();
    let sender = Channel::open_sender(receiver.local_address().unwrap(), GENEROUS).unwrap();
    drop(receiver);
    sender.send(b"nobody's", GENEROUS).unwrap();
    let error = sender.recv_message(GENEROUS).unwrap_err();
    assert!(error.is(Errno::ECONNREFUSED) && error.reason().contains("nobody received"), "{error}");
    assert_eq!(sender.statistics().unconfirmed, 1);
    sender.send(b"nobody's either", GENEROUS).unwrap();
    assert!(sender.send(b"not sent", GENEROUS).unwrap_err().is(Errno::ECONNREFUSED));
    assert_eq!(sender.statistics().unconfirmed, 2);
}
