use super::*;
use crate::Cancel;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const GENEROUS: Timeout = Timeout::After(Duration::from_secs(30));
const SHORT: Timeout = Timeout::After(Duration::from_millis(20));
const EVERYTHING: usize = 1 << 20;

fn place() -> (TempDir, Address) {
    let directory = tempfile::tempdir().unwrap();
    let address = at(&directory, "x");
    (directory, address)
}

fn at(directory: &TempDir, name: &str) -> Address {
    Address::from_parts(Scheme::File, directory.path().join(name).as_os_str().as_encoded_bytes(), None, []).unwrap()
}

fn create() -> FileOptions {
    FileOptions { create: FileCreate::IfMissing, ..Default::default() }
}

fn replace(address: &Address, bytes: &[u8]) -> Result<()> {
    File::replace(address, bytes, &ReplaceOptions { durability: Durability::None, mode: None })
}

fn names(directory: &TempDir) -> Vec<String> {
    let mut names: Vec<_> =
        directory.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn replaces_and_loads() {
    let (directory, address) = place();
    for durability in [Durability::Full, Durability::Content, Durability::None] {
        let content = format!("{durability:?}").repeat(50_000);
        File::replace(&address, content.as_bytes(), &ReplaceOptions { durability, mode: None }).unwrap();
        assert_eq!(File::load(&address, EVERYTHING).unwrap(), content.as_bytes());
    }
    replace(&address, b"").unwrap();
    assert_eq!(File::load(&address, 0).unwrap(), b"");
    assert_eq!(names(&directory), ["x"], "nothing else is left");
}

#[test]
fn relative_paths() {
    assert!(File::load(&"file:Cargo.toml".parse().unwrap(), EVERYTHING).unwrap().starts_with(b"[workspace]"));
}

#[test]
fn replacing_keeps_permissions_unless_told() {
    let (_directory, address) = place();
    let mode = || std::fs::metadata(address.path()).unwrap().permissions().mode() & 0o777;
    replace(&address, b"1").unwrap();
    assert_eq!(mode(), 0o600, "a new file is for its owner");
    std::fs::set_permissions(address.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
    replace(&address, b"2").unwrap();
    assert_eq!(mode(), 0o644);
    File::replace(&address, b"3", &ReplaceOptions { mode: Some(0o666), ..Default::default() }).unwrap();
    assert_eq!(mode(), 0o666, "against the umask");
    let with_mode: Address = format!("{address}?mode=640").parse().unwrap();
    replace(&with_mode, b"4").unwrap();
    assert_eq!(mode(), 0o640);
    let bad = ReplaceOptions { mode: Some(0o1777), ..Default::default() };
    assert!(File::replace(&address, b"5", &bad).unwrap_err().is(Errno::EINVAL));
}

#[test]
fn replace_leaves_what_is_no_regular_file() {
    let (directory, address) = place();
    let refused = |address: &Address| replace(address, b"new").unwrap_err();

    std::fs::write(address.path(), b"old").unwrap();
    let link = at(&directory, "link");
    symlink("x", link.path()).unwrap();
    let error = refused(&link);
    assert!(error.is(Errno::ELOOP) && error.reason().contains("symbolic link"), "{error}");
    assert_eq!(File::load(&link, 10).unwrap(), b"old", "reading goes through links");

    let fifo = at(&directory, "fifo");
    nix::unistd::mkfifo(fifo.path(), Mode::S_IRWXU).unwrap();
    let error = refused(&fifo);
    assert!(error.is(Errno::ENOTSUP) && error.reason().contains("fifo:"), "{error}");
    assert!(File::load(&fifo, 10).unwrap_err().is(Errno::ENOTSUP), "and reading does not hang");
    assert!(File::open(&fifo, &create()).unwrap_err().is(Errno::ENOTSUP));

    let folder: Address = format!("file:{}", directory.path().display()).parse().unwrap();
    assert!(refused(&folder).is(Errno::EISDIR));
    assert!(File::load(&folder, 10).unwrap_err().is(Errno::EISDIR));
    assert!(refused(&format!("{folder}/").parse().unwrap()).is(Errno::EISDIR));
    assert!(File::load(&"file:/dev/null".parse().unwrap(), 10).unwrap_err().is(Errno::ENOTSUP));
    assert_eq!(names(&directory), ["fifo", "link", "x"]);
}

#[test]
fn replace_names_the_missing_directory() {
    let (directory, _) = place();
    let error = replace(&at(&directory, "no/x"), b"").unwrap_err();
    assert!(error.is(Errno::ENOENT));
    assert_eq!(
        error.to_string(),
        format!(
            "replace file:{}/no/x: ENOENT: its directory does not exist; make the directory first",
            directory.path().display()
        )
    );
    std::fs::write(directory.path().join("no"), b"").unwrap();
    assert!(replace(&at(&directory, "no/x"), b"").unwrap_err().is(Errno::ENOTDIR));
    let long = at(&directory, &"n".repeat(300));
    assert!(replace(&long, b"").unwrap_err().is(Errno::ENAMETOOLONG));
    assert_eq!(names(&directory), ["no"]);
}

#[test]
fn load_has_a_limit() {
    let (_directory, address) = place();
    replace(&address, &[7; 1000]).unwrap();
    assert_eq!(File::load(&address, 1000).unwrap(), [7; 1000]);
    let error = File::load(&address, 999).unwrap_err();
    assert!(error.is(Errno::EMSGSIZE));
    assert_eq!(error.true_size(), 1000);
    assert_eq!(error.reason(), "the file has 1000 bytes, allowed are 999; raise the limit");

    let mut buffer = [0; 1000];
    assert_eq!(File::load_into(&address, &mut buffer).unwrap(), 1000);
    assert_eq!(File::load_into(&address, &mut buffer[..1]).unwrap_err().true_size(), 1000);
    assert!(File::load_into(&address, &mut []).unwrap_err().is(Errno::EMSGSIZE));
    assert_eq!(File::load(&address, usize::MAX).unwrap().len(), 1000);
}

#[test]
fn files_that_tell_no_size_are_read_to_their_end() {
    let address: Address = "file:/proc/self/maps".parse().unwrap();
    let maps = File::load(&address, EVERYTHING).unwrap();
    assert!(maps.len() > 100 && maps.ends_with(b"\n"));
    let error = File::load(&address, 10).unwrap_err();
    assert!(error.is(Errno::EMSGSIZE));
    assert_eq!(error.true_size(), 0, "not known");
}

#[test]
fn an_absurd_size_is_out_of_memory_and_no_abort() {
    let (_directory, address) = place();
    let file = std::fs::File::create(address.path()).unwrap();
    file.set_len(1 << 43).unwrap(); // a hole of 8 TiB
    assert!(File::load(&address, 1000).unwrap_err().is(Errno::EMSGSIZE));
    let overcommit = std::fs::read_to_string("/proc/sys/vm/overcommit_memory").unwrap();
    if overcommit.trim() != "1" {
        let error = File::load(&address, usize::MAX).unwrap_err();
        assert!(error.is(Errno::ENOMEM) && error.reason().contains("8796093022209 bytes"), "{error}");
    }
}

#[test]
fn opens_and_creates_as_told() {
    let (directory, address) = place();
    let with = |create| FileOptions { create, ..Default::default() };
    assert!(File::open(&address, &with(FileCreate::Never)).unwrap_err().is(Errno::ENOENT));
    File::open(&address, &with(FileCreate::Exclusively)).unwrap();
    assert!(File::open(&address, &with(FileCreate::Exclusively)).unwrap_err().is(Errno::EEXIST));
    File::open(&address, &with(FileCreate::IfMissing)).unwrap();
    assert_eq!(std::fs::metadata(address.path()).unwrap().mode() & 0o777, 0o600);

    let other = at(&directory, "other");
    File::open(&other, &FileOptions { mode: Some(0o666), ..create() }).unwrap();
    assert_eq!(std::fs::metadata(other.path()).unwrap().mode() & 0o777, 0o666, "against the umask");

    let nowhere = at(&directory, "nowhere");
    symlink("no-such-file", nowhere.path()).unwrap();
    let error = File::open(&nowhere, &create()).unwrap_err();
    assert!(error.is(Errno::ENOENT) && error.reason().contains("symbolic link"), "{error}");
    assert!(File::open(&"pipe:".parse().unwrap(), &create()).unwrap_err().is(Errno::EINVAL));
}

#[test]
fn removes_files_and_nothing_else() {
    let (directory, address) = place();
    assert!(File::remove(&address).unwrap_err().is(Errno::ENOENT));
    replace(&address, b"").unwrap();
    File::remove(&address).unwrap();
    let folder: Address = format!("file:{}", directory.path().display()).parse().unwrap();
    assert!(File::remove(&folder).unwrap_err().is(Errno::EISDIR));
    assert!(names(&directory).is_empty());
}

#[test]
fn appends_and_reads_parts() {
    let (_directory, address) = place();
    let file = File::open(&address, &create()).unwrap();
    file.append(b"one\n").unwrap();
    File::open(&address, &create()).unwrap().append(b"two\n").unwrap();
    file.append_locked(b"three\n", GENEROUS).unwrap();
    file.append(b"").unwrap();
    file.sync().unwrap();
    assert_eq!(file.read_all(EVERYTHING).unwrap(), b"one\ntwo\nthree\n");
    assert_eq!(file.size().unwrap(), 14);
    let mut buffer = [0; 8];
    assert_eq!(file.read_at(4, &mut buffer[..3]).unwrap(), 3);
    assert_eq!(&buffer[..3], b"two");
    assert_eq!(file.read_at(8, &mut buffer).unwrap(), 6);
    assert_eq!(file.read_at(14, &mut buffer).unwrap(), 0);
    assert!(file.read_at(u64::MAX, &mut buffer).unwrap_err().is(Errno::EINVAL));
}

#[test]
fn direction_is_checked() {
    let (_directory, address) = place();
    let open = |access| File::open(&address, &FileOptions { access, ..create() }).unwrap();
    let appender = open(FileAccess::Append);
    appender.append(b"x").unwrap();
    assert!(appender.read_all(10).unwrap_err().is(Errno::EBADF));
    assert!(appender.lock(LockMode::Shared, FileRange::WHOLE, GENEROUS).unwrap_err().is(Errno::EBADF));
    appender.append_locked(b"y", GENEROUS).unwrap();
    let reader = open(FileAccess::Read);
    let error = reader.append(b"x").unwrap_err();
    assert!(error.is(Errno::EBADF) && error.reason().contains("reading only"), "{error}");
    assert!(reader.lock(LockMode::Exclusive, FileRange::WHOLE, GENEROUS).unwrap_err().is(Errno::EBADF));
    reader.lock(LockMode::Shared, FileRange::WHOLE, GENEROUS).unwrap().release();
    assert_eq!(reader.read_all(10).unwrap(), b"xy");
}

#[test]
fn adopts_regular_files_only() {
    let memory = nix::sys::memfd::memfd_create(c"x", nix::sys::memfd::MFdFlags::MFD_CLOEXEC).unwrap();
    let file = File::from_fd(memory).unwrap();
    assert_eq!(file.address(), "file:(descriptor)");
    assert!(file.append(b"x").unwrap_err().is(Errno::EINVAL));
    file.lock(LockMode::Exclusive, FileRange::WHOLE, GENEROUS).unwrap().release();
    let (reader, _writer) = nix::unistd::pipe().unwrap();
    let error = File::from_fd(reader).unwrap_err();
    assert!(error.is(Errno::ENOTSUP));
    assert_eq!(
        error.to_string(),
        "from_fd file:(descriptor): ENOTSUP: it is a FIFO or pipe, not a regular file; open it as fifo:"
    );
}

#[test]
fn threads_exclude_each_other() {
    let (_directory, address) = place();
    let file = File::open(&address, &create()).unwrap();
    let held = file.lock(LockMode::Exclusive, FileRange::WHOLE, Timeout::Now).unwrap();
    for mode in [LockMode::Exclusive, LockMode::Shared] {
        assert!(file.lock(mode, FileRange::WHOLE, Timeout::Now).unwrap_err().is(Errno::EAGAIN));
        let start = Instant::now();
        assert!(file.lock(mode, FileRange::WHOLE, SHORT).unwrap_err().is(Errno::ETIMEDOUT));
        assert!(start.elapsed() >= Duration::from_millis(20));
    }
    assert!(file.append_locked(b"x", Timeout::Now).unwrap_err().is(Errno::EAGAIN));
    std::thread::scope(|threads| {
        let waiter = threads.spawn(|| file.lock(LockMode::Shared, FileRange::WHOLE, GENEROUS).map(drop));
        std::thread::sleep(Duration::from_millis(10));
        drop(held);
        waiter.join().unwrap().unwrap();
    });
}

#[test]
fn shared_locks_and_ranges_go_together() {
    let (_directory, address) = place();
    let file = File::open(&address, &create()).unwrap();
    let part = |start, length| FileRange { start, length };
    let lock = |mode, range| file.lock(mode, range, Timeout::Now);
    let one = lock(LockMode::Shared, part(0, 10)).unwrap();
    let two = lock(LockMode::Shared, part(5, 10)).unwrap();
    assert!(lock(LockMode::Exclusive, part(7, 1)).is_err());
    drop(one);
    assert!(lock(LockMode::Exclusive, part(7, 1)).is_err(), "releasing one leaves the other");
    let before = lock(LockMode::Exclusive, part(0, 5)).unwrap();
    let behind = lock(LockMode::Exclusive, part(15, 0)).unwrap();
    assert!(lock(LockMode::Shared, part(u64::from(u32::MAX), 1)).is_err(), "length 0 goes to the end");
    drop((two, before, behind));
    let whole = lock(LockMode::Exclusive, FileRange::WHOLE).unwrap();
    assert_eq!((whole.mode(), whole.range()), (LockMode::Exclusive, FileRange::WHOLE));
    for absurd in [part(u64::MAX, 0), part(0, u64::MAX), part(i64::MAX as u64, 1)] {
        assert!(lock(LockMode::Shared, absurd).unwrap_err().is(Errno::EINVAL));
    }
}

#[test]
fn the_lock_outlives_the_file_object() {
    let (_directory, address) = place();
    let open = || File::open(&address, &create()).unwrap();
    let held = open().lock(LockMode::Exclusive, FileRange::WHOLE, GENEROUS).unwrap();
    assert!(open().lock(LockMode::Exclusive, FileRange::WHOLE, Timeout::Now).is_err());
    drop(held);
    open().lock(LockMode::Exclusive, FileRange::WHOLE, Timeout::Now).unwrap().release();
}

#[test]
fn a_lock_on_what_was_replaced_is_stale() {
    let (_directory, address) = place();
    let file = File::open(&address, &create()).unwrap();
    replace(&address, b"other").unwrap();
    let error = file.lock(LockMode::Exclusive, FileRange::WHOLE, GENEROUS).unwrap_err();
    assert!(error.is(Errno::ESTALE) && error.reason().contains("open it again"), "{error}");
    let file = File::open(&address, &create()).unwrap();
    file.lock(LockMode::Exclusive, FileRange::WHOLE, Timeout::Now).unwrap().release();
    File::remove(&address).unwrap();
    assert!(file.lock(LockMode::Shared, FileRange::WHOLE, GENEROUS).unwrap_err().is(Errno::ESTALE));
}

#[test]
fn cancel_and_close_end_a_wait_for_a_lock() {
    let (_directory, address) = place();
    let file = Arc::new(File::open(&address, &create()).unwrap());
    let _held = file.lock(LockMode::Exclusive, FileRange::WHOLE, GENEROUS).unwrap();
    let cancel = Cancel::new();
    std::thread::scope(|threads| {
        threads.spawn(|| {
            std::thread::sleep(Duration::from_millis(10));
            cancel.fire();
        });
        let _scope = cancel.enter();
        let error = file.lock(LockMode::Shared, FileRange::WHOLE, Timeout::Forever).unwrap_err();
        assert!(error.is(Errno::ECANCELED));
    });
    let other = Arc::clone(&file);
    let waiter = std::thread::spawn(move || {
        other.lock(LockMode::Exclusive, FileRange::WHOLE, Timeout::Forever).map(drop).unwrap_err().errno()
    });
    std::thread::sleep(Duration::from_millis(10));
    file.end_waits();
    assert_eq!(waiter.join().unwrap(), libc::ECANCELED);
}

#[test]
fn until_exists_sees_what_is_there_and_what_comes() {
    let (directory, address) = place();
    assert!(File::until_exists(&address, Timeout::Now).unwrap_err().is(Errno::EAGAIN));
    assert!(File::until_exists(&address, SHORT).unwrap_err().is(Errno::ETIMEDOUT));
    std::thread::scope(|threads| {
        let waiter = threads.spawn(|| File::until_exists(&address, GENEROUS));
        std::thread::sleep(Duration::from_millis(5));
        replace(&at(&directory, "another"), b"").unwrap();
        replace(&address, b"").unwrap();
        waiter.join().unwrap().unwrap();
    });
    File::until_exists(&address, Timeout::Now).unwrap();
    let error = File::until_exists(&at(&directory, "no/x"), GENEROUS).unwrap_err();
    assert!(error.is(Errno::ENOENT) && error.reason().contains("make the directory first"), "{error}");
}

#[test]
fn a_watch_misses_nothing_between_opening_and_waiting() {
    let (directory, address) = place();
    let all = FileEvents::APPEARED | FileEvents::CHANGED | FileEvents::CLOSED | FileEvents::REMOVED;
    let watch = FileWatch::open(&address, all).unwrap();
    assert!(watch.wait(Timeout::Now).unwrap_err().is(Errno::EAGAIN));
    std::fs::write(at(&directory, "another").path(), b"not this").unwrap();
    assert!(watch.wait(SHORT).unwrap_err().is(Errno::ETIMEDOUT));

    let mut writer = std::fs::File::create(address.path()).unwrap();
    assert_eq!(watch.wait(Timeout::Now).unwrap(), FileEvents::APPEARED | FileEvents::CHANGED);
    std::io::Write::write_all(&mut writer, b"x").unwrap();
    assert_eq!(watch.wait(GENEROUS).unwrap(), FileEvents::CHANGED);
    writer.set_len(0).unwrap();
    assert_eq!(watch.wait(GENEROUS).unwrap(), FileEvents::CHANGED);
    drop(writer);
    assert_eq!(watch.wait(GENEROUS).unwrap(), FileEvents::CLOSED);
    replace(&address, b"y").unwrap();
    assert_eq!(watch.wait(GENEROUS).unwrap(), all - FileEvents::REMOVED, "renamed into place");
    std::fs::rename(address.path(), at(&directory, "elsewhere").path()).unwrap();
    assert_eq!(watch.wait(GENEROUS).unwrap(), FileEvents::REMOVED);
    assert!(watch.wait(Timeout::Now).unwrap_err().is(Errno::EAGAIN));
}

#[test]
fn a_watch_tells_only_what_was_asked_for() {
    let (_directory, address) = place();
    let watch = FileWatch::open(&address, FileEvents::REMOVED).unwrap();
    replace(&address, b"").unwrap();
    assert!(watch.wait(SHORT).unwrap_err().is(Errno::ETIMEDOUT));
    File::remove(&address).unwrap();
    assert_eq!(watch.wait(GENEROUS).unwrap(), FileEvents::REMOVED);
    for absurd in [FileEvents::empty(), FileEvents::OVERFLOWED, FileEvents::from_bits_retain(1 << 20)] {
        assert!(FileWatch::open(&address, absurd).unwrap_err().is(Errno::EINVAL));
    }
}

#[test]
fn cancel_and_close_end_a_watch() {
    let (_directory, address) = place();
    let watch = Arc::new(FileWatch::open(&address, FileEvents::CHANGED).unwrap());
    let cancel = Cancel::new();
    std::thread::scope(|threads| {
        threads.spawn(|| {
            std::thread::sleep(Duration::from_millis(10));
            cancel.fire();
        });
        let _scope = cancel.enter();
        assert!(watch.wait(Timeout::Forever).unwrap_err().is(Errno::ECANCELED));
        assert!(File::until_exists(&address, Timeout::Forever).unwrap_err().is(Errno::ECANCELED));
    });
    let other = Arc::clone(&watch);
    let waiter = std::thread::spawn(move || other.wait(Timeout::Forever).unwrap_err().errno());
    std::thread::sleep(Duration::from_millis(10));
    watch.end_waits();
    assert_eq!(waiter.join().unwrap(), libc::ECANCELED);
}

#[test]
fn every_waiter_learns_that_the_directory_is_gone() {
    let (directory, _) = place();
    std::fs::create_dir(directory.path().join("d")).unwrap();
    let address = at(&directory, "d/x");
    let watch = Arc::new(FileWatch::open(&address, FileEvents::CHANGED).unwrap());
    let waiters: Vec<_> = (0..3)
        .map(|_| {
            let watch = Arc::clone(&watch);
            std::thread::spawn(move || watch.wait(GENEROUS).unwrap_err())
        })
        .collect();
    std::thread::sleep(Duration::from_millis(10));
    std::fs::rename(directory.path().join("d"), directory.path().join("e")).unwrap();
    for waiter in waiters {
        let error = waiter.join().unwrap();
        assert!(error.is(Errno::ESTALE) && error.reason().contains("open a new watch"), "{error}");
    }
    assert!(watch.wait(Timeout::Now).unwrap_err().is(Errno::ESTALE));
}

#[test]
fn overflow_is_told() {
    let Ok(limit) = std::fs::read_to_string("/proc/sys/fs/inotify/max_queued_events") else { return };
    let limit: usize = limit.trim().parse().unwrap();
    let (directory, address) = place();
    let watch = FileWatch::open(&address, FileEvents::REMOVED).unwrap();
    let (one, other) = (at(&directory, "a"), at(&directory, "b"));
    std::fs::write(one.path(), b"").unwrap();
    for _ in 0..=limit / 2 {
        std::fs::rename(one.path(), other.path()).unwrap(); // each rename away is an event for us,
        std::fs::rename(other.path(), one.path()).unwrap(); // and no two in a row are the same
    }
    assert_eq!(watch.wait(Timeout::Now).unwrap(), FileEvents::REMOVED | FileEvents::OVERFLOWED);
    assert!(watch.wait(Timeout::Now).unwrap_err().is(Errno::EAGAIN), "told once");
}

#[test]
fn maps_what_it_was_made_large_enough_for() {
    use crate::shm::{Access, MapOptions};
    let (_directory, address) = place();
    let file = File::open(&address, &create()).unwrap();
    assert!(file.map(&MapOptions::default()).unwrap().is_empty());
    file.grow(0).unwrap();
    file.grow(5000).unwrap();
    file.grow(10).unwrap();
    assert_eq!(file.size().unwrap(), 5000, "it never becomes shorter");
    let memory = file.map(&MapOptions::default()).unwrap();
    let reader = File::open(&address, &FileOptions { access: FileAccess::Read, ..Default::default() }).unwrap();
    let view = reader.map(&MapOptions { access: Access::ReadOnly, ..Default::default() }).unwrap();
    memory.write(4096, &0x1234_5678_u32).unwrap();
    assert_eq!(view.read::<u32>(4096).unwrap(), 0x1234_5678);
    memory.flush(0, 5000).unwrap();
    assert_eq!(File::load(&address, EVERYTHING).unwrap()[4096..4100], 0x1234_5678_u32.to_ne_bytes());
    replace(&address, b"other").unwrap();
    assert_eq!(view.len(), 5000, "it shows the file that was opened");

    assert!(view.write(0, &1_u8).unwrap_err().is(Errno::EACCES));
    assert!(reader.map(&MapOptions::default()).unwrap_err().is(Errno::EACCES));
    let error = reader.grow(10_000).unwrap_err();
    assert!(error.is(Errno::EBADF) && error.reason().contains("reading only"), "{error}");
    assert!(file.grow(u64::MAX).unwrap_err().is(Errno::EFBIG));
    assert!(file.map(&MapOptions { length: 5001, ..Default::default() }).unwrap_err().is(Errno::EINVAL));
    assert!(file.map(&MapOptions { offset: 1, ..Default::default() }).unwrap_err().is(Errno::EINVAL));
}

#[test]
fn a_record_that_one_write_does_not_take_is_refused_whole() {
    let directory = tempfile::tempdir().unwrap();
    let file = File::open(&at(&directory, "journal"), &create()).unwrap();
    let record = vec![0; RECORD_MAX + 1]; // never touched, so never memory
    for error in [file.append(&record).unwrap_err(), file.append_locked(&record, GENEROUS).unwrap_err()] {
        assert!(error.is(Errno::EMSGSIZE) && error.true_size() == record.len(), "{error}");
    }
    assert_eq!(file.size().unwrap(), 0);
}

#[test]
fn until_exists_follows_a_link_that_is_switched() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    for name in ["before", "after"] {
        std::fs::create_dir(path(name)).unwrap();
    }
    symlink(path("before"), path("current")).unwrap();
    symlink(path("after"), path("next")).unwrap();
    let address = at(&directory, "current/file");
    std::thread::scope(|threads| {
        let waiter = threads.spawn(|| File::until_exists(&address, GENEROUS));
        std::thread::sleep(Duration::from_millis(50));
        std::fs::rename(path("next"), path("current")).unwrap();
        std::fs::write(path("after").join("file"), b"").unwrap();
        waiter.join().unwrap().unwrap();
    });
    assert!(File::until_exists(&at(&directory, "current/other"), SHORT).unwrap_err().is(Errno::ETIMEDOUT));
}
