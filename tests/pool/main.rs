//! Pools of worker processes: results, verdicts, deaths, limits.

#[path = "../support/mod.rs"]
mod support;

mod names;
mod outlet;
mod workers;

use std::path::{Path, PathBuf};
use std::time::Duration;

use support::{GENEROUS, SHORT, eventually, fork, fresh};
use wigwag::{DeathReason, Handler, HandlerResult, Pool, PoolOptions, PoolStatistics, TaskOptions, Timeout, Verdict};

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |sum, byte| sum * 10 + u64::from(byte - b'0'))
}

fn pid() -> HandlerResult {
    Ok(std::process::id().to_string().into_bytes())
}

fn handlers() -> Vec<Handler> {
    vec![
        Handler::new("upper", |text: &[u8]| Ok(text.to_ascii_uppercase())),
        Handler::new("pid", |_: &[u8]| pid()),
        Handler::new("refuse", |text: &[u8]| Err(format!("not {}", String::from_utf8_lossy(text)))),
        Handler::new("sleep", |milliseconds: &[u8]| {
            std::thread::sleep(Duration::from_millis(number(milliseconds)));
            pid()
        }),
        Handler::new("kill", |_: &[u8]| {
            std::io::Write::write_all(&mut std::io::stderr(), b"about to go\n").unwrap(); // past the harness
            // SAFETY: a plain system call.
            unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
            Ok(Vec::new())
        }),
        Handler::new("kill its parent", |_: &[u8]| {
            // SAFETY: plain system calls.
            unsafe { libc::kill(libc::getppid(), libc::SIGKILL) };
            std::thread::sleep(Duration::from_secs(30));
            Ok(Vec::new())
        }),
        Handler::new("chatter", |_: &[u8]| {
            loop {
                std::io::Write::write_all(&mut std::io::stderr(), &[b'.'; 4096]).unwrap();
            }
        }),
        Handler::new("exit", |code: &[u8]| std::process::exit(number(code) as i32)),
        Handler::new("panic", |_: &[u8]| panic!("on purpose")),
        Handler::new("fill", |megabytes: &[u8]| {
            let mut memory = vec![0_u8; number(megabytes) as usize * 1024 * 1024];
            memory.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
            std::thread::sleep(Duration::from_secs(30));
            Ok(vec![memory[4096]])
        }),
        Handler::new("long", |length: &[u8]| Ok(vec![7; number(length) as usize])),
    ]
}

fn options() -> PoolOptions {
    PoolOptions { workers: 2, ..Default::default() }
}

fn pool(options: PoolOptions) -> Pool {
    Pool::start(options, handlers()).unwrap()
}

fn submit(pool: &Pool, handler: &str, payload: &str) -> wigwag::PoolTask {
    pool.submit(handler, payload.as_bytes(), TaskOptions::default(), GENEROUS).unwrap()
}

fn run(pool: &Pool, handler: &str, payload: &str) -> Verdict {
    submit(pool, handler, payload).wait(GENEROUS).unwrap()
}

fn done(verdict: Verdict) -> Vec<u8> {
    match verdict {
        Verdict::Done(result) => result,
        other => panic!("{other}"),
    }
}

fn balanced(found: &PoolStatistics) -> bool {
    let ended = found.done + found.failed + found.lost + found.cancelled + found.poisoned;
    found.submitted == ended + found.queued + found.running
}

#[test]
fn results_come_back_to_who_asked() {
    let pool = pool(options());
    let tasks: Vec<_> = (0..500).map(|n| (n, submit(&pool, "upper", &format!("text {n}")))).collect();
    for (n, task) in tasks {
        assert_eq!(done(task.wait(GENEROUS).unwrap()), format!("TEXT {n}").as_bytes());
    }
    let found = pool.statistics();
    assert_eq!((found.submitted, found.done, found.workers.len()), (500, 500, 2));
    assert!(balanced(&found));
    pool.shutdown(false, GENEROUS).unwrap();
    assert!(pool.statistics().workers.is_empty());
    let error = pool.submit("upper", b"x", TaskOptions::default(), GENEROUS).err().unwrap();
    assert_eq!(error.errno(), libc::EPIPE);
}

#[test]
fn named_transports_work_alike_and_leave_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let ring = format!("ring:{}?largest=4096", directory.path().join("pool").display());
    let queue = fresh("pool");
    let mq = format!("mq:/{queue}?depth=4&size=512");
    let key = tempfile::NamedTempFile::new().unwrap();
    let sysv = format!("sysv-mq:{}#1", key.path().display());
    for address in [&ring, &mq, &sysv, "pipe:?largest=100000"] {
        let pool = pool(PoolOptions { address: Some(address.parse().unwrap()), ..options() });
        let tasks: Vec<_> = (0..100).map(|n| submit(&pool, "upper", &format!("text {n}"))).collect();
        for (n, task) in tasks.into_iter().enumerate() {
            assert_eq!(done(task.wait(GENEROUS).unwrap()), format!("TEXT {n}").as_bytes(), "{address}");
        }
        assert!(matches!(run(&pool, "kill", ""), Verdict::Lost(_)), "{address}");
        assert_eq!(done(run(&pool, "upper", "still")), b"STILL");
        pool.shutdown(false, GENEROUS).unwrap();
    }
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    assert!(!std::fs::exists(format!("/dev/mqueue/{queue}-0")).unwrap());
}

#[test]
fn a_refusal_and_a_panic_fail_their_task_alone() {
    let pool = pool(PoolOptions { workers: 1, ..options() });
    let before = done(run(&pool, "pid", ""));
    assert_eq!(run(&pool, "refuse", "this"), Verdict::Failed("not this".into()));
    assert!(matches!(run(&pool, "panic", ""), Verdict::Failed(reason) if reason.contains("on purpose")));
    assert_eq!(done(run(&pool, "pid", "")), before);
}

#[test]
fn a_killed_worker_fails_its_task_alone_and_says_what_happened() {
    let pool = pool(options());
    let others: Vec<_> = (0..50).map(|_| submit(&pool, "sleep", "1")).collect();
    let victim = submit(&pool, "kill", "");
    let more: Vec<_> = (0..50).map(|_| submit(&pool, "sleep", "1")).collect();
    let Verdict::Lost(death) = victim.wait(GENEROUS).unwrap() else { panic!("no death") };
    assert_eq!((death.signal, death.exit_code, death.reason), (Some(libc::SIGKILL), None, DeathReason::Own));
    assert_eq!(death.task, victim.number());
    assert!(death.last_words.contains("about to go") && death.peak_memory > 0, "{death}");
    for task in others.into_iter().chain(more) {
        done(task.wait(GENEROUS).unwrap());
    }
    let found = pool.statistics();
    assert_eq!((found.done, found.lost, found.deaths), (100, 1, 1));
    let Verdict::Lost(death) = run(&pool, "exit", "3") else { panic!("no death") };
    assert_eq!((death.signal, death.exit_code), (None, Some(3)));
}

#[test]
fn a_worker_that_talks_without_end_holds_up_nobody() {
    let child = fork(|| {
        let nowhere = std::fs::File::options().write(true).open("/dev/null").unwrap();
        nix::unistd::dup2_stderr(&nowhere).unwrap(); // where the pool passes it on to
        let pool = pool(options());
        let chatter = submit(&pool, "chatter", "");
        for _ in 0..3 {
            assert!(matches!(run(&pool, "kill", ""), Verdict::Lost(_)));
            assert_eq!(done(run(&pool, "upper", "a")), b"A");
        }
        assert!(chatter.cancel(true));
        assert!(matches!(chatter.wait(GENEROUS).unwrap(), Verdict::Cancelled));
        pool.shutdown(false, GENEROUS).unwrap();
    });
    child.join();
}

#[test]
fn a_child_made_by_fork_is_told_that_the_pool_is_its_parents() {
    let pool = pool(options());
    let task = submit(&pool, "upper", "a");
    let child = fork(|| {
        assert_eq!(task.wait(Timeout::Forever).unwrap_err().errno(), libc::ENOTSUP);
        assert_eq!(pool.collect(1, Timeout::Forever).unwrap_err().errno(), libc::ENOTSUP);
        assert!(!task.cancel(true) && !pool.cancel(task.number(), true) && !pool.has_begun(task.number()));
        assert_eq!(pool.statistics(), PoolStatistics::default());
    });
    child.join();
    assert_eq!(done(task.wait(GENEROUS).unwrap()), b"A");
    let child = fork(move || drop(pool));
    child.join();
}

#[test]
fn a_task_that_runs_too_long_is_ended() {
    let pool = pool(PoolOptions { task_timeout: Some(Duration::from_secs(60)), ..options() });
    let own = TaskOptions { timeout: Some(Duration::from_millis(30)), ..Default::default() };
    let task = pool.submit("sleep", b"60000", own, GENEROUS).unwrap();
    let other = submit(&pool, "upper", "other");
    let Verdict::Lost(death) = task.wait(GENEROUS).unwrap() else { panic!("no death") };
    assert_eq!(death.reason, DeathReason::Timeout(Duration::from_millis(30)));
    assert_eq!(done(other.wait(GENEROUS).unwrap()), b"OTHER");
}

#[test]
fn a_worker_with_too_much_memory_is_ended() {
    let pool = pool(PoolOptions { memory_limit: 200 << 20, workers: 1, ..options() });
    let Verdict::Lost(death) = run(&pool, "fill", "400") else { panic!("no death") };
    assert_eq!(death.reason, DeathReason::Memory(200 << 20));
    assert_eq!(done(run(&pool, "upper", "next")), b"NEXT");
    if pool.statistics().workers[0].in_group {
        assert!(death.peak_memory < 300 << 20, "the kernel let it have no more: {death}");
    }
}

#[test]
fn shared_memory_that_a_worker_looks_at_is_not_its_own() {
    const SIZE: usize = 128 << 20;
    let shared = wigwag::Memfd::new(SIZE).unwrap();
    let whole = || wigwag::Mapping::from_fd(&shared, &wigwag::MapOptions::default()).unwrap();
    let touch = |memory: &wigwag::Mapping| {
        for at in (0..SIZE).step_by(4096) {
            memory.atomic_u8(at).unwrap().fetch_or(1, std::sync::atomic::Ordering::Relaxed);
        }
    };
    touch(&whole()); // its pages are this process's
    let directory = tempfile::tempdir().unwrap();
    let [mapped, go] = ["mapped", "go"].map(|name| directory.path().join(name));
    let memory = whole();
    let (tell, wait) = (mapped.clone(), go.clone());
    let look = Handler::new("look", move |_: &[u8]| {
        touch(&memory);
        std::fs::write(&tell, b"").unwrap();
        eventually("it may go", || wait.exists());
        pid()
    });
    let pool = Pool::start(PoolOptions { memory_limit: 64 << 20, workers: 1, ..options() }, vec![look]).unwrap();
    let task = submit(&pool, "look", "");
    eventually("it has looked at all of it", || mapped.exists());
    assert!(pool.statistics().workers[0].memory < 64 << 20);
    std::thread::sleep(Duration::from_millis(200)); // it is looked at by then, or the test shows less
    std::fs::write(&go, b"").unwrap();
    done(task.wait(GENEROUS).unwrap());
}

/// The folder of the control group that a process is in for its memory, as the usual places of the tree have it.
fn group_of(pid: i32) -> Option<PathBuf> {
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let found = groups.lines().find_map(|line| line.split_once(":memory:").or(line.split_once("0::")))?;
    let path = found.1.trim_start_matches('/');
    let folders = ["/sys/fs/cgroup/memory", "/sys/fs/cgroup"].map(|tree| Path::new(tree).join(path));
    folders.into_iter().find(|folder| folder.exists())
}

#[test]
fn control_groups_go_with_their_workers_and_those_of_the_dead_with_the_next_pool() {
    let limited = || pool(PoolOptions { memory_limit: 200 << 20, workers: 1, ..options() });
    let pool = limited();
    done(run(&pool, "upper", "begin"));
    let worker = &pool.statistics().workers[0];
    if !worker.in_group {
        assert_eq!(group_of(worker.pid), group_of(std::process::id().cast_signed()));
        return; // this process may make no groups, and the other tests see that it goes without
    }
    let Some(group) = group_of(worker.pid) else { return }; // the tree is somewhere else
    let named = |pid: u32| format!("wigwag-{pid}-");
    let left = |pid: u32| {
        let entries = group.parent().unwrap().read_dir().unwrap();
        entries.filter(|entry| entry.as_ref().unwrap().file_name().to_str().unwrap().starts_with(&named(pid))).count()
    };
    assert!(group.file_name().unwrap().to_str().unwrap().starts_with(&named(std::process::id())));
    pool.shutdown(false, GENEROUS).unwrap();
    assert!(!group.exists());

    let killed = fork(|| {
        done(run(&limited(), "kill its parent", ""));
    });
    let pid = killed.pid().unsigned_abs();
    assert!(libc::WIFSIGNALED(killed.wait()));
    assert!(left(pid) <= 1, "a pool of another test may have been the next already");
    eventually("the next pool removes the group of the one that was killed", || {
        drop(limited());
        left(pid) == 0
    });
}

#[test]
fn retries_end_in_poison_with_its_history() {
    let pool = pool(PoolOptions { retries: 2, ..options() });
    let Verdict::Poison(deaths) = run(&pool, "kill", "") else { panic!("no poison") };
    assert_eq!(deaths.len(), 3);
    let pids: std::collections::HashSet<_> = deaths.iter().map(|death| death.pid).collect();
    assert_eq!(pids.len(), 3);
    let found = pool.statistics();
    assert_eq!((found.retried, found.poisoned, found.deaths), (2, 1, 3));
}

#[test]
fn queued_and_running_tasks_are_cancelled() {
    let pool = pool(PoolOptions { workers: 1, ..options() });
    let running = submit(&pool, "sleep", "60000");
    let queued: Vec<_> = (0..5).map(|_| submit(&pool, "upper", "x")).collect();
    let last = submit(&pool, "upper", "last");
    eventually("it runs", || pool.statistics().workers.iter().any(|worker| worker.busy > 0));
    for task in &queued {
        assert!(task.cancel(false));
        assert_eq!(task.wait(GENEROUS).unwrap(), Verdict::Cancelled);
        assert!(!task.cancel(true));
    }
    assert!(running.cancel(true));
    assert_eq!(running.wait(GENEROUS).unwrap(), Verdict::Cancelled);
    assert_eq!(done(last.wait(GENEROUS).unwrap()), b"LAST");
    assert!(balanced(&pool.statistics()));
}

#[test]
fn higher_priorities_run_first() {
    let pool = pool(PoolOptions { workers: 1, ..options() });
    let first = submit(&pool, "sleep", "200");
    let low: Vec<_> = (0..10).map(|_| submit(&pool, "sleep", "20")).collect();
    let high = TaskOptions { priority: 5, ..Default::default() };
    let high = pool.submit("upper", b"x", high, GENEROUS).unwrap();
    done(high.wait(GENEROUS).unwrap());
    // A few of the low ones may have been sent ahead.
    let unfinished = low.iter().filter(|task| task.wait(Timeout::Now).is_err()).count();
    assert!(unfinished >= 5, "{unfinished}");
    done(first.wait(GENEROUS).unwrap());
}

#[test]
fn a_full_queue_makes_submitters_wait() {
    let pool = pool(PoolOptions { workers: 1, queue: 3, ..options() });
    let running = submit(&pool, "sleep", "60000");
    let error =
        (0..100).find_map(|_| pool.submit("upper", b"x", TaskOptions::default(), SHORT).err()).expect("a bound");
    assert_eq!(error.errno(), libc::ETIMEDOUT);
    let error = pool.submit("upper", b"x", TaskOptions::default(), Timeout::Now).err().unwrap();
    assert_eq!(error.errno(), libc::EAGAIN);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| submit(&pool, "upper", "late").wait(GENEROUS).unwrap());
        running.cancel(true);
        assert_eq!(done(waiting.join().unwrap()), b"LATE");
    });
}

#[test]
fn workers_are_replaced_after_so_many_tasks() {
    let pool = pool(PoolOptions { workers: 1, tasks_per_worker: 10, ..options() });
    let tasks: Vec<_> = (0..35).map(|_| submit(&pool, "pid", "")).collect();
    let pids: Vec<_> = tasks.into_iter().map(|task| done(task.wait(GENEROUS).unwrap())).collect();
    let different: std::collections::HashSet<_> = pids.iter().collect();
    assert_eq!(different.len(), 4);
    assert_eq!(pool.statistics().deaths, 0);
}

#[test]
fn workers_come_with_the_load_and_go_without() {
    let options =
        PoolOptions { workers: 3, least_workers: Some(0), shrink_after: Duration::from_millis(20), ..options() };
    let pool = pool(options);
    assert!(pool.statistics().workers.is_empty());
    let tasks: Vec<_> = (0..12).map(|_| submit(&pool, "sleep", "20")).collect();
    eventually("more workers", || pool.statistics().workers.len() == 3);
    tasks.into_iter().for_each(|task| drop(done(task.wait(GENEROUS).unwrap())));
    eventually("they go", || pool.statistics().workers.is_empty());
    assert_eq!(done(run(&pool, "upper", "again")), b"AGAIN");
}

#[test]
fn tasks_behind_a_long_one_are_done_by_others() {
    let pool = pool(options());
    // Short ones first, so that many are sent ahead.
    (0..200).for_each(|_| drop(done(run(&pool, "upper", "x"))));
    let long = submit(&pool, "sleep", "60000");
    let short: Vec<_> = (0..100).map(|_| submit(&pool, "upper", "x")).collect();
    short.into_iter().for_each(|task| drop(done(task.wait(GENEROUS).unwrap())));
    assert!(long.cancel(true));
}

#[test]
fn verdicts_are_collected() {
    let pool = pool(PoolOptions { collects: true, ..options() });
    let numbers: std::collections::HashSet<_> =
        (0..300).map(|_| pool.submit_collected(0, b"x".to_vec(), TaskOptions::default(), GENEROUS).unwrap()).collect();
    let mut found = std::collections::HashSet::new();
    while found.len() < 300 {
        for (number, verdict) in pool.collect(64, GENEROUS).unwrap() {
            assert_eq!(done(verdict), b"X");
            assert!(found.insert(number));
        }
    }
    assert_eq!(found, numbers);
    assert_eq!(pool.collect(1, SHORT).unwrap_err().errno(), libc::ETIMEDOUT);
    pool.shutdown(false, GENEROUS).unwrap();
    assert!(pool.collect(1, GENEROUS).unwrap().is_empty());
}

#[test]
fn what_is_too_large_is_said() {
    let pool = pool(PoolOptions { address: Some("pipe:?largest=10000".parse().unwrap()), ..options() });
    let error = pool.submit("upper", &[b'x'; 10_000], TaskOptions::default(), GENEROUS).err().unwrap();
    assert_eq!(error.errno(), libc::EMSGSIZE);
    assert!(matches!(run(&pool, "long", "10000"), Verdict::Failed(reason) if reason.contains("EMSGSIZE")));
    assert_eq!(done(run(&pool, "long", "9000")).len(), 9000);
    let error = pool.submit("nothing", b"", TaskOptions::default(), GENEROUS).err().unwrap();
    assert!(error.to_string().contains("upper"), "{error}");
}

#[test]
fn an_address_that_drops_is_refused() {
    let address = format!("ring:{}?full=drop-newest", fresh("pool"));
    let error =
        Pool::start(PoolOptions { address: Some(address.parse().unwrap()), ..options() }, Vec::new()).err().unwrap();
    assert_eq!(error.errno(), libc::EINVAL);
    assert!(error.to_string().contains("full="), "{error}");
}

#[test]
fn what_is_taken_fits_whatever_its_size() {
    let pool = pool(PoolOptions { workers: 1, ..options() });
    // As much as a pipe holds in pieces, but for the head.
    let large = vec![b'x'; 61_416];
    let error =
        pool.submit("upper", &[large.as_slice(), b"x"].concat(), TaskOptions::default(), GENEROUS).err().unwrap();
    assert!(error.errno() == libc::EMSGSIZE && error.to_string().contains("capacity="), "{error}");
    let tasks: Vec<_> =
        (0..20).map(|_| pool.submit("upper", &large, TaskOptions::default(), GENEROUS).unwrap()).collect();
    for task in tasks {
        assert_eq!(done(task.wait(GENEROUS).unwrap()).len(), large.len());
    }
    assert_eq!(done(run(&pool, "long", "900000")).len(), 900_000);
}

#[test]
fn long_results_of_many_workers_all_come() {
    let pool = pool(PoolOptions { workers: 150, ..options() });
    for _ in 0..3 {
        let tasks: Vec<_> = (0..300).map(|n| (n, submit(&pool, "long", &(20_000 + n).to_string()))).collect();
        for (n, task) in tasks {
            assert_eq!(done(task.wait(GENEROUS).unwrap()).len(), 20_000 + n);
        }
    }
    assert_eq!(pool.statistics().deaths, 0);
    pool.shutdown(false, GENEROUS).unwrap();
}

#[test]
fn shutdown_at_its_deadline_ends_what_runs() {
    let pool = pool(options());
    let running = submit(&pool, "sleep", "60000");
    assert_eq!(pool.shutdown(false, SHORT).unwrap_err().errno(), libc::ETIMEDOUT);
    assert_eq!(running.wait(GENEROUS).unwrap(), Verdict::Cancelled);
    assert!(pool.statistics().workers.is_empty());
}

#[test]
fn a_pool_that_is_given_up_leaves_no_worker_that_was_being_started() {
    let pool = pool(PoolOptions { workers: 8, retries: u32::MAX, ..options() });
    let dying = submit(&pool, "kill", "");
    let running: Vec<_> = (0..8).map(|_| submit(&pool, "sleep", "60000")).collect();
    assert_eq!(pool.shutdown(false, Timeout::Now).unwrap_err().errno(), libc::EAGAIN);
    assert!(pool.statistics().workers.is_empty());
    for task in running.iter().chain([&dying]) {
        assert_eq!(task.wait(GENEROUS).unwrap(), Verdict::Cancelled);
    }
}

#[test]
fn workers_end_with_a_parent_that_is_killed() {
    let (done, tell) = nix::unistd::pipe().unwrap();
    let parent = fork(|| {
        let pool = pool(options());
        let own = || String::from_utf8(self::done(run(&pool, "sleep", "5"))).unwrap();
        let mut pids = vec![own()];
        while pids.len() < 2 {
            let tasks = [submit(&pool, "sleep", "20"), submit(&pool, "sleep", "20")];
            pids = tasks.map(|task| String::from_utf8(self::done(task.wait(GENEROUS).unwrap())).unwrap()).to_vec();
            pids.sort();
            pids.dedup();
        }
        nix::unistd::write(&tell, format!("{} {}", pids[0], pids[1]).as_bytes()).unwrap();
        std::thread::sleep(Duration::from_secs(60));
    });
    drop(tell);
    let mut text = [0; 100];
    let length = nix::unistd::read(&done, &mut text).unwrap();
    let pids = String::from_utf8(text[..length].to_vec()).unwrap();
    assert_eq!(pids.split(' ').count(), 2, "{pids}");
    parent.kill(libc::SIGKILL);
    parent.wait();
    eventually("the workers end", || {
        pids.split(' ')
            .all(|pid| std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z ")))
    });
}
