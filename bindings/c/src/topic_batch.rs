//! Topics: several messages in one call.

use std::ffi::c_void;

use libc::ssize_t;
use wigwag::{Error, TopicReceived};

use crate::boundary::{bytes, call, expect_out, object, put_if_wanted, room, timeout};
use crate::segment::ww_bytes;
use crate::topic::{told, ww_subscription, ww_topic, ww_topic_received};

/// Publishes these messages one after the other, waits as ww_topic_publish() for each within one timeout, and returns how
/// many there was room for, at least one unless count is 0. Others may publish in between.
///
/// Errors, with nothing published: as ww_topic_publish(); what stops a batch after its first message is met by the next
/// call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_topic_publish_batch(
    topic: *const ww_topic,
    messages: *const ww_bytes,
    count: usize,
    timeout_ns: i64,
) -> ssize_t {
    // SAFETY: the caller's promises, as the header states them; likewise below.
    call(|| unsafe {
        let (topic, timeout) = (object(topic, "topic")?, timeout(timeout_ns)?);
        if messages.is_null() && count != 0 {
            return Err(Error::from_raw(libc::EFAULT, "messages"));
        }
        let message = |index: usize| {
            let ww_bytes { data, size } = messages.add(index).read();
            bytes(data, size)
        };
        let list: Vec<&[u8]> = (0..count).map(message).collect::<wigwag::Result<_>>()?;
        let _ongoing = topic.calls.begin(); // it waits more than once
        topic.topic.publish_batch(&list, timeout)
    })
}

/// So many messages are received in one call at most.
const MOST: usize = 64;

/// Copies as many messages out as there are, at most count and 64, and returns how many; waits while there is none. They
/// come one behind the other in buffer, which has size bytes, and which they are in received, which has room for count
/// entries. *true_size, which may be NULL, gets the size of the first where the buffer is too small for it.
///
/// Errors, with nothing taken: as ww_subscription_recv(); -EINVAL count is 0; what stops a batch after its first message is
/// met by the next call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_subscription_recv_batch(
    subscription: *const ww_subscription,
    buffer: *mut c_void,
    size: usize,
    received: *mut ww_topic_received,
    count: usize,
    timeout_ns: i64,
    true_size: *mut usize,
) -> ssize_t {
    // SAFETY: as above; received has room for so many.
    call(|| unsafe {
        let (subscription, timeout) = (object(subscription, "subscription")?, timeout(timeout_ns)?);
        let buffer = room(buffer, size)?;
        if count == 0 {
            return Err(Error::from_raw(libc::EINVAL, "count").because("there is no room for a message"));
        }
        expect_out(received)?;
        let mut list = [TopicReceived::default(); MOST];
        let _ongoing = subscription.calls.begin(); // it goes on after a wait
        let taken = subscription.subscription.recv_batch(buffer, &mut list[..count.min(MOST)], timeout).inspect_err(
            |error| {
                if error.errno() == libc::EMSGSIZE {
                    put_if_wanted(true_size, error.true_size());
                }
            },
        )?;
        for (index, message) in list[..taken].iter().enumerate() {
            received.add(index).write(told(message));
        }
        Ok(taken)
    })
}
