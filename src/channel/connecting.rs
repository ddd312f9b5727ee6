//! Connecting to a receiver that may be about to come.

use std::time::Duration;

use nix::errno::Errno;

use crate::address::{Address, Scheme};
use crate::error::{Error, Result};
use crate::socket::{Socket, SocketOptions};
use crate::sync_atomics::AtomicU32;
use crate::timeout::Timeout;
use crate::wait::Operation;

/// Pauses between two attempts, in milliseconds.
const PAUSES: std::ops::RangeInclusive<u64> = 1..=50;
/// How long one attempt lasts at first, and once it has proved too short.
const SHORTEST_PART: Duration = Duration::from_millis(250);
const LONGEST_PART: Duration = Duration::from_secs(4);

/// Connects, again and again until the operation's deadline while nobody receives there.
#[cold]
pub(super) fn connect(address: &Address, operation: &mut Operation<'_>) -> Result<Socket> {
    let options = SocketOptions { nodelay: address.scheme() == Scheme::Tcp, ..Default::default() };
    let (mut pauses, mut part) = (Pauses::default(), SHORTEST_PART);
    loop {
        // Ending the waits of the channel does not reach into this call: it is made in parts.
        let most = match operation.left() {
            Timeout::Forever => Timeout::After(part),
            Timeout::After(left) => Timeout::After(left.min(part)),
            Timeout::Now => Timeout::Now,
        };
        match Socket::connect(address, &options, most) {
            Ok(socket) => return Ok(socket),
            Err(error) if may_come_up(&error) && operation.timeout() != Timeout::Now => {
                pauses.sleep(operation).map_err(|ended| match ended.is(Errno::ETIMEDOUT) {
                    true => ended.because_found(format!("no receiver came in time ({})", error.name())),
                    false => ended,
                })?;
                if error.is(Errno::ETIMEDOUT) {
                    part = (part * 2).min(LONGEST_PART);
                }
            }
            Err(error) => return Err(error),
        }
    }
}

/// Whether somebody may be about to listen there.
fn may_come_up(error: &Error) -> bool {
    use Errno::{EAGAIN, ECONNABORTED, ECONNREFUSED, ECONNRESET, EHOSTUNREACH, ENETUNREACH, ENOENT, ETIMEDOUT};
    let soon = [ECONNREFUSED, ENOENT, ECONNRESET, ECONNABORTED, EHOSTUNREACH, ENETUNREACH, EAGAIN, ETIMEDOUT];
    soon.iter().any(|errno| error.is(*errno))
}

/// Pauses that grow, between looks at something that cannot be waited for.
pub(super) struct Pauses(u64);

impl Default for Pauses {
    fn default() -> Pauses {
        Pauses(*PAUSES.start())
    }
}

impl Pauses {
    /// Sleeps a little; fails when the operation is over.
    pub fn sleep(&mut self, operation: &mut Operation<'_>) -> Result<()> {
        let nobody = AtomicU32::new(0);
        let slept = operation.wait().futex(&nobody, 0, Some(Duration::from_millis(self.0)));
        self.0 = (self.0 * 2).min(*PAUSES.end());
        slept.map(drop).map_err(|errno| operation.error(errno))
    }
}
