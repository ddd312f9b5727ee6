//! Questions and answers over every mechanism that has a way back.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use wigwag::{Address, Caller, Cancel, Channel, Server, SysvMq, SysvMqOptions, SysvSelect, Timeout};

use super::told;
use crate::support::{GENEROUS, SHORT, eventually, fork, fresh};

/// A fresh address of this kind, and what it lies in.
fn fresh_address(scheme: &str) -> (Option<tempfile::TempDir>, Address) {
    let directory = tempfile::tempdir().unwrap();
    let text = match scheme {
        "tcp" | "udp" => format!("{scheme}://127.0.0.1:0"),
        "mq" => format!("mq:/{}", fresh("call")),
        "sysv-mq" => format!("sysv-mq:{}#1", directory.path().display()),
        _ => format!("{scheme}:{}", directory.path().join("call").display()),
    };
    (Some(directory), text.parse().unwrap())
}

fn reversed(question: &[u8]) -> Result<Vec<u8>, String> {
    match question {
        b"refuse" => Err("not that one".into()),
        question => Ok(question.iter().rev().copied().collect()),
    }
}

fn everywhere(test: impl Fn(&Address)) {
    for scheme in ["tcp", "udp", "unix", "unix-dgram", "unix-seqpacket", "mq", "sysv-mq", "ring", "fifo"] {
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
fn a_server_outlasts_its_callers() {
    everywhere(|address| {
        let server = Server::open(address, GENEROUS).unwrap();
        let reached = server.local_address().unwrap_or(address).clone();
        for _ in 0..2 {
            let asking = fork(|| {
                let caller = Caller::open(&reached, GENEROUS).unwrap();
                assert_eq!(caller.call(b"ab", GENEROUS).unwrap(), b"ba");
            });
            assert!(server.serve_one(reversed, GENEROUS).unwrap(), "{address}");
            asking.join();
            assert_eq!(server.serve_one(reversed, SHORT).unwrap_err().errno(), libc::ETIMEDOUT, "{address}");
        }
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
fn what_is_no_question_holds_a_server_up_no_longer_than_its_timeout() {
    let (_directory, address) = fresh_address("unix");
    let server = Server::open(&address, GENEROUS).unwrap();
    let _flood = fork(|| {
        let sender = Channel::open_sender(&address, GENEROUS).unwrap();
        while sender.send(b"hello", GENEROUS).is_ok() {}
    });
    eventually("the flood has begun", || {
        assert!(matches!(server.next(Timeout::Now).map(drop).unwrap_err().errno(), libc::EAGAIN));
        server.foreign() > 0
    });
    assert_eq!(server.next(SHORT).map(drop).unwrap_err().errno(), libc::ETIMEDOUT);
}

#[test]
fn a_caller_that_cannot_be_opened_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let address: Address = format!("fifo:{}", directory.path().join("call").display()).parse().unwrap();
    let error = Caller::open(&address, SHORT).err().unwrap(); // there is no server
    assert!(error.is(Errno::ETIMEDOUT), "{error}");
    let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| name == "call"), "{left:?}");
}

#[test]
fn without_a_way_back_it_is_refused() {
    for text in ["topic:x", "sysv-mq:private"] {
        let error = Caller::open(&text.parse().unwrap(), Timeout::Now).err().unwrap();
        assert!(error.is(Errno::ENOTSUP) && error.to_string().contains("ring:"), "{error}");
    }
}

#[test]
fn an_answer_that_is_too_large_is_refused() {
    for scheme in ["mq", "ring", "unix"] {
        let (_directory, address) = fresh_address(scheme);
        let server = Server::open(&address, GENEROUS).unwrap();
        let caller = Caller::open(&address, GENEROUS).unwrap();
        std::thread::scope(|scope| {
            let asking = scope.spawn(|| caller.call(b"much", GENEROUS).unwrap_err());
            assert!(server.next(GENEROUS).unwrap().answer(Ok(&vec![0; 2 << 20])));
            let error = asking.join().unwrap();
            assert!(error.is(Errno::EREMOTEIO) && error.reason().contains("could not be sent"), "{address}: {error}");
        });
        assert_eq!(server.dropped(), 0);
        let _ = Channel::remove(&address);
    }
}

/// Where each caller has a channel of its own for answers, and the directory that it lies in.
fn with_channels_for_answers(test: impl Fn(&Address, &dyn Fn() -> usize)) {
    for scheme in ["ring", "fifo"] {
        let (directory, address) = fresh_address(scheme);
        let directory = directory.unwrap();
        test(&address, &|| std::fs::read_dir(directory.path()).unwrap().count());
    }
    // In wigwag's own directory.
    let name = fresh("call");
    let address = format!("ring:{name}?persistent=1").parse().unwrap();
    let first = Server::open(&address, GENEROUS).unwrap(); // which makes the directory
    drop(first);
    let directory = std::env::var("WIGWAG_DIR").unwrap_or(format!("/dev/shm/wigwag-{}", nix::unistd::geteuid()));
    test(&address, &|| {
        let entries = std::fs::read_dir(&directory).unwrap().flatten();
        entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&name)).count()
    });
    Channel::remove(&address).unwrap();
}

#[test]
fn a_caller_that_has_closed_gets_no_channel_again() {
    with_channels_for_answers(|address, files| {
        let server = Server::open(address, GENEROUS).unwrap();
        let caller = Caller::open(address, GENEROUS).unwrap();
        assert_eq!(caller.call(b"?", SHORT).unwrap_err().errno(), libc::ETIMEDOUT);
        drop(caller);
        assert!(!server.next(GENEROUS).unwrap().answer(Ok(b"!")));
        assert_eq!((server.dropped(), files()), (1, 1), "{address}");
    });
}

#[test]
fn what_a_killed_caller_leaves_the_next_removes() {
    with_channels_for_answers(|address, files| {
        let leave = || {
            let (done, tell) = nix::unistd::pipe().unwrap();
            let child = fork(|| {
                let _caller = Caller::open(address, GENEROUS).unwrap();
                nix::unistd::write(&tell, b"x").unwrap();
                std::thread::sleep(Duration::from_secs(60));
            });
            drop(tell);
            told(&done);
            child.kill(libc::SIGKILL);
            child.wait();
        };
        let server = Server::open(address, GENEROUS).unwrap();
        leave();
        assert_eq!(files(), 2, "{address}");
        let caller = Caller::open(address, GENEROUS).unwrap();
        assert_eq!(files(), 2, "its own alone: {address}");
        drop(caller);
        leave();
        drop(server);
        assert_eq!(files(), 2, "{address}");
        let _server = Server::open(address, GENEROUS).unwrap();
        assert_eq!(files(), 1, "{address}");
    });
}

/// The key of a caller's queue for answers, whose number a question names.
fn key_for_answers(question: &[u8]) -> Address {
    format!("sysv-mq:0x{:08x}", crc32fast::hash(&question[4..12])).parse().unwrap()
}

#[test]
fn a_number_that_leads_to_somebody_elses_queue_leads_nowhere() {
    let (_directory, address) = fresh_address("sysv-mq");
    let server = Server::open(&address, GENEROUS).unwrap();
    let questions = Channel::open_sender(&address, GENEROUS).unwrap();
    // Of another namespace, as far as can be told; and of a caller that is dead.
    let made_up = [b"WWqu".as_slice(), &rand_number().to_le_bytes(), &1_u64.to_le_bytes(), b"payload"].concat();
    let child = fork(|| {
        let caller = Caller::open(&address, GENEROUS).unwrap();
        let _ = caller.call(b"of the dead", GENEROUS);
    });
    let of_the_dead = Channel::open_receiver(&address, GENEROUS).unwrap().recv_message(GENEROUS).unwrap().data;
    child.kill(libc::SIGKILL);
    child.wait();
    Channel::remove(&key_for_answers(&of_the_dead)).unwrap();
    for (dropped, question) in [made_up, of_the_dead].iter().enumerate() {
        for options in ["", "?bytes=3000"] {
            let theirs: Address = format!("{}{options}", key_for_answers(question)).parse().unwrap();
            let queue = SysvMq::create(&theirs, &SysvMqOptions::default()).unwrap();
            questions.send(question, GENEROUS).unwrap();
            let was_there = server.next(GENEROUS).unwrap().answer(Ok(b"!"));
            let status = queue.status(); // fails if it is gone
            queue.unlink().unwrap();
            assert_eq!((was_there, status.unwrap().messages), (false, 0), "{dropped} {options}");
        }
    }
    assert_eq!(server.dropped(), 4);
    Channel::remove(&address).unwrap();
}

fn rand_number() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0)
}

#[test]
fn the_queue_of_a_killed_caller_is_removed_by_the_server_that_has_an_answer() {
    for (options, is_anothers) in [("", false), ("?bytes=3000", false), ("", true)] {
        let (_directory, address) = fresh_address("sysv-mq");
        let address: Address = format!("{address}{options}").parse().unwrap();
        let server = Server::open(&address, GENEROUS).unwrap();
        let (questions, again) =
            (Channel::open_receiver(&address, GENEROUS).unwrap(), Channel::open_sender(&address, GENEROUS).unwrap());
        let child = fork(|| {
            let caller = Caller::open(&address, GENEROUS).unwrap();
            assert_eq!(caller.call(b"first", GENEROUS).unwrap(), b"!".repeat(2900));
            let _ = caller.call(b"second", GENEROUS);
        });
        let first = questions.recv_message(GENEROUS).unwrap().data;
        let answers = SysvMq::open(&key_for_answers(&first), &SysvMqOptions::default()).unwrap();
        assert!(answers.status().unwrap().bytes_max > 2900);
        again.send(&first, GENEROUS).unwrap();
        assert!(server.next(GENEROUS).unwrap().answer(Ok(&b"!".repeat(2900))));
        let second = questions.recv_message(GENEROUS).unwrap().data;
        child.kill(libc::SIGKILL);
        child.wait();
        if is_anothers {
            // As if the number of the dead were made up, and led to this process's queue.
            answers.send(b"", 1, GENEROUS).unwrap();
            answers.recv(SysvSelect::Any, GENEROUS).unwrap();
        }
        again.send(&second, GENEROUS).unwrap();
        assert!(!server.next(GENEROUS).unwrap().answer(Ok(b"!")));
        let left = answers.status().map(|status| status.messages).map_err(|error| error.errno());
        assert_eq!(left, if is_anothers { Ok(0) } else { Err(libc::EIDRM) });
        let _ = answers.unlink(); // there may be nothing
        Channel::remove(&address).unwrap();
    }
}

#[test]
fn a_child_made_by_fork_leaves_its_parents_caller_alone() {
    with_channels_for_answers(|address, _| {
        let server = Server::open(address, GENEROUS).unwrap();
        let mut caller = Some(Caller::open(address, GENEROUS).unwrap());
        fork(|| drop(caller.take())).join();
        std::thread::scope(|scope| {
            let asking = scope.spawn(|| caller.as_ref().unwrap().call(b"abc", GENEROUS).unwrap());
            assert!(server.next(GENEROUS).unwrap().answer(Ok(b"cba")));
            assert_eq!(asking.join().unwrap(), b"cba", "{address}");
        });
    });
}

#[test]
fn serving_ends_when_it_shall_although_there_is_always_a_question() {
    for (scheme, by_cancel) in [("unix", false), ("ring", false), ("ring", true)] {
        let (_directory, address) = fresh_address(scheme);
        let server = Server::open(&address, GENEROUS).unwrap();
        let asking = Channel::open_sender(&address, GENEROUS).unwrap();
        let ask = || asking.send(&[&b"WWqu"[..], &[7; 16]].concat(), GENEROUS).unwrap();
        let (cancel, mut served) = (Cancel::new(), 0);
        let scope = cancel.enter();
        ask();
        let handler = |_: &[u8]| {
            served += 1;
            if served < 50 {
                ask();
            }
            match served {
                3 if by_cancel => cancel.fire(),
                3 | 50 => server.end_waits(),
                _ => {}
            }
            Ok(Vec::new())
        };
        assert_eq!(server.serve(handler, Timeout::Forever).unwrap_err().errno(), libc::ECANCELED, "{scheme}");
        assert_eq!(served, 3, "{scheme}");
        drop(scope);
        let _ = Channel::remove(&address); // sockets have nothing to remove
    }
}

#[test]
fn garbage_without_end_holds_a_server_up_no_longer_than_its_timeout() {
    let (_directory, address) = fresh_address("fifo");
    let server = Server::open(&address, GENEROUS).unwrap();
    let mut writer = std::fs::OpenOptions::new().write(true).open(address.path()).unwrap();
    let (served, until) = (AtomicBool::new(false), std::time::Instant::now() + Duration::from_secs(20));
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            while !served.load(Ordering::SeqCst) && std::time::Instant::now() < until {
                writer.write_all(&[b'x'; 4096]).unwrap();
            }
            served.load(Ordering::SeqCst)
        });
        let ended = server.serve(reversed, SHORT);
        served.store(true, Ordering::SeqCst);
        while !writing.is_finished() {
            let _ = server.next(Timeout::Now); // makes room, if the writer waits for some
        }
        assert_eq!(ended.unwrap_err().errno(), libc::ETIMEDOUT);
        assert!(writing.join().unwrap(), "it went on as long as there was garbage");
    });
}

#[test]
fn an_answer_to_a_caller_that_had_the_same_address_before_is_none() {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let address: Address = format!("udp://{}", socket.local_addr().unwrap()).parse().unwrap();
    let caller = Caller::open(&address, GENEROUS).unwrap();
    let answer = |number: &[u8], text: &[u8]| [b"WWan", number, &[1], text].concat();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut question = [0; 100];
            let (_, from) = socket.recv_from(&mut question).unwrap();
            // That caller had asked once, too.
            socket.send_to(&answer(&1_u64.to_le_bytes(), b"another's"), from).unwrap();
            socket.send_to(&answer(&question[12..20], b"its own"), from).unwrap();
        });
        assert_eq!(caller.call(b"what", GENEROUS).unwrap(), b"its own");
    });
    assert_eq!(caller.late(), 1);
}
