//! Compressing files that were set aside, beside the writing.
//!
//! A thread packs into a file of another name; the writer gives it the right one, as it alone knows by then which number the
//! original has. A packed file that nobody comes to name is packed again by the next writer.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use nix::errno::Errno;

use super::place::{COMPRESSED, errno, exists, is_taken, numbered};
use crate::sys::{SysResult, background};

const RUNNING: i32 = -1;
/// Nobody will give it a name.
const ABANDONED: i32 = -2;
const PIECE: u64 = 64 << 10;
/// What compressing needs of stack, generously.
const STACK: usize = 512 << 10;

/// A file that is being compressed.
pub(super) struct Packing {
    inode: (u64, u64),
    /// `RUNNING`, 0 once it is done, an errno, or `ABANDONED`. Release when the thread sets it, Acquire when the writer looks.
    state: Arc<AtomicI32>,
    unfinished: PathBuf,
}

impl Packing {
    /// Begins with the oldest file that is not compressed; `None` if there is none.
    pub fn begin(path: &Path, keep: u32, mode: u32) -> SysResult<Option<Packing>> {
        let plain = (1..=keep).take_while(|number| is_taken(path, *number)).map(|number| numbered(path, number, ""));
        let Some(plain) = plain.filter(|plain| exists(plain)).last() else { return Ok(None) };
        let mut unfinished = path.as_os_str().to_owned();
        unfinished.push(".packing");
        let unfinished = PathBuf::from(unfinished);
        let source = File::open(&plain).map_err(|error| errno(&error))?;
        let found = source.metadata().map_err(|error| errno(&error))?;
        match fs::remove_file(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(errno(&error)),
            _ => {}
        }
        // New, so that a thread of another writer that is not through yet keeps to its own.
        let target = OpenOptions::new().write(true).create_new(true).mode(mode).open(&unfinished);
        let target = target.map_err(|error| errno(&error))?;
        // Whatever the umask; there are file systems that know no modes.
        let _ = target.set_permissions(Permissions::from_mode(mode));
        let state = Arc::new(AtomicI32::new(RUNNING));
        let told = Arc::clone(&state);
        background::spawn("wigwag-pack", STACK, move || {
            // Relaxed: nothing but the end of this thread hangs on it.
            let goes_on = || told.load(Ordering::Relaxed) == RUNNING;
            let done = pack(source, target, goes_on).map_or_else(|error| errno(&error) as i32, |()| 0);
            told.store(done, Ordering::Release);
        })?;
        Ok(Some(Packing { inode: (found.dev(), found.ino()), state, unfinished }))
    }

    pub fn is_running(&self) -> bool {
        self.state.load(Ordering::Acquire) == RUNNING
    }

    /// Gives the packed file its name, and removes the original, in this order: a death in between loses nothing.
    pub fn finish(self, path: &Path, keep: u32) -> SysResult<()> {
        let state = self.state.load(Ordering::Acquire);
        let named = || -> io::Result<()> {
            let is_it =
                |plain: &PathBuf| fs::metadata(plain).is_ok_and(|found| (found.dev(), found.ino()) == self.inode);
            let found = (1..=keep).find(|number| is_it(&numbered(path, *number, "")));
            let Some(number) = found else { return fs::remove_file(&self.unfinished) }; // too old by now, and gone
            fs::rename(&self.unfinished, numbered(path, number, COMPRESSED))?;
            fs::remove_file(numbered(path, number, ""))
        };
        if state != 0 {
            return Err(Errno::from_raw(state));
        }
        named().map_err(|error| errno(&error))
    }
}

impl Drop for Packing {
    /// The writer ends, or has named it.
    fn drop(&mut self) {
        let _ = self.state.compare_exchange(RUNNING, ABANDONED, Ordering::Relaxed, Ordering::Relaxed);
        let _ = fs::remove_file(&self.unfinished);
    }
}

fn pack(mut source: File, target: File, goes_on: impl Fn() -> bool) -> io::Result<()> {
    let mut encoder = flate2::write::GzEncoder::new(target, flate2::Compression::default());
    while io::copy(&mut source.by_ref().take(PIECE), &mut encoder)? > 0 {
        if !goes_on() {
            return Err(io::ErrorKind::Interrupted.into());
        }
    }
    encoder.finish()?.sync_data()
}
