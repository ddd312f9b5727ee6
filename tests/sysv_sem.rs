//! System V semaphore sets between threads and processes.

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use support::{GENEROUS, SHORT, eventually, fork, fresh, is_asleep, unshare_ipc};
use wigwag::{Address, Cancel, SemOp, SysvSem, SysvSemOptions, Timeout};

/// A set without a key, removed when dropped.
struct Private(SysvSem);

impl Private {
    fn new(values: &[u16]) -> Private {
        let options = SysvSemOptions { values: values.to_vec(), ..Default::default() };
        Private(SysvSem::create(&Address::parse("sysv-sem:private").unwrap(), &options).unwrap())
    }
}

impl std::ops::Deref for Private {
    type Target = SysvSem;

    fn deref(&self) -> &SysvSem {
        &self.0
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        let _ = self.0.unlink();
    }
}

/// A fresh file to derive a key from; its set is removed when dropped.
struct Key {
    address: Address,
    _file: tempfile::NamedTempFile,
}

impl Key {
    fn new() -> Key {
        let file = tempfile::Builder::new().prefix(&fresh("semkey")).tempfile().unwrap();
        let address = Address::parse(format!("sysv-sem:{}#65", file.path().display())).unwrap();
        // Another file of the same device may have given the same key, and left a set behind.
        let _ = SysvSem::remove(&address);
        Key { address, _file: file }
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        let _ = SysvSem::remove(&self.address);
    }
}

fn with(initial: u16) -> SysvSemOptions {
    SysvSemOptions { initial, ..Default::default() }
}

#[test]
fn counts_permits() {
    let set = Private::new(&[2]);
    let first = set.acquire(0, Timeout::Now).unwrap();
    let second = set.acquire(0, Timeout::Now).unwrap();
    assert_eq!(set.value(0).unwrap(), 0);
    let error = set.acquire(0, Timeout::Now).unwrap_err();
    assert!(error.is(Errno::EAGAIN));
    assert_eq!(error.to_string(), "acquire sysv-sem:private: EAGAIN: it would have to wait, and the timeout is zero");
    drop(first);
    second.release().unwrap();
    assert_eq!(set.value(0).unwrap(), 2);
    set.acquire(0, Timeout::Now).unwrap().keep();
    set.release(0).unwrap();
    assert_eq!(set.value(0).unwrap(), 2);
}

#[test]
fn several_operations_happen_together_or_not_at_all() {
    let set = Private::new(&[3, 0, 5]);
    let ops = [SemOp::new(0, -1), SemOp::new(1, -1), SemOp::new(2, 1)];
    assert!(set.operate(&ops, Timeout::Now).unwrap_err().is(Errno::EAGAIN));
    assert!(set.operate(&ops, SHORT).unwrap_err().is(Errno::ETIMEDOUT));
    assert_eq!(set.values().unwrap(), [3, 0, 5]);
    set.add(1, 1, Timeout::Now).unwrap();
    set.operate(&ops, Timeout::Now).unwrap();
    assert_eq!(set.values().unwrap(), [2, 0, 6]);

    let many: Vec<_> = (0..100).map(|n| SemOp::new(n % 3, 1)).collect(); // more than fit on the stack
    set.operate(&many, Timeout::Now).unwrap();
    assert_eq!(set.values().unwrap(), [36, 33, 39]);
}

#[test]
fn waits_for_zero() {
    let set = Private::new(&[1]);
    assert!(set.wait_zero(0, Timeout::Now).unwrap_err().is(Errno::EAGAIN));
    std::thread::scope(|threads| {
        threads.spawn(|| {
            eventually("somebody waits for zero", || set.waiting_for_zero(0).unwrap() == 1);
            assert_eq!(set.waiting(0).unwrap(), 0);
            set.take(0, Timeout::Now).unwrap();
        });
        set.wait_zero(0, GENEROUS).unwrap();
    });
}

#[test]
fn timeout_is_never_early() {
    let set = Private::new(&[0]);
    let start = Instant::now();
    let error = set.acquire(0, Timeout::After(Duration::from_millis(30))).unwrap_err();
    assert!(error.is(Errno::ETIMEDOUT));
    assert!(start.elapsed() >= Duration::from_millis(30));
    assert_eq!(error.to_string(), "acquire sysv-sem:private: ETIMEDOUT: the deadline passed");
}

#[test]
fn values_are_set_and_told() {
    let set = Private::new(&[1, 2, 3]);
    assert_eq!(set.count(), 3);
    set.set_value(1, 20).unwrap();
    assert_eq!(set.values().unwrap(), [1, 20, 3]);
    set.set_values(&[7, 8, 9]).unwrap();
    assert_eq!(set.value(2).unwrap(), 9);
    let wrong = set.set_values(&[1]).unwrap_err();
    assert!(wrong.is(Errno::EINVAL) && wrong.to_string().contains("1 values for a set of 3 semaphores"), "{wrong}");
    let me = std::process::id().cast_signed();
    assert_eq!(set.last_pid(0).unwrap(), Some(me));
    let status = set.status().unwrap();
    assert_eq!((status.count, status.mode, status.key), (3, 0o600, 0));
    // SAFETY: takes nothing.
    assert_eq!((status.uid, status.creator_uid), unsafe { (libc::geteuid(), libc::geteuid()) });
    assert!(status.operated_at.is_some(), "putting the values in is an operation");
}

#[test]
fn sets_are_made_opened_and_removed() {
    let key = Key::new();
    let missing = SysvSem::open(&key.address, None).unwrap_err();
    assert!(missing.is(Errno::ENOENT));
    assert!(missing.to_string().contains("there is no set of this key; create it"), "{missing}");

    let set = SysvSem::create(&key.address, &with(1)).unwrap();
    let twice = SysvSem::create(&key.address, &with(1)).unwrap_err();
    assert!(twice.is(Errno::EEXIST) && twice.to_string().contains("remove it if it is left over"), "{twice}");
    let other = SysvSem::open_or_create(&key.address, &with(9)).unwrap();
    assert_eq!((other.id(), other.value(0).unwrap()), (set.id(), 1), "the options of an opener do not count");
    let small = SysvSem::open_or_create(&key.address, &SysvSemOptions { count: 4, ..with(1) }).unwrap_err();
    assert!(small.is(Errno::EINVAL) && small.to_string().contains("fewer than the 4 semaphores"), "{small}");

    let by_id = SysvSem::from_id(set.id()).unwrap();
    assert_eq!(by_id.status().unwrap().key, set.status().unwrap().key);
    SysvSem::remove(&key.address).unwrap();
    for error in
        [set.take(0, Timeout::Now), by_id.release(0), other.unlink(), set.set_value(0, 1), set.value(0).map(drop)]
    {
        let error = error.unwrap_err();
        assert!(error.is(Errno::EIDRM), "{error}");
        assert!(error.to_string().contains("the set was removed; open or make it anew"), "{error}");
    }
    assert!(SysvSem::from_id(set.id()).unwrap_err().is(Errno::EIDRM));
    assert!(SysvSem::remove(&key.address).unwrap_err().is(Errno::ENOENT));
}

#[test]
fn options_may_stand_in_the_address() {
    let key = Key::new();
    let address = Address::parse(format!("{}?mode=0666&count=3&initial=2", key.address)).unwrap();
    let set = SysvSem::open_or_create(&address, &SysvSemOptions::default()).unwrap();
    assert_eq!(set.values().unwrap(), [2, 2, 2]);
    assert_eq!(set.status().unwrap().mode, 0o666, "whatever the umask");
    assert_eq!(set.address(), key.address.to_string());
}

#[test]
fn bad_input() {
    let set = Private::new(&[1]);
    assert!(set.operate(&[], Timeout::Now).unwrap_err().to_string().contains("EINVAL: no operation was given"));
    assert!(set.add(0, 0, Timeout::Now).unwrap_err().is(Errno::EINVAL));
    for error in [set.take(1, Timeout::Now), set.set_value(65535, 1), set.value(1).map(drop)] {
        let error = error.unwrap_err();
        assert!(error.is(Errno::EFBIG), "{error}");
        assert!(error.to_string().contains("a number past the last semaphore; the set has 1, from 0"), "{error}");
    }
    for error in [set.add(0, 32767, Timeout::Now), set.set_value(0, 32768), set.set_values(&[65535])] {
        let error = error.unwrap_err();
        assert!(error.is(Errno::ERANGE) && error.to_string().contains("past the largest, semvmx=32767"), "{error}");
    }
    assert_eq!(set.value(0).unwrap(), 1);

    let private = Address::parse("sysv-sem:private").unwrap();
    let make = |options| SysvSem::create(&private, &options).unwrap_err();
    let wrong = make(SysvSemOptions { count: 1, values: vec![1, 2], ..Default::default() });
    assert!(wrong.is(Errno::EINVAL) && wrong.to_string().contains("as many values"), "{wrong}");
    assert!(make(with(32768)).is(Errno::ERANGE));
    assert!(make(SysvSemOptions { mode: 0o10000, ..with(1) }).is(Errno::EINVAL));
    let huge = make(SysvSemOptions { count: usize::MAX, ..with(1) });
    assert!(huge.is(Errno::EINVAL) && huge.to_string().contains("more than semmsl="), "{huge}");
    assert!(SysvSem::open(&private, None).unwrap_err().is(Errno::EINVAL));
    let absurd = Address::parse("sysv-sem:private?count=18446744073709551615").unwrap();
    assert!(SysvSem::create(&absurd, &with(1)).unwrap_err().is(Errno::EINVAL));
    assert!(SysvSem::from_id(-1).unwrap_err().is(Errno::EIDRM));

    let wrong = SysvSem::open(&Address::parse("sem:/x").unwrap(), None).unwrap_err();
    assert!(wrong.is(Errno::EINVAL) && wrong.to_string().contains("expected sysv-sem:"), "{wrong}");
    let no_file = SysvSem::open_or_create(&Address::parse("sysv-sem:/no/such/file#65").unwrap(), &with(1)).unwrap_err();
    assert!(no_file.is(Errno::ENOENT) && no_file.to_string().contains("the file /no/such/file"), "{no_file}");
}

#[test]
fn too_many_operations_name_the_limit() {
    let set = Private::new(&[0]);
    let limits = std::fs::read_to_string("/proc/sys/kernel/sem").unwrap();
    let limit: usize = limits.split_whitespace().nth(2).unwrap().parse().unwrap();
    let error = set.operate(&vec![SemOp::new(0, 0); limit + 1], Timeout::Now).unwrap_err();
    assert!(error.is(Errno::E2BIG));
    let expected = format!("{} operations in one call, of semopm={limit} allowed", limit + 1);
    assert!(error.to_string().contains(&expected), "{error}");
}

#[test]
fn sets_larger_than_one_operation_are_made_too() {
    let values: Vec<u16> = (0..1000).map(|n| n % 7).collect();
    let set = Private::new(&values);
    assert_eq!(set.values().unwrap(), values);
    assert!(set.status().unwrap().operated_at.is_some());
    let ones = Private::new(&[1; 1000]);
    assert_eq!(ones.values().unwrap(), [1; 1000]);
    assert!(ones.status().unwrap().operated_at.is_some());
}

#[test]
fn system_full_of_sets_names_the_limit() {
    fork(|| {
        // All sets made here end with the namespace.
        if let Err(why) = unshare_ipc(&[]) {
            return skip!(why);
        }
        let _ = std::fs::write("/proc/sys/kernel/sem", "250 32000 32 10"); // else it takes as many as there may be
        let address = Address::parse("sysv-sem:private").unwrap();
        let error = (0..100_000).find_map(|_| SysvSem::create(&address, &with(1)).err()).unwrap();
        assert!(error.is(Errno::ENOSPC), "{error}");
        let text = error.to_string();
        assert!(text.contains("of semmni=") && text.contains("remove what is left over"), "{text}");
    })
    .join();
}

#[test]
fn two_processes_by_key() {
    let key = Key::new();
    let options = SysvSemOptions { count: 2, ..Default::default() };
    let set = SysvSem::open_or_create(&key.address, &options).unwrap();
    let child = fork(|| {
        let set = SysvSem::open(&key.address, None).unwrap();
        for _ in 0..500 {
            set.add(0, -1, GENEROUS).unwrap();
            set.add(1, 1, GENEROUS).unwrap();
        }
    });
    for _ in 0..500 {
        set.add(0, 1, GENEROUS).unwrap();
        set.add(1, -1, GENEROUS).unwrap();
    }
    child.join();
    assert_eq!(set.values().unwrap(), [0, 0]);
}

#[test]
fn kernel_gives_back_what_a_killed_process_held() {
    let set = Private::new(&[1, 3]);
    let child = fork(|| {
        set.take(0, Timeout::Now).unwrap();
        set.operate(&[SemOp::new(1, -2).with_undo()], Timeout::Now).unwrap();
        set.add(1, -1, Timeout::Now).unwrap(); // without undo: consumed
        loop {
            std::thread::sleep(Duration::from_secs(1));
        }
    });
    eventually("the child has the permits", || set.values().unwrap() == [0, 0]);
    assert_eq!(set.last_pid(0).unwrap(), Some(child.pid()));
    child.kill(libc::SIGKILL);
    let permit = set.acquire(0, GENEROUS).unwrap(); // waits for the death, not for a release
    child.wait();
    assert_eq!(set.values().unwrap(), [0, 2]);
    drop(permit);
    assert_eq!(set.values().unwrap(), [1, 2]);
}

#[test]
fn more_to_be_undone_than_fits_is_an_error_with_the_remedy() {
    let set = Private::new(&[20000]);
    set.operate(&[SemOp::new(0, -20000).with_undo()], Timeout::Now).unwrap();
    set.set_value(0, 20000).unwrap(); // and forget what is to be undone
    set.operate(&[SemOp::new(0, -20000).with_undo()], Timeout::Now).unwrap();
    set.add(0, 20000, Timeout::Now).unwrap();
    let error = set.operate(&[SemOp::new(0, -20000).with_undo()], Timeout::Now).unwrap_err();
    assert!(error.is(Errno::ERANGE) && error.to_string().contains("are taken with add"), "{error}");
}

#[test]
fn killed_waiter_takes_nothing() {
    let set = Private::new(&[0]);
    let child = fork(|| set.take(0, GENEROUS).unwrap());
    eventually("the child waits", || set.waiting(0).unwrap() == 1 && is_asleep(child.pid()));
    child.kill(libc::SIGKILL);
    child.wait();
    assert_eq!(set.waiting(0).unwrap(), 0);
    set.add(0, 1, Timeout::Now).unwrap();
    assert_eq!(set.value(0).unwrap(), 1);
}

#[test]
fn removal_ends_the_waits_of_other_processes() {
    let set = Private::new(&[0]);
    let child = fork(|| {
        let error = set.take(0, GENEROUS).unwrap_err();
        assert!(error.is(Errno::EIDRM));
        assert!(error.to_string().contains("acquire sysv-sem:private: EIDRM: the set was removed"), "{error}");
    });
    eventually("the child waits", || set.waiting(0).unwrap() == 1);
    set.unlink().unwrap();
    child.join();
}

#[test]
fn guard_stays_with_its_process() {
    let set = Private::new(&[1]);
    let mut permit = Some(set.acquire(0, Timeout::Now).unwrap());
    fork(|| drop(permit.take())).join();
    assert_eq!(set.value(0).unwrap(), 0, "the child's copy gave nothing back");
    drop(permit);
    assert_eq!(set.value(0).unwrap(), 1);
}

/// A set that was made by the plain call and that nobody has operated on.
fn untouched(address: &Address) {
    let (path, id) = (std::ffi::CString::new(address.name()).unwrap(), address.id().unwrap());
    // SAFETY: plain system calls on a live C string and numbers.
    let id = unsafe { libc::semget(libc::ftok(path.as_ptr(), id.into()), 1, libc::IPC_CREAT | libc::IPC_EXCL | 0o600) };
    assert!(id >= 0);
}

#[test]
fn opening_waits_as_long_as_asked_and_can_be_cancelled() {
    let key = Key::new();
    untouched(&key.address);
    let (cancel, start) = (Cancel::new(), Instant::now());
    cancel.fire();
    {
        let _scope = cancel.enter();
        let error = SysvSem::open(&key.address, Some(Duration::from_secs(1000))).unwrap_err();
        assert!(error.is(Errno::ECANCELED), "{error}");
    }
    let settle = Duration::from_millis(20);
    assert_eq!(SysvSem::open(&key.address, Some(settle)).unwrap().values().unwrap(), [0]);
    assert!(start.elapsed() >= settle);
    SysvSem::remove(&key.address).unwrap();
}

#[test]
fn one_of_many_makes_it_and_all_see_its_values() {
    let key = Key::new();
    for _ in 0..20 {
        let children: Vec<_> = (0..4)
            .map(|_| {
                fork(|| {
                    let set = SysvSem::open_or_create(&key.address, &SysvSemOptions { count: 2, ..with(4) }).unwrap();
                    set.operate(&[SemOp::new(0, -1), SemOp::new(1, -1)], Timeout::Now).unwrap();
                })
            })
            .collect();
        children.into_iter().for_each(support::Child::join);
        assert_eq!(SysvSem::open(&key.address, None).unwrap().values().unwrap(), [0, 0]);
        SysvSem::remove(&key.address).unwrap();
    }
}

#[test]
fn cancel_ends_a_wait() {
    let (set, cancel) = (Private::new(&[0]), Cancel::new());
    std::thread::scope(|threads| {
        threads.spawn(|| {
            eventually("somebody waits", || set.waiting(0).unwrap() == 1);
            cancel.fire();
        });
        let _scope = cancel.enter();
        for timeout in [Timeout::Forever, GENEROUS] {
            assert!(set.acquire(0, timeout).unwrap_err().is(Errno::ECANCELED));
        }
    });
    assert_eq!(set.waiting(0).unwrap(), 0);
}

#[test]
fn end_waits_ends_all_of_them() {
    let set = Arc::new(Private::new(&[0]));
    let waiters: Vec<_> = (0..6)
        .map(|_| {
            let set = Arc::clone(&set);
            std::thread::spawn(move || set.take(0, Timeout::Forever).unwrap_err().errno())
        })
        .collect();
    eventually("all wait", || set.waiting(0).unwrap() == 6);
    set.end_waits();
    for waiter in waiters {
        assert_eq!(waiter.join().unwrap(), libc::ECANCELED);
    }
}

#[test]
fn permission_refused() {
    // SAFETY: takes nothing.
    if unsafe { libc::geteuid() } != 0 {
        let options = SysvSemOptions { mode: 0o200, ..with(1) }; // the kernel holds owners to the mode as well
        let set = Private(SysvSem::create(&Address::parse("sysv-sem:private").unwrap(), &options).unwrap());
        set.take(0, Timeout::Now).unwrap();
        let error = set.value(0).unwrap_err();
        assert!(error.is(Errno::EACCES) && error.to_string().contains("does not allow it to this user"), "{error}");
        return;
    }
    let set = Private::new(&[1]);
    fork(|| {
        // SAFETY: changes the child only.
        assert_eq!(unsafe { libc::setgid(65534) | libc::setuid(65534) }, 0);
        let error = set.take(0, Timeout::Now).unwrap_err();
        assert!(error.is(Errno::EACCES) && error.to_string().contains("does not allow it to this user"), "{error}");
        let error = set.unlink().unwrap_err();
        assert!(error.is(Errno::EPERM) && error.to_string().contains("only its owner or creator"), "{error}");
    })
    .join();
    assert_eq!(set.value(0).unwrap(), 1);
}
