//! Logs: records as they come from programs, as strangers put them among the others, and memory that is written over.
//!
//! Whatever comes, each record is one line (of JSON and of `key=value` pairs) or one line and indented ones (of text).

use std::fs;

use nix::errno::Errno;
use wigwag::{
    Address, Log, LogFormat, LogLevel, LogOptions, LogOrigin, LogRecord, LogValue, LogWriter, Result, Ring,
    RingOptions, Timeout, WaitMode,
};

use super::input::{Input, change, told_or, within};

const STEPS: usize = 24;

fn told<T>(result: Result<T>) -> Option<T> {
    told_or(&[Errno::ENOSPC], result)
}

pub fn records(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let file = directory.path().join("the.log");
    let address: Address = format!("log:{}", directory.path().join("log").display()).parse().unwrap();
    let choice = input.byte();
    let format = [LogFormat::Text, LogFormat::Json, LogFormat::Logfmt][usize::from(choice % 3)];
    let options = LogOptions {
        file: file.clone(),
        format,
        capacity: 1 << 14,
        largest: 400,
        participants: 4,
        writer: LogWriter::Never,
        wait: WaitMode::Block,
        ..Default::default()
    };
    let log = Log::open(&address, options.clone()).unwrap();
    log.set_level(LogLevel::Trace);
    let mut parts: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|part| part.unwrap().path()).collect();
    parts.sort();
    let ring = parts.iter().find(|part| part.extension().is_some_and(|end| end == "ring")).unwrap();
    let ring = Ring::open(&format!("ring:{}", ring.display()).parse().unwrap(), RingOptions::default()).unwrap();
    within(|| {
        for _ in 0..STEPS {
            if input.is_empty() {
                break;
            }
            match input.byte() {
                // The log's own memory, its lock's and its ring's, seldom: what the first is for is what others put into it.
                code @ 0..24 => {
                    let memory =
                        fs::File::options().read(true).write(true).open(&parts[usize::from(code) % parts.len()]);
                    let memory = memory.unwrap();
                    let size = memory.metadata().unwrap().len();
                    change(&memory, size, &mut input);
                }
                code => step(code, &mut input, &log, &ring, &address, &options),
            }
        }
        told(log.drain(Timeout::After(std::time::Duration::from_millis(1))));
    });
    check(&fs::read(&file).unwrap_or_default(), format);
}

fn step(code: u8, input: &mut Input, log: &Log, ring: &Ring, address: &Address, options: &LogOptions) {
    match code % 8 {
        0..3 => {
            let [target, file, message, key, text] = [(); 5].map(|()| String::from_utf8_lossy(input.some()));
            let number = input.word();
            let fields = [
                (&*key, LogValue::Text(&text)),
                ("n", LogValue::Signed(number.cast_signed())),
                (&*text, LogValue::Float(f64::from_bits(number))),
                ("u", LogValue::Unsigned(number)),
                (&*key, LogValue::Flag(number & 1 == 0)),
            ];
            let level = LogLevel::from_number(u32::from(code % 8)).unwrap_or_default();
            let fields = &fields[..usize::from(input.byte() % 6)];
            let record =
                LogRecord { level, target: &target, file: &file, line: code.into(), message: &message, fields };
            let origin = LogOrigin { time: number, pid: 7, tid: 8 };
            told(log.log_at_once(&record, &origin));
        }
        3 | 4 => {
            // As it would travel, or as it would not.
            told(ring.send(input.some(), Timeout::Now));
        }
        5 => drop(told(log.drain(input.timeout()))),
        6 => {
            told(log.statistics()).map(|statistics| format!("{statistics:?}"));
            told(log.reopen(input.timeout()));
        }
        _ => drop(told(Log::open(address, options.clone())).map(|other| told(other.log(&LogRecord::default())))),
    }
}

fn check(text: &[u8], format: LogFormat) {
    assert!(text.is_empty() || text.ends_with(b"\n"), "a torn line");
    let text = std::str::from_utf8(text).unwrap();
    for line in text.split_terminator('\n') {
        assert!(!line.chars().any(|char| char.is_control() && char != '\t'), "{line:?}");
        match format {
            LogFormat::Json => {
                let value: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line:?}"));
                assert!(value["time"].is_string() && value["message"].is_string(), "{line:?}");
            }
            LogFormat::Logfmt => assert!(line.starts_with("time=") && line.contains(" level="), "{line:?}"),
            _ => assert!(line.starts_with('\t') || line.as_bytes().first().is_some_and(u8::is_ascii_digit), "{line:?}"),
        }
    }
}
