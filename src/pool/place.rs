//! A worker's place in the pool's books: the worker in it, and the tasks that it has been sent.

use std::collections::VecDeque;
use std::time::Duration;

use nix::errno::Errno;

use super::group::Group;
use super::queue::Task;
use super::seat::Claims;
use super::unheard::Unheard;
use super::verdict::DeathReason;
use super::wire::{Batch, Order};
use crate::channel::Channel;
use crate::signal::{Signal, SignalTarget};
use crate::sys::child;
use crate::timeout::{Timeout, about_now};

/// Orders are sent together up to so many bytes.
const TOGETHER: usize = 32768;

pub(super) struct Place {
    pub number: u32,
    /// Tasks that a worker does before it is replaced; 0 for any number.
    pub limit: u64,
    pub state: PlaceState,
    /// Tasks it has, with their indices, oldest first.
    pub sent: VecDeque<(u32, Task)>,
    /// How many of these, the last, are about to be sent.
    assigned: usize,
    pub next_index: u32,
    /// The index that it reported on last.
    pub reported: u32,
    pub unheard: Unheard,
    /// When the first of `sent` came to be the first.
    pub head_since: Duration,
    pub idle_since: Duration,
    /// It has been seen to have asked for a task.
    pub ready: bool,
    /// The task whose time runs, by its index, and since when.
    pub begun: (u32, Duration),
    /// Until then it is sent tasks only if nobody else can have them: it got stuck in one.
    pub avoided_until: Duration,
    pub done: u64,
    pub busy: Duration,
    pub started: Duration,
    pub killed_for: Option<DeathReason>,
    /// Orders on their way.
    orders: Batch,
}

pub(super) enum PlaceState {
    Empty,
    /// Being started, outside of the lock.
    Starting,
    Working(Box<Worker>),
}

pub(super) struct Worker {
    pub pid: i32,
    /// By which it is killed: the pid of one that another process has started and reaped may be anybody's.
    process: Option<SignalTarget>,
    /// Nobody has it any more.
    is_gone: bool,
    pub orders: Channel,
    pub claims: Claims,
    /// What all that it sends and is sent carries.
    pub key: u64,
    /// It was told to end.
    pub stopping: bool,
    /// It shall be told so.
    pub ends: bool,
    /// Its channel has no more room for now.
    pub full: bool,
    /// How many tasks its channel seems to have room for: as many as there were when it was full, and one more with each
    /// result.
    pub room: usize,
    /// By which the kernel holds it to the memory limit.
    pub group: Option<Group>,
}

impl Worker {
    pub fn new(pid: i32, orders: Channel, claims: Claims, group: Option<Group>) -> Worker {
        let process = SignalTarget::open(pid);
        let is_gone = process.as_ref().is_err_and(|error| error.is(Errno::ESRCH));
        orders.keep_no_rest(); // a task that does not go at once goes to another worker
        Worker {
            pid,
            process: process.ok(),
            is_gone,
            orders,
            key: claims.key().unwrap_or(0),
            claims,
            stopping: false,
            ends: false,
            full: false,
            room: usize::MAX,
            group,
        }
    }
}

impl Place {
    pub fn new(number: u32, limit: u64) -> Place {
        Place {
            number,
            limit,
            state: PlaceState::Empty,
            sent: VecDeque::new(),
            assigned: 0,
            next_index: 1,
            reported: 0,
            unheard: None,
            head_since: Duration::ZERO,
            idle_since: Duration::ZERO,
            ready: false,
            begun: (0, Duration::ZERO),
            avoided_until: Duration::ZERO,
            done: 0,
            busy: Duration::ZERO,
            started: Duration::ZERO,
            killed_for: None,
            orders: Batch::default(),
        }
    }

    pub fn pid(&self) -> Option<i32> {
        match &self.state {
            PlaceState::Working(worker) => Some(worker.pid),
            _ => None,
        }
    }

    /// Whether its worker has asked for a task, if this has not been seen.
    pub fn is_ready(&self) -> bool {
        self.ready || matches!(&self.state, PlaceState::Working(worker) if worker.claims.is_ready())
    }

    /// Whether it can be sent one more task.
    pub fn takes(&self, depth: usize) -> bool {
        let PlaceState::Working(worker) = &self.state else { return false };
        let stays = !worker.stopping && self.killed_for.is_none();
        let is_fresh = self.limit == 0 || self.done + (self.sent.len() as u64) < self.limit;
        self.sent.len() < depth.min(worker.room) && stays && !worker.full && is_fresh
    }

    /// Whether it has read all that it was ever sent, what was taken back included, so that its channel is empty.
    pub fn has_read_all(&self) -> bool {
        self.reported.checked_add(1) == Some(self.next_index)
    }

    /// Puts a task behind those it has; [`Place::send`] sends it.
    pub fn assign(&mut self, task: Task) {
        if self.sent.is_empty() {
            self.head_since = about_now();
        }
        self.sent.push_back((self.next_index, task));
        self.next_index += 1;
        self.assigned += 1;
    }

    /// Sends what was assigned, and gives those back that there was no room for.
    pub fn send(&mut self) -> impl DoubleEndedIterator<Item = Task> + use<> {
        let mut done = self.sent.len() - std::mem::take(&mut self.assigned);
        while let PlaceState::Working(worker) = &mut self.state
            && done < self.sent.len()
        {
            self.orders.clear();
            for (index, task) in self.sent.range(done..) {
                let order =
                    Order::Task { index: *index, handler: task.handler, task: task.number, payload: &task.payload };
                self.orders.push(|bytes| order.write(worker.key, bytes));
                if self.orders.size() >= TOGETHER {
                    break;
                }
            }
            let orders: Vec<_> = self.orders.iter().collect();
            let (sent, ended) = worker.orders.send_counted(&orders, Timeout::Now);
            done += sent;
            if ended.is_err() {
                // No room: a result makes some, or the worker as it skips what was taken back. An error: it is gone.
                worker.full = true;
                worker.room = done.max(1);
                break;
            }
        }
        let back = self.sent.split_off(done);
        self.next_index -= u32::try_from(back.len()).unwrap_or(0); // the worker has not seen these
        back.into_iter().map(|(_, task)| task)
    }

    pub fn stop(&mut self) {
        if let PlaceState::Working(worker) = &mut self.state
            && !worker.stopping
        {
            // One whose channel is full is told again: see `Engine::tell_again`.
            worker.ends = true;
            let mut stop = Vec::new();
            Order::Stop.write(worker.key, &mut stop);
            worker.stopping = match worker.orders.send(&stop, Timeout::Now) {
                Err(error) => !error.is(Errno::EAGAIN), // anything else: it is gone
                Ok(()) => true,
            };
        }
    }

    pub fn kill(&mut self, reason: DeathReason) -> bool {
        let PlaceState::Working(worker) = &self.state else { return false };
        if self.killed_for.is_none() {
            self.killed_for = Some(reason);
            match &worker.process {
                Some(process) => drop(process.send(Signal::KILL)), // fails if it has ended
                None if worker.is_gone => {}
                None => child::kill(worker.pid),
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(number: u64) -> Task {
        Task {
            number,
            handler: 0,
            payload: Vec::new(),
            options: Default::default(),
            deaths: Vec::new(),
            refused: 0,
            ticket: None,
        }
    }

    #[test]
    fn a_worker_has_read_all_once_it_reports_on_the_last_it_was_sent() {
        let mut place = Place::new(0, 0);
        assert!(place.has_read_all());
        (1..=3).for_each(|number| place.assign(task(number)));
        place.assigned = 0; // as if they were sent
        assert!(!place.has_read_all());
        place.sent.clear(); // taken back
        place.reported = 1;
        assert!(!place.has_read_all(), "the others may lie in its channel");
        place.assign(task(4));
        (place.assigned, place.reported) = (0, 4);
        assert!(place.has_read_all());
        place.assign(task(5));
        assert_eq!(place.send().map(|task| task.number).collect::<Vec<_>>(), [5], "there is no worker");
        assert!(place.has_read_all());
    }
}
