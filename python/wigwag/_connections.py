"""Connections of one process, each under a lease of a pool that all processes of the host share.

Those not in use are kept open, with their leases, until somebody on the host waits for a slot: a connection that is given
back goes to a thread of this process that waits, then to whoever waits elsewhere, and else is kept. A process whose threads
wait all the time gives a connection up when it has had it for ``turn`` seconds and others wait too.

Where leases expire, a thread renews those of all connections that are open, in use or not, also after the pool was closed;
another looks after those that nobody uses, so that closing one, which may take long, holds up no renewal.
"""

from __future__ import annotations

import atexit
import collections
import contextlib
import errno
import logging
import math
import os
import select
import threading
import time
import typing
import weakref
from typing import Callable, Deque, Generic, List, Optional, Set, TypeVar

from ._wigwag import Cancel, Lease, LeasePool

_C = TypeVar("_C")
_log = logging.getLogger("wigwag.connections")

#: How long the other side may take to be gone after its connection was closed, in seconds.
_GONE = 5.0
#: How long whoever was told that a slot is free may take to have it, before another one is given up for it.
_TAKEN = 0.005
#: While somebody waits who can have none of the slots that are kept here, how often to look whether somebody else does.
_LOOK_AGAIN = 0.05


class Held(Generic[_C]):
    """A connection, and the lease under which it is."""

    __slots__ = ("connection", "lease", "since", "idle_since", "pid", "kept")

    def __init__(self, connection: _C, lease: Lease) -> None:
        self.connection = connection
        self.lease = lease
        self.since = time.monotonic()
        self.idle_since = self.since
        self.pid = os.getpid()
        #: Whether somebody has had it before.
        self.kept = False


class Closed(ValueError):
    """The pool of connections is closed, or was while somebody waited."""


class _Waiter(Generic[_C]):
    """A thread that waits, for a slot or for a connection of this process, whichever comes first."""

    __slots__ = ("cancel", "handed")

    def __init__(self) -> None:
        self.cancel = Cancel()
        self.handed: Optional[Held[_C]] = None


class Connections(Generic[_C]):
    """See above. ``connect`` opens a connection under a lease, and has time until a deadline; ``close`` closes one and says
    whether the other side is known to be gone; ``settle`` makes sure that nothing is left of a dirty slot's connection;
    ``check`` raises unless a connection is fit to be handed out again, TimeoutError if the other side does not answer in time.
    """

    def __init__(
        self,
        pool: typing.Union[str, LeasePool],
        connect: Callable[[Lease, Optional[float]], _C],
        close: Callable[[_C], bool],
        settle: Callable[[Lease, Optional[float]], None],
        *,
        group: str = "",
        note: str = "",
        turn: float = 0.1,
        idle: float = 60.0,
        lifetime: Optional[float] = None,
        check: Optional[Callable[[_C, Optional[float]], None]] = None,
    ) -> None:
        self.pool = LeasePool.open(pool) if isinstance(pool, str) else pool
        self._owns_pool = isinstance(pool, str)
        self._connect, self._close, self._settle = connect, close, settle
        self._group, self._note, self._turn, self._idle_time = group, note, turn, idle
        self._lifetime, self._check = lifetime, check
        self._expires = self.pool.statistics().expires
        self._closed = self._exiting = False
        self._forget()
        _all.add(self)

    def _forget(self) -> None:
        """As new, with nothing in hand."""
        self._lock = threading.Lock()
        self._idle: Deque[Held[_C]] = collections.deque()
        self._all: Set[Held[_C]] = set()
        self._waiters: Deque[_Waiter[_C]] = collections.deque()
        self._keeper: Optional[threading.Thread] = None
        self._keeper_ends = Cancel()
        self._renewer: Optional[threading.Thread] = None
        #: Slots under which connections are being opened.
        self._opening: Set[Lease] = set()
        #: Set when the thread that renews may have come to its end.
        self._stir = threading.Event()

    # --- for callers ---

    def take(self, timeout: Optional[float] = None) -> Held[_C]:
        """A connection; waits for one. Raises what the lease pool, ``settle`` and ``connect`` raise."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            with self._lock:
                if self._closed:
                    raise Closed("operation on a closed pool of connections")
                held = self._idle.pop() if self._idle else None
                waiter: _Waiter[_C] = _Waiter()
                if held is None:
                    self._waiters.append(waiter)
            if held is None:
                held = self._wait(waiter, deadline)
            try:
                held.lease.check()
            except OSError:  # it has expired: whoever has the slot now ends the session
                self.drop(held)
                continue
            if self._works(held, deadline):
                return held

    def _works(self, held: Held[_C], deadline: Optional[float]) -> bool:
        """Whether a connection can be handed out; else it is dropped. One that has just been opened can, so this ends."""
        if not held.kept:
            return True
        if self._is_old(held):
            self.drop(held)
            return False
        if self._check is None:
            return True
        try:
            self._check(held.connection, long_enough(deadline))
        except BaseException as error:
            self.drop(held, not isinstance(error, TimeoutError))
            if not isinstance(error, Exception):
                raise
            return False
        return True

    def give(self, held: Held[_C]) -> None:
        """Gives back a connection that is fit for the next."""
        held.kept = True
        waiter: Optional[_Waiter[_C]] = None
        with self._lock:
            keep = not self._closed and not self._is_due(held)
            if keep and self._waiters:
                waiter = self._waiters.popleft()
                waiter.handed = held
            elif keep:
                held.idle_since = time.monotonic()
                self._idle.append(held)
                self._keep_watch()
        if waiter is not None:
            waiter.cancel.fire()
        elif not keep:
            self.drop(held)

    def drop(self, held: Held[_C], is_heard: bool = True) -> None:
        """Closes a connection and gives its slot back; unless ``is_heard`` as dirty, since the other side does not answer."""
        if held.pid != os.getpid():
            _inherited.append(held)
            return
        with self._lock:
            self._all.discard(held)
            if not self._all:
                self._stir.set()
        gone = False
        try:
            gone = self._close(held.connection) and is_heard
        finally:
            _let_go(held.lease, gone)

    def forget(self, held: Held[_C], gone: bool) -> None:
        """Gives the slot of one back that is not to be closed here; ``gone``: its other side is known to be."""
        # Without the lock, as the garbage collector may call this anywhere.
        if held.pid == os.getpid():
            self._all.discard(held)
            _let_go(held.lease, gone)

    def close(self) -> None:
        """Closes those not in use, and the others when they are given back, until when their leases are renewed. Who waits
        gets an error."""
        with self._lock:
            self._closed = True
            waiters = list(self._waiters)
            keeper = self._keeper
        for waiter in waiters:
            waiter.cancel.fire()
        self._keeper_ends.fire()
        if keeper is not None and keeper is not threading.current_thread():
            keeper.join()
        failed: Optional[Exception] = None
        while True:  # of what an exception such as KeyboardInterrupt leaves, the next call
            with self._lock:
                held = self._idle.popleft() if self._idle else None
            if held is None:
                break
            try:
                self.drop(held)
            except Exception as error:
                failed = error
        with self._lock:
            self._stir.set()
            renewer = None if self._all or self._opening else self._renewer
        if renewer is not None:
            renewer.join(_GONE)
        if self._owns_pool:
            self.pool.close()
        if failed is not None:
            raise failed

    @property
    def idle(self) -> int:
        return len(self._idle)

    @property
    def waiting(self) -> int:
        return len(self._waiters)

    @property
    def open(self) -> int:
        return len(self._all)

    # --- how ---

    def _is_due(self, held: Held[_C]) -> bool:
        """Whether it is to be given up, although it works."""
        try:
            held.lease.check()
        except OSError:
            return True
        if held.lease.slot >= self.pool.slots or self._is_old(held):
            return True
        # Not those who wait for slots that are kept for them: this would be none.
        others = held.lease._waiting() > len(self._waiters)
        return others and (not self._waiters or time.monotonic() - held.since > self._turn)

    def _is_old(self, held: Held[_C]) -> bool:
        return self._lifetime is not None and time.monotonic() - held.since >= self._lifetime

    def _wait(self, waiter: _Waiter[_C], deadline: Optional[float]) -> Held[_C]:
        lease: Optional[Lease] = None
        failed: Optional[BaseException] = None
        try:
            with waiter.cancel:
                lease = self.pool.acquire(left(deadline), group=self._group, note=self._note)
        except BaseException as error:
            failed = error
        with self._lock:
            if waiter.handed is None:
                self._waiters.remove(waiter)
        if waiter.handed is not None:
            if lease is not None:
                lease.release()  # for the next in line
            if failed is None or isinstance(failed, OSError):
                return waiter.handed
            self.give(waiter.handed)
        if failed is not None:
            if self._closed and getattr(failed, "errno", 0) == errno.ECANCELED:
                raise Closed("the pool of connections was closed") from failed
            if isinstance(failed, BlockingIOError):  # no time was left: to callers, the same as time that ran out
                raise TimeoutError(errno.ETIMEDOUT, "acquire: the deadline passed", failed.filename) from failed
            raise failed
        assert lease is not None
        return self._open(lease, deadline)

    def _open(self, lease: Lease, deadline: Optional[float]) -> Held[_C]:
        held: Optional[Held[_C]] = None
        try:
            with self._lock:
                self._opening.add(lease)
                if self._expires is not None and self._renewer is None:
                    self._renewer = _started(self._renew, "wigwag-lease-renewer")
            deadline = long_enough(deadline)
            if lease.dirty:
                self._settle(lease, deadline)
                lease.information = b""
                lease.make_clean()
            held = Held(self._connect(lease, deadline), lease)
            self._all.add(held)
        finally:
            self._opening.discard(lease)
            if held is None:  # who knows what the other side has made of it
                _let_go(lease, False)
        return held

    def _keep_watch(self) -> None:
        """Has a thread look after what is not in use. Called under the lock."""
        if self._keeper is None and not self._closed:
            self._keeper = _started(self._keep, "wigwag-lease-keeper")

    def _keep(self) -> None:
        while True:
            with self._lock:
                if self._closed or not self._idle:
                    self._keeper = None
                    return
                left = min(one.idle_since for one in self._idle) + self._idle_time - time.monotonic()
            wanted = False
            try:
                with self._keeper_ends:
                    self.pool.wait_wanted(max(0.001, left))
                wanted = True
            except TimeoutError:
                pass
            except (OSError, ValueError):  # closed
                with self._lock:
                    self._keeper = None
                return
            surplus = self._surplus(wanted)
            for held in surplus:
                try:
                    self.drop(held)
                except Exception:  # its slot is free, and the others have to be
                    _log.exception("a connection could not be closed")
            if wanted:
                time.sleep(_TAKEN if surplus else _LOOK_AGAIN)

    def _surplus(self, wanted: bool) -> List[Held[_C]]:
        """Takes out what nobody has used for long, and one that somebody waits for."""
        with self._lock:
            now = time.monotonic()
            surplus = [one for one in self._idle if now - one.idle_since >= self._idle_time]
            if wanted and not surplus:
                surplus = [one for one in self._idle if _is_wanted(one.lease)][:1]
            for one in surplus:
                self._idle.remove(one)
            return surplus

    def _renew(self) -> None:
        assert self._expires is not None
        while True:
            with self._lock:
                if self._exiting or not (self._all or self._opening):
                    self._renewer = None
                    return
                self._stir.clear()
                # Copied at once: the garbage collector may have `forget` called in between, and no lock keeps that away.
                held, opening = list(self._all), list(self._opening)
            for lease in [*(one.lease for one in held), *opening]:
                with contextlib.suppress(OSError, ValueError):  # lost: found out when it is used next
                    lease.renew()
            self._stir.wait(self._expires / 3)

    def end_renewals(self) -> None:
        """For the end of the process: whoever comes to an end with a lease loses it."""
        with self._lock:
            self._exiting = True
            self._stir.set()
            renewer = self._renewer
        if renewer is not None:
            renewer.join()


_all: "weakref.WeakSet[Connections[typing.Any]]" = weakref.WeakSet()
#: In a child made by fork: what its parent has. Never closed here, as the other side would take that for the parent's.
_inherited: List[typing.Any] = []


def _after_fork() -> None:
    for connections in list(_all):
        _inherited.append((connections._all, connections._idle, connections._waiters))
        connections._forget()


def _at_exit() -> None:
    for connections in list(_all):
        try:
            connections.close()
        except Exception:  # the others have to be closed all the same
            _log.exception("a connection could not be closed")
        connections.end_renewals()


os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)


def _started(run: Callable[[], None], name: str) -> Optional[threading.Thread]:
    """A thread; None where there can be none, as at the end of the process: the next call tries again."""
    thread = threading.Thread(target=run, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError:
        return None
    return thread


def _is_wanted(lease: Lease) -> bool:
    try:
        return lease.wanted
    except ValueError:  # it was given up meanwhile
        return False


def long_enough(deadline: Optional[float]) -> Optional[float]:
    """A deadline by which a connection can be opened, once there is a slot for it: libpq's own minimum."""
    return None if deadline is None else max(deadline, time.monotonic() + 2.0)


def left(deadline: Optional[float]) -> Optional[float]:
    return None if deadline is None else max(0.0, deadline - time.monotonic())


def _let_go(lease: Lease, gone: bool) -> None:
    with contextlib.suppress(OSError):  # it was lost before
        if gone:
            lease.release()
        else:
            lease.abandon()


def gone(fd: int, until: Optional[float] = None) -> bool:
    """Waits until the other side of a socket is gone, or a deadline; whether it is."""
    deadline = min(time.monotonic() + _GONE, math.inf if until is None else until)
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    while poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
        try:
            if os.read(fd, 4096) == b"":
                return True
        except BlockingIOError:
            continue
        except OSError:
            return True
    return False


def close_and_see(connection: typing.Any, close: Callable[[], None], until: Optional[float] = None) -> bool:
    """Closes a connection that has a socket, and waits until the other side is gone, or a deadline: a server counts a session
    until it has ended, not until its client has left. Whether that is so.
    """
    try:
        fd = os.dup(connection.fileno())
    except Exception:  # closed already, or none that has a socket
        close()
        return False
    try:
        close()
        return gone(fd, until)
    finally:
        os.close(fd)
