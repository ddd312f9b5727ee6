"""Connections of psycopg 3 under one limit for all processes of the host.

``pip install psycopg`` is needed, 3.1 or later; nothing else of wigwag needs it.
"""

from __future__ import annotations

import contextlib
import logging
import typing
from typing import Any, Callable, Dict, Iterator, Optional, Union

import psycopg
from psycopg.rows import tuple_row

from ._connections import Connections, Held, close_and_see
from ._sessions import Sessions, remove, until
from ._wigwag import Lease, LeasePool

__all__ = ["ConnectionPool", "PoolTimeout", "remove"]

_log = logging.getLogger("wigwag.psycopg")
_IDLE = psycopg.pq.TransactionStatus.IDLE


class PoolTimeout(psycopg.OperationalError, TimeoutError):
    """No connection came free in time. As psycopg_pool's an OperationalError, and as all that wigwag raises a TimeoutError."""


class _NotThePools(Exception):
    """A TimeoutError of the caller's ``configure``, which says nothing of the pool."""

    def __init__(self, error: TimeoutError) -> None:
        super().__init__(error)
        self.error = error


class ConnectionPool:
    """Connections of this process, each under a lease: the host has as many at a time as the pool of leases has slots.

    ``lease`` is its address, such as ``"lease:db?slots=20"``, or a LeasePool; ``conninfo`` and ``kwargs`` are what
    ``psycopg.connect`` takes; ``group`` is that for which slots are taken, ``note`` what others see in the statistics. Leave
    the server room for two connections more than there are slots. Threads may share it; a child made by fork begins with
    none. ``timeout`` is how long to wait for a connection, in seconds (None: for ever), ``idle`` how long one that nobody
    uses is kept; with others waiting it is given up at once.

    As in psycopg_pool, ``configure`` is called with each new connection; ``check`` with one that was kept before it is handed
    out again, and if it raises, that one is dropped and another taken or opened (``check_connection`` asks the server);
    ``reset`` is called with each that is given back, and if it raises, that one is closed; ``max_lifetime`` is after how many
    seconds a connection is no longer handed out, but replaced.

    The connection of a process that was killed is ended on the server before its slot is used again, whatever it was doing.
    """

    def __init__(
        self,
        lease: Union[str, LeasePool],
        conninfo: str = "",
        *,
        kwargs: Optional[Dict[str, Any]] = None,
        group: str = "",
        note: str = "",
        timeout: Optional[float] = 30.0,
        idle: float = 60.0,
        configure: Optional[Callable[[psycopg.Connection[Any]], None]] = None,
        check: Optional[Callable[[psycopg.Connection[Any]], None]] = None,
        reset: Optional[Callable[[psycopg.Connection[Any]], None]] = None,
        max_lifetime: Optional[float] = None,
    ) -> None:
        self._conninfo, self._kwargs, self._timeout = conninfo, dict(kwargs or {}), timeout
        self._given: Dict[str, Any] = {**psycopg.conninfo.conninfo_to_dict(conninfo), **self._kwargs}
        self._name = str(self._given.get("application_name") or "")
        self._configure, self._check, self._reset = configure, check, reset
        self._connections: Connections[psycopg.Connection[Any]] = Connections(
            lease, self._open, _close, self._settle, group=group, note=note, idle=idle, lifetime=max_lifetime,
            check=None if check is None else self._checked,
        )
        self._sessions = Sessions(self._connections.pool, self._connect_cleaner)
        self._out: Dict[int, Held[psycopg.Connection[Any]]] = {}

    @property
    def lease_pool(self) -> LeasePool:
        """The pool of leases, for its statistics."""
        return self._connections.pool

    @contextlib.contextmanager
    def connection(self, timeout: Optional[float] = None) -> Iterator[psycopg.Connection[Any]]:
        """A connection for the length of a ``with`` statement, as ``psycopg_pool`` has it: committed in the end, or rolled
        back after an exception. Raises PoolTimeout, psycopg.OperationalError.
        """
        connection = self.getconn(timeout)
        try:
            with _whole(connection):
                yield connection
        finally:
            self.putconn(connection)

    def getconn(self, timeout: Optional[float] = None) -> psycopg.Connection[Any]:
        """A connection, to be given back by ``putconn``. Raises PoolTimeout, psycopg.OperationalError."""
        try:
            held = self._connections.take(self._timeout if timeout is None else timeout)
        except PoolTimeout:
            raise
        except _NotThePools as of_the_caller:
            raise of_the_caller.error
        except TimeoutError as error:
            told = error.args if error.errno is None else (error.errno, error.strerror, error.filename)
            raise PoolTimeout(*told) from error
        self._out[id(held.connection)] = held
        return held.connection

    def putconn(self, connection: psycopg.Connection[Any]) -> None:
        """Gives one back; what is not committed is rolled back, and one that is broken is closed."""
        held = self._out.pop(id(connection), None)
        if held is None:
            raise ValueError("this connection is not one that getconn gave")
        try:
            fit = self._made_fit(connection)
        except BaseException:
            self._connections.drop(held)
            raise
        if fit:
            self._connections.give(held)
        else:
            self._connections.drop(held)

    def lease_of(self, connection: psycopg.Connection[Any]) -> Lease:
        """The lease under which a connection that is in use is."""
        return self._out[id(connection)].lease

    @staticmethod
    def check_connection(connection: psycopg.Connection[Any]) -> None:
        """Raises unless the server answers over a connection; for ``check=``."""
        if connection.autocommit:
            connection.execute("")
            return
        connection.autocommit = True  # so that it takes one message each way
        try:
            connection.execute("")
        finally:
            with contextlib.suppress(psycopg.Error):  # broken: what was raised says so
                connection.autocommit = False

    def get_stats(self) -> Dict[str, int]:
        """Of psycopg_pool's figures those of this instant; what the host's processes have together is in
        ``lease_pool.statistics()``."""
        connections = self._connections
        return {"pool_min": 0, "pool_max": connections.pool.slots, "pool_size": connections.open,
                "pool_available": connections.idle, "requests_waiting": connections.waiting}

    def close(self) -> None:
        """Closes those not in use, and the others when they are given back."""
        self._connections.close()
        self._sessions.close()

    def __enter__(self) -> "ConnectionPool":
        return self

    def __exit__(self, *_: typing.Any) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<wigwag.psycopg.ConnectionPool open={self._connections.open} idle={self._connections.idle}>"

    # --- what the calls are made of ---

    def _connect(self, name: str, deadline: Optional[float], **own: Any) -> psycopg.Connection[Any]:
        own.update(until(deadline, self._given), application_name=name)
        return psycopg.connect(self._conninfo, **{**self._kwargs, **own})

    def _connect_cleaner(self, name: str, deadline: Optional[float]) -> psycopg.Connection[Any]:
        return self._connect(name, deadline, row_factory=tuple_row, cursor_factory=psycopg.Cursor)

    def _open(self, lease: Lease, deadline: Optional[float]) -> psycopg.Connection[Any]:
        name = self._sessions.application_name(lease, self._name)
        self._sessions.begun(lease, name)
        connection = self._connect(name, deadline)
        try:
            with psycopg.Cursor(connection, row_factory=tuple_row) as cursor:  # whatever kind the caller's are
                self._sessions.opened(lease, name, cursor)
            connection.rollback()
            if self._configure is not None:
                try:
                    self._configure(connection)
                except TimeoutError as error:
                    raise _NotThePools(error) from None
                status = connection.info.transaction_status
                if status != _IDLE:
                    raise psycopg.ProgrammingError(f"configure left a connection in status {status.name}: it is closed")
        except BaseException:
            connection.close()
            raise
        return connection

    def _made_fit(self, connection: psycopg.Connection[Any]) -> bool:
        """Whether the next can have a connection, which is as new then."""
        if connection.closed:
            return False
        try:
            if connection.info.transaction_status != _IDLE:
                connection.rollback()
        except psycopg.Error:
            return False
        if self._reset is None:
            return True
        try:
            self._reset(connection)
        except Exception as error:
            _log.warning("reset of a connection failed, which is closed: %s: %s", type(error).__name__, error)
            return False
        status = connection.info.transaction_status
        if status != _IDLE:
            _log.warning("reset left a connection in status %s: it is closed", status.name)
        return bool(status == _IDLE)

    def _checked(self, connection: psycopg.Connection[Any]) -> None:
        assert self._check is not None
        self._check(connection)
        if connection.info.transaction_status != _IDLE:
            connection.rollback()

    def _settle(self, lease: Lease, deadline: Optional[float]) -> None:
        self._sessions.settle(lease, deadline)


@contextlib.contextmanager
def _whole(connection: psycopg.Connection[Any]) -> Iterator[None]:
    """Commits in the end, or rolls back; nothing if the caller has closed the connection."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(psycopg.Error):  # broken: found when it is given back
            connection.rollback()
        raise
    if not connection.closed:
        connection.commit()


def _close(connection: psycopg.Connection[Any]) -> bool:
    return close_and_see(connection, connection.close)
