"""Pools of leases."""

import asyncio
import concurrent.futures
import errno
import gc
import os
import select
import signal
import subprocess
import sys
import threading
import time

import pytest
from conftest import GENEROUS, SHORT

import wigwag
from wigwag import _aio


@pytest.fixture
def address(fresh):
    """The address of a pool, whose name is removed in the end."""
    text = f"lease:{fresh('lease')}"
    yield text
    try:
        wigwag.LeasePool.remove(text)
    except FileNotFoundError:
        pass


def test_a_slot_has_one_holder_and_its_information():
    pool = wigwag.LeasePool.anonymous(1)
    with pool.acquire(note="the report") as lease:
        assert (lease.slot, lease.token, lease.dirty, lease.last_used, lease.expires_in) == (0, 1, False, None, None)
        with pytest.raises(BlockingIOError):
            pool.acquire(timeout=0)
        with pytest.raises(TimeoutError) as caught:
            pool.acquire(SHORT)
        assert caught.value.filename == "lease:"
        assert lease.information == b""
        lease.information = b"backend 4711"
        with pytest.raises(OSError) as caught:
            lease.information = bytes(1025)
        assert caught.value.errno == errno.EMSGSIZE
        seen = pool.statistics()
        assert (seen.slots, seen.held, seen.timeouts, seen.leases, seen.expires) == (1, 1, 1, 1, None)
        assert sum(count for _, count in seen.waits) == 0 and seen.waits[-1][0] == float("inf")
        holder, = seen.holders
        assert (holder.pid, holder.note, holder.is_self) == (os.getpid(), "the report", True)
        assert (holder.information, holder.group, holder.dirty) == (b"backend 4711", None, False)
        assert abs(holder.since - time.time()) < 60 and "the report" in repr(holder)
        assert [one.holding for one in seen.participants] == [1]
        lease.set_note("another")
        assert pool.statistics().holders[0].note == "another"
        lease.check()
        lease.renew()
        assert "held" in repr(lease)
    assert lease.released and "released" in repr(lease) and lease.token == 1
    lease.release()
    with pytest.raises(ValueError, match="released"):
        lease.information
    with pytest.raises(ValueError, match="released"), lease:
        pass
    lease = pool.acquire()
    assert lease.information == b"backend 4711" and abs(lease.last_used - time.time()) < 60
    pool.close()  # which leaves the lease as it is
    lease.check()
    lease.abandon()
    lease.abandon()


def test_a_slot_of_the_dead_comes_back_dirty():
    pool = wigwag.LeasePool.anonymous(1)
    ready, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            lease = pool.acquire(0)
            lease.information = b"the child's"
            os.write(told, b"x")
            signal.pause()
        finally:
            os._exit(1)
    assert os.read(ready, 1) == b"x"
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(ready)
    os.close(told)
    with pool.acquire(GENEROUS) as lease:
        assert lease.dirty and lease.information == b"the child's"
    with pool.acquire() as lease:
        assert lease.dirty
        lease.make_clean()
        assert not lease.dirty
    with pool.acquire() as lease:
        assert not lease.dirty
    assert pool.statistics().reclaims == 1
    pool.close()


def test_a_forgotten_lease_comes_back():
    pool = wigwag.LeasePool.anonymous(1)
    pool.acquire()
    gc.collect()
    assert pool.available == 1
    pool.close()


def test_who_is_too_late_is_refused():
    pool = wigwag.LeasePool.anonymous(1, expires=0.03)
    other = wigwag.LeasePool.from_fd(os.dup(pool.segment_fd()))
    late = pool.acquire()
    assert 0 <= late.expires_in <= 0.04
    lease = other.acquire(GENEROUS)
    assert lease.dirty
    for call in (late.renew, late.check, late.make_clean, late.release):
        with pytest.raises(OSError, match=f"process {os.getpid()} under lease 2") as caught:
            call()
        assert caught.value.errno == errno.ESTALE
    assert late.released
    lease.release()
    late = other.acquire(GENEROUS)
    third = pool.acquire(GENEROUS)
    assert "lost" in repr(late)
    with pytest.raises(KeyError), late:
        raise KeyError  # and not that the lease was lost
    third.release()
    assert pool.statistics().expiries == 2 and pool.statistics().expires == 0.03
    other.close()
    pool.close()
    with pytest.raises(ValueError, match="expires"):
        wigwag.LeasePool.anonymous(1, expires=0)
    with pytest.raises(ValueError, match="expires"):
        wigwag.LeasePool.anonymous(1, expires=float("nan"))


def test_groups_and_size():
    pool = wigwag.LeasePool.anonymous(3, room=4, groups={"web": 0, "cron": 2})
    web = pool.acquire(group="web")
    with pytest.raises(BlockingIOError):
        pool.acquire(0, group="web")
    cron = [pool.acquire(group="cron") for _ in range(2)]
    assert pool.statistics().groups == {"web": (0, 1, 0), "cron": (2, 2, 0)}
    assert {holder.group for holder in pool.statistics().holders} == {"web", "cron"}
    with pytest.raises(OSError, match="web, cron"):
        pool.acquire(group="batch")
    assert not web.wanted
    pool.resize(4)
    assert pool.slots == 4 and pool.available == 1
    with pytest.raises(OSError, match="has room for 4"):
        pool.resize(5)
    for lease in [web, *cron]:
        lease.release()
    pool.close()


def test_who_keeps_one_hears_that_it_is_wanted():
    pool = wigwag.LeasePool.anonymous(1)
    with pytest.raises(BlockingIOError):
        pool.wait_wanted(0)
    with pytest.raises(TimeoutError):
        pool.wait_wanted(SHORT)
    lease = pool.acquire()
    thread = threading.Thread(target=lambda: pool.acquire(GENEROUS).release())
    thread.start()
    pool.wait_wanted(GENEROUS)
    assert lease.wanted and pool.waiting == 1
    lease.release()
    thread.join()
    pool.close()


def test_asyncio():
    pool = wigwag.LeasePool.anonymous(1, groups={"web": 1})

    async def use():
        lease = await pool.acquire_async(group="web")
        with pytest.raises(TimeoutError):
            await pool.acquire_async(SHORT)
        waiting = asyncio.ensure_future(pool.acquire_async(GENEROUS, group="web", note="later"))
        while pool.waiting == 0:
            await asyncio.sleep(0.001)
        lease.release()
        (await waiting).release()
        lease = await pool.acquire_async(group="web")
        waiting = asyncio.ensure_future(pool.acquire_async(group="web"))
        while pool.waiting == 0:
            await asyncio.sleep(0.001)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert pool.waiting == 0
        lease.release()

    asyncio.run(use())
    pool.close()


def test_who_waits_in_asyncio_needs_no_thread_of_the_executor():
    """On which those who hold the slots may depend to go on."""
    pool = wigwag.LeasePool.anonymous(1)

    async def use():
        with await pool.acquire_async(GENEROUS):
            await asyncio.get_running_loop().run_in_executor(None, int)

    async def main():
        asyncio.get_running_loop().set_default_executor(concurrent.futures.ThreadPoolExecutor(1))
        await asyncio.gather(*(use() for _ in range(20)))

    asyncio.run(main())
    assert pool.statistics().leases == 20 and pool.available == 1
    pool.close()


def test_asyncio_makes_no_thread_for_what_is_free(monkeypatch):
    pool = wigwag.LeasePool.anonymous(1)
    monkeypatch.setattr(_aio.threading, "Thread", None)

    async def use():
        lease = await pool.acquire_async()
        with pytest.raises(BlockingIOError):
            await pool.acquire_async(0)
        with pytest.raises(ValueError):
            await pool.acquire_async(-1)
        lease.release()

    asyncio.run(use())
    pool.close()


def test_wait_for_leaves_the_line():
    pool = wigwag.LeasePool.anonymous(1)

    async def use():
        with pool.acquire():
            calls = [asyncio.wait_for(pool.acquire_async(), SHORT) for _ in range(50)]
            found = await asyncio.gather(*calls, return_exceptions=True)
            assert {type(one) for one in found} == {asyncio.TimeoutError} and pool.waiting == 0

    asyncio.run(use())
    pool.acquire(GENEROUS).release()
    pool.close()


def test_a_loop_that_ends_ends_the_calls_that_nobody_awaits_any_more():
    pool = wigwag.LeasePool.anonymous(1)
    lease = pool.acquire()
    call = pool.acquire_async()

    async def begin():
        call.send(None)
        while pool.waiting == 0:
            await asyncio.sleep(0.001)

    asyncio.run(begin())
    assert pool.waiting == 1
    call.close()
    deadline = time.monotonic() + GENEROUS
    while pool.waiting or any(thread.name == "wigwag-call" for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.001)
    lease.release()
    assert pool.available == 1
    pool.close()


def test_by_name(address):
    with wigwag.LeasePool.open(address, 3, groups={"web": 1}) as pool:
        with wigwag.LeasePool.open(address) as other:
            assert other.slots == 3 and other.address == address
        with pytest.raises(OSError, match="slots=3, and not slots=4") as caught:
            wigwag.LeasePool.open(address, 4)
        assert caught.value.errno == errno.EINVAL
        with pytest.raises(OSError, match="groups=web:1, and not groups=cron:1"):
            wigwag.LeasePool.open(address, groups={"cron": 1})
        program = f"import wigwag; print(wigwag.LeasePool.open({address!r}).acquire().token)"
        assert subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, timeout=60).stdout == b"1\n"
        pool.check()
        wigwag.LeasePool.remove(address)
        with pytest.raises(OSError) as caught:
            pool.check()
        assert caught.value.errno == errno.ESTALE


def test_the_descriptor_is_readable_while_a_slot_can_be_had():
    pool = wigwag.LeasePool.anonymous(1)
    lease = pool.acquire()
    assert select.select([pool], [], [], 0)[0] == []
    lease.release()
    assert select.select([pool], [], [], GENEROUS)[0] == [pool]
    pool.close()


def test_pickled_as_its_address(address):
    import pickle

    with wigwag.LeasePool.open(address, 2) as pool, pickle.loads(pickle.dumps(pool)) as other:
        assert other.address == address and other.slots == 2
    with wigwag.LeasePool.anonymous() as pool, pytest.raises(Exception, match="descriptor|multiprocessing|process"):
        pickle.dumps(pool)
