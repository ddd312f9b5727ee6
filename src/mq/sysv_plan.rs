//! How a System V queue is opened or created: what the address and the options say, and what is there.

use std::time::Duration;

use nix::errno::Errno;

use super::sysv::{SysvMq, SysvMqOptions, size};
use super::sysv_bell::Bells;
use super::sysv_errors as explain;
use super::{MqAccess, PRIVATE};
use crate::address::{Address, Scheme};
use crate::error::Result;
use crate::sys::SysResult;
use crate::sys::sysv_mq as sys;
use crate::sysv;
use crate::timeout::Timeout;
use crate::wait::Object;

/// Opening looks so often, a millisecond apart, at a queue that is new: its creator may still be setting its size.
const LOOKS: usize = 100;

/// What the address and the options say, put together.
pub(super) struct Plan {
    pub(super) object: Object,
    pub(super) key: Option<i32>,
    pub(super) access: MqAccess,
    mode: u32,
    bytes: usize,
}

impl Plan {
    pub(super) fn new(address: &Address, options: &SysvMqOptions) -> Result<Plan> {
        address.require(&[Scheme::SysvMq], "msgget")?;
        let object = Object::new(address.without_options().to_string());
        if options.mode & !0o777 != 0 {
            return Err(object.error(Errno::EINVAL, "msgget").because("a mode has bits from 0 to 0777 only"));
        }
        let mode = if options.mode != 0 { options.mode } else { address.mode().unwrap_or(PRIVATE) };
        let bytes = match (options.bytes, address.number("bytes")) {
            (0, Some(bytes)) => usize::try_from(bytes).unwrap_or(usize::MAX),
            (bytes, _) => bytes,
        };
        Ok(Plan { key: sysv::key(address, "msgget")?, object, access: options.access, mode, bytes })
    }

    pub(super) fn get(&self, create: bool) -> SysResult<i32> {
        let flags = if create {
            libc::IPC_CREAT | libc::IPC_EXCL | self.mode.cast_signed()
        } else {
            self.access.permission().cast_signed()
        };
        sys::get(self.key, flags)
    }

    /// Sets the size of a queue that we have created; the queue goes again if that fails, unless somebody has sent to it.
    pub(super) fn created(self, id: i32) -> Result<SysvMq> {
        if self.bytes != 0 {
            let owner = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
            if let Err(errno) = sys::set(id, owner, self.mode, self.bytes) {
                // Where the mode lets not even the owner look, it is taken for unused.
                if !sys::status(id).is_ok_and(|status| status.msg_lspid != 0 || status.msg_qnum != 0) {
                    let _ = sys::remove(id); // created a moment ago; fails only if somebody else has removed it already
                }
                return Err(explain::resize(&self.object, errno, self.bytes));
            }
        }
        Ok(self.finish(id))
    }

    /// Checks that a queue which was there has the size asked for.
    pub(super) fn opened(self, id: i32) -> Result<SysvMq> {
        if self.bytes == 0 {
            return Ok(self.finish(id));
        }
        let mut looks = 0;
        loop {
            looks += 1;
            let status =
                sys::status(id).map_err(|errno| explain::call(self.object.error(errno, "msgctl"), "look at it"))?;
            let found = size(status.msg_qbytes);
            if found == self.bytes {
                return Ok(self.finish(id));
            }
            // Creating takes two calls. Somebody is between them at most if nobody has sent, and the size is the one
            // that every queue starts with.
            let new = status.msg_lspid == 0 && sys::limits().is_ok_and(|limits| size(limits.msgmnb) == found);
            if !new || looks == LOOKS {
                return Err(explain::other_size(&self.object, found, self.bytes));
            }
            // Nothing but time ends this pause, or a cancel.
            match self.object.operation("look at it", Timeout::After(Duration::from_millis(1))).wait().poll(&mut []) {
                Ok(()) | Err(Errno::ETIMEDOUT) => {}
                Err(errno) => return Err(self.object.error(errno, "msgget")),
            }
        }
    }

    fn finish(self, id: i32) -> SysvMq {
        SysvMq { object: self.object, id, bells: Bells::default() }
    }
}
