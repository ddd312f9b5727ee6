//! Topics whose memory is written over.

use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use wigwag::{Result, SubscribeOptions, Topic, TopicOptions, TopicReceived, WaitMode};

use super::input::{Input, play, told_or};

const LARGEST: usize = 300;

fn options() -> TopicOptions {
    let (capacity, largest) = (2048, LARGEST as u64);
    TopicOptions { capacity, largest, participants: 4, subscribers: 4, wait: WaitMode::Block, ..Default::default() }
}

/// A lossy subscription lends nothing, and one that was stuck is cut off.
fn told<T>(result: Result<T>) -> Option<T> {
    told_or(&[Errno::ENOTSUP, Errno::ECONNABORTED], result)
}

pub fn topic(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let topic = Topic::anonymous(options()).unwrap();
    let choice = input.byte();
    let stuck = (choice & 1 != 0).then_some(Duration::from_micros(50));
    let one = topic.subscribe(SubscribeOptions { stuck, ..Default::default() }).unwrap();
    let two = topic.subscribe(SubscribeOptions { lossy: choice & 2 != 0, ..Default::default() }).unwrap();
    let (mut reserved, mut borrowed, mut others) = (Vec::new(), Vec::new(), Vec::new());
    play(&mut input, &topic, |code, input| {
        let subscription = if code & 64 == 0 { &one } else { &two };
        let (mut buffer, mut received) = ([0; 3 * LARGEST], [TopicReceived::default(); 4]);
        let message = [code; LARGEST + 1];
        match code % 12 {
            0 | 1 => {
                let length = input.short() % message.len();
                told(topic.publish(&message[..length], input.timeout()));
            }
            2 => {
                let length = input.short() % message.len();
                told(topic.publish_batch(&[&message[..length], &message[..20], &message[..0]], input.timeout()));
            }
            3 | 4 => {
                if let Some(received) = told(subscription.recv(&mut buffer[..LARGEST], input.timeout())) {
                    assert!(received.length <= LARGEST);
                }
            }
            5 => {
                if let Some(count) = told(subscription.recv_batch(&mut buffer, &mut received, input.timeout())) {
                    assert!(received[..count].iter().map(|one| one.length).sum::<usize>() <= buffer.len());
                }
            }
            6 => reserved.extend(told(topic.reserve(input.short() % LARGEST, input.timeout()))),
            7 => {
                if let Some(mut one) = reserved.pop() {
                    one.write(input.byte().into(), &message);
                    told(if input.byte() & 1 == 0 { one.publish().map(drop) } else { one.abort() });
                }
            }
            8 => borrowed.extend(told(subscription.borrow(input.timeout()))),
            9 if !borrowed.is_empty() => {
                let one = borrowed.swap_remove(input.short() % borrowed.len());
                assert!(one.to_vec().len() <= LARGEST && one.length() <= LARGEST);
                one.read(input.short(), &mut buffer);
                told(one.release());
            }
            10 => {
                let options =
                    SubscribeOptions { lossy: input.byte() & 1 == 0, history: input.word(), ..Default::default() };
                others.extend(told(topic.subscribe(options)));
                if input.byte() & 1 == 0 {
                    others.clear();
                }
            }
            _ => {
                told(topic.check());
                told(topic.statistics()).map(|statistics| format!("{statistics:?}"));
                let fd = topic.as_fd().try_clone_to_owned().unwrap();
                told(Topic::from_fd(fd, options())).map(|other| told(other.publish(&message[..40], input.timeout())));
            }
        }
    });
}
