"""Process pools: the pool's process, its children, and what is around them."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import CancelledError

import pytest
from test_pool import GENEROUS, alive, identity, run

from wigwag.pool import ProcessPool

pytestmark = pytest.mark.usefixtures("multiprocessing_helpers")


def wait_for(path):
    while not os.path.exists(path):
        time.sleep(0.001)
    return True


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
    import os, signal
    from test_pool import ProcessPool, nap
    if __name__ == "__main__":
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
        process = run(text, kind, TMPDIR=directory, PYTHONWARNINGS="ignore")
        worker, child = map(int, process.stdout.readline().split())
        try:
            process.kill()
            process.communicate(timeout=60)
            deadline = time.monotonic() + GENEROUS
            while alive(worker):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            assert alive(child)
        finally:
            os.kill(child, signal.SIGKILL)
