//! Giving a file its size together with its pages, so that a full file system is an error now and never a SIGBUS later;
//! and saying what is full.

use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, FcntlArg, OFlag, fallocate, fcntl, posix_fallocate};
use nix::sys::stat::fstat;
use nix::sys::statfs::{HUGETLBFS_MAGIC, fstatfs};
use nix::unistd::ftruncate;

use crate::error::Error;
use crate::limits::setting;
use crate::paths;
use crate::sys::memory::limit;
use crate::sys::space::{WORTH_ASKING, allocate, available_memory, checked};
use crate::sys::{SysResult, file_size};

/// Makes the file at least `size` bytes long with every page reserved; existing content stays. All or nothing.
///
/// `in_memory` says that the pages are memory, not disk.
///
/// System calls: fstat, fallocate, or what posix_fallocate does where the file system has none.
pub(crate) fn reserve(fd: BorrowedFd<'_>, size: u64, in_memory: bool) -> SysResult<()> {
    let found = fstat(fd)?;
    let grows = size > found.st_size.cast_unsigned();
    // The limit on file sizes is on growth; a file may be past it already, and fallocate asks nobody then.
    let length = if grows { checked(size)? } else { i64::try_from(size).map_err(|_| Errno::EFBIG)? };
    if in_memory && !is_on_huge_pages(fd) {
        let missing = size.saturating_sub(found.st_blocks.cast_unsigned() * 512);
        if missing >= WORTH_ASKING && available_memory().is_some_and(|available| missing > available) {
            return Err(Errno::ENOMEM);
        }
    }
    match allocate(|| fallocate(fd, FallocateFlags::empty(), 0, length)) {
        Err(Errno::EOPNOTSUPP) => reserve_by_writing(fd, length),
        result => result,
    }
}

/// The C library writes a byte of each block, and first reads it: not on a description for appending, or for writing alone.
/// Such writes are also refused below the size that the file has, past the limit on sizes.
fn reserve_by_writing(fd: BorrowedFd<'_>, length: i64) -> SysResult<()> {
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    let is_fit = flags & OFlag::O_ACCMODE == OFlag::O_RDWR && !flags.contains(OFlag::O_APPEND);
    if is_fit || flags & OFlag::O_ACCMODE == OFlag::O_RDONLY {
        return file_size::masked(|| allocate(|| posix_fallocate(fd, 0, length)));
    }
    let own = paths::reopen(fd, OFlag::O_RDWR)?;
    file_size::masked(|| allocate(|| posix_fallocate(&own, 0, length)))
}

/// Gives the file its size without pages: they are taken when first touched, and a full file system is a SIGBUS then.
pub(super) fn set_size(fd: BorrowedFd<'_>, size: u64) -> SysResult<()> {
    ftruncate(fd, checked(size)?)
}

pub(super) fn is_on_huge_pages(fd: BorrowedFd<'_>) -> bool {
    fstatfs(fd).is_ok_and(|system| system.filesystem_type() == HUGETLBFS_MAGIC)
}

/// Says what is full, how large it is, and what to do.
pub(crate) fn explain(error: Error, fd: BorrowedFd<'_>, size: u64) -> Error {
    match Errno::from_raw(error.errno()) {
        Errno::ENOSPC if is_on_huge_pages(fd) => huge_pages(error, size),
        Errno::ENOSPC => {
            let text = full(fd, size);
            error.because_found(text)
        }
        Errno::ENOMEM => error.because_found(match available_memory() {
            Some(available) => {
                format!("{size} bytes are asked for, and {available} bytes of memory and swap are available")
            }
            None => format!("there is no memory for {size} bytes"),
        }),
        Errno::EFBIG => error.because_found(match limit(libc::RLIMIT_FSIZE) {
            Some(most) => format!("{size} bytes are more than RLIMIT_FSIZE={most} allows a file; raise it (ulimit -f)"),
            None => format!("{size} bytes are more than a file can have"),
        }),
        _ => error,
    }
}

/// Says how many huge pages there are.
pub(super) fn huge_pages(error: Error, size: u64) -> Error {
    error.because_found(format!(
        "{size} bytes of huge pages are asked for; vm.nr_hugepages={} (of the default size) are reserved, and {} are \
         free; reserve more (sysctl vm.nr_hugepages=…) or do without huge pages",
        setting("vm/nr_hugepages"),
        std::fs::read_to_string("/proc/meminfo")
            .ok()
            .and_then(|text| Some(
                text.lines().find_map(|line| line.strip_prefix("HugePages_Free:"))?.trim().to_owned()
            ))
            .unwrap_or_else(|| "?".into()),
    ))
}

fn full(fd: BorrowedFd<'_>, size: u64) -> String {
    let Ok(system) = fstatfs(fd) else { return format!("no space is left for {size} bytes") };
    let block = u64::try_from(system.block_size()).unwrap_or(1);
    let (total, free) = (system.blocks() * block, system.blocks_available() * block);
    match mount_point(fd) {
        Some(mount) if system.files() > 0 && system.files_free() == 0 => format!(
            "the mount {mount} has none of its {files} inodes free; remove what is left over there, or allow more (for a \
             tmpfs: mount -o remount,nr_inodes=… {mount})",
            mount = mount.display(),
            files = system.files()
        ),
        Some(mount) => format!(
            "{size} bytes are asked for, and the mount {mount} has {free} of its {total} bytes free; remove what is \
             left over there, or enlarge it (for a tmpfs: mount -o remount,size=… {mount})",
            mount = mount.display()
        ),
        None => format!("the kernel has no memory for {size} bytes left"),
    }
}

/// Where the file system of a descriptor is mounted, as this process sees it.
fn mount_point(fd: BorrowedFd<'_>) -> Option<PathBuf> {
    let device = fstat(fd).ok()?.st_dev;
    let device = format!("{}:{}", nix::sys::stat::major(device), nix::sys::stat::minor(device));
    let mounts = std::fs::read("/proc/self/mountinfo").ok()?;
    // Fields: id, parent, major:minor, root, mount point. A later line hides an earlier one.
    mounts.split(|byte| *byte == b'\n').rev().find_map(|line| {
        let mut fields = line.split(|byte| *byte == b' ').skip(2);
        (fields.next()? == device.as_bytes()).then(|| fields.nth(1).map(unescape))?
    })
}

/// Undoes the \ooo that mountinfo writes for blanks and backslashes.
fn unescape(text: &[u8]) -> PathBuf {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, behind)) = rest.split_first() {
        let digits = behind.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if *first == b'\\' => {
                plain.push(byte);
                rest = &behind[3..];
            }
            _ => {
                plain.push(*first);
                rest = behind;
            }
        }
    }
    std::ffi::OsString::from_vec(plain).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn mount_points_with_blanks() {
        assert_eq!(unescape(br"/mnt/a\040b\134c"), PathBuf::from(r"/mnt/a b\c"));
        assert_eq!(unescape(br"/mnt\0"), PathBuf::from(r"/mnt\0"));
    }

    #[test]
    fn reserving_takes_the_pages_and_keeps_the_content() {
        let file = tempfile::tempfile_in("/dev/shm").unwrap();
        std::io::Write::write_all(&mut &file, b"kept").unwrap();
        reserve(file.as_fd(), 1 << 20, true).unwrap();
        let found = fstat(&file).unwrap();
        assert_eq!((found.st_size, found.st_blocks * 512), (1 << 20, 1 << 20));
        reserve(file.as_fd(), 4096, true).unwrap();
        assert_eq!(fstat(&file).unwrap().st_size, 1 << 20, "never shorter");
        let mut start = [0; 4];
        nix::sys::uio::pread(&file, &mut start, 0).unwrap();
        assert_eq!(&start, b"kept");
        assert_eq!(mount_point(file.as_fd()), Some(PathBuf::from("/dev/shm")));
    }

    #[test]
    fn what_the_c_library_cannot_reserve_is_opened_anew() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("appended");
        std::fs::write(&path, b"kept").unwrap();
        let appending = std::fs::File::options().append(true).open(&path).unwrap();
        reserve_by_writing(appending.as_fd(), 65536).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 65536);
        assert!(std::fs::read(&path).unwrap().starts_with(b"kept"));
        let reading = std::fs::File::open(&path).unwrap();
        assert_eq!(reserve_by_writing(reading.as_fd(), 65537), Err(Errno::EBADF));
    }

    #[test]
    fn absurd_sizes_are_refused_at_once() {
        let file = tempfile::tempfile_in("/dev/shm").unwrap();
        assert_eq!(reserve(file.as_fd(), u64::MAX, true), Err(Errno::EFBIG));
        assert_eq!(reserve(file.as_fd(), 1 << 60, true), Err(Errno::ENOMEM));
        assert_eq!(set_size(file.as_fd(), u64::MAX), Err(Errno::EFBIG));
    }
}
