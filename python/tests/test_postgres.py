"""Adapters for database connections, on a real PostgreSQL."""

import contextlib
import errno
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time

import pytest
from conftest import GENEROUS, SHORT

import wigwag

psycopg = pytest.importorskip("psycopg")
sqlalchemy = pytest.importorskip("sqlalchemy")

import postgres  # noqa: E402
import wigwag.psycopg  # noqa: E402
import wigwag.sqlalchemy  # noqa: E402
from wigwag import _sessions  # noqa: E402

pytestmark = pytest.mark.skipif(postgres.binaries() is None, reason="no PostgreSQL server (apt-get install postgresql)")

MAX_CONNECTIONS = 20
#: Leaves room for the one that cleans up, the one that looks on, and for those that are killed while they connect.
SLOTS = 15


@pytest.fixture(scope="module")
def conninfo():
    with postgres.server(MAX_CONNECTIONS) as conninfo:
        yield conninfo


@pytest.fixture
def address(fresh):
    text = f"lease:{fresh('pg')}"
    yield text
    wigwag.psycopg.remove(text)


def url(conninfo):
    host = dict(part.split("=") for part in conninfo.split())["host"]
    return f"postgresql+psycopg://postgres@/postgres?host={host}"


def sessions(monitor):
    """Those of clients, but for the one that looks on: pid by application name."""
    rows = monitor.execute("SELECT application_name, pid FROM pg_stat_activity WHERE backend_type = 'client backend' "
                           "AND pid <> pg_backend_pid()").fetchall()
    return dict(rows)


@contextlib.contextmanager
def looking_on(conninfo):
    with psycopg.connect(conninfo, autocommit=True, application_name="looks on") as monitor:
        yield monitor
    monitor.close()


def test_psycopg_pool(conninfo, address):
    with looking_on(conninfo) as monitor, wigwag.psycopg.ConnectionPool(
        f"{address}?slots=2", conninfo + " application_name=test", note="a test", timeout=GENEROUS
    ) as pool:
        with pool.connection() as connection:
            connection.execute("CREATE TABLE one (n int)")
            connection.execute("INSERT INTO one VALUES (1)")
            lease = pool.lease_of(connection)
            told = json.loads(lease.information)
            assert told["pid"] == connection.info.backend_pid and told["state"] == "open"
            assert sessions(monitor) == {told["application_name"]: told["pid"]}
            assert told["application_name"].startswith("test#") and pool.lease_pool.statistics().holders[0].note == "a test"
        with pytest.raises(KeyError), pool.connection() as again:
            assert again is connection, "it is kept"
            again.execute("INSERT INTO one VALUES (2)")
            raise KeyError
        with pool.connection() as again, pool.connection() as other:
            assert again.execute("SELECT count(*) FROM one").fetchone() == (1,)
            assert other is not again
            with pytest.raises(TimeoutError):
                pool.getconn(SHORT)
        broken = pool.getconn()
        broken.close()
        pool.putconn(broken)
        with pytest.raises(ValueError):
            pool.putconn(broken)
        with pool.connection() as connection:
            connection.execute("DROP TABLE one")
    assert wigwag.LeasePool.open(address).available == 2
    with looking_on(conninfo) as monitor:
        assert sessions(monitor) == {}, "the server was waited for"


def test_one_that_is_kept_goes_to_who_waits(conninfo, address):
    """A process that keeps a connection for later gives it up for another that waits."""
    program = (f"import wigwag.psycopg\nwith wigwag.psycopg.ConnectionPool({address!r}, {conninfo!r}) as pool, "
               "pool.connection() as one: print(one.execute('SELECT 7').fetchone())")
    with wigwag.psycopg.ConnectionPool(f"{address}?slots=1", conninfo) as pool:
        with pool.connection():
            pass
        assert pool.lease_pool.available == 0
        done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, timeout=60)
        assert done.stdout == b"(7,)\n"
        with pool.connection() as one:
            assert not pool.lease_of(one).dirty
    assert threading.active_count() == 1


def test_a_thread_hands_it_to_another(conninfo, address):
    with wigwag.psycopg.ConnectionPool(f"{address}?slots=1", conninfo) as pool:
        first = pool.getconn()
        got = []
        thread = threading.Thread(target=lambda: got.append(pool.getconn(GENEROUS)))
        thread.start()
        pool.lease_pool.wait_wanted(GENEROUS)
        pool.putconn(first)
        thread.join()
        assert got == [first]
        pool.putconn(first)


BUSY = """
import sys, wigwag.psycopg
address, conninfo = sys.argv[1:]
pool = wigwag.psycopg.ConnectionPool(address, conninfo)
connection = pool.getconn()
print(connection.info.backend_pid, flush=True)
connection.execute("SELECT pg_sleep(3600)")
"""


@pytest.mark.parametrize("adapter", ["psycopg", "sqlalchemy"])
def test_the_session_of_the_dead_is_ended_first(conninfo, address, adapter):
    wigwag.LeasePool.open(address, 1).close()
    busy = subprocess.Popen([sys.executable, "-c", BUSY, address, conninfo], stdout=subprocess.PIPE, text=True)
    with looking_on(conninfo) as monitor, busy:
        pid = int(busy.stdout.readline())
        while monitor.execute("SELECT state FROM pg_stat_activity WHERE pid = %s", (pid,)).fetchone() != ("active",):
            time.sleep(0.001)
        busy.kill()
        busy.wait()
        assert pid in sessions(monitor).values(), "the server has not noticed"
        if adapter == "psycopg":
            with wigwag.psycopg.ConnectionPool(address, conninfo) as pool, pool.connection() as connection:
                found = sessions(monitor)
                assert pool.lease_of(connection).token == 2 and not pool.lease_of(connection).dirty
        else:
            engine = sqlalchemy.create_engine(url(conninfo), poolclass=wigwag.sqlalchemy.LeasedPool, lease=address)
            with engine.connect() as connection:
                connection.execute(sqlalchemy.text("SELECT 1"))
                found = sessions(monitor)
            engine.dispose()
        assert pid not in found.values() and len(found) == 1, found


@pytest.fixture
def two_of_one_name():
    """Addresses in two folders, as other users or containers have them."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as one, tempfile.TemporaryDirectory(dir="/dev/shm") as other:
        yield f"lease:{one}/db", f"lease:{other}/db"


def test_sessions_of_another_pool_of_the_same_name_are_left_alone(conninfo, two_of_one_name):
    mine, other = (wigwag.psycopg.ConnectionPool(f"{address}?slots=1", conninfo) for address in two_of_one_name)
    with mine, other, other.connection() as connection:
        mine.lease_pool.acquire().abandon()
        with mine.connection() as new:
            assert mine.lease_of(new).slot == other.lease_of(connection).slot
            assert new.execute("SELECT 1").fetchone() == connection.execute("SELECT 1").fetchone() == (1,)


def test_a_session_can_be_told_whatever_the_names_are(two_of_one_name):
    with wigwag.LeasePool.open(two_of_one_name[0] + "ü" * 40) as pool, pool.acquire() as lease:
        sessions = _sessions.Sessions(pool, None)
        for name in ("", "über" * 20):
            told = sessions.application_name(lease, name)
            assert told.isascii() and len(told) <= 63 and told.endswith(f"{sessions._tag}0.1")
        sessions.close()


def test_a_child_can_clean_up_while_its_parent_does():
    with wigwag.LeasePool.anonymous(1) as pool:
        sessions = _sessions.Sessions(pool, None)
        with sessions._cleaning(None):
            pid = os.fork()
            if pid == 0:
                try:
                    with sessions._cleaning(0.0):
                        os._exit(0)
                finally:
                    os._exit(1)
            assert os.waitpid(pid, 0)[1] == 0


@pytest.mark.parametrize("kwargs", [{"row_factory": psycopg.rows.dict_row}, {"row_factory": psycopg.rows.scalar_row},
                                    {"row_factory": psycopg.rows.dict_row, "cursor_factory": psycopg.ClientCursor}])
def test_rows_and_cursors_are_of_the_kind_that_the_caller_has_said(conninfo, address, kwargs):
    with wigwag.psycopg.ConnectionPool(f"{address}?slots=1", conninfo, kwargs=kwargs) as pool:
        pool.lease_pool.acquire().abandon()  # so that there is something to clean up
        with pool.connection() as connection, connection.cursor() as cursor:
            assert isinstance(cursor, kwargs.get("cursor_factory", psycopg.Cursor))
            assert cursor.execute("SELECT 7 AS n").fetchone() in ({"n": 7}, 7)
            assert json.loads(pool.lease_of(connection).information)["pid"] == connection.info.backend_pid


def test_connecting_takes_no_longer_than_there_is_time(conninfo, address, monkeypatch):
    limits = []

    def connect(*args, real=psycopg.connect, **kwargs):
        limits.append(kwargs.get("connect_timeout"))
        return real(*args, **kwargs)

    def use(timeout, conninfo=conninfo, kwargs=None):
        """The limits of one that cleans up, and of the new one."""
        limits.clear()
        with wigwag.psycopg.ConnectionPool(f"{address}?slots=1", conninfo, kwargs=kwargs) as pool:
            pool.lease_pool.acquire().abandon()
            pool.putconn(pool.getconn(timeout))
        return limits

    monkeypatch.delenv("PGCONNECT_TIMEOUT", raising=False)
    monkeypatch.setattr(psycopg, "connect", connect)
    assert all(2 <= limit <= GENEROUS for limit in use(GENEROUS)) and len(limits) == 2
    assert use(float("inf")) == [86400] * 2
    assert use(GENEROUS, conninfo + " connect_timeout=5") == [None] * 2, "the caller has said"
    assert use(GENEROUS, kwargs={"connect_timeout": 6}) == [6] * 2
    for more in ("0", "50"):
        assert all(2 <= limit <= GENEROUS for limit in use(GENEROUS, f"{conninfo} connect_timeout={more}"))
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "7")
    assert use(GENEROUS) == [None] * 2
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "70")
    assert all(2 <= limit <= GENEROUS for limit in use(GENEROUS))
    monkeypatch.delenv("PGCONNECT_TIMEOUT")
    limits.clear()
    engine = sqlalchemy.create_engine(
        url(conninfo), poolclass=wigwag.sqlalchemy.LeasedPool, lease=address, pool_timeout=GENEROUS)
    engine.pool.lease_pool.acquire().abandon()
    engine.connect().close()
    engine.dispose()
    assert len(limits) == 2 and all(2 <= limit <= GENEROUS for limit in limits)


def test_no_time_at_all_is_time_that_ran_out(conninfo, address):
    with wigwag.LeasePool.open(address, 1) as table, table.acquire():
        with wigwag.psycopg.ConnectionPool(address, conninfo) as pool, pytest.raises(TimeoutError) as caught:
            pool.getconn(0)
        assert caught.value.errno == errno.ETIMEDOUT and caught.value.filename == address
        engine = sqlalchemy.create_engine(
            url(conninfo), poolclass=wigwag.sqlalchemy.LeasedPool, lease=address, pool_timeout=0)
        with pytest.raises(sqlalchemy.exc.TimeoutError):
            engine.connect()
        engine.dispose()


def test_sqlalchemy_pool(conninfo, address):
    def engine(**options):
        options.setdefault("lease", f"{address}?slots=2&groups=cron:1")
        return sqlalchemy.create_engine(url(conninfo), poolclass=wigwag.sqlalchemy.LeasedPool, **options)

    select = sqlalchemy.text("SELECT pg_backend_pid()")
    web, cron = engine(lease_group=""), engine(lease_group="cron", pool_pre_ping=True)
    impatient = engine(pool_timeout=SHORT)
    with looking_on(conninfo) as monitor:
        with web.connect() as connection:
            pid = connection.execute(select).scalar()
            with pytest.raises(sqlalchemy.exc.TimeoutError):
                impatient.connect()
            with cron.connect() as other:
                assert other.execute(select).scalar() != pid
            holders = web.pool.lease_pool.statistics().holders
            assert {json.loads(holder.information)["pid"] for holder in holders} == set(sessions(monitor).values())
        with web.connect() as connection:
            assert connection.execute(select).scalar() == pid, "it is kept"
            connection.invalidate()
            connection.rollback()
            again = connection.execute(select).scalar()
            assert again != pid and again in sessions(monitor).values()
            holders = web.pool.lease_pool.statistics().holders
            assert again in {json.loads(holder.information)["pid"] for holder in holders}
        with cron.connect() as other:
            mine = other.execute(select).scalar()
        monitor.execute("SELECT pg_terminate_backend(%s)", (mine,))
        while mine in sessions(monitor).values():
            time.sleep(0.001)
        with cron.connect() as other:
            assert other.execute(select).scalar() != mine, "seen before it is used"
        assert "2 open" not in web.pool.status() and "LeasedPool lease:" in web.pool.status()
        web.dispose()
        with web.connect() as connection:
            connection.execute(select)
        for one in (web, cron, impatient):
            one.dispose()
        assert sessions(monitor) == {}
    with pytest.raises(sqlalchemy.exc.ArgumentError, match="lease="):
        sqlalchemy.create_engine(url(conninfo), poolclass=wigwag.sqlalchemy.LeasedPool)


WORKER = """
import faulthandler, random, signal, sys, threading
import wigwag
kind, address, conninfo, url = sys.argv[1:]
if kind == "psycopg":
    import wigwag.psycopg
    pool = wigwag.psycopg.ConnectionPool(address, conninfo, timeout=60)
    def run(seconds):
        with pool.connection() as connection:
            connection.execute("SELECT pg_sleep(%s)", (seconds,))
    close = pool.close
else:
    import sqlalchemy, wigwag.sqlalchemy
    engine = sqlalchemy.create_engine(url, poolclass=wigwag.sqlalchemy.LeasedPool, lease=address, pool_timeout=60)
    select = sqlalchemy.text("SELECT pg_sleep(:seconds)")
    def run(seconds):
        with engine.connect() as connection:
            connection.execute(select, {"seconds": seconds})
    close = engine.dispose
ends, done = threading.Event(), []
def work():
    numbers = random.Random()
    try:
        while not ends.is_set():
            run(1 if numbers.random() < 0.02 else numbers.random() * 0.02)
            done.append(1)
    except BaseException as error:
        print("failed:", repr(error), flush=True)
        raise
threads = [threading.Thread(target=work) for _ in range(8)]
def end(*_):
    ends.set()
    faulthandler.dump_traceback_later(50, exit=True)  # who does not end says where it is
signal.signal(signal.SIGTERM, end)
for thread in threads: thread.start()
for thread in threads:
    while thread.is_alive():
        thread.join(0.1)  # a signal that comes just before a wait without an end is seen at its end
close()
print("done", len(done), flush=True)
"""


@pytest.mark.timeout(150)
def test_never_too_many_whoever_is_killed(conninfo, address):
    """8 processes with 8 threads each on fewer slots than the server has connections; one after the other is killed."""
    KILLS, SECONDS = 12, 20
    numbers = random.Random(1)
    with wigwag.LeasePool.open(address, SLOTS) as table, looking_on(conninfo) as monitor:

        def start(number):
            kind = "psycopg" if number % 2 else "sqlalchemy"
            arguments = [sys.executable, "-W", "error", "-c", WORKER, kind, address, conninfo, url(conninfo)]
            return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

        workers = [start(number) for number in range(8)]
        most = killed = 0
        began = time.monotonic()
        try:
            while killed < KILLS or time.monotonic() - began < SECONDS:
                time.sleep(0.05)
                most = max(most, len(sessions(monitor)))
                leases = table.statistics().leases
                if killed < KILLS and leases > 20 * (killed + 1) and time.monotonic() - began > SECONDS * killed / KILLS:
                    at = numbers.randrange(8)
                    workers[at].kill()
                    out, errors = workers[at].communicate(timeout=60)
                    assert out == "" and errors == "", out + errors
                    workers[at] = start(at)
                    killed += 1
                assert time.monotonic() - began < 100, f"too slow: {killed} killed, {table.statistics()}"
            for worker in workers[:4]:
                worker.send_signal(signal.SIGTERM)
            for worker in workers[4:]:
                worker.kill()
            told = [worker.communicate(timeout=60) for worker in workers]
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()
        seen = table.statistics()
        print(f"{killed + 4} killed, {most} sessions at most, {seen}")
        assert [errors for _, errors in told] == [""] * 8
        # One that had only just started may have been told to end before it knew what that means.
        assert all(out.startswith("done") for worker, (out, _) in zip(workers[:4], told) if worker.returncode == 0), told
        assert SLOTS // 2 < most <= MAX_CONNECTIONS - 1

        # Every slot comes back, and each session is that of a slot.
        with wigwag.psycopg.ConnectionPool(address, conninfo, timeout=GENEROUS) as pool:
            every = [pool.getconn() for _ in range(SLOTS)]
            statistics = table.statistics()
            told = {json.loads(holder.information)["pid"] for holder in statistics.holders}
            assert told == {connection.info.backend_pid for connection in every} == set(sessions(monitor).values())
            assert (statistics.held, statistics.dirty, statistics.waiting) == (SLOTS, 0, 0)
            assert statistics.reclaims > 0 and all(holder.pid == os.getpid() for holder in statistics.holders)
            for connection in every:
                pool.putconn(connection)
        assert table.available == SLOTS and sessions(monitor) == {}
