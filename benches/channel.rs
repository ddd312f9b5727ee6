//! A channel beside the mechanism that it goes over: 64 bytes sent and received by one thread, which never waits.
//! `cargo bench --bench channel`, or `cargo bench --bench channel -- ring: pipe:` for some of them.

use std::path::PathBuf;
use std::time::Instant;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use wigwag::{
    Address, Channel, Fifo, FifoOptions, Listener, Mq, MqOptions, Pipe, PipeOptions, Ring, RingOptions, RingRole,
    Socket, SocketOptions, SysvMq, SysvMqOptions, SysvSelect, Timeout, Topic, TopicOptions,
};

const BATCHES: usize = 301;
const MESSAGES: usize = 500;
const SIZE: usize = 64;
/// What the frame of a channel over a stream adds: the mechanism beside it carries as many bytes.
const FRAME: usize = 4;

/// One message there and back into this thread's hands.
type Pass = Box<dyn FnMut()>;

/// What is removed in the end.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

fn measure(pass: &mut Pass) -> f64 {
    let start = Instant::now();
    for _ in 0..MESSAGES {
        pass();
    }
    start.elapsed().as_nanos() as f64 / MESSAGES as f64
}

fn compare(name: &str, to_reach: f64, mut bare: Pass, mut channel: Pass) {
    let mut wanted = std::env::args().skip(1).filter(|argument| argument != "--bench").peekable();
    if wanted.peek().is_some() && !wanted.any(|wanted| wanted == name) {
        return;
    }
    let mut found = [Vec::new(), Vec::new()];
    for _ in 0..BATCHES {
        for (times, pass) in found.iter_mut().zip([&mut bare, &mut channel]) {
            times.push(measure(pass));
        }
    }
    // The machine's pace changes while it runs: each batch is set against its neighbour.
    let mut ratios: Vec<f64> = found[0].iter().zip(&found[1]).map(|(bare, channel)| channel / bare).collect();
    ratios.sort_by(f64::total_cmp);
    for times in &mut found {
        times.sort_by(f64::total_cmp);
    }
    let [bare, channel] = found.each_ref().map(|times| times[BATCHES / 2]);
    let p99 = found[1][BATCHES * 99 / 100];
    let ratio = ratios[BATCHES / 2];
    println!("| {name} | {bare:.0} | {channel:.0} | {p99:.0} | **{ratio:.3}** | ≤ {to_reach} |");
}

fn channel(sender: Channel, receiver: Channel) -> Pass {
    let mut room = [0; SIZE];
    Box::new(move || {
        sender.send(&[7; SIZE], Timeout::Forever).unwrap();
        assert_eq!(receiver.recv(&mut room, Timeout::Forever).unwrap().length, SIZE);
    })
}

/// The channel's ends at an address, the receiver first: some need one.
fn ends(address: &Address) -> Pass {
    let receiver = Channel::open_receiver(address, Timeout::Forever).unwrap();
    let reached = receiver.local_address().unwrap_or(address).clone();
    channel(Channel::open_sender(&reached, Timeout::Forever).unwrap(), receiver)
}

fn stream(sender: Socket, receiver: Socket) -> Pass {
    let mut room = [0; SIZE + FRAME];
    Box::new(move || {
        sender.send_all(&[7; SIZE + FRAME], Timeout::Forever).unwrap();
        receiver.recv_exact(&mut room, Timeout::Forever).unwrap();
    })
}

fn packets(sender: Socket, receiver: Socket) -> Pass {
    let mut room = [0; SIZE];
    Box::new(move || {
        sender.send(&[7; SIZE], Timeout::Forever).unwrap();
        assert_eq!(receiver.recv(&mut room, Timeout::Forever).unwrap(), SIZE);
    })
}

fn connected(address: &Address) -> (Socket, Socket) {
    let options = SocketOptions::default();
    let listener = Listener::open(address, &options, Timeout::Forever).unwrap();
    let sender =
        Socket::connect(&parse(&listener.local_address().unwrap().to_string()), &options, Timeout::Forever).unwrap();
    (sender, listener.accept(Timeout::Forever).unwrap())
}

fn parse(text: &str) -> Address {
    text.parse().unwrap()
}

fn main() {
    let mut one = CpuSet::new();
    one.set(0).unwrap();
    sched_setaffinity(Pid::from_raw(0), &one).unwrap();
    let scratch = Scratch(std::env::temp_dir().join(format!("wigwag-bench-{}", std::process::id())));
    std::fs::create_dir(&scratch.0).unwrap();
    let at = |scheme: &str, name: &str| parse(&format!("{scheme}:{}/{name}", scratch.0.display()));

    println!("64 bytes, one thread on one CPU, medians of {BATCHES} batches of {MESSAGES} in turn; nanoseconds.\n");
    println!("| address | mechanism | channel | p99 | channel ÷ mechanism | to reach |");
    println!("| --- | --: | --: | --: | --: | --: |");

    let (reader, writer) = Pipe::open(PipeOptions::default()).unwrap();
    let mut room = [0; SIZE + FRAME];
    let bare: Pass = Box::new(move || {
        writer.write_all(&[7; SIZE + FRAME], Timeout::Forever).unwrap();
        reader.read_exact(&mut room, Timeout::Forever).unwrap();
    });
    let (receiver, sender) = Channel::pair(&parse("pipe:")).unwrap();
    compare("pipe:", 1.05, bare, channel(sender, receiver));

    let options = FifoOptions { create: true, keep_open: true, ..Default::default() };
    let reader = Fifo::open_reader(&at("fifo", "bare"), &options, Timeout::Forever).unwrap();
    let writer = Fifo::open_writer(&at("fifo", "bare"), &options, Timeout::Forever).unwrap();
    let mut room = [0; SIZE + FRAME];
    let bare: Pass = Box::new(move || {
        writer.write_all(&[7; SIZE + FRAME], Timeout::Forever).unwrap();
        reader.read_exact(&mut room, Timeout::Forever).unwrap();
    });
    compare("fifo:", 1.05, bare, ends(&parse(&format!("fifo:{}/channel?keep-open=1", scratch.0.display()))));

    let (sender, receiver) = connected(&at("unix", "bare.u"));
    compare("unix:", 1.05, stream(sender, receiver), ends(&at("unix", "channel.u")));
    let (sender, receiver) = connected(&parse("tcp://127.0.0.1:0"));
    compare("tcp:", 1.05, stream(sender, receiver), ends(&parse("tcp://127.0.0.1:0")));
    let (sender, receiver) = connected(&at("unix-seqpacket", "bare.s"));
    compare("unix-seqpacket:", 1.05, packets(sender, receiver), ends(&at("unix-seqpacket", "channel.s")));

    for (scheme, bound, own) in [
        ("unix-dgram", at("unix-dgram", "bare.d"), at("unix-dgram", "channel.d")),
        ("udp", parse("udp://127.0.0.1:0"), parse("udp://127.0.0.1:0")),
    ] {
        let options = SocketOptions::default();
        let receiver = Socket::bind(&bound, &options, Timeout::Forever).unwrap();
        let sender =
            Socket::connect(&parse(&receiver.local_address().unwrap().to_string()), &options, Timeout::Forever)
                .unwrap();
        compare(&format!("{scheme}:"), 1.05, packets(sender, receiver), ends(&own));
    }

    let name = |scheme: &str, end: &str| parse(&format!("{scheme}:/wigwag-bench-{end}-{}", std::process::id()));
    let queue = Mq::open_or_create(&name("mq", "bare"), &MqOptions::default()).unwrap();
    let mut room = vec![0; 8192];
    let bare: Pass = Box::new(move || {
        queue.send(&[7; SIZE], 0, Timeout::Forever).unwrap();
        assert_eq!(queue.recv_into(&mut room, Timeout::Forever).unwrap().size, SIZE);
    });
    let own = name("mq", "channel");
    compare("mq:", 1.05, bare, ends(&own));
    Mq::remove(&own).unwrap();
    Mq::remove(&name("mq", "bare")).unwrap();

    for name in ["bare.q", "channel.q"] {
        std::fs::write(scratch.0.join(name), "").unwrap(); // keys are derived from files
    }
    let (bare_queue, own) = (at("sysv-mq", "bare.q#1"), at("sysv-mq", "channel.q#1"));
    let queue = SysvMq::open_or_create(&bare_queue, &SysvMqOptions::default()).unwrap();
    let mut room = [0; SIZE];
    let bare: Pass = Box::new(move || {
        queue.send(&[7; SIZE], 1, Timeout::Forever).unwrap();
        assert_eq!(queue.recv_into(SysvSelect::Any, &mut room, Timeout::Forever).unwrap().size, SIZE);
    });
    compare("sysv-mq:", 1.05, bare, ends(&own));
    SysvMq::remove(&bare_queue).unwrap();
    SysvMq::remove(&own).unwrap();

    // Two handles, as the channel's ends are: memory mapped twice is slower for one CPU than memory mapped once.
    let bare_ring = parse(&format!("ring:wigwag-bench-bare-{}", std::process::id()));
    let end = |role| Ring::open(&bare_ring, RingOptions { role, ..Default::default() }).unwrap();
    let (sender, receiver) = (end(RingRole::Producer), end(RingRole::Consumer));
    let mut room = [0; SIZE];
    let bare: Pass = Box::new(move || {
        sender.send(&[7; SIZE], Timeout::Forever).unwrap();
        assert_eq!(receiver.recv(&mut room, Timeout::Forever).unwrap().length, SIZE);
    });
    let own = parse(&format!("ring:wigwag-bench-{}", std::process::id()));
    compare("ring:", 1.15, bare, ends(&own));
    Ring::remove(&own).unwrap();
    Ring::remove(&bare_ring).unwrap();

    let bare_topic = parse(&format!("topic:wigwag-bench-bare-{}", std::process::id()));
    let end = || Topic::open(&bare_topic, TopicOptions::default()).unwrap();
    let subscription = end().subscribe(Default::default()).unwrap();
    let topic = end();
    let mut room = [0; SIZE];
    let bare: Pass = Box::new(move || {
        topic.publish(&[7; SIZE], Timeout::Forever).unwrap();
        assert_eq!(subscription.recv(&mut room, Timeout::Forever).unwrap().length, SIZE);
    });
    let own = parse(&format!("topic:wigwag-bench-{}", std::process::id()));
    compare("topic:", 1.15, bare, ends(&own));
    Topic::remove(&own).unwrap();
    Topic::remove(&bare_topic).unwrap();
}
