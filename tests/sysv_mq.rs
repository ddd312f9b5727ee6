//! System V queues: what one process sends, another receives; limits, removal, death.

mod support;

use std::hash::{BuildHasher, RandomState};
use std::ops::Deref;
use std::time::{Duration, Instant};

use support::{GENEROUS, SHORT, eventually, fork, is_asleep, unshare_ipc};
use wigwag::{Address, Cancel, Channel, Error, MqAccess, SysvMq, SysvMqOptions, SysvSelect, Timeout};

/// A key that no other test and no other run uses.
fn fresh_address() -> Address {
    let key = RandomState::new().hash_one(0) as u32 | 1;
    format!("sysv-mq:0x{key:x}").parse().unwrap()
}

/// A queue that goes with its test.
struct Queue(SysvMq);

impl Deref for Queue {
    type Target = SysvMq;
    fn deref(&self) -> &SysvMq {
        &self.0
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        let _ = self.0.unlink();
    }
}

fn queue() -> Queue {
    queue_with(&SysvMqOptions::default())
}

fn queue_with(options: &SysvMqOptions) -> Queue {
    Queue(SysvMq::create(&"sysv-mq:private".parse().unwrap(), options).unwrap())
}

fn bytes(bytes: usize) -> SysvMqOptions {
    SysvMqOptions { bytes, ..Default::default() }
}

#[track_caller]
fn expect<T: std::fmt::Debug>(result: Result<T, Error>, errno: &str, words: &str) -> Error {
    let error = result.expect_err("should have failed");
    assert_eq!(error.name(), errno, "{error}");
    assert!(error.to_string().contains(words), "{error}");
    error
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

#[test]
fn picks_by_type() {
    let queue = queue();
    for kind in [5, 3, 9, 3, 7] {
        queue.send(format!("type {kind}").as_bytes(), kind, Timeout::Now).unwrap();
    }
    let next = |select| queue.recv(select, Timeout::Now).map(|message| message.kind);
    assert_eq!(next(SysvSelect::UpTo(8)).unwrap(), 3);
    assert_eq!(next(SysvSelect::Type(9)).unwrap(), 9);
    assert_eq!(next(SysvSelect::AllBut(5)).unwrap(), 3);
    expect(next(SysvSelect::UpTo(4)), "EAGAIN", "recv");
    expect(next(SysvSelect::Type(1)), "EAGAIN", "recv");
    assert_eq!(next(SysvSelect::Any).unwrap(), 5);
    assert_eq!(queue.recv(SysvSelect::Any, Timeout::Now).unwrap().data, b"type 7");
    expect(next(SysvSelect::Any), "EAGAIN", "recv");
}

#[test]
fn empty_messages_and_bad_types() {
    let queue = queue();
    queue.send(b"", i64::MAX, Timeout::Now).unwrap();
    let message = queue.recv(SysvSelect::Any, Timeout::Now).unwrap();
    assert_eq!((message.kind, message.data.len()), (i64::MAX, 0));
    queue.send(b"", 1, Timeout::Now).unwrap();
    assert_eq!(queue.recv_into(SysvSelect::Any, &mut [], Timeout::Now).unwrap().size, 0);
    for kind in [0, -1, i64::MIN] {
        expect(queue.send(b"x", kind, Timeout::Now), "EINVAL", "a number from 1");
        expect(queue.recv(SysvSelect::Type(kind), Timeout::Now), "EINVAL", "numbers from 1");
        expect(queue.recv(SysvSelect::UpTo(kind), Timeout::Now), "EINVAL", "numbers from 1");
        expect(queue.recv(SysvSelect::AllBut(kind), Timeout::Now), "EINVAL", "numbers from 1");
    }
}

#[test]
fn nothing_is_cut_unless_asked() {
    let queue = queue();
    queue.send(&[1; 10], 4, Timeout::Now).unwrap();
    queue.send(&[2; 200], 2, Timeout::Now).unwrap();
    let mut small = [0; 100];
    let error = expect(queue.recv_into(SysvSelect::UpTo(3), &mut small, Timeout::Now), "EMSGSIZE", "200 bytes");
    assert_eq!(error.true_size(), 200);
    assert!(error.to_string().contains("stays in the queue"), "{error}");
    assert_eq!(expect(queue.recv_into(SysvSelect::Any, &mut small[..5], Timeout::Now), "EMSGSIZE", "").true_size(), 10);
    assert_eq!(expect(queue.recv_into(SysvSelect::Type(2), &mut small, SHORT), "EMSGSIZE", "").true_size(), 200);
    assert_eq!(expect(queue.recv_into(SysvSelect::AllBut(4), &mut small, SHORT), "EMSGSIZE", "").true_size(), 200);
    assert_eq!(queue.status().unwrap().messages, 2);
    assert_eq!(queue.recv_into_cut(SysvSelect::Type(2), &mut small, Timeout::Now).unwrap().size, 200);
    assert_eq!(small, [2; 100]);
    let received = queue.recv_into(SysvSelect::Any, &mut small, Timeout::Now).unwrap();
    assert_eq!((received.size, received.kind, small[9], small[10]), (10, 4, 1, 2));
}

#[test]
fn peeking_leaves_messages() {
    let queue = queue();
    queue.send(b"first", 1, Timeout::Now).unwrap();
    queue.send(&[7; 8192], 2, Timeout::Now).unwrap();
    match queue.peek(0) {
        Err(error) => {
            expect::<()>(Err(error), "ENOTSUP", "CONFIG_CHECKPOINT_RESTORE");
            return skip!("the kernel has no MSG_COPY");
        }
        Ok(message) => assert_eq!(message.data, b"first"),
    }
    assert_eq!(queue.peek(1).unwrap().data, [7; 8192]);
    let mut buffer = [0; 8192];
    assert_eq!(expect(queue.peek_into(0, &mut buffer[..4]), "EMSGSIZE", "stays in the queue").true_size(), 5);
    let seen = queue.peek_into(1, &mut buffer).unwrap();
    assert_eq!((seen.kind, seen.size, buffer), (2, 8192, [7; 8192]));
    expect(queue.peek(2), "EAGAIN", "no message is at this place");
    expect(queue.peek(usize::MAX), "EAGAIN", "no message");
    assert_eq!(queue.status().unwrap().messages, 2);
    queue.unlink().unwrap();
    expect(queue.peek(0), "EIDRM", "removed");
}

#[test]
fn too_large_names_the_limit() {
    let limits = SysvMq::limits().unwrap();
    let queue = queue_with(&bytes(1000));
    expect(queue.send(&[0; 1001], 1, Timeout::Forever), "EMSGSIZE", "msg_qbytes=1000");
    let largest = limits.message_max;
    let error = expect(queue.send(&vec![0; largest + 1], 1, Timeout::Forever), "EMSGSIZE", "kernel.msgmax=");
    assert_eq!(error.true_size(), largest + 1);
    expect(queue.send(&vec![0; 64 << 20], 1, Timeout::Now), "EMSGSIZE", "kernel.msgmax=");
    queue.send(&[0; 1000], 1, Timeout::Now).unwrap();
    expect(queue.send(&[0; 1], 1, Timeout::Now), "EAGAIN", "send");
    expect(queue.send(&[0; 1], 1, SHORT), "ETIMEDOUT", "deadline");
}

#[test]
fn open_create_and_both() {
    let address = fresh_address();
    let default = SysvMqOptions::default();
    expect(SysvMq::open(&address, &default), "ENOENT", "no queue has this key");
    expect(SysvMq::remove(&address), "ENOENT", "no queue");
    let queue = Queue(SysvMq::create(&address, &SysvMqOptions { mode: 0o640, ..bytes(3000) }).unwrap());
    assert_eq!(queue.address(), address.to_string());
    let status = queue.status().unwrap();
    assert_eq!((status.bytes_max, status.mode, status.messages), (3000, 0o640, 0));
    assert_eq!(format!("sysv-mq:0x{:x}", status.key.cast_unsigned()), address.to_string());
    expect(SysvMq::create(&address, &default), "EEXIST", "exists already");
    assert_eq!(SysvMq::open(&address, &default).unwrap().id(), queue.id());
    assert_eq!(SysvMq::open_or_create(&address, &bytes(3000)).unwrap().id(), queue.id());
    queue.send(b"x", 1, Timeout::Now).unwrap();
    expect(SysvMq::open_or_create(&address, &bytes(4000)), "EEXIST", "may hold 3000 bytes, not the 4000");
    let with_option: Address = format!("{address}?bytes=4000").parse().unwrap();
    expect(SysvMq::open(&with_option, &default), "EEXIST", "3000");
    assert_eq!(SysvMq::from_id(queue.id()).unwrap().address(), address.to_string());
    SysvMq::remove(&address).unwrap();
    expect(queue.send(b"x", 1, Timeout::Now), "EIDRM", "removed");
    expect(queue.recv(SysvSelect::Any, Timeout::Now), "EIDRM", "removed");
    expect(queue.unlink(), "EIDRM", "removed");
    expect(queue.status(), "EIDRM", "removed");
    expect(queue.resize(5), "EIDRM", "removed");
    expect(SysvMq::from_id(queue.id()), "EIDRM", "removed");
    let again = Queue(SysvMq::open_or_create(&with_option, &default).unwrap());
    assert_eq!(again.status().unwrap().bytes_max, 4000);
}

#[test]
fn names_that_do_not_do() {
    let default = SysvMqOptions::default();
    expect(SysvMq::open(&"sysv-mq:private".parse().unwrap(), &default), "EINVAL", "adopt");
    expect(SysvMq::remove(&"sysv-mq:private".parse().unwrap()), "EINVAL", "adopt");
    expect(SysvMq::open(&"mq:/x".parse().unwrap(), &default), "EINVAL", "expected sysv-mq:");
    expect(SysvMq::create(&"sysv-mq:./no/such/file#65".parse().unwrap(), &default), "ENOENT", "create it");
    expect(SysvMq::create(&fresh_address(), &SysvMqOptions { mode: 0o1777, ..default }), "EINVAL", "0777");
    expect(SysvMq::from_id(-1), "EIDRM", "removed");
}

#[test]
fn a_file_gives_the_key() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let address: Address = format!("sysv-mq:{}#65", file.path().display()).parse().unwrap();
    let queue = Queue(SysvMq::open_or_create(&address, &SysvMqOptions::default()).unwrap());
    // ftok(3): 8 bits of the number, 8 of the device, 16 of the inode.
    assert_eq!(queue.status().unwrap().key.cast_unsigned() >> 24, 65);
    assert_eq!(SysvMq::open(&address, &SysvMqOptions::default()).unwrap().id(), queue.id());
}

#[test]
fn resizing() {
    let queue = queue_with(&bytes(100));
    queue.resize(200).unwrap();
    queue.send(&[0; 200], 1, Timeout::Now).unwrap();
    queue.resize(100).unwrap();
    assert_eq!(queue.status().unwrap().bytes, 200, "what is in it stays");
    expect(queue.resize(0), "EINVAL", "at least one");
    if !is_root() {
        let most = SysvMq::limits().unwrap().bytes_max;
        expect(queue.resize(most + 1), "EPERM", "kernel.msgmnb=");
    }
}

#[test]
fn the_sizes_of_queues_created_at_once_agree() {
    let address = fresh_address();
    let openers: Vec<_> = (0..8)
        .map(|_| {
            let address = address.clone();
            std::thread::spawn(move || SysvMq::open_or_create(&address, &bytes(1234)).unwrap().id())
        })
        .collect();
    let ids: Vec<_> = openers.into_iter().map(|opener| opener.join().unwrap()).collect();
    let queue = Queue(SysvMq::from_id(ids[0]).unwrap());
    assert!(ids.iter().all(|id| *id == queue.id()), "{ids:?}");
    assert_eq!(queue.status().unwrap().bytes_max, 1234);
}

#[test]
fn two_processes() {
    let address = fresh_address();
    let queue = Queue(SysvMq::create(&address, &SysvMqOptions::default()).unwrap());
    let child = fork(|| {
        let queue = SysvMq::open(&address, &SysvMqOptions::default()).unwrap();
        for _ in 0..100 {
            let request = queue.recv(SysvSelect::Type(1), GENEROUS).unwrap();
            queue.send(&request.data, 2, GENEROUS).unwrap();
        }
    });
    for n in 0..100u32 {
        queue.send(&n.to_ne_bytes(), 1, GENEROUS).unwrap();
        assert_eq!(queue.recv(SysvSelect::Type(2), GENEROUS).unwrap().data, n.to_ne_bytes());
    }
    let status = queue.status().unwrap();
    assert_eq!((status.last_sender, status.messages), (child.pid(), 0));
    assert!(status.sent_at > 0 && status.received_at > 0 && status.changed_at > 0);
    child.join();
}

#[test]
fn a_full_queue_wakes_its_sender() {
    let queue = queue_with(&bytes(10));
    queue.send(&[1; 10], 1, Timeout::Now).unwrap();
    let child = fork(|| queue.send(&[2; 10], 1, GENEROUS).unwrap());
    eventually("the sender sleeps", || is_asleep(child.pid()));
    assert_eq!(queue.recv(SysvSelect::Any, Timeout::Now).unwrap().data, [1; 10]);
    assert_eq!(queue.recv(SysvSelect::Any, GENEROUS).unwrap().data, [2; 10]);
    child.join();
}

#[test]
fn messages_outlive_a_killed_sender_and_wait_for_the_next_receiver() {
    let queue = queue();
    let sender = fork(|| {
        queue.send(b"last words", 1, GENEROUS).unwrap();
        let _ = queue.recv(SysvSelect::Type(99), Timeout::Forever);
    });
    eventually("the sender has sent and sleeps", || queue.status().unwrap().messages == 1 && is_asleep(sender.pid()));
    sender.kill(libc::SIGKILL);
    sender.wait();
    let receiver = fork(|| {
        let _ = queue.recv(SysvSelect::Type(98), Timeout::Forever);
    });
    eventually("the receiver sleeps", || is_asleep(receiver.pid()));
    receiver.kill(libc::SIGKILL);
    receiver.wait();
    assert_eq!(queue.recv(SysvSelect::Any, Timeout::Now).unwrap().data, b"last words");
}

#[test]
fn removal_by_another_process_ends_a_wait() {
    let queue = queue();
    let child = fork(|| {
        expect(queue.recv(SysvSelect::Any, Timeout::Forever), "EIDRM", "removed");
    });
    eventually("the receiver sleeps", || is_asleep(child.pid()));
    queue.unlink().unwrap();
    child.join();
}

#[test]
fn deadlines_are_never_early() {
    let queue = queue();
    let start = Instant::now();
    expect(queue.recv(SysvSelect::Any, Timeout::After(Duration::from_millis(30))), "ETIMEDOUT", "deadline");
    assert!(start.elapsed() >= Duration::from_millis(30));
}

#[test]
fn cancel_and_end_of_waits() {
    let (queue, cancel) = (queue(), Cancel::new());
    std::thread::scope(|threads| {
        threads.spawn(|| {
            std::thread::sleep(Duration::from_millis(10));
            cancel.fire();
        });
        let _scope = cancel.enter();
        expect(queue.recv(SysvSelect::Any, Timeout::Forever), "ECANCELED", "cancelled");
    });
    std::thread::scope(|threads| {
        let waiters: Vec<_> = (0..6).map(|_| threads.spawn(|| queue.recv(SysvSelect::Any, Timeout::Forever))).collect();
        std::thread::sleep(Duration::from_millis(10));
        queue.end_waits();
        for waiter in waiters {
            expect(waiter.join().unwrap(), "ECANCELED", "closed");
        }
    });
}

#[test]
fn one_direction_only() {
    let address = fresh_address();
    fork(|| {
        if is_root() {
            // To whom everything is allowed. SAFETY: takes a number; a child's user is its own.
            assert_eq!(unsafe { libc::setuid(65534) }, 0);
        }
        let queue = Queue(SysvMq::create(&address, &SysvMqOptions { mode: 0o200, ..Default::default() }).unwrap());
        let options = |access| SysvMqOptions { access, ..Default::default() };
        expect(SysvMq::open(&address, &options(MqAccess::Receive)), "EACCES", "receive");
        let sender = SysvMq::open(&address, &options(MqAccess::Send)).unwrap();
        sender.send(b"x", 1, Timeout::Now).unwrap();
        expect(sender.recv(SysvSelect::Any, Timeout::Now), "EACCES", "receive");
        expect(queue.status(), "EACCES", "look at it");
    })
    .join();
}

#[test]
fn the_system_has_limits() {
    let queue = queue();
    queue.send(b"abc", 1, Timeout::Now).unwrap();
    let limits = SysvMq::limits().unwrap();
    assert!(limits.queues >= 1 && limits.queues_max >= limits.queues);
    assert!(limits.messages >= 1 && limits.bytes >= 3);
    assert!(limits.bytes_max > 0 && limits.message_max > 0);
}

#[test]
fn every_queue_taken() {
    fork(|| {
        if let Err(why) = unshare_ipc(&[("kernel/msgmni", "2")]) {
            return skip!(why);
        }
        let (_one, _two) = (queue(), queue());
        let error = SysvMq::create(&fresh_address(), &SysvMqOptions::default());
        expect(error, "ENOSPC", "2 of kernel.msgmni=2 queues exist");
    })
    .join();
}

/// In a child: has msgrcv with this flag fail with `errno` from now on.
fn refuse_receiving_with(flag: u32, errno: i32) {
    let statement = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let load = |offset: usize| statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset as u32);
    let jump = |test, jt, jf, k| statement(libc::BPF_JMP | test | libc::BPF_K, jt, jf, k);
    let give = |verdict| statement(libc::BPF_RET | libc::BPF_K, 0, 0, verdict);
    let low_half = if cfg!(target_endian = "big") { 4 } else { 0 };
    let mut program = [
        load(std::mem::offset_of!(libc::seccomp_data, nr)),
        jump(libc::BPF_JEQ, 0, 3, libc::SYS_msgrcv as u32),
        load(std::mem::offset_of!(libc::seccomp_data, args) + 4 * 8 + low_half),
        jump(libc::BPF_JSET, 0, 1, flag),
        give(libc::SECCOMP_RET_ERRNO | errno as u32),
        give(libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the program lives during the calls, and its jumps stay inside.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program), 0);
    }
}

#[test]
fn a_kernel_that_does_not_let_messages_be_looked_at() {
    const MSG_COPY: u32 = 0o40000;
    for errno in [libc::ENOSYS, libc::EPERM] {
        fork(|| {
            let queue = queue();
            queue.send(b"whole", 1, Timeout::Now).unwrap();
            refuse_receiving_with(MSG_COPY, errno);
            let words = if errno == libc::ENOSYS { "CONFIG_CHECKPOINT_RESTORE" } else { "peek" };
            let name = if errno == libc::ENOSYS { "ENOTSUP" } else { "EPERM" };
            expect(queue.peek(0), name, words);
            let error = expect(queue.recv_into(SysvSelect::Any, &mut [0; 2], Timeout::Now), "EMSGSIZE", "stays");
            assert_eq!(error.true_size(), 0, "not known");
            assert_eq!(queue.recv(SysvSelect::Any, Timeout::Now).unwrap().data, b"whole");

            // A channel does without the size.
            let named = Queue(SysvMq::create(&fresh_address(), &SysvMqOptions::default()).unwrap());
            named.send(&[7; 6000], 1, Timeout::Now).unwrap();
            let channel = Channel::open_receiver(&named.address().parse().unwrap(), Timeout::Now).unwrap();
            assert!(channel.recv_message(Timeout::Now).unwrap().data == [7; 6000]);
        })
        .join();
    }
}

/// The kernel wakes all who wait in vain for a message that is too large for them, and one of them comes back for it first.
#[test]
fn what_one_has_taken_is_no_error_to_the_others() {
    const EACH: u32 = 200;
    let queue = Queue(SysvMq::create(&fresh_address(), &SysvMqOptions::default()).unwrap());
    let address: Address = queue.address().parse().unwrap();
    std::thread::scope(|scope| {
        let receivers: Vec<_> = (0..3)
            .map(|number| {
                let address = &address;
                scope.spawn(move || {
                    let channel = Channel::open_receiver(address, Timeout::Now).unwrap();
                    let next = || match number {
                        // By hand, as the channels do it.
                        0 => {
                            let mut room = [0; 4096];
                            match queue_of(address).recv_into(SysvSelect::Any, &mut room, GENEROUS) {
                                Err(error) if error.is(nix::errno::Errno::EMSGSIZE) => {
                                    assert_eq!(error.true_size(), 6000, "{error}");
                                    None
                                }
                                received => Some(received.unwrap().size),
                            }
                        }
                        _ => Some(channel.recv_message(GENEROUS).unwrap().data.len()),
                    };
                    let mut taken = 0;
                    loop {
                        match next() {
                            None => {}
                            Some(6000) => taken += 1,
                            Some(size) => {
                                assert_eq!(size, 0);
                                break taken;
                            }
                        }
                    }
                })
            })
            .collect();
        (0..EACH).for_each(|_| queue.send(&[7; 6000], 1, GENEROUS).unwrap());
        (0..3).for_each(|_| queue.send(b"", 1, GENEROUS).unwrap());
        assert_eq!(receivers.into_iter().map(|receiver| receiver.join().unwrap()).sum::<u32>(), EACH);
    });
}

fn queue_of(address: &Address) -> SysvMq {
    SysvMq::open(address, &SysvMqOptions::default()).unwrap()
}

#[test]
fn messages_larger_than_what_is_usual() {
    fork(|| {
        if let Err(why) = unshare_ipc(&[("kernel/msgmax", "1000000"), ("kernel/msgmnb", "3000000")]) {
            return skip!(why);
        }
        let queue = queue_with(&bytes(3_000_000));
        let large: Vec<u8> = (0..300_000).map(|n| n as u8).collect();
        queue.send(&large, 1, Timeout::Now).unwrap();
        queue.send(b"small", 2, Timeout::Now).unwrap();
        queue.send(&large, 3, Timeout::Now).unwrap();
        assert_eq!(queue.peek(2).unwrap().data, large);
        let mut room = vec![0; 299_999];
        let error = expect(queue.recv_into(SysvSelect::Type(3), &mut room, Timeout::Now), "EMSGSIZE", "300000 bytes");
        assert_eq!(error.true_size(), 300_000);
        assert_eq!(queue.recv_into_cut(SysvSelect::Type(3), &mut room, Timeout::Now).unwrap().size, 300_000);
        assert_eq!(room, large[..299_999]);
        room.resize(400_000, 0);
        assert_eq!(queue.recv_into(SysvSelect::Any, &mut room, GENEROUS).unwrap().size, 300_000);
        assert_eq!(queue.recv(SysvSelect::Any, GENEROUS).unwrap().data, b"small");
        expect(queue.send(&vec![0; 1_000_001], 1, Timeout::Now), "EMSGSIZE", "kernel.msgmax=1000000");
        queue.send(&large, 1, Timeout::Now).unwrap();
        std::fs::write("/proc/sys/kernel/msgmax", "1000").unwrap();
        expect(queue.peek(0), "EMSGSIZE", "kernel.msgmax has become");
        assert_eq!(queue.recv(SysvSelect::Any, Timeout::Now).unwrap().data, large);
    })
    .join();
}
