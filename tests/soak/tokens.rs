//! Permits, events and barriers.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use wigwag::{Barrier, BarrierOptions, Event, EventOptions, Permits, PermitsOptions, Timeout};

use crate::crew::{WORKERS, shared, soak};
use crate::support::{GENEROUS, fork};

const COUNT: u32 = 5;

/// For each worker: its process in the upper half, and how many permits that has for certain in the lower; and a number
/// that changes whenever that does.
#[repr(C)]
struct Held {
    workers: [[AtomicU64; 2]; WORKERS],
}

impl Held {
    fn put(&self, worker: usize, count: u32) {
        let [held, changes] = &self.workers[worker];
        changes.fetch_add(1, Ordering::SeqCst);
        held.store(u64::from(std::process::id()) << 32 | u64::from(count), Ordering::SeqCst);
        changes.fetch_add(1, Ordering::SeqCst);
    }

    fn look(&self) -> [[u64; 2]; WORKERS] {
        self.workers.each_ref().map(|worker| worker.each_ref().map(|number| number.load(Ordering::SeqCst)))
    }

    /// How many those have together who were alive all the time; `None` if something has changed meanwhile.
    fn sum(&self) -> Option<u64> {
        let before = self.look();
        let alive = before.map(|[held, _]| is_alive(held >> 32));
        let same = before == self.look() && before.iter().all(|[_, changes]| changes.is_multiple_of(2));
        let counts = before.iter().zip(alive).filter(|(_, alive)| *alive).map(|([held, _], _)| held & 0xffff_ffff);
        same.then(|| counts.sum())
    }
}

/// Whether a process still has what it holds: one that is dying has lost it already, a while before it is seen to be dead.
pub fn is_alive(pid: u64) -> bool {
    const EXITING: u64 = 4; // PF_EXITING of the kernel, which comes before its descriptors are closed
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let mut rest = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let state = rest.next().unwrap_or("X");
    let flags = rest.nth(5).and_then(|flags| flags.parse::<u64>().ok()).unwrap_or(EXITING);
    !matches!(state, "Z" | "X") && flags & EXITING == 0
}

fn permits_of(fair: bool) {
    let options = || PermitsOptions { count: COUNT, fair, participants: 32, ..Default::default() };
    let permits = Permits::anonymous(options()).unwrap();
    let again = || Permits::from_fd(permits.as_fd().try_clone_to_owned().unwrap(), options()).unwrap();
    // SAFETY: atomics.
    let held: &'static Held = unsafe { shared() };
    soak(if fair { "permits, fair" } else { "permits" }, |mut seat| {
        let own = seat.anew.then(again);
        let permits = own.as_ref().unwrap_or(&permits);
        loop {
            let (count, brief) = (1 + seat.dice.roll(3) as u32, seat.dice.brief());
            if let Some(guard) = seat.turn(permits.acquire(count, brief), &[]) {
                held.put(seat.number, count);
                if held.sum().is_some_and(|sum| sum > COUNT.into()) {
                    seat.board.fail("more permits than there are");
                }
                held.put(seat.number, 0);
                drop(guard);
            }
        }
    });
    let last = again();
    drop(last.acquire(COUNT, GENEROUS).unwrap());
    let books = last.statistics().unwrap();
    println!("{books:?}");
    assert_eq!((books.available, books.participants.len()), (COUNT, 2));
    assert!(books.participants.iter().all(|participant| participant.holding == 0 && participant.waiting == 0));
}

#[test]
fn permits() {
    permits_of(false);
}

#[test]
fn fair_permits() {
    permits_of(true);
}

/// An event that lets one through each time it is set.
#[test]
fn events() {
    let options = || EventOptions { auto_reset: true, participants: 32, ..Default::default() };
    let event = Event::anonymous(options()).unwrap();
    let again = || Event::from_fd(event.as_fd().try_clone_to_owned().unwrap(), options()).unwrap();
    // SAFETY: atomics.
    let [set, passed]: &'static [AtomicU64; 2] = unsafe { shared() };
    soak("events", |mut seat| {
        let own = seat.anew.then(again);
        let event = own.as_ref().unwrap_or(&event);
        loop {
            if seat.dice.roll(2) == 0 {
                // Before it is set: who dies in between has set it once too seldom, and not once too often.
                set.fetch_add(1, Ordering::SeqCst);
                seat.turn(event.set(), &[]);
            } else {
                let brief = seat.dice.brief();
                if seat.turn(event.wait(brief), &[]).is_some()
                    && passed.fetch_add(1, Ordering::SeqCst) >= set.load(Ordering::SeqCst)
                {
                    seat.board.fail("more came through than were let");
                }
            }
        }
    });
    let last = again();
    last.clear().unwrap();
    assert!(last.wait(Timeout::Now).unwrap_err().is(Errno::EAGAIN));
    last.set().unwrap();
    last.wait(GENEROUS).unwrap();
    let books = last.statistics().unwrap();
    println!("{books:?}, {} passed", passed.load(Ordering::SeqCst));
    assert_eq!(books.participants.len(), 2);
    assert!(books.participants.iter().all(|participant| participant.waiting == 0));
}

#[test]
fn barriers() {
    let options = || BarrierOptions { parties: 3, participants: 32, ..Default::default() };
    let barrier = Barrier::anonymous(options()).unwrap();
    let again = || Barrier::from_fd(barrier.as_fd().try_clone_to_owned().unwrap(), options()).unwrap();
    // SAFETY: atomics.
    let passed: &'static AtomicU64 = unsafe { shared() };
    soak("barriers", |mut seat| {
        let own = seat.anew.then(again);
        let barrier = own.as_ref().unwrap_or(&barrier);
        loop {
            let waited = barrier.wait(seat.dice.brief());
            let broken = waited.as_ref().is_err_and(|error| error.is(Errno::EOWNERDEAD));
            if seat.turn(waited, &[Errno::EOWNERDEAD]).is_some() {
                passed.fetch_add(1, Ordering::SeqCst);
            }
            if broken {
                seat.turn(barrier.reset(), &[]);
            }
        }
    });
    let last = again();
    last.reset().unwrap();
    let others = [(); 2].map(|()| fork(|| assert!(again().wait(GENEROUS).is_ok())));
    last.wait(GENEROUS).unwrap();
    others.into_iter().for_each(|other| other.join());
    let books = last.statistics().unwrap();
    println!("{books:?}, {} passed", passed.load(Ordering::SeqCst));
    assert!(!books.is_broken && passed.load(Ordering::SeqCst) > 10);
    assert_eq!((books.arrived, books.participants.len()), (0, 2));
}
