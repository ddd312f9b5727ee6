//! Producers and consumers over a queue, whichever the address names: `sysv-mq:.#65`, `mq:/jobs?depth=8&size=64`,
//! `ring:jobs?capacity=4096&largest=64`.
//!
//! The queue bounds how far producers are ahead. When they have ended, each consumer is told to stop. One job kills the
//! consumer that takes it, with SIGKILL: that job is lost and counted, and nothing else.

use std::collections::HashSet;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, raise};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use wigwag::{Address, Channel, Timeout, WaitSet, WaitSetEvent};

const PRODUCERS: usize = 3;
const CONSUMERS: usize = 3;
const EACH: usize = 100;
const PATIENCE: Timeout = Timeout::After(Duration::from_secs(30));

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Runs it in a child, and gives its pid.
fn start(work: impl FnOnce() -> wigwag::Result<()>) -> Outcome<Pid> {
    // SAFETY: this program has one thread.
    match unsafe { fork()? } {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => std::process::exit(match work() {
            Ok(()) => 0,
            Err(error) => {
                eprintln!("{error}");
                1
            }
        }),
    }
}

fn produce(address: &Address, producer: usize) -> wigwag::Result<()> {
    let jobs = Channel::open_sender(address, PATIENCE)?;
    for number in 0..EACH {
        let job = if (producer, number) == (1, 50) { "fatal".into() } else { format!("job {number} of {producer}") };
        jobs.send(job.as_bytes(), PATIENCE)?;
    }
    Ok(())
}

fn consume(address: &Address, done: &Channel) -> wigwag::Result<()> {
    let jobs = Channel::open_receiver(address, PATIENCE)?;
    loop {
        let job = jobs.recv_message(PATIENCE)?.data;
        match job.as_slice() {
            b"stop" => return Ok(()),
            b"fatal" => drop(raise(Signal::SIGKILL)),
            job => done.send(job, PATIENCE)?,
        }
    }
}

fn main() -> Outcome<()> {
    let address: Address = std::env::args().nth(1).ok_or("which address?")?.parse()?;
    let jobs = Channel::open_sender(&address, PATIENCE)?;
    let (results, done) = Channel::pair(&"pipe:".parse()?)?;
    let mut consumers = HashSet::new();
    for _ in 0..CONSUMERS {
        consumers.insert(start(|| consume(&address, &done))?);
    }
    drop(done);
    let mut producers = HashSet::new();
    for producer in 0..PRODUCERS {
        producers.insert(start(|| produce(&address, producer))?);
    }
    let waitset = WaitSet::new()?;
    let (fd, interest) = results.descriptor()?;
    waitset.add(&fd, interest, 0)?;
    for child in consumers.union(&producers) {
        waitset.add_child(child.as_raw(), child.as_raw() as u64)?;
    }
    let (mut sent, mut killed, mut seen) = (0, 0, Vec::new());
    while !waitset.is_empty() {
        let mut events = [WaitSetEvent::default(); 8];
        let ready = waitset.wait(&mut events, PATIENCE)?;
        for event in &events[..ready] {
            if event.token == 0 {
                match results.recv_message(Timeout::Now) {
                    Ok(message) => seen.push(message.data),
                    Err(error) if error.is(Errno::EAGAIN) => {}
                    Err(error) if error.is(Errno::EPIPE) => waitset.remove(0)?, // every consumer has ended
                    Err(error) => return Err(error.into()),
                }
                continue;
            }
            waitset.remove(event.token)?;
            let child = Pid::from_raw(event.token as i32);
            let status = waitpid(child, None)?;
            killed += usize::from(matches!(status, WaitStatus::Signaled(..)));
            if producers.remove(&child) {
                sent += if matches!(status, WaitStatus::Exited(_, 0)) { EACH } else { 0 };
                if producers.is_empty() {
                    jobs.send_batch(&[b"stop".as_slice(); CONSUMERS], PATIENCE)?;
                }
            }
        }
    }
    drop(jobs);
    Channel::remove(&address)?;
    let (done, different) = (seen.len(), seen.iter().collect::<HashSet<_>>().len());
    let (twice, lost) = (done - different, sent - done);
    println!("{sent} sent, {done} done, {twice} of them twice, {lost} lost with {killed} consumer killed");
    Ok(())
}
