"""Disk file."""

import asyncio
import errno
import fcntl
import os
import signal
import struct
import threading
import time

import pytest
from conftest import GENEROUS, SHORT

import wigwag
from wigwag import File, FileWatch


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x"


@pytest.fixture
def address(path):
    return f"file:{path}"


@pytest.fixture
def file(address):
    with File.open(address, create="if-missing") as file:
        yield file


def test_replace_and_load(path, address):
    for durability in ("full", "content", "none"):
        File.replace(address, durability.encode(), durability=durability)
        assert File.load(address) == path.read_bytes() == durability.encode()
    File.replace(wigwag.Address(address), bytearray(b"abc"), mode=0o644)
    assert os.stat(path).st_mode & 0o777 == 0o644
    with pytest.raises(OSError, match="has 3 bytes, allowed are 2") as caught:
        File.load(address, limit=2)
    assert (caught.value.errno, caught.value.true_size) == (errno.EMSGSIZE, 3)
    assert caught.value.filename == address
    assert os.listdir(path.parent) == ["x"]
    File.remove(address)
    with pytest.raises(FileNotFoundError):
        File.load(address)


def test_append_and_read(address, file):
    file.append(b"one\n")
    file.append_locked(memoryview(b"two\n"), timeout=GENEROUS)
    file.sync()
    assert file.size == 8
    assert file.read_all() == b"one\ntwo\n"
    assert file.read_at(4, 100) == b"two\n"
    assert file.read_at(8, 100) == b""
    room = bytearray(3)
    assert file.read_at_into(4, room) == 3
    assert room == b"two"
    with pytest.raises(OSError) as caught:
        file.read_all(limit=3)
    assert caught.value.true_size == 8
    assert file.address == address and address in repr(file)


def test_options(path, address):
    with pytest.raises(FileNotFoundError):
        File.open(address)
    File.open(address, create="exclusively", mode=0o640).close()
    assert os.stat(path).st_mode & 0o777 == 0o640
    with pytest.raises(FileExistsError):
        File.open(address, create="exclusively")
    with File.open(address, access="read") as reader, pytest.raises(OSError, match="reading only") as caught:
        reader.append(b"x")
    assert caught.value.errno == errno.EBADF
    with File.open(address, access="append") as appender:
        appender.append(b"x")
    for wrong in ({"access": "x"}, {"create": "x"}):
        with pytest.raises(ValueError, match="must be"):
            File.open(address, **wrong)
    with pytest.raises(ValueError, match="must be"):
        File.replace(address, b"", durability="x")


def test_what_is_no_regular_file(tmp_path, address):
    os.mkfifo(tmp_path / "fifo")
    for call in (File.load, File.open, File.remove, lambda fifo: File.replace(fifo, b"")):
        with pytest.raises(OSError, match="open it as fifo:") as caught:
            call(f"file:{tmp_path}/fifo")
        assert caught.value.errno == errno.ENOTSUP
        with pytest.raises(IsADirectoryError):
            call(f"file:{tmp_path}")
    os.symlink("x", tmp_path / "link")
    with pytest.raises(OSError) as caught:
        File.replace(f"file:{tmp_path}/link", b"")
    assert caught.value.errno == errno.ELOOP
    with pytest.raises(FileNotFoundError, match="make the directory first"):
        File.replace(f"file:{tmp_path}/no/x", b"")
    with pytest.raises(OSError, match="expected file:"):
        File.load("pipe:")
    reader, writer = os.pipe()
    with pytest.raises(OSError, match="a FIFO or pipe"):
        File.from_fd(reader)
    os.close(reader)
    os.close(writer)


def test_locks(address, file):
    with file.lock() as lock:
        assert not lock.released and "exclusive" in repr(lock)
        with pytest.raises(BlockingIOError):
            file.lock(timeout=0)
        with pytest.raises(TimeoutError):
            file.lock(exclusive=False, start=5, length=1, timeout=SHORT)
        with pytest.raises(BlockingIOError):
            file.append_locked(b"x", timeout=0)
    assert lock.released
    lock.release()
    with file.lock(length=5), file.lock(start=5), pytest.raises(BlockingIOError):
        file.lock(exclusive=False, timeout=0)
    with file.lock(exclusive=False), file.lock(exclusive=False):
        pass
    File.replace(address, b"", durability="none")
    with pytest.raises(OSError, match="open it again") as caught:
        file.lock()
    assert caught.value.errno == errno.ESTALE


def test_locks_and_the_standard_library(path, file):
    with open(path, "r+b") as theirs:
        with file.lock():
            # Locks of one process by fcntl and locks by description are strangers to each other, also in one process.
            with pytest.raises(OSError):
                fcntl.lockf(theirs, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.lockf(theirs, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with pytest.raises(BlockingIOError):
            file.lock(timeout=0)
        fcntl.lockf(theirs, fcntl.LOCK_UN)
        file.lock(timeout=0).release()


def test_a_killed_holder_lets_go(address, file):
    pid = os.fork()
    if pid == 0:
        try:
            with File.open(address) as own, own.lock(timeout=GENEROUS):
                file.append(b"locked")
                time.sleep(60)
        finally:
            os._exit(1)
    while file.size == 0:
        time.sleep(0.001)
    with pytest.raises(BlockingIOError):
        file.lock(timeout=0)
    os.kill(pid, signal.SIGKILL)
    file.lock(timeout=GENEROUS).release()
    os.waitpid(pid, 0)


def test_close_ends_a_wait_for_a_lock(address, file):
    with File.open(address) as other, other.lock():
        threading.Timer(0.02, file.close).start()
        with pytest.raises(OSError) as caught:
            file.lock(timeout=GENEROUS)
        assert caught.value.errno == errno.ECANCELED
    with pytest.raises(ValueError, match="closed File"):
        file.append(b"x")
    assert file.closed and "closed" in repr(file)


def test_until_exists(address, path):
    with pytest.raises(BlockingIOError):
        File.until_exists(address, timeout=0)
    with pytest.raises(TimeoutError):
        File.until_exists(address, timeout=SHORT)
    timer = threading.Timer(0.02, path.touch)
    timer.start()
    File.until_exists(address, timeout=GENEROUS)
    File.until_exists(address, timeout=0)
    timer.join()


def test_watch(address, path):
    everything = FileWatch.APPEARED | FileWatch.CHANGED | FileWatch.CLOSED | FileWatch.REMOVED
    with FileWatch(address, everything) as watch:
        with pytest.raises(BlockingIOError):
            watch.wait(timeout=0)
        path.with_name("another").touch()
        with pytest.raises(TimeoutError):
            watch.wait(timeout=SHORT)
        path.write_bytes(b"by the standard library")
        assert watch.wait(timeout=GENEROUS) == everything - FileWatch.REMOVED
        path.unlink()
        assert watch.wait(timeout=GENEROUS) == FileWatch.REMOVED
        assert watch.address == address and watch.fileno() > 2
    for wrong in (0, FileWatch.OVERFLOWED, 1 << 31):
        with pytest.raises(OSError, match="at least one"):
            FileWatch(address, wrong)
    with pytest.raises(FileNotFoundError, match="make the directory first"):
        FileWatch(f"file:{path.parent}/no/x", FileWatch.CHANGED)


def test_watch_in_an_event_loop(address):
    async def main():
        with FileWatch(address, FileWatch.CLOSED) as watch:
            with pytest.raises(TimeoutError):
                await watch.wait_async(timeout=SHORT)
            waiting = asyncio.ensure_future(watch.wait_async(timeout=GENEROUS))
            await asyncio.sleep(0)
            File.replace(address, b"", durability="none")
            assert await waiting == FileWatch.CLOSED

    asyncio.run(main())


def test_close_ends_a_watch(address):
    watch = FileWatch(address, FileWatch.CHANGED)
    threading.Timer(0.02, watch.close).start()
    with pytest.raises(OSError) as caught:
        watch.wait(timeout=GENEROUS)
    assert caught.value.errno == errno.ECANCELED
    with pytest.raises(ValueError, match="closed FileWatch"):
        watch.wait()


def test_map(path, file):
    file.grow(5000)
    with file.map() as mapping, file.map(readonly=True, offset=4096) as view:
        assert (mapping.size, view.size, mapping.readonly, view.readonly) == (5000, 904, False, True)
        memory, seen = memoryview(mapping), view.buf
        memory[4096:4102] = b"shared"
        assert bytes(seen[:6]) == b"shared"
        mapping.flush()
        assert path.read_bytes()[4096:4102] == b"shared"
        with pytest.raises(TypeError, match="read-only"):
            seen[0] = 1
        with pytest.raises((BufferError, TypeError)):
            struct.pack_into("B", view, 0, 1)  # refused, so no view: it closes below
        with pytest.raises(BufferError, match="views"):
            mapping.close()
        memory.release()
        seen.release()
        assert file.address in repr(mapping)
    assert mapping.closed and view.closed
    with pytest.raises(ValueError, match="closed Mapping"):
        memoryview(mapping)
    with pytest.raises(ValueError, match="closed Mapping"):
        mapping.flush()
    with pytest.raises(OSError, match="page size"):
        file.map(offset=1)
    with File.open(file.address, access="read") as reader:
        with pytest.raises(PermissionError):
            reader.map()
        with pytest.raises(OSError, match="reading only"):
            reader.grow(10_000)


def test_lock_in_an_event_loop(tmp_path):
    address = f"file:{tmp_path}/x"

    async def main():
        with wigwag.File.open(address, create="if-missing") as one, wigwag.File.open(address) as other:
            with one.lock():
                with pytest.raises(BlockingIOError):
                    await other.lock_async(timeout=0)
                with pytest.raises(TimeoutError):
                    await other.append_locked_async(b"x", timeout=0.01)
                waiting = asyncio.ensure_future(other.lock_async(exclusive=False))
                await asyncio.sleep(0.01)
                assert not waiting.done()
            with await waiting as lock:
                assert not lock.released
            await other.append_locked_async(b"record\n", timeout=5)

            # A task that is cancelled leaves no lock behind.
            with one.lock():
                waiting = asyncio.ensure_future(other.lock_async())
                await asyncio.sleep(0.01)
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
            one.lock(timeout=0).release()
            assert one.read_all() == b"record\n"

    asyncio.run(main())


def test_until_exists_in_an_event_loop(tmp_path):
    address = f"file:{tmp_path}/x"

    async def main():
        with pytest.raises(TimeoutError):
            await wigwag.File.until_exists_async(address, timeout=0.01)
        waiting = asyncio.ensure_future(wigwag.File.until_exists_async(wigwag.Address(address)))
        await asyncio.sleep(0.01)
        wigwag.File.replace(address, b"", durability="none")
        await waiting

    asyncio.run(main())
