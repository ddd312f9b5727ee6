//! What callers can do about errors.

use nix::errno::Errno;

use crate::error::Error;
use crate::segment::NO_ROOM;
use crate::wait::Operation;

pub(super) fn no_lane(error: Error, lanes: u32) -> Error {
    error.because_found(format!("there is no such lane: the ring has {lanes}, counted from 0"))
}

/// For a handle that does not wait for room.
pub(super) fn full_or_over(operation: &Operation<'_>, over: Option<(Errno, &'static str)>) -> Error {
    match over {
        Some((errno, reason)) => operation.error(errno).because(reason),
        None => operation.error(Errno::EAGAIN).because("the ring is full, and this handle does not wait for room"),
    }
}

pub(super) fn join_error(error: Error) -> Error {
    if error.is(Errno::EUSERS) {
        error.because(NO_ROOM)
    } else if error.is(Errno::EBADMSG) {
        error.because("its layout contradicts itself: it is damaged; remove it")
    } else {
        error
    }
}

pub(super) fn fenced(error: Error) -> Error {
    if error.is(Errno::ESTALE) {
        error.because("this handle was declared dead, as its lock on the ring was closed; open the ring anew")
    } else {
        error
    }
}

pub(super) fn damaged(error: Error) -> Error {
    if error.is(Errno::EBADMSG) {
        error.because("the ring holds what no user of it could have written: it is damaged; remove it")
    } else {
        error
    }
}
