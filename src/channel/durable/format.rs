//! What lies where in the files of a log. Numbers are little-endian.
//!
//! Every checksum begins with the log's identity and the place of what it covers, so that a copy of a record at another
//! place, be it within somebody's message, is never taken for one.

use crc32fast::Hasher;

pub(super) const CONTROL: usize = 48;
pub(super) const HEADING: usize = 96;
pub(super) const RECORD: usize = 32;
pub(super) const SLOT: usize = 64;

const CONTROL_MAGIC: [u8; 8] = *b"WWlogctl";
const HEADING_MAGIC: [u8; 8] = *b"WWlogseg";
const SLOT_MAGIC: [u8; 8] = *b"WWlogpos";
const RECORD_MAGIC: [u8; 4] = *b"WWre";
/// To be raised with every change of what is told here.
const VERSION: u32 = 1;

pub(super) type Identity = [u8; 16];

/// Why bytes are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// Too few, or zeros: whoever began to write them did not get far.
    Unfinished,
    /// Something else.
    Foreign,
    /// Written by another version of this library.
    Version(u32),
    /// They were what they should be once.
    Damaged,
}

fn word(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|word| word.try_into().ok()).map_or(0, u64::from_le_bytes)
}

fn half(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|half| half.try_into().ok()).map_or(0, u32::from_le_bytes)
}

fn identity(bytes: &[u8], at: usize) -> Identity {
    bytes.get(at..at + 16).and_then(|found| found.try_into().ok()).unwrap_or_default()
}

/// Magic, version, a checksum of it all in which it counts as zero, and then whatever is in `rest`.
fn framed<const N: usize>(magic: [u8; 8], rest: &[&[u8]]) -> [u8; N] {
    let mut bytes = [0; N];
    bytes[..8].copy_from_slice(&magic);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    let mut at = 16;
    for part in rest {
        bytes[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
    let check = crc32fast::hash(&bytes);
    bytes[12..16].copy_from_slice(&check.to_le_bytes());
    bytes
}

fn check_frame<const N: usize>(magic: [u8; 8], found: &[u8]) -> Result<[u8; N], Unfit> {
    let is_begun = found.iter().any(|byte| *byte != 0);
    let Some(Ok(mut bytes)) = found.get(..N).map(<[u8; N]>::try_from) else {
        let begins_well = found.iter().zip(&magic).all(|(one, other)| one == other);
        return Err(if !is_begun || begins_well { Unfit::Unfinished } else { Unfit::Foreign });
    };
    if bytes[..8] != magic {
        return Err(if is_begun { Unfit::Foreign } else { Unfit::Unfinished });
    }
    let check = half(&bytes, 12);
    bytes[12..16].fill(0);
    if crc32fast::hash(&bytes) != check {
        return Err(Unfit::Damaged);
    }
    match half(&bytes, 8) {
        VERSION => Ok(bytes),
        other => Err(Unfit::Version(other)),
    }
}

pub(super) fn control(log: &Identity) -> [u8; CONTROL] {
    framed(CONTROL_MAGIC, &[log])
}

pub(super) fn read_control(found: &[u8]) -> Result<Identity, Unfit> {
    check_frame::<CONTROL>(CONTROL_MAGIC, found).map(|bytes| identity(&bytes, 16))
}

/// How a segment begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Heading {
    pub log: Identity,
    /// Which start of the machine it was made in.
    pub boot: Identity,
    /// The number of the first segment since sequences last went back, which they do where a tail was cut.
    pub epoch: u64,
    /// Segments are numbered one by one.
    pub number: u64,
    /// The sequence of its first record.
    pub first: u64,
    /// When it was made, in nanoseconds since 1970.
    pub made: u64,
    /// How many torn tails were cut in the life of the log so far, and how many bytes.
    pub cuts: u64,
    pub cut_bytes: u64,
}

impl Heading {
    pub fn encode(&self) -> [u8; HEADING] {
        let numbers = [self.epoch, self.number, self.first, self.made, self.cuts, self.cut_bytes];
        let numbers = numbers.map(u64::to_le_bytes);
        framed(HEADING_MAGIC, &[&self.log, &self.boot, numbers.as_flattened()])
    }

    pub fn decode(found: &[u8]) -> Result<Heading, Unfit> {
        let bytes = check_frame::<HEADING>(HEADING_MAGIC, found)?;
        let number = |n: usize| word(&bytes, 48 + 8 * n);
        Ok(Heading {
            log: identity(&bytes, 16),
            boot: identity(&bytes, 32),
            epoch: number(0),
            number: number(1),
            first: number(2),
            made: number(3),
            cuts: number(4),
            cut_bytes: number(5),
        })
    }
}

/// Where a reader is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Slot {
    pub log: Identity,
    /// Grows with every write: the higher of two is the newer.
    pub count: u64,
    /// The sequence of the next message to receive.
    pub next: u64,
    /// The epoch of the last one that was received.
    pub epoch: u64,
}

impl Slot {
    pub fn encode(&self) -> [u8; SLOT] {
        framed(SLOT_MAGIC, &[&self.log, &self.count.to_le_bytes(), &self.next.to_le_bytes(), &self.epoch.to_le_bytes()])
    }

    pub fn decode(found: &[u8]) -> Result<Slot, Unfit> {
        let bytes = check_frame::<SLOT>(SLOT_MAGIC, found)?;
        Ok(Slot { log: identity(&bytes, 16), count: word(&bytes, 32), next: word(&bytes, 40), epoch: word(&bytes, 48) })
    }
}

/// How a record begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub length: u32,
    pub sequence: u64,
    /// When it was sent, in nanoseconds since 1970.
    pub time: u64,
    /// The checksum of the message and of the zeros behind it.
    body: u32,
}

/// The zeros behind a message, so that records begin at multiples of 8.
pub(super) fn padding(length: usize) -> &'static [u8] {
    &[0; 7][..length.wrapping_neg() % 8]
}

impl Head {
    pub fn of(length: u32, sequence: u64, time: u64, body: u32) -> Head {
        Head { length, sequence, time, body }
    }

    /// Bytes of the record with its head and padding.
    pub fn whole(&self) -> u64 {
        RECORD as u64 + u64::from(self.length).next_multiple_of(8)
    }

    pub fn body_is(&self, check: u32) -> bool {
        self.body == check
    }
}

/// What a segment's checksums begin with.
#[derive(Clone)]
pub(super) struct Seed(Hasher);

impl Seed {
    pub fn of(heading: &Heading) -> Seed {
        let mut hasher = Hasher::new();
        hasher.update(&heading.log);
        hasher.update(&heading.number.to_le_bytes());
        Seed(hasher)
    }

    /// For the bytes of a message and its padding.
    pub fn body(&self) -> Hasher {
        self.0.clone()
    }

    fn head(&self, place: u64, bytes: &[u8; RECORD]) -> u32 {
        let mut hasher = self.0.clone();
        hasher.update(&place.to_le_bytes());
        hasher.update(&bytes[..RECORD - 4]);
        hasher.finalize()
    }

    pub fn encode(&self, place: u64, head: &Head) -> [u8; RECORD] {
        let mut bytes = [0; RECORD];
        bytes[..4].copy_from_slice(&RECORD_MAGIC);
        bytes[4..8].copy_from_slice(&head.length.to_le_bytes());
        bytes[8..16].copy_from_slice(&head.sequence.to_le_bytes());
        bytes[16..24].copy_from_slice(&head.time.to_le_bytes());
        bytes[24..28].copy_from_slice(&head.body.to_le_bytes());
        let check = self.head(place, &bytes);
        bytes[28..].copy_from_slice(&check.to_le_bytes());
        bytes
    }

    /// The head of a record at this place, if there is one.
    pub fn decode(&self, place: u64, found: &[u8]) -> Option<Head> {
        let bytes: &[u8; RECORD] = found.get(..RECORD)?.try_into().ok()?;
        if bytes[..4] != RECORD_MAGIC || half(bytes, 28) != self.head(place, bytes) {
            return None;
        }
        Some(Head { length: half(bytes, 4), sequence: word(bytes, 8), time: word(bytes, 16), body: half(bytes, 24) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heading() -> Heading {
        let (log, boot) = ([7; 16], [9; 16]);
        Heading { log, boot, epoch: 1, number: 2, first: 3, made: 4, cuts: 5, cut_bytes: 6 }
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(Heading::decode(&heading().encode()), Ok(heading()));
        assert_eq!(read_control(&control(&[3; 16])), Ok([3; 16]));
        let slot = Slot { log: [1; 16], count: 2, next: 3, epoch: 4 };
        assert_eq!(Slot::decode(&slot.encode()), Ok(slot));
        let (seed, head) = (Seed::of(&heading()), Head::of(5, 6, 7, 8));
        assert_eq!(seed.decode(96, &seed.encode(96, &head)), Some(head));
        assert_eq!(seed.decode(104, &seed.encode(96, &head)), None, "a copy at another place");
        assert_eq!(padding(8).len() + padding(5).len() + padding(1).len(), 10);
    }

    #[test]
    fn each_flipped_bit_is_noticed() {
        let (seed, good) = (Seed::of(&heading()), heading().encode());
        let record = seed.encode(96, &Head::of(5, 6, 7, 8));
        for bit in 0..HEADING * 8 {
            let mut bytes = good;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Heading::decode(&bytes).is_err(), "{bit}");
        }
        for bit in 0..RECORD * 8 {
            let mut bytes = record;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(seed.decode(96, &bytes), None, "{bit}");
        }
    }

    #[test]
    fn unfinished_foreign_and_other_versions_are_told_apart() {
        for length in 0..HEADING {
            assert_eq!(Heading::decode(&heading().encode()[..length]), Err(Unfit::Unfinished));
        }
        assert_eq!(Heading::decode(&[0; HEADING]), Err(Unfit::Unfinished));
        assert_eq!(Heading::decode(&[b'x'; HEADING]), Err(Unfit::Foreign));
        assert_eq!(Heading::decode(b"root:x:0:0"), Err(Unfit::Foreign));
        let mut next = heading().encode();
        next[8] = 2;
        next[12..16].fill(0);
        let check = crc32fast::hash(&next);
        next[12..16].copy_from_slice(&check.to_le_bytes());
        assert_eq!(Heading::decode(&next), Err(Unfit::Version(2)));
    }
}
