//! What pool and workers say to each other: one message per task, one per result.
//!
//! Each carries the worker's key, which no other worker of this or another pool has: at an address with a name a message may
//! be a stranger's, or be left of a pool that was killed.

/// Bytes before a task's payload.
pub(super) const TASK_HEAD: usize = 24;
/// Bytes before a result's payload.
const RESULT_HEAD: usize = 20;
/// Bytes of the word to end.
const STOP_SIZE: usize = 12;
/// The index of no task: the worker is to end.
const STOP: u32 = u32::MAX;
/// The seat of no worker: the pool wakes itself.
const NOBODY: u32 = u32::MAX;

/// To a worker.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Order<'a> {
    /// The task with this index among all that this worker was sent.
    Task { index: u32, handler: u32, task: u64, payload: &'a [u8] },
    /// End when everything before is done.
    Stop,
}

/// From a worker.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Report<'a> {
    /// The handler gave this.
    Done { seat: u32, index: u32, payload: &'a [u8] },
    /// The handler failed with this text.
    Failed { seat: u32, index: u32, reason: &'a [u8] },
    /// From the pool itself: something else needs its attention.
    Wake,
}

impl Order<'_> {
    /// Adds it to `out`, for the worker with this key.
    pub fn write(&self, key: u64, out: &mut Vec<u8>) {
        match self {
            Order::Task { index, handler, task, payload } => {
                out.extend_from_slice(&index.to_le_bytes());
                out.extend_from_slice(&key.to_le_bytes());
                out.extend_from_slice(&handler.to_le_bytes());
                out.extend_from_slice(&task.to_le_bytes());
                out.extend_from_slice(payload);
            }
            Order::Stop => {
                out.extend_from_slice(&STOP.to_le_bytes());
                out.extend_from_slice(&key.to_le_bytes());
            }
        }
    }

    /// And the key; `None`: not an order.
    pub fn read(message: &[u8]) -> Option<(u64, Order<'_>)> {
        let (index, key) = (word(message, 0)?, long(message, 4)?);
        if index == STOP {
            return (message.len() == STOP_SIZE).then_some((key, Order::Stop));
        }
        let (head, payload) = message.split_at_checked(TASK_HEAD)?;
        Some((key, Order::Task { index, handler: word(head, 12)?, task: long(head, 16)?, payload }))
    }
}

impl Report<'_> {
    /// Adds it to `out`, from the worker with this key.
    pub fn write(&self, key: u64, out: &mut Vec<u8>) {
        let (seat, index, kind, payload) = match self {
            Report::Done { seat, index, payload } => (*seat, *index, 0_u32, *payload),
            Report::Failed { seat, index, reason } => (*seat, *index, 1, *reason),
            Report::Wake => (NOBODY, 0, 0, &b""[..]),
        };
        out.extend_from_slice(&seat.to_le_bytes());
        out.extend_from_slice(&index.to_le_bytes());
        out.extend_from_slice(&kind.to_le_bytes());
        out.extend_from_slice(&key.to_le_bytes());
        out.extend_from_slice(payload);
    }

    /// And the key; `None`: not a report.
    pub fn read(message: &[u8]) -> Option<(u64, Report<'_>)> {
        let (head, payload) = message.split_at_checked(RESULT_HEAD)?;
        let (seat, index, key) = (word(head, 0)?, word(head, 4)?, long(head, 12)?);
        let report = match word(head, 8)? {
            _ if seat == NOBODY => Report::Wake,
            0 => Report::Done { seat, index, payload },
            1 => Report::Failed { seat, index, reason: payload },
            _ => return None,
        };
        Some((key, report))
    }
}

/// Several messages, one behind the other in memory.
#[derive(Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Batch {
    /// Leaves no more memory than most batches need.
    pub fn clear(&mut self) {
        reuse(&mut self.bytes);
        self.ends.clear();
    }

    /// Adds the message that `write` adds to the bytes.
    pub fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        self.ends.push(self.bytes.len());
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// All of them, in bytes.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let begins = std::iter::once(&0).chain(&self.ends);
        begins.zip(&self.ends).map(|(begin, end)| self.bytes.get(*begin..*end).unwrap_or_default())
    }
}

/// Empties memory for messages that is used again; what one large message has taken is given back.
pub(super) fn reuse(bytes: &mut Vec<u8>) {
    const USUAL: usize = 1 << 16;
    bytes.clear();
    bytes.shrink_to(USUAL);
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.first_chunk().map(|four| u32::from_le_bytes(*four))
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8)?.first_chunk().map(|eight| u64::from_le_bytes(*eight))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut bytes = Vec::new();
        for order in [Order::Task { index: 3, handler: 7, task: 1 << 40, payload: b"hello" }, Order::Stop] {
            bytes.clear();
            order.write(1 << 50, &mut bytes);
            assert_eq!(Order::read(&bytes), Some((1 << 50, order)));
        }
        for report in [
            Report::Done { seat: 1, index: 2, payload: b"" },
            Report::Failed { seat: 1, index: 2, reason: b"why" },
            Report::Wake,
        ] {
            bytes.clear();
            report.write(7, &mut bytes);
            assert_eq!(Report::read(&bytes), Some((7, report)));
        }
        assert_eq!(Order::read(b"short"), None);
        assert_eq!(Report::read(b""), None);
        assert_eq!(Report::read(&[9; 20]), None);
    }
}
