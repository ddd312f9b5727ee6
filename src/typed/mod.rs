//! Values of one type instead of bytes, over everything that carries messages through shared memory.
//!
//! A type is fit if any bytes are a value of it and it has no padding and no pointers, which [`bytemuck::Pod`] says and
//! its derive checks. So a peer can send wrong values, and nothing worse.

mod held;
mod over;

use std::marker::PhantomData;

use bytemuck::Pod;
use nix::errno::Errno;

pub use held::{TypedBorrowed, TypedReserved};

use crate::error::{Error, Result};

/// A ring, topic, subscription or cell that carries values of one plain-old-data type.
///
/// Made by `typed` of [`Ring`](crate::Ring::typed), [`RingProducer`](crate::RingProducer::typed),
/// [`RingConsumer`](crate::RingConsumer::typed), [`Topic`](crate::Topic::typed),
/// [`Subscription`](crate::Subscription::typed) and [`Cell`](crate::Cell::typed). The type is each side's word only: what
/// travels is its bytes, and a message of another length is `EBADMSG`. Everything else, such as statistics, descriptors
/// and closing, is reached through [`bytes`](Typed::bytes).
///
/// ```
/// use bytemuck::{Pod, Zeroable};
/// use wigwag::{Ring, RingOptions, Timeout};
///
/// #[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
/// #[repr(C)]
/// struct Tick {
///     instrument: u64,
///     price: f64,
/// }
///
/// let options = RingOptions { largest: size_of::<Tick>() as u64, ..Default::default() };
/// let ring = Ring::anonymous(options)?.typed::<Tick>()?;
/// ring.send(&Tick { instrument: 7, price: 1.25 }, Timeout::Now)?;
/// assert_eq!(ring.recv(Timeout::Now)?, Tick { instrument: 7, price: 1.25 });
/// # Ok::<(), wigwag::Error>(())
/// ```
pub struct Typed<O, T> {
    bytes: O,
    kind: PhantomData<fn(T) -> T>,
}

impl<O, T> Typed<O, T> {
    /// What carries them, with all that it can do.
    pub fn bytes(&self) -> &O {
        &self.bytes
    }

    /// The same, for the calls of one-to-one rings, which take an exclusive reference.
    pub fn bytes_mut(&mut self) -> &mut O {
        &mut self.bytes
    }

    /// The same, without the type.
    pub fn into_bytes(self) -> O {
        self.bytes
    }
}

impl<O: std::fmt::Debug, T> std::fmt::Debug for Typed<O, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Typed").field("bytes", &self.bytes).field("type", &std::any::type_name::<T>()).finish()
    }
}

/// Refuses a type that no message could hold.
fn fitting<O, T: Pod>(bytes: O, largest: usize, address: &str) -> Result<Typed<O, T>> {
    if size_of::<T>() > largest {
        let error = Error::new(Errno::EMSGSIZE, "typed").on_text(address);
        return Err(error
            .because_found(format!(
                "{} has {} bytes, and its largest message {largest}; make it with a larger one",
                std::any::type_name::<T>(),
                size_of::<T>()
            ))
            .with_true_size(largest));
    }
    Ok(Typed { bytes, kind: PhantomData })
}

/// `EBADMSG` unless a message is as long as the type.
fn of_length<T: Pod>(length: usize, operation: &'static str, address: &str, fate: &str) -> Result<()> {
    if length == size_of::<T>() {
        return Ok(());
    }
    Err(Error::new(Errno::EBADMSG, operation).on_text(address).because_found(format!(
        "a message of {length} bytes is no {}, which has {}; {fate}",
        std::any::type_name::<T>(),
        size_of::<T>()
    )))
}
