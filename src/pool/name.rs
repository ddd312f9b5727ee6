//! A pool's name is one pool's: two at the same address would take each other's tasks and results.
//!
//! For each name there is a file in the library's directory, with a lock that children do not inherit and that the kernel
//! takes from the dead. The file goes with its pool; one that a killed pool has left is taken over.
//!
//! System calls: open, fcntl F_OFD_SETLK, fstat, stat, unlink.

use std::fs::OpenOptions;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::stat::{fstat, stat};

use super::seat::part;
use crate::address::{Address, Scheme};
use crate::error::{Error, Result};
use crate::segment;
use crate::sys::SysResult;
use crate::sys::file_lock::try_lock;
use crate::sys::not_inherited::NotInherited;

/// The names of one pool, taken; dropping it gives them back.
pub(super) struct Names(Vec<Name>);

struct Name {
    lock: NotInherited,
    path: PathBuf,
}

impl Names {
    /// Takes what a pool with so many workers uses. `EBUSY`: another pool has some of it.
    pub fn take(address: &Address, workers: u32) -> Result<Names> {
        let mut names = Names(Vec::new());
        for name in files(address, workers)? {
            let path = segment::own_path(&name).map_err(|(errno, reason)| {
                Error::new(errno, "pool").on_text(address.to_string()).because_found(reason)
            })?;
            let taken = Name::take(path).map_err(|errno| {
                let error = Error::new(errno, "pool").on_text(address.to_string());
                match errno {
                    Errno::EBUSY => error.because(
                        "another pool is at work there; give this one a name of its own, or shut the other down first",
                    ),
                    _ => error.because("the lock on the pool's name cannot be had (WIGWAG_DIR)"),
                }
            })?;
            names.0.push(taken);
        }
        Ok(names)
    }
}

/// What the files are called for what a pool uses: one, but for System V queues, where pools may overlap in part.
fn files(address: &Address, workers: u32) -> Result<Vec<String>> {
    let path = match address.scheme() {
        Scheme::Pipe => return Ok(Vec::new()),
        Scheme::Ring => segment::path_of(&part(address, "results")?),
        _ => address.path().to_owned(),
    };
    // However the way to it is written. Not realpath(), which sandboxes that refuse newer system calls break.
    let parent = path.parent().map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent });
    let parent = parent.and_then(|parent| stat(parent).ok());
    let whole = match (address.scheme(), parent, path.file_name()) {
        (Scheme::Mq, ..) | (_, None, _) | (_, _, None) => path.as_os_str().as_bytes().to_vec(),
        (_, Some(parent), Some(name)) => {
            [&parent.st_dev.to_le_bytes()[..], &parent.st_ino.to_le_bytes(), name.as_bytes()].concat()
        }
    };
    let name = |number: u32| format!("pool-{}-{:016x}.lock", address.scheme(), digest(&whole, number));
    if address.scheme() != Scheme::SysvMq {
        return Ok(vec![name(0)]);
    }
    let first = u32::from(address.id().unwrap_or(0));
    Ok((first..=first + workers).map(name).collect())
}

/// FNV-1a: the same in every process, whatever it was built with.
fn digest(whole: &[u8], number: u32) -> u64 {
    let number = number.to_le_bytes();
    let bytes = whole.iter().chain(&number);
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

impl Name {
    fn take(path: PathBuf) -> SysResult<Name> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        options.custom_flags(libc::O_CLOEXEC | libc::O_NOFOLLOW | libc::O_NONBLOCK);
        let errno = |error: std::io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
        loop {
            let lock = NotInherited::open(|| options.open(&path).map(OwnedFd::from).map_err(errno))?;
            try_lock(&lock).map_err(|errno| if errno == Errno::EAGAIN { Errno::EBUSY } else { errno })?;
            // Whoever had it may just have taken the file away, which nobody else finds then.
            let own = fstat(&lock)?;
            if stat(&path).is_ok_and(|found| (found.st_dev, found.st_ino) == (own.st_dev, own.st_ino)) {
                return Ok(Name { lock, path });
            }
        }
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        if self.lock.is_of_this_process() {
            let _ = std::fs::remove_file(&self.path); // before the lock goes; somebody may have cleaned up
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(address: &str, workers: u32) -> Result<Names> {
        Names::take(&address.parse().unwrap(), workers)
    }

    #[test]
    fn a_name_is_taken_once_and_given_back() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("key"), b"").unwrap();
        let directory = directory.path().display();
        let mq = format!("mq:/names-{}", std::process::id());
        for (one, other) in [
            (mq.clone(), format!("{mq}?size=100")),
            (format!("ring:{directory}/jobs"), format!("ring:{directory}/../{}/jobs", base(&directory.to_string()))),
            (format!("sysv-mq:{directory}/key#5"), format!("sysv-mq:{directory}/key#7")),
        ] {
            let held = take(&one, 2).unwrap();
            let paths: Vec<_> = held.0.iter().map(|name| name.path.clone()).collect();
            assert!(paths.iter().all(|path| path.exists()));
            let error = take(&other, 2).err().unwrap();
            assert!(error.is(Errno::EBUSY) && error.to_string().contains("name of its own"), "{error}");
            drop(held);
            assert!(!paths.iter().any(|path| path.exists()));
            drop(take(&other, 2).unwrap());
        }
        assert!(take("pipe:", 4).unwrap().0.is_empty());
        let beside = take(&format!("sysv-mq:{directory}/key#5"), 2).unwrap();
        drop(take(&format!("sysv-mq:{directory}/key#8"), 2).unwrap());
        drop(beside);
    }

    fn base(path: &str) -> String {
        Path::new(path).file_name().unwrap().to_str().unwrap().to_owned()
    }
}
