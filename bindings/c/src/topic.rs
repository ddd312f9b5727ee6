//! Topic: each message to every subscriber, in shared memory.

use std::ffi::{c_char, c_int, c_void};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use libc::ssize_t;
use wigwag::{
    Result, SubscribeOptions, Subscription, Topic, TopicBorrowed, TopicOptions, TopicReceived, TopicReserved,
};

use crate::boundary::{
    Options, address, adopt, bytes, call, close, expect_out, give, object, options, put, put_if_wanted, put_list, room,
    timeout,
};
use crate::calls::Calls;
use crate::segment::{Loans, wait_mode, ww_loan};

/// A topic (topic:name): each message to every subscriber, through shared memory, in which it lies once.
///
/// Many may publish; all subscribers see all messages in one order. A publisher that dies or stops half-way holds up
/// nobody. May be shared between threads. A child made by fork joins as itself when it first uses the handle (-EUSERS,
/// -EMFILE, -ENFILE if it cannot); loans stay the parent's.
pub struct ww_topic {
    pub(crate) topic: Arc<Topic>,
    reserved: Loans<TopicReserved<'static>>,
    /// Those that do something after they have waited: lend, or go on with a batch.
    pub(crate) calls: Calls,
}

/// A subscription to a topic, which it keeps open. May be shared between threads; each message goes to one of them. It
/// belongs to the process that made it: a child made by fork gets -EPERM, and subscribes anew.
pub struct ww_subscription {
    pub(crate) subscription: Arc<Subscription>,
    borrowed: Loans<TopicBorrowed<'static>>,
    /// Those that do something after they have waited: lend, or go on with a batch.
    pub(crate) calls: Calls,
}

/// How a topic is opened or made; initialise with WW_TOPIC_OPTIONS_INIT. All but wait count when it is made and are the
/// topic's from then on. Zero means what the address says, or else the default.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct ww_topic_options {
    pub size: usize,
    /// Memory for messages in bytes, reserved at once; 0 for 1 MiB. Each message uses what it needs of it, in blocks of a
    /// sixteenth of the largest, at least 128 bytes.
    pub capacity: u64,
    /// The largest message in bytes; 0 for 1024, or a quarter of the capacity if that is less.
    pub largest: u64,
    /// How many messages are stored at most; 0 for as many as the capacity holds.
    pub depth: u64,
    /// How many handles may be open at the same time, at most 256; 0 for 64.
    pub participants: u32,
    /// How many subscriptions there may be at the same time, at most 1024; 0 for as many as participants.
    pub subscribers: u32,
    /// Permissions of the file; 0 for 0600.
    pub mode: u32,
    /// WW_WAIT_ADAPTIVE, WW_WAIT_BLOCK or WW_WAIT_POLL.
    pub wait: u32,
}

// SAFETY: repr(C), size first, no padding, any bytes are valid.
unsafe impl Options for ww_topic_options {}

/// How to subscribe; initialise with WW_SUBSCRIBE_OPTIONS_INIT.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct ww_subscribe_options {
    pub size: usize,
    /// Of a lossless subscriber: for how many nanoseconds it may hold up a publisher without receiving anything before it is
    /// cut off, to the millisecond; 0 for ever.
    pub stuck_ns: u64,
    /// Begin with up to so many of the last messages, as far as they are still stored; 0 for none. A lossless
    /// subscriber cannot have the oldest sixteenth of the depth.
    pub history: u64,
    /// 1: never slow a publisher; messages that are not received in time are missed, and counted. 0: publishers wait.
    pub lossy: u32,
    pub reserved: u32,
}

// SAFETY: repr(C), size first, no padding, any bytes are valid.
unsafe impl Options for ww_subscribe_options {}

/// # Safety
/// `given` is NULL or points to a struct of the size that its first member tells.
unsafe fn topic_options(given: *const ww_topic_options) -> Result<TopicOptions> {
    const NOUN: &str = "ww_topic_options";
    // SAFETY: as the caller promises.
    let given = unsafe { options(given, NOUN) }?;
    Ok(TopicOptions {
        capacity: given.capacity,
        largest: given.largest,
        depth: given.depth,
        participants: given.participants,
        subscribers: given.subscribers,
        mode: given.mode,
        wait: wait_mode(given.wait, NOUN)?,
    })
}

/// # Safety
/// `given` is NULL or points to a struct of the size that its first member tells.
unsafe fn subscribe_options(given: *const ww_subscribe_options) -> Result<SubscribeOptions> {
    const NOUN: &str = "ww_subscribe_options";
    // SAFETY: as the caller promises.
    let given = unsafe { options(given, NOUN) }?;
    if given.lossy > 1 || given.reserved != 0 {
        return Err(crate::boundary::invalid(NOUN, "lossy is 0 or 1, and the reserved member must be 0"));
    }
    let stuck = (given.stuck_ns != 0).then(|| Duration::from_nanos(given.stuck_ns));
    Ok(SubscribeOptions { lossy: given.lossy == 1, stuck, history: given.history })
}

/// # Safety
/// `out` may be written to.
unsafe fn hand_out(out: *mut *mut ww_topic, topic: Topic) -> Result<()> {
    // SAFETY: as the caller promises.
    unsafe { give(out, ww_topic { topic: Arc::new(topic), reserved: Loans::new(), calls: Calls::new() }) }
}

/// Opens the topic of this name, or makes it: a plain name lies in $WIGWAG_DIR or /dev/shm/wigwag-UID, one with a slash is
/// a path on a tmpfs. NULL options mean defaults. Never blocks. Close it with ww_topic_close().
///
/// Errors: -EINVAL the address, or options that do not fit together; -ENOSPC the memory is not free; -EACCES the
/// directory is somebody else's, or the mode does not allow it; -ENOENT, -ENOTDIR no such directory; -EBUSY others make
/// and remove it all the time; -ELOOP a symbolic link; -ENOTSUP the file system cannot make files without a name (a
/// tmpfs can); -EBADMSG there is something else under that name, or it is damaged; -EPROTO it was made by an
/// incompatible version; -EUSERS it has no room for another participant; -EMFILE, -ENFILE; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_topic_open(
    out: *mut *mut ww_topic,
    address: *const c_char,
    options: *const ww_topic_options,
) -> c_int {
    // SAFETY: the caller's promises, as the header states them; likewise below.
    call(|| unsafe {
        expect_out(out)?;
        hand_out(out, Topic::open(&self::address(address)?, topic_options(options)?)?)
    })
}

/// Makes a topic without a name, for children made by fork, and for others by its descriptor. Never blocks.
///
/// Errors: -EINVAL options that do not fit together; -ENOSPC, -EMFILE, -ENFILE, -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_topic_anonymous(out: *mut *mut ww_topic, options: *const ww_topic_options) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(out)?;
        hand_out(out, Topic::anonymous(topic_options(options)?)?)
    })
}

/// Joins the topic whose descriptor came from a parent or a peer. The handle uses a copy of the descriptor and closes fd;
/// after an error fd stays the caller's. Never blocks.
///
/// Errors: -EBADMSG it is no topic, or damaged; -EPROTO, -EUSERS, -EINVAL, -EBADF, -EMFILE, -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_topic_from_fd(
    out: *mut *mut ww_topic,
    fd: c_int,
    options: *const ww_topic_options,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(out)?;
        let options = topic_options(options)?;
        hand_out(out, adopt(fd, "topic", |fd| Topic::from_fd(fd, options))?)
    })
}

/// Closes the handle; threads that wait in its calls return -ECANCELED first. What it had reserved is not published. Its
/// subscriptions go on. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_topic_close(topic: *mut ww_topic) {
    // SAFETY: as above.
    unsafe {
        close(topic, |topic| {
            topic.topic.end_waits();
            topic.calls.drain();
        })
    };
}

/// As ww_channel_end_waits(). Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_topic_end_waits(topic: *const ww_topic) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        object(topic, "topic")?.topic.end_waits();
        Ok(())
    })
}

/// Removes a topic's name; those who have it open keep it. Never blocks.
///
/// Errors: -ENOENT there is none; -EBADMSG it is something else, which is left; -EINVAL the address; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_topic_remove(address: *const c_char) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Topic::remove(&self::address(address)?) })
}

/// How many bytes of memory a topic with these options takes, all in all. Never blocks. Errors: -EINVAL, -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_topic_size_for(options: *const ww_topic_options) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe { Topic::size_for(&topic_options(options)?) })
}

/// Whether the name still stands for this topic. Never blocks. Errors: -ESTALE the name was removed; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_topic_check(topic: *const ww_topic) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(topic, "topic")?.topic.check() })
}

/// The segment's descriptor, to pass on for ww_topic_from_fd(); not for polling. It stays the handle's. Never blocks.
/// Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_topic_segment_fd(topic: *const ww_topic) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Ok(object(topic, "topic")?.topic.as_fd().as_raw_fd()) })
}

/// Publishes a copy of these bytes; *sequence, which may be NULL, gets which message of the topic it is, from 1. Waits
/// while there is no room because a lossless subscriber has not come so far.
///
/// Errors, with nothing published: -EMSGSIZE it is larger than the topic's largest; -EAGAIN, -ETIMEDOUT, -ECANCELED;
/// -ESTALE this handle was declared dead because its lock was closed: open the topic anew; -EUSERS this is a child made by fork,
/// and the topic has no room for another participant; -EBADMSG the topic is damaged; -EINVAL the timeout; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_topic_publish(
    topic: *const ww_topic,
    data: *const c_void,
    size: usize,
    timeout_ns: i64,
    sequence: *mut u64,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        let published = object(topic, "topic")?.topic.publish(bytes(data, size)?, timeout(timeout_ns)?)?;
        put_if_wanted(sequence, published);
        Ok(())
    })
}

/// Lends room for a message of this size, in *loan, to be written in place and then given to ww_topic_commit() or
/// ww_topic_abort(). Waits as ww_topic_publish(). Errors: as ww_topic_publish().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_topic_reserve(
    topic: *const ww_topic,
    loan: *mut ww_loan,
    size: usize,
    timeout_ns: i64,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(loan)?;
        let topic = object(topic, "topic")?;
        let _ongoing = topic.calls.begin();
        let reserved = topic.topic.reserve_owned(size, timeout(timeout_ns)?)?;
        let (data, size) = (reserved.as_ptr().cast(), reserved.length());
        put(loan, ww_loan { data, size, token: topic.reserved.keep(reserved) }, "loan")
    })
}

/// Publishes a message that was written in place; *sequence, which may be NULL, as in ww_topic_publish(). Never blocks.
///
/// Errors: -EINVAL the token names no reservation of this handle; -ESTALE this handle was declared dead, and the room
/// taken back; -EPERM it was reserved by the process that this one was forked from; -EBADMSG, -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_topic_commit(topic: *const ww_topic, token: u64, sequence: *mut u64) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        let published = object(topic, "topic")?.reserved.take(token, "commit")?.publish()?;
        put_if_wanted(sequence, published);
        Ok(())
    })
}

/// Gives reserved room back; nothing has happened. Never blocks. Errors: as ww_topic_commit().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_topic_abort(topic: *const ww_topic, token: u64) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(topic, "topic")?.reserved.take(token, "abort")?.abort() })
}

/// Subscribes: gets all that is published from now on, and as much of the history as asked for. NULL options mean
/// lossless, without history. Never blocks. Close it with ww_subscription_close().
///
/// Errors: -EUSERS the topic has no room for another subscriber; -EINVAL the options; -ESTALE, -EBADMSG as
/// ww_topic_publish(); -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_topic_subscribe(
    topic: *const ww_topic,
    out: *mut *mut ww_subscription,
    options: *const ww_subscribe_options,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(out)?;
        let subscription = object(topic, "topic")?.topic.subscribe(subscribe_options(options)?)?;
        let (subscription, borrowed) = (Arc::new(subscription), Loans::new());
        give(out, ww_subscription { subscription, borrowed, calls: Calls::new() })
    })
}

/// Ends a subscription; threads that wait on it return -ECANCELED first, and what it had borrowed is released. NULL is
/// allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_subscription_close(subscription: *mut ww_subscription) {
    // SAFETY: as above.
    unsafe {
        close(subscription, |subscription| {
            subscription.subscription.end_waits();
            subscription.calls.drain();
        })
    };
}

/// As ww_channel_end_waits(). Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_subscription_end_waits(subscription: *const ww_subscription) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        object(subscription, "subscription")?.subscription.end_waits();
        Ok(())
    })
}

/// Which message was received.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ww_topic_received {
    /// Its bytes; in a batch they follow those of the message before it.
    pub size: usize,
    /// Which message of the topic it is; the first is 1. All subscribers see the same.
    pub sequence: u64,
    /// How many messages this subscriber has missed since the one that it received before.
    pub missed: u64,
}

pub(crate) fn told(message: &TopicReceived) -> ww_topic_received {
    ww_topic_received { size: message.length, sequence: message.sequence, missed: message.missed }
}

/// Copies the next message out and returns its size; waits for it if there is none. *received, which may be NULL, gets
/// which it is; *true_size, which may be NULL, its size also where the buffer is too small, and it is left.
///
/// Errors: -EAGAIN, -ETIMEDOUT, -ECANCELED; -EMSGSIZE the buffer is too small; -ECONNABORTED the subscriber was stuck for
/// longer than its limit and was cut off, now and later: subscribe anew; -ESTALE its handle was declared dead because its
/// lock was closed; -EPERM it belongs to the process that this one was forked from; -EBADMSG the topic is damaged; -EINVAL
/// the timeout; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_subscription_recv(
    subscription: *const ww_subscription,
    buffer: *mut c_void,
    size: usize,
    timeout_ns: i64,
    received: *mut ww_topic_received,
    true_size: *mut usize,
) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe {
        let subscription = &object(subscription, "subscription")?.subscription;
        match subscription.recv(room(buffer, size)?, timeout(timeout_ns)?) {
            Ok(message) => {
                put_if_wanted(received, told(&message));
                put_if_wanted(true_size, message.length);
                Ok(message.length)
            }
            Err(error) => {
                if error.errno() == libc::EMSGSIZE {
                    put_if_wanted(true_size, error.true_size());
                }
                Err(error)
            }
        }
    })
}

/// Lends the next message in *loan, to be read in place and then given to ww_subscription_release(); waits while there is
/// none. *sequence, which may be NULL, gets which it is. Several can be out, and come back in any order; publishers wait
/// until then for their room.
///
/// Errors: as ww_subscription_recv(), without -EMSGSIZE; -ENOTSUP the subscriber is lossy.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_subscription_borrow(
    subscription: *const ww_subscription,
    loan: *mut ww_loan,
    timeout_ns: i64,
    sequence: *mut u64,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(loan)?;
        let subscription = object(subscription, "subscription")?;
        let _ongoing = subscription.calls.begin();
        let borrowed = subscription.subscription.borrow_owned(timeout(timeout_ns)?)?;
        put_if_wanted(sequence, borrowed.sequence());
        let (data, size) = (borrowed.as_ptr().cast_mut().cast(), borrowed.length());
        put(loan, ww_loan { data, size, token: subscription.borrowed.keep(borrowed) }, "loan")
    })
}

/// Is done with a borrowed message. Never blocks.
///
/// Errors: -EINVAL the token names no borrowed message of this subscription; -ECONNABORTED the subscriber was cut off,
/// -ESTALE its handle was declared dead: the message may have been overwritten while it was read; -EPERM it was borrowed
/// by the process that this one was forked from; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_subscription_release(subscription: *const ww_subscription, token: u64) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(subscription, "subscription")?.borrowed.take(token, "release")?.release() })
}

/// Writes how many messages this subscriber has missed, as far as it has found out by receiving. Never blocks. Errors:
/// -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_subscription_missed(subscription: *const ww_subscription, missed: *mut u64) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { put(missed, object(subscription, "subscription")?.subscription.missed(), "missed") })
}

/// A descriptor that is readable while there is a message, or the subscriber was cut off: for poll, a wait set, an event
/// loop. A call that finds nothing quiets it. It stays the subscription's. From the first call on it costs a helper thread
/// that sleeps in the kernel. Never blocks.
///
/// Errors: -EMFILE, -ENFILE no descriptor is left; -ENOMEM no thread can be had; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_subscription_fd(subscription: *const ww_subscription) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Ok(object(subscription, "subscription")?.subscription.doorbell()?.as_raw_fd()) })
}

/// What a topic has seen.
#[repr(C)]
pub struct ww_topic_statistics {
    /// Messages published so far; that were being made by those who died; stored; being made.
    pub sent: u64,
    pub skipped: u64,
    pub stored: u64,
    pub reserved: u64,
    /// Messages stored at most.
    pub depth: u64,
    /// Memory for messages, the largest message, and all memory, in bytes.
    pub capacity: usize,
    pub largest: usize,
    pub bytes: usize,
    /// How many handles take part, and how many have subscribed.
    pub participants: usize,
    pub subscribers: usize,
    /// Room for what later versions tell; 0.
    pub more: [u64; 4],
}

/// One subscription to a topic, of this or another process.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ww_topic_subscriber {
    /// Its process; 0 if it lives in a pid namespace that this one cannot see.
    pub pid: u32,
    /// 1 or 0: made by the handle that was asked; publishers wait for it; it was stuck for too long.
    pub is_self: u32,
    pub lossless: u32,
    pub cut_off: u32,
    /// When it subscribed, in seconds since 1970.
    pub since: u64,
    /// How many messages it has before it, those that it has borrowed included, and how many it has missed.
    pub lag: u64,
    pub missed: u64,
    /// Room for what later versions tell; 0.
    pub reserved: [u64; 2],
}

/// Tells what the topic has seen, and in subscribers, if it is not NULL, who has subscribed: at most so many as there is
/// room for; statistics->subscribers is how many there are. Never blocks. Errors: -EBADMSG the topic is damaged; -ESTALE;
/// -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_topic_get_statistics(
    topic: *const ww_topic,
    statistics: *mut ww_topic_statistics,
    subscribers: *mut ww_topic_subscriber,
    room: usize,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(statistics)?;
        let seen = object(topic, "topic")?.topic.statistics()?;
        let entries = seen.subscribers.iter().map(|peer| ww_topic_subscriber {
            pid: peer.pid.unwrap_or(0),
            is_self: peer.is_self.into(),
            lossless: peer.lossless.into(),
            cut_off: peer.cut_off.into(),
            since: peer.since.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            lag: peer.lag,
            missed: peer.missed,
            reserved: [0; 2],
        });
        put_list(subscribers, room, entries);
        let told = ww_topic_statistics {
            sent: seen.sent,
            skipped: seen.skipped,
            stored: seen.stored,
            reserved: seen.reserved,
            depth: seen.depth,
            capacity: seen.capacity,
            largest: seen.largest,
            bytes: seen.bytes,
            participants: seen.participants.len(),
            subscribers: seen.subscribers.len(),
            more: [0; 4],
        };
        put(statistics, told, "statistics")
    })
}
