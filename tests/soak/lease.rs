//! Leases: a slot has one holder, who is told when the one before died with it, and none is lost.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};

use wigwag::{LeaseOptions, LeasePool};

use crate::crew::{shared, soak};
use crate::support::GENEROUS;
use crate::tokens::is_alive;

const SLOTS: usize = 3;

fn leases_of(fair: bool) {
    let options = || LeaseOptions { slots: SLOTS as u32, fair, participants: 32, ..Default::default() };
    let pool = LeasePool::anonymous(options()).unwrap();
    let again = || LeasePool::from_fd(pool.as_fd().try_clone_to_owned().unwrap(), options()).unwrap();
    // Who has each slot: from after it was acquired until before it is released.
    // SAFETY: atomics.
    let holders: &'static [AtomicU64; SLOTS] = unsafe { shared() };
    soak(if fair { "leases, fair" } else { "leases" }, |mut seat| {
        let own = seat.anew.then(again);
        let pool = own.as_ref().unwrap_or(&pool);
        let me = u64::from(std::process::id());
        loop {
            let brief = seat.dice.brief();
            let Some(mut lease) = seat.turn(pool.acquire(brief), &[]) else { continue };
            let holder = &holders[lease.slot() as usize];
            let before = holder.swap(me, Ordering::SeqCst);
            if before != 0 && is_alive(before) {
                seat.board.fail("two have one slot");
            }
            if before != 0 && !lease.is_dirty() {
                seat.board.fail("a slot is clean that somebody died with");
            }
            let told = lease.information().unwrap();
            if !told.is_empty() && (told.len() != 100 || told.iter().any(|byte| *byte != told[0])) {
                seat.board.fail("torn information");
            }
            lease.make_clean().unwrap();
            lease.set_information(&[me as u8; 100]).unwrap();
            if seat.dice.roll(4) == 0 {
                std::thread::yield_now();
            }
            holder.store(0, Ordering::SeqCst);
            let ended = if seat.dice.roll(8) == 0 { lease.abandon() } else { lease.release() };
            seat.turn(ended, &[]);
        }
    });
    let last = again();
    let all: Vec<_> = (0..SLOTS).map(|_| last.acquire(GENEROUS).unwrap()).collect();
    drop(all);
    let books = last.statistics().unwrap();
    println!("{books:?}");
    assert_eq!((books.held, books.waiting, last.available()), (0, 0, SLOTS as u32));
}

#[test]
fn leases() {
    leases_of(false);
}

#[test]
fn fair_leases() {
    leases_of(true);
}
