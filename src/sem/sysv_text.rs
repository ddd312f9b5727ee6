//! What errors of semaphore sets mean, with the limits of the system where one was reached.

use nix::errno::Errno;

use crate::error::Error;
use crate::wait::Object;

/// SEMVMX, which Linux does not let anybody change.
pub(super) const LARGEST: u16 = 32767;

/// The four numbers of /proc/sys/kernel/sem.
pub(super) struct Limits {
    pub(super) per_set: usize,
    pub(super) in_all: usize,
    pub(super) per_call: usize,
    pub(super) sets: usize,
}

impl Limits {
    /// `None` where /proc is not there to tell.
    pub(super) fn now() -> Option<Limits> {
        let text = std::fs::read_to_string("/proc/sys/kernel/sem").ok()?;
        let mut numbers = text.split_whitespace().map_while(|number| number.parse().ok());
        Some(Limits {
            per_set: numbers.next()?,
            in_all: numbers.next()?,
            per_call: numbers.next()?,
            sets: numbers.next()?,
        })
    }
}

/// How many sets and semaphores there are, as far as /proc tells.
fn in_use() -> Option<(usize, usize)> {
    const COUNT_AT: usize = 3; // key semid perms nsems …
    let text = std::fs::read_to_string("/proc/sysvipc/sem").ok()?;
    let counts = text.lines().skip(1).filter_map(|line| line.split_whitespace().nth(COUNT_AT)?.parse::<usize>().ok());
    Some(counts.fold((0, 0), |(sets, all), count| (sets + 1, all + count)))
}

/// The error of a call that made no set.
#[cold]
pub(super) fn of_creation(object: &Object, errno: Errno, count: usize) -> Error {
    let error = object.error(errno, "semget");
    match (errno, Limits::now()) {
        (Errno::EEXIST, _) => error.because("there is a set of this key; open it, or remove it if it is left over"),
        (Errno::ENOSPC, Some(limits)) => {
            let (sets, all) = in_use().unwrap_or_default();
            error.because_found(format!(
                "{sets} of semmni={} sets with {all} of semmns={} semaphores exist, and this one needs {count}; remove what \
                 is left over (ipcs -s, ipcrm -s ID) or raise the limits (sysctl kernel.sem: semmsl semmns semopm semmni)",
                limits.sets, limits.in_all
            ))
        }
        (Errno::EINVAL, Some(limits)) if count > limits.per_set => error.because_found(format!(
            "a set of {count} semaphores is more than semmsl={} allows; make it smaller or raise the limit (sysctl \
             kernel.sem, first number)",
            limits.per_set
        )),
        _ => of_opening(error, count),
    }
}

/// The error of a call that found no set to open.
#[cold]
pub(super) fn of_opening(error: Error, count: usize) -> Error {
    match Errno::from_raw(error.errno()) {
        Errno::ENOENT => error.because("there is no set of this key; create it, or start the program that does"),
        Errno::EINVAL => {
            error.because_found(format!("the set of this key has fewer than the {count} semaphores that are asked for"))
        }
        Errno::EACCES | Errno::EPERM => error
            .because("it belongs to another user and its mode does not let you in; its creator can give a wider mode"),
        _ => error,
    }
}

/// As `explained`, for a call other than an operation.
#[cold]
pub(super) fn of_object(object: &Object, errno: Errno, operation: &'static str) -> Error {
    explained(object.error(errno, operation), 0, 0)
}

/// Adds cause and remedy to the error of an operation on a set of `count` semaphores.
#[cold]
pub(super) fn explained(error: Error, count: usize, ops: usize) -> Error {
    match Errno::from_raw(error.errno()) {
        // The kernel gives EIDRM to those who wait and EINVAL to those who come later.
        Errno::EIDRM | Errno::EINVAL => {
            error.with_errno(Errno::EIDRM).because("the set was removed; open or make it anew")
        }
        Errno::EFBIG => error.because_found(format!("a number past the last semaphore; the set has {count}, from 0")),
        Errno::ERANGE => error.because_found(format!(
            "a value past the largest, semvmx={LARGEST}, or as much to be undone when this process ends; permits that are \
             not given back are taken with add"
        )),
        Errno::E2BIG => {
            let limit = Limits::now().map_or("?".into(), |limits| limits.per_call.to_string());
            error.because_found(format!(
                "{ops} operations in one call, of semopm={limit} allowed; do fewer or raise the limit (sysctl kernel.sem, \
                 third number)"
            ))
        }
        Errno::EACCES => error.because("the mode of the set does not allow it to this user"),
        Errno::EPERM => error.because("only its owner or creator may do that"),
        Errno::ENOSPC => {
            error.because("the system has no room left for what is to be undone at the end of this process")
        }
        _ => error,
    }
}
