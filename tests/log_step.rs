//! Whoever writes a log is killed, or stopped for a while, at every point of it that changes what others see, and before and
//! after every system call; what was logged is in the file once, whole, and in order.
#![cfg(target_arch = "x86_64")]

mod stepping;
mod support;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use stepping::{End, Point, Victim, View, everywhere};
use support::GENEROUS;
use wigwag::{Address, Log, LogOptions, LogThrough, LogWriter, Timeout};

const BRIEF: Timeout = Timeout::After(Duration::from_millis(3));

struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        Place { directory: tempfile::tempdir().unwrap() }
    }

    fn address(&self) -> Address {
        format!("log:{}", self.directory.path().join("shared").display()).parse().unwrap()
    }

    fn open(&self, operation: &Operation) -> Log {
        let options = LogOptions {
            file: self.directory.path().join("log"),
            // A queue has as much as it has.
            capacity: if operation.through == LogThrough::Ring { 8192 } else { 0 },
            largest: 256,
            rotate_size: operation.rotate_size,
            participants: 8,
            through: operation.through,
            writer: LogWriter::Never,
            ..Default::default()
        };
        Log::open(&self.address(), options).unwrap()
    }

    /// The memory that the victim changes.
    fn view(&self, operation: &Operation) -> View {
        let mut files = fs::read_dir(self.directory.path()).unwrap().map(|entry| entry.unwrap().path());
        let is_it = |path: &PathBuf| path.to_str().is_some_and(|path| path.ends_with(operation.seen_in));
        let file = files.find(is_it).unwrap();
        View::new(fs::File::options().read(true).write(true).open(file).unwrap())
    }

    /// All that is in the file and in those that were set aside.
    fn numbers(&self) -> Vec<u32> {
        let numbered =
            |number| self.directory.path().join(if number == 0 { "log".into() } else { format!("log.{number}") });
        let text: String =
            (0..10).rev().map(|number| fs::read_to_string(numbered(number)).unwrap_or_default()).collect();
        assert!(text.ends_with('\n'), "torn: {text:?}");
        let number = |line: &str| line.split_once(": ").and_then(|(_, number)| number.parse().ok());
        text.lines().map(|line| number(line).unwrap_or_else(|| panic!("torn: {line:?}"))).collect()
    }
}

struct Operation {
    name: &'static str,
    seen_in: &'static str,
    rotate_size: u64,
    through: LogThrough,
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = Log::remove(&self.address()); // a queue does not go with the directory
    }
}

const RING: LogThrough = LogThrough::Ring;
const OPERATIONS: &[Operation] = &[
    Operation { name: "drain, seen in the log's segment", seen_in: "/shared", rotate_size: 0, through: RING },
    Operation { name: "drain, seen in the ring", seen_in: ".ring", rotate_size: 0, through: RING },
    Operation { name: "drain and rotate, seen in the segment", seen_in: "/shared", rotate_size: 100, through: RING },
    Operation { name: "drain a POSIX queue", seen_in: "/shared", rotate_size: 0, through: LogThrough::Mq },
    Operation { name: "drain a System V queue", seen_in: "/shared", rotate_size: 0, through: LogThrough::SysvMq },
];

const RECORDS: u32 = 3;

fn start(log: &Log) -> Victim {
    Victim::start(
        || {
            for n in 0..RECORDS {
                log.info(&n.to_string()).unwrap();
            }
            log.statistics().unwrap();
        },
        |()| log.drain(GENEROUS).unwrap(),
    )
}

/// One run: the victim comes to this point and gets no further; how long the others took, `None` if it did not.
fn run(operation: &Operation, point: Point, end: End) -> Option<Duration> {
    let place = Place::new();
    let log = place.open(operation);
    let mut victim = start(&log);
    if !victim.go_to(point, &mut place.view(operation)) {
        return None;
    }
    let mut logged = RECORDS;
    if end == End::Stopped {
        // Others log, and wait no longer than they said.
        log.info(&logged.to_string()).unwrap();
        logged += 1;
        if let Err(error) = log.drain(BRIEF) {
            assert!(error.is(Errno::ETIMEDOUT), "{error}");
        }
        victim.go_on();
    }
    drop(victim); // which kills it
    let begun = Instant::now();
    let fresh = place.open(operation); // a fresh handle asks at once who is alive
    fresh.drain(GENEROUS).unwrap();
    let held_up = begun.elapsed();
    assert_eq!(place.numbers(), (0..logged).collect::<Vec<_>>());
    log.info(&logged.to_string()).unwrap();
    log.drain(GENEROUS).unwrap();
    assert_eq!(place.numbers(), (0..=logged).collect::<Vec<_>>());
    let statistics = fresh.statistics().unwrap();
    assert_eq!((statistics.written, statistics.queued, statistics.dropped), (u64::from(logged) + 1, 0, 0));
    Some(held_up)
}

#[test]
fn killed_and_stopped_everywhere() {
    let points = |operation: &Operation| {
        let place = Place::new();
        let log = place.open(operation);
        start(&log).all_points(&mut place.view(operation))
    };
    everywhere(OPERATIONS, |operation| operation.name.into(), points, run);
}
