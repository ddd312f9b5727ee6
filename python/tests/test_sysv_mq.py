"""System V message queue."""

import asyncio
import errno
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import pytest
from conftest import GENEROUS, SHORT

import wigwag

PEER = pathlib.Path(__file__).resolve().parents[2] / "c-tests/peers/sysv_mq.c"


@pytest.fixture
def queue():
    with wigwag.SysvMq.create("sysv-mq:private") as queue:
        yield queue
        if not queue.closed:
            try:
                queue.unlink()
            except OSError as error:
                assert error.errno == errno.EIDRM


def fails(code, words, call, *args, **kwargs):
    with pytest.raises(OSError, match=words) as caught:
        call(*args, **kwargs)
    assert caught.value.errno == code, caught.value
    return caught.value


def test_picks_by_type(queue):
    for kind in (5, 3, 9, 3, 7):
        queue.send(b"type %d" % kind, type=kind)
    assert queue.recv(up_to=8).type == 3
    assert queue.recv(type=9).data == b"type 9"
    assert queue.recv(all_but=5).type == 3
    with pytest.raises(BlockingIOError):
        queue.recv(up_to=4, timeout=0)
    message = queue.recv()
    assert repr(message) == "wigwag.SysvMessage(data=b'type 5', type=5)"
    assert queue.recv().type == 7
    with pytest.raises(TimeoutError, match="deadline"):
        queue.recv(timeout=SHORT)
    with pytest.raises(TypeError, match="one of"):
        queue.recv(type=1, up_to=2)
    for bad in ({"type": 0}, {"up_to": -1}, {"all_but": 0}):
        fails(errno.EINVAL, "from 1", queue.recv, timeout=0, **bad)
    fails(errno.EINVAL, "from 1", queue.send, b"", type=0)


def test_nothing_is_cut_unless_asked(queue):
    queue.send(b"123456", type=4)
    small = bytearray(4)
    assert fails(errno.EMSGSIZE, "6 bytes, the buffer 4", queue.recv_into, small).true_size == 6
    assert queue.status().messages == 1
    assert queue.recv_into(small, cut=True) == (6, 4)
    assert small == b"1234"
    queue.send(bytearray(b"ab"))
    assert queue.recv_into(memoryview(small), type=1) == (2, 1)
    assert small == b"ab34"


def test_peek(queue):
    with pytest.raises(BlockingIOError, match="no message is at this place"):
        queue.peek()
    queue.send(b"one")
    queue.send(b"two", type=2)
    assert queue.peek().data == b"one"
    assert queue.peek(1).type == 2
    assert queue.status().messages == 2


def test_limits_and_status(queue):
    limits = wigwag.SysvMq.limits()
    error = fails(errno.EMSGSIZE, "kernel.msgmax=", queue.send, bytes(limits.message_max + 1))
    assert error.true_size == limits.message_max + 1
    queue.resize(100)
    fails(errno.EMSGSIZE, "msg_qbytes=100", queue.send, bytes(101))
    queue.send(bytes(100))
    with pytest.raises(BlockingIOError):
        queue.send(b"x", timeout=0)
    with pytest.raises(TimeoutError):
        queue.send(b"x", timeout=SHORT)
    status = queue.status()
    assert (status.messages, status.bytes, status.bytes_max) == (1, 100, 100)
    assert (status.last_sender, status.last_receiver) == (os.getpid(), 0)
    assert (status.key, status.mode, status.uid, status.gid) == (0, 0o600, os.geteuid(), os.getegid())
    assert status.sent_at > 0 and status.received_at == 0 and status.changed_at > 0
    assert "bytes_max=100" in repr(status) and "queues_max" in repr(limits)
    limits = wigwag.SysvMq.limits()
    assert limits.queues >= 1 and limits.messages >= 1 and limits.bytes >= 100
    assert limits.queues_max > 0 and limits.bytes_max > 0
    fails(errno.EINVAL, "at least one", queue.resize, 0)


def test_names(tmp_path):
    file = tmp_path / "key"
    address = wigwag.Address(f"sysv-mq:{file}#65")
    fails(errno.ENOENT, "create it", wigwag.SysvMq.open, address)
    file.touch()
    with pytest.raises(FileNotFoundError, match="no queue has this key"):
        wigwag.SysvMq.open(address)
    with pytest.raises(FileNotFoundError):
        wigwag.SysvMq.remove(address)
    with wigwag.SysvMq.create(address, mode=0o640, bytes=300) as queue:
        assert queue.address == str(address)
        with pytest.raises(FileExistsError, match="exists already"):
            wigwag.SysvMq.create(str(address))
        with wigwag.SysvMq.open(address, access="receive") as same, wigwag.SysvMq.from_id(queue.id) as third:
            assert same.id == queue.id == third.id
            third.send(b"x")
            assert same.recv().data == b"x"
        with pytest.raises(FileExistsError, match="may hold 300 bytes, not the 400"):
            wigwag.SysvMq.open_or_create(f"{address}?bytes=400")
        assert queue.status().mode == 0o640
        wigwag.SysvMq.remove(address)
        fails(errno.EIDRM, "removed", queue.send, b"x")
        fails(errno.EIDRM, "removed", queue.unlink)
    with pytest.raises(ValueError, match="access"):
        wigwag.SysvMq.open(address, access="write")
    fails(errno.EINVAL, "expected sysv-mq:", wigwag.SysvMq.open, "pipe:")
    with pytest.raises(TypeError):
        wigwag.SysvMq.open(5)
    fails(errno.EIDRM, "removed", wigwag.SysvMq.from_id, -1)


def test_closed(queue):
    queue.unlink()
    assert repr(queue) == f"<wigwag.SysvMq sysv-mq:private id={queue.id}>"
    queue.close()
    queue.close()
    assert queue.closed and repr(queue) == "<wigwag.SysvMq closed>"
    for call in (queue.recv, queue.peek, queue.status, queue.unlink, lambda: queue.id, lambda: queue.send(b"")):
        with pytest.raises(ValueError, match="closed SysvMq"):
            call()


def test_close_during_a_wait(queue):
    errors = []
    other = wigwag.SysvMq.from_id(queue.id)

    def wait():
        try:
            other.recv()
        except (OSError, ValueError) as error:
            errors.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.02)
    other.close()
    thread.join(GENEROUS)
    assert isinstance(errors[0], ValueError) or errors[0].errno == errno.ECANCELED


def test_cancel_and_removal_end_a_wait(queue):
    cancel = wigwag.Cancel()
    threading.Timer(0.01, cancel.fire).start()
    with cancel:
        fails(errno.ECANCELED, "cancelled", queue.recv)
    pid = os.fork()
    if pid == 0:
        time.sleep(0.02)
        queue.unlink()
        os._exit(0)
    fails(errno.EIDRM, "removed", queue.recv, timeout=GENEROUS)
    assert os.waitpid(pid, 0)[1] == 0


CTRL_C = """
import signal, wigwag
signal.signal(signal.SIGINT, signal.default_int_handler)
with wigwag.SysvMq.create("sysv-mq:private") as queue:
    print("waiting", flush=True)
    try:
        queue.recv(timeout=30)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    queue.unlink()
"""


def test_ctrl_c_leaves_a_wait():
    process = subprocess.Popen([sys.executable, "-c", CTRL_C], stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout.readline() == "waiting\n"
        while "\nState:\tS" not in pathlib.Path(f"/proc/{process.pid}/status").read_text():
            time.sleep(0.001)
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "interrupted\n"
        assert process.wait(GENEROUS) == 0


def test_killed_sender(queue):
    pid = os.fork()
    if pid == 0:
        queue.send(b"last words")
        signal.pause()
        os._exit(0)
    assert queue.recv(timeout=GENEROUS).data == b"last words"
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    queue.send(b"x")
    assert queue.recv(timeout=0).data == b"x"


def test_with_a_peer_that_knows_only_libc(queue, tmp_path):
    program = tmp_path / "sysv_mq"
    subprocess.run([os.environ.get("CC", "cc"), "-o", program, PEER], check=True)
    with subprocess.Popen([program, "send", str(queue.id), "5", "from libc"]) as peer:
        message = queue.recv(timeout=GENEROUS)
        assert (message.data, message.type) == (b"from libc", 5)
    assert peer.returncode == 0
    with subprocess.Popen([program, "expect", str(queue.id), "6", "from wigwag"]) as peer:
        queue.send(b"from wigwag", type=6)
    assert peer.returncode == 0


def test_descriptor_and_event_loop():
    async def main():
        with wigwag.SysvMq.create("sysv-mq:private") as queue:
            try:
                task = asyncio.create_task(queue.recv_async(timeout=GENEROUS))
                of_type = asyncio.create_task(queue.recv_async(type=9))
                await asyncio.sleep(0.01)
                assert not task.done()
                queue.send(b"five", 5)
                assert (await task).data == b"five"
                queue.send(b"", 9)
                assert (await of_type).type == 9
                with pytest.raises(TimeoutError):
                    await queue.recv_async(timeout=SHORT)
                assert queue.fileno() == queue.fileno() != queue.fileno(type=9)
                assert queue.handed_back >= 0
                with pytest.raises(OSError, match="numbers from 1"):
                    queue.fileno(type=0)
                with pytest.raises(TypeError):
                    queue.fileno(type=1, up_to=2)
                task = asyncio.create_task(queue.recv_async(up_to=3))
                await asyncio.sleep(0)
            finally:
                queue.unlink()
            with pytest.raises(OSError) as caught:
                await task
            assert caught.value.errno == errno.EIDRM

    asyncio.run(main())


def test_close_ends_what_awaits():
    async def main():
        queue = wigwag.SysvMq.create("sysv-mq:private")
        tasks = [asyncio.create_task(queue.recv_async()), asyncio.create_task(queue.recv_async(type=2))]
        await asyncio.sleep(0)
        id = queue.id
        queue.close()
        for task in tasks:
            with pytest.raises(ValueError, match="closed"):
                await task
        with wigwag.SysvMq.from_id(id) as again:
            again.unlink()

    asyncio.run(main())
