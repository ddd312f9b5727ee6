//! What every kind has in the same words: its options' common part, and how one is opened, looked at and removed.

/// Options of a kind, with those that all have.
macro_rules! options {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        ///
        /// `participants`, `mode` and what the object is count when it is made and are its own from then on; the rest is
        /// each handle's.
        #[derive(Clone, Debug, Default)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $type,)*
            /// How many handles may be open at the same time, at most 256; 0 for 64.
            pub participants: u32,
            /// Permissions of the file; 0 for 0600.
            pub mode: u32,
            /// How the calls of this handle wait.
            pub wait: $crate::segment::WaitMode,
        }

        impl $name {
            pub(crate) fn common(&self) -> $crate::sync::core::Common {
                $crate::sync::core::Common { participants: self.participants, mode: self.mode, wait: self.wait }
            }

            fn with_common(&mut self, address: &$crate::address::Address) {
                if self.participants == 0 {
                    let participants = address.number("participants").unwrap_or(0);
                    self.participants = u32::try_from(participants).unwrap_or(u32::MAX);
                }
                if self.mode == 0 {
                    self.mode = address.mode().unwrap_or(0);
                }
            }
        }
    };
}

/// How one is opened and looked at.
macro_rules! opening {
    ($name:ident, $options:ident, $scheme:literal, $noun:literal) => {
        impl $name {
            #[doc = concat!("Opens the ", $noun, " of this name, or makes it. Never blocks.")]
            ///
            /// A plain name lies in `$WIGWAG_DIR` or `/dev/shm/wigwag-UID`, a name with a slash is a path on a tmpfs. Those
            /// who come later get it as it is.
            ///
            /// # Errors
            /// `EINVAL` the options do not fit together; `ENOSPC` the memory is not free; `EACCES` the directory is somebody
            /// else's; `EBADMSG` there is something else under that name, or it is damaged; `EPROTO` it was made by an
            /// incompatible version; `EUSERS` it has no room for another participant; `ENOENT`, `ENOTDIR` no such directory;
            /// `ELOOP` a symbolic link; `ENOTSUP` the file system cannot make files without a name; `EBUSY` others make and
            /// remove it all the time; `EMFILE`, `ENFILE`.
            ///
            /// System calls: openat, fallocate, linkat, mmap, fcntl.
            pub fn open(address: &$crate::Address, options: $options) -> $crate::Result<$name> {
                address.require(&[$crate::Scheme::$name], "open")?;
                $crate::sync::core::open(address, options)
            }

            #[doc = concat!("Takes part in the ", $noun, " in this range of memory that the caller brought, or makes it there.")]
            ///
            /// `memory` is a file that others map as well: a [`Shm`](crate::Shm), a [`Memfd`](crate::Memfd), a
            /// [`File`](crate::File), or any descriptor of one; it may hold other things beside this, and further objects. It
            /// is mapped anew for this handle, so that the caller may unmap and close its own. Where the range is all zeros,
            /// as fresh memory is, one is made; what is there already is taken as it is, of the options only those of the
            /// handle count, and of two that come at once one makes it. Clearing the range to zeros removes it: those who
            /// still have it get `ESTALE`.
            ///
            /// Does not block, but for about a quarter of a second while another process that is making it does not get on.
            ///
            /// # Errors
            #[doc = concat!("`EINVAL` the range does not begin at a multiple of 128, ends behind the memory, or is smaller than                 [`placed_size_for`](", stringify!($name), "::placed_size_for) says, or the options do not fit together;                 `EBADMSG` something else lies there, or it is damaged; `EPROTO` it was made by an incompatible version;                 `EUSERS` it has no room for another participant; `EBUSY` another process is making it and does not get on;                 `ENODEV` the descriptor is not that of memory; `EACCES` it cannot be written; `ENOSPC` the pages of the range                 are not free; `ENOTSUP` the file system cannot reserve them; `EMFILE`, `ENFILE`.")]
            ///
            /// System calls: fstat, mmap, fcntl, fallocate.
            pub fn place(
                memory: impl std::os::fd::AsFd,
                range: std::ops::Range<u64>,
                options: $options,
            ) -> $crate::Result<$name> {
                $crate::sync::core::place($scheme, memory.as_fd(), range, &options)
            }

            /// How many bytes one with these options takes in memory that the caller brings. Never blocks.
            ///
            /// # Errors
            /// `EINVAL` the options do not fit together.
            pub fn placed_size_for(options: &$options) -> $crate::Result<usize> {
                $crate::sync::core::placed_size_for::<$name>($scheme, options)
            }

            /// Where it lies in memory that the caller brought; `None` if it has memory of its own.
            pub fn placed(&self) -> Option<std::ops::Range<u64>> {
                self.core.member.segment().placed()
            }
        }

        $crate::sync::opening::opening_at!($name, $name, $options, $scheme, $noun);
    };
}

/// The same but for opening by name, for a kind whose scheme has another name.
macro_rules! opening_at {
    ($name:ident, $variant:ident, $options:ident, $scheme:literal, $noun:literal) => {
        impl $name {
            #[doc = concat!("Makes a ", $noun, " without a name, for children and for those to whom its descriptor is passed. \
                Never blocks.")]
            ///
            /// # Errors
            /// `EINVAL`, `ENOSPC`, `EMFILE`, `ENFILE` as in `open`.
            ///
            /// System calls: memfd_create, fallocate, mmap, fcntl.
            pub fn anonymous(options: $options) -> $crate::Result<$name> {
                $crate::sync::core::anonymous($scheme, &options)
            }

            /// Takes part in one whose descriptor came from elsewhere. Never blocks. Of the options, only those of the handle
            /// count.
            ///
            /// # Errors
            /// `EBADMSG`, `EPROTO`, `EUSERS`, `EMFILE`, `ENFILE` as in `open`.
            ///
            /// System calls: mmap, fcntl.
            pub fn from_fd(fd: std::os::fd::OwnedFd, options: $options) -> $crate::Result<$name> {
                $crate::sync::core::adopt($scheme, fd, &options)
            }

            /// How many bytes of memory one with these options takes, all in all. Never blocks.
            ///
            /// # Errors
            /// `EINVAL` the options do not fit together.
            pub fn size_for(options: &$options) -> $crate::Result<usize> {
                $crate::sync::core::size_for::<$name>($scheme, options)
            }

            #[doc = concat!("Removes the name of a ", $noun, "; those who have it open keep it. Never blocks.")]
            ///
            /// # Errors
            /// `ENOENT` there is none; `EBADMSG` it is something else, which is left.
            ///
            /// System calls: openat, mmap, unlinkat.
            pub fn remove(address: &$crate::Address) -> $crate::Result<()> {
                address.require(&[$crate::Scheme::$variant], "remove")?;
                $crate::segment::Segment::remove(address, &[<$name as $crate::sync::core::Kind>::NUMBER])
            }

            /// Whether the name still stands for this one, or its place in the caller's memory still has it. Never blocks.
            ///
            /// # Errors
            /// `ESTALE` it was removed: those who open it from now on get another one.
            ///
            /// System call: fstat.
            pub fn check(&self) -> $crate::Result<()> {
                let checked = self.core.member.check();
                checked.map_err(|errno| {
                    self.core.object.error(errno, "check").because("it was removed; open it anew")
                })
            }

            #[doc = concat!("Its address; `", $scheme, "` for one without a name, followed by its place if it lies in memory of the \
                caller's.")]
            pub fn address(&self) -> &str {
                self.core.object.address()
            }

            /// Ends the waits of all threads on this handle with `ECANCELED`, now and later; returns when they have left.
            pub fn end_waits(&self) {
                self.core.object.end_waits();
            }
        }

        impl std::os::fd::AsFd for $name {
            /// The segment's descriptor, to be passed to another process for `from_fd`; not for polling.
            fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
                self.core.member.as_fd()
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($name)).field("address", &self.address()).finish_non_exhaustive()
            }
        }
    };
}

pub(crate) use {opening, opening_at, options};
