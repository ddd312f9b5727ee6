//! Connecting to a receiver that may be about to come.

use std::time::Duration;

use nix::errno::Errno;

use crate::address::{Address, Scheme};
use crate::error::{Error, Result};
use crate::socket::{Socket, SocketOptions};
use crate::timeout::Timeout;
use crate::wait::{Operation, Pauses};

/// How long one address is tried: the kernel asks one that does not answer ever more rarely, and a host may be starting.
const PATIENCE: Duration = Duration::from_secs(4);

/// Connects, again and again until the operation's deadline while nobody receives there.
#[cold]
pub(super) fn connect(address: &Address, operation: &mut Operation<'_>) -> Result<Socket> {
    let options = SocketOptions { nodelay: address.scheme() == Scheme::Tcp, ..Default::default() };
    let mut pauses = Pauses::default();
    loop {
        let left = operation.left();
        match Socket::connect_within(address, &options, &mut operation.part("connect", left), Some(PATIENCE)) {
            Ok(socket) => return Ok(socket),
            Err(error) if may_come_up(&error) && operation.timeout() != Timeout::Now => {
                pauses.sleep(operation).map_err(|ended| match ended.is(Errno::ETIMEDOUT) {
                    true => ended.because_found(format!("no receiver came in time ({})", error.name())),
                    false => ended,
                })?;
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
