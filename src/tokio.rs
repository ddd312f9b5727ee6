//! Awaiting under tokio, with the feature `tokio`: any call that can be tried without waiting, on whatever has a descriptor
//! that says when to try again.
//!
//! ```
//! # let runtime = ::tokio::runtime::Builder::new_current_thread().enable_io().build()?;
//! # runtime.block_on(async {
//! use wigwag::tokio::when_readable;
//! use wigwag::{Ring, RingOptions, Timeout};
//!
//! let ring = Ring::anonymous(RingOptions::default())?;
//! ring.send(b"hello", Timeout::Now)?;
//! let mut buffer = [0; 100];
//! let received = when_readable(&ring, |ring| ring.recv(&mut buffer, Timeout::Now)).await?;
//! assert_eq!(&buffer[..received.length], b"hello");
//! # Ok::<(), wigwag::Error>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Each function tries first, and only if that would have to wait asks for the descriptor, waits until it is ready, and tries
//! again, as often as somebody else was faster. So an object that nobody awaits costs nothing; what the descriptor costs from
//! the first time on, its own documentation says (a ring's, [`Ring::doorbell`]: a thread that sleeps in the kernel). While it
//! waits, a duplicate of the descriptor is registered with the runtime, so that any number of tasks, of several runtimes too,
//! may await one object.
//!
//! All are cancel safe: between two tries nothing is held and nothing was taken, and a future that is dropped there, by
//! `tokio::time::timeout` or in `select!`, loses nothing. What an attempt returned is the caller's
//! at once. A guard that belongs to a thread, as a mutex's, makes a future that holds it over an `await` not `Send`, and the
//! compiler refuses to spawn it where threads change.
//!
//! Conditions and barriers have no descriptor, as waiting for them is more than a look; await an event or permits, or wait
//! in `spawn_blocking`.
//!
//! # Errors
//! Those of the attempt, of which `EAGAIN` is not passed on; those of asking for the descriptor; `EINVAL` outside of a
//! runtime; `EMFILE`, `ENFILE`. As tokio itself, they panic in a runtime that was built without `enable_io`.
//!
//! System calls: those of the attempt; while waiting eventfd or the object's own, fcntl, epoll_ctl, epoll_wait.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ::tokio::io::Interest as Direction;
use ::tokio::io::unix::AsyncFd;
use ::tokio::runtime::Handle;
use ::tokio::task::coop::consume_budget;
use nix::errno::Errno;

use crate::cell::Cell;
use crate::channel::Channel;
use crate::error::{Error, Result};
use crate::eventfd::EventFd;
use crate::file::FileWatch;
use crate::lease::LeasePool;
use crate::mq::Mq;
use crate::pipe::{Fifo, Pipe};
use crate::ring::{Ring, RingConsumer, RingProducer};
use crate::signal::Signals;
use crate::socket::{Listener, Socket};
use crate::sync::{Event, Mutex, Permits, RwLock};
use crate::topic::Subscription;
use crate::waitset::{Interest, WaitSet};

/// What says by a descriptor when there is something to receive, to take or to see.
pub trait Readable {
    /// The descriptor, and what to look for on it.
    ///
    /// # Errors
    /// `ENOMEM`, `EMFILE`, `ENFILE` as the object's `doorbell`, where it has one.
    fn readable(&self) -> Result<(BorrowedFd<'_>, Interest)>;
}

/// What says by a descriptor when there is room to send.
pub trait Writable {
    /// The descriptor, and what to look for on it.
    ///
    /// # Errors
    /// As [`Readable::readable`].
    fn writable(&self) -> Result<(BorrowedFd<'_>, Interest)>;
}

/// Repeats an attempt, which must not wait (`Timeout::Now`), until there is something for it.
///
/// Errors and system calls: see [the module](self).
pub async fn when_readable<'a, O: Readable + ?Sized, T>(
    object: &'a O,
    attempt: impl FnMut(&'a O) -> Result<T>,
) -> Result<T> {
    when(object, O::readable, attempt).await
}

/// The same until there is room for it.
pub async fn when_writable<'a, O: Writable + ?Sized, T>(
    object: &'a O,
    attempt: impl FnMut(&'a O) -> Result<T>,
) -> Result<T> {
    when(object, O::writable, attempt).await
}

/// The same with a descriptor that the caller names, such as [`Ring::room_doorbell`] of a lane or
/// [`SysvMq::doorbell`](crate::SysvMq::doorbell) of a type of message.
pub async fn when<'a, O: ?Sized, T>(
    object: &'a O,
    bell: impl Fn(&'a O) -> Result<(BorrowedFd<'a>, Interest)>,
    mut attempt: impl FnMut(&'a O) -> Result<T>,
) -> Result<T> {
    loop {
        consume_budget().await; // a stream of successes gives way to others too
        match attempt(object) {
            Err(error) if error.is(Errno::EAGAIN) => {}
            result => return result,
        }
        // In a line of its own: what is borrowed does not live over the await.
        let (registered, direction) = register(bell(object)?)?;
        rung(&registered, direction).await?;
    }
}

/// As [`when_readable`], for calls that take an exclusive reference, as a [`RingConsumer`]'s.
pub async fn when_readable_mut<O: Readable + ?Sized, T>(
    object: &mut O,
    mut attempt: impl FnMut(&mut O) -> Result<T>,
) -> Result<T> {
    loop {
        consume_budget().await;
        match attempt(object) {
            Err(error) if error.is(Errno::EAGAIN) => {}
            result => return result,
        }
        let (registered, direction) = register(object.readable()?)?;
        rung(&registered, direction).await?;
    }
}

/// As [`when_writable`], for calls that take an exclusive reference, as a [`RingProducer`]'s.
pub async fn when_writable_mut<O: Writable + ?Sized, T>(
    object: &mut O,
    mut attempt: impl FnMut(&mut O) -> Result<T>,
) -> Result<T> {
    loop {
        consume_budget().await;
        match attempt(object) {
            Err(error) if error.is(Errno::EAGAIN) => {}
            result => return result,
        }
        let (registered, direction) = register(object.writable()?)?;
        rung(&registered, direction).await?;
    }
}

const OPERATION: &str = "await";

fn failed(error: &std::io::Error) -> Error {
    Error::new(Errno::from_raw(error.raw_os_error().unwrap_or(libc::ECANCELED)), OPERATION)
}

/// A duplicate: the runtime knows a descriptor by its number, and several tasks may wait for one object.
fn register((bell, interest): (BorrowedFd<'_>, Interest)) -> Result<(AsyncFd<OwnedFd>, Direction)> {
    if Handle::try_current().is_err() {
        return Err(Error::new(Errno::EINVAL, OPERATION).because("there is no tokio runtime here; await it in one"));
    }
    let direction = if interest.contains(Interest::WRITABLE) { Direction::WRITABLE } else { Direction::READABLE };
    let copy = bell.try_clone_to_owned().map_err(|error| failed(&error))?;
    // SAFETY: an owned descriptor stays open, and the same, as long as it lives, and the registration owns it.
    #[allow(unsafe_code)]
    let registered = unsafe { AsyncFd::register_with_interest(copy, direction) };
    let registered = registered.map_err(|error| failed(&error.into_parts().1))?;
    Ok((registered, direction))
}

async fn rung(registered: &AsyncFd<OwnedFd>, direction: Direction) -> Result<()> {
    // No error but that the runtime is being shut down.
    registered.ready(direction).await.map(drop).map_err(|error| failed(&error))
}

macro_rules! bells {
    ($($object:ident)*) => {$(
        impl Readable for $object {
            fn readable(&self) -> Result<(BorrowedFd<'_>, Interest)> {
                Ok((self.doorbell()?, Interest::READABLE))
            }
        }
    )*};
}

macro_rules! descriptors {
    ($($object:ident)*; $($both:ident)*) => {
        $(
            impl Readable for $object {
                fn readable(&self) -> Result<(BorrowedFd<'_>, Interest)> {
                    Ok((self.as_fd(), Interest::READABLE))
                }
            }
        )*
        $(
            impl Writable for $both {
                fn writable(&self) -> Result<(BorrowedFd<'_>, Interest)> {
                    Ok((self.as_fd(), Interest::WRITABLE))
                }
            }
        )*
    };
}

bells!(Ring RingConsumer Subscription Cell Mutex RwLock Permits Event LeasePool);
descriptors!(Socket Listener EventFd Pipe Fifo Mq Signals FileWatch WaitSet; Socket EventFd Pipe Fifo Mq);

/// Of the handle's own lane; for others, [`when`] with [`Ring::room_doorbell`].
impl Writable for Ring {
    fn writable(&self) -> Result<(BorrowedFd<'_>, Interest)> {
        Ok((self.room_doorbell(self.lane())?, Interest::READABLE))
    }
}

impl Writable for RingProducer {
    fn writable(&self) -> Result<(BorrowedFd<'_>, Interest)> {
        Ok((self.doorbell()?, Interest::READABLE))
    }
}

/// Of the receiving end: what is sent back to a sender can be awaited by no descriptor (`ENOTSUP`).
impl Readable for Channel {
    fn readable(&self) -> Result<(BorrowedFd<'_>, Interest)> {
        if self.is_sender() {
            return Err(Error::new(Errno::ENOTSUP, "await")
                .on_text(self.address())
                .because("a channel's descriptor is for what its end is for: this one sends"));
        }
        self.descriptor()
    }
}

/// Of the sending end: room for what is sent back by a receiver can be awaited by no descriptor (`ENOTSUP`).
impl Writable for Channel {
    fn writable(&self) -> Result<(BorrowedFd<'_>, Interest)> {
        if !self.is_sender() {
            return Err(Error::new(Errno::ENOTSUP, "await")
                .on_text(self.address())
                .because("a channel's descriptor is for what its end is for: this one receives"));
        }
        self.descriptor()
    }
}
