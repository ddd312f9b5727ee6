//! Sockets where nix has no form that we need: names of every family in one value, receiving with flags and control
//! data from which no descriptor can leak.

use std::mem::{MaybeUninit, offset_of, size_of};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

use super::{SysResult, check, direct};

/// What every send and receive says, whatever mode the description is in: do not wait, do not raise SIGPIPE.
const FLAGS: libc::c_int = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;

/// The most descriptors that one message can carry (SCM_MAX_FD).
pub(crate) const MOST_DESCRIPTORS: usize = 253;

/// Linux 6.5; not in the libc crate.
const SCM_PIDFD: libc::c_int = 4;

/// Where the bytes of a Unix name begin.
const PATH_AT: usize = offset_of!(libc::sockaddr_un, sun_path);
/// How many bytes a Unix name has room for.
const PATH_ROOM: usize = size_of::<libc::sockaddr_un>() - PATH_AT;

/// A socket name as the kernel has it: IPv4, IPv6, Unix, or of a family that we do not know.
#[derive(Clone, Copy)]
pub(crate) struct Name {
    storage: libc::sockaddr_storage,
    length: libc::socklen_t,
}

impl Name {
    fn empty() -> Name {
        // SAFETY: plain data for which all zeros is a valid value.
        Name { storage: unsafe { MaybeUninit::zeroed().assume_init() }, length: 0 }
    }

    fn from_part<T: Copy>(part: T, length: usize) -> Name {
        const { assert!(size_of::<T>() <= size_of::<libc::sockaddr_storage>()) };
        let mut name = Name::empty();
        // SAFETY: sockaddr_storage is larger than T (asserted above), made to hold any sockaddr, and a live local.
        unsafe { (&raw mut name.storage).cast::<T>().write_unaligned(part) };
        name.length = length as libc::socklen_t;
        name
    }

    pub(crate) fn inet(address: SocketAddr) -> Name {
        match address {
            SocketAddr::V4(v4) => Name::from_part(
                libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: v4.port().to_be(),
                    sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                    sin_zero: [0; 8],
                },
                size_of::<libc::sockaddr_in>(),
            ),
            SocketAddr::V6(v6) => Name::from_part(
                libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as libc::sa_family_t,
                    sin6_port: v6.port().to_be(),
                    sin6_flowinfo: v6.flowinfo(),
                    sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                    sin6_scope_id: v6.scope_id(),
                },
                size_of::<libc::sockaddr_in6>(),
            ),
        }
    }

    /// A name of the Unix family: `bytes` as they go behind the family; an abstract name begins with NUL, a path gets a
    /// NUL at its end.
    pub(crate) fn unix(bytes: &[u8]) -> SysResult<Name> {
        let is_path = bytes.first().is_some_and(|first| *first != 0);
        let length = bytes.len() + usize::from(is_path);
        if length > PATH_ROOM {
            return Err(Errno::ENAMETOOLONG);
        }
        let mut sun_path = [0; PATH_ROOM];
        for (to, from) in sun_path.iter_mut().zip(bytes) {
            *to = from.cast_signed() as libc::c_char;
        }
        let part = libc::sockaddr_un { sun_family: libc::AF_UNIX as libc::sa_family_t, sun_path };
        Ok(Name::from_part(part, PATH_AT + length))
    }

    pub(crate) fn family(&self) -> libc::c_int {
        if self.length == 0 { libc::AF_UNSPEC } else { self.storage.ss_family.into() }
    }

    fn part<T: Copy>(&self) -> T {
        const { assert!(size_of::<T>() <= size_of::<libc::sockaddr_storage>()) };
        // SAFETY: the storage is larger than T (asserted above), initialised as a whole, and T is plain data.
        unsafe { (&raw const self.storage).cast::<T>().read_unaligned() }
    }

    pub(crate) fn as_inet(&self) -> Option<SocketAddr> {
        match self.family() {
            libc::AF_INET => {
                let part: libc::sockaddr_in = self.part();
                let ip = Ipv4Addr::from(part.sin_addr.s_addr.to_ne_bytes());
                Some(SocketAddrV4::new(ip, u16::from_be(part.sin_port)).into())
            }
            libc::AF_INET6 => {
                let part: libc::sockaddr_in6 = self.part();
                let ip = Ipv6Addr::from(part.sin6_addr.s6_addr);
                let port = u16::from_be(part.sin6_port);
                Some(SocketAddrV6::new(ip, port, part.sin6_flowinfo, part.sin6_scope_id).into())
            }
            _ => None,
        }
    }

    /// The bytes behind the family, as `Name::unix` takes them; none for a socket without a name.
    pub(crate) fn as_unix(&self) -> Option<Vec<u8>> {
        if self.family() != libc::AF_UNIX {
            return None;
        }
        let part: libc::sockaddr_un = self.part();
        let length = (self.length as usize).saturating_sub(PATH_AT).min(PATH_ROOM);
        let bytes = part.sun_path.iter().take(length).map(|byte| byte.to_ne_bytes()[0]);
        let is_abstract = part.sun_path.first() == Some(&0);
        Some(bytes.take_while(|byte| is_abstract || *byte != 0).collect())
    }

    /// Copies a name from where C code has put it; none if it is longer than any name.
    ///
    /// # Safety
    /// `from` is null or points to `length` readable bytes.
    pub(super) unsafe fn copied(from: *const libc::sockaddr, length: libc::socklen_t) -> Option<Name> {
        if from.is_null() || length as usize > size_of::<libc::sockaddr_storage>() {
            return None;
        }
        let mut name = Name::empty();
        // SAFETY: readable by the caller's word, writable as checked above, and a live local cannot overlap it.
        unsafe { from.cast::<u8>().copy_to_nonoverlapping((&raw mut name.storage).cast(), length as usize) };
        name.length = length;
        Some(name)
    }

    fn pointer(&self) -> *const libc::sockaddr {
        (&raw const self.storage).cast()
    }

    /// Has the kernel fill in a name.
    fn filled<T>(call: impl FnOnce(*mut libc::sockaddr, *mut libc::socklen_t) -> SysResult<T>) -> SysResult<(T, Name)> {
        let mut name = Name::empty();
        let mut length = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
        let value = call((&raw mut name.storage).cast(), &raw mut length)?;
        name.length = length.min(size_of::<libc::sockaddr_storage>() as libc::socklen_t);
        Ok((value, name))
    }
}

pub(crate) fn bind(fd: BorrowedFd<'_>, name: &Name) -> SysResult<()> {
    // SAFETY: the kernel reads `length` bytes of a live name that has at least as many.
    check(unsafe { libc::bind(fd.as_raw_fd(), name.pointer(), name.length) }).map(drop)
}

/// Gives a Unix socket an abstract name of the kernel's choice.
pub(crate) fn bind_to_any(fd: BorrowedFd<'_>) -> SysResult<()> {
    let family = libc::AF_UNIX as libc::sa_family_t;
    let length = size_of::<libc::sa_family_t>() as libc::socklen_t;
    // SAFETY: the kernel reads the family alone, a live local of the length given.
    check(unsafe { libc::bind(fd.as_raw_fd(), (&raw const family).cast(), length) }).map(drop)
}

pub(crate) fn connect(fd: BorrowedFd<'_>, name: &Name) -> SysResult<()> {
    // SAFETY: as in `bind`.
    check(unsafe { libc::connect(fd.as_raw_fd(), name.pointer(), name.length) }).map(drop)
}

pub(crate) fn listen(fd: BorrowedFd<'_>, backlog: libc::c_int) -> SysResult<()> {
    // SAFETY: takes numbers only.
    check(unsafe { libc::listen(fd.as_raw_fd(), backlog) }).map(drop)
}

/// Accepts a connection, close-on-exec and in non-blocking mode, and the name of who connects.
pub(crate) fn accept(fd: BorrowedFd<'_>) -> SysResult<(OwnedFd, Name)> {
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: `filled` gives pointers to a live storage and its length.
    let (accepted, name) =
        Name::filled(|to, length| check(unsafe { libc::accept4(fd.as_raw_fd(), to, length, flags) }))?;
    // SAFETY: a new descriptor that nobody else has.
    Ok((unsafe { OwnedFd::from_raw_fd(accepted) }, name))
}

pub(crate) fn local_name(fd: BorrowedFd<'_>) -> SysResult<Name> {
    // SAFETY: `filled` gives pointers to a live storage and its length.
    Name::filled(|to, length| check(unsafe { libc::getsockname(fd.as_raw_fd(), to, length) })).map(|(_, name)| name)
}

pub(crate) fn peer_name(fd: BorrowedFd<'_>) -> SysResult<Name> {
    // SAFETY: `filled` gives pointers to a live storage and its length.
    Name::filled(|to, length| check(unsafe { libc::getpeername(fd.as_raw_fd(), to, length) })).map(|(_, name)| name)
}

/// An option whose value is an int, read.
pub(crate) fn number_option(fd: BorrowedFd<'_>, level: libc::c_int, option: libc::c_int) -> SysResult<libc::c_int> {
    let mut value: libc::c_int = 0;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to a live local of that size.
    check(unsafe { libc::getsockopt(fd.as_raw_fd(), level, option, (&raw mut value).cast(), &raw mut length) })?;
    Ok(value)
}

/// An option whose value is an int, written.
pub(crate) fn set_number_option(
    fd: BorrowedFd<'_>,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_int,
) -> SysResult<()> {
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the kernel reads an int from a live local.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, (&raw const value).cast(), length) }).map(drop)
}

/// SO_PEERCRED: who called connect, or listen, or socketpair on the other side.
pub(crate) fn peer_credentials(fd: BorrowedFd<'_>) -> SysResult<libc::ucred> {
    let mut value = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    let to = (&raw mut value).cast();
    // SAFETY: the kernel writes at most `length` bytes to a live local of that size.
    check(unsafe { libc::getsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEERCRED, to, &raw mut length) })?;
    Ok(value)
}

#[inline(always)]
pub(crate) fn send(fd: BorrowedFd<'_>, bytes: &[u8]) -> SysResult<usize> {
    let (fd, flags) = (fd.as_raw_fd() as usize, FLAGS as usize);
    // SAFETY: the kernel reads `bytes`, a live borrow; NULL and 0 for no name.
    unsafe { direct::call6(libc::SYS_sendto, fd, bytes.as_ptr() as usize, bytes.len(), flags, 0, 0) }
}

/// Bytes of a stream that the other side has not acknowledged, or over a Unix socket not read (with the kernel's own
/// overhead).
///
/// System call: ioctl(SIOCOUTQ).
pub(crate) fn unsent(fd: BorrowedFd<'_>) -> SysResult<u64> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the kernel writes an int to a live local.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) })?;
    Ok(u64::try_from(bytes).unwrap_or(0))
}

#[inline]
pub(crate) fn send_to(fd: BorrowedFd<'_>, bytes: &[u8], to: &Name) -> SysResult<usize> {
    let (from, length) = (bytes.as_ptr().cast(), bytes.len());
    // SAFETY: the kernel reads `bytes` and `length` bytes of a live name that has at least as many.
    check(unsafe { libc::sendto(fd.as_raw_fd(), from, length, FLAGS, to.pointer(), to.length) })
        .map(isize::cast_unsigned)
}

/// Receives; with MSG_TRUNC among the flags the result may be larger than the buffer, which then got the beginning.
#[inline(always)]
pub(crate) fn receive(fd: BorrowedFd<'_>, buffer: &mut [u8], flags: libc::c_int) -> SysResult<usize> {
    let (fd, flags) = (fd.as_raw_fd() as usize, (FLAGS | flags) as usize);
    // SAFETY: the kernel writes at most the buffer's length to it, a live exclusive borrow; NULL for no name.
    unsafe { direct::call6(libc::SYS_recvfrom, fd, buffer.as_mut_ptr() as usize, buffer.len(), flags, 0, 0) }
}

/// As `receive`, with the sender's name.
#[inline]
pub(crate) fn receive_from(fd: BorrowedFd<'_>, buffer: &mut [u8], flags: libc::c_int) -> SysResult<(usize, Name)> {
    let (into, room) = (buffer.as_mut_ptr().cast(), buffer.len());
    Name::filled(|name, length| {
        // SAFETY: as in `receive`; `filled` gives pointers to a live storage and its length.
        check(unsafe { libc::recvfrom(fd.as_raw_fd(), into, room, FLAGS | flags, name, length) })
            .map(isize::cast_unsigned)
    })
}

/// Room for control data: the most descriptors, one set of credentials and one pidfd, aligned as the kernel wants it.
#[repr(C, align(8))]
struct Control([u8; CONTROL]);

// SAFETY: CMSG_SPACE only computes.
const CONTROL: usize = unsafe {
    libc::CMSG_SPACE((MOST_DESCRIPTORS * size_of::<RawFd>()) as u32) as usize
        + libc::CMSG_SPACE(size_of::<libc::ucred>() as u32) as usize
        + libc::CMSG_SPACE(size_of::<RawFd>() as u32) as usize
};

/// A message with what came beside its bytes.
pub(crate) struct Message {
    /// With MSG_TRUNC among the flags the true size.
    pub(crate) length: usize,
    pub(crate) name: Name,
    pub(crate) credentials: Option<libc::ucred>,
    /// Close-on-exec; whoever drops the message closes them.
    pub(crate) descriptors: Vec<OwnedFd>,
    /// The kernel could not deliver all control data.
    pub(crate) control_was_cut: bool,
}

/// Receives bytes and control data; every descriptor that the kernel installs is owned by the result.
pub(crate) fn receive_message(fd: BorrowedFd<'_>, buffer: &mut [u8], flags: libc::c_int) -> SysResult<Message> {
    let mut control = Control([0; CONTROL]);
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let mut name = Name::empty();
    // SAFETY: plain data for which all zeros is a valid value.
    let mut header: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    header.msg_name = (&raw mut name.storage).cast();
    header.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = CONTROL as _;
    // SAFETY: the header points to live locals and to `buffer`, exclusively borrowed, with their lengths.
    let received = unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut header, FLAGS | libc::MSG_CMSG_CLOEXEC | flags) };
    let length = check(received)?.cast_unsigned();
    name.length = header.msg_namelen.min(size_of::<libc::sockaddr_storage>() as libc::socklen_t);
    let control_was_cut = header.msg_flags & libc::MSG_CTRUNC != 0;
    let mut message = Message { length, name, credentials: None, descriptors: Vec::new(), control_was_cut };
    // SAFETY: the kernel has filled `control` with msg_controllen bytes of well-formed records, also when it was cut;
    // CMSG_FIRSTHDR and CMSG_NXTHDR stay inside them, and each record's data lies in cmsg_len. Reads are unaligned-safe.
    // Each number in an SCM_RIGHTS or SCM_PIDFD record is a new descriptor of this process that nobody else knows.
    unsafe {
        let mut record = libc::CMSG_FIRSTHDR(&raw const header);
        while let Some(head) = record.as_ref() {
            let data = libc::CMSG_DATA(record);
            #[allow(clippy::unnecessary_cast)] // other C libraries have another type here
            let data_length = (head.cmsg_len as usize).saturating_sub(libc::CMSG_LEN(0) as usize);
            match (head.cmsg_level, head.cmsg_type) {
                (libc::SOL_SOCKET, libc::SCM_RIGHTS) => {
                    let count = data_length / size_of::<RawFd>();
                    message.descriptors.reserve(count);
                    for at in 0..count {
                        let fd = data.cast::<RawFd>().add(at).read_unaligned();
                        message.descriptors.push(OwnedFd::from_raw_fd(fd));
                    }
                }
                (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) if data_length >= size_of::<libc::ucred>() => {
                    message.credentials = Some(data.cast::<libc::ucred>().read_unaligned());
                }
                // On an adopted socket with SO_PASSPIDFD each message brings a descriptor of its sender, which nobody here
                // wants. (A negative number stands for none.)
                (libc::SOL_SOCKET, SCM_PIDFD) if data_length >= size_of::<RawFd>() => {
                    let fd = data.cast::<RawFd>().read_unaligned();
                    if fd >= 0 {
                        drop(OwnedFd::from_raw_fd(fd));
                    }
                }
                _ => {}
            }
            record = libc::CMSG_NXTHDR(&raw const header, record);
        }
    }
    Ok(message)
}

/// Sends bytes with descriptors attached to them.
pub(crate) fn send_descriptors(fd: BorrowedFd<'_>, bytes: &[u8], passed: &[BorrowedFd<'_>]) -> SysResult<usize> {
    if passed.is_empty() {
        return send(fd, bytes);
    }
    if passed.len() > MOST_DESCRIPTORS {
        return Err(Errno::EINVAL);
    }
    let data_length = (passed.len() * size_of::<RawFd>()) as u32;
    let mut control = Control([0; CONTROL]);
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: plain data for which all zeros is a valid value.
    let mut header: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.0.as_mut_ptr().cast();
    // SAFETY: one record with at most MOST_DESCRIPTORS numbers (checked above) fits `control`, so CMSG_FIRSTHDR is not
    // null and the writes stay inside; the kernel reads live locals and `bytes`.
    unsafe {
        header.msg_controllen = libc::CMSG_SPACE(data_length) as _;
        let record = libc::CMSG_FIRSTHDR(&raw const header);
        (*record).cmsg_level = libc::SOL_SOCKET;
        (*record).cmsg_type = libc::SCM_RIGHTS;
        (*record).cmsg_len = libc::CMSG_LEN(data_length) as _;
        for (at, fd) in passed.iter().enumerate() {
            libc::CMSG_DATA(record).cast::<RawFd>().add(at).write_unaligned(fd.as_raw_fd());
        }
        check(libc::sendmsg(fd.as_raw_fd(), &raw const header, FLAGS)).map(isize::cast_unsigned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_what_they_are_made_of() {
        for text in ["127.0.0.1:80", "[::1]:65535", "[fe80::1%3]:9"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(Name::inet(address).as_inet(), Some(address));
            assert_eq!(Name::inet(address).as_unix(), None);
        }
        for bytes in [&b"/run/x"[..], b"\0abstract", b"\0a\0b", b"", b"\0", b"\xff"] {
            assert_eq!(Name::unix(bytes).unwrap().as_unix().unwrap(), bytes);
        }
        assert!(Name::unix(&[b'x'; 107]).is_ok());
        assert_eq!(Name::unix(&[b'x'; 108]).err(), Some(Errno::ENAMETOOLONG));
        assert!(Name::unix(&[0; 108]).is_ok());
        assert_eq!(Name::unix(&[0; 109]).err(), Some(Errno::ENAMETOOLONG));
    }
}
