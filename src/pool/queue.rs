//! Tasks that no worker has: the highest priority first, and of one priority in the order of their numbers.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use super::options::TaskOptions;
use super::signal::Changes;
use super::verdict::{Death, Verdict};

/// A task, from submission to verdict.
pub(super) struct Task {
    pub number: u64,
    pub handler: u32,
    pub payload: Vec<u8>,
    pub options: TaskOptions,
    pub deaths: Vec<Death>,
    /// How often a worker without anything to do had no room for it.
    pub refused: u32,
    pub ticket: Option<Arc<Ticket>>,
}

/// Where whoever waits for one task finds its verdict.
#[derive(Default)]
pub(super) struct Ticket {
    pub verdict: Mutex<Option<Verdict>>,
    pub changes: Changes,
}

#[derive(Default)]
pub(super) struct Queue {
    /// None is empty.
    lanes: BTreeMap<Reverse<u32>, Lane>,
    tasks: usize,
}

/// The tasks of one priority, by their numbers.
#[derive(Default)]
struct Lane {
    /// A task that was taken out of the middle leaves its number, so that nothing has to move up.
    places: VecDeque<(u64, Option<Task>)>,
    tasks: usize,
}

impl Queue {
    pub fn len(&self) -> usize {
        self.tasks
    }

    pub fn is_empty(&self) -> bool {
        self.tasks == 0
    }

    pub fn insert(&mut self, task: Task) {
        self.lanes.entry(Reverse(task.options.priority)).or_default().insert(task);
        self.tasks += 1;
    }

    /// The next task.
    pub fn pop(&mut self) -> Option<Task> {
        let mut first = self.lanes.first_entry()?;
        let task = first.get_mut().pop();
        if first.get().tasks == 0 {
            first.remove();
        }
        self.tasks -= usize::from(task.is_some());
        task
    }

    /// The task with this number.
    pub fn remove(&mut self, number: u64) -> Option<Task> {
        let (priority, task) =
            self.lanes.iter_mut().find_map(|(priority, lane)| Some((*priority, lane.remove(number)?)))?;
        if self.lanes.get(&priority).is_some_and(|lane| lane.tasks == 0) {
            self.lanes.remove(&priority);
        }
        self.tasks -= 1;
        Some(task)
    }
}

impl Lane {
    fn insert(&mut self, task: Task) {
        let at = match self.places.back() {
            Some((last, _)) if *last > task.number => self.places.partition_point(|(number, _)| *number < task.number),
            _ => self.places.len(),
        };
        self.places.insert(at, (task.number, Some(task)));
        self.tasks += 1;
    }

    fn pop(&mut self) -> Option<Task> {
        loop {
            if let (_, Some(task)) = self.places.pop_front()? {
                self.tasks -= 1;
                return Some(task);
            }
        }
    }

    fn remove(&mut self, number: u64) -> Option<Task> {
        let at = self.places.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        let task = self.places.get_mut(at)?.1.take()?;
        self.tasks -= 1;
        if self.places.len() > 2 * self.tasks + 32 {
            self.places.retain(|(_, task)| task.is_some());
        }
        Some(task)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(number: u64, priority: u32) -> Task {
        Task {
            number,
            handler: 0,
            payload: Vec::new(),
            options: TaskOptions { priority, ..Default::default() },
            deaths: Vec::new(),
            refused: 0,
            ticket: None,
        }
    }

    fn rest(queue: &mut Queue) -> Vec<u64> {
        std::iter::from_fn(|| queue.pop()).map(|task| task.number).collect()
    }

    #[test]
    fn the_highest_priority_and_the_lowest_number_come_first() {
        let mut queue = Queue::default();
        for (number, priority) in [(3, 0), (4, 2), (5, 0), (1, 0), (2, 2), (4000, 1), (0, 0), (6, 0)] {
            queue.insert(task(number, priority));
        }
        assert_eq!(queue.len(), 8);
        assert_eq!(rest(&mut queue), [2, 4, 4000, 0, 1, 3, 5, 6]);
        assert!(queue.is_empty() && queue.pop().is_none() && queue.lanes.is_empty());
    }

    #[test]
    fn a_task_is_taken_out_once_wherever_it_is() {
        let mut queue = Queue::default();
        (0..1000).for_each(|number| queue.insert(task(number, 0)));
        queue.insert(task(1000, 7));
        assert_eq!(queue.remove(1000).map(|task| task.number), Some(1000));
        for number in (1..1000).filter(|number| number % 10 > 0) {
            assert_eq!(queue.remove(number).map(|task| task.number), Some(number));
            assert!(queue.remove(number).is_none());
            let places = queue.lanes.values().map(|lane| lane.places.len()).sum::<usize>();
            assert!(places <= 2 * queue.len() + 32, "{places} places for {} tasks", queue.len());
        }
        assert!(queue.remove(1000).is_none() && queue.remove(5000).is_none());
        assert_eq!(queue.len(), 100);
        assert_eq!(rest(&mut queue), (0..1000).step_by(10).collect::<Vec<_>>());
    }
}
