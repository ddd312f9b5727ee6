"""The pool of psycopg's asyncio connections, on a real PostgreSQL."""

import asyncio
import contextlib
import os
import signal
import socket
import threading

import pytest
from conftest import GENEROUS, SHORT

import wigwag

psycopg = pytest.importorskip("psycopg")

import postgres  # noqa: E402
from test_postgres import address, conninfo, looking_on, sessions  # noqa: E402, F401

from wigwag.psycopg import AsyncConnectionPool, ConnectionPool, PoolTimeout  # noqa: E402

pytestmark = pytest.mark.skipif(postgres.binaries() is None, reason="no PostgreSQL server (apt-get install postgresql)")


def keepers():
    return [thread for thread in threading.enumerate() if thread.name == "wigwag-lease-keeper"]


def test_many_tasks_share_the_slots(conninfo, address):
    most, now = 0, 0

    async def work(pool, number):
        nonlocal most, now
        async with pool.connection() as connection:
            now += 1
            most = max(most, now)
            row = await (await connection.execute("SELECT %s::int", (number,))).fetchone()
            await asyncio.sleep(0)
            now -= 1
            return row[0]

    async def main():
        async with AsyncConnectionPool(f"{address}?slots=3", conninfo, timeout=GENEROUS) as pool:
            assert await asyncio.gather(*(work(pool, n) for n in range(60))) == list(range(60))
            assert most <= 3 and pool.get_stats()["pool_size"] <= 3 and pool.get_stats()["requests_waiting"] == 0
            with looking_on(conninfo) as monitor:
                assert len(sessions(monitor)) <= 3
        assert not keepers()

    asyncio.run(main())


def test_it_is_committed_or_rolled_back(conninfo, address):
    async def main():
        async with AsyncConnectionPool(f"{address}?slots=1", conninfo) as pool:
            async with pool.connection() as connection:
                await connection.execute("CREATE TEMP TABLE t (n int)")
            with pytest.raises(KeyError):
                async with pool.connection() as connection:
                    await connection.execute("INSERT INTO t VALUES (1)")
                    raise KeyError
            async with pool.connection() as again:
                assert again is connection
                assert await (await again.execute("SELECT count(*) FROM t")).fetchone() == (0,)
                await again.close()  # no error
            with pytest.raises(ValueError):
                await pool.putconn(again)

    asyncio.run(main())


def test_who_waits_in_vain_and_who_is_cancelled_take_nothing(conninfo, address):
    async def main():
        async with AsyncConnectionPool(f"{address}?slots=1", conninfo) as pool:
            held = await pool.getconn()
            with pytest.raises(PoolTimeout) as caught:
                await pool.getconn(0.01)
            assert address in str(caught.value) and isinstance(caught.value, psycopg.OperationalError)
            waiting = [asyncio.ensure_future(pool.getconn()) for _ in range(3)]
            while pool.get_stats()["requests_waiting"] < 3:
                await asyncio.sleep(0.001)
            waiting[0].cancel()
            await pool.putconn(held)  # handed to one that still waits
            waiting[1].cancel()  # perhaps with the connection in its hands
            third = await asyncio.wait_for(waiting[2], GENEROUS)
            assert [one.cancelled() for one in waiting[:2]] in ([True, True], [True, False])
            await pool.putconn(third)
            assert pool.get_stats()["pool_size"] == 1 and pool.get_stats()["requests_waiting"] == 0
            async with pool.connection(GENEROUS):
                pass
        with wigwag.LeasePool.open(address) as leases:
            assert leases.available == 1

    asyncio.run(main())


def test_it_is_given_up_for_those_who_wait_elsewhere(conninfo, address):
    async def main():
        async with AsyncConnectionPool(f"{address}?slots=1", conninfo) as pool:
            async with pool.connection() as connection:
                first = connection.info.backend_pid
            with ConnectionPool(f"{address}?slots=1", conninfo, timeout=GENEROUS) as other:
                elsewhere = await asyncio.get_running_loop().run_in_executor(None, other.getconn)
                assert elsewhere.info.backend_pid != first and pool.get_stats()["pool_size"] == 0
                other.putconn(elsewhere)
                async with pool.connection(GENEROUS):
                    assert other.get_stats()["pool_size"] == 0

    asyncio.run(main())


def test_the_session_of_a_killed_process_is_ended_first(conninfo, address):
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            connection = ConnectionPool(f"{address}?slots=1", conninfo).getconn()
            os.write(write, str(connection.info.backend_pid).encode())
            connection.execute("SELECT pg_sleep(600)")
        os._exit(1)
    old = int(os.read(read, 64))
    os.close(read), os.close(write)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)

    async def main():
        async with AsyncConnectionPool(f"{address}?slots=1", conninfo, timeout=GENEROUS) as pool:
            async with pool.connection() as connection:
                with looking_on(conninfo) as monitor:
                    assert list(sessions(monitor).values()) == [connection.info.backend_pid] != [old]
                assert not pool.lease_of(connection).dirty

    asyncio.run(main())


def test_options_as_the_pool_for_threads_has_them(conninfo, address, caplog):
    calls = []

    async def configure(connection):
        calls.append("configure")
        await connection.execute("SET search_path = elsewhere")
        await connection.commit()

    async def check(connection):
        calls.append("check")
        await AsyncConnectionPool.check_connection(connection)
        if calls.count("check") == 2:
            raise KeyError("no longer wanted")

    async def reset(connection):
        calls.append("reset")
        if calls.count("reset") == 3:
            await connection.execute("SELECT 1")

    async def main():
        options = dict(configure=configure, check=check, reset=reset, timeout=GENEROUS)
        async with AsyncConnectionPool(f"{address}?slots=1", conninfo, **options) as pool:
            seen = []
            for _ in range(4):
                async with pool.connection() as connection:
                    seen.append(connection)
                    assert await (await connection.execute("SHOW search_path")).fetchone() == ("elsewhere",)
        assert seen[0] is seen[1] is not seen[2] is not seen[3]
        assert calls == ["configure", "reset", "check", "reset", "check", "configure", "reset", "configure", "reset"]
        assert "reset left a connection" in caplog.text

    asyncio.run(main())


def test_the_callers_timeouts_are_its_own(conninfo, address):
    async def configure(connection):
        raise TimeoutError("the caller's own")

    async def main():
        async with AsyncConnectionPool(f"{address}?slots=1", conninfo, configure=configure) as pool:
            with pytest.raises(TimeoutError, match="own") as raised:
                await pool.getconn(GENEROUS)
            assert not isinstance(raised.value, PoolTimeout) and pool.lease_pool.available == 1

    asyncio.run(main())


def test_a_server_that_does_not_answer_is_given_up(address):
    async def main():
        with socket.create_server(("127.0.0.1", 0)) as server:  # takes connections, and says nothing
            port = server.getsockname()[1]
            async with AsyncConnectionPool(f"{address}?slots=1", f"host=127.0.0.1 port={port}") as pool:
                with pytest.raises(PoolTimeout):
                    await pool.getconn(0.05)
                assert pool.lease_pool.available == 1

    asyncio.run(main())


def test_a_check_of_a_server_that_answers_no_more_ends_in_time(conninfo, address):
    async def main():
        async with AsyncConnectionPool(f"{address}?slots=1", conninfo, check=AsyncConnectionPool.check_connection) as pool:
            async with pool.connection() as first:
                backend = first.info.backend_pid
            os.kill(backend, signal.SIGSTOP)
            try:
                with pytest.raises(PoolTimeout):
                    await pool.getconn(SHORT)
                assert first.closed and pool.lease_pool.statistics().dirty == 1, "its session is there still"
            finally:
                os.kill(backend, signal.SIGCONT)
            async with pool.connection(GENEROUS) as second:
                assert second.info.backend_pid != backend

    asyncio.run(main())


def test_a_server_that_answers_no_more_is_not_waited_for_beyond_the_timeout():
    async def main():
        # Closed here: a helper thread may only just have told how its call ended, and have it yet.
        with postgres.silent() as conninfo, wigwag.LeasePool.anonymous(1) as leases:
            async with AsyncConnectionPool(leases, conninfo) as pool:
                for _ in range(2):  # the second has to clean up first
                    with pytest.raises(PoolTimeout, match="does not answer"):
                        await pool.getconn(4 * SHORT)
                assert pool.lease_pool.available == 1 and pool.lease_pool.statistics().dirty == 1

    asyncio.run(main())


def test_closing_ends_waits_and_lets_those_in_use_finish(conninfo, address):
    async def main():
        pool = AsyncConnectionPool(f"{address}?slots=1", conninfo)
        connection = await pool.getconn()
        waiting = asyncio.ensure_future(pool.getconn())
        while pool.get_stats()["requests_waiting"] < 1:
            await asyncio.sleep(0.001)
        await pool.close()
        with pytest.raises(ValueError, match="closed"):
            await waiting
        assert await (await connection.execute("SELECT 1")).fetchone() == (1,)
        await pool.putconn(connection)
        assert connection.closed and not keepers()
        with pytest.raises(ValueError, match="closed"):
            await pool.getconn()
        await pool.close()

    asyncio.run(main())


def test_a_pool_is_one_loops(conninfo, address):
    pool = AsyncConnectionPool(f"{address}?slots=1", conninfo)

    async def use():
        async with pool.connection():
            pass

    asyncio.run(use())
    with pytest.raises(RuntimeError, match="another event loop"):
        asyncio.run(use())
    asyncio.run(pool.close())


async def until_renewed(lease):
    """Returns when more time is left than before."""
    left = lease.expires_in
    while lease.expires_in <= left:
        left = lease.expires_in
        await asyncio.sleep(0.01)


def test_leases_are_renewed_while_they_are_in_use_and_not_longer(conninfo, address):
    async def main():
        with wigwag.LeasePool.open(f"{address}?slots=2", expires=6) as leases:
            async with AsyncConnectionPool(leases, conninfo, timeout=GENEROUS) as pool:
                held = await pool.getconn()
                async with pool.connection() as other:
                    idle = pool.lease_of(other)
                await asyncio.wait_for(until_renewed(pool.lease_of(held)), GENEROUS)
                await asyncio.wait_for(until_renewed(idle), GENEROUS)
                await pool.close()
                assert idle.released
                await asyncio.wait_for(until_renewed(pool.lease_of(held)), GENEROUS)
                assert await (await held.execute("SELECT 1")).fetchone() == (1,)
                await pool.putconn(held)
        for keeper in keepers():
            keeper.join(GENEROUS)
        assert not keepers()

    asyncio.run(main())
