//! The same for every mechanism: what holds everywhere, and that what differs differs as `capabilities` says.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use wigwag::{Address, Channel, Timeout, WaitSet, WaitSetEvent};

use super::{open, told};
use crate::support::{GENEROUS, SHORT, eventually, fork};

/// Most bytes of a message in these tests.
const MOST: usize = 100_000;

/// The largest message to try with.
fn largest(address: &Address) -> usize {
    Channel::capabilities(address).unwrap().largest.unwrap_or(1000).min(MOST)
}

/// A message that tells where it comes from, and whether it is whole.
fn message(sender: u32, number: u32, size: usize) -> Vec<u8> {
    let mut message = vec![(sender * 31 + number * 7) as u8 | 0x80; size.max(8)];
    message[..4].copy_from_slice(&sender.to_be_bytes());
    message[4..8].copy_from_slice(&number.to_be_bytes());
    message[..8].iter_mut().for_each(|byte| *byte |= 0x80); // no line feed
    message
}

/// Sender and number of a message, which must be whole.
fn read(found: &[u8]) -> (u32, u32) {
    let word = |at: usize| {
        let bytes: [u8; 4] = found[at..at + 4].try_into().unwrap();
        u32::from_be_bytes(bytes.map(|byte| byte & 0x7f))
    };
    let (sender, number) = (word(0), word(4));
    assert!(found == message(sender, number, found.len()), "torn or mixed: {sender} {number}");
    (sender, number)
}

fn arrives_whole_and_in_order(kind: &str) {
    let ends = open(kind);
    let largest = largest(&ends.address);
    let sizes = [8, 9, 100, largest / 3, largest / 2, largest, 8];
    std::thread::scope(|scope| {
        let sender = &ends.sender;
        scope.spawn(move || {
            for (number, size) in sizes.iter().enumerate() {
                sender.send(&message(1, number as u32, *size), GENEROUS).unwrap();
            }
        });
        for (number, size) in sizes.iter().enumerate() {
            let found = ends.receiver.recv_message(GENEROUS).unwrap();
            assert_eq!(read(&found.data), (1, number as u32));
            assert_eq!(found.data.len(), (*size).max(8));
            assert_eq!(found.received.length, found.data.len());
        }
    });
    assert_eq!(ends.sender.statistics().sent, sizes.len() as u64);
    assert_eq!(ends.receiver.statistics().received, sizes.len() as u64);
}

fn nothing_to_receive_ends_by_the_deadline(kind: &str) {
    let ends = open(kind);
    let mut buffer = [0; 100];
    let error = |timeout, buffer: &mut [u8]| ends.receiver.recv(buffer, timeout).unwrap_err();
    assert_eq!(error(Timeout::Now, &mut buffer).errno(), libc::EAGAIN);
    let late = error(SHORT, &mut buffer);
    assert_eq!(late.errno(), libc::ETIMEDOUT);
    assert!(late.to_string().contains(ends.receiver.address().split(['?', '#']).next().unwrap()), "{late}");
}

fn a_message_that_does_not_fit_stays(kind: &str) {
    let ends = open(kind);
    ends.sender.send(&message(1, 1, 60), GENEROUS).unwrap();
    ends.sender.send(&message(1, 2, 8), GENEROUS).unwrap();
    let mut small = [0; 20];
    for _ in 0..2 {
        let error = ends.receiver.recv(&mut small, GENEROUS).unwrap_err();
        assert_eq!((error.errno(), error.true_size()), (libc::EMSGSIZE, 60), "{error}");
    }
    let mut room = [0; 60];
    assert_eq!(ends.receiver.recv(&mut room, GENEROUS).unwrap().length, 60);
    assert_eq!(read(&room), (1, 1));
    assert_eq!(read(&ends.receiver.recv_message(GENEROUS).unwrap().data), (1, 2));
}

fn too_large_is_refused_and_nothing_sent(kind: &str) {
    let ends = open(kind);
    let Some(most) = Channel::capabilities(&ends.address).unwrap().largest else { return };
    let error = ends.sender.send(&vec![b'x'; most + 1], GENEROUS).unwrap_err();
    assert_eq!((error.errno(), error.true_size()), (libc::EMSGSIZE, most + 1), "{error}");
    ends.sender.send(&message(1, 5, 8), GENEROUS).unwrap();
    assert_eq!(read(&ends.receiver.recv_message(GENEROUS).unwrap().data), (1, 5));
}

fn the_wrong_end_is_refused(kind: &str) {
    let ends = open(kind);
    let answers = Channel::capabilities(&ends.address).unwrap().answers;
    assert_eq!(ends.receiver.send(b"x", Timeout::Now).unwrap_err().errno(), libc::EBADF);
    let error = ends.sender.recv(&mut [0; 10], Timeout::Now).unwrap_err();
    assert_eq!(error.errno(), if answers { libc::EAGAIN } else { libc::EBADF }, "{error}");
}

fn priorities_work_or_are_refused(kind: &str) {
    let ends = open(kind);
    if Channel::capabilities(&ends.address).unwrap().priorities == 1 {
        let error = ends.sender.send_with_priority(b"x", 1, GENEROUS).unwrap_err();
        assert!(error.is(Errno::ENOTSUP) && error.to_string().contains("mq:"), "{error}");
        return;
    }
    for priority in [1, 3, 2] {
        ends.sender.send_with_priority(&message(1, priority, 8), priority, GENEROUS).unwrap();
    }
    for expected in [3, 2, 1] {
        let found = ends.receiver.recv_message(GENEROUS).unwrap();
        assert_eq!((found.received.priority, read(&found.data).1), (expected, expected));
    }
}

fn waits_end_when_told(kind: &str) {
    let ends = open(kind);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| ends.receiver.recv_message(GENEROUS).unwrap_err());
        std::thread::sleep(Duration::from_millis(5)); // as a rule it waits by now; if not, it finds the end as it comes
        ends.receiver.end_waits();
        assert_eq!(waiting.join().unwrap().errno(), libc::ECANCELED);
    });
}

fn answers_reach_who_asked_or_are_refused(kind: &str) {
    let ends = open(kind);
    ends.sender.send(&message(1, 1, 8), GENEROUS).unwrap();
    let asked = ends.receiver.recv_message(GENEROUS).unwrap();
    let capabilities = Channel::capabilities(&ends.address).unwrap();
    assert_eq!(asked.received.peer.is_some(), capabilities.answers);
    let Some(peer) = asked.received.peer else { return };
    assert_eq!(peer.credentials().is_some(), capabilities.credentials);
    if let Some(credentials) = peer.credentials() {
        assert_eq!(credentials.pid as u32, std::process::id());
    }
    let other = Channel::open_sender(&ends.address, GENEROUS).unwrap();
    other.send(&message(2, 1, 8), GENEROUS).unwrap();
    let other_asked = ends.receiver.recv_message(GENEROUS).unwrap().received.peer.unwrap();
    ends.receiver.reply(&other_asked, &message(2, 9, 8), GENEROUS).unwrap();
    ends.receiver.reply(&peer, &message(1, 9, 500), GENEROUS).unwrap();
    assert_eq!(read(&ends.sender.recv_message(GENEROUS).unwrap().data), (1, 9));
    assert_eq!(read(&other.recv_message(GENEROUS).unwrap().data), (2, 9));
}

fn senders_in_several_processes_never_mix(kind: &str) {
    const SENDERS: u32 = 3;
    const EACH: u32 = 60;
    let ends = open(kind);
    let capabilities = Channel::capabilities(&ends.address).unwrap();
    assert!(capabilities.many_senders);
    let most = if capabilities.may_lose { 200 } else { largest(&ends.address).min(20_000) };
    let is_pair = kind.starts_with("pipe");
    let children: Vec<_> = (1..=SENDERS)
        .map(|sender| {
            fork(|| {
                let own = (!is_pair).then(|| Channel::open_sender(&ends.address, GENEROUS).unwrap());
                let channel = own.as_ref().unwrap_or(&ends.sender);
                for number in 0..EACH {
                    let size = 8 + (number as usize * 977 * sender as usize) % (most - 8);
                    channel.send(&message(sender, number, size), GENEROUS).unwrap();
                }
                channel.flush(GENEROUS).unwrap();
            })
        })
        .collect();
    let mut next = HashMap::new();
    for _ in 0..SENDERS * EACH {
        let (sender, number) = read(&ends.receiver.recv_message(GENEROUS).unwrap().data);
        let expected = next.entry(sender).or_insert(0);
        assert_eq!(number, *expected, "of sender {sender}");
        *expected += 1;
    }
    children.into_iter().for_each(super::support::Child::join);
}

fn what_a_killed_sender_had_sent_arrives(kind: &str) {
    let ends = open(kind);
    let is_pair = kind.starts_with("pipe");
    let (done, tell) = nix::unistd::pipe().unwrap();
    let child = fork(|| {
        let own = (!is_pair).then(|| Channel::open_sender(&ends.address, GENEROUS).unwrap());
        let channel = own.as_ref().unwrap_or(&ends.sender);
        for number in 0..5 {
            channel.send(&message(1, number, 30), GENEROUS).unwrap();
        }
        nix::unistd::write(&tell, b"x").unwrap();
        loop {
            std::thread::sleep(Duration::from_secs(1));
        }
    });
    drop(tell);
    told(&done);
    child.kill(libc::SIGKILL);
    child.wait();
    for number in 0..5 {
        assert_eq!(read(&ends.receiver.recv_message(GENEROUS).unwrap().data), (1, number));
    }
    // The others go on.
    ends.sender.send(&message(2, 1, 30), GENEROUS).unwrap();
    assert_eq!(read(&ends.receiver.recv_message(GENEROUS).unwrap().data), (2, 1));
}

fn the_descriptor_tells_of_messages(kind: &str) {
    let ends = open(kind);
    let (fd, interest) = match ends.receiver.descriptor() {
        Ok(found) => found,
        Err(error) => {
            assert!(error.is(Errno::ENOTSUP), "{error}");
            return;
        }
    };
    let set = WaitSet::new().unwrap();
    set.add(&fd.as_fd(), interest, 1).unwrap();
    let mut events = [WaitSetEvent::default(); 2];
    let ready = |timeout, events: &mut [WaitSetEvent]| set.wait(events, timeout).is_ok_and(|found| found > 0);
    for round in 0..3 {
        for number in 0..4 {
            ends.sender.send(&message(round, number, 50), GENEROUS).unwrap();
        }
        for number in 0..4 {
            assert!(ready(GENEROUS, &mut events), "nothing ready at {round} {number}");
            // Ready may also mean that a connection has come, or the beginning of a message.
            let mut found = None;
            eventually("a message behind a ready descriptor", || {
                found = ends.receiver.recv_batch(1, Timeout::Now).ok();
                found.is_some()
            });
            assert_eq!(read(&found.unwrap()[0].data), (round, number));
        }
        // Once it is empty, one look settles it.
        eventually("quiet", || {
            assert_eq!(ends.receiver.recv(&mut [0; 100], Timeout::Now).unwrap_err().errno(), libc::EAGAIN);
            !ready(Timeout::Now, &mut events)
        });
    }
}

fn the_end_is_told_where_capabilities_say_so(kind: &str) {
    let mut ends = open(kind);
    if !Channel::capabilities(&ends.address).unwrap().ends {
        return;
    }
    ends.sender.send(&message(1, 1, 8), GENEROUS).unwrap();
    let nobody = Channel::pair(&"pipe:".parse().unwrap()).unwrap().1;
    drop(std::mem::replace(&mut ends.sender, nobody));
    assert_eq!(read(&ends.receiver.recv_message(GENEROUS).unwrap().data), (1, 1));
    assert_eq!(ends.receiver.recv_message(GENEROUS).unwrap_err().errno(), libc::EPIPE);
}

fn a_second_receiver_works_or_is_refused(kind: &str) {
    if kind.starts_with("pipe") {
        return; // has no name to open it by
    }
    let ends = open(kind);
    let capabilities = Channel::capabilities(&ends.address).unwrap();
    let second = Channel::open_receiver(&ends.address, SHORT);
    if !capabilities.many_receivers {
        let error = second.err().expect("a second receiver");
        assert!(error.is(Errno::EADDRINUSE) || error.is(Errno::EBUSY), "{error}");
        return;
    }
    let second = second.unwrap();
    ends.sender.send(&message(1, 1, 8), GENEROUS).unwrap();
    assert_eq!(read(&second.recv_message(GENEROUS).unwrap().data), (1, 1));
    match capabilities.broadcast {
        true => assert_eq!(read(&ends.receiver.recv_message(GENEROUS).unwrap().data), (1, 1)),
        false => assert_eq!(ends.receiver.recv_message(Timeout::Now).unwrap_err().errno(), libc::EAGAIN),
    }
}

fn batches_are_many_messages(kind: &str) {
    let ends = open(kind);
    // Some that fit together into one write to a pipe, one that nearly fills it, and none for the mechanism to refuse.
    let sizes = [20, 20, 4070, 20, 0, 2000, 2100, 20, 20];
    let largest = Channel::capabilities(&ends.address).unwrap().largest.unwrap_or(usize::MAX);
    let messages: Vec<_> = (0..).zip(sizes).map(|(number, size)| message(3, number, size.min(largest - 16))).collect();
    let borrowed: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
    ends.sender.send_batch(&borrowed, GENEROUS).unwrap();
    let mut found = Vec::new();
    while found.len() < messages.len() {
        let batch = ends.receiver.recv_batch(messages.len() - found.len(), GENEROUS).unwrap();
        assert!(!batch.is_empty());
        found.extend(batch.into_iter().map(|message| message.data));
    }
    assert!(found == messages);
}

macro_rules! conformance {
    ($($module:ident = $kind:literal;)*) => {$(
        mod $module {
            conformance!(@ $kind arrives_whole_and_in_order nothing_to_receive_ends_by_the_deadline
                a_message_that_does_not_fit_stays too_large_is_refused_and_nothing_sent the_wrong_end_is_refused
                priorities_work_or_are_refused waits_end_when_told answers_reach_who_asked_or_are_refused
                senders_in_several_processes_never_mix what_a_killed_sender_had_sent_arrives
                the_descriptor_tells_of_messages the_end_is_told_where_capabilities_say_so
                a_second_receiver_works_or_is_refused batches_are_many_messages);
        }
    )*};
    (@ $kind:literal $($test:ident)*) => {$(
        #[test]
        fn $test() {
            super::$test($kind);
        }
    )*};
}

conformance! {
    tcp = "tcp";
    tcp_lines = "tcp?framing=line";
    udp = "udp";
    unix = "unix";
    unix_lines = "unix?framing=line&largest=5000";
    unix_dgram = "unix-dgram";
    unix_seqpacket = "unix-seqpacket";
    pipe = "pipe";
    fifo = "fifo";
    fifo_kept_open = "fifo?keep-open=1";
    fifo_lines = "fifo?framing=line";
    mq = "mq";
    sysv_mq = "sysv-mq";
    ring = "ring";
    topic = "topic";
    file = "file";
    file_synced = "file?fsync=every";
    file_reader = "file?reader=the%20one&segment=4096&largest=3000";
}
