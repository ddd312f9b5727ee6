//! Mutexes, read-write locks and conditions: nobody is inside together with one who must be alone, and what a dead one left
//! half done is only seen by one who is told.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use wigwag::{Condition, ConditionOptions, Locked, Mutex, MutexGuard, MutexOptions, MutexState, RwLock, RwLockOptions};

use crate::crew::{Board, Seat, shared, soak};
use crate::support::GENEROUS;

/// Two numbers that are the same while nobody changes them.
#[repr(C)]
struct Pair {
    inside: AtomicU64,
    one: AtomicU64,
    other: AtomicU64,
    /// What is in a queue, and was taken out of it, of what the pair counts.
    items: AtomicU64,
    taken: AtomicU64,
}

impl Pair {
    fn new() -> &'static Pair {
        // SAFETY: atomics.
        unsafe { shared() }
    }

    fn mend(&self) {
        self.inside.store(0, Ordering::SeqCst);
        self.other.store(self.one.load(Ordering::SeqCst), Ordering::SeqCst);
        self.items.store(self.one.load(Ordering::SeqCst) - self.taken.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    fn check(&self, board: &Board) {
        if self.inside.load(Ordering::SeqCst) != 0 {
            board.fail("somebody else is inside");
        }
        if self.one.load(Ordering::SeqCst) != self.other.load(Ordering::SeqCst) {
            board.fail("half done");
        }
    }

    /// Counts, as one who has to be alone.
    fn count(&self, board: &Board) {
        self.check(board);
        self.inside.store(1, Ordering::SeqCst);
        for number in [&self.one, &self.other] {
            number.store(number.load(Ordering::SeqCst) + 1, Ordering::SeqCst);
            std::thread::yield_now();
        }
        self.inside.store(0, Ordering::SeqCst);
    }
}

fn mutex_options() -> MutexOptions {
    MutexOptions { participants: 32, ..Default::default() }
}

/// With what a dead one left made good.
fn good<'a>(locked: Locked<MutexGuard<'a>>, pair: &Pair) -> MutexGuard<'a> {
    let inherited = locked.is_inherited();
    let guard = locked.into_guard();
    if inherited {
        pair.mend();
        guard.consistent().unwrap();
    }
    guard
}

#[test]
fn mutexes() {
    let (mutex, pair) = (Mutex::anonymous(mutex_options()).unwrap(), Pair::new());
    let again = || Mutex::from_fd(mutex.as_fd().try_clone_to_owned().unwrap(), mutex_options()).unwrap();
    soak("mutexes", |mut seat| {
        let own = seat.anew.then(again);
        let mutex = own.as_ref().unwrap_or(&mutex);
        loop {
            let locked = mutex.lock(seat.dice.brief());
            if let Some(locked) = seat.turn(locked, &[]) {
                let guard = good(locked, pair);
                pair.count(seat.board);
                drop(guard);
            }
        }
    });
    let last = again();
    drop(good(last.lock(GENEROUS).unwrap(), pair));
    let books = last.statistics().unwrap();
    println!("{books:?}");
    assert_eq!((books.state, books.participants.len()), (MutexState::Free, 2));
    assert!(pair.one.load(Ordering::SeqCst) > 10);
}

#[test]
fn read_write_locks() {
    let options = || RwLockOptions { participants: 32, ..Default::default() };
    let (lock, pair) = (RwLock::anonymous(options()).unwrap(), Pair::new());
    let again = || RwLock::from_fd(lock.as_fd().try_clone_to_owned().unwrap(), options()).unwrap();
    soak("read-write locks", |mut seat| {
        let own = seat.anew.then(again);
        let lock = own.as_ref().unwrap_or(&lock);
        loop {
            let brief = seat.dice.brief();
            if seat.dice.roll(3) > 0 {
                if let Some(locked) = seat.turn(lock.read(brief), &[]) {
                    // Who is told that a writer died leaves it to the next writer.
                    if !locked.is_inherited() {
                        pair.check(seat.board);
                        std::thread::yield_now();
                        pair.check(seat.board);
                    }
                }
            } else if let Some(locked) = seat.turn(lock.write(brief), &[]) {
                let inherited = locked.is_inherited();
                let guard = locked.into_guard();
                if inherited {
                    pair.mend();
                    guard.consistent().unwrap();
                }
                pair.count(seat.board);
                drop(guard);
            }
        }
    });
    let last = again();
    let locked = last.write(GENEROUS).unwrap();
    let inherited = locked.is_inherited();
    let guard = locked.into_guard();
    if inherited {
        guard.consistent().unwrap();
    }
    drop(guard);
    let books = last.statistics().unwrap();
    println!("{books:?}");
    assert_eq!((books.writer, books.readers, books.participants.len()), (MutexState::Free, 0, 2));
    assert!(pair.one.load(Ordering::SeqCst) > 10);
}

/// A queue under a mutex: what is counted is put in, and taken out by those who wait for it.
#[test]
fn conditions() {
    let options = || ConditionOptions { participants: 32, ..Default::default() };
    let (mutex, condition) = (Mutex::anonymous(mutex_options()).unwrap(), Condition::anonymous(options()).unwrap());
    let pair = Pair::new();
    let again = || {
        let mutex = Mutex::from_fd(mutex.as_fd().try_clone_to_owned().unwrap(), mutex_options()).unwrap();
        (mutex, Condition::from_fd(condition.as_fd().try_clone_to_owned().unwrap(), options()).unwrap())
    };
    let balance = |board: &Board| {
        let [put, items, taken] = [&pair.one, &pair.items, &pair.taken].map(|number| number.load(Ordering::SeqCst));
        if put != items + taken {
            board.fail("what is in the queue is not what was put in and not taken");
        }
    };
    let work = |mutex: &Mutex, condition: &Condition, mut seat: Seat| {
        'turns: loop {
            let brief = seat.dice.brief();
            let Some(locked) = seat.turn(mutex.lock(brief), &[]) else { continue };
            let mut guard = good(locked, pair);
            balance(seat.board);
            if seat.number.is_multiple_of(2) {
                pair.count(seat.board);
                pair.items.fetch_add(1, Ordering::SeqCst);
                let notified = if seat.dice.roll(4) == 0 { condition.notify_all() } else { condition.notify_one() };
                seat.turn(notified, &[]);
                continue;
            }
            while pair.items.load(Ordering::SeqCst) == 0 {
                let brief = seat.dice.brief();
                let Some(waited) = seat.turn(condition.wait(guard, brief), &[Errno::ENOLCK]) else { continue 'turns };
                guard = good(waited.locked, pair);
                balance(seat.board);
            }
            // In this order: who finds this half done counts anew what there is.
            pair.taken.fetch_add(1, Ordering::SeqCst);
            pair.items.fetch_sub(1, Ordering::SeqCst);
        }
    };
    soak("conditions", |seat| {
        let own = seat.anew.then(again);
        let (mutex, condition) = own.as_ref().map_or((&mutex, &condition), |(mutex, condition)| (mutex, condition));
        work(mutex, condition, seat);
    });
    let (mutex, condition) = again();
    drop(good(mutex.lock(GENEROUS).unwrap(), pair));
    condition.notify_all().unwrap();
    let books = condition.statistics().unwrap();
    println!("{books:?}, {} taken", pair.taken.load(Ordering::SeqCst));
    assert_eq!(books.participants.len(), 2);
    assert!(books.participants.iter().all(|participant| participant.waiting == 0));
    assert!(pair.taken.load(Ordering::SeqCst) > 0);
}
