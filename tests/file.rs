//! Disk files between processes: replacing under readers' eyes, appending together, locks that outlive nobody.

mod support;

use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use support::{Child, GENEROUS, SHORT, eventually, fork, fork_without, is_asleep, unshare};
use tempfile::TempDir;
use wigwag::{
    Address, Durability, File, FileCreate, FileEvents, FileOptions, FileRange, FileWatch, LockMode, ReplaceOptions,
    Scheme, Timeout,
};

const FAST: ReplaceOptions = ReplaceOptions { durability: Durability::None, mode: None };

fn place() -> (TempDir, Address) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x");
    let address = Address::from_parts(Scheme::File, path.as_os_str().as_encoded_bytes(), None, []).unwrap();
    (directory, address)
}

fn open(address: &Address) -> File {
    File::open(address, &FileOptions { create: FileCreate::IfMissing, ..Default::default() }).unwrap()
}

fn exclusive(file: &File, timeout: Timeout) -> wigwag::Result<wigwag::FileLock> {
    file.lock(LockMode::Exclusive, FileRange::WHOLE, timeout)
}

fn kill(child: Child) {
    child.kill(libc::SIGKILL);
    assert_eq!(ExitStatus::from_raw(child.wait()).signal(), Some(libc::SIGKILL));
}

#[test]
fn a_reader_never_sees_a_part() {
    let (directory, address) = place();
    let content = |n: u8| vec![b'a' + n % 26; 10_000 + usize::from(n) * 100];
    File::replace(&address, &content(0), &FAST).unwrap();
    let writers: Vec<_> = (0..2)
        .map(|_| {
            fork(|| {
                for n in 0..=255 {
                    File::replace(&address, &content(n), &FAST).unwrap();
                }
            })
        })
        .collect();
    for _ in 0..300 {
        let seen = File::load(&address, 1 << 20).unwrap();
        let n = u8::try_from((seen.len() - 10_000) / 100).unwrap();
        assert!(seen == content(n), "{} bytes that start with {:?}", seen.len(), seen.first());
    }
    writers.into_iter().for_each(Child::join);
    assert_eq!(directory.path().read_dir().unwrap().count(), 1, "nothing else is left");
}

#[test]
fn a_killed_writer_leaves_the_old_or_the_new() {
    let (directory, address) = place();
    let contents = [vec![b'1'; 300_000], vec![b'2'; 300_000]];
    File::replace(&address, &contents[0], &FAST).unwrap();
    for round in 0..20_u64 {
        let writer = fork(|| {
            loop {
                contents.iter().for_each(|content| File::replace(&address, content, &FAST).unwrap());
            }
        });
        std::thread::sleep(std::time::Duration::from_micros(500 + round * 137));
        kill(writer);
        let seen = File::load(&address, 1 << 20).unwrap();
        assert!(contents.contains(&seen), "{} bytes", seen.len());
    }
    // What a kill between the last two system calls leaves is complete, and named so that it can be told.
    for entry in directory.path().read_dir().unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(name == "x" || name.starts_with(".ww-new-"), "{name}");
    }
}

#[test]
fn records_of_several_processes_stay_whole() {
    let (_directory, address) = place();
    let record = |who: usize, n: usize| format!("{who}:{n}:{}\n", "x".repeat(n % 97));
    let writers: Vec<_> = (0..3)
        .map(|who| {
            let address = &address;
            fork(move || {
                let file = open(address);
                for n in 0..300 {
                    let record = record(who, n);
                    if n % 10 == 0 {
                        file.append_locked(record.as_bytes(), GENEROUS).unwrap();
                    } else {
                        file.append(record.as_bytes()).unwrap();
                    }
                }
            })
        })
        .collect();
    writers.into_iter().for_each(Child::join);
    let text = String::from_utf8(File::load(&address, 1 << 20).unwrap()).unwrap();
    let mut next = [0; 3];
    for line in text.split_inclusive('\n') {
        let who: usize = line[..1].parse().unwrap();
        assert_eq!(line, record(who, next[who]), "each writer's records are whole and in order");
        next[who] += 1;
    }
    assert_eq!(next, [300; 3]);
}

#[test]
fn a_limit_on_file_sizes_is_an_error_and_no_signal() {
    let (_directory, address) = place();
    fork(|| {
        let early = open(&address);
        let limit = libc::rlimit { rlim_cur: 100, rlim_max: 100 };
        // SAFETY: reads a live local; a limit of this child only.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) }, 0);
        let file = open(&address);
        file.append(&[b'a'; 60]).unwrap();

        let error = file.append_locked(&[b'b'; 60], GENEROUS).unwrap_err();
        assert_eq!((error.errno(), error.done()), (libc::EFBIG, 0));
        assert!(error.reason().starts_with("40 of 60 bytes fitted, the part was taken back"), "{error}");
        assert_eq!(file.size().unwrap(), 60);

        let error = file.append(&[b'c'; 60]).unwrap_err();
        assert_eq!((error.errno(), error.done()), (libc::EFBIG, 40));
        assert!(error.reason().contains("the part is left in the file"), "{error}");
        assert_eq!(file.size().unwrap(), 100);

        let error = early.append_locked(b"d", GENEROUS).unwrap_err(); // there was no limit when it was opened
        assert_eq!((error.errno(), error.done()), (libc::EFBIG, 0));
        let error = file.append(b"d").unwrap_err();
        assert_eq!((error.errno(), error.done()), (libc::EFBIG, 0));
        assert!(error.reason().contains("100 bytes (RLIMIT_FSIZE); nothing was appended"), "{error}");

        let error = File::replace(&address, &[b'e'; 101], &FAST).unwrap_err();
        assert!(error.errno() == libc::EFBIG && error.reason().contains("the file is as it was"), "{error}");
        assert_eq!(file.size().unwrap(), 100);
    })
    .join();
}

#[test]
fn a_lock_ends_with_its_holder() {
    let (_directory, address) = place();
    let file = open(&address);
    let holder = fork(|| {
        let _lock = exclusive(&open(&address), GENEROUS).unwrap();
        File::replace(&address_beside(&address, "held"), b"", &FAST).unwrap();
        loop {
            std::thread::park();
        }
    });
    File::until_exists(&address_beside(&address, "held"), GENEROUS).unwrap();
    assert_eq!(exclusive(&file, Timeout::Now).unwrap_err().errno(), libc::EAGAIN);
    let waiter = fork(|| exclusive(&open(&address), GENEROUS).unwrap().release());
    eventually("the waiter sleeps", || is_asleep(waiter.pid()));
    kill(holder);
    waiter.join();
    exclusive(&file, GENEROUS).unwrap().release();
}

#[test]
fn a_child_of_the_holder_does_not_keep_the_lock() {
    let (_directory, address) = place();
    let file = open(&address);
    let (reader, writer) = std::io::pipe().unwrap();
    let holder = fork(|| {
        let lock = exclusive(&open(&address), GENEROUS).unwrap();
        // SAFETY: this process's copy, which nothing in it uses; only the test's own keeps the pipe open.
        unsafe { libc::close(writer.as_raw_fd()) };
        // Forked with everything open, and alive longer than its parent: until the test closes the pipe.
        // SAFETY: the child only drops a value and waits.
        let grandchild = unsafe { libc::fork() };
        if grandchild == 0 {
            // SAFETY: a plain system call; the parent's alarm is not inherited.
            unsafe { libc::alarm(60) };
            drop(lock); // does nothing to the parent's
            File::replace(&address_beside(&address, "forked"), b"", &FAST).unwrap();
            let mut reader = reader;
            let _ = std::io::Read::read(&mut reader, &mut [0]);
            // SAFETY: ends the process.
            unsafe { libc::_exit(0) };
        }
        loop {
            std::thread::park();
        }
    });
    File::until_exists(&address_beside(&address, "forked"), GENEROUS).unwrap();
    assert_eq!(exclusive(&file, Timeout::Now).unwrap_err().errno(), libc::EAGAIN, "the parent has it still");
    kill(holder);
    exclusive(&file, GENEROUS).unwrap().release();
    drop(writer); // and only now the grandchild ends
}

#[test]
fn a_lock_taken_before_a_fork_stays_the_parents() {
    let (_directory, address) = place();
    let file = open(&address);
    let mut lock = Some(exclusive(&file, GENEROUS).unwrap());
    fork(|| {
        assert_eq!(exclusive(&file, Timeout::Now).unwrap_err().errno(), libc::EAGAIN);
        drop(lock.take());
        assert_eq!(exclusive(&file, Timeout::Now).unwrap_err().errno(), libc::EAGAIN);
    })
    .join();
    assert!(exclusive(&file, Timeout::Now).is_err(), "the child's drop released nothing");
    drop(lock);
    exclusive(&file, Timeout::Now).unwrap().release();
}

#[test]
fn a_watch_hears_another_process() {
    let (_directory, address) = place();
    let watch = FileWatch::open(&address, FileEvents::CLOSED | FileEvents::REMOVED).unwrap();
    let writer = fork(|| {
        let file = open(&address);
        file.append(b"all").unwrap();
        drop(file);
    });
    assert_eq!(watch.wait(GENEROUS).unwrap(), FileEvents::CLOSED);
    assert_eq!(File::load(&address, 10).unwrap(), b"all");
    writer.join();
    // A writer that is killed closes the file as well: closed says that nobody writes any more, not that all is there.
    let writer = fork(|| {
        let file = open(&address);
        file.append(b"half").unwrap();
        File::replace(&address_beside(&address, "opened"), b"", &FAST).unwrap();
        loop {
            std::thread::park();
        }
    });
    File::until_exists(&address_beside(&address, "opened"), GENEROUS).unwrap();
    assert_eq!(watch.wait(Timeout::Now).unwrap_err().errno(), libc::EAGAIN);
    kill(writer);
    assert_eq!(watch.wait(GENEROUS).unwrap(), FileEvents::CLOSED);
    File::remove(&address).unwrap();
    assert_eq!(watch.wait(GENEROUS).unwrap(), FileEvents::REMOVED);
}

#[test]
fn permission_refused() {
    let (directory, address) = place();
    File::replace(&address, b"kept", &FAST).unwrap();
    let watch = || FileWatch::open(&address, FileEvents::CLOSED);
    for (mode, may_look) in [(0o500, true), (0o000, false)] {
        fork(|| {
            if nix::unistd::geteuid().is_root() {
                std::os::unix::fs::chown(directory.path(), Some(65534), None).unwrap();
                std::os::unix::fs::chown(address.path(), Some(65534), None).unwrap();
                nix::unistd::setuid(65534.into()).unwrap();
            }
            let set = |mode| std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(mode)).unwrap();
            set(mode);
            let refused = |result: wigwag::Result<()>| {
                let error = result.unwrap_err();
                assert_eq!(error.name(), "EACCES", "{error}");
                assert_eq!(error.object(), Some(address.to_string().as_str()));
                assert_ne!(error.reason(), "Permission denied", "what to do is said: {error}");
            };
            refused(File::replace(&address, b"new", &FAST));
            refused(File::remove(&address));
            if may_look {
                assert_eq!(File::load(&address, 10).unwrap(), b"kept");
                watch().unwrap();
                std::fs::set_permissions(address.path(), PermissionsExt::from_mode(0o200)).unwrap();
            } else {
                refused(watch().map(drop));
            }
            refused(File::load(&address, 10).map(drop));
            refused(File::open(&address, &FileOptions::default()).map(drop));
            set(0o700);
            assert_eq!(directory.path().read_dir().unwrap().count(), 1, "nothing is left behind");
        })
        .join();
    }
    std::fs::set_permissions(address.path(), PermissionsExt::from_mode(0o600)).unwrap();
    assert_eq!(File::load(&address, 10).unwrap(), b"kept");
}

#[test]
fn no_more_watches_for_this_user() {
    let (_directory, address) = place();
    fork(|| {
        if let Err(why) = unshare(0) {
            return skip!(why);
        }
        std::fs::write("/proc/sys/user/max_inotify_instances", "0").unwrap();
        let error = FileWatch::open(&address, FileEvents::CLOSED).unwrap_err();
        assert_eq!(error.name(), "EMFILE");
        assert!(error.reason().contains("watches as fs.inotify.max_user_instances="), "{error}");
    })
    .join();
}

#[test]
fn replacing_keeps_the_owner_where_it_may() {
    if !nix::unistd::geteuid().is_root() {
        return skip!("only root may give files away");
    }
    let (_directory, address) = place();
    File::replace(&address, b"1", &FAST).unwrap();
    std::os::unix::fs::chown(address.path(), Some(12), Some(34)).unwrap();
    File::replace(&address, b"2", &FAST).unwrap();
    let metadata = std::fs::metadata(address.path()).unwrap();
    assert_eq!((metadata.uid(), metadata.gid()), (12, 34));
}

#[test]
fn a_file_that_may_not_be_linked_is_replaced_all_the_same() {
    let (directory, address) = place();
    for errno in [libc::ENOSYS, libc::EPERM] {
        fork_without(&[libc::SYS_linkat], errno, || {
            for content in [b"one", b"two"] {
                File::replace(&address, content, &ReplaceOptions::default()).unwrap();
                assert_eq!(File::load(&address, 10).unwrap(), content);
            }
        })
        .join();
    }
    assert_eq!(directory.path().read_dir().unwrap().count(), 1, "nothing else is left");
}

#[test]
fn without_timers_every_wait_still_ends() {
    let (_directory, address) = place();
    let file = open(&address);
    let _held = exclusive(&file, GENEROUS).unwrap();
    for errno in [libc::ENOSYS, libc::EPERM] {
        fork_without(&[libc::SYS_timer_create], errno, || {
            assert_eq!(exclusive(&file, SHORT).unwrap_err().errno(), libc::ETIMEDOUT);
            let watch = FileWatch::open(&address, FileEvents::REMOVED).unwrap();
            assert_eq!(watch.wait(SHORT).unwrap_err().errno(), libc::ETIMEDOUT);
            assert_eq!(File::until_exists(&address_beside(&address, "y"), SHORT).unwrap_err().errno(), libc::ETIMEDOUT);
        })
        .join();
    }
}

fn address_beside(address: &Address, name: &str) -> Address {
    Address::from_parts(Scheme::File, address.path().with_file_name(name).as_os_str().as_encoded_bytes(), None, [])
        .unwrap()
}
