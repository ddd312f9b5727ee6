//! What went wrong with a log, before it is known in which call.

use std::borrow::Cow;

use nix::errno::Errno;

use super::format::Unfit;
use crate::error::Error;
use crate::limits::explain_descriptors;

#[derive(Debug)]
pub(super) struct Fault {
    pub errno: Errno,
    reason: Cow<'static, str>,
}

pub(super) type Outcome<T> = Result<T, Fault>;

impl From<Errno> for Fault {
    fn from(errno: Errno) -> Fault {
        Fault { errno, reason: "".into() }
    }
}

impl Fault {
    #[cold]
    pub fn new(errno: Errno, reason: impl Into<Cow<'static, str>>) -> Fault {
        Fault { errno, reason: reason.into() }
    }

    /// A file that is not what it should be; `what` names it.
    #[cold]
    pub fn unfit(what: &str, unfit: Unfit) -> Fault {
        match unfit {
            Unfit::Version(version) => Fault::new(
                Errno::EPROTO,
                format!(
                    "{what} was written by another version of this library (format {version}); use one of that version"
                ),
            ),
            Unfit::Unfinished => {
                Fault::new(Errno::EBADMSG, format!("{what} was cut off, and no more is known about it"))
            }
            Unfit::Foreign => Fault::new(
                Errno::EBADMSG,
                format!("{what} is no file of such a log; name another directory, or one that does not exist"),
            ),
            Unfit::Damaged => {
                Fault::new(Errno::EBADMSG, format!("{what} is damaged: its checksum is wrong; restore it from a copy"))
            }
        }
    }

    /// The log is gone under whoever uses it.
    #[cold]
    pub fn removed() -> Fault {
        Fault::new(Errno::ESTALE, "the log was removed since it was opened; open it again")
    }

    #[cold]
    pub fn of(self, error: impl FnOnce(Errno) -> Error) -> Error {
        let plain = error(self.errno);
        match (self.reason, self.errno) {
            (Cow::Borrowed(""), Errno::ENOSPC) => plain.because("the disk is full; make room and go on"),
            (Cow::Borrowed(""), Errno::EDQUOT) => plain.because("the disk quota is used up; make room and go on"),
            (Cow::Borrowed(""), _) => explain_descriptors(plain),
            (Cow::Borrowed(reason), _) => plain.because(reason),
            (Cow::Owned(reason), _) => plain.because_found(reason),
        }
    }
}
