//! The worker's side: claims its tasks one after the other, runs them, reports.

use std::panic::{AssertUnwindSafe, catch_unwind};

use nix::errno::Errno;

use super::launch::Handler;
use super::seat::WorkerSeat;
use super::wire::{Order, Report, reuse};
use crate::error::Result;
use crate::timeout::Timeout;

/// Messages in a row that the channel refuses as no message of its own.
const SKIPPED: usize = 256;

/// What a handler makes of a task: the result, or the reason why there is none.
pub type HandlerResult = std::result::Result<Vec<u8>, String>;

/// A task that a worker has claimed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkerTask {
    /// Which of the worker's tasks it is, for the report.
    pub index: u32,
    /// Its handler, by number.
    pub handler: u32,
    /// Its number in the pool.
    pub task: u64,
    /// Its bytes.
    pub payload: Vec<u8>,
}

impl WorkerSeat {
    /// Works until the pool says stop or is gone; `run` is called with the handler's number, the task's number in the pool
    /// and its bytes. A panic in it fails the task, and the worker goes on.
    ///
    /// # Errors
    /// As [`WorkerSeat::next`].
    pub fn serve(&self, mut run: impl FnMut(u32, u64, &[u8]) -> HandlerResult) -> Result<()> {
        let mut out = Vec::new();
        while let Some(task) = self.next(Timeout::Forever)? {
            let outcome = catch_unwind(AssertUnwindSafe(|| run(task.handler, task.task, &task.payload)))
                .unwrap_or_else(|panic| Err(format!("the handler panicked: {}", said(&*panic))));
            self.report_by(&mut out, task.index, &outcome)?;
        }
        Ok(())
    }

    /// As [`WorkerSeat::serve`], with handlers by their numbers, from 0.
    ///
    /// # Errors
    /// As [`WorkerSeat::next`].
    pub fn serve_handlers(&self, handlers: &[Handler]) -> Result<()> {
        self.serve(|handler, _, payload| match handlers.get(handler as usize) {
            Some(handler) => (handler.run)(payload),
            None => Err(format!("there is no handler {handler}")),
        })
    }

    /// Waits for the next task and claims it: from then on this process answers for it. `None`: the pool says stop, or is
    /// gone. One at a time, and in order: report on a task with [`WorkerSeat::report`] before you ask for the next, for who
    /// asks is taken to be through with what it had, and a report that has not come some seconds later to be lost.
    ///
    /// # Errors
    /// `EAGAIN`, `ETIMEDOUT`, `ECANCELED`; what the channel gives. What somebody else writes there is skipped.
    pub fn next(&self, timeout: Timeout) -> Result<Option<WorkerTask>> {
        self.claims.say_asks()?;
        let own = self.claims.key()?;
        let deadline = crate::timeout::Deadline::after(timeout);
        let mut skipped = 0;
        loop {
            let left = if timeout == Timeout::Now { timeout } else { deadline.left() };
            let mut message = match self.orders.recv_message(left) {
                Ok(message) => message.data,
                Err(error) if error.is(Errno::EPIPE) => return Ok(None),
                // A stranger's, with more behind it; not so often in a row.
                Err(error) if error.is(Errno::EBADMSG) && skipped < SKIPPED => {
                    skipped += 1;
                    continue;
                }
                Err(error) => return Err(error),
            };
            match Order::read(&message) {
                None => {}                         // no pool's at all
                Some((key, _)) if key != own => {} // another pool's, which may be no more
                Some((_, Order::Stop)) => return Ok(None),
                Some((_, Order::Task { index, handler, task, payload })) => {
                    let head = message.len() - payload.len();
                    if self.claims.claim(index)? {
                        message.drain(..head);
                        return Ok(Some(WorkerTask { index, handler, task, payload: message }));
                    }
                }
            }
        }
    }

    /// Reports what became of the task with this index, the one that came last; a result that the address cannot carry fails
    /// it instead. Waits for room.
    ///
    /// # Errors
    /// What the channel gives: the pool is gone.
    pub fn report(&self, index: u32, outcome: &HandlerResult) -> Result<()> {
        self.report_by(&mut Vec::new(), index, outcome)
    }

    /// As [`WorkerSeat::report`], in memory that is used again.
    fn report_by(&self, out: &mut Vec<u8>, index: u32, outcome: &HandlerResult) -> Result<()> {
        let (seat, key) = (self.number, self.claims.key()?);
        reuse(out);
        match outcome {
            Ok(payload) => Report::Done { seat, index, payload }.write(key, out),
            Err(reason) => Report::Failed { seat, index, reason: reason.as_bytes() }.write(key, out),
        }
        match self.reports.send(out, Timeout::Forever) {
            Err(error) if error.is(Errno::EMSGSIZE) => {
                let reason = format!("the result has {} bytes: {error}", out.len());
                out.clear();
                Report::Failed { seat, index, reason: reason.as_bytes() }.write(key, out);
                self.reports.send(out, Timeout::Forever)
            }
            outcome => outcome,
        }
    }
}

fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a text".into())
}
