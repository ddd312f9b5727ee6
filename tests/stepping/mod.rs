//! Runs a process instruction by instruction and finds the points at which stopping it makes a difference: after each
//! instruction that changes the segment, and before and after each system call. What lies between two such points
//! touches nothing that others can see.
//!
//! A process is stepped once to find them; later ones run freely up to a breakpoint at the instruction in question.
//!
//! x86-64 only: it recognises the system call instruction.

mod everywhere;

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;

pub use everywhere::{End, everywhere};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// What makes a point differ from the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Changed,
    BeforeCall,
    AfterCall,
}

/// A point, and how another process of the same parent comes to it.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    pub kind: Kind,
    /// The instruction that makes the change, or the call.
    at: u64,
    /// How often it has run by then, this time included.
    visit: u32,
}

/// A segment as the tracer sees it, to tell whether an instruction has changed it.
pub struct View {
    memory: NonNull<u8>,
    length: usize,
    last: Vec<u8>,
}

impl View {
    pub fn new(segment: impl AsFd) -> View {
        let length = nix::sys::stat::fstat(&segment).unwrap().st_size as usize;
        let size = length.try_into().unwrap();
        // SAFETY: a new mapping, at a place that the kernel chooses.
        let memory = unsafe { mmap(None, size, ProtFlags::PROT_READ, MapFlags::MAP_SHARED, segment, 0) }.unwrap();
        View { memory: memory.cast(), length, last: vec![0; length] }
    }

    /// Whether it differs from what it was the last time.
    fn has_changed(&mut self) -> bool {
        // SAFETY: both are live for `length` bytes; nobody writes while the only running process is this one.
        let differs = unsafe { libc::memcmp(self.memory.as_ptr().cast(), self.last.as_ptr().cast(), self.length) } != 0;
        if differs {
            // SAFETY: as above.
            unsafe { self.memory.as_ptr().copy_to_nonoverlapping(self.last.as_mut_ptr(), self.length) };
        }
        differs
    }
}

impl Drop for View {
    fn drop(&mut self) {
        // SAFETY: mapped in `new`, and nothing borrows from it.
        let _ = unsafe { munmap(self.memory.cast(), self.length) };
    }
}

/// Where the address of the next instruction is among a process's registers.
const RIP: usize = std::mem::offset_of!(libc::user, regs) + std::mem::offset_of!(libc::user_regs_struct, rip);
/// The instruction that stops.
const BREAKPOINT: libc::c_long = 0xcc;

/// Whether the instruction there is a system call.
fn is_call(at: u64) -> bool {
    // SAFETY: a victim is a fork of this process and executes what was mapped before, so the same instructions lie at the
    // same place here.
    unsafe { (at as *const [u8; 2]).read() == [0x0f, 0x05] }
}

/// A process under the tracer's hand; killed when dropped.
pub struct Victim {
    pid: Pid,
    alive: bool,
}

impl Victim {
    /// Starts a child that runs `prepare` freely, then stops; what follows is `body`, and another stop.
    pub fn start<T>(prepare: impl FnOnce() -> T, body: impl FnOnce(T)) -> Victim {
        // SAFETY: the child leaves by _exit.
        match unsafe { libc::fork() } {
            0 => {
                let run = || {
                    ptrace::traceme().unwrap();
                    // SAFETY: a watchdog of this process alone.
                    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
                    let prepared = prepare();
                    // SAFETY: stops this process for the tracer.
                    unsafe { libc::raise(libc::SIGSTOP) };
                    body(prepared);
                    // SAFETY: as above.
                    unsafe { libc::raise(libc::SIGSTOP) };
                };
                let code = if catch_unwind(AssertUnwindSafe(run)).is_ok() { 0 } else { 101 };
                // SAFETY: ends the process without destructors of the harness.
                unsafe { libc::_exit(code) }
            }
            pid => {
                let victim = Victim { pid: Pid::from_raw(pid), alive: true };
                victim.await_stop(Signal::SIGSTOP);
                victim
            }
        }
    }

    fn await_stop(&self, expected: Signal) {
        match waitpid(self.pid, None).unwrap() {
            WaitStatus::Stopped(_, signal) if signal == expected => {}
            other => panic!("the victim should have stopped with {expected}: {other:?}"),
        }
    }

    fn next_instruction(&self) -> u64 {
        ptrace::read_user(self.pid, RIP as ptrace::AddressType).unwrap() as u64
    }

    /// Steps through the body: all its points, in order.
    pub fn all_points(&mut self, view: &mut View) -> Vec<Point> {
        view.has_changed();
        let (mut points, mut visits) = (Vec::new(), HashMap::new());
        loop {
            let at = self.next_instruction();
            let visit = *visits.entry(at).and_modify(|visit| *visit += 1).or_insert(1);
            let mut found = |kind| points.push(Point { kind, at, visit });
            let calls = is_call(at);
            if calls {
                found(Kind::BeforeCall);
            }
            match self.step(view) {
                None => return points,
                Some(_) if calls => found(Kind::AfterCall),
                Some(true) => found(Kind::Changed),
                Some(false) => {}
            }
        }
    }

    /// Runs to a point; false if the body ends before.
    pub fn go_to(&mut self, point: Point, view: &mut View) -> bool {
        let mut left = point.visit;
        loop {
            while self.next_instruction() != point.at {
                if !self.run_to(point.at) {
                    return false;
                }
            }
            view.has_changed();
            left = left.saturating_sub(1);
            if left == 0 && point.kind == Kind::BeforeCall {
                return true;
            }
            match self.step(view) {
                None => return false,
                // Where the clock decides how often something is tried, this visit may not be the one that was looked for.
                Some(changed) if left == 0 && (changed || point.kind == Kind::AfterCall) => return true,
                Some(_) => {}
            }
        }
    }

    /// Runs until the instruction at this address is the next, or the body is over, which is false.
    fn run_to(&mut self, address: u64) -> bool {
        let place = address as ptrace::AddressType;
        let before = ptrace::read(self.pid, place).unwrap();
        ptrace::write(self.pid, place, before & !0xff | BREAKPOINT).unwrap();
        let mut signal = None;
        let reached = loop {
            ptrace::cont(self.pid, signal).unwrap();
            match waitpid(self.pid, None).unwrap() {
                WaitStatus::Stopped(_, Signal::SIGTRAP) => break true,
                WaitStatus::Stopped(_, Signal::SIGSTOP) => break false,
                WaitStatus::Stopped(_, other) => signal = Some(other), // its own
                other => self.ended(other),
            }
        };
        ptrace::write(self.pid, place, before).unwrap();
        if reached {
            ptrace::write_user(self.pid, RIP as ptrace::AddressType, address as libc::c_long).unwrap();
        }
        reached
    }

    fn ended(&mut self, how: WaitStatus) -> ! {
        self.alive = false;
        panic!("the victim ended by itself: {how:?}")
    }

    /// One instruction; whether it has changed the segment, or `None` if it was the last.
    fn step(&mut self, view: &mut View) -> Option<bool> {
        ptrace::step(self.pid, None).unwrap();
        match waitpid(self.pid, None).unwrap() {
            WaitStatus::Stopped(_, Signal::SIGTRAP) => Some(view.has_changed()),
            WaitStatus::Stopped(_, Signal::SIGSTOP) => None,
            WaitStatus::Stopped(_, signal) => {
                // A signal of its own (the library's timer): let it have it.
                ptrace::step(self.pid, signal).unwrap();
                self.await_stop(Signal::SIGTRAP);
                Some(view.has_changed())
            }
            other => self.ended(other),
        }
    }

    /// Lets it run to the end of its body.
    pub fn go_on(&mut self) {
        loop {
            ptrace::cont(self.pid, None).unwrap();
            match waitpid(self.pid, None).unwrap() {
                WaitStatus::Stopped(_, Signal::SIGSTOP) => return,
                WaitStatus::Stopped(..) => {}
                other => self.ended(other),
            }
        }
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        if self.alive {
            let _ = kill(self.pid, Signal::SIGKILL);
            while !matches!(
                waitpid(self.pid, None::<WaitPidFlag>),
                Ok(WaitStatus::Signaled(..) | WaitStatus::Exited(..)) | Err(_)
            ) {}
        }
    }
}
