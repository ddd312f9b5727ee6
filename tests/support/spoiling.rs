//! A peer that keeps no rules.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// Numbers that look random and are the same each time (Steele, Lea, Flood, "Fast splittable pseudorandom number
/// generators", 2014).
pub struct Numbers(pub u64);

impl Numbers {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// Writes over one word, with what could be there, or could not.
pub fn spoil(file: &File, size: u64, numbers: &mut Numbers) {
    let at = numbers.next() % (size / 8) * 8;
    let mut bytes = [0; 8];
    file.read_exact_at(&mut bytes, at).unwrap();
    let (old, new) = (u64::from_le_bytes(bytes), numbers.next());
    let value = match new % 7 {
        0 => 0,
        1 => u64::MAX,
        2 => old.wrapping_add(1),
        3 => old.wrapping_sub(1),
        4 => old ^ (1 << (numbers.next() % 64)),
        5 => old.wrapping_add((numbers.next() % 64) << 24),
        _ => numbers.next(),
    };
    file.write_all_at(&value.to_le_bytes(), at).unwrap();
}

/// A process that spoils a segment until it is killed.
pub fn spoiling(segment: &impl std::os::fd::AsFd, seed: u64) -> super::Child {
    let file = File::from(segment.as_fd().try_clone_to_owned().unwrap());
    let size = file.metadata().unwrap().len();
    super::fork(|| {
        let mut numbers = Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        loop {
            spoil(&file, size, &mut numbers);
        }
    })
}
