//! Where C meets Rust: every pointer of a caller is checked and converted here, every panic is caught here, and the
//! calling thread's last error is kept here.
//!
//! # Safety
//! What C promises by calling, and what the header says: a handle comes from this library and is not closed; a pointer
//! to bytes is valid for the length beside it, for the length of the call; an output pointer may be written to.

use std::cell::RefCell;
use std::ffi::{CStr, c_char, c_int};
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use libc::ssize_t;
use wigwag::{Address, Error, Result, Timeout};

thread_local! {
    static LAST: RefCell<Last> = const { RefCell::new(Last { error: None, text: Vec::new() }) };
}

struct Last {
    error: Option<Error>,
    text: Vec<u8>, // made when it is asked for, NUL-terminated
}

/// Keeps the error as the thread's last and gives its negated errno.
#[cold]
fn failed(error: Error) -> c_int {
    let code = -error.errno();
    // A thread that is being torn down has no last error any more.
    let _ = LAST.try_with(|last| {
        if let Ok(mut last) = last.try_borrow_mut() {
            last.error = Some(error);
        }
    });
    code
}

/// The text of the thread's last error; valid until it is asked for again.
pub(crate) fn last_error_text() -> *const c_char {
    LAST.try_with(|last| {
        let mut last = last.borrow_mut();
        let text = last.error.as_ref().map(Error::to_string).unwrap_or_default();
        last.text.clear();
        last.text.extend(text.bytes().map(|byte| if byte == 0 { b'?' } else { byte }));
        last.text.push(0);
        last.text.as_ptr().cast()
    })
    .unwrap_or(c"".as_ptr())
}

/// What an exported function returns on success.
pub(crate) trait Code {
    type C;
    fn success(self) -> Self::C;
    fn failure(code: c_int) -> Self::C;
}

impl Code for () {
    type C = c_int;
    fn success(self) -> c_int {
        0
    }
    fn failure(code: c_int) -> c_int {
        code
    }
}

/// A small number that means something, such as a flag or a descriptor.
impl Code for c_int {
    type C = c_int;
    fn success(self) -> c_int {
        self
    }
    fn failure(code: c_int) -> c_int {
        code
    }
}

/// A count or length; no object has more than half the address space.
impl Code for usize {
    type C = ssize_t;
    fn success(self) -> ssize_t {
        ssize_t::try_from(self).unwrap_or(ssize_t::MAX)
    }
    fn failure(code: c_int) -> ssize_t {
        code as ssize_t
    }
}

/// Runs the body of an exported function: its error becomes a code and the last error, its panic ENOTRECOVERABLE.
#[inline]
pub(crate) fn call<T: Code>(body: impl FnOnce() -> Result<T>) -> T::C {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(value)) => value.success(),
        Ok(Err(error)) => T::failure(failed(error)),
        Err(panic) => T::failure(failed(from_panic(panic.as_ref()))),
    }
}

#[cold]
fn from_panic(panic: &(dyn std::any::Any + Send)) -> Error {
    let said = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    Error::from_raw(libc::ENOTRECOVERABLE, "wigwag").because_found(format!(
        "a defect of the library was met ({said}); the object it happened on may be unusable: close it, and report this"
    ))
}

#[cold]
fn null(what: &'static str) -> Error {
    Error::from_raw(libc::EFAULT, what)
}

pub(crate) fn invalid(operation: &'static str, reason: &'static str) -> Error {
    Error::from_raw(libc::EINVAL, operation).because(reason)
}

/// The object behind a handle.
///
/// # Safety
/// `handle` is NULL or came from [`give`] and has not been closed; it stays open for `'a`.
#[inline]
pub(crate) unsafe fn object<'a, T>(handle: *const T, noun: &'static str) -> Result<&'a T> {
    // SAFETY: as the caller promises.
    unsafe { handle.as_ref() }.ok_or_else(|| null(noun))
}

/// The object behind a handle, for a call that the header says no other may run beside.
///
/// # Safety
/// As [`object`], and no other thread uses the handle for `'a`.
pub(crate) unsafe fn object_mut<'a, T>(handle: *mut T, noun: &'static str) -> Result<&'a mut T> {
    // SAFETY: as the caller promises.
    unsafe { handle.as_mut() }.ok_or_else(|| null(noun))
}

/// Hands an object to C: writes a handle that [`take`] takes back.
///
/// # Safety
/// `out` may be written to.
pub(crate) unsafe fn give<T>(out: *mut *mut T, object: T) -> Result<()> {
    // SAFETY: as the caller promises.
    unsafe { put(out, Box::into_raw(Box::new(object)), "output handle") }
}

/// Fails unless there is a place for an output: to be asked before anything that would have to be undone.
pub(crate) fn expect_out<T>(out: *mut T) -> Result<()> {
    if out.is_null() { Err(null("output pointer")) } else { Ok(()) }
}

/// Writes an output that may not be left out.
///
/// # Safety
/// `out` is NULL or may be written to.
#[inline]
pub(crate) unsafe fn put<T>(out: *mut T, value: T, what: &'static str) -> Result<()> {
    if out.is_null() {
        return Err(null(what));
    }
    // SAFETY: not NULL, and the caller promises that it may be written to.
    unsafe { out.write(value) };
    Ok(())
}

/// Writes an output that the caller may not want.
///
/// # Safety
/// `out` is NULL or may be written to.
#[inline]
pub(crate) unsafe fn put_if_wanted<T>(out: *mut T, value: T) {
    if !out.is_null() {
        // SAFETY: as the caller promises.
        unsafe { out.write(value) };
    }
}

/// Writes as many entries as there is room for to a list that the caller may not want.
///
/// # Safety
/// `out` is NULL or may be written to for `room` entries.
pub(crate) unsafe fn put_list<T: Copy>(out: *mut T, room: usize, entries: impl Iterator<Item = T>) {
    if !out.is_null() {
        for (index, entry) in entries.take(room).enumerate() {
            // SAFETY: below `room`, as the caller promises.
            unsafe { out.add(index).write(entry) };
        }
    }
}

/// Takes an object back from C; `None` for NULL.
///
/// # Safety
/// `handle` is NULL or came from [`give`], has not been closed, and is not used again.
pub(crate) unsafe fn take<T>(handle: *mut T) -> Option<Box<T>> {
    // SAFETY: not NULL here, and from Box::into_raw as the caller promises.
    (!handle.is_null()).then(|| unsafe { Box::from_raw(handle) })
}

/// Ends the waits of other threads on a handle, then frees it; NULL is allowed. Only when `end_waits` has returned does
/// anything claim the object for itself alone.
///
/// # Safety
/// `handle` is NULL or came from [`give`], has not been closed, and is used by nobody but those whose waits end now.
pub(crate) unsafe fn close<T>(handle: *mut T, end_waits: impl FnOnce(&T)) {
    // SAFETY: NULL or from `give`, as the caller promises; shared with those who wait until it is taken back.
    if let Some(shared) = unsafe { handle.as_ref() } {
        end_waits(shared);
        // SAFETY: not closed before, and the waiters have left.
        drop(unsafe { take(handle) });
    }
}

/// Bytes that a caller wants read; NULL stands for none where the length is 0.
///
/// # Safety
/// `data` is valid for reads of `length` bytes for `'a`, and nothing writes there meanwhile.
#[inline]
pub(crate) unsafe fn bytes<'a>(data: *const std::ffi::c_void, length: usize) -> Result<&'a [u8]> {
    check_range(data, length)?;
    if length == 0 {
        return Ok(&[]);
    }
    // SAFETY: not NULL, of a length that a slice may have, and valid as the caller promises.
    Ok(unsafe { std::slice::from_raw_parts(data.cast(), length) })
}

/// Room that a caller wants filled; NULL stands for none where the length is 0.
///
/// # Safety
/// `data` is valid for writes of `length` bytes for `'a`, and nothing else uses them meanwhile. That C may not have
/// initialised them does no harm: this side only hands the range to the kernel or copies into it.
#[inline]
pub(crate) unsafe fn room<'a>(data: *mut std::ffi::c_void, length: usize) -> Result<&'a mut [u8]> {
    check_range(data, length)?;
    if length == 0 {
        return Ok(&mut []);
    }
    // SAFETY: as above.
    Ok(unsafe { std::slice::from_raw_parts_mut(data.cast(), length) })
}

#[inline]
fn check_range(data: *const std::ffi::c_void, length: usize) -> Result<()> {
    if data.is_null() && length != 0 {
        return Err(null("buffer"));
    }
    if length > isize::MAX as usize {
        return Err(invalid("buffer", "a length of more than half the address space; was it a negative number?"));
    }
    Ok(())
}

/// A C string's bytes.
///
/// # Safety
/// `text` is NULL or a C string that stays for `'a`.
pub(crate) unsafe fn text<'a>(text: *const c_char, what: &'static str) -> Result<&'a [u8]> {
    if text.is_null() {
        return Err(null(what));
    }
    // SAFETY: not NULL, and the caller promises a terminated string.
    Ok(unsafe { CStr::from_ptr(text) }.to_bytes())
}

/// The address that a C string spells.
///
/// # Safety
/// As [`text`].
pub(crate) unsafe fn address(spelled: *const c_char) -> Result<Address> {
    // SAFETY: as the caller promises.
    Address::parse(unsafe { text(spelled, "address") }?)
}

/// Makes an object from a descriptor that a caller hands over: a copy is used, and the caller's own is closed once all
/// has gone well; on failure it stays the caller's.
///
/// # Safety
/// An open descriptor that is given belongs to the caller, who does not use it any more after success.
pub(crate) unsafe fn adopt<T>(fd: c_int, noun: &'static str, make: impl FnOnce(OwnedFd) -> Result<T>) -> Result<T> {
    // SAFETY: as the caller promises; the borrow ends with the next line.
    let copy = unsafe { borrow(fd, noun) }?.try_clone_to_owned();
    let copy = copy.map_err(|error| Error::from_raw(error.raw_os_error().unwrap_or(libc::EBADF), noun))?;
    let made = make(copy)?;
    // SAFETY: open, since it could be copied, and the caller's to give, as it promises.
    drop(unsafe { OwnedFd::from_raw_fd(fd) });
    Ok(made)
}

/// A descriptor that a caller lends for the length of the call.
///
/// # Safety
/// The descriptor stays open for `'a`.
pub(crate) unsafe fn borrow<'a>(fd: c_int, noun: &'static str) -> Result<BorrowedFd<'a>> {
    if fd < 0 {
        return Err(Error::from_raw(libc::EBADF, noun).because("not an open descriptor"));
    }
    // SAFETY: not -1, and open as the caller promises; a closed number is refused by the kernel.
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// Runs a transfer and writes how far it came to `*out`, also after an error: `whole` if it succeeded.
///
/// # Safety
/// `out` is NULL or may be written to.
#[inline]
pub(crate) unsafe fn done(out: *mut usize, whole: usize, body: impl FnOnce() -> Result<()>) -> Result<()> {
    let result = body();
    // SAFETY: as the caller promises.
    unsafe { put_if_wanted(out, result.as_ref().map_or_else(how_far, |()| whole)) };
    result
}

/// Out of line, so that no field of an error is looked at before it is known that there is one: memory checkers complain.
#[cold]
#[inline(never)]
fn how_far(error: &Error) -> usize {
    error.done()
}

#[inline]
pub(crate) fn timeout(nanos: i64) -> Result<Timeout> {
    Timeout::from_nanos(nanos)
}

/// An options struct as C programs of any version hand it in: its first member says how large it was for them.
///
/// # Safety
/// Implementors are `repr(C)`, begin with `size: usize`, have no padding that matters, and are valid for all zeros.
pub(crate) unsafe trait Options: Copy + Default {}

/// Copies a caller's options: NULL gives the defaults, a shorter (older) struct leaves them for what it lacks, a longer
/// (newer) one may only have zeros in what we do not know.
///
/// # Safety
/// `given` is NULL or points to a struct of the size that its first member tells.
pub(crate) unsafe fn options<T: Options>(given: *const T, noun: &'static str) -> Result<T> {
    let mut known = T::default();
    if given.is_null() {
        return Ok(known);
    }
    // SAFETY: the first member is its size, and a struct has at least that.
    let size = unsafe { given.cast::<usize>().read() };
    if size < size_of::<usize>() || size > 4096 {
        return Err(invalid(noun, "the options' size member is not set; initialise them with the WW_..._INIT macro"));
    }
    // SAFETY: the caller's struct has `size` bytes.
    let given = unsafe { std::slice::from_raw_parts(given.cast::<u8>(), size) };
    if given.get(size_of::<T>()..).is_some_and(|unknown| unknown.iter().any(|byte| *byte != 0)) {
        return Err(invalid(noun, "options that this version of the library does not know are set"));
    }
    let common = size.min(size_of::<T>());
    // SAFETY: both sides have `common` bytes, and any bytes are a valid T as its implementor promises.
    unsafe { std::ptr::copy_nonoverlapping(given.as_ptr(), (&raw mut known).cast::<u8>(), common) };
    Ok(known)
}

/// A flag that C gives as an int.
pub(crate) fn flag(value: c_int, noun: &'static str) -> Result<bool> {
    match value {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(invalid(noun, "a flag is 0 or 1")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_come_back_as_codes() {
        assert_eq!(call::<()>(|| panic!("on purpose")), -libc::ENOTRECOVERABLE);
        // SAFETY: a C string of this library.
        let text = unsafe { CStr::from_ptr(last_error_text()) }.to_str().unwrap();
        assert!(text.contains("ENOTRECOVERABLE") && text.contains("on purpose"), "{text}");
    }
}
