//! Cells: whole values, never an older one than was seen, or written, before.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use wigwag::{Cell, CellOptions};

use crate::crew::{Seat, shared, soak};

const LARGEST: usize = 300;

#[repr(C)]
struct Notes {
    next: AtomicU64,
    /// The newest that somebody knows of.
    newest: AtomicU64,
}

fn value(id: u64) -> Vec<u8> {
    let mut bytes = id.to_le_bytes().to_vec();
    let length = 8 + (id as usize * 37) % (LARGEST - 8);
    bytes.extend((8..length).map(|at| (id as usize).wrapping_mul(31).wrapping_add(at * 7) as u8));
    bytes
}

fn options() -> CellOptions {
    CellOptions { largest: LARGEST as u64, participants: 32, ..Default::default() }
}

fn work(cell: &Cell, notes: &Notes, mut seat: Seat) {
    loop {
        let (mut buffer, brief) = ([0; LARGEST], seat.dice.brief());
        let newest = notes.newest.load(Ordering::SeqCst);
        let bytes = value(notes.next.fetch_add(1, Ordering::SeqCst));
        let known = match seat.dice.roll(8) {
            0..2 => cell.write(&bytes),
            2 => cell.reserve(bytes.len()).and_then(|mut reserved| {
                let (front, back) = bytes.split_at(bytes.len() / 2);
                reserved.write(0, front);
                std::thread::yield_now();
                reserved.write(front.len(), back);
                if seat.dice.roll(4) == 0 { reserved.abort().map(|()| newest) } else { reserved.publish() }
            }),
            way => {
                let read = match way {
                    3 => cell.wait_read(newest, &mut buffer, brief),
                    _ => cell.read(&mut buffer),
                };
                if let Ok(read) = &read {
                    let bytes = &buffer[..read.length];
                    if bytes.first_chunk().is_none_or(|id| bytes != value(u64::from_le_bytes(*id))) {
                        seat.board.fail("torn");
                    }
                }
                read.map(|read| read.sequence)
            }
        };
        if let Some(sequence) = seat.turn(known, &[Errno::ENODATA]) {
            if sequence < newest {
                seat.board.fail("older than what was known");
            }
            notes.newest.fetch_max(sequence, Ordering::SeqCst);
        }
    }
}

#[test]
fn cells() {
    let cell = Cell::anonymous(options()).unwrap();
    // SAFETY: atomics.
    let notes: &'static Notes = unsafe { shared() };
    soak("cells", |seat| {
        let own = seat.anew.then(|| Cell::from_fd(cell.as_fd().try_clone_to_owned().unwrap(), options()).unwrap());
        work(own.as_ref().unwrap_or(&cell), notes, seat);
    });
    let last = Cell::from_fd(cell.as_fd().try_clone_to_owned().unwrap(), options()).unwrap();
    let sequence = last.write(&value(1)).unwrap();
    let mut buffer = [0; LARGEST];
    let read = last.read(&mut buffer).unwrap();
    assert_eq!((read.sequence, &buffer[..read.length]), (sequence, &value(1)[..]));
    assert!(sequence > notes.newest.load(Ordering::SeqCst));
    let books = last.statistics().unwrap();
    println!("{books:?}");
    assert_eq!((books.sequence, books.writing, books.participants.len()), (sequence, 0, 2));
}
