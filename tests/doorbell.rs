//! Descriptors for System V queues and semaphores: woken by processes that know nothing of this library, losing nothing,
//! quiet when there is nothing, and gone with their object.

mod support;

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use support::{GENEROUS, SHORT};
use wigwag::{
    Cancel, EventFd, Interest, SemOp, SysvMq, SysvSelect, SysvSem, SysvSemOptions, Timeout, WaitSet, WaitSetEvent,
};

struct Queue(SysvMq);

impl Queue {
    fn new() -> Queue {
        Queue(SysvMq::create(&"sysv-mq:private".parse().unwrap(), &Default::default()).unwrap())
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        let _ = self.0.unlink(); // some tests have removed it
    }
}

struct Set(SysvSem);

impl Set {
    fn new(values: &[u16]) -> Set {
        let options = SysvSemOptions { values: values.to_vec(), ..Default::default() };
        Set(SysvSem::create(&"sysv-sem:private".parse().unwrap(), &options).unwrap())
    }
}

impl Drop for Set {
    fn drop(&mut self) {
        let _ = self.0.unlink(); // some tests have removed it
    }
}

fn waits_on(fd: BorrowedFd<'_>) -> WaitSet {
    let set = WaitSet::new().unwrap();
    set.add(&fd, Interest::READABLE, 1).unwrap();
    set
}

fn wait(set: &WaitSet, timeout: Timeout) -> wigwag::Result<u64> {
    let mut events = [WaitSetEvent::default()];
    set.wait(&mut events, timeout).map(|_| events[0].token)
}

/// Sends with nothing but the system call.
fn foreign_send(id: i32, kind: libc::c_long, size: usize) {
    let message = [kind, 0];
    // SAFETY: a type and at most eight bytes in a live local.
    assert_eq!(unsafe { libc::msgsnd(id, message.as_ptr().cast(), size, 0) }, 0);
}

fn foreign_add(id: i32, number: u16, change: i16) {
    let mut op = libc::sembuf { sem_num: number, sem_op: change, sem_flg: 0 };
    // SAFETY: one operation in a live local.
    assert_eq!(unsafe { libc::semop(id, &raw mut op, 1) }, 0);
}

fn receive_all(queue: &SysvMq, select: SysvSelect) -> Vec<i64> {
    std::iter::from_fn(|| queue.recv(select, Timeout::Now).ok()).map(|message| message.kind).collect()
}

/// Receives until nothing is found and the bell has nothing left to say.
fn settle(set: &WaitSet, queue: &SysvMq, select: SysvSelect) {
    while wait(set, SHORT).is_ok() {
        assert_eq!(receive_all(queue, select), []);
    }
}

#[test]
fn a_queue_and_a_semaphore_beside_an_eventfd() {
    let (queue, sem, events) = (Queue::new(), Set::new(&[0]), EventFd::new().unwrap());
    let set = WaitSet::new().unwrap();
    set.add(&queue.0.doorbell(SysvSelect::Any).unwrap(), Interest::READABLE, 1).unwrap();
    set.add(&sem.0.doorbell(0, -1).unwrap(), Interest::READABLE, 2).unwrap();
    set.add(&events, Interest::READABLE, 3).unwrap();
    assert_eq!(wait(&set, SHORT).unwrap_err().errno(), libc::ETIMEDOUT);
    let child = support::fork(|| {
        for n in 0..300 {
            match n % 3 {
                0 => foreign_send(queue.0.id(), 1 + n, 5),
                1 => foreign_add(sem.0.id(), 0, 1),
                _ => events.add(1, GENEROUS).unwrap(),
            }
        }
    });
    let (mut messages, mut permits, mut counted) = (0, 0, 0);
    while messages + permits + counted < 300 {
        match wait(&set, GENEROUS).unwrap() {
            1 => messages += receive_all(&queue.0, SysvSelect::Any).len() as u64,
            2 => {
                while sem.0.add(0, -1, Timeout::Now).is_ok() {
                    permits += 1;
                }
            }
            _ => counted += events.take(Timeout::Now).unwrap(),
        }
    }
    assert_eq!((messages, permits, counted), (100, 100, 100));
    child.join();
}

#[test]
fn level_triggered_until_nothing_is_found() {
    let queue = Queue::new();
    queue.0.send(b"one", 1, Timeout::Now).unwrap();
    queue.0.send(b"two", 2, Timeout::Now).unwrap();
    let set = waits_on(queue.0.doorbell(SysvSelect::Any).unwrap());
    for _ in 0..3 {
        wait(&set, GENEROUS).unwrap();
    }
    assert_eq!(receive_all(&queue.0, SysvSelect::Any), [1, 2]);
    settle(&set, &queue.0, SysvSelect::Any);
    queue.0.send(b"three", 3, Timeout::Now).unwrap();
    wait(&set, GENEROUS).unwrap();
}

#[test]
fn each_kind_of_message_has_a_bell_of_its_own() {
    let queue = Queue::new();
    let five = waits_on(queue.0.doorbell(SysvSelect::Type(5)).unwrap());
    let low = waits_on(queue.0.doorbell(SysvSelect::UpTo(3)).unwrap());
    let other = waits_on(queue.0.doorbell(SysvSelect::AllBut(5)).unwrap());
    foreign_send(queue.0.id(), 5, 1);
    wait(&five, GENEROUS).unwrap();
    assert!(wait(&low, SHORT).is_err() && wait(&other, SHORT).is_err());
    foreign_send(queue.0.id(), 2, 1);
    wait(&low, GENEROUS).unwrap();
    wait(&other, GENEROUS).unwrap();
    assert_eq!(receive_all(&queue.0, SysvSelect::Type(5)), [5]);
    settle(&five, &queue.0, SysvSelect::Type(5));
    assert_eq!(receive_all(&queue.0, SysvSelect::UpTo(3)), [2]);
}

/// A message without bytes is the one that a helper cannot help taking.
#[test]
fn messages_without_bytes_are_handed_back() {
    let queue = Queue::new();
    let set = waits_on(queue.0.doorbell(SysvSelect::Any).unwrap());
    let child = support::fork(|| {
        for kind in 1..=200 {
            foreign_send(queue.0.id(), kind, 0);
            std::thread::yield_now();
        }
    });
    let mut kinds = Vec::new();
    while kinds.len() < 200 {
        wait(&set, GENEROUS).unwrap();
        kinds.extend(receive_all(&queue.0, SysvSelect::Any));
    }
    kinds.sort_unstable();
    assert_eq!(kinds, (1..=200).collect::<Vec<_>>(), "none lost, none twice");
    child.join();
    settle(&set, &queue.0, SysvSelect::Any);
    let before = queue.0.handed_back();
    foreign_send(queue.0.id(), 7, 0);
    let seven = waits_on(queue.0.doorbell(SysvSelect::Type(7)).unwrap());
    wait(&seven, GENEROUS).unwrap();
    assert!(queue.0.handed_back() > before, "looking for a type takes it, and hands it back");
    assert_eq!(receive_all(&queue.0, SysvSelect::Type(7)), [7]);
}

#[test]
fn order_is_kept_in_a_queue_that_was_not_empty() {
    let queue = Queue::new();
    for kind in 1..=3 {
        queue.0.send(b"", kind, Timeout::Now).unwrap();
    }
    let set = waits_on(queue.0.doorbell(SysvSelect::Any).unwrap());
    wait(&set, GENEROUS).unwrap();
    assert_eq!(receive_all(&queue.0, SysvSelect::Any), [1, 2, 3]);
    assert_eq!(queue.0.handed_back(), 0);
}

#[test]
fn other_receivers_are_served_all_the_same() {
    let queue = Queue::new();
    let _bell = queue.0.doorbell(SysvSelect::Any).unwrap();
    let got = EventFd::new().unwrap();
    let child = support::fork(|| {
        for _ in 0..50 {
            queue.0.recv(SysvSelect::Any, GENEROUS).unwrap();
            got.add(1, GENEROUS).unwrap();
        }
    });
    for n in 0..50 {
        foreign_send(queue.0.id(), 1, if n % 2 == 0 { 0 } else { 8 });
        got.take(GENEROUS).unwrap();
    }
    child.join();
}

#[test]
fn a_semaphore_keeps_its_value() {
    let sem = Set::new(&[2, 0]);
    let set = waits_on(sem.0.doorbell(0, -1).unwrap());
    let three = waits_on(sem.0.doorbell(0, -3).unwrap());
    let zero = waits_on(sem.0.doorbell(1, 0).unwrap());
    wait(&set, GENEROUS).unwrap();
    wait(&zero, GENEROUS).unwrap();
    assert!(wait(&three, SHORT).is_err());
    assert_eq!(sem.0.values().unwrap(), [2, 0]);
    foreign_add(sem.0.id(), 0, 1);
    wait(&three, GENEROUS).unwrap();
    assert_eq!(sem.0.values().unwrap(), [3, 0]);
    sem.0.operate(&[SemOp::new(0, -3)], Timeout::Now).unwrap();
    assert_eq!(sem.0.add(0, -1, Timeout::Now).unwrap_err().errno(), libc::EAGAIN);
    assert_eq!(sem.0.add(0, -3, Timeout::Now).unwrap_err().errno(), libc::EAGAIN);
    assert!(wait(&set, SHORT).is_err() && wait(&three, SHORT).is_err());
    sem.0.add(1, 1, Timeout::Now).unwrap();
    assert_eq!(sem.0.wait_zero(1, Timeout::Now).unwrap_err().errno(), libc::EAGAIN);
    assert!(wait(&zero, SHORT).is_err());
    foreign_add(sem.0.id(), 1, -1);
    wait(&zero, GENEROUS).unwrap();
}

#[test]
fn a_permit_that_the_kernel_gives_back_rings() {
    let (sem, taken) = (Set::new(&[1]), EventFd::new().unwrap());
    let child = support::fork(|| {
        let _permit = sem.0.acquire(0, GENEROUS).unwrap();
        taken.add(1, GENEROUS).unwrap();
        loop {
            std::thread::sleep(Duration::from_secs(1));
        }
    });
    taken.take(GENEROUS).unwrap();
    let set = waits_on(sem.0.doorbell(0, -1).unwrap());
    assert!(wait(&set, SHORT).is_err());
    child.kill(libc::SIGKILL);
    wait(&set, GENEROUS).unwrap();
    sem.0.take(0, Timeout::Now).unwrap();
    child.wait();
}

#[test]
fn removal_rings_and_the_error_says_so() {
    let (queue, sem) = (Queue::new(), Set::new(&[0]));
    let on_queue = waits_on(queue.0.doorbell(SysvSelect::Any).unwrap());
    let on_sem = waits_on(sem.0.doorbell(0, -1).unwrap());
    queue.0.unlink().unwrap();
    sem.0.unlink().unwrap();
    wait(&on_queue, GENEROUS).unwrap();
    wait(&on_sem, GENEROUS).unwrap();
    assert_eq!(queue.0.recv(SysvSelect::Any, Timeout::Now).unwrap_err().errno(), libc::EIDRM);
    assert_eq!(sem.0.take(0, Timeout::Now).unwrap_err().errno(), libc::EIDRM);
    assert_eq!(queue.0.doorbell(SysvSelect::Type(3)).unwrap_err().errno(), libc::EIDRM);
    assert_eq!(sem.0.doorbell(0, -2).unwrap_err().errno(), libc::EIDRM);
}

#[test]
fn bad_input() {
    let (queue, sem) = (Queue::new(), Set::new(&[0]));
    let error = queue.0.doorbell(SysvSelect::Type(0)).unwrap_err();
    assert_eq!(error.to_string(), "doorbell sysv-mq:private: EINVAL: types of messages are numbers from 1");
    for change in [1, i16::MIN] {
        let error = sem.0.doorbell(0, change).unwrap_err();
        assert_eq!(error.errno(), libc::EINVAL);
        assert!(error.reason().contains("-1 is for a permit"), "{error}");
    }
    assert_eq!(sem.0.doorbell(9, -1).unwrap_err().errno(), libc::EFBIG);
}

#[test]
fn a_queue_that_one_may_only_read() {
    support::fork(|| {
        // SAFETY: plain system calls; the child has one thread.
        unsafe {
            if libc::geteuid() == 0 {
                assert_eq!(libc::setgid(65534), 0);
                assert_eq!(libc::setuid(65534), 0);
            }
        }
        let options = wigwag::SysvMqOptions { mode: 0o400, ..Default::default() };
        let queue = Queue(SysvMq::create(&"sysv-mq:private".parse().unwrap(), &options).unwrap());
        let error = queue.0.doorbell(SysvSelect::Any).unwrap_err();
        assert_eq!(error.errno(), libc::EACCES);
        assert!(error.reason().contains("does not let this user send"), "{error}");
    })
    .join();
}

/// How many threads of the library's own this process has, besides those that stand in for timers.
fn helpers() -> usize {
    let names = std::fs::read_dir("/proc/self/task")
        .unwrap()
        .filter_map(|thread| std::fs::read_to_string(thread.unwrap().path().join("comm")).ok());
    names.filter(|name| name.starts_with("wigwag") && name != "wigwag-knock\n").count()
}

#[test]
fn a_helper_for_each_bell_made_when_asked_for_and_ended_with_the_object() {
    support::fork(|| {
        let (queue, sem) = (Queue::new(), Set::new(&[0]));
        let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let before = descriptors();
        let _ = queue.0.recv(SysvSelect::Any, SHORT);
        assert_eq!((helpers(), descriptors()), (0, before));
        let first = queue.0.doorbell(SysvSelect::Any).unwrap().as_raw_fd();
        assert_eq!(queue.0.doorbell(SysvSelect::Any).unwrap().as_raw_fd(), first);
        sem.0.doorbell(0, -1).unwrap();
        queue.0.doorbell(SysvSelect::Type(1)).unwrap();
        assert_eq!(descriptors(), before + 3);
        support::eventually("each has named itself", || helpers() == 3);
        drop(queue);
        drop(sem);
        assert_eq!(descriptors(), before);
        support::eventually("the threads are gone", || helpers() == 0);
    })
    .join();
}

#[test]
fn a_child_has_bells_of_its_own() {
    let queue = Queue::new();
    let parents = queue.0.doorbell(SysvSelect::Any).unwrap();
    let (number, ready) = (parents.as_raw_fd(), EventFd::new().unwrap());
    let child = support::fork(|| {
        assert_eq!(queue.0.recv(SysvSelect::Any, Timeout::Now).unwrap_err().errno(), libc::EAGAIN);
        let own = queue.0.doorbell(SysvSelect::Any).unwrap();
        assert_ne!(own.as_raw_fd(), number);
        let set = waits_on(own.as_fd());
        ready.add(1, GENEROUS).unwrap();
        wait(&set, GENEROUS).unwrap();
        assert_eq!(queue.0.recv(SysvSelect::Any, GENEROUS).unwrap().kind, 4);
    });
    ready.take(GENEROUS).unwrap();
    let set = waits_on(parents);
    foreign_send(queue.0.id(), 4, 4);
    foreign_send(queue.0.id(), 4, 4); // one for each
    wait(&set, GENEROUS).unwrap();
    assert_eq!(queue.0.recv(SysvSelect::Any, GENEROUS).unwrap().kind, 4);
    child.join();
    settle(&set, &queue.0, SysvSelect::Any);
    foreign_send(queue.0.id(), 5, 4);
    wait(&set, GENEROUS).unwrap();
}

#[test]
fn waits_in_the_calls_themselves_go_on_beside_a_bell() {
    let queue = Queue::new();
    let set = waits_on(queue.0.doorbell(SysvSelect::Any).unwrap());
    let cancel = Cancel::new();
    std::thread::scope(|threads| {
        let receiver = threads.spawn(|| queue.0.recv(SysvSelect::Any, GENEROUS).unwrap().kind);
        std::thread::sleep(Duration::from_millis(10));
        foreign_send(queue.0.id(), 3, 3);
        assert_eq!(receiver.join().unwrap(), 3);
        let cancelled = threads.spawn(|| {
            let _scope = cancel.enter();
            queue.0.recv(SysvSelect::Any, Timeout::Forever).unwrap_err().errno()
        });
        std::thread::sleep(Duration::from_millis(10));
        cancel.fire();
        assert_eq!(cancelled.join().unwrap(), libc::ECANCELED);
        queue.0.end_waits();
    });
    settle(&set, &queue.0, SysvSelect::Any);
    foreign_send(queue.0.id(), 1, 1);
    wait(&set, GENEROUS).unwrap();
}
