//! A channel over datagrams: `udp:`, `unix-dgram:`. Each is a message; a receiver knows whom it came from, and answers.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use nix::poll::PollFlags;

use super::connecting::connect;
use super::peer::Identity;
use super::transport::Transport;
use super::{ChannelPeer, ChannelReceived, ChannelStatistics, Direction, refusal};
use crate::address::{Address, Scheme};
use crate::error::{Error, Result};
use crate::socket::{Socket, SocketAddress, SocketOptions};
use crate::sys::copy_descriptor;
use crate::timeout::{Deadline, Timeout};
use crate::wait::Object;

/// The receiver's socket, bound to the name.
pub(super) struct DatagramReceiver {
    socket: Socket,
}

impl DatagramReceiver {
    /// Binds the name. Waits for a host's name to be looked up.
    pub fn open(address: &Address, timeout: Timeout) -> Result<DatagramReceiver> {
        Ok(DatagramReceiver { socket: Socket::bind(address, &SocketOptions::default(), timeout)? })
    }

    /// What it is bound to, with the port that the kernel chose.
    pub fn local_address(&self) -> Option<Address> {
        self.socket.local_address().ok()?.to_address().ok()
    }
}

impl Transport for DatagramReceiver {
    fn send(&self, _: &[u8], _: u32, _: Timeout) -> Result<()> {
        Err(Error::new(Errno::EBADF, "send").on_text(self.socket.address()))
    }

    fn recv(&self, buffer: &mut [u8], timeout: Timeout) -> Result<ChannelReceived> {
        let (length, from) = self.socket.recv_from(buffer, timeout)?;
        Ok(ChannelReceived { length, peer: Some(ChannelPeer(Identity::Datagram(from))), ..Default::default() })
    }

    fn reply(&self, peer: &ChannelPeer, message: &[u8], timeout: Timeout) -> Result<()> {
        let Identity::Datagram(to) = &peer.0 else {
            let object = Object::new(self.socket.address());
            return Err(refusal::not_our_peer(&object.operation("reply", timeout), peer));
        };
        self.socket.send_to(message, to, timeout)
    }

    fn flush(&self, _: Timeout) -> Result<()> {
        Ok(()) // the kernel has every datagram as soon as it is sent
    }

    fn descriptor(&self, _: Direction) -> Result<(OwnedFd, PollFlags)> {
        descriptor_of(&self.socket, PollFlags::POLLIN)
    }

    fn count(&self, _: &mut ChannelStatistics) {}

    fn end_waits(&self) {
        self.socket.end_waits();
    }
}

/// A sender's socket, with a name of its own so that it can be answered.
pub(super) struct DatagramSender {
    socket: Socket,
    /// The receiver, looked up once.
    to: SocketAddress,
    scheme: Scheme,
    bounced: AtomicU64,
}

impl DatagramSender {
    /// Looks the receiver up, and waits until somebody receives there as far as the system can tell.
    pub fn open(address: &Address, timeout: Timeout) -> Result<DatagramSender> {
        let object = Object::new(address.to_string());
        let socket = connect(address, &mut object.operation("open for sending", timeout))?;
        let to = socket.peer_address()?;
        Ok(DatagramSender { socket, to, scheme: address.scheme(), bounced: AtomicU64::new(0) })
    }

    #[cold]
    fn bounced(&self) {
        self.bounced.fetch_add(1, Ordering::Relaxed); // a count for people: orders nothing
    }
}

impl Transport for DatagramSender {
    fn send(&self, message: &[u8], _: u32, timeout: Timeout) -> Result<()> {
        let deadline = Deadline::after(timeout);
        match self.socket.send(message, timeout) {
            Ok(_) => Ok(()),
            // The receiver that the socket was connected to has gone; another may have its name by now.
            Err(error)
                if self.scheme == Scheme::UnixDgram
                    && (error.is(Errno::ECONNREFUSED) || error.is(Errno::ENOTCONN) || error.is(Errno::EPIPE)) =>
            {
                self.socket.send_to(message, &self.to, deadline.left_of(timeout))
            }
            Err(error) if error.is(Errno::EMSGSIZE) => Err(refusal::too_large(error, self.scheme, message.len())),
            Err(error) if error.is(Errno::ECONNREFUSED) => {
                self.bounced();
                Err(error.because(
                    "nobody received a datagram that was sent before; this one was not sent. Start the receiver and \
                     send again",
                ))
            }
            Err(error) => Err(error),
        }
    }

    fn recv(&self, buffer: &mut [u8], timeout: Timeout) -> Result<ChannelReceived> {
        let received = self.socket.recv(buffer, timeout).map_err(|error| match error.is(Errno::ECONNREFUSED) {
            true => {
                self.bounced();
                error.because("nobody received a datagram that was sent before. Start the receiver and send again")
            }
            false => error,
        });
        Ok(ChannelReceived { length: received?, ..Default::default() })
    }

    fn reply(&self, _: &ChannelPeer, message: &[u8], timeout: Timeout) -> Result<()> {
        self.send(message, 0, timeout)
    }

    fn flush(&self, _: Timeout) -> Result<()> {
        Ok(())
    }

    fn descriptor(&self, _: Direction) -> Result<(OwnedFd, PollFlags)> {
        descriptor_of(&self.socket, PollFlags::POLLOUT)
    }

    fn count(&self, statistics: &mut ChannelStatistics) {
        statistics.unconfirmed = self.bounced.load(Ordering::Relaxed);
    }

    fn end_waits(&self) {
        self.socket.end_waits();
    }
}

fn descriptor_of(socket: &Socket, events: PollFlags) -> Result<(OwnedFd, PollFlags)> {
    let copied = copy_descriptor(socket.as_fd());
    copied.map(|fd| (fd, events)).map_err(|errno| Error::new(errno, "descriptor").on_text(socket.address()))
}
