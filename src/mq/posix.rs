//! POSIX message queues (`mq:`): the highest priority first, on a descriptor that can be polled.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mqueue::mq_unlink;
use nix::poll::PollFlags;
use nix::sys::stat::{Mode, fchmod};
use nix::sys::uio::pread;

use super::limits::explain_open;
use super::{MqAccess, MqLimits, PRIVATE, ROUNDS, copy};
use crate::address::{Address, Scheme};
use crate::error::{Error, Result};
use crate::paths::name_of;
use crate::sys::SysResult;
use crate::sys::mq::{self as sys, Shape, Unwaiting};
use crate::sys::shared::Places;
use crate::timeout::Timeout;
use crate::wait::{Object, Operation};

/// The highest priority that a message can have.
pub const MQ_PRIORITY_MAX: u32 = 32767;

/// How to open or create a queue; the default asks for nothing in particular.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MqOptions {
    /// What it is for.
    pub access: MqAccess,
    /// Permissions of a queue that is created, set against the umask; 0 for 0600, or what the address says.
    pub mode: u32,
    /// How many messages it holds; 0 for what the address says, or else the system's fs.mqueue.msg_default.
    pub depth: usize,
    /// The largest message in bytes; 0 for what the address says, or else the system's fs.mqueue.msgsize_default.
    pub size: usize,
}

/// A message in memory of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MqMessage {
    /// Its priority.
    pub priority: u32,
    /// Its bytes.
    pub data: Vec<u8>,
}

/// What was received into memory of the caller's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MqReceived {
    /// The priority of the message.
    pub priority: u32,
    /// Its true size in bytes; more than the buffer has only if it was cut on request.
    pub size: usize,
}

/// What a queue was created with, and what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MqAttributes {
    /// How many messages it holds.
    pub depth: usize,
    /// The largest message in bytes.
    pub size: usize,
    /// Messages in it now.
    pub messages: usize,
}

/// A POSIX message queue: [`send`](Mq::send) puts a message with a priority in, [`recv`](Mq::recv) takes out the oldest
/// of the highest priority.
///
/// A message is taken whole by one receiver. The queue and the messages in it outlive every process, also one that is
/// killed; its name stays until somebody [unlinks](Mq::remove) it, and the queue until the last descriptor is closed
/// as well. Level-triggered: the descriptor polls readable while a message is in it, writable while there is room.
///
/// ```
/// use wigwag::{Mq, MqOptions, Timeout};
/// let address = format!("mq:/wigwag-example-{}", std::process::id()).parse()?;
/// let queue = Mq::create(&address, &MqOptions { depth: 4, size: 64, ..Default::default() })?;
/// queue.send(b"routine", 0, Timeout::Now)?;
/// queue.send(b"urgent", 9, Timeout::Now)?;
/// assert_eq!(queue.recv(Timeout::Now)?.data, b"urgent");
/// Mq::remove(&address)?;
/// # Ok::<(), wigwag::Error>(())
/// ```
#[doc(alias = "mq_open")]
pub struct Mq {
    object: Object,
    fd: OwnedFd,
    /// A queue that we opened is in non-blocking mode; the mode of an adopted one is not ours.
    unwaiting: Unwaiting,
    /// The largest message, which never changes in the life of a queue; 0 while it has not been asked for.
    size: AtomicUsize,
}

impl Mq {
    /// Opens a queue that exists. Never blocks.
    ///
    /// # Errors
    /// `ENOENT` there is none; `EACCES` its mode does not allow the access asked for; `EEXIST` its depth or size is
    /// another than asked for; `EMFILE`, `ENFILE` no descriptor is left; `EINVAL` the address is not one of a POSIX
    /// queue.
    ///
    /// System calls: mq_open, with O_NONBLOCK and O_CLOEXEC; mq_getattr if depth or size is given.
    pub fn open(address: &Address, options: &MqOptions) -> Result<Mq> {
        let plan = Plan::new(address, options)?;
        let fd = plan.open().map_err(|errno| plan.explain(errno))?;
        plan.opened(fd)
    }

    /// Creates a queue, whose name must not exist yet. Never blocks.
    ///
    /// # Errors
    /// `EEXIST` it exists; `EINVAL` depth or size is beyond what the system allows; `ENOSPC` the system has no room for
    /// one more queue; `EMFILE` the user's queues would take more than RLIMIT_MSGQUEUE, or no descriptor is left;
    /// `ENOMEM` no memory.
    ///
    /// System calls: mq_open, with O_NONBLOCK and O_CLOEXEC; fchmod.
    pub fn create(address: &Address, options: &MqOptions) -> Result<Mq> {
        let plan = Plan::new(address, options)?;
        let fd = plan.create().map_err(|errno| plan.explain(errno))?;
        plan.created(fd)
    }

    /// Opens a queue, or creates it if it does not exist. Never blocks. Errors and system calls: as [`Mq::open`] and
    /// [`Mq::create`].
    pub fn open_or_create(address: &Address, options: &MqOptions) -> Result<Mq> {
        let plan = Plan::new(address, options)?;
        for _ in 0..ROUNDS {
            match plan.open() {
                Ok(fd) => return plan.opened(fd),
                Err(Errno::ENOENT) => {}
                Err(errno) => return Err(plan.explain(errno)),
            }
            match plan.create() {
                Ok(fd) => return plan.created(fd),
                Err(Errno::EEXIST) => {}
                Err(errno) => return Err(plan.explain(errno)),
            }
        }
        Err(plan
            .object
            .error(Errno::EBUSY, "mq_open")
            .because("others create and unlink it faster than it can be opened"))
    }

    /// Takes over a descriptor that something else has opened. Never blocks; its mode is left as it is.
    ///
    /// That it is a queue is found out in use: all calls on anything else fail with `EBADF`.
    pub fn from_fd(fd: OwnedFd) -> Mq {
        // The kernel shows a queue under its name, wherever the file system of queues is mounted, if anywhere.
        let name = name_of(fd.as_fd()).unwrap_or_default();
        let name = name.to_str().unwrap_or_default().rsplit('/').next().unwrap_or_default();
        let address = Address::from_parts(Scheme::Mq, format!("/{name}"), None, []);
        let object = Object::new(address.map_or("mq:".into(), |address| address.to_string()));
        Mq { object, fd, unwaiting: Unwaiting::ByTime, size: AtomicUsize::new(0) }
    }

    /// Removes the name of a queue; those who have it open go on. Never blocks.
    ///
    /// # Errors
    /// `ENOENT` there is none; `EACCES` it belongs to another user.
    ///
    /// System call: mq_unlink.
    pub fn remove(address: &Address) -> Result<()> {
        address.require(&[Scheme::Mq], "mq_unlink")?;
        mq_unlink(address.name()).map_err(|errno| {
            let error = Error::new(errno, "mq_unlink").on_text(address.without_options().to_string());
            match errno {
                Errno::ENOENT => error.because("no queue has this name"),
                Errno::EACCES => error.because("the queue belongs to another user; only its owner can unlink it"),
                _ => error,
            }
        })
    }

    /// Puts a message in the queue, with a priority up to [`MQ_PRIORITY_MAX`]; waits while the queue is full. A message
    /// may be empty.
    ///
    /// # Errors
    /// `EMSGSIZE` it is larger than the queue allows; `EINVAL` the priority is too high; `EBADF` the queue is open for
    /// receiving only; `ENOMEM` the kernel is out of memory; `EAGAIN`, `ETIMEDOUT`, `ECANCELED` as everywhere, with
    /// nothing sent.
    ///
    /// System call: mq_timedsend.
    #[inline]
    pub fn send(&self, bytes: &[u8], priority: u32, timeout: Timeout) -> Result<()> {
        let mut operation = self.object.operation("send", timeout);
        operation
            .until_ready(self.fd.as_fd(), PollFlags::POLLOUT, || {
                sys::send(self.fd.as_fd(), bytes, priority, self.unwaiting)
            })
            .map_err(|error| self.explain_send(error, bytes.len(), priority))
    }

    /// Takes the oldest message of the highest priority; waits while the queue is empty.
    ///
    /// # Errors
    /// `EBADF` the queue is open for sending only; `ENOMEM` no memory for a message, which stays; `EAGAIN`, `ETIMEDOUT`,
    /// `ECANCELED` as everywhere.
    ///
    /// System call: mq_timedreceive.
    pub fn recv(&self, timeout: Timeout) -> Result<MqMessage> {
        let mut operation = self.object.operation("recv", timeout);
        let mut data = Vec::new();
        let priority = self.receive_onto(&mut operation, &mut data)?;
        data.shrink_to_fit();
        Ok(MqMessage { priority, data })
    }

    /// As [`Mq::recv`], into memory of the caller's.
    ///
    /// # Errors
    /// As [`Mq::recv`], and `EMSGSIZE` the buffer is smaller than the largest message that the queue allows, however
    /// large the next one is: the kernel wants it so, and does not tell the size of the message, which stays.
    /// [`Error::true_size`] is the size that the buffer must have.
    #[inline]
    pub fn recv_into(&self, buffer: &mut [u8], timeout: Timeout) -> Result<MqReceived> {
        let mut operation = self.object.operation("recv", timeout);
        let room = buffer.len();
        let (size, priority) = operation
            .until_ready(self.fd.as_fd(), PollFlags::POLLIN, || sys::receive(self.fd.as_fd(), buffer, self.unwaiting))
            .map_err(|error| self.explain_receive(error, room))?;
        Ok(MqReceived { priority, size })
    }

    /// As [`Mq::recv_into`] without waiting, into a place in shared memory, where it is as soon as the queue does not have it.
    pub(crate) fn recv_in_place(&self, places: &Places, place: u64, skip: usize) -> SysResult<()> {
        sys::receive_in_place(self.fd.as_fd(), places, place, skip, self.unwaiting).map(drop)
    }

    /// As [`Mq::recv_into`], but takes a message that is larger than the buffer all the same and drops what does not
    /// fit; the true size is in the result. Errors: as [`Mq::recv`].
    pub fn recv_into_cut(&self, buffer: &mut [u8], timeout: Timeout) -> Result<MqReceived> {
        let mut operation = self.object.operation("recv", timeout);
        let mut data = Vec::new();
        let priority = self.receive_onto(&mut operation, &mut data)?;
        copy(&data, buffer);
        Ok(MqReceived { priority, size: data.len() })
    }

    fn receive_onto(&self, operation: &mut Operation<'_>, data: &mut Vec<u8>) -> Result<u32> {
        let size = self.size().map_err(|errno| self.explain_receive(operation.error(errno), 0))?;
        data.try_reserve_exact(size).map_err(|_| operation.error(Errno::ENOMEM))?;
        operation
            .until_ready(self.fd.as_fd(), PollFlags::POLLIN, || {
                sys::receive_onto(self.fd.as_fd(), data, self.unwaiting)
            })
            .map_err(|error| self.explain_receive(error, size))
    }

    /// The largest message.
    fn size(&self) -> SysResult<usize> {
        // Relaxed: every thread that finds 0 asks the kernel, and all get the same answer.
        match self.size.load(Ordering::Relaxed) {
            0 => {
                let size = usize::try_from(sys::attributes(self.fd.as_fd())?.0.size).unwrap_or(usize::MAX);
                self.size.store(size, Ordering::Relaxed);
                Ok(size)
            }
            size => Ok(size),
        }
    }

    /// What it was created with, and how many messages are in it. Never blocks.
    ///
    /// # Errors
    /// `EBADF` an adopted descriptor is not one of a queue.
    ///
    /// System call: mq_getattr.
    pub fn attributes(&self) -> Result<MqAttributes> {
        let (shape, messages) = sys::attributes(self.fd.as_fd())
            .map_err(|errno| self.explain_other(self.object.error(errno, "attributes")))?;
        let size = |number: libc::c_long| usize::try_from(number).unwrap_or(usize::MAX);
        Ok(MqAttributes { depth: size(shape.depth), size: size(shape.size), messages: size(messages) })
    }

    /// Has `signal` with `value` sent to this process, once, when next a message comes into the empty queue while nobody
    /// receives. Never blocks.
    ///
    /// Each queue has place for one process at a time; the signal frees it, and so does closing any descriptor of the
    /// queue in this process, [`Mq::cancel_notify`] too. The signal carries `value` and the sender's pid, with SI_MESGQ
    /// as its code. Whether somebody receives is for the kernel to say, and those who wait by polling, as this library
    /// does, do not count: where a wait on the descriptor serves as well, it is the better way.
    ///
    /// # Errors
    /// `EBUSY` a process has the place, maybe this one; `EINVAL` there is no such signal, or it cannot be handled;
    /// `EBADF` an adopted descriptor is not one of a queue.
    ///
    /// System call: mq_notify with SIGEV_SIGNAL.
    #[doc(alias = "mq_notify")]
    pub fn notify(&self, signal: i32, value: i32) -> Result<()> {
        let failed = |errno| self.object.error(errno, "notify");
        if !(1..=libc::SIGRTMAX()).contains(&signal) {
            return Err(
                failed(Errno::EINVAL).because_found(format!("signals have numbers from 1 to {}", libc::SIGRTMAX()))
            );
        }
        if signal == libc::SIGKILL || signal == libc::SIGSTOP {
            return Err(failed(Errno::EINVAL).because("SIGKILL and SIGSTOP cannot be handled; choose another signal"));
        }
        sys::notify(self.fd.as_fd(), signal, value).map_err(|errno| match errno {
            Errno::EBUSY => failed(errno).because_found(match self.registered() {
                Some(pid) => format!("the queue notifies one process at a time, and process {pid} is registered"),
                None => "the queue notifies one process at a time, and one is registered".into(),
            }),
            errno => self.explain_other(failed(errno)),
        })
    }

    /// Takes back what [`Mq::notify`] asked for; no error if there is nothing to take back. Never blocks.
    ///
    /// # Errors
    /// `EBADF` an adopted descriptor is not one of a queue.
    ///
    /// System call: mq_notify.
    pub fn cancel_notify(&self) -> Result<()> {
        sys::cancel_notify(self.fd.as_fd())
            .map_err(|errno| self.explain_other(self.object.error(errno, "cancel_notify")))
    }

    /// The process that is registered for the notice, as far as this descriptor shows it: the kernel lets those who can
    /// receive read a line about the queue.
    fn registered(&self) -> Option<i32> {
        let mut line = [0; 128];
        let size = pread(&self.fd, &mut line, 0).ok()?;
        let line = std::str::from_utf8(line.get(..size)?).ok()?;
        let pid = line.split("NOTIFY_PID:").nth(1)?.trim().parse().ok()?;
        (pid != 0).then_some(pid)
    }

    /// The limits of the system. Never blocks. System calls: those of reading /proc/sys/fs/mqueue, and getrlimit.
    pub fn limits() -> MqLimits {
        MqLimits::read()
    }

    /// Its address.
    pub fn address(&self) -> &str {
        self.object.address()
    }

    /// Ends the waits of all threads on this object with `ECANCELED`, now and later; returns when they have left.
    pub fn end_waits(&self) {
        self.object.end_waits();
    }

    /// Gives up the object and keeps its descriptor.
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }

    #[cold]
    fn explain_send(&self, error: Error, size: usize, priority: u32) -> Error {
        match Errno::from_raw(error.errno()) {
            Errno::EMSGSIZE => {
                let limits = MqLimits::read();
                error.with_true_size(size).because_found(format!(
                    "the message has {size} bytes, the queue was created for at most mq_msgsize={}; send it in parts, or create a queue for larger ones (up to fs.mqueue.msgsize_max={} without privilege)",
                    self.size().unwrap_or_default(),
                    limits.size_max
                ))
            }
            Errno::EINVAL if priority > MQ_PRIORITY_MAX => {
                error.because_found(format!("the priority is {priority}, the highest is {MQ_PRIORITY_MAX}"))
            }
            Errno::EBADF if self.is_queue() => {
                error.because("the queue is open for receiving only; open it for sending, or for both")
            }
            Errno::ENOMEM => error.because("the kernel has no memory for the message; receive some, or send it later"),
            _ => self.explain_other(error),
        }
    }

    #[cold]
    fn explain_receive(&self, error: Error, room: usize) -> Error {
        match Errno::from_raw(error.errno()) {
            Errno::EMSGSIZE => {
                let size = self.size().unwrap_or_default();
                error.with_true_size(size).because_found(format!(
                    "the buffer has {room} bytes, and must have mq_msgsize={size} as the queue allows messages of that size; nothing was taken: receive with more room, or have messages cut"
                ))
            }
            Errno::EBADF if self.is_queue() => {
                error.because("the queue is open for sending only; open it for receiving, or for both")
            }
            _ => self.explain_other(error),
        }
    }

    fn explain_other(&self, error: Error) -> Error {
        if error.is(Errno::EBADF) {
            error.because("the adopted descriptor is not one of a message queue")
        } else {
            error
        }
    }

    fn is_queue(&self) -> bool {
        sys::attributes(self.fd.as_fd()).is_ok()
    }
}

impl AsFd for Mq {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl std::fmt::Debug for Mq {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mq").field("address", &self.address()).field("fd", &self.fd).finish()
    }
}

/// What the address and the options say, put together.
struct Plan<'a> {
    object: Object,
    name: &'a [u8],
    access: MqAccess,
    mode: u32,
    depth: usize,
    size: usize,
}

impl Plan<'_> {
    fn new<'a>(address: &'a Address, options: &MqOptions) -> Result<Plan<'a>> {
        address.require(&[Scheme::Mq], "mq_open")?;
        let object = Object::new(address.without_options().to_string());
        if options.mode & !0o777 != 0 {
            return Err(object.error(Errno::EINVAL, "mq_open").because("a mode has bits from 0 to 0777 only"));
        }
        let either = |given: usize, key| match (given, address.number(key)) {
            (0, Some(number)) => usize::try_from(number).unwrap_or(usize::MAX),
            (given, _) => given,
        };
        Ok(Plan {
            object,
            name: address.name(),
            access: options.access,
            mode: if options.mode != 0 { options.mode } else { address.mode().unwrap_or(PRIVATE) },
            depth: either(options.depth, "depth"),
            size: either(options.size, "size"),
        })
    }

    fn flags(&self) -> OFlag {
        let access = match self.access {
            MqAccess::Both => OFlag::O_RDWR,
            MqAccess::Receive => OFlag::O_RDONLY,
            MqAccess::Send => OFlag::O_WRONLY,
        };
        access | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC
    }

    fn open(&self) -> SysResult<OwnedFd> {
        sys::open(self.name, self.flags().bits(), 0, None)
    }

    fn create(&self) -> SysResult<OwnedFd> {
        let flags = self.flags() | OFlag::O_CREAT | OFlag::O_EXCL;
        // The kernel takes both numbers or none.
        let shape = (self.depth != 0 || self.size != 0).then(|| self.shape());
        sys::open(self.name, flags.bits(), self.mode, shape)
    }

    fn shape(&self) -> Shape {
        let limits = MqLimits::read();
        let or = |given, default| if given != 0 { given } else { default };
        let number = |number: usize| libc::c_long::try_from(number).unwrap_or(libc::c_long::MAX);
        Shape { depth: number(or(self.depth, limits.depth_default)), size: number(or(self.size, limits.size_default)) }
    }

    /// Sets the mode of a queue that we have created, from which the umask may have taken bits; the queue goes again if
    /// that fails.
    fn created(self, fd: OwnedFd) -> Result<Mq> {
        fchmod(&fd, Mode::from_bits_truncate(self.mode)).map_err(|errno| {
            let _ = mq_unlink(self.name); // created a moment ago; fails only if somebody else has unlinked it already
            self.object.error(errno, "fchmod")
        })?;
        Ok(self.finish(fd))
    }

    /// Checks that a queue which was there has the depth and size asked for.
    fn opened(self, fd: OwnedFd) -> Result<Mq> {
        if self.depth == 0 && self.size == 0 {
            return Ok(self.finish(fd));
        }
        let (depth, size) = (self.depth, self.size);
        let queue = self.finish(fd);
        let found = queue.attributes()?;
        if (depth != 0 && depth != found.depth) || (size != 0 && size != found.size) {
            let asked = |number| if number == 0 { "any".into() } else { format!("{number}") };
            return Err(queue.object.error(Errno::EEXIST, "mq_open").because_found(format!(
                "the queue exists with depth {} and size {}, asked for were depth {} and size {}; open it without numbers, or unlink it first",
                found.depth,
                found.size,
                asked(depth),
                asked(size)
            )));
        }
        Ok(queue)
    }

    fn finish(self, fd: OwnedFd) -> Mq {
        Mq { object: self.object, fd, unwaiting: Unwaiting::ByMode, size: AtomicUsize::new(0) }
    }

    fn explain(&self, errno: Errno) -> Error {
        explain_open(&self.object, errno, self.access, self.shape())
    }
}
