//! Doorbells.

use std::sync::Arc;

use wigwag::modelled::{Doorbell, spawn};
use wigwag::{Ring, Timeout};

use crate::checking::holds;
use crate::rings::{message, rings};

/// Waits for the doorbell before it looks, for so many messages.
fn receive_by(doorbell: &Doorbell, ring: &Ring, count: usize) {
    let mut received = 0;
    while received < count {
        doorbell.poll();
        while ring.recv(&mut [0; 8], Timeout::Now).is_ok() {
            received += 1;
        }
        doorbell.quiet();
    }
}

#[test]
fn a_doorbell_is_never_quiet_while_there_is_something() {
    let scenario = || {
        let [ring, producer] = rings();
        let (doorbell, helper) = Doorbell::of_messages(&ring);
        let doorbell = Arc::new(doorbell);
        let helper = spawn(move || helper.run());
        let polled = Arc::clone(&doorbell);
        let consumer = spawn(move || {
            receive_by(&polled, &ring, 2);
            ring
        });
        (1..=2).for_each(|number| producer.send(&message(number), Timeout::Now).unwrap());
        let ring = consumer.join();
        doorbell.end();
        producer.send(&message(3), Timeout::Now).unwrap();
        helper.join();
        drop((ring, producer));
    };
    let seed = &[
        ("segment/bell.rs", "self.word.fetch_update(Ordering::SeqCst, Ordering::SeqCst, announced)"),
        ("segment/bell.rs", "fence(Ordering::SeqCst);"),
    ];
    holds("doorbell", scenario, &[seed]);
}
