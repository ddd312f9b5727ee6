//! Named pipes: opening with a deadline instead of the endless hang, and streams between strangers.

mod support;

use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use support::{GENEROUS, SHORT, eventually, fork, fork_without, is_asleep};
use tempfile::TempDir;
use wigwag::{Address, Cancel, Fifo, FifoOptions, Scheme, Signal, Timeout};

fn place() -> (TempDir, Address) {
    let directory = tempfile::tempdir().unwrap();
    let address = at(&directory, "f");
    (directory, address)
}

fn at(directory: &TempDir, name: &str) -> Address {
    let path = directory.path().join(name);
    Address::from_parts(Scheme::Fifo, path.as_os_str().as_encoded_bytes(), None, []).unwrap()
}

fn plain() -> FifoOptions {
    FifoOptions::default()
}

fn keep_open() -> FifoOptions {
    FifoOptions { create: true, keep_open: true, ..Default::default() }
}

fn errno_of<T: std::fmt::Debug>(result: wigwag::Result<T>) -> i32 {
    result.unwrap_err().errno()
}

/// Runs `body` in a process of its own: the children that other tests fork meanwhile would hold copies of its ends, and
/// whoever finds one of those does not wait for ours.
fn alone(body: impl FnOnce()) {
    fork(body).join();
}

#[test]
fn opening_alone_is_bounded_both_ways() {
    let (_directory, address) = place();
    Fifo::create(&address, &plain()).unwrap();
    alone(|| {
        for open in [Fifo::open_reader, Fifo::open_writer] {
            assert_eq!(errno_of(open(&address, &plain(), Timeout::Now)), libc::EAGAIN);
            let start = Instant::now();
            let error = open(&address, &plain(), SHORT).unwrap_err();
            assert_eq!(error.errno(), libc::ETIMEDOUT);
            assert!(start.elapsed() >= Duration::from_millis(20));
            assert!(error.to_string().ends_with("f: ETIMEDOUT: the deadline passed"), "{error}");
            let cancel = Cancel::new();
            std::thread::scope(|threads| {
                threads.spawn(|| {
                    std::thread::sleep(Duration::from_millis(10));
                    cancel.fire();
                });
                let _scope = cancel.enter();
                assert_eq!(errno_of(open(&address, &plain(), Timeout::Forever)), libc::ECANCELED);
            });
        }
    });
}

#[test]
fn each_side_waits_for_the_other() {
    let (_directory, address) = place();
    let greet = |writer: &Fifo| writer.write_all(b"Hello FIFO", GENEROUS).unwrap();
    let meet = |reader_first| {
        let options = FifoOptions { create: true, ..Default::default() };
        let other = fork(|| {
            if reader_first {
                greet(&Fifo::open_writer(&address, &options, GENEROUS).unwrap());
            } else {
                let reader = Fifo::open_reader(&address, &options, GENEROUS).unwrap();
                let mut buffer = [0; 10];
                reader.read_exact(&mut buffer, GENEROUS).unwrap();
                assert_eq!(&buffer, b"Hello FIFO");
                assert_eq!(reader.read(&mut buffer, GENEROUS).unwrap(), 0, "the writer is gone");
            }
        });
        if reader_first {
            let reader = Fifo::open_reader(&address, &options, GENEROUS).unwrap();
            assert!(reader.is_reader());
            let mut buffer = [0; 100];
            assert_eq!(reader.read(&mut buffer, GENEROUS).unwrap(), 10);
        } else {
            greet(&Fifo::open_writer(&address, &options, GENEROUS).unwrap());
        }
        other.join();
    };
    for reader_first in [true, false] {
        alone(|| meet(reader_first));
    }
}

#[test]
fn a_silent_writer_is_enough_for_a_try() {
    let (_directory, address) = place();
    let keeper = Fifo::open_reader(&address, &keep_open(), Timeout::Now).unwrap();
    let writer = Fifo::open_writer(&address, &plain(), Timeout::Now).unwrap();
    let reader = Fifo::open_reader(&address, &plain(), Timeout::Now).unwrap();
    drop(keeper);
    let cancel = Cancel::new();
    cancel.fire();
    let scope = cancel.enter();
    Fifo::open_reader(&address, &plain(), GENEROUS).expect("what need not wait is not cancelled");
    Fifo::open_writer(&address, &plain(), GENEROUS).expect("what need not wait is not cancelled");
    drop(scope);
    assert_eq!(errno_of(reader.read(&mut [0; 1], Timeout::Now)), libc::EAGAIN, "nothing yet");
    drop(writer);
    // A child that another test forked meanwhile may have a copy of the writer for a while.
    assert_eq!(reader.read(&mut [0; 1], GENEROUS).unwrap(), 0, "the end");
    eventually("no writer is left", || Fifo::open_reader(&address, &plain(), Timeout::Now).is_err());
}

#[test]
fn kept_open_it_has_no_end_between_writers() {
    let (_directory, address) = place();
    let reader = Fifo::open_reader(&address, &keep_open(), Timeout::Now).unwrap();
    let mut buffer = [0; 10];
    for _ in 0..3 {
        fork(|| {
            let writer = Fifo::open_writer(&address, &plain(), GENEROUS).unwrap();
            writer.write_all(b"x", GENEROUS).unwrap();
        })
        .join();
        assert_eq!(reader.read(&mut buffer, GENEROUS).unwrap(), 1);
        assert_eq!(errno_of(reader.read(&mut buffer, Timeout::Now)), libc::EAGAIN, "and no end");
    }
    assert_eq!(errno_of(reader.write(b"x", Timeout::Now)), libc::EBADF, "it is a reader all the same");
    let by_address: Address = format!("{address}?keep-open=1&capacity=8192").parse().unwrap();
    let other = Fifo::open_reader(&by_address, &plain(), Timeout::Now).unwrap();
    assert_eq!(other.capacity().unwrap(), 8192);
}

#[test]
fn a_killed_peer_is_the_end_or_a_broken_pipe() {
    let (_directory, address) = place();
    Fifo::create(&address, &plain()).unwrap();
    let writer = fork(|| {
        let writer = Fifo::open_writer(&address, &plain(), GENEROUS).unwrap();
        writer.write_all(b"half", GENEROUS).unwrap();
        loop {
            std::thread::park();
        }
    });
    let reader = Fifo::open_reader(&address, &plain(), GENEROUS).unwrap();
    let mut buffer = [0; 8];
    reader.read_exact(&mut buffer[..4], GENEROUS).unwrap();
    writer.kill(libc::SIGKILL);
    let error = reader.read_exact(&mut buffer, GENEROUS).unwrap_err();
    assert_eq!((error.errno(), error.done()), (libc::EPIPE, 0));
    drop((reader, writer));

    let child = fork(|| {
        let _reader = Fifo::open_reader(&address, &plain(), GENEROUS).unwrap();
        loop {
            std::thread::park();
        }
    });
    let writer = Fifo::open_writer(&address, &plain(), GENEROUS).unwrap();
    eventually("the reader has come all the way in", || is_asleep(child.pid()));
    child.kill(libc::SIGKILL);
    let error = writer.write_all(&[0; 1 << 20], GENEROUS).unwrap_err();
    assert!(error.errno() == libc::EPIPE && error.reason() == "no reader is left", "{error}");
}

#[test]
fn a_writer_that_leaves_at_once_is_not_missed() {
    let (_directory, address) = place();
    Fifo::create(&address, &plain()).unwrap();
    alone(|| {
        for _ in 0..50 {
            let writer = fork(|| {
                let writer = Fifo::open_writer(&address, &plain(), GENEROUS).unwrap();
                writer.write_all(b"x", GENEROUS).unwrap();
            });
            let reader = Fifo::open_reader(&address, &plain(), GENEROUS).unwrap();
            assert_eq!(reader.read(&mut [0; 2], GENEROUS).unwrap(), 1);
            writer.join();
        }
    });
}

#[test]
fn closing_ends_a_wait() {
    let (_directory, address) = place();
    let reader = Fifo::open_reader(&address, &keep_open(), Timeout::Now).unwrap();
    std::thread::scope(|threads| {
        let waiter = threads.spawn(|| errno_of(reader.read(&mut [0; 1], Timeout::Forever)));
        std::thread::sleep(Duration::from_millis(10));
        reader.end_waits();
        assert_eq!(waiter.join().unwrap(), libc::ECANCELED);
    });
}

#[test]
fn what_is_no_fifo_is_left_alone() {
    let (directory, address) = place();
    let error = Fifo::open_reader(&address, &plain(), GENEROUS).unwrap_err();
    assert!(error.errno() == libc::ENOENT && error.reason().starts_with("no such FIFO"), "{error}");
    assert_eq!(errno_of(Fifo::remove(&address)), libc::ENOENT);

    std::fs::write(address.path(), b"precious").unwrap();
    let folder = at(&directory, "");
    let device: Address = "fifo:/dev/null".parse().unwrap();
    for (address, kind) in [(&address, "a regular file"), (&folder, "a directory"), (&device, "a device")] {
        for result in [
            Fifo::open_reader(address, &keep_open(), GENEROUS).map(drop),
            Fifo::open_writer(address, &keep_open(), GENEROUS).map(drop),
            Fifo::remove(address),
        ] {
            let error = result.unwrap_err();
            assert_eq!(error.errno(), libc::ENOTSUP);
            assert_eq!(error.reason(), format!("it is {kind}, not a FIFO; it was left alone"));
        }
    }
    let error = Fifo::create(&address, &plain()).unwrap_err();
    assert!(error.errno() == libc::EEXIST && error.reason().contains("taken already"), "{error}");
    assert_eq!(std::fs::read(address.path()).unwrap(), b"precious");

    let link = at(&directory, "link");
    std::os::unix::fs::symlink("nowhere", link.path()).unwrap();
    assert_eq!(errno_of(Fifo::open_reader(&link, &keep_open(), GENEROUS)), libc::ENOENT, "and no endless loop");
    assert_eq!(errno_of(Fifo::open_reader(&at(&directory, "no/f"), &keep_open(), GENEROUS)), libc::ENOENT);
    assert_eq!(errno_of(Fifo::create(&at(&directory, &"n".repeat(300)), &plain())), libc::ENAMETOOLONG);
    assert_eq!(errno_of(Fifo::create(&"pipe:".parse().unwrap(), &plain())), libc::EINVAL);
    let bad = FifoOptions { mode: Some(0o1777), ..Default::default() };
    assert_eq!(errno_of(Fifo::create(&at(&directory, "g"), &bad)), libc::EINVAL);
}

#[test]
fn made_with_the_mode_asked_for_and_removed() {
    let (directory, address) = place();
    let mode = |address: &Address| std::fs::metadata(address.path()).unwrap().permissions().mode() & 0o777;
    Fifo::create(&address, &plain()).unwrap();
    assert_eq!(mode(&address), 0o600);
    Fifo::remove(&address).unwrap();
    let open_to_all: Address = format!("{address}?mode=666").parse().unwrap();
    Fifo::create(&open_to_all, &plain()).unwrap();
    assert_eq!(mode(&address), 0o666, "against the umask");
    assert_eq!(directory.path().read_dir().unwrap().count(), 1);
}

#[test]
fn adopts_and_gives_up_descriptors() {
    let (_directory, address) = place();
    let reader = Fifo::open_reader(&address, &keep_open(), Timeout::Now).unwrap();
    let fd = Fifo::open_writer(&address, &plain(), Timeout::Now).unwrap().into_fd().unwrap();
    let writer = Fifo::from_fd(fd).unwrap();
    assert!(!writer.is_reader());
    assert_eq!(writer.write(b"abc", GENEROUS).unwrap(), 3);
    assert_eq!(errno_of(writer.read(&mut [0; 1], Timeout::Now)), libc::EBADF);
    assert_eq!(reader.read(&mut [0; 9], GENEROUS).unwrap(), 3);
    let file = std::fs::File::open("/dev/null").unwrap();
    assert_eq!(errno_of(Fifo::from_fd(file.into())), libc::EINVAL);
    assert_eq!(writer.set_capacity(4096).unwrap(), 4096);
}

#[test]
fn without_timers_opening_still_ends_and_still_succeeds() {
    let (_directory, address) = place();
    Fifo::create(&address, &plain()).unwrap();
    for errno in [libc::ENOSYS, libc::EPERM] {
        fork_without(&[libc::SYS_timer_create], errno, || {
            for open in [Fifo::open_reader, Fifo::open_writer] {
                assert_eq!(errno_of(open(&address, &plain(), SHORT)), libc::ETIMEDOUT);
            }
        })
        .join();
        let writer = fork(|| {
            let writer = Fifo::open_writer(&address, &plain(), GENEROUS).unwrap();
            writer.write_all(b"x", GENEROUS).unwrap();
        });
        fork_without(&[libc::SYS_timer_create], errno, || {
            let reader = Fifo::open_reader(&address, &plain(), GENEROUS).unwrap();
            assert_eq!(reader.read(&mut [0; 2], GENEROUS).unwrap(), 1);
        })
        .join();
        writer.join();
    }
}

#[test]
fn a_try_is_not_interrupted_by_signals() {
    extern "C" fn nothing(_: libc::c_int) {}
    let (_directory, address) = place();
    Fifo::create(&address, &FifoOptions::default()).unwrap();
    fork(|| {
        // SAFETY: a handler that does nothing, in a child of its own.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = nothing as *const () as usize;
            libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut());
        }
        let (pid, thread) = (std::process::id().cast_signed(), Signal::this_thread());
        let done = AtomicBool::new(false);
        std::thread::scope(|threads| {
            threads.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let _ = Signal::USR1.send_to_thread(pid, thread);
                }
            });
            let tries = (0..500).map(|_| {
                let tried = Fifo::open_reader(&address, &FifoOptions::default(), Timeout::Now);
                tried.unwrap_err().errno()
            });
            let unexpected: Vec<_> = tries.filter(|errno| *errno != libc::EAGAIN).collect();
            done.store(true, Ordering::Relaxed);
            assert_eq!(unexpected, []);
        });
    })
    .join();
}
