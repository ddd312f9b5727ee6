//! The thread that watches the workers from outside: their ends, what they say on standard error, their memory.

use std::collections::HashMap;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::outlet::Outlet;
use crate::error::Result;
use crate::eventfd::EventFd;
use crate::sys::background;
use crate::timeout::Timeout;
use crate::waitset::{Interest, WaitSet, WaitSetEvent};

/// Bytes of last words that are kept per worker.
const KEPT: usize = 4096;
/// What a pipe holds, in pieces as they are read: no more at once, for a worker, or what it has started, may say more without end.
const PIECES: usize = 16;
/// How often memory is looked at.
const MEMORY_PERIOD: Duration = Duration::from_millis(50);

const STOP: u64 = u64::MAX;
const TICK: u64 = u64::MAX - 1;
/// Set in the token of a worker's standard error.
const WORDS: u64 = 1 << 63;

/// What has happened since somebody looked.
#[derive(Default)]
pub(super) struct Seen {
    /// Workers that have ended, by pid.
    pub ended: Vec<i32>,
    /// Workers that have more memory than they may, by pid.
    pub too_large: Vec<i32>,
}

/// Shared by the thread and the pool.
pub(super) struct Reaper {
    set: WaitSet,
    stop: EventFd,
    watched: Mutex<HashMap<u64, Watched>>,
    seen: Mutex<Seen>,
    /// Its lock comes before that of `watched`, never behind it.
    outlet: Outlet,
    memory_limit: u64,
}

struct Watched {
    words: Option<std::fs::File>,
    last: Vec<u8>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn token(pid: i32) -> u64 {
    u64::from(pid.unsigned_abs())
}

impl Reaper {
    /// Starts the thread, which calls `wake` whenever there is something to see.
    pub fn start(memory_limit: u64, wake: impl Fn() + Send + 'static) -> Result<Arc<Reaper>> {
        let reaper = Arc::new(Reaper {
            set: WaitSet::new()?,
            stop: EventFd::new()?,
            watched: Mutex::default(),
            seen: Mutex::default(),
            outlet: Outlet::default(),
            memory_limit,
        });
        reaper.set.add(&reaper.stop, Interest::READABLE, STOP)?;
        if memory_limit > 0 {
            reaper.set.add_timer(MEMORY_PERIOD, Some(MEMORY_PERIOD), TICK)?;
        }
        let shared = Arc::clone(&reaper);
        background::spawn("wigwag-reaper", 256 * 1024, move || shared.run(&wake)).map_err(|errno| {
            crate::error::Error::new(errno, "pool").because("no thread can be had (memory, ulimit -u)")
        })?;
        Ok(reaper)
    }

    fn run(&self, wake: &dyn Fn()) {
        let mut events = [WaitSetEvent::default(); 32];
        loop {
            // Fails only if the set is closed, and it lives as long as this thread does.
            let Ok(found) = self.set.wait(&mut events, Timeout::Forever) else { return };
            let mut news = false;
            for event in &events[..found] {
                match event.token {
                    STOP => return,
                    TICK => news |= self.look_at_memory(),
                    words if words & WORDS != 0 => self.listen(words),
                    child => {
                        let _ = self.set.remove(child); // it may have been forgotten meanwhile
                        lock(&self.seen).ended.extend(i32::try_from(child));
                        news = true;
                    }
                }
            }
            if news {
                wake();
            }
        }
    }

    /// Watches a worker, and what it writes to `words`.
    pub fn watch(&self, pid: i32, words: Option<OwnedFd>) -> Result<()> {
        let words = words.map(std::fs::File::from);
        if let Some(words) = &words {
            self.set.add(words, Interest::READABLE, token(pid) | WORDS)?;
        }
        lock(&self.watched).insert(token(pid), Watched { words, last: Vec::new() });
        self.set.add_child(pid, token(pid))
    }

    /// Passes on what a worker that has ended has said.
    pub fn hear_out(&self, pid: i32) {
        self.listen(token(pid) | WORDS);
    }

    /// The last words of a worker that has ended; it is watched no more. What it has said that [`Reaper::hear_out`] has not passed on
    /// is not passed on.
    pub fn forget(&self, pid: i32) -> String {
        for _ in 0..PIECES {
            if self.hear(token(pid) | WORDS).is_none() {
                break;
            }
        }
        let Some(watched) = lock(&self.watched).remove(&token(pid)) else { return String::new() };
        if watched.words.is_some() {
            let _ = self.set.remove(token(pid) | WORDS); // at its end it is out already
        }
        String::from_utf8_lossy(&watched.last).into_owned()
    }

    /// Says something of the pool's own, as what workers say is passed on.
    pub fn say(&self, line: &str) {
        self.outlet.pass([format!("wigwag: {line}\n").into_bytes()]);
    }

    /// Bytes of the workers' standard error that were not passed on, as there was no room.
    pub fn left_out(&self) -> u64 {
        self.outlet.left_out()
    }

    /// What has happened since the last call.
    pub fn news(&self) -> Seen {
        std::mem::take(&mut lock(&self.seen))
    }

    /// Ends the thread. What was left out last is told if there is room now.
    pub fn stop(&self) {
        self.outlet.pass([Vec::new()]);
        let _ = self.stop.add(1, Timeout::Now); // full only if it was stopped before
    }

    /// Passes on what a worker says; if there is more, the next look at the set says so.
    fn listen(&self, token: u64) {
        self.outlet.pass(std::iter::from_fn(|| self.hear(token)).take(PIECES));
    }

    /// What a worker has just said, the end of which is kept; `None` if there is nothing more for now.
    fn hear(&self, token: u64) -> Option<Vec<u8>> {
        let mut watched = lock(&self.watched);
        let found = watched.get_mut(&(token & !WORDS))?;
        let mut buffer = [0; 4096];
        let length = found.words.as_mut()?.read(&mut buffer).ok()?;
        let said = buffer.get(..length)?;
        if said.is_empty() {
            let _ = self.set.remove(token);
            found.words = None;
            return None;
        }
        found.last.extend_from_slice(said);
        let excess = found.last.len().saturating_sub(KEPT);
        found.last.drain(..excess);
        Some(said.to_vec())
    }

    fn look_at_memory(&self) -> bool {
        let workers: Vec<i32> = lock(&self.watched).keys().filter_map(|token| i32::try_from(*token).ok()).collect();
        let too_large = workers.into_iter().filter(|pid| resident(*pid) > self.memory_limit);
        let mut seen = lock(&self.seen);
        seen.too_large = too_large.collect();
        !seen.too_large.is_empty()
    }
}

/// The memory that a process has resident for itself, in bytes; 0 if it cannot be told.
///
/// Without the pages of files and of shared memory. Those of a memory file, in which Python's arguments come, are its
/// writer's, stay when this process ends, and would be counted once for each that looks at them; those of the disk's files the system
/// lets go of when it needs memory. To end the process for either would give back nothing.
pub(super) fn resident(pid: i32) -> u64 {
    let pages = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten();
    own_pages(&pages) * page.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(4096)
}

/// Of statm: its second number counts all pages, its third those of files and shared memory.
fn own_pages(statm: &str) -> u64 {
    let mut pages = statm.split(' ').skip(1).map_while(|number| number.parse::<u64>().ok());
    let all = pages.next().unwrap_or(0);
    all.saturating_sub(pages.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_others_do_not_count() {
        assert_eq!(own_pages("5000 900 300 20 0 700 0\n"), 600);
        assert_eq!(own_pages("5000 100 300 20 0 700 0\n"), 0); // read at two moments
        assert_eq!(own_pages(""), 0);
    }
}
