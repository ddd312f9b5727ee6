"""What the pool of psycopg connections has of psycopg_pool's, on a real PostgreSQL."""

import contextlib
import errno
import os
import pickle
import signal

import pytest
from conftest import GENEROUS, SHORT

import wigwag

psycopg = pytest.importorskip("psycopg")

import postgres  # noqa: E402
from test_postgres import address, conninfo, looking_on, sessions  # noqa: E402, F401

from wigwag.psycopg import ConnectionPool, PoolTimeout  # noqa: E402

pytestmark = pytest.mark.skipif(postgres.binaries() is None, reason="no PostgreSQL server (apt-get install postgresql)")


def test_who_waits_in_vain_gets_an_operational_error(conninfo, address):
    with ConnectionPool(f"{address}?slots=1", conninfo) as pool, pool.connection():
        with pytest.raises(psycopg.OperationalError) as caught:
            pool.getconn(0)
        error = caught.value
        assert isinstance(error, TimeoutError) and isinstance(error, PoolTimeout)
        assert (error.errno, error.filename) == (errno.ETIMEDOUT, address) and address in str(error)
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is PoolTimeout and str(again) == str(error) and again.errno == errno.ETIMEDOUT


def test_sessions_that_do_not_end_in_time_are_an_operational_error(conninfo, address, monkeypatch):
    def settle(*_):
        raise TimeoutError("sessions [1] of slot 0 do not end")

    with ConnectionPool(f"{address}?slots=1", conninfo) as pool:
        pool.lease_pool.acquire().abandon()
        monkeypatch.setattr(pool._sessions, "settle", settle)
        with pytest.raises(PoolTimeout, match="do not end"):
            pool.getconn(GENEROUS)


def test_a_server_that_answers_no_more_is_not_waited_for_beyond_the_timeout():
    with postgres.silent() as conninfo, ConnectionPool(wigwag.LeasePool.anonymous(1), conninfo) as pool:
        for _ in range(2):  # the second has to clean up first
            with pytest.raises(PoolTimeout, match="does not answer"):
                pool.getconn(4 * SHORT)
        assert pool.lease_pool.available == 1 and pool.lease_pool.statistics().dirty == 1


def test_new_connections_are_configured(conninfo, address):
    seen = []

    def configure(connection):
        seen.append(connection)
        connection.execute("SET search_path = elsewhere")
        connection.commit()

    with ConnectionPool(f"{address}?slots=2", conninfo, configure=configure) as pool:
        for _ in range(2):
            with pool.connection() as connection:
                assert connection.execute("SHOW search_path").fetchone() == ("elsewhere",) and seen == [connection]


def late(connection):
    raise TimeoutError("the caller's own")


@pytest.mark.parametrize("configure, error", [
    (late, TimeoutError),
    (lambda connection: connection.execute("SELECT 1"), psycopg.ProgrammingError),
    (lambda connection: connection.execute("nonsense"), psycopg.errors.SyntaxError),
])
def test_one_that_cannot_be_configured_is_not_kept(conninfo, address, configure, error):
    with looking_on(conninfo) as monitor, ConnectionPool(f"{address}?slots=1", conninfo, configure=configure) as pool:
        for _ in range(2):
            with pytest.raises(error) as raised:
                pool.getconn(GENEROUS)
            assert not isinstance(raised.value, PoolTimeout)
        assert pool.lease_pool.available == 1
        pool._configure = None
        with pool.connection(GENEROUS) as connection:
            assert list(sessions(monitor).values()) == [connection.info.backend_pid]


def refuses(connection):
    raise KeyError("not this one")


@pytest.mark.parametrize("spoils", [
    refuses, lambda connection: connection.execute("SELECT 1"), lambda connection: connection.execute("nonsense")])
def test_what_is_given_back_is_reset_or_closed(conninfo, address, caplog, spoils):
    seen = []

    def reset(connection):
        assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        seen.append(connection)
        if len(seen) == 2:
            spoils(connection)

    with ConnectionPool(f"{address}?slots=1", conninfo, reset=reset) as pool:
        with pool.connection() as first:
            assert seen == []
            first.execute("SELECT 1")
        connection = pool.getconn()
        assert seen == [first] and connection is first
        connection.execute("SELECT 1")
        pool.putconn(connection)
        assert seen == [first, first] and first.closed and "reset" in caplog.text
        assert pool.lease_pool.available == 1
        with pool.connection(GENEROUS) as other:
            assert other is not first
            other.close()
        assert len(seen) == 2, "one that is closed is not reset"


def test_what_ends_the_program_in_a_reset_passes_on(conninfo, address):
    def reset(connection):
        raise KeyboardInterrupt

    with ConnectionPool(f"{address}?slots=1", conninfo, reset=reset) as pool:
        connection = pool.getconn()
        with pytest.raises(KeyboardInterrupt):
            pool.putconn(connection)
        assert connection.closed and pool.lease_pool.available == 1


@pytest.mark.parametrize("autocommit", [False, True])
def test_a_restart_of_the_server_is_seen_before_a_connection_is_handed_out(conninfo, address, autocommit):
    kwargs = {"autocommit": autocommit}
    options = f"{address}?slots=4"
    checked = ConnectionPool(options, conninfo, kwargs=kwargs, check=ConnectionPool.check_connection, timeout=GENEROUS)
    unchecked = ConnectionPool(options, conninfo, kwargs=kwargs, timeout=GENEROUS)
    with checked, unchecked:
        for pool in (checked, unchecked):
            with pool.connection() as one, pool.connection() as other:
                before = {one, other}
        assert checked.lease_pool.available == 0
        conninfo.restart()
        with pytest.raises(psycopg.OperationalError), unchecked.connection() as old:
            assert old in before
            old.execute("SELECT 1")
        with contextlib.ExitStack() as stack:
            for _ in range(2):
                new = stack.enter_context(checked.connection())
                assert new.autocommit is autocommit and not checked.lease_of(new).dirty
                assert new.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
                assert new.execute("SELECT 1").fetchone() == (1,)


def test_a_check_of_a_server_that_answers_no_more_ends_in_time(conninfo, address):
    with ConnectionPool(f"{address}?slots=1", conninfo, check=ConnectionPool.check_connection) as pool:
        with pool.connection() as first:
            backend = first.info.backend_pid
        os.kill(backend, signal.SIGSTOP)
        try:
            with pytest.raises(PoolTimeout):
                pool.getconn(SHORT)
            assert first.closed and pool.lease_pool.statistics().dirty == 1, "its session is there still"
        finally:
            os.kill(backend, signal.SIGCONT)
        with pool.connection(GENEROUS) as second:
            assert second.info.backend_pid != backend


def test_what_a_check_does_is_its_own(conninfo, address):
    calls = []

    def check(connection):
        calls.append(connection)
        connection.execute("SELECT 1")  # which begins a transaction
        if len(calls) == 2:
            raise KeyError("no longer wanted")
        if len(calls) == 3:
            raise KeyboardInterrupt

    with ConnectionPool(f"{address}?slots=1", conninfo, check=check, timeout=GENEROUS) as pool:
        with pool.connection() as first:
            assert not calls, "it is new"
        with pool.connection() as again:
            assert again is first and calls == [first]
            assert again.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        with pool.connection() as second:
            assert second is not first and first.closed and calls == [first, first]
        with pytest.raises(KeyboardInterrupt):
            pool.getconn()
        assert second.closed and pool.lease_pool.available == 1 and pool.get_stats()["pool_size"] == 0


def test_connections_grow_old(conninfo, address):
    with ConnectionPool(f"{address}?slots=1", conninfo, max_lifetime=GENEROUS) as pool:
        with pool.connection() as first:
            pass
        with pool.connection() as again:
            assert again is first
            pool._out[id(again)].since -= 2 * GENEROUS
        assert first.closed and pool.lease_pool.available == 1, "when it is given back"
        with pool.connection() as second:
            held = pool._out[id(second)]
        held.since -= 2 * GENEROUS
        with pool.connection(GENEROUS) as third:
            assert third is not second and second.closed, "when it was kept for too long"


def test_figures_of_this_process(conninfo, address):
    with ConnectionPool(f"{address}?slots=3", conninfo) as pool:
        assert pool.get_stats() == dict(pool_min=0, pool_max=3, pool_size=0, pool_available=0, requests_waiting=0)
        with pool.connection():
            with pool.connection():
                pass
            assert pool.get_stats() == dict(pool_min=0, pool_max=3, pool_size=2, pool_available=1, requests_waiting=0)
    assert wigwag.LeasePool.open(address).available == 3
