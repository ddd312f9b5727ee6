"""Anonymous pipe."""

import asyncio
import errno
import os
import signal
import subprocess

import pytest
from conftest import GENEROUS, SHORT

import wigwag


@pytest.fixture
def pipe():
    reader, writer = wigwag.Pipe.open()
    with reader, writer:
        yield reader, writer


def test_child_to_parent(pipe):
    reader, writer = pipe
    pid = os.fork()
    if pid == 0:
        writer.write_all(b"Hello from child")
        os._exit(0)
    writer.close()
    assert reader.read(100, timeout=GENEROUS) == b"Hello from child"
    assert reader.read(100, timeout=GENEROUS) == b""
    assert os.waitpid(pid, 0)[1] == 0


def test_nothing_yet_is_not_the_end(pipe):
    reader, writer = pipe
    with pytest.raises(BlockingIOError):
        reader.read(timeout=0)
    with pytest.raises(TimeoutError):
        reader.read(timeout=SHORT)


def test_broken_pipe(pipe):
    reader, writer = pipe
    reader.close()
    with pytest.raises(BrokenPipeError, match="no reader is left") as caught:
        writer.write(b"x")
    assert caught.value.filename == "pipe:"


def test_partial_progress(pipe):
    reader, writer = pipe
    with pytest.raises(TimeoutError) as caught:
        writer.write_all(bytes(100_000), timeout=SHORT)
    assert caught.value.done == reader.capacity == 65536
    with pytest.raises(TimeoutError) as caught:
        reader.read_exact(100_000, timeout=SHORT)
    assert caught.value.done == len(caught.value.partial) == 65536
    writer.write_all(memoryview(b"abc"))
    buffer = bytearray(10)
    assert reader.read_into(buffer) == 3
    assert buffer[:3] == b"abc"
    writer.write(b"de")
    writer.close()
    with pytest.raises(BrokenPipeError) as caught:
        reader.read_exact(5)
    assert caught.value.partial == b"de"


def test_large_transfer(pipe):
    reader, writer = pipe
    data = os.urandom(1_000_000)
    pid = os.fork()
    if pid == 0:
        writer.write_all(data, timeout=GENEROUS)
        os._exit(0)
    assert reader.read_exact(len(data), timeout=GENEROUS) == data
    assert os.waitpid(pid, 0)[1] == 0


def test_packets():
    reader, writer = wigwag.Pipe.open(packet=True, capacity=8192)
    with reader, writer:
        writer.write(b"one")
        writer.write(b"three")
        with pytest.raises(OSError) as caught:
            reader.read(100)
        assert (caught.value.errno, caught.value.true_size) == (errno.EMSGSIZE, wigwag.Pipe.ATOMIC)
        assert [reader.read(4096), reader.read(4096)] == [b"one", b"three"]


def test_splice_and_tee(pipe, tmp_path):
    reader, writer = pipe
    other, other_in = wigwag.Pipe.open()
    with other, other_in:
        writer.write(b"abcdef")
        assert reader.tee(other_in, 3) == 3
        assert reader.splice_to(other_in, 100) == 6
        assert other.read() == b"abcabcdef"
        path = tmp_path / "file"
        path.write_bytes(b"from a file")
        with path.open("rb", buffering=0) as file:
            assert writer.splice_from(file, 100) == 11
        assert reader.read() == b"from a file"


def test_capacity(pipe):
    reader, writer = pipe
    assert writer.set_capacity(10_000) == 16384
    writer.write(bytes(9000))
    with pytest.raises(OSError, match="read them first") as caught:
        writer.set_capacity(4096)
    assert caught.value.errno == errno.EBUSY


def test_wrong_end_and_bad_arguments(pipe):
    reader, writer = pipe
    assert reader.is_reader and not writer.is_reader
    with pytest.raises(OSError, match="write end") as caught:
        writer.read()
    assert caught.value.errno == errno.EBADF
    with pytest.raises(OSError, match="zero bytes"):
        reader.read(0)
    with pytest.raises(TypeError):
        writer.write("text")
    with pytest.raises(BufferError):
        reader.read_into(b"constant")
    with pytest.raises(OverflowError):
        reader.read(-1)
    with open("/dev/null") as null, pytest.raises(OSError, match="not a pipe's"):
        wigwag.Pipe.from_fd(null.fileno())


def test_inherited_by_a_program(pipe):
    reader, writer = pipe
    writer.inherit()
    with subprocess.Popen(["sh", "-c", f"echo hi > /proc/self/fd/{writer.fileno()}"], close_fds=False) as process:
        writer.close()
        assert reader.read(timeout=GENEROUS) == b"hi\n"
        assert process.wait(GENEROUS) == 0


def test_standard_library_on_the_other_side():
    read_fd, write_fd = os.pipe()
    with wigwag.Pipe.from_fd(read_fd) as reader:
        os.write(write_fd, b"abc")
        assert reader.read(timeout=GENEROUS) == b"abc"
        os.close(write_fd)
        assert reader.read(timeout=GENEROUS) == b""


def test_killed_writer_ends_the_stream(pipe):
    reader, writer = pipe
    pid = os.fork()
    if pid == 0:
        writer.write(b"x")
        signal.pause()
    writer.close()
    assert reader.read_exact(1, timeout=GENEROUS) == b"x"
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert reader.read(timeout=GENEROUS) == b""


def test_async(pipe):
    reader, writer = pipe
    data = os.urandom(500_000)

    async def main():
        sending = asyncio.ensure_future(writer.write_all_async(data, timeout=GENEROUS))
        assert await reader.read_exact_async(len(data), timeout=GENEROUS) == data
        await sending
        with pytest.raises(TimeoutError) as caught:
            await writer.write_all_async(bytes(70_000), timeout=SHORT)
        assert caught.value.done == 65536
        with pytest.raises(TimeoutError) as caught:
            await reader.read_exact_async(70_000, timeout=SHORT)
        assert len(caught.value.partial) == 65536
        assert await writer.write_async(b"abc") == 3
        assert await reader.read_async() == b"abc"
        writer.close()
        assert await reader.read_async() == b""

    asyncio.run(main())
