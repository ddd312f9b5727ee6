//! What channels tell: about a message, its sender, their counts, and what they can do.

use std::hash::{DefaultHasher, Hash, Hasher};

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use wigwag::{Capabilities, ChannelDurability, ChannelReceived};

use crate::support::fields;

/// Who sent a message: to be told apart, as the key of a dict for instance, and to be answered with ``Channel.reply()``.
///
/// It stays valid after the sender has gone; answering is then refused. ``str()`` says where it is.
#[pyclass(frozen, eq, module = "wigwag")]
#[derive(PartialEq)]
pub struct ChannelPeer(wigwag::ChannelPeer);

#[pymethods]
impl ChannelPeer {
    /// ``(pid, uid, gid)`` of the sender, as the kernel vouches for them, when it connected; None where the mechanism does not
    /// tell.
    #[getter]
    fn credentials(&self) -> Option<(i32, u32, u32)> {
        self.0.credentials().map(|sender| (sender.pid, sender.uid, sender.gid))
    }

    fn __hash__(&self) -> u64 {
        // Equal ones look the same.
        let mut hasher = DefaultHasher::new();
        self.0.to_string().hash(&mut hasher);
        hasher.finish()
    }

    fn __str__(&self) -> String {
        self.0.to_string()
    }

    fn __repr__(&self) -> String {
        format!("<wigwag.ChannelPeer {}>", self.0)
    }
}

/// A message that was received: ``data`` (bytes), and what is known about it.
///
/// ``priority`` is 0 where there are none; ``deliveries`` is how often it has been taken, this time included (``ring:``;
/// else 0): above 1, somebody took it before and died, and may have acted on it; ``missed`` is how many were missed before it
/// (``topic:`` with ``lossy=1``; ``file:``, removed by age or size, or damaged); ``peer`` who sent it, None where that is not known.
#[pyclass(frozen, get_all, module = "wigwag")]
pub struct ChannelMessage {
    data: Py<PyBytes>,
    priority: u32,
    deliveries: u32,
    missed: u64,
    peer: Option<Py<ChannelPeer>>,
}

impl ChannelMessage {
    pub(crate) fn new(data: Bound<'_, PyBytes>, received: ChannelReceived) -> PyResult<ChannelMessage> {
        let peer = received.peer.map(|peer| Py::new(data.py(), ChannelPeer(peer))).transpose()?;
        Ok(ChannelMessage {
            data: data.unbind(),
            priority: received.priority,
            deliveries: received.deliveries,
            missed: received.missed,
            peer,
        })
    }

    pub(crate) fn length(&self, py: Python<'_>) -> usize {
        self.data.bind(py).as_bytes().len()
    }

    pub(crate) fn data<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        self.data.bind(py).clone()
    }

    pub(crate) fn copy(&self, py: Python<'_>) -> ChannelMessage {
        ChannelMessage {
            data: self.data.clone_ref(py),
            peer: self.peer.as_ref().map(|peer| peer.clone_ref(py)),
            ..*self
        }
    }
}

#[pymethods]
impl ChannelMessage {
    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let peer = self.peer.as_ref().map_or_else(|| "None".to_owned(), |peer| peer.get().__repr__());
        Ok(format!(
            "wigwag.ChannelMessage(data={}, priority={}, deliveries={}, missed={}, peer={peer})",
            self.data.bind(py).repr()?,
            self.priority,
            self.deliveries,
            self.missed
        ))
    }
}

/// Whom to answer: a message, or the peer in it.
pub(crate) struct PeerOf(Option<Py<ChannelPeer>>);

impl<'a, 'py> FromPyObject<'a, 'py> for PeerOf {
    type Error = PyErr;

    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<PeerOf> {
        if let Ok(message) = object.cast::<ChannelMessage>() {
            return Ok(PeerOf(message.get().peer.as_ref().map(|peer| peer.clone_ref(object.py()))));
        }
        Ok(PeerOf(Some(object.cast::<ChannelPeer>()?.to_owned().unbind())))
    }
}

impl PeerOf {
    pub(crate) fn get(&self) -> PyResult<&wigwag::ChannelPeer> {
        let peer = self.0.as_ref().map(|peer| &peer.get().0);
        peer.ok_or_else(|| {
            let text = "reply: this mechanism does not tell who sent a message; tcp: unix: unix-seqpacket: udp: unix-dgram: do";
            PyOSError::new_err((libc::ENOTSUP, text))
        })
    }
}

/// What one end of a channel has seen.
///
/// ``sent`` messages from here, answers included, and ``received`` here; ``waiting`` ones can be received (None: not
/// known); ``peers`` connections to senders are open; ``reconnects`` times a connection was made anew; ``unconfirmed``
/// times something sent may have been lost with one, or in part with a pipe's receiver, was refused, or could not be
/// brought to the disk; ``torn`` messages came in part, answers that came over a broken connection were never received, or tails of a log were cut, by all its
/// users; ``cut_off`` peers sent something else, or did not take an answer; ``starved`` times there was no descriptor or
/// memory for new senders, who wait until there is; ``garbage`` times something else was in a pipe; ``dropped`` messages of
/// a full ring, by all its users; ``missed`` by this subscriber, or reader of a log.
#[pyclass(frozen, get_all, module = "wigwag")]
#[derive(Debug)]
pub struct ChannelStatistics {
    sent: u64,
    received: u64,
    waiting: Option<u64>,
    peers: u64,
    reconnects: u64,
    unconfirmed: u64,
    torn: u64,
    cut_off: u64,
    starved: u64,
    garbage: u64,
    dropped: u64,
    missed: u64,
}

#[pymethods]
impl ChannelStatistics {
    fn __repr__(&self) -> String {
        fields(self)
    }
}

impl From<wigwag::ChannelStatistics> for ChannelStatistics {
    fn from(seen: wigwag::ChannelStatistics) -> ChannelStatistics {
        ChannelStatistics {
            sent: seen.sent,
            received: seen.received,
            waiting: seen.waiting,
            peers: seen.peers,
            reconnects: seen.reconnects,
            unconfirmed: seen.unconfirmed,
            torn: seen.torn,
            cut_off: seen.cut_off,
            starved: seen.starved,
            garbage: seen.garbage,
            dropped: seen.dropped,
            missed: seen.missed,
        }
    }
}

/// What a channel over an address does and does not do.
///
/// ``ordered``: the messages of one sender arrive in its order; ``boundaries``: as they were sent, neither split nor joined;
/// ``largest``: bytes, None if whoever made the object decides; ``priorities``: how many, 1 is none; ``durability``: what
/// messages outlive, ``"connection"`` (nothing), ``"system"`` (every process, not a reboot) or ``"disk"``; ``many_senders``
/// and ``many_receivers`` at the same time, each message going to one of them, or to all with ``broadcast``; ``answers``: the
/// receiver knows who sent a message, and can answer; ``credentials``: and its process and user; ``ends``: receiving raises
/// BrokenPipeError once the last sender has gone; ``crosses_hosts``; ``may_lose``: messages may be lost, or arrive twice or
/// out of order, without anybody noticing.
#[pyclass(frozen, get_all, module = "wigwag")]
#[derive(Debug)]
pub struct ChannelCapabilities {
    ordered: bool,
    boundaries: bool,
    largest: Option<usize>,
    priorities: u32,
    durability: &'static str,
    many_senders: bool,
    many_receivers: bool,
    broadcast: bool,
    answers: bool,
    credentials: bool,
    ends: bool,
    crosses_hosts: bool,
    may_lose: bool,
}

#[pymethods]
impl ChannelCapabilities {
    fn __repr__(&self) -> String {
        fields(self)
    }
}

impl From<Capabilities> for ChannelCapabilities {
    fn from(found: Capabilities) -> ChannelCapabilities {
        ChannelCapabilities {
            ordered: found.ordered,
            boundaries: found.boundaries,
            largest: found.largest,
            priorities: found.priorities,
            durability: match found.durability {
                ChannelDurability::Connection => "connection",
                ChannelDurability::System => "system",
                ChannelDurability::Disk => "disk",
            },
            many_senders: found.many_senders,
            many_receivers: found.many_receivers,
            broadcast: found.broadcast,
            answers: found.answers,
            credentials: found.credentials,
            ends: found.ends,
            crosses_hosts: found.crosses_hosts,
            may_lose: found.may_lose,
        }
    }
}
