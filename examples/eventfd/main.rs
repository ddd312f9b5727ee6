//! The document's eventfd program: the child signals an event, the parent waits for it.

use std::time::Duration;

use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork};
use wigwag::{EventFd, Timeout};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let events = EventFd::new()?;
    // SAFETY: this program has one thread.
    match unsafe { fork()? } {
        ForkResult::Child => {
            events.add(1, Timeout::Now)?;
            println!("Event written");
        }
        ForkResult::Parent { child } => {
            let value = events.take(Timeout::After(Duration::from_secs(10)))?;
            waitpid(child, None)?;
            println!("Event received: {value}");
        }
    }
    Ok(())
}
