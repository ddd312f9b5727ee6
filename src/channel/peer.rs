//! Who sent a message.

use std::fmt;
use std::sync::Arc;

use crate::socket::{Credentials, SocketAddress};

/// The sender of a message, to be told apart and to be answered ([`Channel::reply`](super::Channel::reply)).
///
/// It stays valid after the sender has gone; answering is then refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelPeer(pub(super) Identity);

#[derive(Clone, Debug)]
pub(super) enum Identity {
    Connection(Arc<Connected>),
    Datagram(SocketAddress),
}

/// One connection of a receiver.
#[derive(Debug)]
pub(super) struct Connected {
    pub number: u64,
    pub name: Arc<str>,
    pub credentials: Option<Credentials>,
}

impl ChannelPeer {
    /// The process on the other side, if the mechanism knows it: `unix:` and `unix-seqpacket:` do, as of the moment of
    /// connecting.
    pub fn credentials(&self) -> Option<Credentials> {
        match &self.0 {
            Identity::Connection(connected) => connected.credentials,
            Identity::Datagram(_) => None,
        }
    }
}

/// Where it is, as an address; a peer that has no name shows the receiver's address and its number there.
impl fmt::Display for ChannelPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Identity::Connection(connected) => {
                write!(f, "{} (connection {}", connected.name, connected.number)?;
                match connected.credentials {
                    Some(credentials) => write!(f, ", pid {})", credentials.pid),
                    None => write!(f, ")"),
                }
            }
            Identity::Datagram(address) => write!(f, "{address}"),
        }
    }
}

impl PartialEq for Identity {
    fn eq(&self, other: &Identity) -> bool {
        match (self, other) {
            (Identity::Connection(one), Identity::Connection(other)) => Arc::ptr_eq(one, other),
            (Identity::Datagram(one), Identity::Datagram(other)) => one == other,
            _ => false,
        }
    }
}

impl Eq for Identity {}
