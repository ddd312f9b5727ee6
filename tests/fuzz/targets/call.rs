//! Questions that nobody asked, and answers to none.

use nix::errno::Errno;
use wigwag::{Address, Caller, Channel, Result, Server, Timeout};

use super::framing::name;
use super::input::{Input, told_or, within};

const STEPS: usize = 24;

fn told<T>(result: Result<T>) -> Option<T> {
    told_or(&[Errno::EREMOTEIO, Errno::ECONNRESET], result)
}

pub fn envelopes(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let scheme = ["unix", "unix-seqpacket"][usize::from(input.byte() & 1)];
    let address = || format!("{scheme}:@{}", name()).parse::<Address>().unwrap();
    let (asked, asking) = (address(), address());
    let server = Server::open(&asked, Timeout::Now).unwrap();
    let stranger = Channel::open_sender(&asked, Timeout::Now).unwrap();
    let impostor = Channel::open_receiver(&asking, Timeout::Now).unwrap();
    let caller = Caller::open(&asking, Timeout::Now).unwrap();
    within(|| {
        for _ in 0..STEPS {
            if input.is_empty() {
                return;
            }
            match input.byte() % 4 {
                0 => drop(told(stranger.send(input.some(), Timeout::Now))),
                1 => {
                    if let Some(question) = told(server.next(Timeout::Now)) {
                        let refuses = input.byte() & 1 == 0;
                        question.answer(if refuses { Err("no") } else { Ok(b"yes") });
                    }
                    told(stranger.recv_message(Timeout::Now));
                }
                2 => drop(told(caller.call(input.some(), input.timeout()))),
                _ => {
                    let question = told(impostor.recv_message(Timeout::Now));
                    if let Some(peer) = question.and_then(|question| question.received.peer) {
                        // Two: one for what was asked and given up, one for what is asked next.
                        told(impostor.reply(&peer, input.some(), Timeout::Now));
                        told(impostor.reply(&peer, input.some(), Timeout::Now));
                    }
                }
            }
        }
    });
}
