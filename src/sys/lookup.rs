//! Host names: getaddrinfo, which blocks for as long as it likes. Called on a thread of its own.

use std::ffi::CString;
use std::net::SocketAddr;
use std::ptr;

use nix::errno::Errno;

use super::socket::Name;

/// getaddrinfo's own codes, beside errno.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LookupError {
    /// No such name, or none with an address.
    NoSuchHost,
    /// The name servers did not answer.
    NoAnswer,
    System(Errno),
}

/// The addresses of a host, in the order of preference, each once.
pub(crate) fn addresses(host: &str, port: u16) -> Result<Vec<SocketAddr>, LookupError> {
    let host = CString::new(host).map_err(|_| LookupError::NoSuchHost)?;
    let mut list: *mut libc::addrinfo = ptr::null_mut();
    // SAFETY: zeros are valid hints; the name is a live C string; the list is written on success only, belongs to us
    // then, and is given back below after the last look at it. Each entry's ai_addr spans ai_addrlen bytes.
    unsafe {
        let mut hints: libc::addrinfo = std::mem::zeroed();
        hints.ai_socktype = libc::SOCK_STREAM; // one entry per address, whatever it is wanted for
        match libc::getaddrinfo(host.as_ptr(), ptr::null(), &raw const hints, &raw mut list) {
            0 => {}
            libc::EAI_AGAIN => return Err(LookupError::NoAnswer),
            libc::EAI_SYSTEM => return Err(LookupError::System(Errno::last())),
            libc::EAI_MEMORY => return Err(LookupError::System(Errno::ENOMEM)),
            libc::EAI_FAIL => return Err(LookupError::System(Errno::EIO)),
            _ => return Err(LookupError::NoSuchHost),
        }
        let mut found = Vec::new();
        let mut next = list;
        while let Some(entry) = next.as_ref() {
            if let Some(mut address) = Name::copied(entry.ai_addr, entry.ai_addrlen).and_then(|name| name.as_inet()) {
                address.set_port(port);
                if !found.contains(&address) {
                    found.push(address);
                }
            }
            next = entry.ai_next;
        }
        libc::freeaddrinfo(list);
        if found.is_empty() { Err(LookupError::NoSuchHost) } else { Ok(found) }
    }
}
