//! Processes that share two connections to a database; one is killed in the middle of a transaction.

use std::time::Duration;

use nix::sys::signal::{Signal, raise};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork};
use rusqlite::Connection;
use wigwag::{LeaseOptions, LeasePool, LeaseRequest, Timeout};

const DATABASE: &str = "connection_pool.db";
const PATIENCE: Timeout = Timeout::After(Duration::from_secs(10));

fn connect() -> rusqlite::Result<Connection> {
    let connection = Connection::open(DATABASE)?;
    connection.busy_timeout(Duration::from_secs(10))?;
    Ok(connection)
}

fn work(pool: &LeasePool, number: u32) -> Result<(), Box<dyn std::error::Error>> {
    let mut lease = pool.acquire_for(&LeaseRequest { note: "a worker", ..Default::default() }, PATIENCE)?;
    lease.set_information(format!("writing row {number}").as_bytes())?;
    let connection = connect()?;
    connection.execute_batch(&format!("BEGIN; INSERT INTO rows VALUES ({number})"))?;
    if number == 4 {
        raise(Signal::SIGKILL)?;
    }
    connection.execute_batch("COMMIT")?;
    drop(connection);
    lease.set_information(b"")?;
    Ok(lease.release()?)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    connect()?.execute_batch("CREATE TABLE rows (number INT)")?;
    let pool = LeasePool::anonymous(LeaseOptions { slots: 2, ..Default::default() })?;
    let mut workers = Vec::new();
    for number in 1..=4 {
        if number == 4 {
            // The one that dies: nobody takes its slot over but this process.
            for worker in workers.drain(..) {
                waitpid(worker, None)?;
            }
        }
        // SAFETY: this program has one thread.
        match unsafe { fork()? } {
            ForkResult::Child => return work(&pool, number),
            ForkResult::Parent { child } => workers.push(child),
        }
    }
    for worker in workers {
        waitpid(worker, None)?;
    }
    let mut leases = [pool.acquire(PATIENCE)?, pool.acquire(PATIENCE)?];
    for lease in leases.iter_mut().filter(|lease| lease.is_dirty()) {
        println!("Taken over from the dead: {}", String::from_utf8_lossy(&lease.information()?));
        connect()?.query_row("SELECT count(*) FROM rows", [], |_| Ok(()))?; // takes back what it had begun
        lease.make_clean()?;
    }
    let rows: u32 = connect()?.query_row("SELECT count(*) FROM rows", [], |row| row.get(0))?;
    println!("{rows} rows, {} leases of {} slots", pool.statistics()?.leases, pool.slots());
    std::fs::remove_file(DATABASE)?;
    Ok(())
}
