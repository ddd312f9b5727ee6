//! What pool and workers say to each other: one message per task, one per result.

/// Bytes before a task's payload.
pub(super) const TASK_HEAD: usize = 16;
/// Bytes before a result's payload.
const RESULT_HEAD: usize = 12;
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
    /// Adds it to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Order::Task { index, handler, task, payload } => {
                out.extend_from_slice(&index.to_le_bytes());
                out.extend_from_slice(&handler.to_le_bytes());
                out.extend_from_slice(&task.to_le_bytes());
                out.extend_from_slice(payload);
            }
            Order::Stop => out.extend_from_slice(&STOP.to_le_bytes()),
        }
    }

    /// `None`: not an order.
    pub fn read(message: &[u8]) -> Option<Order<'_>> {
        if message == STOP.to_le_bytes() {
            return Some(Order::Stop);
        }
        let (head, payload) = message.split_at_checked(TASK_HEAD)?;
        let index = word(head, 0)?;
        let task = u64::from(word(head, 8)?) | u64::from(word(head, 12)?) << 32;
        (index != STOP).then_some(Order::Task { index, handler: word(head, 4)?, task, payload })
    }
}

impl Report<'_> {
    /// Adds it to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        let (seat, index, kind, payload) = match self {
            Report::Done { seat, index, payload } => (*seat, *index, 0_u32, *payload),
            Report::Failed { seat, index, reason } => (*seat, *index, 1, *reason),
            Report::Wake => (NOBODY, 0, 0, &b""[..]),
        };
        out.extend_from_slice(&seat.to_le_bytes());
        out.extend_from_slice(&index.to_le_bytes());
        out.extend_from_slice(&kind.to_le_bytes());
        out.extend_from_slice(payload);
    }

    /// `None`: not a report.
    pub fn read(message: &[u8]) -> Option<Report<'_>> {
        let (head, payload) = message.split_at_checked(RESULT_HEAD)?;
        let (seat, index) = (word(head, 0)?, word(head, 4)?);
        match word(head, 8)? {
            _ if seat == NOBODY => Some(Report::Wake),
            0 => Some(Report::Done { seat, index, payload }),
            1 => Some(Report::Failed { seat, index, reason: payload }),
            _ => None,
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut bytes = Vec::new();
        for order in [Order::Task { index: 3, handler: 7, task: 1 << 40, payload: b"hello" }, Order::Stop] {
            bytes.clear();
            order.write(&mut bytes);
            assert_eq!(Order::read(&bytes), Some(order));
        }
        for report in [
            Report::Done { seat: 1, index: 2, payload: b"" },
            Report::Failed { seat: 1, index: 2, reason: b"why" },
            Report::Wake,
        ] {
            bytes.clear();
            report.write(&mut bytes);
            assert_eq!(Report::read(&bytes), Some(report));
        }
        assert_eq!(Order::read(b"short"), None);
        assert_eq!(Report::read(b""), None);
        assert_eq!(Report::read(&[9; 12]), None);
    }
}
