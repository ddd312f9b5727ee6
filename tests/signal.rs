//! Signals between processes. Each test runs in forked children of its own: what a signal does is a matter of the whole
//! process, and a fresh child has a single thread.

#[path = "signal/fork_and_chain.rs"]
mod fork_and_chain;
#[path = "signal/receive.rs"]
mod receive;
#[path = "signal/send.rs"]
mod send;
mod support;

use wigwag::Signal;

/// Runs a test in a process of its own, with the usual dispositions, whatever nohup or a shell's `&` have handed down.
pub(crate) fn alone(body: impl FnOnce()) {
    let run = || {
        for signal in [libc::SIGINT, libc::SIGQUIT, libc::SIGHUP, libc::SIGTERM] {
            // SAFETY: the default action needs no code of this process.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
        body();
    };
    support::fork(run).join();
}

pub(crate) fn own_pid() -> i32 {
    std::process::id() as i32
}

pub(crate) fn rt(n: u32) -> Signal {
    Signal::real_time(n).unwrap()
}

/// Sends a signal to the calling thread; in a process with one thread it has acted when this returns.
pub(crate) fn raise(signal: Signal) {
    signal.send_to_thread(own_pid(), Signal::this_thread()).unwrap();
}
