//! Rings whose memory is written over.

use std::os::fd::AsFd;

use wigwag::{Ring, RingConsumer, RingFull, RingOptions, RingProducer, RingReceived, WaitMode};

use super::input::{Input, play, told};

const LARGEST: usize = 300;

fn options(choice: u8) -> RingOptions {
    RingOptions {
        capacity: 4096,
        largest: LARGEST as u64,
        participants: 4,
        lanes: 1 + u32::from(choice & 1),
        redeliveries: u32::from(choice >> 1 & 3),
        full: [RingFull::Wait, RingFull::DropOldest, RingFull::DropNewest, RingFull::Fail]
            [usize::from(choice >> 3 & 3)],
        persistent: choice & 32 != 0,
        wait: WaitMode::Block,
        ..Default::default()
    }
}

/// Many-to-many: one handle for messages and one for dead letters.
pub fn many(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let options = options(input.byte());
    let ring = Ring::anonymous(options.clone()).unwrap();
    let again = || ring.as_fd().try_clone_to_owned().unwrap();
    let dead_letters = RingOptions { dead_letters: true, ..options.clone() };
    let letters = Ring::from_fd(again(), dead_letters).unwrap();
    let (mut reserved, mut borrowed) = (Vec::new(), Vec::new());
    play(&mut input, &ring, |code, input| {
        let ring = if code & 64 == 0 { &ring } else { &letters };
        let (mut buffer, mut received) = ([0; 3 * LARGEST], [RingReceived::default(); 4]);
        let message = [code; LARGEST + 1];
        match code % 12 {
            0 => {
                let length = input.short() % message.len();
                told(ring.send_in_lane(u32::from(code >> 7), &message[..length], input.timeout()));
            }
            1 => {
                let length = input.short() % message.len();
                let messages = [&message[..length], &message[..20], &message[..0]];
                told(ring.send_batch(&messages, input.timeout()));
            }
            2 | 3 => {
                if let Some(received) = told(ring.recv(&mut buffer[..LARGEST], input.timeout())) {
                    assert!(received.length <= LARGEST);
                }
            }
            4 => {
                if let Some(count) = told(ring.recv_batch(&mut buffer, &mut received, input.timeout())) {
                    assert!(received[..count].iter().map(|one| one.length).sum::<usize>() <= buffer.len());
                }
            }
            5 => reserved.extend(told(ring.reserve(input.short() % LARGEST, input.timeout()))),
            6 => {
                if let Some(mut one) = reserved.pop() {
                    one.write(input.byte().into(), &message);
                    told(if input.byte() & 1 == 0 { one.commit() } else { one.abort() });
                }
            }
            7 => borrowed.extend(told(ring.borrow(input.timeout()))),
            8 if !borrowed.is_empty() => {
                let one = borrowed.swap_remove(input.short() % borrowed.len());
                assert!(one.to_vec().len() <= LARGEST && one.length() <= LARGEST);
                one.read(input.short(), &mut buffer);
                told(one.release());
            }
            9 => {
                if let Some(other) = told(Ring::from_fd(again(), options.clone())) {
                    told(other.send(&message[..40], input.timeout()));
                    told(other.recv(&mut buffer[..LARGEST], input.timeout()));
                }
            }
            10 => {
                told(ring.check());
                told(ring.statistics()).map(|statistics| format!("{statistics:?}"));
            }
            _ => drop(borrowed.pop()),
        }
    });
}

/// One-to-one: both ends, and whoever takes the place of one that went.
pub fn one(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let options = RingOptions { lanes: 1, redeliveries: 0, full: RingFull::Wait, ..options(input.byte()) };
    let (mut producer, mut consumer) = RingProducer::anonymous(options.clone()).unwrap();
    let memory = producer.as_fd().try_clone_to_owned().unwrap();
    play(&mut input, &memory, |code, input| {
        let again = || memory.try_clone().unwrap();
        let (mut buffer, mut received) = ([0; 3 * LARGEST], [RingReceived::default(); 4]);
        let message = [code; LARGEST + 1];
        match code % 10 {
            0 => {
                let length = input.short() % message.len();
                told(producer.send(&message[..length], input.timeout()));
            }
            1 => {
                let length = input.short() % message.len();
                told(producer.send_batch(&[&message[..length], &message[..20]], input.timeout()));
            }
            2 => {
                if let Some(mut reserved) = told(producer.reserve(input.short() % LARGEST, input.timeout())) {
                    reserved.write(input.byte().into(), &message);
                    // Something may be done to the memory while this is half done.
                    play(&mut Input::new(input.some()), &memory, |_, _| {});
                    if input.byte() & 1 == 0 {
                        told(reserved.commit());
                    } else {
                        reserved.abort();
                    }
                }
            }
            3 | 4 => {
                if let Some(received) = told(consumer.recv(&mut buffer[..LARGEST], input.timeout())) {
                    assert!(received.length <= LARGEST);
                }
            }
            5 => {
                if let Some(count) = told(consumer.recv_batch(&mut buffer, &mut received, input.timeout())) {
                    assert!(received[..count].iter().map(|one| one.length).sum::<usize>() <= buffer.len());
                }
            }
            6 => {
                if let Some(borrowed) = told(consumer.borrow(input.timeout())) {
                    play(&mut Input::new(input.some()), &memory, |_, _| {});
                    assert!(borrowed.to_vec().len() <= LARGEST && borrowed.length() <= LARGEST);
                    borrowed.read(input.short(), &mut buffer);
                    told(borrowed.release());
                }
            }
            7 => {
                told(RingProducer::from_fd(again(), options.clone())).into_iter().for_each(|new| producer = new);
            }
            8 => {
                told(RingConsumer::from_fd(again(), options.clone())).into_iter().for_each(|new| consumer = new);
            }
            _ => {
                told(producer.statistics()).map(|statistics| format!("{statistics:?}"));
                told(consumer.statistics()).map(|statistics| format!("{statistics:?}"));
            }
        }
    });
}
