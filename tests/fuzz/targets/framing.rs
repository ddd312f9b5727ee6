//! Streams of bytes from a stranger to a channel's receiver, beside those of a sender that keeps the rules.

use std::io::Write;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::time::Duration;

use nix::errno::Errno;
use wigwag::{Address, Channel, Timeout};

use super::input::{Input, told_or, within};

const LARGEST: usize = 100;
const PATIENCE: Timeout = Timeout::After(Duration::from_secs(10));

/// What a stream amounts to, found in the simplest way: its messages, and whether it is cut off after them.
fn model(framing: &str, mut stream: &[u8]) -> (Vec<Vec<u8>>, bool) {
    let mut messages = Vec::new();
    loop {
        let (message, rest) = match framing {
            "length" => {
                let Some((prefix, rest)) = stream.split_first_chunk() else { return (messages, false) };
                let length = u32::from_be_bytes(*prefix) as usize;
                if length > LARGEST {
                    return (messages, true);
                }
                let Some(found) = rest.split_at_checked(length) else { return (messages, false) };
                found
            }
            _ if stream.is_empty() => return (messages, false),
            _ => {
                let length = stream.iter().position(|byte| *byte == b'\n').unwrap_or(stream.len());
                if length > LARGEST {
                    return (messages, true);
                }
                (&stream[..length], stream.get(length + 1..).unwrap_or_default())
            }
        };
        messages.push(message.to_vec());
        stream = rest;
    }
}

/// A name that no other input has.
pub fn name() -> String {
    static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    format!("wwtest-fuzz-{}-{count}", std::process::id())
}

pub fn streams(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let framing = ["length", "line"][usize::from(input.byte() & 1)];
    let name = name();
    let address: Address = format!("unix:@{name}?framing={framing}&largest={LARGEST}").parse().unwrap();
    let receiver = Channel::open_receiver(&address, Timeout::Now).unwrap();
    let sender = Channel::open_sender(&address, PATIENCE).unwrap();
    let mut stranger = UnixStream::connect_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    let (mut stream, mut found, mut cut, mut good) = (Vec::new(), Vec::new(), false, 0);
    within(|| {
        let mut sent = 0;
        while !input.is_empty() {
            let code = input.byte();
            let piece = input.take(usize::from(code & 127));
            if stranger.write_all(piece).is_ok() {
                stream.extend_from_slice(piece);
            }
            if code & 128 != 0 {
                sender.send(b"+ by the rules", PATIENCE).unwrap();
                sent += 1;
            }
            take(&receiver, Timeout::Now, &mut found, &mut cut, &mut good);
        }
        drop(stranger);
        let (messages, is_cut) = model(framing, &stream);
        while (found.len() < messages.len() || cut != is_cut || good < sent)
            && take(&receiver, PATIENCE, &mut found, &mut cut, &mut good)
        {}
        // A stream that was cut off early has had more written to it than was looked at.
        assert!(found == messages && cut == is_cut && good == sent, "{found:?} {cut}, {messages:?} {is_cut}");
        sender.send(b"+ by the rules", PATIENCE).unwrap();
        assert_eq!(receiver.recv_message(PATIENCE).unwrap().data, b"+ by the rules");
    });
}

/// Whether anything came.
fn take(receiver: &Channel, timeout: Timeout, found: &mut Vec<Vec<u8>>, cut: &mut bool, good: &mut i32) -> bool {
    let result = receiver.recv_message(timeout);
    *cut |= result.as_ref().is_err_and(|error| error.is(Errno::EBADMSG));
    let came = result.is_ok() || *cut;
    match told_or(&[], result).map(|message| message.data) {
        Some(data) if data == b"+ by the rules" => *good += 1,
        Some(data) => found.push(data),
        None => {}
    }
    came
}
