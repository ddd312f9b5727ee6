//! Pools at addresses that have names: whose they are, and what is left there.

use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use wigwag::{Address, Channel, Handler, Pool, PoolOptions};

use super::support::{GENEROUS, eventually, fork, fresh};
use super::{done, handlers, options, pool, run, submit};

/// Addresses for pools that have names, and what keeps their files.
fn named() -> (tempfile::TempDir, [String; 3]) {
    let directory = tempfile::tempdir().unwrap();
    let key = directory.path().join("key");
    std::fs::write(&key, b"").unwrap();
    let ring = format!("ring:{}?largest=4096", directory.path().join("pool").display());
    (directory, [ring, format!("mq:/{}?depth=4&size=512", fresh("pool")), format!("sysv-mq:{}#1", key.display())])
}

/// An address without its options.
fn name(address: &str) -> &str {
    address.split_once('?').map_or(address, |(name, _)| name)
}

#[test]
fn a_second_live_pool_of_a_name_is_refused() {
    let (_directory, addresses) = named();
    for address in addresses {
        let options = || PoolOptions { address: Some(address.parse().unwrap()), ..options() };
        let first = pool(options());
        let second = || Pool::start(options(), handlers()).err().unwrap();
        assert!(second().errno() == libc::EBUSY && second().to_string().contains(name(&address)), "{}", second());
        let child = fork(|| assert_eq!(second().errno(), libc::EBUSY));
        child.join();
        assert_eq!(done(run(&first, "upper", "first")), b"FIRST");
        first.shutdown(false, GENEROUS).unwrap();
        assert_eq!(done(run(&pool(options()), "upper", "second")), b"SECOND");
    }
}

#[test]
fn what_a_killed_pool_has_left_is_nobodys_result() {
    let (directory, addresses) = named();
    for (at, address) in addresses.iter().enumerate() {
        let options = || PoolOptions { address: Some(address.parse().unwrap()), workers: 1, ..options() };
        let [submitted, reported] = ["submitted", "reported"].map(|name| directory.path().join(format!("{name} {at}")));
        let parent = fork(|| {
            let (submitted_here, reported) = (submitted.clone(), reported.clone());
            let stop = Handler::new("stop its parent", move |_: &[u8]| {
                eventually("the second is on its way", || submitted.exists());
                // SAFETY: a plain system call.
                unsafe { libc::kill(libc::getppid(), libc::SIGSTOP) };
                Ok(b"stale".to_vec())
            });
            let next = Handler::new("next", move |_: &[u8]| {
                std::fs::write(&reported, b"").unwrap(); // as it is on the first, by now
                Ok(b"stale".to_vec())
            });
            let begin = Handler::new("begin", |_: &[u8]| Ok(Vec::new()));
            let pool = Pool::start(options(), vec![begin, stop, next]).unwrap();
            done(run(&pool, "begin", "")); // from now on what is submitted is also sent when that returns
            let _tasks = [submit(&pool, "stop its parent", ""), submit(&pool, "next", "")];
            std::fs::write(&submitted_here, b"").unwrap();
            std::thread::sleep(Duration::from_secs(60));
        });
        eventually("a report lies there", || reported.exists());
        parent.kill(libc::SIGKILL);
        parent.wait();
        let pool = pool(options());
        for text in ["one", "two", "three"] {
            assert_eq!(done(run(&pool, "upper", text)), text.to_uppercase().into_bytes(), "{address}");
        }
        pool.shutdown(false, GENEROUS).unwrap();
    }
}

#[test]
fn what_a_stranger_sends_that_is_nothing_at_all_is_skipped() {
    let (_directory, addresses) = named();
    for address in addresses.into_iter().filter(|address| !address.starts_with("sysv-mq:")) {
        let options = PoolOptions { address: Some(address.parse().unwrap()), workers: 1, ..options() };
        let pool = pool(options);
        assert_eq!(done(run(&pool, "upper", "first")), b"FIRST");
        let (name, more) = address.split_once('?').unwrap_or((&address, ""));
        let strangers = ["0", "results"].map(|part| {
            let address = format!("{name}-{part}?{more}");
            wigwag::Channel::open_sender(&address.trim_end_matches('?').parse().unwrap(), GENEROUS).unwrap()
        });
        strangers.iter().for_each(|stranger| stranger.send(b"short", GENEROUS).unwrap());
        assert_eq!(done(run(&pool, "upper", "second")), b"SECOND");
        eventually("it is counted", || pool.statistics().foreign == 1);
        assert_eq!(pool.statistics().started, 1);
        pool.shutdown(false, GENEROUS).unwrap();
    }
}

#[test]
fn a_strangers_report_is_dropped_and_counted() {
    let (directory, addresses) = named();
    let go = directory.path().join("go");
    let there = go.clone();
    let wait = Handler::new("wait", move |_: &[u8]| {
        eventually("it may go", || there.exists());
        Ok(b"right".to_vec())
    });
    let address = &addresses[1];
    let options = PoolOptions { address: Some(address.parse().unwrap()), workers: 1, ..options() };
    let pool = Pool::start(options, vec![wait]).unwrap();
    let task = submit(&pool, "wait", "");
    let stranger =
        wigwag::Channel::open_sender(&format!("{}-results", name(address)).parse().unwrap(), GENEROUS).unwrap();
    let head = [0_u32, 1, 0, 5, 5].map(u32::to_le_bytes).concat(); // the first worker, its first task, done, some key
    stranger.send(&[head, b"wrong".to_vec()].concat(), GENEROUS).unwrap();
    eventually("it is counted", || pool.statistics().foreign == 1);
    std::fs::write(&go, b"").unwrap();
    assert_eq!(done(task.wait(GENEROUS).unwrap()), b"right");
    pool.shutdown(false, GENEROUS).unwrap();
}

#[test]
fn a_pool_that_cannot_be_started_leaves_nothing() {
    let (_directory, addresses) = named();
    for address in addresses {
        let options = PoolOptions { address: Some(address.parse().unwrap()), workers: 1, ..options() };
        // What the results travel over, as a pool names it.
        let results: Address = match name(&address).split_once('#') {
            Some((path, _)) => format!("{path}#1"),
            None => format!("{}-results", name(&address)),
        }
        .parse()
        .unwrap();
        let child = fork(|| {
            drop(pool(options.clone())); // what a process makes once, it has
            let (usual, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
            // One descriptor more each time, so that each that it needs is missing once.
            let mut failures = 0;
            loop {
                setrlimit(Resource::RLIMIT_NOFILE, 3 + failures, most).unwrap();
                let started = Pool::start(options.clone(), handlers());
                setrlimit(Resource::RLIMIT_NOFILE, usual, most).unwrap();
                match started {
                    Err(error) => assert_eq!(error.errno(), libc::EMFILE, "{error}"),
                    Ok(_) => break,
                }
                failures += 1;
                let left = Channel::remove(&results).map_err(|error| error.errno());
                assert_eq!(left, Err(libc::ENOENT), "{results} after {failures} failures");
            }
            assert!(failures > 3, "{failures}");
        });
        child.join();
    }
}
