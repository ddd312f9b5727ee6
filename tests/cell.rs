//! Cells between threads and processes, at their edges.

mod support;

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use support::{GENEROUS, SHORT, eventually, fork, fresh, is_asleep};
use wigwag::{Address, Cancel, Cell, CellOptions, Interest, Timeout, WaitMode, WaitSet, WaitSetEvent};

fn small() -> CellOptions {
    CellOptions { largest: 100, participants: 4, ..Default::default() }
}

fn cell() -> Cell {
    Cell::anonymous(small()).unwrap()
}

fn again(cell: &Cell) -> Cell {
    Cell::from_fd(cell.as_fd().try_clone_to_owned().unwrap(), small()).unwrap()
}

/// A name that is removed when the test is over.
struct Name(Address);

impl Name {
    fn new(prefix: &str) -> Name {
        Name(format!("cell:{}", fresh(prefix)).parse().unwrap())
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        let _ = Cell::remove(&self.0);
    }
}

fn read(cell: &Cell) -> (Vec<u8>, u64) {
    let mut buffer = [0; 100];
    let read = cell.read(&mut buffer).unwrap();
    (buffer[..read.length].to_vec(), read.sequence)
}

/// A value that can be checked, of a length that varies.
fn value(number: u64) -> Vec<u8> {
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.resize(8 + (number % 93) as usize, number as u8);
    bytes
}

fn number_of(bytes: &[u8]) -> u64 {
    let number = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    assert_eq!(bytes, value(number), "torn");
    number
}

#[test]
fn the_latest_is_read_as_often_as_one_likes() {
    let cell = cell();
    assert!(cell.read(&mut [0; 100]).unwrap_err().is(Errno::ENODATA));
    assert!(cell.read_as_if_overrun(&mut [0; 100]).unwrap_err().is(Errno::ENODATA));
    for number in 1..200 {
        assert_eq!(cell.write(&value(number)).unwrap(), number);
        assert_eq!(read(&cell), (value(number), number));
        let mut buffer = [0; 100];
        let pinned = cell.read_as_if_overrun(&mut buffer).unwrap();
        assert_eq!((&buffer[..pinned.length], pinned.sequence), (&value(number)[..], number));
    }
    assert_eq!(read(&cell).1, 199);
    let statistics = cell.statistics().unwrap();
    assert_eq!((statistics.sequence, statistics.writing, statistics.skipped), (199, 0, 0));
    assert_eq!((statistics.buffers, statistics.participants.len()), (10, 1));
}

#[test]
fn sizes_at_the_edge() {
    let cell = cell();
    cell.write(b"").unwrap();
    assert_eq!(read(&cell), (vec![], 1));
    cell.write(&[7; 100]).unwrap();
    let error = cell.write(&[7; 101]).unwrap_err();
    assert_eq!((error.errno(), error.true_size()), (libc::EMSGSIZE, 100));
    let mut short = [1; 99];
    for error in [cell.read(&mut short).unwrap_err(), cell.read_as_if_overrun(&mut short).unwrap_err()] {
        assert_eq!((error.errno(), error.true_size()), (libc::EMSGSIZE, 100));
    }
    assert_eq!(short, [1; 99], "untouched");
    assert!(Cell::anonymous(CellOptions { participants: 257, ..small() }).unwrap_err().is(Errno::EINVAL));
    assert!(Cell::anonymous(CellOptions { largest: 1 << 40, ..small() }).unwrap_err().is(Errno::EINVAL));
    assert_eq!(Cell::size_for(&small()).unwrap(), cell.statistics().unwrap().bytes);
}

#[test]
fn written_in_place() {
    let cell = cell();
    cell.write(b"before").unwrap();
    let (mut first, mut second) = (cell.reserve(5).unwrap(), cell.reserve(6).unwrap());
    assert_eq!((first.write(0, b"first"), first.write(3, b"-----"), second.write(0, b"second!")), (5, 2, 6));
    first.write(3, b"st");
    assert_eq!(cell.statistics().unwrap().writing, 2);
    assert_eq!(second.publish().unwrap(), 2);
    assert_eq!(read(&cell).0, b"second");
    assert_eq!(first.publish().unwrap(), 3);
    assert_eq!(read(&cell).0, b"first");
    drop(cell.reserve(1).unwrap());
    cell.reserve(1).unwrap().abort().unwrap();
    assert_eq!((read(&cell), cell.statistics().unwrap().writing), ((b"first".to_vec(), 3), 0));
}

#[test]
fn buffers_run_out_and_come_back() {
    let cell = cell();
    cell.write(b"kept").unwrap();
    let held: Vec<_> = (0..9).map(|_| cell.reserve(1).unwrap()).collect();
    let error = cell.write(b"x").unwrap_err();
    assert!(error.is(Errno::EAGAIN) && error.reason().contains("participants"), "{error}");
    assert_eq!(read(&cell).0, b"kept");
    drop(held);
    cell.write(b"x").unwrap();
}

#[test]
fn waiting_for_a_change() {
    let cell = cell();
    assert!(cell.wait(0, Timeout::Now).unwrap_err().is(Errno::EAGAIN));
    assert!(cell.wait(0, SHORT).unwrap_err().is(Errno::ETIMEDOUT));
    let child = fork(|| {
        let mut buffer = [0; 100];
        let mut seen = 0;
        while seen < 500 {
            let read = cell.wait_read(seen, &mut buffer, GENEROUS).unwrap();
            assert!(read.sequence > seen);
            assert_eq!(number_of(&buffer[..read.length]), read.sequence);
            seen = read.sequence;
        }
    });
    for number in 1..=500 {
        cell.write(&value(number)).unwrap();
        if number % 50 == 0 {
            std::thread::yield_now();
        }
    }
    child.join();
    assert_eq!(cell.wait(499, Timeout::Now).unwrap(), 500);
}

#[test]
fn all_who_wait_are_woken() {
    let cell = cell();
    let children: Vec<_> = (0..3).map(|_| fork(|| assert_eq!(cell.wait(0, GENEROUS).unwrap(), 1))).collect();
    eventually("all asleep", || children.iter().all(|child| is_asleep(child.pid())));
    cell.write(b"x").unwrap();
    children.into_iter().for_each(|child| child.join());
}

#[test]
fn waits_are_ended() {
    let cell = cell();
    std::thread::scope(|threads| {
        let waiting = threads.spawn(|| cell.wait(0, GENEROUS));
        std::thread::sleep(Duration::from_millis(5));
        cell.end_waits();
        assert!(waiting.join().unwrap().unwrap_err().is(Errno::ECANCELED));
    });
    let (cell, cancel) = (self::cell(), Cancel::new());
    cancel.fire();
    let _scope = cancel.enter();
    assert!(cell.wait(0, GENEROUS).unwrap_err().is(Errno::ECANCELED));
}

/// Writers at full speed, readers both ways: whole values only, and never an older one after a newer.
#[test]
fn never_torn_and_never_back() {
    let cell = cell();
    cell.write(&value(1)).unwrap();
    let done = AtomicBool::new(false);
    let done = &done;
    std::thread::scope(|threads| {
        for writer in 0..2 {
            let cell = again(&cell);
            threads.spawn(move || {
                let mut number = writer;
                while !done.load(Ordering::Relaxed) {
                    number += 2;
                    cell.write(&value(number)).unwrap();
                }
            });
        }
        let reader = again(&cell);
        let mut seen = 0;
        for turn in 0..30_000 {
            let mut buffer = [0; 100];
            let read =
                if turn % 2 == 0 { reader.read(&mut buffer) } else { reader.read_as_if_overrun(&mut buffer) }.unwrap();
            number_of(&buffer[..read.length]);
            assert!(read.sequence >= seen, "{} after {seen}", read.sequence);
            seen = read.sequence;
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(cell.statistics().unwrap().writing, 0);
}

/// Threads that share a handle use its pin in turns.
#[test]
fn many_threads_on_one_handle() {
    let cell = cell();
    cell.write(&value(1)).unwrap();
    let left = AtomicU64::new(3);
    std::thread::scope(|threads| {
        for _ in 0..3 {
            threads.spawn(|| {
                for _ in 0..5000 {
                    let mut buffer = [0; 100];
                    let read = cell.read_as_if_overrun(&mut buffer).unwrap();
                    number_of(&buffer[..read.length]);
                }
                left.fetch_sub(1, Ordering::SeqCst);
            });
        }
        let mut number = 1;
        while left.load(Ordering::SeqCst) > 0 {
            number += 1;
            cell.write(&value(number)).unwrap();
        }
    });
}

#[test]
fn a_stopped_reader_and_a_stopped_writer_are_in_nobodys_way() {
    let cell = cell();
    cell.write(&value(1)).unwrap();
    let children: Vec<_> = (0..2)
        .map(|side| {
            let cell = &cell;
            fork(move || {
                for number in 2.. {
                    if side == 0 {
                        cell.write(&value(number)).unwrap();
                    } else {
                        number_of(&read(cell).0);
                    }
                }
            })
        })
        .collect();
    eventually("all at work", || cell.statistics().unwrap().participants.len() >= 2 && read(&cell).1 > 100);
    children.iter().for_each(|child| child.kill(libc::SIGSTOP));
    let mut own = read(&cell).1;
    for number in 0..1000 {
        own = cell.write(&value(number)).unwrap().max(own);
        assert_eq!(number_of(&read(&cell).0), number);
    }
    children.iter().for_each(|child| child.kill(libc::SIGCONT));
    eventually("they go on", || read(&cell).1 > own);
    for child in children {
        child.kill(libc::SIGKILL);
        child.wait();
    }
    drop(again(&cell)); // whoever comes asks for the dead
    let statistics = cell.statistics().unwrap();
    assert_eq!((statistics.writing, statistics.participants.len()), (0, 1), "{statistics:?}");
}

#[test]
fn buffers_of_dead_writers_come_back() {
    let cell = cell();
    cell.write(b"kept").unwrap();
    for _ in 0..5 {
        fork(|| {
            let held: Vec<_> = (0..3).map(|_| cell.reserve(10).unwrap()).collect();
            std::mem::forget(held);
            // SAFETY: ends this process without any clean-up.
            unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
        })
        .wait();
        drop(again(&cell));
    }
    assert_eq!(read(&cell), (b"kept".to_vec(), 1));
    let statistics = cell.statistics().unwrap();
    assert_eq!((statistics.writing, statistics.skipped, statistics.participants.len()), (0, 15, 1));
}

#[test]
fn a_child_takes_part_as_itself_and_the_parents_room_stays_the_parents() {
    let cell = cell();
    let mut reserved = Some(cell.reserve(6).unwrap());
    reserved.as_mut().unwrap().write(0, b"parent");
    fork(|| {
        assert!(reserved.take().unwrap().publish().unwrap_err().is(Errno::EPERM));
        cell.write(b"child").unwrap();
        let participants = cell.statistics().unwrap().participants;
        assert_eq!(participants.iter().filter(|peer| peer.pid == Some(std::process::id())).count(), 1);
    })
    .join();
    assert_eq!(read(&cell).0, b"child");
    assert_eq!(cell.statistics().unwrap().writing, 1);
    reserved.take().unwrap().publish().unwrap();
    assert_eq!(read(&cell).0, b"parent");
}

/// There is always a place for somebody new, though all who had one are dead and nobody is left to notice.
#[test]
fn places_of_the_dead_are_taken_over() {
    let name = Name::new("places");
    for _ in 0..10 {
        fork(|| {
            let cell = Cell::open(&name.0, small()).unwrap();
            std::mem::forget((cell.reserve(5).unwrap(), cell.write(b"alive").unwrap()));
            // SAFETY: ends this process without any clean-up.
            unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
        })
        .wait();
    }
    let cell = Cell::open(&name.0, small()).unwrap();
    assert_eq!(read(&cell), (b"alive".to_vec(), 10));
    let statistics = cell.statistics().unwrap();
    assert_eq!((statistics.participants.len(), statistics.writing, statistics.skipped), (1, 0, 10));
}

#[test]
fn by_name() {
    let name = Name::new("cell");
    let with_options: Address = format!("{}?largest=10&participants=2", name.0).parse().unwrap();
    let first = Cell::open(&with_options, CellOptions::default()).unwrap();
    let statistics = first.statistics().unwrap();
    assert_eq!((statistics.largest, statistics.buffers), (10, 6));
    let child = fork(|| {
        let other = Cell::open(&name.0, CellOptions::default()).unwrap();
        other.write(b"hello").unwrap();
    });
    child.join();
    assert_eq!(first.wait(0, GENEROUS).unwrap(), 1);
    let second = Cell::open(&name.0, CellOptions::default()).unwrap();
    assert_eq!(read_10(&second), b"hello");
    let error = Cell::open(&name.0, CellOptions::default()).unwrap_err();
    assert!(error.is(Errno::EUSERS) && error.reason().contains("participants"), "{error}");
    first.check().unwrap();
    Cell::remove(&name.0).unwrap();
    assert!(first.check().unwrap_err().is(Errno::ESTALE));
    assert!(Cell::remove(&name.0).unwrap_err().is(Errno::ENOENT));
    assert_eq!(read_10(&first), b"hello");
}

fn read_10(cell: &Cell) -> Vec<u8> {
    let mut buffer = [0; 10];
    let read = cell.read(&mut buffer).unwrap();
    buffer[..read.length].to_vec()
}

#[test]
fn the_doorbell_rings_for_what_was_not_seen() {
    let (cell, set) = (cell(), WaitSet::new().unwrap());
    set.add(&cell.doorbell().unwrap(), Interest::READABLE, 1).unwrap();
    let mut events = [WaitSetEvent::default()];
    assert!(set.wait(&mut events, SHORT).is_err());
    for number in 1..20 {
        fork(|| assert_eq!(cell.write(&value(number)).unwrap(), number)).join();
        set.wait(&mut events, GENEROUS).unwrap();
        set.wait(&mut events, GENEROUS).unwrap(); // and stays so
        assert_eq!(read(&cell).1, number);
        // It may ring once more for what was read before the helper looked; then it is quiet.
        while set.wait(&mut events, SHORT).is_ok() {
            assert!(cell.wait(number, Timeout::Now).unwrap_err().is(Errno::EAGAIN));
        }
    }
}

#[test]
fn every_way_to_wait() {
    for wait in [WaitMode::Adaptive, WaitMode::Block, WaitMode::Poll] {
        let cell = Cell::anonymous(CellOptions { wait, ..small() }).unwrap();
        let child = fork(|| assert_eq!(cell.wait(0, GENEROUS).unwrap(), 1));
        cell.write(b"x").unwrap();
        child.join();
    }
}

#[test]
fn an_owned_guard_outlives_the_handle_that_made_it() {
    let cell = std::sync::Arc::new(Cell::anonymous(CellOptions::default()).unwrap());
    let mut reserved = cell.reserve_owned(4).unwrap();
    reserved.write(0, b"kept");
    let other = Cell::from_fd(cell.as_fd().try_clone_to_owned().unwrap(), CellOptions::default()).unwrap();
    drop(cell);
    let writer = std::thread::spawn(move || reserved.publish());
    assert_eq!(writer.join().unwrap().unwrap(), 1);
    let mut buffer = [0; 8];
    assert_eq!(other.read(&mut buffer).unwrap().length, 4);
    assert_eq!(other.statistics().unwrap().participants.len(), 1, "the last guard closes the handle");
}
