//! Messages that a helper thread had taken when its task was cancelled: they are received next.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;

use crate::channel_message::ChannelMessage;

#[derive(Default)]
pub(crate) struct Returned(Mutex<VecDeque<ChannelMessage>>);

impl Returned {
    fn messages(&self) -> MutexGuard<'_, VecDeque<ChannelMessage>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn give_back(&self, message: ChannelMessage) {
        self.messages().push_back(message);
    }

    pub(crate) fn take(&self) -> Option<ChannelMessage> {
        self.messages().pop_front()
    }

    /// The first, if it is no longer than that; else its length.
    pub(crate) fn take_up_to(&self, py: Python<'_>, room: usize) -> Result<Option<ChannelMessage>, usize> {
        let mut messages = self.messages();
        match messages.front().map(|message| message.length(py)) {
            Some(length) if length > room => Err(length),
            _ => Ok(messages.pop_front()),
        }
    }

    /// As many as that at most.
    pub(crate) fn take_some(&self, most: usize) -> Vec<ChannelMessage> {
        let mut messages = self.messages();
        let most = most.min(messages.len());
        messages.drain(..most).collect()
    }

    /// Forgets them, as they come again by other means.
    pub(crate) fn forget(&self) {
        let forgotten = std::mem::take(&mut *self.messages());
        drop(forgotten); // after the lock
    }
}
