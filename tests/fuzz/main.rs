//! What fuzzing has found worth keeping, once more: `corpus/TARGET/` has inputs that reach each part of what reads bytes of
//! others, and those that once found a fault. `make fuzz` looks for more.

#[path = "../support/mod.rs"]
mod support;
mod targets;

use std::path::Path;

/// Runs a target over its inputs, in a process of its own: what they may bring down is not the harness.
fn replay(name: &str) {
    let folder = Path::new("tests/fuzz/corpus").join(name);
    let mut inputs: Vec<_> = folder.read_dir().unwrap().map(|input| input.unwrap().path()).collect();
    inputs.sort();
    assert!(!inputs.is_empty(), "{} has no inputs", folder.display());
    support::fork(|| {
        for input in inputs {
            let bytes = std::fs::read(&input).unwrap();
            if std::panic::catch_unwind(|| targets::run(name, &bytes)).is_err() {
                panic!("{} fails: {}", name, input.display());
            }
        }
    })
    .join();
}

macro_rules! replays {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            replay(stringify!($name));
        })*

        #[test]
        fn each_target_is_replayed() {
            let replayed = [$(stringify!($name)),*];
            assert_eq!(replayed.as_slice(), targets::TARGETS.iter().map(|(name, _)| *name).collect::<Vec<_>>());
        }
    };
}

replays! { address call cell durable framing lease log ring ring_one sync topic }
