//! The document's disk file program, process B: reads the text. An argument is the path, else /tmp/ipc_file.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use wigwag::{Address, File, Scheme, Timeout};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args_os().nth(1).map_or(b"/tmp/ipc_file".to_vec(), OsString::into_vec);
    let address = Address::from_parts(Scheme::File, path, None, [])?;
    File::until_exists(&address, Timeout::After(Duration::from_secs(10)))?;
    println!("{}", String::from_utf8_lossy(&File::load(&address, 100)?));
    Ok(())
}
