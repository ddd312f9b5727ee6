//! How many workers there are, how they begin, and what does not end them.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use wigwag::{DeathReason, Handler, Pool, PoolLauncher, PoolOptions, TaskOptions, Timeout, Verdict, WorkerSeat};

use super::support::{GENEROUS, eventually, fork};
use super::{balanced, done, handlers, number, options, pid, pool, run, submit};

#[test]
fn tasks_fail_where_no_worker_can_be_started() {
    let pool = Pool::start_program(options(), &["/nonexistent/program"]).unwrap();
    for _ in 0..3 {
        let task = pool.submit_to(0, b"", TaskOptions::default(), GENEROUS).unwrap();
        let Verdict::Failed(reason) = task.wait(GENEROUS).unwrap() else { panic!("it was done") };
        assert!(reason.contains("no worker can be started") && reason.contains("ENOENT"), "{reason}");
    }
    pool.shutdown(false, GENEROUS).unwrap();
}

#[test]
fn workers_that_end_at_once_are_started_again_less_and_less_often() {
    let pool = Pool::start_program(options(), &["true"]).unwrap();
    let tasks: Vec<_> = (0..40).map(|_| pool.submit_to(0, b"", TaskOptions::default(), GENEROUS).unwrap()).collect();
    let mut reasons = std::collections::HashSet::new();
    for task in tasks {
        match task.wait(GENEROUS).unwrap() {
            Verdict::Lost(death) => assert_eq!((death.exit_code, death.task), (Some(0), task.number())),
            Verdict::Failed(reason) => drop(reasons.insert(reason)),
            other => panic!("{other}"),
        }
    }
    // After eight attempts, of two workers each, whatever waits fails, as does what comes later.
    assert!(!reasons.is_empty());
    assert!(reasons.iter().all(|reason| reason.contains("no worker can be started: worker (pid")), "{reasons:?}");
    let found = pool.statistics();
    assert!(found.started <= 40 && balanced(&found), "{found:?}");
    pool.shutdown(false, GENEROUS).unwrap();
}

#[test]
fn a_worker_that_never_asks_for_a_task_is_ended() {
    let limit = Duration::from_millis(20);
    let options =
        PoolOptions { workers: 1, start_timeout: Some(limit), task_timeout: Some(Duration::from_secs(1)), ..options() };
    let pool = Pool::start_program(options, &["sleep", "1000"]).unwrap();
    let task = pool.submit_to(0, b"", TaskOptions::default(), GENEROUS).unwrap();
    let Verdict::Lost(death) = task.wait(GENEROUS).unwrap() else { panic!("no death") };
    // Two cost nothing, and each has twice the time of the one before.
    assert_eq!((death.reason, death.signal), (DeathReason::Start(limit * 4), Some(libc::SIGKILL)));
    assert!(death.to_string().contains("asked for no task"), "{death}");
    pool.shutdown(false, GENEROUS).unwrap();
}

/// A function that returns once as many workers as it says are in it together.
fn meeting() -> (tempfile::TempDir, Handler) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_owned();
    let meet = Handler::new("meet", move |count: &[u8]| {
        std::fs::write(path.join(std::process::id().to_string()), b"").unwrap();
        let arrived = || std::fs::read_dir(&path).unwrap().count() as u64;
        eventually("the others come", || arrived() >= number(count));
        pid()
    });
    (directory, meet)
}

#[test]
fn tasks_that_wait_for_each_other_get_workers_of_their_own() {
    for short in [0, 1000] {
        let (_directory, meet) = meeting();
        let options =
            PoolOptions { workers: 4, least_workers: Some(1), shrink_after: Duration::from_millis(20), ..options() };
        let pool = Pool::start(options, [handlers(), vec![meet]].into_iter().flatten().collect()).unwrap();
        // Short ones first, one by one, so that many would be sent ahead.
        (0..short).for_each(|_| drop(done(run(&pool, "upper", "x"))));
        let tasks: Vec<_> = (0..4).map(|_| submit(&pool, "meet", "4")).collect();
        let pids: std::collections::HashSet<_> =
            tasks.into_iter().map(|task| done(task.wait(GENEROUS).unwrap())).collect();
        assert_eq!(pids.len(), 4);
        eventually("they go, but for one", || pool.statistics().workers.len() == 1);
        assert_eq!(done(run(&pool, "upper", "again")), b"AGAIN");
        assert_eq!(pool.statistics().deaths, 0);
    }
}

#[test]
fn a_task_behind_a_stopped_worker_is_done_by_a_new_one() {
    let pool = pool(PoolOptions { workers: 2, least_workers: Some(1), ..options() });
    let stopped: i32 = String::from_utf8(done(run(&pool, "pid", ""))).unwrap().parse().unwrap();
    // SAFETY: a plain system call; the pool's worker, which is not reaped.
    assert_eq!(unsafe { libc::kill(stopped, libc::SIGSTOP) }, 0);
    let tasks: Vec<_> = (0..2).map(|_| submit(&pool, "pid", "")).collect();
    for task in tasks {
        assert_ne!(done(task.wait(GENEROUS).unwrap()), stopped.to_string().into_bytes());
    }
}

#[test]
fn time_runs_out_also_for_a_task_that_comes_while_nothing_else_happens() {
    let pool = pool(PoolOptions { workers: 1, ..options() });
    done(run(&pool, "upper", "x"));
    std::thread::sleep(Duration::from_millis(50)); // the pool's thread has gone to sleep by then, or the test shows less
    let own = TaskOptions { timeout: Some(Duration::from_millis(30)), ..Default::default() };
    let Verdict::Lost(death) = pool.submit("sleep", b"60000", own, GENEROUS).unwrap().wait(GENEROUS).unwrap() else {
        panic!("no death")
    };
    assert_eq!(death.reason, DeathReason::Timeout(Duration::from_millis(30)));
}

/// Workers by fork that work as they like.
struct Peculiar<F>(F);

impl<F: Fn(&WorkerSeat) + Send> PoolLauncher for Peculiar<F> {
    fn launch(&mut self, seat: WorkerSeat, _: OwnedFd) -> wigwag::Result<i32> {
        let child = fork(|| (self.0)(&seat));
        let pid = child.pid();
        std::mem::forget(child); // the pool reaps it
        Ok(pid)
    }
}

#[test]
fn a_task_of_a_worker_that_takes_long_to_start_is_done_by_one_that_is_ready() {
    let directory = tempfile::tempdir().unwrap();
    let go = directory.path().join("go");
    let there = go.clone();
    let slow = Peculiar(move |seat: &WorkerSeat| {
        if seat.number() == 0 {
            eventually("it may begin", || there.exists());
        }
        seat.serve(|_, _, _| Ok(seat.number().to_string().into_bytes())).unwrap();
    });
    let pool = Pool::with_launcher(options(), Box::new(slow)).unwrap();
    for _ in 0..4 {
        let tasks = [(); 3].map(|()| pool.submit_to(0, b"", TaskOptions::default(), GENEROUS).unwrap());
        tasks.iter().for_each(|task| assert_eq!(done(task.wait(GENEROUS).unwrap()), b"1"));
    }
    std::fs::write(&go, b"").unwrap();
    pool.shutdown(false, GENEROUS).unwrap();
}

#[test]
fn a_report_that_is_lost_fails_its_task_alone() {
    // Reports on every second task; the last goes with it.
    let forgetful = Peculiar(|seat: &WorkerSeat| {
        let mut heard = false;
        while let Some(task) = seat.next(Timeout::Forever).unwrap() {
            if heard {
                seat.report(task.index, &Ok(task.payload)).unwrap();
            } else if task.payload == b"last" {
                std::process::exit(0);
            }
            heard = !heard;
        }
    });
    let pool = Pool::with_launcher(PoolOptions { workers: 1, ..options() }, Box::new(forgetful)).unwrap();
    let submit = |text: &str| pool.submit_to(0, text.as_bytes(), TaskOptions::default(), GENEROUS).unwrap();
    let tasks: Vec<_> = (0..20).map(|n| submit(&n.to_string())).collect();
    for (n, task) in tasks.into_iter().enumerate() {
        match task.wait(GENEROUS).unwrap() {
            Verdict::Done(result) => assert!(n % 2 == 1 && result == n.to_string().into_bytes()),
            Verdict::Failed(reason) => assert!(n % 2 == 0 && reason.contains("lost on the way"), "{reason}"),
            other => panic!("{other}"),
        }
    }
    assert!(matches!(submit("last").wait(GENEROUS).unwrap(), Verdict::Lost(_)));
    let found = pool.statistics();
    assert_eq!((found.done, found.failed, found.lost), (10, 10, 1));
    assert!(balanced(&found));
}

#[test]
fn a_last_report_that_is_lost_fails_its_task_and_one_before_holds_up_no_limit() {
    let forgetful = Peculiar(|seat: &WorkerSeat| {
        while let Some(task) = seat.next(Timeout::Forever).unwrap() {
            match task.payload.as_slice() {
                b"lost" => {}
                b"long" => std::thread::sleep(Duration::from_secs(600)),
                _ => seat.report(task.index, &Ok(task.payload)).unwrap(),
            }
        }
    });
    let pool = Pool::with_launcher(PoolOptions { workers: 1, ..options() }, Box::new(forgetful)).unwrap();
    let submit = |text: &str, timeout| {
        let own = TaskOptions { timeout, ..Default::default() };
        pool.submit_to(0, text.as_bytes(), own, GENEROUS).unwrap()
    };
    let is_lost_on_the_way = |verdict| matches!(verdict, Verdict::Failed(reason) if reason.contains("lost on the way"));
    let limit = Duration::from_millis(20);
    let (lost, long) = (submit("lost", None), submit("long", Some(limit)));
    let Verdict::Lost(death) = long.wait(GENEROUS).unwrap() else { panic!("no death") };
    assert_eq!(death.reason, DeathReason::Timeout(limit));
    assert!(is_lost_on_the_way(lost.wait(GENEROUS).unwrap()));
    assert!(is_lost_on_the_way(submit("lost", Some(limit)).wait(GENEROUS).unwrap()));
    assert_eq!(done(submit("heard", None).wait(GENEROUS).unwrap()), b"heard");
    let found = pool.statistics();
    assert_eq!((found.done, found.failed, found.lost, found.started), (1, 2, 1, 2));
    assert!(balanced(&found));
    pool.shutdown(false, GENEROUS).unwrap();
}

/// A function that says that it has begun and waits until it may go on.
fn waiting(directory: &Path) -> Handler {
    let directory = directory.to_owned();
    Handler::new("wait", move |name: &[u8]| {
        std::fs::write(directory.join(String::from_utf8_lossy(name).into_owned()), b"").unwrap();
        eventually("it may go on", || directory.join("go").exists());
        use std::os::unix::process::ExitStatusExt;
        let ended = std::process::Command::new("sh").args(["-c", "kill -INT $$; exit 3"]).status().unwrap();
        Ok(ended.signal().unwrap_or(0).to_string().into_bytes())
    })
}

/// What a terminal does at Ctrl-C, while tasks run of a pool whose process has a handler.
fn interrupted(start: impl FnOnce(&Path) -> Pool) {
    let directory = tempfile::tempdir().unwrap();
    let child = fork(|| {
        extern "C" fn handler(_: libc::c_int) {}
        let handler = handler as extern "C" fn(libc::c_int);
        // SAFETY: plain system calls, in a process of its own.
        unsafe {
            libc::setpgid(0, 0);
            libc::signal(libc::SIGINT, handler as libc::sighandler_t);
        }
        let pool = start(directory.path());
        let tasks =
            ["one", "two"].map(|name| pool.submit_to(0, name.as_bytes(), TaskOptions::default(), GENEROUS).unwrap());
        let begun = || ["one", "two"].iter().all(|name| directory.path().join(name).exists());
        eventually("both have begun", begun);
        // SAFETY: a plain system call.
        assert_eq!(unsafe { libc::kill(0, libc::SIGINT) }, 0);
        std::fs::write(directory.path().join("go"), b"").unwrap();
        for task in tasks {
            assert_eq!(done(task.wait(GENEROUS).unwrap()), b"2", "programs that tasks start end by it");
        }
        assert_eq!((pool.statistics().deaths, pool.statistics().done), (0, 2));
        pool.shutdown(false, GENEROUS).unwrap();
    });
    child.join();
}

#[test]
fn ctrl_c_is_for_the_process_of_the_pool() {
    interrupted(|directory| Pool::start(options(), vec![waiting(directory)]).unwrap());
}

#[test]
fn ctrl_c_is_not_for_workers_that_are_a_program() {
    interrupted(|directory| {
        let own = std::env::current_exe().unwrap();
        let program = [own.as_os_str(), "workers::a_program_that_a_pool_started_works".as_ref(), "--exact".as_ref()];
        // SAFETY: this process has one thread.
        unsafe { std::env::set_var("POOL_TEST_DIRECTORY", directory) };
        Pool::start_program(options(), &program).unwrap()
    });
}

/// The program of the test above; else nothing.
#[test]
fn a_program_that_a_pool_started_works() {
    if let (Some(directory), Ok(seat)) = (std::env::var_os("POOL_TEST_DIRECTORY"), WorkerSeat::from_environment()) {
        seat.serve_handlers(&[waiting(Path::new(&directory))]).unwrap();
        std::process::exit(0);
    }
}
