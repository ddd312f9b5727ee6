//! Locks and the like whose memory is written over.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use wigwag::{
    Barrier, BarrierOptions, Condition, ConditionOptions, Event, EventOptions, Mutex, MutexOptions, Permits,
    PermitsOptions, Result, RwLock, RwLockOptions, Timeout, WaitMode,
};

use super::input::{Input, play, told_or};

/// The first byte says which kind.
pub fn locks(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    match input.byte() % 6 {
        0 => mutex(&mut input),
        1 => permits(&mut input),
        2 => rwlock(&mut input),
        3 => event(&mut input),
        4 => barrier(&mut input),
        _ => condition(&mut input),
    }
}

/// A thread that has a lock already is told so, and a barrier may be broken.
fn told<T>(result: Result<T>) -> Option<T> {
    told_or(&[Errno::EDEADLK, Errno::EOVERFLOW, Errno::EOWNERDEAD], result)
}

fn again(object: &impl AsFd) -> OwnedFd {
    object.as_fd().try_clone_to_owned().unwrap()
}

fn mutex(input: &mut Input) {
    let recursive = input.byte() & 1 != 0;
    let options = MutexOptions { recursive, participants: 4, wait: WaitMode::Block, ..Default::default() };
    let mutex = Mutex::anonymous(options.clone()).unwrap();
    play(input, &mutex, |code, input| match code % 8 {
        0 => {
            if let Some(locked) = told(mutex.lock(input.timeout())) {
                let inherited = locked.is_inherited();
                let guard = locked.into_guard();
                play(&mut Input::new(input.some()), &mutex, |_, _| {});
                match input.byte() % 4 {
                    0 => told(guard.unlock()),
                    1 => told(guard.give_up()),
                    2 if inherited => told(guard.consistent()),
                    _ => Some(()),
                };
            }
        }
        1 => drop(told(mutex.take(input.timeout()))),
        2 => drop(told(mutex.release())),
        3 => drop(told(mutex.consistent())),
        4 => drop(told(mutex.give_up())),
        5 => drop(
            told(Mutex::from_fd(again(&mutex), options.clone()))
                .map(|other| told(other.lock(input.timeout())).is_some()),
        ),
        6 => drop((told(mutex.state()), mutex.is_mine(), told(mutex.check()))),
        _ => drop(told(mutex.statistics()).map(|statistics| format!("{statistics:?}"))),
    });
}

fn permits(input: &mut Input) {
    let fair = input.byte() & 1 != 0;
    let options = PermitsOptions { count: 3, fair, participants: 4, wait: WaitMode::Block, ..Default::default() };
    let permits = Permits::anonymous(options.clone()).unwrap();
    play(input, &permits, |code, input| match code % 6 {
        0 => {
            if let Some(guard) = told(permits.acquire(u32::from(input.byte() % 5), input.timeout())) {
                play(&mut Input::new(input.some()), &permits, |_, _| {});
                told(guard.release());
            }
        }
        1 => drop(told(permits.take(u32::from(input.byte() % 5), input.timeout()))),
        2 => drop(told(permits.release(u32::from(input.byte() % 5)))),
        3 => drop(
            told(Permits::from_fd(again(&permits), options.clone()))
                .map(|other| told(other.acquire(1, input.timeout())).is_some()),
        ),
        4 => drop((permits.available(), permits.total(), told(permits.check()))),
        _ => drop(told(permits.statistics()).map(|statistics| format!("{statistics:?}"))),
    });
}

fn rwlock(input: &mut Input) {
    let options = RwLockOptions { participants: 4, wait: WaitMode::Block, ..Default::default() };
    let lock = RwLock::anonymous(options.clone()).unwrap();
    play(input, &lock, |code, input| match code % 8 {
        0 => {
            if let Some(_guard) = told(lock.read(input.timeout())) {
                play(&mut Input::new(input.some()), &lock, |_, _| {});
            }
        }
        1 => {
            if let Some(_guard) = told(lock.write(input.timeout())) {
                play(&mut Input::new(input.some()), &lock, |_, _| {});
            }
        }
        2 => drop(told(lock.take_read(input.timeout()))),
        3 => drop(told(lock.take_write(input.timeout()))),
        4 => drop(told(lock.release_read())),
        5 => drop(told(lock.release_write())),
        6 => drop(
            told(RwLock::from_fd(again(&lock), options.clone()))
                .map(|other| told(other.write(input.timeout())).is_some()),
        ),
        _ => drop((told(lock.check()), told(lock.statistics()).map(|statistics| format!("{statistics:?}")))),
    });
}

fn event(input: &mut Input) {
    let auto_reset = input.byte() & 1 != 0;
    let options = EventOptions { auto_reset, participants: 4, wait: WaitMode::Block, ..Default::default() };
    let event = Event::anonymous(options.clone()).unwrap();
    play(input, &event, |code, input| match code % 6 {
        0 => drop(told(event.set())),
        1 => drop(told(event.clear())),
        2 | 3 => drop(told(event.wait(input.timeout()))),
        4 => drop(told(Event::from_fd(again(&event), options.clone())).map(|other| told(other.set()))),
        _ => drop((
            event.is_set(),
            told(event.check()),
            told(event.statistics()).map(|statistics| format!("{statistics:?}")),
        )),
    });
}

fn barrier(input: &mut Input) {
    let parties = 1 + u32::from(input.byte() & 1);
    let options = BarrierOptions { parties, participants: 4, wait: WaitMode::Block, ..Default::default() };
    let barrier = Barrier::anonymous(options.clone()).unwrap();
    play(input, &barrier, |code, input| match code % 6 {
        0 | 1 => drop(told(barrier.wait(input.timeout()))),
        2 => drop(told(barrier.reset())),
        3 => drop(told(barrier.break_off())),
        4 => drop(
            told(Barrier::from_fd(again(&barrier), options.clone())).map(|other| told(other.wait(input.timeout()))),
        ),
        _ => drop((told(barrier.check()), told(barrier.statistics()).map(|statistics| format!("{statistics:?}")))),
    });
}

fn condition(input: &mut Input) {
    let mutex = Mutex::anonymous(MutexOptions { participants: 4, ..Default::default() }).unwrap();
    let options = ConditionOptions { participants: 4, wait: WaitMode::Block, ..Default::default() };
    let condition = Condition::anonymous(options.clone()).unwrap();
    play(input, &condition, |code, input| match code % 6 {
        0 | 1 => {
            let guard = mutex.lock(Timeout::Now).unwrap().into_guard();
            drop(told(condition.wait(guard, input.timeout())));
        }
        2 => drop(told(condition.notify_one())),
        3 => drop(told(condition.notify_all())),
        4 => drop(told(Condition::from_fd(again(&condition), options.clone())).map(|other| told(other.notify_one()))),
        _ => drop((told(condition.check()), told(condition.statistics()).map(|statistics| format!("{statistics:?}")))),
    });
}
