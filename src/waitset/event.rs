//! What a wait set is asked to watch for, and what it reports.

use std::process::ExitStatus;

use bitflags::bitflags;

bitflags! {
    /// Which readiness of a descriptor is wanted. With neither, only hang-up and error are reported, which always are.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct Interest: u32 {
        /// Something can be read, or the end of the stream, or a connection can be accepted.
        const READABLE = 1;
        /// Something can be written.
        const WRITABLE = 2;
    }
}

bitflags! {
    /// What is the case with an entry of a wait set.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct Readiness: u32 {
        /// Something can be read, or the end of the stream, or a connection can be accepted.
        const READABLE = 1;
        /// Something can be written.
        const WRITABLE = 2;
        /// The other side is gone; what it left can still be read.
        const HANGUP = 4;
        /// An error is pending: a read or write tells which. Also: nobody reads this pipe any more.
        const ERROR = 8;
        /// The timer has expired.
        const TIMER = 16;
        /// The process has ended.
        const ENDED = 32;
    }
}

/// One entry of a [`WaitSet`](crate::WaitSet) that has something to say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WaitSetEvent {
    /// The token that the entry was added with.
    pub token: u64,
    /// What is the case with it.
    pub readiness: Readiness,
    /// For a timer: how often it has expired since it was last reported; more than 1 means that some were missed.
    pub expirations: u64,
    /// For a child: how it ended; `None` if it has been reaped by now, or is not a child of this process.
    pub status: Option<ExitStatus>,
}
