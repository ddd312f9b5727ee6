//! Logs of several processes in one file.

mod support;

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use support::{GENEROUS, SHORT, eventually, fork};
use wigwag::{
    Address, Cancel, Log, LogFormat, LogFull, LogLevel, LogOptions, LogOrigin, LogRecord, LogSync, LogValue, LogWriter,
    Ring, RingOptions, Timeout,
};

/// A directory with a log in it, removed with all that is in it.
struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        Place { directory: tempfile::tempdir().unwrap() }
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("the.log")
    }

    fn address(&self) -> Address {
        format!("log:{}", self.directory.path().join("shared").display()).parse().unwrap()
    }

    fn options(&self) -> LogOptions {
        LogOptions { file: self.file(), ..Default::default() }
    }

    fn open(&self) -> Log {
        Log::open(&self.address(), self.options()).unwrap()
    }

    fn text(&self) -> String {
        fs::read_to_string(self.file()).unwrap_or_default()
    }

    /// What records say, without what comes before.
    fn messages(&self) -> Vec<String> {
        messages(&self.text())
    }
}

fn messages(text: &str) -> Vec<String> {
    assert!(text.is_empty() || text.ends_with('\n'), "torn: {text:?}");
    text.lines().map(|line| line.split_once(": ").unwrap_or_else(|| panic!("torn: {line:?}")).1.to_owned()).collect()
}

fn numbers(from: u32, to: u32) -> Vec<String> {
    (from..to).map(|n| format!("record {n}")).collect()
}

fn log_numbers(log: &Log, from: u32, to: u32) {
    for n in from..to {
        log.info(&format!("record {n}")).unwrap();
    }
}

#[test]
fn what_is_logged_is_in_the_file_in_order() {
    let place = Place::new();
    let log = place.open();
    log_numbers(&log, 0, 5000);
    log.drain(GENEROUS).unwrap();
    assert_eq!(place.messages(), numbers(0, 5000));
    let statistics = log.statistics().unwrap();
    assert_eq!((statistics.written, statistics.queued, statistics.dropped), (5000, 0, 0));
    assert_eq!(statistics.bytes, place.text().len() as u64);
    assert_eq!(log.file(), place.file());
}

#[test]
fn a_record_has_all_that_was_given() {
    let place = Place::new();
    let log = Log::open(&place.address(), LogOptions { format: LogFormat::Json, ..place.options() }).unwrap();
    let fields = [("who", LogValue::Text("you")), ("n", LogValue::Signed(-3)), ("share", LogValue::Float(0.5))];
    let record = LogRecord {
        level: LogLevel::Error,
        target: "net::tcp",
        file: "src/a.rs",
        line: 7,
        message: "lost \"it\"\n",
        fields: &fields,
    };
    let before = std::time::SystemTime::now();
    log.log(&record).unwrap();
    log.drain(GENEROUS).unwrap();
    let value: serde_json::Value = serde_json::from_str(&place.text()).unwrap();
    assert_eq!(value["message"], "lost \"it\"\n");
    assert_eq!((value["level"].as_str(), value["target"].as_str()), (Some("error"), Some("net::tcp")));
    assert_eq!((value["file"].as_str(), value["line"].as_u64()), (Some("src/a.rs"), Some(7)));
    assert_eq!(value["pid"].as_u64(), Some(std::process::id().into()));
    assert_eq!(value["tid"].as_u64(), Some(nix::unistd::gettid().as_raw() as u64));
    assert_eq!(value["fields"], serde_json::json!({"who": "you", "n": -3, "share": 0.5}));
    let time = humantime::parse_rfc3339(value["time"].as_str().unwrap()).unwrap();
    assert!(time >= before && time <= std::time::SystemTime::now());
}

#[test]
fn the_level_is_changed_for_all_at_once() {
    let place = Place::new();
    let (log, other) = (place.open(), place.open());
    let at = |level, message| LogRecord { level, message, ..Default::default() };
    assert_eq!(log.level(), LogLevel::Info);
    log.log(&at(LogLevel::Debug, "not yet")).unwrap();
    other.set_level(LogLevel::Debug);
    assert!(log.is_enabled(LogLevel::Debug) && !log.is_enabled(LogLevel::Trace));
    log.log(&at(LogLevel::Debug, "now")).unwrap();
    other.set_level(LogLevel::Off);
    log.log(&at(LogLevel::Fatal, "not any more")).unwrap();
    log.log_anyway(&at(LogLevel::Trace, "in any case"), &LogOrigin { time: 1, pid: 2, tid: 3 }).unwrap();
    log.drain(GENEROUS).unwrap();
    assert_eq!(place.messages(), ["now", "in any case"]);
    assert!(place.text().lines().last().unwrap().starts_with("1970-01-01T00:00:00.000000001Z TRACE 2/3: "));
}

#[test]
fn many_processes_share_one_file() {
    let place = Place::new();
    let log = place.open();
    let children: Vec<_> = (0..4)
        .map(|child| {
            fork(|| {
                // Half of them by the inherited handle, half by one of their own.
                let own = (child % 2 == 0).then(|| place.open());
                let log = own.as_ref().unwrap_or(&log);
                for n in 0..500 {
                    log.info(&format!("{child} {n}")).unwrap();
                }
            })
        })
        .collect();
    children.into_iter().for_each(|child| child.join());
    log.drain(GENEROUS).unwrap();
    let mut next = HashMap::new();
    for message in place.messages() {
        let (child, n) = message.split_once(' ').unwrap();
        let expected = next.entry(child.to_owned()).or_insert(0);
        assert_eq!(n.parse::<u32>().unwrap(), *expected, "of child {child}");
        *expected += 1;
    }
    assert_eq!(next.values().collect::<Vec<_>>(), [&500; 4]);
}

#[test]
fn what_the_last_process_left_is_written_by_the_next() {
    let place = Place::new();
    fork(|| {
        let log = Log::open(&place.address(), LogOptions { writer: LogWriter::Never, ..place.options() }).unwrap();
        log_numbers(&log, 0, 100);
        std::mem::forget(log);
    })
    .join();
    assert_eq!(place.text(), "");
    // Whoever opens it names no file: the log knows its own.
    let log = Log::open(&place.address(), LogOptions::default()).unwrap();
    eventually("all is written", || place.text().lines().count() == 100);
    assert_eq!(place.messages(), numbers(0, 100));
    drop(log);
    fork(|| {
        let log = Log::open(&place.address(), LogOptions { writer: LogWriter::Never, ..place.options() }).unwrap();
        log_numbers(&log, 100, 200);
        std::mem::forget(log);
    })
    .join();
    let log = Log::open(&place.address(), LogOptions { writer: LogWriter::Never, ..place.options() }).unwrap();
    assert!(Log::remove(&place.address()).unwrap_err().is(Errno::EBUSY));
    assert_eq!(log.statistics().unwrap().queued, 100);
    log.drain(GENEROUS).unwrap();
    assert_eq!(place.messages(), numbers(0, 200));
    Log::remove(&place.address()).unwrap();
    assert!(log.check().unwrap_err().is(Errno::ESTALE));
    let left: Vec<_> = fs::read_dir(place.directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["the.log"]);
    assert!(Log::remove(&place.address()).unwrap_err().is(Errno::ENOENT));
}

#[test]
fn closing_the_handle_leaves_nothing_behind() {
    let place = Place::new();
    let log = place.open();
    log_numbers(&log, 0, 1000);
    drop(log);
    assert_eq!(place.messages(), numbers(0, 1000));
    let log = place.open();
    log_numbers(&log, 1000, 2000);
    log.end_waits();
    drop(log);
    assert_eq!(place.messages(), numbers(0, 2000));
}

#[test]
fn without_room_records_are_dropped_and_the_file_says_so_where_it_happened() {
    let place = Place::new();
    let options = || LogOptions { capacity: 16 << 10, largest: 1000, writer: LogWriter::Never, ..place.options() };
    let log = Log::open(&place.address(), LogOptions { full: LogFull::Drop, ..options() }).unwrap();
    let mut sent = 0;
    while log.info(&format!("record {sent}")).is_ok() {
        sent += 1;
    }
    for _ in 0..2 {
        assert!(log.info("dropped").unwrap_err().is(Errno::EAGAIN));
    }
    // One that waits is no better off while nobody writes.
    let patient = Log::open(&place.address(), LogOptions { timeout: Some(Duration::from_millis(10)), ..options() });
    assert!(patient.unwrap().info("dropped").unwrap_err().is(Errno::ETIMEDOUT));
    assert_eq!(log.statistics().unwrap().dropped, 4);
    log.drain(GENEROUS).unwrap();
    log_numbers(&log, sent, sent + 3);
    log.drain(GENEROUS).unwrap();
    let mut expected = numbers(0, sent);
    expected.push("records were dropped, as there was no room for them dropped=4".into());
    expected.extend(numbers(sent, sent + 3));
    assert_eq!(place.messages(), expected);
}

/// More than a writer takes at once.
#[test]
fn a_long_queue_comes_before_the_word_of_those_that_had_no_room() {
    let place = Place::new();
    let options = LogOptions { capacity: 256 << 10, full: LogFull::Drop, writer: LogWriter::Never, ..place.options() };
    let log = Log::open(&place.address(), options).unwrap();
    let mut sent = 0;
    while log.info(&format!("record {sent}")).is_ok() {
        sent += 1;
    }
    log.drain(GENEROUS).unwrap();
    let mut expected = numbers(0, sent);
    expected.push("records were dropped, as there was no room for them dropped=1".into());
    assert_eq!(place.messages(), expected);
}

#[test]
fn whoever_waits_for_room_goes_on_when_there_is_some() {
    let place = Place::new();
    let options = LogOptions { capacity: 16 << 10, largest: 1000, writer: LogWriter::Never, ..place.options() };
    let log = Log::open(&place.address(), options).unwrap();
    let child = fork(|| log_numbers(&log, 0, 3000));
    let served = std::thread::scope(|threads| {
        let cancel = Cancel::new();
        let serving = threads.spawn({
            let (cancel, log) = (cancel.clone(), &log);
            move || {
                let _scope = cancel.enter();
                log.serve(Timeout::Forever)
            }
        });
        child.join();
        log.drain(GENEROUS).unwrap();
        cancel.fire();
        serving.join().unwrap()
    });
    assert!(served.unwrap_err().is(Errno::ECANCELED));
    assert_eq!(place.messages(), numbers(0, 3000));
}

#[test]
fn serving_ends_with_its_timeout() {
    let place = Place::new();
    let log = Log::open(&place.address(), LogOptions { writer: LogWriter::Never, ..place.options() }).unwrap();
    log_numbers(&log, 0, 10);
    assert_eq!(log.serve(SHORT).unwrap(), 10);
    assert_eq!(log.serve(Timeout::Now).unwrap(), 0);
    assert_eq!(place.messages(), numbers(0, 10));
    let other = Log::open(&place.address(), LogOptions { writer: LogWriter::Elected, ..place.options() }).unwrap();
    eventually("it is the writer", || other.statistics().unwrap().writer == Some(std::process::id()));
    assert_eq!(log.serve(SHORT).unwrap(), 0);
}

fn set_aside(file: &Path, number: u32) -> PathBuf {
    format!("{}.{number}", file.display()).into()
}

#[test]
fn files_rotate_by_size_and_so_many_are_kept() {
    let place = Place::new();
    let options = LogOptions { rotate_size: 1000, keep: 3, ..place.options() };
    let log = Log::open(&place.address(), options).unwrap();
    log_numbers(&log, 0, 100);
    log.drain(GENEROUS).unwrap();
    let files = [set_aside(&place.file(), 3), set_aside(&place.file(), 2), set_aside(&place.file(), 1), place.file()];
    let mut all = String::new();
    for file in &files {
        let text = fs::read_to_string(file).unwrap();
        assert!(text.len() <= 1000 && text.len() > 800 || *file == place.file(), "{} bytes", text.len());
        all += &text;
    }
    let found = messages(&all);
    assert_eq!(found, numbers(100 - found.len() as u32, 100));
    assert!(!set_aside(&place.file(), 4).exists());
    // A record that is larger than a file may become has a file to itself.
    log.info(&"x".repeat(2000)).unwrap();
    log.info("small").unwrap();
    log.drain(GENEROUS).unwrap();
    assert!(fs::read_to_string(set_aside(&place.file(), 1)).unwrap().len() > 2000);
    assert_eq!(place.messages(), ["small"]);
}

#[test]
fn files_rotate_by_time() {
    let place = Place::new();
    fs::write(place.file(), "of yesterday\n").unwrap();
    let yesterday = std::time::SystemTime::now() - Duration::from_secs(86400);
    fs::File::options().write(true).open(place.file()).unwrap().set_modified(yesterday).unwrap();
    let options = LogOptions { rotate_every: Duration::from_secs(86400), ..place.options() };
    let log = Log::open(&place.address(), options).unwrap();
    log.info("of today").unwrap();
    log.drain(GENEROUS).unwrap();
    assert_eq!(fs::read_to_string(set_aside(&place.file(), 1)).unwrap(), "of yesterday\n");
    assert_eq!(place.messages(), ["of today"]);
    assert_eq!(log.statistics().unwrap().rotations, 1);
}

#[test]
fn files_that_were_set_aside_are_compressed() {
    let place = Place::new();
    let options = LogOptions { rotate_size: 1000, compress: true, keep: 50, ..place.options() };
    let log = Log::open(&place.address(), options).unwrap();
    log_numbers(&log, 0, 100);
    log.drain(GENEROUS).unwrap();
    let rotations = log.statistics().unwrap().rotations as u32;
    assert!(rotations > 3);
    let packed = |number| PathBuf::from(format!("{}.gz", set_aside(&place.file(), number).display()));
    eventually("all are compressed", || (1..=rotations).all(|number| packed(number).exists()));
    let mut all = String::new();
    for number in (1..=rotations).rev() {
        use std::io::Read;
        let file = fs::File::open(packed(number)).unwrap();
        flate2::read::GzDecoder::new(file).read_to_string(&mut all).unwrap();
        eventually("the original is gone", || !set_aside(&place.file(), number).exists());
    }
    assert_eq!(messages(&(all + &place.text())), numbers(0, 100));
}

#[test]
fn files_that_others_move_or_cut_are_noticed() {
    let place = Place::new();
    let log = place.open();
    eventually("its thread is the writer", || log.statistics().unwrap().writer.is_some());
    let moved = place.directory.path().join("moved");
    log_numbers(&log, 0, 3);
    log.drain(GENEROUS).unwrap();
    fs::rename(place.file(), &moved).unwrap();
    log_numbers(&log, 3, 6);
    log.drain(GENEROUS).unwrap();
    assert_eq!(messages(&fs::read_to_string(&moved).unwrap()), numbers(0, 3));
    assert_eq!(place.messages(), numbers(3, 6));
    // Cut, as by logrotate's copytruncate.
    fs::write(place.file(), "").unwrap();
    log_numbers(&log, 6, 9);
    log.drain(GENEROUS).unwrap();
    assert_eq!(place.messages(), numbers(6, 9));
    // Written to: what others have written stays, and a record begins on a line of its own.
    fs::write(place.file(), "somebody else's").unwrap();
    log_numbers(&log, 9, 10);
    log.drain(GENEROUS).unwrap();
    assert!(place.text().starts_with("somebody else's\n"));
    assert!(place.text().ends_with(": record 9\n"));
    assert_eq!(log.statistics().unwrap().disturbed, 3);
    // On request: nobody has to log for it.
    fs::rename(place.file(), &moved).unwrap();
    log.reopen(GENEROUS).unwrap();
    assert_eq!(place.text(), "");
}

#[test]
fn a_log_is_opened_as_it_is() {
    let place = Place::new();
    let text = format!("{}?file={}&format=json&keep=3&sync=always", place.address(), place.file().display());
    let log = Log::open(&text.parse().unwrap(), LogOptions::default()).unwrap();
    let refused = |options: LogOptions, what: &str| {
        let error = Log::open(&place.address(), options).unwrap_err();
        assert!(error.is(Errno::EINVAL) && error.reason().contains(what), "{error}");
    };
    refused(LogOptions { file: "/elsewhere".into(), ..Default::default() }, "/elsewhere");
    refused(LogOptions { format: LogFormat::Text, ..Default::default() }, "format=Json, and not format=Text");
    refused(LogOptions { keep: 4, ..Default::default() }, "keep=3, and not keep=4");
    refused(LogOptions { sync: LogSync::Never, ..Default::default() }, "sync=Always, and not sync=Never");
    refused(LogOptions { rotate_size: 1, compress: true, ..Default::default() }, "compress=0, and not compress=1");
    refused(LogOptions { largest: 100, ..Default::default() }, "from 256 bytes to 1 MiB");
    log.info("in spite of all that").unwrap();
    log.drain(GENEROUS).unwrap();
    assert!(place.text().contains("in spite of all that"));
    let none = format!("{}-none", place.address()).parse().unwrap();
    assert!(Log::open(&none, LogOptions::default()).unwrap_err().reason().contains("file="));
}

#[test]
fn one_file_has_one_writer() {
    let place = Place::new();
    fs::write(place.file(), "").unwrap();
    let other = fs::File::options().write(true).open(place.file()).unwrap();
    other.lock_as_a_writer_does();
    let log = place.open();
    log.info("mine").unwrap();
    let error = log.drain(GENEROUS).unwrap_err();
    assert!(error.is(Errno::EBUSY) && error.reason().contains("a file of its own"), "{error}");
    assert_eq!(log.statistics().unwrap().trouble, Errno::EBUSY as i32);
    assert_eq!(place.text(), "");
    drop(other);
    eventually("it is written", || log.drain(GENEROUS).is_ok());
    assert_eq!(place.messages().last().unwrap(), "mine");
}

trait LockAsAWriterDoes {
    fn lock_as_a_writer_does(&self);
}

impl LockAsAWriterDoes for fs::File {
    fn lock_as_a_writer_does(&self) {
        let whole =
            libc::flock { l_type: libc::F_WRLCK as _, l_whence: libc::SEEK_SET as _, l_start: 0, l_len: 0, l_pid: 0 };
        nix::fcntl::fcntl(self, nix::fcntl::FcntlArg::F_OFD_SETLK(&whole)).unwrap();
    }
}

#[test]
fn what_is_no_file_is_refused_and_nothing_is_lost() {
    let place = Place::new();
    fs::create_dir(place.file()).unwrap();
    let log = place.open();
    log.info("kept").unwrap();
    assert!(log.drain(GENEROUS).unwrap_err().is(Errno::EISDIR));
    let statistics = log.statistics().unwrap();
    assert!(statistics.failures > 0 && statistics.trouble == Errno::EISDIR as i32);
    fs::remove_dir(place.file()).unwrap();
    eventually("it is written", || place.text().contains("kept"));
    log.drain(GENEROUS).unwrap();
    let found = place.messages();
    assert!(found[0].starts_with("the file could not be written: Is a directory"), "{found:?}");
    assert_eq!(found[1..], ["kept"]);
    assert_eq!(log.statistics().unwrap().trouble, 0);
}

#[test]
fn a_full_disk_holds_records_up_and_loses_none() {
    let place = Place::new();
    // A limit on the size of files stands for the end of the disk: the kernel stops writes in the middle of a record.
    fork(|| {
        let limit = |most| {
            let limit = libc::rlimit { rlim_cur: most, rlim_max: libc::RLIM_INFINITY };
            // SAFETY: a live local.
            assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) }, 0);
        };
        // SAFETY: ignoring a signal.
        unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
        let log = place.open();
        limit(1010);
        log_numbers(&log, 0, 100);
        let error = log.drain(GENEROUS).unwrap_err();
        assert!(error.is(Errno::EFBIG) && error.reason().contains("the.log"), "{error}");
        assert_eq!(place.text().len(), 1010);
        assert!(log.statistics().unwrap().failures > 0);
        limit(libc::RLIM_INFINITY);
        eventually("it can write again", || log.drain(GENEROUS).is_ok());
        let found = place.messages();
        let notes =
            found.iter().filter(|message| message.starts_with("the file could not be written: File too")).count();
        assert_eq!(notes, 1);
        let records: Vec<_> = found.into_iter().filter(|message| message.starts_with("record")).collect();
        assert_eq!(records, numbers(0, 100));
    })
    .join();
}

#[test]
fn what_is_too_long_is_cut_and_counted() {
    let place = Place::new();
    let log = Log::open(&place.address(), LogOptions { largest: 512, ..place.options() }).unwrap();
    log.info(&"\u{1}".repeat(10_000)).unwrap();
    log.drain(GENEROUS).unwrap();
    let text = place.text();
    assert!(text.contains("\\u{1}\\u{1}") && text.contains(" bytes cut)"), "{text}");
    assert_eq!(log.statistics().unwrap().cut, 1);
}

#[test]
fn messages_that_are_no_records_are_counted() {
    let place = Place::new();
    let log = Log::open(&place.address(), LogOptions { writer: LogWriter::Never, ..place.options() }).unwrap();
    let mut names = fs::read_dir(place.directory.path()).unwrap().map(|entry| entry.unwrap().path());
    let ring = names.find(|path| path.extension().is_some_and(|end| end == "ring")).unwrap();
    let address: Address = format!("ring:{}", ring.display()).parse().unwrap();
    let intruder = Ring::open(&address, RingOptions::default()).unwrap();
    for garbage in [&[][..], &[0xff; 100], &[0; 56], b"hello"] {
        intruder.send(garbage, Timeout::Now).unwrap();
    }
    log.info("still well").unwrap();
    log.drain(GENEROUS).unwrap();
    assert_eq!(place.messages(), ["still well"]);
    assert_eq!(log.statistics().unwrap().damaged, 4);
}

#[test]
fn the_file_has_the_logs_mode() {
    let place = Place::new();
    let log = Log::open(&place.address(), LogOptions { mode: 0o600, ..place.options() }).unwrap();
    log.info("secret").unwrap();
    log.drain(GENEROUS).unwrap();
    assert_eq!(place.file().metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn many_threads_drain_at_once() {
    let place = Place::new();
    let log = place.open();
    std::thread::scope(|threads| {
        for thread in 0..4 {
            let (log, place) = (&log, &place);
            threads.spawn(move || {
                for n in 0..20 {
                    let message = format!("{thread} {n}");
                    log.info(&message).unwrap();
                    log.drain(GENEROUS).unwrap();
                    assert!(place.messages().contains(&message));
                }
            });
        }
    });
    let found: HashSet<_> = place.messages().into_iter().collect();
    assert_eq!(found.len(), 80);
}

#[test]
fn a_drain_ends_while_others_log_without_end() {
    let place = Place::new();
    let options = LogOptions { capacity: 16 << 10, largest: 1000, writer: LogWriter::Never, ..place.options() };
    let log = Log::open(&place.address(), options).unwrap();
    log.info("the first").unwrap();
    let _children = [0, 1].map(|_| {
        fork(|| {
            loop {
                log.info("and on").unwrap(); // waits for room, which only a drain makes
            }
        })
    });
    for _ in 0..20 {
        log.drain(GENEROUS).unwrap();
    }
    assert_eq!(place.messages()[0], "the first");
}

#[test]
fn a_crash_is_logged_and_stays_one() {
    let place = Place::new();
    let log = place.open();
    for (signal, name) in [(libc::SIGSEGV, "SIGSEGV"), (libc::SIGABRT, "SIGABRT")] {
        let child = fork(|| {
            log.log_crashes().unwrap();
            log.log_crashes().unwrap();
            eprintln!("subscribed"); // SAFETY: what is to be found out.
            unsafe { if signal == libc::SIGABRT { libc::abort() } else { *std::hint::black_box(8 as *mut u8) = 1 } };
        });
        let pid = child.pid();
        let status = child.wait();
        assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == signal, "status {status:#x}");
        log.drain(GENEROUS).unwrap();
        let text = place.text();
        let line = text.lines().find(|line| line.contains(&format!("name={name}"))).unwrap();
        assert!(line.contains(&format!(" FATAL {pid}/{pid}: a signal ends the program signal={signal} ")), "{line}");
        assert_eq!(line.ends_with(" address=8"), signal == libc::SIGSEGV, "{line}");
    }
    assert_eq!(place.messages().len(), 2);
    log.log_crashes().unwrap();
    drop(log); // and with it the handlers: this process has its own again
}

#[test]
fn what_would_have_to_wait_is_not_logged_at_once() {
    let place = Place::new();
    let options = LogOptions { capacity: 8192, writer: LogWriter::Never, ..place.options() };
    let log = Log::open(&place.address(), options).unwrap();
    let record = LogRecord { message: "once", ..Default::default() };
    let mut logged = 0;
    while log.log_at_once(&record, &LogOrigin::default()).unwrap() {
        logged += 1;
    }
    log.drain(GENEROUS).unwrap();
    assert_eq!((place.messages().len(), log.statistics().unwrap().dropped), (logged, 0));
}

#[test]
fn a_child_that_has_used_a_log_can_close_it() {
    let place = Place::new();
    let log = place.open();
    let before = place.open();
    before.info("of the parent").unwrap();
    // What `fork` does with it in the parent is to drop it.
    let child = fork(move || {
        log.info("of the child").unwrap();
        let held = || fs::read_dir("/proc/self/fd").unwrap().count();
        let open = held();
        drop(log);
        assert!(held() < open);
    });
    child.join();
    before.drain(GENEROUS).unwrap();
    let found: HashSet<_> = place.messages().into_iter().collect();
    assert_eq!(found, HashSet::from(["of the parent".to_owned(), "of the child".to_owned()]));
}
