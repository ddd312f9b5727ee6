"""Messages through shared memory."""

import errno
import os
import pickle
import signal
import threading
import time

import pytest
from conftest import GENEROUS, SHORT

import wigwag


def balanced(ring):
    seen = ring.statistics()
    assert seen.sent == seen.released + seen.borrowed + seen.queued + seen.dropped, seen
    return seen


def test_messages_come_whole_and_in_order():
    with wigwag.Ring.anonymous(4096, 64) as ring:
        messages = [b"", b"x", bytes(64), memoryview(b"view"), bytearray(b"array")]
        for message in messages:
            ring.send(message)
        for message in messages:
            received = ring.recv()
            assert received.data == bytes(message) and received.deliveries == 1
        with pytest.raises(BlockingIOError):
            ring.recv(0)
        with pytest.raises(TimeoutError):
            ring.recv(SHORT)
        with pytest.raises(OSError) as caught:
            ring.send(bytes(65))
        assert caught.value.errno == errno.EMSGSIZE
        assert balanced(ring).released == 5
        assert "deliveries=1" in repr(received) and "released=5" in repr(ring.statistics())


@pytest.mark.parametrize("full, refused, dropped", [("fail", True, 0), ("drop-newest", False, 3), ("drop-oldest", False, 3)])
def test_what_happens_when_it_is_full(full, refused, dropped):
    with wigwag.Ring.anonymous(4096, 64, full=full) as ring:
        slots = ring.statistics().slots
        for number in range(slots):
            ring.send(bytes([number]))
        for number in range(3):
            if refused:
                with pytest.raises(BlockingIOError):
                    ring.send(b"more", GENEROUS)
            else:
                ring.send(b"more")
        seen = balanced(ring)
        assert seen.dropped == dropped and seen.queued == slots
        assert ring.recv().data == bytes([3 if full == "drop-oldest" else 0])


def test_a_full_ring_is_waited_for():
    with wigwag.Ring.anonymous(1024, 64) as ring:
        for _ in range(ring.statistics().slots):
            ring.send(b"x")
        with pytest.raises(TimeoutError):
            ring.send(b"x", SHORT)
        thread = threading.Thread(target=lambda: ring.send(b"last", GENEROUS))
        thread.start()
        ring.recv()
        thread.join()
        assert balanced(ring).queued == ring.statistics().slots


def test_processes_work_together():
    with wigwag.Ring.anonymous(persistent=True) as ring:
        children = []
        for child in range(3):
            pid = os.fork()
            if pid == 0:
                for number in range(200):
                    ring.send(b"%d %d" % (child, number), GENEROUS)
                os._exit(0)
            children.append(pid)
        last = [-1, -1, -1]
        for _ in range(600):
            child, number = map(int, ring.recv(GENEROUS).data.split())
            assert number == last[child] + 1, "each producer's messages come in its order"
            last[child] = number
        for pid in children:
            assert os.waitpid(pid, 0)[1] == 0
        assert balanced(ring).sent == 600


def test_a_killed_producer_loses_nothing_that_it_had_sent():
    with wigwag.Ring.anonymous(role="consumer") as ring:
        ready, told = os.pipe()
        pid = os.fork()
        if pid == 0:
            ring.send(b"sent")
            os.write(told, b"x")
            while True:
                time.sleep(1)
        os.read(ready, 1)
        os.close(ready)
        os.close(told)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        assert ring.recv(GENEROUS).data == b"sent"
        with pytest.raises(BrokenPipeError):
            ring.recv(GENEROUS)


def test_closing_ends_waits():
    ring = wigwag.Ring.anonymous(persistent=True)
    result = []

    def wait():
        try:
            ring.recv(GENEROUS)
        except (OSError, ValueError) as error:
            result.append(getattr(error, "errno", errno.ECANCELED))

    thread = threading.Thread(target=wait)
    thread.start()
    ring.close()
    thread.join()
    assert result == [errno.ECANCELED]


def test_by_name_by_descriptor_and_by_pickle(fresh):
    address = f"ring:{fresh('ring')}?capacity=8192&largest=100"
    with wigwag.Ring.open(address) as ring:
        try:
            with pickle.loads(pickle.dumps(ring)) as other, wigwag.Ring.from_fd(os.dup(ring.segment_fd())) as third:
                assert other.address == address.split("?")[0] and third.statistics().largest == 100
                other.send(b"seen")
                assert third.recv(GENEROUS).data == b"seen" and ring.statistics().participants == 3
        finally:
            wigwag.Ring.remove(address)
        with pytest.raises(OSError) as caught:
            ring.check()
        assert caught.value.errno == errno.ESTALE
    with wigwag.Ring.anonymous() as ring, pytest.raises(TypeError, match="no name"):
        pickle.dumps(ring)
    for wrong in ({"full": "burst"}, {"role": "spectator"}, {"wait": "often"}):
        with pytest.raises(ValueError, match="must be"):
            wigwag.Ring.anonymous(**wrong)
