//! Processes come, work, are killed, stopped and continued, at random; nothing is lost, torn or doubled without the mark,
//! nothing stays in the hands of the dead, and those who live go on.
//!
//! A second or two each with the other tests, a minute each with `WIGWAG_TORTURE=1`.

#[path = "../support/mod.rs"]
mod support;

mod cell;
mod channel;
mod crew;
mod lease;
mod locks;
mod log;
mod one;
mod pool;
mod receivers;
mod ring;
mod tokens;
mod topic;
