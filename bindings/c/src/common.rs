//! Library-wide: version, last error.

use std::ffi::c_char;

use crate::boundary;

/// Wait for ever.
pub const WW_FOREVER: i64 = -1;
/// Do not wait: fail with -EAGAIN where the call would block.
pub const WW_NOW: i64 = 0;

/// The version of the library, such as "0.1.0". Never blocks, never fails; the text is the library's.
#[unsafe(no_mangle)]
pub extern "C" fn ww_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// The text of the calling thread's last error: operation, object, errno, cause and remedy.
///
/// Never blocks. Calls that succeed leave it as it is; it is empty before the first failure. The text is the library's
/// and good until this thread's next failing call, or its next call of this function.
#[unsafe(no_mangle)]
pub extern "C" fn ww_last_error() -> *const c_char {
    boundary::last_error_text()
}

/// Which way the library took where kernels differ, one line for each, such as
/// "write without SIGPIPE: pwritev2 with RWF_NOSIGNAL".
///
/// Never blocks. The text is the library's and good until this thread's next call of this function.
#[unsafe(no_mangle)]
pub extern "C" fn ww_paths() -> *const c_char {
    thread_local! {
        static TEXT: std::cell::RefCell<Vec<u8>> = const { std::cell::RefCell::new(Vec::new()) };
    }
    TEXT.try_with(|text| {
        let mut text = text.borrow_mut();
        text.clear();
        for (what, path) in wigwag::paths() {
            text.extend(format!("{what}: {path}\n").bytes());
        }
        text.push(0);
        text.as_ptr().cast()
    })
    .unwrap_or(c"".as_ptr())
}
