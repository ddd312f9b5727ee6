//! Two builds of the library whose layouts differ meet over the same names: each refuses what the other has made, names
//! both versions, and does no harm. `make layouts` builds the other one.
#![cfg(not(loom))]

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

const ADDRESSES: [&str; 10] = [
    "ring:many",
    "ring:one",
    "topic:t",
    "cell:c",
    "mutex:m",
    "permits:p?count=2",
    "rwlock:r",
    "event:e",
    "barrier:b?parties=2",
    "condition:d",
];

struct Opens {
    process: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Opens {
    /// Starts a build's program, and gives what it says of each address.
    fn start(program: &str, directory: &std::path::Path) -> (Opens, Vec<String>) {
        let mut command = Command::new(program);
        command.args(ADDRESSES).env("WIGWAG_DIR", directory).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let (input, output) = (process.stdin.take(), BufReader::new(process.stdout.take().unwrap()));
        let mut opens = Opens { process, input, output };
        let said = (&mut opens.output).lines().map(Result::unwrap).take_while(|line| line != "all tried").collect();
        (opens, said)
    }

    /// Has it end, and gives what it says of those that it has open.
    fn end(mut self) -> Vec<String> {
        drop(self.input.take());
        let said = self.output.lines().map(Result::unwrap).collect();
        assert!(self.process.wait().unwrap().success());
        said
    }
}

#[test]
fn two_layouts_meet() {
    let own = env!("CARGO_BIN_EXE_opens");
    let Ok(other) = std::env::var("WIGWAG_OTHER_BUILD") else {
        println!("make layouts builds what this one meets");
        return;
    };
    for (first, second) in [(own, other.as_str()), (&other, own)] {
        let directory = std::path::PathBuf::from(format!("/dev/shm/wigwag-layouts-{}", std::process::id()));
        std::fs::create_dir(&directory).unwrap();
        let (made, said) = Opens::start(first, &directory);
        let (refused, why) = Opens::start(second, &directory);
        let (left, works) = (refused.end(), made.end());
        std::fs::remove_dir_all(&directory).unwrap();

        assert!(said.iter().all(|line| line.ends_with(" opened")), "{said:#?}");
        assert_eq!(why.len(), ADDRESSES.len());
        let versions: std::collections::BTreeSet<_> = why
            .iter()
            .map(|line| {
                assert!(line.contains(&format!(" {} ", libc_eproto())), "{line}");
                let (_, told) = line.split_once("its layout is ").unwrap();
                let (theirs, ours) = told.split_once(", this library's is ").unwrap();
                let ours: u32 = ours.trim_end_matches(|char: char| !char.is_ascii_digit()).parse().unwrap();
                (theirs.parse::<u32>().unwrap(), ours)
            })
            .collect();
        let [(theirs, ours)] = versions.into_iter().collect::<Vec<_>>()[..] else { panic!("{why:#?}") };
        assert_eq!(theirs.abs_diff(ours), 1, "{why:#?}");
        assert_eq!((left.len(), works.len()), (0, ADDRESSES.len()), "{works:#?}");
    }
}

/// EPROTO, on Linux.
fn libc_eproto() -> i32 {
    71
}
