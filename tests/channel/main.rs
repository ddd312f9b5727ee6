//! Channels over every mechanism.

#[path = "../support/mod.rs"]
mod support;

mod call;
mod conformance;
mod crowded;
mod datagrams;
mod durable;
mod gate;
mod pipes;
mod reconnect;
mod streams;

use support::{GENEROUS, fresh};
use wigwag::{Address, Channel};

/// Both ends, and the address that more senders open; what has a name is removed with it.
struct Ends {
    receiver: Channel,
    sender: Channel,
    address: Address,
    _directory: Option<tempfile::TempDir>,
}

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = Channel::remove(&self.address); // sockets go by themselves
    }
}

/// Opens both ends over a fresh object of this kind, a scheme with options; as two processes would, at the same time.
fn open(kind: &str) -> Ends {
    let (scheme, options) = kind.split_once('?').map_or((kind, String::new()), |(s, o)| (s, format!("?{o}")));
    let mut directory = None;
    let mut in_directory = |name: &str| {
        let made = directory.insert(tempfile::tempdir().unwrap());
        made.path().join(name).display().to_string()
    };
    let text = match scheme {
        "tcp" | "udp" => format!("{scheme}://127.0.0.1:0{options}"),
        "unix" | "unix-dgram" | "unix-seqpacket" | "fifo" | "file" => {
            format!("{scheme}:{}{options}", in_directory("channel"))
        }
        "mq" => format!("mq:/{}{options}", fresh("channel")),
        "sysv-mq" => {
            let path = in_directory("key");
            std::fs::write(&path, "").unwrap();
            format!("sysv-mq:{path}#7{options}")
        }
        "ring" | "topic" => format!("{scheme}:{}{options}", in_directory("segment")),
        "pipe" => {
            let address: Address = format!("pipe:{options}").parse().unwrap();
            let (receiver, sender) = Channel::pair(&address).unwrap();
            return Ends { receiver, sender, address, _directory: None };
        }
        scheme => panic!("no channels over {scheme}"),
    };
    let address: Address = text.parse().unwrap();
    if matches!(scheme, "tcp" | "udp" | "topic") {
        let receiver = Channel::open_receiver(&address, GENEROUS).unwrap();
        let local = receiver.local_address().unwrap_or(&address).to_string();
        let address: Address = if local.contains('?') { local } else { format!("{local}{options}") }.parse().unwrap();
        let sender = Channel::open_sender(&address, GENEROUS).unwrap();
        return Ends { receiver, sender, address, _directory: directory };
    }
    let (receiver, sender) = std::thread::scope(|scope| {
        let receiver = scope.spawn(|| Channel::open_receiver(&address, GENEROUS).unwrap());
        let sender = Channel::open_sender(&address, GENEROUS).unwrap();
        (receiver.join().unwrap(), sender)
    });
    Ends { receiver, sender, address, _directory: directory }
}

/// Waits for a byte from a child.
fn told(pipe: &std::os::fd::OwnedFd) {
    use nix::poll::{PollFd, PollFlags, poll};
    use std::os::fd::AsFd;
    let ready = poll(&mut [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)], 30_000_u16).unwrap();
    assert!(ready == 1 && nix::unistd::read(pipe, &mut [0]).unwrap() == 1, "the child never got there");
}
