//! The worker's side: claims its tasks one after the other, runs them, reports.

use std::panic::{AssertUnwindSafe, catch_unwind};

use nix::errno::Errno;

use super::seat::WorkerSeat;
use super::wire::{Order, Report};
use crate::error::Result;
use crate::timeout::Timeout;

/// What a handler makes of a task: the result, or the reason why there is none.
pub type HandlerResult = std::result::Result<Vec<u8>, String>;

impl WorkerSeat {
    /// Works until the pool says stop or is gone; `run` is called with the handler's number, the task's number in the pool
    /// and its bytes. A panic in it fails the task, and the worker goes on.
    ///
    /// # Errors
    /// `EBADMSG` what came is no order; what the channels give.
    pub fn serve(&self, mut run: impl FnMut(u32, u64, &[u8]) -> HandlerResult) -> Result<()> {
        let mut message = vec![0; 4096];
        let mut out = Vec::new();
        loop {
            let length = match self.orders.recv(&mut message, Timeout::Forever) {
                Ok(received) => received.length,
                Err(error) if error.is(Errno::EMSGSIZE) && error.true_size() > message.len() => {
                    message = vec![0; error.true_size()];
                    continue;
                }
                Err(error) if error.is(Errno::EPIPE) => return Ok(()), // the pool is gone
                Err(error) => return Err(error),
            };
            let Some(order) = Order::read(&message[..length]) else {
                return Err(crate::error::Error::new(Errno::EBADMSG, "serve")
                    .on_text(self.orders.address())
                    .because("this is no task of a pool; somebody else writes there"));
            };
            let Order::Task { index, handler, task, payload } = order else { return Ok(()) };
            if !self.claims.claim(index)? {
                continue;
            }
            let outcome = catch_unwind(AssertUnwindSafe(|| run(handler, task, payload)))
                .unwrap_or_else(|panic| Err(format!("the handler panicked: {}", said(&*panic))));
            self.report(index, &outcome, &mut out)?;
        }
    }

    fn report(&self, index: u32, outcome: &HandlerResult, out: &mut Vec<u8>) -> Result<()> {
        let seat = self.number;
        match outcome {
            Ok(payload) => Report::Done { seat, index, payload }.write(out),
            Err(reason) => Report::Failed { seat, index, reason: reason.as_bytes() }.write(out),
        }
        match self.reports.send(out, Timeout::Forever) {
            Err(error) if error.is(Errno::EMSGSIZE) => {
                let reason = format!("the result has {} bytes: {error}", out.len());
                Report::Failed { seat, index, reason: reason.as_bytes() }.write(out);
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
