"""Every way two Linux processes can talk, with one set of rules.

Every object has an address; every wait takes a timeout in seconds (None: for ever, the default); every holding has an
owner; every loss has a count. Errors are the subclass of OSError that their errno selects, with the object's address as
``filename`` and the cause and remedy as ``strerror``. Waits run Python's signal handlers, so Ctrl-C gets through.
"""

from ._wigwag import (
    Address,
    Cancel,
    EventFd,
    Listener,
    Memfd,
    Mq,
    MqAttributes,
    MqLimits,
    MqMessage,
    Pipe,
    Sem,
    Shm,
    Socket,
    SysvMessage,
    SysvMq,
    SysvMqLimits,
    SysvMqStatus,
    SysvSem,
    SysvSemStatus,
    SysvShm,
    SysvShmStatus,
    __version__,
    paths,
)

__all__ = [
    "Address",
    "Cancel",
    "EventFd",
    "Listener",
    "Memfd",
    "Mq",
    "MqAttributes",
    "MqLimits",
    "MqMessage",
    "Pipe",
    "Sem",
    "Shm",
    "Socket",
    "SysvMessage",
    "SysvMq",
    "SysvMqLimits",
    "SysvMqStatus",
    "SysvSem",
    "SysvSemStatus",
    "SysvShm",
    "SysvShmStatus",
    "__version__",
    "paths",
]
