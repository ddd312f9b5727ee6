//! Opens each address that it is given, says for each how that went, and keeps them open until its input ends; then it
//! says once more whether they still work.

use std::io::Read;

use wigwag::{
    Address, Barrier, Cell, Condition, Event, Mutex, Permits, Result, Ring, RingProducer, RwLock, Scheme, Timeout,
    Topic,
};

type Use = Box<dyn Fn() -> Result<()>>;

fn open(text: &str) -> Result<Use> {
    let address: Address = text.parse()?;
    Ok(match address.scheme() {
        Scheme::Ring if address.name() == b"one" => {
            let producer = std::cell::RefCell::new(RingProducer::open(&address, Default::default())?);
            Box::new(move || producer.borrow_mut().send(b"hello", Timeout::Now))
        }
        Scheme::Ring => {
            let ring = Ring::open(&address, Default::default())?;
            Box::new(move || ring.send(b"hello", Timeout::Now))
        }
        Scheme::Topic => {
            let topic = Topic::open(&address, Default::default())?;
            Box::new(move || topic.publish(b"hello", Timeout::Now).map(drop))
        }
        Scheme::Cell => {
            let cell = Cell::open(&address, Default::default())?;
            Box::new(move || cell.write(b"hello").map(drop))
        }
        Scheme::Mutex => {
            let mutex = Mutex::open(&address, Default::default())?;
            Box::new(move || mutex.lock(Timeout::Now).map(drop))
        }
        Scheme::Permits => {
            let permits = Permits::open(&address, Default::default())?;
            Box::new(move || permits.acquire(1, Timeout::Now).map(drop))
        }
        Scheme::RwLock => {
            let lock = RwLock::open(&address, Default::default())?;
            Box::new(move || lock.read(Timeout::Now).map(drop))
        }
        Scheme::Event => {
            let event = Event::open(&address, Default::default())?;
            Box::new(move || event.set().map(drop))
        }
        Scheme::Barrier => {
            let barrier = Barrier::open(&address, Default::default())?;
            Box::new(move || barrier.statistics().map(drop))
        }
        Scheme::Condition => {
            let condition = Condition::open(&address, Default::default())?;
            Box::new(move || condition.notify_all().map(drop))
        }
        other => panic!("nothing of {other:?} lies in a segment"),
    })
}

fn main() {
    let addresses: Vec<String> = std::env::args().skip(1).collect();
    let opened: Vec<_> = addresses.iter().map(|address| open(address)).collect();
    for (address, opened) in addresses.iter().zip(&opened) {
        match opened {
            Ok(_) => println!("{address} opened"),
            Err(error) => println!("{address} {} {error}", error.errno()),
        }
    }
    println!("all tried");
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    for (address, opened) in addresses.iter().zip(&opened) {
        if let Ok(usable) = opened {
            usable().unwrap_or_else(|error| panic!("{address}: {error}"));
            println!("{address} works");
        }
    }
}
