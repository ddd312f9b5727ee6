//! What is told about a signal that came, and how it travels from the handler to the program.

use super::Signal;
use crate::sys::signal::KernelInfo;

/// One signal that came: which, from whom, with what.
///
/// What the kernel does not say for a signal's kind is zero: `pid` and `uid` of signals that no process sent, `value`
/// of those sent without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SignalInfo {
    /// Which signal.
    pub signal: Signal,
    /// How it came, the kernel's `si_code`: `SI_USER` (0) by kill, `SI_QUEUE` (-1) with a value, `SI_TKILL` (-6) to a
    /// thread, above 0 from the kernel.
    pub code: i32,
    /// The sender as this process sees it, 0 if it cannot; with `CHLD`, the child.
    pub pid: i32,
    /// The sender's real user; with `CHLD`, the child's.
    pub uid: u32,
    /// The number that was sent along.
    pub value: i32,
    /// The same as a whole machine word, for senders that send a pointer; its other half is undefined for those that
    /// send a number.
    pub pointer: usize,
    /// With `CHLD`: the exit status, or the signal that ended or stopped the child.
    pub status: i32,
    /// With a timer: how many further expirations this signal stands for. With `IO`: the descriptor.
    pub detail: i32,
    /// With a fault (`SEGV`, `BUS`, `FPE`, `ILL`): the address.
    pub fault_address: usize,
}

/// Its length in the queue. Well under PIPE_BUF, so that a write is whole or not at all, also between threads.
pub(super) const RECORD: usize = 48;

impl SignalInfo {
    /// Makes sense of what the kernel says. Async-signal-safe.
    pub(super) fn from_kernel(kernel: &KernelInfo, signal: Signal) -> SignalInfo {
        let mut info = SignalInfo {
            signal,
            code: kernel.code(),
            pid: 0,
            uid: 0,
            value: 0,
            pointer: 0,
            status: 0,
            detail: 0,
            fault_address: 0,
        };
        let of_child = signal == Signal::CHLD && info.code > 0;
        let has_sender = matches!(info.code, libc::SI_USER | libc::SI_TKILL | libc::SI_QUEUE | libc::SI_MESGQ);
        if has_sender || of_child {
            info.pid = kernel.word(0);
            info.uid = kernel.word(1).cast_unsigned();
        }
        if of_child {
            info.status = kernel.word(2);
        }
        if matches!(info.code, libc::SI_QUEUE | libc::SI_MESGQ | libc::SI_TIMER) {
            info.value = kernel.word(2);
            info.pointer = kernel.long(2) as usize;
        }
        match signal {
            _ if info.code == libc::SI_TIMER => info.detail = kernel.word(1),
            Signal::IO if info.code > 0 || info.code == libc::SI_SIGIO => info.detail = kernel.word(2),
            Signal::SEGV | Signal::BUS | Signal::FPE | Signal::ILL if info.code > 0 => {
                info.fault_address = kernel.long(0) as usize;
            }
            _ => {}
        }
        info
    }

    /// As bytes for the queue. Async-signal-safe.
    pub(super) fn encode(&self) -> [u8; RECORD] {
        let mut record = [0; RECORD];
        let words =
            [self.signal.number(), self.code, self.pid, self.uid.cast_signed(), self.value, self.status, self.detail];
        let (small, large) = record.split_at_mut(32);
        for (place, word) in small.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        for (place, word) in large.chunks_exact_mut(8).zip([self.pointer as u64, self.fault_address as u64]) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        record
    }

    /// From a record of the queue; `None` if it is none.
    pub(super) fn decode(record: &[u8; RECORD]) -> Option<SignalInfo> {
        let word = |n: usize| record.get(4 * n..4 * n + 4)?.try_into().ok().map(i32::from_ne_bytes);
        let long = |n: usize| record.get(32 + 8 * n..40 + 8 * n)?.try_into().ok().map(u64::from_ne_bytes);
        Some(SignalInfo {
            signal: Signal::from_number(word(0)?).ok()?,
            code: word(1)?,
            pid: word(2)?,
            uid: word(3)?.cast_unsigned(),
            value: word(4)?,
            status: word(5)?,
            detail: word(6)?,
            pointer: long(0)? as usize,
            fault_address: long(1)? as usize,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survives_the_queue() {
        let info = SignalInfo {
            signal: Signal::USR2,
            code: -1,
            pid: 77,
            uid: u32::MAX,
            value: -5,
            pointer: usize::MAX - 4,
            status: 3,
            detail: 9,
            fault_address: 0x1234_5678_9abc,
        };
        assert_eq!(SignalInfo::decode(&info.encode()), Some(info));
        assert_eq!(SignalInfo::decode(&[0; RECORD]), None);
    }
}
