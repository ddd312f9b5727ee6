//! The one error type: a negated errno for programs, a sentence for people.

use std::fmt;
use std::sync::Arc;

use nix::errno::Errno;

/// What went wrong: an errno, the operation, the object, the cause and the remedy where they are known.
///
/// Making one neither formats nor allocates unless a cause had to be looked up, so that a polled `EAGAIN` stays cheap;
/// the text is made when it is asked for. Converts into [`std::io::Error`], keeping the errno.
#[derive(Clone)]
pub struct Error {
    errno: i32,
    operation: &'static str,
    object: Option<Arc<str>>,
    reason: Reason,
    amount: usize,
}

#[derive(Clone)]
enum Reason {
    Unknown,
    Fixed(&'static str),
    Found(Arc<str>),
}

/// The result of every call that can fail.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error of `operation` on nothing in particular; say more with the methods that follow.
    pub fn new(errno: Errno, operation: &'static str) -> Error {
        Error::from_raw(errno as i32, operation)
    }

    /// As [`Error::new`], for an errno that came as a number; numbers that no kernel gives become `EIO`.
    pub fn from_raw(errno: i32, operation: &'static str) -> Error {
        let errno = if (1..4096).contains(&errno) { errno } else { libc::EIO };
        Error { errno, operation, object: None, reason: Reason::Unknown, amount: 0 }
    }

    /// Names the object, as its address.
    #[must_use]
    pub fn on(mut self, object: &Arc<str>) -> Error {
        self.object = Some(Arc::clone(object));
        self
    }

    /// Names an object that has no address of its own yet, such as the text a caller gave.
    #[must_use]
    pub fn on_text(mut self, object: impl Into<Arc<str>>) -> Error {
        self.object = Some(object.into());
        self
    }

    /// Says the cause, and what to do about it.
    #[must_use]
    pub fn because(mut self, reason: &'static str) -> Error {
        self.reason = Reason::Fixed(reason);
        self
    }

    /// As [`Error::because`], for a cause that had to be looked up.
    #[must_use]
    pub fn because_found(mut self, reason: impl Into<Arc<str>>) -> Error {
        self.reason = Reason::Found(reason.into());
        self
    }

    /// The same failure by the errno that this library gives it, where the kernel has several for it.
    #[must_use]
    pub(crate) fn with_errno(self, errno: Errno) -> Error {
        Error { errno: errno as i32, ..self }
    }

    /// Records how many bytes (or items) were done before the failure; see [`Error::done`].
    #[must_use]
    pub fn after(mut self, done: usize) -> Error {
        self.amount = done;
        self
    }

    /// Records the true size of what did not fit; see [`Error::true_size`].
    #[must_use]
    pub fn with_true_size(mut self, size: usize) -> Error {
        self.amount = size;
        self
    }

    /// The errno, positive.
    pub fn errno(&self) -> i32 {
        self.errno
    }

    /// Whether the errno is this one.
    pub fn is(&self, errno: Errno) -> bool {
        self.errno == errno as i32
    }

    /// The operation that failed, by the name of its system call or of its place in this library.
    pub fn operation(&self) -> &'static str {
        self.operation
    }

    /// The address of the object, where one was involved.
    pub fn object(&self) -> Option<&str> {
        self.object.as_deref()
    }

    /// How much was done before the failure: bytes for reads and writes. 0 with `EMSGSIZE`.
    pub fn done(&self) -> usize {
        if self.is(Errno::EMSGSIZE) { 0 } else { self.amount }
    }

    /// With `EMSGSIZE`: the true size in bytes of the message that did not fit, 0 where the kernel does not tell.
    pub fn true_size(&self) -> usize {
        if self.is(Errno::EMSGSIZE) { self.amount } else { 0 }
    }

    /// The symbolic name of the errno, such as `"EAGAIN"`.
    pub fn name(&self) -> String {
        match Errno::from_raw(self.errno) {
            Errno::UnknownErrno => format!("errno {}", self.errno),
            // EOPNOTSUPP and ENOTSUP share a number on Linux; the name that this library documents is the latter.
            Errno::EOPNOTSUPP => "ENOTSUP".into(),
            known => format!("{known:?}"),
        }
    }

    /// The cause and the remedy without operation and object, falling back on the system's words for the errno.
    pub fn reason(&self) -> &str {
        match &self.reason {
            Reason::Fixed(text) => text,
            Reason::Found(text) => text,
            Reason::Unknown => own_meaning(self.errno).unwrap_or_else(|| Errno::from_raw(self.errno).desc()),
        }
    }
}

/// Conditions of this library's own, for which the system's words would mislead.
fn own_meaning(errno: i32) -> Option<&'static str> {
    Some(match errno {
        libc::ETIMEDOUT => "the deadline passed",
        libc::EAGAIN => "it would have to wait, and the timeout is zero",
        libc::ECANCELED => "the wait was cancelled, or the object was closed meanwhile",
        libc::EPIPE => "no peer is left on the other side",
        libc::EFAULT => "a NULL pointer where none may be",
        libc::ENOTSUP => "this mechanism cannot do that",
        _ => return None,
    })
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.operation)?;
        if let Some(object) = &self.object {
            write!(f, " {object}")?;
        }
        write!(f, ": {}: {}", self.name(), self.reason())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Error({self})")
    }
}

impl std::error::Error for Error {}

impl From<Error> for std::io::Error {
    /// Keeps the errno; the text is the system's from then on.
    fn from(error: Error) -> std::io::Error {
        std::io::Error::from_raw_os_error(error.errno)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_names_operation_object_errno_and_remedy() {
        let address: Arc<str> = "mq:/jobs".into();
        let error = Error::new(Errno::EMFILE, "mq_open").on(&address).because("too many; remove one");
        assert_eq!(error.to_string(), "mq_open mq:/jobs: EMFILE: too many; remove one");
        assert_eq!(error.object(), Some("mq:/jobs"));
    }

    #[test]
    fn io_error_keeps_errno() {
        let error = Error::new(Errno::ETIMEDOUT, "read");
        assert_eq!(std::io::Error::from(error).raw_os_error(), Some(libc::ETIMEDOUT));
    }

    #[test]
    fn amounts_have_one_meaning_each() {
        let cut = Error::new(Errno::EMSGSIZE, "recv").with_true_size(9000);
        assert_eq!((cut.true_size(), cut.done()), (9000, 0));
        let part = Error::new(Errno::ETIMEDOUT, "write").after(17);
        assert_eq!((part.true_size(), part.done()), (0, 17));
    }

    #[test]
    fn absurd_numbers_become_eio() {
        assert_eq!(Error::from_raw(0, "x").errno(), libc::EIO);
        assert_eq!(Error::from_raw(-5, "x").errno(), libc::EIO);
        assert_eq!(Error::from_raw(4095, "x").name(), "errno 4095");
        assert_eq!(Error::new(Errno::EOPNOTSUPP, "x").name(), "ENOTSUP");
    }
}
