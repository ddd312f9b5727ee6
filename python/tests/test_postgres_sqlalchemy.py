"""SQLAlchemy's connections that leave the pool, and drivers that it knows less of."""

import gc
import os
import socket
import threading
import types
import warnings

import pytest
from conftest import GENEROUS, SHORT

import wigwag

sqlalchemy = pytest.importorskip("sqlalchemy")
pytest.importorskip("psycopg")

import postgres  # noqa: E402
from test_postgres import address, conninfo, looking_on, sessions, url  # noqa: E402, F401

import wigwag.sqlalchemy  # noqa: E402

needs_a_server = pytest.mark.skipif(
    postgres.binaries() is None, reason="no PostgreSQL server (apt-get install postgresql)")

PID = sqlalchemy.text("SELECT pg_backend_pid()")


def engine_of(address, url, **options):
    options.setdefault("pool_timeout", GENEROUS)
    return sqlalchemy.create_engine(url, poolclass=wigwag.sqlalchemy.LeasedPool, lease=address, **options)


@needs_a_server
@pytest.mark.parametrize("disposed", [False, True])
def test_a_detached_connection_keeps_its_slot_until_it_is_closed(conninfo, address, disposed):
    engine = engine_of(f"{address}?slots=1", url(conninfo))
    impatient = engine_of(address, url(conninfo), pool_timeout=SHORT)
    with looking_on(conninfo) as monitor, wigwag.LeasePool.open(address) as table:
        connection = engine.connect()
        pid = connection.execute(PID).scalar()
        connection.detach()
        for other in (engine, impatient):
            assert table.available == 0 and table.statistics().held == 1
            if other is impatient:
                with pytest.raises(sqlalchemy.exc.TimeoutError):
                    other.connect()
        assert connection.execute(PID).scalar() == pid and list(sessions(monitor).values()) == [pid]
        if disposed:
            engine.dispose()
            assert table.available == 0 and connection.execute(PID).scalar() == pid
        connection.close()
        assert table.available == 1 and table.statistics().dirty == 0 and sessions(monitor) == {}
        patient = engine_of(address, url(conninfo))
        with patient.connect() as other:
            assert other.execute(PID).scalar() != pid
        for one in (engine, impatient, patient):
            one.dispose()
        assert table.available == 1


@needs_a_server
def test_a_detached_connection_keeps_its_slot_until_it_is_garbage(conninfo, address):
    engine = engine_of(f"{address}?slots=1", url(conninfo))
    connection = engine.connect()
    pid = connection.execute(PID).scalar()
    connection.detach()
    raw = connection.connection.dbapi_connection
    del connection
    gc.collect()
    assert engine.pool.lease_pool.available == 0 and raw.execute("SELECT pg_backend_pid()").fetchone() == (pid,)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # that it was not closed
        del raw
        gc.collect()
    assert engine.pool.lease_pool.available == 1
    with engine.connect() as connection:
        assert connection.execute(PID).scalar() != pid
    engine.dispose()


@needs_a_server
def test_a_child_gives_nothing_back_that_its_parent_has_detached(conninfo, address):
    engine = engine_of(f"{address}?slots=1", url(conninfo))
    connection = engine.connect()
    connection.detach()
    raw = connection.connection.dbapi_connection
    child = os.fork()
    if child == 0:
        engine.pool._collected(id(raw), engine.pool._detached[id(raw)][0])
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert engine.pool.lease_pool.available == 0 and connection.execute(PID).scalar()
    connection.close()
    assert engine.pool.lease_pool.available == 1
    engine.dispose()


@needs_a_server
def test_one_that_was_invalidated_gives_its_slot_back(conninfo, address):
    engine = engine_of(f"{address}?slots=1", url(conninfo))
    connection = engine.connect()
    connection.invalidate()
    connection.close()
    assert engine.pool.lease_pool.available == 1 and not engine.pool._live
    engine.dispose()


class Driver:
    """Connections to servers of which nothing is known but whether they have closed their side."""

    def __init__(self):
        self.servers, self.settled = [], 0

    def connect(self):
        return Silent(self)

    # As wigwag._sessions.Sessions.

    def begun(self, lease, name):
        pass

    def opened(self, lease, name, cursor):
        pass

    def settle(self, lease, deadline):
        self.settled += 1
        for server in self.servers:
            server.close()

    def close(self):
        pass


class Silent:
    def __init__(self, driver):
        self.client, server = socket.socketpair()
        driver.servers.append(server)
        self.info = types.SimpleNamespace(parameter_status=lambda _: "x")
        self.fileno, self.close = self.client.fileno, self.client.close

    def cursor(self):
        return types.SimpleNamespace(close=lambda: None)

    def rollback(self):
        pass


def driven(leases):
    driver = Driver()
    pool = wigwag.sqlalchemy.LeasedPool(driver.connect, lease=leases, timeout=GENEROUS)
    pool._sessions = driver
    return driver, pool


@pytest.mark.parametrize("ends", [False, True])
def test_before_it_connects_again_under_a_lease_the_session_before_is_ended(monkeypatch, ends):
    monkeypatch.setattr(wigwag._connections, "_GONE", SHORT)
    with wigwag.LeasePool.anonymous(1) as leases:
        driver, pool = driven(leases)
        connection = pool.connect()
        record = connection._connection_record
        if ends:
            driver.servers[0].close()
        connection.close()
        record.invalidate()  # as pre_ping and recycle do
        connection = pool.connect()
        assert connection._connection_record is record and len(driver.servers) == 2
        assert driver.settled == (0 if ends else 1)
        driver.servers[1].close()
        connection.close()
        pool.dispose()
        assert leases.acquire(0).dirty is False, "all have ended"


def test_one_whose_session_is_not_known_to_have_ended_leaves_its_slot_dirty(monkeypatch):
    monkeypatch.setattr(wigwag._connections, "_GONE", SHORT)
    with wigwag.LeasePool.anonymous(1) as leases:
        driver, pool = driven(leases)

        def settle(lease, deadline):
            raise TimeoutError("they do not end")

        driver.settle = settle
        connection = pool.connect()
        record = connection._connection_record
        connection.close()
        record.invalidate()
        with pytest.raises(sqlalchemy.exc.TimeoutError, match="they do not end"):
            pool.connect()
        assert len(driver.servers) == 1 and leases.acquire(0).dirty
        driver.servers[0].close()
        pool.dispose()


def test_a_server_that_answers_no_more_is_not_waited_for_beyond_the_timeout():
    with postgres.silent() as conninfo:
        host = dict(part.split("=") for part in conninfo.split())
        options = {name: host[name] for name in ("sslmode", "gssencmode")}
        engine = engine_of(wigwag.LeasePool.anonymous(1), f"postgresql+psycopg://postgres@127.0.0.1:{host['port']}/postgres",
                           connect_args=options, pool_timeout=4 * SHORT)
        for _ in range(2):  # the second has to clean up first
            with pytest.raises(sqlalchemy.exc.TimeoutError, match="does not answer"):
                engine.connect()
        engine.dispose()


def test_who_waits_while_the_engine_is_disposed_of_gets_an_error_of_sqlalchemys(address):
    engine = engine_of(f"{address}?slots=1", "sqlite://")
    held, caught = engine.connect(), []

    def wait():
        with pytest.raises(sqlalchemy.exc.InvalidRequestError, match="disposed of") as error:
            engine.connect()
        caught.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    engine.pool.lease_pool.wait_wanted(GENEROUS)
    engine.dispose()
    thread.join()
    held.close()
    assert len(caught) == 1
    engine.dispose()


def test_other_databases_detach_too(address):
    with engine_of(f"{address}?slots=1", "sqlite://").connect() as connection:
        pool = connection.engine.pool
        connection.detach()
        assert pool.lease_pool.available == 0
        assert connection.execute(sqlalchemy.text("SELECT 1")).scalar() == 1
    assert pool.lease_pool.available == 1 and not pool._detached
    with connection.engine.connect():
        pass
    connection.engine.dispose()


def test_drivers_that_it_cannot_help_are_told_of_once(address, monkeypatch):
    monkeypatch.setattr(wigwag.sqlalchemy, "_unknown", set())
    driver = types.SimpleNamespace(paramstyle="format", __version__="1.31.0")
    with pytest.warns(RuntimeWarning, match="with psycopg and psycopg2 only: with pg8000 the server may"):
        engine = engine_of(address, "postgresql+pg8000://", module=driver)
    engine.dispose()  # which makes another pool
    engine.dispose()
