//! What reads bytes of others, each as a function of such bytes: it may refuse them, and must come back.
//!
//! The programs in `fuzz/` call these with ever new bytes (`make fuzz`); the test beside this folder with those that were
//! kept. A function panics if anything comes out that must not: an errno that says nothing about the bytes, more bytes than
//! there is room for, a wait beyond its timeout.

mod address;
mod call;
mod cell;
mod durable;
mod framing;
mod input;
mod lease;
mod log;
mod ring;
mod sync;
mod topic;

/// Does with such bytes what can be done with them.
type Target = fn(&[u8]);

/// Their names, which are those of the programs and of the folders with kept inputs.
pub const TARGETS: &[(&str, Target)] = &[
    ("address", address::parse),
    ("call", call::envelopes),
    ("cell", cell::cell),
    ("durable", durable::files),
    ("framing", framing::streams),
    ("lease", lease::pool),
    ("log", log::records),
    ("ring", ring::many),
    ("ring_one", ring::one),
    ("sync", sync::locks),
    ("topic", topic::topic),
];

/// Runs the target of this name.
pub fn run(name: &str, bytes: &[u8]) {
    let (_, target) = TARGETS.iter().find(|(known, _)| *known == name).expect("a target of this name");
    target(bytes);
}
