//! A lock whose holder is killed: the next one has it, is told, and makes good.

use std::time::Duration;

use nix::sys::signal::{Signal, raise};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork};
use wigwag::{Address, Locked, Memfd, MemoryOptions, Mutex, MutexOptions, Timeout};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let patience = Timeout::After(Duration::from_secs(10));
    let memory = Memfd::create(&Address::parse("memfd:")?, &MemoryOptions { size: 8, ..Default::default() })?;
    let mutex = Mutex::anonymous(MutexOptions::default())?;
    // SAFETY: this program has one thread.
    match unsafe { fork()? } {
        ForkResult::Child => {
            let _guard = mutex.lock(patience)?;
            memory.write_at(0, b"half")?;
            raise(Signal::SIGKILL)?;
        }
        ForkResult::Parent { child } => {
            waitpid(child, None)?;
            let mut bytes = [0; 8];
            if let Locked::Inherited(guard) = mutex.lock(patience)? {
                memory.read_at(0, &mut bytes[..4])?;
                println!("Inherited from the dead: {}", String::from_utf8_lossy(&bytes[..4]));
                memory.write_at(0, b"complete")?;
                guard.consistent()?;
            }
            let locked = mutex.lock(patience)?;
            memory.read_at(0, &mut bytes)?;
            let state = if locked.is_inherited() { "Inherited" } else { "Consistent" };
            println!("{state}: {}", String::from_utf8_lossy(&bytes));
        }
    }
    Ok(())
}
