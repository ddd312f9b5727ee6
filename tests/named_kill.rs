//! A process is killed, or stopped for ever, before and after every system call, and after every change of the segment, of
//! making, opening and removing a named one; the name then stands for a whole segment or for nothing, and nothing else is
//! left in its directory.
#![cfg(target_arch = "x86_64")]

mod stepping;
mod support;

use std::cell::Cell as Counter;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use stepping::{End, Point, Victim, View, everywhere};
use wigwag::{Address, Cell, CellOptions, Error};

struct Operation {
    name: &'static str,
    /// Whether it is there already, and whether then by somebody who has died.
    made: bool,
    by_the_dead: bool,
    body: fn(&Address) -> Result<(), Error>,
}

fn options() -> CellOptions {
    CellOptions { largest: 64, participants: 4, ..Default::default() }
}

fn open(address: &Address) -> Result<(), Error> {
    std::mem::forget(Cell::open(address, options())?);
    Ok(())
}

fn open_and_close(address: &Address) -> Result<(), Error> {
    Cell::open(address, options()).map(drop)
}

const OPERATIONS: &[Operation] = &[
    Operation { name: "make", made: false, by_the_dead: false, body: open },
    Operation { name: "make and leave", made: false, by_the_dead: false, body: open_and_close },
    Operation { name: "open", made: true, by_the_dead: false, body: open },
    Operation { name: "open and leave", made: true, by_the_dead: false, body: open_and_close },
    Operation { name: "open, after a death", made: true, by_the_dead: true, body: open },
    Operation { name: "remove", made: true, by_the_dead: false, body: Cell::remove },
    Operation {
        name: "remove and make anew",
        made: true,
        by_the_dead: false,
        body: |address| Cell::remove(address).and_then(|()| open(address)),
    },
];

/// A directory of its own on a tmpfs, for one run.
struct Place {
    directory: PathBuf,
    address: Address,
    survivor: Option<Cell>,
}

impl Place {
    fn new(operation: &Operation) -> Place {
        thread_local!(static RUNS: Counter<u64> = const { Counter::new(0) });
        RUNS.set(RUNS.get() + 1);
        let directory = PathBuf::from(format!("/dev/shm/wwtest-named-{}-{}", std::process::id(), RUNS.get()));
        std::fs::create_dir(&directory).unwrap();
        let address: Address = format!("cell:{}/it", directory.display()).parse().unwrap();
        if operation.by_the_dead {
            support::fork(|| {
                let cell = Cell::open(&address, options()).unwrap();
                cell.write(b"before").unwrap();
                std::mem::forget((cell.reserve(8).unwrap(), cell.reserve(8).unwrap()));
                // SAFETY: ends this process without any clean-up.
                unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
            })
            .wait();
        }
        let survivor = (operation.made && !operation.by_the_dead).then(|| {
            let cell = Cell::open(&address, options()).unwrap();
            cell.write(b"before").unwrap();
            cell
        });
        Place { directory, address, survivor }
    }

    /// What a tracer looks at: the segment if it is there, or nothing that ever changes.
    fn view(&self) -> View {
        match (&self.survivor, File::open(self.directory.join("it"))) {
            (Some(cell), _) => View::new(cell.as_fd()),
            (None, Ok(file)) => View::new(&file),
            (None, Err(_)) => View::new(Cell::anonymous(options()).unwrap()),
        }
    }

    fn start(&self, operation: &Operation) -> Victim {
        Victim::start(|| (), |()| (operation.body)(&self.address).unwrap())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// One run: the victim comes to this point and gets no further; how long the others took, `None` if it did not.
fn run(operation: &Operation, point: Point, end: End) -> Option<Duration> {
    let place = Place::new(operation);
    let mut victim = place.start(operation);
    if !victim.go_to(point, &mut place.view()) {
        return None;
    }
    let begun = Instant::now();
    let mut victim = (end == End::Stopped).then_some(victim);

    // Whoever comes finds it as it was, or makes it, or finds what the victim has made: whole in any case.
    let fresh = Cell::open(&place.address, options()).unwrap();
    let mut buffer = [0; 64];
    match fresh.read(&mut buffer) {
        Ok(read) => assert!(operation.made && &buffer[..read.length] == b"before"),
        Err(error) => assert!(error.is(Errno::ENODATA), "{error}"),
    }
    let sequence = fresh.write(b"after").unwrap();
    assert!(fresh.read(&mut buffer).unwrap().sequence == sequence && &buffer[..5] == b"after");
    if let Some(survivor) = &place.survivor {
        survivor.write(b"still").unwrap();
        let removed = survivor.check().is_err_and(|error| error.is(Errno::ESTALE));
        let length = fresh.read(&mut buffer).unwrap().length;
        let is_same = &buffer[..length] == b"still";
        assert_eq!(removed, !is_same, "the name stands for it, or for another");
    }
    let names: Vec<_> = std::fs::read_dir(&place.directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["it"], "left behind");
    let held_up = begun.elapsed();

    if let Some(victim) = &mut victim {
        victim.go_on();
    }
    drop(victim);
    drop(fresh);
    // A victim that went on may have removed what was made meanwhile.
    match Cell::remove(&place.address) {
        Ok(()) => {}
        Err(error) => assert!(error.is(Errno::ENOENT) && end == End::Stopped, "{error}"),
    }
    assert_eq!(std::fs::read_dir(&place.directory).unwrap().count(), 0, "left behind");
    Some(held_up)
}

#[test]
fn killed_and_stopped_everywhere() {
    let points = |operation: &Operation| {
        let place = Place::new(operation);
        place.start(operation).all_points(&mut place.view())
    };
    everywhere(OPERATIONS, |operation| operation.name.into(), points, run);
}
