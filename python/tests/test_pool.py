"""Process pools: everything that concurrent.futures' has, the same tests on both; and what ours has besides."""

import asyncio
import concurrent.futures
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import weakref
from concurrent.futures import FIRST_COMPLETED, CancelledError, ProcessPoolExecutor, as_completed

import numpy
import pytest

from wigwag._pool_blocks import Reader, Writer, make_file
from wigwag.pool import ProcessPool, TaskLost, TaskMemory, TaskPoison, TaskTimeout

GENEROUS = 60


pytestmark = pytest.mark.usefixtures("multiprocessing_helpers")


def identity(value):
    return value


def add(one, other=0):
    return one + other


def fail(text):
    raise ValueError(text)


def nap(seconds):
    time.sleep(seconds)
    return os.getpid()


def end(how):
    sys.stderr.write("about to go\n")
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    os._exit(3)


def fill(megabytes):
    memory = bytearray(megabytes << 20)
    time.sleep(30)
    return len(memory)


def unpicklable():
    return lambda: None


class Odd(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} {two}")


def odd():
    raise Odd(1, 2)


def fork_in_task():
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def first_of(data):
    return data[0], len(data), len(set(data))


def die_once(data, flag, go):
    """Dies the first time that it is run, once `go` is there."""
    if not os.path.exists(flag):
        open(flag, "x").close()
        while not os.path.exists(go):
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGKILL)
    return first_of(data)


def set_up(value):
    os.environ["WWTEST_POOL"] = value


def environment():
    return os.environ["WWTEST_POOL"]


def memory_of_results():
    """Bytes in the files in memory that this worker has: the smaller one is what its results went through."""
    names = {fd: os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if os.path.lexists(f"/proc/self/fd/{fd}")}
    files = {os.stat(f"/proc/self/fd/{fd}").st_ino: int(fd) for fd, name in names.items() if "memfd:wigwag-pool" in name}
    return min(os.fstat(fd).st_size for fd in files.values())


put_aside = []


def put_aside_and_return(array):
    put_aside.append(array)
    return array


def what_was_put_aside():
    return put_aside[-1].sum()


def add_in_place(array):
    array += 1
    return array


def halves(array):
    return array[: len(array) // 2], array[len(array) // 2 :]


def fork_and_return(holder, reader, writer):
    array = holder.pop()
    if os.fork() == 0:
        os.close(writer)
        os.read(reader, 1)
        gone = weakref.ref(array)
        del array
        os._exit(gone() is not None)
    return array


def fail_with(array):
    raise ValueError(array[0])


def many(count):
    return [numpy.full(1, float(number)) for number in range(count)]


def all_but_one(array):
    return array[1:], array[:-1]


def last_ten(array):
    return array[-10:]


def wait_for_child():
    return os.wait()[1]


def sum_of(arrays):
    return sum(array.sum() for array in arrays)


def double(array):
    return array * 2


def make(kind, **options):
    if kind == "stdlib":
        import multiprocessing

        return ProcessPoolExecutor(2, multiprocessing.get_context("forkserver"), **options)
    return ProcessPool(2, kind, **options)


both = pytest.mark.parametrize("kind", ["stdlib", "forkserver"])
every = pytest.mark.parametrize("kind", ["stdlib", "fork", "forkserver", "spawn"])
ours = pytest.mark.parametrize("kind", ["fork", "forkserver", "spawn"])


@every
def test_results_and_exceptions_come_back(kind):
    with make(kind) as pool:
        assert pool.submit(add, 1, other=2).result(GENEROUS) == 3
        assert [future.result(GENEROUS) for future in [pool.submit(identity, n) for n in range(100)]] == list(range(100))
        with pytest.raises(ValueError, match="no") as caught:
            pool.submit(fail, "no").result(GENEROUS)
        assert "in fail" in str(caught.value.__cause__)  # where in the worker
        assert list(pool.map(add, range(10), range(10))) == list(range(0, 20, 2))


@both
def test_map_in_chunks_and_with_a_time_limit(kind):
    with make(kind) as pool:
        assert list(pool.map(identity, range(25), chunksize=10)) == list(range(25))
        assert list(pool.map(identity, [])) == []
        with pytest.raises(ValueError):
            pool.map(identity, [1], chunksize=0)
        with pytest.raises(ValueError, match="x"):
            list(pool.map(fail, ["x"]))
        with pytest.raises(concurrent.futures.TimeoutError):
            list(pool.map(nap, [0.5], timeout=0.001))


@both
def test_futures_work_with_everything_that_takes_futures(kind):
    with make(kind) as pool:
        futures = [pool.submit(identity, n) for n in range(20)]
        assert {future.result() for future in as_completed(futures, GENEROUS)} == set(range(20))
        slow, quick = pool.submit(nap, 0.3), pool.submit(identity, 1)
        done, rest = concurrent.futures.wait([slow, quick], GENEROUS, FIRST_COMPLETED)
        assert (done, rest) == ({quick}, {slow})
        called = threading.Event()
        slow.add_done_callback(lambda future: called.set())
        assert called.wait(GENEROUS) and slow.done() and not slow.running() and slow.exception() is None

        async def in_a_loop():
            loop = asyncio.get_running_loop()
            wrapped = asyncio.wrap_future(pool.submit(add, 1, 1))
            return await wrapped, await loop.run_in_executor(pool, identity, 5)

        assert asyncio.run(in_a_loop()) == (2, 5)


@both
def test_what_cannot_be_pickled_fails_its_task_alone(kind):
    with make(kind) as pool:
        with pytest.raises(Exception, match="pickle|local object"):
            pool.submit(identity, lambda: None).result(GENEROUS)
        with pytest.raises(Exception, match="pickle|local object"):
            pool.submit(unpicklable).result(GENEROUS)
        assert pool.submit(identity, 7).result(GENEROUS) == 7


@both
def test_after_shutdown_nothing_is_taken(kind):
    pool = make(kind)
    futures = [pool.submit(identity, n) for n in range(10)]
    pool.shutdown()
    assert [future.result(0) for future in futures] == list(range(10))
    with pytest.raises(RuntimeError, match="shutdown"):
        pool.submit(identity, 1)
    pool.shutdown()


@both
def test_shutdown_cancels_what_has_not_begun(kind):
    pool = make(kind)
    futures = [pool.submit(nap, 0.05) for _ in range(50)]
    pool.shutdown(cancel_futures=True)
    assert all(future.done() for future in futures)
    assert any(future.cancelled() for future in futures)


@both
def test_workers_are_set_up(kind):
    with make(kind, initializer=set_up, initargs=("ready",)) as pool:
        assert pool.submit(environment).result(GENEROUS) == "ready"


def test_workers_are_replaced_after_so_many_tasks():
    with ProcessPool(1, max_tasks_per_child=3) as pool:
        assert len({future.result(GENEROUS) for future in [pool.submit(nap, 0) for _ in range(9)]}) == 3


@ours
def test_a_death_costs_one_task(kind):
    with make(kind) as pool:
        others = [pool.submit(nap, 0.001) for _ in range(50)]
        victims = [pool.submit(end, "kill"), pool.submit(end, "exit")]
        others += [pool.submit(nap, 0.001) for _ in range(50)]
        killed = victims[0].exception(GENEROUS)
        assert type(killed) is TaskLost and killed.signal == signal.SIGKILL and killed.exit_code is None
        assert killed.pid > 0 and "about to go" in killed.last_words and str(killed.pid) in str(killed)
        exited = victims[1].exception(GENEROUS)
        assert (exited.signal, exited.exit_code) == (None, 3)
        assert all(isinstance(future.result(GENEROUS), int) for future in others)
        found = pool.statistics()
    assert (found["lost"], found["deaths"]) == (2, 2) and found["done"] == 100


def test_limits_of_time_and_memory():
    with ProcessPool(2, memory_limit=400 << 20) as pool:
        late = pool.submit_with(nap, 60, task_timeout=0.05)
        large = pool.submit(fill, 600)
        with pytest.raises(TaskTimeout) as caught:
            late.result(GENEROUS)
        assert isinstance(caught.value, TimeoutError) and "0.05 s" in str(caught.value)
        with pytest.raises(TaskMemory) as caught:
            large.result(GENEROUS)
        assert isinstance(caught.value, MemoryError)
        assert pool.submit(identity, 1).result(GENEROUS) == 1


def test_retries_end_in_poison():
    with ProcessPool(2, retries=1) as pool:
        with pytest.raises(TaskPoison) as caught:
            pool.submit(end, "kill").result(GENEROUS)
        assert len(caught.value.deaths) == 2 and len({death.pid for death in caught.value.deaths}) == 2


LARGE = 200_000


def test_a_task_that_is_tried_again_has_its_own_arguments(tmp_path):
    """Those that are large lie in memory that others would have used meanwhile."""
    flag, go = tmp_path / "flag", tmp_path / "go"
    with ProcessPool(1, "fork", retries=1) as pool:
        task = pool.submit(die_once, bytes([7]) * LARGE, str(flag), str(go))
        while not flag.exists():
            time.sleep(0.001)
        others = [pool.submit(first_of, bytes([n]) * LARGE) for n in range(10, 20)]
        go.touch()
        assert task.result(GENEROUS) == (7, LARGE, 1)
        assert [other.result(GENEROUS) for other in others] == [(n, LARGE, 1) for n in range(10, 20)]


def test_what_is_cancelled_lets_go_of_its_memory_once(tmp_path):
    flag, go = tmp_path / "flag", tmp_path / "go"
    with ProcessPool(1, "fork", retries=1) as pool:
        first = pool.submit(die_once, b"x", str(flag), str(go))
        for n in range(20):
            gone = pool.submit(first_of, bytes([99]) * LARGE)
            assert gone.cancel()
            one = pool.submit(first_of, bytes([n]) * LARGE)
            while gone._number in pool._futures:  # the pool has taken in that it was cancelled
                time.sleep(0.001)
            two = pool.submit(first_of, bytes([n + 1]) * LARGE)
            if n == 0:
                kept = one, two
            else:
                one.cancel(), two.cancel()
        go.touch()
        assert first.result(GENEROUS) == (ord("x"), 1, 1)
        assert [one.result(GENEROUS)[0] for one in kept] == [0, 1]


def test_a_callback_may_kill_other_tasks():
    with ProcessPool(2, "fork") as pool:
        slow, quick = pool.submit(nap, 60), pool.submit(nap, 0.2)
        said = []
        quick.add_done_callback(lambda future: said.append(slow.kill()))
        with pytest.raises(CancelledError):
            slow.result(GENEROUS)
        assert quick.result(GENEROUS) and said == [True]


def test_a_callback_may_shut_the_pool_down():
    pool = ProcessPool(2, "fork")
    futures = [pool.submit(nap, 0.1)] + [pool.submit(identity, n) for n in range(500)]
    futures[0].add_done_callback(lambda future: pool.shutdown())
    assert [future.result(GENEROUS) for future in futures[1:]] == list(range(500))
    pool.shutdown()
    assert threading.active_count() == 1


def test_several_may_shut_it_down():
    for _ in range(10):
        pool = ProcessPool(1, "fork")
        future = pool.submit(identity, 1)
        pool.shutdown(wait=False)
        threads = [threading.Thread(target=pool.shutdown) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert future.result(GENEROUS) == 1 and pool.statistics()["done"] == 1


def test_cancel_and_kill():
    with ProcessPool(1) as pool:
        running = pool.submit(nap, 60)
        queued = [pool.submit(identity, n) for n in range(5)]
        while not running.running():
            time.sleep(0.001)
        assert not running.cancel()
        assert queued[2].cancel() and queued[2].cancelled() and queued[2].cancel()
        with pytest.raises(CancelledError):
            queued[2].result(0)
        assert running.kill() and running.cancelled()
        assert [queued[n].result(GENEROUS) for n in (0, 1, 3, 4)] == [0, 1, 3, 4]
        assert not queued[0].cancel() and not queued[0].kill()


def test_priorities_and_a_bounded_queue():
    with ProcessPool(1, queue=4) as pool:
        pool.submit(nap, 0.2)
        with pytest.raises(TimeoutError):
            for _ in range(20):
                pool.submit_with(nap, 0.2, submit_timeout=0.001)
        urgent = pool.submit_with(identity, 1, task_priority=9)
        assert urgent.result(GENEROUS) == 1
        pool.shutdown(cancel_futures=True)


@ours
def test_large_arrays_go_through_shared_memory(kind):
    with make(kind) as pool:
        array = numpy.arange(300_000, dtype=float)
        for _ in range(20):
            assert numpy.array_equal(pool.submit(double, array).result(GENEROUS), array * 2)
        kept = [pool.submit(double, array + n).result(GENEROUS) for n in range(10)]
        text = os.urandom(200_000)
        assert pool.submit(identity, text).result(GENEROUS) == text
        mixed = pool.submit(identity, {"a": array, "b": [text, numpy.zeros(3)]}).result(GENEROUS)
        assert numpy.array_equal(mixed["a"], array) and mixed["b"][0] == text
        # A worker that dies takes nothing along that was given out.
        with pytest.raises(TaskLost):
            pool.submit(end, "kill").result(GENEROUS)
        assert pool.submit(identity, 1).result(GENEROUS) == 1
    assert all(numpy.array_equal(result, (array + n) * 2) for n, result in enumerate(kept))


def test_results_are_views_and_their_memory_is_used_again():
    with ProcessPool(1) as pool:
        array = numpy.ones(200_000)
        first = pool.submit(double, array).result(GENEROUS)
        assert not first.flags.owndata
        address = first.ctypes.data
        del first
        found = {pool.submit(double, array).result(GENEROUS).ctypes.data for _ in range(10)}
        assert len(found | {address}) <= 4


@ours
def test_a_result_that_is_part_of_the_argument_goes_back_in_place(kind):
    array = numpy.arange(200_000, dtype=float)
    with ProcessPool(1, kind) as pool:
        same = pool.submit(identity, array).result(GENEROUS)
        assert numpy.array_equal(same, array) and not numpy.shares_memory(same, array)
        assert same.flags.writeable
        one, two = pool.submit(halves, array).result(GENEROUS)
        assert numpy.array_equal(numpy.concatenate([one, two]), array)
        kept = [pool.submit(add_in_place, array + n).result(GENEROUS) for n in range(10)]
        assert pool.submit(memory_of_results).result(GENEROUS) == 0
        same[:] = -1
    assert all(numpy.array_equal(result, array + n + 1) for n, result in enumerate(kept))


def blocks_in_use(pool):
    pool._writer.write([b""])  # which looks for what is free
    return len(pool._writer._used) - 1


def test_children_made_by_fork_free_nothing():
    array = numpy.ones(200_000)
    reader, writer = os.pipe()
    with ProcessPool(1, "fork") as pool:
        result = pool.submit(identity, array).result(GENEROUS)
        kept = pool.submit(double, array).result(GENEROUS)
        again = pool.submit(fork_and_return, [array], reader, writer).result(GENEROUS)
        pid = os.fork()
        if pid == 0:
            gone = weakref.ref(result), weakref.ref(kept)
            del result, kept
            os._exit(any(one() is not None for one in gone))
        assert os.waitpid(pid, 0)[1] == 0
        os.write(writer, b"x")
        assert pool.submit(wait_for_child).result(GENEROUS) == 0
        for _ in range(4):
            pool.submit(add_in_place, array + 5).result(GENEROUS)
            pool.submit(double, array + 5).result(GENEROUS)
        assert (result == 1).all() and (kept == 2).all() and (again == 1).all()
    os.close(reader)
    os.close(writer)


def test_what_workers_have_kept_is_free_when_they_have_gone():
    array = numpy.ones(200_000)
    with ProcessPool(1, "fork", max_tasks_per_child=1) as pool:
        for _ in range(12):
            pool.submit(put_aside_and_return, array).result(GENEROUS)
        assert blocks_in_use(pool) < 8


def test_a_block_is_free_when_nobody_reads_it_any_more():
    fd = make_file()
    writer, reader = Writer(fd, 1 << 16), Reader(fd, 3)

    def written():
        return writer.write([bytes(70_000)], keep=True)

    first, size = written()
    assert written()[0] != first
    writer.let_go(first, unread=False)  # by nobody: its task failed before
    assert written()[0] == first
    views = reader.read(first, size, [70_000])
    writer.let_go(first, unread=False)
    assert written()[0] != first
    writer.forget(3)
    assert written()[0] == first
    assert reader.is_in_use(first) and len(views[0]) == 70_000
    writer.close()


def test_a_task_that_raised_keeps_nothing():
    with ProcessPool(1, "fork") as pool:
        with pytest.raises(ValueError):
            pool.submit(fail_with, numpy.ones(200_000)).result(GENEROUS)
        assert blocks_in_use(pool) == 0


@pytest.mark.parametrize("address, count", [("pipe:", 9000), ("mq:/{}?depth=4&size=512", 200)])
def test_any_number_of_buffers(fresh, address, count):
    with ProcessPool(1, "fork", address=address.format(fresh("many"))) as pool:
        assert pool.submit(sum_of, many(count)).result(GENEROUS) == sum(range(count))
        assert sum_of(pool.submit(many, count).result(GENEROUS)) == sum(range(count))
        assert blocks_in_use(pool) == 0


def a_function_whose_name_is_longer_than_the_messages_of_its_address_are_which_is_no_reason_for_it_not_to_run(array):
    return array.sum()


def test_a_long_name_over_small_messages(fresh):
    function = a_function_whose_name_is_longer_than_the_messages_of_its_address_are_which_is_no_reason_for_it_not_to_run
    with ProcessPool(1, "fork", address=f"mq:/{fresh('name')}?depth=4&size=128") as pool:
        assert pool.submit(function, numpy.ones(200_000)).result(GENEROUS) == 200_000
        assert pool.submit(function, numpy.ones(3)).result(GENEROUS) == 3


def test_an_empty_array_beside_a_large_one():
    with ProcessPool(1, "fork") as pool:
        one, two = pool.submit(identity, (numpy.empty(0), numpy.ones(200_000))).result(GENEROUS)
        assert one.size == 0 and two.sum() == 200_000
        assert pool.submit(memory_of_results).result(GENEROUS) == 0


def test_its_memory_is_used_again():
    with ProcessPool(1) as pool:
        array = numpy.ones(200_000)
        found = {pool.submit(identity, array).result(GENEROUS).ctypes.data for _ in range(10)}
        assert len(found) <= 2
        assert pool.submit(memory_of_results).result(GENEROUS) == 0


def test_a_result_that_somebody_else_has_or_that_is_little_is_copied():
    array = numpy.arange(200_000, dtype=float)
    with ProcessPool(1) as pool:
        result = pool.submit(put_aside_and_return, array).result(GENEROUS)
        result[:] = 0
        assert pool.submit(what_was_put_aside).result(GENEROUS) == array.sum()
        assert pool.submit(memory_of_results).result(GENEROUS) > 0
    with ProcessPool(1) as pool:
        one, two = pool.submit(all_but_one, array).result(GENEROUS)
        one[:] = 0
        assert numpy.array_equal(two, array[:-1])
        assert pool.submit(memory_of_results).result(GENEROUS) > 0
    with ProcessPool(1) as pool:
        little = pool.submit(last_ten, array).result(GENEROUS)
        assert numpy.array_equal(little, array[-10:])
        assert pool.submit(memory_of_results).result(GENEROUS) > 0


@pytest.mark.parametrize("address", ["ring:{}?largest=256&capacity=16384", "mq:/{}?depth=4&size=512"])
def test_what_the_address_does_not_carry_goes_through_shared_memory(fresh, address):
    text = "x" * 3000
    with ProcessPool(2, "fork", address=address.format(fresh("pool"))) as pool:
        assert pool.submit(identity, text).result(GENEROUS) == text
        assert pool.submit(fail, text).exception(GENEROUS).args == (text,)
        array = numpy.arange(200_000, dtype=float)
        assert numpy.array_equal(pool.submit(identity, array).result(GENEROUS), array)
        assert list(pool.map(add, range(500))) == list(range(500))


def test_odd_tasks():
    with ProcessPool(2) as pool:
        assert pool.submit(fork_in_task).result(GENEROUS) == 0
        with pytest.raises(RuntimeError, match="Odd"):  # an exception that unpickles to nothing
            pool.submit(odd).result(GENEROUS)
        with pytest.raises(SystemExit):
            pool.submit(sys.exit, 4).result(GENEROUS)
        with pytest.raises(TypeError, match="belongs to the process"):
            pool.submit(identity, pool).result(GENEROUS)
        assert pool.submit(identity, 1).result(GENEROUS) == 1


def test_a_worker_that_never_gets_to_work_fails_tasks_and_says_why():
    with ProcessPool(1, initializer=fail, initargs=("broken set-up",)) as pool:
        with pytest.raises(TaskLost, match="broken set-up"):
            pool.submit(identity, 1).result(GENEROUS)


def test_a_worker_whose_initializer_never_ends_is_killed():
    with ProcessPool(1, "fork", initializer=time.sleep, initargs=(1000,), start_timeout=0.02, task_timeout=1) as pool:
        with pytest.raises(TaskLost, match="asked for no task"):
            pool.submit(identity, 1).result(GENEROUS)


def test_options_that_make_no_sense():
    for options in [{"max_workers": 0}, {"initializer": 5}, {"max_tasks_per_child": 0}, {"min_workers": 3, "max_workers": 2}]:
        with pytest.raises((ValueError, TypeError, OSError)):
            ProcessPool(**options)


def run(text, *arguments, **environment):
    path = [os.path.dirname(os.path.abspath(__file__))]
    program = f"import sys; sys.path += {path!r}\n" + textwrap.dedent(text)
    return subprocess.Popen([sys.executable, "-W", "error", "-c", program, *arguments], stdout=subprocess.PIPE, text=True,
                            env={**os.environ, **environment})


@ours
def test_nothing_is_left(kind):
    # In a process of its own: multiprocessing keeps helpers of its own, which are made first.
    text = """
    import os, threading, time
    from test_pool import ProcessPool, TaskLost, end, identity, nap
    def look():
        files = {os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")}
        return len(os.listdir("/proc/self/fd")), threading.active_count()
    def use():
        with ProcessPool(2, sys.argv[1]) as pool:
            futures = [pool.submit(identity, n) for n in range(50)] + [pool.submit(end, "kill")]
            pids = [worker["pid"] for worker in pool.statistics()["workers"]]
            assert [future.result(60) for future in futures[:50]] == list(range(50))
            assert isinstance(futures[50].exception(60), TaskLost)
        return pids
    use()
    before = look()
    pids = use()
    deadline = time.monotonic() + 30
    while look() != before or any(os.path.exists(f"/proc/{pid}") for pid in pids):
        assert time.monotonic() < deadline, (before, look())
        time.sleep(0.01)
    print("nothing")
    """
    child = run(text, kind)
    assert child.communicate(timeout=120)[0] == "nothing\n" and child.returncode == 0


@ours
def test_workers_end_with_their_parent(kind):
    text = """
    import time
    from test_pool import ProcessPool, nap
    pool = ProcessPool(2, sys.argv[1])
    pids = set()
    while len(pids) < 2:
        pids.update(future.result(60) for future in [pool.submit(nap, 0.05) for _ in range(4)])
    futures = [pool.submit(nap, 60) for _ in range(2)]
    print(*pids, flush=True)
    time.sleep(60)
    """
    with tempfile.TemporaryDirectory() as directory:  # for what multiprocessing leaves when it is killed
        child = run(text, kind, TMPDIR=directory)
        pids = child.stdout.readline().split()
        assert len(pids) == 2
        child.kill()
        child.communicate(timeout=60)
        deadline = time.monotonic() + 30
        while any(alive(pid) for pid in pids):
            assert time.monotonic() < deadline
            time.sleep(0.01)


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return ") Z " not in file.read()
    except OSError:
        return False


def until_asleep(pid):
    """Python loses a signal that comes just before a lock is waited for, until that wait is over."""
    deadline = time.monotonic() + 60
    for _ in range(3):
        while True:
            with open(f"/proc/{pid}/stat") as file:
                if file.read().rsplit(")", 1)[1].split()[0] == "S":
                    break
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(0.01)


def test_a_program_that_ends_without_shutdown_finishes_its_tasks():
    text = """
    from test_pool import ProcessPool, nap
    pool = ProcessPool(2, "fork")
    pool.submit(nap, 0.2).add_done_callback(lambda future: print("done", future.result() > 0, flush=True))
    """
    child = run(text)
    assert child.communicate(timeout=60)[0] == "done True\n" and child.returncode == 0


def test_ctrl_c_ends_everything_without_a_storm():
    text = """
    import os
    from test_pool import ProcessPool, nap
    pool = ProcessPool(2)
    first = pool.submit(nap, 0)
    print(first.result(60), flush=True)
    future = pool.submit(nap, 60)
    try:
        print("waiting", flush=True)
        future.result(60)
    except KeyboardInterrupt:
        pool.shutdown(timeout=0)
        print("interrupted", future.cancelled(), flush=True)
    """
    path = [os.path.dirname(os.path.abspath(__file__))]
    program = f"import sys; sys.path += {path!r}\n" + textwrap.dedent(text)
    child = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    worker = int(child.stdout.readline())
    assert child.stdout.readline() == "waiting\n"
    until_asleep(child.pid)
    os.killpg(child.pid, signal.SIGINT)  # as the terminal does
    out, err = child.communicate(timeout=60)
    assert out == "interrupted True\n" and "Traceback" not in err, err
    assert not alive(worker)
