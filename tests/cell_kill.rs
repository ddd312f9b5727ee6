//! A process is killed, or stopped for ever, at every point of every operation on a cell that differs from the one
//! before; the others go on, find whole values only, and nothing is left over.
#![cfg(target_arch = "x86_64")]

mod stepping;
mod support;

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use stepping::{End, Point, Victim, View, everywhere};
use wigwag::{Cell, CellOptions, CellReserved, Timeout};

const VICTIMS: u64 = 1 << 32;
/// Several times through the buffers.
const ROUNDS: u64 = 60;

fn options() -> CellOptions {
    CellOptions { largest: 100, participants: 6, ..Default::default() }
}

fn again(cell: &Cell) -> Cell {
    Cell::from_fd(cell.as_fd().try_clone_to_owned().unwrap(), options()).unwrap()
}

fn value(id: u64) -> Vec<u8> {
    let mut bytes = id.to_le_bytes().to_vec();
    let length = 8 + (id as usize * 37) % 93;
    bytes.extend((bytes.len()..length).map(|at| (id as usize).wrapping_mul(31).wrapping_add(at * 7) as u8));
    bytes
}

fn read(cell: &Cell, overrun: bool) -> (u64, u64) {
    let mut buffer = [0; 100];
    let read = if overrun { cell.read_as_if_overrun(&mut buffer) } else { cell.read(&mut buffer) }.unwrap();
    let id = u64::from_le_bytes(buffer[..8].try_into().unwrap());
    assert_eq!(&buffer[..read.length], value(id), "torn");
    (id, read.sequence)
}

/// What a victim has with it when its operation begins.
enum Hand<'a> {
    Cell(&'a Cell),
    Own(#[allow(dead_code)] Box<Cell>),
    Reserved(CellReserved<'a>),
}

impl<'a> Hand<'a> {
    fn cell(self) -> &'a Cell {
        match self {
            Hand::Cell(cell) => cell,
            _ => unreachable!(),
        }
    }
}

struct Operation {
    name: &'static str,
    /// A process has died that held two buffers, and a reader.
    after_a_death: bool,
    /// Values that the victim has published if it came to its end.
    publishes: u64,
    prepare: for<'a> fn(&'a Cell) -> Hand<'a>,
    body: fn(Hand<'_>),
}

/// Joins, which happens on first use.
fn joined(cell: &Cell) -> Hand<'_> {
    cell.statistics().unwrap();
    Hand::Cell(cell)
}

fn reserved(cell: &Cell) -> Hand<'_> {
    let bytes = value(VICTIMS);
    let mut reserved = cell.reserve(bytes.len()).unwrap();
    reserved.write(0, &bytes);
    Hand::Reserved(reserved)
}

fn write(hand: Hand<'_>) {
    hand.cell().write(&value(VICTIMS)).unwrap();
}

const fn operation(
    name: &'static str,
    publishes: u64,
    prepare: for<'a> fn(&'a Cell) -> Hand<'a>,
    body: fn(Hand<'_>),
) -> Operation {
    Operation { name, after_a_death: false, publishes, prepare, body }
}

const OPERATIONS: &[Operation] = &[
    operation("write", 1, joined, write),
    operation("write, first of a child", 1, |cell| Hand::Cell(cell), write),
    operation("read", 0, joined, |hand| drop(read(hand.cell(), false).0.to_string())),
    operation("read, overrun", 0, joined, |hand| drop(read(hand.cell(), true).0.to_string())),
    operation("reserve", 0, joined, |hand| std::mem::forget(hand.cell().reserve(100).unwrap())),
    operation("publish", 1, reserved, |hand| match hand {
        Hand::Reserved(reserved) => assert!(reserved.publish().unwrap() > 0),
        _ => unreachable!(),
    }),
    operation("abort", 0, reserved, |hand| drop(hand)),
    operation("wait in vain", 0, joined, |hand| {
        let ended = hand.cell().wait(1 << 40, Timeout::After(Duration::from_millis(1))).unwrap_err();
        assert!(ended.is(Errno::ETIMEDOUT));
    }),
    Operation {
        after_a_death: true,
        ..operation(
            "open, taking over from the dead",
            0,
            |cell| Hand::Cell(cell),
            |hand| {
                std::mem::forget(again(hand.cell()));
            },
        )
    },
    operation("leave", 0, |cell| Hand::Own(Box::new(again(cell))), |hand| drop(hand)),
];

/// A cell as the operation wants to find it, the victim's handle, and how many values it has seen.
fn set_up(operation: &Operation) -> (Cell, Cell, u64) {
    let cell = Cell::anonymous(options()).unwrap();
    // Not the first in any buffer, where zeros could pass for something.
    (1..=20).for_each(|id| assert_eq!(cell.write(&value(id)).unwrap(), id));
    let victims = again(&cell);
    if operation.after_a_death {
        support::fork(|| {
            std::mem::forget((cell.reserve(10).unwrap(), cell.reserve(20).unwrap()));
            // SAFETY: ends this process without any clean-up.
            unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
        })
        .wait();
    }
    (cell, victims, 20)
}

/// One run: the victim comes to this point and gets no further; how long the others took, `None` if it did not.
fn run(operation: &Operation, point: Point, end: End) -> Option<Duration> {
    let kill = end == End::Killed;
    let (cell, victims, mut written) = set_up(operation);
    let mut view = View::new(&cell);
    let mut victim = start(operation, &victims);
    if !victim.go_to(point, &mut view) {
        return None;
    }

    let survivor = again(&cell);
    let begun = Instant::now();
    let mut victim = Some(victim);
    if kill {
        victim = None;
    }
    let mut before = read(&survivor, false).1;
    let may_have_come = u64::from(operation.publishes == 1);
    for round in 0..ROUNDS {
        let sequence = survivor.write(&value(100 + round)).unwrap();
        written += 1;
        assert!((written..=written + may_have_come).contains(&sequence) && sequence > before);
        assert_eq!(read(&survivor, round % 2 == 0), (100 + round, sequence));
        before = sequence;
    }
    let held_up = begun.elapsed();
    if let Some(mut victim) = victim {
        victim.go_on();
    }
    drop(victims);
    let fresh = again(&cell);
    let statistics = fresh.statistics().unwrap();
    assert_eq!(statistics.writing, 0, "left over: {statistics:?}");
    assert!(statistics.participants.iter().all(|peer| peer.pid == Some(std::process::id())), "{statistics:?}");
    let victims_own = statistics.sequence - written;
    assert!(if kill { victims_own <= operation.publishes } else { victims_own == operation.publishes });
    assert!(statistics.skipped <= 1 + 2 * u64::from(operation.after_a_death), "{statistics:?}");
    let (id, sequence) = read(&fresh, true);
    assert_eq!((read(&fresh, false), sequence), ((id, sequence), statistics.sequence));
    assert!(id == 100 + ROUNDS - 1 || id == VICTIMS && !kill);
    // All buffers are there to be used.
    let held: Vec<_> = (1..statistics.buffers).map(|_| fresh.reserve(1).unwrap()).collect();
    drop(held);
    Some(held_up)
}

fn start(operation: &Operation, cell: &Cell) -> Victim {
    Victim::start(|| (operation.prepare)(cell), |hand| (operation.body)(hand))
}

#[test]
fn killed_and_stopped_everywhere() {
    let points = |operation: &Operation| {
        let (cell, victims, _) = set_up(operation);
        start(operation, &victims).all_points(&mut View::new(&cell))
    };
    everywhere(OPERATIONS, |operation| operation.name.into(), points, run);
}
