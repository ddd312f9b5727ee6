//! How records look in the file.

use std::borrow::Cow;
use std::io::Write;
use std::time::{Duration, UNIX_EPOCH};

use super::options::LogFormat;
use super::record::{Arrived, FieldValue, LogLevel};

/// Appends records to a buffer. Writing to a vector cannot fail, hence the results that are let go here.
pub(super) struct Formatter {
    format: LogFormat,
    /// The second that `text` stands for; most records are of the same as the one before.
    second: Option<u64>,
    text: String,
}

impl Formatter {
    pub fn new(format: LogFormat) -> Formatter {
        Formatter { format, second: None, text: String::new() }
    }

    fn time(&mut self, out: &mut Vec<u8>, nanos: u64) {
        let (second, rest) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
        if self.second != Some(second) {
            let time = UNIX_EPOCH + Duration::from_secs(second);
            self.text = humantime::format_rfc3339_seconds(time).to_string();
            self.text.pop(); // the Z, which comes behind the nanoseconds
            self.second = Some(second);
        }
        out.extend_from_slice(self.text.as_bytes());
        let start = out.len();
        integer(out, 1_000_000_000 + rest);
        if let Some(first) = out.get_mut(start) {
            *first = b'.'; // instead of the 1 that keeps the zeros
        }
        out.push(b'Z');
    }

    pub fn record(&mut self, out: &mut Vec<u8>, record: &Arrived<'_>) {
        match self.format {
            LogFormat::Json => self.json(out, record),
            LogFormat::Logfmt => self.logfmt(out, record),
            LogFormat::Text | LogFormat::Default => self.text(out, record),
        }
        out.push(b'\n');
    }

    /// A line of the log's own.
    pub fn note(&mut self, out: &mut Vec<u8>, time: u64, message: &str, key: &str, value: u64) {
        let mut field = Vec::with_capacity(64);
        field.extend_from_slice(&(key.len() as u16).to_ne_bytes());
        field.extend_from_slice(&[2, 0]);
        field.extend_from_slice(&8u32.to_ne_bytes());
        field.extend_from_slice(key.as_bytes());
        field.extend_from_slice(&value.to_ne_bytes());
        let pid = std::process::id();
        self.record(out, &Arrived::own(time, pid, LogLevel::Warn, message, &field));
    }

    fn text(&mut self, out: &mut Vec<u8>, record: &Arrived<'_>) {
        self.time(out, record.envelope.time);
        out.push(b' ');
        out.extend_from_slice(record.level.name().as_bytes());
        out.extend_from_slice(b"      ".get(record.level.name().len()..).unwrap_or_default()); // five and one
        integer(out, record.envelope.pid);
        out.push(b'/');
        integer(out, record.envelope.tid);
        if !record.target.is_empty() {
            out.push(b' ');
            bare(out, record.target);
        }
        if !record.file.is_empty() {
            out.push(b' ');
            bare(out, record.file);
            out.push(b':');
            integer(out, record.line);
        }
        out.extend_from_slice(b": ");
        if is_plain(record.message) {
            out.extend_from_slice(record.message);
        } else {
            for (n, line) in record.message.split(|byte| *byte == b'\n').enumerate() {
                if n > 0 {
                    out.extend_from_slice(b"\n\t"); // so that no message can look like another record
                }
                escaped(out, line, |character| character == '\t');
            }
        }
        for (key, value) in record.fields() {
            out.push(b' ');
            pair(out, key, &value);
        }
        if record.cut > 0 {
            let _ = write!(out, " ({} bytes cut)", record.cut);
        }
    }

    fn logfmt(&mut self, out: &mut Vec<u8>, record: &Arrived<'_>) {
        out.extend_from_slice(b"time=");
        self.time(out, record.envelope.time);
        let level = record.level.name().to_ascii_lowercase();
        let _ = write!(out, " level={level} pid={} tid={}", record.envelope.pid, record.envelope.tid);
        if !record.target.is_empty() {
            out.push(b' ');
            pair(out, b"target", &FieldValue::Text(record.target));
        }
        if !record.file.is_empty() {
            out.push(b' ');
            pair(out, b"file", &FieldValue::Text(record.file));
            let _ = write!(out, " line={}", record.line);
        }
        out.push(b' ');
        pair(out, b"msg", &FieldValue::Text(record.message));
        for (key, value) in record.fields() {
            out.push(b' ');
            pair(out, key, &value);
        }
        if record.cut > 0 {
            let _ = write!(out, " cut={}", record.cut);
        }
    }

    fn json(&mut self, out: &mut Vec<u8>, record: &Arrived<'_>) {
        out.extend_from_slice(b"{\"time\":\"");
        self.time(out, record.envelope.time);
        let level = record.level.name().to_ascii_lowercase();
        let _ = write!(out, "\",\"level\":\"{level}\",\"pid\":{},\"tid\":{}", record.envelope.pid, record.envelope.tid);
        if !record.target.is_empty() {
            out.extend_from_slice(b",\"target\":");
            quoted(out, record.target);
        }
        if !record.file.is_empty() {
            out.extend_from_slice(b",\"file\":");
            quoted(out, record.file);
            let _ = write!(out, ",\"line\":{}", record.line);
        }
        out.extend_from_slice(b",\"message\":");
        quoted(out, record.message);
        for (n, (key, value)) in record.fields().enumerate() {
            out.extend_from_slice(if n == 0 { b",\"fields\":{" } else { b"," });
            quoted(out, key);
            out.push(b':');
            match value {
                FieldValue::Text(text) => quoted(out, text),
                FieldValue::Float(number) if !number.is_finite() => out.extend_from_slice(b"null"),
                value => plain(out, &value),
            }
        }
        if record.fields().next().is_some() {
            out.push(b'}');
        }
        if record.cut > 0 {
            let _ = write!(out, ",\"cut\":{}", record.cut);
        }
        out.push(b'}');
    }
}

/// A JSON string (RFC 8259) without control characters, also those that JSON allows: who looks at a log has a terminal, and
/// that obeys them. By hand: a JSON library's comparisons of numbers with its values, once in the tree of a program, leave the
/// compiler in doubt about comparisons there that have nothing to do with it.
fn quoted(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    let text = str::from_utf8(text).map_or_else(|_| String::from_utf8_lossy(text), Cow::Borrowed);
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20 | 0x7f | 0xc2)) {
        let (run, special) = rest.split_at(at);
        out.extend_from_slice(run);
        let mut length = 1;
        match special {
            [b'\n', ..] => out.extend_from_slice(b"\\n"),
            [b'\r', ..] => out.extend_from_slice(b"\\r"),
            [b'\t', ..] => out.extend_from_slice(b"\\t"),
            [byte @ (0..0x20 | 0x7f), ..] => drop(write!(out, "\\u{byte:04x}")),
            // U+0080 to U+009F in UTF-8.
            [0xc2, byte @ 0x80..0xa0, ..] => {
                let _ = write!(out, "\\u{byte:04x}");
                length = 2;
            }
            [0xc2, ..] => out.push(0xc2),
            [byte, ..] => out.extend_from_slice(&[b'\\', *byte]),
            [] => {}
        }
        rest = special.get(length..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

fn integer(out: &mut Vec<u8>, number: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

fn plain(out: &mut Vec<u8>, value: &FieldValue<'_>) {
    match value {
        FieldValue::Text(text) => out.extend_from_slice(text),
        FieldValue::Signed(number) => integer(out, *number),
        FieldValue::Unsigned(number) => integer(out, *number),
        FieldValue::Float(number) => drop(write!(out, "{number:?}")),
        FieldValue::Flag(flag) => drop(write!(out, "{flag}")),
    }
}

/// `key=value`, the value in quotes where it would not be one word.
fn pair(out: &mut Vec<u8>, key: &[u8], value: &FieldValue<'_>) {
    bare(out, key);
    out.push(b'=');
    match value {
        FieldValue::Text(text) => {
            let is_word = !text.is_empty()
                && text.iter().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'=' | b'\\'));
            if is_word { out.extend_from_slice(text) } else { quoted(out, text) }
        }
        value => plain(out, value),
    }
}

/// As one word.
fn bare(out: &mut Vec<u8>, text: &[u8]) {
    let splits = |byte: &u8| matches!(byte, b' ' | b'=' | b'"');
    if is_plain(text) && !has_any(text, splits) {
        return out.extend_from_slice(text);
    }
    let start = out.len();
    escaped(out, text, |_| false);
    for byte in out.iter_mut().skip(start) {
        if splits(byte) {
            *byte = b'_';
        }
    }
}

/// Whether there is such a byte. Looks at all of them, which takes less time than to stop at the first: many at once.
#[inline]
fn has_any(text: &[u8], such: impl Fn(&u8) -> bool) -> bool {
    text.iter().fold(false, |any, byte| any | such(byte))
}

/// Whether it is of printable ASCII characters only.
fn is_plain(text: &[u8]) -> bool {
    !has_any(text, |byte| !matches!(byte, 0x20..0x7f))
}

/// Without control characters, but for those that `keep` names.
fn escaped(out: &mut Vec<u8>, text: &[u8], keep: impl Fn(char) -> bool) {
    if is_plain(text) {
        return out.extend_from_slice(text);
    }
    for chunk in text.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() && !keep(character) {
                let _ = write!(out, "{}", character.escape_default());
            } else {
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::{Envelope, LogRecord, LogValue, Parcel};
    use super::*;

    fn formatted(format: LogFormat, record: &LogRecord<'_>) -> String {
        let parcel = Parcel::new(record, 4000);
        let mut bytes = vec![0; parcel.length];
        let envelope = Envelope { time: 1_000_000_000_000_000_001, pid: 2, tid: 3, ..Default::default() };
        parcel.write(&envelope, |at, piece| bytes[at..at + piece.len()].copy_from_slice(piece));
        let mut out = Vec::new();
        Formatter::new(format).record(&mut out, &Arrived::read(&bytes).unwrap());
        String::from_utf8(out).unwrap()
    }

    const RECORD: LogRecord<'static> = LogRecord {
        level: LogLevel::Info,
        target: "net",
        file: "a.rs",
        line: 7,
        message: "two\nlines\u{1b}",
        fields: &[("n", LogValue::Unsigned(1)), ("who", LogValue::Text("a b"))],
    };

    #[test]
    fn text_keeps_records_apart() {
        assert_eq!(
            formatted(LogFormat::Text, &RECORD),
            "2001-09-09T01:46:40.000000001Z INFO  2/3 net a.rs:7: two\n\tlines\\u{1b} n=1 who=\"a b\"\n"
        );
    }

    #[test]
    fn json_is_one_line() {
        assert_eq!(
            formatted(LogFormat::Json, &RECORD),
            "{\"time\":\"2001-09-09T01:46:40.000000001Z\",\"level\":\"info\",\"pid\":2,\"tid\":3,\"target\":\"net\",\
             \"file\":\"a.rs\",\"line\":7,\"message\":\"two\\nlines\\u001b\",\"fields\":{\"n\":1,\"who\":\"a b\"}}\n"
        );
    }

    #[test]
    fn logfmt_is_one_line() {
        assert_eq!(
            formatted(LogFormat::Logfmt, &RECORD),
            "time=2001-09-09T01:46:40.000000001Z level=info pid=2 tid=3 target=net file=a.rs line=7 \
             msg=\"two\\nlines\\u001b\" n=1 who=\"a b\"\n"
        );
    }
    #[test]
    fn no_terminal_is_told_anything() {
        let record = LogRecord { message: "a\u{7f}b\u{9b}31m©\u{85}", fields: &[], ..RECORD };
        for (format, expected) in [
            (LogFormat::Text, ": a\\u{7f}b\\u{9b}31m©\\u{85}\n"),
            (LogFormat::Json, ",\"message\":\"a\\u007fb\\u009b31m©\\u0085\"}\n"),
            (LogFormat::Logfmt, " msg=\"a\\u007fb\\u009b31m©\\u0085\"\n"),
        ] {
            let text = formatted(format, &record);
            assert!(text.ends_with(expected), "{text}");
        }
    }
}
