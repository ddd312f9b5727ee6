//! What shared memory costs as something grows: message size, depth, producers, subscribers, attached processes, open segments. One
//! Markdown table each; `×` is the row's cost against the row above, so that the point where it bends is seen.
//! `cargo bench --bench growth`, or with the names of some: `cargo bench --bench growth -- sizes depths`.

use std::fmt::Display;
use std::fs;
use std::hint::black_box;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use wigwag::{
    Cell, CellOptions, Ring, RingOptions, RingProducer, SubscribeOptions, Timeout, Topic, TopicOptions, WaitMode,
};

const BATCHES: usize = 201;
const PATIENCE: Timeout = Timeout::After(Duration::from_secs(60));

fn main() {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("Linux {}, load {}", kernel.trim(), load.trim());
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let tables: [(&str, fn()); 6] = [
        ("sizes", sizes),
        ("depths", depths),
        ("producers", producers),
        ("subscribers", subscribers),
        ("attached", attached),
        ("segments", segments),
    ];
    for (name, table) in tables {
        if wanted.is_empty() || wanted.iter().any(|word| word == name) {
            table();
        }
    }
}

/// One table, whose rows come one at a time.
struct Table(Vec<f64>);

impl Table {
    fn new(title: &str, columns: &[&str]) -> Table {
        println!("\n**{title}**\n\n| {} |", columns.join(" | "));
        println!("|{}", " ---: |".repeat(columns.len()));
        Table(Vec::new())
    }

    fn row(&mut self, what: impl Display, costs: &[f64]) {
        let cells = costs.iter().enumerate().map(|(n, cost)| match self.0.get(n) {
            Some(before) => format!("{cost:.0} ({:.2}×)", cost / before),
            None => format!("{cost:.0}"),
        });
        println!("| {what} | {} |", cells.collect::<Vec<_>>().join(" | "));
        self.0 = costs.to_vec();
    }
}

/// The median time of one of `times` steps, in nanoseconds.
fn median(times: usize, mut step: impl FnMut()) -> f64 {
    let mut batches: Vec<f64> = (0..BATCHES)
        .map(|_| {
            let start = Instant::now();
            (0..times).for_each(|_| step());
            start.elapsed().as_nanos() as f64 / times as f64
        })
        .collect();
    batches.sort_by(f64::total_cmp);
    batches[BATCHES / 2]
}

fn pin(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu).unwrap();
    sched_setaffinity(Pid::from_raw(0), &set).unwrap();
}

/// Processes that end with this value.
struct Children(Vec<libc::pid_t>);

impl Children {
    /// Starts so many, and returns when `ready` has run in each; `work` then runs until they are killed.
    fn start<T>(count: usize, ready: impl Fn() -> T, work: impl Fn(T)) -> Children {
        let (told, tell) = nix::unistd::pipe().unwrap();
        let mut pids = Vec::new();
        for _ in 0..count {
            // SAFETY: the child leaves by _exit; this process has one thread.
            match unsafe { libc::fork() } {
                0 => {
                    // SAFETY: with its parent.
                    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
                    let made = ready();
                    nix::unistd::write(&tell, b".").unwrap();
                    work(made);
                    // SAFETY: ends without destructors, as it was killed.
                    unsafe { libc::_exit(0) }
                }
                pid => pids.push(pid),
            }
        }
        for _ in 0..count {
            assert_eq!(nix::unistd::read(&told, &mut [0]).unwrap(), 1);
        }
        Children(pids)
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        for pid in &self.0 {
            // SAFETY: our children, which have nothing more to do.
            unsafe {
                libc::kill(*pid, libc::SIGKILL);
                libc::waitpid(*pid, std::ptr::null_mut(), 0);
            }
        }
    }
}

fn sleep_for_ever<T>(kept: T) {
    let _kept = kept;
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

fn in_shared_memory(message: *const u8) -> bool {
    let address = message.addr();
    fs::read_to_string("/proc/self/maps").unwrap().lines().any(|line| {
        let (from, to) = line.split_once(' ').unwrap().0.split_once('-').unwrap();
        let range = usize::from_str_radix(from, 16).unwrap()..usize::from_str_radix(to, 16).unwrap();
        range.contains(&address) && line.contains("memfd:")
    })
}

fn size_name(size: usize) -> String {
    match size {
        0..1024 => format!("{size} B"),
        _ if size >> 20 > 0 => format!("{} MiB", size >> 20),
        _ => format!("{} KiB", size >> 10),
    }
}

/// One thread sends and receives in turn: what the algorithms cost, beside copying the bytes twice.
fn sizes() {
    let mut table = Table::new(
        "Message size: there and back in one thread, ns",
        &["size", "two copies", "ring 1:1", "ring", "ring in place", "topic", "cell"],
    );
    pin(0);
    for size in [8, 64, 512, 4 << 10, 32 << 10, 256 << 10, 1 << 20] {
        let times = (1 << 22) / (size + 4096);
        let message = vec![7u8; size];
        let (mut between, mut buffer) = (vec![0u8; size], vec![0u8; size]);
        let copies = median(times, || {
            between.copy_from_slice(black_box(&message));
            buffer.copy_from_slice(black_box(&between));
            black_box(&buffer);
        });
        let (capacity, largest) = (((size + 256) * 8) as u64, size as u64);
        let options = RingOptions { capacity, largest, persistent: true, wait: WaitMode::Poll, ..Default::default() };
        let (mut producer, mut consumer) = RingProducer::anonymous(options.clone()).unwrap();
        let one = median(times, || {
            producer.send(&message, Timeout::Now).unwrap();
            consumer.recv(&mut buffer, Timeout::Now).unwrap();
        });
        let ring = Ring::anonymous(options).unwrap();
        let many = median(times, || {
            ring.send(&message, Timeout::Now).unwrap();
            ring.recv(&mut buffer, Timeout::Now).unwrap();
        });
        let in_place = || {
            let reserved = ring.reserve(size, Timeout::Now).unwrap();
            let given = reserved.as_ptr().cast_const();
            reserved.commit().unwrap();
            let borrowed = ring.borrow(Timeout::Now).unwrap();
            assert_eq!(borrowed.as_ptr(), given);
            borrowed
        };
        let borrowed = in_place();
        assert!(in_shared_memory(borrowed.as_ptr()), "the message was copied");
        borrowed.release().unwrap();
        let in_place = median(4000, || black_box(in_place()).release().unwrap());
        let topic = Topic::anonymous(TopicOptions { capacity, largest, wait: WaitMode::Poll, ..Default::default() });
        let topic = topic.unwrap();
        let subscription = topic.subscribe(SubscribeOptions::default()).unwrap();
        let published = median(times, || {
            topic.publish(&message, Timeout::Now).unwrap();
            subscription.recv(&mut buffer, Timeout::Now).unwrap();
        });
        let cell = Cell::anonymous(CellOptions { largest, ..Default::default() }).unwrap();
        let written = median(times, || {
            cell.write(&message).unwrap();
            cell.read(&mut buffer).unwrap();
        });
        table.row(size_name(size), &[copies, one, many, in_place, published, written]);
    }
}

/// One thread fills the ring and empties it.
fn depths() {
    let mut table =
        Table::new("Depth: filled and emptied by one thread, ns for each message of 64 B", &["messages", "ring"]);
    for depth in [1usize, 16, 256, 4096, 65_536, 524_288] {
        let options = RingOptions {
            largest: 64,
            depth: depth as u64,
            persistent: true,
            wait: WaitMode::Poll,
            ..Default::default()
        };
        let ring = Ring::anonymous(RingOptions { capacity: (depth * 128).max(4096) as u64, ..options }).unwrap();
        let mut buffer = [0; 64];
        let rounds = (65_536 / depth).max(1);
        let filled = median_of(if depth > 4096 { 9 } else { 51 }, || {
            let start = Instant::now();
            for _ in 0..rounds {
                (0..depth).for_each(|_| ring.send(&[7; 64], Timeout::Now).unwrap());
                (0..depth).for_each(|_| assert_eq!(ring.recv(&mut buffer, Timeout::Now).unwrap().length, 64));
            }
            start.elapsed().as_nanos() as f64 / (rounds * depth) as f64
        });
        table.row(depth, &[filled]);
    }
}

fn median_of(runs: usize, run: impl FnMut() -> f64) -> f64 {
    let mut run = run;
    let mut found: Vec<f64> = (0..runs).map(|_| run()).collect();
    found.sort_by(f64::total_cmp);
    found[runs / 2]
}

fn producers() {
    let mut table = Table::new(
        "Producers: so many processes send to one, asleep when there is nothing to do, ns for each message of 64 B",
        &["processes", "ring"],
    );
    for count in [1, 2, 4, 8, 16, 32, 64, 128] {
        let options =
            RingOptions { capacity: 1 << 20, largest: 64, participants: 256, persistent: true, ..Default::default() };
        let ring = Ring::anonymous(options.clone()).unwrap();
        let _senders = Children::start(
            count,
            || joined_ring(&ring, &options),
            |ring| while ring.send(&[7; 64], Timeout::Forever).is_ok() {},
        );
        let mut buffer = [0; 64];
        let received = median_of(31, || {
            let start = Instant::now();
            for _ in 0..20_000 {
                ring.recv(&mut buffer, PATIENCE).unwrap();
            }
            start.elapsed().as_nanos() as f64 / 20_000.0
        });
        table.row(count, &[received]);
    }
}

fn joined_ring(ring: &Ring, options: &RingOptions) -> Ring {
    let fd: OwnedFd = ring.as_fd().try_clone_to_owned().unwrap();
    Ring::from_fd(fd, options.clone()).unwrap()
}

fn subscribers() {
    let mut table = Table::new(
        "Subscribers: lossless, a process each, asleep when there is nothing to do, 64 B",
        &["processes", "ns for each message", "ns for each delivery"],
    );
    for count in [1, 2, 4, 8, 16, 32, 64] {
        let options =
            TopicOptions { capacity: 1 << 20, largest: 64, participants: 128, subscribers: 128, ..Default::default() };
        let topic = Topic::anonymous(options.clone()).unwrap();
        let _readers = Children::start(
            count,
            || {
                let fd = topic.as_fd().try_clone_to_owned().unwrap();
                let topic = Topic::from_fd(fd, options.clone()).unwrap();
                let subscription = topic.subscribe(SubscribeOptions::default()).unwrap();
                (topic, subscription)
            },
            |(_topic, subscription)| while subscription.recv(&mut [0; 64], Timeout::Forever).is_ok() {},
        );
        let published = median_of(15, || {
            let start = Instant::now();
            for _ in 0..20_000 {
                topic.publish(&[7; 64], PATIENCE).unwrap();
            }
            start.elapsed().as_nanos() as f64 / 20_000.0
        });
        table.row(count, &[published, published / count as f64]);
    }
}

/// Others have joined, and do nothing.
fn attached() {
    let mut table = Table::new(
        "Attached processes, which do nothing",
        &["processes", "there and back in one thread, ns", "join and leave, ns", "statistics, ns"],
    );
    for count in [1usize, 4, 16, 64, 128, 255] {
        let options = RingOptions {
            largest: 64,
            participants: 256,
            persistent: true,
            wait: WaitMode::Poll,
            ..Default::default()
        };
        let ring = Ring::anonymous(options.clone()).unwrap();
        let _others = Children::start(count - 1, || joined_ring(&ring, &options), sleep_for_ever);
        let mut buffer = [0; 64];
        let sent = median(2000, || {
            ring.send(&[7; 64], Timeout::Now).unwrap();
            ring.recv(&mut buffer, Timeout::Now).unwrap();
        });
        let joined = median(4, || drop(black_box(joined_ring(&ring, &options))));
        let told = median(1, || assert_eq!(ring.statistics().unwrap().participants.len(), count));
        table.row(count, &[sent, joined, told]);
    }
}

fn segments() {
    let mut table = Table::new(
        "Open segments in one process, each a ring of 16 KiB",
        &["rings", "to make one, ns", "there and back on all in turn, ns for each"],
    );
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: one rlimit, in and out.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
    }
    // Two descriptors each; some are left for what else the process has.
    let most = usize::try_from(limit.rlim_max.saturating_sub(100) / 2).unwrap_or(usize::MAX).min(10_000);
    for count in [1, 10, 100, 1000, 10_000].map(|count| most.min(count)) {
        let options =
            RingOptions { capacity: 16 << 10, largest: 64, participants: 4, persistent: true, ..Default::default() };
        let start = Instant::now();
        let rings: Vec<Ring> = (0..count).map(|_| Ring::anonymous(options.clone()).unwrap()).collect();
        let made = start.elapsed().as_nanos() as f64 / count as f64;
        let mut buffer = [0; 64];
        let all = median_of(if count > 100 { 9 } else { 101 }, || {
            let rounds = (1000 / count).max(1);
            let start = Instant::now();
            for _ in 0..rounds {
                for ring in &rings {
                    ring.send(&[7; 64], Timeout::Now).unwrap();
                    ring.recv(&mut buffer, Timeout::Now).unwrap();
                }
            }
            start.elapsed().as_nanos() as f64 / (rounds * count) as f64
        });
        table.row(count, &[made, all]);
    }
}
