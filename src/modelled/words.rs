//! Which words of which segments there are in an execution, and what the model has of each.

use std::cell::RefCell;
use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use loom::sync::atomic as modelled;

use super::{Fate, NEW_WORD, say};

/// A word of a segment: the segment by the order of their mapping, where in it, and its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    segment: usize,
    offset: usize,
    size: usize,
}

impl Place {
    fn text(self) -> String {
        format!("{} {} {}", self.segment, self.offset, self.size)
    }

    pub(super) fn parse(text: &str) -> Option<Place> {
        let numbers: Option<Vec<usize>> = text.split(' ').map(|number| number.parse().ok()).collect();
        let [segment, offset, size] = numbers?[..] else { return None };
        Some(Place { segment, offset, size })
    }
}

/// What stands for a word.
#[derive(Clone)]
pub(super) enum Word {
    /// In no segment.
    Plain,
    /// Of a thread that is dead, and changes nothing any more.
    Muted,
    Narrow(Rc<modelled::AtomicU32>),
    Wide(Rc<modelled::AtomicU64>),
}

struct Mapped {
    base: usize,
    length: usize,
    segment: usize,
}

#[derive(Default)]
struct Execution {
    running: bool,
    /// Devices and inodes, in the order in which they were first mapped.
    files: Vec<(u64, u64)>,
    mapped: Vec<Mapped>,
    words: HashMap<Place, Word>,
    expected: Vec<Place>,
    /// Threads have started: the words that they share have to be there.
    threads: bool,
    mortal: Option<loom::thread::ThreadId>,
    fate: Option<Fate>,
    dead: Option<loom::thread::ThreadId>,
    looks: u32,
    /// Orders what a thread did before it died before what those do who look whether it lives, as the kernel's answer does.
    grave: Option<Rc<modelled::AtomicU64>>,
}

thread_local! {
    // Loom runs all threads of a model on one.
    static EXECUTION: RefCell<Execution> = RefCell::default();
}

static EXECUTIONS: AtomicU64 = AtomicU64::new(0);
static ENDED: AtomicBool = AtomicBool::new(false);

struct Death;

impl Fate {
    /// Counts an access; what happens at this one.
    fn comes(&mut self) -> Option<Fate> {
        let (Fate::Dies(left) | Fate::Stops(left)) = self;
        match left.checked_sub(1) {
            Some(fewer) => *left = fewer,
            None => return Some(*self),
        }
        None
    }
}

pub(super) fn begin(expected: &[Place], fate: Option<Fate>) {
    EXECUTION.set(Execution { running: true, expected: expected.to_vec(), fate, ..Default::default() });
    let grave = Rc::new(modelled::AtomicU64::new(0));
    EXECUTION.with_borrow_mut(|execution| execution.grave = Some(grave));
    super::futex::begin();
}

pub(super) fn end() {
    EXECUTIONS.fetch_add(1, Ordering::Relaxed);
    super::futex::end();
    EXECUTION.set(Execution::default());
}

pub(super) fn executions() -> u64 {
    EXECUTIONS.load(Ordering::Relaxed)
}

pub(super) fn anybody_ended() -> bool {
    ENDED.load(Ordering::Relaxed)
}

/// Whether this is a model in which a thread stops.
pub(super) fn anybody_stops() -> bool {
    EXECUTION.with_borrow(|execution| matches!(execution.fate, Some(Fate::Stops(_))))
}

pub(super) fn is_running() -> bool {
    EXECUTION.with_borrow(|execution| execution.running)
}

/// A process maps a file: to be called after it has.
pub(crate) fn map(base: usize, length: usize, fd: impl AsFd) {
    let Ok(file) = nix::sys::stat::fstat(fd.as_fd()) else { panic!("no status of {}", fd.as_fd().as_raw_fd()) };
    EXECUTION.with_borrow_mut(|execution| {
        let file = (file.st_dev, file.st_ino);
        let known = execution.files.iter().position(|known| *known == file);
        let segment = known.unwrap_or_else(|| {
            execution.files.push(file);
            execution.files.len() - 1
        });
        execution.mapped.push(Mapped { base, length, segment });
    });
    create_expected();
}

/// A process unmaps what lies there: to be called before it does.
pub(crate) fn unmap(base: usize) {
    EXECUTION.with_borrow_mut(|execution| execution.mapped.retain(|mapped| mapped.base != base));
}

/// Those that other executions have used, so that all threads that start later know them.
fn create_expected() {
    let (expected, running) = EXECUTION.with_borrow(|execution| {
        let new = |place: &&Place| place.segment < execution.files.len() && !execution.words.contains_key(place);
        (execution.expected.iter().filter(new).copied().collect::<Vec<_>>(), execution.running)
    });
    for place in expected.into_iter().filter(|_| running) {
        create(place);
    }
}

fn create(place: Place) -> Word {
    // Segments begin as zeros, and what fills them goes through these words.
    let word = match place.size {
        4 => Word::Narrow(Rc::new(modelled::AtomicU32::new(0))),
        _ => Word::Wide(Rc::new(modelled::AtomicU64::new(0))),
    };
    EXECUTION.with_borrow_mut(|execution| execution.words.insert(place, word.clone()));
    word
}

/// Where in which segment this address is.
pub(super) fn place_of(address: usize, size: usize) -> Place {
    EXECUTION.with_borrow(|execution| {
        let mapped =
            execution.mapped.iter().find(|mapped| (mapped.base..mapped.base + mapped.length).contains(&address));
        let mapped = mapped.expect("a futex in no segment");
        Place { segment: mapped.segment, offset: address - mapped.base, size }
    })
}

/// What stands for the word at this address. A victim's thread may end instead.
pub(super) fn word_at(address: usize, size: usize) -> Word {
    if !is_running() {
        return Word::Plain;
    }
    let me = loom::thread::current().id();
    let (found, ends) = EXECUTION.with_borrow_mut(|execution| {
        let mapped =
            execution.mapped.iter().find(|mapped| (mapped.base..mapped.base + mapped.length).contains(&address));
        let Some(mapped) = mapped else { return (Ok(Word::Plain), None) };
        if execution.dead == Some(me) {
            return (Ok(Word::Muted), None);
        }
        let place = Place { segment: mapped.segment, offset: address - mapped.base, size };
        let found = execution.words.get(&place).cloned().ok_or((place, execution.threads));
        (found, execution.fate.as_mut().filter(|_| execution.mortal == Some(me)).and_then(Fate::comes))
    });
    if let Some(fate) = ends {
        ENDED.store(true, Ordering::Relaxed);
        if let Fate::Stops(_) = fate {
            super::futex::stop();
        }
        EXECUTION.with_borrow_mut(|execution| execution.dead = Some(me));
        pass_the_grave();
        std::panic::resume_unwind(Box::new(Death));
    }
    match found {
        Ok(word) => word,
        Err((place, false)) => create(place),
        Err((place, true)) => say(NEW_WORD, &place.text()),
    }
}

/// Threads start: words have to be known from here on.
pub(super) fn threads_start() {
    EXECUTION.with_borrow_mut(|execution| execution.threads = true);
}

pub(super) fn now_mortal() {
    let me = loom::thread::current().id();
    EXECUTION.with_borrow_mut(|execution| execution.mortal = Some(me));
}

pub(super) fn no_longer_mortal() {
    EXECUTION.with_borrow_mut(|execution| (execution.mortal, execution.dead) = (None, None));
}

/// Does something in which a victim does not end.
pub(super) fn immortally<T>(act: impl FnOnce() -> T) -> T {
    let me = loom::thread::current().id();
    let mortal = EXECUTION.with_borrow_mut(|execution| execution.mortal.take_if(|mortal| *mortal == me));
    let result = act();
    if mortal.is_some() {
        EXECUTION.with_borrow_mut(|execution| execution.mortal = mortal);
    }
    result
}

/// Whether this thread is dead, and only unwinding.
pub(super) fn is_muted() -> bool {
    is_running() && {
        let me = loom::thread::current().id();
        EXECUTION.with_borrow(|execution| execution.dead == Some(me))
    }
}

fn pass_the_grave() {
    let grave = EXECUTION.with_borrow(|execution| execution.grave.clone().filter(|_| execution.threads));
    if let Some(grave) = grave {
        grave.fetch_add(1, Ordering::AcqRel);
    }
}

/// A clock by which every look at who is alive is due.
pub(crate) fn about_now() -> Duration {
    pass_the_grave();
    EXECUTION.with_borrow_mut(|execution| {
        execution.looks += 1;
        Duration::from_secs(u64::from(execution.looks) * 10)
    })
}

fn words_of(address: usize, length: usize) -> impl Iterator<Item = (usize, Rc<modelled::AtomicU64>)> {
    assert!(address.is_multiple_of(8) && length.is_multiple_of(8), "models copy whole words");
    (0..length).step_by(8).filter_map(move |at| match word_at(address + at, 8) {
        Word::Wide(word) => Some((at, word)),
        Word::Muted => None,
        _ => panic!("copied to or from where no segment is"),
    })
}

/// Copies bytes into a segment, word by word.
///
/// # Safety
/// The whole range lies in a mapping.
pub(crate) unsafe fn copy_in(address: *mut u8, bytes: &[u8]) {
    for (at, word) in words_of(address as usize, bytes.len()) {
        word.store(u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap()), Ordering::Relaxed);
    }
}

/// Copies bytes out of a segment, word by word.
///
/// # Safety
/// The whole range lies in a mapping.
pub(crate) unsafe fn copy_out(address: *const u8, bytes: &mut [u8]) {
    for (at, word) in words_of(address as usize, bytes.len()) {
        bytes[at..at + 8].copy_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
    }
}
