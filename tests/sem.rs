//! POSIX semaphores between threads and processes.

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use support::{GENEROUS, SHORT, eventually, fork, fresh, is_asleep};
use wigwag::{Address, Cancel, SEM_VALUE_MAX, Sem, SemOptions, Timeout};

/// A fresh name, unlinked when dropped.
struct Name(Address);

impl Name {
    fn new() -> Name {
        Name(Address::parse(format!("sem:/{}", fresh("sem"))).unwrap())
    }

    fn create(&self, initial: u32) -> Sem {
        Sem::create(&self.0, &SemOptions { initial, ..Default::default() }).unwrap()
    }

    fn file(&self) -> String {
        format!("/dev/shm/sem.{}", std::str::from_utf8(&self.0.name()[1..]).unwrap())
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        let _ = Sem::remove(&self.0);
    }
}

/// Memory that forked children share.
struct SharedPage(*mut u8);

impl SharedPage {
    fn new() -> SharedPage {
        // SAFETY: a fresh mapping of its own.
        let page = unsafe {
            let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
            libc::mmap(std::ptr::null_mut(), 4096, protection, flags, -1, 0)
        };
        assert_ne!(page, libc::MAP_FAILED);
        SharedPage(page.cast())
    }
}

impl Drop for SharedPage {
    fn drop(&mut self) {
        // SAFETY: mapped in `new`, used by nobody any more.
        unsafe { libc::munmap(self.0.cast(), 4096) };
    }
}

#[test]
fn counts_permits() {
    let name = Name::new();
    let sem = name.create(2);
    let first = sem.acquire(Timeout::Now).unwrap();
    let second = sem.acquire(Timeout::Now).unwrap();
    assert_eq!(sem.value().unwrap(), 0);
    let error = sem.acquire(Timeout::Now).unwrap_err();
    assert!(error.is(Errno::EAGAIN));
    assert_eq!(
        error.to_string(),
        format!("acquire {}: EAGAIN: it would have to wait, and the timeout is zero", sem.address())
    );
    drop(first);
    second.release().unwrap();
    assert_eq!(sem.value().unwrap(), 2);
    sem.acquire(Timeout::Now).unwrap().keep();
    assert_eq!(sem.value().unwrap(), 1);
    sem.release_many(3).unwrap();
    assert_eq!(sem.value().unwrap(), 4);
}

#[test]
fn timeout_is_never_early() {
    let name = Name::new();
    let sem = name.create(0);
    let start = Instant::now();
    let error = sem.acquire(Timeout::After(Duration::from_millis(30))).unwrap_err();
    assert!(error.is(Errno::ETIMEDOUT));
    assert!(start.elapsed() >= Duration::from_millis(30));
    assert_eq!(error.to_string(), format!("acquire {}: ETIMEDOUT: the deadline passed", sem.address()));
}

#[test]
fn overflow_is_an_error_with_its_limit() {
    let name = Name::new();
    let sem = name.create(SEM_VALUE_MAX - 2);
    let error = sem.release_many(5).unwrap_err();
    assert!(error.is(Errno::EOVERFLOW));
    assert_eq!(error.done(), 2);
    assert!(error.to_string().ends_with("the largest; more is released than acquired"), "{error}");
    let refused = Sem::create(&Name::new().0, &SemOptions { initial: SEM_VALUE_MAX + 1, mode: 0 }).unwrap_err();
    assert!(refused.is(Errno::EINVAL));
    assert!(refused.to_string().contains("initial value 2147483648 is past the largest, 2147483647"), "{refused}");
}

#[test]
fn names_are_made_opened_and_unlinked() {
    let name = Name::new();
    let missing = Sem::open(&name.0).unwrap_err();
    assert!(missing.is(Errno::ENOENT));
    assert!(missing.to_string().contains("there is no semaphore of this name; create it"), "{missing}");

    let sem = name.create(1);
    let twice = Sem::create(&name.0, &SemOptions::default()).unwrap_err();
    assert!(twice.is(Errno::EEXIST));
    assert!(twice.to_string().contains("unlink it if it is left over"), "{twice}");
    let other = Sem::open_or_create(&name.0, &SemOptions { initial: 9, ..Default::default() }).unwrap();
    assert_eq!(other.value().unwrap(), 1, "the options of an opener do not count");

    Sem::remove(&name.0).unwrap();
    sem.take(Timeout::Now).unwrap();
    assert_eq!(other.value().unwrap(), 0, "those who have it go on using it");
    let gone = Sem::remove(&name.0).unwrap_err();
    assert!(gone.is(Errno::ENOENT));
    assert_eq!(gone.to_string(), format!("sem_unlink {}: ENOENT: there is no semaphore of this name", sem.address()));
}

#[test]
fn options_may_stand_in_the_address() {
    use std::os::unix::fs::PermissionsExt;
    let name = Name::new();
    let address = Address::parse(format!("{}?mode=0666&initial=3", name.0)).unwrap();
    let sem = Sem::open_or_create(&address, &SemOptions::default()).unwrap();
    assert_eq!(sem.value().unwrap(), 3);
    assert_eq!(sem.address(), name.0.to_string());
    let mode = std::fs::metadata(name.file()).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o666, "whatever the umask");
}

#[test]
fn default_mode_keeps_others_out() {
    use std::os::unix::fs::PermissionsExt;
    let name = Name::new();
    name.create(0);
    assert_eq!(std::fs::metadata(name.file()).unwrap().permissions().mode() & 0o077, 0);
}

#[test]
fn bad_input() {
    let options = SemOptions::default();
    let wrong = Sem::open(&Address::parse("eventfd:").unwrap()).unwrap_err();
    assert!(wrong.is(Errno::EINVAL));
    assert!(wrong.to_string().contains("expected sem:"), "{wrong}");
    let mode = Sem::create(&Name::new().0, &SemOptions { mode: 0o1777, initial: 0 }).unwrap_err();
    assert!(mode.is(Errno::EINVAL) && mode.to_string().contains("from 0 to 0777"), "{mode}");
    let huge = format!("sem:/{}?initial=18446744073709551615", fresh("sem"));
    assert!(Sem::create(&Address::parse(huge).unwrap(), &options).unwrap_err().is(Errno::EINVAL));
}

#[test]
fn files_that_are_no_semaphores_are_refused() {
    let contents: [&[u8]; 4] = [b"", b"short", &[0; 32], &[0xff; 32]];
    for content in contents {
        let name = Name::new();
        std::fs::write(name.file(), content).unwrap();
        for error in [Sem::open(&name.0), Sem::open_or_create(&name.0, &SemOptions::default())] {
            let error = error.unwrap_err();
            assert!(error.is(Errno::EINVAL) || error.is(Errno::EBADMSG), "{error}");
            assert!(error.to_string().contains("is not a semaphore; unlink it if it is left over"), "{error}");
        }
        assert_eq!(std::fs::read(name.file()).unwrap(), content, "what was there is not touched");
    }
}

#[test]
fn permission_refused() {
    // SAFETY: takes nothing.
    if unsafe { libc::geteuid() } == 0 {
        let name = Name::new();
        let sem = name.create(1);
        fork(|| {
            // SAFETY: changes the child only.
            assert_eq!(unsafe { libc::setgid(65534) | libc::setuid(65534) }, 0);
            let error = Sem::open(&name.0).unwrap_err();
            assert!(error.is(Errno::EACCES));
            assert!(error.to_string().contains("its mode does not let you in"), "{error}");
            let error = Sem::remove(&name.0).unwrap_err();
            assert!(error.to_string().contains("only its owner may remove it"), "{error}");
        })
        .join();
        assert_eq!(sem.value().unwrap(), 1);
    } else {
        let name = Name::new();
        let sem = Sem::create(&name.0, &SemOptions { mode: 0o000, initial: 1 }).unwrap();
        assert_eq!(sem.value().unwrap(), 1);
        std::fs::set_permissions(name.file(), std::os::unix::fs::PermissionsExt::from_mode(0o000)).unwrap();
        assert!(Sem::open(&name.0).unwrap_err().is(Errno::EACCES));
    }
}

#[test]
fn two_processes_by_name() {
    let (there, back) = (Name::new(), Name::new());
    let (ping, pong) = (there.create(0), back.create(0));
    let child = fork(|| {
        let (ping, pong) = (Sem::open(&there.0).unwrap(), Sem::open(&back.0).unwrap());
        for _ in 0..1000 {
            ping.take(GENEROUS).unwrap();
            pong.release().unwrap();
        }
    });
    for _ in 0..1000 {
        ping.release().unwrap();
        pong.take(GENEROUS).unwrap();
    }
    child.join();
}

#[test]
fn two_processes_by_memory() {
    let page = SharedPage::new();
    // SAFETY: the page is mapped to the end of the test and used by semaphore calls only.
    let sem = unsafe { Sem::init_at(page.0, 0) }.unwrap();
    assert_eq!(sem.address(), "sem:");
    let child = fork(|| {
        // SAFETY: as above.
        let sem = unsafe { Sem::at(page.0) }.unwrap();
        sem.release_many(3).unwrap();
    });
    for _ in 0..3 {
        sem.take(GENEROUS).unwrap();
    }
    child.join();
    assert_eq!(sem.value().unwrap(), 0);
}

#[test]
fn memory_that_cannot_be() {
    let page = SharedPage::new();
    // SAFETY: null and misaligned pointers are refused before they are used; the page is mapped.
    unsafe {
        assert!(Sem::init_at(std::ptr::null_mut(), 0).unwrap_err().is(Errno::EFAULT));
        assert!(Sem::at(std::ptr::null_mut()).unwrap_err().is(Errno::EFAULT));
        let crooked = Sem::init_at(page.0.add(1), 0).unwrap_err();
        assert_eq!(crooked.to_string(), "sem_init sem:: EINVAL: the address of a semaphore must be a multiple of 8");
        assert!(Sem::init_at(page.0, u32::MAX).unwrap_err().is(Errno::EINVAL));
        page.0.write_bytes(0x5a, 4096);
        let none = Sem::at(page.0).unwrap_err();
        assert!(none.is(Errno::EBADMSG) && none.to_string().contains("hold no semaphore"), "{none}");
    }
}

#[test]
fn lock_between_processes_excludes() {
    let name = Name::new();
    name.create(1);
    let page = SharedPage::new();
    let children: Vec<_> = (0..4)
        .map(|_| {
            fork(|| {
                let sem = Sem::open(&name.0).unwrap();
                let counter: *mut u64 = page.0.cast();
                for _ in 0..2000 {
                    let _permit = sem.acquire(GENEROUS).unwrap();
                    // SAFETY: the page is mapped, and the semaphore lets one in at a time.
                    unsafe { counter.write_volatile(counter.read_volatile() + 1) };
                }
            })
        })
        .collect();
    children.into_iter().for_each(support::Child::join);
    // SAFETY: nobody else is left.
    assert_eq!(unsafe { page.0.cast::<u64>().read_volatile() }, 8000);
}

#[test]
fn killed_holder_keeps_its_permit_and_nobody_hangs() {
    let name = Name::new();
    let sem = name.create(1);
    let child = fork(|| {
        sem.take(Timeout::Now).unwrap();
        loop {
            std::thread::sleep(Duration::from_secs(1));
        }
    });
    eventually("the child has the permit", || sem.value().unwrap() == 0);
    child.kill(libc::SIGKILL);
    child.wait();
    assert!(sem.acquire(SHORT).unwrap_err().is(Errno::ETIMEDOUT));
    sem.release().unwrap();
    sem.take(Timeout::Now).unwrap();
}

#[test]
fn killed_waiter_takes_nothing() {
    let name = Name::new();
    let sem = name.create(0);
    let child = fork(|| drop(sem.acquire(GENEROUS)));
    eventually("the child waits", || is_asleep(child.pid()));
    child.kill(libc::SIGKILL);
    child.wait();
    sem.release().unwrap();
    sem.take(GENEROUS).unwrap();
}

#[test]
fn guard_stays_with_its_process() {
    let name = Name::new();
    let sem = name.create(1);
    let permit = sem.acquire(Timeout::Now).unwrap();
    let mut copy = Some(permit);
    fork(|| drop(copy.take())).join();
    assert_eq!(sem.value().unwrap(), 0, "the child's copy gave nothing back");
    drop(copy);
    assert_eq!(sem.value().unwrap(), 1);
}

#[test]
fn cancel_ends_a_wait() {
    let (name, cancel) = (Name::new(), Cancel::new());
    let sem = name.create(0);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            std::thread::sleep(Duration::from_millis(10));
            cancel.fire();
        });
        let _scope = cancel.enter();
        for timeout in [Timeout::Forever, GENEROUS] {
            assert!(sem.acquire(timeout).unwrap_err().is(Errno::ECANCELED));
        }
        sem.release().unwrap();
        sem.take(Timeout::Forever).unwrap(); // a call that need not wait still succeeds
    });
}

#[test]
fn end_waits_ends_all_of_them() {
    let name = Name::new();
    let sem = Arc::new(name.create(0));
    let waiters: Vec<_> = (0..6)
        .map(|_| {
            let sem = Arc::clone(&sem);
            std::thread::spawn(move || sem.take(Timeout::Forever).unwrap_err().errno())
        })
        .collect();
    std::thread::sleep(Duration::from_millis(10));
    sem.end_waits();
    for waiter in waiters {
        assert_eq!(waiter.join().unwrap(), libc::ECANCELED);
    }
}
