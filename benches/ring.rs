//! Rings, one-to-one and many-to-many, beside what two processors can do: the bare cache line for the round trip, a bare Lamport ring for
//! one way. Two processes, each on a processor of its own, contestants in turn, the bare line before and after each.
//!
//! Medians over short batches, so that a neighbour on the same machine spoils some batches and not the figure.
//! `cargo bench --bench ring`

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};
use nix::unistd::Pid;
use wigwag::{Ring, RingConsumer, RingOptions, RingProducer, Timeout, WaitMode};

const BATCHES: usize = 400;

fn pin(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu).unwrap();
    sched_setaffinity(Pid::from_raw(0), &set).unwrap();
}

fn shared<T>() -> &'static T {
    let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    let size = size_of::<T>().max(4096).try_into().unwrap();
    // SAFETY: a new mapping of zeros that is never unmapped, and T is made of atomics.
    unsafe { mmap_anonymous(None, size, protection, MapFlags::MAP_SHARED).unwrap().cast().as_ref() }
}

#[repr(C, align(128))]
struct Line(AtomicU64);

/// Runs `peer` in a child on processor 1 and `own` here on processor 0.
fn pair<T>(peer: impl FnOnce(), own: impl FnOnce() -> T) -> T {
    // SAFETY: the child leaves by _exit.
    let child = match unsafe { libc::fork() } {
        0 => {
            pin(1);
            // SAFETY: with its parent; then ends without destructors.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            peer();
            // SAFETY: as above.
            unsafe { libc::_exit(0) }
        }
        pid => pid,
    };
    pin(0);
    let result = own();
    // SAFETY: our child, which has nothing more to do.
    unsafe {
        libc::kill(child, libc::SIGKILL);
        libc::waitpid(child, std::ptr::null_mut(), 0);
    }
    result
}

/// The median time of one of `times` steps, in nanoseconds.
fn median(times: usize, mut step: impl FnMut()) -> f64 {
    let mut batches: Vec<f64> = (0..BATCHES)
        .map(|_| {
            let start = Instant::now();
            (0..times).for_each(|_| step());
            start.elapsed().as_nanos() as f64 / times as f64
        })
        .collect();
    batches.sort_by(f64::total_cmp);
    batches[BATCHES / 2]
}

fn bare_line() -> f64 {
    let lines: &[Line; 2] = shared();
    let await_past = |line: &Line, last: u64| {
        while line.0.load(Ordering::Acquire) == last {
            std::hint::spin_loop();
        }
    };
    pair(
        || {
            for n in 0.. {
                await_past(&lines[0], n);
                lines[1].0.store(n + 1, Ordering::Release);
            }
        },
        || {
            let mut n = 0;
            median(200, || {
                lines[0].0.store(n + 1, Ordering::Release);
                await_past(&lines[1], n);
                n += 1;
            })
        },
    )
}

fn ring(size: usize, spin: bool) -> Ring {
    let wait = if spin { WaitMode::Poll } else { WaitMode::Block };
    let (capacity, largest) = (((size + 80) * 1024) as u64, size as u64);
    Ring::anonymous(RingOptions { capacity, largest, wait, persistent: true, ..Default::default() }).unwrap()
}

fn round_trip(size: usize) -> f64 {
    let (there, back) = (ring(size, true), ring(size, true));
    let bytes = vec![7; size];
    pair(
        || {
            let mut buffer = vec![0; size];
            loop {
                there.recv(&mut buffer, Timeout::Forever).unwrap();
                back.send(&buffer, Timeout::Forever).unwrap();
            }
        },
        || {
            let mut buffer = vec![0; size];
            median(200, || {
                there.send(&bytes, Timeout::Forever).unwrap();
                back.recv(&mut buffer, Timeout::Forever).unwrap();
            })
        },
    )
}

fn one_way(size: usize) -> f64 {
    let there = ring(size, true);
    let bytes = vec![7; size];
    pair(
        || while there.send(&bytes, Timeout::Forever).is_ok() {},
        || {
            let mut buffer = vec![0; size];
            median(2000, || {
                there.recv(&mut buffer, Timeout::Forever).unwrap();
            })
        },
    )
}

fn one_options(size: usize) -> RingOptions {
    let wait = WaitMode::Poll;
    let (capacity, largest) = (((size + 8) * 1024).next_power_of_two() as u64, size as u64);
    RingOptions { capacity, largest, wait, persistent: true, ..Default::default() }
}

/// A one-to-one ring's descriptor, with both roles to be had.
fn one(size: usize) -> OwnedFd {
    RingProducer::anonymous(one_options(size)).unwrap().0.as_fd().try_clone_to_owned().unwrap()
}

fn ends(there: &OwnedFd, back: &OwnedFd, size: usize) -> (RingProducer, RingConsumer) {
    let (there, back) = (there.try_clone().unwrap(), back.try_clone().unwrap());
    let producer = RingProducer::from_fd(there, one_options(size)).unwrap();
    (producer, RingConsumer::from_fd(back, one_options(size)).unwrap())
}

fn one_round_trip(size: usize, same_cpu: bool) -> f64 {
    let (there, back) = (one(size), one(size));
    let wait = if same_cpu { WaitMode::Block } else { WaitMode::Poll };
    let open = |there: &OwnedFd, back: &OwnedFd| {
        let options = RingOptions { wait, ..one_options(size) };
        let producer = RingProducer::from_fd(there.try_clone().unwrap(), options.clone()).unwrap();
        (producer, RingConsumer::from_fd(back.try_clone().unwrap(), options).unwrap())
    };
    let bytes = vec![7; size];
    pair(
        || {
            if same_cpu {
                pin(0);
            }
            let (mut producer, mut consumer) = open(&back, &there);
            let mut buffer = vec![0; size];
            loop {
                consumer.recv(&mut buffer, Timeout::Forever).unwrap();
                producer.send(&buffer, Timeout::Forever).unwrap();
            }
        },
        || {
            let (mut producer, mut consumer) = open(&there, &back);
            let mut buffer = vec![0; size];
            median(if same_cpu { 50 } else { 200 }, || {
                producer.send(&bytes, Timeout::Forever).unwrap();
                consumer.recv(&mut buffer, Timeout::Forever).unwrap();
            })
        },
    )
}

fn one_one_way(size: usize) -> f64 {
    let (there, unused) = (one(size), one(size));
    let bytes = vec![7; size];
    pair(
        || {
            let (mut producer, _unused) = ends(&there, &unused, size);
            while producer.send(&bytes, Timeout::Forever).is_ok() {}
        },
        || {
            let (_unused, mut consumer) = ends(&unused, &there, size);
            let mut buffer = vec![0; size];
            median(2000, || {
                consumer.recv(&mut buffer, Timeout::Forever).unwrap();
            })
        },
    )
}

/// The limit: one producer, one consumer, own index private, the other's cached, nobody may die.
fn lamport(size: usize) -> f64 {
    const SLOTS: usize = 1024;
    let indices: &[Line; 2] = shared();
    let stride = size.next_multiple_of(64);
    let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    let length = (stride * SLOTS).try_into().unwrap();
    // SAFETY: a new mapping that is never unmapped.
    let slots = unsafe { mmap_anonymous(None, length, protection, MapFlags::MAP_SHARED).unwrap().cast::<u8>() };
    // SAFETY: inside the mapping, as the index is below SLOTS.
    let slot = |index: u64| unsafe { slots.add((index as usize % SLOTS) * stride).as_ptr() };
    let bytes = vec![7u8; size];
    pair(
        || {
            let mut head = 0;
            for tail in 0.. {
                while tail - head == SLOTS as u64 {
                    head = indices[1].0.load(Ordering::Acquire);
                }
                // SAFETY: the slot is the producer's until the tail passes it.
                unsafe { slot(tail).copy_from_nonoverlapping(bytes.as_ptr(), size) };
                indices[0].0.store(tail + 1, Ordering::Release);
            }
        },
        || {
            let (mut head, mut tail, mut buffer) = (0, 0, vec![0u8; size]);
            median(2000, || {
                while head == tail {
                    indices[1].0.store(head, Ordering::Release);
                    tail = indices[0].0.load(Ordering::Acquire);
                }
                // SAFETY: the slot is the consumer's until the head passes it.
                unsafe { slot(head).copy_to_nonoverlapping(buffer.as_mut_ptr(), size) };
                std::hint::black_box(&mut buffer);
                head += 1;
                indices[1].0.store(head, Ordering::Release);
            })
        },
    )
}

/// Both ends on one processor, sleeping: what the system calls and the switches cost.
fn blocking(wigwag: bool) -> f64 {
    let (there, back) = (ring(64, false), ring(64, false));
    let words: &[std::sync::atomic::AtomicU32; 64] = shared();
    let wait = |word: &std::sync::atomic::AtomicU32, seen: u32| {
        while word.load(Ordering::Acquire) == seen {
            // SAFETY: the word is live; FUTEX_WAIT only reads it.
            unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, seen, 0, 0, 0) };
        }
    };
    let post = |word: &std::sync::atomic::AtomicU32| {
        word.fetch_add(1, Ordering::SeqCst);
        // SAFETY: as above.
        unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, 1, 0, 0, 0) };
    };
    pair(
        || {
            pin(0);
            let (mut buffer, mut n) = ([0; 64], 0);
            loop {
                if wigwag {
                    there.recv(&mut buffer, Timeout::Forever).unwrap();
                    back.send(&buffer, Timeout::Forever).unwrap();
                } else {
                    wait(&words[0], n);
                    post(&words[32]);
                    n += 1;
                }
            }
        },
        || {
            let (mut buffer, mut n) = ([0; 64], 0);
            median(50, || {
                if wigwag {
                    there.send(&buffer, Timeout::Forever).unwrap();
                    back.recv(&mut buffer, Timeout::Forever).unwrap();
                } else {
                    post(&words[0]);
                    wait(&words[32], n);
                    n += 1;
                }
            })
        },
    )
}

fn main() {
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        println!("needs two processors");
        return;
    }
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("Linux {}, load {}, medians of {BATCHES} batches", kernel.trim(), load.trim());
    println!("{:34} {:>10} {:>10} {:>7}  bare line before, after", "", "wigwag", "limit", "ratio");
    let row = |name: &str, ours: &dyn Fn() -> f64, limit: &dyn Fn() -> f64| {
        let before = bare_line();
        let (ours, limit) = (ours(), limit());
        let after = bare_line();
        println!("{name:34} {ours:7.1} ns {limit:7.1} ns {:7.2}  {before:.0} ns, {after:.0} ns", ours / limit);
    };
    row("1:1 round trip, 64 B, polled", &|| one_round_trip(64, false), &bare_line);
    for size in [8, 64, 1024] {
        row(&format!("1:1 one way, {size} B, polled"), &|| one_one_way(size), &|| lamport(size));
    }
    row("1:1 round trip, one CPU, asleep", &|| one_round_trip(64, true), &|| blocking(false));
    row("round trip, 64 B, polled", &|| round_trip(64), &bare_line);
    for size in [8, 64, 1024] {
        row(&format!("one way, {size} B, polled"), &|| one_way(size), &|| lamport(size));
    }
    row("round trip, 64 B, one CPU, asleep", &|| blocking(true), &|| blocking(false));
}
