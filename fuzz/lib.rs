//! What the fuzzing programs run: the same as the test that replays what they have found.

#[path = "../tests/fuzz/targets/mod.rs"]
pub mod targets;
