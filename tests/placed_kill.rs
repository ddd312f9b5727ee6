//! A process is killed, or stopped for ever, before and after every system call, and after every change of the memory, of
//! placing a mutex in memory of its own and leaving it: whoever comes makes it or finds it whole, or is told at once that
//! somebody who does not get on is making it.
#![cfg(target_arch = "x86_64")]

mod stepping;
mod support;

use std::ops::Range;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use stepping::{End, Point, Victim, View, everywhere};
use support::GENEROUS;
use wigwag::{Memfd, Mutex, MutexOptions};

struct Operation {
    name: &'static str,
    /// What it finds.
    before: fn(&Memfd),
    body: fn(&Memfd),
}

fn place(memory: &Memfd) -> wigwag::Result<Mutex> {
    const AT: Range<u64> = 128..2048;
    Mutex::place(memory, AT, MutexOptions { participants: 4, ..Default::default() })
}

/// As it is when its holder has died.
fn left_by_the_dead(memory: &Memfd) {
    support::fork(|| std::mem::forget(place(memory).unwrap().lock(GENEROUS).unwrap())).join();
}

/// As it is when its maker has died.
fn half_made(memory: &Memfd) {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::from(memory.as_fd().try_clone_to_owned().unwrap());
    file.write_all_at(b"wigwag\0?", 128).unwrap();
    file.write_all_at(&[0xff; 16], 128 + 600).unwrap();
}

const OPERATIONS: &[Operation] = &[
    Operation { name: "make", before: |_| {}, body: |memory| std::mem::forget(place(memory).unwrap()) },
    Operation { name: "make anew", before: half_made, body: |memory| std::mem::forget(place(memory).unwrap()) },
    Operation { name: "make and leave", before: |_| {}, body: |memory| drop(place(memory).unwrap()) },
    Operation {
        name: "take and leave",
        before: |memory| drop(place(memory).unwrap()),
        body: |memory| drop(place(memory).unwrap()),
    },
    Operation {
        name: "take, lock and leave",
        before: left_by_the_dead,
        body: |memory| {
            let mutex = place(memory).unwrap();
            mutex.lock(GENEROUS).unwrap().into_guard().consistent().unwrap();
        },
    },
];

fn start(operation: &Operation) -> (Memfd, Victim) {
    let memory = Memfd::new(4096).unwrap();
    (operation.before)(&memory);
    let victim = Victim::start(|| (), |()| (operation.body)(&memory));
    (memory, victim)
}

/// One run: the victim comes to this point and gets no further; how long the others took, `None` if it did not.
fn run(operation: &Operation, point: Point, end: End) -> Option<Duration> {
    let (memory, mut victim) = start(operation);
    if !victim.go_to(point, &mut View::new(&memory)) {
        return None;
    }
    let begun = Instant::now();
    let mut victim = (end == End::Stopped).then_some(victim);
    let placed = place(&memory);
    let held_up = begun.elapsed();
    let mutex = match placed {
        Ok(mutex) => {
            if victim.is_none() {
                drop(mutex.lock(GENEROUS).unwrap());
            }
            mutex
        }
        Err(error) => {
            let victim = victim.as_mut().unwrap_or_else(|| panic!("the dead are in nobody's way: {error}"));
            assert!(error.is(Errno::EBUSY), "{error}");
            victim.go_on();
            place(&memory).unwrap()
        }
    };
    drop(victim);
    drop(mutex.lock(GENEROUS).unwrap());
    mutex.check().unwrap();
    Some(held_up)
}

#[test]
fn killed_and_stopped_everywhere() {
    let points = |operation: &Operation| {
        let (memory, mut victim) = start(operation);
        victim.all_points(&mut View::new(&memory))
    };
    everywhere(OPERATIONS, |operation| operation.name.into(), points, run);
}
