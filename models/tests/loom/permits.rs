//! Permits.

use std::sync::Arc;

use wigwag::modelled::{spawn, victim};
use wigwag::{Permits, PermitsOptions, Timeout, WaitMode};

use crate::checking::{Shared, again, holds, holds_at_every_death, holds_at_every_stop};

/// So many permits, and two who are known to the pool.
fn permits(count: u32, fair: bool) -> [Permits; 2] {
    let options = || PermitsOptions { count, participants: 4, fair, wait: WaitMode::Block, ..Default::default() };
    let permits = Permits::anonymous(options()).unwrap();
    let other = Permits::from_fd(again(&permits), options()).unwrap();
    let both = [permits, other];
    both.iter().for_each(|permits| drop(permits.acquire(1, Timeout::Now).unwrap()));
    both
}

/// Both take the only permit, one after the other.
fn taken_in_turn(fair: bool) {
    let inside = Shared::new();
    let threads = permits(1, fair).map(|permits| {
        let inside = Arc::clone(&inside);
        spawn(move || {
            let permit = permits.acquire(1, Timeout::Forever).unwrap();
            inside.add(1);
            drop(permit);
            permits
        })
    });
    // Until both have had it, nobody leaves, which would wake a sleeper, too.
    let both = threads.map(|thread| thread.join());
    assert_eq!(inside.get(), 2);
    drop(both);
}

/// One who may end with one of so many permits, and one who takes another, and once more when the first has ended.
fn one_ends(count: u32, fair: bool) {
    let [ends, goes_on] = permits(count, fair);
    let ended = victim(move || {
        drop(ends.acquire(1, Timeout::Forever).unwrap());
        ends
    });
    let living = spawn(move || {
        drop(goes_on.acquire(1, Timeout::Forever).unwrap());
        goes_on
    });
    let goes_on = living.join().unwrap();
    ended.join();
    drop(goes_on.acquire(1, Timeout::Forever).unwrap());
}

#[test]
fn a_permit_is_one_holders_at_a_time() {
    holds(
        "permits",
        || taken_in_turn(false),
        &[
            &[("sync/permits/pool.rs", "self.control.pool.word.compare_exchange(found.0, next.0, Ordering::SeqCst")],
            &[
                ("segment/bell.rs", "self.word.fetch_update(Ordering::SeqCst, Ordering::SeqCst, announced)"),
                ("segment/bell.rs", "fence(Ordering::SeqCst);"),
            ],
        ],
    );
    holds("fair permits", || taken_in_turn(true), &[]);
}

#[test]
fn a_permit_comes_back_from_the_dead() {
    holds_at_every_death("permits", || one_ends(1, false));
    holds_at_every_death("fair permits", || one_ends(1, true));
}

#[test]
fn permits_that_are_left_can_be_had_whoever_stopped() {
    holds_at_every_stop("permits", || one_ends(2, false));
    holds_at_every_stop("fair permits", || one_ends(2, true));
}
