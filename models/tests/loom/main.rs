//! The algorithms on shared memory under a model checker: every way in which a few threads can meet, and one of them die or
//! stop for ever.
//! And the checker is checked: with an ordering relaxed, or a fence left out, it must find what goes wrong.
//!
//! `make loom`; with fewer interruptions of each execution, a part of `make test`.
#![cfg(loom)]

mod cells;
mod checking;
mod doorbells;
mod locks;
mod meetings;
mod permits;
mod rings;
mod topics;
