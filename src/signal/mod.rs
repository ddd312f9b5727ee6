//! Signals (`signal:USR1`): received outside of handlers, waited for with a deadline, sent with a value, and to the
//! right process.
//!
//! | file | what |
//! | --- | --- |
//! | `number` `info` | which signals there are; what is told about one that came |
//! | `registry` `queue` | the one handler, who wants which signal, and the pipe that the handler writes to |
//! | `signals` `callbacks` | [`Signals`]: take, dispatch, a dispatcher thread |
//! | `shutdown` `raw` | an orderly end on SIGTERM; functions that run inside the handler |
//! | `mask` `wait` | block, ignore, wait for one of a set |
//! | `send` | to a process, a group, a thread, a process for certain |

mod callbacks;
mod info;
#[allow(unsafe_code)]
mod lock;
mod mask;
mod number;
mod queue;
#[allow(unsafe_code)]
mod raw;
#[allow(unsafe_code)]
mod registry;
mod send;
mod shutdown;
mod signals;
mod wait;

pub use info::SignalInfo;
pub use mask::{SignalAction, SignalMask};
pub use number::{DefaultAction, Signal};
pub(crate) use raw::Before;
pub use raw::{RawHandler, RawSubscription};
pub use send::SignalTarget;
pub use shutdown::{Shutdown, ShutdownOptions};
pub use signals::{Signals, SignalsOptions};
pub use wait::wait_signal;
