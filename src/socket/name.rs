//! Names of sockets: from an address, over host names, to what the kernel takes; and back.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use nix::errno::Errno;

use super::{SCHEMES, lookup};
use crate::address::{Address, Scheme};
use crate::error::{Error, Result};
use crate::sys::socket::Name;
use crate::timeout::Timeout;
use crate::wait::{Object, Operation};

/// The name of one end of a socket, as the kernel tells it: numeric, so that using it never looks anything up.
///
/// Displays as an address, such as `tcp://127.0.0.1:8080`, `unix:/run/app.sock`, or `unix:` for a socket without a name.
#[derive(Clone, Copy)]
pub struct SocketAddress {
    scheme: Scheme,
    name: Name,
}

impl SocketAddress {
    pub(super) fn new(scheme: Scheme, name: Name) -> SocketAddress {
        SocketAddress { scheme, name }
    }

    /// Looks up what an address names; waits for the host's name to be looked up, unless it is numeric.
    ///
    /// # Errors
    /// `EINVAL` an address of another kind of object; `ENAMETOOLONG` a Unix name of more than 107 bytes; `ENOENT` there
    /// is no such host; `EHOSTUNREACH` the name servers do not answer; `ENOMEM` no thread can be had; `EAGAIN`,
    /// `ETIMEDOUT`, `ECANCELED`.
    ///
    /// System calls: none for numeric addresses, else those of getaddrinfo.
    pub fn resolve(address: &Address, timeout: Timeout) -> Result<SocketAddress> {
        address.require(SCHEMES, "look up")?;
        let object = Object::new(address.to_string());
        let mut operation = object.operation("look up", timeout);
        let found = candidates(address, &mut operation, Side::Peer)?;
        found
            .first()
            .map(|name| SocketAddress::new(address.scheme(), *name))
            .ok_or_else(|| operation.error(Errno::ENOENT))
    }

    /// The scheme of the socket.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// IP address and port of `tcp:` and `udp:`; IPv4 also where an IPv6 socket speaks it.
    pub fn ip_and_port(&self) -> Option<(IpAddr, u16)> {
        self.name.as_inet().map(|address| (address.ip().to_canonical(), address.port()))
    }

    /// The name as an [`Address`]. Errors: `EINVAL` a Unix socket without a name.
    pub fn to_address(&self) -> Result<Address> {
        Address::parse(self.to_string())
    }

    /// Whether it is an abstract Unix name.
    pub fn is_abstract(&self) -> bool {
        self.name.as_unix().is_some_and(|bytes| bytes.first() == Some(&0))
    }

    /// The name for a socket of this family: an IPv6 socket reaches IPv4 under a mapped address.
    pub(super) fn name_for(&self, family: libc::c_int) -> Name {
        match self.name.as_inet() {
            Some(SocketAddr::V4(v4)) if family == libc::AF_INET6 => {
                Name::inet(SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0).into())
            }
            _ => self.name,
        }
    }
}

impl fmt::Display for SocketAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.scheme;
        let name: Vec<u8> = if let Some(address) = self.name.as_inet() {
            let port = address.port();
            match address {
                SocketAddr::V6(v6) if v6.scope_id() != 0 => format!("//[{}%{}]:{port}", v6.ip(), v6.scope_id()),
                _ => match address.ip().to_canonical() {
                    IpAddr::V4(ip) => format!("//{ip}:{port}"),
                    IpAddr::V6(ip) => format!("//[{ip}]:{port}"),
                },
            }
            .into()
        } else {
            match self.name.as_unix() {
                Some(bytes) => match bytes.strip_prefix(b"\0") {
                    Some(name) => [b"@", name].concat(),
                    // A path that begins with @ would read as an abstract name.
                    None if bytes.starts_with(b"@") => [b"./", bytes.as_slice()].concat(),
                    None => bytes,
                },
                None => Vec::new(),
            }
        };
        if name.is_empty() {
            return write!(f, "{scheme}:");
        }
        match Address::from_parts(scheme, name, None, []) {
            Ok(address) => write!(f, "{address}"),
            Err(_) => write!(f, "{scheme}:"), // a name that no address can have, such as a path with a NUL in it
        }
    }
}

impl fmt::Debug for SocketAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SocketAddress({self})")
    }
}

impl PartialEq for SocketAddress {
    fn eq(&self, other: &SocketAddress) -> bool {
        self.scheme == other.scheme
            && self.ip_and_port() == other.ip_and_port()
            && self.name.as_unix() == other.name.as_unix()
    }
}

impl Eq for SocketAddress {}

/// What an address without a host means.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Side {
    /// All interfaces: over IPv6 and IPv4 at once, or over IPv4 where there is no IPv6.
    Own,
    /// This host.
    Peer,
}

/// The kernel names to try in turn, at least one.
pub(super) fn candidates(address: &Address, operation: &mut Operation<'_>, side: Side) -> Result<Vec<Name>> {
    let Some((host, port)) = address.host_and_port() else { return unix(address, operation).map(|name| vec![name]) };
    let name = |ip: IpAddr| Name::inet(SocketAddr::new(ip, port));
    if host.is_empty() {
        return Ok(match side {
            Side::Own => vec![name(Ipv6Addr::UNSPECIFIED.into()), name(Ipv4Addr::UNSPECIFIED.into())],
            Side::Peer => vec![name(Ipv4Addr::LOCALHOST.into()), name(Ipv6Addr::LOCALHOST.into())],
        });
    }
    if let Ok(ip) = host.parse() {
        return Ok(vec![name(ip)]);
    }
    let found = lookup::addresses(&host, port, operation)?;
    Ok(found.into_iter().map(Name::inet).collect())
}

fn unix(address: &Address, operation: &Operation<'_>) -> Result<Name> {
    let bytes = match address.abstract_name() {
        Some(name) => [b"\0", name].concat(),
        None => address.name().to_vec(),
    };
    Name::unix(&bytes).map_err(|errno| too_long(operation.error(errno), bytes.len()))
}

fn too_long(error: Error, length: usize) -> Error {
    error.because_found(format!(
        "a Unix socket's name has at most 107 bytes, here are {length}; use a shorter path, or one relative to the \
         working directory"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(text: &str) -> SocketAddress {
        SocketAddress::resolve(&text.parse().unwrap(), Timeout::Now).unwrap()
    }

    #[test]
    fn numeric_names_print_as_they_are_written() {
        for text in
            ["tcp://127.0.0.1:80", "udp://[::1]:5", "unix:/run/x", "unix:rel/x", "unix-dgram:@a%00b", "unix:./@x"]
        {
            assert_eq!(resolved(text).to_string(), text);
            assert_eq!(resolved(text).to_address().unwrap(), text.parse().unwrap());
        }
        assert_eq!(resolved("tcp://:80").to_string(), "tcp://127.0.0.1:80");
        assert_eq!(resolved("tcp://[::ffff:1.2.3.4]:80"), resolved("tcp://1.2.3.4:80"), "mapped IPv4 is IPv4");
        assert_eq!(resolved("tcp://1.2.3.4:80").name_for(libc::AF_INET6).family(), libc::AF_INET6);
    }

    #[test]
    fn what_cannot_be_resolved() {
        let error = |text: &str, timeout| SocketAddress::resolve(&text.parse().unwrap(), timeout).unwrap_err();
        assert!(error("pipe:", Timeout::Now).is(Errno::EINVAL));
        let long = error(&format!("unix:/{}", "x".repeat(107)), Timeout::Now);
        assert!(long.is(Errno::ENAMETOOLONG) && long.reason().contains("here are 108"), "{long}");
        assert!(error("tcp://localhost:80", Timeout::Now).reason().contains("numeric"));
    }

    #[test]
    fn the_name_of_this_host_is_found() {
        let found = SocketAddress::resolve(&"tcp://localhost:80".parse().unwrap(), Timeout::Forever).unwrap();
        assert!(found.ip_and_port().unwrap().0.is_loopback());
    }
}
