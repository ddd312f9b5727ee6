//! What the three System V mechanisms share: how an address becomes a key.

use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;

use crate::address::{Address, SysvName};
use crate::error::{Error, Result};
use crate::sys;

/// The key that `address` names; `None` is IPC_PRIVATE.
///
/// The file behind `path#id` must exist: ftok derives the key from its device and inode, so that a file removed and
/// made anew gives another key.
pub(crate) fn key(address: &Address, operation: &'static str) -> Result<Option<i32>> {
    let failed = |errno| Error::new(errno, operation).on_text(address.without_options().to_string());
    match address.sysv_name() {
        Some(SysvName::Private) => Ok(None),
        Some(SysvName::Key(key)) => Ok(Some(key)),
        Some(SysvName::File(path, id)) => {
            sys::sysv::ftok(path.as_os_str().as_bytes(), id).map(Some).map_err(|errno| match errno {
                Errno::ENOENT => failed(errno).because_found(format!(
                    "the file {} that the key is derived from does not exist; create it (any content), or name a raw key as 0x…",
                    path.display()
                )),
                errno => failed(errno).because_found(format!(
                    "the file {} that the key is derived from cannot be looked at: {}",
                    path.display(),
                    errno.desc()
                )),
            })
        }
        None => Err(failed(Errno::EINVAL).because("not the address of a System V object")),
    }
}
