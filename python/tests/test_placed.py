"""Locks and the like in memory that the caller brings."""

import errno
import multiprocessing
import os
import pickle
import struct
import subprocess
import sys

import pytest
from conftest import GENEROUS, SHORT
from test_sync import killed_holding

import wigwag

KINDS = ["Mutex", "Condition", "Permits", "Event", "Barrier", "RwLock"]


@pytest.fixture
def memory():
    with wigwag.Memfd.create(1 << 17) as memory:
        yield memory


def place(name, memory, offset, **options):
    kind = getattr(wigwag, name)
    if name == "Condition":
        options["mutex"] = wigwag.Mutex.anonymous()
    return kind.place(memory, offset, **options)


@pytest.mark.parametrize("name", KINDS)
def test_every_kind(name, memory):
    kind = getattr(wigwag, name)
    size = kind.placed_size_for(participants=4)
    assert size < kind.placed_size_for()
    one = place(name, memory, 128, participants=4)
    two = place(name, memory.fileno(), 128, size=size)
    assert one.placed == two.placed == (128, size)
    assert one.address == f"{name.lower()}: at byte 128" and one.address in repr(one)
    assert len(one.participants()) == 2
    one.check()
    with pytest.raises(TypeError, match="no name"):
        pickle.dumps(one)
    others = kind.anonymous(wigwag.Mutex.anonymous()) if name == "Condition" else kind.anonymous()
    assert others.placed is None
    with pytest.raises(OSError, match="something else|another kind") as caught:
        place("Event" if name == "Mutex" else "Mutex", memory, 128)
    assert caught.value.errno == errno.EBADMSG
    os.pwrite(memory.fileno(), bytes(size), 128)
    with pytest.raises(OSError) as caught:
        one.check()
    assert caught.value.errno == errno.ESTALE
    for each in (one, two, others):
        each.close()


def test_what_does_not_fit(memory):
    for offset, size, text in [(8, None, "multiples of 128"), (0, 300, "the range has 300"), (1 << 17, None, "ends at")]:
        with pytest.raises(OSError, match=text) as caught:
            wigwag.Mutex.place(memory, offset, size)
        assert caught.value.errno == errno.EINVAL
    with pytest.raises(OverflowError):
        wigwag.Mutex.place(memory, -128)
    with pytest.raises(OSError) as caught:
        wigwag.Mutex.place(-1, 0)
    assert caught.value.errno == errno.EBADF
    reading, writing = os.pipe()
    with pytest.raises(OSError, match="not that of shared memory"):
        wigwag.Mutex.place(reading, 0)
    os.close(reading)
    os.close(writing)
    os.pwrite(memory.fileno(), b"data", 0)
    with pytest.raises(OSError, match="something else lies there"):
        wigwag.Mutex.place(memory, 0)
    with pytest.raises(OSError) as caught:
        wigwag.Mutex.placed_size_for(participants=257)
    assert caught.value.errno == errno.EINVAL


def test_it_passes_on_from_the_dead_and_needs_no_mapping_of_the_caller(memory):
    mutex = wigwag.Mutex.place(memory, 128)
    killed_holding(lambda: wigwag.Mutex.place(memory, 128).acquire())
    memory.close()
    with mutex:
        assert mutex.inherited
        mutex.consistent()
    assert mutex.acquire(timeout=SHORT)
    mutex.release()
    mutex.close()


def count(mutex, name):
    """In a spawned process: adds to the number beside the mutex, not in one step."""
    from multiprocessing.shared_memory import SharedMemory

    memory = SharedMemory(name)
    for _ in range(200):
        with mutex:
            (number,) = struct.unpack_from("q", memory.buf, 0)
            struct.pack_into("q", memory.buf, 0, number + 1)
    memory.close()


def share(method):
    """The parent of such processes: the mutex lies in multiprocessing's memory."""
    from multiprocessing.shared_memory import SharedMemory

    memory = SharedMemory(create=True, size=1 << 16)
    with wigwag.Shm.open(f"shm:/{memory.name}") as named:
        mutex = wigwag.Mutex.place(named, 128)
    context = multiprocessing.get_context(method)
    processes = [context.Process(target=count, args=(mutex, memory.name)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(GENEROUS)
        assert process.exitcode == 0
    (number,) = struct.unpack_from("q", memory.buf, 0)
    mutex.close()
    memory.close()
    memory.unlink()
    print(number)


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_in_multiprocessings_memory(method):
    # In a process of its own, as multiprocessing leaves a helper and its descriptor behind.
    done = subprocess.run([sys.executable, __file__, method], check=True, timeout=GENEROUS, capture_output=True, text=True)
    assert done.stdout == "600\n"


if __name__ == "__main__":
    share(*sys.argv[1:])
