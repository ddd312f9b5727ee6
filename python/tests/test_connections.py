"""Connections under leases, whatever they connect to."""

import asyncio
import subprocess
import sys
import threading
import time

import pytest
from conftest import GENEROUS

import wigwag
from wigwag._aio import call_in_thread
from wigwag._connections import Closed, Connections
from wigwag._connections_async import AsyncConnections


class Connection:
    pass


class Counted:
    """A lease that counts how often it is renewed."""

    def __init__(self, lease):
        self._lease, self.renewed = lease, 0

    def __getattr__(self, name):
        return getattr(self._lease, name)

    def renew(self):
        self._lease.renew()
        self.renewed += 1


def connections_of(pool, close=lambda connection: True, **options):
    return Connections(pool, lambda *_: Connection(), close, lambda *_: None, **options)


def expiring(slots, close=lambda connection: True, **options):
    """Whose leases last for long, and are renewed all the time."""
    connections = connections_of(wigwag.LeasePool.anonymous(slots, expires=GENEROUS), close, **options)
    connections._expires = 0.003
    return connections


def counted(connections):
    held = connections.take(GENEROUS)
    held.lease = Counted(held.lease)
    return held


def goes_on(held):
    """Waits until it has been renewed some times more."""
    until = held.lease.renewed + 3
    while held.lease.renewed < until:
        time.sleep(0.001)


def ends(thread):
    thread.join(GENEROUS)
    assert not thread.is_alive()


def test_what_is_in_use_is_renewed_until_it_is_given_back_also_after_close():
    connections = expiring(1)
    held = counted(connections)
    goes_on(held)
    renewer = connections._renewer
    connections.close()
    goes_on(held)
    connections.give(held)
    ends(renewer)
    assert connections.pool.available == 1
    with pytest.raises(Closed):
        connections.take()


def test_a_pool_that_is_its_own_is_closed_and_its_leases_go_on(fresh):
    address = f"lease:{fresh('own')}"
    connections = connections_of(f"{address}?slots=1&expires=30")
    held = connections.take(GENEROUS)
    renewer = connections._renewer
    connections.close()
    held.lease.renew()
    connections.drop(held)
    ends(renewer)
    wigwag.LeasePool.remove(address)


def test_one_that_is_slow_to_close_holds_up_no_renewal():
    closing, closed = threading.Event(), threading.Event()

    def close(connection):
        closing.set()
        return closed.wait(GENEROUS)

    connections = expiring(2, close, idle=0.0)
    held, other = counted(connections), connections.take(GENEROUS)
    connections.give(other)  # nobody wants it, and it is kept for no time
    assert closing.wait(GENEROUS)
    goes_on(held)
    closed.set()
    connections.drop(held)
    connections.close()
    assert connections.pool.available == 2 and not [one for one in threading.enumerate() if one.name.startswith("wigwag-lease")]


def coroutine(function):
    async def call(*_):
        return function()

    return call


def waiting(pool, group):
    """A thread that waits for a slot."""
    cancel = wigwag.Cancel()

    def wait():
        with cancel, pytest.raises(OSError):
            pool.acquire(GENEROUS, group=group)

    thread = threading.Thread(target=wait)
    before = pool.waiting
    thread.start()
    while pool.waiting == before:
        time.sleep(0.001)
    return thread, cancel


def test_what_others_cannot_have_is_kept_while_they_wait():
    pool = wigwag.LeasePool.anonymous(2, groups={"web": 1, "cron": 1})
    connections = connections_of(pool, group="web")
    first = connections.take(GENEROUS)
    cron = pool.acquire(0, group="cron")
    thread, cancel = waiting(pool, "cron")
    assert not first.lease.wanted and cron.wanted
    connections.give(first)
    for _ in range(20):
        held = connections.take(GENEROUS)
        assert held is first
        connections.give(held)
    pool.acquire(GENEROUS, group="web").release()  # who can have it has it
    assert connections.open == 0
    cancel.fire()
    thread.join()
    connections.close()
    cron.release()


def test_what_others_cannot_have_goes_to_ones_own_who_wait():
    pool = wigwag.LeasePool.anonymous(2, groups={"web": 1, "cron": 1})
    connections = connections_of(pool, group="web", turn=0)
    first, cron, found = connections.take(GENEROUS), pool.acquire(0, group="cron"), []
    thread, cancel = waiting(pool, "cron")
    own = threading.Thread(target=lambda: found.append(connections.take(GENEROUS)))
    own.start()
    while pool.waiting < 2:
        time.sleep(0.001)
    connections.give(first)
    own.join()
    assert found == [first]
    cancel.fire()
    thread.join()
    connections.drop(first)
    connections.close()
    cron.release()


def test_what_others_cannot_have_goes_to_ones_own_tasks_that_wait():
    pool = wigwag.LeasePool.anonymous(2, groups={"web": 1, "cron": 1})

    async def main():
        connections = AsyncConnections(
            pool, coroutine(Connection), coroutine(lambda: True), coroutine(lambda: None), group="web", turn=0
        )
        first = await connections.take(GENEROUS)
        own = asyncio.ensure_future(connections.take(GENEROUS))
        while pool.waiting < 2:
            await asyncio.sleep(0.001)
        await connections.give(first)
        assert await own is first
        await connections.drop(first)
        await connections.close()

    cron = pool.acquire(0, group="cron")
    thread, cancel = waiting(pool, "cron")
    asyncio.run(main())
    cancel.fire()
    thread.join()
    cron.release()
    pool.close()  # of which a helper thread may only just be letting go


def test_a_cancelled_task_does_not_wait_until_a_slot_is_settled_and_the_slot_does():
    pool, settled = wigwag.LeasePool.anonymous(1), threading.Event()

    async def settle(lease, deadline):
        await call_in_thread(lambda timeout: settled.wait(GENEROUS), (), None, None)

    async def main():
        connections = AsyncConnections(pool, coroutine(Connection), coroutine(lambda: True), settle)
        taking = asyncio.ensure_future(connections.take())
        while pool.available:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.001)
        taking.cancel()
        await asyncio.wait({taking}, timeout=GENEROUS / 2)
        assert taking.cancelled() and not pool.available
        settled.set()
        while not pool.available:
            await asyncio.sleep(0.001)
        held = await connections.take(GENEROUS)
        await connections.drop(held)
        await connections.close()

    pool.acquire(0).abandon()
    asyncio.run(main())
    pool.close()


def test_one_that_cannot_be_closed_keeps_no_other(caplog):
    def close(connection):
        raise RuntimeError("not to be closed")

    connections = connections_of(wigwag.LeasePool.anonymous(3), close)
    for held in [connections.take(GENEROUS) for _ in range(3)]:
        connections.give(held)
    others = [connections.pool.acquire(GENEROUS) for _ in range(2)]  # the keeper gives one up for each
    while len(caplog.records) < 2:
        time.sleep(0.001)
    assert connections.idle == 1
    connections.give(connections.take(GENEROUS))
    with pytest.raises(RuntimeError, match="not to be closed"):
        connections.close()
    assert connections.pool.available == 1
    for other in others:
        other.release()
    caplog.clear()  # which has the traceback, and that has the pool


def test_nobody_watches_where_nothing_is_kept():
    connections = expiring(1)
    held = connections.take(GENEROUS)
    thread, cancel = waiting(connections.pool, "")
    assert connections._keeper is None
    cancel.fire()
    thread.join()
    connections.drop(held)
    connections.close()


@pytest.mark.parametrize("expires", ["", ", expires=30.0"])
def test_the_end_of_a_process(expires):
    """What is done by those who come last, and what is still in use then."""
    program = f"""if 1:
        import atexit, threading, wigwag
        from wigwag._connections import Connections
        pool = wigwag.LeasePool.anonymous(2{expires})
        connections = Connections(pool, lambda *_: object(), lambda _: True, lambda *_: None)
        atexit.register(lambda: connections.give(connections.take(1)))
        in_use = connections.take(1)
        atexit.register(lambda: print(in_use.lease.slot))
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"0\n", b"")
