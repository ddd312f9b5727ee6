use std::sync::atomic::Ordering;

use wigwag::{Access, Address, MemoryOptions, SysvShm};

use crate::support::{eventually, fork};
use crate::{Gone, become_ordinary, fresh_key, sized};

#[test]
fn exclusive_open_and_both() {
    let address = fresh_key();
    let _gone = Gone(|| drop(SysvShm::remove(&address)));
    let error = SysvShm::open(&address, &MemoryOptions::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("shmget {address}: ENOENT: there is no segment with this key; create it first")
    );

    let first = SysvShm::create(&address, &sized(5000)).unwrap();
    assert!(first.created());
    assert_eq!((first.len(), first.address()), (5000, address.to_string().as_str()));
    first.write_at(4990, b"0123456789").unwrap();
    let error = SysvShm::create(&address, &sized(5000)).unwrap_err();
    assert_eq!(error.name(), "EEXIST");
    assert_eq!(error.reason(), "the segment exists already; open it, or remove it first");

    let second = SysvShm::open_or_create(&address, &sized(100)).unwrap();
    assert!(!second.created());
    assert_eq!((second.len(), second.id()), (5000, first.id()));
    assert_eq!(second.read_vec(4990, 10).unwrap(), b"0123456789");

    let error = SysvShm::open(&address, &sized(5001)).unwrap_err();
    assert_eq!(error.name(), "EINVAL");
    assert!(error.reason().contains("5000 bytes, and 5001 are asked for"), "{error}");
}

#[test]
fn of_many_that_open_or_create_one_creates() {
    let address = fresh_key();
    let _gone = Gone(|| drop(SysvShm::remove(&address)));
    let counts = SysvShm::create(&"sysv-shm:private".parse().unwrap(), &sized(8)).unwrap();
    counts.unlink().unwrap();
    let children: Vec<_> = (0..8)
        .map(|_| {
            fork(|| {
                let shm = SysvShm::open_or_create(&address, &sized(4096)).unwrap();
                assert_eq!(shm.len(), 4096);
                counts.atomic_u32(0).unwrap().fetch_add(shm.created().into(), Ordering::Relaxed);
                shm.atomic_u32(0).unwrap().fetch_add(1, Ordering::Relaxed);
            })
        })
        .collect();
    children.into_iter().for_each(|child| child.join());
    assert_eq!(counts.load_u32(0).unwrap(), 1);
    assert_eq!(SysvShm::open(&address, &MemoryOptions::default()).unwrap().load_u32(0).unwrap(), 8);
}

#[test]
fn status_and_a_killed_peer() {
    // In a process of its own: children that other tests fork meanwhile would inherit the attachment, and count.
    fork(|| {
        let address = fresh_key();
        let shm = SysvShm::create(&address, &MemoryOptions { size: 4096, mode: 0o640, ..Default::default() }).unwrap();
        let _gone = Gone(|| drop(shm.unlink()));
        let own = i32::try_from(std::process::id()).unwrap();
        let before = shm.status().unwrap();
        assert_eq!((before.size, before.attached, before.mode), (4096, 1, 0o640));
        assert_eq!((before.creator_pid, before.last_pid, before.removed), (own, own, false));
        assert!(before.attached_at >= before.changed_at && before.changed_at > 1_500_000_000);
        assert_eq!(before.detached_at, 0);

        let peer = fork(|| {
            let shm = SysvShm::open(&address, &MemoryOptions::default()).unwrap();
            shm.write_at(0, b"written before the end").unwrap();
            shm.atomic_u32(64).unwrap().store(1, Ordering::Release);
            std::thread::sleep(std::time::Duration::from_secs(60));
        });
        eventually("the peer attaches", || shm.load_u32(64).unwrap() == 1);
        // The fork inherited this attachment, and made one of its own.
        assert_eq!(shm.status().unwrap().attached, 3);
        assert_eq!(shm.status().unwrap().last_pid, peer.pid());
        peer.kill(libc::SIGKILL);
        peer.wait();
        let after = shm.status().unwrap();
        assert_eq!(after.attached, 1);
        assert!(after.detached_at > 0);
        assert_eq!(shm.read_vec(0, 22).unwrap(), b"written before the end");
    })
    .join();
}

#[test]
fn removed_and_made_anew() {
    let address = fresh_key();
    let old = SysvShm::create(&address, &sized(10)).unwrap();
    old.check_name().unwrap();
    fork(|| SysvShm::remove(&address).unwrap()).join();
    let error = old.check_name().unwrap_err();
    assert_eq!((error.name().as_str(), error.reason()), ("ENOENT", "the segment was removed"));
    assert!(old.status().unwrap().removed);
    assert_eq!(old.key().unwrap(), 0);
    old.write_at(0, b"still there").unwrap_err();
    old.write_at(0, b"still here").unwrap();

    let new = SysvShm::create(&address, &sized(10)).unwrap();
    let error = old.check_name().unwrap_err();
    assert_eq!(error.name(), "ESTALE");
    assert_eq!(error.reason(), "the segment was removed and made anew; open it again");
    new.check_name().unwrap();
    old.unlink().unwrap();
    new.check_name().unwrap();
    new.unlink().unwrap();
    let error = SysvShm::remove(&address).unwrap_err();
    assert_eq!(error.name(), "ENOENT");
}

#[test]
fn private_by_id() {
    let private: Address = "sysv-shm:private".parse().unwrap();
    let shm = SysvShm::create(&private, &sized(64)).unwrap();
    let _gone = Gone(|| drop(shm.unlink()));
    assert_eq!(shm.key().unwrap(), 0);
    shm.check_name().unwrap();
    let other = SysvShm::from_id(shm.id(), &MemoryOptions { access: Access::ReadOnly, ..Default::default() }).unwrap();
    shm.write_at(0, b"seen").unwrap();
    assert_eq!(other.read_vec(0, 4).unwrap(), b"seen");
    assert_eq!(other.write_at(0, b"x").unwrap_err().name(), "EACCES");
    assert_eq!(other.address(), "sysv-shm:private");
    assert_eq!(SysvShm::open(&private, &MemoryOptions::default()).unwrap_err().name(), "EINVAL");
    assert_eq!(SysvShm::open_or_create(&private, &sized(1)).unwrap().unlink().map_err(|e| e.errno()), Ok(()));
    assert_eq!(SysvShm::remove(&private).unwrap_err().name(), "EINVAL");

    let error = SysvShm::from_id(-1, &MemoryOptions::default()).unwrap_err();
    assert_eq!(error.name(), "EIDRM");
    assert_eq!(error.reason(), "there is no segment with the id -1; it was removed, or never existed");
}

#[test]
fn key_from_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shmfile");
    let address = Address::from_parts(wigwag::Scheme::SysvShm, path.to_str().unwrap(), Some(65), []).unwrap();
    let error = SysvShm::create(&address, &sized(1024)).unwrap_err();
    assert_eq!(error.name(), "ENOENT");
    assert!(error.reason().contains("shmfile that the key is derived from does not exist; create it"), "{error}");

    std::fs::write(&path, "").unwrap();
    // The low bits of device and inode make the key: somebody else's file may have the same.
    match SysvShm::create(&address, &sized(1024)) {
        Ok(shm) => {
            let _gone = Gone(|| drop(shm.unlink()));
            let other = SysvShm::open(&address, &MemoryOptions::default()).unwrap();
            assert_eq!(other.id(), shm.id());
            assert_eq!(shm.key().unwrap() >> 24, 65);
        }
        Err(error) => assert_eq!(error.name(), "EEXIST"),
    }
}

#[test]
fn mode_is_kept_against_the_umask_and_enforced() {
    fork(|| {
        become_ordinary();
        // SAFETY: a plain system call in a child of its own.
        unsafe { libc::umask(0o777) };
        let address = fresh_key();
        let shm = SysvShm::create(&address, &MemoryOptions { size: 1, mode: 0o440, ..Default::default() });
        // An owner without the permission to write cannot attach for writing, not even what it just made.
        let error = shm.unwrap_err();
        assert_eq!(error.name(), "EACCES");
        assert_eq!(SysvShm::open(&address, &sized(0)).unwrap_err().name(), "ENOENT", "nothing is left behind");

        let address: Address = format!("{address}?mode=600&size=77").parse().unwrap();
        let shm = SysvShm::create(&address, &MemoryOptions::default()).unwrap();
        let _gone = Gone(|| drop(shm.unlink()));
        assert_eq!((shm.status().unwrap().mode, shm.len()), (0o600, 77));
    })
    .join();
}

#[test]
fn somebody_elses_segment() {
    // SAFETY: plain system call.
    if unsafe { libc::geteuid() } != 0 {
        return; // needs two users
    }
    let address = fresh_key();
    let shm = SysvShm::create(&address, &MemoryOptions { size: 1, mode: 0o644, ..Default::default() }).unwrap();
    let _gone = Gone(|| drop(shm.unlink()));
    fork(|| {
        become_ordinary();
        let error = SysvShm::open(&address, &MemoryOptions::default()).unwrap_err();
        assert_eq!(error.name(), "EACCES");
        assert!(error.reason().contains("attach read-only"), "{error}");
        let read_only = MemoryOptions { access: Access::ReadOnly, ..Default::default() };
        SysvShm::open(&address, &read_only).unwrap();
        let error = SysvShm::remove(&address).unwrap_err();
        assert_eq!(error.name(), "EPERM");
        assert_eq!(error.reason(), "only the owner, the creator and root may remove a segment");
    })
    .join();
}

#[test]
fn bad_input() {
    let address = fresh_key();
    let none = SysvShm::create(&address, &MemoryOptions::default()).unwrap_err();
    assert_eq!((none.name().as_str(), none.reason()), ("EINVAL", "new memory needs a size of 1 byte or more"));
    let absurd = SysvShm::create(&address, &sized(usize::MAX)).unwrap_err();
    assert_eq!(absurd.name(), "EINVAL");
    assert!(absurd.reason().contains("kernel.shmmax="), "{absurd}");
    let large = SysvShm::create(&address, &sized(usize::MAX >> 2)).unwrap_err();
    assert!(["ENOMEM", "ENOSPC", "EINVAL"].contains(&large.name().as_str()), "{large}");
    let mode = SysvShm::create(&address, &MemoryOptions { size: 1, mode: 0o1000, ..Default::default() }).unwrap_err();
    assert_eq!(mode.name(), "EINVAL");
    let kind = SysvShm::create(&"shm:/x".parse().unwrap(), &sized(1)).unwrap_err();
    assert!(kind.reason().contains("expected sysv-shm:"), "{kind}");
    let read_only = MemoryOptions { size: 1, access: Access::ReadOnly, ..Default::default() };
    assert_eq!(SysvShm::create(&address, &read_only).unwrap_err().name(), "EINVAL");
    let huge = MemoryOptions { size: 1, huge_page_size: 3, huge_pages: true, ..Default::default() };
    assert_eq!(SysvShm::create(&address, &huge).unwrap_err().name(), "EINVAL");
    assert_eq!(SysvShm::open(&address, &sized(0)).unwrap_err().name(), "ENOENT", "nothing is left behind");
}

#[test]
fn fixed_size() {
    let mut shm = SysvShm::create(&"sysv-shm:private".parse().unwrap(), &sized(64)).unwrap();
    shm.unlink().unwrap();
    assert_eq!(shm.grow(64).unwrap(), 64);
    let error = shm.grow(65).unwrap_err();
    assert_eq!(error.name(), "ENOTSUP");
    assert!(error.reason().contains("is fixed"), "{error}");
}
