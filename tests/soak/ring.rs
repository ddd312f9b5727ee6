//! Many-to-many rings: nothing is lost, torn or doubled without the mark.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use wigwag::{Ring, RingOptions, Timeout};

use crate::crew::{Board, Seat, shared, soak};

const MESSAGES: usize = 1 << 24;

/// What the workers note down for all to see, in memory of its own.
#[repr(C)]
pub struct Notes {
    pub next: AtomicU64,
    /// For each message: bit 0, it was certainly sent; bit 1, it came without the mark; bit 2, it came with it.
    pub messages: [AtomicU8; MESSAGES],
}

impl Notes {
    pub fn new() -> &'static Notes {
        // SAFETY: atomics.
        unsafe { shared() }
    }

    pub fn sent(&self, id: u64) {
        self.messages[id as usize].fetch_or(1, Ordering::SeqCst);
    }

    /// Which one came.
    pub fn came(&self, board: &Board, bytes: &[u8], marked: bool) -> u64 {
        let id = bytes.first_chunk().map_or(u64::MAX, |id| u64::from_le_bytes(*id));
        if id >= MESSAGES as u64 || bytes != message(id) {
            board.fail("torn");
            return 0;
        }
        let before = self.messages[id as usize].fetch_or(if marked { 4 } else { 2 }, Ordering::SeqCst);
        if !marked && before & 6 != 0 {
            board.fail("doubled without the mark");
        }
        id
    }

    /// How many different ones came; all that were sent for certain are among them.
    pub fn count(&self) -> u64 {
        let ids = self.next.load(Ordering::SeqCst) as usize;
        let (mut came, mut lost) = (0, 0);
        for note in &self.messages[..ids] {
            let note = note.load(Ordering::SeqCst);
            came += u64::from(note & 6 != 0);
            lost += u64::from(note == 1);
        }
        assert_eq!(lost, 0, "lost");
        came
    }
}

/// Of up to 600 bytes.
pub fn message(id: u64) -> Vec<u8> {
    let mut bytes = id.to_le_bytes().to_vec();
    // Some are longer than a slot.
    let length = if id.is_multiple_of(3) { 8 + (id as usize * 37) % 593 } else { 8 + (id as usize * 37) % 93 };
    bytes.extend((8..length).map(|at| (id as usize).wrapping_mul(31).wrapping_add(at * 7) as u8));
    bytes
}

fn options() -> RingOptions {
    let (capacity, largest, participants) = (1 << 14, 600, 32);
    RingOptions { capacity, largest, participants, lanes: 2, redeliveries: 3, persistent: true, ..Default::default() }
}

fn letters(ring: &Ring) -> Ring {
    let fd = ring.as_fd().try_clone_to_owned().unwrap();
    Ring::from_fd(fd, RingOptions { dead_letters: true, ..options() }).unwrap()
}

fn work(ring: &Ring, notes: &Notes, mut seat: Seat) {
    let letters = letters(ring);
    loop {
        let dice = &mut seat.dice;
        let lane = dice.roll(2) as u32;
        let brief = dice.brief();
        let result = match dice.roll(10) {
            0..2 => {
                let id = notes.next.fetch_add(1, Ordering::SeqCst);
                ring.send_in_lane(lane, &message(id), brief).map(|()| notes.sent(id))
            }
            2 => {
                let ids = [(); 3].map(|()| notes.next.fetch_add(1, Ordering::SeqCst));
                let messages = ids.map(message);
                ring.send_batch_in_lane(lane, &messages.each_ref().map(|message| &message[..]), brief).map(|sent| {
                    ids[..sent].iter().for_each(|id| notes.sent(*id));
                })
            }
            3 => {
                let id = notes.next.fetch_add(1, Ordering::SeqCst);
                let bytes = message(id);
                ring.reserve_in_lane(lane, bytes.len(), brief).and_then(|mut reserved| {
                    let (front, back) = bytes.split_at(bytes.len() / 2);
                    reserved.write(0, front);
                    std::thread::yield_now();
                    reserved.write(front.len(), back);
                    if dice.roll(4) == 0 {
                        return reserved.abort();
                    }
                    reserved.commit().map(|()| notes.sent(id))
                })
            }
            4 => letters.borrow(Timeout::Now).and_then(|borrowed| {
                notes.came(seat.board, &borrowed.to_vec(), borrowed.is_redelivered());
                borrowed.release()
            }),
            // Noted before it is released: what is released and not noted is lost.
            _ => ring.borrow(brief).and_then(|borrowed| {
                notes.came(seat.board, &borrowed.to_vec(), borrowed.is_redelivered());
                if dice.roll(8) == 0 { Ok(()) } else { borrowed.release() }
            }),
        };
        seat.turn(result, &[]);
    }
}

#[test]
fn rings() {
    let (ring, notes) = (Ring::anonymous(options()).unwrap(), Notes::new());
    let board = soak("rings", |seat| {
        if seat.anew {
            let fd = ring.as_fd().try_clone_to_owned().unwrap();
            work(&Ring::from_fd(fd, options()).unwrap(), notes, seat);
        } else {
            work(&ring, notes, seat);
        }
    });

    // What is left, seen by one who has just come and therefore asks for the dead at once.
    let last = Ring::from_fd(ring.as_fd().try_clone_to_owned().unwrap(), options()).unwrap();
    while let Ok(borrowed) = last.borrow(Timeout::After(Duration::from_millis(20))) {
        notes.came(board, &borrowed.to_vec(), borrowed.is_redelivered());
        borrowed.release().unwrap();
    }
    let dead = letters(&last);
    while let Ok(borrowed) = dead.borrow(Timeout::Now) {
        notes.came(board, &borrowed.to_vec(), borrowed.is_redelivered());
        borrowed.release().unwrap();
    }
    drop(dead);
    let books = last.statistics().unwrap();
    println!("{books:?}");
    assert!(!board.has_failed());
    assert_eq!((books.borrowed, books.queued, books.writing, books.participants.len()), (0, 0, 0, 2));
    assert_eq!((books.sent, notes.count()), (books.released, books.released), "sent, and different messages that came");
}
