"""System V semaphore set."""

import asyncio
import errno
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from conftest import GENEROUS, SHORT

import wigwag


@pytest.fixture
def address(tmp_path):
    """The address of a set that does not exist yet; removed in the end."""
    path = tmp_path / "semfile"
    path.touch()
    text = f"sysv-sem:{path}#65"

    def remove():
        try:
            wigwag.SysvSem.remove(text)
        except FileNotFoundError:
            pass

    remove()  # another file may have given the same key, and left a set behind
    yield text
    remove()


@pytest.fixture
def make():
    """Makes sets without a key, removed in the end."""
    made = []

    def make(*values):
        made.append(wigwag.SysvSem.create("sysv-sem:private", values))
        return made[-1]

    yield make
    for semaphores in made:
        if not semaphores.closed:
            semaphores.unlink()
            semaphores.close()


def test_shape_of_threading(make):
    semaphores = make(1, 0)
    assert semaphores.acquire() is True
    assert semaphores.acquire(False) is False
    assert semaphores.acquire(timeout=SHORT) is False
    assert semaphores.acquire(False, number=1) is False
    with pytest.raises(ValueError, match="non-blocking"):
        semaphores.acquire(False, 1)
    semaphores.release()
    with semaphores:
        assert semaphores.values() == [0, 0]
    with semaphores.held(timeout=GENEROUS, number=0):
        with pytest.raises(TimeoutError) as caught:
            semaphores.held(timeout=SHORT).__enter__()
        assert caught.value.errno == errno.ETIMEDOUT
    assert semaphores.value() == 1


def test_several_at_once(make):
    semaphores = make(3, 0, 5)
    ops = [(0, -1), (1, -1), (2, 1, True)]
    with pytest.raises(BlockingIOError):
        semaphores.operate(ops, timeout=0)
    with pytest.raises(TimeoutError):
        semaphores.operate(ops, timeout=SHORT)
    semaphores.add(1, 1)
    semaphores.operate(ops)
    assert semaphores.values() == [2, 0, 6]
    semaphores.wait_zero(1)
    with pytest.raises(BlockingIOError):
        semaphores.wait_zero(timeout=0)
    semaphores.set_values([7, 8, 9])
    semaphores.set_value(1, 80)
    assert semaphores.values() == [7, 80, 9]
    assert semaphores.last_pid(1) == os.getpid()
    assert (semaphores.waiting(), semaphores.waiting_for_zero()) == (0, 0)


def test_names(address):
    with pytest.raises(FileNotFoundError, match="create it"):
        wigwag.SysvSem.open(address)
    semaphores = wigwag.SysvSem.open_or_create(address + "?count=2&mode=0640", initial=4)
    assert semaphores.values() == [4, 4] and semaphores.count == 2
    assert semaphores.address == address
    with pytest.raises(FileExistsError):
        wigwag.SysvSem.create(wigwag.Address(address))
    with pytest.raises(OSError, match="fewer than the 3"):
        wigwag.SysvSem.open(address + "?count=3")
    other = wigwag.SysvSem.from_id(semaphores.id)
    status = other.status()
    assert (status.mode, status.count, status.uid) == (0o640, 2, os.geteuid())
    assert status.operated_at is not None and status.changed_at <= time.time() + 1
    semaphores.unlink()
    for call in (semaphores.unlink, other.acquire, other.value, other.status):
        with pytest.raises(OSError, match="the set was removed") as caught:
            call()
        assert caught.value.errno == errno.EIDRM
    semaphores.close()
    other.close()


def test_bad_input(make):
    semaphores = make(1)
    for call, number in (
        (lambda: semaphores.acquire(number=1), errno.EFBIG),
        (lambda: semaphores.value(1), errno.EFBIG),
        (lambda: semaphores.add(0, 0), errno.EINVAL),
        (lambda: semaphores.add(0, 32767), errno.ERANGE),
        (lambda: semaphores.set_value(0, 40000), errno.ERANGE),
        (lambda: semaphores.set_values([]), errno.EINVAL),
        (lambda: semaphores.operate([]), errno.EINVAL),
        (lambda: semaphores.operate([(0, 0)] * 100000), errno.E2BIG),
        (lambda: wigwag.SysvSem.open("mq:/x"), errno.EINVAL),
        (lambda: wigwag.SysvSem.open("sysv-sem:private"), errno.EINVAL),
        (lambda: wigwag.SysvSem.open("sysv-sem:/no/such/file#1"), errno.ENOENT),
        (lambda: wigwag.SysvSem.create("sysv-sem:private", count=2**31), errno.EINVAL),
        (lambda: wigwag.SysvSem.create("sysv-sem:private", [1], count=2), errno.EINVAL),
        (lambda: wigwag.SysvSem.create("sysv-sem:private", initial=40000), errno.ERANGE),
        (lambda: wigwag.SysvSem.from_id(-1), errno.EIDRM),
    ):
        with pytest.raises(OSError) as caught:
            call()
        assert caught.value.errno == number
    with pytest.raises(ValueError, match="from 0 to 65535"):
        semaphores.value(-1)
    with pytest.raises(TypeError, match="number, change"):
        semaphores.operate([(1,)])
    with pytest.raises(ValueError, match="have an end"):
        wigwag.SysvSem.open_or_create("sysv-sem:0x7fffffff", settle=float("inf"))


def test_kernel_gives_back_what_a_killed_process_held(make):
    semaphores = make(1)
    pid = os.fork()
    if pid == 0:
        semaphores.acquire()
        signal.pause()
    while semaphores.value():
        time.sleep(0.001)
    assert semaphores.last_pid() == pid
    os.kill(pid, signal.SIGKILL)
    with semaphores.held(timeout=GENEROUS):
        os.waitpid(pid, 0)


def test_removed_by_another_process_during_a_wait(make):
    semaphores = make(0)
    pid = os.fork()
    if pid == 0:
        while not semaphores.waiting():
            time.sleep(0.001)
        semaphores.unlink()
        os._exit(0)
    with pytest.raises(OSError, match="the set was removed"):
        semaphores.acquire(timeout=GENEROUS)
    os.waitpid(pid, 0)
    semaphores.close()


def test_closed(make):
    semaphores = make(1)
    assert repr(semaphores) == f"<wigwag.SysvSem sysv-sem:private id={semaphores.id} count=1>"
    semaphores.unlink()
    semaphores.close()
    semaphores.close()
    assert semaphores.closed and repr(semaphores) == "<wigwag.SysvSem closed>"
    for call in (semaphores.acquire, semaphores.release, semaphores.values, semaphores.held, lambda: semaphores.id):
        with pytest.raises(ValueError, match="closed SysvSem"):
            call()


def test_close_during_a_wait(make):
    semaphores = make(0)
    other = wigwag.SysvSem.from_id(semaphores.id)
    errors = []

    def wait():
        try:
            other.acquire()
        except OSError as error:
            errors.append(error.errno)

    thread = threading.Thread(target=wait)
    thread.start()
    while not semaphores.waiting():
        time.sleep(0.001)
    other.close()
    thread.join(GENEROUS)
    assert errors == [errno.ECANCELED]


CTRL_C = """
import signal, sys, wigwag
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    wigwag.SysvSem.from_id(int(sys.argv[1])).acquire(timeout=30)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def test_ctrl_c_leaves_a_wait(make):
    semaphores = make(0)
    command = [sys.executable, "-c", CTRL_C, str(semaphores.id)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        while not semaphores.waiting():
            time.sleep(0.001)
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "interrupted\n"
        assert process.wait(GENEROUS) == 0


def test_cancel(make):
    cancel = wigwag.Cancel()
    cancel.fire()
    with cancel, pytest.raises(OSError) as caught:
        make(0).acquire()
    assert caught.value.errno == errno.ECANCELED


def test_descriptor_and_event_loop():
    async def main():
        semaphores = wigwag.SysvSem.create("sysv-sem:private", [0, 1])
        try:
            task = asyncio.create_task(semaphores.acquire_async())
            both = asyncio.create_task(semaphores.add_async(0, -2))
            zero = asyncio.create_task(semaphores.wait_zero_async(1))
            await asyncio.sleep(0.01)
            assert not task.done() and not both.done() and not zero.done()
            semaphores.add(0, 1)
            assert await task is True
            assert await semaphores.acquire_async(timeout=SHORT) is False
            assert await semaphores.acquire_async(timeout=0) is False
            semaphores.add(0, 2)
            await both
            semaphores.add(1, -1)
            await zero
            with pytest.raises(TimeoutError):
                await semaphores.add_async(0, -1, timeout=SHORT)
            assert semaphores.fileno() == semaphores.fileno(0, -1) != semaphores.fileno(0, -2)
            with pytest.raises(OSError, match="-1 is for a permit"):
                semaphores.fileno(0, 1)
            task = asyncio.create_task(semaphores.acquire_async())
            await asyncio.sleep(0)
        finally:
            semaphores.unlink()
            semaphores.close()
        with pytest.raises(ValueError):
            await task

    asyncio.run(main())


def test_in_a_wait_set():
    semaphores = wigwag.SysvSem.create("sysv-sem:private", [0])
    queue = wigwag.SysvMq.create("sysv-mq:private")
    with wigwag.WaitSet() as waits:
        waits.add(semaphores, 1)
        waits.add(queue, 2)
        semaphores.add(0, 1)
        assert [event.token for event in waits.wait(timeout=GENEROUS)] == [1]
        waits.remove(1)
        queue.send(b"x")
        assert [event.token for event in waits.wait(timeout=GENEROUS)] == [2]
        waits.remove(2)
    for thing in (semaphores, queue):
        thing.unlink()
        thing.close()
