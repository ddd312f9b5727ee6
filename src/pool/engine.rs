//! The pool's books: which task waits, which one is whose, and what becomes of it.
//!
//! One lock guards all of it; what may block (starting workers, waiting for results) happens outside. When there are more
//! workers is in `growth.rs`, what comes to be due in `due.rs`, what the end of a worker means in `deaths.rs`.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::due::look_after;
use super::group::Group;
use super::options::{PoolOptions, PoolStatistics, TaskOptions, WorkerStatistics};
use super::place::{Place, PlaceState, Worker};
use super::queue::{Queue, Task, Ticket};
use super::reaper::{Reaper, resident};
use super::unheard::GRACE;
use super::verdict::{Death, DeathReason, Verdict};
use crate::timeout::about_now;

/// Work that a worker is sent ahead, as time: enough to hide the way to it.
const AHEAD: Duration = Duration::from_millis(1);
/// Most tasks ahead.
const AHEAD_MOST: usize = 256;
/// Tasks with which a worker is busy for longer than the manager pauses.
const SUPPLY: usize = 32;
/// A worker that has held its first task for so long is not going to get to the others soon.
pub(super) const STUCK: Duration = Duration::from_millis(5);
/// How soon a worker is tried again that had no room, and how often before its channel is found to be too small: for a minute,
/// as what was taken back from it may fill the channel, and it may be stopped; one that has read all counts for more.
pub(super) const ROOM_AGAIN: Duration = Duration::from_millis(5);
const REFUSALS: u32 = 12_000;
const REFUSAL_BY_EMPTY: u32 = 12;
/// The most indices that one worker is sent.
const INDICES: u32 = 1 << 31;

pub(super) struct Engine {
    pub options: PoolOptions,
    /// The upper half of its workers' keys.
    pub id: u32,
    pub queue: Queue,
    pub places: Vec<Place>,
    next_task: u64,
    pub closing: bool,
    /// Nobody waits for what is not done yet: see [`Engine::give_up`].
    pub given_up: bool,
    /// The manager has ended.
    pub closed: bool,
    /// Time that a task takes, on average.
    average: Duration,
    /// Workers in a row that ended before they got to work.
    pub false_starts: u32,
    /// Attempts in a row to start workers of which nothing came, one of these or none at all; and the last such end, if that
    /// has not been counted here.
    pub vain_starts: u32,
    pub false_start: Option<Death>,
    /// Workers in a row that were killed as they took too long to start.
    pub slow_starts: u32,
    pub counts: PoolStatistics,
    /// The earliest of what has come to be due since the manager looked, and when it looks next; zero while it is awake.
    pub due: Option<Duration>,
    pub looks_at: Option<Duration>,
    /// The same, while it sleeps and while it is awake.
    pub looked_for: Option<Duration>,
    /// How soon to look at tasks with a time limit, if any were sent since the manager looked.
    pub limits: Option<Duration>,
    /// What was submitted when the manager last looked, and whether there are likely reports that it has not read.
    pub looked_at: u64,
    pub is_behind: bool,
    pub completed: VecDeque<(u64, Verdict)>,
    /// Tasks that no worker's channel has room for.
    pub hopeless: Vec<Task>,
    pub reaper: Option<Arc<Reaper>>,
}

/// What has changed and whom it concerns, to be said after the lock is let go.
#[derive(Default)]
pub(super) struct News {
    pub room: bool,
    pub completed: bool,
    pub tickets: Vec<Arc<Ticket>>,
    /// Of workers that have ended: what is left in them has to be moved.
    pub groups: Vec<Group>,
}

impl Engine {
    pub fn new(options: PoolOptions, id: u32) -> Engine {
        let places = (0..options.workers).map(|number| Place::new(number, options.tasks_per_worker)).collect();
        Engine {
            options,
            id,
            queue: Queue::default(),
            places,
            next_task: 0,
            closing: false,
            given_up: false,
            closed: false,
            average: Duration::from_millis(1),
            false_starts: 0,
            vain_starts: 0,
            false_start: None,
            slow_starts: 0,
            counts: PoolStatistics::default(),
            due: None,
            looks_at: Some(Duration::ZERO),
            looked_for: None,
            limits: None,
            looked_at: 0,
            is_behind: false,
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
        let number = self.next_task;
        self.queue.insert(Task { number, handler, payload, options, deaths: Vec::new(), refused: 0, ticket });
        self.dispatch();
        number
    }

    fn depth(&self) -> usize {
        let average = self.average.max(Duration::from_nanos(1));
        usize::try_from(AHEAD.as_nanos() / average.as_nanos()).unwrap_or(AHEAD_MOST).clamp(1, AHEAD_MOST) + 1
    }

    /// Sends tasks to workers that have room, the least loaded first.
    pub fn dispatch(&mut self) {
        let depth = self.depth();
        // Each turn sends all that is assigned, or finds a worker full.
        while !self.queue.is_empty() {
            let (can_grow, now) = (self.can_grow(), about_now());
            // While a task can have a worker of its own, it does not go behind one that may take long.
            let free = |place: &&mut Place| {
                let depth = if can_grow && place.done == 0 { 1 } else { depth };
                place.takes(depth) && !(can_grow && place.ready && place.avoided_until > now)
            };
            let load = |place: &&mut Place| (place.avoided_until > now, place.sent.len());
            let mut assigned = false;
            while let Some(place) = self.places.iter_mut().filter(free).min_by_key(load) {
                let Some(task) = self.queue.pop() else { break };
                let look = task.options.timeout.or(self.options.task_timeout).map(look_after);
                place.assign(task);
                let due = match place.sent.len() {
                    1 if place.is_ready() => look.or(Some(GRACE)),
                    1 => Some(STUCK),
                    2 => can_grow.then_some(STUCK),
                    _ => None,
                };
                self.limits = self.limits.into_iter().chain(look).min();
                self.due = self.due.into_iter().chain(due.map(|after| now.saturating_add(after))).min();
                assigned = true;
            }
            if !assigned {
                return;
            }
            for place in &mut self.places {
                // The last first, as each then comes to stand before those that wait.
                let mut back = place.send().rev().peekable();
                while let Some(mut task) = back.next() {
                    let is_first = back.peek().is_none();
                    if is_first && place.sent.is_empty() {
                        task.refused += if place.has_read_all() { REFUSAL_BY_EMPTY } else { 1 };
                    }
                    if task.refused > REFUSALS { self.hopeless.push(task) } else { self.queue.insert(task) }
                }
            }
        }
    }

    /// Whether every worker has enough to do for a while, so that results may come in together.
    pub fn is_well_supplied(&self) -> bool {
        let mut working = self.places.iter().filter(|place| !matches!(place.state, PlaceState::Empty)).peekable();
        working.peek().is_some() && working.all(|place| place.sent.len() >= SUPPLY)
    }

    /// A worker has been started.
    pub fn started(&mut self, number: u32, worker: Worker) {
        let Some(place) = self.places.get_mut(number as usize) else { return };
        let now = about_now();
        *place = Place::new(number, place.limit);
        (place.started, place.idle_since) = (now, now);
        place.state = PlaceState::Working(Box::new(worker));
        self.counts.started += 1;
        self.dispatch();
    }

    /// A worker reports on a task.
    pub fn report(
        &mut self,
        (number, key): (u32, u64),
        index: u32,
        outcome: Result<&[u8], &[u8]>,
        now: Duration,
        news: &mut News,
    ) {
        let of = |place: &Place| match &place.state {
            PlaceState::Working(worker) => Some(worker.key),
            _ => None,
        };
        let Some(place) = self.places.get_mut(number as usize).filter(|place| of(place) == Some(key)) else {
            let is_own = (key >> 32) as u32 == self.id; // of a worker that has gone
            self.counts.foreign += u64::from(!is_own);
            return;
        };
        // Of a worker that was given up before, or from a peer that keeps no rules: the books know better.
        let Ok(at) = place.sent.binary_search_by_key(&index, |(sent, _)| *sent) else { return };
        let claimed = match &place.state {
            PlaceState::Working(worker) => worker.claims.claimed().unwrap_or(0),
            _ => 0,
        };
        if at > 0 && index > claimed {
            return; // it has not begun that one
        }
        // A worker reports in the order in which it was sent them: on these it has, and nobody will hear of it again.
        let unheard: Vec<Task> = place.sent.drain(..at).map(|(_, task)| task).collect();
        let Some((_, task)) = place.sent.pop_front() else { return };
        place.avoided_until = Duration::ZERO;
        let took = now.saturating_sub(place.head_since);
        place.busy += took;
        place.done += 1 + unheard.len() as u64;
        place.reported = index;
        (place.head_since, place.idle_since) = (now, now);
        if let PlaceState::Working(worker) = &mut place.state {
            worker.full = false;
            worker.room = worker.room.saturating_add(1);
        }
        (self.false_starts, self.vain_starts) = (0, 0);
        self.average = (self.average * 7 + took) / 8;
        let verdict = match outcome {
            Ok(result) => Verdict::Done(result.to_vec()),
            Err(reason) => Verdict::Failed(String::from_utf8_lossy(reason).into_owned()),
        };
        let worn = place.limit > 0 && place.done >= place.limit || index >= INDICES;
        if worn {
            self.retire(number);
        }
        unheard.into_iter().for_each(|task| self.conclude_unheard(task, news));
        self.conclude(task, verdict, news);
    }

    /// A worker was through with a task, and what it had to say of it did not come: to do it again would be once too often.
    pub fn conclude_unheard(&mut self, task: Task, news: &mut News) {
        let reason = "the task was done, and its report was lost on the way";
        self.conclude(task, Verdict::Failed(reason.into()), news);
    }

    pub fn conclude(&mut self, task: Task, verdict: Verdict, news: &mut News) {
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
    pub fn take_back(&mut self, number: u32) {
        let Some(place) = self.places.get_mut(number as usize) else { return };
        let PlaceState::Working(worker) = &place.state else { return };
        let Ok(claimed) = worker.claims.take_back(place.next_index) else { return };
        let begun = place.sent.iter().take_while(|(index, _)| *index <= claimed).count();
        let back: Vec<_> = place.sent.drain(begun..).map(|(_, task)| task).collect();
        back.into_iter().rev().for_each(|task| self.queue.insert(task));
    }

    /// Lets a worker finish what it runs, and go.
    pub(super) fn retire(&mut self, number: u32) {
        self.take_back(number);
        if let Some(place) = self.places.get_mut(number as usize) {
            place.stop();
        }
    }

    /// Cancels a task, one that runs too if `running`; false if it has its verdict, or runs on.
    pub fn cancel(&mut self, task: u64, running: bool, news: &mut News) -> bool {
        let mut waiting = self.queue.remove(task);
        if waiting.is_none()
            && let Some(number) = self.place_of(task)
        {
            self.take_back(number);
            waiting = self.queue.remove(task);
            if waiting.is_none() {
                let killed = running && self.end_task(number, task, DeathReason::Cancel);
                self.dispatch(); // what was behind it
                return killed;
            }
        }
        let Some(task) = waiting else { return false };
        self.conclude(task, Verdict::Cancelled, news);
        self.dispatch();
        true
    }

    /// Kills a worker that runs this task, and may claim no other. One that is through with it may be at the next by now, which
    /// is not to die for it.
    pub fn end_task(&mut self, number: u32, task: u64, reason: DeathReason) -> bool {
        let Some(place) = self.places.get_mut(number as usize) else { return false };
        let PlaceState::Working(worker) = &place.state else { return false };
        let claimed = worker.claims.claimed().unwrap_or(0);
        let through = worker.claims.through();
        let runs = place.sent.iter().any(|(index, sent)| sent.number == task && *index == claimed && *index > through);
        runs && place.kill(reason)
    }

    /// Which worker was sent this task, and has not reported on it.
    fn place_of(&self, task: u64) -> Option<u32> {
        let has = |place: &&Place| place.sent.iter().any(|(_, sent)| sent.number == task);
        self.places.iter().find(has).map(|place| place.number)
    }

    /// Whether a worker has begun a task that has no verdict yet.
    pub fn has_begun(&self, task: u64) -> bool {
        let Some(place) = self.place_of(task).and_then(|number| self.places.get(number as usize)) else { return false };
        let PlaceState::Working(worker) = &place.state else { return false };
        let claimed = worker.claims.claimed().unwrap_or(0);
        place.sent.iter().any(|(index, sent)| sent.number == task && *index <= claimed)
    }

    /// Cancels everything that no worker has begun.
    pub fn cancel_queued(&mut self, news: &mut News) {
        (0..self.options.workers).for_each(|number| self.take_back(number));
        while let Some(task) = self.queue.pop() {
            self.conclude(task, Verdict::Cancelled, news);
        }
    }

    /// Everything has its verdict.
    pub fn is_done(&self) -> bool {
        let none_sent = self.places.iter().all(|place| place.sent.is_empty());
        self.queue.is_empty() && self.hopeless.is_empty() && none_sent
    }

    /// Tells all workers to end.
    pub fn stop_all(&mut self) {
        self.places.iter_mut().for_each(Place::stop);
    }

    /// Tells those workers to stop that had no room for the word; whether some still have none.
    pub fn tell_again(&mut self) -> bool {
        let untold =
            |place: &Place| matches!(&place.state, PlaceState::Working(worker) if worker.ends && !worker.stopping);
        self.places.iter_mut().filter(|place| untold(place)).for_each(Place::stop);
        self.places.iter().any(untold)
    }

    /// Cancels all tasks and ends all workers: those there are, and with the next ticks those that are just being started
    /// and the tasks that come back from the dead.
    pub fn give_up(&mut self, news: &mut News) {
        self.given_up = true;
        self.end_all(news);
    }

    pub fn end_all(&mut self, news: &mut News) {
        self.cancel_queued(news);
        self.places.iter_mut().for_each(|place| {
            place.kill(DeathReason::Cancel);
        });
    }

    /// Nobody is left, and nobody is being started.
    pub fn is_empty(&self) -> bool {
        self.places.iter().all(|place| matches!(place.state, PlaceState::Empty))
    }

    pub fn statistics(&self) -> PoolStatistics {
        let now = about_now();
        let workers = self.places.iter().filter_map(|place| {
            let pid = place.pid()?;
            let life = now.saturating_sub(place.started).as_nanos().max(1);
            let current = if place.sent.is_empty() { Duration::ZERO } else { now.saturating_sub(place.head_since) };
            let busy = (place.busy + current).as_nanos() * 1000 / life;
            let busy = u32::try_from(busy).unwrap_or(1000).min(1000);
            let in_group = matches!(&place.state, PlaceState::Working(worker) if worker.group.is_some());
            Some(WorkerStatistics { pid, tasks: place.done, busy, memory: resident(pid), in_group })
        });
        PoolStatistics {
            queued: (self.queue.len() + self.hopeless.len()) as u64,
            running: self.places.iter().map(|place| place.sent.len() as u64).sum(),
            unsaid: self.reaper.as_ref().map(|reaper| reaper.left_out()).unwrap_or(self.counts.unsaid),
            workers: workers.collect(),
            ..self.counts.clone()
        }
    }
}
