"""Process pools: the pool's process, its children, and what is around them."""

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import CancelledError

import pytest
from test_pool import GENEROUS, alive, identity, run

import wigwag
from wigwag.pool import ProcessPool

pytestmark = pytest.mark.usefixtures("multiprocessing_helpers")


def wait_for(path):
    while not os.path.exists(path):
        time.sleep(0.001)
    return True


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
