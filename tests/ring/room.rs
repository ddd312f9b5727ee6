//! Messages that are longer than a slot take the room that they need, and no more.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Instant;

use nix::errno::Errno;
use wigwag::{Address, Ring, RingBorrowed, RingFull, RingOptions, RingReceived, Timeout};

use crate::support::{GENEROUS, SHORT, fork};
use crate::{Name, balanced};

const LARGEST: usize = 1 << 16;

/// 256 slots, and four messages of the largest size.
fn options() -> RingOptions {
    RingOptions {
        capacity: 256 * 128 + 4 * LARGEST as u64,
        largest: LARGEST as u64,
        depth: 256,
        participants: 8,
        persistent: true,
        ..Default::default()
    }
}

fn ring() -> Ring {
    Ring::anonymous(options()).unwrap()
}

fn again(ring: &Ring, options: RingOptions) -> Ring {
    Ring::from_fd(ring.as_fd().try_clone_to_owned().unwrap(), options).unwrap()
}

/// Bytes that say which message they are of, each of them.
fn message(id: usize, length: usize) -> Vec<u8> {
    (0..length).map(|at| (id * 31 + at * 7 + at / 256) as u8).collect()
}

fn receive(ring: &Ring) -> Vec<u8> {
    let mut buffer = vec![0; LARGEST];
    let received = ring.recv(&mut buffer, GENEROUS).unwrap();
    buffer.truncate(received.length);
    buffer
}

/// How many of this length there is room for.
fn fill(ring: &Ring, length: usize) -> usize {
    let fits = |id: &usize| match ring.send(&message(*id, length), Timeout::Now) {
        Ok(()) => true,
        Err(error) if error.is(Errno::EAGAIN) => false,
        Err(error) => panic!("{error}"),
    };
    (0..).take_while(fits).count()
}

fn drain(ring: &Ring, length: usize, count: usize) {
    (0..count).for_each(|id| assert!(receive(ring) == message(id, length), "message {id} of {length}"));
    assert!(ring.recv(&mut [0; 8], Timeout::Now).unwrap_err().is(Errno::EAGAIN));
}

#[test]
fn a_message_takes_what_it_needs() {
    let ring = ring();
    for _ in 0..3 {
        // Whatever went before, in whichever parts the room lay.
        for (length, least, most) in
            [(LARGEST, 4, 4), (0, 256, 256), (96, 256, 256), (97, 256, 256), (3000, 64, 87), (1000, 256, 256)]
        {
            let count = fill(&ring, length);
            assert!((least..=most).contains(&count), "{count} of {length}");
            assert_eq!(balanced(&ring).queued, count as u64);
            drain(&ring, length, count);
        }
    }
    let books = balanced(&ring);
    assert_eq!((books.slots, books.aborted, books.dropped), (256, 0, 0));
    assert_eq!(books.bytes, Ring::size_for(&options()).unwrap());
}

#[test]
fn any_length_comes_out_as_it_went_in() {
    let ring = ring();
    let edges = [64, 96, 256, 4096, 15 * 256, 15 * 4096, LARGEST - 1].map(|edge| edge - 1..=edge + 1);
    for (id, length) in [0, 1].into_iter().chain(edges.into_iter().flatten()).enumerate() {
        let sent = message(id, length);
        ring.send(&sent, Timeout::Now).unwrap();
        assert!(receive(&ring) == sent, "{length}");

        let mut reserved = ring.reserve(length, Timeout::Now).unwrap();
        assert_eq!((reserved.length(), reserved.as_ptr() as usize % 32), (length, 0));
        let (front, back) = sent.split_at(length / 3);
        assert_eq!((reserved.write(front.len(), back), reserved.write(0, front)), (back.len(), front.len()));
        assert_eq!(reserved.write(length, b"more"), 0);
        reserved.commit().unwrap();
        let borrowed = ring.borrow(Timeout::Now).unwrap();
        assert!(borrowed.to_vec() == sent && borrowed.read(length, &mut [0; 4]) == 0, "{length} in place");
        drop(borrowed);
        let borrowed = ring.borrow(Timeout::Now).unwrap();
        assert!(borrowed.to_vec() == sent && borrowed.is_redelivered(), "{length} again");
        borrowed.release().unwrap();
    }
    let error = ring.send(&vec![0; LARGEST + 1], Timeout::Now).unwrap_err();
    assert_eq!((error.errno(), error.true_size()), (libc::EMSGSIZE, LARGEST));
    ring.send(&[1; 200], Timeout::Now).unwrap();
    let error = ring.recv(&mut [0; 199], Timeout::Now).unwrap_err();
    assert_eq!((error.errno(), error.true_size()), (libc::EMSGSIZE, 200), "it stays");
    assert_eq!(receive(&ring), [1; 200]);
}

#[test]
fn batches_mix_long_and_short() {
    let ring = ring();
    for lap in 0..40 {
        let lengths = [10, 5000, 0, 300, 70, 20_000, 97, 96];
        let messages: Vec<_> = lengths.iter().map(|length| message(lap, *length)).collect();
        let slices: Vec<_> = messages.iter().map(|message| &message[..]).collect();
        assert_eq!(ring.send_batch(&slices, Timeout::Now).unwrap(), lengths.len());
        let (mut buffer, mut received) = (vec![0; 30_000], [RingReceived::default(); 8]);
        assert_eq!(ring.recv_batch(&mut buffer, &mut received, Timeout::Now).unwrap(), lengths.len());
        assert_eq!(received.map(|received| received.length), lengths);
        assert!(buffer[..messages.concat().len()] == messages.concat());
    }
    // As many as there is room for.
    let large = vec![3; LARGEST];
    assert_eq!(ring.send_batch(&[&large[..]; 6], Timeout::Now).unwrap(), 4);
    let more = [&b"short"[..], &large, &large];
    assert_eq!(ring.send_batch(&more, Timeout::Now).unwrap(), 1);
    assert_eq!(balanced(&ring).queued, 5);
    let newest = again(&ring, RingOptions { full: RingFull::DropNewest, ..options() });
    assert_eq!(newest.send_batch(&more, Timeout::Now).unwrap(), 3);
    let books = balanced(&ring);
    assert_eq!((books.queued, books.dropped, books.aborted, books.writing), (6, 2, 0, 0));
}

#[test]
fn what_is_held_keeps_its_room_and_nothing_else() {
    let ring = ring();
    let mut held: Vec<(usize, RingBorrowed<'_>)> = Vec::new();
    for id in 0..2000 {
        let length = [9, 100, 700, 5_000, 17_000][id * 7 % 5] + id % 13;
        ring.send(&message(id, length), Timeout::Now).unwrap();
        let borrowed = ring.borrow(Timeout::Now).unwrap();
        // Some stay for long, and are given back in another order.
        match id % 100 {
            50 => held.push((id, borrowed)),
            _ => borrowed.release().unwrap(),
        }
        if held.len() > 4 {
            let (id, borrowed) = held.remove(id % 4);
            let length = borrowed.length();
            assert!(borrowed.to_vec() == message(id, length), "message {id}, held");
            borrowed.release().unwrap();
        }
    }
    assert_eq!(balanced(&ring).borrowed, held.len() as u64);
    for (id, borrowed) in held {
        assert!(borrowed.to_vec() == message(id, borrowed.length()), "message {id}, held");
        borrowed.release().unwrap();
    }
    assert_eq!(fill(&ring, LARGEST), 4, "all of it is there again");
}

#[test]
fn no_room_is_full() {
    let ring = ring();
    assert_eq!(fill(&ring, LARGEST), 4);
    assert!(ring.send(&[1; 97], Timeout::Now).unwrap_err().is(Errno::EAGAIN));
    assert!(ring.send(&[1; 97], SHORT).unwrap_err().is(Errno::ETIMEDOUT));
    ring.send(&[1; 96], Timeout::Now).unwrap();
    let fails = again(&ring, RingOptions { full: RingFull::Fail, ..options() });
    assert!(fails.send(&[1; 97], GENEROUS).unwrap_err().is(Errno::EAGAIN));
    let newest = again(&ring, RingOptions { full: RingFull::DropNewest, ..options() });
    newest.send(&[1; 97], GENEROUS).unwrap();
    assert!(newest.reserve(97, Timeout::Now).unwrap_err().is(Errno::EAGAIN));
    let books = balanced(&ring);
    let waited_in_vain = 1;
    assert_eq!((books.queued, books.dropped, books.aborted, books.writing), (5, 1, waited_in_vain, 0));

    // The oldest that has room goes, and what has none stays.
    let oldest = again(&ring, RingOptions { full: RingFull::DropOldest, ..options() });
    for id in 4..6 {
        oldest.send(&message(id, LARGEST), GENEROUS).unwrap();
    }
    let lengths: Vec<_> = (0..5).map(|_| receive(&ring)).collect();
    assert!(lengths[..2] == [message(2, LARGEST), message(3, LARGEST)]);
    assert!(lengths[2] == [1; 96] && lengths[3..] == [message(4, LARGEST), message(5, LARGEST)]);
    assert_eq!(balanced(&ring).dropped, 3);
}

#[test]
fn a_long_message_does_not_wait_for_ever_behind_short_ones() {
    let ring = ring();
    // Each of the four has some of a short one in it.
    let count = fill(&ring, 5000);
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let others = again(&ring, options());
        scope.spawn(|| {
            let long = others;
            long.send(&message(1, LARGEST), GENEROUS).unwrap();
            ended.store(true, SeqCst);
        });
        let (begun, mut came, mut left) = (Instant::now(), false, count);
        while !came {
            // What is there is never less than fills the room nearly, and each that goes is followed by another.
            came = receive(&ring).len() == LARGEST;
            left -= 1;
            while left < count && ring.send(&message(0, 5000), Timeout::Now).is_ok() {
                left += 1;
            }
            if left == 0 {
                std::thread::yield_now();
                left = usize::from(!ended.load(SeqCst)) + balanced(&ring).queued as usize;
            }
            assert!(begun.elapsed() < std::time::Duration::from_secs(30), "it waits and waits");
        }
    });
    balanced(&ring);
}

#[test]
fn who_waits_for_room_is_woken() {
    let ring = ring();
    assert_eq!(fill(&ring, LARGEST), 4);
    std::thread::scope(|scope| {
        for id in 0..3 {
            let other = again(&ring, options());
            scope.spawn(move || other.send(&message(10 + id, [150, 20_000, LARGEST][id]), GENEROUS).unwrap());
        }
        let lengths: Vec<_> = (0..7).map(|_| receive(&ring).len()).collect();
        assert_eq!(lengths.iter().filter(|length| **length == LARGEST).count(), 5, "{lengths:?}");
    });
    let books = balanced(&ring);
    assert_eq!((books.sent, books.released, books.writing), (7, 7, 0));
}

#[test]
fn one_that_waited_in_vain_leaves_nothing_behind() {
    let ring = ring();
    let count = fill(&ring, 5000);
    // Nobody has anything that can be made whole, so it has others leave what is split.
    assert!(ring.send(&message(0, LARGEST), SHORT).unwrap_err().is(Errno::ETIMEDOUT));
    assert_eq!(balanced(&ring).writing, 0);
    assert!(receive(&ring) == message(0, 5000));
    ring.send(&message(count, 5000), Timeout::Now).unwrap();
    (1..=count).for_each(|id| assert!(receive(&ring) == message(id, 5000)));
    assert_eq!(fill(&ring, LARGEST), 4);
}

#[test]
fn the_room_of_the_dead_comes_back() {
    let ring = ring();
    for lap in 0..3 {
        let child = fork(|| {
            std::mem::forget(ring.reserve(LARGEST, Timeout::Now).unwrap());
            std::mem::forget(ring.reserve(700, Timeout::Now).unwrap());
            ring.send(&message(lap, 40_000), Timeout::Now).unwrap();
            std::mem::forget(ring.borrow(Timeout::Now).unwrap());
            // SAFETY: ends this process without any clean-up.
            unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
        });
        child.wait();
        let next = again(&ring, options());
        assert!(receive(&next) == message(lap, 40_000));
        assert_eq!(fill(&next, LARGEST), 4, "lap {lap}");
        drain(&next, LARGEST, 4);
    }
    let books = balanced(&ring);
    assert_eq!((books.skipped, books.redelivered), (6, 3));
}

#[test]
fn dead_letters_leave_half_of_the_room() {
    let ring = Ring::anonymous(RingOptions { redeliveries: 1, ..options() }).unwrap();
    for id in 0..3 {
        ring.send(&message(id, 1000), Timeout::Now).unwrap();
        ring.send(&message(id, 10), Timeout::Now).unwrap();
        (0..4).for_each(|_| drop(ring.borrow(Timeout::Now).unwrap()));
    }
    let books = balanced(&ring);
    assert_eq!((books.dead_lettered, books.dropped), (5, 1));
    assert!(fill(&ring, LARGEST) >= 2);
}

#[test]
fn what_the_options_make() {
    let slots = |options: RingOptions| Ring::anonymous(options).map(|ring| ring.statistics().unwrap().slots);
    let of = |capacity, largest, depth| RingOptions { capacity, largest, depth, ..options() };
    assert_eq!(slots(of(1 << 20, 1024, 0)).unwrap(), 2048);
    assert_eq!(slots(of(1 << 20, 1024, 100)).unwrap(), 128);
    assert_eq!(slots(RingOptions { lanes: 4, ..of(1 << 20, 1024, 100) }).unwrap(), 4 * 32);
    assert_eq!(slots(of(1 << 20, 112, 0)).unwrap(), 8192);
    assert_eq!(slots(of(1 << 20, 112, 5)).unwrap(), 8);
    assert_eq!(slots(of(2 * 128 + 2 * 1024, 1024, 0)).unwrap(), 2);
    assert_eq!(slots(of(2 * 128 + 2 * 1024 - 1, 1024, 0)).unwrap(), 2, "of the largest size");
    for wrong in [of(2 * 1088 - 1, 1024, 0), of(1 << 12, 1024, 64), of(1 << 12, 64, 64), of(0, 64, 1 << 24)] {
        assert!(slots(wrong).unwrap_err().is(Errno::EINVAL));
    }
    let name = Name::new("room");
    let address: Address = format!("{}?capacity=65536&largest=4096&depth=16", name.0).parse().unwrap();
    let ring = Ring::open(&address, RingOptions { participants: 8, ..Default::default() }).unwrap();
    assert_eq!((ring.largest(), ring.statistics().unwrap().slots), (4096, 16));
}
