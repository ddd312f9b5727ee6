//! The files of a channel over `file:`, cut, flipped, removed, and put there by somebody else: what is received was sent.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use wigwag::{Address, Channel, Result, Timeout};

use super::input::{Input, told_or, within};

const STEPS: usize = 48;

fn told<T>(result: Result<T>) -> Option<T> {
    told_or(&[Errno::ENOENT, Errno::EISDIR, Errno::ENOTDIR], result)
}

/// Message `number`, of which the bytes tell.
fn message(number: u32) -> Vec<u8> {
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.resize(4 + (number as usize * 37) % 600, number as u8);
    bytes
}

/// One of the files of the log.
fn choose(log: &Path, input: &mut Input) -> Option<PathBuf> {
    let mut found: Vec<_> = fs::read_dir(log).into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    let which = usize::from(input.byte());
    (!found.is_empty()).then(|| found.swap_remove(which % found.len()))
}

/// Does something to a file of the log that nobody should.
fn harm(log: &Path, input: &mut Input) -> Option<()> {
    let path = choose(log, input)?;
    let file = File::options().read(true).write(true).open(&path).ok()?;
    let size = file.metadata().ok()?.len();
    match input.byte() % 6 {
        0 => file.set_len(input.short() as u64 % (size + 100)).ok(),
        1 if size > 0 => {
            let (at, mut byte) = (input.short() as u64 % size, [0]);
            file.read_exact_at(&mut byte, at).ok()?;
            byte[0] ^= 1 << (input.byte() % 8);
            file.write_all_at(&byte, at).ok()
        }
        2 => file.write_all_at(input.some(), input.short() as u64 % (size + 100)).ok(),
        3 => fs::remove_file(path).ok(),
        4 => {
            // Under another name, which may look as one of a log, or not.
            let name = format!("{:020}.log", input.short());
            fs::copy(&path, path.with_file_name(name)).ok().map(drop)
        }
        _ => fs::write(path.with_file_name(format!("{:016x}.log", input.short())), input.some()).ok(),
    }
}

pub fn files(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let log = directory.path().join("log");
    let address = |options: &str| -> Address { format!("file:{}?{options}", log.display()).parse().unwrap() };
    let choice = input.byte();
    let retain = if choice & 1 == 0 { "" } else { "&retain=16384" };
    let for_sender = address(&format!("fsync=never&segment=4096{retain}"));
    let for_receiver = address(if choice & 2 == 0 { "from=oldest" } else { "reader=r" });
    let open_sender = || told(Channel::open_sender(&for_sender, Timeout::Now));
    let open_receiver = || told(Channel::open_receiver(&for_receiver, Timeout::Now));
    let (mut sender, mut receiver, mut next) = (open_sender(), open_receiver(), 0);
    within(|| {
        for _ in 0..STEPS {
            if input.is_empty() {
                return;
            }
            match input.byte() % 8 {
                0 | 1 => drop(harm(&log, &mut input)),
                2 => {
                    if let Some(sender) = &sender {
                        // Refused or not, it may be received: what failed may have come that far.
                        told(sender.send(&message(next), Timeout::Now));
                        next += 1;
                    }
                }
                3 => {
                    for _ in 0..input.byte() % 16 {
                        if let Some(sender) = &sender {
                            told(sender.send(&message(next), Timeout::Now));
                            next += 1;
                        }
                    }
                }
                4 | 5 => {
                    for _ in 0..input.byte() % 16 {
                        let Some(receiver) = &receiver else { break };
                        if let Some(found) = told(receiver.recv_message(Timeout::Now)) {
                            let number = found.data.first_chunk().map(|number| u32::from_le_bytes(*number));
                            let sent = number.filter(|number| *number < next).map(message);
                            assert_eq!(Some(found.data), sent, "received, and never sent");
                        }
                    }
                }
                6 => {
                    drop(sender.take());
                    sender = open_sender();
                }
                _ => {
                    drop(receiver.take());
                    receiver = open_receiver();
                }
            }
        }
    });
}
