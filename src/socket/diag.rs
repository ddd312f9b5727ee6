//! Whose socket a datagram socket is connected to: the kernel tells it of streams by SO_PEERCRED, and of datagrams only by
//! way of its socket monitoring interface (netlink, unix_diag).

use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use nix::sys::stat::fstat;

use crate::sys::SysResult;
use crate::sys::socket as sys;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SHOW_PEER: u32 = 0x04;
const SHOW_UID: u32 = 0x40; // Linux 5.3
const PEER: u16 = 2;
const UID: u16 = 7;
/// The size of a netlink message's head.
const HEAD: usize = 16;
/// Where the attributes of an answer begin: behind the head and the socket's own record.
const ATTRIBUTES: usize = HEAD + 16;

/// The user who made the socket that `fd` is connected to. `ENOENT` if that socket is gone; another errno where the kernel
/// or a sandbox does not give the answer.
pub(super) fn uid_of_peer(fd: BorrowedFd<'_>) -> SysResult<u32> {
    let monitor = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkSockDiag)?;
    // The kernel gives sockets numbers of 32 bits, and never one twice while either lives.
    let number = u32::try_from(fstat(fd)?.st_ino).map_err(|_| Errno::EOVERFLOW)?;
    let peer = ask(monitor.as_fd(), number, SHOW_PEER, PEER)?;
    if peer == 0 {
        return Err(Errno::ENOENT); // still connected, to a socket that nobody has any more
    }
    ask(monitor.as_fd(), peer, SHOW_UID, UID)
}

/// Asks for one attribute of the Unix socket with this number.
fn ask(monitor: BorrowedFd<'_>, number: u32, show: u32, wanted: u16) -> SysResult<u32> {
    const ANY: u32 = u32::MAX;
    let family_and_protocol = libc::AF_UNIX as u32; // and padding: four fields of one or two bytes
    let request = [family_and_protocol, ANY, number, show, ANY, ANY];
    let mut message = Vec::with_capacity(HEAD + 24);
    message.extend(((HEAD + 24) as u32).to_ne_bytes());
    message.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    message.extend((libc::NLM_F_REQUEST as u16).to_ne_bytes());
    message.extend([0; 8]); // sequence number and sender: there is one question at a time
    #[cfg(target_endian = "big")]
    compile_error!("the first byte of the request is the family");
    message.extend(request.iter().flat_map(|field| field.to_ne_bytes()));
    sys::send(monitor, &message)?;
    let mut answer = [0; 1024];
    let length = sys::receive(monitor, &mut answer, 0)?; // the kernel has answered before send returned
    let answer = answer.get(..length).unwrap_or_default();
    if u16_at(answer, 4)? == libc::NLMSG_ERROR as u16 {
        return Err(Errno::from_raw(u32_at(answer, HEAD)?.cast_signed().wrapping_neg()));
    }
    let mut at = ATTRIBUTES;
    while at + 4 <= answer.len() {
        let (size, kind) = (usize::from(u16_at(answer, at)?), u16_at(answer, at + 2)?);
        if kind == wanted && size >= 8 {
            return u32_at(answer, at + 4);
        }
        at += size.max(4).next_multiple_of(4);
    }
    // No peer (it is gone), or a kernel that does not know the attribute.
    Err(if wanted == PEER { Errno::ENOENT } else { Errno::ENOTSUP })
}

fn u16_at(bytes: &[u8], at: usize) -> SysResult<u16> {
    let field = bytes.get(at..at + 2).and_then(|field| field.try_into().ok());
    field.map(u16::from_ne_bytes).ok_or(Errno::EBADMSG)
}

fn u32_at(bytes: &[u8], at: usize) -> SysResult<u32> {
    let field = bytes.get(at..at + 4).and_then(|field| field.try_into().ok());
    field.map(u32::from_ne_bytes).ok_or(Errno::EBADMSG)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixDatagram;

    #[test]
    fn finds_whose_the_peer_is() {
        let (one, other) = UnixDatagram::pair().unwrap();
        assert_eq!(uid_of_peer(one.as_fd()), Ok(nix::unistd::geteuid().as_raw()));
        drop(other);
        assert_eq!(uid_of_peer(one.as_fd()), Err(Errno::ENOENT));
        assert_eq!(uid_of_peer(UnixDatagram::unbound().unwrap().as_fd()), Err(Errno::ENOENT));
    }
}
