"""Wait set."""

import asyncio
import errno
import os
import selectors
import signal
import subprocess
import sys
import threading
import time

import pytest
from conftest import GENEROUS, SHORT

import wigwag


def test_a_mix_is_reported_by_token():
    with wigwag.WaitSet() as waitset, wigwag.EventFd() as events:
        reader, writer = wigwag.Pipe.open()
        with reader, writer, subprocess.Popen([sys.executable, "-c", "raise SystemExit(7)"]) as child:
            waitset.add(events, 1)
            waitset.add(reader.fileno(), 2)
            waitset.add_timer(0, 2**64 - 1)
            waitset.add_child(child, 0)
            assert len(waitset) == 4
            events.add()
            writer.write_all(b"x")
            seen = {}
            while len(seen) < 4:
                seen.update((event.token, event) for event in waitset.wait(timeout=GENEROUS))
            assert seen[1].readable and not seen[1].writable
            assert seen[2].readable and seen[2].expirations == 0
            assert seen[2**64 - 1].expirations == 1 and not seen[2**64 - 1].readable
            assert seen[0].ended and seen[0].returncode == 7
            assert repr(seen[0]) == "<wigwag.WaitSetEvent token=0 ended returncode=7>"
            assert child.wait() == 7, "left to be reaped by its owner"
            assert "end of a child" in wigwag.paths()


def test_killed_child():
    with wigwag.WaitSet() as waitset:
        with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as child:
            waitset.add_child(child.pid, 1)
            with pytest.raises(TimeoutError):
                waitset.wait(timeout=SHORT)
            child.kill()
            (event,) = waitset.wait(timeout=GENEROUS)
            assert event.returncode == -signal.SIGKILL
            assert child.wait() == -signal.SIGKILL
            waitset.remove(1)
        for pid in (0, -1):
            with pytest.raises(OSError, match="is not the pid of a process") as caught:
                waitset.add_child(pid, 1)
            assert caught.value.errno == errno.EINVAL
        with pytest.raises(AttributeError):
            waitset.add_child("no pid", 1)


def test_change_and_remove():
    with wigwag.WaitSet() as waitset, wigwag.EventFd() as events:
        waitset.add(events, 5)
        with pytest.raises(BlockingIOError) as caught:
            waitset.wait(timeout=0)
        assert caught.value.filename == "waitset" == waitset.address
        waitset.change(5, waitset.READABLE | waitset.WRITABLE)
        for _ in range(2):  # level-triggered
            (event,) = waitset.wait(timeout=GENEROUS)
            assert (event.readable, event.writable) == (False, True)
        waitset.change(5, 0)
        with pytest.raises(TimeoutError):
            waitset.wait(timeout=SHORT)
        waitset.remove(5)
        assert len(waitset) == 0 and waitset
        waitset.add(events, 5, selectors.EVENT_WRITE)
        assert waitset.wait(limit=1, timeout=0)[0].writable


def test_timers():
    with wigwag.WaitSet() as waitset:
        waitset.add_timer(0.002, 1, period=0.002)
        time.sleep(0.03)
        assert waitset.wait(timeout=GENEROUS)[0].expirations >= 10
        waitset.change_timer(1, 3600)
        with pytest.raises(TimeoutError):
            waitset.wait(timeout=SHORT)
        waitset.change_timer(1, 0)
        assert waitset.wait(timeout=GENEROUS)[0].expirations == 1
        waitset.add_timer(float("inf"), 2)
        for bad in (-1, float("nan")):
            with pytest.raises(ValueError, match="seconds from 0"):
                waitset.add_timer(bad, 3)
        with pytest.raises(OSError, match="token 1 is a timer"):
            waitset.change(1, 0)


def test_bad_input(tmp_path):
    with wigwag.WaitSet() as waitset, wigwag.EventFd() as events:
        waitset.add(events, 1)
        with pytest.raises(FileExistsError, match="under token 1"):
            waitset.add(events, 2)
        with pytest.raises(FileExistsError, match="token 1 is in the set already"):
            waitset.add_timer(1, 1)
        with pytest.raises(FileNotFoundError, match="no entry of the set has the token 9"):
            waitset.remove(9)
        with open(tmp_path / "file", "w") as file, pytest.raises(PermissionError, match="regular files"):
            waitset.add(file, 3)
        for fd, text in ((-1, "not an open descriptor"), (100000, "descriptor 100000 is not open")):
            with pytest.raises(OSError, match=text) as caught:
                waitset.add(fd, 3)
            assert caught.value.errno == errno.EBADF
        with pytest.raises(ValueError, match="interest"):
            waitset.add(events, 3, 4)
        with pytest.raises(AttributeError):
            waitset.add("nothing", 3)
        for token in (-1, 2**64):
            with pytest.raises(OverflowError):
                waitset.add(events, token)
        with pytest.raises(OSError, match="no room"):
            waitset.wait(limit=0)
        with pytest.raises(OSError, match="a set cannot be in itself"):
            waitset.add(waitset, 3)
        waitset.remove(1)


def test_closed_while_in_the_set():
    with wigwag.WaitSet() as waitset:
        events = wigwag.EventFd()
        waitset.add(events, 1)
        events.close()
        with pytest.raises(OSError, match="was closed while it was in the set") as caught:
            waitset.remove(1)
        assert caught.value.errno == errno.EBADF
        assert len(waitset) == 0


def test_closed():
    waitset = wigwag.WaitSet()
    assert repr(waitset) == f"<wigwag.WaitSet fd={waitset.fileno()} entries=0>"
    waitset.close()
    waitset.close()
    assert waitset.closed and repr(waitset) == "<wigwag.WaitSet closed>"
    with pytest.raises(ValueError, match="closed WaitSet"):
        waitset.wait()
    with pytest.raises(ValueError, match="closed WaitSet"):
        waitset.fileno()


def test_close_during_a_wait():
    waitset = wigwag.WaitSet()
    caught = []

    def wait():
        try:
            waitset.wait()
        except OSError as error:
            caught.append(error.errno)

    threads = [threading.Thread(target=wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.02)
    waitset.close()
    for thread in threads:
        thread.join(GENEROUS)
    # A thread that came too late finds it closed.
    assert set(caught) <= {errno.ECANCELED}


def test_cancel():
    with wigwag.WaitSet() as waitset:
        cancel = wigwag.Cancel()
        cancel.fire()
        with cancel, pytest.raises(OSError) as caught:
            waitset.wait()
        assert caught.value.errno == errno.ECANCELED


def test_added_by_another_thread():
    with wigwag.WaitSet() as waitset:
        thread = threading.Timer(0.01, waitset.add_timer, (0, 1))
        thread.start()
        assert waitset.wait(timeout=GENEROUS)[0].token == 1
        thread.join()


def test_asyncio():
    async def main():
        with wigwag.WaitSet() as waitset, wigwag.EventFd() as events:
            waitset.add(events, 1)
            task = asyncio.create_task(waitset.wait_async(timeout=GENEROUS))
            await asyncio.sleep(0)
            events.add()
            (event,) = await task
            assert event.token == 1
            events.take()
            with pytest.raises(TimeoutError):
                await waitset.wait_async(timeout=SHORT)
            task = asyncio.create_task(waitset.wait_async())
            await asyncio.sleep(0)
            waitset.close()
            with pytest.raises(ValueError):
                await task

    asyncio.run(main())


def test_a_child_needs_a_set_of_its_own():
    with wigwag.WaitSet() as waitset:
        pid = os.fork()
        if pid == 0:
            try:
                waitset.add_timer(0, 1)
            except OSError as error:
                os._exit(0 if error.errno == errno.ENOTSUP and "before a fork" in error.strerror else 1)
            os._exit(2)
        assert os.waitpid(pid, 0)[1] == 0
        assert len(waitset) == 0
