//! Locks and the like in memory that the caller brought.

use std::fs::File;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;

use nix::errno::Errno;
use wigwag::{
    Barrier, BarrierOptions, Condition, ConditionOptions, Event, EventOptions, Mapping, Memfd, Mutex, MutexOptions,
    Permits, PermitsOptions, RwLock, RwLockOptions, Shm, Timeout,
};

use crate::shared_counter;
use crate::support::spoiling::{Numbers, spoil};
use crate::support::{GENEROUS, SHORT, eventually, fork, fresh};

/// Not at a page's begin, and over the end of one.
const AT: u64 = 3 * 128;

fn memory() -> Memfd {
    Memfd::new(1 << 17).unwrap()
}

fn few() -> MutexOptions {
    MutexOptions { participants: 4, ..Default::default() }
}

fn from(at: u64) -> Range<u64> {
    at..at + Mutex::placed_size_for(&few()).unwrap() as u64
}

fn mutex(memory: impl AsFd) -> Mutex {
    Mutex::place(memory, from(AT), few()).unwrap()
}

/// The file behind it, for a test to write to.
fn file(memory: impl AsFd) -> File {
    File::from(memory.as_fd().try_clone_to_owned().unwrap())
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: wigwag::Result<T>, errno: Errno, text: &str) {
    let error = result.unwrap_err();
    assert!(error.is(errno) && error.to_string().contains(text), "{error}");
}

#[test]
fn all_kinds_lie_side_by_side() {
    let memory = memory();
    let mut end = AT;
    let mut range = |size: usize| {
        let start = end.next_multiple_of(128);
        end = start + size as u64;
        start..end
    };
    let of_mutex = range(Mutex::placed_size_for(&MutexOptions::default()).unwrap());
    let of_condition = range(Condition::placed_size_for(&ConditionOptions::default()).unwrap());
    let of_rwlock = range(RwLock::placed_size_for(&RwLockOptions::default()).unwrap());
    let permits = PermitsOptions { count: 2, ..Default::default() };
    let of_permits = range(Permits::placed_size_for(&permits).unwrap());
    let barrier = BarrierOptions { parties: 2, ..Default::default() };
    let of_barrier = range(Barrier::placed_size_for(&barrier).unwrap());
    let of_event = range(Event::placed_size_for(&EventOptions::default()).unwrap());
    let value = shared_counter();
    // Both sides make what they find nothing of, and find what the other one made.
    let work = || {
        let barrier = Barrier::place(&memory, of_barrier.clone(), barrier.clone()).unwrap();
        let mutex = Mutex::place(&memory, of_mutex.clone(), MutexOptions::default()).unwrap();
        let condition = Condition::place(&memory, of_condition.clone(), ConditionOptions::default()).unwrap();
        let rwlock = RwLock::place(&memory, of_rwlock.clone(), RwLockOptions::default()).unwrap();
        let permits = Permits::place(&memory, of_permits.clone(), permits.clone()).unwrap();
        let event = Event::place(&memory, of_event.clone(), EventOptions::default()).unwrap();
        assert_eq!((mutex.placed(), event.placed()), (Some(of_mutex.clone()), Some(of_event.clone())));
        assert_eq!(mutex.address(), "mutex: at byte 384");
        for _ in 0..200 {
            let _guard = mutex.lock(GENEROUS).unwrap();
            value.store(value.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
            condition.notify_all().unwrap();
        }
        let guard = mutex.lock(GENEROUS).unwrap().into_guard();
        drop(condition.wait_while(guard, GENEROUS, |_| value.load(Ordering::Relaxed) < 400).unwrap());
        drop(rwlock.read(GENEROUS).unwrap());
        drop(rwlock.write(GENEROUS).unwrap());
        drop(permits.acquire(2, GENEROUS).unwrap());
        if barrier.wait(GENEROUS).unwrap() {
            event.set().unwrap();
        }
        event.wait(GENEROUS).unwrap();
        for known in [mutex.check(), condition.check(), rwlock.check(), permits.check(), barrier.check(), event.check()]
        {
            known.unwrap();
        }
    };
    let children = [fork(work), fork(work)];
    for child in children {
        child.join();
    }
    assert_eq!(value.load(Ordering::Relaxed), 400);
}

#[test]
fn the_dead_are_told_apart_by_place() {
    let memory = memory();
    let second = AT + from(AT).end.next_multiple_of(128);
    let place = |at| Mutex::place(&memory, from(at), few()).unwrap();
    let (first, second_mutex, held) = (place(AT), place(second), shared_counter());
    let victim = fork(|| {
        let (mine, other) = (place(AT), place(second));
        mine.take(GENEROUS).unwrap();
        other.take(GENEROUS).unwrap();
        other.release().unwrap();
        held.store(1, Ordering::Release);
        std::thread::sleep(std::time::Duration::from_secs(60));
    });
    eventually("the lock is held", || held.load(Ordering::Acquire) == 1);
    assert!(first.lock(SHORT).unwrap_err().is(Errno::ETIMEDOUT), "held by one that is alive");
    // A handle on the neighbour comes and goes, and so does one on the same: nobody's life hangs on either.
    drop((place(second), place(AT)));
    assert!(first.lock(SHORT).unwrap_err().is(Errno::ETIMEDOUT));
    victim.kill(libc::SIGKILL);
    victim.wait();
    assert!(first.lock(GENEROUS).unwrap().is_inherited());
    assert!(!second_mutex.lock(GENEROUS).unwrap().is_inherited());
    let others = first.statistics().unwrap().participants;
    assert_eq!(others.iter().filter(|participant| !participant.is_self).count(), 0);
}

#[test]
fn in_named_memory_and_in_files() {
    let address = format!("shm:/{}", fresh("placed")).parse().unwrap();
    let shm = Shm::create(&address, &wigwag::MemoryOptions { size: 1 << 16, ..Default::default() }).unwrap();
    let one = mutex(&shm);
    let again = Shm::open(&address, &Default::default(), Timeout::Now).unwrap();
    Shm::remove(&address).unwrap();
    let _held = one.lock(GENEROUS).unwrap();
    drop(shm); // the object has a mapping of its own
    assert!(mutex(&again).lock(Timeout::Now).unwrap_err().is(Errno::EAGAIN));

    let disk = tempfile::tempfile().unwrap();
    disk.set_len(1 << 16).unwrap();
    let one = mutex(&disk);
    let _held = one.lock(GENEROUS).unwrap();
    fork(|| assert!(mutex(&disk).lock(Timeout::Now).unwrap_err().is(Errno::EAGAIN))).join();
}

#[test]
fn what_does_not_fit_is_refused() {
    let memory = memory();
    let place = |range: Range<u64>| Mutex::place(&memory, range, few());
    let size = from(0).end;
    refused(place(8..8 + size), Errno::EINVAL, "multiples of 128");
    refused(place(0..size - 1), Errno::EINVAL, &format!("it takes {size} bytes, and the range has {}", size - 1));
    refused(place(128..128), Errno::EINVAL, "the range has 0");
    #[allow(clippy::reversed_empty_ranges)]
    refused(place(256..128), Errno::EINVAL, "the range has 0");
    refused(place((1 << 17) - 128..(1 << 17) + size), Errno::EINVAL, "ends at");
    refused(place(u64::MAX - 127..u64::MAX), Errno::EINVAL, "ends at");
    refused(place(0..(1 << 17) + 1), Errno::EINVAL, "make the memory larger");
    let many = MutexOptions { participants: 257, ..Default::default() };
    refused(Mutex::place(&memory, 0..size, many), Errno::EINVAL, "256");
    let pipe = std::io::pipe().unwrap();
    refused(Mutex::place(&pipe.0, 0..size, few()), Errno::ENODEV, "not that of shared memory");
    let read_only = File::open(format!("/proc/self/fd/{}", memory.as_fd().as_raw_fd())).unwrap();
    refused(Mutex::place(&read_only, 0..size, few()), Errno::EACCES, "");
    assert!(place(0..size).is_ok(), "nothing was written by what was refused");
    // Made with more than the range has.
    let large = Mutex::placed_size_for(&MutexOptions::default()).unwrap() as u64;
    Mutex::place(&memory, 8192..8192 + large, MutexOptions::default()).unwrap();
    refused(place(8192..8192 + size), Errno::EINVAL, &format!("it takes {large} bytes"));
}

#[test]
fn what_lies_there_is_not_overwritten() {
    let memory = memory();
    let data = file(&memory);
    for at in [0, 8, 256, 600] {
        data.write_all_at(b"somebody", AT + at).unwrap();
        refused(Mutex::place(&memory, from(AT), few()), Errno::EBADMSG, "something else lies there");
        let mut found = [0; 8];
        data.read_exact_at(&mut found, AT + at).unwrap();
        assert_eq!(&found, b"somebody");
        data.write_all_at(&[0; 8], AT + at).unwrap();
    }
    let first = mutex(&memory);
    refused(
        Event::place(&memory, from(AT), EventOptions::default()),
        Errno::EBADMSG,
        "a mutex (kind 5), expected an event",
    );
    data.write_all_at(&99u32.to_le_bytes(), AT + 8).unwrap();
    refused(Mutex::place(&memory, from(AT), few()), Errno::EPROTO, "its layout is 99");
    data.write_all_at(&[0; 1024], AT).unwrap();
    refused(first.check(), Errno::ESTALE, "it was removed");
    let anew = mutex(&memory);
    refused(first.check(), Errno::ESTALE, "");
    refused(first.lock(GENEROUS), Errno::ESTALE, "");
    drop(first);
    anew.lock(GENEROUS).map(drop).unwrap();
    anew.check().unwrap();
}

#[test]
fn one_is_made_by_those_who_come_at_once() {
    let (memory, total) = (memory(), shared_counter());
    for round in 0..20 {
        let range = from((AT + round * 2048).next_multiple_of(128));
        let start = shared_counter();
        let work = || {
            while start.load(Ordering::Acquire) == 0 {
                std::hint::spin_loop();
            }
            let mutex = Mutex::place(&memory, range.clone(), few()).unwrap();
            for _ in 0..50 {
                let _guard = mutex.lock(GENEROUS).unwrap();
                total.store(total.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
            }
        };
        let children = [fork(work), fork(work), fork(work)];
        start.store(1, Ordering::Release);
        for child in children {
            child.join();
        }
    }
    assert_eq!(total.load(Ordering::Relaxed), 20 * 3 * 50);
}

#[test]
fn what_a_dead_maker_left_is_made_whole() {
    let memory = memory();
    let data = file(&memory);
    data.write_all_at(b"wigwag\0?", AT).unwrap();
    data.write_all_at(&[0xff; 500], AT + 8).unwrap();
    let mutex = mutex(&memory);
    drop(mutex.lock(GENEROUS).unwrap());
    assert!(!mutex.lock(GENEROUS).unwrap().is_inherited());

    // And not while it is alive.
    data.write_all_at(b"wigwag\0?", AT + 8192).unwrap();
    let maker = File::options().read(true).write(true).open(format!("/proc/self/fd/{}", data.as_raw_fd())).unwrap();
    let mut lock = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: (1 << 62) + AT as i64 + 8192 + 256,
        l_len: 1,
        l_pid: 0,
    };
    // SAFETY: takes a pointer to a live local.
    assert_eq!(unsafe { libc::fcntl(maker.as_raw_fd(), libc::F_OFD_SETLK, &raw mut lock) }, 0);
    refused(Mutex::place(&memory, from(AT + 8192), few()), Errno::EBUSY, "another process is making it");
    drop(maker);
    Mutex::place(&memory, from(AT + 8192), few()).unwrap();
}

#[test]
fn a_child_takes_part_as_itself() {
    let memory = memory();
    let mutex = mutex(&memory);
    let guard = mutex.lock(GENEROUS).unwrap();
    fork(|| assert!(mutex.lock(SHORT).unwrap_err().is(Errno::ETIMEDOUT))).join();
    drop(guard);
    fork(|| std::mem::forget(mutex.lock(GENEROUS).unwrap())).join();
    assert!(mutex.lock(GENEROUS).unwrap().is_inherited());
}

#[test]
fn bytes_from_a_hostile_peer() {
    fork(|| {
        let mut numbers = Numbers(7);
        for _ in 0..2000 {
            let memory = memory();
            let data = file(&memory);
            let size = from(0).end;
            drop(Mutex::place(&memory, 0..size, few()));
            (0..1 + numbers.next() % 4).for_each(|_| spoil(&data, size, &mut numbers));
            let range = 0..[size, 1 << 17, 512][numbers.next() as usize % 3];
            if let Ok(mutex) = Mutex::place(&memory, range, few()) {
                let _ = (mutex.lock(Timeout::Now).map(drop), mutex.check(), mutex.statistics(), mutex.placed());
            }
        }
    })
    .join();
}

#[test]
fn the_callers_mapping_may_go_first() {
    let memory = memory();
    let mapping = Mapping::from_fd(&memory, &Default::default()).unwrap();
    let mutex = mutex(&memory);
    assert_ne!(mapping.load_u64(AT as usize).unwrap(), 0, "it is the same memory");
    drop((mapping, memory));
    drop(mutex.lock(GENEROUS).unwrap());
}
