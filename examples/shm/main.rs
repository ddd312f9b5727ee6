//! The document's System V shared memory program: writes into a segment and prints what is in it.

use wigwag::{MemoryOptions, SysvShm};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The key is derived from this file: without it there is none.
    std::fs::OpenOptions::new().append(true).create(true).open("shmfile")?;
    let options = MemoryOptions { size: 1024, ..Default::default() };
    let shm = SysvShm::open_or_create(&"sysv-shm:shmfile#65".parse()?, &options)?;
    let text = b"Hello Shared Memory";
    shm.write_at(0, text)?;
    println!("Data written in memory: {}", String::from_utf8_lossy(&shm.read_vec(0, text.len())?));
    shm.unlink()?;
    Ok(())
}
