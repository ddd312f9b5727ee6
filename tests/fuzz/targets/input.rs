//! Bytes read as a script: what to do, and what a peer that keeps no rules writes in between.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use wigwag::{Error, Result, Timeout};

/// Long enough to fall asleep, short enough for many.
const BRIEF: Timeout = Timeout::After(Duration::from_micros(100));
/// A script that takes longer has got stuck.
const LONG: Duration = Duration::from_secs(20);
/// Longer scripts find nothing that shorter ones do not.
const STEPS: usize = 64;

/// What can be said of bytes that are not what they should be, or of a peer that does not do its part.
const TOLD: &[Errno] = &[
    Errno::EAGAIN,
    Errno::ETIMEDOUT,
    Errno::EBADMSG,
    Errno::EBUSY,
    Errno::EINVAL,
    Errno::EMSGSIZE,
    Errno::ENOTRECOVERABLE,
    Errno::EPERM,
    Errno::EPIPE,
    Errno::EPROTO,
    Errno::ESTALE,
    Errno::EUSERS,
];

/// What came out, if it is no error; the error must be one of those that the bytes can be to blame for.
pub fn told<T>(result: Result<T>) -> Option<T> {
    told_or(&[], result)
}

/// As [`told`], with further errors that are right here.
pub fn told_or<T>(also: &[Errno], result: Result<T>) -> Option<T> {
    let right = |error: &Error| TOLD.iter().chain(also).any(|errno| error.is(*errno));
    result.inspect_err(|error| assert!(right(error), "an error that says nothing about the bytes: {error}")).ok()
}

/// What is left to read of the bytes.
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub fn new(bytes: &'a [u8]) -> Input<'a> {
        Input(bytes)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next bytes, as many as there are of so many.
    pub fn take(&mut self, length: usize) -> &'a [u8] {
        let (front, back) = self.0.split_at(length.min(self.0.len()));
        self.0 = back;
        front
    }

    fn number<const N: usize>(&mut self) -> u64 {
        let mut bytes = [0; 8];
        let found = self.take(N);
        bytes[..found.len()].copy_from_slice(found);
        u64::from_le_bytes(bytes)
    }

    /// What has come to its end goes on with zeros.
    pub fn byte(&mut self) -> u8 {
        self.number::<1>() as u8
    }

    pub fn short(&mut self) -> usize {
        self.number::<2>() as usize
    }

    pub fn word(&mut self) -> u64 {
        self.number::<8>()
    }

    /// Bytes after their length.
    pub fn some(&mut self) -> &'a [u8] {
        let length = self.byte();
        self.take(length.into())
    }

    pub fn timeout(&mut self) -> Timeout {
        if self.byte().is_multiple_of(4) { BRIEF } else { Timeout::Now }
    }
}

/// Goes through the script: what concerns the memory is done to it, the rest is `step`'s.
pub fn play<'a>(input: &mut Input<'a>, memory: &impl AsFd, mut step: impl FnMut(u8, &mut Input<'a>)) {
    let memory = File::from(memory.as_fd().try_clone_to_owned().unwrap());
    let size = memory.metadata().unwrap().len();
    within(|| {
        for _ in 0..STEPS {
            if input.is_empty() {
                return;
            }
            match input.byte() {
                0..80 => change(&memory, size, input),
                80..96 => {
                    let at = input.short() as u64 % size;
                    let bytes = input.some();
                    let bytes = &bytes[..bytes.len().min((size - at) as usize)];
                    memory.write_all_at(bytes, at).unwrap();
                }
                code => step(code, input),
            }
        }
    });
}

/// Writes over one word, with what could be there, or could not.
pub fn change(memory: &File, size: u64, input: &mut Input) {
    let at = (input.short() as u64 * 8) % (size / 8 * 8);
    let mut bytes = [0; 8];
    memory.read_exact_at(&mut bytes, at).unwrap();
    let old = u64::from_le_bytes(bytes);
    let value = match input.byte() % 8 {
        0 => 0,
        1 => u64::MAX,
        2 => old.wrapping_add(1),
        3 => old.wrapping_sub(1),
        4 => old ^ (1 << (input.byte() % 64)),
        5 => old.wrapping_add(u64::from(input.byte()) << 24),
        6 => input.short() as u64,
        _ => input.word(),
    };
    memory.write_all_at(&value.to_le_bytes(), at).unwrap();
}

/// Nothing may take so long that it must have waited for what never comes.
pub fn within<T>(what: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let result = what();
    assert!(begun.elapsed() < LONG, "took {:?}", begun.elapsed());
    result
}
