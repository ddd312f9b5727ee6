//! A record, and how it travels.
//!
//! ```text
//! 0  identity u64   8 time u64   16 dropped u64   24 pid u32   28 tid u32   32 line u32   36 message length u32
//! 40 target length u16   42 file length u16   44 fields length u32   48 fields u16   50 level u8   51 kind u8   52 cut u32
//! 56 target, file, message; then for each field: key length u16, kind u8, 0 u8, value length u32, key, value
//! ```

/// How much a record matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum LogLevel {
    /// Each step.
    Trace = 1,
    /// What helps to find faults.
    Debug = 2,
    /// What happens as it should.
    #[default]
    Info = 3,
    /// What may have to be looked at.
    Warn = 4,
    /// What has failed.
    Error = 5,
    /// What ends the program.
    Fatal = 6,
    /// As a filter: nothing is logged. As a record's level, the same as `Fatal`.
    Off = 7,
}

impl LogLevel {
    /// From its number; 1 is `Trace`, 7 is `Off`.
    pub fn from_number(number: u32) -> Option<LogLevel> {
        use LogLevel::{Debug, Error, Fatal, Info, Off, Trace, Warn};
        [Trace, Debug, Info, Warn, Error, Fatal, Off].into_iter().find(|level| *level as u32 == number)
    }

    /// Its name, in capitals.
    pub fn name(self) -> &'static str {
        match self {
            LogLevel::Trace => "TRACE",
            LogLevel::Debug => "DEBUG",
            LogLevel::Info => "INFO",
            LogLevel::Warn => "WARN",
            LogLevel::Error => "ERROR",
            LogLevel::Fatal => "FATAL",
            LogLevel::Off => "OFF",
        }
    }
}

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LogValue<'a> {
    /// Text.
    Text(&'a str),
    /// A number.
    Signed(i64),
    /// A number.
    Unsigned(u64),
    /// A number.
    Float(f64),
    /// Yes or no.
    Flag(bool),
}

/// What is logged. Time, process and thread are added by `log`.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogRecord<'a> {
    /// How much it matters.
    pub level: LogLevel,
    /// Which part of the program speaks; may be empty.
    pub target: &'a str,
    /// The source file; may be empty.
    pub file: &'a str,
    /// The line in it; 0 for none.
    pub line: u32,
    /// The message.
    pub message: &'a str,
    /// Further facts, by their names.
    pub fields: &'a [(&'a str, LogValue<'a>)],
}

/// Where and when a record was made; by default here and now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogOrigin {
    /// Nanoseconds since 1970; 0: now.
    pub time: u64,
    /// The process; 0: this one and this thread.
    pub pid: u32,
    /// The thread of that process; 0: it is not known.
    pub tid: u32,
}

pub(super) const HEADER: usize = 56;
const FIELD: usize = 8;

/// What a message is.
pub(super) const RECORD: u8 = 1;
/// Asks for an answer once all before it is written; `pid` is the place of the answer, `time` the answer.
pub(super) const MARK: u8 = 2;

/// What `log` adds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Envelope {
    pub identity: u64,
    pub time: u64,
    /// How many records had been dropped when this one was sent.
    pub dropped: u64,
    pub pid: u32,
    pub tid: u32,
}

fn short(text: &str, most: usize) -> &str {
    if text.len() <= most {
        return text;
    }
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

fn value_length(value: &LogValue<'_>) -> usize {
    match value {
        LogValue::Text(text) => text.len(),
        LogValue::Flag(_) => 1,
        _ => 8,
    }
}

/// A record's parts as they will travel, cut where they do not fit.
pub(super) struct Parcel<'a> {
    record: &'a LogRecord<'a>,
    target: &'a str,
    file: &'a str,
    message: &'a str,
    fields: usize,
    fields_length: usize,
    /// Bytes that were left out.
    pub cut: usize,
    pub length: usize,
}

impl<'a> Parcel<'a> {
    pub fn new(record: &'a LogRecord<'a>, largest: usize) -> Parcel<'a> {
        let side = (largest - HEADER) / 4;
        let (target, file) =
            (short(record.target, side.min(u16::MAX.into())), short(record.file, side.min(u16::MAX.into())));
        let mut left = largest - HEADER - target.len() - file.len();
        // Fields have room before the message, whose beginning tells most.
        let for_fields = left - left.min(record.message.len()).min(left / 2);
        let (mut fields, mut fields_length) = (0, 0);
        for (key, value) in record.fields.iter().take(u16::MAX.into()) {
            let length = FIELD + key.len() + value_length(value);
            if key.len() > u16::MAX.into() || fields_length + length > for_fields {
                break;
            }
            (fields, fields_length) = (fields + 1, fields_length + length);
        }
        left -= fields_length;
        let message = short(record.message, left);
        let lost: usize = record.fields.iter().skip(fields).map(|(key, value)| key.len() + value_length(value)).sum();
        let cut = (record.target.len() - target.len())
            + (record.file.len() - file.len())
            + (record.message.len() - message.len())
            + lost;
        let length = HEADER + target.len() + file.len() + message.len() + fields_length;
        Parcel { record, target, file, message, fields, fields_length, cut, length }
    }

    /// Hands all bytes to `put`, with where each piece goes.
    pub fn write(&self, envelope: &Envelope, mut put: impl FnMut(usize, &[u8])) {
        let level = self.record.level.min(LogLevel::Fatal) as u8;
        put(0, &header(envelope, self, level));
        let mut at = HEADER;
        let mut next = |bytes: &[u8]| {
            put(at, bytes);
            at += bytes.len();
        };
        next(self.target.as_bytes());
        next(self.file.as_bytes());
        next(self.message.as_bytes());
        for (key, value) in self.record.fields.iter().take(self.fields) {
            let mut prefix = [0; FIELD];
            prefix[..2].copy_from_slice(&(key.len() as u16).to_ne_bytes());
            prefix[2] = match value {
                LogValue::Text(_) => 0,
                LogValue::Signed(_) => 1,
                LogValue::Unsigned(_) => 2,
                LogValue::Float(_) => 3,
                LogValue::Flag(_) => 4,
            };
            prefix[4..].copy_from_slice(&(value_length(value) as u32).to_ne_bytes());
            next(&prefix);
            next(key.as_bytes());
            match value {
                LogValue::Text(text) => next(text.as_bytes()),
                LogValue::Signed(number) => next(&number.to_ne_bytes()),
                LogValue::Unsigned(number) => next(&number.to_ne_bytes()),
                LogValue::Float(number) => next(&number.to_ne_bytes()),
                LogValue::Flag(flag) => next(&[u8::from(*flag)]),
            }
        }
    }
}

fn header(envelope: &Envelope, parcel: &Parcel<'_>, level: u8) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0, &envelope.identity.to_ne_bytes());
    put(8, &envelope.time.to_ne_bytes());
    put(16, &envelope.dropped.to_ne_bytes());
    put(24, &envelope.pid.to_ne_bytes());
    put(28, &envelope.tid.to_ne_bytes());
    put(32, &parcel.record.line.to_ne_bytes());
    put(36, &(parcel.message.len() as u32).to_ne_bytes());
    put(40, &(parcel.target.len() as u16).to_ne_bytes());
    put(42, &(parcel.file.len() as u16).to_ne_bytes());
    put(44, &(parcel.fields_length as u32).to_ne_bytes());
    put(48, &(parcel.fields as u16).to_ne_bytes());
    put(50, &[level, RECORD]);
    put(52, &(parcel.cut.min(u32::MAX as usize) as u32).to_ne_bytes());
    bytes
}

/// The message of a mark. `dropped`: as in a record, so that what was dropped before is told before it is answered.
pub(super) fn mark(place: u32, answer: u64, dropped: u64) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    bytes[8..16].copy_from_slice(&answer.to_ne_bytes());
    bytes[16..24].copy_from_slice(&dropped.to_ne_bytes());
    bytes[24..28].copy_from_slice(&place.to_ne_bytes());
    bytes[51] = MARK;
    bytes
}

/// A record as it arrived: bytes of a peer, checked.
#[derive(Debug, PartialEq)]
pub(super) struct Arrived<'a> {
    pub envelope: Envelope,
    pub level: LogLevel,
    pub kind: u8,
    pub line: u32,
    pub cut: u32,
    pub target: &'a [u8],
    pub file: &'a [u8],
    pub message: &'a [u8],
    fields: &'a [u8],
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

fn split<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (part, behind) = rest.split_at_checked(length)?;
    *rest = behind;
    Some(part)
}

impl<'a> Arrived<'a> {
    /// `None` if it is no message of a log.
    pub fn read(bytes: &'a [u8]) -> Option<Arrived<'a>> {
        let (u16_at, u32_at) =
            (|at| number(bytes, at).map(u16::from_ne_bytes), |at| number(bytes, at).map(u32::from_ne_bytes));
        let u64_at = |at| number(bytes, at).map(u64::from_ne_bytes);
        let [level, kind] = number(bytes, 50)?;
        let level = LogLevel::from_number(level.into());
        if kind != RECORD && kind != MARK || kind == RECORD && level.is_none() {
            return None;
        }
        let mut rest = bytes.get(HEADER..)?;
        let target = split(&mut rest, u16_at(40)?.into())?;
        let file = split(&mut rest, u16_at(42)?.into())?;
        let message = split(&mut rest, u32_at(36)? as usize)?;
        let fields = split(&mut rest, u32_at(44)? as usize)?;
        let envelope = Envelope {
            identity: u64_at(0)?,
            time: u64_at(8)?,
            dropped: u64_at(16)?,
            pid: u32_at(24)?,
            tid: u32_at(28)?,
        };
        let level = level.unwrap_or_default();
        Some(Arrived { envelope, level, kind, line: u32_at(32)?, cut: u32_at(52)?, target, file, message, fields })
    }

    /// One that the log itself has to say, with its fields as they would travel.
    pub fn own(time: u64, pid: u32, level: LogLevel, message: &'a str, fields: &'a [u8]) -> Arrived<'a> {
        let envelope = Envelope { time, pid, tid: pid, ..Default::default() };
        let (target, file, message) = (&b"wigwag.log"[..], &b""[..], message.as_bytes());
        Arrived { envelope, level, kind: RECORD, line: 0, cut: 0, target, file, message, fields }
    }

    /// Its fields, up to the first that is none.
    pub fn fields(&self) -> impl Iterator<Item = (&'a [u8], FieldValue<'a>)> {
        let mut rest = self.fields;
        std::iter::from_fn(move || {
            let prefix = split(&mut rest, FIELD)?;
            let (key, kind, length) =
                (u16::from_ne_bytes(number(prefix, 0)?), *prefix.get(2)?, u32::from_ne_bytes(number(prefix, 4)?));
            let key = split(&mut rest, key.into())?;
            let value = split(&mut rest, length as usize)?;
            Some((
                key,
                match kind {
                    0 => FieldValue::Text(value),
                    1 => FieldValue::Signed(i64::from_ne_bytes(number(value, 0)?)),
                    2 => FieldValue::Unsigned(u64::from_ne_bytes(number(value, 0)?)),
                    3 => FieldValue::Float(f64::from_ne_bytes(number(value, 0)?)),
                    4 => FieldValue::Flag(*value.first()? != 0),
                    _ => return None,
                },
            ))
        })
    }
}

/// What a field holds, as it arrived.
#[derive(Debug, PartialEq)]
pub(super) enum FieldValue<'a> {
    Text(&'a [u8]),
    Signed(i64),
    Unsigned(u64),
    Float(f64),
    Flag(bool),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(record: &LogRecord<'_>, largest: usize) -> Vec<u8> {
        let parcel = Parcel::new(record, largest);
        assert!(parcel.length <= largest);
        let mut bytes = vec![0; parcel.length];
        parcel.write(&Envelope { identity: 7, ..Default::default() }, |at, piece| {
            bytes[at..at + piece.len()].copy_from_slice(piece);
        });
        bytes
    }

    #[test]
    fn arrives_as_it_was_sent() {
        let fields = [
            ("a", LogValue::Text("x")),
            ("b", LogValue::Signed(-1)),
            ("c", LogValue::Float(0.5)),
            ("d", LogValue::Flag(true)),
        ];
        let record =
            LogRecord { level: LogLevel::Warn, target: "t", file: "f", line: 3, message: "m", fields: &fields };
        let sent = bytes(&record, 4000);
        let arrived = Arrived::read(&sent).unwrap();
        assert_eq!((arrived.target, arrived.file, arrived.message), (&b"t"[..], &b"f"[..], &b"m"[..]));
        assert_eq!((arrived.level, arrived.line, arrived.cut, arrived.envelope.identity), (LogLevel::Warn, 3, 0, 7));
        let fields: Vec<_> = arrived.fields().collect();
        assert_eq!(fields[1], (&b"b"[..], FieldValue::Signed(-1)));
        assert_eq!(fields.len(), 4);
    }

    #[test]
    fn what_is_too_long_is_cut_between_characters_and_counted() {
        let message = "ü".repeat(300);
        let record = LogRecord { message: &message, fields: &[("k", LogValue::Signed(1))], ..Default::default() };
        let sent = bytes(&record, 256);
        let arrived = Arrived::read(&sent).unwrap();
        assert!(std::str::from_utf8(arrived.message).is_ok());
        assert_eq!(arrived.message.len() + arrived.cut as usize, 600);
        assert_eq!(arrived.fields().count(), 1);
    }

    #[test]
    fn bytes_that_are_no_record_are_told() {
        let sent = bytes(&LogRecord { message: "whole", ..Default::default() }, 4000);
        for length in 0..sent.len() {
            assert_eq!(Arrived::read(&sent[..length]), None, "cut at {length}");
        }
        assert_eq!(Arrived::read(&[0xff; 80]), None);
        assert_eq!(Arrived::read(&[0; 80]), None);
    }
}
