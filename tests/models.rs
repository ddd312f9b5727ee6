//! Mechanisms beside models of them, small enough to be seen to be right: any sequence of calls must come out the same.

mod support;

use std::collections::VecDeque;

use nix::errno::Errno;
use proptest::collection::vec;
use proptest::prelude::*;
use support::{GENEROUS, fresh};
use wigwag::{
    Address, Mq, MqOptions, PIPE_ATOMIC, Pipe, PipeOptions, Scheme, SemOp, Socket, SysvMq, SysvMqOptions, SysvSelect,
    SysvSem, SysvSemOptions, Timeout,
};

/// Removes a kernel object when the case ends, also a failed one.
struct Gone<F: FnMut()>(F);

impl<F: FnMut()> Drop for Gone<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[derive(Clone, Debug)]
enum Queued<K, S> {
    Send(K),
    Receive(S),
}

fn selects() -> impl Strategy<Value = SysvSelect> {
    prop_oneof![
        Just(SysvSelect::Any),
        (1..6_i64).prop_map(SysvSelect::Type),
        (1..6_i64).prop_map(SysvSelect::UpTo),
        (1..6_i64).prop_map(SysvSelect::AllBut),
    ]
}

/// Where in the queue the message is that this would receive.
fn selected(queue: &VecDeque<(i64, u32)>, select: SysvSelect) -> Option<usize> {
    let kinds = || queue.iter().map(|(kind, _)| *kind);
    match select {
        SysvSelect::Any => (!queue.is_empty()).then_some(0),
        SysvSelect::Type(wanted) => kinds().position(|kind| kind == wanted),
        SysvSelect::AllBut(unwanted) => kinds().position(|kind| kind != unwanted),
        SysvSelect::UpTo(most) => {
            let lowest = kinds().filter(|kind| *kind <= most).min()?;
            kinds().position(|kind| kind == lowest)
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_system_v_queue_selects_as_documented(
        steps in vec(prop_oneof![(1..6_i64).prop_map(Queued::Send), selects().prop_map(Queued::Receive)], 0..60)
    ) {
        let queue = SysvMq::create(&"sysv-mq:private".parse().unwrap(), &SysvMqOptions::default()).unwrap();
        let _gone = Gone(|| queue.unlink().unwrap());
        let mut model: VecDeque<(i64, u32)> = VecDeque::new();
        for (number, step) in (0_u32..).zip(steps) {
            match step {
                Queued::Send(kind) => {
                    queue.send(&number.to_ne_bytes(), kind, Timeout::Now).unwrap();
                    model.push_back((kind, number));
                }
                Queued::Receive(select) => match selected(&model, select) {
                    Some(place) => {
                        let (kind, number) = model.remove(place).unwrap();
                        let message = queue.recv(select, Timeout::Now).unwrap();
                        prop_assert_eq!((message.kind, message.data), (kind, number.to_ne_bytes().to_vec()));
                    }
                    None => prop_assert!(queue.recv(select, Timeout::Now).unwrap_err().is(Errno::EAGAIN)),
                },
            }
            prop_assert_eq!(queue.status().unwrap().messages, model.len());
        }
    }

    /// The highest priority first, and among equals the oldest; a full queue takes no more.
    #[test]
    fn a_posix_queue_is_ordered_by_priority(
        steps in vec(prop_oneof![3 => (0..4_u32).prop_map(Queued::Send), 2 => Just(Queued::Receive(()))], 0..60)
    ) {
        const DEPTH: usize = 8;
        let address: Address = format!("mq:/{}", fresh("model")).parse().unwrap();
        let queue = Mq::create(&address, &MqOptions { depth: DEPTH, size: 4, ..Default::default() }).unwrap();
        let _gone = Gone(|| Mq::remove(&address).unwrap());
        let mut model: VecDeque<(u32, u32)> = VecDeque::new();
        for (number, step) in (0_u32..).zip(steps) {
            match step {
                Queued::Send(_) if model.len() == DEPTH => {
                    prop_assert!(queue.send(b"full", 0, Timeout::Now).unwrap_err().is(Errno::EAGAIN));
                }
                Queued::Send(priority) => {
                    queue.send(&number.to_ne_bytes(), priority, Timeout::Now).unwrap();
                    let place = model.iter().position(|(other, _)| *other < priority).unwrap_or(model.len());
                    model.insert(place, (priority, number));
                }
                Queued::Receive(()) => match model.pop_front() {
                    Some((priority, number)) => {
                        let message = queue.recv(Timeout::Now).unwrap();
                        prop_assert_eq!((message.priority, message.data), (priority, number.to_ne_bytes().to_vec()));
                    }
                    None => prop_assert!(queue.recv(Timeout::Now).unwrap_err().is(Errno::EAGAIN)),
                },
            }
        }
    }

    /// All operations of a call happen, in their order, or none does.
    #[test]
    fn a_system_v_set_operates_atomically(
        initial in vec(0..4_u16, 3),
        calls in vec(vec((0..4_u16, -3..=3_i16), 1..5), 0..30),
    ) {
        let options = SysvSemOptions { values: initial.clone(), ..Default::default() };
        let set = SysvSem::create(&"sysv-sem:private".parse().unwrap(), &options).unwrap();
        let _gone = Gone(|| set.unlink().unwrap());
        let mut model = initial;
        for call in calls {
            let ops: Vec<_> = call.iter().map(|(number, change)| SemOp::new(*number, *change)).collect();
            let result = set.operate(&ops, Timeout::Now).map_err(|error| error.errno());
            prop_assert_eq!(result, operate(&mut model, &call), "{:?}", &call);
            prop_assert_eq!(set.values().unwrap(), model.clone());
        }
    }

    /// Packets and messages come out one by one, whole, in their order.
    #[test]
    fn boundaries_are_kept(sizes in vec(prop_oneof![1..20_usize, 1..=PIPE_ATOMIC], 1..9)) {
        let messages: Vec<Vec<u8>> = sizes.iter().enumerate().map(|(n, size)| vec![n as u8; *size]).collect();
        let (reader, writer) = Pipe::open(PipeOptions { packet: true, ..Default::default() }).unwrap();
        let pairs = [Scheme::UnixSeqpacket, Scheme::UnixDgram].map(|scheme| Socket::pair(scheme).unwrap());
        for message in &messages {
            writer.write_all(message, GENEROUS).unwrap();
            for (here, _) in &pairs {
                here.send(message, GENEROUS).unwrap();
            }
        }
        let mut buffer = [0; PIPE_ATOMIC];
        for message in &messages {
            let length = reader.read(&mut buffer, GENEROUS).unwrap();
            prop_assert_eq!(&buffer[..length], message.as_slice());
            for (_, there) in &pairs {
                // One byte too few: the message stays, and its size is told.
                let error = there.recv(&mut vec![0; message.len() - 1], Timeout::Now).unwrap_err();
                prop_assert_eq!((error.errno(), error.true_size()), (libc::EMSGSIZE, message.len()));
                let length = there.recv(&mut buffer, Timeout::Now).unwrap();
                prop_assert_eq!(&buffer[..length], message.as_slice());
            }
        }
    }
}

/// What the kernel's manual says: the errno, or the values changed.
fn operate(values: &mut Vec<u16>, call: &[(u16, i16)]) -> Result<(), i32> {
    if call.iter().any(|(number, _)| usize::from(*number) >= values.len()) {
        return Err(libc::EFBIG);
    }
    let mut after = values.clone();
    for (number, change) in call {
        let value = &mut after[usize::from(*number)];
        if *change == 0 {
            if *value != 0 {
                return Err(libc::EAGAIN);
            }
        } else {
            *value = value.checked_add_signed(*change).ok_or(libc::EAGAIN)?;
        }
    }
    *values = after;
    Ok(())
}
