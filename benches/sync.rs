//! Locks and permits that nobody contends for, beside the least that a lock can do: one exchange to take it, one to release
//! it, and a look whether somebody waits. All in turn on one processor; medians over short batches.
//! `cargo bench --bench sync`

use std::hint::black_box;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};
use nix::unistd::Pid;
use wigwag::{Event, EventOptions, Mutex, MutexOptions, Permits, PermitsOptions, RwLock, RwLockOptions, Timeout};

const BATCHES: usize = 301;
const PAIRS: usize = 2000;

#[repr(C, align(128))]
struct Line(AtomicU32);

fn shared<T>() -> &'static T {
    let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    let size = size_of::<T>().max(4096).try_into().unwrap();
    // SAFETY: a new mapping of zeros that is never unmapped; each T is fine with zeros and shared by this thread alone.
    unsafe { mmap_anonymous(None, size, protection, MapFlags::MAP_SHARED).unwrap().cast().as_ref() }
}

/// Without an owner, without a death: the limit.
fn bare(lines: &[Line; 2]) {
    let (word, waiting) = (&lines[0].0, &lines[1].0);
    while word.compare_exchange_weak(0, 1, Ordering::Acquire, Ordering::Relaxed).is_err() {}
    word.fetch_and(!1, Ordering::SeqCst);
    assert_eq!(black_box(waiting.load(Ordering::SeqCst)), 0);
}

fn robust() -> *mut libc::pthread_mutex_t {
    let mutex: *const std::mem::MaybeUninit<libc::pthread_mutex_t> = shared();
    let mutex = mutex.cast_mut().cast::<libc::pthread_mutex_t>();
    // SAFETY: room for a mutex, which nobody uses before it is initialised.
    unsafe {
        let mut attributes = std::mem::zeroed();
        assert_eq!(libc::pthread_mutexattr_init(&mut attributes), 0);
        libc::pthread_mutexattr_setpshared(&mut attributes, libc::PTHREAD_PROCESS_SHARED);
        libc::pthread_mutexattr_setrobust(&mut attributes, libc::PTHREAD_MUTEX_ROBUST);
        assert_eq!(libc::pthread_mutex_init(mutex, &attributes), 0);
    }
    mutex
}

fn semop(id: i32, change: i16) {
    let mut operation = libc::sembuf { sem_num: 0, sem_op: change, sem_flg: libc::SEM_UNDO as i16 };
    // SAFETY: one operation on a set of this process.
    assert_eq!(unsafe { libc::semop(id, &mut operation, 1) }, 0);
}

fn main() {
    let mut set = CpuSet::new();
    set.set(0).unwrap();
    sched_setaffinity(Pid::from_raw(0), &set).unwrap();

    let lines: &[Line; 2] = shared();
    let mutex = Mutex::anonymous(MutexOptions::default()).unwrap();
    let lock = RwLock::anonymous(RwLockOptions::default()).unwrap();
    let permits = Permits::anonymous(PermitsOptions { count: 8, ..Default::default() }).unwrap();
    let fair = Permits::anonymous(PermitsOptions { count: 8, fair: true, ..Default::default() }).unwrap();
    let event = Event::anonymous(EventOptions { auto_reset: true, ..Default::default() }).unwrap();
    let robust = robust();
    // SAFETY: makes a set of one semaphore, which is removed below.
    let set = unsafe { libc::semget(libc::IPC_PRIVATE, 1, 0o600) };
    // SAFETY: a set of this process.
    assert_eq!(unsafe { libc::semctl(set, 0, libc::SETVAL, 8) }, 0);

    type Contestant<'a> = (&'a str, &'a str, Box<dyn Fn() + 'a>);
    let contestants: [Contestant<'_>; 9] = [
        ("bare exchange", "", Box::new(|| bare(lines))),
        ("mutex, guard", "≤ 1.3", Box::new(|| drop(mutex.lock(Timeout::Forever).unwrap()))),
        (
            "mutex, take and release",
            "≤ 1.3",
            Box::new(|| {
                assert!(!mutex.take(Timeout::Forever).unwrap());
                mutex.release().unwrap();
            }),
        ),
        ("permits, guard", "≤ 1.5", Box::new(|| drop(permits.acquire(1, Timeout::Forever).unwrap()))),
        ("permits, fair, guard", "", Box::new(|| drop(fair.acquire(1, Timeout::Forever).unwrap()))),
        ("read-write lock, reading", "", Box::new(|| drop(lock.read(Timeout::Forever).unwrap()))),
        (
            "event, set and wait",
            "",
            Box::new(|| {
                assert!(event.set().unwrap());
                event.wait(Timeout::Forever).unwrap();
            }),
        ),
        (
            "robust pthread mutex",
            "",
            // SAFETY: initialised above, and used by this thread only.
            Box::new(|| unsafe {
                assert_eq!(libc::pthread_mutex_lock(robust), 0);
                libc::pthread_mutex_unlock(robust);
            }),
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
    // SAFETY: the set made above.
    unsafe { libc::semctl(set, 0, libc::IPC_RMID) };
    let at = |times: &[f64], part: f64| times[((times.len() - 1) as f64 * part) as usize];
    times.iter_mut().for_each(|times| times.sort_by(f64::total_cmp));
    let limit = at(&times[0], 0.5);
    println!("medians of {BATCHES} batches of {PAIRS} pairs, all in turn on one processor\n");
    println!(
        "| taken and released | ns: p50 | p99 | to the bare exchange | to reach |\n| --- | --: | --: | --: | --: |"
    );
    for ((name, target, _), times) in contestants.iter().zip(&times) {
        let (median, slow) = (at(times, 0.5), at(times, 0.99));
        println!("| {name} | {median:.1} | {slow:.1} | **{:.2}** | {target} |", median / limit);
    }
}
