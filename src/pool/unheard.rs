//! Tasks that their worker is through with, and whose reports do not come: lost on the way, or never sent.

use std::time::Duration;

use super::engine::{Engine, News};
use super::place::{Place, PlaceState};
use super::queue::Task;

/// How long a report may be on its way. Workers send it before they ask for more, so that it is long there if nothing is
/// wrong.
pub(super) const GRACE: Duration = Duration::from_secs(3);

/// The last task of a worker that it is through with, by its index, and since when that is known.
pub(super) type Unheard = Option<(u32, Duration)>;

impl Engine {
    /// Concludes tasks whose reports are overdue; when to look again, and whether there were any. `lost` is time in which nobody
    /// looked.
    pub fn conclude_overdue(&mut self, now: Duration, lost: Duration, news: &mut News) -> (Option<Duration>, bool) {
        let is_used = std::mem::replace(&mut self.looked_at, self.counts.submitted) != self.counts.submitted;
        let (mut overdue, mut next) = (Vec::new(), None);
        for place in &mut self.places {
            // Nobody tells of a report that does not come. Also if there was something to do a moment ago, for then there is likely
            // to be more soon, and a manager that looks anyway need not be woken for it.
            if is_used || !place.sent.is_empty() {
                next = next.into_iter().chain([now + GRACE]).min();
            }
            place.unheard = place.unheard.map(|(index, since)| (index, since + lost));
            let due = place.take_overdue(now, self.is_behind, &mut overdue);
            next = next.into_iter().chain(due).min();
        }
        let some = !overdue.is_empty();
        overdue.into_iter().for_each(|task| self.conclude_unheard(task, news));
        let is_worn = |place: &Place| place.limit > 0 && place.done >= place.limit && place.pid().is_some();
        let worn: Vec<u32> = if some {
            self.places.iter().filter(|place| is_worn(place)).map(|place| place.number).collect()
        } else {
            Vec::new()
        };
        worn.into_iter().for_each(|number| self.retire(number));
        (next, some)
    }
}

impl Place {
    /// Adds those to `overdue` whose reports are; when the next one is.
    fn take_overdue(&mut self, now: Duration, is_behind: bool, overdue: &mut Vec<Task>) -> Option<Duration> {
        let PlaceState::Working(worker) = &self.state else { return None };
        let through = worker.claims.through();
        let Some((front, _)) = self.sent.front().filter(|(index, _)| *index <= through) else {
            self.unheard = None;
            return None;
        };
        // What is not read yet may be what is missed.
        let known = self.unheard.filter(|(index, _)| index >= front && !is_behind);
        let (last, since) = *self.unheard.insert(known.unwrap_or((through, now)));
        if since + GRACE > now {
            return Some(since + GRACE);
        }
        let count = self.sent.partition_point(|(index, _)| *index <= last);
        overdue.extend(self.sent.drain(..count).map(|(_, task)| task));
        self.done += count as u64;
        (self.head_since, self.idle_since, self.avoided_until) = (now, now, Duration::ZERO);
        (self.reported, self.unheard) = (last, None);
        None
    }
}
