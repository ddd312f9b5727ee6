//! Sending, and what is said when that fails.

use nix::errno::Errno;
use wigwag::{EventFd, Signal, SignalMask, SignalTarget, Signals, Timeout, wait_signal};

use crate::support::{GENEROUS, fork};
use crate::{alone, own_pid, rt};

/// A pid above what the kernel gives.
const NOBODY: i32 = i32::MAX;

/// From here on these system calls fail with `errno` in this thread, as under a sandbox or an old kernel.
fn forbid(calls: &[libc::c_long], errno: i32) {
    let load = |offset| libc::sock_filter { code: 0x20, jt: 0, jf: 0, k: offset }; // BPF_LD | BPF_W | BPF_ABS
    let answer = |value| libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: value }; // BPF_RET | BPF_K
    let mut program = vec![load(0)]; // the number of the call
    for call in calls {
        program.push(libc::sock_filter { code: 0x15, jt: 0, jf: 1, k: *call as u32 }); // BPF_JMP | BPF_JEQ | BPF_K
        program.push(answer(libc::SECCOMP_RET_ERRNO | errno as u32));
    }
    program.push(answer(libc::SECCOMP_RET_ALLOW));
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: a valid program that lives over the call; only this child is confined.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter), 0);
    }
}

/// How signals go to a process for certain here: these tests also run where the calls for it are refused.
fn usual_path() -> &'static str {
    match SignalTarget::open(own_pid()).unwrap().pidfd() {
        Some(_) => "pidfd_send_signal",
        None => "kill",
    }
}

#[test]
fn what_is_refused() {
    for pid in [0, -1, i32::MIN] {
        let error = Signal::TERM.send(pid).unwrap_err();
        assert!(error.is(Errno::EINVAL) && error.reason().contains("send_to_group"), "{error}");
        assert!(Signal::TERM.send_value(pid, 1).unwrap_err().is(Errno::EINVAL));
        assert!(Signal::TERM.send_to_thread(own_pid(), pid).unwrap_err().is(Errno::EINVAL));
        assert!(Signal::TERM.send_to_group(pid).unwrap_err().is(Errno::EINVAL));
        assert!(SignalTarget::open(pid).unwrap_err().is(Errno::EINVAL));
    }
    assert!(Signal::TERM.send_to_group(1).unwrap_err().reason().contains("everybody"));
    let gone =
        format!("kill signal:TERM@{NOBODY}: ESRCH: there is no process (group, thread) {NOBODY}, or not any more");
    assert_eq!(Signal::TERM.send(NOBODY).unwrap_err().to_string(), gone);
    assert!(Signal::TERM.send_value(NOBODY, 1).unwrap_err().is(Errno::ESRCH));
    assert!(Signal::TERM.send_to_group(NOBODY).unwrap_err().is(Errno::ESRCH));
    assert!(Signal::TERM.send_to_thread(own_pid(), NOBODY).unwrap_err().is(Errno::ESRCH));
    assert!(SignalTarget::open(NOBODY).unwrap_err().reason().contains("no such process"));
    assert!(SignalTarget::at(&"signal:USR1".parse().unwrap()).unwrap_err().reason().contains("signal:NAME@PID"));
    assert!(SignalTarget::from_fd(EventFd::new().unwrap().into_fd()).unwrap_err().is(Errno::EBADF));
}

#[test]
fn a_process_of_another_user() {
    alone(|| {
        if nix::unistd::getuid().is_root() {
            nix::unistd::setuid(65534.into()).unwrap();
        }
        let error = Signal::TERM.send(1).unwrap_err();
        assert!(error.is(Errno::EPERM) && error.reason().starts_with("1 belongs to another user"), "{error}");
        let target = SignalTarget::open(1).unwrap();
        assert!(target.send(Signal::TERM).unwrap_err().is(Errno::EPERM));
        assert_eq!(target.path(), usual_path());
        assert!(target.exists());
    });
}

#[test]
fn a_full_queue_is_said_to_be_full() {
    alone(|| {
        let limit = libc::rlimit { rlim_cur: 64, rlim_max: 64 };
        // SAFETY: lowers a limit of this child.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_SIGPENDING, &raw const limit) }, 0);
        let _blocked = SignalMask::block(&[rt(0)]).unwrap();
        // The count is of all of the user's processes, so that other tests may make room or take it.
        let mut sent = 0;
        let error = loop {
            match rt(0).send_value(own_pid(), sent) {
                Ok(()) => sent += 1,
                Err(error) => break error,
            }
            assert!(sent < 100);
        };
        assert!(error.is(Errno::EAGAIN), "{error}");
        let text = error.to_string();
        assert!(text.contains("/64 of its RLIMIT_SIGPENDING are pending") && text.contains("ulimit -i"), "{text}");
        for value in 0..sent {
            assert_eq!(wait_signal(&[rt(0)], Timeout::Now).unwrap().value, value);
        }
        assert!(wait_signal(&[rt(0)], Timeout::Now).is_err());
    });
}

fn receiver(ready: &EventFd) -> impl FnOnce() {
    || {
        let signals = Signals::open(&[Signal::USR1, rt(0)]).unwrap();
        ready.add(1, Timeout::Now).unwrap();
        assert_eq!(signals.take(GENEROUS).unwrap().signal, Signal::USR1);
        ready.add(1, Timeout::Now).unwrap();
        let info = signals.take(GENEROUS).unwrap();
        assert_eq!((info.signal, info.value, info.code), (rt(0), -7, libc::SI_QUEUE));
        assert_eq!(info.uid, nix::unistd::getuid().as_raw());
    }
}

fn send_to_target(path: &str) {
    let ready = EventFd::new().unwrap();
    let child = fork(receiver(&ready));
    ready.take(GENEROUS).unwrap();
    let (target, signal) = SignalTarget::at(&format!("signal:USR1@{}", child.pid()).parse().unwrap()).unwrap();
    assert!(target.exists());
    target.send(signal).unwrap();
    assert_eq!(target.path(), path);
    let path = if path == "kill" { "kill after a look at the start time" } else { path };
    assert!(wigwag::paths().contains(&("signal to a process for certain", path)));
    ready.take(GENEROUS).unwrap();
    target.send_value(rt(0), -7).unwrap();
    let pid = child.pid();
    child.join();
    assert!(!target.exists());
    let error = target.send(signal).unwrap_err();
    assert!(error.is(Errno::ESRCH) && error.object() == Some(&*format!("signal:USR1@{pid}")), "{error}");
    assert!(target.send_value(rt(0), 1).unwrap_err().is(Errno::ESRCH));
}

#[test]
fn to_a_process_for_certain() {
    send_to_target(usual_path());
}

#[test]
fn without_pidfds() {
    for errno in [libc::ENOSYS, libc::EPERM] {
        alone(|| {
            forbid(&[libc::SYS_pidfd_open, libc::SYS_pidfd_send_signal], errno);
            send_to_target("kill");
            assert!(SignalTarget::open(NOBODY).unwrap_err().is(Errno::ESRCH));
            let thread = std::thread::spawn(|| SignalTarget::open(Signal::this_thread()).unwrap_err());
            assert!(thread.join().unwrap().is(Errno::EINVAL));
        });
        alone(|| {
            forbid(&[libc::SYS_pidfd_send_signal], errno);
            send_to_target("kill");
        });
    }
}

#[test]
fn adopted_pidfd_and_threads() {
    let ready = EventFd::new().unwrap();
    let child = fork(receiver(&ready));
    ready.take(GENEROUS).unwrap();
    let opened = SignalTarget::open(child.pid()).unwrap();
    let target = match opened.pidfd() {
        Some(pidfd) => SignalTarget::from_fd(pidfd.try_clone_to_owned().unwrap()).unwrap(),
        None => opened,
    };
    assert_eq!(target.pid(), child.pid());
    Signal::USR1.send_to_thread(child.pid(), child.pid()).unwrap();
    ready.take(GENEROUS).unwrap();
    target.send_value(rt(0), -7).unwrap();
    child.join();
    assert!(Signal::USR1.send_to_thread(own_pid(), 1).unwrap_err().is(Errno::ESRCH), "not a thread of ours");
    let thread = std::thread::spawn(|| SignalTarget::open(Signal::this_thread()).unwrap_err());
    let error = thread.join().unwrap();
    assert!(error.is(Errno::EINVAL) && error.reason().contains("further threads"), "{error}");
}
