//! A work queue: the parent hands out jobs through shared memory, and the child does them.

use std::time::Duration;

use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork};
use wigwag::{Ring, RingOptions, Timeout};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let patience = Timeout::After(Duration::from_secs(10));
    let ring = Ring::anonymous(RingOptions::default())?;
    // SAFETY: this program has one thread.
    match unsafe { fork()? } {
        ForkResult::Child => {
            for _ in 0..3 {
                let job = ring.borrow(patience)?; // it would go to another, should this process die here
                println!("Doing {}", String::from_utf8_lossy(&job.to_vec()));
                job.release()?;
            }
        }
        ForkResult::Parent { child } => {
            for number in 1..=3 {
                ring.send(format!("job {number}").as_bytes(), patience)?;
            }
            waitpid(child, None)?;
            let seen = ring.statistics()?;
            println!("{} sent, {} done", seen.sent, seen.released);
        }
    }
    Ok(())
}
