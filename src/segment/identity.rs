//! Which process somebody is, as far as the reader can see it: a pid counts only in its namespace, and only together
//! with the time that the process started.

/// What tells a process from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub pid: u32,
    /// The inode of its pid namespace; 0 if /proc does not say.
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
            // Without its directory there is no such process, provided that /proc shows this namespace at all.
            None => status("self").is_some_and(|own| own.pid == std::process::id()),
        }
    }
}

/// The pid namespace of the calling process.
pub(super) fn namespace() -> u64 {
    nix::sys::stat::stat("/proc/self/ns/pid").map_or(0, |status| status.st_ino)
}

struct Status {
    pid: u32,
    started: u64,
    /// A zombie: not one whose main thread alone has ended.
    ended: bool,
}

fn status(pid: &str) -> Option<Status> {
    let text = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let text = String::from_utf8_lossy(&text);
    // The name in parentheses may hold anything; the numbers come after its last parenthesis.
    let (front, rest) = text.rsplit_once(") ")?;
    let pid = front.split_once(' ')?.0.parse().ok()?;
    let fields: Vec<&str> = rest.split(' ').collect();
    let (state, threads, started) = (*fields.first()?, fields.get(17)?, fields.get(19)?.parse().ok()?);
    Some(Status { pid, started, ended: matches!(state, "X" | "x") || (state == "Z" && *threads == "1") })
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
