//! Messages over `unix-seqpacket:`, as the kernel keeps them.

use nix::errno::Errno;

use crate::error::Result;
use crate::socket::Socket;
use crate::timeout::Timeout;

/// Receives a message without waiting. A peer that went without reading all that it was sent is an error that the kernel
/// tells first, and once; what the peer had sent lies behind it.
pub(super) fn receive(socket: &Socket, buffer: &mut [u8]) -> Result<usize> {
    match socket.recv(buffer, Timeout::Now) {
        Err(error) if error.is(Errno::ECONNRESET) => socket.recv(buffer, Timeout::Now),
        outcome => outcome,
    }
}
