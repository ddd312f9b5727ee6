//! Where the system refuses timers (a sandbox, or too many queued signals): every wait still ends when it has to.

mod support;

use std::time::{Duration, Instant};

use nix::errno::Errno;
use support::{GENEROUS, SHORT, fork_without};
use wigwag::{
    Address, Cancel, EventFd, Interest, Pipe, PipeOptions, SysvMq, SysvMqOptions, SysvSelect, SysvSem, SysvSemOptions,
    Timeout, WaitSet,
};

/// Runs `body` where no timer can be made: refused, and unknown.
fn timerless(body: impl Fn()) {
    for errno in [libc::EPERM, libc::ENOSYS, libc::EAGAIN] {
        fork_without(&[libc::SYS_timer_create], errno, &body).join();
    }
}

/// Has `wait` run out, be cancelled before and in the middle, and be ended by `end_waits`.
fn every_ending(wait: impl Fn(Timeout) -> wigwag::Error + Sync, end_waits: impl Fn()) {
    let start = Instant::now();
    assert!(wait(SHORT).is(Errno::ETIMEDOUT));
    assert!(start.elapsed() >= Duration::from_millis(20));

    let cancel = Cancel::new();
    for early in [true, false] {
        cancel.reset();
        std::thread::scope(|threads| {
            let waiting = threads.spawn(|| {
                let _scope = cancel.enter();
                wait(Timeout::Forever)
            });
            if !early {
                std::thread::sleep(Duration::from_millis(30)); // most probably it blocks by now; right either way
            }
            cancel.fire();
            assert!(waiting.join().unwrap().is(Errno::ECANCELED));
        });
    }
    std::thread::scope(|threads| {
        let waiting = threads.spawn(|| wait(Timeout::Forever));
        std::thread::sleep(Duration::from_millis(30));
        end_waits();
        assert!(waiting.join().unwrap().is(Errno::ECANCELED));
    });
}

#[test]
fn waits_on_a_descriptor() {
    timerless(|| {
        let events = EventFd::new().unwrap();
        every_ending(|timeout| events.take(timeout).unwrap_err(), || events.end_waits());
    });
}

#[test]
fn waits_on_a_wait_set() {
    timerless(|| {
        let set = WaitSet::new().unwrap();
        every_ending(|timeout| set.wait(&mut [Default::default()], timeout).unwrap_err(), || set.end_waits());
    });
}

/// The helper has to hear senders, and to end with its object.
#[test]
fn doorbells() {
    timerless(|| {
        let queue = SysvMq::create(&"sysv-mq:private".parse().unwrap(), &Default::default()).unwrap();
        let set = WaitSet::new().unwrap();
        set.add(&queue.doorbell(SysvSelect::Any).unwrap(), Interest::READABLE, 1).unwrap();
        assert!(set.wait(&mut [Default::default()], SHORT).is_err());
        queue.send(b"x", 1, Timeout::Now).unwrap();
        set.wait(&mut [Default::default()], GENEROUS).unwrap();
        queue.unlink().unwrap();
    });
}

#[test]
fn a_write_that_blocks_in_the_middle() {
    timerless(|| {
        let (_reader, writer) = nix::unistd::pipe().unwrap();
        let writer = Pipe::from_fd(writer).unwrap(); // in blocking mode: the kernel would take all, or wait
        let full = writer.write_all(&vec![0; 100_000], SHORT).unwrap_err();
        assert_eq!((full.errno(), full.done()), (libc::ETIMEDOUT, 65536));
    });
    timerless(|| {
        let (_reader, writer) = nix::unistd::pipe().unwrap();
        let writer = Pipe::from_fd(writer).unwrap();
        let long = vec![0; 100_000];
        every_ending(|timeout| writer.write_all(&long, timeout).unwrap_err(), || writer.end_waits());
    });
}

#[test]
fn a_read_that_another_process_may_win() {
    timerless(|| {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        let (reader, writer) = (Pipe::from_fd(reader).unwrap(), Pipe::from_fd(writer).unwrap());
        let mut buffer = [0; 4];
        assert!(reader.read(&mut buffer, Timeout::Now).unwrap_err().is(Errno::EAGAIN));
        writer.write_all(b"abcd", support::GENEROUS).unwrap();
        assert_eq!(reader.read(&mut buffer, Timeout::Now).unwrap(), 4);
        every_ending(|timeout| reader.read(&mut [0; 4], timeout).unwrap_err(), || reader.end_waits());
    });
}

#[test]
fn data_that_comes_late() {
    timerless(|| {
        let (reader, writer) = Pipe::open(PipeOptions::default()).unwrap();
        std::thread::scope(|threads| {
            let waiting = threads.spawn(|| reader.read(&mut [0; 4], support::GENEROUS).unwrap());
            std::thread::sleep(Duration::from_millis(30));
            writer.write_all(b"late", support::GENEROUS).unwrap();
            assert_eq!(waiting.join().unwrap(), 4);
        });
    });
}

#[test]
fn calls_without_a_timeout_wait_in_the_kernel() {
    timerless(|| {
        let set = SysvSem::create(&Address::parse("sysv-sem:private").unwrap(), &SysvSemOptions::default()).unwrap();
        every_ending(|timeout| set.acquire(0, timeout).unwrap_err(), || set.end_waits());
        set.unlink().unwrap();

        let set = SysvSem::create(&Address::parse("sysv-sem:private").unwrap(), &SysvSemOptions::default()).unwrap();
        std::thread::scope(|threads| {
            let waiting = threads.spawn(|| set.take(0, support::GENEROUS));
            support::eventually("others see it wait", || set.waiting(0).unwrap() == 1);
            set.release(0).unwrap();
            waiting.join().unwrap().unwrap();
        });
        set.unlink().unwrap();

        let queue = SysvMq::create(&Address::parse("sysv-mq:private").unwrap(), &SysvMqOptions::default()).unwrap();
        every_ending(|timeout| queue.recv(SysvSelect::Any, timeout).unwrap_err(), || queue.end_waits());
        queue.unlink().unwrap();
    });
}
