//! What can be asked of shared memory, whatever its kind.

use nix::errno::Errno;

use super::mapping::Access;
use crate::address::{Address, Scheme};
use crate::error::{Error, Result};

/// How to create or open shared memory; the default of everything is zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryOptions {
    /// The size in bytes; needed to create. When opening, what is there must be at least as large; 0 takes any.
    pub size: usize,
    /// The permissions of what is created, set against the umask; 0 is 0600.
    pub mode: u32,
    /// Read and write by default. What is created is always attached for both.
    pub access: Access,
    /// Create on huge pages, which the administrator must have reserved (vm.nr_hugepages). System V and memfd.
    pub huge_pages: bool,
    /// The size of a huge page in bytes; 0 is the system's default.
    pub huge_page_size: usize,
    /// Have all pages present from the start, so that no first access is slow.
    pub populate: bool,
    /// Keep the pages in memory, never in swap (mlock); counts against RLIMIT_MEMLOCK.
    pub lock: bool,
    /// Create without reserving the pages. They are then taken when first touched, and where there is none by then, the
    /// process is killed by SIGBUS; for memory of which only a part will be used. POSIX and memfd.
    pub sparse: bool,
}

impl MemoryOptions {
    /// Fills in what the address says where the options are default, and checks both.
    pub(super) fn of(&self, address: &Address, scheme: Scheme, operation: &'static str) -> Result<MemoryOptions> {
        address.require(&[scheme], operation)?;
        let mut options = self.clone();
        let invalid = |reason: &'static str| {
            Err(Error::new(Errno::EINVAL, operation).on_text(address.without_options().to_string()).because(reason))
        };
        if options.size == 0
            && let Some(size) = address.number("size")
        {
            match usize::try_from(size) {
                Ok(size) => options.size = size,
                Err(_) => return invalid("the size is more than this machine can address"),
            }
        }
        if options.mode == 0 {
            options.mode = address.mode().filter(|mode| *mode != 0).unwrap_or(0o600);
        }
        if options.mode > 0o777 {
            return invalid("the mode is more than the permissions 0777");
        }
        if options.huge_page_size != 0 && !options.huge_page_size.is_power_of_two() {
            return invalid("the size of a huge page is a power of two, such as 2 MiB");
        }
        if options.huge_page_size != 0 && !options.huge_pages {
            return invalid("a size of huge pages goes together with asking for huge pages");
        }
        Ok(options)
    }

    /// As [`MemoryOptions::of`], where something is to be made.
    pub(super) fn to_create(
        &self,
        address: &Address,
        scheme: Scheme,
        operation: &'static str,
    ) -> Result<MemoryOptions> {
        let options = self.of(address, scheme, operation)?;
        let invalid = |reason: &'static str| {
            Err(Error::new(Errno::EINVAL, operation).on_text(address.without_options().to_string()).because(reason))
        };
        if options.size == 0 {
            return invalid("new memory needs a size of 1 byte or more");
        }
        if options.access == Access::ReadOnly {
            return invalid(
                "new memory cannot be read-only, nobody could fill it; create it writable, open it read-only",
            );
        }
        Ok(options)
    }

    /// The exponent of the huge page's size, in the bits where the kernel wants it.
    pub(super) fn huge_bits(&self, shift: u32) -> u32 {
        self.huge_page_size.checked_ilog2().unwrap_or(0) << shift
    }
}
