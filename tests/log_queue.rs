//! Logs whose records travel through a message queue of the kernel's.

mod support;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;
use support::{GENEROUS, eventually, fork};
use wigwag::{
    Address, Log, LogFull, LogOptions, LogRecord, LogThrough, LogWriter, Mq, SysvMq, SysvMqOptions, SysvSelect, Timeout,
};

const QUEUES: [&str; 2] = ["mq", "sysv-mq"];

/// A directory with a log in it, removed with all that is in it, and the queue too.
struct Place {
    directory: tempfile::TempDir,
    through: &'static str,
}

impl Place {
    fn new(through: &'static str) -> Place {
        Place { directory: tempfile::tempdir().unwrap(), through }
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("the.log")
    }

    fn address(&self) -> Address {
        let shared = self.directory.path().join("shared");
        format!("log:{}?through={}", shared.display(), self.through).parse().unwrap()
    }

    fn open(&self, options: LogOptions) -> Log {
        Log::open(&self.address(), LogOptions { file: self.file(), ..options }).unwrap()
    }

    fn messages(&self) -> Vec<String> {
        let text = fs::read_to_string(self.file()).unwrap_or_default();
        assert!(text.is_empty() || text.ends_with('\n'), "torn: {text:?}");
        text.lines().map(|line| line.split_once(": ").unwrap_or_else(|| panic!("torn: {line:?}")).1.into()).collect()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Ok(log) = Log::open(&self.address(), silent()) {
            log.drain(GENEROUS).unwrap();
            Log::remove(&self.address()).unwrap();
        }
    }
}

fn numbers(from: u32, to: u32) -> Vec<String> {
    (from..to).map(|n| format!("record {n}")).collect()
}

fn silent() -> LogOptions {
    LogOptions { writer: LogWriter::Never, ..Default::default() }
}

#[test]
fn all_processes_log_into_one_file_through_a_queue() {
    for through in QUEUES {
        let place = Place::new(through);
        let log = place.open(LogOptions::default());
        // A child that writes would be found dead only after a while.
        eventually("this process writes", || log.statistics().unwrap().writer == Some(std::process::id()));
        let children: Vec<_> = (0..4)
            .map(|child| {
                fork(|| {
                    for n in 0..300 {
                        log.info(&format!("{child} {n}")).unwrap(); // a child takes part as itself
                    }
                })
            })
            .collect();
        children.into_iter().for_each(|child| child.join());
        log.drain(GENEROUS).unwrap();
        let mut next = [0; 4];
        for message in place.messages() {
            let (child, n) = message.split_once(' ').unwrap();
            let next = &mut next[child.parse::<usize>().unwrap()];
            assert_eq!(n.parse(), Ok(*next));
            *next += 1;
        }
        assert_eq!(next, [300; 4], "{through}");
        let seen = log.statistics().unwrap();
        assert_eq!((seen.written, seen.queued, seen.dropped, seen.damaged), (1200, 0, 0, 0));
    }
}

#[test]
fn what_the_last_process_left_is_in_the_kernel_and_written_by_the_next() {
    for through in QUEUES {
        let place = Place::new(through);
        fork(|| {
            let log = place.open(silent());
            for message in numbers(0, 8) {
                log.info(&message).unwrap();
            }
        })
        .join();
        assert!(Log::remove(&place.address()).unwrap_err().is(Errno::EBUSY));
        assert_eq!(place.open(silent()).statistics().unwrap().queued, 8);
        let log = Log::open(&place.address(), LogOptions::default()).unwrap();
        log.drain(GENEROUS).unwrap();
        assert_eq!(place.messages(), numbers(0, 8), "{through}");
    }
}

#[test]
fn without_room_records_are_dropped_and_the_file_says_so_where_it_happened() {
    for through in QUEUES {
        let place = Place::new(through);
        let log = place.open(LogOptions { full: LogFull::Drop, ..silent() });
        let mut sent = 0;
        while log.info(&format!("record {sent}")).is_ok() {
            sent += 1;
        }
        assert!(log.info("dropped").unwrap_err().is(Errno::EAGAIN));
        let patient = place.open(LogOptions { timeout: Some(Duration::from_millis(10)), ..silent() });
        assert!(patient.info("dropped").unwrap_err().is(Errno::ETIMEDOUT));
        assert_eq!(log.statistics().unwrap().dropped, 3);
        log.drain(GENEROUS).unwrap();
        log.info(&format!("record {sent}")).unwrap();
        log.drain(GENEROUS).unwrap();
        let mut expected = numbers(0, sent);
        expected.push("records were dropped, as there was no room for them dropped=3".into());
        expected.extend(numbers(sent, sent + 1));
        assert_eq!(place.messages(), expected, "{through}");
    }
}

#[test]
fn whoever_waits_for_room_goes_on_when_there_is_some() {
    for through in QUEUES {
        let place = Place::new(through);
        let log = place.open(silent());
        let producer = fork(|| numbers(0, 400).iter().for_each(|message| log.info(message).unwrap()));
        eventually("it waits", || log.statistics().unwrap().queued >= 10);
        let writer = place.open(LogOptions::default());
        producer.join();
        writer.drain(GENEROUS).unwrap();
        assert_eq!(place.messages(), numbers(0, 400), "{through}");
    }
}

#[test]
fn a_writer_that_sleeps_is_woken() {
    for through in QUEUES {
        let place = Place::new(through);
        let log = place.open(silent());
        let writer = fork(|| {
            let _ = place.open(silent()).serve(Timeout::Forever);
        });
        for n in 0..5 {
            std::thread::sleep(Duration::from_millis(30)); // by now it sleeps; if not, nothing is tried, and nothing fails
            log.info(&format!("record {n}")).unwrap();
            eventually("it is written", || log.statistics().unwrap().written == n + 1);
        }
        writer.kill(libc::SIGKILL);
        writer.wait();
        assert_eq!(place.messages(), numbers(0, 5), "{through}");
    }
}

#[test]
fn what_is_too_long_is_cut_and_counted() {
    for through in QUEUES {
        let place = Place::new(through);
        let log = place.open(LogOptions { largest: 6000, ..Default::default() });
        log.log(&LogRecord { message: &"x".repeat(10_000), ..Default::default() }).unwrap();
        log.drain(GENEROUS).unwrap();
        let message = place.messages().remove(0);
        let kept = message.bytes().filter(|byte| *byte == b'x').count();
        assert!(kept > 5000 && message.contains(&format!("{}", 10_000 - kept)), "{message}");
        assert_eq!(log.statistics().unwrap().cut, 1);
    }
}

/// The queue of a log, as the kernel lists it.
fn queue_of(place: &Place) -> Address {
    let name = place.directory.path().join("shared");
    let parts = fs::read_dir(name.parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name());
    let mut parts = parts.map(|name| name.into_string().unwrap());
    let id = parts.find_map(|name| Some(name.strip_prefix("shared.")?.strip_suffix(".mutex")?.to_owned())).unwrap();
    if place.through == "mq" {
        return format!("mq:/shared.{id}.log").parse().unwrap();
    }
    let id = u64::from_str_radix(&id, 16).unwrap();
    format!("sysv-mq:0x{:x}", (id ^ id >> 32) as u32).parse().unwrap()
}

#[test]
fn messages_that_are_no_records_are_counted() {
    for through in QUEUES {
        let place = Place::new(through);
        let log = place.open(silent());
        let queue = queue_of(&place);
        // Empty, short, with a length that is none, and one of a log's size that is not this log's.
        for foreign in [&b""[..], b"no record", &[0xff; 64], &[0; 64]] {
            log.info("whole").unwrap();
            if through == "mq" {
                Mq::open(&queue, &Default::default()).unwrap().send(foreign, 0, GENEROUS).unwrap();
            } else {
                SysvMq::open(&queue, &Default::default()).unwrap().send(foreign, 1, GENEROUS).unwrap();
            }
        }
        log.drain(GENEROUS).unwrap();
        assert_eq!(place.messages(), vec!["whole"; 4], "{through}");
        let seen = log.statistics().unwrap();
        assert_eq!((seen.damaged, seen.written, seen.queued), (4, 4, 0));
    }
}

#[test]
fn a_message_that_was_taken_by_another_program_is_not_waited_for() {
    let place = Place::new("sysv-mq");
    let log = place.open(silent());
    numbers(0, 3).iter().for_each(|message| log.info(message).unwrap());
    let queue = SysvMq::open(&queue_of(&place), &SysvMqOptions::default()).unwrap();
    queue.recv(SysvSelect::Any, GENEROUS).unwrap();
    log.drain(GENEROUS).unwrap();
    assert_eq!(place.messages(), numbers(1, 3));
}

#[test]
fn a_log_is_opened_as_it_is() {
    let place = Place::new("mq");
    let log = place.open(silent());
    let other = format!("log:{}?through=ring", place.directory.path().join("shared").display());
    let error = Log::open(&other.parse().unwrap(), silent()).unwrap_err();
    assert!(error.is(Errno::EINVAL) && error.to_string().contains("through=Mq, and not through=Ring"), "{error}");
    let same = Address::parse(other.replace("?through=ring", "")).unwrap();
    let also = Log::open(&same, silent()).unwrap();
    also.info("both").unwrap();
    log.drain(GENEROUS).unwrap();
    assert_eq!(place.messages(), ["both"]);
    drop((log, also));
    let queue = queue_of(&place);
    Log::remove(&place.address()).unwrap();
    assert!(Mq::open(&queue, &Default::default()).unwrap_err().is(Errno::ENOENT), "the queue goes with its log");
}

#[test]
fn records_for_which_the_queue_is_too_small_are_refused() {
    let place = Place::new("sysv-mq");
    let largest = SysvMq::limits().unwrap().message_max as u64 + 1;
    if largest > 1 << 20 {
        return; // this system's messages can be larger than records
    }
    let options = LogOptions { file: place.file(), largest, ..silent() };
    let error = Log::open(&place.address(), options).unwrap_err();
    assert!(error.is(Errno::EINVAL) && error.to_string().contains("smaller largest"), "{error}");
}

#[test]
fn a_queue_has_as_much_room_as_was_asked_for() {
    for through in [LogThrough::Mq, LogThrough::SysvMq] {
        let place = Place::new(if through == LogThrough::Mq { "mq" } else { "sysv-mq" });
        let log = place.open(LogOptions { through, capacity: 3000, largest: 1000, full: LogFull::Drop, ..silent() });
        let record = "x".repeat(900);
        let sent = (0..100).take_while(|_| log.info(&record).is_ok()).count();
        assert!((2..=3).contains(&sent), "{sent}");
    }
}
