//! Where messages of unknown size are received, before they get memory of their own: one place for each thread.

use std::cell::Cell;

use nix::errno::Errno;

use crate::sys::SysResult;

/// Room for most messages.
const USUAL: usize = 4096;

thread_local! {
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The thread's memory, or some that is new; `ENOMEM` if there is none.
pub(super) fn taken() -> SysResult<Vec<u8>> {
    let mut data = SCRATCH.try_with(Cell::take).unwrap_or_default(); // absent only while the thread ends
    if data.is_empty() {
        data.try_reserve_exact(USUAL).map_err(|_| Errno::ENOMEM)?;
        data.resize(USUAL, 0);
    }
    Ok(data)
}

/// Keeps memory for the next message of this thread, unless it is much.
pub(super) fn keep(data: Vec<u8>) {
    if data.len() == USUAL {
        let _ = SCRATCH.try_with(|scratch| scratch.set(data)); // the thread ends: nobody needs it
    }
}

/// The first bytes of `data`: in as much memory as they need, since they may be kept for long, or in all there is.
pub(super) fn handed_over(mut data: Vec<u8>, length: usize) -> Vec<u8> {
    let mut own = Vec::new();
    if data.len() > USUAL || own.try_reserve_exact(length).is_err() {
        data.truncate(length);
        return data;
    }
    own.extend_from_slice(&data[..length]);
    keep(data);
    own
}
