//! How answers find back to their callers: where a mechanism knows no senders, each caller has a channel of its own.
//!
//! Its name is the address of the questions, `-` and the caller's number; over System V queues, whose names are keys, one
//! that is made from the number. Anybody's queue may have such a key, and a number is what a message says: so a queue for
//! answers has a mark that only its owner can have given it, and another is neither written to nor removed. The mark is how
//! many bytes it may hold: an odd number, of which the last digits come from the key.
//!
//! Whoever makes such a channel removes it; what a killed caller has left is removed by the server that has an answer for it, and
//! by the next that opens either side. A server never makes one, so that nothing comes after a caller that has closed.

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::{Capabilities, Channel};
use crate::address::{Address, Scheme, SysvName};
use crate::error::{Error, Result};
use crate::mq::{MqAccess, SysvMq, SysvMqOptions, SysvSelect};
use crate::segment;
use crate::sys::fork;
use crate::timeout::Timeout;

/// A caller's number: the process (22 bits, Linux has no larger ones), its namespace of pids (20 bits of a hash, 0 if unknown), and
/// chance.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct CallerNumber(pub u64);

const CHANCE_BITS: u32 = 22;
const SPACE_BITS: u32 = 20;

impl CallerNumber {
    /// Its process, and below it the namespace.
    fn process(self) -> u64 {
        self.0 >> CHANCE_BITS
    }
}

/// Names that a look for leftovers goes through at most.
const LOOKED_AT: usize = 4096;

/// Whose deaths this process can see.
#[derive(Clone, Copy)]
pub(super) struct Horizon(u64);

impl Horizon {
    /// That of this process.
    pub fn own() -> Horizon {
        let namespace = segment::namespace();
        Horizon((namespace ^ namespace >> 32) & ((1 << SPACE_BITS) - 1))
    }

    /// A number that no other caller has.
    pub fn number(self) -> CallerNumber {
        use std::hash::{BuildHasher, RandomState};
        let chance = RandomState::new().hash_one(0) & ((1 << CHANCE_BITS) - 1);
        let process = u64::from(std::process::id()) << SPACE_BITS | self.0;
        CallerNumber(process << CHANCE_BITS | chance)
    }

    /// Whether that caller's process is certainly no more; another one may have its pid by now.
    pub fn is_gone(self, caller: CallerNumber) -> bool {
        let process = caller.process();
        if self.0 == 0 || process & ((1 << SPACE_BITS) - 1) != self.0 {
            return false; // of another namespace, as far as can be told
        }
        let pid = i32::try_from(process >> SPACE_BITS).unwrap_or_default();
        pid > 0 && kill(Pid::from_raw(pid), None) == Err(Errno::ESRCH)
    }
}

pub(super) enum WayBack {
    /// The way the question came.
    Same,
    /// A channel of the caller's own.
    Own,
}

pub(super) fn way_back(address: &Address) -> Result<WayBack> {
    if Capabilities::of(address)?.answers {
        return Ok(WayBack::Same);
    }
    match address.scheme() {
        Scheme::Mq | Scheme::Ring | Scheme::Fifo => Ok(WayBack::Own),
        Scheme::SysvMq if address.sysv_name() != Some(SysvName::Private) => Ok(WayBack::Own),
        _ => Err(Error::new(Errno::ENOTSUP, "call").on_text(address.to_string()).because(
            "no way leads back over it; calls work over tcp: unix: unix-seqpacket: udp: unix-dgram: mq: sysv-mq: ring: and fifo:",
        )),
    }
}

/// A caller's own channel for answers, which goes with it. In a child made by fork it is the parent's.
pub(super) struct Answers {
    pub channel: Channel,
    /// While one server dies, another may be at the answer.
    _lasting: Option<Channel>,
    address: Address,
    generation: u32,
}

impl Answers {
    /// Makes that of a caller, whose number it gives too.
    pub fn make(base: &Address, horizon: Horizon, timeout: Timeout) -> Result<(CallerNumber, Answers)> {
        remove_leftovers(base, horizon);
        let generation = fork::generation();
        loop {
            let number = horizon.number();
            let address = address_of(base, number)?;
            if base.scheme() == Scheme::SysvMq {
                let options = SysvMqOptions { bytes: marked_size(base, number)?, ..Default::default() };
                match SysvMq::create(&address, &options) {
                    Err(error) if error.is(Errno::EEXIST) => continue, // somebody else's key
                    created => sign(&created?)?,
                }
            }
            let opened = open_lasting(&address, timeout);
            let (channel, lasting) = opened.inspect_err(|_| drop(Channel::remove(&address)))?;
            return Ok((number, Answers { channel, _lasting: lasting, address, generation }));
        }
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        if self.generation == fork::generation() {
            let _ = Channel::remove(&self.address); // a server that found us dead may have done so
        }
    }
}

/// Where the answers for this caller go.
pub(super) fn address_of(base: &Address, caller: CallerNumber) -> Result<Address> {
    let mut name = base.name().to_vec();
    if base.scheme() == Scheme::SysvMq {
        name = format!("0x{:08x}", key_of(caller)).into_bytes();
    } else {
        name.extend_from_slice(format!("-{:016x}", caller.0).as_bytes());
    }
    // See `marked_size`. As many as share the questions are not at the answers of one.
    kept_open(base, name, None, |key| !matches!(key, "bytes" | "participants"))
}

/// The address of this name and those options of `base` that count; over a FIFO one that waits for senders before there are any,
/// and for others when they have gone.
fn kept_open(base: &Address, name: Vec<u8>, id: Option<u8>, counts: impl Fn(&str) -> bool) -> Result<Address> {
    let options = base.options().filter(|(key, _)| counts(key));
    let mut options: Vec<(&str, String)> =
        options.map(|(key, value)| (key, String::from_utf8_lossy(value).into_owned())).collect();
    if base.scheme() == Scheme::Fifo && base.option("keep-open").is_none() {
        options.push(("keep-open", "1".into()));
    }
    Address::from_parts(base.scheme(), name, id, options.iter().map(|(key, value)| (*key, value.as_str())))
}

/// Opens a channel for receiving that does not end when the last sender goes, as others may come: with what keeps it so.
pub(super) fn open_lasting(address: &Address, timeout: Timeout) -> Result<(Channel, Option<Channel>)> {
    let address = kept_open(address, address.name().to_vec(), address.id(), |_| true)?;
    let receiver = Channel::open_receiver(&address, timeout)?;
    let ends = address.scheme() == Scheme::Ring && Channel::capabilities(&address)?.ends;
    let sender = if ends { Some(Channel::open_sender(&address, Timeout::Now)?) } else { None };
    Ok((receiver, sender))
}

fn key_of(caller: CallerNumber) -> u32 {
    crc32fast::hash(&caller.0.to_le_bytes()).max(1) // 0 is that of private queues
}

/// The sizes of queues for answers, modulo this, are their marks.
const MARKS: usize = 2048;

fn mark(key: u32) -> usize {
    (crc32fast::hash(&key.to_le_bytes()) as usize | 1) % MARKS
}

/// How many bytes the queue for answers of a caller may hold: what the address says, or else the system, give or take the
/// mark.
fn marked_size(base: &Address, caller: CallerNumber) -> Result<usize> {
    let usual = SysvMq::limits()?.bytes_max;
    let wanted = base.number("bytes").map_or(usual, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
    let marked = wanted - wanted % MARKS + mark(key_of(caller));
    let marked = if marked < wanted { marked.saturating_add(MARKS) } else { marked };
    if marked <= usual.max(wanted) {
        return Ok(marked);
    }
    marked.checked_sub(MARKS).ok_or_else(|| {
        Error::new(Errno::ENOSPC, "call").on_text(base.to_string()).because_found(format!(
            "a queue for answers takes {marked} bytes, and kernel.msgmnb allows {usual}; raise it"
        ))
    })
}

/// Leaves this process's pid in its new queue, as that of whoever received last.
fn sign(queue: &SysvMq) -> Result<()> {
    let signed = queue.send(b"", 1, Timeout::Now).and_then(|()| queue.recv(SysvSelect::Any, Timeout::Now));
    signed.map(drop).inspect_err(|_| drop(queue.unlink())) // it is ours, and nobody knows of it
}

/// Opens the queue for answers at `address`, which another caller has made.
///
/// # Errors
/// `EPERM` the queue there is none for answers; `EACCES` this user may not write to it, or not look at it.
pub(super) fn queue_for_answers(address: &Address) -> Result<SysvMq> {
    let queue = SysvMq::open(address, &SysvMqOptions { access: MqAccess::Send, ..Default::default() })?;
    let status = queue.status()?;
    if status.bytes_max % MARKS == mark(status.key.cast_unsigned()) {
        return Ok(queue);
    }
    Err(Error::new(Errno::EPERM, "answer").on_text(address.to_string()).because(
        "the queue with the key that the question names is none that a caller has made for answers; it was left alone",
    ))
}

/// Removes the channel for answers of a caller that is gone, if it is there still.
pub(super) fn remove_of(base: &Address, caller: CallerNumber) -> Result<()> {
    let address = address_of(base, caller)?;
    if base.scheme() != Scheme::SysvMq {
        return Channel::remove(&address);
    }
    let queue = queue_for_answers(&address)?;
    // Another caller's may have the same key; that one lives, unless it had the same pid.
    match u64::try_from(queue.status()?.last_receiver) {
        Ok(pid) if pid == caller.process() >> SPACE_BITS => queue.unlink(),
        _ => Err(Error::new(Errno::EPERM, "remove").on_text(address.to_string()).because("it is another caller's")),
    }
}

/// Removes the channels for answers that killed callers have left, as far as they can be listed: POSIX queues only where
/// `/dev/mqueue` is mounted, System V queues not, whose keys do not tell what they are. Best effort: what stays is looked at by the next.
pub(super) fn remove_leftovers(base: &Address, horizon: Horizon) {
    let path = match base.scheme() {
        Scheme::SysvMq => return,
        Scheme::Ring => segment::path_of(base),
        Scheme::Mq => std::path::Path::new("/dev/mqueue").join(base.path().strip_prefix("/").unwrap_or(base.path())),
        _ => base.path().to_owned(),
    };
    let (Some(directory), Some(stem)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return;
    };
    let directory = if directory.as_os_str().is_empty() { std::path::Path::new(".") } else { directory };
    let (stem, end) = match base.name().contains(&b'/') || base.scheme() != Scheme::Ring {
        true => (stem, ""),
        false => (stem.strip_suffix(".ring").unwrap_or(stem), ".ring"), // where segments lie that are named by a word
    };
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries.take(LOOKED_AT).flatten() {
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| {
            let digits = name.strip_prefix(stem)?.strip_prefix('-')?.strip_suffix(end)?;
            let number = u64::from_str_radix(digits, 16).ok()?;
            (digits == format!("{number:016x}")).then_some(CallerNumber(number))
        });
        if let Some(caller) = number.filter(|caller| horizon.is_gone(*caller)) {
            let _ = remove_of(base, caller);
        }
    }
}
