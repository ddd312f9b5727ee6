//! Shared memory: what System V, POSIX and memfd segments have in common, and each of them.

mod backed;
#[allow(unsafe_code)]
mod copy;
#[allow(unsafe_code)]
mod mapping;
mod memfd;
mod options;
mod posix;
mod refusal;
pub(crate) mod space;
mod sysv;

pub use mapping::{Access, MapOptions, Mapping};
pub use memfd::{Memfd, Seals};
pub use options::MemoryOptions;
pub use posix::Shm;
pub use sysv::{SysvShm, SysvShmStatus};
