//! A pool of leases: taking and releasing a free slot beside the least that a lock can do, and 8 processes on 4 slots.
//! `cargo bench --bench lease`

use std::hint::black_box;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};
use nix::unistd::Pid;
use wigwag::{LeaseOptions, LeasePool, LeaseRequest, Timeout};

const BATCHES: usize = 301;
const PAIRS: usize = 2000;

const PROCESSES: usize = 8;
const SLOTS: u32 = 4;
const RUN: Duration = Duration::from_secs(2);
/// What a holder sleeps; the kernel adds some 50 µs.
const HOLD: Duration = Duration::from_micros(100);

/// A line of its own for each word.
#[repr(C, align(128))]
struct Line(AtomicU32);

/// What the processes tell: nanoseconds that they held slots, and a histogram of what taking took, by powers of 2^(1/8).
#[repr(C)]
struct Told {
    begin: AtomicU32,
    held: AtomicU64,
    leases: [AtomicU64; PROCESSES],
    waits: [AtomicU64; 512],
}

fn shared<T>() -> &'static T {
    let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    let size = size_of::<T>().max(4096).try_into().unwrap();
    // SAFETY: a new mapping of zeros that is never unmapped, of atomics.
    unsafe { mmap_anonymous(None, size, protection, MapFlags::MAP_SHARED).unwrap().cast().as_ref() }
}

/// Without an owner, without a death: the limit.
fn bare(lines: &[Line; 2]) {
    let (word, waiting) = (&lines[0].0, &lines[1].0);
    while word.compare_exchange_weak(0, 1, Ordering::Acquire, Ordering::Relaxed).is_err() {}
    word.fetch_and(!1, Ordering::SeqCst);
    assert_eq!(black_box(waiting.load(Ordering::SeqCst)), 0);
}

fn semop(id: i32, change: i16) {
    let mut operation = libc::sembuf { sem_num: 0, sem_op: change, sem_flg: libc::SEM_UNDO as i16 };
    // SAFETY: one operation on a set of this process.
    while unsafe { libc::semop(id, &mut operation, 1) } != 0 {}
}

fn semaphore(count: i32) -> i32 {
    // SAFETY: makes a set of one semaphore, which is removed in the end.
    let set = unsafe { libc::semget(libc::IPC_PRIVATE, 1, 0o600) };
    // SAFETY: a set of this process.
    assert_eq!(unsafe { libc::semctl(set, 0, libc::SETVAL, count) }, 0);
    set
}

fn remove(set: i32) {
    // SAFETY: a set of this process.
    unsafe { libc::semctl(set, 0, libc::IPC_RMID) };
}

fn on_one_processor() {
    let mut one = CpuSet::new();
    one.set(0).unwrap();
    sched_setaffinity(Pid::from_raw(0), &one).unwrap();
}

fn free() {
    let lines: &[Line; 2] = shared();
    let pool = LeasePool::anonymous(LeaseOptions { slots: 8, ..Default::default() }).unwrap();
    let expiring =
        LeasePool::anonymous(LeaseOptions { expires: Duration::from_secs(60), ..Default::default() }).unwrap();
    let fair = LeasePool::anonymous(LeaseOptions { fair: true, ..Default::default() }).unwrap();
    let noted = LeaseRequest { note: "a note", ..Default::default() };
    let told = LeasePool::anonymous(LeaseOptions::default()).unwrap();
    drop(told.acquire(Timeout::Now).map(|mut lease| lease.set_information(&[7; 100])));
    let set = semaphore(8);
    type Contestant<'a> = (&'a str, &'a str, Box<dyn Fn() + 'a>);
    let contestants: [Contestant<'_>; 7] = [
        ("bare exchange", "", Box::new(|| bare(lines))),
        ("lease", "≤ 3", Box::new(|| pool.acquire(Timeout::Forever).unwrap().release().unwrap())),
        ("lease, fair", "", Box::new(|| fair.acquire(Timeout::Forever).unwrap().release().unwrap())),
        ("lease that expires", "", Box::new(|| expiring.acquire(Timeout::Forever).unwrap().release().unwrap())),
        ("lease with a note", "", Box::new(|| pool.acquire_for(&noted, Timeout::Forever).unwrap().release().unwrap())),
        (
            "lease, information of 100 bytes read",
            "",
            Box::new(|| assert_eq!(told.acquire(Timeout::Forever).unwrap().information().unwrap().len(), 100)),
        ),
        (
            "System V with SEM_UNDO",
            "",
            Box::new(|| {
                semop(set, -1);
                semop(set, 1);
            }),
        ),
    ];
    let mut times: Vec<Vec<f64>> = contestants.iter().map(|_| Vec::new()).collect();
    for _ in 0..BATCHES {
        for ((_, _, step), times) in contestants.iter().zip(&mut times) {
            let start = Instant::now();
            (0..PAIRS).for_each(|_| step());
            times.push(start.elapsed().as_nanos() as f64 / PAIRS as f64);
        }
    }
    remove(set);
    let at = |times: &[f64], part: f64| times[((times.len() - 1) as f64 * part) as usize];
    times.iter_mut().for_each(|times| times.sort_by(f64::total_cmp));
    let limit = at(&times[0], 0.5);
    println!("A free slot: medians of {BATCHES} batches of {PAIRS} pairs, all in turn on one processor\n");
    println!(
        "| taken and released | ns: p50 | p99 | to the bare exchange | to reach |\n| --- | --: | --: | --: | --: |"
    );
    for ((name, target, _), times) in contestants.iter().zip(&times) {
        println!(
            "| {name} | {:.1} | {:.1} | **{:.2}** | {target} |",
            at(times, 0.5),
            at(times, 0.99),
            at(times, 0.5) / limit
        );
    }
    println!("\nSEM_UNDO to a lease: {:.1} times (to reach: 20)\n", at(&times[6], 0.5) / at(&times[1], 0.5));
}

fn bucket(nanos: u64) -> usize {
    if nanos == 0 { 0 } else { ((nanos as f64).log2() * 8.0) as usize }.min(511)
}

/// 8 processes take, hold and release for a while; `step` does all three and gives when it began, had a slot, and was done.
fn contended(name: &str, hold: &str, step: impl Fn() -> (Instant, Instant, Instant)) {
    let told: &Told = shared();
    let children: Vec<_> = (0..PROCESSES)
        .map(|number| {
            // SAFETY: the child works on shared mappings and leaves by _exit.
            let pid = unsafe { libc::fork() };
            if pid != 0 {
                return pid;
            }
            while told.begin.load(Ordering::Acquire) == 0 {
                std::hint::spin_loop();
            }
            let ends = Instant::now() + RUN;
            loop {
                let (asked, had, done) = step();
                if done >= ends {
                    break;
                }
                told.held.fetch_add((done - had).as_nanos() as u64, Ordering::Relaxed);
                told.leases[number].fetch_add(1, Ordering::Relaxed);
                told.waits[bucket((had - asked).as_nanos() as u64)].fetch_add(1, Ordering::Relaxed);
            }
            // SAFETY: ends the child without anything of the parent's.
            unsafe { libc::_exit(0) }
        })
        .collect();
    std::thread::sleep(Duration::from_millis(50));
    told.begin.store(1, Ordering::Release);
    for pid in children {
        let mut status = 0;
        // SAFETY: status is a live local.
        assert!(unsafe { libc::waitpid(pid, &mut status, 0) } == pid && status == 0);
    }
    let waits: Vec<u64> = told.waits.iter().map(|count| count.load(Ordering::Relaxed)).collect();
    let total: u64 = waits.iter().sum();
    let quantile = |part: f64| {
        let mut left = (total as f64 * part) as u64;
        let found = waits.iter().position(|count| {
            let here = left < *count;
            left = left.saturating_sub(*count);
            here
        });
        2f64.powf((found.unwrap_or(0) as f64 + 1.0) / 8.0) / 1000.0
    };
    let each: Vec<u64> = told.leases.iter().map(|count| count.load(Ordering::Relaxed)).collect();
    let in_use = told.held.load(Ordering::Relaxed) as f64 / (RUN.as_nanos() as f64 * f64::from(SLOTS));
    println!(
        "| {name} | {hold} | {:.0} | {in_use:.3} | {:.1} | {:.1} | {:.1} | {:.2} |",
        total as f64 / RUN.as_secs_f64(),
        quantile(0.5),
        quantile(0.99),
        quantile(0.999),
        *each.iter().min().unwrap() as f64 / *each.iter().max().unwrap() as f64
    );
}

fn main() {
    let processors = sched_getaffinity(Pid::from_raw(0)).unwrap();
    on_one_processor();
    free();
    sched_setaffinity(Pid::from_raw(0), &processors).unwrap();

    let sleep = || std::thread::sleep(HOLD);
    let compute = || {
        let until = Instant::now() + Duration::from_micros(2);
        while Instant::now() < until {
            std::hint::spin_loop();
        }
    };
    println!(
        "{PROCESSES} processes on {SLOTS} slots for {RUN:?} each; to reach, held asleep: in use ≥ 0.97, p99.9 ≤ 1000 µs\n"
    );
    println!("| pool | held | leases/s | slots in use | µs to take: p50 | p99 | p99.9 | slowest/fastest process |");
    println!("| --- | --- | --: | --: | --: | --: | --: | --: |");
    for (hold, holding) in [("asleep for 0.1 ms and a wake-up", &sleep as &dyn Fn()), ("2 µs of computing", &compute)]
    {
        for (name, fair) in [("lease", false), ("lease, fair", true)] {
            let made = LeasePool::anonymous(LeaseOptions { slots: SLOTS, fair, ..Default::default() }).unwrap();
            let of_process = std::cell::OnceCell::new();
            contended(name, hold, || {
                // Each process its own handle, as those of strangers.
                let pool: &LeasePool = of_process.get_or_init(|| {
                    LeasePool::from_fd(made.as_fd().try_clone_to_owned().unwrap(), LeaseOptions::default()).unwrap()
                });
                let asked = Instant::now();
                let lease = pool.acquire(Timeout::Forever).unwrap();
                let had = Instant::now();
                holding();
                let done = Instant::now();
                drop(lease);
                (asked, had, done)
            });
        }
        let set = semaphore(SLOTS as i32);
        contended("System V with SEM_UNDO", hold, || {
            let asked = Instant::now();
            semop(set, -1);
            let had = Instant::now();
            holding();
            let done = Instant::now();
            semop(set, 1);
            (asked, had, done)
        });
        remove(set);
    }
}
