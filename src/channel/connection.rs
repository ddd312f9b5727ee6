//! The sending end of a channel over a connection: `tcp:`, `unix:`, `unix-seqpacket:`. Connects again when the
//! connection breaks, and says so if anything may have been lost with it. Receives the answers.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::connecting;
use super::framing::{Decoder, Frames, Next};
use super::outlet::Outlet;
use super::packets;
use super::transport::Transport;
use super::{ChannelPeer, ChannelReceived, ChannelStatistics, Direction, refusal, unfit};
use crate::address::{Address, Scheme};
use crate::error::{Error, Result};
use crate::socket::{ShutdownSide, Socket};
use crate::sys::socket as sys;
use crate::timeout::{Timeout, about_now};
use crate::wait::{Forked, Object, Operation, Pauses, Turn, Turns};

/// A connection that was not used for so long is looked at before it is.
const IDLE: Duration = Duration::from_millis(10);
/// How long closing waits for the rest of a message to be taken.
const LINGER: Timeout = Timeout::After(Duration::from_secs(1));
/// In the middle of a message so many connections in a row may break: receivers die, and others come.
const BROKEN_OFF: u32 = 3;

pub(super) struct Connection {
    object: Object,
    /// Where to connect again.
    address: Address,
    scheme: Scheme,
    /// `None` where each send is a message.
    frames: Option<Frames>,
    link: Turns<Link>,
    /// The socket in use, for those who do not send.
    current: Turns<Current>,
    inbox: Turns<Inbox>,
    /// Whether part of a message that counts as sent may not have reached the kernel yet. Relaxed: the turn orders it.
    is_behind: AtomicBool,
    reconnects: AtomicU32,
    unconfirmed: AtomicU64,
    torn: AtomicU64,
    cut_off: AtomicU64,
}

/// What the sending thread has.
struct Link {
    socket: Option<Arc<Socket>>,
    outlet: Outlet,
    used: Duration,
    /// Messages sent over this socket since the last that was flushed.
    sent: u64,
    /// None was ever sent over it.
    is_new: bool,
    /// Connections in a row that broke in the middle of the first message that they had.
    broken_off: u32,
}

impl Link {
    fn new(used: Duration) -> Link {
        Link { socket: None, outlet: Outlet::default(), used, sent: 0, is_new: true, broken_off: 0 }
    }
}

struct Current {
    socket: Option<Arc<Socket>>,
    /// The one before it, if answers lie in it that nobody has received.
    earlier: Option<Arc<Socket>>,
}

/// Answers on their way in.
struct Inbox {
    socket: Option<Arc<Socket>>,
    decoder: Option<Decoder>,
}

impl Forked for Link {
    /// The parent goes on with the connection; two senders on one stream would mix their bytes.
    fn after_fork(&mut self) {
        *self = self.replaced();
    }

    fn replaced(&self) -> Link {
        Link::new(Duration::ZERO)
    }
}

impl Forked for Current {
    fn after_fork(&mut self) {
        *self = self.replaced();
    }

    fn replaced(&self) -> Current {
        Current { socket: None, earlier: None }
    }
}

impl Forked for Inbox {
    fn after_fork(&mut self) {
        *self = self.replaced();
    }

    fn replaced(&self) -> Inbox {
        Inbox { socket: None, decoder: None }
    }
}

impl Connection {
    /// Connects; waits for a receiver to be there.
    pub fn open(address: &Address, plain: &Address, timeout: Timeout) -> Result<Connection> {
        let connection = Connection::new(plain.clone(), address);
        let mut operation = connection.object.operation("open for sending", timeout);
        connection.connect(&mut connection.link.take_soon(), &mut operation)?;
        drop(operation);
        Ok(connection)
    }

    fn new(plain: Address, address: &Address) -> Connection {
        Connection {
            object: Object::new(address.to_string()),
            address: plain,
            scheme: address.scheme(),
            frames: (address.scheme() != Scheme::UnixSeqpacket).then(|| Frames::of(address)),
            link: Turns::new(Link::new(about_now())),
            current: Turns::new(Current { socket: None, earlier: None }),
            inbox: Turns::new(Inbox { socket: None, decoder: None }),
            is_behind: AtomicBool::new(false),
            reconnects: AtomicU32::new(0),
            unconfirmed: AtomicU64::new(0),
            torn: AtomicU64::new(0),
            cut_off: AtomicU64::new(0),
        }
    }

    /// Connects, again and again until the deadline, as a receiver may be about to come.
    #[cold]
    fn connect(&self, link: &mut Link, operation: &mut Operation<'_>) -> Result<()> {
        let socket = Arc::new(connecting::connect(&self.address, operation)?);
        link.socket = Some(Arc::clone(&socket));
        link.outlet.clear();
        (link.sent, link.is_new) = (0, true);
        let mut current = self.current.take_soon();
        if let Some(before) = current.socket.replace(socket).filter(|before| has_unread(before))
            && let Some(given_up) = current.earlier.replace(before)
        {
            // Two connections ago: whoever never receives answers does not collect sockets.
            self.torn.fetch_add(has_unread(&given_up).into(), Ordering::Relaxed); // a count for people: orders nothing
        }
        self.reconnects.fetch_add(1, Ordering::Relaxed); // a count for people: orders nothing
        Ok(())
    }

    /// Sees to it that there is a connection, which the receiver has not left; what time it is.
    #[inline]
    fn prepare(&self, link: &mut Link, operation: &mut Operation<'_>) -> Result<Duration> {
        let now = about_now();
        if link.socket.is_none() || now.saturating_sub(link.used) >= IDLE {
            self.prepare_anew(link, operation)?;
        }
        Ok(now)
    }

    #[cold]
    fn prepare_anew(&self, link: &mut Link, operation: &mut Operation<'_>) -> Result<()> {
        if let Some(socket) = &link.socket {
            if !self.is_left(socket) {
                return Ok(());
            }
            self.part(link, operation, Errno::EPIPE)?;
        }
        self.connect(link, operation)
    }

    /// Whether the receiver has closed the connection, as far as is known here.
    #[cold]
    fn is_left(&self, socket: &Socket) -> bool {
        // Of a stream in a foreign format, the other side may have ended its own direction alone.
        let half = self.frames.is_none_or(|frames| frames.framing == super::framing::Framing::Length);
        let events = if half { PollFlags::from_bits_retain(libc::POLLRDHUP) } else { PollFlags::empty() };
        let mut fds = [PollFd::new(socket.as_fd(), events)];
        poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    /// Gives a broken connection up; fails if what was sent over it may not have arrived.
    #[cold]
    fn part(&self, link: &mut Link, operation: &Operation<'_>, broken: Errno) -> Result<()> {
        let Some(socket) = link.socket.take() else { return Ok(()) };
        let reset = broken == Errno::ECONNRESET
            || sys::number_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_ERROR) == Ok(libc::ECONNRESET);
        let behind = link.outlet.is_behind();
        link.outlet.clear();
        let sent = std::mem::take(&mut link.sent);
        let queued = match self.scheme {
            Scheme::Tcp => unsent(&socket),
            _ => 0, // the kernel forgets what a Unix peer has left unread, and says so by a reset
        };
        // Answers that have come can be received, and then it ends, for whoever waits for another.
        let _ = socket.shutdown(ShutdownSide::Both); // fails only if the other side has gone
        if sent == 0 || !(reset || behind || queued > 0) {
            return Ok(());
        }
        self.unconfirmed.fetch_add(1, Ordering::Relaxed);
        let what = match (self.scheme, queued) {
            (Scheme::Tcp, 1..) => format!("{queued} bytes sent over it were not acknowledged"),
            (Scheme::Tcp, _) => "the receiver closed it with messages unread".into(),
            _ => "the receiver left messages unread".into(),
        };
        Err(operation.error(Errno::ECONNRESET).because_found(format!(
            "the connection broke, and {what}: the last of the {sent} messages sent over it may be lost. This one was not \
             sent; sending it again makes a new connection"
        )))
    }

    #[inline]
    fn try_send(&self, link: &mut Link, message: &[u8], operation: &mut Operation<'_>) -> Result<()> {
        let Some(socket) = &link.socket else { return Err(operation.error(Errno::ENOTCONN)) };
        match &self.frames {
            Some(frames) => {
                let frame = frames.around(message).map_err(|why| unfit(operation, *frames, message, why))?;
                link.outlet.send(socket, &frame, message, operation).map(drop) // a rest goes out later
            }
            None => operation
                .until_ready(socket.as_fd(), PollFlags::POLLOUT, || sys::send(socket.as_fd(), message))
                .map(drop),
        }
    }

    /// Sends what is left of a message as far as there is room; whether more is left.
    #[cold]
    fn send_rest(&self, socket: &Arc<Socket>) -> bool {
        // Whoever has the turn is sending, and has begun with that.
        let Some(mut link) = self.link.take_if_free() else { return false };
        if link.socket.as_ref().is_none_or(|current| !Arc::ptr_eq(current, socket)) {
            return false; // what is left is for another connection
        }
        let left = link.outlet.push(socket);
        self.is_behind.store(left, Ordering::Relaxed);
        left
    }

    /// The socket that answers come in on.
    fn receiving(&self, operation: &Operation<'_>) -> Result<Arc<Socket>> {
        let current = self.current.take_soon();
        current.earlier.as_ref().or(current.socket.as_ref()).map(Arc::clone).ok_or_else(|| has_gone(operation))
    }

    /// No more answers come over that connection; fails if none is there to go on with.
    #[cold]
    fn leave(&self, socket: &Arc<Socket>, inbox: &mut Inbox, operation: &Operation<'_>) -> Result<()> {
        if inbox.decoder.as_ref().is_some_and(|decoder| decoder.pending() > 0) {
            self.torn.fetch_add(1, Ordering::Relaxed);
        }
        *inbox = inbox.replaced();
        let mut current = self.current.take_soon();
        let Current { socket: now, earlier } = &mut *current;
        for left in [now, earlier] {
            left.take_if(|left| Arc::ptr_eq(left, socket));
        }
        if current.socket.is_some() { Ok(()) } else { Err(has_gone(operation)) }
    }

    fn linked(&self, operation: &mut Operation<'_>) -> Result<Turn<'_, Link>> {
        self.link.take(operation)
    }
}

/// Between connections that break with the same message.
#[derive(Default)]
struct Breaks {
    pauses: Option<Pauses>,
}

impl Breaks {
    /// One more that broke with the first message that it had; fails if there is no use in another, or no time.
    #[cold]
    fn again(&mut self, link: &mut Link, broken_off: bool, operation: &mut Operation<'_>) -> Result<()> {
        link.broken_off += u32::from(broken_off);
        if link.broken_off >= BROKEN_OFF {
            link.broken_off = 0;
            return Err(operation.error(Errno::ECONNRESET).because(
                "the receiver ended one connection after another in the middle of this message, which was not sent; it may \
                 be too large for it (largest= of the receiver's address)",
            ));
        }
        match &mut self.pauses {
            None => self.pauses = Some(Pauses::default()), // the first may have broken long ago
            Some(_) if operation.timeout() == Timeout::Now => return Err(operation.error(Errno::EAGAIN)),
            Some(pauses) => pauses.sleep(operation)?,
        }
        Ok(())
    }
}

impl Transport for Connection {
    #[inline]
    fn send(&self, message: &[u8], _: u32, timeout: Timeout) -> Result<()> {
        let mut operation = self.object.operation("send", timeout);
        if message.is_empty() && self.frames.is_none() {
            return Err(operation
                .error(Errno::EINVAL)
                .because("an empty message would look like the end of the connection; unix: and ring: carry them"));
        }
        let mut link = self.linked(&mut operation)?;
        let mut breaks = Breaks::default();
        loop {
            let now = self.prepare(&mut link, &mut operation)?;
            match self.try_send(&mut link, message, &mut operation) {
                Ok(()) => {
                    link.used = now;
                    link.sent += 1;
                    (link.is_new, link.broken_off) = (false, 0);
                    if link.outlet.is_behind() {
                        self.is_behind.store(true, Ordering::Relaxed);
                    }
                    return Ok(());
                }
                Err(error) if error.is(Errno::EMSGSIZE) && self.frames.is_none() => {
                    return Err(refusal::too_large(error, self.scheme, message.len()));
                }
                Err(error) if is_broken(&error) => {
                    let (is_new, broken_off) = (link.is_new, link.outlet.has_broken_off());
                    self.part(&mut link, &operation, Errno::from_raw(error.errno()))?;
                    if is_new {
                        breaks.again(&mut link, broken_off, &mut operation)?;
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn recv(&self, buffer: &mut [u8], timeout: Timeout) -> Result<ChannelReceived> {
        let mut operation = self.object.operation("recv", timeout);
        let mut inbox = self.inbox.take(&mut operation)?;
        loop {
            let socket = match &inbox.socket {
                // What came in over an earlier connection is received first.
                Some(socket) if inbox.decoder.as_ref().is_some_and(|decoder| decoder.pending() > 0) => {
                    Arc::clone(socket)
                }
                _ => {
                    let socket = self.receiving(&operation)?;
                    if inbox.socket.as_ref().is_none_or(|known| !Arc::ptr_eq(known, &socket)) {
                        inbox.decoder = self.frames.map(Decoder::new);
                        inbox.socket = Some(Arc::clone(&socket));
                    }
                    socket
                }
            };
            let Some(decoder) = &mut inbox.decoder else {
                match receive_whole(&socket, buffer, &mut operation) {
                    Ok(0) => self.leave(&socket, &mut inbox, &operation)?,
                    Ok(length) => return Ok(ChannelReceived { length, ..Default::default() }),
                    Err(error) if is_broken(&error) => self.leave(&socket, &mut inbox, &operation)?,
                    Err(error) => return Err(error),
                }
                continue;
            };
            match decoder.next() {
                Next::Message(length) => {
                    let Some(room) = buffer.get_mut(..length) else {
                        return Err(refusal::does_not_fit(operation.error(Errno::EMSGSIZE), length, buffer.len()));
                    };
                    room.copy_from_slice(decoder.message(length));
                    decoder.take(length);
                    return Ok(ChannelReceived { length, ..Default::default() });
                }
                Next::TooLarge(size) => {
                    self.cut_off.fetch_add(1, Ordering::Relaxed); // a count for people: orders nothing
                    // The next message meets that, and goes over another connection.
                    let _ = socket.shutdown(ShutdownSide::Both); // fails only if the other side has gone
                    *inbox = inbox.replaced();
                    let _ = self.leave(&socket, &mut inbox, &operation); // the flaw is what is told
                    return Err(refusal::not_ours(operation.error(Errno::EBADMSG), "the receiver", size, self.frames));
                }
                Next::More => {}
            }
            // The receiver may not answer before it has the whole of what it is to answer.
            let behind = self.is_behind.load(Ordering::Relaxed) && self.send_rest(&socket);
            let room = if behind { PollFlags::POLLOUT } else { PollFlags::empty() };
            let read = operation.until_ready(socket.as_fd(), PollFlags::POLLIN | room, || {
                match decoder.fill(|room| sys::receive(socket.as_fd(), room, 0)) {
                    Err(Errno::EAGAIN) if behind && !self.send_rest(&socket) => Ok(None),
                    filled => filled.map(Some),
                }
            });
            match read {
                Ok(None) => {}
                Ok(Some(0)) => {
                    decoder.end();
                    if !matches!(decoder.next(), Next::Message(_)) {
                        self.leave(&socket, &mut inbox, &operation)?;
                    }
                }
                Ok(_) => {}
                Err(error) if is_broken(&error) => self.leave(&socket, &mut inbox, &operation)?,
                Err(error) => return Err(error),
            }
        }
    }

    fn reply(&self, _: &ChannelPeer, message: &[u8], timeout: Timeout) -> Result<()> {
        self.send(message, 0, timeout)
    }

    fn flush(&self, timeout: Timeout) -> Result<()> {
        let mut operation = self.object.operation("flush", timeout);
        let mut link = self.linked(&mut operation)?;
        let Some(socket) = link.socket.clone() else { return Ok(()) };
        let mut pauses = Pauses::default();
        loop {
            let flushed = link.outlet.flush(&socket, &mut operation);
            if let Err(error) = flushed {
                if !is_broken(&error) {
                    return Err(error);
                }
                return self.part(&mut link, &operation, Errno::from_raw(error.errno()));
            }
            // First what is on its way, then whether it is over: a receiver that goes ends the connection before the kernel
            // drops what it has not read.
            let arrived = unsent(&socket) == 0;
            let left = self.is_left(&socket);
            if arrived && !left {
                link.sent = 0;
                return Ok(());
            }
            if left {
                return self.part(&mut link, &operation, Errno::EPIPE);
            }
            if timeout == Timeout::Now {
                return Err(operation.error(Errno::EAGAIN));
            }
            pauses.sleep(&mut operation)?;
        }
    }

    /// The socket in use now; another one after the next connect.
    fn descriptor(&self, _: Direction) -> Result<(OwnedFd, PollFlags)> {
        Err(self.object.error(Errno::ENOTSUP, "descriptor").because(
            "the sending end of a connection may connect again, so its descriptor changes; send with a timeout of zero",
        ))
    }

    fn count(&self, statistics: &mut ChannelStatistics) {
        statistics.reconnects = u64::from(self.reconnects.load(Ordering::Relaxed).saturating_sub(1));
        statistics.unconfirmed = self.unconfirmed.load(Ordering::Relaxed);
        statistics.torn = self.torn.load(Ordering::Relaxed);
        statistics.cut_off = self.cut_off.load(Ordering::Relaxed);
    }

    fn end_waits(&self) {
        self.object.end_waits();
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let object = Object::new(""); // the waits of the channel's own have been ended
        let mut operation = object.operation("close", LINGER);
        let mut link = self.link.take_soon();
        if let Some(socket) = link.socket.clone() {
            // Whoever wants to know flushes; here nobody could be told. The receiver counts a torn message.
            let _ = link.outlet.flush(&socket, &mut operation);
            // What is unread when a socket closes makes the kernel forget what it has yet to send.
            let mut unread = [0; 4096];
            for _ in 0..256 {
                if !matches!(sys::receive(socket.as_fd(), &mut unread, 0), Ok(1..)) {
                    break;
                }
            }
        }
    }
}

/// Receives from a socket that keeps boundaries, waiting as the channel's own call.
fn receive_whole(socket: &Socket, buffer: &mut [u8], operation: &mut Operation<'_>) -> Result<usize> {
    operation.until_ready(socket.as_fd(), PollFlags::POLLIN, || match packets::receive(socket, buffer) {
        Err(error) if error.is(Errno::EAGAIN) => Err(Errno::EAGAIN),
        outcome => Ok(outcome),
    })?
}

/// Bytes that were sent and not acknowledged, or over a Unix socket not read.
fn unsent(socket: &Socket) -> u64 {
    sys::unsent(socket.as_fd()).unwrap_or(0)
}

/// Whether something has come in that nobody has received.
fn has_unread(socket: &Socket) -> bool {
    matches!(sys::receive(socket.as_fd(), &mut [0], libc::MSG_PEEK), Ok(1..))
}

#[cold]
fn has_gone(operation: &Operation<'_>) -> Error {
    operation.error(Errno::EPIPE).because("the receiver has gone; sending again connects to the next")
}

fn is_broken(error: &Error) -> bool {
    use Errno::{ECONNABORTED, ECONNREFUSED, ECONNRESET, EHOSTUNREACH, ENETUNREACH, ENOTCONN, EPIPE};
    let broken = [EPIPE, ECONNRESET, ECONNABORTED, ENOTCONN, ECONNREFUSED, EHOSTUNREACH, ENETUNREACH];
    broken.iter().any(|errno| error.is(*errno))
}
