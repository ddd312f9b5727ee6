//! What a slot's holder keeps about what it stands for.
//!
//! It lies in one of two buffers; the holder writes into the other, and then exchanges the word that says which one it is,
//! how long it is, and its checksum. Whoever is killed on the way leaves the older one. A holder that was fenced in the
//! middle of writing may still spoil the buffer of the next one: then the checksum is wrong, and what was there counts as
//! lost, never as something that nobody wrote.

use nix::errno::Errno;

use super::layout::INFORMATION;
use super::slots::Shared;
use super::word::{Information, LEASE_INFORMATION_MAX};
use crate::sync_atomics::{AtomicU64, Ordering, fence};
use crate::sys::SysResult;

const TRIES: u32 = 1000;

impl Shared {
    fn information_word(&self, index: u32) -> &AtomicU64 {
        self.parts.slots.word::<INFORMATION>(index.into())
    }

    /// The information of a slot; `EBADMSG` if it was spoilt.
    pub fn information(&self, index: u32) -> SysResult<Vec<u8>> {
        let word = self.information_word(index);
        for _ in 0..TRIES {
            // Acquire pairs with the Release in `set_information`.
            let found = Information(word.load(Ordering::Acquire));
            if found.length() > LEASE_INFORMATION_MAX {
                return Err(Errno::EBADMSG);
            }
            let mut bytes = vec![0; found.length()];
            self.parts.information.get(index.into(), found.buffer() * LEASE_INFORMATION_MAX, &mut bytes);
            // The copy comes before the second look.
            fence(Ordering::Acquire);
            if word.load(Ordering::Relaxed) == found.0 {
                return if crc32fast::hash(&bytes) == found.crc() { Ok(bytes) } else { Err(Errno::EBADMSG) };
            }
        }
        Err(Errno::EAGAIN) // its holder writes all the time
    }

    /// For the holder, which `stands` says that the caller is; `ESTALE` if it was fenced meanwhile.
    pub fn set_information(&self, index: u32, bytes: &[u8], stands: impl Fn() -> SysResult<()>) -> SysResult<()> {
        let word = self.information_word(index);
        // Acquire: before the look at who the holder is. So the exchange fails if another has fenced it since.
        let found = Information(word.load(Ordering::Acquire));
        stands()?;
        let next = found.next(crc32fast::hash(bytes), bytes.len());
        self.parts.information.put(index.into(), next.buffer() * LEASE_INFORMATION_MAX, bytes);
        let set = word.compare_exchange(found.0, next.0, Ordering::Release, Ordering::Relaxed);
        set.map(drop).map_err(|_| Errno::ESTALE)
    }

    /// Has whatever a former holder is about to say fail.
    pub fn fence_information(&self, index: u32) {
        let word = self.information_word(index);
        for _ in 0..TRIES {
            let found = Information(word.load(Ordering::Relaxed));
            if word.compare_exchange(found.0, found.fenced().0, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                return;
            }
        }
    }
}
