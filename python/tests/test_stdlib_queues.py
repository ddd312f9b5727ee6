"""Queues with the shapes of the standard library's: the same tests on the standard library's own, and on ours."""

import errno
import os
import pickle
import queue
import signal
import struct
import subprocess
import sys
import threading

import numpy
import pytest
from conftest import GENEROUS, SHORT

import wigwag
from wigwag import stdlib

#: All that have put and get; those that have a size; those that know when all is done.
any_queue = pytest.mark.parametrize("make", [queue.SimpleQueue, queue.Queue, stdlib.SimpleQueue, stdlib.Queue,
                                             stdlib.JoinableQueue], ids=lambda make: f"{make.__module__}.{make.__name__}")
sized = pytest.mark.parametrize("make", [queue.Queue, stdlib.Queue, stdlib.JoinableQueue],
                                ids=lambda make: f"{make.__module__}.{make.__name__}")
joinable = pytest.mark.parametrize("make", [queue.Queue, stdlib.JoinableQueue], ids=["queue", "wigwag"])


def in_thread(call):
    thread = threading.Thread(target=call)
    thread.start()
    return thread


@any_queue
def test_objects_come_in_order(make):
    made = make()
    assert made.empty() is True and made.qsize() == 0
    objects = [None, 1, "text", b"bytes", {"a": [1, 2.5]}, (), bytearray(b"array"), range(3)]
    for one in objects:
        assert made.put(one) is None
    assert made.qsize() == len(objects) and made.empty() is False
    assert [made.get() for _ in objects] == objects
    made.put_nowait(1)
    assert made.get_nowait() == 1


@any_queue
def test_empty(make):
    made = make()
    with pytest.raises(queue.Empty):
        made.get_nowait()
    with pytest.raises(queue.Empty):
        made.get(False)
    with pytest.raises(queue.Empty):
        made.get(block=False, timeout=GENEROUS)
    with pytest.raises(queue.Empty):
        made.get(timeout=SHORT)
    with pytest.raises(queue.Empty):
        made.get(True, SHORT)
    with pytest.raises(ValueError, match="timeout"):
        made.get(timeout=-1)


@any_queue
def test_a_get_waits_for_a_put(make):
    made = make()
    thread = in_thread(lambda: made.put("late"))
    assert made.get(timeout=GENEROUS) == "late"
    thread.join()


@sized
def test_full(make):
    made = make(2)
    assert made.maxsize == 2 and made.full() is False
    made.put(1)
    made.put(2)
    assert made.full() is True and made.qsize() == 2
    with pytest.raises(queue.Full):
        made.put_nowait(3)
    with pytest.raises(queue.Full):
        made.put(3, False)
    with pytest.raises(queue.Full):
        made.put(3, block=False, timeout=GENEROUS)
    with pytest.raises(queue.Full):
        made.put(3, timeout=SHORT)
    with pytest.raises(ValueError, match="timeout"):
        made.put(3, timeout=-1)

    def get():
        assert made.get() == 1
        if hasattr(made, "task_done"):
            made.task_done()

    thread = in_thread(get)
    made.put(3, timeout=GENEROUS)
    thread.join()
    assert made.get() == 2 and made.get() == 3


@joinable
def test_join(make):
    made = make(maxsize=4)
    made.join()
    with pytest.raises(ValueError, match="task_done\\(\\) called too many times"):
        made.task_done()
    done = []

    def work():
        for _ in range(20):
            done.append(made.get())
            made.task_done()

    thread = in_thread(work)
    for number in range(20):
        made.put(number)
    made.join()
    assert done == list(range(20))
    thread.join()
    with pytest.raises(ValueError):
        made.task_done()


# --- what the standard library's have not ---


def test_many_producers_and_consumers():
    made, got, counts = stdlib.Queue(8), [], (4, 500)

    def put(number):
        for count in range(counts[1]):
            made.put((number, count))

    def get():
        for _ in range(counts[1]):
            got.append(made.get())

    threads = [threading.Thread(target=put, args=(number,)) for number in range(counts[0])]
    threads += [threading.Thread(target=get) for _ in range(counts[0])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == [(number, count) for number in range(counts[0]) for count in range(counts[1])]


def test_arrays_go_out_of_band_and_are_the_receivers_own():
    made = stdlib.Queue(2, largest=1 << 21)
    array = numpy.arange(100_000, dtype=numpy.float64)
    constant = numpy.frombuffer(b"12345678", dtype=numpy.uint8)
    made.put({"array": array, "again": array, "empty": numpy.empty(0), "constant": constant, "text": "x",
              "turned": array[::-2]})
    array[0] = 99
    got = made.get()
    assert got["array"][0] == 0 and got["array"][1:].tolist() == array[1:].tolist()
    got["array"][1] = -1
    assert got["again"][1] == -1, "one object stays one"
    assert got["constant"].tobytes() == b"12345678" and not got["constant"].flags.writeable
    assert got["empty"].size == 0 and got["turned"][0] == 99_999 and got["text"] == "x"
    made.put(pickle.PickleBuffer(b"raw"))
    assert made.get() == b"raw"
    with pytest.raises(OSError) as caught:
        made.put(numpy.zeros(1 << 21, dtype=numpy.uint8))
    assert caught.value.errno == errno.EMSGSIZE and caught.value.true_size == 1 << 21
    assert made.empty()


@pytest.mark.parametrize("make", [stdlib.Queue, stdlib.JoinableQueue])
def test_what_cannot_be_pickled_leaves_the_queue_as_it_was(make):
    made = make()
    with pytest.raises((pickle.PicklingError, AttributeError)):
        made.put(lambda: None)
    made.put(Unloadable())
    with pytest.raises(ZeroDivisionError):
        made.get()
    made.put(1)
    assert made.get() == 1 and made.empty()
    if make is stdlib.JoinableQueue:
        made.task_done()
        made.join()


def test_what_is_not_done_takes_up_room():
    made = stdlib.JoinableQueue(2)
    while not made.full():
        made.put(1)
    for _ in range(made.maxsize):
        made.get()
    assert made.full() and made.empty()
    with pytest.raises(stdlib.Full):
        made.put_nowait(1)
    made.task_done()
    assert not made.full()
    made.put_nowait(1)


class Unloadable:
    def __reduce__(self):
        return (divmod, (1, 0))


def test_a_message_that_is_no_pickle_is_refused(fresh):
    made = stdlib.SimpleQueue(name=fresh("queue"))
    data = pickle.dumps(numpy.arange(3), protocol=5, buffer_callback=[].append)
    with wigwag.Ring.open(made._ring.address) as ring:
        for wrong in (b"", b"no pickle", data, data + bytes(8), data + b"\xff" * 8, data + b"\xff" * 8 + (1).to_bytes(8, "little")):
            ring.send(wrong)
            with pytest.raises((pickle.UnpicklingError, EOFError, struct.error)):
                made.get()
    assert made.empty()
    made.unlink()


def killed_after(work):
    """Runs `work` in a child made by fork, which is killed after it."""
    ready, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os.write(told, b"x")
            signal.pause()
        finally:
            os._exit(1)
    assert os.read(ready, 1) == b"x"
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(ready)
    os.close(told)


def test_a_killed_process_loses_nothing_that_it_had_put_or_not_done():
    made = stdlib.JoinableQueue()
    killed_after(lambda: [made.put("put by the dead"), made.put("got by the dead")])
    killed_after(made.get)
    # The one that was being worked on comes again, after those that nobody has taken or before.
    assert sorted(made.get(timeout=GENEROUS) for _ in range(2)) == ["got by the dead", "put by the dead"]
    with pytest.raises(TimeoutError):
        made.join(SHORT)
    made.task_done()
    made.task_done()
    made.join()


def test_a_join_ends_when_the_last_dies_that_was_at_work():
    made = stdlib.JoinableQueue()
    made.put("job")
    killed_after(made.get)
    thread = in_thread(lambda: (made.get(timeout=GENEROUS), made.task_done()))
    made.join(GENEROUS)
    thread.join()


def test_what_was_got_stays_the_parents():
    made = stdlib.JoinableQueue()
    made.put("job")
    made.get()
    pid = os.fork()
    if pid == 0:
        try:
            made.task_done()
        except ValueError:
            os._exit(0)
        os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    made.task_done()
    made.join()


def test_closing_gives_back_what_was_not_done(fresh):
    name = fresh("queue")
    one, two = stdlib.JoinableQueue(name=name), stdlib.JoinableQueue(name=name)
    one.put("job")
    assert one.get() == "job"
    one.close()
    one.close()
    assert one.closed and "closed" in repr(one)
    assert two.get(timeout=GENEROUS) == "job"
    for after in (one.get, one.qsize, one.task_done, lambda: one.put(1), one.join):
        with pytest.raises(ValueError):
            after()
    two.unlink()
    two.close()


@pytest.mark.parametrize("kind", ["SimpleQueue", "Queue", "JoinableQueue"])
def test_by_name_and_by_pickle(kind, fresh):
    make = getattr(stdlib, kind)
    one = make(name=fresh("queue"), largest=100)
    with pytest.raises(TypeError, match="no name"):
        pickle.dumps(make())
    two = pickle.loads(pickle.dumps(one))
    two.put("from another")
    assert one.get(timeout=GENEROUS) == "from another" and "ring:" in repr(two)
    if kind == "JoinableQueue":
        one.task_done()
        two.join(GENEROUS)
    if kind != "SimpleQueue":
        assert one.maxsize == 256
        one.cancel_join_thread()
        one.join_thread()
    one.unlink()
    with pytest.raises(FileNotFoundError):
        two.unlink()
    two.close()


CHILD = """
import multiprocessing, sys
from wigwag import stdlib

def child(jobs, results):
    for number in iter(jobs.get, None):
        results.put(number * number)
        jobs.task_done()
    jobs.task_done()

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    name = sys.argv[2] or None
    jobs, results = stdlib.JoinableQueue(4, name=name), stdlib.Queue(name=name and name + "r")
    processes = [context.Process(target=child, args=(jobs, results)) for _ in range(2)]
    for process in processes:
        process.start()
    for number in [*range(20), None, None]:
        jobs.put(number, timeout=30)
    jobs.join(30)
    for process in processes:
        process.join(30)
        assert process.exitcode == 0
    assert sorted(results.get_nowait() for _ in range(20)) == [number * number for number in range(20)]
    jobs.unlink()
    results.unlink()
    print("done")
"""


@pytest.mark.parametrize("named", [False, True], ids=["anonymous", "named"])
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_between_processes_of_multiprocessing(method, named, fresh, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(CHILD)
    done = subprocess.run([sys.executable, program, method, fresh("mp") if named else ""], capture_output=True, text=True,
                          timeout=GENEROUS)
    assert (done.stdout, done.returncode) == ("done\n", 0), done.stderr


class Interrupting:
    """One that Ctrl-C comes to while it is unpickled, once."""

    def __reduce__(self):
        return interrupt_once, ()


interruptions = []


def interrupt_once():
    if not interruptions:
        interruptions.append(1)
        raise KeyboardInterrupt
    return "got"


@pytest.mark.parametrize("make", [stdlib.SimpleQueue, stdlib.Queue, stdlib.JoinableQueue])
def test_what_ctrl_c_interrupts_is_got_by_the_next(make):
    interruptions.clear()
    made = make()
    made.put(Interrupting())
    with pytest.raises(KeyboardInterrupt):
        made.get_nowait()
    assert made.get_nowait() == "got"
    assert made.empty()
