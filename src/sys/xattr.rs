//! Extended attributes of files.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Whether the file has this attribute with this value. System call: getxattr.
pub(crate) fn is(path: &Path, name: &str, value: &[u8]) -> bool {
    let (Ok(path), Ok(name)) = (CString::new(path.as_os_str().as_bytes()), CString::new(name)) else { return false };
    let mut found = [0_u8; 16];
    // SAFETY: two strings that end with a zero byte, and a live buffer of the length that is told.
    let length = unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), found.as_mut_ptr().cast(), found.len()) };
    usize::try_from(length).is_ok_and(|length| found.get(..length) == Some(value))
}
