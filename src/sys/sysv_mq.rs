//! System V message queues: msgget, msgsnd, msgrcv, msgctl.

use std::cell::Cell;
use std::mem::MaybeUninit;
use std::ptr;

use nix::errno::Errno;

use super::shared::Places;
use super::{SysResult, check, direct};

/// The kernel's answers about all queues of the IPC namespace.
pub(crate) use libc::msginfo as Info;
/// The kernel's answers about one queue.
pub(crate) use libc::msqid_ds as Status;

/// Receiving copies the message at a place instead of taking one; with CONFIG_CHECKPOINT_RESTORE only.
pub(crate) const MSG_COPY: libc::c_int = 0o40000;
const IPC_INFO: libc::c_int = 3;

const HEAD: usize = size_of::<libc::c_long>();

/// One message as the kernel wants it in memory: its type, then its bytes, in one piece.
///
/// Made of cells, so that the two forms of one call, that which waits and that which does not, can share it.
#[derive(Default)]
pub(crate) struct Record(Vec<Cell<libc::c_long>>);

impl Record {
    /// One without room.
    pub(crate) const NONE: Record = Record(Vec::new());

    /// How many bytes of a message it has room for.
    pub(crate) fn room(&self) -> usize {
        (self.0.len() * HEAD).saturating_sub(HEAD)
    }

    /// Makes room for messages of at least `size` bytes.
    pub(crate) fn reserve(&mut self, size: usize) -> SysResult<()> {
        let words = size.div_ceil(HEAD) + 1;
        let missing = words.saturating_sub(self.0.len());
        self.0.try_reserve_exact(missing).map_err(|_| Errno::ENOMEM)?;
        self.0.extend((0..missing).map(|_| Cell::new(0)));
        Ok(())
    }

    /// Puts a message in, which must fit the room.
    #[inline]
    pub(crate) fn fill(&mut self, kind: libc::c_long, bytes: &[u8]) {
        let room = self.room();
        let Some((first, rest)) = self.0.split_first_mut() else { return };
        first.set(kind);
        // SAFETY: `room` bytes lie behind the first word, borrowed exclusively here, and no more are written.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), rest.as_mut_ptr().cast::<u8>(), bytes.len().min(room)) };
    }

    /// The type of the message in it.
    pub(crate) fn kind(&self) -> i64 {
        fn wide(kind: impl Into<i64>) -> i64 {
            kind.into() // the same type on 64-bit machines
        }
        self.0.first().map_or(0, |kind| wide(kind.get()))
    }

    /// The first `size` bytes of the message in it; no more than there is room for.
    pub(crate) fn bytes(&mut self, size: usize) -> &[u8] {
        let size = size.min(self.room());
        let Some((_, rest)) = self.0.split_first_mut() else { return &[] };
        // SAFETY: `size` initialised bytes lie behind the first word, and `&mut self` keeps everybody else from
        // changing them while the slice lives.
        unsafe { std::slice::from_raw_parts(rest.as_ptr().cast::<u8>(), size) }
    }
}

/// msgget; `None` is IPC_PRIVATE.
pub(crate) fn get(key: Option<i32>, flags: libc::c_int) -> SysResult<libc::c_int> {
    // SAFETY: takes numbers only.
    check(unsafe { libc::msgget(key.unwrap_or(libc::IPC_PRIVATE), flags) })
}

/// msgsnd of the first `size` bytes.
#[inline]
pub(crate) fn send(id: libc::c_int, record: &Record, size: usize, flags: libc::c_int) -> SysResult<()> {
    let size = size.min(record.room());
    if record.0.is_empty() {
        return Err(Errno::EFAULT); // its pointer dangles
    }
    let start = record.0.as_ptr();
    // SAFETY: the record holds a type and at least `size` bytes in one piece, and is only read, during the call.
    unsafe {
        if flags & libc::IPC_NOWAIT != 0 {
            let (id, flags) = (id as usize, flags as usize);
            return direct::call6(libc::SYS_msgsnd, id, start as usize, size, flags, 0, 0).map(drop);
        }
        check(libc::msgsnd(id, start.cast(), size, flags)).map(drop)
    }
}

/// msgrcv of the message that `select` and `flags` pick, if it has at most `room` bytes; its size.
#[inline]
pub(crate) fn receive(
    id: libc::c_int,
    record: &Record,
    room: usize,
    select: libc::c_long,
    flags: libc::c_int,
) -> SysResult<usize> {
    if record.0.is_empty() {
        return Err(Errno::EFAULT); // its pointer dangles
    }
    let (start, room) = (record.0.as_ptr().cast_mut(), record.room().min(room));
    // SAFETY: the kernel writes a type and at most `room` bytes into the record, during the call only; its words are
    // cells, which may be written through a shared borrow, and Record is not Sync, so nobody else looks meanwhile.
    unsafe {
        if flags & libc::IPC_NOWAIT != 0 {
            let (id, select, flags) = (id as usize, select as usize, flags as usize);
            return direct::call6(libc::SYS_msgrcv, id, start as usize, room, select, flags, 0);
        }
        check(libc::msgrcv(id, start.cast(), room, select, flags)).map(|size| size.cast_unsigned())
    }
}

/// Messages of up to this many bytes pass through the stack on the way that does not wait.
pub(crate) const SMALL: usize = 8192;

/// A type and a small message, without values until they are written.
type SmallRecord = [MaybeUninit<libc::c_long>; 1 + SMALL / HEAD];

/// msgrcv of the oldest message into a place in shared memory, from this offset on, which does not wait: in front of it there
/// is the type. What does not fit is cut. Its size, or ENOMSG.
pub(crate) fn receive_in_place(id: libc::c_int, places: &Places, place: u64, skip: usize) -> SysResult<usize> {
    let (start, room) = places.span(place, skip.checked_sub(HEAD).ok_or(Errno::EINVAL)?);
    let room = room.checked_sub(HEAD).ok_or(Errno::EINVAL)?;
    let flags = (libc::IPC_NOWAIT | libc::MSG_NOERROR) as usize;
    // SAFETY: the kernel writes a type and at most `room` bytes behind it, all of which lies in the mapping that `places`
    // keeps, which is reached through atomics and copies only.
    unsafe { direct::call6(libc::SYS_msgrcv, id as usize, start.as_ptr() as usize, room, 0, flags, 0) }
}

/// msgsnd of a message of at most [`SMALL`] bytes, which does not wait; EINVAL if it is larger.
#[inline]
pub(crate) fn send_small(id: libc::c_int, kind: libc::c_long, bytes: &[u8]) -> SysResult<()> {
    if bytes.len() > SMALL {
        return Err(Errno::EINVAL);
    }
    let mut record: SmallRecord = [const { MaybeUninit::uninit() }; 1 + SMALL / HEAD];
    record[0].write(kind);
    // SAFETY: behind the first word there is room for SMALL bytes, and no more are written. The kernel reads the type and
    // the bytes written, during the call.
    unsafe {
        ptr::copy_nonoverlapping(bytes.as_ptr(), record.as_mut_ptr().add(1).cast::<u8>(), bytes.len());
        let (start, flags) = (record.as_ptr() as usize, libc::IPC_NOWAIT as usize);
        direct::call6(libc::SYS_msgsnd, id as usize, start, bytes.len(), flags, 0, 0).map(drop)
    }
}

/// msgrcv of a message of at most [`SMALL`] bytes that fits the buffer, which does not wait; its type and size.
#[inline]
pub(crate) fn receive_small(
    id: libc::c_int,
    buffer: &mut [u8],
    select: libc::c_long,
    flags: libc::c_int,
) -> SysResult<(i64, usize)> {
    let mut record: SmallRecord = [const { MaybeUninit::uninit() }; 1 + SMALL / HEAD];
    let room = buffer.len().min(SMALL);
    // SAFETY: the kernel writes the type into the first word and at most `room` bytes behind it, and says how many; only
    // those are read, and as many fit the buffer.
    unsafe {
        let (start, flags) = (record.as_mut_ptr() as usize, (flags | libc::IPC_NOWAIT) as usize);
        let size = direct::call6(libc::SYS_msgrcv, id as usize, start, room, select as usize, flags, 0)?.min(room);
        ptr::copy_nonoverlapping(record.as_ptr().add(1).cast::<u8>(), buffer.as_mut_ptr(), size);
        Ok((record[0].assume_init(), size))
    }
}

/// msgctl with IPC_STAT.
pub(crate) fn status(id: libc::c_int) -> SysResult<Status> {
    let mut status = MaybeUninit::<Status>::zeroed();
    // SAFETY: the kernel fills a live local of the right type, for which zeros are valid too.
    unsafe {
        check(libc::msgctl(id, libc::IPC_STAT, status.as_mut_ptr()))?;
        Ok(status.assume_init())
    }
}

/// The key of a queue, 0 if it is private.
pub(crate) fn key(status: &Status) -> i32 {
    // The field's name differs between C libraries, its place does not.
    // SAFETY: a key_t is the first field of every Linux `ipc_perm`.
    unsafe { *ptr::from_ref(&status.msg_perm).cast::<libc::key_t>() }
}

/// msgctl with IPC_SET: owner and mode, and the bytes that the queue may hold.
pub(crate) fn set(id: libc::c_int, owner: (u32, u32), mode: u32, bytes: usize) -> SysResult<()> {
    // SAFETY: plain data for which zeros are valid.
    let mut status: Status = unsafe { std::mem::zeroed() };
    (status.msg_perm.uid, status.msg_perm.gid) = owner;
    status.msg_perm.mode = mode as _;
    status.msg_qbytes = bytes as _;
    // SAFETY: the kernel only reads the structure, during the call.
    check(unsafe { libc::msgctl(id, libc::IPC_SET, &raw mut status) }).map(drop)
}

/// msgctl with IPC_RMID.
pub(crate) fn remove(id: libc::c_int) -> SysResult<()> {
    // SAFETY: this command takes no structure.
    check(unsafe { libc::msgctl(id, libc::IPC_RMID, ptr::null_mut()) }).map(drop)
}

/// msgctl with IPC_INFO: the limits of the system.
pub(crate) fn limits() -> SysResult<Info> {
    info(IPC_INFO)
}

/// msgctl with MSG_INFO: what is in use, with queues in `msgpool`, messages in `msgmap`, bytes in `msgtql`.
pub(crate) fn usage() -> SysResult<Info> {
    info(libc::MSG_INFO)
}

fn info(command: libc::c_int) -> SysResult<Info> {
    let mut info = MaybeUninit::<Info>::zeroed();
    // SAFETY: for these commands the kernel takes the pointer as one to a msginfo, here a live local, and fills it.
    unsafe {
        check(libc::msgctl(0, command, info.as_mut_ptr().cast()))?;
        Ok(info.assume_init())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_keeps_a_message() {
        let mut record = Record::default();
        assert_eq!((record.room(), record.kind(), record.bytes(9).len()), (0, 0, 0));
        record.reserve(3).unwrap();
        assert!(record.room() >= 3);
        record.fill(7, b"abc");
        assert_eq!((record.kind(), record.bytes(3)), (7, &b"abc"[..]));
        let room = record.room();
        assert_eq!(record.bytes(usize::MAX).len(), room);
        record.fill(1, &vec![1; 1000]);
        assert_eq!(record.room(), room, "no more than fits is written");
        assert_eq!(record.reserve(usize::MAX / 2), Err(Errno::ENOMEM));
    }

    #[test]
    fn nothing_but_numbers_reaches_the_kernel_unchecked() {
        assert_eq!(send(0, &Record::default(), 5, 0), Err(Errno::EFAULT));
        assert_eq!(receive(0, &Record::default(), 5, 0, 0), Err(Errno::EFAULT));
        assert_eq!(status(-1).err(), Some(Errno::EINVAL));
        assert_eq!(remove(-1), Err(Errno::EINVAL));
        assert!(limits().unwrap().msgmax > 0);
        assert!(usage().is_ok());
    }
}
