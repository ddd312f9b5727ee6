//! Memory for System V messages on their way: the kernel wants type and bytes in one piece.

use std::cell::Cell;

use nix::errno::Errno;

use super::sysv::{SysvSelect, size};
use crate::sys::SysResult;
use crate::sys::sysv_mq::{self as sys, Record};

/// A copy of a message, unless memory is short.
pub(super) fn owned(message: &[u8]) -> SysResult<Vec<u8>> {
    let mut data = Vec::new();
    data.try_reserve_exact(message.len()).map_err(|_| Errno::ENOMEM)?;
    data.extend_from_slice(message);
    Ok(data)
}

/// Room for messages of the size that systems allow by default.
pub(super) const USUAL: usize = 8192;
/// Records up to this size are kept for the next call.
pub(super) const KEPT: usize = 65536;

thread_local! {
    static SCRATCH: Cell<Record> = const { Cell::new(Record::NONE) };
}

/// The calling thread's record, so that calls do not allocate; a call inside another one finds it gone and makes its
/// own.
pub(super) struct Scratch(pub(super) Record);

impl Scratch {
    pub(super) fn take() -> Scratch {
        Scratch(SCRATCH.try_with(Cell::take).unwrap_or_default())
    }

    pub(super) fn with_room(size: usize) -> SysResult<Scratch> {
        let mut scratch = Scratch::take();
        scratch.0.reserve(size)?;
        Ok(scratch)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.0.room() <= KEPT {
            let record = std::mem::take(&mut self.0);
            let _ = SCRATCH.try_with(|kept| kept.set(record)); // gone while the thread is torn down
        }
    }
}

/// A room that a message which did not fit `room` may fit.
#[cold]
pub(super) fn larger(id: i32, room: usize) -> usize {
    let bytes = sys::status(id).map_or(0, |status| size(status.__msg_cbytes));
    bytes.max(room.saturating_mul(2))
}

/// Copies the message at `place` into `record`, which grows as needed; its size, or ENOMSG.
#[cold]
pub(super) fn look(id: i32, record: &mut Record, place: usize) -> SysResult<usize> {
    let place = libc::c_long::try_from(place).map_err(|_| Errno::ENOMSG)?;
    let mut room = record.room().max(USUAL);
    loop {
        record.reserve(room)?;
        match sys::receive(id, record, room, place, sys::MSG_COPY | libc::IPC_NOWAIT) {
            Err(Errno::E2BIG) => room = larger(id, room),
            Err(Errno::EINTR) => {}
            result => return result,
        }
    }
}

/// The size of the message that `select` picks now; ENOMSG if there is none, another error where that cannot be known.
#[cold]
pub(super) fn true_size(id: i32, select: SysvSelect) -> SysResult<usize> {
    let mut record = Record::default();
    let mut lowest = None;
    for place in 0.. {
        let size = match look(id, &mut record, place) {
            Ok(size) => size,
            Err(Errno::ENOMSG) => break,
            Err(errno) => return Err(errno),
        };
        let kind = record.kind();
        match select {
            SysvSelect::Type(wanted) if kind != wanted => {}
            SysvSelect::AllBut(unwanted) if kind == unwanted => {}
            SysvSelect::UpTo(bound) if kind > bound || lowest.is_some_and(|(lower, _)| kind >= lower) => {}
            SysvSelect::UpTo(_) => lowest = Some((kind, size)),
            _ => return Ok(size),
        }
    }
    lowest.map(|(_, size)| size).ok_or(Errno::ENOMSG)
}
