//! This process's standard error, on which nobody waits: what it has no room for is left out, counted and told.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, send};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::unistd::{isatty, write};

use crate::sys::not_inherited::NotInherited;

/// Bytes written at once: a pipe takes so many as a whole or not at all (PIPE_BUF).
const PIECE: usize = 4096;

#[derive(Default)]
pub(super) struct Outlet {
    /// Bytes left out since this was last told. Held while words are passed on, so that they do not mix.
    unsaid: Mutex<u64>,
    /// Bytes left out altogether; whoever asks for it waits for nobody.
    left_out: AtomicU64,
}

impl Outlet {
    /// Passes words on as far as there is room.
    pub fn pass(&self, words: impl IntoIterator<Item = Vec<u8>>) {
        // Not by the standard library's handle: a worker that is forked meanwhile would find it locked for ever.
        self.pass_to(std::io::stderr().as_fd(), words);
    }

    /// Bytes that were not passed on.
    pub fn left_out(&self) -> u64 {
        self.left_out.load(Ordering::Relaxed)
    }

    fn pass_to(&self, to: BorrowedFd<'_>, words: impl IntoIterator<Item = Vec<u8>>) {
        let mut unsaid = self.unsaid.lock().unwrap_or_else(PoisonError::into_inner);
        let mut way = None;
        for words in words {
            let way = way.get_or_insert_with(|| Way::to(to));
            let mut passed = 0;
            if tell(way, &mut unsaid) {
                passed = way.write_now(&words);
            }
            let left_out = (words.len() - passed) as u64;
            *unsaid += left_out;
            self.left_out.fetch_add(left_out, Ordering::Relaxed);
        }
    }
}

/// Tells what was left out; false if there is no room even for that.
fn tell(way: &Way<'_>, unsaid: &mut u64) -> bool {
    if *unsaid > 0 {
        let told = format!("\nwigwag: {unsaid} bytes that were to be said here were left out, as there was no room\n");
        if way.write_now(told.as_bytes()) < told.len() {
            return false;
        }
        *unsaid = 0;
    }
    true
}

/// How to write without waiting. The description is shared with other processes, so that it is not for us to make it
/// non-blocking; and one that is ready may have room for a single byte, or be filled by others meanwhile.
enum Way<'a> {
    /// A description of our own, which does not block. Not kept: whoever reads would not come to its end once this process
    /// has turned its standard error elsewhere.
    Own(NotInherited),
    Socket(BorrowedFd<'a>),
    /// A file, which does not block, or one that cannot be opened again, which then may.
    Shared(BorrowedFd<'a>),
    /// Nobody reads it.
    Nobody,
}

impl<'a> Way<'a> {
    fn to(fd: BorrowedFd<'a>) -> Way<'a> {
        let Ok(found) = fstat(fd) else { return Way::Nobody };
        let kind = SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT;
        match kind {
            SFlag::S_IFSOCK => return Way::Socket(fd),
            SFlag::S_IFIFO => {}
            SFlag::S_IFCHR if isatty(fd).unwrap_or(false) => {}
            _ => return Way::Shared(fd),
        }
        let flags = OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
        match NotInherited::open(|| open(path.as_str(), flags, Mode::empty())) {
            Ok(own) => Way::Own(own),
            Err(Errno::ENXIO) if kind == SFlag::S_IFIFO => Way::Nobody,
            Err(_) => Way::Shared(fd),
        }
    }

    /// Writes what there is room for. How much was written; all, if nobody can read it.
    fn write_now(&self, bytes: &[u8]) -> usize {
        let mut done = 0;
        while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
            match self.write_piece(rest.get(..PIECE).unwrap_or(rest)) {
                Ok(length @ 1..) => done += length,
                Err(Errno::EAGAIN | Errno::EINTR | Errno::ENOBUFS) => return done,
                Err(Errno::ENOSPC | Errno::EDQUOT | Errno::EMSGSIZE) => return done, // a file system, or a datagram, without room
                _ => return bytes.len(),                                             // closed: nobody misses anything
            }
        }
        done
    }

    fn write_piece(&self, piece: &[u8]) -> nix::Result<usize> {
        match self {
            Way::Own(fd) => write(fd, piece),
            Way::Socket(fd) => send(fd.as_raw_fd(), piece, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL),
            Way::Shared(fd) => {
                let mut ready = [PollFd::new(*fd, PollFlags::POLLOUT)];
                if poll(&mut ready, PollTimeout::ZERO)? == 0 {
                    return Err(Errno::EAGAIN);
                }
                write(fd, piece)
            }
            Way::Nobody => Ok(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn what_there_is_no_room_for_is_left_out_counted_and_told() {
        let (socket, other) = UnixStream::pair().unwrap();
        for (read, write) in [nix::unistd::pipe().unwrap(), (socket.into(), other.into())] {
            let outlet = Outlet::default();
            let room = 1024 * 1024;
            (0..2 * room / 4096).for_each(|_| outlet.pass_to(write.as_fd(), [vec![b'x'; 4096]]));
            let left_out = outlet.left_out();
            assert!(left_out > 0 && left_out == *outlet.unsaid.lock().unwrap());
            let mut there = vec![0; 2 * room];
            let mut length = 0;
            while length as u64 + left_out < 2 * room as u64 {
                length += nix::unistd::read(&read, &mut there).unwrap();
            }
            assert_eq!(length as u64 + left_out, 2 * room as u64);
            outlet.pass_to(write.as_fd(), [b"again".to_vec()]);
            let mut said = String::new();
            while !said.ends_with("again") {
                let length = nix::unistd::read(&read, &mut there).unwrap();
                said.push_str(&String::from_utf8_lossy(&there[..length]));
            }
            assert!(said.contains(&format!("{left_out} bytes")), "{said}");
            assert_eq!(*outlet.unsaid.lock().unwrap(), 0);
            drop(read);
            outlet.pass_to(write.as_fd(), [b"to nobody".to_vec()]);
            assert_eq!(outlet.left_out(), left_out);
        }
    }
}
