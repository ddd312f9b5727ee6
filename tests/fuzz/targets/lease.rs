//! Pools of leases whose memory is written over.

use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use wigwag::{LEASE_INFORMATION_MAX, LeaseGroup, LeaseOptions, LeasePool, LeaseRequest, Result, Timeout, WaitMode};

use super::input::{Input, play, told_or};

fn options(choice: u8) -> LeaseOptions {
    LeaseOptions {
        slots: 3,
        room: 4,
        fair: choice & 1 != 0,
        expires: Duration::from_millis(u64::from(choice >> 1 & 3)),
        groups: vec![LeaseGroup { name: "web".into(), minimum: 1 }],
        participants: 4,
        wait: WaitMode::Block,
        ..Default::default()
    }
}

fn told<T>(result: Result<T>) -> Option<T> {
    told_or(&[Errno::ENOENT], result)
}

pub fn pool(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let options = options(input.byte());
    let pool = LeasePool::anonymous(options.clone()).unwrap();
    let mut leases = Vec::new();
    play(&mut input, &pool, |code, input| {
        let at = usize::from(code >> 4);
        match code % 12 {
            0..3 => {
                let request = LeaseRequest { group: if code & 64 == 0 { "" } else { "web" }, note: "a note" };
                leases.extend(told(pool.acquire_for(&request, input.timeout())));
            }
            3 | 4 if !leases.is_empty() => {
                let lease = leases.swap_remove(at % leases.len());
                told(if code & 64 == 0 { lease.release() } else { lease.abandon() });
            }
            5 if !leases.is_empty() => {
                let at = at % leases.len();
                told(leases[at].set_information(&vec![code; input.short() % (LEASE_INFORMATION_MAX + 1)]));
            }
            6 if !leases.is_empty() => {
                let at = at % leases.len();
                let lease = &mut leases[at];
                let found = told(lease.information());
                assert!(found.is_none_or(|found| found.len() <= LEASE_INFORMATION_MAX));
                told(lease.set_note(&String::from_utf8_lossy(input.some())));
                told(lease.make_clean());
            }
            7 if !leases.is_empty() => {
                let lease = &leases[at % leases.len()];
                told(lease.renew());
                told(lease.check());
                let _ = (lease.last_used(), lease.expires_in(), lease.is_wanted(), lease.is_dirty(), lease.token());
            }
            8 => drop(told(pool.resize(u32::from(input.byte() % 6)))),
            9 => drop((pool.available(), pool.waiting(), pool.slots(), told(pool.wait_wanted(Timeout::Now)))),
            10 => drop((told(pool.check()), told(pool.statistics()).map(|statistics| format!("{statistics:?}")))),
            _ => {
                let fd = pool.as_fd().try_clone_to_owned().unwrap();
                let other = told(LeasePool::from_fd(fd, options.clone()));
                other.map(|other| told(other.acquire(input.timeout())).is_some());
            }
        }
    });
}
