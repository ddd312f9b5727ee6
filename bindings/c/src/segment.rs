//! What rings, cells, topics and locks have in common: how their calls wait, and loans.
//!
//! The guards of loans stay on this side, in a table of their handle; C gets where the bytes are, and a token that names
//! the guard and that a second use does not match.

use std::ffi::c_void;
use std::sync::atomic::{AtomicU64, Ordering};

use wigwag::{Error, Result, WaitMode};

use crate::boundary::{bytes, invalid};
use crate::calls::Calls;
use crate::lock::Lock;

/// Look again and again for about as long as a wake-up takes, if waits have been that short lately, then sleep.
pub const WW_WAIT_ADAPTIVE: u32 = 0;
/// Sleep at once.
pub const WW_WAIT_BLOCK: u32 = 1;
/// Never sleep: look again and again until the timeout. For threads that have a processor to themselves.
pub const WW_WAIT_POLL: u32 = 2;

pub(crate) fn wait_mode(mode: u32, noun: &'static str) -> Result<WaitMode> {
    match mode {
        WW_WAIT_ADAPTIVE => Ok(WaitMode::Adaptive),
        WW_WAIT_BLOCK => Ok(WaitMode::Block),
        WW_WAIT_POLL => Ok(WaitMode::Poll),
        _ => Err(invalid(noun, "the wait mode is one of WW_WAIT_...")),
    }
}

/// Bytes in shared memory that a call has lent, for reading or for writing in place, until they are given back by a call
/// that names how: committed, published, aborted, released. A loan is given back once; later tries are -EINVAL.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ww_loan {
    /// Where the bytes are. What others may write there at the same time, only a peer that breaks the rules does.
    pub data: *mut c_void,
    /// How many bytes.
    pub size: usize,
    /// Names the loan to the handle that gave it; nothing to do arithmetic with.
    pub token: u64,
}

/// Bytes of the caller's that a call is to read. data may be NULL where size is 0.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ww_bytes {
    pub data: *const c_void,
    pub size: usize,
}

/// So many messages are handed on at a time.
const CHUNK: usize = 64;

/// Hands messages on in chunks, without allocating, until a chunk is not taken whole; how many were taken. An error counts
/// only where it is the first chunk's; whatever stops a later one is met by the next call. `send` is told whether it may
/// wait. What is more than a chunk is counted among the handle's `calls`: it goes on after a wait.
///
/// # Safety
/// `messages` is valid for reads of `count` entries, and each entry for its bytes.
pub(crate) unsafe fn in_chunks(
    calls: &Calls,
    messages: *const ww_bytes,
    count: usize,
    mut send: impl FnMut(&[&[u8]], bool) -> Result<usize>,
) -> Result<usize> {
    if messages.is_null() && count != 0 {
        return Err(Error::from_raw(libc::EFAULT, "messages"));
    }
    // SAFETY: below `count`, as the caller promises.
    let message = |index: usize| unsafe {
        let ww_bytes { data, size } = messages.add(index).read();
        bytes(data, size)
    };
    for index in 0..count {
        message(index)?; // all are looked at before any is sent
    }
    let _ongoing = (count > CHUNK).then(|| calls.begin());
    let mut done = 0;
    while done < count {
        let mut chunk: [&[u8]; CHUNK] = [&[]; CHUNK];
        let length = CHUNK.min(count - done);
        for (offset, place) in chunk[..length].iter_mut().enumerate() {
            *place = message(done + offset)?;
        }
        match send(&chunk[..length], done == 0) {
            Ok(sent) => done += sent,
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
        if !done.is_multiple_of(CHUNK) {
            break;
        }
    }
    Ok(done)
}

/// The guards of one kind that a handle has out.
pub(crate) struct Loans<G> {
    table: Lock<Vec<Entry<G>>>,
}

struct Entry<G> {
    token: u64,
    guard: Option<G>,
}

/// The bits of a token that tell the place in a handle's table.
const PLACE_BITS: u32 = 24;

/// A number that no other loan of this process has, of whatever handle, until 2^40 have been given out.
pub(crate) fn token() -> u64 {
    static LOANS: AtomicU64 = AtomicU64::new(1);
    LOANS.fetch_add(1, Ordering::Relaxed) << PLACE_BITS
}

impl<G> Loans<G> {
    pub(crate) fn new() -> Loans<G> {
        Loans { table: Lock::new() }
    }

    /// Keeps a guard; its token.
    pub(crate) fn keep(&self, guard: G) -> u64 {
        let number = token();
        self.table.with(|table| {
            let index = table.iter().position(|entry| entry.guard.is_none()).unwrap_or_else(|| {
                table.push(Entry { token: 0, guard: None });
                table.len() - 1
            });
            let token = number | index as u64;
            table[index] = Entry { token, guard: Some(guard) };
            token
        })
    }

    /// Takes the guard back that this token names.
    pub(crate) fn take(&self, token: u64, noun: &'static str) -> Result<G> {
        let index = (token & ((1 << PLACE_BITS) - 1)) as usize;
        let found = self.table.with(|table| {
            table.get_mut(index).filter(|entry| entry.token == token).and_then(|entry| entry.guard.take())
        });
        found.ok_or_else(|| {
            invalid(noun, "no loan of this handle: it was given back already, or comes from another one")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_once() {
        let loans = Loans::new();
        let (a, b) = (loans.keep('a'), loans.keep('b'));
        assert_eq!(loans.take(a, "x").unwrap(), 'a');
        assert_eq!(loans.take(a, "x").unwrap_err().errno(), libc::EINVAL);
        let c = loans.keep('c');
        assert_eq!(loans.take(a, "x").unwrap_err().errno(), libc::EINVAL, "its place is used again, the token is not");
        assert_eq!((loans.take(c, "x").unwrap(), loans.take(b, "x").unwrap()), ('c', 'b'));
        let other = Loans::new();
        let d = loans.keep('d');
        other.keep('e');
        assert_eq!(other.take(d, "x").unwrap_err().errno(), libc::EINVAL, "another handle's");
        assert_eq!(loans.take(u64::MAX, "x").unwrap_err().errno(), libc::EINVAL);
    }
}
