//! Every operation of a list, with victims killed and stopped at each of its points. The operations are shared among as
//! many processes as there are processors.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use super::{Kind, Point};

/// What an operation's victim is done to: killed at a point, or stopped there until the others have gone on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    Killed,
    Stopped,
}

struct Shared {
    next: AtomicUsize,
    killed: AtomicU64,
    stopped: AtomicU64,
}

/// For each operation: its name, its points, and one run to a point, which gives how long the others were held up, or
/// `None` if the victim did not come by there this time.
pub fn everywhere<O: Sync>(
    operations: &[O],
    name: impl Fn(&O) -> String,
    points: impl Fn(&O) -> Vec<Point>,
    run: impl Fn(&O, Point, End) -> Option<Duration>,
) {
    say("operation                                 points   calls  killed stopped missed    longest      took\n");
    let page = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    let size = size_of::<Shared>().try_into().unwrap();
    // SAFETY: a new mapping of zeros, never unmapped, reached through atomics only.
    let shared: &Shared = unsafe { mmap_anonymous(None, size, page, MapFlags::MAP_SHARED).unwrap().cast().as_ref() };
    let processors = sched_getaffinity(Pid::from_raw(0)).unwrap();
    let processors = (0..CpuSet::count()).filter(|cpu| processors.is_set(*cpu).unwrap()).take(8);
    let workers: Vec<_> = processors
        .map(|processor| {
            fork_worker(|| {
                // Tracer and victim take turns, so they are faster on one processor than on two.
                let mut one = CpuSet::new();
                one.set(processor).unwrap();
                sched_setaffinity(Pid::from_raw(0), &one).unwrap();
                while let Some(operation) = operations.get(shared.next.fetch_add(1, SeqCst)) {
                    one_operation(shared, &name(operation), &points(operation), |point, end| {
                        run(operation, point, end)
                    });
                }
            })
        })
        .collect();
    for worker in workers {
        assert_eq!(waitpid(worker, None).unwrap(), WaitStatus::Exited(worker, 0), "see what it wrote");
    }
    let (killed, stopped) = (shared.killed.load(SeqCst), shared.stopped.load(SeqCst));
    say(&format!("all in all: {killed} killed, {stopped} stopped and continued\n"));
    assert!(killed >= operations.len() as u64 && stopped >= operations.len() as u64);
}

fn one_operation(shared: &Shared, name: &str, points: &[Point], run: impl Fn(Point, End) -> Option<Duration>) {
    let began = Instant::now();
    assert!(!points.is_empty(), "{name}: nothing to see");
    let (mut killed, mut stopped, mut missed, mut longest) = (0, 0, 0, Duration::ZERO);
    let mut met = HashMap::new();
    for point in points {
        for (end, count) in [(End::Killed, &mut killed), (End::Stopped, &mut stopped)] {
            let held_up = run(*point, end);
            *met.entry((point.at, end)).or_insert(false) |= held_up.is_some();
            match held_up {
                Some(held_up) => (*count, longest) = (*count + 1, longest.max(held_up)),
                None => missed += 1,
            }
        }
    }
    // The clock decides how often some things are tried, and whether the second that is stored is another one; so a visit may be
    // missing, but few instructions are.
    let unmet = met.values().filter(|met| !**met).count();
    assert!(unmet * 2 < met.len(), "{name}: {unmet} of {} never met, {killed} killed, {stopped} stopped", met.len());
    shared.killed.fetch_add(killed, SeqCst);
    shared.stopped.fetch_add(stopped, SeqCst);
    let calls = points.iter().filter(|point| point.kind == Kind::BeforeCall).count();
    let (found, took) = (points.len(), began.elapsed());
    say(&format!("{name:40} {found:7} {calls:7} {killed:7} {stopped:7} {missed:6}  {longest:9.1?} {took:9.1?}\n"));
}

fn fork_worker(body: impl FnOnce()) -> Pid {
    // SAFETY: the child leaves by _exit, so nothing of the harness runs twice.
    match unsafe { libc::fork() } {
        -1 => panic!("fork: {}", std::io::Error::last_os_error()),
        0 => {
            // SAFETY: a watchdog of this process alone.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            std::panic::set_hook(Box::new(|panic| say(&format!("{panic}\n"))));
            let code = if catch_unwind(AssertUnwindSafe(body)).is_ok() { 0 } else { 101 };
            // SAFETY: ends the process without destructors of the harness.
            unsafe { libc::_exit(code) }
        }
        pid => Pid::from_raw(pid),
    }
}

/// Written at once: what the harness catches of a child's output it never shows.
fn say(text: &str) {
    // SAFETY: the text is live.
    let _ = unsafe { libc::write(1, text.as_ptr().cast(), text.len()) };
}
