//! What a reader sleeps on, and shows to those who poll: inotify, of the log's directory.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::folder::{CONTROL, Folder};
use crate::paths;
use crate::sys::SysResult;

/// Readable after something was appended, until [`Bell::quiet`].
pub(super) struct Bell(Inotify);

impl Bell {
    pub fn of(folder: &Folder) -> SysResult<Bell> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let wanted = AddWatchFlags::IN_MODIFY
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_ONLYDIR;
        // By its descriptor, as another directory may have its name by now; by its name where /proc is not mounted.
        let by_descriptor = inotify.add_watch(paths::of_descriptor(folder.as_fd()).as_str(), wanted);
        by_descriptor.or_else(|_| inotify.add_watch(folder.path(), wanted))?;
        Ok(Bell(inotify))
    }

    /// Rings, for what was there before: a watch that is taken away says so.
    pub fn ring(&self, folder: &Folder) -> SysResult<()> {
        // The control file is watched for nothing else.
        let wanted = AddWatchFlags::IN_DELETE_SELF;
        let watch = self.0.add_watch(paths::of_descriptor(folder.control()).as_str(), wanted);
        let watch = watch.or_else(|_| self.0.add_watch(&folder.path().join(CONTROL), wanted))?;
        match self.0.rm_watch(watch) {
            Err(Errno::EINVAL) => Ok(()), // another thread has rung with it
            removed => removed,
        }
    }

    /// Takes back that it has rung. To be called before looking: what comes after the look rings anew.
    pub fn quiet(&self) {
        let mut events = [0; 4096];
        loop {
            match nix::unistd::read(&self.0, &mut events) {
                Ok(0) | Err(Errno::EAGAIN) => return,
                Ok(_) | Err(Errno::EINTR) => {}
                Err(_) => return, // it stays readable, and whoever polls looks once too often
            }
        }
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl std::fmt::Debug for Bell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bell({})", self.0.as_fd().as_raw_fd())
    }
}
