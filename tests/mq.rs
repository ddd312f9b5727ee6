//! POSIX queues: what one process sends, another receives; attributes, limits, notices, death.

mod support;

use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use support::{GENEROUS, SHORT, eventually, fork, fresh, is_asleep};
use wigwag::{Address, Cancel, Error, MQ_PRIORITY_MAX, Mq, MqAccess, MqOptions, Timeout};

fn fresh_address() -> Address {
    format!("mq:/{}", fresh("mq")).parse().unwrap()
}

/// A queue that goes with its test.
struct Queue(Mq, Address);

impl Deref for Queue {
    type Target = Mq;
    fn deref(&self) -> &Mq {
        &self.0
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        let _ = Mq::remove(&self.1);
    }
}

fn queue(depth: usize, size: usize) -> Queue {
    let address = fresh_address();
    Queue(Mq::create(&address, &MqOptions { depth, size, ..Default::default() }).unwrap(), address)
}

#[track_caller]
fn expect<T: std::fmt::Debug>(result: Result<T, Error>, errno: &str, words: &str) -> Error {
    let error = result.expect_err("should have failed");
    assert_eq!(error.name(), errno, "{error}");
    assert!(error.to_string().contains(words), "{error}");
    error
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

#[test]
fn highest_priority_first() {
    let queue = queue(5, 50);
    for (text, priority) in [("a", 1), ("b", 7), ("c", 1), ("d", MQ_PRIORITY_MAX), ("", 0)] {
        queue.send(text.as_bytes(), priority, Timeout::Now).unwrap();
    }
    expect(queue.send(b"e", 0, Timeout::Now), "EAGAIN", "send");
    expect(queue.send(b"e", 0, SHORT), "ETIMEDOUT", "deadline");
    let order: Vec<_> = (0..5).map(|_| queue.recv(Timeout::Now).unwrap().data).collect();
    assert_eq!(order, [&b"d"[..], b"b", b"a", b"c", b""]);
    expect(queue.recv(Timeout::Now), "EAGAIN", "recv");
    expect(queue.recv(SHORT), "ETIMEDOUT", "deadline");
    expect(queue.send(b"x", MQ_PRIORITY_MAX + 1, Timeout::Now), "EINVAL", "the highest is 32767");
}

#[test]
fn nothing_is_cut_unless_asked() {
    let queue = queue(5, 100);
    let error = expect(queue.send(&[0; 101], 0, Timeout::Forever), "EMSGSIZE", "mq_msgsize=100");
    assert_eq!(error.true_size(), 101);
    assert!(error.to_string().contains("fs.mqueue.msgsize_max="), "{error}");
    queue.send(&[3; 60], 4, Timeout::Now).unwrap();
    let mut small = [0; 50];
    let error = expect(queue.recv_into(&mut small, Timeout::Forever), "EMSGSIZE", "mq_msgsize=100");
    assert_eq!(error.true_size(), 100, "what the buffer must have");
    assert_eq!(queue.attributes().unwrap().messages, 1);
    let received = queue.recv_into_cut(&mut small, Timeout::Now).unwrap();
    assert_eq!((received.size, received.priority, small), (60, 4, [3; 50]));
    queue.send(b"whole", 2, Timeout::Now).unwrap();
    let mut room = [0; 100];
    let received = queue.recv_into(&mut room, Timeout::Now).unwrap();
    assert_eq!((&room[..received.size], received.priority), (&b"whole"[..], 2));
}

#[test]
fn open_create_and_both() {
    let address = fresh_address();
    let default = MqOptions::default();
    let with = |depth, size| MqOptions { depth, size, ..default };
    expect(Mq::open(&address, &default), "ENOENT", "no queue has this name");
    expect(Mq::remove(&address), "ENOENT", "no queue has this name");
    let queue = Queue(Mq::create(&address, &with(3, 40)).unwrap(), address.clone());
    assert_eq!(queue.address(), address.to_string());
    expect(Mq::create(&address, &default), "EEXIST", "exists already");
    let attributes = Mq::open(&address, &default).unwrap().attributes().unwrap();
    assert_eq!((attributes.depth, attributes.size, attributes.messages), (3, 40, 0));
    Mq::open_or_create(&address, &with(3, 0)).unwrap();
    expect(
        Mq::open_or_create(&address, &with(4, 0)),
        "EEXIST",
        "depth 3 and size 40, asked for were depth 4 and size any",
    );
    expect(Mq::open(&format!("{address}?size=41").parse().unwrap(), &default), "EEXIST", "size 41");
    Mq::remove(&address).unwrap();
    queue.send(b"still open", 0, Timeout::Now).unwrap();
    let again = Mq::open_or_create(&format!("{address}?depth=2").parse().unwrap(), &default).unwrap();
    let attributes = again.attributes().unwrap();
    assert_eq!((attributes.depth, attributes.size), (2, Mq::limits().size_default));
}

#[test]
fn defaults_are_those_of_the_system() {
    let address = fresh_address();
    let queue = Queue(Mq::create(&address, &MqOptions::default()).unwrap(), address);
    let (attributes, limits) = (queue.attributes().unwrap(), Mq::limits());
    assert_eq!((attributes.depth, attributes.size), (limits.depth_default, limits.size_default));
}

#[test]
fn the_mode_is_set_against_the_umask() {
    fork(|| {
        // SAFETY: takes a number; a child's mask is its own.
        unsafe { libc::umask(0o077) };
        let address = fresh_address();
        let mode = |queue: &Mq| nix::sys::stat::fstat(queue).unwrap().st_mode & 0o777;
        let queue = Queue(Mq::create(&address, &MqOptions { mode: 0o664, ..Default::default() }).unwrap(), address);
        assert_eq!(mode(&queue), 0o664);
        let address: Address = format!("mq:/{}?mode=0622", fresh("mq")).parse().unwrap();
        let queue = Queue(Mq::open_or_create(&address, &MqOptions::default()).unwrap(), address);
        assert_eq!(mode(&queue), 0o622);
        let address = fresh_address();
        let queue = Queue(Mq::open_or_create(&address, &MqOptions::default()).unwrap(), address);
        assert_eq!(mode(&queue), 0o600);
    })
    .join();
}

#[test]
fn beyond_the_limits() {
    let with = |depth, size| Mq::create(&fresh_address(), &MqOptions { depth, size, ..Default::default() });
    expect(with(usize::MAX, 1), "EINVAL", "fs.mqueue.msg_max=");
    expect(with(1, usize::MAX), "EINVAL", "fs.mqueue.msgsize_max=");
    expect(Mq::create(&fresh_address(), &MqOptions { mode: 0o4000, ..Default::default() }), "EINVAL", "0777");
    expect(Mq::open(&"sysv-mq:private".parse().unwrap(), &MqOptions::default()), "EINVAL", "expected mq:");
    expect(Mq::remove(&"pipe:".parse().unwrap()), "EINVAL", "expected mq:");
}

#[test]
fn no_more_bytes_for_this_user_and_no_more_descriptors() {
    fork(|| {
        let set = |resource, soft| {
            let limit = libc::rlimit { rlim_cur: soft, rlim_max: soft };
            // SAFETY: the limit is a live local; limits of a child are its own.
            assert_eq!(unsafe { libc::setrlimit(resource, &raw const limit) }, 0);
        };
        let create = || Mq::create(&fresh_address(), &MqOptions { depth: 2, size: 10, ..Default::default() });
        set(libc::RLIMIT_MSGQUEUE, 100);
        expect(create(), "EMFILE", "RLIMIT_MSGQUEUE=100");
        expect(create(), "EMFILE", "takes 212 bytes");
        set(libc::RLIMIT_NOFILE, 0);
        expect(create(), "EMFILE", "RLIMIT_NOFILE=0");
    })
    .join();
}

#[test]
fn every_queue_taken() {
    // In an IPC namespace of its own, where the limit can be lowered, and without the privilege to pass it.
    if !is_root() {
        return;
    }
    fork(|| {
        // SAFETY: this child is single-threaded and keeps namespace and user to its end.
        unsafe {
            if libc::unshare(libc::CLONE_NEWIPC) != 0 || std::fs::write("/proc/sys/fs/mqueue/queues_max", "1").is_err()
            {
                return;
            }
            assert_eq!(libc::setuid(65534), 0);
        }
        let _one = queue(1, 1);
        let error = Mq::create(&fresh_address(), &MqOptions { depth: 1, size: 1, ..Default::default() });
        expect(error, "ENOSPC", "fs.mqueue.queues_max=1 queues exist");
    })
    .join();
}

#[test]
fn permission_and_direction() {
    let queue = queue(2, 20);
    let only = |access| Mq::open(&queue.1, &MqOptions { access, ..Default::default() }).unwrap();
    let (sender, receiver) = (only(MqAccess::Send), only(MqAccess::Receive));
    sender.send(b"x", 0, Timeout::Now).unwrap();
    expect(receiver.send(b"x", 0, Timeout::Forever), "EBADF", "open for receiving only");
    expect(sender.recv(Timeout::Forever), "EBADF", "open for sending only");
    expect(sender.recv_into(&mut [0; 20], Timeout::Forever), "EBADF", "open for sending only");
    receiver.recv(Timeout::Now).unwrap();
    if is_root() {
        fork(|| {
            // SAFETY: takes a number; a child's user is its own.
            assert_eq!(unsafe { libc::setuid(65534) }, 0);
            expect(Mq::open(&queue.1, &MqOptions::default()), "EACCES", "does not let this user send and receive");
            expect(Mq::remove(&queue.1), "EACCES", "another user");
        })
        .join();
    }
}

#[test]
fn polls() {
    let queue = queue(1, 10);
    let ready = || {
        let mut fds = [PollFd::new(queue.as_fd(), PollFlags::POLLIN | PollFlags::POLLOUT)];
        poll(&mut fds, PollTimeout::ZERO).unwrap();
        fds[0].revents().unwrap()
    };
    assert_eq!(ready(), PollFlags::POLLOUT);
    queue.send(b"x", 0, Timeout::Now).unwrap();
    assert_eq!(ready(), PollFlags::POLLIN);
}

#[test]
fn an_adopted_descriptor_keeps_its_mode_and_is_bounded_all_the_same() {
    let queue = queue(1, 10);
    let flags = |fd: &OwnedFd| nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_GETFL).unwrap() & libc::O_NONBLOCK;
    let copy = Mq::open(&queue.1, &MqOptions::default()).unwrap().into_fd();
    nix::fcntl::fcntl(&copy, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_RDWR)).unwrap();
    assert_eq!(flags(&copy), 0);
    let adopted = Mq::from_fd(copy);
    assert_eq!(adopted.address(), queue.1.to_string());
    expect(adopted.recv(Timeout::Now), "EAGAIN", "recv");
    expect(adopted.recv(SHORT), "ETIMEDOUT", "deadline");
    adopted.send(b"x", 0, Timeout::Now).unwrap();
    expect(adopted.send(b"x", 0, Timeout::Now), "EAGAIN", "send");
    expect(adopted.send(b"x", 0, SHORT), "ETIMEDOUT", "deadline");
    assert_eq!(adopted.recv(GENEROUS).unwrap().data, b"x");
    assert_eq!(flags(&adopted.into_fd()), 0);
}

#[test]
fn an_adopted_descriptor_that_is_no_queue() {
    let (reader, _writer) = nix::unistd::pipe().unwrap();
    let no_queue = Mq::from_fd(reader);
    for error in [
        no_queue.recv(Timeout::Now).unwrap_err(),
        no_queue.recv_into(&mut [0; 5], Timeout::Now).unwrap_err(),
        no_queue.send(b"x", 0, Timeout::Now).unwrap_err(),
        no_queue.attributes().unwrap_err(),
        no_queue.notify(libc::SIGUSR1, 0).unwrap_err(),
        no_queue.cancel_notify().unwrap_err(),
    ] {
        expect::<()>(Err(error), "EBADF", "not one of a message queue");
    }
}

#[test]
fn two_processes() {
    let (requests, replies) = (queue(10, 100), queue(10, 100));
    let child = fork(|| {
        let requests = Mq::open(&requests.1, &MqOptions { access: MqAccess::Receive, ..Default::default() }).unwrap();
        let replies = Mq::open(&replies.1, &MqOptions { access: MqAccess::Send, ..Default::default() }).unwrap();
        for _ in 0..100 {
            let request = requests.recv(GENEROUS).unwrap();
            replies.send(&request.data, request.priority, GENEROUS).unwrap();
        }
    });
    for n in 0..100u32 {
        requests.send(&n.to_ne_bytes(), n, GENEROUS).unwrap();
        let reply = replies.recv(GENEROUS).unwrap();
        assert_eq!((reply.data.as_slice(), reply.priority), (&n.to_ne_bytes()[..], n));
    }
    child.join();
}

#[test]
fn a_full_queue_wakes_its_sender() {
    let queue = queue(1, 10);
    queue.send(b"1", 0, Timeout::Now).unwrap();
    let child = fork(|| queue.send(b"2", 0, GENEROUS).unwrap());
    eventually("the sender sleeps", || is_asleep(child.pid()));
    assert_eq!(queue.recv(Timeout::Now).unwrap().data, b"1");
    assert_eq!(queue.recv(GENEROUS).unwrap().data, b"2");
    child.join();
}

#[test]
fn messages_outlive_a_killed_sender_and_wait_for_the_next_receiver() {
    let (queue, never) = (queue(2, 20), queue(1, 1));
    let sender = fork(|| {
        queue.send(b"last words", 0, GENEROUS).unwrap();
        let _ = never.recv(Timeout::Forever);
    });
    eventually("the sender has sent", || queue.attributes().unwrap().messages == 1);
    eventually("the sender sleeps", || is_asleep(sender.pid()));
    sender.kill(libc::SIGKILL);
    sender.wait();
    let receiver = fork(|| {
        let _ = never.recv(Timeout::Forever);
    });
    eventually("the receiver sleeps", || is_asleep(receiver.pid()));
    receiver.kill(libc::SIGKILL);
    receiver.wait();
    never.send(b"!", 0, Timeout::Now).unwrap();
    assert_eq!(never.recv(Timeout::Now).unwrap().data, b"!");
    assert_eq!(queue.recv(Timeout::Now).unwrap().data, b"last words");
}

#[test]
fn deadlines_are_never_early() {
    let queue = queue(1, 1);
    let start = Instant::now();
    expect(queue.recv(Timeout::After(Duration::from_millis(30))), "ETIMEDOUT", "deadline");
    assert!(start.elapsed() >= Duration::from_millis(30));
}

#[test]
fn cancel_and_end_of_waits() {
    let (queue, cancel) = (queue(1, 1), Cancel::new());
    std::thread::scope(|threads| {
        threads.spawn(|| {
            std::thread::sleep(Duration::from_millis(10));
            cancel.fire();
        });
        let _scope = cancel.enter();
        expect(queue.recv(Timeout::Forever), "ECANCELED", "cancelled");
    });
    std::thread::scope(|threads| {
        let waiters: Vec<_> = (0..6).map(|_| threads.spawn(|| queue.recv(Timeout::Forever))).collect();
        std::thread::sleep(Duration::from_millis(10));
        queue.end_waits();
        for waiter in waiters {
            expect(waiter.join().unwrap(), "ECANCELED", "closed");
        }
    });
}

/// Waits for a queued signal that the calling process has blocked; its value and who sent it.
fn take_signal(signal: i32) -> (i32, i32) {
    // SAFETY: plain data for which zeros are valid, filled before it is read.
    unsafe {
        let (mut set, mut info): (libc::sigset_t, libc::siginfo_t) = (std::mem::zeroed(), std::mem::zeroed());
        libc::sigaddset(&raw mut set, signal);
        let limit = libc::timespec { tv_sec: 30, tv_nsec: 0 };
        assert_eq!(libc::sigtimedwait(&raw const set, &raw mut info, &raw const limit), signal);
        assert_eq!(info.si_code, libc::SI_MESGQ);
        (info.si_value().sival_ptr.addr() as u32 as i32, info.si_pid())
    }
}

#[test]
fn notices() {
    let queue = queue(4, 10);
    expect(queue.notify(0, 0), "EINVAL", "from 1 to");
    expect(queue.notify(99, 0), "EINVAL", "from 1 to");
    expect(queue.notify(libc::SIGKILL, 0), "EINVAL", "cannot be handled");
    fork(|| {
        let signal = libc::SIGRTMIN();
        // SAFETY: the set is a live local; the mask is this child's only thread's.
        unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigaddset(&raw mut set, signal);
            libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        }
        queue.notify(signal, -42).unwrap();
        expect(queue.notify(signal, 1), "EBUSY", &format!("process {} is registered", std::process::id()));
        let sender = fork(|| queue.send(b"x", 0, GENEROUS).unwrap());
        assert_eq!(take_signal(signal), (-42, sender.pid()));
        sender.join();
        queue.notify(signal, 7).unwrap();
        queue.cancel_notify().unwrap();
        queue.cancel_notify().unwrap();
        queue.notify(signal, 8).unwrap();
        let only_send = MqOptions { access: MqAccess::Send, ..Default::default() };
        expect(Mq::open(&queue.1, &only_send).unwrap().notify(signal, 0), "EBUSY", "and one is registered");
        // The queue was not empty until here.
        queue.recv(Timeout::Now).unwrap();
    })
    .join();
    queue.notify(libc::SIGUSR1, 0).unwrap(); // the child is gone, and its registration with it
    queue.cancel_notify().unwrap();
}

#[test]
fn shows_what_it_is() {
    let queue = queue(1, 1);
    let text = format!("{:?}", queue.0);
    assert!(text.contains(&queue.1.to_string()) && text.contains(&queue.as_fd().as_raw_fd().to_string()), "{text}");
}
