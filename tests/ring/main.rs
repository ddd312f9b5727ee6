//! Rings between threads and processes, at their edges.

mod batch;
mod doorbell;
mod lanes;
mod letters;
mod room;
#[path = "../support/mod.rs"]
mod support;

use std::cell::RefCell;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use support::{GENEROUS, SHORT, fork, fresh};
use wigwag::{Address, Cancel, Ring, RingFull, RingOptions, RingRole, RingStatistics, Timeout, WaitMode};

fn ring() -> Ring {
    Ring::anonymous(small()).unwrap()
}

/// Four slots.
fn small() -> RingOptions {
    RingOptions { capacity: 512, largest: 100, participants: 8, persistent: true, ..Default::default() }
}

/// A name that is removed when the test is over.
struct Name(Address);

impl Name {
    fn new(prefix: &str) -> Name {
        Name(format!("ring:{}", fresh(prefix)).parse().unwrap())
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        let _ = Ring::remove(&self.0);
    }
}

fn receive(ring: &Ring) -> (Vec<u8>, bool) {
    let mut buffer = [0; 100];
    let received = ring.recv(&mut buffer, GENEROUS).unwrap();
    (buffer[..received.length].to_vec(), received.is_redelivered())
}

fn balanced(ring: &Ring) -> RingStatistics {
    let books = ring.statistics().unwrap();
    let there = books.borrowed + books.queued + books.dead_lettered;
    assert_eq!(books.sent, books.released + there + books.dropped, "{books:?}");
    books
}

#[test]
fn first_in_first_out_for_many_laps() {
    let ring = ring();
    for n in 0..50u32 {
        for m in 0..4 {
            ring.send(&(n * 4 + m).to_ne_bytes(), Timeout::Now).unwrap();
        }
        assert!(ring.send(b"full", Timeout::Now).unwrap_err().is(Errno::EAGAIN));
        assert!(ring.send(b"full", SHORT).unwrap_err().is(Errno::ETIMEDOUT));
        for m in 0..4 {
            assert_eq!(receive(&ring), ((n * 4 + m).to_ne_bytes().to_vec(), false));
        }
    }
    assert!(ring.recv(&mut [0; 100], Timeout::Now).unwrap_err().is(Errno::EAGAIN));
    let books = balanced(&ring);
    assert_eq!((books.sent, books.released, books.queued), (200, 200, 0));
    assert_eq!((books.participants.len(), books.participants[0].producer), (1, true));
}

#[test]
fn sizes_at_the_edge() {
    let ring = ring();
    ring.send(&[7; 100], Timeout::Now).unwrap();
    ring.send(b"", Timeout::Now).unwrap();
    let error = ring.send(&[0; 101], Timeout::Now).unwrap_err();
    assert_eq!((error.errno(), error.true_size()), (libc::EMSGSIZE, 100));
    let error = ring.recv(&mut [0; 99], Timeout::Now).unwrap_err();
    assert_eq!((error.errno(), error.true_size()), (libc::EMSGSIZE, 100));
    assert_eq!(receive(&ring), (vec![7; 100], false), "it stayed, unmarked");
    assert_eq!(receive(&ring).0, b"");
}

#[test]
fn in_place_and_any_order() {
    let ring = ring();
    let mut first = ring.reserve(5, Timeout::Now).unwrap();
    let mut second = ring.reserve(6, Timeout::Now).unwrap();
    assert_eq!(second.write(0, b"second"), 6);
    assert_eq!((first.write(0, b"first"), first.write(3, b"-----")), (5, 2));
    assert_eq!(first.write(0, b"first"), 5);
    second.commit().unwrap();
    first.commit().unwrap();
    drop(ring.reserve(1, Timeout::Now).unwrap());
    let (a, b) = (ring.borrow(Timeout::Now).unwrap(), ring.borrow(Timeout::Now).unwrap());
    assert_eq!((a.to_vec(), b.to_vec()), (b"first".to_vec(), b"second".to_vec()));
    let books = balanced(&ring);
    assert_eq!((books.borrowed, books.aborted, books.sent, books.participants[0].holding), (2, 1, 2, 2));
    b.release().unwrap();
    drop(a);
    assert_eq!(receive(&ring), (b"first".to_vec(), true), "given back");
    let books = balanced(&ring);
    assert_eq!((books.released, books.queued, books.redelivered), (2, 0, 1));
}

#[test]
fn to_poll_beside_those_who_hold_all_changes_nothing() {
    let options = RingOptions { depth: 2, capacity: 4096, largest: 64, ..Default::default() };
    let ring = Ring::anonymous(options).unwrap();
    let file = std::fs::File::from(ring.as_fd().try_clone_to_owned().unwrap());
    let bytes = || {
        let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes, 0).unwrap();
        bytes
    };
    let mut held = Vec::new();
    while ring.send(b"x", Timeout::Now).is_ok() {
        held.push(ring.borrow(Timeout::Now).unwrap());
    }
    let before = bytes();
    (0..1000).for_each(|_| assert!(ring.send(b"y", Timeout::Now).unwrap_err().is(Errno::EAGAIN)));
    assert!(bytes() == before, "counts of 32 bits would go round");
    let seen = ring.statistics().unwrap();
    assert_eq!((seen.sent, seen.borrowed, seen.released), (held.len() as u64, held.len() as u64, 0));
    held.into_iter().for_each(|held| held.release().unwrap());
    ring.send(b"z", Timeout::Now).unwrap();
    assert_eq!(ring.recv(&mut [0; 9], Timeout::Now).unwrap().length, 1);
}

#[test]
fn what_happens_when_full() {
    let ring = ring();
    let with = |full| {
        let fd = ring.as_fd().try_clone_to_owned().unwrap();
        Ring::from_fd(fd, RingOptions { full, ..small() }).unwrap()
    };
    let (fail, newest, oldest) = (with(RingFull::Fail), with(RingFull::DropNewest), with(RingFull::DropOldest));
    for n in 0..4u8 {
        ring.send(&[n], Timeout::Now).unwrap();
    }
    let error = fail.send(b"x", GENEROUS).unwrap_err();
    assert!(error.is(Errno::EAGAIN) && error.reason().contains("full"));
    newest.send(b"lost", GENEROUS).unwrap();
    assert!(newest.reserve(4, GENEROUS).unwrap_err().is(Errno::EAGAIN));
    oldest.send(&[4], Timeout::Now).unwrap();
    for n in 1..5u8 {
        assert_eq!(receive(&ring).0, [n]);
    }
    let books = balanced(&ring);
    assert_eq!((books.sent, books.released, books.dropped), (6, 4, 2));
}

#[test]
fn drop_oldest_goes_around_what_is_held() {
    let ring = Ring::anonymous(RingOptions { full: RingFull::DropOldest, ..small() }).unwrap();
    ring.send(&[0], Timeout::Now).unwrap();
    let held = ring.borrow(Timeout::Now).unwrap();
    for n in 1..30u8 {
        ring.send(&[n], Timeout::Now).unwrap();
    }
    held.release().unwrap();
    for n in 27..30 {
        assert_eq!(receive(&ring).0, [n]);
    }
    let books = balanced(&ring);
    assert_eq!((books.sent, books.released, books.dropped), (30, 4, 26));
}

#[test]
fn blocked_ends_are_woken() {
    let ring = ring();
    let child = fork(|| {
        for n in 0..1000u32 {
            ring.send(&n.to_ne_bytes(), GENEROUS).unwrap();
        }
    });
    for n in 0..1000u32 {
        assert_eq!(receive(&ring).0, n.to_ne_bytes());
    }
    child.join();
    assert_eq!(balanced(&ring).released, 1000);
}

#[test]
fn many_producers_and_consumers_lose_and_double_nothing() {
    const EACH: u32 = 3000;
    let (ring, results) = (ring(), ring_of(1 << 16));
    let producers: Vec<_> = (0..3u32)
        .map(|who| {
            fork(|| {
                for n in 0..EACH {
                    ring.send(&[who.to_ne_bytes(), n.to_ne_bytes()].concat(), GENEROUS).unwrap();
                }
            })
        })
        .collect();
    let consumers: Vec<_> = (0..3)
        .map(|_| {
            fork(|| {
                let mut counts = [0u32; 3];
                let mut last = [None; 3];
                loop {
                    let (message, again) = receive(&ring);
                    assert!(!again);
                    let Some((who, n)) = message.split_at_checked(4) else { break };
                    let who = u32::from_ne_bytes(who.try_into().unwrap()) as usize;
                    let n = Some(u32::from_ne_bytes(n.try_into().unwrap()));
                    assert!(last[who] < n, "{who}: {n:?} after {:?}", last[who]);
                    last[who] = n;
                    counts[who] += 1;
                }
                let bytes: Vec<u8> = counts.iter().flat_map(|count| count.to_ne_bytes()).collect();
                results.send(&bytes, GENEROUS).unwrap();
            })
        })
        .collect();
    producers.into_iter().for_each(support::Child::join);
    for _ in &consumers {
        ring.send(b"", GENEROUS).unwrap();
    }
    let mut sums = [0; 3];
    for _ in &consumers {
        for (sum, count) in sums.iter_mut().zip(receive(&results).0.chunks(4)) {
            *sum += u32::from_ne_bytes(count.try_into().unwrap());
        }
    }
    consumers.into_iter().for_each(support::Child::join);
    assert_eq!(sums, [EACH; 3]);
    let books = balanced(&ring);
    assert_eq!((books.sent, books.released), (u64::from(EACH) * 3 + 3, u64::from(EACH) * 3 + 3));
}

fn ring_of(capacity: u64) -> Ring {
    Ring::anonymous(RingOptions { capacity, ..small() }).unwrap()
}

#[test]
fn threads_share_a_handle() {
    let ring = ring();
    std::thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| (0..2000).for_each(|_| ring.send(b"x", GENEROUS).unwrap()));
            threads.spawn(|| (0..2000).for_each(|_| assert_eq!(receive(&ring).0, b"x")));
        }
    });
    assert_eq!(balanced(&ring).released, 4000);
}

#[test]
fn killed_consumer_gives_its_message_to_another() {
    let ring = ring();
    ring.send(b"job", Timeout::Now).unwrap();
    let child = fork(|| {
        let _held = ring.borrow(GENEROUS).unwrap();
        std::thread::sleep(Duration::from_secs(60));
    });
    support::eventually("taken", || ring.statistics().unwrap().borrowed == 1);
    assert!(ring.recv(&mut [0; 100], SHORT).unwrap_err().is(Errno::ETIMEDOUT), "alive: it is the child's");
    child.kill(libc::SIGKILL);
    child.wait();
    assert_eq!(receive(&ring), (b"job".to_vec(), true));
    let books = balanced(&ring);
    assert_eq!((books.released, books.redelivered, books.participants.len()), (1, 1, 1));
}

#[test]
fn killed_producer_is_skipped_and_counted() {
    let ring = ring();
    let child = fork(|| {
        let _held = ring.reserve(10, GENEROUS).unwrap();
        std::thread::sleep(Duration::from_secs(60));
    });
    support::eventually("reserved", || ring.statistics().unwrap().writing == 1);
    child.kill(libc::SIGKILL);
    child.wait();
    for n in 0..20u8 {
        ring.send(&[n], GENEROUS).unwrap();
        assert_eq!(receive(&ring).0, [n]);
    }
    support::eventually("counted", || {
        let _ = ring.recv(&mut [0; 100], SHORT);
        ring.statistics().unwrap().skipped == 1
    });
    let books = balanced(&ring);
    assert_eq!((books.sent, books.released, books.writing), (20, 20, 0));
}

#[test]
fn stopped_holders_do_not_hold_up_the_others() {
    let ring = ring();
    ring.send(b"held", Timeout::Now).unwrap();
    let child = fork(|| {
        let held = ring.borrow(GENEROUS).unwrap();
        let mut half = ring.reserve(10, GENEROUS).unwrap();
        // SAFETY: stops this process until its parent continues it.
        unsafe { libc::raise(libc::SIGSTOP) };
        half.write(0, b"late but h");
        half.commit().unwrap();
        held.release().unwrap();
    });
    support::eventually("both held", || {
        let books = ring.statistics().unwrap();
        books.borrowed + books.writing == 2
    });
    for n in 0..100u32 {
        ring.send(&n.to_ne_bytes(), GENEROUS).unwrap();
        assert_eq!(receive(&ring).0, n.to_ne_bytes());
    }
    child.kill(libc::SIGCONT);
    child.join();
    assert_eq!(receive(&ring), (b"late but h".to_vec(), false));
    let books = balanced(&ring);
    assert_eq!((books.sent, books.released, books.borrowed, books.skipped), (102, 102, 0, 0));
}

#[test]
fn hang_up() {
    let options = RingOptions { persistent: false, ..small() };
    let name = Name::new("hangup");
    let consumer = Ring::open(&name.0, RingOptions { role: RingRole::Consumer, ..options.clone() }).unwrap();
    assert!(consumer.recv(&mut [0; 9], SHORT).unwrap_err().is(Errno::ETIMEDOUT), "no producer yet is not no more");
    let producer = Ring::open(&name.0, RingOptions { role: RingRole::Producer, ..options.clone() }).unwrap();
    producer.send(b"last", Timeout::Now).unwrap();
    std::thread::scope(|threads| {
        let waiting = threads.spawn(|| {
            assert_eq!(receive(&consumer).0, b"last");
            consumer.recv(&mut [0; 9], GENEROUS).unwrap_err()
        });
        std::thread::sleep(Duration::from_millis(20));
        drop(producer);
        let error = waiting.join().unwrap();
        assert!(error.is(Errno::EPIPE) && error.reason().contains("last producer"));
    });
    assert!(consumer.recv(&mut [0; 9], Timeout::Now).unwrap_err().is(Errno::EPIPE));

    let producer = Ring::open(&name.0, RingOptions { role: RingRole::Producer, ..options }).unwrap();
    (0..4).for_each(|_| producer.send(b"", Timeout::Now).unwrap());
    drop(consumer);
    assert!(producer.send(b"", GENEROUS).unwrap_err().is(Errno::EPIPE));
}

#[test]
fn killed_last_producer_is_a_hang_up() {
    let ring = Ring::anonymous(RingOptions { persistent: false, role: RingRole::Consumer, ..small() }).unwrap();
    let child = fork(|| {
        ring.send(b"last", GENEROUS).unwrap();
        // SAFETY: ends this process without any clean-up.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    });
    assert_eq!(receive(&ring).0, b"last");
    assert!(ring.recv(&mut [0; 9], GENEROUS).unwrap_err().is(Errno::EPIPE));
    child.wait();
}

#[test]
fn cancel_and_close_end_waits() {
    let (ring, cancel) = (ring(), Cancel::new());
    std::thread::scope(|threads| {
        let waiting = threads.spawn(|| {
            let _scope = cancel.enter();
            ring.recv(&mut [0], Timeout::Forever).unwrap_err()
        });
        std::thread::sleep(Duration::from_millis(10));
        cancel.fire();
        assert!(waiting.join().unwrap().is(Errno::ECANCELED));
        let waiting = threads.spawn(|| ring.borrow(Timeout::Forever).unwrap_err());
        std::thread::sleep(Duration::from_millis(10));
        ring.end_waits();
        assert!(waiting.join().unwrap().is(Errno::ECANCELED));
    });
}

#[test]
fn timeouts_are_never_early_and_spinning_ends() {
    let ring = Ring::anonymous(RingOptions { wait: WaitMode::Poll, ..small() }).unwrap();
    let start = Instant::now();
    let error = ring.recv(&mut [0], Timeout::After(Duration::from_millis(30))).unwrap_err();
    assert!(error.is(Errno::ETIMEDOUT) && start.elapsed() >= Duration::from_millis(30));
    assert_eq!(error.to_string(), "recv ring:: ETIMEDOUT: the deadline passed");
}

#[test]
fn guards_stay_the_parents() {
    let ring = ring();
    ring.send(b"mine", Timeout::Now).unwrap();
    let guards = RefCell::new(Some((ring.borrow(Timeout::Now).unwrap(), ring.reserve(1, Timeout::Now).unwrap())));
    let child = fork(|| {
        let (borrowed, reserved) = guards.take().unwrap();
        let error = borrowed.release().unwrap_err();
        assert!(error.is(Errno::EPERM) && error.reason().contains("forked"));
        assert!(reserved.commit().unwrap_err().is(Errno::EPERM));
    });
    child.join();
    let books = balanced(&ring);
    assert_eq!((books.borrowed, books.writing), (1, 1), "still the parent's");
}

#[test]
fn names() {
    let name = Name::new("names");
    let made = Ring::open(&name.0, small()).unwrap();
    let opened = Ring::open(&name.0, RingOptions::default()).unwrap();
    assert_eq!(opened.statistics().unwrap().slots, 4, "it is what it was made");
    made.send(b"by name", Timeout::Now).unwrap();
    assert_eq!(receive(&opened).0, b"by name");
    drop(made);
    assert_eq!(opened.statistics().unwrap().participants.len(), 1);
    opened.check().unwrap();
    Ring::remove(&name.0).unwrap();
    let error = opened.check().unwrap_err();
    assert!(error.is(Errno::ESTALE) && error.reason().contains("removed"));
    opened.send(b"still works", Timeout::Now).unwrap();
    let anew = Ring::open(&name.0, small()).unwrap();
    assert!(anew.recv(&mut [0; 100], Timeout::Now).unwrap_err().is(Errno::EAGAIN));
    assert!(Ring::remove(&"ring:wwtest-not-there".parse().unwrap()).unwrap_err().is(Errno::ENOENT));
}

#[test]
fn options_from_the_address() {
    let name = Name::new("options");
    let text = format!("{}?capacity=512&largest=100&participants=2&persistent=1&full=fail", name.0);
    let ring = Ring::open(&text.parse().unwrap(), RingOptions::default()).unwrap();
    (0..4).for_each(|_| ring.send(b"", Timeout::Now).unwrap());
    assert!(ring.send(b"", GENEROUS).unwrap_err().reason().contains("full"));
    assert_eq!(ring.address(), name.0.to_string());
    let second = Ring::open(&name.0, RingOptions::default()).unwrap();
    let error = Ring::open(&name.0, RingOptions::default()).unwrap_err();
    assert!(error.is(Errno::EUSERS) && error.reason().contains("participant"), "{error}");
    drop(second);
    Ring::open(&name.0, RingOptions::default()).unwrap();
}

#[test]
fn bad_options() {
    let bad = |options: RingOptions| Ring::anonymous(options).unwrap_err();
    let error = bad(RingOptions { capacity: 100, largest: 100, ..Default::default() });
    assert!(error.is(Errno::EINVAL) && error.reason().contains("two messages"), "{error}");
    assert!(bad(RingOptions { largest: u64::MAX, ..Default::default() }).is(Errno::EINVAL));
    assert!(bad(RingOptions { participants: 257, ..Default::default() }).is(Errno::EINVAL));
    assert!(bad(RingOptions { mode: 0o1000, ..Default::default() }).is(Errno::EINVAL));
    let error = bad(RingOptions { capacity: u64::MAX, ..Default::default() });
    assert!(matches!(error.errno(), libc::EINVAL | libc::EFBIG | libc::ENOSPC), "{error}");
    let error = Ring::open(&"topic:x".parse().unwrap(), RingOptions::default()).unwrap_err();
    assert!(error.is(Errno::EINVAL));
}

#[test]
fn size_is_known_before() {
    let options = small();
    let ring = Ring::anonymous(options.clone()).unwrap();
    assert_eq!(ring.statistics().unwrap().bytes, Ring::size_for(&options).unwrap());
    let status = nix::sys::stat::fstat(ring.as_fd()).unwrap();
    assert_eq!(status.st_size as usize, Ring::size_for(&options).unwrap());
    assert!(status.st_blocks as u64 * 512 >= status.st_size as u64, "reserved whole");
    // Sealed: nobody can cut it off under its users.
    assert!(nix::unistd::ftruncate(&ring, 0).is_err());
}

#[test]
fn an_absurd_offset_copies_nothing() {
    let ring = Ring::anonymous(small()).unwrap();
    let mut reserved = ring.reserve(4, Timeout::Now).unwrap();
    assert_eq!(reserved.write(0, b"four"), 4);
    for offset in [4, 5, usize::MAX - 8, usize::MAX] {
        assert_eq!(reserved.write(offset, b"x"), 0);
    }
    reserved.commit().unwrap();
    let borrowed = ring.borrow(Timeout::Now).unwrap();
    for offset in [4, 5, usize::MAX - 8, usize::MAX] {
        assert_eq!(borrowed.read(offset, &mut [0; 4]), 0);
    }
    assert_eq!(borrowed.to_vec(), b"four");
    borrowed.release().unwrap();
}

#[test]
fn owned_guards_outlive_the_handle_that_made_them() {
    let ring = std::sync::Arc::new(Ring::anonymous(small()).unwrap());
    let mut reserved = ring.reserve_owned(4, Timeout::Now).unwrap();
    reserved.write(0, b"kept");
    let other = Ring::from_fd(ring.as_fd().try_clone_to_owned().unwrap(), small()).unwrap();
    drop(ring);
    let sender = std::thread::spawn(move || reserved.commit());
    sender.join().unwrap().unwrap();
    assert_eq!(receive(&other).0, b"kept");
    assert_eq!(balanced(&other).participants.len(), 1, "the last guard closes the handle");
}
