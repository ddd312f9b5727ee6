//! No descriptor is left: whatever makes one says so with the limit, names the object, and leaves nothing behind.

mod support;

use std::time::Duration;

use nix::errno::Errno;
use support::{GENEROUS, fork, fresh};
use wigwag::{
    Address, Error, EventFd, Fifo, FifoOptions, File, FileCreate, FileEvents, FileOptions, FileWatch, Listener, Memfd,
    MemoryOptions, Mq, MqOptions, Pipe, PipeOptions, ReplaceOptions, Scheme, Sem, SemOptions, Shm, Shutdown, Signal,
    SignalTarget, Signals, Socket, SocketOptions, SysvMq, SysvMqOptions, SysvSelect, SysvSem, SysvSemOptions, Timeout,
    WaitSet,
};

/// In a child: from now on no new descriptor can be had.
fn no_more_descriptors() {
    let limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a live local.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
}

fn check<T>(what: &str, object: &str, result: Result<T, Error>) {
    let Err(error) = result else { panic!("{what} succeeded") };
    assert!(error.is(Errno::EMFILE), "{what}: {error}");
    assert!(error.reason().contains("RLIMIT_NOFILE=0") && error.reason().contains("ulimit -n"), "{what}: {error}");
    assert!(error.object().is_some_and(|text| text.starts_with(object)), "{what}: {error}");
}

#[test]
fn every_call_that_makes_one_names_the_limit() {
    let directory = tempfile::tempdir().unwrap();
    let path = |scheme: &str, name: &str| -> Address {
        format!("{scheme}:{}", directory.path().join(name).display()).parse().unwrap()
    };
    let (file, fifo, unix, other) =
        (path("file", "file"), path("fifo", "fifo"), path("unix", "one"), path("unix", "two"));
    let named = |scheme: &str| -> Address { format!("{scheme}:/{}", fresh("limits")).parse().unwrap() };
    let (shm, sem, mq) = (named("shm"), named("sem"), named("mq"));
    let tcp: Address = "tcp://127.0.0.1:0".parse().unwrap();
    std::fs::write(directory.path().join("file"), b"kept").unwrap();
    Fifo::create(&fifo, &FifoOptions::default()).unwrap();
    let listener = Listener::open(&unix, &SocketOptions::default(), GENEROUS).unwrap();
    let queue = SysvMq::create(&"sysv-mq:private".parse().unwrap(), &SysvMqOptions::default()).unwrap();
    let set = SysvSem::create(&"sysv-sem:private".parse().unwrap(), &SysvSemOptions::default()).unwrap();

    let child = fork(|| {
        let waits = WaitSet::new().unwrap();
        let client = Socket::connect(&unix, &SocketOptions::default(), GENEROUS).unwrap();
        let myself = std::process::id().cast_signed();
        let targets_have_one = SignalTarget::open(myself).unwrap().path() == "pidfd_send_signal";
        no_more_descriptors();
        let plain = SocketOptions::default();
        check("eventfd", "eventfd:", EventFd::new());
        check("pipe", "pipe:", Pipe::open(PipeOptions::default()));
        check("socket pair", "unix", Socket::pair(Scheme::Unix));
        check("connect", "unix:", Socket::connect(&unix, &plain, GENEROUS));
        check("listen", "unix:", Listener::open(&other, &plain, GENEROUS));
        check("listen tcp", "tcp:", Listener::open(&tcp, &plain, GENEROUS));
        check("accept", "unix:", listener.accept(GENEROUS));
        check("file", "file:", File::open(&file, &FileOptions::default()));
        let create = FileOptions { create: FileCreate::IfMissing, ..Default::default() };
        check("new file", "file:", File::open(&path("file", "new"), &create));
        check("load", "file:", File::load(&file, 100));
        check("replace", "file:", File::replace(&file, b"new", &ReplaceOptions::default()));
        check("watch", "file:", FileWatch::open(&file, FileEvents::CLOSED));
        check("fifo reader", "fifo:", Fifo::open_reader(&fifo, &FifoOptions::default(), GENEROUS));
        check("fifo writer", "fifo:", Fifo::open_writer(&fifo, &FifoOptions::default(), Timeout::Now));
        let options = MemoryOptions { size: 1, ..Default::default() };
        check("memfd", "memfd:", Memfd::create(&"memfd:".parse().unwrap(), &options));
        check("shm", "shm:", Shm::create(&shm, &options));
        check("mq", "mq:", Mq::create(&mq, &MqOptions { depth: 1, size: 1, ..Default::default() }));
        check("sem", "sem:", Sem::create(&sem, &SemOptions::default()));
        check("signals", "signal:", Signals::open(&[Signal::USR1]));
        check("shutdown", "signal:", Shutdown::open(Default::default()));
        if targets_have_one {
            check("target", "process ", SignalTarget::open(myself));
        }
        check("queue's descriptor", "sysv-mq:", queue.doorbell(SysvSelect::Any).map(drop));
        check("set's descriptor", "sysv-sem:", set.doorbell(0, -1).map(drop));
        check("wait set", "", WaitSet::new().map_err(|error| error.on_text("waitset")));
        check("timer", "", waits.add_timer(Duration::from_secs(1), None, 1).map_err(|error| error.on_text("timer")));
        drop(client);
    });
    let status = child.wait();
    queue.unlink().unwrap();
    set.unlink().unwrap();
    assert_eq!(status, 0);

    let mut names: Vec<_> = directory.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["fifo", "file", "one"], "nothing is left behind, nothing is lost");
    assert_eq!(File::load(&file, 100).unwrap(), b"kept");
    for (address, missing) in [(&shm, Shm::remove(&shm)), (&sem, Sem::remove(&sem)), (&mq, Mq::remove(&mq))] {
        assert!(missing.unwrap_err().is(Errno::ENOENT), "{address}");
    }
}
