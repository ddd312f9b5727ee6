//! The document's message queue program: a message goes through the queue of `ftok("progfile", 65)`, from a child to its
//! parent. The file may be named as an argument.

use std::fs::OpenOptions;
use std::time::Duration;

use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork};
use wigwag::{Address, Scheme, SysvMq, SysvMqOptions, SysvSelect, Timeout};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).unwrap_or("progfile".into());
    OpenOptions::new().append(true).create(true).open(&path)?; // the key is derived from it
    let address = Address::from_parts(Scheme::SysvMq, path, Some(65), [])?;
    let queue = SysvMq::open_or_create(&address, &SysvMqOptions::default())?;
    let limit = Timeout::After(Duration::from_secs(10));
    // SAFETY: this program has one thread.
    match unsafe { fork()? } {
        ForkResult::Child => queue.send(b"Hello Message Queue", 1, limit)?,
        ForkResult::Parent { child } => {
            let message = queue.recv(SysvSelect::Type(1), limit)?;
            println!("Received: {}", String::from_utf8_lossy(&message.data));
            waitpid(child, None)?;
            queue.unlink()?;
        }
    }
    Ok(())
}
