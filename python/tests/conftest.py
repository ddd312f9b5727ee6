import gc
import itertools
import os
import signal
import sys
import warnings

import pytest

#: Long enough for anything that should happen, in seconds.
GENEROUS = 30.0
#: For waits that are expected to run out.
SHORT = 0.02

_count = itertools.count()
_REAL_TIME = range(signal.SIGRTMIN, signal.SIGRTMAX + 1)


@pytest.fixture
def fresh():
    """Gives names that no other test and no other run uses."""
    return lambda prefix: f"wwpytest-{prefix}-{os.getpid()}-{next(_count)}"


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node):
    """Of several processes that run tests, each treats warnings as this one was told to, and so do those that it starts."""
    node.workerinput["warnoptions"] = sys.warnoptions


def pytest_configure(config):
    # A process whose tests are run by others has a thread beside that of the tests, made before this; if both took
    # real-time signals, they would come in no order. It inherits what is blocked here.
    if hasattr(config, "workerinput"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _REAL_TIME)
    elif config.getoption("numprocesses", None):
        signal.pthread_sigmask(signal.SIG_BLOCK, _REAL_TIME)
    options = getattr(config, "workerinput", {}).get("warnoptions", [])
    sys.warnoptions[:] = sys.warnoptions or options
    if "error" in options:
        warnings.simplefilter("error")


@pytest.fixture(autouse=True)
def no_descriptor_left():
    """Every test closes what it opened."""
    before = len(os.listdir("/proc/self/fd"))
    yield
    if len(os.listdir("/proc/self/fd")) != before:
        gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


def pytest_terminal_summary(terminalreporter):
    """One line for each test that was left out, for tools/test."""
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        terminalreporter.write_line(f"skip {report.nodeid.replace(' ', '_')}: {reason}")


@pytest.fixture(scope="session")
def multiprocessing_helpers():
    """multiprocessing has helpers of its own, which it keeps to the end of the process: made before anybody counts."""
    from multiprocessing import forkserver, resource_tracker

    resource_tracker.ensure_running()
    forkserver.ensure_running()
