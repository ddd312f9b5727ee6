//! Where one message ends and the next begins in a stream of bytes.

use std::ops::Range;

use nix::errno::Errno;

use crate::address::Address;
use crate::sys::SysResult;

/// The largest message of a stream whose address does not say otherwise.
pub(super) const LARGEST: usize = 1 << 20;
/// Room that a read is given when the next message's length is not known.
const CHUNK: usize = 1 << 16;
/// Bytes of a length prefix.
pub(super) const PREFIX: usize = 4;

/// How messages are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// Each message follows its length, 32 bits, most significant byte first.
    Length,
    /// Each message is followed by a line feed, and has none.
    Line,
    /// Not at all: a message is what one read gives.
    None,
}

/// The rules of one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frames {
    pub framing: Framing,
    pub largest: usize,
}

impl Frames {
    /// As the address says.
    pub fn of(address: &Address) -> Frames {
        let framing = match address.option("framing") {
            Some(b"line") => Framing::Line,
            Some(b"none") => Framing::None,
            _ => Framing::Length,
        };
        let largest = address.number("largest").map_or(LARGEST, |n| usize::try_from(n).unwrap_or(usize::MAX));
        Frames { framing, largest: largest.min(u32::MAX as usize) }
    }

    /// What goes before and behind a message; fails with why it cannot be told apart from others.
    pub fn around(self, message: &[u8]) -> Result<Frame, Unfit> {
        if message.len() > self.largest {
            return Err(Unfit::TooLarge);
        }
        match self.framing {
            Framing::Length => {
                let length = u32::try_from(message.len()).map_err(|_| Unfit::TooLarge)?;
                Ok(Frame { head: length.to_be_bytes(), head_size: PREFIX, tail: b"" })
            }
            Framing::Line if message.contains(&b'\n') => Err(Unfit::HasLineFeed),
            Framing::Line => Ok(Frame { head: [0; PREFIX], head_size: 0, tail: b"\n" }),
            Framing::None if message.is_empty() => Err(Unfit::Empty),
            Framing::None => Ok(Frame { head: [0; PREFIX], head_size: 0, tail: b"" }),
        }
    }
}

/// Why a message cannot go over a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    TooLarge,
    HasLineFeed,
    Empty,
}

/// What a message is wrapped into.
pub(super) struct Frame {
    head: [u8; PREFIX],
    head_size: usize,
    pub tail: &'static [u8],
}

impl Frame {
    pub fn head(&self) -> &[u8] {
        &self.head[..self.head_size]
    }
}

/// What the bytes received so far amount to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A whole message of so many bytes can be taken.
    Message(usize),
    /// More bytes have to come.
    More,
    /// The stream says that a message of so many bytes comes, or the line has that many already: more than is allowed.
    TooLarge(usize),
}

/// Finds the messages in the bytes of one stream. Takes memory for bytes that have come, never for those announced.
pub(super) struct Decoder {
    frames: Frames,
    bytes: Vec<u8>,
    /// What has come and was not taken.
    filled: Range<usize>,
    /// Where the search for a line feed goes on.
    searched: usize,
    ended: bool,
    /// What comes up to the next line feed belongs to a line that was too large.
    passing: bool,
}

impl Decoder {
    pub fn new(frames: Frames) -> Decoder {
        Decoder { frames, bytes: Vec::new(), filled: 0..0, searched: 0, ended: false, passing: false }
    }

    /// Looks at what has come.
    #[inline]
    pub fn next(&mut self) -> Next {
        if self.passing {
            self.pass();
        }
        let found = &self.bytes[self.filled.clone()];
        match self.frames.framing {
            Framing::Length => match found.first_chunk::<PREFIX>() {
                None => Next::More,
                Some(prefix) => {
                    let length = u32::from_be_bytes(*prefix) as usize;
                    if length > self.frames.largest {
                        Next::TooLarge(length)
                    } else if found.len() - PREFIX >= length {
                        Next::Message(length)
                    } else {
                        Next::More
                    }
                }
            },
            Framing::Line => {
                let line = self.bytes[self.searched..self.filled.end].iter().position(|byte| *byte == b'\n');
                let length = match line {
                    Some(at) => self.searched + at - self.filled.start,
                    // What follows the last line feed is a line too, once nothing more can come.
                    None if self.ended && !found.is_empty() => found.len(),
                    None if found.len() <= self.frames.largest => {
                        self.searched = self.filled.end;
                        return Next::More;
                    }
                    None => found.len(),
                };
                self.searched = (self.filled.start + length).min(self.filled.end);
                if length > self.frames.largest { Next::TooLarge(length) } else { Next::Message(length) }
            }
            Framing::None if found.is_empty() => Next::More,
            Framing::None => Next::Message(found.len().min(self.frames.largest)),
        }
    }

    /// The message of `length` bytes that [`Decoder::next`] has found.
    #[inline]
    pub fn message(&self, length: usize) -> &[u8] {
        let start = self.filled.start + self.head();
        &self.bytes[start..start + length]
    }

    /// Goes past that message.
    #[inline]
    pub fn take(&mut self, length: usize) {
        let tail = usize::from(self.frames.framing == Framing::Line);
        self.filled.start = (self.filled.start + self.head() + length + tail).min(self.filled.end);
        self.searched = self.filled.start;
        if self.filled.is_empty() {
            self.filled = 0..0;
            self.searched = 0;
        }
    }

    /// Goes past what [`Decoder::next`] has found to be too large, and of a line past what is still to come.
    #[cold]
    pub fn pass_over(&mut self, length: usize) {
        self.passing = self.frames.framing == Framing::Line && length >= self.filled.len(); // the line feed has not come
        self.take(length);
    }

    #[cold]
    fn pass(&mut self) {
        let found = &self.bytes[self.filled.clone()];
        let line = found.iter().position(|byte| *byte == b'\n');
        self.passing = line.is_none() && !self.ended;
        self.filled.start = line.map_or(self.filled.end, |at| self.filled.start + at + 1);
        self.searched = self.filled.start;
    }

    fn head(&self) -> usize {
        if self.frames.framing == Framing::Length { PREFIX } else { 0 }
    }

    /// Bytes that have come and are not a taken message.
    pub fn pending(&self) -> usize {
        self.filled.len()
    }

    /// Nothing more will come: an unfinished line is one now.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// Something may come again, from others.
    pub fn begin_anew(&mut self) {
        self.ended = false;
    }

    /// Has `read` fill some room and adds what it gave; `ENOMEM` if there is no memory.
    pub fn fill(&mut self, read: impl FnOnce(&mut [u8]) -> SysResult<usize>) -> SysResult<usize> {
        self.fill_by(CHUNK, read)
    }

    /// As [`Decoder::fill`], with so much room if the next message's length is not known.
    pub fn fill_by(&mut self, chunk: usize, read: impl FnOnce(&mut [u8]) -> SysResult<usize>) -> SysResult<usize> {
        let room = self.make_room(chunk)?;
        let length = read(&mut self.bytes[room])?;
        self.filled.end = (self.filled.end + length).min(self.bytes.len());
        Ok(length)
    }

    /// Room behind what has come: for the rest of the message under way, but no more than as much again as has come.
    fn make_room(&mut self, chunk: usize) -> SysResult<Range<usize>> {
        let come = self.filled.len();
        let rest = match self.bytes[self.filled.clone()].first_chunk::<PREFIX>() {
            Some(prefix) if self.frames.framing == Framing::Length => {
                (u32::from_be_bytes(*prefix) as usize).min(self.frames.largest) + PREFIX - come.min(PREFIX)
            }
            _ => chunk,
        };
        let room = rest.min(come.max(chunk)).max(chunk / 16);
        if self.bytes.len() - self.filled.end < room && self.filled.start > 0 {
            self.bytes.copy_within(self.filled.clone(), 0);
            self.searched -= self.filled.start;
            self.filled = 0..come;
        }
        let wanted = self.filled.end + room;
        if self.bytes.len() < wanted {
            let more = wanted.max(chunk) - self.bytes.len();
            self.bytes.try_reserve_exact(more).map_err(|_| Errno::ENOMEM)?;
            self.bytes.resize(self.bytes.len() + more, 0);
        } else if come == 0 && self.bytes.len() > 16 * chunk {
            // One large message does not keep its memory for ever.
            self.bytes.truncate(chunk);
            self.bytes.shrink_to_fit();
        }
        Ok(self.filled.end..self.bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All messages in `stream`, whose bytes come `step` at a time.
    fn decode(framing: Framing, largest: usize, stream: &[u8], step: usize) -> (Vec<Vec<u8>>, Next) {
        let mut decoder = Decoder::new(Frames { framing, largest });
        let mut messages = Vec::new();
        let mut rest = stream;
        loop {
            match decoder.next() {
                Next::Message(length) => {
                    messages.push(decoder.message(length).to_vec());
                    decoder.take(length);
                }
                Next::More if rest.is_empty() && decoder.ended => return (messages, Next::More),
                Next::More if rest.is_empty() => decoder.end(),
                Next::More => {
                    let give = rest.len().min(step);
                    decoder
                        .fill(|room| {
                            let give = give.min(room.len());
                            room[..give].copy_from_slice(&rest[..give]);
                            rest = &rest[give..];
                            Ok(give)
                        })
                        .unwrap();
                }
                flaw => return (messages, flaw),
            }
        }
    }

    fn encode(frames: Frames, messages: &[Vec<u8>]) -> Vec<u8> {
        let mut stream = Vec::new();
        for message in messages {
            let frame = frames.around(message).unwrap();
            stream.extend_from_slice(frame.head());
            stream.extend_from_slice(message);
            stream.extend_from_slice(frame.tail);
        }
        stream
    }

    #[test]
    fn what_was_framed_is_found_however_it_is_cut() {
        let sizes = [0, 1, 3, 4, 5, 4095, 4096, 65_535, 65_536, 65_537, 200_000, 7, 0, 1 << 20];
        let messages: Vec<Vec<u8>> = sizes.iter().enumerate().map(|(n, size)| vec![b'a' + n as u8; *size]).collect();
        for framing in [Framing::Length, Framing::Line] {
            let stream = encode(Frames { framing, largest: 1 << 20 }, &messages);
            for step in [1, 2, 3, 5, 1000, 4096, 65_536, usize::MAX] {
                let (found, end) = decode(framing, 1 << 20, &stream, step);
                assert!(found == messages, "{framing:?} by {step}");
                assert_eq!(end, Next::More);
            }
        }
    }

    #[test]
    fn too_large_is_found_before_its_bytes_come() {
        let stream = [&1001_u32.to_be_bytes()[..], &[1; 50]].concat();
        assert_eq!(decode(Framing::Length, 1000, &stream, 2).1, Next::TooLarge(1001));
        assert!(
            matches!(decode(Framing::Line, 10, b"hello\n12345678901", 1), (found, Next::TooLarge(11)) if found.len() == 1)
        );
    }

    #[test]
    fn a_line_without_an_end_is_one_when_the_stream_ends() {
        let (found, _) = decode(Framing::Line, 100, b"one\ntwo", 3);
        assert_eq!(found, [b"one".to_vec(), b"two".to_vec()]);
    }

    #[test]
    fn the_rest_of_a_line_that_was_too_large_is_no_line() {
        let stream = [b"one\n", &[b'x'; 50][..], b"\ntwo\n", &[b'y'; 11], b"\nthree\n", &[b'z'; 30]].concat();
        for step in [1, 2, 3, 7, 11, 12, 1000] {
            let mut decoder = Decoder::new(Frames { framing: Framing::Line, largest: 10 });
            let (mut rest, mut found, mut too_large) = (&stream[..], Vec::new(), 0);
            loop {
                match decoder.next() {
                    Next::Message(length) => {
                        found.push(decoder.message(length).to_vec());
                        decoder.take(length);
                    }
                    Next::TooLarge(length) => {
                        too_large += 1;
                        decoder.pass_over(length);
                    }
                    Next::More if rest.is_empty() && decoder.ended => break,
                    Next::More if rest.is_empty() => decoder.end(),
                    Next::More => {
                        let filled = decoder.fill(|room| {
                            let (now, later) = rest.split_at(rest.len().min(step));
                            room[..now.len()].copy_from_slice(now);
                            rest = later;
                            Ok(now.len())
                        });
                        filled.unwrap();
                    }
                }
            }
            assert_eq!((found, too_large), (vec![b"one".to_vec(), b"two".to_vec(), b"three".to_vec()], 3), "{step}");
            // The next writer begins a line.
            decoder.begin_anew();
            let filled = decoder.fill(|room| {
                room[..5].copy_from_slice(b"four\n");
                Ok(5)
            });
            filled.unwrap();
            assert_eq!(decoder.next(), Next::Message(4), "{step}");
        }
    }

    #[test]
    fn what_cannot_be_framed_is_refused() {
        let refused = |framing, message: &[u8]| Frames { framing, largest: 10 }.around(message).err();
        assert_eq!(refused(Framing::Length, &[0; 11]), Some(Unfit::TooLarge));
        assert_eq!(refused(Framing::Line, b"a\nb"), Some(Unfit::HasLineFeed));
        assert_eq!(refused(Framing::None, b""), Some(Unfit::Empty));
        assert_eq!(refused(Framing::Line, b""), None);
    }

    #[test]
    fn announced_bytes_take_no_memory() {
        let mut decoder = Decoder::new(Frames { framing: Framing::Length, largest: usize::MAX });
        decoder
            .fill(|room| {
                room[..PREFIX].copy_from_slice(&u32::MAX.to_be_bytes());
                Ok(PREFIX)
            })
            .unwrap();
        assert_eq!(decoder.next(), Next::More);
        decoder.fill(|room| Ok(room.len().min(10))).unwrap();
        assert!(decoder.bytes.capacity() <= 4 * CHUNK);
    }
}
