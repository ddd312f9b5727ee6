//! Runs a process instruction by instruction and finds the points at which stopping it makes a difference: after each
//! instruction that changes the segment, and before and after each system call. What lies between two such points
//! touches nothing that others can see.
//!
//! x86-64 only: it recognises the system call instruction.

use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// What makes a point differ from the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    Changed,
    BeforeCall,
    AfterCall,
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

/// A process under the tracer's hand; killed when dropped.
pub struct Victim {
    pid: Pid,
    alive: bool,
}

/// Tracer and victim take turns, so they are faster on one processor than on two.
pub fn pin() -> CpuSet {
    let before = sched_getaffinity(Pid::from_raw(0)).unwrap();
    let first = (0..CpuSet::count()).find(|cpu| before.is_set(*cpu).unwrap()).unwrap();
    let mut one = CpuSet::new();
    one.set(first).unwrap();
    sched_setaffinity(Pid::from_raw(0), &one).unwrap();
    before
}

pub fn unpin(before: CpuSet) {
    sched_setaffinity(Pid::from_raw(0), &before).unwrap();
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

    /// Steps on to the next point; `None` once the body is over.
    pub fn next_point(&mut self, view: &mut View) -> Option<Point> {
        loop {
            if self.at_call() {
                return Some(Point::BeforeCall);
            }
            if self.step(view)? {
                return Some(Point::Changed);
            }
        }
    }

    /// Runs the system call that `next_point` stopped before; `None` once the body is over.
    pub fn over_call(&mut self, view: &mut View) -> Option<Point> {
        self.step(view).map(|_| Point::AfterCall)
    }

    fn at_call(&self) -> bool {
        let at = std::mem::offset_of!(libc::user, regs) + std::mem::offset_of!(libc::user_regs_struct, rip);
        let rip = ptrace::read_user(self.pid, at as ptrace::AddressType).unwrap() as u64 as *const [u8; 2];
        // SAFETY: the victim is a fork of this process and executes what was mapped before, so the same instructions lie
        // at the same place here.
        unsafe { rip.read() == [0x0f, 0x05] }
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
            other => {
                self.alive = false;
                panic!("the victim ended by itself: {other:?}")
            }
        }
    }

    /// Lets it run to the end of its body.
    pub fn go_on(&mut self) {
        loop {
            ptrace::cont(self.pid, None).unwrap();
            match waitpid(self.pid, None).unwrap() {
                WaitStatus::Stopped(_, Signal::SIGSTOP) => return,
                WaitStatus::Stopped(..) => {}
                other => {
                    self.alive = false;
                    panic!("the victim ended by itself: {other:?}")
                }
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

/// Steps to the point of this number, from 0; `None` if the body ends before.
pub fn go_to(victim: &mut Victim, view: &mut View, number: usize) -> Option<Point> {
    view.has_changed();
    let mut last = None;
    for _ in 0..=number {
        last = match last {
            Some(Point::BeforeCall) => victim.over_call(view),
            _ => victim.next_point(view),
        };
        last?;
    }
    last
}

/// All points of a body, in order.
pub fn all(victim: &mut Victim, view: &mut View) -> Vec<Point> {
    view.has_changed();
    let mut points = Vec::new();
    loop {
        let next = match points.last() {
            Some(Point::BeforeCall) => victim.over_call(view),
            _ => victim.next_point(view),
        };
        match next {
            Some(point) => points.push(point),
            None => return points,
        }
    }
}
