//! The end that appends to a log.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::PollFlags;
use nix::unistd::fsync;

use super::appender::Appender;
use super::fault::{Fault, Outcome};
use super::folder::{Folder, Lock};
use super::options::Options;
use super::segment::Segment;
use super::syncing::{Later, Policy, sync};
use super::{cuts, impatient, patient};
use crate::address::Address;
use crate::channel::transport::Transport;
use crate::channel::{ChannelPeer, ChannelReceived, ChannelStatistics, Direction, refusal};
use crate::error::{Error, Result};
use crate::sys::SysResult;
use crate::timeout::Timeout;
use crate::wait::{Forked, Object, Operation, Turn, Turns};

/// The end that appends.
pub(in crate::channel) struct FileSender {
    object: Object,
    folder: Folder,
    options: Options,
    state: Turns<Sending>,
    /// Up to the segment of this number, what was sent may be missing on the disk, and no more is to be added.
    abandoned: AtomicU64,
    disk: Turns<Disk>,
    /// Syncs that were begun.
    syncs: AtomicU64,
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

/// The segment that was synced last.
struct Disk(u64);

impl Forked for Disk {
    fn after_fork(&mut self) {}

    fn replaced(&self) -> Disk {
        Disk(u64::MAX)
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
        let (abandoned, unconfirmed) = (AtomicU64::new(0), AtomicU64::new(0));
        let (disk, syncs) = (Turns::new(Disk(u64::MAX)), AtomicU64::new(0));
        let sender = FileSender { object, folder, options, state, abandoned, disk, syncs, unconfirmed };
        // Not needed to open: it may be late, and the first to send does it then.
        let mut operation = sender.object.operation(NAME, patient(Timeout::Now));
        let prepared = sender.with_lock(&mut operation, Timeout::Now, |appender, sync| {
            appender.prepare(&sender.folder, &sender.options.limits, sync)
        });
        match prepared.map(drop) {
            Err(error) if error.is(Errno::EAGAIN) => {}
            prepared => prepared?,
        }
        drop(operation);
        Ok(sender)
    }

    /// Does something to the end of the log; what came of it, and the turn, which is kept.
    ///
    /// The turn is kept while the lock is waited for too, so nothing here waits for a turn but as an operation says.
    fn with_lock<T>(
        &self,
        operation: &mut Operation<'_>,
        timeout: Timeout,
        act: impl FnOnce(&mut Appender, bool) -> Outcome<T>,
    ) -> Result<(Turn<'_, Sending>, T)> {
        let mut turn = self.state.take(operation).map_err(|error| impatient(error, timeout))?;
        let state = &mut *turn;
        if let Some(errno) = state.later.as_ref().and_then(Later::failure) {
            state.appender.abandon_last();
            self.unconfirmed.fetch_add(1, Ordering::Relaxed); // a count for people: orders nothing
            let fault = Fault::new(
                errno,
                "bringing what was sent before to the disk failed, so a power failure may take it; this call has done \
                 nothing, and the next goes on in a new segment",
            );
            return Err(fault.of(|errno| operation.error(errno)));
        }
        // Relaxed: the number alone is what counts.
        state.appender.abandon(self.abandoned.load(Ordering::Relaxed));
        let lock = match &mut state.lock {
            Some(lock) if lock.is_of_this_process() => lock,
            other => {
                let lock = self.folder.lock().map_err(|errno| match errno {
                    Errno::ENOENT => Fault::removed(),
                    errno => errno.into(),
                });
                other.insert(lock.map_err(|fault| fault.of(|errno| operation.error(errno)))?)
            }
        };
        let held = lock.hold(operation).map_err(|error| impatient(error, timeout))?;
        let done = held.check().and_then(|()| act(&mut state.appender, state.policy != Policy::Never));
        drop(held);
        let done = done.map_err(|fault| fault.of(|errno| operation.error(errno)))?;
        Ok((turn, done))
    }

    /// Appends messages that are not too large: how many, and what stopped it. What was appended has been dealt with as the
    /// policy says, or the failure of that is what is told: sending it again would double it.
    fn append(&self, messages: &[&[u8]], timeout: Timeout) -> Result<(usize, Result<()>)> {
        if messages.is_empty() {
            return Ok((0, Ok(())));
        }
        let mut operation = self.object.operation("send", patient(timeout));
        let (turn, (segments, done, result)) = self.with_lock(&mut operation, timeout, |appender, sync| {
            let mut segments: Vec<Arc<Segment>> = Vec::new();
            for (done, message) in messages.iter().enumerate() {
                match appender.append(&self.folder, &self.options.limits, sync, message) {
                    Ok(segment) if segments.last().is_some_and(|last| Arc::ptr_eq(last, &segment)) => {}
                    Ok(segment) => segments.push(segment),
                    Err(fault) if done == 0 => return Err(fault),
                    Err(fault) => return Ok((segments, done, Err(fault))),
                }
            }
            Ok((segments, messages.len(), Ok(())))
        })?;
        if let Some(later) = &turn.later {
            segments.iter().for_each(|segment| later.wants(segment));
        }
        drop(turn);
        let result = result.map_err(|fault| fault.of(|errno| operation.error(errno)));
        if self.options.policy == Policy::Every
            && let Err(errno) = self.sync_now(&segments)
        {
            let text = "what was sent is in the log, but bringing it to the disk failed, so a power failure may take it; the \
                        next goes into a new segment";
            let error = operation.error(errno);
            return Ok((
                done,
                Err(match result {
                    Ok(()) => error.because(text),
                    Err(other) => error.because_found(format!("{text}. What was to follow failed by itself: {other}")),
                }),
            ));
        }
        Ok((done, result))
    }

    #[cold]
    fn too_large(&self, length: usize) -> Error {
        let largest = self.options.largest;
        self.object
            .error(Errno::EMSGSIZE, "send")
            .with_true_size(length)
            .because_found(format!("the message has {length} bytes, more than largest={largest}; set largest="))
    }

    /// Syncs all of these, whichever fail; how the first failed that did.
    fn sync_now(&self, segments: &[Arc<Segment>]) -> SysResult<()> {
        let mut result = Ok(());
        let begun = self.syncs.load(Ordering::SeqCst);
        // One at a time: of the threads that sync a segment at once the kernel would tell one alone of a failure.
        let mut disk = self.disk.take_soon();
        for segment in segments {
            let number = segment.heading.number;
            // Whoever had the turn before may have begun after this thread's message was written.
            let is_synced = disk.0 == number && self.syncs.load(Ordering::SeqCst) > begun;
            let mut synced = Ok(());
            if !is_synced {
                disk.0 = number;
                self.syncs.fetch_add(1, Ordering::SeqCst);
                synced = sync(segment);
            }
            if synced.is_ok() && self.abandoned.load(Ordering::Relaxed) == number {
                synced = Err(Errno::EIO); // what others were told may have been this thread's
            }
            if synced.is_err() {
                self.abandoned.fetch_max(number, Ordering::Relaxed);
            }
            result = result.and(synced);
        }
        if result.is_err() {
            self.unconfirmed.fetch_add(1, Ordering::Relaxed); // a count for people: orders nothing
        }
        result
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
        self.send_batch(&[message], timeout).1
    }

    /// All under one lock, and brought to the disk once.
    fn send_batch(&self, messages: &[&[u8]], timeout: Timeout) -> (usize, Result<()>) {
        let fitting = messages.iter().position(|message| message.len() > self.options.largest);
        let (done, result) = match self.append(&messages[..fitting.unwrap_or(messages.len())], timeout) {
            Ok((done, result)) => (done, result),
            Err(error) => return (0, Err(error)),
        };
        match fitting.and_then(|fitting| messages.get(fitting)) {
            Some(message) if result.is_ok() => (done, Err(self.too_large(message.len()))),
            _ => (done, result),
        }
    }

    fn recv(&self, _: &mut [u8], _: Timeout) -> Result<ChannelReceived> {
        Err(self.object.error(Errno::EBADF, "recv"))
    }

    fn reply(&self, _: &ChannelPeer, _: &[u8], timeout: Timeout) -> Result<()> {
        Err(refusal::no_answers(&self.object.operation("reply", timeout)))
    }

    fn flush(&self, timeout: Timeout) -> Result<()> {
        let mut operation = self.object.operation("flush", patient(timeout));
        let mut state = self.state.take(&mut operation).map_err(|error| impatient(error, timeout))?;
        let result = match (&state.later, self.options.policy) {
            (Some(later), _) => {
                later.now(&mut operation).map_err(|error| impatient(error, timeout))?;
                // Of what was synced before this call as well.
                later.failure().map_or(Ok(()), |errno| Err(errno.into()))
            }
            (None, Policy::Never) => self.sync_all(),
            (None, _) => Ok(()),
        };
        result.map_err(|fault| {
            state.appender.abandon_last();
            self.unconfirmed.fetch_add(1, Ordering::Relaxed); // a count for people: orders nothing
            fault.of(|errno| operation.error(errno))
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
