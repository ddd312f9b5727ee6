//! A peer that keeps no rules writes over a pool of leases: the others get errors, or go on; they do not crash, read outside
//! of it, or wait past their timeouts.

mod support;

use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use support::fork;
use wigwag::{LEASE_INFORMATION_MAX, LeaseGroup, LeaseOptions, LeasePool, LeaseRequest, Timeout};

const BRIEF: Timeout = Timeout::After(Duration::from_micros(200));
/// An operation that takes longer has got stuck.
const LONG: Duration = Duration::from_secs(20);
const ROUNDS: u64 = 300;

fn options(round: u64) -> LeaseOptions {
    LeaseOptions {
        slots: 3,
        room: 4,
        fair: round.is_multiple_of(2),
        expires: Duration::from_millis(5 * (round % 3)),
        groups: vec![LeaseGroup { name: "web".into(), minimum: 1 }],
        participants: 4,
        ..Default::default()
    }
}

/// Numbers that look random and are the same each time (Steele, Lea, Flood, "Fast splittable pseudorandom number
/// generators", 2014).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// Writes over one word, with what could be there, or could not.
fn spoil(file: &std::fs::File, size: u64, numbers: &mut Numbers) {
    let at = numbers.next() % (size / 8) * 8;
    let mut bytes = [0; 8];
    file.read_exact_at(&mut bytes, at).unwrap();
    let (old, new) = (u64::from_le_bytes(bytes), numbers.next());
    let value = match new % 7 {
        0 => 0,
        1 => u64::MAX,
        2 => old.wrapping_add(1),
        3 => old.wrapping_sub(1),
        4 => old ^ (1 << (numbers.next() % 64)),
        5 => old.wrapping_add((numbers.next() % 64) << 24),
        _ => numbers.next(),
    };
    file.write_all_at(&value.to_le_bytes(), at).unwrap();
}

fn work(pool: &LeasePool, round: u64) {
    let bytes = vec![round as u8; round as usize % LEASE_INFORMATION_MAX];
    for group in ["", "web"] {
        let request = LeaseRequest { group, note: "a note" };
        let leases: Vec<_> = (0..3).map(|_| pool.acquire_for(&request, BRIEF)).collect();
        for mut lease in leases.into_iter().flatten() {
            let _ = (lease.set_information(&bytes), lease.renew(), lease.make_clean(), lease.set_note("another"));
            let _ = lease.information().map(|found| assert!(found.len() <= LEASE_INFORMATION_MAX));
            let _ = (lease.last_used(), lease.expires_in(), lease.is_wanted(), lease.is_dirty());
            if round.is_multiple_of(5) {
                std::mem::forget(lease);
            } else {
                let _ = lease.release();
            }
        }
    }
    let _ = (pool.resize(4), pool.resize(3), pool.available(), pool.waiting(), pool.slots());
    let _ = pool.wait_wanted(Timeout::Now);
    let _ = pool.statistics().map(|statistics| format!("{statistics:?}").len());
    let _ = pool.as_fd().try_clone_to_owned().map(|fd| LeasePool::from_fd(fd, LeaseOptions::default()));
}

#[test]
fn a_peer_that_keeps_no_rules() {
    fork(|| {
        let mut numbers = Numbers(1);
        for round in 0..ROUNDS {
            let pool = LeasePool::anonymous(options(round)).unwrap();
            work(&pool, round);
            let file = std::fs::File::from(pool.as_fd().try_clone_to_owned().unwrap());
            let size = file.metadata().unwrap().len();
            let begun = Instant::now();
            for _ in 0..4 {
                (0..1 + numbers.next() % 6).for_each(|_| spoil(&file, size, &mut numbers));
                work(&pool, round);
            }
            // The control record and the slots, which matter most.
            for _ in 0..4 {
                (0..1 + numbers.next() % 6).for_each(|_| spoil(&file, size.min(4096), &mut numbers));
                work(&pool, round);
            }
            assert!(begun.elapsed() < LONG, "round {round} took {:?}", begun.elapsed());
        }
    })
    .join();
}
