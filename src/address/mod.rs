//! One line of text that names an IPC object: `scheme ":" name ["#" id] ["?" key "=" value *("&" key "=" value)]`.
//!
//! Parsing and printing live here and nowhere else, and are inverse: `parse(print(a)) == a` for every address, and
//! `print(parse(t))` is the shortest spelling of `t`.

mod name;
mod scheme;
mod text;

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::str::FromStr;

use nix::errno::Errno;

pub use name::SysvName;
use scheme::Kind;
pub use scheme::Scheme;

use crate::error::{Error, Result};

/// The parsed name of an IPC object.
///
/// ```
/// use wigwag::{Address, Scheme};
/// let address: Address = "sysv-mq:progfile#65?mode=0600".parse()?;
/// assert_eq!(address.scheme(), Scheme::SysvMq);
/// assert_eq!((address.name(), address.id(), address.mode()), (&b"progfile"[..], Some(65), Some(0o600)));
/// assert_eq!(address.to_string(), "sysv-mq:progfile#65?mode=0600");
/// # Ok::<(), wigwag::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    scheme: Scheme,
    name: Vec<u8>,
    id: Option<u8>,
    options: Vec<(&'static str, Vec<u8>)>,
}

/// What is wrong with an address, and where.
struct Flaw {
    position: usize,
    expected: Cow<'static, str>,
    errno: Errno,
}

impl Flaw {
    fn at(position: usize, expected: impl Into<Cow<'static, str>>) -> Flaw {
        Flaw { position, expected: expected.into(), errno: Errno::EINVAL }
    }
}

impl Address {
    /// Parses the text of an address. Never blocks.
    ///
    /// # Errors
    /// `EINVAL` for anything that the grammar or the scheme does not allow, with the position (in bytes, from 0) and
    /// what was expected there; `ENAMETOOLONG` for a name longer than its kind of object can have.
    pub fn parse(text: impl AsRef<[u8]>) -> Result<Address> {
        let text = text.as_ref();
        parse(text).map_err(|flaw| {
            Error::new(flaw.errno, "address")
                .on_text(text::printable(text))
                .because_found(format!("at byte {}: expected {}", flaw.position, flaw.expected))
        })
    }

    /// Puts an address together from its parts, the name as plain bytes. Never blocks. Errors: as [`Address::parse`].
    pub fn from_parts<'a>(
        scheme: Scheme,
        name: impl AsRef<[u8]>,
        id: Option<u8>,
        options: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Address> {
        let mut text = format!("{scheme}:{}", text::encode(name.as_ref())).into_bytes();
        if let Some(id) = id {
            text.extend(format!("#{id}").bytes());
        }
        for (n, (key, value)) in options.into_iter().enumerate() {
            let separator = if n == 0 { '?' } else { '&' };
            text.extend(format!("{separator}{key}={}", text::encode(value.as_bytes())).bytes());
        }
        Address::parse(text)
    }

    /// The kind of object.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The name, as plain bytes without percent-coding.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// ftok's project number.
    pub fn id(&self) -> Option<u8> {
        self.id
    }

    /// The value of an option, as plain bytes; `None` where it is not given.
    pub fn option(&self, key: &str) -> Option<&[u8]> {
        self.options.iter().find(|(given, _)| *given == key).map(|(_, value)| value.as_slice())
    }

    /// The options in the order given.
    pub fn options(&self) -> impl Iterator<Item = (&'static str, &[u8])> {
        self.options.iter().map(|(key, value)| (*key, value.as_slice()))
    }

    /// The value of an option that is a number.
    pub fn number(&self, key: &str) -> Option<u64> {
        text::number(self.option(key)?)
    }

    /// The value of an option that is on (1) or off (0).
    pub fn flag(&self, key: &str) -> Option<bool> {
        Some(self.option(key)? == b"1")
    }

    /// The permissions that `mode=` asks for.
    pub fn mode(&self) -> Option<u32> {
        text::octal(self.option("mode")?)
    }

    /// The name as a path in the file system.
    pub fn path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.name))
    }

    /// The same without options: what names the object, as opposed to how to open it.
    pub fn without_options(&self) -> Address {
        Address { options: Vec::new(), ..self.clone() }
    }

    /// The address as the mechanism takes it: without the options that say how a channel uses it.
    pub(crate) fn for_mechanism(&self) -> Address {
        let mut address = self.clone();
        address.options.retain(|(key, _)| !self.scheme.channel_options().contains(key));
        address
    }

    /// Fails with `EINVAL` unless the scheme is this one, whatever the options.
    pub(crate) fn require_scheme(&self, scheme: Scheme, operation: &'static str) -> Result<()> {
        self.for_mechanism().require(&[scheme], operation)
    }

    /// Fails with `EINVAL` unless the scheme is one of these; `operation` names the caller in the error.
    pub(crate) fn require(&self, schemes: &[Scheme], operation: &'static str) -> Result<()> {
        if schemes.contains(&self.scheme) {
            let misplaced = self.options.iter().find(|(key, _)| self.scheme.channel_options().contains(key));
            return misplaced.map_or(Ok(()), |(key, _)| {
                Err(Error::new(Errno::EINVAL, operation)
                    .on_text(self.to_string())
                    .because_found(format!("{key}= says how a channel uses it; open it as a channel, or leave it out")))
            });
        }
        let expected: Vec<_> = schemes.iter().map(|scheme| format!("{scheme}:")).collect();
        Err(Error::new(Errno::EINVAL, operation)
            .on_text(self.to_string())
            .because_found(format!("an address of another kind of object; expected {}", expected.join(" or "))))
    }
}

/// The names and numbers of an option that gives shares.
pub(crate) fn shares(text: &str) -> impl Iterator<Item = (&str, u32)> {
    text::shares(text).filter_map(|(name, share)| Some((name, share?)))
}

fn parse(text: &[u8]) -> std::result::Result<Address, Flaw> {
    let colon = text.iter().position(|byte| *byte == b':');
    let Some(colon) = colon else { return Err(Flaw::at(text.len(), "a scheme and ':', such as \"pipe:\"")) };
    let scheme = std::str::from_utf8(&text[..colon]).ok().and_then(Scheme::named);
    let Some(scheme) = scheme else { return Err(Flaw::at(0, format!("one of the schemes {}", Scheme::list()))) };

    let name_at = colon + 1;
    let name_end = end_of_part(text, name_at, b"#?");
    let name = text::decode(text, name_at..name_end, b"#?&")?;
    let mut at = name_end;

    let mut id = None;
    let id_at = at + 1;
    if text.get(at) == Some(&b'#') {
        at = end_of_part(text, id_at, b"?");
        id = match text::number(&text[id_at..at]).and_then(|id| u8::try_from(id).ok()) {
            Some(id @ 1..) => Some(id),
            _ => return Err(Flaw::at(id_at, "a project number from 1 to 255")),
        };
    }
    name::check(scheme, &name, id).map_err(|flaw| Flaw { position: name_at + flaw.position, ..flaw })?;

    let mut options = Vec::new();
    if text.get(at) == Some(&b'?') {
        loop {
            let key_at = at + 1;
            let end = end_of_part(text, key_at, b"&");
            options.push(option(scheme, text, key_at..end, &options)?);
            at = end;
            if at == text.len() {
                break;
            }
        }
    }
    Ok(Address { scheme, name, id, options })
}

fn end_of_part(text: &[u8], from: usize, delimiters: &[u8]) -> usize {
    text[from..].iter().position(|byte| delimiters.contains(byte)).map_or(text.len(), |at| from + at)
}

fn option(
    scheme: Scheme,
    text: &[u8],
    span: std::ops::Range<usize>,
    before: &[(&'static str, Vec<u8>)],
) -> std::result::Result<(&'static str, Vec<u8>), Flaw> {
    let key_at = span.start;
    let part = &text[span.clone()];
    let known = scheme.options();
    let list = || match known {
        [] => "no option, this scheme has none".into(),
        known => format!("an option of this scheme: {}", known.iter().map(|o| o.0).collect::<Vec<_>>().join(", ")),
    };
    let equals = part.iter().position(|byte| *byte == b'=').ok_or_else(|| Flaw::at(key_at, list()))?;
    let (key, kind) =
        *known.iter().find(|(key, _)| key.as_bytes() == &part[..equals]).ok_or_else(|| Flaw::at(key_at, list()))?;
    if before.iter().any(|(given, _)| *given == key) {
        return Err(Flaw::at(key_at, format!("{key} once")));
    }
    let value_at = key_at + equals + 1;
    let value = text::decode(text, value_at..span.end, b"#?&")?;
    let fits = match kind {
        Kind::Number => text::number(&value).is_some(),
        Kind::Flag => value == b"0" || value == b"1",
        Kind::Mode => text::octal(&value).is_some_and(|mode| mode <= 0o777),
        Kind::Word(words) => words.iter().any(|word| word.as_bytes() == value),
        Kind::Text => !value.is_empty(),
        Kind::Shares => {
            text::shares(&String::from_utf8_lossy(&value)).all(|(name, share)| !name.is_empty() && share.is_some())
        }
    };
    if !fits {
        return Err(Flaw::at(value_at, kind.expected()));
    }
    Ok((key, value))
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.scheme, text::encode(&self.name))?;
        if let Some(id) = self.id {
            write!(f, "#{id}")?;
        }
        for (n, (key, value)) in self.options.iter().enumerate() {
            write!(f, "{}{key}={}", if n == 0 { '?' } else { '&' }, text::encode(value))?;
        }
        Ok(())
    }
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Address> {
        Address::parse(text)
    }
}
