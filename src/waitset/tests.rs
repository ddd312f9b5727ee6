use super::*;
use crate::{Cancel, EventFd};
use nix::unistd::{dup, pipe, write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Instant;

const GENEROUS: Timeout = Timeout::After(Duration::from_secs(30));
const HOUR: Duration = Duration::from_secs(3600);

fn wait(set: &WaitSet, timeout: Timeout) -> Result<Vec<WaitSetEvent>> {
    let mut events = [WaitSetEvent::default(); 16];
    let count = set.wait(&mut events, timeout)?;
    Ok(events[..count].to_vec())
}

fn tokens(set: &WaitSet) -> Vec<u64> {
    let mut tokens: Vec<_> = wait(set, Timeout::Now).unwrap_or_default().iter().map(|event| event.token).collect();
    tokens.sort_unstable();
    tokens
}

fn sleeping_child() -> std::process::Child {
    Command::new("sleep").arg("3600").stdin(Stdio::null()).spawn().unwrap()
}

#[test]
fn a_mix_is_reported_by_token() {
    let (set, events) = (WaitSet::new().unwrap(), EventFd::new().unwrap());
    let (reader, writer) = pipe().unwrap();
    let mut child = Command::new("sh").args(["-c", "exit 7"]).spawn().unwrap();
    set.add(&events, Interest::READABLE, 1).unwrap();
    set.add(&reader, Interest::READABLE, 2).unwrap();
    set.add(&writer, Interest::WRITABLE, 3).unwrap();
    set.add_timer(Duration::ZERO, None, u64::MAX).unwrap();
    set.add_child(child.id().cast_signed(), 0).unwrap();
    events.add(1, Timeout::Now).unwrap();
    write(&writer, b"x").unwrap();

    let mut seen = std::collections::HashMap::new();
    while seen.len() < 5 {
        for event in wait(&set, GENEROUS).unwrap() {
            seen.insert(event.token, event);
        }
    }
    assert_eq!(seen[&1].readiness, Readiness::READABLE);
    assert_eq!(seen[&2].readiness, Readiness::READABLE);
    assert_eq!(seen[&3].readiness, Readiness::WRITABLE);
    assert_eq!((seen[&u64::MAX].readiness, seen[&u64::MAX].expirations), (Readiness::TIMER, 1));
    assert_eq!((seen[&0].readiness, seen[&0].status), (Readiness::ENDED, Some(ExitStatus::from_raw(7 << 8))));
    assert_eq!(child.wait().unwrap().code(), Some(7), "left to be reaped by its owner");
    let event = wait(&set, GENEROUS).unwrap().into_iter().find(|event| event.token == 0).unwrap();
    // Still ended, but how is known to its owner only, and to a thread that saw it where there are no pidfds.
    assert!([None, Some(ExitStatus::from_raw(7 << 8))].contains(&event.status));
}

#[test]
fn level_triggered_until_taken() {
    let (set, events) = (WaitSet::new().unwrap(), EventFd::new().unwrap());
    set.add(&events, Interest::READABLE, 5).unwrap();
    assert!(wait(&set, Timeout::Now).unwrap_err().is(Errno::EAGAIN));
    events.add(1, Timeout::Now).unwrap();
    assert_eq!((tokens(&set), tokens(&set)), (vec![5], vec![5]));
    events.take(Timeout::Now).unwrap();
    assert_eq!(tokens(&set), vec![]);
}

#[test]
fn timeout_is_never_early_and_says_so() {
    let set = WaitSet::new().unwrap();
    let start = Instant::now();
    let error = wait(&set, Timeout::After(Duration::from_millis(30))).unwrap_err();
    assert!(start.elapsed() >= Duration::from_millis(30));
    assert_eq!(error.to_string(), "wait waitset: ETIMEDOUT: the deadline passed");
}

#[test]
fn change_and_remove() {
    let (set, events) = (WaitSet::new().unwrap(), EventFd::new().unwrap());
    set.add(&events, Interest::READABLE, 1).unwrap();
    set.change(1, Interest::READABLE | Interest::WRITABLE).unwrap();
    assert_eq!(wait(&set, Timeout::Now).unwrap()[0].readiness, Readiness::WRITABLE);
    set.change(1, Interest::empty()).unwrap();
    assert_eq!(tokens(&set), vec![]);
    assert_eq!(set.len(), 1);
    set.remove(1).unwrap();
    assert!(set.is_empty());
    set.add(&events, Interest::WRITABLE, 1).unwrap();
    assert_eq!(tokens(&set), vec![1]);
}

#[test]
fn what_others_change_reaches_a_wait_in_progress() {
    let (set, first, second) = (WaitSet::new().unwrap(), EventFd::new().unwrap(), EventFd::new().unwrap());
    set.add(&first, Interest::READABLE, 1).unwrap();
    second.add(1, Timeout::Now).unwrap();
    std::thread::scope(|threads| {
        let waiter = threads.spawn(|| wait(&set, GENEROUS).unwrap());
        std::thread::sleep(Duration::from_millis(10));
        set.remove(1).unwrap();
        set.add(&second, Interest::READABLE, 2).unwrap();
        assert_eq!(waiter.join().unwrap()[0].token, 2);
        set.change(2, Interest::empty()).unwrap();
        let waiter = threads.spawn(|| wait(&set, GENEROUS).unwrap());
        std::thread::sleep(Duration::from_millis(10));
        set.change(2, Interest::WRITABLE).unwrap();
        assert_eq!(waiter.join().unwrap()[0].readiness, Readiness::WRITABLE);
    });
}

#[test]
fn missed_expirations_are_counted() {
    let set = WaitSet::new().unwrap();
    let period = Duration::from_millis(2);
    let start = Instant::now();
    set.add_timer(period, Some(period), 9).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    let first = wait(&set, GENEROUS).unwrap()[0].expirations;
    assert!(first >= 20, "{first}");
    let second = wait(&set, GENEROUS).unwrap()[0].expirations;
    let most = start.elapsed().as_nanos() / period.as_nanos();
    assert!(u128::from(first + second) <= most, "{first} + {second} > {most}");
}

#[test]
fn one_shot_timer_rests_until_started_again() {
    let set = WaitSet::new().unwrap();
    set.add_timer(Duration::from_millis(5), None, 1).unwrap();
    assert_eq!(wait(&set, GENEROUS).unwrap()[0].expirations, 1);
    assert!(wait(&set, Timeout::After(Duration::from_millis(15))).unwrap_err().is(Errno::ETIMEDOUT));
    set.change_timer(1, Duration::ZERO, None).unwrap();
    assert_eq!(wait(&set, GENEROUS).unwrap()[0].token, 1);
    set.change_timer(1, HOUR, Some(HOUR)).unwrap();
    assert_eq!(tokens(&set), vec![]);
    set.change_timer(1, Duration::MAX, Some(Duration::MAX)).unwrap();
    set.remove(1).unwrap();
}

#[test]
fn timer_is_reported_to_one_wait() {
    let set = WaitSet::new().unwrap();
    set.add_timer(Duration::ZERO, None, 1).unwrap();
    let counts: Vec<u64> = std::thread::scope(|threads| {
        let waiters: Vec<_> = (0..3)
            .map(|_| {
                threads.spawn(|| wait(&set, Timeout::After(Duration::from_millis(50))).map_or(0, |e| e[0].expirations))
            })
            .collect();
        waiters.into_iter().map(|waiter| waiter.join().unwrap()).collect()
    });
    assert_eq!(counts.iter().sum::<u64>(), 1, "{counts:?}");
}

#[test]
fn killed_child_by_both_ways() {
    for by_thread in [false, true] {
        let set = WaitSet::new().unwrap();
        let mut child = sleeping_child();
        let pid = child.id().cast_signed();
        if by_thread {
            let source = Source::Child(Child::watch_by_thread(pid).unwrap());
            set.insert(source, Interest::READABLE, 1).unwrap();
        } else {
            set.add_child(pid, 1).unwrap();
        }
        assert_eq!(tokens(&set), vec![]);
        child.kill().unwrap();
        let event = wait(&set, GENEROUS).unwrap()[0];
        assert_eq!((event.token, event.readiness), (1, Readiness::ENDED));
        assert_eq!(event.status.unwrap().signal(), Some(libc::SIGKILL));
        assert_eq!(tokens(&set), vec![1], "reported until removed");
        child.wait().unwrap();
        assert_eq!(tokens(&set), vec![1]);
        set.remove(1).unwrap();
    }
}

#[test]
fn removing_a_child_ends_its_helper_thread() {
    let set = WaitSet::new().unwrap();
    let mut child = sleeping_child();
    let source = Source::Child(Child::watch_by_thread(child.id().cast_signed()).unwrap());
    set.insert(source, Interest::READABLE, 1).unwrap();
    set.remove(1).unwrap();
    let source = Source::Child(Child::watch_by_thread(child.id().cast_signed()).unwrap());
    set.insert(source, Interest::READABLE, 1).unwrap();
    drop(set);
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
}

#[test]
fn children_that_are_none() {
    let set = WaitSet::new().unwrap();
    let error = set.add_child(i32::MAX, 1).unwrap_err();
    assert!(error.is(Errno::ESRCH) || error.is(Errno::ECHILD), "{error}");
    for pid in [0, -1, i32::MIN] {
        assert!(set.add_child(pid, 1).unwrap_err().is(Errno::EINVAL));
    }
    assert_eq!(Child::watch_by_thread(1).map(|_| ()).unwrap_err(), Errno::ECHILD);
    let error = set.add_child(-5, 1).unwrap_err();
    assert_eq!(error.to_string(), "add_child waitset: EINVAL: -5 is not the pid of a process");
}

#[test]
fn hang_up_and_error() {
    let set = WaitSet::new().unwrap();
    let (reader, writer) = pipe().unwrap();
    set.add(&reader, Interest::empty(), 1).unwrap();
    drop(writer);
    assert_eq!(wait(&set, GENEROUS).unwrap()[0].readiness, Readiness::HANGUP);
    let (reader, writer) = pipe().unwrap();
    set.remove(1).unwrap();
    set.add(&writer, Interest::empty(), 2).unwrap();
    drop(reader);
    assert_eq!(wait(&set, GENEROUS).unwrap()[0].readiness, Readiness::ERROR);
}

#[test]
fn small_buffers_get_all_events_in_turn() {
    let set = WaitSet::new().unwrap();
    let counters: Vec<_> =
        (0..10).map(|_| EventFd::open(crate::EventFdOptions { initial: 1, semaphore: false }).unwrap()).collect();
    for (token, counter) in (0..).zip(&counters) {
        set.add(counter, Interest::READABLE, token).unwrap();
    }
    let mut seen = std::collections::HashSet::new();
    let mut two = [WaitSetEvent::default(); 2];
    for _ in 0..5 {
        assert_eq!(set.wait(&mut two, Timeout::Now).unwrap(), 2);
        seen.extend(two.iter().map(|event| event.token));
    }
    assert_eq!(seen.len(), 10);
    let error = set.wait(&mut [], Timeout::Now).unwrap_err();
    assert_eq!(error.to_string(), "wait waitset: EINVAL: there is no room for even one event");
}

#[test]
fn more_than_a_batch() {
    let (set, writable) = (WaitSet::new().unwrap(), EventFd::new().unwrap());
    let copies: Vec<_> = (0..300).map(|_| dup(&writable).unwrap()).collect();
    for (token, copy) in (0..).zip(&copies) {
        set.add(copy, Interest::WRITABLE, token).unwrap();
    }
    let mut events = [WaitSetEvent::default(); 400];
    let first = set.wait(&mut events, Timeout::Now).unwrap();
    assert_eq!(first, WAITSET_BATCH);
    let second = set.wait(&mut events[first..], Timeout::Now).unwrap();
    let seen: std::collections::HashSet<_> = events[..first + second].iter().map(|event| event.token).collect();
    assert_eq!(seen.len(), 300);
}

#[test]
fn cancel_and_end_waits() {
    let (set, cancel) = (WaitSet::new().unwrap(), Cancel::new());
    std::thread::scope(|threads| {
        threads.spawn(|| {
            std::thread::sleep(Duration::from_millis(10));
            cancel.fire();
        });
        let _scope = cancel.enter();
        assert!(wait(&set, Timeout::Forever).unwrap_err().is(Errno::ECANCELED));
    });
    std::thread::scope(|threads| {
        let waiters: Vec<_> =
            (0..3).map(|_| threads.spawn(|| wait(&set, Timeout::Forever).unwrap_err().errno())).collect();
        std::thread::sleep(Duration::from_millis(10));
        set.end_waits();
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), libc::ECANCELED);
        }
    });
}

#[test]
fn sets_within_sets() {
    let (outer, inner, events) = (WaitSet::new().unwrap(), WaitSet::new().unwrap(), EventFd::new().unwrap());
    inner.add(&events, Interest::READABLE, 1).unwrap();
    outer.add(&inner, Interest::READABLE, 2).unwrap();
    assert_eq!(tokens(&outer), vec![]);
    events.add(1, Timeout::Now).unwrap();
    assert_eq!(tokens(&outer), vec![2]);
    assert_eq!(
        inner.add(&inner, Interest::READABLE, 3).unwrap_err().to_string(),
        "add waitset: EINVAL: a set cannot be in itself"
    );
    assert!(inner.add(&outer, Interest::READABLE, 3).unwrap_err().is(Errno::ELOOP));
    assert_eq!(inner.len(), 1);
}

#[test]
fn twice_is_once_too_often() {
    let (set, events, other) = (WaitSet::new().unwrap(), EventFd::new().unwrap(), EventFd::new().unwrap());
    let fd = events.as_fd().as_raw_fd();
    set.add(&events, Interest::READABLE, 1).unwrap();
    let error = set.add(&events, Interest::READABLE, 2).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "add waitset: EEXIST: descriptor {fd} is in the set already, under token 1; change that entry, or add a duplicate (dup)"
        )
    );
    let error = set.add(&other, Interest::READABLE, 1).unwrap_err();
    assert_eq!(
        error.to_string(),
        "add waitset: EEXIST: token 1 is in the set already; remove it first, or choose another"
    );
    assert!(set.add_timer(HOUR, None, 1).unwrap_err().is(Errno::EEXIST));
    assert_eq!(set.len(), 1);
}

#[test]
fn what_cannot_be_polled() {
    let set = WaitSet::new().unwrap();
    let file = tempfile::tempfile().unwrap();
    let error = set.add(&file, Interest::READABLE, 1).unwrap_err();
    assert!(error.is(Errno::EPERM));
    assert!(error.reason().contains("regular files and directories are always ready"), "{error}");
    assert!(set.is_empty());
}

#[test]
fn tokens_that_are_not_there_or_something_else() {
    let (set, events) = (WaitSet::new().unwrap(), EventFd::new().unwrap());
    set.add(&events, Interest::READABLE, 1).unwrap();
    set.add_timer(HOUR, None, 2).unwrap();
    for error in [
        set.remove(7).unwrap_err(),
        set.change(7, Interest::READABLE).unwrap_err(),
        set.change_timer(7, HOUR, None).unwrap_err(),
    ] {
        assert!(error.is(Errno::ENOENT));
        assert_eq!(error.reason(), "no entry of the set has the token 7; was it removed already?");
    }
    let error = set.change(2, Interest::READABLE).unwrap_err();
    assert_eq!(
        error.to_string(),
        "change waitset: EINVAL: token 2 is a timer, and only descriptors have an interest to change"
    );
    let error = set.change_timer(1, HOUR, None).unwrap_err();
    assert!(error.is(Errno::EINVAL) && error.reason().ends_with("not a timer"), "{error}");
}

#[test]
fn closed_while_in_the_set() {
    let set = WaitSet::new().unwrap();
    let events = EventFd::new().unwrap();
    let fd = events.as_fd().as_raw_fd();
    set.add(&events, Interest::READABLE, 1).unwrap();
    // A number high up, which no other test's descriptor gets in between.
    let high = nix::fcntl::fcntl(&events, nix::fcntl::FcntlArg::F_DUPFD_CLOEXEC(700)).unwrap();
    // SAFETY: made just now, and owned by nobody else.
    let high = unsafe { <std::os::fd::OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(high) };
    let number = high.as_raw_fd();
    set.add(&high, Interest::READABLE, 2).unwrap();
    drop(high);
    for error in [set.change(2, Interest::WRITABLE).unwrap_err(), set.remove(2).unwrap_err()] {
        assert!(error.is(Errno::EBADF));
        assert_eq!(
            error.reason(),
            format!(
                "descriptor {number} was closed while it was in the set; remove an entry before closing its descriptor"
            )
        );
    }
    assert_eq!(set.len(), 1, "removed all the same");
    assert_ne!(number, fd);
    // The counter itself is still open through the first descriptor, so that the kernel goes on reporting the second.
    events.add(1, Timeout::Now).unwrap();
    assert_eq!(tokens(&set), vec![1]);
    set.remove(1).unwrap();
    let error = wait(&set, GENEROUS).unwrap_err();
    assert!(error.is(Errno::EBADF) && error.reason().contains("the descriptor of token 2 was closed"), "{error}");
}

#[test]
fn number_in_use_again() {
    let set = WaitSet::new().unwrap();
    let first = EventFd::new().unwrap();
    set.add(&first, Interest::READABLE, 1).unwrap();
    let second = EventFd::open(crate::EventFdOptions { initial: 1, semaphore: false }).unwrap();
    // The first counter's number now means the second's: the same as closing it and opening another.
    // SAFETY: two open descriptors; the target stays the first counter's own.
    assert!(unsafe { libc::dup3(second.as_fd().as_raw_fd(), first.as_fd().as_raw_fd(), libc::O_CLOEXEC) } >= 0);
    set.add(&first, Interest::READABLE, 2).unwrap();
    assert_eq!(tokens(&set), vec![2]);
    let error = set.remove(1).unwrap_err();
    assert!(error.is(Errno::EBADF) && error.reason().contains("its number is in use again"), "{error}");
    assert_eq!(tokens(&set), vec![2], "removing the old one has not touched the new one");
}
