//! The temperature: the parent writes it again and again, and the child wants the latest and nothing else.

use std::time::Duration;

use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork};
use wigwag::{Cell, CellOptions, Timeout};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cell = Cell::anonymous(CellOptions::default())?;
    // SAFETY: this program has one thread.
    match unsafe { fork()? } {
        ForkResult::Child => {
            let mut buffer = [0; 100];
            let read = cell.wait_read(2, &mut buffer, Timeout::After(Duration::from_secs(10)))?; // a third value
            let value = String::from_utf8_lossy(&buffer[..read.length]);
            println!("Value {}: {value} degrees", read.sequence);
        }
        ForkResult::Parent { child } => {
            for degrees in 20..=22 {
                cell.write(degrees.to_string().as_bytes())?;
            }
            waitpid(child, None)?;
        }
    }
    Ok(())
}
