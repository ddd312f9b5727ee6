use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;

use wigwag::{Access, Memfd, MemoryOptions, Seals};

use crate::sized;
use crate::support::fork;

fn copy(memfd: &Memfd) -> OwnedFd {
    memfd.as_fd().try_clone_to_owned().unwrap()
}

fn read_only() -> MemoryOptions {
    MemoryOptions { access: Access::ReadOnly, ..Default::default() }
}

#[test]
fn shared_with_a_child() {
    let memory = Memfd::new(4096).unwrap();
    fork(|| {
        memory.write_at(100, b"from the child").unwrap();
        memory.atomic_u32(0).unwrap().store(1, Ordering::Release);
    })
    .join();
    assert_eq!(memory.load_u32(0).unwrap(), 1);
    assert_eq!(memory.read_vec(100, 14).unwrap(), b"from the child");
}

#[test]
fn a_killed_peer_changes_nothing() {
    let memory = Memfd::new(4096).unwrap();
    let peer = fork(|| {
        let own = Memfd::from_fd(copy(&memory), &sized(0), Seals::empty()).unwrap();
        own.atomic_u32(0).unwrap().store(7, Ordering::Release);
        std::thread::sleep(std::time::Duration::from_secs(60));
    });
    crate::support::eventually("the peer writes", || memory.load_u32(0).unwrap() == 7);
    peer.kill(libc::SIGKILL);
    peer.wait();
    memory.write_at(0, b"goes on").unwrap();
}

#[test]
fn seals_hold() {
    // In a process of its own: children that other tests fork meanwhile would inherit a writable mapping.
    fork(|| {
        let mut memory = Memfd::new(4096).unwrap();
        memory.write_at(0, b"checked").unwrap();
        let received = Memfd::from_fd(copy(&memory), &read_only(), Seals::SHRINK).unwrap_err();
        assert_eq!(received.name(), "EPERM");
        assert_eq!(received.reason(), "the sender has not sealed it as required; missing are SHRINK");

        memory.seal(Seals::SHRINK | Seals::GROW).unwrap();
        assert_eq!(nix::unistd::ftruncate(memory.as_fd(), 1), Err(nix::errno::Errno::EPERM));
        let error = memory.grow(8192).unwrap_err();
        assert_eq!((error.name().as_str(), error.reason()), ("EPERM", "it is sealed against growing or writing"));

        let other = Memfd::from_fd(copy(&memory), &sized(4096), Seals::SHRINK | Seals::GROW).unwrap();
        let error = memory.seal(Seals::WRITE).unwrap_err();
        assert_eq!(error.name(), "EBUSY");
        assert!(error.reason().contains("mapped writable"), "{error}");
        memory.write_at(0, b"Checked").unwrap();
        drop(other);

        let before = memory.as_ptr();
        memory.seal(Seals::WRITE | Seals::SEAL).unwrap();
        assert_eq!((memory.as_ptr(), memory.access()), (before, Access::ReadOnly));
        assert_eq!(memory.read_vec(0, 7).unwrap(), b"Checked");
        assert_eq!(memory.write_at(0, b"x").unwrap_err().name(), "EACCES");
        assert!(memory.seals().unwrap().contains(Seals::SHRINK | Seals::GROW | Seals::WRITE | Seals::SEAL));
        let error = memory.seal(Seals::FUTURE_WRITE).unwrap_err();
        assert_eq!(error.name(), "EPERM");

        let received = Memfd::from_fd(copy(&memory), &read_only(), Seals::SHRINK | Seals::WRITE).unwrap();
        assert_eq!(received.read_vec(0, 7).unwrap(), b"Checked");
        let error = Memfd::from_fd(copy(&memory), &sized(0), Seals::empty()).unwrap_err();
        assert_eq!((error.name().as_str(), error.reason()), ("EPERM", "a seal forbids writing; attach read-only"));
    })
    .join();
}

#[test]
fn future_writes_only() {
    let mut memory = Memfd::new(4096).unwrap();
    memory.seal(Seals::FUTURE_WRITE).unwrap();
    memory.write_at(0, b"mine").unwrap();
    let reader = Memfd::from_fd(copy(&memory), &read_only(), Seals::FUTURE_WRITE).unwrap();
    assert!(Memfd::from_fd(copy(&memory), &sized(0), Seals::empty()).is_err());
    drop(reader);
}

#[test]
fn grows() {
    let mut memory = Memfd::new(10).unwrap();
    let mut other = Memfd::from_fd(copy(&memory), &sized(0), Seals::empty()).unwrap();
    memory.write_at(0, b"0123456789").unwrap();
    assert_eq!(memory.grow(1 << 22).unwrap(), 1 << 22);
    memory.write(((1 << 22) - 8) as usize, &7_u64).unwrap();
    assert_eq!((other.len(), other.refresh().unwrap()), (10, 1 << 22));
    assert_eq!(other.read::<u64>((1 << 22) - 8).unwrap(), 7);
    assert_eq!(other.read_vec(0, 10).unwrap(), b"0123456789");
}

#[test]
fn labels_and_addresses() {
    let memory = Memfd::create(&"memfd:frames?size=100".parse().unwrap(), &sized(0)).unwrap();
    assert_eq!((memory.address(), memory.len()), ("memfd:frames", 100));
    assert_eq!(Memfd::from_fd(copy(&memory), &sized(0), Seals::empty()).unwrap().address(), "memfd:frames");
    let long = format!("memfd:{}?size=1", "x".repeat(250)).parse().unwrap();
    assert_eq!(Memfd::create(&long, &sized(0)).unwrap_err().name(), "ENAMETOOLONG");
    memory.inherit().unwrap();
    assert_eq!(memory.status().unwrap_err().name(), "ENOTSUP");
}

#[test]
fn bad_input() {
    assert_eq!(Memfd::new(0).unwrap_err().name(), "EINVAL");
    assert_eq!(Memfd::new(usize::MAX).unwrap_err().name(), "EFBIG");
    let large = Memfd::new(1 << 50).unwrap_err();
    assert_eq!(large.name(), "ENOMEM", "{large}");
    let (reader, _writer) = std::io::pipe().unwrap();
    let error = Memfd::from_fd(reader.into(), &sized(0), Seals::empty()).unwrap_err();
    assert_eq!(error.name(), "EINVAL");
    let file = std::fs::File::open("/proc/self/status").unwrap();
    let error = Memfd::from_fd(file.into(), &sized(0), Seals::empty()).unwrap_err();
    assert_eq!((error.name().as_str(), error.reason()), ("EINVAL", "it is not a memfd: it has no seals"));
    let mode = MemoryOptions { size: 1, mode: 0o700, ..Default::default() };
    let error = Memfd::create(&"memfd:".parse().unwrap(), &mode).unwrap_err();
    assert_eq!(error.name(), "EPERM");
    let odd = MemoryOptions { size: 1, huge_pages: true, huge_page_size: 8192, ..Default::default() };
    let error = Memfd::create(&"memfd:".parse().unwrap(), &odd).unwrap_err();
    assert!(error.reason().contains("no huge pages of this size"), "{error}");
}

#[test]
fn sealed_memory_stays_locked_and_populated() {
    let options = MemoryOptions { size: 65536, lock: true, populate: true, ..Default::default() };
    let mut memory = Memfd::create(&"memfd:".parse().unwrap(), &options).unwrap();
    memory.write_at(0, b"kept").unwrap();
    let start = format!("{:x}-", memory.as_ptr().addr());
    let field = |name: &str| {
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let ours = &maps[maps.find(&start).unwrap()..];
        ours.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned()
    };
    memory.seal(Seals::WRITE).unwrap();
    assert!(field("VmFlags:").contains("lo"), "locked");
    assert_eq!(field("Rss:"), "64 kB");
    assert_eq!(memory.read_vec(0, 4).unwrap(), b"kept");
    memory.seal(Seals::SEAL).unwrap();
    assert!(memory.seal(Seals::GROW).unwrap_err().is(nix::errno::Errno::EPERM));
}

#[test]
fn a_seal_that_is_refused_leaves_the_memory_locked_and_writable() {
    let options = MemoryOptions { size: 65536, lock: true, populate: true, ..Default::default() };
    let mut memory = Memfd::create(&"memfd:".parse().unwrap(), &options).unwrap();
    let other = Memfd::from_fd(copy(&memory), &sized(0), Seals::empty()).unwrap();
    assert!(memory.seal(Seals::WRITE).unwrap_err().is(nix::errno::Errno::EBUSY));
    memory.write_at(0, b"written").unwrap();
    assert_eq!(other.read_vec(0, 7).unwrap(), b"written");
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let ours = &maps[maps.find(&format!("{:x}-", memory.as_ptr().addr())).unwrap()..];
    assert!(ours.lines().find(|line| line.starts_with("VmFlags:")).unwrap().contains(" lo"), "locked");
}
