use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::sys::mman::shm_open;
use nix::sys::stat::Mode;
use wigwag::{Access, Address, Cancel, MemoryOptions, Shm, Timeout};

use crate::support::{GENEROUS, SHORT, eventually, fork};
use crate::{Gone, become_ordinary, fresh_name, sized};

fn path(address: &Address) -> String {
    format!("/dev/shm{}", std::str::from_utf8(address.name()).unwrap())
}

#[test]
fn exclusive_open_and_both() {
    let address = fresh_name();
    let _gone = Gone(|| drop(Shm::remove(&address)));
    let error = Shm::open(&address, &sized(0), Timeout::Now).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("shm_open {address}: ENOENT: there is no shared memory of this name; create it first")
    );
    let first = Shm::create(&address, &sized(5000)).unwrap();
    assert!(first.created());
    assert_eq!((first.len(), first.address()), (5000, address.to_string().as_str()));
    let error = Shm::create(&address, &sized(5000)).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("shm_open {address}: EEXIST: the object exists already; open it, or remove it first")
    );
    let second = Shm::open_or_create(&address, &sized(100), Timeout::Now).unwrap();
    assert!(!second.created());
    first.write_at(4990, b"0123456789").unwrap();
    assert_eq!(second.read_vec(4990, 10).unwrap(), b"0123456789");
    let error = Shm::open(&address, &sized(5001), Timeout::Now).unwrap_err();
    assert_eq!(error.name(), "EINVAL");
    assert!(error.reason().contains("5000 bytes, and 5001 are asked for"), "{error}");
    Shm::remove(&address).unwrap();
    assert_eq!(Shm::remove(&address).unwrap_err().name(), "ENOENT");
}

#[test]
fn of_many_that_open_or_create_one_creates() {
    let (address, counts) = (fresh_name(), fresh_name());
    let _gone = Gone(|| drop(Shm::remove(&address)));
    let counter = Shm::create(&counts, &sized(8)).unwrap();
    counter.unlink().unwrap();
    let children: Vec<_> = (0..8)
        .map(|_| {
            fork(|| {
                let shm = Shm::open_or_create(&address, &sized(4096), Timeout::Now).unwrap();
                assert_eq!(shm.len(), 4096);
                counter.atomic_u32(0).unwrap().fetch_add(shm.created().into(), Ordering::Relaxed);
                shm.atomic_u32(0).unwrap().fetch_add(1, Ordering::Relaxed);
            })
        })
        .collect();
    children.into_iter().for_each(|child| child.join());
    assert_eq!(counter.load_u32(0).unwrap(), 1);
    assert_eq!(Shm::open(&address, &sized(0), Timeout::Now).unwrap().load_u32(0).unwrap(), 8);
}

#[test]
fn nobody_finds_it_half_made() {
    let address = fresh_name();
    let _gone = Gone(|| drop(Shm::remove(&address)));
    let creator = fork(|| {
        loop {
            Shm::create(&address, &MemoryOptions { size: 8192, mode: 0o604, ..Default::default() }).unwrap();
            Shm::remove(&address).unwrap();
        }
    });
    let mut found = 0;
    while found < 300 {
        match Shm::open(&address, &sized(0), Timeout::Now) {
            Ok(shm) => {
                assert_eq!(shm.len(), 8192);
                found += 1;
            }
            Err(error) => assert_eq!(error.name(), "ENOENT", "{error}"),
        }
    }
    creator.kill(libc::SIGKILL);
}

#[test]
fn a_creator_killed_on_the_way_leaves_nothing_or_all() {
    for round in 0..20 {
        let address = fresh_name();
        let creator = fork(|| {
            Shm::create(&address, &sized(4 << 20)).unwrap();
        });
        std::thread::sleep(Duration::from_micros(round * 100));
        creator.kill(libc::SIGKILL);
        creator.wait();
        match Shm::open(&address, &sized(0), Timeout::Now) {
            Ok(shm) => {
                assert_eq!(shm.len(), 4 << 20);
                shm.unlink().unwrap();
            }
            Err(error) => assert_eq!(error.name(), "ENOENT", "{error}"),
        }
    }
}

#[test]
fn waits_for_a_creator_that_has_not_given_it_a_size() {
    let address = fresh_name();
    let _gone = Gone(|| drop(Shm::remove(&address)));
    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_RDWR;
    let fd = shm_open(address.name(), flags, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();

    assert_eq!(Shm::open(&address, &sized(0), Timeout::Now).unwrap_err().name(), "EAGAIN");
    let start = Instant::now();
    let error = Shm::open(&address, &sized(0), SHORT).unwrap_err();
    assert!(start.elapsed() >= Duration::from_millis(20));
    assert_eq!(error.name(), "ETIMEDOUT");
    assert_eq!(error.reason(), "it still has the size 0; if its creator died on the way, remove it");

    let cancel = Cancel::new();
    std::thread::scope(|threads| {
        threads.spawn(|| {
            std::thread::sleep(Duration::from_millis(10));
            cancel.fire();
        });
        let _scope = cancel.enter();
        let error = Shm::open(&address, &sized(0), Timeout::Forever).unwrap_err();
        assert_eq!(error.name(), "ECANCELED");
    });

    let child = fork(|| {
        std::thread::sleep(Duration::from_millis(20));
        nix::unistd::ftruncate(&fd, 100).unwrap();
    });
    assert_eq!(Shm::open_or_create(&address, &sized(100), GENEROUS).unwrap().len(), 100);
    child.join();
}

#[test]
fn grows_for_others_too() {
    let address = fresh_name();
    let mut shm = Shm::create(&address, &sized(4096)).unwrap();
    let _gone = Gone(|| drop(Shm::remove(&address)));
    shm.write_at(0, b"kept").unwrap();
    let peer = fork(|| {
        let mut shm = Shm::open(&address, &sized(0), Timeout::Now).unwrap();
        shm.atomic_u32(8).unwrap().store(1, Ordering::Release);
        eventually("it grows", || shm.load_u32(8).unwrap() == 2);
        assert_eq!(shm.len(), 4096);
        assert_eq!(shm.refresh().unwrap(), 1 << 20);
        shm.write_at((1 << 20) - 4, b"last").unwrap();
    });
    eventually("the peer has it", || shm.load_u32(8).unwrap() == 1);
    assert_eq!(shm.grow(1 << 20).unwrap(), 1 << 20);
    assert_eq!(shm.grow(10).unwrap(), 1 << 20, "never shorter");
    shm.atomic_u32(8).unwrap().store(2, Ordering::Release);
    peer.join();
    assert_eq!(shm.read_vec((1 << 20) - 4, 4).unwrap(), b"last");
    assert_eq!(shm.read_vec(0, 4).unwrap(), b"kept");

    let read_only = MemoryOptions { access: Access::ReadOnly, ..Default::default() };
    let mut reader = Shm::open(&address, &read_only, Timeout::Now).unwrap();
    assert_eq!(reader.grow(2 << 20).unwrap_err().name(), "EACCES");
    assert_eq!(shm.grow(usize::MAX).unwrap_err().name(), "EFBIG");
    assert_eq!(shm.len(), 1 << 20);
}

#[test]
fn a_killed_peer_changes_nothing() {
    let address = fresh_name();
    let shm = Shm::create(&address, &sized(4096)).unwrap();
    let _gone = Gone(|| drop(Shm::remove(&address)));
    let peer = fork(|| {
        let shm = Shm::open(&address, &sized(0), Timeout::Now).unwrap();
        shm.write_at(100, b"written before the end").unwrap();
        shm.atomic_u32(0).unwrap().store(1, Ordering::Release);
        std::thread::sleep(Duration::from_secs(60));
    });
    eventually("the peer writes", || shm.load_u32(0).unwrap() == 1);
    peer.kill(libc::SIGKILL);
    peer.wait();
    assert_eq!(shm.read_vec(100, 22).unwrap(), b"written before the end");
    shm.check_name().unwrap();
}

#[test]
fn removed_and_made_anew() {
    let address = fresh_name();
    let old = Shm::create(&address, &sized(10)).unwrap();
    old.check_name().unwrap();
    Shm::remove(&address).unwrap();
    let error = old.check_name().unwrap_err();
    assert_eq!((error.name().as_str(), error.reason()), ("ENOENT", "the name was removed"));
    assert_eq!(old.unlink().unwrap_err().name(), "ENOENT");
    let new = Shm::create(&address, &sized(10)).unwrap();
    let error = old.unlink().unwrap_err();
    assert_eq!(
        (error.name().as_str(), error.reason()),
        ("ESTALE", "the object was removed and made anew; open it again")
    );
    new.unlink().unwrap();
}

#[test]
fn pages_are_reserved_unless_sparse() {
    use std::os::unix::fs::MetadataExt;
    let address = fresh_name();
    let _gone = Gone(|| drop(Shm::remove(&address)));
    let blocks = || std::fs::metadata(path(&address)).unwrap().blocks() * 512;
    let sparse = MemoryOptions { size: 1 << 20, sparse: true, ..Default::default() };
    let shm = Shm::create(&address, &sparse).unwrap();
    assert_eq!(blocks(), 0);
    shm.reserve().unwrap();
    assert_eq!(blocks(), 1 << 20);
    Shm::remove(&address).unwrap();
    Shm::create(&address, &sized(1 << 20)).unwrap();
    assert_eq!(blocks(), 1 << 20);
}

#[test]
fn mode_is_set_against_the_umask_and_enforced() {
    fork(|| {
        become_ordinary();
        // SAFETY: a plain system call in a child of its own.
        unsafe { libc::umask(0o777) };
        let address: Address = format!("{}?mode=440&size=10", fresh_name()).parse().unwrap();
        let shm = Shm::create(&address, &MemoryOptions::default()).unwrap();
        let _gone = Gone(|| drop(shm.unlink()));
        assert_eq!(std::fs::metadata(path(&address)).unwrap().permissions().mode() & 0o777, 0o440);
        let error = Shm::open(&address, &MemoryOptions::default(), Timeout::Now).unwrap_err();
        assert_eq!(error.name(), "EACCES");
        assert!(error.reason().contains("attach read-only"), "{error}");
        let read_only = MemoryOptions { access: Access::ReadOnly, ..Default::default() };
        Shm::open(&address, &read_only, Timeout::Now).unwrap();

        let address = fresh_name();
        let shm = Shm::create(&address, &sized(10)).unwrap();
        assert_eq!(std::fs::metadata(path(&address)).unwrap().permissions().mode() & 0o777, 0o600);
        shm.unlink().unwrap();
    })
    .join();
}

#[test]
fn what_lies_there_is_something_else() {
    let address = fresh_name();
    let _gone = Gone(|| drop(std::fs::remove_file(path(&address))));
    nix::unistd::mkfifo(path(&address).as_str(), Mode::S_IRWXU).unwrap();
    for access in [Access::ReadOnly, Access::ReadWrite] {
        let options = MemoryOptions { access, ..Default::default() };
        let error = Shm::open(&address, &options, Timeout::Now).unwrap_err();
        assert_eq!(
            (error.name().as_str(), error.reason()),
            ("EINVAL", "it is not shared memory but a file of another kind")
        );
    }
    assert_eq!(Shm::create(&address, &sized(1)).unwrap_err().name(), "EEXIST");
    std::fs::remove_file(path(&address)).unwrap();
    std::os::unix::fs::symlink("/dev/shm/nowhere", path(&address)).unwrap();
    assert_eq!(Shm::open(&address, &sized(0), Timeout::Now).unwrap_err().name(), "ELOOP");
    assert_eq!(Shm::create(&address, &sized(1)).unwrap_err().name(), "EEXIST");
}

#[test]
fn from_a_descriptor() {
    let address = fresh_name();
    let shm = Shm::create(&address, &sized(10)).unwrap();
    let copy = Shm::from_fd(shm.as_fd().try_clone_to_owned().unwrap(), &sized(10)).unwrap();
    assert_eq!((copy.address(), copy.created()), (address.to_string().as_str(), false));
    shm.write_at(0, b"x").unwrap();
    assert_eq!(copy.read::<u8>(0).unwrap(), b'x');
    copy.unlink().unwrap();
    let nameless = Shm::from_fd(copy.into_fd(), &sized(10)).unwrap();
    assert_eq!(nameless.address(), "shm:");
    let error = nameless.unlink().unwrap_err();
    assert_eq!((error.name().as_str(), error.reason()), ("ENOTSUP", "adopted, and its name is not known"));
    let (reader, _writer) = std::io::pipe().unwrap();
    assert_eq!(Shm::from_fd(reader.into(), &sized(0)).unwrap_err().name(), "EINVAL");
    shm.inherit().unwrap();
    let flags = nix::fcntl::fcntl(&shm, nix::fcntl::FcntlArg::F_GETFD).unwrap();
    assert_eq!(flags & libc::FD_CLOEXEC, 0);
    assert_eq!(shm.status().unwrap_err().name(), "ENOTSUP");
}

#[test]
fn bad_input() {
    let address = fresh_name();
    assert_eq!(Shm::create(&address, &MemoryOptions::default()).unwrap_err().name(), "EINVAL");
    let absurd = Shm::create(&address, &sized(usize::MAX)).unwrap_err();
    assert_eq!(absurd.name(), "EFBIG");
    assert!(absurd.reason().contains("more than a file can have"), "{absurd}");
    let large = Shm::create(&address, &sized(1 << 50)).unwrap_err();
    assert_eq!(large.name(), "ENOMEM");
    assert!(large.reason().contains("1125899906842624 bytes are asked for, and "), "{large}");
    let huge = Shm::create(&address, &MemoryOptions { size: 1, huge_pages: true, ..Default::default() }).unwrap_err();
    assert_eq!(huge.name(), "ENOTSUP");
    assert!(huge.reason().contains("memfd:"), "{huge}");
    assert_eq!(Shm::open(&address, &sized(0), Timeout::Now).unwrap_err().name(), "ENOENT", "nothing is left behind");
    assert_eq!(Shm::create(&"memfd:".parse().unwrap(), &sized(1)).unwrap_err().name(), "EINVAL");
    let long: Address = format!("shm:/{}", "x".repeat(255)).parse().unwrap();
    Shm::create(&long, &sized(1)).unwrap().unlink().unwrap();
}

#[test]
fn waiting_for_a_size_ends_when_the_object_is_removed() {
    let address = fresh_name();
    let _gone = Gone(|| drop(Shm::remove(&address)));
    let half_made = || drop(std::fs::write(path(&address), b""));
    half_made();
    std::thread::scope(|threads| {
        let waiter = threads.spawn(|| Shm::open(&address, &sized(0), GENEROUS).unwrap_err());
        std::thread::sleep(Duration::from_millis(20));
        Shm::remove(&address).unwrap();
        assert_eq!(waiter.join().unwrap().name(), "ENOENT");
    });
    half_made();
    std::thread::scope(|threads| {
        let waiter = threads.spawn(|| Shm::open(&address, &sized(0), GENEROUS).map(|shm| shm.len()));
        std::thread::sleep(Duration::from_millis(20));
        // At once, as a creator that removes what it finds half made.
        let complete = format!("{}.complete", path(&address));
        std::fs::write(&complete, b"made anew").unwrap();
        std::fs::rename(&complete, path(&address)).unwrap();
        assert_eq!(waiter.join().unwrap().unwrap(), 9);
    });
}
