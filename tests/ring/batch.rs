//! Several messages in one call.

use nix::errno::Errno;
use wigwag::{Ring, RingFull, RingOptions, RingReceived, Timeout};

use crate::support::GENEROUS;
use crate::{balanced, receive, ring, small};

fn lengths(received: &[RingReceived]) -> Vec<usize> {
    received.iter().map(|received| received.length).collect()
}

#[test]
fn batches_are_sent_and_received() {
    let ring = Ring::anonymous(RingOptions { capacity: 1024, ..small() }).unwrap();
    let slots = ring.statistics().unwrap().slots as usize;
    let texts: Vec<Vec<u8>> = (0..slots + 3).map(|number| vec![number as u8; number % 9]).collect();
    let messages: Vec<&[u8]> = texts.iter().map(|text| &text[..]).collect();
    assert_eq!(ring.send_batch(&[], Timeout::Now).unwrap(), 0);
    for lap in 0..3 {
        assert_eq!(ring.send_batch(&messages, Timeout::Now).unwrap(), slots, "as many as there is room for");
        assert!(ring.send_batch(&messages, Timeout::Now).unwrap_err().is(Errno::EAGAIN));
        let (mut buffer, mut received) = ([0; 256], [RingReceived::default(); 64]);
        assert_eq!(ring.recv_batch(&mut buffer, &mut received[..2], Timeout::Now).unwrap(), 2, "lap {lap}");
        assert_eq!(lengths(&received[..2]), [0, 1]);
        // Five bytes more: two and three, and four no more.
        assert_eq!(ring.recv_batch(&mut buffer[..5], &mut received, Timeout::Now).unwrap(), 2);
        assert_eq!(buffer[..5], [2, 2, 3, 3, 3]);
        let count = ring.recv_batch(&mut buffer, &mut received, Timeout::Now).unwrap();
        let rest: Vec<u8> = texts[4..slots].concat();
        assert_eq!((count, &buffer[..rest.len()]), (slots - 4, &rest[..]));
        assert!(received[..count].iter().all(|received| received.deliveries == 1));
    }
    let mut one = [RingReceived::default()];
    assert!(ring.recv_batch(&mut [0; 9], &mut one, Timeout::Now).unwrap_err().is(Errno::EAGAIN));
    assert!(ring.recv_batch(&mut [0; 9], &mut [], Timeout::Now).unwrap_err().is(Errno::EINVAL));
    balanced(&ring);
}

#[test]
fn a_batch_ends_before_what_is_too_large() {
    let ring = ring();
    let largest = ring.statistics().unwrap().largest;
    let large = vec![1; largest + 1];
    assert_eq!(ring.send_batch(&[b"a", b"b", &large, b"c"], Timeout::Now).unwrap(), 2);
    let error = ring.send_batch(&[&large, b"c"], Timeout::Now).unwrap_err();
    assert_eq!((error.errno(), error.true_size()), (libc::EMSGSIZE, largest));
    let error = ring.recv_batch(&mut [], &mut [RingReceived::default()], Timeout::Now).unwrap_err();
    assert_eq!((error.errno(), error.true_size()), (libc::EMSGSIZE, 1), "it stays");
    assert_eq!(balanced(&ring).queued, 2);
}

#[test]
fn full_rings_drop_from_batches_and_count() {
    let messages: Vec<[u8; 1]> = (0..40).map(|number| [number]).collect();
    let messages: Vec<&[u8]> = messages.iter().map(|message| &message[..]).collect();
    for (full, first) in [(RingFull::DropNewest, 0), (RingFull::DropOldest, 40 - 4)] {
        let ring = Ring::anonymous(RingOptions { full, ..small() }).unwrap();
        assert_eq!(ring.statistics().unwrap().slots, 4);
        assert_eq!(ring.send_batch(&messages, Timeout::Now).unwrap(), 40);
        let books = balanced(&ring);
        assert_eq!((books.sent, books.queued, books.dropped), (40, 4, 36));
        let (mut buffer, mut received) = ([0; 64], [RingReceived::default(); 64]);
        assert_eq!(ring.recv_batch(&mut buffer, &mut received, Timeout::Now).unwrap(), 4);
        assert_eq!(buffer[..4], [first, first + 1, first + 2, first + 3]);
        assert_eq!(ring.send_batch(&messages[..2], Timeout::Now).unwrap(), 2);
    }
}

#[test]
fn a_batch_wakes_as_many_as_it_has_messages() {
    let ring = ring();
    std::thread::scope(|threads| {
        let waiting: Vec<_> = (0..3).map(|_| threads.spawn(|| receive(&ring).0)).collect();
        assert_eq!(ring.send_batch(&[b"x", b"x", b"x"], GENEROUS).unwrap(), 3);
        for thread in waiting {
            assert_eq!(thread.join().unwrap(), b"x");
        }
    });
    balanced(&ring);
}
