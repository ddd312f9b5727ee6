//! Awaiting under tokio, on one thread and on several.

mod support;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use support::{GENEROUS, fork};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;
use wigwag::tokio::{Readable, when, when_readable, when_readable_mut, when_writable, when_writable_mut};
use wigwag::{
    Address, Cell, CellOptions, Channel, Event, EventFd, EventOptions, Interest, LeaseOptions, LeasePool, Mutex,
    MutexOptions, Permits, PermitsOptions, Pipe, PipeOptions, Ring, RingOptions, RingProducer, RwLock, RwLockOptions,
    Scheme, SubscribeOptions, Timeout, Topic, TopicOptions,
};

const NOW: Timeout = Timeout::Now;

fn runtimes() -> [Runtime; 2] {
    let one = Builder::new_current_thread().enable_all().build().unwrap();
    [one, Builder::new_multi_thread().worker_threads(3).enable_all().build().unwrap()]
}

/// Runs it in both kinds of runtime, and not for ever.
fn in_each<F: Future<Output = ()>>(body: impl Fn() -> F) {
    for runtime in runtimes() {
        runtime.block_on(async { timeout(Duration::from_secs(30), body()).await.expect("it does not end") });
    }
}

/// That it waits: it does not end before the runtime has nothing else to do.
#[track_caller]
fn waits<T>(future: impl Future<Output = wigwag::Result<T>>) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    async move {
        if let Ok(got) = timeout(Duration::from_millis(20), future).await {
            panic!(
                "{caller}: it did not wait, but {}",
                got.map_or_else(|error| error.to_string(), |_| "got it".into())
            );
        }
    }
}

fn small() -> RingOptions {
    RingOptions { capacity: 1024, largest: 64, ..Default::default() }
}

async fn recv(ring: &Ring) -> wigwag::Result<Vec<u8>> {
    let mut buffer = [0; 64];
    let received = when_readable(ring, |ring| ring.recv(&mut buffer, NOW)).await?;
    Ok(buffer[..received.length].to_vec())
}

#[test]
fn a_ring_from_another_process() {
    in_each(|| async {
        let ring = Ring::anonymous(small()).unwrap();
        let go = EventFd::new().unwrap();
        let child = fork(|| {
            for number in 0..500u64 {
                ring.send(&number.to_le_bytes(), GENEROUS).unwrap();
                if number == 0 {
                    go.take(GENEROUS).unwrap(); // the other side sleeps by now
                }
            }
        });
        assert_eq!(recv(&ring).await.unwrap(), 0u64.to_le_bytes());
        waits(recv(&ring)).await;
        go.add(1, NOW).unwrap();
        for number in 1..500u64 {
            assert_eq!(recv(&ring).await.unwrap(), number.to_le_bytes());
        }
        child.join();
    });
}

#[test]
fn nobody_who_awaits_costs_nothing() {
    in_each(|| async {
        let ring = Ring::anonymous(small()).unwrap();
        ring.send(b"x", NOW).unwrap();
        recv(&ring).await.unwrap();
        when_writable(&ring, |ring| ring.send(b"y", NOW)).await.unwrap();
        assert_eq!(ring.doorbells().count(), 0, "no helper was needed");
    });
}

#[test]
fn several_tasks_share_a_ring() {
    in_each(|| async {
        const EACH: usize = 300;
        let ring = Arc::new(Ring::anonymous(small()).unwrap());
        let (mut senders, mut receivers) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            let to = Arc::clone(&ring);
            senders.push(tokio::spawn(async move {
                for number in 0..EACH as u64 {
                    when_writable(&*to, |ring| ring.send(&number.to_le_bytes(), NOW)).await.unwrap();
                }
            }));
            let from = Arc::clone(&ring);
            receivers.push(tokio::spawn(async move {
                let mut sum = 0;
                loop {
                    match &recv(&from).await.unwrap()[..] {
                        b"end" => return sum,
                        number => sum += u64::from_le_bytes(number.try_into().unwrap()),
                    }
                }
            }));
        }
        for sender in senders {
            sender.await.unwrap();
        }
        let mut sum = 0;
        for _ in &receivers {
            when_writable(&*ring, |ring| ring.send(b"end", NOW)).await.unwrap();
        }
        for receiver in receivers {
            sum += receiver.await.unwrap();
        }
        assert_eq!(sum, 3 * (0..EACH as u64).sum::<u64>());
    });
}

#[test]
fn what_is_dropped_while_it_waits_loses_nothing() {
    in_each(|| async {
        let ring = Ring::anonymous(small()).unwrap();
        for number in 0..50u64 {
            waits_briefly(recv(&ring)).await;
            ring.send(&number.to_le_bytes(), NOW).unwrap();
            // One is dropped just as the message has come.
            let mut other = Box::pin(recv(&ring));
            let first = std::future::poll_fn(|context| std::task::Poll::Ready(other.as_mut().poll(context))).await;
            let got = match first {
                std::task::Poll::Ready(got) => got,
                std::task::Poll::Pending => recv(&ring).await,
            };
            assert_eq!(got.unwrap(), number.to_le_bytes());
        }
        let statistics = ring.statistics().unwrap();
        assert_eq!((statistics.sent, statistics.released, statistics.redelivered), (50, 50, 0));
    });
}

async fn waits_briefly<T>(future: impl Future<Output = T>) {
    assert!(timeout(Duration::from_millis(1), future).await.is_err());
}

#[test]
fn a_one_to_one_ring_both_ways() {
    in_each(|| async {
        let (mut producer, mut consumer) = RingProducer::anonymous(small()).unwrap();
        let sender = tokio::spawn(async move {
            for number in 0..500u64 {
                when_writable_mut(&mut producer, |to| to.send(&number.to_le_bytes(), NOW)).await.unwrap();
            }
        });
        let mut buffer = [0; 64];
        for number in 0..500u64 {
            let received = when_readable_mut(&mut consumer, |from| from.recv(&mut buffer, NOW)).await.unwrap();
            assert_eq!(buffer[..received.length], number.to_le_bytes());
        }
        let end = when_readable_mut(&mut consumer, |from| from.recv(&mut buffer, NOW)).await.unwrap_err();
        assert!(end.is(Errno::EPIPE), "{end}");
        sender.await.unwrap();
    });
}

#[test]
fn topics_and_cells() {
    in_each(|| async {
        let topic = Topic::anonymous(TopicOptions::default()).unwrap();
        let subscription = topic.subscribe(SubscribeOptions::default()).unwrap();
        let cell = Cell::anonymous(CellOptions::default()).unwrap();
        let mut buffer = [0; 100];
        waits(when_readable(&subscription, |subscription| subscription.recv(&mut [0; 100], NOW))).await;
        waits(when_readable(&cell, |cell| cell.wait(0, NOW))).await;
        let child = fork(|| {
            topic.publish(b"news", GENEROUS).unwrap();
            cell.write(b"warm").unwrap();
        });
        let received = when_readable(&subscription, |from| from.recv(&mut buffer, NOW)).await.unwrap();
        assert_eq!(&buffer[..received.length], b"news");
        assert_eq!(when_readable(&cell, |cell| cell.wait(0, NOW)).await.unwrap(), 1);
        child.join();
    });
}

#[test]
fn locks_and_the_like() {
    in_each(|| async {
        let mutex = Mutex::anonymous(MutexOptions::default()).unwrap();
        let rwlock = RwLock::anonymous(RwLockOptions::default()).unwrap();
        let permits = Permits::anonymous(PermitsOptions { count: 1, ..Default::default() }).unwrap();
        let event = Event::anonymous(EventOptions::default()).unwrap();
        let pool = LeasePool::anonymous(LeaseOptions { slots: 1, ..Default::default() }).unwrap();
        let (ready, go) = (EventFd::new().unwrap(), EventFd::new().unwrap());
        let child = fork(|| {
            std::mem::forget(mutex.lock(GENEROUS).unwrap());
            std::mem::forget(permits.acquire(1, GENEROUS).unwrap());
            let written = rwlock.write(GENEROUS).unwrap();
            let lease = pool.acquire(GENEROUS).unwrap();
            ready.add(1, NOW).unwrap();
            go.take(GENEROUS).unwrap();
            event.set().unwrap();
            drop((written, lease));
            // And ends as it is, holding the mutex and the permit.
        });
        when_readable(&ready, |ready| ready.take(NOW)).await.unwrap();
        waits(when_readable(&mutex, |mutex| mutex.lock(NOW))).await;
        waits(when_readable(&rwlock, |rwlock| rwlock.read(NOW))).await;
        waits(when_readable(&permits, |permits| permits.acquire(1, NOW))).await;
        waits(when_readable(&event, |event| event.wait(NOW))).await;
        waits(when_readable(&pool, |pool| pool.acquire(NOW))).await;
        go.add(1, NOW).unwrap();
        when_readable(&event, |event| event.wait(NOW)).await.unwrap();
        drop(when_readable(&rwlock, |rwlock| rwlock.read(NOW)).await.unwrap());
        when_readable(&pool, |pool| pool.acquire(NOW)).await.unwrap();
        child.join();
        assert!(when_readable(&mutex, |mutex| mutex.lock(NOW)).await.unwrap().is_inherited());
        drop(when_readable(&permits, |permits| permits.acquire(1, NOW)).await.unwrap());
    });
}

#[test]
fn channels_and_what_the_kernel_polls() {
    in_each(|| async {
        let folder = tempfile::tempdir().unwrap();
        for address in ["pipe:", "unix:", "unix-dgram:"] {
            let address: Address = match address {
                "pipe:" => address.parse().unwrap(),
                scheme => format!("{scheme}{}/{scheme}", folder.path().display()).parse().unwrap(),
            };
            let (from, to) = match address.scheme() {
                Scheme::Pipe => Channel::pair(&address).unwrap(),
                _ => {
                    let from = Channel::open_receiver(&address, GENEROUS).unwrap();
                    (from, Channel::open_sender(&address, GENEROUS).unwrap())
                }
            };
            let mut buffer = [0; 100];
            waits(when_readable(&from, |from| from.recv(&mut [0; 100], NOW))).await;
            let child = fork(|| to.send(b"over", GENEROUS).unwrap());
            let received = when_readable(&from, |from| from.recv(&mut buffer, NOW)).await.unwrap();
            assert_eq!(&buffer[..received.length], b"over", "{address}");
            child.join();
            when_writable(&to, |to| to.send(b"more", NOW)).await.unwrap();
            let received = when_readable(&from, |from| from.recv(&mut buffer, NOW)).await.unwrap();
            assert_eq!(&buffer[..received.length], b"more", "{address}");
        }
        let (reader, writer) = Pipe::open(PipeOptions::default()).unwrap();
        while writer.write(&[0; 4096], NOW).is_ok() {}
        waits(when_writable(&writer, |writer| writer.write(&[1; 4096], NOW))).await;
        let mut all = vec![0; 1 << 20];
        when_readable(&reader, |reader| reader.read(&mut all, NOW)).await.unwrap();
        when_writable(&writer, |writer| writer.write(&[1; 4096], NOW)).await.unwrap();
    });
}

#[test]
fn a_lane_by_its_own_descriptor() {
    in_each(|| async {
        let ring = Ring::anonymous(RingOptions { lanes: 2, ..small() }).unwrap();
        while ring.send_in_lane(1, &[1; 64], NOW).is_ok() {}
        let room = |ring: &'static Ring| Ok((ring.room_doorbell(1)?, Interest::READABLE));
        let ring: &'static Ring = Box::leak(Box::new(ring));
        waits(when(ring, room, |ring| ring.send_in_lane(1, b"more", NOW))).await;
        let task = tokio::spawn(when(ring, room, |ring| ring.send_in_lane(1, b"more", NOW)));
        when_readable(ring, |ring| ring.recv(&mut [0; 64], NOW)).await.unwrap();
        task.await.unwrap().unwrap();
    });
}

#[test]
fn errors_come_through() {
    let ring = Ring::anonymous(small()).unwrap();
    // Outside of a runtime: one poll is enough to see it.
    let mut future = Box::pin(recv(&ring));
    let waker = std::task::Waker::noop();
    let polled = future.as_mut().poll(&mut std::task::Context::from_waker(waker));
    let std::task::Poll::Ready(Err(error)) = polled else { panic!("{polled:?}") };
    assert!(error.is(Errno::EINVAL) && error.to_string().contains("no tokio runtime"), "{error}");
    in_each(|| async {
        ring.send(&[1; 64], NOW).unwrap();
        let error = when_readable(&ring, |ring| ring.recv(&mut [0; 1], NOW)).await.unwrap_err();
        assert!(error.is(Errno::EMSGSIZE), "{error}");
        recv(&ring).await.unwrap();
    });
}

#[test]
fn a_stream_of_successes_gives_way() {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let ring = Arc::new(Ring::anonymous(small()).unwrap());
        let other = tokio::spawn(async {});
        // Would never end if it did not let the other task run.
        while !other.is_finished() {
            when_writable(&*ring, |ring| ring.send(b"x", NOW)).await.unwrap();
            recv(&ring).await.unwrap();
        }
        assert!(ring.readable().is_ok());
    });
}

#[test]
fn a_message_larger_than_the_pipe() {
    in_each(|| async {
        let (receiver, sender) = Channel::pair(&"pipe:".parse().unwrap()).unwrap();
        let other = std::thread::spawn(move || {
            for number in 1..4 {
                assert!(receiver.recv_message(GENEROUS).unwrap().data == [number; 300_000]);
            }
        });
        for number in 1..4 {
            when_writable(&sender, |sender| sender.send(&[number; 300_000], NOW)).await.unwrap();
        }
        when_writable(&sender, |sender| sender.flush(NOW)).await.unwrap();
        other.join().unwrap();
    });
}
