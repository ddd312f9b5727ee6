//! A channel over `pipe:` and `fifo:`: many writers, whose messages never mix; one reader, which is here.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::PollFlags;

use super::fragments::{self, Assembler};
use super::framing::{self, Decoder, Frames, Framing};
use super::gate::Gate;
use super::pipe_sender::PipeSender;
use super::transport::Transport;
use super::{ChannelPeer, ChannelReceived, ChannelStatistics, Direction, refusal};
use crate::address::Address;
use crate::error::{Error, Result};
use crate::limits::explain_descriptors;
use crate::paths;
use crate::pipe::{Fifo, FifoOptions, PIPE_ATOMIC, Pipe, PipeOptions};
use crate::sys::not_inherited::NotInherited;
use crate::sys::pipe_reader::PipeClaim;
use crate::sys::{SysResult, copy_descriptor, direct};
use crate::timeout::{Deadline, Timeout};
use crate::wait::{Forked, Object, Operation, Turns};

/// Bytes that a pipe holds unless somebody says otherwise.
const USUAL: usize = 1 << 16;
/// How often one look reads: there may be no end of what is no message.
const READS: u32 = 64;
/// How soon a child made by fork tries again to have the FIFO to itself, which its parent has.
const CLAIM_AGAIN: Timeout = Timeout::After(Duration::from_millis(250));

/// Either kind of pipe.
pub(super) enum End {
    Pipe(Pipe),
    Fifo(Fifo),
}

impl End {
    fn capacity(&self) -> Result<usize> {
        match self {
            End::Pipe(pipe) => pipe.capacity(),
            End::Fifo(fifo) => fifo.capacity(),
        }
    }
}

impl AsFd for End {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            End::Pipe(pipe) => pipe.as_fd(),
            End::Fifo(fifo) => fifo.as_fd(),
        }
    }
}

/// Both ends of an anonymous pipe.
pub(super) fn pair(address: &Address, plain: &Address) -> Result<(PipeReceiver, PipeSender)> {
    let options = PipeOptions {
        capacity: plain.number("capacity").map_or(0, |n| usize::try_from(n).unwrap_or(usize::MAX)),
        ..Default::default()
    };
    let (read, write) = Pipe::open(options)?;
    Ok((PipeReceiver::over(End::Pipe(read), address)?, PipeSender::over(End::Pipe(write), address)?))
}

/// One end that was handed over. Others may share its description, whose mode is not for us to change: so it is opened once
/// more, unless nobody reads it, the pipe is another user's, or /proc is not mounted.
pub(super) fn adopt(fd: OwnedFd, address: &Address) -> Result<Pipe> {
    let failed = |errno| Error::new(errno, "from_pipe").on_text(address.to_string());
    let pipe = Pipe::from_fd(fd)?;
    let flags = OFlag::from_bits_retain(fcntl(pipe.as_fd(), FcntlArg::F_GETFL).map_err(failed)?);
    match paths::reopen(pipe.as_fd(), flags & OFlag::O_ACCMODE | OFlag::O_NONBLOCK) {
        Ok(own) => Pipe::from_fd(own),
        Err(_) => {
            fcntl(pipe.as_fd(), FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).map_err(failed)?;
            Ok(pipe)
        }
    }
}

/// Messages of a pipe: in pieces, or lines and writes as they come.
pub(super) fn frames(address: &Address) -> Frames {
    let frames = Frames::of(address);
    match frames.framing {
        Framing::Length => frames,
        // Longer ones the kernel could mix with another writer's.
        _ => Frames { largest: frames.largest.min(PIPE_ATOMIC - 1), ..frames },
    }
}

/// The reading end.
pub(super) struct PipeReceiver {
    object: Object,
    end: End,
    /// Bytes that the pipe can hold. A read with so much room ends where some write has ended; a shorter one could leave
    /// the rest of a message to the next receiver, should this one be killed.
    pipeful: AtomicUsize,
    state: Turns<State>,
    garbage: AtomicU64,
}

struct State {
    /// `None` in a child made by fork, until it is needed: an epoll set would be shared with the parent.
    gate: Option<Arc<Gate>>,
    /// Whether the pipe is in the gate; else it is aside.
    is_gated: bool,
    found: Found,
    frames: Frames,
    /// By which a FIFO has one receiver at a time. `None` in a child made by fork, until the parent has let go.
    claim: Option<PipeClaim>,
    /// What a look ahead has found.
    upcoming: Option<Next>,
    rung: bool,
    ended: bool,
}

enum Found {
    Pieces(Assembler),
    Stream(Decoder),
}

impl Forked for State {
    /// What was read before stays with the parent.
    fn after_fork(&mut self) {
        *self = self.replaced();
    }

    fn replaced(&self) -> State {
        State::new(self.frames)
    }
}

enum Next {
    Message(usize),
    More,
    Garbage,
}

impl State {
    fn new(frames: Frames) -> State {
        let found = match frames.framing {
            Framing::Length => Found::Pieces(Assembler::new(frames.largest)),
            _ => Found::Stream(Decoder::new(frames)),
        };
        State { gate: None, is_gated: false, found, frames, claim: None, upcoming: None, rung: false, ended: false }
    }

    fn gate(&mut self) -> SysResult<Arc<Gate>> {
        if let Some(gate) = &self.gate {
            return Ok(Arc::clone(gate));
        }
        let gate = Arc::new(Gate::new()?);
        self.gate = Some(Arc::clone(&gate));
        Ok(gate)
    }

    fn ring(&mut self) {
        if let Some(gate) = &self.gate {
            gate.ring(&mut self.rung);
        }
    }

    fn quiet(&mut self) {
        if let Some(gate) = &self.gate {
            gate.quiet(&mut self.rung);
        }
    }

    /// Whether a call would find something without reading.
    fn look_ahead(&mut self) -> bool {
        self.upcoming = self.next().ok().filter(|next| !matches!(next, Next::More));
        self.upcoming.is_some()
    }

    fn next(&mut self) -> SysResult<Next> {
        if let Some(next) = self.upcoming.take() {
            return Ok(next);
        }
        Ok(match &mut self.found {
            Found::Pieces(assembler) => match assembler.next()? {
                fragments::Next::Message(length) => Next::Message(length),
                fragments::Next::More => Next::More,
                fragments::Next::Garbage => Next::Garbage,
            },
            Found::Stream(decoder) => match decoder.next() {
                framing::Next::Message(length) => Next::Message(length),
                framing::Next::More => Next::More,
                framing::Next::TooLarge(length) => {
                    decoder.pass_over(length);
                    Next::Garbage
                }
            },
        })
    }

    fn message(&self, length: usize) -> &[u8] {
        match &self.found {
            Found::Pieces(assembler) => assembler.message(length),
            Found::Stream(decoder) => decoder.message(length),
        }
    }

    fn take(&mut self, length: usize) {
        match &mut self.found {
            Found::Pieces(assembler) => assembler.take(length),
            Found::Stream(decoder) => decoder.take(length),
        }
    }

    fn fill(&mut self, room: usize, read: impl FnOnce(&mut [u8]) -> SysResult<usize>) -> SysResult<usize> {
        match &mut self.found {
            Found::Pieces(assembler) => assembler.fill(room, read),
            Found::Stream(decoder) => decoder.fill_by(room, read),
        }
    }

    fn end(&mut self) {
        self.ended = true;
        match &mut self.found {
            Found::Pieces(assembler) => assembler.end(),
            Found::Stream(decoder) => decoder.end(),
        }
    }

    /// A FIFO's next writer starts it again.
    fn begin_anew(&mut self) {
        self.ended = false;
        if let Found::Stream(decoder) = &mut self.found {
            decoder.begin_anew();
        }
    }

    fn torn(&self) -> u64 {
        match &self.found {
            Found::Pieces(assembler) => assembler.torn(),
            Found::Stream(_) => 0, // what has no end of its own cannot be torn
        }
    }
}

/// Claims a FIFO for this process, by a description of its own: a child made by fork has copies of the others, and would keep
/// it beyond this process.
fn claim(fifo: &Fifo) -> SysResult<PipeClaim> {
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK;
    let own = NotInherited::open(|| match paths::reopen(fifo.as_fd(), flags) {
        Err(Errno::ENOENT) => copy_descriptor(fifo.as_fd()), // without /proc children do keep it
        opened => opened,
    });
    PipeClaim::new(own?)
}

impl PipeReceiver {
    /// Opens the FIFO, or makes it; waits for a sender, unless the address says `keep-open=1`.
    pub fn open(address: &Address, plain: &Address, timeout: Timeout) -> Result<PipeReceiver> {
        let options = FifoOptions { create: true, ..Default::default() };
        let fifo = Fifo::open_reader(plain, &options, timeout)?;
        let claim = claim(&fifo).map_err(|errno| {
            let error = Error::new(errno, "open for receiving").on_text(address.to_string());
            match errno {
                Errno::EBUSY => error.because(
                    "another receiver has it; two would tear each other's messages apart. mq: sysv-mq: and ring: have many",
                ),
                _ => explain_descriptors(error),
            }
        })?;
        let receiver = PipeReceiver::over(End::Fifo(fifo), address)?;
        receiver.state.take_soon().claim = Some(claim);
        Ok(receiver)
    }

    pub fn over(end: End, address: &Address) -> Result<PipeReceiver> {
        let object = Object::new(address.to_string());
        let failed = |errno| explain_descriptors(object.error(errno, "open for receiving"));
        let mut state = State::new(frames(address));
        state.gate().map_err(failed)?;
        let pipeful = AtomicUsize::new(end.capacity()?.max(USUAL));
        Ok(PipeReceiver { object, end, pipeful, state: Turns::new(state), garbage: AtomicU64::new(0) })
    }

    fn read(&self, state: &mut State) -> SysResult<usize> {
        let pipeful = self.pipeful.load(Ordering::Relaxed); // a size: orders nothing
        let length = state.fill(pipeful, |room| direct::read(self.end.as_fd(), room))?;
        if length >= pipeful {
            // Somebody may have made it larger.
            self.pipeful.fetch_max(self.end.capacity().unwrap_or(pipeful), Ordering::Relaxed);
        }
        Ok(length)
    }

    /// And until when to sleep at most.
    fn gate_for_waiting(&self, operation: &Operation<'_>) -> Result<(Arc<Gate>, bool, Deadline)> {
        let mut state = self.state.take_soon();
        let gate = state.gate().map_err(|errno| explain_descriptors(operation.error(errno)))?;
        if let End::Fifo(fifo) = &self.end
            && state.claim.is_none()
        {
            state.claim = claim(fifo).ok(); // until then the parent keeps others away
        }
        let is_claimed = state.claim.is_some() || matches!(self.end, End::Pipe(_));
        Ok((gate, state.is_gated, if is_claimed { Deadline::Never } else { Deadline::after(CLAIM_AGAIN) }))
    }

    fn look(&self, buffer: &mut [u8], operation: &Operation<'_>) -> Result<Option<ChannelReceived>> {
        let mut state = self.state.take_soon();
        for _ in 0..READS {
            match state.next().map_err(|errno| operation.error(errno))? {
                Next::Message(length) => {
                    let Some(room) = buffer.get_mut(..length) else {
                        state.ring();
                        return Err(refusal::does_not_fit(operation.error(Errno::EMSGSIZE), length, buffer.len()));
                    };
                    room.copy_from_slice(state.message(length));
                    state.take(length);
                    if state.look_ahead() {
                        state.ring();
                    } else {
                        state.quiet();
                    }
                    return Ok(Some(ChannelReceived { length, ..Default::default() }));
                }
                Next::Garbage => {
                    self.garbage.fetch_add(1, Ordering::Relaxed); // a count for people: orders nothing
                    if state.look_ahead() {
                        state.ring(); // others may sleep, and the pipe be empty
                    }
                    return Err(operation.error(Errno::EBADMSG).because(
                        "somebody writes something else to it, or messages larger than largest=; what cannot be read \
                         was skipped and counted (framing=line and framing=none are for programs that know nothing of \
                         channels)",
                    ));
                }
                Next::More if state.ended => {
                    state.begin_anew();
                    return Err(operation.error(Errno::EPIPE).because("the last sender has gone"));
                }
                Next::More => {}
            }
            match self.read(&mut state) {
                Ok(0) => state.end(),
                Ok(_) | Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => {
                    state.quiet();
                    return Ok(None);
                }
                Err(errno) => return Err(operation.error(errno)),
            }
        }
        Ok(None) // the pipe stays ready
    }
}

impl Transport for PipeReceiver {
    fn send(&self, _: &[u8], _: u32, _: Timeout) -> Result<()> {
        Err(self.object.error(Errno::EBADF, "send"))
    }

    fn recv(&self, buffer: &mut [u8], timeout: Timeout) -> Result<ChannelReceived> {
        let mut operation = self.object.operation("recv", timeout);
        if let Some(received) = self.look(buffer, &operation)? {
            return Ok(received);
        }
        if timeout == Timeout::Now {
            return Err(operation.error(Errno::EAGAIN));
        }
        loop {
            // Each time: a signal hook that ran meanwhile may have forked, and this may be the child.
            let (gate, is_gated, end) = self.gate_for_waiting(&operation)?;
            let announced = gate.announce();
            if let Some(received) = self.look(buffer, &operation)? {
                return Ok(received);
            }
            // If somebody has it gated meanwhile, nothing is lost by polling it here too.
            let aside = (!is_gated).then(|| self.end.as_fd());
            announced.sleep(aside, end, &mut operation)?;
        }
    }

    fn reply(&self, _: &ChannelPeer, _: &[u8], timeout: Timeout) -> Result<()> {
        Err(refusal::no_answers(&self.object.operation("reply", timeout)))
    }

    fn flush(&self, _: Timeout) -> Result<()> {
        Ok(())
    }

    fn descriptor(&self, _: Direction) -> Result<(OwnedFd, PollFlags)> {
        let failed = |errno| explain_descriptors(self.object.error(errno, "descriptor"));
        let mut state = self.state.take_soon();
        let gate = state.gate().map_err(failed)?;
        let shown = gate.show().map_err(failed)?;
        if !state.is_gated {
            gate.add(self.end.as_fd(), libc::EPOLLIN.cast_unsigned(), 0).map_err(failed)?;
            state.is_gated = true;
        }
        if state.look_ahead() {
            state.ring();
        }
        Ok((shown, PollFlags::POLLIN))
    }

    fn stream(&self) -> Option<BorrowedFd<'_>> {
        Some(self.end.as_fd())
    }

    fn expect_senders(&self, count: usize) {
        if let Found::Pieces(assembler) = &mut self.state.take_soon().found {
            assembler.expect_writers(count);
        }
    }

    fn count(&self, statistics: &mut ChannelStatistics) {
        statistics.torn = self.state.take_soon().torn();
        statistics.garbage = self.garbage.load(Ordering::Relaxed);
    }

    fn end_waits(&self) {
        self.object.end_waits();
    }
}
