//! What a name means in each scheme: host and port, path, key, signal.

use std::path::PathBuf;

use nix::errno::Errno;

use super::{Address, Flaw, Scheme, text};

/// What a System V object is known by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SysvName {
    /// The key that ftok derives from an existing file and a project number.
    File(PathBuf, u8),
    /// A raw key.
    Key(i32),
    /// `IPC_PRIVATE`: a new object without a key.
    Private,
}

/// NAME_MAX; a semaphore's file carries a prefix of four bytes.
const NAME_MAX: usize = 255;

/// Fails unless `name` and `id` are what the scheme wants; the flaw's position is relative to the name.
pub(super) fn check(scheme: Scheme, name: &[u8], id: Option<u8>) -> Result<(), Flaw> {
    let is_sysv = matches!(scheme, Scheme::SysvShm | Scheme::SysvMq | Scheme::SysvSem);
    if id.is_some() && !is_sysv {
        return Err(Flaw::at(name.len(), "no '#': only System V objects have a project number"));
    }
    let is_abstract = name.first() == Some(&b'@') && is_unix(scheme);
    if let Some(at) = name.iter().position(|byte| *byte == 0).filter(|_| !is_abstract) {
        return Err(Flaw::at(at, "no NUL in a name"));
    }
    match scheme {
        Scheme::Tcp | Scheme::Udp => host_and_port(name).map(drop),
        Scheme::EventFd | Scheme::Pipe if !name.is_empty() => Err(Flaw::at(0, "no name: this object has none")),
        Scheme::EventFd | Scheme::Pipe | Scheme::Memfd => Ok(()),
        Scheme::Signal => signal_and_pid(name).map(drop),
        Scheme::Shm | Scheme::Mq => posix_name(name, NAME_MAX),
        Scheme::Sem => posix_name(name, NAME_MAX - "sem.".len()),
        Scheme::SysvShm | Scheme::SysvMq | Scheme::SysvSem => sysv_name(name, id).map(drop),
        Scheme::Unix | Scheme::UnixDgram | Scheme::UnixSeqpacket | Scheme::File | Scheme::Fifo if name.is_empty() => {
            Err(Flaw::at(0, "a path"))
        }
        scheme if scheme.is_segment() && name.is_empty() => Err(Flaw::at(0, "a name, or a path")),
        _ => Ok(()),
    }
}

fn is_unix(scheme: Scheme) -> bool {
    matches!(scheme, Scheme::Unix | Scheme::UnixDgram | Scheme::UnixSeqpacket)
}

fn host_and_port(name: &[u8]) -> Result<(String, u16), Flaw> {
    let form = "//host:port, an IPv6 address in brackets";
    let Some(rest) = name.strip_prefix(b"//") else { return Err(Flaw::at(0, form)) };
    let rest = std::str::from_utf8(rest).map_err(|error| Flaw::at(2 + error.valid_up_to(), "a host name in UTF-8"))?;
    let Some((host, port)) = rest.rsplit_once(':') else { return Err(Flaw::at(name.len(), form)) };
    let port_at = 2 + host.len() + 1;
    let port = text::number(port.as_bytes()).and_then(|port| u16::try_from(port).ok());
    let Some(port) = port else { return Err(Flaw::at(port_at, "a port from 0 to 65535")) };
    let host = match host.strip_prefix('[') {
        Some(inside) => match inside.strip_suffix(']') {
            Some(inside) if inside.contains(':') => inside,
            _ => return Err(Flaw::at(2, "an IPv6 address between the brackets")),
        },
        None if host.contains([':', '[', ']', '/']) => return Err(Flaw::at(2, form)),
        None => host,
    };
    Ok((host.to_owned(), port))
}

fn signal_and_pid(name: &[u8]) -> Result<(&str, Option<i32>), Flaw> {
    let Ok(name) = std::str::from_utf8(name) else { return Err(Flaw::at(0, "the name of a signal")) };
    let (signal, pid) = match name.split_once('@') {
        None => (name, None),
        Some((signal, pid)) => {
            let pid_at = signal.len() + 1;
            match text::number(pid.as_bytes()).and_then(|pid| i32::try_from(pid).ok()) {
                Some(pid @ 1..) => (signal, Some(pid)),
                _ => return Err(Flaw::at(pid_at, "the pid of a process, 1 or more")),
            }
        }
    };
    if signal.is_empty() || !signal.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-,".contains(&byte)) {
        return Err(Flaw::at(0, "the name or number of a signal, such as USR1 or RTMIN+3"));
    }
    Ok((signal, pid))
}

fn posix_name(name: &[u8], longest: usize) -> Result<(), Flaw> {
    let Some(rest) = name.strip_prefix(b"/") else { return Err(Flaw::at(0, "'/' and a name without a slash")) };
    if let Some(at) = rest.iter().position(|byte| *byte == b'/') {
        return Err(Flaw::at(1 + at, "no further slash: such names have no directories"));
    }
    if rest.is_empty() || rest == b"." || rest == b".." {
        return Err(Flaw::at(1, "a name after the slash, other than . and .."));
    }
    if rest.len() > longest {
        let expected = format!("at most {longest} bytes after the slash, here are {}", rest.len());
        return Err(Flaw { errno: Errno::ENAMETOOLONG, ..Flaw::at(1 + longest, expected) });
    }
    Ok(())
}

fn sysv_name(name: &[u8], id: Option<u8>) -> Result<SysvName, Flaw> {
    let without_id = |name| match id {
        None => Ok(name),
        Some(_) => Err(Flaw::at(0, "no '#': it goes with a path, for which private is ./private and 0x12 is ./0x12")),
    };
    if name == b"private" {
        return without_id(SysvName::Private);
    }
    if let Some(digits) = name.strip_prefix(b"0x")
        && !digits.is_empty()
        && digits.iter().all(u8::is_ascii_hexdigit)
    {
        let key = std::str::from_utf8(digits).ok().and_then(|digits| u32::from_str_radix(digits, 16).ok());
        return match key {
            Some(0) => Err(Flaw::at(0, "a key other than 0, which is IPC_PRIVATE: write private")),
            Some(key) => without_id(SysvName::Key(key.cast_signed())),
            None => Err(Flaw::at(2, "at most 8 hexadecimal digits (or ./0x… for a file)")),
        };
    }
    if name.is_empty() {
        return Err(Flaw::at(0, "a path, 0x and a key, or private"));
    }
    match id {
        Some(id) => Ok(SysvName::File(Address::path_of(name), id)),
        None => Err(Flaw::at(name.len(), "'#' and a project number from 1 to 255 after the path")),
    }
}

impl Address {
    fn path_of(name: &[u8]) -> PathBuf {
        use std::os::unix::ffi::OsStrExt;
        std::ffi::OsStr::from_bytes(name).into()
    }

    /// Host and port of `tcp:` and `udp:`; the host is empty for all interfaces, IPv6 comes without brackets.
    pub fn host_and_port(&self) -> Option<(String, u16)> {
        matches!(self.scheme, Scheme::Tcp | Scheme::Udp).then(|| host_and_port(&self.name).ok())?
    }

    /// What names a System V object.
    pub fn sysv_name(&self) -> Option<SysvName> {
        matches!(self.scheme, Scheme::SysvShm | Scheme::SysvMq | Scheme::SysvSem)
            .then(|| sysv_name(&self.name, self.id).ok())?
    }

    /// The signal's name as written (several are separated by commas), and the pid behind `@`.
    pub fn signal_and_pid(&self) -> Option<(&str, Option<i32>)> {
        (self.scheme == Scheme::Signal).then(|| signal_and_pid(&self.name).ok())?
    }

    /// The abstract name of a Unix socket, without the `@`.
    pub fn abstract_name(&self) -> Option<&[u8]> {
        is_unix(self.scheme).then(|| self.name.strip_prefix(b"@"))?
    }
}
