"""Event counter."""

import asyncio
import errno
import os
import pathlib
import resource
import signal
import subprocess
import threading

import pytest
from conftest import GENEROUS, SHORT

import wigwag

PEER = pathlib.Path(__file__).resolve().parents[2] / "c-tests/peers/eventfd.c"


def test_add_and_take():
    with wigwag.EventFd(initial=2) as events:
        events.add(3)
        assert events.take() == 5
        with pytest.raises(BlockingIOError) as caught:
            events.take(timeout=0)
        assert caught.value.errno == errno.EAGAIN
        assert caught.value.filename == "eventfd:"
        with pytest.raises(TimeoutError) as caught:
            events.take(timeout=SHORT)
        assert caught.value.errno == errno.ETIMEDOUT
        assert "deadline" in caught.value.strerror


def test_semaphore_mode():
    with wigwag.EventFd(initial=2, semaphore=True) as events:
        assert [events.take(), events.take()] == [1, 1]
        with pytest.raises(BlockingIOError):
            events.take(timeout=0)


def test_overflow():
    with wigwag.EventFd(initial=2**64 - 2) as events:
        with pytest.raises(TimeoutError):
            events.add(timeout=SHORT)
        with pytest.raises(OSError, match="2\\^64 - 2") as caught:
            events.add(2**64 - 1)
        assert caught.value.errno == errno.EINVAL
    with pytest.raises(OSError, match="start lower"):
        wigwag.EventFd(initial=2**64 - 1)
    with pytest.raises(OverflowError):
        wigwag.EventFd(initial=2**64)


def test_between_processes():
    with wigwag.EventFd() as events:
        pid = os.fork()
        if pid == 0:
            events.add(7)
            os._exit(0)
        assert events.take(timeout=GENEROUS) == 7
        assert os.waitpid(pid, 0)[1] == 0


def test_closed():
    events = wigwag.EventFd()
    assert not events.closed and events.address == "eventfd:"
    assert repr(events) == f"<wigwag.EventFd fd={events.fileno()}>"
    events.close()
    events.close()
    assert events.closed and repr(events) == "<wigwag.EventFd closed>"
    for call in (events.take, events.add, events.fileno, lambda: events.address):
        with pytest.raises(ValueError, match="closed EventFd"):
            call()


def test_close_during_a_wait():
    events = wigwag.EventFd()
    errors = []

    def wait():
        try:
            events.take()
        except (OSError, ValueError) as error:
            errors.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    threading.Event().wait(0.02)
    events.close()
    thread.join(GENEROUS)
    assert getattr(errors[0], "errno", None) == errno.ECANCELED or isinstance(errors[0], ValueError)


def test_adopted():
    if not hasattr(os, "eventfd"):
        pytest.skip("os.eventfd came with Python 3.10")
    fd = os.eventfd(0, 0)
    other = os.dup(fd)
    with wigwag.EventFd.from_fd(fd) as events:
        os.eventfd_write(other, 5)
        assert events.take(timeout=GENEROUS) == 5
        events.add(6)
        assert os.eventfd_read(other) == 6
    os.close(other)
    with pytest.raises(OSError) as caught:
        wigwag.EventFd.from_fd(-1)
    assert caught.value.errno == errno.EBADF


def test_no_descriptor_is_left_to_adopt_with():
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with wigwag.EventFd() as events:
        taken = [os.dup(events.fileno()) for _ in range(8)]  # each the lowest that is free
        resource.setrlimit(resource.RLIMIT_NOFILE, (taken[-1] + 1, limits[1]))
        try:
            with pytest.raises(OSError) as caught:
                wigwag.EventFd.from_fd(taken[0])
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            for fd in taken:
                os.close(fd)
    assert caught.value.errno == errno.EMFILE


def test_killed_peer():
    with wigwag.EventFd() as events, wigwag.EventFd() as never:
        pid = os.fork()
        if pid == 0:
            events.add(7)
            never.take()
            os._exit(1)
        assert events.take(timeout=GENEROUS) == 7
        os.kill(pid, signal.SIGKILL)
        assert os.waitpid(pid, 0)[1] == signal.SIGKILL
        with pytest.raises(TimeoutError):
            events.take(timeout=SHORT)
        never.add(2)
        assert never.take(timeout=0) == 2  # the dead took nothing


def test_with_a_peer_that_knows_only_libc(tmp_path):
    program = tmp_path / "eventfd"
    subprocess.run([os.environ.get("CC", "cc"), "-o", program, PEER], check=True)
    with wigwag.EventFd() as there, wigwag.EventFd() as back:
        fds = there.fileno(), back.fileno()
        with subprocess.Popen([program, "echo", *map(str, fds), "100"], pass_fds=fds) as peer:
            for n in range(1, 101):
                there.add(n)
                assert back.take(timeout=GENEROUS) == n
        assert peer.returncode == 0


def test_async():
    async def main():
        with wigwag.EventFd() as events:
            waiting = asyncio.ensure_future(events.take_async(timeout=GENEROUS))
            await asyncio.sleep(0)
            await events.add_async(4)
            assert await waiting == 4
            with pytest.raises(TimeoutError):
                await events.take_async(timeout=SHORT)
            waiting = asyncio.ensure_future(events.take_async())
            await asyncio.sleep(0)
            events.close()
            with pytest.raises(ValueError):
                await waiting

    asyncio.run(main())
