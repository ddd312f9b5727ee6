//! Reading a log: from segment to segment, past what is damaged or was removed, and counting what is missed.

use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::fault::{Fault, Outcome};
use super::folder::Folder;
use super::format::{HEADING, Head, Heading, Unfit};
use super::segment::{Segment, Window};
use crate::sys::SysResult;
use crate::wait::Forked;

/// Where a reader begins that has no position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    Oldest,
    Newest,
}

/// A reader's place in the log.
#[derive(Default)]
pub(super) struct Reader {
    at: Option<At>,
    window: Window,
    /// The sequence of the next message to receive.
    next: u64,
    /// The epoch in which that is so.
    epoch: u64,
    /// Messages that are missed before the next, and in all.
    untold: u64,
    missed: u64,
    /// What has to be told first.
    damage: Option<Fault>,
}

struct At {
    segment: Segment,
    /// Where the next record is, and the sequence that it has at least.
    place: u64,
    least: u64,
}

impl Forked for Reader {
    /// The child goes on from here by itself: nothing of it is shared.
    fn after_fork(&mut self) {}

    fn replaced(&self) -> Reader {
        Reader { next: u64::MAX, ..Reader::default() } // the parent's thread was in the middle of something: from now on
    }
}

/// A message that was found.
pub(super) struct Found {
    pub head: Head,
    pub missed: u64,
}

impl Reader {
    pub fn new(from: From) -> Reader {
        Reader { next: if from == From::Oldest { 0 } else { u64::MAX }, ..Reader::default() }
    }

    /// One that goes on where it was.
    pub fn at(next: u64, epoch: u64) -> Reader {
        Reader { next, epoch, ..Reader::default() }
    }

    /// Goes back to where it was, with what it had missed by then.
    pub fn go_back(&mut self, (next, epoch): (u64, u64), missed: u64) {
        *self = Reader { next, epoch, missed, ..Reader::default() };
    }

    /// The sequence of the next message, and the epoch in which that is so.
    pub fn position(&self) -> (u64, u64) {
        (self.next, self.epoch)
    }

    /// Makes the beginning definite, be there messages or not.
    pub fn settle(&mut self, folder: &Folder) -> Outcome<()> {
        match self.find(folder) {
            Err(fault) if self.at.is_some() => self.damage = Some(fault), // for the first to receive
            found => {
                found?;
            }
        }
        Ok(())
    }

    /// Messages missed so far.
    pub fn missed(&self) -> u64 {
        self.missed
    }

    /// Whether there is damage to be told before anything else is received.
    pub fn is_damaged(&self) -> bool {
        self.damage.is_some()
    }

    /// Finds the next message, if there is one; it stays until [`Reader::take`]. Tells damage, once.
    pub fn find(&mut self, folder: &Folder) -> Outcome<Option<Found>> {
        let found = self.look(folder)?;
        self.damage.take().map_or(Ok(found), Err)
    }

    /// As [`Reader::find`], but where damage has to be told there is nothing, and it stays to be told.
    pub fn find_more(&mut self, folder: &Folder) -> Outcome<Option<Found>> {
        let found = self.look(folder)?;
        Ok(found.filter(|_| self.damage.is_none()))
    }

    fn look(&mut self, folder: &Folder) -> Outcome<Option<Found>> {
        loop {
            let Some(at) = &mut self.at else {
                if !self.enter(folder)? {
                    return Ok(None);
                }
                continue;
            };
            if let Some(head) = at.segment.look(&mut self.window, at.place, at.least)? {
                if head.sequence < self.next {
                    (at.place, at.least) = (at.place + head.whole(), head.sequence.saturating_add(1)); // received before
                    continue;
                }
                let lost = head.sequence - self.next;
                if lost > 0 {
                    let text = format!("{} was damaged", folder.name_of(at.segment.heading.number));
                    self.lose(lost, Some(text));
                }
                return Ok(Some(Found { head, missed: self.untold }));
            }
            if !self.pass(folder)? {
                return Ok(None);
            }
        }
    }

    /// The message that was found, into memory of just its length.
    pub fn read(&mut self, head: &Head, into: &mut [u8]) -> Outcome<()> {
        let at = self.at.as_ref().ok_or(Errno::EIO)?;
        if at.segment.read(&self.window, at.place, head, into)? {
            return Ok(());
        }
        Err(Fault::new(Errno::EBADMSG, "a message changed while it was read; receive again"))
    }

    /// Goes on behind the message that was found.
    pub fn take(&mut self, head: &Head) {
        if let Some(at) = &mut self.at {
            (at.place, at.least) = (at.place + head.whole(), head.sequence.saturating_add(1));
        }
        (self.next, self.untold) = (head.sequence.saturating_add(1), 0);
    }

    fn lose(&mut self, lost: u64, damaged: Option<String>) {
        if let Some(what) = damaged {
            let text =
                format!("{what}: {lost} messages from number {} on are lost, and skipped; receive again", self.next);
            self.damage = Some(Fault::new(Errno::EBADMSG, text));
        }
        self.untold = self.untold.saturating_add(lost);
        self.missed = self.missed.saturating_add(lost);
        self.next = self.next.saturating_add(lost);
    }

    /// Goes on where no whole record is: behind damage, or in the next segment. False if there is nothing to go on to.
    fn pass(&mut self, folder: &Folder) -> Outcome<bool> {
        let Some(at) = &mut self.at else { return Ok(true) };
        let number = at.segment.heading.number;
        let newer = newer(folder, number)?;
        if at.segment.size()? > at.place
            && let Some(found) = at.segment.search(&mut self.window, at.place, at.least)?
        {
            // Whoever appends may have been in the middle of this record before, and is through by now.
            if at.segment.look(&mut self.window, at.place, at.least)?.is_none() {
                at.place = found;
            }
            return Ok(true);
        }
        let Some((newer, is_damaged)) = newer else {
            // Beginning with the newest, this is where; else the log was cut short, and what comes next is new.
            self.next = self.next.min(at.least);
            return Ok(false);
        };
        // It came before the last look here, so nothing more does.
        if at.segment.look(&mut self.window, at.place, at.least)?.is_some() {
            return Ok(true);
        }
        let first = newer.heading.first;
        if first > self.next {
            let damaged = is_damaged || newer.heading.number == number + 1;
            let text = format!("{} or what follows it was damaged", folder.name_of(number));
            self.lose(first - self.next, damaged.then_some(text));
        } else if newer.heading.epoch != at.segment.heading.epoch && self.next != u64::MAX {
            self.next = first; // behind a cut, sequences are given out anew
        }
        self.enter_segment(newer);
        Ok(true)
    }

    fn enter_segment(&mut self, segment: Segment) {
        self.window.clear();
        let least = segment.heading.first;
        self.epoch = segment.heading.epoch;
        self.at = Some(At { segment, place: HEADING as u64, least });
    }

    /// Begins to read, at the segment that has the next message. False if there is none yet.
    fn enter(&mut self, folder: &Folder) -> Outcome<bool> {
        loop {
            let mut headings = Vec::new();
            let listed = folder.segments()?;
            for listed in &listed {
                match folder.segment(listed.number, OFlag::O_RDONLY) {
                    Ok(Ok(segment)) => headings.push(segment.heading),
                    // Of those that cannot be read the ones before tell, when they end.
                    Ok(Err(_)) | Err(Errno::ENOENT) => {}
                    Err(errno) => return Err(errno.into()),
                }
            }
            let Some(oldest) = headings.first() else {
                // All that comes is new.
                self.next = if matches!(self.next, 0 | u64::MAX) { 1 } else { self.next };
                return match listed.first() {
                    Some(first) => match folder.segment(first.number, OFlag::O_RDONLY) {
                        Ok(Err(unfit)) if unfit != Unfit::Unfinished => {
                            Err(Fault::unfit(&folder.name_of(first.number), unfit))
                        }
                        _ => Ok(false),
                    },
                    None => Ok(false),
                };
            };
            let damaged = listed.first().filter(|first| first.number < oldest.number);
            let damaged = damaged.map(|first| (first.number, format!("{} is damaged", folder.name_of(first.number))));
            match (self.next, damaged) {
                (0, Some((number, what))) if number > 1 => {
                    self.next = oldest.first;
                    let text = format!("{what}: what was in it is lost, how much cannot be told; receive again");
                    self.damage = Some(Fault::new(Errno::EBADMSG, text));
                }
                (0, None) => self.next = oldest.first,
                (u64::MAX, _) => {}
                (_, damaged) => {
                    self.next = self.next.clamp(1, limit(&headings, self.epoch).max(1));
                    if oldest.first > self.next {
                        self.lose(oldest.first - self.next, damaged.map(|(_, what)| what));
                    }
                }
            }
            let number = headings.iter().rev().find(|heading| heading.first <= self.next).map(|heading| heading.number);
            match folder.segment(number.unwrap_or(oldest.number), OFlag::O_RDONLY) {
                Ok(Ok(segment)) => {
                    self.enter_segment(segment);
                    return Ok(true);
                }
                Ok(Err(unfit)) => return Err(Fault::unfit(&folder.name_of(oldest.number), unfit)),
                Err(Errno::ENOENT) => {} // too old, and gone meanwhile
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

/// The next segment that there is and that can be read, and whether others had to be passed over.
fn newer(folder: &Folder, number: u64) -> Outcome<Option<(Segment, bool)>> {
    let mut is_damaged = false;
    let newer = || {
        let mut listed = folder.segments()?;
        listed.retain(|listed| listed.number > number);
        SysResult::Ok(listed)
    };
    let mut listed = newer()?;
    if listed.first().is_some_and(|first| Some(first.number) != number.checked_add(1)) {
        // Of what is made while a directory is listed, any may be missing. What comes before one that was seen has been
        // made by now.
        listed = newer()?;
    }
    while let Some(next) = listed.first().copied() {
        match folder.segment(next.number, OFlag::O_RDONLY) {
            Ok(Ok(segment)) => return Ok(Some((segment, is_damaged))),
            Ok(Err(Unfit::Unfinished)) if listed.len() == 1 => return Ok(None),
            Ok(Err(unfit)) if listed.len() == 1 => return Err(Fault::unfit(&folder.name_of(next.number), unfit)),
            Ok(Err(_)) => is_damaged = true,
            Err(Errno::ENOENT) => {} // too old, and gone meanwhile
            Err(errno) => return Err(errno.into()),
        }
        listed.remove(0);
    }
    Ok(None)
}

/// The highest sequence that can be next for a reader which was in this epoch: where it was cut, sequences were given out anew.
fn limit(headings: &[Heading], epoch: u64) -> u64 {
    match headings.iter().rposition(|heading| heading.epoch == epoch) {
        Some(last) => headings.get(last + 1).map_or(u64::MAX, |next| next.first),
        // All of its segments are gone, too old: what is there is new to it.
        None => headings.first().map_or(u64::MAX, |oldest| oldest.first),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_gives_sequences_out_anew() {
        let heading = |number, epoch, first| Heading { number, epoch, first, ..Default::default() };
        let headings = [heading(3, 2, 100), heading(4, 2, 200), heading(5, 5, 250), heading(6, 5, 300)];
        assert_eq!(limit(&headings, 2), 250);
        assert_eq!(limit(&headings, 5), u64::MAX);
        assert_eq!(limit(&headings, 1), 100);
    }
}
