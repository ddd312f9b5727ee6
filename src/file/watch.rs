//! Waiting until something happens to a file: it appears, changes, is closed by its writer, goes away.
//!
//! It is the directory that is watched, so that a file which does not exist yet, or is renamed into place, counts.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bitflags::bitflags;
use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::inotify::{AddWatchFlags as In, InitFlags, Inotify, InotifyEvent};
use nix::sys::stat::{lstat, stat};

use super::{File, named};
use crate::address::Address;
use crate::error::{Error, Result};
use crate::limits::explain_watches;
use crate::paths;
use crate::timeout::Timeout;
use crate::wait::{Object, Operation};

/// How often a long wait looks whether the directory is still the one that its path leads to.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

bitflags! {
    /// What can happen to a file.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct FileEvents: u32 {
        /// Its name came to be: made, linked, or renamed into place.
        const APPEARED = 1;
        /// The content may be another: written, truncated, made, or another file renamed into place. Stores through a
        /// memory mapping are not seen.
        const CHANGED = 2;
        /// Complete: closed by one that had it open for writing, or renamed into place.
        const CLOSED = 4;
        /// Its name is gone: removed, or renamed away.
        const REMOVED = 8;
        /// Comes with all the others that were asked for: more happened in the directory than the kernel keeps
        /// (`fs.inotify.max_queued_events`), so each of them may have happened. Need not be asked for.
        const OVERFLOWED = 16;
    }
}

impl FileEvents {
    const CAN_BE_ASKED_FOR: FileEvents =
        FileEvents::APPEARED.union(FileEvents::CHANGED).union(FileEvents::CLOSED).union(FileEvents::REMOVED);

    fn as_inotify(self) -> In {
        let mut mask = In::empty();
        mask.set(In::IN_CREATE, self.intersects(FileEvents::APPEARED | FileEvents::CHANGED));
        mask.set(In::IN_MODIFY, self.contains(FileEvents::CHANGED));
        mask.set(In::IN_CLOSE_WRITE, self.contains(FileEvents::CLOSED));
        mask.set(In::IN_MOVED_TO, self.intersects(FileEvents::APPEARED | FileEvents::CHANGED | FileEvents::CLOSED));
        mask.set(In::IN_DELETE | In::IN_MOVED_FROM, self.contains(FileEvents::REMOVED));
        mask
    }

    fn of_inotify(mask: In) -> FileEvents {
        let mut events = FileEvents::empty();
        events.set(FileEvents::APPEARED, mask.intersects(In::IN_CREATE | In::IN_MOVED_TO));
        events.set(FileEvents::CHANGED, mask.intersects(In::IN_CREATE | In::IN_MOVED_TO | In::IN_MODIFY));
        events.set(FileEvents::CLOSED, mask.intersects(In::IN_CLOSE_WRITE | In::IN_MOVED_TO));
        events.set(FileEvents::REMOVED, mask.intersects(In::IN_DELETE | In::IN_MOVED_FROM));
        events
    }
}

/// A watch over the name of a file, which need not exist yet.
///
/// Everything that happens from the moment it is opened is seen, so the way to miss nothing is: open the watch, look at
/// the file, wait, look again. What happens more than once before a [`wait`](FileWatch::wait) is told once.
///
/// It sees what is done through this name in this directory by processes of this machine: not what is done through
/// another hard link or on another machine of a network file system, nor, where the name is a symbolic link, what
/// happens to the file that it leads to. It stays with the directory that the path led to when it was opened: that a link
/// on the way is switched, or a directory further up renamed, it does not see. Of several threads that wait on one watch,
/// one is told.
///
/// The descriptor polls readable when something happened in the directory, to this file or another; a `wait` that must
/// not block tells which. Gone when closed, also by SIGKILL.
///
/// ```
/// use wigwag::{Address, File, FileEvents, FileWatch, ReplaceOptions, Timeout};
/// # let path = std::env::temp_dir().join(format!("wwtest-watch-doc-{}", std::process::id()));
/// # let text = format!("file:{}", path.display());
/// let address: Address = text.parse()?;
/// let watch = FileWatch::open(&address, FileEvents::CLOSED)?;
/// File::replace(&address, b"new", &ReplaceOptions::default())?; // another process would
/// assert_eq!(watch.wait(Timeout::Forever)?, FileEvents::CLOSED);
/// # std::fs::remove_file(path).unwrap();
/// # Ok::<(), wigwag::Error>(())
/// ```
#[doc(alias = "inotify")]
pub struct FileWatch {
    object: Object,
    inotify: Inotify,
    path: PathBuf,
    interest: FileEvents,
    /// Whether the directory has gone away: nothing more will ever be seen. Set once, and needs no partner.
    lost: AtomicBool,
}

impl FileWatch {
    /// Starts watching the file at `address`, a `file:` one, for `events`. Never blocks.
    ///
    /// # Errors
    /// `ENOENT`, `ENOTDIR` its directory does not exist; `EACCES` the directory may not be read; `EMFILE`, `ENOSPC` too
    /// many watches exist, with the limit in the text; `EINVAL` no events, or unknown ones; `EISDIR` the path can only
    /// name a directory.
    ///
    /// System calls: inotify_init1, inotify_add_watch.
    pub fn open(address: &Address, events: FileEvents) -> Result<FileWatch> {
        let (object, path) = named(address, "watch")?;
        if events.is_empty() || !FileEvents::CAN_BE_ASKED_FOR.contains(events) {
            return Err(object
                .error(Errno::EINVAL, "watch")
                .because("the events to watch for are any of appeared, changed, closed, removed, and at least one"));
        }
        let Some((directory, _)) = paths::split(path) else { return Err(object.error(Errno::EISDIR, "watch")) };
        let failed = |errno| explain(object.error(errno, "watch"));
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).map_err(failed)?;
        let own_fate = In::IN_DELETE_SELF | In::IN_MOVE_SELF | In::IN_ONLYDIR;
        inotify.add_watch(directory, events.as_inotify() | own_fate).map_err(failed)?;
        let path = path.to_owned();
        Ok(FileWatch { object, inotify, path, interest: events, lost: AtomicBool::new(false) })
    }

    /// Waits until some of the events watched for have happened since the watch was opened or since the last wait, and
    /// gives those.
    ///
    /// # Errors
    /// `EAGAIN`, `ETIMEDOUT`, `ECANCELED` as everywhere; `ESTALE` the directory was removed, renamed or unmounted: open
    /// a new watch.
    ///
    /// System calls: read, ppoll.
    pub fn wait(&self, timeout: Timeout) -> Result<FileEvents> {
        let mut operation = self.object.operation("wait", timeout);
        self.next(&mut operation)
    }

    fn next(&self, operation: &mut Operation<'_>) -> Result<FileEvents> {
        loop {
            if self.lost.load(Ordering::Relaxed) {
                return Err(self.stale());
            }
            let events =
                operation.until_ready(self.inotify.as_fd(), PollFlags::POLLIN, || self.inotify.read_events())?;
            let seen = events.iter().fold(FileEvents::empty(), |seen, event| seen | self.meaning(event));
            if !seen.is_empty() {
                return Ok(seen);
            }
        }
    }

    fn meaning(&self, event: &InotifyEvent) -> FileEvents {
        if event.mask.contains(In::IN_Q_OVERFLOW) {
            return self.interest | FileEvents::OVERFLOWED;
        }
        if event.mask.intersects(In::IN_DELETE_SELF | In::IN_MOVE_SELF | In::IN_UNMOUNT | In::IN_IGNORED) {
            self.lose();
        }
        let is_ours = event.name.as_deref().is_some_and(|name| Some(name) == self.name());
        if is_ours { FileEvents::of_inotify(event.mask) & self.interest } else { FileEvents::empty() }
    }

    /// Notes that the directory is gone, and keeps the descriptor readable for all others who wait on it: taking a watch
    /// away puts an event into the queue, and whoever reads that comes here again.
    fn lose(&self) {
        self.lost.store(true, Ordering::Relaxed);
        // Fails only where a limit is reached; then others wait until their deadline.
        if let Ok(root) = self.inotify.add_watch("/", In::IN_DELETE_SELF) {
            let _ = self.inotify.rm_watch(root);
        }
    }

    fn name(&self) -> Option<&OsStr> {
        paths::split(&self.path).map(|(_, name)| name.as_os_str())
    }

    fn stale(&self) -> Error {
        let directory = paths::split(&self.path).map_or(Path::new(""), |(directory, _)| directory);
        self.object.error(Errno::ESTALE, "wait").because_found(format!(
            "the directory {} was removed, renamed or unmounted while it was watched; open a new watch",
            directory.display()
        ))
    }

    /// Its address: that of the file.
    pub fn address(&self) -> &str {
        self.object.address()
    }

    /// Ends the waits of all threads on this watch with `ECANCELED`, now and later; returns when they have left.
    pub fn end_waits(&self) {
        self.object.end_waits();
    }

    /// Gives up the object and keeps its descriptor, an inotify one.
    pub fn into_fd(self) -> OwnedFd {
        self.inotify.into()
    }
}

impl File {
    /// Waits until something has the name `address`, a `file:` one; returns at once if something has. The directory
    /// must exist. Should its path lead to another one meanwhile, that is noticed within two seconds.
    ///
    /// That it is there does not say that it is complete: a writer should use [`File::replace`], or a [`FileWatch`] for
    /// [`FileEvents::CLOSED`] be opened before the writer begins.
    ///
    /// # Errors
    /// `EAGAIN`, `ETIMEDOUT`, `ECANCELED` as everywhere; as [`FileWatch::open`] and [`FileWatch::wait`].
    ///
    /// System calls: lstat; if it is missing those of [`FileWatch`], lstat again, and stat every two seconds.
    pub fn until_exists(address: &Address, timeout: Timeout) -> Result<()> {
        const NAME: &str = "until_exists";
        let (object, path) = named(address, NAME)?;
        let exists = || match lstat(path) {
            Ok(_) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            Err(errno) => Err(object.error(errno, NAME)),
        };
        if exists()? {
            return Ok(());
        }
        if timeout == Timeout::Now {
            return Err(object.error(Errno::EAGAIN, NAME));
        }
        // What the directory's path leads to: a link on the way may be switched, a directory above renamed, without an
        // event. Looked at before the watch is opened, so that a switch in between is noticed.
        let place = || {
            let (directory, _) = paths::split(path)?;
            stat(directory).ok().map(|found| (found.st_dev, found.st_ino))
        };
        let mut watched = place();
        // Watch first, look second: what comes in between is then in the queue.
        let mut watch = FileWatch::open(address, FileEvents::APPEARED)?;
        let mut operation = object.operation(NAME, timeout);
        while !exists()? {
            let most = operation.share(1, LOOK_AGAIN);
            match watch.next(&mut operation.part(NAME, most)) {
                Err(error) if error.is(Errno::ETIMEDOUT) => {
                    operation.wait().check().map_err(|errno| operation.error(errno))?;
                    let found = place();
                    if found.is_some() && found != watched {
                        match FileWatch::open(address, FileEvents::APPEARED) {
                            Ok(anew) => (watch, watched) = (anew, found),
                            // Between the removal of a link and the next: another look.
                            Err(error) if error.is(Errno::ENOENT) || error.is(Errno::ENOTDIR) => {}
                            Err(error) => return Err(error),
                        }
                    }
                }
                happened => drop(happened?),
            }
        }
        Ok(())
    }
}

fn explain(error: Error) -> Error {
    match error.errno() {
        libc::ENOENT => error.because("its directory does not exist; make the directory first"),
        libc::ENOTDIR => error.because("what should be its directory is none"),
        libc::EACCES => error.because("its directory may not be read, which watching takes"),
        _ => explain_watches(error),
    }
}

impl AsFd for FileWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

impl std::fmt::Debug for FileWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileWatch").field("address", &self.address()).field("events", &self.interest).finish()
    }
}
