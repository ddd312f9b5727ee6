//! Many processes on few processors, some of them stopped, a file system without room, and no descriptors left.

mod support;

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};
use nix::sys::resource::{Resource, setrlimit};
use support::{Child, GENEROUS, eventually, fork};
use wigwag::{
    Cell, CellOptions, Mutex, MutexOptions, Ring, RingOptions, SubscribeOptions, Timeout, Topic, TopicOptions,
};

/// Counters that all processes of a test share.
fn counters() -> &'static [AtomicU64; 64] {
    let (page, size) = (ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, 4096.try_into().unwrap());
    // SAFETY: a new mapping of zeros, never unmapped, reached through atomics only.
    unsafe { mmap_anonymous(None, size, page, MapFlags::MAP_SHARED).unwrap().cast().as_ref() }
}

fn sum(counters: &[AtomicU64]) -> u64 {
    counters.iter().map(|counter| counter.load(SeqCst)).sum()
}

#[test]
fn a_ring_of_thirty_two_processes() {
    const EACH: u64 = 300;
    let options = RingOptions { capacity: 4096, largest: 16, participants: 40, persistent: true, ..Default::default() };
    let ring = Ring::anonymous(options).unwrap();
    let came = counters();
    let producers: Vec<Child> = (0..16u64)
        .map(|number| {
            fork(|| {
                let messages = number * EACH..(number + 1) * EACH;
                messages.for_each(|id| ring.send(&id.to_ne_bytes(), GENEROUS).unwrap());
            })
        })
        .collect();
    let consumers: Vec<Child> = (0..16)
        .map(|number| {
            let ring = &ring;
            fork(move || {
                let mut buffer = [0; 16];
                loop {
                    assert_eq!(ring.recv(&mut buffer, GENEROUS).unwrap().length, 8);
                    let id = u64::from_ne_bytes(buffer[..8].try_into().unwrap());
                    if id == u64::MAX {
                        break;
                    }
                    came[number].fetch_add(1, SeqCst);
                    came[16 + number].fetch_add(id, SeqCst);
                }
            })
        })
        .collect();
    // Three consumers do nothing for a while: the others go on, with what those have in hand to come.
    let stopped = &consumers[..3];
    stopped.iter().for_each(|child| child.kill(libc::SIGSTOP));
    producers.into_iter().for_each(Child::join);
    eventually("all but what the stopped have in hand has come", || sum(&came[..16]) >= 16 * EACH - 3);
    stopped.iter().for_each(|child| child.kill(libc::SIGCONT));
    eventually("all has come", || sum(&came[..16]) == 16 * EACH);
    consumers.iter().for_each(|_| ring.send(&u64::MAX.to_ne_bytes(), GENEROUS).unwrap());
    consumers.into_iter().for_each(Child::join);
    assert_eq!(sum(&came[16..32]), (0..16 * EACH).sum::<u64>(), "each once");
    let books = ring.statistics().unwrap();
    assert_eq!((books.sent, books.released), (16 * EACH + 16, 16 * EACH + 16), "{books:?}");
}

#[test]
fn a_topic_and_a_cell_of_thirty_two_processes() {
    const MESSAGES: u64 = 100;
    let topic =
        Topic::anonymous(TopicOptions { capacity: 1 << 16, largest: 64, participants: 40, ..Default::default() });
    let cell = Cell::anonymous(CellOptions { largest: 64, participants: 40, ..Default::default() }).unwrap();
    let (topic, done) = (topic.unwrap(), counters());
    let value = |number: u64| [number; 8].map(u64::to_ne_bytes).concat();
    cell.write(&value(0)).unwrap();
    // Sixteen without loss, fifteen with, and readers of the cell in each.
    let children: Vec<Child> = (0..31)
        .map(|number| {
            let (topic, cell, value) = (&topic, &cell, &value);
            fork(move || {
                let lossy = number % 2 == 1;
                let subscription = topic.subscribe(SubscribeOptions { lossy, ..Default::default() }).unwrap();
                done[number].store(1, SeqCst);
                let (mut buffer, mut seen) = ([0; 64], 0);
                while seen < MESSAGES {
                    let received = subscription.recv(&mut buffer, GENEROUS).unwrap();
                    let id = u64::from_ne_bytes(buffer[..8].try_into().unwrap());
                    assert_eq!(received.length, 64);
                    assert_eq!(buffer[..], value(id)[..], "torn");
                    assert!(if lossy { id > seen } else { id == seen + 1 }, "{id} after {seen}");
                    seen = id;
                    cell.read(&mut buffer).unwrap();
                    let latest = u64::from_ne_bytes(buffer[..8].try_into().unwrap());
                    assert_eq!(buffer[..], value(latest)[..], "torn");
                }
            })
        })
        .collect();
    eventually("all have subscribed", || sum(&done[..31]) == 31);
    // Lossy ones that do nothing are in nobody's way.
    let stopped = [&children[1], &children[3], &children[5]];
    stopped.iter().for_each(|child| child.kill(libc::SIGSTOP));
    for id in 1..=MESSAGES {
        cell.write(&value(id)).unwrap();
        topic.publish(&value(id), GENEROUS).unwrap();
    }
    stopped.iter().for_each(|child| child.kill(libc::SIGCONT));
    children.into_iter().for_each(Child::join);
}

#[test]
fn a_file_system_without_room() {
    fork(|| {
        // SAFETY: a plain system call, in a child with one thread.
        if unsafe { libc::unshare(libc::CLONE_NEWNS) } != 0
            && let Err(reason) = support::unshare(libc::CLONE_NEWNS)
        {
            return skip!(reason);
        }
        use nix::mount::{MsFlags, mount};
        let directory = tempfile::tempdir().unwrap();
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
        mount(Some("tmpfs"), directory.path(), Some("tmpfs"), MsFlags::empty(), Some("size=256k")).unwrap();
        let path = |name: &str| format!("{}/{name}", directory.path().display());
        let small = RingOptions { capacity: 65536, largest: 1024, participants: 8, ..Default::default() };
        let ring = Ring::open(&format!("ring:{}", path("small")).parse().unwrap(), small.clone()).unwrap();
        // What does not fit is refused when it is made, by name, and leaves nothing.
        let large = RingOptions { capacity: 1 << 20, ..small.clone() };
        let error = Ring::open(&format!("ring:{}", path("large")).parse().unwrap(), large).unwrap_err();
        assert!(error.is(Errno::ENOSPC) && error.to_string().contains("large"), "{error}");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
        // With not one page left, what is there works: all of it was reserved.
        let rest = vec![1; 1 << 20];
        assert!(std::fs::write(path("rest"), &rest).is_err());
        for _ in 0..3 {
            while ring.send(&[7; 1024], Timeout::Now).is_ok() {}
            while ring.recv(&mut [0; 1024], Timeout::Now).is_ok() {}
        }
        assert!(ring.statistics().unwrap().sent >= 48);
        nix::mount::umount2(directory.path(), nix::mount::MntFlags::MNT_DETACH).unwrap();
    })
    .join();
}

#[test]
fn no_descriptors_left() {
    fork(|| {
        let mutex = Mutex::anonymous(MutexOptions { participants: 200, ..Default::default() }).unwrap();
        let used = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64;
        setrlimit(Resource::RLIMIT_NOFILE, used + 20, used + 20).unwrap();
        let mut open = Vec::new();
        let error = loop {
            let fd = match mutex.as_fd().try_clone_to_owned() {
                Ok(fd) => fd,
                Err(error) => break error.raw_os_error().unwrap(),
            };
            match Mutex::from_fd(fd, MutexOptions::default()) {
                Ok(other) => open.push(other),
                Err(error) => break error.errno(),
            }
        };
        assert_eq!(error, libc::EMFILE);
        assert!(!open.is_empty());
        assert!(Mutex::anonymous(MutexOptions::default()).unwrap_err().is(Errno::EMFILE));
        // Those that are open go on, waits included.
        let begun = Instant::now();
        let guard = mutex.lock(GENEROUS).unwrap().into_guard();
        let other = open.pop().unwrap();
        let wait = Timeout::After(Duration::from_millis(20));
        assert!(other.lock(wait).unwrap_err().is(Errno::ETIMEDOUT) && begun.elapsed() >= Duration::from_millis(20));
        drop(guard);
        drop(other.lock(GENEROUS).unwrap());
        // And with one closed there is room for one.
        drop(other);
        drop(Mutex::from_fd(mutex.as_fd().try_clone_to_owned().unwrap(), MutexOptions::default()).unwrap());
    })
    .join();
}
