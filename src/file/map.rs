//! A disk file as memory.

use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::File;
use crate::error::Result;
use crate::shm::{MapOptions, Mapping, space};

impl File {
    /// Maps the file, or a part of it, as memory that all who map it share; what is written there gets to the disk in
    /// time, and by [`Mapping::flush`] at once. The mapping stands on its own: the file may be closed. Never waits for
    /// others.
    ///
    /// It shows the file that is open here, also after the name was given to another one. Make it large enough first
    /// ([`File::grow`]): an empty file gives an empty mapping.
    ///
    /// # Errors
    /// `EACCES` the file was opened for reading only and the mapping is to be written to, or for appending only; `EINVAL`
    /// an offset that is not a multiple of the page size, or a length past the end of the file; `ENODEV` the file system
    /// cannot map; `ENOMEM`, `EPERM` as [`Mapping::from_fd`].
    ///
    /// System calls: fstat, mmap; mlock and madvise on request.
    #[doc(alias = "mmap")]
    pub fn map(&self, options: &MapOptions) -> Result<Mapping> {
        Mapping::of_file(self.fd.as_fd(), self.object.address(), options)
    }

    /// Makes the file at least `size` bytes long, with its place on the disk reserved, so that a full disk is an error
    /// now and not a SIGBUS later; what is new reads as zeroes. It never becomes shorter. Blocks for the disk.
    ///
    /// # Errors
    /// `ENOSPC` the disk is full, with the mount in the text; `EFBIG` more than a file or the process may have; `EBADF`
    /// opened for reading only; `EDQUOT`; `EIO`.
    ///
    /// System call: fallocate, or what posix_fallocate does where the file system has none.
    pub fn grow(&self, size: u64) -> Result<()> {
        if size == 0 {
            return Ok(()); // every file is that long; the kernel would refuse it
        }
        space::reserve(self.fd.as_fd(), size, false).map_err(|errno| {
            let error = self.object.error(errno, "grow");
            if errno == Errno::EBADF && self.flags & OFlag::O_ACCMODE == OFlag::O_RDONLY {
                error.because("the file was opened for reading only; open it for writing")
            } else {
                space::explain(error, self.fd.as_fd(), size)
            }
        })
    }
}
