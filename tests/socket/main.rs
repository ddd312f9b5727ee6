//! Sockets, between processes and within one.

#![allow(clippy::unwrap_used)]

mod datagram;
mod descriptors;
mod path;
mod stream;
#[path = "../support/mod.rs"]
mod support;
mod tcp;

use support::{GENEROUS, fresh};
use wigwag::{Address, Listener, Scheme, Socket, SocketOptions};

/// Options as they are by default.
pub(crate) fn plain() -> SocketOptions {
    SocketOptions::default()
}

/// A path of its own in a directory that goes with the test.
pub(crate) struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Place {
        Place { directory: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn address(&self, scheme: Scheme, name: &str) -> Address {
        Address::parse(format!("{scheme}:{}", self.path(name).display())).unwrap()
    }
}

/// An abstract name of its own.
pub(crate) fn abstract_address(scheme: Scheme) -> Address {
    Address::parse(format!("{scheme}:@{}", fresh("abstract"))).unwrap()
}

pub(crate) fn listen(address: &Address) -> Listener {
    Listener::open(address, &plain(), GENEROUS).unwrap()
}

pub(crate) fn connect(address: &Address) -> Socket {
    Socket::connect(address, &plain(), GENEROUS).unwrap()
}

/// How many descriptors this process has open.
pub(crate) fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}
