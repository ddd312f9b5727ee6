//! The news: what the parent publishes goes to everybody who has subscribed, also to those who come late.

use std::time::Duration;

use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork};
use wigwag::{SubscribeOptions, Subscription, Timeout, Topic, TopicOptions};

const PATIENCE: Timeout = Timeout::After(Duration::from_secs(10));

fn read(name: &str, subscription: &Subscription) -> wigwag::Result<()> {
    let mut buffer = [0; 100];
    for _ in 0..2 {
        let received = subscription.recv(&mut buffer, PATIENCE)?;
        println!("{name}, {}: {}", received.sequence, String::from_utf8_lossy(&buffer[..received.length]));
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let topic = Topic::anonymous(TopicOptions::default())?;
    let early = topic.subscribe(SubscribeOptions::default())?;
    topic.publish(b"Rain", PATIENCE)?;
    topic.publish(b"Sun", PATIENCE)?;
    // SAFETY: this program has one thread.
    match unsafe { fork()? } {
        ForkResult::Child => {
            let late = topic.subscribe(SubscribeOptions { history: 2, ..Default::default() })?;
            read("Child", &late)?;
        }
        ForkResult::Parent { child } => {
            waitpid(child, None)?;
            read("Parent", &early)?;
        }
    }
    Ok(())
}
