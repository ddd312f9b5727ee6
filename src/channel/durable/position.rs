//! Where a reader with a name is, kept in a file of two slots that are written in turn: a write that was broken off leaves
//! the one before.

use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fchmod, fstat};
use nix::sys::uio::pwrite;
use nix::unistd::{UnlinkatFlags, fdatasync, fsync, unlinkat};

use super::fault::{Fault, Outcome};
use super::folder::{Folder, READERS, write_all};
use super::format::{Identity, SLOT, Slot, Unfit};
use super::segment::read_at;
use crate::paths;
use crate::sys::file_lock::{try_lock, unlock};
use crate::sys::not_inherited::NotInherited;

/// Longest name of a reader, of the 255 that a file's may have.
const LONGEST: usize = 200;

/// The position of a reader, locked while it is in use.
pub(super) struct Position {
    file: NotInherited,
    log: Identity,
    count: u64,
    /// The last position that is on the file.
    known: Option<(u64, u64)>,
}

pub(super) fn check_name(name: &str) -> Outcome<()> {
    let is_good = name.len() <= LONGEST && !name.contains('/') && !matches!(name, "." | "..");
    if is_good {
        return Ok(());
    }
    Err(Fault::new(
        Errno::EINVAL,
        format!("a reader's name has no slash, is not . or .., and has at most {LONGEST} bytes"),
    ))
}

impl Position {
    /// Opens the position of this reader, or makes one; EBUSY while another has it.
    pub fn open(folder: &Folder, name: &str) -> Outcome<Position> {
        check_name(name)?;
        let readers = folder.readers()?;
        let file_name = || folder.path().join(READERS).join(name).display().to_string();
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        // Again only if it was removed at that moment.
        for _ in 0..16 {
            let file = NotInherited::open(|| openat(&readers, name, flags, Mode::from_bits_truncate(0o600)));
            let file = match file {
                Err(Errno::ELOOP | Errno::EISDIR | Errno::ENXIO) => {
                    return Err(Fault::unfit(&file_name(), Unfit::Foreign));
                }
                file => file?,
            };
            if paths::kind(&fstat(&file)?) != SFlag::S_IFREG {
                return Err(Fault::unfit(&file_name(), Unfit::Foreign));
            }
            match try_lock(file.as_fd()) {
                Err(Errno::EAGAIN) => {
                    return Err(Fault::new(
                        Errno::EBUSY,
                        format!("another receiver reads as reader={name}; each has a name of its own, or none"),
                    ));
                }
                locked => locked?,
            }
            if fstat(&file)?.st_nlink == 0 {
                continue;
            }
            let mut bytes = [0; 2 * SLOT];
            let length = read_at(file.as_fd(), &mut bytes, 0)?;
            let slots = [0, SLOT].map(|at| Slot::decode(bytes.get(at..(at + SLOT).min(length)).unwrap_or_default()));
            let newest = slots.iter().flatten().max_by_key(|slot| slot.count).copied();
            let mut position = Position { file, log: folder.log, count: 0, known: None };
            match (newest, slots) {
                (Some(slot), _) if slot.log == folder.log => {
                    position.count = slot.count;
                    position.known = Some((slot.next, slot.epoch));
                }
                (None, [Err(Unfit::Unfinished), _]) => {
                    fchmod(&position.file, folder.mode())?;
                    // Room for both, so that a full disk cannot keep a reader from going on.
                    write_all(position.file.as_fd(), &[0; 2 * SLOT])?;
                    fsync(&readers)?;
                }
                (Some(_), _) => return Err(Fault::unfit(&file_name(), Unfit::Foreign)),
                (None, [Err(unfit), _]) => return Err(Fault::unfit(&file_name(), unfit)),
                (None, _) => return Err(Fault::unfit(&file_name(), Unfit::Damaged)),
            }
            return Ok(position);
        }
        Err(Errno::ESTALE.into())
    }

    /// Forgets the position of this reader, which must not be in use.
    pub fn remove(folder: &Folder, name: &str) -> Outcome<()> {
        check_name(name)?;
        let readers = folder.readers()?;
        let open = || openat(&readers, name, OFlag::O_RDWR | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW, Mode::empty());
        // Again only if another has removed it at that moment: what has its name now may be in use.
        for _ in 0..16 {
            let file = match NotInherited::open(open) {
                Err(Errno::ENOENT) => {
                    return Err(Fault::new(Errno::ENOENT, format!("no reader={name} has a position here")));
                }
                file => file?,
            };
            match try_lock(file.as_fd()) {
                Err(Errno::EAGAIN) => {
                    return Err(Fault::new(Errno::EBUSY, format!("reader={name} is in use; close it first")));
                }
                locked => locked?,
            }
            if fstat(&file)?.st_nlink == 0 {
                continue;
            }
            let removed = unlinkat(&readers, name, UnlinkatFlags::NoRemoveDir);
            unlock(file.as_fd());
            return Ok(removed?);
        }
        Err(Errno::ESTALE.into())
    }

    /// Fails in a child made by fork, which may not use what its parent has locked.
    pub fn check(&self) -> Outcome<()> {
        if self.file.is_of_this_process() { Ok(()) } else { Err(Position::of_another()) }
    }

    pub fn of_another() -> Fault {
        Fault::new(
            Errno::EBUSY,
            "the position belongs to the process that opened this receiver; open another in the child",
        )
    }

    /// The sequence and the epoch that were kept.
    pub fn known(&self) -> Option<(u64, u64)> {
        self.known
    }

    /// Keeps a position: to survive this process, and with [`Position::sync`] the machine.
    pub fn keep(&mut self, next: u64, epoch: u64) -> Outcome<()> {
        if self.known == Some((next, epoch)) {
            return Ok(());
        }
        let Some(file) = self.file.fd() else {
            return Err(Position::of_another());
        };
        let count = self.count.wrapping_add(1);
        let slot = Slot { log: self.log, count, next, epoch };
        let at = i64::try_from(SLOT).unwrap_or(0) * i64::from(count % 2 == 1);
        loop {
            match pwrite(file, &slot.encode(), at) {
                Err(Errno::EINTR) => {}
                Ok(SLOT) => break,
                Ok(_) => return Err(Errno::ENOSPC.into()),
                Err(errno) => return Err(errno.into()),
            }
        }
        (self.count, self.known) = (count, Some((next, epoch)));
        Ok(())
    }

    /// Brings it to the disk. Blocks for that.
    pub fn sync(&self) -> Outcome<()> {
        match self.file.fd() {
            Some(file) => Ok(fdatasync(file)?),
            None => Ok(()),
        }
    }
}

impl Drop for Position {
    fn drop(&mut self) {
        if let Some(file) = self.file.fd() {
            // Closing would do, but for a child that was forked at the wrong moment.
            unlock(file);
        }
    }
}
