"""Shared memory: System V, POSIX, memfd."""

import errno
import gc
import mmap
import os
import signal
import subprocess
import sys
import threading
import time

import numpy
import pytest
from conftest import GENEROUS, SHORT

import wigwag
from wigwag import Memfd, Shm, SysvShm


@pytest.fixture
def shm_address(fresh):
    address = f"shm:/{fresh('shm')}"
    yield address
    try:
        Shm.remove(address)
    except FileNotFoundError:
        pass


@pytest.fixture
def sysv_address(fresh):
    address = f"sysv-shm:{0x50000000 | os.getpid() << 6 & 0xFFFFFC0 | int(fresh('').split('-')[-1]) & 63:#x}"
    yield address
    try:
        SysvShm.remove(address)
    except FileNotFoundError:
        pass


def in_child(body):
    """Runs it in a forked child, which must end well."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            body()
            code = 0
        finally:
            os._exit(code)
    return pid


def reap(pid):
    assert os.waitpid(pid, 0)[1] == 0


def test_shared_with_a_child(sysv_address, shm_address):
    with SysvShm.create(sysv_address, 4096) as segment, Shm.create(shm_address, 4096) as shm, Memfd.create(4096) as memfd:

        def child():
            with SysvShm.open(sysv_address) as own:
                own.buf[:4] = b"sysv"
            with Shm.open(shm_address) as own:
                own.buf[:5] = b"posix"
            memfd.buf[:5] = b"memfd"

        reap(in_child(child))
        assert bytes(segment.buf[:4]) == b"sysv"
        assert bytes(shm.buf[:5]) == b"posix"
        assert bytes(memfd.buf[:5]) == b"memfd"


def test_exclusive_open_and_both(shm_address, sysv_address):
    for cls, address in ((Shm, shm_address), (SysvShm, sysv_address)):
        with pytest.raises(FileNotFoundError, match="create it first") as caught:
            cls.open(address)
        assert caught.value.filename == address
        with cls.create(address, size=5000) as first:
            assert (first.size, first.created, first.address, first.readonly) == (5000, True, address, False)
            with pytest.raises(FileExistsError, match="exists already"):
                cls.create(wigwag.Address(address), 5000)
            with cls.open_or_create(address, 100) as second:
                assert (second.size, second.created) == (5000, False)
            with pytest.raises(OSError, match="5000 bytes, and 5001 are asked for") as caught:
                cls.open(address, 5001)
            assert caught.value.errno == errno.EINVAL
            first.check_name()
            cls.remove(address)
            with pytest.raises(FileNotFoundError):
                first.check_name()
            with cls.create(address, 10) as new:
                with pytest.raises(OSError, match="made anew") as caught:
                    first.check_name()
                assert caught.value.errno == errno.ESTALE
                new.unlink()


def test_numpy_shares_the_memory(shm_address):
    with Shm.create(shm_address, 8000) as one, Shm.open(shm_address) as other:
        a = numpy.frombuffer(one, dtype=numpy.float64)
        b = numpy.ndarray((10, 100), dtype=numpy.float64, buffer=other.buf)
        a[:] = numpy.arange(1000)
        assert b[9, 99] == 999.0
        assert not a.flags.owndata and a.flags.writeable
        del a, b
        with Shm.open(shm_address, readonly=True) as reader:
            c = numpy.frombuffer(reader, dtype=numpy.float64)
            assert c[999] == 999.0 and not c.flags.writeable
            with pytest.raises(ValueError):
                c[0] = 1
            del c


@pytest.mark.parametrize("make", [
    lambda: Memfd.create(4096),
    lambda: SysvShm.create("sysv-shm:private", 4096),
], ids=["memfd", "sysv"])
def test_views(make):
    memory = make()
    if isinstance(memory, SysvShm):
        memory.unlink()
    view = memory.buf
    assert (len(view), view.readonly, view.format, view.contiguous) == (4096, False, "B", True)
    part = view[10:20]
    array_view = numpy.asarray(memory)
    with pytest.raises(BufferError, match="release or delete"):
        memory.close()
    assert not memory.closed
    view.release()
    with pytest.raises(BufferError):
        memory.close()
    array_view[10] = 65
    assert part[0] == 65
    with pytest.raises((BufferError, OSError)):
        memory.grow(1 << 20)
    del array_view
    part.release()
    gc.collect()
    memory.close()
    memory.close()
    assert memory.closed and "closed" in repr(memory)
    for use in (lambda: memory.buf, lambda: memory.size, lambda: memory.address, lambda: memoryview(memory),
                lambda: memory.grow(1), lambda: memory.status()):
        with pytest.raises(ValueError, match="closed"):
            use()


def test_views_outlive_their_owner():
    view = Memfd.create(4096).buf
    gc.collect()
    view[:5] = b"alive"
    assert bytes(view[:5]) == b"alive"
    view.release()


def test_leaving_a_with_block_with_views():
    with pytest.raises(BufferError):
        with Memfd.create(10) as memory:
            view = memory.buf
    view.release()
    memory.close()
    with pytest.raises(KeyError):
        with Memfd.create(10) as memory:
            view = memory.buf
            raise KeyError("what went wrong inside matters more")
    view.release()
    memory.close()


def test_many_threads_take_views():
    with Memfd.create(4096) as memory:

        def take():
            for _ in range(300):
                with memory.buf as view:
                    view[0] = 1

        threads = [threading.Thread(target=take) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def test_growing(shm_address):
    with Shm.create(shm_address, 100) as one, Shm.open(shm_address) as other:
        view = one.buf
        with pytest.raises(BufferError):
            one.grow(10_000)
        view.release()
        assert one.grow(10_000) == 10_000
        assert one.grow(50) == 10_000
        one.buf[9_999] = 7
        assert other.size == 100
        assert other.refresh() == 10_000
        assert other.buf[9_999] == 7
    with SysvShm.create("sysv-shm:private", 100) as fixed:
        fixed.unlink()
        assert fixed.grow(100) == 100
        with pytest.raises(OSError, match="is fixed") as caught:
            fixed.grow(101)
        assert caught.value.errno == errno.ENOTSUP


def test_status(sysv_address):
    with SysvShm.create(sysv_address, 4096, mode=0o640) as segment:
        found = segment.status()
        assert (found.size, found.attached, found.creator_pid, found.mode) == (4096, 1, os.getpid(), 0o640)
        assert (found.uid, found.removed, found.locked) == (os.geteuid(), False, False)
        assert abs(found.attached_at - time.time()) < 3600 and found.detached_at == 0
        assert "attached=1" in repr(found)
        assert segment.key == int(sysv_address.split(":")[1], 16)
        with SysvShm.from_id(segment.id, readonly=True) as again:
            assert again.status().attached == 2
            assert again.readonly and again.buf.readonly
            with pytest.raises(TypeError):
                again.buf[0] = 1
        segment.unlink()
        assert segment.status().removed and segment.key == 0
    with Memfd.create(1) as memfd, pytest.raises(OSError, match="System V") as caught:
        memfd.status()
    assert caught.value.errno == errno.ENOTSUP


def test_seals():
    with Memfd.create(4096, "memfd:label") as made:
        assert made.address == "memfd:label"
        made.buf[:7] = b"checked"
        with pytest.raises(PermissionError, match="missing are SHRINK, WRITE"):
            fd = os.dup(made.fileno())
            try:
                Memfd.from_fd(fd, Memfd.SEAL_SHRINK | Memfd.SEAL_WRITE, readonly=True)
            finally:
                os.close(fd)
        view = made.buf
        with pytest.raises(BufferError):
            made.seal(Memfd.SEAL_WRITE)
        view.release()
        made.seal(Memfd.SEAL_SHRINK | Memfd.SEAL_GROW | Memfd.SEAL_WRITE)
        assert made.readonly and made.seals & Memfd.SEAL_WRITE
        with pytest.raises(TypeError):
            made.buf[0] = 1
        reader, writer = wigwag.Pipe.open()
        with reader, writer:
            writer.write(b"x")
            with pytest.raises(BufferError):
                reader.read_into(made)  # asks for a writable buffer
        with Memfd.from_fd(os.dup(made.fileno()), Memfd.SEAL_SHRINK | Memfd.SEAL_WRITE, readonly=True) as received:
            assert bytes(received.buf[:7]) == b"checked"
        with pytest.raises(ValueError, match="SEAL_"):
            made.seal(0x1000)


def test_waits_for_a_size(shm_address):
    path = "/dev/shm" + shm_address[4:]
    fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
    try:
        with pytest.raises(BlockingIOError):
            Shm.open(shm_address, timeout=0)
        with pytest.raises(TimeoutError, match="still has the size 0"):
            Shm.open(shm_address, timeout=SHORT)
        cancel = wigwag.Cancel()
        timer = threading.Timer(0.02, cancel.fire)
        timer.start()
        with cancel, pytest.raises(OSError) as caught:
            Shm.open(shm_address)
        assert caught.value.errno == errno.ECANCELED
        timer.join()
        timer = threading.Timer(0.02, os.truncate, (path, 100))
        timer.start()
        with Shm.open_or_create(shm_address, 100, timeout=GENEROUS) as shm:
            assert (shm.size, shm.created) == (100, False)
        timer.join()
    finally:
        os.close(fd)


CTRL_C = """
import signal, sys, wigwag
signal.signal(signal.SIGINT, signal.default_int_handler)
print("waiting", flush=True)
try:
    wigwag.Shm.open(sys.argv[1])
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def test_ctrl_c_leaves_the_wait(shm_address):
    os.close(os.open("/dev/shm" + shm_address[4:], os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    command = [sys.executable, "-c", CTRL_C, shm_address]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "waiting\n"
        time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "interrupted\n"
        assert process.wait(GENEROUS) == 0


def test_killed_peer(shm_address):
    with Shm.create(shm_address, 4096) as shm:

        def child():
            with Shm.open(shm_address) as own:
                own.buf[:4] = b"done"
                signal.pause()

        pid = in_child(child)
        deadline = time.monotonic() + GENEROUS
        while bytes(shm.buf[:4]) != b"done":
            assert time.monotonic() < deadline
            time.sleep(0.001)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        assert bytes(shm.buf[:4]) == b"done"


STANDARD = """
import sys
from multiprocessing import resource_tracker, shared_memory
# Attaching registers for clean-up at exit before Python 3.13 ("track"), which would remove what is not ours.
resource_tracker.register = lambda *_: None
resource_tracker.unregister = lambda *_: None
verb, name = sys.argv[1:]
shm = shared_memory.SharedMemory(name=name, create=verb == "create", size=4096 if verb == "create" else 0)
if verb == "read":
    assert bytes(shm.buf[:9]) == b"by wigwag", bytes(shm.buf[:9])
else:
    shm.buf[:10] = b"by the std"
shm.close()
"""


def test_standard_library_on_the_other_side(shm_address, fresh):
    def standard(verb, name):
        subprocess.run([sys.executable, "-c", STANDARD, verb, name], check=True, timeout=GENEROUS)

    with Shm.create(shm_address, 4096) as shm:
        shm.buf[:9] = b"by wigwag"
        standard("read", shm.name)
        standard("write", shm.name)
        assert bytes(shm.buf[:10]) == b"by the std"
        with mmap.mmap(shm.fileno(), 4096) as mapped:
            assert mapped[:10] == b"by the std"
    name = fresh("std")
    standard("create", name)
    with Shm.open(f"shm:/{name}") as shm:
        assert bytes(shm.buf[:10]) == b"by the std"
        shm.unlink()
    fd = os.memfd_create("std")
    os.truncate(fd, 100)
    os.pwrite(fd, b"by the std", 0)
    with Memfd.from_fd(fd) as memory:
        assert memory.address == "memfd:std"
        assert bytes(memory.buf[:10]) == b"by the std"


def test_inherited_by_a_program():
    with Memfd.create(100) as memory:
        memory.inherit()
        code = f"import mmap; m = mmap.mmap({memory.fileno()}, 100); m[:5] = b'child'"
        subprocess.run([sys.executable, "-c", code], close_fds=False, check=True, timeout=GENEROUS)
        assert bytes(memory.buf[:5]) == b"child"


def test_adopted(shm_address):
    with Shm.create(shm_address, 10) as shm:
        with Shm.from_fd(os.dup(shm.fileno())) as copy:
            assert (copy.address, copy.name) == (shm_address, shm_address[5:])
            copy.reserve()
    with open("/dev/null") as null, pytest.raises(OSError, match="not shared memory"):
        Shm.from_fd(null.fileno())


def test_bad_input(shm_address):
    for call, text in (
        (lambda: Shm.create(shm_address), "needs a size"),
        (lambda: Shm.create("memfd:", 1), "expected shm:"),
        (lambda: Shm.create("shm:/a/b", 1), "no further slash"),
        (lambda: Shm.create(shm_address, 1, mode=0o1000), "0777"),
        (lambda: Shm.create(shm_address, sys.maxsize), "memory and swap are available"),
        (lambda: Memfd.create(0), "needs a size"),
        (lambda: Memfd.create(1, huge_pages=True, huge_page_size=3), "power of two"),
        (lambda: SysvShm.create("sysv-shm:/no/such/file#65", 1), "derived from"),
        (lambda: SysvShm.open("sysv-shm:private"), "pass its id on"),
        (lambda: SysvShm.from_id(-7), "the id -7"),
    ):
        with pytest.raises(OSError, match=text):
            call()
    for call in (lambda: Shm.create(7, 1), lambda: Shm.create(shm_address, "1"), lambda: Shm(), lambda: Memfd()):
        with pytest.raises(TypeError):
            call()
    with pytest.raises(OverflowError):
        Memfd.create(-1)
    with pytest.raises(ValueError, match="timeout"):
        Shm.open(shm_address, timeout=-1)
    assert not os.path.exists("/dev/shm" + shm_address[4:])
