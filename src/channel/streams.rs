//! The receiving end of a channel over connections: `tcp:`, `unix:`, `unix-seqpacket:`. Many senders, each with its own
//! connection; one that sends garbage is cut off, and the others do not notice.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::PollFlags;

use super::framing::{Decoder, Frames, Next};
use super::gate::Gate;
use super::outlet::Outlet;
use super::packets;
use super::peer::{Connected, Identity};
use super::transport::Transport;
use super::{ChannelPeer, ChannelReceived, ChannelStatistics, Direction, refusal, unfit};
use crate::address::{Address, Scheme};
use crate::error::{Error, Result};
use crate::limits::explain_descriptors;
use crate::socket::{Listener, ShutdownSide, Socket, SocketOptions};
use crate::sys::socket as sys;
use crate::timeout::{Deadline, Timeout};
use crate::wait::{Forked, Object, Operation, Turns};

/// The gate's token for new connections; the others are the connections' numbers, from 1.
const LISTENER: u64 = 0;
/// Messages taken from one sender before the others are looked at.
const STREAK: u32 = 32;

/// New connections taken in one look; those that are there have their turn in between.
const ADMITTED: u32 = 64;
/// Reads from one sender in one look: it may send a message by single bytes.
const READS: u32 = 64;
/// How often a look that may wait goes on to look who else has sent something.
const ROUNDS: u32 = 16;
/// How soon new connections are tried again for which there was no descriptor.
const AGAIN: Timeout = Timeout::After(Duration::from_millis(100));

const READABLE: u32 = (libc::EPOLLIN | libc::EPOLLRDHUP).cast_unsigned();
const ACCEPTS: u32 = libc::EPOLLIN.cast_unsigned();
/// As [`ACCEPTS`], told when another comes: one that cannot be taken would keep the gate open.
const ACCEPTS_MORE: u32 = ACCEPTS | libc::EPOLLET.cast_unsigned();

pub(super) struct Streams {
    object: Object,
    scheme: Scheme,
    frames: Option<Frames>,
    listener: Listener,
    state: Turns<State>,
    torn: AtomicU64,
    cut_off: AtomicU64,
    starved: AtomicU64,
}

struct State {
    /// `None` in a child made by fork, until it is needed: an epoll set would be shared with the parent.
    gate: Option<Arc<Gate>>,
    peers: BTreeMap<u64, Peer>,
    /// The only connection, which is not in the gate; 0 if it is, or there are more.
    aside: u64,
    /// Connections with whole messages in memory.
    backlog: VecDeque<u64>,
    /// The connection that the last message came from, and how many in a row.
    last: u64,
    streak: u32,
    connections: u64,
    rung: bool,
    /// While there is no descriptor or memory for new connections: when they are tried again.
    starved: Option<Deadline>,
}

struct Peer {
    identity: Arc<Connected>,
    stream: Arc<Stream>,
    decoder: Option<Decoder>,
    is_in_backlog: bool,
}

/// What answering takes.
struct Stream {
    socket: Socket,
    outlet: Turns<Outlet>,
}

impl Forked for Outlet {
    fn after_fork(&mut self) {
        self.clear();
    }

    fn replaced(&self) -> Outlet {
        Outlet::default()
    }
}

impl State {
    fn new(gate: Option<Arc<Gate>>) -> State {
        State {
            gate,
            peers: BTreeMap::new(),
            aside: 0,
            backlog: VecDeque::new(),
            last: 0,
            streak: 0,
            connections: 0,
            rung: false,
            starved: None,
        }
    }

    /// Puts the connection that is aside into the gate.
    fn gather(&mut self, gate: &Gate) -> nix::Result<()> {
        if let Some(peer) = self.peers.get(&self.aside) {
            gate.add(peer.stream.socket.as_fd(), READABLE, self.aside)?;
        }
        self.aside = 0;
        Ok(())
    }

    /// The connection that is aside.
    fn aside(&self) -> Option<Arc<Stream>> {
        self.peers.get(&self.aside).map(|peer| Arc::clone(&peer.stream))
    }

    fn remove(&mut self, number: u64) -> Option<Peer> {
        let peer = self.peers.remove(&number)?;
        if let Some(gate) = &self.gate {
            // Removed by hand, as a child made by fork may hold the description too.
            let _ = gate.remove(peer.stream.socket.as_fd()); // fails only if it is not in the set
        }
        if self.aside == number {
            self.aside = 0;
        }
        if self.last == number {
            self.last = 0;
        }
        self.starved = self.starved.map(|_| Deadline::after(Timeout::Now)); // there is a descriptor now
        Some(peer)
    }

    /// When the listener is looked at although nobody has come.
    fn tries_again(&self) -> Deadline {
        self.starved.unwrap_or(Deadline::Never)
    }
}

impl Forked for State {
    /// The connections stay with the parent; the child accepts its own on the shared listener.
    fn after_fork(&mut self) {
        *self = State::new(None);
    }

    fn replaced(&self) -> State {
        State::new(None)
    }
}

/// What became of a look at one connection.
enum Look {
    Received(ChannelReceived),
    Nothing,
    Gone,
}

impl Streams {
    /// Listens. Never blocks, but for another program that is just making the same name.
    pub fn open(address: &Address, plain: &Address, timeout: Timeout) -> Result<Streams> {
        let options = SocketOptions { nodelay: address.scheme() == Scheme::Tcp, ..Default::default() };
        let listener = Listener::open(plain, &options, timeout)?;
        let streams = Streams::new(address, listener);
        streams.gate(&mut streams.state.take_soon()).map_err(|errno| streams.failed(errno))?;
        Ok(streams)
    }

    fn new(address: &Address, listener: Listener) -> Streams {
        Streams {
            object: Object::new(address.to_string()),
            scheme: address.scheme(),
            frames: (address.scheme() != Scheme::UnixSeqpacket).then(|| Frames::of(address)),
            listener,
            state: Turns::new(State::new(None)),
            torn: AtomicU64::new(0),
            cut_off: AtomicU64::new(0),
            starved: AtomicU64::new(0),
        }
    }

    fn failed(&self, errno: Errno) -> Error {
        explain_descriptors(self.object.error(errno, "open for receiving"))
    }

    /// Where the receiver listens, with the port that the kernel chose.
    pub fn local_address(&self) -> Option<Address> {
        self.listener.local_address().ok()?.to_address().ok()
    }

    fn gate(&self, state: &mut State) -> nix::Result<Arc<Gate>> {
        if let Some(gate) = &state.gate {
            return Ok(Arc::clone(gate));
        }
        let gate = Arc::new(Gate::new()?);
        gate.add(self.listener.as_fd(), ACCEPTS, LISTENER)?;
        state.gate = Some(Arc::clone(&gate));
        Ok(gate)
    }

    fn admit(&self, state: &mut State, gate: &Gate, socket: Socket, announced: u32) -> nix::Result<()> {
        let number = state.connections + 1;
        if state.peers.is_empty() && gate.allows_aside(announced) {
            state.aside = number;
        } else {
            state.gather(gate)?;
            gate.add(socket.as_fd(), READABLE, number)?;
        }
        state.connections = number;
        let identity = Arc::new(Connected {
            number,
            name: socket.address().into(),
            credentials: socket.peer_credentials().ok(), // TCP has none
        });
        let stream = Arc::new(Stream { socket, outlet: Turns::new(Outlet::default()) });
        let decoder = self.frames.map(Decoder::new);
        state.peers.insert(number, Peer { identity, stream, decoder, is_in_backlog: false });
        Ok(())
    }

    /// Takes a message if one can be had without waiting; `announced` says how many sleeps the caller has announced.
    fn look(
        &self,
        buffer: &mut [u8],
        operation: &mut Operation<'_>,
        announced: u32,
    ) -> Result<Option<ChannelReceived>> {
        let mut state = self.state.take_soon();
        let state = &mut *state;
        let mut looked_at = 0;
        if state.streak < STREAK {
            while let Some(number) = state.backlog.pop_front() {
                if let Some(peer) = state.peers.get_mut(&number) {
                    peer.is_in_backlog = false;
                }
                if let Look::Received(received) = self.look_at(state, number, buffer, operation)? {
                    return Ok(Some(received));
                }
            }
            if state.last != 0 {
                looked_at = state.last;
                if let Look::Received(received) = self.look_at(state, looked_at, buffer, operation)? {
                    return Ok(Some(received));
                }
            }
        }
        state.streak = 0;
        let gate = self.gate(state).map_err(|errno| explain_descriptors(operation.error(errno)))?;
        let mut tokens = [0; 8];
        let (mut has_accepted, mut rounds, mut failed) = (false, 0, None);
        loop {
            let found = gate.ready(&mut tokens).map_err(|errno| operation.error(errno))?;
            let listens = tokens[..found].contains(&LISTENER);
            if (listens && !has_accepted) || state.tries_again().has_passed() {
                has_accepted = true;
                failed = self.accept_some(state, &gate, announced).err();
            } else if found == usize::from(listens) {
                break; // nothing, or more to accept: that is for the next look
            }
            for number in tokens[..found].iter().filter(|number| **number != LISTENER) {
                if let Look::Received(received) = self.look_at(state, *number, buffer, operation)? {
                    return Ok(Some(received));
                }
            }
            let over = operation.go_on(&mut rounds).err();
            if over.is_some() || rounds >= ROUNDS && operation.timeout() != Timeout::Now {
                failed = over; // who waits is back at once, and others have had their turn
                break;
            }
        }
        let aside = state.aside;
        if aside != looked_at
            && let Look::Received(received) = self.look_at(state, aside, buffer, operation)?
        {
            return Ok(Some(received));
        }
        // The streak may have been all there was.
        while let Some(number) = state.backlog.pop_front() {
            if let Some(peer) = state.peers.get_mut(&number) {
                peer.is_in_backlog = false;
            }
            if let Look::Received(received) = self.look_at(state, number, buffer, operation)? {
                return Ok(Some(received));
            }
        }
        gate.quiet(&mut state.rung);
        match failed {
            Some(error) => Err(error),
            None => Ok(None),
        }
    }

    /// Takes some of those who wait to be connected. That there is no room for them is no failure: the others go on.
    fn accept_some(&self, state: &mut State, gate: &Gate, announced: u32) -> Result<()> {
        let failed = |errno| self.object.error(errno, "accept");
        let watch = |events| gate.change(self.listener.as_fd(), events, LISTENER).map_err(failed);
        for _ in 0..ADMITTED {
            let accepted = self.listener.accept(Timeout::Now).and_then(|socket| {
                if self.scheme == Scheme::Tcp {
                    let _ = socket.set_nodelay(true); // only answers are slower without
                }
                self.admit(state, gate, socket, announced).map_err(|errno| {
                    self.cut_off.fetch_add(1, Ordering::Relaxed); // a count for people: orders nothing
                    failed(errno)
                })
            });
            match accepted {
                Err(error) if lacks_room(&error) => {
                    let anew = state.starved.replace(Deadline::after(AGAIN)).is_none();
                    if anew {
                        self.starved.fetch_add(1, Ordering::Relaxed); // a count for people: orders nothing
                        watch(ACCEPTS_MORE)?;
                    }
                    return Ok(());
                }
                Err(error) if !error.is(Errno::EAGAIN) => return Err(error),
                outcome => {
                    if state.starved.take().is_some() {
                        watch(ACCEPTS)?;
                    }
                    if outcome.is_err() {
                        return Ok(()); // that is all
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes a message of one connection, if a whole one has come.
    #[inline]
    fn look_at(&self, state: &mut State, number: u64, buffer: &mut [u8], operation: &Operation<'_>) -> Result<Look> {
        let Some(peer) = state.peers.get_mut(&number) else { return Ok(Look::Gone) };
        let Some(decoder) = &mut peer.decoder else {
            return self.look_at_packets(state, number, buffer);
        };
        let mut reads = 0;
        loop {
            match decoder.next() {
                Next::Message(length) => {
                    let room = buffer.get_mut(..length);
                    let fits = room.is_some();
                    if let Some(room) = room {
                        room.copy_from_slice(decoder.message(length));
                        decoder.take(length);
                    }
                    // One that does not fit stays, and so does one behind it.
                    if !fits || matches!(decoder.next(), Next::Message(_) | Next::TooLarge(_)) {
                        if !peer.is_in_backlog {
                            peer.is_in_backlog = true;
                            if fits { state.backlog.push_back(number) } else { state.backlog.push_front(number) }
                        }
                        if let Some(gate) = &state.gate {
                            gate.ring(&mut state.rung);
                        }
                    }
                    if !fits {
                        let error = operation.error(Errno::EMSGSIZE);
                        return Err(refusal::does_not_fit(error, length, buffer.len()));
                    }
                    let peer = ChannelPeer(Identity::Connection(Arc::clone(&peer.identity)));
                    state.streak += 1;
                    state.last = number;
                    return Ok(Look::Received(ChannelReceived { length, peer: Some(peer), ..Default::default() }));
                }
                Next::TooLarge(size) => {
                    self.cut_off.fetch_add(1, Ordering::Relaxed); // a count for people: orders nothing
                    let who = ChannelPeer(Identity::Connection(Arc::clone(&peer.identity))).to_string();
                    // Another thread may sleep on it, and hold it: this wakes that, and the peer is told now.
                    let _ = peer.stream.socket.shutdown(ShutdownSide::Both); // fails only if the peer has gone already
                    state.remove(number);
                    return Err(refusal::not_ours(operation.error(Errno::EBADMSG), &who, size, self.frames));
                }
                Next::More if reads == READS => return Ok(Look::Nothing), // it stays ready
                Next::More => reads += 1,
            }
            let socket = &peer.stream.socket;
            match decoder.fill(|room| sys::receive(socket.as_fd(), room, 0)) {
                Ok(0) => {
                    decoder.end();
                    if matches!(decoder.next(), Next::Message(_)) {
                        continue;
                    }
                    self.leave(state, number);
                    return Ok(Look::Gone);
                }
                Ok(_) | Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(Look::Nothing),
                Err(Errno::ENOMEM) => return Err(operation.error(Errno::ENOMEM)),
                Err(_) => {
                    // Reset, or unreachable for too long: there is nobody to be told, and a torn message is counted.
                    self.leave(state, number);
                    return Ok(Look::Gone);
                }
            }
        }
    }

    fn look_at_packets(&self, state: &mut State, number: u64, buffer: &mut [u8]) -> Result<Look> {
        let Some(peer) = state.peers.get_mut(&number) else { return Ok(Look::Gone) };
        match packets::receive(&peer.stream.socket, buffer) {
            Ok(0) => {
                self.leave(state, number);
                Ok(Look::Gone)
            }
            Ok(length) => {
                let peer = ChannelPeer(Identity::Connection(Arc::clone(&peer.identity)));
                state.streak += 1;
                state.last = number;
                Ok(Look::Received(ChannelReceived { length, peer: Some(peer), ..Default::default() }))
            }
            Err(error) if error.is(Errno::EAGAIN) => Ok(Look::Nothing),
            Err(error) if error.is(Errno::EMSGSIZE) => {
                state.last = number; // the next look is here
                Err(error)
            }
            Err(_) => {
                self.leave(state, number);
                Ok(Look::Gone)
            }
        }
    }

    #[cold]
    fn leave(&self, state: &mut State, number: u64) {
        let left = state.remove(number).and_then(|peer| peer.decoder);
        if left.is_some_and(|decoder| decoder.pending() > 0) {
            self.torn.fetch_add(1, Ordering::Relaxed); // a count for people: orders nothing
        }
    }

    fn gate_for_waiting(&self, operation: &Operation<'_>) -> Result<Arc<Gate>> {
        self.gate(&mut self.state.take_soon()).map_err(|errno| explain_descriptors(operation.error(errno)))
    }
}

impl Transport for Streams {
    fn send(&self, _: &[u8], _: u32, _: Timeout) -> Result<()> {
        Err(self.object.error(Errno::EBADF, "send"))
    }

    fn recv(&self, buffer: &mut [u8], timeout: Timeout) -> Result<ChannelReceived> {
        let mut operation = self.object.operation("recv", timeout);
        if let Some(received) = self.look(buffer, &mut operation, 0)? {
            return Ok(received);
        }
        if timeout == Timeout::Now {
            return Err(operation.error(Errno::EAGAIN));
        }
        loop {
            // Each time: a signal hook that ran meanwhile may have forked, and this may be the child.
            let gate = self.gate_for_waiting(&operation)?;
            let announced = gate.announce();
            if let Some(received) = self.look(buffer, &mut operation, 1)? {
                return Ok(received);
            }
            let state = self.state.take_soon();
            // Held while it is slept on: another thread may part with the connection.
            let (aside, end) = (state.aside(), state.tries_again());
            drop(state);
            announced.sleep(aside.as_deref().map(|stream| stream.socket.as_fd()), end, &mut operation)?;
        }
    }

    fn reply(&self, peer: &ChannelPeer, message: &[u8], timeout: Timeout) -> Result<()> {
        let mut operation = self.object.operation("reply", timeout);
        let Identity::Connection(connected) = &peer.0 else { return Err(refusal::not_our_peer(&operation, peer)) };
        let stream = self.state.take_soon().peers.get(&connected.number).and_then(|found| {
            // A peer of another channel may have the same number.
            Arc::ptr_eq(&found.identity, connected).then(|| Arc::clone(&found.stream))
        });
        let Some(stream) = stream else {
            return Err(operation.error(Errno::EPIPE).because_found(format!("{peer} has gone, so it gets no answer")));
        };
        match &self.frames {
            Some(frames) => {
                let frame = frames.around(message).map_err(|why| unfit(&operation, *frames, message, why))?;
                let mut outlet = stream.outlet.take(&mut operation)?;
                let Some(ended) = outlet.send(&stream.socket, &frame, message, &mut operation)? else { return Ok(()) };
                // Nobody would see to the rest: the next answer to this peer may never be made.
                self.cut_off.fetch_add(1, Ordering::Relaxed);
                let _ = stream.socket.shutdown(ShutdownSide::Both); // fails only if the peer has gone already
                Err(refusal::half_an_answer(ended, peer))
            }
            None if message.is_empty() => Err(operation
                .error(Errno::EINVAL)
                .because("an empty message would look like the end of the connection; unix: and ring: carry them")),
            None => operation
                .until_ready(stream.socket.as_fd(), PollFlags::POLLOUT, || sys::send(stream.socket.as_fd(), message))
                .map(drop)
                .map_err(|error| match error.is(Errno::EMSGSIZE) {
                    true => refusal::too_large(error, self.scheme, message.len()),
                    false => error,
                }),
        }
    }

    fn flush(&self, timeout: Timeout) -> Result<()> {
        let mut operation = self.object.operation("flush", timeout);
        let streams: Vec<_> = self.state.take_soon().peers.values().map(|peer| Arc::clone(&peer.stream)).collect();
        for stream in streams {
            stream.outlet.take(&mut operation)?.flush(&stream.socket, &mut operation)?;
        }
        Ok(())
    }

    fn descriptor(&self, _: Direction) -> Result<(OwnedFd, PollFlags)> {
        let failed = |errno| explain_descriptors(self.object.error(errno, "descriptor"));
        let mut state = self.state.take_soon();
        let gate = self.gate(&mut state).map_err(failed)?;
        let shown = gate.show().map_err(failed)?;
        state.gather(&gate).map_err(failed)?;
        if !state.backlog.is_empty() {
            gate.ring(&mut state.rung);
        }
        Ok((shown, PollFlags::POLLIN))
    }

    fn count(&self, statistics: &mut ChannelStatistics) {
        statistics.torn = self.torn.load(Ordering::Relaxed);
        statistics.cut_off = self.cut_off.load(Ordering::Relaxed);
        statistics.starved = self.starved.load(Ordering::Relaxed);
        statistics.peers = self.state.take_soon().peers.len() as u64;
    }

    fn end_waits(&self) {
        self.object.end_waits();
    }
}

/// Whether a new connection could not be taken because there is no descriptor or memory for it.
fn lacks_room(error: &Error) -> bool {
    use Errno::{EMFILE, ENFILE, ENOBUFS, ENOMEM, ENOSPC};
    [EMFILE, ENFILE, ENOBUFS, ENOMEM, ENOSPC].iter().any(|errno| error.is(*errno))
}
