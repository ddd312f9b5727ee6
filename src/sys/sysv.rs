//! System V keys.

use std::ffi::CString;

use nix::errno::Errno;

use super::SysResult;

/// ftok: the key of an existing file and a project number.
pub(crate) fn ftok(path: &[u8], id: u8) -> SysResult<libc::key_t> {
    let path = CString::new(path).map_err(|_| Errno::EINVAL)?;
    // SAFETY: `path` is a live C string.
    match unsafe { libc::ftok(path.as_ptr(), id.into()) } {
        -1 => Err(Errno::last()),
        key => Ok(key), // an id from 128 on gives a negative key
    }
}
