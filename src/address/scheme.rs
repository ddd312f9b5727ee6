//! The kinds of objects that have addresses, and the options that each takes.

use std::fmt;

/// What an option's value may be.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Number,
    Flag,
    Mode,
    Word(&'static [&'static str]),
    Shares,
    Text,
}

impl Kind {
    pub(super) fn expected(self) -> String {
        match self {
            Kind::Number => "a number from 0 to 2^64 - 1".into(),
            Kind::Flag => "0 or 1".into(),
            Kind::Mode => "octal permissions from 0 to 777".into(),
            Kind::Word(words) => format!("one of {}", words.join(", ")),
            Kind::Shares => "names with numbers, such as web:6,cron:2".into(),
            Kind::Text => "text that is not empty".into(),
        }
    }
}

type Options = &'static [(&'static str, Kind)];

macro_rules! schemes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal $options:expr;)*) => {
        /// The kind of object that an address names.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Scheme {
            $($(#[$doc])* $variant,)*
        }

        impl Scheme {
            /// All of them, in the order of the documentation.
            pub const ALL: &'static [Scheme] = &[$(Scheme::$variant),*];

            /// Its spelling in an address, without the colon.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Scheme::$variant => $name,)*
                }
            }

            pub(super) fn options(self) -> Options {
                match self {
                    $(Scheme::$variant => $options,)*
                }
            }
        }
    };
}

use Kind::{Flag, Mode, Number, Shares, Text, Word};

/// How a channel finds its messages in a stream of bytes.
const FRAMING: (&str, Kind) = ("framing", Word(&["length", "line", "none"]));
/// The largest message of a channel over a stream.
const LARGEST: (&str, Kind) = ("largest", Number);

schemes! {
    /// `tcp://host:port`: TCP over IPv4 or IPv6.
    Tcp = "tcp" &[("backlog", Number), ("nodelay", Flag), ("keepalive", Flag), ("sndbuf", Number), ("rcvbuf", Number), ("reuse", Flag), FRAMING, LARGEST];
    /// `udp://host:port`: UDP over IPv4 or IPv6.
    Udp = "udp" &[("sndbuf", Number), ("rcvbuf", Number), ("reuse", Flag)];
    /// `unix:/path`, `unix:@abstract`: byte stream on this host.
    Unix = "unix" &[("backlog", Number), ("mode", Mode), ("sndbuf", Number), ("rcvbuf", Number), ("any-user", Flag), FRAMING, LARGEST];
    /// `unix-dgram:…`: datagrams on this host.
    UnixDgram = "unix-dgram" &[("mode", Mode), ("sndbuf", Number), ("rcvbuf", Number), ("any-user", Flag)];
    /// `unix-seqpacket:…`: a connection that keeps message boundaries.
    UnixSeqpacket = "unix-seqpacket" &[("backlog", Number), ("mode", Mode), ("sndbuf", Number), ("rcvbuf", Number), ("any-user", Flag)];
    /// `file:/path`: a disk file; of a channel, a directory with a log of its messages.
    File = "file" &[("mode", Mode), LARGEST, ("fsync", Word(&["never", "interval", "every"])), ("interval", Number),
        ("segment", Number), ("retain", Number), ("age", Number), ("reader", Text), ("from", Word(&["oldest", "newest"]))];
    /// `eventfd:`: an event counter.
    EventFd = "eventfd" &[("initial", Number), ("semaphore", Flag)];
    /// `pipe:`: an anonymous pipe.
    Pipe = "pipe" &[("capacity", Number), ("packet", Flag), FRAMING, LARGEST];
    /// `fifo:/path`: a named pipe.
    Fifo = "fifo" &[("mode", Mode), ("keep-open", Flag), ("capacity", Number), FRAMING, LARGEST];
    /// `signal:USR1`, `signal:INT,TERM`, `signal:USR1@1234`: signals, a signal to a process.
    Signal = "signal" &[("capacity", Number)];
    /// `sysv-shm:path#65`: System V shared memory.
    SysvShm = "sysv-shm" &[("mode", Mode), ("size", Number)];
    /// `shm:/name`: POSIX shared memory.
    Shm = "shm" &[("mode", Mode), ("size", Number)];
    /// `memfd:`: anonymous shared memory with seals.
    Memfd = "memfd" &[("size", Number)];
    /// `sysv-mq:path#65`: a System V message queue.
    SysvMq = "sysv-mq" &[("mode", Mode), ("bytes", Number)];
    /// `mq:/name`: a POSIX message queue.
    Mq = "mq" &[("mode", Mode), ("depth", Number), ("size", Number)];
    /// `sysv-sem:path#65`: a System V semaphore set.
    SysvSem = "sysv-sem" &[("mode", Mode), ("count", Number), ("initial", Number)];
    /// `sem:/name`: a POSIX semaphore.
    Sem = "sem" &[("mode", Mode), ("initial", Number)];
    /// `ring:name`: messages to one consumer each.
    Ring = "ring" &[("mode", Mode), ("capacity", Number), ("largest", Number), ("depth", Number), ("participants", Number), ("persistent", Flag),
        ("full", Word(&["wait", "fail", "drop-newest", "drop-oldest"])), ("redeliveries", Number), ("lanes", Number), ("lane", Number), ("dead-letters", Flag)];
    /// `topic:name`: messages to all.
    Topic = "topic" &[("mode", Mode), ("capacity", Number), ("largest", Number), ("depth", Number), ("participants", Number),
        ("subscribers", Number), ("lossy", Flag), ("history", Number)];
    /// `cell:name`: the latest value.
    Cell = "cell" &[("mode", Mode), ("largest", Number), ("participants", Number)];
    /// `mutex:name`: a lock with an owner.
    Mutex = "mutex" &[("mode", Mode), ("participants", Number)];
    /// `permits:name`: a counting semaphore whose permits come back from the dead.
    Permits = "permits" &[("mode", Mode), ("participants", Number), ("count", Number), ("fair", Flag)];
    /// `event:name`: something that has happened or not.
    Event = "event" &[("mode", Mode), ("participants", Number), ("auto-reset", Flag)];
    /// `condition:name`: waiting under a mutex until another changes something.
    Condition = "condition" &[("mode", Mode), ("participants", Number)];
    /// `rwlock:name`: a lock for many readers or one writer.
    RwLock = "rwlock" &[("mode", Mode), ("participants", Number)];
    /// `barrier:name`: a meeting point.
    Barrier = "barrier" &[("mode", Mode), ("participants", Number), ("parties", Number)];
    /// `lease:name`: a pool of slots, each with a holder and what is known about what it stands for.
    Lease = "lease" &[("mode", Mode), ("participants", Number), ("slots", Number), ("room", Number), ("fair", Flag),
        ("expires", Number), ("groups", Shares)];
    /// `log:name`: one file that all processes log into.
    Log = "log" &[("mode", Mode), ("participants", Number), ("file", Text), ("format", Word(&["text", "json", "logfmt"])),
        ("through", Word(&["ring", "mq", "sysv-mq"])), ("capacity", Number), ("largest", Number), ("full", Word(&["wait", "drop"])), ("rotate-size", Number),
        ("rotate-every", Number), ("keep", Number), ("compress", Flag), ("sync", Word(&["never", "interval", "always"])),
        ("sync-every", Number)];
}

impl Scheme {
    pub(super) fn named(name: &str) -> Option<Scheme> {
        Scheme::ALL.iter().copied().find(|scheme| scheme.as_str() == name)
    }

    /// Whether objects of this kind live in a segment of wigwag's own.
    pub(super) fn is_segment(self) -> bool {
        use Scheme::{Barrier, Cell, Condition, Event, Lease, Log, Mutex, Permits, Ring, RwLock, Topic};
        matches!(self, Ring | Topic | Cell | Mutex | Permits | Event | Condition | RwLock | Barrier | Lease | Log)
    }

    /// Options that say how a channel uses the object, and mean nothing to the object itself.
    pub(super) fn channel_options(self) -> &'static [&'static str] {
        match self {
            Scheme::Tcp | Scheme::Unix | Scheme::Pipe | Scheme::Fifo => &["framing", "largest"],
            Scheme::Topic => &["lossy", "history"],
            Scheme::File => &["largest", "fsync", "interval", "segment", "retain", "age", "reader", "from"],
            _ => &[],
        }
    }

    pub(super) fn list() -> String {
        Scheme::ALL.iter().map(|scheme| format!("{scheme}:")).collect::<Vec<_>>().join(" ")
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
