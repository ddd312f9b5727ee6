//! Worker processes count primes, each task a range; one task kills its worker, and is the only one that is lost.

use nix::sys::signal::{Signal, raise};
use wigwag::{Handler, Pool, PoolOptions, TaskOptions, Timeout, Verdict};

const TASKS: u32 = 10;
const EACH: u32 = 10_000;

fn is_prime(n: u32) -> bool {
    n > 1 && (2..).take_while(|d| d * d <= n).all(|d| !n.is_multiple_of(d))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let count = Handler::new("count", |task: &[u8]| {
        let from = u32::from_ne_bytes(task.try_into().map_err(|_| "not a number")?);
        let count = (from..from + EACH).filter(|n| is_prime(*n)).count() as u32;
        Ok(count.to_ne_bytes().to_vec())
    });
    let die = Handler::new("die", |_: &[u8]| Err(format!("still alive: {:?}", raise(Signal::SIGKILL))));
    let address = std::env::args().nth(1).unwrap_or("pipe:".into());
    let options = PoolOptions { workers: 2, address: Some(address.parse()?), ..Default::default() };
    let pool = Pool::start(options, vec![count, die])?;
    let submit = |handler, task: &[u8]| pool.submit(handler, task, TaskOptions::default(), Timeout::Forever);
    let mut tasks = Vec::new();
    let mut lost = None;
    for i in 0..TASKS {
        tasks.push(submit("count", &(i * EACH).to_ne_bytes())?);
        if i == TASKS / 2 {
            lost = Some(submit("die", b"")?);
        }
    }
    let mut primes = 0;
    for task in tasks {
        match task.wait(Timeout::Forever)? {
            Verdict::Done(count) => primes += u32::from_ne_bytes(count[..].try_into()?),
            other => return Err(other.to_string().into()),
        }
    }
    if let Some(Verdict::Lost(death)) = lost.map(|task| task.wait(Timeout::Forever)).transpose()? {
        let signal = death.signal.unwrap_or(0);
        println!("{primes} primes below {}; 1 task lost by signal {signal}", TASKS * EACH);
    }
    pool.shutdown(false, Timeout::Forever)?;
    Ok(())
}
