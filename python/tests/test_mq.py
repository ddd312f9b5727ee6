"""POSIX message queue."""

import asyncio
import errno
import os
import pathlib
import select
import signal
import subprocess
import threading
import time

import pytest
from conftest import GENEROUS, SHORT

import wigwag

PEER = pathlib.Path(__file__).resolve().parents[2] / "c-tests/peers/mq.c"


@pytest.fixture
def address(fresh):
    address = f"mq:/{fresh('mq')}"
    yield address
    try:
        wigwag.Mq.remove(address)
    except FileNotFoundError:
        pass


@pytest.fixture
def queue(address):
    with wigwag.Mq.create(address, depth=2, size=16) as queue:
        yield queue


def fails(code, words, call, *args, **kwargs):
    with pytest.raises(OSError, match=words) as caught:
        call(*args, **kwargs)
    assert caught.value.errno == code, caught.value
    return caught.value


def test_highest_priority_first(queue, address):
    queue.send(b"low", priority=1)
    queue.send(bytearray(b"high"), priority=wigwag.Mq.PRIORITY_MAX)
    with pytest.raises(BlockingIOError) as caught:
        queue.send(b"x", timeout=0)
    assert caught.value.filename == address
    with pytest.raises(TimeoutError):
        queue.send(b"x", timeout=SHORT)
    assert repr(queue.recv()) == "wigwag.MqMessage(data=b'high', priority=32767)"
    message = queue.recv()
    assert (message.data, message.priority) == (b"low", 1)
    with pytest.raises(BlockingIOError):
        queue.recv(timeout=0)
    with pytest.raises(TimeoutError, match="deadline"):
        queue.recv(timeout=SHORT)
    fails(errno.EINVAL, "the highest is 32767", queue.send, b"x", priority=32768)


def test_nothing_is_cut_unless_asked(queue):
    assert fails(errno.EMSGSIZE, "mq_msgsize=16", queue.send, bytes(17)).true_size == 17
    queue.send(b"123456", priority=3)
    small = bytearray(4)
    assert fails(errno.EMSGSIZE, "must have mq_msgsize=16", queue.recv_into, small).true_size == 16
    assert queue.recv_into(small, cut=True) == (6, 3)
    assert small == b"1234"
    queue.send(b"whole")
    room = bytearray(16)
    assert queue.recv_into(room) == (5, 0)
    assert room[:5] == b"whole"


def test_names_and_attributes(address):
    limits = wigwag.Mq.limits()
    assert limits.depth_max >= limits.depth_default >= 1 and limits.size_max >= limits.size_default >= 1
    assert limits.queues_max >= 1 and limits.user_bytes > 0 and "size_max" in repr(limits)
    with pytest.raises(FileNotFoundError, match="no queue has this name"):
        wigwag.Mq.open(address)
    with pytest.raises(FileNotFoundError):
        wigwag.Mq.remove(address)
    with wigwag.Mq.open_or_create(wigwag.Address(address), mode=0o640, size=100) as queue:
        attributes = queue.attributes()
        assert (attributes.depth, attributes.size, attributes.messages) == (limits.depth_default, 100, 0)
        assert "size=100" in repr(attributes)
        assert os.fstat(queue.fileno()).st_mode & 0o777 == 0o640
        with pytest.raises(FileExistsError, match="exists already"):
            wigwag.Mq.create(address)
        with pytest.raises(FileExistsError, match="asked for were depth any and size 200"):
            wigwag.Mq.open_or_create(address, size=200)
        with wigwag.Mq.open(address, access="send") as sender, wigwag.Mq.open(address, access="receive") as receiver:
            sender.send(b"x")
            assert queue.attributes().messages == 1
            fails(errno.EBADF, "open for receiving only", receiver.send, b"x")
            fails(errno.EBADF, "open for sending only", sender.recv)
    fails(errno.EINVAL, "fs.mqueue.msg_max=", wigwag.Mq.create, "mq:/wwpytest-never", depth=2**60)
    fails(errno.ENAMETOOLONG, "255", wigwag.Mq.create, "mq:/" + "x" * 256)
    fails(errno.EINVAL, "expected mq:", wigwag.Mq.open, "eventfd:")
    with pytest.raises(ValueError, match="access"):
        wigwag.Mq.open(address, access="")


def test_polls(queue):
    assert select.select([queue], [queue], [], 0) == ([], [queue], [])
    queue.send(b"1")
    queue.send(b"2")
    assert select.select([queue], [queue], [], 0) == ([queue], [], [])


def test_adopted(queue, address):
    with wigwag.Mq.from_fd(os.dup(queue.fileno())) as adopted:
        assert adopted.address == address
        adopted.send(b"x")
        assert queue.recv(timeout=0).data == b"x"
    reader, writer = os.pipe()
    with wigwag.Mq.from_fd(reader) as no_queue:
        fails(errno.EBADF, "not one of a message queue", no_queue.recv)
        fails(errno.EBADF, "not one of a message queue", no_queue.attributes)
        fails(errno.EBADF, "not one of a message queue", no_queue.cancel_notify)
    os.close(writer)
    fails(errno.EBADF, "not an open descriptor", wigwag.Mq.from_fd, -1)


def test_notices(queue):
    seen = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: seen.append(number))
    try:
        queue.notify(signal.SIGUSR1)
        fails(errno.EBUSY, f"process {os.getpid()} is registered", queue.notify, signal.SIGUSR1, 5)
        queue.send(b"x")
        deadline = time.monotonic() + GENEROUS
        while not seen and time.monotonic() < deadline:
            time.sleep(0.001)
        assert seen == [signal.SIGUSR1]
        queue.notify(signal.SIGUSR1)
        queue.cancel_notify()
        fails(errno.EINVAL, "cannot be handled", queue.notify, signal.SIGKILL)
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_closed(queue):
    assert repr(queue) == f"<wigwag.Mq {queue.address} fd={queue.fileno()}>"
    queue.close()
    queue.close()
    assert queue.closed and repr(queue) == "<wigwag.Mq closed>"
    for call in (queue.recv, queue.attributes, queue.fileno, queue.cancel_notify, lambda: queue.send(b"")):
        with pytest.raises(ValueError, match="closed Mq"):
            call()


def test_close_during_a_wait(queue):
    errors = []

    def wait():
        try:
            queue.recv()
        except (OSError, ValueError) as error:
            errors.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.02)
    queue.close()
    thread.join(GENEROUS)
    assert isinstance(errors[0], ValueError) or errors[0].errno == errno.ECANCELED


def test_between_processes_and_a_killed_one(queue):
    pid = os.fork()
    if pid == 0:
        queue.send(b"last words")
        signal.pause()
        os._exit(0)
    assert queue.recv(timeout=GENEROUS).data == b"last words"
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    with pytest.raises(TimeoutError):
        queue.recv(timeout=SHORT)


def test_async(queue):
    async def main():
        waiting = asyncio.ensure_future(queue.recv_async(timeout=GENEROUS))
        await asyncio.sleep(0)
        await queue.send_async(b"x", 3)
        message = await waiting
        assert (message.data, message.priority) == (b"x", 3)
        with pytest.raises(TimeoutError):
            await queue.recv_async(timeout=SHORT)
        queue.send(b"1")
        queue.send(b"2")
        waiting = asyncio.ensure_future(queue.send_async(b"3"))
        await asyncio.sleep(0)
        assert queue.recv().data == b"1"
        await waiting
        queue.recv()
        queue.recv()
        waiting = asyncio.ensure_future(queue.recv_async())
        await asyncio.sleep(0)
        queue.close()
        with pytest.raises(ValueError):
            await waiting

    asyncio.run(main())


def test_with_a_peer_that_knows_only_libc(queue, address, tmp_path):
    program, name = tmp_path / "mq", address[len("mq:"):]
    subprocess.run([os.environ.get("CC", "cc"), "-o", program, PEER, "-lrt"], check=True)
    with subprocess.Popen([program, "send", name, "5", "from libc"]) as peer:
        message = queue.recv(timeout=GENEROUS)
        assert (message.data, message.priority) == (b"from libc", 5)
    assert peer.returncode == 0
    with subprocess.Popen([program, "expect", name, "6", "from wigwag"]) as peer:
        queue.send(b"from wigwag", priority=6)
    assert peer.returncode == 0
