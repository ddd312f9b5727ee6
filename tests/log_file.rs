//! What the writer of a log does with its file where something stands in its way.

mod support;

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use support::{GENEROUS, SHORT, eventually};
use wigwag::{
    Address, Cancel, Log, LogFull, LogOptions, LogOrigin, LogRecord, LogThrough, LogWriter, Ring, RingOptions, Timeout,
};

/// A directory with a log in it, removed with all that is in it.
struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        Place { directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn address(&self) -> Address {
        format!("log:{}", self.path("shared").display()).parse().unwrap()
    }

    /// Written by those who drain.
    fn options(&self) -> LogOptions {
        LogOptions { file: self.path("the.log"), writer: LogWriter::Never, ..Default::default() }
    }

    fn open(&self, options: LogOptions) -> Log {
        Log::open(&self.address(), options).unwrap()
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// The names of what shared memory there is.
    fn shared(&self) -> Vec<String> {
        let names = fs::read_dir(self.directory.path()).unwrap().map(|entry| entry.unwrap().file_name());
        names.map(|name| name.into_string().unwrap()).filter(|name| name.starts_with("shared")).collect()
    }
}

#[test]
fn the_mode_is_the_logs_whatever_the_umask() {
    let place = Place::new();
    // No umask that anybody has leaves all of these.
    let options = LogOptions { mode: 0o666, rotate_size: 200, compress: true, keep: 1, ..place.options() };
    let log = place.open(LogOptions { writer: LogWriter::Elected, ..options });
    let is = |name: &str| fs::metadata(place.path(name)).is_ok_and(|is| is.permissions().mode() & 0o777 == 0o666);
    for _ in 0..2 {
        log.info(&"x".repeat(200)).unwrap();
        log.drain(GENEROUS).unwrap();
    }
    assert!(is("the.log"));
    eventually("it is compressed", || log.drain(GENEROUS).is_ok() && is("the.log.1.gz"));
}

#[test]
fn an_empty_file_is_not_set_aside() {
    let place = Place::new();
    fs::write(place.path("the.log.1"), "kept").unwrap();
    let log = place.open(LogOptions { rotate_size: 100, keep: 1, ..place.options() });
    let long = "x".repeat(200);
    log.info(&long).unwrap();
    log.drain(GENEROUS).unwrap();
    assert!(place.text("the.log").contains(&long));
    assert_eq!((place.text("the.log.1").as_str(), log.statistics().unwrap().rotations), ("kept", 0));
    log.info("next").unwrap();
    log.drain(GENEROUS).unwrap();
    assert!(place.text("the.log.1").contains(&long) && place.text("the.log").ends_with("next\n"));
}

/// As a writer does that is just dying, or another program.
fn lock(file: &fs::File) {
    let whole =
        libc::flock { l_type: libc::F_WRLCK as _, l_whence: libc::SEEK_SET as _, l_start: 0, l_len: 0, l_pid: 0 };
    nix::fcntl::fcntl(file, nix::fcntl::FcntlArg::F_OFD_SETLK(&whole)).unwrap();
}

#[test]
fn who_drains_waits_for_a_locked_file_no_longer_than_it_has_time() {
    let start = std::time::Instant::now();
    for canceled in [false, true].repeat(10) {
        let place = Place::new();
        let other = fs::File::create(place.path("the.log")).unwrap();
        lock(&other);
        let log = place.open(place.options());
        log.info("mine").unwrap();
        let cancel = Cancel::new();
        let _scope = cancel.enter();
        if canceled {
            cancel.fire();
        }
        let timeout = if canceled { GENEROUS } else { Timeout::Now };
        assert!(log.drain(timeout).is_err());
    }
    // Where it may, a writer waits for a second, each time.
    assert!(start.elapsed() < std::time::Duration::from_secs(10), "{:?}", start.elapsed());
}

#[test]
fn a_log_with_as_many_participants_as_may_is_not_removed_under_them() {
    for through in [LogThrough::Ring, LogThrough::Mq] {
        let place = Place::new();
        let log = place.open(LogOptions { participants: 1, through, ..place.options() });
        assert!(Log::open(&place.address(), place.options()).unwrap_err().is(Errno::EUSERS));
        log.info("goes on").unwrap();
        assert!(Log::remove(&place.address()).unwrap_err().is(Errno::EUSERS));
        log.drain(GENEROUS).unwrap();
        drop(log);
        Log::remove(&place.address()).unwrap();
        assert_eq!(place.shared(), [""; 0], "with all its parts");
    }
}

#[test]
fn a_damaged_log_can_be_removed_and_what_is_none_is_left() {
    let place = Place::new();
    drop(place.open(place.options()));
    // What it was made with, by the path that is among it.
    let memory = fs::File::options().read(true).write(true).open(place.path("shared")).unwrap();
    let bytes = fs::read(place.path("shared")).unwrap();
    let path = place.path("the.log").into_os_string().into_encoded_bytes();
    let at = bytes.windows(path.len()).position(|window| window == path).unwrap();
    memory.write_all_at(&[0xff; 28], at as u64 - 28).unwrap();
    assert!(Log::open(&place.address(), place.options()).unwrap_err().is(Errno::EBADMSG));
    Log::remove(&place.address()).unwrap();
    assert_eq!(place.shared(), [""; 0], "with all its parts");
    fs::write(place.path("shared"), [b'x'; 9000]).unwrap();
    assert!(Log::remove(&place.address()).unwrap_err().is(Errno::EBADMSG));
    assert_eq!(place.shared(), ["shared"]);
}

#[test]
fn a_signal_is_counted_where_there_is_no_room_to_log_it() {
    let place = Place::new();
    let log = place.open(LogOptions { capacity: 8192, full: LogFull::Wait, ..place.options() });
    let record = LogRecord { message: "once", ..Default::default() };
    while log.log_at_once(&record, &LogOrigin::default()).unwrap() {}
    assert!(log.log_signal(libc::SIGSEGV, 8).unwrap_err().is(Errno::EAGAIN));
    assert_eq!(log.statistics().unwrap().dropped, 1);
    log.drain(GENEROUS).unwrap();
    log.log_signal(libc::SIGSEGV, 8).unwrap();
    log.drain(SHORT).unwrap();
    assert!(place.text("the.log").ends_with("name=SIGSEGV address=8\n"));
}

/// Has this process hold no lock on a file any more by which it counts as alive: what only one that closes descriptors which
/// are not its own can bring about.
fn lose_lock(file: &Path) {
    let is_it = |status: fs::Metadata| status.ino() == fs::metadata(file).unwrap().ino();
    for entry in fs::read_dir("/proc/self/fd").unwrap() {
        let entry = entry.unwrap();
        if fs::metadata(entry.path()).is_ok_and(is_it) {
            let number = entry.file_name().to_str().unwrap().parse().unwrap();
            let null = fs::File::open("/dev/null").unwrap();
            // SAFETY: breaks the library's hold on its own descriptor, which is what this test is about.
            assert_eq!(unsafe { libc::dup2(null.as_raw_fd(), number) }, number);
        }
    }
}

#[test]
fn what_an_error_keeps_out_is_counted() {
    let place = Place::new();
    let log = place.open(place.options());
    let name = place.shared().into_iter().find(|name| name.ends_with(".ring")).unwrap();
    lose_lock(&place.path(&name));
    let ring = format!("ring:{}", place.path(&name).display()).parse().unwrap();
    let ring = Ring::open(&ring, RingOptions::default()).unwrap();
    eventually("others find it dead", || {
        let _ = ring.recv(&mut [], Timeout::Now);
        ring.statistics().unwrap().participants.len() == 1
    });
    drop(ring);
    let other = place.open(place.options());
    let record = LogRecord { message: "lost", ..Default::default() };
    assert!(log.log_at_once(&record, &LogOrigin::default()).unwrap_err().is(Errno::ESTALE));
    assert!(log.log(&record).unwrap_err().is(Errno::ESTALE));
    assert_eq!(other.statistics().unwrap().dropped, 2);
    other.drain(GENEROUS).unwrap();
    assert!(place.text("the.log").contains("dropped=2"));
}
