//! Receivers with more senders than they have descriptors for, and with senders that come and go without end.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use wigwag::{Address, Caller, Channel, Server, Timeout};

use super::told;
use crate::support::{Child, GENEROUS, SHORT, eventually, fork};

fn unix() -> (tempfile::TempDir, Address) {
    let directory = tempfile::tempdir().unwrap();
    let address = format!("unix:{}", directory.path().join("socket").display()).parse().unwrap();
    (directory, address)
}

/// A process that makes so many connections, and sends a message over each.
fn come(address: &Address, size: usize, then: impl FnOnce()) -> Child {
    fork(|| {
        let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
        let connect = |_| {
            let mut stream = UnixStream::connect(address.path()).unwrap();
            stream.write_all(&[0, 0, 0, 5, b'c', b'r', b'o', b'w', b'd']).unwrap();
            stream
        };
        let _streams: Vec<_> = (0..size).map(connect).collect();
        then();
        std::thread::sleep(Duration::from_secs(60));
    })
}

/// As [`come`]; they are there when this returns.
fn crowd(address: &Address, size: usize) -> Child {
    let (done, tell) = nix::unistd::pipe().unwrap();
    let child = come(address, size, || assert_eq!(nix::unistd::write(&tell, b"x").unwrap(), 1));
    drop(tell);
    told(&done);
    child
}

/// Leaves this process room for so many more descriptors; what the limit was.
fn leave_room(descriptors: usize) -> u64 {
    let (before, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let is_free = |fd: &u64| !std::fs::exists(format!("/proc/self/fd/{fd}")).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, (0..).filter(is_free).nth(descriptors).unwrap(), most).unwrap();
    before
}

#[test]
fn without_descriptors_those_who_are_there_are_served() {
    fork(|| {
        let (_directory, address) = unix();
        let receiver = Channel::open_receiver(&address, Timeout::Now).unwrap();
        let regular = Channel::open_sender(&address, GENEROUS).unwrap();
        regular.send(b"first", GENEROUS).unwrap();
        assert_eq!(receiver.recv_message(GENEROUS).unwrap().data, b"first");
        let crowd = crowd(&address, 20);
        let before = leave_room(4);
        for _ in 0..4 {
            assert_eq!(receiver.recv_message(GENEROUS).unwrap().data, b"crowd");
        }
        assert_eq!(receiver.recv_message(SHORT).unwrap_err().errno(), libc::ETIMEDOUT);
        assert_eq!(receiver.recv_message(Timeout::Now).unwrap_err().errno(), libc::EAGAIN);
        assert_eq!((receiver.statistics().peers, receiver.statistics().starved), (5, 1));
        for _ in 0..100 {
            regular.send(b"regular", GENEROUS).unwrap();
            assert_eq!(receiver.recv_message(GENEROUS).unwrap().data, b"regular");
        }
        // With descriptors the others have their turn, although nothing tells of those.
        setrlimit(Resource::RLIMIT_NOFILE, before, getrlimit(Resource::RLIMIT_NOFILE).unwrap().1).unwrap();
        for _ in 4..20 {
            assert_eq!(receiver.recv_message(GENEROUS).unwrap().data, b"crowd");
        }
        assert_eq!((receiver.statistics().peers, receiver.statistics().starved), (21, 1));
        drop(crowd);
    })
    .join();
}

#[test]
fn a_descriptor_that_a_sender_leaves_is_the_next_ones() {
    fork(|| {
        let (_directory, address) = unix();
        let receiver = Channel::open_receiver(&address, Timeout::Now).unwrap();
        let crowds = [crowd(&address, 4), crowd(&address, 4)];
        leave_room(4);
        for _ in 0..4 {
            assert_eq!(receiver.recv_message(GENEROUS).unwrap().data, b"crowd");
        }
        assert_eq!(receiver.recv_message(SHORT).unwrap_err().errno(), libc::ETIMEDOUT);
        let [first, _second] = crowds;
        drop(first);
        for _ in 0..4 {
            assert_eq!(receiver.recv_message(GENEROUS).unwrap().data, b"crowd");
        }
        assert_eq!((receiver.statistics().peers, receiver.statistics().cut_off), (4, 0));
    })
    .join();
}

#[test]
fn who_polls_is_not_told_again_and_again_of_those_who_have_to_wait() {
    fork(|| {
        let (_directory, address) = unix();
        let receiver = Channel::open_receiver(&address, Timeout::Now).unwrap();
        let (fd, _) = receiver.descriptor().unwrap();
        let is_ready = |timeout: u16| poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], timeout).unwrap() == 1;
        let first = crowd(&address, 4);
        let _waiting = crowd(&address, 4);
        leave_room(4);
        for _ in 0..4 {
            assert!(is_ready(30_000));
            assert_eq!(receiver.recv_message(Timeout::Now).unwrap().data, b"crowd");
        }
        assert_eq!(receiver.recv_message(Timeout::Now).unwrap_err().errno(), libc::EAGAIN);
        assert!(!is_ready(0));
        let _another = come(&address, 1, || {});
        assert!(is_ready(30_000));
        assert_eq!(receiver.recv_message(Timeout::Now).unwrap_err().errno(), libc::EAGAIN);
        assert!(!is_ready(0));
        drop(first);
        for _ in 0..4 {
            assert!(is_ready(30_000));
            assert_eq!(receiver.recv_message(Timeout::Now).unwrap().data, b"crowd");
        }
        assert!(receiver.statistics().starved > 1); // there was room, and then again none
    })
    .join();
}

#[test]
fn without_descriptors_a_server_goes_on() {
    fork(|| {
        let (_directory, address) = unix();
        let server = Server::open(&address, GENEROUS).unwrap();
        let caller = Caller::open(&address, GENEROUS).unwrap();
        std::thread::scope(|scope| {
            let serving = scope.spawn(|| server.serve(|question| Ok(question.to_vec()), GENEROUS).unwrap_err());
            assert_eq!(caller.call(b"before", GENEROUS).unwrap(), b"before");
            leave_room(4);
            let _crowd = crowd(&address, 20);
            for _ in 0..100 {
                assert_eq!(caller.call(b"crowded", GENEROUS).unwrap(), b"crowded");
            }
            server.end_waits();
            assert_eq!(serving.join().unwrap().errno(), libc::ECANCELED);
        });
    })
    .join();
}

#[test]
fn many_new_senders_do_not_keep_those_who_are_there_waiting() {
    let (_directory, address) = unix();
    let receiver = Channel::open_receiver(&address, Timeout::Now).unwrap();
    let regular = Channel::open_sender(&address, GENEROUS).unwrap();
    let _idle: Vec<_> = (0..120).map(|_| UnixStream::connect(address.path()).unwrap()).collect();
    regular.send(b"regular", GENEROUS).unwrap();
    assert_eq!(receiver.recv_message(Timeout::Now).unwrap().data, b"regular");
    assert!(receiver.statistics().peers < 120);
    eventually("all are let in", || {
        assert!(receiver.recv_message(Timeout::Now).unwrap_err().is(Errno::EAGAIN));
        receiver.statistics().peers == 121
    });
}

#[test]
fn who_comes_and_goes_without_end_holds_a_receiver_up_no_longer_than_its_timeout() {
    let (_directory, address) = unix();
    let receiver = Channel::open_receiver(&address, Timeout::Now).unwrap();
    let regular = Channel::open_sender(&address, GENEROUS).unwrap();
    let flood = || {
        fork(|| {
            loop {
                drop(UnixStream::connect(address.path()));
            }
        })
    };
    let _floods = [flood(), flood()];
    for _ in 0..20 {
        assert!(receiver.recv_message(SHORT).unwrap_err().is(Errno::ETIMEDOUT));
        assert!(receiver.recv_message(Timeout::Now).unwrap_err().is(Errno::EAGAIN));
        regular.send(b"regular", GENEROUS).unwrap();
        assert_eq!(receiver.recv_message(GENEROUS).unwrap().data, b"regular");
    }
}

#[test]
fn a_message_by_single_bytes_without_end_holds_nobody_up() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let address: Address = format!("unix:{}?framing=line&largest=1000000000", path.display()).parse().unwrap();
    let receiver = Channel::open_receiver(&address, Timeout::Now).unwrap();
    let dribble = || {
        fork(|| {
            let mut stream = UnixStream::connect(&path).unwrap();
            while stream.write_all(b"x").is_ok() {}
        })
    };
    let _dribbles = [dribble(), dribble()];
    let regular = Channel::open_sender(&address, GENEROUS).unwrap();
    for _ in 0..20 {
        assert!(receiver.recv_message(SHORT).unwrap_err().is(Errno::ETIMEDOUT));
        regular.send(b"regular", GENEROUS).unwrap();
        assert_eq!(receiver.recv_message(GENEROUS).unwrap().data, b"regular");
    }
}
