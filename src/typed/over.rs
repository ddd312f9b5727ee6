//! What each object can do with values of a type.

use bytemuck::{Pod, bytes_of, bytes_of_mut};
use nix::errno::Errno;

use super::{Typed, TypedBorrowed, TypedReserved, fitting, of_length};
use crate::cell::{Cell, CellRead, CellReserved};
use crate::error::Result;
use crate::ring::{
    Ring, RingBorrowed, RingConsumer, RingConsumerBorrowed, RingProducer, RingProducerReserved, RingReserved,
};
use crate::timeout::Timeout;
use crate::topic::{Subscription, Topic, TopicBorrowed, TopicReceived, TopicReserved};

const STAYS: &str = "it stays in the ring; receive it as bytes";
const PASSED: &str = "it was passed over";

macro_rules! typed {
    ($($object:ident, $noun:literal;)*) => {$(
        impl $object {
            #[doc = concat!("This ", $noun, " for values of one type. Never blocks.")]
            ///
            /// # Errors
            /// `EMSGSIZE` the type is larger than the largest message, which is the error's true size.
            pub fn typed<T: Pod>(self) -> Result<Typed<$object, T>> {
                let (largest, address) = (self.largest(), self.address().to_owned());
                fitting(self, largest, &address)
            }
        }
    )*};
}

typed! {
    Ring, "ring";
    RingProducer, "producer";
    RingConsumer, "consumer";
    Topic, "topic";
    Subscription, "subscription";
    Cell, "cell";
}

impl<T: Pod> Typed<Ring, T> {
    /// Sends a copy; as [`Ring::send`], whose errors it has but `EMSGSIZE`.
    #[inline]
    pub fn send(&self, value: &T, timeout: Timeout) -> Result<()> {
        self.bytes.send(bytes_of(value), timeout)
    }

    /// The next value; as [`Ring::recv`], whose errors it has but `EMSGSIZE`. `EBADMSG` a message of another length, which
    /// comes again, marked as redelivered.
    #[inline]
    pub fn recv(&self, timeout: Timeout) -> Result<T> {
        let borrowed = self.borrow(timeout)?;
        let value = borrowed.get();
        borrowed.release()?;
        Ok(value)
    }

    /// Room for a value in place; as [`Ring::reserve`].
    pub fn reserve(&self, timeout: Timeout) -> Result<TypedReserved<RingReserved<'_>, T>> {
        self.bytes.reserve(size_of::<T>(), timeout).map(TypedReserved::new)
    }

    /// The next value in place; as [`Ring::borrow`]. `EBADMSG` a message of another length, which comes again, marked as
    /// redelivered.
    pub fn borrow(&self, timeout: Timeout) -> Result<TypedBorrowed<RingBorrowed<'_>, T>> {
        let borrowed = self.bytes.borrow(timeout)?;
        of_length::<T>(borrowed.length(), "recv", self.bytes.address(), STAYS)?;
        Ok(TypedBorrowed::new(borrowed))
    }
}

impl<T: Pod> Typed<RingProducer, T> {
    /// Sends a copy; as [`RingProducer::send`], whose errors it has but `EMSGSIZE`.
    #[inline]
    pub fn send(&mut self, value: &T, timeout: Timeout) -> Result<()> {
        self.bytes.send(bytes_of(value), timeout)
    }

    /// Room for a value in place; as [`RingProducer::reserve`].
    pub fn reserve(&mut self, timeout: Timeout) -> Result<TypedReserved<RingProducerReserved<&mut RingProducer>, T>> {
        self.bytes.reserve(size_of::<T>(), timeout).map(TypedReserved::new)
    }
}

impl<T: Pod> Typed<RingConsumer, T> {
    /// The next value; as [`RingConsumer::recv`], whose errors it has but `EMSGSIZE`. `EBADMSG` a message of another
    /// length, which stays in the ring.
    #[inline]
    pub fn recv(&mut self, timeout: Timeout) -> Result<T> {
        self.expect(timeout)?;
        let mut value = T::zeroed();
        let received = self.bytes.recv(bytes_of_mut(&mut value), Timeout::Now)?; // it is there: nobody else takes it
        of_length::<T>(received.length, "recv", self.bytes.address(), PASSED)?; // was looked at: only a peer without rules
        Ok(value)
    }

    /// The next value in place; as [`RingConsumer::borrow`]. `EBADMSG` a message of another length, which stays in the
    /// ring.
    pub fn borrow(&mut self, timeout: Timeout) -> Result<TypedBorrowed<RingConsumerBorrowed<&mut RingConsumer>, T>> {
        self.expect(timeout)?;
        let address = self.bytes.address().to_owned();
        let borrowed = self.bytes.borrow(Timeout::Now)?; // as above
        of_length::<T>(borrowed.length(), "recv", &address, STAYS)?;
        Ok(TypedBorrowed::new(borrowed))
    }

    #[inline]
    fn expect(&mut self, timeout: Timeout) -> Result<()> {
        let length = self.bytes.next_length(timeout)?;
        of_length::<T>(length, "recv", self.bytes.address(), STAYS)
    }
}

impl<T: Pod> Typed<Topic, T> {
    /// Publishes a copy, and tells its number; as [`Topic::publish`], whose errors it has but `EMSGSIZE`.
    #[inline]
    pub fn publish(&self, value: &T, timeout: Timeout) -> Result<u64> {
        self.bytes.publish(bytes_of(value), timeout)
    }

    /// Room for a value in place; as [`Topic::reserve`].
    pub fn reserve(&self, timeout: Timeout) -> Result<TypedReserved<TopicReserved<'_>, T>> {
        self.bytes.reserve(size_of::<T>(), timeout).map(TypedReserved::new)
    }
}

impl<T: Pod> Typed<Subscription, T> {
    /// The next value, and what is known of it; as [`Subscription::recv`], whose errors it has but `EMSGSIZE`. `EBADMSG` a
    /// message of another length, which is passed over.
    #[inline]
    pub fn recv(&self, timeout: Timeout) -> Result<(T, TopicReceived)> {
        let mut value = T::zeroed();
        let received = match self.bytes.recv(bytes_of_mut(&mut value), timeout) {
            Err(error) if error.is(Errno::EMSGSIZE) => {
                let mut all = vec![0; self.bytes.largest()];
                match self.bytes.recv(&mut all, Timeout::Now) {
                    Err(again) if again.is(Errno::EAGAIN) => {
                        // Another thread has passed it over.
                        let length = error.true_size();
                        return of_length::<T>(length, "recv", self.bytes.address(), PASSED).and(Err(again));
                    }
                    received => {
                        let received = received?; // may be the next
                        bytes_of_mut(&mut value).copy_from_slice(&all[..size_of::<T>()]);
                        received
                    }
                }
            }
            result => result?,
        };
        of_length::<T>(received.length, "recv", self.bytes.address(), PASSED)?;
        Ok((value, received))
    }

    /// The next value in place; as [`Subscription::borrow`]. `EBADMSG` a message of another length, which is passed over.
    pub fn borrow(&self, timeout: Timeout) -> Result<TypedBorrowed<TopicBorrowed<'_>, T>> {
        let borrowed = self.bytes.borrow(timeout)?;
        of_length::<T>(borrowed.length(), "borrow", self.bytes.address(), PASSED)?;
        Ok(TypedBorrowed::new(borrowed))
    }
}

impl<T: Pod> Typed<Cell, T> {
    /// Writes a copy, and tells its number; as [`Cell::write`], whose errors it has but `EMSGSIZE`.
    #[inline]
    pub fn write(&self, value: &T) -> Result<u64> {
        self.bytes.write(bytes_of(value))
    }

    /// The latest value and its number; as [`Cell::read`], whose errors it has but `EMSGSIZE`. `EBADMSG` it has another
    /// length.
    #[inline]
    pub fn read(&self) -> Result<(T, u64)> {
        self.whole(|cell, buffer| cell.read(buffer))
    }

    /// A value newer than the one of this number, and its own; as [`Cell::wait_read`], whose errors it has but `EMSGSIZE`.
    /// `EBADMSG` as [`read`](Self::read).
    #[inline]
    pub fn wait_read(&self, after: u64, timeout: Timeout) -> Result<(T, u64)> {
        self.whole(|cell, buffer| cell.wait_read(after, buffer, timeout))
    }

    /// Room for a value in place; as [`Cell::reserve`].
    pub fn reserve(&self) -> Result<TypedReserved<CellReserved<'_>, T>> {
        self.bytes.reserve(size_of::<T>()).map(TypedReserved::new)
    }

    fn whole(&self, read: impl FnOnce(&Cell, &mut [u8]) -> Result<CellRead>) -> Result<(T, u64)> {
        const STANDS: &str = "write another, or read it as bytes";
        let mut value = T::zeroed();
        let (length, sequence) = match read(&self.bytes, bytes_of_mut(&mut value)) {
            Ok(found) => (found.length, found.sequence),
            Err(error) if error.is(Errno::EMSGSIZE) => (error.true_size(), 0),
            Err(error) => return Err(error),
        };
        of_length::<T>(length, "read", self.bytes.address(), STANDS)?;
        Ok((value, sequence))
    }
}
