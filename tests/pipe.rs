//! Anonymous pipes between processes, at their edges.

mod support;

use std::io::Write;
use std::os::fd::AsFd;

use nix::errno::Errno;
use support::{GENEROUS, SHORT, fork};
use wigwag::{Cancel, PIPE_ATOMIC, Pipe, PipeOptions, Timeout};

fn open() -> (Pipe, Pipe) {
    Pipe::open(PipeOptions::default()).unwrap()
}

fn packets() -> (Pipe, Pipe) {
    Pipe::open(PipeOptions { packet: true, ..Default::default() }).unwrap()
}

#[test]
fn child_to_parent_and_end_of_stream() {
    let (reader, writer) = open();
    let child = fork(|| writer.write_all(b"Hello from child", GENEROUS).unwrap());
    drop(writer);
    let mut buffer = [0; 100];
    assert_eq!(reader.read(&mut buffer, GENEROUS).unwrap(), 16);
    assert_eq!(&buffer[..16], b"Hello from child");
    child.join();
    assert_eq!(reader.read(&mut buffer, GENEROUS).unwrap(), 0);
}

#[test]
fn nothing_yet_is_not_the_end() {
    let (reader, _writer) = open();
    let mut buffer = [0; 10];
    assert!(reader.read(&mut buffer, Timeout::Now).unwrap_err().is(Errno::EAGAIN));
    assert!(reader.read(&mut buffer, SHORT).unwrap_err().is(Errno::ETIMEDOUT));
}

#[test]
fn killed_writer_ends_the_stream() {
    let (reader, writer) = open();
    let child = fork(|| {
        writer.write_all(b"x", GENEROUS).unwrap();
        let _ = reader.read_exact(&mut [0; 2], GENEROUS); // never full: it holds a write end itself
    });
    drop(writer);
    let mut buffer = [0; 1];
    support::eventually("child waits", || support::is_asleep(child.pid()));
    child.kill(libc::SIGKILL);
    child.wait();
    // Whether the child or nobody took the byte, what follows is the end, not a hang.
    while reader.read(&mut buffer, GENEROUS).unwrap() != 0 {}
}

#[test]
fn broken_pipe_is_an_error_and_no_signal() {
    let child = fork(|| {
        // The default action of SIGPIPE would end this process.
        // SAFETY: resets a disposition in a process of its own.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
        let (reader, writer) = open();
        drop(reader);
        let error = writer.write_all(b"x", GENEROUS).unwrap_err();
        assert_eq!(error.to_string(), "write pipe:: EPIPE: no reader is left");
        let (_other_reader, other) = open();
        let (input, feed) = open();
        feed.write_all(b"abc", GENEROUS).unwrap();
        assert!(input.splice_to(&writer, 3, GENEROUS).unwrap_err().is(Errno::EPIPE));
        assert_eq!(input.splice_to(&other, 3, GENEROUS).unwrap(), 3);
    });
    child.join();
}

#[test]
fn write_all_tells_how_far_it_came() {
    let (reader, writer) = open();
    let capacity = writer.capacity().unwrap();
    let error = writer.write_all(&vec![1; capacity + 1], SHORT).unwrap_err();
    assert!(error.is(Errno::ETIMEDOUT));
    assert_eq!(error.done(), capacity);
    assert!(writer.write(&[1; PIPE_ATOMIC], Timeout::Now).unwrap_err().is(Errno::EAGAIN));
    let mut all = vec![0; capacity];
    reader.read_exact(&mut all, Timeout::Now).unwrap();
    assert!(all.iter().all(|byte| *byte == 1));
}

#[test]
fn read_exact_tells_how_far_it_came() {
    let (reader, writer) = open();
    writer.write_all(b"abc", Timeout::Now).unwrap();
    let mut buffer = [0; 5];
    let error = reader.read_exact(&mut buffer, SHORT).unwrap_err();
    assert_eq!((error.errno(), error.done()), (libc::ETIMEDOUT, 3));
    writer.write_all(b"de", Timeout::Now).unwrap();
    drop(writer);
    let error = reader.read_exact(&mut buffer, GENEROUS).unwrap_err();
    assert_eq!((error.errno(), error.done()), (libc::EPIPE, 2));
}

#[test]
fn large_transfer_through_a_small_pipe() {
    let (reader, writer) = Pipe::open(PipeOptions { capacity: 4096, ..Default::default() }).unwrap();
    let data: Vec<u8> = (0..1_000_000u32).map(|n| (n % 251) as u8).collect();
    let child = fork(|| {
        let mut received = vec![0; data.len()];
        reader.read_exact(&mut received, GENEROUS).unwrap();
        assert!(received == data);
    });
    writer.write_all(&data, GENEROUS).unwrap();
    child.join();
}

#[test]
fn packets_keep_their_boundaries() {
    let (reader, writer) = packets();
    writer.write_all(b"one", Timeout::Now).unwrap();
    writer.write_all(b"three", Timeout::Now).unwrap();
    let mut buffer = [0; PIPE_ATOMIC];
    let error = reader.read(&mut buffer[..100], Timeout::Now).unwrap_err();
    assert_eq!((error.errno(), error.true_size()), (libc::EMSGSIZE, PIPE_ATOMIC));
    assert_eq!(reader.read(&mut buffer, Timeout::Now).unwrap(), 3);
    assert_eq!(reader.read(&mut buffer, Timeout::Now).unwrap(), 5);
    let error = writer.write(&[0; PIPE_ATOMIC + 1], Timeout::Now).unwrap_err();
    assert_eq!((error.errno(), error.true_size()), (libc::EMSGSIZE, PIPE_ATOMIC + 1));
    assert!(writer.write(b"", Timeout::Now).unwrap_err().is(Errno::EINVAL));
    assert!(reader.read_exact(&mut buffer, Timeout::Now).unwrap_err().is(Errno::ENOTSUP));
}

#[test]
fn capacity_is_set_and_bounded() {
    let (reader, writer) = open();
    assert_eq!(writer.set_capacity(10_000).unwrap(), 16384);
    assert_eq!(reader.capacity().unwrap(), 16384);
    writer.write_all(&[0; 9000], Timeout::Now).unwrap();
    let busy = writer.set_capacity(4096).unwrap_err();
    assert!(busy.is(Errno::EBUSY) && busy.reason().contains("read them first"));
    assert!(writer.set_capacity(usize::MAX).unwrap_err().is(Errno::EINVAL));
}

#[test]
fn wrong_end_and_empty_buffer() {
    let (reader, writer) = open();
    assert_eq!(
        writer.read(&mut [0], Timeout::Now).unwrap_err().to_string(),
        "read pipe:: EBADF: this is the write end"
    );
    assert_eq!(reader.write(b"x", Timeout::Now).unwrap_err().to_string(), "write pipe:: EBADF: this is the read end");
    assert!(reader.read(&mut [], Timeout::Now).unwrap_err().is(Errno::EINVAL));
    assert_eq!(writer.write(b"", Timeout::Now).unwrap(), 0);
    assert!(reader.splice_from(&writer, 1, Timeout::Now).unwrap_err().is(Errno::EBADF));
    assert!(reader.splice_to(&writer, 0, Timeout::Now).unwrap_err().is(Errno::EINVAL));
    assert!(reader.tee(&reader, 1, Timeout::Now).unwrap_err().is(Errno::EBADF));
}

#[test]
fn splice_and_tee() {
    let (input, feed) = open();
    let (output, sink) = open();
    feed.write_all(b"abcdef", Timeout::Now).unwrap();
    assert_eq!(input.tee(&sink, 3, Timeout::Now).unwrap(), 3);
    assert_eq!(input.splice_to(&sink, 6, Timeout::Now).unwrap(), 6);
    let mut buffer = [0; 9];
    output.read_exact(&mut buffer, Timeout::Now).unwrap();
    assert_eq!(&buffer, b"abcabcdef");
    assert!(input.splice_to(&sink, 6, SHORT).unwrap_err().is(Errno::ETIMEDOUT), "empty input");

    let mut file = tempfile::tempfile().unwrap();
    feed.write_all(b"to a file", Timeout::Now).unwrap();
    assert_eq!(input.splice_to(&file, 100, Timeout::Now).unwrap(), 9);
    std::io::Seek::rewind(&mut file).unwrap();
    assert_eq!(sink.splice_from(&file, 100, Timeout::Now).unwrap(), 9);
    assert_eq!(sink.splice_from(&file, 100, Timeout::Now).unwrap(), 0, "end of the file");

    let capacity = sink.capacity().unwrap();
    output.read_exact(&mut [0; 9], Timeout::Now).unwrap();
    sink.write_all(&vec![0; capacity], Timeout::Now).unwrap();
    feed.write_all(b"x", Timeout::Now).unwrap();
    assert!(input.splice_to(&sink, 1, SHORT).unwrap_err().is(Errno::ETIMEDOUT), "full output");
    assert!(input.splice_to(&sink, 1, Timeout::Now).unwrap_err().is(Errno::EAGAIN));
}

#[test]
fn adopted_ends_know_their_direction_and_keep_their_mode() {
    let (reader, writer) = nix::unistd::pipe().unwrap();
    let (reader, writer) = (Pipe::from_fd(reader).unwrap(), Pipe::from_fd(writer).unwrap());
    assert!(reader.is_reader() && !writer.is_reader());
    let mut buffer = [0; 4];
    assert!(reader.read(&mut buffer, Timeout::Now).unwrap_err().is(Errno::EAGAIN));
    assert!(reader.read(&mut buffer, SHORT).unwrap_err().is(Errno::ETIMEDOUT));
    writer.write_all(b"abcd", GENEROUS).unwrap();
    reader.read_exact(&mut buffer, GENEROUS).unwrap();
    let full = writer.write_all(&vec![0; 100_000], SHORT).unwrap_err();
    assert_eq!((full.errno(), full.done()), (libc::ETIMEDOUT, 65536));
    let flags = nix::fcntl::fcntl(reader.as_fd(), nix::fcntl::FcntlArg::F_GETFL).unwrap();
    assert_eq!(flags & libc::O_NONBLOCK, 0);

    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"x").unwrap();
    let error = Pipe::from_fd(file.into()).unwrap_err();
    assert_eq!(error.to_string(), "adopt pipe:: EINVAL: the descriptor is not a pipe's");
}

#[test]
fn inherited_by_a_program() {
    let (reader, writer) = open();
    let mut child = std::process::Command::new("sh")
        .args(["-c", "echo from a program"])
        .stdout(writer.into_fd().unwrap())
        .spawn()
        .unwrap();
    let mut buffer = [0; 15];
    reader.read_exact(&mut buffer, GENEROUS).unwrap();
    assert_eq!(&buffer, b"from a program\n");
    assert!(child.wait().unwrap().success());
}

#[test]
fn inheriting_leaves_the_common_description_as_it_is() {
    let mode = |fd: std::os::fd::BorrowedFd<'_>| {
        nix::fcntl::OFlag::from_bits_retain(nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_GETFL).unwrap())
    };
    let (nonblocking, packets) = (nix::fcntl::OFlag::O_NONBLOCK, nix::fcntl::OFlag::O_DIRECT);
    let (reader, writer) = Pipe::open(PipeOptions { packet: true, ..Default::default() }).unwrap();
    // What the parent of a fork goes on using.
    let parents = [reader.as_fd().try_clone_to_owned().unwrap(), writer.as_fd().try_clone_to_owned().unwrap()];
    writer.inherit().unwrap();
    let handed_on = reader.into_fd().unwrap();
    for kept in &parents {
        assert!(mode(kept.as_fd()).contains(nonblocking));
    }
    for ready in [writer.as_fd(), handed_on.as_fd()] {
        assert!(!mode(ready).contains(nonblocking));
    }
    assert!(mode(writer.as_fd()).contains(packets), "each write goes on being a packet");
    let closes_on_exec = |fd| nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_GETFD).unwrap() & libc::FD_CLOEXEC;
    assert_eq!((closes_on_exec(writer.as_fd()), closes_on_exec(handed_on.as_fd())), (0, libc::FD_CLOEXEC));
    writer.write_all(b"packet", GENEROUS).unwrap();
    drop(parents);
    drop(writer);
    let reader = Pipe::from_fd(handed_on).unwrap();
    let mut buffer = [0; wigwag::PIPE_ATOMIC];
    assert_eq!(reader.read(&mut buffer, GENEROUS).unwrap(), 6);
    assert_eq!(reader.read(&mut buffer, GENEROUS).unwrap(), 0, "the end: no writer is left over");
}

#[test]
fn splicing_past_the_limit_on_file_sizes_fails_and_does_not_kill() {
    // The limit is the whole process's.
    fork(|| {
        let (reader, writer) = open();
        let mut before = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: the limits are live locals.
        let set = |limit: &libc::rlimit| assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, limit) }, 0);
        // SAFETY: as above.
        assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, &raw mut before) }, 0);
        let file = tempfile::tempfile().unwrap();
        nix::unistd::ftruncate(&file, 4096).unwrap();
        nix::unistd::lseek(&file, 0, nix::unistd::Whence::SeekEnd).unwrap();
        writer.write_all(b"kept", GENEROUS).unwrap();
        set(&libc::rlimit { rlim_cur: 4096, ..before });
        let result = reader.splice_to(&file, 4, GENEROUS);
        set(&before);
        let error = result.unwrap_err();
        assert!(error.is(Errno::EFBIG) && error.reason().contains("RLIMIT_FSIZE"), "{error}");
        assert_eq!(reader.splice_to(&file, 4, GENEROUS).unwrap(), 4, "nothing was taken");
    })
    .join();
}

#[test]
fn cancel_and_close_end_waits() {
    let (reader, _writer) = open();
    let cancel = Cancel::new();
    std::thread::scope(|threads| {
        let waiting = threads.spawn(|| {
            let _scope = cancel.enter();
            reader.read(&mut [0], Timeout::Forever).unwrap_err()
        });
        cancel.fire();
        assert!(waiting.join().unwrap().is(Errno::ECANCELED));
        let waiting = threads.spawn(|| reader.read(&mut [0], Timeout::Forever).unwrap_err());
        reader.end_waits();
        assert!(waiting.join().unwrap().is(Errno::ECANCELED));
    });
}

/// Two ends of a TCP connection in blocking mode, as other code opens them.
fn tcp_pair() -> (std::net::TcpStream, std::net::TcpStream) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (client, listener.accept().unwrap().0)
}

#[test]
fn splice_with_a_blocking_socket_is_bounded() {
    let (reader, writer) = open();
    let (here, mut there) = tcp_pair();
    assert!(writer.splice_from(&here, 100, Timeout::Now).unwrap_err().is(Errno::EAGAIN));
    assert!(writer.splice_from(&here, 100, SHORT).unwrap_err().is(Errno::ETIMEDOUT));
    there.write_all(b"Hello").unwrap();
    assert_eq!(writer.splice_from(&here, 100, GENEROUS).unwrap(), 5);
    assert_eq!(reader.splice_to(&here, 100, GENEROUS).unwrap(), 5);
    let mut buffer = [0; 5];
    std::io::Read::read_exact(&mut there, &mut buffer).unwrap();
    assert_eq!(&buffer, b"Hello");

    // Until the connection has no room any more.
    let ended = loop {
        let _ = writer.write(&[0; 65536], Timeout::Now);
        match reader.splice_to(&here, 65536, SHORT) {
            Ok(moved) => assert!(moved > 0),
            Err(error) => break error,
        }
    };
    assert!(ended.is(Errno::ETIMEDOUT), "{ended}");
    assert!(reader.splice_to(&here, 65536, Timeout::Now).unwrap_err().is(Errno::EAGAIN));
    let flags = nix::fcntl::fcntl(&here, nix::fcntl::FcntlArg::F_GETFL).unwrap();
    assert_eq!(flags & libc::O_NONBLOCK, 0, "its mode is left as it is");
}
