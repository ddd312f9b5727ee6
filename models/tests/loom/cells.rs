//! Cells.

use std::sync::Arc;

use wigwag::modelled::{spawn, victim};
use wigwag::{Cell, CellOptions, CellReserved, WaitMode};

use crate::checking::{again, holds, holds_at_every_death, holds_at_every_stop};

/// A value whose words agree, so that a torn one shows.
fn value(number: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&number.to_ne_bytes());
    bytes[8..].copy_from_slice(&number.to_ne_bytes());
    bytes
}

fn number(bytes: &[u8; 16]) -> u64 {
    let word = |at: usize| u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap());
    assert_eq!(word(0), word(8), "torn");
    word(0)
}

/// A cell of which all buffers but a few are in other hands, so that the next write but so many overwrites what is read.
fn cells(free: u64) -> (Vec<CellReserved<'static>>, [Cell; 2]) {
    let options = || CellOptions { largest: 16, participants: 3, wait: WaitMode::Block, ..Default::default() };
    let cell = Arc::new(Cell::anonymous(options()).unwrap());
    cell.write(&value(1)).unwrap();
    let buffers = cell.statistics().unwrap().buffers;
    let held = (free..buffers).map(|_| cell.reserve_owned(16).unwrap()).collect();
    (held, [(); 2].map(|()| Cell::from_fd(again(&*cell), options()).unwrap()))
}

fn written_and_read(free: u64, reads: u64, read: fn(&Cell, &mut [u8; 16]) -> u64) {
    let (_held, [writers, readers]) = cells(free);
    let writer = spawn(move || {
        (2..=3).for_each(|number| assert_eq!(writers.write(&value(number)).unwrap(), number));
        writers
    });
    let reader = spawn(move || {
        let (mut bytes, mut last) = ([0; 16], 0);
        for _ in 0..reads {
            let sequence = read(&readers, &mut bytes);
            assert_eq!(number(&bytes), sequence);
            assert!(sequence >= last, "back from {last} to {sequence}");
            last = sequence;
        }
        readers
    });
    writer.join();
    reader.join();
}

#[test]
fn a_cell_gives_whole_values() {
    let scenario = || written_and_read(2, 1, |cell, bytes| cell.read(bytes).unwrap().sequence);
    holds(
        "cell",
        scenario,
        &[
            &[("cell/buffers.rs", "fn read(&self … fence(Ordering::Acquire);")],
            &[
                ("cell/buffers.rs", "compare_exchange(from.0, to.0, Ordering::SeqCst, Ordering::Relaxed)"),
                ("cell/buffers.rs", "fence(Ordering::Release);"),
            ],
            &[
                ("cell/buffers.rs", "compare_exchange(from.0, to.0, Ordering::SeqCst, Ordering::Relaxed)"),
                ("cell/buffers.rs", "control.latest.0.compare_exchange(latest.0, next.0, Ordering::SeqCst"),
            ],
        ],
    );
}

#[test]
fn a_cell_gives_whole_values_to_who_was_overrun() {
    let scenario = || written_and_read(4, 2, |cell, bytes| cell.read_as_if_overrun(bytes).unwrap().sequence);
    holds("cell, overrun", scenario, &[]);
}

#[test]
fn a_cell_goes_on_without_a_writer() {
    let scenario = || {
        let (held, [mortal, survivor]) = cells(3);
        let ended = victim(move || {
            mortal.write(&value(9)).unwrap();
            mortal
        });
        let living = spawn(move || {
            let mut bytes = [0; 16];
            let own = survivor.write(&value(7)).unwrap();
            let read = survivor.read(&mut bytes).unwrap().sequence;
            assert!(read == own && number(&bytes) == 7 || read == own + 1 && number(&bytes) == 9);
            survivor
        });
        let living = living.join();
        ended.join();
        drop((living, held));
    };
    holds_at_every_death("cell, writer", scenario);
    holds_at_every_stop("cell, writer", scenario);
}

#[test]
fn a_cell_goes_on_without_a_reader() {
    let scenario = || {
        let (held, [mortal, survivor]) = cells(3);
        let ended = victim(move || {
            mortal.read(&mut [0; 16]).unwrap();
            mortal
        });
        let living = spawn(move || {
            (2..=3).for_each(|number| assert_eq!(survivor.write(&value(number)).unwrap(), number));
            survivor
        });
        let living = living.join();
        ended.join();
        drop((living, held));
    };
    holds_at_every_death("cell, reader", scenario);
    holds_at_every_stop("cell, reader", scenario);
}
