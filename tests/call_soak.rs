//! Processes ask and answer, and are killed at random: every answer is the answer to its own question, every call ends, the books are
//! exact, and nothing is left behind.
//!
//! Two seconds with the other tests, most of a minute with `WIGWAG_TORTURE=1`; longer where the machine stood still.

mod support;

use std::path::Path;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use support::{Child, GENEROUS, SHORT, fork, fresh};
use wigwag::{Address, Caller, Channel, Server, Timeout};

const CALLERS: usize = 4;
const QUESTIONS: usize = 1 << 24;

/// A soak with fewer kills has shown nothing, however long it took.
const KILLS_LEAST: u64 = 30;
const LONGEST: Duration = Duration::from_secs(30);

/// What became of a question.
const HANDLED: u8 = 1;
const ENDED: u8 = 2;

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

/// What all note down, in memory of its own.
#[repr(C)]
struct Notes {
    next: AtomicU64,
    failures: AtomicU64,
    answered: AtomicU64,
    refused: AtomicU64,
    given_up: AtomicU64,
    late: AtomicU64,
    hung_up: AtomicU64,
    questions: [AtomicU8; QUESTIONS],
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

    fn mark(&self, id: u64, what: u8) {
        if self.questions[id as usize].fetch_or(what, Ordering::SeqCst) & what != 0 {
            self.fail(&format!("question {id}: twice {}", if what == HANDLED { "handled" } else { "ended" }));
        }
    }

    fn was_handled(&self, id: u64) -> bool {
        self.questions[id as usize].load(Ordering::SeqCst) & HANDLED != 0
    }
}

/// Bytes that only this question has, of several lengths.
fn question(id: u64) -> Vec<u8> {
    let mut bytes = id.to_le_bytes().to_vec();
    bytes.extend((8..8 + (id as usize * 37) % 493).map(|at| (id as usize).wrapping_mul(31).wrapping_add(at * 7) as u8));
    bytes
}

/// What a server makes of it: every eighth is refused.
fn answer(notes: &Notes, asked: &[u8]) -> Result<Vec<u8>, String> {
    let Some(id) = asked.first_chunk().map(|id| u64::from_le_bytes(*id)).filter(|id| asked == question(*id)) else {
        notes.fail("a torn question");
        return Err("torn".into());
    };
    notes.mark(id, HANDLED);
    if id % 8 == 7 { Err(format!("not {id}")) } else { Ok(asked.iter().rev().copied().collect()) }
}

fn serve(address: &Address, notes: &Notes) {
    // Over a socket the next server can have the name when the kernel has let go of the last one's.
    let server = loop {
        match Server::open(address, GENEROUS) {
            Ok(server) => break server,
            Err(error) if error.is(Errno::EADDRINUSE) => std::thread::sleep(Duration::from_millis(1)),
            Err(error) => return notes.fail(&format!("a server: {error}")),
        }
    };
    let error = server.serve(|asked| answer(notes, asked), GENEROUS).unwrap_err();
    notes.fail(&format!("a server ended: {error}"));
}

fn ask(address: &Address, notes: &Notes, mut dice: Dice) {
    loop {
        let caller = match Caller::open(address, GENEROUS) {
            Ok(caller) => caller,
            Err(error) => return notes.fail(&format!("a caller: {error}")),
        };
        let mut given_up = 0;
        for _ in 0..dice.roll(100) {
            let id = notes.next.fetch_add(1, Ordering::SeqCst);
            let asked = question(id);
            let outcome = caller.call(&asked, Timeout::After(Duration::from_millis(dice.roll(50) + 1)));
            notes.mark(id, ENDED);
            if outcome.as_ref().err().is_none_or(|error| error.is(Errno::EREMOTEIO)) && !notes.was_handled(id) {
                notes.fail("answered by nobody");
            }
            match outcome {
                Ok(answer) if id % 8 != 7 && answer.iter().rev().eq(&asked) => {
                    notes.answered.fetch_add(1, Ordering::SeqCst);
                }
                Ok(_) => notes.fail("an answer to something else"),
                Err(error) if error.is(Errno::EREMOTEIO) => {
                    if id % 8 != 7 || error.reason() != format!("not {id}") {
                        notes.fail(&format!("a refusal of something else: {error}"));
                    }
                    notes.refused.fetch_add(1, Ordering::SeqCst);
                }
                Err(error) if error.is(Errno::ETIMEDOUT) => {
                    notes.given_up.fetch_add(1, Ordering::SeqCst);
                    given_up += 1;
                }
                Err(error) if error.is(Errno::EPIPE) || error.is(Errno::ECONNRESET) => {
                    notes.hung_up.fetch_add(1, Ordering::SeqCst);
                }
                Err(error) => notes.fail(&format!("a call: {error}")),
            }
        }
        notes.late.fetch_add(caller.late(), Ordering::SeqCst);
        if caller.late() > given_up {
            notes.fail("more answers were late than questions were given up");
        }
    }
}

/// The queues that a process has open: their names stand in /proc.
fn queues_of(pid: libc::pid_t) -> Vec<String> {
    let Ok(open) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    let names =
        open.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok()?.into_os_string().into_string().ok());
    names.filter(|name| name.contains("wwtest-call-soak") && !name[1..].contains('/')).collect()
}

fn soak(address: &Address, servers: usize, directory: &Path) {
    let long = std::env::var_os("WIGWAG_TORTURE").is_some();
    let notes = Notes::new();
    let seed = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64 | 1;
    println!("{address}: seed {seed}");
    let mut dice = Dice(seed);
    let start_one = |place: usize, dice: &mut Dice| {
        let own = Dice(dice.roll(u64::MAX >> 11) | 1);
        fork(|| if place < servers { serve(address, notes) } else { ask(address, notes, own) })
    };
    let mut workers: Vec<Child> = (0..servers + CALLERS).map(|place| start_one(place, &mut dice)).collect();
    let (mut kills, mut queues) = (0, Vec::new());
    let (start, time) = (Instant::now(), Duration::from_secs(if long { 40 } else { 2 }));
    let has_failed = || notes.failures.load(Ordering::SeqCst) > 0;
    let is_answered = || notes.answered.load(Ordering::SeqCst) > 0;
    while !has_failed() && (start.elapsed() < time || kills < KILLS_LEAST || !is_answered()) {
        assert!(start.elapsed() < time + LONGEST, "{kills} killed; an answer: {}", is_answered());
        std::thread::sleep(Duration::from_micros(dice.roll(20_000)));
        let place = dice.roll(workers.len() as u64) as usize;
        workers[place].kill(libc::SIGSTOP);
        queues.extend(queues_of(workers[place].pid()));
        if dice.roll(4) == 0 {
            std::thread::sleep(Duration::from_micros(dice.roll(20_000)));
            workers[place].kill(libc::SIGCONT);
        } else {
            workers[place].kill(libc::SIGKILL);
            let fresh = start_one(place, &mut dice);
            std::mem::replace(&mut workers[place], fresh).wait();
            kills += 1;
        }
    }
    // A server that nobody kills any more, and a caller: they go on, whatever the others have left half done.
    let answered = notes.answered.load(Ordering::SeqCst);
    for worker in workers.drain(..) {
        worker.kill(libc::SIGSTOP);
        queues.extend(queues_of(worker.pid()));
        worker.kill(libc::SIGKILL);
        worker.wait();
    }
    let server = Server::open(address, GENEROUS).unwrap();
    let mut handled = 0;
    let mut handle = |timeout| {
        let question = server.next(timeout)?;
        handled += 1;
        let answer = answer(notes, question.message());
        question.answer(answer.as_deref().map_err(String::as_str));
        Ok::<(), wigwag::Error>(())
    };
    while handle(SHORT).is_ok() {} // what the dead have asked
    let caller = Caller::open(address, GENEROUS).unwrap();
    let mut own = 0;
    let mut own_question = || {
        own += 1;
        question(notes.next.fetch_add(1, Ordering::SeqCst))
    };
    for _ in 0..3 {
        assert_eq!(caller.call(&own_question(), SHORT).unwrap_err().errno(), libc::ETIMEDOUT);
    }
    std::thread::scope(|scope| {
        let serving = scope.spawn(|| {
            loop {
                if let Err(error) = handle(GENEROUS) {
                    break assert_eq!(error.errno(), libc::ECANCELED, "{error}");
                }
            }
        });
        for _ in 0..8 {
            let asked = own_question();
            match caller.call(&asked, GENEROUS) {
                Ok(answer) => assert!(answer.iter().rev().eq(&asked)),
                Err(error) => assert!(error.is(Errno::EREMOTEIO), "{error}"),
            }
        }
        server.end_waits();
        serving.join().unwrap();
    });
    let of_the_dead = handled - own;
    let count = |number: &AtomicU64| number.load(Ordering::SeqCst);
    println!(
        "{kills} killed; {answered} answered, {} refused, {} given up, {} of them late, {} hung up; {} of the dead",
        count(&notes.refused),
        count(&notes.given_up),
        count(&notes.late),
        count(&notes.hung_up),
        of_the_dead,
    );
    assert_eq!(notes.failures.load(Ordering::SeqCst), 0);
    assert_ne!(answered, 0, "nobody got an answer");
    assert_eq!(caller.late(), 3);
    assert_eq!(
        (server.dropped(), server.foreign()),
        (of_the_dead, 0),
        "what the dead have asked is answered for nobody"
    );

    drop((caller, server));
    let _ = Channel::remove(address); // a socket's name has gone with its server
    assert_eq!(std::fs::read_dir(directory).unwrap().count(), 0, "left behind");
    let left = queues.iter().filter(|name| Channel::remove(&format!("mq:{name}").parse().unwrap()).is_ok()).count();
    if Path::new("/dev/mqueue").is_dir() {
        assert_eq!(left, 0, "queues left behind");
    } else if left > 0 {
        println!("{left} queues of killed callers could be found by nobody, as /dev/mqueue is not mounted here");
    }
}

#[test]
fn over_a_ring() {
    let directory = tempfile::tempdir().unwrap();
    soak(&format!("ring:{}/questions", directory.path().display()).parse().unwrap(), 2, directory.path());
}

#[test]
fn over_a_queue() {
    let directory = tempfile::tempdir().unwrap();
    // Small ones: the user's queues share a limit.
    soak(&format!("mq:/{}?depth=4&size=600", fresh("call-soak")).parse().unwrap(), 2, directory.path());
}

#[test]
fn over_a_socket() {
    let directory = tempfile::tempdir().unwrap();
    soak(&format!("unix:{}/questions", directory.path().display()).parse().unwrap(), 1, directory.path());
}
