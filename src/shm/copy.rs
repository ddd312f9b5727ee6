//! Copying to and from memory that other processes may write meanwhile.
//!
//! Plain copies would be data races, and the compiler may read such memory twice. These go by relaxed atomic accesses:
//! whole aligned words of eight bytes, single bytes at the ends. So each aligned word is copied at once, never torn; the
//! words among themselves come in no particular order, which is what locks and atomics are for.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

const WORD: usize = size_of::<u64>();

/// How many bytes lie before the first aligned word.
fn to_alignment(address: usize, length: usize) -> usize {
    (address.wrapping_neg() % WORD).min(length)
}

/// Copies `to.len()` bytes out.
///
/// # Safety
/// The range from `from` must be mapped readable until this returns; `to` is memory of our own elsewhere.
pub(super) unsafe fn copy_out(from: *const u8, to: &mut [u8]) {
    let (head, rest) = to.split_at_mut(to_alignment(from.addr(), to.len()));
    let (words, tail) = rest.as_chunks_mut::<WORD>();
    // SAFETY: the pointer runs over the caller's range exactly once, and the words start at the first multiple of eight.
    // The atomics live for one access each, made by nobody but peers who, being other processes, are outside this
    // program, or who use this module or atomics themselves. Loads this small never write, so the range may be
    // read-only.
    unsafe {
        let mut at = from.cast_mut();
        for byte in head {
            *byte = AtomicU8::from_ptr(at).load(Relaxed);
            at = at.add(1);
        }
        for word in words {
            *word = AtomicU64::from_ptr(at.cast()).load(Relaxed).to_ne_bytes();
            at = at.add(WORD);
        }
        for byte in tail {
            *byte = AtomicU8::from_ptr(at).load(Relaxed);
            at = at.add(1);
        }
    }
}

/// Copies `from.len()` bytes in.
///
/// # Safety
/// The range from `to` must be mapped writable until this returns; `from` is memory of our own elsewhere.
pub(super) unsafe fn copy_in(from: &[u8], to: *mut u8) {
    let (head, rest) = from.split_at(to_alignment(to.addr(), from.len()));
    let (words, tail) = rest.as_chunks::<WORD>();
    // SAFETY: as in `copy_out`.
    unsafe {
        let mut at = to;
        for byte in head {
            AtomicU8::from_ptr(at).store(*byte, Relaxed);
            at = at.add(1);
        }
        for word in words {
            AtomicU64::from_ptr(at.cast()).store(u64::from_ne_bytes(*word), Relaxed);
            at = at.add(WORD);
        }
        for byte in tail {
            AtomicU8::from_ptr(at).store(*byte, Relaxed);
            at = at.add(1);
        }
    }
}

/// Sets `length` bytes.
///
/// # Safety
/// As [`copy_in`].
pub(super) unsafe fn fill(to: *mut u8, length: usize, byte: u8) {
    let block = [byte; 256];
    let mut done = 0;
    while done < length {
        let part = block.get(..length - done).unwrap_or(&block);
        // SAFETY: `done + part.len()` never passes `length`.
        unsafe { copy_in(part, to.add(done)) };
        done += part.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_alignment_and_length() {
        for offset in 0..9 {
            for length in 0..40 {
                let mut shared = [0xEE_u8; 64];
                let text: Vec<u8> = (0..length).map(|n| n as u8).collect();
                // SAFETY: 8 + 39 bytes are inside the array.
                unsafe { copy_in(&text, shared.as_mut_ptr().add(offset)) };
                assert!(shared[..offset].iter().chain(&shared[offset + length..]).all(|byte| *byte == 0xEE));
                let mut back = vec![0; length];
                // SAFETY: as above.
                unsafe { copy_out(shared.as_ptr().add(offset), &mut back) };
                assert_eq!(back, text);
            }
        }
    }

    #[test]
    fn fills_no_more_than_asked() {
        let mut shared = [0_u8; 600];
        // SAFETY: 1 + 513 bytes are inside the array.
        unsafe { fill(shared.as_mut_ptr().add(1), 513, 7) };
        assert_eq!((shared[0], shared[1], shared[513], shared[514]), (0, 7, 7, 0));
    }
}
