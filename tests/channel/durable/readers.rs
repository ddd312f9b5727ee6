//! Readers with a name and without.

use std::os::fd::AsFd;

use nix::errno::Errno;
use wigwag::{Channel, Timeout, WaitSet, WaitSetEvent};

use super::{Place, all, one};
use crate::support::{GENEROUS, SHORT, fork_without};

#[test]
fn named_readers_go_on_where_they_were() {
    let place = Place::new();
    let sender = place.sender("");
    for n in 0..10 {
        sender.send(&[n], GENEROUS).unwrap();
    }
    for (name, taken) in [("a", 3), ("b", 7)] {
        let reader = place.receiver(&format!("?reader={name}"));
        for n in 0..taken {
            assert_eq!(one(&reader), [n]);
        }
    }
    // What comes from now on only, and what was there before stays unseen also next time.
    assert!(all(&place.receiver("?reader=late&from=newest")).is_empty());
    sender.send(&[10], GENEROUS).unwrap();
    for (name, first) in [("a", 3), ("b", 7), ("late", 10), ("new", 0)] {
        let found = all(&place.receiver(&format!("?reader={name}")));
        assert_eq!(found, (first..11).map(|n| vec![n]).collect::<Vec<_>>(), "{name}");
    }
    assert!(all(&place.receiver("?from=newest")).is_empty());
    assert_eq!(all(&place.receiver("")).len(), 11);
    // One that is removed begins anew; one that is in use is not removed.
    let a = place.receiver("?reader=a");
    assert!(Channel::remove(&place.address("?reader=a")).unwrap_err().is(Errno::EBUSY));
    assert!(Channel::open_receiver(&place.address("?reader=a"), GENEROUS).err().unwrap().is(Errno::EBUSY));
    drop(a);
    Channel::remove(&place.address("?reader=a")).unwrap();
    assert!(Channel::remove(&place.address("?reader=a")).unwrap_err().is(Errno::ENOENT));
    assert_eq!(all(&place.receiver("?reader=a")).len(), 11);
}

#[test]
fn what_is_put_back_is_received_again() {
    let place = Place::with(&[b"1", b"2", b"3", b"4"]);
    for options in ["", "?reader=r"] {
        let reader = place.receiver(options);
        assert_eq!((one(&reader), one(&reader)), (b"1".to_vec(), b"2".to_vec()));
        for _ in 0..2 {
            reader.put_back().unwrap();
            let batch = reader.recv_batch(2, GENEROUS).unwrap();
            assert_eq!((&batch[0].data[..], &batch[1].data[..]), (&b"2"[..], &b"3"[..]));
        }
        reader.put_back().unwrap();
        reader.put_back().unwrap();
    }
    assert_eq!(all(&place.receiver("?reader=r")), [b"2", b"3", b"4"]);
    let error = Channel::pair(&"pipe:".parse().unwrap()).unwrap().0.put_back().unwrap_err();
    assert!(error.is(Errno::ENOTSUP) && error.reason().contains("file: can"), "{error}");
    assert!(place.sender("").put_back().unwrap_err().is(Errno::EBADF));
    // Nor by a panic that closes.
    let panics = std::panic::catch_unwind(|| {
        let reader = place.receiver("?reader=p");
        assert_eq!((one(&reader), one(&reader)), (b"1".to_vec(), b"2".to_vec()));
        std::panic::resume_unwind(Box::new("it could not be dealt with"));
    });
    assert!(panics.is_err());
    assert_eq!(one(&place.receiver("?reader=p")), b"2");
}

#[test]
fn readers_follow_from_segment_to_segment() {
    let place = Place::new();
    let address = place.address("?segment=4096&fsync=never");
    let readers: Vec<_> = ["", "?reader=x"].iter().map(|options| place.receiver(options)).collect();
    std::thread::scope(|scope| {
        for reader in &readers {
            scope.spawn(|| {
                for n in 0..2000_u32 {
                    let message = reader.recv_message(GENEROUS).unwrap();
                    assert_eq!((&message.data[..4], message.received.missed), (&n.to_le_bytes()[..], 0));
                }
            });
        }
        let sender = Channel::open_sender(&address, GENEROUS).unwrap();
        for n in 0..2000_u32 {
            let mut message = n.to_le_bytes().to_vec();
            message.resize(4 + n as usize % 200, 7);
            sender.send(&message, GENEROUS).unwrap();
        }
    });
    assert!(place.segments().len() > 20);
}

#[test]
fn without_a_watch_readers_look_now_and_then() {
    let place = Place::with(&[b"one"]);
    fork_without(&[libc::SYS_inotify_init1], libc::EMFILE, || {
        let reader = place.receiver("");
        assert_eq!(one(&reader), b"one");
        assert!(reader.recv_message(SHORT).unwrap_err().is(Errno::ETIMEDOUT));
        std::thread::scope(|scope| {
            scope.spawn(|| place.sender("").send(b"two", GENEROUS).unwrap());
            assert_eq!(one(&reader), b"two");
        });
        assert!(reader.descriptor().is_err());
    })
    .join();
}

#[test]
fn a_removed_log_is_told_to_those_who_use_it() {
    let place = Place::with(&[b"one"]);
    let (sender, reader) = (place.sender(""), place.receiver("?reader=r"));
    let waiting = place.receiver("?from=newest");
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| waiting.recv_message(GENEROUS).unwrap_err());
        Channel::remove(&place.address("?fsync=every")).unwrap();
        assert!(waits.join().unwrap().is(Errno::ESTALE));
    });
    assert!(!place.path().exists());
    assert!(sender.send(b"x", GENEROUS).unwrap_err().is(Errno::ESTALE));
    // Made anew, it is another.
    place.sender("").send(b"new", GENEROUS).unwrap();
    assert!(sender.send(b"x", GENEROUS).unwrap_err().is(Errno::ESTALE));
    // What it has open it reads to the end.
    assert_eq!(one(&reader), b"one");
    assert!(reader.recv_message(Timeout::Now).unwrap_err().is(Errno::ESTALE));
    assert_eq!(all(&place.receiver("?reader=r")), [b"new"]);
    // What is not the log's stays.
    std::fs::write(place.path().join("notes"), "mine").unwrap();
    assert!(Channel::remove(&place.address("")).unwrap_err().is(Errno::ENOTEMPTY));
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 1);
}

#[test]
fn a_position_in_use_is_not_removed() {
    let place = Place::with(&[b"one"]);
    let address = place.address("?reader=r");
    let removes = || (0..3000).for_each(|_| drop(Channel::remove(&address)));
    std::thread::scope(|scope| {
        scope.spawn(removes);
        scope.spawn(removes);
        for _ in 0..1000 {
            let Ok(reader) = Channel::open_receiver(&address, GENEROUS) else { continue };
            for _ in 0..3 {
                assert!(place.path().join("readers/r").exists(), "removed while it is in use");
                std::thread::yield_now();
            }
            drop(reader);
        }
    });
}

#[test]
fn a_descriptor_tells_of_messages_that_were_there_before() {
    let place = Place::with(&[b"one", b"two"]);
    let reader = place.receiver("?reader=r");
    let (fd, interest) = reader.descriptor().unwrap();
    let set = WaitSet::new().unwrap();
    set.add(&fd.as_fd(), interest, 1).unwrap();
    let mut events = [WaitSetEvent::default(); 1];
    for _ in 0..2 {
        assert_eq!(set.wait(&mut events, GENEROUS).unwrap(), 1);
        assert_eq!(reader.recv_batch(10, GENEROUS).unwrap().len(), 2);
        assert!(!set.wait(&mut events, Timeout::Now).is_ok_and(|found| found > 0), "all is received");
        reader.put_back().unwrap();
    }
    assert_eq!(set.wait(&mut events, GENEROUS).unwrap(), 1);
    assert_eq!(one(&reader), b"one");
}

#[test]
fn one_descriptor_tells_of_messages_in_whichever_segment() {
    let place = Place::new();
    let reader = place.receiver("?reader=r");
    let (fd, interest) = reader.descriptor().unwrap();
    let set = WaitSet::new().unwrap();
    set.add(&fd.as_fd(), interest, 1).unwrap();
    let mut events = [WaitSetEvent::default(); 1];
    let sender = place.sender("?segment=4096&fsync=never");
    for n in 0..20_u8 {
        sender.send(&[n; 2000], GENEROUS).unwrap();
        assert_eq!(set.wait(&mut events, GENEROUS).unwrap(), 1);
        assert_eq!(one(&reader), [n; 2000]);
        assert!(reader.recv_message(Timeout::Now).unwrap_err().is(Errno::EAGAIN));
        assert!(!set.wait(&mut events, Timeout::Now).is_ok_and(|found| found > 0), "own positions ring nothing");
    }
}
