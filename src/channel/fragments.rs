//! Messages of any size over a pipe with many writers: in pieces that the kernel never tears or mixes.
//!
//! A piece is magic, the writer's number, the message's size, where in it the piece begins (32 bits each, most significant
//! byte first), then the bytes; a write is up to PIPE_BUF bytes: one piece, or several whole messages. A message that is not
//! finished, because its writer died or gave up, is dropped and counted when its writer begins another one, or at the end.
//!
//! Nothing tells a dead writer from one that waits for its turn. So unfinished messages are kept however many there are, up
//! to a bound in bytes that live writers hardly come to; above it those that have waited longest are dropped.

use std::collections::{BTreeMap, HashMap};

use nix::errno::Errno;

use crate::pipe::PIPE_ATOMIC;
use crate::sys::SysResult;

const MAGIC: u32 = 0x5757_6672; // "WWfr"
/// Bytes before a piece.
pub(super) const HEADER: usize = 16;
/// Bytes of a message in one piece.
pub(super) const PIECE: usize = PIPE_ATOMIC - HEADER;
/// Bytes of unfinished messages, or so many of the largest size, whichever is more; above that the one that has waited
/// longest is dropped.
const UNFINISHED_BYTES: usize = 256 << 20;
const UNFINISHED_LARGEST: usize = 64;

/// Adds the header of the piece of `message` that begins at `at` and the piece itself to `out`; where the next one begins.
pub(super) fn write_piece(out: &mut Vec<u8>, writer: u32, message: &[u8], at: usize) -> usize {
    let end = message.len().min(at + PIECE);
    // A message has at most 2^32 - 1 bytes: checked against the channel's largest before.
    for word in [MAGIC, writer, message.len() as u32, at as u32] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    out.extend_from_slice(&message[at..end]);
    end
}

/// What the pieces received so far amount to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A whole message of so many bytes can be taken.
    Message(usize),
    /// More bytes have to come.
    More,
    /// This is not a piece, or one of a message that is larger than allowed.
    Garbage,
}

/// Puts messages together.
pub(super) struct Assembler {
    largest: usize,
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    unfinished: HashMap<u32, Unfinished>,
    /// Their writers by when the last piece came.
    waiting: BTreeMap<u64, u32>,
    /// What they count for, and may.
    held: usize,
    bound: usize,
    /// The whole message, if it came in several pieces.
    whole: Option<Vec<u8>>,
    pieces: u64,
    torn: u64,
}

struct Unfinished {
    bytes: Vec<u8>,
    size: usize,
    /// When its last piece came, in pieces.
    seen: u64,
    /// A part of it is missing, which has been counted: the rest is passed over.
    is_torn: bool,
}

impl Unfinished {
    /// Bytes that it counts for: also one of which nothing is kept takes room.
    fn weight(&self) -> usize {
        self.bytes.len().max(PIPE_ATOMIC)
    }
}

impl Assembler {
    pub fn new(largest: usize) -> Assembler {
        Assembler {
            largest,
            bytes: Vec::new(),
            start: 0,
            end: 0,
            unfinished: HashMap::new(),
            waiting: BTreeMap::new(),
            held: 0,
            bound: UNFINISHED_BYTES.max(largest.saturating_mul(UNFINISHED_LARGEST)),
            whole: None,
            pieces: 0,
            torn: 0,
        }
    }

    /// Has room for what so many live writers may have begun, and for what some dead ones have left.
    pub fn expect_writers(&mut self, writers: usize) {
        self.bound = self.bound.max(self.largest.saturating_mul(writers.saturating_add(UNFINISHED_LARGEST)));
    }

    /// Looks at what has come; `ENOMEM` if there is no memory for it.
    pub fn next(&mut self) -> SysResult<Next> {
        if let Some(whole) = &self.whole {
            return Ok(Next::Message(whole.len()));
        }
        loop {
            let Some((writer, size, at)) = self.header() else { return Ok(Next::More) };
            if size > self.largest || at > size || (at == size && size > 0) || !at.is_multiple_of(PIECE) {
                self.resynchronize();
                return Ok(Next::Garbage);
            }
            let length = (size - at).min(PIECE);
            if self.end - self.start - HEADER < length {
                return Ok(Next::More);
            }
            if at == 0 && length == size {
                self.drop_unfinished(writer);
                return Ok(Next::Message(size));
            }
            let piece = self.start + HEADER..self.start + HEADER + length;
            self.start = piece.end;
            self.pieces += 1;
            if at == 0 {
                self.drop_unfinished(writer);
            }
            let mut message = self.remove(writer).unwrap_or_else(|| {
                // In the middle of one: its beginning went with a receiver before this one, or was dropped.
                self.torn += u64::from(at > 0);
                Unfinished { bytes: Vec::new(), size, seen: 0, is_torn: at > 0 }
            });
            if !message.is_torn && (message.bytes.len() != at || message.size != size) {
                self.torn += 1;
                (message.is_torn, message.bytes) = (true, Vec::new());
            }
            if !message.is_torn {
                if message.bytes.try_reserve(length).is_err() {
                    self.torn += 1;
                    self.put(writer, Unfinished { bytes: Vec::new(), is_torn: true, ..message });
                    return Err(Errno::ENOMEM);
                }
                message.bytes.extend_from_slice(&self.bytes[piece]);
            }
            if at + length < size {
                self.put(writer, message);
            } else if !message.is_torn {
                self.whole = Some(message.bytes);
                return Ok(Next::Message(size));
            }
        }
    }

    /// Takes the unfinished message of a writer out.
    fn remove(&mut self, writer: u32) -> Option<Unfinished> {
        let message = self.unfinished.remove(&writer)?;
        self.waiting.remove(&message.seen);
        self.held -= message.weight();
        Some(message)
    }

    /// Keeps an unfinished message of which a piece has just come.
    fn put(&mut self, writer: u32, message: Unfinished) {
        self.held += message.weight();
        self.waiting.insert(self.pieces, writer);
        self.unfinished.insert(writer, Unfinished { seen: self.pieces, ..message });
        // The one that has just come is the last.
        while self.held > self.bound
            && self.waiting.len() > 1
            && let Some((_, longest)) = self.waiting.first_key_value()
        {
            self.drop_unfinished(*longest);
        }
    }

    /// Writer, size and place of the piece that comes next, if its header has come and is one; otherwise 0, above all
    /// sizes, 0.
    fn header(&self) -> Option<(u32, usize, usize)> {
        let header = self.bytes.get(self.start..self.end)?.first_chunk::<HEADER>()?;
        let word =
            |n: usize| u32::from_be_bytes([header[4 * n], header[4 * n + 1], header[4 * n + 2], header[4 * n + 3]]);
        if word(0) != MAGIC {
            return Some((0, usize::MAX, 0));
        }
        Some((word(1), word(2) as usize, word(3) as usize))
    }

    /// Goes to the next magic after garbage, or past all of it.
    fn resynchronize(&mut self) {
        let magic = MAGIC.to_be_bytes();
        let rest = &self.bytes[self.start + 1..self.end];
        let found = rest.windows(magic.len()).position(|window| window == magic);
        // The last bytes may be the beginning of a magic.
        self.start += 1 + found.unwrap_or(rest.len().saturating_sub(magic.len() - 1));
    }

    #[inline]
    fn drop_unfinished(&mut self, writer: u32) {
        if self.unfinished.is_empty() {
            return; // as nearly always: no need to look for the writer
        }
        self.torn += u64::from(self.remove(writer).is_some_and(|message| !message.is_torn));
    }

    /// The message of `length` bytes that [`Assembler::next`] has found.
    pub fn message(&self, length: usize) -> &[u8] {
        match &self.whole {
            Some(whole) => whole,
            None => &self.bytes[self.start + HEADER..self.start + HEADER + length],
        }
    }

    /// Goes past that message.
    pub fn take(&mut self, length: usize) {
        if self.whole.take().is_none() {
            self.start += HEADER + length;
        }
    }

    /// Has `read` fill so much room, or more, and adds what it gave.
    pub fn fill(&mut self, room: usize, read: impl FnOnce(&mut [u8]) -> SysResult<usize>) -> SysResult<usize> {
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let missing = (self.end + room).saturating_sub(self.bytes.len());
        if missing > 0 {
            self.bytes.try_reserve_exact(missing).map_err(|_| Errno::ENOMEM)?;
            self.bytes.resize(self.bytes.len() + missing, 0);
        }
        let length = read(&mut self.bytes[self.end..])?;
        self.end = (self.end + length).min(self.bytes.len());
        Ok(length)
    }

    /// Every writer has gone: what is unfinished stays so.
    pub fn end(&mut self) {
        let unfinished = self.unfinished.values().filter(|message| !message.is_torn).count();
        self.torn += unfinished as u64 + u64::from(self.start < self.end);
        self.unfinished.clear();
        self.waiting.clear();
        self.held = 0;
        (self.start, self.end) = (0, 0);
    }

    /// Messages of which a part is missing.
    pub fn torn(&self) -> u64 {
        self.torn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(writer: u32, message: &[u8]) -> Vec<Vec<u8>> {
        let (mut all, mut at) = (Vec::new(), 0);
        loop {
            let mut piece = Vec::new();
            at = write_piece(&mut piece, writer, message, at);
            all.push(piece);
            if at == message.len() {
                return all;
            }
        }
    }

    fn feed(assembler: &mut Assembler, bytes: &[u8], found: &mut Vec<Vec<u8>>) -> usize {
        let (mut rest, mut garbage) = (bytes, 0);
        loop {
            match assembler.next().unwrap() {
                Next::Message(length) => {
                    found.push(assembler.message(length).to_vec());
                    assembler.take(length);
                }
                Next::Garbage => garbage += 1,
                Next::More if rest.is_empty() => return garbage,
                Next::More => {
                    assembler
                        .fill(PIPE_ATOMIC, |room| {
                            let give = rest.len().min(room.len()).min(777);
                            room[..give].copy_from_slice(&rest[..give]);
                            rest = &rest[give..];
                            Ok(give)
                        })
                        .unwrap();
                }
            }
        }
    }

    #[test]
    fn messages_of_many_writers_are_put_together() {
        let sizes = [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE, 100_000];
        let messages: Vec<Vec<u8>> = sizes.iter().enumerate().map(|(n, size)| vec![n as u8; *size]).collect();
        let mut streams: Vec<_> =
            messages.iter().enumerate().map(|(n, message)| pieces(n as u32, message).into_iter()).collect();
        let (mut assembler, mut found) = (Assembler::new(1 << 20), Vec::new());
        let mut left = true;
        while left {
            left = false;
            for stream in &mut streams {
                if let Some(piece) = stream.next() {
                    assert!(piece.len() <= PIPE_ATOMIC);
                    assert_eq!(feed(&mut assembler, &piece, &mut found), 0);
                    left = true;
                }
            }
        }
        found.sort();
        assert!(found == messages);
        assert_eq!(assembler.torn(), 0);
    }

    #[test]
    fn an_unfinished_message_is_counted_and_drops_alone() {
        let (mut assembler, mut found) = (Assembler::new(1 << 20), Vec::new());
        feed(&mut assembler, &pieces(7, &[1; 9000])[0], &mut found);
        feed(&mut assembler, &pieces(8, &[2; 5]).concat(), &mut found);
        feed(&mut assembler, &pieces(7, &[3; 9000]).concat(), &mut found);
        assert_eq!(found, [vec![2; 5], vec![3; 9000]]);
        assert_eq!(assembler.torn(), 1);
    }

    #[test]
    fn a_message_without_its_beginning_is_counted_once() {
        let (mut assembler, mut found) = (Assembler::new(1 << 20), Vec::new());
        let long = pieces(7, &[1; 20_000]);
        feed(&mut assembler, &long[1..].concat(), &mut found);
        feed(&mut assembler, &pieces(7, &[2; 9000]).concat(), &mut found);
        assert_eq!((found.len(), assembler.torn()), (1, 1));
        // One in the middle, and an end that does not come.
        feed(&mut assembler, &[&long[..1], &long[2..]].concat().concat(), &mut found);
        feed(&mut assembler, &[&long[..1], &long[2..3]].concat().concat(), &mut found);
        feed(&mut assembler, &pieces(7, &[3; 10]).concat(), &mut found);
        assert_eq!((found.len(), assembler.torn()), (2, 3));
        assembler.end();
        assert_eq!(assembler.torn(), 3);
    }

    #[test]
    fn after_garbage_the_next_message_is_found() {
        let (mut assembler, mut found) = (Assembler::new(1 << 20), Vec::new());
        let stream = [b"GET / HTTP/1.1\r\n\r\n".to_vec(), pieces(1, b"hello").concat()].concat();
        assert!(feed(&mut assembler, &stream, &mut found) > 0);
        assert_eq!(found, [b"hello".to_vec()]);
    }

    #[test]
    fn no_message_of_many_live_writers_is_lost() {
        let (mut assembler, mut found) = (Assembler::new(1 << 20), Vec::new());
        let messages: Vec<_> = (0..1000).map(|writer| pieces(writer, &writer.to_be_bytes().repeat(2500))).collect();
        for at in 0..3 {
            messages.iter().for_each(|message| assert_eq!(feed(&mut assembler, &message[at], &mut found), 0));
        }
        assert_eq!((found.len(), assembler.torn(), assembler.held), (1000, 0, 0));
        assert!(found.iter().zip(0_u32..).all(|(message, writer)| *message == writer.to_be_bytes().repeat(2500)));
        assert!(assembler.unfinished.is_empty() && assembler.waiting.is_empty());
    }

    #[test]
    fn unfinished_messages_are_bounded_in_bytes() {
        let (mut assembler, mut found) = (Assembler::new(20_000), Vec::new());
        assembler.bound = 10 * 2 * PIECE;
        for writer in 0..1000 {
            pieces(writer, &[writer as u8; 20_000])[..2]
                .iter()
                .for_each(|piece| assert_eq!(feed(&mut assembler, piece, &mut found), 0));
            assert!(assembler.held <= assembler.bound);
        }
        assert_eq!((assembler.unfinished.len(), assembler.waiting.len(), assembler.torn()), (10, 10, 990));
        // Those that came last are whole in the end; of what was dropped nothing is kept, which is bounded as well.
        feed(&mut assembler, &pieces(999, &[999_u32 as u8; 20_000])[2..].concat(), &mut found);
        assert_eq!(found, [vec![999_u32 as u8; 20_000]]);
        for writer in 0..900 {
            feed(&mut assembler, &pieces(writer, &[0; 20_000])[2], &mut found);
        }
        assert!(assembler.held <= assembler.bound && assembler.unfinished.len() <= 20);
        assembler.expect_writers(2000);
        assert!(assembler.bound >= 2000 * 20_000);
        assembler.end();
        assert_eq!((assembler.held, found.len()), (0, 1));
    }

    #[test]
    fn too_large_is_garbage() {
        let (mut assembler, mut found) = (Assembler::new(1000), Vec::new());
        assert!(feed(&mut assembler, &pieces(1, &[0; 1001]).concat(), &mut found) > 0);
        assert!(found.is_empty());
    }
}
