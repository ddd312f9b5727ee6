//! A channel over a directory of the disk, `file:`: a log that messages are appended to and that any number of readers
//! follow, each at its own pace. Whoever appends holds a lock that the kernel takes from the dead; readers take none.
//!
//! `format` says what lies where, `folder` which files there are, `segment` reads records, `appender` writes them and cuts what
//! is torn, `reader` goes from segment to segment and counts what is missed, `position` keeps where a named reader is; `sender` and
//! `receiver` are the ends of the channel.

mod appender;
mod bell;
mod fault;
mod folder;
mod format;
mod options;
mod position;
mod reader;
mod receiver;
mod segment;
mod sender;
mod syncing;

use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::OFlag;

use crate::address::Address;
use crate::error::{Error, Result};
use crate::timeout::Timeout;
use crate::wait::Object;
use fault::Fault;
use folder::Folder;
use options::Options;
pub(in crate::channel) use options::largest;
use position::Position;
pub(in crate::channel) use receiver::FileReceiver;
pub(in crate::channel) use sender::FileSender;

/// So long a call that must not wait does so for another process that appends, which takes a few system calls.
const MOMENT: Duration = Duration::from_millis(20);
/// So long removing waits for it.
const PATIENCE: Timeout = Timeout::After(Duration::from_secs(5));

fn patient(timeout: Timeout) -> Timeout {
    if timeout == Timeout::Now { Timeout::After(MOMENT) } else { timeout }
}

/// As it has to look to the caller who gave this timeout.
fn impatient(error: Error, timeout: Timeout) -> Error {
    if timeout == Timeout::Now && error.is(Errno::ETIMEDOUT) {
        return error.with_errno(Errno::EAGAIN).because("another process is appending, and has been for a while");
    }
    error
}

/// Torn tails that were cut in the life of a log.
fn cuts(folder: &Folder) -> u64 {
    let listed = folder.segments().unwrap_or_default();
    let headings = listed.iter().rev().map(|listed| folder.segment(listed.number, OFlag::O_RDONLY));
    headings.filter_map(|found| found.ok()?.ok()).map(|segment| segment.heading.cuts).next().unwrap_or(0)
}

/// Removes a log with all that is in it; if the address names a reader, that reader's position and nothing else.
pub(super) fn remove(address: &Address) -> Result<()> {
    const NAME: &str = "remove";
    let object = Object::new(address.to_string());
    let failed = |fault: Fault| fault.of(|errno| object.error(errno, NAME));
    let options = Options::of(address).map_err(failed)?;
    let mut operation = object.operation(NAME, PATIENCE);
    let folder = Folder::open(address.path(), options.mode, false, &mut operation)?;
    if let Some(reader) = &options.reader {
        return Position::remove(&folder, reader).map_err(failed);
    }
    let lock = folder.lock().map_err(|errno| failed(errno.into()))?;
    let held = lock.hold(&mut operation).map_err(|error| match error.is(Errno::ETIMEDOUT) {
        true => {
            error.with_errno(Errno::EBUSY).because("a process has been appending to it all the time; stop it first")
        }
        false => error,
    })?;
    held.check().map_err(failed)?;
    folder.remove().map_err(failed)
}
