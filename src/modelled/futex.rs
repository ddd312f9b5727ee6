//! Sleeping on a word, as the kernel has it: to look at the word and to fall asleep is one step to those who wake.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use loom::sync::{Condvar, Mutex};
use nix::errno::Errno;

use super::AtomicU32;
use super::words::{Place, immortally, is_muted, place_of};
use crate::sys::SysResult;

#[derive(Default)]
struct Sleepers {
    /// Who sleeps on which word, and whether they have been woken.
    each: Vec<(Place, bool)>,
    /// Nobody sleeps any longer: a sleep that was too long for a model would have ended.
    time_passes: bool,
    /// A thread that stopped is let go.
    let_go: bool,
}

struct Kernel {
    sleepers: Mutex<Sleepers>,
    changed: Condvar,
}

thread_local! {
    // Loom runs all threads of a model on one.
    static KERNEL: RefCell<Option<Rc<Kernel>>> = const { RefCell::new(None) };
}

pub(super) fn begin() {
    KERNEL.set(Some(Rc::new(Kernel { sleepers: Mutex::new(Sleepers::default()), changed: Condvar::new() })));
}

pub(super) fn end() {
    KERNEL.set(None);
}

fn kernel() -> Rc<Kernel> {
    KERNEL.with_borrow(|kernel| kernel.clone()).expect("a futex outside of a model")
}

/// `EAGAIN` if the word has changed; otherwise asleep until woken, however long that takes while nobody dies.
pub(crate) fn wait(word: &AtomicU32, expected: u32, _most: Duration) -> SysResult<()> {
    if is_muted() {
        return Ok(());
    }
    let (kernel, place) = (kernel(), place_of(word.as_ptr() as usize, size_of::<u32>()));
    let mut sleepers = kernel.sleepers.lock().unwrap();
    // Whoever changes the word has done so, or will find the sleeper: an exchange reads the newest. The kernel does it,
    // and does not die.
    if immortally(|| word.fetch_or(0, Ordering::Relaxed)) != expected {
        return Err(Errno::EAGAIN);
    }
    if sleepers.time_passes {
        return Err(Errno::ETIMEDOUT);
    }
    let own = sleepers.each.len();
    sleepers.each.push((place, false));
    while !sleepers.each[own].1 {
        sleepers = kernel.changed.wait(sleepers).unwrap();
    }
    Ok(())
}

pub(crate) fn wake(word: &AtomicU32, most: u32) -> usize {
    if is_muted() {
        return 0;
    }
    let place = place_of(word.as_ptr() as usize, size_of::<u32>());
    wake_those(most as usize, |sleeper| sleeper == place)
}

/// From now on, every sleep has lasted for as long as one lasts at most.
pub(super) fn let_time_pass() {
    kernel().sleepers.lock().unwrap().time_passes = true;
    wake_those(usize::MAX, |_| true);
}

/// Does nothing until let go.
pub(super) fn stop() {
    let kernel = kernel();
    let mut sleepers = kernel.sleepers.lock().unwrap();
    while !sleepers.let_go {
        sleepers = kernel.changed.wait(sleepers).unwrap();
    }
}

pub(super) fn let_go() {
    let kernel = kernel();
    kernel.sleepers.lock().unwrap().let_go = true;
    kernel.changed.notify_all();
}

fn wake_those(most: usize, which: impl Fn(Place) -> bool) -> usize {
    let kernel = kernel();
    let mut sleepers = kernel.sleepers.lock().unwrap();
    let chosen = sleepers.each.iter_mut().filter(|(place, woken)| !*woken && which(*place)).take(most);
    let woken = chosen.map(|(_, woken)| *woken = true).count();
    drop(sleepers);
    if woken > 0 {
        kernel.changed.notify_all();
    }
    woken
}
