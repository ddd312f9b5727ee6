//! Locks and the like in shared memory, each with an owner.
//!
//! | file | holds |
//! | --- | --- |
//! | `mutex.rs`, `event.rs`, `permits/` … | a file or a folder for each kind |
//! | `core.rs` | what all kinds have in common |
//! | `opening.rs` | what they have in the same words: options, opening, removing |
//! | `word.rs`, `owner.rs` | who has a lock |
//! | `roster.rs` | whose death has to be told |
//! | `threads.rs` | locks of threads that end |
//! | `doorbell.rs` | the descriptor to poll |

mod barrier;
mod condition;
pub(crate) mod core;
pub(crate) mod doorbell;
mod event;
mod mutex;
pub(crate) mod opening;
mod owner;
mod permits;
mod roster;
mod rwlock;
#[allow(unsafe_code)]
mod threads;
mod word;

pub use barrier::{Barrier, BarrierOptions, BarrierStatistics};
pub use condition::{Condition, ConditionOptions, ConditionStatistics, Waited};
pub use core::SyncParticipant;
pub use event::{Event, EventOptions, EventStatistics};
pub use mutex::{Locked, Mutex, MutexGuard, MutexOptions, MutexState, MutexStatistics};
pub use permits::{Permits, PermitsGuard, PermitsOptions, PermitsStatistics};
pub use rwlock::{RwLock, RwLockOptions, RwLockReadGuard, RwLockStatistics, RwLockWriteGuard};
