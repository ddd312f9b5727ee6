//! Pipes, whose one receiver is killed and replaced while senders are killed as well.
//!
//! What a receiver has read is its own, and lost with it: one pipeful at most, and the long messages that it had the
//! beginnings of. Everything else comes, whole and once, in each sender's order; and what was not sent does not.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI32, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use wigwag::{Address, Channel, ChannelMessage, Fifo, FifoOptions, Timeout};

use crate::crew::{Board, Seat, WORKERS, shared, soak};
use crate::support::GENEROUS;
use crate::tokens::is_alive;

const MESSAGES: usize = 1 << 24;
/// What a message takes in the pipe besides its bytes, at most.
const OVERHEAD: u64 = 16 * 6;
const LONGEST: u64 = 20_000;

const SENT: u8 = 1;
const CAME: u8 = 2;
const REFUSED: u8 = 4;

#[repr(C)]
struct Notes {
    next: AtomicU64,
    /// Sending it has returned, or has failed; it came.
    messages: [AtomicU8; MESSAGES],
    /// Times that there was no receiver.
    alone: AtomicU64,
    receivers: AtomicU64,
}

/// Its sender, how many that one has sent before, and its own number, then something of its own; with no line feed.
fn message(sender: u32, before: u64, id: u64, is_line: bool) -> Vec<u8> {
    let mut bytes = format!("{sender} {before} {id} ").into_bytes();
    let length = length(id, is_line);
    bytes.extend((bytes.len() as u64..length).map(|at| b'0' + (id.wrapping_mul(31).wrapping_add(at * 7) % 64) as u8));
    bytes
}

fn length(id: u64, is_line: bool) -> u64 {
    let is_long = !is_line && id.is_multiple_of(23);
    100 + id * 37 % if is_long { LONGEST - 100 } else { 400 }
}

/// One sender's or receiver's view.
struct View<'a> {
    notes: &'a Notes,
    board: &'a Board,
    is_line: bool,
    /// For each sender, how many messages had been sent up to the last that came.
    seen: HashMap<u32, u64>,
}

impl View<'_> {
    fn came(&mut self, message: &ChannelMessage) {
        let fail = |what: &str| {
            self.board.fail(&format!("{what}: {}", message.data[..60.min(message.data.len())].escape_ascii()))
        };
        let text = String::from_utf8_lossy(&message.data);
        let mut words = text.split(' ').map(|word| word.parse().unwrap_or(u64::MAX));
        let mut word = || words.next().unwrap_or(u64::MAX);
        let (sender, before, id) = (word() as u32, word(), word());
        if id >= MESSAGES as u64 || message.data != self::message(sender, before, id, self.is_line) {
            return fail("torn");
        }
        if self.notes.messages[id as usize].fetch_or(CAME, Ordering::SeqCst) & CAME != 0 {
            fail("doubled");
        }
        if self.seen.insert(sender, before + 1).is_some_and(|seen| seen != before) {
            fail("one before it is missing, or came late");
        }
    }

    fn receive(&mut self, receiver: &Channel, seat: &mut Seat) {
        let brief = seat.dice.brief();
        let received = match seat.dice.roll(2) {
            0 => receiver.recv_batch(20, brief),
            _ => receiver.recv_message(brief).map(|message| vec![message]),
        };
        seat.turn(received, &[]).iter().flatten().for_each(|message| self.came(message));
    }

    /// Sends one after the other, for ever.
    fn send(&self, sender: &Channel, seat: &mut Seat) {
        let (me, mut before) = (std::process::id(), 0);
        loop {
            let id = self.notes.next.fetch_add(1, Ordering::SeqCst);
            if id >= MESSAGES as u64 {
                std::thread::sleep(Duration::from_millis(10)); // there is a note for so many
                seat.turn(Ok(()), &[]);
                continue;
            }
            let brief = seat.dice.brief();
            let sent = sender.send(&message(me, before, id, self.is_line), brief);
            self.notes.messages[id as usize].fetch_or(if sent.is_ok() { SENT } else { REFUSED }, Ordering::SeqCst);
            before += u64::from(sent.is_ok());
            if sent.as_ref().is_err_and(|error| error.is(Errno::EPIPE)) {
                self.notes.alone.fetch_add(1, Ordering::SeqCst);
                std::thread::sleep(Duration::from_micros(100));
            }
            seat.turn(sent, &[Errno::EPIPE]);
        }
    }
}

/// `receiver` and `sender` are what each of them has, opened or inherited; `pipeful` is the most that one read takes.
fn receivers_are_killed<'a>(
    what: &str,
    (is_line, pipeful): (bool, u64),
    receiver: impl Fn() -> wigwag::Result<&'a Channel>,
    sender: impl Fn() -> &'a Channel,
) {
    // SAFETY: atomics.
    let notes: &'static Notes = unsafe { shared() };
    let view = |board| View { notes, board, is_line, seen: HashMap::new() };
    let board = soak(what, |mut seat| {
        let mut view = view(seat.board);
        if seat.number > 0 {
            view.send(sender(), &mut seat);
        }
        let receiver = loop {
            // The one before may be just dying.
            if let Some(receiver) = seat.turn(receiver(), &[Errno::EBUSY]) {
                break receiver;
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        notes.receivers.fetch_add(1, Ordering::SeqCst);
        if seat.dice.roll(2) == 0 {
            seat.turn(receiver.descriptor(), &[]);
        }
        loop {
            view.receive(receiver, &mut seat);
        }
    });
    let (last, keeps, mut view) = (receiver().unwrap(), sender(), view(board));
    std::thread::scope(|scope| {
        scope.spawn(|| keeps.send(b"the end", GENEROUS).unwrap()); // once there is room
        loop {
            match last.recv_message(GENEROUS).unwrap() {
                end if end.data == b"the end" => break,
                message => view.came(&message),
            }
        }
    });
    assert_eq!(last.recv_message(Timeout::Now).unwrap_err().errno(), libc::EAGAIN);
    assert_eq!((last.statistics().garbage, board.has_failed()), (0, false));

    let notes_of = |wanted: u8, of: u8| {
        let used = MESSAGES.min(notes.next.load(Ordering::SeqCst) as usize);
        let all = notes.messages[..used].iter().enumerate();
        all.filter(move |(_, note)| note.load(Ordering::SeqCst) & of == wanted).map(|(id, _)| id as u64)
    };
    assert_eq!(notes_of(CAME | REFUSED, CAME | REFUSED).collect::<Vec<_>>(), [], "came, though sending failed");
    let (came, lost) = (notes_of(CAME, CAME).count(), notes_of(SENT, SENT | CAME).collect::<Vec<_>>());
    let bytes: u64 = lost.iter().map(|id| length(*id, is_line) + OVERHEAD).sum();
    let [receivers, alone] = [&notes.receivers, &notes.alone].map(|count| count.load(Ordering::SeqCst));
    println!(
        "{came} came, {} lost of {bytes} bytes with {receivers} receivers, {alone} times there was none",
        lost.len()
    );
    let begun = (WORKERS as u64 - 1) * (LONGEST + OVERHEAD);
    assert!(bytes <= receivers * (pipeful + begun), "lost {lost:?}");
    assert!(came > 0);
}

fn leaked(channel: Channel) -> &'static Channel {
    Box::leak(Box::new(channel))
}

fn receivers_of_a_pipe(options: &str, (is_line, pipeful): (bool, u64)) {
    let (receiver, sender) = Channel::pair(&format!("pipe:{options}").parse().unwrap()).unwrap();
    // SAFETY: atomics.
    let last: &'static AtomicI32 = unsafe { shared() };
    // One at a time is what whoever hands the end on sees to.
    let receiver = || {
        let before = last.swap(std::process::id() as i32, Ordering::SeqCst);
        while is_alive(before as u64) {
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(&receiver)
    };
    receivers_are_killed(&format!("receivers of pipe:{options}"), (is_line, pipeful), receiver, || &sender);
}

fn receivers_of_a_fifo(options: &str, (is_line, pipeful): (bool, u64)) {
    let directory = tempfile::tempdir().unwrap();
    let plain: Address = format!("fifo:{}", directory.path().join("jobs").display()).parse().unwrap();
    let address: Address = format!("{plain}{options}").parse().unwrap();
    let receiver = || Channel::open_receiver(&address, GENEROUS);
    let sender = || Channel::open_sender(&address, GENEROUS).unwrap();
    Fifo::create(&plain, &FifoOptions::default()).unwrap();
    let both = std::fs::OpenOptions::new().read(true).write(true).open(plain.path()).unwrap();
    let keeps = sender(); // what is in it stays there while nobody else has it
    drop(both);
    receivers_are_killed(
        &format!("receivers of fifo:{options}"),
        (is_line, pipeful),
        || receiver().map(leaked),
        || leaked(sender()),
    );
    drop(keeps);
}

#[test]
fn receivers_of_pipes() {
    receivers_of_a_pipe("", (false, 1 << 16));
}

#[test]
fn receivers_of_fifos() {
    receivers_of_a_fifo("", (false, 1 << 16));
}

#[test]
fn receivers_of_large_fifos() {
    receivers_of_a_fifo("?capacity=262144", (false, 1 << 18));
}

#[test]
fn receivers_of_lines() {
    receivers_of_a_fifo("?framing=line&capacity=262144", (true, 1 << 18));
}
