"""Named pipe."""

import asyncio
import errno
import os
import signal
import threading
import time

import pytest
from conftest import GENEROUS, SHORT

import wigwag
from wigwag import Fifo


@pytest.fixture
def path(tmp_path):
    return tmp_path / "f"


@pytest.fixture
def address(path):
    return f"fifo:{path}"


@pytest.fixture
def reader(address):
    with Fifo.open_reader(address, keep_open=True, create=True, timeout=0) as reader:
        yield reader


def test_opening_alone_is_bounded(address):
    Fifo.create(address)
    for open_end in (Fifo.open_reader, Fifo.open_writer):
        with pytest.raises(BlockingIOError):
            open_end(address, timeout=0)
        start = time.monotonic()
        with pytest.raises(TimeoutError) as caught:
            open_end(address, timeout=SHORT)
        assert time.monotonic() - start >= SHORT
        assert caught.value.filename == address
        with pytest.raises(ValueError, match="timeout"):
            open_end(address, timeout=-1)
        cancel = wigwag.Cancel()
        threading.Timer(0.02, cancel.fire).start()
        with cancel, pytest.raises(OSError) as caught:
            open_end(address)
        assert caught.value.errno == errno.ECANCELED


def test_between_strangers(address):
    pid = os.fork()
    if pid == 0:
        with Fifo.open_writer(address, create=True, timeout=GENEROUS) as writer:
            writer.write_all(b"Hello FIFO", timeout=GENEROUS)
        os._exit(0)
    with Fifo.open_reader(address, create=True, timeout=GENEROUS) as reader:
        assert reader.is_reader
        assert reader.read_exact(10, timeout=GENEROUS) == b"Hello FIFO"
        assert reader.read(timeout=GENEROUS) == b""
        with pytest.raises(BrokenPipeError) as caught:
            reader.read_exact(5, timeout=GENEROUS)
        assert caught.value.partial == b""
    assert os.waitpid(pid, 0)[1] == 0


def test_kept_open(address, path, reader):
    room = bytearray(10)
    for _ in range(3):
        with open(path, "wb") as theirs:
            theirs.write(b"from the standard library")
        assert reader.read(4, timeout=0) == b"from"
        assert reader.read_into(room, timeout=0) == 10
        assert reader.read(timeout=0) == b"ard library"
        with pytest.raises(BlockingIOError):
            reader.read(timeout=0)


def test_the_standard_library_reads(address, path):
    Fifo.create(address, mode=0o622)
    assert os.stat(path).st_mode & 0o777 == 0o622
    seen = []
    thread = threading.Thread(target=lambda: seen.append(path.read_bytes()))
    thread.start()
    with Fifo.open_writer(address, timeout=GENEROUS, capacity=8192) as writer:
        assert writer.capacity == 8192
        assert writer.set_capacity(4096) == 4096
        writer.write_all(memoryview(b"abc" * 5000), timeout=GENEROUS)
    thread.join()
    assert seen == [b"abc" * 5000]


def test_broken_pipe_and_killed_writer(address, reader):
    writer = Fifo.open_writer(address, timeout=0)
    pid = os.fork()
    if pid == 0:
        writer.write(b"x")
        time.sleep(60)
        os._exit(1)
    writer.close()
    with Fifo.open_reader(address, timeout=GENEROUS) as other:
        assert other.read(1, timeout=GENEROUS) == b"x"
        reader.close()  # which also was a writer
        with pytest.raises(BlockingIOError):
            other.read(timeout=0)
        os.kill(pid, signal.SIGKILL)
        assert other.read(timeout=GENEROUS) == b""
        os.waitpid(pid, 0)
        fd = os.open(address[len("fifo:") :], os.O_WRONLY)
    with Fifo.from_fd(fd) as writer, pytest.raises(BrokenPipeError, match="no reader is left"):
        writer.write_all(b"x")


def test_what_is_no_fifo(tmp_path, path, address):
    with pytest.raises(FileNotFoundError, match="no such FIFO"):
        Fifo.open_reader(address)
    path.write_bytes(b"precious")
    for call in (Fifo.open_reader, Fifo.open_writer, Fifo.remove):
        with pytest.raises(OSError, match="a regular file, not a FIFO") as caught:
            call(address)
        assert caught.value.errno == errno.ENOTSUP
        with pytest.raises(OSError, match="a directory, not a FIFO"):
            call(f"fifo:{tmp_path}")
    with pytest.raises(FileExistsError, match="taken already"):
        Fifo.create(address)
    assert path.read_bytes() == b"precious"
    with pytest.raises(OSError, match="0777"):
        Fifo.create(f"{address}2", mode=0o7777)
    with open(path) as file, pytest.raises(OSError, match="not a pipe's"):
        Fifo.from_fd(file.fileno())


def test_direction(address, reader):
    with Fifo.open_writer(address, timeout=0) as writer:
        for call in (lambda: writer.read(1, timeout=0), lambda: reader.write(b"x", timeout=0)):
            with pytest.raises(OSError) as caught:
                call()
            assert caught.value.errno == errno.EBADF
        assert "writer" in repr(writer) and "reader" in repr(reader)
        assert writer.address == reader.address == address
    Fifo.remove(address)


def test_close_ends_a_wait(reader):
    threading.Timer(0.02, reader.close).start()
    with pytest.raises(OSError) as caught:
        reader.read(timeout=GENEROUS)
    assert caught.value.errno == errno.ECANCELED
    with pytest.raises(ValueError, match="closed Fifo"):
        reader.read()


def test_event_loop(address, reader):
    async def main():
        with Fifo.open_writer(address, timeout=0) as writer:
            with pytest.raises(TimeoutError):
                await reader.read_async(timeout=SHORT)
            data = bytes(range(256)) * 1000
            transfer = asyncio.gather(
                writer.write_all_async(data, timeout=GENEROUS), reader.read_exact_async(len(data), timeout=GENEROUS)
            )
            assert (await transfer)[1] == data
            assert await writer.write_async(b"x", timeout=GENEROUS) == 1
            assert await reader.read_async(10, timeout=GENEROUS) == b"x"

    asyncio.run(main())


def test_open_in_an_event_loop(tmp_path):
    address = f"fifo:{tmp_path}/f"

    async def main():
        with pytest.raises(TimeoutError):
            await wigwag.Fifo.open_reader_async(address, timeout=0.01, create=True)
        reader, writer = await asyncio.gather(
            wigwag.Fifo.open_reader_async(address), wigwag.Fifo.open_writer_async(address, timeout=30, capacity=4096)
        )
        with reader, writer:
            await writer.write_all_async(b"Hello")
            assert await reader.read_async() == b"Hello"

    asyncio.run(main())
