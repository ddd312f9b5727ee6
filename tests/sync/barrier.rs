//! Barriers between threads and processes.

use std::os::fd::AsFd;
use std::sync::atomic::Ordering;

use nix::errno::Errno;
use wigwag::{Barrier, BarrierOptions, Cancel, Timeout};

use crate::shared_counter;
use crate::support::{GENEROUS, SHORT, eventually, fork, fresh, is_asleep};

fn barrier(parties: u32) -> Barrier {
    Barrier::anonymous(BarrierOptions { parties, ..Default::default() }).unwrap()
}

fn again(barrier: &Barrier) -> Barrier {
    Barrier::from_fd(barrier.as_fd().try_clone_to_owned().unwrap(), BarrierOptions::default()).unwrap()
}

fn arrived(barrier: &Barrier, count: u32) -> impl FnMut() -> bool {
    move || barrier.statistics().unwrap().arrived == count
}

#[test]
fn nobody_goes_on_before_all_have_arrived() {
    const ROUNDS: u64 = 300;
    let (barrier, steps, last) = (barrier(4), shared_counter(), shared_counter());
    let work = |barrier: &Barrier| {
        for round in 0..ROUNDS {
            steps.fetch_add(1, Ordering::Relaxed);
            last.fetch_add(u64::from(barrier.wait(GENEROUS).unwrap()), Ordering::Relaxed);
            assert!(steps.load(Ordering::Relaxed) >= 4 * (round + 1));
            barrier.wait(GENEROUS).unwrap();
        }
    };
    let children = [fork(|| work(&barrier)), fork(|| work(&barrier))];
    let other = again(&barrier);
    std::thread::scope(|scope| {
        scope.spawn(|| work(&barrier));
        scope.spawn(|| work(&other));
    });
    for child in children {
        child.join();
    }
    assert_eq!((last.load(Ordering::Relaxed), barrier.statistics().unwrap().round), (ROUNDS, 2 * ROUNDS as u32));
}

#[test]
fn each_gets_a_number_of_its_own() {
    let barrier = barrier(3);
    let mut numbers: Vec<u32> = std::thread::scope(|scope| {
        let meet = || barrier.wait_numbered(GENEROUS).unwrap();
        [scope.spawn(meet), scope.spawn(meet), scope.spawn(meet)].map(|thread| thread.join().unwrap()).into()
    });
    numbers.sort_unstable();
    assert_eq!(numbers, [0, 1, 2]);
}

#[test]
fn who_waits_alone_hears_of_the_death_of_one_that_came_later() {
    let address = format!("barrier:{}", fresh("later")).parse().unwrap();
    let open = || Barrier::open(&address, BarrierOptions { parties: 3, ..Default::default() }).unwrap();
    let first = fork(|| {
        let error = open().wait(GENEROUS).unwrap_err();
        assert!(error.is(Errno::EOWNERDEAD), "{error}");
    });
    eventually("the first waits", || is_asleep(first.pid()));
    fork(|| {
        let _barrier = open();
        // SAFETY: plain system calls.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    })
    .wait();
    first.join();
    Barrier::remove(&address).unwrap();
}

#[test]
fn who_gives_up_takes_its_arrival_back() {
    let barrier = barrier(2);
    assert!(barrier.wait(Timeout::Now).unwrap_err().is(Errno::EAGAIN));
    assert!(barrier.wait(SHORT).unwrap_err().is(Errno::ETIMEDOUT));
    let cancel = Cancel::new();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let _scope = cancel.enter();
            barrier.wait(GENEROUS).unwrap_err().is(Errno::ECANCELED)
        });
        eventually("it has arrived", arrived(&barrier, 1));
        cancel.fire();
        assert!(waiting.join().unwrap());
    });
    let statistics = barrier.statistics().unwrap();
    assert_eq!((statistics.parties, statistics.arrived, statistics.is_broken), (2, 0, false));
    assert!(Barrier::anonymous(BarrierOptions::default()).unwrap().parties() == 2);
    assert!(self::barrier(1).wait(Timeout::Now).unwrap(), "alone, and so the last");
}

#[test]
fn a_death_breaks_it_for_all() {
    let barrier = barrier(3);
    let dead = fork(|| drop(barrier.wait(GENEROUS)));
    let waiting = fork(|| {
        let error = barrier.wait(GENEROUS).unwrap_err();
        assert!(error.is(Errno::EOWNERDEAD) && error.to_string().contains("reset it"), "{error}");
    });
    eventually("both have arrived", arrived(&barrier, 2));
    dead.kill(libc::SIGKILL);
    dead.wait();
    waiting.join();
    assert!(barrier.wait(GENEROUS).unwrap_err().is(Errno::EOWNERDEAD));
    // The second child has left by _exit, which is a death like any other: look before the reset.
    eventually("it is broken by both", || barrier.wait(Timeout::Now).unwrap_err().is(Errno::EOWNERDEAD));
    barrier.reset().unwrap();
    let other = again(&barrier);
    drop(other); // leaving is not dying
    assert!(barrier.wait(Timeout::Now).is_err());
}

#[test]
fn it_can_be_broken_and_reset_on_purpose() {
    let barrier = barrier(2);
    for reset in [false, true] {
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| barrier.wait(GENEROUS).unwrap_err().is(Errno::EOWNERDEAD));
            eventually("it has arrived", arrived(&barrier, 1));
            if reset {
                barrier.reset().unwrap()
            } else {
                barrier.break_off().unwrap()
            }
            assert!(waiting.join().unwrap());
        });
        if !reset {
            assert!(barrier.statistics().unwrap().is_broken);
            assert!(barrier.wait(Timeout::Now).unwrap_err().is(Errno::EOWNERDEAD));
            barrier.reset().unwrap();
        }
    }
    std::thread::scope(|scope| {
        scope.spawn(|| barrier.wait(GENEROUS).unwrap());
        barrier.wait(GENEROUS).unwrap();
    });
}

#[test]
fn what_it_is_is_decided_by_who_makes_it() {
    let address: wigwag::Address = format!("barrier:{}?parties=1", fresh("barrier")).parse().unwrap();
    let first = Barrier::open(&address, BarrierOptions::default()).unwrap();
    let second =
        Barrier::open(&address.without_options(), BarrierOptions { parties: 9, ..Default::default() }).unwrap();
    assert!(second.parties() == 1 && second.wait(Timeout::Now).unwrap());
    assert_eq!(first.statistics().unwrap().bytes, Barrier::size_for(&BarrierOptions::default()).unwrap());
    Barrier::remove(&address).unwrap();
    assert!(first.check().unwrap_err().is(Errno::ESTALE));
    let many = BarrierOptions { parties: 32768, ..Default::default() };
    assert!(Barrier::anonymous(many).unwrap_err().is(Errno::EINVAL));
}
