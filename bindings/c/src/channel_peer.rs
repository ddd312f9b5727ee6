//! Channels: who sent a message.

use std::ffi::{c_char, c_int};

use libc::{pid_t, ssize_t};
use wigwag::{ChannelPeer, Error};

use crate::address::copy_out;
use crate::boundary::{call, object, put_if_wanted, take};

/// Who sent a message, to be told apart and to be answered. Stays valid when the sender or the channel has gone. Free it
/// with ww_channel_peer_close(); may be shared between threads.
pub struct ww_channel_peer(pub(crate) ChannelPeer);

/// Frees a peer. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_channel_peer_close(peer: *mut ww_channel_peer) {
    // SAFETY: the caller's promises, as the header states them; likewise below.
    drop(unsafe { take(peer) });
}

/// Whether two messages came from the same connection, or from the same address where there are none: 1 or 0. Never
/// blocks. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_channel_peer_equals(a: *const ww_channel_peer, b: *const ww_channel_peer) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Ok(c_int::from(object(a, "peer")?.0 == object(b, "peer")?.0)) })
}

/// Writes where the sender is, for people to read, with a terminating NUL. Never blocks. Returns the length without the
/// NUL. Errors: -EMSGSIZE as ww_channel_local_address(); -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_channel_peer_print(
    peer: *const ww_channel_peer,
    buffer: *mut c_char,
    size: usize,
    true_size: *mut usize,
) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe { copy_out(object(peer, "peer")?.0.to_string().as_bytes(), buffer, size, true_size) })
}

/// The sender's process, as the kernel vouches for it, when it connected. Each output may be NULL. pid is 0 for a process
/// outside of this pid namespace. Never blocks. Errors: -ENOTSUP the mechanism does not tell; unix: and unix-seqpacket: do;
/// -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_channel_peer_credentials(
    peer: *const ww_channel_peer,
    pid: *mut pid_t,
    uid: *mut libc::uid_t,
    gid: *mut libc::gid_t,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        let peer = &object(peer, "peer")?.0;
        let found = peer.credentials().ok_or_else(|| {
            Error::from_raw(libc::ENOTSUP, "credentials")
                .on_text(peer.to_string())
                .because("only unix: and unix-seqpacket: tell which process is on the other side")
        })?;
        put_if_wanted(pid, found.pid);
        put_if_wanted(uid, found.uid);
        put_if_wanted(gid, found.gid);
        Ok(())
    })
}
