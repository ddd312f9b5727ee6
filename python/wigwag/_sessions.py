"""PostgreSQL's side of a connection under a lease.

A client that is killed leaves its session behind until the server notices, which may take as long as its query. Each session
carries its slot in ``application_name``, from its first message on; whoever takes a dirty slot ends those that carry it,
and waits until they are gone. For that it has one connection besides, which one process of the host has at a time. So with
``slots`` slots there are at most that many sessions and one, and for an instant those of clients that were killed while they
connected: leave room for two more than there are slots.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import socket
import threading
import time
import typing
import weakref
from typing import Callable, Dict, Iterator, Optional

from ._connections import close_and_see
from ._wigwag import Lease, LeasePool, Mutex

#: PostgreSQL cuts a longer one.
_NAME_MAX = 63

_SESSIONS = (
    "SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND "
    "(strpos(application_name, %s) > 0 OR pid = %s AND extract(epoch FROM backend_start) = %s)"
)
#: A session's backend and when it began.
OWN_SESSION = "SELECT pid, extract(epoch FROM backend_start) FROM pg_stat_activity WHERE pid = pg_backend_pid()"


class Sessions:
    """Those of one pool of leases. ``connect`` opens a connection of the DB-API under a name, until a deadline."""

    def __init__(self, pool: LeasePool, connect: Callable[[str, Optional[float]], typing.Any]) -> None:
        self._connect = connect
        name = pool.address.partition(":")[2]
        segment = os.fstat(pool.segment_fd())
        #: Only one cleaner at a time, on the host if the pool has a name.
        self._one_at_a_time: typing.Union[threading.Lock, Mutex] = threading.Lock()
        if name:
            mode = segment.st_mode & 0o777  # whoever may use the one may use the other
            self._one_at_a_time = Mutex.open(f"mutex:{name}.cleaner", participants=256, mode=mode)
        # Pools of other hosts and directories may have the same name, and their sessions be on the same server.
        which = hashlib.sha256(f"{_boot()} {segment.st_dev} {segment.st_ino}".encode()).hexdigest()[:8]
        self._tag = f"#{_ascii(name.rpartition('/')[2] or 'pool')[-20:]}-{which}/"
        _all.add(self)

    def application_name(self, lease: Lease, name: str = "") -> str:
        """The name that a session under this lease has to carry from its beginning."""
        mark = f"{self._tag}{lease.slot}.{lease.token}"
        return _ascii(name)[: _NAME_MAX - len(mark)] + mark

    def begun(self, lease: Lease, application_name: str) -> None:
        """Notes that a session is about to be."""
        lease.information = json.dumps({"state": "connecting", "application_name": application_name}).encode()

    def opened(self, lease: Lease, application_name: str, cursor: typing.Any) -> None:
        """Notes which one it is."""
        cursor.execute(OWN_SESSION)
        self.noted(lease, application_name, *cursor.fetchone())

    def noted(self, lease: Lease, application_name: str, pid: int, start: typing.Any) -> None:
        """Notes which one it is, of which ``OWN_SESSION`` has told."""
        told = {"state": "open", "pid": pid, "started": str(start), "application_name": application_name}
        lease.information = json.dumps(told).encode()

    def settle(self, lease: Lease, deadline: Optional[float]) -> None:
        """Ends what is left of earlier sessions of a slot, and waits until they are gone. Raises TimeoutError."""
        pid, started = _known(lease)
        with self._cleaning(deadline):
            connection = self._connect("wigwag cleaner", deadline)
            try:
                with bounded(connection, deadline):
                    self._end(connection, lease, (pid, started), deadline)
            finally:
                close_and_see(connection, connection.close, deadline)

    def _end(
        self, connection: typing.Any, lease: Lease, known: "tuple[int, str]", deadline: Optional[float]
    ) -> None:
        connection.autocommit = True
        cursor = connection.cursor()
        pause = 0.001
        while True:
            lease.check()  # of a slot that was lost the next user's session is not to be ended
            cursor.execute(_SESSIONS, (f"{self._tag}{lease.slot}.", *known))
            left = cursor.fetchall()
            if not left:
                return
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"sessions {[pid for pid, _ in left]} of slot {lease.slot} do not end")
            time.sleep(pause)
            pause = min(2 * pause, 0.05)

    @contextlib.contextmanager
    def _cleaning(self, deadline: Optional[float]) -> Iterator[None]:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        lock = self._one_at_a_time
        if isinstance(lock, Mutex):
            had = lock.acquire(True, left)
        else:
            had = lock.acquire(True, -1 if left is None else left)
        if not had:
            raise TimeoutError("others clean up, and do not come to an end")
        try:
            yield
        finally:
            lock.release()

    def close(self) -> None:
        if isinstance(self._one_at_a_time, Mutex):
            self._one_at_a_time.close()


_all: "weakref.WeakSet[Sessions]" = weakref.WeakSet()


def _after_fork() -> None:
    for sessions in list(_all):
        if not isinstance(sessions._one_at_a_time, Mutex):
            sessions._one_at_a_time = threading.Lock()  # whoever held it is a thread of the parent's


os.register_at_fork(after_in_child=_after_fork)


def until(deadline: Optional[float], given: typing.Mapping[str, typing.Any]) -> Dict[str, typing.Any]:
    """libpq's parameters to connect until a deadline, unless those given end it before. Its minimum is two seconds."""
    if deadline is None:
        return {}
    left = min(deadline - time.monotonic(), 86400.0)  # what is longer it may not be able to count
    limit = max(2, math.ceil(left))
    own = given.get("connect_timeout")
    with contextlib.suppress(TypeError, ValueError):
        if 0 < int(os.environ.get("PGCONNECT_TIMEOUT", "") if own is None else own) < limit:  # 0 is without end
            return {}
    return {"connect_timeout": limit}


@contextlib.contextmanager
def bounded(connection: typing.Any, deadline: Optional[float]) -> Iterator[None]:
    """Has what a connection is asked end with TimeoutError at a deadline: its socket is shut down then. A server may have
    answered when it was connected to, and then answer nothing."""
    if deadline is None:
        yield
        return
    passed = threading.Event()
    with socket.socket(fileno=os.dup(connection.fileno())) as own:

        def end() -> None:
            passed.set()
            with contextlib.suppress(OSError):  # it has gone already
                own.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(min(max(0.0, deadline - time.monotonic()), threading.TIMEOUT_MAX), end)
        timer.daemon = True
        with contextlib.suppress(RuntimeError):  # there can be none at the end of the process
            timer.start()
        failed: Optional[Exception] = None
        try:
            yield
        except Exception as error:
            failed = error
        finally:
            timer.cancel()
            if timer.ident is not None:
                timer.join()
        if passed.is_set() and not isinstance(failed, TimeoutError):
            raise TimeoutError("the server does not answer any more") from failed
        if failed is not None:
            raise failed


def _boot() -> str:
    """What this host has to itself until it is booted anew, as long as the segments live."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read()
    except OSError:  # in some sandboxes
        return os.uname().nodename


def _ascii(text: str) -> str:
    """PostgreSQL replaces what is not ASCII, by more characters in some versions."""
    return text.encode("ascii", "replace").decode()


def _known(lease: Lease) -> "tuple[int, str]":
    try:
        told = json.loads(lease.information)
        return int(told["pid"]), str(told["started"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0, "0"


def remove(address: str) -> None:
    """Removes a pool's name, and that of the lock beside it; those who have it open keep it."""
    LeasePool.remove(address)
    with contextlib.suppress(FileNotFoundError):
        Mutex.remove(f"mutex:{address.partition(':')[2].partition('?')[0]}.cleaner")
