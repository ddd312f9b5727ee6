//! Pipes: a stream of bytes through the kernel, anonymous (`pipe:`) or with a name in the file system (`fifo:`).

mod anonymous;
mod fifo;
mod stream;

pub use anonymous::{PIPE_ATOMIC, Pipe, PipeOptions};
pub use fifo::{Fifo, FifoOptions};
