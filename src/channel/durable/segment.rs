//! Reading a segment: the records in it, and where the next whole one is when something is wrong.
//!
//! No lock is taken. A record that is whole never changes; one that is not may be just being written.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::stat::fstat;
use nix::sys::uio::pread;
use nix::unistd::{Whence, lseek};

use super::format::{HEADING, Head, Heading, RECORD, Seed, padding};
use crate::sys::SysResult;

/// Bytes that are read at once.
const WINDOW: usize = 64 << 10;

/// A segment that is open.
pub(super) struct Segment {
    file: OwnedFd,
    pub heading: Heading,
    pub seed: Seed,
}

/// Bytes of one segment that were read ahead.
#[derive(Default)]
pub(super) struct Window {
    start: u64,
    bytes: Vec<u8>,
}

/// Reads until `into` is full or the file ends; how much it is.
pub(super) fn read_at(file: BorrowedFd<'_>, into: &mut [u8], at: u64) -> SysResult<usize> {
    let mut filled = 0;
    while filled < into.len() {
        let place = i64::try_from(at + filled as u64).map_err(|_| Errno::EFBIG)?;
        match pread(file, &mut into[filled..], place) {
            Err(Errno::EINTR) => {}
            Ok(0) => break,
            read => filled += read?,
        }
    }
    Ok(filled)
}

impl Window {
    /// The bytes from `at` on that are there already.
    fn ahead(&self, at: u64) -> &[u8] {
        let skipped = at.checked_sub(self.start).and_then(|skipped| usize::try_from(skipped).ok());
        skipped.and_then(|skipped| self.bytes.get(skipped..)).unwrap_or_default()
    }

    fn fill(&mut self, file: BorrowedFd<'_>, at: u64) -> SysResult<&[u8]> {
        self.bytes.resize(WINDOW, 0);
        self.start = at;
        let filled = read_at(file, &mut self.bytes, at);
        self.bytes.truncate(*filled.as_ref().unwrap_or(&0));
        filled?;
        Ok(&self.bytes)
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
    }
}

impl AsFd for Segment {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Segment {
    pub fn new(file: OwnedFd, heading: Heading) -> Segment {
        Segment { file, heading, seed: Seed::of(&heading) }
    }

    pub fn size(&self) -> SysResult<u64> {
        Ok(u64::try_from(fstat(&self.file)?.st_size).unwrap_or(0))
    }

    /// The record at this place, if there is a whole one whose sequence is at least `least`.
    pub fn look(&self, window: &mut Window, at: u64, least: u64) -> SysResult<Option<Head>> {
        // What was read ahead may have been half written then.
        if let Some(head) = self.within(window.ahead(at), at, least) {
            return Ok(Some(head));
        }
        let fresh = window.fill(self.file.as_fd(), at)?;
        if let Some(head) = self.within(fresh, at, least) {
            return Ok(Some(head));
        }
        match self.seed.decode(at, fresh) {
            Some(head) if head.whole() > WINDOW as u64 && head.sequence >= least => {
                Ok(self.is_whole(window, at, &head)?.then_some(head))
            }
            _ => Ok(None),
        }
    }

    fn within(&self, bytes: &[u8], at: u64, least: u64) -> Option<Head> {
        let head = self.seed.decode(at, bytes)?;
        let body = bytes.get(RECORD..usize::try_from(head.whole()).ok()?)?;
        let mut check = self.seed.body();
        check.update(body);
        (head.body_is(check.finalize()) && head.sequence >= least).then_some(head)
    }

    /// Whether a record is whole that does not fit the window.
    fn is_whole(&self, window: &mut Window, at: u64, head: &Head) -> SysResult<bool> {
        if at.saturating_add(head.whole()) > self.size()? {
            return Ok(false);
        }
        let mut check = self.seed.body();
        let (mut place, end) = (at + RECORD as u64, at + head.whole());
        while place < end {
            let read = window.fill(self.file.as_fd(), place)?;
            let part = read.get(..usize::try_from(end - place).unwrap_or(usize::MAX)).unwrap_or(read);
            if part.is_empty() {
                return Ok(false); // it was cut meanwhile
            }
            check.update(part);
            place += part.len() as u64;
        }
        Ok(head.body_is(check.finalize()))
    }

    /// The message of a record that [`Segment::look`] has found, into memory of just its length; false if it is not what it
    /// was then.
    pub fn read(&self, window: &Window, at: u64, head: &Head, into: &mut [u8]) -> SysResult<bool> {
        if let Some(message) = window.ahead(at).get(RECORD..RECORD + into.len()) {
            into.copy_from_slice(message);
            return Ok(true);
        }
        let filled = read_at(self.file.as_fd(), into, at + RECORD as u64)?;
        let mut check = self.seed.body();
        check.update(into);
        check.update(padding(into.len()));
        Ok(filled == into.len() && head.body_is(check.finalize()))
    }

    /// The first whole record behind this place whose sequence is at least `least`.
    pub fn search(&self, window: &mut Window, at: u64, least: u64) -> SysResult<Option<u64>> {
        let mut place = at.max(HEADING as u64 - 8) + 8;
        loop {
            // Over holes, which may be of any size.
            let Some(data) = self.data(place)? else { return Ok(None) };
            place = data;
            let bytes = window.fill(self.file.as_fd(), place)?;
            let candidate = bytes.chunks(8).enumerate().find_map(|(n, _)| {
                let found = place + 8 * n as u64;
                self.seed.decode(found, bytes.get(8 * n..)?).map(|_| found)
            });
            let end = place + bytes.len() as u64;
            match candidate {
                Some(found) => {
                    if self.look(window, found, least)?.is_some() {
                        return Ok(Some(found));
                    }
                    place = found + 8;
                }
                None if bytes.len() < WINDOW => return Ok(None),
                // A head may lie across the end of what was read.
                None => place = end - RECORD as u64,
            }
        }
    }

    /// The first place from this on that is in no hole of the file, by whole eights.
    fn data(&self, place: u64) -> SysResult<Option<u64>> {
        let at = i64::try_from(place).map_err(|_| Errno::EFBIG)?;
        match lseek(&self.file, at, Whence::SeekData) {
            Ok(data) => Ok(Some(place.max(u64::try_from(data).unwrap_or(0) / 8 * 8))),
            Err(Errno::ENXIO) => Ok(None),
            Err(Errno::EINVAL | Errno::EOPNOTSUPP) => Ok(Some(place)), // the file system does not tell
            Err(errno) => Err(errno),
        }
    }

    /// The end of its last whole record, and the sequence behind that, from a place on up to which this is known.
    pub fn end(&self, window: &mut Window, from: u64, next: u64) -> SysResult<(u64, u64)> {
        let (mut at, mut next) = (from, next);
        window.clear();
        loop {
            match self.look(window, at, next)? {
                Some(head) => (at, next) = (at + head.whole(), head.sequence.saturating_add(1)),
                None => match self.search(window, at, next)? {
                    Some(found) => at = found, // what lies between is damaged, and stays for readers to count
                    None => return Ok((at, next)),
                },
            }
        }
    }
}
