//! A pool of two workers that do nothing, beside the least that two processes can do: two bounded queues in shared memory.
//! `cargo bench --bench pool`, or of some addresses alone: `cargo bench --bench pool -- ring:`

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use std::time::{Duration, Instant};

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork};
use wigwag::{Handler, Pool, PoolOptions, TaskOptions, Timeout, Verdict};

const WORKERS: usize = 2;
const TASKS: usize = 4000;
const ROUNDS: usize = 401;
const SLOTS: usize = 1024;
const STOP: u64 = u64::MAX;
const GENEROUS: Timeout = Timeout::After(Duration::from_secs(60));

/// A bounded queue of many producers and consumers (Dmitry Vyukov's), whose users sleep by futex: no owner, no name, no
/// verdict. One who is killed takes what he holds with him.
#[repr(C, align(128))]
struct Queue {
    tail: Line<AtomicU64>,
    head: Line<AtomicU64>,
    filled: Line<Bell>,
    freed: Line<Bell>,
    slots: [Slot; SLOTS],
}

#[repr(C, align(128))]
struct Line<T>(T);

/// 1 while somebody sleeps, or is about to.
#[repr(C)]
struct Bell(AtomicU32);

#[repr(C, align(128))]
struct Slot {
    turn: AtomicU64,
    value: UnsafeCell<u64>,
}

// SAFETY: a slot's value is touched only by the one whose turn its word says it is.
unsafe impl Sync for Queue {}

impl Bell {
    fn ring(&self) {
        // SeqCst, here and in `wait`: a sleeper that is not seen here sees the change before this.
        fence(Ordering::SeqCst);
        if self.0.load(Ordering::Relaxed) == 1 && self.0.swap(0, Ordering::SeqCst) == 1 {
            futex(&self.0, libc::FUTEX_WAKE, i32::MAX as u32);
        }
    }

    fn wait<T>(&self, mut attempt: impl FnMut() -> Option<T>) -> T {
        loop {
            if let Some(value) = attempt() {
                return value;
            }
            self.0.store(1, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            if let Some(value) = attempt() {
                return value;
            }
            futex(&self.0, libc::FUTEX_WAIT, 1);
        }
    }
}

fn futex(word: &AtomicU32, operation: libc::c_int, value: u32) {
    // SAFETY: a live word; no timeout.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), operation, value, 0_usize) };
}

impl Queue {
    fn new() -> &'static Queue {
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let size = size_of::<Queue>().try_into().unwrap();
        // SAFETY: a new mapping of zeros, which a queue may have, that is never unmapped.
        let queue: &Queue =
            unsafe { mmap_anonymous(None, size, protection, MapFlags::MAP_SHARED).unwrap().cast().as_ref() };
        for (at, slot) in queue.slots.iter().enumerate() {
            slot.turn.store(at as u64, Ordering::Relaxed);
        }
        queue
    }

    fn try_push(&self, value: u64) -> bool {
        let mut tail = self.tail.0.load(Ordering::Relaxed);
        loop {
            let slot = &self.slots[tail as usize % SLOTS];
            // Acquire pairs with the Release of whoever freed the slot.
            match slot.turn.load(Ordering::Acquire) as i64 - tail as i64 {
                0 => match self.tail.0.compare_exchange_weak(tail, tail + 1, Ordering::Relaxed, Ordering::Relaxed) {
                    Ok(_) => {
                        // SAFETY: the slot is this producer's turn alone.
                        unsafe { *slot.value.get() = value };
                        slot.turn.store(tail + 1, Ordering::Release);
                        self.filled.0.ring();
                        return true;
                    }
                    Err(newer) => tail = newer,
                },
                ..0 => return false,
                _ => tail = self.tail.0.load(Ordering::Relaxed),
            }
        }
    }

    fn try_pop(&self) -> Option<u64> {
        let mut head = self.head.0.load(Ordering::Relaxed);
        loop {
            let slot = &self.slots[head as usize % SLOTS];
            // Acquire pairs with the Release of whoever filled the slot.
            match slot.turn.load(Ordering::Acquire) as i64 - (head + 1) as i64 {
                0 => match self.head.0.compare_exchange_weak(head, head + 1, Ordering::Relaxed, Ordering::Relaxed) {
                    Ok(_) => {
                        // SAFETY: the slot is this consumer's turn alone.
                        let value = unsafe { *slot.value.get() };
                        slot.turn.store(head + SLOTS as u64, Ordering::Release);
                        if head.is_multiple_of(256) {
                            self.freed.0.ring(); // a producer that sleeps finds many slots free then
                        }
                        return Some(value);
                    }
                    Err(newer) => head = newer,
                },
                ..0 => return None,
                _ => head = self.head.0.load(Ordering::Relaxed),
            }
        }
    }

    fn push(&self, value: u64) {
        self.freed.0.wait(|| self.try_push(value).then_some(()));
    }

    fn pop(&self) -> u64 {
        self.filled.0.wait(|| self.try_pop())
    }
}

/// Two workers that pass on what they get.
struct Bare {
    there: &'static Queue,
    back: &'static Queue,
    workers: [Pid; WORKERS],
}

impl Bare {
    fn start() -> Bare {
        let (there, back) = (Queue::new(), Queue::new());
        let workers = [(); WORKERS].map(|()| {
            // SAFETY: no other thread has been started yet.
            match unsafe { fork() }.unwrap() {
                ForkResult::Parent { child } => child,
                ForkResult::Child => {
                    // Dies with the benchmark, also when that fails.
                    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL).unwrap();
                    loop {
                        match there.pop() {
                            STOP => std::process::exit(0),
                            value => back.push(value),
                        }
                    }
                }
            }
        });
        Bare { there, back, workers }
    }

    fn burst(&self) {
        let (mut sent, mut received) = (0, 0);
        while received < TASKS {
            while sent < TASKS && self.there.try_push(sent as u64) {
                sent += 1;
            }
            assert!(self.back.pop() < TASKS as u64);
            received += 1;
        }
    }

    fn stop(self) {
        for _ in 0..WORKERS {
            self.there.push(STOP);
        }
        for worker in self.workers {
            waitpid(worker, None).unwrap();
        }
    }
}

fn burst(pool: &Pool) {
    for _ in 0..TASKS {
        pool.submit_collected(0, Vec::new(), TaskOptions::default(), GENEROUS).unwrap();
    }
    let mut received = 0;
    while received < TASKS {
        let verdicts = pool.collect(TASKS, GENEROUS).unwrap();
        assert!(verdicts.iter().all(|(_, verdict)| *verdict == Verdict::Done(Vec::new())));
        received += verdicts.len();
    }
}

/// Tasks a second.
fn rate(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    TASKS as f64 / start.elapsed().as_secs_f64()
}

fn main() {
    let own = std::process::id();
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let addresses = ["pipe:".to_string(), format!("ring:wigwag-bench-{own}"), format!("mq:/wigwag-bench-{own}")];
    let addresses: Vec<_> = addresses
        .iter()
        .filter(|address| wanted.is_empty() || wanted.iter().any(|name| address.starts_with(name.as_str())))
        .collect();
    let bare = Bare::start();
    let pools: Vec<_> = addresses
        .iter()
        .map(|address| {
            let nothing = Handler::new("nothing", |_: &[u8]| Ok(Vec::new()));
            let address = Some(address.parse().unwrap());
            let options = PoolOptions { address, workers: WORKERS as u32, collects: true, ..Default::default() };
            Pool::start(options, vec![nothing]).unwrap()
        })
        .collect();
    let mut rates = vec![Vec::new(); 1 + pools.len()];
    for round in 0..=ROUNDS {
        let found: Vec<_> =
            [rate(|| bare.burst())].into_iter().chain(pools.iter().map(|pool| rate(|| burst(pool)))).collect();
        if round > 0 {
            // The first warms up.
            for (rates, rate) in rates.iter_mut().zip(found) {
                rates.push(rate);
            }
        }
    }
    println!("Bursts of {TASKS} empty tasks, {WORKERS} workers, medians of {ROUNDS} rounds in turn.\n");
    println!("| | tasks/s | least | most | ÷ bare | to reach |");
    println!("| --- | --: | --: | --: | --: | --: |");
    let mut limit = None;
    let names =
        ["bare queues"].into_iter().chain(addresses.iter().filter_map(|address| address.split_inclusive(':').next()));
    for (name, rates) in names.zip(&mut rates) {
        rates.sort_by(f64::total_cmp);
        let [least, median, most] = [rates[0], rates[ROUNDS / 2], rates[ROUNDS - 1]];
        let limit = *limit.get_or_insert(median);
        println!("| {name} | {median:.0} | {least:.0} | {most:.0} | **{:.3}** | ≥ 0.25 |", median / limit);
    }
    bare.stop();
    for pool in &pools {
        pool.shutdown(false, GENEROUS).unwrap();
    }
}
