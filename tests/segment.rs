//! Who is alive, in every case of the design's table, seen through a ring; and what is under a name.

mod support;

use std::cell::RefCell;
use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use support::{GENEROUS, SHORT, eventually, fork};
use wigwag::{
    Address, Cell, CellOptions, Ring, RingConsumer, RingOptions, RingProducer, SubscribeOptions, Timeout, Topic,
    TopicOptions,
};

fn options() -> RingOptions {
    RingOptions { capacity: 512, largest: 100, participants: 8, persistent: true, ..Default::default() }
}

fn ring() -> Ring {
    Ring::anonymous(options()).unwrap()
}

/// A ring on the same segment, as if the descriptor had been passed.
fn again(ring: &Ring) -> Ring {
    Ring::from_fd(ring.as_fd().try_clone_to_owned().unwrap(), options()).unwrap()
}

/// Whether a message that somebody else holds comes back, which it does only from the dead.
fn comes_back(ring: &Ring) -> bool {
    match ring.recv(&mut [0; 100], Timeout::After(Duration::from_millis(2500))) {
        Ok(received) => received.is_redelivered(),
        Err(error) if error.is(Errno::ETIMEDOUT) => false,
        Err(error) => panic!("{error}"),
    }
}

fn stop_self() {
    // SAFETY: stops this process until another continues it.
    unsafe { libc::raise(libc::SIGSTOP) };
}

#[test]
fn stopped_is_alive_and_zombie_is_dead() {
    let ring = ring();
    ring.send(b"x", Timeout::Now).unwrap();
    let child = fork(|| {
        let _held = ring.borrow(GENEROUS).unwrap();
        stop_self();
    });
    support::eventually("taken", || ring.statistics().unwrap().borrowed == 1);
    assert!(!comes_back(&ring), "stopped is alive");
    child.kill(libc::SIGKILL);
    assert!(comes_back(&ring), "not reaped, but dead");
    child.wait();
}

#[test]
fn dead_parent_of_a_living_child() {
    let (ring, ready) = (ring(), ring());
    ring.send(b"x", Timeout::Now).unwrap();
    let parent = fork(|| {
        let own = again(&ring); // what a child inherits is this very handle
        let _held = own.borrow(GENEROUS).unwrap();
        let child = fork(|| {
            ready.send(&std::process::id().to_ne_bytes(), GENEROUS).unwrap();
            std::thread::sleep(Duration::from_secs(60));
        });
        std::mem::forget(child);
        std::thread::sleep(Duration::from_secs(60));
    });
    let mut pid = [0; 4];
    ready.recv(&mut pid, GENEROUS).unwrap();
    assert!(!comes_back(&ring));
    parent.kill(libc::SIGKILL);
    assert!(comes_back(&ring), "although the child has inherited everything");
    parent.wait();
    kill(u32::from_ne_bytes(pid));
}

#[test]
fn dead_parent_of_a_child_made_by_a_bare_system_call() {
    let (ring, ready) = (ring(), ring());
    ring.send(b"x", Timeout::Now).unwrap();
    let parent = fork(|| {
        let own = again(&ring);
        let _held = own.borrow(GENEROUS).unwrap();
        // SAFETY: fork without the C library: no handler runs, and the child keeps what handlers would close. It only
        // sleeps.
        match unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) } {
            // SAFETY: as above.
            0 => unsafe {
                libc::alarm(60);
                libc::pause();
                libc::_exit(0);
            },
            pid => ready.send(&(pid as u32).to_ne_bytes(), GENEROUS).unwrap(),
        }
        std::thread::sleep(Duration::from_secs(60));
    });
    let mut pid = [0; 4];
    ready.recv(&mut pid, GENEROUS).unwrap();
    parent.kill(libc::SIGKILL);
    assert!(comes_back(&ring), "although a copy of its lock lives on");
    parent.wait();
    kill(u32::from_ne_bytes(pid));
}

/// Ends a child of a dead child, which is not ours to reap.
fn kill(pid: u32) {
    // SAFETY: the pid is that of a process that sleeps until this signal; nobody else ends it.
    unsafe { libc::kill(pid.cast_signed(), libc::SIGKILL) };
}

#[test]
fn child_with_an_inherited_handle_is_somebody_of_its_own() {
    let ring = ring();
    let own = again(&ring);
    own.send(b"x", Timeout::Now).unwrap();
    let held = own.borrow(Timeout::Now).unwrap();
    let child = fork(|| {
        own.send(b"y", GENEROUS).unwrap();
        let me = own.statistics().unwrap().participants.into_iter().find(|peer| peer.is_self).unwrap();
        assert_eq!((me.pid, me.holding), (Some(std::process::id()), 0));
    });
    child.join();
    let peers = ring.statistics().unwrap().participants;
    let mine = peers.iter().find(|peer| !peer.is_self && peer.pid == Some(std::process::id())).unwrap();
    assert_eq!(mine.holding, 1);
    held.release().unwrap();
}

#[test]
fn end_of_a_thread_is_no_death() {
    let ring = ring();
    let other = again(&ring);
    ring.send(b"x", Timeout::Now).unwrap();
    // The guard outlives the thread that made it.
    let held = std::thread::scope(|threads| threads.spawn(|| other.borrow(GENEROUS).unwrap()).join().unwrap());
    assert!(!comes_back(&ring));
    held.release().unwrap();
}

#[test]
fn main_thread_may_end_before_the_others() {
    let ring = ring();
    ring.send(b"x", Timeout::Now).unwrap();
    let child = fork(|| {
        let own = Box::leak(Box::new(again(&ring)));
        std::thread::spawn(|| {
            let _held = own.borrow(GENEROUS).unwrap();
            std::thread::sleep(Duration::from_secs(60));
        });
        // SAFETY: ends the main thread alone; the process lives on, and looks like a zombie in /proc.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
    });
    support::eventually("taken", || ring.statistics().unwrap().borrowed == 1);
    assert!(!comes_back(&ring));
    child.kill(libc::SIGKILL);
    assert!(comes_back(&ring));
    child.wait();
}

#[test]
fn descriptors_passed_on_duplicated_and_closed_change_nothing() {
    let ring = ring();
    let holder = again(&ring);
    ring.send(b"x", Timeout::Now).unwrap();
    let held = holder.borrow(Timeout::Now).unwrap();
    drop(holder.as_fd().try_clone_to_owned().unwrap());
    drop(again(&holder));
    // Another description of the same file in the same process: closing it would drop a classic record lock.
    drop(fs::File::open(format!("/proc/self/fd/{}", holder.as_fd().as_raw_fd())).unwrap());
    let child = fork(|| drop(again(&ring)));
    child.join();
    assert!(!comes_back(&ring));
    held.release().unwrap();
    ring.send(b"y", Timeout::Now).unwrap();
    holder.recv(&mut [0; 9], Timeout::Now).unwrap();
}

#[test]
fn peer_in_another_pid_namespace() {
    let ring = ring();
    ring.send(b"x", Timeout::Now).unwrap();
    let outer = fork(|| {
        // An ordinary user needs a user namespace for it.
        let flags = nix::sched::CloneFlags::CLONE_NEWPID;
        let unshared =
            nix::sched::unshare(flags).or_else(|_| nix::sched::unshare(flags | nix::sched::CloneFlags::CLONE_NEWUSER));
        if unshared.is_err() {
            // SAFETY: leaves with the status that says that this system does not allow it.
            unsafe { libc::_exit(77) };
        }
        // The first process of the new namespace.
        let inner = fork(|| {
            assert_eq!(std::process::id(), 1);
            assert!(ring.recv(&mut [0; 9], SHORT).is_ok(), "right this way round as well");
            ring.send(b"x", GENEROUS).unwrap();
            let peers = ring.statistics().unwrap().participants;
            assert!(peers.iter().any(|peer| !peer.is_self && peer.pid.is_none()), "{peers:?}");
            // Here /proc shows the outer namespace's processes, and under these numbers there are others.
            let sibling = fork(|| {
                let _held = ring.borrow(GENEROUS).unwrap();
                std::thread::sleep(Duration::from_secs(60));
            });
            support::eventually("taken", || ring.statistics().unwrap().borrowed == 1);
            assert!(!comes_back(&ring), "alive");
            sibling.kill(libc::SIGKILL);
            sibling.wait();
            assert!(comes_back(&ring), "dead");
            ring.send(b"x", GENEROUS).unwrap();
            let _held = ring.borrow(GENEROUS).unwrap();
            ring.send(b"ready", GENEROUS).unwrap();
            std::thread::sleep(Duration::from_secs(60));
        });
        inner.wait();
    });
    let mut buffer = [0; 9];
    let mut status = 0;
    let ready = loop {
        // SAFETY: our child, and a live local.
        if unsafe { libc::waitpid(outer.pid(), &mut status, libc::WNOHANG) } == outer.pid() {
            break false;
        }
        if ring.statistics().unwrap().borrowed == 1 && ring.statistics().unwrap().queued == 1 {
            break true;
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    if !ready {
        assert_eq!(libc::WEXITSTATUS(status), 77, "the child failed");
        eprintln!("skipped: no pid namespaces here");
        std::mem::forget(outer); // reaped above
        return;
    }
    assert_eq!(ring.recv(&mut buffer, GENEROUS).unwrap().length, 5);
    assert!(!comes_back(&ring), "alive, although its pid says nothing here");
    outer.kill(libc::SIGKILL); // and its child with it, which has asked for that
    assert!(comes_back(&ring));
    outer.wait();
}

#[test]
fn declared_dead_by_mistake_is_fenced() {
    let ring = ring();
    let victim = again(&ring);
    ring.send(b"x", Timeout::Now).unwrap();
    let guards = RefCell::new(Some((victim.borrow(Timeout::Now).unwrap(), victim.reserve(1, Timeout::Now).unwrap())));
    lose_second_lock(&ring);
    assert!(comes_back(&ring), "whoever has no lock is dead to the others");
    let (borrowed, reserved) = guards.take().unwrap();
    let error = borrowed.release().unwrap_err();
    assert!(error.is(Errno::ESTALE) && error.reason().contains("declared dead"));
    assert!(reserved.commit().unwrap_err().is(Errno::ESTALE));
    assert!(victim.send(b"y", Timeout::Now).unwrap_err().is(Errno::ESTALE));
    let books = ring.statistics().unwrap();
    assert_eq!((books.sent, books.released, books.skipped, books.queued), (1, 1, 1, 0));
}

#[test]
fn fenced_in_a_ring_it_spoils_nothing_of_its_successor() {
    let ring = ring();
    let victim = again(&ring);
    let mut reserved = victim.reserve(1, Timeout::Now).unwrap();
    lose_second_lock(&ring);
    eventually("it is found dead", || {
        let _ = ring.recv(&mut [], SHORT);
        ring.statistics().unwrap().skipped == 1
    });
    assert_eq!(reserved.write(0, b"x"), 0);
    let filled = (0..).take_while(|_| ring.send(b"12345678", Timeout::Now).is_ok()).count();
    assert_eq!(reserved.write(0, b"x"), 0);
    assert!(reserved.commit().unwrap_err().is(Errno::ESTALE));
    let mut buffer = [0; 100];
    for _ in 0..filled {
        let length = ring.recv(&mut buffer, Timeout::Now).unwrap().length;
        assert_eq!(&buffer[..length], b"12345678");
    }
}

#[test]
fn fenced_in_a_one_to_one_ring_it_spoils_nothing_of_its_successor() {
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let address: Address = format!("ring:{}/one", directory.path().display()).parse().unwrap();
    let options = || RingOptions { participants: 0, ..options() };
    let mut consumer = RingConsumer::open(&address, options()).unwrap();
    let mut victim = RingProducer::open(&address, options()).unwrap();
    let mut reserved = victim.reserve(8, Timeout::Now).unwrap();
    lose_second_lock(&consumer);
    let mut successor = None;
    eventually("it is found dead", || {
        successor = RingProducer::open(&address, options()).ok();
        successor.is_some()
    });
    let mut own = successor.as_mut().unwrap().reserve(8, Timeout::Now).unwrap();
    assert_eq!(own.write(0, b"12345678"), 8);
    assert_eq!(reserved.write(0, b"abcdefgh"), 0);
    own.commit().unwrap();
    assert!(reserved.commit().unwrap_err().is(Errno::ESTALE));
    let mut buffer = [0; 100];
    let length = consumer.recv(&mut buffer, Timeout::Now).unwrap().length;
    assert_eq!(&buffer[..length], b"12345678");
}

#[test]
fn fenced_in_a_cell_it_spoils_nothing_of_its_successor() {
    let cell = Cell::anonymous(CellOptions::default()).unwrap();
    let victim = Cell::from_fd(cell.as_fd().try_clone_to_owned().unwrap(), CellOptions::default()).unwrap();
    let mut reserved = victim.reserve(1).unwrap();
    let mut buffer = vec![0; cell.largest()];
    lose_second_lock(&cell);
    eventually("it is found dead", || {
        let _ = cell.wait_read(0, &mut buffer, SHORT);
        cell.statistics().unwrap().skipped == 1
    });
    cell.write(b"12345678").unwrap(); // in the same buffer
    assert_eq!(reserved.write(0, b"x"), 0);
    assert!(reserved.publish().unwrap_err().is(Errno::ESTALE));
    let length = cell.read(&mut buffer).unwrap().length;
    assert_eq!(&buffer[..length], b"12345678");
}

#[test]
fn fenced_in_a_topic_it_spoils_nothing_of_its_successor() {
    let topic = Topic::anonymous(TopicOptions::default()).unwrap();
    let victim = Topic::from_fd(topic.as_fd().try_clone_to_owned().unwrap(), TopicOptions::default()).unwrap();
    let mut reserved = victim.reserve(1, Timeout::Now).unwrap();
    let subscription = topic.subscribe(SubscribeOptions::default()).unwrap();
    lose_second_lock(&topic);
    let mut buffer = vec![0; 100];
    eventually("it is found dead", || {
        let _ = subscription.recv(&mut buffer, SHORT);
        topic.statistics().unwrap().skipped == 1
    });
    topic.publish(b"12345678", Timeout::Now).unwrap(); // in the same blocks
    assert_eq!(reserved.write(0, b"x"), 0);
    assert!(reserved.publish().unwrap_err().is(Errno::ESTALE));
    let length = subscription.recv(&mut buffer, Timeout::Now).unwrap().length;
    assert_eq!(&buffer[..length], b"12345678");
}

/// Has this process's handle at index 1 hold no lock any more, which only a process that closes descriptors which are not its own
/// can bring about.
fn lose_second_lock(object: &impl AsFd) {
    for entry in fs::read_dir("/proc/self/fdinfo").unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap_or_default();
        // The one on the byte after the first.
        let byte = format!("{} {}", (1u64 << 62) + 1, (1u64 << 62) + 1);
        if text.contains("OFDLCK") && text.contains(&byte) && is_file_of(&path, object) {
            let fd: i32 = path.file_name().unwrap().to_str().unwrap().parse().unwrap();
            // SAFETY: breaks the library's hold on its own descriptor, which is what this test is about.
            unsafe { libc::dup2(fs::File::open("/dev/null").unwrap().as_raw_fd(), fd) };
        }
    }
}

fn is_file_of(fdinfo: &Path, ring: &impl AsFd) -> bool {
    let fd = fdinfo.file_name().unwrap();
    let Ok(status) = fs::metadata(Path::new("/proc/self/fd").join(fd)) else { return false };
    status.ino() == nix::sys::stat::fstat(ring.as_fd()).unwrap().st_ino
}

#[test]
fn everybody_dies_at_once_and_the_next_goes_on() {
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let address: Address = format!("ring:{}/r", directory.path().display()).parse().unwrap();
    for round in 0..12u64 {
        // More rounds than places: the dead's are taken over.
        let child = fork(|| {
            let ring = Ring::open(&address, options()).unwrap();
            let _half = ring.reserve(5, GENEROUS).unwrap();
            // SAFETY: ends this process without any clean-up.
            unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
        });
        child.wait();
        let ring = Ring::open(&address, options()).unwrap();
        let _ = ring.recv(&mut [0; 9], SHORT).unwrap_err();
        let books = ring.statistics().unwrap();
        assert_eq!((books.skipped, books.writing, books.participants.len()), (round + 1, 0, 1));
    }
}

// --- names ---

#[test]
fn what_is_not_a_segment_is_refused_and_left() {
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = directory.path().join("r");
    let address: Address = format!("ring:{}", path.display()).parse().unwrap();
    let refused = |errno: Errno, text: &str| {
        let error = Ring::open(&address, options()).unwrap_err();
        assert!(error.is(errno) && error.reason().contains(text), "{error}");
    };
    for content in [&b""[..], b"hello", &[0; 5000]] {
        fs::write(&path, content).unwrap();
        refused(Errno::EBADMSG, "not a segment");
        assert!(Ring::remove(&address).unwrap_err().is(Errno::EBADMSG));
    }
    fs::remove_file(&path).unwrap();
    let topic: Address = format!("topic:{}", path.display()).parse().unwrap();
    let _ring = Ring::open(&address, options()).unwrap();
    let kept = wigwag::Topic::remove(&topic).unwrap_err();
    assert!(kept.is(Errno::EBADMSG) && kept.reason().contains("a ring"), "{kept}");
    assert!(path.exists());
    Ring::remove(&address).unwrap();
    symlink("elsewhere", &path).unwrap();
    refused(Errno::ELOOP, "symbolic link");
    fs::remove_file(&path).unwrap();
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    refused(Errno::EBADMSG, "not a segment");
    let missing: Address = format!("ring:{}/no/r", directory.path().display()).parse().unwrap();
    assert!(Ring::open(&missing, options()).unwrap_err().is(Errno::ENOENT));
}

/// Opens a ring whose header was changed at this offset.
fn open_changed(offset: u64, bytes: &[u8]) -> wigwag::Error {
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = directory.path().join("r");
    let address: Address = format!("ring:{}", path.display()).parse().unwrap();
    drop(Ring::open(&address, options()).unwrap());
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(bytes, offset).unwrap();
    Ring::open(&address, options()).unwrap_err()
}

#[test]
fn contradictions_are_found() {
    let error = open_changed(8, &77u32.to_ne_bytes());
    assert!(error.is(Errno::EPROTO), "{error}");
    assert!(error.reason().contains("layout is 77") && error.reason().contains("library's is 8"), "{error}");
    let error = open_changed(12, &9u32.to_ne_bytes());
    assert!(error.is(Errno::EBADMSG) && error.reason().contains("kind 9"), "{error}");
    let fields = [(16, u64::MAX), (24, u64::MAX), (24, 0), (32, 0), (32, 1 << 40), (40, u64::MAX), (40, 1 << 40)];
    // Body: slots, lanes, stride, largest.
    let body = (256 + 8 * 64u64).next_multiple_of(128);
    let fields = fields.into_iter().chain([(body, 3), (body, 1 << 60), (body, 0), (body + 8, 0), (body + 8, 9)]);
    let fields = fields.chain([(body + 8, 1 << 33), (body + 16, 8), (body + 16, 1 << 50)]);
    // And chunks.
    let fields = fields.chain([(body + 48, 1), (body + 48, 1 << 40), (body + 48, u64::MAX)]);
    for (offset, value) in fields.chain([(body + 24, 1 << 20), (body + 24, u64::MAX)]) {
        let error = open_changed(offset, &value.to_ne_bytes());
        assert!(error.is(Errno::EBADMSG), "{offset} {value}: {error}");
    }
}

#[test]
fn cut_short_is_found_on_opening() {
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = directory.path().join("r");
    let address: Address = format!("ring:{}", path.display()).parse().unwrap();
    drop(Ring::open(&address, options()).unwrap());
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(4096 - 1).unwrap();
    assert!(Ring::open(&address, options()).unwrap_err().is(Errno::EBADMSG));
}

#[test]
fn directory_and_permissions() {
    // In a process of its own, as the environment is everybody's.
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let inside = directory.path().join("own");
    let child = fork(|| {
        // SAFETY: this process has a single thread.
        unsafe { std::env::set_var("WIGWAG_DIR", &inside) };
        let ring = Ring::open(&"ring:r?mode=0640".parse().unwrap(), options()).unwrap();
        assert_eq!(fs::metadata(&inside).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(inside.join("r.ring")).unwrap().permissions().mode() & 0o777, 0o640);
        drop(ring);
        let link = inside.with_file_name("link");
        symlink(&inside, &link).unwrap();
        // SAFETY: as above.
        unsafe { std::env::set_var("WIGWAG_DIR", &link) };
        let error = Ring::open(&"ring:r".parse().unwrap(), options()).unwrap_err();
        assert!(error.is(Errno::EACCES) && error.reason().contains("is a link"), "{error}");
        // SAFETY: as above.
        unsafe {
            std::env::set_var("WIGWAG_DIR", if nix::unistd::geteuid().is_root() { "/proc/1/fd/nowhere" } else { "/" })
        };
        assert!(Ring::open(&"ring:r".parse().unwrap(), options()).is_err());
    });
    child.join();
}

#[test]
fn all_who_create_at_once_get_the_same() {
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let address: Address = format!("ring:{}/r", directory.path().display()).parse().unwrap();
    let children: Vec<_> = (0..6)
        .map(|n: u8| {
            fork(|| {
                let ring = Ring::open(&address, RingOptions { capacity: 1024, ..options() }).unwrap();
                ring.send(&[n], GENEROUS).unwrap();
            })
        })
        .collect();
    children.into_iter().for_each(support::Child::join);
    let ring = Ring::open(&address, options()).unwrap();
    assert_eq!(ring.statistics().unwrap().queued, 6);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "and nothing else is left");
}

#[test]
fn no_room_is_an_error_at_once() {
    // Far more than the machine has, and yet a size that a file can have.
    let error = Ring::anonymous(RingOptions { capacity: 1 << 63, largest: 1 << 20, ..options() }).unwrap_err();
    assert!(error.is(Errno::ENOSPC) && error.reason().contains("lower the capacity"), "{error}");
}

#[test]
fn full_file_system_is_an_error_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let child = fork(|| {
        let flags = nix::sched::CloneFlags::CLONE_NEWNS;
        let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
        let unshared = nix::sched::unshare(flags).or_else(|_| {
            // As an ordinary user, in a namespace in which it is root.
            nix::sched::unshare(flags | nix::sched::CloneFlags::CLONE_NEWUSER)?;
            let write = |file, text: String| fs::write(file, text).map_err(|_| Errno::EPERM);
            write("/proc/self/setgroups", "deny".into())?;
            write("/proc/self/uid_map", format!("0 {uid} 1"))?;
            write("/proc/self/gid_map", format!("0 {gid} 1"))
        });
        let private = nix::mount::MsFlags::MS_PRIVATE | nix::mount::MsFlags::MS_REC;
        let mounted = unshared
            .and_then(|()| nix::mount::mount(None::<&str>, "/", None::<&str>, private, None::<&str>))
            .and_then(|()| {
                let no_flags = nix::mount::MsFlags::empty();
                nix::mount::mount(Some("tmpfs"), directory.path(), Some("tmpfs"), no_flags, Some("size=256k"))
            });
        if mounted.is_err() {
            eprintln!("skipped: no mounts here");
            return;
        }
        let address = format!("ring:{}/r", directory.path().display()).parse().unwrap();
        let error = Ring::open(&address, RingOptions { capacity: 1 << 19, ..options() }).unwrap_err();
        assert!(error.is(Errno::ENOSPC) && error.reason().contains("lower the capacity"), "{error}");
        Ring::open(&address, RingOptions { capacity: 1 << 16, ..options() }).unwrap();
    });
    child.join();
}
