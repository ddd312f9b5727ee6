//! Removing a log, also one that cannot be used any more.

use nix::errno::Errno;

use super::carrier::Carrier;
use super::layout::{Constant, Control};
use super::options::{LogOptions, LogThrough, LogWriter};
use super::{Base, Log, part};
use crate::address::{Address, Scheme};
use crate::error::Result;
use crate::segment::Segment;
use crate::sync::Mutex;
use crate::sync::core::{self, Kind};
use crate::sync_atomics::Ordering;

impl Log {
    /// Removes the log's name and memory; the file stays. Those who have it open go on with what they have. Never blocks.
    ///
    /// A log that nobody can open any more, as it is damaged or of another version, is removed without a look at what it holds.
    ///
    /// # Errors
    /// `ENOENT` there is none; `EBUSY` it holds records that are not written: drain it first; `EUSERS` as many have it open
    /// as it has room for: close one; `EBADMSG` it is something else, which is left.
    ///
    /// System calls: openat, mmap, unlinkat.
    pub fn remove(address: &Address) -> Result<()> {
        address.require(&[Scheme::Log], "remove")?;
        let options = LogOptions { writer: LogWriter::Never, ..Default::default() };
        let opened = core::existing(&address.without_options(), options.clone());
        let log = match opened.and_then(|base| Log::of(address, base, &options)) {
            Err(error) if error.is(Errno::EBADMSG) || error.is(Errno::EPROTO) => {
                return remove_unseen(address);
            }
            log => log?,
        };
        let queued = log.statistics()?.queued;
        let shared = &log.shared;
        if queued > 0 || shared.base.in_force().1 {
            let error = shared.base.core.object.error(Errno::EBUSY, "remove");
            return Err(error.because_found(format!("{queued} records are not written yet; drain it first")));
        }
        // Its name first: who opens it from now on makes another, with parts of its own.
        Segment::remove(&address.without_options(), &[<Base as Kind>::NUMBER])?;
        remove_parts(address, shared.base.id(), shared.base.made.through)
    }
}

/// Removes what cannot be opened, and its parts as far as can be told what they are.
fn remove_unseen(address: &Address) -> Result<()> {
    let segment = Segment::existing(&address.without_options(), <Base as Kind>::NUMBER).ok();
    let constant = segment.as_ref().and_then(|segment| {
        let (body, length) = segment.body();
        segment.memory().record::<Control>(body).filter(|_| length >= size_of::<Control>())
    });
    let parts = constant.map(|control| {
        let through = Constant::read(&control.constant).map_or(LogThrough::Ring, |made| made.through);
        (control.constant.id.load(Ordering::Relaxed), through) // constant since before the segment could be seen
    });
    Segment::remove(&address.without_options(), &[<Base as Kind>::NUMBER])?;
    if let Some((id, through)) = parts {
        let _ = remove_parts(address, id, through); // there may be none
    }
    Ok(())
}

fn remove_parts(address: &Address, id: u64, through: LogThrough) -> Result<()> {
    let carrier = Carrier::remove(address, id, through);
    carrier.and(Mutex::remove(&part(Scheme::Mutex, address, id)?))
}
