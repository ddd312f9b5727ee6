//! How a set comes to have its values before anybody uses it.
//!
//! semget makes a set and semctl gives it values, in two calls: the well-known race is that another process opens it in
//! between. Here the values go in by semop, all in one call, which also sets `sem_otime`: a set is either pristine (all
//! zero, `sem_otime` 0) or complete, and whoever operates on a pristine one merely waits for its permits. The old
//! convention is kept as well, for the sake of other programs: an opener waits until `sem_otime` is not 0.
//!
//! A creator may die in between. Whoever takes over makes the set anew instead of putting values into the pristine one,
//! because no operation can be made to depend on `sem_otime`: a creator that was only stopped would put its values in a
//! second time, and two would hold one lock. This way it finds its set gone and begins again. What is left is a creator
//! that was stopped for the whole time allowed and goes on between the last look and the removal, two adjacent system
//! calls: those who use its set by then get EIDRM.

use std::time::{Duration, SystemTime};

use nix::errno::Errno;

use super::sysv::{SysvSem, SysvSemOptions};
use super::sysv_text;
use crate::address::{Address, Scheme};
use crate::error::{Error, Result};
use crate::sys::SysResult;
use crate::sys::sysv_sem::{self as kernel, Ask, Op};
use crate::sysv;
use crate::timeout::{Deadline, Timeout};
use crate::wait::Object;

const SETTLE: Duration = Duration::from_secs(1);
/// How often a set that comes and goes is tried before giving up.
const TRIES: u32 = 1000;

/// What is to be made: options with the address's filled in, checked.
struct Plan {
    object: Object,
    key: Option<i32>,
    mode: u32,
    values: Vec<u16>,
    /// What an existing set must have at least.
    least: usize,
    settle: Duration,
}

fn object_and_key(address: &Address) -> Result<(Object, Option<i32>)> {
    address.require(&[Scheme::SysvSem], "semget")?;
    Ok((Object::new(address.without_options().to_string()), sysv::key(address, "semget")?))
}

fn asked_count(object: &Object, address: &Address) -> Result<usize> {
    // The kernel takes an int; what does not fit one is past every limit.
    let count = address.number("count").unwrap_or(0);
    usize::try_from(count)
        .ok()
        .filter(|count| i32::try_from(*count).is_ok())
        .ok_or_else(|| object.error(Errno::EINVAL, "semget").because("a count that no set can have"))
}

impl Plan {
    fn new(address: &Address, options: &SysvSemOptions) -> Result<Plan> {
        let (object, key) = object_and_key(address)?;
        let refused = |errno, reason| object.error(errno, "semget").because(reason);
        let mode = match (options.mode, address.mode()) {
            (0, given) => given.unwrap_or(0o600),
            (mode, _) => mode,
        };
        if mode > 0o777 {
            return Err(refused(Errno::EINVAL, "a mode is permissions from 0 to 0777"));
        }
        let asked = match options.count {
            0 => asked_count(&object, address)?,
            count => count,
        };
        let least = if asked > 0 { asked } else { options.values.len() };
        let initial = match (options.initial, address.number("initial")) {
            (0, given) => u16::try_from(given.unwrap_or(0)).unwrap_or(u16::MAX),
            (initial, _) => initial,
        };
        let count = least.max(1);
        // Before memory is taken for the values.
        if sysv_text::Limits::now().is_some_and(|limits| count > limits.per_set) {
            return Err(sysv_text::of_creation(&object, Errno::EINVAL, count));
        }
        if !options.values.is_empty() && options.values.len() != count {
            return Err(refused(
                Errno::EINVAL,
                "as many values as semaphores must be given, or one initial value for all",
            ));
        }
        let values = if options.values.is_empty() { vec![initial; count] } else { options.values.clone() };
        if values.iter().any(|value| *value > sysv_text::LARGEST) {
            return Err(sysv_text::explained(object.error(Errno::ERANGE, "semget"), count, 0));
        }
        Ok(Plan { object, key, mode, values, least, settle: options.settle.unwrap_or(SETTLE) })
    }

    fn make(&self) -> SysResult<i32> {
        kernel::create(self.key, self.values.len(), self.mode)
    }

    fn made_error(&self, errno: Errno) -> Error {
        sysv_text::of_creation(&self.object, errno, self.values.len())
    }

    fn done(self, id: i32, count: usize) -> SysvSem {
        SysvSem::from_parts(self.object, id, count)
    }

    /// Puts the values into a pristine set and makes its `sem_otime` say so.
    fn initialise(&self, id: i32) -> SysResult<()> {
        let op = |number: u16, change: i16| Op { number, change, undo: false };
        let ops: Vec<Op> = (0_u16..)
            .zip(&self.values)
            .filter(|(_, value)| **value > 0)
            .map(|(number, value)| op(number, value.cast_signed()))
            .collect();
        let mark = [op(0, 0)]; // waits for zero, which a pristine set is
        let result = if ops.is_empty() { operate(id, &mark) } else { operate(id, &ops) };
        if result != Err(Errno::E2BIG) {
            return result;
        }
        // More semaphores than one call may change: the values first, then an operation that changes none of them. If
        // somebody is faster and takes a permit, that has been the operation.
        kernel::set_values(id, &self.values)?;
        let first = self.values.first().copied().unwrap_or(0);
        match if first == 0 { operate(id, &mark) } else { operate(id, &[op(0, -1), op(0, 1)]) } {
            Err(Errno::EAGAIN) => Ok(()),
            result => result,
        }
    }
}

fn operate(id: i32, ops: &[Op]) -> SysResult<()> {
    kernel::try_operate(id, ops.iter().copied())
}

/// Whether the errno of a call on an id says that its set is gone.
fn is_gone(errno: Errno) -> bool {
    matches!(errno, Errno::EIDRM | Errno::EINVAL)
}

pub(super) fn create(address: &Address, options: &SysvSemOptions) -> Result<SysvSem> {
    let plan = Plan::new(address, options)?;
    let id = plan.make().map_err(|errno| plan.made_error(errno))?;
    match plan.initialise(id) {
        Ok(()) => {
            let count = plan.values.len();
            Ok(plan.done(id, count))
        }
        Err(errno) => Err(undone(&plan, id, errno)),
    }
}

/// Takes back the making of a set that could not be given its values.
fn undone(plan: &Plan, id: i32, errno: Errno) -> Error {
    let _ = kernel::remove(id); // refused only if it is gone
    sysv_text::explained(plan.object.error(errno, "semop"), plan.values.len(), plan.values.len())
}

pub(super) fn open_or_create(address: &Address, options: &SysvSemOptions) -> Result<SysvSem> {
    if sysv::key(address, "semget").is_ok_and(|key| key.is_none()) {
        return create(address, options); // nobody else can have it
    }
    let plan = Plan::new(address, options)?;
    for _ in 0..TRIES {
        match plan.make() {
            Ok(id) => match plan.initialise(id) {
                Ok(()) => {
                    let count = plan.values.len();
                    return Ok(plan.done(id, count));
                }
                Err(errno) if is_gone(errno) => continue, // another took us for dead
                Err(errno) => return Err(undone(&plan, id, errno)),
            },
            Err(Errno::EEXIST) => {}
            Err(errno) => return Err(plan.made_error(errno)),
        }
        match existing(&plan.object, plan.key, plan.least)? {
            Some(id) => {
                if let Some(count) = settled(&plan, id)? {
                    return Ok(plan.done(id, count));
                }
            }
            None => continue,
        }
    }
    Err(plan.object.error(Errno::EBUSY, "semget").because("others make and remove it faster than it can be opened"))
}

/// The id of the set that is there; `None` if there is none.
fn existing(object: &Object, key: Option<i32>, least: usize) -> Result<Option<i32>> {
    let Some(key) = key else { return Ok(None) };
    match kernel::open(key, least) {
        Ok(id) => Ok(Some(id)),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(sysv_text::of_opening(object.error(errno, "semget"), least)),
    }
}

/// How many semaphores the set has once its values are in; `None` if it is gone and all begins anew.
fn settled(plan: &Plan, id: i32) -> Result<Option<usize>> {
    let failed = |errno| sysv_text::of_object(&plan.object, errno, "semctl");
    match wait_for_values(&plan.object, id, plan.settle, false)? {
        Seen::Gone => return Ok(None),
        Seen::Complete(count) => return Ok(Some(count)),
        Seen::Pristine(count) if plan.values.iter().all(|value| *value == 0) => {
            // Complete but for the mark. It may have got other values meanwhile, and then needs none.
            return match operate(id, &[Op { number: 0, change: 0, undo: false }]) {
                Ok(()) | Err(Errno::EAGAIN | Errno::EACCES) => Ok(Some(count)),
                Err(errno) if is_gone(errno) => Ok(None),
                Err(errno) => Err(failed(errno)),
            };
        }
        Seen::Pristine(_) => {}
    }
    match kernel::remove(id) {
        Ok(()) => Ok(None),
        Err(errno) if is_gone(errno) => Ok(None),
        Err(Errno::EPERM) => Err(plan.object.error(Errno::EPERM, "semget").because(
            "its creator seems to have died before giving it values, and it is not yours to remove; its owner can (ipcrm)",
        )),
        Err(errno) => Err(failed(errno)),
    }
}

enum Seen {
    Complete(usize),
    /// For the whole time allowed nobody operated on it nor set a value, and all are zero.
    Pristine(usize),
    Gone,
}

/// Waits until somebody has operated on the set, for `settle` at most, then looks whether values were set otherwise.
/// `old_is_complete`: a set made long ago is not waited for.
fn wait_for_values(object: &Object, id: i32, settle: Duration, old_is_complete: bool) -> Result<Seen> {
    let deadline = Deadline::after(Timeout::from(settle));
    let mut pause = Duration::from_micros(200);
    let count = loop {
        let stat = match kernel::stat(id) {
            Ok(stat) => stat,
            Err(errno) if is_gone(errno) => return Ok(Seen::Gone),
            Err(errno) => return Err(sysv_text::of_object(object, errno, "semctl")),
        };
        if stat.operated_at != 0 || (old_is_complete && is_old(stat.changed_at, settle)) {
            return Ok(Seen::Complete(stat.count));
        }
        let left = deadline.remaining().unwrap_or(pause);
        if left.is_zero() {
            break stat.count;
        }
        // Nothing but time ends this wait, or a cancel.
        match object.operation("semget", Timeout::After(pause.min(left))).wait().poll(&mut []) {
            Ok(()) | Err(Errno::ETIMEDOUT) => {}
            Err(errno) => return Err(object.error(errno, "semget")),
        }
        pause = (pause * 2).min(Duration::from_millis(10));
    };
    // SETVAL and SETALL leave no time of operation but their pid, except one of a namespace that we cannot see.
    let all_zero = kernel::values(id).map(|values| values.iter().all(|value| *value == 0));
    let untouched = || {
        (0..count)
            .all(|number| u16::try_from(number).is_ok_and(|number| kernel::ask(id, number, Ask::LastPid) == Ok(0)))
    };
    match all_zero {
        Ok(true) if untouched() => Ok(Seen::Pristine(count)),
        Err(errno) if is_gone(errno) => Ok(Seen::Gone),
        _ => Ok(Seen::Complete(count)),
    }
}

/// Whether a time of the set's, in whole seconds, surely lies longer ago than `age`.
fn is_old(seconds: i64, age: Duration) -> bool {
    let then = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    SystemTime::now().duration_since(then).is_ok_and(|passed| passed > age + Duration::from_secs(1))
}

pub(super) fn open(address: &Address, settle: Option<Duration>) -> Result<SysvSem> {
    let (object, key) = object_and_key(address)?;
    if key.is_none() {
        return Err(object
            .error(Errno::EINVAL, "semget")
            .because("a private set cannot be found; create it, or use its id"));
    }
    let least = asked_count(&object, address)?;
    for _ in 0..TRIES {
        let Some(id) = existing(&object, key, least)? else {
            return Err(sysv_text::of_opening(object.error(Errno::ENOENT, "semget"), least));
        };
        match wait_for_values(&object, id, settle.unwrap_or(SETTLE), true)? {
            Seen::Complete(count) | Seen::Pristine(count) => return Ok(SysvSem::from_parts(object, id, count)),
            Seen::Gone => {}
        }
    }
    Err(object.error(Errno::EBUSY, "semget").because("others make and remove it faster than it can be opened"))
}

pub(super) fn remove(address: &Address) -> Result<()> {
    let (object, key) = object_and_key(address)?;
    let Some(id) = existing(&object, key, 0)? else {
        return Err(object.error(Errno::ENOENT, "semctl").because("there is no set of this key"));
    };
    kernel::remove(id).map_err(|errno| sysv_text::of_object(&object, errno, "semctl"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cancel, SemOp};

    /// A raw key that no other test uses, and its set removed in the end.
    struct Key(i32);

    impl Key {
        fn new() -> Key {
            use std::sync::atomic::{AtomicU32, Ordering};
            static NEXT: AtomicU32 = AtomicU32::new(0);
            // The pid keeps parallel runs apart; pids have 22 bits at most.
            let number = 0x4000_0000 | (std::process::id() << 8) | NEXT.fetch_add(1, Ordering::Relaxed);
            let key = Key((number & 0x7fff_ffff).cast_signed());
            let _ = remove(&key.address());
            key
        }

        fn address(&self) -> Address {
            Address::parse(format!("sysv-sem:0x{:x}", self.0)).unwrap()
        }
    }

    impl Drop for Key {
        fn drop(&mut self) {
            let _ = remove(&self.address());
        }
    }

    fn options(initial: u16, settle_ms: u64) -> SysvSemOptions {
        SysvSemOptions { initial, settle: Some(Duration::from_millis(settle_ms)), ..Default::default() }
    }

    #[test]
    fn set_of_a_creator_that_died_is_made_anew() {
        let key = Key::new();
        let left_behind = kernel::create(Some(key.0), 1, 0o600).unwrap();
        let set = open_or_create(&key.address(), &options(3, 20)).unwrap();
        assert_ne!(set.id(), left_behind);
        assert_eq!(set.values().unwrap(), [3]);
        let slow_creator = operate(left_behind, &[Op { number: 0, change: 3, undo: false }]);
        assert!(is_gone(slow_creator.unwrap_err()), "whoever was only slow finds out");
    }

    #[test]
    fn set_of_zeros_needs_no_making_anew() {
        let key = Key::new();
        let id = kernel::create(Some(key.0), 2, 0o600).unwrap();
        let set = open_or_create(&key.address(), &options(0, 5)).unwrap();
        assert_eq!(set.id(), id);
        assert!(set.status().unwrap().operated_at.is_some(), "the next opener need not wait");
    }

    #[test]
    fn values_set_without_an_operation_count() {
        let key = Key::new();
        let id = kernel::create(Some(key.0), 1, 0o600).unwrap();
        kernel::set_value(id, 0, 5).unwrap();
        let set = open_or_create(&key.address(), &options(1, 5)).unwrap();
        assert_eq!((set.id(), set.values().unwrap()), (id, vec![5]));
        kernel::set_value(id, 0, 0).unwrap();
        assert_eq!(open_or_create(&key.address(), &options(1, 5)).unwrap().id(), id, "its pid tells of the change");
    }

    #[test]
    fn opener_waits_for_a_creator_at_work() {
        let key = Key::new();
        let id = kernel::create(Some(key.0), 1, 0o600).unwrap();
        std::thread::scope(|threads| {
            threads.spawn(|| {
                std::thread::sleep(Duration::from_millis(20));
                operate(id, &[Op { number: 0, change: 7, undo: false }]).unwrap();
            });
            let set = open_or_create(&key.address(), &options(1, 30_000)).unwrap();
            assert_eq!((set.id(), set.values().unwrap()), (id, vec![7]));
        });
    }

    #[test]
    fn opening_takes_a_pristine_set_as_it_is_in_the_end() {
        let key = Key::new();
        let id = kernel::create(Some(key.0), 1, 0o600).unwrap();
        let set = open(&key.address(), None).unwrap();
        assert_eq!(set.id(), id);
        let waiting = set.operate(&[SemOp::new(0, -1)], Timeout::Now);
        assert!(waiting.unwrap_err().is(Errno::EAGAIN), "an operation waits for the values");
    }

    #[test]
    fn opener_obeys_cancel() {
        let (key, cancel) = (Key::new(), Cancel::new());
        kernel::create(Some(key.0), 1, 0o600).unwrap();
        cancel.fire();
        let _scope = cancel.enter();
        assert!(open_or_create(&key.address(), &options(1, 30_000)).unwrap_err().is(Errno::ECANCELED));
    }
}
