//! The thread that runs a pool: takes in results and news of the workers, sees to what is due, starts workers.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, pipe2};

use super::engine::{Engine, News};
use super::group::{Group, Groups};
use super::launch::PoolLauncher;
use super::name::Names;
use super::options::{PoolOptions, TaskOptions};
use super::place::Worker;
use super::queue::Ticket;
use super::reaper::Reaper;
use super::seat::{Claims, WorkerSeat, open, part};
use super::signal::Changes;
use super::verdict::Verdict;
use super::wire::{Batch, Report, TASK_HEAD};
use super::{RESTART, closed};
use crate::address::{Address, Scheme};
use crate::channel::Channel;
use crate::error::{Error, Result};
use crate::sys::child::{self, End};
use crate::sys::{background, fork};
use crate::timeout::{Deadline, Timeout, about_now};
use crate::wait::Object;

/// Results taken in under one lock.
const BATCH: usize = 256;
/// How often in a row receiving may fail before the reports of a worker that has ended are given up.
const FAILURES: usize = 20;
/// What a pipe holds unless its address says otherwise, in bytes.
const PIPE_CAPACITY: usize = 65536;
/// While all workers have tasks ahead, results are taken in together: to wake a thread for each would cost more than the tasks.
/// Not those of a ring, where a result that comes while others are taken in wakes nobody.
const PAUSE: Duration = Duration::from_micros(100);
/// How soon workers that shall stop are looked at again.
const ENDING: Duration = Duration::from_millis(5);
/// Longer than another thread takes to get out of a channel.
const MOMENT: Duration = Duration::from_millis(20);
/// How long ending workers may take before they are killed, once the deadline has passed.
const GRACE: Duration = Duration::from_secs(5);

/// What the pool's threads share.
pub(super) struct Shared {
    pub object: Object,
    engine: Mutex<Engine>,
    /// There is room in the queue, or the pool is closing.
    room: Changes,
    completed: Changes,
    /// Everything is over.
    over: Changes,
    /// Until the pool is over.
    wake: Mutex<Option<Arc<Channel>>>,
    largest: usize,
    generation: u32,
}

impl Shared {
    /// Also gives what the pool's thread holds until it has let go of everything else.
    pub fn start(options: PoolOptions, launcher: Box<dyn PoolLauncher>) -> Result<(Arc<Shared>, Arc<()>)> {
        let options = options.checked()?;
        let address = match &options.address {
            Some(address) => address.clone(),
            None => Address::parse("pipe:")?,
        };
        if address.option("full").is_some_and(|full| full != b"wait") {
            return Err(Error::new(Errno::EINVAL, "pool")
                .on_text(address.to_string())
                .because("a task or a result that is dropped would have no verdict: leave out full="));
        }
        let results = part(&address, "results")?;
        part(&address, &(options.workers - 1).to_string())?; // the last of them has an address, too
        let mut largest = Channel::capabilities(&results)?.largest.unwrap_or(usize::MAX);
        if address.scheme() == Scheme::Pipe {
            // A task is sent without waiting, so it has to fit into an empty pipe, in the channel's pieces.
            let capacity =
                address.number("capacity").map_or(PIPE_CAPACITY, |n| usize::try_from(n).unwrap_or(usize::MAX));
            largest = largest.min(capacity - capacity / 16);
        }
        let names = Arc::new(Names::take(&address, options.workers)?);
        let _ = Channel::remove(&results); // what a pool that was killed has left
        let begun = Shared::begin(options, launcher, &address, &results, largest, Arc::clone(&names));
        if begun.is_err() {
            let _ = Channel::remove(&results); // now that there are descriptors for it, and before the name is another's
        }
        begun
    }

    fn begin(
        options: PoolOptions,
        launcher: Box<dyn PoolLauncher>,
        address: &Address,
        results: &Address,
        largest: usize,
        names: Arc<Names>,
    ) -> Result<(Arc<Shared>, Arc<()>)> {
        let (reports, wake) = open(results)?;
        reports.expect_senders(options.workers as usize + 1); // and the pool itself
        let (memory_limit, id) = (options.memory_limit, id());
        let shared = Arc::new(Shared {
            object: Object::new(format!("pool over {address}")),
            engine: Mutex::new(Engine::new(options, id)),
            room: Changes::default(),
            completed: Changes::default(),
            over: Changes::default(),
            wake: Mutex::new(Some(Arc::new(wake))),
            largest,
            generation: fork::generation(),
        });
        let weak = Arc::downgrade(&shared);
        let reaper = Reaper::start(memory_limit, move || {
            if let Some(shared) = weak.upgrade() {
                shared.wake();
            }
        })?;
        shared.with(|engine, _| engine.reaper = Some(Arc::clone(&reaper)));
        let manager = Manager {
            shared: Arc::clone(&shared),
            reaper: Arc::clone(&reaper),
            reports,
            address: address.clone(),
            names,
            id,
            launched: 0,
            launcher,
            received: Batch::default(),
            groups: if memory_limit > 0 { Groups::find(memory_limit) } else { None },
            retry_at: None,
        };
        let thread = Arc::new(());
        let held = Arc::clone(&thread);
        let run = move || {
            manager.run();
            drop(held);
        };
        background::spawn("wigwag-pool", 1024 * 1024, run).map_err(|errno| {
            reaper.stop();
            Error::new(errno, "pool").because("no thread can be had (memory, ulimit -u)")
        })?;
        Ok((shared, thread))
    }

    /// Returns when the pool's thread, which has come to its end, has let go of everything.
    pub fn wait_for_thread(&self, thread: &Arc<()>) {
        if self.is_own() && self.with(|engine, _| engine.closed) {
            background::wait_until_released(thread, self.generation);
        }
    }

    pub fn error(&self, errno: Errno, operation: &'static str) -> Error {
        self.object.error(errno, operation)
    }

    /// Whether this process made the pool. A child made by fork has a copy of its books, which a thread that it does not have may
    /// have locked, and nobody works on them.
    pub fn is_own(&self) -> bool {
        self.generation == fork::generation()
    }

    fn require_own(&self, operation: &'static str) -> Result<()> {
        if self.is_own() {
            return Ok(());
        }
        let error = self.error(Errno::ENOTSUP, operation);
        Err(error.because("a pool belongs to the process that made it; make one of its own in the child"))
    }

    /// As [`Shared::with`], and nothing in a child made by fork.
    pub fn with_own<T: Default>(&self, work: impl FnOnce(&mut Engine, &mut News) -> T) -> T {
        if self.is_own() { self.with(work) } else { T::default() }
    }

    /// Works on the books, and tells those whom it concerns.
    pub fn with<T>(&self, work: impl FnOnce(&mut Engine, &mut News) -> T) -> T {
        let mut news = News::default();
        let result = work(&mut self.engine.lock().unwrap_or_else(PoisonError::into_inner), &mut news);
        self.tell(news);
        result
    }

    fn tell(&self, news: News) {
        if news.room {
            self.room.announce();
        }
        if news.completed {
            self.completed.announce();
        }
        news.tickets.iter().for_each(|ticket| ticket.changes.announce());
    }

    /// Has the manager look around.
    fn wake(&self) {
        let mut message = Vec::new();
        Report::Wake.write(0, &mut message);
        // Taken out of the lock: a hook that runs in this wait may submit as well.
        let wake = self.wake.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(wake) = wake {
            // Without room it has something to look at already. Not without waiting: another thread that has just sent may still
            // be on its way out of the channel, when the manager has looked already, and would be all that keeps this from it.
            let _ = wake.send(&message, Timeout::After(MOMENT));
        }
    }

    /// The largest task that the address carries; a result may have as many bytes at least.
    pub fn largest(&self) -> usize {
        self.largest.saturating_sub(TASK_HEAD)
    }

    pub fn submit(
        &self,
        handler: u32,
        payload: Vec<u8>,
        options: TaskOptions,
        ticket: Option<Arc<Ticket>>,
        timeout: Timeout,
    ) -> Result<u64> {
        if payload.len() > self.largest() {
            return Err(self.error(Errno::EMSGSIZE, "submit").with_true_size(payload.len()).because_found(format!(
                "the task has {} bytes, and the address carries {}; give it a larger largest=, capacity= (pipe:) or size=",
                payload.len(),
                self.largest()
            )));
        }
        self.require_own("submit")?;
        let mut operation = self.object.operation("submit", timeout);
        let (mut payload, mut ticket) = (Some(payload), ticket);
        loop {
            let seen = self.room.seen();
            let submitted = self.with(|engine, _| {
                if engine.closing {
                    return Err(closed(self.error(Errno::EPIPE, "submit")));
                }
                if !engine.has_room() {
                    return Ok(None);
                }
                let was_waiting = engine.waits_for_workers();
                let number = engine.submit(handler, payload.take().unwrap_or_default(), options, ticket.take());
                let needs_workers = !was_waiting && engine.waits_for_workers();
                Ok(Some((number, needs_workers || engine.is_due_sooner())))
            })?;
            match submitted {
                Some((number, needs_a_look)) => {
                    if needs_a_look {
                        self.wake();
                    }
                    return Ok(number);
                }
                None if timeout == Timeout::Now => {
                    return Err(operation.error(Errno::EAGAIN).because("as many tasks wait as may (queue)"));
                }
                None => self.room.wait(seen, &mut operation)?,
            }
        }
    }

    /// Waits for the verdict that comes to `ticket`.
    pub fn wait(&self, ticket: &Ticket, timeout: Timeout) -> Result<Verdict> {
        self.require_own("wait for task")?;
        let mut operation = self.object.operation("wait for task", timeout);
        loop {
            let seen = ticket.changes.seen();
            if let Some(verdict) = ticket.verdict.lock().unwrap_or_else(PoisonError::into_inner).clone() {
                return Ok(verdict);
            }
            if timeout == Timeout::Now {
                return Err(operation.error(Errno::EAGAIN));
            }
            ticket.changes.wait(seen, &mut operation)?;
        }
    }

    pub fn collect(&self, most: usize, timeout: Timeout) -> Result<Vec<(u64, Verdict)>> {
        self.require_own("collect")?;
        let mut operation = self.object.operation("collect", timeout);
        loop {
            let seen = self.completed.seen();
            let found = self.with(|engine, _| {
                let found = if most < engine.completed.len() {
                    engine.completed.drain(..most).collect()
                } else {
                    Vec::from(std::mem::take(&mut engine.completed))
                };
                (!found.is_empty() || engine.closing && engine.is_done()).then_some(found)
            });
            match found {
                Some(found) => return Ok(found),
                None if timeout == Timeout::Now => return Err(operation.error(Errno::EAGAIN)),
                None => self.completed.wait(seen, &mut operation)?,
            }
        }
    }

    pub fn shutdown(&self, cancel_queued: bool, timeout: Timeout) -> Result<()> {
        if !self.is_own() {
            return Ok(()); // the parent's, which sees to it
        }
        let mut operation = self.object.operation("shut down", timeout);
        self.with(|engine, news| {
            engine.closing = true;
            news.room = true;
            news.completed = true;
            if cancel_queued {
                engine.cancel_queued(news);
            }
        });
        self.wake();
        let ended = self.until_over(&mut operation);
        // An interrupt hook's wish ends this call alone: another may go on.
        if ended.as_ref().is_err_and(|error| !error.is(Errno::EINTR)) {
            self.with(Engine::give_up);
            self.wake();
            // Killed processes end without anybody's help.
            let object = Object::new("");
            let _ = self.until_over(&mut object.operation("shut down", Timeout::After(GRACE)));
        }
        ended
    }

    fn until_over(&self, operation: &mut crate::wait::Operation<'_>) -> Result<()> {
        loop {
            let seen = self.over.seen();
            if self.with(|engine, _| engine.closed) {
                return Ok(());
            }
            if operation.timeout() == Timeout::Now {
                return Err(operation.error(Errno::EAGAIN));
            }
            self.over.wait(seen, operation)?;
        }
    }

    pub fn end_waits(&self) {
        self.object.end_waits();
    }
}

struct Manager {
    shared: Arc<Shared>,
    reaper: Arc<Reaper>,
    reports: Channel,
    address: Address,
    names: Arc<Names>,
    /// Its workers' keys: the pool's own number, and which worker it is.
    id: u32,
    launched: u32,
    launcher: Box<dyn PoolLauncher>,
    /// Reports that are being taken in.
    received: Batch,
    groups: Option<Groups>,
    /// Before that no worker is started.
    retry_at: Option<Deadline>,
}

impl Manager {
    fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        loop {
            self.start_workers();
            let (next, supplied) = shared.with(|engine, news| {
                engine.dispatch();
                (engine.tick(news), engine.is_well_supplied())
            });
            let over = shared.with(|engine, news| {
                if !engine.closing || !engine.is_done() {
                    return false;
                }
                engine.stop_all();
                news.completed = true;
                engine.is_empty()
            });
            if over {
                break;
            }
            if supplied && self.address.scheme() != Scheme::Ring {
                std::thread::sleep(PAUSE);
            }
            let retry = self.retry_at.and_then(Deadline::remaining);
            let sooner = shared.with(|engine, _| {
                // Nobody tells when a worker's channel has room again for the word that it shall stop.
                let ending = engine.tell_again() || engine.closing && engine.is_done();
                let lacks = self.retry_at.is_none() && engine.lacks_workers();
                let due = [next, retry, ending.then_some(ENDING), lacks.then_some(Duration::ZERO)];
                engine.sleep(due.into_iter().flatten().min())
            });
            self.take_in(sooner.map_or(Timeout::Forever, |after| Timeout::from(Some(after))));
        }
        self.remove_names();
        drop(self.names); // the next may come
        // Whoever waits for the end finds nothing left.
        shared.with(|engine, _| {
            engine.counts.unsaid = engine.reaper.take().map(|reaper| reaper.left_out()).unwrap_or_default();
        });
        // A thread that tells of a task just then has it for a moment longer.
        *shared.wake.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let Manager { reaper, reports, launcher, .. } = self;
        reaper.stop();
        background::wait_until_released(&reaper, shared.generation);
        drop((reaper, reports, launcher));
        shared.with(|engine, _| engine.closed = true);
        shared.over.announce();
        shared.completed.announce();
    }

    /// Waits for a report, and takes in those that are there.
    fn take_in(&mut self, timeout: Timeout) {
        self.received.clear();
        let mut failed = false;
        match self.receive(BATCH, timeout) {
            Ok(()) => {}
            Err(error) if [Errno::ETIMEDOUT, Errno::EAGAIN].iter().any(|errno| error.is(*errno)) => {}
            Err(error) => {
                failed = true; // reports may wait behind what could not be received
                // A stranger's message in a named queue was skipped; anything else may come again at once.
                self.reaper.say(&format!("results of {}: {error}", self.shared.object.address()));
                std::thread::sleep(RESTART.0);
            }
        }
        // News come after the reports that the dead had sent: those are in the channel before.
        let news_of_workers = self.reaper.news();
        if !news_of_workers.ended.is_empty() {
            self.take_in_all();
        }
        news_of_workers.ended.iter().for_each(|pid| self.reaper.hear_out(*pid));
        let ends: Vec<_> = news_of_workers
            .ended
            .iter()
            .map(|pid| {
                let foreign = || Some(End { status: self.launcher.end_of(*pid)?, peak_memory: 0 });
                (*pid, child::reap(*pid).ok().or_else(foreign))
            })
            .collect();
        let now = about_now();
        let received = &self.received;
        let pauses = self.retry_at.is_some_and(|at| !at.has_passed());
        let pause = self.shared.with(|engine, news| {
            engine.looks_at = Some(Duration::ZERO); // it is awake
            engine.is_behind = failed || received.len() >= BATCH;
            for message in received.iter() {
                match Report::read(message) {
                    Some((key, Report::Done { seat, index, payload })) => {
                        engine.report((seat, key), index, Ok(payload), now, news);
                    }
                    Some((key, Report::Failed { seat, index, reason })) => {
                        engine.report((seat, key), index, Err(reason), now, news);
                    }
                    Some((_, Report::Wake)) => {}
                    None => engine.counts.foreign += 1,
                }
            }
            engine.too_large(&news_of_workers.too_large);
            for (pid, end) in ends {
                engine.ended(pid, end, news);
            }
            engine.started_in_vain(pauses, news)
        });
        if let Some(pause) = pause {
            self.retry_at = Some(Deadline::after(Timeout::After(pause)));
        }
    }

    /// Takes in all reports that are there.
    fn take_in_all(&mut self) {
        let (mut skipped, mut failed) = (0, 0);
        loop {
            match self.receive(usize::MAX, Timeout::Now) {
                Ok(()) => (skipped, failed) = (0, 0),
                Err(error) if [Errno::ETIMEDOUT, Errno::EAGAIN].iter().any(|errno| error.is(*errno)) => return,
                // A stranger's, with more behind it; not so often in a row.
                Err(error) if error.is(Errno::EBADMSG) && skipped < BATCH => skipped += 1,
                // Such as a want of memory, which may pass: what lies behind it has verdicts that nobody else knows.
                Err(_) if failed < FAILURES => {
                    failed += 1;
                    std::thread::sleep(RESTART.0);
                }
                Err(_) => return,
            }
        }
    }

    fn receive(&mut self, most: usize, timeout: Timeout) -> Result<()> {
        let received = &mut self.received;
        self.reports.recv_each(most, timeout, |report| received.push(|bytes| bytes.extend_from_slice(report)))
    }

    fn start_workers(&mut self) {
        if self.retry_at.is_some_and(|at| !at.has_passed()) {
            return;
        }
        self.retry_at = None;
        let wanted = self.shared.with(|engine, _| engine.wanted());
        for (at, number) in wanted.iter().enumerate() {
            match self.start_worker(*number) {
                Ok(worker) => self.shared.with(|engine, _| engine.started(*number, worker)),
                Err(error) => {
                    let rest = wanted.get(at..).unwrap_or_default();
                    let not_started =
                        |engine: &mut Engine, news: &mut News| engine.not_started(rest, &error.to_string(), news);
                    let pause = self.shared.with(not_started);
                    self.reaper.say(&format!("{error}; trying again in {pause:?}"));
                    self.retry_at = Some(Deadline::after(Timeout::After(pause)));
                    return;
                }
            }
        }
    }

    fn start_worker(&mut self, number: u32) -> Result<Worker> {
        let address = part(&self.address, &number.to_string())?;
        let _ = Channel::remove(&address); // what a worker before has left unread
        let (orders, sender) = open(&address)?;
        let reports = match address.scheme() {
            Scheme::Pipe => {
                let wake = self.shared.wake.lock().unwrap_or_else(PoisonError::into_inner);
                again(wake.as_deref(), &address)?
            }
            _ => Channel::open_sender(&part(&self.address, "results")?, Timeout::Now)?,
        };
        self.launched = self.launched.wrapping_add(1);
        let claims = Claims::new(u64::from(self.id) << 32 | u64::from(self.launched))?;
        let shared_claims = claims.again()?;
        let (words, error) = words()?;
        let seat = WorkerSeat { number, orders, reports, claims: shared_claims, largest: self.shared.largest() };
        let pid = self.launcher.launch(seat, error)?;
        self.reaper.watch(pid, Some(words)).inspect_err(|_| self.dismiss(pid))?;
        Ok(Worker::new(pid, sender, claims, self.group(pid)))
    }

    /// A control group for a worker, where there can be one; else its memory is only looked at now and then.
    fn group(&mut self, pid: i32) -> Option<Group> {
        let made = self.groups.as_ref()?.make(pid);
        if made.as_ref().is_err_and(|error| error.raw_os_error() != Some(libc::ESRCH)) {
            self.groups = None; // what this process may not do once it may not do again
        }
        made.ok()
    }

    /// Ends a worker that cannot be watched.
    fn dismiss(&self, pid: i32) {
        self.reaper.forget(pid);
        // Anything else: it has ended, or is no child of this process and ends with its channel.
        if matches!(child::reap(pid), Err(Errno::EAGAIN)) {
            child::kill(pid);
            let _ = waitpid(Pid::from_raw(pid), None);
        }
    }

    fn remove_names(&self) {
        let workers = self.shared.with(|engine, _| engine.options.workers);
        let numbers = (0..workers).map(|number| number.to_string());
        for name in numbers.chain(["results".to_owned()]) {
            if let Ok(address) = part(&self.address, &name) {
                let _ = Channel::remove(&address); // pipes have no names, and not every seat was taken
            }
        }
    }
}

/// A pool's number, unlike any other's in all likelihood.
fn id() -> u32 {
    use std::hash::{BuildHasher, RandomState};
    (RandomState::new().hash_one(std::process::id()) >> 32) as u32
}

/// Another writer of the same pipe.
fn again(sender: Option<&Channel>, address: &Address) -> Result<Channel> {
    let fd = sender.and_then(Channel::as_pipe).ok_or(Errno::EBADF).and_then(crate::sys::copy_descriptor);
    Channel::from_pipe(address, fd.map_err(|errno| Error::new(errno, "pool"))?)
}

/// A pipe for a worker's standard error: the end to read, without waiting, and the end to write.
fn words() -> Result<(OwnedFd, OwnedFd)> {
    let failed = |errno| Error::new(errno, "pipe");
    let (read, write) = pipe2(OFlag::O_CLOEXEC).map_err(failed)?;
    fcntl(read.as_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(failed)?;
    Ok((read, write))
}
