//! An end that reads a log.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};

use super::bell::Bell;
use super::fault::{Fault, Outcome};
use super::folder::Folder;
use super::options::Options;
use super::position::Position;
use super::reader::{From, Reader};
use super::{cuts, impatient, patient};
use crate::address::Address;
use crate::channel::transport::Transport;
use crate::channel::{ChannelPeer, ChannelReceived, ChannelStatistics, Direction, refusal};
use crate::error::Result;
use crate::limits::explain_watches;
use crate::sys::copy_descriptor;
use crate::timeout::Timeout;
use crate::wait::{Forked, Object, Pauses, Turns};

/// An end that reads.
pub(in crate::channel) struct FileReceiver {
    object: Object,
    folder: Folder,
    state: Turns<Receiving>,
    bell: Turns<Rings>,
    missed: AtomicU64,
}

struct Receiving {
    reader: Reader,
    position: Option<Position>,
    /// It has a position, or had one in the parent.
    is_named: bool,
    /// Something was received that is not dealt with.
    is_ahead: bool,
    /// Where the reader was before that, and what it had missed.
    settled: ((u64, u64), u64),
}

impl Receiving {
    /// Fails in a child, whose parent keeps the position.
    fn check(&self) -> Outcome<()> {
        match &self.position {
            Some(position) => position.check(),
            None if self.is_named => Err(Position::of_another()),
            None => Ok(()),
        }
    }

    /// What was received is dealt with.
    fn settle(&mut self) -> Outcome<()> {
        if self.is_ahead {
            let (next, epoch) = self.reader.position();
            self.position.as_mut().map_or(Ok(()), |position| position.keep(next, epoch))?;
            self.settled = ((next, epoch), self.reader.missed());
        }
        self.is_ahead = false;
        Ok(())
    }
}

impl Forked for Receiving {
    fn after_fork(&mut self) {}

    fn replaced(&self) -> Receiving {
        let reader = Reader::new(From::Newest);
        let is_named = self.is_named;
        Receiving { settled: (reader.position(), 0), reader, position: None, is_named, is_ahead: false }
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
        let reader = match position.as_ref().and_then(Position::known) {
            Some((next, epoch)) => Reader::at(next, epoch),
            None => {
                let mut reader = Reader::new(options.from);
                reader.settle(&folder).map_err(failed)?;
                reader
            }
        };
        let is_named = position.is_some();
        let mut state = Receiving { settled: (reader.position(), 0), reader, position, is_named, is_ahead: true };
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

    /// Makes the bell, if there is one, tell of what is there already.
    fn ring(&self) {
        let bell = self.bell.take_soon().0.clone();
        // Fails if the user has as many watches as may be: then the next message rings.
        let _ = bell.map(|bell| bell.ring(&self.folder));
    }

    fn receive(&self, buffer: &mut [u8], timeout: Timeout, is_more: bool) -> Result<ChannelReceived> {
        let mut operation = self.object.operation("recv", timeout);
        let mut state = self.state.take(&mut operation)?;
        let failed = |fault: Fault| fault.of(|errno| self.object.error(errno, "recv"));
        state.check().map_err(failed)?;
        if !is_more {
            state.settle().map_err(failed)?;
        }
        let mut pauses = Pauses::default();
        let mut is_quiet = false;
        loop {
            let found = if is_more { state.reader.find_more(&self.folder) } else { state.reader.find(&self.folder) };
            self.missed.store(state.reader.missed(), Ordering::Relaxed); // a count for people: orders nothing
            if is_quiet && (!matches!(found, Ok(None)) || state.reader.is_damaged()) {
                self.ring(); // there may be more
            }
            if let Some(found) = found.map_err(failed)? {
                let length = found.head.length as usize;
                let Some(room) = buffer.get_mut(..length) else {
                    return Err(refusal::does_not_fit(operation.error(Errno::EMSGSIZE), length, buffer.len()));
                };
                state.reader.read(&found.head, room).map_err(failed)?;
                if !state.is_ahead && state.settled.0.0 == u64::MAX {
                    // A child that has begun at the newest.
                    state.settled = ((found.head.sequence, state.reader.position().1), state.reader.missed());
                }
                state.reader.take(&found.head);
                state.is_ahead = true;
                return Ok(ChannelReceived { length, missed: found.missed, ..Default::default() });
            }
            if state.reader.is_damaged() {
                return Err(operation.error(Errno::EAGAIN));
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
                Ok((_, true)) => is_quiet = true, // and looks once more
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

    fn put_back(&self) -> Result<bool> {
        let mut operation = self.object.operation("put_back", Timeout::Now);
        let mut state = self.state.take(&mut operation)?;
        if state.is_ahead {
            let (position, missed) = state.settled;
            state.reader.go_back(position, missed);
            state.is_ahead = false;
            self.ring();
        }
        Ok(true)
    }

    fn reply(&self, _: &ChannelPeer, _: &[u8], timeout: Timeout) -> Result<()> {
        Err(refusal::no_answers(&self.object.operation("reply", timeout)))
    }

    /// All that was received is dealt with, and the position on the disk.
    fn flush(&self, timeout: Timeout) -> Result<()> {
        let mut operation = self.object.operation("flush", timeout);
        let mut state = self.state.take(&mut operation)?;
        let settled = state.check().and_then(|()| state.settle());
        let synced = settled.and_then(|()| state.position.as_ref().map_or(Ok(()), Position::sync));
        synced.map_err(|fault| fault.of(|errno| operation.error(errno)))
    }

    fn descriptor(&self, _: Direction) -> Result<(OwnedFd, PollFlags)> {
        let bell = self.bell()?.0;
        // A new one knows nothing of the messages that wait.
        bell.ring(&self.folder).map_err(|errno| explain_watches(self.object.error(errno, "descriptor")))?;
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
