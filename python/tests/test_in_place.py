"""Messages and values written and read where they lie."""

import errno
import gc
import os

import numpy
import pytest
from conftest import GENEROUS, SHORT

import wigwag


def address_of(view):
    return numpy.frombuffer(view, dtype=numpy.uint8).__array_interface__["data"][0]


def balanced(ring):
    seen = ring.statistics()
    assert seen.sent == seen.released + seen.borrowed + seen.queued + seen.dropped + seen.dead_lettered, seen
    return seen


def test_an_array_is_built_in_a_message_and_read_in_it():
    with wigwag.Ring.anonymous(1 << 20, 1 << 16) as ring:
        message = ring.reserve(8000)
        array = numpy.frombuffer(message, dtype=numpy.float64)
        array[:] = numpy.arange(1000)
        assert len(message) == message.size == 8000 and array.nbytes == 8000
        written_at = array.__array_interface__["data"][0]
        del array
        message.commit()
        with ring.borrow() as message:
            array = numpy.frombuffer(message, dtype=numpy.float64)
            assert array.sum() == 499500.0 and message.deliveries == 1
            assert array.__array_interface__["data"][0] == written_at, "the very bytes that were written"
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 1
            del array
        seen = balanced(ring)
        assert seen.released == 1 and seen.borrowed == seen.writing == 0


@pytest.mark.parametrize("finish", ["commit", "abort"])
def test_room_is_not_finished_under_a_view(finish):
    with wigwag.Ring.anonymous() as ring:
        message = ring.reserve(4)
        view = memoryview(message)
        view[:] = b"view"
        with pytest.raises(BufferError, match="views"):
            getattr(message, finish)()
        assert ring.statistics().writing == 1
        view.release()
        getattr(message, finish)()
        for after in (message.commit, message.abort, lambda: message.buf, lambda: message.size, lambda: memoryview(message)):
            with pytest.raises(ValueError, match="closed"):
                after()
        assert "closed" in repr(message)
        assert balanced(ring).queued == (finish == "commit")


def test_a_message_is_not_released_under_a_view():
    with wigwag.Ring.anonymous() as ring:
        ring.send(b"message")
        message = ring.borrow()
        view = message.buf
        assert view.readonly and bytes(view) == b"message"
        with pytest.raises(BufferError, match="views"):
            message.release()
        with pytest.raises(BufferError, match="views"):
            message.give_back()
        del message
        assert bytes(view) == b"message" and ring.statistics().borrowed == 1, "a view keeps the message"
        view.release()
        gc.collect()
        received = ring.recv(GENEROUS)
        assert (received.data, received.deliveries) == (b"message", 2), "dropped without release, it comes again"


def test_a_view_keeps_the_memory_of_a_closed_ring():
    ring = wigwag.Ring.anonymous()
    ring.send(b"message")
    message, room = ring.borrow(), ring.reserve(5)
    ring.close()
    assert bytes(message) == b"message"
    memoryview(room)[:] = b"after"
    room.commit()
    message.release()
    with pytest.raises(ValueError, match="closed"):
        ring.borrow()


def test_the_end_of_a_block_finishes():
    with wigwag.Ring.anonymous() as ring:
        with ring.reserve(2) as message:
            message.buf[:] = b"ok"
        with pytest.raises(ZeroDivisionError), ring.reserve(2) as message:
            1 / 0
        with ring.reserve(2) as message:
            message.abort()
        assert balanced(ring).queued == 1 and ring.statistics().aborted == 2
        with pytest.raises(ZeroDivisionError), ring.borrow() as message:
            1 / 0
        with ring.borrow() as message:
            assert message.deliveries == 2
        with pytest.raises(BufferError), ring.reserve(1) as message:
            view = memoryview(message)
        with pytest.raises(KeyError), ring.reserve(1) as other:
            kept = memoryview(other)
            raise KeyError  # which matters more than that there are views
        view.release()
        kept.release()
        message.abort()


def test_waits_and_refusals():
    with wigwag.Ring.anonymous(1024, 64) as ring:
        held = [ring.reserve(1) for _ in range(ring.statistics().slots)]
        with pytest.raises(BlockingIOError):
            ring.reserve(1, timeout=0)
        with pytest.raises(TimeoutError):
            ring.reserve(1, timeout=SHORT)
        with pytest.raises(OSError) as caught:
            ring.reserve(65)
        assert caught.value.errno == errno.EMSGSIZE and caught.value.true_size == 64
        with pytest.raises(OverflowError):
            ring.reserve(-1)
        assert ring.participants()[0].holding == len(held)
        for message in held:
            message.abort()
        with pytest.raises(TimeoutError):
            ring.borrow(SHORT)
        with pytest.raises(BlockingIOError):
            ring.borrow(timeout=0)


def test_messages_are_released_in_any_order():
    with wigwag.Ring.anonymous() as ring:
        for number in range(3):
            ring.send(bytes([number]))
        messages = [ring.borrow() for _ in range(3)]
        for number in (2, 0, 1):
            assert bytes(messages[number]) == bytes([number])
            messages[number].release()
        assert balanced(ring).released == 3


def test_what_is_held_stays_the_parents():
    with wigwag.Ring.anonymous() as ring:
        ring.send(b"message")
        message, room = ring.borrow(), ring.reserve(1)
        pid = os.fork()
        if pid == 0:
            for finish in (message.release, room.commit):
                try:
                    finish()
                except PermissionError:
                    continue
                os._exit(1)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert ring.statistics().borrowed == 1
        room.commit()
        message.release()
        assert balanced(ring).released == 1


def test_into_a_buffer_of_the_callers():
    with wigwag.Ring.anonymous() as ring:
        ring.send(b"message")
        room = numpy.zeros(4, dtype=numpy.uint16)
        with pytest.raises(OSError) as caught:
            ring.recv_into(bytearray(3))
        assert caught.value.errno == errno.EMSGSIZE and caught.value.true_size == 7
        assert ring.recv_into(room, timeout=GENEROUS) == (7, 1)
        assert room.tobytes() == b"message\0"
        with pytest.raises(BlockingIOError):
            ring.recv_into(bytearray(1), 0)
        with pytest.raises((TypeError, BufferError)):
            ring.recv_into(b"constant")


def test_a_value_is_built_in_place():
    with wigwag.Cell.anonymous(8192) as cell:
        with cell.reserve(800) as value:
            numpy.frombuffer(value, dtype=numpy.int64)[:] = 7
        data, sequence = cell.read()
        assert sequence == 1 and set(numpy.frombuffer(data, dtype=numpy.int64)) == {7}
        value = cell.reserve(3)
        view = memoryview(value)
        view[:] = b"abc"
        assert cell.statistics().writing == 1 and cell.participants()[0].writing == 1
        for finish in (value.publish, value.abort):
            with pytest.raises(BufferError, match="views"):
                finish()
        view.release()
        assert value.publish() == 2 and cell.read() == (b"abc", 2)
        with pytest.raises(ValueError, match="closed"):
            value.publish()
        cell.reserve(1).abort()
        with pytest.raises(ZeroDivisionError), cell.reserve(1):
            1 / 0
        with pytest.raises(OSError) as caught:
            cell.reserve(8193)
        assert caught.value.errno == errno.EMSGSIZE
        seen = cell.statistics()
        assert (seen.sequence, seen.writing, seen.largest, seen.participants) == (2, 0, 8192, 1)


def test_a_message_for_all_is_built_and_read_in_place():
    with wigwag.Topic.anonymous(1 << 16, 8192) as topic, topic.subscribe() as one, topic.subscribe() as two:
        with topic.reserve(8000) as message:
            array = numpy.frombuffer(message, dtype=numpy.float64)
            array[:] = numpy.arange(1000)
            written_at = array.__array_interface__["data"][0]
            del array
        for subscription in (one, two):
            with subscription.borrow(GENEROUS) as message:
                array = numpy.frombuffer(message, dtype=numpy.float64)
                assert array.sum() == 499500.0 and message.sequence == 1 and len(message) == 8000
                assert array.__array_interface__["data"][0] == written_at, "the very bytes that were written"
                with pytest.raises(ValueError, match="read-only"):
                    array[0] = 1
                with pytest.raises(BufferError, match="views"):
                    message.release()
                del array
        message = topic.reserve(4)
        view = memoryview(message)
        view[:] = b"text"
        for finish in (message.publish, message.abort):
            with pytest.raises(BufferError, match="views"):
                finish()
        view.release()
        assert message.publish() == 2
        with pytest.raises(ZeroDivisionError), topic.reserve(1):
            1 / 0
        first = one.borrow(GENEROUS)
        topic.publish(b"next")
        second = one.borrow(GENEROUS)
        second.release()
        one.close()
        assert bytes(first) == b"text" and first.sequence == 2
        first.release()
        with pytest.raises(ValueError, match="closed"):
            first.release()
        assert topic.statistics().reserved == 0


def test_the_memory_bill_is_known_before():
    for options in ({}, {"capacity": 1 << 16, "largest": 100, "participants": 3}):
        with wigwag.Ring.anonymous(**options) as ring:
            assert wigwag.Ring.size_for(**options) == ring.statistics().bytes
    for options in ({}, {"largest": 5000, "participants": 7}):
        with wigwag.Cell.anonymous(**options) as cell:
            assert wigwag.Cell.size_for(**options) == cell.statistics().bytes
    for options in ({}, {"capacity": 1 << 16, "largest": 100, "depth": 9, "participants": 3, "subscribers": 5}):
        with wigwag.Topic.anonymous(**options) as topic:
            assert wigwag.Topic.size_for(**options) == topic.statistics().bytes
    with pytest.raises(OSError) as caught:
        wigwag.Ring.size_for(10, 10)
    assert caught.value.errno == errno.EINVAL
