//! The document's semaphore program: a System V semaphore as a lock round a critical section.
//!
//! `semaphore [SECONDS [remove]]`: how long to work inside, 2 by default; "remove" removes the set at the end.

use std::time::Duration;

use wigwag::{Address, SysvSem, SysvSemOptions, Timeout};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let seconds = arguments.get(1).map_or(Ok(2.0), |text| text.parse())?;
    std::fs::File::options().append(true).create(true).open("semfile")?; // the key comes from it
    let address: Address = "sysv-sem:semfile#65".parse()?;
    let lock = SysvSem::open_or_create(&address, &SysvSemOptions { mode: 0o666, initial: 1, ..Default::default() })?;

    let permit = lock.acquire(0, Timeout::After(Duration::from_secs(60)))?;
    println!("In critical section");
    std::thread::sleep(Duration::try_from_secs_f64(seconds)?);
    permit.release()?;

    if arguments.get(2).is_some_and(|word| word == "remove") {
        lock.unlink()?;
    }
    Ok(())
}
