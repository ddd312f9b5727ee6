//! Cells (`cell:name`): the latest value, in shared memory.
//!
//! | file | holds |
//! | --- | --- |
//! | `mod.rs` | the API |
//! | `held.rs` | values written in place |
//! | `options.rs` | options and statistics |
//! | `buffers.rs` | how buffers change hands between writers and readers |
//! | `word.rs` | the words that say what they hold |
//! | `layout.rs` | what lies where |
//! | `doorbell.rs` | the descriptor to poll |
//!
//! docs/ALGORITHMS.md tells the whole in one place.

mod buffers;
mod doorbell;
mod held;
mod layout;
mod options;
mod word;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use nix::errno::Errno;

pub use held::CellReserved;
pub use options::{CellOptions, CellParticipant, CellRead, CellStatistics};

use crate::address::{Address, Scheme};
use crate::doorbell::Doorbells;
use crate::error::{Error, Result};
use crate::lender::Lender;
use crate::segment::{Bell, Member, NO_ROOM, Party, Patience, Plan, Segment, Tag, look_around};
use crate::sync_atomics::{AtomicU64, Ordering};
use crate::sys::SysResult;
use crate::sys::shared::Mapping;
use crate::timeout::Timeout;
use crate::wait::Object;
use buffers::{Buffers, Found, Held};
use layout::{Geometry, KIND};

const ANONYMOUS: &str = "cell:";
/// A reader that was overrun so often stops relying on luck.
const HASTY_TRIES: u32 = 3;
/// Nobody is overrun so often by those who keep the rules.
const TRIES: u32 = 1 << 20;

/// The latest value, in shared memory: anybody may write it, anybody read it, and nobody waits for anybody.
///
/// Named (`cell:position`), or anonymous and inherited by children or passed as a descriptor. A reader finds a whole
/// value, never a mixture of two, within a fixed number of steps, also while writers write at full speed, are stopped
/// or killed in the middle of it; and it writes nothing that others see, unless it was overrun three times. Values that
/// nobody has read in time are gone: that is what a cell is for.
///
/// Reading and writing make no system call unless somebody waits for a change. A child made by fork that uses the handle
/// takes part as itself. All methods may be called from several threads at once; those that share a handle and are
/// overrun at the same time take turns, so threads for which that matters open a handle each.
///
/// ```
/// use wigwag::{Cell, CellOptions, Timeout};
/// let cell = Cell::anonymous(CellOptions::default())?;
/// cell.write(b"12.5 degrees")?;
/// cell.write(b"13 degrees")?;
/// let mut buffer = [0; 64];
/// let read = cell.read(&mut buffer)?;
/// assert_eq!((&buffer[..read.length], read.sequence), (&b"13 degrees"[..], 2));
/// assert!(cell.wait(read.sequence, Timeout::Now).is_err(), "nothing newer yet");
/// # Ok::<(), wigwag::Error>(())
/// ```
pub struct Cell {
    object: Object,
    /// Before `core`: its helper ends before the words go that it looks at.
    bells: Doorbells<()>,
    core: Arc<Core>,
    patience: Patience,
}

/// What the helper of the doorbell shares with the handle.
struct Core {
    buffers: Buffers,
    /// The newest sequence number that this handle has seen.
    seen: AtomicU64,
}

impl Cell {
    /// Opens the cell of this name, or makes it. Never blocks.
    ///
    /// A plain name lies in `$WIGWAG_DIR` or `/dev/shm/wigwag-UID`, a name with a slash is a path on a tmpfs. What the
    /// cell is decides who makes it; those who come later get it as it is.
    ///
    /// # Errors
    /// `EINVAL` the options do not fit together; `ENOSPC` the memory is not free; `EACCES` the directory is somebody
    /// else's; `EBADMSG` there is something else under that name, or it is damaged; `EPROTO` it was made by an
    /// incompatible version; `EUSERS` it has no room for another participant; `EMFILE`, `ENFILE`.
    ///
    /// System calls: openat, fallocate, linkat, mmap, fcntl.
    pub fn open(address: &Address, options: CellOptions) -> Result<Cell> {
        address.require(&[Scheme::Cell], "open")?;
        let options = options.with(address)?;
        let text = address.without_options().to_string();
        let geometry = plan(&options, &text)?;
        let fill = |memory: &Arc<Mapping>, body| geometry.fill(memory, body);
        let body = geometry.size().unwrap_or(usize::MAX);
        let plan = Plan { kind: KIND, participants: options.participants, body, mode: options.mode, fill: &fill };
        let (segment, _) = Segment::open_or_create(address, &plan)?;
        Cell::of(segment, text, &options)
    }

    /// Makes a cell without a name, for children and for those to whom its descriptor is passed. Never blocks. Nobody can
    /// change its size under its users.
    ///
    /// # Errors
    /// `EINVAL`, `ENOSPC`, `EMFILE`, `ENFILE` as [`Cell::open`].
    ///
    /// System calls: memfd_create, fallocate, mmap, fcntl.
    pub fn anonymous(options: CellOptions) -> Result<Cell> {
        let options = options.check(ANONYMOUS)?;
        let geometry = plan(&options, ANONYMOUS)?;
        let fill = |memory: &Arc<Mapping>, body| geometry.fill(memory, body);
        let body = geometry.size().unwrap_or(usize::MAX);
        let plan = Plan { kind: KIND, participants: options.participants, body, mode: 0o600, fill: &fill };
        Cell::of(Segment::anonymous(ANONYMOUS, &plan)?, ANONYMOUS.into(), &options)
    }

    /// Takes part in a cell whose descriptor came from elsewhere. Never blocks. Of the options, only those of the handle
    /// count.
    ///
    /// # Errors
    /// `EBADMSG`, `EPROTO`, `EUSERS`, `EMFILE`, `ENFILE` as [`Cell::open`].
    ///
    /// System calls: mmap, fcntl.
    pub fn from_fd(fd: OwnedFd, options: CellOptions) -> Result<Cell> {
        let options = options.check(ANONYMOUS)?;
        Cell::of(Segment::adopt(ANONYMOUS, fd, KIND)?, ANONYMOUS.into(), &options)
    }

    fn of(segment: Segment, address: String, options: &CellOptions) -> Result<Cell> {
        let object = Object::new(address);
        let fail = |errno| join_error(object.error(errno, "open"));
        let buffers = Member::join(segment).and_then(Buffers::new).map_err(fail)?;
        let core = Arc::new(Core { buffers, seen: AtomicU64::new(0) });
        let cell = Cell { object, bells: Doorbells::default(), core, patience: Patience::new(options.wait) };
        // What the dead hold is best taken back by those who come, as nobody else may ever have a reason to look.
        cell.look_around().map_err(|errno| explained(cell.object.error(errno, "open")))?;
        Ok(cell)
    }

    /// How many bytes of memory a cell with these options takes, all in all. Never blocks.
    ///
    /// # Errors
    /// `EINVAL` the options do not fit together.
    pub fn size_for(options: &CellOptions) -> Result<usize> {
        let options = options.clone().check(ANONYMOUS)?;
        let body = plan(&options, ANONYMOUS)?.size().unwrap_or(usize::MAX);
        Ok(Segment::size_for(options.participants, body))
    }

    /// Removes a cell's name; those who have it open keep it. Never blocks.
    ///
    /// # Errors
    /// `ENOENT` there is none; `EBADMSG` it is something else, which is left.
    ///
    /// System calls: openat, mmap, unlinkat.
    pub fn remove(address: &Address) -> Result<()> {
        address.require(&[Scheme::Cell], "remove")?;
        Segment::remove(address, &[KIND])
    }

    /// Whether the name still stands for this cell. Never blocks.
    ///
    /// # Errors
    /// `ESTALE` the name was removed: what is written from now on reaches only those who have the cell open.
    ///
    /// System call: fstat.
    pub fn check(&self) -> Result<()> {
        let checked = self.core.buffers.member.segment().check();
        checked.map_err(|errno| self.object.error(errno, "check").because("the name was removed; open it anew"))
    }

    /// Makes a copy of these bytes the latest value; its sequence number. Never blocks.
    ///
    /// # Errors
    /// `EMSGSIZE` it is larger than the cell's largest, which is the error's true size; `EAGAIN` all buffers are in use,
    /// which takes more unfinished writes than the cell has participants; `ESTALE` this handle was declared dead because
    /// its lock was closed; `EBADMSG` the cell is damaged.
    ///
    /// System call: futex, if somebody waits for a change.
    #[inline]
    pub fn write(&self, value: &[u8]) -> Result<u64> {
        let (me, held) = self.claim(value.len(), "write")?;
        self.core.buffers.write(&held, 0, value);
        self.core.buffers.publish(&held, me).map_err(|errno| explained(self.object.error(errno, "write")))
    }

    /// Reserves room for a value of this many bytes, to be written in place and then published. Never blocks.
    ///
    /// # Errors
    /// As [`Cell::write`].
    ///
    /// ```
    /// # use wigwag::{Cell, CellOptions};
    /// let cell = Cell::anonymous(CellOptions::default())?;
    /// let mut reserved = cell.reserve(5)?;
    /// reserved.write(0, b"12345");
    /// assert_eq!(reserved.publish()?, 1);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn reserve(&self, length: usize) -> Result<CellReserved<'_>> {
        let (me, held) = self.claim(length, "reserve")?;
        Ok(CellReserved::new(Lender::Lent(self), me, held))
    }

    /// As [`Cell::reserve`], with a guard that keeps the cell open itself.
    ///
    /// # Errors
    /// As [`Cell::reserve`].
    pub fn reserve_owned(self: &Arc<Cell>, length: usize) -> Result<CellReserved<'static>> {
        let (me, held) = self.claim(length, "reserve")?;
        Ok(CellReserved::new(Lender::Kept(self.clone()), me, held))
    }

    /// Copies the latest value out. Never blocks, and is over after a fixed number of steps.
    ///
    /// # Errors
    /// `ENODATA` nothing has been written yet; `EMSGSIZE` the buffer is too small: the value's length is the error's
    /// true size; `ESTALE`, `EBADMSG` as [`Cell::write`].
    #[inline]
    pub fn read(&self, buffer: &mut [u8]) -> Result<CellRead> {
        match self.core.buffers.read(buffer) {
            Ok(Found::Value { length, sequence }) => {
                self.note(sequence);
                Ok(CellRead { length, sequence })
            }
            found => self.read_on(found, buffer, HASTY_TRIES),
        }
    }

    /// As [`Cell::read`], on the way that a reader takes after it was overrun: for tests of it.
    #[doc(hidden)]
    pub fn read_as_if_overrun(&self, buffer: &mut [u8]) -> Result<CellRead> {
        self.core
            .buffers
            .sequence()
            .and_then(|sequence| if sequence == 0 { Err(Errno::ENODATA) } else { Ok(()) })
            .map_err(|errno| self.object.error(errno, "read"))?;
        self.read_on(Ok(Found::Overrun), buffer, 0)
    }

    #[cold]
    fn read_on(&self, first: SysResult<Found>, buffer: &mut [u8], hasty: u32) -> Result<CellRead> {
        let (mut found, mut tried) = (first, 1);
        loop {
            match found.map_err(|errno| explained(self.object.error(errno, "read")))? {
                Found::Value { length, sequence } => {
                    self.note(sequence);
                    return Ok(CellRead { length, sequence });
                }
                Found::TooLong(length) => {
                    let error = self.object.error(Errno::EMSGSIZE, "read");
                    return Err(error.because("the buffer is too small for the value").with_true_size(length));
                }
                Found::Overrun if tried < hasty => found = self.core.buffers.read(buffer),
                Found::Overrun => {
                    // In turns: another thread of this handle may be using the pin.
                    found = self.core.buffers.member.tag().and_then(|me| self.core.buffers.read_pinned(me, buffer));
                    if matches!(found, Ok(Found::Overrun)) {
                        std::thread::yield_now();
                        found = self.core.buffers.read(buffer);
                    }
                }
            }
            tried += 1;
            if tried > TRIES {
                return Err(explained(self.object.error(Errno::EBADMSG, "read")));
            }
        }
    }

    /// Waits until there have been more values than `after`; how many there have been then. The sequence number of the
    /// last value that was read is what to give; 0 waits for the first.
    ///
    /// # Errors
    /// `EAGAIN`, `ETIMEDOUT`, `ECANCELED` as everywhere; `ESTALE`, `EBADMSG` as [`Cell::write`].
    ///
    /// System calls: futex, if it has to wait.
    #[inline]
    pub fn wait(&self, after: u64, timeout: Timeout) -> Result<u64> {
        let buffers = &self.core.buffers;
        let attempt = || buffers.sequence().map(|sequence| (sequence > after).then_some(sequence));
        let mut operation = self.object.operation("wait", timeout);
        match attempt() {
            Ok(Some(sequence)) => Ok(sequence),
            Ok(None) => {
                self.note(after);
                self.patience.wait(self, &mut operation, attempt)
            }
            Err(errno) => Err(explained(operation.error(errno))),
        }
    }

    /// Waits for a value newer than the one of this sequence number, and copies it out.
    ///
    /// # Errors
    /// As [`Cell::wait`] and [`Cell::read`].
    pub fn wait_read(&self, after: u64, buffer: &mut [u8], timeout: Timeout) -> Result<CellRead> {
        self.wait(after, timeout)?;
        self.read(buffer)
    }

    /// A descriptor that is readable while there is a value that this handle has not seen. For poll, a
    /// [`WaitSet`](crate::WaitSet), an event loop. Never blocks.
    ///
    /// A read, or a wait with the sequence number of the latest value, quiets it. It belongs to this handle, which closes
    /// it. In a child made by fork ask again: the child gets a descriptor of its own. The cost, from the first call on: a
    /// helper thread that sleeps in the kernel, and two switches of context for each time that it is woken.
    ///
    /// # Errors
    /// `ENOMEM` no helper thread can be had; `EMFILE`, `ENFILE` no descriptor is left.
    ///
    /// System calls: eventfd2, clone; in the helper futex.
    pub fn doorbell(&self) -> Result<BorrowedFd<'_>> {
        self.bells.get((), &self.object, || Ok(Box::new(doorbell::Listener(Arc::clone(&self.core)))))
    }

    /// The descriptors that were asked for in this process, for those who have to forget them before they go. Never
    /// blocks.
    pub fn doorbells(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.bells.descriptors()
    }

    /// What the cell has seen and who uses it. Never blocks.
    ///
    /// # Errors
    /// `EBADMSG` the cell is damaged; `ESTALE` as [`Cell::write`].
    pub fn statistics(&self) -> Result<CellStatistics> {
        self.read_statistics().map_err(|errno| explained(self.object.error(errno, "statistics")))
    }

    fn read_statistics(&self) -> SysResult<CellStatistics> {
        let buffers = &self.core.buffers;
        buffers.member.tag()?;
        let (mut tags, mut participants) = (Vec::new(), Vec::new());
        buffers.member.each(|peer| {
            tags.push(peer.tag);
            let (is_self, pid, since) = (peer.is_self, peer.pid, peer.since);
            participants.push(CellParticipant { is_self, pid, since, writing: 0 });
        })?;
        for (participant, writing) in participants.iter_mut().zip(buffers.holdings(&tags)) {
            participant.writing = writing;
        }
        Ok(CellStatistics {
            sequence: buffers.sequence()?,
            writing: participants.iter().map(|participant| participant.writing).sum(),
            skipped: buffers.control()?.rare.0.skipped.load(Ordering::Relaxed),
            buffers: buffers.geometry.buffers(),
            largest: buffers.geometry.largest,
            bytes: buffers.member.segment().size(),
            participants,
        })
    }

    /// The largest value in bytes. Never blocks.
    pub fn largest(&self) -> usize {
        self.core.buffers.geometry.largest
    }

    /// Its address; `cell:` for one without a name.
    pub fn address(&self) -> &str {
        self.object.address()
    }

    /// Ends the waits of all threads on this handle with `ECANCELED`, now and later; returns when they have left.
    pub fn end_waits(&self) {
        self.object.end_waits();
    }

    // --- what the calls are made of ---

    #[inline]
    fn claim(&self, length: usize, operation: &'static str) -> Result<(Tag, Held)> {
        let buffers = &self.core.buffers;
        let fail = |errno| self.object.error(errno, operation);
        if length > buffers.geometry.largest {
            return Err(fail(Errno::EMSGSIZE)
                .because("the value is larger than the cell's largest; make the cell with a larger one")
                .with_true_size(buffers.geometry.largest));
        }
        let claim = || {
            let me = buffers.member.tag()?;
            Ok(buffers.claim(me, length)?.map(|held| (me, held)))
        };
        if let Some(claimed) = claim().map_err(|errno| explained(fail(errno)))? {
            return Ok(claimed);
        }
        // Some may be in the hands of the dead.
        let after_a_look = self.look_around().and_then(|()| claim()).map_err(|errno| explained(fail(errno)))?;
        after_a_look.ok_or_else(|| {
            fail(Errno::EAGAIN).because("all buffers are being written or read; make the cell with more participants")
        })
    }

    #[cold]
    fn look_around(&self) -> SysResult<()> {
        look_around(self).map(drop)
    }

    /// Quiets the doorbell up to this value.
    #[inline]
    fn note(&self, sequence: u64) {
        // Release pairs with the Acquire in `Listener::look`. A hint: a thread that saw an older value can set it back,
        // and the bell then rings once more.
        self.core.seen.store(sequence, Ordering::Release);
        self.bells.found_nothing(&());
    }
}

impl Party for Cell {
    fn member(&self) -> &Member {
        &self.core.buffers.member
    }

    fn bell(&self) -> SysResult<&Bell> {
        self.core.buffers.bell()
    }

    fn tidy(&self) -> SysResult<()> {
        self.core.buffers.tidy()
    }

    fn over(&self) -> SysResult<Option<(Errno, &'static str)>> {
        Ok(None) // somebody may come and write
    }

    fn explain(&self, error: Error) -> Error {
        explained(error)
    }
}

fn plan(options: &CellOptions, address: &str) -> Result<Geometry> {
    Geometry::of(options).map_err(|reason| Error::new(Errno::EINVAL, "open").on_text(address).because(reason))
}

fn join_error(error: Error) -> Error {
    if error.is(Errno::EUSERS) {
        error.because(NO_ROOM)
    } else if error.is(Errno::EBADMSG) {
        error.because("its layout contradicts itself: it is damaged; remove it")
    } else {
        error
    }
}

fn explained(error: Error) -> Error {
    if error.is(Errno::ESTALE) {
        error.because("this handle was declared dead, as its lock on the cell was closed; open the cell anew")
    } else if error.is(Errno::EBADMSG) {
        error.because("the cell holds what no user of it could have written: it is damaged; remove it")
    } else if error.is(Errno::ENODATA) {
        error.because("nothing has been written to it yet")
    } else if error.is(Errno::EUSERS) {
        error.because(crate::segment::NO_ROOM)
    } else {
        error
    }
}

impl Drop for Cell {
    fn drop(&mut self) {
        let member = &self.core.buffers.member;
        // A child that has not used the handle has no part in the cell, and none to give up.
        if member.is_settled() {
            member.leave();
        }
    }
}

impl AsFd for Cell {
    /// The segment's descriptor, to be passed to another process for [`Cell::from_fd`]; not for polling.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.core.buffers.member.as_fd()
    }
}

impl std::fmt::Debug for Cell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cell")
            .field("address", &self.address())
            .field("largest", &self.core.buffers.geometry.largest)
            .finish()
    }
}
