//! Atomics that are loom's where they lie in a segment.

use std::panic::Location;
use std::sync::atomic::Ordering;

use super::is_seeded;
use super::words::{Word, word_at};

/// The orders of an access, with what is seeded.
fn weakened(order: Ordering, at: &Location<'_>) -> Ordering {
    if is_seeded(at) { Ordering::Relaxed } else { order }
}

/// A sequentially consistent store has a fence behind it: see the module's text.
fn trail(order: Ordering) {
    if order == Ordering::SeqCst {
        loom::sync::atomic::fence(Ordering::SeqCst);
    }
}

#[track_caller]
pub(crate) fn fence(order: Ordering) {
    if super::words::is_muted() {
        return;
    }
    if super::words::is_running() && !is_seeded(Location::caller()) {
        loom::sync::atomic::fence(order);
    } else {
        std::sync::atomic::fence(order);
    }
}

/// One half of a barrier that the other side makes whole (`sys::membarrier`): both are modelled as whole ones.
#[track_caller]
pub(crate) fn compiler_fence(order: Ordering) {
    fence(order);
}

macro_rules! atomic {
    ($name:ident, $value:ty, $variant:ident) => {
        /// As the standard library's of this name, at the same size.
        #[repr(transparent)]
        #[derive(Debug, Default)]
        pub(crate) struct $name(std::sync::atomic::$name);

        #[allow(dead_code)]
        impl $name {
            pub(crate) const fn new(value: $value) -> $name {
                $name(std::sync::atomic::$name::new(value))
            }

            pub(crate) fn as_ptr(&self) -> *mut $value {
                self.0.as_ptr()
            }

            #[track_caller]
            pub(crate) fn load(&self, order: Ordering) -> $value {
                let at = Location::caller();
                match word_at(self.as_ptr() as usize, size_of::<$value>()) {
                    Word::Plain => self.0.load(order),
                    Word::Muted => 0,
                    Word::$variant(word) => {
                        word.load(weakened(order, at))
                    }
                    _ => unreachable!("words are looked up by size"),
                }
            }

            #[track_caller]
            pub(crate) fn store(&self, value: $value, order: Ordering) {
                let at = Location::caller();
                match word_at(self.as_ptr() as usize, size_of::<$value>()) {
                    Word::Plain => self.0.store(value, order),
                    Word::Muted => {}
                    Word::$variant(word) => {
                        let order = weakened(order, at);
                        word.store(value, order);
                        trail(order);
                    }
                    _ => unreachable!("words are looked up by size"),
                }
            }

            #[track_caller]
            pub(crate) fn compare_exchange(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                let at = Location::caller();
                match word_at(self.as_ptr() as usize, size_of::<$value>()) {
                    Word::Plain => self.0.compare_exchange(current, new, success, failure),
                    Word::Muted => Err(0),
                    Word::$variant(word) => {
                        let (success, failure) = (weakened(success, at), weakened(failure, at));
                        let found = word.compare_exchange(current, new, success, failure);
                        trail(if found.is_ok() { success } else { failure });
                        found
                    }
                    _ => unreachable!("words are looked up by size"),
                }
            }

            #[track_caller]
            pub(crate) fn compare_exchange_weak(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                self.compare_exchange(current, new, success, failure)
            }

            #[track_caller]
            pub(crate) fn fetch_update(
                &self,
                success: Ordering,
                failure: Ordering,
                mut to: impl FnMut($value) -> Option<$value>,
            ) -> Result<$value, $value> {
                let mut found = self.load(failure);
                while let Some(next) = to(found) {
                    match self.compare_exchange(found, next, success, failure) {
                        Err(_) if super::words::is_muted() => return Err(found),
                        Err(other) => found = other,
                        done => return done,
                    }
                }
                Err(found)
            }
        }
    };
    ($name:ident, $value:ty, $variant:ident: $($operation:ident),*) => {
        impl $name {
            $(
                #[track_caller]
                #[allow(dead_code)]
                pub(crate) fn $operation(&self, value: $value, order: Ordering) -> $value {
                    let at = Location::caller();
                    match word_at(self.as_ptr() as usize, size_of::<$value>()) {
                        Word::Plain => self.0.$operation(value, order),
                        Word::Muted => 0,
                        Word::$variant(word) => {
                            let order = weakened(order, at);
                            let found = word.$operation(value, order);
                            trail(order);
                            found
                        }
                        _ => unreachable!("words are looked up by size"),
                    }
                }
            )*
        }
    };
}

atomic!(AtomicU32, u32, Narrow);
atomic!(AtomicU32, u32, Narrow: swap, fetch_add, fetch_sub, fetch_or, fetch_and, fetch_max);
atomic!(AtomicU64, u64, Wide);
atomic!(AtomicU64, u64, Wide: swap, fetch_add, fetch_sub, fetch_or, fetch_and, fetch_max);
