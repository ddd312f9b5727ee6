"""Process pools: the pool's process, its children, and what is around them."""

import os
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
