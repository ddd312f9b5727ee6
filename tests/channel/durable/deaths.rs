//! Who dies or stops in the middle.

use std::io::{Read, Write};
use std::time::Duration;

use nix::errno::Errno;
use wigwag::{Channel, Timeout};

use super::{HEADING, Place, all, cut_to, flip, one};
use crate::support::{GENEROUS, SHORT, eventually, fork};

#[test]
fn whatever_was_being_made_when_its_maker_died_is_made_anew() {
    // The log itself.
    for length in [0, 1, 8, 47] {
        let place = Place::with(&[b"x"]);
        let control = std::fs::read(place.path().join("control")).unwrap();
        std::fs::remove_dir_all(place.path()).unwrap();
        std::fs::create_dir(place.path()).unwrap();
        std::fs::write(place.path().join("control"), &control[..length]).unwrap();
        place.sender("").send(b"one", GENEROUS).unwrap();
        assert_eq!(all(&place.receiver("")), [b"one"]);
    }
    // With segments there, it is known from them.
    let place = Place::with(&[b"one"]);
    std::fs::remove_file(place.path().join("control")).unwrap();
    assert_eq!(all(&place.receiver("")), [b"one"]);
    // A segment: the first, and one behind others.
    for length in [0, 1, 50, HEADING - 1] {
        let place = Place::with(&[b"x"]);
        cut_to(&place.segments()[0], length);
        let reader = place.receiver("");
        assert!(all(&reader).is_empty());
        place.sender("").send(b"one", GENEROUS).unwrap();
        assert_eq!(one(&reader), b"one");

        let place = Place::with(&[b"one", b"two"]);
        let second = place.path().join("00000000000000000002.log");
        let heading = std::fs::read(&place.segments()[0]).unwrap();
        std::fs::write(&second, &heading[..length as usize]).unwrap();
        let reader = place.receiver("");
        assert_eq!(all(&reader), [b"one", b"two"]);
        place.sender("").send(b"three", GENEROUS).unwrap();
        assert_eq!(all(&reader), [b"three"]);
        assert_eq!(reader.statistics().missed, 0);

        // Several, of which a power failure has left the names.
        let place = Place::with(&[b"one", b"two"]);
        for number in 2..5 {
            std::fs::write(place.path().join(format!("{number:020}.log")), &heading[..length as usize]).unwrap();
        }
        let reader = place.receiver("");
        place.sender("").send(b"three", GENEROUS).unwrap();
        assert_eq!(all(&reader), [&b"one"[..], b"two", b"three"]);
        assert_eq!(place.segments().len(), 1);
    }
    // A position.
    let place = Place::with(&[b"one"]);
    assert_eq!(one(&place.receiver("?reader=r")), b"one");
    cut_to(&place.path().join("readers/r"), 30);
    assert_eq!(all(&place.receiver("?reader=r")), [b"one"]);
    std::fs::write(place.path().join("readers/r"), [b'z'; 128]).unwrap();
    let error = Channel::open_receiver(&place.address("?reader=r"), GENEROUS).err().unwrap();
    assert!(error.is(Errno::EBADMSG) && error.reason().contains("readers/r"), "{error}");
    // Its newer half: the older counts.
    std::fs::remove_file(place.path().join("readers/r")).unwrap();
    let reader = place.receiver("?reader=r");
    assert_eq!(one(&reader), b"one");
    drop(reader);
    for half in [3, 64 + 3] {
        flip(&place.path().join("readers/r"), half * 8);
        let again = Channel::open_receiver(&place.address("?reader=r"), GENEROUS);
        flip(&place.path().join("readers/r"), half * 8);
        assert!(all(&again.unwrap()).len() <= 1);
    }
}

#[test]
fn a_reader_that_is_killed_gets_again_what_it_had_not_dealt_with() {
    let place = Place::with(&[b"1", b"2", b"3", b"4", b"5"]);
    let (mut told, mut tell) = std::io::pipe().unwrap();
    let mut killed_after = |act: &dyn Fn(&Channel)| {
        let child = fork(|| {
            let reader = place.receiver("?reader=r");
            act(&reader);
            tell.write_all(b"x").unwrap();
            loop {
                std::thread::park();
            }
        });
        told.read_exact(&mut [0]).unwrap();
        child.kill(libc::SIGKILL);
        child.wait();
    };
    killed_after(&|reader| {
        assert_eq!(one(reader), b"1");
        assert_eq!(one(reader), b"2");
    });
    // To ask for the second said that the first was dealt with.
    killed_after(&|reader| assert_eq!(reader.recv_batch(2, GENEROUS).unwrap()[0].data, b"2"));
    // A batch is dealt with as a whole.
    killed_after(&|reader| {
        assert_eq!(one(reader), b"2");
        reader.flush(GENEROUS).unwrap();
    });
    // Also nothing that is asked for with success says so.
    killed_after(&|reader| {
        assert_eq!(all(reader).len(), 3);
    });
    assert!(all(&place.receiver("?reader=r")).is_empty());
}

#[test]
fn a_stopped_appender_holds_up_others_no_longer_than_they_want() {
    let place = Place::with(&[b"one"]);
    let sender = place.sender("");
    // Somebody holds the lock, as one that is stopped in the middle would.
    let control = std::fs::OpenOptions::new().read(true).write(true).open(place.path().join("control")).unwrap();
    let lock = libc::flock { l_type: libc::F_WRLCK as i16, l_whence: 0, l_start: 0, l_len: 0, l_pid: 0 };
    nix::fcntl::fcntl(&control, nix::fcntl::FcntlArg::F_OFD_SETLK(&lock)).unwrap();
    let error = sender.send(b"x", Timeout::Now).unwrap_err();
    assert!(error.is(Errno::EAGAIN) && error.reason().contains("another process is appending"), "{error}");
    assert!(sender.send(b"x", SHORT).unwrap_err().is(Errno::ETIMEDOUT));
    let second = place.sender(""); // opens nevertheless
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| sender.send(b"x", GENEROUS).unwrap_err());
        sender.end_waits();
        assert!(waits.join().unwrap().is(Errno::ECANCELED));
    });
    drop(control);
    second.send(b"two", GENEROUS).unwrap();
    assert_eq!(all(&place.receiver("")), [b"one", b"two"]);
}

#[test]
fn a_child_sends_and_reads_as_itself() {
    let place = Place::with(&[b"one", b"two", b"three"]);
    let (sender, reader, named) = (place.sender(""), place.receiver(""), place.receiver("?reader=r"));
    sender.send(b"four", GENEROUS).unwrap();
    assert_eq!((one(&reader), one(&named)), (b"one".to_vec(), b"one".to_vec()));
    assert!(reader.recv_message(Timeout::Now).is_ok());
    let (fresh, waiting) = (place.receiver("?reader=fresh"), place.receiver("?reader=waiting&from=newest"));
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| waiting.recv_message(GENEROUS).unwrap_err());
        eventually("a thread has the turn", || waiting.put_back().is_err_and(|error| error.is(Errno::EAGAIN)));
        fork(|| {
            for named in [&fresh, &waiting] {
                let error = named.recv_message(Timeout::Now).unwrap_err();
                assert!(error.is(Errno::EBUSY) && error.reason().contains("belongs to the process"), "{error}");
            }
        })
        .join();
        waiting.end_waits();
        assert!(waits.join().unwrap().is(Errno::ECANCELED));
    });
    fork(|| {
        sender.send(b"child", GENEROUS).unwrap();
        assert_eq!(one(&reader), b"three");
        assert_eq!(all(&reader), [&b"four"[..], b"child"]);
        assert!(reader.recv_message(SHORT).unwrap_err().is(Errno::ETIMEDOUT));
        // A position belongs to one.
        let error = named.recv_message(Timeout::Now).unwrap_err();
        assert!(error.is(Errno::EBUSY) && error.reason().contains("belongs to the process"), "{error}");
    })
    .join();
    sender.send(b"parent", GENEROUS).unwrap();
    assert_eq!(all(&reader).len(), 4);
    assert_eq!(all(&named).len(), 5);
}

#[test]
fn each_message_that_a_killed_sender_was_told_of_is_there_once_and_in_order() {
    let place = Place::new();
    let (mut chance, mut acknowledged, mut torn) = (12345_u64, Vec::<(u32, u32)>::new(), 0);
    let reader = place.receiver("?reader=r");
    let other = fork(|| {
        let sender = place.sender("?segment=16384&fsync=never");
        for n in 0..1500_u32 {
            sender.send(&[&u32::MAX.to_le_bytes()[..], &n.to_le_bytes()].concat(), GENEROUS).unwrap();
        }
    });
    for round in 0..40_u32 {
        let (mut told, mut tell) = std::io::pipe().unwrap();
        let child = fork(|| {
            let sender = place.sender("?segment=16384&fsync=never");
            for n in 0_u32.. {
                let mut message = [round.to_le_bytes(), n.to_le_bytes()].concat();
                message.resize(8 + (n as usize * 7919) % 9000, 5);
                sender.send(&message, GENEROUS).unwrap();
                tell.write_all(&[round.to_le_bytes(), n.to_le_bytes()].concat()).unwrap();
            }
        });
        drop(tell);
        chance = chance.wrapping_mul(6364136223846793005).wrapping_add(1);
        std::thread::sleep(Duration::from_micros(chance >> 50)); // up to 16 ms
        child.kill(libc::SIGKILL);
        child.wait();
        let mut bytes = Vec::new();
        told.read_to_end(&mut bytes).unwrap();
        let word = |bytes: &[u8]| u32::from_le_bytes(bytes[..4].try_into().unwrap());
        acknowledged.extend(bytes.chunks_exact(8).map(|told| (word(told), word(&told[4..]))));
    }
    other.join();
    place.sender("").send(&[0xfe; 8], GENEROUS).unwrap();
    torn += reader.statistics().torn;
    let mut found = Vec::new();
    let mut other = 0;
    loop {
        let message = one(&reader);
        let word = |at: usize| u32::from_le_bytes(message[at..at + 4].try_into().unwrap());
        match word(0) {
            0xfefefefe => break,
            u32::MAX => {
                assert_eq!(word(4), other);
                other += 1;
            }
            round => found.push((round, word(4))),
        }
    }
    assert_eq!((other, reader.statistics().missed), (1500, 0));
    // In order and once: and of each round at most one that was sent, but not told of.
    assert!(found.windows(2).all(|pair| pair[0] < pair[1]));
    let unknown: Vec<_> = found.iter().filter(|sent| acknowledged.binary_search(sent).is_err()).collect();
    assert_eq!(found.len(), acknowledged.len() + unknown.len(), "all that was told of is there");
    assert!(unknown.windows(2).all(|pair| pair[0].0 < pair[1].0), "{unknown:?}");
    println!("{} messages, {} not told of, {torn} torn tails", found.len(), unknown.len());
}
