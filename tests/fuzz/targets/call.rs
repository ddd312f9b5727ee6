//! Questions that nobody asked, and answers to none.

use nix::errno::Errno;
use wigwag::{Address, Caller, Channel, Result, Server, Timeout};

use super::framing::name;
use super::input::{Input, told_or, within};

const STEPS: usize = 24;

fn told<T>(result: Result<T>) -> Option<T> {
    told_or(&[Errno::EREMOTEIO, Errno::ECONNRESET], result)
}

/// An answer whose number, if it has one, is 1 for that question: a caller's first is any.
fn counted_from(question: &[u8], answer: &[u8]) -> Vec<u8> {
    let mut answer = answer.to_vec();
    let asked = question.get(12..20).and_then(|eight| eight.first_chunk()).map(|eight| u64::from_le_bytes(*eight));
    if let (Some(asked), Some(number)) = (asked, answer.get_mut(4..12).and_then(|eight| eight.first_chunk_mut())) {
        *number = u64::from_le_bytes(*number).wrapping_sub(1).wrapping_add(asked).to_le_bytes();
    }
    answer
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
                    if let Some((asked, Some(peer))) = question.map(|found| (found.data, found.received.peer)) {
                        // Two: one for what was asked and given up, one for what is asked next.
                        for _ in 0..2 {
                            told(impostor.reply(&peer, &counted_from(&asked, input.some()), Timeout::Now));
                        }
                    }
                }
            }
        }
    });
}
