//! The file: finding it, appending to it, setting it aside.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, stat};
use nix::sys::uio::{pread, pwrite};

use super::journal::Spot;
use crate::sys::SysResult;
use crate::sys::file_lock::try_lock;
use crate::sys::not_inherited::NotInherited;

pub(super) fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

/// The file that is open for writing, locked against other writers.
pub(super) struct Place {
    file: NotInherited,
    device: u64,
    inode: u64,
    /// Where the next bytes go, as far as this process knows.
    pub end: u64,
    /// Whether the directory may not have the file's name on the disk yet, as the file is new.
    pub unnamed: bool,
}

/// What was found where bytes should go.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    /// So many of them are there, and nothing behind them.
    Part(usize),
    All,
    /// Something else, or the file ends before.
    Foreign,
}

impl Place {
    /// Opens the file, or makes it with this mode, whatever the umask.
    pub fn open(path: &Path, mode: u32) -> SysResult<Place> {
        match Place::existing(path) {
            Err(Errno::ENOENT) => {}
            found => return found,
        }
        let mut options = OpenOptions::new();
        // A FIFO that nobody reads would keep a writer waiting.
        let flags = libc::O_CLOEXEC | libc::O_NONBLOCK;
        options.read(true).write(true).create(true).truncate(false).mode(mode).custom_flags(flags);
        let place = Place { unnamed: true, ..Place::with(&options, path)? };
        // Others may be the next writer. There are file systems that know no modes.
        let _ = fchmod(place.fd()?, Mode::from_bits_truncate(mode));
        Ok(place)
    }

    /// Opens a file that is there.
    fn existing(path: &Path) -> SysResult<Place> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(libc::O_CLOEXEC | libc::O_NONBLOCK);
        Place::with(&options, path)
    }

    fn with(options: &OpenOptions, path: &Path) -> SysResult<Place> {
        // Not handed on to children, which would keep the lock when this process has died.
        let file = NotInherited::open(|| Ok(OwnedFd::from(options.open(path).map_err(|error| errno(&error))?)))?;
        let status = fstat(&file)?;
        if SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
            return Err(Errno::EINVAL);
        }
        match try_lock(&file) {
            Err(Errno::EAGAIN) => return Err(Errno::EBUSY),
            Err(Errno::ENOLCK | Errno::EOPNOTSUPP) => {} // a file system without locks
            locked => locked?,
        }
        let end = u64::try_from(status.st_size).unwrap_or(0);
        let (device, inode) = (status.st_dev, status.st_ino);
        Ok(Place { file, device, inode, end, unnamed: false })
    }

    pub fn spot(&self) -> Spot {
        Spot { device: self.device, inode: self.inode, offset: self.end }
    }

    pub fn is_at(&self, spot: &Spot) -> bool {
        (self.device, self.inode) == (spot.device, spot.inode)
    }

    fn status(&self) -> SysResult<FileStat> {
        fstat(self.file.fd().ok_or(Errno::ESTALE)?)
    }

    pub fn size(&self) -> SysResult<u64> {
        Ok(u64::try_from(self.status()?.st_size).unwrap_or(0))
    }

    /// Whether the path still stands for this file.
    pub fn is_named(&self, path: &Path) -> bool {
        stat(path).is_ok_and(|status| (status.st_dev, status.st_ino) == (self.device, self.inode))
    }

    /// Whether the file ends within a line.
    pub fn is_torn(&self) -> SysResult<bool> {
        let mut last = [b'\n'];
        if self.end > 0 {
            pread(self.fd()?, &mut last, offset(self.end - 1)?)?;
        }
        Ok(last != [b'\n'])
    }

    fn fd(&self) -> SysResult<std::os::fd::BorrowedFd<'_>> {
        self.file.fd().ok_or(Errno::ESTALE)
    }

    /// Writes all of these bytes, the first at `at`.
    pub fn write(&mut self, mut bytes: &[u8], mut at: u64) -> SysResult<()> {
        while !bytes.is_empty() {
            let written = match pwrite(self.fd()?, bytes, offset(at)?) {
                Err(Errno::EINTR) => continue,
                Ok(0) => return Err(Errno::ENOSPC),
                written => written?,
            };
            bytes = bytes.get(written..).unwrap_or_default();
            at += written as u64;
            self.end = self.end.max(at);
        }
        Ok(())
    }

    /// Writes what is missing of these bytes, which may have been written before, in part or as a whole. Where it cannot be
    /// there, as somebody has changed the file, they go to its end, which `moved` hears before.
    pub fn complete(&mut self, bytes: &[u8], at: u64, moved: impl FnOnce(Spot)) -> SysResult<()> {
        self.end = self.size()?;
        match self.found(bytes, at)? {
            Found::All => Ok(()),
            Found::Part(there) => self.write(bytes.get(there..).unwrap_or_default(), at + there as u64),
            Found::Foreign => {
                moved(self.spot());
                self.write(bytes, self.end)
            }
        }
    }

    fn found(&self, bytes: &[u8], at: u64) -> SysResult<Found> {
        if self.end < at {
            return Ok(Found::Foreign);
        }
        let expected = usize::try_from(self.end - at).unwrap_or(usize::MAX).min(bytes.len());
        let mut there = vec![0; expected];
        let mut filled = 0;
        while filled < expected {
            match pread(self.fd()?, &mut there[filled..], offset(at + filled as u64)?) {
                Err(Errno::EINTR) => {}
                Ok(0) => return Ok(Found::Foreign),
                read => filled += read?,
            }
        }
        Ok(match bytes.get(..expected) == Some(&there[..]) {
            false => Found::Foreign,
            true if expected == bytes.len() => Found::All,
            true => Found::Part(expected),
        })
    }

    /// Brings what was written to the disk, and the first time the name of the file, under which it is found there.
    pub fn sync(&mut self, path: &Path) -> SysResult<()> {
        nix::unistd::fdatasync(self.fd()?)?;
        if std::mem::take(&mut self.unnamed)
            && let Some(directory) = path.parent()
        {
            // A directory that cannot be read, or synced, leaves that to the kernel.
            let _ = fs::File::open(directory).and_then(|directory| directory.sync_all());
        }
        Ok(())
    }
}

fn offset(at: u64) -> SysResult<i64> {
    i64::try_from(at).map_err(|_| Errno::EFBIG)
}

/// Finds a file that was moved away, in its directory. EBUSY: another writer has it.
pub(super) fn moved_away(path: &Path, spot: &Spot) -> SysResult<Option<Place>> {
    let Some(Ok(entries)) = path.parent().map(fs::read_dir) else { return Ok(None) };
    let is_it = |entry: &fs::DirEntry| {
        entry.metadata().is_ok_and(|found| (found.dev(), found.ino()) == (spot.device, spot.inode))
    };
    let Some(entry) = entries.filter_map(Result::ok).find(is_it) else { return Ok(None) };
    match Place::existing(&entry.path()) {
        Err(Errno::EBUSY) => Err(Errno::EBUSY),
        found => Ok(found.ok().filter(|place| place.is_at(spot))),
    }
}

pub(super) fn numbered(path: &Path, number: u32, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}{end}"));
    name.into()
}

pub(super) fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

pub(super) const COMPRESSED: &str = ".gz";

/// Whether a number is taken by a file that was set aside.
pub(super) fn is_taken(path: &Path, number: u32) -> bool {
    exists(&numbered(path, number, "")) || exists(&numbered(path, number, COMPRESSED))
}

/// Sets the file aside as the first of those that are kept; the others move on by one, as far as the first gap. Done again
/// after it was broken off, it goes on where it was: there is a gap by then.
pub(super) fn set_aside(path: &Path, keep: u32) -> SysResult<()> {
    let gap = match (1..=keep).find(|number| !is_taken(path, *number)) {
        Some(gap) => gap,
        None => {
            for end in ["", COMPRESSED] {
                gone(fs::remove_file(numbered(path, keep, end)))?;
            }
            keep
        }
    };
    for number in (1..gap).rev() {
        for end in ["", COMPRESSED] {
            gone(fs::rename(numbered(path, number, end), numbered(path, number + 1, end)))?;
        }
    }
    gone(fs::rename(path, numbered(path, 1, "")))
}

/// That something is not there is as good as done.
fn gone(result: io::Result<()>) -> SysResult<()> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(errno(&error)),
        _ => Ok(()),
    }
}

/// The time at which the file was last written to, in seconds since 1970; 0 where there is none.
pub(super) fn written_at(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |found| u64::try_from(found.mtime()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn files_move_on_as_far_as_the_first_gap() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        for round in 0..4 {
            fs::write(&path, format!("{round}")).unwrap();
            set_aside(&path, 3).unwrap();
        }
        assert_eq!(names(directory.path()), ["log.1", "log.2", "log.3"]);
        assert_eq!(fs::read_to_string(numbered(&path, 1, "")).unwrap(), "3");
        assert_eq!(fs::read_to_string(numbered(&path, 3, "")).unwrap(), "1");
        // Broken off after the first step: what is left of the others stays.
        fs::remove_file(numbered(&path, 2, "")).unwrap();
        fs::write(&path, "4").unwrap();
        set_aside(&path, 3).unwrap();
        assert_eq!(fs::read_to_string(numbered(&path, 2, "")).unwrap(), "3");
        assert_eq!(fs::read_to_string(numbered(&path, 3, "")).unwrap(), "1");
    }

    #[test]
    fn what_is_there_already_is_not_written_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        for (before, after) in
            [("", "abcdef"), ("abc", "abcdef"), ("abcdef", "abcdef"), ("abcdefg", "abcdefg"), ("xyz", "xyzabcdef")]
        {
            fs::write(&path, before).unwrap();
            let mut place = Place::open(&path, 0o600).unwrap();
            place.complete(b"abcdef", 0, |_| {}).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), after);
        }
    }

    #[test]
    fn the_mode_is_that_of_a_file_made_here_only() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let mode_of = |name: &str, mode| {
            let path = directory.path().join(name);
            Place::open(&path, mode).unwrap();
            fs::metadata(path).unwrap().permissions().mode() & 0o7777
        };
        // No umask leaves all of these bits.
        assert_eq!(mode_of("made", 0o666), 0o666);
        assert_eq!(mode_of("made", 0o600), 0o666, "it was there");
        std::os::unix::fs::symlink("behind", directory.path().join("link")).unwrap();
        assert_eq!(mode_of("link", 0o622), 0o622);
    }

    #[test]
    fn the_name_is_brought_to_the_disk_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut place = Place::open(&path, 0o600).unwrap();
        assert!(place.unnamed);
        place.sync(&path).unwrap();
        assert!(!place.unnamed);
        drop(place);
        assert!(!Place::open(&path, 0o600).unwrap().unnamed);
    }

    #[test]
    fn a_file_has_one_writer_and_has_to_be_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let _place = Place::open(&path, 0o600).unwrap();
        assert_eq!(Place::open(&path, 0o600).err(), Some(Errno::EBUSY));
        assert_eq!(Place::open(Path::new("/dev/null"), 0o600).err(), Some(Errno::EINVAL));
    }
}
