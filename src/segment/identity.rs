//! Which process somebody is, as far as the reader can see it: a pid counts only in its namespace, and only together
//! with the time that the process started.

use std::path::Path;

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::sys::stat::stat;
use nix::unistd::Pid;

/// What tells a process from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub pid: u32,
    /// Its namespaces of pids and of time, see [`namespace`]; 0 if /proc does not say.
    pub namespace: u64,
    /// Ticks from boot to its start; 0 if /proc does not say.
    pub started: u64,
}

impl Identity {
    pub(super) fn own() -> Identity {
        let pid = std::process::id();
        let started = status("self").map_or(0, |status| status.started);
        Identity { pid, namespace: namespace(), started }
    }

    /// Whether that process is certainly no more. False where it cannot be known.
    pub(super) fn is_gone(&self, own_namespace: u64) -> bool {
        if self.namespace == 0 || self.namespace != own_namespace || self.started == 0 {
            return false;
        }
        match status(&self.pid.to_string()) {
            Some(status) => status.started != self.started || status.ended,
            // /proc may hide the processes of others; the kernel's answer to a signal does not.
            None => i32::try_from(self.pid).is_ok_and(|pid| kill(Pid::from_raw(pid), None) == Err(Errno::ESRCH)),
        }
    }
}

/// The namespaces of the calling process in which its pid and its start time mean something: the inode of its pid
/// namespace, and above that of its time namespace, by which the kernel shifts what it shows (none before Linux 5.6). 0 if
/// /proc does not say, or is that of another pid namespace, where its numbers are other processes.
pub(crate) fn namespace() -> u64 {
    let shown = std::fs::read_link("/proc/self").ok();
    if shown.as_deref().and_then(Path::to_str) != Some(&std::process::id().to_string()) {
        return 0;
    }
    let inode = |name| stat(name).map_or(0, |status| status.st_ino & u64::from(u32::MAX));
    match inode("/proc/self/ns/pid") {
        0 => 0,
        pids => inode("/proc/self/ns/time") << 32 | pids,
    }
}

struct Status {
    started: u64,
    /// A zombie: not one whose main thread alone has ended.
    ended: bool,
}

fn status(pid: &str) -> Option<Status> {
    let bytes = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let text = String::from_utf8_lossy(&bytes); // a process may have any bytes for a name
    // The name in parentheses may hold anything; the other fields, from the third on, come after its last parenthesis.
    let mut rest = text.get(text.rfind(')')? + 2..)?;
    let mut field = || {
        let (first, others) = rest.split_at(rest.find(' ')?);
        rest = others.get(1..)?;
        Some(first)
    };
    let state = field()?;
    let threads = (0..17).map(|_| field()).last()??;
    let started = (0..2).map(|_| field()).last()??.parse().ok()?;
    Some(Status { started, ended: matches!(state, "X" | "x") || (state == "Z" && threads == "1") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_process_is_not_gone() {
        let own = Identity::own();
        assert!(own.started != 0 && own.namespace != 0);
        assert!(!own.is_gone(own.namespace));
    }

    #[test]
    fn pid_of_another_life_is_gone() {
        let reused = Identity { started: Identity::own().started - 1, ..Identity::own() };
        assert!(reused.is_gone(reused.namespace));
        assert!(!reused.is_gone(reused.namespace + 1), "seen from another namespace, who knows");
    }

    #[test]
    fn zombie_is_gone() {
        // SAFETY: the child leaves at once.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            // SAFETY: as above.
            unsafe { libc::_exit(0) };
        }
        let own = Identity::own();
        let start = std::time::Instant::now();
        let zombie = loop {
            let status = status(&pid.to_string()).unwrap();
            if status.ended || start.elapsed().as_secs() > 30 {
                break Identity { pid: pid.cast_unsigned(), started: status.started, ..own };
            }
        };
        assert!(zombie.is_gone(own.namespace));
        // SAFETY: our child.
        unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
        assert!(zombie.is_gone(own.namespace));
    }
}
