//! The document's disk file program, process A: leaves a text in a file. An argument is the path, else /tmp/ipc_file.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use wigwag::{Address, File, ReplaceOptions, Scheme};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args_os().nth(1).map_or(b"/tmp/ipc_file".to_vec(), OsString::into_vec);
    let address = Address::from_parts(Scheme::File, path, None, [])?;
    File::replace(&address, b"Hello from process A", &ReplaceOptions { mode: Some(0o644), ..Default::default() })?;
    Ok(())
}
