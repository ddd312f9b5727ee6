//! A peer that keeps no rules writes over a cell, between the operations of others and during them: they get errors, or go
//! on; they do not crash, read outside of it, or wait past their timeouts.

mod support;

use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use support::fork;
use support::spoiling::{Numbers, spoil, spoiling};
use wigwag::{Cell, CellOptions, Timeout};

const BRIEF: Timeout = Timeout::After(Duration::from_micros(200));
/// An operation that takes longer has got stuck.
const LONG: Duration = Duration::from_secs(20);
const ROUNDS: u64 = 400;

fn options() -> CellOptions {
    CellOptions { largest: 300, participants: 4, ..Default::default() }
}

fn work(cell: &Cell, round: u64) {
    let mut buffer = [0; 300];
    let value = vec![round as u8; round as usize % 301];
    for _ in 0..3 {
        let _ = cell.write(&value);
        for read in [cell.read(&mut buffer), cell.read_as_if_overrun(&mut buffer)].into_iter().flatten() {
            assert!(read.length <= 300);
        }
    }
    let _ = cell.reserve(200).map(|mut reserved| {
        reserved.write(0, &[1; 300]);
        reserved.publish()
    });
    let _ = cell.wait_read(round, &mut buffer, BRIEF);
    let _ = cell.statistics();
    let _ = cell.as_fd().try_clone_to_owned().map(|fd| Cell::from_fd(fd, options()));
}

#[test]
fn a_peer_that_keeps_no_rules() {
    fork(|| {
        let mut numbers = Numbers(1);
        for round in 0..ROUNDS {
            let cell = Cell::anonymous(options()).unwrap();
            work(&cell, round);
            let file = std::fs::File::from(cell.as_fd().try_clone_to_owned().unwrap());
            let size = file.metadata().unwrap().len();
            let begun = Instant::now();
            for _ in 0..4 {
                (0..1 + numbers.next() % 6).for_each(|_| spoil(&file, size, &mut numbers));
                work(&cell, round);
            }
            assert!(begun.elapsed() < LONG, "round {round} took {:?}", begun.elapsed());
        }
    })
    .join();
}

#[test]
fn a_latest_value_that_is_not_there_is_damage() {
    const BODY_AT: u64 = 32; // in the header
    const LATEST: u64 = 128; // in the body
    let cell = Cell::anonymous(options()).unwrap();
    let file = std::fs::File::from(cell.as_fd().try_clone_to_owned().unwrap());
    let mut word = [0; 8];
    file.read_exact_at(&mut word, BODY_AT).unwrap();
    let latest = u64::from_ne_bytes(word) + LATEST;
    cell.write(b"first").unwrap();
    file.read_exact_at(&mut word, latest).unwrap();
    // Until the first one's buffer holds another.
    (0..20).for_each(|_| _ = cell.write(b"later").unwrap());
    file.write_all_at(&word, latest).unwrap();
    let error = cell.read(&mut [0; 300]).unwrap_err();
    assert!(error.is(Errno::EBADMSG), "{error}");
    cell.write(b"next").unwrap();
    let mut buffer = [0; 300];
    assert_eq!(cell.read(&mut buffer).unwrap().length, 4);
}

#[test]
fn a_peer_that_writes_all_the_time() {
    fork(|| {
        for round in 0..20 {
            let cell = Cell::anonymous(options()).unwrap();
            let peer = spoiling(&cell, round);
            let begun = Instant::now();
            (0..100).for_each(|turn| work(&cell, round * 100 + turn));
            assert!(begun.elapsed() < LONG, "round {round} took {:?}", begun.elapsed());
            peer.kill(libc::SIGKILL);
        }
    })
    .join();
}
