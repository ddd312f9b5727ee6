//! One way to send and receive messages, over any mechanism that carries them.

mod call;
mod capabilities;
mod connecting;
mod connection;
mod count;
mod datagrams;
mod durable;
mod fragments;
mod framing;
mod gate;
mod memory;
mod outlet;
mod packets;
mod peer;
mod pipe_sender;
mod pipes;
mod queues;
mod refusal;
mod scratch;
mod shown;
mod streams;
mod transport;
mod way_back;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use nix::errno::Errno;
use nix::poll::PollFlags;

pub use call::{Caller, Question, Server};
pub use capabilities::{Capabilities, ChannelDurability};
pub use peer::ChannelPeer;
use refusal::unfit;

use crate::address::{Address, Scheme};
use crate::error::{Error, Result};
use crate::mq::{Mq, MqAccess, SysvMq};
use crate::pipe::Fifo;
use crate::ring::{Ring, RingRole};
use crate::timeout::Timeout;
use crate::topic::Topic;
use crate::waitset::Interest;
use connection::Connection;
use count::Count;
use datagrams::{DatagramReceiver, DatagramSender};
use durable::{FileReceiver, FileSender};
use memory::{ring, subscription, topic};
use pipe_sender::PipeSender;
use pipes::PipeReceiver;
use queues::{Posix, SystemV};
use shown::Shown;
use streams::Streams;
use transport::Transport;

/// What was received.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChannelReceived {
    /// Bytes.
    pub length: usize,
    /// The priority it was sent with; 0 where there are none.
    pub priority: u32,
    /// How often it has been taken, this time included, where that is known (`ring:`); else 0.
    pub deliveries: u32,
    /// How many messages were missed before it (`topic:` with `lossy=1`; `file:`, removed by age or size, or damaged).
    pub missed: u64,
    /// Who sent it, where that is known.
    pub peer: Option<ChannelPeer>,
}

/// A message in memory of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChannelMessage {
    /// Its bytes.
    pub data: Vec<u8>,
    /// What is known about it.
    pub received: ChannelReceived,
}

/// What one end of a channel has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChannelStatistics {
    /// Messages sent from here, answers included.
    pub sent: u64,
    /// Messages received here.
    pub received: u64,
    /// Messages that wait to be received, where that is known.
    pub waiting: Option<u64>,
    /// Connections to senders that are open now.
    pub peers: u64,
    /// Times that a connection was made anew.
    pub reconnects: u64,
    /// Times that something sent may have been lost with a connection, or in part with the receiver of a pipe, was refused by
    /// the receiver's host, or could not be brought to the disk.
    pub unconfirmed: u64,
    /// Messages that came in part, because their sender died or broke off, or their beginning went with a receiver that
    /// died; broken connections whose last answers nobody has received; over `file:`, torn tails of the log that were cut,
    /// by all its users.
    pub torn: u64,
    /// Peers that were cut off: because of what they sent, because they did not take an answer, or for want of memory.
    pub cut_off: u64,
    /// Times that something else than messages was found in a pipe.
    pub garbage: u64,
    /// Messages that a full ring has dropped, by all its users.
    pub dropped: u64,
    /// Messages that this subscriber, or reader of a log, has missed.
    pub missed: u64,
    /// Times that there was no descriptor or memory for new senders, who wait until there is.
    pub starved: u64,
}

/// Which way messages go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Out,
    In,
}

/// One end of a channel: messages over whichever mechanism its address names, sent from one end and received at the
/// other.
///
/// `tcp:`, `udp:`, `unix:`, `unix-dgram:`, `unix-seqpacket:`, `pipe:`, `fifo:`, `file:`, `mq:`, `sysv-mq:`, `ring:` and `topic:`.
/// A program can change from one to another by changing the address; what they do not have in common is told by
/// [`Channel::capabilities`], and refused with a text that names one that can.
///
/// Messages are whole everywhere. Over `tcp:` and `unix:` each follows its length (32 bits, most significant byte first);
/// `?framing=line` and `?framing=none` talk to programs that know nothing of this. Over `pipe:` and `fifo:` messages
/// travel in pieces that the kernel keeps together, so that any number of writers never mix. `?largest=` bounds what a
/// stream's message may have, 1 MiB by default: what announces more is refused before memory is taken for it.
///
/// Over `file:` the address names a directory, with a log that senders append to (`fsync=`, `interval=`, `segment=`, `retain=`,
/// `age=`) and that each receiver reads from the beginning, or goes on reading where it was if it has a name (`reader=`,
/// `from=`).
///
/// A receiver at a socket's address takes any number of senders; one that sends something else is cut off, and the others
/// do not notice. A sender whose connection breaks connects again, within its timeout, and fails with `ECONNRESET` first
/// if something that it sent may not have arrived. All methods may be called from several threads. After a fork, the
/// child's senders connect anew and its receivers begin with what comes from then on; one with `reader=` fails there (`EBUSY`).
///
/// ```
/// use wigwag::{Channel, Timeout};
/// # let text = format!("unix:@wwtest-channel-doc-{}", std::process::id());
/// let address = text.parse()?; // or "ring:jobs", "mq:/jobs", "tcp://127.0.0.1:4000"
/// let receiver = Channel::open_receiver(&address, Timeout::Now)?;
/// let sender = Channel::open_sender(&address, Timeout::Now)?; // as another process would
/// sender.send(b"a job", Timeout::Forever)?;
/// let message = receiver.recv_message(Timeout::Forever)?;
/// assert_eq!(message.data, b"a job");
/// # Ok::<(), wigwag::Error>(())
/// ```
pub struct Channel {
    address: Arc<str>,
    scheme: Scheme,
    direction: Direction,
    transport: Box<dyn Transport>,
    /// What can be opened to reach this end, where that is not the address itself.
    local: Option<Address>,
    sent: Count,
    received: Count,
    shown: Shown,
}

impl Channel {
    /// What a channel over this address does and does not do. Never blocks.
    ///
    /// # Errors
    /// `EINVAL` the address names something that carries no messages.
    pub fn capabilities(address: &Address) -> Result<Capabilities> {
        Capabilities::of(address)
    }

    /// Opens the end that sends; waits for a receiver where the mechanism needs one: `tcp:`, `unix:`,
    /// `unix-seqpacket:` and `fifo:`. Queues, rings, topics and logs are made if they are missing.
    ///
    /// # Errors
    /// `EINVAL` the address carries no messages, or `pipe:`, which has no name (see [`Channel::pair`]); `ECONNREFUSED`,
    /// `ENOENT` no receiver is there, with a timeout of zero; `EBADMSG`, `EPROTO` what lies there is no log of messages, or one
    /// of another version (`file:`); what opening the mechanism gives; `EAGAIN`, `ETIMEDOUT`,
    /// `ECANCELED`.
    pub fn open_sender(address: &Address, timeout: Timeout) -> Result<Channel> {
        let plain = plain(address, "open for sending")?;
        let transport: Box<dyn Transport> = match address.scheme() {
            Scheme::Tcp | Scheme::Unix | Scheme::UnixSeqpacket => Box::new(Connection::open(address, &plain, timeout)?),
            Scheme::Udp | Scheme::UnixDgram => Box::new(DatagramSender::open(&plain, timeout)?),
            Scheme::Fifo => Box::new(PipeSender::open(address, &plain, true, timeout)?),
            Scheme::Mq => Box::new(Posix::open(&plain, MqAccess::Send)?),
            Scheme::SysvMq => Box::new(SystemV::open(&plain, MqAccess::Send)?),
            Scheme::Ring => Box::new(ring(&plain, RingRole::Producer)?),
            Scheme::Topic => Box::new(topic(&plain)?),
            Scheme::File => Box::new(FileSender::open(address, timeout)?),
            _ => return Err(has_no_name(address, "open for sending")),
        };
        Ok(Channel::over(address, Direction::Out, transport, None))
    }

    /// As [`Channel::open_sender`], over what a caller has made for answers and has open: makes nothing, and never blocks.
    fn existing_sender(address: &Address) -> Result<Channel> {
        let plain = plain(address, "open for sending")?;
        let transport: Box<dyn Transport> = match address.scheme() {
            Scheme::Fifo => Box::new(PipeSender::open(address, &plain, false, Timeout::Now)?),
            Scheme::Mq => Box::new(Posix::existing(&plain, MqAccess::Send)?),
            Scheme::SysvMq => Box::new(SystemV::for_answers(&plain)?),
            Scheme::Ring => Box::new(Ring::existing(&plain, RingRole::Producer)?),
            _ => return Err(has_no_name(address, "open for sending")),
        };
        Ok(Channel::over(address, Direction::Out, transport, None))
    }

    /// Opens the end that receives; waits for a sender over `fifo:` (unless `keep-open=1`), and for nothing else.
    ///
    /// # Errors
    /// `EINVAL`, `EBADMSG`, `EPROTO` as [`Channel::open_sender`]; `EADDRINUSE`, `EBUSY` another receiver has it, where there
    /// can be one only;
    /// what opening the mechanism gives; `EAGAIN`, `ETIMEDOUT`, `ECANCELED`.
    pub fn open_receiver(address: &Address, timeout: Timeout) -> Result<Channel> {
        let plain = plain(address, "open for receiving")?;
        let mut local = None;
        let transport: Box<dyn Transport> = match address.scheme() {
            Scheme::Tcp | Scheme::Unix | Scheme::UnixSeqpacket => {
                let streams = Streams::open(address, &plain, timeout)?;
                local = streams.local_address();
                Box::new(streams)
            }
            Scheme::Udp | Scheme::UnixDgram => {
                let receiver = DatagramReceiver::open(&plain, timeout)?;
                local = receiver.local_address();
                Box::new(receiver)
            }
            Scheme::Fifo => Box::new(PipeReceiver::open(address, &plain, timeout)?),
            Scheme::Mq => Box::new(Posix::open(&plain, MqAccess::Receive)?),
            Scheme::SysvMq => Box::new(SystemV::open(&plain, MqAccess::Receive)?),
            Scheme::Ring => Box::new(ring(&plain, RingRole::Consumer)?),
            Scheme::Topic => Box::new(subscription(&topic(&plain)?, address)?),
            Scheme::File => Box::new(FileReceiver::open(address, timeout)?),
            _ => return Err(has_no_name(address, "open for receiving")),
        };
        Ok(Channel::over(address, Direction::In, transport, local))
    }

    /// Makes both ends of a channel without a name, over `pipe:`, the receiving one first: for a process and the children
    /// that it forks. Never blocks.
    ///
    /// # Errors
    /// `EINVAL` an address of another kind; `EMFILE`, `ENFILE` no descriptor is left.
    pub fn pair(address: &Address) -> Result<(Channel, Channel)> {
        let plain = plain(address, "pair")?;
        if address.scheme() != Scheme::Pipe {
            return Err(Error::new(Errno::EINVAL, "pair")
                .on_text(address.to_string())
                .because("pipe: ends come in pairs; what has a name is opened by it, each end by itself"));
        }
        let (receiver, sender) = pipes::pair(address, &plain)?;
        let receiver = Channel::over(address, Direction::In, Box::new(receiver), None);
        Ok((receiver, Channel::over(address, Direction::Out, Box::new(sender), None)))
    }

    /// One end of a pipe that was handed over as a descriptor, as [`Channel::as_pipe`] shows it; `address` is `pipe:` with
    /// the options that the other end has. Never blocks.
    ///
    /// # Errors
    /// `EINVAL` another address, or the descriptor is not a pipe's; `EMFILE`, `ENFILE`.
    pub fn from_pipe(address: &Address, fd: OwnedFd) -> Result<Channel> {
        plain(address, "from_pipe")?;
        address.require_scheme(Scheme::Pipe, "from_pipe")?;
        let pipe = pipes::adopt(fd, address)?;
        if pipe.is_reader() {
            let receiver = PipeReceiver::over(pipes::End::Pipe(pipe), address)?;
            return Ok(Channel::over(address, Direction::In, Box::new(receiver), None));
        }
        let sender = PipeSender::over(pipes::End::Pipe(pipe), address)?;
        Ok(Channel::over(address, Direction::Out, Box::new(sender), None))
    }

    /// The pipe's descriptor, of a channel over `pipe:`, to hand it over to another process.
    pub fn as_pipe(&self) -> Option<BorrowedFd<'_>> {
        self.transport.stream().filter(|_| self.scheme == Scheme::Pipe)
    }

    /// Of a receiver whose senders are known and trusted: keeps what so many of them have begun to send, whatever it takes.
    pub(crate) fn expect_senders(&self, count: usize) {
        self.transport.expect_senders(count);
    }

    /// Of a sender over a pipe whose messages go elsewhere if they do not go at once: one that goes in part when the wait is
    /// over is not sent, and the receiver drops what it gets of it.
    pub(crate) fn keep_no_rest(&self) {
        self.transport.keep_no_rest();
    }

    fn over(address: &Address, direction: Direction, transport: Box<dyn Transport>, local: Option<Address>) -> Channel {
        Channel {
            address: address.to_string().into(),
            scheme: address.scheme(),
            direction,
            transport,
            local,
            sent: Count::default(),
            received: Count::default(),
            shown: Shown::default(),
        }
    }

    /// Removes what the address names, so that it can be opened no more: a FIFO, queue, ring or topic, whose users keep
    /// it; a log, whose users get `ESTALE`, or with `reader=` the position of that reader alone. Sockets' names go with
    /// their receiver. Never blocks, but for who is just appending to a log.
    ///
    /// # Errors
    /// `EINVAL` the address names nothing that outlives its receiver; `ENOENT` there is no such thing; `EBUSY` the reader is
    /// in use; `ENOTEMPTY` files that are not the log's stay in its directory; what removing it gives.
    pub fn remove(address: &Address) -> Result<()> {
        let plain = plain(address, "remove")?;
        match address.scheme() {
            Scheme::Fifo => Fifo::remove(&plain),
            Scheme::Mq => Mq::remove(&plain),
            Scheme::SysvMq => SysvMq::remove(&plain),
            Scheme::Ring => Ring::remove(&plain),
            Scheme::Topic => Topic::remove(&plain),
            Scheme::File => durable::remove(address),
            _ => Err(Error::new(Errno::EINVAL, "remove")
                .on_text(address.to_string())
                .because("it goes when its receiver is closed, and leaves nothing to remove")),
        }
    }

    /// Sends one message; waits for room. A message that is sent has been handed to the mechanism; what outlives what is told
    /// by [`Channel::capabilities`]. Of a message over `tcp:`, `unix:`, `pipe:` or `fifo:` a part may have been sent when the
    /// time is over: it counts as sent, and the rest goes out with the next call that waits on the channel, sending or
    /// receiving (not with one that waits already), or [`flush`](Channel::flush).
    ///
    /// # Errors
    /// `EMSGSIZE` larger than the mechanism or the address allows, see [`Error::true_size`]; `EPIPE` the last receiver has
    /// gone (`pipe:`, `fifo:`, and `ring:` where there is no room; over the last two another may come); `ECONNRESET` what was
    /// sent before over a connection may be lost, or the receiver ended several in a row in the middle of this one, and this
    /// message was not sent; `EINVAL` the framing cannot carry it; `EBADF` this end receives; `EAGAIN`,
    /// `ETIMEDOUT`, `ECANCELED` with nothing sent; what the mechanism gives.
    #[inline]
    pub fn send(&self, message: &[u8], timeout: Timeout) -> Result<()> {
        self.require(Direction::Out, "send")?;
        self.transport.send(message, 0, timeout)?;
        self.sent.add(1);
        Ok(())
    }

    /// As [`Channel::send`], with a priority: higher ones are received first. 0 is what `send` uses.
    ///
    /// # Errors
    /// As [`Channel::send`]; `ENOTSUP` the mechanism has no priorities; `EINVAL` above the highest.
    pub fn send_with_priority(&self, message: &[u8], priority: u32, timeout: Timeout) -> Result<()> {
        self.require(Direction::Out, "send")?;
        if priority != 0 && self.scheme != Scheme::Mq {
            return Err(refusal::no_priorities(self.error(Errno::ENOTSUP, "send")));
        }
        self.transport.send(message, priority, timeout)?;
        self.sent.add(1);
        Ok(())
    }

    /// Sends messages one after the other, within one deadline. Over `file:` with `fsync=every`, the disk is waited for once.
    ///
    /// # Errors
    /// As [`Channel::send`] for the first that could not be sent; [`Error::done`] tells how many were, which may be all of
    /// them over `file:` with `fsync=every`, where they are in the log but may not be on the disk (`EIO`).
    pub fn send_batch(&self, messages: &[&[u8]], timeout: Timeout) -> Result<()> {
        let (done, result) = self.send_counted(messages, timeout);
        result.map_err(|error| if error.is(Errno::EMSGSIZE) { error } else { error.after(done) })
    }

    /// As [`Channel::send_batch`]; how many were sent, whatever has stopped it.
    pub(crate) fn send_counted(&self, messages: &[&[u8]], timeout: Timeout) -> (usize, Result<()>) {
        if let Err(error) = self.require(Direction::Out, "send") {
            return (0, Err(error));
        }
        let (done, result) = self.transport.send_batch(messages, timeout);
        self.sent.add(done as u64);
        (done, result)
    }

    /// Receives one message into the caller's memory; waits for one.
    ///
    /// The end that sends over a socket receives answers with it. New senders for whom there is no descriptor wait until
    /// there is, and are no failure: [`ChannelStatistics::starved`].
    ///
    /// # Errors
    /// `EMSGSIZE` the message is larger than the buffer: it stays (`mq:` with this channel, for its next call, and is lost
    /// if it is dropped before), and [`Error::true_size`] tells how much room it needs;
    /// `EPIPE` the last sender has gone and everything is received, where the mechanism tells; `EBADMSG` a sender sent
    /// something else: it was cut off, or what it wrote was skipped, and counted; `EBADF` this end sends, and there are
    /// no answers; `EAGAIN`, `ETIMEDOUT`, `ECANCELED`; what the mechanism gives.
    #[inline]
    pub fn recv(&self, buffer: &mut [u8], timeout: Timeout) -> Result<ChannelReceived> {
        if self.direction == Direction::Out {
            self.require_answers()?;
        }
        let received = self.transport.recv(buffer, timeout)?;
        self.received.add(1);
        Ok(received)
    }

    /// As [`Channel::recv`] without waiting, for a message that is dealt with together with the ones before it: it does not
    /// say that these are dealt with, as asking for another message does otherwise (`file:` with `reader=`). Never blocks.
    ///
    /// # Errors
    /// As [`Channel::recv`]; `EAGAIN` also before damage in a log, which [`Channel::recv`] then tells.
    pub fn recv_more(&self, buffer: &mut [u8]) -> Result<ChannelReceived> {
        if self.direction == Direction::Out {
            self.require_answers()?;
        }
        let received = self.transport.recv_more(buffer, Timeout::Now)?;
        self.received.add(1);
        Ok(received)
    }

    /// As [`Channel::recv`], into memory of its own, which is as large as it needs to be.
    ///
    /// # Errors
    /// As [`Channel::recv`], but for `EMSGSIZE`; `ENOMEM`.
    pub fn recv_message(&self, timeout: Timeout) -> Result<ChannelMessage> {
        self.grown(timeout, |buffer, timeout| self.recv(buffer, timeout))
    }

    /// Receives up to `most` messages: waits for the first, and takes those that are there besides.
    ///
    /// # Errors
    /// As [`Channel::recv_message`] for the first. An error behind it ends the batch: what stays is found by the next call,
    /// and a sender that was cut off, or garbage that was skipped, is in the statistics.
    pub fn recv_batch(&self, most: usize, timeout: Timeout) -> Result<Vec<ChannelMessage>> {
        let mut messages = Vec::new();
        if most == 0 {
            return Ok(messages);
        }
        messages.push(self.recv_message(timeout)?);
        while messages.len() < most {
            match self.grown(Timeout::Now, |buffer, _| self.recv_more(buffer)) {
                Ok(message) => messages.push(message),
                Err(_) => break,
            }
        }
        Ok(messages)
    }

    /// Has what was received and is not dealt with received again, by the next `recv` here: since the last call of another
    /// that said that what was before it is dealt with. Never blocks.
    ///
    /// # Errors
    /// `ENOTSUP` what was received is gone: `file:` alone can; `EAGAIN` another thread is receiving; `EBADF` this end sends.
    pub fn put_back(&self) -> Result<()> {
        self.require(Direction::In, "put_back")?;
        match self.transport.put_back()? {
            true => Ok(()),
            false => Err(self.error(Errno::ENOTSUP, "put_back").because(
                "what was received is this process's own; file: can, and a Ring gives back what was borrowed",
            )),
        }
    }

    /// Answers the sender of a message; waits for room. The sender receives answers with its own [`Channel::recv`].
    ///
    /// # Errors
    /// `ENOTSUP` the mechanism does not know senders; `EPIPE` the sender has gone; `EINVAL` the sender of another
    /// channel's message; otherwise as [`Channel::send`].
    pub fn reply(&self, peer: &ChannelPeer, message: &[u8], timeout: Timeout) -> Result<()> {
        self.require(Direction::In, "reply")?;
        self.transport.reply(peer, message, timeout)?;
        self.sent.add(1);
        Ok(())
    }

    /// Waits until what was sent is out of this process's hands: acknowledged by the other host (`tcp:`), read by the other
    /// side (`unix:`), on the disk (`file:`, blocking for it), with the kernel or in shared memory (the others, at once but
    /// for the rest of a message over `pipe:` and `fifo:`). A receiver over `file:` with a name says that what it has
    /// received is dealt with, and has that on the disk.
    ///
    /// # Errors
    /// `ECONNRESET` the connection broke before, and something may be lost; `EPIPE` the receiver of a pipe has gone before it
    /// had the rest of a message; `EIO`, `ENOSPC`, `EDQUOT` it may not be on the disk, and never will be; `EAGAIN`,
    /// `ETIMEDOUT`, `ECANCELED` something is on its way still.
    ///
    /// System calls: ioctl(SIOCOUTQ), again and again; fdatasync.
    pub fn flush(&self, timeout: Timeout) -> Result<()> {
        self.transport.flush(timeout)
    }

    /// A descriptor to poll before the next call, and what for: that it is ready means that the call is worth trying with a
    /// timeout of zero. It belongs to the channel, and to this process: a child made by fork asks anew. From then on each
    /// message over a connection, pipe or `mq:` costs its sender a little more, as the set behind the descriptor has to be
    /// woken.
    ///
    /// # Errors
    /// `ENOTSUP` there is nothing to poll; `EMFILE`, `ENFILE` no descriptor is left.
    pub fn descriptor(&self) -> Result<(BorrowedFd<'_>, Interest)> {
        let (fd, events) = self.shown.get(|| self.transport.descriptor(self.direction))?;
        let interest = if events.contains(PollFlags::POLLOUT) { Interest::WRITABLE } else { Interest::READABLE };
        Ok((fd.as_fd(), interest))
    }

    /// Counts of this end, and of the mechanism where it keeps any. Never blocks.
    pub fn statistics(&self) -> ChannelStatistics {
        let mut statistics =
            ChannelStatistics { sent: self.sent.get(), received: self.received.get(), ..Default::default() };
        self.transport.count(&mut statistics);
        statistics
    }

    /// Where senders reach this receiver: the port that the kernel chose, if the address left that to it.
    pub fn local_address(&self) -> Option<&Address> {
        self.local.as_ref()
    }

    /// The address that it was opened with.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Ends the waits of all threads in this channel (`ECANCELED`), now and from now on, and returns when they have left;
    /// to be called before it is closed.
    pub fn end_waits(&self) {
        self.transport.end_waits();
    }

    #[inline]
    #[cfg(feature = "tokio")]
    pub(crate) fn is_sender(&self) -> bool {
        self.direction == Direction::Out
    }

    fn require(&self, direction: Direction, operation: &'static str) -> Result<()> {
        if self.direction == direction { Ok(()) } else { Err(self.wrong_end(operation)) }
    }

    fn require_answers(&self) -> Result<()> {
        let has = Capabilities::of_scheme(self.scheme).is_some_and(|capabilities| capabilities.answers);
        if has { Ok(()) } else { Err(self.wrong_end("recv")) }
    }

    #[cold]
    fn wrong_end(&self, operation: &'static str) -> Error {
        self.error(Errno::EBADF, operation).because(match self.direction {
            Direction::Out => "this is the end that sends",
            Direction::In => "this is the end that receives",
        })
    }

    fn error(&self, errno: Errno, operation: &'static str) -> Error {
        Error::new(errno, operation).on(&self.address)
    }
}

/// The address without the options that are a channel's own, as the mechanism takes it.
fn plain(address: &Address, operation: &'static str) -> Result<Address> {
    if Capabilities::of_scheme(address.scheme()).is_none() {
        return Err(carries_no_messages(address, operation));
    }
    Ok(address.for_mechanism())
}

#[cold]
fn carries_no_messages(address: &Address, operation: &'static str) -> Error {
    let able: Vec<_> = Scheme::ALL
        .iter()
        .filter(|scheme| Capabilities::of_scheme(**scheme).is_some())
        .map(|scheme| format!("{scheme}:"))
        .collect();
    Error::new(Errno::EINVAL, operation)
        .on_text(address.to_string())
        .because_found(format!("it carries no messages; these do: {}", able.join(" ")))
}

#[cold]
fn has_no_name(address: &Address, operation: &'static str) -> Error {
    Error::new(Errno::EINVAL, operation)
        .on_text(address.to_string())
        .because("an anonymous pipe has no name to open it by; make a pair, or use fifo:")
}
