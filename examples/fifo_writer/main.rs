//! The document's named pipe program, the writer. An argument is the path, else /tmp/myfifo.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use wigwag::{Address, Fifo, FifoOptions, Scheme, Timeout};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args_os().nth(1).map_or(b"/tmp/myfifo".to_vec(), OsString::into_vec);
    let address = Address::from_parts(Scheme::Fifo, path, None, [])?;
    let patience = Timeout::After(Duration::from_secs(10));
    let options = FifoOptions { create: true, mode: Some(0o666), ..Default::default() };
    Fifo::open_writer(&address, &options, patience)?.write_all(b"Hello FIFO", patience)?;
    Ok(())
}
