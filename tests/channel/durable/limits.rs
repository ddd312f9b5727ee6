//! Too much, too old, a full disk, a disk that fails, options.

use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use wigwag::{Address, Channel, ChannelDurability, File, FileOptions, Timeout};

use super::{BOOT, HEADING, MADE, Place, all, doctor, flip, one};
use crate::support::{GENEROUS, eventually, fork, fork_without, unshare};

#[test]
fn what_is_too_much_goes_and_is_counted_by_those_who_missed_it() {
    let place = Place::new();
    let options = "?segment=4096&retain=16384&fsync=never";
    let sender = place.sender(options);
    let (near, far) = (place.receiver("?reader=near"), place.receiver("?reader=far"));
    sender.send(&0_u32.to_le_bytes(), GENEROUS).unwrap();
    assert_eq!((one(&near), one(&far)), (vec![0; 4], vec![0; 4]));
    for n in 1..1000_u32 {
        sender.send(&n.to_le_bytes(), GENEROUS).unwrap();
        assert_eq!(one(&near), n.to_le_bytes());
        let size: u64 = place.segments().iter().map(|path| std::fs::metadata(path).unwrap().len()).sum();
        assert!(size <= 16384 + HEADING, "{size}");
    }
    drop(near);
    drop(far);
    let mut expected = 1;
    for _ in 0..2 {
        let reader = place.receiver("?reader=far");
        while let Ok(message) = reader.recv_message(Timeout::Now) {
            let found = u32::from_le_bytes(message.data[..].try_into().unwrap());
            assert_eq!(u64::from(found - expected), message.received.missed, "exactly");
            expected = found + 1;
        }
        assert_eq!(expected, 1000);
    }
    // One that stands in a segment that goes reads it to the end.
    let reader = place.receiver("");
    let first = reader.recv_message(GENEROUS).unwrap();
    let mut next = u32::from_le_bytes(first.data[..].try_into().unwrap()) + 1;
    for n in 1000..2000_u32 {
        sender.send(&n.to_le_bytes(), GENEROUS).unwrap();
    }
    let mut missed = 0;
    while let Ok(message) = reader.recv_message(Timeout::Now) {
        let found = u32::from_le_bytes(message.data[..].try_into().unwrap());
        assert_eq!(u64::from(found - next), message.received.missed);
        missed += message.received.missed;
        next = found + 1;
    }
    assert_eq!((next, reader.statistics().missed), (2000, missed));
    assert!(missed > 0);
}

#[test]
fn what_was_not_too_much_stays_when_others_open() {
    let place = Place::new();
    let options = "?segment=4096&retain=12288&fsync=never";
    let sender = place.sender(options);
    for n in 0..7_u8 {
        sender.send(&[n; 1900], GENEROUS).unwrap(); // two to a segment
    }
    let before = place.segments();
    assert!(before.len() > 2);
    for n in 0..3_u8 {
        place.sender(options).send(&[n; 8], GENEROUS).unwrap();
        assert_eq!(place.segments(), before);
    }
    // Nor does less of a limit count before it is reached, and then it does at once.
    place.sender("?segment=4096&retain=8192&fsync=never").send(b"x", GENEROUS).unwrap();
    assert!(place.segments().len() < before.len());
}

#[test]
fn what_is_too_old_goes() {
    let place = Place::new();
    let sender = place.sender("?segment=4096&age=3600&fsync=never");
    for n in 0..4_u8 {
        sender.send(&[n; 3000], GENEROUS).unwrap();
    }
    assert_eq!(place.segments().len(), 4);
    let hours_ago = |hours: u64| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        ((now - Duration::from_secs(3600 * hours)).as_nanos() as u64).to_le_bytes()
    };
    // The third was made two hours ago: all in the first two is older.
    for segment in &place.segments()[..3] {
        doctor(segment, MADE, &hours_ago(2));
    }
    place.sender("?age=3600").send(b"new", GENEROUS).unwrap();
    let reader = place.receiver("");
    let found: Vec<_> = all(&reader).iter().map(|message| message[0]).collect();
    assert_eq!(found, [2, 3, b'n']);
    // Also the segment that is being written: it is closed when it has become too old.
    let newest = place.segments().pop().unwrap();
    doctor(&newest, MADE, &hours_ago(1));
    let before = place.segments().len();
    place.sender("?age=3600").send(b"newer", GENEROUS).unwrap();
    assert_eq!(one(&reader), b"newer");
    assert!(place.segments().last() != Some(&newest) && place.segments().len() <= before);
}

#[test]
fn what_is_too_old_goes_also_before_what_is_damaged() {
    let place = Place::new();
    let sender = place.sender("?segment=4096&age=3600&fsync=never");
    for n in 0..5_u8 {
        sender.send(&[n; 3000], GENEROUS).unwrap();
    }
    let segments = place.segments();
    for segment in &segments[..3] {
        doctor(segment, MADE, &1_u64.to_le_bytes());
    }
    flip(&segments[1], 8 * MADE as u64);
    place.sender("?age=3600").send(b"new", GENEROUS).unwrap();
    assert_eq!(place.segments()[..], segments[2..]);
}

#[test]
fn a_limit_on_file_sizes_holds_messages_up_and_loses_none() {
    let place = Place::new();
    fork(|| {
        let limit = |most| {
            let limit = libc::rlimit { rlim_cur: most, rlim_max: libc::RLIM_INFINITY };
            // SAFETY: a live local; a limit of this child alone.
            assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) }, 0);
        };
        for most in (HEADING + 150)..(HEADING + 150 + 48) {
            limit(most);
            let name = format!("?reader={most}&from=newest&fsync=never");
            let reader = place.receiver(&name);
            let sender = place.sender("?fsync=never&segment=4096");
            let (mut sent, error) = (0_u64, std::cell::Cell::new(None));
            while error.take().is_none() {
                match sender.send(&sent.to_le_bytes(), GENEROUS) {
                    Ok(()) => sent += 1,
                    Err(found) => {
                        assert!(found.is(Errno::EFBIG) && found.reason().contains("RLIMIT_FSIZE"), "{found}");
                        error.set(Some(()));
                    }
                }
                assert!(sent < 1000);
            }
            limit(libc::RLIM_INFINITY);
            sender.send(&sent.to_le_bytes(), GENEROUS).unwrap();
            let found = all(&reader);
            assert_eq!(found, (0..=sent).map(|n| n.to_le_bytes().to_vec()).collect::<Vec<_>>());
            assert_eq!(sender.statistics().torn, 0);
            Channel::remove(&place.address("")).unwrap();
        }
    })
    .join();
}

#[test]
fn a_full_disk_holds_messages_up_and_loses_none() {
    fork(|| {
        // SAFETY: a plain system call, in a child with one thread.
        if unsafe { libc::unshare(libc::CLONE_NEWNS) } != 0
            && let Err(reason) = unshare(libc::CLONE_NEWNS)
        {
            return crate::skip!(reason);
        }
        use nix::mount::{MntFlags, MsFlags, mount, umount2};
        let place = Place::new();
        let root = place.directory.path();
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
        mount(Some("tmpfs"), root, Some("tmpfs"), MsFlags::empty(), Some("size=128k")).unwrap();
        std::fs::write(root.join("ballast"), [1; 40_000]).unwrap();
        let reader = place.receiver("?reader=r");
        let (mut sent, mut failures) = (0_u32, 0);
        let message = |n: u32| {
            let mut message = n.to_le_bytes().to_vec();
            message.resize(500 + n as usize % 700, n as u8);
            message
        };
        for options in ["", "?segment=8192", "?fsync=every"] {
            let sender = place.sender(options);
            loop {
                match sender.send(&message(sent), GENEROUS) {
                    Ok(()) => sent += 1,
                    Err(error) => {
                        assert!(error.is(Errno::ENOSPC) && error.reason().contains("disk is full"), "{error}");
                        failures += 1;
                        break;
                    }
                }
                assert!(sent < 1000);
            }
            // With room, it goes on, also in another process.
            std::fs::write(root.join("ballast"), vec![1; 30_000 - 10_000 * (failures as usize - 1)]).unwrap();
            sender.send(&message(sent), GENEROUS).unwrap();
            sent += 1;
        }
        assert_eq!(failures, 3);
        for n in 0..sent {
            assert_eq!(one(&reader), message(n), "{n}");
        }
        assert_eq!((reader.statistics().torn, reader.statistics().missed), (0, 0));
        drop(reader);
        umount2(root, MntFlags::MNT_DETACH).unwrap();
    })
    .join();
}

#[test]
fn a_failed_sync_is_told_and_not_tried_again_on_the_same_file() {
    let place = Place::new();
    fork_without(&[libc::SYS_fdatasync], libc::EIO, || {
        let sender = place.sender("?fsync=every");
        for n in 1..3_u64 {
            let error = sender.send(b"in memory", GENEROUS).unwrap_err();
            assert!(error.is(Errno::EIO) && error.reason().contains("a power failure may take it"), "{error}");
            assert_eq!((place.segments().len() as u64, sender.statistics().unconfirmed), (n, n));
        }
        assert_eq!(all(&place.receiver("")).len(), 2);
        // A batch goes to the disk at once, and all of it is in the log: sent again, it would be there twice.
        let error = sender.send_batch(&[b"a", b"b", b"c"], GENEROUS).unwrap_err();
        assert_eq!((error.errno(), error.done()), (libc::EIO, 3), "{error}");
        assert_eq!((all(&place.receiver("")).len(), sender.statistics().unconfirmed), (5, 3));
        // Also over several segments, none of which is used any more.
        let small = place.sender("?fsync=every&segment=4096");
        let error = small.send_batch(&[&[1; 3000], &[2; 3000], &[3; 10]], GENEROUS).unwrap_err();
        assert_eq!((error.errno(), error.done()), (libc::EIO, 3), "{error}");
        let before = place.segments().len();
        assert_eq!(small.send_batch(&[b"d"], GENEROUS).unwrap_err().done(), 1);
        assert_eq!((place.segments().len(), all(&place.receiver("")).len()), (before + 1, 9));
        // Later: by the next call.
        let sender = place.sender("?fsync=interval&interval=1");
        sender.send(b"one", GENEROUS).unwrap();
        eventually("the failure is told", || match sender.send(b"more", GENEROUS) {
            Ok(()) => false,
            Err(error) => {
                assert!(error.is(Errno::EIO) && error.reason().contains("this call has done nothing"), "{error}");
                true
            }
        });
        let before = place.segments().len();
        // What was sent since then may fail as well, once.
        eventually("it goes on", || sender.send(b"on", GENEROUS).is_ok());
        assert!(place.segments().len() > before);
        assert!(sender.flush(GENEROUS).unwrap_err().is(Errno::EIO));
        assert!(sender.statistics().unconfirmed >= 2);
    })
    .join();
}

#[test]
fn a_batch_that_cannot_go_on_says_how_far_it_came() {
    let place = Place::new();
    let sender = place.sender("?largest=10&segment=4096");
    let error = sender.send_batch(&[b"one", b"two", &[b'x'; 11], b"four"], GENEROUS).unwrap_err();
    assert_eq!((error.errno(), error.true_size(), sender.statistics().sent), (libc::EMSGSIZE, 11, 2));
    sender.send_batch(&[], GENEROUS).unwrap();
    // Over several segments.
    let batch: Vec<_> = (0..300_u32).map(u32::to_le_bytes).collect();
    sender.send_batch(&batch.iter().map(|message| &message[..]).collect::<Vec<_>>(), GENEROUS).unwrap();
    assert!(place.segments().len() > 2);
    let found = all(&place.receiver(""));
    assert_eq!(found[..2], [b"one", b"two"]);
    assert_eq!(found[2..], batch);
}

#[test]
fn flush_and_close_bring_it_to_the_disk_in_each_policy() {
    // A sandbox in which syncing fails shows whether it is done.
    for (options, failing) in [("?fsync=never", true), ("?interval=60000", true), ("?fsync=every", false)] {
        let place = Place::with(&[b"x"]);
        fork_without(&[libc::SYS_fdatasync], libc::EIO, || {
            let sender = place.sender(options);
            let sent = sender.send(b"one", GENEROUS);
            assert_eq!(sent.is_ok(), failing, "{options}");
            assert_eq!(sender.flush(GENEROUS).is_err(), failing, "{options}");
        })
        .join();
    }
}

#[test]
fn flush_tells_of_what_another_thread_just_brings_to_the_disk() {
    let place = Place::new();
    fork_without(&[libc::SYS_fdatasync], libc::EIO, || {
        let sender = place.sender("?fsync=interval&interval=1");
        for n in 0..200_u32 {
            sender.send(b"x", GENEROUS).unwrap();
            // The thread comes to it before, after, or at this moment.
            std::thread::sleep(Duration::from_micros(u64::from(n) * 10));
            assert!(sender.flush(GENEROUS).unwrap_err().is(Errno::EIO));
        }
        assert_eq!(sender.statistics().unconfirmed, 200);
    })
    .join();
}

#[test]
fn an_epoch_is_on_the_disk_before_it_is_used() {
    // As after another start of the machine: sequences may be given out anew, so the segment counts from which on they are.
    let place = Place::with(&[b"one"]);
    doctor(&place.segments()[0], BOOT, &[1; 16]);
    fork_without(&[libc::SYS_fsync], libc::EIO, || {
        let error = Channel::open_sender(&place.address("?fsync=never"), GENEROUS).err().unwrap();
        assert!(error.is(Errno::EIO), "{error}");
    })
    .join();
    place.sender("?fsync=never").send(b"two", GENEROUS).unwrap();
    // Other segments need not be, unless that is wanted.
    fork_without(&[libc::SYS_fsync], libc::EIO, || {
        let sender = place.sender("?fsync=never&segment=4096");
        (0..4_u8).for_each(|n| sender.send(&[n; 3000], GENEROUS).unwrap());
        // Nor are they by whoever wanted it not: who wants it does it for what it finds.
        for options in ["?fsync=every", ""] {
            let error = Channel::open_sender(&place.address(options), GENEROUS).err().unwrap();
            assert!(error.is(Errno::EIO), "{error}");
        }
    })
    .join();
    assert_eq!(all(&place.receiver("")).len(), 6);
}

#[test]
fn options_are_checked_and_none_of_the_file_itself() {
    let place = Place::new();
    for (options, text) in [
        ("?segment=100", "segment=100 is less than 4096"),
        ("?retain=8000", "no room for two segments"),
        ("?segment=10000&retain=19999", "no room for two segments"),
        ("?interval=0", "fsync=every"),
        ("?fsync=every&interval=5", "fsync=interval alone"),
        ("?reader=a/b", "no slash"),
        ("?reader=..", "no slash"),
        ("?reader=%FF", "UTF-8"),
    ] {
        let error = Channel::open_receiver(&place.address(options), GENEROUS).err().expect(options);
        assert!(error.is(Errno::EINVAL) && error.to_string().contains(text), "{error}");
    }
    for (options, text) in [("?fsync=always", "never, interval, every"), ("?keep=1", "retain")] {
        let error = Address::parse(format!("file:x{options}")).unwrap_err();
        assert!(error.is(Errno::EINVAL) && error.to_string().contains(text), "{error}");
    }
    assert!(!place.path().exists());
    for option in
        ["largest=1", "fsync=every", "interval=1", "segment=4096", "retain=1", "age=1", "reader=r", "from=newest"]
    {
        let address = place.address(&format!("?{option}"));
        let error = File::open(&address, &FileOptions::default()).unwrap_err();
        assert!(error.is(Errno::EINVAL) && error.to_string().contains("open it as a channel"), "{error}");
    }
    let able = Channel::capabilities(&place.address("?largest=500")).unwrap();
    assert_eq!((able.durability, able.largest, able.broadcast), (ChannelDurability::Disk, Some(500), true));
    assert!(able.many_receivers && !Channel::capabilities(&place.address("?reader=r")).unwrap().many_receivers);
    // The mode is that of the files, and of the directory with the right to go in.
    place.sender("?mode=640").send(b"x", GENEROUS).unwrap();
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&place.path()), mode(&place.segments()[0])), (0o750, 0o640));
    assert_eq!(mode(&place.path().join("control")), 0o640);
}
