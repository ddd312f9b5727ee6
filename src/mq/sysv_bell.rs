//! A descriptor for a System V queue: how a helper thread waits for a message without taking it.
//!
//! msgrcv with room for nothing fails with E2BIG when a message comes, and leaves it there: for every message but one
//! without bytes, which fits and is taken. Such a message is sent again at once.

use std::cell::Cell;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::errno::Errno;
use nix::unistd::{getegid, geteuid, getgroups};

use super::sysv::{SysvMq, SysvSelect};
use super::sysv_errors as explain;
use crate::doorbell::{Doorbells, Listen};
use crate::error::Result;
use crate::sys::SysResult;
use crate::sys::sysv_mq::{self as sys, Record};

/// The doorbells of a queue, and what their helpers had to put back.
#[derive(Default)]
pub(super) struct Bells {
    doors: Doorbells<SysvSelect>,
    handed_back: Arc<AtomicUsize>,
}

impl Bells {
    /// To be called when a receiver finds no message that `select` picks.
    #[inline]
    pub(super) fn found_nothing(&self, select: SysvSelect) {
        self.doors.found_nothing(&select);
    }
}

impl SysvMq {
    /// A descriptor that is readable when there may be a message that `select` picks: for poll, a
    /// [`WaitSet`](crate::WaitSet), an event loop. It hears senders that know nothing of this library. Never blocks.
    ///
    /// It stays readable until a receive with the *same* `select` finds nothing (`EAGAIN`), so receive until then; it may
    /// be readable for nothing when another process was faster. It belongs to this object, which closes it. In a child
    /// made by fork ask again: the child gets a descriptor of its own.
    ///
    /// The cost, from the first call on: a helper thread that sleeps in the kernel, a descriptor, and for each message
    /// that finds the queue empty two switches of context and a few system calls. A message without bytes that comes
    /// while the helper waits is taken by it and sent again at once: another message that is sent in that instant goes
    /// before it, and killing this process in that instant loses it. [`SysvMq::handed_back`] counts them. With
    /// [`SysvSelect::Any`] that takes an empty queue; with the others, also one that lies in the queue already is moved
    /// to its end.
    ///
    /// # Errors
    /// `EACCES` its mode does not let this user receive, or send, which handing back takes; `EINVAL` the type to select
    /// is below 1; `EIDRM` the queue was removed; `ENOMEM` no helper thread can be had; `EMFILE`, `ENFILE` no descriptor
    /// is left.
    ///
    /// System calls: msgctl, eventfd2, clone; in the helper msgrcv.
    pub fn doorbell(&self, select: SysvSelect) -> Result<BorrowedFd<'_>> {
        self.bells.doors.get(select, &self.object, || {
            let Some((kind, flags)) = select.as_kernel_has_it() else {
                return Err(self
                    .object
                    .error(Errno::EINVAL, "doorbell")
                    .because("types of messages are numbers from 1"));
            };
            let failed = |errno| explain::call(self.object.error(errno, "doorbell"), "receive");
            if !may_send(&sys::status(self.id).map_err(failed)?) {
                return Err(self.object.error(Errno::EACCES, "doorbell").because(
                    "the mode of the queue does not let this user send, and the descriptor takes that: a message without \
                     bytes has to be put back",
                ));
            }
            let mut record = Record::default();
            record.reserve(0).map_err(failed)?;
            Ok(Box::new(Listener {
                id: self.id,
                kind,
                flags,
                record,
                held: Cell::new(false),
                handed_back: Arc::clone(&self.bells.handed_back),
            }))
        })
    }

    /// The descriptors that were asked for in this process, for those who have to forget them before they go. Never
    /// blocks.
    pub fn doorbells(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.bells.doors.descriptors()
    }

    /// How many messages without bytes the helpers of this object's [`doorbell`](SysvMq::doorbell)s have taken and put
    /// back. Never blocks.
    pub fn handed_back(&self) -> usize {
        self.bells.handed_back.load(Ordering::Relaxed)
    }
}

/// As the kernel decides it, but for CAP_IPC_OWNER, which root is taken to have.
fn may_send(status: &sys::Status) -> bool {
    let (user, perm) = (geteuid(), &status.msg_perm);
    let in_group =
        |gid| getegid().as_raw() == gid || getgroups().is_ok_and(|all| all.iter().any(|g| g.as_raw() == gid));
    let place = if user.as_raw() == perm.uid || user.as_raw() == perm.cuid {
        0o200
    } else if in_group(perm.gid) || in_group(perm.cgid) {
        0o020
    } else {
        0o002
    };
    user.is_root() || u32::from(perm.mode) & place != 0
}

struct Listener {
    id: i32,
    kind: libc::c_long,
    flags: libc::c_int,
    record: Record,
    /// Whether `record` is a message without bytes that could not be put back yet.
    held: Cell<bool>,
    handed_back: Arc<AtomicUsize>,
}

impl Listener {
    fn receive(&self, flags: libc::c_int) -> SysResult<()> {
        match sys::receive(self.id, &self.record, 0, self.kind, self.flags | flags) {
            Err(Errno::E2BIG) => Ok(()),
            Err(Errno::ENOMSG) => Err(Errno::EAGAIN),
            Err(errno) => Err(errno),
            Ok(_) => {
                self.held.set(true);
                self.hand_back();
                Ok(())
            }
        }
    }

    /// What fails for want of room is tried again when a receiver has emptied the queue.
    fn hand_back(&self) {
        match sys::send(self.id, &self.record, 0, libc::IPC_NOWAIT) {
            Ok(()) => {
                self.handed_back.fetch_add(1, Ordering::Relaxed);
                self.held.set(false);
            }
            Err(Errno::EINVAL | Errno::EIDRM) => self.held.set(false), // gone with the queue
            Err(_) => {}
        }
    }

    /// Whether there is something, if it can be told without the danger of taking it.
    fn any_message(&self) -> Option<SysResult<()>> {
        let all = self.kind == 0;
        all.then(|| if sys::status(self.id)?.msg_qnum == 0 { Err(Errno::EAGAIN) } else { Ok(()) })
    }
}

impl Listen for Listener {
    fn look(&self) -> SysResult<()> {
        if self.held.get() {
            self.hand_back();
            return Ok(());
        }
        self.any_message().unwrap_or_else(|| self.receive(libc::IPC_NOWAIT))
    }

    fn wait(&self) -> SysResult<()> {
        self.receive(0)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if self.held.get() {
            self.hand_back();
        }
    }
}
