//! What tests with several processes share: children that cannot outlive their test, fresh names, bounded waits.

#![allow(dead_code)] // each test file uses a part

pub mod spoiling;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use wigwag::Timeout;

/// Long enough for anything that should end, short enough to find out that it does not.
pub const GENEROUS: Timeout = Timeout::After(Duration::from_secs(30));

/// For waits that a test expects to run out.
pub const SHORT: Timeout = Timeout::After(Duration::from_millis(20));

/// A name that no other test and no other run uses.
pub fn fresh(prefix: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("wwtest-{prefix}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Says that the test it stands in is left out here, and why; the test returns then. tools/test counts these, and fails
/// on those that tests/skips.txt does not list when CI=true.
#[macro_export]
macro_rules! skip {
    ($reason:expr) => {{
        fn here() {}
        $crate::support::say_skipped(std::any::type_name_of_val(&here), &$reason)
    }};
}

/// For [`skip`], with the path of a function inside the test. Written at once: the harness keeps back what a test prints
/// by the usual way, and a forked child must not touch the harness's buffer.
pub fn say_skipped(here: &str, reason: &dyn std::fmt::Display) {
    let line = format!("\nskip {}: {reason}\n", here.replace("::{{closure}}", "").trim_end_matches("::here"));
    write_at_once(1, &line);
}

pub fn write_at_once(fd: libc::c_int, text: &str) {
    // SAFETY: the text is live.
    let _ = unsafe { libc::write(fd, text.as_ptr().cast(), text.len()) };
}

/// In a forked child: namespaces of its own (`libc::CLONE_NEW…`), in which it may do what root may. Why not, if not.
pub fn unshare(namespaces: libc::c_int) -> Result<(), String> {
    // SAFETY: plain system calls, in a child with one thread.
    let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
    // SAFETY: as above.
    if unsafe { libc::unshare(libc::CLONE_NEWUSER | namespaces) } != 0 {
        return Err(format!("no namespaces of its own: {}", std::io::Error::last_os_error()));
    }
    std::fs::write("/proc/self/setgroups", "deny").unwrap();
    std::fs::write("/proc/self/uid_map", format!("0 {uid} 1")).unwrap();
    std::fs::write("/proc/self/gid_map", format!("0 {gid} 1")).unwrap();
    Ok(())
}

/// In a forked child: an IPC namespace of its own, with these settings (`/proc/sys/…`). Why not, if not: kernels before
/// 5.19 leave the settings to root.
pub fn unshare_ipc(settings: &[(&str, &str)]) -> Result<(), String> {
    // SAFETY: a plain system call, in a child with one thread.
    if unsafe { libc::unshare(libc::CLONE_NEWIPC) } != 0 {
        unshare(libc::CLONE_NEWIPC)?;
    }
    for (setting, value) in settings {
        std::fs::write(format!("/proc/sys/{setting}"), value).map_err(|error| format!("{setting}: {error}"))?;
    }
    Ok(())
}

/// A forked child; killed when dropped.
pub struct Child {
    pid: libc::pid_t,
    reaped: bool,
}

/// Runs `body` in a forked child, which ends with status 0 if it returns and 101 if it panics.
///
/// The child may use this library and allocate (glibc keeps its allocator usable over fork); it must not touch the test
/// harness. A watchdog ends it should the body hang.
pub fn fork(body: impl FnOnce()) -> Child {
    show_panics_of_children();
    // SAFETY: the child runs `body` and leaves by _exit, so nothing of the harness runs twice.
    match unsafe { libc::fork() } {
        -1 => panic!("fork: {}", std::io::Error::last_os_error()),
        0 => {
            // SAFETY: plain system calls.
            unsafe {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                libc::alarm(60);
            }
            let code = if catch_unwind(AssertUnwindSafe(body)).is_ok() { 0 } else { 101 };
            // SAFETY: ends the process without destructors of the harness.
            unsafe { libc::_exit(code) }
        }
        pid => Child { pid, reaped: false },
    }
}

/// What the harness catches of a child's output it never shows. Set up before the fork: another thread may hold the lock of
/// the panic hook at that moment, and a child's copy of it would stay locked.
fn show_panics_of_children() {
    static SET_UP: Once = Once::new();
    SET_UP.call_once(|| {
        let (harness, before) = (std::process::id(), std::panic::take_hook());
        std::panic::set_hook(Box::new(move |panic| match std::process::id() {
            own if own == harness => before(panic),
            child => write_at_once(2, &format!("child {child}: {panic}\n")),
        }));
    });
}

impl Child {
    pub fn pid(&self) -> libc::pid_t {
        self.pid
    }

    pub fn kill(&self, signal: libc::c_int) {
        // SAFETY: a child of ours that is not reaped yet, so the pid is still its own.
        assert_eq!(unsafe { libc::kill(self.pid, signal) }, 0);
    }

    /// Waits for its end; the raw wait status.
    pub fn wait(mut self) -> i32 {
        let mut status = 0;
        // SAFETY: status is a live local.
        assert_eq!(unsafe { libc::waitpid(self.pid, &mut status, 0) }, self.pid);
        self.reaped = true;
        status
    }

    /// Waits for its end, which must be a good one.
    pub fn join(self) {
        let status = self.wait();
        assert_eq!(status, 0, "child ended with wait status {status:#x}");
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.reaped {
            // SAFETY: as in `kill`; the status is not wanted.
            unsafe {
                libc::kill(self.pid, libc::SIGKILL);
                libc::waitpid(self.pid, std::ptr::null_mut(), 0);
            }
        }
    }
}

/// Waits until `condition` holds, for at most 30 seconds.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(30), "never happened: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Whether the main thread of `pid` sleeps in the kernel, as a blocked one does.
pub fn is_asleep(pid: libc::pid_t) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('S'))
}

/// As [`fork`], in a sandbox where these system calls (`libc::SYS_…`) fail with `errno`.
pub fn fork_without(calls: &[libc::c_long], errno: libc::c_int, body: impl FnOnce()) -> Child {
    let refuse = libc::SECCOMP_RET_ERRNO | u32::try_from(errno).unwrap();
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let mut filter = vec![statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0)]; // the call's number
    for call in calls {
        let number = u32::try_from(*call).unwrap();
        filter.push(libc::sock_filter { jf: 1, ..statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, number) });
        filter.push(statement(libc::BPF_RET | libc::BPF_K, refuse));
    }
    filter.push(statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW));
    fork(move || {
        let program = libc::sock_fprog { len: u16::try_from(filter.len()).unwrap(), filter: filter.as_mut_ptr() };
        // SAFETY: the kernel copies the filter, which is live here; it concerns this child alone.
        unsafe {
            assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
            assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program), 0);
        }
        body();
    })
}
