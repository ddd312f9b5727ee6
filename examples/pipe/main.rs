//! The document's anonymous pipe program: the child writes to its parent.

use std::time::Duration;

use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork};
use wigwag::{Pipe, PipeOptions, Timeout};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let patience = Timeout::After(Duration::from_secs(10));
    let (reader, writer) = Pipe::open(PipeOptions::default())?;
    // SAFETY: this program has one thread.
    match unsafe { fork()? } {
        ForkResult::Child => writer.write_all(b"Hello from child", patience)?,
        ForkResult::Parent { child } => {
            drop(writer);
            let mut buffer = [0; 100];
            let length = reader.read(&mut buffer, patience)?;
            println!("Parent received: {}", String::from_utf8_lossy(&buffer[..length]));
            waitpid(child, None)?;
        }
    }
    Ok(())
}
