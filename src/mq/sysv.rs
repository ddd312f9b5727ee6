//! System V message queues (`sysv-mq:`): messages with a type each, picked by type.

use nix::errno::Errno;

use super::scratch::{KEPT, Scratch, USUAL, larger, look, owned, true_size};
use super::sysv_bell::Bells;
use super::sysv_errors as explain;
use super::sysv_plan::Plan;
use super::{MqAccess, ROUNDS, copy};
use crate::address::Address;
use crate::error::{Error, Result};
use crate::sys::SysResult;
use crate::sys::shared::Places;
use crate::sys::sysv_mq::{self as sys, Record};
use crate::timeout::Timeout;
use crate::wait::{Object, Operation};

/// How to open or create a queue; the default asks for nothing in particular.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SysvMqOptions {
    /// What it is for. The kernel checks the permission again with each call.
    pub access: MqAccess,
    /// Permissions of a queue that is created (the umask has no say); 0 for 0600, or what the address says.
    pub mode: u32,
    /// The most bytes that all its messages together may have; 0 for what the address says, or else the system's
    /// kernel.msgmnb. Going past that takes CAP_SYS_RESOURCE.
    pub bytes: usize,
}

/// Which message to receive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SysvSelect {
    /// The oldest.
    #[default]
    Any,
    /// The oldest of this type.
    Type(i64),
    /// The oldest of the lowest type there is, if that is not above this bound.
    UpTo(i64),
    /// The oldest of any type but this one.
    AllBut(i64),
}

/// A message in memory of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SysvMessage {
    /// Its type.
    pub kind: i64,
    /// Its bytes.
    pub data: Vec<u8>,
}

/// What was received into memory of the caller's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SysvReceived {
    /// The type of the message.
    pub kind: i64,
    /// Its true size in bytes; more than the buffer has only if it was cut on request.
    pub size: usize,
}

/// What the kernel knows about a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SysvMqStatus {
    /// Messages in it.
    pub messages: usize,
    /// Bytes in them.
    pub bytes: usize,
    /// The most bytes that it may hold (msg_qbytes).
    pub bytes_max: usize,
    /// The process that sent last, 0 if nobody has.
    pub last_sender: i32,
    /// The process that received last, 0 if nobody has.
    pub last_receiver: i32,
    /// When a message was last sent, in seconds of the wall clock, 0 for never.
    pub sent_at: i64,
    /// When a message was last received, in seconds of the wall clock, 0 for never.
    pub received_at: i64,
    /// When it was created or resized, in seconds of the wall clock.
    pub changed_at: i64,
    /// Its key, 0 if it is private.
    pub key: i32,
    /// Its permissions.
    pub mode: u32,
    /// The owning user.
    pub uid: u32,
    /// The owning group.
    pub gid: u32,
}

/// The limits of the system, and what is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SysvMqLimits {
    /// The largest message in bytes (kernel.msgmax).
    pub message_max: usize,
    /// The most bytes in a queue, for those without CAP_SYS_RESOURCE (kernel.msgmnb).
    pub bytes_max: usize,
    /// The most queues (kernel.msgmni).
    pub queues_max: usize,
    /// Queues that exist.
    pub queues: usize,
    /// Messages in all of them.
    pub messages: usize,
    /// Bytes in all of them.
    pub bytes: usize,
}

/// A System V message queue: [`send`](SysvMq::send) puts a message with a type in, [`recv`](SysvMq::recv) takes one
/// out, chosen by type.
///
/// A message is taken whole by one receiver. The queue and the messages in it outlive every process, also one that is
/// killed, until somebody [removes](SysvMq::unlink) the queue. It has nothing to close, and a descriptor only if
/// [asked for](SysvMq::doorbell): dropping the object leaves the queue as it is.
///
/// ```
/// use wigwag::{SysvMq, SysvSelect, Timeout};
/// let queue = SysvMq::create(&"sysv-mq:private".parse()?, &Default::default())?;
/// queue.send(b"routine", 5, Timeout::Now)?;
/// queue.send(b"urgent", 1, Timeout::Now)?;
/// assert_eq!(queue.recv(SysvSelect::UpTo(9), Timeout::Now)?.data, b"urgent");
/// queue.unlink()?;
/// # Ok::<(), wigwag::Error>(())
/// ```
#[doc(alias = "msgget")]
pub struct SysvMq {
    pub(super) object: Object,
    pub(super) id: i32,
    pub(super) bells: Bells,
}

impl SysvMq {
    /// Opens a queue that exists. Never blocks.
    ///
    /// # Errors
    /// `ENOENT` there is none, or the file that its key is derived from does not exist; `EACCES` its mode does not
    /// allow the access asked for; `EEXIST` it may hold another number of bytes than asked for (looked at for up to
    /// 0.1 s if it has just been created, unless cancelled); `EINVAL` the address is not one of a System V queue with a key.
    ///
    /// System calls: stat (by ftok), msgget, msgctl if `bytes` is given.
    pub fn open(address: &Address, options: &SysvMqOptions) -> Result<SysvMq> {
        let plan = Plan::new(address, options)?;
        if plan.key.is_none() {
            return Err(plan.object.error(Errno::EINVAL, "msgget").because(
                "a private queue cannot be opened by its name, only created; pass its id on, and adopt that",
            ));
        }
        let id = plan.get(false).map_err(|errno| explain::open(&plan.object, errno, plan.access))?;
        plan.opened(id)
    }

    /// Creates a queue, which must not exist yet. Never blocks. `private` creates one without a key each time.
    ///
    /// # Errors
    /// `EEXIST` it exists; `ENOSPC` the system has no room for one more queue; `EPERM` it may not hold that many bytes;
    /// `ENOENT` the file that the key is derived from does not exist; `EINVAL` as with [`SysvMq::open`].
    ///
    /// System calls: stat (by ftok), msgget, msgctl if `bytes` is given.
    pub fn create(address: &Address, options: &SysvMqOptions) -> Result<SysvMq> {
        let plan = Plan::new(address, options)?;
        let id = plan.get(true).map_err(|errno| explain::open(&plan.object, errno, plan.access))?;
        plan.created(id)
    }

    /// Opens a queue, or creates it if it does not exist. Never blocks. Errors and system calls: as [`SysvMq::open`]
    /// and [`SysvMq::create`].
    pub fn open_or_create(address: &Address, options: &SysvMqOptions) -> Result<SysvMq> {
        let plan = Plan::new(address, options)?;
        if plan.key.is_none() {
            return Self::create(address, options);
        }
        for _ in 0..ROUNDS {
            match plan.get(false) {
                Ok(id) => return plan.opened(id),
                Err(Errno::ENOENT) => {}
                Err(errno) => return Err(explain::open(&plan.object, errno, plan.access)),
            }
            match plan.get(true) {
                Ok(id) => return plan.created(id),
                Err(Errno::EEXIST) => {}
                Err(errno) => return Err(explain::open(&plan.object, errno, plan.access)),
            }
        }
        Err(plan
            .object
            .error(Errno::EBUSY, "msgget")
            .because("others create and remove it faster than it can be opened"))
    }

    /// Takes over a queue by its id, as another process has passed it on. Never blocks.
    ///
    /// # Errors
    /// `EIDRM` there is no queue with this id (any more); `EACCES` its mode does not allow this user to read it.
    ///
    /// System call: msgctl.
    pub fn from_id(id: i32) -> Result<SysvMq> {
        let unnamed = Object::new("sysv-mq:private");
        let status = sys::status(id).map_err(|errno| explain::call(unnamed.error(errno, "msgctl"), "look at it"))?;
        let object = match sys::key(&status) {
            0 => unnamed,
            key => Object::new(format!("sysv-mq:0x{key:x}")),
        };
        Ok(SysvMq { object, id, bells: Bells::default() })
    }

    /// Removes a queue by its address, with all messages in it. Waits on it end with `EIDRM`. Never blocks.
    ///
    /// # Errors
    /// `ENOENT` there is none; `EPERM` it belongs to another user.
    ///
    /// System calls: stat (by ftok), msgget, msgctl.
    pub fn remove(address: &Address) -> Result<()> {
        let plan = Plan::new(address, &SysvMqOptions::default())?;
        let id = plan
            .key
            .map_or(Err(Errno::EINVAL), |key| sys::get(Some(key), 0))
            .map_err(|errno| explain::open(&plan.object, errno, plan.access))?;
        SysvMq { object: plan.object, id, bells: Bells::default() }.unlink()
    }

    /// Puts a message in the queue, with a type of 1 or more; waits while the queue is full. A message may be empty.
    ///
    /// # Errors
    /// `EMSGSIZE` it is larger than the system or the queue allows, however long one waits; `EINVAL` the type is below
    /// 1; `EIDRM` the queue was removed; `EACCES` its mode does not let this user send; `ENOMEM` the kernel is out of
    /// memory; `EAGAIN`, `ETIMEDOUT`, `ECANCELED` as everywhere, with nothing sent.
    ///
    /// System call: msgsnd.
    #[inline]
    pub fn send(&self, bytes: &[u8], kind: i64, timeout: Timeout) -> Result<()> {
        let number = libc::c_long::try_from(kind);
        if let Ok(kind @ 1..) = number
            && sys::send_small(self.id, kind, bytes).is_ok()
        {
            return Ok(());
        }
        let mut operation = self.object.operation("send", timeout);
        let kind = match number {
            Ok(kind) if kind > 0 => kind,
            _ => return Err(operation.error(Errno::EINVAL).because("the type of a message is a number from 1")),
        };
        if bytes.len() > KEPT && explain::exceeds_message_max(bytes.len()) {
            return Err(explain::too_large(operation.error(Errno::EMSGSIZE), self.id, bytes.len()));
        }
        let (id, size) = (self.id, bytes.len());
        let mut record = Scratch::with_room(size).map_err(|errno| operation.error(errno))?;
        record.0.fill(kind, bytes);
        let attempt = || match sys::send(id, &record.0, size, libc::IPC_NOWAIT) {
            Err(Errno::EAGAIN) if explain::exceeds_queue(id, size) => Err(Errno::EMSGSIZE),
            result => result,
        };
        operation
            .in_call(attempt, |_| sys::send(id, &record.0, size, 0))
            .map_err(|error| explain::send(error, id, size))
    }

    /// Takes a message out of the queue; waits until there is one of the wanted kind.
    ///
    /// # Errors
    /// `EIDRM` the queue was removed; `EACCES` its mode does not let this user receive; `EINVAL` the type to select is
    /// below 1; `ENOMEM` no memory for the message, which stays, or if it was out already goes back behind the others
    /// (lost only if there is no room for it any more; the text says which); `EAGAIN`, `ETIMEDOUT`, `ECANCELED` as
    /// everywhere.
    ///
    /// System call: msgrcv.
    pub fn recv(&self, select: SysvSelect, timeout: Timeout) -> Result<SysvMessage> {
        let mut operation = self.object.operation("recv", timeout);
        let mut record = Scratch::take();
        let received = self.receive(&mut operation, &mut record.0, usize::MAX, select)?;
        let data = owned(record.0.bytes(received.size)).map_err(|errno| {
            let back = sys::send(self.id, &record.0, received.size, libc::IPC_NOWAIT).is_ok();
            operation.error(errno).because(if back {
                "no memory is left to hand over the message, which is in the queue again, behind the others"
            } else {
                "no memory is left to hand over the message, which is lost"
            })
        })?;
        Ok(SysvMessage { kind: received.kind, data })
    }

    /// As [`SysvMq::recv`], into memory of the caller's.
    ///
    /// # Errors
    /// As [`SysvMq::recv`], and `EMSGSIZE` the message is larger than the buffer: it stays in the queue, and
    /// [`Error::true_size`] is its size, or 0 where the kernel does not tell.
    #[inline]
    pub fn recv_into(&self, select: SysvSelect, buffer: &mut [u8], timeout: Timeout) -> Result<SysvReceived> {
        if let Some((kind, flags)) = select.as_kernel_has_it()
            && let Ok((kind, size)) = sys::receive_small(self.id, buffer, kind, flags)
        {
            return Ok(SysvReceived { kind, size });
        }
        let mut operation = self.object.operation("recv", timeout);
        let mut record = Scratch::take();
        let received = self.receive(&mut operation, &mut record.0, buffer.len(), select)?;
        copy(record.0.bytes(received.size), buffer);
        Ok(received)
    }

    /// As [`SysvMq::recv_into_cut`] without waiting, into a place in shared memory, where it is as soon as the queue does not
    /// have it. Behind `skip` bytes, in which there is room for the type.
    pub(crate) fn recv_in_place(&self, places: &Places, place: u64, skip: usize) -> SysResult<()> {
        match sys::receive_in_place(self.id, places, place, skip) {
            Err(Errno::ENOMSG) => Err(Errno::EAGAIN),
            received => received.map(drop),
        }
    }

    /// As [`SysvMq::recv_into`], but takes a message that is larger than the buffer all the same and drops what does
    /// not fit; the true size is in the result. Errors: as [`SysvMq::recv`].
    pub fn recv_into_cut(&self, select: SysvSelect, buffer: &mut [u8], timeout: Timeout) -> Result<SysvReceived> {
        let mut operation = self.object.operation("recv", timeout);
        let mut record = Scratch::take();
        let received = self.receive(&mut operation, &mut record.0, usize::MAX, select)?;
        copy(record.0.bytes(received.size), buffer);
        Ok(received)
    }

    /// A copy of the message at a place in the queue, 0 for the oldest, which stays where it is. Never blocks.
    ///
    /// # Errors
    /// `EAGAIN` there is no message at this place; `ENOTSUP` the kernel is built without CONFIG_CHECKPOINT_RESTORE;
    /// `EIDRM`, `EACCES`, `ENOMEM` as [`SysvMq::recv`].
    ///
    /// System call: msgrcv with MSG_COPY.
    pub fn peek(&self, place: usize) -> Result<SysvMessage> {
        let mut record = Scratch::take();
        look(self.id, &mut record.0, place)
            .and_then(|size| Ok(SysvMessage { kind: record.0.kind(), data: owned(record.0.bytes(size))? }))
            .map_err(|errno| explain::peek(&self.object, errno, self.id))
    }

    /// As [`SysvMq::peek`], into memory of the caller's. Never blocks.
    ///
    /// # Errors
    /// As [`SysvMq::peek`], and `EMSGSIZE` the message is larger than the buffer; [`Error::true_size`] is its size.
    pub fn peek_into(&self, place: usize, buffer: &mut [u8]) -> Result<SysvReceived> {
        let mut record = Scratch::take();
        let size = look(self.id, &mut record.0, place).map_err(|errno| explain::peek(&self.object, errno, self.id))?;
        if size > buffer.len() {
            return Err(explain::buffer(self.object.error(Errno::EMSGSIZE, "peek"), buffer.len(), size));
        }
        copy(record.0.bytes(size), buffer);
        Ok(SysvReceived { kind: record.0.kind(), size })
    }

    /// Takes a message of at most `most` bytes into `record`, which grows as needed.
    fn receive(
        &self,
        operation: &mut Operation<'_>,
        record: &mut Record,
        most: usize,
        select: SysvSelect,
    ) -> Result<SysvReceived> {
        let Some((kind, flags)) = select.as_kernel_has_it() else {
            return Err(operation.error(Errno::EINVAL).because("types of messages are numbers from 1"));
        };
        let id = self.id;
        let mut room = record.room().max(USUAL).min(most);
        loop {
            record.reserve(room).map_err(|errno| operation.error(errno))?;
            let (record, room_now) = (&*record, room);
            let attempt = || match sys::receive(id, record, room_now, kind, flags | libc::IPC_NOWAIT) {
                Err(Errno::ENOMSG) => {
                    self.bells.found_nothing(select);
                    Err(Errno::EAGAIN)
                }
                result => result,
            };
            match operation.in_call(attempt, |_| sys::receive(id, record, room_now, kind, flags)) {
                Ok(size) => return Ok(SysvReceived { kind: record.kind(), size }),
                Err(error) if error.is(Errno::E2BIG) && room < most => room = larger(id, room).min(most),
                // The kernel tells all who wait of a message that is too large for them, and one with more room takes it.
                Err(error) if error.is(Errno::E2BIG) => match true_size(id, select) {
                    Err(Errno::ENOMSG) => self.go_on(operation)?,
                    Ok(size) if size <= most => self.go_on(operation)?,
                    size => return Err(explain::buffer(operation.error(Errno::EMSGSIZE), most, size.unwrap_or(0))),
                },
                Err(error) => return Err(explain::call(error, "receive")),
            }
        }
    }

    /// After a message that somebody else has taken: unless the wait is over. Nobody tries for ever, as each time another
    /// message has gone.
    #[cold]
    fn go_on(&self, operation: &mut Operation<'_>) -> Result<()> {
        match operation.timeout() {
            Timeout::Now => Ok(()), // the next attempt tells
            _ => operation.wait().check().map_err(|errno| operation.error(errno)),
        }
    }

    /// What the kernel knows about it. Never blocks.
    ///
    /// # Errors
    /// `EIDRM` it was removed; `EACCES` its mode does not let this user read it.
    ///
    /// System call: msgctl.
    pub fn status(&self) -> Result<SysvMqStatus> {
        let status =
            sys::status(self.id).map_err(|errno| explain::call(self.object.error(errno, "status"), "look at it"))?;
        Ok(SysvMqStatus {
            messages: size(status.msg_qnum),
            bytes: size(status.__msg_cbytes),
            bytes_max: size(status.msg_qbytes),
            last_sender: status.msg_lspid,
            last_receiver: status.msg_lrpid,
            sent_at: seconds(status.msg_stime),
            received_at: seconds(status.msg_rtime),
            changed_at: seconds(status.msg_ctime),
            key: sys::key(&status),
            mode: u32::from(status.msg_perm.mode) & 0o777,
            uid: status.msg_perm.uid,
            gid: status.msg_perm.gid,
        })
    }

    /// The limits of the system (of the IPC namespace, to be exact), and what is in use. Never blocks.
    ///
    /// # Errors
    /// `ENOSYS` the kernel is built without System V IPC.
    ///
    /// System calls: msgctl, twice.
    pub fn limits() -> Result<SysvMqLimits> {
        let failed = |errno| Error::new(errno, "msgctl").on_text("sysv-mq:");
        let (limits, usage) = (sys::limits().map_err(failed)?, sys::usage().map_err(failed)?);
        Ok(SysvMqLimits {
            message_max: size(limits.msgmax),
            bytes_max: size(limits.msgmnb),
            queues_max: size(limits.msgmni),
            queues: size(usage.msgpool),
            messages: size(usage.msgmap),
            bytes: size(usage.msgtql),
        })
    }

    /// Changes how many bytes the messages in it may have together; those in it stay. Never blocks.
    ///
    /// # Errors
    /// `EPERM` it belongs to another user, or the number is above kernel.msgmnb; `EINVAL` it is zero; `EIDRM` it was
    /// removed; `EACCES` its mode does not let this user read it.
    ///
    /// System calls: msgctl, twice (the kernel sets owner and mode in the same call).
    pub fn resize(&self, bytes: usize) -> Result<()> {
        let failed = |errno| explain::resize(&self.object, errno, bytes);
        if bytes == 0 {
            return Err(failed(Errno::EINVAL));
        }
        let status = sys::status(self.id).map_err(failed)?;
        let owner = (status.msg_perm.uid, status.msg_perm.gid);
        sys::set(self.id, owner, status.msg_perm.mode.into(), bytes).map_err(failed)
    }

    /// Removes the queue with all messages in it. Waits on it, in every process, end with `EIDRM`. Never blocks.
    ///
    /// # Errors
    /// `EIDRM` it was removed before; `EPERM` it belongs to another user.
    ///
    /// System call: msgctl.
    pub fn unlink(&self) -> Result<()> {
        sys::remove(self.id).map_err(|errno| explain::remove(&self.object, errno, self.id))
    }

    /// The kernel's number of the queue, by which other processes can adopt it.
    pub fn id(&self) -> i32 {
        self.id
    }

    /// Its address.
    pub fn address(&self) -> &str {
        self.object.address()
    }

    /// Ends the waits of all threads of this process on this object with `ECANCELED`, now and later; returns when they
    /// have left.
    pub fn end_waits(&self) {
        self.object.end_waits();
    }
}

impl std::fmt::Debug for SysvMq {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SysvMq").field("address", &self.address()).field("id", &self.id).finish()
    }
}

impl SysvSelect {
    /// The type and the flags of msgrcv.
    pub(super) fn as_kernel_has_it(self) -> Option<(libc::c_long, libc::c_int)> {
        let kind = |number| libc::c_long::try_from(number).ok().filter(|kind| *kind > 0);
        Some(match self {
            SysvSelect::Any => (0, 0),
            SysvSelect::Type(number) => (kind(number)?, 0),
            SysvSelect::UpTo(bound) => (-kind(bound)?, 0),
            SysvSelect::AllBut(number) => (kind(number)?, libc::MSG_EXCEPT),
        })
    }
}

/// A number of the kernel's, whose type differs from place to place.
pub(super) fn size(number: impl TryInto<usize>) -> usize {
    number.try_into().unwrap_or(usize::MAX)
}

pub(super) fn seconds(time: impl Into<i64>) -> i64 {
    time.into()
}
