//! Questions and answers over every mechanism that has a way back.

use std::time::Duration;

use nix::errno::Errno;
use wigwag::{Address, Caller, Channel, Server, Timeout};

use super::told;
use crate::support::{GENEROUS, SHORT, eventually, fork, fresh};

/// A fresh address of this kind, and what it lies in.
fn fresh_address(scheme: &str) -> (Option<tempfile::TempDir>, Address) {
    let directory = tempfile::tempdir().unwrap();
    let text = match scheme {
        "tcp" | "udp" => format!("{scheme}://127.0.0.1:0"),
        "mq" => format!("mq:/{}", fresh("call")),
        _ => format!("{scheme}:{}", directory.path().join("call").display()),
    };
    let options = match scheme {
        "fifo" => "?keep-open=1",
        "ring" => "?persistent=1",
        _ => "",
    };
    (Some(directory), format!("{text}{options}").parse().unwrap())
}

fn reversed(question: &[u8]) -> Result<Vec<u8>, String> {
    match question {
        b"refuse" => Err("not that one".into()),
        question => Ok(question.iter().rev().copied().collect()),
    }
}

fn everywhere(test: impl Fn(&Address)) {
    for scheme in ["tcp", "udp", "unix", "unix-dgram", "unix-seqpacket", "mq", "ring", "fifo"] {
        let (_directory, address) = fresh_address(scheme);
        test(&address);
        let _ = Channel::remove(&address); // sockets have nothing to remove
    }
}

/// Serves until all of `ask` is done.
fn with_server(address: &Address, ask: impl FnOnce(&Address) + Send) -> Server {
    let server = Server::open(address, GENEROUS).unwrap();
    let reached = server.local_address().unwrap_or(address).clone();
    std::thread::scope(|scope| {
        let serving = scope.spawn(|| server.serve(reversed, GENEROUS).unwrap_err());
        ask(&reached);
        server.end_waits();
        assert_eq!(serving.join().unwrap().errno(), libc::ECANCELED);
    });
    server
}

#[test]
fn everybody_gets_the_answers_to_his_own_questions() {
    everywhere(|address| {
        let server = with_server(address, |address| {
            let children: Vec<_> = (0..3)
                .map(|child| {
                    fork(|| {
                        let caller = Caller::open(address, GENEROUS).unwrap();
                        for n in 0..20 {
                            let question = format!("{child} asks {n}");
                            let answer = caller.call(question.as_bytes(), GENEROUS).unwrap();
                            assert_eq!(answer, reversed(question.as_bytes()).unwrap(), "{address}");
                        }
                        assert_eq!(caller.late(), 0);
                    })
                })
                .collect();
            children.into_iter().for_each(crate::support::Child::join);
        });
        assert_eq!((server.dropped(), server.foreign()), (0, 0), "{address}");
    });
}

#[test]
fn a_refusal_comes_with_its_text() {
    everywhere(|address| {
        with_server(address, |address| {
            let caller = Caller::open(address, GENEROUS).unwrap();
            let error = caller.call(b"refuse", GENEROUS).unwrap_err();
            assert!(error.is(Errno::EREMOTEIO) && error.to_string().contains("not that one"), "{error}");
            assert_eq!(caller.call(b"abc", GENEROUS).unwrap(), b"cba");
        });
    });
}

#[test]
fn a_late_answer_is_dropped_and_counted() {
    everywhere(|address| {
        let server = Server::open(address, GENEROUS).unwrap();
        let caller = Caller::open(server.local_address().unwrap_or(address), GENEROUS).unwrap();
        assert_eq!(caller.call(b"first", SHORT).unwrap_err().errno(), libc::ETIMEDOUT, "{address}");
        let question = server.next(GENEROUS).unwrap();
        assert_eq!(question.message(), b"first");
        assert!(question.answer(Ok(b"too late")));
        std::thread::scope(|scope| {
            let asking = scope.spawn(|| caller.call(b"second", GENEROUS).unwrap());
            assert!(server.next(GENEROUS).unwrap().answer(Ok(b"in time")));
            assert_eq!(asking.join().unwrap(), b"in time", "{address}");
        });
        assert_eq!(caller.late(), 1);
    });
}

#[test]
fn a_caller_that_is_killed_costs_its_answer_alone() {
    everywhere(|address| {
        let server = Server::open(address, GENEROUS).unwrap();
        let reached = server.local_address().unwrap_or(address).clone();
        let (done, tell) = nix::unistd::pipe().unwrap();
        let child = fork(|| {
            let caller = Caller::open(&reached, GENEROUS).unwrap();
            nix::unistd::write(&tell, b"x").unwrap();
            let _ = caller.call(b"mine", GENEROUS);
        });
        drop(tell);
        told(&done);
        let question = server.next(GENEROUS).unwrap();
        child.kill(libc::SIGKILL);
        child.wait();
        // Datagrams and connections may still take it; nobody else gets it.
        question.answer(Ok(b"nobody's"));
        std::thread::scope(|scope| {
            let caller = Caller::open(&reached, GENEROUS).unwrap();
            let asking = scope.spawn(move || {
                let answer = caller.call(b"next", GENEROUS).unwrap();
                (answer, caller.late())
            });
            assert!(server.next(GENEROUS).unwrap().answer(Ok(b"yours")));
            assert_eq!(asking.join().unwrap(), (b"yours".to_vec(), 0), "{address}");
        });
    });
}

#[test]
fn a_server_that_goes_is_noticed_over_connections() {
    let (_directory, address) = fresh_address("unix");
    let server = Server::open(&address, GENEROUS).unwrap();
    let caller = Caller::open(&address, GENEROUS).unwrap();
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| caller.call(b"anybody?", GENEROUS).unwrap_err());
        drop(server.next(GENEROUS).unwrap());
        drop(server);
        assert_eq!(asking.join().unwrap().errno(), libc::EPIPE);
    });
    // The next server is found again.
    with_server(&address, |_| assert_eq!(caller.call(b"ab", GENEROUS).unwrap(), b"ba"));
}

#[test]
fn other_messages_are_no_questions() {
    let (_directory, address) = fresh_address("unix");
    let server = with_server(&address, |address| {
        let sender = Channel::open_sender(address, GENEROUS).unwrap();
        sender.send(b"hello", GENEROUS).unwrap();
        sender.send(b"", GENEROUS).unwrap();
        let caller = Caller::open(address, GENEROUS).unwrap();
        eventually("an answer", || caller.call(b"ab", Timeout::After(Duration::from_secs(5))).is_ok());
    });
    assert_eq!(server.foreign(), 2);
}

#[test]
fn without_a_way_back_it_is_refused() {
    for text in ["topic:x", "sysv-mq:/etc/passwd#1"] {
        let error = Caller::open(&text.parse().unwrap(), Timeout::Now).err().unwrap();
        assert!(error.is(Errno::ENOTSUP) && error.to_string().contains("ring:"), "{error}");
    }
}
