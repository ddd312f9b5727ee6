"""Process pools: the pool's process, its children, and what is around them."""

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import CancelledError

import pytest
from test_pool import GENEROUS, alive, identity, run

import wigwag
from wigwag.pool import ProcessPool, TaskLost

pytestmark = pytest.mark.usefixtures("multiprocessing_helpers")


def wait_for(path):
    while not os.path.exists(path):
        time.sleep(0.001)
    return True


def meet(directory, count):
    """Returns once so many workers are in here together."""
    with open(os.path.join(directory, str(os.getpid())), "w"):
        pass
    while len(os.listdir(directory)) < count:
        time.sleep(0.001)
    return os.getpid()


@pytest.mark.parametrize("kind", ["fork", "forkserver"])
@pytest.mark.parametrize("short", [0, 500])
def test_tasks_that_wait_for_each_other_get_workers_of_their_own(tmp_path, kind, short):
    with ProcessPool(3, kind, min_workers=1, shrink_after=0.02) as pool:
        for number in range(short):  # one by one, so that many would be sent ahead
            assert pool.submit(identity, number).result(GENEROUS) == number
        tasks = [pool.submit(meet, str(tmp_path), 3) for _ in range(3)]
        assert len({task.result(GENEROUS) for task in tasks}) == 3
        deadline = time.monotonic() + GENEROUS
        while len(pool.statistics()["workers"]) > 1:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        assert pool.submit(identity, 1).result(GENEROUS) == 1


@pytest.mark.parametrize("address", ["ring:{}", "mq:/{}", "sysv-mq:/tmp/{}#1"])
@pytest.mark.parametrize("kind", [None, "spawn", multiprocessing.get_context("forkserver")])
def test_an_address_that_workers_could_not_come_by_is_refused(fresh, address, kind):
    address = address.format(fresh("refused"))
    for given in (address, wigwag.Address(address)):
        with pytest.raises(ValueError, match='mp_context="fork"'):
            ProcessPool(1, kind, address=given)


@pytest.mark.parametrize("more", ["cancel_futures", "timeout"])
def test_a_second_shutdown_may_ask_for_more(tmp_path, more):
    pool = ProcessPool(1, "fork")
    running = pool.submit(wait_for, str(tmp_path / "go"))
    queued = pool.submit(identity, 1)
    while not running.running():
        time.sleep(0.001)
    pool.shutdown(wait=False)
    if more == "timeout":
        pool.shutdown(wait=False, timeout=0)
        with pytest.raises(CancelledError):
            running.result(GENEROUS)
    else:
        pool.shutdown(wait=False, cancel_futures=True)
        with pytest.raises(CancelledError):
            queued.result(GENEROUS)
        (tmp_path / "go").touch()
        assert running.result(GENEROUS)
    pool.shutdown()


@pytest.fixture
def start():
    """Makes pools that are ended in any case."""
    made = []
    yield lambda *arguments, **options: made.append(ProcessPool(*arguments, **options)) or made[-1]
    for pool in made:
        pool.shutdown(timeout=0)


class Entered:
    """A pool's core that tells that somebody is about to submit."""

    def __init__(self, core):
        self.core, self.entered = core, threading.Event()

    def __getattr__(self, name):
        return getattr(self.core, name)

    def submit(self, *arguments):
        self.entered.set()
        return self.core.submit(*arguments)


@pytest.mark.parametrize("end", ["shutdown", "kill_workers", "terminate_workers"])
def test_who_waits_for_a_place_is_told_of_the_end(start, tmp_path, end):
    pool = start(1, "fork", queue=1)
    futures = [pool.submit(wait_for, str(tmp_path / "go"))]
    while not futures[0].running():
        time.sleep(0.001)
    with pytest.raises(TimeoutError):
        while True:
            futures.append(pool.submit_with(identity, 1, submit_timeout=0.001))
    pool._core = Entered(pool._core)
    told = []

    def submit():
        try:
            told.append(pool.submit(identity, 2).exception(GENEROUS))
        except BaseException as error:
            told.append(error)

    thread = threading.Thread(target=submit)
    thread.start()
    assert pool._core.entered.wait(GENEROUS)
    if end == "shutdown":
        pool.shutdown(wait=False)
    else:
        getattr(pool, end)()
    thread.join(GENEROUS)
    (tmp_path / "go").touch()
    pool.shutdown()
    # Where places come free first, the task may still be taken, and is cancelled.
    assert type(told[0]) is RuntimeError or end == "terminate_workers" and isinstance(told[0], CancelledError), told
    if end == "shutdown":
        assert str(told[0]) == "cannot schedule new futures after shutdown"
        assert [future.result(0) for future in futures] == [True] + [1] * (len(futures) - 1)


def tell_and_wait(begun, go):
    with open(begun, "a") as file:
        file.write(f"{os.getpid()}\n")
    return wait_for(go)


def wait_in_spite_of_sigterm(begun, go):
    signal.signal(signal.SIGTERM, lambda *_: open(f"{go}-asked", "x").close())
    return tell_and_wait(begun, go)


def lines(path):
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.parametrize("kind", ["fork", "forkserver", "spawn"])
@pytest.mark.parametrize("how", ["kill", "terminate"])
@pytest.mark.parametrize("retries", [0, 3])
def test_the_workers_are_ended_at_once(start, tmp_path, kind, how, retries):
    begun = tmp_path / "begun"
    pool = start(2, kind, retries=retries)
    running = [pool.submit(tell_and_wait, str(begun), str(tmp_path / "never")) for _ in range(2)]
    while len(lines(begun)) < 2:
        time.sleep(0.001)
    queued = [pool.submit(identity, n) for n in range(200)]
    getattr(pool, f"{how}_workers")()
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.submit(identity, 1)
    for future in running:
        if how == "kill" or retries:
            with pytest.raises(CancelledError):
                future.result(GENEROUS)
        else:
            lost = future.exception(GENEROUS)
            assert isinstance(lost, TaskLost) and lost.signal == signal.SIGTERM and str(lost.pid) in lines(begun)
    for future in queued:
        with pytest.raises(CancelledError):
            future.result(GENEROUS)
    pool.shutdown()
    assert len(lines(begun)) == 2 and not any(alive(int(pid)) for pid in lines(begun)), "none is tried again"
    found = pool.statistics()
    assert found["submitted"] == 202 == found["cancelled"] + found["lost"]
    getattr(pool, f"{how}_workers")()  # there are none


def test_a_worker_may_have_its_own_way_with_sigterm(start, tmp_path):
    begun, go = tmp_path / "begun", tmp_path / "go"
    pool = start(1)
    future = pool.submit(wait_in_spite_of_sigterm, str(begun), str(go))
    while not lines(begun):
        time.sleep(0.001)
    pool.terminate_workers()
    assert wait_for(f"{go}-asked") and not future.done()
    go.touch()
    assert future.result(GENEROUS)
    pool.shutdown()


def test_workers_end_although_the_pool_is_shutting_down(start, tmp_path):
    begun = tmp_path / "begun"
    pool = start(1, "fork")
    future = pool.submit(tell_and_wait, str(begun), str(tmp_path / "never"))
    pool.shutdown(wait=False)
    pool.kill_workers()
    with pytest.raises(CancelledError):
        future.result(GENEROUS)
    pool.shutdown()


@pytest.mark.parametrize("kind", ["forkserver", "spawn"])
def test_children_of_the_pools_process_do_not_keep_its_workers(kind):
    text = """
    import os, signal, warnings
    from test_pool import ProcessPool, nap
    warnings.simplefilter("ignore", DeprecationWarning)  # that there are threads
    pool = ProcessPool(1, sys.argv[1])
    worker = pool.submit(nap, 0).result(60)
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        signal.alarm(60)
        signal.pause()
    pool.submit(nap, 60)
    print(worker, child, flush=True)
    signal.pause()
    """
    with tempfile.TemporaryDirectory() as directory:  # for what multiprocessing leaves when it is killed
        process = run(text, kind, TMPDIR=directory)
        worker, child = map(int, process.stdout.readline().split())
        try:
            process.kill()
            process.wait(60)
            deadline = time.monotonic() + 30
            while alive(worker):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            assert alive(child)
        finally:
            os.kill(child, signal.SIGKILL)
        assert process.stdout.read() == ""  # multiprocessing's helpers have gone, too
        process.stdout.close()


def what_a_program_does_with_ctrl_c():
    text = "import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    return subprocess.run([sys.executable, "-c", text], stdout=subprocess.PIPE, timeout=60, text=True).stdout


def ctrl_c_and_wakeup_fd():
    os.kill(os.getpid(), signal.SIGINT)
    return os.getpid(), signal.set_wakeup_fd(-1)


@pytest.mark.parametrize("kind", ["fork", "forkserver", "spawn"])
def test_ctrl_c_is_for_programs_that_tasks_start(kind):
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer)
    try:
        with ProcessPool(1, kind) as pool:
            assert pool.submit(what_a_program_does_with_ctrl_c).result(GENEROUS) == "True\n"
            worker, wakeup = pool.submit(ctrl_c_and_wakeup_fd).result(GENEROUS)
            assert wakeup == -1 and pool.submit(os.getpid).result(GENEROUS) == worker
            os.kill(worker, signal.SIGINT)  # while it waits
            assert pool.submit(os.getpid).result(GENEROUS) == worker
    finally:
        signal.set_wakeup_fd(before)
        os.close(writer)
    assert os.read(reader, 1) == b""
    os.close(reader)


def test_a_worker_whose_parent_has_gone_before_it_begins_ends():
    text = """
    import multiprocessing, os, sys, time
    from wigwag._pool_worker import main
    class Place:
        life = 0
        @property
        def error(self):
            print("it works for nobody", flush=True)
    def begin(parent):
        while os.getppid() == parent:
            time.sleep(0.001)
        main(Place(), 1, None, ())
    if os.fork() == 0:
        multiprocessing.get_context("fork").Process(target=begin, args=(os.getpid(),)).start()
        os._exit(0)
    os.wait()
    """
    process = run(text)
    assert process.communicate(timeout=60) == ("", None) and process.returncode == 0
