//! Cells whose memory is written over.

use std::os::fd::AsFd;

use nix::errno::Errno;
use wigwag::{Cell, CellOptions, Result, WaitMode};

use super::input::{Input, play, told_or};

const LARGEST: usize = 300;

fn options() -> CellOptions {
    CellOptions { largest: LARGEST as u64, participants: 4, wait: WaitMode::Block, ..Default::default() }
}

/// A cell may have no value yet.
fn told<T>(result: Result<T>) -> Option<T> {
    told_or(&[Errno::ENODATA], result)
}

pub fn cell(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let cell = Cell::anonymous(options()).unwrap();
    let mut reserved = Vec::new();
    play(&mut input, &cell, |code, input| {
        let (mut buffer, value) = ([0; LARGEST], [code; LARGEST + 1]);
        match code % 8 {
            0 | 1 => {
                let length = input.short() % value.len();
                told(cell.write(&value[..length]));
            }
            2 => {
                if let Some(read) = told(cell.read(&mut buffer)) {
                    assert!(read.length <= LARGEST);
                }
            }
            3 => {
                if let Some(read) = told(cell.read_as_if_overrun(&mut buffer)) {
                    assert!(read.length <= LARGEST);
                }
            }
            4 => {
                let after = input.word();
                told(cell.wait_read(after, &mut buffer, input.timeout()));
            }
            5 => reserved.extend(told(cell.reserve(input.short() % LARGEST))),
            6 => {
                if let Some(mut one) = reserved.pop() {
                    one.write(input.byte().into(), &value);
                    told(if input.byte() & 1 == 0 { one.publish().map(drop) } else { one.abort() });
                }
            }
            _ => {
                told(cell.check());
                told(cell.statistics()).map(|statistics| format!("{statistics:?}"));
                let fd = cell.as_fd().try_clone_to_owned().unwrap();
                told(Cell::from_fd(fd, options())).map(|other| told(other.write(&value[..40])));
            }
        }
    });
}
