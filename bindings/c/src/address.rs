//! Addresses.

use std::ffi::{c_char, c_int, c_void};

use libc::ssize_t;

use crate::boundary::{self, address, call, expect_out, give, object, room, take, text};

/// One line of text that names an IPC object, parsed:
/// scheme ":" name ["#" id] ["?" key "=" value *("&" key "=" value)].
///
/// May be shared between threads; never changes. Free it with ww_address_close().
pub struct ww_address(wigwag::Address);

/// Parses text. Never blocks.
///
/// Errors: -EINVAL with the position and what was expected there in ww_last_error(); -ENAMETOOLONG the name is longer
/// than such an object's can be; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_address_parse(out: *mut *mut ww_address, spelled: *const c_char) -> c_int {
    // SAFETY: the caller's promises, as the header states them; likewise below.
    call(|| unsafe {
        expect_out(out)?;
        give(out, ww_address(address(spelled)?))
    })
}

/// Frees an address. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_address_close(address: *mut ww_address) {
    // SAFETY: as above.
    drop(unsafe { take(address) });
}

/// Writes the address as text, with a terminating NUL. Parsing that text gives the same address.
///
/// Never blocks. Returns the length without the NUL. Errors: -EMSGSIZE if size is too small, with nothing written; the
/// length that is needed, without the NUL, is stored in *true_size, which may be NULL. -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_address_print(
    address: *const ww_address,
    buffer: *mut c_char,
    size: usize,
    true_size: *mut usize,
) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe {
        let printed = object(address, "address")?.0.to_string();
        copy_out(printed.as_bytes(), buffer, size, true_size)
    })
}

/// The scheme, such as "sysv-mq", without the colon. Never blocks. The text is the library's and lasts for ever.
/// Returns NULL for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_address_scheme(address: *const ww_address) -> *const c_char {
    // SAFETY: as above.
    let Ok(address) = (unsafe { object(address, "address") }) else { return std::ptr::null() };
    // Literals with their terminators: the core's names have none.
    macro_rules! literal {
        ($($name:literal)*) => {
            match address.0.scheme().as_str() {
                $($name => concat!($name, "\0").as_ptr().cast(),)*
                _ => c"unknown".as_ptr(),
            }
        };
    }
    literal!("tcp" "udp" "unix" "unix-dgram" "unix-seqpacket" "file" "eventfd" "pipe" "fifo" "signal" "sysv-shm" "shm"
        "memfd" "sysv-mq" "mq" "sysv-sem" "sem" "ring" "topic" "cell"
        "mutex" "permits" "event" "condition" "rwlock" "barrier" "lease")
}

/// Copies the name, as plain bytes without percent-coding, and a terminating NUL.
///
/// Never blocks. Returns the length without the NUL. Errors: as ww_address_print().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_address_name(
    address: *const ww_address,
    buffer: *mut c_char,
    size: usize,
    true_size: *mut usize,
) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe { copy_out(object(address, "address")?.0.name(), buffer, size, true_size) })
}

/// ftok's project number, 1 to 255, or 0 where there is none. Never blocks. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_address_id(address: *const ww_address) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Ok(object(address, "address")?.0.id().map_or(0, c_int::from)) })
}

/// Copies the value of an option, as plain bytes, and a terminating NUL.
///
/// Never blocks. Returns the length without the NUL. Errors: -ENOENT the address does not have the option; otherwise as
/// ww_address_print().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_address_option(
    address: *const ww_address,
    key: *const c_char,
    buffer: *mut c_char,
    size: usize,
    true_size: *mut usize,
) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe {
        let address = &object(address, "address")?.0;
        let key = text(key, "key")?;
        let value = std::str::from_utf8(key).ok().and_then(|key| address.option(key));
        let value = value.ok_or_else(|| {
            wigwag::Error::from_raw(libc::ENOENT, "option")
                .on_text(address.to_string())
                .because_found(format!("the address has no option {}", String::from_utf8_lossy(key)))
        })?;
        copy_out(value, buffer, size, true_size)
    })
}

/// Whether two addresses are the same, options included: 1 or 0. Never blocks. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_address_equals(a: *const ww_address, b: *const ww_address) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Ok(c_int::from(object(a, "address")?.0 == object(b, "address")?.0)) })
}

/// Writes `value` and a NUL to a caller's buffer, whole or not at all.
pub(crate) unsafe fn copy_out(
    value: &[u8],
    buffer: *mut c_char,
    size: usize,
    true_size: *mut usize,
) -> wigwag::Result<usize> {
    // SAFETY: the caller's promises.
    unsafe {
        let room = room(buffer.cast::<c_void>(), size)?;
        if room.len() <= value.len() {
            boundary::put_if_wanted(true_size, value.len());
            return Err(wigwag::Error::from_raw(libc::EMSGSIZE, "buffer")
                .with_true_size(value.len())
                .because_found(format!("it takes {} bytes and a NUL, the buffer has {size}", value.len())));
        }
        room[..value.len()].copy_from_slice(value);
        room[value.len()] = 0;
        Ok(value.len())
    }
}
