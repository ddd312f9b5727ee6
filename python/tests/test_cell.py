"""The latest value in shared memory."""

import errno
import os
import pickle
import select
import signal
import threading

import pytest
from conftest import GENEROUS, SHORT

import wigwag


def test_the_latest_is_read_as_often_as_one_likes():
    with wigwag.Cell.anonymous(64) as cell:
        assert cell.read() is None and cell.largest == 64
        assert cell.write(b"first") == 1
        assert cell.write(memoryview(b"latest")) == 2
        assert cell.read() == cell.read() == (b"latest", 2)
        room = bytearray(10)
        assert cell.read_into(room) == (6, 2) and room[:6] == b"latest"
        with pytest.raises(OSError) as caught:
            cell.read_into(bytearray(5))
        assert caught.value.errno == errno.EMSGSIZE and caught.value.true_size == 6
        with pytest.raises(OSError) as caught:
            cell.write(bytes(65))
        assert caught.value.errno == errno.EMSGSIZE and caught.value.true_size == 64
        cell.write(b"")
        assert cell.read() == (b"", 3)


def test_a_change_is_waited_for():
    with wigwag.Cell.anonymous() as cell:
        with pytest.raises(BlockingIOError):
            cell.wait(0, 0)
        with pytest.raises(TimeoutError):
            cell.wait(0, SHORT)
        pid = os.fork()
        if pid == 0:
            cell.write(b"child's")
            os._exit(0)
        assert cell.wait(0, GENEROUS) == 1 and cell.read() == (b"child's", 1)
        os.waitpid(pid, 0)
        bell = cell.fileno()
        assert select.select([bell], [], [], 0)[0] == []
        cell.write(b"new")
        assert select.select([bell], [], [], GENEROUS)[0] == [bell]


def test_closing_ends_waits():
    cell = wigwag.Cell.anonymous()
    result = []

    def wait():
        try:
            cell.wait(5, GENEROUS)
        except (OSError, ValueError) as error:
            result.append(getattr(error, "errno", errno.ECANCELED))

    thread = threading.Thread(target=wait)
    thread.start()
    cell.close()
    thread.join()
    assert result == [errno.ECANCELED]


def test_a_writer_killed_at_any_time_tears_nothing():
    with wigwag.Cell.anonymous(4096) as cell:
        for _ in range(5):
            pid = os.fork()
            if pid == 0:
                while True:
                    for byte in range(256):
                        cell.write(bytes([byte]) * 4096)
            after = cell.wait((cell.read() or (b"", 0))[1] + 50, GENEROUS)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            value, sequence = cell.read()
            assert len(set(value)) == 1 and len(value) == 4096 and sequence >= after


def test_by_name_by_descriptor_and_by_pickle(fresh):
    address = f"cell:{fresh('cell')}?largest=10"
    with wigwag.Cell.open(address) as cell:
        try:
            with pickle.loads(pickle.dumps(cell)) as other, wigwag.Cell.from_fd(os.dup(cell.segment_fd())) as third:
                assert other.address == address.split("?")[0] and third.largest == other.largest == 10
                other.write(b"seen")
                assert cell.read() == third.read() == (b"seen", 1)
        finally:
            wigwag.Cell.remove(address)
        with pytest.raises(OSError) as caught:
            cell.check()
        assert caught.value.errno == errno.ESTALE
    with wigwag.Cell.anonymous() as cell, pytest.raises(TypeError, match="no name"):
        pickle.dumps(cell)
