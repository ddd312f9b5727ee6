//! Permits.

use std::sync::Arc;

use wigwag::modelled::{spawn, victim};
use wigwag::{Permits, PermitsOptions, Timeout, WaitMode};

use crate::checking::{Shared, again, holds, holds_at_every_death, holds_at_every_stop};

/// One permit, and two who are known to the pool.
fn permits() -> [Permits; 2] {
    let options = || PermitsOptions { count: 1, participants: 4, wait: WaitMode::Block, ..Default::default() };
    let permits = Permits::anonymous(options()).unwrap();
    let other = Permits::from_fd(again(&permits), options()).unwrap();
    let both = [permits, other];
    both.iter().for_each(|permits| drop(permits.acquire(1, Timeout::Now).unwrap()));
    both
}

#[test]
fn a_permit_is_one_holders_at_a_time() {
    let scenario = || {
        let inside = Shared::new();
        let threads = permits().map(|permits| {
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
    };
    holds(
        "permits",
        scenario,
        &[
            &[("sync/permits/pool.rs", "self.control.pool.word.compare_exchange(found.0, next.0, Ordering::SeqCst")],
            &[
                ("segment/bell.rs", "self.word.fetch_update(Ordering::SeqCst, Ordering::SeqCst, announced)"),
                ("segment/bell.rs", "fence(Ordering::SeqCst);"),
            ],
        ],
    );
}

#[test]
fn a_permit_comes_back_from_the_dead() {
    holds_at_every_death("permits", || {
        let [mortal, survivor] = permits();
        let dying = victim(move || {
            drop(mortal.acquire(1, Timeout::Forever).unwrap());
            mortal
        });
        let living = spawn(move || {
            drop(survivor.acquire(1, Timeout::Forever).unwrap());
            survivor
        });
        dying.join();
        let survivor = living.join().unwrap();
        drop(survivor.acquire(1, Timeout::Forever).unwrap());
    });
}

#[test]
fn permits_that_are_left_can_be_had_whoever_stopped() {
    for (name, fair) in [("permits", false), ("fair permits", true)] {
        println!("{name}:");
        let scenario = if fair { two_of_two::<true> } else { two_of_two::<false> };
        holds_at_every_stop(name, scenario);
    }
}

/// One who may stop with one of two permits, and one who takes the other.
fn two_of_two<const FAIR: bool>() {
    let options =
        || PermitsOptions { count: 2, participants: 4, fair: FAIR, wait: WaitMode::Block, ..Default::default() };
    let stops = Permits::anonymous(options()).unwrap();
    let goes_on = Permits::from_fd(again(&stops), options()).unwrap();
    [&stops, &goes_on].iter().for_each(|permits| drop(permits.acquire(1, Timeout::Now).unwrap()));
    let ended = victim(move || {
        drop(stops.acquire(1, Timeout::Forever).unwrap());
        stops
    });
    let living = spawn(move || {
        drop(goes_on.acquire(1, Timeout::Forever).unwrap());
        goes_on
    });
    let living = living.join();
    ended.join();
    drop(living);
}

/// One fair permit, and two who are known to the pool.
fn fair_permits() -> [Permits; 2] {
    let options =
        || PermitsOptions { count: 1, participants: 4, fair: true, wait: WaitMode::Block, ..Default::default() };
    let permits = Permits::anonymous(options()).unwrap();
    let other = Permits::from_fd(again(&permits), options()).unwrap();
    let both = [permits, other];
    both.iter().for_each(|permits| drop(permits.acquire(1, Timeout::Now).unwrap()));
    both
}

#[test]
fn a_fair_permit_is_handed_on() {
    let scenario = || {
        let inside = Shared::new();
        let threads = fair_permits().map(|permits| {
            let inside = Arc::clone(&inside);
            spawn(move || {
                let permit = permits.acquire(1, Timeout::Forever).unwrap();
                inside.add(1);
                drop(permit);
                permits
            })
        });
        let both = threads.map(|thread| thread.join());
        assert_eq!(inside.get(), 2);
        drop(both);
    };
    holds("fair permits", scenario, &[]);
}

#[test]
fn a_fair_permit_comes_back_from_the_dead() {
    holds_at_every_death("fair permits", || {
        let [mortal, survivor] = fair_permits();
        let ended = victim(move || {
            drop(mortal.acquire(1, Timeout::Forever).unwrap());
            mortal
        });
        let living = spawn(move || {
            drop(survivor.acquire(1, Timeout::Forever).unwrap());
            survivor
        });
        let survivor = living.join().unwrap();
        ended.join();
        drop(survivor.acquire(1, Timeout::Forever).unwrap());
    });
}
