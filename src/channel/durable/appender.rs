//! Appending to a log, with its lock: finding the end that others have left, cutting a torn tail, beginning segments, and
//! removing those that are too old.

use std::io::IoSlice;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::fstat;
use nix::unistd::{fsync, ftruncate};

use super::fault::{Fault, Outcome};
use super::folder::{Folder, Listed, this_boot};
use super::format::{HEADING, Head, Heading, Identity, RECORD, Unfit, padding};
use super::segment::{Segment, Window};
use crate::sys::file_size;
use crate::timeout::wall_clock;
use crate::wait::Forked;
use std::os::fd::AsFd;

/// How large a log may become, and how old what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// Bytes after which another segment is begun.
    pub segment: u64,
    /// Bytes of all segments together; 0 is no limit.
    pub retain: u64,
    /// After which records may go; zero is never.
    pub age: Duration,
}

/// The appender's knowledge; of a process that just began to append, nothing.
#[derive(Default)]
pub(super) struct Appender {
    tail: Option<Tail>,
    window: Window,
    /// Up to the segment of this number none is fit for more, as a sync has failed.
    abandoned: u64,
    /// It has found the end of the log before.
    is_begun: bool,
}

/// The newest segment.
struct Tail {
    segment: Arc<Segment>,
    end: u64,
    /// The sequence of the next record.
    next: u64,
}

impl Forked for Appender {
    fn after_fork(&mut self) {
        self.tail = None;
    }

    fn replaced(&self) -> Appender {
        Appender::default()
    }
}

impl Appender {
    /// Appends a message, with the lock held; the segment that it is in. On failure nothing of it is there.
    pub fn append(&mut self, folder: &Folder, limits: &Limits, sync: bool, message: &[u8]) -> Outcome<Arc<Segment>> {
        let now = wall_clock();
        let need = (RECORD + message.len() + padding(message.len()).len()) as u64;
        self.prepare(folder, limits, sync)?;
        let tail = self.tail.as_ref().ok_or(Errno::EIO)?;
        let age = now.saturating_sub(tail.segment.heading.made);
        // What is too old goes by whole segments, so these must not span too long a time.
        let is_old = !limits.age.is_zero() && u128::from(age) > limits.age.as_nanos() / 4;
        let is_empty = tail.end == HEADING as u64;
        let is_abandoned = tail.segment.heading.number <= self.abandoned;
        if is_abandoned || (!is_empty && (is_old || tail.end + need > limits.segment)) {
            let heading = Heading { first: tail.next, ..tail.segment.heading };
            retire(folder, limits, limits.segment)?;
            self.begin(folder, heading, sync)?;
        }
        let tail = self.tail.as_mut().ok_or(Errno::EIO)?;
        tail.write(message, now)?;
        Ok(Arc::clone(&tail.segment))
    }

    /// Segments up to this number are not to be used any more, as they may be others on the disk than in memory.
    pub fn abandon(&mut self, number: u64) {
        self.abandoned = self.abandoned.max(number);
    }

    pub fn abandon_last(&mut self) {
        if let Some(number) = self.tail.as_ref().map(|tail| tail.segment.heading.number) {
            self.abandon(number);
        }
    }

    /// Finds the end of the log, and makes it fit to be appended to.
    pub fn prepare(&mut self, folder: &Folder, limits: &Limits, sync: bool) -> Outcome<()> {
        if let Some(tail) = &mut self.tail {
            let stat = fstat(tail.segment.as_fd())?;
            let size = u64::try_from(stat.st_size).unwrap_or(0);
            let is_newest = stat.st_nlink > 0 && !folder.has(tail.segment.heading.number.saturating_add(1));
            if is_newest && size == tail.end {
                return Ok(());
            }
            if is_newest && size > tail.end {
                (tail.end, tail.next) = tail.segment.end(&mut self.window, tail.end, tail.next)?;
                return self.cut(folder, size, sync);
            }
            // Others have gone on to another segment, or somebody has shortened this one.
            self.tail = None;
        }
        self.load(folder, sync)?;
        self.is_begun = true;
        // Room is kept for what the newest may still grow, and no more: that for another is made when it is begun.
        let end = self.tail.as_ref().map_or(0, |tail| tail.end);
        retire(folder, limits, limits.segment.saturating_sub(end))
    }

    fn load(&mut self, folder: &Folder, sync: bool) -> Outcome<()> {
        let mut listed = folder.segments()?;
        while let Some(newest) = listed.pop() {
            match folder.segment(newest.number, OFlag::O_RDWR)? {
                Ok(segment) => return self.enter_or_forget(folder, segment, sync),
                // Whoever was to begin it died, or a power failure has taken it, and perhaps others that were not on the
                // disk; the one before tells how it was to begin.
                Err(Unfit::Unfinished) if !listed.is_empty() => folder.discard(newest.number)?,
                Err(Unfit::Unfinished) => {
                    let heading = Heading { first: 1, number: newest.number.saturating_sub(1), ..Default::default() };
                    return self.begin(folder, heading, sync);
                }
                Err(unfit) => return Err(Fault::unfit(&folder.name_of(newest.number), unfit)),
            }
        }
        self.begin(folder, Heading { first: 1, ..Default::default() }, sync)
    }

    fn enter_or_forget(&mut self, folder: &Folder, segment: Segment, sync: bool) -> Outcome<()> {
        // Half entered, it would be appended to as it is.
        self.enter(folder, segment, sync).inspect_err(|_| self.tail = None)
    }

    fn enter(&mut self, folder: &Folder, segment: Segment, sync: bool) -> Outcome<()> {
        let size = segment.size()?;
        let (end, next) = segment.end(&mut self.window, HEADING as u64, segment.heading.first)?;
        if sync {
            // Whoever made it may not have come to that, or not have wanted it.
            fsync(&segment)?;
            fsync(folder)?;
        }
        let heading = segment.heading;
        self.tail = Some(Tail { segment: Arc::new(segment), end, next });
        self.cut(folder, size, sync)?;
        // Where the kernel does not tell, any start of this appender may be one of the machine.
        let boot = this_boot();
        let is_another = heading.boot != boot || (boot == Identity::default() && !self.is_begun);
        if is_another && self.tail.as_ref().is_some_and(|tail| tail.segment.heading == heading) {
            // After a power failure less may be there than readers have seen: they know by the epoch.
            self.begin(folder, Heading { first: next, epoch: 0, ..heading }, sync)?;
        }
        Ok(())
    }

    /// Cuts what is behind the last whole record. From there on sequences are given out anew, in a new segment, so that a
    /// reader that knew what was cut can tell; and it is the new segment that counts, so that a cut counts once, whenever
    /// whoever makes it dies.
    fn cut(&mut self, folder: &Folder, size: u64, sync: bool) -> Outcome<()> {
        let Some(tail) = self.tail.as_ref().filter(|tail| tail.end < size) else { return Ok(()) };
        let (torn, end) = (Arc::clone(&tail.segment), tail.end);
        let heading = Heading {
            first: tail.next,
            epoch: 0,
            cuts: torn.heading.cuts.saturating_add(1),
            cut_bytes: torn.heading.cut_bytes.saturating_add(size - end),
            ..torn.heading
        };
        self.begin(folder, heading, sync)?;
        ftruncate(torn.as_fd(), i64::try_from(end).unwrap_or(i64::MAX))?;
        Ok(())
    }

    /// Begins the segment after the one with this heading; with the epoch 0 an epoch of its own.
    fn begin(&mut self, folder: &Folder, heading: Heading, sync: bool) -> Outcome<()> {
        let used_up = || Fault::new(Errno::EBADMSG, "the numbers of segments are used up; make another log");
        let number = heading.number.checked_add(1).ok_or_else(used_up)?;
        let epoch = if heading.epoch == 0 { number } else { heading.epoch };
        let heading = Heading { log: folder.log, boot: this_boot(), made: wall_clock(), number, epoch, ..heading };
        // An epoch is given out once: readers keep its number, so it has to outlive whatever they do.
        let segment = Arc::new(folder.begin(heading, sync || epoch == number)?);
        self.window.clear();
        self.tail = Some(Tail { segment, end: HEADING as u64, next: heading.first });
        Ok(())
    }
}

/// Removes segments that are too old, and the oldest while so many bytes more would be too many. The newest stays.
fn retire(folder: &Folder, limits: &Limits, room: u64) -> Outcome<()> {
    if limits.retain == 0 && limits.age.is_zero() {
        return Ok(());
    }
    let listed = folder.segments()?;
    let mut total: u64 = listed.iter().map(|listed| listed.size).fold(0, u64::saturating_add);
    let mut left = &listed[..];
    while let [oldest, newer @ ..] = left
        && !newer.is_empty()
    {
        let too_much = limits.retain > 0 && total.saturating_add(room) > limits.retain;
        if !too_much && !is_too_old(folder, limits, newer) {
            break;
        }
        folder.discard(oldest.number)?;
        total = total.saturating_sub(oldest.size);
        left = newer;
    }
    Ok(())
}

/// Whether all that was appended before the first of these segments is too old: it is older than the first of them that can
/// be read.
fn is_too_old(folder: &Folder, limits: &Limits, newer: &[Listed]) -> bool {
    if limits.age.is_zero() {
        return false;
    }
    let mut readable =
        newer.iter().filter_map(|listed| folder.segment(listed.number, OFlag::O_RDONLY).ok().and_then(Result::ok));
    let made = readable.next().map(|segment| segment.heading.made);
    made.is_some_and(|made| u128::from(wall_clock().saturating_sub(made)) > limits.age.as_nanos())
}

impl Tail {
    fn write(&mut self, message: &[u8], now: u64) -> Outcome<()> {
        let padding = padding(message.len());
        let mut body = self.segment.seed.body();
        body.update(message);
        body.update(padding);
        let length = u32::try_from(message.len()).map_err(|_| Errno::EMSGSIZE)?;
        let head = Head::of(length, self.next, now, body.finalize());
        let bytes = self.segment.seed.encode(self.end, &head);
        let parts = [&bytes[..], message, padding];
        if let Err(errno) = write_parts(&self.segment, &parts, self.end) {
            // What got in was never whole, so nobody has seen it. If it cannot be cut now, the next to append does it.
            let _ = ftruncate(self.segment.as_fd(), i64::try_from(self.end).unwrap_or(i64::MAX));
            return Err(match errno {
                Errno::ENOSPC => Fault::new(errno, "the disk is full; nothing was sent: make room and send again"),
                Errno::EDQUOT => {
                    Fault::new(errno, "the disk quota is used up; nothing was sent: make room and send again")
                }
                Errno::EFBIG => Fault::new(
                    errno,
                    "the process may not make files so large (RLIMIT_FSIZE); nothing was sent: raise the limit, or set \
                     segment= below it",
                ),
                errno => errno.into(),
            });
        }
        self.end += head.whole();
        self.next = self.next.saturating_add(1);
        Ok(())
    }
}

fn write_parts(segment: &Segment, parts: &[&[u8]; 3], at: u64) -> Result<(), Errno> {
    let total: usize = parts.iter().map(|part| part.len()).sum();
    let limited = file_size::is_limited();
    let mut written = 0;
    while written < total {
        let mut skip = written;
        let slices = parts.map(|part| {
            let skipped = skip.min(part.len());
            skip -= skipped;
            IoSlice::new(&part[skipped..])
        });
        let place = i64::try_from(at + written as u64).map_err(|_| Errno::EFBIG)?;
        match file_size::gather_at(segment.as_fd(), &slices, place, limited) {
            Err(Errno::EINTR) => {}
            Ok(0) => return Err(Errno::ENOSPC),
            more => written += more?,
        }
    }
    Ok(())
}
