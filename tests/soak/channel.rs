//! Channels between producers and consumers: a message comes whole and once; what a consumer takes with it when it is killed
//! is all that is lost.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use wigwag::{Address, Channel, Timeout};

use crate::crew::{Board, shared, soak};
use crate::support::{GENEROUS, fresh};

const MESSAGES: usize = 1 << 24;

#[repr(C)]
struct Notes {
    next: AtomicU64,
    /// For each message: bit 0, sending has returned; bit 1, it came; bit 2, sending has failed.
    messages: [AtomicU8; MESSAGES],
}

impl Notes {
    fn came(&self, board: &Board, bytes: &[u8]) {
        if self.came_again(board, bytes) {
            board.fail("doubled");
        }
    }

    /// Whether it had come before.
    fn came_again(&self, board: &Board, bytes: &[u8]) -> bool {
        let number = |at: usize| bytes.get(at..at + 8).map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap()));
        let (sender, id) = (number(0).unwrap_or_default(), number(8).unwrap_or(u64::MAX));
        if id >= MESSAGES as u64 || bytes != message(sender, id) {
            board.fail("torn");
            return false;
        }
        self.messages[id as usize].fetch_or(2, Ordering::SeqCst) & 2 != 0
    }

    /// How many came, and how many did not though sending had returned; what was not sent did not.
    fn count(&self) -> (u64, u64) {
        let ids = self.next.load(Ordering::SeqCst) as usize;
        let found = |what: fn(u8) -> bool| {
            self.messages[..ids].iter().filter(|note| what(note.load(Ordering::SeqCst))).count() as u64
        };
        assert_eq!(found(|note| note & 6 == 6), 0, "came, though sending failed");
        (found(|note| note & 2 != 0), found(|note| note == 1))
    }
}

fn message(sender: u64, id: u64) -> Vec<u8> {
    let mut bytes = [sender.to_le_bytes(), id.to_le_bytes()].concat();
    bytes.extend((16..16 + id * 37 % 400).map(|at| (id.wrapping_mul(31).wrapping_add(at * 7)) as u8));
    bytes
}

fn produce(channel: &Channel, notes: &Notes, timeout: Timeout) -> wigwag::Result<()> {
    let id = notes.next.fetch_add(1, Ordering::SeqCst);
    let sent = channel.send(&message(std::process::id().into(), id), timeout);
    notes.messages[id as usize].fetch_or(if sent.is_ok() { 1 } else { 4 }, Ordering::SeqCst);
    sent
}

/// Producers and consumers are killed.
fn both_are_killed(address: &Address) {
    // SAFETY: atomics.
    let notes: &'static Notes = unsafe { shared() };
    let keeps = Channel::open_sender(address, GENEROUS).unwrap();
    let board = soak(&format!("channel {}", address.scheme()), |mut seat| {
        let sender = Channel::open_sender(address, GENEROUS).unwrap();
        let receiver = Channel::open_receiver(address, GENEROUS).unwrap();
        loop {
            let brief = seat.dice.brief();
            if seat.dice.roll(2) == 0 {
                seat.turn(produce(&sender, notes, brief), &[]);
            } else if let Some(message) = seat.turn(receiver.recv_message(brief), &[]) {
                notes.came(seat.board, &message.data);
            }
        }
    });
    let last = Channel::open_receiver(address, GENEROUS).unwrap();
    while let Ok(message) = last.recv_message(Timeout::After(Duration::from_millis(50))) {
        notes.came(board, &message.data);
    }
    let (came, lost) = notes.count();
    println!("{came} came, {lost} lost");
    assert!(!board.has_failed());
    assert!(lost <= board.kills(), "{lost} lost, and {} killed", board.kills());
    assert!(came > 0);
    drop((keeps, last));
}

/// Producers are killed; one who lives receives, and misses nothing. `receiver` is opened by that one, `sender` by each.
fn producers_are_killed<'a>(
    what: &str,
    receiver: impl FnOnce() -> Channel + Send,
    sender: impl Fn() -> MaybeOwned<'a> + Sync,
) {
    // SAFETY: atomics.
    let (notes, over): (&'static Notes, &'static AtomicBool) = unsafe { (shared(), shared()) };
    // SAFETY: atomics.
    let seen: &'static Board = unsafe { shared() };
    std::thread::scope(|scope| {
        let receiving = scope.spawn(|| {
            let receiver = receiver();
            let mut last = HashMap::new();
            loop {
                match receiver.recv_message(Timeout::After(Duration::from_millis(50))) {
                    Ok(message) => {
                        notes.came(seen, &message.data);
                        let (sender, id) = message.data.split_at(8);
                        let id = u64::from_le_bytes(*id.first_chunk().unwrap());
                        if last.insert(sender.to_vec(), id).is_some_and(|before| before >= id) {
                            seen.fail("out of order");
                        }
                    }
                    Err(error) if error.is(Errno::ETIMEDOUT) && over.load(Ordering::SeqCst) => break,
                    Err(error) if error.is(Errno::ETIMEDOUT) || error.is(Errno::EPIPE) => {}
                    Err(error) => seen.fail(&error.to_string()),
                }
            }
        });
        let keeps = sender();
        let board = soak(what, |mut seat| {
            let sender = sender();
            loop {
                let brief = seat.dice.brief();
                seat.turn(produce(sender.as_ref(), notes, brief), &[]);
                if seat.dice.roll(2) == 0 {
                    std::thread::sleep(Duration::from_micros(200));
                }
            }
        });
        over.store(true, Ordering::SeqCst);
        receiving.join().unwrap();
        drop(keeps);
        let (came, lost) = notes.count();
        println!("{came} came");
        assert!(!seen.has_failed() && !board.has_failed());
        assert_eq!(lost, 0);
        assert!(came > 0);
    });
}

#[test]
fn ring_channels() {
    let directory = tempfile::tempdir().unwrap();
    let text = format!("ring:{}?capacity=16384&largest=500&participants=64", directory.path().join("jobs").display());
    both_are_killed(&text.parse().unwrap());
}

#[test]
fn posix_queue_channels() {
    let address: Address = format!("mq:/{}?depth=10&size=500", fresh("soak")).parse().unwrap();
    both_are_killed(&address);
    wigwag::Mq::remove(&address).unwrap();
}

#[test]
fn system_v_queue_channels() {
    let key = tempfile::NamedTempFile::new().unwrap();
    let address: Address = format!("sysv-mq:{}#9", key.path().display()).parse().unwrap();
    both_are_killed(&address);
    wigwag::SysvMq::remove(&address).unwrap();
}

/// A sender of one's own, or one that was inherited.
enum MaybeOwned<'a> {
    Own(Channel),
    Inherited(&'a Channel),
}

impl AsRef<Channel> for MaybeOwned<'_> {
    fn as_ref(&self) -> &Channel {
        match self {
            MaybeOwned::Own(channel) => channel,
            MaybeOwned::Inherited(channel) => channel,
        }
    }
}

fn producers_of_a_name_are_killed(address: &Address) {
    producers_are_killed(
        &format!("producers over {}", address.scheme()),
        || Channel::open_receiver(address, GENEROUS).unwrap(),
        || MaybeOwned::Own(Channel::open_sender(address, GENEROUS).unwrap()),
    );
}

#[test]
fn pipe_channels() {
    let (receiver, sender) = Channel::pair(&"pipe:".parse().unwrap()).unwrap();
    producers_are_killed("producers over pipe", || receiver, || MaybeOwned::Inherited(&sender));
}

#[test]
fn fifo_channels() {
    let directory = tempfile::tempdir().unwrap();
    producers_of_a_name_are_killed(&format!("fifo:{}", directory.path().join("jobs").display()).parse().unwrap());
}

#[test]
fn file_channels() {
    let directory = tempfile::tempdir().unwrap();
    producers_of_a_name_are_killed(&format!("file:{}", directory.path().join("jobs").display()).parse().unwrap());
}

/// One consumer after the other goes on where the one before was killed: what that one had not dealt with comes again.
#[test]
fn readers_of_file_channels() {
    let directory = tempfile::tempdir().unwrap();
    let text = format!("file:{}", directory.path().join("jobs").display());
    let (address, reader): (Address, Address) = (text.parse().unwrap(), format!("{text}?reader=r").parse().unwrap());
    // SAFETY: atomics.
    let (notes, again): (&'static Notes, &'static AtomicU64) = unsafe { (shared(), shared()) };
    let came = |board: &Board, message: &[u8]| {
        again.fetch_add(notes.came_again(board, message).into(), Ordering::SeqCst);
    };
    let board = soak("readers of a file", |mut seat| {
        if seat.number == 0 {
            // The one before may be just dying.
            let receiver = loop {
                let opened = Channel::open_receiver(&reader, GENEROUS);
                if let Some(receiver) = seat.turn(opened, &[Errno::EBUSY]) {
                    break receiver;
                }
                std::thread::sleep(Duration::from_millis(1));
            };
            loop {
                let brief = seat.dice.brief();
                if let Some(message) = seat.turn(receiver.recv_message(brief), &[]) {
                    came(seat.board, &message.data);
                }
            }
        }
        let sender = Channel::open_sender(&address, GENEROUS).unwrap();
        loop {
            let brief = seat.dice.brief();
            seat.turn(produce(&sender, notes, brief), &[]);
        }
    });
    let last = Channel::open_receiver(&reader, GENEROUS).unwrap();
    while let Ok(message) = last.recv_message(Timeout::After(Duration::from_millis(50))) {
        came(board, &message.data);
    }
    let ((arrived, lost), again) = (notes.count(), again.load(Ordering::SeqCst));
    println!("{arrived} came, {again} of them again");
    assert!(!board.has_failed());
    assert_eq!(lost, 0);
    assert!(again <= board.kills() && arrived > 0);
}
