//! How many workers there are: more as tasks wait for one.

use super::engine::Engine;
use super::place::{Place, PlaceState};
use crate::timeout::about_now;

impl Engine {
    /// Whether there can be one more worker than are at work.
    pub fn can_grow(&self) -> bool {
        !self.given_up && self.places.iter().any(|place| !matches!(place.state, PlaceState::Working(_)))
    }

    /// How many workers shall be started.
    fn missing(&self) -> usize {
        if self.given_up || self.closing && self.queue.is_empty() {
            return 0;
        }
        let now = about_now();
        let live = self.places.iter().filter(|place| !matches!(place.state, PlaceState::Empty)).count();
        let least = self.options.least_workers.unwrap_or(self.options.workers) as usize;
        let idles = |place: &Place| match place.state {
            PlaceState::Starting => true,
            _ => place.takes(1) && !(place.ready && place.avoided_until > now),
        };
        let idle = self.places.iter().any(idles);
        let more = if !self.queue.is_empty() && !idle { live + 1 } else { live };
        let wanted = if self.closing { more.max(1) } else { more.max(least) };
        wanted.min(self.places.len()).saturating_sub(live)
    }

    /// Whether [`Engine::wanted`] has something to say.
    pub fn lacks_workers(&self) -> bool {
        self.missing() > 0
    }

    /// Workers that shall be started now; their places are set aside for it.
    pub fn wanted(&mut self) -> Vec<u32> {
        let missing = self.missing();
        let empty = self.places.iter_mut().filter(|place| matches!(place.state, PlaceState::Empty));
        let start = |place: &mut Place| {
            place.state = PlaceState::Starting;
            place.number
        };
        empty.take(missing).map(start).collect()
    }
}
