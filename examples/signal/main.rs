//! The document's signal program: prints each SIGINT and goes on waiting, until SIGTERM.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use wigwag::{Signal, Signals, Timeout};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let signals = Signals::open(&[Signal::INT, Signal::TERM])?;
    let stopped = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&stopped);
    signals.on(Signal::INT, |info| println!("Received signal {}", info.signal.number()))?;
    signals.on(Signal::TERM, move |_| stop.store(true, Ordering::Relaxed))?;
    println!("Waiting for signal...");
    while !stopped.load(Ordering::Relaxed) {
        signals.dispatch(Timeout::Forever)?;
    }
    Ok(())
}
