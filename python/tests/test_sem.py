"""POSIX semaphore."""

import _multiprocessing
import errno
import mmap
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


@pytest.fixture
def address(fresh):
    """The address of a semaphore that does not exist yet; unlinked in the end."""
    text = f"sem:/{fresh('sem')}"
    yield text
    try:
        wigwag.Sem.remove(text)
    except FileNotFoundError:
        pass


@pytest.fixture
def make(address):
    """Makes the one semaphore of a test, closed in the end."""
    made = []

    def make(initial=0):
        made.append(wigwag.Sem.create(address, initial))
        return made[0]

    yield make
    for sem in made:
        sem.close()


def test_shape_of_threading(make):
    sem = make(1)
    assert sem.acquire() is True
    assert sem.acquire(False) is False
    assert sem.acquire(blocking=True, timeout=0) is False
    start = time.monotonic()
    assert sem.acquire(timeout=SHORT) is False
    assert time.monotonic() - start >= SHORT
    with pytest.raises(ValueError, match="non-blocking"):
        sem.acquire(False, 1)
    with pytest.raises(ValueError, match="one or more"):
        sem.release(0)
    with pytest.raises(ValueError, match="one or more"):
        sem.release(-1)
    sem.release()
    sem.release(n=3)
    assert sem.value == 4
    with sem:
        assert sem.value == 3
    assert sem.value == 4


def test_held_has_a_deadline(make):
    sem = make(1)
    with sem.held(timeout=GENEROUS):
        with pytest.raises(TimeoutError) as caught:
            with sem.held(timeout=SHORT):
                raise AssertionError("entered")
        assert caught.value.errno == errno.ETIMEDOUT
        assert caught.value.filename == sem.address
        with pytest.raises(BlockingIOError):
            sem.held(timeout=0).__enter__()
    assert sem.value == 1
    with pytest.raises(ValueError, match="timeout"):
        sem.held(-1)


def test_overflow(make):
    sem = make(wigwag.Sem.VALUE_MAX - 1)
    with pytest.raises(OSError, match="more is released than acquired") as caught:
        sem.release(3)
    assert caught.value.errno == errno.EOVERFLOW
    assert caught.value.done == 1


def test_names(address, make):
    with pytest.raises(FileNotFoundError, match="create it") as caught:
        wigwag.Sem.open(address)
    assert caught.value.filename == address
    sem = make(2)
    with pytest.raises(FileExistsError):
        wigwag.Sem.create(address)
    other = wigwag.Sem.open_or_create(wigwag.Address(address), initial=9)
    assert (other.value, other.address) == (2, address)
    wigwag.Sem.remove(address)
    with pytest.raises(FileNotFoundError):
        wigwag.Sem.remove(address)
    other.release()
    assert sem.value == 3
    other.close()


def test_options_in_the_address(address):
    sem = wigwag.Sem.open_or_create(address + "?initial=3&mode=0666")
    assert sem.value == 3
    assert os.stat("/dev/shm/sem." + address[5:]).st_mode & 0o777 == 0o666
    sem.close()


def test_bad_input(address):
    for bad in ("", "pipe:", "sem:noslash", "sem:/a/b", "sem:/..", "sem:/" + "x" * 300, "sem:/x?nope=1"):
        with pytest.raises(OSError) as caught:
            wigwag.Sem.open(bad)
        assert caught.value.errno in (errno.EINVAL, errno.ENAMETOOLONG)
    with pytest.raises(TypeError):
        wigwag.Sem.open(None)
    with pytest.raises(OverflowError):
        wigwag.Sem.create(address, -1)
    with pytest.raises(OSError, match="past the largest"):
        wigwag.Sem.create(address, 2**31)
    with pytest.raises(OSError, match="from 0 to 0777"):
        wigwag.Sem.create(address, mode=0o1777)


def test_between_processes(make):
    sem = make()
    pid = os.fork()
    if pid == 0:
        sem.release(3)
        os._exit(0)
    for _ in range(3):
        assert sem.acquire(timeout=GENEROUS)
    assert os.waitpid(pid, 0)[1] == 0


def test_killed_holder_takes_its_permit_along(make):
    sem = make(1)
    pid = os.fork()
    if pid == 0:
        sem.acquire()
        signal.pause()
    while sem.value:
        time.sleep(0.001)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert not sem.acquire(timeout=SHORT)


def test_in_memory():
    memory = mmap.mmap(-1, 4096)
    sem = wigwag.Sem.init_at(memory, 1, offset=64)
    same = wigwag.Sem.at(memory, offset=64)
    assert sem.address == "sem:"
    pid = os.fork()
    if pid == 0:
        same.release()
        os._exit(0)
    os.waitpid(pid, 0)
    assert sem.acquire(timeout=0) and sem.acquire(timeout=0) and same.value == 0
    with pytest.raises(BufferError):
        memory.close()
    sem.close()
    same.close()
    with pytest.raises(OSError, match="multiple of 8"):
        wigwag.Sem.init_at(memory, offset=1)
    with pytest.raises(ValueError, match="the buffer ends before"):
        wigwag.Sem.init_at(memory, offset=4096 - wigwag.Sem.SIZE + 8)
    with pytest.raises(BufferError, match="writable"):
        wigwag.Sem.at(bytes(64))
    memory[:64] = b"\x5a" * 64
    with pytest.raises(OSError, match="hold no semaphore") as caught:
        wigwag.Sem.at(memory)
    assert caught.value.errno == errno.EBADMSG
    memory.close()


def test_standard_library_on_the_other_side(address):
    # What multiprocessing.Semaphore is made of, without the unlinking that keeps others from opening it.
    theirs = _multiprocessing.SemLock(1, 2, 100, address[4:], False)
    ours = wigwag.Sem.open(address)
    assert ours.value == 2
    ours.release()
    assert [theirs.acquire(False) for _ in range(4)] == [True, True, True, False]
    theirs.release()
    assert ours.acquire(timeout=GENEROUS)
    ours.close()


def test_closed(make):
    sem = make(1)
    assert repr(sem) == f"<wigwag.Sem {sem.address} value=1>"
    sem.close()
    sem.close()
    assert sem.closed and repr(sem) == "<wigwag.Sem closed>"
    for call in (sem.acquire, sem.release, sem.held, lambda: sem.value, lambda: sem.address, sem.__enter__):
        with pytest.raises(ValueError, match="closed Sem"):
            call()


def test_close_during_a_wait(make):
    sem = make()
    errors = []

    def wait():
        try:
            sem.acquire()
        except (OSError, ValueError) as error:
            errors.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    threading.Event().wait(0.02)
    sem.close()
    thread.join(GENEROUS)
    assert getattr(errors[0], "errno", None) == errno.ECANCELED or isinstance(errors[0], ValueError)


CTRL_C = """
import mmap, signal, wigwag
signal.signal(signal.SIGINT, signal.default_int_handler)
sem = wigwag.Sem.init_at(mmap.mmap(-1, 4096))
print("waiting", flush=True)
try:
    sem.acquire(timeout=30)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def test_ctrl_c_leaves_a_wait():
    process = subprocess.Popen([sys.executable, "-c", CTRL_C], stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout.readline() == "waiting\n"
        while "\nState:\tS" not in pathlib.Path(f"/proc/{process.pid}/status").read_text():
            time.sleep(0.001)
        time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "interrupted\n"
        assert process.wait(GENEROUS) == 0


def test_cancel(make):
    cancel = wigwag.Cancel()
    cancel.fire()
    with cancel, pytest.raises(OSError) as caught:
        make().acquire()
    assert caught.value.errno == errno.ECANCELED
