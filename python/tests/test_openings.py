"""What lies in memory is made and opened while other threads run: the kernel may take long for it."""

import sys
import threading
import time

import pytest

import wigwag
from conftest import GENEROUS

LARGE = 4 << 20


@pytest.fixture
def unswitched():
    """A thread gets the interpreter only when another one lets go of it."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(3600)
    yield
    sys.setswitchinterval(before)


def lets_others_run(call, seconds=GENEROUS):
    """Whether another thread, which waits for the interpreter alone, gets it from one of many calls."""
    ran = []
    begin = threading.Lock()
    begin.acquire()

    def other():
        begin.acquire()
        ran.append(True)

    thread = threading.Thread(target=other)
    thread.start()
    begin.release()
    deadline = time.monotonic() + seconds
    while not ran and time.monotonic() < deadline:
        call()  # what it gives goes at once, and without letting go of the interpreter as closing does
    found = bool(ran)
    thread.join()
    return found


@pytest.mark.parametrize("kind", ["ring", "producer", "consumer", "topic", "cell", "log"])
def test_making_one_lets_other_threads_run(kind, tmp_path, fresh, unswitched):
    name = fresh("openings")
    of_ring, of_log = f"ring:{name}", f"log:{name}?file={tmp_path / 'file'}"
    make = {
        "ring": lambda: wigwag.Ring.anonymous(LARGE),
        "producer": lambda: wigwag.RingProducer.anonymous(LARGE),
        "consumer": lambda: (wigwag.RingConsumer.open(of_ring, LARGE), wigwag.Ring.remove(of_ring)),
        "topic": lambda: wigwag.Topic.anonymous(LARGE),
        "cell": lambda: wigwag.Cell.anonymous(LARGE),
        "log": lambda: (wigwag.Log.open(of_log, capacity=LARGE, writer="never"), wigwag.Log.remove(of_log)),
    }[kind]
    assert not lets_others_run(lambda: None, 0.05)
    assert lets_others_run(make)


@pytest.mark.parametrize("how", ["open_or_create", "open"])
def test_memory_lets_other_threads_run(how, fresh, unswitched):
    address, another = (f"shm:/{fresh('openings')}" for _ in range(2))
    with wigwag.Shm.create(address, LARGE):
        call = {
            "open_or_create": lambda: (wigwag.Shm.open_or_create(another, LARGE), wigwag.Shm.remove(another)),
            "open": lambda: wigwag.Shm.open(address, populate=True),
        }[how]
        try:
            assert lets_others_run(call)
        finally:
            wigwag.Shm.remove(address)
