//! What a cell shall be, and what it has seen.

use std::time::SystemTime;

use nix::errno::Errno;

use crate::address::Address;
use crate::error::{Error, Result};
use crate::segment::WaitMode;

const PARTICIPANTS_DEFAULT: u32 = 32;

/// How to open or make a cell. `largest`, `participants` and `mode` count when it is made and are the cell's from then
/// on; the rest is each handle's own.
#[derive(Clone, Debug, Default)]
pub struct CellOptions {
    /// The largest value in bytes; 0 for 256. Memory for `2 × participants + 2` of them is reserved at once.
    pub largest: u64,
    /// How many handles may be open at the same time, at most 256; 0 for 32.
    pub participants: u32,
    /// Permissions of the file; 0 for 0600.
    pub mode: u32,
    /// How the calls of this handle wait.
    pub wait: WaitMode,
}

impl CellOptions {
    /// Fills in from the address what is default here.
    pub(super) fn with(&self, address: &Address) -> Result<CellOptions> {
        let number = |own: u64, key: &str| if own == 0 { address.number(key).unwrap_or(0) } else { own };
        let mut options = self.clone();
        options.largest = number(self.largest, "largest");
        let participants = number(self.participants.into(), "participants");
        options.participants = u32::try_from(participants).unwrap_or(u32::MAX);
        if options.mode == 0 {
            options.mode = address.mode().unwrap_or(0o600);
        }
        options.check(&address.to_string())
    }

    pub(super) fn check(mut self, address: &str) -> Result<CellOptions> {
        let refuse = |reason| Err(Error::new(Errno::EINVAL, "open").on_text(address).because(reason));
        if self.participants > 256 {
            return refuse("a cell has at most 256 participants");
        }
        if self.mode > 0o777 {
            return refuse("the mode is permissions, octal 0 to 777");
        }
        if self.participants == 0 {
            self.participants = PARTICIPANTS_DEFAULT;
        }
        Ok(self)
    }
}

/// What was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CellRead {
    /// Bytes.
    pub length: usize,
    /// How many values there had been, this one included.
    pub sequence: u64,
}

/// What a cell has seen, and who uses it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CellStatistics {
    /// Values so far.
    pub sequence: u64,
    /// Buffers that writers have reserved and not published.
    pub writing: u64,
    /// Values that were being written by those who died, and were never published. Advisory: a death of whoever found
    /// one can leave it short by one, and one whose writer died in the moment of publishing may be counted although it was, if
    /// another followed at once.
    pub skipped: u64,
    /// Buffers, each for one value.
    pub buffers: u64,
    /// The largest value in bytes.
    pub largest: usize,
    /// Memory in bytes, all of it.
    pub bytes: usize,
    /// Who takes part.
    pub participants: Vec<CellParticipant>,
}

/// One handle on a cell, of this or another process.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CellParticipant {
    /// The handle that was asked.
    pub is_self: bool,
    /// Its process; `None` if it lives in a pid namespace that this one cannot see.
    pub pid: Option<u32>,
    /// When it was opened, to the second.
    pub since: SystemTime,
    /// Buffers that it has reserved and not published.
    pub writing: u64,
}
