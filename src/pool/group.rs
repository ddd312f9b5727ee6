//! A control group for each worker, where this process may make some: the kernel then holds it to the memory limit, page by
//! page, and ends it itself.
//!
//! Version 1: below the group of this process. Version 2: beside it, as a group that has processes can have no groups with
//! limits below, and only in a part of the tree that its manager has delegated.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;

use crate::sys::{fork, xattr};

/// What a group is called, before the process that has the pool and a number.
const NAME: &str = "wigwag-";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// Where groups are made.
#[derive(Debug)]
pub(super) struct Groups {
    /// The group of this process.
    home: PathBuf,
    parent: PathBuf,
    version: Version,
    limit: u64,
}

/// The group of a worker, removed when it is dropped.
#[derive(Debug)]
pub(super) struct Group {
    folder: PathBuf,
    home: PathBuf,
    version: Version,
    /// A child made by fork has a copy, and the group stays its parent's.
    generation: u32,
}

impl Groups {
    /// For groups that may have so many bytes; `None` where the system has no place for them. Removes what processes have left
    /// that were killed.
    pub fn find(limit: u64) -> Option<Groups> {
        let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        let (version, home) = own_group(&groups, &mounts)?;
        let parent = match version {
            Version::One => home.clone(),
            Version::Two => home.parent().filter(|parent| is_delegated(parent) && passes_memory_on(parent))?.to_owned(),
        };
        remove_stale(&parent);
        Some(Groups { home, parent, version, limit })
    }

    /// A group for a worker that has just been started. Fails where this process may not make any, and for a worker that has
    /// ended.
    pub fn make(&self, pid: i32) -> io::Result<Group> {
        static MADE: AtomicU64 = AtomicU64::new(0);
        let folder = loop {
            let number = MADE.fetch_add(1, Ordering::Relaxed);
            let folder = self.parent.join(format!("{NAME}{}-{number}", std::process::id()));
            match fs::create_dir(&folder) {
                // Of one that had the same pid, and was killed.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => drop(fs::remove_dir(&folder)),
                made => break made.map(|()| folder)?,
            }
        };
        let group = Group { folder, home: self.home.clone(), version: self.version, generation: fork::generation() };
        let limit = self.limit.to_string();
        match self.version {
            Version::One => {
                group.set("memory.limit_in_bytes", &limit)?;
                optional(group.set("memory.memsw.limit_in_bytes", &limit))?;
            }
            Version::Two => {
                group.set("memory.max", &limit)?;
                optional(group.set("memory.swap.max", "0"))?;
                group.set("memory.oom.group", "1")?;
            }
        }
        group.set("cgroup.procs", &pid.to_string())?;
        Ok(group)
    }
}

impl Group {
    fn set(&self, file: &str, value: &str) -> io::Result<()> {
        put(&self.folder.join(file), value)
    }

    /// Whether the kernel has ended somebody in it for want of memory.
    pub fn has_killed(&self) -> bool {
        let file = match self.version {
            Version::One => "memory.oom_control",
            Version::Two => "memory.events",
        };
        let told = fs::read_to_string(self.folder.join(file)).unwrap_or_default();
        told.lines().any(|line| line.strip_prefix("oom_kill ").is_some_and(|count| count != "0"))
    }

    /// The most bytes that it ever had; 0 if the kernel does not tell.
    pub fn peak(&self) -> u64 {
        let file = match self.version {
            Version::One => "memory.max_usage_in_bytes",
            Version::Two => "memory.peak",
        };
        let told = fs::read_to_string(self.folder.join(file)).unwrap_or_default();
        told.trim_end().parse().unwrap_or(0)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if self.generation != fork::generation() {
            return;
        }
        // What the worker has started may outlive it, and then is where it would be without a group.
        let left = fs::read_to_string(self.folder.join("cgroup.procs")).unwrap_or_default();
        for pid in left.lines() {
            let _ = put(&self.home.join("cgroup.procs"), pid); // it may have ended meanwhile
        }
        let _ = fs::remove_dir(&self.folder); // where that fails, the next pool of this host tries again
    }
}

/// Not `fs::write`: what the kernel has no file for is not to be made.
fn put(file: &Path, value: &str) -> io::Result<()> {
    OpenOptions::new().write(true).open(file)?.write_all(value.as_bytes())
}

/// Systems that do not count swap have no files for it.
fn optional(result: io::Result<()>) -> io::Result<()> {
    result.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

/// The folder of this process's group in the tree that limits memory, from /proc/self/cgroup and /proc/self/mountinfo.
fn own_group(groups: &str, mounts: &str) -> Option<(Version, PathBuf)> {
    let path_of = |is_it: &dyn Fn(&str) -> bool| {
        let mut fields = groups.lines().map(|line| line.splitn(3, ':'));
        fields.find_map(|mut line| (line.next().is_some() && is_it(line.next()?)).then(|| line.next())?)
    };
    let mount_of = |kind: &str, option: &str| {
        mounts.lines().find_map(|line| {
            let (place, system) = line.split_once(" - ")?;
            let (mut place, mut system) = (place.split(' ').skip(3), system.split(' '));
            let (root, folder) = (place.next()?, place.next()?);
            let is_it = system.next() == Some(kind) && system.nth(1)?.split(',').any(|one| one == option);
            is_it.then_some((root, folder))
        })
    };
    let folder = |(root, folder): (&str, &str), path: &str| {
        Some(Path::new(folder).join(Path::new(path).strip_prefix(root).ok()?))
    };
    let one = path_of(&|controllers| controllers.split(',').any(|one| one == "memory"));
    if let (Some(path), Some(mount)) = (one, mount_of("cgroup", "memory")) {
        return Some((Version::One, folder(mount, path)?));
    }
    let (path, mount) = (path_of(&str::is_empty)?, mount_of("cgroup2", "rw")?);
    Some((Version::Two, folder(mount, path)?))
}

/// Whether the tree's manager leaves this part of it to others, as systemd says (Delegate=).
fn is_delegated(folder: &Path) -> bool {
    ["user.delegate", "trusted.delegate"].iter().any(|name| xattr::is(folder, name, b"1"))
}

/// Whether groups in this one can limit memory; has it so if it may.
fn passes_memory_on(folder: &Path) -> bool {
    let has = || {
        let told = fs::read_to_string(folder.join("cgroup.subtree_control")).unwrap_or_default();
        told.split_whitespace().any(|one| one == "memory")
    };
    has() || (put(&folder.join("cgroup.subtree_control"), "+memory").is_ok() && has())
}

/// Removes groups of processes that are gone; a group in use cannot be removed.
fn remove_stale(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(NAME)?.split('-').next()?.parse().ok());
        if owner.is_some_and(|owner| kill(Pid::from_raw(owner), None) == Err(Errno::ESRCH)) {
            let _ = fs::remove_dir(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "24 23 0:22 / /proc rw - proc proc rw\n\
                          32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                          35 31 0:32 /docker/1 /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory\n\
                          41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn the_group_of_this_process_is_found() {
        let found = own_group("4:cpu:/a\n3:blkio,memory:/docker/1/pool:one\n0::/\n", MOUNTS);
        assert_eq!(found, Some((Version::One, "/sys/fs/cgroup/memory/pool:one".into())));
        let found = own_group("0::/user.slice/a.scope\n", MOUNTS);
        assert_eq!(found, Some((Version::Two, "/sys/fs/cgroup/unified/user.slice/a.scope".into())));
        assert_eq!(own_group("3:memory:/elsewhere\n", MOUNTS), None);
        assert_eq!(own_group("", MOUNTS), None);
        assert_eq!(own_group("0::/\n", ""), None);
    }
}
