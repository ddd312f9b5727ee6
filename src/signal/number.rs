//! Which signals there are: names, numbers, and what each does by default.

use std::fmt;
use std::str::FromStr;

use nix::errno::Errno;

use crate::address::{Address, Scheme};
use crate::error::{Error, Result};
use crate::sys::wake_signal;

/// A signal, by its number: 1 to 64.
///
/// Parses from a name with or without `SIG` (`USR1`, `SIGTERM`, `RTMIN+3`, `RTMAX-1`) or a number, and prints the full
/// name. Real-time signals count from what the C library leaves of them: `RTMIN` is 34 with glibc.
///
/// ```
/// use wigwag::{DefaultAction, Signal};
/// let signal: Signal = "usr1".parse()?;
/// assert_eq!((signal, signal.number(), signal.to_string()), (Signal::USR1, 10, "SIGUSR1".into()));
/// assert_eq!(Signal::STOP.default_action(), DefaultAction::Stop);
/// # Ok::<(), wigwag::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(i32);

/// What a signal does to a process that has made no arrangements for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DefaultAction {
    /// Ends the process.
    Terminate,
    /// Ends the process, with a core dump where they are on.
    Core,
    /// Does nothing.
    Ignore,
    /// Stops the process until it is continued.
    Stop,
    /// Continues the process if it is stopped.
    Continue,
}

macro_rules! signals {
    ($($name:ident = $number:ident, $action:ident, $doc:literal;)*) => {
        impl Signal {
            $(#[doc = $doc] pub const $name: Signal = Signal(libc::$number);)*
        }

        /// The classic signals: name without SIG, number, default action.
        const CLASSIC: &[(&str, i32, DefaultAction)] = &[
            $((stringify!($name), libc::$number, DefaultAction::$action),)*
        ];
    };
}

signals! {
    HUP = SIGHUP, Terminate, "The terminal has gone; servers read their configuration again.";
    INT = SIGINT, Terminate, "Interrupt: Ctrl-C.";
    QUIT = SIGQUIT, Core, "Quit: Ctrl-\\.";
    ILL = SIGILL, Core, "Illegal instruction.";
    TRAP = SIGTRAP, Core, "Breakpoint.";
    ABRT = SIGABRT, Core, "The process aborted itself.";
    BUS = SIGBUS, Core, "Memory that has nothing behind it, such as past the end of a mapped file.";
    FPE = SIGFPE, Core, "Arithmetic error, such as an integer division by zero.";
    KILL = SIGKILL, Terminate, "Ends the process; cannot be handled, blocked or ignored.";
    USR1 = SIGUSR1, Terminate, "For the program's own purposes.";
    SEGV = SIGSEGV, Core, "Memory that is not there, or not for this use.";
    USR2 = SIGUSR2, Terminate, "For the program's own purposes.";
    PIPE = SIGPIPE, Terminate, "A write to a pipe or socket that nobody reads; never caused by this library.";
    ALRM = SIGALRM, Terminate, "The timer of alarm.";
    TERM = SIGTERM, Terminate, "Please end: what kill sends.";
    STKFLT = SIGSTKFLT, Terminate, "Unused.";
    CHLD = SIGCHLD, Ignore, "A child ended, stopped or continued.";
    CONT = SIGCONT, Continue, "Continue after a stop.";
    STOP = SIGSTOP, Stop, "Stops the process; cannot be handled, blocked or ignored.";
    TSTP = SIGTSTP, Stop, "Stop: Ctrl-Z.";
    TTIN = SIGTTIN, Stop, "A background process read from the terminal.";
    TTOU = SIGTTOU, Stop, "A background process wrote to the terminal.";
    URG = SIGURG, Ignore, "Urgent data on a socket.";
    XCPU = SIGXCPU, Core, "The limit of processor time is used up.";
    XFSZ = SIGXFSZ, Core, "The limit of a file's size is reached.";
    VTALRM = SIGVTALRM, Terminate, "The timer that counts the process's own time.";
    PROF = SIGPROF, Terminate, "The timer that counts the process's and the kernel's time.";
    WINCH = SIGWINCH, Ignore, "The terminal's size changed.";
    IO = SIGIO, Terminate, "A descriptor is ready.";
    PWR = SIGPWR, Terminate, "The power fails.";
    SYS = SIGSYS, Core, "A system call that a filter forbids.";
}

const ALIASES: &[(&str, i32)] = &[("IOT", libc::SIGABRT), ("CLD", libc::SIGCHLD), ("POLL", libc::SIGIO)];
const HIGHEST: i32 = 64;

impl Signal {
    /// The signal of this number.
    ///
    /// # Errors
    /// `EINVAL` unless it is 1 to 64.
    pub fn from_number(number: i32) -> Result<Signal> {
        if (1..=HIGHEST).contains(&number) {
            return Ok(Signal(number));
        }
        Err(Error::new(Errno::EINVAL, "signal")
            .because_found(format!("{number} is no signal; they are 1 to {HIGHEST}")))
    }

    /// The n-th real-time signal, from 0. Several of one real-time signal queue up in order, each with a value.
    ///
    /// # Errors
    /// `EINVAL` when there are not that many (31 with glibc).
    pub fn real_time(n: u32) -> Result<Signal> {
        let most = (libc::SIGRTMAX() - libc::SIGRTMIN()).cast_unsigned();
        if n <= most {
            return Ok(Signal(libc::SIGRTMIN() + n.cast_signed()));
        }
        Err(Error::new(Errno::EINVAL, "signal")
            .because_found(format!("RTMIN+{n} is past the last real-time signal, RTMIN+{most}")))
    }

    /// The signals, one or several, that a `signal:` address names, and the pid behind `@`.
    ///
    /// # Errors
    /// `EINVAL` for an address of another kind, and for a name that is no signal.
    pub fn from_address(address: &Address) -> Result<(Vec<Signal>, Option<i32>)> {
        address.require(&[Scheme::Signal], "signal")?;
        let (names, pid) = address.signal_and_pid().unwrap_or_default();
        Ok((names.split(',').map(str::parse).collect::<Result<_>>()?, pid))
    }

    /// All signals that a program may name: the classic ones and the real-time ones.
    pub fn all() -> impl Iterator<Item = Signal> {
        (1..=HIGHEST).map(Signal).filter(|signal| !signal.is_of_the_c_library())
    }

    /// The number.
    pub fn number(self) -> i32 {
        self.0
    }

    /// Whether several of it queue up, in order and each with its value; of the others one at a time can be pending.
    pub fn is_real_time(self) -> bool {
        self.0 >= libc::SIGRTMIN()
    }

    /// What it does to a process that has made no arrangements.
    pub fn default_action(self) -> DefaultAction {
        CLASSIC.iter().find(|(_, number, _)| *number == self.0).map_or(DefaultAction::Terminate, |(_, _, does)| *does)
    }

    /// The numbers below RTMIN that the C library uses between its threads.
    fn is_of_the_c_library(self) -> bool {
        (32..libc::SIGRTMIN()).contains(&self.0)
    }

    /// Fails unless a program can handle, block, ignore and wait for it.
    pub(super) fn check_ours_to_take(self, operation: &'static str) -> Result<()> {
        let refuse = |errno| Error::new(errno, operation).on_text(self.address());
        if self == Signal::KILL || self == Signal::STOP {
            return Err(refuse(Errno::EINVAL).because_found(format!(
                "{self} cannot be handled, blocked, ignored or waited for: the kernel carries it out itself; \
                 {} leaves the choice to the program",
                if self == Signal::KILL { "SIGTERM" } else { "SIGTSTP" }
            )));
        }
        if self.is_of_the_c_library() {
            return Err(refuse(Errno::EINVAL).because_found(format!(
                "signal {} belongs to the C library, which uses it between threads; real-time signals for programs \
                 begin at RTMIN, {}",
                self.0,
                libc::SIGRTMIN()
            )));
        }
        if wake_signal::taken() == Some(self.0) {
            return Err(refuse(Errno::EBUSY).because_found(format!(
                "this library has taken {self} ({}) in this process to end waits on time; choose another",
                self.0
            )));
        }
        Ok(())
    }

    /// As `check_ours_to_take`, for what only queues the signal: not the faults.
    pub(super) fn check_queueable(self, operation: &'static str) -> Result<()> {
        self.check_ours_to_take(operation)?;
        if !matches!(self, Signal::SEGV | Signal::BUS | Signal::FPE | Signal::ILL) {
            return Ok(());
        }
        Err(Error::new(Errno::EINVAL, operation).on_text(self.address()).because_found(format!(
            "{self} comes from a faulty instruction, which runs again when the handler returns, before anybody could \
             look at the queue; a raw handler can deal with it"
        )))
    }

    pub(super) fn address(self) -> String {
        format!("signal:{}", self.short_name())
    }

    fn short_name(self) -> String {
        if let Some((name, ..)) = CLASSIC.iter().find(|(_, number, _)| *number == self.0) {
            return (*name).into();
        }
        match self.0 - libc::SIGRTMIN() {
            0 => "RTMIN".into(),
            _ if self.0 == libc::SIGRTMAX() => "RTMAX".into(),
            n @ 1.. => format!("RTMIN+{n}"),
            _ => self.0.to_string(),
        }
    }
}

/// What an object on several signals calls itself.
pub(super) fn address_of(signals: &[Signal]) -> String {
    format!("signal:{}", signals.iter().map(|signal| signal.short_name()).collect::<Vec<_>>().join(","))
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SIG{}", self.short_name())
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl TryFrom<i32> for Signal {
    type Error = Error;

    fn try_from(number: i32) -> Result<Signal> {
        Signal::from_number(number)
    }
}

impl FromStr for Signal {
    type Err = Error;

    fn from_str(text: &str) -> Result<Signal> {
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        numbered(name).ok_or_else(|| {
            let shown: String = text.chars().take(40).flat_map(char::escape_debug).collect();
            Error::new(Errno::EINVAL, "signal").because_found(format!(
                "\"{shown}\" is no signal; expected a name such as USR1, SIGTERM or RTMIN+3 (up to RTMIN+{}), or a \
                 number from 1 to {HIGHEST}",
                libc::SIGRTMAX() - libc::SIGRTMIN()
            ))
        })
    }
}

fn numbered(name: &str) -> Option<Signal> {
    let classic = CLASSIC.iter().map(|(name, number, _)| (*name, *number));
    if let Some((_, number)) = classic.chain(ALIASES.iter().copied()).find(|(known, _)| *known == name) {
        return Some(Signal(number));
    }
    let offset = |digits: &str| -> Option<i32> {
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) { None } else { digits.parse().ok() }
    };
    let (lowest, highest) = (libc::SIGRTMIN(), libc::SIGRTMAX());
    let real_time = if name == "RTMIN" {
        Some(lowest)
    } else if name == "RTMAX" {
        Some(highest)
    } else if let Some(n) = name.strip_prefix("RTMIN+").and_then(offset) {
        lowest.checked_add(n)
    } else if let Some(n) = name.strip_prefix("RTMAX-").and_then(offset) {
        Some(highest - n) // n is not negative
    } else {
        return offset(name).and_then(|number| Signal::from_number(number).ok());
    };
    real_time.filter(|number| (lowest..=highest).contains(number)).map(Signal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_inverse() {
        for signal in (1..=HIGHEST).map(Signal) {
            assert_eq!(signal.to_string().parse::<Signal>().unwrap(), signal);
            assert_eq!(signal.number().to_string().parse::<Signal>().unwrap(), signal);
        }
        assert_eq!(Signal::all().count(), 31 + (libc::SIGRTMAX() - libc::SIGRTMIN()) as usize + 1);
    }

    #[test]
    fn many_spellings() {
        for (text, signal) in [("USR1", Signal::USR1), ("sigusr1", Signal::USR1), ("10", Signal::USR1)] {
            assert_eq!(text.parse::<Signal>().unwrap(), signal);
        }
        assert_eq!("IOT".parse::<Signal>().unwrap(), Signal::ABRT);
        assert_eq!("SIGRTMAX-1".parse::<Signal>().unwrap().number(), libc::SIGRTMAX() - 1);
        assert_eq!("RTMIN+3".parse::<Signal>().unwrap(), Signal::real_time(3).unwrap());
    }

    #[test]
    fn what_is_no_signal() {
        let nonsense = [
            "",
            "SIG",
            "USR3",
            "0",
            "65",
            "-1",
            "+1",
            "RTMIN+",
            "RTMIN+31",
            "RTMIN--1",
            "RTMAX-31",
            "RTMAX-+1",
            "RTMIN+2147483647",
            "99999999999",
            "USR1 ",
            "\u{1f6a9}",
        ];
        for text in nonsense {
            let error = text.parse::<Signal>().expect_err(text);
            assert!(error.is(Errno::EINVAL) && error.reason().contains("is no signal; expected a name"), "{error}");
        }
        assert!(Signal::from_number(0).unwrap_err().reason().contains("they are 1 to 64"));
        assert!(Signal::from_number(i32::MIN).is_err() && Signal::from_number(65).is_err());
        assert!(Signal::real_time(31).unwrap_err().reason().contains("RTMIN+30"));
        assert!(Signal::real_time(u32::MAX).is_err());
    }

    #[test]
    fn default_actions_of_the_document() {
        use DefaultAction::*;
        let expected = [
            (Signal::KILL, Terminate),
            (Signal::TERM, Terminate),
            (Signal::STOP, Stop),
            (Signal::CHLD, Ignore),
            (Signal::CONT, Continue),
            (Signal::SEGV, Core),
            (Signal::real_time(0).unwrap(), Terminate),
        ];
        for (signal, action) in expected {
            assert_eq!(signal.default_action(), action, "{signal}");
        }
    }

    #[test]
    fn addresses() {
        let (signals, pid) = Signal::from_address(&"signal:INT,SIGTERM@12".parse().unwrap()).unwrap();
        assert_eq!((signals, pid), (vec![Signal::INT, Signal::TERM], Some(12)));
        assert!(Signal::from_address(&"signal:NONE".parse().unwrap()).is_err());
        assert!(Signal::from_address(&"signal:USR1,".parse().unwrap()).is_err());
        assert!(Signal::from_address(&"pipe:".parse().unwrap()).unwrap_err().reason().contains("expected signal:"));
        assert_eq!(address_of(&[Signal::INT, Signal::real_time(2).unwrap()]), "signal:INT,RTMIN+2");
    }
}
