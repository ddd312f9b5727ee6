//! TCP on the loopback interface.

use std::net::TcpListener;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::Backlog;
use wigwag::{Address, Cancel, Channel, KeepAlive, Listener, Scheme, Socket, SocketOptions, Timeout};

use crate::support::{GENEROUS, SHORT, eventually, fork};
use crate::{connect, listen, plain, skip};

fn parse(text: &str) -> Address {
    text.parse().unwrap()
}

/// A listener on a free port, and its address.
fn anywhere() -> (Listener, Address) {
    let listener = listen(&parse("tcp://127.0.0.1:0"));
    let address = listener.local_address().unwrap().to_address().unwrap();
    (listener, address)
}

fn has_ipv6() -> bool {
    std::net::TcpListener::bind("[::1]:0").is_ok()
}

#[test]
fn between_processes() {
    let (listener, address) = anywhere();
    let child = fork(|| {
        let socket = connect(&address);
        socket.send_all(b"Hello", GENEROUS).unwrap();
        assert_eq!(socket.recv(&mut [0; 9], GENEROUS).unwrap(), 0);
    });
    let socket = listener.accept(GENEROUS).unwrap();
    assert!(socket.address().starts_with("tcp://127.0.0.1:"));
    assert_eq!(socket.address(), socket.peer_address().unwrap().to_string());
    assert_eq!(socket.local_address().unwrap().to_address().unwrap(), address);
    let mut buffer = [0; 5];
    socket.recv_exact(&mut buffer, GENEROUS).unwrap();
    assert_eq!(&buffer, b"Hello");
    let error = socket.peer_credentials().unwrap_err();
    assert!(error.is(Errno::ENOTSUP) && error.reason().contains("only Unix sockets"), "{error}");
    drop(socket);
    child.join();
}

#[test]
fn a_killed_peer() {
    let (listener, address) = anywhere();
    let child = fork(|| {
        let socket = connect(&address);
        let _ = socket.recv(&mut [0; 1], Timeout::Forever);
    });
    let socket = listener.accept(GENEROUS).unwrap();
    child.kill(libc::SIGKILL);
    child.wait();
    assert_eq!(socket.recv(&mut [0; 9], GENEROUS).unwrap(), 0);
    let error = loop {
        match socket.send(b"x", GENEROUS) {
            Ok(_) => std::thread::sleep(Duration::from_millis(1)),
            Err(error) => break error,
        }
    };
    assert!(error.is(Errno::EPIPE) || error.is(Errno::ECONNRESET), "{error}");
}

#[test]
fn nobody_listens() {
    let (listener, address) = anywhere();
    drop(listener);
    let error = Socket::connect(&address, &plain(), GENEROUS).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("connect {address}: ECONNREFUSED: nobody listens there; start the server first, or check the port")
    );
}

#[test]
fn a_port_that_is_taken() {
    let (_listener, address) = anywhere();
    let error = Listener::open(&address, &plain(), GENEROUS).unwrap_err();
    assert!(error.is(Errno::EADDRINUSE) && error.reason().contains("another socket has this port"), "{error}");
    let error = Listener::open(&parse("tcp://192.0.2.1:0"), &plain(), GENEROUS).unwrap_err();
    assert!(error.is(Errno::EADDRNOTAVAIL) && error.reason().contains("no interface"), "{error}");
}

#[test]
fn a_port_may_be_reused_at_once() {
    let (listener, address) = anywhere();
    let client = connect(&address);
    // Whoever closes first keeps the port in TIME_WAIT.
    drop(listener.accept(GENEROUS).unwrap());
    assert_eq!(client.recv(&mut [0; 1], GENEROUS).unwrap(), 0);
    drop((client, listener));
    listen(&address);
}

#[test]
fn host_names_and_all_interfaces() {
    let listener = listen(&parse("tcp://:0"));
    let (_, port) = listener.local_address().unwrap().ip_and_port().unwrap();
    let mut hosts = vec!["127.0.0.1", "localhost", ""];
    if has_ipv6() {
        hosts.push("[::1]");
    }
    for host in hosts {
        let client = connect(&parse(&format!("tcp://{host}:{port}")));
        let server = listener.accept(GENEROUS).unwrap();
        assert_eq!(client.local_address().unwrap(), server.peer_address().unwrap());
    }
    let error = Socket::connect(&parse("tcp://no-such-host.invalid:80"), &plain(), GENEROUS).unwrap_err();
    // Without a network the name servers cannot be asked.
    assert!(error.is(Errno::ENOENT) || error.is(Errno::EHOSTUNREACH), "{error}");
    assert!(error.reason().contains("no-such-host.invalid"), "{error}");
    let error = Socket::connect(&parse("tcp://localhost:80"), &plain(), Timeout::Now).unwrap_err();
    assert!(error.is(Errno::EAGAIN) && error.reason().contains("numeric address"), "{error}");
}

#[test]
fn looking_up_can_be_cancelled() {
    let cancel = Cancel::new();
    cancel.fire();
    let _scope = cancel.enter();
    let error = Socket::connect(&parse("tcp://localhost:80"), &plain(), Timeout::Forever).unwrap_err();
    assert!(error.is(Errno::ECANCELED) || error.is(Errno::ECONNREFUSED), "{error}"); // or the answer was faster
}

/// With a listener's queue full, the kernel lets connections hang.
#[test]
fn connecting_is_bounded() {
    let listener = Listener::open(&parse("tcp://127.0.0.1:0?backlog=1"), &plain(), GENEROUS).unwrap();
    let address = listener.local_address().unwrap().to_address().unwrap();
    let mut waiting = Vec::new();
    let error = loop {
        match Socket::connect(&address, &plain(), Timeout::After(Duration::from_millis(200))) {
            Ok(socket) => waiting.push(socket),
            Err(error) => break error,
        }
        assert!(waiting.len() < 100);
    };
    assert_eq!(error.to_string(), format!("connect {address}: ETIMEDOUT: the deadline passed"));
    let cancel = Cancel::new();
    std::thread::scope(|threads| {
        threads.spawn(|| {
            std::thread::sleep(Duration::from_millis(10));
            cancel.fire();
        });
        let _scope = cancel.enter();
        assert!(Socket::connect(&address, &plain(), Timeout::Forever).unwrap_err().is(Errno::ECANCELED));
    });
}

#[test]
fn options_of_a_connection() {
    let listener = Listener::open(&parse("tcp://127.0.0.1:0?nodelay=1"), &plain(), GENEROUS).unwrap();
    let address = listener.local_address().unwrap().to_address().unwrap();
    let options = SocketOptions { keepalive: true, ..plain() };
    let client = Socket::connect(&address, &options, GENEROUS).unwrap();
    let server = listener.accept(GENEROUS).unwrap();
    assert!(server.nodelay().unwrap(), "from the listener");
    assert!(!client.nodelay().unwrap());
    client.set_nodelay(true).unwrap();
    assert!(client.nodelay().unwrap());
    assert!(client.keep_alive().unwrap().is_some());
    assert_eq!(server.keep_alive().unwrap(), None);
    let wanted = KeepAlive { idle: Duration::from_millis(1500), interval: Duration::from_secs(3), probes: 4 };
    server.set_keep_alive(Some(wanted)).unwrap();
    assert_eq!(server.keep_alive().unwrap(), Some(KeepAlive { idle: Duration::from_secs(2), ..wanted }));
    server.set_keep_alive(None).unwrap();
    assert_eq!(server.keep_alive().unwrap(), None);
    let absurd = KeepAlive { idle: Duration::MAX, ..KeepAlive::default() };
    assert!(server.set_keep_alive(Some(absurd)).unwrap_err().is(Errno::EINVAL));
}

/// Nobody listens on the port, but with luck it is the one that the kernel picks for our own end.
#[test]
fn never_connected_to_itself() {
    let (listener, address) = anywhere();
    drop(listener);
    for _ in 0..200 {
        assert!(Socket::connect(&address, &plain(), GENEROUS).is_err());
    }
}

#[test]
fn adopted_from_the_standard_library() {
    let made = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listener = Listener::from_fd(made.into()).unwrap();
    assert_eq!(listener.scheme(), Scheme::Tcp);
    let client =
        std::net::TcpStream::connect(listener.local_address().unwrap().to_string().trim_start_matches("tcp://"));
    let client = Socket::from_fd(client.unwrap().into()).unwrap();
    let server = listener.accept(GENEROUS).unwrap();
    assert!(client.recv(&mut [0; 1], SHORT).unwrap_err().is(Errno::ETIMEDOUT));
    server.send_all(b"x", GENEROUS).unwrap();
    assert_eq!(client.recv(&mut [0; 1], GENEROUS).unwrap(), 1);
}

/// Somebody who listens and cannot be reached: the kernel has no room for another connection.
struct Unreachable {
    listener: TcpListener,
    address: Address,
    _first: Socket,
}

impl Unreachable {
    fn at(host: &str, port: u16) -> Option<Unreachable> {
        let listener = TcpListener::bind((host, port)).ok()?;
        nix::sys::socket::listen(&listener, Backlog::new(0).unwrap()).unwrap();
        let address = parse(&format!("tcp://{}", listener.local_addr().unwrap()));
        let first = connect(&address);
        let error = Socket::connect(&address, &plain(), SHORT).unwrap_err();
        assert!(error.is(Errno::ETIMEDOUT), "{error}");
        Some(Unreachable { listener, address, _first: first })
    }

    fn port(&self) -> u16 {
        self.address.host_and_port().unwrap().1
    }

    /// Once somebody asks, makes room, so that the next time, a second later, he is let in.
    fn let_in_who_asks(&self) {
        let (port, asks) = (format!(":{:04X}", self.port()), "02");
        eventually("somebody asks", || {
            let sockets = std::fs::read_to_string("/proc/net/tcp6").unwrap();
            let mut sockets = sockets.lines().map(|line| line.split_whitespace());
            sockets.any(|mut line| line.nth(2).is_some_and(|to| to.ends_with(&port)) && line.next() == Some(asks))
        });
        self.listener.accept().unwrap();
    }
}

/// Two of this host's addresses: the first leads nowhere, the second to somebody who can be reached in a while.
#[test]
fn an_address_that_nothing_answers_for_leaves_time_for_the_next() {
    if !has_ipv6() {
        return skip!("this system has no IPv6, and so one address for this host");
    }
    let reach = |connect: &dyn Fn(&Address)| {
        let (first, second) = loop {
            let first = Unreachable::at("127.0.0.1", 0).unwrap();
            if let Some(second) = Unreachable::at("::1", first.port()) {
                break (first, second);
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| second.let_in_who_asks());
            connect(&parse(&format!("tcp://:{}", first.port())));
        });
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            reach(&|address| {
                let socket = Socket::connect(address, &plain(), Timeout::After(Duration::from_secs(8))).unwrap();
                assert!(socket.peer_address().unwrap().ip_and_port().unwrap().0.is_ipv6());
            });
        });
        // A channel begins again with the first when the second has not answered either.
        reach(&|address| drop(Channel::open_sender(address, GENEROUS).unwrap()));
    });
}

#[test]
fn who_waits_to_connect_can_be_told_to_stop() {
    let unreachable = Unreachable::at("127.0.0.1", 0).unwrap();
    let cancel = Cancel::new();
    std::thread::scope(|scope| {
        let connecting = scope.spawn(|| {
            let _scope = cancel.enter();
            Channel::open_sender(&unreachable.address, Timeout::Forever).err().unwrap()
        });
        cancel.fire();
        assert_eq!(connecting.join().unwrap().errno(), libc::ECANCELED);
    });
}
