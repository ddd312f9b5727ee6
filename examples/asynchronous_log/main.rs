//! Three workers log into one file by way of shared memory; the process that writes is killed, and one of the workers.

use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::{Signal, kill, raise};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork};
use wigwag::{Address, Log, LogOptions, LogWriter, Timeout};

const ADDRESS: &str = "log:./asynchronous_log?file=asynchronous.log";
const FILE: &str = "asynchronous.log";
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

fn write() -> Done {
    let log = Log::open(&ADDRESS.parse()?, LogOptions::default())?;
    log.serve(Timeout::Forever)?;
    Ok(())
}

fn work(worker: usize) -> Done {
    let log = Log::open(&ADDRESS.parse()?, LogOptions::default())?;
    for number in 0..EACH {
        if worker == 2 && number == EACH / 2 {
            raise(Signal::SIGKILL)?;
        }
        log.info(&format!("worker {worker} did {number}"))?;
    }
    Ok(())
}

fn main() -> Done {
    let address: Address = ADDRESS.parse()?;
    let log = Log::open(&address, LogOptions { writer: LogWriter::Never, ..Default::default() })?;
    let writer = forked(write)?;
    while log.statistics()?.writer != Some(writer.as_raw().cast_unsigned()) {
        sleep(Duration::from_millis(1));
    }
    let workers = (0..WORKERS).map(|worker| forked(|| work(worker))).collect::<nix::Result<Vec<_>>>()?;
    while log.statistics()?.written < 100 {
        sleep(Duration::from_millis(1));
    }
    kill(writer, Signal::SIGKILL)?; // one of the workers takes over, at the exact record
    for child in workers.into_iter().chain([writer]) {
        waitpid(child, None)?;
    }
    log.drain(PATIENCE)?;
    let mut done = [0; WORKERS];
    for line in std::fs::read_to_string(FILE)?.lines() {
        let (_, record) = line.split_once("worker ").ok_or("no record")?;
        let (worker, number) = record.split_once(" did ").ok_or("no record")?;
        let next = done.get_mut(worker.parse::<usize>()?).ok_or("no worker")?;
        assert_eq!(*next, number.parse::<usize>()?, "each record once, and in order");
        *next += 1;
    }
    println!("Records of each worker: {} {} {}", done[0], done[1], done[2]);
    Log::remove(&address)?;
    std::fs::remove_file(FILE)?;
    Ok(())
}
