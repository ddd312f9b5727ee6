"""Process pools: everything that concurrent.futures' has, the same tests on both; and what ours has besides."""

import asyncio
import concurrent.futures
import gc
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

import pytest

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


def touch(path):
    time.sleep(0.1)
    path.touch()


def until(condition):
    deadline = time.monotonic() + GENEROUS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


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


def test_a_callback_that_exits_holds_up_no_other_task(caplog):
    with ProcessPool(1, "fork") as pool:
        first, second, said = pool.submit(nap, 0.1), pool.submit(identity, 2), []
        first.add_done_callback(lambda future: sys.exit("of a callback"))
        first.add_done_callback(lambda future: said.append(future.done()))
        assert first.result(GENEROUS) and second.result(GENEROUS) == 2
        assert pool.submit(identity, 3).result(GENEROUS) == 3
        assert said == [True] and "exception calling callback" in caplog.text


@both
def test_a_pool_that_is_forgotten_does_its_tasks_and_goes(kind, tmp_path):
    paths = [tmp_path / str(number) for number in range(8)]
    before = set(threading.enumerate())
    pool = make(kind)
    futures = [pool.submit(touch, path) for path in paths]
    futures[0].add_done_callback(lambda future: (tmp_path / "told").touch())
    forgotten = weakref.ref(pool)
    del pool, futures
    gc.collect()
    until(lambda: all(path.exists() for path in [*paths, tmp_path / "told"]))
    until(lambda: (gc.collect(), forgotten())[1] is None)
    until(lambda: set(threading.enumerate()) <= before)


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


class Unspeakable(Exception):
    """Cannot be pickled, and cannot be shown."""

    def __reduce__(self):
        raise self

    def __str__(self):
        raise self


def raise_unspeakable():
    raise Unspeakable


def test_an_exception_that_says_nothing_fails_its_task_alone():
    with ProcessPool(1) as pool:
        worker = pool.submit(nap, 0).result(GENEROUS)
        with pytest.raises(RuntimeError, match="Unspeakable"):
            pool.submit(raise_unspeakable).result(GENEROUS)
        assert pool.submit(nap, 0).result(GENEROUS) == worker


def owned():
    """Descriptors and children of this process."""
    children = set()
    for thread in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{thread}/children") as file:
            children.update(file.read().split())
    return set(os.listdir("/proc/self/fd")), children


def test_a_pool_that_cannot_be_made_leaves_nothing(monkeypatch):
    def no_thread(self):
        raise RuntimeError("can't start new thread")

    with ProcessPool(1, mp_context="fork"):
        pass
    before = owned()
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", no_thread)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            ProcessPool(1, mp_context="fork")
    assert owned() == before


def test_at_exit_all_pools_end_though_one_raises(monkeypatch):
    from wigwag import pool as module

    class Stub:
        def __init__(self):
            self.ended = False

        def shutdown(self):
            self.ended = True
            raise KeyboardInterrupt

    stubs = [Stub(), Stub()]
    monkeypatch.setattr(module, "_alive", stubs)
    with pytest.raises(KeyboardInterrupt):
        module._at_exit()
    assert all(stub.ended for stub in stubs)


def test_an_interrupted_shutdown_leaves_what_runs_to_the_next():
    class Interrupted(Exception):
        pass

    def handler(*_):
        raise Interrupted

    before = signal.signal(signal.SIGALRM, handler)
    try:
        pool = ProcessPool(1)
        pool.submit(nap, 0).result(GENEROUS)
        future = pool.submit(nap, 1)
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(Interrupted):
            pool.shutdown()
        pool.shutdown()
        assert future.result(0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
