//! Logs: half of those who log also stand for election; what was logged is in the file once, whole, and in each one's order.

use std::collections::HashMap;
use std::io::BufRead;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use wigwag::{Address, Log, LogOptions, LogThrough, LogWriter};

use crate::crew::{shared, soak};
use crate::support::GENEROUS;

const RECORDS: usize = 1 << 24;

#[repr(C)]
struct Notes {
    next: AtomicU64,
    /// Refusals for want of room that `log` has told of.
    refused: AtomicU64,
    /// For each record: 1 if `log` has returned for it.
    logged: [AtomicU8; RECORDS],
}

fn logs_through(through: LogThrough) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("the.log");
    let address: Address = format!("log:{}", directory.path().join("shared").display()).parse().unwrap();
    let open = |writer| {
        let timeout = Some(Duration::from_millis(20));
        let options = LogOptions { file: file.clone(), through, timeout, writer, ..Default::default() };
        Log::open(&address, LogOptions { largest: 500, participants: 64, ..options }).unwrap()
    };
    let log = open(LogWriter::Never);
    // SAFETY: atomics.
    let notes: &'static Notes = unsafe { shared() };
    let board = soak(&format!("logs through {through:?}"), |mut seat| {
        let own = seat.anew.then(|| open(LogWriter::Elected));
        let log = own.as_ref().unwrap_or(&log);
        let me = notes.next.load(Ordering::SeqCst) << 24 | u64::from(std::process::id());
        loop {
            let id = notes.next.fetch_add(1, Ordering::SeqCst);
            let padding = "x".repeat(id as usize * 37 % 200);
            let logged = log.info(&format!("{me} {id} {padding}."));
            if logged.is_err() {
                notes.refused.fetch_add(1, Ordering::SeqCst);
            }
            if seat.turn(logged, &[]).is_some() {
                notes.logged[id as usize].store(1, Ordering::SeqCst);
            }
            if seat.dice.roll(2) == 0 {
                std::thread::sleep(Duration::from_micros(200)); // the file stays within reason
            }
        }
    });
    log.drain(GENEROUS).unwrap();
    let (mut last, mut told, mut written) = (HashMap::new(), 0, 0);
    for line in std::io::BufReader::new(std::fs::File::open(&file).unwrap()).lines() {
        let line = line.unwrap();
        let message = line.split_once(": ").unwrap_or_else(|| panic!("torn: {line:?}")).1;
        if let Some((_, dropped)) = message.split_once(" dropped=") {
            told += dropped.parse::<u64>().unwrap_or_else(|_| panic!("torn: {line:?}"));
            continue;
        }
        let mut words = message.split(' ');
        let number = words.by_ref().map_while(|word| word.parse::<u64>().ok()).take(2).collect::<Vec<_>>();
        let [me, id] = number[..] else { panic!("torn: {line:?}") };
        assert_eq!(message, format!("{me} {id} {}.", "x".repeat(id as usize * 37 % 200)), "torn");
        let before = last.insert(me, id);
        assert!(before.is_none_or(|before| before < id), "{me} has logged {id} after {before:?}");
        notes.logged[id as usize].fetch_or(2, Ordering::SeqCst);
        written += 1;
    }
    let ids = notes.next.load(Ordering::SeqCst) as usize;
    let found = notes.logged[..ids].iter().map(|note| note.load(Ordering::SeqCst)).collect::<Vec<_>>();
    let count = |what: u8| found.iter().filter(|note| **note == what).count() as u64;
    let books = log.statistics().unwrap();
    let (dropped, taken_over) = (books.dropped, books.taken_over);
    println!("{} logged, {} more as they were killed; {dropped} dropped, {taken_over} taken over", count(3), count(2));
    assert_eq!(count(1), 0, "logged and not in the file");
    assert!(count(2) <= board.kills());
    // Each record is in the file once.
    assert_eq!((written, books.written, books.queued, books.damaged), (count(2) + count(3), written, 0, 0));
    let refused = notes.refused.load(Ordering::SeqCst);
    assert_eq!(told, books.dropped, "the file tells of all that was dropped");
    assert!((refused..=refused + board.kills()).contains(&told), "{told} dropped, {refused} refused");
    Log::remove(&address).unwrap();
}

#[test]
fn logs() {
    logs_through(LogThrough::Ring);
}

#[test]
fn logs_through_a_posix_queue() {
    logs_through(LogThrough::Mq);
}

#[test]
fn logs_through_a_system_v_queue() {
    logs_through(LogThrough::SysvMq);
}
