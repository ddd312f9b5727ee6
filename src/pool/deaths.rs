//! What the end of a worker means for the tasks that it was sent, and what it means if workers end before they begin.

use std::time::Duration;

use super::RESTART;
use super::engine::{Engine, News};
use super::group::Group;
use super::place::PlaceState;
use super::verdict::{Death, DeathReason, EndOfWorker, Verdict};
use crate::sys::child::End;
use crate::timeout::about_now;

/// Workers that end before they have done anything, one after the other, until a task is failed for it.
const FALSE_STARTS: u32 = 3;
/// So many attempts in a row to start workers are in vain, for more than a second, before tasks fail with them.
const VAIN_STARTS: u32 = 8;

impl Engine {
    /// A worker has ended.
    pub fn ended(&mut self, pid: i32, end: Option<End>, news: &mut News) {
        let found = self.places.iter().position(|place| place.pid() == Some(pid));
        let Some(place) = found.and_then(|at| self.places.get_mut(at)) else { return };
        let PlaceState::Working(mut worker) = std::mem::replace(&mut place.state, PlaceState::Empty) else { return };
        let (claimed, through) = (worker.claims.claimed().unwrap_or(0), worker.claims.through());
        if worker.claims.is_ready() && about_now().saturating_sub(place.started) >= RESTART.1 {
            (self.false_starts, self.vain_starts) = (0, 0); // it had been there for a while
        }
        let last_words = self.reaper.as_ref().map(|reaper| reaper.forget(pid)).unwrap_or_default();
        let by_kernel = worker.group.as_ref().is_some_and(Group::has_killed)
            && end
                .as_ref()
                .is_none_or(|end| libc::WIFSIGNALED(end.status) && libc::WTERMSIG(end.status) == libc::SIGKILL);
        let group_peak = worker.group.as_ref().map(Group::peak);
        news.groups.extend(worker.group.take());
        let own = if by_kernel { DeathReason::Memory(self.options.memory_limit) } else { DeathReason::Own };
        let reason = place.killed_for.take().unwrap_or(own);
        let sent = std::mem::take(&mut place.sent);
        let (had_done, stopping) = (place.done, worker.stopping);
        let status = end.as_ref().map(|end| end.status);
        let mut begun = None;
        for (index, task) in sent.into_iter().rev() {
            match index.cmp(&claimed) {
                _ if index <= through => self.conclude_unheard(task, news),
                std::cmp::Ordering::Less => self.conclude_unheard(task, news),
                std::cmp::Ordering::Equal => begun = Some(task),
                std::cmp::Ordering::Greater => self.queue.insert(task),
            }
        }
        if begun.is_some() {
            (self.false_starts, self.vain_starts) = (0, 0); // it had got to work
        }
        // Of those that were started together and given the same time, one counts.
        let is_another = match reason {
            DeathReason::Start(limit) => self.start_limit().is_some_and(|next| limit >= next),
            _ => true,
        };
        if is_another && matches!(reason, DeathReason::Start(_)) {
            self.slow_starts = self.slow_starts.saturating_add(1);
        }
        let peak = end.map(|end| end.peak_memory).filter(|peak| *peak > 0); // of a child of another's it is not told
        let peak = peak.or(group_peak).unwrap_or(0);
        let mut death = Death {
            task: 0,
            pid,
            signal: status.filter(|status| libc::WIFSIGNALED(*status)).map(|status| libc::WTERMSIG(status)),
            exit_code: status.filter(|status| libc::WIFEXITED(*status)).map(|status| libc::WEXITSTATUS(status)),
            reason,
            peak_memory: peak,
            last_words,
        };
        if begun.is_none() && !stopping && had_done == 0 {
            // It never got to work. That says little about a task, unless it goes on like that.
            self.false_starts += u32::from(is_another);
            self.counts.deaths += 1;
            if is_another && self.false_starts >= FALSE_STARTS {
                begun = self.queue.pop();
            }
            self.false_start = Some(death.clone());
        } else if begun.is_some() {
            self.counts.deaths += 1;
        }
        let Some(mut task) = begun else { return };
        death.task = task.number;
        task.deaths.push(death.clone());
        let attempts = u32::try_from(task.deaths.len()).unwrap_or(u32::MAX);
        if reason == DeathReason::Cancel {
            self.conclude(task, Verdict::Cancelled, news);
        } else if attempts <= self.options.retries {
            self.counts.retried += 1;
            self.queue.insert(task);
        } else if self.options.retries > 0 {
            let deaths = std::mem::take(&mut task.deaths);
            self.conclude(task, Verdict::Poison(deaths), news);
        } else {
            self.conclude(task, Verdict::Lost(death), news);
        }
    }

    /// The first of these has not been started, for that reason, and the others not been tried; the pause until the next
    /// attempt.
    pub fn not_started(&mut self, numbers: &[u32], reason: &str, news: &mut News) -> Duration {
        let places = self.places.iter_mut().filter(|place| numbers.contains(&place.number));
        places.for_each(|place| place.state = PlaceState::Empty);
        self.in_vain(reason, news)
    }

    /// The pause until the next attempt, if workers have ended before they had done anything. Those that end while such a
    /// pause lasts were started together, and count once.
    pub fn started_in_vain(&mut self, pauses: bool, news: &mut News) -> Option<Duration> {
        let death = self.false_start.take()?;
        let reason = EndOfWorker(&death).to_string();
        if pauses {
            self.fail_what_waits(&reason, news); // the last of those that were started together may be the one that ends now
            return None;
        }
        Some(self.in_vain(&reason, news))
    }

    fn in_vain(&mut self, reason: &str, news: &mut News) -> Duration {
        self.vain_starts = self.vain_starts.saturating_add(1);
        self.fail_what_waits(reason, news);
        let doubled = 1_u32.checked_shl(self.vain_starts - 1).unwrap_or(u32::MAX);
        RESTART.0.saturating_mul(doubled).min(RESTART.1)
    }

    /// Fails what waits once it goes on like that, and nobody is there who would do it.
    fn fail_what_waits(&mut self, reason: &str, news: &mut News) {
        if self.vain_starts < VAIN_STARTS || !self.is_empty() {
            return;
        }
        while let Some(task) = self.queue.pop() {
            self.conclude(task, Verdict::Failed(format!("no worker can be started: {reason}")), news);
        }
    }

    /// Kills workers that have more memory than they may.
    pub fn too_large(&mut self, pids: &[i32]) {
        let limit = self.options.memory_limit;
        for place in self.places.iter_mut().filter(|place| place.pid().is_some_and(|pid| pids.contains(&pid))) {
            place.kill(DeathReason::Memory(limit));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::options::{PoolOptions, TaskOptions};
    use crate::pool::place::Worker;
    use crate::pool::seat::{Claims, open};

    /// Has a worker, which is nobody's process, in this place.
    fn start(engine: &mut Engine, number: u32) -> i32 {
        let pid = i32::MAX - number as i32;
        let (_, orders) = open(&"pipe:".parse().unwrap()).unwrap();
        engine.started(number, Worker::new(pid, orders, Claims::new(u64::from(number)).unwrap(), None));
        pid
    }

    #[test]
    fn what_waits_fails_with_the_last_worker_of_an_attempt_in_vain() {
        let mut engine = Engine::new(PoolOptions { workers: 2, ..Default::default() }, 1);
        let mut news = News::default();
        engine.vain_starts = VAIN_STARTS - 1;
        let [first, second] = [0, 1].map(|number| start(&mut engine, number));
        for _ in 0..4 {
            engine.submit(0, Vec::new(), TaskOptions::default(), None);
        }
        engine.ended(first, None, &mut news);
        assert!(engine.started_in_vain(false, &mut news).is_some());
        assert!(engine.completed.is_empty() && engine.vain_starts == VAIN_STARTS, "another is there");
        engine.ended(second, None, &mut news);
        assert!(engine.started_in_vain(true, &mut news).is_none());
        assert!(engine.is_done() && engine.completed.len() == 4);
        assert!(engine.completed.iter().all(|(_, verdict)| matches!(verdict, Verdict::Failed(_))));
    }
}
