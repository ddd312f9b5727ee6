//! Looking up a host's name within a deadline: getaddrinfo knows none, so it runs on a thread that is abandoned when the
//! deadline passes, and ends by itself some time later.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};

use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::error::Result;
use crate::sys::lookup::{self, LookupError};
use crate::sys::{SysResult, background};
use crate::timeout::Timeout;
use crate::wait::Operation;

type Found = std::result::Result<Vec<SocketAddr>, LookupError>;

/// What the thread leaves for the caller, who may have gone.
struct Answer {
    found: Mutex<Option<Found>>,
    ready: EventFd,
}

pub(super) fn addresses(host: &str, port: u16, operation: &mut Operation<'_>) -> Result<Vec<SocketAddr>> {
    if operation.timeout() == Timeout::Now {
        return Err(operation.error(Errno::EAGAIN).because(
            "looking up a host's name may wait, and the timeout is zero; use a numeric address, or allow some time",
        ));
    }
    let ready = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK);
    let ready = ready.map_err(|errno| operation.error(errno))?;
    let answer = Arc::new(Answer { found: Mutex::new(None), ready });
    start(host.to_owned(), port, Arc::clone(&answer)).map_err(|errno| {
        operation.error(errno).because("no thread can be started to look up the host's name; use a numeric address")
    })?;
    let found = operation.until_ready(answer.ready.as_fd(), PollFlags::POLLIN, || {
        let mut found = answer.found.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        found.take().ok_or(Errno::EAGAIN)
    })?;
    found.map_err(|error| match error {
        LookupError::NoSuchHost => {
            operation.error(Errno::ENOENT).because_found(format!("there is no host of the name {host}"))
        }
        LookupError::NoAnswer => operation.error(Errno::EHOSTUNREACH).because_found(format!(
            "the name servers gave no answer about {host}; try later, or use a numeric address"
        )),
        LookupError::System(errno) => operation.error(errno),
    })
}

/// What the C library's resolver and its plug-ins may need.
const STACK: usize = 2 << 20;

fn start(host: String, port: u16, answer: Arc<Answer>) -> SysResult<()> {
    background::spawn("wigwag-lookup", STACK, move || {
        let found = lookup::addresses(&host, port);
        *answer.found.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(found);
        let _ = answer.ready.write(1); // cannot fail: the counter is far from its end
    })
}
