//! The writing end of a channel over `pipe:` and `fifo:`.
//!
//! A pipe may take part of a message when the deadline passes, and one that is larger than the pipe never goes in at once. The
//! rest is then kept, as over a stream: at most one message's, which goes out ahead of whatever is sent next.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::PollFlags;

use super::fragments::{HEADER, write_piece};
use super::framing::{self, Frames, Framing};
use super::outlet::is_end_of_wait;
use super::pipes::{End, frames};
use super::transport::Transport;
use super::{ChannelPeer, ChannelReceived, ChannelStatistics, Direction, refusal, unfit};
use crate::address::Address;
use crate::error::{Error, Result};
use crate::pipe::{Fifo, FifoOptions, PIPE_ATOMIC};
use crate::sys::{copy_descriptor, nosigpipe};
use crate::timeout::{Deadline, Timeout};
use crate::wait::{Forked, Object, Operation, Turns};

/// How long closing waits for the rest of a message to be taken.
const LINGER: Timeout = Timeout::After(Duration::from_secs(1));

/// The writing end.
pub(super) struct PipeSender {
    object: Object,
    end: End,
    frames: Frames,
    turns: Turns<Writing>,
    /// See [`Transport::keep_no_rest`].
    keeps_no_rest: AtomicBool,
    unconfirmed: AtomicU64,
}

/// One write at a time.
struct Writing {
    number: u32,
    piece: Vec<u8>,
    /// A message that counts as sent, of which the pipe has the first `taken` bytes; empty if there is none.
    begun: Vec<u8>,
    taken: usize,
    /// There was no receiver since: the one that had its beginning may have gone with it.
    is_doubtful: bool,
}

impl Forked for Writing {
    /// The child is another writer, and what was begun the parent's.
    fn after_fork(&mut self) {
        *self = self.replaced();
    }

    fn replaced(&self) -> Writing {
        Writing::new()
    }
}

impl Writing {
    fn new() -> Writing {
        Writing { number: number(), piece: Vec::new(), begun: Vec::new(), taken: 0, is_doubtful: false }
    }
}

/// A writer's number, unlike any other's in all likelihood.
fn number() -> u32 {
    use std::hash::{BuildHasher, RandomState};
    (RandomState::new().hash_one(std::process::id()) >> 32) as u32
}

impl PipeSender {
    /// Opens the FIFO, or makes it; waits for the receiver.
    pub fn open(address: &Address, plain: &Address, create: bool, timeout: Timeout) -> Result<PipeSender> {
        let options = FifoOptions { create, ..Default::default() };
        PipeSender::over(End::Fifo(Fifo::open_writer(plain, &options, timeout)?), address)
    }

    pub fn over(end: End, address: &Address) -> Result<PipeSender> {
        Ok(PipeSender {
            object: Object::new(address.to_string()),
            end,
            frames: frames(address),
            turns: Turns::new(Writing::new()),
            keeps_no_rest: AtomicBool::new(false),
            unconfirmed: AtomicU64::new(0),
        })
    }

    fn write(&self, bytes: &[u8], operation: &mut Operation<'_>) -> Result<()> {
        // Up to PIPE_BUF bytes are written whole or not at all.
        operation
            .until_ready(self.end.as_fd(), PollFlags::POLLOUT, || nosigpipe::write(self.end.as_fd(), bytes))
            .map(drop)
    }

    /// Writes the pieces of a message from the byte `at` on, which goes along.
    fn write_pieces(
        &self,
        writing: &mut Writing,
        message: &[u8],
        at: &mut usize,
        operation: &mut Operation<'_>,
    ) -> Result<()> {
        loop {
            writing.piece.clear();
            let next = write_piece(&mut writing.piece, writing.number, message, *at);
            self.write(&writing.piece, operation)?;
            *at = next;
            if next == message.len() {
                return Ok(());
            }
        }
    }

    /// Writes the rest of the message before.
    #[cold]
    fn finish(&self, writing: &mut Writing, operation: &mut Operation<'_>) -> Result<()> {
        let (message, mut at) = (std::mem::take(&mut writing.begun), writing.taken);
        match self.write_pieces(writing, &message, &mut at, operation) {
            // What is in a FIFO stays there while its writer has it, for the receiver that comes next.
            Err(error) if is_end_of_wait(&error) || matches!(self.end, End::Fifo(_)) && error.is(Errno::EPIPE) => {
                (writing.begun, writing.taken) = (message, at);
                if error.is(Errno::EPIPE) && !std::mem::replace(&mut writing.is_doubtful, true) {
                    self.unconfirmed.fetch_add(1, Ordering::Relaxed); // a count for people: orders nothing
                }
                Err(error)
            }
            Err(error) => {
                self.unconfirmed.fetch_add(1, Ordering::Relaxed); // a count for people: orders nothing
                let reason = format!("{}; the message before had gone in part and is lost", error.reason());
                Err(error.because_found(reason))
            }
            Ok(()) => Ok(()),
        }
    }

    /// Keeps the rest of a message: it counts as sent.
    #[cold]
    fn keep(&self, writing: &mut Writing, message: &[u8], taken: usize, ended: Error) -> Result<()> {
        if self.keeps_no_rest.load(Ordering::Relaxed) {
            return Err(ended);
        }
        if writing.begun.try_reserve_exact(message.len()).is_err() {
            return Err(ended.with_errno(Errno::ENOMEM).because("no memory is left to keep the rest of the message"));
        }
        writing.begun.extend_from_slice(message);
        (writing.taken, writing.is_doubtful) = (taken, false);
        Ok(())
    }

    /// How many of these, from the first on, one write keeps together.
    fn fit_one_write(&self, messages: &[&[u8]]) -> usize {
        if self.frames.framing != Framing::Length {
            return 0;
        }
        let mut size = 0;
        let fits = |message: &&&[u8]| {
            size += HEADER + message.len();
            message.len() <= self.frames.largest && size <= PIPE_ATOMIC
        };
        messages.iter().take_while(fits).count()
    }

    fn send_together(&self, messages: &[&[u8]], timeout: Timeout) -> Result<()> {
        let mut operation = self.object.operation("send", timeout);
        let mut writing = self.turns.take(&mut operation)?;
        let writing = &mut *writing;
        if !writing.begun.is_empty() {
            self.finish(writing, &mut operation)?;
        }
        writing.piece.clear();
        for message in messages {
            write_piece(&mut writing.piece, writing.number, message, 0);
        }
        self.write(&writing.piece, &mut operation)
    }
}

impl Transport for PipeSender {
    fn send(&self, message: &[u8], _: u32, timeout: Timeout) -> Result<()> {
        let mut operation = self.object.operation("send", timeout);
        let mut writing = self.turns.take(&mut operation)?;
        let writing = &mut *writing;
        let frame = self.frames.around(message).map_err(|why| too_long(&operation, self.frames, message, why))?;
        if self.frames.framing != Framing::Length {
            writing.piece.clear();
            writing.piece.extend_from_slice(message);
            writing.piece.extend_from_slice(frame.tail);
            return self.write(&writing.piece, &mut operation);
        }
        if !writing.begun.is_empty() {
            self.finish(writing, &mut operation)?;
        }
        let mut at = 0;
        match self.write_pieces(writing, message, &mut at, &mut operation) {
            Err(error) if at > 0 && is_end_of_wait(&error) => self.keep(writing, message, at, error),
            written => written,
        }
    }

    /// As many small messages as a write keeps together go in one.
    fn send_batch(&self, messages: &[&[u8]], timeout: Timeout) -> (usize, Result<()>) {
        let deadline = Deadline::after(timeout);
        let mut done = 0;
        while done < messages.len() {
            let left = deadline.left_of(timeout);
            let mut together = self.fit_one_write(&messages[done..]).max(1);
            if together > 1 {
                match self.send_together(&messages[done..done + together], left) {
                    Ok(()) => {}
                    Err(error) if error.is(Errno::EAGAIN) => together = 1, // there may be room for fewer
                    Err(error) => return (done, Err(error)),
                }
            }
            if together == 1
                && let Err(error) = self.send(messages[done], 0, left)
            {
                return (done, Err(error));
            }
            done += together;
        }
        (done, Ok(()))
    }

    fn recv(&self, _: &mut [u8], _: Timeout) -> Result<ChannelReceived> {
        Err(self.object.error(Errno::EBADF, "recv"))
    }

    fn reply(&self, _: &ChannelPeer, _: &[u8], timeout: Timeout) -> Result<()> {
        Err(refusal::no_answers(&self.object.operation("reply", timeout)))
    }

    fn flush(&self, timeout: Timeout) -> Result<()> {
        let mut operation = self.object.operation("flush", timeout);
        let mut writing = self.turns.take(&mut operation)?;
        if writing.begun.is_empty() {
            return Ok(()); // a message is in the pipe once it is sent
        }
        self.finish(&mut writing, &mut operation)
    }

    fn keep_no_rest(&self) {
        self.keeps_no_rest.store(true, Ordering::Relaxed); // before the channel is used
    }

    fn descriptor(&self, _: Direction) -> Result<(OwnedFd, PollFlags)> {
        let copied = copy_descriptor(self.end.as_fd()).map_err(|errno| self.object.error(errno, "descriptor"));
        Ok((copied?, PollFlags::POLLOUT))
    }

    fn stream(&self) -> Option<BorrowedFd<'_>> {
        Some(self.end.as_fd())
    }

    fn count(&self, statistics: &mut ChannelStatistics) {
        statistics.unconfirmed = self.unconfirmed.load(Ordering::Relaxed);
    }

    fn end_waits(&self) {
        self.object.end_waits();
    }
}

impl Drop for PipeSender {
    fn drop(&mut self) {
        let object = Object::new(""); // the waits of the channel's own have been ended
        let mut operation = object.operation("close", LINGER);
        let mut writing = self.turns.take_soon();
        if !writing.begun.is_empty() {
            // Whoever wants to know flushes; here nobody could be told. The receiver counts a torn message.
            let _ = self.finish(&mut writing, &mut operation);
        }
    }
}

#[cold]
fn too_long(operation: &Operation<'_>, frames: Frames, message: &[u8], why: framing::Unfit) -> Error {
    let error = unfit(operation, frames, message, why);
    if why == framing::Unfit::TooLarge && frames.framing != Framing::Length {
        return error.because_found(format!(
            "the message has {} bytes; a pipe keeps no more than {PIPE_ATOMIC} together, and another writer's would mix \
             with the rest; framing=length carries any size",
            message.len()
        ));
    }
    error
}
