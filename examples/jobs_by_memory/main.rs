//! Producers and consumers over shared memory and semaphores, put together by hand: a buffer of eight places.
//!
//! `jobs_by_memory MEMORY SEMAPHORES LOCK`: `shm:/jobs` or `sysv-shm:.#1`, `sem:/jobs` or `sysv-sem:.#2`, `file:lock`. The
//! places say what there is; changing one takes the lock, which the kernel releases when its holder dies. The semaphores only
//! say when it is worth looking: one permit too many is harmless, and one that died with its taker is replaced. Two consumers
//! are killed with SIGKILL, one while it works and one while it holds the lock; others do their jobs again. Nothing is lost.

use std::collections::HashSet;
use std::ops::Deref;
use std::time::Duration;

use nix::sys::signal::{Signal, raise};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use wigwag::{
    Address, File, FileCreate, FileLock, FileOptions, FileRange, LockMode, Mapping, MemoryOptions, Result, Scheme, Sem,
    SemOptions, Shm, SysvSem, SysvSemOptions, SysvShm, Timeout, WaitSet, WaitSetEvent,
};

const PRODUCERS: usize = 3;
const CONSUMERS: usize = 4;
const EACH: usize = 100;
const PLACES: usize = 8;
const PATIENCE: Timeout = Timeout::After(Duration::from_secs(30));

/// A place: its state, how often its job was taken, by which process, which job.
const PLACE: usize = 16;
const TIMES: usize = 1;
const OWNER: usize = 4;
const JOB: usize = 8;
const EMPTY: u8 = 0;
const FULL: u8 = 1;
const TAKEN: u8 = 2;
/// Behind the places: a byte for each job that is done, a byte that says that no job will come.
const DONE: usize = PLACES * PLACE;
const STOP: usize = 500;
const SIZE: usize = 512;

const DIES_AT_WORK: u32 = 150;
const DIES_WITH_THE_LOCK: u32 = 220;

/// Which semaphore: places that are full, places that are not.
const FILLED: usize = 0;
const ROOM: usize = 1;

enum Semaphores {
    Posix([Sem; 2]),
    SystemV(SysvSem),
}

impl Semaphores {
    fn create(address: &Address) -> std::result::Result<Semaphores, Box<dyn std::error::Error>> {
        if address.scheme() == Scheme::SysvSem {
            let options = SysvSemOptions { values: vec![0, PLACES as u16], ..Default::default() };
            return Ok(Semaphores::SystemV(SysvSem::create(address, &options)?));
        }
        let one = |name: &str, initial| -> std::result::Result<Sem, Box<dyn std::error::Error>> {
            Ok(Sem::create(&format!("{address}-{name}").parse()?, &SemOptions { initial, ..Default::default() })?)
        };
        Ok(Semaphores::Posix([one("filled", 0)?, one("room", PLACES as u32)?]))
    }

    fn take(&self, which: usize) -> Result<()> {
        match self {
            Semaphores::Posix(pair) => pair[which].take(PATIENCE),
            // Permits come back by what is in the places, not by who died: so without the kernel's undo.
            Semaphores::SystemV(set) => set.add(which as u16, -1, PATIENCE),
        }
    }

    fn put(&self, which: usize, permits: usize) -> Result<()> {
        match self {
            Semaphores::Posix(pair) => pair[which].release_many(permits as u32),
            Semaphores::SystemV(set) => set.add(which as u16, permits as i16, Timeout::Now),
        }
    }

    fn remove(&self) -> std::result::Result<(), Box<dyn std::error::Error>> {
        match self {
            Semaphores::Posix(pair) => {
                for semaphore in pair {
                    Sem::remove(&semaphore.address().parse()?)?;
                }
            }
            Semaphores::SystemV(set) => set.unlink()?,
        }
        Ok(())
    }
}

struct Buffer {
    memory: Box<dyn Deref<Target = Mapping>>,
    semaphores: Semaphores,
    lock: File,
}

impl Buffer {
    fn lock(&self) -> Result<FileLock> {
        self.lock.lock(LockMode::Exclusive, FileRange::WHOLE, PATIENCE)
    }

    fn byte(&self, at: usize) -> Result<u8> {
        let mut byte = [0];
        self.memory.read_at(at, &mut byte)?;
        Ok(byte[0])
    }

    fn set(&self, at: usize, byte: u8) -> Result<()> {
        self.memory.write_at(at, &[byte])
    }

    fn word(&self, at: usize) -> Result<u32> {
        let mut word = [0; 4];
        self.memory.read_at(at, &mut word)?;
        Ok(u32::from_ne_bytes(word))
    }

    /// Where the places of this state are.
    fn places(&self, state: u8) -> Result<Vec<usize>> {
        let mut found = Vec::new();
        for at in (0..PLACES).map(|number| number * PLACE) {
            if self.byte(at)? == state {
                found.push(at);
            }
        }
        Ok(found)
    }

    fn produce(&self, producer: usize) -> Result<()> {
        for job in producer * EACH..(producer + 1) * EACH {
            loop {
                self.semaphores.take(ROOM)?;
                let _lock = self.lock()?;
                if let Some(at) = self.places(EMPTY)?.first() {
                    self.set(at + TIMES, 0)?;
                    self.memory.write_at(at + JOB, &(job as u32).to_ne_bytes())?;
                    self.set(*at, FULL)?; // from here on it is sent
                    break;
                }
            }
            self.semaphores.put(FILLED, 1)?;
        }
        Ok(())
    }

    fn consume(&self) -> Result<()> {
        loop {
            self.semaphores.take(FILLED)?;
            let lock = self.lock()?;
            let Some(&at) = self.places(FULL)?.first() else {
                if self.byte(STOP)? != 0 && self.places(TAKEN)?.is_empty() {
                    return Ok(());
                }
                continue;
            };
            let (job, times) = (self.word(at + JOB)?, self.byte(at + TIMES)?);
            self.set(at + TIMES, times + 1)?;
            self.memory.write_at(at + OWNER, &std::process::id().to_ne_bytes())?;
            self.set(at, TAKEN)?; // from here on it is this process's
            if job == DIES_WITH_THE_LOCK && times == 0 {
                let _ = raise(Signal::SIGKILL);
            }
            drop(lock);
            if job == DIES_AT_WORK && times == 0 {
                let _ = raise(Signal::SIGKILL);
            }
            let lock = self.lock()?;
            self.set(DONE + job as usize, 1)?; // from here on it is done
            self.set(at, EMPTY)?;
            drop(lock);
            self.semaphores.put(ROOM, 1)?;
            if self.byte(STOP)? != 0 {
                self.semaphores.put(FILLED, CONSUMERS)?; // that was the last one, maybe
            }
        }
    }

    /// Gives back what a dead process held; how many jobs will be done again.
    fn recover(&self, dead: Pid) -> Result<usize> {
        let mut again = 0;
        let lock = self.lock()?;
        for at in self.places(TAKEN)? {
            if self.word(at + OWNER)? == dead.as_raw() as u32 {
                let done = self.byte(DONE + self.word(at + JOB)? as usize)? != 0;
                self.set(at, if done { EMPTY } else { FULL })?;
                again += usize::from(!done);
            }
        }
        drop(lock);
        // And the permit that it had taken in vain, or had not put back yet.
        self.semaphores.put(FILLED, again + 1)?;
        self.semaphores.put(ROOM, 1)?;
        Ok(again)
    }
}

/// Runs it in a child, and gives its pid.
fn start(work: impl FnOnce() -> Result<()>) -> nix::Result<Pid> {
    // SAFETY: this program has one thread.
    match unsafe { fork()? } {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => std::process::exit(match work() {
            Ok(()) => 0,
            Err(error) => {
                eprintln!("{error}");
                1
            }
        }),
    }
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let [memory, semaphores, lock]: [Address; 3] = std::env::args()
        .skip(1)
        .map(|text| text.parse())
        .collect::<Result<Vec<_>>>()?
        .try_into()
        .map_err(|_| "usage")?;
    let options = MemoryOptions { size: SIZE, ..Default::default() };
    let system_v = memory.scheme() == Scheme::SysvShm;
    let buffer = Buffer {
        memory: if system_v {
            Box::new(SysvShm::create(&memory, &options)?)
        } else {
            Box::new(Shm::create(&memory, &options)?)
        },
        semaphores: Semaphores::create(&semaphores)?,
        lock: File::open(&lock, &FileOptions { create: FileCreate::IfMissing, ..Default::default() })?,
    };
    let waitset = WaitSet::new()?;
    let mut producers = HashSet::new();
    for number in 0..PRODUCERS + CONSUMERS {
        let produces = number < PRODUCERS;
        let child = start(|| if produces { buffer.produce(number) } else { buffer.consume() })?;
        waitset.add_child(child.as_raw(), child.as_raw() as u64)?;
        if produces {
            producers.insert(child);
        }
    }
    let (mut sent, mut killed, mut again) = (0, 0, 0);
    while !waitset.is_empty() {
        let mut events = [WaitSetEvent::default(); 8];
        let ready = waitset.wait(&mut events, PATIENCE)?;
        for event in &events[..ready] {
            waitset.remove(event.token)?;
            let child = Pid::from_raw(event.token as i32);
            let status = waitpid(child, None)?;
            let ended_well = matches!(status, WaitStatus::Exited(_, 0));
            killed += usize::from(matches!(status, WaitStatus::Signaled(..)));
            if !ended_well {
                again += buffer.recover(child)?;
            }
            if producers.remove(&child) {
                sent += if ended_well { EACH } else { 0 };
                if producers.is_empty() {
                    buffer.set(STOP, 1)?;
                    buffer.semaphores.put(FILLED, CONSUMERS)?;
                }
            }
        }
    }
    let done: usize = buffer.memory.read_vec(DONE, PRODUCERS * EACH)?.iter().map(|done| *done as usize).sum();
    let lost = sent - done;
    println!("{sent} sent, {done} done, {again} of them again after {killed} consumers were killed, {lost} lost");

    if system_v {
        SysvShm::remove(&memory)?
    } else {
        Shm::remove(&memory)?
    }
    buffer.semaphores.remove()?;
    File::remove(&lock)?;
    Ok(())
}
