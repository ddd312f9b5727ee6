//! Absurd values of every option of every address: refused with a text, or taken as they are; never a panic, an abort,
//! or memory without end.

mod support;

use std::path::Path;

use support::{fork, fresh};
use wigwag::{
    Address, Error, Fifo, FifoOptions, File, FileOptions, Listener, Memfd, MemoryOptions, Mq, MqOptions, Scheme, Sem,
    SemOptions, Shm, Signals, SignalsOptions, Socket, SocketOptions, SysvMq, SysvMqOptions, SysvSem, SysvSemOptions,
    SysvShm, Timeout,
};

const OPTIONS: &[&str] = &[
    "any-user",
    "backlog",
    "bytes",
    "capacity",
    "count",
    "depth",
    "initial",
    "keep-open",
    "keepalive",
    "mode",
    "nodelay",
    "packet",
    "rcvbuf",
    "reuse",
    "semaphore",
    "size",
    "sndbuf",
    "unknown",
    "",
];

const VALUES: &[&str] = &[
    "0",
    "1",
    "-1",
    "",
    "32768",
    "2147483648",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "99999999999999999999999999",
    "0x10",
    "1e9",
    "%00",
    "%FF",
    "1%00",
    "07777",
    "777777777777777777777777",
    "true",
    "+1",
    " 1",
];

/// Makes what the address names, and undoes it.
fn try_out(address: &Address) -> Result<(), Error> {
    match address.scheme() {
        Scheme::Tcp => Listener::open(address, &SocketOptions::default(), Timeout::Now).map(drop),
        Scheme::Unix | Scheme::UnixSeqpacket => {
            Listener::open(address, &SocketOptions::default(), Timeout::Now).map(drop)
        }
        Scheme::Udp | Scheme::UnixDgram => Socket::bind(address, &SocketOptions::default(), Timeout::Now).map(drop),
        Scheme::File => {
            File::open(address, &FileOptions { create: wigwag::FileCreate::IfMissing, ..Default::default() })
                .and_then(|_| File::remove(address))
        }
        Scheme::Fifo => {
            let options =
                FifoOptions { create: true, keep_open: Some(true) == address.flag("keep-open"), ..Default::default() };
            let opened = Fifo::open_reader(address, &options, Timeout::Now).map(drop);
            let _ = Fifo::remove(address);
            opened
        }
        Scheme::Signal => Signals::at(address, SignalsOptions::default()).map(drop),
        Scheme::SysvShm => SysvShm::create(address, &MemoryOptions::default()).and_then(|made| made.unlink()),
        Scheme::Shm => Shm::create(address, &MemoryOptions::default()).and_then(|made| made.unlink()),
        Scheme::Memfd => Memfd::create(address, &MemoryOptions::default()).map(drop),
        Scheme::SysvMq => SysvMq::create(address, &SysvMqOptions::default()).and_then(|made| made.unlink()),
        Scheme::Mq => Mq::create(address, &MqOptions::default()).and_then(|_| Mq::remove(address)),
        Scheme::SysvSem => SysvSem::create(address, &SysvSemOptions::default()).and_then(|made| made.unlink()),
        Scheme::Sem => Sem::create(address, &SemOptions::default()).and_then(|_| Sem::remove(address)),
        _ => Ok(()), // opened without an address
    }
}

fn name(scheme: Scheme, directory: &Path) -> String {
    match scheme {
        Scheme::Tcp | Scheme::Udp => "//127.0.0.1:0".into(),
        Scheme::EventFd | Scheme::Pipe | Scheme::Memfd => String::new(),
        Scheme::Signal => "USR1".into(),
        Scheme::SysvShm | Scheme::SysvMq | Scheme::SysvSem => "private".into(),
        Scheme::Shm | Scheme::Mq | Scheme::Sem => format!("/{}", fresh("hostile")),
        _ => directory.join("x").display().to_string(),
    }
}

#[test]
fn absurd_options_are_refused_or_taken() {
    let directory = tempfile::tempdir().unwrap();
    fork(|| {
        for (resource, most) in [(libc::RLIMIT_FSIZE, 64 << 20), (libc::RLIMIT_AS, 4 << 30)] {
            let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
            // SAFETY: a live local; the limits are this child's own.
            assert_eq!(unsafe { libc::setrlimit(resource, &raw const limit) }, 0);
        }
        let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let (before, mut refused, mut taken) = (descriptors(), 0, 0);
        for scheme in Scheme::ALL {
            for option in OPTIONS {
                for value in VALUES {
                    let text = format!("{scheme}:{}?{option}={value}", name(*scheme, directory.path()));
                    match Address::parse(&text).and_then(|address| try_out(&address)) {
                        Ok(()) => taken += 1,
                        Err(error) => {
                            refused += 1;
                            let system = nix::errno::Errno::from_raw(error.errno()).desc();
                            assert!(!error.reason().is_empty() && error.reason() != system, "{text}: {error}");
                        }
                    }
                }
            }
        }
        assert!(refused > 1000 && taken > 100, "{refused} refused, {taken} taken");
        assert_eq!(descriptors(), before);
        assert_eq!(directory.path().read_dir().unwrap().count(), 0);
    })
    .join();
}
