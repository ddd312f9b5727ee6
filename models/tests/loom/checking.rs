//! How a scenario is checked, and the check itself.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use wigwag::modelled::{Fate, Model, Outcome, Words, explore};

/// What is shared without a lock of its own: loom finds accesses that nothing orders.
pub struct Shared(loom::cell::UnsafeCell<u64>);

// SAFETY: loom stops an execution in which two threads reach it at once.
unsafe impl Sync for Shared {}
// SAFETY: as above.
unsafe impl Send for Shared {}

impl Shared {
    pub fn new() -> Arc<Shared> {
        Arc::new(Shared(loom::cell::UnsafeCell::new(0)))
    }

    pub fn get(&self) -> u64 {
        // SAFETY: see above.
        self.0.with(|value| unsafe { *value })
    }

    pub fn add(&self, more: u64) {
        // SAFETY: see above.
        self.0.with_mut(|value| unsafe { *value += more });
    }
}

/// How often a thread is interrupted that could go on.
fn preemptions() -> usize {
    std::env::var("WIGWAG_PREEMPTIONS").map_or(1, |text| text.parse().unwrap())
}

/// The line of a file of src that has this text in it: the only one, or the first behind what stands before an ellipsis.
fn line(file: &'static str, text: &str) -> (&'static str, u32) {
    let source = std::fs::read_to_string(format!("{}/../src/{file}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let (before, text) = text.split_once(" … ").unwrap_or(("", text));
    let mut lines = (1u32..).zip(source.lines()).skip_while(|(_, line)| !line.contains(before));
    let found = lines.find(|(_, line)| line.contains(text));
    let (number, _) = found.unwrap_or_else(|| panic!("{file} has no {text:?} any more: say what stands for it"));
    assert!(!before.is_empty() || !lines.any(|(_, line)| line.contains(text)), "{file} has {text:?} more than once");
    (file, number)
}

/// Nothing goes wrong, and something does with each of these, one line or more, weakened.
pub fn holds(name: &str, scenario: fn(), seeds: &[&[(&'static str, &str)]]) {
    holds_with(preemptions(), name, scenario, seeds);
}

/// The same for what takes too long otherwise: a thread goes on until it sleeps or ends.
pub fn holds_uninterrupted(name: &str, scenario: fn(), seeds: &[&[(&'static str, &str)]]) {
    holds_with(0, name, scenario, seeds);
}

fn holds_with(preemptions: usize, name: &str, scenario: fn(), seeds: &[&[(&'static str, &str)]]) {
    let (began, mut words) = (Instant::now(), Words::default());
    let model = Model { preemptions, seed: &[], fate: None };
    let outcome = explore(model, &mut words, scenario);
    let Outcome::Passed(executions) = outcome else { panic!("{name}: {outcome:?}") };
    assert!(executions > 10, "{name}: nothing was tried");
    println!("{name}: {executions} executions, {:.1?}", began.elapsed());
    for seed in seeds {
        let began = Instant::now();
        let lines: Vec<_> = seed.iter().map(|(file, text)| line(file, text)).collect();
        let outcome = explore(Model { seed: lines.leak(), ..model }, &mut words, scenario);
        let Outcome::Failed(why) = &outcome else { panic!("{name}, without {seed:?}: {outcome:?}") };
        let why = why.lines().find(|line| !line.is_empty() && !line.starts_with("panicked")).unwrap_or_default();
        println!("{name}, without {seed:?}: {why}, {:.1?}", began.elapsed());
    }
}

/// The same for one in which a thread dies, at each access in turn.
pub fn holds_at_every_death(name: &str, scenario: fn()) {
    holds_whatever_happens(name, Fate::Dies, scenario);
}

/// The same for one in which a thread stops for ever, at each access in turn.
pub fn holds_at_every_stop(name: &str, scenario: fn()) {
    holds_whatever_happens(name, Fate::Stops, scenario);
}

fn holds_whatever_happens(name: &str, fate: fn(usize) -> Fate, scenario: fn()) {
    let (began, mut all, mut words) = (Instant::now(), 0, Words::default());
    for point in 0.. {
        let fate = fate(point);
        match explore(Model { preemptions: 1, seed: &[], fate: Some(fate) }, &mut words, scenario) {
            Outcome::Passed(executions) => all += executions,
            Outcome::NoSuchPoint => {
                println!("{name}: before {fate:?}, {all} executions, {:.1?}", began.elapsed());
                assert!(point >= 3, "{name}: nothing happened to anybody");
                return;
            }
            Outcome::Failed(why) | Outcome::Broken(why) => panic!("{name}, {fate:?}: {why}"),
        }
    }
}

pub fn again(segment: &impl AsFd) -> OwnedFd {
    segment.as_fd().try_clone_to_owned().unwrap()
}
