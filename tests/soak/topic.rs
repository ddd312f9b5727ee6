//! Topics: every subscriber sees the same, a lossless one without a gap, a lossy one with gaps that it is told of.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};

use wigwag::{SubscribeOptions, Topic, TopicOptions, TopicReceived};

use crate::crew::{Board, Seat, shared, soak};

const MESSAGES: usize = 1 << 22;
const LARGEST: usize = 300;

#[repr(C)]
struct Notes {
    next: AtomicU64,
    /// Which message was published, or came, by its sequence; 0 as long as nobody has said so.
    ids: [AtomicU64; MESSAGES],
}

impl Notes {
    fn is(&self, board: &Board, sequence: u64, id: u64) {
        let before = self.ids[sequence as usize % MESSAGES].swap(id, Ordering::SeqCst);
        if before != 0 && before != id {
            board.fail("two that are the same in the sequence");
        }
    }
}

fn message(id: u64) -> Vec<u8> {
    let mut bytes = id.to_le_bytes().to_vec();
    let length = 8 + (id as usize * 37) % (LARGEST - 8);
    bytes.extend((8..length).map(|at| (id as usize).wrapping_mul(31).wrapping_add(at * 7) as u8));
    bytes
}

fn options() -> TopicOptions {
    TopicOptions { capacity: 1 << 13, largest: LARGEST as u64, participants: 32, subscribers: 16, ..Default::default() }
}

fn publish(topic: &Topic, notes: &Notes, mut seat: Seat) {
    loop {
        let id = notes.next.fetch_add(1, Ordering::SeqCst) + 1;
        let (bytes, brief) = (message(id), seat.dice.brief());
        let published = match seat.dice.roll(4) {
            0 => topic.reserve(bytes.len(), brief).and_then(|mut reserved| {
                let (front, back) = bytes.split_at(bytes.len() / 2);
                reserved.write(0, front);
                std::thread::yield_now();
                reserved.write(front.len(), back);
                if seat.dice.roll(4) == 0 { reserved.abort().map(|()| 0) } else { reserved.publish() }
            }),
            _ => topic.publish(&bytes, brief),
        };
        if let Some(sequence @ 1..) = seat.turn(published, &[]) {
            notes.is(seat.board, sequence, id);
        }
    }
}

fn receive(topic: &Topic, notes: &Notes, mut seat: Seat) {
    let lossy = seat.number.is_multiple_of(2);
    loop {
        let options = SubscribeOptions { lossy, history: seat.dice.roll(10), ..Default::default() };
        let Some(subscription) = seat.turn(topic.subscribe(options), &[]) else { continue };
        let (mut before, mut buffer) = (None, [0; LARGEST]);
        let mut came = |received: TopicReceived, bytes: &[u8]| {
            let id = bytes.first_chunk().map_or(0, |id| u64::from_le_bytes(*id));
            if bytes != message(id) {
                return seat.board.fail("torn");
            }
            notes.is(seat.board, received.sequence, id);
            if before.is_some_and(|before: u64| before + 1 + received.missed != received.sequence) {
                seat.board.fail("a gap that nobody told of");
            }
            if !lossy && received.missed > 0 {
                seat.board.fail("a lossless subscriber has missed some");
            }
            before = Some(received.sequence);
        };
        for _ in 0..seat.dice.roll(300) {
            let brief = seat.dice.brief();
            if lossy || seat.dice.roll(2) == 0 {
                let received = subscription.recv(&mut buffer, brief);
                received.iter().for_each(|received| came(*received, &buffer[..received.length]));
                seat.turn(received, &[]);
            } else {
                let received = subscription.borrow(brief).and_then(|borrowed| {
                    let received =
                        TopicReceived { length: borrowed.length(), sequence: borrowed.sequence(), missed: 0 };
                    came(received, &borrowed.to_vec());
                    borrowed.release()
                });
                seat.turn(received, &[]);
            }
        }
    }
}

#[test]
fn topics() {
    let topic = Topic::anonymous(options()).unwrap();
    // SAFETY: atomics.
    let notes: &'static Notes = unsafe { shared() };
    soak("topics", |seat| {
        let own = seat.anew.then(|| Topic::from_fd(topic.as_fd().try_clone_to_owned().unwrap(), options()).unwrap());
        let topic = own.as_ref().unwrap_or(&topic);
        if seat.number < 2 { publish(topic, notes, seat) } else { receive(topic, notes, seat) }
    });
    let last = Topic::from_fd(topic.as_fd().try_clone_to_owned().unwrap(), options()).unwrap();
    // As much as there is room for: nobody is in the way any more.
    let subscription = last.subscribe(SubscribeOptions::default()).unwrap();
    let mut sequence = last.statistics().unwrap().sent;
    for n in 0..200 {
        let bytes = message(n + 1);
        let published = last.publish(&bytes, crate::support::GENEROUS).unwrap();
        assert!(published > sequence);
        sequence = published;
        let mut buffer = [0; LARGEST];
        let received = subscription.recv(&mut buffer, crate::support::GENEROUS).unwrap();
        assert_eq!((received.sequence, &buffer[..received.length]), (sequence, &bytes[..]));
    }
    let books = last.statistics().unwrap();
    println!("{books:?}");
    assert_eq!((books.reserved, books.participants.len(), books.subscribers.len()), (0, 2, 1));
    assert_eq!(books.sent, sequence);
}
