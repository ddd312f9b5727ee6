//! Values written in place.

use std::ptr::NonNull;

use nix::errno::Errno;

use super::buffers::Held;
use super::{Cell, explained};
use crate::error::{Error, Result};
use crate::lender::Lender;
use crate::segment::Tag;
use crate::sys::fork;

/// Room for a value, to be written in place. Dropped without [`publish`](CellReserved::publish), nothing has happened.
pub struct CellReserved<'a> {
    cell: Lender<'a, Cell>,
    me: Tag,
    held: Option<Held>,
    /// A child made by fork has a copy of the guard, and the buffer stays the parent's.
    generation: u32,
}

impl<'a> CellReserved<'a> {
    pub(super) fn new(cell: Lender<'a, Cell>, me: Tag, held: Held) -> CellReserved<'a> {
        CellReserved { cell, me, held: Some(held), generation: fork::generation_in_handler() }
    }

    fn end(&mut self) -> Option<Held> {
        self.held.take().filter(|_| self.generation == fork::generation_in_handler())
    }

    fn not_ours(&self, operation: &'static str) -> Error {
        let error = self.cell.object.error(Errno::EPERM, operation);
        error.because("it belongs to the process that this one was forked from")
    }

    /// Bytes reserved.
    pub fn length(&self) -> usize {
        self.held.as_ref().map_or(0, |held| held.length)
    }

    /// Copies bytes into the value at this offset; what reaches beyond its length is not copied. How many were: none once
    /// this handle was declared dead, as the commit will tell.
    pub fn write(&mut self, offset: usize, bytes: &[u8]) -> usize {
        let Some(held) = self.held.as_ref().filter(|held| self.cell.core.buffers.is_still_held(held)) else { return 0 };
        let length = bytes.len().min(held.length.saturating_sub(offset));
        self.cell.core.buffers.write(held, offset, &bytes[..length]);
        length
    }

    /// Where the value's bytes lie, for writing in place; [`length`](CellReserved::length) bytes from here are the
    /// caller's until it is published or dropped. What they hold before is left over from earlier values.
    pub fn as_ptr(&self) -> *mut u8 {
        self.held.as_ref().map_or(NonNull::dangling(), |held| self.cell.core.buffers.payload(held)).as_ptr()
    }

    /// Makes it the latest value; its sequence number. Never blocks.
    ///
    /// # Errors
    /// `ESTALE` this handle was declared dead, and the room taken back; `EPERM` it was reserved by the process that this
    /// one was forked from.
    ///
    /// System call: futex, if somebody waits for a change.
    pub fn publish(mut self) -> Result<u64> {
        let Some(held) = self.end() else { return Err(self.not_ours("publish")) };
        let published = self.cell.core.buffers.publish(&held, self.me);
        published.map_err(|errno| explained(self.cell.object.error(errno, "publish")))
    }

    /// Gives the room back; the same as dropping it, but says if it could not be. Never blocks.
    ///
    /// # Errors
    /// As [`CellReserved::publish`].
    pub fn abort(mut self) -> Result<()> {
        let Some(held) = self.end() else { return Err(self.not_ours("abort")) };
        let aborted = self.cell.core.buffers.abort(&held);
        aborted.map_err(|errno| explained(self.cell.object.error(errno, "abort")))
    }
}

impl Drop for CellReserved<'_> {
    fn drop(&mut self) {
        if let Some(held) = self.end() {
            // Fails only where the room has been taken back already.
            let _ = self.cell.core.buffers.abort(&held);
        }
    }
}

impl std::fmt::Debug for CellReserved<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CellReserved").field("length", &self.length()).finish()
    }
}
