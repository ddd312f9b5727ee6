//! Three workers log into one file, through what the address names; the process that writes is killed, and one of the workers.
//!
//! `log:./asynchronous_log?file=asynchronous.log` is through shared memory; with `&through=mq` or `&through=sysv-mq` it is
//! through a message queue.

use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::{Signal, kill, raise};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork};
use wigwag::{Address, Log, LogOptions, LogWriter, Timeout};

const ADDRESS: &str = "log:./asynchronous_log?file=asynchronous.log";
const WORKERS: usize = 3;
const EACH: usize = 1000;
const PATIENCE: Timeout = Timeout::After(Duration::from_secs(30));

type Done = Result<(), Box<dyn std::error::Error>>;

fn forked(body: impl FnOnce() -> Done) -> nix::Result<Pid> {
    // SAFETY: this program has one thread.
    match unsafe { fork()? } {
        ForkResult::Child => std::process::exit(body().map_or(1, |()| 0)),
        ForkResult::Parent { child } => Ok(child),
    }
}

fn write(address: &Address) -> Done {
    let log = Log::open(address, LogOptions::default())?;
    log.serve(Timeout::Forever)?;
    Ok(())
}

fn work(address: &Address, worker: usize) -> Done {
    let log = Log::open(address, LogOptions::default())?;
    for number in 0..EACH {
        if worker == 2 && number == EACH / 2 {
            raise(Signal::SIGKILL)?;
        }
        log.info(&format!("worker {worker} did {number}"))?;
    }
    Ok(())
}

fn main() -> Done {
    let address: Address = std::env::args().nth(1).as_deref().unwrap_or(ADDRESS).parse()?;
    let log = Log::open(&address, LogOptions { writer: LogWriter::Never, ..Default::default() })?;
    let writer = forked(|| write(&address))?;
    while log.statistics()?.writer != Some(writer.as_raw().cast_unsigned()) {
        sleep(Duration::from_millis(1));
    }
    let workers = (0..WORKERS).map(|worker| forked(|| work(&address, worker))).collect::<nix::Result<Vec<_>>>()?;
    while log.statistics()?.written < 100 {
        sleep(Duration::from_millis(1));
    }
    kill(writer, Signal::SIGKILL)?; // one of the workers takes over, at the exact record
    for child in workers.into_iter().chain([writer]) {
        waitpid(child, None)?;
    }
    log.drain(PATIENCE)?;
    let mut done = [0; WORKERS];
    for line in std::fs::read_to_string(log.file())?.lines() {
        let (_, record) = line.split_once("worker ").ok_or("no record")?;
        let (worker, number) = record.split_once(" did ").ok_or("no record")?;
        let next = done.get_mut(worker.parse::<usize>()?).ok_or("no worker")?;
        assert_eq!(*next, number.parse::<usize>()?, "each record once, and in order");
        *next += 1;
    }
    println!("Records of each worker: {} {} {}", done[0], done[1], done[2]);
    Log::remove(&address)?;
    std::fs::remove_file(log.file())?;
    Ok(())
}
