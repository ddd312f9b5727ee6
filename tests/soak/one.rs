//! One-to-one rings, whose ends go from one process to the next when that is killed: what comes is in order, too.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::time::Duration;

use nix::errno::Errno;
use wigwag::{RingConsumer, RingOptions, RingProducer, Timeout};

use crate::crew::{Seat, soak};
use crate::ring::{Notes, message};

fn options() -> RingOptions {
    RingOptions { capacity: 1 << 13, largest: 600, participants: 32, persistent: true, ..Default::default() }
}

fn produce(again: impl Fn() -> OwnedFd, notes: &Notes, mut seat: Seat) {
    loop {
        let opened = RingProducer::from_fd(again(), options());
        let Some(mut producer) = seat.turn(opened, &[Errno::EBUSY]) else {
            std::thread::sleep(Duration::from_millis(1)); // another one has it, and lives
            continue;
        };
        for _ in 0..seat.dice.roll(200) {
            let (way, brief) = (seat.dice.roll(4), seat.dice.brief());
            let ids = [(); 3].map(|()| notes.next.fetch_add(1, Ordering::SeqCst));
            let messages = ids.map(message);
            let result = match way {
                0 => producer.send_batch(&messages.each_ref().map(|message| &message[..]), brief).map(|sent| {
                    ids[..sent].iter().for_each(|id| notes.sent(*id));
                }),
                1 => producer.reserve(messages[0].len(), brief).and_then(|mut reserved| {
                    let (front, back) = messages[0].split_at(messages[0].len() / 2);
                    reserved.write(0, front);
                    std::thread::yield_now();
                    reserved.write(front.len(), back);
                    reserved.commit().map(|()| notes.sent(ids[0]))
                }),
                _ => producer.send(&messages[0], brief).map(|()| notes.sent(ids[0])),
            };
            seat.turn(result, &[]);
        }
    }
}

fn consume(again: impl Fn() -> OwnedFd, notes: &Notes, mut seat: Seat) {
    let mut newest = 0;
    loop {
        let opened = RingConsumer::from_fd(again(), options());
        let Some(mut consumer) = seat.turn(opened, &[Errno::EBUSY]) else {
            std::thread::sleep(Duration::from_millis(1));
            continue;
        };
        for _ in 0..seat.dice.roll(200) {
            let result = consumer.borrow(seat.dice.brief()).and_then(|borrowed| {
                // Noted before it is released: what is released and not noted is lost.
                let id = notes.came(seat.board, &borrowed.to_vec(), borrowed.is_redelivered());
                if id < newest || id == newest && !borrowed.is_redelivered() && id > 0 {
                    seat.board.fail("out of order");
                }
                newest = id;
                if seat.dice.roll(8) == 0 { Ok(()) } else { borrowed.release() }
            });
            seat.turn(result, &[]);
        }
    }
}

#[test]
fn one_to_one_rings() {
    let (producer, consumer) = RingProducer::anonymous(options()).unwrap();
    let memory = producer.as_fd().try_clone_to_owned().unwrap();
    drop((producer, consumer));
    let again = || memory.try_clone().unwrap();
    let notes = Notes::new();
    let board = soak("one-to-one rings", |seat| {
        if seat.number % 2 == 0 { produce(again, notes, seat) } else { consume(again, notes, seat) }
    });
    let mut last = RingConsumer::from_fd(again(), options()).unwrap();
    while let Ok(borrowed) = last.borrow(Timeout::After(Duration::from_millis(20))) {
        notes.came(board, &borrowed.to_vec(), borrowed.is_redelivered());
        borrowed.release().unwrap();
    }
    let books = last.statistics().unwrap();
    println!("{books:?}");
    assert!(!board.has_failed());
    assert_eq!((books.borrowed, books.queued, books.writing, books.participants.len()), (0, 0, 0, 1));
    assert_eq!((books.sent, notes.count()), (books.released, books.released), "sent, and different messages that came");
}
