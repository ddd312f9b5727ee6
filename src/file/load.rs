//! Reading: a file as a whole, with a limit, or a part of it.

use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::fstat;
use nix::sys::uio::pread;

use super::{File, named, require_regular};
use crate::address::Address;
use crate::error::{Error, Result};
use crate::paths::Found;
use crate::sys::SysResult;
use crate::wait::Object;

/// How much is read at a time.
const CHUNK: usize = 1 << 20;

impl File {
    /// Reads the whole file at `address`, a `file:` one, if it has no more than `limit` bytes. Never blocks, other than
    /// for the disk.
    ///
    /// A file that is only ever replaced ([`File::replace`]) is seen as it was before or after, never in between.
    ///
    /// # Errors
    /// `EMSGSIZE` it is larger; [`Error::true_size`] tells how large, 0 where that is not known. `ENOENT`, `EACCES`,
    /// `EISDIR`, `ENOTSUP` as [`File::open`]; `ENOMEM`; `EIO`.
    ///
    /// System calls: open with O_PATH, fstat, open through /proc, pread until the end.
    pub fn load(address: &Address, limit: usize) -> Result<Vec<u8>> {
        let file = Source::open(address, "load")?;
        file.all(limit)
    }

    /// As [`File::load`], into memory of the caller's, whose length is the limit; gives the number of bytes.
    ///
    /// Errors and system calls: as [`File::load`].
    pub fn load_into(address: &Address, buffer: &mut [u8]) -> Result<usize> {
        let file = Source::open(address, "load")?;
        file.fill(buffer)
    }

    /// Reads the whole of the open file, as [`File::load`] does by name.
    pub fn read_all(&self, limit: usize) -> Result<Vec<u8>> {
        self.source("read_all").all(limit)
    }

    /// As [`File::read_all`], into memory of the caller's, whose length is the limit; gives the number of bytes.
    pub fn read_all_into(&self, buffer: &mut [u8]) -> Result<usize> {
        self.source("read_all").fill(buffer)
    }

    /// Reads what is there from `offset` on, until `buffer` is full or the file ends; gives the number of bytes, 0 at or
    /// past the end. Never blocks, other than for the disk.
    ///
    /// # Errors
    /// `EBADF` opened for appending only; `EINVAL` an offset past 2^63 - 1; `EIO`.
    ///
    /// System call: pread.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let source = self.source("read_at");
        source.read(offset, buffer).map_err(|errno| source.error(errno))
    }

    fn source(&self, name: &'static str) -> Source<&Object, BorrowedFd<'_>> {
        Source { object: &self.object, fd: self.fd.as_fd(), name }
    }
}

/// Something to read from, and who wants to.
struct Source<O, F> {
    object: O,
    fd: F,
    name: &'static str,
}

impl Source<Object, std::os::fd::OwnedFd> {
    fn open(address: &Address, name: &'static str) -> Result<Self> {
        let (object, path) = named(address, name)?;
        let failed = |errno| object.error(errno, name);
        let found = Found::at(path).map_err(failed)?;
        require_regular(&object, name, found.kind())?;
        let fd = found.open(path, OFlag::O_RDONLY).map_err(failed)?;
        Ok(Source { object, fd, name })
    }
}

impl<O: std::borrow::Borrow<Object>, F: AsFd> Source<O, F> {
    fn all(&self, limit: usize) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        // One byte past the size that the file tells, to meet its end at once, and one past the limit, to find out that
        // there is more.
        let expected = self.size().map_or(CHUNK, |size| size.saturating_add(1));
        self.reserve(&mut bytes, expected.min(limit.saturating_add(1)))?;
        loop {
            let filled = bytes.len();
            if filled == bytes.capacity() {
                self.reserve(&mut bytes, filled.max(CHUNK))?;
            }
            let length = bytes.capacity().min(filled.saturating_add(CHUNK)).min(limit.saturating_add(1));
            bytes.resize(length, 0);
            let read = self.read(filled as u64, bytes.get_mut(filled..).unwrap_or_default());
            bytes.truncate(filled + read.map_err(|errno| self.error(errno))?);
            if bytes.len() > limit {
                return Err(self.too_large(limit));
            }
            if bytes.len() < length {
                return Ok(bytes);
            }
        }
    }

    fn reserve(&self, bytes: &mut Vec<u8>, more: usize) -> Result<()> {
        bytes
            .try_reserve_exact(more)
            .map_err(|_| self.error(Errno::ENOMEM).because_found(format!("no memory for {} bytes", bytes.len() + more)))
    }

    fn fill(&self, buffer: &mut [u8]) -> Result<usize> {
        let failed = |errno| self.error(errno);
        let filled = self.read(0, buffer).map_err(failed)?;
        if filled == buffer.len() && self.read(filled as u64, &mut [0]).map_err(failed)? != 0 {
            return Err(self.too_large(filled));
        }
        Ok(filled)
    }

    /// Fills `buffer` from `offset` on unless the file ends before.
    fn read(&self, offset: u64, buffer: &mut [u8]) -> SysResult<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            let at = offset.checked_add(filled as u64).and_then(|at| i64::try_from(at).ok()).ok_or(Errno::EINVAL)?;
            match pread(&self.fd, buffer.get_mut(filled..).unwrap_or_default(), at) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(filled)
    }

    fn size(&self) -> Option<usize> {
        fstat(&self.fd).ok().and_then(|stat| usize::try_from(stat.st_size).ok()).filter(|size| *size > 0)
    }

    fn too_large(&self, limit: usize) -> Error {
        let size = self.size().filter(|size| *size > limit).unwrap_or(0);
        let text = match size {
            0 => format!("the file has more than the {limit} bytes allowed; raise the limit"),
            size => format!("the file has {size} bytes, allowed are {limit}; raise the limit"),
        };
        self.error(Errno::EMSGSIZE).because_found(text).with_true_size(size)
    }

    fn error(&self, errno: Errno) -> Error {
        let error = self.object.borrow().error(errno, self.name);
        match errno {
            Errno::EBADF => error.because("the file was opened for appending only; open it for reading"),
            Errno::EINVAL => error.because("an offset past 2^63 - 1, which no file has"),
            _ => error,
        }
    }
}
