//! Pools of leases between threads and processes.

mod support;

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use support::{GENEROUS, SHORT, eventually, fork, fresh};
use wigwag::{
    Address, Cancel, Interest, LEASE_INFORMATION_MAX, LeaseGroup, LeaseOptions, LeasePool, LeaseRequest, Timeout,
    WaitSet, WaitSetEvent,
};

fn pool(slots: u32) -> LeasePool {
    LeasePool::anonymous(LeaseOptions { slots, ..Default::default() }).unwrap()
}

fn again(pool: &LeasePool) -> LeasePool {
    LeasePool::from_fd(pool.as_fd().try_clone_to_owned().unwrap(), LeaseOptions::default()).unwrap()
}

fn address(text: &str) -> Address {
    text.parse().unwrap()
}

fn group(name: &str, minimum: u32) -> LeaseGroup {
    LeaseGroup { name: name.into(), minimum }
}

fn of<'a>(group: &'a str) -> LeaseRequest<'a> {
    LeaseRequest { group, note: "" }
}

#[test]
fn each_slot_has_one_holder_who_says_what_it_is() {
    let pool = pool(2);
    let other = again(&pool);
    let mut first = pool.acquire(Timeout::Now).unwrap();
    let second = other.acquire_for(&LeaseRequest { group: "", note: "the report" }, Timeout::Now).unwrap();
    assert_ne!(first.slot(), second.slot());
    assert!(pool.acquire(Timeout::Now).unwrap_err().is(Errno::EAGAIN));
    let mut waits = 0;
    eventually("somebody who waits notes since when the others hold", || {
        waits += 1;
        assert!(pool.acquire(SHORT).unwrap_err().is(Errno::ETIMEDOUT));
        pool.statistics().unwrap().participants.iter().all(|other| other.holding_since.is_some())
    });
    assert_eq!((first.token(), first.is_dirty(), first.last_used(), first.expires_in()), (1, false, None, None));
    assert_eq!(first.information().unwrap(), b"");
    first.set_information(b"backend 1").unwrap();
    first.set_information(&[7; LEASE_INFORMATION_MAX]).unwrap();
    let error = first.set_information(&[0; LEASE_INFORMATION_MAX + 1]).unwrap_err();
    assert!(error.is(Errno::EMSGSIZE) && error.true_size() == 1025, "{error}");
    assert_eq!(first.information().unwrap(), [7; LEASE_INFORMATION_MAX]);

    let statistics = pool.statistics().unwrap();
    assert_eq!((statistics.slots, statistics.held, statistics.dirty, statistics.leases), (2, 2, 0, 2));
    assert_eq!((statistics.timeouts, statistics.waiting, statistics.participants.len()), (waits, 0, 2));
    assert!(statistics.participants.iter().all(|other| other.holding == 1));
    let report = statistics.holders.iter().find(|holder| holder.slot == second.slot()).unwrap();
    assert_eq!((report.note.as_str(), report.pid, report.is_self), ("the report", Some(std::process::id()), false));
    assert!(report.since.unwrap() > SystemTime::now() - Duration::from_secs(60));
    let slot = first.slot();
    first.release().unwrap();
    drop(second);
    assert_eq!(pool.available(), 2);

    let lease = pool.acquire(Timeout::Now).unwrap();
    assert_eq!((lease.slot(), lease.token()), (slot, 2), "that which the handle had last");
    assert_eq!(lease.information().unwrap(), [7; LEASE_INFORMATION_MAX]);
    assert!(lease.last_used().unwrap() > SystemTime::now() - Duration::from_secs(60));
}

#[test]
fn a_slot_of_the_dead_comes_back_dirty() {
    let pool = pool(1);
    let child = fork(|| {
        let mut lease = pool.acquire(GENEROUS).unwrap();
        lease.set_information(b"what the child had").unwrap();
        std::thread::sleep(Duration::from_secs(60));
    });
    eventually("the child has said it", || {
        pool.statistics()
            .unwrap()
            .holders
            .iter()
            .any(|holder| holder.information.as_deref() == Some(b"what the child had"))
    });
    assert!(pool.acquire(SHORT).unwrap_err().is(Errno::ETIMEDOUT), "it lives");
    child.kill(libc::SIGKILL);
    child.wait();
    let lease = pool.acquire(GENEROUS).unwrap();
    assert!(lease.is_dirty());
    assert_eq!((lease.token(), lease.information().unwrap().as_slice()), (2, &b"what the child had"[..]));
    lease.release().unwrap();
    // Until somebody says that it is clean.
    let mut lease = pool.acquire(GENEROUS).unwrap();
    assert!(lease.is_dirty());
    lease.make_clean().unwrap();
    assert!(!lease.is_dirty());
    lease.release().unwrap();
    let lease = pool.acquire(GENEROUS).unwrap();
    assert!(!lease.is_dirty());
    lease.abandon().unwrap();
    let statistics = pool.statistics().unwrap();
    assert_eq!((statistics.dirty, statistics.reclaims, statistics.leases), (1, 1, 4));
}

#[test]
fn it_comes_back_at_once_to_who_waits() {
    let pool = pool(1);
    let took = (0..4).map(|_| {
        let child = fork(|| {
            std::mem::forget(pool.acquire(GENEROUS).unwrap());
            std::thread::sleep(Duration::from_secs(60));
        });
        eventually("the child has it", || pool.available() == 0);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| pool.acquire(GENEROUS).map(|lease| lease.is_dirty()));
            eventually("it waits", || pool.waiting() == 1);
            std::thread::sleep(Duration::from_millis(20)); // it has begun to watch, or hears within two seconds
            let killed = std::time::Instant::now();
            child.kill(libc::SIGKILL);
            assert!(waiting.join().unwrap().unwrap());
            killed.elapsed()
        })
    });
    let took: Vec<_> = took.collect();
    println!("after {took:?}");
    // All but the first would take two seconds, as many as lie between two questions.
    assert!(took.iter().any(|took| *took < Duration::from_secs(1)), "{took:?}");
}

#[test]
fn clean_slots_go_first() {
    let pool = pool(2);
    let (first, second) = (pool.acquire(Timeout::Now).unwrap(), pool.acquire(Timeout::Now).unwrap());
    let (dirty, clean) = (first.slot(), second.slot());
    second.release().unwrap();
    first.abandon().unwrap();
    let lease = pool.acquire(Timeout::Now).unwrap();
    assert_eq!((lease.slot(), lease.is_dirty()), (clean, false));
    let lease = pool.acquire(Timeout::Now).unwrap();
    assert_eq!((lease.slot(), lease.is_dirty()), (dirty, true));
}

#[test]
fn forgotten_leases_come_back_dirty_when_the_handle_is_closed() {
    let pool = pool(1);
    let other = again(&pool);
    std::mem::forget(other.acquire(Timeout::Now).unwrap());
    drop(other);
    assert!(pool.acquire(Timeout::Now).unwrap().is_dirty());
}

#[test]
fn who_is_too_late_is_refused() {
    let options = LeaseOptions { slots: 1, expires: Duration::from_millis(50), ..Default::default() };
    let pool = LeasePool::anonymous(options).unwrap();
    let other = again(&pool);
    let mut late = pool.acquire(Timeout::Now).unwrap();
    assert!(late.expires_in().unwrap() > Duration::ZERO);
    late.set_information(b"late").unwrap();
    late.renew().unwrap();
    let mut lease = other.acquire(GENEROUS).unwrap();
    assert!(lease.is_dirty());
    assert_eq!((lease.token(), lease.information().unwrap().as_slice()), (2, &b"late"[..]));
    let pid = std::process::id();
    for error in [
        late.renew().unwrap_err(),
        late.check().unwrap_err(),
        late.set_information(b"later").unwrap_err(),
        late.make_clean().unwrap_err(),
        late.information().unwrap_err(),
        late.set_note("later").unwrap_err(),
        late.release().unwrap_err(),
    ] {
        let text = error.to_string();
        assert!(error.is(Errno::ESTALE) && text.contains(&format!("process {pid} under lease 2")), "{text}");
    }
    assert_eq!(lease.information().unwrap(), b"late");
    lease.set_information(b"new").unwrap();
    let statistics = pool.statistics().unwrap();
    assert_eq!((statistics.expiries, statistics.reclaims, statistics.refused), (1, 0, 7));
    assert_eq!(statistics.expires, Some(Duration::from_millis(50)));
}

#[test]
fn who_renews_keeps_it() {
    let options = LeaseOptions { slots: 1, expires: Duration::from_millis(200), ..Default::default() };
    let pool = LeasePool::anonymous(options).unwrap();
    let lease = pool.acquire(Timeout::Now).unwrap();
    let other = again(&pool);
    std::thread::scope(|scope| {
        let vain = scope.spawn(|| other.acquire(Timeout::After(Duration::from_millis(600))).map(drop));
        while !vain.is_finished() {
            // Should this thread not have run for so long, it is fenced, and says so.
            if lease.renew().is_err() {
                println!("this machine was busy for too long");
                assert!(vain.join().unwrap().is_ok());
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        match vain.join().unwrap() {
            Err(error) => {
                assert!(error.is(Errno::ETIMEDOUT), "{error}");
                lease.release().unwrap();
            }
            // As above, at the very end.
            Ok(()) => assert!(lease.renew().unwrap_err().is(Errno::ESTALE)),
        }
    });
}

#[test]
fn a_lease_out_of_time_is_kept_while_nobody_wants_it() {
    let options = LeaseOptions { slots: 1, expires: Duration::from_millis(1), ..Default::default() };
    let pool = LeasePool::anonymous(options).unwrap();
    let mut lease = pool.acquire(Timeout::Now).unwrap();
    eventually("its time is over", || lease.expires_in() == Some(Duration::ZERO));
    lease.set_information(b"still there").unwrap();
    lease.release().unwrap();
    assert!(!pool.acquire(Timeout::Now).unwrap().is_dirty());
}

#[test]
fn a_group_has_its_share_whatever_the_others_do() {
    let groups = vec![group("web", 1), group("cron", 2)];
    let pool = LeasePool::anonymous(LeaseOptions { slots: 5, groups, ..Default::default() }).unwrap();
    let web: Vec<_> = std::iter::from_fn(|| pool.acquire_for(&of("web"), Timeout::Now).ok()).collect();
    assert_eq!(web.len(), 3, "its own, and those for all");
    assert!(pool.acquire(Timeout::Now).is_err());
    let cron: Vec<_> = std::iter::from_fn(|| pool.acquire_for(&of("cron"), Timeout::Now).ok()).collect();
    assert_eq!(cron.len(), 2);
    let statistics = pool.statistics().unwrap();
    let seen: Vec<_> = statistics.groups.iter().map(|group| (group.name.as_str(), group.minimum, group.held)).collect();
    assert_eq!(seen, [("web", 1, 3), ("cron", 2, 2)]);
    let error = pool.acquire_for(&of("batch"), Timeout::Now).unwrap_err();
    assert!(error.is(Errno::EINVAL) && error.to_string().contains("it has web, cron"), "{error}");

    // One of cron's comes back while the web waits: it is not the web's.
    let other = again(&pool);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| other.acquire_for(&of("web"), GENEROUS).unwrap().slot());
        eventually("it waits", || pool.statistics().unwrap().groups[0].waiting == 1);
        drop(cron);
        drop(pool.acquire_for(&of("cron"), GENEROUS).unwrap());
        assert_eq!(pool.waiting(), 1);
        let slots: Vec<_> = web.iter().map(|lease| lease.slot()).collect();
        drop(web);
        assert!(slots.contains(&waiting.join().unwrap()));
    });
}

#[test]
fn first_come_first_served() {
    let pool = LeasePool::anonymous(LeaseOptions { slots: 1, fair: true, ..Default::default() }).unwrap();
    let lease = pool.acquire(Timeout::Now).unwrap();
    let served = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for number in 0..4 {
            let (served, pool) = (&served, &pool);
            scope.spawn(move || {
                let lease = pool.acquire(GENEROUS).unwrap();
                assert_eq!(served.fetch_add(1, Ordering::SeqCst), number);
                lease.release().unwrap();
            });
            eventually("it waits", || pool.waiting() == number + 1);
        }
        assert!(pool.acquire(Timeout::Now).unwrap_err().is(Errno::EAGAIN));
        lease.release().unwrap();
    });
    assert_eq!(served.into_inner(), 4);
    assert_eq!(pool.statistics().unwrap().waits.iter().map(|(_, count)| count).sum::<u64>(), 4);
    drop(pool.acquire(Timeout::Now).unwrap());
}

#[test]
fn who_does_not_come_is_passed_over() {
    let pool = LeasePool::anonymous(LeaseOptions { slots: 1, fair: true, ..Default::default() }).unwrap();
    let lease = pool.acquire(Timeout::Now).unwrap();
    let child = fork(|| drop(pool.acquire(GENEROUS).unwrap()));
    eventually("it waits", || pool.waiting() == 1);
    child.kill(libc::SIGSTOP);
    let mut status = 0;
    // SAFETY: status is a live local.
    assert_eq!(unsafe { libc::waitpid(child.pid(), &mut status, libc::WUNTRACED) }, child.pid());
    lease.release().unwrap();
    drop(pool.acquire(GENEROUS).unwrap());
    child.kill(libc::SIGCONT);
    child.join();
}

/// A process that waits for a slot, and is stopped.
fn stopped_waiter(pool: &LeasePool) -> support::Child {
    let waiting = pool.waiting();
    let child = fork(|| drop(pool.acquire(GENEROUS).unwrap()));
    eventually("it waits", || pool.waiting() == waiting + 1);
    child.kill(libc::SIGSTOP);
    let mut status = 0;
    // SAFETY: status is a live local.
    assert_eq!(unsafe { libc::waitpid(child.pid(), &mut status, libc::WUNTRACED) }, child.pid());
    child
}

#[test]
fn who_is_not_called_and_does_not_come_is_passed_over_too() {
    let options = LeaseOptions { slots: 1, room: 8, fair: true, ..Default::default() };
    let pool = LeasePool::anonymous(options).unwrap();
    let _lease = pool.acquire(Timeout::Now).unwrap();
    let stopped = stopped_waiter(&pool);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| pool.acquire(GENEROUS).map(drop));
        eventually("it waits", || pool.waiting() == 2);
        pool.resize(5).unwrap(); // which wakes both
        waiting.join().unwrap().unwrap();
    });
    stopped.kill(libc::SIGCONT);
    stopped.join();
}

#[test]
fn a_slot_that_is_kept_for_a_group_is_wanted_by_that_group_only() {
    let groups = vec![group("web", 1), group("cron", 1)];
    let pool = LeasePool::anonymous(LeaseOptions { slots: 3, groups, ..Default::default() }).unwrap();
    let mut leases = ["web", "web", "cron"].map(|name| pool.acquire_for(&of(name), Timeout::Now).unwrap());
    leases.sort_by_key(|lease| lease.slot()); // those that are kept come first
    let [web, cron, common] = leases;
    for (name, wanted) in [("web", [true, false, true]), ("cron", [false, true, true]), ("", [false, false, true])] {
        let cancel = Cancel::new();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let _scope = cancel.enter();
                assert!(pool.acquire_for(&of(name), GENEROUS).unwrap_err().is(Errno::ECANCELED));
            });
            eventually("it waits", || pool.waiting() == 1);
            assert_eq!([&web, &cron, &common].map(|lease| lease.is_wanted()), wanted, "{name:?} waits");
            cancel.fire();
        });
    }
}

#[test]
fn it_grows_and_shrinks_under_its_users() {
    let pool = LeasePool::anonymous(LeaseOptions { slots: 1, room: 4, ..Default::default() }).unwrap();
    let other = again(&pool);
    let first = pool.acquire(Timeout::Now).unwrap();
    let mut second = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| other.acquire(GENEROUS).unwrap());
        eventually("it waits", || pool.waiting() == 1);
        assert!(first.is_wanted());
        pool.resize(4).unwrap();
        waiting.join().unwrap()
    });
    assert_eq!((other.slots(), other.available(), first.is_wanted()), (4, 2, false));
    pool.resize(1).unwrap();
    let [inside, beyond] = if first.slot() == 0 { [&first, &second] } else { [&second, &first] };
    assert!(!inside.is_wanted() && beyond.is_wanted());
    second.set_information(b"it stays its holder's").unwrap();
    assert_eq!(pool.statistics().unwrap().held, 2);
    drop((first, second));
    let only = pool.acquire(Timeout::Now).unwrap();
    assert_eq!(only.slot(), 0);
    assert!(pool.acquire(Timeout::Now).unwrap_err().is(Errno::EAGAIN));
    for absurd in [0, 5, u32::MAX] {
        assert!(pool.resize(absurd).unwrap_err().is(Errno::EINVAL));
    }
}

#[test]
fn who_keeps_one_for_later_hears_that_it_is_wanted() {
    let pool = pool(1);
    assert!(pool.wait_wanted(Timeout::Now).unwrap_err().is(Errno::EAGAIN));
    assert!(pool.wait_wanted(SHORT).unwrap_err().is(Errno::ETIMEDOUT));
    let lease = pool.acquire(Timeout::Now).unwrap();
    let child = fork(|| drop(pool.acquire(GENEROUS).unwrap()));
    pool.wait_wanted(GENEROUS).unwrap();
    for _ in 0..3 {
        pool.wait_wanted(Timeout::Now).unwrap();
    }
    assert!(lease.is_wanted());
    drop(lease);
    child.join();
}

#[test]
fn who_polls_has_what_is_kept_for_its_group_while_others_wait_in_line() {
    let groups = vec![group("cron", 1)];
    let pool = LeasePool::anonymous(LeaseOptions { slots: 2, fair: true, groups, ..Default::default() }).unwrap();
    let common = pool.acquire(Timeout::Now).unwrap();
    let child = fork(|| drop(pool.acquire(GENEROUS).unwrap()));
    pool.wait_wanted(GENEROUS).unwrap();
    for _ in 0..3 {
        drop(pool.acquire_for(&of("cron"), Timeout::Now).unwrap());
    }
    assert!(pool.acquire(Timeout::Now).unwrap_err().is(Errno::EAGAIN));
    drop(common);
    child.join();
}

#[test]
fn who_polls_has_what_has_expired() {
    let expires = Duration::from_millis(1);
    let pool = LeasePool::anonymous(LeaseOptions { slots: 1, expires, ..Default::default() }).unwrap();
    for _ in 0..3 {
        let lease = pool.acquire(GENEROUS).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        let next = pool.acquire(Timeout::Now).unwrap();
        assert!(next.is_dirty());
        std::mem::forget(lease);
        drop(next);
    }
}

#[test]
fn names_and_options() {
    let name = fresh("lease");
    let named = address(&format!("lease:{name}?slots=3&groups=web:1,cron:1&expires=60&fair=1&mode=0640"));
    let pool = LeasePool::open(&named, LeaseOptions::default()).unwrap();
    let plain = address(&format!("lease:{name}"));
    let same = LeasePool::open(&plain, LeaseOptions::default()).unwrap();
    LeasePool::open(&named, LeaseOptions::default()).unwrap();
    let statistics = same.statistics().unwrap();
    assert_eq!((statistics.slots, statistics.fair, statistics.expires), (3, true, Some(Duration::from_secs(60))));
    assert_eq!(statistics.groups.len(), 2);
    for (options, both) in [
        ("slots=4", "slots=3, and not slots=4"),
        ("room=9", "room=64, and not room=9"),
        ("expires=1", "leases of 60s, and not of 1s"),
        ("groups=web:2", "groups=web:1,cron:1, and not groups=web:2"),
    ] {
        let other = address(&format!("lease:{name}?{options}"));
        let error = LeasePool::open(&other, LeaseOptions::default()).unwrap_err();
        assert!(error.is(Errno::EINVAL) && error.to_string().contains(both), "{error}");
    }
    pool.resize(5).unwrap();
    LeasePool::open(&named, LeaseOptions::default()).expect("as it was made, whatever has become of it");
    assert_eq!(pool.address(), format!("lease:{name}"));
    pool.check().unwrap();
    LeasePool::remove(&plain).unwrap();
    assert!(pool.check().unwrap_err().is(Errno::ESTALE));
    assert!(LeasePool::remove(&plain).unwrap_err().is(Errno::ENOENT));
    assert!(LeasePool::open(&address("permits:x"), LeaseOptions::default()).unwrap_err().is(Errno::EINVAL));

    assert_eq!(LeaseGroup::parse_list("web:1,cron:2").unwrap(), [group("web", 1), group("cron", 2)]);
    assert_eq!(LeaseGroup::parse_list("").unwrap(), []);
    assert!(LeaseGroup::parse_list("web").unwrap_err().to_string().contains("names with numbers"));
    let wrong = [
        LeaseOptions { slots: 4097, ..Default::default() },
        LeaseOptions { slots: 9, room: 8, ..Default::default() },
        LeaseOptions { slots: 2, groups: vec![group("a", 2), group("b", 1)], ..Default::default() },
        LeaseOptions { groups: vec![group("a", 1), group("a", 1)], ..Default::default() },
        LeaseOptions { groups: vec![group("", 1)], ..Default::default() },
        LeaseOptions { groups: vec![group(&"x".repeat(33), 1)], ..Default::default() },
        LeaseOptions { groups: (0..9).map(|number| group(&number.to_string(), 0)).collect(), ..Default::default() },
        LeaseOptions { expires: Duration::from_nanos(1), ..Default::default() },
        LeaseOptions { expires: Duration::MAX, ..Default::default() },
        LeaseOptions { participants: 257, ..Default::default() },
    ];
    for options in wrong {
        assert!(LeasePool::size_for(&options).unwrap_err().is(Errno::EINVAL));
        assert!(LeasePool::anonymous(options).unwrap_err().is(Errno::EINVAL));
    }
    assert!(LeasePool::size_for(&LeaseOptions::default()).unwrap() > 64 * 2 * LEASE_INFORMATION_MAX);
}

#[test]
fn a_child_has_none_of_its_parents() {
    let pool = Arc::new(pool(2));
    let lease = std::cell::Cell::new(Some(pool.acquire_owned(&LeaseRequest::default(), Timeout::Now).unwrap()));
    fork(|| {
        let lease = lease.take().unwrap();
        assert!(lease.check().unwrap_err().is(Errno::EPERM));
        assert!(lease.release().unwrap_err().is(Errno::EPERM));
        assert!(!pool.acquire(Timeout::Now).unwrap().is_dirty());
        assert_eq!(pool.available(), 1);
    })
    .join();
    assert_eq!(pool.available(), 1);
    lease.take().unwrap().release().unwrap();
    assert_eq!(pool.available(), 2);
}

#[test]
fn never_two_have_one_slot() {
    const EACH: u32 = 600;
    for fair in [false, true] {
        let options = LeaseOptions { slots: 3, fair, ..Default::default() };
        let pool = LeasePool::anonymous(options).unwrap();
        let work = |pool: &LeasePool| {
            for round in 0..EACH {
                let mut lease = pool.acquire(GENEROUS).unwrap();
                let text = format!("{} {round}", std::process::id());
                lease.set_information(text.as_bytes()).unwrap();
                if round % 16 == 0 {
                    std::thread::yield_now();
                }
                assert_eq!(lease.information().unwrap(), text.as_bytes());
                lease.release().unwrap();
            }
        };
        let children = [fork(|| work(&pool)), fork(|| work(&pool))];
        let other = again(&pool);
        std::thread::scope(|scope| {
            scope.spawn(|| work(&pool));
            scope.spawn(|| work(&pool));
            scope.spawn(|| work(&other));
            for _ in 0..200 {
                let statistics = other.statistics().unwrap();
                assert!(statistics.holders.iter().all(|holder| holder.information.is_some()), "{statistics:?}");
            }
        });
        for child in children {
            child.join();
        }
        let statistics = pool.statistics().unwrap();
        assert_eq!((statistics.leases, statistics.held, statistics.dirty), (5 * u64::from(EACH), 0, 0));
        assert_eq!((statistics.waiting, statistics.timeouts), (0, 0));
    }
}

#[test]
fn more_threads_wait_than_there_are_places_in_line() {
    let options = LeaseOptions { slots: 1, participants: 1, ..Default::default() };
    for fair in [false, true] {
        let pool = LeasePool::anonymous(LeaseOptions { fair, ..options.clone() }).unwrap();
        let lease = pool.acquire(Timeout::Now).unwrap();
        let had = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..12 {
                scope.spawn(|| {
                    drop(pool.acquire(GENEROUS).unwrap());
                    had.fetch_add(1, Ordering::Relaxed);
                });
            }
            eventually("all places are taken", || pool.waiting() == 4);
            drop(lease);
        });
        assert_eq!((had.into_inner(), pool.available(), pool.waiting()), (12, 1, 0));
    }
}

#[test]
fn waits_end_early() {
    let pool = pool(1);
    let _lease = pool.acquire(Timeout::Now).unwrap();
    let cancel = Cancel::new();
    std::thread::scope(|scope| {
        let cancelled = scope.spawn(|| {
            let _scope = cancel.enter();
            pool.acquire(GENEROUS).map(drop)
        });
        eventually("it waits", || pool.waiting() == 1);
        cancel.fire();
        assert!(cancelled.join().unwrap().unwrap_err().is(Errno::ECANCELED));
        assert_eq!(pool.waiting(), 0);
        let ended = scope.spawn(|| pool.acquire(GENEROUS).map(drop));
        eventually("it waits", || pool.waiting() == 1);
        pool.end_waits();
        assert!(ended.join().unwrap().unwrap_err().is(Errno::ECANCELED));
    });
}

#[test]
fn the_doorbell_rings_when_a_lease_expires() {
    let options = LeaseOptions { slots: 1, expires: Duration::from_millis(50), ..Default::default() };
    let pool = LeasePool::anonymous(options).unwrap();
    let _lease = pool.acquire(GENEROUS).unwrap();
    let set = WaitSet::new().unwrap();
    set.add(&pool.doorbell().unwrap(), Interest::READABLE, 1).unwrap();
    assert_eq!(set.wait(&mut [WaitSetEvent::default()], GENEROUS).unwrap(), 1);
}

#[test]
fn the_doorbell_rings_while_a_slot_can_be_had() {
    let pool = pool(1);
    let other = again(&pool);
    let set = WaitSet::new().unwrap();
    set.add(&pool.doorbell().unwrap(), Interest::READABLE, 1).unwrap();
    let mut events = [WaitSetEvent::default()];
    assert_eq!(set.wait(&mut events, GENEROUS).unwrap(), 1);
    let lease = other.acquire(Timeout::Now).unwrap();
    assert!(pool.acquire(Timeout::Now).unwrap_err().is(Errno::EAGAIN));
    // It may ring once more for the slot that was free until just now.
    while set.wait(&mut events, SHORT).is_ok() {
        assert!(pool.acquire(Timeout::Now).unwrap_err().is(Errno::EAGAIN));
    }
    drop(lease);
    assert_eq!(set.wait(&mut events, GENEROUS).unwrap(), 1);
    drop(pool.acquire(Timeout::Now).unwrap());
}
