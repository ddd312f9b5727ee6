//! Messages that a helper thread had taken when its task was cancelled: they are received next, also by who has begun to wait since
//! there was such a thread.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;
use wigwag::{Cancel, Result, Timeout};

use crate::channel_message::ChannelMessage;
use crate::support::{ended, interrupted, raise, timeout};

#[derive(Default)]
pub(crate) struct Returned {
    messages: Mutex<VecDeque<ChannelMessage>>,
    /// Whether there ever was a helper thread: without one nothing comes back.
    expected: AtomicBool,
    /// How many have come back.
    count: AtomicU64,
    /// Has fired while there are some.
    there: Cancel,
}

impl Returned {
    fn with<T>(&self, work: impl FnOnce(&mut VecDeque<ChannelMessage>) -> T) -> T {
        let mut messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        let was_empty = messages.is_empty();
        let result = work(&mut messages);
        match (was_empty, messages.is_empty()) {
            (true, false) => self.there.fire(),
            (false, true) => self.there.reset(),
            _ => {}
        }
        result
    }

    /// Has those who begin to wait from now on hear of what comes back.
    pub(crate) fn expect(&self) {
        self.expected.store(true, Ordering::Relaxed); // nothing else hangs on it
    }

    pub(crate) fn give_back(&self, message: ChannelMessage) {
        self.with(|messages| {
            messages.push_back(message);
            self.count.fetch_add(1, Ordering::Release); // pairs with the Acquire of `seen`
        });
    }

    /// How many have come back by now; to be asked before it is looked for them.
    pub(crate) fn seen(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// As `support::wait`, and none if some have come back since `seen`: those are first.
    pub(crate) fn wait<T: Send>(
        &self,
        py: Python<'_>,
        seconds: Option<f64>,
        seen: u64,
        mut call: impl FnMut(Timeout) -> Result<T> + Send,
    ) -> PyResult<Option<T>> {
        let timeout = timeout(seconds)?;
        match call(Timeout::Now) {
            Err(error) if error.errno() == libc::EAGAIN && timeout != Timeout::Now => {}
            result => return result.map(Some).map_err(|error| raise(py, error)),
        }
        let result = py.detach(|| {
            let _scope = self.expected.load(Ordering::Relaxed).then(|| self.there.enter());
            call(timeout)
        });
        match result {
            Err(error) if error.errno() == libc::ECANCELED && self.seen() != seen => {
                interrupted().map_or(Ok(None), Err)
            }
            result => ended(py, result).map(Some),
        }
    }

    pub(crate) fn take(&self) -> Option<ChannelMessage> {
        self.with(VecDeque::pop_front)
    }

    /// The first, if it is no longer than that; else its length.
    pub(crate) fn take_up_to(&self, py: Python<'_>, room: usize) -> std::result::Result<Option<ChannelMessage>, usize> {
        self.with(|messages| match messages.front().map(|message| message.length(py)) {
            Some(length) if length > room => Err(length),
            _ => Ok(messages.pop_front()),
        })
    }

    /// As many as that at most.
    pub(crate) fn take_some(&self, most: usize) -> Vec<ChannelMessage> {
        self.with(|messages| {
            let most = most.min(messages.len());
            messages.drain(..most).collect()
        })
    }

    /// Forgets them, as they come again by other means.
    pub(crate) fn forget(&self) {
        let forgotten = self.with(std::mem::take);
        drop(forgotten); // after the lock
    }
}
