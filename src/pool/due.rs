//! What comes to be due in a pool, and when its manager looks.

use std::time::Duration;

use super::engine::{Engine, News, ROOM_AGAIN, STUCK};
use super::place::{Place, PlaceState};
use super::verdict::{DeathReason, Verdict};
use crate::timeout::about_now;

/// For how long a worker that was stuck is sent tasks only if nobody else can have them.
const AVOIDED: Duration = Duration::from_millis(100);

/// How soon a task with such a time limit is looked at after it was sent: its time begins when it is found begun.
pub(super) fn look_after(limit: Duration) -> Duration {
    (limit / 8).max(ROOM_AGAIN)
}

impl Engine {
    /// What is due now, and when to look again.
    pub fn tick(&mut self, news: &mut News) -> Option<Duration> {
        if self.given_up {
            self.end_all(news);
        }
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
        let live = self.places.iter().filter(|place| place.pid().is_some()).count();
        let mut spare = live.saturating_sub(self.options.least_workers.unwrap_or(self.options.workers) as usize);
        if let Some(look) = self.limits.take() {
            at(now + look);
        }
        let relief = self.can_grow() || self.places.iter().any(|place| place.takes(1));
        self.places.iter_mut().for_each(|place| place.ready = place.is_ready());
        let idles = |place: &Place| place.ready && place.avoided_until <= now && place.takes(1);
        let somebody_idles = self.places.iter().any(idles);
        let (mut stuck, mut late, mut unready) = (Vec::new(), Vec::new(), Vec::new());
        for place in &mut self.places {
            let PlaceState::Working(worker) = &mut place.state else { continue };
            if worker.full && place.sent.is_empty() {
                worker.full = false;
                at(now + ROOM_AGAIN);
            }
            if let Some(limit) = self.options.start_timeout
                && !place.ready
                && place.killed_for.is_none()
            {
                let due = place.started + limit;
                if due <= now { unready.push((place.number, limit)) } else { at(due) }
            }
            if let Some((index, task)) = place.sent.front() {
                if let Some(limit) = task.options.timeout.or(self.options.task_timeout) {
                    let has_begun = worker.claims.claimed().is_ok_and(|claimed| claimed == *index);
                    if has_begun && place.begun.0 != *index {
                        place.begun = (*index, now); // its time begins
                    }
                    let due = if has_begun { place.begun.1 + limit } else { now + ROOM_AGAIN };
                    if due <= now {
                        late.push((place.number, task.number, limit));
                        continue;
                    }
                    at(due);
                }
                if relief && place.sent.len() > 1 || somebody_idles && !place.ready {
                    let due = place.head_since + STUCK;
                    if due <= now { stuck.push(place.number) } else { at(due) }
                } else if !place.ready {
                    // Nobody tells when another comes to be ready before it.
                    at(now + STUCK.max(now.saturating_sub(place.started) / 8));
                }
            } else if spare > 0 && !worker.stopping {
                let due = place.idle_since + self.options.shrink_after;
                if due <= now {
                    spare -= 1;
                    place.stop();
                } else {
                    at(due);
                }
            }
        }
        let moved = !stuck.is_empty() || !late.is_empty();
        for (number, limit) in unready {
            if let Some(place) = self.places.get_mut(number as usize) {
                place.kill(DeathReason::Start(limit));
            }
        }
        for number in stuck {
            self.take_back(number);
            if let Some(place) = self.places.get_mut(number as usize) {
                place.avoided_until = now + AVOIDED;
            }
        }
        for (number, task, limit) in late {
            self.take_back(number);
            self.end_task(number, task, DeathReason::Timeout(limit));
        }
        if moved {
            self.dispatch();
        }
        next.map(|due| due.saturating_sub(now))
    }

    /// The manager sleeps for so long, or until what has come to be due since it looked; for how long.
    pub fn sleep(&mut self, after: Option<Duration>) -> Option<Duration> {
        let now = about_now();
        let at = self.due.take().into_iter().chain(after.map(|after| now + after)).min();
        self.looks_at = at;
        at.map(|at| at.saturating_sub(now))
    }

    /// Whether something comes to be due before the manager looks.
    pub fn is_due_sooner(&self) -> bool {
        self.due.is_some_and(|due| self.looks_at.is_none_or(|at| due < at))
    }
}
