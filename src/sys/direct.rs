//! The few system calls of the fast paths, without the C library's function in between.
//!
//! A return from a function costs several nanoseconds after a system call (the processor's return predictor does not
//! survive it), which is what a wrapper around a wrapper adds. Only calls that never block go this way: glibc's
//! functions are also thread cancellation points, which matters to those that wait.

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

use super::SysResult;

/// `read` on a description in non-blocking mode.
#[inline(always)]
pub(crate) fn read(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> SysResult<usize> {
    // SAFETY: the kernel writes at most the buffer's length to it, a live exclusive borrow.
    unsafe { call3(libc::SYS_read, fd.as_raw_fd() as usize, buffer.as_mut_ptr() as usize, buffer.len()) }
}

/// `write` on a description in non-blocking mode.
#[inline(always)]
pub(crate) fn write(fd: BorrowedFd<'_>, bytes: &[u8]) -> SysResult<usize> {
    // SAFETY: the kernel reads the bytes, a live borrow.
    unsafe { call3(libc::SYS_write, fd.as_raw_fd() as usize, bytes.as_ptr() as usize, bytes.len()) }
}

/// `pwritev2` of one part at the current position.
#[inline(always)]
pub(crate) fn pwritev2(fd: BorrowedFd<'_>, bytes: &[u8], flags: libc::c_int) -> SysResult<usize> {
    let part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: one iovec, a live local, that spans `bytes`, which the kernel only reads. Offset -1, the current position,
    // comes in two halves.
    unsafe {
        let (fd, part) = (fd.as_raw_fd() as usize, (&raw const part) as usize);
        call6(libc::SYS_pwritev2, fd, part, 1, usize::MAX, usize::MAX, flags as usize)
    }
}

/// # Safety
/// As the system call's own contract.
#[inline(always)]
pub(crate) unsafe fn call3(number: libc::c_long, a: usize, b: usize, c: usize) -> SysResult<usize> {
    // SAFETY: as the caller promises; unused arguments are ignored.
    unsafe { call6(number, a, b, c, 0, 0, 0) }
}

/// # Safety
/// As the system call's own contract.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) unsafe fn call6(
    number: libc::c_long,
    a: usize,
    b: usize,
    c: usize,
    d: usize,
    e: usize,
    f: usize,
) -> SysResult<usize> {
    let result: isize;
    // SAFETY: the kernel's calling convention for x86-64: number in rax, arguments in these registers, the result in
    // rax; rcx and r11 are overwritten, memory as the caller promises.
    unsafe {
        std::arch::asm!("syscall", inlateout("rax") number as isize => result, in("rdi") a, in("rsi") b, in("rdx") c,
            in("r10") d, in("r8") e, in("r9") f, lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    outcome(result)
}

/// # Safety
/// As the system call's own contract.
#[cfg(target_arch = "aarch64")]
#[inline(always)]
pub(crate) unsafe fn call6(
    number: libc::c_long,
    a: usize,
    b: usize,
    c: usize,
    d: usize,
    e: usize,
    f: usize,
) -> SysResult<usize> {
    let result: isize;
    // SAFETY: the kernel's calling convention for arm64: number in x8, arguments in x0 to x5, the result in x0; memory as
    // the caller promises.
    unsafe {
        std::arch::asm!("svc 0", in("x8") number, inlateout("x0") a => result, in("x1") b, in("x2") c, in("x3") d,
            in("x4") e, in("x5") f, options(nostack));
    }
    outcome(result)
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("wigwag supports x86-64 and arm64");

#[inline(always)]
fn outcome(result: isize) -> SysResult<usize> {
    // The kernel gives errors as -4095 to -1; a count is never that large.
    if result < 0 { Err(Errno::from_raw(-result as i32)) } else { Ok(result.cast_unsigned()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn same_as_the_library() {
        let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_NONBLOCK).unwrap();
        assert_eq!(read(reader.as_fd(), &mut [0; 4]), Err(Errno::EAGAIN));
        assert_eq!(write(writer.as_fd(), b"abc"), Ok(3));
        let mut buffer = [0; 8];
        assert_eq!(read(reader.as_fd(), &mut buffer), Ok(3));
        assert_eq!(&buffer[..3], b"abc");
        assert_eq!(write(reader.as_fd(), b"abc"), Err(Errno::EBADF));
    }
}
