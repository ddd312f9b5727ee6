//! Pools of processes: each task has one verdict, which is right, whichever workers are killed; and they end with their parent.

use std::collections::HashSet;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use wigwag::{Handler, Pool, PoolOptions, PoolTask, TaskOptions, Verdict};

use crate::crew::{Dice, shared, time_to_soak};
use crate::support::{GENEROUS, eventually, fork, fresh};
use crate::tokens::is_alive;

const WORKERS: usize = 3;
/// Tasks on their way at once.
const AHEAD: usize = 30;

fn start(address: &str) -> Pool {
    let options =
        PoolOptions { workers: WORKERS as u32, address: Some(address.parse().unwrap()), ..Default::default() };
    let twice = Handler::new("twice", |number: &[u8]| {
        let number = u64::from_le_bytes(number.try_into().map_err(|_| "no number")?);
        if number.is_multiple_of(5) {
            std::thread::sleep(Duration::from_micros(number % 300));
        }
        Ok((number * 2).to_le_bytes().to_vec())
    });
    Pool::start(options, vec![twice]).unwrap()
}

fn submit(pool: &Pool, number: u64) -> PoolTask {
    pool.submit("twice", &number.to_le_bytes(), TaskOptions::default(), GENEROUS).unwrap()
}

fn workers_are_killed(address: &str) {
    let mut dice = Dice::new(address);
    let pool = start(address);
    let (mut killed, mut lost, mut done) = (HashSet::new(), 0, 0);
    let mut settle = |number: u64, task: PoolTask, killed: &HashSet<i32>| match task.wait(GENEROUS).unwrap() {
        Verdict::Done(result) => {
            assert_eq!(result, (number * 2).to_le_bytes(), "somebody else's");
            done += 1;
        }
        Verdict::Lost(death) => {
            assert_eq!((death.signal, death.task), (Some(libc::SIGKILL), task.number()));
            assert!(killed.contains(&death.pid), "{death}");
            lost += 1;
        }
        other => panic!("{number}: {other}"),
    };
    let mut tasks = std::collections::VecDeque::new();
    let (begun, long) = (Instant::now(), time_to_soak());
    let mut next = 0;
    while begun.elapsed() < long {
        while tasks.len() < AHEAD {
            tasks.push_back((next, submit(&pool, next)));
            next += 1;
        }
        if dice.roll(20) == 0 {
            let workers = pool.statistics().workers;
            if let Some(worker) = workers.get(dice.roll(WORKERS as u64) as usize)
                && killed.insert(worker.pid)
            {
                // SAFETY: a plain system call; a worker, or one that the pool has just found dead.
                unsafe { libc::kill(worker.pid, libc::SIGKILL) };
            }
        }
        let (number, task) = tasks.pop_front().unwrap();
        settle(number, task, &killed);
    }
    for (number, task) in tasks {
        settle(number, task, &killed);
    }
    pool.shutdown(false, GENEROUS).unwrap();
    let books = pool.statistics();
    println!("{address}: {} killed, {done} done, {lost} lost", killed.len());
    assert_eq!((books.submitted, books.done, books.lost), (next, done, lost));
    assert_eq!((books.failed, books.cancelled, books.poisoned, books.queued, books.running), (0, 0, 0, 0, 0));
    assert!(lost <= killed.len() as u64 && books.deaths <= killed.len() as u64);
    assert!(done > 0 && books.workers.is_empty());
}

#[test]
fn pools() {
    workers_are_killed("pipe:");
}

#[test]
fn pools_over_a_posix_queue() {
    let name = fresh("soak");
    workers_are_killed(&format!("mq:/{name}?depth=8&size=512"));
    for part in ["results", "0", "1", "2"] {
        let queue = format!("mq:/{name}-{part}").parse().unwrap();
        assert_eq!(wigwag::Mq::remove(&queue).unwrap_err().errno(), libc::ENOENT, "{part} was left");
    }
}

#[test]
fn pools_over_system_v_queues() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = std::ffi::CString::new(file.path().as_os_str().as_encoded_bytes()).unwrap();
    // SAFETY: the path is live.
    let keys: HashSet<i32> = (1..=255).map(|id| unsafe { libc::ftok(path.as_ptr(), id) }).collect();
    let left = || {
        let queues = std::fs::read_to_string("/proc/sysvipc/msg").unwrap();
        let key = |queue: &str| queue.split_whitespace().next().and_then(|key| key.parse().ok());
        queues.lines().filter(|queue| key(queue).is_some_and(|key| keys.contains(&key))).count()
    };
    let other = format!("sysv-mq:{}#255", file.path().display()).parse().unwrap();
    wigwag::SysvMq::create(&other, &Default::default()).unwrap();
    workers_are_killed(&format!("sysv-mq:{}#1", file.path().display()));
    assert_eq!(left(), 1);
    wigwag::SysvMq::remove(&other).unwrap();
    assert_eq!(left(), 0);
}

#[test]
fn pools_over_a_ring() {
    let directory = tempfile::tempdir().unwrap();
    workers_are_killed(&format!("ring:{}?largest=4096", directory.path().join("pool").display()));
    assert_eq!(directory.path().read_dir().unwrap().count(), 0, "a ring was left");
}

#[test]
fn parents() {
    let mut dice = Dice::new("parents");
    // SAFETY: atomics.
    let (pids, done): (&'static [AtomicI32; WORKERS], &'static AtomicU64) = unsafe { (shared(), shared()) };
    let (begun, long) = (Instant::now(), time_to_soak());
    let mut kills = 0;
    while begun.elapsed() < long {
        pids.iter().for_each(|pid| pid.store(0, Ordering::SeqCst));
        done.store(0, Ordering::SeqCst);
        let parent = fork(|| {
            let pool = start("pipe:");
            let mut number = 0;
            loop {
                let tasks = [(); AHEAD].map(|()| {
                    number += 1;
                    submit(&pool, number)
                });
                for task in tasks {
                    assert!(matches!(task.wait(GENEROUS).unwrap(), Verdict::Done(_)));
                    done.fetch_add(1, Ordering::SeqCst);
                }
                for (pid, worker) in pids.iter().zip(pool.statistics().workers) {
                    pid.store(worker.pid, Ordering::SeqCst);
                }
            }
        });
        eventually("its workers are known", || pids[0].load(Ordering::SeqCst) != 0);
        std::thread::sleep(Duration::from_micros(dice.roll(10_000)));
        parent.kill(libc::SIGKILL);
        parent.wait();
        kills += 1;
        eventually("the workers end with it", || {
            pids.iter().all(|pid| !is_alive(pid.load(Ordering::SeqCst).cast_unsigned().into()))
        });
    }
    println!("{kills} parents killed");
    assert!(kills > 0);
}
