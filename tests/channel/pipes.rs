//! Channels over pipes and FIFOs at their edges.

use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, poll};
use wigwag::{Address, Channel, Timeout};

use super::{open, told};
use crate::support::{GENEROUS, SHORT, fork, fork_without};

#[test]
fn a_writer_killed_in_the_middle_is_counted_and_others_go_on() {
    let (receiver, sender) = Channel::pair(&"pipe:".parse().unwrap()).unwrap();
    let (done, tell) = nix::unistd::pipe().unwrap();
    let child = fork(|| {
        // More than the pipe holds: it stops in the middle.
        sender.send(&[1; 500_000], SHORT).unwrap();
        assert_eq!(sender.send(&[2; 500_000], SHORT).unwrap_err().errno(), libc::ETIMEDOUT);
        nix::unistd::write(&tell, b"x").unwrap();
        let _ = sender.flush(GENEROUS);
    });
    drop(tell);
    told(&done);
    child.kill(libc::SIGKILL);
    child.wait();
    std::thread::scope(|scope| {
        scope.spawn(|| sender.send(&[3; 300_000], GENEROUS).unwrap());
        assert!(receiver.recv_message(GENEROUS).unwrap().data == [3; 300_000]);
    });
    drop(sender);
    assert_eq!(receiver.recv_message(GENEROUS).unwrap_err().errno(), libc::EPIPE);
    assert_eq!(receiver.statistics().torn, 1);
}

#[test]
fn what_is_larger_than_the_pipe_goes_in_parts_also_without_waiting() {
    for kind in ["pipe", "fifo"] {
        let ends = open(kind);
        let messages: Vec<Vec<u8>> = (0..20).map(|number| vec![number; 200_000 + usize::from(number)]).collect();
        let mut received = Vec::new();
        for message in &messages {
            // The message before is on its way still, until there is room for the rest of it.
            while let Err(error) = ends.sender.send(message, Timeout::Now) {
                assert!(error.is(Errno::EAGAIN), "{kind}: {error}");
                received.extend(ends.receiver.recv_message(Timeout::Now).map(|message| message.data));
            }
        }
        while let Err(error) = ends.sender.flush(Timeout::Now) {
            assert!(error.is(Errno::EAGAIN), "{kind}: {error}");
            received.extend(ends.receiver.recv_message(Timeout::Now).map(|message| message.data));
        }
        received.extend(ends.receiver.recv_message(Timeout::Now).map(|message| message.data));
        assert!(received == messages, "{kind}");
        assert_eq!((ends.receiver.statistics().torn, ends.sender.statistics().unconfirmed), (0, 0));
        ends.sender.flush(Timeout::Now).unwrap();
    }
}

#[test]
fn a_message_of_which_nothing_went_in_is_not_sent() {
    let (receiver, sender) = Channel::pair(&"pipe:".parse().unwrap()).unwrap();
    let sent = (0..).take_while(|_| sender.send(&[1; 4000], Timeout::Now).is_ok()).count();
    for timeout in [Timeout::Now, SHORT] {
        let error = sender.send(&[2; 200_000], timeout).unwrap_err();
        assert_eq!(error.errno(), if timeout == SHORT { libc::ETIMEDOUT } else { libc::EAGAIN });
    }
    (0..sent).for_each(|_| assert!(receiver.recv_message(Timeout::Now).unwrap().data == [1; 4000]));
    drop(sender);
    assert_eq!(receiver.recv_message(GENEROUS).unwrap_err().errno(), libc::EPIPE);
    assert_eq!(receiver.statistics().torn, 0);
}

#[test]
fn several_writers_rests_do_not_mix() {
    let ends = open("fifo");
    let other = Channel::open_sender(&ends.address, GENEROUS).unwrap();
    ends.sender.send(&[1; 200_000], Timeout::Now).unwrap();
    assert_eq!(other.send(&[2; 100_000], Timeout::Now).unwrap_err().errno(), libc::EAGAIN);
    assert_eq!(ends.receiver.recv_message(Timeout::Now).unwrap_err().errno(), libc::EAGAIN);
    other.send(&[2; 100_000], Timeout::Now).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| other.send(b"behind it", GENEROUS).unwrap());
        scope.spawn(|| ends.sender.flush(GENEROUS).unwrap());
        let mut received: Vec<_> = (0..3).map(|_| ends.receiver.recv_message(GENEROUS).unwrap().data).collect();
        received.sort();
        assert!(received == [vec![1; 200_000], vec![2; 100_000], b"behind it".to_vec()]);
    });
    assert_eq!(ends.receiver.statistics().torn, 0);
}

#[test]
fn the_rest_goes_out_when_the_sender_is_closed() {
    let (receiver, sender) = Channel::pair(&"pipe:".parse().unwrap()).unwrap();
    sender.send(&[1; 100_000], Timeout::Now).unwrap();
    let both = std::sync::Barrier::new(2); // closing does not wait for long
    std::thread::scope(|scope| {
        scope.spawn(|| {
            both.wait();
            assert!(receiver.recv_message(GENEROUS).unwrap().data == [1; 100_000]);
        });
        both.wait();
        drop(sender);
    });
}

#[test]
fn a_line_without_end_holds_nobody_up() {
    let directory = tempfile::tempdir().unwrap();
    let address: Address =
        format!("fifo:{}?framing=line&keep-open=1", directory.path().join("q").display()).parse().unwrap();
    let receiver = Channel::open_receiver(&address, Timeout::Now).unwrap();
    let path = address.path().to_owned();
    let endless = fork(|| {
        let mut pipe = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        while std::io::Write::write_all(&mut pipe, &[b'x'; 4096]).is_ok() {}
    });
    assert_eq!(receiver.recv_message(GENEROUS).unwrap_err().errno(), libc::EBADMSG);
    for (timeout, errno) in [(SHORT, libc::ETIMEDOUT), (Timeout::Now, libc::EAGAIN)] {
        assert_eq!(receiver.recv_message(timeout).unwrap_err().errno(), errno);
    }
    assert_eq!(receiver.statistics().garbage, 1);
    endless.kill(libc::SIGKILL);
    endless.wait();
}

#[test]
fn a_rest_that_is_lost_with_the_receiver_is_counted() {
    let (receiver, sender) = Channel::pair(&"pipe:".parse().unwrap()).unwrap();
    sender.send(&[1; 100_000], Timeout::Now).unwrap();
    let child = fork(|| sender.flush(Timeout::Now).unwrap()); // the rest is its parent's
    child.join();
    drop(receiver);
    let error = sender.send(b"another", Timeout::Now).unwrap_err();
    assert!(error.is(Errno::EPIPE) && error.to_string().contains("the message before"), "{error}");
    assert_eq!(sender.statistics().unconfirmed, 1);
    assert_eq!(sender.send(b"another", Timeout::Now).unwrap_err().errno(), libc::EPIPE);
    assert_eq!(sender.statistics().unconfirmed, 1);
}

#[test]
fn what_another_program_writes_is_skipped_and_said() {
    let ends = open("fifo");
    let mut other = std::fs::OpenOptions::new().write(true).open(ends.address.path()).unwrap();
    other.write_all(b"hello from a shell\n").unwrap();
    ends.sender.send(b"a message", GENEROUS).unwrap();
    let mut garbage = 0;
    let message = loop {
        match ends.receiver.recv_message(GENEROUS) {
            Ok(message) => break message,
            Err(error) => assert!(error.is(Errno::EBADMSG) && error.to_string().contains("framing=line"), "{error}"),
        }
        garbage += 1;
        assert!(garbage < 10);
    };
    assert_eq!(message.data, b"a message");
    assert_eq!(ends.receiver.statistics().garbage, garbage);
}

#[test]
fn what_is_read_with_garbage_is_told_to_those_who_wait() {
    let ends = open("fifo");
    let fd = ends.receiver.descriptor().unwrap().0;
    let is_ready = || {
        let mut polled = [PollFd::new(fd, PollFlags::POLLIN)];
        poll(&mut polled, 0u16).unwrap() == 1
    };
    let mut other = std::fs::OpenOptions::new().write(true).open(ends.address.path()).unwrap();
    other.write_all(b"garbage").unwrap();
    ends.sender.send(b"a message", GENEROUS).unwrap();
    assert_eq!(ends.receiver.recv_message(GENEROUS).unwrap_err().errno(), libc::EBADMSG);
    assert!(is_ready(), "the pipe is empty, and the message in memory");
    assert_eq!(ends.receiver.recv_message(Timeout::Now).unwrap().data, b"a message");
    assert!(!is_ready());
}

#[test]
fn a_shell_can_write_lines() {
    let ends = open("fifo?framing=line");
    let path = ends.address.path().to_str().unwrap();
    let status = std::process::Command::new("sh").args(["-c", "echo one > \"$0\"; echo two > \"$0\"", path]).status();
    assert!(status.unwrap().success());
    assert_eq!(ends.receiver.recv_message(GENEROUS).unwrap().data, b"one");
    assert_eq!(ends.receiver.recv_message(GENEROUS).unwrap().data, b"two");
}

#[test]
fn a_line_that_is_too_large_is_skipped_whole() {
    let ends = open("fifo?framing=line&keep-open=1");
    let mut other = std::fs::OpenOptions::new().write(true).open(ends.address.path()).unwrap();
    let next = || ends.receiver.recv_message(Timeout::Now).map(|message| message.data).map_err(|error| error.errno());
    other.write_all(&[b'A'; 4096]).unwrap();
    assert_eq!(next(), Err(libc::EBADMSG));
    for _ in 0..2 {
        other.write_all(&[b'A'; 3000]).unwrap();
        assert_eq!(next(), Err(libc::EAGAIN), "it is told once");
    }
    other.write_all(b"tail\nwhole\n").unwrap();
    assert_eq!(next().unwrap(), b"whole");
    assert_eq!(ends.receiver.statistics().garbage, 1);
}

#[test]
fn a_line_in_two_parts_is_one_message_whoever_wrote_before() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("lines");
    let address = format!("fifo:{}?framing=line", path.display()).parse().unwrap();
    let program = || std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let receiver = std::thread::scope(|threads| {
        threads.spawn(|| writeln!(program(), "the first").unwrap()); // opening waits for the receiver
        Channel::open_receiver(&address, GENEROUS).unwrap()
    });
    assert_eq!(receiver.recv_message(GENEROUS).unwrap().data, b"the first");
    assert_eq!(receiver.recv_message(GENEROUS).unwrap_err().errno(), libc::EPIPE);
    let mut next = program();
    next.write_all(b"half ").unwrap();
    assert_eq!(receiver.recv_message(Timeout::Now).unwrap_err().errno(), libc::EAGAIN);
    next.write_all(b"a line\n").unwrap();
    assert_eq!(receiver.recv_message(GENEROUS).unwrap().data, b"half a line");
}

#[test]
fn a_line_that_could_mix_is_refused() {
    let ends = open("fifo?framing=line");
    let error = ends.sender.send(&[b'x'; 5000], GENEROUS).unwrap_err();
    assert!(error.is(Errno::EMSGSIZE) && error.to_string().contains("framing=length"), "{error}");
}

#[test]
fn a_fifo_is_free_once_its_receiver_is_gone_whatever_children_live() {
    let directory = tempfile::tempdir().unwrap();
    let address: Address = format!("fifo:{}?keep-open=1", directory.path().join("fifo").display()).parse().unwrap();
    let open = || Channel::open_receiver(&address, Timeout::Now);
    let forever = || loop {
        // SAFETY: a plain system call.
        unsafe { libc::pause() };
    };
    // Closed, while a child lives on.
    let receiver = open().unwrap();
    let child = fork(forever);
    assert_eq!(open().err().unwrap().errno(), libc::EBUSY);
    drop(receiver);
    drop(open().unwrap());
    drop(child);
    // Killed, while a child lives on, until this process lets it end.
    let (done, tell) = nix::unistd::pipe().unwrap();
    let (stay, hold) = nix::unistd::pipe().unwrap();
    let parent = fork(|| {
        let receiver = open().unwrap();
        // SAFETY: only the test's own copy shall count, and nobody uses this one.
        unsafe { libc::close(hold.as_raw_fd()) };
        let child = fork(|| {
            // SAFETY: a plain system call: it outlives its parent.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, 0) };
            nix::unistd::write(&tell, b"x").unwrap();
            assert_eq!(nix::unistd::read(&stay, &mut [0]), Ok(0));
        });
        child.join();
        drop(receiver);
    });
    told(&done);
    assert_eq!(open().err().unwrap().errno(), libc::EBUSY);
    parent.kill(libc::SIGKILL);
    parent.wait();
    drop(open().unwrap());
}

#[test]
fn a_child_that_receives_has_the_fifo_after_its_parent() {
    let directory = tempfile::tempdir().unwrap();
    let address: Address = format!("fifo:{}?keep-open=1", directory.path().join("fifo").display()).parse().unwrap();
    let receiver = Channel::open_receiver(&address, Timeout::Now).unwrap();
    let (done, tell) = nix::unistd::pipe().unwrap();
    let (go, wake) = nix::unistd::pipe().unwrap();
    let child = fork(|| {
        assert_eq!(receiver.recv_message(SHORT).unwrap_err().errno(), libc::ETIMEDOUT);
        nix::unistd::write(&tell, b"x").unwrap();
        told(&go);
        assert_eq!(receiver.recv_message(SHORT).unwrap_err().errno(), libc::ETIMEDOUT);
        nix::unistd::write(&tell, b"x").unwrap();
        assert_eq!(receiver.recv_message(GENEROUS).unwrap().data, b"for the child");
    });
    told(&done);
    drop(receiver);
    nix::unistd::write(&wake, b"x").unwrap();
    told(&done);
    assert_eq!(Channel::open_receiver(&address, Timeout::Now).err().unwrap().errno(), libc::EBUSY);
    Channel::open_sender(&address, GENEROUS).unwrap().send(b"for the child", GENEROUS).unwrap();
    child.join();
}

#[test]
fn a_fifo_starts_again_with_the_next_sender() {
    let ends = open("fifo");
    let address = ends.address.clone();
    ends.sender.send(b"one", GENEROUS).unwrap();
    assert_eq!(ends.receiver.recv_message(GENEROUS).unwrap().data, b"one");
    let next = Channel::open_sender(&address, GENEROUS).unwrap();
    next.send(b"two", GENEROUS).unwrap();
    assert_eq!(ends.receiver.recv_message(GENEROUS).unwrap().data, b"two");
}

#[test]
fn an_end_that_is_handed_over_leaves_the_mode_of_its_description_alone() {
    let flags_of = |fd: &OwnedFd| OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL).unwrap());
    let adopts = || {
        let (read, write) = nix::unistd::pipe2(OFlag::O_DIRECT | OFlag::O_CLOEXEC).unwrap();
        fcntl(&write, FcntlArg::F_SETFL(flags_of(&write) | OFlag::O_APPEND)).unwrap();
        let ends = [read, write];
        let before = ends.each_ref().map(flags_of);
        let address: Address = "pipe:".parse().unwrap();
        let [receiver, sender] =
            ends.each_ref().map(|end| Channel::from_pipe(&address, end.try_clone().unwrap()).unwrap());
        assert_eq!(receiver.recv_message(Timeout::Now).unwrap_err().errno(), libc::EAGAIN);
        sender.send(&[1; 10_000], Timeout::Now).unwrap();
        assert!(receiver.recv_message(Timeout::Now).unwrap().data == [1; 10_000]);
        while let Ok(()) = sender.send(&[1; 4000], Timeout::Now) {} // does not block
        (before, ends.each_ref().map(flags_of))
    };
    let (before, after) = adopts();
    assert_eq!(before, after);
    // Where it cannot be opened once more, nothing else is lost.
    fork_without(&[libc::SYS_openat], libc::EACCES, || {
        let (before, after) = adopts();
        assert_eq!(before.map(|flags| flags | OFlag::O_NONBLOCK), after);
    })
    .join();
}

#[test]
fn sending_without_a_receiver_is_epipe() {
    let (receiver, sender) = Channel::pair(&"pipe:".parse().unwrap()).unwrap();
    drop(receiver);
    assert_eq!(sender.send(b"x", Timeout::Now).unwrap_err().errno(), libc::EPIPE);
}

#[test]
fn a_killed_receiver_leaves_whole_messages_to_the_next() {
    for scheme in ["fifo?capacity=262144", "fifo?framing=line&capacity=262144"] {
        let ends = open(scheme);
        let message = |number: u32| format!("{number:0>999}").into_bytes();
        let sent = (0..).take_while(|number| ends.sender.send(&message(*number), Timeout::Now).is_ok()).count() as u32;
        assert!(sent > 100, "{scheme}: more than a usual pipe holds");
        let receiver = fork(|| {
            assert_eq!(ends.receiver.recv_message(GENEROUS).unwrap().data, message(0));
            // SAFETY: a plain system call.
            unsafe { libc::raise(libc::SIGKILL) };
        });
        assert!(libc::WIFSIGNALED(receiver.wait()));
        ends.sender.send(&message(sent), GENEROUS).unwrap();
        let first = ends.receiver.recv_message(GENEROUS).unwrap().data;
        let number = std::str::from_utf8(&first).unwrap().parse().unwrap();
        assert_eq!(first, message(number), "{scheme}");
        for number in number + 1..=sent {
            assert_eq!(ends.receiver.recv_message(GENEROUS).unwrap().data, message(number), "{scheme}");
        }
        assert_eq!(ends.receiver.statistics().garbage, 0);
    }
}

#[test]
fn a_batch_without_room_says_how_many_went() {
    for kind in ["pipe?capacity=4096", "fifo", "ring?capacity=65536", "mq", "unix-dgram", "unix"] {
        let ends = open(kind);
        let messages: Vec<_> =
            (0..40_000_u64).map(|number| number.to_le_bytes().repeat(1 + number as usize % 7)).collect();
        let borrowed: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
        let error = ends.sender.send_batch(&borrowed, Timeout::Now).unwrap_err();
        assert_eq!(error.errno(), libc::EAGAIN, "{kind}: {error}");
        let sent = error.done();
        assert!(sent > 0, "{kind}");
        for message in &messages[..sent] {
            assert!(ends.receiver.recv_message(GENEROUS).unwrap().data == *message, "{kind}");
        }
        assert_eq!(ends.receiver.recv_message(Timeout::Now).unwrap_err().errno(), libc::EAGAIN, "{kind}");
        ends.sender.send_batch(&borrowed[sent..sent + 1], GENEROUS).unwrap();
        assert!(ends.receiver.recv_message(GENEROUS).unwrap().data == messages[sent], "{kind}");
    }
}
