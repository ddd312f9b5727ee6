//! What is torn, damaged, lost to a power failure, or somebody else's.

use std::os::fd::AsFd;

use nix::errno::Errno;
use wigwag::{Channel, Timeout, WaitSet, WaitSetEvent};

use super::{BOOT, HEADING, Place, RECORD, all, cut_to, doctor, flip, one};
use crate::support::GENEROUS;

#[test]
fn a_torn_tail_is_cut_and_counted_wherever_it_is_torn() {
    let last = b"the last one, cut";
    let whole = RECORD + last.len().next_multiple_of(8) as u64;
    for cut in 1..whole {
        let place = Place::with(&[b"one", b"two", last]);
        let [segment] = &place.segments()[..] else { panic!("one segment") };
        let size = std::fs::metadata(segment).unwrap().len();
        cut_to(segment, size - cut);
        // Who reads sees what is whole, and waits.
        let early = place.receiver("");
        assert_eq!(all(&early), [b"one", b"two"], "{cut}");
        let sender = place.sender("?fsync=never");
        sender.send(b"after", GENEROUS).unwrap();
        assert_eq!(sender.statistics().torn, 1, "{cut}");
        assert_eq!(all(&early), [b"after"], "{cut}");
        assert_eq!((early.statistics().torn, early.statistics().missed), (1, 0), "{cut}");
        assert_eq!(all(&place.receiver("")), [&b"one"[..], b"two", b"after"], "{cut}");
        assert_eq!(std::fs::metadata(segment).unwrap().len(), size - whole, "{cut}");
        // It counts once.
        assert_eq!(place.sender("").statistics().torn, 1, "{cut}");
    }
    // What is cut at the end of a record is no tear.
    let place = Place::with(&[b"one", b"two"]);
    cut_to(&place.segments()[0], HEADING + RECORD + 8);
    place.sender("").send(b"after", GENEROUS).unwrap();
    assert_eq!(all(&place.receiver("")), [&b"one"[..], b"after"]);
}

#[test]
fn a_reader_that_had_seen_what_is_cut_gets_what_comes_instead() {
    for reopened in [false, true] {
        let place = Place::with(&[b"one", b"two"]);
        let mut reader = place.receiver("?reader=r");
        assert_eq!(all(&reader), [b"one", b"two"]);
        let [segment] = &place.segments()[..] else { panic!("one segment") };
        cut_to(segment, HEADING + 2 * (RECORD + 8) - 1);
        if reopened {
            drop(reader);
            reader = place.receiver("?reader=r");
        }
        let sender = place.sender("");
        sender.send(b"three", GENEROUS).unwrap();
        sender.send(b"four", GENEROUS).unwrap();
        assert_eq!(one(&reader), b"three");
        drop(reader);
        assert_eq!(all(&place.receiver("?reader=r")), [b"four"]);
    }
}

#[test]
fn a_power_failure_that_takes_a_tail_is_no_loss_of_what_comes_instead() {
    let place = Place::with(&[b"one", b"two", b"three"]);
    assert_eq!(all(&place.receiver("?reader=r")).len(), 3);
    // As after another start of the machine, with the last two not on the disk.
    let [segment] = &place.segments()[..] else { panic!("one segment") };
    cut_to(segment, HEADING + RECORD + 8);
    doctor(segment, BOOT, &[1; 16]);
    let sender = place.sender("");
    for message in [b"2", b"3", b"4"] {
        sender.send(message, GENEROUS).unwrap();
    }
    let reader = place.receiver("?reader=r");
    assert_eq!(all(&reader), [b"2", b"3", b"4"]);
    assert_eq!((reader.statistics().missed, reader.statistics().torn), (0, 0));
}

#[test]
fn damage_in_the_middle_costs_what_is_damaged_and_is_told() {
    let message = |n: u8| [n; 10];
    for bit in (0..RECORD + 16).map(|byte| byte * 8 + byte % 8) {
        let place = Place::with(&[&message(1), &message(2), &message(3)]);
        let [segment] = &place.segments()[..] else { panic!("one segment") };
        flip(segment, (HEADING + RECORD + 16) * 8 + bit);
        let reader = place.receiver("?reader=r");
        assert_eq!(one(&reader), message(1), "{bit}");
        let error = reader.recv_message(GENEROUS).unwrap_err();
        assert!(error.is(Errno::EBADMSG) && error.reason().contains("1 messages from number 2 on are lost"), "{error}");
        let third = reader.recv_message(GENEROUS).unwrap();
        assert_eq!((&third.data[..], third.received.missed), (&message(3)[..], 1), "{bit}");
        assert_eq!(reader.statistics().missed, 1, "{bit}");
        // Whoever appends leaves it as it is.
        place.sender("").send(b"four", GENEROUS).unwrap();
        assert_eq!(one(&reader), b"four", "{bit}");
        assert_eq!(reader.statistics().torn, 0, "{bit}");
    }
}

#[test]
fn damage_is_told_also_to_who_receives_in_batches() {
    let place = Place::with(&[b"one", b"two", b"three", b"four"]);
    flip(&place.segments()[0], (HEADING + (RECORD + 8) + RECORD) * 8);
    let reader = place.receiver("?reader=r");
    let (fd, interest) = reader.descriptor().unwrap();
    let set = WaitSet::new().unwrap();
    set.add(&fd.as_fd(), interest, 1).unwrap();
    let mut events = [WaitSetEvent::default(); 1];
    let data = |batch: Vec<wigwag::ChannelMessage>| batch.into_iter().map(|found| found.data).collect::<Vec<_>>();
    assert_eq!(data(reader.recv_batch(10, GENEROUS).unwrap()), [b"one"]);
    assert_eq!(set.wait(&mut events, GENEROUS).unwrap(), 1);
    let error = reader.recv_batch(10, GENEROUS).unwrap_err();
    assert!(error.is(Errno::EBADMSG) && error.reason().contains("1 messages from number 2 on"), "{error}");
    assert_eq!(data(reader.recv_batch(10, GENEROUS).unwrap()), [&b"three"[..], b"four"]);
    assert_eq!(reader.statistics().missed, 1);
}

#[test]
fn holes_of_any_size_are_passed_over() {
    let place = Place::with(&[b"one"]);
    cut_to(&place.segments()[0], 1 << 40);
    let reader = place.receiver("");
    assert_eq!(one(&reader), b"one");
    assert!(reader.recv_message(Timeout::Now).unwrap_err().is(Errno::EAGAIN));
    place.sender("").send(b"two", GENEROUS).unwrap();
    assert_eq!(one(&reader), b"two");
    assert_eq!(reader.statistics().torn, 1);
}

#[test]
fn damage_in_the_last_record_is_a_torn_tail() {
    for bit in (0..RECORD + 16).map(|byte| byte * 8 + byte % 8) {
        let place = Place::with(&[&[1; 10], &[2; 10]]);
        flip(&place.segments()[0], (HEADING + RECORD + 16) * 8 + bit);
        let sender = place.sender("");
        sender.send(b"three", GENEROUS).unwrap();
        assert_eq!(sender.statistics().torn, 1, "{bit}");
        assert_eq!(all(&place.receiver("")), [&[1; 10][..], b"three"], "{bit}");
    }
}

#[test]
fn a_segment_that_is_damaged_or_gone_costs_what_was_in_it() {
    let options = "?segment=4096&fsync=never";
    let filled = || {
        let place = Place::new();
        let sender = place.sender(options);
        for n in 0..12_u8 {
            sender.send(&[n; 1200], GENEROUS).unwrap(); // three to a segment
        }
        assert_eq!(place.segments().len(), 4);
        place
    };
    let received = |place: &Place| {
        let reader = place.receiver("");
        let (mut found, mut told) = (Vec::new(), 0);
        loop {
            match reader.recv_message(Timeout::Now) {
                Ok(message) => found.push(message.data[0]),
                Err(error) if error.is(Errno::EBADMSG) => told += 1,
                Err(_) => return (found, told, reader.statistics().missed),
            }
        }
    };
    // The heading, the end, all of it.
    let place = filled();
    flip(&place.segments()[1], 100);
    assert_eq!(received(&place), (vec![0, 1, 2, 6, 7, 8, 9, 10, 11], 1, 3));
    let place = filled();
    cut_to(&place.segments()[1], HEADING + RECORD + 1200 + 1);
    assert_eq!(received(&place), (vec![0, 1, 2, 3, 6, 7, 8, 9, 10, 11], 1, 2));
    let place = filled();
    std::fs::remove_file(&place.segments()[1]).unwrap();
    assert_eq!(received(&place), (vec![0, 1, 2, 6, 7, 8, 9, 10, 11], 0, 3));
    let place = filled();
    std::fs::write(&place.segments()[0], "root:x:0:0:root:/root:/bin/bash\n".repeat(9)).unwrap();
    assert_eq!(received(&place), ((3..12).collect(), 1, 3));
    // Of what was before the first that is left nobody knows how much it was.
    let place = filled();
    std::fs::remove_file(&place.segments()[0]).unwrap();
    flip(&place.segments()[0], 100);
    assert_eq!(received(&place), ((6..12).collect(), 1, 0));
}

#[test]
fn whatever_is_in_the_files_nobody_crashes_or_hangs() {
    let mut chance = 99_u64;
    let mut below = |most: u64| {
        chance = chance.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (chance >> 33) % most
    };
    for round in 0..150 {
        let place = Place::new();
        let sender = place.sender("?segment=4096&fsync=never");
        for n in 0..below(12) as u8 {
            sender.send(&vec![n; below(2500) as usize], GENEROUS).unwrap();
        }
        let reader = place.receiver("?reader=r");
        let _ = (reader.recv_message(Timeout::Now), reader.recv_message(Timeout::Now));
        drop(reader);
        let mut files = place.segments();
        files.extend([place.path().join("control"), place.path().join("readers/r")]);
        for _ in 0..=below(3) {
            let file = &files[below(files.len() as u64) as usize];
            let size = std::fs::metadata(file).unwrap().len();
            match below(4) {
                _ if size == 0 => {}
                0 => cut_to(file, below(size + 1)),
                1 => cut_to(file, size + below(5000)),
                2 => std::fs::copy(&files[below(files.len() as u64) as usize], file).map(drop).unwrap(),
                _ => flip(file, below(size * 8)),
            }
        }
        for options in ["?reader=r", "?reader=new", "?from=newest", ""] {
            let Ok(reader) = Channel::open_receiver(&place.address(options), GENEROUS) else { continue };
            // Whatever is wrong is told, and then comes the end, or it is wrong for good.
            let last = (0..50)
                .map(|_| reader.recv_message(Timeout::Now))
                .find(|found| matches!(found, Err(error) if error.is(Errno::EAGAIN)));
            let stuck = reader.recv_message(Timeout::Now).err().is_some_and(|error| error.is(Errno::EBADMSG));
            assert!(last.is_some() || stuck, "{round} {options}");
        }
        if sender.send(b"here", GENEROUS).is_ok() {
            let _ = Channel::open_sender(&place.address(""), GENEROUS).map(|sender| sender.send(b"there", GENEROUS));
            assert!(
                Channel::open_receiver(&place.address(""), GENEROUS).is_err() || {
                    let reader = place.receiver("");
                    (0..50).any(|_| reader.recv_message(Timeout::Now).is_ok_and(|found| found.data == b"here"))
                }
            );
        }
    }
}

#[test]
fn what_is_no_log_is_refused_and_left_alone() {
    let check = |place: &Place, errno: Errno, text: &str| {
        for opened in
            [Channel::open_sender(&place.address(""), GENEROUS), Channel::open_receiver(&place.address(""), GENEROUS)]
        {
            let error = opened.err().expect("refused");
            assert!(error.is(errno) && error.to_string().contains(text), "{error}");
        }
        assert!(Channel::remove(&place.address("")).is_err());
    };
    let place = Place::new();
    std::fs::write(place.path(), "a text").unwrap();
    check(&place, Errno::EBADMSG, "a log of messages is a directory");
    assert_eq!(std::fs::read(place.path()).unwrap(), b"a text");

    let place = Place::new();
    std::fs::create_dir(place.path()).unwrap();
    std::fs::write(place.path().join("letter.txt"), "dear").unwrap();
    check(&place, Errno::EBADMSG, "holds something else (letter.txt)");
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 1);

    for (content, errno, text) in [
        (&b"xyz"[..], Errno::EBADMSG, "no file of such a log"),
        (&[b'z'; 4096], Errno::EBADMSG, "no file of such a log"),
    ] {
        let place = Place::with(&[b"one"]);
        std::fs::write(place.path().join("control"), content).unwrap();
        check(&place, errno, text);
    }
    let place = Place::with(&[b"one"]);
    flip(&place.path().join("control"), 130);
    check(&place, Errno::EBADMSG, "is damaged");

    let place = Place::with(&[b"one"]);
    std::fs::write(&place.segments()[0], [b'z'; 5000]).unwrap();
    check_segment(&place, Errno::EBADMSG);
    let place = Place::with(&[b"one"]);
    doctor(&place.segments()[0], 8, &[9]);
    check_segment(&place, Errno::EPROTO);
    let place = Place::with(&[b"one"]);
    std::fs::copy(&Place::with(&[b"other"]).segments()[0], &place.segments()[0]).unwrap();
    check_segment(&place, Errno::EBADMSG);

    // In the way of a directory, nothing at all.
    let error = Channel::open_sender(&"file:/nowhere/at/all".parse().unwrap(), GENEROUS).err().unwrap();
    assert!(error.is(Errno::ENOENT), "{error}");
}

fn check_segment(place: &Place, errno: Errno) {
    for opened in
        [Channel::open_sender(&place.address(""), GENEROUS), Channel::open_receiver(&place.address(""), GENEROUS)]
    {
        let error = opened.err().expect("refused");
        assert!(error.is(errno) && error.to_string().contains(".log"), "{error}");
    }
}
