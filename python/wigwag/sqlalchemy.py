"""SQLAlchemy's connections under one limit for all processes of the host.

``pip install sqlalchemy`` is needed, 2.0 or later; nothing else of wigwag needs it.

    engine = create_engine("postgresql+psycopg://…", poolclass=LeasedPool, lease="lease:db?slots=20", lease_group="web")
"""

from __future__ import annotations

import threading
import time
import typing
import warnings
import weakref
from typing import Any, Dict, Optional, Tuple, Union

from sqlalchemy import event, exc
from sqlalchemy.pool import ConnectionPoolEntry, Pool

from ._connections import Closed, Connections, Held, close_and_see
from ._sessions import Sessions, bounded, remove, until
from ._wigwag import Lease, LeasePool

__all__ = ["LeasedPool", "remove"]

#: Drivers whose sessions can be told by their application name.
_POSTGRESQL = ("psycopg", "psycopg2")

#: Others of PostgreSQL's that have been used with this: each is warned of once.
_unknown: "set[str]" = set()

#: What this thread is about to connect for.
_about = threading.local()


class LeasedPool(Pool):
    """A pool whose connections are under leases: the host has as many at a time as the pool of leases has slots.

    For ``create_engine(…, poolclass=LeasedPool)``, which takes these besides: ``lease``, the address of the pool of leases or
    a LeasePool; ``lease_group``, that for which slots are taken; ``lease_note``, what others see in its statistics;
    ``lease_idle``, how many seconds a connection that nobody uses is kept; and ``pool_timeout`` as usual. Leave the server
    room for two connections more than there are slots. A child made by fork begins with no connection. One that is detached
    keeps its slot until it is closed or garbage; sqlite3's, which cannot be watched, until it is closed.

    With PostgreSQL by psycopg or psycopg2 the session of a process that was killed is ended on the server before its slot is
    used again, whatever it was doing; with other databases the slot counts as free when the process is dead, and with other
    drivers of PostgreSQL, too, of which a RuntimeWarning tells.
    """

    def __init__(
        self,
        creator: Any,
        lease: Union[str, LeasePool, None] = None,
        lease_group: str = "",
        lease_note: str = "",
        lease_idle: float = 60.0,
        timeout: Optional[float] = 30.0,
        **kw: Any,
    ) -> None:
        Pool.__init__(self, creator, **kw)
        if lease is None:
            raise exc.ArgumentError('LeasedPool needs lease=, such as create_engine(…, lease="lease:db?slots=20")')
        self._own = {"lease": lease, "lease_group": lease_group, "lease_note": lease_note, "lease_idle": lease_idle,
                     "timeout": timeout}
        self._timeout = timeout
        self._connections: Connections[ConnectionPoolEntry] = Connections(
            lease, self._open, self._close_record, self._settle, group=lease_group, note=lease_note, idle=lease_idle
        )
        self._held: Dict[ConnectionPoolEntry, Held[ConnectionPoolEntry]] = {}
        self._leases: "weakref.WeakKeyDictionary[ConnectionPoolEntry, Lease]" = weakref.WeakKeyDictionary()
        #: What the records have open, and what was detached from them: by its id, its slot and what keeps the id from being reused.
        self._live: "weakref.WeakKeyDictionary[ConnectionPoolEntry, Any]" = weakref.WeakKeyDictionary()
        self._detached: Dict[int, Tuple[Held[ConnectionPoolEntry], Any]] = {}
        #: Records of whose last connection it is not known that the server has ended its session.
        self._unsure: "weakref.WeakSet[ConnectionPoolEntry]" = weakref.WeakSet()
        self._sessions: Optional[Sessions] = None
        dialect: Any = self._dialect
        if getattr(dialect, "name", "") == "postgresql":
            if dialect.driver in _POSTGRESQL:
                self._sessions = Sessions(self._connections.pool, self._connect_cleaner)
                if not event.contains(dialect, "do_connect", _connect_by_name):
                    event.listen(dialect, "do_connect", _connect_by_name)
            elif dialect.driver not in _unknown:
                _unknown.add(dialect.driver)
                warnings.warn(f"LeasedPool can end the sessions of killed processes with {' and '.join(_POSTGRESQL)} only: with "
                              f"{dialect.driver} the server may have more connections than there are slots", RuntimeWarning, 2)
        invoke = self._invoke_creator
        self._invoke_creator = lambda record: self._connect(invoke, record)

    @property
    def lease_pool(self) -> LeasePool:
        """The pool of leases, for its statistics."""
        return self._connections.pool

    # --- what SQLAlchemy asks of a pool ---

    def _do_get(self) -> ConnectionPoolEntry:
        try:
            held = self._connections.take(self._timeout)
        except TimeoutError as error:
            raise exc.TimeoutError(f"no connection in {self._timeout} s: {error}", code="3o7r") from error
        except Closed as error:
            raise exc.InvalidRequestError("the pool was disposed of; ask the engine, which has another, again") from error
        self._held[held.connection] = held
        return held.connection

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        held = self._held.pop(record)
        if record.dbapi_connection is not None:
            self._connections.give(held)
            return
        detached = self._live.pop(record, None)
        if detached is None:  # it was closed
            self._connections.drop(held)
            return
        kept = detached
        try:
            kept = weakref.finalize(detached, self._collected, id(detached), held)
            setattr(kept, "atexit", False)  # as the type checker knows no such attribute
        except TypeError:
            pass  # sqlite3's cannot be watched
        self._detached[id(detached)] = held, kept

    def _collected(self, number: int, held: Held[ConnectionPoolEntry]) -> None:
        """A connection that was detached is garbage, and was not closed."""
        del self._detached[number]
        self._connections.forget(held, self._sessions is None)

    def _close_connection(self, connection: Any, *, terminate: bool = False) -> None:
        # Also of one that is to be replaced under the same lease.
        for reference in self._live.keyrefs():  # a list, whatever other threads do meanwhile
            record = reference()
            if record is not None and self._live.get(record) is connection:
                self._live.pop(record, None)
                self._unsure.add(record)
                break
        else:
            record = None
        held, kept = self._detached.pop(id(connection), (None, None))
        if isinstance(kept, weakref.finalize):
            kept.detach()
        _about.gone = False
        try:
            _about.gone = close_and_see(
                connection, lambda: super(LeasedPool, self)._close_connection(connection, terminate=terminate)
            )
            if _about.gone and record is not None:
                self._unsure.discard(record)
        finally:
            if held is not None:
                self._connections.forget(held, _about.gone or self._sessions is None)

    def recreate(self) -> "LeasedPool":
        self.logger.info("Pool recreating")
        return self.__class__(
            self._creator,
            recycle=self._recycle,
            echo=self.echo,
            logging_name=self._orig_logging_name,
            reset_on_return=self._reset_on_return,
            pre_ping=self._pre_ping,
            _dispatch=self.dispatch,
            dialect=self._dialect,
            **typing.cast(Any, self._own),
        )

    def dispose(self) -> None:
        self._connections.close()
        if self._sessions is not None:
            self._sessions.close()

    def status(self) -> str:
        connections = self._connections
        return f"LeasedPool {connections.pool.address}: {connections.open} open, {connections.idle} idle"

    # --- what the connections are made of ---

    def _open(self, lease: Lease, deadline: Optional[float]) -> ConnectionPoolEntry:
        _about.lease, _about.deadline = lease, deadline
        try:
            record = self._create_connection()
        finally:
            _about.lease = _about.deadline = None
        self._leases[record] = lease
        return record

    def _connect(self, invoke: Any, record: ConnectionPoolEntry) -> Any:
        """As the engine connects, also again under the same lease, and notes which session it is."""
        sessions = self._sessions
        if sessions is None:
            connection = self._live[record] = invoke(record)
            return connection
        lease: Any = self._leases.get(record)
        if lease is None:
            return self._connect_for(sessions, _about.lease, invoke, record)
        _about.deadline = None if self._timeout is None else time.monotonic() + self._timeout
        try:
            if record in self._unsure:
                sessions.settle(lease, _about.deadline)
                self._unsure.discard(record)
            return self._connect_for(sessions, lease, invoke, record)
        except TimeoutError as error:
            raise exc.TimeoutError(f"no connection in {self._timeout} s: {error}", code="3o7r") from error
        finally:
            _about.deadline = None

    def _connect_for(self, sessions: Sessions, lease: Lease, invoke: Any, record: ConnectionPoolEntry) -> Any:
        _about.naming = sessions, lease
        try:
            connection = invoke(record)
        except BaseException:
            self._unsure.add(record)
            raise
        finally:
            _about.naming = None
        try:
            with bounded(connection, getattr(_about, "deadline", None)):
                cursor = connection.cursor()
                sessions.opened(lease, connection.info.parameter_status("application_name") or "", cursor)
                cursor.close()
                connection.rollback()
        except BaseException:
            self._unsure.add(record)
            connection.close()
            raise
        self._live[record] = connection
        return connection

    def _close_record(self, record: ConnectionPoolEntry) -> bool:
        self._leases.pop(record, None)
        is_closed = record.dbapi_connection is None
        _about.gone = False
        record.close()
        # Of one that was closed before it is not known, but by its name the next can tell.
        return self._sessions is None or (_about.gone and not is_closed and record not in self._unsure)

    def _settle(self, lease: Lease, deadline: Optional[float]) -> None:
        if self._sessions is not None:
            self._sessions.settle(lease, deadline)

    def _connect_cleaner(self, name: str, deadline: Optional[float]) -> Any:
        before = getattr(_about, "deadline", None)
        _about.name, _about.deadline = name, deadline
        try:
            creator: Any = self._creator
            return creator()
        finally:
            _about.name, _about.deadline = None, before


def _connect_by_name(dialect: Any, record: Any, cargs: Any, cparams: Dict[str, Any]) -> Any:
    """Connects under the application name by which the session can be told."""
    name = getattr(_about, "name", None)
    naming = getattr(_about, "naming", None)
    if name is None and naming is not None:
        sessions, lease = naming
        name = sessions.application_name(lease, str(cparams.get("application_name") or ""))
        sessions.begun(lease, name)
    if name is None:
        return None
    # What is given in order may be a connection string with a limit of its own.
    own = {} if cargs else until(getattr(_about, "deadline", None), cparams)
    own["application_name"] = name
    return dialect.connect(*cargs, **{**cparams, **own})
