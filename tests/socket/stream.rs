//! Connections over Unix sockets: bytes, ends, waits, errors.

use std::time::Duration;

use nix::errno::Errno;
use wigwag::{Cancel, Scheme, ShutdownSide, Socket, Timeout};

use crate::support::{GENEROUS, SHORT, eventually, fork, is_asleep};
use crate::{Place, abstract_address, connect, listen, plain};

#[test]
fn bytes_between_processes() {
    let place = Place::new();
    let address = place.address(Scheme::Unix, "s");
    let listener = listen(&address);
    let child = fork(|| {
        let socket = connect(&address);
        socket.send_all(&[7; 1_000_000], GENEROUS).unwrap();
        socket.shutdown(ShutdownSide::Sending).unwrap();
        let mut answer = [0; 2];
        socket.recv_exact(&mut answer, GENEROUS).unwrap();
        assert_eq!(&answer, b"ok");
        assert_eq!(socket.recv(&mut answer, GENEROUS).unwrap(), 0, "the end");
    });
    let socket = listener.accept(GENEROUS).unwrap();
    let peer = socket.peer_credentials().unwrap();
    assert_eq!((peer.pid, peer.uid), (child.pid(), nix::unistd::geteuid().as_raw()));
    let mut bytes = vec![0; 1_000_000];
    socket.recv_exact(&mut bytes, GENEROUS).unwrap();
    assert!(bytes.iter().all(|byte| *byte == 7));
    assert_eq!(socket.recv(&mut bytes, GENEROUS).unwrap(), 0, "half-closed");
    socket.send_all(b"ok", GENEROUS).unwrap();
    drop(socket);
    child.join();
}

#[test]
fn a_killed_peer_is_the_end_and_never_sigpipe() {
    let (one, other) = Socket::pair(Scheme::Unix).unwrap();
    let child = fork(|| {
        other.send_all(b"last words", GENEROUS).unwrap();
        loop {
            std::thread::sleep(Duration::from_secs(1));
        }
    });
    drop(other);
    let mut buffer = [0; 100];
    assert_eq!(one.recv(&mut buffer, GENEROUS).unwrap(), 10);
    assert!(one.recv(&mut buffer, SHORT).unwrap_err().is(Errno::ETIMEDOUT));
    child.kill(libc::SIGKILL);
    assert_eq!(one.recv(&mut buffer, GENEROUS).unwrap(), 0);
    let error = one.send(b"x", GENEROUS).unwrap_err();
    assert_eq!(
        error.to_string(),
        "send unix:: EPIPE: the peer has closed the connection, or this direction was shut down"
    );
}

#[test]
fn a_peer_killed_while_it_accepts() {
    let place = Place::new();
    let address = place.address(Scheme::UnixSeqpacket, "s");
    let listener = listen(&address);
    let child = fork(|| {
        let _ = listener.accept(Timeout::Forever);
    });
    drop(listener);
    eventually("the child waits", || is_asleep(child.pid()));
    child.kill(libc::SIGKILL);
    drop(child);
    assert!(!place.path("s").exists(), "the creator lives and has removed its path");
    let error = Socket::connect(&address, &plain(), GENEROUS).unwrap_err();
    assert!(error.is(Errno::ENOENT) && error.reason().contains("start the server first"), "{error}");
}

#[test]
fn partial_progress_is_told() {
    let (one, other) = Socket::pair(Scheme::Unix).unwrap();
    let big = vec![1; 10_000_000];
    let error = one.send_all(&big, SHORT).unwrap_err();
    assert!(error.is(Errno::ETIMEDOUT));
    assert!(error.done() > 0 && error.done() < big.len());
    assert!(one.send_all(&big, Timeout::Now).unwrap_err().is(Errno::EAGAIN));
    drop(one);
    let mut rest = vec![0; error.done() + 1];
    let end = other.recv_exact(&mut rest, GENEROUS).unwrap_err();
    assert_eq!((end.name().as_str(), end.done()), ("EPIPE", error.done()));
    assert!(end.reason().contains("ended before"));
}

#[test]
fn waits_end_by_deadline_cancel_and_close() {
    let place = Place::new();
    let listener = listen(&place.address(Scheme::Unix, "s"));
    let (one, _other) = Socket::pair(Scheme::Unix).unwrap();
    let mut buffer = [0; 1];
    assert!(one.recv(&mut buffer, Timeout::Now).unwrap_err().is(Errno::EAGAIN));
    assert!(listener.accept(Timeout::Now).unwrap_err().is(Errno::EAGAIN));
    let start = std::time::Instant::now();
    assert!(one.recv(&mut buffer, SHORT).unwrap_err().is(Errno::ETIMEDOUT));
    assert!(listener.accept(SHORT).unwrap_err().is(Errno::ETIMEDOUT));
    assert!(start.elapsed() >= Duration::from_millis(40));

    let cancel = Cancel::new();
    cancel.fire();
    let scope = cancel.enter();
    assert!(one.recv(&mut buffer, Timeout::Forever).unwrap_err().is(Errno::ECANCELED));
    assert!(listener.accept(Timeout::Forever).unwrap_err().is(Errno::ECANCELED));
    drop(scope);

    std::thread::scope(|threads| {
        threads.spawn(|| {
            assert!(listener.accept(Timeout::Forever).unwrap_err().is(Errno::ECANCELED));
        });
        threads.spawn(|| {
            assert!(one.recv(&mut [0; 1], Timeout::Forever).unwrap_err().is(Errno::ECANCELED));
        });
        std::thread::sleep(Duration::from_millis(10));
        listener.end_waits();
        one.end_waits();
    });
}

/// The kernel cannot poll for room in a backlog: connect has to wait in the call.
#[test]
fn connecting_to_a_full_backlog_is_bounded() {
    let place = Place::new();
    let address = place.address(Scheme::Unix, "s");
    let listener =
        wigwag::Listener::open(&address, &wigwag::SocketOptions { backlog: 1, ..plain() }, GENEROUS).unwrap();
    let mut waiting = Vec::new();
    let error = loop {
        match Socket::connect(&address, &plain(), Timeout::Now) {
            Ok(socket) => waiting.push(socket),
            Err(error) => break error,
        }
        assert!(waiting.len() < 100);
    };
    assert!(error.is(Errno::EAGAIN), "{error}");
    assert!(Socket::connect(&address, &plain(), SHORT).unwrap_err().is(Errno::ETIMEDOUT));
    let cancel = Cancel::new();
    std::thread::scope(|threads| {
        threads.spawn(|| {
            std::thread::sleep(Duration::from_millis(10));
            cancel.fire();
        });
        let _scope = cancel.enter();
        assert!(Socket::connect(&address, &plain(), Timeout::Forever).unwrap_err().is(Errno::ECANCELED));
    });
    std::thread::scope(|threads| {
        let late = threads.spawn(|| Socket::connect(&address, &plain(), GENEROUS));
        std::thread::sleep(Duration::from_millis(10));
        listener.accept(GENEROUS).unwrap();
        let late = late.join().unwrap().unwrap();
        assert!(late.recv(&mut [0; 1], Timeout::Now).unwrap_err().is(Errno::EAGAIN), "non-blocking again");
    });
}

#[test]
fn adopted_blocking_sockets_are_bounded_and_keep_their_mode() {
    let (one, other) = std::os::unix::net::UnixStream::pair().unwrap();
    let socket = Socket::from_fd(one.into()).unwrap();
    assert_eq!((socket.scheme(), socket.address()), (Scheme::Unix, "unix:"));
    assert!(socket.recv(&mut [0; 1], Timeout::Now).unwrap_err().is(Errno::EAGAIN));
    assert!(socket.recv(&mut [0; 1], SHORT).unwrap_err().is(Errno::ETIMEDOUT));
    assert!(socket.send_all(&vec![0; 10_000_000], SHORT).unwrap_err().is(Errno::ETIMEDOUT));
    let flags = nix::fcntl::fcntl(&socket, nix::fcntl::FcntlArg::F_GETFL).unwrap();
    assert_eq!(flags & libc::O_NONBLOCK, 0);
    drop(other);

    let place = Place::new();
    let made = std::os::unix::net::UnixListener::bind(place.path("s")).unwrap();
    let listener = wigwag::Listener::from_fd(made.into()).unwrap();
    assert!(listener.accept(Timeout::Now).unwrap_err().is(Errno::EAGAIN));
    assert!(listener.accept(SHORT).unwrap_err().is(Errno::ETIMEDOUT));
    let _client = connect(&listener.local_address().unwrap().to_address().unwrap());
    listener.accept(GENEROUS).unwrap();
    drop(listener);
    assert!(place.path("s").exists(), "somebody else's path");
}

#[test]
fn what_cannot_be_adopted() {
    let (reader, _writer) = nix::unistd::pipe().unwrap();
    let error = Socket::from_fd(reader).unwrap_err();
    assert_eq!(error.to_string(), "adopt: ENOTSOCK: the descriptor is not a socket's");
    let (one, _other) = Socket::pair(Scheme::Unix).unwrap();
    let error = wigwag::Listener::from_fd(one.into_fd().unwrap()).unwrap_err();
    assert_eq!(error.to_string(), "adopt unix:: EINVAL: the socket does not listen");
    let listener = listen(&abstract_address(Scheme::Unix));
    assert!(Socket::from_fd(listener.into_fd().unwrap()).unwrap_err().reason().contains("the socket listens"));
    // SAFETY: a new descriptor of a netlink socket that nobody else has.
    let netlink = unsafe {
        use std::os::fd::FromRawFd;
        std::os::fd::OwnedFd::from_raw_fd(libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0))
    };
    assert!(Socket::from_fd(netlink).unwrap_err().is(Errno::ENOTSUP));
}

#[test]
fn bad_input() {
    let (one, _other) = Socket::pair(Scheme::Unix).unwrap();
    let error = one.recv(&mut [], Timeout::Now).unwrap_err();
    assert!(error.is(Errno::EINVAL) && error.reason().contains("end of the stream"), "{error}");
    assert_eq!(one.send(b"", Timeout::Now).unwrap(), 0);
    one.recv_exact(&mut [], Timeout::Now).unwrap();
    assert!(one.recv_from(&mut [0; 9], Timeout::Now).unwrap_err().is(Errno::ENOTSUP));
    assert!(one.set_nodelay(true).unwrap_err().is(Errno::ENOTSUP));
    assert!(one.set_keep_alive(None).unwrap_err().is(Errno::ENOTSUP));
    for scheme in [Scheme::Tcp, Scheme::Udp, Scheme::Pipe] {
        let error = Socket::pair(scheme).unwrap_err();
        assert!(error.is(Errno::EINVAL) && error.reason().contains("come in pairs"), "{error}");
    }
    let parse = |text: &str| -> wigwag::Address { text.parse().unwrap() };
    let error = Socket::connect(&parse("pipe:"), &plain(), Timeout::Now).unwrap_err();
    assert!(error.is(Errno::EINVAL) && error.reason().contains("tcp: or udp:"), "{error}");
    let error = wigwag::Listener::open(&parse("udp://127.0.0.1:0"), &plain(), Timeout::Now).unwrap_err();
    assert!(error.is(Errno::EINVAL), "{error}");
    let error = Socket::bind(&parse("unix:x"), &plain(), Timeout::Now).unwrap_err();
    assert!(error.is(Errno::EINVAL), "{error}");
    let nodelay = wigwag::SocketOptions { nodelay: true, ..plain() };
    let error = Socket::connect(&parse("unix:@x"), &nodelay, Timeout::Now).unwrap_err();
    assert_eq!(error.to_string(), "options unix:@x: EINVAL: nodelay and keepalive are for tcp: alone");
    let error = Socket::connect(&parse("unix:/dev/null"), &plain(), Timeout::Now).unwrap_err();
    assert!(error.is(Errno::ECONNREFUSED) && error.reason().contains("not a socket"), "{error}");
}

#[test]
fn another_type_of_socket() {
    let place = Place::new();
    let _listener = listen(&place.address(Scheme::Unix, "s"));
    let error = Socket::connect(&place.address(Scheme::UnixSeqpacket, "s"), &plain(), GENEROUS).unwrap_err();
    assert!(error.is(Errno::EPROTOTYPE) && error.reason().contains("another type"), "{error}");
}

#[test]
fn buffer_sizes() {
    let (one, _other) = Socket::pair(Scheme::Unix).unwrap();
    one.set_send_buffer(20_000).unwrap();
    one.set_receive_buffer(30_000).unwrap();
    assert_eq!((one.send_buffer().unwrap(), one.receive_buffer().unwrap()), (20_000, 30_000));
    let error = one.set_send_buffer(usize::MAX).unwrap_err();
    assert!(error.is(Errno::ENOBUFS) && error.reason().contains("net.core.wmem_max="), "{error}");
    let asked = wigwag::SocketOptions { receive_buffer: 1 << 40, ..plain() };
    let error = wigwag::Listener::open(&abstract_address(Scheme::Unix), &asked, Timeout::Now).unwrap_err();
    assert!(error.is(Errno::ENOBUFS) && error.reason().contains("net.core.rmem_max="), "{error}");
    let place = Place::new();
    let address: wigwag::Address =
        format!("unix:{}?sndbuf=10000&rcvbuf=11000", place.path("s").display()).parse().unwrap();
    let listener = listen(&address);
    let client = connect(&address);
    assert_eq!((client.send_buffer().unwrap(), client.receive_buffer().unwrap()), (10_000, 11_000));
    listener.accept(GENEROUS).unwrap();
}

/// As root: more connections of another user than a call that does not wait goes through.
#[test]
fn strangers_do_not_keep_who_does_not_wait() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let address = abstract_address(Scheme::Unix);
    let open: wigwag::Address = format!("{address}?any-user=1").parse().unwrap();
    let become_user = |uid: u32| nix::unistd::setuid(uid.into()).unwrap();
    let (tell, told) = Socket::pair(Scheme::Unix).unwrap();
    let server = fork(|| {
        become_user(54_321);
        let listener = listen(&address);
        tell.send_all(b"1", GENEROUS).unwrap();
        tell.recv_exact(&mut [0; 1], GENEROUS).unwrap();
        for refused in [256, 300] {
            assert!(listener.accept(Timeout::Now).unwrap_err().is(Errno::EAGAIN));
            assert_eq!(listener.refused(), refused);
        }
    });
    let client = fork(|| {
        become_user(54_322);
        told.recv_exact(&mut [0; 1], GENEROUS).unwrap();
        let _strangers: Vec<_> = (0..300).map(|_| connect(&open)).collect();
        told.send_all(b"g", GENEROUS).unwrap();
    });
    client.join();
    server.join();
}

/// As root: a listener of one ordinary user and a client of another.
#[test]
fn abstract_names_are_for_one_user() {
    let address = abstract_address(Scheme::Unix);
    let open: wigwag::Address = format!("{address}?any-user=1").parse().unwrap();
    if !nix::unistd::geteuid().is_root() {
        // One user alone cannot try more than that its own processes are let in.
        let listener = listen(&address);
        let child = fork(|| drop(connect(&address)));
        listener.accept(GENEROUS).unwrap();
        assert_eq!(listener.refused(), 0);
        return child.join();
    }
    let become_user = |uid: u32| nix::unistd::setuid(uid.into()).unwrap();
    let (tell, told) = Socket::pair(Scheme::Unix).unwrap();
    let server = fork(|| {
        become_user(54_321);
        let listener = listen(&address);
        tell.send_all(b"1", GENEROUS).unwrap();
        // The stranger who asks for any user gets through to us and is refused here; the one who does not refuses us.
        assert!(listener.accept(Timeout::After(Duration::from_millis(1))).is_err());
        let mut go = [0; 1];
        tell.recv_exact(&mut go, GENEROUS).unwrap();
        assert!(listener.accept(SHORT).unwrap_err().is(Errno::ETIMEDOUT));
        assert_eq!(listener.refused(), 2);
        drop(listener);
        let listener = listen(&open);
        tell.send_all(b"2", GENEROUS).unwrap();
        assert_eq!(listener.accept(GENEROUS).unwrap().peer_credentials().unwrap().uid, 54_322);
    });
    let client = fork(|| {
        become_user(54_322);
        let mut step = [0; 1];
        told.recv_exact(&mut step, GENEROUS).unwrap();
        let error = Socket::connect(&address, &plain(), GENEROUS).unwrap_err();
        assert!(error.is(Errno::EACCES) && error.reason().contains("user 54321 holds"), "{error}");
        let socket = connect(&open);
        told.send_all(b"g", GENEROUS).unwrap();
        assert_eq!(socket.recv(&mut step, GENEROUS).unwrap_or(0), 0, "closed at once");
        told.recv_exact(&mut step, GENEROUS).unwrap();
        connect(&open);
    });
    client.join();
    server.join();
}
