"""Connections of psycopg 3 under one limit for all processes of the host.

``pip install psycopg`` is needed, 3.1 or later; nothing else of wigwag needs it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import typing
from typing import Any, AsyncIterator, Awaitable, Callable, Dict, Generic, Iterator, Optional, Tuple, TypeVar, Union

import psycopg
from psycopg.rows import tuple_row

from ._aio import call_in_thread
from ._connections import Connections, Held, close_and_see, left
from ._connections_async import AsyncConnections, gone_async
from ._sessions import OWN_SESSION, Sessions, bounded, remove, until
from ._wigwag import Lease, LeasePool

__all__ = ["AsyncConnectionPool", "ConnectionPool", "PoolTimeout", "remove"]

_log = logging.getLogger("wigwag.psycopg")
_C = TypeVar("_C")
_IDLE = psycopg.pq.TransactionStatus.IDLE


class PoolTimeout(psycopg.OperationalError, TimeoutError):
    """No connection came free in time. As psycopg_pool's an OperationalError, and as all that wigwag raises a TimeoutError."""


class _NotThePools(Exception):
    """A TimeoutError of the caller's ``configure``, which says nothing of the pool."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(error)
        self.error = error


class _Pool(Generic[_C]):
    """What the pool for threads and that for event loops have in common."""

    _connections: Union[Connections[_C], AsyncConnections[_C]]

    def __init__(self, conninfo: str, kwargs: Optional[Dict[str, Any]], timeout: Optional[float]) -> None:
        self._conninfo, self._kwargs, self._timeout = conninfo, dict(kwargs or {}), timeout
        self._given: Dict[str, Any] = {**psycopg.conninfo.conninfo_to_dict(conninfo), **self._kwargs}
        self._name = str(self._given.get("application_name") or "")
        self._out: Dict[int, Held[_C]] = {}

    @property
    def lease_pool(self) -> LeasePool:
        """The pool of leases, for its statistics."""
        return self._connections.pool

    def lease_of(self, connection: _C) -> Lease:
        """The lease under which a connection that is in use is."""
        return self._out[id(connection)].lease

    def get_stats(self) -> Dict[str, int]:
        """Of psycopg_pool's figures those of this instant; what the host's processes have together is in
        ``lease_pool.statistics()``."""
        connections = self._connections
        return {"pool_min": 0, "pool_max": connections.pool.slots, "pool_size": connections.open,
                "pool_available": connections.idle, "requests_waiting": connections.waiting}

    def __repr__(self) -> str:
        connections = self._connections
        return f"<wigwag.psycopg.{type(self).__name__} open={connections.open} idle={connections.idle}>"


class ConnectionPool(_Pool["psycopg.Connection[Any]"]):
    """Connections of this process, each under a lease: the host has as many at a time as the pool of leases has slots.

    ``lease`` is its address, such as ``"lease:db?slots=20"``, or a LeasePool; ``conninfo`` and ``kwargs`` are what
    ``psycopg.connect`` takes; ``group`` is that for which slots are taken, ``note`` what others see in the statistics. Leave
    the server room for two connections more than there are slots. Threads may share it; a child made by fork begins with
    none. ``timeout`` is how long to wait for a connection, in seconds (None: for ever), ``idle`` how long one that nobody
    uses is kept; with others waiting it is given up at once.

    As in psycopg_pool, ``configure`` is called with each new connection; ``check`` with one that was kept before it is handed
    out again, and if it raises, or takes longer than the timeout, and than two seconds, that one is dropped and another taken or
    opened (``check_connection`` asks the server);
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
        super().__init__(conninfo, kwargs, timeout)
        self._configure, self._check, self._reset = configure, check, reset
        self._connections: Connections[psycopg.Connection[Any]] = Connections(
            lease, self._open, _close, self._settle, group=group, note=note, idle=idle, lifetime=max_lifetime,
            check=None if check is None else self._checked,
        )
        self._sessions = Sessions(self._connections.pool, self._connect_cleaner)

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
        except (_NotThePools, TimeoutError) as error:
            raise _told(error) from error
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

    def close(self) -> None:
        """Closes those not in use, and the others when they are given back."""
        self._connections.close()
        self._sessions.close()

    def __enter__(self) -> "ConnectionPool":
        return self

    def __exit__(self, *_: typing.Any) -> None:
        self.close()

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
            with bounded(connection, deadline):
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
            return _not_reset(error)
        return _is_idle(connection)

    def _checked(self, connection: psycopg.Connection[Any], deadline: Optional[float]) -> None:
        assert self._check is not None
        with bounded(connection, deadline):
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


class AsyncConnectionPool(_Pool["psycopg.AsyncConnection[Any]"]):
    """As ConnectionPool, for the tasks of an event loop, with psycopg.AsyncConnection: ``configure``, ``check`` and ``reset`` are
    coroutine functions, and so are its methods.

    One pool belongs to the loop in which it is first used. Close it there, or use ``async with``: slots of a program that ends
    without are settled by their next users.
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
        configure: Optional[Callable[[psycopg.AsyncConnection[Any]], Awaitable[None]]] = None,
        check: Optional[Callable[[psycopg.AsyncConnection[Any]], Awaitable[None]]] = None,
        reset: Optional[Callable[[psycopg.AsyncConnection[Any]], Awaitable[None]]] = None,
        max_lifetime: Optional[float] = None,
    ) -> None:
        super().__init__(conninfo, kwargs, timeout)
        self._configure, self._check, self._reset = configure, check, reset
        self._connections: AsyncConnections[psycopg.AsyncConnection[Any]] = AsyncConnections(
            lease, self._open, _close_async, self._settle, group=group, note=note, idle=idle, lifetime=max_lifetime,
            check=None if check is None else self._checked,
        )
        self._sessions = Sessions(self._connections.pool, self._connect_cleaner)

    @contextlib.asynccontextmanager
    async def connection(self, timeout: Optional[float] = None) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        """A connection for the length of an ``async with`` statement: committed in the end, or rolled back after an exception.
        Raises PoolTimeout, psycopg.OperationalError.
        """
        connection = await self.getconn(timeout)
        try:
            try:
                yield connection
            except BaseException:
                with contextlib.suppress(psycopg.Error):  # broken: found when it is given back
                    await connection.rollback()
                raise
            if not connection.closed:
                await connection.commit()
        finally:
            await self.putconn(connection)

    async def getconn(self, timeout: Optional[float] = None) -> psycopg.AsyncConnection[Any]:
        """A connection, to be given back by ``putconn``. Raises PoolTimeout, psycopg.OperationalError."""
        try:
            held = await self._connections.take(self._timeout if timeout is None else timeout)
        except PoolTimeout:
            raise
        except (_NotThePools, TimeoutError, asyncio.TimeoutError) as error:  # two of the name before Python 3.11
            raise _told(error) from error
        self._out[id(held.connection)] = held
        return held.connection

    async def putconn(self, connection: psycopg.AsyncConnection[Any]) -> None:
        """Gives one back; what is not committed is rolled back, and one that is broken is closed."""
        held = self._out.pop(id(connection), None)
        if held is None:
            raise ValueError("this connection is not one that getconn gave")
        try:
            fit = await self._made_fit(connection)
        except BaseException:
            await self._connections.drop(held)
            raise
        if fit:
            await self._connections.give(held)
        else:
            await self._connections.drop(held)

    @staticmethod
    async def check_connection(connection: psycopg.AsyncConnection[Any]) -> None:
        """Raises unless the server answers over a connection; for ``check=``."""
        if connection.autocommit:
            await connection.execute("")
            return
        await connection.set_autocommit(True)  # so that it takes one message each way
        try:
            await connection.execute("")
        finally:
            with contextlib.suppress(psycopg.Error):  # broken: what was raised says so
                await connection.set_autocommit(False)

    async def close(self) -> None:
        """Closes those not in use, and the others when they are given back."""
        await self._connections.close()
        self._sessions.close()

    async def __aenter__(self) -> "AsyncConnectionPool":
        return self

    async def __aexit__(self, *_: typing.Any) -> None:
        await self.close()

    # --- what the calls are made of ---

    def _connect_cleaner(self, name: str, deadline: Optional[float]) -> psycopg.Connection[Any]:
        own = {**until(deadline, self._given), "application_name": name}
        kwargs = {**self._kwargs, **own, "row_factory": tuple_row, "cursor_factory": psycopg.Cursor}
        return psycopg.connect(self._conninfo, **kwargs)

    async def _open(self, lease: Lease, deadline: Optional[float]) -> psycopg.AsyncConnection[Any]:
        name = self._sessions.application_name(lease, self._name)
        self._sessions.begun(lease, name)
        own = {**until(deadline, self._given), "application_name": name}
        connecting = psycopg.AsyncConnection.connect(self._conninfo, **{**self._kwargs, **own})
        connection = await asyncio.wait_for(connecting, left(deadline))
        try:
            async with _bounded(connection, deadline):
                async with psycopg.AsyncCursor(connection, row_factory=tuple_row) as cursor:  # whatever kind the caller's are
                    await cursor.execute(OWN_SESSION)
                    row = await cursor.fetchone()
                    assert row is not None
                    self._sessions.noted(lease, name, *row)
                await connection.rollback()
            if self._configure is not None:
                try:
                    await self._configure(connection)
                except (TimeoutError, asyncio.TimeoutError) as error:
                    raise _NotThePools(error) from None
                status = connection.info.transaction_status
                if status != _IDLE:
                    raise psycopg.ProgrammingError(f"configure left a connection in status {status.name}: it is closed")
        except BaseException:
            await connection.close()
            raise
        return connection

    async def _made_fit(self, connection: psycopg.AsyncConnection[Any]) -> bool:
        """Whether the next can have a connection, which is as new then."""
        if connection.closed:
            return False
        try:
            if connection.info.transaction_status != _IDLE:
                await connection.rollback()
        except psycopg.Error:
            return False
        if self._reset is None:
            return True
        try:
            await self._reset(connection)
        except Exception as error:
            return _not_reset(error)
        return _is_idle(connection)

    async def _checked(self, connection: psycopg.AsyncConnection[Any], deadline: Optional[float]) -> None:
        assert self._check is not None
        async with _bounded(connection, deadline):
            await self._check(connection)
            if connection.info.transaction_status != _IDLE:
                await connection.rollback()

    async def _settle(self, lease: Lease, deadline: Optional[float]) -> None:
        def settle(timeout: None) -> None:
            self._sessions.settle(lease, deadline)

        await call_in_thread(settle, (), None, None)  # whose end it waits for: until then the slot is kept


@contextlib.asynccontextmanager
async def _bounded(connection: psycopg.AsyncConnection[Any], deadline: Optional[float]) -> AsyncIterator[None]:
    """As ``bounded``. A task that is cancelled asks the server to end its query first, which may be what does not answer."""
    passed = False
    with socket.socket(fileno=os.dup(connection.fileno())) as own:

        def end() -> None:
            nonlocal passed
            passed = True
            with contextlib.suppress(OSError):  # it has gone already
                own.shutdown(socket.SHUT_RDWR)

        remaining = left(deadline)
        alarm = None if remaining is None else asyncio.get_running_loop().call_later(remaining, end)
        try:
            yield
        except Exception as error:
            if passed:
                raise TimeoutError("the server does not answer any more") from error
            raise
        finally:
            if alarm is not None:
                alarm.cancel()


async def _close_async(connection: psycopg.AsyncConnection[Any]) -> bool:
    """Closes a connection, and waits until its session has ended; whether it is known to have."""
    try:
        fd = os.dup(connection.fileno())
    except Exception:  # closed already
        await connection.close()
        return False
    try:
        await connection.close()
        return await gone_async(fd)
    finally:
        os.close(fd)


def _told(error: BaseException) -> BaseException:
    """What callers get for a time that has passed."""
    if isinstance(error, _NotThePools):
        return error.error
    told: Tuple[Any, ...] = error.args or ("the deadline passed while a connection was opened",)
    if isinstance(error, OSError) and error.errno is not None:
        told = (error.errno, error.strerror, error.filename)
    return PoolTimeout(*told)


def _not_reset(error: Exception) -> bool:
    _log.warning("reset of a connection failed, which is closed: %s: %s", type(error).__name__, error)
    return False


def _is_idle(connection: Union[psycopg.Connection[Any], psycopg.AsyncConnection[Any]]) -> bool:
    """Whether ``reset`` has left a connection as it has to."""
    status = connection.info.transaction_status
    if status != _IDLE:
        _log.warning("reset left a connection in status %s: it is closed", status.name)
    return bool(status == _IDLE)
