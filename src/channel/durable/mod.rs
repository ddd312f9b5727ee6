//! A channel over a directory of the disk, `file:`: a log that messages are appended to and that any number of readers
//! follow, each at its own pace. Whoever appends holds a lock that the kernel takes from the dead; readers take none.
//!
//! `format` says what lies where, `folder` which files there are, `segment` reads records, `appender` writes them and cuts what
//! is torn, `reader` goes from segment to segment and counts what is missed, `position` keeps where a named reader is.

mod appender;
mod bell;
mod fault;
mod folder;
mod format;
mod options;
mod position;
mod reader;
mod segment;
mod syncing;

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags};
use nix::unistd::fsync;

use super::connecting::Pauses;
use super::transport::Transport;
use super::{ChannelPeer, ChannelReceived, ChannelStatistics, Direction, refusal};
use crate::address::Address;
use crate::error::{Error, Result};
use crate::limits::explain_watches;
use crate::sys::copy_descriptor;
use crate::timeout::Timeout;
use crate::wait::{Forked, Object, Turns};
use appender::Appender;
use bell::Bell;
use fault::{Fault, Outcome};
use folder::{Folder, Lock};
use options::Options;
pub(in crate::channel) use options::largest;
use position::Position;
use reader::Reader;
use segment::Segment;
use syncing::{Later, Policy, sync};

/// So long a call that must not wait does so for another process that appends, which takes a few system calls.
const MOMENT: Duration = Duration::from_millis(20);
/// So long removing waits for it.
const PATIENCE: Timeout = Timeout::After(Duration::from_secs(5));

fn patient(timeout: Timeout) -> Timeout {
    if timeout == Timeout::Now { Timeout::After(MOMENT) } else { timeout }
}

/// As it has to look to the caller who gave this timeout.
fn impatient(error: Error, timeout: Timeout) -> Error {
    if timeout == Timeout::Now && error.is(Errno::ETIMEDOUT) {
        return error.with_errno(Errno::EAGAIN).because("another process is appending, and has been for a while");
    }
    error
}

/// The end that appends.
pub(super) struct FileSender {
    object: Object,
    folder: Folder,
    options: Options,
    state: Turns<Sending>,
    unconfirmed: AtomicU64,
}

struct Sending {
    lock: Option<Lock>,
    appender: Appender,
    later: Option<Later>,
    policy: Policy,
}

impl Sending {
    fn new(policy: Policy) -> Sending {
        let later = if let Policy::Interval(interval) = policy { Some(Later::new(interval)) } else { None };
        Sending { lock: None, appender: Appender::default(), later, policy }
    }
}

impl Forked for Sending {
    /// The child appends as itself.
    fn after_fork(&mut self) {
        *self = Sending::new(self.policy);
    }

    fn replaced(&self) -> Sending {
        Sending::new(self.policy)
    }
}

impl FileSender {
    /// Opens the log, or makes it, and puts its end in order unless somebody else is at it.
    pub fn open(address: &Address, timeout: Timeout) -> Result<FileSender> {
        const NAME: &str = "open for sending";
        let object = Object::new(address.to_string());
        let options = Options::of(address).map_err(|fault| fault.of(|errno| object.error(errno, NAME)))?;
        let mut operation = object.operation(NAME, patient(timeout));
        let folder = Folder::open(address.path(), options.mode, true, &mut operation);
        let folder = folder.map_err(|error| impatient(error, timeout))?;
        drop(operation);
        let state = Turns::new(Sending::new(options.policy));
        let sender = FileSender { object, folder, options, state, unconfirmed: AtomicU64::new(0) };
        // Not needed to open: it may be late, and the first to send does it then.
        match sender.with_lock(NAME, Timeout::Now, |appender, sender, sync| {
            appender.prepare(&sender.folder, &sender.options.limits, sync)
        }) {
            Err(error) if error.is(Errno::EAGAIN) => {}
            prepared => prepared?,
        }
        Ok(sender)
    }

    /// Does something to the end of the log.
    fn with_lock<T>(
        &self,
        name: &'static str,
        timeout: Timeout,
        act: impl FnOnce(&mut Appender, &FileSender, bool) -> Outcome<T>,
    ) -> Result<T> {
        let mut operation = self.object.operation(name, patient(timeout));
        let mut state = self.state.take(&mut operation).map_err(|error| impatient(error, timeout))?;
        let failed = |fault: Fault| fault.of(|errno| self.object.error(errno, name));
        let state = &mut *state;
        if let Some(errno) = state.later.as_ref().and_then(Later::failure) {
            state.appender.abandon_last();
            self.unconfirmed.fetch_add(1, Ordering::Relaxed); // a count for people: orders nothing
            return Err(failed(Fault::new(
                errno,
                "bringing what was sent before to the disk failed, so a power failure may take it; this call has done \
                 nothing, and the next goes on in a new segment",
            )));
        }
        let lock = match &mut state.lock {
            Some(lock) if lock.is_of_this_process() => lock,
            other => other.insert(self.folder.lock().map_err(|errno| match errno {
                Errno::ENOENT => failed(Fault::removed()),
                errno => failed(errno.into()),
            })?),
        };
        let held = lock.hold(&mut operation).map_err(|error| impatient(error, timeout))?;
        held.check().map_err(failed)?;
        act(&mut state.appender, self, state.policy != Policy::Never).map_err(failed)
    }

    fn sync_now(&self, segment: &Arc<Segment>) -> Result<()> {
        sync(segment).map_err(|errno| {
            self.state.take_soon().appender.abandon(segment);
            self.unconfirmed.fetch_add(1, Ordering::Relaxed); // a count for people: orders nothing
            self.object.error(errno, "send").because(
                "the message is in the log, but bringing it to the disk failed, so a power failure may take it; the next goes \
                 into a new segment",
            )
        })
    }

    /// Brings all of the log to the disk, whoever has written it.
    fn sync_all(&self) -> Outcome<()> {
        for listed in self.folder.segments()? {
            match self.folder.segment(listed.number, OFlag::O_RDWR) {
                Ok(Ok(segment)) => sync(&segment)?,
                Ok(Err(_)) | Err(Errno::ENOENT) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(fsync(&self.folder)?)
    }
}

impl Transport for FileSender {
    fn send(&self, message: &[u8], _: u32, timeout: Timeout) -> Result<()> {
        let (length, largest) = (message.len(), self.options.largest);
        if length > largest {
            return Err(self
                .object
                .error(Errno::EMSGSIZE, "send")
                .with_true_size(length)
                .because_found(format!("the message has {length} bytes, more than largest={largest}; set largest=")));
        }
        let segment = self.with_lock("send", timeout, |appender, sender, sync| {
            appender.append(&sender.folder, &sender.options.limits, sync, message)
        })?;
        match self.options.policy {
            Policy::Never => Ok(()),
            Policy::Interval(_) => {
                if let Some(later) = &self.state.take_soon().later {
                    later.wants(&segment);
                }
                Ok(())
            }
            Policy::Every => self.sync_now(&segment),
        }
    }

    fn recv(&self, _: &mut [u8], _: Timeout) -> Result<ChannelReceived> {
        Err(self.object.error(Errno::EBADF, "recv"))
    }

    fn reply(&self, _: &ChannelPeer, _: &[u8], timeout: Timeout) -> Result<()> {
        Err(refusal::no_answers(&self.object.operation("reply", timeout)))
    }

    fn flush(&self, _: Timeout) -> Result<()> {
        let state = self.state.take_soon();
        let before = state.later.as_ref().and_then(Later::failure);
        let result = match (before, &state.later, self.options.policy) {
            (Some(errno), ..) => Err(errno.into()),
            (None, Some(later), _) => later.now().map_err(Fault::from),
            (None, None, Policy::Never) => self.sync_all(),
            (None, None, _) => Ok(()),
        };
        drop(state);
        result.map_err(|fault| {
            self.state.take_soon().appender.abandon_last();
            self.unconfirmed.fetch_add(1, Ordering::Relaxed); // a count for people: orders nothing
            fault.of(|errno| self.object.error(errno, "flush"))
        })
    }

    fn descriptor(&self, _: Direction) -> Result<(OwnedFd, PollFlags)> {
        Err(self.object.error(Errno::ENOTSUP, "descriptor").because("a file has nothing to wait for room by"))
    }

    fn count(&self, statistics: &mut ChannelStatistics) {
        statistics.torn = cuts(&self.folder);
        statistics.unconfirmed = self.unconfirmed.load(Ordering::Relaxed);
    }

    fn end_waits(&self) {
        self.object.end_waits();
    }
}

/// Torn tails that were cut in the life of a log.
fn cuts(folder: &Folder) -> u64 {
    let listed = folder.segments().unwrap_or_default();
    let headings = listed.iter().rev().map(|listed| folder.segment(listed.number, OFlag::O_RDONLY));
    headings.filter_map(|found| found.ok()?.ok()).map(|segment| segment.heading.cuts).next().unwrap_or(0)
}

/// An end that reads.
pub(super) struct FileReceiver {
    object: Object,
    folder: Folder,
    state: Turns<Receiving>,
    bell: Turns<Rings>,
    missed: AtomicU64,
}

struct Receiving {
    reader: Reader,
    position: Option<Position>,
    /// Something was received that the position does not tell yet.
    is_ahead: bool,
}

impl Receiving {
    /// What was received is dealt with.
    fn settle(&mut self) -> Outcome<()> {
        if let Some(position) = self.position.as_mut().filter(|_| self.is_ahead) {
            let (next, epoch) = self.reader.position();
            position.keep(next, epoch)?;
        }
        self.is_ahead = false;
        Ok(())
    }
}

impl Forked for Receiving {
    fn after_fork(&mut self) {}

    fn replaced(&self) -> Receiving {
        Receiving { reader: Reader::new(reader::From::Newest), position: None, is_ahead: false }
    }
}

/// The bell, once it is wanted.
struct Rings(Option<Arc<Bell>>);

impl Forked for Rings {
    /// The child would take what rings for the parent.
    fn after_fork(&mut self) {
        self.0 = None;
    }

    fn replaced(&self) -> Rings {
        Rings(None)
    }
}

impl FileReceiver {
    /// Opens the log, or makes it, at the position of the reader that the address names.
    pub fn open(address: &Address, timeout: Timeout) -> Result<FileReceiver> {
        const NAME: &str = "open for receiving";
        let object = Object::new(address.to_string());
        let failed = |fault: Fault| fault.of(|errno| object.error(errno, NAME));
        let options = Options::of(address).map_err(failed)?;
        let mut operation = object.operation(NAME, patient(timeout));
        let folder = Folder::open(address.path(), options.mode, true, &mut operation);
        let folder = folder.map_err(|error| impatient(error, timeout))?;
        drop(operation);
        let position =
            options.reader.as_deref().map(|name| Position::open(&folder, name)).transpose().map_err(failed)?;
        let mut reader = match position.as_ref().and_then(Position::known) {
            Some((next, epoch)) => Reader::at(next, epoch),
            None => {
                let mut reader = Reader::new(options.from);
                reader.settle(&folder).map_err(failed)?;
                reader
            }
        };
        let mut state = Receiving { reader: std::mem::take(&mut reader), position, is_ahead: true };
        state.settle().map_err(failed)?;
        Ok(FileReceiver {
            object,
            folder,
            state: Turns::new(state),
            bell: Turns::new(Rings(None)),
            missed: AtomicU64::new(0),
        })
    }

    /// The bell, and whether it is new: then whoever wants it looks once more.
    fn bell(&self) -> Result<(Arc<Bell>, bool)> {
        let mut rings = self.bell.take_soon();
        if let Some(bell) = &rings.0 {
            return Ok((Arc::clone(bell), false));
        }
        let made = Bell::of(&self.folder).map_err(|errno| explain_watches(self.object.error(errno, "wait")));
        let bell = Arc::new(made?);
        rings.0 = Some(Arc::clone(&bell));
        Ok((bell, true))
    }

    fn receive(&self, buffer: &mut [u8], timeout: Timeout, is_more: bool) -> Result<ChannelReceived> {
        let mut operation = self.object.operation("recv", timeout);
        let mut state = self.state.take(&mut operation)?;
        let failed = |fault: Fault| fault.of(|errno| self.object.error(errno, "recv"));
        if !is_more {
            state.settle().map_err(failed)?;
        }
        let mut pauses = Pauses::default();
        let mut is_quiet = false;
        loop {
            let found = state.reader.find(&self.folder);
            self.missed.store(state.reader.missed(), Ordering::Relaxed); // a count for people: orders nothing
            if let Some(found) = found.map_err(failed)? {
                let length = found.head.length as usize;
                let Some(room) = buffer.get_mut(..length) else {
                    return Err(refusal::does_not_fit(operation.error(Errno::EMSGSIZE), length, buffer.len()));
                };
                state.reader.read(&found.head, room).map_err(failed)?;
                state.reader.take(&found.head);
                state.is_ahead = true;
                return Ok(ChannelReceived { length, missed: found.missed, ..Default::default() });
            }
            let bell = self.bell.take_soon().0.clone();
            if let Some(bell) = bell.filter(|_| !is_quiet) {
                bell.quiet();
                is_quiet = true;
                continue; // what came before it was quiet is found now
            }
            self.folder.check().map_err(failed)?;
            if timeout == Timeout::Now {
                return Err(operation.error(Errno::EAGAIN));
            }
            match self.bell() {
                Ok((_, true)) => {}
                Ok((bell, false)) => {
                    let mut fds = [PollFd::new(bell.as_fd(), PollFlags::POLLIN)];
                    operation.wait().poll(&mut fds).map_err(|errno| operation.error(errno))?;
                    is_quiet = false;
                }
                Err(_) => pauses.sleep(&mut operation)?, // the user has as many of these as may be
            }
        }
    }
}

impl Transport for FileReceiver {
    fn send(&self, _: &[u8], _: u32, _: Timeout) -> Result<()> {
        Err(self.object.error(Errno::EBADF, "send"))
    }

    fn recv(&self, buffer: &mut [u8], timeout: Timeout) -> Result<ChannelReceived> {
        self.receive(buffer, timeout, false)
    }

    fn recv_more(&self, buffer: &mut [u8], timeout: Timeout) -> Result<ChannelReceived> {
        self.receive(buffer, timeout, true)
    }

    fn reply(&self, _: &ChannelPeer, _: &[u8], timeout: Timeout) -> Result<()> {
        Err(refusal::no_answers(&self.object.operation("reply", timeout)))
    }

    /// All that was received is dealt with, and the position on the disk.
    fn flush(&self, timeout: Timeout) -> Result<()> {
        let mut operation = self.object.operation("flush", timeout);
        let mut state = self.state.take(&mut operation)?;
        let synced = state.settle().and_then(|()| state.position.as_ref().map_or(Ok(()), Position::sync));
        synced.map_err(|fault| fault.of(|errno| operation.error(errno)))
    }

    fn descriptor(&self, _: Direction) -> Result<(OwnedFd, PollFlags)> {
        let bell = self.bell()?.0;
        let copied = copy_descriptor(bell.as_fd()).map_err(|errno| self.object.error(errno, "descriptor"))?;
        Ok((copied, PollFlags::POLLIN))
    }

    fn count(&self, statistics: &mut ChannelStatistics) {
        statistics.torn = cuts(&self.folder);
        statistics.missed = self.missed.load(Ordering::Relaxed);
    }

    fn end_waits(&self) {
        self.object.end_waits();
    }
}

impl Drop for FileReceiver {
    /// Closing says that what was received is dealt with, unless it is a panic that closes.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = self.state.take_soon().settle(); // who has to know calls flush
        }
    }
}

/// Removes a log with all that is in it; if the address names a reader, that reader's position and nothing else.
pub(super) fn remove(address: &Address) -> Result<()> {
    const NAME: &str = "remove";
    let object = Object::new(address.to_string());
    let failed = |fault: Fault| fault.of(|errno| object.error(errno, NAME));
    let options = Options::of(address).map_err(failed)?;
    let mut operation = object.operation(NAME, PATIENCE);
    let folder = Folder::open(address.path(), options.mode, false, &mut operation)?;
    if let Some(reader) = &options.reader {
        return Position::remove(&folder, reader).map_err(failed);
    }
    let lock = folder.lock().map_err(|errno| failed(errno.into()))?;
    let held = lock.hold(&mut operation).map_err(|error| match error.is(Errno::ETIMEDOUT) {
        true => {
            error.with_errno(Errno::EBUSY).because("a process has been appending to it all the time; stop it first")
        }
        false => error,
    })?;
    held.check().map_err(failed)?;
    folder.remove().map_err(failed)
}
