//! Where something is short, forbidden or missing: small mounts, low limits, kernels that lack a call. Each in a child
//! that confines itself.

use std::path::Path;

use wigwag::{Address, File, FileCreate, FileOptions, Memfd, MemoryOptions, Seals, Shm, SysvShm, Timeout};

use crate::support::{fork, unshare};
use crate::{become_ordinary, fresh_key, fresh_name, limit, sized, skip};

fn mount_tmpfs(path: &Path, options: &str) {
    let path = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
    let options = std::ffi::CString::new(options).unwrap();
    // SAFETY: live C strings.
    let mounted =
        unsafe { libc::mount(c"tmpfs".as_ptr(), path.as_ptr(), c"tmpfs".as_ptr(), 0, options.as_ptr().cast()) };
    assert_eq!(mounted, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn full_dev_shm_is_enospc_with_the_mount_and_its_size() {
    fork(|| {
        if let Err(why) = unshare(libc::CLONE_NEWNS) {
            return skip!(why);
        }
        mount_tmpfs(Path::new("/dev/shm"), "size=1m");
        let (first, second): (Address, Address) = ("shm:/first".parse().unwrap(), "shm:/second".parse().unwrap());
        let mut shm = Shm::create(&first, &sized(512 << 10)).unwrap();
        shm.write_at(0, b"kept").unwrap();

        let error = Shm::create(&second, &sized(768 << 10)).unwrap_err();
        assert_eq!(error.name(), "ENOSPC");
        assert_eq!(
            error.to_string(),
            "fallocate shm:/second: ENOSPC: 786432 bytes are asked for, and the mount /dev/shm has 524288 of its \
             1048576 bytes free; remove what is left over there, or enlarge it (for a tmpfs: mount -o remount,size=… \
             /dev/shm)"
        );
        assert!(!Path::new("/dev/shm/second").exists());

        let error = shm.grow(2 << 20).unwrap_err();
        assert_eq!((error.name().as_str(), shm.len()), ("ENOSPC", 512 << 10));
        assert_eq!(std::fs::metadata("/dev/shm/first").unwrap().len(), 512 << 10);

        // Created without pages, it is there; asking for them fails instead of SIGBUS.
        let sparse = MemoryOptions { size: 768 << 10, sparse: true, ..Default::default() };
        let shm2 = Shm::create(&second, &sparse).unwrap();
        assert_eq!(shm2.reserve().unwrap_err().name(), "ENOSPC");
        let populated = MemoryOptions { populate: true, ..Default::default() };
        assert_eq!(Shm::open(&second, &populated, Timeout::Now).unwrap_err().name(), "ENOSPC");

        drop(shm2);
        Shm::remove(&second).unwrap();

        // What was granted is there to the last byte.
        shm.fill(0, shm.len(), 0xFF).unwrap();
        shm.grow(1 << 20).unwrap();
        shm.fill(0, shm.len(), 0xFF).unwrap();
    })
    .join();
}

#[test]
fn no_inodes_left() {
    fork(|| {
        if let Err(why) = unshare(libc::CLONE_NEWNS) {
            return skip!(why);
        }
        mount_tmpfs(Path::new("/dev/shm"), "size=1m,nr_inodes=2");
        Shm::create(&"shm:/first".parse().unwrap(), &sized(1)).unwrap();
        let error = Shm::create(&"shm:/second".parse().unwrap(), &sized(1)).unwrap_err();
        assert_eq!(error.name(), "ENOSPC");
        assert!(error.reason().contains("the mount /dev/shm has none of its 2 inodes free"), "{error}");
    })
    .join();
}

#[test]
fn as_many_system_v_segments_as_the_limit_allows() {
    fork(|| {
        if let Err(why) = unshare(libc::CLONE_NEWIPC) {
            return skip!(why);
        }
        let most: usize = std::fs::read_to_string("/proc/sys/kernel/shmmni").unwrap().trim().parse().unwrap();
        for _ in 0..most {
            // SAFETY: takes plain numbers.
            assert!(unsafe { libc::shmget(libc::IPC_PRIVATE, 1, 0o600) } >= 0);
        }
        let error = SysvShm::create(&fresh_key(), &sized(1)).unwrap_err();
        assert_eq!(error.name(), "ENOSPC");
        let expected = format!("{most} of kernel.shmmni={most} segments exist; remove those left over");
        assert!(error.reason().starts_with(&expected), "{error}");
    })
    .join();
}

#[test]
fn locking_needs_the_limit() {
    fork(|| {
        become_ordinary();
        limit(libc::RLIMIT_MEMLOCK, 65536);
        let locked = |size| MemoryOptions { size, lock: true, populate: true, ..Default::default() };
        let private: Address = "sysv-shm:private".parse().unwrap();
        let address = fresh_name();
        drop(Memfd::create(&"memfd:".parse().unwrap(), &locked(4096)).unwrap());
        for error in [
            Memfd::create(&"memfd:".parse().unwrap(), &locked(1 << 20)).unwrap_err(),
            Shm::create(&address, &locked(1 << 20)).unwrap_err(),
            SysvShm::create(&private, &locked(1 << 20)).unwrap_err(),
        ] {
            assert_eq!(error.name(), "ENOMEM");
            assert_eq!(error.operation(), "mlock");
            assert!(
                error
                    .reason()
                    .contains("1048576 bytes are to be locked in memory, and RLIMIT_MEMLOCK allows 65536 bytes"),
                "{error}"
            );
        }
        assert_eq!(
            Shm::open(&address, &sized(0), Timeout::Now).unwrap_err().name(),
            "ENOENT",
            "nothing is left behind"
        );
        limit(libc::RLIMIT_MEMLOCK, 0);
        let error = Memfd::create(&"memfd:".parse().unwrap(), &locked(4096)).unwrap_err();
        assert_eq!(error.name(), "EPERM");
    })
    .join();
}

#[test]
fn huge_pages_that_nobody_reserved() {
    let free = std::fs::read_to_string("/proc/sys/vm/nr_hugepages").unwrap_or_default();
    if free.trim() != "0" {
        return skip!("huge pages are reserved here");
    }
    let huge = MemoryOptions { size: 1 << 20, huge_pages: true, ..Default::default() };
    for error in [
        Memfd::create(&"memfd:".parse().unwrap(), &huge).unwrap_err(),
        SysvShm::create(&"sysv-shm:private".parse().unwrap(), &huge).unwrap_err(),
    ] {
        assert!(["ENOMEM", "ENOSPC", "EPERM"].contains(&error.name().as_str()), "{error}");
        assert!(error.reason().contains("vm.nr_hugepages=0"), "{error}");
    }
}

#[test]
fn a_limit_on_file_sizes_is_an_error_and_no_signal() {
    fork(|| {
        limit(libc::RLIMIT_FSIZE, 65536);
        let error = Memfd::new(65537).unwrap_err();
        assert_eq!(error.name(), "EFBIG");
        assert!(error.reason().contains("65537 bytes are more than RLIMIT_FSIZE=65536"), "{error}");
        let sparse = MemoryOptions { size: 65537, sparse: true, ..Default::default() };
        assert_eq!(Shm::create(&fresh_name(), &sparse).unwrap_err().name(), "EFBIG");
        let mut memory = Memfd::new(65536).unwrap();
        limit(libc::RLIMIT_FSIZE, 4096);
        memory.reserve().unwrap(); // it is larger than the limit already
        assert_eq!(memory.grow(65537).unwrap_err().name(), "EFBIG");
    })
    .join();
}

#[test]
fn growing_locked_memory_past_the_limit_says_what_has_grown() {
    fork(|| {
        become_ordinary();
        limit(libc::RLIMIT_MEMLOCK, 65536);
        let locked = MemoryOptions { size: 65536, lock: true, ..Default::default() };
        let mut memory = Memfd::create(&"memfd:".parse().unwrap(), &locked).unwrap();
        let error = memory.grow(131_072).unwrap_err();
        assert_eq!((error.name().as_str(), memory.len()), ("ENOMEM", 65536), "{error}");
        assert!(error.reason().contains("RLIMIT_MEMLOCK allows 65536 bytes"), "{error}");
        assert!(error.reason().contains("the object has grown to 131072 bytes"), "{error}");
        assert_eq!(Memfd::from_fd(memory.into_fd(), &sized(0), Seals::empty()).unwrap().len(), 131_072);
    })
    .join();
}

#[test]
fn a_file_for_appending_grows_where_the_file_system_reserves_nothing() {
    fork(|| {
        if let Err(why) = unshare(libc::CLONE_NEWNS) {
            return skip!(why);
        }
        let (directory, kind) = (c"/dev/shm", c"ramfs");
        // SAFETY: live C strings.
        if unsafe { libc::mount(kind.as_ptr(), directory.as_ptr(), kind.as_ptr(), 0, std::ptr::null()) } != 0 {
            return skip!("no ramfs can be mounted");
        }
        let options = FileOptions { create: FileCreate::IfMissing, ..Default::default() };
        let file = File::open(&"file:/dev/shm/journal".parse().unwrap(), &options).unwrap();
        file.append(b"kept").unwrap();
        file.grow(20_000).unwrap();
        assert_eq!(file.size().unwrap(), 20_000);
        assert_eq!(std::fs::read("/dev/shm/journal").unwrap()[..5], *b"kept\0");
    })
    .join();
}

#[test]
fn no_descriptor_left() {
    fork(|| {
        let address = fresh_name();
        limit(libc::RLIMIT_NOFILE, 3);
        for error in [Memfd::new(1).unwrap_err(), Shm::create(&address, &sized(1)).unwrap_err()] {
            assert_eq!(error.name(), "EMFILE");
            assert!(error.reason().contains("RLIMIT_NOFILE"), "{error}");
        }
    })
    .join();
}

/// In a child: has system calls number `call`, whose argument `argument` has one of `bits` set (all calls, for 0), fail
/// with `errno` from now on.
fn refuse(call: i64, argument: usize, bits: u32, errno: i32) {
    let statement = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let (load, equal, set, give) = (
        libc::BPF_LD | libc::BPF_W | libc::BPF_ABS,
        libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
        libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K,
        libc::BPF_RET | libc::BPF_K,
    );
    let low_half = if cfg!(target_endian = "big") { 4 } else { 0 };
    let mut program = [
        statement(load, 0, 0, std::mem::offset_of!(libc::seccomp_data, nr) as u32),
        statement(equal, 0, 3, call as u32),
        statement(load, 0, 0, (std::mem::offset_of!(libc::seccomp_data, args) + argument * 8 + low_half) as u32),
        statement(if bits == 0 { libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K } else { set }, 0, 1, bits),
        statement(give, 0, 0, libc::SECCOMP_RET_ERRNO | errno as u32),
        statement(give, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the program lives during the calls, and its jumps stay inside.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program), 0);
    }
}

fn works() {
    let address = fresh_name();
    let options = MemoryOptions { size: 10_000, populate: true, mode: 0o604, ..Default::default() };
    let shm = Shm::create(&address, &options).unwrap();
    assert_eq!(Shm::create(&address, &options).unwrap_err().name(), "EEXIST");
    let found = Shm::open(&address, &options, Timeout::Now).unwrap();
    shm.write_at(9_000, b"works").unwrap();
    assert_eq!(found.read_vec(9_000, 5).unwrap(), b"works");
    found.unlink().unwrap();
    let absurd = Shm::create(&address, &sized(usize::MAX)).unwrap_err();
    assert_eq!(absurd.name(), "EFBIG");
    assert_eq!(Shm::open(&address, &sized(0), Timeout::Now).unwrap_err().name(), "ENOENT", "nothing is left behind");
    let mut memory = Memfd::create(&"memfd:".parse().unwrap(), &options).unwrap();
    memory.write_at(0, b"works").unwrap();
    memory.seal(Seals::WRITE).unwrap();
    assert_eq!(memory.read_vec(0, 5).unwrap(), b"works");
}

#[test]
fn without_files_that_have_no_name() {
    const NAMELESS_ONLY: i32 = libc::O_TMPFILE & !libc::O_DIRECTORY;
    for errno in [libc::EOPNOTSUPP, libc::EISDIR, libc::EPERM] {
        fork(|| {
            refuse(libc::SYS_openat, 2, NAMELESS_ONLY as u32, errno);
            works();
        })
        .join();
    }
}

#[test]
fn without_naming_files_later() {
    for errno in [libc::ENOENT, libc::ENOSYS, libc::EPERM] {
        fork(|| {
            refuse(libc::SYS_linkat, 0, 0, errno);
            works();
        })
        .join();
    }
}

#[test]
fn without_populating_by_advice() {
    for errno in [libc::EINVAL, libc::ENOSYS, libc::EPERM] {
        fork(|| {
            // Both advices, 22 and 23, have these bits; others this program uses have not.
            refuse(libc::SYS_madvise, 2, 0x10, errno);
            works();
        })
        .join();
    }
}

#[test]
fn without_memory_that_never_executes() {
    fork(|| {
        refuse(libc::SYS_memfd_create, 1, libc::MFD_NOEXEC_SEAL, libc::EINVAL);
        works();
    })
    .join();
}
