//! Processes come, work, are killed, stopped and continued, at random; nothing is lost, torn or doubled without the mark.
//!
//! Two seconds with the other tests, a minute with `WIGWAG_TORTURE=1`.

mod support;

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use support::{Child, fork};
use wigwag::{Ring, RingOptions, Timeout};

const WORKERS: usize = 6;
const MESSAGES: usize = 1 << 24;

/// Small, quick and the same in every run with the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }
}

/// What the workers note down for all to see, in memory of its own.
#[repr(C)]
struct Notes {
    next: AtomicU64,
    failures: AtomicU64,
    /// For each message: bit 0, it was certainly sent; bit 1, it came without the mark; bit 2, it came with it.
    messages: [AtomicU8; MESSAGES],
}

impl Notes {
    fn new() -> &'static Notes {
        let size = size_of::<Notes>().try_into().unwrap();
        let protection = nix::sys::mman::ProtFlags::PROT_READ | nix::sys::mman::ProtFlags::PROT_WRITE;
        let flags = nix::sys::mman::MapFlags::MAP_SHARED | nix::sys::mman::MapFlags::MAP_NORESERVE;
        // SAFETY: a new mapping of zeros that is never unmapped; atomics only.
        unsafe { nix::sys::mman::mmap_anonymous(None, size, protection, flags).unwrap().cast().as_ref() }
    }

    fn fail(&self, what: &str) {
        eprintln!("{what}");
        self.failures.fetch_add(1, Ordering::SeqCst);
    }

    fn came(&self, bytes: &[u8], marked: bool) {
        let Some(Ok(id)) = bytes.get(..8).map(|id| id.try_into().map(u64::from_le_bytes)) else {
            return self.fail("too short");
        };
        if bytes != message(id) {
            return self.fail("torn");
        }
        let before = self.messages[id as usize].fetch_or(if marked { 4 } else { 2 }, Ordering::SeqCst);
        if !marked && before & 6 != 0 {
            self.fail("doubled without the mark");
        }
    }
}

fn message(id: u64) -> Vec<u8> {
    let mut bytes = id.to_le_bytes().to_vec();
    // Some are longer than a slot.
    let length = if id.is_multiple_of(3) { 8 + (id as usize * 37) % 593 } else { 8 + (id as usize * 37) % 93 };
    bytes.extend((8..length).map(|at| (id as usize).wrapping_mul(31).wrapping_add(at * 7) as u8));
    bytes
}

fn options() -> RingOptions {
    let (capacity, largest, participants) = (1 << 14, 600, 32);
    RingOptions { capacity, largest, participants, lanes: 2, redeliveries: 3, persistent: true, ..Default::default() }
}

fn letters(ring: &Ring) -> Ring {
    let fd = ring.as_fd().try_clone_to_owned().unwrap();
    Ring::from_fd(fd, RingOptions { dead_letters: true, ..options() }).unwrap()
}

fn work(ring: &Ring, notes: &Notes, mut dice: Dice) {
    let letters = letters(ring);
    loop {
        let lane = dice.roll(2) as u32;
        let brief = Timeout::After(Duration::from_millis(dice.roll(20) + 1));
        let result = match dice.roll(10) {
            0..2 => {
                let id = notes.next.fetch_add(1, Ordering::SeqCst);
                ring.send_in_lane(lane, &message(id), brief).map(|()| {
                    notes.messages[id as usize].fetch_or(1, Ordering::SeqCst);
                })
            }
            2 => {
                let ids = [(); 3].map(|()| notes.next.fetch_add(1, Ordering::SeqCst));
                let messages = ids.map(message);
                ring.send_batch_in_lane(lane, &messages.each_ref().map(|message| &message[..]), brief).map(|sent| {
                    for id in &ids[..sent] {
                        notes.messages[*id as usize].fetch_or(1, Ordering::SeqCst);
                    }
                })
            }
            3 => {
                let id = notes.next.fetch_add(1, Ordering::SeqCst);
                let bytes = message(id);
                ring.reserve_in_lane(lane, bytes.len(), brief).and_then(|mut reserved| {
                    let (front, back) = bytes.split_at(bytes.len() / 2);
                    reserved.write(0, front);
                    std::thread::yield_now();
                    reserved.write(front.len(), back);
                    if dice.roll(4) == 0 {
                        return reserved.abort();
                    }
                    reserved.commit().map(|()| {
                        notes.messages[id as usize].fetch_or(1, Ordering::SeqCst);
                    })
                })
            }
            4 => letters.borrow(Timeout::Now).and_then(|borrowed| {
                notes.came(&borrowed.to_vec(), borrowed.is_redelivered());
                borrowed.release()
            }),
            // Noted before it is released: what is released and not noted is lost.
            _ => ring.borrow(brief).and_then(|borrowed| {
                notes.came(&borrowed.to_vec(), borrowed.is_redelivered());
                if dice.roll(8) == 0 { Ok(()) } else { borrowed.release() }
            }),
        };
        match result {
            Ok(()) => {}
            Err(error) if error.is(Errno::ETIMEDOUT) || error.is(Errno::EAGAIN) => {}
            Err(error) => notes.fail(&error.to_string()),
        }
    }
}

#[test]
fn nothing_is_lost_torn_or_doubled() {
    let long = std::env::var_os("WIGWAG_TORTURE").is_some();
    let (ring, notes) = (Ring::anonymous(options()).unwrap(), Notes::new());
    let seed = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64 | 1;
    println!("seed {seed}");
    let mut dice = Dice(seed);
    let worker = |dice: &mut Dice| {
        let own = Dice(dice.roll(u64::MAX >> 11) | 1);
        let anew = dice.roll(2) == 0;
        fork(|| {
            // Half of them inherit the handle, half open their own.
            if anew {
                let fd = ring.as_fd().try_clone_to_owned().unwrap();
                work(&Ring::from_fd(fd, options()).unwrap(), notes, own);
            } else {
                work(&ring, notes, own);
            }
        })
    };
    let mut workers: Vec<Child> = (0..WORKERS).map(|_| worker(&mut dice)).collect();
    let (mut kills, mut stops) = (0, 0);
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(if long { 60 } else { 2 }) && notes.failures.load(Ordering::SeqCst) == 0
    {
        std::thread::sleep(Duration::from_micros(dice.roll(3000)));
        let victim = dice.roll(WORKERS as u64) as usize;
        if dice.roll(3) == 0 {
            workers[victim].kill(libc::SIGSTOP);
            std::thread::sleep(Duration::from_micros(dice.roll(5000)));
            workers[victim].kill(libc::SIGCONT);
            stops += 1;
        } else {
            workers[victim].kill(libc::SIGKILL);
            let fresh = worker(&mut dice);
            std::mem::replace(&mut workers[victim], fresh).wait();
            kills += 1;
        }
    }
    workers.iter().for_each(|worker| worker.kill(libc::SIGKILL));
    workers.into_iter().for_each(|worker| {
        worker.wait();
    });

    // What is left, seen by one who has just come and therefore asks for the dead at once.
    let last = Ring::from_fd(ring.as_fd().try_clone_to_owned().unwrap(), options()).unwrap();
    while let Ok(borrowed) = last.borrow(Timeout::After(Duration::from_millis(20))) {
        notes.came(&borrowed.to_vec(), borrowed.is_redelivered());
        borrowed.release().unwrap();
    }
    let dead = letters(&last);
    while let Ok(borrowed) = dead.borrow(Timeout::Now) {
        notes.came(&borrowed.to_vec(), borrowed.is_redelivered());
        borrowed.release().unwrap();
    }
    drop(dead);
    let books = last.statistics().unwrap();
    println!("{kills} killed, {stops} stopped; {books:?}");
    assert_eq!(notes.failures.load(Ordering::SeqCst), 0);
    assert_eq!((books.borrowed, books.queued, books.writing, books.participants.len()), (0, 0, 0, 2));
    assert_eq!(books.sent, books.released);
    let ids = notes.next.load(Ordering::SeqCst) as usize;
    let (mut came, mut lost) = (0, 0);
    for note in &notes.messages[..ids] {
        let note = note.load(Ordering::SeqCst);
        came += u64::from(note & 6 != 0);
        lost += u64::from(note == 1);
    }
    assert_eq!((lost, came), (0, books.released), "lost, and different messages that came");
}
