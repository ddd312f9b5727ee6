//! Channel: messages over any mechanism that carries them.

use std::ffi::{c_char, c_int, c_void};
use std::os::fd::AsRawFd;

use libc::ssize_t;
use wigwag::{Capabilities, Channel, ChannelDurability, Error, Result, Timeout};

use crate::address::copy_out;
use crate::boundary::{address, bytes, call, done, expect_out, give, object, put, put_if_wanted, room, timeout};
use crate::calls::{Counted, close_counted};
use crate::channel_peer::ww_channel_peer;
use crate::segment::ww_bytes;

/// Messages on their way are lost when the receiving process ends.
pub const WW_CHANNEL_CONNECTION: u32 = 0;
/// Messages lie in the system's memory: every process may end, a reboot loses them.
pub const WW_CHANNEL_SYSTEM: u32 = 1;
/// Messages lie on the disk.
pub const WW_CHANNEL_DISK: u32 = 2;

/// One end of a channel: whole messages over whichever mechanism its address names, sent from one end and received at the
/// other. tcp:, udp:, unix:, unix-dgram:, unix-seqpacket:, pipe:, fifo:, file:, mq:, sysv-mq:, ring: and topic:.
///
/// Over tcp: and unix: each message follows its length (32 bits, most significant byte first); ?framing=line and
/// ?framing=none talk to programs that know nothing of this. Over pipe: and fifo: messages travel in pieces that the kernel
/// keeps together, so that any number of writers never mix. ?largest= bounds what a stream's message may have, 1 MiB by
/// default. A receiver at a socket's address takes any number of senders; one that sends something else is cut off, and the
/// others do not notice. A sender whose connection breaks connects again, within its timeout, and fails with -ECONNRESET
/// first if something that it sent may not have arrived.
///
/// Over file: the address names a directory, made if it is missing, with a log that senders append to and every
/// receiver reads from the beginning, or from the end with ?from=newest. With ?reader=NAME a receiver goes on where it
/// was: a message is dealt with when the next is asked for, by ww_channel_flush(), or when the receiver is closed, and
/// is received again if the process dies before, or by ww_channel_put_back(). ?fsync=never, interval (the default, with
/// ?interval=MS, 1000 by default) or every says when what is sent goes to the disk; ?segment=BYTES, ?retain=BYTES and
/// ?age=SECONDS what is kept.
///
/// May be shared between threads. After a fork, the child's senders connect anew and its receivers begin with what
/// comes from then on, or fail with -EBUSY if they have a reader=; a pair's ends go on in one of the two processes.
pub struct ww_channel(Counted<Channel>);

/// What a channel over an address does and does not do. Flags are 1 or 0.
#[repr(C)]
pub struct ww_channel_capabilities {
    /// The largest message in bytes; SIZE_MAX if it is decided by whoever made the object.
    pub largest: usize,
    /// How many priorities there are; 1 is none.
    pub priorities: u32,
    /// What messages outlive: WW_CHANNEL_CONNECTION, WW_CHANNEL_SYSTEM or WW_CHANNEL_DISK.
    pub durability: u32,
    /// The messages of one sender arrive in its order; a message arrives as it was sent, neither split nor joined.
    pub ordered: u32,
    pub boundaries: u32,
    /// Several may send; several may receive, each message going to one of them; or to all, with broadcast.
    pub many_senders: u32,
    pub many_receivers: u32,
    pub broadcast: u32,
    /// The receiver knows who sent a message, and can answer; it knows the sender's process and user.
    pub answers: u32,
    pub credentials: u32,
    /// Receiving ends (-EPIPE) once the last sender has gone and everything is received.
    pub ends: u32,
    /// Reaches other hosts.
    pub crosses_hosts: u32,
    /// Messages may be lost, or arrive twice or out of order, without anybody noticing.
    pub may_lose: u32,
    /// Room for what later versions tell; 0.
    pub reserved: [u32; 8],
}

/// What is known about a message that was received.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ww_channel_received {
    /// Its bytes; in a batch they follow those of the message before it.
    pub size: usize,
    /// How many messages were missed before it (topic: with lossy=1; file:, removed by age or size, or damaged).
    pub missed: u64,
    /// The priority it was sent with; 0 where there are none.
    pub priority: u32,
    /// How often it has been taken, this time included, where that is known (ring:); else 0.
    pub deliveries: u32,
}

/// What one end of a channel has seen.
#[repr(C)]
pub struct ww_channel_statistics {
    /// Messages sent from here, answers included; messages received here.
    pub sent: u64,
    pub received: u64,
    /// Messages that wait to be received; UINT64_MAX where that is not known.
    pub waiting: u64,
    /// Connections to senders that are open now; times that a connection was made anew.
    pub peers: u64,
    pub reconnects: u64,
    /// Times that something sent may have been lost with a connection, or in part with the receiver of a pipe, was refused by
    /// the receiver's host, or could not be brought to the disk.
    pub unconfirmed: u64,
    /// Messages that came in part, because their sender died or broke off, or their beginning went with a receiver that
    /// died; broken connections whose last answers nobody has received; over file:, torn tails of the log that were cut,
    /// by all its users.
    pub torn: u64,
    /// Peers that were cut off, because of what they sent, because they did not take an answer, or for want of memory;
    /// times that something else than messages was in a pipe.
    pub cut_off: u64,
    pub garbage: u64,
    /// Messages that a full ring has dropped, by all its users; messages that this subscriber, or reader of a log, has
    /// missed.
    pub dropped: u64,
    pub missed: u64,
    /// Times that there was no descriptor or memory for new senders, who wait until there is.
    pub starved: u64,
    /// Room for what later versions tell; 0.
    pub reserved: [u64; 7],
}

/// Tells what a channel over this address does and does not do. Never blocks.
///
/// Errors: -EINVAL the address, or it names something that carries no messages; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_channel_get_capabilities(
    address: *const c_char,
    capabilities: *mut ww_channel_capabilities,
) -> c_int {
    // SAFETY: the caller's promises, as the header states them; likewise below.
    call(|| unsafe {
        expect_out(capabilities)?;
        put(capabilities, told(&Channel::capabilities(&self::address(address)?)?), "capabilities")
    })
}

fn told(found: &Capabilities) -> ww_channel_capabilities {
    ww_channel_capabilities {
        largest: found.largest.unwrap_or(usize::MAX),
        priorities: found.priorities,
        durability: match found.durability {
            ChannelDurability::Connection => WW_CHANNEL_CONNECTION,
            ChannelDurability::System => WW_CHANNEL_SYSTEM,
            ChannelDurability::Disk => WW_CHANNEL_DISK,
        },
        ordered: found.ordered.into(),
        boundaries: found.boundaries.into(),
        many_senders: found.many_senders.into(),
        many_receivers: found.many_receivers.into(),
        broadcast: found.broadcast.into(),
        answers: found.answers.into(),
        credentials: found.credentials.into(),
        ends: found.ends.into(),
        crosses_hosts: found.crosses_hosts.into(),
        may_lose: found.may_lose.into(),
        reserved: [0; 8],
    }
}

/// Opens the end that sends; waits for a receiver where the mechanism needs one: tcp:, unix:, unix-seqpacket: and fifo:.
/// Queues, rings, topics and logs are made if they are missing. Close it with ww_channel_close().
///
/// Errors: -EINVAL the address, one that carries no messages, or pipe:, which has no name (see ww_channel_pair());
/// -ECONNREFUSED, -ENOENT no receiver is there, with a timeout of WW_NOW; -EBADMSG, -EPROTO what lies there is no log
/// of messages, or one of another version (file:); what opening the mechanism gives; -EAGAIN, -ETIMEDOUT, -ECANCELED;
/// -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_channel_open_sender(
    out: *mut *mut ww_channel,
    address: *const c_char,
    timeout_ns: i64,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(out)?;
        give(out, ww_channel(Counted::new(Channel::open_sender(&self::address(address)?, timeout(timeout_ns)?)?)))
    })
}

/// Opens the end that receives; waits for a sender over fifo:, unless keep-open=1, and for nothing else. Close it with
/// ww_channel_close().
///
/// Errors: -EINVAL, -EBADMSG, -EPROTO as ww_channel_open_sender(); -EADDRINUSE, -EBUSY another receiver has it, where
/// there can be one only; what opening the mechanism gives; -EAGAIN, -ETIMEDOUT, -ECANCELED; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_channel_open_receiver(
    out: *mut *mut ww_channel,
    address: *const c_char,
    timeout_ns: i64,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(out)?;
        give(out, ww_channel(Counted::new(Channel::open_receiver(&self::address(address)?, timeout(timeout_ns)?)?)))
    })
}

/// Makes both ends of a channel without a name, for a process and the children it forks: pipe:. Never blocks. Close
/// each with ww_channel_close().
///
/// Errors: -EINVAL an address of another kind, or one with a name; -EMFILE, -ENFILE no descriptor is left; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_channel_pair(
    receiver: *mut *mut ww_channel,
    sender: *mut *mut ww_channel,
    address: *const c_char,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(receiver)?;
        expect_out(sender)?;
        let (receiving, sending) = Channel::pair(&self::address(address)?)?;
        give(receiver, ww_channel(Counted::new(receiving)))?;
        give(sender, ww_channel(Counted::new(sending)))
    })
}

/// Closes the handle; threads that wait on it return -ECANCELED first. What the mechanism keeps, it keeps: see durability.
/// NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_channel_close(channel: *mut ww_channel) {
    // SAFETY: as above.
    unsafe { close_counted(channel, |channel| &channel.0, Channel::end_waits) };
}

/// Has the waits of all threads on the handle return -ECANCELED, now and from now on, and returns when they have left; to
/// know that a thread can be joined before the handle is closed. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_channel_end_waits(channel: *const ww_channel) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        object(channel, "channel")?.0.get().end_waits();
        Ok(())
    })
}

/// Removes what the address names, so that it can be opened no more: a FIFO, queue, ring or topic, whose users keep it;
/// a log, whose users get -ESTALE, or with reader= the position of that reader alone. Sockets' names go with their
/// receiver. Never blocks, but for who is just appending to a log.
///
/// Errors: -EINVAL the address, or it names nothing that outlives its receiver; -ENOENT there is no such thing; -EBUSY the
/// reader is in use; -ENOTEMPTY files that are not the log's stay in its directory; what removing it gives; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_channel_remove(address: *const c_char) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Channel::remove(&self::address(address)?) })
}

/// Sends one message; waits for room. A message that is sent has been handed to the mechanism; what outlives what is told by
/// ww_channel_get_capabilities(). Of a message over tcp:, unix:, pipe: or fifo: a part may have been sent when the time is
/// over: it counts as sent, and the rest goes out with the next call that waits on the channel, sending or receiving (not
/// with one that waits already), or ww_channel_flush().
///
/// Errors, with nothing sent: -EMSGSIZE larger than the mechanism or the address allows; -EPIPE the last receiver has
/// gone (pipe:, fifo:, and ring: where there is no room; over the last two another may come); -ECONNRESET what was sent before
/// over a connection may be lost, or the receiver ended several in a row in the middle of this one; -EINVAL the framing cannot
/// carry it; -EBADF this end receives; what the mechanism gives; -EAGAIN, -ETIMEDOUT, -ECANCELED;
/// -EFAULT. With the message in the log all the same: -EIO, -ENOSPC, -EDQUOT it may not be on the disk (file: with
/// ?fsync=every).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_channel_send(
    channel: *const ww_channel,
    data: *const c_void,
    size: usize,
    timeout_ns: i64,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(channel, "channel")?.0.begin().send(bytes(data, size)?, timeout(timeout_ns)?) })
}

/// As ww_channel_send(), with a priority: higher ones are received first. 0 is what ww_channel_send() uses.
///
/// Errors: as ww_channel_send(); -ENOTSUP the mechanism has no priorities; -EINVAL above the highest.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_channel_send_with_priority(
    channel: *const ww_channel,
    data: *const c_void,
    size: usize,
    priority: u32,
    timeout_ns: i64,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        object(channel, "channel")?.0.begin().send_with_priority(bytes(data, size)?, priority, timeout(timeout_ns)?)
    })
}

/// Sends count messages one after the other, within one deadline; waits for room. *sent, which may be NULL, gets how
/// many were sent, also after an error.
///
/// Errors: as ww_channel_send(), for the first that could not be sent.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_channel_send_batch(
    channel: *const ww_channel,
    messages: *const ww_bytes,
    count: usize,
    timeout_ns: i64,
    sent: *mut usize,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        put_if_wanted(sent, 0);
        let (channel, timeout) = (object(channel, "channel")?.0.begin(), timeout(timeout_ns)?);
        if messages.is_null() && count != 0 {
            return Err(Error::from_raw(libc::EFAULT, "messages"));
        }
        let list: Vec<&[u8]> = (0..count)
            .map(|index| {
                let ww_bytes { data, size } = messages.add(index).read();
                bytes(data, size)
            })
            .collect::<Result<_>>()?;
        let result = channel.send_batch(&list, timeout);
        match &result {
            // The error tells the size instead of how many: of the first message that has it.
            Err(error) if error.errno() == libc::EMSGSIZE => {
                let refused = list.iter().position(|message| message.len() == error.true_size());
                put_if_wanted(sent, refused.unwrap_or(0));
                result
            }
            _ => done(sent, count, || result),
        }
    })
}

/// Receives one message into buffer and returns how many bytes it has; waits for one. Each output may be NULL: *received
/// gets what is known about it; *peer who sent it, to be freed with ww_channel_peer_close(), or NULL where that is not
/// known; *true_size its size, also where the buffer is too small for it. The end that sends over a socket receives
/// answers with this.
///
/// Errors: -EMSGSIZE the buffer is too small, and the message stays (mq: with this handle, for its next call, and is lost if
/// it is closed before); -EPIPE the last sender has gone and everything is
/// received, where the mechanism tells; -EBADMSG a sender sent something else: it was cut off, or what it wrote was
/// skipped, and counted; -EBADF this end sends, and there are no answers; what the mechanism gives; -EAGAIN, -ETIMEDOUT,
/// -ECANCELED; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_channel_recv(
    channel: *const ww_channel,
    buffer: *mut c_void,
    size: usize,
    timeout_ns: i64,
    received: *mut ww_channel_received,
    peer: *mut *mut ww_channel_peer,
    true_size: *mut usize,
) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe {
        let (channel, timeout) = (object(channel, "channel")?.0.begin(), timeout(timeout_ns)?);
        let found = recv(&channel, room(buffer, size)?, timeout, true_size)?;
        put_if_wanted(received, about(&found));
        put_if_wanted(true_size, found.length);
        if !peer.is_null() {
            match found.peer {
                Some(sender) => give(peer, ww_channel_peer(sender))?,
                None => put(peer, std::ptr::null_mut(), "peer")?,
            }
        }
        Ok(found.length)
    })
}

/// # Safety
/// `true_size` is NULL or may be written to.
unsafe fn recv(
    channel: &Channel,
    buffer: &mut [u8],
    timeout: Timeout,
    true_size: *mut usize,
) -> Result<wigwag::ChannelReceived> {
    channel.recv(buffer, timeout).inspect_err(|error| {
        if error.errno() == libc::EMSGSIZE {
            // SAFETY: as the caller promises.
            unsafe { put_if_wanted(true_size, error.true_size()) };
        }
    })
}

fn about(found: &wigwag::ChannelReceived) -> ww_channel_received {
    ww_channel_received {
        size: found.length,
        missed: found.missed,
        priority: found.priority,
        deliveries: found.deliveries,
    }
}

/// Receives up to count messages and returns how many: waits for the first, and takes those that are there besides and
/// fit. They come one behind the other in buffer, which has size bytes, and what each is in received, which has room for
/// count entries. *true_size, which may be NULL, gets the size of the first message where the buffer is too small for it.
///
/// Errors: as ww_channel_recv(), for the first message; -EINVAL count is 0. What stops it behind the first ends the batch,
/// and is counted where it has a count.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_channel_recv_batch(
    channel: *const ww_channel,
    buffer: *mut c_void,
    size: usize,
    received: *mut ww_channel_received,
    count: usize,
    timeout_ns: i64,
    true_size: *mut usize,
) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe {
        let (channel, timeout) = (object(channel, "channel")?.0.begin(), timeout(timeout_ns)?);
        expect_out(received)?;
        if count == 0 {
            return Err(crate::boundary::invalid("recv", "a batch has room for one message at least"));
        }
        let mut left = room(buffer, size)?;
        let mut taken = 0;
        while taken < count {
            let found = match taken {
                0 => recv(&channel, left, timeout, true_size)?,
                _ => match channel.recv_more(left) {
                    Ok(found) => found,
                    Err(_) => break,
                },
            };
            received.add(taken).write(about(&found));
            left = left.get_mut(found.length..).unwrap_or_default();
            taken += 1;
        }
        Ok(taken)
    })
}

/// Answers the sender of a message; waits for room. The sender receives answers with its own ww_channel_recv().
///
/// Errors: -ENOTSUP the mechanism does not know senders; -EPIPE the sender has gone; -EINVAL the sender of another
/// channel's message; otherwise as ww_channel_send().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_channel_reply(
    channel: *const ww_channel,
    peer: *const ww_channel_peer,
    data: *const c_void,
    size: usize,
    timeout_ns: i64,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        let (channel, peer) = (object(channel, "channel")?.0.begin(), &object(peer, "peer")?.0);
        channel.reply(peer, bytes(data, size)?, timeout(timeout_ns)?)
    })
}

/// Has what was received and is not dealt with received again, by the next call that receives here. Over file: alone. Never
/// blocks.
///
/// Errors: -ENOTSUP what was received is gone; -EAGAIN another thread is receiving; -EBADF this end sends; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_channel_put_back(channel: *const ww_channel) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(channel, "channel")?.0.begin().put_back() })
}

/// Waits until what was sent is out of this process's hands: acknowledged by the other host (tcp:), read by the other side
/// (unix:), on the disk (file:, blocking for it), with the kernel or in shared memory (the others, at once but for the rest
/// of a message over pipe: and fifo:). A receiver over file: with a name says that what it has received is dealt with, and
/// has that on the disk.
///
/// Errors: -ECONNRESET the connection broke before, and something may be lost; -EPIPE the receiver of a pipe has gone before
/// it had the rest of a message; -EIO, -ENOSPC, -EDQUOT it may not be on the disk, and never will be; -EAGAIN, -ETIMEDOUT,
/// -ECANCELED something is on its way still; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_channel_flush(channel: *const ww_channel, timeout_ns: i64) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(channel, "channel")?.0.begin().flush(timeout(timeout_ns)?) })
}

/// A descriptor to poll, or for ww_waitset_add_fd(), and in *interest, which may be NULL, what for: WW_READABLE or
/// WW_WRITABLE. That it is ready means that receiving, or sending, is worth trying with WW_NOW; try until it gives -EAGAIN.
/// It stays the handle's. Never blocks.
///
/// Errors: -ENOTSUP there is nothing to poll; -EMFILE, -ENFILE no descriptor is left; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_channel_fd(channel: *const ww_channel, interest: *mut u32) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        let (fd, wanted) = object(channel, "channel")?.0.get().descriptor()?;
        put_if_wanted(interest, wanted.bits());
        Ok(fd.as_raw_fd())
    })
}

/// Tells what this end has seen, and the mechanism where it keeps count. Never blocks. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_channel_get_statistics(
    channel: *const ww_channel,
    statistics: *mut ww_channel_statistics,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(statistics)?;
        let seen = object(channel, "channel")?.0.get().statistics();
        let told = ww_channel_statistics {
            sent: seen.sent,
            received: seen.received,
            waiting: seen.waiting.unwrap_or(u64::MAX),
            peers: seen.peers,
            reconnects: seen.reconnects,
            unconfirmed: seen.unconfirmed,
            torn: seen.torn,
            cut_off: seen.cut_off,
            garbage: seen.garbage,
            dropped: seen.dropped,
            missed: seen.missed,
            starved: seen.starved,
            reserved: [0; 7],
        };
        put(statistics, told, "statistics")
    })
}

/// Writes where senders reach this receiver, with a terminating NUL: the port that the kernel chose, if the address left
/// that to it. Never blocks. Returns the length without the NUL.
///
/// Errors: -ENOTSUP it is no receiver over a socket; -EMSGSIZE size is too small, with nothing written; the length that is
/// needed, without the NUL, is stored in *true_size, which may be NULL; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_channel_local_address(
    channel: *const ww_channel,
    buffer: *mut c_char,
    size: usize,
    true_size: *mut usize,
) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe {
        let channel = object(channel, "channel")?.0.begin();
        let local = channel.local_address().ok_or_else(|| {
            Error::from_raw(libc::ENOTSUP, "local address")
                .on_text(channel.address())
                .because("only receivers over sockets have one of their own; the others are reached by their address")
        })?;
        copy_out(local.to_string().as_bytes(), buffer, size, true_size)
    })
}

/// Writes the address that the channel was opened with, with a terminating NUL. Never blocks. Returns the length without
/// the NUL. Errors: -EMSGSIZE as ww_channel_local_address(); -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_channel_address(
    channel: *const ww_channel,
    buffer: *mut c_char,
    size: usize,
    true_size: *mut usize,
) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe { copy_out(object(channel, "channel")?.0.begin().address().as_bytes(), buffer, size, true_size) })
}
