//! Values written and read in place.

use std::marker::PhantomData;

use bytemuck::Pod;

use crate::cell::CellReserved;
use crate::error::Result;
use crate::ring::{RingBorrowed, RingConsumer, RingConsumerBorrowed, RingProducer, RingProducerReserved, RingReserved};
use crate::topic::{TopicBorrowed, TopicReserved};

/// Room for a value, which is sent by `commit`, or `publish` of topics and cells. Dropped before, it was never sent.
#[derive(Debug)]
pub struct TypedReserved<G, T>(G, PhantomData<fn(T)>);

/// A value that was taken, of a ring or a topic. What being dropped does is as with the message in
/// [`bytes`](TypedBorrowed::bytes).
#[derive(Debug)]
pub struct TypedBorrowed<G, T>(G, PhantomData<fn() -> T>);

impl<G, T> TypedReserved<G, T> {
    pub(super) fn new(room: G) -> Self {
        TypedReserved(room, PhantomData)
    }

    /// The room as bytes.
    pub fn bytes(&mut self) -> &mut G {
        &mut self.0
    }
}

impl<G, T> TypedBorrowed<G, T> {
    pub(super) fn new(message: G) -> Self {
        TypedBorrowed(message, PhantomData)
    }

    /// The message, with what is known of it beside its bytes.
    pub fn bytes(&self) -> &G {
        &self.0
    }
}

/// `None` if a value may not lie there: its alignment is larger than that of messages.
fn aligned<T>(at: *mut u8) -> Option<*mut T> {
    let at: *mut T = at.cast();
    at.is_aligned().then_some(at)
}

macro_rules! reserved {
    ($($guard:ty, $finish:ident -> $result:ty, $error:literal;)*) => {$(
        impl<'a, T: Pod> TypedReserved<$guard, T> {
            /// Copies the value in.
            pub fn set(&mut self, value: &T) {
                self.0.write(0, bytemuck::bytes_of(value));
            }

            /// Where the value lies, for writing it in place: the caller's until it is sent or dropped. It holds what
            /// earlier messages left. `None` if the type's alignment is larger than that of the memory, which is at least 8;
            /// then [`set`](Self::set) copies.
            pub fn as_ptr(&self) -> Option<*mut T> {
                aligned(self.0.as_ptr())
            }

            #[doc = concat!("Sends what is there. Never blocks.\n\n# Errors\n", $error)]
            pub fn $finish(self) -> Result<$result> {
                self.0.$finish()
            }
        }
    )*};
}

reserved! {
    RingReserved<'a>, commit -> (), "As [`RingReserved::commit`].";
    RingProducerReserved<&'a mut RingProducer>, commit -> (), "As [`RingProducerReserved::commit`].";
    TopicReserved<'a>, publish -> u64, "As [`TopicReserved::publish`].";
    CellReserved<'a>, publish -> u64, "As [`CellReserved::publish`].";
}

macro_rules! borrowed {
    ($($guard:ty, $error:literal;)*) => {$(
        impl<'a, T: Pod> TypedBorrowed<$guard, T> {
            /// A copy of the value.
            pub fn get(&self) -> T {
                let mut value = T::zeroed();
                self.0.read(0, bytemuck::bytes_of_mut(&mut value));
                value
            }

            /// Where the value lies, for reading it in place: it stays until it is released or dropped, provided that no
            /// peer breaks the rules. `None` if the type's alignment is larger than that of the memory, which is at least 8;
            /// then [`get`](Self::get) copies.
            pub fn as_ptr(&self) -> Option<*const T> {
                aligned(self.0.as_ptr().cast_mut()).map(<*mut T>::cast_const)
            }

            #[doc = concat!("Is done with it. Never blocks.\n\n# Errors\n", $error)]
            pub fn release(self) -> Result<()> {
                self.0.release()
            }
        }
    )*};
}

borrowed! {
    RingBorrowed<'a>, "As [`RingBorrowed::release`].";
    RingConsumerBorrowed<&'a mut RingConsumer>, "As [`RingConsumerBorrowed::release`].";
    TopicBorrowed<'a>, "As [`TopicBorrowed::release`].";
}
