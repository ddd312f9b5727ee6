//! What comes to be due in a pool, and when its manager looks.

use std::time::Duration;

use super::engine::{Engine, News, ROOM_AGAIN, STUCK};
use super::place::{Place, PlaceState};
use super::unheard::GRACE;
use super::verdict::{DeathReason, Verdict};
use crate::timeout::about_now;

/// For how long a worker that was stuck is sent tasks only if nobody else can have them.
const AVOIDED: Duration = Duration::from_millis(100);

/// While a worker starts, it is looked whether this process runs at all: time that it does not is not the worker's, which is
/// likely to be stopped with it. It does not if it looks later than it wanted to by more than `LATE`.
const START_LOOK: Duration = Duration::from_millis(500);
const LATE: Duration = Duration::from_secs(1);
/// The time to start doubles with each worker in a row that it does not do for, so often: an initializer may need it.
const LONGER: u32 = 4;

/// How soon a task with such a time limit is looked at after it was sent: its time begins when it is found begun.
pub(super) fn look_after(limit: Duration) -> Duration {
    (limit / 8).max(ROOM_AGAIN)
}

impl Engine {
    /// How long a worker may take to start: more if it has not done for those before.
    pub(super) fn start_limit(&self) -> Option<Duration> {
        self.options.start_timeout.map(|limit| limit.saturating_mul(1 << self.slow_starts.min(LONGER)))
    }

    /// What is due now, and when to look again.
    pub fn tick(&mut self, news: &mut News) -> Option<Duration> {
        if self.given_up {
            self.end_all(news);
        }
        let now = about_now();
        let lost = self.looked_for.take().map(|at| now.saturating_sub(at)).filter(|late| *late > LATE);
        for task in std::mem::take(&mut self.hopeless) {
            let reason = format!(
                "no worker's channel has room for {} bytes at once; give the pool's address a larger capacity=",
                task.payload.len()
            );
            self.conclude(task, Verdict::Failed(reason), news);
        }
        let (mut next, concluded) = self.conclude_overdue(now, lost.unwrap_or_default(), news);
        let mut at = |due: Duration| next = Some(next.map_or(due, |sooner| sooner.min(due)));
        let live = self.places.iter().filter(|place| place.pid().is_some()).count();
        let mut spare = live.saturating_sub(self.options.least_workers.unwrap_or(self.options.workers) as usize);
        if let Some(look) = self.limits.take() {
            at(now.saturating_add(look));
        }
        let relief = self.can_grow() || self.places.iter().any(|place| place.takes(1));
        let start_limit = self.options.start_timeout;
        for place in self.places.iter_mut().filter(|place| !place.ready && place.pid().is_some()) {
            place.started += lost.unwrap_or_default();
            place.ready = place.is_ready();
            if place.ready {
                place.avoided_until = Duration::ZERO; // it was for as long as it was about to start
            }
            if place.ready && start_limit.is_some_and(|limit| now.saturating_sub(place.started) <= limit) {
                self.slow_starts = 0;
            }
        }
        let start_limit = self.start_limit();
        let idles = |place: &Place| place.ready && place.avoided_until <= now && place.takes(1);
        let somebody_idles = self.places.iter().any(idles);
        let (mut stuck, mut late, mut unready) = (Vec::new(), Vec::new(), Vec::new());
        for place in &mut self.places {
            let PlaceState::Working(worker) = &mut place.state else { continue };
            place.begun.1 += lost.unwrap_or_default(); // nor is it the task's
            if worker.full && place.sent.is_empty() {
                worker.full = false;
                at(now + ROOM_AGAIN);
            }
            if let Some(limit) = start_limit
                && !place.ready
                && place.killed_for.is_none()
            {
                let due = place.started.saturating_add(limit);
                if due <= now { unready.push((place.number, limit)) } else { at(due.min(now + START_LOOK)) }
            }
            if !place.sent.is_empty() {
                // The first that it is not through with: of those before, it is only the reports that have not come.
                let through = worker.claims.through();
                let current = place.sent.iter().find(|(index, _)| *index > through);
                if let Some((index, task)) = current
                    && let Some(limit) = task.options.timeout.or(self.options.task_timeout)
                {
                    let has_begun = worker.claims.claimed().is_ok_and(|claimed| claimed == *index);
                    if has_begun && place.begun.0 != *index {
                        place.begun = (*index, now); // its time begins
                    }
                    let due = match has_begun {
                        true => place.begun.1.saturating_add(limit),
                        false if now < place.head_since + GRACE => now + ROOM_AGAIN,
                        false => now + GRACE, // its worker is stopped, or the like
                    };
                    if due <= now {
                        late.push((place.number, task.number, limit));
                        continue;
                    }
                    at(due);
                }
                if relief && place.sent.len() > 1 || somebody_idles && !place.ready {
                    let due = place.head_since + STUCK;
                    if due <= now { stuck.push(place.number) } else { at(due) }
                } else if relief && worker.claims.claimed().is_ok_and(|claimed| claimed <= worker.claims.through()) {
                    // It has not come to it, idle though it is: it is stopped, or somebody has taken its order.
                    let due = place.head_since + GRACE;
                    if due <= now { stuck.push(place.number) } else { at(due) }
                } else if !place.ready {
                    // Nobody tells when another comes to be ready before it.
                    at(now + STUCK.max(now.saturating_sub(place.started) / 8));
                }
            } else if spare > 0 && !worker.stopping {
                let due = place.idle_since.saturating_add(self.options.shrink_after);
                if due <= now {
                    spare -= 1;
                    place.stop();
                } else {
                    at(due);
                }
            }
        }
        let moved = concluded || !stuck.is_empty() || !late.is_empty();
        for (number, limit) in unready {
            self.take_back(number); // so that it claims none in this moment
            if let Some(place) = self.places.get_mut(number as usize).filter(|place| !place.is_ready()) {
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
        let at = self.due.take().into_iter().chain(after.map(|after| now.saturating_add(after))).min();
        (self.looks_at, self.looked_for) = (at, at);
        at.map(|at| at.saturating_sub(now))
    }

    /// Whether something comes to be due before the manager looks.
    pub fn is_due_sooner(&self) -> bool {
        self.due.is_some_and(|due| self.looks_at.is_none_or(|at| due < at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::options::PoolOptions;
    use crate::pool::place::Worker;
    use crate::pool::seat::{Claims, open};

    const LIMIT: Duration = Duration::from_secs(4);

    /// The books of a pool with one worker, which is nobody's process and has begun to start so long ago.
    fn starting_since(limit: Duration, ago: Duration) -> Engine {
        let options = PoolOptions { workers: 1, start_timeout: Some(limit), ..Default::default() };
        let mut engine = Engine::new(options, 1);
        let (_, orders) = open(&"pipe:".parse().unwrap()).unwrap();
        engine.started(0, Worker::new(i32::MAX, orders, Claims::new(1).unwrap(), None));
        engine.places[0].started = about_now().saturating_sub(ago);
        engine
    }

    fn killed_for(engine: &Engine) -> Option<DeathReason> {
        engine.places[0].killed_for
    }

    #[test]
    fn the_time_to_start_doubles_where_it_does_not_do() {
        for slow_starts in 0..9 {
            let limit = LIMIT * 2_u32.pow(slow_starts.min(4));
            let mut engine = starting_since(LIMIT, limit / 2);
            engine.slow_starts = slow_starts;
            engine.tick(&mut News::default());
            assert_eq!(killed_for(&engine), None);
            engine.places[0].started = about_now().saturating_sub(limit);
            engine.tick(&mut News::default());
            assert_eq!(killed_for(&engine), Some(DeathReason::Start(limit)));
            engine.ended(i32::MAX, None, &mut News::default());
            assert_eq!(engine.slow_starts, slow_starts + 1);
        }
        let mut engine = starting_since(Duration::MAX, Duration::ZERO);
        engine.slow_starts = 3;
        engine.tick(&mut News::default());
        assert_eq!(killed_for(&engine), None);
    }

    #[test]
    fn time_in_which_nobody_looked_is_not_the_workers() {
        let hour = Duration::from_secs(3600);
        let mut engine = starting_since(hour, hour * 2);
        engine.looked_for = Some(about_now().saturating_sub(hour * 2));
        // Where the clock began less than two hours ago, these are as long as it has run.
        engine.tick(&mut News::default());
        assert_eq!(killed_for(&engine), None);
        assert!(about_now().saturating_sub(engine.places[0].started) < Duration::from_secs(60));
    }
}
