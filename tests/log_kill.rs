//! Those who log and those who write are killed at any moment: what was logged is in the file once, whole, and in order.

mod support;

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use support::{GENEROUS, eventually, fork};
use wigwag::{Address, Log, LogOptions, LogThrough, LogWriter, Timeout};

const THROUGH: [LogThrough; 3] = [LogThrough::Ring, LogThrough::Mq, LogThrough::SysvMq];

struct Place {
    directory: tempfile::TempDir,
    through: LogThrough,
}

impl Place {
    fn new(through: LogThrough) -> Place {
        Place { directory: tempfile::tempdir().unwrap(), through }
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("the.log")
    }

    fn address(&self) -> Address {
        format!("log:{}", self.directory.path().join("shared").display()).parse().unwrap()
    }

    fn open(&self, options: LogOptions) -> Log {
        Log::open(&self.address(), LogOptions { file: self.file(), through: self.through, ..options }).unwrap()
    }

    /// Everything that was logged, the oldest file first.
    fn text(&self) -> String {
        let mut files: Vec<_> = fs::read_dir(self.directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter_map(|path| {
                let number = path.file_name()?.to_str()?.strip_prefix("the.log")?;
                Some((number.trim_start_matches('.').parse().unwrap_or(0u32), path))
            })
            .collect();
        files.sort();
        files.iter().rev().map(|(_, path)| fs::read_to_string(path).unwrap()).collect()
    }

    /// Checks that each producer's records are there from 0 on, once and in order; how many of each.
    fn check(&self) -> HashMap<u32, u32> {
        let text = self.text();
        assert!(text.is_empty() || text.ends_with('\n'), "torn");
        let mut next = HashMap::new();
        for line in text.lines() {
            let message = line.split_once(": ").unwrap_or_else(|| panic!("torn: {line:?}")).1;
            let (producer, n) = message.split_once(' ').unwrap_or_else(|| panic!("torn: {line:?}"));
            let expected = next.entry(producer.parse().unwrap()).or_insert(0);
            assert_eq!(n.parse(), Ok(*expected), "of producer {producer}: {line}");
            *expected += 1;
        }
        next
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            Log::remove(&self.address()).unwrap(); // a queue does not go with the directory
        }
    }
}

/// Numbers that look random, the same in each run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % most
    }
}

/// So many records of so many producers, while one writer after the other is killed.
fn writers_killed(options: LogOptions, producers: u32, records: u32) {
    let place = Place::new(options.through);
    let made = place.open(LogOptions { writer: LogWriter::Never, ..options.clone() });
    let log = || place.open(LogOptions { writer: LogWriter::Never, ..options.clone() });
    let producers: Vec<_> = (0..producers)
        .map(|producer| {
            fork(|| {
                let log = log();
                for n in 0..records {
                    log.info(&format!("{producer} {n}")).unwrap();
                }
            })
        })
        .collect();
    let count = producers.len();
    let mut dice = Dice(1);
    let mut killed = 0;
    let mut writer = None;
    while made.statistics().unwrap().written < u64::from(records) * count as u64 {
        // The next is there before the last has gone, so that it waits for the lock.
        let next = fork(|| {
            let _ = log().serve(Timeout::Forever);
        });
        if let Some(last) = writer.replace(next) {
            std::thread::sleep(Duration::from_micros(500 + dice.roll(15_000)));
            let last: support::Child = last;
            last.kill(libc::SIGKILL);
            last.wait();
            killed += 1;
        }
    }
    producers.into_iter().for_each(|producer| producer.join());
    made.drain(GENEROUS).unwrap();
    drop(writer);
    made.drain(GENEROUS).unwrap();
    let found = place.check();
    assert_eq!(found.values().copied().collect::<Vec<_>>(), vec![records; count]);
    let statistics = made.statistics().unwrap();
    assert_eq!((statistics.written, statistics.queued, statistics.dropped), (u64::from(records) * count as u64, 0, 0));
    println!("{killed} writers killed, {} taken over from", statistics.taken_over);
}

#[test]
fn writers_are_killed_at_random() {
    writers_killed(LogOptions { capacity: 128 << 10, largest: 1000, ..Default::default() }, 2, 20_000);
}

#[test]
fn writers_are_killed_while_files_rotate() {
    let options =
        LogOptions { capacity: 128 << 10, largest: 1000, rotate_size: 20_000, keep: 1000, ..Default::default() };
    writers_killed(options, 2, 10_000);
}

#[test]
fn writers_behind_a_queue_are_killed_at_random() {
    for through in [LogThrough::Mq, LogThrough::SysvMq] {
        writers_killed(LogOptions { through, largest: 1000, ..Default::default() }, 2, 10_000);
        let rotating = LogOptions { through, rotate_size: 20_000, keep: 1000, ..Default::default() };
        writers_killed(rotating, 2, 5_000);
    }
}

#[test]
fn producers_are_killed_at_random() {
    for through in THROUGH {
        producers_killed(through);
    }
}

fn producers_killed(through: LogThrough) {
    let place = Place::new(through);
    let log = place.open(LogOptions::default());
    let mut dice = Dice(2);
    let acknowledged: Vec<u32> = (0..60)
        .map(|producer| {
            let page = nix::sys::mman::ProtFlags::PROT_READ | nix::sys::mman::ProtFlags::PROT_WRITE;
            let flags = nix::sys::mman::MapFlags::MAP_SHARED;
            let size = 4096.try_into().unwrap();
            // SAFETY: a new mapping of zeros, left to the end of the process, reached through an atomic.
            let returned: &std::sync::atomic::AtomicU32 =
                unsafe { nix::sys::mman::mmap_anonymous(None, size, page, flags).unwrap().cast().as_ref() };
            let child = fork(|| {
                for n in 0..u32::MAX {
                    log.info(&format!("{producer} {n}")).unwrap();
                    returned.store(n + 1, std::sync::atomic::Ordering::SeqCst);
                }
            });
            eventually("it logs", || returned.load(std::sync::atomic::Ordering::SeqCst) > 0);
            std::thread::sleep(Duration::from_micros(dice.roll(1000)));
            child.kill(libc::SIGKILL);
            child.wait();
            returned.load(std::sync::atomic::Ordering::SeqCst)
        })
        .collect();
    log.drain(GENEROUS).unwrap();
    let found = place.check();
    for (producer, acknowledged) in acknowledged.into_iter().enumerate() {
        let there = found[&(producer as u32)];
        // One may be whole whose producer was killed just before it was told.
        assert!((acknowledged..=acknowledged + 1).contains(&there), "{producer}: {there} of {acknowledged}");
    }
}

/// All of them at once, again and again; whoever comes next goes on.
#[test]
fn everybody_is_killed_and_the_next_goes_on() {
    for through in THROUGH {
        everybody_killed(through, 20);
    }
}

fn everybody_killed(through: LogThrough, rounds: u32) {
    let place = Place::new(through);
    let mut dice = Dice(3);
    let mut acknowledged = Vec::new();
    for round in 0..rounds {
        let child = fork(|| {
            let log = place.open(LogOptions::default());
            for n in 0..2000 {
                log.info(&format!("{round} {n}")).unwrap();
            }
            fs::write(place.directory.path().join(format!("done-{round}")), "").unwrap();
            std::thread::sleep(Duration::from_secs(60));
        });
        let done = place.directory.path().join(format!("done-{round}"));
        eventually("all is logged", || done.exists());
        std::thread::sleep(Duration::from_micros(dice.roll(3000)));
        child.kill(libc::SIGKILL);
        child.wait();
        acknowledged.push(2000);
    }
    let log = place.open(LogOptions { writer: LogWriter::Never, ..Default::default() });
    log.drain(GENEROUS).unwrap();
    let found = place.check();
    assert_eq!((0..rounds).map(|round| found[&round]).collect::<Vec<_>>(), acknowledged);
}
