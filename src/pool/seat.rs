//! A worker's place: its channel of tasks, the way back, and the word by which both sides agree on which task is whose.
//!
//! A worker is sent tasks before it asks for them, so that it need not wait for the next one. Each has an index, counting
//! from 1. Before it runs one, the worker claims it: one word holds the index of the task that was claimed last and the
//! lowest index that may still be claimed. The pool takes unclaimed tasks back by raising the latter. Both do so with a
//! compare-exchange, so a task is claimed or taken back and never both; and when a worker is dead, the word says which of
//! its tasks it had begun.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;

use crate::address::{Address, Scheme};
use crate::channel::Channel;
use crate::error::{Error, Result};
use crate::shm::{MapOptions, Mapping, Memfd, MemoryOptions, Seals};
use crate::timeout::Timeout;

/// Bytes of the shared page.
const SIZE: usize = 4096;

/// Where in it the worker says that it asks for a task, and where its key is.
const ASKED: usize = 8;
const KEY: usize = 16;

/// The claims of one worker, shared with it.
pub(super) struct Claims {
    memory: Mapping,
    page: Arc<Memfd>,
}

impl Claims {
    /// Those of a worker with this key, which all that it sends and is sent carries.
    pub fn new(key: u64) -> Result<Claims> {
        let claims = Claims::over(Arc::new(Memfd::new(SIZE)?))?;
        claims.memory.atomic_u64(KEY)?.store(key, Ordering::Relaxed); // before there is the worker
        claims.word()?.store(join(0, 1), Ordering::Release);
        Ok(claims)
    }

    /// The same, for the worker.
    pub fn again(&self) -> Result<Claims> {
        Claims::over(Arc::clone(&self.page))
    }

    fn over(page: Arc<Memfd>) -> Result<Claims> {
        Ok(Claims { memory: Mapping::from_fd(&*page, &MapOptions::default())?, page })
    }

    fn word(&self) -> Result<&AtomicU64> {
        self.memory.atomic_u64(0)
    }

    pub fn key(&self) -> Result<u64> {
        Ok(self.memory.atomic_u64(KEY)?.load(Ordering::Relaxed))
    }

    /// By the worker, before it runs a task; false if the pool has taken it back.
    pub fn claim(&self, index: u32) -> Result<bool> {
        // Acquire and Release: what the pool wrote before it took tasks back is seen, and the claim by whoever finds the
        // worker dead.
        let claimed = self.word()?.fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| {
            let (_, lowest) = split(word);
            (index >= lowest).then(|| join(index, lowest))
        });
        Ok(claimed.is_ok())
    }

    /// By the pool: takes back every unclaimed task below `next`; the index that was claimed last.
    pub fn take_back(&self, next: u32) -> Result<u32> {
        let before = self.word()?.fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| {
            let (claimed, _) = split(word);
            Some(join(claimed, next))
        });
        Ok(split(before.unwrap_or_else(|word| word)).0)
    }

    /// By the worker, which asks for a task: it is through with the one that it claimed last, if any.
    pub fn say_asks(&self) -> Result<()> {
        let claimed = self.claimed()?;
        // Release: whoever sees it also finds what was reported before.
        self.memory.atomic_u64(ASKED)?.store(u64::from(claimed) + 1, Ordering::Release);
        Ok(())
    }

    /// One more than the index of the task that had been claimed as the worker last asked for one; 0 if it never has.
    fn asked(&self) -> u64 {
        self.memory.atomic_u64(ASKED).map_or(0, |asked| asked.load(Ordering::Acquire))
    }

    /// Whether the worker has ever asked for a task.
    pub fn is_ready(&self) -> bool {
        self.asked() != 0
    }

    /// The index of the last task that the worker is through with: it has claimed one after it, or asked for one.
    pub fn through(&self) -> u32 {
        let asked = self.asked(); // before `claimed`, which may only be later than it
        let claimed = self.claimed().unwrap_or(0);
        if asked > u64::from(claimed) { claimed } else { claimed.saturating_sub(1) }
    }

    /// The index that was claimed last.
    pub fn claimed(&self) -> Result<u32> {
        Ok(split(self.word()?.load(Ordering::Acquire)).0)
    }
}

fn join(claimed: u32, lowest: u32) -> u64 {
    u64::from(claimed) << 32 | u64::from(lowest)
}

fn split(word: u64) -> (u32, u32) {
    ((word >> 32) as u32, word as u32)
}

/// What a worker works with.
pub struct WorkerSeat {
    pub(super) number: u32,
    pub(super) orders: Channel,
    pub(super) reports: Channel,
    pub(super) claims: Claims,
    pub(super) largest: usize,
}

impl WorkerSeat {
    /// Which of the pool's places it is, from 0. A worker that takes a dead one's place has its number.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The descriptors that a program needs to work here, for [`WorkerSeat::from_descriptors`]: tasks, results, claims. Only
    /// of a pool over `pipe:`; they belong to the seat.
    pub fn descriptors(&self) -> Option<[BorrowedFd<'_>; 3]> {
        Some([self.orders.as_pipe()?, self.reports.as_pipe()?, self.claims.page.as_fd()])
    }

    /// The pool's address, which [`WorkerSeat::from_descriptors`] wants to know.
    pub fn address(&self) -> &str {
        self.orders.address()
    }

    /// As many bytes as a result may have. Never blocks.
    pub fn largest(&self) -> usize {
        self.largest
    }

    /// A seat whose descriptors were handed over. Never blocks.
    ///
    /// # Errors
    /// `EINVAL` these are not descriptors of a seat, or the address is not `pipe:`; `EMFILE`, `ENFILE`.
    pub fn from_descriptors(number: u32, address: &Address, descriptors: [OwnedFd; 3]) -> Result<WorkerSeat> {
        let [orders, reports, claims] = descriptors;
        let page = Memfd::from_fd(claims, &MemoryOptions::default(), Seals::empty())?;
        Ok(WorkerSeat {
            number,
            orders: Channel::from_pipe(address, orders)?,
            reports: Channel::from_pipe(address, reports)?,
            claims: Claims::over(Arc::new(page))?,
            largest: usize::MAX, // a pipe takes messages of any length in pieces
        })
    }
}

/// The address of a pool's part: `ring:jobs` has `ring:jobs-0`, …, `ring:jobs-results`; a pipe has no name, and of
/// `sysv-mq:/path#1`, the results have the number 1 and the workers those that follow.
pub(super) fn part(address: &Address, part: &str) -> Result<Address> {
    if address.scheme() == Scheme::Pipe {
        return Ok(address.clone());
    }
    let (mut name, mut id) = (address.name().to_vec(), address.id());
    if address.scheme() == Scheme::SysvMq {
        let offset = part.parse::<u8>().map_or(Some(0), |worker| worker.checked_add(1));
        id = id.zip(offset).and_then(|(first, offset)| first.checked_add(offset));
        if id.is_none() {
            return Err(Error::new(Errno::EINVAL, "pool").on_text(address.to_string()).because(
                "a pool over sysv-mq: has an existing file for its address, and a number of at most 255 for each worker",
            ));
        }
    } else {
        name.extend_from_slice(b"-");
        name.extend_from_slice(part.as_bytes());
    }
    let options: Vec<_> =
        address.options().map(|(key, value)| (key, String::from_utf8_lossy(value).into_owned())).collect();
    Address::from_parts(address.scheme(), name, id, options.iter().map(|(key, value)| (*key, value.as_str())))
}

/// Opens both ends of a part: the receiving one, the sending one.
pub(super) fn open(address: &Address) -> Result<(Channel, Channel)> {
    match address.scheme() {
        Scheme::Pipe => Channel::pair(address),
        Scheme::Mq | Scheme::SysvMq | Scheme::Ring => {
            Ok((Channel::open_receiver(address, Timeout::Now)?, Channel::open_sender(address, Timeout::Now)?))
        }
        _ => Err(Error::new(Errno::ENOTSUP, "pool")
            .on_text(address.to_string())
            .because("a pool's tasks travel over pipe:, mq:, sysv-mq: or ring:")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_claimed_or_taken_back() {
        let claims = Claims::new(1 << 40).unwrap();
        assert_eq!(claims.again().unwrap().key().unwrap(), 1 << 40);
        assert!(claims.claim(1).unwrap());
        assert!(claims.claim(2).unwrap());
        assert_eq!(claims.take_back(5).unwrap(), 2);
        assert!(!claims.claim(3).unwrap() && !claims.claim(4).unwrap());
        assert!(claims.claim(5).unwrap());
        assert_eq!(claims.claimed().unwrap(), 5);
        assert!(!claims.is_ready());
        assert_eq!(claims.through(), 4, "it is in the fifth");
        claims.again().unwrap().say_asks().unwrap();
        assert!(claims.is_ready());
        assert_eq!(claims.through(), 5);
        assert!(claims.claim(8).unwrap());
        assert_eq!(claims.through(), 7);
    }

    #[test]
    fn parts_have_the_base_in_their_name() {
        let text = |address: &str| part(&address.parse().unwrap(), "3").unwrap().to_string();
        assert_eq!(text("ring:jobs?capacity=4096"), "ring:jobs-3?capacity=4096");
        assert_eq!(text("mq:/jobs"), "mq:/jobs-3");
        assert_eq!(text("sysv-mq:/jobs#1"), "sysv-mq:/jobs#5");
        assert!(part(&"sysv-mq:/jobs#252".parse().unwrap(), "3").is_err());
        assert_eq!(text("pipe:"), "pipe:");
    }
}
