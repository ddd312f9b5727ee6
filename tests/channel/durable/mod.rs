//! The log behind `file:`: what is torn, damaged, foreign, too old or too much, and who dies meanwhile.

mod damage;
mod deaths;
mod limits;
mod readers;

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use wigwag::{Address, Channel, Timeout};

use crate::support::GENEROUS;

/// How long a segment's heading is, and a record's head.
const HEADING: u64 = 96;
const RECORD: u64 = 32;

/// A log in a directory of its own.
struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        // In memory, where bringing it to the disk takes no time; the conformance suite is on the disk.
        let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        Place { directory: directory.unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    fn address(&self, options: &str) -> Address {
        format!("file:{}{options}", self.path().display()).parse().unwrap()
    }

    fn sender(&self, options: &str) -> Channel {
        Channel::open_sender(&self.address(options), GENEROUS).unwrap()
    }

    fn receiver(&self, options: &str) -> Channel {
        Channel::open_receiver(&self.address(options), GENEROUS).unwrap()
    }

    /// A log with these messages in its first segment, and nobody who uses it.
    fn with(messages: &[&[u8]]) -> Place {
        let place = Place::new();
        place.sender("?fsync=never").send_batch(messages, GENEROUS).unwrap();
        place
    }

    fn segments(&self) -> Vec<PathBuf> {
        segments(&self.path())
    }
}

fn segments(log: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(log).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = entries.filter(|path| path.extension().is_some_and(|end| end == "log")).collect();
    found.sort();
    found
}

/// All that can be received now.
fn all(receiver: &Channel) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    loop {
        match receiver.recv_message(Timeout::Now) {
            Ok(message) => found.push(message.data),
            Err(error) => {
                assert!(error.is(Errno::EAGAIN), "{error}");
                return found;
            }
        }
    }
}

fn one(receiver: &Channel) -> Vec<u8> {
    receiver.recv_message(GENEROUS).unwrap().data
}

fn cut_to(path: &Path, length: u64) {
    std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(length).unwrap();
}

fn flip(path: &Path, bit: u64) {
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, bit / 8).unwrap();
    byte[0] ^= 1 << (bit % 8);
    file.write_all_at(&byte, bit / 8).unwrap();
}

/// Changes the heading of a segment, so that it still is a good one.
fn doctor(path: &Path, at: usize, bytes: &[u8]) {
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut heading = [0; HEADING as usize];
    file.read_exact_at(&mut heading, 0).unwrap();
    heading[at..at + bytes.len()].copy_from_slice(bytes);
    heading[12..16].fill(0);
    let check = crc32fast::hash(&heading);
    heading[12..16].copy_from_slice(&check.to_le_bytes());
    file.write_all_at(&heading, 0).unwrap();
}

const BOOT: usize = 32;
const MADE: usize = 72;
