//! Runs what uses shared memory under a model checker: every order in which its threads can meet, and every value that
//! the memory model lets a load have. Only there with `--cfg loom`; for this project's own tests.
//!
//! What runs is the shipping source, over real segments. An atomic in a segment is looked up by where it lies in which
//! file, so that two mappings of a segment share it, and is one of loom's; all others are what they always are, as
//! the threads of a model share no handle, or only one within which none is interrupted. Bytes that are copied in and out are relaxed words. A futex is modelled
//! (`futex.rs`), time stands still but for looks at who is alive, and a sleeper that nobody wakes is found as a deadlock.
//!
//! Loom knows sequentially consistent fences, but no such accesses. A store or exchange is modelled as one with a fence
//! behind it, a load as one that acquires, which is how x86 is made to do them; so what only such a fence gives, and no
//! access in the language's model, is not found missing.
//!
//! A model runs in a forked child: it ends at the first failure, without unwinding what it was in the middle of.

mod atomics;
mod doorbell;
pub(crate) mod futex;
pub(crate) mod membarrier;
mod words;

use std::io::{Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::{Arc, Mutex, OnceLock};

pub(crate) use atomics::{AtomicU32, AtomicU64, compiler_fence, fence};
pub use doorbell::{Doorbell, Helper};
pub(crate) use words::{about_now, copy_in, copy_out, map, unmap};

/// What is to be explored.
#[derive(Clone, Copy, Debug)]
pub struct Model {
    /// How often a thread may be interrupted that could go on; what more interruptions show is not found.
    pub preemptions: usize,
    /// Files and lines of accesses that are to be relaxed, and of fences that are to be left out: a bug to be found.
    pub seed: &'static [(&'static str, u32)],
    /// What becomes of the thread that [`victim`] started.
    pub fate: Option<Fate>,
}

/// How a thread ends, after so many accesses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Dies(usize),
    /// It lives, and does nothing more while others go on.
    Stops(usize),
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing wrong, in so many executions.
    Passed(u64),
    /// No victim came to the access at which it shall end.
    NoSuchPoint,
    /// What was wrong in one.
    Failed(String),
    /// Why nothing can be said.
    Broken(String),
}

/// What a child says at its end; the rest is text.
const PASSED: u8 = b'p';
const UNREACHED: u8 = b'u';
const FAILED: u8 = b'f';
const NEW_WORD: u8 = b'w';

static SEED: OnceLock<&'static [(&'static str, u32)]> = OnceLock::new();
/// Where the child's report goes; taken by the first who has one.
static REPORT: Mutex<Option<std::fs::File>> = Mutex::new(None);

/// The words that a scenario uses. They have to be known before its threads start, and are found as they are used: each new
/// one begins anew, so those that were found are kept for the same scenario's other models.
#[derive(Debug, Default)]
pub struct Words(Vec<words::Place>);

/// Explores a scenario. It is run from the start for each execution, and so must do the same each time.
pub fn explore(model: Model, Words(words): &mut Words, scenario: impl Fn() + Send + Sync + 'static) -> Outcome {
    let scenario: Arc<dyn Fn() + Send + Sync> = Arc::new(scenario);
    loop {
        let said = in_child(model, words, &scenario);
        let text = String::from_utf8_lossy(said.get(1..).unwrap_or_default()).into_owned();
        match said.first() {
            Some(&PASSED) => return Outcome::Passed(text.parse().unwrap_or(0)),
            Some(&UNREACHED) => return Outcome::NoSuchPoint,
            Some(&NEW_WORD) => match words::Place::parse(&text) {
                Some(place) if !words.contains(&place) => words.push(place),
                _ => return Outcome::Broken(format!("cannot be modelled: {text}")),
            },
            Some(_) => return Outcome::Failed(text),
            None => return Outcome::Broken("the model ended without a word".into()),
        }
    }
}

/// Forks, and gives what the child had to say.
fn in_child(model: Model, words: &[words::Place], scenario: &Arc<dyn Fn() + Send + Sync>) -> Vec<u8> {
    let mut ends = [0; 2];
    // SAFETY: room for two descriptors.
    assert_eq!(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) }, 0);
    // SAFETY: the two are new, and nobody else's.
    let (reader, writer) = unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) };
    // SAFETY: the child leaves by _exit; it may allocate, as glibc keeps its allocator usable over fork.
    match unsafe { libc::fork() } {
        -1 => panic!("fork: {}", std::io::Error::last_os_error()),
        0 => {
            // SAFETY: a watchdog of this process alone.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            *REPORT.lock().unwrap() = Some(writer.into());
            run(model, words, scenario)
        }
        pid => {
            drop(writer);
            let mut said = Vec::new();
            std::fs::File::from(reader).read_to_end(&mut said).unwrap();
            // SAFETY: a child of ours; its status says nothing more.
            unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
            said
        }
    }
}

fn run(model: Model, words: &[words::Place], scenario: &Arc<dyn Fn() + Send + Sync>) -> ! {
    std::panic::set_hook(Box::new(|panic| say(FAILED, &panic.to_string())));
    SEED.set(model.seed).unwrap();
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(model.preemptions);
    builder.max_branches = 1 << 20;
    let (words, scenario) = (words.to_vec(), Arc::clone(scenario));
    builder.check(move || {
        words::begin(&words, model.fate);
        let scenario = Arc::clone(&scenario);
        let all = move || {
            scenario();
            Some(())
        };
        start(all).join();
        words::end();
    });
    if model.fate.is_some() && !words::anybody_ended() {
        say(UNREACHED, "")
    }
    say(PASSED, &words::executions().to_string())
}

/// Says how it ended, and ends. Of several threads that do so, the first is heard.
fn say(what: u8, text: &str) -> ! {
    let report = REPORT.try_lock().ok().and_then(|mut report| report.take());
    if let Some(mut report) = report {
        let _ = report.write_all(&[&[what], text.as_bytes()].concat());
    }
    // SAFETY: ends the process without destructors.
    unsafe { libc::_exit(0) }
}

/// Whether what stands there is the seeded bug.
fn is_seeded(at: &std::panic::Location<'_>) -> bool {
    SEED.get().is_some_and(|seed| seed.iter().any(|(file, line)| at.line() == *line && at.file().ends_with(file)))
}

/// A thread of a model.
pub struct Thread<T> {
    handle: loom::thread::JoinHandle<Option<T>>,
    is_victim: bool,
}

impl<T> Thread<T> {
    /// Waits for its end; what it gave, `None` if it died. One that stopped is let go, and then dies: what has to go on
    /// without it is joined before.
    pub fn join(self) -> Option<T> {
        if self.is_victim && words::anybody_stops() {
            futex::let_go();
        }
        self.handle.join().unwrap()
    }
}

/// Starts a thread of a model.
pub fn spawn<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> Thread<T> {
    words::threads_start();
    start(move || Some(body()))
}

/// Starts the thread that ends at the model's point. If it dies, what it had in hand stays as it is, and what it takes part
/// in sees it gone, as everybody who sleeps does after a while.
pub fn victim<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> Thread<T> {
    words::threads_start();
    let thread = start(move || {
        words::now_mortal();
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
        words::no_longer_mortal();
        if ended.is_err() {
            futex::let_time_pass();
        }
        ended.ok()
    });
    Thread { is_victim: true, ..thread }
}

/// On a stack of its own size: the usual one is too small for all that opening a segment calls.
fn start<T: Send + 'static>(body: impl FnOnce() -> Option<T> + Send + 'static) -> Thread<T> {
    const STACK_WORDS: usize = 1 << 15;
    let handle = loom::thread::Builder::new().stack_size(STACK_WORDS).spawn(body).unwrap();
    Thread { handle, is_victim: false }
}
