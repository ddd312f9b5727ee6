//! The pool's books: which task waits, which one is whose, and what becomes of it.
//!
//! One lock guards all of it; what may block (starting workers, waiting for results) happens outside.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::options::{PoolOptions, PoolStatistics, TaskOptions, WorkerStatistics};
use super::reaper::{Reaper, resident};
use super::seat::{Claims, order};
use super::signal::Changes;
use super::verdict::{Death, DeathReason, Verdict};
use super::wire::Order;
use crate::channel::Channel;
use crate::sys::child::{self, End};
use crate::timeout::about_now;

/// Work that a worker is sent ahead, as time: enough to hide the way to it.
const AHEAD: Duration = Duration::from_millis(1);
/// Most tasks ahead.
const AHEAD_MOST: usize = 256;
/// Tasks with which a worker is busy for longer than the manager pauses.
const SUPPLY: usize = 32;
/// A worker that has held its first task for so long is not going to get to the others soon.
const STUCK: Duration = Duration::from_millis(5);
/// How soon a worker is tried again that had no room, and how often before its channel is found to be too small.
const ROOM_AGAIN: Duration = Duration::from_millis(5);
const REFUSALS: u32 = 1000;
/// Workers that end before they have done anything, one after the other, until a task is failed for it.
const FALSE_STARTS: u32 = 3;
/// The most indices that one worker is sent.
const INDICES: u32 = 1 << 31;

/// A task, from submission to verdict.
pub(super) struct Task {
    pub number: u64,
    pub handler: u32,
    pub payload: Vec<u8>,
    pub options: TaskOptions,
    /// Its place among those of the same priority.
    place: u64,
    deaths: Vec<Death>,
    /// How often a worker without anything to do had no room for it.
    refused: u32,
    ticket: Option<Arc<Ticket>>,
}

/// Where whoever waits for one task finds its verdict.
#[derive(Default)]
pub(super) struct Ticket {
    pub verdict: Mutex<Option<Verdict>>,
    pub changes: Changes,
}

type Key = (Reverse<u32>, u64);

/// A worker's place, and the worker in it.
pub(super) struct Seat {
    pub number: u32,
    /// Tasks that a worker does before it is replaced; 0 for any number.
    limit: u64,
    pub state: SeatState,
    /// Tasks it has, with their indices, oldest first.
    sent: VecDeque<(u32, Task)>,
    next_index: u32,
    /// When the first of `sent` came to be the first.
    head_since: Duration,
    idle_since: Duration,
    done: u64,
    busy: Duration,
    started: Duration,
    killed_for: Option<DeathReason>,
    scratch: Vec<u8>,
}

pub(super) enum SeatState {
    Empty,
    /// Being started, outside of the lock.
    Starting,
    Working(Worker),
}

pub(super) struct Worker {
    pub pid: i32,
    pub orders: Channel,
    pub claims: Claims,
    /// It was told to end.
    stopping: bool,
    /// It shall be told so.
    ends: bool,
    /// Its channel has no more room for now.
    full: bool,
}

pub(super) struct Engine {
    pub options: PoolOptions,
    queue: BTreeMap<Key, Task>,
    seats: Vec<Seat>,
    /// Which seat has a task that is not in the queue; tasks in the queue have their key.
    places: HashMap<u64, Place>,
    next_task: u64,
    next_place: u64,
    pub closing: bool,
    /// The manager has ended.
    pub closed: bool,
    /// Time that a task takes, on average.
    average: Duration,
    false_starts: u32,
    counts: PoolStatistics,
    pub completed: VecDeque<(u64, Verdict)>,
    /// Tasks that no worker's channel has room for.
    hopeless: Vec<Task>,
    pub reaper: Option<Arc<Reaper>>,
}

#[derive(Clone, Copy)]
enum Place {
    Queued(Key),
    Seat(u32),
}

/// What has changed and whom it concerns, to be said after the lock is let go.
#[derive(Default)]
pub(super) struct News {
    pub room: bool,
    pub completed: bool,
    pub tickets: Vec<Arc<Ticket>>,
}

impl Engine {
    pub fn new(options: PoolOptions) -> Engine {
        let seats = (0..options.workers).map(|number| Seat::new(number, options.tasks_per_worker)).collect();
        Engine {
            options,
            queue: BTreeMap::new(),
            seats,
            places: HashMap::new(),
            next_task: 0,
            next_place: 0,
            closing: false,
            closed: false,
            average: Duration::from_millis(1),
            false_starts: 0,
            counts: PoolStatistics::default(),
            completed: VecDeque::new(),
            hopeless: Vec::new(),
            reaper: None,
        }
    }

    pub fn has_room(&self) -> bool {
        self.queue.len() < self.options.queue
    }

    /// Whether more workers, or a look at those there are, would help with what is queued.
    pub fn waits_for_workers(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Takes a task on and sends it off if a worker can have it; its number.
    pub fn submit(&mut self, handler: u32, payload: Vec<u8>, options: TaskOptions, ticket: Option<Arc<Ticket>>) -> u64 {
        self.next_task += 1;
        self.counts.submitted += 1;
        let (number, place) = (self.next_task, self.next_place);
        self.next_place += 1;
        self.enqueue(Task { number, handler, payload, options, place, deaths: Vec::new(), refused: 0, ticket });
        self.dispatch();
        number
    }

    fn enqueue(&mut self, task: Task) {
        let key = (Reverse(task.options.priority), task.place);
        self.places.insert(task.number, Place::Queued(key));
        self.queue.insert(key, task);
    }

    fn depth(&self) -> usize {
        let average = self.average.max(Duration::from_nanos(1));
        usize::try_from(AHEAD.as_nanos() / average.as_nanos()).unwrap_or(AHEAD_MOST).clamp(1, AHEAD_MOST) + 1
    }

    /// Sends tasks to workers that have room, the least loaded first.
    pub fn dispatch(&mut self) {
        let depth = self.depth();
        while let Some(entry) = self.queue.first_entry() {
            let able = self.seats.iter_mut().filter(|seat| seat.takes(depth)).min_by_key(|seat| seat.sent.len());
            let Some(seat) = able else { return };
            let key = *entry.key();
            let task = entry.remove();
            match seat.send(task) {
                Ok(number) => {
                    self.places.insert(number, Place::Seat(seat.number));
                }
                Err(mut task) => {
                    task.refused += u32::from(seat.sent.is_empty());
                    if task.refused > REFUSALS {
                        self.hopeless.push(task);
                    } else {
                        self.queue.insert(key, task);
                    }
                }
            }
        }
    }

    /// Whether every worker has enough to do for a while, so that results may come in together.
    pub fn is_well_supplied(&self) -> bool {
        let mut working = self.seats.iter().filter(|seat| !matches!(seat.state, SeatState::Empty)).peekable();
        working.peek().is_some() && working.all(|seat| seat.sent.len() >= SUPPLY)
    }

    /// Workers that shall be started now; their seats are set aside for it.
    pub fn wanted(&mut self) -> Vec<u32> {
        if self.closing && self.queue.is_empty() {
            return Vec::new();
        }
        let live = self.seats.iter().filter(|seat| !matches!(seat.state, SeatState::Empty)).count();
        let least = self.options.least_workers.unwrap_or(self.options.workers) as usize;
        let idle = self.seats.iter().any(|seat| seat.sent.is_empty() && !matches!(seat.state, SeatState::Empty));
        let more = if !self.queue.is_empty() && !idle { live + 1 } else { live };
        let wanted = if self.closing { more.max(1) } else { more.max(least) };
        let mut seats = Vec::new();
        for seat in &mut self.seats {
            if live + seats.len() >= wanted {
                break;
            }
            if matches!(seat.state, SeatState::Empty) {
                seat.state = SeatState::Starting;
                seats.push(seat.number);
            }
        }
        seats
    }

    /// A worker has been started, or has not (`None`).
    pub fn started(&mut self, number: u32, worker: Option<(i32, Channel, Claims)>) {
        let now = about_now();
        let Some(seat) = self.seats.get_mut(number as usize) else { return };
        match worker {
            None => seat.state = SeatState::Empty,
            Some((pid, orders, claims)) => {
                *seat = Seat {
                    state: SeatState::Working(Worker {
                        pid,
                        orders,
                        claims,
                        ends: false,
                        stopping: false,
                        full: false,
                    }),
                    started: now,
                    idle_since: now,
                    ..Seat::new(number, seat.limit)
                };
                self.counts.started += 1;
            }
        }
        self.dispatch();
    }

    /// A worker reports on a task.
    pub fn report(&mut self, number: u32, index: u32, outcome: Result<&[u8], &[u8]>, news: &mut News) {
        let now = about_now();
        let Some(seat) = self.seats.get_mut(number as usize) else { return };
        // Of a worker that was given up before, or from a peer that keeps no rules: the books know better.
        if seat.sent.front().is_none_or(|(expected, _)| *expected != index) {
            return;
        }
        let Some((_, task)) = seat.sent.pop_front() else { return };
        let took = now.saturating_sub(seat.head_since);
        seat.busy += took;
        seat.done += 1;
        (seat.head_since, seat.idle_since) = (now, now);
        if let SeatState::Working(worker) = &mut seat.state {
            worker.full = false;
        }
        self.false_starts = 0;
        self.average = (self.average * 7 + took) / 8;
        let verdict = match outcome {
            Ok(result) => Verdict::Done(result.to_vec()),
            Err(reason) => Verdict::Failed(String::from_utf8_lossy(reason).into_owned()),
        };
        let worn = seat.limit > 0 && seat.done >= seat.limit || index >= INDICES;
        if worn {
            self.retire(number);
        }
        self.conclude(task, verdict, news);
    }

    fn conclude(&mut self, task: Task, verdict: Verdict, news: &mut News) {
        self.places.remove(&task.number);
        let count = match &verdict {
            Verdict::Done(_) => &mut self.counts.done,
            Verdict::Failed(_) => &mut self.counts.failed,
            Verdict::Cancelled => &mut self.counts.cancelled,
            Verdict::Lost(_) => &mut self.counts.lost,
            Verdict::Poison(_) => &mut self.counts.poisoned,
        };
        *count += 1;
        match task.ticket {
            Some(ticket) => {
                *ticket.verdict.lock().unwrap_or_else(PoisonError::into_inner) = Some(verdict);
                news.tickets.push(ticket);
            }
            None => {
                self.completed.push_back((task.number, verdict));
                news.completed = true;
            }
        }
        news.room = true;
    }

    /// Takes back what a worker has not begun, and puts it in the queue again.
    fn take_back(&mut self, number: u32) {
        let Some(seat) = self.seats.get_mut(number as usize) else { return };
        let SeatState::Working(worker) = &seat.state else { return };
        let Ok(claimed) = worker.claims.take_back(seat.next_index) else { return };
        let begun = seat.sent.iter().take_while(|(index, _)| *index <= claimed).count();
        let back: Vec<_> = seat.sent.drain(begun..).map(|(_, task)| task).collect();
        back.into_iter().for_each(|task| self.enqueue(task));
    }

    /// Lets a worker finish what it runs, and go.
    fn retire(&mut self, number: u32) {
        self.take_back(number);
        if let Some(seat) = self.seats.get_mut(number as usize) {
            seat.stop();
        }
    }

    /// A worker has ended.
    pub fn ended(&mut self, pid: i32, end: Option<End>, news: &mut News) {
        let found = self.seats.iter().position(|seat| seat.pid() == Some(pid));
        let Some(seat) = found.and_then(|at| self.seats.get_mut(at)) else { return };
        let SeatState::Working(worker) = std::mem::replace(&mut seat.state, SeatState::Empty) else { return };
        let claimed = worker.claims.claimed().unwrap_or(0);
        let last_words = self.reaper.as_ref().map(|reaper| reaper.forget(pid)).unwrap_or_default();
        let reason = seat.killed_for.take().unwrap_or(DeathReason::Own);
        let sent = std::mem::take(&mut seat.sent);
        let (had_done, stopping) = (seat.done, worker.stopping);
        let status = end.as_ref().map(|end| end.status);
        let mut begun = None;
        for (index, task) in sent {
            if index == claimed { begun = Some(task) } else { self.enqueue(task) }
        }
        if begun.is_none() && !stopping && had_done == 0 {
            // It never got to work. That says little about a task, unless it goes on like that.
            self.false_starts += 1;
            self.counts.deaths += 1;
            if self.false_starts >= FALSE_STARTS {
                begun = self.queue.pop_first().map(|(_, task)| task);
            }
        } else if begun.is_some() {
            self.counts.deaths += 1;
        }
        let Some(mut task) = begun else { return };
        let death = Death {
            task: task.number,
            pid,
            signal: status.filter(|status| libc::WIFSIGNALED(*status)).map(|status| libc::WTERMSIG(status)),
            exit_code: status.filter(|status| libc::WIFEXITED(*status)).map(|status| libc::WEXITSTATUS(status)),
            reason,
            peak_memory: end.map_or(0, |end| end.peak_memory),
            last_words,
        };
        task.deaths.push(death.clone());
        let attempts = u32::try_from(task.deaths.len()).unwrap_or(u32::MAX);
        if reason == DeathReason::Cancel {
            self.conclude(task, Verdict::Cancelled, news);
        } else if attempts <= self.options.retries {
            self.counts.retried += 1;
            self.enqueue(task);
        } else if self.options.retries > 0 {
            let deaths = std::mem::take(&mut task.deaths);
            self.conclude(task, Verdict::Poison(deaths), news);
        } else {
            self.conclude(task, Verdict::Lost(death), news);
        }
    }

    /// Kills workers that have more memory than they may.
    pub fn too_large(&mut self, pids: &[i32]) {
        let limit = self.options.memory_limit;
        for seat in self.seats.iter_mut().filter(|seat| seat.pid().is_some_and(|pid| pids.contains(&pid))) {
            seat.kill(DeathReason::Memory(limit));
        }
    }

    /// Cancels a task, one that runs too if `running`; false if it has its verdict, or runs on.
    pub fn cancel(&mut self, task: u64, running: bool, news: &mut News) -> bool {
        if let Some(Place::Seat(number)) = self.places.get(&task) {
            let number = *number;
            self.take_back(number);
            if matches!(self.places.get(&task), Some(Place::Seat(_))) {
                let seat = self.seats.get_mut(number as usize);
                return running && seat.is_some_and(|seat| seat.kill(DeathReason::Cancel));
            }
        }
        let Some(Place::Queued(key)) = self.places.get(&task) else { return false };
        let Some(task) = self.queue.remove(&key.clone()) else { return false };
        self.conclude(task, Verdict::Cancelled, news);
        self.dispatch();
        true
    }

    /// Whether a worker has begun a task that has no verdict yet.
    pub fn has_begun(&self, task: u64) -> bool {
        let Some(Place::Seat(number)) = self.places.get(&task) else { return false };
        let Some(seat) = self.seats.get(*number as usize) else { return false };
        let SeatState::Working(worker) = &seat.state else { return false };
        let claimed = worker.claims.claimed().unwrap_or(0);
        seat.sent.iter().any(|(index, sent)| sent.number == task && *index <= claimed)
    }

    /// Cancels everything that no worker has begun.
    pub fn cancel_queued(&mut self, news: &mut News) {
        (0..self.options.workers).for_each(|number| self.take_back(number));
        while let Some((_, task)) = self.queue.pop_first() {
            self.conclude(task, Verdict::Cancelled, news);
        }
    }

    /// What is due now, and when to look again.
    pub fn tick(&mut self, news: &mut News) -> Option<Duration> {
        let now = about_now();
        for task in std::mem::take(&mut self.hopeless) {
            let reason = format!(
                "no worker's channel has room for {} bytes at once; give the pool's address a larger capacity=",
                task.payload.len()
            );
            self.conclude(task, Verdict::Failed(reason), news);
        }
        let mut next: Option<Duration> = None;
        let mut at = |due: Duration| next = Some(next.map_or(due, |sooner| sooner.min(due)));
        let live = self.seats.iter().filter(|seat| seat.pid().is_some()).count();
        let mut spare = live.saturating_sub(self.options.least_workers.unwrap_or(self.options.workers) as usize);
        let idle = self.seats.iter().any(|seat| seat.takes(1));
        let mut stuck = Vec::new();
        for seat in &mut self.seats {
            let SeatState::Working(worker) = &mut seat.state else { continue };
            if worker.full && seat.sent.is_empty() {
                worker.full = false;
                at(now + ROOM_AGAIN);
            }
            if let Some((index, task)) = seat.sent.front() {
                if let Some(limit) = task.options.timeout.or(self.options.task_timeout) {
                    let has_begun = worker.claims.claimed().is_ok_and(|claimed| claimed == *index);
                    if !has_begun {
                        seat.head_since = now; // its time has not begun
                    }
                    let due = seat.head_since + limit;
                    if due <= now {
                        seat.kill(DeathReason::Timeout(limit));
                        continue;
                    }
                    at(if has_begun { due } else { due.min(now + ROOM_AGAIN) });
                }
                if idle && seat.sent.len() > 1 {
                    let due = seat.head_since + STUCK;
                    if due <= now { stuck.push(seat.number) } else { at(due) }
                }
            } else if spare > 0 && !worker.stopping {
                let due = seat.idle_since + self.options.shrink_after;
                if due <= now {
                    spare -= 1;
                    seat.stop();
                } else {
                    at(due);
                }
            }
        }
        let moved = !stuck.is_empty();
        stuck.into_iter().for_each(|number| self.take_back(number));
        if moved {
            self.dispatch();
        }
        next.map(|due| due.saturating_sub(now))
    }

    /// Everything has its verdict.
    pub fn is_done(&self) -> bool {
        let none_sent = self.seats.iter().all(|seat| seat.sent.is_empty());
        self.queue.is_empty() && self.hopeless.is_empty() && none_sent
    }

    /// Tells all workers to end.
    pub fn stop_all(&mut self) {
        self.seats.iter_mut().for_each(Seat::stop);
    }

    /// Tells those workers to stop that had no room for the word; whether some still have none.
    pub fn tell_again(&mut self) -> bool {
        let untold = |seat: &Seat| matches!(&seat.state, SeatState::Working(worker) if worker.ends && !worker.stopping);
        self.seats.iter_mut().filter(|seat| untold(seat)).for_each(Seat::stop);
        self.seats.iter().any(untold)
    }

    /// Ends all workers.
    pub fn kill_all(&mut self) {
        self.seats.iter_mut().for_each(|seat| {
            seat.kill(DeathReason::Cancel);
        });
    }

    /// Nobody is left, and nobody is being started.
    pub fn is_empty(&self) -> bool {
        self.seats.iter().all(|seat| matches!(seat.state, SeatState::Empty))
    }

    pub fn statistics(&self) -> PoolStatistics {
        let now = about_now();
        let workers = self.seats.iter().filter_map(|seat| {
            let pid = seat.pid()?;
            let life = now.saturating_sub(seat.started).as_nanos().max(1);
            let current = if seat.sent.is_empty() { Duration::ZERO } else { now.saturating_sub(seat.head_since) };
            let busy = (seat.busy + current).as_nanos() * 1000 / life;
            let busy = u32::try_from(busy).unwrap_or(1000).min(1000);
            Some(WorkerStatistics { pid, tasks: seat.done, busy, memory: resident(pid) })
        });
        PoolStatistics {
            queued: (self.queue.len() + self.hopeless.len()) as u64,
            running: self.seats.iter().map(|seat| seat.sent.len() as u64).sum(),
            workers: workers.collect(),
            ..self.counts.clone()
        }
    }
}

impl Seat {
    fn new(number: u32, limit: u64) -> Seat {
        Seat {
            number,
            limit,
            state: SeatState::Empty,
            sent: VecDeque::new(),
            next_index: 1,
            head_since: Duration::ZERO,
            idle_since: Duration::ZERO,
            done: 0,
            busy: Duration::ZERO,
            started: Duration::ZERO,
            killed_for: None,
            scratch: Vec::new(),
        }
    }

    fn pid(&self) -> Option<i32> {
        match &self.state {
            SeatState::Working(worker) => Some(worker.pid),
            _ => None,
        }
    }

    /// Whether it can be sent one more task.
    fn takes(&self, depth: usize) -> bool {
        let SeatState::Working(worker) = &self.state else { return false };
        let is_fresh = self.limit == 0 || self.done + (self.sent.len() as u64) < self.limit;
        self.sent.len() < depth && !worker.stopping && !worker.full && is_fresh
    }

    /// Sends a task; gives it back if there is no room.
    fn send(&mut self, task: Task) -> Result<u64, Task> {
        let SeatState::Working(worker) = &mut self.state else { return Err(task) };
        let index = self.next_index;
        let message = Order::Task { index, handler: task.handler, task: task.number, payload: &task.payload };
        match order(&worker.orders, &message, &mut self.scratch) {
            Ok(true) => {}
            // No room: a result makes some, or the worker as it skips what was taken back. An error: it is gone.
            Ok(false) | Err(_) => {
                worker.full = true;
                return Err(task);
            }
        }
        self.next_index += 1;
        if self.sent.is_empty() {
            self.head_since = about_now();
        }
        let number = task.number;
        self.sent.push_back((index, task));
        Ok(number)
    }

    fn stop(&mut self) {
        if let SeatState::Working(worker) = &mut self.state
            && !worker.stopping
        {
            // One whose channel is full is told again: see `tell_again`.
            worker.ends = true;
            worker.stopping = order(&worker.orders, &Order::Stop, &mut self.scratch).unwrap_or(true);
        }
    }

    fn kill(&mut self, reason: DeathReason) -> bool {
        let Some(pid) = self.pid() else { return false };
        if self.killed_for.is_none() {
            self.killed_for = Some(reason);
            child::kill(pid);
        }
        true
    }
}
