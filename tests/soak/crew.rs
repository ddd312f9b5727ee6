//! Those who work, and what happens to them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use wigwag::{Result, Timeout};

use crate::support::{Child, fork};

pub const WORKERS: usize = 6;

/// A soak with fewer has shown nothing: the machine may have stood still for all its time.
const KILLS_LEAST: u64 = 100;

const GOES_ON_WITHIN: Duration = Duration::from_secs(30);

/// Small, quick and the same in every run with the same seed.
pub struct Dice(u64);

impl Dice {
    /// That of a run, whose seed is told.
    pub fn new(what: &str) -> Dice {
        let seed = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64 | 1;
        println!("{what}: seed {seed}");
        Dice(seed)
    }

    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }

    /// Some milliseconds.
    pub fn brief(&mut self) -> Timeout {
        Timeout::After(Duration::from_millis(self.roll(20) + 1))
    }
}

/// Memory of zeros for all to see, for ever.
///
/// # Safety
/// `T` is made of atomics.
pub unsafe fn shared<T>() -> &'static T {
    let size = size_of::<T>().try_into().unwrap();
    let protection = nix::sys::mman::ProtFlags::PROT_READ | nix::sys::mman::ProtFlags::PROT_WRITE;
    let flags = nix::sys::mman::MapFlags::MAP_SHARED | nix::sys::mman::MapFlags::MAP_NORESERVE;
    // SAFETY: a new mapping of zeros that is never unmapped; the caller answers for the type.
    unsafe { nix::sys::mman::mmap_anonymous(None, size, protection, flags).unwrap().cast().as_ref() }
}

/// What workers have to say.
pub struct Board {
    failures: AtomicU64,
    kills: AtomicU64,
    turns: [AtomicU64; WORKERS],
}

impl Board {
    pub fn fail(&self, what: &str) {
        crate::support::write_at_once(2, &format!("{what}\n")); // what the harness catches of a child's it never shows
        self.failures.fetch_add(1, Ordering::SeqCst);
    }

    /// How many workers were killed, those at the end included.
    pub fn kills(&self) -> u64 {
        self.kills.load(Ordering::SeqCst)
    }

    pub fn has_failed(&self) -> bool {
        self.failures.load(Ordering::SeqCst) > 0
    }
}

/// A worker's place, which another takes when it is killed.
pub struct Seat {
    pub number: usize,
    /// Half of them inherit the handle, half open their own.
    pub anew: bool,
    pub dice: Dice,
    pub board: &'static Board,
}

impl Seat {
    /// A turn is over: it went on, or waited in vain, or ended with what may happen to it here.
    pub fn turn<T>(&self, result: Result<T>, may_be: &[Errno]) -> Option<T> {
        self.board.turns[self.number].fetch_add(1, Ordering::SeqCst);
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                if ![Errno::ETIMEDOUT, Errno::EAGAIN].iter().chain(may_be).any(|errno| error.is(*errno)) {
                    self.board.fail(&error.to_string());
                }
                None
            }
        }
    }
}

/// How long all this goes on.
pub fn time_to_soak() -> Duration {
    let long = std::env::var_os("WIGWAG_TORTURE").is_some();
    Duration::from_millis(if long { 60_000 } else { 1500 })
}

/// Has workers work for a while that are killed, stopped and continued; then all go on when they are let, and are killed.
/// `work` never returns.
pub fn soak(what: &str, work: impl Fn(Seat)) -> &'static Board {
    // SAFETY: atomics.
    let board: &'static Board = unsafe { shared() };
    let seed = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64 | 1;
    println!("{what}: seed {seed}");
    let mut dice = Dice(seed);
    let worker = |number, dice: &mut Dice| {
        let own = Dice(dice.roll(u64::MAX >> 11) | 1);
        let anew = dice.roll(2) == 0;
        fork(|| work(Seat { number, anew, dice: own, board }))
    };
    let mut workers: Vec<Child> = (0..WORKERS).map(|number| worker(number, &mut dice)).collect();
    let (mut kills, mut stops) = (0, 0);
    let start = Instant::now();
    while (start.elapsed() < time_to_soak() || kills < KILLS_LEAST) && !board.has_failed() {
        std::thread::sleep(Duration::from_micros(dice.roll(3000)));
        let victim = dice.roll(WORKERS as u64) as usize;
        if dice.roll(3) == 0 {
            workers[victim].kill(libc::SIGSTOP);
            std::thread::sleep(Duration::from_micros(dice.roll(5000)));
            workers[victim].kill(libc::SIGCONT);
            stops += 1;
        } else {
            workers[victim].kill(libc::SIGKILL);
            let fresh = worker(victim, &mut dice);
            ended(std::mem::replace(&mut workers[victim], fresh), board);
            kills += 1;
        }
    }
    // Nobody waits for ever for what one of the dead had.
    let turns = || board.turns.each_ref().map(|turns| turns.load(Ordering::SeqCst));
    let (before, start) = (turns(), Instant::now());
    let stuck = || turns().iter().zip(before).position(|(now, before)| *now <= before + 1);
    while let Some(seat) = stuck().filter(|_| !board.has_failed()) {
        let pid = workers[seat].pid();
        assert!(start.elapsed() < GOES_ON_WITHIN, "{what}, seed {seed}: {seat} does not go on:\n{}", state_of(pid));
        std::thread::sleep(Duration::from_millis(1));
    }
    println!("{what}: {kills} killed, {stops} stopped, all went on after {:.1?}", start.elapsed());
    workers.iter().for_each(|worker| worker.kill(libc::SIGKILL));
    board.kills.store(kills + WORKERS as u64, Ordering::SeqCst);
    workers.into_iter().for_each(|worker| ended(worker, board));
    assert!(!board.has_failed(), "{what}, seed {seed}");
    board
}

/// What each thread of a process is at.
fn state_of(pid: libc::pid_t) -> String {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let told = |file: &std::path::Path| std::fs::read_to_string(file).unwrap_or_default();
    let tell = |task: std::fs::DirEntry| {
        let [status, syscall, wchan] = ["status", "syscall", "wchan"].map(|name| told(&task.path().join(name)));
        let lines =
            status.lines().filter(|line| ["Name", "State", "Sig", "Shd"].iter().any(|start| line.starts_with(start)));
        format!("{}\nin {wchan}, call {syscall}", lines.collect::<Vec<_>>().join("\n"))
    };
    tasks.map(tell).collect::<Vec<_>>().join("\n")
}

/// Nobody ends but by being killed.
fn ended(worker: Child, board: &Board) {
    let status = worker.wait();
    if !libc::WIFSIGNALED(status) || libc::WTERMSIG(status) != libc::SIGKILL {
        board.fail(&format!("a worker ended with wait status {status:#x}"));
    }
}
