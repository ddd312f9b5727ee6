//! What an address says about how its log is used.

use std::time::Duration;

use nix::errno::Errno;

use super::appender::Limits;
use super::fault::{Fault, Outcome};
use super::position;
use super::reader::From;
use super::syncing::Policy;
use crate::address::Address;
use crate::channel::framing;

const SEGMENT: u64 = 16 << 20;
/// What a segment is good for at least.
const LEAST: u64 = 4096;
const INTERVAL: Duration = Duration::from_secs(1);
const MODE: u32 = 0o600;

pub(super) struct Options {
    pub mode: u32,
    pub largest: usize,
    pub policy: Policy,
    pub limits: Limits,
    pub from: From,
    pub reader: Option<String>,
}

impl Options {
    pub fn of(address: &Address) -> Outcome<Options> {
        let wrong = |reason: String| Err(Fault::new(Errno::EINVAL, reason));
        let retain = address.number("retain").unwrap_or(0);
        let segment = address.number("segment").unwrap_or(match retain {
            0 => SEGMENT,
            retain => (retain / 4).clamp(LEAST, SEGMENT),
        });
        if segment < LEAST {
            return wrong(format!("segment={segment} is less than {LEAST} bytes"));
        }
        if retain > 0 && retain / 2 < segment {
            return wrong(format!(
                "retain={retain} has no room for two segments of {segment} bytes; what goes are whole segments"
            ));
        }
        let interval = address.number("interval");
        let policy = match (address.option("fsync"), interval) {
            (_, Some(0)) => return wrong("interval=0 is no time; fsync=every syncs each message".into()),
            (None | Some(b"interval"), interval) => Policy::Interval(interval.map_or(INTERVAL, Duration::from_millis)),
            (Some(_), Some(_)) => return wrong("interval= goes with fsync=interval alone".into()),
            (Some(b"every"), None) => Policy::Every,
            (Some(_), None) => Policy::Never,
        };
        let reader = match address.option("reader").map(|name| String::from_utf8(name.to_vec())) {
            Some(Ok(name)) => Some(name),
            Some(Err(_)) => return wrong("a reader's name is UTF-8".into()),
            None => None,
        };
        reader.as_deref().map_or(Ok(()), position::check_name)?;
        Ok(Options {
            mode: address.mode().unwrap_or(MODE),
            largest: largest(address),
            policy,
            limits: Limits { segment, retain, age: Duration::from_secs(address.number("age").unwrap_or(0)) },
            from: if address.option("from") == Some(b"newest") { From::Newest } else { From::Oldest },
            reader,
        })
    }
}

/// Bytes of a message: a record's length has 32 bits.
pub(in crate::channel) fn largest(address: &Address) -> usize {
    let most = (u32::MAX - 4096) as usize;
    let asked = address.number("largest").map(|asked| usize::try_from(asked).unwrap_or(most));
    asked.unwrap_or(framing::LARGEST).min(most)
}
