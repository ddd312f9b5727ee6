//! Messages: whole or not at all, with their sender.

use std::time::Duration;

use nix::errno::Errno;
use wigwag::{Address, Cancel, Listener, Scheme, Socket, SocketAddress, SocketOptions, Timeout};

use crate::support::{GENEROUS, SHORT, fork};
use crate::{Place, abstract_address, connect, listen, plain};

fn bind(address: &Address) -> Socket {
    Socket::bind(address, &plain(), GENEROUS).unwrap()
}

fn udp() -> Socket {
    bind(&"udp://127.0.0.1:0".parse().unwrap())
}

#[test]
fn udp_between_processes() {
    let server = udp();
    let address = server.local_address().unwrap().to_address().unwrap();
    let child = fork(|| {
        let client = connect(&address);
        client.send(b"ping", GENEROUS).unwrap();
        let mut buffer = [0; 100];
        assert_eq!(client.recv(&mut buffer, GENEROUS).unwrap(), 4);
        assert_eq!(&buffer[..4], b"pong");
        client.send(b"", GENEROUS).unwrap();
    });
    let mut buffer = [0; 100];
    let (length, from) = server.recv_from(&mut buffer, GENEROUS).unwrap();
    assert_eq!(&buffer[..length], b"ping");
    server.send_to(b"pong", &from, GENEROUS).unwrap();
    assert_eq!(server.recv_from(&mut buffer, GENEROUS).unwrap(), (0, from), "an empty datagram");
    child.join();
}

#[test]
fn a_message_larger_than_the_buffer_stays() {
    let place = Place::new();
    let dgram = Socket::pair(Scheme::UnixDgram).unwrap();
    let seqpacket = Socket::pair(Scheme::UnixSeqpacket).unwrap();
    let receiver = udp();
    let sender = connect(&receiver.local_address().unwrap().to_address().unwrap());
    let bound = bind(&place.address(Scheme::UnixDgram, "d"));
    let named = connect(&place.address(Scheme::UnixDgram, "d"));
    for (from, to) in [dgram, seqpacket, (sender, receiver), (named, bound)] {
        from.send(&[5; 9000], GENEROUS).unwrap();
        for room in [0, 1, 8999] {
            let mut buffer = vec![0; room];
            let error = to.recv(&mut buffer, GENEROUS).unwrap_err();
            assert_eq!((error.name().as_str(), error.true_size()), ("EMSGSIZE", 9000));
            let expected = format!("a message of 9000 bytes for a buffer of {room}; it is still there");
            assert!(error.reason().starts_with(&expected), "{error}");
            assert!(buffer.iter().all(|byte| *byte == 0), "nothing written");
        }
        let mut buffer = [0; 9000];
        assert_eq!(to.recv(&mut buffer, GENEROUS).unwrap(), 9000);
        assert_eq!(buffer, [5; 9000]);
        let error = to.recv_exact(&mut buffer, Timeout::Now).unwrap_err();
        assert!(error.is(Errno::ENOTSUP), "{error}");
    }
}

#[test]
fn too_large_to_send() {
    let server = udp();
    let client = connect(&server.local_address().unwrap().to_address().unwrap());
    let error = client.send(&[0; 65508], GENEROUS).unwrap_err();
    assert!(error.is(Errno::EMSGSIZE) && error.reason().contains("at most 65507"), "{error}");
    client.send(&[1; 65507], GENEROUS).unwrap();
    assert_eq!(server.recv(&mut [0; 65535], GENEROUS).unwrap(), 65507);
    let (one, _other) = Socket::pair(Scheme::UnixSeqpacket).unwrap();
    one.set_send_buffer(10_000).unwrap();
    let error = one.send(&[0; 100_000], GENEROUS).unwrap_err();
    assert!(error.is(Errno::EMSGSIZE) && error.reason().contains("send buffer of 10000"), "{error}");
    assert_eq!(error.true_size(), 100_000);
    let error = one.send(b"", GENEROUS).unwrap_err();
    assert!(error.is(Errno::EINVAL) && error.reason().contains("look like the end"), "{error}");
}

#[test]
fn seqpacket_between_processes() {
    let address = abstract_address(Scheme::UnixSeqpacket);
    let listener = listen(&address);
    let child = fork(|| {
        let socket = connect(&address);
        for length in 1..100 {
            socket.send_all(&vec![7; length], GENEROUS).unwrap();
        }
    });
    let socket = listener.accept(GENEROUS).unwrap();
    let mut buffer = [0; 100];
    for length in 1..100 {
        assert_eq!(socket.recv(&mut buffer, GENEROUS).unwrap(), length);
    }
    assert_eq!(socket.recv(&mut buffer, GENEROUS).unwrap(), 0, "the end");
    child.join();
}

#[test]
fn unix_datagrams_can_be_answered() {
    let place = Place::new();
    let address = place.address(Scheme::UnixDgram, "d");
    let server = bind(&address);
    let child = fork(|| {
        let client = connect(&address);
        client.send(b"ping", GENEROUS).unwrap();
        let mut buffer = [0; 4];
        client.recv(&mut buffer, GENEROUS).unwrap();
        assert_eq!(&buffer, b"pong");
    });
    let (_, from) = server.recv_from(&mut [0; 4], GENEROUS).unwrap();
    assert!(from.is_abstract());
    server.send_to(b"pong", &from, GENEROUS).unwrap();
    child.join();
    let error = server.send_to(b"pong", &from, GENEROUS).unwrap_err();
    assert!(error.is(Errno::ECONNREFUSED) && error.reason().contains(&from.to_string()), "{error}");
}

/// A socket without a peer polls writable although the receiver's queue is full.
#[test]
fn a_full_receiver_is_waited_for() {
    let place = Place::new();
    let receiver = bind(&place.address(Scheme::UnixDgram, "r"));
    let sender = bind(&place.address(Scheme::UnixDgram, "s"));
    let to = receiver.local_address().unwrap();
    let mut sent = 0;
    while sender.send_to(b"x", &to, Timeout::Now).is_ok() {
        sent += 1;
        assert!(sent < 100_000);
    }
    assert!(sender.send_to(b"x", &to, Timeout::Now).unwrap_err().is(Errno::EAGAIN));
    assert!(sender.send_to(b"x", &to, SHORT).unwrap_err().is(Errno::ETIMEDOUT));
    let cancel = Cancel::new();
    cancel.fire();
    let scope = cancel.enter();
    assert!(sender.send_to(b"x", &to, Timeout::Forever).unwrap_err().is(Errno::ECANCELED));
    drop(scope);
    let connected = connect(&place.address(Scheme::UnixDgram, "r"));
    assert!(connected.send(b"x", SHORT).unwrap_err().is(Errno::ETIMEDOUT));
    std::thread::scope(|threads| {
        let waiting = threads.spawn(|| sender.send_to(b"late", &to, GENEROUS));
        std::thread::sleep(Duration::from_millis(10));
        for _ in 0..sent {
            receiver.recv(&mut [0; 4], GENEROUS).unwrap();
        }
        waiting.join().unwrap().unwrap();
    });
    assert_eq!(receiver.recv(&mut [0; 4], GENEROUS).unwrap(), 4);
}

#[test]
fn a_killed_receiver() {
    let place = Place::new();
    let address = place.address(Scheme::UnixDgram, "d");
    let (tell, told) = Socket::pair(Scheme::Unix).unwrap();
    let child = fork(|| {
        let receiver = bind(&address);
        tell.send_all(b"1", GENEROUS).unwrap();
        receiver.recv(&mut [0; 1], Timeout::Forever).unwrap();
        loop {
            std::thread::sleep(Duration::from_secs(1));
        }
    });
    told.recv_exact(&mut [0; 1], GENEROUS).unwrap();
    let sender = connect(&address);
    child.kill(libc::SIGKILL);
    child.wait();
    let error = sender.send(b"x", GENEROUS).unwrap_err();
    assert!(error.is(Errno::ECONNREFUSED) && error.reason().contains("a server that is gone"), "{error}");
    bind(&address); // taken over
}

#[test]
fn senders_without_a_name_and_wrong_kinds() {
    let (one, other) = Socket::pair(Scheme::UnixDgram).unwrap();
    one.send(b"x", GENEROUS).unwrap();
    let (_, from) = other.recv_from(&mut [0; 1], GENEROUS).unwrap();
    assert_eq!(from.to_string(), "unix-dgram:");
    assert!(from.to_address().is_err());
    let udp = udp();
    let error = udp.send_to(b"x", &from, Timeout::Now).unwrap_err();
    assert!(error.is(Errno::EINVAL) && error.reason().contains("of another kind"), "{error}");
    let to: Address =
        format!("udp://localhost:{}", udp.local_address().unwrap().ip_and_port().unwrap().1).parse().unwrap();
    udp.send_to_address(b"to a name", &to, GENEROUS).unwrap();
    let error = udp.send_to_address(b"x", &"unix-dgram:@x".parse().unwrap(), GENEROUS).unwrap_err();
    assert!(error.is(Errno::EINVAL) && error.reason().contains("of another kind (unix-dgram:)"), "{error}");
    let error = udp.send(b"x", Timeout::Now).unwrap_err();
    assert!(error.is(Errno::EDESTADDRREQ) && error.reason().contains("no peer"), "{error}");
    let (stream, _other) = Socket::pair(Scheme::Unix).unwrap();
    let to = udp.local_address().unwrap();
    assert!(stream.send_to(b"x", &to, Timeout::Now).unwrap_err().is(Errno::ENOTSUP));
}

#[test]
fn ipv6_sockets_reach_ipv4() {
    let all = bind(&"udp://:0".parse().unwrap());
    let (_, port) = all.local_address().unwrap().ip_and_port().unwrap();
    let to = SocketAddress::resolve(&format!("udp://127.0.0.1:{port}").parse().unwrap(), Timeout::Now).unwrap();
    let sender = udp();
    sender.send_to(b"v4", &to, GENEROUS).unwrap();
    let (_, from) = all.recv_from(&mut [0; 9], GENEROUS).unwrap();
    assert_eq!(from, sender.local_address().unwrap());
    all.send_to(b"back", &sender.local_address().unwrap(), GENEROUS).unwrap();
    assert_eq!(sender.recv(&mut [0; 9], GENEROUS).unwrap(), 4);
}

#[test]
fn abstract_datagrams_say_whose_they_are() {
    let address = abstract_address(Scheme::UnixDgram);
    let receiver = bind(&address);
    let sender = connect(&address);
    sender.send(&[1; 500], GENEROUS).unwrap();
    assert_eq!(receiver.recv(&mut [0; 5], GENEROUS).unwrap_err().true_size(), 500);
    assert_eq!(receiver.recv(&mut [0; 500], GENEROUS).unwrap(), 500);
    assert_eq!(receiver.refused(), 0);
    if nix::unistd::geteuid().is_root() {
        // A receiver of one ordinary user, and senders of the same and of another.
        let any = SocketOptions { any_user: true, ..plain() };
        let address = abstract_address(Scheme::UnixDgram);
        let (tell, told) = Socket::pair(Scheme::Unix).unwrap();
        let child = fork(|| {
            nix::unistd::setuid(54_321.into()).unwrap();
            let receiver = bind(&address);
            tell.send_all(b"1", GENEROUS).unwrap();
            let mut buffer = [0; 3];
            assert_eq!(receiver.recv(&mut buffer, GENEROUS).unwrap(), 3);
            assert_eq!((&buffer, receiver.refused()), (b"own", 2));
        });
        told.recv_exact(&mut [0; 1], GENEROUS).unwrap();
        for (uid, words) in [(54_322, [&b"other"[..], b"other user's"]), (54_321, [b"own", b"own"])] {
            fork(|| {
                nix::unistd::setuid(uid.into()).unwrap();
                if uid == 54_322 {
                    let error = Socket::connect(&address, &plain(), GENEROUS).unwrap_err();
                    assert!(error.is(Errno::EACCES) && error.reason().contains("user 54321 holds"), "{error}");
                }
                let sender = Socket::connect(&address, &any, GENEROUS).unwrap();
                for word in words {
                    let _ = sender.send(word, GENEROUS); // the last one may find the receiver gone
                }
            })
            .join();
        }
        child.join();
    }
}

#[test]
fn listening_is_for_connections() {
    let error = Listener::open(&"unix-dgram:@x".parse().unwrap(), &plain(), Timeout::Now).unwrap_err();
    assert!(error.is(Errno::EINVAL) && error.reason().contains("unix-seqpacket:"), "{error}");
}

/// In a sandbox that has no netlink sockets nobody tells who receives.
#[test]
fn without_the_kernels_word_abstract_datagrams_are_refused() {
    for errno in [libc::EPERM, libc::ENOSYS, libc::EAFNOSUPPORT] {
        let address = abstract_address(Scheme::UnixDgram);
        let _receiver = bind(&address);
        fork(|| {
            deny_netlink(errno);
            let error = Socket::connect(&address, &plain(), GENEROUS).unwrap_err();
            assert!(error.is(Errno::ENOTSUP) && error.reason().contains("any-user=1"), "{error}");
            Socket::connect(&address, &SocketOptions { any_user: true, ..plain() }, GENEROUS).unwrap();
        })
        .join();
    }
}

/// Has the kernel answer socket(AF_NETLINK, ...) with an errno from now on.
fn deny_netlink(errno: libc::c_int) {
    let statement = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let load = |at: usize| statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, at as u32);
    let unless_equal = |value, skip| statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, skip, value);
    let answer = |what| statement(libc::BPF_RET | libc::BPF_K, 0, 0, what);
    let mut program = [
        load(std::mem::offset_of!(libc::seccomp_data, nr)),
        unless_equal(libc::SYS_socket as u32, 3),
        load(std::mem::offset_of!(libc::seccomp_data, args)), // the low half, on little-endian machines
        unless_equal(libc::AF_NETLINK as u32, 1),
        answer(libc::SECCOMP_RET_ERRNO | errno as u32),
        answer(libc::SECCOMP_RET_ALLOW),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the kernel copies a program that lives to the end of the calls.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter), 0);
    }
}
