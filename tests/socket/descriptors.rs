//! Descriptors that travel with messages.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;
use wigwag::{EventFd, Scheme, Socket, Timeout};

use crate::support::{GENEROUS, SHORT, fork};
use crate::{Place, open_descriptors};

#[test]
fn between_processes() {
    for scheme in [Scheme::Unix, Scheme::UnixDgram, Scheme::UnixSeqpacket] {
        let (one, other) = Socket::pair(scheme).unwrap();
        let events = EventFd::new().unwrap();
        let child = fork(|| {
            let received = other.recv_fds(&mut [0; 100], 2, GENEROUS).unwrap();
            assert_eq!((received.length, received.descriptors.len()), (4, 2));
            for fd in received.descriptors {
                let flags = nix::fcntl::fcntl(&fd, nix::fcntl::FcntlArg::F_GETFD).unwrap();
                assert_eq!(flags, libc::FD_CLOEXEC);
                EventFd::from_fd(fd).add(21, GENEROUS).unwrap();
            }
        });
        one.send_fds(b"take", &[events.as_fd(), events.as_fd()], GENEROUS).unwrap();
        child.join();
        assert_eq!(events.take(GENEROUS).unwrap(), 42);
    }
}

#[test]
fn more_than_asked_for_is_an_error_and_nothing_leaks() {
    // In a child, so that nothing else opens descriptors meanwhile.
    fork(|| {
        for scheme in [Scheme::Unix, Scheme::UnixSeqpacket] {
            let (one, other) = Socket::pair(scheme).unwrap();
            let before = open_descriptors();
            one.send_fds(b"take", &[one.as_fd(); 3], GENEROUS).unwrap();
            let error = other.recv_fds(&mut [0; 100], 2, GENEROUS).unwrap_err();
            assert_eq!((error.name().as_str(), error.done()), ("EBADMSG", 4));
            assert_eq!(error.reason(), "3 descriptors came, 2 were asked for; all were closed");
            assert_eq!(open_descriptors(), before);
        }
    })
    .join();
}

#[test]
fn no_descriptor_left_is_an_error_and_nothing_leaks() {
    fork(|| {
        let (one, other) = Socket::pair(Scheme::Unix).unwrap();
        one.send_fds(b"take", &[one.as_fd(); 10], GENEROUS).unwrap();
        let before = open_descriptors();
        let next = one.as_fd().try_clone_to_owned().unwrap().as_raw_fd();
        let limit = libc::rlimit { rlim_cur: next as u64 + 5, rlim_max: next as u64 + 5 };
        // SAFETY: a child's own limit, from a live local.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
        let error = other.recv_fds(&mut [0; 100], 10, GENEROUS).unwrap_err();
        assert!(error.is(Errno::EBADMSG) && error.reason().contains("RLIMIT_NOFILE="), "{error}");
        assert_eq!(open_descriptors(), before);
        let full: Vec<_> = std::iter::from_fn(|| one.as_fd().try_clone_to_owned().ok()).collect();
        let error = Socket::pair(Scheme::Unix).unwrap_err();
        assert!(error.is(Errno::EMFILE) && error.reason().contains("ulimit -n"), "{error}");
        drop(full);
    })
    .join();
}

#[test]
fn plain_receives_close_what_comes_along() {
    fork(|| {
        let (one, other) = Socket::pair(Scheme::Unix).unwrap();
        let before = open_descriptors();
        one.send_fds(b"take", &[one.as_fd()], GENEROUS).unwrap();
        assert_eq!(other.recv(&mut [0; 100], GENEROUS).unwrap(), 4);
        assert_eq!(open_descriptors(), before);
    })
    .join();
}

#[test]
fn a_descriptor_of_the_sender_that_nobody_asked_for_is_closed() {
    const SO_PASSPIDFD: libc::c_int = 76;
    fork(|| {
        let (one, other) = Socket::pair(Scheme::Unix).unwrap();
        let on: libc::c_int = 1;
        // SAFETY: the kernel reads an int from a live local.
        let set = unsafe {
            libc::setsockopt(other.as_fd().as_raw_fd(), libc::SOL_SOCKET, SO_PASSPIDFD, (&raw const on).cast(), 4)
        };
        let before = open_descriptors();
        one.send_fds(b"take", &[one.as_fd()], GENEROUS).unwrap();
        let received = other.recv_fds(&mut [0; 100], 1, GENEROUS).unwrap();
        assert_eq!(received.descriptors.len(), 1);
        drop(received);
        assert_eq!(open_descriptors(), before, "with SO_PASSPIDFD (before Linux 6.5 without): {set}");
    })
    .join();
}

#[test]
fn bytes_without_descriptors_and_the_end() {
    let (one, other) = Socket::pair(Scheme::Unix).unwrap();
    one.send_fds(b"plain", &[], GENEROUS).unwrap();
    let received = other.recv_fds(&mut [0; 100], 0, GENEROUS).unwrap();
    assert_eq!((received.length, received.descriptors.len()), (5, 0));
    assert!(other.recv_fds(&mut [0; 100], 1, Timeout::Now).unwrap_err().is(Errno::EAGAIN));
    assert!(other.recv_fds(&mut [0; 100], 1, SHORT).unwrap_err().is(Errno::ETIMEDOUT));
    drop(one);
    assert_eq!(other.recv_fds(&mut [0; 100], 1, GENEROUS).unwrap().length, 0);
}

#[test]
fn a_message_too_large_keeps_its_descriptors() {
    let (one, other) = Socket::pair(Scheme::UnixSeqpacket).unwrap();
    one.send_fds(&[1; 50], &[one.as_fd()], GENEROUS).unwrap();
    let error = other.recv_fds(&mut [0; 49], 1, GENEROUS).unwrap_err();
    assert_eq!(error.true_size(), 50);
    assert_eq!(other.recv_fds(&mut [0; 50], 1, GENEROUS).unwrap().descriptors.len(), 1);
}

#[test]
fn many_bytes_go_with_the_descriptors() {
    let (one, other) = Socket::pair(Scheme::Unix).unwrap();
    std::thread::scope(|threads| {
        threads.spawn(|| one.send_fds(&vec![3; 5_000_000], &[one.as_fd()], GENEROUS).unwrap());
        let mut buffer = vec![0; 5_000_000];
        let first = other.recv_fds(&mut buffer, 1, GENEROUS).unwrap();
        assert_eq!(first.descriptors.len(), 1);
        other.recv_exact(&mut buffer[first.length..], GENEROUS).unwrap();
        assert!(buffer.iter().all(|byte| *byte == 3));
    });
}

#[test]
fn bad_input() {
    let (one, _other) = Socket::pair(Scheme::Unix).unwrap();
    let fd = one.as_fd();
    let error = one.send_fds(b"", &[fd], Timeout::Now).unwrap_err();
    assert!(error.is(Errno::EINVAL) && error.reason().contains("at least one byte"), "{error}");
    let many: Vec<BorrowedFd<'_>> = vec![fd; 254];
    let error = one.send_fds(b"x", &many, Timeout::Now).unwrap_err();
    assert!(error.is(Errno::EINVAL) && error.reason().contains("at most 253"), "{error}");
    assert!(one.recv_fds(&mut [], 1, Timeout::Now).unwrap_err().is(Errno::EINVAL));
    let udp = Socket::bind(&"udp://127.0.0.1:0".parse().unwrap(), &crate::plain(), GENEROUS).unwrap();
    assert!(udp.send_fds(b"x", &[fd], Timeout::Now).unwrap_err().is(Errno::ENOTSUP));
    assert!(udp.recv_fds(&mut [0; 9], 1, Timeout::Now).unwrap_err().is(Errno::ENOTSUP));
    let place = Place::new();
    assert!(!place.path("x").exists());
}
